/* Guarded stacks for tasks, pooled per loop. What is mapped when, and what is given back: stack.c.
 *
 * A cache and its stacks belong to one thread, the loop's. There is no lock. */
#ifndef FERRY__STACK_H
#define FERRY__STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "context.h"

#define FERRY__STACK_DEFAULT ((size_t)64 * 1024)
#define FERRY__STACK_MIN ((size_t)16 * 1024)
#define FERRY__STACK_MAX ((size_t)1024 * 1024 * 1024)

/* Where a context is small enough, it stands beside its stack's record. */
#define FERRY__CONTEXT_ON_STACK (FERRY__CONTEXT_ASSEMBLY && !FERRY__ASAN && !FERRY__TSAN)

/* What finished stacks of a class keep, about, where as many come and go all the time. */
#define FERRY__STACK_WARM_BYTES ((size_t)64 * 1024 * 1024)

struct ferry__slab;

/* The record stands at the top of the stack that it describes: lo + size is its own address, a
 * multiple of 64. It is valid from ferry__stack_get to ferry__stack_put. */
struct ferry__stack {
#if FERRY__CONTEXT_ON_STACK
    ferry__context context;   /* its user's, while it is handed out: this page is there anyhow. A
                               * cache line of its own */
    char apart[64 - sizeof(ferry__context)];
#endif
    char *lo;                 /* lowest usable byte; the guard lies below */
    size_t size;              /* usable bytes: up to 1 KiB less than what was asked for */
    struct ferry__slab *slab; /* where it comes from */
    size_t index;             /* in the slab */
    struct ferry__stack *older, *newer; /* while it is warm */
} __attribute__((aligned(64)));

enum {
    FERRY__STACK_CLASSES = 5, /* 16, 32, 64, 128, 256 KiB */
    FERRY__STACK_WARM = 512,  /* finished stacks of a class that keep their memory in any case */
    FERRY__STACK_SPARE = 8,   /* the same for stacks beyond the largest class */
};

/* Which class a stack of FERRY__STACK_DEFAULT belongs to. */
enum { FERRY__STACK_USUAL = 2 };

struct ferry__stack_class {
    struct ferry__slab *open; /* slabs with a free stack, first the one to take from; linked */
    struct ferry__slab *full; /* the others */
    size_t stacks;            /* in all slabs */
    unsigned empty;           /* slabs of which no stack is in use */
    unsigned warm_count;
    unsigned warm_most;  /* learned; 0: no slab was made yet */
    unsigned warm_least; /* the smallest warm_count since the last look */
    unsigned cooled;     /* stacks that gave their memory back since then, and weren't wanted
                          * again */
    unsigned lesson;     /* puts until the next look */
    size_t kept;         /* bytes that a warm one has, about */
    struct ferry__stack *warm_latest, *warm_oldest; /* finished lately; linked */
};

struct ferry__stack_cache {
    struct ferry__stack_class classes[FERRY__STACK_CLASSES];
    unsigned spare_count;
    struct ferry__stack *spare[FERRY__STACK_SPARE]; /* the latest last */
};

/* How the guards of this process are made; found out at the first one. Tests set it. */
enum ferry__stack_guard {
    FERRY__STACK_GUARD_UNKNOWN,
    FERRY__STACK_GUARD_MADVISE,  /* MADV_GUARD_INSTALL: no mapping of its own */
    FERRY__STACK_GUARD_MPROTECT, /* PROT_NONE: two mappings a stack, 65,530 in all by default */
};
extern _Atomic int ferry__stack_guard;

void ferry__stack_cache_init(struct ferry__stack_cache *cache);

/* Unmaps everything. All stacks must have been put back. */
void ferry__stack_cache_fini(struct ferry__stack_cache *cache);

/* A stack of SIZE bytes, its record and up to 1 KiB of padding included; 0: FERRY__STACK_DEFAULT;
 * less than FERRY__STACK_MIN counts as that. Rounded up: to the next of 16, 32, 64, 128, 256 KiB,
 * beyond them to whole pages. Returns 0 with the stack in *out; -EINVAL: more than
 * FERRY__STACK_MAX; -ENOMEM: ferry__stack_error() says which limit was met. Its content is
 * unspecified. */
int ferry__stack_get(struct ferry__stack_cache *cache, size_t size, struct ferry__stack **out);

/* Takes a stack back. Nothing may run on it any more. */
void ferry__stack_put(struct ferry__stack_cache *cache, struct ferry__stack *stack);

/* What both do mostly: the latest warm stack of a class, NULL: there is none; a finished one
 * becomes that, false: there is more to do. */
static inline struct ferry__stack *ferry__stack_latest(struct ferry__stack_class *pool) {
    struct ferry__stack *latest = pool->warm_latest;
    if (latest) {
        pool->warm_latest = latest->older;
        if (!latest->older)
            pool->warm_oldest = NULL;
        if (--pool->warm_count < pool->warm_least)
            pool->warm_least = pool->warm_count;
    }
    return latest;
}

static inline void ferry__stack_push(struct ferry__stack_class *pool, struct ferry__stack *stack) {
    stack->older = pool->warm_latest;
    if (stack->older)
        stack->older->newer = stack;
    else
        pool->warm_oldest = stack;
    pool->warm_latest = stack;
    pool->warm_count++;
    pool->lesson--;
}

static inline bool ferry__stack_keep(struct ferry__stack_class *pool, struct ferry__stack *stack) {
    if (FERRY__ASAN || pool->warm_count >= pool->warm_most || pool->lesson == 1)
        return false;
    ferry__stack_push(pool, stack);
    return true;
}

/* Why the last ferry__stack_get of this thread failed, for people; "" if none did. */
const char *ferry__stack_error(void);

/* Bytes below stack->lo that fault when they are touched. Async-signal-safe after the first
 * ferry__stack_get. */
size_t ferry__stack_guard_size(void);

#endif

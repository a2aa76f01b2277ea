/* Guarded stacks, pooled.
 *
 * Stacks up to 256 KiB come from slabs: one mapping for 16 to 1,024 stacks of one size class, each
 * with a guard below it and its record at its top:
 *
 *     | guard | stack 0 ........ record | guard | stack 1 ........ record | ...
 *
 * The kernel provides a page when it is first touched, so a parked task costs the pages that it has
 * used, mostly one. A guard is made when its stack is first handed out, and stays.
 *
 * States of a stack in a slab: raw (index >= made) -> in use <-> warm -> cold -> in use. A warm one
 * is finished and keeps its memory; the latest is used again first. When there are too many, the
 * oldest few give their memory back, neighbours with one system call. A cold one is a number in the
 * free list of its slab: its record has no memory any more. A slab without stacks in use or warm is
 * unmapped, but for one of each class. A slab is in one of two lists of its class: open if it has a
 * raw or cold stack, else full.
 *
 * How many may be warm is learned, between two bounds. A stack that is wanted soon after it has
 * given its memory back should have kept it: there may be one more. Those that lay there all the
 * time while many others came and went aren't needed: half of them go. So where as many tasks come
 * and go all the time there are no system calls, and what a peak has left goes back. The upper
 * bound is one of memory, and stacks are seldom used up: what they keep is looked at now and then.
 *
 * Larger stacks have a mapping and a slab record each; a few finished ones are kept.
 *
 * Guards: MADV_GUARD_INSTALL (Linux 6.13) marks pages within a mapping, so a million stacks need
 * about a thousand mappings. Elsewhere mprotect, which splits the mapping: two for each stack, and
 * vm.max_map_count ends that at about 32,750 stacks. */
#include "config.h"

#include "stack.h"

#include "alloc.h"
#include "context.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif
#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/memcheck.h>
#endif
#if FERRY__ASAN
#include <sanitizer/asan_interface.h>
#endif

#if defined __linux__ && !defined MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
/* MAP_STACK is a hint on Linux (no huge pages); on FreeBSD it would make the mapping grow. */
#ifdef __linux__
#define MAP_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK)
#else
#define MAP_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#endif

_Static_assert(FERRY__STACK_MIN << FERRY__STACK_USUAL == FERRY__STACK_DEFAULT,
               "stacks of the usual size have a class of their own");

#define LARGEST_CLASS (FERRY__STACK_MIN << (FERRY__STACK_CLASSES - 1))
#define SLAB_BYTES ((size_t)64 * 1024 * 1024)
#define SLAB_STACKS_MIN 16u
#define SLAB_STACKS_MAX 1024u
#define WARM_BYTES ((size_t)16 * 1024 * 1024) /* of a class, if all of each stack was used */
#define COOL_BATCH 64u
#define LESSON 16384u /* at least so many finish from one look at what wasn't needed to the next */
#define LOOKS 8u      /* stacks of each end of the line that such a look takes for all */
#define UNUSED 4u     /* pages in a row below which none is expected to be used */
#define APART 64      /* bytes from one word of a page that is looked at to the next */
#define SPARE_BYTES ((size_t)64 * 1024) /* what a finished large stack keeps */
/* Neighbours end at different offsets in their page, or the first frames of all tasks would compete
 * for the same few lines of the processor's cache (a third slower from 1,000 tasks on). */
#define COLOURS 8
#define COLOUR_BYTES 128
#define GUARD_BYTES ((size_t)16 * 1024) /* a frame may skip a smaller one */

struct ferry__slab {
    struct ferry__slab *next, **link; /* in a list of the pool; link points to what points here */
    struct ferry__stack_class *pool;  /* NULL: one large stack */
    char *base;
    size_t size;  /* of a stack with its record, without its guard; whole pages */
    size_t bytes; /* of the mapping */
    uint32_t count;
    uint32_t made; /* stacks that have a guard */
    uint32_t used; /* in use or warm */
    uint32_t cold;
    uint32_t free[]; /* the cold ones; room for count */
};

_Atomic int ferry__stack_guard = FERRY__STACK_GUARD_UNKNOWN;
static _Atomic size_t page_size;
static _Thread_local const char *why = "";

static int fail(const char *text) {
    why = text;
    return -ENOMEM;
}

const char *ferry__stack_error(void) {
    return why;
}

static size_t page(void) {
    size_t size = atomic_load_explicit(&page_size, memory_order_relaxed);
    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&page_size, size, memory_order_relaxed);
    }
    return size;
}

static size_t round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

size_t ferry__stack_guard_size(void) {
    return round_up(GUARD_BYTES, page());
}

static char *stack_lo(const struct ferry__slab *slab, size_t index) {
    size_t guard = ferry__stack_guard_size();
    return slab->base + index * (guard + slab->size) + guard;
}

static struct ferry__stack *stack_record(const struct ferry__slab *slab, size_t index) {
    char *at = stack_lo(slab, index) + slab->size - sizeof(struct ferry__stack);
    return (struct ferry__stack *)(void *)(at - index % COLOURS * COLOUR_BYTES);
}

/* Guards */

#ifdef MADV_GUARD_INSTALL
/* Emulators say yes to every advice. A system call that would write to the guard tells: it must
 * fail with EFAULT. */
static bool guards_work(char *at) {
    return syscall(SYS_getcpu, at, NULL, NULL) != 0 && errno == EFAULT;
}

static int guard_by_madvise(char *at, size_t size) {
    int known = atomic_load_explicit(&ferry__stack_guard, memory_order_relaxed);
    if (known == FERRY__STACK_GUARD_MPROTECT)
        return -EINVAL;
    int rc = madvise(at, size, MADV_GUARD_INSTALL) == 0 ? 0 : -errno;
    if (known == FERRY__STACK_GUARD_UNKNOWN && (rc == 0 || rc == -EINVAL)) {
        if (rc == 0 && !guards_work(at))
            rc = -EINVAL;
        known = rc == 0 ? FERRY__STACK_GUARD_MADVISE : FERRY__STACK_GUARD_MPROTECT;
        atomic_store_explicit(&ferry__stack_guard, known, memory_order_relaxed);
    }
    return rc;
}
#endif

static int guard_make(char *at) {
    size_t size = ferry__stack_guard_size();
#ifdef MADV_GUARD_INSTALL
    int rc = guard_by_madvise(at, size);
    if (rc == 0)
        return 0;
    if (rc != -EINVAL)
        return fail("the kernel has no memory left for the guard of another task stack");
#endif
    /* An older kernel, an emulator, or the memory is locked (mlockall). */
    if (mprotect(at, size, PROT_NONE) != 0)
        return fail("no guard for another task stack: the process has as many memory mappings as "
                    "it may have (a stack takes two); raise the limit, sysctl vm.max_map_count, or "
                    "run Linux 6.13 or newer, where guards need no mappings");
    return 0;
}

/* Lists and slabs */

static void list_push(struct ferry__slab **list, struct ferry__slab *slab) {
    slab->next = *list;
    slab->link = list;
    if (slab->next != NULL)
        slab->next->link = &slab->next;
    *list = slab;
}

static void list_remove(struct ferry__slab *slab) {
    *slab->link = slab->next;
    if (slab->next != NULL)
        slab->next->link = slab->link;
}

/* Room for COUNT stacks of SIZE bytes, or for fewer where there is less address space. The record
 * comes first, so an allocation that fails stands for the mapping as well. */
static int slab_map(size_t size, uint32_t count, struct ferry__slab **out) {
    struct ferry__slab *slab = ferry__malloc(sizeof *slab + count * sizeof slab->free[0]);
    if (slab == NULL)
        return fail("out of memory for the record of task stacks");
    size_t stride = size + ferry__stack_guard_size();
    void *base = MAP_FAILED;
    for (; count > 0; count /= 2) {
        base = mmap(NULL, count * stride, PROT_READ | PROT_WRITE, MAP_FLAGS, -1, 0);
        if (base != MAP_FAILED)
            break;
    }
    if (base == MAP_FAILED) {
        ferry__free(slab);
        return fail(
            "no address space for another task stack: the process is at its limit (ulimit -v), "
            "at the limit of mappings (sysctl vm.max_map_count) or, where "
            "vm.overcommit_memory is 2, the system is out of memory");
    }
    *slab =
        (struct ferry__slab){.base = base, .size = size, .bytes = count * stride, .count = count};
    *out = slab;
    return 0;
}

static void slab_unmap(struct ferry__slab *slab) {
    munmap(slab->base, slab->bytes);
    ferry__free(slab);
}

static struct ferry__stack *record_write(struct ferry__slab *slab, size_t index) {
    struct ferry__stack *stack = stack_record(slab, index);
    char *lo = stack_lo(slab, index);
    *stack = (struct ferry__stack){
        .lo = lo, .size = (size_t)((char *)stack - lo), .slab = slab, .index = index};
    return stack;
}

/* Stacks of a size class */

static size_t class_size(unsigned which) {
    return round_up(FERRY__STACK_MIN << which, page());
}

/* How many may stay warm whatever comes. */
static unsigned always_warm(size_t size) {
    size_t most = WARM_BYTES / size;
    return most < FERRY__STACK_WARM ? (unsigned)most : FERRY__STACK_WARM;
}

/* A page that was never used is one of zeros: the kernel shows it without giving memory for it. */
static __attribute__((no_sanitize("address", "thread"))) bool was_used(const char *at) {
    const volatile uintptr_t *word = (const volatile uintptr_t *)(const void *)at;
    size_t words = page() / sizeof *word;
#ifdef HAVE_VALGRIND_VALGRIND_H
    VALGRIND_MAKE_MEM_DEFINED(at, page());
#endif
    for (size_t i = 0; i < words; i += APART / sizeof *word)
        if (word[i])
            return true;
    return false;
}

/* What a finished stack keeps, averaged over the last few that were looked at: all from its top
 * down to where nothing was used for a while. (mincore() would know better, but isn't among the
 * system calls that systemd lets a service make: @system-service.) */
static void class_look(struct ferry__stack_class *pool, const struct ferry__stack *stack) {
    size_t kept = page(); /* the record's */
    const char *at = stack->lo + stack->slab->size - page();
    for (unsigned unused = 0; at > stack->lo && unused < UNUSED;) {
        at -= page();
        bool used = was_used(at);
        unused = used ? 0 : unused + 1;
        kept += used ? page() : 0;
    }
    pool->kept += kept / 8 - pool->kept / 8;
}

static unsigned most_warm(const struct ferry__stack_class *pool) {
    return (unsigned)(FERRY__STACK_WARM_BYTES / pool->kept);
}

static int class_grow(struct ferry__stack_class *pool, size_t size) {
    size_t count = pool->stacks;
    if (count > SLAB_BYTES / size)
        count = SLAB_BYTES / size;
    if (count > SLAB_STACKS_MAX)
        count = SLAB_STACKS_MAX;
    if (count < SLAB_STACKS_MIN)
        count = SLAB_STACKS_MIN;
    struct ferry__slab *slab;
    int rc = slab_map(size, (uint32_t)count, &slab);
    if (rc != 0)
        return rc;
    slab->pool = pool;
    if (pool->warm_most == 0) {
        pool->warm_most = always_warm(size);
        pool->lesson = LESSON;
        pool->kept = size; /* until more is known */
    }
    pool->stacks += slab->count;
    pool->empty++;
    list_push(&pool->open, slab);
    return 0;
}

static int class_get(struct ferry__stack_class *pool, size_t size, struct ferry__stack **out) {
    *out = ferry__stack_latest(pool);
    if (*out != NULL)
        return 0;
    if (pool->open == NULL) {
        int rc = class_grow(pool, size);
        if (rc != 0)
            return rc;
    }
    struct ferry__slab *slab = pool->open;
    uint32_t index;
    if (slab->cold > 0) {
        index = slab->free[--slab->cold];
    } else {
        index = slab->made;
        int rc = guard_make(stack_lo(slab, index) - ferry__stack_guard_size());
        if (rc != 0)
            return rc;
        slab->made++;
    }
    if (pool->cooled > 0) {
        pool->cooled--;
        if (pool->warm_most < most_warm(pool))
            pool->warm_most++;
    }
    if (slab->used++ == 0)
        pool->empty--;
    if (slab->used == slab->count) {
        list_remove(slab);
        list_push(&pool->full, slab);
    }
    *out = record_write(slab, index);
    return 0;
}

/* A warm stack, whose memory was given back, becomes cold. */
static void slab_cool(struct ferry__slab *slab, size_t index) {
    struct ferry__stack_class *pool = slab->pool;
    if (slab->used == slab->count) {
        list_remove(slab);
        list_push(&pool->open, slab);
    }
    slab->free[slab->cold++] = (uint32_t)index;
    if (--slab->used > 0)
        return;
    /* Unmapping the middle of what the kernel has merged needs one mapping more, so it can fail. */
    if (pool->empty == 0 || munmap(slab->base, slab->bytes) != 0) {
        pool->empty++;
        return;
    }
    list_remove(slab);
    pool->stacks -= slab->count;
    ferry__free(slab);
}

static int by_address(const void *a, const void *b) {
    const struct ferry__stack *const *left = a, *const *right = b;
    return (*left > *right) - (*left < *right);
}

/* Gives back the memory of the oldest warm stacks. It takes the records with it, so what they
 * say is copied first. */
static void class_cool(struct ferry__stack_class *pool) {
    struct ferry__stack *old[COOL_BATCH], *newer = pool->warm_oldest;
    struct {
        struct ferry__slab *slab;
        size_t index;
    } cold[COOL_BATCH];
    class_look(pool, newer);
    for (unsigned i = 0; i < COOL_BATCH; i++) {
        old[i] = newer;
        newer = newer->newer;
    }
    pool->warm_count -= COOL_BATCH;
    pool->cooled += COOL_BATCH;
    pool->warm_oldest = pool->warm_count > 0 ? newer : NULL;
    if (pool->warm_count > 0)
        newer->older = NULL;
    else
        pool->warm_latest = NULL;
    if (pool->warm_count < pool->warm_least)
        pool->warm_least = pool->warm_count;
    qsort(old, COOL_BATCH, sizeof old[0], by_address);
    for (unsigned i = 0; i < COOL_BATCH; i++) {
        cold[i].slab = old[i]->slab;
        cold[i].index = old[i]->index;
    }
    char *lo = stack_lo(cold[0].slab, cold[0].index), *end = lo;
    for (unsigned i = 0; i < COOL_BATCH; i++) {
        char *next = stack_lo(cold[i].slab, cold[i].index);
        if (i > 0 && next != end + ferry__stack_guard_size()) {
            madvise(lo, (size_t)(end - lo), MADV_DONTNEED);
            lo = next;
        }
        end = next + cold[i].slab->size;
    }
    madvise(lo, (size_t)(end - lo), MADV_DONTNEED);
    for (unsigned i = 0; i < COOL_BATCH; i++)
        slab_cool(cold[i].slab, cold[i].index);
}

/* Half of what was warm all the time since the last look goes, down to what may always stay; and
 * what is too much, should they keep more than before. Enough must come and go until the next look
 * that all of them are needed meanwhile, if they are at all. */
static void __attribute__((noinline)) class_learn(struct ferry__stack_class *pool, size_t size) {
    unsigned always = always_warm(size);
    unsigned surplus = pool->warm_least / 2;
    const struct ferry__stack *old = pool->warm_oldest, *young = pool->warm_latest;
    for (unsigned i = 0; i < LOOKS && i < pool->warm_count; i++) {
        class_look(pool, old);
        class_look(pool, young);
        old = old->newer;
        young = young->older;
    }
    pool->warm_most = pool->warm_most - always > surplus ? pool->warm_most - surplus : always;
    if (pool->warm_most > most_warm(pool))
        pool->warm_most = most_warm(pool);
    while (pool->warm_count > pool->warm_most)
        class_cool(pool);
    pool->warm_least = pool->warm_count;
    pool->cooled = 0;
    pool->lesson = 4 * pool->warm_most > LESSON ? 4 * pool->warm_most : LESSON;
}

static void class_put(struct ferry__stack_class *pool, struct ferry__stack *stack) {
    size_t size = stack->slab->size;
    if (pool->warm_count == pool->warm_most)
        class_cool(pool);
    ferry__stack_push(pool, stack);
    if (pool->lesson == 0)
        class_learn(pool, size);
}

/* Large stacks */

static int large_get(struct ferry__stack_cache *cache, size_t size, struct ferry__stack **out) {
    for (unsigned i = cache->spare_count; i-- > 0;) {
        struct ferry__stack *stack = cache->spare[i];
        if (stack->slab->size == size) {
            cache->spare_count--;
            memmove(&cache->spare[i], &cache->spare[i + 1],
                    (cache->spare_count - i) * sizeof cache->spare[0]);
            *out = stack;
            return 0;
        }
    }
    struct ferry__slab *slab;
    int rc = slab_map(size, 1, &slab);
    if (rc != 0)
        return rc;
    rc = guard_make(slab->base);
    if (rc != 0) {
        slab_unmap(slab);
        return rc;
    }
    *out = record_write(slab, 0);
    return 0;
}

static void large_put(struct ferry__stack_cache *cache, struct ferry__stack *stack) {
    if (cache->spare_count == FERRY__STACK_SPARE) {
        slab_unmap(cache->spare[0]->slab);
        cache->spare_count--;
        memmove(&cache->spare[0], &cache->spare[1], cache->spare_count * sizeof cache->spare[0]);
    }
    madvise(stack->lo, stack->slab->size - round_up(SPARE_BYTES, page()), MADV_DONTNEED);
    cache->spare[cache->spare_count++] = stack;
}

/* For others */

void ferry__stack_cache_init(struct ferry__stack_cache *cache) {
    memset(cache, 0, sizeof *cache);
}

void ferry__stack_cache_fini(struct ferry__stack_cache *cache) {
    for (unsigned i = 0; i < FERRY__STACK_CLASSES; i++) {
        struct ferry__slab *lists[] = {cache->classes[i].open, cache->classes[i].full};
        for (unsigned k = 0; k < 2; k++) {
            for (struct ferry__slab *slab = lists[k], *next; slab != NULL; slab = next) {
                next = slab->next;
                slab_unmap(slab);
            }
        }
    }
    for (unsigned i = 0; i < cache->spare_count; i++)
        slab_unmap(cache->spare[i]->slab);
    ferry__stack_cache_init(cache);
}

int ferry__stack_get(struct ferry__stack_cache *cache, size_t size, struct ferry__stack **out) {
    if (size == 0)
        size = FERRY__STACK_DEFAULT;
    if (size > FERRY__STACK_MAX) {
        why = "a task stack may have 1 GiB at most";
        return -EINVAL;
    }
    if (size > LARGEST_CLASS)
        return large_get(cache, round_up(size, page()), out);
    unsigned which = 0;
    while (FERRY__STACK_MIN << which < size)
        which++;
    return class_get(&cache->classes[which], class_size(which), out);
}

void ferry__stack_put(struct ferry__stack_cache *cache, struct ferry__stack *stack) {
#if FERRY__ASAN
    /* Frames that never returned have left their marks. */
    __asan_unpoison_memory_region(stack->lo, stack->size);
#endif
    if (stack->slab->pool == NULL)
        large_put(cache, stack);
    else
        class_put(stack->slab->pool, stack);
}

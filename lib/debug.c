/* Handles that were lost: with FERRY_DEBUG set in the environment, every handle remembers where it
 * was made, and those that nobody has awaited or detached by the end of the process are reported,
 * once each.
 *
 * The list is guarded by its lock. A handle is on it from its making to its end; being on it at
 * the end of the process means that somebody still holds a reference that he can't use any more.
 * Other threads may run on then, and come to the end of a handle: so each is taken off the list,
 * with what there is to say about it, before that is said without the lock. What is read of it
 * under the lock is its state and its name; a name that it gets when it is on the list already is
 * given to it under the lock, too.
 * Without FERRY_DEBUG nothing is kept, and the cost is one comparison a handle. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_EXECINFO_H
#include <execinfo.h>
#endif

#include "core.h"

#define FRAMES 6
#define SKIPPED 2 /* this file's and future.c's own */

struct ferry__origin {
    struct ferry__origin *next, *prev; /* under the lock */
    ferry_future *future;
    int n;
    void *frames[FRAMES];
};

static unsigned lock;
static struct ferry__origin *made; /* the latest first */
_Atomic int ferry__debug_wanted = -1;

static bool wanted(void) {
    int now = atomic_load_explicit(&ferry__debug_wanted, memory_order_relaxed);
    if (now < 0) {
        const char *set = getenv("FERRY_DEBUG");
        now = set && *set && *set != '0';
        atomic_store_explicit(&ferry__debug_wanted, now, memory_order_relaxed);
    }
    return now;
}

void ferry__debug_forked(void) {
    lock = 0;
    made = NULL; /* the parent's */
}

void ferry__debug_made(ferry_future *f) {
    if (!wanted())
        return;
    struct ferry__origin *origin = ferry__calloc(1, sizeof *origin);
    if (!origin)
        return; /* one report less */
#ifdef HAVE_EXECINFO_H
    origin->n = backtrace(origin->frames, FRAMES);
#endif
    origin->future = f;
    f->origin = origin;
    ferry__lock(&lock);
    origin->next = made;
    if (made)
        made->prev = origin;
    made = origin;
    ferry__unlock(&lock);
}

void ferry__debug_ended(ferry_future *f) {
    struct ferry__origin *origin = f->origin;
    if (!origin)
        return;
    ferry__lock(&lock);
    if (origin->prev)
        origin->prev->next = origin->next;
    else if (made == origin)
        made = origin->next;
    if (origin->next)
        origin->next->prev = origin->prev;
    ferry__unlock(&lock);
    ferry__free(origin);
}

void ferry__debug_name(ferry_future *f, const char *name) {
    ferry__lock(&lock);
    f->name = name;
    ferry__unlock(&lock);
}

struct lost {
    char name[FERRY__NAME_MAX];
    bool ended;
    int n;
    void *frames[FRAMES];
};

/* The latest; false: none is left. */
static bool take(struct lost *lost) {
    ferry__lock(&lock);
    struct ferry__origin *origin = made;
    if (origin) {
        const ferry_future *f = origin->future;
        snprintf(lost->name, sizeof lost->name, "%s", f->name);
        lost->ended = ferry__future_done(f);
        lost->n = origin->n;
        memcpy(lost->frames, origin->frames, sizeof lost->frames);
        made = origin->next;
        if (made)
            made->prev = NULL;
        origin->next = NULL;
    }
    ferry__unlock(&lock);
    return origin != NULL;
}

__attribute__((destructor)) static void report(void) {
    struct lost lost;
    atomic_store_explicit(&ferry__debug_wanted, 0, memory_order_relaxed); /* no more of them */
    while (take(&lost)) {
        ferry__log(FERRY_LOG_WARNING,
                   "the handle of '%s' (%s) was neither awaited nor detached; it was made here:",
                   lost.name, lost.ended ? "ended" : "still running");
#ifdef HAVE_EXECINFO_H
        char **where = backtrace_symbols(lost.frames, lost.n);
        for (int i = SKIPPED; where && i < lost.n; i++)
            ferry__log(FERRY_LOG_WARNING, "    %s", where[i]);
        free(where);
#endif
    }
}

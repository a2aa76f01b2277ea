/* Standing in line at a primitive.
 *
 * Every primitive has an inner lock and one or more lines of waiters, first come first served.
 * Whoever gives something away pops waiters from the head and hands it to the first that it can
 * claim: those that can't be claimed were cancelled or timed out before, and are on their way out.
 *
 * The inner lock is never held across a call-out. Recording an error may be one (it frees the
 * detail of the error before): so errors are recorded after the lock was dropped. */
#include "config.h"

#include <errno.h>

#include "line.h"

int ferry__line_try_wait(unsigned *lock, void **first, void **last, struct ferry__waiter *w,
                         const char *what, int64_t ms, struct ferry__wakes *wakes) {
    if (!ferry__may_park(w->ctx)) {
        ferry__unlock(lock);
        ferry__wake_all(wakes);
        return ferry__can_park(w->ctx); /* says why */
    }
    ferry__line_append(first, last, w);
    ferry__unlock(lock);
    ferry__wake_all(wakes);
    int rc = ferry__park(w, what, ferry__deadline(ms), 0);
    if (rc != 0) {
        ferry__lock(lock);
        ferry__line_remove(first, last, w);
    }
    return rc;
}

int ferry__line_wait(unsigned *lock, void **first, void **last, struct ferry__waiter *w,
                     const char *what, int64_t ms) {
    struct ferry__wakes nobody = {0};
    int rc = ferry__line_try_wait(lock, first, last, w, what, ms, &nobody);
    if (rc == -ECANCELED || rc == -ETIMEDOUT)
        ferry__unlock(lock);
    return rc;
}

struct ferry__waiter *ferry__line_head(void **first, void **last) {
    struct ferry__waiter *w;
    while ((w = *first) != NULL &&
           atomic_load_explicit(&w->outcome, memory_order_relaxed) != FERRY__WAITING)
        ferry__line_remove(first, last, w);
    return w;
}

struct ferry__waiter *ferry__line_claim(void **first, void **last) {
    for (struct ferry__waiter *w; (w = *first) != NULL;) {
        ferry__line_remove(first, last, w);
        /* One that was granted and stands in line came from a condition: see cond.c. */
        if (atomic_load_explicit(&w->outcome, memory_order_relaxed) == FERRY__GRANTED ||
            ferry__claim(w))
            return w;
    }
    return NULL;
}

void ferry__line_claim_all(void **first, void **last, int64_t value, struct ferry__wakes *wakes) {
    for (struct ferry__waiter *w; (w = ferry__line_claim(first, last)) != NULL;) {
        w->value = value;
        ferry__wakes_add(wakes, w);
    }
}

void ferry__either_claim(struct ferry__either *either, struct ferry__wakes *wakes) {
    ferry__lock(&either->lock);
    struct ferry__waiter *w = either->waiter;
    either->waiter = NULL;
    if (w && ferry__claim(w))
        ferry__wakes_add(wakes, w);
    ferry__unlock(&either->lock);
}

int ferry__refuse(int code, struct ferry__detail *why) {
    return (int)ferry__error_say(ferry__ctx_self(), code, why);
}

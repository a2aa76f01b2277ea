/* What mutex, semaphore, event and queue have in common: see line.c. */
#ifndef FERRY__LINE_H
#define FERRY__LINE_H

#include "core.h"

/* Waits in turn. Called with *lock held, w initialised and in no line; returns with the lock
 * dropped and w in no line: 0 when it was granted, else -ECANCELED, -ETIMEDOUT or -EDEADLK. `ms` is
 * relative. */
int ferry__line_wait(unsigned *lock, void **first, void **last, struct ferry__waiter *w,
                     const char *what, int64_t ms);

/* The same, but when the wait came to nothing (-ECANCELED, -ETIMEDOUT) the lock is held on return:
 * for who has to see to those behind it before the object may be freed. `wakes`: who is to be woken
 * as soon as w stands in line and the lock is dropped. */
int ferry__line_try_wait(unsigned *lock, void **first, void **last, struct ferry__waiter *w,
                         const char *what, int64_t ms, struct ferry__wakes *wakes);

/* The first who still waits, NULL: nobody. Those before it, whose wait has ended, are on their way
 * out and are taken out of the line. Under the lock. */
struct ferry__waiter *ferry__line_head(void **first, void **last);

/* Takes the first out that can still be granted, and grants it; NULL: there is none, and the line
 * is empty. Under the lock. What it gets (item, value) is written before the lock is dropped, and
 * it is woken after. */
struct ferry__waiter *ferry__line_claim(void **first, void **last);

/* The same with all of them; each gets `value`. */
void ferry__line_claim_all(void **first, void **last, int64_t value, struct ferry__wakes *wakes);

/* One wait for several things, whichever comes first; the waiter is in no line. A claim is made
 * under one lock (park.c), so it is this record's, taken inside those of the things. It stays
 * until each thing has been told, under its own lock, to forget it. */
struct ferry__either {
    unsigned lock;                /* guards what follows */
    struct ferry__waiter *waiter; /* NULL: it was granted, or came too late */
};

/* Grants it, unless another one did. Under the lock of the thing. */
void ferry__either_claim(struct ferry__either *either, struct ferry__wakes *wakes);

/* Records why a call of whoever runs now is refused, and returns the code. Without inner locks. */
int ferry__refuse(int code, struct ferry__detail *why);

#endif

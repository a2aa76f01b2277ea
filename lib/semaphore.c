/* A counting semaphore for tasks and threads.
 *
 * A permit goes straight from release to the head of the line: nobody who comes later can take it,
 * and a waiter that is cancelled after it was granted still owns it. A waiter that wants many
 * permits holds up those behind it, so that it can't starve: when it leaves without, they get their
 * turn.
 *
 * A waiter's `value` is how many it wants. Unless the first in line has just been cancelled, what
 * it wants is more than what is free. */
#include "config.h"

#include <errno.h>

#include "line.h"

static struct ferry__detail say_count = FERRY__STATIC_DETAIL(
    "a semaphore gives and takes at least 1 permit, and never more at once than its bound");
static struct ferry__detail say_initial =
    FERRY__STATIC_DETAIL("a semaphore starts with 0 permits or more, and no more than its bound");
static struct ferry__detail say_overflow = FERRY__STATIC_DETAIL(
    "released more permits than were taken: the semaphore would exceed its bound");
static struct ferry__detail say_none =
    FERRY__STATIC_DETAIL("not enough permits of the semaphore are free now");

static int64_t bound_of(const ferry_sem *sem) {
    return sem->max ? sem->max : INT64_MAX;
}

/* The macros for static semaphores can't refuse anything, so each call looks. */
static bool sane(const ferry_sem *sem) {
    return sem->value >= 0 && sem->max >= 0 && sem->value <= bound_of(sem);
}

int ferry_sem_init(ferry_sem *sem, int64_t permits, int64_t bound) {
    ferry_sem fresh = FERRY_SEM_BOUNDED_INIT(permits, bound);
    if (!sane(&fresh))
        return ferry__refuse(-EINVAL, &say_initial);
    *sem = fresh;
    return 0;
}

/* Under the lock: hands out what there is, in turn. */
static void serve(ferry_sem *sem, struct ferry__wakes *wakes) {
    struct ferry__waiter *w;
    while ((w = ferry__line_head(&sem->first, &sem->last)) != NULL && w->value <= sem->value) {
        FERRY__POINT(sem_looked);
        ferry__line_remove(&sem->first, &sem->last, w);
        if (ferry__claim(w)) {
            sem->value -= w->value;
            ferry__wakes_add(wakes, w);
        }
    }
}

/* Under the lock: 0; -EAGAIN; -EINVAL for a number that it can never have. *why is set with an
 * error. */
static int take(ferry_sem *sem, int64_t n, struct ferry__detail **why) {
    if (!sane(sem) || n > bound_of(sem)) {
        *why = sane(sem) ? &say_count : &say_initial;
        return -EINVAL;
    }
    if (sem->value < n || ferry__line_head(&sem->first, &sem->last)) {
        *why = &say_none;
        return -EAGAIN;
    }
    sem->value -= n;
    return 0;
}

int ferry_sem_acquire_for(ferry_sem *sem, int64_t n, int64_t ms) {
    if (n < 1)
        return ferry__refuse(-EINVAL, &say_count);
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    struct ferry__detail *why;
    ferry__lock(&sem->lock);
    rc = take(sem, n, &why);
    if (rc != -EAGAIN) {
        ferry__unlock(&sem->lock);
        return rc == 0 ? 0 : ferry__refuse(rc, why);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    w.value = n;
    rc = ferry__line_wait(&sem->lock, &sem->first, &sem->last, &w, "semaphore", ms);
    if (rc == -ECANCELED || rc == -ETIMEDOUT) {
        struct ferry__wakes wakes = {0};
        ferry__lock(&sem->lock);
        serve(sem, &wakes);
        ferry__unlock(&sem->lock);
        ferry__wake_all(&wakes);
    }
    return rc;
}

int ferry_sem_acquire(ferry_sem *sem, int64_t n) {
    return ferry_sem_acquire_for(sem, n, FERRY_FOREVER);
}

int ferry_sem_try(ferry_sem *sem, int64_t n) {
    if (n < 1)
        return ferry__refuse(-EINVAL, &say_count);
    struct ferry__detail *why;
    ferry__lock(&sem->lock);
    int rc = take(sem, n, &why);
    ferry__unlock(&sem->lock);
    return rc == 0 ? 0 : ferry__refuse(rc, why);
}

int ferry_sem_release(ferry_sem *sem, int64_t n) {
    if (n < 1)
        return ferry__refuse(-EINVAL, &say_count);
    struct ferry__wakes wakes = {0};
    ferry__lock(&sem->lock);
    /* Permits that are handed on inside count too: who waits now was still without them. */
    int rc = !sane(sem) ? -EINVAL : n > bound_of(sem) - sem->value ? -EOVERFLOW : 0;
    if (rc == 0) {
        sem->value += n;
        serve(sem, &wakes);
    }
    ferry__unlock(&sem->lock);
    ferry__wake_all(&wakes);
    return rc == 0 ? 0 : ferry__refuse(rc, rc == -EINVAL ? &say_initial : &say_overflow);
}

int64_t ferry_sem_value(ferry_sem *sem) {
    ferry__lock(&sem->lock);
    int64_t value = sem->value;
    ferry__unlock(&sem->lock);
    return value;
}

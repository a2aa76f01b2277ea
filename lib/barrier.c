/* A barrier: whoever comes last lets all others of the round go.
 *
 * A round is complete, under the lock, when the caller and those in line that still wait are as
 * many as there are parties. Then all of them are numbered and taken out of the line; from that
 * moment on they pass, also one whose wait is ended by a cancel or a time-out before it could be
 * claimed: it finds its number when it comes to leave the line, and its cancel comes at its next
 * wait. One whose wait had ended before doesn't count. So nobody goes on unless all do.
 *
 * A waiter's `value`: UNDECIDED, its number, or FERRY_EBROKEN; under the lock. */
#include "config.h"

#include <errno.h>

#include "line.h"

#define UNDECIDED INT64_MIN

static struct ferry__detail say_parties =
    FERRY__STATIC_DETAIL("a barrier needs at least one party");
static struct ferry__detail say_broken =
    FERRY__STATIC_DETAIL("the barrier was broken: aborted, or reset while this one waited");

int ferry_barrier_init(ferry_barrier *barrier, int parties) {
    if (parties < 1)
        return ferry__refuse(-EINVAL, &say_parties);
    *barrier = (ferry_barrier)FERRY_BARRIER_INIT(parties);
    return 0;
}

/* Under the lock: those whose wait has ended are on their way out, and don't count. */
static void sweep(ferry_barrier *b) {
    for (struct ferry__waiter *w = b->first, *next; w; w = next) {
        next = w->next;
        if (atomic_load_explicit(&w->outcome, memory_order_relaxed) != FERRY__WAITING) {
            ferry__line_remove(&b->first, &b->last, w);
            b->waiting--;
        }
    }
}

/* Under the lock: all in line go, with numbers from 1 on, or with an error. */
static void let_go(ferry_barrier *b, int64_t error, struct ferry__wakes *wakes) {
    int64_t number = 1;
    for (struct ferry__waiter *w; (w = b->first);) {
        ferry__line_remove(&b->first, &b->last, w);
        w->value = error ? error : number++;
        if (ferry__claim(w))
            ferry__wakes_add(wakes, w);
    }
    b->waiting = 0;
}

/* Under the lock: whether the caller need not wait. *rc is what it gets then. */
static bool settled(ferry_barrier *b, struct ferry__wakes *wakes, int *rc) {
    *rc = b->parties < 1 ? -EINVAL : b->broken ? FERRY_EBROKEN : 0;
    if (*rc < 0)
        return true;
    if (b->waiting >= b->parties - 1)
        sweep(b);
    if (b->waiting < b->parties - 1)
        return false;
    FERRY__POINT(barrier_swept);
    let_go(b, 0, wakes);
    return true;
}

static int answer(int rc) {
    if (rc >= 0)
        return rc;
    return ferry__refuse(rc, rc == -EINVAL ? &say_parties : &say_broken);
}

int ferry_barrier_wait_for(ferry_barrier *barrier, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    struct ferry__wakes wakes = {0};
    ferry__lock(&barrier->lock);
    if (settled(barrier, &wakes, &rc)) {
        ferry__unlock(&barrier->lock);
        ferry__wake_all(&wakes);
        return answer(rc);
    }
    if (!ferry__may_park(ctx)) {
        ferry__unlock(&barrier->lock);
        return ferry__can_park(ctx);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    w.value = UNDECIDED;
    ferry__line_append(&barrier->first, &barrier->last, &w);
    barrier->waiting++;
    ferry__unlock(&barrier->lock);
    rc = ferry__park(&w, "barrier", ferry__deadline(ms), 0);
    if (rc < 0) {
        ferry__lock(&barrier->lock);
        if (w.listed)
            barrier->waiting--;
        ferry__line_remove(&barrier->first, &barrier->last, &w);
        ferry__unlock(&barrier->lock);
        if (w.value == UNDECIDED)
            return rc;
    }
    return answer((int)w.value);
}

int ferry_barrier_wait(ferry_barrier *barrier) {
    return ferry_barrier_wait_for(barrier, FERRY_FOREVER);
}

static void break_up(ferry_barrier *barrier, bool broken) {
    struct ferry__wakes wakes = {0};
    ferry__lock(&barrier->lock);
    sweep(barrier);
    let_go(barrier, FERRY_EBROKEN, &wakes);
    barrier->broken = broken;
    ferry__unlock(&barrier->lock);
    ferry__wake_all(&wakes);
}

void ferry_barrier_abort(ferry_barrier *barrier) {
    break_up(barrier, true);
}

void ferry_barrier_reset(ferry_barrier *barrier) {
    break_up(barrier, false);
}

/* A condition variable: give the mutex up, wait in line, have the mutex again.
 *
 * Signals are given by whoever holds the mutex, so that what is waited for can't change between the
 * look at it and the wait: the waiter is in line before it gives the mutex up.
 *
 * A signal claims the head of the line and moves it, unwoken, to the end of the mutex's line. So
 * it is woken only once, when the mutex is handed to it; it can't run before the signaller has
 * given the mutex up; and those that were signalled have the mutex in the order of the signals,
 * before anybody who comes for it later. A waiter that was signalled and is cancelled or timed
 * out afterwards has consumed the signal (its cancel comes at its next wait), so no signal is
 * lost. One whose wait ended without a signal takes the mutex again, shielded.
 *
 * The inner locks of the two are never held together: between the claim and the mutex's line the
 * waiter belongs to the signaller alone. */
#include "config.h"

#include <errno.h>

#include "line.h"

static struct ferry__detail say_no_mutex =
    FERRY__STATIC_DETAIL("the condition has no mutex: initialise it with FERRY_COND_INIT(&mutex)");
static struct ferry__detail say_unlocked = FERRY__STATIC_DETAIL(
    "the condition's mutex isn't held by the caller: lock it before waiting or signalling");

static int check(const ferry_cond *cond, struct ferry__ctx *ctx) {
    if (!cond->mutex)
        return (int)ferry__error_say(ctx, -EINVAL, &say_no_mutex);
    if (!ferry__mutex_held(cond->mutex, ctx))
        return (int)ferry__error_say(ctx, -EPERM, &say_unlocked);
    return 0;
}

int ferry_cond_wait_for(ferry_cond *cond, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int rc = check(cond, ctx);
    if (rc == 0)
        rc = ferry__enter(ctx);
    if (rc == 0)
        rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    int64_t deadline = ferry__deadline(ms);
    ferry__lock(&cond->lock);
    ferry__line_append(&cond->first, &cond->last, &w);
    ferry__unlock(&cond->lock);
    FERRY__POINT(cond_listed);
    ferry_unlock(cond->mutex);
    rc = ferry__park(&w, "condition", deadline, 0);
    if (rc == 0)
        return ferry__mutex_handed(cond->mutex, &w);
    ferry__lock(&cond->lock);
    ferry__line_remove(&cond->first, &cond->last, &w);
    ferry__unlock(&cond->lock);
    int locked = ferry__mutex_relock(cond->mutex, ctx);
    if (locked < 0)
        return locked;
    ferry__error_set(ctx, rc, NULL); /* hooks may have run meanwhile, and left theirs */
    return rc;
}

int ferry_cond_wait(ferry_cond *cond) {
    return ferry_cond_wait_for(cond, FERRY_FOREVER);
}

static int let_go(ferry_cond *cond, bool all) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int rc = check(cond, ctx);
    if (rc < 0)
        return rc;
    struct ferry__wakes granted = {0};
    ferry__lock(&cond->lock);
    do {
        struct ferry__waiter *w = ferry__line_claim(&cond->first, &cond->last);
        if (!w)
            break;
        ferry__wakes_add(&granted, w);
    } while (all);
    ferry__unlock(&cond->lock);
    FERRY__POINT(cond_claimed);
    if (granted.first)
        ferry__mutex_queue(cond->mutex, &granted);
    return 0;
}

int ferry_cond_signal(ferry_cond *cond) {
    return let_go(cond, false);
}

int ferry_cond_broadcast(ferry_cond *cond) {
    return let_go(cond, true);
}

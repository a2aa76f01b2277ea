/* Waiting for several handles: gather takes their results, wait_until only looks on.
 *
 * Both rest on a watch (watch.c). Gather owns its handles like an await: it gives back every
 * reference, and not before what the handle stands for has ended, whatever happens. When it is
 * to end early (an error, a cancel of the caller, a handle that could not be made) it cancels
 * the others and joins them shielded. Without memory for a watch it does the same handle by
 * handle. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>

#include "watch.h"

static struct ferry__detail say_null = FERRY__STATIC_DETAIL(
    "one of the handles is NULL: out of memory when its operation was to be started");
static struct ferry__detail say_forked = FERRY__STATIC_DETAIL(
    "a handle belongs to the parent process: fork() copies no threads; start the operation again "
    "in the child");
static struct ferry__detail say_self =
    FERRY__STATIC_DETAIL("a task or job can't gather its own handle");
static struct ferry__detail say_flags =
    FERRY__STATIC_DETAIL("ferry_gather() knows no other flag than FERRY_COLLECT");
static struct ferry__detail say_empty = FERRY__STATIC_DETAIL(
    "none of no handles will ever end: the set is empty, and there is no time-out");
static struct ferry__detail say_what =
    FERRY__STATIC_DETAIL("what to wait for is none of enum ferry_wait_for_what");
static struct ferry__detail say_many =
    FERRY__STATIC_DETAIL("more than INT_MAX handles can't be told apart by the result");

/* ---- Gather ---------------------------------------------------------------------------------- */

/* Why the handles must stay the caller's: 0, or the error. */
static int refused(struct ferry__ctx *ctx, ferry_future **futures, size_t n, unsigned flags) {
    if (flags & ~(unsigned)FERRY_COLLECT)
        return (int)ferry__error_say(ctx, -EINVAL, &say_flags);
    if (!ctx)
        return 0; /* no record for this thread: it is neither a task nor a loop's */
    bool waits = false;
    for (size_t i = 0; i < n; i++) {
        if (ferry_done(futures[i]))
            continue;
        if (futures[i] == ctx->self)
            return (int)ferry__error_say(ctx, -EDEADLK, &say_self);
        if (ferry__forked(futures[i]->generation))
            return (int)ferry__error_say(ctx, FERRY_EFORKED, &say_forked);
        waits = true;
    }
    return waits ? ferry__can_park(ctx) : 0;
}

static bool stands_before(ferry_future **futures, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (futures[k] == futures[i])
            return true;
    return false;
}

/* The same end without any memory of our own: duplicates are found by looking at all the others. */
static int64_t gather_without_memory(struct ferry__ctx *ctx, ferry_future **futures, size_t n,
                                     int64_t *results) {
    for (size_t i = 0; i < n; i++)
        ferry_cancel(futures[i]);
    for (size_t i = 0; i < n; i++) {
        if (ctx && futures[i])
            ferry__future_observe(futures[i], ctx, FERRY__NEVER, FERRY__SHIELDED);
        while (!ferry_done(futures[i])) /* without a record there is nothing to sleep on */
            sched_yield();
    }
    for (size_t i = 0; i < n; i++) {
        int64_t result = futures[i] ? ferry__future_take(futures[i], ctx) : -ENOMEM;
        if (results)
            results[i] = result;
    }
    for (size_t i = 0; i < n; i++)
        if (futures[i] && !stands_before(futures, i))
            ferry__future_unref(futures[i]);
    return ferry__error_say(ctx, -ENOMEM, NULL);
}

static bool any_cancelled(const struct ferry__watch *watch) {
    for (size_t i = 0; i < watch->n; i++)
        if (ferry_cancelled(watch->watched[i].future))
            return true;
    return false;
}

/* All have ended. */
static void take_all(struct ferry__watch *watch, struct ferry__ctx *ctx, bool stopped) {
    for (size_t i = 0; i < watch->n; i++) {
        struct ferry__watched *w = &watch->watched[i];
        w->value = ferry__future_take(w->future, ctx);
        if (stopped && ferry_cancelled(w->future))
            w->value = -ECANCELED;
    }
}

int64_t ferry_gather(ferry_future **futures, size_t n, int64_t *results, unsigned flags) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    int rc = refused(ctx, futures, n, flags);
    if (rc < 0 || n == 0)
        return rc;
    struct ferry__watch watch;
    if (!ctx || ferry__watch_begin(&watch, futures, n) < 0)
        return gather_without_memory(ctx, futures, n, results);
    bool collect = (flags & FERRY_COLLECT) != 0;
    struct ferry__watched *failed = NULL; /* the first, which cancels the others */
    int64_t stopped = 0;
    for (size_t i = 0; i < n; i++)
        if (!futures[i])
            stopped = -ENOMEM;
    if (stopped == 0 && !ferry__watch_holds(&watch, FERRY__UNTIL_ALL))
        stopped = ferry__enter(ctx);
    if (stopped == 0)
        stopped = ferry__watch_wait(&watch, ctx, collect ? FERRY__UNTIL_ALL : FERRY__UNTIL_FAILURE,
                                    FERRY__NEVER, FERRY__OWNED);
    if (stopped == 0 && !collect) {
        ferry__lock(&watch.lock);
        failed = watch.failure;
        ferry__unlock(&watch.lock);
    }
    /* Was one cancelled for the caller's sake? A job may see the end of the caller's scope
     * first. */
    bool cancelled = collect ? any_cancelled(&watch) : failed && ferry_cancelled(failed->future);
    if (stopped == 0 && cancelled && ferry__region_cancelled(ctx))
        stopped = -ECANCELED;
    if (stopped != 0 || failed) {
        ferry__watch_cancel(&watch);
        ferry__watch_wait(&watch, ctx, FERRY__UNTIL_ALL, FERRY__NEVER, FERRY__SHIELDED);
    }
    take_all(&watch, ctx, stopped == -ECANCELED);
    for (size_t i = 0; results && i < n; i++)
        results[i] = watch.place[i] ? watch.place[i]->value : -ENOMEM;
    if (stopped != 0) {
        ferry__error_set(ctx, stopped, stopped == -ENOMEM ? &say_null : NULL);
    } else if (failed) {
        stopped = ferry__future_take(failed->future, ctx); /* once more: for its detail */
    }
    for (size_t i = 0; i < watch.n; i++) {
        ferry_future *f = watch.watched[i].future;
        ferry__watch_let_go(&watch.watched[i]);
        ferry__future_unref(f); /* the caller's reference */
    }
    ferry__watch_end(&watch);
    return stopped;
}

/* ---- Looking on ------------------------------------------------------------------------------ */

static int wait_for_nothing(struct ferry__ctx *ctx, int what, int64_t ms) {
    if (what == FERRY_ALL_DONE || ms == FERRY_FOREVER)
        return (int)ferry__error_say(ctx, -EINVAL, &say_empty);
    int rc = ferry__enter(ctx);
    if (rc == 0)
        rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    struct ferry__waiter waiter; /* in no line: only time or a cancel ends it */
    ferry__waiter_init(&waiter, ctx);
    return ferry__park(&waiter, "no handles", ferry__deadline(ms), 0);
}

int ferry_wait_until(ferry_future **futures, size_t n, int what, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (what != FERRY_FIRST_DONE && what != FERRY_FIRST_ERROR && what != FERRY_ALL_DONE)
        return (int)ferry__error_say(ctx, -EINVAL, &say_what);
    if (n == 0)
        return wait_for_nothing(ctx, what, ms);
    if (n > INT_MAX)
        return (int)ferry__error_say(ctx, -EINVAL, &say_many);
    for (size_t i = 0; i < n; i++)
        if (!futures[i])
            return (int)ferry__error_say(ctx, -ENOMEM, &say_null);
    int rc = ferry__enter(ctx);
    if (rc < 0)
        return rc;
    struct ferry__watch watch;
    if (ferry__watch_begin(&watch, futures, n) < 0)
        return (int)ferry__error_say(ctx, -ENOMEM, NULL);
    enum ferry__watch_until until = what == FERRY_FIRST_DONE    ? FERRY__UNTIL_NEXT
                                    : what == FERRY_FIRST_ERROR ? FERRY__UNTIL_ERROR
                                                                : FERRY__UNTIL_ALL;
    rc = ferry__watch_wait(&watch, ctx, until, ferry__deadline(ms), 0);
    if (rc == 0) {
        ferry__lock(&watch.lock);
        const struct ferry__watched *w = what == FERRY_FIRST_DONE                   ? watch.first
                                         : what == FERRY_FIRST_ERROR && watch.error ? watch.error
                                                                                    : watch.latest;
        rc = (int)w->index;
        ferry__unlock(&watch.lock);
    }
    ferry__watch_end(&watch);
    return rc;
}

int ferry_wait_any(ferry_future **futures, size_t n, int64_t ms) {
    return ferry_wait_until(futures, n, FERRY_FIRST_DONE, ms);
}

int ferry_wait_all(ferry_future **futures, size_t n, int64_t ms) {
    int rc = ferry_wait_until(futures, n, FERRY_ALL_DONE, ms);
    return rc < 0 ? rc : 0;
}

/* Promises: handles that the program completes itself.
 *
 *     OPEN -> SET         ferry_promise_set()
 *          -> CANCELLED   ferry_cancel() on the handle
 *          -> DROPPED     ferry_promise_drop() without a value: the handle ends with FERRY_ECLOSED
 *
 * The first transition wins and completes the handle; nobody else does. The producer's side is
 * one of the record's references. When it is the only one, nobody can ask for the value any
 * more: waiters, callbacks and shields hold references of their own. */
#include "config.h"

#include <errno.h>

#include "core.h"

enum { OPEN, SET, CANCELLED, DROPPED };

struct ferry_promise {
    ferry_future future; /* first */
    _Atomic int state;   /* atomic: written once */
};

static struct ferry__detail say_null =
    FERRY__STATIC_DETAIL("there is no promise: out of memory when it was to be made");
static struct ferry__detail say_set =
    FERRY__STATIC_DETAIL("the promise was set before: the first value stands");
static struct ferry__detail say_cancelled =
    FERRY__STATIC_DETAIL("the handle was cancelled: nobody waits for the value");
static struct ferry__detail say_alone =
    FERRY__STATIC_DETAIL("nobody holds the handle any more: the value is still the caller's");
static struct ferry__detail say_dropped =
    FERRY__STATIC_DETAIL("the promise was dropped without a value");

static bool decide(ferry_promise *p, int state) {
    int open = OPEN;
    return atomic_compare_exchange_strong(&p->state, &open, state);
}

static bool alone(ferry_promise *p) {
    return atomic_load_explicit(&p->future.refs, memory_order_acquire) == 1;
}

ferry_promise *ferry_promise_new(ferry_future **future, const char *name) {
    ferry_promise *p = ferry__record_get(sizeof *p);
    *future = p ? &p->future : NULL;
    if (p) {
        ferry__future_init(&p->future, FERRY__IS_PROMISE, name, "promise");
        atomic_init(&p->state, OPEN);
        ferry_ref(&p->future); /* the producer's */
    }
    return p;
}

int ferry_promise_set(ferry_promise *p, int64_t result) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!p)
        return (int)ferry__error_say(ctx, -ENOMEM, &say_null);
    if (atomic_load(&p->state) == OPEN && alone(p))
        return (int)ferry__error_say(ctx, FERRY_ECLOSED, &say_alone);
    FERRY__POINT(promise_set);
    if (decide(p, SET)) {
        FERRY__POINT(promise_decided);
        bool known = result < 0 && ctx && ctx->error == result;
        ferry__future_complete(&p->future, result, known ? ferry__detail_ref(ctx->detail) : NULL);
        return 0;
    }
    if (atomic_load(&p->state) == CANCELLED)
        return (int)ferry__error_say(ctx, -ECANCELED, &say_cancelled);
    return (int)ferry__error_say(ctx, -EINVAL, &say_set);
}

bool ferry_promise_wanted(ferry_promise *p) {
    return p && atomic_load(&p->state) == OPEN && !alone(p);
}

void ferry_promise_drop(ferry_promise *p) {
    if (!p)
        return;
    if (decide(p, DROPPED)) {
        if (alone(p)) /* nobody asked, so nobody has to be told in the log */
            atomic_store_explicit(&p->future.read, true, memory_order_relaxed);
        ferry__future_complete(&p->future, FERRY_ECLOSED, &say_dropped);
    }
    ferry__future_unref(&p->future);
}

int ferry__promise_cancel(ferry_future *f) {
    if (!decide((ferry_promise *)f, CANCELLED))
        return FERRY_CANCEL_LATE;
    FERRY__POINT(promise_cancelled);
    ferry__future_complete(f, -ECANCELED, NULL);
    return FERRY_CANCEL_ASKED;
}

void ferry__promise_destroy(ferry_future *f) {
    ferry__record_put(f, sizeof(ferry_promise));
}

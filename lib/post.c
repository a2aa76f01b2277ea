/* Callbacks on a loop's thread, asked for from anywhere: once each (post), or as a repeated wake-up
 * (async).
 *
 * A post that was taken is run: it counts among the loop's callbacks, which keep the loop busy.
 *
 * An async's `pending` goes 0 -> 1 by whoever sends first, and back to 0 on the loop's thread
 * just before the callback starts: a send after that leads to another run. The record has a
 * reference of its owner and one while it is pending; `fn` is cleared by ferry_async_free(), on
 * the loop's thread. */
#include "config.h"

#include <errno.h>

#include "core.h"

static struct ferry__detail say_closed =
    FERRY__STATIC_DETAIL("the loop was shut down: it takes no more callbacks");

/* Hands in one more callback, if the loop still takes any. Once it is in, the loop may call it,
 * and the program may end and free the loop on account of that, before this returns: so it is
 * held meanwhile. */
static bool hand_in(ferry_loop *loop, struct ferry__item *item) {
    ferry__loop_ref(loop);
    atomic_fetch_add(&loop->callbacks, 1);
    bool taken = ferry__loop_accept(loop, item);
    if (!taken)
        atomic_fetch_sub(&loop->callbacks, 1);
    else if (ferry__loop_here(loop))
        ferry__loop_need_turn(loop);
    ferry__loop_unref(loop);
    return taken;
}

static void call(ferry_loop *loop, ferry_fn fn, void *arg) {
    int64_t rc = fn(arg);
    if (rc < 0) {
        struct ferry__detail *detail = ferry__error_take(ferry__ctx_self(), rc);
        ferry__log(FERRY_LOG_ERROR, "a callback on the loop failed: %s",
                   ferry__detail_words(detail, rc));
        ferry__detail_unref(detail);
    }
    atomic_fetch_sub(&loop->callbacks, 1);
    ferry__loop_ended(loop);
}

/* ---- Post ------------------------------------------------------------------------------------ */

struct post {
    struct ferry__item item;
    ferry_fn fn;
    void *arg;
};

static void post_run(ferry_loop *loop, struct ferry__item *item) {
    struct post post = *ferry__container(item, struct post, item);
    ferry__record_put(ferry__container(item, struct post, item), sizeof(struct post));
    call(loop, post.fn, post.arg);
}

static void post_drop(struct ferry__item *item) {
    ferry__record_put(ferry__container(item, struct post, item), sizeof(struct post));
}

int ferry_post(ferry_loop *loop, ferry_fn fn, void *arg) {
    if (!loop || !fn)
        return (int)ferry_fail(-EINVAL, "ferry_post() needs a loop and a function");
    if (ferry__loop_forked(loop))
        return (int)ferry__error_say(ferry__ctx_self(), FERRY_EFORKED, &ferry__say_parents_loop);
    struct post *post = ferry__record_get(sizeof *post);
    if (!post)
        return -ENOMEM;
    post->item.run = post_run;
    post->item.drop = post_drop;
    post->fn = fn;
    post->arg = arg;
    if (hand_in(loop, &post->item))
        return 0;
    ferry__record_put(post, sizeof *post);
    return (int)ferry_fail(FERRY_ECLOSED, "%s", say_closed.text);
}

/* ---- Async ----------------------------------------------------------------------------------- */

struct ferry_async {
    _Atomic int refs;
    _Atomic int pending;
    struct ferry__item item;
    ferry_loop *loop; /* a reference */
    ferry_fn fn;      /* loop thread */
    void *arg;
};

static void async_unref(ferry_async *async) {
    if (atomic_fetch_sub(&async->refs, 1) != 1)
        return;
    ferry__loop_unref(async->loop);
    ferry__free(async);
}

static void async_run(ferry_loop *loop, struct ferry__item *item) {
    ferry_async *async = ferry__container(item, ferry_async, item);
    atomic_store(&async->pending, 0);
    FERRY__POINT(async_began);
    if (async->fn) {
        call(loop, async->fn, async->arg);
    } else {
        atomic_fetch_sub(&loop->callbacks, 1);
        ferry__loop_ended(loop);
    }
    async_unref(async);
}

static void async_drop(struct ferry__item *item) {
    async_unref(ferry__container(item, ferry_async, item));
}

ferry_async *ferry_async_new(ferry_loop *loop, ferry_fn fn, void *arg) {
    if (!loop || !fn) {
        ferry_fail(-EINVAL, "ferry_async_new() needs a loop and a function");
        return NULL;
    }
    ferry_async *async = ferry__calloc(1, sizeof *async);
    if (!async)
        return NULL;
    atomic_init(&async->refs, 1);
    async->item.run = async_run;
    async->item.drop = async_drop;
    async->loop = loop;
    async->fn = fn;
    async->arg = arg;
    ferry__loop_ref(loop);
    return async;
}

int ferry_async_send(ferry_async *async) {
    if (!async)
        return (int)ferry_fail(-EINVAL,
                               "ferry_async_send() without an async: ferry_async_new() had failed");
    ferry_loop *loop = async->loop;
    if (ferry__loop_forked(loop))
        return (int)ferry__error_say(ferry__ctx_self(), FERRY_EFORKED, &ferry__say_parents_loop);
    if (atomic_exchange(&async->pending, 1))
        return 0;
    FERRY__POINT(async_sent);
    atomic_fetch_add(&async->refs, 1);
    if (hand_in(loop, &async->item))
        return 0;
    atomic_fetch_sub(&async->refs, 1);
    atomic_store(&async->pending, 0);
    return (int)ferry_fail(FERRY_ECLOSED, "%s", say_closed.text);
}

void ferry_async_free(ferry_async *async) {
    if (!async)
        return;
    async->fn = NULL;
    async_unref(async);
}

/* Callbacks on handles: ferry_then(). What is told, in which order, and the part of a job's home is
 * in future.c.
 *
 * A callback has a record, a link on the handle's list; it holds the handle and the loop, and
 * counts among the loop's callbacks, which keep the loop busy. When it is told it goes into the
 * loop's inbox, so that it is called from the loop. The first one of a job, added at its home,
 * needs no record, and is called where the job comes home, also from the inbox. */
#include "config.h"

#include <errno.h>

#include "executor.h"

static struct ferry__detail say_down =
    FERRY__STATIC_DETAIL("the loop was shut down: a callback would never be called");

struct callback {
    struct ferry__link link;
    struct ferry__item item;
    ferry_future *future; /* a reference */
    ferry_loop *loop;     /* a reference, and one of its callbacks */
    ferry_callback fn;
    void *arg;
};

static void callback_free(struct callback *c) {
    ferry__future_unref(c->future);
    atomic_fetch_sub(&c->loop->callbacks, 1);
    ferry__loop_unref(c->loop);
    ferry__record_put(c, sizeof *c);
}

static void callback_run(ferry_loop *loop, struct ferry__item *item) {
    struct callback *c = ferry__container(item, struct callback, item);
    c->fn(c->future, ferry_result(c->future), c->arg);
    ferry__loop_ref(loop);
    callback_free(c);
    ferry__loop_ended(loop);
    ferry__loop_unref(loop);
}

void ferry__then_dropped(const ferry_future *f) {
    ferry__log(FERRY_LOG_WARNING, "the callback for '%s' was dropped: its loop was closed",
               f->name);
}

static void callback_drop(struct ferry__item *item) {
    struct callback *c = ferry__container(item, struct callback, item);
    ferry__then_dropped(c->future);
    callback_free(c);
}

static void callback_due(struct ferry__link *link, ferry_future *f) {
    struct callback *c = ferry__container(link, struct callback, link);
    (void)f;
    /* The loop may call it, and end, before the send is over. */
    ferry_loop *loop = c->loop;
    ferry__loop_ref(loop);
    if (!ferry__loop_send(loop, &c->item))
        callback_drop(&c->item);
    ferry__loop_unref(loop);
}

static void callback_notify(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    (void)f;
    ferry__wakes_later(wakes, link);
}

/* On the loop's own thread, for a job that is the affair of that loop alone, and has no callback
 * yet: it needs no record. The job holds the loop until it was called, and a shutdown runs on
 * this thread. */
static inline bool then_at_home(ferry_future *f, ferry_loop *loop, ferry_callback fn, void *arg) {
    struct ferry__job *job = (struct ferry__job *)f;
    uint8_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
    if (state & FERRY__CALLS)
        return false;
    job->then = fn;
    job->then_arg = arg;
    if (!ferry__future_ask_home(f, FERRY__AT_HOME | FERRY__CALLS, FERRY__DONE | FERRY__ABROAD))
        return false;
    ferry__loop_callback_here(loop, 1);
    if (!loop->kept && !loop->turning)
        ferry__loop_expect(loop);
    return true;
}

static FERRY__NOINLINE int then_anywhere(ferry_future *f, ferry_loop *loop, ferry_callback fn,
                                         void *arg) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (!f)
        return (int)ferry__error_say(ctx, -ENOMEM, &ferry__say_no_handle);
    if (!loop)
        loop = ferry__loop_of(ctx);
    if (!loop || !fn)
        return (int)ferry_fail(-EINVAL,
                               loop ? "ferry_then() without a function"
                                    : "ferry_then() without a loop: there is no current one here");
    if (ferry__loop_forked(loop))
        return (int)ferry__error_say(ctx, FERRY_EFORKED, &ferry__say_parents_loop);
    if (atomic_load(&loop->state) >= FERRY__LOOP_LAST)
        return (int)ferry__error_say(ctx, FERRY_ECLOSED, &say_down);
    struct callback *c = ferry__record_get(sizeof *c);
    if (!c)
        return (int)ferry__error_say(ctx, -ENOMEM, NULL);
    /* A shutdown says first that it takes no more and looks at `entering` then: what isn't
     * refused is called. */
    atomic_fetch_add(&loop->entering, 1);
    FERRY__POINT(then_entering);
    if (atomic_load(&loop->state) >= FERRY__LOOP_LAST) {
        atomic_fetch_sub(&loop->entering, 1);
        ferry__record_put(c, sizeof *c);
        return (int)ferry__error_say(ctx, FERRY_ECLOSED, &say_down);
    }
    *c = (struct callback){.link = {.notify = callback_notify, .after = callback_due},
                           .item = {.run = callback_run, .drop = callback_drop},
                           .future = ferry_ref(f),
                           .loop = loop,
                           .fn = fn,
                           .arg = arg};
    ferry__loop_ref(loop);
    /* This call's: once the callback was called, the loop may end before it is over. */
    ferry__loop_ref(loop);
    atomic_fetch_add(&loop->callbacks, 1);
    ferry__loop_expect(loop);
    if (!ferry__future_link_in_turn(f, &c->link))
        callback_due(&c->link, f);
    atomic_fetch_sub(&loop->entering, 1);
    ferry__loop_unref(loop);
    return 0;
}

int ferry_then(ferry_future *f, ferry_loop *loop, ferry_callback fn, void *arg) {
    struct ferry__thread *thread = ferry__thread_self();
    ferry_loop *home = f ? f->home : NULL;
    if (home && fn && thread && ferry__loop_is_on(home, thread) &&
        (loop ? loop : ferry__loop_of(thread->current)) == home && !ferry__loop_forked(home) &&
        atomic_load(&home->state) < FERRY__LOOP_LAST && then_at_home(f, home, fn, arg))
        return 0;
    return then_anywhere(f, loop, fn, arg);
}

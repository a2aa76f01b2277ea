/* Handles: done is decided once; whoever wants to know is told.
 *
 *     pending -> done     by ferry__future_complete(), the first caller wins; nobody else writes
 *                         result or detail
 *
 * refs counts the users' references, one for the running side (task, job, promise) and one for each
 * callback and each kick that is on its way. The last one frees the record.
 *
 * Where a job ends that was submitted from a loop, and only tasks and callbacks of that loop wait
 * for it, the job's thread only decides (at_home), and the loop tells them: what they consist of
 * stays on one processor.
 *
 * `done` is stored after result and detail (release), so that who reads it as true (acquire) may
 * read them. The list of links is guarded by the lock; each link is notified once, under the
 * lock, in the order of registration; a task of the same loop that waits first stands in the
 * task's record (awaiter) instead, which only the loop's thread touches. A link that unlink
 * can't find any more has been notified completely, because both need the lock. As long as
 * whoever completed it is telling them, a callback that is added goes to the end of the list all
 * the same: it doesn't overtake. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "core.h"

static struct ferry__detail say_null =
    FERRY__STATIC_DETAIL("there is no handle: out of memory when the operation was to be started");
static struct ferry__detail say_self =
    FERRY__STATIC_DETAIL("a task or job can't await its own handle");
static struct ferry__detail say_forked =
    FERRY__STATIC_DETAIL("the handle belongs to the parent process: fork() copies no threads; "
                         "start the operation again in the child");
static struct ferry__detail say_down =
    FERRY__STATIC_DETAIL("the loop was shut down: a callback would never be called");
static struct ferry__detail say_other =
    FERRY__STATIC_DETAIL("somebody else cancelled what was awaited");

static FERRY__NOINLINE void set_name(ferry_future *f, const char *name) {
    char *copy = ferry__record_get(FERRY__NAME_MAX);
    if (!copy)
        return; /* it is for people only */
    size_t length = strnlen(name, FERRY__NAME_MAX - 1);
    memcpy(copy, name, length);
    copy[length] = '\0';
    f->name = copy;
    f->named = true;
}

void ferry__future_init(ferry_future *f, enum ferry__kind kind, const char *name,
                        const char *otherwise) {
    ferry__zero(f, sizeof *f);
    atomic_init(&f->refs, 1);
    f->kind = (uint8_t)kind;
    f->generation = atomic_load_explicit(&ferry__generation, memory_order_relaxed);
    f->name = otherwise;
    if (name)
        set_name(f, name);
    ferry__debug_made(f);
}

ferry_future *ferry__future_fixed(int64_t result, struct ferry__detail *detail) {
    ferry_future *f = ferry__record_get(sizeof *f);
    if (!f) {
        ferry__detail_unref(detail);
        return NULL;
    }
    ferry__future_init(f, FERRY__IS_FIXED, NULL, "handle");
    f->result = result;
    f->detail = detail;
    atomic_store(&f->done, 1);
    return f;
}

/* An error that nobody has looked at isn't lost; a cancellation is none. */
static void report_unread(const ferry_future *f) {
    if (!ferry__future_done(f) || f->result >= 0 || f->result == -ECANCELED ||
        f->kind == FERRY__IS_SHIELD || f->member || atomic_load(&f->read))
        return;
    ferry__log(FERRY_LOG_ERROR, "'%s' failed and nobody asked for its result: %s", f->name,
               ferry__detail_words(f->detail, f->result));
}

/* The last reference is gone. The next one to give back, if it held one; a loop in
 * ferry__future_unref() rather than recursion, since shields of shields may be a long chain. */
static ferry_future *destroy(ferry_future *f) {
    ferry_future *next = NULL;
    if (f->result < 0)
        report_unread(f);
    if (f->origin)
        ferry__debug_ended(f);
    if (f->detail)
        ferry__detail_unref(f->detail);
    f->detail = NULL;
    if (f->named)
        ferry__record_put((void *)(uintptr_t)f->name, FERRY__NAME_MAX);
    switch ((enum ferry__kind)f->kind) {
    case FERRY__IS_TASK:
        ferry__task_destroy((struct ferry__task *)f);
        break;
    case FERRY__IS_JOB:
        ferry__job_destroy(f);
        break;
    case FERRY__IS_PROMISE:
        ferry__promise_destroy(f);
        break;
    case FERRY__IS_SHIELD:
        next = ferry__shield_destroy(f);
        break;
    case FERRY__IS_FIXED:
        ferry__record_put(f, sizeof *f);
        break;
    }
    return next;
}

void ferry__future_unref(ferry_future *f) {
    do {
        /* Who holds the only reference needs nobody's consent. */
        if (atomic_load_explicit(&f->refs, memory_order_acquire) != 1 &&
            atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
            return;
        f = destroy(f);
    } while (f);
}

ferry_future *ferry_ref(ferry_future *f) {
    if (f)
        atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

/* ---- Telling --------------------------------------------------------------------------------- */

void ferry__wakes_later(struct ferry__wakes *wakes, struct ferry__link *link) {
    link->next = NULL;
    if (wakes->later_last)
        wakes->later_last->next = link;
    else
        wakes->later_first = link;
    wakes->later_last = link;
}

static struct ferry__link *take_first(ferry_future *f) {
    struct ferry__link *link = f->first;
    if (link) {
        f->first = link->next;
        if (f->first)
            f->first->prev = NULL;
        else
            f->last = NULL;
        link->listed = false;
    }
    return link;
}

/* A task that has an awaiter ends on the thread where both run. */
static void tell_awaiter(struct ferry__task *task, struct ferry__wakes *wakes) {
    struct ferry__waiter *w = task->awaiter;
    task->awaiter = NULL;
    if (w && ferry__claim(w))
        ferry__wakes_add(wakes, w);
}

/* Tells all who are on the list. Called with the lock held, returns without. False: it was the last
 * time. */
static bool tell(ferry_future *f) {
    struct ferry__wakes wakes = {0};
    if (f->kind == FERRY__IS_TASK)
        tell_awaiter((struct ferry__task *)f, &wakes);
    for (struct ferry__link *link; (link = take_first(f));)
        link->notify(link, f, &wakes);
    struct ferry__link *later = wakes.later_first;
    f->telling = later != NULL;
    f->at_home = false;
    ferry__unlock(&f->lock);
    FERRY__POINT(future_tell);
    ferry__wake_all(&wakes);
    for (struct ferry__link *link = later, *next; link; link = next) {
        next = link->next;
        link->after(link, f);
    }
    return later != NULL;
}

bool ferry__future_complete(ferry_future *f, int64_t result, struct ferry__detail *detail) {
    FERRY__POINT(future_complete);
    ferry__lock(&f->lock);
    if (f->done) {
        ferry__unlock(&f->lock);
        ferry__detail_unref(detail);
        return false;
    }
    f->result = result;
    f->detail = detail;
    f->telling = true;
    atomic_store_explicit(&f->done, 1, memory_order_release);
    FERRY__POINT(future_done);
    if (f->member) {
        ferry__unlock(&f->lock);
        ferry__group_member_done(f->member, f);
        ferry__lock(&f->lock);
    }
    while (tell(f))
        ferry__lock(&f->lock);
    return true;
}

bool ferry__future_decide(ferry_future *f, int64_t result, struct ferry__detail *detail,
                          bool *left) {
    ferry__lock(&f->lock);
    *left = f->first && !f->abroad && !f->done;
    if (!*left) {
        ferry__unlock(&f->lock);
        return ferry__future_complete(f, result, detail);
    }
    f->result = result;
    if (detail)
        f->detail = detail;
    f->telling = f->at_home = true;
    atomic_store_explicit(&f->done, 1, memory_order_release);
    ferry__unlock(&f->lock);
    return true;
}

void ferry__future_tell(ferry_future *f) {
    do {
        ferry__lock(&f->lock);
    } while (tell(f));
}

/* Registers; false, and nothing done, when there is nobody left who would tell it. */
static bool add_link(ferry_future *f, struct ferry__link *link, bool in_turn) {
    bool abroad = link->loop != f->home;
    ferry__lock(&f->lock);
    f->abroad |= abroad;
    if (f->done && !(in_turn && f->telling && !(f->at_home && abroad))) {
        ferry__unlock(&f->lock);
        return false;
    }
    link->next = NULL;
    link->prev = f->last;
    link->listed = true;
    if (f->last)
        f->last->next = link;
    else
        f->first = link;
    f->last = link;
    ferry__unlock(&f->lock);
    return true;
}

/* On a task's own loop: from here on those who wait stand in the list, in their order. */
static void list_here(ferry_future *f) {
    struct ferry__task *task = (struct ferry__task *)f;
    if (f->kind == FERRY__IS_TASK && ferry__loop_here(task->ctx.loop))
        task->listed_here = true;
}

bool ferry__future_link(ferry_future *f, struct ferry__link *link) {
    list_here(f);
    return add_link(f, link, false);
}

bool ferry__future_unlink(ferry_future *f, struct ferry__link *link) {
    ferry__lock(&f->lock);
    bool listed = link->listed;
    if (listed) {
        if (link->prev)
            link->prev->next = link->next;
        else
            f->first = link->next;
        if (link->next)
            link->next->prev = link->prev;
        else
            f->last = link->prev;
        link->listed = false;
    }
    ferry__unlock(&f->lock);
    return listed;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

struct observer {
    struct ferry__link link;
    struct ferry__waiter waiter;
};

static void observed(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    struct observer *o = ferry__container(link, struct observer, link);
    (void)f;
    if (ferry__claim(&o->waiter))
        ferry__wakes_add(wakes, &o->waiter);
}

/* Waits for a task of the same loop: that ends on this thread, so the two need no lock between
 * them. It was seen not to be done. */
static int observe_neighbour(struct ferry__task *task, struct ferry__ctx *ctx, int64_t deadline,
                             unsigned flags) {
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    task->awaiter = &w;
    int rc = ferry__park(&w, task->future.name, deadline, flags);
    if (rc < 0)
        task->awaiter = NULL;
    return rc;
}

int ferry__future_observe(ferry_future *f, struct ferry__ctx *ctx, int64_t deadline,
                          unsigned flags) {
    if (ferry__future_done(f))
        return 0;
    if (f->generation != atomic_load_explicit(&ferry__generation, memory_order_relaxed))
        return (int)ferry__error_say(ctx, FERRY_EFORKED, &say_forked);
    int rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    if (f->kind == FERRY__IS_TASK && ctx->kind == FERRY__TASK) {
        struct ferry__task *task = (struct ferry__task *)f;
        if (task->ctx.loop == ctx->loop && task->added && !task->awaiter && !task->listed_here)
            return observe_neighbour(task, ctx, deadline, flags);
    }
    bool job = ctx->kind == FERRY__JOB;
    while (job && (flags & FERRY__OWNED) && ferry__worker_help(ctx, f, deadline))
        if (ferry__future_done(f))
            return 0;
    struct observer o;
    o.link.notify = observed;
    o.link.after = NULL;
    o.link.loop = ctx->kind == FERRY__TASK ? ctx->loop : NULL;
    ferry__waiter_init(&o.waiter, ctx);
    FERRY__POINT(future_link);
    if (!ferry__future_link(f, &o.link))
        return 0;
    if (job)
        ferry__worker_blocked(ctx);
    rc = ferry__park(&o.waiter, f->name, deadline, flags);
    if (job)
        ferry__worker_unblocked(ctx);
    if (rc < 0)
        ferry__future_unlink(f, &o.link);
    return rc;
}

/* The result in the words of whoever asks. */
static int64_t translated(const ferry_future *f) {
    return f->result == -ECANCELED ? FERRY_EJOBCANCELED : f->result;
}

int64_t ferry__future_take(ferry_future *f, struct ferry__ctx *ctx) {
    if (f->kind == FERRY__IS_SHIELD)
        f = ferry__shield_source(f);
    int64_t result = translated(f);
    atomic_store_explicit(&f->read, true, memory_order_relaxed);
    if (f->kind == FERRY__IS_JOB && result != FERRY_EJOBCANCELED)
        ferry__job_deliver(f, result);
    if (result == FERRY_EJOBCANCELED)
        ferry__error_set(ctx, result, &say_other);
    else if (result < 0)
        ferry__error_set(ctx, result, ferry__detail_ref(f->detail));
    return result;
}

/* A thread for whose record there is no memory has nothing to sleep on, and no scope in which it
 * could be cancelled. */
static int64_t await_without_record(ferry_future *f, int64_t ms) {
    if (!f)
        return -ENOMEM;
    int64_t deadline = ferry__deadline(ms);
    bool cancelled = false;
    while (!ferry__future_done(f)) {
        if (f->generation != atomic_load_explicit(&ferry__generation, memory_order_relaxed))
            return FERRY_EFORKED;
        if (!cancelled && deadline <= ferry__now()) {
            ferry_cancel(f);
            cancelled = true;
        }
        sched_yield();
    }
    int64_t result = ferry__future_take(f, NULL);
    ferry__future_unref(f);
    return result == FERRY_EJOBCANCELED && cancelled ? -ETIMEDOUT : result;
}

/* What became of something that was cancelled. */
static const char *fate(const ferry_future *f) {
    if (f->detail && f->detail->text)
        return f->detail->text;
    switch ((enum ferry__kind)f->kind) {
    case FERRY__IS_SHIELD:
        return "what it shields was left alone";
    case FERRY__IS_PROMISE:
        return "nobody waits for what was promised any more";
    default:
        return "it was told to stop, and has ended";
    }
}

static int64_t await_until(ferry_future *f, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return await_without_record(f, ms);
    if (!f)
        return ferry__error_say(ctx, -ENOMEM, &say_null);
    if (f == ctx->self)
        return ferry__error_say(ctx, -EDEADLK, &say_self);
    int stopped = ferry__enter(
        ctx); /* others are let run in their turn, also when there is nothing to wait for */
    if (!ferry__future_done(f)) {
        if (stopped == 0)
            stopped = ferry__future_observe(f, ctx, ferry__deadline(ms), FERRY__OWNED);
        if (stopped == -ECANCELED || stopped == -ETIMEDOUT) {
            FERRY__POINT(await_cancel);
            ferry_cancel(f);
            int joined = ferry__future_observe(f, ctx, FERRY__NEVER, FERRY__SHIELDED);
            if (joined < 0)
                return joined;
        } else if (stopped < 0) {
            return stopped;
        }
    }
    int64_t result = ferry__future_take(f, ctx);
    if (result != FERRY_EJOBCANCELED) {
        ferry__future_unref(f);
        return result;
    }
    /* It ended as cancelled: was that for the awaiter's sake? A job may have seen its scope's end
     * first. */
    if (stopped == 0 && ferry__scope_look(ctx, ferry__now()))
        stopped = -ECANCELED;
    ferry__scope_tell(ctx);
    if (stopped == -ETIMEDOUT)
        ferry_fail(stopped, "'%s' didn't end in time; %s", f->name, fate(f));
    else if (stopped < 0)
        ferry__error_set(ctx, stopped, ferry__detail_ref(f->detail));
    ferry__future_unref(f);
    return stopped < 0 ? stopped : result;
}

int64_t ferry_await(ferry_future *f) {
    return await_until(f, FERRY_FOREVER);
}

int64_t ferry_await_for(ferry_future *f, int64_t ms) {
    return await_until(f, ms);
}

int ferry_wait_for(ferry_future *f, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (!f)
        return (int)ferry__error_say(ctx, -ENOMEM, &say_null);
    int rc = ferry__enter(ctx);
    if (rc < 0 || ferry__future_done(f))
        return rc;
    if (f == ctx->self)
        return (int)ferry__error_say(ctx, -EDEADLK, &say_self);
    return ferry__future_observe(f, ctx, ferry__deadline(ms), 0);
}

int ferry_wait(ferry_future *f) {
    return ferry_wait_for(f, FERRY_FOREVER);
}

/* ---- Questions, cancel, detach --------------------------------------------------------------- */

bool ferry_done(const ferry_future *f) {
    return !f || ferry__future_done(f);
}

int64_t ferry_result(ferry_future *f) {
    if (!f)
        return -ENOMEM;
    if (!ferry__future_done(f))
        return -EAGAIN;
    atomic_store_explicit(&f->read, true, memory_order_relaxed);
    return translated(f);
}

bool ferry_cancelled(const ferry_future *f) {
    return f && ferry__future_done(f) && f->result == -ECANCELED;
}

const char *ferry_future_name(const ferry_future *f) {
    return f ? f->name : "handle";
}

int ferry_cancel(ferry_future *f) {
    if (!f || ferry__future_done(f) ||
        f->generation != atomic_load_explicit(&ferry__generation, memory_order_relaxed))
        return FERRY_CANCEL_LATE;
    switch ((enum ferry__kind)f->kind) {
    case FERRY__IS_TASK:
        ferry__task_cancel((struct ferry__task *)f);
        return FERRY_CANCEL_ASKED;
    case FERRY__IS_JOB:
        return ferry__job_cancel(f);
    case FERRY__IS_PROMISE:
        return ferry__promise_cancel(f);
    case FERRY__IS_SHIELD:
        return ferry__shield_cancel(f);
    case FERRY__IS_FIXED:
        break;
    }
    return FERRY_CANCEL_LATE;
}

void ferry_detach(ferry_future *f) {
    if (f)
        ferry__future_unref(f);
}

/* ---- Callbacks ------------------------------------------------------------------------------- */

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

static void callback_drop(struct ferry__item *item) {
    struct callback *c = ferry__container(item, struct callback, item);
    ferry__log(FERRY_LOG_WARNING, "the callback for '%s' was dropped: its loop was closed",
               c->future->name);
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

int ferry_then(ferry_future *f, ferry_loop *loop, ferry_callback fn, void *arg) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (!f)
        return (int)ferry__error_say(ctx, -ENOMEM, &say_null);
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
    *c = (struct callback){.link = {.notify = callback_notify, .after = callback_due, .loop = loop},
                           .item = {.run = callback_run, .drop = callback_drop},
                           .future = ferry_ref(f),
                           .loop = loop,
                           .fn = fn,
                           .arg = arg};
    ferry__loop_ref(loop);
    ferry__loop_ref(loop); /* this call's: once the callback was called, the loop may end before it is over */
    atomic_fetch_add(&loop->callbacks, 1);
    ferry__loop_expect(loop);
    list_here(f);
    if (!add_link(f, &c->link, true))
        callback_due(&c->link, f);
    atomic_fetch_sub(&loop->entering, 1);
    ferry__loop_unref(loop);
    return 0;
}

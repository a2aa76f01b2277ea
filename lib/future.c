/* Handles: done is decided once; whoever wants to know is told.
 *
 *     pending -> done     by ferry__future_complete() or _decide(), the first caller wins; nobody
 *                         else writes result or detail
 *
 * refs counts the users' references, one for the running side (task, job, promise) and one for each
 * callback (but for a job's first one at home) and each kick that is on its way. The last one
 * frees the record.
 *
 * DONE is set after result and detail (release), so that who sees it (acquire) may read them. The
 * list of links is guarded by the lock; each link is notified once, under the lock, in the order
 * of registration; a task of the same loop that waits first stands in the task's record (awaiter)
 * instead, which only the loop's thread touches; when nobody else can have to do with the handle,
 * the task's end takes no lock (task.c). A link that unlink can't find any more has been notified
 * completely, because both need the lock. As long as whoever completed it is telling them, a
 * callback that is added goes to the end of the list all the same: it doesn't overtake.
 *
 * At home. Who waits for a job is mostly a task of the loop that it was submitted from, or a
 * callback there. These don't stand in the list: the tasks are in `waiters`, and the first callback
 * is in the job's record, which only home's thread touches. It says that there is something, by one
 * compare-and-exchange of `state` (AT_HOME, for a callback CALLS, too), and is refused once the job
 * is done. The job's thread writes the result and makes the job done by another one. When that
 * found AT_HOME, it sends the job home, where they are told (ferry__future_tell_home()). So
 * nothing but the handle's first line goes to and fro between the processors, and nobody takes the
 * lock.
 *
 *   - Nobody is overlooked: the two exchange the same word. One that is refused, or comes later,
 *     sees DONE, and doesn't wait; one that wasn't refused is told by an item that comes to the
 *     thread on which it came.
 *   - Whoever else comes, from another thread, for several handles at once, or behind that first
 *     callback, goes on the list, and says so before (ABROAD, set under the lock, and only as long
 *     as it isn't done; from then on home's goes on the list, too). The job's thread then completes
 *     it as any handle, under the lock: it sends the job home first, so that the loop gets to those
 *     at home before what the list brings, and tells the list then.
 *   - A callback that is added when it is done, but home hasn't called the first one yet, finds
 *     CALLS set and ABROAD not: it goes on the list, which is home's to tell after that, under the
 *     lock, in which CALLS is cleared. With ABROAD, the job is in the loop's inbox before the
 *     list has been told, so that what comes after that is behind it anyhow.
 *   - Only one may complete a plain job, the one who took it: so its result may be written without
 *     the lock. One with options may be given up by somebody else at the same time: then the lock
 *     is held.
 *   - The item holds the running side's reference, or one of its own when the list is told
 *     elsewhere; the callback in the record needs none. The last awaiter who is told is given it,
 *     and gives it back with his own. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "executor.h"

struct ferry__detail ferry__say_no_handle =
    FERRY__STATIC_DETAIL("there is no handle: out of memory when the operation was to be started");
static struct ferry__detail say_self =
    FERRY__STATIC_DETAIL("a task or job can't await its own handle");
static struct ferry__detail say_forked =
    FERRY__STATIC_DETAIL("the handle belongs to the parent process: fork() copies no threads; "
                         "start the operation again in the child");
static struct ferry__detail say_other =
    FERRY__STATIC_DETAIL("somebody else cancelled what was awaited");

FERRY__NOINLINE void ferry__future_name(ferry_future *f, const char *name) {
    char *copy = ferry__record_get(FERRY__NAME_MAX);
    if (!copy)
        return; /* it is for people only */
    size_t length = strnlen(name, FERRY__NAME_MAX - 1);
    memcpy(copy, name, length);
    copy[length] = '\0';
    f->named = true;
    if (f->origin)
        ferry__debug_name(f, copy);
    else
        f->name = copy;
}

void ferry__future_init(ferry_future *f, enum ferry__kind kind, const char *name,
                        const char *otherwise) {
    ferry__zero_words(f, sizeof *f);
    ferry__future_begin(f, kind, name, otherwise);
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
    atomic_store(&f->state, FERRY__DONE);
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
static FERRY__NOINLINE ferry_future *destroy_any(ferry_future *f) {
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

static inline ferry_future *destroy(ferry_future *f) {
    if (f->kind != FERRY__IS_JOB || f->result < 0 || f->detail || f->origin || f->named)
        return destroy_any(f);
    ferry__job_destroy(f);
    return NULL;
}

static inline void unref(ferry_future *f, uint32_t refs) {
    do {
        /* Who holds the only ones needs nobody's consent. */
        if (atomic_load_explicit(&f->refs, memory_order_acquire) != refs &&
            atomic_fetch_sub_explicit(&f->refs, refs, memory_order_acq_rel) != refs)
            return;
        refs = 1;
        f = destroy(f);
    } while (f);
}

void ferry__future_unref(ferry_future *f) {
    unref(f, 1);
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
    if (ferry__future_done(f)) {
        ferry__unlock(&f->lock);
        ferry__detail_unref(detail);
        return false;
    }
    f->result = result;
    f->detail = detail;
    f->telling = true;
    uint8_t before = 0;
    if (f->home)
        before = atomic_fetch_or_explicit(&f->state, FERRY__DONE | FERRY__ABROAD,
                                          memory_order_acq_rel);
    else
        atomic_store_explicit(&f->state, FERRY__DONE, memory_order_release);
    FERRY__POINT(future_done);
    if (f->member || (before & FERRY__AT_HOME)) {
        ferry__unlock(&f->lock);
        if (before & FERRY__AT_HOME)
            ferry__job_send_home(f);
        if (f->member)
            ferry__group_member_done(f->member, f);
        ferry__lock(&f->lock);
    }
    while (tell(f))
        ferry__lock(&f->lock);
    return true;
}

bool ferry__future_decide_slow(ferry_future *f, int64_t result, struct ferry__detail *detail,
                               bool *left) {
    if (!f->plain) {
        ferry__lock(&f->lock);
        bool decided = ferry__future_decide_here(f, result, detail, left);
        ferry__unlock(&f->lock);
        if (decided)
            return true;
    }
    *left = false;
    return ferry__future_complete(f, result, detail);
}

/* Under the lock: it isn't the affair of home alone. False: too late for that, it is done. */
static bool go_abroad(ferry_future *f) {
    uint8_t state = atomic_load_explicit(&f->state, memory_order_acquire);
    while (!(state & (FERRY__DONE | FERRY__ABROAD)))
        if (atomic_compare_exchange_weak_explicit(&f->state, &state, state | FERRY__ABROAD,
                                                  memory_order_acq_rel, memory_order_acquire))
            return true;
    return !(state & FERRY__DONE);
}

/* Under the lock, done: whether those on the list will be told. */
static bool is_telling(const ferry_future *f) {
    uint8_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
    return f->telling || (state & (FERRY__CALLS | FERRY__ABROAD)) == FERRY__CALLS;
}

/* Registers; false, and nothing done, when there is nobody left who would tell it. */
static bool add_link(ferry_future *f, struct ferry__link *link, bool in_turn) {
    ferry__lock(&f->lock);
    bool in_time = f->home ? go_abroad(f) : !ferry__future_done(f);
    if (!in_time && !(in_turn && is_telling(f))) {
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

bool ferry__future_link_in_turn(ferry_future *f, struct ferry__link *link) {
    list_here(f);
    return add_link(f, link, true);
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

/* ---- At home: on the thread of a job's home only --------------------------------------------- */

static inline void append_waiter(ferry_future *f, struct ferry__waiter *w) {
    struct ferry__waiter *first = f->waiters;
    w->next = NULL;
    w->prev = w;
    w->listed = true;
    if (!first) {
        f->waiters = w;
        return;
    }
    w->prev = first->prev;
    w->prev->next = w;
    first->prev = w;
}

static inline void pop_waiter(ferry_future *f, struct ferry__waiter *first) {
    f->waiters = first->next;
    if (f->waiters)
        f->waiters->prev = first->prev;
    first->listed = false;
}

static FERRY__NOINLINE void remove_waiter(ferry_future *f, struct ferry__waiter *w) {
    if (!w->listed)
        return;
    if (f->waiters == w) {
        pop_waiter(f, w);
    } else {
        w->prev->next = w->next;
        (w->next ? w->next : f->waiters)->prev = w->prev;
        w->listed = false;
    }
    /* The loop isn't woken in vain. When it is done already, it is too late for that. */
    uint8_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
    if (!f->waiters && !(state & (FERRY__CALLS | FERRY__DONE)))
        atomic_fetch_and_explicit(&f->state, (uint8_t)~FERRY__AT_HOME, memory_order_relaxed);
}

/* The job's own callback was called, or dropped: those who came meanwhile are told. */
static void tell_rest(ferry_future *f) {
    ferry__lock(&f->lock);
    if (!(atomic_load_explicit(&f->state, memory_order_relaxed) & FERRY__ABROAD)) {
        atomic_fetch_and_explicit(&f->state, (uint8_t)~FERRY__CALLS, memory_order_relaxed);
        f->telling = true;
        while (tell(f))
            ferry__lock(&f->lock);
        return;
    }
    ferry__unlock(&f->lock); /* by whoever completed it */
}

static void call_at_home(ferry_future *f, ferry_loop *home) {
    struct ferry__job *job = (struct ferry__job *)f;
    job->then(f, ferry_result(f), job->then_arg);
    ferry__loop_callback_here(home, -1);
    FERRY__POINT(future_called);
    /* Nobody is on the list of a handle that nobody else holds. */
    if (atomic_load_explicit(&f->refs, memory_order_acquire) != 1)
        tell_rest(f);
}

void ferry__future_tell_home(ferry_future *f, ferry_loop *home) {
    bool calls = atomic_load_explicit(&f->state, memory_order_acquire) & FERRY__CALLS;
    for (struct ferry__waiter *w; (w = f->waiters);) {
        pop_waiter(f, w);
        /* Who cancels does it on this thread, too. */
        if (atomic_load_explicit(&w->outcome, memory_order_relaxed) != FERRY__WAITING)
            continue;
        atomic_store_explicit(&w->outcome, FERRY__GRANTED, memory_order_relaxed);
        ferry__loop_push_parked(home, ferry__container(w->ctx, struct ferry__task, ctx));
        if (!f->waiters && !calls && w->value > 0) {
            w->value++;
            return;
        }
    }
    if (calls)
        call_at_home(f, home);
    unref(f, 1);
}

void ferry__future_drop_home(ferry_future *f) {
    if (atomic_load_explicit(&f->state, memory_order_acquire) & FERRY__CALLS) {
        ferry__then_dropped(f);
        tell_rest(f);
    }
    unref(f, 1);
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

/* A task of the same loop that hasn't ended, and that nobody waits for: it ends on this thread, so
 * it and who waits for it need no lock between them. */
static inline bool is_neighbour(const ferry_future *f, const struct ferry__ctx *ctx) {
    if (f->kind != FERRY__IS_TASK || ctx->kind != FERRY__TASK)
        return false;
    const struct ferry__task *task = (const struct ferry__task *)f;
    return task->ctx.loop == ctx->loop && task->added && !task->awaiter && !task->listed_here &&
           !ferry__loop_forked(ctx->loop);
}

static inline int observe_neighbour(struct ferry__task *task, struct ferry__ctx *ctx,
                                    int64_t deadline, unsigned flags) {
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    task->awaiter = &w;
    task->owned = (flags & FERRY__OWNED) != 0;
    int rc = ferry__park_task(&w, ctx, task->future.name, deadline, flags);
    if (rc < 0)
        task->awaiter = NULL;
    return rc;
}

/* A task of the job's home. The caller holds *refs references, and gives back as many: it is given
 * that of the item that tells it, too. */
static inline __attribute__((always_inline)) int
observe_at_home(ferry_future *f, struct ferry__ctx *ctx, int64_t deadline, unsigned flags,
                uint32_t *refs) {
    struct ferry__waiter w;
    atomic_init(&w.outcome, FERRY__WAITING);
    w.ctx = ctx;
    w.thread = NULL;
    w.value = *refs;
    append_waiter(f, &w);
    if (!ferry__future_ask_home(f, FERRY__AT_HOME, FERRY__DONE)) {
        remove_waiter(f, &w);
        return 0;
    }
    FERRY__POINT(future_at_home);
    int rc = ferry__park_task(&w, ctx, f->name, deadline, flags);
    if (rc < 0)
        remove_waiter(f, &w);
    *refs = (uint32_t)w.value;
    return rc;
}

static inline bool is_at_home(const ferry_future *f, uint8_t state, const struct ferry__ctx *ctx) {
    return f->home == ctx->loop && ctx->kind == FERRY__TASK && !(state & FERRY__ABROAD) &&
           !ferry__loop_forked(ctx->loop);
}

static FERRY__NOINLINE int observe_anywhere(ferry_future *f, struct ferry__ctx *ctx,
                                            int64_t deadline, unsigned flags) {
    if (ferry__forked(f->generation))
        return (int)ferry__error_say(ctx, FERRY_EFORKED, &say_forked);
    int rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    bool job = ctx->kind == FERRY__JOB;
    while (job && (flags & FERRY__OWNED) && ferry__worker_help(ctx, f, deadline))
        if (ferry__future_done(f))
            return 0;
    struct observer o;
    o.link.notify = observed;
    o.link.after = NULL;
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

/* For who gives back *refs references then: it may be given more. */
static inline __attribute__((always_inline)) int
observe(ferry_future *f, struct ferry__ctx *ctx, int64_t deadline, unsigned flags, uint32_t *refs) {
    uint8_t state = atomic_load_explicit(&f->state, memory_order_acquire);
    if (state & FERRY__DONE)
        return 0;
    if (is_at_home(f, state, ctx))
        return observe_at_home(f, ctx, deadline, flags, refs);
    if (is_neighbour(f, ctx))
        return observe_neighbour((struct ferry__task *)f, ctx, deadline, flags);
    return observe_anywhere(f, ctx, deadline, flags);
}

int ferry__future_observe(ferry_future *f, struct ferry__ctx *ctx, int64_t deadline,
                          unsigned flags) {
    uint32_t none = 0;
    return observe(f, ctx, deadline, flags, &none);
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
        if (ferry__forked(f->generation))
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

static FERRY__NOINLINE int64_t cannot_await(ferry_future *f, int64_t ms, struct ferry__ctx *ctx) {
    if (!ctx)
        return await_without_record(f, ms);
    return f ? ferry__error_say(ctx, -EDEADLK, &say_self)
             : ferry__error_say(ctx, -ENOMEM, &ferry__say_no_handle);
}

/* The wait for it has failed. What is owned is cancelled then, and joined. */
static FERRY__NOINLINE int join(ferry_future *f, struct ferry__ctx *ctx, int stopped,
                                uint32_t *refs) {
    if (stopped != -ECANCELED && stopped != -ETIMEDOUT)
        return stopped;
    FERRY__POINT(await_cancel);
    ferry_cancel(f);
    return observe(f, ctx, FERRY__NEVER, FERRY__SHIELDED, refs);
}

/* It has ended, other than as a plain success. */
static FERRY__NOINLINE int64_t take(ferry_future *f, struct ferry__ctx *ctx, int stopped,
                                    uint32_t refs) {
    int64_t result = ferry__future_take(f, ctx);
    if (result != FERRY_EJOBCANCELED) {
        unref(f, refs);
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
    unref(f, refs);
    return stopped < 0 ? stopped : result;
}

static inline int64_t await_until(ferry_future *f, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx || !f || f == ctx->self)
        return cannot_await(f, ms, ctx);
    /* Others are let run in their turn, also when there is nothing to wait for. */
    int stopped = ferry__enter(ctx);
    uint32_t refs = 1;
    if (!ferry__future_done(f)) {
        if (stopped == 0)
            stopped = observe(f, ctx, ferry__deadline(ms), FERRY__OWNED, &refs);
        if (stopped < 0) {
            int joined = join(f, ctx, stopped, &refs);
            if (joined < 0)
                return joined;
        }
    }
    /* There is nothing to be read, delivered or translated. */
    if (!f->plain || f->result < 0)
        return take(f, ctx, stopped, refs);
    int64_t result = f->result;
    unref(f, refs);
    return result;
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
        return (int)ferry__error_say(ctx, -ENOMEM, &ferry__say_no_handle);
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
        ferry__forked(f->generation))
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
    if (!f)
        return;
    /* A task that isn't done has the running side's reference, which is given back on this
     * thread; of two the other one is the caller's: nobody else can have to do with them. */
    if (f->kind == FERRY__IS_TASK && ferry__loop_here(((struct ferry__task *)f)->ctx.loop) &&
        !ferry__future_done(f) && atomic_load_explicit(&f->refs, memory_order_acquire) == 2)
        atomic_store_explicit(&f->refs, 1, memory_order_relaxed);
    else
        ferry__future_unref(f);
}

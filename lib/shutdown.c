/* The orderly end of a loop: soft, then hard, then a report.
 *
 *     OPEN --shutdown--> SOFT        no new work is taken; every task is cancelled, but for those
 *                                    of the background that may drain; shields still hold
 *          --grace is over--> HARD   those are cancelled, too; shields hold no longer; jobs of the
 *                                    loop's own executor are told to stop
 *          --as long again--> LAST   what is left is reported by name and age, and left behind;
 *                                    callbacks of what has ended are called, and no new ones are
 *                                    taken
 *          --none is left--> DOWN
 *
 * A task of the loop itself runs it (the spared one), so that everything goes on turning meanwhile.
 * It waits inside a scope of its own, a shield, `patience`: a request to hurry cancels that, and
 * nothing is waited for any more. Whoever is ready still gets to run as long as that leads to ends
 * of tasks: what only has to unwind needs no time.
 *
 * When it is over the spared task is cancelled in its turn, and its shields don't hold, unless it
 * is the first one of a run, which ends with it: else nobody would. The library's own have nothing
 * more to wait for.
 *
 * `quiet` is its waiter for the end of the last other task. Loop thread only. */
#include "config.h"

#include <errno.h>
#include <limits.h>

#include <event2/event.h>

#include "executor.h"

/* How often a task that hasn't ended in time lets the others run, without any of them ending,
 * before it gives up. */
#define LAST_STEPS 256

static struct ferry__detail say_under_way =
    FERRY__STATIC_DETAIL("the loop is being shut down already");

struct request {
    ferry_loop *loop;
    int64_t grace_ms;
    bool patient; /* it doesn't hurry one that is under way */
};

static int state_of(const ferry_loop *loop) {
    return atomic_load(&((ferry_loop *)loop)->state);
}

static void hurry(ferry_loop *loop) {
    loop->hurried = true;
    if (loop->patience)
        ferry_scope_cancel(loop->patience);
}

/* Those of the background that may drain, or the others. */
static void cancel_others(ferry_loop *loop, bool draining) {
    for (struct ferry__task *task = loop->tasks; task; task = task->next)
        if (task != loop->spared && task->drains == draining)
            ferry__task_cancel(task);
}

static void drop_shields(ferry_loop *loop) {
    atomic_store(&loop->unshielded, true);
    for (struct ferry__task *task = loop->tasks; task; task = task->next)
        if (task != loop->spared)
            ferry__ctx_kick(&task->ctx);
}

/* Until no other task is left: true. */
static bool wait_quiet(ferry_loop *loop, struct ferry__ctx *ctx, int64_t deadline) {
    int rc = 0;
    while (rc == 0 && loop->n_tasks > 1) {
        struct ferry__waiter w;
        ferry__waiter_init(&w, ctx);
        loop->quiet = &w;
        rc = ferry__park(&w, "the end of all tasks", deadline, 0);
        loop->quiet = NULL;
    }
    size_t before = loop->n_tasks;
    for (int steps = LAST_STEPS; loop->n_tasks > 1 && steps > 0; steps--) {
        ferry__task_yield(loop->spared);
        if (loop->n_tasks < before)
            steps = LAST_STEPS;
        before = loop->n_tasks;
    }
    return loop->n_tasks <= 1;
}

static void tell_jobs(ferry_loop *loop) {
    ferry_executor *executor = atomic_load(&loop->executor);
    if (executor)
        ferry_executor_close(executor, FERRY_CLOSE_CANCEL);
}

/* How many are left behind. */
static size_t wait_for_jobs(ferry_loop *loop, struct ferry__ctx *ctx, int64_t deadline) {
    ferry_executor *executor = atomic_load(&loop->executor);
    return executor ? ferry__executor_join(executor, ctx, deadline) : 0;
}

/* Until nobody hands anything in any more, or for so many steps. */
static void run_inbox(ferry_loop *loop, int steps) {
    while (steps-- > 0 && (atomic_load(&loop->entering) > 0 || ferry__inbox_waits(&loop->inbox)))
        ferry__task_yield(loop->spared);
    FERRY__POINT(shutdown_inbox_run);
}

static int64_t shut_down(void *arg) {
    struct request *request = arg;
    ferry_loop *loop = request->loop;
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (state_of(loop) != FERRY__LOOP_OPEN) {
        if (state_of(loop) != FERRY__LOOP_DOWN && !request->patient)
            hurry(loop);
        return ferry__error_say(ctx, -EINPROGRESS, &say_under_way);
    }
    ferry_scope patience = FERRY_SCOPE_INIT;
    ferry_shield_open(&patience, FERRY_FOREVER);
    loop->patience = &patience;
    loop->spared = ferry__container(ctx, struct ferry__task, ctx);
    if (loop->hurried)
        ferry_scope_cancel(&patience);
    atomic_store(&loop->state, FERRY__LOOP_SOFT);
    FERRY__POINT(shutdown_soft);
    cancel_others(loop, false);
    int64_t end = ferry__deadline(request->grace_ms);
    if (!wait_quiet(loop, ctx, end)) {
        atomic_store(&loop->state, FERRY__LOOP_HARD);
        cancel_others(loop, true);
        drop_shields(loop);
        tell_jobs(loop);
        end = ferry__deadline(request->grace_ms);
        wait_quiet(loop, ctx, end);
    }
    size_t left = loop->n_tasks - 1;
    if (left > 0)
        ferry__loop_report(loop, "shutdown: these tasks don't end and are left behind");
    left += ferry__streams_end(loop, ctx, end);
    tell_jobs(loop);
    left += wait_for_jobs(loop, ctx, end);
    /* Callbacks of what has ended are in the inbox by now, and may add others. Then nothing new
     * is taken but what is on its way, else somebody who never stops adding would keep the loop
     * for ever. */
    run_inbox(loop, LAST_STEPS);
    atomic_store(&loop->state, FERRY__LOOP_LAST);
    run_inbox(loop, INT_MAX);
    loop->left_behind = left;
    FERRY__POINT(shutdown_down);
    atomic_store(&loop->state, FERRY__LOOP_DOWN);
    tell_jobs(loop); /* an executor that was made since */
    loop->patience = NULL;
    loop->spared = NULL;
    ferry_scope_close(&patience, 0);
    struct ferry__task *self = ferry__container(ctx, struct ferry__task, ctx);
    if (self != loop->main_task) {
        ferry__task_cancel(self);
        drop_shields(loop);
    }
    return (int64_t)left;
}

static int64_t shut_down_detached(void *arg) {
    shut_down(arg);
    return 0;
}

static ferry_future *spawn_shutdown(ferry_loop *loop, const struct request *request, ferry_fn fn) {
    struct request *copy = ferry__malloc(sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *request;
    ferry_task_options options = {.name = "shutdown", .arg_free = ferry__free};
    ferry_future *task = ferry_spawn_on_with(loop, fn, copy, &options);
    if (!task)
        ferry__free(copy);
    return task;
}

static void hurry_run(ferry_loop *loop, struct ferry__item *item) {
    hurry(loop);
    ferry__free(item);
}

static void hurry_drop(struct ferry__item *item) {
    ferry__free(item);
}

/* From another thread, or where nothing may wait. */
static int request_hurry(ferry_loop *loop) {
    struct ferry__item *item = ferry__calloc(1, sizeof *item);
    if (!item)
        return -ENOMEM;
    item->run = hurry_run;
    item->drop = hurry_drop;
    if (!ferry__loop_send(loop, item))
        ferry__free(item);
    return (int)ferry_fail(-EINPROGRESS, "%s", say_under_way.text);
}

/* Whether a thread that wants the end of the loop has to turn it for that. */
static bool nobody_runs(const ferry_loop *loop) {
    return loop->own_base && !loop->ends_itself && !atomic_load(&((ferry_loop *)loop)->thread);
}

static int see_through(ferry_loop *loop, bool hurry) {
    int64_t rc = ferry__loop_serve(loop, NULL, hurry);
    return rc == 0 ? (int)loop->left_behind : rc == FERRY_ECLOSED ? 0 : (int)rc;
}

/* The loop is being shut down already. When nobody turns it any more, this call does, until that
 * is over. */
static int join(ferry_loop *loop) {
    FERRY__POINT(shutdown_join);
    int rc = nobody_runs(loop) ? see_through(loop, true) : -EINVAL;
    return rc == -EINVAL ? request_hurry(loop) : rc; /* another thread runs it, or does since */
}

/* Whether the program's base is in the middle of a pass: then this is one of its callbacks.
 * libevent can't be asked (event_base_get_running_event() crashes outside of callbacks). But in
 * a pass, and only there, the base's clock stands still. */
static bool in_a_pass(struct event_base *base) {
    struct timeval first, second, begun, now;
    event_base_gettimeofday_cached(base, &first);
    evutil_gettimeofday(&begun, NULL);
    do {
        evutil_gettimeofday(&now, NULL);
    } while (!evutil_timercmp(&now, &begun, !=));
    event_base_gettimeofday_cached(base, &second);
    return evutil_timercmp(&first, &second, ==);
}

/* On the loop's thread, outside of its callbacks: turns the base here. A base that caches no
 * time may be in a pass all the same: libevent refuses then, and the shutdown goes on when the
 * program's callback has returned. */
static int64_t turn_attached(ferry_loop *loop, struct ferry__ctx *ctx, ferry_future *task) {
    while (!ferry_done(task)) {
        if (event_base_loop(loop->base, EVLOOP_ONCE) < 0) {
            ferry_detach(task);
            return ferry__error_say(ctx, -EINPROGRESS, &say_under_way);
        }
    }
    return ferry_await(task);
}

/* Counted in `awaited`. When the loop isn't turned any more since it was asked to shut down,
 * this does it. */
static int64_t await_elsewhere(ferry_loop *loop, ferry_future *task) {
    FERRY__POINT(shutdown_elsewhere);
    if (nobody_runs(loop) && !ferry_done(task)) {
        int64_t rc = ferry__loop_serve(loop, (struct ferry__task *)task, false);
        if (rc < 0 && rc != -EINVAL && rc != FERRY_ECLOSED) {
            ferry_detach(task);
            return rc;
        }
    }
    return ferry_await(task);
}

static struct ferry__task *new_task(ferry_loop *loop) {
    ferry_task_options options = {.name = "shutdown"};
    return ferry__task_new(loop, shut_down, NULL, &options);
}

bool ferry__shutdown_prepare(ferry_loop *loop) {
    loop->closing = new_task(loop);
    return loop->closing && ferry__task_reserve(loop->closing) == 0;
}

/* Of an own loop that nobody runs, as far as is known: its fields are this thread's only once it
 * has taken the loop. `task` is made beforehand; NULL: it wasn't. */
static int run_shutdown(ferry_loop *loop, struct request *request, struct ferry__task *task) {
    if (!task)
        task = new_task(loop);
    if (!task)
        return -ENOMEM;
    task->arg = request;
    FERRY__POINT(shutdown_takes);
    return (int)ferry__loop_run_task(loop, task, NULL);
}

int ferry__shutdown_after_run(ferry_loop *loop, int64_t grace_ms) {
    FERRY__POINT(shutdown_after_run);
    struct request request = {loop, grace_ms, true};
    int rc = -EINPROGRESS;
    if (state_of(loop) == FERRY__LOOP_OPEN) {
        struct ferry__task *task = loop->closing;
        loop->closing = NULL;
        rc = run_shutdown(loop, &request, task);
    }
    return rc == -EINPROGRESS ? see_through(loop, false) : rc;
}

int ferry_loop_shutdown(ferry_loop *loop, int64_t grace_ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (!loop)
        return (int)ferry_fail(-EINVAL, "no loop to shut down");
    if (ferry__loop_forked(loop))
        return (int)ferry__error_say(ctx, FERRY_EFORKED, &ferry__say_parents_loop);
    struct request request = {loop, grace_ms, false};
    if (state_of(loop) == FERRY__LOOP_DOWN)
        return 0;
    if (ctx->kind == FERRY__TASK && ctx->loop == loop)
        return (int)shut_down(&request);
    if (state_of(loop) != FERRY__LOOP_OPEN)
        return join(loop);
    bool here = ferry__loop_here(loop);
    if (!here && nobody_runs(loop)) {
        int rc = run_shutdown(loop, &request, NULL);
        if (rc == FERRY_ECLOSED && state_of(loop) == FERRY__LOOP_DOWN)
            return 0; /* another thread did that meanwhile */
        if (rc == -EINPROGRESS || rc == FERRY_ECLOSED)
            return join(loop);
        if (rc != -EINVAL) /* else another thread runs it since */
            return rc;
    }
    if (here && ferry__loop_base_gone(loop))
        return (int)ferry__error_say(ctx, -EINVAL, &ferry__say_base_gone);
    /* Where it can't be waited for: the wait would keep the loop from turning, or the job from
     * ending. */
    bool inside = here && (loop->turning || loop->own_run || in_a_pass(loop->base));
    inside |= ctx->kind == FERRY__JOB && ctx->loop == loop;
    bool elsewhere = !inside && !here;
    FERRY__POINT(shutdown_asked);
    ferry__loop_ref(loop); /* who runs it may give it back as soon as it is down */
    atomic_fetch_add(&loop->awaited, elsewhere);
    ferry_future *task = spawn_shutdown(loop, &request, inside ? shut_down_detached : shut_down);
    if (!task) {
        atomic_fetch_sub(&loop->awaited, elsewhere);
        ferry__loop_unref(loop);
        return -ENOMEM;
    }
    if (inside) {
        ferry_detach(task);
        ferry__loop_unref(loop);
        return (int)ferry__error_say(ctx, -EINPROGRESS, &say_under_way);
    }
    int rc = (int)(here ? turn_attached(loop, ctx, task) : await_elsewhere(loop, task));
    atomic_fetch_sub(&loop->awaited, elsewhere);
    if (rc == FERRY_ECLOSED) /* somebody else was quicker */
        rc = state_of(loop) == FERRY__LOOP_DOWN ? 0 : request_hurry(loop);
    ferry__loop_unref(loop);
    return rc;
}

void ferry__loop_hurry(ferry_loop *loop) {
    hurry(loop);
    drop_shields(loop);
}

/* The orderly end of a loop: soft, then hard, then a report.
 *
 *     OPEN --shutdown--> SOFT    nothing new is taken; every task is cancelled, shields still hold
 *          --grace is over, or a second request--> HARD   shields hold no longer
 *          --as long again--> DOWN    what is left is reported by name and age, and left behind
 *
 * A task of the loop itself runs it (the spared one), so that everything goes on turning meanwhile. `quiet` is its
 * waiter: claimed when the last other task has ended, or by a request to hurry. Loop thread only. */
#include "config.h"

#include <errno.h>

#include <event2/event.h>

#include "executor.h"

static struct ferry__detail say_under_way = FERRY__STATIC_DETAIL("the loop is being shut down already");

struct request {
    ferry_loop *loop;
    int64_t grace_ms;
};

static int state_of(const ferry_loop *loop) {
    return atomic_load(&((ferry_loop *)loop)->state);
}

static void cancel_others(ferry_loop *loop) {
    for (struct ferry__task *task = loop->tasks; task; task = task->next)
        if (task != loop->spared)
            ferry__task_cancel(task);
}

static void go_hard(ferry_loop *loop) {
    atomic_store(&loop->state, FERRY__LOOP_HARD);
    for (struct ferry__task *task = loop->tasks; task; task = task->next)
        if (task != loop->spared)
            ferry__ctx_kick(&task->ctx);
}

/* Until no other task is left: true. */
static bool wait_quiet(ferry_loop *loop, struct ferry__ctx *ctx, int64_t deadline) {
    while (loop->n_tasks > 1) {
        struct ferry__waiter w;
        ferry__waiter_init(&w, ctx);
        loop->quiet = &w;
        int rc = ferry__park(&w, "the end of all tasks", deadline, FERRY__SHIELDED);
        loop->quiet = NULL;
        if (rc < 0 || loop->hurried)
            break;
    }
    return loop->n_tasks <= 1;
}

static void hurry(ferry_loop *loop) {
    loop->hurried = true;
    struct ferry__waiter *quiet = loop->quiet;
    loop->quiet = NULL;
    if (quiet && ferry__claim(quiet))
        ferry__wake(quiet);
}

static int64_t shut_down(void *arg) {
    struct request *request = arg;
    ferry_loop *loop = request->loop;
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (state_of(loop) != FERRY__LOOP_OPEN) {
        if (state_of(loop) != FERRY__LOOP_DOWN)
            hurry(loop);
        return ferry__error_say(ctx, -EINPROGRESS, &say_under_way);
    }
    loop->spared = ferry__container(ctx, struct ferry__task, ctx);
    atomic_store(&loop->state, FERRY__LOOP_SOFT);
    cancel_others(loop);
    int64_t end = ferry__deadline(request->grace_ms);
    if (!wait_quiet(loop, ctx, end)) {
        loop->hurried = false;
        go_hard(loop);
        end = ferry__deadline(request->grace_ms);
        wait_quiet(loop, ctx, end);
    }
    size_t left = loop->n_tasks - 1;
    if (left > 0)
        ferry__loop_report(loop, "shutdown: these tasks don't end and are left behind");
    ferry_executor *executor = atomic_load(&loop->executor);
    if (executor) {
        ferry_executor_close(executor, FERRY_CLOSE_CANCEL);
        ferry_scope shield = FERRY_SCOPE_INIT;
        ferry_shield_open(&shield, FERRY_FOREVER);
        int64_t ms = end == FERRY__NEVER ? FERRY_FOREVER : (end - ferry__now()) / FERRY__MS;
        int stuck = ferry_executor_stop(executor, loop->hurried ? 0 : ms);
        ferry_scope_close(&shield, 0);
        if (stuck > 0)
            left += (size_t)stuck;
    }
    loop->spared = NULL;
    atomic_store(&loop->state, FERRY__LOOP_DOWN);
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

/* On the loop's thread, outside of its callbacks: turn the base here. */
static int64_t turn_attached(ferry_loop *loop, ferry_future *task) {
    while (!ferry_done(task))
        if (event_base_loop(loop->base, EVLOOP_ONCE) < 0)
            break;
    return ferry_await(task);
}

/* An own loop that nobody runs now. */
static int run_shutdown(ferry_loop *loop, struct request *request) {
    struct ferry__task *stopped = loop->main_task; /* of a run that ferry_loop_stop() ended */
    loop->main_task = NULL;
    ferry_task_options options = {.name = "shutdown"};
    int rc = (int)ferry__loop_run_task(loop, shut_down, request, &options, NULL);
    if (stopped && ferry__future_done(&stopped->future))
        ferry__future_unref(&stopped->future);
    else
        loop->main_task = stopped;
    return rc;
}

int ferry_loop_shutdown(ferry_loop *loop, int64_t grace_ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (!loop)
        return (int)ferry_fail(-EINVAL, "no loop to shut down");
    struct request request = {loop, grace_ms};
    if (ctx->kind == FERRY__TASK && ctx->loop == loop)
        return (int)shut_down(&request);
    if (state_of(loop) == FERRY__LOOP_DOWN)
        return 0;
    if (state_of(loop) != FERRY__LOOP_OPEN)
        return request_hurry(loop);
    bool here = ferry__loop_here(loop);
    if (!here && !atomic_load(&loop->thread))
        return run_shutdown(loop, &request);
    bool inside = here && (loop->turning || loop->own_run || event_base_get_running_event(loop->base));
    ferry_future *task = spawn_shutdown(loop, &request, inside ? shut_down_detached : shut_down);
    if (!task)
        return -ENOMEM;
    if (inside) {
        ferry_detach(task);
        return (int)ferry__error_say(ctx, -EINPROGRESS, &say_under_way);
    }
    return (int)(here ? turn_attached(loop, task) : ferry_await(task));
}

/* run.c: a second signal. Loop thread. */
void ferry__loop_hurry(ferry_loop *loop) {
    if (state_of(loop) == FERRY__LOOP_OPEN)
        go_hard(loop);
    else
        hurry(loop);
}

/* Tasks: stackful coroutines, each on the loop that it was spawned on.
 *
 *     NEW -> READY -> RUNNING <-> PARKED or READY -> ENDED
 *
 * All of that happens on the loop's thread. A task stands in the ready line when it is READY and
 * nowhere when it is PARKED; exactly one event makes a parked task ready: the grant of its waiter
 * (any thread, through the inbox), or the loop deciding its waiter as cancelled or timed out.
 *
 * Whoever gives the thread away picks the next ready task and switches to it directly; the loop's
 * own stack is resumed when none is ready or the turn's steps are used up. A task that has ended
 * can't free the stack that it stands on: the next one to run does (reap).
 *
 * References on the handle: the user's, one of the running side until the task has ended, one for a
 * kick from another thread that is on its way. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "core.h"

static struct ferry__detail say_no_loop = FERRY__STATIC_DETAIL(
    "there is no loop here to spawn a task on: use ferry_run(), or ferry_spawn_on() with a loop");
static struct ferry__detail say_closed =
    FERRY__STATIC_DETAIL("the loop was shut down: it takes no more tasks");

/* ---- Switching ------------------------------------------------------------------------------- */

static void reap(ferry_loop *loop) {
    struct ferry__task *task = loop->ended;
    if (!task)
        return;
    loop->ended = NULL;
    ferry__context_release(&task->context);
    ferry__stack_put(&loop->stacks, task->stack);
    task->stack = NULL;
    ferry__future_unref(&task->future);
}

static void entry(void *arg);

int ferry__task_reserve(struct ferry__task *task) {
    if (task->stack)
        return 0;
    return ferry__stack_get(&task->ctx.loop->stacks, task->stack_size, &task->stack);
}

/* A task gets its stack when it runs for the first time: a million spawned ones don't need a
 * million. */
static bool prepare(ferry_loop *loop, struct ferry__task *task) {
    int rc = ferry__task_reserve(task);
    if (rc == 0) {
        rc = ferry__context_make(&task->context, task->stack->lo, task->stack->size, entry, task);
        if (rc == 0) {
            ferry__context_inherit(&task->context, &loop->context);
            return true;
        }
        ferry__stack_put(&loop->stacks, task->stack);
        task->stack = NULL;
    }
    struct ferry__ctx *ctx = ferry__ctx_self();
    ferry_fail(rc, "no stack of %zu bytes for task '%s': %s", task->stack_size, task->future.name,
               ferry__stack_error());
    struct ferry__detail *detail = ferry__error_take(ctx, rc);
    task->state = FERRY__TASK_ENDED;
    if (task->arg_free)
        task->arg_free(task->arg);
    ferry__loop_remove(loop, task);
    ferry__future_complete(&task->future, rc, detail);
    ferry__future_unref(&task->future);
    return false;
}

static struct ferry__task *pick(ferry_loop *loop) {
    struct ferry__task *task = loop->ready_first;
    if (!task)
        return NULL;
    loop->ready_first = task->ready_next;
    if (!loop->ready_first)
        loop->ready_last = NULL;
    task->ready_next = NULL;
    return task;
}

/* The next task to run, made current; NULL: the loop's own stack is to go on. */
static struct ferry__task *next_task(ferry_loop *loop) {
    while (loop->steps > 0 && !ferry__loop_forked(loop)) {
        struct ferry__task *task = pick(loop);
        if (!task)
            break;
        loop->steps--;
        struct ferry__thread *thread = atomic_load_explicit(&loop->thread, memory_order_relaxed);
        if (task->state == FERRY__TASK_NEW) {
            thread->current = &thread->ctx; /* what is called on its behalf when it can't start */
            loop->running = NULL;
            if (!prepare(loop, task))
                continue;
        }
        task->state = FERRY__TASK_RUNNING;
        loop->running = task;
        thread->current = &task->ctx;
        return task;
    }
    loop->running = NULL;
    struct ferry__thread *thread = atomic_load_explicit(&loop->thread, memory_order_relaxed);
    thread->current = &thread->ctx;
    return NULL;
}

static FERRY__NOINLINE void switch_away(ferry_loop *loop, struct ferry__task *task) {
    struct ferry__task *next = next_task(loop);
    if (next == task)
        return;
    ferry__context_switch(&task->context, next ? &next->context : &loop->context);
    reap(loop);
}

void ferry__task_suspend(struct ferry__task *task) {
    task->state = FERRY__TASK_PARKED;
    switch_away(task->ctx.loop, task);
}

void ferry__task_yield(struct ferry__task *task) {
    if (ferry__loop_forked(task->ctx.loop)) /* the others are the parent's to run */
        return;
    ferry__loop_push(task->ctx.loop, task);
    switch_away(task->ctx.loop, task);
}

void ferry__loop_run_ready(ferry_loop *loop) {
    struct ferry__task *next = next_task(loop);
    if (!next)
        return;
    ferry__context_switch(&loop->context, &next->context);
    reap(loop);
}

static void entry(void *arg) {
    struct ferry__task *task = arg;
    ferry_loop *loop = task->ctx.loop;
    reap(loop);
    int64_t result = task->fn(task->arg);
    struct ferry__detail *detail = result < 0 ? ferry__error_take(&task->ctx, result) : NULL;
    ferry__ctx_end(&task->ctx);
    if (task->arg_free)
        task->arg_free(task->arg);
    ferry__heap_remove(&loop->timers, &task->timer);
    FERRY__POINT(task_ended);
    ferry__loop_remove(loop, task);
    ferry__future_complete(&task->future, result, detail);
    task->state = FERRY__TASK_ENDED;
    struct ferry__task *next = next_task(loop);
    loop->ended = task;
    ferry__context_switch_last(&task->context, next ? &next->context : &loop->context);
}

/* ---- Waking ---------------------------------------------------------------------------------- */

static void wake_run(ferry_loop *loop, struct ferry__item *item) {
    ferry__loop_push(loop, ferry__container(item, struct ferry__task, wake_item));
}

void ferry__task_ready(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    if (ferry__loop_here(loop)) {
        ferry__loop_push(loop, task);
        ferry__loop_need_turn(loop);
        return;
    }
    task->wake_item.run = wake_run;
    ferry__loop_send(loop, &task->wake_item);
}

static void kick_done(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    ferry__loop_ref(loop);
    ferry__future_unref(&task->future);
    ferry__loop_unref(loop);
}

static void kick_run(ferry_loop *loop, struct ferry__item *item) {
    struct ferry__task *task = ferry__container(item, struct ferry__task, kick_item);
    atomic_store(&task->kicked, 0);
    FERRY__POINT(task_kick_taken);
    if (task->state != FERRY__TASK_ENDED) {
        ferry__poke(&task->ctx, loop->now);
        ferry__scope_tell(&task->ctx);
    }
    kick_done(task);
}

static void kick_drop(struct ferry__item *item) {
    kick_done(ferry__container(item, struct ferry__task, kick_item));
}

static void send_kick(struct ferry__task *task) {
    if (atomic_exchange(&task->kicked, 1))
        return;
    FERRY__POINT(task_kick);
    ferry_ref(&task->future);
    task->kick_item.run = kick_run;
    task->kick_item.drop = kick_drop;
    if (!ferry__loop_send(task->ctx.loop, &task->kick_item))
        kick_done(task);
}

void ferry__task_kick(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    if (!ferry__loop_here(loop)) {
        send_kick(task);
        return;
    }
    if (task->state == FERRY__TASK_ENDED)
        return;
    /* Its wait is ended here and now, so that whatever comes later finds it decided. Members of its
     * groups are told by the loop: a tree of tasks is told level by level, not by recursion on this
     * stack. */
    ferry__poke(&task->ctx, loop->now);
    if (task->ctx.untold)
        send_kick(task);
}

void ferry__task_cancel(struct ferry__task *task) {
    if (ferry__scope_request(&task->ctx.root, FERRY__REQUEST_CANCEL))
        ferry__ctx_kick(&task->ctx);
}

void ferry__task_rearm(struct ferry__task *task) {
    struct ferry__heap *timers = &task->ctx.loop->timers;
    ferry__heap_remove(timers, &task->timer);
    ferry__heap_add(timers, &task->timer, ferry__look_again_at(&task->ctx));
    ferry__loop_need_turn(task->ctx.loop);
}

/* ---- Making one ------------------------------------------------------------------------------ */

struct ferry__task *ferry__task_new(ferry_loop *loop, ferry_fn fn, void *arg,
                                    const ferry_task_options *options) {
    static const ferry_task_options none;
    if (!options)
        options = &none;
    struct ferry__task *task = ferry__record_get(sizeof *task);
    if (!task)
        return NULL;
    ferry__future_init(&task->future, FERRY__IS_TASK, options->name, "task");
    ferry__ctx_init(&task->ctx, FERRY__TASK);
    task->ctx.loop = loop;
    struct ferry__thread *thread = ferry__thread_self();
    task->ctx.values = thread ? ferry__values_ref(thread->current->values) : NULL;
    task->ctx.self = &task->future;
    if (thread && atomic_load_explicit(&loop->thread, memory_order_acquire) == thread)
        ferry__loop_ref_here(loop);
    else
        ferry__loop_ref(loop);
    task->stack = NULL;
    task->state = FERRY__TASK_NEW;
    task->stack_size = options->stack_size;
    task->fn = fn;
    task->arg = arg;
    task->arg_free = options->arg_free;
    task->timer.index = 0;
    atomic_init(&task->kicked, 0);
    task->starter = NULL;
    return task;
}

void ferry__task_destroy(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    bool here = ferry__loop_here(loop);
    if (task->stack) /* it was reserved, and the task never started */
        ferry__stack_put(&loop->stacks, task->stack);
    ferry__cell_unref(task->ctx.root.cell);
    ferry__values_unref(task->ctx.values); /* NULL once it has run */
    ferry__error_set(&task->ctx, 0,
                     NULL); /* of what was called after its end: arg_free, the log hook */
    ferry__record_put(task, sizeof *task);
    if (here)
        ferry__loop_unref_here(loop);
    else
        ferry__loop_unref(loop);
}

static void start_run(ferry_loop *loop, struct ferry__item *item) {
    struct ferry__task *task = ferry__container(item, struct ferry__task, wake_item);
    int rc = ferry__loop_add(loop, task);
    if (rc == 0)
        return;
    if (task->arg_free)
        task->arg_free(task->arg);
    task->state = FERRY__TASK_ENDED;
    ferry__future_complete(&task->future, rc, rc == FERRY_ECLOSED ? &say_closed : NULL);
    ferry__future_unref(&task->future);
}

static void start_drop(struct ferry__item *item) {
    struct ferry__task *task = ferry__container(item, struct ferry__task, wake_item);
    if (task->arg_free)
        task->arg_free(task->arg);
    task->state = FERRY__TASK_ENDED;
    ferry__future_complete(&task->future, FERRY_ECLOSED, &say_closed);
    ferry__future_unref(&task->future);
}

int ferry__task_start(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    ferry__future_ref_new(&task->future); /* the running side's */
    int rc;
    if (ferry__loop_forked(loop)) {
        rc = FERRY_EFORKED;
    } else if (ferry__loop_here(loop)) {
        rc = ferry__loop_add(loop, task);
    } else {
        task->wake_item.run = start_run;
        task->wake_item.drop = start_drop;
        rc = ferry__loop_accept(loop, &task->wake_item) ? 0 : FERRY_ECLOSED;
    }
    if (rc < 0)
        atomic_fetch_sub_explicit(&task->future.refs, 1, memory_order_relaxed);
    return rc;
}

ferry_future *ferry_spawn_on_with(ferry_loop *loop, ferry_fn fn, void *arg,
                                  const ferry_task_options *options) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return NULL;
    if (!loop)
        loop = ferry__loop_of(ctx);
    if (!loop || !fn) {
        ferry_future *failed = ferry__future_fixed(-EINVAL, loop ? NULL : &say_no_loop);
        if (failed && options && options->arg_free)
            options->arg_free(arg);
        return failed;
    }
    struct ferry__task *task = ferry__task_new(loop, fn, arg, options);
    if (!task)
        return NULL;
    int rc = ferry__task_start(task);
    if (rc == 0)
        return &task->future;
    if (rc != -ENOMEM) {
        ferry_future *failed = ferry__future_fixed(rc, rc == FERRY_EFORKED ? &ferry__say_parents_loop : &say_closed);
        if (failed && task->arg_free)
            task->arg_free(arg);
        atomic_store(&task->future.read, true);
        ferry__future_unref(&task->future);
        return failed;
    }
    ferry__future_unref(&task->future);
    return NULL;
}

ferry_future *ferry_spawn(ferry_fn fn, void *arg) {
    return ferry_spawn_on_with(NULL, fn, arg, NULL);
}

ferry_future *ferry_spawn_with(ferry_fn fn, void *arg, const ferry_task_options *options) {
    return ferry_spawn_on_with(NULL, fn, arg, options);
}

ferry_future *ferry_spawn_on(ferry_loop *loop, ferry_fn fn, void *arg) {
    return ferry_spawn_on_with(loop, fn, arg, NULL);
}

/* ---- Inside one ------------------------------------------------------------------------------ */

/* A yield is always a point where a cancel and a deadline show. */
static int stopped(struct ferry__ctx *ctx, int64_t now) {
    if (!atomic_load_explicit(&ctx->asked, memory_order_acquire) && ctx->next_deadline > now)
        return 0;
    bool cancelled = ferry__scope_look(ctx, now);
    ferry__scope_tell(ctx);
    if (!cancelled)
        return 0;
    ferry__error_set(ctx, -ECANCELED, NULL);
    return -ECANCELED;
}

int ferry_yield(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (ctx->kind != FERRY__TASK) {
        int rc = ferry__can_park(ctx);
        if (rc < 0)
            return rc;
        sched_yield();
        return stopped(ctx, ctx->next_deadline == FERRY__NEVER ? 0 : ferry__now());
    }
    if (ferry__loop_forked(ctx->loop))
        return ferry__can_park(ctx);
    int rc = stopped(ctx, ctx->loop->now);
    ferry__task_yield(ferry__container(ctx, struct ferry__task, ctx));
    return rc < 0 ? rc : stopped(ctx, ctx->loop->now);
}

int ferry_sleep(int64_t ms) {
    if (ms <= 0)
        return ferry_yield();
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int rc = ferry__enter(ctx);
    if (rc == 0)
        rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    struct ferry__waiter w; /* in no line: only time or a cancel ends it */
    ferry__waiter_init(&w, ctx);
    rc = ferry__park(&w, "sleep", ferry__deadline(ms), 0);
    return rc == -ETIMEDOUT ? 0 : rc;
}

ferry_future *ferry_self(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    return ctx ? ctx->self : NULL;
}

const char *ferry_self_name(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    return ctx && ctx->self ? ctx->self->name : "thread";
}

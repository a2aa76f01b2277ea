/* Tasks: stackful coroutines, each on the loop that it was spawned on.
 *
 *     NEW -> RUNNING -> PARKED -> WOKEN -> RUNNING -> ... -> ENDED
 *                    -> READY -> RUNNING
 *
 * All of that happens on the loop's thread. A task stands in the ready line when it is NEW, READY
 * (it gave way) or WOKEN, and nowhere when it is PARKED; exactly one event makes a parked task
 * ready: the grant of its waiter (any thread, through the inbox), or the loop deciding its waiter
 * as cancelled or timed out.
 *
 * Whoever gives the thread away picks the next ready task and switches to it directly; the loop's
 * own stack is resumed when none is ready or the slice's steps are used up. A task that has ended
 * can't free the stack that it stands on: the next one to run does (reap).
 *
 * References on the handle: the user's, one of the running side until the task has ended, one
 * for a kick from another thread that is on its way. Where there are only the first two, and the
 * user's is that of a task of the same loop that awaits the end, that end is told without the
 * handle's lock, and the running side's reference given back without an atomic operation:
 * t/model/neighbour.pml. Where there is only the running side's, the end isn't told to anybody. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>

#include "core.h"

static struct ferry__detail say_no_loop = FERRY__STATIC_DETAIL(
    "there is no loop here to spawn a task on: use ferry_run(), or ferry_spawn_on() with a loop");
static struct ferry__detail say_closed =
    FERRY__STATIC_DETAIL("the loop was shut down: it takes no more tasks");

/* ---- Stacks ---------------------------------------------------------------------------------- */

static inline struct ferry__stack_class *usual_stacks(ferry_loop *loop) {
    return &loop->stacks.classes[FERRY__STACK_USUAL];
}

static inline ferry__context *context_of(struct ferry__task *task) {
#if FERRY__CONTEXT_ON_STACK
    return &task->stack->context;
#else
    return &task->context;
#endif
}

static FERRY__NOINLINE void reap_now(ferry_loop *loop) {
    struct ferry__task *task = loop->ended;
    loop->ended = NULL;
    ferry__context_release(context_of(task));
    if (task->stack_kib != 0 || !ferry__stack_keep(usual_stacks(loop), task->stack))
        ferry__stack_put(&loop->stacks, task->stack);
    task->stack = NULL;
    if (task->alone)
        atomic_store_explicit(&task->future.refs, 1, memory_order_relaxed);
    else
        ferry__future_unref(&task->future);
}

static inline void reap(ferry_loop *loop) {
    if (loop->ended)
        reap_now(loop);
}

static void entry(void *arg);

enum { KIB = 1024 };

/* Rounded up, as stacks are anyhow. What is too large stays so. */
static uint32_t in_kib(size_t size) {
    size_t kib = size / KIB + (size % KIB != 0);
    return kib < UINT32_MAX ? (uint32_t)kib : UINT32_MAX;
}

int ferry__task_reserve(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    if (task->stack)
        return 0;
    if (task->stack_kib == 0 && (task->stack = ferry__stack_latest(usual_stacks(loop))))
        return 0;
    return ferry__stack_get(&loop->stacks, (size_t)task->stack_kib * KIB, &task->stack);
}

/* ---- The tasks of a loop: on its thread ------------------------------------------------------ */

static inline int add(ferry_loop *loop, struct ferry__task *task) {
    if (atomic_load_explicit(&loop->state, memory_order_relaxed) != FERRY__LOOP_OPEN)
        return FERRY_ECLOSED;
    /* A park can't fail for want of a place in the heap: there is one for each task. */
    if (loop->n_tasks >= loop->timers.room) {
        int rc = ferry__heap_reserve(&loop->timers, loop->n_tasks + 1);
        if (rc < 0)
            return rc;
    }
    task->added = true;
    task->born = loop->now;
    task->prev = NULL;
    task->next = loop->tasks;
    if (task->next)
        task->next->prev = task;
    loop->tasks = task;
    loop->n_tasks++;
    ferry__loop_push(loop, task);
    if (!loop->kept)
        ferry__loop_expect(loop);
    ferry__loop_need_turn(loop);
    return 0;
}

/* Inside a turn. */
static inline void take_off(ferry_loop *loop, struct ferry__task *task) {
    if (task->prev)
        task->prev->next = task->next;
    else
        loop->tasks = task->next;
    if (task->next)
        task->next->prev = task->prev;
    loop->n_tasks--;
    if (loop->quiet)
        ferry__loop_ended(loop);
}

/* ---- Switching ------------------------------------------------------------------------------- */

/* What is called on its behalf runs on the loop's own account. */
static FERRY__NOINLINE void cannot_start(ferry_loop *loop, struct ferry__task *task, int rc) {
    struct ferry__thread *thread = atomic_load_explicit(&loop->thread, memory_order_relaxed);
    struct ferry__ctx *ctx = thread->current = &thread->ctx;
    ferry_fail(rc, "no stack of %" PRIu32 " KiB for task '%s': %s", task->stack_kib,
               task->future.name, ferry__stack_error());
    struct ferry__detail *detail = ferry__error_take(ctx, rc);
    task->state = FERRY__TASK_ENDED;
    if (task->arg_free)
        task->arg_free(task->arg);
    take_off(loop, task);
    ferry__future_complete(&task->future, rc, detail);
    ferry__future_unref(&task->future);
}

/* A task gets its stack when it runs for the first time: a million spawned ones don't need a
 * million. */
static FERRY__NOINLINE bool prepare(ferry_loop *loop, struct ferry__task *task) {
    int rc = ferry__task_reserve(task);
    if (rc == 0) {
        rc = ferry__context_make_like(context_of(task), task->stack->lo, task->stack->size,
                                      entry, task, &loop->context);
        if (rc == 0)
            return true;
        ferry__stack_put(&loop->stacks, task->stack);
        task->stack = NULL;
    }
    cannot_start(loop, task, rc);
    return false;
}

/* The frames of the one that comes after the next; its context was fetched when it became ready. */
static inline void fetch_frames(const struct ferry__task *task) {
#if FERRY__CONTEXT_ON_STACK
    if (task->state == FERRY__TASK_WOKEN)
        ferry__prefetch_to_write(task->stack->context.sp);
#else
    (void)task;
#endif
}

/* `task` leaves the ready line, as the first in it. */
static inline void leave_line(ferry_loop *loop, const struct ferry__task *task) {
    struct ferry__task *next = task->ready_next;
    loop->ready_first = next;
    if (next)
        fetch_frames(next);
    else
        loop->ready_end = &loop->ready_first;
}

static inline void make_current(struct ferry__thread *thread, struct ferry__task *task) {
    task->state = FERRY__TASK_RUNNING;
    thread->current = &task->ctx;
}

/* The next task to run, made current; NULL: the loop's own stack is to go on. */
static inline struct ferry__task *next_task(ferry_loop *loop) {
    struct ferry__thread *thread = atomic_load_explicit(&loop->thread, memory_order_relaxed);
    struct ferry__task *task;
    while (loop->steps > 0 && (task = loop->ready_first) && !ferry__loop_forked(loop)) {
        leave_line(loop, task);
        loop->steps--;
        if (task->state == FERRY__TASK_NEW && !prepare(loop, task))
            continue;
        make_current(thread, task);
        return task;
    }
    thread->current = &thread->ctx;
    return NULL;
}

/* Gives the thread away; returns when somebody switches back. */
static inline __attribute__((always_inline)) void switch_away(ferry_loop *loop,
                                                              struct ferry__task *task) {
    struct ferry__task *next = next_task(loop);
    if (next == task)
        return;
    ferry__context_switch(context_of(task), next ? context_of(next) : &loop->context);
    reap(loop);
}

void ferry__task_suspend(struct ferry__task *task) {
    task->state = FERRY__TASK_PARKED;
    switch_away(task->ctx.loop, task);
}

static FERRY__NOINLINE void give_way_slowly(ferry_loop *loop, struct ferry__task *task) {
    switch_away(loop, task);
}

/* It isn't forked. Mostly there is another one, which has run before. */
static inline __attribute__((always_inline)) void give_way(ferry_loop *loop,
                                                           struct ferry__task *task) {
    struct ferry__task *next = loop->ready_first;
    task->state = FERRY__TASK_READY;
    ferry__loop_push(loop, task);
    if (!next || loop->steps <= 0 || next->state == FERRY__TASK_NEW) {
        give_way_slowly(loop, task);
        return;
    }
    loop->steps--;
    loop->ready_first = next->ready_next;
    fetch_frames(next->ready_next);
    make_current(atomic_load_explicit(&loop->thread, memory_order_relaxed), next);
    ferry__context_switch(context_of(task), context_of(next));
    reap(loop);
}

void ferry__task_yield(struct ferry__task *task) {
    if (!ferry__loop_forked(task->ctx.loop)) /* else the others are the parent's to run */
        give_way(task->ctx.loop, task);
}

void ferry__loop_run_ready(ferry_loop *loop) {
    struct ferry__task *next = next_task(loop);
    if (!next)
        return;
    ferry__context_switch(&loop->context, context_of(next));
    reap(loop);
}

/* Whether nobody but its awaiter and its running side has to do with the handle. Each has a
 * reference, and the awaiter gives the last one back as soon as it has seen the end, which nobody
 * could hold up: so nobody without a reference may still be about to do anything with it, and
 * what others did with it was over before the end, or with the reference that they had. */
static inline bool is_between_two(const struct ferry__task *task) {
    const ferry_future *f = &task->future;
    return task->owned && atomic_load_explicit(&f->refs, memory_order_acquire) == 2 && !f->first &&
           !f->member;
}

/* The same, when nobody has the handle any more. */
static inline bool is_forgotten(const struct ferry__task *task) {
    const ferry_future *f = &task->future;
    return atomic_load_explicit(&f->refs, memory_order_acquire) == 1 && !task->awaiter &&
           !f->first && !f->member;
}

static inline void complete(struct ferry__task *task, int64_t result,
                            struct ferry__detail *detail) {
    struct ferry__waiter *w = task->awaiter;
    bool awaited = w && is_between_two(task) &&
                   atomic_load_explicit(&w->outcome, memory_order_relaxed) == FERRY__WAITING;
    if (!awaited && !is_forgotten(task)) {
        ferry__future_complete(&task->future, result, detail);
        return;
    }
    FERRY__POINT(future_complete);
    task->future.result = result;
    task->future.detail = detail;
    ferry__future_set_done(&task->future);
    FERRY__POINT(future_done);
    if (!awaited)
        return;
    task->alone = true;
    task->awaiter = NULL;
    atomic_store_explicit(&w->outcome, FERRY__GRANTED, memory_order_relaxed);
    ferry__loop_push_parked(task->ctx.loop, ferry__container(w->ctx, struct ferry__task, ctx));
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
    take_off(loop, task);
    complete(task, result, detail);
    task->state = FERRY__TASK_ENDED;
    struct ferry__task *next = next_task(loop);
    loop->ended = task;
    ferry__context_switch_last(context_of(task), next ? context_of(next) : &loop->context);
}

/* ---- Waking ---------------------------------------------------------------------------------- */

static void wake_run(ferry_loop *loop, struct ferry__item *item) {
    ferry__loop_push_parked(loop, ferry__container(item, struct ferry__task, future.item));
}

void ferry__task_ready(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    if (ferry__loop_here(loop)) {
        ferry__loop_push_parked(loop, task);
        ferry__loop_need_turn(loop);
        return;
    }
    task->future.item.run = wake_run;
    task->future.item.drop = NULL;
    ferry__loop_send(loop, &task->future.item);
}

static void kick_done(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    ferry__loop_ref(loop);
    ferry__future_unref(&task->future);
    ferry__loop_unref(loop);
}

static void kick_run(ferry_loop *loop, struct ferry__item *item) {
    struct ferry__task *task = ferry__container(item, struct ferry__task, kick_item);
    atomic_store(&task->kicked, false);
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
    if (atomic_exchange(&task->kicked, true))
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

/* `thread` is the calling one; NULL: it has no record. */
static inline __attribute__((always_inline)) struct ferry__task *
make(ferry_loop *loop, ferry_fn fn, void *arg, const ferry_task_options *options,
     struct ferry__thread *thread, bool here) {
    static const ferry_task_options none;
    if (!options)
        options = &none;
    struct ferry__task *task = ferry__record_get_on(thread, sizeof *task);
    if (!task)
        return NULL;
    ferry__zero_words(task, offsetof(struct ferry__task, fn));
    ferry__future_begin(&task->future, FERRY__IS_TASK, options->name, "task");
    ferry__ctx_begin(&task->ctx, FERRY__TASK);
    task->future.plain = true;
    task->ctx.loop = loop;
    if (thread && thread->current->values)
        task->ctx.values = ferry__values_ref(thread->current->values);
    task->ctx.self = &task->future;
    if (here)
        ferry__loop_ref_here(loop);
    else
        ferry__loop_ref(loop);
    task->stack_kib = in_kib(options->stack_size);
    task->fn = fn;
    task->arg = arg;
    task->arg_free = options->arg_free;
    task->timer.index = 0;
    if (here && thread->cache.n_cells > 0)
        ferry__cell_adopt(&task->ctx, &thread->cache);
    return task;
}

struct ferry__task *ferry__task_new(ferry_loop *loop, ferry_fn fn, void *arg,
                                    const ferry_task_options *options) {
    struct ferry__thread *thread = ferry__thread_self();
    return make(loop, fn, arg, options, thread, ferry__loop_is_on(loop, thread));
}

void ferry__task_destroy(struct ferry__task *task) {
    ferry_loop *loop = task->ctx.loop;
    struct ferry__thread *thread = ferry__thread_known();
    bool here = ferry__loop_is_on(loop, thread);
    if (task->stack) /* it was reserved, and the task never started */
        ferry__stack_put(&loop->stacks, task->stack);
    if (task->ctx.root.cell)
        ferry__cell_leave(task->ctx.root.cell, here ? &thread->cache : NULL);
    ferry__values_unref(task->ctx.values); /* NULL once it has run */
    ferry__detail_unref(task->ctx.detail); /* of what was called after its end: arg_free, a hook */
    ferry__record_put_on(thread, task, sizeof *task);
    if (here)
        ferry__loop_unref_here(loop);
    else
        ferry__loop_unref(loop);
}

static void start_run(ferry_loop *loop, struct ferry__item *item) {
    struct ferry__task *task = ferry__container(item, struct ferry__task, future.item);
    int rc = add(loop, task);
    if (rc == 0)
        return;
    if (task->arg_free)
        task->arg_free(task->arg);
    task->state = FERRY__TASK_ENDED;
    ferry__future_complete(&task->future, rc, rc == FERRY_ECLOSED ? &say_closed : NULL);
    ferry__future_unref(&task->future);
}

static void start_drop(struct ferry__item *item) {
    struct ferry__task *task = ferry__container(item, struct ferry__task, future.item);
    if (task->arg_free)
        task->arg_free(task->arg);
    task->state = FERRY__TASK_ENDED;
    ferry__future_complete(&task->future, FERRY_ECLOSED, &say_closed);
    ferry__future_unref(&task->future);
}

/* The running side has its reference, and loses it when that fails. */
static inline int launch(struct ferry__task *task, bool here) {
    ferry_loop *loop = task->ctx.loop;
    int rc;
    if (ferry__loop_forked(loop)) {
        rc = FERRY_EFORKED;
    } else if (here) {
        rc = add(loop, task);
    } else {
        task->future.item.run = start_run;
        task->future.item.drop = start_drop;
        rc = ferry__loop_accept(loop, &task->future.item) ? 0 : FERRY_ECLOSED;
    }
    if (rc < 0)
        atomic_fetch_sub_explicit(&task->future.refs, 1, memory_order_relaxed);
    return rc;
}

int ferry__task_start(struct ferry__task *task) {
    ferry_ref(&task->future);
    return launch(task, ferry__loop_here(task->ctx.loop));
}

/* It couldn't be handed to its loop. */
static FERRY__NOINLINE ferry_future *not_launched(struct ferry__task *task, int rc) {
    ferry_future *failed = NULL;
    if (rc != -ENOMEM) {
        failed =
            ferry__future_fixed(rc, rc == FERRY_EFORKED ? &ferry__say_parents_loop : &say_closed);
        if (failed && task->arg_free)
            task->arg_free(task->arg);
        atomic_store(&task->future.read, true);
    }
    ferry__future_unref(&task->future);
    return failed;
}

static FERRY__NOINLINE ferry_future *invalid(const ferry_loop *loop, void *arg,
                                             const ferry_task_options *options) {
    ferry_future *failed = ferry__future_fixed(-EINVAL, loop ? NULL : &say_no_loop);
    if (failed && options && options->arg_free)
        options->arg_free(arg);
    return failed;
}

static inline __attribute__((always_inline)) ferry_future *
spawn(ferry_loop *loop, ferry_fn fn, void *arg, const ferry_task_options *options) {
    struct ferry__thread *thread = ferry__thread_self();
    if (!thread)
        return NULL;
    if (!loop)
        loop = ferry__loop_of(thread->current);
    if (!loop || !fn)
        return invalid(loop, arg, options);
    bool here = ferry__loop_is_on(loop, thread);
    struct ferry__task *task = make(loop, fn, arg, options, thread, here);
    if (!task)
        return NULL;
    /* Nobody else has seen the handle yet: the user's reference, and the running side's. */
    atomic_store_explicit(&task->future.refs, 2, memory_order_relaxed);
    int rc = launch(task, here);
    return rc == 0 ? &task->future : not_launched(task, rc);
}

ferry_future *ferry_spawn_on_with(ferry_loop *loop, ferry_fn fn, void *arg,
                                  const ferry_task_options *options) {
    return spawn(loop, fn, arg, options);
}

ferry_future *ferry_spawn(ferry_fn fn, void *arg) {
    return spawn(NULL, fn, arg, NULL);
}

ferry_future *ferry_spawn_with(ferry_fn fn, void *arg, const ferry_task_options *options) {
    return ferry_spawn_on_with(NULL, fn, arg, options);
}

ferry_future *ferry_spawn_on(ferry_loop *loop, ferry_fn fn, void *arg) {
    return ferry_spawn_on_with(loop, fn, arg, NULL);
}

/* ---- Inside one ------------------------------------------------------------------------------ */

static FERRY__NOINLINE int stopped_slowly(struct ferry__ctx *ctx, int64_t now) {
    bool cancelled = ferry__scope_look(ctx, now);
    ferry__scope_tell(ctx);
    if (!cancelled)
        return 0;
    ferry__error_set(ctx, -ECANCELED, NULL);
    return -ECANCELED;
}

/* A yield is always a point where a cancel and a deadline show. */
static inline int stopped(struct ferry__ctx *ctx, int64_t now) {
    if (!atomic_load_explicit(&ctx->asked, memory_order_acquire) && ctx->next_deadline > now)
        return 0;
    return stopped_slowly(ctx, now);
}

static FERRY__NOINLINE int yield_thread(struct ferry__ctx *ctx) {
    if (!ctx)
        return -ENOMEM;
    int rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    sched_yield();
    return stopped(ctx, ctx->next_deadline == FERRY__NEVER ? 0 : ferry__now());
}

int ferry_yield(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx || ctx->kind != FERRY__TASK)
        return yield_thread(ctx);
    ferry_loop *loop = ctx->loop;
    if (ferry__loop_forked(loop))
        return ferry__can_park(ctx);
    give_way(loop, ferry__container(ctx, struct ferry__task, ctx));
    return stopped(ctx, loop->now);
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

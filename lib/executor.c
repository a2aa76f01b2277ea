/* Executors: what pools, strands and the inline one have in common.
 *
 * A pool has a door, so that submitters and threads don't stand in each other's way: a job that
 * certainly has a place is left there, under in_lock alone. Certainly: entered - left is how many
 * are queued, and an older value of `left` can only make that more; nobody waits for a place; and
 * each thread that is free makes room for one more, never less. Whenever this isn't certain the
 * submitter takes both locks, which empties the door, and knows exactly. Whoever was at the door
 * stands in the line behind those who were in the line before: the order of the submits is kept.
 *
 * Owners are the user and, of a pool, its strands. When the last one leaves, the executor closes;
 * what was queued still runs. The memory goes when the threads, jobs and turns have given their
 * references back too, and the loops those that they hold in reserve for their jobs.
 *
 * After a fork the child finds threads that aren't there and a lock that somebody may have held:
 * the first call there sets the executor back to an empty one. The jobs inside belong to the
 * parent's handles. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"
#include "fork.h"

#define QUEUE_MAX 65536

struct ferry__detail ferry__say_closed =
    FERRY__STATIC_DETAIL("the executor was closed: it takes no more jobs");
static struct ferry__detail say_inside = FERRY__STATIC_DETAIL(
    "a job can't wait for the end of the executor that it runs on");
struct ferry__detail ferry__say_no_thread =
    FERRY__STATIC_DETAIL("no thread could be made for the job (pthread_create failed), and the "
                         "pool has none that could come to it: look at "
                         "the limits of processes, threads and memory");

/* ---- Life ------------------------------------------------------------------------------------ */

int ferry__executor_check(const ferry_executor_options *options) {
    if (!options)
        return 0;
    if (options->threads_max < 0 || options->threads_min < 0 ||
        options->threads_min > options->threads_max || options->idle_ms < 0 ||
        options->replacements_max < 0 || options->full < FERRY_FULL_WAIT ||
        options->full > FERRY_FULL_REFUSE)
        return (int)ferry_fail(
            -EINVAL,
            "executor '%s': threads_max %d, threads_min %d, idle_ms %lld, full %d, "
            "replacements_max %d: one of them is out of range",
            options->name ? options->name : "ferry", options->threads_max, options->threads_min,
            (long long)options->idle_ms, options->full, options->replacements_max);
    return 0;
}

void ferry__executor_init(ferry_executor *executor, enum ferry__executor_kind kind,
                          const ferry_executor_options *options, const char *name) {
    executor->kind = kind;
    atomic_init(&executor->refs, 1);
    atomic_init(&executor->owners, 1);
    atomic_init(&executor->generation, atomic_load(&ferry__generation));
    executor->queue_max = options && options->queue_max ? options->queue_max : QUEUE_MAX;
    executor->full = options ? options->full : FERRY_FULL_WAIT;
    strncpy(executor->name, options && options->name ? options->name : name,
            sizeof executor->name - 1);
    ferry__fork_watch();
}

void ferry__executor_ref(ferry_executor *executor) {
    atomic_fetch_add_explicit(&executor->refs, 1, memory_order_relaxed);
}

static void unref(ferry_executor *executor, int refs) {
    if (atomic_fetch_sub_explicit(&executor->refs, refs, memory_order_acq_rel) != refs)
        return;
    if (executor->kind == FERRY__POOL)
        ferry__pool_destroy(executor);
    else if (executor->kind == FERRY__STRAND)
        ferry__strand_destroy(executor);
    else
        ferry__free(executor);
}

void ferry__executor_unref(ferry_executor *executor) {
    unref(executor, 1);
}

void ferry__executor_ref_slow(ferry_executor *executor, ferry_loop *loop) {
    if (loop->reserve_of != executor) {
        if (loop->reserve_of && ++loop->reserve_missed < FERRY__EXECUTOR_RESERVE) {
            ferry__executor_ref(executor);
            return;
        }
        ferry__executor_reserve_end(loop);
        loop->reserve_of = executor;
        loop->reserve_missed = 0;
    }
    if (loop->reserve == 0) {
        atomic_fetch_add_explicit(&executor->refs, FERRY__EXECUTOR_RESERVE, memory_order_relaxed);
        loop->reserve = FERRY__EXECUTOR_RESERVE;
    }
    loop->reserve--;
}

void ferry__executor_unref_slow(ferry_executor *executor, ferry_loop *loop) {
    if (loop->reserve_of != executor) {
        ferry__executor_unref(executor);
        return;
    }
    loop->reserve -= FERRY__EXECUTOR_RESERVE - 1;
    unref(executor, FERRY__EXECUTOR_RESERVE); /* not the last ones */
}

void ferry__executor_reserve_end(ferry_loop *loop) {
    ferry_executor *executor = loop->reserve_of;
    int refs = loop->reserve;
    loop->reserve_of = NULL;
    loop->reserve = 0;
    if (refs > 0)
        unref(executor, refs);
}

unsigned ferry__anew_lock;

static void begin_anew(ferry_executor *executor, uint32_t now) {
    executor->lock = executor->in_lock = 0;
    executor->first = executor->last = executor->in_last = NULL;
    atomic_store(&executor->in_first, NULL);
    executor->at_door = 0;
    executor->entered = executor->left_seen = 0;
    atomic_store(&executor->left, 0);
    atomic_store(&executor->wanted, FERRY__SOMEBODY);
    executor->wait_first = executor->wait_last = NULL;
    executor->stop_first = executor->stop_last = NULL;
    executor->running = NULL;
    executor->delivering = 0;
    executor->stats.threads = executor->stats.idle = executor->stats.queued =
        executor->stats.running = 0;
    executor->stats.abandoned = 0;
    if (executor->kind == FERRY__POOL)
        ferry__pool_forked(executor);
    else if (executor->kind == FERRY__STRAND)
        ferry__strand_forked(executor);
    atomic_store(&executor->generation, now);
}

FERRY__NOINLINE void ferry__executor_check_fork_slow(ferry_executor *executor) {
    if (executor->kind == FERRY__STRAND) /* it may be younger than its pool */
        ferry__executor_check_fork(ferry__strand_pool(executor));
    uint32_t now = atomic_load_explicit(&ferry__generation, memory_order_relaxed);
    if (atomic_load_explicit(&executor->generation, memory_order_acquire) == now)
        return;
    FERRY__POINT(executor_anew);
    ferry__lock(&ferry__anew_lock); /* one of the child's threads does it, for all */
    if (atomic_load_explicit(&executor->generation, memory_order_relaxed) != now)
        begin_anew(executor, now);
    ferry__unlock(&ferry__anew_lock);
}

/* ---- The default ones ------------------------------------------------------------------------ */

static _Atomic(ferry_executor *) process_executor;

ferry_executor *ferry_executor_default(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return NULL;
    ferry_loop *loop = ferry__loop_of(ctx);
    _Atomic(ferry_executor *) *place = loop ? &loop->executor : &process_executor;
    ferry_executor *executor = atomic_load(place);
    if (executor) {
        FERRY__POINT(executor_default);
        return executor;
    }
    ferry_executor *fresh;
    if (ferry_executor_new(&fresh, NULL) < 0)
        return NULL;
    if (!atomic_compare_exchange_strong(place, &executor, fresh)) {
        ferry_executor_free(fresh);
        return executor;
    }
    /* Now, that a shutdown that comes later sees it. */
    if (loop && atomic_load(&loop->state) == FERRY__LOOP_DOWN)
        ferry_executor_close(fresh, FERRY_CLOSE_DRAIN);
    return fresh;
}

/* The process's own pool goes with the process; its idle threads are sent home first, so that a
 * tool that looks for leaks at exit finds none. */
__attribute__((destructor)) static void end_of_process(void) {
    ferry_executor *executor = atomic_exchange(&process_executor, NULL);
    if (!executor || ferry__forked(atomic_load(&executor->generation)))
        return;
    ferry__executor_dismiss(executor);
    ferry_executor_free(executor);
}

void ferry__executor_dismiss(ferry_executor *executor) {
    ferry_executor_close(executor, FERRY_CLOSE_DRAIN);
    ferry__pool_idle_out(executor);
}

/* ---- Locks and door -------------------------------------------------------------------------- */

static bool has_door(const ferry_executor *executor) {
    return executor->kind == FERRY__POOL;
}

/* Under both locks. */
static bool empty_door(ferry_executor *executor) {
    struct ferry__work *first = atomic_load_explicit(&executor->in_first, memory_order_relaxed);
    if (!first)
        return false;
    first->prev = executor->last;
    if (executor->last)
        executor->last->next = first;
    else
        executor->first = first;
    executor->last = executor->in_last;
    executor->stats.queued += executor->at_door;
    atomic_store_explicit(&executor->in_first, NULL, memory_order_relaxed);
    executor->in_last = NULL;
    executor->at_door = 0;
    return true;
}

bool ferry__executor_gather(ferry_executor *executor) {
    ferry__lock(&executor->in_lock);
    bool some = empty_door(executor);
    ferry__unlock(&executor->in_lock);
    return some;
}

void ferry__executor_lock(ferry_executor *executor) {
    ferry__lock(&executor->lock);
    if (has_door(executor)) {
        ferry__lock(&executor->in_lock);
        empty_door(executor);
    }
}

void ferry__executor_unlock(ferry_executor *executor) {
    if (has_door(executor)) {
        atomic_store_explicit(&executor->wanted, ferry__pool_wants(executor), memory_order_relaxed);
        ferry__unlock(&executor->in_lock);
    }
    ferry__unlock(&executor->lock);
}

/* ---- The line, under the lock ---------------------------------------------------------------- */

void ferry__line_push(ferry_executor *executor, struct ferry__work *work) {
    work->next = NULL;
    work->ahead = NULL;
    work->prev = executor->last;
    if (work->prev)
        work->prev->next = work;
    else
        executor->first = work;
    executor->last = work;
}

void ferry__executor_enqueue(ferry_executor *executor, struct ferry__job *job,
                             struct ferry__after *after) {
    job->work.state = FERRY__JOB_QUEUED;
    executor->stats.queued++;
    executor->entered++;
    ferry__line_push(executor, &job->work);
    if (executor->kind == FERRY__POOL)
        ferry__pool_rouse(executor, after);
    else if (!after->turn)
        after->turn = ferry__strand_turn(executor);
}

bool ferry__executor_has_place(const ferry_executor *executor) {
    size_t spare =
        executor->kind == FERRY__POOL ? ferry__pool_spare(executor) : ferry__strand_spare(executor);
    return executor->stats.queued < spare || executor->stats.queued - spare < executor->queue_max;
}

void ferry__executor_admit(ferry_executor *executor, struct ferry__after *after) {
    for (struct ferry__waiter *w;
         (w = executor->wait_first) && ferry__executor_has_place(executor);) {
        ferry__line_remove(&executor->wait_first, &executor->wait_last, w);
        if (ferry__claim(w)) {
            ferry__wakes_add(&after->wakes, w);
            ferry__executor_enqueue(executor, w->item, after);
        }
    }
}

void ferry__executor_admit_all(ferry_executor *executor, struct ferry__after *after) {
    empty_door(executor);
    ferry__executor_admit(executor, after);
}

void ferry__executor_refuse(ferry_executor *executor, int64_t code, struct ferry__wakes *wakes) {
    for (struct ferry__waiter *w; (w = executor->wait_first);) {
        ferry__line_remove(&executor->wait_first, &executor->wait_last, w);
        w->value = code;
        if (ferry__claim(w))
            ferry__wakes_add(wakes, w);
    }
}

static bool at_end(const ferry_executor *executor) {
    if (executor->delivering > 0)
        return false;
    switch (executor->kind) {
    case FERRY__POOL:
        return ferry__pool_ended(executor);
    case FERRY__STRAND:
        return ferry__strand_ended(executor);
    case FERRY__INLINE:
        break;
    }
    return executor->stats.running == 0;
}

void ferry__executor_check_end(ferry_executor *executor, struct ferry__wakes *wakes) {
    if (!executor->stop_first || !at_end(executor))
        return;
    for (struct ferry__waiter *w; (w = executor->stop_first);) {
        ferry__line_remove(&executor->stop_first, &executor->stop_last, w);
        if (ferry__claim(w))
            ferry__wakes_add(wakes, w);
    }
}

void ferry__executor_delivered(ferry_executor *executor, size_t n) {
    FERRY__POINT(executor_delivered);
    struct ferry__wakes wakes = {0};
    ferry__executor_lock(executor);
    executor->delivering -= n;
    ferry__executor_check_end(executor, &wakes);
    ferry__executor_unlock(executor);
    ferry__wake_all(&wakes);
}

bool ferry__executor_is_inside(const ferry_executor *executor, const struct ferry__ctx *ctx) {
    if (ctx->kind != FERRY__JOB)
        return false;
    const ferry_executor *own = ((const struct ferry__job *)ctx->self)->executor;
    return own == executor || (own->kind == FERRY__STRAND && ferry__strand_pool(own) == executor) ||
           (executor->kind == FERRY__STRAND && ferry__strand_pool(executor) == own);
}

void ferry__executor_do(ferry_executor *executor, struct ferry__after *after) {
    if (after->turn)
        ferry__pool_turn(ferry__strand_pool(executor), after->turn);
    if (after->wake)
        ferry__pool_wake(executor, after->wake);
    if (after->start)
        ferry__pool_start(executor);
    ferry__wake_all(&after->wakes);
}

/* ---- Closing, stopping, freeing -------------------------------------------------------------- */

/* A job that is queued or runs, with a reference of the caller's; NULL: there is none that
 * wasn't told. */
static struct ferry__job *next_to_cancel(ferry_executor *executor) {
    struct ferry__job *job = NULL;
    ferry__executor_lock(executor);
    for (struct ferry__work *work = executor->first; work && !job; work = work->next)
        if (!work->is_turn)
            job = ferry__container(work, struct ferry__job, work);
    for (struct ferry__work *work = executor->running; work && !job; work = work->next)
        if (!atomic_load(&work->request))
            job = ferry__container(work, struct ferry__job, work);
    if (job)
        ferry_ref(&job->future);
    ferry__executor_unlock(executor);
    return job;
}

static void cancel_all(ferry_executor *executor) {
    for (struct ferry__job *job; (job = next_to_cancel(executor));) {
        FERRY__POINT(close_cancels);
        ferry__job_cancel(&job->future);
        ferry__future_unref(&job->future);
    }
}

int ferry_executor_close(ferry_executor *executor, int mode) {
    if (!executor || mode < FERRY_CLOSE_DRAIN || mode > FERRY_CLOSE_CANCEL)
        return (int)ferry_fail(-EINVAL, "no executor, or an unknown way to close it (%d)", mode);
    ferry__executor_check_fork(executor);
    struct ferry__wakes wakes = {0};
    ferry__executor_lock(executor);
    __atomic_store_n(&executor->closed, true, __ATOMIC_RELAXED);
    if (mode == FERRY_CLOSE_CANCEL)
        __atomic_store_n(&executor->cancelling, true, __ATOMIC_RELAXED);
    ferry__executor_refuse(executor, FERRY_ECLOSED, &wakes);
    ferry__executor_unlock(executor);
    FERRY__POINT(close_marked);
    ferry__wake_all(&wakes);
    if (mode == FERRY_CLOSE_CANCEL)
        cancel_all(executor);
    if (executor->kind != FERRY__POOL)
        return 0;
    for (ferry_executor *strand;
         mode == FERRY_CLOSE_CANCEL && (strand = ferry__pool_untold(executor));) {
        cancel_all(strand);
        ferry__executor_unref(strand);
    }
    ferry__pool_closed(executor);
    return 0;
}

static void list_running(ferry_executor *executor) {
    int64_t now = ferry__now();
    ferry__executor_lock(executor);
    char names[8][FERRY__NAME_MAX];
    long long ages[8];
    size_t listed = 0;
    for (struct ferry__work *work = executor->running; work && listed < 8; work = work->next) {
        const struct ferry__job *job = ferry__container(work, struct ferry__job, work);
        snprintf(names[listed], FERRY__NAME_MAX, "%s", job->future.name);
        ages[listed++] = (long long)((now - job->work.started) / FERRY__MS);
    }
    ferry__executor_unlock(executor);
    for (size_t i = 0; i < listed; i++)
        ferry__log(FERRY_LOG_WARNING, "  '%s' has been running for %lld ms", names[i], ages[i]);
}

static void report_running(ferry_executor *executor, size_t n) {
    ferry__log(FERRY_LOG_WARNING, "executor '%s' still has %zu jobs", executor->name, n);
    list_running(executor);
    ferry_executor *strand;
    for (size_t i = 0; executor->kind == FERRY__POOL && (strand = ferry__pool_at_work(executor, i));
         i++) {
        list_running(strand);
        ferry__executor_unref(strand);
    }
}

/* Waits for the end: 0, -ECANCELED, -ETIMEDOUT, -EDEADLK. *left: jobs that haven't ended. */
static int wait_for_end(ferry_executor *executor, struct ferry__ctx *ctx, int64_t deadline,
                        size_t *left) {
    int rc = 0;
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    ferry__executor_lock(executor);
    if (!at_end(executor)) {
        if (!ferry__may_park(ctx)) {
            ferry__executor_unlock(executor);
            return ferry__can_park(ctx);
        }
        ferry__line_append(&executor->stop_first, &executor->stop_last, &w);
        ferry__executor_unlock(executor);
        rc = ferry__park(&w, executor->name, deadline, 0);
        ferry__executor_lock(executor);
        ferry__line_remove(&executor->stop_first, &executor->stop_last, &w);
    }
    *left = executor->stats.running + executor->stats.queued + executor->delivering;
    ferry__executor_unlock(executor);
    if (rc == 0 && executor->kind == FERRY__POOL)
        ferry__pool_join(executor);
    return rc;
}

size_t ferry__executor_join(ferry_executor *executor, struct ferry__ctx *ctx, int64_t deadline) {
    size_t left;
    if (wait_for_end(executor, ctx, deadline, &left) == 0)
        return 0;
    if (left > 0) /* else threads without a job are on their way out */
        report_running(executor, left);
    return left;
}

int ferry_executor_stop(ferry_executor *executor, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (!executor)
        return (int)ferry_fail(-EINVAL, "no executor to stop");
    if (ferry__executor_is_inside(executor, ctx))
        return (int)ferry__error_say(ctx, -EDEADLK, &say_inside);
    ferry_executor_close(executor, FERRY_CLOSE_DRAIN);
    size_t left;
    int rc = ferry__enter(ctx);
    if (rc == 0)
        rc = wait_for_end(executor, ctx, ferry__deadline(ms), &left);
    if (rc != -ETIMEDOUT)
        return rc;
    if (left > 0)
        report_running(executor, left);
    return (int)left;
}

void ferry_executor_free(ferry_executor *executor) {
    if (!executor)
        return;
    if (atomic_fetch_sub(&executor->owners, 1) == 1)
        ferry_executor_close(executor, FERRY_CLOSE_DRAIN);
    struct ferry__thread *thread = ferry__thread_known();
    if (thread && thread->loop && thread->loop->reserve_of == executor)
        ferry__executor_reserve_end(thread->loop);
    ferry__executor_unref(executor);
}

void ferry_executor_get_stats(ferry_executor *executor, ferry_executor_stats *stats) {
    memset(stats, 0, sizeof *stats);
    if (!executor && !(executor = ferry_executor_default()))
        return;
    ferry__executor_check_fork(executor);
    ferry__executor_lock(executor);
    *stats = executor->stats;
    ferry__executor_unlock(executor);
}

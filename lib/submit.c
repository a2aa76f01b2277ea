/* Submitting: how a job is made, and how it comes to its executor.
 *
 * A job is submitted under the executor's lock: refused when that is closed; queued when there is
 * a place; or its submitter waits in line for a place, in which case whoever frees one queues the
 * job for it. After a close nobody waits: those who did get FERRY_ECLOSED. A pool has a door, where
 * most jobs are left without that lock (executor.c).
 *
 * A job inherits from where it is made: the flag of the region, so that it can be told to stop with
 * it; the values; the earliest deadline; the loop, which is its home.
 *
 * Most jobs are made in calm: by a task or callback of a loop, where no values are set, no deadline
 * stands around and nobody has asked to stop. All that is seen by one look at the context. Their
 * references come out of what the loop and the cell have in reserve, and their records from the
 * thread's own, where those of jobs that ended at home are kept (job.c): what is the same for all
 * plain jobs, those without options, is in there already. A record that is kept holds no
 * references; where other records aren't kept (cache.c), these aren't either. */
#include "config.h"

#include <errno.h>

#include "executor.h"

static struct ferry__detail say_full =
    FERRY__STATIC_DETAIL("the executor's queue is full: submit less at once, or use a larger "
                         "queue_max or FERRY_FULL_WAIT");
static struct ferry__detail say_cancelled = FERRY__STATIC_DETAIL("submitted in a cancelled scope");

/* ---- What a job inherits --------------------------------------------------------------------- */

/* A thread without a scope can't be cancelled: there is nothing to inherit. */
static inline bool may_be_told(const struct ferry__ctx *ctx) {
    return ctx->kind != FERRY__THREAD || ctx->top != &ctx->root;
}

bool ferry__heritage_take(struct ferry__heritage *heritage, struct ferry__ctx *ctx) {
    struct ferry__cell *cell = NULL;
    if (may_be_told(ctx)) {
        cell = ferry__scope_cell(ctx);
        if (!cell)
            return false;
        ferry__cell_ref_here(cell);
    }
    ferry_loop *home = ferry__loop_of(ctx);
    *heritage = (struct ferry__heritage){.cell = cell,
                                         .values = ferry__values_ref(ctx->values),
                                         .home = home,
                                         .deadline = ferry__scope_deadline(ctx),
                                         .here = home && ferry__loop_here(home)};
    if (heritage->here)
        ferry__loop_ref_here(home);
    else if (home)
        ferry__loop_ref(home);
    return true;
}

void ferry__heritage_drop(struct ferry__heritage *heritage) {
    ferry__cell_unref(heritage->cell);
    ferry__values_unref(heritage->values);
    if (heritage->home)
        ferry__loop_unref(heritage->home);
}

/* What a job inherits that is made in calm, without references; false: here isn't such a place, or
 * it has to be looked at more closely. The flags are looked at after the count of cancels was read:
 * whoever cancels sets the flag, counts, and gives the hint that is `asked` last. */
static inline bool is_calm_here(struct ferry__ctx *ctx, struct ferry__heritage *heritage,
                                uint32_t *calm) {
    *calm = atomic_load(&ferry__scope_cancels);
    heritage->home = ferry__loop_of(ctx);
    heritage->cell = NULL;
    if (atomic_load_explicit(&ctx->asked, memory_order_acquire) ||
        ctx->next_deadline != FERRY__NEVER || ctx->values || ctx->kind == FERRY__JOB ||
        !heritage->home)
        return false;
    if (!may_be_told(ctx))
        return true;
    heritage->cell = ctx->top->cell ? ctx->top->cell : ferry__scope_cell(ctx);
    return heritage->cell && !ferry__cell_cancelled(heritage->cell);
}

/* ---- Making one ------------------------------------------------------------------------------ */

/* A record with what is the same for all plain jobs. NULL: out of memory. */
static FERRY__NOINLINE struct ferry__job *fresh(void) {
    struct ferry__job *job = ferry__record_get(sizeof *job);
    if (!job)
        return NULL;
    ferry__zero_words(&job->future, sizeof job->future);
    ferry__job_blank(job);
    job->work.is_turn = false;
    ferry__future_begin(&job->future, FERRY__IS_JOB, NULL, "job"); /* last: debug.c has it then */
    return job;
}

/* One that is kept, or a new one. */
static inline struct ferry__job *blank(struct ferry__thread *thread) {
    struct ferry__cache *cache = &thread->cache;
    return cache->n_jobs > 0 ? cache->jobs[--cache->n_jobs] : fresh();
}

static FERRY__NOINLINE void set_options(struct ferry__job *job, const ferry_job_options *options) {
    job->future.plain = false;
    job->optioned = true;
    job->options = *options;
    if (options->name)
        ferry__future_name(&job->future, options->name);
}

/* What differs from one to the next. It takes the references of the heritage over. */
static inline void fill(struct ferry__job *job, ferry_executor *executor, ferry_fn fn, void *arg,
                        struct ferry__member *member, ferry_loop *home, struct ferry__cell *cell,
                        int64_t deadline, uint32_t calm, bool counted) {
    ferry__future_again(&job->future, home, member);
    job->work.state = FERRY__JOB_WAITING;
    job->fn = fn;
    job->arg = arg;
    job->home = home;
    job->inherited = cell;
    job->work.calm = calm;
    atomic_store_explicit(&job->work.request, FERRY__REQUEST_NONE, memory_order_relaxed);
    job->future.dated = deadline != FERRY__NEVER;
    job->deadline = deadline;
    atomic_store_explicit(&job->runner, 0, memory_order_relaxed);
    job->executor = executor;
    atomic_store_explicit(&job->counted, counted, memory_order_relaxed);
    job->hooked = false;
}

/* In calm. NULL: out of memory. */
static inline struct ferry__job *new_calm(ferry_executor *executor, ferry_fn fn, void *arg,
                                          const ferry_job_options *options,
                                          struct ferry__member *member,
                                          const struct ferry__heritage *heritage, uint32_t calm,
                                          struct ferry__thread *thread) {
    struct ferry__job *job = blank(thread);
    if (!job)
        return NULL;
    if (heritage->cell)
        ferry__cell_ref_here(heritage->cell);
    ferry__loop_ref_here(heritage->home);
    ferry__executor_ref_here(executor, heritage->home);
    ferry__loop_count_here(heritage->home, 1);
    fill(job, executor, fn, arg, member, heritage->home, heritage->cell, FERRY__NEVER, calm, true);
    if (options)
        set_options(job, options);
    return job;
}

/* Takes the references over; NULL: out of memory, and they are still the caller's. Here: on the
 * thread of its home. */
static struct ferry__job *new_job(ferry_executor *executor, ferry_fn fn, void *arg,
                                  const ferry_job_options *options,
                                  const struct ferry__heritage *heritage, bool here,
                                  struct ferry__member *member) {
    struct ferry__job *job = here ? blank(ferry__thread_known()) : fresh();
    if (!job)
        return NULL;
    if (here)
        ferry__executor_ref_here(executor, heritage->home);
    else
        ferry__executor_ref(executor);
    /* Whoever has looked at the region knows better what `calm` is. */
    uint32_t calm = atomic_load(&ferry__scope_cancels) - 1;
    fill(job, executor, fn, arg, member, heritage->home, heritage->cell, heritage->deadline, calm,
         false);
    if (heritage->values) {
        job->values = heritage->values;
        job->future.plain = false;
    }
    if (options)
        set_options(job, options);
    return job;
}

struct ferry__job *ferry__job_new(ferry_executor *executor, ferry_fn fn, void *arg,
                                  const ferry_job_options *options, struct ferry__ctx *ctx,
                                  struct ferry__member *member) {
    struct ferry__heritage heritage;
    if (!ferry__heritage_take(&heritage, ctx))
        return NULL;
    struct ferry__job *job = new_job(executor, fn, arg, options, &heritage, heritage.here, member);
    if (!job)
        ferry__heritage_drop(&heritage);
    return job;
}

struct ferry__job *ferry__job_heir(ferry_executor *executor, ferry_fn fn, void *arg,
                                   const ferry_job_options *options,
                                   const struct ferry__heritage *heritage) {
    struct ferry__job *job = new_job(executor, fn, arg, options, heritage, false, NULL);
    if (!job)
        return NULL;
    ferry__cell_ref(heritage->cell);
    ferry__values_ref(heritage->values);
    if (heritage->home)
        ferry__loop_ref(heritage->home);
    return job;
}

/* ---- Handing it over ------------------------------------------------------------------------- */

static bool is_closed(ferry_executor *executor) {
    if (executor->closed || executor->kind != FERRY__STRAND)
        return executor->closed;
    /* A strand on a closed pool is closed as well. Written once: a stale answer only defers the
     * refusal. */
    return __atomic_load_n(&ferry__strand_pool(executor)->closed, __ATOMIC_RELAXED);
}

static FERRY__NOINLINE void call_thread(ferry_executor *pool) {
    struct ferry__after after = {0};
    ferry__executor_lock(pool);
    ferry__pool_rouse(pool, &after);
    ferry__executor_unlock(pool);
    ferry__executor_after(pool, &after);
}

/* The jobs of one turn of a loop are handed over together, when a thread comes for them anyway
 * should that take long. False: it is to be called now. */
static bool owe(ferry_executor *pool, const struct ferry__job *job,
                const struct ferry__thread *thread) {
    ferry_loop *loop = job->home;
    if (!loop || !ferry__loop_is_on(loop, thread) || !loop->turning)
        return false;
    if (!loop->owed) {
        ferry__executor_ref_here(pool, loop);
        loop->owed = pool;
    }
    return loop->owed == pool;
}

void ferry__executor_owed(ferry_loop *loop) {
    ferry_executor *pool = loop->owed;
    loop->owed = NULL;
    if (!ferry__loop_forked(loop) &&
        atomic_load_explicit(&pool->wanted, memory_order_relaxed) != FERRY__NOBODY)
        call_thread(pool);
    ferry__executor_unref_here(pool, loop);
}

/* Leaves a job that certainly has a place at the pool's door. */
static inline __attribute__((always_inline)) bool
leave_at_door(ferry_executor *pool, struct ferry__job *job, const struct ferry__thread *thread) {
    ferry__lock(&pool->in_lock);
    bool room = !pool->closed && !pool->wait_first;
    if (room && pool->entered - pool->left_seen >= pool->queue_max) {
        pool->left_seen = atomic_load_explicit(&pool->left, memory_order_relaxed);
        room = pool->entered - pool->left_seen < pool->queue_max;
    }
    if (!room) {
        ferry__unlock(&pool->in_lock);
        return false;
    }
    struct ferry__work *work = &job->work;
    work->state = FERRY__JOB_QUEUED;
    work->next = NULL;
    work->prev = pool->in_last;
    if (work->prev)
        work->prev->next = work;
    else
        atomic_store_explicit(&pool->in_first, work, memory_order_relaxed);
    pool->in_last = work;
    work->ahead = NULL;
    if (pool->at_door >= FERRY__AHEAD) {
        pool->in_before->ahead = work;
        pool->in_before = pool->in_before->next;
    } else if (pool->at_door == 0) {
        pool->in_before = work;
    }
    pool->at_door++;
    pool->entered++;
    int wanted = atomic_load_explicit(&pool->wanted, memory_order_relaxed);
    ferry__unlock(&pool->in_lock);
    if (wanted != FERRY__NOBODY && (wanted == FERRY__SOMEBODY || !owe(pool, job, thread)))
        call_thread(pool);
    return true;
}

/* Waits for a place: 0 when the job was queued meanwhile; -ECANCELED; what
 * ferry__executor_refuse() was called with. Called with the lock held, returns without. */
static int64_t wait_for_place(ferry_executor *executor, struct ferry__job *job,
                              struct ferry__ctx *ctx) {
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    w.item = job;
    ferry__line_append(&executor->wait_first, &executor->wait_last, &w);
    ferry__executor_unlock(executor);
    int rc = ferry__park(&w, executor->name, FERRY__NEVER, 0);
    if (rc == 0)
        return w.value;
    ferry__executor_lock(executor);
    ferry__line_remove(&executor->wait_first, &executor->wait_last, &w);
    ferry__executor_unlock(executor);
    return rc;
}

static void submit_locked(ferry_executor *executor, struct ferry__job *job,
                          struct ferry__ctx *ctx) {
    struct ferry__after after = {0};
    struct ferry__job_end refused = {0, NULL};
    ferry__executor_lock(executor);
    if (is_closed(executor)) {
        ferry__executor_unlock(executor);
        refused = (struct ferry__job_end){FERRY_ECLOSED, &ferry__say_closed};
    } else if (ferry__executor_has_place(executor) || ferry__executor_is_inside(executor, ctx)) {
        ferry__executor_enqueue(executor, job, &after);
        ferry__executor_unlock(executor);
        ferry__executor_after(executor, &after);
    } else if (executor->full == FERRY_FULL_REFUSE || !ferry__may_park(ctx)) {
        ferry__executor_unlock(executor);
        refused = (struct ferry__job_end){-EAGAIN, &say_full};
    } else {
        int64_t rc = wait_for_place(executor, job, ctx);
        refused = (struct ferry__job_end){rc, rc == FERRY_ECLOSED ? &ferry__say_closed
                                              : rc == -EAGAIN     ? &ferry__say_no_thread
                                                                  : &say_cancelled};
    }
    if (refused.result < 0)
        ferry__job_finish(job, refused);
}

static FERRY__NOINLINE void submit_slowly(ferry_executor *executor, struct ferry__job *job,
                                          struct ferry__thread *thread) {
    if (executor->kind == FERRY__INLINE)
        ferry__inline_submit(executor, job, thread);
    else
        submit_locked(executor, job, thread->current);
}

static inline __attribute__((always_inline)) void
submit(ferry_executor *executor, struct ferry__job *job, struct ferry__thread *thread) {
    if (executor->kind != FERRY__POOL || !leave_at_door(executor, job, thread))
        submit_slowly(executor, job, thread);
}

static void count(struct ferry__job *job) {
    if (!job->home)
        return;
    atomic_store_explicit(&job->counted, true, memory_order_relaxed);
    if (ferry__loop_here(job->home))
        ferry__loop_count_here(job->home, 1);
    else
        atomic_fetch_add(&job->home->jobs, 1);
}

void ferry__job_submit(struct ferry__job *job) {
    count(job);
    submit(job->executor, job, ferry__thread_known());
}

/* ---- Submitting ------------------------------------------------------------------------------ */

/* As in calm: the flags are looked at after the count of cancels was read. */
static bool may_be_cancelled(const struct ferry__ctx *ctx, const struct ferry__job *job) {
    return atomic_load_explicit(&ctx->asked, memory_order_acquire) ||
           ctx->next_deadline != FERRY__NEVER || ferry__cell_cancelled(job->inherited);
}

static FERRY__NOINLINE ferry_future *submit_any(ferry_executor *executor, ferry_fn fn, void *arg,
                                                const ferry_job_options *options,
                                                struct ferry__member *member,
                                                struct ferry__ctx *ctx) {
    uint32_t calm = atomic_load(&ferry__scope_cancels);
    struct ferry__job *job = ferry__job_new(executor, fn, arg, options, ctx, member);
    if (!job)
        return NULL;
    int rc;
    if (!fn) {
        ferry__job_finish(job, (struct ferry__job_end){-EINVAL, NULL});
    } else if (may_be_cancelled(ctx, job) && ferry__region_cancelled(ctx)) {
        ferry__job_finish(job, (struct ferry__job_end){-ECANCELED, &say_cancelled});
    } else if (options && options->limiter &&
               (rc = ferry__token_take(options->limiter, options->key, &job->token)) < 0) {
        ferry__job_finish(job, (struct ferry__job_end){rc, ferry__error_take(ctx, rc)});
    } else {
        job->work.calm = calm;
        ferry__job_submit(job);
    }
    return &job->future;
}

FERRY__NOINLINE ferry_future *ferry__submit_member(ferry_executor *executor, ferry_fn fn, void *arg,
                                                   const ferry_job_options *options,
                                                   struct ferry__member *member) {
    struct ferry__thread *thread = ferry__thread_self();
    if (!thread || (!executor && !(executor = ferry_executor_default())))
        return NULL;
    ferry__executor_check_fork(executor);
    struct ferry__heritage heritage;
    uint32_t calm;
    if (!fn || (options && options->limiter) || !is_calm_here(thread->current, &heritage, &calm))
        return submit_any(executor, fn, arg, options, member, thread->current);
    struct ferry__job *job = new_calm(executor, fn, arg, options, member, &heritage, calm, thread);
    if (!job)
        return NULL;
    submit(executor, job, thread);
    return &job->future;
}

ferry_future *ferry_submit_with(ferry_executor *executor, ferry_fn fn, void *arg,
                                const ferry_job_options *options) {
    return ferry__submit_member(executor, fn, arg, options, NULL);
}

ferry_future *ferry_submit(ferry_executor *executor, ferry_fn fn, void *arg) {
    return ferry__submit_member(executor, fn, arg, NULL, NULL);
}

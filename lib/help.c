/* Workers that don't use their place.
 *
 * A worker whose job waits for a handle: the pool may have one thread more meanwhile (blocked).
 * When the job awaits one that is still in the line, without a bound in time, the worker runs that
 * one itself instead.
 *
 * A worker whose job was given up (lost) may never come back: the pool may have one thread more for
 * each of them, as many as replacements_max says. Who is both blocked and lost counts as blocked.
 * When they come back, the surplus leaves (threads.c).
 *
 * All of it is under the pool's lock, or both of its locks where somebody may have to be called. */
#include "config.h"

#include "threads.h"

#define HELP_DEPTH 32 /* a job that runs another one while it waits, and so on: bounded by the
                       * stack */

/* Only a wait that nothing ends but the job itself, or a cancel that is passed on: for any other
 * the worker must stay able to leave it. */
static bool waits_without_bound(const struct ferry__ctx *ctx, int64_t deadline) {
    if (deadline != FERRY__NEVER || ctx->next_deadline != FERRY__NEVER)
        return false;
    for (const ferry_scope *s = ctx->top; s->outer; s = s->outer)
        /* a shield, or a scope that somebody may cancel; a group tells its members itself */
        if (!s->group)
            return false;
    return true;
}

/* Whether the job is in a line that nobody comes to before the waiting one has ended. Under the
 * executor's lock. */
static bool stuck_behind(const struct ferry__job *job, const struct ferry__job *waiting,
                         const struct ferry__threads *pool) {
    if (job->work.state != FERRY__JOB_QUEUED)
        return false;
    if (job->executor == &pool->base)
        return !pool->idle && !pool->searching;
    return job->executor == waiting->executor && job->executor->kind == FERRY__STRAND &&
           ferry__strand_full(job->executor);
}

static void count_helped(struct ferry__threads *pool, ferry_executor *executor, bool begins) {
    if (executor->kind == FERRY__STRAND)
        ferry__strand_helped(executor, begins);
    else
        pool->helped = begins ? pool->helped + 1 : pool->helped - 1;
}

bool ferry__worker_help(struct ferry__ctx *ctx, ferry_future *f, int64_t deadline) {
    struct ferry__worker *w = ctx->thread->worker;
    if (!w || f->kind != FERRY__IS_JOB || w->helping >= HELP_DEPTH ||
        !waits_without_bound(ctx, deadline))
        return false;
    struct ferry__job *job = (struct ferry__job *)f;
    const struct ferry__job *waiting = (const struct ferry__job *)ctx->self;
    ferry_executor *executor = job->executor; /* ours as long as the handle is the caller's */
    struct ferry__after after = {0};
    ferry__executor_lock(executor);
    bool mine = stuck_behind(job, waiting, w->pool);
    if (mine) {
        ferry__executor_began(executor, ferry__executor_take(executor, &job->work));
        count_helped(w->pool, executor, true);
        ferry__executor_admit(executor, &after);
    }
    ferry__executor_unlock(executor);
    ferry__executor_after(executor, &after);
    if (!mine)
        return false;
    FERRY__POINT(worker_help);
    w->helping++;
    struct ferry__job_end end = ferry__job_run_for(ctx, job);
    w->helping--;
    ferry__lock(&executor->lock);
    ferry__executor_ended(executor, job);
    count_helped(w->pool, executor, false);
    executor->delivering++;
    ferry__unlock(&executor->lock);
    if (job->work.abandoned) {
        ferry__lock(&w->pool->base.lock);
        ferry__worker_found(w->pool, w, job);
        ferry__unlock(&w->pool->base.lock);
    }
    ferry__job_finish(job, end);
    ferry__executor_delivered(executor, 1);
    return true;
}

void ferry__worker_blocked(struct ferry__ctx *ctx) {
    struct ferry__worker *w = ctx->thread->worker;
    if (!w)
        return;
    ferry_executor *executor = &w->pool->base;
    struct ferry__after after = {0};
    ferry__executor_lock(executor);
    w->blocked = true;
    w->pool->blocked++;
    if (w->lost)
        w->pool->lost--;
    ferry__pool_rouse(executor, &after);
    ferry__executor_unlock(executor);
    ferry__executor_after(executor, &after);
}

void ferry__worker_unblocked(struct ferry__ctx *ctx) {
    struct ferry__worker *w = ctx->thread->worker;
    if (!w)
        return;
    ferry__lock(&w->pool->base.lock);
    w->blocked = false;
    w->pool->blocked--;
    if (w->lost)
        w->pool->lost++;
    ferry__unlock(&w->pool->base.lock);
}

ferry_executor *ferry__worker_lost(const struct ferry__job *job, struct ferry__after *after) {
    if (job->executor->kind == FERRY__INLINE)
        return NULL;
    struct ferry__worker *w = job->thread->worker;
    ferry_executor *executor = &w->pool->base;
    ferry__executor_lock(executor);
    if (w->lost++ == 0 && !w->blocked)
        w->pool->lost++;
    ferry__pool_rouse(executor, after);
    ferry__executor_unlock(executor);
    return executor;
}

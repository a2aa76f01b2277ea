/* Jobs: one blocking call each, and how it is told to stop.
 *
 *     WAITING -> QUEUED -> TAKEN     under the executor's lock; whoever takes it, a thread or a
 *                                    cancel, decides whether fn ever runs
 *
 * A running job is told by its flag (request), a kick of its thread, the signal that it asked for,
 * and its interrupt hook. Between the cancel and the end of fn stands `runner`: 0, the thread that
 * runs fn, or that thread marked as told. The thread sets it and then looks at the request; who
 * cancels sets the request and then tries to mark the runner: so one of the two sees the other.
 * Once fn has returned the thread takes itself out again, in one step when it wasn't told, without
 * any lock. When it was, it takes hook_lock, under which the canceller works, clears `thread` and
 * waits for a hook that is busy. So the hook never runs after fn, and never twice.
 *
 * Who has no options (plain) has neither signal nor hook: it is told by its flag, which each of its
 * calls looks at, and needs a kick only while it sleeps. So its thread sets `runner` when fn is
 * about to sleep for the first time, and looks at the request after that; mostly never.
 *
 * A job whose thread runs another one while it waits for that (help.c) passes on what it is told:
 * the wait owns what it waits for, but can't see the request.
 *
 * References on the handle: the user's; the running side's, until fn has ended (also of an
 * abandoned job); the patience timer's. The record goes with the last; then arg_free runs, on the
 * home loop's thread where there is one.
 *
 * The end. Who waits is mostly a task or a callback of the loop that the job was submitted from
 * (home). Then the job's thread only decides the handle and sends it home by the inbox: all the
 * rest is done there, so that nothing but the handle's first line goes to and fro between the
 * processors. A worker holds a reference on the loop that it works for (client) as long as it
 * doesn't rest, because a loop may have come to its end before the send has.
 *
 * counted: the home loop counts it as its own from the submit until it has ended or was
 * abandoned, whichever comes first.
 *
 * Plain jobs have neither options nor inherited values. When a job ends where it came from, its
 * record stays for the next (submit.c), as that of a plain one, once it has given its references
 * back. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>

#include "executor.h"

#define TOLD ((uintptr_t)1) /* of a runner */

static struct ferry__detail say_never = FERRY__STATIC_DETAIL("cancelled before it began");
static struct ferry__detail say_abandoned =
    FERRY__STATIC_DETAIL("given up: it doesn't stop, and its thread runs on");

static struct ferry__job *job_of(struct ferry__item *item) {
    return ferry__container(item, struct ferry__job, future.item);
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* False: it was given up before. */
static bool still_counted(struct ferry__job *job) {
    if (job->optioned) /* else nobody can have given it up */
        return atomic_exchange(&job->counted, false);
    return atomic_load_explicit(&job->counted, memory_order_relaxed);
}

static void uncount(struct ferry__job *job) {
    if (!still_counted(job))
        return;
    atomic_fetch_sub(&job->home->jobs, 1);
    /* A loop that sleeps and has no jobs left has to see whether there is anything else it can
     * wait for. */
    if (ferry__inbox_sleeps(&job->home->inbox) && ferry__loop_jobs(job->home) == 0)
        ferry__loop_expect(job->home);
}

static inline void keep(struct ferry__job *job, struct ferry__cache *cache) {
    /* Those that debug.c has seen aren't among them: it is to see each one made. */
    if (cache->n_jobs < cache->most_kept && !job->future.origin)
        cache->jobs[cache->n_jobs++] = job;
    else
        ferry__record_put(job, sizeof *job);
}

static void job_free(struct ferry__job *job) {
    if (ferry__job_options(job)->arg_free)
        ferry__job_options(job)->arg_free(job->arg);
    struct ferry__thread *thread = ferry__thread_known();
    ferry_loop *home = job->home;
    if (home && ferry__loop_is_on(home, thread)) {
        ferry__job_blank(job);
        keep(job, &thread->cache);
        ferry__loop_unref_here(home);
    } else {
        ferry__record_put(job, sizeof *job);
        if (home)
            ferry__loop_unref(home);
    }
}

static void free_on_loop(ferry_loop *loop, struct ferry__item *item) {
    (void)loop; /* a turn holds a reference of its own */
    job_free(job_of(item));
}

static void free_anywhere(struct ferry__item *item) {
    job_free(job_of(item));
}

static inline void give_back(struct ferry__job *job, bool here) {
    if (here) {
        if (job->inherited)
            ferry__cell_unref_here(job->inherited, job->home);
        ferry__executor_unref_here(job->executor, job->home);
    } else {
        ferry__cell_unref(job->inherited);
        ferry__executor_unref(job->executor);
    }
}

static FERRY__NOINLINE void destroy(struct ferry__job *job, bool here) {
    give_back(job, here);
    ferry__values_unref(job->values);
    if (ferry__job_options(job)->arg_free && job->home && !here) {
        job->future.item.run = free_on_loop;
        job->future.item.drop = free_anywhere;
        /* The loop may take the item, and with it the job's reference, before the send is over. */
        ferry_loop *home = job->home;
        ferry__loop_ref(home);
        bool sent = ferry__loop_send(home, &job->future.item);
        ferry__loop_unref(home);
        if (sent)
            return;
    }
    job_free(job);
}

void ferry__job_destroy(ferry_future *f) {
    struct ferry__job *job = (struct ferry__job *)f;
    struct ferry__thread *thread = ferry__thread_known();
    ferry_loop *home = job->home;
    bool here = home && ferry__loop_is_on(home, thread);
    if (!here || !f->plain) {
        destroy(job, here);
        return;
    }
    give_back(job, true);
    keep(job, &thread->cache);
    ferry__loop_unref_here(home);
}

void ferry__job_deliver(ferry_future *f, int64_t result) {
    struct ferry__job *job = (struct ferry__job *)f;
    if (!f->plain && ferry__job_options(job)->deliver && !atomic_exchange(&f->delivered, true))
        ferry__job_options(job)->deliver(job->arg, result);
}

/* First: who was waiting for the end may submit the next one. */
static void give_token(struct ferry__job *job) {
    if (!job->future.plain && job->token)
        ferry__token_put(job->token);
}

static void home_run(ferry_loop *loop, struct ferry__item *item) {
    struct ferry__job *job = job_of(item);
    /* The next one's record is used again soon. (It may be something else than a job's.) */
    struct ferry__item *next = loop->inbox.first;
    if (next)
        ferry__prefetch_to_write(&job_of(next)->work);
    if (still_counted(job))
        ferry__loop_count_here(loop, -1); /* it is awake, and sees for itself */
    ferry__future_tell_home(&job->future, loop); /* a turn holds the loop itself */
}

static void home_drop(struct ferry__item *item) {
    struct ferry__job *job = job_of(item);
    uncount(job);
    ferry__future_drop_home(&job->future);
}

static void done_run(ferry_loop *loop, struct ferry__item *item) {
    ferry__future_tell_home(&job_of(item)->future, loop);
}

static void done_drop(struct ferry__item *item) {
    ferry__future_drop_home(&job_of(item)->future);
}

void ferry__job_send_home(ferry_future *f) {
    ferry_ref(f); /* the item's; the caller's keeps the job, and with it the loop, meanwhile */
    f->item.run = done_run;
    f->item.drop = done_drop;
    if (!ferry__loop_send(f->home, &f->item))
        done_drop(&f->item);
}

void ferry__job_no_client(struct ferry__thread *thread) {
    ferry_loop *client = thread->client;
    thread->client = NULL;
    if (client)
        ferry__loop_unref(client);
}

void ferry__job_finish_at_home(struct ferry__job *job, struct ferry__job_end end,
                               struct ferry__thread *thread) {
    ferry_loop *home = job->home;
    if (!home) {
        ferry__job_finish(job, end);
        return;
    }
    give_token(job);
    /* The loop may take the item, and with it the job's reference, before the send is over. */
    if (thread->client != home) {
        ferry__job_no_client(thread);
        ferry__loop_ref(home);
        thread->client = home;
    }
    bool left;
    ferry__future_decide(&job->future, end.result, end.detail, &left);
    FERRY__POINT(job_done);
    if (left) {
        job->future.item.run = home_run;
        job->future.item.drop = home_drop;
        if (!ferry__inbox_put(&home->inbox, &job->future.item))
            home_drop(&job->future.item);
        return;
    }
    uncount(job);
    ferry__future_unref(&job->future);
}

void ferry__job_finish(struct ferry__job *job, struct ferry__job_end end) {
    give_token(job);
    ferry__future_complete(&job->future, end.result, end.detail);
    FERRY__POINT(job_done);
    uncount(job);
    ferry__future_unref(&job->future);
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Lets the job's signal through; true when it was blocked before. */
static bool admit_signal(const struct ferry__job *job) {
    int signo = ferry__job_options(job)->interrupt_signal;
    sigset_t set, before;
    if (signo <= 0 || sigemptyset(&set) < 0 || sigaddset(&set, signo) < 0)
        return false;
    pthread_sigmask(SIG_UNBLOCK, &set, &before);
    return sigismember(&before, signo) == 1;
}

static void shut_out_signal(const struct ferry__job *job, bool was_blocked) {
    int signo = ferry__job_options(job)->interrupt_signal;
    /* One that was sent is delivered when a system call returns, at the latest: now, and not to
     * the thread's next job. */
    if (signo > 0 && job->hooked)
        sched_yield();
    if (!was_blocked)
        return;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void no_more_hooks(struct ferry__job *job, const struct ferry__heir *heir) {
    uintptr_t untold = (uintptr_t)heir->ctx.thread;
    if (!heir->is_runner)
        return;
    if (atomic_compare_exchange_strong(&job->runner, &untold, 0))
        return; /* nobody has told it, and nobody will */
    ferry__lock(&job->hook_lock);
    job->thread = NULL;
    struct ferry__service_timer *patience = job->patience;
    job->patience = NULL;
    ferry__unlock(&job->hook_lock);
    while (__atomic_load_n(&job->hook_busy, __ATOMIC_ACQUIRE))
        ferry__futex_wait(&job->hook_busy, 1, FERRY__NEVER);
    if (patience) {
        ferry__service_cancel(patience);
        ferry__future_unref(&job->future);
    }
}

void ferry__job_listen(struct ferry__heir *heir) {
    if (heir->is_runner)
        return;
    heir->is_runner = true;
    atomic_store(&((struct ferry__job *)heir->ctx.self)->runner, (uintptr_t)heir->ctx.thread);
}

/* No deadline, no request, and no flag was set since it was submitted. */
static bool nothing_to_see(const struct ferry__job *job) {
    return !job->future.dated && !ferry__job_request(&job->future) &&
           job->work.calm == atomic_load(&ferry__scope_cancels);
}

struct ferry__job_end ferry__job_run(struct ferry__job *job, struct ferry__thread *thread) {
    FERRY__POINT(job_taken);
    struct ferry__heir heir;
    struct ferry__ctx *ctx = &heir.ctx;
    ferry__ctx_init(ctx, FERRY__JOB);
    ctx->thread = thread;
    ctx->self = &job->future;
    ctx->loop = job->home;
    heir.inherited = job->inherited;
    heir.calm = job->work.calm;
    heir.listens = 0;
    heir.is_runner = false;
    bool was_blocked = false, plain = job->future.plain;
    if (!plain) {
        ctx->values = job->values;
        job->values = NULL;
        was_blocked = admit_signal(job);
    }
    int64_t deadline = job->future.dated ? job->deadline : FERRY__NEVER;
    ctx->root.deadline = ctx->next_deadline = deadline;
    atomic_store_explicit(&ctx->asked, 1, memory_order_relaxed);
    struct ferry__ctx *outer = thread->current;
    thread->current = ctx;
    struct ferry__job_end end = {-ECANCELED, &say_never};
    if (!plain)
        ferry__job_listen(&heir);
    FERRY__POINT(job_began);
    /* A request that came before had nobody to tell: it is seen here. */
    if (nothing_to_see(job) ||
        !ferry__scope_look(ctx, deadline == FERRY__NEVER ? 0 : ferry__now())) {
        end.result = job->fn(job->arg);
        end.detail = end.result < 0 ? ferry__error_take(ctx, end.result) : NULL;
    }
    FERRY__POINT(job_returned);
    no_more_hooks(job, &heir);
    if (!plain)
        shut_out_signal(job, was_blocked);
    ferry__ctx_end(ctx);
    thread->current = outer;
    return end;
}

/* ---- Telling it to stop ---------------------------------------------------------------------- */

int ferry__job_request(const ferry_future *f) {
    return atomic_load(&((const struct ferry__job *)f)->work.request);
}

void ferry__job_ask(struct ferry__job *job) {
    uint8_t none = FERRY__REQUEST_NONE;
    atomic_compare_exchange_strong(&job->work.request, &none, FERRY__REQUEST_CANCEL);
}

static void abandon(struct ferry__job *job) {
    struct ferry__after after = {0};
    ferry_executor *pool = NULL;
    ferry__lock(&job->hook_lock);
    bool mine = job->thread && !job->work.abandoned;
    if (mine) { /* counted before the worker can get to the end of the job */
        job->work.abandoned = true;
        ferry__lock(&job->executor->lock);
        job->executor->stats.abandoned++;
        ferry__unlock(&job->executor->lock);
        pool = ferry__worker_lost(job, &after);
    }
    ferry__unlock(&job->hook_lock);
    if (!mine)
        return;
    ferry__log(FERRY_LOG_WARNING, "'%s' was given up: it doesn't stop; its thread runs on",
               job->future.name);
    FERRY__POINT(job_abandoned);
    ferry__future_complete(&job->future, -ECANCELED, &say_abandoned);
    uncount(job);
    if (pool) /* it stays as long as the job, which is the caller's */
        ferry__executor_after(pool, &after);
}

static void patience_over(void *arg) {
    abandon(arg);
}

/* With ABANDON: now, or when its grace is over. */
static void lose_patience(struct ferry__job *job) {
    if (ferry__job_options(job)->grace_ms > 0) {
        ferry_ref(&job->future);
        struct ferry__service_timer *timer = ferry__service_at(
            ferry__deadline(ferry__job_options(job)->grace_ms), patience_over, job);
        if (timer) {
            FERRY__POINT(job_patience);
            ferry__lock(&job->hook_lock);
            bool running = job->thread != NULL;
            if (running)
                job->patience = timer;
            ferry__unlock(&job->hook_lock);
            if (!running) {
                ferry__service_cancel(timer);
                ferry__future_unref(&job->future);
            }
            return;
        }
        ferry__future_unref(&job->future);
    }
    abandon(job);
}

/* The job runs, or is about to. */
static void tell(struct ferry__job *job) {
    struct ferry__job *helping = NULL;
    ferry__lock(&job->hook_lock);
    uintptr_t runner = atomic_load(&job->runner);
    bool mine = runner && !(runner & TOLD) &&
                atomic_compare_exchange_strong(&job->runner, &runner, runner | TOLD);
    bool hook = mine && ferry__job_options(job)->interrupt;
    if (mine) {
        job->hooked = true;
        job->thread = (struct ferry__thread *)runner;
        helping = job->helping;
        if (helping)
            ferry_ref(&helping->future);
        ferry__thread_kick(job->thread);
        if (ferry__job_options(job)->interrupt_signal > 0)
            pthread_kill(job->thread->pthread, ferry__job_options(job)->interrupt_signal);
        if (hook)
            __atomic_store_n(&job->hook_busy, 1, __ATOMIC_RELAXED);
    }
    ferry__unlock(&job->hook_lock);
    FERRY__POINT(job_hook);
    if (hook) {
        ferry__job_options(job)->interrupt(job->arg);
        __atomic_store_n(&job->hook_busy, 0, __ATOMIC_RELEASE);
        ferry__futex_wake(&job->hook_busy, 1);
    }
    if (helping) {
        ferry__job_cancel(&helping->future);
        ferry__future_unref(&helping->future);
    }
    if (mine && ferry__job_options(job)->policy == FERRY_JOB_ABANDON)
        lose_patience(job);
}

struct ferry__job_end ferry__job_run_for(struct ferry__ctx *ctx, struct ferry__job *job) {
    struct ferry__job *waiting = (struct ferry__job *)ctx->self;
    ferry__job_listen(ferry__heir_of(ctx));
    ferry__lock(&waiting->hook_lock);
    waiting->helping = job;
    ferry__unlock(&waiting->hook_lock);
    FERRY__POINT(job_helping);
    /* Who told it before that didn't tell this one. */
    if (ferry__job_request(ctx->self))
        ferry__job_cancel(&job->future);
    struct ferry__job_end end = ferry__job_run(job, ctx->thread);
    ferry__lock(&waiting->hook_lock);
    waiting->helping = NULL;
    ferry__unlock(&waiting->hook_lock);
    return end;
}

int ferry__job_cancel(ferry_future *f) {
    struct ferry__job *job = (struct ferry__job *)f;
    ferry_ref(f); /* the hook may lead to the end of everybody else's */
    ferry__job_ask(job);
    FERRY__POINT(job_requested);
    ferry_executor *executor = job->executor;
    struct ferry__after after = {0};
    ferry__executor_lock(executor);
    bool taken = job->work.state == FERRY__JOB_QUEUED;
    if (taken) {
        ferry__executor_take(executor, &job->work);
        executor->stats.cancelled++;
        executor->delivering++;
        ferry__executor_admit(executor, &after);
    }
    ferry__executor_unlock(executor);
    ferry__executor_after(executor, &after);
    if (taken) {
        ferry__job_finish(job, (struct ferry__job_end){-ECANCELED, &say_never});
        ferry__executor_delivered(executor, 1);
    } else {
        FERRY__POINT(job_tell);
        tell(job);
    }
    ferry__future_unref(f);
    return taken ? FERRY_CANCEL_NEVER_RAN : FERRY_CANCEL_ASKED;
}

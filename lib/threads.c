/* Pools: threads that are made when they are needed, and leave when they aren't.
 *
 * One lock guards the line, the threads' counts and the list of idle threads.
 *
 * Wake-ups are counted. A thread that was woken or made for a job and hasn't got to the line yet is "searching";
 * there is at most one. A submit wakes (or makes) one only when none is searching; the one that finds a job passes
 * the baton: if there is more in the line, it wakes the next. So a burst of submits costs one wake-up, and no job waits
 * while a thread that may run it is idle or may be made:
 *
 *     line not empty  =>  somebody searches, or all threads are busy and there are as many as may be
 *
 * holds whenever the lock is free. A busy thread looks at the line before it goes idle, under the same lock.
 *
 * A worker: SEARCHING -> BUSY <-> (line) -> IDLE -> SEARCHING ... -> gone. It is idle, on the list, before it delivers
 * the result of its last job: who submits from there gets the same thread again. The list is last in, first out,
 * so that threads that aren't needed stay at its end, and leave after idle_ms.
 *
 * A worker whose job waits for a handle doesn't use its place: the pool may have one thread more meanwhile
 * (blocked). Surplus threads leave when they come to the line.
 *
 * When the system makes no thread there are fewer; only when there is none at all, the jobs in the line fail.
 *
 * Threads are joined: each one that leaves joins the one that left before it, and ferry__pool_join() the last. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"

#define THREADS_MAX 32
#define IDLE_MS 10000
#define STACK_SIZE ((size_t)1024 * 1024)
#define HELP_DEPTH 32 /* a job that runs another one while it waits, and so on: bounded by the stack */

struct ferry__worker {
    struct pool *pool;
    pthread_t pthread;                  /* own; read by who joins it */
    struct ferry__worker *above, *below; /* on the list of idle ones; under the lock */
    bool idle;                          /* on that list; under the lock */
    bool searching;                     /* under the lock */
    bool counted;                       /* among the sleeping threads of the process; under the lock */
    uint32_t called;                    /* futex word: 1 when it is to look at the line */
    int helping;                        /* own: depth of jobs run while waiting */
};

struct pool {
    ferry_executor base; /* first */
    size_t threads_min, threads_max;
    int64_t idle_ms;
    size_t stack_size;
    size_t threads;              /* from here: under the lock */
    size_t searching;            /* 0 or 1 */
    size_t blocked;
    struct ferry__worker *idle;  /* the one that became idle last */
    bool has_left;               /* `left` is to be joined */
    pthread_t left;
    unsigned number;             /* for the threads' names */
    uint32_t departures;         /* futex word: counted up when a thread leaves */
};

static struct ferry__detail say_no_thread = FERRY__STATIC_DETAIL(
    "no thread could be made for the job (pthread_create failed) and the pool has none: look at the limits of "
    "processes, threads and memory");

static _Atomic long sleeping_threads;

long ferry__threads_idle(void) {
    return atomic_load(&sleeping_threads);
}

static struct pool *pool_of(ferry_executor *executor) {
    return (struct pool *)executor;
}

int ferry_executor_new(ferry_executor **out, const ferry_executor_options *options) {
    *out = NULL;
    int rc = ferry__executor_check(options);
    if (rc < 0)
        return rc;
    if (options && options->threads_max < 1)
        return (int)ferry_fail(-EINVAL, "executor '%s' with threads_max %d: at least one thread is needed",
                               options->name ? options->name : "ferry", options->threads_max);
    struct pool *pool = ferry__calloc(1, sizeof *pool);
    if (!pool)
        return -ENOMEM;
    ferry__executor_init(&pool->base, FERRY__POOL, options, "ferry");
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    pool->threads_max = cpus < 1 ? 5 : cpus + 4 > THREADS_MAX ? THREADS_MAX : (size_t)cpus + 4;
    pool->idle_ms = IDLE_MS;
    pool->stack_size = STACK_SIZE;
    if (options) {
        pool->threads_max = (size_t)options->threads_max;
        pool->threads_min = (size_t)options->threads_min;
        if (options->idle_ms)
            pool->idle_ms = options->idle_ms;
        if (options->stack_size)
            pool->stack_size = options->stack_size;
    }
    *out = &pool->base;
    return 0;
}

void ferry__pool_destroy(ferry_executor *executor) {
    struct pool *pool = pool_of(executor);
    if (pool->has_left) {
        if (pthread_equal(pool->left, pthread_self()))
            pthread_detach(pool->left);
        else
            pthread_join(pool->left, NULL);
    }
    ferry__free(pool);
}

void ferry__pool_forked(ferry_executor *executor) {
    struct pool *pool = pool_of(executor);
    pool->threads = pool->searching = pool->blocked = 0;
    pool->idle = NULL;
    pool->has_left = false;
    atomic_store(&sleeping_threads, 0);
}

/* ---- Idle threads, under the lock ----------------------------------------------------------------------- */

static void idle_add(struct pool *pool, struct ferry__worker *w) {
    w->above = NULL;
    w->below = pool->idle;
    if (w->below)
        w->below->above = w;
    pool->idle = w;
    w->idle = true;
    pool->base.stats.idle++;
}

static void idle_remove(struct pool *pool, struct ferry__worker *w) {
    if (w->above)
        w->above->below = w->below;
    else
        pool->idle = w->below;
    if (w->below)
        w->below->above = w->above;
    w->idle = false;
    pool->base.stats.idle--;
    if (w->counted) {
        w->counted = false;
        atomic_fetch_sub(&sleeping_threads, 1);
    }
}

static size_t limit(const struct pool *pool) {
    return pool->threads_max + pool->blocked;
}

/* Makes sure that somebody searches, if there is something to find and somebody to do it. */
void ferry__pool_rouse(ferry_executor *executor, struct ferry__after *after) {
    struct pool *pool = pool_of(executor);
    if (pool->searching || !executor->first || after->wake || after->start)
        return;
    struct ferry__worker *w = pool->idle;
    if (w) {
        idle_remove(pool, w);
        w->searching = true;
        pool->searching = 1;
        after->wake = w;
    } else if (pool->threads < limit(pool)) {
        pool->searching = 1;
        pool->threads++;
        executor->stats.threads++;
        if (executor->stats.threads > executor->stats.threads_peak)
            executor->stats.threads_peak = executor->stats.threads;
        ferry__executor_ref(executor);
        after->start = true;
    }
}

void ferry__pool_wake(ferry_executor *executor, struct ferry__worker *worker) {
    (void)executor;
    __atomic_store_n(&worker->called, 1, __ATOMIC_RELEASE);
    ferry__futex_wake(&worker->called, 1);
}

void ferry__pool_turn(ferry_executor *executor, struct ferry__work *turn) {
    struct ferry__after after = {0};
    ferry__lock(&executor->lock);
    ferry__line_push(executor, turn);
    ferry__pool_rouse(executor, &after);
    ferry__unlock(&executor->lock);
    ferry__executor_after(executor, &after);
}

bool ferry__pool_ended(const ferry_executor *executor) {
    return ((const struct pool *)executor)->threads == 0 && !executor->first;
}

void ferry__pool_closed(ferry_executor *executor) {
    struct pool *pool = pool_of(executor);
    struct ferry__wakes wakes = {0};
    ferry__lock(&executor->lock);
    for (struct ferry__worker *w; (w = pool->idle);) {
        idle_remove(pool, w);
        /* Under the lock: once it is dropped, the thread may leave. */
        ferry__pool_wake(executor, w);
    }
    ferry__executor_check_end(executor, &wakes);
    ferry__unlock(&executor->lock);
    ferry__wake_all(&wakes);
}

void ferry__pool_join(ferry_executor *executor) {
    struct pool *pool = pool_of(executor);
    ferry__lock(&executor->lock);
    bool join = pool->has_left;
    pthread_t left = pool->left;
    pool->has_left = false;
    ferry__unlock(&executor->lock);
    if (join)
        pthread_join(left, NULL);
}

void ferry__pool_idle_out(ferry_executor *executor) {
    struct pool *pool = pool_of(executor);
    for (;;) {
        uint32_t seen = __atomic_load_n(&pool->departures, __ATOMIC_ACQUIRE);
        ferry__lock(&executor->lock);
        bool busy_only = pool->threads <= executor->stats.running;
        ferry__unlock(&executor->lock);
        if (busy_only)
            break;
        ferry__futex_wait(&pool->departures, seen, FERRY__NEVER);
    }
    ferry__pool_join(executor);
}

/* ---- Working -------------------------------------------------------------------------------------------- */

enum step { BUSY, IDLE, LEAVE };

static bool surplus(const struct pool *pool) {
    return pool->threads > limit(pool);
}

/* Nothing to do, under the lock. */
static enum step rest(struct pool *pool, struct ferry__worker *w) {
    if (pool->base.closed || surplus(pool))
        return LEAVE;
    idle_add(pool, w);
    return IDLE;
}

/* Takes the first of the line; the baton is passed. */
static enum step look(struct pool *pool, struct ferry__worker *w, struct ferry__work **work) {
    ferry_executor *executor = &pool->base;
    struct ferry__after after = {0};
    ferry__lock(&executor->lock);
    if (w->searching)
        pool->searching = 0;
    w->searching = false;
    enum step step = BUSY;
    *work = executor->first;
    if (!*work || surplus(pool)) {
        step = *work ? LEAVE : rest(pool, w);
    } else if ((*work)->strand) {
        ferry__line_take(executor, *work);
        executor->stats.running++;
    } else {
        ferry__executor_began(executor, ferry__executor_take(executor, *work, &after));
    }
    if (step == BUSY)
        ferry__pool_rouse(executor, &after);
    ferry__unlock(&executor->lock);
    ferry__executor_after(executor, &after);
    return step;
}

/* Runs what was taken. It is idle, if it will be, before the result is delivered. */
static enum step run(struct pool *pool, struct ferry__worker *w, struct ferry__work *work,
                     struct ferry__thread *thread) {
    ferry_executor *executor = &pool->base;
    struct ferry__job *job = NULL;
    struct ferry__job_end end = {0, NULL};
    bool turn = work->strand != NULL;
    if (turn) {
        ferry__strand_run(work, &job, &end, thread);
    } else {
        job = ferry__container(work, struct ferry__job, work);
        end = ferry__job_run(job, thread);
    }
    ferry__lock(&executor->lock);
    if (turn)
        executor->stats.running--;
    else
        ferry__executor_ended(executor, job);
    enum step step = executor->first ? BUSY : rest(pool, w);
    ferry__unlock(&executor->lock);
    if (job)
        ferry__job_finish(job, end);
    return step;
}

/* False: nobody called for idle_ms, and it is off the list. */
static bool sleep_until_called(struct pool *pool, struct ferry__worker *w) {
    ferry_executor *executor = &pool->base;
    ferry__lock(&executor->lock);
    if (w->idle) {
        w->counted = true;
        atomic_fetch_add(&sleeping_threads, 1);
    }
    ferry__unlock(&executor->lock);
    int64_t until = ferry__deadline(pool->idle_ms);
    while (!__atomic_load_n(&w->called, __ATOMIC_ACQUIRE)) {
        ferry__futex_wait(&w->called, 0, until);
        if (ferry__now() < until || __atomic_load_n(&w->called, __ATOMIC_ACQUIRE))
            continue;
        ferry__lock(&executor->lock);
        bool bored = w->idle && pool->threads > pool->threads_min;
        if (bored)
            idle_remove(pool, w);
        ferry__unlock(&executor->lock);
        if (bored)
            return false;
        until = ferry__deadline(pool->idle_ms);
    }
    __atomic_store_n(&w->called, 0, __ATOMIC_RELAXED);
    return true;
}

static void leave(struct pool *pool, struct ferry__worker *w) {
    ferry_executor *executor = &pool->base;
    struct ferry__after after = {0};
    ferry__lock(&executor->lock);
    pool->threads--;
    executor->stats.threads--;
    bool join = pool->has_left;
    pthread_t before = pool->left;
    pool->left = w->pthread;
    pool->has_left = true;
    ferry__pool_rouse(executor, &after); /* a job may have come since it looked */
    ferry__executor_check_end(executor, &after.wakes);
    __atomic_fetch_add(&pool->departures, 1, __ATOMIC_RELEASE);
    ferry__futex_wake(&pool->departures, INT_MAX);
    ferry__unlock(&executor->lock);
    ferry__executor_after(executor, &after);
    if (join)
        pthread_join(before, NULL);
    ferry__executor_unref(executor);
}

static void fail_line(struct pool *pool);

static void *worker(void *arg) {
    struct pool *pool = arg;
    struct ferry__worker w = {.pool = pool, .pthread = pthread_self(), .searching = true};
    struct ferry__thread *thread = ferry__thread_self();
    if (!thread) {
        fail_line(pool);
        pthread_detach(w.pthread);
        ferry__executor_unref(&pool->base);
        return NULL;
    }
    thread->worker = &w;
#ifdef HAVE_PTHREAD_SETNAME_NP
    char name[16];
    unsigned number = __atomic_add_fetch(&pool->number, 1, __ATOMIC_RELAXED);
    snprintf(name, sizeof name, "%.10s-%u", pool->base.name, number % 1000);
    pthread_setname_np(w.pthread, name);
#endif
    struct ferry__work *work = NULL;
    enum step step = look(pool, &w, &work);
    while (step != LEAVE) {
        if (step == BUSY)
            step = run(pool, &w, work, thread);
        else if (!sleep_until_called(pool, &w))
            break;
        else
            step = BUSY;
        if (step == BUSY)
            step = look(pool, &w, &work);
    }
    thread->worker = NULL;
    leave(pool, &w);
    return NULL;
}

/* A thread couldn't be made. If there are others, they do the work; else what is in the line fails. */
static void fail_line(struct pool *pool) {
    ferry_executor *executor = &pool->base;
    struct ferry__after after = {0};
    struct ferry__work *failed = NULL;
    ferry__lock(&executor->lock);
    pool->searching = 0;
    pool->threads--;
    executor->stats.threads--;
    if (pool->threads > 0) {
        if (pool->idle)
            ferry__pool_rouse(executor, &after);
    } else {
        failed = executor->first;
        for (struct ferry__work *work = failed; work; work = work->next)
            if (!work->strand) {
                ferry__container(work, struct ferry__job, work)->state = FERRY__JOB_TAKEN;
                executor->stats.queued--;
            }
        executor->first = executor->last = NULL;
    }
    ferry__executor_check_end(executor, &after.wakes);
    ferry__unlock(&executor->lock);
    ferry__executor_after(executor, &after);
    while (failed) {
        struct ferry__work *work = failed;
        failed = work->next;
        if (work->strand)
            ferry__strand_fail(work, (struct ferry__job_end){-EAGAIN, &say_no_thread});
        else
            ferry__job_finish(ferry__container(work, struct ferry__job, work),
                              (struct ferry__job_end){-EAGAIN, &say_no_thread});
    }
}

void ferry__pool_start(ferry_executor *executor) {
    struct pool *pool = pool_of(executor);
    /* Signals of the process are for others; those that a fault raises must stay open. */
    sigset_t all, before;
    sigfillset(&all);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&all, faults[i]);
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc == 0) {
        size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
        pthread_attr_setstacksize(&attr, pool->stack_size < least ? least : pool->stack_size);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pthread_t made;
        rc = pthread_create(&made, &attr, worker, pool);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attr);
    }
    if (rc == 0)
        return;
    ferry__log(FERRY_LOG_WARNING, "executor '%s': a thread couldn't be made: %s", executor->name, strerror(rc));
    fail_line(pool);
    ferry__executor_unref(executor);
}

/* ---- Jobs that wait for handles --------------------------------------------------------------------------- */

bool ferry__worker_help(struct ferry__ctx *ctx, ferry_future *f) {
    struct ferry__worker *w = ctx->thread->worker;
    if (!w || f->kind != FERRY__IS_JOB || w->helping >= HELP_DEPTH)
        return false;
    struct ferry__job *job = (struct ferry__job *)f;
    struct pool *pool = w->pool;
    ferry_executor *executor = &pool->base;
    if (job->executor != executor)
        return false;
    struct ferry__after after = {0};
    ferry__lock(&executor->lock);
    bool mine = job->state == FERRY__JOB_QUEUED && !pool->idle && !pool->searching &&
                pool->threads >= limit(pool);
    if (mine)
        ferry__executor_began(executor, ferry__executor_take(executor, &job->work, &after));
    ferry__unlock(&executor->lock);
    ferry__executor_after(executor, &after);
    if (!mine)
        return false;
    w->helping++;
    struct ferry__job_end end = ferry__job_run(job, ctx->thread);
    w->helping--;
    ferry__lock(&executor->lock);
    ferry__executor_ended(executor, job);
    ferry__unlock(&executor->lock);
    ferry__job_finish(job, end);
    return true;
}

void ferry__worker_blocked(struct ferry__ctx *ctx) {
    struct ferry__worker *w = ctx->thread->worker;
    if (!w)
        return;
    ferry_executor *executor = &w->pool->base;
    struct ferry__after after = {0};
    ferry__lock(&executor->lock);
    w->pool->blocked++;
    ferry__pool_rouse(executor, &after);
    ferry__unlock(&executor->lock);
    ferry__executor_after(executor, &after);
}

void ferry__worker_unblocked(struct ferry__ctx *ctx) {
    struct ferry__worker *w = ctx->thread->worker;
    if (!w)
        return;
    ferry__lock(&w->pool->base.lock);
    w->pool->blocked--;
    ferry__unlock(&w->pool->base.lock);
}

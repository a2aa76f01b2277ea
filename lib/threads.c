/* Pools: threads that are made when they are needed, and leave when they aren't.
 *
 * One lock guards the line, the threads' counts and the list of idle threads. Jobs come in by the
 * door (executor.h), which has a lock of its own; threads empty it into the line when they find
 * that empty.
 *
 * Wake-ups are counted. A thread that was woken or made for a job and hasn't got to the line yet is
 * "searching"; there is at most one. A submit wakes (or makes) one only when none is searching; the
 * one that finds a job passes the baton: if there is more in the line, it wakes the next. So a
 * burst of submits costs one wake-up, and no job waits while a thread that may run it is idle or
 * may be made:
 *
 *     line not empty  =>  somebody searches, or all threads are busy and no more may be made
 *
 * holds whenever the lock is free. A busy thread looks at the line, and at the door, before it goes
 * idle, under the same lock.
 *
 * The same holds for the door, though who leaves a job there doesn't take that lock. `wanted` says
 * that nobody searches, spins or naps, and that somebody could be called. It is written under the
 * lock, and read under the door's:
 *
 *     submitter                                thread, with the lock
 *     take the door's lock                     wanted = true
 *     leave the job                            take the door's lock
 *     read `wanted`                            anything there?  yes: somebody is to search
 *     drop it                                  drop it
 *     if it was true: take both locks, call
 *
 * Proof. The two sections of the door's lock come one after the other. If the submitter's is first,
 * the thread finds the job. If the thread's is first, all that it did before, and so the write of
 * `wanted`, happened before the submitter's read. What that reads is then true, or was written by a
 * later holder of the lock. If false was written, somebody was searching, or nobody was left to be
 * called; in either case a thread will come to the lock once more, and when it leaves nobody behind
 * who searches it writes true again, and looks at the door after that, in its turn before or after
 * the submitter. So it is enough that nobody changes `wanted` from false to true without a look at
 * the door behind it, which settle() does, and ferry__executor_unlock() before it opens the door
 * again. A `wanted` that is true for too long costs the submitter the other lock, nothing else.
 *
 * Who is idle doesn't sleep at once (idle.c): one looks at the door for a while (spinner), another
 * one sleeps for a moment only (napper). As long as there is one of these nobody is called by
 * submitters and batons: each of them is done after a bounded time, without a call, and settles
 * then: so above, "somebody searches" includes them. When the last busy thread becomes idle a
 * napper may sleep for longer than the jobs need: then `wanted` says SOON. Who reads that calls a
 * thread as well, but a loop may do so for all jobs of a turn together, when that ends; the proof
 * doesn't need the call.
 *
 * A worker: SEARCHING -> BUSY <-> (line) -> IDLE -> SEARCHING ... -> gone. It takes the next job,
 * or is idle, on the list, before it delivers the result of the last one: who submits from there
 * gets the same thread again. What comes between taking a job and running it is short: when the end
 * of a job may call out to the program (an arg_free, the log), that comes first. The list is last
 * in, first out, so that threads that aren't needed stay at its end, and leave after idle_ms.
 *
 * A worker whose job waits for a handle doesn't use its place: the pool may have one thread more
 * meanwhile (blocked). Surplus threads leave when they come to the line. When the job awaits one
 * that is still in the line, without a bound in time, the worker runs that one itself instead.
 *
 * A worker whose job was given up (lost) may never come back. The pool may have one thread more for
 * each of them, as many as replacements_max says; when they do come back, the surplus leaves. Who
 * is both blocked and lost counts as blocked.
 *
 * A worker that decides to leave is counted as leaving, under the same lock, and looks at the line
 * once more when it is gone: so no two leave where one should.
 *
 * A job whose handle nobody holds any more is freed, by whoever runs it, while the worker still
 * counts as busy: the arg_free of its user may take its time.
 *
 * When the system makes no thread there are fewer; only when there is none that could come to the
 * line (all others wait for handles, or are lost), the jobs in the line fail.
 *
 * Threads are joined: each one that leaves joins the one that left before it, and
 * ferry__pool_join() the last. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "threads.h"

#define THREADS_MAX 32
#define IDLE_MS 10000
#define STACK_SIZE ((size_t)1024 * 1024)
#define SHORT_NS 4000      /* a job that is shorter is over before another thread is awake */
#define HEELS_NS 1000      /* away from the door, at least, where such jobs come in numbers */

int ferry_executor_new(ferry_executor **out, const ferry_executor_options *options) {
    *out = NULL;
    int rc = ferry__executor_check(options);
    if (rc < 0)
        return rc;
    if (options && options->threads_max < 1)
        return (int)ferry_fail(-EINVAL,
                               "executor '%s' with threads_max %d: at least one thread is needed",
                               options->name ? options->name : "ferry", options->threads_max);
    struct ferry__threads *pool = ferry__calloc_lines(sizeof *pool);
    if (!pool)
        return -ENOMEM;
    ferry__executor_init(&pool->base, FERRY__POOL, options, "ferry");
    atomic_init(&pool->base.wanted, FERRY__SOMEBODY);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    pool->threads_max = cpus < 1 ? 5 : cpus + 4 > THREADS_MAX ? THREADS_MAX : (size_t)cpus + 4;
    pool->replacements_max = pool->threads_max;
    pool->idle_ms = IDLE_MS;
    pool->stack_size = STACK_SIZE;
    ferry__spin_init(&pool->spin);
    if (options) {
        pool->threads_max = (size_t)options->threads_max;
        pool->threads_min = (size_t)options->threads_min;
        pool->replacements_max = (size_t)options->replacements_max;
        if (options->idle_ms)
            pool->idle_ms = options->idle_ms;
        if (options->stack_size)
            pool->stack_size = options->stack_size;
    }
    *out = &pool->base;
    return 0;
}

void ferry__pool_destroy(ferry_executor *executor) {
    struct ferry__threads *pool = ferry__threads_of(executor);
    if (pool->has_left) {
        if (pthread_equal(pool->left, pthread_self()))
            pthread_detach(pool->left);
        else
            pthread_join(pool->left, NULL);
    }
    ferry__free(pool);
}

void ferry__pool_forked(ferry_executor *executor) {
    struct ferry__threads *pool = ferry__threads_of(executor);
    pool->threads = pool->leaving = pool->searching = pool->blocked = pool->lost = pool->helped =
        pool->busy = 0;
    pool->idle = pool->napper = NULL;
    atomic_store(&pool->spinner, NULL);
    pool->turns = NULL;
    pool->turns_waiting = 0;
    pool->has_left = false;
}

/* ---- Who is called, under the lock ----------------------------------------------------------- */

static size_t limit(const struct ferry__threads *pool) {
    return pool->threads_max + pool->blocked +
           (pool->lost < pool->replacements_max ? pool->lost : pool->replacements_max);
}

size_t ferry__pool_spare(const ferry_executor *executor) {
    const struct ferry__threads *pool = (const struct ferry__threads *)executor;
    size_t unmade = limit(pool) > pool->threads ? limit(pool) - pool->threads : 0;
    size_t free = executor->stats.idle + pool->searching + unmade;
    return free > pool->turns_waiting ? free - pool->turns_waiting : 0;
}

static bool naps_while_others_work(const struct ferry__threads *pool) {
    return pool->napper && ferry__threads_work(pool);
}

enum ferry__wanted ferry__pool_wants(const ferry_executor *executor) {
    const struct ferry__threads *pool = (const struct ferry__threads *)executor;
    if (pool->searching || ferry__threads_spinner(pool) || naps_while_others_work(pool))
        return FERRY__NOBODY;
    if (pool->napper)
        return FERRY__SOON;
    return pool->idle || pool->threads < limit(pool) ? FERRY__SOMEBODY : FERRY__NOBODY;
}

/* Before the pool's lock is dropped, where it was taken alone: see above. */
void ferry__threads_settle(struct ferry__threads *pool, struct ferry__after *after) {
    ferry_executor *executor = &pool->base;
    ferry__pool_rouse(executor, after);
    enum ferry__wanted wanted = ferry__pool_wants(executor);
    if ((int)wanted == atomic_load_explicit(&executor->wanted, memory_order_relaxed))
        return;
    atomic_store_explicit(&executor->wanted, wanted, memory_order_relaxed);
    FERRY__POINT(pool_wanted);
    if (wanted != FERRY__NOBODY && ferry__executor_gather(executor)) {
        ferry__pool_rouse(executor, after);
        atomic_store_explicit(&executor->wanted, FERRY__NOBODY, memory_order_relaxed);
    }
}

/* Makes sure that somebody searches, if there is something to find and somebody to do it. */
void ferry__pool_rouse(ferry_executor *executor, struct ferry__after *after) {
    struct ferry__threads *pool = ferry__threads_of(executor);
    if (pool->searching || !executor->first || after->wake || after->start ||
        naps_while_others_work(pool))
        return;
    struct ferry__worker *w = pool->idle;
    if (w) {
        ferry__idle_remove(pool, w);
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
    FERRY__POINT(pool_wake);
    uint32_t before = __atomic_exchange_n(&worker->called, CALLED, __ATOMIC_ACQ_REL);
    FERRY__POINT(pool_called);
    if (before == ASLEEP)
        ferry__futex_wake(&worker->called, 1);
}

static void push_turn(ferry_executor *executor, struct ferry__turn *turn) {
    turn->told = false;
    ferry__threads_of(executor)->turns_waiting++;
    ferry__line_push(executor, &turn->work);
}

void ferry__pool_turn(ferry_executor *executor, struct ferry__turn *turn) {
    struct ferry__after after = {0};
    ferry__executor_lock(executor);
    push_turn(executor, turn);
    ferry__pool_rouse(executor, &after);
    ferry__executor_unlock(executor);
    ferry__executor_after(executor, &after);
}

ferry_executor *ferry__pool_untold(ferry_executor *executor) {
    struct ferry__threads *pool = ferry__threads_of(executor);
    ferry_executor *strand = NULL;
    ferry__executor_lock(executor);
    struct ferry__work *lists[] = {executor->first, pool->turns};
    for (int i = 0; i < 2 && !strand; i++) {
        for (struct ferry__work *work = lists[i]; work && !strand; work = work->next) {
            struct ferry__turn *turn = work->is_turn ? (struct ferry__turn *)work : NULL;
            if (turn && !turn->told) {
                turn->told = true;
                strand = turn->strand;
                ferry__executor_ref(strand);
            }
        }
    }
    ferry__executor_unlock(executor);
    return strand;
}

ferry_executor *ferry__pool_at_work(ferry_executor *executor, size_t i) {
    ferry_executor *strand = NULL;
    ferry__lock(&executor->lock);
    struct ferry__work *turn = ferry__threads_of(executor)->turns;
    while (turn && i-- > 0)
        turn = turn->next;
    if (turn) {
        strand = ((struct ferry__turn *)turn)->strand;
        ferry__executor_ref(strand);
    }
    ferry__unlock(&executor->lock);
    return strand;
}

bool ferry__pool_ended(const ferry_executor *executor) {
    return ((const struct ferry__threads *)executor)->threads == 0 && !executor->first;
}

void ferry__pool_closed(ferry_executor *executor) {
    struct ferry__threads *pool = ferry__threads_of(executor);
    struct ferry__wakes wakes = {0};
    ferry__executor_lock(executor);
    for (struct ferry__worker *w; (w = pool->idle);) {
        ferry__idle_remove(pool, w);
        /* Under the lock: once it is dropped, the thread may leave. */
        ferry__pool_wake(executor, w);
    }
    ferry__executor_check_end(executor, &wakes);
    ferry__executor_unlock(executor);
    ferry__wake_all(&wakes);
}

void ferry__pool_join(ferry_executor *executor) {
    struct ferry__threads *pool = ferry__threads_of(executor);
    ferry__lock(&executor->lock);
    bool join = pool->has_left;
    pthread_t left = pool->left;
    pool->has_left = false;
    ferry__unlock(&executor->lock);
    if (join)
        pthread_join(left, NULL);
}

void ferry__pool_idle_out(ferry_executor *executor) {
    struct ferry__threads *pool = ferry__threads_of(executor);
    for (;;) {
        uint32_t seen = __atomic_load_n(&pool->departures, __ATOMIC_ACQUIRE);
        ferry__lock(&executor->lock);
        bool busy_only = pool->threads + pool->helped <= executor->stats.running;
        ferry__unlock(&executor->lock);
        if (busy_only)
            break;
        ferry__futex_wait(&pool->departures, seen, FERRY__NEVER);
    }
    ferry__pool_join(executor);
}

/* ---- Working --------------------------------------------------------------------------------- */

enum step { BUSY, IDLE, LEAVE };

static bool surplus(const struct ferry__threads *pool) {
    return pool->threads - pool->leaving > limit(pool);
}

/* Where short jobs come in numbers a thread is soon at the heels of who submits them, and each of
 * its looks at the door takes cache lines away that are about to be written: both are slower then
 * than either needs to be. So it becomes the spinner first, which stays away for a moment, and
 * finds several. (Should it not: settle() looks at the door when nobody is there to do so.) */
static bool at_heels(const struct ferry__threads *pool) {
    return pool->brisk >= FERRY__BRISK / 2 && pool->gathered > 1 && pool->spin.ns > 0 &&
           !ferry__one_processor(pool) && !pool->base.closed;
}

/* A rest ends a streak, unless it is sure to be a short one: more is coming, or, with one
 * processor, a loop has its turn now. There it must have been several jobs since the last rest:
 * whoever has but one in flight waits for it, and naps would only make timers go off. Under the
 * lock. */
static void pause_streak(struct ferry__threads *pool, struct ferry__worker *w) {
    bool ends = !at_heels(pool);
    if (ferry__one_processor(pool)) {
        ends = w->streak - w->rested < 2;
        if (ends && pool->brisk > 0)
            pool->brisk--;
    }
    if (ends)
        w->streak = 0;
    w->rested = w->streak;
}

/* Nothing to do, under the lock. */
static enum step rest(struct ferry__threads *pool, struct ferry__worker *w) {
    if (pool->base.closed || surplus(pool)) {
        pool->leaving++;
        return LEAVE;
    }
    ferry__idle_add(pool, w);
    pause_streak(pool, w);
    if (ferry__spin_pays(&pool->spin)) {
        w->spin = pool->spin;
        if (at_heels(pool) && w->spin.pause < HEELS_NS)
            w->spin.pause = HEELS_NS;
        atomic_store_explicit(&pool->spinner, w, memory_order_relaxed);
    }
    return IDLE;
}

/* How long jobs take here, as long as they come one after the other. Under the lock. */
static void keep_pace(struct ferry__threads *pool, struct ferry__worker *w) {
    if (w->streak++ % FERRY__STREAK != 0)
        return;
    int64_t now = ferry__now();
    if (w->streak > 1) {
        int64_t most = ferry__one_processor(pool) ? SHORT_NS / 2 : SHORT_NS;
        bool brisk = now - w->streak_began < FERRY__STREAK * most;
        if (brisk && pool->brisk < FERRY__BRISK)
            pool->brisk++;
        else if (!brisk && pool->brisk > 0)
            pool->brisk--;
    }
    w->streak_began = now;
}

/* What is run soon comes from another processor: it may come while others are run. */
static void prefetch(const struct ferry__work *work) {
    ferry__prefetch_to_write(work);
    ferry__prefetch_to_write((const char *)work - offsetof(struct ferry__job, work));
}

/* Counts the job that it has run as ended (NULL: none), and takes the first of the line; the
 * baton is passed. Called with the lock held, returns without. */
static enum step look_locked(struct ferry__threads *pool, struct ferry__worker *w,
                             struct ferry__job *ran, struct ferry__work **work) {
    ferry_executor *executor = &pool->base;
    struct ferry__after after = {0};
    if (ran) {
        ferry__executor_ended(executor, ran);
        ferry__worker_found(pool, w, ran);
        pool->busy--;
    }
    if (w->searching)
        pool->searching = 0;
    w->searching = false;
    enum step step = BUSY;
    bool some = executor->first || (!(ran && at_heels(pool)) && ferry__threads_line(pool));
    *work = executor->first;
    if (!some) {
        step = rest(pool, w);
    } else if (surplus(pool)) {
        pool->leaving++;
        step = LEAVE;
    } else if ((*work)->is_turn) {
        ferry__line_take(executor, *work);
        pool->turns_waiting--;
        ferry__at_work(&pool->turns, *work);
        executor->stats.running++;
    } else {
        const struct ferry__work *soon = (*work)->ahead;
        ferry__executor_began(executor, ferry__executor_take(executor, *work));
        if (!soon)
            soon = executor->first;
        if (soon)
            prefetch(soon);
        keep_pace(pool, w);
        if (executor->wait_first) {
            ferry__lock(&executor->in_lock);
            ferry__executor_admit_all(executor, &after);
            ferry__unlock(&executor->in_lock);
        }
    }
    if (step == BUSY)
        pool->busy++;
    ferry__threads_settle(pool, &after);
    ferry__unlock(&executor->lock);
    ferry__executor_after(executor, &after);
    return step;
}

static enum step look(struct ferry__threads *pool, struct ferry__worker *w, struct ferry__job *ran,
                      struct ferry__work **work) {
    FERRY__POINT(worker_look);
    ferry__lock(&pool->base.lock);
    return look_locked(pool, w, ran, work);
}

/* After a job, under both locks. Whoever goes on with the line keeps others from being woken for
 * it. */
static enum step go_on(struct ferry__threads *pool, struct ferry__worker *w) {
    pool->busy--;
    if (!pool->base.first)
        return rest(pool, w);
    if (!pool->searching) {
        pool->searching = 1;
        w->searching = true;
    }
    return BUSY;
}

static enum step run_turn(struct ferry__threads *pool, struct ferry__worker *w,
                          struct ferry__turn *turn, struct ferry__thread *thread) {
    ferry_executor *executor = &pool->base, *strand = turn->strand;
    struct ferry__job_end end = {0, NULL};
    struct ferry__job *job = ferry__strand_begin(turn);
    if (job)
        end = ferry__job_run(job, thread);
    ferry__lock(&executor->lock);
    ferry__work_done(&pool->turns, &turn->work);
    executor->stats.running--;
    if (job)
        ferry__worker_found(pool, w, job);
    ferry__unlock(&executor->lock);
    ferry__executor_ref(strand);
    FERRY__POINT(turn_ran);
    bool again = ferry__strand_end(turn, job), orphan = job && ferry__job_orphaned(job);
    if (orphan)
        ferry__job_finish(job, end);
    ferry__executor_lock(executor);
    if (again)
        push_turn(executor, turn);
    enum step step = go_on(pool, w);
    ferry__executor_unlock(executor);
    FERRY__POINT(turn_idle);
    if (job && !orphan)
        ferry__job_finish_at_home(job, end, thread);
    if (job)
        ferry__executor_delivered(strand, 1);
    if (!again)
        ferry__executor_unref(strand); /* the turn's */
    ferry__executor_unref(strand);
    return step;
}

/* Whether its end may call out to the program: the next job mustn't be taken before that. */
static bool ends_loudly(const struct ferry__job *job, const struct ferry__job_end *end) {
    return end->result < 0 || (!job->future.plain && ferry__job_options(job)->arg_free) ||
           ferry__job_orphaned(job);
}

/* Runs what was taken, and takes what is next. It is idle, if it will be, before the result is
 * delivered. */
static enum step run(struct ferry__threads *pool, struct ferry__worker *w,
                     struct ferry__work **work, struct ferry__thread *thread) {
    ferry_executor *executor = &pool->base;
    if ((*work)->is_turn) {
        enum step step = run_turn(pool, w, (struct ferry__turn *)*work, thread);
        return step == BUSY ? look(pool, w, NULL, work) : step;
    }
    struct ferry__job *job = ferry__container(*work, struct ferry__job, work);
    struct ferry__job_end end = ferry__job_run(job, thread);
    FERRY__POINT(worker_ran);
    if (!ends_loudly(job, &end)) {
        enum step step = look(pool, w, job, work);
        FERRY__POINT(worker_idle);
        ferry__job_finish_at_home(job, end, thread);
        return step;
    }
    bool orphan = ferry__job_orphaned(job);
    ferry__executor_lock(executor);
    ferry__executor_ended(executor, job);
    ferry__worker_found(pool, w, job);
    if (orphan) {
        ferry__executor_unlock(executor);
        ferry__job_finish(job, end);
        ferry__executor_lock(executor);
    }
    enum step step = go_on(pool, w);
    ferry__executor_unlock(executor);
    FERRY__POINT(worker_idle);
    if (!orphan)
        ferry__job_finish(job, end);
    return step == BUSY ? look(pool, w, NULL, work) : step;
}

static void leave(struct ferry__threads *pool, struct ferry__worker *w) {
    ferry_executor *executor = &pool->base;
    struct ferry__after after = {0};
    FERRY__POINT(worker_leave);
    ferry__executor_lock(executor);
    pool->leaving--;
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
    ferry__executor_unlock(executor);
    ferry__executor_after(executor, &after);
    if (join)
        pthread_join(before, NULL);
    ferry__executor_unref(executor);
}

static void fail_line(struct ferry__threads *pool);

static void *worker(void *arg) {
    struct ferry__threads *pool = arg;
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
    enum step step = look(pool, &w, NULL, &work);
    while (step != LEAVE) {
        if (step == BUSY) {
            step = run(pool, &w, &work, thread);
            continue;
        }
        enum ferry__waking waking = ferry__idle_wait(pool, &w, thread);
        if (waking == IS_BORED)
            break;
        step =
            waking == HAS_FOUND ? look_locked(pool, &w, NULL, &work) : look(pool, &w, NULL, &work);
    }
    thread->worker = NULL;
    ferry__job_no_client(thread);
    leave(pool, &w);
    return NULL;
}

/* A thread couldn't be made. If there are others that may come to the line, they do the work;
 * else what is in it fails, and who waits for a place as well. */
static void fail_line(struct ferry__threads *pool) {
    ferry_executor *executor = &pool->base;
    struct ferry__after after = {0};
    struct ferry__work *failed = NULL;
    const struct ferry__job_end end = {-EAGAIN, &ferry__say_no_thread};
    size_t jobs = 0;
    ferry__executor_lock(executor);
    pool->searching = 0;
    pool->threads--;
    executor->stats.threads--;
    __atomic_fetch_add(&pool->departures, 1, __ATOMIC_RELEASE);
    ferry__futex_wake(&pool->departures, INT_MAX);
    if (pool->threads > pool->blocked + pool->lost) {
        if (pool->idle)
            ferry__pool_rouse(executor, &after);
    } else {
        failed = executor->first;
        for (struct ferry__work *work = failed; work; work = work->next) {
            if (!work->is_turn) {
                work->state = FERRY__JOB_TAKEN;
                jobs++;
            }
        }
        executor->first = executor->last = NULL;
        pool->turns_waiting = 0;
        executor->stats.queued -= jobs;
        executor->delivering += jobs;
        ferry__executor_refuse(executor, end.result, &after.wakes);
    }
    ferry__executor_check_end(executor, &after.wakes);
    ferry__executor_unlock(executor);
    ferry__executor_after(executor, &after);
    while (failed) {
        struct ferry__work *work = failed;
        failed = work->next;
        if (work->is_turn)
            ferry__strand_fail((struct ferry__turn *)work, end);
        else
            ferry__job_finish(ferry__container(work, struct ferry__job, work), end);
    }
    ferry__executor_delivered(executor, jobs);
}

void ferry__pool_start(ferry_executor *executor) {
    struct ferry__threads *pool = ferry__threads_of(executor);
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
    ferry__log(FERRY_LOG_WARNING, "executor '%s': a thread couldn't be made: %s", executor->name,
               strerror(rc));
    fail_line(pool);
    ferry__executor_unref(executor);
}

/* Executors: where jobs, blocking calls, run.
 *
 * A pool runs jobs on threads that it makes when they are needed; a strand runs one job at a
 * time, in order, on the threads of a pool; an inline executor runs them on the submitting
 * thread, for tests. */
#ifndef FERRY_EXECUTOR_H
#define FERRY_EXECUTOR_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* ---- Making one ------------------------------------------------------------------------------ */

/* What a submit does when the queue of a pool or strand is full. */
enum ferry_full_policy {
    FERRY_FULL_WAIT = 0,  /* the submitter waits its turn (a task suspends, a thread blocks) */
    FERRY_FULL_REFUSE = 1 /* the handle is done at once with -EAGAIN */
};

/* Zero means the default of each, but for threads_max. */
typedef struct ferry_executor_options {
    const char *name;      /* threads are named after it; copied, cut at 31 bytes; default
                            * "ferry" */
    int threads_max;       /* required: at least 1 */
    int threads_min;       /* kept alive when idle; default 0 */
    int64_t idle_ms;       /* a thread above threads_min ends after so long without work; default
                            * 10,000 */
    size_t stack_size;     /* of a thread, bytes; default 1 MiB; rounded up to the system's
                            * minimum */
    size_t queue_max;      /* jobs waiting while every thread (of a strand: every turn) is taken;
                            * default 65,536 */
    int full;              /* enum ferry_full_policy */
    int replacements_max; /* threads beyond threads_max, so many at most, in place of those that
                           * jobs which were given up (FERRY_JOB_ABANDON) still hold; default 0:
                           * their places stay lost until they end */
    void *reserved[4];     /* zero */
} ferry_executor_options;

/* A pool. `options` NULL: ncpu + 4 threads, 32 at most, and as many replacements. Threads are
 * made by the first jobs that need them. Returns 0 and the pool in *out; -EINVAL for threads_max
 * < 1, threads_min < 0 or above threads_max, a negative idle_ms or replacements_max, or an
 * unknown policy; -ENOMEM. Any thread; never blocks. */
FERRY_API int ferry_executor_new(ferry_executor **out, const ferry_executor_options *options);

/* A strand on `pool`: its jobs run one at a time, in the order of submission, on any of the
 * pool's threads. With options->threads_max = n up to n of them run at a time (they start in
 * order): so many at once per class of work. Several strands share a pool fairly, and a strand's
 * jobs take no place in the pool's queue. A job that awaits one that is queued behind it on its
 * own strand runs it itself, ahead of its turn. `options` may be NULL; of it count name,
 * threads_max (0: 1), queue_max and full. `pool` NULL: the default executor. The pool stays
 * alive as long as its strands. Errors as above. */
FERRY_API int ferry_strand_new(ferry_executor **out, ferry_executor *pool,
                               const ferry_executor_options *options);

/* An executor that runs each job inside ferry_submit(), on the calling thread: for tests. */
FERRY_API int ferry_inline_new(ferry_executor **out);

/* The executor that NULL stands for: the current loop's own, or the process's outside of any
 * loop. It is the library's: it isn't to be freed. NULL when out of memory. */
FERRY_API ferry_executor *ferry_executor_default(void);

/* ---- Ending it: no new work; and wait; and free ---------------------------------------------- */

enum ferry_close_mode {
    FERRY_CLOSE_DRAIN = 0, /* what is queued still runs */
    FERRY_CLOSE_CANCEL = 1 /* what is queued is cancelled; running jobs are told to stop */
};

/* Stops accepting: a later submit gives a handle that is done with FERRY_ECLOSED. Doesn't wait.
 * A second call may turn DRAIN into CANCEL. Returns 0, or -EINVAL. Any thread; may run interrupt
 * hooks. */
FERRY_API int ferry_executor_close(ferry_executor *executor, int mode);

/* Closes (FERRY_CLOSE_DRAIN unless closed before) and waits until every job has ended and every
 * thread has left, `ms` milliseconds at most. Returns the number of jobs that still run (0: all
 * ended); they are logged by name and age. -ECANCELED when the waiter was cancelled; -EDEADLK
 * from a job of this executor or on a loop's thread outside a task when it would have to wait.
 * May suspend or block. */
FERRY_API int ferry_executor_stop(ferry_executor *executor, int64_t ms);

/* Gives it back: closes it (FERRY_CLOSE_DRAIN unless closed before); its memory goes when its
 * last job and thread have. Never waits: legal anywhere, in its own jobs and callbacks too. NULL
 * is ignored. */
FERRY_API void ferry_executor_free(ferry_executor *executor);

typedef struct ferry_executor_stats {
    size_t threads;   /* alive now */
    size_t idle;      /* of them without a job */
    size_t queued;    /* jobs waiting */
    size_t running;   /* jobs running, abandoned ones included */
    size_t abandoned; /* of them given up: each holds a thread until it ends */
    uint64_t started; /* jobs that ever began to run */
    uint64_t threads_peak;
    uint64_t cancelled; /* queued jobs that never ran */
    size_t reserved[4];
} ferry_executor_stats;

/* A consistent snapshot of the counters. NULL executor: the default one. Any thread; never
 * blocks. */
FERRY_API void ferry_executor_get_stats(ferry_executor *executor, ferry_executor_stats *stats);

/* ---- Jobs ------------------------------------------------------------------------------------ */

/* What becomes of a running job that was told to stop and doesn't listen. */
enum ferry_job_policy {
    FERRY_JOB_WAIT = 0, /* whoever awaits it waits until it ends: its arguments may be anywhere */
    /* After grace_ms the handle ends as cancelled and the thread runs on; arg and what it points to
     * must live on the heap or in the library, with arg_free. Its pool has a thread less until it
     * ends, or makes another one (replacements_max). A strand doesn't begin another job in its
     * place. */
    FERRY_JOB_ABANDON = 1
};

/* Zero is the default of each. */
typedef struct ferry_job_options {
    const char *name; /* for reports; copied, cut at 31 bytes; default "job" */

    /* Called when the running job is cancelled, at most once, on the cancelling thread, never
     * after fn has returned (fn's return waits for it). Also when a thread has just taken the
     * job and is about to begin: fn isn't called then. It must not wait and must not call Ferry,
     * except for ferry_cancel() on other handles. */
    void (*interrupt)(void *arg);
    int interrupt_signal; /* > 0: sent to the job's thread on cancel, so that system calls give
                           * EINTR. The program must have a handler for it, set without
                           * SA_RESTART */

    int policy;       /* enum ferry_job_policy */
    int64_t grace_ms; /* with ABANDON: patience between the request and giving up; 0: none */

    /* Called by the ferry_await() that takes the result, on its thread, before it returns: the
     * place where a bridge writes its out-parameters. Once at most; not for a handle that ended
     * as cancelled. */
    void (*deliver)(void *arg, int64_t result);

    /* Called once, when the job has ended (also when it never ran) and the last reference to the
     * handle is gone; on the thread of the loop that the job was submitted from, or, without one
     * (or when that loop is closed), on the thread that gives up the last reference. Results
     * that were never delivered are freed here as well: an abandoned job's, a detached one's. */
    void (*arg_free)(void *arg);

    /* The job needs a token of this key (limiter.h): submitting waits for one, and the job holds
     * it until its thread has left fn, or it is sure that it never runs. */
    ferry_limiter *limiter;
    const char *key; /* copied */

    void *reserved[2]; /* zero */
} ferry_job_options;

/* Starts fn(arg) as a job. It inherits the deadline and the cancel flag of the scope that it is
 * started in (not its lifetime). `executor` NULL: the loop's own, or the process's. Returns a
 * handle; NULL only when out of memory (arg_free isn't called then: arg is still the caller's;
 * ferry_await(NULL) is -ENOMEM). In every other case the handle carries what happened:
 *   -ECANCELED     submitted in a cancelled scope (fn never runs)
 *   FERRY_ECLOSED  the executor was closed
 *   -EAGAIN        the queue is full: policy REFUSE, or policy WAIT where nothing may wait (on a
 *                  loop's own thread outside a task); or no thread could be made, and there is none
 *                  that isn't waiting for another handle
 *   -ENOMEM, -EINVAL, ...   options->limiter could not give a token: see ferry_limiter_submit()
 * Suspends or blocks only when the queue is full and its policy is WAIT, or with a limiter. A
 * job that submits to the pool or strand that it runs on never waits for a place there: it would
 * wait for itself. Any thread. */
FERRY_API ferry_future *ferry_submit(ferry_executor *executor, ferry_fn fn, void *arg);
FERRY_API ferry_future *ferry_submit_with(ferry_executor *executor, ferry_fn fn, void *arg,
                                          const ferry_job_options *options);

FERRY_END_DECLS

#endif

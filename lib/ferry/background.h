/* Work that nobody waits for, owned by its loop: whatever becomes of it, somebody hears of it.
 *
 *     const ferry_background_options options = {.on_error = FERRY_BACKGROUND_FAIL};
 *     ferry_background_configure(NULL, &options);
 *     ferry_background_spawn(refresh_the_cache, cache);
 *     ferry_background_submit(NULL, write_the_journal, journal);
 *
 * It is a group as long as the loop: it is counted and bounded, an error is logged with the name of
 * who failed, given to a handler, and can end the run; and the loop's shutdown cancels and joins
 * it, jobs on any executor as well. It doesn't belong to the scope that it was started in: neither
 * that scope's cancel nor its deadline reaches it; task-local values are inherited.
 *
 * ferry_detach() also lets a task or job run on, and its error is logged when the last reference
 * goes. But a detached one isn't counted, no handler and no run hears of it, and a shutdown doesn't
 * join a detached job of an executor of the program's own. */
#ifndef FERRY_BACKGROUND_H
#define FERRY_BACKGROUND_H

#include <ferry/base.h>
#include <ferry/error.h>
#include <ferry/executor.h>
#include <ferry/task.h>

FERRY_BEGIN_DECLS

enum ferry_background_policy {
    FERRY_BACKGROUND_LOG = 0, /* an error is logged, and given to the handler */
    /* Besides, the first one cancels the first task of the run, and ferry_run() or ferry_loop_run()
     * returns it, unless that task ends with an error of its own, or a signal came first. A loop
     * that the program dispatches itself has no run. */
    FERRY_BACKGROUND_FAIL = 1
};

/* Zero is the default of each. */
typedef struct ferry_background_options {
    size_t max;   /* so many at once; more are refused; default 10,000 */
    int on_error; /* enum ferry_background_policy */
    /* A shutdown lets them end, for its grace, before it cancels them; default: it cancels them at
     * once, as it does with all tasks. Counts for what is started afterwards. */
    bool drain;
    /* Called for each error, but not for cancellations, as a callback on the loop's thread: it must
     * not wait. `error` is valid during the call. Not called when the loop is closed by then. */
    void (*handler)(const ferry_error *error, void *arg);
    void *arg;
    void *reserved[4]; /* zero */
} ferry_background_options;

/* Says how a loop (NULL: the current one) treats its background; `options` NULL: as at first.
 * Returns 0, or -EINVAL for an unknown policy or without a loop. Any thread; never waits. */
FERRY_API int ferry_background_configure(ferry_loop *loop, const ferry_background_options *options);

/* Starts fn(arg) as a task of the loop (NULL: the current one), in its background; the first step
 * runs later. Returns 0; else fn never runs, arg is the caller's, and options->arg_free isn't
 * called:
 *   -EAGAIN        there are `max` of them already
 *   FERRY_ECLOSED  the loop is being shut down, or was
 *   FERRY_EFORKED  it belongs to the parent process
 *   -EINVAL        without a function, or a loop
 *   -ENOMEM
 * A task that was accepted and can't be given a stack has failed with -ENOMEM. Any thread; never
 * waits. */
FERRY_API int ferry_background_spawn(ferry_fn fn, void *arg);
FERRY_API int ferry_background_spawn_with(ferry_loop *loop, ferry_fn fn, void *arg,
                                          const ferry_task_options *options);

/* The same with a job: a task of the loop submits it to `executor` (NULL: the loop's own) and
 * awaits it. So this never waits, whatever the executor's queue and options->limiter may do. The
 * executor isn't closed by a ferry_executor_free() before it has the job. */
FERRY_API int ferry_background_submit(ferry_executor *executor, ferry_fn fn, void *arg);
FERRY_API int ferry_background_submit_with(ferry_loop *loop, ferry_executor *executor, ferry_fn fn,
                                           void *arg, const ferry_job_options *options);

/* How many have been started and haven't ended. 0 for NULL without a current loop. Any thread;
 * never waits. */
FERRY_API size_t ferry_background_count(ferry_loop *loop);

FERRY_END_DECLS

#endif

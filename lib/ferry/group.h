/* Groups: structured concurrency. A group is a scope that owns tasks and jobs and ends only when
 * they all have. The first error cancels the rest; all errors are kept.
 *
 *     ferry_group group = FERRY_GROUP_INIT;
 *     ferry_group_open(&group);
 *     ferry_group_spawn(&group, fetch, &a);
 *     ferry_group_submit(&group, NULL, read_disk, &b);
 *     int64_t rc = ferry_group_close(&group, 0);   // FERRY_EGROUP: see ferry_group_errors()
 * / */
#ifndef FERRY_GROUP_H
#define FERRY_GROUP_H

#include <ferry/base.h>
#include <ferry/executor.h>
#include <ferry/scope.h>
#include <ferry/task.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. They are here so that a group can stand on the stack. */
struct ferry_group {
    void *core;     /* under lock: what the members report to; NULL unless it is open */
    void *owner;    /* written by open */
    unsigned lock;  /* inner lock */
    int state;      /* under lock: fresh, open, closed */
    bool cancelled; /* under lock: asked to stop before it was opened */
    void *reserved[6];
};
#define FERRY_GROUP_INIT FERRY_ZERO

/* Opens the group as the innermost scope of the caller; a cancel before the opening counts.
 * Returns 0; -EINVAL when it was used before; -ENOMEM. Never waits. Tasks, jobs, threads. */
FERRY_API int ferry_group_open(ferry_group *group);

/* The same with a deadline for all of it, in milliseconds. */
FERRY_API int ferry_group_open_for(ferry_group *group, int64_t timeout_ms);

/* Starts a task as a member, on the caller's loop (see ferry_spawn()). Members may start
 * members, until the close has returned. In a group that is cancelled already the task is
 * started and runs to its first wait. `handle`, if not NULL, gets a reference of the caller's
 * own (to cancel the member, or to look at its result), to be detached or awaited: a member's
 * error counts in the group all the same. Returns 0, or an error, after which `arg` is still the
 * caller's (arg_free isn't called) and *handle is NULL: -EINVAL when the group isn't open, or
 * without a function or a loop; FERRY_ECLOSED when the loop was shut down; FERRY_EFORKED when
 * the group belongs to the parent process; -ENOMEM. Never waits. */
FERRY_API int ferry_group_spawn(ferry_group *group, ferry_fn fn, void *arg);
FERRY_API int ferry_group_spawn_with(ferry_group *group, ferry_fn fn, void *arg,
                                     const ferry_task_options *options, ferry_future **handle);

/* Starts a job as a member (see ferry_submit(): it may suspend or block when the executor's
 * queue is full). Returns 0, or -EINVAL, FERRY_EFORKED, -ENOMEM as above. A job that the
 * executor refuses (closed, full) is a member that failed. */
FERRY_API int ferry_group_submit(ferry_group *group, ferry_executor *executor, ferry_fn fn,
                                 void *arg);
FERRY_API int ferry_group_submit_with(ferry_group *group, ferry_executor *executor, ferry_fn fn,
                                      void *arg, const ferry_job_options *options,
                                      ferry_future **handle);

/* Starts a task as a member and waits until it has called ferry_ready(v); returns v then (>= 0),
 * and the member goes on. Until then it isn't a member yet, but the group stays open for it.
 * Otherwise returns
 *   its own error  when it ended with one before it was ready: the group is unharmed
 *   -EINVAL        when it returned without having called ferry_ready()
 *   -ECANCELED     when the caller was cancelled: the starting task was cancelled and joined
 *   -EDEADLK       on a loop's own thread outside a task; and the errors of ferry_group_spawn(): it
 *                  was not started, and `arg` is still the caller's
 * Suspends or blocks. */
FERRY_API int64_t ferry_group_start(ferry_group *group, ferry_fn fn, void *arg);

/* Called by a task that ferry_group_start() started: it is ready and reports `value` (>= 0) to
 * its starter. Returns 0 (also when the starter has given up meanwhile: the task is cancelled
 * then), or -EINVAL in any other task, for a second call or a negative value. Never waits. */
FERRY_API int ferry_ready(int64_t value);

/* Cancels all members and the body. The group then ends without an error of its own. Any thread,
 * as long as the group lives; runs interrupt hooks of jobs; never waits. */
FERRY_API void ferry_group_cancel(ferry_group *group);

/* Waits for all members and closes the group. `rc` is how the body ended: an error other than
 * -ECANCELED cancels the members and counts among the errors. When the caller is cancelled while
 * it waits, so are the members. Returns
 *   rc             when nothing failed (0 when rc was the group's own -ECANCELED)
 *   FERRY_EGROUP   when the body or a member failed; ferry_group_errors() has all of them
 *   -ECANCELED     when the caller was cancelled from outside, which cut off the body or a
 *                  member, and nothing failed
 *   -ETIMEDOUT     when the group's own deadline did that
 *   -EINVAL        when it isn't open, or was opened by somebody else. Also when it isn't the
 *                  caller's innermost scope: what was left open inside is torn down then, and so is
 *                  the group: its members are cancelled and joined, their errors logged
 *   -EDEADLK       on a loop's own thread outside a task when it would have to wait: it stays open
 *   FERRY_EFORKED  when its members belong to the parent process; it is closed
 * Suspends or blocks. Whoever ends with a group open, or closes a scope around it, has it torn
 * down in the same way. */
FERRY_API int64_t ferry_group_close(ferry_group *group, int64_t rc);

FERRY_END_DECLS

#endif

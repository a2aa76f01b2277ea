/* Loops: a libevent event_base with Ferry on top. It runs tasks, timers and fd events on one
 * thread. */
#ifndef FERRY_LOOP_H
#define FERRY_LOOP_H

#include <ferry/base.h>
#include <ferry/log.h>

FERRY_BEGIN_DECLS

struct event_base;

/* ---- The short way --------------------------------------------------------------------------- */

/* Makes a loop, runs fn(arg) as its first task, and shuts down in order: tasks that are left are
 * cancelled and joined, jobs are cancelled or waited for. SIGINT and SIGTERM cancel the first
 * task; a second one, or the first after that task has ended, hurries the shutdown, and the next
 * does what it did before. A task that overflows its stack is named on standard error. Returns
 * fn's result; an error of the background (background.h) that is to end the run; -EINTR when a
 * signal ended it; -ENOMEM or the errno of the system call when the loop could not be made;
 * -EDEADLK inside a task, a callback or a job of a loop, or when nothing was left that could
 * have woken the tasks (who waits for what is logged then). Blocks the calling thread. */
FERRY_API int64_t ferry_run(ferry_fn fn, void *arg);

/* Zero is the default of each. */
typedef struct ferry_run_options {
    int64_t grace_ms;   /* how long tasks and jobs may take to end after fn has; default 5,000 */
    bool no_signals;    /* leave SIGINT and SIGTERM alone */
    bool no_overflow_handler; /* leave SIGSEGV and SIGBUS alone */
    size_t stack_size;  /* of the first task, bytes; default 256 KiB */
    void *reserved[4];  /* zero */
} ferry_run_options;
FERRY_API int64_t ferry_run_with(ferry_fn fn, void *arg, const ferry_run_options *options);

/* ---- Loops of your own --------------------------------------------------------------------------
 *
 * fork() and loops: a loop belongs to the process that made it. In a child nothing of the
 * parent's runs: every call on its loops and handles is FERRY_EFORKED, in a task that has forked
 * every wait is, and when such a task returns, so does the run around it, with FERRY_EFORKED.
 * Then, as at any place outside of tasks, the child makes loops of its own. A child that goes on
 * with a base of the program's calls event_reinit() first. A program that makes itself a daemon
 * had better do that before it makes a loop: after that the loop, its tasks and its jobs are the
 * parent's. */

/* A loop with an event_base of its own. NULL with errno set (ENOMEM, EMFILE, ...) when it can't
 * be made. It belongs to the thread that runs it first. */
FERRY_API ferry_loop *ferry_loop_new(void);

/* A loop on the program's own base, which the program goes on dispatching itself; it must
 * outlive the loop. Call it on the thread that dispatches; if another one does later, never both at
 * once, the loop is that one's from its first turn there on. The base needs no evthread locks.
 * Ferry keeps the base busy (so that event_base_dispatch() doesn't return) as long as tasks or
 * callbacks are outstanding. A program that dispatches again and again, each time until nothing
 * is outstanding: what other threads hand in between two dispatches doesn't keep the next one
 * from returning at once, before it is seen. Let that see it first, with event_base_loop(base,
 * EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY), or keep something outstanding all the while: a
 * task that waits, an event of the program's. NULL with errno set on failure. */
FERRY_API ferry_loop *ferry_loop_attach(struct event_base *base);

/* The base that the loop stands on, for events of the program's own; NULL for NULL. Loop thread
 * only. */
FERRY_API struct event_base *ferry_loop_base(ferry_loop *loop);

/* The loop of the running task, callback or job; NULL elsewhere. */
FERRY_API ferry_loop *ferry_loop_current(void);

/* Runs fn(arg) as a task and turns the loop until it has ended; other tasks stay as they are,
 * and go on with the next run. fn NULL: goes on with the task that ferry_loop_stop() left
 * unfinished. Returns the task's result (-ECANCELED when it was cancelled); FERRY_ESTOPPED;
 * -EDEADLK inside a task or callback or when nothing is left that could wake the task (who waits
 * for what is logged, and the tasks are cancelled); -EINVAL for an attached loop, when there is
 * nothing to go on with, or when another thread runs it; FERRY_ECLOSED after a shutdown;
 * FERRY_EFORKED; -ENOMEM. Blocks the calling thread. */
FERRY_API int64_t ferry_loop_run(ferry_loop *loop, ferry_fn fn, void *arg);

/* Makes ferry_loop_run() return FERRY_ESTOPPED after the current turn; before a run: that run
 * makes one turn that doesn't wait. NULL is ignored. Any thread. */
FERRY_API void ferry_loop_stop(ferry_loop *loop);

/* Orderly end, soft then hard: no new tasks or posts are accepted, all tasks are cancelled (from
 * a task: all others), the loop turns until they have ended or `grace_ms` are over; then shields
 * stop counting, and what still hasn't ended after as long again is logged by name and age. The
 * loop's own executor is ended likewise, and callbacks that are due are called. A second call
 * hurries the first one: nothing more is waited for. A task that calls it is cancelled in its
 * turn when all that is over, unless it is the first one of a run. Returns the number of tasks
 * and jobs that were left behind (0: none, also when it was shut down before); -EINPROGRESS in a
 * callback on the loop's own thread or in one of its jobs (the shutdown goes on by itself), or
 * for a second call; -EDEADLK in a task or callback of another loop when nobody runs this one;
 * -EINVAL for NULL, and on the loop's thread when its event_base was freed before it;
 * FERRY_EFORKED; -ENOMEM. Suspends or blocks. Any thread; not in a signal handler (signal.h says
 * what to do there). */
FERRY_API int ferry_loop_shutdown(ferry_loop *loop, int64_t grace_ms);

/* Gives the loop back. Callbacks of handles that outlive a shutdown are dropped (they are logged
 * when the handle ends). Returns 0; -EBUSY, with nothing destroyed, while it runs or tasks,
 * callbacks or jobs of it are left (shut it down first); -EINVAL when its event_base was freed
 * before it: tasks, callbacks and jobs that were left then are lost, with the memory of the loop
 * (there were none: it is free all the same); 0 for NULL. Loop thread, or any other when it
 * doesn't run. */
FERRY_API int ferry_loop_free(ferry_loop *loop);

/* ---- Work from elsewhere --------------------------------------------------------------------- */

/* Has fn(arg) called once on the loop's thread, as a callback (it must not wait). In order for
 * each posting thread. A negative result is logged as an error; later callbacks still run.
 * Returns 0, or FERRY_ECLOSED, FERRY_EFORKED or -ENOMEM (fn is never called then; arg stays the
 * caller's). Any thread, task or callback; never blocks. */
FERRY_API int ferry_post(ferry_loop *loop, ferry_fn fn, void *arg);

/* A wake-up that may be sent as often as one likes: however often it was sent before the
 * callback starts, it runs once; sent again after it has started, it runs again. */
typedef struct ferry_async ferry_async;
/* NULL: out of memory */
FERRY_API ferry_async *ferry_async_new(ferry_loop *loop, ferry_fn fn, void *arg);
/* 0, FERRY_ECLOSED, FERRY_EFORKED, -EINVAL for NULL; any thread, never blocks */
FERRY_API int ferry_async_send(ferry_async *async);
/* loop thread; its callback doesn't run any more */
FERRY_API void ferry_async_free(ferry_async *async);

FERRY_END_DECLS

#endif

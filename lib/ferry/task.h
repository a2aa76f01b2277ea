/* Tasks: stackful coroutines. A task lives and dies on the loop that it was spawned on. */
#ifndef FERRY_TASK_H
#define FERRY_TASK_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* Zero is the default of each. */
typedef struct ferry_task_options {
    const char *name;            /* for reports; copied, cut at 31 bytes; default "task" */
    size_t stack_size;           /* bytes; default 64 KiB; rounded up to pages; at least 16 KiB */
    void (*arg_free)(void *arg); /* called once on the loop's thread, after fn has returned (or when
                                  * it never could start: out of memory for a stack, loop closed) */
    void *reserved[4];           /* zero */
} ferry_task_options;

/* Starts fn(arg) as a task of the current loop: of the task, callback or job that calls. It
 * never switches: the first step runs later, in the order of the spawns. Returns a handle, NULL
 * only when out of memory (arg_free isn't called then). The handle is done with -EINVAL when
 * there is no current loop, and with FERRY_ECLOSED when the loop was shut down. Never blocks. */
FERRY_API ferry_future *ferry_spawn(ferry_fn fn, void *arg);
FERRY_API ferry_future *ferry_spawn_with(ferry_fn fn, void *arg, const ferry_task_options *options);

/* The same on a given loop (NULL: the current one), from any thread. */
FERRY_API ferry_future *ferry_spawn_on(ferry_loop *loop, ferry_fn fn, void *arg);
FERRY_API ferry_future *ferry_spawn_on_with(ferry_loop *loop, ferry_fn fn, void *arg,
                                            const ferry_task_options *options);

/* Lets others run: a task goes to the end of the ready line; a thread calls sched_yield().
 * Returns 0, or -ECANCELED in a cancelled scope; -EDEADLK on a loop's own thread outside a task. */
FERRY_API int ferry_yield(void);

/* Sleeps for `ms` milliseconds, never less (FERRY_FOREVER: until cancelled; <= 0: like
 * ferry_yield()). Returns 0, -ECANCELED, or -EDEADLK on a loop's own thread outside a task. Any
 * thread. */
FERRY_API int ferry_sleep(int64_t ms);

/* The handle of the running task or job, borrowed; NULL in a plain thread or callback. */
FERRY_API ferry_future *ferry_self(void);

/* The name of the running task or job, or of the thread. Never NULL. */
FERRY_API const char *ferry_self_name(void);

FERRY_END_DECLS

#endif

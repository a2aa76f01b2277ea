/* A pool of resources (connections, sessions, handles of a library) for tasks and threads together.
 *
 *     const ferry_pool_options options = {
 *         .name = "db", .max = 8, .create = open_connection, .destroy = close_connection};
 *     ferry_pool *pool;
 *     ferry_pool_new(&pool, &options);
 *     void *connection;
 *     int64_t rc = ferry_pool_acquire(pool, &connection);
 *     if (rc >= 0) {
 *         rc = talk(connection);
 *         if (rc == -EPIPE)
 *             ferry_pool_discard(pool, connection); // broken: it is destroyed
 *         else
 *             ferry_pool_release(pool, connection);
 *     }
 *
 * Who comes first is served first, and a resource goes straight from who releases it to who has
 * waited longest. The resource used last is lent first, so that those that aren't needed grow old
 * and are destroyed. */
#ifndef FERRY_POOL_H
#define FERRY_POOL_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

typedef struct ferry_pool ferry_pool;

#define FERRY_POOL_MOST 65536      /* resources that a pool may have */
#define FERRY_POOL_CHECK_ALWAYS -1 /* for check_after_ms */

/* Zero is the default of each but `max`, `create` and `destroy`, which are required.
 *
 * `create`, `check` and `destroy` are called without any lock of the library and may wait, as
 * ferry_fn may: in the task, job or thread that acquires or gives back; with `executor`, as jobs
 * there, which is what one wants for a library that blocks. A task that has no executor and whose
 * `create` blocks stops its loop. They may use other pools, but not this one. */
typedef struct ferry_pool_options {
    const char *name; /* for reports; copied, cut at 31 bytes; default "pool" */
    /* Resources at once: lent, idle, being created or destroyed; 1 to FERRY_POOL_MOST. */
    size_t max;
    size_t min; /* idle expiry leaves so many; default 0 */
    bool fill;  /* ferry_pool_new() creates `min` of them; else each is created when needed */

    /* Makes one: stores it in *resource, which must not be NULL then, and returns >= 0; or an
     * error, which goes to who acquires. It runs under the deadline of the acquire, which it can
     * ask for with ferry_time_left(). */
    int64_t (*create)(void **resource, void *arg);
    /* Ends one. It may still wait in a cancelled scope, for 5 s at most (it is called in a
     * shield). */
    void (*destroy)(void *resource, void *arg);
    /* Whether one is still good: >= 0. Else, also when it was cancelled, that one is destroyed and
     * another one created in its place. Asked before one is lent that has been idle for longer than
     * `check_after_ms`, under the deadline of the acquire. NULL: all are. */
    int64_t (*check)(void *resource, void *arg);
    void *arg;

    int64_t check_after_ms; /* default 1,000; FERRY_POOL_CHECK_ALWAYS: whenever it was idle */
    /* One that has been idle for so long is destroyed, unless there are only `min`; default 60,000;
     * FERRY_FOREVER: never. That is done by a job, on `executor` or, without, the process's own. */
    int64_t idle_ms;
    int64_t acquire_ms; /* time-out of ferry_pool_acquire(); default 30,000; FERRY_FOREVER: none */

    /* The pool keeps it alive. When it takes no more jobs, `destroy` is called where one is given
     * back. */
    ferry_executor *executor;
    void *reserved[4]; /* zero */
} ferry_pool_options;

/* Makes a pool. Returns 0 and the pool in *out; -EINVAL when something required is missing or a
 * number is out of range (negative times are); -ENOMEM; with `fill` also what an acquire returns:
 * those that were created before are destroyed again. *out is NULL after an error. With `fill` it
 * may suspend or block, else it never waits. Any thread. */
FERRY_API int64_t ferry_pool_new(ferry_pool **out, const ferry_pool_options *options);

/* Lends a resource: one that is idle, or a new one when there are less than `max`; else it waits in
 * turn. Returns 0 and it in *resource, until it is given back by exactly one call of
 * ferry_pool_release() or ferry_pool_discard(), by anybody. Errors, with nothing lent:
 *   -ETIMEDOUT     nothing came free, or was created, in time; ferry_errmsg() names the pool, and
 *                  says how many are lent and how many wait
 *   FERRY_ECLOSED  the pool was closed, before or meanwhile (what was just being created for this
 *                  call is destroyed)
 *   -ECANCELED     in a cancelled scope
 *   -EDEADLK       on a loop's own thread outside a task, when it would have to wait
 *   FERRY_EJOBCANCELED   its job on the executor was cancelled by somebody else (a close of that)
 *   FERRY_EFORKED  the pool belongs to the parent process; -EINVAL when it is NULL
 *   -ENOMEM        and what else ferry_submit() can lead to, with an executor
 *   or what `create` returned.
 * An acquire that leaves while its resource is being created on the executor doesn't wait for that:
 * when it is there in spite of all it goes to who waits next, or becomes idle.
 * May suspend or block. Any thread. */
FERRY_API int64_t ferry_pool_acquire(ferry_pool *pool, void **resource);
/* The same with a time-out of its own, in milliseconds. */
FERRY_API int64_t ferry_pool_acquire_for(ferry_pool *pool, void **resource, int64_t ms);
/* Lends an idle one that needs no check, or returns -EAGAIN; FERRY_ECLOSED; FERRY_EFORKED. Never
 * waits, and creates nothing. Any thread. */
FERRY_API int ferry_pool_try_acquire(ferry_pool *pool, void **resource);

/* Gives one back: to who waits first, else it is idle. Returns 0; -EPERM when the pool hasn't lent
 * it (it was given back before, or is another pool's), and nothing is done; FERRY_EFORKED. Never
 * waits, unless the pool is closed and nobody is in ferry_pool_close() any more: then it is
 * destroyed as by ferry_pool_discard(). Any thread. */
FERRY_API int ferry_pool_release(ferry_pool *pool, void *resource);

/* Gives one back that is broken: it is destroyed, here (before this returns) or by a job on the
 * executor; then its place is free. Errors as above. May suspend or block. Any thread. */
FERRY_API int ferry_pool_discard(ferry_pool *pool, void *resource);

/* Ends it: nothing is lent any more, those who wait get FERRY_ECLOSED now, what is idle is
 * destroyed; then it waits until what is lent has been given back, and destroys that, for `ms`
 * milliseconds at most. Returns 0 when nothing is left; -ETIMEDOUT (ferry_errmsg() says what is
 * left), -ECANCELED or -EDEADLK when something is: that is destroyed when it is given back, and one
 * may call this again, to wait again. FERRY_ECLOSED when nothing was left before; FERRY_EFORKED;
 * -ENOMEM for the record that a thread's first call makes, with nothing done. Several may wait for
 * the end together. May suspend or block. Any thread. */
FERRY_API int ferry_pool_close(ferry_pool *pool, int64_t ms);

/* Frees it. Returns 0, also for NULL; -EBUSY, with nothing freed, while it has resources (close it
 * first) or somebody waits. In the child of a fork resources are no obstacle: they are the
 * parent's, and aren't destroyed. Nobody may use it any more. Never waits for what waits. Any
 * thread. */
FERRY_API int ferry_pool_free(ferry_pool *pool);

typedef struct ferry_pool_stats {
    size_t lent;
    size_t idle;
    size_t preparing; /* being created or checked */
    size_t ending;    /* being destroyed */
    size_t waiting;   /* acquires in line */
    uint64_t created; /* so far, like what follows */
    uint64_t destroyed;
    uint64_t failed;   /* calls of create that failed */
    uint64_t expired;  /* destroyed because they were idle for too long */
    uint64_t unfit;    /* destroyed because `check` said so */
    uint64_t timeouts; /* acquires that ended with -ETIMEDOUT */
    size_t reserved[4];
} ferry_pool_stats;

/* A consistent snapshot of the counters; all zero in the child of a fork. Never waits. Any
 * thread. */
FERRY_API void ferry_pool_get_stats(ferry_pool *pool, ferry_pool_stats *stats);

FERRY_END_DECLS

#endif

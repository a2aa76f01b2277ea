/* So many at once per class of work: a limit for each key, and one for all keys together.
 *
 * A key names what may get stuck: a host, a file system, a tenant. With one call per key at a time
 * a server that doesn't answer holds one thread, not all of them.
 *
 *     const ferry_limiter_options options = {.name = "hosts", .per_key = 1, .total = 8};
 *     ferry_limiter *hosts;
 *     ferry_limiter_new(&hosts, &options);
 *     ...
 *     ferry_future *f = ferry_limiter_submit(hosts, "nfs.example", NULL, stat_it, path);
 *
 * Those who wait for a key are served first come first served. When all keys together are the
 * limit, the keys take turns: however many wait for one of them. */
#ifndef FERRY_LIMITER_H
#define FERRY_LIMITER_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* Zero is the default of each. */
typedef struct ferry_limiter_options {
    const char *name;  /* for reports; copied, cut at 31 bytes; default "limiter" */
    size_t per_key;    /* tokens of one key; default 1 */
    size_t total;      /* tokens of all keys together; default: no limit */
    void *reserved[4]; /* zero */
} ferry_limiter_options;

/* Makes one; `options` may be NULL. Returns 0 and it in *out, or -ENOMEM. Keys need no preparation,
 * and one that nobody holds or waits for takes no memory. Any thread; never waits. */
FERRY_API int ferry_limiter_new(ferry_limiter **out, const ferry_limiter_options *options);

/* Takes a token of the key, in turn; a token isn't bound to who took it. `key` is a string of any
 * length, which is copied. Returns 0; -ECANCELED: none was taken; -EINVAL for NULL; -EDEADLK on a
 * loop's own thread outside a task when it would have to wait; -ENOMEM: no memory for the key, or
 * for the record that a thread's first call makes; FERRY_EFORKED: the limiter belongs to the parent
 * process. Suspends or blocks. Any thread. */
FERRY_API int ferry_limiter_acquire(ferry_limiter *limiter, const char *key);
/* The same for `ms` milliseconds at most; or -ETIMEDOUT: ferry_errmsg() says how many hold the
 * key. */
FERRY_API int ferry_limiter_acquire_for(ferry_limiter *limiter, const char *key, int64_t ms);
/* Takes one if it is free: or -EAGAIN. Never waits. Any thread. */
FERRY_API int ferry_limiter_try(ferry_limiter *limiter, const char *key);

/* Gives a token of the key back, to who is next. Returns 0; -EPERM when none of that key is taken
 * by ferry_limiter_acquire() or _try(); -EINVAL for NULL; FERRY_EFORKED. Never waits. Any
 * thread. */
FERRY_API int ferry_limiter_release(ferry_limiter *limiter, const char *key);

/* ferry_submit_with() with .limiter and .key set: takes a token, in turn, then submits the job,
 * which holds the token until its thread has left fn: also when it was given up
 * (FERRY_JOB_ABANDON). The token of a job that never runs is free at once. Returns a handle; NULL
 * only when out of memory. The errors of an acquire come with the handle, but for one: -EAGAIN
 * where nothing may wait (on a loop's own thread outside a task). Suspends or blocks until there is
 * a token. A job that waits here for a key that it holds itself waits for ever. Any thread. */
FERRY_API ferry_future *ferry_limiter_submit(ferry_limiter *limiter, const char *key,
                                             ferry_executor *executor, ferry_fn fn, void *arg);

/* Gives the limiter back. Returns 0, also for NULL: jobs keep their tokens, and the memory goes
 * with the last. -EBUSY, with nothing done, while somebody waits, or holds a token from an acquire.
 * Nobody may use it any more. Any thread; never waits. */
FERRY_API int ferry_limiter_free(ferry_limiter *limiter);

typedef struct ferry_limiter_stats {
    size_t held;       /* tokens taken now */
    size_t by_jobs;    /* of them by jobs */
    size_t waiting;    /* acquires and submits that wait */
    size_t keys;       /* keys that somebody holds or waits for */
    uint64_t granted;  /* tokens given so far */
    uint64_t timeouts; /* acquires that ended with -ETIMEDOUT so far */
    size_t reserved[2];
} ferry_limiter_stats;

/* A consistent snapshot: of all keys with `key` NULL, else `held`, `by_jobs` and `waiting` of that
 * one. All zero in the child of a fork. Never waits. Any thread. */
FERRY_API void ferry_limiter_get_stats(ferry_limiter *limiter, const char *key,
                                       ferry_limiter_stats *stats);

FERRY_END_DECLS

#endif

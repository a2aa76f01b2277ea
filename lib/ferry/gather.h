/* Waiting for several handles at once. */
#ifndef FERRY_GATHER_H
#define FERRY_GATHER_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

enum ferry_gather_flags {
    FERRY_COLLECT = 1 /* keep every result and error; don't cancel the others when one fails */
};

/* Awaits all n handles and gives all n references back, whatever happens: nothing is left behind.
 * `results` (n values, or NULL) gets each one's result as ferry_await() would return it, in the
 * order of the arguments. The same handle may stand there twice: it counts once and fills both
 * places. Handles of several loops and executors may be mixed.
 * Without flags: the first error cancels the others; when all have ended, that error is returned
 * (its detail is in ferry_errmsg()), or 0. A member that somebody else cancelled counts as
 * FERRY_EJOBCANCELED.
 * With FERRY_COLLECT: 0 when all have ended, however they did.
 * -ECANCELED when the caller was cancelled: the unfinished ones were cancelled and joined first.
 * -ENOMEM when a handle is NULL or memory is short: all handles were cancelled and joined.
 * The handles are still the caller's after -EDEADLK (the caller's own handle is among them, or it
 * would have to wait on a loop's own thread outside a task), FERRY_EFORKED (one belongs to the
 * parent process) and -EINVAL (unknown flags).
 * n = 0 completes at once with 0. Suspends or blocks. Any thread. */
FERRY_API int64_t ferry_gather(ferry_future **futures, size_t n, int64_t *results, unsigned flags);

enum ferry_wait_for_what {
    FERRY_FIRST_DONE = 0, /* one has ended */
    FERRY_FIRST_ERROR,    /* one has failed (a cancelled one hasn't), or all have ended */
    FERRY_ALL_DONE
};

/* Looks on until the condition holds, `ms` milliseconds at most. Consumes and cancels nothing.
 * Returns the index of the one that decided (the first in the order of ending, when several
 * have; with FERRY_ALL_DONE and with FERRY_FIRST_ERROR when none failed: of the last one to
 * end); -ETIMEDOUT; -ECANCELED when the caller was cancelled; -EINVAL for an unknown `what` and
 * for an empty set with FERRY_FOREVER or with FERRY_ALL_DONE (an empty set with a time-out just
 * waits for it); -ENOMEM for a NULL handle or when memory is short; -EDEADLK and FERRY_EFORKED
 * as ferry_await(). What is done already beats a time-out of zero. Suspends or blocks. */
FERRY_API int ferry_wait_until(ferry_future **futures, size_t n, int what, int64_t ms);

/* Index of one that is done. */
FERRY_API int ferry_wait_any(ferry_future **futures, size_t n, int64_t ms);

/* 0 when all are done; else as ferry_wait_until(). */
FERRY_API int ferry_wait_all(ferry_future **futures, size_t n, int64_t ms);

/* Handles one by one, in the order in which they end.
 *
 *     ferry_completion *done = ferry_completion_new(futures, n);
 *     while ((i = ferry_completion_next(done, 1000)) >= 0)
 *         use(i, ferry_await(futures[i]));
 *     ferry_completion_free(done);
 */
typedef struct ferry_completion ferry_completion;

/* Looks at n handles (a handle that stands there twice is given once, with its first index).
 * They stay the caller's, who may await one as soon as it was given. NULL when out of memory or
 * when a handle is NULL. */
FERRY_API ferry_completion *ferry_completion_new(ferry_future **futures, size_t n);

/* The index of the next one that has ended; none is given twice. Those that are done already
 * come first, and beat a time-out of zero; -ETIMEDOUT and -ECANCELED leave the iteration as it
 * is, to be gone on with; FERRY_END after the last; -EDEADLK as ferry_await(). Suspends or
 * blocks. One caller at a time. */
FERRY_API int ferry_completion_next(ferry_completion *completion, int64_t ms);

/* Stops looking. NULL is ignored. Never blocks. */
FERRY_API void ferry_completion_free(ferry_completion *completion);

FERRY_END_DECLS

#endif

/* Error codes, and the words for them.
 *
 * Every code is negative: -errno where POSIX has a word for it, one of enum ferry_errno for what
 * it has none for, and a bridge's own range for the library that it wraps. */
#ifndef FERRY_ERROR_H
#define FERRY_ERROR_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

enum ferry_errno {
    FERRY_EJOBCANCELED = -10001, /* what you awaited was cancelled by someone else; you are not */
    FERRY_ECLOSED = -10002,      /* the object (queue, executor, loop, promise) was shut down */
    FERRY_END = -10003,          /* a stream is over */
    FERRY_EBROKEN = -10004,      /* a barrier, or the other end of a channel, is broken */
    FERRY_EGROUP = -10005,       /* one or more members of a group failed: see
                                  * ferry_group_errors() */
    FERRY_EFORKED = -10006,      /* the object belongs to the parent process: fork() copies no
                                  * threads */
    FERRY_ESTOPPED = -10007      /* ferry_loop_stop() ended the run before its first task was
                                  * done */
};

/* A bridge turns its library's codes into a range of its own and registers the words for it, so
 * that ferry_strerror() knows all of them. Codes from `lowest` to `highest` (both negative)
 * belong to it. `text` must be thread-safe and return a string that stays valid. Registering the
 * same range again replaces the function. Returns 0; -EINVAL for a range that isn't negative or
 * overlaps another one, errno's (-4095 to -1) or Ferry's own (-10099 to -10001); -ENOSPC when 16
 * bridges are registered already. Any thread; never blocks. */
FERRY_API int ferry_error_register(int64_t lowest, int64_t highest,
                                   const char *(*text)(int64_t code));

/* The words for a code ("Connection refused"; "no error" for code >= 0). The string is static or
 * lives as long as the thread; for an errno it is valid until the same thread calls
 * ferry_strerror() again. Any thread; never blocks; never NULL. */
FERRY_API const char *ferry_strerror(int64_t code);

/* The symbol of a code ("ECONNREFUSED", "FERRY_EJOBCANCELED"), or NULL when it has none. Static. */
FERRY_API const char *ferry_error_name(int64_t code);

/* Records a detail for people ("cannot open 'x.db': is a directory") as the current task's,
 * job's or thread's last error, and returns `code`, so that one can write: return
 * ferry_fail(-EIO, "...", ...). What a job or a task records before it returns that code travels
 * with its handle to whoever awaits it. Text is cut at 1,000 bytes. When memory is short the
 * words of the code stand in for the text. Any thread; never suspends or blocks. */
FERRY_API int64_t ferry_fail(int64_t code, const char *fmt, ...) FERRY_PRINTF(2, 3);

/* The detail of the last error that a Ferry call returned to (or ferry_fail() recorded for) the
 * current task, job or thread; the words of its code when it has no detail; "" when there was
 * none. Valid until the next Ferry call that fails in the same task, job or thread. Any thread;
 * never NULL. */
FERRY_API const char *ferry_errmsg(void);

/* One error of a group or a gather: who failed, with what, and, when that was a group itself,
 * its errors. */
typedef struct ferry_error {
    int64_t code;
    const char *name;    /* of the task or job that failed; "body" for the group's own body */
    const char *message; /* its detail, or the words of the code; never NULL */
    const struct ferry_error *causes;
    size_t n_causes;
} ferry_error;

/* The errors behind the last FERRY_EGROUP that the current task, job or thread got, in the order
 * in which they happened; *n is their number. NULL and 0 when the last error wasn't a
 * FERRY_EGROUP. Owned by the library; valid until the next Ferry call that fails in the same
 * task, job or thread. */
FERRY_API const ferry_error *ferry_group_errors(size_t *n);

FERRY_END_DECLS

#endif

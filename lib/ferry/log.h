/* What nobody waits for is said here: errors of detached work, slow steps, stuck shutdowns. */
#ifndef FERRY_LOG_H
#define FERRY_LOG_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

enum ferry_log_level {
    FERRY_LOG_DEBUG = 0,
    FERRY_LOG_INFO = 1,
    FERRY_LOG_WARNING = 2,
    FERRY_LOG_ERROR = 3
};

typedef void (*ferry_log_fn)(int level, const char *message, void *arg);

/* Sets who gets the library's messages; NULL: standard error, warnings and errors only. The
 * function may be called from any thread, several at once, and must not call back into Ferry's
 * waiting functions. `message` is one line without a newline and is valid during the call only.
 * Any thread; never blocks. */
FERRY_API void ferry_log_set(ferry_log_fn fn, void *arg);

FERRY_END_DECLS

#endif

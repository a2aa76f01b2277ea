/* Messages for people, to the program's hook or to standard error.
 *
 * The hook is a pair, read and replaced under the lock and called outside of it: a call that has
 * begun may still reach the old hook after ferry_log_set() has returned. */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "fork.h"

enum { LINE_MAX_BYTES = 1000 };

unsigned ferry__log_lock;
static ferry_log_fn hook; /* under the lock */
static void *hook_arg;    /* under the lock */

void ferry_log_set(ferry_log_fn fn, void *arg) {
    ferry__fork_watch();
    ferry__lock(&ferry__log_lock);
    hook = fn;
    hook_arg = arg;
    ferry__unlock(&ferry__log_lock);
}

/* One write, so that lines of several threads don't mix. */
static void to_stderr(int level, const char *message) {
    if (level < FERRY_LOG_WARNING)
        return;
    char line[LINE_MAX_BYTES + 32];
    int length = snprintf(line, sizeof line, "ferry: %s: %s\n",
                          level == FERRY_LOG_WARNING ? "warning" : "error", message);
    if (length < 0 || write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody is left to be told */
}

void ferry__log(int level, const char *fmt, ...) {
    int saved = errno;
    char message[LINE_MAX_BYTES + 1];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (length < 0)
        message[0] = '\0';
    for (char *at = message; (at = strpbrk(at, "\r\n")) != NULL;)
        *at = ' ';

    ferry__lock(&ferry__log_lock);
    ferry_log_fn fn = hook;
    void *arg = hook_arg;
    ferry__unlock(&ferry__log_lock);
    if (fn)
        fn(level, message, arg);
    else
        to_stderr(level, message);
    errno = saved;
}

/* What the child of a fork says to the test. */
#ifndef FERRY_TEST_CHILD_H
#define FERRY_TEST_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

/* Ends the child. The good end is by a signal: tools that look for leaks at exit find the
 * records of the parent's threads there, which nobody in the child refers to. */
static inline void end_child(bool good) {
    if (good) {
        kill(getpid(), SIGKILL);
    }
    _exit(1);
}

/* `status` is from waitpid(). */
static inline bool child_was_good(int status) {
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

#endif

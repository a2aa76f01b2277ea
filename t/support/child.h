/* What the child of a fork says to the test, and a child that is the same program from the
 * start. */
#ifndef FERRY_TEST_CHILD_H
#define FERRY_TEST_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* A child that hangs ends after a while. */
static inline pid_t fork_with_alarm(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        alarm(20);
    return pid;
}

/* In a child, like CHECK: says what isn't so, and ends it. */
#define MUST(claim) \
    do { \
        if (!CHECK(claim)) { \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)

/* Ends the child. The good end is by a signal: tools that look for leaks at exit find the
 * records of the parent's threads there, which nobody in the child refers to. */
static inline void end_child(bool good) {
    if (good) {
        kill(getpid(), SIGKILL);
    }
    _exit(1);
}

/* Ends the child by exec: what the parent's other threads held is unreachable there, and a leak
 * checker would say so. */
static inline void end_well(void) {
    execlp("true", "true", (char *)NULL);
    _exit(2);
}

static inline bool ended_well(pid_t pid) {
    int status = -1;
    return CHECK(pid > 0) && CHECK_INT(waitpid(pid, &status, 0), pid) && CHECK_INT(status, 0);
}

/* `status` is from waitpid(). */
static inline bool child_was_good(int status) {
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* In the child of a fork: becomes this program anew, with one argument or two (the second may be
 * NULL). By its path: under Valgrind /proc/self/exe is one only for those who read it. Returns
 * when that can't be. */
static inline void exec_anew(const char *argument, const char *second) {
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return;
    self[n] = '\0';
    execl(self, self, argument, second, (char *)NULL);
}

#endif

/* Runs a program on a terminal of its own:
 *
 *     on-terminal COLUMNS PROGRAM [ARGUMENT]...
 *
 * What the program writes there goes to standard output, until nobody has the terminal open any
 * more. The status is the program's, or 128 and the number of the signal that ended it.
 *
 * Not script(1): that of util-linux stops itself for good once its child was stopped and continued,
 * and doesn't see the child's end where SIGCHLD is ignored.
 */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { ROWS = 24, SILENT_SECONDS = 300, STATUS_FAILED = 125, STATUS_NO_PROGRAM = 127 };

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "on-terminal: %s: %s\n", what, strerror(errno));
    exit(STATUS_FAILED);
}

/* The side of the program; the other one, where its output comes out, is in *outside. */
static int new_terminal(unsigned short columns, int *outside) {
    const struct winsize size = {.ws_row = ROWS, .ws_col = columns};
    *outside = posix_openpt(O_RDWR | O_NOCTTY);
    if (*outside < 0 || grantpt(*outside) || unlockpt(*outside))
        fail("cannot make a terminal");
    const char *name = ptsname(*outside);
    int inside = name ? open(name, O_RDWR | O_NOCTTY) : -1;
    if (inside < 0 || ioctl(inside, TIOCSWINSZ, &size))
        fail("cannot open the terminal");
    return inside;
}

static pid_t start(char **program, int inside, int outside) {
    pid_t pid = fork();
    if (pid < 0)
        fail("cannot fork");
    if (pid == 0) {
        close(outside);
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
            dup2(inside, fd);
        if (inside > STDERR_FILENO)
            close(inside);
        execv(program[0], program);
        fprintf(stderr, "on-terminal: %s: %s\n", program[0], strerror(errno));
        _exit(STATUS_NO_PROGRAM);
    }
    close(inside);
    return pid;
}

/* False if nothing came for too long. Seconds in which all are stopped don't count. */
static bool relay(int outside) {
    char bytes[4096];
    for (int silent = 0; silent < SILENT_SECONDS;) {
        struct pollfd polled = {.fd = outside, .events = POLLIN};
        int ready = poll(&polled, 1, 1000);
        if (ready == 0) {
            silent++;
            continue;
        }
        ssize_t n = ready < 0 ? -1 : read(outside, bytes, sizeof bytes);
        if (n > 0) {
            silent = 0;
            fwrite(bytes, 1, (size_t)n, stdout);
        } else if (n == 0 || errno != EINTR) {
            return true; /* on Linux the end is EIO */
        }
    }
    return false;
}

int main(int argc, char **argv) {
    int outside, status;
    int columns = argc < 3 ? 0 : atoi(argv[1]);
    if (columns <= 0 || columns > 1000) {
        fputs("usage: on-terminal COLUMNS PROGRAM [ARGUMENT]...\n", stderr);
        return STATUS_FAILED;
    }
    /* Where it is ignored a child leaves no status. */
    signal(SIGCHLD, SIG_DFL);
    int inside = new_terminal((unsigned short)columns, &outside);
    pid_t pid = start(argv + 2, inside, outside);
    if (!relay(outside)) {
        fprintf(stderr, "on-terminal: %s wrote nothing for %d seconds: killed\n", argv[2],
                SILENT_SECONDS);
        kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            fail("cannot wait");
    }
    if (fflush(stdout) || ferror(stdout))
        fail("cannot write");
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

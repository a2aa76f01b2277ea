/* A task that runs into the guard of its stack is named before the process dies of it.
 *
 * The handler runs on an alternate stack, looks where the fault was and writes one line if that is
 * the guard of the running task. Then the default action is set and the faulting instruction
 * runs again: the process ends as it would have, with the same exit status and a core
 * of the same place. A signal that somebody sent is raised again.
 *
 * Only a process without a handler gets one: programs, sanitizers and crash reporters that have
 * their own keep it. */
#include "config.h"

#include "overflow.h"

#include "alloc.h"
#include "stack.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

const struct ferry__stack *(*ferry__overflow_current)(const char **name);

/* The alternate stack that Ferry gave to this thread, and how many calls share it. */
static _Thread_local void *given;
static _Thread_local unsigned users;

static size_t append(char *line, size_t used, size_t room, const char *text) {
    while (*text != '\0' && used < room)
        line[used++] = *text++;
    return used;
}

static size_t append_number(char *line, size_t used, size_t room, size_t number) {
    char digits[24];
    char *at = digits + sizeof digits;
    *--at = '\0';
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return append(line, used, room, at);
}

static void report(const char *name, size_t size) {
    char line[256];
    const size_t room = sizeof line - 1, for_name = 128;
    size_t used = append(line, 0, for_name, "ferry: task '");
    used = append(line, used, for_name, name != NULL ? name : "unnamed");
    used = append(line, used, room, "' overflowed its stack of ");
    used = append_number(line, used, room, size);
    used = append(line, used, room, " bytes; spawn it with a larger stack_size");
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return; /* nobody is left to be told */
}

static void handler(int signo, siginfo_t *info, void *machine) {
    (void)machine;
    const char *name = NULL;
    const struct ferry__stack *stack =
        __atomic_load_n(&ferry__overflow_current, __ATOMIC_ACQUIRE)(&name);
    if (stack != NULL && info->si_code > 0) {
        uintptr_t at = (uintptr_t)info->si_addr, lo = (uintptr_t)stack->lo;
        if (at < lo && lo - at <= ferry__stack_guard_size())
            report(name, stack->size);
    }
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(signo, &plain, NULL);
    if (info->si_code <= 0)
        raise(signo);
}

static int install(int signo) {
    struct sigaction old;
    sigaction(signo, NULL, &old);
    if ((old.sa_flags & SA_SIGINFO) != 0)
        return old.sa_sigaction == handler ? 0 : -EEXIST;
    if (old.sa_handler != SIG_DFL)
        return -EEXIST;
    struct sigaction ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(signo, &ours, NULL);
    return 0;
}

int ferry__overflow_install(void) {
    int rc = install(SIGSEGV);
    if (rc == 0)
        (void)install(SIGBUS);
    return rc;
}

int ferry__overflow_thread(void) {
    if (users == 0) {
        stack_t now;
        sigaltstack(NULL, &now);
        if ((now.ss_flags & SS_DISABLE) != 0) {
            size_t size = 16 * 1024;
#ifdef _SC_SIGSTKSZ
            /* The processor's vector registers are saved there too, and they grow. */
            long least = sysconf(_SC_SIGSTKSZ);
            if (least > 0 && (size_t)least > size)
                size = (size_t)least;
#endif
            given = ferry__malloc(size);
            if (given == NULL)
                return -ENOMEM;
            stack_t ours = {.ss_sp = given, .ss_size = size};
            sigaltstack(&ours, NULL);
        }
    }
    users++;
    return 0;
}

void ferry__overflow_thread_end(void) {
    if (--users > 0 || given == NULL)
        return;
    stack_t now;
    sigaltstack(NULL, &now);
    if (now.ss_sp == given) {
        stack_t none = {.ss_flags = SS_DISABLE};
        sigaltstack(&none, NULL);
    }
    ferry__free(given);
    given = NULL;
}

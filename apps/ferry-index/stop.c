/* Being asked to stop. */
#include "config.h"

#include <errno.h>
#include <signal.h>

#include <ferry/error.h>
#include <ferry/signal.h>

#include "status.h"
#include "stop.h"

static int64_t watch(struct stop *stop, int signo) {
    int rc;
    while ((rc = ferry_signal_wait(signo)) == 0) {
        if (stop->signal)
            console_leave(stop->console, STATUS_SIGNAL + signo);
        stop->signal = signo;
        if (stop->scope)
            ferry_scope_cancel(stop->scope);
    }
    return rc == -ECANCELED ? 0 : rc;
}

static int64_t watch_interrupt(void *arg) {
    return watch(arg, SIGINT);
}

static int64_t watch_terminate(void *arg) {
    return watch(arg, SIGTERM);
}

static int64_t watch_hangup(void *arg) {
    return watch(arg, SIGHUP);
}

/* nohup says so. SIGINT is another matter: shells ignore it for what they start with "&", and who
 * sends it there means it. */
static bool hangup_is_ignored(void) {
    struct sigaction action;
    return sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int64_t stop_begin(struct stop *stop, struct console *console) {
    *stop = (struct stop){.console = console, .watchers = FERRY_GROUP_INIT};
    int64_t rc = ferry_group_open(&stop->watchers);
    if (rc < 0)
        return rc;
    rc = ferry_group_spawn(&stop->watchers, watch_interrupt, stop);
    if (rc == 0)
        rc = ferry_group_spawn(&stop->watchers, watch_terminate, stop);
    if (rc == 0 && !hangup_is_ignored())
        rc = ferry_group_spawn(&stop->watchers, watch_hangup, stop);
    if (rc < 0)
        stop_end(stop);
    return rc;
}

void stop_end(struct stop *stop) {
    ferry_group_cancel(&stop->watchers);
    ferry_group_close(&stop->watchers, 0);
    ferry_signal_restore(SIGINT);
    ferry_signal_restore(SIGTERM);
    ferry_signal_restore(SIGHUP);
}

int64_t stop_enter(struct stop *stop, ferry_scope *scope) {
    int64_t rc = ferry_scope_open(scope, FERRY_FOREVER);
    if (rc < 0)
        return rc;
    stop->scope = scope;
    if (stop->signal)
        ferry_scope_cancel(scope);
    return 0;
}

int64_t stop_leave(struct stop *stop, ferry_scope *scope, int64_t rc) {
    stop->scope = NULL;
    int64_t left = ferry_scope_close(scope, rc);
    return rc == -ECANCELED && stop->signal ? rc : left;
}

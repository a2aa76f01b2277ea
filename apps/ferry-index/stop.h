/* Being asked to stop: Ctrl-C, SIGTERM, SIGHUP.
 *
 * The first such signal cancels the scope that is being worked in; the work then ends in order. The
 * second one ends the program at once: the catalogue is always whole, and the next run goes on from
 * what was committed. */
#ifndef FERRY_INDEX_STOP_H
#define FERRY_INDEX_STOP_H

#include <stdbool.h>

#include <ferry/group.h>
#include <ferry/scope.h>

#include "console.h"

struct stop {
    struct console *console;
    ferry_group watchers;
    ferry_scope *scope; /* loop thread only: what a signal cancels; NULL when nothing can be */
    int signal;         /* loop thread only: the one that came; 0: none */
};

/* Begins to watch, until stop_end(), after which the signals do what they did before. From a task.
 * Returns 0 or an error. */
int64_t stop_begin(struct stop *stop, struct console *console);
void stop_end(struct stop *stop);

/* Around work that a signal may end: opens and closes `scope`. When a signal came already, the
 * scope is cancelled from the start. The second one returns `rc`, but -ECANCELED only when a signal
 * is the reason. */
int64_t stop_enter(struct stop *stop, ferry_scope *scope);
int64_t stop_leave(struct stop *stop, ferry_scope *scope, int64_t rc);

#endif

/* Who is parked, and who looks at a handle: so that a test acts at the moment that it is about. */
#ifndef FERRY_TEST_PARKED_H
#define FERRY_TEST_PARKED_H

#include <sched.h>
#include <string.h>

#include "core.h"
#include "support.h"

/* Whether a task of the calling thread's own loop waits, and nothing has ended its wait yet. */
static inline bool task_parked(ferry_future *task) {
    return ((struct ferry__task *)task)->state == FERRY__TASK_PARKED;
}

/* Lets the others run until it does. In a task of the same loop. */
static inline void until_parked(ferry_future *task) {
    while (!task_parked(task)) {
        ferry_yield();
    }
}

/* How many wait for a handle, or have a callback or a shield on it. Any thread; those at the home
 * of a job count as one elsewhere. */
static inline size_t links_on(ferry_future *f) {
    size_t n = 0;
    ferry__lock(&f->lock);
    for (struct ferry__link *link = f->first; link; link = link->next) {
        n++;
    }
    ferry__unlock(&f->lock);
    uint8_t state = atomic_load(&f->state);
    if (!f->home || !ferry__loop_here(f->home)) {
        return n + ((state & FERRY__AT_HOME) != 0);
    }
    for (struct ferry__waiter *w = f->waiters; w; w = w->next) {
        n++;
    }
    return n + ((state & FERRY__CALLS) != 0);
}

static inline void until_linked(ferry_future *f, size_t n) {
    while (links_on(f) != n) {
        ferry_yield();
    }
}

/* Until the thread whose record is announced there sleeps in a wait: it has looked, and what
 * comes now wakes it. */
static inline void until_asleep(_Atomic(struct ferry__thread *) *record) {
    struct ferry__thread *thread;
    while (!(thread = atomic_load(record)) || !atomic_load(&thread->sleeping)) {
        sched_yield();
    }
}

/* The log, kept: how many messages of at least `level` hold `text`. */
struct kept_log {
    unsigned lock;
    int level;
    const char *text;
    unsigned count; /* under the lock */
};

static inline void keep_log_message(int level, const char *message, void *arg) {
    struct kept_log *log = arg;
    ferry__lock(&log->lock);
    log->count += level >= log->level && strstr(message, log->text) != NULL;
    ferry__unlock(&log->lock);
}

static inline void keep_log(struct kept_log *log, int level, const char *text) {
    *log = (struct kept_log){.level = level, .text = text};
    ferry_log_set(keep_log_message, log);
}

/* The log goes where it went before. A message that is just being written may still come here. */
static inline unsigned kept_messages(struct kept_log *log) {
    ferry_log_set(NULL, NULL);
    ferry__lock(&log->lock);
    unsigned count = log->count;
    ferry__unlock(&log->lock);
    return count;
}

#endif

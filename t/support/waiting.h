/* A thread or a job that waits, for others to cancel; one that cancels itself. */
#ifndef FERRY_TEST_WAITING_H
#define FERRY_TEST_WAITING_H

#include "parked.h"
#include "waiters.h"

#define LONG 60000

/* A thread waits in a scope of its own. */
struct waiting {
    pthread_t thread;
    ferry_scope scope;
    int (*wait)(void *arg);
    void *arg;
    _Atomic(struct ferry__thread *) record;
    int rc;
    int64_t closed;
};

static inline void *wait_in_scope(void *arg) {
    struct waiting *w = arg;
    CHECK_INT(ferry_scope_open(&w->scope, FERRY_FOREVER), 0);
    atomic_store(&w->record, ferry__thread_self());
    w->rc = w->wait(w->arg);
    w->closed = ferry_scope_close(&w->scope, w->rc);
    return NULL;
}

static inline void begin_waiting(struct waiting *w, int (*wait)(void *arg), void *arg) {
    *w = (struct waiting){.wait = wait, .arg = arg};
    w->thread = start_thread(wait_in_scope, w);
    until_asleep(&w->record);
}

static inline int64_t wait_in_a_job(void *arg) {
    struct waiting *w = arg;
    atomic_store(&w->record, ferry__thread_self());
    w->rc = w->wait(w->arg);
    return w->rc;
}

static inline int64_t cancels_itself_and_sleeps(void *arg) {
    (void)arg;
    CHECK_INT(ferry_cancel(ferry_self()), FERRY_CANCEL_ASKED);
    return ferry_sleep(LONG);
}

static inline int64_t cancels_itself_and_returns(void *arg) {
    (void)arg;
    CHECK_INT(ferry_cancel(ferry_self()), FERRY_CANCEL_ASKED);
    return 7;
}

/* A job that runs until its gate opens, whatever it is told. */
struct stubborn {
    gate gate;
    _Atomic bool told;
    int hooks;
    int64_t result;
};

static inline int64_t runs_until_the_gate_opens(void *arg) {
    struct stubborn *s = arg;
    gate_wait(&s->gate);
    return s->result ? s->result : ferry_checkpoint();
}

static inline void interrupted(void *arg) {
    struct stubborn *s = arg;
    s->hooks++;
    atomic_store(&s->told, true);
}

static const ferry_job_options with_hook = {.interrupt = interrupted};

#endif

/* Small tasks and jobs that tests of groups and of several handles have in common. */
#ifndef FERRY_TEST_SLEEPER_H
#define FERRY_TEST_SLEEPER_H

#include <ferry.h>

/* Sleeps until it is cancelled. */
struct sleeper {
    ferry_event begun;
    int64_t rc;      /* of its sleep */
    int64_t instead; /* what it returns then; 0: that */
    bool ended;      /* later than the sleep, so that one sees whether it was joined */
};

static inline int64_t sleeps(void *arg) {
    struct sleeper *s = arg;
    ferry_event_set(&s->begun);
    s->rc = ferry_sleep(60000);
    ferry_yield();
    s->ended = true;
    return s->instead ? ferry_fail(s->instead, "broke while cleaning up") : s->rc;
}

static inline int64_t succeeds(void *arg) {
    *(bool *)arg = true;
    return 0;
}

static inline int64_t returns_it(void *arg) {
    return *(int64_t *)arg;
}

static inline int64_t fails(void *arg) {
    return ferry_fail(*(int64_t *)arg, "code %d", (int)*(int64_t *)arg);
}

/* A promise for each place, so that the test decides who ends when. */
static inline void promises(ferry_promise **p, ferry_future **f, size_t n) {
    for (size_t i = 0; i < n; i++) {
        p[i] = ferry_promise_new(&f[i], NULL);
    }
}

static inline void drop(ferry_promise **p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        ferry_promise_drop(p[i]);
    }
}

#endif

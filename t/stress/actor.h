/* Who waits in a stress test, and may be cancelled while it does. */
#ifndef FERRY_TEST_ACTOR_H
#define FERRY_TEST_ACTOR_H

#include <errno.h>
#include <ferry.h>

#include "stress.h"

/* A waiter in a scope of its own, which a hand cancels or not. */
struct actor {
    ferry_scope scope;
    int rc;
    int after; /* what its next wait said */
};

static inline void enter(struct actor *a) {
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
}

/* `hand` may cancel the scope until then. */
static inline void leave(struct stress_round *round, struct actor *a, int hand) {
    a->after = ferry_checkpoint();
    stress_wait_for(round, hand);
    CHECK_INT(ferry_scope_close(&a->scope, 0), 0);
}

/* A time-out now and then, so that all three meet. */
static inline int64_t some_time(void) {
    return points_random() % 16 == 0 ? 1 : FERRY_FOREVER;
}

static inline bool said_no(int rc) {
    return rc == -ECANCELED || rc == -ETIMEDOUT;
}

static inline void cancel_or_not(ferry_scope *scope) {
    if (points_random() % 8 != 0)
        ferry_scope_cancel(scope);
}

#endif

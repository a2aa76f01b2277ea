/* What tests await, for the tests of handles. */
#ifndef FERRY_TEST_FUTURE_H
#define FERRY_TEST_FUTURE_H

#include <ferry.h>

#define LONG 60000

static inline int64_t returns_it(void *arg) {
    return *(int64_t *)arg;
}

static inline int64_t sleeps(void *arg) {
    (void)arg;
    return ferry_sleep(LONG);
}

static inline int64_t awaits_it(void *arg) {
    return ferry_await(arg);
}

#endif

/* Who waits on a primitive: so that a test goes on when somebody waits, not after a while. And who
 * holds a mutex. */
#ifndef FERRY_TEST_WAITERS_H
#define FERRY_TEST_WAITERS_H

#include <stdlib.h>

#include "core.h"
#include "support.h"

/* How many in the line still wait: neither granted nor cancelled nor timed out. */
static inline size_t waiters_in(unsigned *lock, void *const *first) {
    size_t n = 0;
    ferry__lock(lock);
    for (struct ferry__waiter *w = *first; w; w = w->next) {
        if (atomic_load(&w->outcome) == FERRY__WAITING) {
            n++;
        }
    }
    ferry__unlock(lock);
    return n;
}

/* Lets others run until n wait. In a task or in a thread. */
static inline void until_waiters(unsigned *lock, void *const *first, size_t n) {
    while (waiters_in(lock, first) != n) {
        ferry_yield();
    }
}

/* NULL: nobody. */
static inline bool held_by(ferry_mutex *mutex, struct ferry__ctx *ctx) {
    uintptr_t word = (uintptr_t)__atomic_load_n(&mutex->owner, __ATOMIC_ACQUIRE);
    return (word & ~(uintptr_t)1) == (uintptr_t)ctx;
}

static inline pthread_t start_thread(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, fn, arg) != 0) {
        perror("pthread_create");
        abort();
    }
    return thread;
}

/* Runs fn(arg) here: in this thread, or in the first task of a loop, where it is to return 0. */
static inline void run_here(bool in_a_loop, ferry_fn fn, void *arg) {
    if (in_a_loop)
        CHECK_INT(ferry_run_with(fn, arg, &(ferry_run_options){.no_signals = true}), 0);
    else
        fn(arg);
}

struct outside {
    bool in_a_loop;
    ferry_fn fn;
    void *arg;
};

static inline void *run_outside(void *arg) {
    struct outside o = *(struct outside *)arg;
    free(arg);
    run_here(o.in_a_loop, o.fn, o.arg);
    return NULL;
}

/* The same in a thread of its own. */
static inline pthread_t start_outside(bool in_a_loop, ferry_fn fn, void *arg) {
    struct outside *o = malloc(sizeof *o);
    if (!o)
        abort();
    *o = (struct outside){in_a_loop, fn, arg};
    return start_thread(run_outside, o);
}

static inline pthread_t start_in_thread(ferry_fn fn, void *arg) {
    return start_outside(false, fn, arg);
}

static inline pthread_t start_in_loop(ferry_fn fn, void *arg) {
    return start_outside(true, fn, arg);
}

static inline void *enroll_and_stand(void *arg) {
    CHECK(ferry__thread_self() != NULL);
    gate_wait(arg);
    return NULL;
}

/* Records for more threads than a pool makes: they stay for those that come later. Else a count of
 * what is allocated would hang on how many of them happen to be there at once. */
static inline void spare_records(void) {
    enum { THREADS = 64 };
    gate g = GATE_INIT;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_thread(enroll_and_stand, &g);
    gate_wait_arrivals(&g, THREADS);
    gate_open(&g);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    gate_destroy(&g);
}

#define WAITERS(object) waiters_in(&(object)->lock, &(object)->first)
#define UNTIL_WAITERS(object, n) until_waiters(&(object)->lock, &(object)->first, (n))

/* A test whose body is the first task of a loop. */
#define TASK_TEST(name) \
    static int64_t name##_body(void *unused); \
    static void name(void **state) { \
        (void)state; \
        assert_int_equal(ferry_run(name##_body, NULL), 0); \
    } \
    static int64_t name##_body(__attribute__((unused)) void *unused)

#endif

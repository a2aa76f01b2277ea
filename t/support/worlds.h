/* The same steps in a task, in a thread and in a job: whoever waits, it is the same. */
#ifndef FERRY_TEST_WORLDS_H
#define FERRY_TEST_WORLDS_H

#include "pools.h"
#include "waiting.h"

/* For jobs that the steps start. */
static ferry_executor *side;

static inline void *worlds_thread(void *arg) {
    ferry_fn fn = *(ferry_fn *)arg;
    CHECK_INT(fn(NULL), 0);
    return NULL;
}

/* `fn` returns 0. Three times, so it begins with everything as new. */
static inline void everywhere(ferry_fn fn) {
    side = make_pool(4, NULL);
    printf("# in a thread\n");
    pthread_join(start_thread(worlds_thread, &fn), NULL);
    printf("# in a job\n");
    ferry_executor *own = make_pool(1, NULL);
    CHECK_INT(ferry_await(ferry_submit(own, fn, NULL)), 0);
    end_pool(own);
    printf("# in a task\n");
    CHECK_INT(ferry_run(fn, NULL), 0);
    end_pool(side);
}

/* A test whose body runs everywhere. */
#define WORLDS_TEST(name) \
    static int64_t name##_steps(void *unused); \
    static void name(void **state) { \
        (void)state; \
        everywhere(name##_steps); \
    } \
    static int64_t name##_steps(__attribute__((unused)) void *unused)

/* Another thread acts as soon as somebody waits for the handle. */
struct meanwhile {
    ferry_future *f;
    void (*act)(void *arg);
    void *arg;
    pthread_t thread;
};

static inline void *meanwhile_thread(void *arg) {
    struct meanwhile *m = arg;
    while (links_on(m->f) == 0)
        sched_yield();
    m->act(m->arg);
    return NULL;
}

static inline void meanwhile(struct meanwhile *m, ferry_future *f, void (*act)(void *arg),
                             void *arg) {
    *m = (struct meanwhile){.f = f, .act = act, .arg = arg};
    m->thread = start_thread(meanwhile_thread, m);
}

static inline void cancel_a_scope(void *arg) {
    ferry_scope_cancel(arg);
}

#endif

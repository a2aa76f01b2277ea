/* A test's thread that keeps records of tasks and jobs for the next ones, and a pool of one thread:
 * the test's allocator, and a tool that watches, would turn that off. */
#ifndef FERRY_TEST_KEEPING_H
#define FERRY_TEST_KEEPING_H

#include "executor.h"
#include "oom.h"
#include "pools.h"
#include "waiters.h"

enum { MOST = FERRY__RECORD_BATCH };

static ferry_executor *pool;

static inline int begin_keeping(void **state) {
    (void)state;
    pool = make_pool(1, NULL);
    ferry__thread_self()->cache.most_kept = MOST;
    return 0;
}

static inline int end_keeping(void **state) {
    (void)state;
    end_pool(pool);
    ferry__cache_end(&ferry__thread_self()->cache);
    ferry__cache_begin(&ferry__thread_self()->cache);
    return 0;
}

static inline void *run_and_keep(void *fn) {
    ferry__thread_self()->cache.most_kept = MOST;
    CHECK_INT(ferry_run(*(ferry_fn *)fn, NULL), 0);
    return NULL;
}

/* A thread that has kept what `fn` leaves, the first task of a loop there, gives all of it back at
 * its end. In a test itself. */
static inline void gives_back_at_its_end(ferry_fn fn) {
    pthread_join(start_thread(run_and_keep, &fn), NULL);
    long blocks = oom_blocks();
    for (int i = 0; i < 3; i++) {
        pthread_join(start_thread(run_and_keep, &fn), NULL);
        assert_int_equal(oom_blocks(), blocks);
    }
}

/* A test with these. */
#define KEEPING(text, function) CASE_WITH(text, function, begin_keeping, end_keeping)

#endif

/* A test's thread that keeps records of tasks and jobs for the next ones, and a pool of one thread:
 * the test's allocator, and a tool that watches, would turn that off. */
#ifndef FERRY_TEST_KEEPING_H
#define FERRY_TEST_KEEPING_H

#include "executor.h"
#include "pools.h"

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

/* A test with these. */
#define KEEPING(text, function) CASE_WITH(text, function, begin_keeping, end_keeping)

#endif

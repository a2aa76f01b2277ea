/* Pools and small jobs for the tests of executors. */
#ifndef FERRY_TEST_POOLS_H
#define FERRY_TEST_POOLS_H

#include <ferry.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

/* For code that must not be reached. */
#define MUST_NOT_HAPPEN(what) support_check(false, what, __FILE__, __LINE__)

/* A pool of at most `threads` threads; `options` NULL, or what else it is to be. Idle threads stay
 * for an hour, unless that says something else: on a machine that stops for a while none is
 * gone. */
static inline ferry_executor *make_pool(int threads, const ferry_executor_options *options) {
    ferry_executor_options all = options ? *options : (ferry_executor_options){0};
    ferry_executor *pool;
    all.threads_max = threads;
    if (all.idle_ms == 0)
        all.idle_ms = 3600000;
    CHECK_INT(ferry_executor_new(&pool, &all), 0);
    return pool;
}

static inline ferry_executor *make_strand(ferry_executor *pool, int width) {
    ferry_executor *strand;
    CHECK_INT(ferry_strand_new(&strand, pool, &(ferry_executor_options){.threads_max = width}), 0);
    return strand;
}

static inline ferry_executor_stats stats_of(ferry_executor *executor) {
    ferry_executor_stats stats;
    ferry_executor_get_stats(executor, &stats);
    return stats;
}

/* Waits for the end of all jobs and threads, and gives it back: a job or thread that stays would
 * hang the test. */
static inline void end_pool(ferry_executor *executor) {
    CHECK_INT(ferry_executor_stop(executor, FERRY_FOREVER), 0);
    ferry_executor_free(executor);
}

static inline int64_t return_arg(void *arg) {
    return (int64_t)(intptr_t)arg;
}

/* Which thread runs it. */
static inline int64_t my_thread(void *arg) {
    (void)arg;
    return (int64_t)(uintptr_t)pthread_self();
}

static inline void *as_arg(int64_t number) {
    return (void *)(intptr_t)number;
}

/* Until the kernel says that the thread (its gettid()) sleeps. */
static inline void until_in_the_kernel(int thread) {
    char path[64], line[256], state = '?';
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    while (state != 'S') {
        FILE *stat = fopen(path, "r");
        if (!CHECK(stat != NULL))
            return;
        if (fgets(line, sizeof line, stat) && strrchr(line, ')'))
            state = strrchr(line, ')')[2];
        fclose(stat);
        sched_yield();
    }
}

#endif

/* What one writes by hand instead of a library: a queue under a mutex, some threads, and an eventfd
 * that tells an epoll loop of what is done. No handles, no cancel, no deadlines.
 *
 *   signal   the obvious way: a signal for every job, an eventfd write for every job that is done
 *   batch    the fast way: jobs of one turn of the loop are handed over together, with a signal
 *            only if somebody waits; a thread takes up to 64 jobs at once (so a job may wait behind
 *            a slow one while other threads are idle) and hands them back together */
#ifndef FERRY_BENCH_PLAIN_H
#define FERRY_BENCH_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

typedef struct plain_job {
    struct plain_job *next;
    int64_t (*fn)(struct plain_job *);
    int64_t result;
    uint64_t number;
} plain_job;

typedef struct plain_pool plain_pool;

plain_pool *plain_new(int threads, bool batch);
void plain_submit(plain_pool *pool, plain_job *job);

/* The loop: what was submitted is handed over at the latest now. Waits, and returns a list of
 * jobs that are done. */
plain_job *plain_wait(plain_pool *pool);

void plain_free(plain_pool *pool); /* nothing may be in flight */

#endif

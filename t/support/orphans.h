/* Jobs that nobody but the test has any more. */
#ifndef FERRY_TEST_ORPHANS_H
#define FERRY_TEST_ORPHANS_H

#include <sched.h>

#include "executor.h"

/* The result, once its own thread is done with the job: so that it comes to its end here. */
static inline int64_t result_of(ferry_future *job) {
    while (!ferry__job_orphaned((struct ferry__job *)job))
        sched_yield();
    return ferry_await(job);
}

#endif

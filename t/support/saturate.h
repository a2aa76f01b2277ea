/* A pool without a free thread: what is submitted next stays queued as long as the test wants. */
#ifndef FERRY_TEST_SATURATE_H
#define FERRY_TEST_SATURATE_H

#include "support.h"

#include <ferry.h>

enum { SATURATION_MAX = 64 };

typedef struct saturation {
    gate gate;
    ferry_future *jobs[SATURATION_MAX];
    unsigned count;
} saturation;

/* Submits a job for each of the pool's `threads` threads (its threads_max) and returns when all
 * of them stand at a gate. It blocks the calling thread. `s` must stay where it is until
 * desaturate(). */
void saturate(saturation *s, ferry_executor *pool, unsigned threads);

/* Opens the gate and awaits those jobs: from a task it suspends, from a thread it blocks. */
void desaturate(saturation *s);

#endif

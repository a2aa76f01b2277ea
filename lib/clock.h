/* Time: nanoseconds of CLOCK_MONOTONIC, absolute inside the library, saturating. */
#ifndef FERRY__CLOCK_H
#define FERRY__CLOCK_H

#include <limits.h>
#include <stdint.h>
#include <time.h>

#include <ferry/base.h>

#define FERRY__NEVER INT64_MAX
#define FERRY__MS INT64_C(1000000)

static inline int64_t ferry__now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Some milliseconds old at most, and cheaper. */
static inline int64_t ferry__now_roughly(void) {
#ifdef CLOCK_MONOTONIC_COARSE
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
#else
    return ferry__now();
#endif
}

/* The moment `ms` milliseconds from now. What has expired already is 0, a moment long ago: so it
 * counts as passed whatever clock reading it is compared with. */
static inline int64_t ferry__deadline(int64_t ms) {
    if (ms == FERRY_FOREVER)
        return FERRY__NEVER;
    if (ms <= 0)
        return 0;
    int64_t now = ferry__now();
    return ms >= (FERRY__NEVER - now) / FERRY__MS ? FERRY__NEVER : now + ms * FERRY__MS;
}

/* A time-out for poll(): milliseconds until then, rounded up, so that it is never early; -1 for
 * never. */
static inline int ferry__poll_ms(int64_t deadline) {
    if (deadline == FERRY__NEVER)
        return -1;
    int64_t left = deadline - ferry__now();
    if (left <= 0)
        return 0;
    int64_t ms = (left - 1) / FERRY__MS + 1;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

#endif

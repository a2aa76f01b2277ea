/* The bridge's clocks: in a file of their own, so that a test can put its own in their place. */
#include "config.h"

#include <time.h>

#include "sqlite-internal.h"

#define NS_PER_S INT64_C(1000000000)

static int64_t clock_ns(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now); /* can't fail for these clocks */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t ferry__sqlite_now(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t ferry__sqlite_now_coarse(void) {
#ifdef CLOCK_MONOTONIC_COARSE
    return clock_ns(CLOCK_MONOTONIC_COARSE);
#else
    return clock_ns(CLOCK_MONOTONIC);
#endif
}

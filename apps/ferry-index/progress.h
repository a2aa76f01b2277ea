/* How far a run is: a line on the terminal, redrawn some times a second; plain lines now and then
 * where there is none. */
#ifndef FERRY_INDEX_PROGRESS_H
#define FERRY_INDEX_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>

#include <ferry/group.h>

#include "console.h"
#include "counts.h"
#include "options.h"

struct pipeline;

struct progress {
    const struct pipeline *pipeline;
    ferry_group group; /* who draws, and who counts ahead */

    /* The whole tree, when it has been counted: */
    atomic_bool counted; /* set after the two */
    uint64_t entries, bytes;

    /* Of the drawing task and its jobs, one at a time: */
    double last; /* seconds of the monotonic clock */
    uint64_t last_read, last_settled;
    double last_work;
    double bytes_rate, entries_rate, work_rate; /* a second, smoothed */
    unsigned step;                              /* of the bar while the whole isn't known */
};

/* Begins to show it, in a group that is open until progress_end(). With options->quiet it shows
 * nothing. From a task. Returns 0 or an error. */
int64_t progress_begin(struct progress *progress, const struct pipeline *pipeline);

/* Takes the line away. Returns `rc`, or an error of its own when that is none. */
int64_t progress_end(struct progress *progress, int64_t rc);

#endif

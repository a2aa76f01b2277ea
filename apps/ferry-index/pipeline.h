/* From the walk to the end: the stages that a run and a verification share.
 *
 *     walk (a job) --batches--> compare (a job a batch) --parcels--> [work] --> -j hash jobs
 *                                          |                                        |
 *                                          `-------------> [results] <--------------'
 *                                                              |
 *                                                        absorb (a task)
 *
 * [work] and [results] are bounded queues, and so is the one inside of the walk: whoever is too
 * fast waits, and memory doesn't grow with the tree. The task that calls pipeline_run() takes the
 * batches and hands the parcels on.
 *
 * When it is cancelled, the walk ends, what waits in [work] is dropped, a file that is being read
 * is left after the current chunk, and what was hashed before still goes to `absorb`, which is
 * shielded and ends when [results] is closed and empty. An error of any stage cancels the others.
 */
#ifndef FERRY_INDEX_PIPELINE_H
#define FERRY_INDEX_PIPELINE_H

#include <ferry-file.h>
#include <ferry/queue.h>

#include "catalogue.h"
#include "console.h"
#include "counts.h"
#include "old.h"
#include "options.h"
#include "parcel.h"

/* What is to be done with an entry. */
enum verdict {
    VERDICT_FINE,   /* nothing: the catalogue is right about it */
    VERDICT_ABSORB, /* it goes to `absorb` */
    VERDICT_HASH    /* it goes there when it was hashed */
};

struct pipeline {
    /* Set by the caller: */
    const struct options *options;
    struct catalogue *catalogue;
    struct console *console;
    struct counts *counts;
    struct old *old;
    const char *root;

    /* Looks at an entry and at its row (NULL: there is none). On a worker thread, one at a time. */
    enum verdict (*judge)(const struct pipeline *pipeline, struct record *record,
                          const struct old_row *row);

    /* Takes a list of parcels, which stays the pipeline's, and may wait. In a task that is shielded
     * from cancels. Returns 0 or an error, which ends the run. */
    int64_t (*absorb)(struct pipeline *pipeline, struct parcels *parcels);

    /* The pipeline's: */
    ferry_queue *work, *results; /* of struct parcel */
    struct {
        const ferry_walk_batch *batch;
        struct parcels to_hash, to_absorb;
        int64_t next_row; /* the number of the next new row */
        uint64_t dev;     /* of the root */
        struct {
            uint64_t files, folders, symlinks, others, bytes, settled, settled_bytes, fine;
        } tally; /* of the batch */
    } compare;   /* the task's, and its compare job's while there is one */
};

/* Goes through the tree of pipeline->root. From a task. Returns 0 when all of it was gone through;
 * -ECANCELED; or the first error of a stage. */
int64_t pipeline_run(struct pipeline *pipeline);

/* How the tree is walked: what is left out, and where the walk ends. */
ferry_walk_options pipeline_walk_options(const struct pipeline *pipeline);

/* The error behind a FERRY_EGROUP; any other code as it is. */
int64_t pipeline_cause(int64_t rc);

/* The words for record->error. As ferry_strerror(). */
const char *record_error(int error);

#endif

/* Map: a function over many items, so many at a time, with the results in the order of the items.
 *
 *     static int64_t fetch(void *page) { ... }      // a job, or a task
 *     ...
 *     ferry_source source = {.items = pages, .n = n};
 *     ferry_stream *done = ferry_map_submit(NULL, fetch, &source,
 *                                           &(ferry_map_options){.concurrency = 16});
 *     while ((rc = ferry_stream_next(done, &page)) >= 0)
 *         show(page, rc);
 *     ferry_stream_close(done);                     // rc is FERRY_END, or the first error
 */
#ifndef FERRY_MAP_H
#define FERRY_MAP_H

#include <ferry/base.h>
#include <ferry/gather.h>
#include <ferry/stream.h>

FERRY_BEGIN_DECLS

/* Where the items come from: one of the three. */
typedef struct ferry_source {
    /* An array of n items; it is used until the close. */
    void *const *items;
    size_t n;
    /* A function that is called for one after the other, inside the calls for results, in their
     * task or thread: 0 with an item in *item; FERRY_END; or an error, which ends the map after the
     * results of the items before. It may wait, which holds results up: what takes its time is
     * better a stream. */
    int64_t (*next)(void *arg, void **item);
    void *arg;
    /* A stream, which belongs to the map from then on (and is closed with it). Results come while
     * it has no item, too. */
    ferry_stream *stream;
    void *reserved[3]; /* zero */
} ferry_source;

/* Zero is the default of each. */
typedef struct ferry_map_options {
    const char *name; /* of the jobs or tasks; copied, cut at 31 bytes; default "map" */
    int concurrency;  /* so many run at a time; default 8 */
    size_t ahead;     /* items that are taken from the source and whose results weren't asked for
                         yet: the bound of what runs, waits for its turn or has ended; default
                         twice the concurrency */
    unsigned flags;   /* FERRY_COLLECT: an error is a result like others, and the map goes on */
    void (*item_free)(void *item); /* for items whose results nobody took, the rest of an array
                                      included; on the thread of the close */
    /* Of jobs: as in ferry_job_options; `interrupt` gets the item. */
    void (*interrupt)(void *item);
    int interrupt_signal;
    size_t stack_size; /* of tasks */
    void *reserved[6]; /* zero */
} ferry_map_options;

/* A stream of fn(item)'s results, in the order of the items, whatever order they end in; fn runs as
 * jobs on a pool (NULL: the loop's own, or the process's), or as tasks of the current loop. Items
 * are taken from the source, in order, by the calls for results (the first one is
 * ferry_stream_next() or ferry_stream_start()), never more than `ahead` of what was asked for. Jobs
 * inherit the scope in which the map is made.
 *
 * ferry_stream_next() gives what fn returned (>= 0), with *item the item that it was called for.
 * An error of fn comes at its place: the error is returned, with its detail in ferry_errmsg() and
 * *item the item that failed. Without FERRY_COLLECT that is the end: items that haven't begun never
 * will, what runs is told to stop, and the next call gets the same error with *item NULL. An
 * error of the source comes after the last result, with *item NULL.
 * A time-out or a cancel of the caller leaves the map as it is, to be gone on with.
 * ferry_stream_close() at any time: what hasn't begun never will; what runs is told to stop and
 * joined. It returns 0, or the first error among the results that nobody took, or the source's.
 * One caller at a time (but for ferry_stream_stop()).
 *
 * Returns NULL, with the source still the caller's and errno EINVAL (no function, a negative
 * concurrency, `ahead` above SIZE_MAX / 64, unknown flags, not exactly one source; no loop here
 * for tasks; an executor that isn't a pool) or ENOMEM. `options` may be NULL. Any thread; never
 * waits. */
FERRY_API ferry_stream *ferry_map_submit(ferry_executor *pool, ferry_fn fn,
                                         const ferry_source *source,
                                         const ferry_map_options *options);
FERRY_API ferry_stream *ferry_map_spawn(ferry_fn fn, const ferry_source *source,
                                        const ferry_map_options *options);

FERRY_END_DECLS

#endif

/* Small records that come and go all the time, kept for the next time: see cache.c. */
#ifndef FERRY__CACHE_H
#define FERRY__CACHE_H

#include <stddef.h>

enum {
    FERRY__RECORD_MIN = 24,   /* bytes of the smallest record, and of the largest one */
    FERRY__RECORD_MAX = 760,
    FERRY__RECORD_UNIT = 16,  /* one size is so much larger than the one before */
    FERRY__RECORD_SIZES = (FERRY__RECORD_MAX - FERRY__RECORD_MIN) / FERRY__RECORD_UNIT + 1,
    FERRY__RECORD_BATCH = 32, /* records that change hands together */
    FERRY__RECORD_BATCHES = 64 /* that nobody has, at most, of each size */
};

struct ferry__record {
    struct ferry__record *next;
    struct ferry__record *next_batch; /* of the first in a batch that nobody has */
};

/* What a thread keeps. Its own; zero: nothing. */
struct ferry__cache {
    unsigned most; /* loaded records of a size: FERRY__RECORD_BATCH, or 0: none is kept */
    unsigned most_kept; /* the same of each kind that follows */
    unsigned n_jobs;
    void *jobs[FERRY__RECORD_BATCH]; /* submit.c: n_jobs records, ready to be one again */
    unsigned n_cells;
    void *cells[FERRY__RECORD_BATCH]; /* scope.c: n_cells records that tasks have left */
    struct {
        struct ferry__record *loaded; /* n of them */
        struct ferry__record *spare;  /* a whole batch; NULL */
        unsigned n;
    } sizes[FERRY__RECORD_SIZES];
};

/* Memory for a record of `size` bytes; its content is unspecified. Larger ones than
 * FERRY__RECORD_MAX aren't kept. NULL: out of memory. Any thread. */
void *ferry__record_get(size_t size);
struct ferry__thread;
/* the calling one, or NULL */
void *ferry__record_get_on(struct ferry__thread *thread, size_t size);
void ferry__record_put_on(struct ferry__thread *thread, void *record, size_t size);
/* Gives a record back that was got with the same size, on any thread. */
void ferry__record_put(void *record, size_t size);

void ferry__cache_begin(struct ferry__cache *cache); /* its thread's first step with Ferry */
void ferry__cache_end(struct ferry__cache *cache);   /* the last one: all is given back */

#endif

/* A producer of numbers, for the tests of streams. */
#ifndef FERRY_TEST_STREAMS_H
#define FERRY_TEST_STREAMS_H

#include <errno.h>
#include <ferry.h>
#include <stdatomic.h>

#include "oom.h"
#include "support.h"
#include "waiters.h"

#define ITEM(n) ((void *)(intptr_t)(n))
#define NUMBER(item) ((intptr_t)(item))

/* Sends 1 to `last` (0: for ever), then ends with `result`. Made anew for each stream. */
struct numbers {
    intptr_t last;
    int64_t result;
    const char *message;   /* of an error */
    _Atomic int begun;     /* how often it ran */
    _Atomic intptr_t made; /* the latest number that it began to send */
    _Atomic int64_t told;  /* what its send said in the end */
    _Atomic int ended;
    _Atomic int freed; /* how often arg_free was called */
};

static inline int64_t send_numbers(ferry_stream *stream, void *arg) {
    struct numbers *n = arg;
    int rc = 0;
    atomic_fetch_add(&n->begun, 1);
    for (intptr_t i = 1; rc == 0 && (n->last == 0 || i <= n->last); i++) {
        atomic_store(&n->made, i);
        rc = ferry_stream_send(stream, ITEM(i));
    }
    atomic_store(&n->told, rc);
    atomic_fetch_add(&n->ended, 1);
    if (n->message)
        return ferry_fail(n->result, "%s", n->message);
    return rc < 0 ? rc : n->result;
}

static inline void free_numbers(void *arg) {
    struct numbers *n = arg;
    atomic_fetch_add(&n->freed, 1);
}

static _Atomic int discarded;

static inline void count_discarded(void *item) {
    (void)item;
    atomic_fetch_add(&discarded, 1);
}

/* The next number, or the error. */
static inline int64_t next_number(ferry_stream *stream) {
    void *item = ITEM(-1);
    int64_t rc = ferry_stream_next(stream, &item);
    return rc == 0 ? NUMBER(item) : rc;
}

static inline int64_t try_number(ferry_stream *stream) {
    void *item = ITEM(-1);
    int64_t rc = ferry_stream_try_next(stream, &item);
    return rc == 0 ? NUMBER(item) : rc;
}

struct memory_sweep {
    ferry_fn use;
    void *variant;
};

static inline int64_t sweep_one(void *arg) {
    struct memory_sweep *s = arg;
    s->use(s->variant); /* what is made once and kept */
    for (int more = 0; more < 2; more++) {
        for (long n = 0; CHECK(n < 300); n++) {
            oom_after(n, more);
            s->use(s->variant);
            oom_never();
            if (!oom_hit())
                break;
        }
    }
    return 0;
}

/* Whichever allocation of use() fails, alone or with all that follow, it holds and no memory is
 * lost. Twice, each time in a loop of its own: with NULL and with something else as its
 * argument. */
static inline void sweep_memory(ferry_fn use) {
    struct memory_sweep one = {.use = use}, other = {.use = use, .variant = &one};
    spare_records();
    long blocks = oom_blocks();
    assert_int_equal(ferry_run(sweep_one, &one), 0);
    assert_int_equal(ferry_run(sweep_one, &other), 0);
    assert_int_equal(oom_blocks(), blocks);
}

#endif

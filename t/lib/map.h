/* Items that a test can follow, for the tests of map. */
#ifndef FERRY_TEST_MAP_H
#define FERRY_TEST_MAP_H

#include <errno.h>
#include <ferry.h>
#include <stdatomic.h>

#include "support.h"

enum { N = 20 };

/* One item. */
struct work {
    intptr_t number;
    int64_t result; /* of fn; 0: its number */
    ferry_event *may_end;
    _Atomic int begun, ended, freed;
    int64_t told;
};

static struct work works[N];
static void *items[N];
static _Atomic int running, most, begun;

static inline void fresh(ferry_event *may_end) {
    for (int i = 0; i < N; i++) {
        works[i] = (struct work){.number = i + 1, .may_end = may_end};
        items[i] = &works[i];
    }
    atomic_store(&running, 0);
    atomic_store(&most, 0);
    atomic_store(&begun, 0);
}

static inline int64_t work_on(void *item) {
    struct work *w = item;
    int now = atomic_fetch_add(&running, 1) + 1;
    for (int seen = most; now > seen && !atomic_compare_exchange_weak(&most, &seen, now);) {
    }
    atomic_fetch_add(&w->begun, 1);
    atomic_fetch_add(&begun, 1);
    w->told = w->may_end ? ferry_event_wait(w->may_end) : 0;
    atomic_fetch_sub(&running, 1);
    atomic_fetch_add(&w->ended, 1);
    if (w->told < 0)
        return w->told;
    if (w->result < 0)
        return ferry_fail(w->result, "item %d is bad", (int)w->number);
    return w->result ? w->result : w->number;
}

static inline void free_work(void *item) {
    atomic_fetch_add(&((struct work *)item)->freed, 1);
}

static const ferry_source array = {.items = items, .n = N};

static inline ferry_stream *map_works(bool tasks, const ferry_source *source,
                                      ferry_map_options options) {
    options.item_free = free_work;
    return tasks ? ferry_map_spawn(work_on, source, &options)
                 : ferry_map_submit(NULL, work_on, source, &options);
}

static inline int64_t next_result(ferry_stream *map, intptr_t *number) {
    void *item = items;
    int64_t rc = ferry_stream_next(map, &item);
    *number = item ? ((struct work *)item)->number : 0;
    return rc;
}

/* The results of `first` to `last`, in order. */
static inline void check_results(ferry_stream *map, intptr_t first, intptr_t last) {
    for (intptr_t i = first; i <= last; i++) {
        intptr_t number;
        CHECK_INT(next_result(map, &number), i);
        CHECK_INT(number, i);
    }
}

static inline void check_end(ferry_stream *map, int64_t code) {
    intptr_t number;
    for (int again = 0; again < 2; again++) {
        CHECK_INT(next_result(map, &number), code);
        CHECK_INT(number, 0);
    }
}

/* How many of the items were freed, each at most once. */
static inline int freed(void) {
    int n = 0;
    for (int i = 0; i < N; i++) {
        CHECK(works[i].freed <= 1);
        n += works[i].freed;
    }
    return n;
}

static inline void until_begun(int n) {
    while (atomic_load(&begun) != n)
        ferry_yield();
}

/* Lets everything run that can. */
static inline void settle(void) {
    for (int i = 0; i < 50; i++)
        CHECK_INT(ferry_yield(), 0);
}

/* For ferry_source.next: the items up to `last`, then `end`. */
struct counter {
    _Atomic int taken;
    int last;
    int64_t end;
};

static inline int64_t count_up(void *arg, void **item) {
    struct counter *c = arg;
    if (c->taken == c->last)
        return c->end < 0 && c->end != FERRY_END ? ferry_fail(c->end, "no more paper") : c->end;
    *item = items[c->taken++];
    return 0;
}

#endif

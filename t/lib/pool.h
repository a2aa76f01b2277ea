/* Resources that a test can follow, for the tests of pools. */
#ifndef FERRY_TEST_POOL_H
#define FERRY_TEST_POOL_H

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "parked.h"
#include "pool_core.h"
#include "pools.h"
#include "waiters.h"

#define LONG 60000

struct thing {
    int number; /* from 1 */
    atomic_int held;
};

/* Where the things of a pool come from. */
struct works {
    atomic_int made, destroyed, checked;
    atomic_int creating;   /* calls of create that have begun */
    _Atomic int64_t fail;  /* what create returns instead; 0: nothing */
    int fails;             /* how many calls of create that is for; 0: all */
    _Atomic int64_t unfit; /* what check returns */
    ferry_event *until;    /* create waits for it, and gives up when that fails */
    gate *stands;          /* create stands there, whatever happens */
    bool naps;             /* destroy has to wait */
    _Atomic int64_t nap;   /* what that wait returned */
};

static inline int64_t make(void **thing, void *arg) {
    struct works *w = arg;
    int n = atomic_fetch_add(&w->creating, 1);
    if (w->stands)
        gate_wait(w->stands);
    int64_t rc = w->until ? ferry_event_wait(w->until) : 0;
    if (rc == 0 && (w->fails == 0 || n < w->fails))
        rc = w->fail;
    if (rc < 0)
        return rc == -ECANCELED ? rc : ferry_fail(rc, "no route to the works");
    struct thing *t = calloc(1, sizeof *t);
    t->number = atomic_fetch_add(&w->made, 1) + 1;
    *thing = t;
    return 0;
}

static inline void unmake(void *thing, void *arg) {
    struct works *w = arg;
    if (w->naps)
        w->nap = ferry_sleep(1);
    CHECK_INT(((struct thing *)thing)->held, 0);
    free(thing);
    atomic_fetch_add(&w->destroyed, 1);
}

static inline int64_t look(void *thing, void *arg) {
    struct works *w = arg;
    (void)thing;
    atomic_fetch_add(&w->checked, 1);
    return w->unfit;
}

static inline ferry_pool *open_pool(struct works *w, size_t max, ferry_pool_options o) {
    ferry_pool *pool;
    o.name = o.name ? o.name : "works";
    o.max = max;
    o.create = make;
    o.destroy = unmake;
    o.idle_ms = o.idle_ms ? o.idle_ms : FERRY_FOREVER;
    o.arg = w;
    CHECK_INT(ferry_pool_new(&pool, &o), 0);
    return pool;
}
#define DEFAULTS ((ferry_pool_options){.name = NULL})

static inline ferry_pool_stats pool_stats(ferry_pool *pool) {
    ferry_pool_stats stats;
    ferry_pool_get_stats(pool, &stats);
    return stats;
}

static inline size_t alive_in(ferry_pool *pool) {
    ferry__lock(&pool->lock);
    size_t alive = pool->alive;
    ferry__unlock(&pool->lock);
    return alive;
}

/* Nothing is lent, and all that was made goes. */
static inline void end_of(ferry_pool *pool, struct works *w) {
    int rc = ferry_pool_close(pool, LONG);
    CHECK(rc == 0 || rc == FERRY_ECLOSED);
    CHECK_INT(w->made, w->destroyed);
    CHECK_INT(pool_stats(pool).created, w->made);
    CHECK_INT(pool_stats(pool).destroyed, w->destroyed);
    CHECK_INT(ferry_pool_free(pool), 0);
}

static inline struct thing *acquired(ferry_pool *pool) {
    void *thing = NULL;
    CHECK_INT(ferry_pool_acquire(pool, &thing), 0);
    return thing;
}

/* Acquires in a scope of its own, and keeps it. */
struct taker {
    ferry_pool *pool;
    int64_t ms; /* 0: the pool's */
    ferry_scope scope;
    struct thing *thing;
    int64_t rc;
    char says[300];
    atomic_int turn; /* which one it was, from 1; set last */
    atomic_int *turns;
};

static inline int64_t take(void *arg) {
    struct taker *t = arg;
    void *thing = NULL;
    t->scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&t->scope, FERRY_FOREVER), 0);
    t->rc = t->ms ? ferry_pool_acquire_for(t->pool, &thing, t->ms)
                  : ferry_pool_acquire(t->pool, &thing);
    t->thing = thing;
    if (t->rc < 0)
        snprintf(t->says, sizeof t->says, "%s", ferry_errmsg());
    if (t->turns)
        t->turn = atomic_fetch_add(t->turns, 1) + 1;
    ferry_scope_close(&t->scope, 0);
    return 0;
}

static inline ferry_future *taking(struct taker *t, ferry_pool *pool) {
    *t = (struct taker){.pool = pool, .ms = t->ms, .turns = t->turns};
    return ferry_spawn(take, t);
}

#endif

/* Ferry's sides of "offload": tasks that await job after job, a new task for every job, and a
 * callback for every job. */
#include "config.h"

#include <event2/event.h>
#include <ferry.h>
#include <stdlib.h>

#include "offload.h"

typedef struct crew {
    offload *o;
    ferry_executor *pool;
    ferry_loop *loop;
    long running;
    ferry_event started, ended;
} crew;

/* Its number is all that a job needs: it travels as the argument itself. */
static int64_t job(void *arg) {
    return bench_piece((uintptr_t)arg);
}

static ferry_future *submit_job(crew *c, uint64_t number) {
    return ferry_submit(c->pool, job, (void *)(uintptr_t)number);
}

static ferry_executor *pool_of(const bench_case *what) {
    ferry_executor *pool;
    ferry_executor_options options = {.threads_max = what->threads};
    BENCH_CHECK(ferry_executor_new(&pool, &options) == 0);
    return pool;
}

/* ---- Tasks that go on ------------------------------------------------------------------------ */

static int64_t worker(void *arg) {
    crew *c = arg;
    uint64_t number;
    c->running++;
    BENCH_CHECK(ferry_event_wait(&c->started) == 0);
    while (offload_take(c->o, &number)) {
        int64_t rc = ferry_await(submit_job(c, number));
        BENCH_CHECK(rc >= 0);
        offload_done(c->o, rc);
    }
    return 0;
}

static void task_stage(offload *o, void *arg) {
    crew *c = arg;
    c->o = o;
    ferry_future **workers = bench_alloc((size_t)o->what->size * sizeof(ferry_future *));
    c->running = 0;
    ferry_event_clear(&c->started);
    for (long i = 0; i < o->what->size; i++)
        workers[i] = ferry_spawn(worker, c);
    while (c->running < o->what->size)
        ferry_yield();
    offload_start(o); /* the tasks are there: "spawn" measures how they come to be */
    ferry_event_set(&c->started);
    for (long i = 0; i < o->what->size; i++)
        BENCH_CHECK(ferry_await(workers[i]) == 0);
    free(workers);
}

/* ---- A task for every job -------------------------------------------------------------------- */

static int64_t once(void *arg) {
    crew *c = arg;
    uint64_t number;
    if (!offload_take(c->o, &number)) {
        if (--c->running == 0)
            ferry_event_set(&c->ended);
        return 0;
    }
    int64_t rc = ferry_await(submit_job(c, number));
    BENCH_CHECK(rc >= 0);
    offload_done(c->o, rc);
    ferry_detach(ferry_spawn(once, c));
    return 0;
}

static void spawn_stage(offload *o, void *arg) {
    crew *c = arg;
    c->o = o;
    c->running = o->what->size;
    ferry_event_clear(&c->ended);
    for (long i = 0; i < o->what->size; i++)
        ferry_detach(ferry_spawn(once, c));
    BENCH_CHECK(ferry_event_wait(&c->ended) == 0);
}

typedef struct run {
    const bench_case *what;
    bench_out *out;
    void (*stage)(offload *, void *);
} run;

static int64_t first_task(void *arg) {
    run *r = arg;
    crew c = {.pool = pool_of(r->what), .loop = ferry_loop_current()};
    offload_run(r->what, r->out, r->stage, &c);
    BENCH_CHECK(ferry_executor_stop(c.pool, FERRY_FOREVER) == 0);
    ferry_executor_free(c.pool);
    return 0;
}

void offload_ferry_task(const bench_case *what, bench_out *out) {
    BENCH_CHECK(ferry_run(first_task, &(run){what, out, task_stage}) == 0);
}

void offload_ferry_spawn(const bench_case *what, bench_out *out) {
    BENCH_CHECK(ferry_run(first_task, &(run){what, out, spawn_stage}) == 0);
}

/* ---- Several loops, one executor ------------------------------------------------------------- */

typedef struct part_run {
    offload_part *part;
    ferry_executor *pool;
} part_run;

static int64_t part_task(void *arg) {
    part_run *r = arg;
    crew c = {.pool = r->pool};
    offload_part_run(r->part, task_stage, &c);
    return 0;
}

static void part_body(offload_part *part, void *shared) {
    ferry_loop *loop = ferry_loop_new();
    BENCH_CHECK(loop);
    BENCH_CHECK(ferry_loop_run(loop, part_task, &(part_run){part, shared}) == 0);
    BENCH_CHECK(ferry_loop_shutdown(loop, 1000) == 0);
    BENCH_CHECK(ferry_loop_free(loop) == 0);
}

void offload_ferry_loops(const bench_case *what, bench_out *out) {
    ferry_executor *pool = pool_of(what);
    offload_run_loops(what, out, part_body, pool);
    BENCH_CHECK(ferry_executor_stop(pool, FERRY_FOREVER) == 0);
    ferry_executor_free(pool);
}

/* ---- A callback for every job, in a libevent program ----------------------------------------- */

static void submit(crew *c);

static void arrived(ferry_future *future, int64_t result, void *arg) {
    BENCH_CHECK(result >= 0);
    ferry_detach(future);
    crew *c = arg;
    offload_done(c->o, result);
    submit(c);
}

static void submit(crew *c) {
    uint64_t number;
    if (offload_take(c->o, &number))
        BENCH_CHECK(ferry_then(submit_job(c, number), c->loop, arrived, c) == 0);
}

/* The base has nothing left to do when the last callback has run. */
static void callback_stage(offload *o, void *arg) {
    crew *c = arg;
    c->o = o;
    for (long i = 0; i < o->what->size; i++)
        submit(c);
    BENCH_CHECK(event_base_dispatch(ferry_loop_base(c->loop)) >= 0);
}

void offload_ferry_callback(const bench_case *what, bench_out *out) {
    struct event_base *base = event_base_new();
    BENCH_CHECK(base);
    crew c = {.pool = pool_of(what), .loop = ferry_loop_attach(base)};
    BENCH_CHECK(c.loop);
    offload_run(what, out, callback_stage, &c);
    ferry_executor_free(c.pool); /* the threads end by themselves: nothing may wait here */
    BENCH_CHECK(ferry_loop_free(c.loop) == 0);
    event_base_free(base);
}

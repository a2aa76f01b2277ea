/* "offload" with libuv: uv_queue_work, whose callback queues the next one with the same request. */
#include "config.h"

#include <stdlib.h>
#include <uv.h>

#include "offload.h"

typedef struct request {
    uv_work_t work;
    offload *o;
    uv_loop_t *loop;
    uint64_t number;
    int64_t result;
} request;

static void work(uv_work_t *w) {
    request *r = (request *)w;
    r->result = bench_piece(r->number);
}

static void submit(request *r);

static void after(uv_work_t *w, int status) {
    request *r = (request *)w;
    BENCH_CHECK(status == 0);
    offload_done(r->o, r->result);
    submit(r);
}

static void submit(request *r) {
    if (offload_take(r->o, &r->number))
        BENCH_CHECK(uv_queue_work(r->loop, &r->work, work, after) == 0);
}

typedef struct side {
    uv_loop_t *loop;
    request *requests;
} side;

static void stage(offload *o, void *arg) {
    side *s = arg;
    for (long i = 0; i < o->what->size; i++) {
        s->requests[i].o = o;
        s->requests[i].loop = s->loop;
        submit(&s->requests[i]);
    }
    BENCH_CHECK(uv_run(s->loop, UV_RUN_DEFAULT) == 0);
}

/* libuv has one pool for the process. */
static void size_of_pool(const bench_case *what) {
    char threads[16];
    snprintf(threads, sizeof threads, "%d", what->threads);
    BENCH_CHECK(setenv("UV_THREADPOOL_SIZE", threads, 1) == 0);
}

void offload_uv(const bench_case *what, bench_out *out) {
    size_of_pool(what);
    side s = {uv_default_loop(), bench_alloc((size_t)what->size * sizeof(request))};
    offload_run(what, out, stage, &s);
    free(s.requests);
}

static void part_body(offload_part *part, void *shared) {
    (void)shared;
    uv_loop_t loop;
    BENCH_CHECK(uv_loop_init(&loop) == 0);
    side s = {&loop, bench_alloc((size_t)offload_part_case(part)->size * sizeof(request))};
    offload_part_run(part, stage, &s);
    BENCH_CHECK(uv_loop_close(&loop) == 0);
    free(s.requests);
}

void offload_uv_loops(const bench_case *what, bench_out *out) {
    size_of_pool(what);
    offload_run_loops(what, out, part_body, NULL);
}

/* "offload" with libuv: uv_queue_work, whose callback queues the next one with the same request. */
#include "config.h"

#include <stdlib.h>
#include <uv.h>

#include "offload.h"

typedef struct request {
    uv_work_t work;
    uint64_t number;
    int64_t result;
} request;

static offload *current;

static void work(uv_work_t *w) {
    request *r = (request *)w;
    r->result = bench_piece(r->number);
}

static void submit(request *r);

static void after(uv_work_t *w, int status) {
    request *r = (request *)w;
    BENCH_CHECK(status == 0);
    offload_done(current, r->result);
    submit(r);
}

static void submit(request *r) {
    if (offload_take(current, &r->number))
        BENCH_CHECK(uv_queue_work(uv_default_loop(), &r->work, work, after) == 0);
}

static void stage(offload *o, void *arg) {
    request *requests = arg;
    current = o;
    for (long i = 0; i < o->what->size; i++)
        submit(&requests[i]);
    BENCH_CHECK(uv_run(uv_default_loop(), UV_RUN_DEFAULT) == 0);
}

void offload_uv(const bench_case *what, bench_out *out) {
    char threads[16];
    snprintf(threads, sizeof threads, "%d", what->threads);
    BENCH_CHECK(setenv("UV_THREADPOOL_SIZE", threads, 1) == 0);
    request *requests = bench_alloc((size_t)what->size * sizeof *requests);
    offload_run(what, out, stage, requests);
    free(requests);
}

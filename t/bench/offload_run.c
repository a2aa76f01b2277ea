/* The time and the figures of "offload", for one loop and for several: see offload.h. */
#include "config.h"

#include <pthread.h>
#include <stdlib.h>

#include "offload.h"

enum { STRIDE = 32, WARM_UP = 16 };

void offload_start(offload *o) {
    bench_span_open(&o->span, o->ms, o->what->size < STRIDE ? 1 : STRIDE);
}

static void turn(offload *o, int ms, void (*stage)(offload *, void *), void *arg) {
    o->ms = ms;
    offload_start(o);
    stage(o, arg);
    BENCH_CHECK(o->count == o->next); /* all that was started has come back */
}

/* Threads exist, memory is warm: each place has been used several times. */
static void warm_up(const bench_case *what, void (*stage)(offload *, void *), void *arg) {
    for (uint64_t count = 0; count < (uint64_t)what->size * WARM_UP;) {
        offload o = {.what = what};
        turn(&o, what->ms / 5 + 1, stage, arg);
        count += o.count;
    }
}

void offload_run(const bench_case *what, bench_out *out, void (*stage)(offload *, void *),
                 void *arg) {
    warm_up(what, stage, arg);
    uint64_t *latencies = NULL;
    if (what->size == 1)
        latencies = bench_alloc(OFFLOAD_LATENCIES * sizeof *latencies);
    offload o = {.what = what, .latencies = latencies};
    turn(&o, what->ms, stage, arg);
    bench_span_close(&o.span, out, o.count);
    bench_work(out, o.count, o.sum);
    bench_percentiles(out, latencies, o.n_latencies);
    free(latencies);
}

/* ---- Several loops --------------------------------------------------------------------------- */

struct offload_part {
    bench_case what; /* its share */
    offload o;
    pthread_barrier_t *barrier;
    pthread_t thread;
    void (*body)(offload_part *part, void *shared);
    void *shared;
};

void offload_part_run(offload_part *part, void (*stage)(offload *, void *), void *arg) {
    warm_up(&part->what, stage, arg);
    part->o = (offload){.what = &part->what};
    pthread_barrier_wait(part->barrier);
    turn(&part->o, part->what.ms, stage, arg);
    pthread_barrier_wait(part->barrier);
}

const bench_case *offload_part_case(const offload_part *part) {
    return &part->what;
}

static void *part_main(void *arg) {
    offload_part *part = arg;
    part->body(part, part->shared);
    return NULL;
}

void offload_run_loops(const bench_case *what, bench_out *out,
                       void (*body)(offload_part *part, void *shared), void *shared) {
    int n = what->loops;
    pthread_barrier_t barrier;
    BENCH_CHECK(pthread_barrier_init(&barrier, NULL, (unsigned)n + 1) == 0);
    offload_part *parts = bench_alloc((size_t)n * sizeof *parts);
    for (int i = 0; i < n; i++) {
        parts[i] =
            (offload_part){.what = *what, .barrier = &barrier, .body = body, .shared = shared};
        parts[i].what.size = what->size / n;
        BENCH_CHECK(pthread_create(&parts[i].thread, NULL, part_main, &parts[i]) == 0);
    }
    bench_span span;
    uint64_t count = 0;
    pthread_barrier_wait(&barrier);
    bench_span_open(&span, what->ms, 1);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < n; i++)
        count += parts[i].o.count;
    bench_span_close(&span, out, count);
    for (int i = 0; i < n; i++) {
        pthread_join(parts[i].thread, NULL);
        BENCH_CHECK(parts[i].o.sum == bench_pieces(parts[i].o.count));
    }
    pthread_barrier_destroy(&barrier);
    free(parts);
}

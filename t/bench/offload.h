/* The work of the subject "offload", as every side does it: `size` jobs are kept in flight from
 * one loop to `threads` threads; each gives the result of its number back; when the time is over
 * nothing new is started, and what is in flight is waited for. A side provides one stage; it is
 * run twice, the first time to warm up. With one job in flight every round trip is timed. */
#ifndef FERRY_BENCH_OFFLOAD_H
#define FERRY_BENCH_OFFLOAD_H

#include "bench.h"

enum { OFFLOAD_LATENCIES = 1 << 20 };

typedef struct offload {
    const bench_case *what;
    int ms;
    bench_span span;
    uint64_t next, count, sum;
    uint64_t *latencies, started; /* ns; of one job in flight */
    size_t n_latencies;
} offload;

/* Runs the stage with a short time, and again with the whole of it, and writes the figures of
 * that. */
void offload_run(const bench_case *what, bench_out *out, void (*stage)(offload *, void *),
                 void *arg);

/* The same for several loops, each on a thread of its own with its share of the jobs in flight:
 * `body` makes the loop and runs offload_part_run(), with the stage, on it. Sums are checked
 * here. */
typedef struct offload_part offload_part;
void offload_run_loops(const bench_case *what, bench_out *out,
                       void (*body)(offload_part *part, void *shared), void *shared);
void offload_part_run(offload_part *part, void (*stage)(offload *, void *), void *arg);
const bench_case *offload_part_case(const offload_part *part);

/* The time begins now, in a stage that had to prepare something. */
void offload_start(offload *o);

/* The number of the next job, unless the time is over. */
static inline bool offload_take(offload *o, uint64_t *number) {
    if (bench_over(&o->span))
        return false;
    *number = o->next++;
    if (o->latencies)
        o->started = bench_now();
    return true;
}

/* A result has come back to the loop. */
static inline void offload_done(offload *o, int64_t result) {
    o->count++;
    o->sum += (uint64_t)result;
    if (o->latencies && o->n_latencies < OFFLOAD_LATENCIES)
        o->latencies[o->n_latencies++] = bench_now() - o->started;
}

/* The sides, each in a file of its own. */
void offload_ferry_task(const bench_case *what, bench_out *out);
void offload_ferry_spawn(const bench_case *what, bench_out *out);
void offload_ferry_callback(const bench_case *what, bench_out *out);
void offload_ferry_loops(const bench_case *what, bench_out *out);
void offload_plain_signal(const bench_case *what, bench_out *out);
void offload_plain_futex(const bench_case *what, bench_out *out);
void offload_plain_batch(const bench_case *what, bench_out *out);
#ifdef BENCH_UV
void offload_uv(const bench_case *what, bench_out *out);
void offload_uv_loops(const bench_case *what, bench_out *out);
#endif
#ifdef BENCH_GLIB
void offload_gtask(const bench_case *what, bench_out *out);
void offload_gthreadpool(const bench_case *what, bench_out *out);
#endif

#endif

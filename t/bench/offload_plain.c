/* "offload" by hand: the baselines of plain.h. */
#include "config.h"

#include <stdlib.h>

#include "offload.h"
#include "plain.h"

typedef struct side {
    plain_pool *pool;
    plain_job *jobs;
} side;

static int64_t job_fn(plain_job *job) {
    return bench_piece(job->number);
}

static void stage(offload *o, void *arg) {
    side *s = arg;
    long running = 0;
    for (long i = 0; i < o->what->size && offload_take(o, &s->jobs[i].number); i++, running++) {
        s->jobs[i].fn = job_fn;
        plain_submit(s->pool, &s->jobs[i]);
    }
    while (running > 0) {
        plain_job *job = plain_wait(s->pool);
        while (job) {
            plain_job *next = job->next;
            offload_done(o, job->result);
            if (offload_take(o, &job->number))
                plain_submit(s->pool, job);
            else
                running--;
            job = next;
        }
    }
}

static void both(const bench_case *what, bench_out *out, bool batch) {
    side s = {plain_new(what->threads, batch), bench_alloc((size_t)what->size * sizeof(plain_job))};
    offload_run(what, out, stage, &s);
    plain_free(s.pool);
    free(s.jobs);
}

void offload_plain_signal(const bench_case *what, bench_out *out) {
    both(what, out, false);
}

void offload_plain_batch(const bench_case *what, bench_out *out) {
    both(what, out, true);
}

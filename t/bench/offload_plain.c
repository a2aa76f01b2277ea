/* "offload" by hand: the baselines of plain.h, and the least that a round trip between two threads
 * that sleep can take: one futex there, one back, no queue and no loop. */
#include "config.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* ---- The limit ------------------------------------------------------------------------------- */

enum { NOTHING, ASKED, ANSWERED, ENDED };

typedef struct pair {
    _Atomic unsigned state;
    uint64_t number; /* written before ASKED */
    int64_t result;  /* written before ANSWERED */
} pair;

static void become(pair *p, unsigned state) {
    atomic_store(&p->state, state);
    syscall(SYS_futex, &p->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Until the state is another one. */
static unsigned leave(pair *p, unsigned state) {
    unsigned now;
    while ((now = atomic_load(&p->state)) == state)
        syscall(SYS_futex, &p->state, FUTEX_WAIT_PRIVATE, state, NULL, NULL, 0);
    return now;
}

static void *answer(void *arg) {
    pair *p = arg;
    for (unsigned seen = NOTHING; (seen = leave(p, seen)) != ENDED; seen = ANSWERED) {
        p->result = bench_piece(p->number);
        become(p, ANSWERED);
    }
    return NULL;
}

static void pair_stage(offload *o, void *arg) {
    pair *p = arg;
    while (offload_take(o, &p->number)) {
        become(p, ASKED);
        leave(p, ASKED);
        offload_done(o, p->result);
    }
}

void offload_plain_futex(const bench_case *what, bench_out *out) {
    pair p = {.state = NOTHING};
    pthread_t thread;
    BENCH_CHECK(pthread_create(&thread, NULL, answer, &p) == 0);
    offload_run(what, out, pair_stage, &p);
    become(&p, ENDED);
    pthread_join(thread, NULL);
}

/* Short jobs among slow ones: bursts of 64 jobs to 4 threads, of which up to three block for a
 * millisecond and the others take a microsecond. There is always a thread that could run a short
 * one, so none has to wait for a slow one's end: what the short ones wait, against the ideal
 * schedule. That is computed from the same run: each job starts, in the order of submission,
 * when it was submitted or when the first of the threads is free, and takes as long as it did
 * take; nothing costs any time. */
#include "config.h"

#include <ferry.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef BENCH_UV
#include <uv.h>
#endif

#include "bench.h"
#include "peers.h"
#include "plain.h"

enum { BURST = 64, THREADS_MAX = 64, SLOW_NS = 1000000, QUICK_NS = 1000 };

typedef struct entry {
    plain_job plain; /* first */
#ifdef BENCH_UV
    uv_work_t uv;
#endif
    bool slow;
    int64_t result;
    uint64_t number, submitted, started, ended;
} entry;

typedef struct mixed {
    const bench_case *what;
    entry jobs[BURST];
    uint64_t count, sum, random;
    uint64_t *waits, *ideals; /* of short jobs */
    size_t n, room;
} mixed;

static int64_t work(entry *e) {
    e->started = bench_now();
    if (e->slow)
        nanosleep(&(struct timespec){0, SLOW_NS}, NULL);
    else
        while (bench_now() < e->started + QUICK_NS)
            continue;
    e->result = bench_piece(e->number);
    e->ended = bench_now();
    return e->result;
}

static uint64_t draw(mixed *m) {
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return m->random >> 33;
}

static void prepare(mixed *m) {
    for (int i = 0; i < BURST; i++) {
        m->jobs[i].slow = false;
        m->jobs[i].number = m->count + (uint64_t)i;
    }
    for (uint64_t slow = draw(m) % 4; slow > 0; slow--)
        m->jobs[draw(m) % BURST].slow = true;
}

static void account(mixed *m) {
    uint64_t free_at[THREADS_MAX] = {0};
    BENCH_CHECK(m->n + BURST <= m->room);
    for (int i = 0; i < BURST; i++) {
        entry *e = &m->jobs[i];
        int first = 0;
        for (int t = 1; t < m->what->threads; t++)
            if (free_at[t] < free_at[first])
                first = t;
        uint64_t start = free_at[first] > e->submitted ? free_at[first] : e->submitted;
        free_at[first] = start + (e->ended - e->started);
        m->sum += (uint64_t)e->result;
        m->count++;
        if (!e->slow) {
            m->waits[m->n] = e->started - e->submitted;
            m->ideals[m->n++] = start - e->submitted;
        }
    }
}

/* `burst` submits all jobs, in order, and waits for them. */
static void run(const bench_case *what, bench_out *out, void (*burst)(mixed *, void *), void *arg) {
    mixed *m = bench_alloc(sizeof *m);
    m->what = what;
    m->random = 1;
    m->room = (size_t)what->ms * 10000 + 10000;
    m->waits = bench_alloc(m->room * sizeof *m->waits);
    m->ideals = bench_alloc(m->room * sizeof *m->ideals);
    bench_span span;
    for (int warm = 1; warm >= 0; warm--) {
        m->n = 0;
        bench_span_open(&span, warm ? what->ms / 5 + 1 : what->ms, 1);
        while (!bench_over(&span) && m->n + BURST <= m->room) {
            prepare(m);
            burst(m, arg);
            account(m);
        }
    }
    bench_percentiles(out, m->waits, m->n);
    bench_sort(m->ideals, m->n);
    size_t at = (size_t)(0.99 * (double)(m->n - 1));
    bench_value(out, "ideal", (double)m->ideals[at] / 1e3);
    bench_value(out, "over", ((double)m->waits[at] - (double)m->ideals[at]) / 1e3);
    bench_work(out, m->count, m->sum);
    free(m->waits);
    free(m->ideals);
    free(m);
}

/* ---- Ferry ----------------------------------------------------------------------------------- */

static int64_t ferry_job(void *arg) {
    return work(arg);
}

static void ferry_burst(mixed *m, void *arg) {
    ferry_future *handles[BURST];
    for (int i = 0; i < BURST; i++) {
        m->jobs[i].submitted = bench_now();
        handles[i] = ferry_submit(arg, ferry_job, &m->jobs[i]);
    }
    for (int i = 0; i < BURST; i++)
        BENCH_CHECK(ferry_await(handles[i]) == m->jobs[i].result);
}

typedef struct order {
    const bench_case *what;
    bench_out *out;
} order;

static int64_t ferry_task(void *arg) {
    order *o = arg;
    ferry_executor *pool;
    ferry_executor_options options = {.threads_max = o->what->threads};
    BENCH_CHECK(ferry_executor_new(&pool, &options) == 0);
    run(o->what, o->out, ferry_burst, pool);
    BENCH_CHECK(ferry_executor_stop(pool, FERRY_FOREVER) == 0);
    ferry_executor_free(pool);
    return 0;
}

static void in_ferry(const bench_case *what, bench_out *out) {
    BENCH_CHECK(ferry_run(ferry_task, &(order){what, out}) == 0);
}

/* ---- libuv ----------------------------------------------------------------------------------- */

#ifdef BENCH_UV
static void uv_job(uv_work_t *w) {
    work(w->data);
}

static void uv_done(uv_work_t *w, int status) {
    (void)w;
    BENCH_CHECK(status == 0);
}

static void uv_burst(mixed *m, void *arg) {
    (void)arg;
    for (int i = 0; i < BURST; i++) {
        m->jobs[i].uv.data = &m->jobs[i];
        m->jobs[i].submitted = bench_now();
        BENCH_CHECK(uv_queue_work(uv_default_loop(), &m->jobs[i].uv, uv_job, uv_done) == 0);
    }
    BENCH_CHECK(uv_run(uv_default_loop(), UV_RUN_DEFAULT) == 0);
}

static void in_uv(const bench_case *what, bench_out *out) {
    char threads[16];
    snprintf(threads, sizeof threads, "%d", what->threads);
    BENCH_CHECK(setenv("UV_THREADPOOL_SIZE", threads, 1) == 0);
    run(what, out, uv_burst, NULL);
}
#else
#define in_uv NULL
#endif

/* ---- By hand --------------------------------------------------------------------------------- */

static int64_t plain_fn(plain_job *job) {
    return work((entry *)job);
}

static void plain_burst(mixed *m, void *arg) {
    for (int i = 0; i < BURST; i++) {
        m->jobs[i].plain.fn = plain_fn;
        m->jobs[i].submitted = bench_now();
        plain_submit(arg, &m->jobs[i].plain);
    }
    for (int done = 0; done < BURST;)
        for (plain_job *job = plain_wait(arg); job; job = job->next)
            done++;
}

static void by_hand(const bench_case *what, bench_out *out, bool batch) {
    plain_pool *pool = plain_new(what->threads, batch);
    run(what, out, plain_burst, pool);
    plain_free(pool);
}

static void in_plain_signal(const bench_case *what, bench_out *out) {
    by_hand(what, out, false);
}

static void in_plain_batch(const bench_case *what, bench_out *out) {
    by_hand(what, out, true);
}

/* ---- The comparison -------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    bench_begin(argc, argv, "mixed", "what short jobs wait among slow ones, on 4 threads", NULL);
    bench_side sides[] = {{.name = "ferry", .run = in_ferry},
                          {.name = "libuv", .run = in_uv, BENCH_UV_VERSION},
                          {.name = "Go", .program = "peers-go"},
                          {.name = "plain C, signal", .run = in_plain_signal},
                          {.name = "plain C, batch", .run = in_plain_batch}};
    enum { SIDES = sizeof sides / sizeof *sides };
    char text[120];
    bench_probe(&sides[2]);
    for (int pinned = 0; pinned < 2; pinned++) {
        bench_case what = {.name = "short jobs' queue wait",
                           .size = BURST,
                           .threads = 4,
                           .loops = 1,
                           .ms = bench_ms() * 2,
                           .pinned = pinned};
        bench_measure(&what, sides, SIDES, bench_pieces);
        for (int i = 1; i < SIDES; i++) {
            bench_compare(&what, "ferry", sides[i].name, "p50", 1, "us, p50");
            bench_compare(&what, "ferry", sides[i].name, "p99", 1, "us, p99");
        }
        bench_figure(&what, "ferry", "ideal", 1, "us, p99 of the ideal schedule");
        snprintf(text, sizeof text,
                 "mixed, %s: short jobs' p99 wait over the ideal's, in slow jobs of 1 ms",
                 pinned ? "one CPU" : "all CPUs");
        bench_target(text, bench_median_of(&what, "ferry", "over") / 1e3, '<', 0.5, "times");
    }
    return bench_end();
}

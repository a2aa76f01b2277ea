/* Tasks: what it costs to start one, to switch, to meet over a queue, to take a free mutex, and
 * to have very many of them parked. */
#include "config.h"

#include <errno.h>
#include <ferry.h>
#include <math.h>
#include <string.h>
#include <ucontext.h>

#include "bench.h"

enum { BATCH = 1000, HOUR = 3600 * 1000 };

typedef struct run {
    const bench_case *what;
    bench_out *out;
    bench_span span;
    uint64_t count, sum;
} run;

/* Does batches until the time is over; the first one, which warms up, isn't counted in the time. */
static void repeat(run *r, void (*batch)(run *, void *), void *arg) {
    batch(r, arg);
    uint64_t before = r->count;
    bench_span_open(&r->span, r->what->ms, 1);
    while (!bench_over(&r->span))
        batch(r, arg);
    bench_span_close(&r->span, r->out, r->count - before);
    bench_work(r->out, r->count, r->sum);
}

static inline void did(run *r, int64_t result) {
    r->sum += (uint64_t)result;
    r->count++;
}

/* ---- Ferry ----------------------------------------------------------------------------------- */

static int64_t piece_task(void *arg) {
    return bench_piece(*(uint64_t *)arg);
}

static void spawn_batch(run *r, void *arg) {
    (void)arg;
    for (int i = 0; i < BATCH; i++) {
        uint64_t number = r->count;
        did(r, ferry_await(ferry_spawn(piece_task, &number)));
    }
}

static int64_t spawn_task(void *arg) {
    repeat(arg, spawn_batch, NULL);
    return 0;
}

static int64_t yielder(void *arg) {
    run *r = arg;
    for (int i = 0; i < BATCH / 2; i++) {
        did(r, bench_piece(r->count));
        ferry_yield();
    }
    return 0;
}

static void yield_batch(run *r, void *arg) {
    (void)arg;
    ferry_future *a = ferry_spawn(yielder, r), *b = ferry_spawn(yielder, r);
    BENCH_CHECK(ferry_await(a) == 0 && ferry_await(b) == 0);
}

static int64_t yield_task(void *arg) {
    repeat(arg, yield_batch, NULL);
    return 0;
}

typedef struct table {
    ferry_queue *there, *back;
} table;

static int64_t pong(void *arg) {
    table *t = arg;
    void *item;
    while (ferry_queue_get(t->there, &item) == 0) {
        int64_t result = bench_piece((uint64_t)(uintptr_t)item + 1);
        if (ferry_queue_put(t->back, (void *)(intptr_t)result) != 0)
            return -1;
    }
    return 0;
}

/* A figure is one hop: half of there and back. */
static void ping_batch(run *r, void *arg) {
    table *t = arg;
    void *item;
    for (int i = 0; i < BATCH; i++) {
        BENCH_CHECK(ferry_queue_put(t->there, (void *)(uintptr_t)r->count) == 0);
        did(r, bench_piece(r->count));
        BENCH_CHECK(ferry_queue_get(t->back, &item) == 0);
        did(r, (int64_t)(intptr_t)item);
    }
}

static int64_t ping_task(void *arg) {
    table t = {ferry_queue_new(1, NULL), ferry_queue_new(1, NULL)};
    BENCH_CHECK(t.there && t.back);
    ferry_future *other = ferry_spawn(pong, &t);
    repeat(arg, ping_batch, &t);
    ferry_queue_close(t.there, false);
    BENCH_CHECK(ferry_await(other) == 0);
    ferry_queue_free(t.there);
    ferry_queue_free(t.back);
    return 0;
}

static void lock_batch(run *r, void *arg) {
    ferry_mutex *mutex = arg;
    for (int i = 0; i < BATCH; i++) {
        BENCH_CHECK(ferry_lock(mutex) == 0);
        did(r, bench_piece(r->count));
        ferry_unlock(mutex);
    }
}

static int64_t lock_task(void *arg) {
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    repeat(arg, lock_batch, &mutex);
    return 0;
}

/* ---- Very many ------------------------------------------------------------------------------- */

static struct {
    ferry_event never;
    long waiting;
    uint64_t count, sum;
} park;

static int64_t parked(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    BENCH_CHECK(ferry_scope_open(&scope, HOUR) == 0);
    park.waiting++;
    int64_t rc = ferry_event_wait(&park.never);
    park.count += rc == -ECANCELED;
    park.sum += (uint64_t)bench_piece((uint64_t)(uintptr_t)arg);
    return ferry_scope_close(&scope, rc);
}

static int64_t park_task(void *arg) {
    run *r = arg;
    ferry_group group = FERRY_GROUP_INIT;
    uint64_t before = bench_resident(), start = bench_now();
    BENCH_CHECK(ferry_group_open(&group) == 0);
    for (long i = 0; i < r->what->size; i++)
        BENCH_CHECK(ferry_group_spawn(&group, parked, (void *)(uintptr_t)i) == 0);
    while (park.waiting < r->what->size)
        BENCH_CHECK(ferry_yield() == 0);
    uint64_t full = bench_resident(), middle = bench_now();
    ferry_group_cancel(&group);
    BENCH_CHECK(ferry_group_close(&group, 0) == 0);
    uint64_t end = bench_now();
    bench_value(r->out, "bytes", (double)(full - before) / (double)r->what->size);
    bench_value(r->out, "resident", (double)full);
    bench_value(r->out, "spawn", (double)(middle - start) / 1e9);
    bench_value(r->out, "join", (double)(end - middle) / 1e9);
    bench_work(r->out, park.count, park.sum);
    return 0;
}

static void in_ferry(const bench_case *what, bench_out *out) {
    static const struct {
        const char *name;
        ferry_fn fn;
    } kinds[] = {{"spawn and await", spawn_task},
                 {"yield", yield_task},
                 {"ping-pong over a queue", ping_task},
                 {"lock and unlock", lock_task}};
    ferry_fn fn = park_task;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, what->name) == 0)
            fn = kinds[i].fn;
    BENCH_CHECK(ferry_run(fn, &(run){.what = what, .out = out}) == 0);
}

/* ---- ucontext: two contexts that give way to each other -------------------------------------- */

static ucontext_t contexts[2];
static run *switching;

static void other_context(void) {
    for (;;) {
        did(switching, bench_piece(switching->count));
        swapcontext(&contexts[1], &contexts[0]);
    }
}

static void switch_batch(run *r, void *arg) {
    (void)arg;
    for (int i = 0; i < BATCH / 2; i++) {
        did(r, bench_piece(r->count));
        swapcontext(&contexts[0], &contexts[1]);
    }
}

static void in_ucontext(const bench_case *what, bench_out *out) {
    static char stack[65536];
    run r = {.what = what, .out = out};
    switching = &r;
    BENCH_CHECK(getcontext(&contexts[1]) == 0);
    contexts[1].uc_stack.ss_sp = stack;
    contexts[1].uc_stack.ss_size = sizeof stack;
    makecontext(&contexts[1], other_context, 0);
    repeat(&r, switch_batch, NULL);
}

/* ---- The comparison -------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        double bound;
    } kinds[] = {{"spawn and await", 60},
                 {"yield", 12},
                 {"ping-pong over a queue", 90},
                 {"lock and unlock", 20}};
    char text[120];
    bench_begin(argc, argv, "tasks", "what tasks cost, and many of them", NULL);
    bench_side go = {.name = "Go", .program = "peers-go"};
    bench_probe(&go);
    bench_side sides[] = {
        {.name = "ferry", .run = in_ferry}, go, {.name = "swapcontext", .run = in_ucontext}};
    for (int pinned = 0; pinned < 2; pinned++)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            bench_case what = {.name = kinds[i].name,
                               .size = 1,
                               .threads = 1,
                               .loops = 1,
                               .ms = bench_ms(),
                               .pinned = pinned};
            bool swaps = strcmp(what.name, "yield") == 0;
            bench_measure(&what, sides, swaps ? 3 : 2, bench_pieces);
            bench_compare(&what, "ferry", "Go", "cost", 1, "ns");
            if (swaps)
                bench_compare(&what, "ferry", "swapcontext", "cost", 1, "ns");
            if (!go.version)
                bench_figure(&what, "ferry", "cost", 1, "ns");
            snprintf(text, sizeof text, "tasks, %s, %s", what.name,
                     pinned ? "one CPU" : "all CPUs");
            bench_target(text, bench_median_of(&what, "ferry", "cost"), '<', kinds[i].bound, "ns");
        }
    static const struct {
        const char *name;
        long size;
    } crowds[] = {{"1,000 parked", 1000},
                  {"10,000 parked", 10000},
                  {"100,000 parked", 100000},
                  {"1,000,000 parked", 1000000}};
    for (size_t i = 0; i < sizeof crowds / sizeof *crowds; i++) {
        bench_case what = {
            .name = crowds[i].name, .size = crowds[i].size, .threads = 1, .loops = 1};
        if (bench_quick() && what.size > 100000)
            continue;
        bench_measure(&what, sides, 2, bench_pieces);
        static const struct {
            const char *value, *unit;
            double scale;
        } figures[] = {{"bytes", "bytes a task", 1},
                       {"resident", "MiB resident", 1.0 / 1048576},
                       {"spawn", "ms to start all", 1000},
                       {"join", "ms to cancel, join", 1000}};
        for (size_t f = 0; f < sizeof figures / sizeof *figures; f++)
            if (isnan(bench_compare(&what, "ferry", "Go", figures[f].value, figures[f].scale,
                                    figures[f].unit)))
                bench_figure(&what, "ferry", figures[f].value, figures[f].scale, figures[f].unit);
        if (what.size == 100000)
            bench_target("tasks, 100,000 parked: memory of each",
                         bench_median_of(&what, "ferry", "bytes") / 1024, '<', 4.6, "KiB");
        if (what.size == 1000000) {
            bench_target("tasks, 1,000,000 parked, each with a deadline: memory of each",
                         bench_median_of(&what, "ferry", "bytes") / 1024, '<', 4.6, "KiB");
            bench_target("tasks, 1,000,000 parked, each with a deadline: memory of the process",
                         bench_median_of(&what, "ferry", "resident") / 1073741824.0, '<', 6, "GiB");
            bench_target("tasks, 1,000,000 parked: to cancel and join them all",
                         bench_median_of(&what, "ferry", "join"), '<', 3, "s");
        }
    }
    return bench_end();
}

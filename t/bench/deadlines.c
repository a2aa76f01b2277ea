/* Deadlines that don't fire: opening and closing a scope with a time-out while 100,000 others are
 * pending, against the timers of peers. The time-outs of the others are spread over an hour. */
#include "config.h"

#include <event2/event.h>
#include <ferry.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "peers.h"

enum { BATCH = 1000, HOUR = 3600 * 1000, OURS_MS = 30 * 1000 };

typedef struct run {
    const bench_case *what;
    bench_out *out;
    uint64_t count, sum;
} run;

static void repeat(run *r, void (*one)(void *), void *arg) {
    bench_span span;
    for (int warm = 1; warm >= 0; warm--) {
        r->count = r->sum = 0;
        bench_span_open(&span, warm ? r->what->ms / 5 + 1 : r->what->ms, 1);
        while (!bench_over(&span))
            for (int i = 0; i < BATCH; i++) {
                one(arg);
                r->sum += (uint64_t)bench_piece(r->count++);
            }
    }
    bench_span_close(&span, r->out, r->count);
    bench_work(r->out, r->count, r->sum);
}

static int64_t ms_of_other(long i, long n) {
    return HOUR / 2 + (int64_t)((uint64_t)i * 2654435761u % (uint64_t)n) * (HOUR / 2) / n;
}

/* ---- Ferry ----------------------------------------------------------------------------------- */

static struct {
    ferry_event end;
    long waiting, n;
} others;

static int64_t other(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    BENCH_CHECK(ferry_scope_open(&scope, ms_of_other((long)(intptr_t)arg, others.n)) == 0);
    others.waiting++;
    return ferry_scope_close(&scope, ferry_event_wait(&others.end));
}

static void scope_once(void *arg) {
    (void)arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    BENCH_CHECK(ferry_scope_open(&scope, OURS_MS) == 0);
    BENCH_CHECK(ferry_scope_close(&scope, 0) == 0);
}

/* A scope around a wait that parks: the deadline is armed, and taken off again. Without the scope
 * (`bounded` false) it is what the wait alone costs. */
typedef struct meeting {
    ferry_sem here, there;
    bool bounded;
} meeting;

static int64_t partner(void *arg) {
    meeting *m = arg;
    while (ferry_sem_acquire(&m->there, 1) == 0)
        ferry_sem_release(&m->here, 1);
    return 0;
}

static void meet_once(void *arg) {
    meeting *m = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    BENCH_CHECK(!m->bounded || ferry_scope_open(&scope, OURS_MS) == 0);
    ferry_sem_release(&m->there, 1);
    BENCH_CHECK(ferry_sem_acquire(&m->here, 1) == 0);
    BENCH_CHECK(!m->bounded || ferry_scope_close(&scope, 0) == 0);
}

static int64_t ferry_task(void *arg) {
    run *r = arg;
    ferry_group group = FERRY_GROUP_INIT;
    others.n = r->what->size;
    BENCH_CHECK(ferry_group_open(&group) == 0);
    for (long i = 0; i < others.n; i++)
        BENCH_CHECK(ferry_group_spawn(&group, other, (void *)(intptr_t)i) == 0);
    while (others.waiting < others.n)
        BENCH_CHECK(ferry_yield() == 0);
    if (strstr(r->what->name, "park")) {
        meeting m = {FERRY_SEM_INIT(0), FERRY_SEM_INIT(0), !strstr(r->what->name, "without")};
        ferry_future *peer = ferry_spawn(partner, &m);
        repeat(r, meet_once, &m);
        ferry_cancel(peer);
        ferry_await(peer);
    } else {
        repeat(r, scope_once, NULL);
    }
    ferry_event_set(&others.end);
    return ferry_group_close(&group, 0);
}

static void in_ferry(const bench_case *what, bench_out *out) {
    BENCH_CHECK(ferry_run(ferry_task, &(run){.what = what, .out = out}) == 0);
}

/* ---- Timers of others ------------------------------------------------------------------------ */

static void never(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    (void)arg;
    abort();
}

static void event_once(void *arg) {
    BENCH_CHECK(event_add(arg, &(struct timeval){OURS_MS / 1000, 0}) == 0);
    BENCH_CHECK(event_del(arg) == 0);
}

static void in_libevent(const bench_case *what, bench_out *out) {
    struct event_base *base = event_base_new();
    BENCH_CHECK(base);
    for (long i = 0; i < what->size; i++) {
        int64_t ms = ms_of_other(i, what->size);
        struct event *timer = event_new(base, -1, 0, never, NULL);
        BENCH_CHECK(timer && event_add(timer, &(struct timeval){ms / 1000, ms % 1000 * 1000}) == 0);
    }
    struct event *ours = event_new(base, -1, 0, never, NULL);
    BENCH_CHECK(ours);
    repeat(&(run){.what = what, .out = out}, event_once, ours);
}

#ifdef BENCH_UV
static void uv_never(uv_timer_t *timer) {
    (void)timer;
    abort();
}

static void uv_timer_once(void *arg) {
    BENCH_CHECK(uv_timer_start(arg, uv_never, OURS_MS, 0) == 0);
    BENCH_CHECK(uv_timer_stop(arg) == 0);
}

static void in_uv(const bench_case *what, bench_out *out) {
    uv_timer_t *timers = bench_alloc((size_t)what->size * sizeof *timers), ours;
    for (long i = 0; i < what->size; i++) {
        uint64_t ms = (uint64_t)ms_of_other(i, what->size);
        BENCH_CHECK(uv_timer_init(uv_default_loop(), &timers[i]) == 0);
        BENCH_CHECK(uv_timer_start(&timers[i], uv_never, ms, 0) == 0);
    }
    BENCH_CHECK(uv_timer_init(uv_default_loop(), &ours) == 0);
    repeat(&(run){.what = what, .out = out}, uv_timer_once, &ours);
}
#else
#define in_uv NULL
#endif

/* ---- The comparison -------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    bench_begin(argc, argv, "deadlines", "time-outs that don't fire, with 100,000 others pending",
                NULL);
    bench_side sides[] = {{.name = "ferry", .run = in_ferry},
                          {.name = "libuv", .run = in_uv, BENCH_UV_VERSION},
                          {.name = "libevent", .run = in_libevent, .version = LIBEVENT_VERSION},
                          {.name = "Go", .program = "peers-go"}};
    char text[120];
    bench_probe(&sides[3]);
    for (int pinned = 0; pinned < 2; pinned++) {
        bench_case what = {.name = "open and close",
                           .size = 100000,
                           .threads = 1,
                           .loops = 1,
                           .ms = bench_ms(),
                           .pinned = pinned};
        bench_measure(&what, sides, 4, bench_pieces);
        for (int i = 1; i < 4; i++)
            bench_compare(&what, "ferry", sides[i].name, "cost", 1, "ns");
        double cost = bench_figure(&what, "ferry", "cost", 1, "ns");
        snprintf(text, sizeof text, "deadlines, a scope opened and closed, %s",
                 pinned ? "one CPU" : "all CPUs");
        bench_target(text, cost, '<', 60, "ns");

        bench_case bare = what;
        what.name = "open, park, be woken, close";
        bare.name = "park, be woken, without a scope";
        bench_measure(&bare, sides, 1, bench_pieces);
        bench_measure(&what, sides, 1, bench_pieces);
        bench_figure(&bare, "ferry", "cost", 1, "ns");
        bench_figure(&what, "ferry", "cost", 1, "ns");
    }
    return bench_end();
}

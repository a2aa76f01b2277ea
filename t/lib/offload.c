/* What makes offloading fast keeps its promises: the door of a pool, threads that nap, and jobs
 * that are told of at home. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "executor.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

static int64_t pass_gate(void *arg) {
    gate_wait(arg);
    return 7;
}

/* ---- Nobody waits behind a slow one ---------------------------------------------------------- */

enum { QUICK = 400 };

static void run_quick_ones(ferry_executor *pool) {
    static ferry_future *jobs[QUICK];
    for (int i = 0; i < QUICK; i++)
        jobs[i] = ferry_submit(pool, return_arg, as_arg(i));
    for (int i = 0; i < QUICK; i++)
        CHECK_INT(ferry_await(jobs[i]), i);
}

/* Jobs have been so short that threads aren't called for each; then come slow ones, and quick
 * ones behind them. */
static void slow_ones_among_quick_ones(ferry_executor *pool) {
    int rounds = support_slow() ? 20 : 200;
    for (int round = 0; round < rounds; round++) {
        gate g = GATE_INIT;
        ferry_future *slow[3];
        int n = 1 + round % 3;
        run_quick_ones(pool);
        for (int i = 0; i < n; i++) {
            slow[i] = ferry_submit(pool, pass_gate, &g);
            CHECK_INT(ferry_await(ferry_submit(pool, return_arg, as_arg(i))), i);
        }
        run_quick_ones(pool);
        gate_open(&g);
        for (int i = 0; i < n; i++)
            CHECK_INT(ferry_await(slow[i]), 7);
        gate_destroy(&g);
    }
}

static void a_thread_among_quick_jobs(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(4, NULL);
    slow_ones_among_quick_ones(pool);
    assert_true(stats_of(pool).threads_peak <= 4);
    end_pool(pool);
}

TASK_TEST(a_task_among_quick_jobs) {
    ferry_executor *pool = make_pool(4, NULL);
    slow_ones_among_quick_ones(pool);
    end_pool(pool);
    return 0;
}

/* The task doesn't let its loop go on: it is the pool's affair alone that they are run. */
TASK_TEST(a_loop_that_is_held_up_holds_up_no_job) {
    ferry_executor *pool = make_pool(4, NULL);
    for (int round = 0; round < 50; round++) {
        saturation s;
        run_quick_ones(pool);
        saturate(&s, pool, 4);
        desaturate(&s);
    }
    end_pool(pool);
    return 0;
}

/* ---- The door -------------------------------------------------------------------------------- */

enum { PLACES = 8, THREADS = 6, EACH = 100 };

struct rush {
    ferry_executor *pool;
    gate start;
    atomic_int taken, refused;
    ferry_future *jobs[THREADS * EACH];
    atomic_int n;
};

static void *rush_in(void *arg) {
    struct rush *r = arg;
    gate_wait(&r->start);
    for (int i = 0; i < EACH; i++) {
        ferry_future *job = ferry_submit(r->pool, return_arg, as_arg(1));
        if (ferry_done(job) && ferry_result(job) == -EAGAIN) {
            atomic_fetch_add(&r->refused, 1);
            ferry_await(job);
        } else {
            r->jobs[atomic_fetch_add(&r->n, 1)] = job;
        }
    }
    return NULL;
}

/* Also where many come to the door at once, there is never one too many, nor one too few. */
static void as_many_as_there_are_places(void **state) {
    (void)state;
    static struct rush r;
    memset(&r, 0, sizeof r);
    gate_init(&r.start);
    r.pool =
        make_pool(2, &(ferry_executor_options){.queue_max = PLACES, .full = FERRY_FULL_REFUSE});
    saturation s;
    saturate(&s, r.pool, 2);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_thread(rush_in, &r);
    gate_wait_arrivals(&r.start, THREADS);
    gate_open(&r.start);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.n) + atomic_load(&r.refused), THREADS * EACH);
    int accepted = 0;
    desaturate(&s);
    for (int i = 0; i < atomic_load(&r.n); i++)
        accepted += ferry_await(r.jobs[i]) == 1;
    assert_int_equal(accepted, PLACES);
    assert_int_equal(stats_of(r.pool).started, PLACES + 2);
    end_pool(r.pool);
    gate_destroy(&r.start);
}

struct order {
    unsigned lock;
    int n, seen[64];
};

static struct order order;

static int64_t note_order(void *arg) {
    ferry__lock(&order.lock);
    order.seen[order.n++] = (int)(intptr_t)arg;
    ferry__unlock(&order.lock);
    return 0;
}

/* Those that a cancel has taken out are gone, and the others start in the order of their coming. */
static void in_the_order_of_their_coming(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    ferry_future *jobs[64];
    saturation s;
    saturate(&s, pool, 1);
    memset(&order, 0, sizeof order);
    for (int i = 0; i < 64; i++) {
        jobs[i] = ferry_submit(pool, note_order, as_arg(i));
        if (i % 5 == 2) /* empties the door, now and then */
            assert_int_equal(ferry_cancel(jobs[i - 1]), FERRY_CANCEL_NEVER_RAN);
    }
    assert_int_equal(stats_of(pool).queued, 64 - 13);
    desaturate(&s);
    for (int i = 0; i < 64; i++)
        ferry_await(jobs[i]);
    assert_int_equal(order.n, 64 - 13);
    for (int i = 1; i < order.n; i++)
        assert_true(order.seen[i - 1] < order.seen[i]);
    end_pool(pool);
}

/* ---- Told of at home ------------------------------------------------------------------------- */

struct home {
    gate job;
    ferry_future *handle; /* of the job; also elsewhere's, who has a reference of its own */
    int64_t called_with;
    ferry_promise *called;
};

static int64_t await_handle(void *arg) {
    struct home *h = arg;
    return ferry_await(ferry_ref(h->handle));
}

static void note_result(ferry_future *job, int64_t result, void *arg) {
    struct home *h = arg;
    (void)job;
    h->called_with = result;
    CHECK_INT(ferry_promise_set(h->called, 0), 0);
}

static int64_t callback_elsewhere(void *arg) {
    struct home *h = arg;
    ferry_future *called;
    h->called = ferry_promise_new(&called, NULL);
    CHECK_INT(ferry_then(h->handle, NULL, note_result, h), 0);
    CHECK_INT(ferry_await(called), 0);
    ferry_promise_drop(h->called);
    return 0;
}

static void *look_from_elsewhere(void *arg) {
    struct home *h = arg;
    gate_open(&h->job);
    while (!ferry_done(h->handle))
        sched_yield();
    CHECK_INT(ferry_wait(h->handle), 0);
    CHECK_INT(ferry_result(h->handle), 7);
    CHECK_INT(ferry_run(callback_elsewhere, h), 0);
    CHECK_INT(h->called_with, 7);
    CHECK_INT(ferry_await(h->handle), 7);
    return NULL;
}

static void *wait_from_elsewhere(void *arg) {
    struct home *h = arg;
    CHECK_INT(ferry_await(h->handle), 7);
    return NULL;
}

/* The loop whose task waits for the job is held up: that is nothing to anybody else. */
TASK_TEST(a_loop_that_is_held_up_holds_up_nobody_else) {
    static void *(*const elsewhere[])(void *) = {look_from_elsewhere, wait_from_elsewhere};
    ferry_executor *pool = make_pool(2, NULL);
    for (int i = 0; i < 2; i++) {
        struct home h = {.job = GATE_INIT};
        h.handle = ferry_submit(pool, pass_gate, &h.job);
        ferry_future *waiter = ferry_spawn(await_handle, &h);
        until_linked(h.handle, 1);
        ferry_ref(h.handle);
        pthread_t thread = start_thread(elsewhere[i], &h);
        if (i == 1) {
            until_linked(h.handle, 2);
            gate_open(&h.job);
        }
        pthread_join(thread, NULL); /* this loop stands still meanwhile */
        CHECK(!ferry_done(waiter));
        CHECK_INT(ferry_await(waiter), 7);
        CHECK_INT(ferry_await(h.handle), 7);
        gate_destroy(&h.job);
    }
    end_pool(pool);
    return 0;
}

static int64_t await_cancelled(void *arg) {
    struct home *h = arg;
    CHECK_INT(ferry_await(ferry_ref(h->handle)), 7); /* it had its result before */
    CHECK_INT(ferry_sleep(1), -ECANCELED);
    return 0;
}

/* Cancelled between the end of the job and the word of it. */
TASK_TEST(a_result_on_its_way_home_beats_a_cancel) {
    ferry_executor *pool = make_pool(1, NULL);
    struct home h = {.job = GATE_INIT};
    h.handle = ferry_submit(pool, pass_gate, &h.job);
    ferry_future *waiter = ferry_spawn(await_cancelled, &h);
    until_linked(h.handle, 1);
    gate_open(&h.job);
    while (!ferry_done(h.handle))
        sched_yield();
    CHECK_INT(links_on(h.handle), 1);
    CHECK_INT(ferry_cancel(waiter), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(waiter), 0);
    CHECK_INT(ferry_await(h.handle), 7);
    end_pool(pool);
    gate_destroy(&h.job);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("EXE-02 among short jobs, none waits behind a slow one: a thread",
             a_thread_among_quick_jobs),
        CASE("EXE-02 among short jobs, none waits behind a slow one: a task",
             a_task_among_quick_jobs),
        CASE("EXE-02 a loop that is held up holds up no job",
             a_loop_that_is_held_up_holds_up_no_job),
        CASE("EXE-01 many at the door of a full pool: as many as there are places",
             as_many_as_there_are_places),
        CASE("jobs start in the order of their submission, past those that were cancelled",
             in_the_order_of_their_coming),
        CASE("a loop that is held up holds up nobody else who waits for its jobs",
             a_loop_that_is_held_up_holds_up_nobody_else),
        CASE("CAN-07 a result on its way home beats a cancel",
             a_result_on_its_way_home_beats_a_cancel),
    };
    return SUPPORT_RUN(tests);
}

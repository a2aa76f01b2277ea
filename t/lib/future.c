/* Handles: who is told and in which order, what an await takes and a wait leaves alone, and whose
 * error is read. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "parked.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000

static int64_t returns_it(void *arg) {
    return *(int64_t *)arg;
}

static int64_t fails(void *arg) {
    (void)arg;
    return ferry_fail(-EIO, "the disk is gone");
}

static int64_t sleeps(void *arg) {
    (void)arg;
    return ferry_sleep(LONG);
}

static int64_t awaits_it(void *arg) {
    return ferry_await(arg);
}

static void *awaits_in_a_thread(void *arg) {
    CHECK_INT(ferry_await(arg), 7);
    return NULL;
}

/* ---- Who is told, and in which order --------------------------------------------------------- */

enum { WAITERS_MAX = 8 };

struct order {
    ferry_future *f;
    int at;
    int seen[3 * WAITERS_MAX];
};

struct waiter {
    struct order *order;
    int number;
};

static int64_t waits_in_order(void *arg) {
    struct waiter *w = arg;
    int64_t rc = ferry_wait(w->order->f);
    if (rc == 0)
        w->order->seen[w->order->at++] = w->number;
    return rc;
}

/* Of eight tasks that wait, two leave and one comes once more; a job completes it. */
TASK_TEST(tasks_in_order) {
    struct order order = {.at = 0};
    saturation s;
    ferry_executor *pool;
    CHECK_INT(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    saturate(&s, pool, 1);
    int64_t seven = 7;
    order.f = ferry_submit(pool, returns_it, &seven);
    struct waiter w[WAITERS_MAX];
    ferry_future *waiters[WAITERS_MAX];
    for (int i = 0; i < WAITERS_MAX; i++) {
        w[i] = (struct waiter){&order, i};
        waiters[i] = ferry_spawn(waits_in_order, &w[i]);
    }
    until_linked(order.f, WAITERS_MAX);
    for (int i = 2; i <= 5; i += 3) {
        ferry_cancel(waiters[i]);
        CHECK_INT(ferry_await(waiters[i]), FERRY_EJOBCANCELED);
    }
    waiters[2] = ferry_spawn(waits_in_order, &w[2]);
    until_linked(order.f, WAITERS_MAX - 1);
    desaturate(&s);
    for (int i = 0; i < WAITERS_MAX; i++)
        CHECK_INT(i == 5 ? 0 : ferry_await(waiters[i]), 0);
    static const int expected[] = {0, 1, 3, 4, 6, 7, 2};
    CHECK_INT(order.at, 7);
    for (int i = 0; i < 7; i++)
        CHECK_INT(order.seen[i], expected[i]);
    CHECK_INT(ferry_await(order.f), 7);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
    return 0;
}

static int64_t waits_for_event(void *event) {
    return ferry_event_wait(event);
}

/* The same with a task of their own loop, for which the first who waits needs no place in the list:
 * the first one leaves, or the third. */
TASK_TEST(neighbours_in_order) {
    for (int leaves = 0; leaves <= 2; leaves += 2) {
        struct order order = {.at = 0};
        ferry_event event = FERRY_EVENT_INIT;
        order.f = ferry_spawn(waits_for_event, &event);
        struct waiter w[WAITERS_MAX];
        ferry_future *waiters[WAITERS_MAX];
        for (int i = 0; i < WAITERS_MAX; i++)
            w[i] = (struct waiter){&order, i};
        for (int i = 0; i < 4; i++)
            waiters[i] = ferry_spawn(waits_in_order, &w[i]);
        for (int i = 0; i < 8; i++)
            ferry_yield();
        ferry_cancel(waiters[leaves]);
        CHECK_INT(ferry_await(waiters[leaves]), FERRY_EJOBCANCELED);
        for (int i = 4; i < WAITERS_MAX; i++)
            waiters[i] = ferry_spawn(waits_in_order, &w[i]);
        for (int i = 0; i < 8; i++)
            ferry_yield();
        ferry_event_set(&event);
        for (int i = 0; i < WAITERS_MAX; i++)
            CHECK_INT(i == leaves ? 0 : ferry_await(waiters[i]), 0);
        CHECK_INT(order.at, WAITERS_MAX - 1);
        for (int i = 0, who = 0; i < order.at; i++, who++) {
            who += who == leaves;
            CHECK_INT(order.seen[i], who);
        }
        CHECK_INT(ferry_await(order.f), 0);
    }
    return 0;
}

static void tasks_and_threads_are_all_told(void **state) {
    (void)state;
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(awaits_in_a_thread, ferry_ref(f));
    ferry_future *jobs[2];
    for (int i = 0; i < 2; i++)
        jobs[i] = ferry_submit(NULL, awaits_it, ferry_ref(f));
    until_linked(f, 6);
    assert_int_equal(ferry_promise_set(p, 7), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ferry_await(jobs[i]), 7);
    assert_int_equal(ferry_await(f), 7);
    ferry_promise_drop(p);
}

static void called_in_order(ferry_future *f, int64_t result, void *arg) {
    struct waiter *w = arg;
    CHECK(f == w->order->f);
    CHECK_INT(result, 7);
    w->order->seen[w->order->at++] = w->number;
}

/* Stops whoever completes a handle while it tells the others. */
struct stop_link {
    struct ferry__link link;
    gate gate;
};

static void stop_later(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    (void)f;
    ferry__wakes_later(wakes, link);
}

static void stop_here(struct ferry__link *link, ferry_future *f) {
    (void)f;
    gate_wait(&ferry__container(link, struct stop_link, link)->gate);
}

static void *sets_seven(void *arg) {
    CHECK_INT(ferry_promise_set(arg, 7), 0);
    return NULL;
}

TASK_TEST(a_late_callback_does_not_overtake) {
    struct order order = {.at = 0};
    struct waiter w[3] = {{&order, 0}, {&order, 1}, {&order, 2}};
    ferry_promise *p = ferry_promise_new(&order.f, NULL);
    struct stop_link stop = {.link = {.notify = stop_later, .after = stop_here}, .gate = GATE_INIT};
    CHECK(ferry__future_link(order.f, &stop.link));
    CHECK_INT(ferry_then(order.f, NULL, called_in_order, &w[0]), 0);
    pthread_t thread = start_thread(sets_seven, p);
    gate_wait_arrivals(&stop.gate, 1);
    CHECK(ferry_done(order.f));
    CHECK_INT(ferry_wait(order.f), 0); /* who waits has no reason to stand in line */
    CHECK_INT(ferry_then(order.f, NULL, called_in_order, &w[1]), 0);
    ferry_sleep(1); /* a turn of the loop, at least */
    CHECK_INT(order.at, 0);
    gate_open(&stop.gate);
    pthread_join(thread, NULL);
    CHECK_INT(ferry_then(order.f, NULL, called_in_order, &w[2]), 0);
    while (order.at < 3)
        ferry_yield();
    for (int i = 0; i < 3; i++)
        CHECK_INT(order.seen[i], i);
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(order.f), 7);
    gate_destroy(&stop.gate);
    return 0;
}

/* ---- Callbacks ------------------------------------------------------------------------------- */

struct called {
    int times;
    int64_t result;
    bool inside, was_inside;
    ferry_future *again; /* a callback adds another one */
    struct ferry__thread *on;
};

static void calls_back(ferry_future *f, int64_t result, void *arg) {
    struct called *c = arg;
    c->times++;
    c->result = result;
    c->was_inside |= c->inside;
    c->on = ferry__thread_self();
    ferry_fail(-EIO, "a callback that fails"); /* concerns nobody */
    if (c->again) {
        CHECK_INT(ferry_then(f, NULL, calls_back, c), 0);
        c->again = NULL;
    }
}

TASK_TEST(callbacks) {
    int64_t seven = 7;
    struct order order = {.f = ferry_spawn(returns_it, &seven)};
    struct waiter w[4] = {{&order, 0}, {&order, 1}, {&order, 2}, {&order, 3}};
    ferry_future *f = order.f;
    struct called c[3] = {{.times = 0}, {.again = f}, {.times = 0}};
    for (int i = 0; i < 3; i++) {
        c[i].inside = true;
        CHECK_INT(ferry_then(f, NULL, calls_back, &c[i]), 0);
        c[i].inside = false;
        CHECK_INT(ferry_then(f, NULL, called_in_order, &w[i]), 0);
    }
    CHECK_INT(ferry_wait(f), 0);
    CHECK_INT(ferry_then(f, NULL, called_in_order, &w[3]), 0);
    while (c[0].times + c[1].times + c[2].times < 4)
        ferry_yield();
    /* Late ones come soon, and not inside the call. */
    struct called late = {.inside = true};
    CHECK_INT(ferry_then(f, NULL, calls_back, &late), 0);
    late.inside = false;
    CHECK_INT(late.times, 0);
    while (late.times == 0)
        ferry_yield();
    ferry_sleep(1);
    CHECK_INT(c[0].times, 1);
    CHECK_INT(c[1].times, 2);
    CHECK_INT(c[2].times, 1);
    CHECK_INT(late.times, 1);
    CHECK_INT(late.result, 7);
    CHECK(!late.was_inside && !c[0].was_inside);
    CHECK_INT(order.at, 4);
    for (int i = 0; i < 4; i++)
        CHECK_INT(order.seen[i], i);
    CHECK_INT(ferry_await(f), 7);
    return 0;
}

/* Neither inside ferry_cancel(), nor on the thread that completes. */
TASK_TEST(callbacks_come_from_the_loop) {
    struct called c = {.inside = true};
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    CHECK_INT(ferry_then(f, NULL, calls_back, &c), 0);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    c.inside = false;
    CHECK_INT(c.times, 0);
    while (c.times == 0)
        ferry_yield();
    CHECK_INT(c.result, FERRY_EJOBCANCELED);
    CHECK(!c.was_inside);
    ferry_promise_drop(p);
    ferry_detach(f);

    struct called other = {0};
    p = ferry_promise_new(&f, NULL);
    CHECK_INT(ferry_then(f, NULL, calls_back, &other), 0);
    pthread_join(start_thread(sets_seven, p), NULL);
    while (other.times == 0)
        ferry_yield();
    CHECK_INT(other.result, 7);
    CHECK(other.on == ferry__thread_self());
    ferry_promise_drop(p);
    ferry_detach(f);
    return 0;
}

static void awaits_here(ferry_future *f, int64_t result, void *arg) {
    *(int64_t *)arg = result == ferry_await(f) ? 1 : -1;
}

static void detaches_here(ferry_future *f, int64_t result, void *arg) {
    *(int64_t *)arg = result;
    ferry_detach(f);
}

struct pending {
    ferry_future *f;
    int64_t rcs[6];
    bool over;
};

static int64_t blocks_in_a_callback(void *arg) {
    struct pending *p = arg;
    p->rcs[0] = ferry_await(p->f);
    p->rcs[1] = ferry_await_for(p->f, 1);
    p->rcs[2] = ferry_wait(p->f);
    p->rcs[3] = ferry_sleep(1);
    p->rcs[4] = ferry_yield();
    ferry_future *other = ferry_spawn(sleeps, NULL);
    p->rcs[5] = other == NULL;
    ferry_detach(other);
    p->over = true;
    return 0;
}

TASK_TEST(what_a_callback_may_do) {
    int64_t seven = 7, done = 0;
    CHECK_INT(ferry_then(ferry_spawn(returns_it, &seven), NULL, awaits_here, &done), 0);
    while (done == 0)
        ferry_yield();
    CHECK_INT(done, 1);
    done = 0;
    CHECK_INT(ferry_then(ferry_submit(NULL, returns_it, &seven), NULL, detaches_here, &done), 0);
    while (done == 0)
        ferry_yield();
    CHECK_INT(done, 7);

    struct pending p = {.f = ferry_spawn(sleeps, NULL)};
    CHECK_INT(ferry_post(ferry_loop_current(), blocks_in_a_callback, &p), 0);
    while (!p.over)
        ferry_yield();
    for (int i = 0; i < 5; i++)
        CHECK_INT(p.rcs[i], -EDEADLK);
    CHECK_INT(p.rcs[5], 0);
    CHECK(!ferry_done(p.f)); /* it is still the caller's, and wasn't cancelled */
    ferry_cancel(p.f);
    CHECK_INT(ferry_await(p.f), FERRY_EJOBCANCELED);
    return 0;
}

static void no_callback(void **state) {
    (void)state;
    int64_t done = 0;
    assert_int_equal(ferry_then(NULL, NULL, awaits_here, &done), -ENOMEM);
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    assert_int_equal(ferry_then(f, NULL, awaits_here, &done), -EINVAL); /* no loop here */
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_then(f, loop, NULL, &done), -EINVAL);
    assert_int_equal(ferry_then(f, loop, detaches_here, &done), 0);
    assert_int_equal(ferry_loop_free(loop), -EBUSY); /* it has promised a call */
    ferry_promise_set(p, 9);
    ferry_promise_drop(p);
    assert_int_equal(done, 0);
    int64_t zero = 0;
    assert_int_equal(ferry_loop_run(loop, returns_it, &zero), 0);
    assert_int_equal(done, 9);
    assert_int_equal(ferry_loop_shutdown(loop, 0), 0);
    p = ferry_promise_new(&f, NULL);
    assert_int_equal(ferry_then(f, loop, awaits_here, &done), FERRY_ECLOSED);
    ferry_promise_drop(p);
    assert_int_equal(ferry_await(f), FERRY_ECLOSED);
    assert_int_equal(ferry_loop_free(loop), 0);
}

/* ---- Of oneself; of another loop ------------------------------------------------------------- */

static int64_t awaits_itself(void *arg) {
    CHECK_INT(ferry_await(ferry_self()), -EDEADLK);
    CHECK_INT(ferry_await_for(ferry_self(), 1), -EDEADLK);
    CHECK_INT(ferry_wait(ferry_self()), -EDEADLK);
    CHECK_INT(ferry_wait_for(ferry_self(), FERRY_FOREVER), -EDEADLK);
    return *(int64_t *)arg;
}

TASK_TEST(itself) {
    int64_t seven = 7;
    CHECK_INT(ferry_await(ferry_spawn(awaits_itself, &seven)), 7);
    CHECK_INT(ferry_await(ferry_submit(NULL, awaits_itself, &seven)), 7);
    CHECK(ferry_self() != NULL);
    return 0;
}

struct two_loops {
    ferry_loop *other;
    gate ready;
    ferry_event over;
    int64_t rc;
};

static int64_t stays_until_over(void *arg) {
    struct two_loops *t = arg;
    gate_open(&t->ready);
    return ferry_event_wait(&t->over);
}

static void *runs_the_other(void *arg) {
    struct two_loops *t = arg;
    CHECK_INT(ferry_loop_run(t->other, stays_until_over, t), 0);
    return NULL;
}

static int64_t awaits_across(void *arg) {
    struct two_loops *t = arg;
    int64_t seven = 7;
    CHECK_INT(ferry_await(ferry_spawn_on(t->other, returns_it, &seven)), 7);
    CHECK_INT(ferry_await(ferry_spawn_on(t->other, fails, NULL)), -EIO);
    CHECK_STR(ferry_errmsg(), "the disk is gone");
    /* One there that awaits one here that is cancelled. */
    ferry_future *here = ferry_spawn(sleeps, NULL);
    ferry_future *there = ferry_spawn_on(t->other, awaits_it, ferry_ref(here));
    until_linked(here, 1);
    ferry_cancel(here);
    CHECK_INT(ferry_await(here), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await(there), FERRY_EJOBCANCELED);
    /* One here is cancelled while it awaits one there: that is joined. */
    there = ferry_spawn_on(t->other, sleeps, NULL);
    here = ferry_spawn(awaits_it, ferry_ref(there));
    until_linked(there, 1);
    ferry_cancel(here);
    CHECK_INT(ferry_await(here), FERRY_EJOBCANCELED);
    CHECK(ferry_done(there));
    CHECK_INT(ferry_await(there), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await_for(ferry_spawn_on(t->other, sleeps, NULL), 1), -ETIMEDOUT);
    ferry_event_set(&t->over);
    return 0;
}

static void across_loops(void **state) {
    (void)state;
    struct two_loops t = {.other = ferry_loop_new(), .ready = GATE_INIT};
    pthread_t thread = start_thread(runs_the_other, &t);
    gate_wait(&t.ready);
    assert_int_equal(ferry_run(awaits_across, &t), 0);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_loop_shutdown(t.other, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(t.other), 0);
    gate_destroy(&t.ready);
}

/* A thread awaits tasks of a loop. */
static void *awaits_tasks(void *arg) {
    struct two_loops *t = arg;
    gate_wait(&t->ready);
    int64_t seven = 7;
    CHECK_INT(ferry_await(ferry_spawn_on(t->other, returns_it, &seven)), 7);
    CHECK_INT(ferry_await(ferry_spawn_on(t->other, fails, NULL)), -EIO);
    CHECK_STR(ferry_errmsg(), "the disk is gone");
    CHECK_INT(ferry_await_for(ferry_spawn_on(t->other, sleeps, NULL), 1), -ETIMEDOUT);
    ferry_future *f = ferry_spawn_on(t->other, sleeps, NULL);
    CHECK_INT(ferry_wait_for(f, 1), -ETIMEDOUT);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    ferry_event_set(&t->over);
    return NULL;
}

static void from_a_thread(void **state) {
    (void)state;
    struct two_loops t = {.other = ferry_loop_new(), .ready = GATE_INIT};
    pthread_t thread = start_thread(awaits_tasks, &t);
    assert_int_equal(ferry_loop_run(t.other, stays_until_over, &t), 0);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_loop_shutdown(t.other, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(t.other), 0);
    gate_destroy(&t.ready);
}

/* ---- Errors that nobody reads ---------------------------------------------------------------- */

static void gets_result(ferry_future *f, int64_t result, void *arg) {
    (void)f;
    *(int64_t *)arg = result;
}

static unsigned reported(ferry_fn fn, void *arg) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "");
    CHECK_INT(ferry_run(fn, arg), 0);
    return kept_messages(&log);
}

static int64_t reads_it(void *arg) {
    (void)arg;
    CHECK_INT(ferry_await(ferry_spawn(fails, NULL)), -EIO);
    ferry_future *f = ferry_spawn(fails, NULL);
    CHECK_INT(ferry_wait(f), 0);
    CHECK_INT(ferry_result(f), -EIO);
    ferry_detach(f);
    int64_t result = 0;
    f = ferry_submit(NULL, fails, NULL);
    CHECK_INT(ferry_then(f, NULL, gets_result, &result), 0);
    ferry_detach(f);
    while (result == 0)
        ferry_yield();
    CHECK_INT(result, -EIO);
    f = ferry_ref(ferry_spawn(fails, NULL)); /* one of two has read it */
    CHECK_INT(ferry_await(f), -EIO);
    ferry_detach(f);
    return 0;
}

static int64_t cancels_it(void *arg) {
    (void)arg;
    ferry_future *f = ferry_spawn(sleeps, NULL);
    ferry_cancel(f);
    ferry_detach(f);
    f = ferry_submit(NULL, sleeps, NULL);
    ferry_cancel(f);
    CHECK_INT(ferry_wait(f), 0);
    ferry_detach(f);
    return 0;
}

static int64_t drops_a_task(void *arg) {
    (void)arg;
    ferry_future *f = ferry_spawn(fails, NULL);
    ferry_detach(f);
    ferry_yield();
    return 0;
}

static int64_t drops_a_failed_job(void *arg) {
    (void)arg;
    ferry_future *f = ferry_submit(NULL, fails, NULL);
    CHECK_INT(ferry_wait(f), 0); /* looking on isn't reading */
    CHECK(!ferry_cancelled(f));
    ferry_ref(f);
    ferry_detach(f);
    ferry_detach(f);
    return 0;
}

static void errors_that_nobody_reads(void **state) {
    (void)state;
    assert_int_equal(reported(reads_it, NULL), 0);
    assert_int_equal(reported(cancels_it, NULL), 0);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR,
             "'task' failed and nobody asked for its result: the disk is gone");
    assert_int_equal(ferry_run(drops_a_task, NULL), 0);
    assert_int_equal(kept_messages(&log), 1);
    keep_log(&log, FERRY_LOG_ERROR,
             "'job' failed and nobody asked for its result: the disk is gone");
    assert_int_equal(ferry_run(drops_a_failed_job, NULL), 0);
    assert_int_equal(kept_messages(&log), 1);
}

struct background {
    bool ended;
};

static int64_t runs_in_the_background(void *arg) {
    struct background *b = arg;
    ferry_sleep(2);
    b->ended = true;
    return ferry_fail(-EIO, "the disk is gone");
}

static int64_t leaves_it_to_itself(void *arg) {
    struct background *b = arg;
    ferry_detach(ferry_spawn(runs_in_the_background, b));
    while (!b->ended)
        ferry_sleep(1);
    return 0;
}

static void a_background_task_fails(void **state) {
    (void)state;
    struct background b = {0};
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    assert_int_equal(ferry_run(leaves_it_to_itself, &b), 0);
    assert_int_equal(kept_messages(&log), 1);
}

/* ---- In each state --------------------------------------------------------------------------- */

struct gated {
    gate gate;
    int64_t result;
};

static int64_t waits_at_the_gate(void *arg) {
    struct gated *g = arg;
    gate_wait(&g->gate);
    return g->result;
}

/* Pending, running, done, cancelled. */
static int64_t job_states(void *arg) {
    (void)arg;
    ferry_executor *pool;
    CHECK_INT(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    struct gated g = {.gate = GATE_INIT, .result = 7};
    ferry_future *running = ferry_submit(pool, waits_at_the_gate, &g);
    gate_wait_arrivals(&g.gate, 1);
    ferry_future *queued = ferry_submit(pool, waits_at_the_gate, &g);
    CHECK_INT(ferry_wait_for(queued, 0), -ETIMEDOUT);
    CHECK_INT(ferry_result(queued), -EAGAIN);
    CHECK_INT(ferry_cancel(queued), FERRY_CANCEL_NEVER_RAN);
    CHECK(ferry_done(queued) && ferry_cancelled(queued));
    CHECK_INT(ferry_wait_for(queued, 0), 0);
    CHECK_INT(ferry_result(queued), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_cancel(queued), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_await_for(queued, 0), FERRY_EJOBCANCELED);

    CHECK(!ferry_done(running));
    CHECK_INT(ferry_wait_for(running, 0), -ETIMEDOUT);
    CHECK_INT(ferry_result(running), -EAGAIN);
    CHECK_INT(ferry_cancel(running), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_result(running), -EAGAIN); /* it doesn't listen */
    gate_open(&g.gate);
    CHECK_INT(ferry_wait(running), 0);
    CHECK(ferry_done(running) && !ferry_cancelled(running));
    CHECK_INT(ferry_wait_for(running, 0), 0);
    CHECK_INT(ferry_result(running), 7);
    CHECK_INT(ferry_cancel(running), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_await_for(running, 0), 7);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
    gate_destroy(&g.gate);
    return 0;
}

static void states_of_a_job(void **state) {
    (void)state;
    assert_int_equal(ferry_run(job_states, NULL), 0);
    assert_int_equal(job_states(NULL), 0);
}

TASK_TEST(states_of_a_task) {
    ferry_future *f = ferry_spawn(sleeps, NULL);
    CHECK_INT(ferry_wait_for(f, 0), -ETIMEDOUT); /* not begun */
    CHECK_INT(ferry_result(f), -EAGAIN);
    until_parked(f);
    CHECK_INT(ferry_wait_for(f, 0), -ETIMEDOUT);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_result(f), -EAGAIN); /* told, not ended */
    CHECK_INT(ferry_wait(f), 0);
    CHECK(ferry_cancelled(f));
    CHECK_INT(ferry_result(f), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_await_for(f, 0), FERRY_EJOBCANCELED);
    return 0;
}

/* ---- Await, wait and references -------------------------------------------------------------- */

static void nothing_to_await(void **state) {
    (void)state;
    assert_int_equal(ferry_await(NULL), -ENOMEM);
    assert_non_null(strstr(ferry_errmsg(), "out of memory"));
    assert_int_equal(ferry_await_for(NULL, 5), -ENOMEM);
    assert_int_equal(ferry_wait(NULL), -ENOMEM);
    assert_int_equal(ferry_wait_for(NULL, 5), -ENOMEM);
    assert_true(ferry_done(NULL));
    assert_int_equal(ferry_result(NULL), -ENOMEM);
    assert_false(ferry_cancelled(NULL));
    assert_int_equal(ferry_cancel(NULL), FERRY_CANCEL_LATE);
    assert_string_equal(ferry_future_name(NULL), "handle");
    assert_null(ferry_ref(NULL));
    assert_null(ferry_self());
    ferry_detach(NULL);
    /* There is no loop, and no handle's error is lost. */
    ferry_future *f = ferry_spawn(sleeps, NULL);
    assert_true(ferry_done(f));
    assert_int_equal(ferry_await(f), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "ferry_run()"));
}

/* The awaiter isn't cancelled; what it awaited returned an -ECANCELED of its own, or a real one. */
TASK_TEST(cancelled_by_whom) {
    int64_t own = -ECANCELED;
    CHECK_INT(ferry_await(ferry_spawn(returns_it, &own)), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await(ferry_submit(NULL, returns_it, &own)), FERRY_EJOBCANCELED);
    CHECK_STR(ferry_errmsg(), "somebody else cancelled what was awaited");
    CHECK_INT(ferry_yield(), 0);
    int64_t passed = FERRY_EJOBCANCELED; /* an error like any other: it says whom it is about */
    ferry_future *f = ferry_spawn(returns_it, &passed);
    CHECK_INT(ferry_wait(f), 0);
    CHECK(!ferry_cancelled(f));
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_await(ferry_spawn(sleeps, NULL)), -ECANCELED);
    CHECK_INT(ferry_await(ferry_submit(NULL, sleeps, NULL)), -ECANCELED);
    int64_t seven = 7; /* a task runs to its first wait: this one has none */
    CHECK_INT(ferry_await(ferry_spawn(returns_it, &seven)), 7);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    return 0;
}

/* A job sees the end of the awaiter's scope before the awaiter does: it is the awaiter who is late.
 */
static int64_t sleeps_on_its_own(void *arg) {
    (void)arg;
    int rc = 0;
    while (rc == 0)
        rc = ferry_checkpoint();
    return rc;
}

TASK_TEST(a_job_sees_the_end_first) {
    for (int i = 0; i < 20; i++) {
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, 1), 0);
        int64_t rc = ferry_await(ferry_submit(NULL, sleeps_on_its_own, NULL));
        CHECK_INT(rc, -ECANCELED);
        CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    }
    return 0;
}

struct delivery {
    int delivered;
    int64_t value;
    int freed;
};

static int64_t computes(void *arg) {
    (void)arg;
    return 5;
}

static void deliver(void *arg, int64_t result) {
    struct delivery *d = arg;
    d->delivered++;
    d->value = result;
}

static void count_freed(void *arg) {
    ((struct delivery *)arg)->freed++;
}

TASK_TEST(several_references) {
    struct delivery d = {0};
    ferry_job_options options = {.deliver = deliver, .arg_free = count_freed};
    ferry_future *f = ferry_submit_with(NULL, computes, &d, &options);
    CHECK(ferry_ref(f) == f);
    ferry_ref(f);
    CHECK_INT(ferry_wait(f), 0);
    CHECK_INT(ferry_result(f), 5);
    CHECK_INT(d.delivered, 0); /* looking on writes nothing */
    CHECK_INT(ferry_await(f), 5);
    CHECK_INT(d.delivered, 1);
    CHECK_INT(d.value, 5);
    CHECK_INT(ferry_await(f), 5);
    CHECK_INT(d.freed, 0);
    ferry_detach(f);
    while (d.freed == 0) /* the running side may be a moment behind */
        ferry_yield();
    CHECK_INT(d.delivered, 1);
    CHECK_INT(d.freed, 1);

    f = ferry_spawn(fails, NULL);
    ferry_ref(f);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_await(f), -EIO);
        CHECK_STR(ferry_errmsg(), "the disk is gone");
        ferry_fail(-EPERM, "something else");
    }
    return 0;
}

TASK_TEST(detached_runs_on) {
    struct background b = {0};
    ferry_detach(ferry_spawn(runs_in_the_background, &b));
    CHECK(!b.ended);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "");
    while (!b.ended)
        ferry_sleep(1);
    ferry_yield();
    CHECK_INT(kept_messages(&log), 1);
    return 0;
}

static int64_t tells_its_name(void *arg) {
    CHECK_STR(ferry_self_name(), arg);
    CHECK_STR(ferry_future_name(ferry_self()), arg);
    return 0;
}

TASK_TEST(names) {
    CHECK_STR(ferry_self_name(), "main");
    CHECK_INT(ferry_await(ferry_spawn(tells_its_name, (char[]){"task"})), 0);
    CHECK_INT(ferry_await(ferry_submit(NULL, tells_its_name, (char[]){"job"})), 0);
    char name[] = "a name that is a bit longer than 31 bytes";
    char expected[] = "a name that is a bit longer tha";
    ferry_task_options task = {.name = name};
    ferry_job_options job = {.name = name};
    ferry_future *f = ferry_spawn_with(tells_its_name, expected, &task);
    ferry_future *g = ferry_submit_with(NULL, tells_its_name, expected, &job);
    memset(name, 'x', sizeof name - 1); /* it was copied */
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_await(g), 0);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("FUT-04 tasks go on in the order in which they came", tasks_in_order),
        CASE("FUT-04 the same for a task of their own loop", neighbours_in_order),
        CASE("FUT-04 threads and jobs are all told", tasks_and_threads_are_all_told),
        CASE("FUT-04 a callback that is added while others are told doesn't overtake them",
             a_late_callback_does_not_overtake),
        CASE("FUT-05 callbacks run once each; late ones and those that callbacks add come, too",
             callbacks),
        CASE("FUT-04 callbacks come from the loop, not from inside a cancel or another thread",
             callbacks_come_from_the_loop),
        CASE("FUT-05 a callback may await, detach and start, but not block",
             what_a_callback_may_do),
        CASE("FUT-05 where there can be no callback", no_callback),
        CASE("FUT-07 a task or job can't await itself", itself),
        CASE("FUT-07 handles of another loop", across_loops),
        CASE("FUT-07 a thread awaits tasks", from_a_thread),
        CASE("FUT-08 errors that nobody reads are reported once", errors_that_nobody_reads),
        CASE("RUN-09 FUT-08 a background task fails", a_background_task_fails),
        CASE("FUT-02 cancel and result in each state of a job", states_of_a_job),
        CASE("FUT-02 cancel and result in each state of a task", states_of_a_task),
        CASE("no handle is out of memory", nothing_to_await),
        CASE("CAN-10 whose cancel it was", cancelled_by_whom),
        CASE("CAN-10 a job sees the end of the awaiter's scope first", a_job_sees_the_end_first),
        CASE("several references, one delivery", several_references),
        CASE("what is detached runs on", detached_runs_on),
        CASE("names", names),
    };
    return SUPPORT_RUN(tests);
}

/* Handles: who is told of the end, tasks, threads and callbacks, and in which order. */
#include "config.h"

#include <errno.h>

#include "future.h"
#include "parked.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

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

/* ---- Others who look on where a task of the same loop awaits --------------------------------- */

static void *looks_on_and_leaves(void *arg) {
    CHECK_INT(ferry_wait_for(arg, 1), -ETIMEDOUT);
    return NULL;
}

static void *knew_it(void *arg) {
    CHECK(!ferry_done(arg));
    ferry_detach(arg);
    return NULL;
}

static int64_t seven_after(void *event) {
    return ferry_event_wait(event) == 0 ? 7 : -1;
}

struct neighbours {
    ferry_event event;
    ferry_future *task, *awaiter;
};

/* Both wait, and nobody else knows the handle. */
static void neighbours_begin(struct neighbours *n) {
    *n = (struct neighbours){.event = FERRY_EVENT_INIT};
    n->task = ferry_spawn(seven_after, &n->event);
    n->awaiter = ferry_spawn(awaits_it, n->task);
    until_parked(n->task);
    until_parked(n->awaiter);
}

TASK_TEST(neighbours_and_others) {
    struct neighbours n;
    pthread_t thread;

    neighbours_begin(&n); /* a thread with a reference of its own */
    thread = start_thread(awaits_in_a_thread, ferry_ref(n.task));
    until_linked(n.task, 1);
    ferry_event_set(&n.event);
    CHECK_INT(ferry_await(n.awaiter), 7);
    pthread_join(thread, NULL);

    neighbours_begin(&n); /* one that gave it back before */
    pthread_join(start_thread(knew_it, ferry_ref(n.task)), NULL);
    ferry_event_set(&n.event);
    CHECK_INT(ferry_await(n.awaiter), 7);

    neighbours_begin(&n); /* a reference that is used when the awaiter has given its own back */
    ferry_future *mine = ferry_ref(n.task);
    ferry_event_set(&n.event);
    CHECK_INT(ferry_await(n.awaiter), 7);
    CHECK_INT(atomic_load(&mine->refs), 1);
    CHECK_INT(ferry_await(mine), 7);

    neighbours_begin(&n); /* one without that left before */
    pthread_join(start_thread(looks_on_and_leaves, n.task), NULL);
    ferry_event_set(&n.event);
    CHECK_INT(ferry_await(n.awaiter), 7);

    neighbours_begin(&n); /* a task of the loop that looks on without one */
    struct order order = {.f = n.task};
    ferry_future *beside = ferry_spawn(waits_in_order, &(struct waiter){&order, 5});
    until_linked(n.task, 1);
    ferry_event_set(&n.event);
    CHECK_INT(ferry_await(n.awaiter), 7);
    CHECK_INT(ferry_await(beside), 0);
    CHECK_INT(order.seen[0], 5);

    neighbours_begin(&n); /* the awaiter is cancelled when the end has come */
    ferry_event_set(&n.event);
    ferry_cancel(n.awaiter);
    CHECK_INT(ferry_await(n.awaiter), 7);
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

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("FUT-04 tasks go on in the order in which they came", tasks_in_order),
        CASE("FUT-04 the same for a task of their own loop", neighbours_in_order),
        CASE("FUT-04 others look on where a neighbour awaits", neighbours_and_others),
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
    };
    return SUPPORT_RUN(tests);
}

/* Promises: handles that the program completes itself. */
#include "config.h"

#include <errno.h>

#include "oom.h"
#include "parked.h"
#include "support.h"
#include "waiters.h"

TASK_TEST(set_and_cancel) {
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, "answer");
    CHECK_STR(ferry_future_name(f), "answer");
    CHECK(ferry_promise_wanted(p));
    CHECK_INT(ferry_promise_set(p, 42), 0);
    CHECK(!ferry_promise_wanted(p));
    CHECK_INT(ferry_promise_set(p, 43), -EINVAL);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_result(f), 42);
    CHECK(!ferry_cancelled(f));
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(f), 42);

    p = ferry_promise_new(&f, NULL);
    CHECK_STR(ferry_future_name(f), "promise");
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK(ferry_cancelled(f));
    CHECK(!ferry_promise_wanted(p));
    CHECK_INT(ferry_promise_set(p, 42), -ECANCELED);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_LATE);
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    return 0;
}

TASK_TEST(an_error_takes_its_words_along) {
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    CHECK_INT(ferry_promise_set(p, ferry_fail(-EIO, "the disk is gone")), 0);
    CHECK_STR(ferry_errmsg(), "the disk is gone"); /* they are still the producer's too */
    ferry_fail(-EPERM, "something else");
    CHECK_INT(ferry_await(f), -EIO);
    CHECK_STR(ferry_errmsg(), "the disk is gone");
    ferry_promise_drop(p);

    p = ferry_promise_new(&f, NULL);
    ferry_fail(-EPERM, "something else");
    CHECK_INT(ferry_promise_set(p, -EIO), 0);
    CHECK_INT(ferry_await(f), -EIO);
    CHECK_STR(ferry_errmsg(), ferry_strerror(-EIO));
    ferry_promise_drop(p);
    return 0;
}

TASK_TEST(states) {
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    CHECK_INT(ferry_wait_for(f, 0), -ETIMEDOUT);
    CHECK_INT(ferry_result(f), -EAGAIN);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_wait_for(f, 0), 0);
    CHECK_INT(ferry_result(f), FERRY_EJOBCANCELED);
    ferry_promise_drop(p);
    ferry_detach(f);

    /* An expired await cancels it. */
    p = ferry_promise_new(&f, NULL);
    CHECK_INT(ferry_await_for(f, 0), -ETIMEDOUT);
    CHECK_INT(ferry_promise_set(p, 1), -ECANCELED);
    ferry_promise_drop(p);
    return 0;
}

struct order {
    int at;
    int seen[4];
    ferry_future *f;
    bool inside; /* the completing call is on the stack */
};

struct waiter {
    struct order *order;
    int number;
};

static int64_t awaits(void *arg) {
    struct waiter *w = arg;
    int64_t rc = ferry_wait(w->order->f);
    CHECK(!w->order->inside);
    w->order->seen[w->order->at++] = w->number;
    return rc;
}

static void called_back(ferry_future *f, int64_t result, void *arg) {
    struct waiter *w = arg;
    CHECK_INT(result, 5);
    CHECK(f == w->order->f);
    CHECK(!w->order->inside);
    w->order->seen[w->order->at++] = w->number;
}

TASK_TEST(all_are_told_in_order) {
    struct order order = {.at = 0};
    struct waiter w[4] = {{&order, 0}, {&order, 1}, {&order, 2}, {&order, 3}};
    ferry_promise *p = ferry_promise_new(&order.f, NULL);
    ferry_future *waiters[2] = {ferry_spawn(awaits, &w[0]), ferry_spawn(awaits, &w[1])};
    until_linked(order.f, 2);
    CHECK_INT(ferry_then(order.f, NULL, called_back, &w[2]), 0);
    CHECK_INT(ferry_then(order.f, NULL, called_back, &w[3]), 0);
    order.inside = true;
    CHECK_INT(ferry_promise_set(p, 5), 0);
    order.inside = false;
    CHECK_INT(order.at, 0);
    CHECK_INT(ferry_gather(waiters, 2, NULL, 0), 0);
    while (order.at < 4)
        ferry_yield();
    for (int i = 0; i < 5; i++)
        ferry_yield();
    CHECK_INT(order.at, 4); /* once each */
    /* Tasks among themselves and callbacks among themselves come in the order of registration. */
    int place[4];
    for (int i = 0; i < 4; i++)
        place[order.seen[i]] = i;
    CHECK(place[0] < place[1] && place[2] < place[3]);
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(order.f), 5);
    return 0;
}

static int64_t awaits_it(void *arg) {
    return ferry_await(arg);
}

TASK_TEST(dropped_without_a_value) {
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    ferry_future *consumer = ferry_spawn(awaits_it, f);
    until_linked(f, 1);
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(consumer), FERRY_ECLOSED);
    CHECK_STR(ferry_errmsg(), "the promise was dropped without a value");
    ferry_promise_drop(NULL);
    CHECK_INT(ferry_promise_set(NULL, 1), -ENOMEM);
    CHECK(!ferry_promise_wanted(NULL));
    return 0;
}

TASK_TEST(nobody_listens) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "");
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    ferry_detach(f);
    CHECK(!ferry_promise_wanted(p));
    CHECK_INT(ferry_promise_set(p, 1), FERRY_ECLOSED);
    CHECK_INT(ferry_promise_set(p, 1), FERRY_ECLOSED);
    ferry_promise_drop(p);

    /* A callback is somebody, too. */
    struct order order = {.at = 0};
    struct waiter w = {&order, 3};
    p = ferry_promise_new(&order.f, NULL);
    CHECK_INT(ferry_then(order.f, NULL, called_back, &w), 0);
    ferry_detach(order.f);
    CHECK(ferry_promise_wanted(p));
    CHECK_INT(ferry_promise_set(p, 5), 0);
    while (order.at < 1)
        ferry_yield();
    ferry_promise_drop(p);
    CHECK_INT(kept_messages(&log), 0);
    return 0;
}

TASK_TEST(unread_errors) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    CHECK_INT(ferry_promise_set(p, -EIO), 0);
    ferry_promise_drop(p);
    CHECK_INT(log.count, 0);
    ferry_detach(f);
    CHECK_INT(log.count, 1); /* not read: once */

    p = ferry_promise_new(&f, NULL);
    CHECK_INT(ferry_promise_set(p, -EIO), 0);
    ferry_promise_drop(p);
    CHECK_INT(ferry_result(f), -EIO);
    ferry_detach(f);
    CHECK_INT(log.count, 1); /* read */

    p = ferry_promise_new(&f, NULL);
    ferry_cancel(f);
    ferry_promise_drop(p);
    ferry_detach(f);
    CHECK_INT(kept_messages(&log), 1); /* cancelled */
    return 0;
}

struct race {
    ferry_promise *p;
    gate gate;
    int rc;
};

static void *sets(void *arg) {
    struct race *r = arg;
    gate_wait(&r->gate);
    r->rc = ferry_promise_set(r->p, 1);
    return NULL;
}

/* A thread sets it while this one cancels: one of them wins, and both know which. */
static void set_against_cancel(void **state) {
    (void)state;
    for (int round = 0; round < (support_slow() ? 50 : 500); round++) {
        struct race r = {.gate = GATE_INIT};
        ferry_future *f;
        r.p = ferry_promise_new(&f, NULL);
        pthread_t thread = start_thread(sets, &r);
        gate_wait_arrivals(&r.gate, 1);
        gate_open(&r.gate);
        ferry_cancel(f);
        pthread_join(thread, NULL);
        int64_t rc = ferry_await(f);
        assert_true(r.rc == 0 ? rc == 1 : r.rc == -ECANCELED && rc == FERRY_EJOBCANCELED);
        ferry_promise_drop(r.p);
        gate_destroy(&r.gate);
    }
}

static void from_thread_to_thread(void **state) {
    (void)state;
    struct race r = {.gate = GATE_INIT};
    ferry_future *f;
    r.p = ferry_promise_new(&f, NULL);
    gate_open(&r.gate);
    pthread_t thread = start_thread(sets, &r);
    assert_int_equal(ferry_await(f), 1);
    pthread_join(thread, NULL);
    ferry_promise_drop(r.p);
    gate_destroy(&r.gate);
}

static void no_memory(void **state) {
    (void)state;
    long before = oom_blocks();
    ferry_future *f = (ferry_future *)&f;
    oom_after(0, true);
    assert_null(ferry_promise_new(&f, NULL));
    assert_null(f);
    assert_null(ferry_shield(f));
    oom_never();
    ferry_promise *p = ferry_promise_new(&f, NULL);
    oom_after(0, true);
    assert_null(ferry_shield(f));
    assert_int_equal(ferry_promise_set(p, 3), 0);
    assert_int_equal(ferry_await(f), 3);
    ferry_promise_drop(p);
    oom_never();
    assert_int_equal(oom_blocks(), before);
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("FUT-01 set twice, cancel after set, set after cancel", set_and_cancel),
        CASE("FUT-01 set against cancel from another thread", set_against_cancel),
        CASE("an error takes its words along", an_error_takes_its_words_along),
        CASE("FUT-02 cancel and result in each state", states),
        CASE("FUT-04 all are told once, in order, never inside the completing call",
             all_are_told_in_order),
        CASE("FUT-08 errors that nobody read are reported once", unread_errors),
        CASE("FUT-10 dropped without a value: the consumer doesn't hang", dropped_without_a_value),
        CASE("FUT-10 nobody listens: the producer is told", nobody_listens),
        CASE("a thread sets what another one awaits", from_thread_to_thread),
        CASE("memory runs out", no_memory),
    };
    return SUPPORT_RUN(tests);
}

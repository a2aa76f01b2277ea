/* Shields: handles that can be given up while what they stand for runs on. */
#include "config.h"

#include <errno.h>

#include "parked.h"
#include "support.h"
#include "waiters.h"

static int64_t awaits_it(void *arg) {
    return ferry_await(arg);
}

static int64_t awaits_a_shield(void *arg) {
    return ferry_await(ferry_shield(arg));
}

TASK_TEST(the_waiter_is_cancelled) {
    ferry_future *inner;
    ferry_promise *p = ferry_promise_new(&inner, "inner");
    ferry_future *waiter = ferry_spawn(awaits_a_shield, inner);
    until_linked(inner, 1);
    ferry_cancel(waiter);
    CHECK_INT(ferry_wait(waiter), 0);
    CHECK(ferry_cancelled(waiter)); /* its await gave -ECANCELED */
    CHECK_INT(ferry_await(waiter), FERRY_EJOBCANCELED);
    CHECK(!ferry_done(inner)); /* runs on */
    CHECK_INT(links_on(inner), 0);
    CHECK_INT(ferry_promise_set(p, 4), 0);
    CHECK_INT(ferry_await(inner), 4);
    ferry_promise_drop(p);
    return 0;
}

TASK_TEST(inner_is_cancelled) {
    ferry_future *inner;
    ferry_promise *p = ferry_promise_new(&inner, NULL);
    ferry_future *waiter = ferry_spawn(awaits_a_shield, inner);
    until_linked(inner, 1);
    ferry_cancel(inner);
    CHECK_INT(ferry_wait(waiter), 0);
    CHECK(!ferry_cancelled(waiter)); /* its await gave FERRY_EJOBCANCELED */
    CHECK_INT(ferry_await(waiter), FERRY_EJOBCANCELED);
    ferry_detach(inner);
    ferry_promise_drop(p);
    return 0;
}

static int64_t gathers_shields(void *arg) {
    ferry_future **inner = arg;
    ferry_future *f[2] = {ferry_shield(inner[0]), ferry_shield(inner[1])};
    return ferry_gather(f, 2, NULL, 0);
}

TASK_TEST(a_gather_of_shields_is_cancelled) {
    ferry_future *inner[2];
    ferry_promise *p[2];
    for (int i = 0; i < 2; i++)
        p[i] = ferry_promise_new(&inner[i], NULL);
    ferry_future *gather = ferry_spawn(gathers_shields, inner);
    until_linked(inner[1], 1);
    ferry_cancel(gather);
    CHECK_INT(ferry_await(gather), FERRY_EJOBCANCELED);
    for (int i = 0; i < 2; i++) {
        CHECK(!ferry_done(inner[i])); /* only the wrappers were cancelled */
        CHECK_INT(links_on(inner[i]), 0);
        CHECK_INT(ferry_promise_set(p[i], i), 0);
        CHECK_INT(ferry_await(inner[i]), i);
        ferry_promise_drop(p[i]);
    }
    return 0;
}

TASK_TEST(ends_as_inner_does) {
    ferry_future *inner;
    ferry_promise *p = ferry_promise_new(&inner, "inner");
    ferry_future *shield = ferry_shield(inner);
    CHECK_STR(ferry_future_name(shield), "inner");
    CHECK_INT(ferry_promise_set(p, ferry_fail(-EIO, "the disk is gone")), 0);
    CHECK_INT(ferry_await(shield), -EIO);
    CHECK_STR(ferry_errmsg(), "the disk is gone");
    shield = ferry_shield(inner); /* of one that is done */
    CHECK(ferry_done(shield));
    CHECK_INT(ferry_cancel(shield), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_await(shield), -EIO);
    CHECK_INT(ferry_await(inner), -EIO);
    ferry_promise_drop(p);
    CHECK(ferry_shield(NULL) == NULL);
    return 0;
}

TASK_TEST(cancelled_once) {
    ferry_future *inner;
    ferry_promise *p = ferry_promise_new(&inner, NULL);
    ferry_future *shield = ferry_shield(inner);
    CHECK_INT(ferry_cancel(shield), FERRY_CANCEL_ASKED);
    CHECK(ferry_cancelled(shield));
    CHECK_INT(ferry_cancel(shield), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_promise_set(p, 1), 0);
    CHECK_INT(ferry_result(shield), FERRY_EJOBCANCELED); /* it stays so */
    CHECK_INT(ferry_await(shield), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await(inner), 1);
    ferry_promise_drop(p);
    return 0;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

TASK_TEST(an_orphans_error_is_reported_once) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    ferry_future *inner;
    ferry_promise *p = ferry_promise_new(&inner, NULL);
    for (int i = 0; i < 100; i++) {
        ferry_future *waiter = ferry_spawn(awaits_a_shield, inner);
        until_linked(inner, 1);
        ferry_cancel(waiter);
        CHECK_INT(ferry_await(waiter), FERRY_EJOBCANCELED);
        CHECK_INT(links_on(inner), 0); /* nothing piles up */
    }
    CHECK_INT(ferry_promise_set(p, -EIO), 0);
    ferry_promise_drop(p);
    ferry_detach(inner);
    CHECK_INT(kept_messages(&log), 1);
    return 0;
}

TASK_TEST(an_error_that_nobody_read_behind_shields) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    ferry_future *inner;
    ferry_promise *p = ferry_promise_new(&inner, NULL);
    ferry_future *shields[3];
    for (int i = 0; i < 3; i++)
        shields[i] = ferry_shield(inner);
    CHECK_INT(ferry_promise_set(p, -EIO), 0);
    ferry_promise_drop(p);
    ferry_detach(inner);
    for (int i = 0; i < 3; i++)
        ferry_detach(shields[i]);
    CHECK_INT(kept_messages(&log), 1);
    return 0;
}

TASK_TEST(an_error_that_a_shield_has_shown) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    for (int how = 0; how < 2; how++) {
        ferry_future *inner;
        ferry_promise *p = ferry_promise_new(&inner, NULL);
        ferry_future *shield = ferry_shield(inner), *other = ferry_shield(inner);
        CHECK_INT(ferry_promise_set(p, -EIO), 0);
        ferry_promise_drop(p);
        ferry_detach(inner);
        if (how == 0) {
            CHECK_INT(ferry_await(shield), -EIO);
        } else {
            CHECK_INT(ferry_result(shield), -EIO);
            ferry_detach(shield);
        }
        ferry_detach(other);
    }
    CHECK_INT(kept_messages(&log), 0);
    return 0;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static int64_t returns_it(void *arg) {
    return *(int64_t *)arg;
}

static void delivers(void *arg, int64_t result) {
    *(int64_t *)arg += result;
}

TASK_TEST(out_parameters) {
    int64_t out = 20;
    ferry_job_options options = {.deliver = delivers};
    ferry_future *job = ferry_submit_with(NULL, returns_it, &out, &options);
    CHECK_INT(ferry_await(ferry_shield(job)), 20);
    CHECK_INT(out, 40); /* by the await of the shield */
    CHECK_INT(ferry_await(job), 20);
    CHECK_INT(out, 40);
    return 0;
}

static int64_t stands_at_gate(void *arg) {
    gate_wait(arg);
    return 12;
}

TASK_TEST(an_await_that_times_out) {
    gate g = GATE_INIT;
    ferry_future *job = ferry_submit(NULL, stands_at_gate, &g);
    CHECK_INT(ferry_await_for(ferry_shield(job), 5), -ETIMEDOUT);
    CHECK(!ferry_done(job)); /* it runs on, and its result can be read later */
    gate_open(&g);
    CHECK_INT(ferry_await(job), 12);
    gate_destroy(&g);
    return 0;
}

static void a_thread_awaits_shields(void **state) {
    (void)state;
    for (int round = 0; round < (support_slow() ? 50 : 500); round++) {
        gate g = GATE_INIT;
        ferry_future *job = ferry_submit(NULL, stands_at_gate, &g);
        ferry_future *f[3] = {ferry_shield(job), ferry_shield(job), ferry_shield(job)};
        gate_wait_arrivals(&g, 1);
        gate_open(&g); /* from now on it ends while one of them is cancelled */
        ferry_cancel(f[1]);
        int64_t rc = ferry_await(f[1]);
        assert_true(rc == 12 || rc == FERRY_EJOBCANCELED);
        assert_int_equal(ferry_await(f[0]), 12);
        assert_int_equal(ferry_await(f[2]), 12);
        assert_int_equal(ferry_await(job), 12);
        gate_destroy(&g);
    }
}

TASK_TEST(shields_of_shields) {
    ferry_future *inner;
    ferry_promise *p = ferry_promise_new(&inner, NULL);
    ferry_future *chain[4] = {inner};
    for (int i = 1; i < 4; i++)
        chain[i] = ferry_shield(chain[i - 1]);
    ferry_future *waiter = ferry_spawn(awaits_it, chain[3]);
    until_linked(chain[3], 1);
    CHECK_INT(ferry_promise_set(p, 6), 0);
    CHECK_INT(ferry_await(waiter), 6);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(chain[i]), 6);
    ferry_promise_drop(p);

    p = ferry_promise_new(&inner, NULL);
    ferry_future *middle = ferry_shield(inner);
    ferry_future *outer = ferry_shield(middle);
    ferry_cancel(middle);
    CHECK_INT(ferry_await(outer), FERRY_EJOBCANCELED);
    ferry_detach(middle);
    CHECK(!ferry_done(inner));
    ferry_detach(inner);
    ferry_promise_drop(p);
    return 0;
}

/* Nothing about a chain is done by recursion: it fits in a small stack. */
static int64_t a_chain_ends(void *arg) {
    enum { LEVELS = 100000 };
    ferry_future *inner, *outermost;
    bool cancel = arg != NULL;
    ferry_promise *p = ferry_promise_new(&inner, NULL);
    ferry_future *first = ferry_shield(inner);
    outermost = first;
    ferry_future *beside = NULL; /* a second branch */
    for (int i = 1; i < LEVELS; i++) {
        ferry_future *next = ferry_shield(outermost);
        if (!CHECK(next != NULL))
            return -ENOMEM;
        if (i == LEVELS / 2)
            beside = ferry_shield(outermost);
        if (outermost != first)
            ferry_detach(outermost); /* the next one holds it */
        outermost = next;
    }
    if (cancel)
        CHECK_INT(ferry_cancel(first), FERRY_CANCEL_ASKED);
    else
        CHECK_INT(ferry_promise_set(p, 6), 0);
    CHECK(ferry_done(outermost) && ferry_done(beside));
    int64_t result = ferry_await(outermost); /* and with it goes half of the chain */
    CHECK_INT(ferry_await(beside), result);
    ferry_detach(first);
    if (cancel)
        CHECK_INT(ferry_promise_set(p, 6), 0); /* it was left alone */
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(inner), 6);
    return result;
}

static int64_t run_chain(void *arg) {
    static const ferry_task_options small = {.stack_size = 16 * 1024};
    return ferry_await(ferry_spawn_with(a_chain_ends, arg, &small));
}

static void a_chain_of_100000(void **state) {
    (void)state;
    static int cancelled;
    assert_int_equal(ferry_run(run_chain, NULL), 6);
    assert_int_equal(ferry_run(run_chain, &cancelled), FERRY_EJOBCANCELED);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("AGG-11 the waiter is cancelled: inner runs on", the_waiter_is_cancelled),
        CASE("AGG-11 inner is cancelled: the waiter sees that", inner_is_cancelled),
        CASE("AGG-11 a gather of shields is cancelled: only the wrappers are",
             a_gather_of_shields_is_cancelled),
        CASE("a shield ends as inner does", ends_as_inner_does),
        CASE("a shield is cancelled once", cancelled_once),
        CASE("AGG-12 an orphan's error is reported once, and nothing piles up on inner",
             an_orphans_error_is_reported_once),
        CASE("AGG-12 FUT-08 an error that nobody read behind shields",
             an_error_that_nobody_read_behind_shields),
        CASE("AGG-12 FUT-08 an error that a shield has shown", an_error_that_a_shield_has_shown),
        CASE("an await of a shield delivers the out-parameters", out_parameters),
        CASE("SCP-26 an await of a shield times out: the job runs on", an_await_that_times_out),
        CASE("a thread awaits shields, one of them cancelled meanwhile", a_thread_awaits_shields),
        CASE("shields of shields", shields_of_shields),
        CASE("100,000 shields of shields", a_chain_of_100000),
    };
    return SUPPORT_RUN(tests);
}

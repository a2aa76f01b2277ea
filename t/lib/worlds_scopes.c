/* Cancellation and scopes where a thread or a job stands in a task's place. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "sleeper.h"
#include "worlds.h"

/* A handle that never ends by itself. */
static ferry_future *endless(ferry_promise **p) {
    ferry_future *f;
    *p = ferry_promise_new(&f, NULL);
    return f;
}

static void drop_both(ferry_promise *p, ferry_future *f) {
    ferry_cancel(f);
    ferry_detach(f);
    ferry_promise_drop(p);
}

static void open_for(ferry_scope *scope, int64_t ms) {
    *scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(scope, ms), 0);
}

/* ---- Cancelled ------------------------------------------------------------------------------- */

static void count(void *arg) {
    ++*(_Atomic int *)arg;
}

struct told {
    _Atomic int hooks; /* first: what the hook gets */
    ferry_event begun;
    int64_t instead;
};

static int64_t sleeps_until_told(void *arg) {
    struct told *t = arg;
    ferry_event_set(&t->begun);
    while (t->hooks == 0) /* else it might see the request, and end, before the hook's turn comes */
        sched_yield();
    int rc = ferry_sleep(LONG);
    return t->instead ? t->instead : rc;
}

static ferry_future *begin_told(struct told *t) {
    static const ferry_job_options options = {.interrupt = count};
    ferry_future *f = ferry_submit_with(side, sleeps_until_told, t, &options);
    CHECK_INT(ferry_event_wait(&t->begun), 0);
    return f;
}

WORLDS_TEST(asked_twice) {
    struct told t = {.begun = FERRY_EVENT_INIT};
    ferry_future *f = begin_told(&t);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK(ferry_cancel(f) != FERRY_CANCEL_NEVER_RAN);
    CHECK_INT(ferry_wait(f), 0);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(t.hooks, 1);
    return 0;
}

WORLDS_TEST(by_itself) {
    ferry_scope scope;
    open_for(&scope, FERRY_FOREVER);
    ferry_scope_cancel(&scope);
    int rc = ferry_sleep(LONG);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), 0);
    open_for(&scope, FERRY_FOREVER);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_scope_close(&scope, 9), 9); /* no wait, no cancel */
    CHECK_INT(ferry_await(ferry_submit(side, cancels_itself_and_sleeps, NULL)), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await(ferry_submit(side, cancels_itself_and_returns, NULL)), 7);
    return 0;
}

WORLDS_TEST(a_result_all_the_same) {
    struct told t = {.begun = FERRY_EVENT_INIT, .instead = 42};
    ferry_future *f = begin_told(&t);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_wait(f), 0);
    CHECK(!ferry_cancelled(f));
    CHECK_INT(ferry_await(f), 42);
    return 0;
}

WORLDS_TEST(yield_and_checkpoint) {
    ferry_scope scope, shield;
    open_for(&scope, FERRY_FOREVER);
    CHECK_INT(ferry_checkpoint(), 0);
    CHECK_INT(ferry_yield(), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_yield(), -ECANCELED);
    shield = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_checkpoint(), 0);
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    return 0;
}

/* ---- The hook is called once ----------------------------------------------------------------- */

struct two_scopes {
    struct stubborn job;
    ferry_scope outer, inner;
};

static void cancel_two_scopes(void *arg) {
    struct two_scopes *t = arg;
    ferry_scope_cancel(&t->inner);
    ferry_scope_cancel(&t->outer);
    while (!atomic_load(&t->job.told))
        sched_yield();
    gate_open(&t->job.gate);
}

WORLDS_TEST(the_hook_is_called_once) {
    struct two_scopes t = {.job = {.gate = GATE_INIT, .result = 5}};
    struct meanwhile other;
    open_for(&t.outer, FERRY_FOREVER);
    open_for(&t.inner, FERRY_FOREVER);
    ferry_future *f = ferry_submit_with(side, runs_until_the_gate_opens, &t.job, &with_hook);
    gate_wait_arrivals(&t.job.gate, 1);
    meanwhile(&other, f, cancel_two_scopes, &t);
    CHECK_INT(ferry_await(f), 5);
    CHECK_INT(t.job.hooks, 1);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    pthread_join(other.thread, NULL);
    CHECK_INT(ferry_scope_close(&t.inner, ferry_yield()), -ECANCELED);
    CHECK_INT(ferry_scope_close(&t.outer, -ECANCELED), 0);
    gate_destroy(&t.job.gate);
    return 0;
}

/* ---- Time-outs ------------------------------------------------------------------------------- */

WORLDS_TEST(over_already) {
    static const int64_t times[] = {0, -1, INT64_MIN};
    ferry_sem sem = FERRY_SEM_INIT(0);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        ferry_scope scope;
        bool before = false;
        open_for(&scope, times[i]);
        before = ferry_time_left() == 0;
        CHECK(before);
        int rc = ferry_sleep(10);
        CHECK_INT(rc, -ECANCELED);
        CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
        open_for(&scope, times[i]);
        CHECK_INT(ferry_yield(), -ECANCELED);
        CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
        CHECK_INT(ferry_sem_acquire_for(&sem, 1, times[i]), -ETIMEDOUT);
    }
    CHECK(FERRY_FOREVER > 0);
    return 0;
}

WORLDS_TEST(ready_beats_the_clock) {
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, NULL);
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    ferry_sem sem = FERRY_SEM_INIT(2);
    ferry_scope scope;
    CHECK_INT(ferry_promise_set(p, 7), 0);
    CHECK_INT(ferry_wait_for(f, 0), 0);
    CHECK_INT(ferry_wait_for(f, -1), 0);
    open_for(&scope, 0);
    CHECK_INT(ferry_wait(f), 0);
    CHECK_INT(ferry_lock(&mutex), 0);
    CHECK_INT(ferry_unlock(&mutex), 0);
    CHECK_INT(ferry_sem_acquire(&sem, 2), 0);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    CHECK_INT(ferry_await_for(f, 0), 7);
    ferry_promise_drop(p);
    return 0;
}

WORLDS_TEST(awaited_for_no_time) {
    ferry_executor *full = make_pool(1, NULL);
    struct stubborn job = {.gate = GATE_INIT};
    bool ran = false;
    ferry_future *f = ferry_submit(full, runs_until_the_gate_opens, &job);
    gate_wait_arrivals(&job.gate, 1);
    CHECK_INT(ferry_await_for(ferry_submit(full, succeeds, &ran), 0), -ETIMEDOUT);
    CHECK(!ran);
    gate_open(&job.gate);
    CHECK_INT(ferry_await(f), 0);
    end_pool(full);
    gate_destroy(&job.gate);
    for (int64_t ms = -1; ms <= 0; ms++) {
        struct sleeper s = {.begun = FERRY_EVENT_INIT};
        f = ferry_submit(side, sleeps, &s);
        CHECK_INT(ferry_event_wait(&s.begun), 0);
        CHECK_INT(ferry_await_for(f, ms), -ETIMEDOUT);
        CHECK(s.ended);
    }
    return 0;
}

WORLDS_TEST(errors_stay_errors) {
    ferry_scope scope;
    open_for(&scope, 0);
    CHECK_INT(ferry_scope_close(&scope, -EIO), -EIO); /* before it was over */
    open_for(&scope, 0);
    CHECK_INT(ferry_sleep(10), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -EPIPE), -EPIPE); /* in the clean-up */
    return 0;
}

WORLDS_TEST(the_outermost_says_so) {
    ferry_scope outer, inner;
    open_for(&outer, 0);
    open_for(&inner, LONG);
    CHECK_INT(ferry_time_left(), 0);
    int rc = ferry_sleep(LONG);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&inner, rc), -ECANCELED);
    CHECK(!ferry_scope_expired(&inner));
    CHECK_INT(ferry_scope_close(&outer, rc), -ETIMEDOUT);
    CHECK(ferry_scope_expired(&outer));
    return 0;
}

WORLDS_TEST(the_outer_cancel_wins) {
    for (int late = 0; late < 2; late++) {
        ferry_scope outer, inner;
        open_for(&outer, FERRY_FOREVER);
        open_for(&inner, 0);
        if (!late)
            ferry_scope_cancel(&outer);
        int rc = ferry_sleep(LONG);
        CHECK_INT(rc, -ECANCELED);
        CHECK(ferry_scope_expired(&inner) == late);
        if (late)
            ferry_scope_cancel(&outer);
        CHECK_INT(ferry_scope_close(&inner, rc), -ECANCELED);
        CHECK_INT(ferry_scope_close(&outer, rc), 0);
    }
    return 0;
}

/* ---- Shields --------------------------------------------------------------------------------- */

WORLDS_TEST(a_shield_absorbs_its_own) {
    ferry_scope outer, inner = FERRY_SCOPE_INIT;
    open_for(&outer, FERRY_FOREVER);
    CHECK_INT(ferry_shield_open(&inner, FERRY_FOREVER), 0);
    ferry_scope_cancel(&inner);
    int rc = ferry_sleep(LONG);
    CHECK_INT(rc, -ECANCELED);
    ferry_scope_cancel(&outer); /* on the way out */
    CHECK_INT(ferry_scope_close(&inner, rc), 0);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, 3), 3); /* it has caught nothing */
    return 0;
}

WORLDS_TEST(a_shield_is_cancelled_itself) {
    ferry_scope outer, shield = FERRY_SCOPE_INIT;
    open_for(&outer, FERRY_FOREVER);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(1), 0);
    ferry_scope_cancel(&outer); /* once more, to no effect */
    CHECK_INT(ferry_sleep(1), 0);
    ferry_scope_cancel(&shield);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&shield, -ECANCELED), 0);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    return 0;
}

WORLDS_TEST(a_shield_on_the_way_out) {
    ferry_scope outer, inner, shield = FERRY_SCOPE_INIT;
    open_for(&outer, FERRY_FOREVER);
    open_for(&inner, FERRY_FOREVER);
    ferry_scope_cancel(&outer);
    int rc = ferry_sleep(LONG);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_scope_close(&shield, rc), -ECANCELED); /* not its own: it goes on */
    CHECK_INT(ferry_scope_close(&inner, rc), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, rc), 0);
    return 0;
}

WORLDS_TEST(five_thousand_scopes) {
    enum { SCOPES = 5000, MOVES = 100000 };
    ferry_scope *scopes = calloc(SCOPES, sizeof *scopes);
    for (int i = 0; i < SCOPES; i++)
        CHECK_INT(ferry_scope_open(&scopes[i], LONG + i), 0);
    for (int i = 0; i < MOVES; i++)
        CHECK_INT(ferry_scope_set_timeout(&scopes[SCOPES - 50], LONG + i), 0);
    ferry_scope_cancel(&scopes[0]);
    int64_t rc = ferry_sleep(LONG);
    for (int i = SCOPES - 1; i > 0; i--)
        rc = ferry_scope_close(&scopes[i], rc);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scopes[0], rc), 0);
    free(scopes);
    return 0;
}

/* ---- Waits that end when somebody acts meanwhile --------------------------------------------- */

WORLDS_TEST(cancelled_while_it_looks_on) {
    ferry_promise *p;
    ferry_future *f = endless(&p);
    ferry_scope scope;
    struct meanwhile other;
    open_for(&scope, LONG);
    meanwhile(&other, f, cancel_a_scope, &scope);
    int rc = ferry_wait(f);
    CHECK_INT(rc, -ECANCELED);
    CHECK(!ferry_done(f)); /* it runs on */
    CHECK_INT(ferry_scope_close(&scope, rc), 0); /* cancelled, not timed out */
    pthread_join(other.thread, NULL);
    drop_both(p, f);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("CAN-02 in every world: asked twice is asked once", asked_twice),
        CASE("CAN-04 in every world: cancelled by itself", by_itself),
        CASE("CAN-06 in every world: a result all the same", a_result_all_the_same),
        CASE("CAN-09 SCP-06 in every world: cancelled while it looks on",
             cancelled_while_it_looks_on),
        CASE("CAN-11 in every world: yield and checkpoint", yield_and_checkpoint),
        CASE("CAN-13 in every world: the hook is called once", the_hook_is_called_once),
        CASE("SCP-01 SCP-04 in every world: a time that is over", over_already),
        CASE("SCP-02 in every world: what is ready beats the clock", ready_beats_the_clock),
        CASE("SCP-03 in every world: an await for no time", awaited_for_no_time),
        CASE("SCP-07 in every world: errors stay errors", errors_stay_errors),
        CASE("SCP-09 in every world: the outermost says so", the_outermost_says_so),
        CASE("SCP-11 in every world: the outer cancel wins", the_outer_cancel_wins),
        CASE("SCP-12 in every world: a shield absorbs its own request", a_shield_absorbs_its_own),
        CASE("SCP-14 in every world: a shield is cancelled itself", a_shield_is_cancelled_itself),
        CASE("SCP-17 in every world: a shield on the way out", a_shield_on_the_way_out),
        CASE("SCP-21 in every world: 5,000 scopes", five_thousand_scopes),
    };
    return SUPPORT_RUN(tests);
}

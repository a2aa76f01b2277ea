/* Handles: of whom one may await, in each state; what an await takes and a wait leaves alone; and
 * whose error is read. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "future.h"
#include "parked.h"
#include "support.h"
#include "waiters.h"

static int64_t fails(void *arg) {
    (void)arg;
    return ferry_fail(-EIO, "the disk is gone");
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

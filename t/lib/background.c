/* A loop's background: errors are heard of, shutdowns join it, nothing grows without bound. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "oom.h"
#include "parked.h"
#include "pools.h"
#include "quiet.h"
#include "saturate.h"
#include "waiters.h"

#define LONG 60000

static int64_t fails(void *arg) {
    (void)arg;
    return ferry_fail(-EIO, "the cache is on fire");
}

static int64_t fails_otherwise(void *arg) {
    (void)arg;
    return ferry_fail(-ENOSPC, "no room");
}

static int64_t succeeds(void *arg) {
    *(bool *)arg = true;
    return 5;
}

static void until_none(void) {
    while (ferry_background_count(NULL) > 0)
        ferry_yield();
}

static const ferry_task_options named = {.name = "cache"};
static const ferry_job_options named_job = {.name = "journal"};

/* A run without signal handlers. */
static int64_t run(ferry_fn fn, void *arg, int64_t grace_ms) {
    return ferry_run_with(fn, arg, &(ferry_run_options){.grace_ms = grace_ms, .no_signals = true});
}

/* ---- Errors ---------------------------------------------------------------------------------- */

TASK_TEST(logged) {
    struct kept_log log;
    bool ran = false;
    keep_log(&log, FERRY_LOG_ERROR, "'cache' failed in the background: the cache is on fire");
    CHECK_INT(ferry_background_spawn_with(NULL, fails, NULL, &named), 0);
    CHECK_INT(ferry_background_spawn(succeeds, &ran), 0);
    CHECK_INT(ferry_background_count(NULL), 2);
    until_none();
    CHECK(ran);
    CHECK_INT(kept_messages(&log), 1);
    struct kept_log all;
    keep_log(&all, FERRY_LOG_DEBUG, "");
    CHECK_INT(ferry_background_submit_with(NULL, NULL, fails, NULL, &named_job), 0);
    CHECK_INT(ferry_background_submit(NULL, succeeds, &ran), 0);
    until_none();
    CHECK_INT(kept_messages(&all), 1); /* once, and nothing else */
    return 0;
}

struct heard {
    int n;
    int64_t code;
    char name[32], message[100];
    size_t causes;
    int waited;
    bool on_the_loop;
};

static void hear(const ferry_error *error, void *arg) {
    struct heard *h = arg;
    h->n++;
    h->code = error->code;
    snprintf(h->name, sizeof h->name, "%s", error->name);
    snprintf(h->message, sizeof h->message, "%s", error->message);
    h->causes = error->n_causes;
    h->waited = ferry_sleep(1);
    h->on_the_loop = ferry_loop_current() != NULL && ferry_self() == NULL;
}

static int64_t fails_as_a_group(void *arg) {
    ferry_group group = FERRY_GROUP_INIT;
    ferry_group_open(&group);
    ferry_group_spawn(&group, fails, arg);
    return ferry_group_close(&group, 0);
}

TASK_TEST(heard) {
    struct heard h = {0};
    ferry_log_set(quiet_ferry, NULL);
    CHECK_INT(
        ferry_background_configure(NULL, &(ferry_background_options){.handler = hear, .arg = &h}),
        0);
    CHECK_INT(ferry_background_spawn_with(NULL, fails, NULL, &named), 0);
    while (h.n < 1)
        ferry_yield();
    CHECK_INT(atomic_load(&ferry_loop_current()->callbacks), 0); /* its own was counted */
    CHECK_INT(h.code, -EIO);
    CHECK_STR(h.name, "cache");
    CHECK_STR(h.message, "the cache is on fire");
    CHECK_INT(h.waited, -EDEADLK);
    CHECK(h.on_the_loop);
    CHECK_INT(ferry_background_submit_with(NULL, NULL, fails_otherwise, NULL, &named_job), 0);
    while (h.n < 2)
        ferry_yield();
    CHECK_INT(h.code, -ENOSPC);
    CHECK_STR(h.name, "journal");
    CHECK_STR(h.message, "no room");
    CHECK_INT(ferry_background_spawn(fails_as_a_group, NULL), 0);
    while (h.n < 3)
        ferry_yield();
    CHECK_INT(h.code, FERRY_EGROUP);
    CHECK_INT(h.causes, 1);
    CHECK_INT(ferry_background_configure(NULL, NULL), 0);
    CHECK_INT(ferry_background_spawn(fails, NULL), 0);
    until_none();
    ferry_yield();
    CHECK_INT(h.n, 3);
    CHECK_INT(ferry_background_configure(NULL, &(ferry_background_options){.on_error = 2}),
              -EINVAL);
    ferry_log_set(NULL, NULL);
    return 0;
}

/* ---- The end of the run ---------------------------------------------------------------------- */

struct story {
    int64_t rc;     /* of the wait that was cut short */
    int64_t result; /* what the first task returns then; 1: rc */
    bool job;
    bool at_the_end; /* not before the first task has ended */
    struct heard heard;
};

static int64_t fails_when_cancelled(void *arg) {
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    return fails(arg);
}

static int64_t first_task(void *arg) {
    struct story *s = arg;
    CHECK_INT(ferry_background_configure(
                  NULL, &(ferry_background_options){.on_error = FERRY_BACKGROUND_FAIL,
                                                    .handler = hear,
                                                    .arg = &s->heard}),
              0);
    if (s->at_the_end) {
        CHECK_INT(ferry_background_spawn(fails_when_cancelled, NULL), 0);
        return s->result;
    }
    if (s->job)
        CHECK_INT(ferry_background_submit(NULL, fails, NULL), 0);
    else
        CHECK_INT(ferry_background_spawn(fails, NULL), 0);
    s->rc = ferry_sleep(LONG);
    if (!s->job)
        CHECK_INT(ferry_background_spawn(fails_otherwise, NULL), 0); /* the first one counts */
    return s->result == 1 ? s->rc : s->result < 0 ? ferry_fail(s->result, "my own") : s->result;
}

static void the_run_fails(void **state) {
    (void)state;
    ferry_log_set(quiet_ferry, NULL);
    static const struct story stories[] = {
        {.result = 1}, {.result = 0}, {.result = 1, .job = true}, {.at_the_end = true}};
    for (int i = 0; i < 4; i++) {
        struct story s = stories[i];
        assert_int_equal(run(first_task, &s, LONG), -EIO);
        assert_string_equal(ferry_errmsg(), "the cache is on fire");
        assert_int_equal(s.rc, s.at_the_end ? 0 : -ECANCELED);
        assert_true(s.heard.n >= 1);
    }
    struct story own = {.result = -EPIPE};
    assert_int_equal(run(first_task, &own, LONG), -EPIPE);
    assert_string_equal(ferry_errmsg(), "my own");
    ferry_log_set(NULL, NULL);
}

static int64_t stops_the_run(void *arg) {
    ferry_loop *loop = arg;
    CHECK_INT(ferry_background_configure(
                  loop, &(ferry_background_options){.on_error = FERRY_BACKGROUND_FAIL}),
              0);
    CHECK_INT(ferry_background_spawn(fails, NULL), 0);
    until_none();
    ferry_loop_stop(loop);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    return 0;
}

static int64_t returns_nine(void *arg) {
    (void)arg;
    return 9;
}

/* A loop of the program's own; a run that was stopped has its error later. */
static void the_loops_run_fails(void **state) {
    (void)state;
    ferry_log_set(quiet_ferry, NULL);
    ferry_loop *loop = ferry_loop_new();
    int64_t rc = ferry_loop_run(loop, stops_the_run, loop);
    if (rc == FERRY_ESTOPPED)
        rc = ferry_loop_run(loop, NULL, NULL);
    assert_int_equal(rc, -EIO);
    assert_string_equal(ferry_errmsg(), "the cache is on fire");
    assert_int_equal(ferry_loop_run(loop, returns_nine, NULL), 9); /* that is over */
    assert_int_equal(ferry_loop_shutdown(loop, LONG), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    ferry_log_set(NULL, NULL);
}

struct stopped {
    ferry_loop *loop;
    bool goes_on;
};

/* The error has been heard of when the run is stopped. */
static int64_t is_stopped(void *arg) {
    struct stopped *s = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_background_spawn(fails, NULL), 0);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    while (s->loop->background.failure == 0)
        ferry_yield();
    ferry_loop_stop(s->loop);
    while (!s->goes_on)
        ferry_yield();
    return ferry_scope_close(&shield, 0);
}

static void a_stopped_run_keeps_its_error(void **state) {
    (void)state;
    ferry_log_set(quiet_ferry, NULL);
    struct stopped s = {.loop = ferry_loop_new()};
    assert_int_equal(ferry_background_configure(
                         s.loop, &(ferry_background_options){.on_error = FERRY_BACKGROUND_FAIL}),
                     0);
    assert_int_equal(ferry_loop_run(s.loop, is_stopped, &s), FERRY_ESTOPPED);
    s.goes_on = true;
    assert_int_equal(ferry_loop_run(s.loop, NULL, NULL), -EIO);
    assert_string_equal(ferry_errmsg(), "the cache is on fire");
    assert_int_equal(ferry_loop_shutdown(s.loop, LONG), 0);
    assert_int_equal(ferry_loop_free(s.loop), 0);
    ferry_log_set(NULL, NULL);
}

/* ---- Not of the scope ------------------------------------------------------------------------ */

static int64_t sleeps_a_little(void *arg) {
    int rc = ferry_sleep(3);
    *(int *)arg = rc == 0 ? 1 : rc;
    return rc;
}

TASK_TEST(of_no_scope) {
    int task = 0, job = 0;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, 0);
    CHECK_INT(ferry_background_spawn(sleeps_a_little, &task), 0);
    CHECK_INT(ferry_background_submit(NULL, sleeps_a_little, &job), 0);
    ferry_scope_cancel(&scope);
    ferry_scope_close(&scope, 0);
    until_none();
    CHECK_INT(task, 1);
    CHECK_INT(job, 1);
    return 0;
}

/* ---- Bounded --------------------------------------------------------------------------------- */

static int64_t waits_for(void *event) {
    return ferry_event_wait(event);
}

static int freed;

static void count_free(void *arg) {
    (void)arg;
    freed++;
}

TASK_TEST(bounded) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_task_options task = {.arg_free = count_free};
    ferry_job_options job = {.arg_free = count_free};
    freed = 0;
    CHECK_INT(ferry_background_configure(NULL, &(ferry_background_options){.max = 2}), 0);
    CHECK_INT(ferry_background_spawn_with(NULL, waits_for, &event, &task), 0);
    CHECK_INT(ferry_background_submit_with(NULL, NULL, waits_for, &event, &job), 0);
    CHECK_INT(ferry_background_spawn_with(NULL, waits_for, &event, &task), -EAGAIN);
    CHECK_STR(ferry_errmsg(), "the loop has 2 tasks and jobs in its background already");
    CHECK_INT(ferry_background_submit_with(NULL, NULL, waits_for, &event, &job), -EAGAIN);
    CHECK_INT(ferry_background_count(NULL), 2);
    CHECK_INT(freed, 0);
    ferry_event_set(&event);
    until_none();
    while (freed < 2) /* the job's arg comes back over the loop */
        ferry_yield();
    CHECK_INT(ferry_background_spawn(waits_for, &event), 0);
    until_none();
    CHECK_INT(freed, 2);
    return 0;
}

/* The executor's queue is full, and its user has given it back: the caller doesn't wait for
 * that. */
TASK_TEST(behind_a_full_queue) {
    saturation s;
    bool ran[3] = {false};
    ferry_executor *pool = make_pool(1, &(ferry_executor_options){.queue_max = 1});
    saturate(&s, pool, 1);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_background_submit(pool, succeeds, &ran[i]), 0);
    ferry_executor_free(pool);
    CHECK_INT(ferry_background_count(NULL), 3);
    ferry_yield();
    desaturate(&s);
    until_none();
    CHECK(ran[0] && ran[1] && ran[2]);
    return 0;
}

/* ---- Shutdown -------------------------------------------------------------------------------- */

struct ends {
    ferry_executor *pool;
    bool drain;
    gate begun;
    atomic_int task, job; /* 1: ran to its end; < 0: what it was told */
    bool never;           /* doesn't end by itself */
    ferry_limiter *limiter;
};

static int64_t a_task(void *arg) {
    struct ends *e = arg;
    int rc = ferry_sleep(e->never ? LONG : 5);
    ferry_yield();
    e->task = rc == 0 ? 1 : rc;
    return rc;
}

static int64_t a_job(void *arg) {
    struct ends *e = arg;
    gate_wait(&e->begun);
    int rc = ferry_sleep(e->never ? LONG : 5);
    e->job = rc == 0 ? 1 : rc;
    return rc;
}

static int64_t leaves_both(void *arg) {
    struct ends *e = arg;
    ferry_background_configure(NULL, &(ferry_background_options){.drain = e->drain});
    char key[] = "the disk";
    CHECK_INT(ferry_background_spawn(a_task, e), 0);
    CHECK_INT(ferry_background_submit_with(
                  NULL, e->pool, a_job, e,
                  &(ferry_job_options){.limiter = e->limiter, .key = e->limiter ? key : NULL}),
              0);
    key[0] = '\0';
    while (gate_arrivals(&e->begun) == 0)
        ferry_yield();
    return 0;
}

/* A job on an executor of the program's own is joined as well. */
static void shut_down(void **state) {
    (void)state;
    struct kept_log log;
    static const struct {
        bool drain, never;
        int64_t grace;
        int ends;
        int heard; /* level: cancellations are no errors */
    } cases[] = {{false, true, LONG, -ECANCELED, FERRY_LOG_DEBUG},
                 {true, false, LONG, 1, FERRY_LOG_DEBUG},
                 /* Its grace is over; when the machine is slow, once more before they have
                  * ended. */
                 {true, true, 300, -ECANCELED, FERRY_LOG_ERROR}};
    for (int i = 0; i < 3; i++) {
        keep_log(&log, cases[i].heard, "");
        struct ends e = {
            .pool = make_pool(1, NULL), .drain = cases[i].drain, .never = cases[i].never};
        assert_int_equal(ferry_limiter_new(&e.limiter, NULL), 0);
        gate_init(&e.begun);
        gate_open(&e.begun);
        assert_int_equal(run(leaves_both, &e, cases[i].grace), 0);
        assert_int_equal(e.task, cases[i].ends);
        if (cases[i].grace == LONG)
            assert_int_equal(e.job, cases[i].ends);
        end_pool(e.pool);
        assert_int_equal(e.job, cases[i].ends);
        assert_int_equal(ferry_limiter_free(e.limiter), 0);
        assert_int_equal(kept_messages(&log), 0);
    }
}

/* Its executor ends before it: that isn't its error. */
TASK_TEST(the_executor_ends) {
    struct kept_log log;
    struct ends e = {.pool = make_pool(1, NULL), .never = true};
    keep_log(&log, FERRY_LOG_DEBUG, "");
    gate_init(&e.begun);
    gate_open(&e.begun);
    CHECK_INT(ferry_background_submit(e.pool, a_job, &e), 0);
    while (gate_arrivals(&e.begun) == 0)
        ferry_yield();
    CHECK_INT(ferry_executor_close(e.pool, FERRY_CLOSE_CANCEL), 0);
    until_none();
    CHECK_INT(e.job, -ECANCELED);
    CHECK_INT(kept_messages(&log), 0);
    keep_log(&log, FERRY_LOG_ERROR, "'job' failed in the background: the executor was closed");
    CHECK_INT(ferry_background_submit(e.pool, a_job, &e), 0);
    until_none();
    CHECK_INT(kept_messages(&log), 1);
    end_pool(e.pool);
    return 0;
}

static ferry_loop *loop_seen;

static int64_t spawns_in_its_end(void *arg) {
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    *(int *)arg = ferry_background_spawn(fails, NULL);
    return 0;
}

static int64_t leaves_one_that_spawns(void *arg) {
    return ferry_background_spawn(spawns_in_its_end, arg);
}

static void too_late(void **state) {
    (void)state;
    int rc = 0;
    assert_int_equal(run(leaves_one_that_spawns, &rc, LONG), 0);
    assert_int_equal(rc, FERRY_ECLOSED);
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, returns_nine, NULL), 9);
    assert_int_equal(ferry_loop_shutdown(loop, LONG), 0);
    freed = 0;
    assert_int_equal(ferry_background_spawn_with(loop, fails, NULL,
                                                 &(ferry_task_options){.arg_free = count_free}),
                     FERRY_ECLOSED);
    assert_int_equal(ferry_background_submit_with(loop, NULL, fails, NULL,
                                                  &(ferry_job_options){.arg_free = count_free}),
                     FERRY_ECLOSED);
    assert_int_equal(freed, 0);
    assert_int_equal(ferry_background_count(loop), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(ferry_background_spawn(fails, NULL), -EINVAL); /* no loop */
    assert_int_equal(ferry_background_submit(NULL, fails, NULL), -EINVAL);
    assert_int_equal(ferry_background_configure(NULL, NULL), -EINVAL);
    assert_int_equal(ferry_background_count(NULL), 0);
}

/* Accepted by a loop that never comes to run it. */
static void never_run(void **state) {
    (void)state;
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "failed in the background: the loop was shut down");
    ferry_loop *loop = ferry_loop_new();
    struct heard h = {0};
    CHECK_INT(
        ferry_background_configure(loop, &(ferry_background_options){.handler = hear, .arg = &h}),
        0);
    freed = 0;
    assert_int_equal(ferry_background_spawn_with(loop, fails, NULL,
                                                 &(ferry_task_options){.arg_free = count_free}),
                     0);
    assert_int_equal(ferry_background_submit_with(loop, NULL, fails, NULL,
                                                  &(ferry_job_options){.arg_free = count_free}),
                     0);
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(freed, 2);
    assert_int_equal(h.n, 0);
    assert_int_equal(kept_messages(&log), 2);
}

/* ---- From elsewhere -------------------------------------------------------------------------- */

enum { THREADS = 3, EACH = 200 };

static atomic_int ran;

static int64_t counts(void *arg) {
    (void)arg;
    atomic_fetch_add(&ran, 1);
    return 0;
}

static void *starts_many(void *arg) {
    for (int i = 0; i < EACH; i++) {
        int rc = i % 2 ? ferry_background_spawn_with(arg, counts, NULL, NULL)
                       : ferry_background_submit_with(arg, NULL, counts, NULL, NULL);
        CHECK_INT(rc, 0);
    }
    return NULL;
}

TASK_TEST(from_threads) {
    pthread_t threads[THREADS];
    atomic_store(&ran, 0);
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_thread(starts_many, ferry_loop_current());
    while (atomic_load(&ran) < THREADS * EACH)
        ferry_yield();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    until_none();
    return 0;
}

static void after_a_fork(void **state) {
    (void)state;
    loop_seen = ferry_loop_new();
    pid_t pid = fork();
    if (pid == 0)
        end_child(ferry_background_spawn_with(loop_seen, fails, NULL, NULL) == FERRY_EFORKED &&
                  ferry_background_configure(loop_seen, NULL) == FERRY_EFORKED &&
                  ferry_background_count(loop_seen) == 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(child_was_good(status));
    assert_int_equal(ferry_loop_free(loop_seen), 0);
}

/* ---- Without memory -------------------------------------------------------------------------- */

static int accepted;
static atomic_int seen; /* by a task, a job, and whoever hears of an error */

static int64_t marks(void *arg) {
    (void)arg;
    seen++;
    return 0;
}

static void hears(const ferry_error *error, void *arg) {
    (void)arg;
    CHECK(error->code == -ENOMEM || error->code == -EAGAIN);
    seen++;
}

static int64_t starts_two(void *arg) {
    (void)arg;
    ferry_background_configure(NULL, &(ferry_background_options){.handler = hears});
    int rc = ferry_background_spawn(marks, NULL);
    CHECK(rc == 0 || (rc == -ENOMEM && oom_hit()));
    accepted += rc == 0;
    rc = ferry_background_submit_with(NULL, NULL, marks, NULL,
                                      &(ferry_job_options){.arg_free = count_free});
    CHECK(rc == 0 || (rc == -ENOMEM && oom_hit()));
    accepted += rc == 0;
    until_none();
    return 0;
}

/* What was accepted ran, or its error was heard of. */
static void no_memory(void **state) {
    (void)state;
    ferry_log_set(quiet_ferry, NULL);
    for (int on = 0; on < 2; on++) {
        bool hit = true;
        for (int n = 0; hit; n++) {
            accepted = 0;
            atomic_store(&seen, 0);
            oom_after(n, on == 1);
            int64_t rc = run(starts_two, NULL, LONG);
            hit = oom_hit();
            oom_never();
            CHECK(rc == 0 || hit);
            CHECK_INT(seen, accepted);
        }
    }
    ferry__error_set(ferry__ctx_self(), 0, NULL);
    ferry_log_set(NULL, NULL);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("RUN-09 an error in the background is logged once, with its name", logged),
        CASE("RUN-09 an error in the background goes to the handler, on the loop", heard),
        CASE("RUN-09 an error in the background ends the run on demand", the_run_fails),
        CASE("RUN-09 it ends the run of a loop, also one that was stopped", the_loops_run_fails),
        CASE("RUN-09 a run that was stopped keeps the error until it ends",
             a_stopped_run_keeps_its_error),
        CASE("the background belongs to no scope", of_no_scope),
        CASE("the background is bounded, and what is refused stays the caller's", bounded),
        CASE("a full queue doesn't hold the caller up", behind_a_full_queue),
        CASE("a shutdown cancels or drains, and joins, tasks and jobs", shut_down),
        CASE("an executor's end cancels what it has of it", the_executor_ends),
        CASE("a loop that is shut down takes nothing", too_late),
        CASE("RUN-09 what the loop never came to run is an error", never_run),
        CASE("from threads", from_threads),
        CASE("the child of a fork has a clear error", after_a_fork),
        CASE("RUN-09 no memory at any point is heard of", no_memory),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

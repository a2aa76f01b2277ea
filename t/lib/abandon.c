/* Jobs that are given up: when, what becomes of their arguments, and of their threads. (Threads
 * in their place: hung.c.) */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "executor.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

static void count_free(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
}

struct given_up {
    gate g;
    atomic_int frees;
    pthread_t freed_on;
};

static int64_t stand(void *arg) {
    struct given_up *u = arg;
    gate_wait(&u->g);
    return 5;
}

static void note_free(void *arg) {
    struct given_up *u = arg;
    u->freed_on = pthread_self();
    atomic_fetch_add(&u->frees, 1);
}

static void never(void *arg, int64_t result) {
    (void)arg;
    (void)result;
    MUST_NOT_HAPPEN("delivered");
}

static const ferry_job_options give_up = {
    .name = "deaf", .policy = FERRY_JOB_ABANDON, .arg_free = note_free, .deliver = never};

/* The thread's place is free when the thread is, not when the waiter leaves. */
TASK_TEST(an_abandoned_job_keeps_its_thread) {
    ferry_executor *pool = make_pool(1, NULL);
    struct given_up *u = calloc(1, sizeof *u);
    struct kept_log log;
    gate_init(&u->g);
    keep_log(&log, FERRY_LOG_WARNING, "'deaf' was given up");
    ferry_future *job = ferry_submit_with(pool, stand, u, &give_up);
    gate_wait_arrivals(&u->g, 1);
    CHECK_INT(ferry_cancel(job), FERRY_CANCEL_ASKED);
    CHECK(ferry_done(job));
    CHECK_INT(ferry_cancel(job), FERRY_CANCEL_LATE);
    CHECK_INT(ferry_await(job), FERRY_EJOBCANCELED);
    CHECK_INT(kept_messages(&log), 1);
    ferry_future *next = ferry_submit(pool, return_arg, as_arg(4));
    ferry_executor_stats stats = stats_of(pool);
    CHECK_INT(stats.abandoned, 1);
    CHECK_INT(stats.running, 1);
    CHECK_INT(stats.queued, 1);
    CHECK_INT(stats.threads, 1);
    CHECK(!ferry_done(next));
    CHECK_INT(atomic_load(&u->frees), 0);
    gate_open(&u->g);
    CHECK_INT(ferry_await(next), 4);
    while (atomic_load(&u->frees) == 0)
        CHECK_INT(ferry_yield(), 0);
    CHECK(pthread_equal(u->freed_on, pthread_self())); /* on the loop's thread */
    stats = stats_of(pool);
    CHECK_INT(stats.abandoned + stats.running, 0);
    gate_destroy(&u->g);
    free(u);
    end_pool(pool);
    return 0;
}

static void without_a_loop_the_worker_cleans_up(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct given_up *u = calloc(1, sizeof *u);
    struct kept_log log;
    gate_init(&u->g);
    keep_log(&log, FERRY_LOG_WARNING, "");
    ferry_future *job = ferry_submit_with(pool, stand, u, &give_up);
    gate_wait_arrivals(&u->g, 1);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    assert_int_equal(ferry_executor_stop(pool, 0), 1);
    gate_open(&u->g);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_int_equal(atomic_load(&u->frees), 1);
    assert_false(pthread_equal(u->freed_on, pthread_self()));
    kept_messages(&log);
    gate_destroy(&u->g);
    free(u);
    ferry_executor_free(pool);
}

struct patient {
    gate begun, go;
    int64_t result;
};

static int64_t listen_late(void *arg) {
    struct patient *p = arg;
    gate_wait(&p->begun);
    while (ferry_checkpoint() == 0)
        sched_yield();
    gate_wait(&p->go);
    return p->result;
}

static void open_go(void *arg) {
    struct patient *p = arg;
    gate_open(&p->go);
}

/* Its grace is long, and it needs none of it. */
static void a_job_that_listens_in_time_is_not_given_up(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    static const int64_t results[] = {11, -EIO, -ECANCELED},
                         wanted[] = {11, -EIO, FERRY_EJOBCANCELED};
    for (int i = 0; i < 3; i++) {
        struct patient p = {GATE_INIT, GATE_INIT, results[i]};
        gate_open(&p.begun);
        ferry_future *job = ferry_submit_with(pool, listen_late, &p,
                                              &(ferry_job_options){.policy = FERRY_JOB_ABANDON,
                                                                   .grace_ms = 3600000,
                                                                   .interrupt = open_go});
        gate_wait_arrivals(&p.begun, 1);
        assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
        assert_int_equal(ferry_await(job), wanted[i]);
        assert_int_equal(stats_of(pool).abandoned, 0);
    }
    end_pool(pool);
}

static void a_job_is_given_up_when_its_grace_is_over(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL), *strand = make_strand(pool, 1),
                   *both[] = {pool, strand};
    for (int i = 0; i < 2; i++) {
        struct given_up u = {.g = GATE_INIT};
        struct kept_log log;
        ferry_job_options options = give_up;
        options.grace_ms = 20;
        keep_log(&log, FERRY_LOG_WARNING, "'deaf' was given up");
        ferry_future *job = ferry_submit_with(both[i], stand, &u, &options);
        gate_wait_arrivals(&u.g, 1);
        int64_t begun = ferry__now();
        assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
        assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
        assert_true(ferry__now() - begun >= 20 * FERRY__MS);
        assert_int_equal(stats_of(both[i]).abandoned, 1);
        gate_open(&u.g);
        while (atomic_load(&u.frees) == 0)
            sched_yield();
        assert_int_equal(kept_messages(&log), 1);
        while (stats_of(both[i]).running > 0)
            sched_yield();
        assert_int_equal(stats_of(both[i]).abandoned, 0);
        gate_destroy(&u.g);
    }
    ferry_executor_free(strand);
    end_pool(pool);
}

static int64_t end_soon(void *arg) {
    (void)arg;
    while (ferry_checkpoint() == 0)
        sched_yield();
    return 6;
}

/* Either its own result, or cancelled; never both, and nothing is lost. */
static void the_grace_and_the_end_race(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct kept_log log;
    atomic_int frees;
    atomic_init(&frees, 0);
    keep_log(&log, FERRY_LOG_WARNING, "");
    int rounds = support_slow() ? 30 : 200;
    for (int i = 0; i < rounds && support_in_time(); i++) {
        ferry_future *job = ferry_submit_with(pool, end_soon, &frees,
                                              &(ferry_job_options){.policy = FERRY_JOB_ABANDON,
                                                                   .grace_ms = i % 2,
                                                                   .arg_free = count_free});
        while (stats_of(pool).running == 0)
            sched_yield();
        ferry_cancel(job);
        int64_t result = ferry_await(job);
        CHECK(result == 6 || result == FERRY_EJOBCANCELED);
        while (atomic_load(&frees) <= i)
            sched_yield();
        CHECK_INT(stats_of(pool).abandoned, 0);
    }
    kept_messages(&log);
    end_pool(pool);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("THR-04 an abandoned job keeps its thread until it ends",
             an_abandoned_job_keeps_its_thread),
        CASE("without a loop the worker frees the argument of an abandoned job",
             without_a_loop_the_worker_cleans_up),
        CASE("a job that listens within its grace isn't given up",
             a_job_that_listens_in_time_is_not_given_up),
        CASE("a job is given up when its grace is over", a_job_is_given_up_when_its_grace_is_over),
        CASE("the grace and the end of the job race", the_grace_and_the_end_race),
    };
    return SUPPORT_RUN(tests);
}

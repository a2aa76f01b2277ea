/* Jobs: what a handle says, when results are delivered and arguments freed, and what a job may
 * do. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "executor.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

/* ---- Results --------------------------------------------------------------------------------- */

static int64_t fail_in_words(void *arg) {
    (void)arg;
    return ferry_fail(-EISDIR, "cannot open '%s': is a directory", "x.db");
}

static int64_t fail_without_words(void *arg) {
    ferry_fail(-EIO, "about something else");
    return (int64_t)(intptr_t)arg;
}

static void results_and_errors_travel_with_the_handle(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(INT64_MAX))), INT64_MAX);
    ferry_future *job = ferry_submit(pool, fail_in_words, NULL);
    assert_int_equal(ferry_wait(job), 0);
    ferry_fail(-ENOENT, "meanwhile");
    assert_int_equal(ferry_result(job), -EISDIR);
    assert_int_equal(ferry_await(job), -EISDIR);
    assert_string_equal(ferry_errmsg(), "cannot open 'x.db': is a directory");
    assert_int_equal(ferry_await(ferry_submit(pool, fail_without_words, as_arg(-ENOSPC))), -ENOSPC);
    assert_string_equal(ferry_errmsg(), ferry_strerror(-ENOSPC));
    assert_int_equal(ferry_await(ferry_submit(pool, NULL, NULL)), -EINVAL);
    assert_int_equal(ferry_await(NULL), -ENOMEM);
    end_pool(pool);
}

static int64_t look_at_myself(void *arg) {
    CHECK_STR(ferry_self_name(), arg);
    CHECK(ferry_self() != NULL);
    CHECK_STR(ferry_future_name(ferry_self()), arg);
    CHECK_INT(ferry_await(ferry_self()), -EDEADLK);
    CHECK_INT(ferry_time_left(), FERRY_FOREVER);
    CHECK(ferry_loop_current() == NULL);
    return 1;
}

static void a_job_knows_its_name(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    char usual[] = "job";
    assert_int_equal(ferry_await(ferry_submit(pool, look_at_myself, usual)), 1);
    char name[] = "a name that is longer than thirty-one bytes", cut[32];
    memcpy(cut, name, 31);
    cut[31] = '\0';
    saturation s;
    saturate(&s, pool, 1);
    ferry_future *job =
        ferry_submit_with(pool, look_at_myself, cut, &(ferry_job_options){.name = name});
    memset(name, 'x', sizeof name - 1); /* it was copied */
    assert_string_equal(ferry_future_name(job), cut);
    desaturate(&s);
    assert_int_equal(ferry_await(job), 1);
    end_pool(pool);
}

static int64_t look_at_my_loop(void *arg) {
    CHECK(ferry_loop_current() == arg); /* that it was submitted from, wherever it runs */
    return ferry_await(ferry_spawn(return_arg, as_arg(8))); /* a task there */
}

TASK_TEST(a_job_belongs_to_the_loop_that_it_came_from) {
    ferry_executor *pool = make_pool(1, NULL);
    ferry_loop *loop = ferry_loop_current();
    CHECK_INT(ferry_await(ferry_submit(pool, look_at_my_loop, loop)), 8);
    CHECK_INT(ferry_await(ferry_submit(NULL, look_at_my_loop, loop)), 8);
    end_pool(pool);
    return 0;
}

/* ---- Delivery -------------------------------------------------------------------------------- */

struct parcel {
    atomic_int delivered, freed;
    int64_t result;
    pthread_t delivered_on, freed_on; /* before the count */
};

static void deliver(void *arg, int64_t result) {
    struct parcel *p = arg;
    CHECK_INT(atomic_load(&p->freed), 0);
    p->result = result;
    p->delivered_on = pthread_self();
    atomic_fetch_add(&p->delivered, 1);
}

static void free_parcel(void *arg) {
    struct parcel *p = arg;
    p->freed_on = pthread_self();
    atomic_fetch_add(&p->freed, 1);
}

static int64_t yield_result(void *arg) {
    struct parcel *p = arg;
    return p->result;
}

static const ferry_job_options by_post = {.deliver = deliver, .arg_free = free_parcel};

static void delivered_by_the_await_on_its_thread(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    static const int64_t results[] = {0, 7, -EIO};
    for (int i = 0; i < 3; i++) {
        struct parcel p = {.result = results[i]};
        ferry_future *job = ferry_submit_with(pool, yield_result, &p, &by_post);
        assert_int_equal(ferry_wait(job), 0);
        assert_int_equal(ferry_result(job), results[i]);
        assert_int_equal(atomic_load(&p.delivered), 0); /* neither looks nor waits deliver */
        p.result = 99;
        assert_int_equal(ferry_await(job), results[i]);
        assert_int_equal(atomic_load(&p.delivered), 1);
        assert_int_equal(p.result, results[i]);
        assert_true(pthread_equal(p.delivered_on, pthread_self()));
        while (!atomic_load(&p.freed))
            sched_yield();
        assert_int_equal(atomic_load(&p.freed), 1);
    }
    end_pool(pool);
}

static void delivered_once_to_several(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct parcel p = {.result = 3};
    ferry_future *job = ferry_submit_with(pool, yield_result, &p, &by_post);
    for (int i = 0; i < 3; i++)
        ferry_ref(job);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_await(job), 3);
    assert_int_equal(atomic_load(&p.freed), 0); /* there is one handle left */
    ferry_detach(job);
    while (!atomic_load(&p.freed))
        sched_yield();
    assert_int_equal(atomic_load(&p.delivered), 1);
    end_pool(pool);
}

static void never_delivered(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct parcel p[4] = {{.result = 1}, {.result = -ECANCELED}, {.result = 1}, {.result = 1}};
    ferry_detach(ferry_submit_with(pool, yield_result, &p[0], &by_post)); /* nobody asks */
    assert_int_equal(ferry_await(ferry_submit_with(pool, yield_result, &p[1], &by_post)),
                     FERRY_EJOBCANCELED);
    saturation s;
    saturate(&s, pool, 1);
    ferry_future *job = ferry_submit_with(pool, yield_result, &p[2], &by_post);
    ferry_cancel(job);
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    desaturate(&s);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_int_equal(ferry_await(ferry_submit_with(pool, yield_result, &p[3], &by_post)),
                     FERRY_ECLOSED);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(atomic_load(&p[i].freed), 1);
        /* An error of the library's own is told to who asks, like any other. */
        assert_int_equal(atomic_load(&p[i].delivered), i == 3);
    }
    ferry_executor_free(pool);
}

/* ---- Where arguments are freed --------------------------------------------------------------- */

static void *detach_thread(void *job) {
    ferry_detach(job);
    return NULL;
}

static int64_t pass_gate(void *arg) {
    gate_wait(arg);
    return 2;
}

static void check_freed_here(struct parcel *p) {
    while (!atomic_load(&p->freed))
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(atomic_load(&p->freed), 1);
    CHECK(pthread_equal(p->freed_on, pthread_self()));
}

struct gated {
    struct parcel parcel; /* first */
    gate gate;
};

static int64_t pass_own_gate(void *arg) {
    struct gated *g = arg;
    gate_wait(&g->gate);
    return g->parcel.result;
}

/* On the thread of the loop that it came from, whoever gives the last reference back. */
TASK_TEST(freed_on_the_loops_thread) {
    ferry_executor *pool = make_pool(1, NULL);
    struct gated g[3] = {{.gate = GATE_INIT, .parcel.result = 1},
                         {.gate = GATE_INIT, .parcel.result = 1},
                         {.gate = GATE_INIT, .parcel.result = -EIO}};
    static const ferry_job_options options = {.arg_free = free_parcel};
    /* The worker is the last. */
    ferry_detach(ferry_submit_with(pool, pass_own_gate, &g[0], &options));
    gate_open(&g[0].gate);
    check_freed_here(&g[0].parcel);
    /* A thread is. */
    gate_open(&g[1].gate);
    ferry_future *job = ferry_submit_with(pool, pass_own_gate, &g[1], &options);
    CHECK_INT(ferry_wait(job), 0);
    /* the worker has let go */
    CHECK_INT(ferry_await(ferry_submit(pool, return_arg, as_arg(1))), 1);
    pthread_join(start_thread(detach_thread, job), NULL);
    check_freed_here(&g[1].parcel);
    /* The loop itself is. */
    gate_open(&g[2].gate);
    job = ferry_submit_with(pool, pass_own_gate, &g[2], &options);
    CHECK_INT(ferry_await(job), -EIO);
    check_freed_here(&g[2].parcel);
    end_pool(pool);
    return 0;
}

static int64_t submit_and_leave(void *arg) {
    void **args = arg;
    ferry_detach(ferry_submit_with(args[0], pass_own_gate, args[1],
                                   &(ferry_job_options){.arg_free = free_parcel}));
    return 0;
}

/* The loop has gone: the thread that is last does it. */
static void freed_after_the_end_of_the_loop(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct gated g = {.gate = GATE_INIT, .parcel.result = 1};
    void *args[] = {pool, &g};
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "");
    assert_int_equal(ferry_run_with(submit_and_leave, args, &(ferry_run_options){.grace_ms = 1}),
                     0);
    kept_messages(&log);
    assert_int_equal(atomic_load(&g.parcel.freed), 0);
    gate_open(&g.gate);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_int_equal(atomic_load(&g.parcel.freed), 1);
    ferry_executor_free(pool);
}

/* ---- What a job leaves behind ---------------------------------------------------------------- */

static int64_t leave_a_scope_open(void *arg) {
    ferry_scope_open(arg, FERRY_FOREVER);
    return 1;
}

static int64_t leave_locked(void *arg) {
    return ferry_lock(arg);
}

static void what_a_job_leaves_behind(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "left open");
    assert_int_equal(ferry_await(ferry_submit(pool, leave_a_scope_open, &scope)), 1);
    assert_int_equal(kept_messages(&log), 1);
    assert_int_equal(ferry_await(ferry_submit(pool, leave_locked, &mutex)), 0);
    assert_int_equal(ferry_lock(&mutex), -EOWNERDEAD);
    assert_int_equal(ferry_unlock(&mutex), 0);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(1))), 1);
    end_pool(pool);
}

/* ---- Counted by its loop --------------------------------------------------------------------- */

static int64_t submit_and_return(void *arg) {
    void **args = arg;
    args[2] = ferry_submit(args[0], pass_gate, args[1]);
    return 1;
}

static void a_loop_isnt_freed_before_its_jobs(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    gate g = GATE_INIT;
    void *args[] = {pool, &g, NULL};
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, submit_and_return, args), 1);
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    assert_non_null(strstr(ferry_errmsg(), "1 jobs"));
    gate_open(&g);
    assert_int_equal(ferry_await(args[2]), 2);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    ferry_executor_free(pool);
    gate_destroy(&g);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("results and errors travel with the handle",
             results_and_errors_travel_with_the_handle),
        CASE("a job knows its name and itself", a_job_knows_its_name),
        CASE("a job belongs to the loop that it came from",
             a_job_belongs_to_the_loop_that_it_came_from),
        CASE("results are delivered by the await, on its thread",
             delivered_by_the_await_on_its_thread),
        CASE("results are delivered once, to the first of several", delivered_once_to_several),
        CASE("results that nobody awaits, and cancelled ones, aren't delivered", never_delivered),
        CASE("EXE-12 the argument is freed on the loop's thread", freed_on_the_loops_thread),
        CASE("EXE-12 the argument is freed after the end of the loop",
             freed_after_the_end_of_the_loop),
        CASE("what a job leaves behind is cleaned up", what_a_job_leaves_behind),
        CASE("RUN-05 a loop isn't freed before its jobs have ended",
             a_loop_isnt_freed_before_its_jobs),
    };
    return SUPPORT_RUN(tests);
}

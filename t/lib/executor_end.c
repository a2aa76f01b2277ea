/* The end of executors: closed, stopped, freed, from anywhere; the default ones; and the inline
 * executor. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
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
    return 1;
}

/* ---- The end --------------------------------------------------------------------------------- */

static atomic_int runs, frees;

static int64_t count_run(void *arg) {
    (void)arg;
    atomic_fetch_add(&runs, 1);
    return 1;
}

static void count_free(void *arg) {
    (void)arg;
    atomic_fetch_add(&frees, 1);
}

static void submit_after_the_close(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    atomic_store(&runs, 0);
    atomic_store(&frees, 0);
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_DRAIN), 0);
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_DRAIN), 0);
    for (int i = 0; i < 2; i++) {
        ferry_future *job = ferry_submit_with(pool, count_run, NULL,
                                              &(ferry_job_options){.arg_free = count_free});
        assert_true(ferry_done(job));
        assert_int_equal(ferry_await(job), FERRY_ECLOSED);
        assert_non_null(strstr(ferry_errmsg(), "closed"));
        assert_int_equal(atomic_load(&frees), i + 1);
        assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    }
    assert_int_equal(atomic_load(&runs), 0);
    assert_int_equal(ferry_executor_close(pool, 7), -EINVAL);
    assert_int_equal(ferry_executor_close(NULL, FERRY_CLOSE_DRAIN), -EINVAL);
    assert_int_equal(ferry_executor_stop(NULL, 0), -EINVAL);
    ferry_executor_free(pool);
    ferry_executor_free(NULL);
}

static void *stop_thread(void *pool) {
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    CHECK_INT(atomic_load(&runs), 50);
    CHECK_INT(stats_of(pool).threads, 0);
    return NULL;
}

/* 50 jobs wait while both threads of the pool are held. */
static ferry_executor *pool_with_line(saturation *s, ferry_future **jobs) {
    ferry_executor *pool = make_pool(2, NULL);
    atomic_store(&runs, 0);
    saturate(s, pool, 2);
    for (int i = 0; i < 50; i++)
        jobs[i] = ferry_submit(pool, count_run, NULL);
    return pool;
}

static void stop_runs_what_is_queued(void **state) {
    (void)state;
    ferry_future *jobs[50];
    saturation s;
    ferry_executor *pool = pool_with_line(&s, jobs);
    pthread_t stoppers[2];
    for (int i = 0; i < 2; i++)
        stoppers[i] = start_thread(stop_thread, pool);
    until_waiters(&pool->lock, &pool->stop_first, 2);
    assert_int_equal(ferry_await(ferry_submit(pool, count_run, NULL)), FERRY_ECLOSED);
    desaturate(&s);
    for (int i = 0; i < 2; i++)
        pthread_join(stoppers[i], NULL);
    for (int i = 0; i < 50; i++) {
        assert_true(ferry_done(jobs[i]));
        assert_int_equal(ferry_await(jobs[i]), 1);
    }
    ferry_executor_free(pool);
}

static void close_returns_at_once_and_all_still_run(void **state) {
    (void)state;
    ferry_future *jobs[50];
    saturation s;
    ferry_executor *pool = pool_with_line(&s, jobs);
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_DRAIN), 0);
    assert_int_equal(stats_of(pool).queued, 50);
    desaturate(&s);
    for (int i = 0; i < 50; i++)
        assert_int_equal(ferry_await(jobs[i]), 1);
    while (stats_of(pool).threads > 0) /* they leave by themselves */
        sched_yield();
    ferry_executor_free(pool);
}

static int64_t stand_and_check(void *arg) {
    gate_wait(arg);
    return ferry_checkpoint() == -ECANCELED ? 8 : 0;
}

static void close_and_cancel(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL);
    gate g = GATE_INIT;
    ferry_future *running[2], *queued[50];
    atomic_store(&runs, 0);
    for (int i = 0; i < 2; i++)
        running[i] = ferry_submit(pool, stand_and_check, &g);
    gate_wait_arrivals(&g, 2);
    for (int i = 0; i < 50; i++)
        queued[i] = ferry_submit(pool, count_run, NULL);
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_DRAIN), 0);
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_CANCEL), 0); /* it may turn into that */
    for (int i = 0; i < 50; i++) {
        assert_true(ferry_cancelled(queued[i]));
        assert_int_equal(ferry_await(queued[i]), FERRY_EJOBCANCELED);
    }
    assert_int_equal(stats_of(pool).cancelled, 50);
    for (int i = 0; i < 2; i++)
        assert_false(ferry_done(running[i]));
    gate_open(&g);
    for (int i = 0; i < 2; i++)
        /* they were told, and had a result all the same */
        assert_int_equal(ferry_await(running[i]), 8);
    assert_int_equal(atomic_load(&runs), 0);
    end_pool(pool);
    gate_destroy(&g);
}

static void stop_right_after_submit_and_cancel(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++) {
        ferry_executor *pool = make_pool(2, NULL);
        ferry_future *jobs[4];
        for (int k = 0; k < 4; k++) {
            jobs[k] = ferry_submit(pool, return_arg, as_arg(k));
            if (k % 2)
                ferry_cancel(jobs[k]);
        }
        assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_CANCEL), 0);
        assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
        for (int k = 0; k < 4; k++) {
            assert_true(ferry_done(jobs[k]));
            int64_t result = ferry_await(jobs[k]);
            assert_true(result == k || result == FERRY_EJOBCANCELED);
        }
        ferry_executor_free(pool);
    }
}

static void stop_says_what_still_runs(void **state) {
    (void)state;
    gate g = GATE_INIT;
    ferry_executor *pool = make_pool(2, &(ferry_executor_options){.name = "stubborn"});
    ferry_future *jobs[3];
    for (int i = 0; i < 3; i++)
        jobs[i] = ferry_submit_with(pool, pass_gate, &g, &(ferry_job_options){.name = "deaf"});
    gate_wait_arrivals(&g, 2);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "'deaf' has been running for");
    assert_int_equal(ferry_executor_stop(pool, 1), 3);
    assert_int_equal(kept_messages(&log), 2);
    keep_log(&log, FERRY_LOG_WARNING, "executor 'stubborn' still has 3 jobs");
    assert_int_equal(ferry_executor_stop(pool, 0), 3);
    assert_int_equal(ferry_executor_stop(pool, -5), 3);
    assert_int_equal(kept_messages(&log), 2);
    gate_open(&g);
    for (int i = 0; i < 3; i++)
        assert_true(ferry_await(jobs[i]) != 0);
    end_pool(pool);
    gate_destroy(&g);
}

static int64_t stop_own(void *arg) {
    return ferry_executor_stop(arg, FERRY_FOREVER);
}

static int64_t stop_in_callback(void *arg) {
    ferry_executor **pools = arg;
    CHECK_INT(ferry_executor_stop(pools[0], FERRY_FOREVER), -EDEADLK); /* it would have to wait */
    CHECK_INT(ferry_executor_stop(pools[1], FERRY_FOREVER), 0);
    return 0;
}

struct stopper {
    ferry_executor *pool;
    ferry_scope scope;
};

static int64_t stop_in_a_scope(void *arg) {
    struct stopper *s = arg;
    CHECK_INT(ferry_scope_open(&s->scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_executor_stop(s->pool, FERRY_FOREVER), -ECANCELED);
    return ferry_scope_close(&s->scope, 0);
}

TASK_TEST(where_stop_may_not_wait) {
    ferry_executor *pools[] = {make_pool(1, NULL), make_pool(1, NULL)};
    CHECK_INT(ferry_await(ferry_submit(pools[0], stop_own, pools[0])), -EDEADLK);
    CHECK_INT(ferry_await(ferry_submit(pools[0], return_arg, as_arg(7))), 7); /* it wasn't closed */
    saturation s;
    saturate(&s, pools[0], 1);
    CHECK_INT(ferry_post(ferry_loop_current(), stop_in_callback, pools), 0);
    CHECK_INT(ferry_sleep(1), 0);
    struct stopper in_a_scope = {.pool = pools[0]};
    ferry_future *stopper = ferry_spawn(stop_in_a_scope, &in_a_scope);
    until_parked(stopper);
    ferry_scope_cancel(&in_a_scope.scope);
    CHECK_INT(ferry_await(stopper), 0);
    desaturate(&s);
    for (int i = 0; i < 2; i++)
        end_pool(pools[i]);
    return 0;
}

static int64_t free_own(void *arg) {
    ferry_executor_free(arg);
    return 1;
}

static void free_in_callback(ferry_future *job, int64_t result, void *arg) {
    void **args = arg;
    CHECK_INT(result, 1);
    ferry_executor_free(args[0]);
    ferry_detach(job);
    CHECK_INT(ferry_promise_set(args[1], 0), 0);
}

static void free_in_own_job(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL);
    assert_int_equal(ferry_await(ferry_submit(pool, free_own, pool)), 1);
}

TASK_TEST(free_in_a_callback) {
    ferry_executor *pool = make_pool(2, NULL);
    ferry_future *freed;
    ferry_promise *promise = ferry_promise_new(&freed, NULL);
    void *args[] = {pool, promise};
    CHECK_INT(ferry_then(ferry_submit(pool, return_arg, as_arg(1)), NULL, free_in_callback, args),
              0);
    CHECK_INT(ferry_await(freed), 0);
    ferry_promise_drop(promise);
    return 0;
}

static void free_leaves_what_is_queued(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    ferry_future *jobs[10];
    saturation s;
    atomic_store(&runs, 0);
    saturate(&s, pool, 1);
    for (int i = 0; i < 10; i++)
        jobs[i] = ferry_submit(pool, count_run, NULL);
    ferry_executor_free(pool);
    desaturate(&s);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ferry_await(jobs[i]), 1);
    assert_int_equal(atomic_load(&runs), 10);
}

/* ---- The default ones ------------------------------------------------------------------------ */

static int64_t default_of_a_job(void *arg) {
    /* a job's is that of the loop that it was submitted from */
    CHECK(ferry_executor_default() == arg);
    return ferry_await(ferry_submit(NULL, return_arg, as_arg(9)));
}

static int64_t default_in_callback(void *arg) {
    CHECK(ferry_executor_default() == arg);
    return 0;
}

static ferry_executor *of_the_process;

static int64_t look_at_the_loops_own(void *arg) {
    (void)arg;
    ferry_executor *own = ferry_executor_default();
    CHECK(own != NULL && own != of_the_process);
    CHECK(own == ferry_executor_default());
    CHECK_INT(ferry_await(ferry_submit(NULL, default_of_a_job, own)), 9);
    CHECK_INT(ferry_await(ferry_submit(own, return_arg, as_arg(2))), 2);
    CHECK(stats_of(NULL).started == 3 && stats_of(own).started == 3);
    ferry_executor *other = make_pool(1, NULL);
    CHECK_INT(ferry_await(ferry_submit(other, default_of_a_job, own)), 9);
    CHECK_INT(ferry_post(ferry_loop_current(), default_in_callback, own), 0);
    CHECK_INT(ferry_sleep(1), 0);
    end_pool(other);
    return 0;
}

static void a_loop_has_an_executor_of_its_own(void **state) {
    (void)state;
    of_the_process = ferry_executor_default();
    assert_int_equal(ferry_run(look_at_the_loops_own, NULL), 0);
    assert_true(ferry_executor_default() == of_the_process);
}

static void *default_of_a_thread(void *arg) {
    CHECK(ferry_executor_default() == arg);
    CHECK_INT(ferry_await(ferry_submit(NULL, return_arg, as_arg(2))), 2);
    return NULL;
}

static void the_process_has_one_outside_of_loops(void **state) {
    (void)state;
    ferry_executor *own = ferry_executor_default();
    assert_non_null(own);
    assert_int_equal(ferry_await(ferry_submit(NULL, return_arg, as_arg(1))), 1);
    assert_int_equal(pthread_join(start_thread(default_of_a_thread, own), NULL), 0);
    assert_true(stats_of(own).started >= 2);
}

/* ---- The inline executor --------------------------------------------------------------------- */

static int64_t fail_in_place(void *arg) {
    (void)arg;
    return ferry_fail(-EIO, "the disk is on fire");
}

static int64_t wait_inline(void *arg) {
    (void)arg;
    CHECK_INT(ferry_sleep(1), -EDEADLK); /* on a loop's thread, in a task or not */
    CHECK_INT(ferry_self() != NULL, 1);
    CHECK_STR(ferry_self_name(), "here");
    return my_thread(NULL);
}

static int64_t submit_inline(void *arg) {
    ferry_executor *executor = arg;
    ferry_future *job =
        ferry_submit_with(executor, wait_inline, NULL, &(ferry_job_options){.name = "here"});
    CHECK(ferry_done(job));
    CHECK(ferry_await(job) == my_thread(NULL));
    return 0;
}

static int64_t stop_inline(void *arg) {
    CHECK_INT(ferry_executor_stop(arg, FERRY_FOREVER), -EDEADLK);
    return 1;
}

static int64_t cancel_itself(void *arg) {
    (void)arg;
    CHECK_INT(ferry_checkpoint(), 0);
    CHECK_INT(ferry_cancel(ferry_self()), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    return ferry_checkpoint();
}

TASK_TEST(inline_jobs_run_inside_submit) {
    ferry_executor *executor;
    CHECK_INT(ferry_inline_new(&executor), 0);
    CHECK_INT(submit_inline(executor), 0);
    CHECK_INT(ferry_post(ferry_loop_current(), submit_inline, executor), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_await(ferry_submit(executor, submit_inline, executor)), 0);
    CHECK_INT(ferry_await(ferry_submit(executor, cancel_itself, NULL)), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await(ferry_submit(executor, stop_inline, executor)), 1);
    CHECK_INT(ferry_await(ferry_submit(executor, fail_in_place, NULL)), -EIO);
    CHECK_STR(ferry_errmsg(), "the disk is on fire");
    CHECK_INT(stats_of(executor).started, 7);
    CHECK_INT(stats_of(executor).threads + stats_of(executor).running, 0);
    CHECK_INT(ferry_executor_stop(executor, FERRY_FOREVER), 0);
    CHECK_INT(ferry_await(ferry_submit(executor, submit_inline, executor)), FERRY_ECLOSED);
    ferry_executor_free(executor);
    return 0;
}

static void *submit_pass(void *arg) {
    void **args = arg;
    CHECK(ferry_await(ferry_submit(args[0], pass_gate, args[1])) != 0);
    return NULL;
}

static void stop_waits_for_inline_jobs_of_others(void **state) {
    (void)state;
    ferry_executor *executor;
    gate g = GATE_INIT;
    assert_int_equal(ferry_inline_new(&executor), 0);
    void *args[] = {executor, &g};
    pthread_t thread = start_thread(submit_pass, args);
    gate_wait_arrivals(&g, 1);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "executor 'inline' still has 1 jobs");
    assert_int_equal(ferry_executor_stop(executor, 0), 1);
    assert_int_equal(kept_messages(&log), 1);
    gate_open(&g);
    assert_int_equal(ferry_executor_stop(executor, FERRY_FOREVER), 0);
    pthread_join(thread, NULL);
    ferry_executor_free(executor);
    gate_destroy(&g);
}

/* ---- References in reserve ------------------------------------------------------------------- */

static int64_t one(void *arg) {
    (void)arg;
    return 1;
}

/* Submits n jobs, all at once. */
static void use(ferry_executor *pool, int n) {
    ferry_future *jobs[300];
    for (int i = 0; i < n; i++)
        jobs[i] = ferry_submit(pool, one, NULL);
    for (int i = 0; i < n; i++)
        CHECK_INT(ferry_await(jobs[i]), 1);
}

static int64_t use_three_pools(void *arg) {
    ferry_executor **pools = arg;
    ferry_loop *loop = ferry_loop_current();
    use(pools[0], 300);
    CHECK(loop->reserve_of == pools[0]);
    CHECK(loop->reserve >= 0 && loop->reserve <= 300);
    use(pools[1], 3); /* now and then another one */
    CHECK(loop->reserve_of == pools[0]);
    use(pools[1], 300); /* mostly that, from now on */
    CHECK(loop->reserve_of == pools[1]);
    ferry_executor_free(pools[1]);
    CHECK(loop->reserve_of == NULL);
    CHECK_INT(loop->reserve, 0);
    use(pools[2], 1);
    CHECK(loop->reserve_of == pools[2]);
    return 0;
}

/* One executor is left by the loop, one is freed on its thread, one after the run: a tool that
 * looks for leaks finds none of them. */
static void a_reserve_goes_back(void **state) {
    (void)state;
    ferry_executor *pools[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_executor_new(&pools[i], NULL), 0);
    assert_int_equal(ferry_run(use_three_pools, pools), 0);
    for (int i = 0; i < 3; i += 2) {
        assert_int_equal(ferry_executor_stop(pools[i], FERRY_FOREVER), 0);
        assert_int_equal(atomic_load(&pools[i]->refs), 1); /* the user's */
        ferry_executor_free(pools[i]);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("EXE-05 submit after the close gives a handle that is done", submit_after_the_close),
        CASE("EXE-06 stop runs what is queued", stop_runs_what_is_queued),
        CASE("EXE-06 close returns at once, and all that is queued still runs",
             close_returns_at_once_and_all_still_run),
        CASE("EXE-07 close and cancel: running jobs end, queued ones never run", close_and_cancel),
        CASE("EXE-07 stop right after submit and cancel leaves nothing pending",
             stop_right_after_submit_and_cancel),
        CASE("stop says what still runs", stop_says_what_still_runs),
        CASE("where stop may not wait", where_stop_may_not_wait),
        CASE("an executor may be freed in its own job", free_in_own_job),
        CASE("an executor may be freed in a callback", free_in_a_callback),
        CASE("EXE-06 what is queued still runs after free", free_leaves_what_is_queued),
        CASE("inline jobs run inside submit", inline_jobs_run_inside_submit),
        CASE("stop waits for inline jobs of others", stop_waits_for_inline_jobs_of_others),
        CASE("a loop has an executor of its own", a_loop_has_an_executor_of_its_own),
        CASE("the process has one outside of loops", the_process_has_one_outside_of_loops),
        CASE("what a loop holds of an executor in reserve goes back", a_reserve_goes_back),
    };
    return SUPPORT_RUN(tests);
}

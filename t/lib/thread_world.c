/* From tasks to threads and back: calls that a loop hands to threads, and calls of threads into
 * a loop. */
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

/* ---- To threads ------------------------------------------------------------------------------ */

struct call {
    ferry_executor *pool;
    ferry_job_options options;
    gate gate;
    int64_t result;
    int on_the_stack; /* written by the thread */
    atomic_int frees;
};

static int64_t work(void *arg) {
    struct call *c = arg;
    gate_wait(&c->gate);
    c->on_the_stack = 1;
    return c->result;
}

static void count_free(void *arg) {
    struct call *c = arg;
    atomic_fetch_add(&c->frees, 1);
}

/* The job's argument stands in the frame of the task that waits. */
static int64_t call_a_thread(void *arg) {
    struct call *c = arg;
    int64_t result = ferry_await(ferry_submit_with(c->pool, work, c, &c->options));
    CHECK_INT(c->on_the_stack, 1);
    CHECK_INT(result, 9);                 /* it was there all the same */
    CHECK_INT(ferry_yield(), -ECANCELED); /* the cancel comes now */
    return ferry_sleep(FERRY_FOREVER);
}

TASK_TEST(a_cancelled_task_waits_for_its_thread) {
    struct call c = {.pool = make_pool(1, NULL), .gate = GATE_INIT, .result = 9};
    ferry_future *task = ferry_spawn(call_a_thread, &c);
    until_parked(task);
    gate_wait_arrivals(&c.gate, 1);
    CHECK_INT(ferry_cancel(task), FERRY_CANCEL_ASKED);
    for (int i = 0; i < 100; i++)
        CHECK_INT(ferry_yield(), 0);
    CHECK(!ferry_done(task));
    CHECK(task_parked(task));
    gate_open(&c.gate);
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    end_pool(c.pool);
    return 0;
}

static int64_t call_and_give_up(void *arg) {
    struct call *c = arg;
    CHECK_INT(ferry_await(ferry_submit_with(c->pool, work, c, &c->options)), -ECANCELED);
    CHECK_INT(c->on_the_stack, 0);
    return -ECANCELED;
}

TASK_TEST(a_cancelled_task_leaves_its_thread_behind) {
    struct call *c = calloc(1, sizeof *c);
    struct kept_log log;
    c->pool = make_pool(1, NULL);
    c->options = (ferry_job_options){.policy = FERRY_JOB_ABANDON, .arg_free = count_free};
    gate_init(&c->gate);
    keep_log(&log, FERRY_LOG_WARNING, "given up");
    ferry_future *task = ferry_spawn(call_and_give_up, c);
    until_parked(task);
    gate_wait_arrivals(&c->gate, 1);
    CHECK_INT(ferry_cancel(task), FERRY_CANCEL_ASKED);
    /* now, though the thread still stands at the gate */
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    CHECK_INT(kept_messages(&log), 1);
    CHECK_INT(atomic_load(&c->frees), 0);
    CHECK_INT(stats_of(c->pool).running, 1);
    gate_open(&c->gate);
    while (atomic_load(&c->frees) == 0)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(c->on_the_stack, 1);
    end_pool(c->pool);
    gate_destroy(&c->gate);
    free(c);
    return 0;
}

/* Every second call is given up. The others wait for the threads that those still hold. */
TASK_TEST(abandoned_calls_keep_their_places) {
    enum { MOST = 3, CALLS = 2 * MOST };
    ferry_executor *pool = make_pool(MOST, NULL);
    struct call calls[CALLS];
    ferry_future *jobs[CALLS];
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "");
    for (int i = 0; i < CALLS; i++) {
        calls[i] = (struct call){.gate = GATE_INIT, .result = i};
        jobs[i] = ferry_submit_with(pool, work, &calls[i],
                                    &(ferry_job_options){.policy = FERRY_JOB_ABANDON});
        if (i < MOST)
            gate_wait_arrivals(&calls[i].gate, 1);
    }
    for (int i = 0; i < MOST; i += 2) {
        CHECK_INT(ferry_cancel(jobs[i]), FERRY_CANCEL_ASKED);
        CHECK_INT(ferry_await(jobs[i]), FERRY_EJOBCANCELED);
    }
    ferry_executor_stats stats = stats_of(pool);
    CHECK_INT(stats.threads, MOST);
    CHECK_INT(stats.running, MOST);
    CHECK_INT(stats.abandoned, 2);
    CHECK_INT(stats.queued, MOST);
    for (int i = MOST; i < CALLS; i++)
        CHECK_INT(gate_arrivals(&calls[i].gate), 0);
    for (int i = 0; i < CALLS; i++)
        gate_open(&calls[i].gate);
    for (int i = 0; i < CALLS; i++)
        if (i >= MOST || i % 2)
            CHECK_INT(ferry_await(jobs[i]), i);
    CHECK_INT(stats_of(pool).threads_peak, MOST);
    end_pool(pool);
    kept_messages(&log);
    return 0;
}

struct poll {
    gate begun;
    atomic_int saw;
};

static int64_t poll_until_told(void *arg) {
    struct poll *p = arg;
    CHECK_INT(ferry_checkpoint(), 0);
    gate_wait(&p->begun);
    while (ferry_checkpoint() == 0)
        sched_yield();
    atomic_store(&p->saw, 1);
    return ferry_checkpoint();
}

struct host {
    ferry_executor *pool;
    int policy;
    struct poll poll;
};

static int64_t host(void *arg) {
    struct host *h = arg;
    return ferry_await(ferry_submit_with(h->pool, poll_until_told, &h->poll,
                                         &(ferry_job_options){.policy = h->policy}));
}

static void *poll_in_a_thread(void *arg) {
    (void)arg;
    CHECK_INT(ferry_checkpoint(), -EINVAL); /* there is nobody who could cancel it */
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_checkpoint(), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_checkpoint(), -EINVAL);
    return NULL;
}

TASK_TEST(a_thread_sees_that_its_host_was_cancelled) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "");
    for (int policy = FERRY_JOB_WAIT; policy <= FERRY_JOB_ABANDON; policy++) {
        struct host h = {.pool = make_pool(1, NULL), .policy = policy, .poll.begun = GATE_INIT};
        ferry_future *task = ferry_spawn(host, &h);
        until_parked(task);
        gate_wait_arrivals(&h.poll.begun, 1);
        CHECK_INT(ferry_cancel(task), FERRY_CANCEL_ASKED);
        gate_open(&h.poll.begun);
        if (policy == FERRY_JOB_ABANDON)
            while (!atomic_load(&h.poll.saw)) /* this loop doesn't turn meanwhile */
                sched_yield();
        CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
        CHECK_INT(ferry_executor_stop(h.pool, FERRY_FOREVER), 0);
        CHECK_INT(atomic_load(&h.poll.saw), 1);
        ferry_executor_free(h.pool);
    }
    kept_messages(&log);
    pthread_join(start_thread(poll_in_a_thread, NULL), NULL);
    return 0;
}

/* Its scope was cancelled, and the thread sees that though nobody has awaited or cancelled the
 * job. */
TASK_TEST(a_thread_sees_that_its_scope_was_cancelled) {
    ferry_executor *pool = make_pool(1, NULL);
    struct poll p = {.begun = GATE_INIT};
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_future *job = ferry_submit(pool, poll_until_told, &p);
    gate_wait_arrivals(&p.begun, 1);
    gate_open(&p.begun);
    ferry_scope_cancel(&scope);
    while (!atomic_load(&p.saw))
        sched_yield();
    CHECK_INT(ferry_scope_close(&scope, ferry_await(job)), 0);
    end_pool(pool);
    return 0;
}

static int64_t blocking_calls(void *arg) {
    ferry_future *running = arg;
    CHECK_INT(ferry_await(running), -EDEADLK);
    CHECK_INT(ferry_await_for(running, 1), -EDEADLK);
    CHECK_INT(ferry_wait(running), -EDEADLK);
    CHECK_INT(ferry_wait_for(running, 0), -EDEADLK);
    CHECK_INT(ferry_gather(&running, 1, NULL, 0), -EDEADLK);
    CHECK_INT(ferry_wait_any(&running, 1, 1), -EDEADLK);
    CHECK_INT(ferry_sleep(1), -EDEADLK);
    CHECK_INT(ferry_yield(), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "loop's own thread") != NULL);
    CHECK(!ferry_done(running)); /* nothing was cancelled, and the handle is still the caller's */
    return 0;
}

TASK_TEST(what_blocks_is_refused_on_a_loops_thread) {
    struct call c = {.pool = make_pool(1, NULL), .gate = GATE_INIT, .result = 4};
    ferry_future *job = ferry_submit(c.pool, work, &c);
    CHECK_INT(ferry_post(ferry_loop_current(), blocking_calls, job), 0);
    CHECK_INT(ferry_sleep(1), 0);
    gate_open(&c.gate);
    CHECK_INT(ferry_await(job), 4);
    end_pool(c.pool);
    return 0;
}

/* ---- From threads ---------------------------------------------------------------------------- */

struct portal {
    ferry_loop *loop;
    gate ready;              /* the loop stands in its task */
    ferry_promise *end_loop; /* what its first task waits for */
    int64_t rc;
};

static int64_t wait_for_the_end(void *arg) {
    struct portal *p = arg;
    ferry_future *end;
    p->end_loop = ferry_promise_new(&end, NULL);
    p->loop = ferry_loop_current();
    gate_open(&p->ready);
    gate_wait(&p->ready);
    return ferry_await(end);
}

static void *turn_loop(void *arg) {
    struct portal *p = arg;
    p->rc = ferry_loop_run(p->loop, wait_for_the_end, p);
    return NULL;
}

static pthread_t open_portal(struct portal *p) {
    *p = (struct portal){.loop = ferry_loop_new(), .ready = GATE_INIT};
    pthread_t thread = start_thread(turn_loop, p);
    gate_wait_arrivals(&p->ready, 1);
    return thread;
}

static int64_t sleep_for_ever(void *arg) {
    atomic_int *ended = arg;
    int64_t rc = ferry_sleep(FERRY_FOREVER);
    atomic_fetch_add(ended, 1);
    return rc;
}

static void *await_thread(void *task) {
    return as_arg(ferry_await(task));
}

static void count_late_free(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
}

static int64_t must_not_run(void *arg) {
    (void)arg;
    MUST_NOT_HAPPEN("it ran");
    return 0;
}

static void must_not_be_called(ferry_future *f, int64_t result, void *arg) {
    (void)f;
    (void)result;
    (void)arg;
    MUST_NOT_HAPPEN("it was called");
}

static void check_closed(ferry_loop *loop) {
    atomic_int frees;
    atomic_init(&frees, 0);
    ferry_future *task = ferry_spawn_on_with(loop, must_not_run, &frees,
                                             &(ferry_task_options){.arg_free = count_late_free});
    CHECK(ferry_done(task));
    CHECK_INT(ferry_await(task), FERRY_ECLOSED);
    CHECK_INT(atomic_load(&frees), 1);
    CHECK_INT(ferry_post(loop, must_not_run, NULL), FERRY_ECLOSED);
}

/* Calls from a thread into a loop that has been shut down, and into one that is being shut down. */
static void a_closed_loop_says_so(void **state) {
    (void)state;
    struct portal p;
    pthread_t thread = open_portal(&p);
    assert_int_equal(ferry_loop_shutdown(p.loop, FERRY_FOREVER), 0);
    pthread_join(thread, NULL);
    assert_int_equal(p.rc, -ECANCELED);
    ferry_promise_drop(p.end_loop);
    check_closed(p.loop);
    ferry_future *promised;
    ferry_promise *promise = ferry_promise_new(&promised, NULL);
    assert_int_equal(ferry_then(promised, p.loop, must_not_be_called, NULL), FERRY_ECLOSED);
    ferry_promise_drop(promise);
    assert_int_equal(ferry_await(promised), FERRY_ECLOSED);
    assert_int_equal(ferry_loop_free(p.loop), 0);
}

struct late {
    struct portal portal;
    gate late;
};

/* Its clean-up takes as long as the gate is closed: the shutdown is late then. */
static int64_t clean_up_slowly(void *arg) {
    struct late *l = arg;
    CHECK_INT(ferry_sleep(FERRY_FOREVER), -ECANCELED);
    gate_wait(&l->late);
    return 0;
}

static void *shut_down_thread(void *loop) {
    CHECK_INT(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    return NULL;
}

static void a_loop_that_is_being_shut_down_says_so(void **state) {
    (void)state;
    struct late l = {.late = GATE_INIT};
    pthread_t thread = open_portal(&l.portal);
    ferry_future *task = ferry_spawn_on(l.portal.loop, clean_up_slowly, &l);
    pthread_t stopper = start_thread(shut_down_thread, l.portal.loop);
    gate_wait_arrivals(&l.late, 1);
    check_closed(l.portal.loop);
    gate_open(&l.late);
    pthread_join(stopper, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_await(task), 0);
    ferry_promise_drop(l.portal.end_loop);
    assert_int_equal(ferry_loop_free(l.portal.loop), 0);
}

static int64_t clean_up_in_a_shield(void *arg) {
    ferry_scope shield = FERRY_SCOPE_INIT;
    atomic_int *ended = arg;
    CHECK_INT(ferry_sleep(FERRY_FOREVER), -ECANCELED);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_sleep(2), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    atomic_fetch_add(ended, 1);
    return 0;
}

/* The first task, whose end is that of the run, has nothing to clean up. The run goes on for the
 * shutdown. */
static void a_run_goes_on_until_the_shutdown_is_over(void **state) {
    (void)state;
    struct portal p;
    pthread_t thread = open_portal(&p);
    atomic_int ended;
    atomic_init(&ended, 0);
    ferry_future *task = ferry_spawn_on(p.loop, clean_up_in_a_shield, &ended);
    assert_int_equal(ferry_loop_shutdown(p.loop, FERRY_FOREVER), 0);
    assert_int_equal(atomic_load(&ended), 1);
    pthread_join(thread, NULL);
    assert_int_equal(p.rc, -ECANCELED);
    assert_int_equal(ferry_await(task), 0);
    ferry_promise_drop(p.end_loop);
    assert_int_equal(ferry_loop_free(p.loop), 0);
}

/* The run may end by itself at the very moment: somebody sees the shutdown through. */
static void a_shutdown_and_the_end_of_the_run_race(void **state) {
    (void)state;
    int rounds = support_slow() ? 30 : 300;
    for (int i = 0; i < rounds; i++) {
        struct portal p;
        pthread_t thread = open_portal(&p);
        assert_int_equal(ferry_promise_set(p.end_loop, 1), 0);
        assert_int_equal(ferry_loop_shutdown(p.loop, FERRY_FOREVER), 0);
        pthread_join(thread, NULL);
        assert_true(p.rc == 1 || p.rc == -ECANCELED);
        ferry_promise_drop(p.end_loop);
        assert_int_equal(ferry_loop_free(p.loop), 0);
    }
}

static void a_thread_cancels_a_task_at_once(void **state) {
    (void)state;
    struct portal p;
    pthread_t thread = open_portal(&p);
    atomic_int ended;
    atomic_init(&ended, 0);
    int rounds = support_slow() ? 50 : 500;
    for (int i = 0; i < rounds; i++) {
        ferry_future *task = ferry_spawn_on(p.loop, sleep_for_ever, &ended);
        assert_int_equal(ferry_cancel(task), FERRY_CANCEL_ASKED);
        if (i % 2)
            assert_int_equal(ferry_await(task), FERRY_EJOBCANCELED);
        else
            ferry_detach(task); /* before it was seen there */
    }
    assert_int_equal(ferry_promise_set(p.end_loop, 3), 0);
    ferry_promise_drop(p.end_loop);
    pthread_join(thread, NULL);
    assert_int_equal(p.rc, 3);
    assert_int_equal(ferry_loop_shutdown(p.loop, FERRY_FOREVER), 0);
    assert_int_equal(atomic_load(&ended), rounds); /* each has seen it */
    assert_int_equal(ferry_loop_free(p.loop), 0);
}

/* Threads wait for tasks of a loop that is ended: they are all woken. */
static void a_loop_ends_while_threads_wait_for_its_tasks(void **state) {
    (void)state;
    enum { WAITERS_ = 5 };
    struct portal p;
    pthread_t thread = open_portal(&p), waiters[WAITERS_];
    ferry_future *tasks[WAITERS_];
    atomic_int ended;
    atomic_init(&ended, 0);
    for (int i = 0; i < WAITERS_; i++) {
        tasks[i] = ferry_spawn_on(p.loop, sleep_for_ever, &ended);
        ferry_ref(tasks[i]);
        waiters[i] = start_thread(await_thread, tasks[i]);
        until_linked(tasks[i], 1);
    }
    assert_int_equal(ferry_loop_shutdown(p.loop, FERRY_FOREVER), 0);
    for (int i = 0; i < WAITERS_; i++) {
        void *result;
        pthread_join(waiters[i], &result);
        assert_int_equal((int64_t)(intptr_t)result, FERRY_EJOBCANCELED);
        ferry_detach(tasks[i]);
    }
    pthread_join(thread, NULL);
    assert_int_equal(p.rc, -ECANCELED);
    assert_int_equal(atomic_load(&ended), WAITERS_);
    ferry_promise_drop(p.end_loop);
    assert_int_equal(ferry_loop_free(p.loop), 0);
}

struct hall {
    ferry_group group;
    gate open;
    int64_t rc;
    ferry_future *members[4];
};

static int64_t pass(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    return 1;
}

static int64_t keep_group_open(void *arg) {
    struct hall *h = arg;
    CHECK_INT(ferry_group_open(&h->group), 0);
    atomic_int passed;
    atomic_init(&passed, 0);
    for (int i = 0; i < 100; i++)
        CHECK_INT(ferry_group_spawn(&h->group, pass, &passed), 0);
    h->rc = ferry_group_close(&h->group, 0);
    CHECK_INT(atomic_load(&passed), 100);
    return h->rc;
}

/* The normal end waits for the tasks. */
static void a_loop_that_ends_normally_waits_for_its_tasks(void **state) {
    (void)state;
    struct portal p;
    pthread_t thread = open_portal(&p);
    struct hall h = {.group = FERRY_GROUP_INIT};
    assert_int_equal(ferry_await(ferry_spawn_on(p.loop, keep_group_open, &h)), 0);
    assert_int_equal(ferry_promise_set(p.end_loop, 0), 0);
    ferry_promise_drop(p.end_loop);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_loop_shutdown(p.loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(p.loop), 0);
}

struct two_worlds {
    ferry_executor *pool;
    ferry_loop *other;
};

static int64_t there_and_back(void *arg) {
    struct two_worlds *w = arg;
    return 1 + ferry_await(ferry_spawn_on(w->other, return_arg, as_arg(1)));
}

static int64_t from_the_loop(void *arg) {
    struct two_worlds *w = arg;
    int64_t sum = 0;
    for (int i = 0; i < 100; i++) {
        ferry_future *handles[] = {ferry_submit(w->pool, there_and_back, w),
                                   ferry_spawn_on(w->other, return_arg, as_arg(1)),
                                   ferry_spawn(return_arg, as_arg(1))};
        int64_t results[3];
        CHECK_INT(ferry_gather(handles, 3, results, 0), 0);
        sum += results[0] + results[1] + results[2];
    }
    return sum;
}

/* A loop asks a thread that asks another loop. */
static void through_two_loops_and_a_pool(void **state) {
    (void)state;
    struct portal p;
    pthread_t thread = open_portal(&p);
    struct two_worlds w = {make_pool(2, NULL), p.loop};
    assert_int_equal(ferry_run(from_the_loop, &w), 400);
    assert_int_equal(ferry_promise_set(p.end_loop, 0), 0);
    ferry_promise_drop(p.end_loop);
    pthread_join(thread, NULL);
    end_pool(w.pool);
    assert_int_equal(ferry_loop_shutdown(p.loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(p.loop), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("THR-01 a cancelled task waits for its thread and takes its result",
             a_cancelled_task_waits_for_its_thread),
        CASE("THR-02 with ABANDON a cancelled task leaves its thread behind",
             a_cancelled_task_leaves_its_thread_behind),
        CASE("THR-04 abandoned calls keep their places until their threads end",
             abandoned_calls_keep_their_places),
        CASE("THR-06 a thread sees that its host was cancelled; one without a scope can't be",
             a_thread_sees_that_its_host_was_cancelled),
        CASE("THR-06 a thread sees that its scope was cancelled",
             a_thread_sees_that_its_scope_was_cancelled),
        CASE("THR-09 what blocks is refused on a loop's thread",
             what_blocks_is_refused_on_a_loops_thread),
        CASE("THR-11 a closed loop says so", a_closed_loop_says_so),
        CASE("THR-11 a loop that is being shut down says so",
             a_loop_that_is_being_shut_down_says_so),
        CASE("THR-12 a run goes on until the shutdown is over",
             a_run_goes_on_until_the_shutdown_is_over),
        CASE("THR-12 a shutdown and the end of the run race",
             a_shutdown_and_the_end_of_the_run_race),
        CASE("THR-12 a thread cancels a task at once", a_thread_cancels_a_task_at_once),
        CASE("THR-12 a loop ends while threads wait for its tasks",
             a_loop_ends_while_threads_wait_for_its_tasks),
        CASE("THR-12 a loop that ends normally waits for its tasks",
             a_loop_that_ends_normally_waits_for_its_tasks),
        CASE("a loop asks a thread that asks another loop", through_two_loops_and_a_pool),
    };
    return SUPPORT_RUN(tests);
}

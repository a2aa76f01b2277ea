/* Jobs at moments that no luck is needed to hit: submitted while their scope is being cancelled;
 * and on their way home, to the loop that they were submitted from, while that ends; given up,
 * using what that loop had; and submitted by two threads of a forked child at once. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

#include "child.h"
#include "parked.h"
#include "points.h"
#include "pools.h"
#include "waiters.h"

/* ---- Submitted while its scope is being cancelled -------------------------------------------- */

static int64_t looks(void *arg) {
    (void)arg;
    return ferry_checkpoint();
}

static void *cancels(void *arg) {
    ferry_scope_cancel(arg);
    return NULL;
}

/* The canceller has set the scope's flag and hasn't said so to the scope's owner yet. */
static void submit_meanwhile(void) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_await(ferry_submit(NULL, looks, NULL)),
              0); /* from here on the scope has a flag for jobs */
    struct point_stop stop;
    point_stop(&stop, "scope_kick");
    pthread_t thread = start_thread(cancels, &scope);
    point_wait(&stop);
    ferry_future *f = ferry_submit(NULL, looks, NULL);
    point_go(&stop);
    pthread_join(thread, NULL);
    while (!ferry_done(f)) /* not by a wait, which would cancel it */
        sched_yield();
    CHECK(ferry_cancelled(f));
    ferry_detach(f);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
}

static void submitted_meanwhile(void **state) {
    (void)state;
    submit_meanwhile();
}

TASK_TEST(submitted_by_a_task) {
    submit_meanwhile();
    return 0;
}

/* ---- On its way home ------------------------------------------------------------------------- */

/* A job with a callback on the loop that it comes from: its thread decides the handle and sends it
 * to that loop, which tells the callback. The loop is on a thread of its own. */
struct homeward {
    ferry_executor *pool;
    gate gate; /* the job stands there */
    ferry_future *job;
    bool drops; /* its callback gives the handle up, which keeps the loop's record */
    void (*until)(struct homeward *h); /* the loop's first task ends after it; NULL: at once */
    struct point_stop stop;
    pthread_t worker;
    int bell; /* the loop's */
    atomic_int called;
    struct kept_log log;
    pthread_t thread;
};

static int64_t passes_the_gate(void *arg) {
    struct homeward *h = arg;
    h->worker = pthread_self();
    gate_wait(&h->gate);
    return 6;
}

static void is_called_back(ferry_future *f, int64_t result, void *arg) {
    struct homeward *h = arg;
    CHECK_INT(result, 6);
    if (h->drops)
        ferry_detach(f);
    atomic_fetch_add(&h->called, 1);
}

static int64_t submits_and_ends(void *arg) {
    static const ferry_job_options options = {.name = "homeward"};
    struct homeward *h = arg;
    h->bell = ferry_loop_current()->inbox.bell.fd[0];
    h->job = ferry_submit_with(h->pool, passes_the_gate, h, &options);
    CHECK_INT(ferry_then(h->job, NULL, is_called_back, h), 0);
    gate_wait_arrivals(&h->gate, 1);
    if (h->until)
        h->until(h);
    return 0;
}

static void *runs_its_loop(void *arg) {
    static const ferry_run_options options = {.grace_ms = 1, .no_signals = true};
    CHECK_INT(ferry_run_with(submits_and_ends, arg, &options), 0);
    return NULL;
}

static void open_homeward(struct homeward *h, void (*until)(struct homeward *h)) {
    *h = (struct homeward){.pool = make_pool(1, NULL), .gate = GATE_INIT, .until = until};
    keep_log(&h->log, FERRY_LOG_WARNING, "the callback for 'homeward' was dropped");
}

static void ends_now(struct homeward *h) {
    gate_open(&h->gate);
    CHECK_INT(ferry_executor_stop(h->pool, FERRY_FOREVER), 0);
}

/* The job has ended, and its loop is gone. */
static void close_homeward(struct homeward *h, int called) {
    ends_now(h);
    assert_int_equal(atomic_load(&h->called), called);
    assert_int_equal(kept_messages(&h->log), 1 - called); /* it isn't lost without a word */
    if (!h->drops) {
        assert_int_equal(ferry__loop_jobs(h->job->home), 0);
        assert_int_equal(atomic_load(&h->job->refs), 1); /* this one's */
        assert_true(ferry_done(h->job));
        assert_int_equal(ferry_await(h->job), 6);
    }
    assert_true(fcntl(h->bell, F_GETFD) < 0);
    ferry_executor_free(h->pool);
    gate_destroy(&h->gate);
}

static void until_it_is_decided(struct homeward *h) {
    point_stop_thread(&h->stop, "job_done", h->worker);
    gate_open(&h->gate);
    point_wait(&h->stop);
}

/* It was decided, and not sent: whoever looks at the handle meanwhile has the result. */
static void its_loop_goes_before_it_is_sent(void **state) {
    (void)state;
    struct homeward h;
    open_homeward(&h, until_it_is_decided);
    runs_its_loop(&h);
    bool done = ferry_done(h.job);
    int64_t result = ferry_await(ferry_ref(h.job));
    int called = atomic_load(&h.called);
    point_go(&h.stop);
    assert_true(done);
    assert_int_equal(result, 6);
    assert_int_equal(called, 0);
    close_homeward(&h, 0);
}

static void until_it_is_called(struct homeward *h) {
    point_stop_thread(&h->stop, "inbox_pushed", h->worker);
    gate_open(&h->gate);
    point_wait(&h->stop);
    while (atomic_load(&h->called) == 0)
        ferry_yield();
}

/* It was sent, and called, and its thread is about to look whether the loop has to be woken. */
static void its_loop_goes_before_the_send_is_over(void **state) {
    (void)state;
    struct homeward h;
    open_homeward(&h, until_it_is_called);
    h.drops = true;
    runs_its_loop(&h);
    bool held = fcntl(h.bell, F_GETFD) >= 0;
    point_go(&h.stop);
    assert_true(held);
    close_homeward(&h, 1);
}

/* The loop's thread stands at `point`. */
static void comes_home_at(const char *point, int called) {
    struct homeward h;
    open_homeward(&h, NULL);
    point_stop(&h.stop, point);
    h.thread = start_thread(runs_its_loop, &h);
    point_wait(&h.stop);
    ends_now(&h);
    point_go(&h.stop);
    pthread_join(h.thread, NULL);
    close_homeward(&h, called);
}

/* The shutdown has found nothing, and looks once more: that is early enough. */
static void it_comes_home_at_the_last_moment(void **state) {
    (void)state;
    comes_home_at("shutdown_inbox_run", 1);
}

/* It is the last that is in there. */
static void it_comes_home_while_the_inbox_is_closed(void **state) {
    (void)state;
    comes_home_at("inbox_close", 0);
}

static int64_t nothing(void *arg) {
    (void)arg;
    return 0;
}

static void a_loop_isnt_freed_before_its_job_is_home(void **state) {
    (void)state;
    struct homeward h;
    open_homeward(&h, until_it_is_decided);
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, submits_and_ends, &h), 0);
    int before = ferry_loop_free(loop);
    point_go(&h.stop);
    ends_now(&h);
    assert_int_equal(before, -EBUSY);
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    assert_int_equal(ferry_loop_run(loop, nothing, NULL), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    close_homeward(&h, 1);
}

/* It was left behind by the shutdown: nobody turns the loop any more. */
static void a_loop_is_freed_after_a_job_came_home_late(void **state) {
    (void)state;
    for (int early = 0; early < 2; early++) {
        struct homeward h;
        open_homeward(&h, NULL);
        ferry_loop *loop = ferry_loop_new();
        assert_int_equal(ferry_loop_run(loop, submits_and_ends, &h), 0);
        assert_int_equal(ferry_loop_shutdown(loop, 1), 0);
        if (early)
            assert_int_equal(ferry_loop_free(loop), -EBUSY);
        ends_now(&h);
        assert_int_equal(ferry_loop_free(loop), 0);
        close_homeward(&h, 0);
    }
}

/* ---- Given up -------------------------------------------------------------------------------- */

struct deaf {
    ferry_executor *pool;
    gate gate; /* the job stands there */
    atomic_int result; /* of what it submits */
};

static int64_t submits_when_it_is_late(void *arg) {
    struct deaf *d = arg;
    gate_wait(&d->gate);
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_shield_open(&shield, FERRY_FOREVER);
    atomic_store(&d->result, (int)ferry_await(ferry_submit(NULL, nothing, NULL)));
    return ferry_scope_close(&shield, 0);
}

static int64_t gives_it_up(void *arg) {
    static const ferry_job_options options = {.name = "deaf", .policy = FERRY_JOB_ABANDON};
    struct deaf *d = arg;
    CHECK_INT(ferry_await(ferry_submit(NULL, nothing, NULL)), 0); /* the loop has an executor */
    ferry_future *job = ferry_submit_with(d->pool, submits_when_it_is_late, d, &options);
    gate_wait_arrivals(&d->gate, 1);
    CHECK_INT(ferry_cancel(job), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(job), FERRY_EJOBCANCELED);
    return 0;
}

/* Its thread is about to submit to the loop's own executor, and stands there until that loop is
 * gone. */
static void given_up_and_its_loop_is_gone(void **state) {
    (void)state;
    struct deaf d = {.pool = make_pool(1, NULL), .gate = GATE_INIT};
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "");
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, gives_it_up, &d), 0);
    struct point_stop stop;
    point_stop(&stop, "executor_default");
    gate_open(&d.gate);
    point_wait(&stop);
    int shut = ferry_loop_shutdown(loop, FERRY_FOREVER), freed = ferry_loop_free(loop);
    point_go(&stop);
    assert_int_equal(shut, 0);
    assert_int_equal(freed, 0);
    end_pool(d.pool);
    assert_int_equal(atomic_load(&d.result), FERRY_ECLOSED);
    kept_messages(&log);
    gate_destroy(&d.gate);
}

/* ---- In the child of a fork ------------------------------------------------------------------ */

static int64_t stands(void *arg) {
    gate_wait(arg);
    return 5;
}

static void *submits_too(void *arg) {
    MUST(ferry_await(ferry_submit(arg, nothing, NULL)) == 0);
    return NULL;
}

/* One has found the executor to be the parent's, and goes on when the other has jobs there. */
static void use_in_two_threads(ferry_executor *pool) {
    gate g = GATE_INIT;
    struct point_stop stop;
    point_stop(&stop, "executor_anew");
    pthread_t thread = start_thread(submits_too, pool);
    point_wait(&stop);
    ferry_future *standing = ferry_submit(pool, stands, &g);
    gate_wait_arrivals(&g, 1);
    ferry_future *queued = ferry_submit(pool, nothing, NULL);
    point_go(&stop);
    gate_open(&g);
    MUST(ferry_await(queued) == 0);
    MUST(ferry_await(standing) == 5);
    pthread_join(thread, NULL);
    MUST(ferry_executor_stop(pool, FERRY_FOREVER) == 0);
}

static void two_use_the_parents_executor_first(void **state) {
    (void)state;
    if (FERRY__TSAN)
        SKIP("ThreadSanitizer allows no threads in such a child");
    ferry_executor *pool = make_pool(1, NULL);
    assert_int_equal(ferry_await(ferry_submit(pool, nothing, NULL)), 0);
    int status = -1;
    pid_t child = fork_with_alarm();
    if (child == 0) {
        use_in_two_threads(pool);
        end_child(true);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(child_was_good(status));
    end_pool(pool);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a job that is submitted while its scope is being cancelled sees that",
             submitted_meanwhile),
        CASE("so does a plain job of a task", submitted_by_a_task),
        CASE("a job is done, and its loop goes before it comes home",
             its_loop_goes_before_it_is_sent),
        CASE("a job comes home, and its loop goes before its thread is out",
             its_loop_goes_before_the_send_is_over),
        CASE("a job comes home at the last moment: its callback is called",
             it_comes_home_at_the_last_moment),
        CASE("a job comes home while its loop closes its inbox",
             it_comes_home_while_the_inbox_is_closed),
        CASE("RUN-05 a loop isn't freed before a job is home that has ended",
             a_loop_isnt_freed_before_its_job_is_home),
        CASE("RUN-05 a loop that was shut down is freed when its last job has come home",
             a_loop_is_freed_after_a_job_came_home_late),
        CASE("a job that was given up uses its loop's executor, and the loop is gone",
             given_up_and_its_loop_is_gone),
        CASE("EXE-15 two threads of a child are the first to use an executor of the parent's",
             two_use_the_parents_executor_first),
    };
    return SUPPORT_RUN(tests);
}

/* Several handles at once: gather, and what it has in common with waiting for them. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "executor.h"
#include "oom.h"
#include "parked.h"
#include "saturate.h"
#include "sleeper.h"
#include "support.h"
#include "waiters.h"

/* ---- Gather ---------------------------------------------------------------------------------- */

TASK_TEST(an_error_cancels_the_others) {
    int64_t code = -EIO, value = 11;
    struct sleeper sleepers[3] = {{.instead = 0}, {.instead = 77}, {.instead = -EPERM}};
    ferry_future *f[5] = {ferry_spawn(sleeps, &sleepers[0]), ferry_spawn(fails, &code),
                          ferry_spawn(sleeps, &sleepers[1]), ferry_spawn(sleeps, &sleepers[2]),
                          ferry_spawn(returns_it, &value)};
    int64_t results[5];
    CHECK_INT(ferry_gather(f, 5, results, 0), -EIO);
    CHECK_STR(ferry_errmsg(), "code -5");
    CHECK(sleepers[0].ended && sleepers[1].ended && sleepers[2].ended); /* joined */
    CHECK_INT(results[0], FERRY_EJOBCANCELED);
    CHECK_INT(results[1], -EIO);
    CHECK_INT(results[2], 77);
    CHECK_INT(results[3], -EPERM);
    CHECK_INT(results[4], 11);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

static void an_error_cancels_the_others_of_a_thread(void **state) {
    (void)state;
    int64_t code = -EIO;
    struct sleeper sleepers[2] = {0};
    ferry_future *f[3] = {ferry_submit(NULL, sleeps, &sleepers[0]),
                          ferry_submit(NULL, sleeps, &sleepers[1]),
                          ferry_submit(NULL, fails, &code)};
    assert_int_equal(ferry_gather(f, 3, NULL, 0), -EIO);
    assert_string_equal(ferry_errmsg(), "code -5");
}

/* The first in the order of happening, not of the arguments. */
TASK_TEST(the_first_error_counts) {
    ferry_promise *p[3];
    ferry_future *f[3];
    promises(p, f, 3);
    CHECK_INT(ferry_promise_set(p[2], -EIO), 0);
    CHECK_INT(ferry_promise_set(p[1], 1), 0);
    int64_t code = -ENOENT;
    ferry_future *late[4] = {ferry_spawn(fails, &code), f[0], f[1], f[2]};
    int64_t results[4];
    CHECK_INT(ferry_gather(late, 4, results, 0), -EIO); /* it was there already */
    CHECK_INT(results[0], -ENOENT);
    CHECK_INT(results[1], FERRY_EJOBCANCELED);
    CHECK_INT(results[2], 1);
    CHECK_INT(results[3], -EIO);
    drop(p, 3);
    return 0;
}

static int64_t gathers_three(void *arg) {
    return ferry_gather(arg, 3, NULL, 0);
}

/* Two fail before the caller runs again: the first counts. */
TASK_TEST(the_first_error_of_two_counts) {
    ferry_promise *p[3];
    ferry_future *f[3];
    promises(p, f, 3);
    ferry_future *task = ferry_spawn(gathers_three, f);
    until_parked(task);
    CHECK_INT(ferry_promise_set(p[1], -EIO), 0);
    CHECK_INT(ferry_promise_set(p[0], -ENOENT), 0);
    CHECK_INT(ferry_await(task), -EIO);
    drop(p, 3);
    return 0;
}

TASK_TEST(collects_values_and_errors) {
    int64_t code = -EIO, value = 3;
    struct sleeper sleeper = {0};
    ferry_future *f[4] = {ferry_spawn(fails, &code), ferry_spawn(sleeps, &sleeper),
                          ferry_spawn(returns_it, &value), ferry_spawn(fails, &code)};
    ferry_cancel(f[1]);
    int64_t results[4];
    CHECK_INT(ferry_gather(f, 4, results, FERRY_COLLECT), 0);
    CHECK_INT(results[0], -EIO);
    CHECK_INT(results[1], FERRY_EJOBCANCELED);
    CHECK_INT(results[2], 3);
    CHECK_INT(results[3], -EIO);
    CHECK_INT(sleeper.rc, -ECANCELED);
    return 0;
}

TASK_TEST(an_error_doesnt_end_a_collecting_one) {
    ferry_promise *p[2];
    ferry_future *f[2];
    promises(p, f, 2);
    CHECK_INT(ferry_promise_set(p[0], -EIO), 0);
    struct sleeper sleeper = {0};
    ferry_future *both[2] = {f[0], ferry_spawn(sleeps, &sleeper)};
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 1), 0);
    CHECK_INT(ferry_gather(both, 2, NULL, FERRY_COLLECT), -ECANCELED); /* it waited for the other */
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    ferry_detach(f[1]);
    drop(p, 2);
    return 0;
}

TASK_TEST(a_cancelled_member_fails_it) {
    struct sleeper sleepers[2] = {0};
    ferry_future *f[2] = {ferry_spawn(sleeps, &sleepers[0]), ferry_spawn(sleeps, &sleepers[1])};
    ferry_cancel(f[0]);
    CHECK_INT(ferry_gather(f, 2, NULL, 0), FERRY_EJOBCANCELED);
    CHECK(sleepers[1].ended);
    CHECK_INT(ferry_yield(), 0); /* the caller isn't cancelled */
    CHECK_INT(ferry_checkpoint(), 0);
    return 0;
}

struct gathering {
    struct sleeper sleepers[2];
    int64_t value;
    unsigned flags;
    int64_t results[3];
    int64_t rc;
    bool joined;
    int64_t after;
};

static int64_t gathers(void *arg) {
    struct gathering *g = arg;
    ferry_future *f[3] = {ferry_spawn(sleeps, &g->sleepers[0]), ferry_spawn(returns_it, &g->value),
                          ferry_spawn(sleeps, &g->sleepers[1])};
    g->rc = ferry_gather(f, 3, g->results, g->flags);
    g->joined = g->sleepers[0].ended && g->sleepers[1].ended;
    g->after = ferry_yield();
    return g->rc;
}

static void cancel_a_gather(unsigned flags, int64_t instead, bool before) {
    struct gathering g = {.flags = flags, .value = 6, .sleepers[1].instead = instead};
    ferry_future *task = ferry_spawn(gathers, &g);
    if (!before)
        until_parked(task);
    ferry_cancel(task);
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    CHECK_INT(g.rc, -ECANCELED);
    CHECK(g.joined);
    CHECK_INT(g.results[0], -ECANCELED);
    CHECK_INT(g.results[1], 6);
    CHECK_INT(g.results[2], instead ? instead : -ECANCELED);
    CHECK_INT(g.after, -ECANCELED);
}

TASK_TEST(the_caller_is_cancelled) {
    cancel_a_gather(0, 0, false);
    cancel_a_gather(0, -EIO, false);
    cancel_a_gather(0, 0, true);
    return 0;
}

TASK_TEST(the_caller_is_cancelled_while_it_collects) {
    cancel_a_gather(FERRY_COLLECT, 0, false);
    cancel_a_gather(FERRY_COLLECT, -EIO, false);
    cancel_a_gather(FERRY_COLLECT, 0, true);
    return 0;
}

static int64_t looks_at_the_deadline(void *arg) {
    (void)arg;
    while (ferry_checkpoint() == 0)
        sched_yield();
    return -ECANCELED;
}

/* A job sees the end of the scope that it was started in before the task on the loop does. */
TASK_TEST(a_job_sees_the_end_first) {
    for (unsigned flags = 0; flags <= FERRY_COLLECT; flags++) {
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, 5), 0);
        ferry_future *f[2] = {ferry_submit(NULL, looks_at_the_deadline, NULL),
                              ferry_submit(NULL, looks_at_the_deadline, NULL)};
        int64_t rc = ferry_gather(f, 2, NULL, flags);
        CHECK_INT(rc, -ECANCELED);
        CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    }
    return 0;
}

/* What is done already beats the cancel. */
TASK_TEST(all_are_done_in_a_cancelled_scope) {
    ferry_promise *p[2];
    ferry_future *f[2];
    promises(p, f, 2);
    CHECK_INT(ferry_promise_set(p[0], 4), 0);
    CHECK_INT(ferry_promise_set(p[1], 5), 0);
    int64_t results[2];
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_gather(f, 2, results, 0), 0);
    CHECK(results[0] == 4 && results[1] == 5);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    drop(p, 2);
    return 0;
}

struct value {
    int64_t value;
    int freed;
};

static int64_t returns_value(void *arg) {
    return ((struct value *)arg)->value;
}

static void count_freed(void *arg) {
    ((struct value *)arg)->freed++;
}

TASK_TEST(the_same_handle_twice) {
    struct value values[2] = {{.value = 8}, {.value = 9}};
    ferry_job_options options = {.arg_free = count_freed};
    ferry_future *twice = ferry_submit_with(NULL, returns_value, &values[0], &options);
    ferry_future *f[4] = {twice, ferry_submit_with(NULL, returns_value, &values[1], &options),
                          twice, twice};
    int64_t results[4];
    CHECK_INT(ferry_gather(f, 4, results, 0), 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(results[i], i == 1 ? 9 : 8);
    while (values[0].freed == 0 || values[1].freed == 0) /* when the last reference is gone */
        ferry_yield();
    CHECK_INT(values[0].freed, 1);
    return 0;
}

static void delivers(void *arg, int64_t result) {
    *(int64_t *)arg += result;
}

TASK_TEST(out_parameters_are_delivered) {
    int64_t out[2] = {20, 30};
    ferry_job_options options = {.deliver = delivers};
    ferry_future *one = ferry_submit_with(NULL, returns_it, &out[0], &options);
    ferry_future *f[3] = {one, ferry_submit_with(NULL, returns_it, &out[1], &options), one};
    CHECK_INT(ferry_gather(f, 3, NULL, 0), 0);
    CHECK_INT(out[0], 40); /* once */
    CHECK_INT(out[1], 60);
    return 0;
}

TASK_TEST(of_nothing) {
    CHECK_INT(ferry_gather(NULL, 0, NULL, 0), 0);
    CHECK_INT(ferry_gather(NULL, 0, NULL, FERRY_COLLECT), 0);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_gather(NULL, 0, NULL, 0), 0);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    return 0;
}

TASK_TEST(a_null_handle) {
    int64_t value = 2;
    struct sleeper sleeper = {0};
    ferry_future *f[3] = {ferry_spawn(returns_it, &value), NULL, ferry_spawn(sleeps, &sleeper)};
    int64_t results[3];
    CHECK_INT(ferry_gather(f, 3, results, FERRY_COLLECT), -ENOMEM);
    CHECK(sleeper.ended);
    CHECK_INT(results[0], 2);
    CHECK_INT(results[1], -ENOMEM);
    CHECK_INT(results[2], FERRY_EJOBCANCELED);
    ferry_future *none[2] = {NULL, NULL};
    CHECK_INT(ferry_gather(none, 2, NULL, 0), -ENOMEM);
    return 0;
}

TASK_TEST(unknown_flags_and_the_own_handle) {
    int64_t value = 2;
    ferry_future *f[2] = {ferry_spawn(returns_it, &value), ferry_self()};
    CHECK_INT(ferry_gather(f, 1, NULL, 6), -EINVAL);
    CHECK_INT(ferry_gather(f, 2, NULL, 0), -EDEADLK);
    CHECK_INT(ferry_wait_all(f, 2, FERRY_FOREVER), -EDEADLK);
    CHECK_INT(ferry_await(f[0]), 2); /* still the caller's */
    return 0;
}

/* ---- Both worlds ----------------------------------------------------------------------------- */

struct other_loop {
    ferry_future *f[10]; /* tasks that another loop runs */
    gate spawned;
    ferry_promise *finish;
};

static int64_t yields_and_returns(void *arg) {
    for (int i = 0; i < 3; i++)
        ferry_yield();
    return (int64_t)(intptr_t)arg;
}

static int64_t other_loop_body(void *arg) {
    struct other_loop *o = arg;
    for (int i = 0; i < 10; i++)
        o->f[i] = ferry_spawn(yields_and_returns, (void *)(intptr_t)i);
    ferry_future *finished;
    o->finish = ferry_promise_new(&finished, NULL);
    gate_open(&o->spawned);
    return ferry_await(finished);
}

/* Tasks of another loop, jobs of a pool and of a strand, a promise; of this loop too when there
 * is one. */
static int64_t gathers_all_kinds(void *arg) {
    struct other_loop o = {.spawned = GATE_INIT};
    pthread_t thread = start_in_loop(other_loop_body, &o);
    gate_wait(&o.spawned);
    ferry_executor *strand;
    CHECK_INT(ferry_strand_new(&strand, NULL, NULL), 0);
    ferry_future *f[41];
    int64_t results[41];
    for (intptr_t i = 0; i < 10; i++) {
        f[4 * i] = o.f[i];
        f[4 * i + 1] = ferry_submit(NULL, yields_and_returns, (void *)i);
        f[4 * i + 2] = ferry_submit(strand, yields_and_returns, (void *)i);
        f[4 * i + 3] = arg ? ferry_spawn(yields_and_returns, (void *)i) : ferry_ref(f[4 * i + 1]);
    }
    ferry_promise *p = ferry_promise_new(&f[40], NULL);
    CHECK_INT(ferry_promise_set(p, 99), 0);
    ferry_promise_drop(p);
    for (int i = 0; !arg && i < 10; i++) {
        f[4 * i + 3] = f[4 * i + 1]; /* a duplicate, which counts once */
        ferry_detach(f[4 * i + 1]);
    }
    CHECK_INT(ferry_gather(f, 41, results, 0), 0);
    for (int i = 0; i < 40; i++)
        CHECK_INT(results[i], i / 4);
    CHECK_INT(results[40], 99);
    CHECK_INT(ferry_promise_set(o.finish, 0), 0);
    ferry_promise_drop(o.finish);
    ferry_executor_free(strand);
    pthread_join(thread, NULL);
    gate_destroy(&o.spawned);
    return 0;
}

static void all_kinds_in_a_task(void **state) {
    (void)state;
    assert_int_equal(ferry_run(gathers_all_kinds, &(int){0}), 0);
}

static void all_kinds_in_a_thread(void **state) {
    (void)state;
    assert_int_equal(gathers_all_kinds(NULL), 0);
}

static void a_hundred_at_once(void **state) {
    (void)state;
    ferry_executor *pool;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 8}), 0);
    for (int round = 0; round < (support_slow() ? 20 : 200) && support_in_time(); round++) {
        saturation s;
        saturate(&s, pool, 8);
        ferry_future *f[100];
        for (intptr_t i = 0; i < 100; i++)
            f[i] = ferry_submit(pool, yields_and_returns, (void *)i);
        gate_open(&s.gate); /* from here on they end while this thread begins to wait */
        CHECK_INT(ferry_wait_all(f, 100, FERRY_FOREVER), 0);
        for (int i = 0; i < 100; i++)
            CHECK(ferry_done(f[i]));
        int64_t results[100];
        CHECK_INT(ferry_gather(f, 100, results, 0), 0);
        for (int i = 0; i < 100; i++)
            CHECK_INT(results[i], i);
        desaturate(&s);
    }
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
}

enum { MANY = 16 };

struct many {
    ferry_promise *p[MANY];
    ferry_future *f[MANY];
};

/* Without giving the processor away each time: what is to be met takes less than that. */
static void until_watched(ferry_future *f) {
    for (unsigned i = 1; links_on(f) == 0; i++)
        if (i % 128 == 0)
            sched_yield();
}

/* The first one ends while the caller still turns to the others, these once it has turned to the
 * last. */
static void *end_meanwhile(void *arg) {
    struct many *many = arg;
    until_watched(many->f[0]);
    CHECK_INT(ferry_promise_set(many->p[0], 0), 0);
    until_watched(many->f[MANY - 1]);
    for (int i = 1; i < MANY; i++)
        CHECK_INT(ferry_promise_set(many->p[i], i), 0);
    return NULL;
}

static void ends_while_it_begins(void **state) {
    (void)state;
    for (int round = 0; round < 100 && support_in_time(); round++) {
        struct many many;
        int64_t results[MANY];
        for (int i = 0; i < MANY; i++) {
            many.p[i] = ferry_promise_new(&many.f[i], NULL);
            assert_non_null(many.p[i]);
        }
        pthread_t thread = start_thread(end_meanwhile, &many);
        CHECK_INT(ferry_gather(many.f, MANY, results, 0), 0);
        pthread_join(thread, NULL);
        for (int i = 0; i < MANY; i++) {
            CHECK_INT(results[i], i);
            ferry_promise_drop(many.p[i]);
        }
    }
}

/* ---- Jobs that wait in their own full pool --------------------------------------------------- */

struct own_pool {
    ferry_executor *pool;
    unsigned flags;
    bool waits_first;
};

static int64_t gathers_in_its_own_pool(void *arg) {
    struct own_pool *o = arg;
    int64_t values[20];
    ferry_future *f[20];
    for (int i = 0; i < 20; i++) {
        values[i] = i;
        f[i] = ferry_submit(o->pool, returns_it, &values[i]);
    }
    if (o->waits_first)
        CHECK_INT(ferry_wait_all(f, 20, FERRY_FOREVER), 0);
    CHECK_INT(ferry_gather(f, 20, NULL, o->flags), 0);
    return 0;
}

static uint64_t threads_for(ferry_fn fn, unsigned flags, bool waits_first) {
    struct own_pool o = {.flags = flags, .waits_first = waits_first};
    CHECK_INT(ferry_executor_new(&o.pool, &(ferry_executor_options){.threads_max = 1}), 0);
    CHECK_INT(ferry_await(ferry_submit(o.pool, fn, &o)), 0);
    ferry_executor_stats stats;
    ferry_executor_get_stats(o.pool, &stats);
    CHECK_INT(ferry_executor_stop(o.pool, FERRY_FOREVER), 0);
    ferry_executor_free(o.pool);
    return stats.threads_peak;
}

static void a_job_gathers_in_its_own_full_pool(void **state) {
    (void)state;
    assert_int_equal(threads_for(gathers_in_its_own_pool, FERRY_COLLECT, false), 1);
    assert_int_equal(threads_for(gathers_in_its_own_pool, 0, false), 2);
    assert_int_equal(threads_for(gathers_in_its_own_pool, 0, true), 2);
}

struct narrow {
    ferry_future *f[2];
    int64_t results[2];
    int64_t rc;
};

static int64_t gathers_both(void *arg) {
    struct narrow *n = arg;
    n->rc = ferry_gather(n->f, 2, n->results, FERRY_COLLECT);
    return 0;
}

static int64_t stands_at_gate(void *arg) {
    gate_wait(arg);
    return 1;
}

/* All end after the job has found that they haven't, and before it begins to wait: it is held there
 * by the lock of an executor that it asks whether there is something to help with. */
static void all_end_just_before_the_wait(void **state) {
    (void)state;
    ferry_executor *pool, *other;
    gate g = GATE_INIT;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    assert_int_equal(ferry_executor_new(&other, &(ferry_executor_options){.threads_max = 1}), 0);
    struct narrow n = {.f = {ferry_submit(other, stands_at_gate, &g)}};
    ferry_promise *p = ferry_promise_new(&n.f[1], NULL);
    gate_wait_arrivals(&g, 1);
    ferry__lock(&other->lock);
    ferry_future *first = n.f[0];
    ferry_future *job = ferry_submit(pool, gathers_both, &n);
    while (__atomic_load_n(&other->lock, __ATOMIC_RELAXED) != 2) /* until it sleeps there */
        sched_yield();
    CHECK_INT(ferry_promise_set(p, 2), 0);
    CHECK(ferry__future_complete(first, 3, NULL)); /* as an abandoned job ends */
    ferry__unlock(&other->lock);
    CHECK_INT(ferry_await(job), 0);
    CHECK_INT(n.rc, 0);
    CHECK(n.results[0] == 3 && n.results[1] == 2);
    gate_open(&g);
    ferry_promise_drop(p);
    CHECK_INT(ferry_executor_stop(other, FERRY_FOREVER), 0);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(other);
    ferry_executor_free(pool);
    gate_destroy(&g);
}

struct failing {
    ferry_promise *p;
    ferry_future *f;
};

static void *fails_when_watched(void *arg) {
    struct failing *failing = arg;
    while (links_on(failing->f) == 0)
        sched_yield();
    CHECK_INT(ferry_promise_set(failing->p, -EIO), 0);
    return NULL;
}

static int64_t fails_elsewhere(void *arg) {
    struct own_pool *o = arg;
    struct sleeper sleeper = {0};
    ferry_promise *p;
    ferry_future *f[2] = {ferry_submit(o->pool, sleeps, &sleeper)};
    p = ferry_promise_new(&f[1], NULL);
    pthread_t thread = start_thread(fails_when_watched, &(struct failing){p, f[1]});
    CHECK_INT(ferry_gather(f, 2, NULL, 0), -EIO);
    pthread_join(thread, NULL);
    ferry_promise_drop(p);
    return 0;
}

/* The job mustn't run the sleeper itself: then nobody would tell that one of the failure. */
static void a_failure_ends_what_is_queued_behind(void **state) {
    (void)state;
    threads_for(fails_elsewhere, 0, false);
}

struct callback {
    ferry_future *f[2];
    ferry_event done;
};

static int64_t gathers_in_callback(void *arg) {
    struct callback *c = arg;
    CHECK_INT(ferry_gather(c->f, 2, NULL, 0), -EDEADLK);
    CHECK_INT(ferry_wait_all(c->f, 2, FERRY_FOREVER), -EDEADLK);
    CHECK_INT(ferry_wait_any(c->f, 2, FERRY_FOREVER), 0);
    CHECK_INT(ferry_wait_any(NULL, 0, 5), -EDEADLK);
    ferry_event_set(&c->done);
    return 0;
}

TASK_TEST(a_callback_must_not_wait) {
    int64_t value = 1;
    struct sleeper sleeper = {0};
    struct callback c = {.f = {ferry_spawn(returns_it, &value), ferry_spawn(sleeps, &sleeper)}};
    CHECK_INT(ferry_wait(c.f[0]), 0);
    CHECK_INT(ferry_post(ferry_loop_current(), gathers_in_callback, &c), 0);
    CHECK_INT(ferry_event_wait(&c.done), 0);
    ferry_cancel(c.f[1]);
    CHECK_INT(ferry_gather(c.f, 2, NULL, 0), FERRY_EJOBCANCELED); /* they were still ours */
    return 0;
}

static void handles_of_the_parent(void **state) {
    (void)state;
    ferry_promise *p[2];
    ferry_future *f[2];
    promises(p, f, 2);
    CHECK_INT(ferry_promise_set(p[0], 3), 0);
    ferry_completion *completion = ferry_completion_new(f, 2);
    pid_t pid = fork();
    if (pid == 0) {
        uint32_t refs = atomic_load(&f[1]->refs);
        bool good = ferry_gather(f, 2, NULL, 0) == FERRY_EFORKED &&
                    atomic_load(&f[1]->refs) == refs && /* still the caller's */
                    ferry_wait_all(f, 2, FERRY_FOREVER) == FERRY_EFORKED &&
                    ferry_wait_any(f, 2, FERRY_FOREVER) == 0 && ferry_gather(f, 1, NULL, 0) == 0 &&
                    ferry_completion_next(completion, FERRY_FOREVER) == 0 &&
                    ferry_completion_next(completion, FERRY_FOREVER) == FERRY_EFORKED;
        end_child(good);
    }
    int status = 0;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(child_was_good(status));
    ferry_completion_free(completion);
    drop(p, 2);
    CHECK_INT(ferry_gather(f, 2, NULL, FERRY_COLLECT), 0);
}

/* ---- Out of memory --------------------------------------------------------------------------- */

struct scarce {
    long n;
    bool whole;
};

static int64_t gather_in_need(void *arg) {
    struct scarce *s = arg;
    int64_t value = 5;
    struct sleeper sleepers[2] = {0};
    ferry_future *twice = ferry_spawn(returns_it, &value);
    ferry_future *f[4] = {twice, ferry_spawn(sleeps, &sleepers[0]), twice,
                          ferry_spawn(sleeps, &sleepers[1])};
    until_parked(f[3]); /* a task's first step takes memory for its stack */
    oom_after(s->n, true);
    int rc = ferry_wait_any(f, 4, FERRY_FOREVER);
    CHECK(rc == -ENOMEM || rc == 0);
    ferry_completion *completion = ferry_completion_new(f, 4);
    if (completion)
        CHECK_INT(ferry_completion_next(completion, FERRY_FOREVER), 0);
    ferry_completion_free(completion);
    ferry_cancel(f[1]);
    ferry_cancel(f[3]);
    int64_t results[4];
    int64_t gathered = ferry_gather(f, 4, results, FERRY_COLLECT);
    s->whole = !oom_hit();
    oom_never();
    CHECK_INT(gathered, s->whole ? 0 : -ENOMEM);
    CHECK(sleepers[0].ended && sleepers[1].ended);
    CHECK_INT(results[0], 5);
    CHECK_INT(results[1], FERRY_EJOBCANCELED);
    CHECK_INT(results[2], 5);
    CHECK_INT(results[3], FERRY_EJOBCANCELED);
    return 0;
}

static void memory_runs_out(void **state) {
    (void)state;
    struct scarce s = {.n = 1 << 20};
    assert_int_equal(ferry_run(gather_in_need, &s), 0);
    long blocks = oom_blocks();
    s.whole = false;
    for (s.n = 0; !s.whole; s.n++) {
        assert_int_equal(ferry_run(gather_in_need, &s), 0);
        assert_int_equal(oom_blocks(), blocks);
    }
    assert_int_equal(s.n,
                     5); /* wait, two for the completion, gather; and the one that got through */
}

struct unknown_thread {
    ferry_future *f[3];
    int64_t results[3];
    int64_t rc;
};

static void *gathers_without_a_record(void *arg) {
    struct unknown_thread *u = arg;
    oom_after(0, true);
    u->rc = ferry_gather(u->f, 3, u->results, 0);
    oom_never();
    return NULL;
}

static int64_t stops_when_told(void *arg) {
    (void)arg;
    while (ferry_checkpoint() == 0)
        sched_yield();
    return 6;
}

/* A thread that Ferry has no memory to know: it can't sleep, but it must give its handles back. */
static void no_memory_for_the_threads_record(void **state) {
    (void)state;
    struct unknown_thread u = {.f = {ferry_submit(NULL, stops_when_told, NULL)}};
    ferry_promise *p = ferry_promise_new(&u.f[1], NULL);
    u.f[2] = u.f[0];
    /* Records are used again: this one is new only if no thread has ended so far that had one. */
    pthread_join(start_thread(gathers_without_a_record, &u), NULL);
    assert_int_equal(u.rc, -ENOMEM);
    assert_int_equal(u.results[1], FERRY_EJOBCANCELED);
    assert_int_equal(u.results[0], u.results[2]);
    ferry_promise_drop(p);
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("no memory for the record of the thread that gathers",
             no_memory_for_the_threads_record),
        CASE("AGG-01 the first error cancels and joins the others", an_error_cancels_the_others),
        CASE("AGG-01 the same for a thread", an_error_cancels_the_others_of_a_thread),
        CASE("AGG-01 the first error to happen counts", the_first_error_counts),
        CASE("AGG-01 so it is when a second one comes before the caller runs",
             the_first_error_of_two_counts),
        CASE("AGG-02 values, errors and a cancelled child are collected",
             collects_values_and_errors),
        CASE("AGG-02 an error doesn't end a collecting gather",
             an_error_doesnt_end_a_collecting_one),
        CASE("AGG-03 a child cancelled by a third party fails the gather",
             a_cancelled_member_fails_it),
        CASE("AGG-04 the caller is cancelled: so are the children", the_caller_is_cancelled),
        CASE("AGG-04 the same while it collects", the_caller_is_cancelled_while_it_collects),
        CASE("AGG-04 jobs that see the end of the scope first", a_job_sees_the_end_first),
        CASE("all are done in a cancelled scope: their results count",
             all_are_done_in_a_cancelled_scope),
        CASE("AGG-06 gather: the same handle fills its places and counts once",
             the_same_handle_twice),
        CASE("AGG-06 out-parameters are delivered once", out_parameters_are_delivered),
        CASE("a NULL handle", a_null_handle),
        CASE("unknown flags and the own handle are refused", unknown_flags_and_the_own_handle),
        CASE("AGG-14 gather of nothing", of_nothing),
        CASE("AGG-15 handles of two loops and of executors, in a task", all_kinds_in_a_task),
        CASE("AGG-15 the same in a thread", all_kinds_in_a_thread),
        CASE("AGG-15 a hundred handles that end at once", a_hundred_at_once),
        CASE("AGG-15 all end just before the wait begins", all_end_just_before_the_wait),
        CASE("AGG-15 handles end while the gather begins", ends_while_it_begins),
        CASE("a job gathers in its own full pool", a_job_gathers_in_its_own_full_pool),
        CASE("a failure ends what is queued behind a job that gathers",
             a_failure_ends_what_is_queued_behind),
        CASE("a callback must not wait", a_callback_must_not_wait),
        CASE("handles of the parent process", handles_of_the_parent),
        CASE("memory runs out", memory_runs_out),
    };
    return SUPPORT_RUN(tests);
}

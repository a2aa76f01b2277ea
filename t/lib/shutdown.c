/* The orderly end of a loop: from wherever it is asked for, soft then hard, with a report of
 * what stays behind. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "core.h"
#include "oom.h"
#include "parked.h"
#include "support.h"
#include "waiters.h"

#define HOUR 3600000

static int64_t nothing(void *arg) {
    (void)arg;
    return 0;
}

static int64_t counts(void *arg) {
    ++*(int *)arg;
    return 0;
}

static int64_t sleeps(void *arg) {
    (void)arg;
    return ferry_sleep(HOUR);
}

static int state_of(ferry_loop *loop) {
    return atomic_load(&loop->state);
}

/* A task that sits in a shield without a bound; `ended` counts it. */
static int64_t hides(void *arg) {
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(HOUR), -ECANCELED);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    ++*(int *)arg;
    return 0;
}

/* ---- From where ------------------------------------------------------------------------------ */

static void callback_for(ferry_future *f, int64_t result, void *arg) {
    (void)f;
    (void)result;
    ++*(int *)arg;
}

struct asked {
    ferry_loop *loop;
    ferry_future *task;
    int64_t grace_ms;
    int rc, hidden, called;
    _Atomic bool over;
};

static int64_t from_inside(void *arg) {
    struct asked *a = arg;
    a->loop = ferry_loop_current();
    ferry_executor *own = ferry_executor_default();
    ferry_future *others[3];
    for (int i = 0; i < 3; i++)
        others[i] = ferry_spawn(sleeps, NULL);
    CHECK_INT(ferry_then(others[0], NULL, callback_for, &a->called), 0);
    CHECK_INT(ferry_loop_shutdown(a->loop, FERRY_FOREVER), 0);
    CHECK_INT(a->called, 1); /* what was due was called */
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(others[i]), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_loop_shutdown(a->loop, FERRY_FOREVER), 0);
    /* Nothing new is taken, and says so. */
    CHECK_INT(ferry_await(ferry_spawn(nothing, NULL)), FERRY_ECLOSED);
    CHECK_INT(ferry_post(a->loop, counts, &a->called), FERRY_ECLOSED);
    CHECK_INT(ferry_await(ferry_submit(own, nothing, NULL)), FERRY_ECLOSED);
    CHECK_INT(ferry_await(ferry_submit(NULL, nothing, NULL)), FERRY_ECLOSED);
    ferry_future *value;
    ferry_promise *promise = ferry_promise_new(&value, NULL);
    CHECK_INT(ferry_then(value, a->loop, callback_for, &a->called), FERRY_ECLOSED);
    CHECK_INT(ferry_promise_set(promise, 0), 0);
    ferry_promise_drop(promise);
    ferry_detach(value);
    CHECK_INT(ferry_sleep(1), 0); /* it isn't cancelled itself */
    CHECK_INT(ferry_loop_free(a->loop), -EBUSY);
    return 3;
}

static void from_a_task(void **state) {
    (void)state;
    struct asked a = {.called = 0};
    assert_int_equal(ferry_run(from_inside, &a), 3);
    ferry_loop *loop = ferry_loop_new();
    a.called = 0;
    assert_int_equal(ferry_loop_run(loop, from_inside, &a), 3);
    assert_int_equal(a.called, 1);
    assert_int_equal(ferry_loop_run(loop, nothing, NULL), FERRY_ECLOSED);
    assert_int_equal(ferry_loop_free(loop), 0);
}

static int64_t asks(void *arg) {
    struct asked *a = arg;
    a->rc = ferry_loop_shutdown(a->loop, a->grace_ms ? a->grace_ms : FERRY_FOREVER);
    atomic_store(&a->over, true);
    return 0;
}

static int64_t is_ended_by_a_callback(void *arg) {
    struct asked *a = arg;
    a->loop = ferry_loop_current();
    ferry_detach(ferry_spawn(sleeps, NULL));
    CHECK_INT(ferry_post(a->loop, asks, a), 0);
    return ferry_sleep(HOUR);
}

static int64_t is_ended_by_a_job(void *arg) {
    struct asked *a = arg;
    a->loop = ferry_loop_current();
    ferry_detach(ferry_submit(NULL, asks, a));
    return ferry_sleep(HOUR);
}

static void from_a_callback(void **state) {
    (void)state;
    struct asked a = {.rc = 1};
    assert_int_equal(ferry_run(is_ended_by_a_callback, &a), -ECANCELED);
    assert_int_equal(a.rc, -EINPROGRESS);
    ferry_loop *loop = ferry_loop_new();
    a.rc = 1;
    assert_int_equal(ferry_loop_run(loop, is_ended_by_a_callback, &a), -ECANCELED);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(a.rc, -EINPROGRESS);
    assert_int_equal(ferry_loop_free(loop), 0);
}

static void from_a_job(void **state) {
    (void)state;
    struct asked a = {.rc = 1};
    assert_int_equal(ferry_run(is_ended_by_a_job, &a), -ECANCELED);
    assert_int_equal(a.rc, -EINPROGRESS); /* the job was waited for */
}

/* The run is over before the shutdown, which a callback asked for, is: the next call sees it
 * through. */
static int64_t leaves_one_hidden(void *arg) {
    struct asked *a = arg;
    a->loop = ferry_loop_current();
    ferry_future *f = ferry_spawn(hides, &a->hidden);
    until_parked(f);
    ferry_detach(f);
    CHECK_INT(ferry_post(a->loop, asks, a), 0);
    return ferry_sleep(HOUR);
}

static void seen_through(void **state) {
    (void)state;
    struct asked a = {.rc = 1};
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, leaves_one_hidden, &a), -ECANCELED);
    assert_int_equal(a.hidden, 0);
    assert_int_equal(state_of(loop), FERRY__LOOP_SOFT);
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(a.hidden, 1);
    assert_int_equal(ferry_loop_free(loop), 0);
    a = (struct asked){.rc = 1, .grace_ms = 1};
    assert_int_equal(ferry_run(leaves_one_hidden, &a), -ECANCELED);
    assert_int_equal(a.hidden, 1);
}

static int64_t asks_and_returns(void *arg) {
    struct asked *a = arg;
    a->loop = ferry_loop_current();
    CHECK_INT(ferry_post(a->loop, asks, a), 0);
    while (!atomic_load(&a->over))
        ferry_yield();
    return 2;
}

/* It has hardly begun. */
static void asked_and_over(void **state) {
    (void)state;
    struct asked a = {.rc = 1};
    assert_int_equal(ferry_run(asks_and_returns, &a), 2);
    assert_int_equal(a.rc, -EINPROGRESS);
}

static void *asks_from_a_thread(void *arg) {
    struct asked *a = arg;
    while (!a->task || !atomic_load(&a->over))
        sched_yield();
    a->rc = ferry_loop_shutdown(a->loop, FERRY_FOREVER);
    return NULL;
}

static int64_t is_ended_by_a_thread(void *arg) {
    struct asked *a = arg;
    ferry_detach(ferry_spawn(sleeps, NULL));
    atomic_store(&a->over, true);
    for (int i = 0; i < 100; i++)
        if (ferry_sleep(HOUR) == -ECANCELED)
            break;
    /* The run is over when its first task is: it stays until the others are gone. */
    while (a->loop->n_tasks > 2)
        ferry_yield();
    return 4;
}

static void from_a_thread(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct asked a = {.loop = ferry_loop_attach(base), .rc = 1};
    a.task = ferry_spawn_on(a.loop, is_ended_by_a_thread, &a);
    pthread_t thread = start_thread(asks_from_a_thread, &a);
    assert_int_equal(event_base_dispatch(base), 1);
    pthread_join(thread, NULL);
    assert_int_equal(a.rc, 0);
    assert_int_equal(ferry_await(a.task), 4);
    assert_int_equal(ferry_loop_shutdown(a.loop, 0), 0);
    assert_int_equal(ferry_loop_free(a.loop), 0);
    event_base_free(base);
}

static void when_nobody_runs_it(void **state) {
    (void)state;
    assert_int_equal(ferry_loop_shutdown(NULL, 0), -EINVAL);
    for (int tasks = 0; tasks < 3; tasks++) {
        ferry_loop *loop = ferry_loop_new();
        ferry_future *f[3];
        for (int i = 0; i < tasks; i++)
            f[i] = ferry_spawn_on(loop, sleeps, NULL);
        /* what only has to unwind needs no time */
        assert_int_equal(ferry_loop_shutdown(loop, 0), 0);
        assert_int_equal(ferry_loop_shutdown(loop, 0), 0);
        for (int i = 0; i < tasks; i++)
            assert_int_equal(ferry_await(f[i]), FERRY_EJOBCANCELED);
        assert_int_equal(ferry_loop_free(loop), 0);
    }
}

struct at_once {
    ferry_loop *loop;
    _Atomic int *missing; /* to begin together */
    bool runs;
};

static void *shuts_down_or_runs(void *arg) {
    struct at_once *a = arg;
    atomic_fetch_sub(a->missing, 1);
    while (atomic_load(a->missing) > 0)
        continue;
    if (a->runs) {
        int64_t rc = ferry_loop_run(a->loop, nothing, NULL);
        CHECK(rc == 0 || rc == FERRY_ECLOSED || rc == -EINVAL);
    } else {
        int rc = ferry_loop_shutdown(a->loop, 0);
        CHECK(rc == 0 || rc == -EINPROGRESS);
    }
    return NULL;
}

/* Each of them finds a loop that nobody runs. */
static void by_several_threads(void **state) {
    (void)state;
    int rounds = support_slow() ? 200 : 1000;
    for (int round = 0; round < rounds && support_in_time(); round++) {
        ferry_loop *loop = ferry_loop_new();
        _Atomic int missing = 2;
        struct at_once both[2];
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) {
            both[i] = (struct at_once){loop, &missing, i == 0 && round % 2 == 0};
            threads[i] = start_thread(shuts_down_or_runs, &both[i]);
        }
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(ferry_loop_shutdown(loop, 0), 0);
        assert_int_equal(ferry_loop_free(loop), 0);
    }
}

/* ferry_loop_stop() ends runs, not a shutdown. */
static int64_t stops_the_loop(void *arg) {
    ferry_loop *loop = arg;
    CHECK_INT(ferry_sleep(HOUR), -ECANCELED);
    ferry_loop_stop(loop);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    ferry_loop_stop(loop);
    return 1;
}

static void not_stopped(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    ferry_future *f = ferry_spawn_on(loop, stops_the_loop, loop);
    ferry_loop_stop(loop);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_await(f), 1);
    assert_int_equal(ferry_loop_free(loop), 0);
}

/* A stopped run's task is cancelled and joined with the others. */
static int64_t stops_and_sleeps(void *arg) {
    ferry_loop_stop(ferry_loop_current());
    CHECK_INT(ferry_sleep(HOUR), -ECANCELED);
    ++*(int *)arg;
    return 0;
}

static void of_a_stopped_run(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int ended = 0;
    assert_int_equal(ferry_loop_run(loop, stops_and_sleeps, &ended), FERRY_ESTOPPED);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ended, 1);
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(ferry_run(stops_and_sleeps, &ended), FERRY_ESTOPPED);
    assert_int_equal(ended, 2);
}

/* A callback of the program's on its own base. */
static void on_timer(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    asks(arg);
}

static void from_the_programs_callback(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct asked a = {.loop = ferry_loop_attach(base), .rc = 1};
    ferry_future *task = ferry_spawn_on(a.loop, sleeps, NULL);
    struct event *timer = event_new(base, -1, 0, on_timer, &a);
    assert_int_equal(event_add(timer, &(struct timeval){0, 1000}), 0);
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(a.rc, -EINPROGRESS);
    assert_int_equal(state_of(a.loop), FERRY__LOOP_DOWN);
    assert_int_equal(ferry_await(task), FERRY_EJOBCANCELED);
    event_free(timer);
    assert_int_equal(ferry_loop_free(a.loop), 0);
    event_base_free(base);
}

static int64_t ends_another(void *arg) {
    CHECK_INT(ferry_loop_shutdown(arg, 0), -EDEADLK);
    return 0;
}

static void from_another_loop(void **state) {
    (void)state;
    ferry_loop *other = ferry_loop_new();
    assert_int_equal(ferry_run(ends_another, other), 0);
    assert_int_equal(ferry_loop_shutdown(other, 0), 0);
    assert_int_equal(ferry_loop_free(other), 0);
}

/* ---- Soft, then hard, then a report ---------------------------------------------------------- */

static void shields_end(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int ended = 0;
    for (int i = 0; i < 5; i++)
        ferry_detach(ferry_spawn_on(loop, hides, &ended));
    assert_int_equal(ferry_loop_shutdown(loop, 1), 0);
    assert_int_equal(ended, 5);
    assert_int_equal(ferry_loop_free(loop), 0);
}

static bool may_end;

static int64_t ignores_all(void *arg) {
    (void)arg;
    while (!may_end)
        ferry_yield();
    return 1;
}

/* Each time it asks for the log the messages are another text: the whole log is kept. */
static char said[8192];
static unsigned said_lock;

static void keep_all(int level, const char *message, void *arg) {
    (void)level;
    (void)arg;
    ferry__lock(&said_lock);
    size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s\n", message);
    ferry__unlock(&said_lock);
}

static void listen_to_log(void) {
    said[0] = '\0';
    ferry_log_set(keep_all, NULL);
}

static void stubborn_task(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    may_end = false;
    int64_t begun = ferry__now();
    ferry_future *f =
        ferry_spawn_on_with(loop, ignores_all, NULL, &(ferry_task_options){.name = "stubborn"});
    listen_to_log();
    assert_int_equal(ferry_loop_shutdown(loop, 1), 1);
    ferry_log_set(NULL, NULL);
    assert_non_null(strstr(said, "left behind"));
    const char *it = strstr(said, "'stubborn', ");
    double age = -1, most = (double)(ferry__now() - begun) / 1e9;
    assert_non_null(it);
    assert_int_equal(sscanf(it, "'stubborn', %lf s old, ", &age), 1);
    assert_true(age >= 0 && age <= most + 0.1);
    assert_null(strstr(said, "'shutdown'")); /* that isn't stuck */
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    assert_false(ferry_done(f));
    may_end = true; /* the base still turns it */
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(ferry_await(f), 1);
    assert_int_equal(ferry_loop_free(loop), 0);
    event_base_free(base);
}

static int64_t hangs(void *arg) {
    gate_wait(arg);
    return 6;
}

struct with_job {
    gate gate;
    ferry_future *job;
};

static int64_t starts_hanging(void *arg) {
    struct with_job *w = arg;
    w->job = ferry_submit_with(NULL, hangs, &w->gate, &(ferry_job_options){.name = "hung"});
    gate_wait_arrivals(&w->gate, 1);
    return 0;
}

static void hung_job(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    struct with_job w = {.gate = GATE_INIT};
    assert_int_equal(ferry_loop_run(loop, starts_hanging, &w), 0);
    listen_to_log();
    assert_int_equal(ferry_loop_shutdown(loop, 1), 1);
    ferry_log_set(NULL, NULL);
    assert_non_null(strstr(said, "'hung' has been running for"));
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    gate_open(&w.gate);
    assert_int_equal(ferry_await(w.job), 6);
    int rc;
    while ((rc = ferry_loop_free(loop)) == -EBUSY)
        sched_yield(); /* it is done, and about to be counted off */
    assert_int_equal(rc, 0);
    gate_destroy(&w.gate);
}

/* What its first call waits for without end, the second call doesn't. */
static void *asks_without_end(void *arg) {
    struct asked *a = arg;
    a->rc = ferry_loop_shutdown(a->loop, FERRY_FOREVER);
    return NULL;
}

static void *hurries(void *arg) {
    struct asked *a = arg;
    while (state_of(a->loop) == FERRY__LOOP_OPEN)
        sched_yield();
    CHECK_INT(ferry_loop_shutdown(a->loop, FERRY_FOREVER), -EINPROGRESS);
    return NULL;
}

static void second_call_hurries(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct asked a = {.loop = ferry_loop_attach(base), .rc = 1};
    ferry_future *f = ferry_spawn_on(a.loop, hides, &a.hidden);
    assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
    assert_true(task_parked(f));
    pthread_t first = start_thread(asks_without_end, &a), second = start_thread(hurries, &a);
    assert_int_equal(event_base_dispatch(base), 1);
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    assert_int_equal(a.rc, 0);
    assert_int_equal(a.hidden, 1);
    assert_int_equal(ferry_await(f), 0);
    assert_int_equal(ferry_loop_free(a.loop), 0);
    event_base_free(base);
}

/* Nothing in the process can wake it, and it sits in a shield: a shutdown without a limit goes
 * on all the same. */
static int64_t waits_for_nobody(void *arg) {
    ferry_event never = FERRY_EVENT_INIT;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_event_wait(&never), -ECANCELED);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    ++*(int *)arg;
    return 0;
}

static void nobody_could_wake(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int ended = 0;
    ferry_detach(ferry_spawn_on(loop, waits_for_nobody, &ended));
    listen_to_log();
    int rc = ferry_loop_shutdown(loop, FERRY_FOREVER);
    ferry_log_set(NULL, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(ended, 1);
    assert_int_equal(ferry_loop_free(loop), 0);
}

/* ---- Many, in all places --------------------------------------------------------------------- */

enum { MANY = FERRY__TSAN ? 2000 : 10000 }; /* ThreadSanitizer knows 8,128 stacks */

struct crowd {
    ferry_event event;
    ferry_mutex mutex;
    ferry_sem sem;
    ferry_queue *full, *empty;
    int fds[2];
    int next, ended; /* loop thread */
};

static int64_t waits_somewhere(void *arg) {
    struct crowd *c = arg;
    void *item;
    int rc = 0;
    switch (c->next++ % 7) {
    case 0:
        rc = ferry_sleep(HOUR);
        break;
    case 1:
        rc = ferry_event_wait(&c->event);
        break;
    case 2:
        rc = ferry_lock(&c->mutex);
        break;
    case 3:
        rc = ferry_queue_put(c->full, c);
        break;
    case 4:
        rc = ferry_queue_get(c->empty, &item);
        break;
    case 5:
        rc = ferry_sem_acquire(&c->sem, 1);
        break;
    case 6:
        rc = ferry_event_wait_for(&c->event, HOUR);
        break;
    }
    CHECK_INT(rc, -ECANCELED);
    c->ended++;
    return rc;
}

static int64_t holds_the_mutex(void *arg) {
    struct crowd *c = arg;
    CHECK_INT(ferry_lock(&c->mutex), 0);
    CHECK_INT(ferry_sleep(HOUR), -ECANCELED);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    while (c->ended < MANY)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_unlock(&c->mutex), 0);
    return 0;
}

static int64_t fills(void *arg) {
    struct crowd *c = arg;
    ferry_future *last = ferry_spawn(holds_the_mutex, c);
    until_parked(last);
    ferry_detach(last);
    for (int i = 0; i < MANY; i++) {
        last = ferry_spawn(waits_somewhere, c);
        if (i < MANY - 1)
            ferry_detach(last);
    }
    until_parked(last);
    ferry_detach(last);
    return MANY;
}

static void ten_thousand(void **state) {
    (void)state;
    struct crowd c = {.event = FERRY_EVENT_INIT, .sem = FERRY_SEM_INIT(0)};
    c.full = ferry_queue_new(1, NULL);
    c.empty = ferry_queue_new(1, NULL);
    assert_int_equal(ferry_queue_put(c.full, &c), 0);
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, fills, &c), MANY);
    assert_int_equal(loop->n_tasks, MANY + 1);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(c.ended, MANY);
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(ferry_trylock(&c.mutex), 0); /* all is as it was */
    assert_int_equal(ferry_unlock(&c.mutex), 0);
    void *item;
    assert_int_equal(ferry_queue_try_get(c.full, &item), 0);
    assert_int_equal(ferry_queue_try_get(c.full, &item), -EAGAIN);
    assert_int_equal(ferry_queue_free(c.full), 0);
    assert_int_equal(ferry_queue_free(c.empty), 0);
}

/* ---- Release in callbacks -------------------------------------------------------------------- */

struct released {
    ferry_loop *loop;
    ferry_async *async;
    ferry_executor *pool;
    ferry_promise *promise;
    ferry_future *value;
    int called;
};

static void releases(ferry_future *f, int64_t result, void *arg) {
    struct released *r = arg;
    CHECK_INT(result, FERRY_EJOBCANCELED);
    r->called++;
    ferry_detach(f);
    ferry_async_free(r->async);
    ferry_executor_free(r->pool);
    CHECK_INT(ferry_promise_set(r->promise, 0), 0);
    ferry_promise_drop(r->promise);
    ferry_detach(r->value);
    CHECK_INT(ferry_loop_free(r->loop), -EBUSY);
}

static int64_t leaves_a_callback(void *arg) {
    struct released *r = arg;
    ferry_future *f = ferry_spawn(sleeps, NULL);
    until_parked(f);
    CHECK_INT(ferry_then(f, r->loop, releases, r), 0);
    CHECK_INT(ferry_async_send(r->async), 0);
    return 0;
}

static void release_in_callbacks(void **state) {
    (void)state;
    struct released r = {.loop = ferry_loop_new()};
    int woken = 0;
    r.async = ferry_async_new(r.loop, counts, &woken);
    r.promise = ferry_promise_new(&r.value, NULL);
    assert_int_equal(ferry_executor_new(&r.pool, NULL), 0);
    assert_int_equal(ferry_loop_run(r.loop, leaves_a_callback, &r), 0);
    assert_int_equal(ferry_loop_shutdown(r.loop, FERRY_FOREVER), 0);
    assert_int_equal(r.called, 1);
    assert_int_equal(woken, 1);
    assert_int_equal(ferry_loop_free(r.loop), 0);
}

/* A callback of a handle that outlives the loop is dropped, and that is said. */
static void outlived(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    ferry_future *value;
    ferry_promise *promise = ferry_promise_new(&value, "outliving");
    int calls = 0;
    assert_int_equal(ferry_then(value, loop, callback_for, &calls), 0);
    assert_int_equal(ferry_loop_shutdown(loop, 0), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    listen_to_log();
    assert_int_equal(ferry_promise_set(promise, 1), 0);
    ferry_log_set(NULL, NULL);
    assert_non_null(strstr(said, "'outliving' was dropped"));
    assert_int_equal(calls, 0);
    ferry_promise_drop(promise);
    ferry_detach(value);
}

/* ---- Without memory -------------------------------------------------------------------------- */

static void without_memory(void **state) {
    (void)state;
    for (int attached = 0; attached < 2; attached++) {
        struct event_base *base = attached ? event_base_new() : NULL;
        ferry_loop *loop = base ? ferry_loop_attach(base) : ferry_loop_new();
        ferry_future *f = ferry_spawn_on(loop, sleeps, NULL);
        oom_after(0, true);
        int rc = ferry_loop_shutdown(loop, FERRY_FOREVER);
        oom_never();
        assert_int_equal(rc, -ENOMEM);
        assert_false(ferry_done(f));
        assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0); /* nothing was begun */
        assert_int_equal(ferry_await(f), FERRY_EJOBCANCELED);
        assert_int_equal(ferry_loop_free(loop), 0);
        if (base)
            event_base_free(base);
    }
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("from a task: all others end, and nothing new is taken", from_a_task),
        CASE("from a callback: it goes on by itself", from_a_callback),
        CASE("from a job: it goes on by itself", from_a_job),
        CASE("asked for by a callback and not over when the run is: the next call sees it through",
             seen_through),
        CASE("asked for by a callback, hardly begun when the run is over", asked_and_over),
        CASE("from another thread", from_a_thread),
        CASE("RUN-05 when nobody runs it, and once more", when_nobody_runs_it),
        CASE("RUN-05 by several threads at once when nobody runs it", by_several_threads),
        CASE("ferry_loop_stop() doesn't end it", not_stopped),
        CASE("after a stopped run", of_a_stopped_run),
        CASE("from a callback of the program's on its own base", from_the_programs_callback),
        CASE("from a task of another loop", from_another_loop),
        CASE("rule 23: soft, then hard: shields end", shields_end),
        CASE("rule 23: a task that ignores all is left behind, by name and age", stubborn_task),
        CASE("rule 23: a hung job is left behind, by name and age", hung_job),
        CASE("rule 23: a second call hurries the first", second_call_hurries),
        CASE("tasks in shields that nobody could wake", nobody_could_wake),
        CASE("10,000 tasks in all places, a locked mutex, a full queue", ten_thousand),
        CASE("rule 23: release in callbacks", release_in_callbacks),
        CASE("a callback of a handle that outlives the loop", outlived),
        CASE("without memory it can be tried again", without_memory),
    };
    return SUPPORT_RUN(tests);
}

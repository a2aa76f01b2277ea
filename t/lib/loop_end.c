/* The last moments of a loop: what comes in while it goes down, and who turns it to its end. The
 * test stops whoever is at a switch point (lib/point.h), lets the others act, and lets go. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "core.h"
#include "parked.h"
#include "points.h"
#include "pools.h"
#include "support.h"
#include "waiters.h"

#define HOUR 3600000

static int64_t nothing(void *arg) {
    (void)arg;
    return 0;
}

static int state_of(ferry_loop *loop) {
    return atomic_load(&loop->state);
}

/* A loop that another thread shuts down. */
struct asked {
    ferry_loop *loop;
    int64_t grace_ms;
    int rc;
};

static void *shuts_down(void *arg) {
    struct asked *a = arg;
    a->rc = ferry_loop_shutdown(a->loop, a->grace_ms);
    return NULL;
}

/* ---- Callbacks for handles that have ended --------------------------------------------------- */

struct adder {
    ferry_loop *loop;
    ferry_future *ended; /* a handle that has */
    int rc, later_rc;
    atomic_int called, later_called;
};

static void count_later(ferry_future *f, int64_t result, void *arg) {
    (void)f;
    (void)result;
    atomic_fetch_add(&((struct adder *)arg)->later_called, 1);
}

static void add_one_more(ferry_future *f, int64_t result, void *arg) {
    struct adder *a = arg;
    (void)result;
    atomic_fetch_add(&a->called, 1);
    a->later_rc = ferry_then(f, a->loop, count_later, a);
}

static void *adds(void *arg) {
    struct adder *a = arg;
    a->rc = ferry_then(a->ended, a->loop, add_one_more, a);
    return NULL;
}

static void open_adder(struct adder *a) {
    ferry_promise *promise = ferry_promise_new(&a->ended, NULL);
    CHECK_INT(ferry_promise_set(promise, 4), 0);
    ferry_promise_drop(promise);
    a->loop = ferry_loop_new();
    CHECK_INT(ferry_loop_run(a->loop, nothing, NULL), 0);
}

static void close_adder(struct adder *a) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "was dropped");
    assert_int_equal(atomic_load(&a->called), a->rc == 0);
    assert_int_equal(atomic_load(&a->later_called), a->rc == 0 && a->later_rc == 0);
    assert_int_equal(atomic_load(&a->loop->callbacks), 0);
    assert_int_equal(ferry_then(a->ended, a->loop, count_later, a), FERRY_ECLOSED);
    assert_int_equal(ferry_loop_free(a->loop), 0);
    assert_int_equal(kept_messages(&log), 0);
    ferry_detach(a->ended);
}

/* The shutdown has seen an empty inbox. What is taken all the same is called; what that adds is
 * refused. */
static void a_callback_that_comes_late(void **state) {
    (void)state;
    struct adder a = {.rc = 1, .later_rc = 1};
    struct point_stop stop;
    open_adder(&a);
    struct asked asked = {.loop = a.loop, .grace_ms = FERRY_FOREVER, .rc = 1};
    point_stop(&stop, "shutdown_inbox_run");
    pthread_t other = start_thread(shuts_down, &asked);
    point_wait(&stop);
    adds(&a);
    assert_int_equal(a.rc, 0);
    point_go(&stop);
    pthread_join(other, NULL);
    assert_int_equal(asked.rc, 0);
    assert_int_equal(a.later_rc, FERRY_ECLOSED);
    close_adder(&a);
}

/* Who adds it has begun, and hasn't looked at the loop's state yet: the shutdown waits for it. */
static void a_callback_on_its_way(void **state) {
    (void)state;
    struct adder a = {.rc = 1, .later_rc = 1};
    struct point_stop inbox, entering;
    open_adder(&a);
    struct asked asked = {.loop = a.loop, .grace_ms = FERRY_FOREVER, .rc = 1};
    point_stop(&inbox, "shutdown_inbox_run");
    point_stop(&entering, "then_entering");
    pthread_t other = start_thread(shuts_down, &asked);
    point_wait(&inbox);
    pthread_t adder = start_thread(adds, &a);
    point_wait(&entering);
    point_go(&inbox);
    while (state_of(a.loop) < FERRY__LOOP_LAST)
        sched_yield();
    assert_int_not_equal(state_of(a.loop), FERRY__LOOP_DOWN);
    point_go(&entering);
    pthread_join(adder, NULL);
    pthread_join(other, NULL);
    assert_int_equal(asked.rc, 0);
    assert_int_equal(a.rc, FERRY_ECLOSED);
    close_adder(&a);
}

static void *adds_until_refused(void *arg) {
    struct adder *a = arg;
    int taken = 0;
    while ((a->rc = ferry_then(a->ended, a->loop, count_later, a)) == 0)
        taken++;
    CHECK_INT(a->rc, FERRY_ECLOSED);
    a->rc = taken;
    return NULL;
}

static void callbacks_and_a_shutdown_race(void **state) {
    (void)state;
    int rounds = support_slow() ? 10 : 50;
    for (int i = 0; i < rounds; i++) {
        struct adder a = {0};
        open_adder(&a);
        struct asked asked = {.loop = a.loop, .grace_ms = FERRY_FOREVER, .rc = 1};
        points_delay((uint64_t)i + 1);
        pthread_t adder = start_thread(adds_until_refused, &a);
        pthread_t other = start_thread(shuts_down, &asked);
        pthread_join(other, NULL);
        pthread_join(adder, NULL);
        points_delay(0);
        assert_int_equal(asked.rc, 0);
        assert_int_equal(atomic_load(&a.later_called), a.rc);
        assert_int_equal(ferry_loop_free(a.loop), 0);
        ferry_detach(a.ended);
    }
}

/* ---- Who turns it to its end ----------------------------------------------------------------- */

struct hidden {
    ferry_loop *loop;
    gate begun;
    pthread_t ended_on;
    atomic_int ended;
};

static int64_t hides(void *arg) {
    struct hidden *h = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(HOUR), -ECANCELED);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    h->ended_on = pthread_self();
    atomic_fetch_add(&h->ended, 1);
    return 0;
}

static int64_t leaves_one_behind(void *arg) {
    struct hidden *h = arg;
    h->loop = ferry_loop_current();
    ferry_future *f = ferry_spawn(hides, h);
    until_parked(f);
    ferry_detach(f);
    gate_open(&h->begun);
    return 3;
}

static void *runs_it(void *arg) {
    static const ferry_run_options options = {
        .grace_ms = 1, .no_signals = true, .no_overflow_handler = true};
    return (void *)(intptr_t)ferry_run_with(leaves_one_behind, arg, &options);
}

/* ferry_run() gives its loop back as soon as it is down, so nobody else turns it: not even
 * between the run and the shutdown that follows. */
static void ferry_run_sees_to_its_end(void **state) {
    (void)state;
    struct hidden h = {.begun = GATE_INIT};
    struct point_stop after_run;
    struct kept_log log;
    void *result;
    keep_log(&log, FERRY_LOG_WARNING, "left behind");
    point_stop(&after_run, "shutdown_after_run");
    pthread_t runner = start_thread(runs_it, &h);
    point_wait(&after_run);
    struct asked asked = {.loop = h.loop, .grace_ms = 1, .rc = 1};
    pthread_t other = start_thread(shuts_down, &asked);
    while (atomic_load(&h.loop->awaited) == 0 && state_of(h.loop) == FERRY__LOOP_OPEN)
        sched_yield();
    point_go(&after_run);
    pthread_join(runner, &result);
    pthread_join(other, NULL);
    assert_int_equal((intptr_t)result, 3);
    /* whichever of the two shutdowns began first */
    assert_true(asked.rc == 0 || asked.rc == -EINPROGRESS);
    assert_int_equal(atomic_load(&h.ended), 1);
    assert_true(pthread_equal(h.ended_on, runner));
    assert_int_equal(kept_messages(&log), 0);
}

static int64_t tells_its_loop(void *arg) {
    *(ferry_loop **)arg = ferry_loop_current();
    return 3;
}

static void *runs_with_signals(void *arg) {
    static const ferry_run_options options = {.grace_ms = HOUR, .no_overflow_handler = true};
    return (void *)(intptr_t)ferry_run_with(tells_its_loop, arg, &options);
}

/* A signal finds the loop turning for somebody else's shutdown, when the first task is gone. */
static void interrupted_after_the_first_task(void **state) {
    (void)state;
    struct point_stop stop;
    struct asked asked = {.grace_ms = FERRY_FOREVER, .rc = 1};
    void *result;
    point_stop(&stop, "loop_given_back");
    pthread_t runner = start_thread(runs_with_signals, &asked.loop);
    point_wait(&stop);
    struct ferry__inbox *inbox = &asked.loop->inbox;
    struct ferry__item *shutdown;
    pthread_t other = start_thread(shuts_down, &asked);
    while (!(shutdown = atomic_load(&inbox->head)))
        sched_yield();
    kill(getpid(), SIGINT);
    while (atomic_load(&inbox->head) == shutdown)
        sched_yield();
    point_go(&stop);
    pthread_join(runner, &result);
    pthread_join(other, NULL);
    assert_int_equal((intptr_t)result, 3);
    assert_int_equal(asked.rc, 0);
}

static int64_t sleeps(void *arg) {
    gate_wait(arg);
    return ferry_sleep(HOUR);
}

struct run {
    ferry_loop *loop;
    gate begun;
    int64_t rc;
};

static void *runs(void *arg) {
    struct run *r = arg;
    r->rc = ferry_loop_run(r->loop, sleeps, &r->begun);
    return NULL;
}

/* The run was stopped while another thread was about to shut the loop down, which then turns it
 * itself. */
static void a_stopped_run_is_ended_elsewhere(void **state) {
    (void)state;
    struct run r = {.loop = ferry_loop_new(), .begun = GATE_INIT};
    struct point_stop stop;
    gate_open(&r.begun);
    pthread_t runner = start_thread(runs, &r);
    gate_wait_arrivals(&r.begun, 1);
    struct asked asked = {.loop = r.loop, .grace_ms = FERRY_FOREVER, .rc = 1};
    point_stop(&stop, "shutdown_asked");
    pthread_t other = start_thread(shuts_down, &asked);
    point_wait(&stop);
    ferry_loop_stop(r.loop);
    pthread_join(runner, NULL);
    assert_int_equal(r.rc, FERRY_ESTOPPED);
    point_go(&stop);
    pthread_join(other, NULL);
    assert_int_equal(asked.rc, 0);
    assert_null(r.loop->main_task); /* its reference was given back */
    assert_int_equal(ferry_loop_run(r.loop, NULL, NULL), FERRY_ECLOSED);
    assert_int_equal(ferry_loop_free(r.loop), 0);
}

static int64_t stops_the_run(void *arg) {
    ferry_loop_stop(arg);
    int rc = ferry_sleep(1);
    return rc < 0 ? rc : 7;
}

static ferry_loop *with_a_stopped_run(void) {
    ferry_loop *loop = ferry_loop_new();
    CHECK_INT(ferry_loop_run(loop, stops_the_run, loop), FERRY_ESTOPPED);
    return loop;
}

/* Another thread has seen that nobody runs the loop, and is about to take it for its shutdown: what
 * was stopped is still there to go on with. */
static void a_stopped_run_goes_on_meanwhile(void **state) {
    (void)state;
    struct asked asked = {.loop = with_a_stopped_run(), .grace_ms = FERRY_FOREVER, .rc = 1};
    struct point_stop stop;
    point_stop(&stop, "shutdown_takes");
    pthread_t other = start_thread(shuts_down, &asked);
    point_wait(&stop);
    int64_t rc = ferry_loop_run(asked.loop, NULL, NULL);
    point_go(&stop);
    pthread_join(other, NULL);
    assert_int_equal(rc, 7);
    assert_int_equal(asked.rc, 0);
    assert_null(asked.loop->main_task);
    assert_int_equal(ferry_loop_free(asked.loop), 0);
}

static void *goes_on(void *arg) {
    struct run *r = arg;
    gate_wait(&r->begun);
    r->rc = ferry_loop_run(r->loop, NULL, NULL);
    return NULL;
}

/* Both find a loop that nobody runs. */
static void a_run_and_a_shutdown_race(void **state) {
    (void)state;
    for (int i = 0; i < (support_slow() ? 100 : 300) && support_in_time(); i++) {
        struct run r = {.loop = with_a_stopped_run(), .begun = GATE_INIT};
        struct asked asked = {.loop = r.loop, .grace_ms = FERRY_FOREVER, .rc = 1};
        pthread_t runner = start_thread(goes_on, &r);
        gate_wait_arrivals(&r.begun, 1);
        points_delay((uint64_t)i + 1);
        gate_open(&r.begun);
        shuts_down(&asked);
        pthread_join(runner, NULL);
        assert_int_equal(asked.rc, 0);
        points_delay(0);
        assert_true(r.rc == 7 || r.rc == -ECANCELED || r.rc == FERRY_ECLOSED || r.rc == -EINVAL);
        assert_null(r.loop->main_task);
        assert_int_equal(ferry_loop_free(r.loop), 0);
        gate_destroy(&r.begun);
    }
}

/* ---- Tasks that shut their own loop down ----------------------------------------------------- */

struct closer {
    int rc, then, shielded;
};

static int64_t closes_and_waits(void *arg) {
    struct closer *c = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    c->rc = ferry_loop_shutdown(ferry_loop_current(), FERRY_FOREVER);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    c->shielded = ferry_sleep(HOUR);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    c->then = ferry_sleep(HOUR);
    return c->then;
}

static void on_a_base_of_ones_own(void **state) {
    (void)state;
    struct closer c = {.rc = 1};
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    ferry_future *task = ferry_spawn_on(loop, closes_and_waits, &c);
    assert_int_equal(event_base_dispatch(base), 1); /* returns: the task is asked to stop */
    assert_int_equal(c.rc, 0);
    assert_int_equal(c.shielded, -ECANCELED);
    assert_int_equal(c.then, -ECANCELED);
    assert_int_equal(ferry_await(task), FERRY_EJOBCANCELED);
    assert_int_equal(ferry_loop_free(loop), 0);
    event_base_free(base);
}

/* Keeps the shutdown waiting; a call that hurries it ends that. */
static int64_t ends_late(void *arg) {
    (void)arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        ferry_sleep(1);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    return 0;
}

static int64_t starts_both(void *arg) {
    ferry_detach(ferry_spawn(ends_late, NULL));
    ferry_detach(ferry_spawn(closes_and_waits, arg));
    CHECK_INT(ferry_yield(), -ECANCELED); /* both have begun */
    return 5;
}

/* The run is over long before the shutdown is. */
static void in_the_background_of_a_run(void **state) {
    (void)state;
    struct closer c = {.rc = 1};
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, starts_both, &c), 5);
    assert_int_equal(c.rc, 1);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(c.rc, 0);
    assert_int_equal(c.then, -ECANCELED);
    assert_int_equal(ferry_loop_free(loop), 0);
    c = (struct closer){.rc = 1};
    assert_int_equal(ferry_run(starts_both, &c), 5);
    assert_int_equal(c.rc, 0);
    assert_int_equal(c.then, -ECANCELED);
}

/* The first task of a run ends the run: nobody else has to see to that. */
static int64_t closes_and_goes_on(void *arg) {
    (void)arg;
    ferry_detach(ferry_spawn(nothing, NULL));
    CHECK_INT(ferry_loop_shutdown(ferry_loop_current(), FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_checkpoint(), 0);
    return 6;
}

static void the_first_task_goes_on(void **state) {
    (void)state;
    assert_int_equal(ferry_run(closes_and_goes_on, NULL), 6);
}

/* ---- From signals ---------------------------------------------------------------------------- */

static int64_t waits_for_the_signal(void *arg) {
    (void)arg;
    CHECK_INT(ferry_signal_wait(SIGUSR1), 0);
    return ferry_loop_shutdown(ferry_loop_current(), FERRY_FOREVER);
}

static int64_t sends_one(void *arg) {
    (void)arg;
    CHECK_INT(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT); /* it is Ferry's from now on */
    ferry_future *waiter = ferry_spawn(waits_for_the_signal, NULL);
    until_parked(waiter);
    kill(getpid(), SIGUSR1);
    CHECK_INT(ferry_sleep(HOUR), -ECANCELED);
    ferry_detach(waiter);
    return 2;
}

static void by_a_task_that_waits_for_a_signal(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, sends_one, NULL), 2);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
}

static void on_signal(evutil_socket_t signo, short events, void *arg) {
    struct asked *a = arg;
    (void)signo;
    (void)events;
    a->rc = ferry_loop_shutdown(a->loop, FERRY_FOREVER);
}

static int64_t sleeps_for_ever(void *arg) {
    (void)arg;
    return ferry_sleep(HOUR);
}

static void by_a_signal_event_of_the_program(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct asked a = {.loop = ferry_loop_attach(base), .rc = 1};
    struct event *event = event_new(base, SIGUSR2, EV_SIGNAL, on_signal, &a);
    assert_int_equal(event_add(event, NULL), 0);
    ferry_future *task = ferry_spawn_on(a.loop, sleeps_for_ever, NULL);
    assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
    kill(getpid(), SIGUSR2);
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(a.rc, -EINPROGRESS);
    assert_int_equal(state_of(a.loop), FERRY__LOOP_DOWN);
    assert_int_equal(ferry_await(task), FERRY_EJOBCANCELED);
    assert_int_equal(ferry_loop_shutdown(a.loop, 0), 0); /* twice */
    assert_int_equal(ferry_loop_free(a.loop), 0);
    event_free(event);
    event_base_free(base);
}

/* ---- The background ----------------------------------------------------------------------- */

/* Another thread hands a task or a job to the background, and stands at a point meanwhile. */
struct giver {
    ferry_loop *loop;
    bool job;
    atomic_int ended;
    int rc;
    struct point_stop stop;
    pthread_t thread;
};

static int64_t ends_in_the_background(void *arg) {
    atomic_fetch_add(&((struct giver *)arg)->ended, 1);
    return 0;
}

static void *gives(void *arg) {
    struct giver *g = arg;
    g->rc = g->job
                ? ferry_background_submit_with(g->loop, NULL, ends_in_the_background, g, NULL)
                : ferry_background_spawn_with(g->loop, ends_in_the_background, g, NULL);
    return NULL;
}

static void begin_giving(struct giver *g, bool job, const char *point) {
    *g = (struct giver){.loop = ferry_loop_new(), .job = job, .rc = 1};
    CHECK_INT(ferry_loop_run(g->loop, nothing, NULL), 0);
    point_stop(&g->stop, point);
    g->thread = start_thread(gives, g);
    point_wait(&g->stop);
    CHECK_INT(ferry_background_count(g->loop), 1);
}

/* It has a place, and the loop goes down before it has the task: the place is given back. */
static void the_background_is_closed_meanwhile(void **state) {
    (void)state;
    for (int job = 0; job < 2; job++) {
        struct giver g;
        begin_giving(&g, job, "loop_entering");
        struct asked asked = {.loop = g.loop, .grace_ms = FERRY_FOREVER, .rc = 1};
        pthread_t other = start_thread(shuts_down, &asked);
        while (state_of(g.loop) < FERRY__LOOP_LAST)
            sched_yield();
        assert_int_not_equal(state_of(g.loop), FERRY__LOOP_DOWN);
        point_go(&g.stop);
        pthread_join(other, NULL);
        assert_int_equal(asked.rc, 0);
        pthread_join(g.thread, NULL);
        assert_int_equal(g.rc, FERRY_ECLOSED);
        assert_int_equal(atomic_load(&g.ended), 0);
        assert_int_equal(ferry_background_count(g.loop), 0);
        assert_int_equal(ferry_loop_free(g.loop), 0);
    }
}

static int64_t until_the_background_is_empty(void *arg) {
    (void)arg;
    while (ferry_background_count(NULL) > 0)
        ferry_yield();
    return 0;
}

/* It has ended, and nothing is left of it, before whoever handed it in is out. */
static void ended_before_it_was_given(void **state) {
    (void)state;
    for (int job = 0; job < 2; job++) {
        struct giver g;
        begin_giving(&g, job, "loop_accepted");
        assert_int_equal(ferry_loop_run(g.loop, until_the_background_is_empty, NULL), 0);
        assert_int_equal(atomic_load(&g.ended), 1);
        point_go(&g.stop);
        pthread_join(g.thread, NULL);
        assert_int_equal(g.rc, 0);
        assert_int_equal(ferry_loop_free(g.loop), 0);
    }
}

/* ---- Streams --------------------------------------------------------------------------------- */

struct mapping {
    ferry_executor *pool;
    ferry_future *job;
    gate close;
    int64_t closed;
};

static int64_t maps(void *arg) {
    struct mapping *m = arg;
    void *items[] = {NULL, NULL};
    ferry_source source = {.items = items, .n = 2};
    source = (ferry_source){.stream = ferry_map_submit(m->pool, nothing, &source, NULL)};
    ferry_stream *map = ferry_map_submit(m->pool, nothing, &source, NULL);
    void *item;
    CHECK_INT(ferry_stream_next(map, &item), 0);
    gate_wait(&m->close);
    m->closed = ferry_stream_close(map);
    return 0;
}

static int64_t starts_to_map(void *arg) {
    struct mapping *m = arg;
    m->job = ferry_submit(m->pool, maps, m);
    return 0;
}

/* The shutdown is about to stop a map of a map when a job closes both. */
static void a_map_is_closed_meanwhile(void **state) {
    (void)state;
    struct mapping m = {.pool = make_pool(2, NULL), .close = GATE_INIT, .closed = 1};
    struct asked asked = {.loop = ferry_loop_new(), .grace_ms = FERRY_FOREVER, .rc = 1};
    struct point_stop stop;
    assert_int_equal(ferry_loop_run(asked.loop, starts_to_map, &m), 0);
    gate_wait_arrivals(&m.close, 1);
    point_stop(&stop, "stream_untold");
    pthread_t other = start_thread(shuts_down, &asked);
    point_wait(&stop);
    gate_open(&m.close);
    int64_t rc = ferry_await(m.job);
    point_go(&stop);
    pthread_join(other, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(m.closed, 0);
    assert_int_equal(asked.rc, 0);
    end_pool(m.pool);
    assert_int_equal(ferry_loop_free(asked.loop), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a callback for a handle that has ended, when the loop is about to be down",
             a_callback_that_comes_late),
        CASE("a callback that is about to be added when the loop goes down", a_callback_on_its_way),
        CASE("callbacks that are added and a shutdown race: each is called or refused",
             callbacks_and_a_shutdown_race),
        CASE("THR-12 another thread's shutdown between a run's end and its own",
             ferry_run_sees_to_its_end),
        CASE("a signal after the first task, while the loop is shut down elsewhere",
             interrupted_after_the_first_task),
        CASE("THR-12 a stopped run whose loop is shut down elsewhere",
             a_stopped_run_is_ended_elsewhere),
        CASE("a stopped run goes on while another thread is about to shut its loop down",
             a_stopped_run_goes_on_meanwhile),
        CASE("a run and another thread's shutdown begin at the same time",
             a_run_and_a_shutdown_race),
        CASE("a task that shuts its loop down is cancelled when that is over",
             on_a_base_of_ones_own),
        CASE("a task that shuts its loop down in the background of a run",
             in_the_background_of_a_run),
        CASE("the first task of a run shuts its loop down and goes on", the_first_task_goes_on),
        CASE("shut down by a task that waits for a signal", by_a_task_that_waits_for_a_signal),
        CASE("shut down by a signal event of the program's", by_a_signal_event_of_the_program),
        CASE("a loop goes down while another thread has a place in its background",
             the_background_is_closed_meanwhile),
        CASE("what was handed to the background has ended before that call is over",
             ended_before_it_was_given),
        CASE("a job closes a map of a map that the shutdown is about to stop",
             a_map_is_closed_meanwhile),
    };
    return SUPPORT_RUN(tests);
}

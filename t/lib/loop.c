/* Loops: running, stopping and giving back; an event_base of the program's own with its own
 * events beside Ferry; nobody starves; other threads never touch libevent, and wake a loop no
 * more often than needed. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "core.h"
#include "oom.h"
#include "parked.h"
#include "quiet.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000

static int64_t nothing(void *arg) {
    (void)arg;
    return 0;
}

static int64_t sleeps(void *arg) {
    (void)arg;
    return ferry_sleep(LONG);
}

static int64_t seven(void *arg) {
    (void)arg;
    ferry_yield();
    return 7;
}

static int64_t counts(void *arg) {
    ++*(int *)arg;
    return 0;
}

static void end_loop(ferry_loop *loop) {
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
}

/* ---- Rule 16: libevent is the loop's thread's ------------------------------------------------ */

/* The linker leads the library's calls of these here. */
static _Thread_local bool may_call_libevent;

int __real_event_add(struct event *event, const struct timeval *tv);
int __wrap_event_add(struct event *event, const struct timeval *tv);
int __wrap_event_add(struct event *event, const struct timeval *tv) {
    CHECK(may_call_libevent);
    return __real_event_add(event, tv);
}

int __real_event_del(struct event *event);
int __wrap_event_del(struct event *event);
int __wrap_event_del(struct event *event) {
    CHECK(may_call_libevent);
    return __real_event_del(event);
}

void __real_event_active(struct event *event, int what, short n);
void __wrap_event_active(struct event *event, int what, short n);
void __wrap_event_active(struct event *event, int what, short n) {
    CHECK(may_call_libevent);
    __real_event_active(event, what, n);
}

struct foreign {
    ferry_loop *loop;
    ferry_future *task, *job;
    ferry_promise *promise;
    ferry_async *async;
    ferry_event event;
    ferry_mutex mutex;
    int called; /* loop thread */
    _Atomic bool over;
};

static void called(ferry_future *f, int64_t result, void *arg) {
    (void)f;
    (void)result;
    ++*(int *)arg;
}

static void *does_all(void *arg) {
    struct foreign *s = arg;
    CHECK_INT(ferry_post(s->loop, counts, &s->called), 0);
    CHECK_INT(ferry_async_send(s->async), 0);
    CHECK_INT(ferry_lock(&s->mutex), 0);
    CHECK_INT(ferry_unlock(&s->mutex), 0);
    CHECK_INT(ferry_promise_set(s->promise, 3), 0);
    CHECK_INT(ferry_then(s->job, s->loop, called, &s->called), 0);
    CHECK_INT(ferry_await(ferry_spawn_on(s->loop, seven, NULL)), 7);
    CHECK_INT(ferry_cancel(s->task), FERRY_CANCEL_ASKED);
    ferry_event_set(&s->event);
    ferry_loop_stop(NULL);
    atomic_store(&s->over, true);
    return NULL;
}

TASK_TEST(only_its_own_thread) {
    struct foreign s = {.loop = ferry_loop_current(), .event = FERRY_EVENT_INIT};
    ferry_future *value;
    s.task = ferry_spawn(sleeps, NULL);
    s.job = ferry_submit(NULL, nothing, NULL);
    s.promise = ferry_promise_new(&value, NULL);
    s.async = ferry_async_new(s.loop, counts, &s.called);
    CHECK_INT(ferry_lock(&s.mutex), 0);
    pthread_t thread = start_thread(does_all, &s);
    ferry_sleep(1);
    CHECK_INT(ferry_unlock(&s.mutex), 0);
    CHECK_INT(ferry_event_wait(&s.event), 0);
    CHECK_INT(ferry_await(value), 3);
    CHECK_INT(ferry_await(s.task), FERRY_EJOBCANCELED);
    while (s.called < 3)
        ferry_yield();
    while (!atomic_load(&s.over))
        ferry_yield();
    pthread_join(thread, NULL);
    CHECK_INT(ferry_await(s.job), 0);
    ferry_promise_drop(s.promise);
    ferry_async_free(s.async);
    return 0;
}

/* ---- Rule 18: wake-ups are counted ----------------------------------------------------------- */

/* How often the loop's descriptor was written to since it was last looked at. */
static uint64_t rings(ferry_loop *loop) {
    uint64_t seen[64];
    ssize_t got =
        read(loop->inbox.bell.fd[0], seen,
             loop->inbox.bell.fd[0] == loop->inbox.bell.fd[1] ? sizeof seen[0] : sizeof seen);
    if (got < 0)
        return 0;
    return loop->inbox.bell.fd[0] == loop->inbox.bell.fd[1] ? seen[0]
                                                            : (uint64_t)got / sizeof seen[0];
}

static void *posts_thousand(void *arg) {
    struct foreign *s = arg;
    for (int i = 0; i < 1000; i++)
        CHECK_INT(ferry_post(s->loop, counts, &s->called), 0);
    return NULL;
}

static int64_t not_rung_while_awake(void *arg) {
    struct foreign *s = arg;
    pthread_join(start_thread(posts_thousand, s), NULL);
    CHECK_INT(rings(s->loop), 0);
    ferry_future *job = ferry_submit(NULL, nothing, NULL);
    int called_back = 0;
    CHECK_INT(ferry_then(job, s->loop, called, &called_back), 0);
    while (!ferry_done(job))
        sched_yield(); /* the loop stands here */
    CHECK_INT(ferry_executor_stop(ferry_executor_default(), FERRY_FOREVER), 0);
    CHECK_INT(ferry_await(job), 0);
    while (called_back == 0 || s->called < 2000)
        ferry_yield();
    return 0;
}

static void wakes_are_counted(void **state) {
    (void)state;
    struct foreign s = {.loop = ferry_loop_new()};
    pthread_join(start_thread(posts_thousand, &s), NULL);
    assert_int_equal(rings(s.loop), 1);
    assert_int_equal(ferry_loop_run(s.loop, not_rung_while_awake, &s), 0);
    assert_int_equal(s.called, 2000);
    end_loop(s.loop);
}

/* ---- Running --------------------------------------------------------------------------------- */

static int64_t runs_another(void *arg) {
    ferry_loop *loop = arg;
    bool before = may_call_libevent;
    may_call_libevent = true; /* the loop that it makes first is its own */
    CHECK_INT(ferry_run(nothing, NULL), -EDEADLK);
    may_call_libevent = before;
    CHECK(strlen(ferry_errmsg()) > 0);
    CHECK_INT(ferry_loop_run(loop, nothing, NULL), -EDEADLK);
    CHECK_INT(ferry_loop_run(ferry_loop_current(), nothing, NULL), -EDEADLK);
    return 0;
}

static int64_t runs_from_everywhere(void *arg) {
    runs_another(arg);
    CHECK_INT(ferry_await(ferry_submit(NULL, runs_another, arg)), 0);
    CHECK_INT(ferry_post(NULL, runs_another, arg), -EINVAL);
    int called_back = 0;
    CHECK_INT(ferry_post(ferry_loop_current(), runs_another, arg), 0);
    CHECK_INT(ferry_post(ferry_loop_current(), counts, &called_back), 0);
    while (called_back == 0)
        ferry_yield();
    return 0;
}

static void run_inside(void **state) {
    (void)state;
    ferry_loop *other = ferry_loop_new();
    assert_int_equal(ferry_run(runs_from_everywhere, other), 0);
    assert_int_equal(ferry_loop_run(other, seven, NULL), 7); /* it is unharmed */
    end_loop(other);
}

static int64_t stops_itself(void *arg) {
    int *steps = arg;
    for (; *steps < 3; ++*steps) {
        ferry_loop_stop(ferry_loop_current());
        CHECK_INT(ferry_sleep(1), 0); /* beyond this turn */
    }
    return 11;
}

static void stopped_run(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int steps = 0;
    assert_int_equal(ferry_loop_run(loop, NULL, NULL), -EINVAL); /* nothing to go on with */
    int64_t rc = ferry_loop_run(loop, stops_itself, &steps);
    assert_int_equal(rc, FERRY_ESTOPPED);
    assert_int_equal(ferry_loop_run(loop, nothing, NULL), -EINVAL); /* go on with that one first */
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    int runs = 0;
    for (; (rc = ferry_loop_run(loop, NULL, NULL)) == FERRY_ESTOPPED; runs++)
        assert_true(runs < 5);
    assert_int_equal(rc, 11);
    assert_int_equal(steps, 3);
    assert_int_equal(ferry_loop_run(loop, NULL, NULL), -EINVAL);
    assert_int_equal(ferry_loop_run(loop, seven, NULL), 7);
    end_loop(loop);
}

static void *stops_when_parked(void *arg) {
    struct foreign *s = arg;
    while (!ferry__inbox_sleeps(&s->loop->inbox) || !atomic_load(&s->over))
        sched_yield();
    ferry_loop_stop(s->loop);
    return NULL;
}

static int64_t waits_for_event(void *arg) {
    struct foreign *s = arg;
    atomic_store(&s->over, true);
    return ferry_event_wait(&s->event) == 0 ? 5 : -1;
}

static int64_t sets_event(void *arg) {
    ferry_event_set(&((struct foreign *)arg)->event);
    return 0;
}

static void stopped_from_a_thread(void **state) {
    (void)state;
    struct foreign s = {.loop = ferry_loop_new(), .event = FERRY_EVENT_INIT};
    pthread_t thread = start_thread(stops_when_parked, &s);
    assert_int_equal(ferry_loop_run(s.loop, waits_for_event, &s), FERRY_ESTOPPED);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_post(s.loop, sets_event, &s), 0);
    assert_int_equal(ferry_loop_run(s.loop, NULL, NULL), 5);
    end_loop(s.loop);
}

static int64_t counts_then_sleeps(void *arg) {
    ++*(int *)arg;
    return ferry_sleep(LONG);
}

/* One pass that doesn't wait: the task has begun, and its sleep is left as it is. */
static void stop_before_a_run(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int begun = 0;
    ferry_loop_stop(loop);
    assert_int_equal(ferry_loop_run(loop, counts_then_sleeps, &begun), FERRY_ESTOPPED);
    assert_int_equal(begun, 1);
    ferry_loop_stop(loop);
    assert_int_equal(ferry_loop_run(loop, NULL, NULL), FERRY_ESTOPPED);
    ferry_loop_stop(NULL);
    end_loop(loop); /* it cancels the task */
}

/* ---- Giving back ----------------------------------------------------------------------------- */

static int64_t frees_while_running(void *arg) {
    CHECK_INT(ferry_loop_free(arg), -EBUSY);
    return 0;
}

struct held {
    gate gate;
};

static int64_t stands(void *arg) {
    gate_wait(&((struct held *)arg)->gate);
    return 4;
}

static ferry_future *kept;

static int64_t leaves_a_task(void *arg) {
    (void)arg;
    kept = ferry_spawn(sleeps, NULL);
    until_parked(kept);
    return 0;
}

static int64_t leaves_a_job(void *arg) {
    kept = ferry_submit(NULL, stands, arg);
    return 0;
}

static int64_t awaits_kept(void *arg) {
    (void)arg;
    return ferry_await(kept);
}

static void give_back(void **state) {
    (void)state;
    assert_int_equal(ferry_loop_free(NULL), 0);
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, frees_while_running, loop), 0);

    assert_int_equal(ferry_loop_run(loop, leaves_a_task, NULL), 0);
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    assert_non_null(strstr(ferry_errmsg(), "1 tasks"));
    ferry_cancel(kept);
    assert_int_equal(ferry_loop_run(loop, awaits_kept, NULL), FERRY_EJOBCANCELED);

    struct held held = {GATE_INIT};
    assert_int_equal(ferry_loop_run(loop, leaves_a_job, &held), 0);
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    assert_non_null(strstr(ferry_errmsg(), "1 jobs"));
    gate_open(&held.gate);
    assert_int_equal(ferry_loop_run(loop, awaits_kept, NULL), 4);

    ferry_future *value;
    ferry_promise *promise = ferry_promise_new(&value, NULL);
    int calls = 0;
    assert_int_equal(ferry_then(value, loop, called, &calls), 0);
    assert_int_equal(ferry_loop_free(loop), -EBUSY);
    assert_non_null(strstr(ferry_errmsg(), "1 callbacks"));
    assert_int_equal(ferry_promise_set(promise, 1), 0);
    assert_int_equal(ferry_loop_run(loop, seven, NULL), 7);
    assert_int_equal(calls, 1);
    ferry_detach(value);
    ferry_promise_drop(promise);

    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_run(loop, nothing, NULL), FERRY_ECLOSED);
    assert_int_equal(ferry_loop_free(loop), 0);
    gate_destroy(&held.gate);
}

static void refusals(void **state) {
    (void)state;
    assert_int_equal(ferry_loop_run(NULL, nothing, NULL), -EINVAL);
    assert_null(ferry_loop_base(NULL));
    assert_null(ferry_loop_current());
    errno = 0;
    assert_null(ferry_loop_attach(NULL));
    assert_int_equal(errno, EINVAL);
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    assert_ptr_equal(ferry_loop_base(loop), base);
    assert_ptr_equal(ferry_loop_current(), loop);
    assert_int_equal(ferry_loop_run(loop, nothing, NULL), -EINVAL);
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_null(ferry_loop_current());
    event_base_free(base);
}

/* ---- A base of the program's own ------------------------------------------------------------- */

static int64_t sleeps_shortly(void *arg) {
    (void)arg;
    CHECK_INT(ferry_sleep(2), 0);
    return 8;
}

/* Attached, it waits for a turn of the loop; then the base ends by itself, again and again. */
static void dispatch_ends(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    assert_int_equal(event_base_dispatch(base), 1);
    for (int i = 0; i < 3; i++) {
        ferry_future *task = ferry_spawn_on(loop, sleeps_shortly, NULL);
        assert_false(ferry_done(task));
        assert_int_equal(event_base_dispatch(base), 1);
        assert_true(ferry_done(task));
        assert_int_equal(ferry_await(task), 8);

        int calls = 0;
        assert_int_equal(ferry_post(loop, counts, &calls), 0);
        assert_int_equal(event_base_dispatch(base), 1);
        assert_int_equal(calls, 1);

        ferry_future *job = ferry_submit(NULL, seven, NULL);
        assert_int_equal(ferry_then(job, loop, called, &calls), 0);
        assert_int_equal(event_base_dispatch(base), 1);
        assert_int_equal(calls, 2);
        assert_int_equal(ferry_await(job), 7);
    }
    end_loop(loop);
    event_base_free(base);
}

static void *posts_once(void *arg) {
    struct foreign *s = arg;
    CHECK_INT(ferry_post(s->loop, counts, &s->called), 0);
    s->task = ferry_spawn_on(s->loop, seven, NULL);
    return NULL;
}

/* What another thread has handed in before the first dispatch. */
static void handed_in_before(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct foreign s = {.loop = ferry_loop_attach(base)};
    pthread_join(start_thread(posts_once, &s), NULL);
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(s.called, 1);
    assert_int_equal(ferry_await(s.task), 7);
    end_loop(s.loop);
    event_base_free(base);
}

/* ---- Nobody starves -------------------------------------------------------------------------- */

struct starve {
    ferry_loop *loop;
    struct event_base *base;
    int fds[2];
    int timers, reads, posts; /* loop thread */
    _Atomic bool over;
    int left;
};

static void ends_it(struct starve *s) {
    if (s->timers > 0 && s->reads > 0)
        atomic_store(&s->over, true);
}

static void timer_of_program(evutil_socket_t fd, short events, void *arg) {
    struct starve *s = arg;
    (void)fd;
    (void)events;
    s->timers++;
    ends_it(s);
}

static void fd_of_program(evutil_socket_t fd, short events, void *arg) {
    struct starve *s = arg;
    char byte;
    (void)events;
    s->reads += read(fd, &byte, 1) == 1;
    ends_it(s);
}

static int64_t yields_for_ever(void *arg) {
    struct starve *s = arg;
    while (!atomic_load(&s->over))
        CHECK_INT(ferry_yield(), 0);
    return 0;
}

static int64_t posts_itself(void *arg) {
    struct starve *s = arg;
    s->posts++;
    if (!atomic_load(&s->over))
        CHECK_INT(ferry_post(s->loop, posts_itself, s), 0);
    return 0;
}

static void *floods(void *arg) {
    struct starve *s = arg;
    while (!atomic_load(&s->over))
        CHECK_INT(ferry_post(s->loop, counts, &s->posts), 0);
    return NULL;
}

static void with_events(void (*test)(struct starve *s)) {
    struct starve s = {.base = event_base_new()};
    s.loop = ferry_loop_attach(s.base);
    assert_int_equal(pipe(s.fds), 0);
    struct event *timer = event_new(s.base, -1, 0, timer_of_program, &s);
    struct event *fd = event_new(s.base, s.fds[0], EV_READ, fd_of_program, &s);
    assert_int_equal(write(s.fds[1], "x", 1), 1);
    assert_int_equal(event_add(timer, &(struct timeval){0, 1000}), 0);
    assert_int_equal(event_add(fd, NULL), 0);
    test(&s);
    assert_int_equal(s.timers, 1);
    assert_int_equal(s.reads, 1);
    event_free(timer);
    event_free(fd);
    close(s.fds[0]);
    close(s.fds[1]);
    end_loop(s.loop);
    event_base_free(s.base);
}

static void beside_a_yielder(struct starve *s) {
    ferry_future *tasks[3];
    for (int i = 0; i < 3; i++)
        tasks[i] = ferry_spawn_on(s->loop, yields_for_ever, s);
    assert_int_equal(event_base_dispatch(s->base), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_await(tasks[i]), 0);
}

static void not_by_a_task(void **state) {
    (void)state;
    with_events(beside_a_yielder);
}

static void beside_posts(struct starve *s) {
    assert_int_equal(ferry_post(s->loop, posts_itself, s), 0);
    ferry_future *task = ferry_spawn_on(s->loop, sleeps_shortly, NULL);
    assert_int_equal(event_base_dispatch(s->base), 1);
    assert_true(s->posts > 1);
    assert_int_equal(ferry_await(task), 8);
}

static void not_by_posts(void **state) {
    (void)state;
    with_events(beside_posts);
}

static void beside_a_flood(struct starve *s) {
    pthread_t thread = start_thread(floods, s);
    ferry_future *task = ferry_spawn_on(s->loop, sleeps_shortly, NULL);
    while (!atomic_load(&s->over) || !ferry_done(task))
        assert_true(event_base_loop(s->base, EVLOOP_ONCE) >= 0);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_await(task), 8);
}

static void not_by_a_thread(void **state) {
    (void)state;
    with_events(beside_a_flood);
}

static void looks_at_posts(evutil_socket_t fd, short events, void *arg) {
    struct starve *s = arg;
    (void)fd;
    (void)events;
    s->left = s->posts;
}

/* The budget: a turn takes a part of what is in the inbox, then descriptors have theirs. */
static void drain_has_a_budget(void **state) {
    (void)state;
    enum { ITEMS = 50000 };
    struct starve s = {.base = event_base_new(), .left = -1};
    s.loop = ferry_loop_attach(s.base);
    assert_int_equal(pipe(s.fds), 0);
    struct event *fd = event_new(s.base, s.fds[0], EV_READ, looks_at_posts, &s);
    assert_int_equal(event_add(fd, NULL), 0);
    assert_int_equal(write(s.fds[1], "x", 1), 1);
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(ferry_post(s.loop, counts, &s.posts), 0);
    assert_int_equal(event_base_dispatch(s.base), 1);
    assert_true(s.left >= 0 && s.left < ITEMS);
    assert_int_equal(s.posts, ITEMS);
    event_free(fd);
    close(s.fds[0]);
    close(s.fds[1]);
    end_loop(s.loop);
    event_base_free(s.base);
}

/* The other way round: an event of the program's that is due at every pass. */
static void keeps_busy(evutil_socket_t fd, short events, void *arg) {
    struct starve *s = arg;
    (void)fd;
    (void)events;
    s->reads++;
}

static int64_t mark_over(void *arg) {
    atomic_store(&((struct starve *)arg)->over, true);
    return 0;
}

static void *posts_to_a_busy_base(void *arg) {
    struct starve *s = arg;
    CHECK_INT(ferry_await(ferry_spawn_on(s->loop, sleeps_shortly, NULL)), 8);
    CHECK_INT(ferry_post(s->loop, mark_over, s), 0);
    return NULL;
}

static void beside_busy_events(void **state) {
    (void)state;
    struct starve s = {.base = event_base_new()};
    s.loop = ferry_loop_attach(s.base);
    assert_int_equal(pipe(s.fds), 0);
    struct event *fd = event_new(s.base, s.fds[0], EV_READ | EV_PERSIST, keeps_busy, &s);
    assert_int_equal(event_add(fd, NULL), 0);
    assert_int_equal(write(s.fds[1], "x", 1), 1);
    pthread_t thread = start_thread(posts_to_a_busy_base, &s);
    while (!atomic_load(&s.over))
        assert_int_equal(event_base_loop(s.base, EVLOOP_ONCE), 0);
    pthread_join(thread, NULL);
    assert_true(s.reads > 0);
    event_free(fd);
    close(s.fds[0]);
    close(s.fds[1]);
    end_loop(s.loop);
    event_base_free(s.base);
}

/* ---- Rule 21 --------------------------------------------------------------------------------- */

struct blocked {
    ferry_future *task;
    ferry_mutex mutex;
    ferry_loop *loop;
};

static void must_not_wait(evutil_socket_t fd, short events, void *arg) {
    struct blocked *b = arg;
    (void)fd;
    (void)events;
    CHECK_INT(ferry_await(b->task), -EDEADLK);
    CHECK_INT(ferry_wait(b->task), -EDEADLK);
    CHECK_INT(ferry_wait_for(b->task, 1), -EDEADLK);
    CHECK_INT(ferry_lock(&b->mutex), -EDEADLK);
    CHECK_INT(ferry_sleep(1), -EDEADLK);
    ferry_cancel(b->task);
}

static int64_t holds(void *arg) {
    struct blocked *b = arg;
    CHECK_INT(ferry_lock(&b->mutex), 0);
    int64_t rc = ferry_sleep(LONG);
    CHECK_INT(ferry_unlock(&b->mutex), 0);
    return rc;
}

static void waiting_on_its_thread(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct blocked b = {.loop = ferry_loop_attach(base)};
    b.task = ferry_spawn_on(b.loop, holds, &b);
    assert_int_equal(ferry_await(b.task), -EDEADLK); /* also before the base is dispatched */
    struct event *timer = event_new(base, -1, 0, must_not_wait, &b);
    assert_int_equal(event_add(timer, &(struct timeval){0, 2000}), 0);
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(ferry_await(b.task), FERRY_EJOBCANCELED);
    event_free(timer);
    end_loop(b.loop);
    event_base_free(base);
}

/* ---- Two loops ------------------------------------------------------------------------------- */

struct side {
    ferry_loop *loop;
    struct side *other;
    gate *start;
    int begun, served; /* its loop's thread */
};

static int64_t serves(void *arg) {
    struct side *s = arg;
    CHECK(ferry_loop_current() == s->loop);
    int n = ++s->begun;
    ferry_yield();
    s->served++; /* the run may end now */
    return n;
}

enum { ROUNDS = 300 };

static int64_t asks_the_other(void *arg) {
    struct side *s = arg;
    for (int i = 1; i <= ROUNDS; i++) {
        ferry_future *task = ferry_spawn_on(s->other->loop, serves, s->other);
        ferry_future *shared = ferry_ref(task);
        CHECK_INT(ferry_wait(task), 0);
        CHECK_INT(ferry_await(task), i);
        CHECK_INT(ferry_result(shared), i);
        ferry_detach(shared);
    }
    while (s->served < ROUNDS)
        ferry_sleep(1);
    return ROUNDS;
}

static void *runs_side(void *arg) {
    struct side *s = arg;
    may_call_libevent = true;
    gate_wait(s->start);
    CHECK_INT(ferry_loop_run(s->loop, asks_the_other, s), ROUNDS);
    return NULL;
}

static void two_loops(void **state) {
    (void)state;
    gate start = GATE_INIT;
    struct side sides[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        sides[i] = (struct side){.loop = ferry_loop_new(), .other = &sides[1 - i], .start = &start};
    for (int i = 0; i < 2; i++)
        threads[i] = start_thread(runs_side, &sides[i]);
    gate_open(&start);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sides[i].served, ROUNDS);
        end_loop(sides[i].loop);
    }
    gate_destroy(&start);
}

/* ---- Without memory -------------------------------------------------------------------------- */

static void *event_malloc(size_t size) {
    return oom_refuses() ? NULL : malloc(size);
}

static void *event_realloc(void *block, size_t size) {
    return oom_refuses() ? NULL : realloc(block, size);
}

static void without_memory(void **state) {
    (void)state;
    long blocks = oom_blocks();
    for (int attached = 0; attached < 2; attached++) {
        ferry_loop *loop = NULL;
        int n = 0;
        for (; !loop; n++) {
            assert_true(n < 1000);
            struct event_base *base = attached ? event_base_new() : NULL;
            oom_after(n, true);
            errno = 0;
            loop = base ? ferry_loop_attach(base) : ferry_loop_new();
            int error = errno;
            oom_never();
            if (loop)
                end_loop(loop);
            else
                assert_int_equal(error, ENOMEM);
            if (base)
                event_base_free(base);
            if (!loop)
                assert_int_equal(oom_blocks(), blocks);
        }
        assert_true(n > 3);
    }
    assert_int_equal(oom_blocks(), blocks);
}

int main(void) {
    oom_install();
    event_set_mem_functions(event_malloc, event_realloc, free);
    event_set_log_callback(quiet_libevent); /* of the test without memory */
    may_call_libevent = true;
    static const struct CMUnitTest tests[] = {
        CASE("RUN-02 a run inside a task, a job or a callback", run_inside),
        CASE("RUN-03 a stopped run can be gone on with", stopped_run),
        CASE("RUN-03 stopped by another thread while it sleeps", stopped_from_a_thread),
        CASE("RUN-03 a stop before a run: one pass that doesn't wait", stop_before_a_run),
        CASE("RUN-05 giving back while it runs, or with tasks, jobs and callbacks", give_back),
        CASE("what can't be run or attached", refusals),
        CASE("rule 16: other threads never call libevent", only_its_own_thread),
        CASE("rule 18: one wake-up for many posts, none while it is awake", wakes_are_counted),
        CASE("attached: dispatch returns when nothing is outstanding", dispatch_ends),
        CASE("attached: what was handed in before the first dispatch", handed_in_before),
        CASE("attached: tasks that yield for ever starve nobody", not_by_a_task),
        CASE("attached: a callback that posts itself starves nobody", not_by_posts),
        CASE("attached: a thread that floods it with posts starves nobody", not_by_a_thread),
        CASE("rule 19: draining the inbox has a budget", drain_has_a_budget),
        CASE("attached: foreign work reaches a base that its own events keep busy",
             beside_busy_events),
        CASE("rule 21: waiting on its thread outside a task", waiting_on_its_thread),
        CASE("two loops on two threads exchange handles", two_loops),
        CASE("loops without memory", without_memory),
    };
    return SUPPORT_RUN(tests);
}

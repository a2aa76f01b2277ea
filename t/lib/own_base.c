/* Programs that bring their own event_base: made with any flags, with priorities, dispatched in
 * any way, beside their own bufferevents, signals and timers, and freed too early. (Starvation
 * and the like: loop.c.) */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "core.h"
#include "parked.h"
#include "quiet.h"
#include "support.h"
#include "waiters.h"

#define HOUR 3600000

static int64_t counts(void *arg) {
    return ++*(int *)arg;
}

static void fires(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    ++*(int *)arg;
}

/* ---- Any base -------------------------------------------------------------------------------- */

struct beside {
    ferry_loop *loop;
    struct event_base *base;
    struct bufferevent *pair[2];
    ferry_queue *lines; /* what the program's callback read */
    int posts, signals, timers;
};

static void echo(struct bufferevent *b, void *arg) {
    (void)arg;
    bufferevent_write_buffer(b, bufferevent_get_input(b));
}

static void line_read(struct bufferevent *b, void *arg) {
    struct beside *s = arg;
    char *line;
    while ((line = evbuffer_readln(bufferevent_get_input(b), NULL, EVBUFFER_EOL_LF)))
        CHECK_INT(ferry_queue_try_put(s->lines, line), 0);
}

static void *posts_from_outside(void *arg) {
    struct beside *s = arg;
    CHECK_INT(ferry_post(s->loop, counts, &s->posts), 0);
    CHECK_INT(ferry_await(ferry_spawn_on(s->loop, counts, &s->posts)), 2);
    return NULL;
}

/* A task writes by the program's bufferevent, and the program's callback hands it what came
 * back. */
static int64_t works_beside(void *arg) {
    struct beside *s = arg;
    void *line;
    for (int i = 0; i < 20; i++) {
        CHECK_INT(bufferevent_write(s->pair[0], "ping\n", 5), 0);
        CHECK_INT(ferry_queue_get(s->lines, &line), 0);
        CHECK_STR(line, "ping");
        free(line);
        CHECK_INT(ferry_await(ferry_submit(NULL, counts, &(int){i})), i + 1);
    }
    CHECK_INT(ferry_sleep(1), 0);
    kill(getpid(), SIGUSR1);
    while (s->signals == 0 || s->timers == 0 || s->posts < 2)
        CHECK_INT(ferry_sleep(1), 0);
    bufferevent_disable(s->pair[0], EV_READ | EV_WRITE);
    bufferevent_disable(s->pair[1], EV_READ | EV_WRITE);
    return 5;
}

static void use_base(struct event_base *base) {
    struct beside s = {
        .base = base, .loop = ferry_loop_attach(base), .lines = ferry_queue_new(100, NULL)};
    int fds[2];
    assert_non_null(s.loop);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        s.pair[i] = bufferevent_socket_new(base, fds[i], BEV_OPT_CLOSE_ON_FREE);
        bufferevent_setcb(s.pair[i], i == 0 ? line_read : echo, NULL, NULL, &s);
        bufferevent_enable(s.pair[i], EV_READ | EV_WRITE);
    }
    struct event *on_signal = event_new(base, SIGUSR1, EV_SIGNAL, fires, &s.signals);
    struct event *on_timer = event_new(base, -1, 0, fires, &s.timers);
    assert_int_equal(event_add(on_signal, NULL), 0);
    assert_int_equal(event_add(on_timer, &(struct timeval){0, 1000}), 0);
    ferry_future *task = ferry_spawn_on(s.loop, works_beside, &s);
    pthread_t thread = start_thread(posts_from_outside, &s);
    assert_int_equal(event_base_dispatch(base), 1);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_await(task), 5);
    assert_int_equal(s.signals, 1);
    assert_int_equal(s.timers, 1);
    event_free(on_signal);
    event_free(on_timer);
    bufferevent_free(s.pair[0]);
    bufferevent_free(s.pair[1]);
    assert_int_equal(ferry_loop_shutdown(s.loop, HOUR), 0);
    assert_int_equal(ferry_loop_free(s.loop), 0);
    assert_int_equal(ferry_queue_free(s.lines), 0);
    assert_int_equal(event_base_dispatch(base), 1); /* nothing of Ferry's is left on it */
}

static void with_any_flags(void **state) {
    (void)state;
    static const int flags[] = {0,
                                EVENT_BASE_FLAG_NOLOCK,
                                EVENT_BASE_FLAG_NO_CACHE_TIME,
                                EVENT_BASE_FLAG_PRECISE_TIMER,
                                EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST,
                                EVENT_BASE_FLAG_IGNORE_ENV | EVENT_BASE_FLAG_NOLOCK |
                                    EVENT_BASE_FLAG_NO_CACHE_TIME |
                                    EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        struct event_config *config = event_config_new();
        assert_int_equal(event_config_set_flag(config, flags[i]), 0);
        struct event_base *base = event_base_new_with_config(config);
        event_config_free(config);
        assert_non_null(base);
        use_base(base);
        event_base_free(base);
    }
}

static void with_any_method(void **state) {
    (void)state;
    const char **methods = event_get_supported_methods();
    for (int i = 0; methods[i]; i++) {
        struct event_config *config = event_config_new();
        for (int k = 0; methods[k]; k++)
            if (k != i)
                assert_int_equal(event_config_avoid_method(config, methods[k]), 0);
        struct event_base *base = event_base_new_with_config(config);
        event_config_free(config);
        assert_non_null(base);
        assert_string_equal(event_base_get_method(base), methods[i]);
        use_base(base);
        event_base_free(base);
    }
}

static void with_priorities(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    assert_int_equal(event_base_priority_init(base, 5), 0);
    use_base(base);
    use_base(base); /* and again, on the same one */
    event_base_free(base);
}

/* An echo over bufferevents, a signal and a timer of the program's, beside tasks and jobs. */
struct talk {
    struct bufferevent *pair[2];
    ferry_event answered; /* set by the program's callback */
    char answer[64];
    int signals, timers; /* loop thread */
};

static void answer_read(struct bufferevent *b, void *arg) {
    struct talk *e = arg;
    struct evbuffer *in = bufferevent_get_input(b);
    if (evbuffer_get_length(in) < 5)
        return;
    evbuffer_remove(in, e->answer, sizeof e->answer);
    ferry_event_set(&e->answered);
}

static int64_t talks(void *arg) {
    struct talk *e = arg;
    int n = 0;
    for (int i = 0; i < 100; i++) {
        char line[6] = "ping0";
        line[4] = (char)('0' + i % 10);
        ferry_event_clear(&e->answered);
        CHECK_INT(bufferevent_write(e->pair[0], line, 5), 0);
        CHECK_INT(ferry_event_wait(&e->answered), 0);
        CHECK(memcmp(e->answer, line, 5) == 0);
        CHECK_INT(ferry_await(ferry_submit(NULL, counts, &n)), i + 1);
    }
    CHECK_INT(kill(getpid(), SIGUSR1), 0);
    while (e->signals == 0 || e->timers == 0)
        CHECK_INT(ferry_sleep(1), 0);
    bufferevent_disable(e->pair[0], EV_READ | EV_WRITE);
    bufferevent_disable(e->pair[1], EV_READ | EV_WRITE);
    return 21;
}

static void beside_bufferevents(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    struct talk e = {.answered = FERRY_EVENT_INIT};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        e.pair[i] = bufferevent_socket_new(base, fds[i], BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(e.pair[0], answer_read, NULL, NULL, &e);
    bufferevent_setcb(e.pair[1], echo, NULL, NULL, &e);
    bufferevent_enable(e.pair[0], EV_READ | EV_WRITE);
    bufferevent_enable(e.pair[1], EV_READ | EV_WRITE);
    struct event *on_signal = evsignal_new(base, SIGUSR1, fires, &e.signals);
    struct event *on_timer = event_new(base, -1, 0, fires, &e.timers);
    assert_int_equal(event_add(on_signal, NULL), 0);
    assert_int_equal(event_add(on_timer, &(struct timeval){0, 1000}), 0);
    ferry_future *task = ferry_spawn_on(loop, talks, &e);
    while (!ferry_done(task))
        assert_true(event_base_loop(base, EVLOOP_ONCE) >= 0);
    assert_int_equal(ferry_await(task), 21);
    assert_int_equal(e.signals, 1);
    assert_int_equal(e.timers, 1);
    event_free(on_signal);
    event_free(on_timer);
    /* nothing is left of the program's, nor of ours */
    assert_int_equal(event_base_dispatch(base), 1);
    bufferevent_free(e.pair[0]);
    bufferevent_free(e.pair[1]);
    assert_int_equal(ferry_loop_shutdown(loop, HOUR), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    event_base_free(base);
}

/* ---- Dispatched again and again -------------------------------------------------------------- */

static void between_two_dispatches(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct beside s = {.base = base, .loop = ferry_loop_attach(base)};
    assert_int_equal(event_base_dispatch(base), 1);
    for (int i = 1; i <= 3; i++) {
        s.posts = 0;
        pthread_t thread = start_thread(posts_from_outside, &s); /* while nobody dispatches */
        while (!ferry__inbox_waits(&s.loop->inbox))
            sched_yield();
        while (s.posts < 2) /* as loop.h says: then dispatch goes on with it */
            assert_true(event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY) >= 0);
        pthread_join(thread, NULL);
        assert_int_equal(event_base_dispatch(base), 1);
    }
    assert_int_equal(ferry_loop_shutdown(s.loop, HOUR), 0);
    assert_int_equal(ferry_loop_free(s.loop), 0);
    event_base_free(base);
}

/* Two loops may stand on one base. */
static void two_on_one(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loops[2] = {ferry_loop_attach(base), ferry_loop_attach(base)};
    int n = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(ferry_post(loops[i], counts, &n), 0);
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(n, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ferry_loop_shutdown(loops[i], HOUR), 0);
        assert_int_equal(ferry_loop_free(loops[i]), 0);
    }
    event_base_free(base);
}

/* ---- Freed too early ------------------------------------------------------------------------- */

static int64_t sleeps(void *arg) {
    (void)arg;
    return ferry_sleep(HOUR);
}

static void freed_too_early(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    event_base_free(base);
    event_set_log_callback(quiet_libevent);
    assert_int_equal(ferry_loop_shutdown(loop, 0), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "freed before"));
    assert_int_equal(ferry_loop_free(loop), -EINVAL); /* its memory is free even so */
    assert_non_null(strstr(ferry_errmsg(), "freed before"));
    event_set_log_callback(NULL);
}

static void freed_with_a_task(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    static ferry_loop *loop; /* lost, with its task: a leak checker finds them here */
    static ferry_future *task;
    loop = ferry_loop_attach(base);
    task = ferry_spawn_on(loop, sleeps, NULL);
    assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
    assert_true(task_parked(task));
    event_base_free(base);
    assert_int_equal(ferry_cancel(task), FERRY_CANCEL_ASKED); /* in vain: nobody turns it */
    assert_false(ferry_done(task));
    assert_int_equal(ferry_loop_free(loop), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "then free the base"));
    assert_int_equal(ferry_loop_shutdown(loop, 0), -EINVAL);
}

/* ---- Its thread ------------------------------------------------------------------------------ */

struct survivor {
    struct event_base *base;
    ferry_loop *loop;
    struct ferry__thread *record;
    gate looked;
};

static void *dispatches_and_ends(void *arg) {
    struct survivor *s = arg;
    int n = 0;
    s->loop = ferry_loop_attach(s->base);
    s->record = ferry__thread_self();
    CHECK(ferry__loop_here(s->loop));
    ferry_detach(ferry_spawn_on(s->loop, counts, &n));
    event_base_dispatch(s->base);
    CHECK_INT(n, 1);
    return NULL;
}

static void *has_its_record(void *arg) {
    struct survivor *s = arg;
    int n = 0;
    CHECK(ferry__thread_self() == s->record);
    CHECK(!ferry__loop_here(s->loop));
    gate_wait(&s->looked);
    for (int i = 0; i < 100; i++) {
        ferry_loop *own = ferry_loop_new();
        CHECK_INT(ferry_loop_run(own, counts, &n), i + 1);
        CHECK_INT(ferry_loop_free(own), 0);
    }
    return NULL;
}

/* Another thread, which the library keeps in the same record, has loops of its own while the one
 * that was left is freed. */
static void its_thread_ends_first(void **state) {
    (void)state;
    struct survivor s = {.base = event_base_new(), .looked = GATE_INIT};
    pthread_join(start_thread(dispatches_and_ends, &s), NULL);
    pthread_t other = start_thread(has_its_record, &s);
    gate_wait_arrivals(&s.looked, 1);
    gate_open(&s.looked);
    assert_int_equal(ferry_loop_free(s.loop), 0);
    pthread_join(other, NULL);
    event_base_free(s.base);
}

struct handed_on {
    struct event_base *base;
    ferry_loop *loop;
    gate begun;
    atomic_bool over;
};

static void *takes_it_over(void *arg) {
    struct handed_on *h = arg;
    int n = 0;
    gate_wait(&h->begun);
    ferry_detach(ferry_spawn_on(h->loop, counts, &n));
    while (n == 0) /* handed in from outside: dispatch alone wouldn't see it */
        event_base_loop(h->base, EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY);
    CHECK(ferry__loop_here(h->loop));
    CHECK_INT(ferry_loop_free(h->loop), 0);
    atomic_store(&h->over, true);
    return NULL;
}

/* The one before has loops of its own meanwhile. */
static void another_thread_goes_on_with_it(void **state) {
    (void)state;
    int before = 0;
    struct handed_on h = {.base = event_base_new(), .begun = GATE_INIT};
    h.loop = ferry_loop_attach(h.base);
    ferry_detach(ferry_spawn_on(h.loop, counts, &before));
    event_base_dispatch(h.base);
    assert_int_equal(before, 1);
    pthread_t other = start_thread(takes_it_over, &h);
    gate_wait_arrivals(&h.begun, 1);
    gate_open(&h.begun);
    for (bool over = false; !over;) {
        int n = 0;
        over = atomic_load(&h.over);
        ferry_loop *own = ferry_loop_new();
        assert_int_equal(ferry_loop_run(own, counts, &n), 1);
        assert_int_equal(ferry_loop_free(own), 0);
    }
    pthread_join(other, NULL);
    assert_null(ferry__thread_self()->loop);
    event_base_free(h.base);
    gate_destroy(&h.begun);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a base with any of libevent's flags", with_any_flags),
        CASE("a base with any of libevent's methods", with_any_method),
        CASE("a base with priorities, used twice", with_priorities),
        CASE("attached: beside bufferevents, a signal and a timer", beside_bufferevents),
        CASE("what is handed in between two dispatches", between_two_dispatches),
        CASE("two loops on one base", two_on_one),
        CASE("a base that is freed before its loop", freed_too_early),
        CASE("a loop whose thread has ended isn't the next thread's", its_thread_ends_first),
        CASE("a loop that another thread goes on with", another_thread_goes_on_with_it),
        /* the last: it keeps its thread */
        CASE("a base that is freed with a task on it", freed_with_a_task),
    };
    return SUPPORT_RUN(tests);
}

/* ferry_poll() from tasks, threads, jobs and callbacks. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "core.h"
#include "oom.h"
#include "quiet.h"
#include "support.h"
#include "waiters.h"

static void put_byte(int fd) {
    CHECK_INT(write(fd, "x", 1), 1);
}

static void take_byte(int fd) {
    char byte;
    CHECK_INT(read(fd, &byte, 1), 1);
}

struct ends {
    int fd[2];
};

static struct ends open_pipe(void) {
    struct ends p;
    CHECK_INT(pipe(p.fd), 0);
    return p;
}

static struct ends open_pair(void) {
    struct ends p;
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, p.fd), 0);
    return p;
}

static void shut(struct ends *p) {
    for (int i = 0; i < 2; i++) {
        if (p->fd[i] >= 0)
            close(p->fd[i]);
        p->fd[i] = -1;
    }
}

/* One call of ferry_poll_for(), to be made wherever. */
struct call {
    int fd;
    unsigned events;
    int64_t ms;
    int rc;
    _Atomic(struct ferry__thread *) thread; /* who makes it */
};

static int64_t make_call(void *arg) {
    struct call *c = arg;
    atomic_store(&c->thread, ferry__thread_self());
    return c->rc = ferry_poll_for(c->fd, c->events, c->ms);
}

static void *make_call_in_thread(void *arg) {
    make_call(arg);
    return NULL;
}

static void until_polling(struct call *c) {
    struct ferry__thread *thread;
    while ((thread = atomic_load(&c->thread)) == NULL || !atomic_load(&thread->polling))
        sched_yield();
}

/* In a task: until n tasks of its loop wait for descriptors. */
static void until_fds(size_t n) {
    while (ferry_loop_current()->n_fds != n)
        ferry_yield();
}

/* ---- Both worlds alike ----------------------------------------------------------------------- */

/* A test that runs in the test's own thread, and once more as a task and as a job. */
#define BOTH_WORLDS(name) \
    static int64_t name##_body(void *unused); \
    static int64_t name##_job(void *unused) { \
        (void)unused; \
        return ferry_await(ferry_submit(NULL, name##_body, NULL)); \
    } \
    static void name(void **state) { \
        (void)state; \
        assert_int_equal(name##_body(NULL), 0); \
        assert_int_equal(ferry_run(name##_body, NULL), 0); \
        assert_int_equal(ferry_run(name##_job, NULL), 0); \
    } \
    static int64_t name##_body(__attribute__((unused)) void *unused)

BOTH_WORLDS(what_is_ready_is_told_at_once) {
    struct ends p = open_pipe();
    CHECK_INT(ferry_poll(p.fd[1], FERRY_WRITABLE), FERRY_WRITABLE);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, 0), -ETIMEDOUT);
    put_byte(p.fd[1]);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, 0), FERRY_READABLE);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, -1), FERRY_READABLE);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE | FERRY_HANGUP, 0), FERRY_READABLE);
    shut(&p);
    p = open_pair();
    put_byte(p.fd[1]);
    CHECK_INT(ferry_poll(p.fd[0], FERRY_READABLE | FERRY_WRITABLE),
              FERRY_READABLE | FERRY_WRITABLE);
    CHECK_INT(ferry_poll(p.fd[0], FERRY_WRITABLE), FERRY_WRITABLE);
    shut(&p);
    return 0;
}

BOTH_WORLDS(it_times_out) {
    struct ends p = open_pipe();
    int64_t start = ferry__now();
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, 20), -ETIMEDOUT);
    CHECK(ferry__now() - start >= 20 * FERRY__MS);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, 0), -ETIMEDOUT);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, -7), -ETIMEDOUT);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 5), 0);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, 3600 * 1000), -ECANCELED);
    CHECK_INT(ferry_poll(p.fd[0], FERRY_READABLE), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    shut(&p);
    return 0;
}

BOTH_WORLDS(in_a_cancelled_scope_it_does_nothing) {
    struct ends p = open_pipe();
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_poll(p.fd[1], FERRY_WRITABLE), -ECANCELED);
    CHECK_INT(ferry_poll(p.fd[0], FERRY_READABLE), -ECANCELED);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, 3600 * 1000), 0);
    CHECK_INT(ferry_poll(p.fd[1], FERRY_WRITABLE), FERRY_WRITABLE);
    CHECK_INT(ferry_poll_for(p.fd[0], FERRY_READABLE, 2), -ETIMEDOUT);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    shut(&p);
    return 0;
}

BOTH_WORLDS(bad_calls_are_refused) {
    struct ends p = open_pipe();
    CHECK_INT(ferry_poll(p.fd[0], 0), -EINVAL);
    CHECK_INT(ferry_poll(p.fd[0], 8), -EINVAL);
    CHECK_INT(ferry_poll(p.fd[0], FERRY_READABLE | 0x80000000U), -EINVAL);
    CHECK(strstr(ferry_errmsg(), "FERRY_READABLE") != NULL);
    int closed = p.fd[0];
    shut(&p);
    CHECK_INT(ferry_poll(closed, FERRY_READABLE), -EBADF);
    CHECK_STR(ferry_errmsg(), strerror(EBADF));
    CHECK_INT(ferry_poll(-1, FERRY_READABLE), -EBADF);
    CHECK_INT(ferry_poll(-1, FERRY_HANGUP), -EBADF);

    FILE *file = tmpfile();
    int folder = open("/", O_RDONLY);
    CHECK(file != NULL && folder >= 0);
    CHECK_INT(ferry_poll(fileno(file), FERRY_READABLE), -EPERM);
    CHECK_INT(ferry_poll(fileno(file), FERRY_WRITABLE), -EPERM);
    CHECK_INT(ferry_poll(fileno(file), FERRY_HANGUP), -EPERM);
    CHECK(strstr(ferry_errmsg(), "file bridge") != NULL);
    CHECK_INT(ferry_poll(folder, FERRY_READABLE), -EPERM);
    CHECK_INT(ferry_poll(folder, FERRY_HANGUP), -EPERM);
    fclose(file);
    close(folder);
    return 0;
}

/* ---- Waking up ------------------------------------------------------------------------------- */

static void a_thread_is_woken_by_data(void **state) {
    (void)state;
    struct ends p = open_pipe();
    struct call c = {.fd = p.fd[0], .events = FERRY_READABLE, .ms = FERRY_FOREVER};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, make_call_in_thread, &c), 0);
    until_polling(&c);
    put_byte(p.fd[1]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.rc, FERRY_READABLE);
    shut(&p);
}

TASK_TEST(a_task_is_woken_by_data) {
    struct ends p = open_pipe();
    struct call c = {.fd = p.fd[0], .events = FERRY_READABLE, .ms = FERRY_FOREVER};
    ferry_future *f = ferry_spawn(make_call, &c);
    until_fds(1);
    put_byte(p.fd[1]);
    CHECK_INT(ferry_await(f), FERRY_READABLE);
    CHECK_INT(ferry_loop_current()->n_fds, 0);
    take_byte(p.fd[0]);
    shut(&p);
    return 0;
}

static void *put_later(void *arg) {
    put_byte(*(int *)arg);
    return NULL;
}

TASK_TEST(a_sleeping_loop_is_woken_by_data) {
    struct ends p = open_pipe();
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, put_later, &p.fd[1]), 0);
    CHECK_INT(ferry_poll(p.fd[0], FERRY_READABLE), FERRY_READABLE);
    CHECK_INT(pthread_join(thread, NULL), 0);
    shut(&p);
    return 0;
}

/* Several on one descriptor, for the same and for different events. */
TASK_TEST(several_tasks_wait_for_one_descriptor) {
    struct ends p = open_pair();
    struct call c[] = {
        {.fd = p.fd[0], .events = FERRY_READABLE, .ms = FERRY_FOREVER},
        {.fd = p.fd[0], .events = FERRY_READABLE | FERRY_HANGUP, .ms = FERRY_FOREVER},
        {.fd = p.fd[0], .events = FERRY_HANGUP, .ms = FERRY_FOREVER}};
    ferry_future *f[3];
    for (int i = 0; i < 3; i++)
        f[i] = ferry_spawn(make_call, &c[i]);
    until_fds(3);
    put_byte(p.fd[1]);
    CHECK_INT(ferry_await(f[0]), FERRY_READABLE);
    CHECK_INT(ferry_await(f[1]), FERRY_READABLE);
    CHECK(!ferry_done(f[2]));
    CHECK_INT(shutdown(p.fd[1], SHUT_WR), 0);
    CHECK_INT(ferry_await(f[2]), FERRY_HANGUP);
    shut(&p);
    return 0;
}

static int64_t count_up(void *arg) {
    ++*(int *)arg;
    return 0;
}

/* What is always ready doesn't keep others, or deadlines, from their turn. */
TASK_TEST(an_always_ready_descriptor_lets_others_run) {
    struct ends p = open_pipe();
    int ran = 0;
    ferry_detach(ferry_spawn(count_up, &ran));
    while (ran == 0)
        CHECK_INT(ferry_poll(p.fd[1], FERRY_WRITABLE), FERRY_WRITABLE);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 5), 0);
    int rc;
    while ((rc = ferry_poll(p.fd[1], FERRY_WRITABLE)) > 0)
        continue;
    CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    shut(&p);
    return 0;
}

/* ---- Hang-ups -------------------------------------------------------------------------------- */

/* Has a peer leave while somebody waits, as a task and as a thread: `leave` gets the peer's end. */
static void in_both_worlds(struct ends (*make)(void), unsigned events, void (*leave)(int *fd),
                           int expected) {
    struct ends p = make();
    struct call c = {.fd = p.fd[0], .events = events, .ms = FERRY_FOREVER};
    ferry_future *f = ferry_spawn(make_call, &c);
    until_fds(1);
    leave(&p.fd[1]);
    CHECK_INT(ferry_await(f), expected);
    CHECK_INT(ferry_poll_for(p.fd[0], events, 0), expected);
    shut(&p);

    p = make();
    struct call d = {.fd = p.fd[0], .events = events, .ms = FERRY_FOREVER};
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, make_call_in_thread, &d), 0);
    until_polling(&d);
    leave(&p.fd[1]);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(d.rc, expected);
    shut(&p);
}

static void close_it(int *fd) {
    close(*fd);
    *fd = -1;
}

static void half_close(int *fd) {
    CHECK_INT(shutdown(*fd, SHUT_WR), 0);
}

/* Its buffer is full: not writable. */
static struct ends open_full_pair(void) {
    struct ends p = open_pair();
    char block[4096] = {0};
    while (send(p.fd[0], block, sizeof block, MSG_DONTWAIT) > 0)
        continue;
    return p;
}

/* A connection over TCP, with a byte to read that nobody reads. */
static struct ends open_tcp(void) {
    struct ends p;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(bind(listener, (struct sockaddr *)&address, length), 0);
    CHECK_INT(listen(listener, 1), 0);
    CHECK_INT(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    p.fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(connect(p.fd[0], (struct sockaddr *)&address, length), 0);
    p.fd[1] = accept(listener, NULL, NULL);
    CHECK(p.fd[1] >= 0);
    close(listener);
    put_byte(p.fd[1]);
    CHECK_INT(ferry_poll(p.fd[0], FERRY_READABLE), FERRY_READABLE);
    return p;
}

static void reset_it(int *fd) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    CHECK_INT(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close_it(fd);
}

TASK_TEST(a_peer_that_leaves_is_seen) {
    in_both_worlds(open_pair, FERRY_HANGUP, half_close, FERRY_HANGUP);
    in_both_worlds(open_pair, FERRY_HANGUP, close_it, FERRY_HANGUP);
    in_both_worlds(open_pair, FERRY_READABLE, close_it, FERRY_READABLE);
    in_both_worlds(open_pair, FERRY_READABLE | FERRY_HANGUP, half_close,
                   FERRY_READABLE | FERRY_HANGUP);
    in_both_worlds(open_full_pair, FERRY_WRITABLE | FERRY_HANGUP, half_close, FERRY_HANGUP);
    return 0;
}

TASK_TEST(a_pipe_that_ends_is_seen) {
    in_both_worlds(open_pipe, FERRY_HANGUP, close_it, FERRY_HANGUP);
    in_both_worlds(open_pipe, FERRY_READABLE, close_it, FERRY_READABLE);
    in_both_worlds(open_pipe, FERRY_READABLE | FERRY_HANGUP, close_it,
                   FERRY_READABLE | FERRY_HANGUP);
    return 0;
}

TASK_TEST(a_hang_up_is_seen_past_unread_data) {
    in_both_worlds(open_tcp, FERRY_HANGUP, half_close, FERRY_HANGUP);
    in_both_worlds(open_tcp, FERRY_HANGUP, reset_it, FERRY_HANGUP);
    return 0;
}

/* ---- Cancelling ------------------------------------------------------------------------------ */

TASK_TEST(a_cancelled_task_leaves_no_event) {
    struct ends p = open_pipe();
    struct event_base *base = ferry_loop_base(ferry_loop_current());
    static const unsigned events[] = {FERRY_READABLE, FERRY_HANGUP};
    for (int i = 0; i < 2; i++) {
        struct call c = {.fd = p.fd[0], .events = events[i], .ms = 3600 * 1000};
        int before = event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED);
        int spare_before = dup(p.fd[0]);
        close(spare_before);
        ferry_future *f = ferry_spawn(make_call, &c);
        until_fds(1);
        CHECK_INT(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), before + 1);
        CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
        CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
        CHECK_INT(c.rc, -ECANCELED);
        CHECK_INT(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), before);
        CHECK_INT(ferry_loop_current()->n_fds, 0);
        int spare = dup(p.fd[0]); /* the lowest free number: no descriptor was left open */
        CHECK_INT(spare, spare_before);
        close(spare);
    }
    shut(&p);
    return 0;
}

struct scoped_call {
    struct call call;
    ferry_scope scope;
};

static void *make_call_in_scope(void *arg) {
    struct scoped_call *c = arg;
    CHECK_INT(ferry_scope_open(&c->scope, FERRY_FOREVER), 0);
    make_call(&c->call);
    CHECK_INT(ferry_scope_close(&c->scope, c->call.rc), 0);
    return NULL;
}

static void a_thread_is_cancelled_by_its_scope(void **state) {
    (void)state;
    struct ends p = open_pipe();
    struct scoped_call c = {.call = {.fd = p.fd[0], .events = FERRY_READABLE, .ms = FERRY_FOREVER},
                            .scope = FERRY_SCOPE_INIT};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, make_call_in_scope, &c), 0);
    until_polling(&c.call);
    ferry_scope_cancel(&c.scope);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.call.rc, -ECANCELED);
    shut(&p);
}

static void a_job_is_cancelled(void **state) {
    (void)state;
    struct ends p = open_pipe();
    struct call c = {.fd = p.fd[0], .events = FERRY_READABLE, .ms = FERRY_FOREVER};
    ferry_future *f = ferry_submit(NULL, make_call, &c);
    until_polling(&c);
    assert_int_equal(ferry_cancel(f), FERRY_CANCEL_ASKED);
    assert_int_equal(ferry_await(f), FERRY_EJOBCANCELED);
    assert_int_equal(c.rc, -ECANCELED);
    shut(&p);
}

static void a_stray_kick_ends_nothing(void **state) {
    (void)state;
    struct ends p = open_pipe();
    struct call c = {.fd = p.fd[0], .events = FERRY_READABLE, .ms = FERRY_FOREVER};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, make_call_in_thread, &c), 0);
    for (int i = 0; i < 20; i++) {
        until_polling(&c);
        ferry__thread_kick(atomic_load(&c.thread));
    }
    put_byte(p.fd[1]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.rc, FERRY_READABLE);
    shut(&p);
}

/* On an attached base the test decides what happens between two passes. */
struct attached {
    struct event_base *base;
    ferry_loop *loop;
};

static struct attached attach(void) {
    struct attached a;
    a.base = event_base_new();
    a.loop = a.base ? ferry_loop_attach(a.base) : NULL;
    CHECK(a.loop != NULL);
    return a;
}

static void pass(struct attached *a) {
    event_base_loop(a->base, EVLOOP_NONBLOCK);
}

static void detach(struct attached *a) {
    CHECK_INT(ferry_loop_free(a->loop), 0);
    event_base_free(a->base);
}

static int64_t poll_twice(void *arg) {
    struct call *c = arg;
    c->rc = ferry_poll(c->fd, c->events);
    return c->rc < 0 ? c->rc : ferry_poll(c->fd, c->events);
}

static void first_wake_wins(void **state) {
    (void)state;
    struct attached a = attach();
    struct ends p = open_pipe();
    struct call c = {.fd = p.fd[0], .events = FERRY_READABLE};
    ferry_future *f = ferry_spawn_on(a.loop, poll_twice, &c);
    while (a.loop->n_fds == 0)
        pass(&a);
    struct ferry__waiter *w = ((struct ferry__task *)f)->ctx.parked;
    put_byte(p.fd[1]);
    while (atomic_load(&w->outcome) ==
           FERRY__WAITING) /* granted by libevent's callback, outside a turn */
        event_base_loop(a.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_false(ferry_done(f));
    assert_int_equal(ferry_cancel(f), FERRY_CANCEL_ASKED);
    while (!ferry_done(f))
        pass(&a);
    assert_int_equal(c.rc, FERRY_READABLE);
    assert_int_equal(ferry_result(f), FERRY_EJOBCANCELED);
    ferry_detach(f);
    shut(&p);
    detach(&a);
}

static void a_cancel_before_the_data_wins(void **state) {
    (void)state;
    struct attached a = attach();
    struct ends p = open_pipe();
    struct call c = {.fd = p.fd[0], .events = FERRY_READABLE};
    ferry_future *f = ferry_spawn_on(a.loop, poll_twice, &c);
    while (a.loop->n_fds == 0)
        pass(&a);
    assert_int_equal(ferry_cancel(f), FERRY_CANCEL_ASKED);
    struct ferry__waiter *w = ((struct ferry__task *)f)->ctx.parked;
    int outcome = w ? atomic_load(&w->outcome) : FERRY__CANCELED;
    put_byte(p.fd[1]);
    while (!ferry_done(f))
        pass(&a);
    assert_int_equal(outcome, FERRY__CANCELED);
    assert_int_equal(c.rc, -ECANCELED);
    take_byte(p.fd[0]); /* still there */
    ferry_detach(f);
    shut(&p);
    detach(&a);
}

/* ---- Callbacks, and limits ------------------------------------------------------------------- */

static int64_t poll_in_callback(void *arg) {
    struct ends *p = arg;
    CHECK_INT(ferry_poll(p->fd[1], FERRY_WRITABLE), FERRY_WRITABLE); /* nothing to wait for */
    CHECK_INT(ferry_poll_for(p->fd[0], FERRY_READABLE, 1), -EDEADLK);
    return 0;
}

static void a_callback_may_not_wait(void **state) {
    (void)state;
    struct attached a = attach();
    struct ends p = open_pipe();
    assert_int_equal(ferry_post(a.loop, poll_in_callback, &p), 0);
    pass(&a);
    pass(&a);
    assert_int_equal(poll_in_callback(&p), 0); /* the loop's thread, outside of any callback */
    shut(&p);
    detach(&a);
}

static struct rlimit descriptors_before;

/* From now on no descriptor can be opened, until descriptors_before is put back. */
static void no_more_descriptors(void) {
    int lowest = dup(0);
    close(lowest);
    getrlimit(RLIMIT_NOFILE, &descriptors_before);
    struct rlimit now = descriptors_before;
    now.rlim_cur = (rlim_t)lowest;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &now), 0);
}

static void *make_call_without_bell(void *arg) {
    ferry__bell_fini(&ferry__thread_self()->bell); /* the record may be an older thread's */
    no_more_descriptors();
    return make_call_in_thread(arg);
}

static void without_descriptors_it_says_so(void **state) {
    (void)state;
    struct ends p = open_pair();
    struct attached a = attach();
    struct call c = {.fd = p.fd[0], .events = FERRY_READABLE, .ms = 0};
    struct call d = {.fd = p.fd[0], .events = FERRY_HANGUP, .ms = 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, make_call_without_bell, &c), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    ferry_future *f = ferry_spawn_on(a.loop, make_call, &d);
    while (!ferry_done(f))
        pass(&a);
    setrlimit(RLIMIT_NOFILE, &descriptors_before);
    assert_int_equal(c.rc, -EMFILE);
    assert_int_equal(d.rc, -EMFILE);
    assert_int_equal(ferry_result(f), -EMFILE);
    assert_int_equal(a.loop->n_fds, 0);
    ferry_detach(f);
    shut(&p);
    detach(&a);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* libevent's allocations, which run out when a test says so. */
static long libevent_left = -1; /* < 0: any number */

static bool libevent_may(void) {
    return libevent_left < 0 || libevent_left-- > 0;
}

static void *libevent_malloc(size_t size) {
    return libevent_may() ? malloc(size) : NULL;
}

static void *libevent_realloc(void *block, size_t size) {
    return libevent_may() ? realloc(block, size) : NULL;
}

static int64_t poll_until_memory_suffices(void *arg) {
    struct call *c = arg;
    int failed = 0;
    for (long n = 0;; n++, failed++) {
        libevent_left = n;
        int rc = ferry_poll_for(c->fd, c->events, 0);
        libevent_left = -1;
        CHECK_INT(ferry_loop_current()->n_fds, 0);
        if (rc != -ENOMEM)
            return CHECK_INT(rc, -ETIMEDOUT) && CHECK(failed > 0) ? 0 : -EPROTO;
    }
}

TASK_TEST(without_memory_for_the_event_it_says_so) {
    static const unsigned events[] = {FERRY_READABLE, FERRY_HANGUP};
    for (int i = 0; i < 2; i++) {
        struct ends p = open_pipe();
        int high = fcntl(p.fd[0], F_DUPFD, 700 + 300 * i); /* libevent's table must grow for it */
        struct call c = {.fd = high, .events = events[i]};
        CHECK_INT(poll_until_memory_suffices(&c), 0);
        close(high);
        shut(&p);
    }
    return 0;
}

static void *poll_without_record(void *arg) {
    oom_after(0, true);
    make_call_in_thread(arg);
    oom_never();
    return NULL;
}

static void a_thread_without_a_record_is_told(void **state) {
    (void)state;
    struct ends p = open_pipe();
    struct call c = {.fd = p.fd[1], .events = FERRY_WRITABLE};
    pthread_t thread;
    /* The first test: there is no spare record of a thread that has ended. */
    assert_int_equal(pthread_create(&thread, NULL, poll_without_record, &c), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.rc, -ENOMEM);
    shut(&p);
}

/* ---- A storm --------------------------------------------------------------------------------- */

/* Waiters that come and go by time-outs, while bytes come: each byte is taken by who was told of
 * it, none is lost. */
struct storm {
    struct ends pipe;
    atomic_int taken, left;
};

static int64_t storm_reader(void *arg) {
    struct storm *s = arg;
    while (atomic_load(&s->left) > 0) {
        int rc = ferry_poll_for(s->pipe.fd[0], FERRY_READABLE, 1);
        char byte;
        if (CHECK(rc == FERRY_READABLE || rc == -ETIMEDOUT) && rc > 0 &&
            read(s->pipe.fd[0], &byte, 1) == 1) {
            atomic_fetch_add(&s->taken, 1);
            atomic_fetch_sub(&s->left, 1);
        }
    }
    return 0;
}

static void *storm_reader_in_thread(void *arg) {
    storm_reader(arg);
    return NULL;
}

TASK_TEST(waits_come_and_go_while_data_comes) {
    int bytes = support_slow() ? 200 : 2000;
    struct storm s = {.pipe = open_pipe()};
    fcntl(s.pipe.fd[0], F_SETFL, O_NONBLOCK);
    atomic_init(&s.left, bytes);
    ferry_future *tasks[4];
    pthread_t threads[2];
    for (int i = 0; i < 4; i++)
        tasks[i] = ferry_spawn(storm_reader, &s);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, storm_reader_in_thread, &s), 0);
    for (int i = 0; i < bytes; i++) {
        CHECK_INT(ferry_poll(s.pipe.fd[1], FERRY_WRITABLE), FERRY_WRITABLE);
        put_byte(s.pipe.fd[1]);
        if (i % 50 == 0)
            CHECK_INT(ferry_sleep(1), 0);
    }
    for (int i = 0; i < 4; i++)
        CHECK_INT(ferry_await(tasks[i]), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(atomic_load(&s.taken), bytes);
    shut(&s.pipe);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a thread without a record is told that memory is short",
             a_thread_without_a_record_is_told),
        CASE("SCP-02 what is ready is told at once, also with a time-out of zero",
             what_is_ready_is_told_at_once),
        CASE("SCP-01 SCP-04 it times out, by itself or by its scope, never early", it_times_out),
        CASE("CAN-11 SCP-15 in a cancelled scope nothing is looked at; a shield holds",
             in_a_cancelled_scope_it_does_nothing),
        CASE("bad calls are refused alike in both worlds", bad_calls_are_refused),
        CASE("a thread is woken by data", a_thread_is_woken_by_data),
        CASE("a task is woken by data", a_task_is_woken_by_data),
        CASE("a loop that sleeps is woken by data", a_sleeping_loop_is_woken_by_data),
        CASE("several tasks wait for one descriptor", several_tasks_wait_for_one_descriptor),
        CASE("SCP-22 a descriptor that is always ready lets others run",
             an_always_ready_descriptor_lets_others_run),
        CASE("a peer that leaves is seen", a_peer_that_leaves_is_seen),
        CASE("a pipe that ends is seen", a_pipe_that_ends_is_seen),
        CASE("a hang-up is seen past unread data, a reset too", a_hang_up_is_seen_past_unread_data),
        CASE("CAN-01 CAN-10 a cancelled task ends at once and leaves no event",
             a_cancelled_task_leaves_no_event),
        CASE("CAN-16 a thread is cancelled by its scope", a_thread_is_cancelled_by_its_scope),
        CASE("a job is cancelled by its handle", a_job_is_cancelled),
        CASE("a stray kick ends nothing", a_stray_kick_ends_nothing),
        CASE("CAN-07 first wake wins: ready, then cancelled", first_wake_wins),
        CASE("CAN-07 first wake wins: cancelled, then ready", a_cancel_before_the_data_wins),
        CASE("THR-09 a callback may look, but not wait", a_callback_may_not_wait),
        CASE("without descriptors it says so", without_descriptors_it_says_so),
        CASE("without memory for the event it says so", without_memory_for_the_event_it_says_so),
        CASE("waits come and go while data comes", waits_come_and_go_while_data_comes),
    };
    event_set_mem_functions(libevent_malloc, libevent_realloc, free);
    event_set_log_callback(quiet_libevent);
    oom_install();
    return SUPPORT_RUN(tests);
}

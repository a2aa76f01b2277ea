/* Waiting for signals, from tasks and threads, and the library's own watches.
 *
 * A thread that raises a signal has run the handler when raise() returns. So the order in which
 * signals come is the test's own; only their hand-over by the service thread is waited for. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "core.h"
#include "oom.h"
#include "service.h"
#include "signal_wait.h"
#include "support.h"
#include "waiters.h"

static bool has_handler(int signo, void (*handler)(int)) {
    struct sigaction now;
    sigaction(signo, NULL, &now);
    return (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == handler;
}

static int64_t wait_usr1(void *arg) {
    (void)arg;
    return ferry_signal_wait(SIGUSR1);
}

static void *wait_usr1_in_thread(void *arg) {
    *(int64_t *)arg = ferry_signal_wait(SIGUSR1);
    return NULL;
}

/* Lets others run until n wait. In a task, or in a thread. */
static void until_awaited(size_t n) {
    while (ferry__signals_awaited() != n)
        ferry_yield();
}

/* Without letting other tasks run. */
static void until_handed_over(void) {
    while (ferry__signals_awaited() != 0)
        sched_yield();
}

/* Takes the signal over, with nothing kept. */
static void take_usr1(void) {
    CHECK_INT(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT);
    CHECK(!has_handler(SIGUSR1, SIG_DFL));
}

static int give_back(void **state) {
    (void)state;
    (void)ferry_signal_restore(SIGUSR1);
    return has_handler(SIGUSR1, SIG_DFL) ? 0 : -1;
}

/* ---- Getting it ------------------------------------------------------------------------------ */

static void a_thread_gets_it(void **state) {
    (void)state;
    pthread_t thread;
    int64_t rc = 1;
    assert_int_equal(pthread_create(&thread, NULL, wait_usr1_in_thread, &rc), 0);
    until_awaited(1);
    raise(SIGUSR1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rc, 0);
}

TASK_TEST(a_task_gets_it) {
    ferry_future *waiter = ferry_spawn(wait_usr1, NULL);
    until_awaited(1);
    raise(SIGUSR1);
    CHECK_INT(ferry_await(waiter), 0);
    return 0;
}

static void *raise_in_thread(void *arg) {
    until_awaited(1);
    raise(SIGUSR1);
    return arg;
}

TASK_TEST(it_wakes_a_sleeping_loop) {
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, raise_in_thread, NULL), 0);
    CHECK_INT(ferry_signal_wait(SIGUSR1), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    return 0;
}

TASK_TEST(every_waiter_gets_it) {
    pthread_t thread;
    int64_t rc = 1;
    ferry_future *tasks[3];
    CHECK_INT(pthread_create(&thread, NULL, wait_usr1_in_thread, &rc), 0);
    for (int i = 0; i < 3; i++)
        tasks[i] = ferry_spawn(wait_usr1, NULL);
    until_awaited(4);
    raise(SIGUSR1);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(tasks[i]), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(rc, 0);
    CHECK_INT(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT); /* none is left over */
    return 0;
}

static void what_comes_between_two_waits_is_kept(void **state) {
    (void)state;
    take_usr1();
    for (int i = 0; i < 3; i++)
        raise(SIGUSR1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), 0); /* ready beats a time-out of zero */
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT);
}

static void two_signals_are_two(void **state) {
    (void)state;
    take_usr1();
    assert_int_equal(ferry_signal_wait_for(SIGUSR2, 0), -ETIMEDOUT);
    raise(SIGUSR1);
    assert_int_equal(ferry_signal_wait_for(SIGUSR2, 1), -ETIMEDOUT);
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), 0);
    assert_int_equal(ferry_signal_restore(SIGUSR2), 0);
    assert_true(has_handler(SIGUSR2, SIG_DFL));
}

/* One waiter and several who raise: each signal ends one wait, none is lost. */
enum { RAISERS = 3 };

static void *raise_many(void *arg) {
    for (int i = *(int *)arg; i > 0; i--)
        raise(SIGUSR1);
    return NULL;
}

static void none_is_lost(void **state) {
    (void)state;
    pthread_t threads[RAISERS];
    int times = support_slow() ? 50 : 1000;
    take_usr1();
    for (int i = 0; i < RAISERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, raise_many, &times), 0);
    for (int i = 0; i < RAISERS * times; i++)
        assert_int_equal(ferry_signal_wait(SIGUSR1), 0);
    for (int i = 0; i < RAISERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT);
}

/* ---- Not getting it -------------------------------------------------------------------------- */

TASK_TEST(a_cancelled_wait_leaves_the_signal) {
    ferry_future *waiter = ferry_spawn(wait_usr1, NULL);
    until_awaited(1);
    CHECK_INT(ferry_cancel(waiter), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(waiter), FERRY_EJOBCANCELED);
    CHECK_INT(ferry__signals_awaited(), 0);
    raise(SIGUSR1);
    CHECK_INT(ferry_signal_wait_for(SIGUSR1, 0), 0);
    return 0;
}

static int64_t wait_twice(void *arg) {
    (void)arg;
    int rc = ferry_signal_wait(SIGUSR1);
    return rc < 0 ? rc : ferry_signal_wait(SIGUSR1) == -ECANCELED ? 42 : -EPROTO;
}

TASK_TEST(first_wake_wins) {
    ferry_future *waiter = ferry_spawn(wait_twice, NULL);
    until_awaited(1);
    raise(SIGUSR1);
    until_handed_over(); /* the waiter was granted, and can't have run yet */
    CHECK_INT(ferry_cancel(waiter), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(waiter), 42);
    return 0;
}

static void it_times_out(void **state) {
    (void)state;
    int64_t start = ferry__now();
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 20), -ETIMEDOUT);
    assert_true(ferry__now() - start >= 20 * FERRY__MS);
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, -5), -ETIMEDOUT); /* not: for ever */
    assert_int_equal(ferry__signals_awaited(), 0);
}

TASK_TEST(a_task_times_out) {
    CHECK_INT(ferry_signal_wait_for(SIGUSR1, 5), -ETIMEDOUT);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 5), 0);
    CHECK_INT(ferry_signal_wait(SIGUSR1), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(ferry__signals_awaited(), 0);
    return 0;
}

static void in_a_cancelled_scope_nothing_is_taken_over(void **state) {
    (void)state;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_cancel(&scope);
    assert_int_equal(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    assert_int_equal(ferry_signal_wait(SIGUSR1), -ECANCELED);
    assert_int_equal(ferry_scope_close(&scope, -ECANCELED), 0);
    assert_true(has_handler(SIGUSR1, SIG_DFL));
}

struct cancelled_thread {
    ferry_scope scope;
    int rc;
};

static void *wait_in_scope(void *arg) {
    struct cancelled_thread *t = arg;
    CHECK_INT(ferry_scope_open(&t->scope, FERRY_FOREVER), 0);
    t->rc = ferry_signal_wait(SIGUSR1);
    CHECK_INT(ferry_scope_close(&t->scope, t->rc), 0);
    return NULL;
}

static void a_thread_is_cancelled_by_its_scope(void **state) {
    (void)state;
    pthread_t thread;
    struct cancelled_thread t = {.scope = FERRY_SCOPE_INIT};
    assert_int_equal(pthread_create(&thread, NULL, wait_in_scope, &t), 0);
    until_awaited(1);
    ferry_scope_cancel(&t.scope);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(t.rc, -ECANCELED);
    assert_int_equal(ferry__signals_awaited(), 0);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

static void some_signals_cant_be_waited_for(void **state) {
    (void)state;
    static const int signals[] = {0, -1, 100000, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        assert_int_equal(ferry_signal_wait_for(signals[i], 0), -EINVAL);
        assert_int_equal(ferry_signal_restore(signals[i]), -EINVAL);
    }
    assert_int_equal(ferry_signal_wait_for(SIGKILL, 0), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "can't be waited for"));
#ifdef __GLIBC__
    assert_int_equal(ferry_signal_wait_for(SIGRTMIN - 1, 0), -EINVAL); /* the C library's own */
#endif
}

static int64_t wait_in_callback(void *arg) {
    (void)arg;
    CHECK_INT(ferry_signal_wait(SIGUSR1), -EDEADLK);
    CHECK(has_handler(SIGUSR1, SIG_DFL));
    return 0;
}

TASK_TEST(a_callback_may_not_wait) {
    CHECK_INT(ferry_post(ferry_loop_current(), wait_in_callback, NULL), 0);
    CHECK_INT(ferry_sleep(1), 0);
    return 0;
}

/* ---- Giving it back -------------------------------------------------------------------------- */

static atomic_int handled;

static void count_handled(int signo) {
    (void)signo;
    atomic_fetch_add(&handled, 1);
}

static void restore_puts_the_handler_back(void **state) {
    (void)state;
    atomic_store(&handled, 0);
    signal(SIGUSR1, count_handled);
    take_usr1();
    raise(SIGUSR1);
    assert_int_equal(atomic_load(&handled), 0);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
    assert_true(has_handler(SIGUSR1, count_handled));
    raise(SIGUSR1);
    assert_int_equal(atomic_load(&handled), 1);
    assert_int_equal(ferry_signal_restore(SIGUSR1), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "nothing to put back"));
    take_usr1(); /* what was kept before is forgotten */
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
    signal(SIGUSR1, SIG_IGN);
    take_usr1();
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
    assert_true(has_handler(SIGUSR1, SIG_IGN));
    signal(SIGUSR1, SIG_DFL);
}

static void a_newer_handler_is_left_alone(void **state) {
    (void)state;
    take_usr1();
    signal(SIGUSR1, count_handled);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
    assert_true(has_handler(SIGUSR1, count_handled));
    signal(SIGUSR1, SIG_DFL);
}

static void restore_ends_waits(void **state) {
    (void)state;
    pthread_t thread;
    int64_t rc = 1;
    assert_int_equal(pthread_create(&thread, NULL, wait_usr1_in_thread, &rc), 0);
    until_awaited(1);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rc, FERRY_ECLOSED);
    assert_true(has_handler(SIGUSR1, SIG_DFL));
}

/* ---- Watches --------------------------------------------------------------------------------- */

struct watcher {
    gate calls; /* arrivals are counted */
    struct ferry__signal_watch *watch;
    bool unwatch; /* from inside */
    atomic_bool inside;
};

static void watch_called(void *arg) {
    struct watcher *w = arg;
    CHECK(ferry__service_here());
    if (w->unwatch)
        ferry__signal_unwatch(w->watch);
    atomic_store(&w->inside, true);
    gate_wait(&w->calls);
    atomic_store(&w->inside, false);
}

static struct watcher *open_watcher(struct watcher *w) {
    w->watch = NULL;
    w->unwatch = false;
    atomic_init(&w->inside, false);
    gate_init(&w->calls);
    assert_int_equal(ferry__signal_watch(SIGUSR1, watch_called, w, &w->watch), 0);
    return w;
}

static void a_watch_is_called_for_each(void **state) {
    (void)state;
    struct watcher a, b;
    long blocks = oom_blocks();
    gate_open(&open_watcher(&a)->calls);
    gate_open(&open_watcher(&b)->calls);
    for (int i = 0; i < 3; i++)
        raise(SIGUSR1);
    gate_wait_arrivals(&a.calls, 3);
    gate_wait_arrivals(&b.calls, 3);
    ferry__signal_unwatch(a.watch);
    assert_false(has_handler(SIGUSR1, SIG_DFL));
    raise(SIGUSR1);
    gate_wait_arrivals(&b.calls, 4);
    ferry__signal_unwatch(b.watch);
    assert_true(has_handler(SIGUSR1, SIG_DFL));
    assert_int_equal(gate_arrivals(&a.calls), 3);
    assert_int_equal(gate_arrivals(&b.calls), 4);
    ferry__signal_unwatch(NULL);
    assert_int_equal(oom_blocks(), blocks);
    gate_destroy(&a.calls);
    gate_destroy(&b.calls);
}

static void a_watch_and_a_wait_share_a_signal(void **state) {
    (void)state;
    struct watcher a;
    gate_open(&open_watcher(&a)->calls);
    raise(SIGUSR1); /* nobody waits yet, and nobody has taken it over to wait later */
    gate_wait_arrivals(&a.calls, 1);
    take_usr1();
    raise(SIGUSR1);
    assert_int_equal(ferry_signal_wait(SIGUSR1), 0);
    gate_wait_arrivals(&a.calls, 2);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
    assert_false(has_handler(SIGUSR1, SIG_DFL));
    ferry__signal_unwatch(a.watch);
    assert_true(has_handler(SIGUSR1, SIG_DFL));
    gate_destroy(&a.calls);
}

static void a_watch_may_end_itself(void **state) {
    (void)state;
    struct watcher a;
    long blocks = oom_blocks();
    open_watcher(&a)->unwatch = true;
    gate_open(&a.calls);
    raise(SIGUSR1);
    gate_wait_arrivals(&a.calls, 1);
    while (!has_handler(SIGUSR1, SIG_DFL) || oom_blocks() != blocks)
        sched_yield();
    gate_destroy(&a.calls);
}

static void *end_watch(void *arg) {
    struct watcher *w = arg;
    ferry__signal_unwatch(w->watch);
    CHECK(!atomic_load(&w->inside));
    return NULL;
}

static void the_end_of_a_watch_waits_for_its_call(void **state) {
    (void)state;
    struct watcher a;
    pthread_t thread;
    open_watcher(&a);
    raise(SIGUSR1);
    gate_wait_arrivals(&a.calls, 1);
    assert_int_equal(pthread_create(&thread, NULL, end_watch, &a), 0);
    gate_open(&a.calls);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(has_handler(SIGUSR1, SIG_DFL));
    gate_destroy(&a.calls);
}

static void watches_that_cant_be_made(void **state) {
    (void)state;
    struct watcher a = {0};
    long blocks = oom_blocks();
    assert_int_equal(ferry__signal_watch(SIGKILL, watch_called, &a, &a.watch), -EINVAL);
    assert_null(a.watch);
    oom_after(0, true);
    assert_int_equal(ferry__signal_watch(SIGUSR1, watch_called, &a, &a.watch), -ENOMEM);
    oom_never();
    assert_null(a.watch);
    assert_true(has_handler(SIGUSR1, SIG_DFL));
    assert_int_equal(oom_blocks(), blocks);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void *wait_without_memory(void *arg) {
    oom_after(0, true);
    *(int64_t *)arg = ferry_signal_wait_for(SIGUSR1, 0);
    oom_never();
    return NULL;
}

static void a_thread_without_a_record_is_told(void **state) {
    (void)state;
    pthread_t thread;
    int64_t rc = 1;
    /* The first test: there is no spare record of a thread that has ended. */
    assert_int_equal(pthread_create(&thread, NULL, wait_without_memory, &rc), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rc, -ENOMEM);
    assert_true(has_handler(SIGUSR1, SIG_DFL));
}

#define WITH_USR1(text, function) CASE_WITH(text, function, NULL, give_back)

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a thread without a record is told that memory is short",
             a_thread_without_a_record_is_told),
        WITH_USR1("a thread gets a signal", a_thread_gets_it),
        WITH_USR1("a task gets a signal", a_task_gets_it),
        WITH_USR1("a signal wakes a loop that sleeps", it_wakes_a_sleeping_loop),
        WITH_USR1("every waiter gets it, tasks and threads", every_waiter_gets_it),
        WITH_USR1("SCP-02 what comes between two waits is kept, and beats a time-out of zero",
                  what_comes_between_two_waits_is_kept),
        WITH_USR1("each signal has its own waiters", two_signals_are_two),
        WITH_USR1("none is lost", none_is_lost),
        WITH_USR1("CAN-01 CAN-10 a cancelled wait ends at once and leaves the signal",
                  a_cancelled_wait_leaves_the_signal),
        WITH_USR1("CAN-07 first wake wins: granted, then cancelled", first_wake_wins),
        WITH_USR1("SCP-04 a thread's wait times out, never early", it_times_out),
        WITH_USR1("SCP-01 a task's wait times out, by itself or by its scope", a_task_times_out),
        WITH_USR1("in a cancelled scope the signal isn't taken over",
                  in_a_cancelled_scope_nothing_is_taken_over),
        WITH_USR1("CAN-16 a thread's wait is cancelled by its scope",
                  a_thread_is_cancelled_by_its_scope),
        CASE("some signals can't be waited for", some_signals_cant_be_waited_for),
        WITH_USR1("THR-09 a callback may not wait, and doesn't take the signal over",
                  a_callback_may_not_wait),
        WITH_USR1("restore puts back what was there before", restore_puts_the_handler_back),
        WITH_USR1("a handler that the program has set meanwhile is left alone",
                  a_newer_handler_is_left_alone),
        WITH_USR1("restore ends the waits", restore_ends_waits),
        WITH_USR1("a watch is called for each signal", a_watch_is_called_for_each),
        WITH_USR1("a watch and a wait share a signal", a_watch_and_a_wait_share_a_signal),
        WITH_USR1("a watch may end itself", a_watch_may_end_itself),
        WITH_USR1("the end of a watch waits for its call", the_end_of_a_watch_waits_for_its_call),
        WITH_USR1("watches that can't be made leave nothing", watches_that_cant_be_made),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

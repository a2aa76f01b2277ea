/* fork(): the child finds no held lock, no signal of the parent's, a service of its own, and
 * handles that say whose they are. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "executor.h"
#include "quiet.h"
#include "service.h"
#include "signal_wait.h"
#include "support.h"
#include "waiters.h"

/* Runs the function in a child; true when it came to its end. */
static bool in_child(void (*fn)(void *arg), void *arg) {
    pid_t pid = fork_with_alarm();
    if (pid == 0) {
        fn(arg);
        end_well();
    }
    return ended_well(pid);
}

/* ThreadSanitizer ends a child of a process with threads that makes a thread. */
#define NEEDS_THREADS_IN_THE_CHILD() \
    do { \
        if (FERRY__TSAN) \
            SKIP("ThreadSanitizer allows no threads in such a child"); \
    } while (0)

static void look_at_generation(void *arg) {
    MUST(atomic_load(&ferry__generation) == *(uint32_t *)arg + 1);
    uint32_t mine = *(uint32_t *)arg + 1;
    if (mine < 4)
        MUST(in_child(look_at_generation, &mine));
}

static void each_child_is_a_generation(void **state) {
    (void)state;
    ferry__fork_watch();
    ferry__fork_watch();
    uint32_t mine = atomic_load(&ferry__generation);
    assert_true(in_child(look_at_generation, &mine));
    assert_int_equal(atomic_load(&ferry__generation), mine);
}

/* ---- The service ----------------------------------------------------------------------------- */

static atomic_int fired;

static void fire(void *arg) {
    (void)arg;
    atomic_fetch_add(&fired, 1);
}

static void stand(void *arg) {
    gate_wait(arg);
}

struct parents_timers {
    struct ferry__service_timer *waiting, *running, *done;
};

static void serve_in_child(void *arg) {
    struct parents_timers *timers = arg;
    MUST(ferry__service_cancel(timers->waiting)); /* it will not fire here */
    MUST(!ferry__service_cancel(timers->running));
    MUST(!ferry__service_cancel(timers->done));
    atomic_store(&fired, 0);
    struct ferry__service_timer *own = ferry__service_at(0, fire, NULL);
    MUST(own != NULL);
    while (atomic_load(&fired) == 0)
        sched_yield();
    MUST(!ferry__service_cancel(own));
}

static void the_child_has_a_service_of_its_own(void **state) {
    (void)state;
    NEEDS_THREADS_IN_THE_CHILD();
    gate g = GATE_INIT;
    struct parents_timers timers;
    atomic_store(&fired, 0);
    timers.done = ferry__service_at(0, fire, NULL);
    timers.running = ferry__service_at(1, stand, &g);
    timers.waiting = ferry__service_at(FERRY__NEVER - 1, fire, NULL);
    gate_wait_arrivals(&g, 1);
    assert_true(in_child(serve_in_child, &timers));
    gate_open(&g);
    /* In the parent all is as it was. */
    assert_int_equal(atomic_load(&fired), 1);
    assert_false(ferry__service_cancel(timers.done));
    assert_false(ferry__service_cancel(timers.running));
    assert_true(ferry__service_cancel(timers.waiting));
    gate_destroy(&g);
}

/* ---- Signals --------------------------------------------------------------------------------- */

static bool has_default(int signo) {
    struct sigaction now;
    sigaction(signo, NULL, &now);
    return (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_DFL;
}

static void watch_called(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void default_again(void *arg) {
    MUST(has_default(SIGUSR1));
    MUST(has_default(SIGUSR2));
    MUST(ferry_signal_restore(SIGUSR1) == -EINVAL);
    ferry__signal_unwatch(arg);
    MUST(has_default(SIGUSR2));
}

static void wait_in_child(void *arg) {
    (void)arg;
    MUST(ferry_signal_wait_for(SIGUSR1, 0) ==
         -ETIMEDOUT); /* what the parent got isn't the child's */
    raise(SIGUSR1);
    MUST(ferry_signal_wait(SIGUSR1) == 0);
    MUST(ferry_signal_restore(SIGUSR1) == 0);
    MUST(has_default(SIGUSR1));
}

static void signals_do_in_the_child_what_they_did_before(void **state) {
    (void)state;
    atomic_int calls;
    atomic_init(&calls, 0);
    struct ferry__signal_watch *watch;
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT);
    assert_int_equal(ferry__signal_watch(SIGUSR2, watch_called, &calls, &watch), 0);
    raise(SIGUSR1);
    assert_true(in_child(default_again, watch));
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), 0);
    raise(SIGUSR2);
    while (atomic_load(&calls) == 0)
        sched_yield();
    ferry__signal_unwatch(watch);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
}

static void the_child_may_wait_for_signals(void **state) {
    (void)state;
    NEEDS_THREADS_IN_THE_CHILD();
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT);
    raise(SIGUSR1);
    assert_true(in_child(wait_in_child, NULL));
    assert_int_equal(ferry_signal_wait_for(SIGUSR1, 0), 0);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
}

/* ---- Locks ----------------------------------------------------------------------------------- */

static atomic_bool stop;

static const char *words(int64_t code) {
    (void)code;
    return "words";
}

static void *use_everything(void *arg) {
    while (!atomic_load(&stop)) {
        ferry_log_set(quiet_ferry, arg);
        ferry__log(FERRY_LOG_ERROR, "busy");
        ferry_error_register(-31000, -30000, words);
        struct ferry__service_timer *timer = ferry__service_at(0, fire, NULL);
        ferry__service_cancel(timer);
        ferry_signal_wait_for(SIGUSR1, 0);
        ferry_signal_restore(SIGUSR1);
    }
    return NULL;
}

static void use_once(void *arg) {
    (void)arg;
    ferry_log_set(quiet_ferry, NULL);
    ferry__log(FERRY_LOG_ERROR, "in the child");
    MUST(ferry_error_register(-31000, -30000, words) == 0);
    ferry_fail(-30500, "in the child");
    MUST(strcmp(ferry_errmsg(), "in the child") == 0);
    MUST(strcmp(ferry_strerror(-30500), "words") == 0);
    MUST(ferry__signals_awaited() == 0);
    MUST(!ferry__service_idle());
    MUST(has_default(SIGUSR1));
}

static void no_lock_is_held_in_the_child(void **state) {
    (void)state;
    pthread_t threads[2];
    int rounds = support_slow() ? 10 : 100;
    atomic_store(&stop, false);
    ferry_fail(-EIO, "this thread has its record");
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_everything, NULL), 0);
    for (int i = 0; i < rounds; i++)
        assert_true(in_child(use_once, NULL));
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    ferry_log_set(NULL, NULL);
}

/* ---- The bells of threads -------------------------------------------------------------------- */

static void poll_in_child(void *arg) {
    MUST(ferry__thread_self()->bell.fd[0] < 0); /* it would be the parent's */
    MUST(ferry_poll_for(*(int *)arg, FERRY_READABLE, 1) == -ETIMEDOUT);
    MUST(ferry__thread_self()->bell.fd[0] >= 0);
}

static void a_child_has_bells_of_its_own(void **state) {
    (void)state;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(ferry_poll_for(fd[0], FERRY_READABLE, 1), -ETIMEDOUT);
    int bell = ferry__thread_self()->bell.fd[0];
    assert_true(bell >= 0);
    assert_true(in_child(poll_in_child, &fd[0]));
    assert_int_equal(ferry__thread_self()->bell.fd[0], bell);
    close(fd[0]);
    close(fd[1]);
}

/* ---- Handles --------------------------------------------------------------------------------- */

static int64_t stand_in_job(void *arg) {
    gate_wait(arg);
    return 5;
}

static void await_in_child(void *arg) {
    ferry_future *const *handles = arg;
    for (int i = 0; i < 2; i++) {
        MUST(ferry_await(handles[i]) == FERRY_EFORKED);
        MUST(strstr(ferry_errmsg(), "parent") != NULL);
        MUST(ferry_wait(handles[i]) == FERRY_EFORKED);
        MUST(ferry_wait_for(handles[i], 0) == FERRY_EFORKED);
    }
}

static void handles_of_the_parent_say_so(void **state) {
    (void)state;
    gate g = GATE_INIT;
    ferry_future *handles[2];
    ferry_promise *promise = ferry_promise_new(&handles[0], "promised");
    handles[1] = ferry_submit(NULL, stand_in_job, &g);
    gate_wait_arrivals(&g, 1);
    assert_true(in_child(await_in_child, handles));
    gate_open(&g);
    assert_int_equal(ferry_promise_set(promise, 4), 0);
    assert_int_equal(ferry_await(handles[0]), 4);
    assert_int_equal(ferry_await(handles[1]), 5);
    ferry_promise_drop(promise);
    gate_destroy(&g);
}

static int64_t seven(void *arg) {
    (void)arg;
    return 7;
}

static int64_t submit_seven(void *arg) {
    (void)arg;
    return ferry_await(ferry_submit(NULL, seven, NULL));
}

static void run_in_child(void *arg) {
    (void)arg;
    MUST(ferry_await(ferry_submit(NULL, seven, NULL)) == 7);
    MUST(ferry_run(submit_seven, NULL) == 7);
}

static void a_child_has_a_pool_and_loops_of_its_own(void **state) {
    (void)state;
    NEEDS_THREADS_IN_THE_CHILD();
    assert_int_equal(ferry_await(ferry_submit(NULL, seven, NULL)), 7);
    assert_true(in_child(run_in_child, NULL));
    assert_int_equal(ferry_await(ferry_submit(NULL, seven, NULL)), 7);
}

/* Busy, with jobs in the line, a turn under way, and all idle threads counted. */
static void use_busy_executors(void *arg) {
    ferry_executor *const *both = arg;
    for (int i = 0; i < 2; i++) {
        ferry_executor_stats stats;
        for (int k = 0; k < 5; k++)
            MUST(ferry_await(ferry_submit(both[i], seven, NULL)) == 7);
        ferry_executor_get_stats(both[i], &stats);
        MUST(stats.queued == 0 && stats.running == 0 && stats.abandoned == 0);
    }
    while (ferry__threads_idle() != 1) /* none of the parent's is counted */
        sched_yield();
    for (int i = 1; i >= 0; i--)
        MUST(ferry_executor_stop(both[i], FERRY_FOREVER) == 0);
}

static void busy_executors_are_empty_in_the_child(void **state) {
    (void)state;
    NEEDS_THREADS_IN_THE_CHILD();
    ferry_executor *both[2];
    ferry_future *jobs[5];
    gate g = GATE_INIT;
    const ferry_executor_options options = {
        .threads_max = 1, .queue_max = 3, .full = FERRY_FULL_REFUSE, .idle_ms = 3600000};
    assert_int_equal(ferry_executor_new(&both[0], &options), 0);
    assert_int_equal(ferry_strand_new(&both[1], both[0], &options), 0);
    for (int i = 0; i < 5; i++)
        jobs[i] = ferry_submit(both[i < 3], stand_in_job, &g);
    gate_wait_arrivals(&g, 1);
    assert_true(in_child(use_busy_executors, both));
    gate_open(&g);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ferry_await(jobs[i]), 5);
    for (int i = 1; i >= 0; i--) {
        assert_int_equal(ferry_executor_stop(both[i], FERRY_FOREVER), 0);
        ferry_executor_free(both[i]);
    }
    gate_destroy(&g);
}

static int64_t fork_in_task(void *arg) {
    (void)arg;
    uint32_t mine = atomic_load(&ferry__generation);
    CHECK(in_child(look_at_generation, &mine));
    return ferry_sleep(1) == 0 && ferry_await(ferry_submit(NULL, seven, NULL)) == 7 ? 0 : -EPROTO;
}

static void a_task_may_fork(void **state) {
    (void)state;
    assert_int_equal(ferry_run(fork_in_task, NULL), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("each child is a generation of its own", each_child_is_a_generation),
        CASE("the child has a service of its own", the_child_has_a_service_of_its_own),
        CASE("signals do in the child what they did before",
             signals_do_in_the_child_what_they_did_before),
        CASE("the child may wait for signals", the_child_may_wait_for_signals),
        CASE("EXE-15 no lock is held in the child", no_lock_is_held_in_the_child),
        CASE("a child's threads have bells of their own", a_child_has_bells_of_its_own),
        CASE("handles of the parent say so", handles_of_the_parent_say_so),
        CASE("EXE-15 a child has a pool and loops of its own",
             a_child_has_a_pool_and_loops_of_its_own),
        CASE("EXE-15 busy executors of the parent are empty in the child",
             busy_executors_are_empty_in_the_child),
        CASE("a task may fork", a_task_may_fork),
    };
    return SUPPORT_RUN(tests);
}

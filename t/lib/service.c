/* The service thread: timers in order, taken back, from inside, from many threads, without
 * memory. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "core.h"
#include "oom.h"
#include "pools.h"
#include "service.h"
#include "support.h"

/* One entry for each timer that fired. */
static struct {
    gate changed; /* arrivals are counted, nobody waits in it */
    int order[16];
    atomic_int n;
} fired;

static void reset(void) {
    gate_init(&fired.changed);
    gate_open(&fired.changed);
    atomic_store(&fired.n, 0);
}

static void fire(void *arg) {
    fired.order[atomic_load(&fired.n)] = *(int *)arg;
    atomic_fetch_add(&fired.n, 1);
    gate_wait(&fired.changed);
}

static int64_t in_ms(int64_t ms) {
    return ferry__now() + ms * FERRY__MS;
}

static atomic_int inside;

static void stand_at_a_gate(void *arg) {
    atomic_store(&inside, 1);
    gate_wait(arg);
    atomic_store(&inside, 0);
}

/* The thread stands at the gate, so that what is armed meanwhile is due together. */
static struct ferry__service_timer *hold(gate *g) {
    gate_init(g);
    struct ferry__service_timer *timer = ferry__service_at(0, stand_at_a_gate, g);
    gate_wait_arrivals(g, 1);
    return timer;
}

static void let_go(gate *g, struct ferry__service_timer *timer) {
    gate_open(g);
    ferry__service_cancel(timer); /* waits until it has left the gate */
    gate_destroy(g);
}

static void fires_in_order_of_the_deadlines(void **state) {
    (void)state;
    static int numbers[] = {0, 1, 2, 3, 4};
    struct ferry__service_timer *timers[5];
    static const int64_t at[] = {3, 1, 2, 1,
                                 0}; /* long ago; equal ones fire in the order of arming */
    gate g;
    reset();
    struct ferry__service_timer *holder = hold(&g);
    for (int i = 0; i < 5; i++) {
        timers[i] = ferry__service_at(at[i], fire, &numbers[i]);
        assert_non_null(timers[i]);
    }
    let_go(&g, holder);
    gate_wait_arrivals(&fired.changed, 5);
    static const int order[] = {4, 1, 3, 2, 0};
    for (int i = 0; i < 5; i++)
        assert_int_equal(fired.order[i], order[i]);
    for (int i = 0; i < 5; i++)
        assert_false(ferry__service_cancel(timers[i]));
    gate_destroy(&fired.changed);
}

static void never_fires_early(void **state) {
    (void)state;
    static int one = 1;
    for (int64_t us = 1; us < 3000; us += 333) {
        reset();
        int64_t deadline = ferry__now() + us * 1000;
        struct ferry__service_timer *timer = ferry__service_at(deadline, fire, &one);
        gate_wait_arrivals(&fired.changed, 1);
        assert_true(ferry__now() >= deadline);
        ferry__service_cancel(timer);
        gate_destroy(&fired.changed);
    }
}

static void an_earlier_one_wakes_the_thread(void **state) {
    (void)state;
    static int far = 1, near = 2;
    reset();
    struct ferry__service_timer *late = ferry__service_at(in_ms(3600 * 1000), fire, &far);
    struct ferry__service_timer *never = ferry__service_at(FERRY__NEVER, fire, &far);
    struct ferry__service_timer *soon = ferry__service_at(0, fire, &near);
    gate_wait_arrivals(&fired.changed, 1);
    assert_int_equal(fired.order[0], 2);
    assert_false(ferry__service_cancel(soon));
    assert_true(ferry__service_cancel(late));
    assert_true(ferry__service_cancel(never));
    assert_int_equal(atomic_load(&fired.n), 1);
    gate_destroy(&fired.changed);
}

static void a_cancelled_one_never_fires(void **state) {
    (void)state;
    static int one = 1, two = 2;
    gate g;
    reset();
    struct ferry__service_timer *holder = hold(&g);
    struct ferry__service_timer *gone = ferry__service_at(0, fire, &one);
    struct ferry__service_timer *kept = ferry__service_at(0, fire, &two);
    assert_true(ferry__service_cancel(gone));
    let_go(&g, holder);
    gate_wait_arrivals(&fired.changed, 1);
    assert_int_equal(fired.order[0], 2);
    assert_false(ferry__service_cancel(kept));
    gate_destroy(&fired.changed);
}

/* ---- One that is set again and again --------------------------------------------------------- */

static struct {
    struct ferry__service_timer *timer;
    atomic_int left;
    gate changed; /* arrivals are counted */
} again;

static void fire_again(void *unused) {
    (void)unused;
    if (atomic_fetch_sub(&again.left, 1) > 1)
        CHECK_INT(ferry__service_set(again.timer, 0), 0);
    gate_wait(&again.changed);
}

static void one_is_set_again(void **state) {
    (void)state;
    gate_init(&again.changed);
    gate_open(&again.changed);
    again.timer = ferry__service_new(fire_again, NULL);
    assert_non_null(again.timer);
    atomic_store(&again.left, 3); /* from inside */
    assert_int_equal(ferry__service_set(again.timer, 0), 0);
    gate_wait_arrivals(&again.changed, 3);
    atomic_store(&again.left, 1); /* from outside, when it has fired */
    assert_int_equal(ferry__service_set(again.timer, in_ms(3600 * 1000)), 0);
    assert_int_equal(ferry__service_set(again.timer, 0), 0); /* moved */
    gate_wait_arrivals(&again.changed, 4);
    assert_int_equal(ferry__service_set(again.timer, in_ms(3600 * 1000)), 0);
    assert_true(ferry__service_cancel(again.timer));
    assert_int_equal(gate_arrivals(&again.changed), 4);
    gate_destroy(&again.changed);
}

static void one_that_was_never_set(void **state) {
    (void)state;
    ferry__service_cancel(ferry__service_new(fire, NULL));
}

static void set_and_stand(void *arg) {
    CHECK_INT(ferry__service_set(again.timer, in_ms(3600 * 1000)), 0);
    stand_at_a_gate(arg);
}

static atomic_int canceller;

static void *cancel_one_that_runs(void *timer) {
    atomic_store(&canceller, (int)syscall(SYS_gettid));
    CHECK(ferry__service_cancel(timer)); /* it won't fire again */
    CHECK_INT(atomic_load(&inside), 0);  /* and has left */
    return NULL;
}

/* It is set again while it runs: the cancel waits all the same. */
static void cancelled_while_it_runs_and_is_set(void **state) {
    (void)state;
    gate g;
    pthread_t thread;
    gate_init(&g);
    again.timer = ferry__service_new(set_and_stand, &g);
    assert_int_equal(ferry__service_set(again.timer, 0), 0);
    gate_wait_arrivals(&g, 1);
    assert_int_equal(pthread_create(&thread, NULL, cancel_one_that_runs, again.timer), 0);
    while (atomic_load(&canceller) == 0)
        sched_yield();
    until_in_the_kernel(atomic_load(&canceller));
    gate_open(&g);
    pthread_join(thread, NULL);
    gate_destroy(&g);
}

static void wait_on_the_thread(void *sem) {
    CHECK_INT(ferry_sem_acquire(sem, 1), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "the library's"));
    ferry_sem_release(sem, 5);
}

static void nothing_waits_on_the_thread(void **state) {
    (void)state;
    ferry_sem sem = FERRY_SEM_INIT(0);
    struct ferry__service_timer *timer = ferry__service_at(0, wait_on_the_thread, &sem);
    assert_int_equal(ferry_sem_acquire(&sem, 5), 0);
    ferry__service_cancel(timer);
}

static void *cancel_it(void *timer) {
    CHECK(!ferry__service_cancel(timer));
    CHECK_INT(atomic_load(&inside), 0);
    return NULL;
}

static void cancel_waits_for_a_running_one(void **state) {
    (void)state;
    gate g;
    pthread_t thread;
    struct ferry__service_timer *timer = hold(&g);
    assert_int_equal(pthread_create(&thread, NULL, cancel_it, timer), 0);
    gate_open(&g);
    assert_int_equal(pthread_join(thread, NULL), 0);
    gate_destroy(&g);
}

static _Atomic(struct ferry__service_timer *) own_timer;

static void cancel_myself(void *arg) {
    CHECK(ferry__service_here());
    struct ferry__service_timer *timer;
    while ((timer = atomic_load(&own_timer)) == NULL)
        continue;
    CHECK(!ferry__service_cancel(timer));
    gate_wait(arg);
}

static void one_may_cancel_itself(void **state) {
    (void)state;
    gate g = GATE_INIT;
    long blocks = oom_blocks();
    gate_open(&g);
    atomic_store(&own_timer, NULL);
    atomic_store(&own_timer, ferry__service_at(0, cancel_myself, &g));
    gate_wait_arrivals(&g, 1);
    /* Another timer has its turn after that one has ended. */
    struct ferry__service_timer *next = ferry__service_at(0, stand_at_a_gate, &g);
    gate_wait_arrivals(&g, 2);
    ferry__service_cancel(next);
    assert_int_equal(oom_blocks(), blocks);
    assert_false(ferry__service_here());
    gate_destroy(&g);
}

static void arm_another(void *arg) {
    static int number = 7;
    struct ferry__service_timer **second = arg;
    *second = ferry__service_at(0, fire, &number);
}

static void one_may_arm_another(void **state) {
    (void)state;
    struct ferry__service_timer *second = NULL;
    reset();
    struct ferry__service_timer *first = ferry__service_at(0, arm_another, &second);
    gate_wait_arrivals(&fired.changed, 1);
    assert_int_equal(fired.order[0], 7);
    ferry__service_cancel(first);
    ferry__service_cancel(second);
    gate_destroy(&fired.changed);
}

static void look_at_signals(void *arg) {
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    CHECK(sigismember(&blocked, SIGINT) == 1);
    CHECK(sigismember(&blocked, SIGTERM) == 1);
    CHECK(sigismember(&blocked, SIGALRM) == 1);
    CHECK(sigismember(&blocked, SIGUSR1) == 1);
    CHECK(sigismember(&blocked, SIGSEGV) == 0);
    gate_wait(arg);
}

static void it_blocks_asynchronous_signals(void **state) {
    (void)state;
    gate g = GATE_INIT;
    gate_open(&g);
    struct ferry__service_timer *timer = ferry__service_at(0, look_at_signals, &g);
    gate_wait_arrivals(&g, 1);
    ferry__service_cancel(timer);
    gate_destroy(&g);
}

static void no_memory_is_an_error(void **state) {
    (void)state;
    static int one = 1;
    oom_after(0, true);
    struct ferry__service_timer *timer = ferry__service_at(0, fire, &one);
    oom_never();
    assert_null(timer);
}

/* Idle: there is a thread, and nothing that it would do by itself. */
static void it_says_whether_it_is_idle(void **state) {
    (void)state;
    static int one = 1;
    struct ferry__service_timer *timer = ferry__service_at(FERRY__NEVER - 1, fire, &one);
    assert_false(ferry__service_idle());
    assert_true(ferry__service_cancel(timer));
    ferry__service_nudge();
    while (!ferry__service_idle())
        sched_yield();
}

static atomic_int count;

static void count_up(void *arg) {
    (void)arg;
    atomic_fetch_add(&count, 1);
}

/* Each timer is taken back at once, or a little later: either it was counted, or cancel says
 * that it wasn't. */
static void *arm_and_cancel(void *arg) {
    int rounds = support_slow() ? 300 : 1000, ran = 0;
    for (int i = 0; i < rounds; i++) {
        struct ferry__service_timer *timer =
            ferry__service_at(i % 3 ? 0 : in_ms(1), count_up, NULL);
        if (!CHECK(timer != NULL))
            break;
        if (i % 2)
            sched_yield();
        ran += !ferry__service_cancel(timer);
    }
    *(int *)arg = ran;
    return NULL;
}

static void many_threads_at_once(void **state) {
    (void)state;
    enum { N = 4 };
    pthread_t threads[N];
    int ran[N], sum = 0;
    atomic_store(&count, 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, arm_and_cancel, &ran[i]), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        sum += ran[i];
    }
    assert_int_equal(atomic_load(&count), sum);
}

/* First of all, while there is no thread yet: the descriptors that it needs can't be had. */
static void no_thread_is_an_error(void **state) {
    (void)state;
    static int one = 1;
    struct rlimit before, none;
    long blocks = oom_blocks();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = ferry__service_start();
    struct ferry__service_timer *timer = ferry__service_at(0, fire, &one);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, -EAGAIN);
    assert_null(timer);
    assert_false(ferry__service_idle());
    assert_int_equal(oom_blocks(), blocks);
}

/* ---- The end of the program ------------------------------------------------------------------ */

static void exit_now(void *arg) {
    exit(*(int *)arg);
}

/* How a child ends that does `fn`; it has no other threads when it begins. */
static int status_of(void (*fn)(void)) {
    int status = -1;
    pid_t pid = fork_with_alarm();
    if (pid == 0)
        fn();
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void end_with_timers_set(void) {
    static int one = 1;
    if (!ferry__service_at(in_ms(3600 * 1000), fire, &one) ||
        !ferry__service_at(FERRY__NEVER, fire, &one))
        _exit(1);
    exit(3);
}

static void end_while_one_is_stuck(void) {
    static gate g = GATE_INIT;
    if (!ferry__service_at(0, stand_at_a_gate, &g))
        _exit(1);
    gate_wait_arrivals(&g, 1);
    exit(4);
}

static void end_by_a_timer(void) {
    static int five = 5;
    if (!ferry__service_at(0, exit_now, &five))
        _exit(1);
    for (;;)
        pause();
}

static void the_program_ends(void **state) {
    (void)state;
    assert_int_equal(status_of(end_with_timers_set), 3);
}

static void the_program_ends_in_spite_of_it(void **state) {
    (void)state;
    if (support_slow())
        SKIP("leak checkers count what a thread holds that runs at the end");
    assert_int_equal(status_of(end_while_one_is_stuck), 4);
    assert_int_equal(status_of(end_by_a_timer), 5);
}

/* All find it missing; one makes it, the others wait for that. */
static void *start_together(void *arg) {
    gate_wait(arg);
    CHECK_INT(ferry__service_start(), 0);
    return NULL;
}

static void it_is_made_once(void **state) {
    (void)state;
    enum { N = 8 };
    pthread_t threads[N];
    gate g = GATE_INIT;
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, start_together, &g), 0);
    gate_wait_arrivals(&g, N);
    gate_open(&g);
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    gate_destroy(&g);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("no thread is an error, and nothing is left", no_thread_is_an_error),
        CASE("the program ends with timers set", the_program_ends),
        CASE("the program ends while a timer is stuck, or by a timer",
             the_program_ends_in_spite_of_it),
        CASE("the thread is made once", it_is_made_once),
        CASE("timers fire in the order of their deadlines", fires_in_order_of_the_deadlines),
        CASE("a timer never fires early", never_fires_early),
        CASE("an earlier timer wakes the thread", an_earlier_one_wakes_the_thread),
        CASE("a cancelled timer never fires", a_cancelled_one_never_fires),
        CASE("cancel waits for a running one", cancel_waits_for_a_running_one),
        CASE("a timer may cancel itself", one_may_cancel_itself),
        CASE("a timer may arm another", one_may_arm_another),
        CASE("the thread blocks all asynchronous signals", it_blocks_asynchronous_signals),
        CASE("one may be set again and again", one_is_set_again),
        CASE("one that was never set can be given back", one_that_was_never_set),
        CASE("cancel waits for one that runs and is set again", cancelled_while_it_runs_and_is_set),
        CASE("nothing waits on the thread", nothing_waits_on_the_thread),
        CASE("no memory is an error", no_memory_is_an_error),
        CASE("it says whether it is idle", it_says_whether_it_is_idle),
        CASE("many threads arm and cancel", many_threads_at_once),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

/* A loop with nothing left that could wake it says so, and who waits for what; and it doesn't cry
 * wolf. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "parked.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000

/* The program is linked with --wrap for these. */
size_t __real_ferry__signals_awaited(void);
size_t __wrap_ferry__signals_awaited(void);
int __real_event_base_loop(struct event_base *base, int flags);
int __wrap_event_base_loop(struct event_base *base, int flags);

/* What the loop does, also for a child of the test: how often it looked whether there is
 * somebody who could help, how often it went to sleep without an end or until the next look, and
 * whether it was such a look the last time. */
static struct {
    _Atomic int looks, sleeps, to_look;
} *loop_seen;

size_t __wrap_ferry__signals_awaited(void) {
    atomic_fetch_add(&loop_seen->looks, 1);
    return __real_ferry__signals_awaited();
}

int __wrap_event_base_loop(struct event_base *base, int flags) {
    if (!(flags & EVLOOP_NONBLOCK)) {
        atomic_store(&loop_seen->to_look, ferry__thread_self()->loop->probing);
        atomic_fetch_add(&loop_seen->sleeps, 1);
    }
    return __real_event_base_loop(base, flags);
}

static void until_it_looked(void) {
    while (atomic_load(&loop_seen->looks) < 3)
        sched_yield();
}

/* Where it needn't look, because it knows what it waits for. */
static void until_it_sleeps(void) {
    while (atomic_load(&loop_seen->sleeps) == 0)
        sched_yield();
    CHECK_INT(atomic_load(&loop_seen->to_look), 0);
    CHECK_INT(atomic_load(&loop_seen->looks), 0);
}

/* All that was logged, a line each. */
static struct {
    unsigned lock;
    char text[4096];
} said;

static void keep(int level, const char *message, void *arg) {
    (void)level;
    (void)arg;
    ferry__lock(&said.lock);
    size_t used = strlen(said.text);
    snprintf(said.text + used, sizeof said.text - used, "%s\n", message);
    ferry__unlock(&said.lock);
}

static int listen_to_log(void **state) {
    (void)state;
    said.text[0] = '\0';
    ferry_log_set(keep, NULL);
    atomic_store(&loop_seen->looks, 0);
    atomic_store(&loop_seen->sleeps, 0);
    return 0;
}

static int stop_listening(void **state) {
    (void)state;
    ferry_log_set(NULL, NULL);
    return 0;
}

static int times_said(const char *text) {
    int n = 0;
    for (const char *at = said.text; (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

/* ---- Dead ends ------------------------------------------------------------------------------- */

struct two_locks {
    ferry_mutex a, b;
    ferry_future *other;
    int64_t other_rc;
    int cleaned_up;
};

static int64_t locks_b_then_a(void *arg) {
    struct two_locks *l = arg;
    CHECK_INT(ferry_lock(&l->b), 0);
    ferry_yield();
    l->other_rc = ferry_lock(&l->a);
    l->cleaned_up++;
    ferry_unlock(&l->b);
    return l->other_rc;
}

static int64_t locks_a_then_b(void *arg) {
    struct two_locks *l = arg;
    ferry_task_options options = {.name = "philosopher"};
    l->other = ferry_spawn_with(locks_b_then_a, l, &options);
    CHECK_INT(ferry_lock(&l->a), 0);
    ferry_yield();
    int64_t rc = ferry_lock(&l->b);
    l->cleaned_up++;
    ferry_unlock(&l->a);
    ferry_detach(l->other);
    return rc;
}

static void two_tasks_wait_for_each_other(void **state) {
    (void)state;
    struct two_locks l = {.cleaned_up = 0};
    assert_int_equal(ferry_run(locks_a_then_b, &l), -EDEADLK);
    assert_non_null(strstr(ferry_errmsg(), "every task waits"));
    assert_int_equal(l.cleaned_up, 2); /* they are told like any other cancelled task */
    assert_int_equal(l.other_rc, -ECANCELED);
    assert_int_equal(times_said("deadlock"), 1);
    assert_int_equal(times_said("'main'"), 1);
    assert_int_equal(times_said("'philosopher'"), 1);
    assert_int_equal(times_said("has waited for"), 2);
}

static int64_t awaits_a_promise(void *arg) {
    ferry_future *f;
    ferry_promise *p = ferry_promise_new(&f, "treasure");
    int64_t rc = ferry_await(f);
    CHECK_INT(rc, -ECANCELED);
    ferry_promise_drop(p);
    return arg ? *(int64_t *)arg : rc;
}

static void nobody_sets_it(void **state) {
    (void)state;
    assert_int_equal(ferry_run(awaits_a_promise, NULL), -EDEADLK);
    assert_int_equal(times_said("has waited for treasure"), 1);
    ferry_run_options quiet = {.no_signals = true};
    assert_int_equal(ferry_run_with(awaits_a_promise, NULL, &quiet), -EDEADLK);
    /* What it returns all the same is the result. */
    int64_t forty_two = 42;
    assert_int_equal(ferry_run(awaits_a_promise, &forty_two), 42);
    assert_int_equal(times_said("deadlock"), 3);
}

static int64_t seven(void *arg) {
    (void)arg;
    return 7;
}

/* Its threads are idle, or about to be. */
static int64_t uses_a_pool_first(void *arg) {
    (void)arg;
    ferry_future *jobs[8];
    for (int i = 0; i < 8; i++)
        jobs[i] = ferry_submit(NULL, seven, NULL);
    CHECK_INT(ferry_gather(jobs, 8, NULL, 0), 0);
    CHECK_INT(ferry_sleep(1), 0);
    return awaits_a_promise(NULL);
}

static void after_a_pool_was_used(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_run(uses_a_pool_first, NULL), -EDEADLK);
}

static int64_t waits_behind_a_shield(void *arg) {
    ferry_event *never = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    int64_t rc = ferry_event_wait(never);
    return ferry_scope_close(&shield, rc);
}

/* The cancel doesn't end it: only the shutdown, which hardly waits here, does. */
static void it_goes_on_waiting(void **state) {
    (void)state;
    ferry_event never = FERRY_EVENT_INIT;
    ferry_run_options options = {.grace_ms = 1};
    assert_int_equal(ferry_run_with(waits_behind_a_shield, &never, &options), -EDEADLK);
    assert_null(never.first);
}

static int64_t waits_for_event(void *arg) {
    return ferry_event_wait(arg);
}

static int64_t leaves_one_behind(void *arg) {
    ferry_task_options options = {.name = "straggler"};
    ferry_detach(ferry_spawn_with(waits_for_event, arg, &options));
    ferry_yield();
    return 3;
}

static void a_loop_goes_on_afterwards(void **state) {
    (void)state;
    ferry_event event = FERRY_EVENT_INIT;
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, awaits_a_promise, NULL), -EDEADLK);
    assert_int_equal(ferry_loop_run(loop, seven, NULL), 7);
    assert_int_equal(ferry_loop_run(loop, leaves_one_behind, &event), 3);
    assert_int_equal(ferry_loop_run(loop, awaits_a_promise, NULL), -EDEADLK);
    assert_int_equal(times_said("'straggler'"), 1); /* the one that was left behind is named, too */
    assert_null(event.first);                       /* and cancelled */
    assert_int_equal(ferry_loop_run(loop, seven, NULL), 7);
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
}

static void *ends_without_a_word(void *arg) {
    gate_wait(arg);
    return NULL;
}

static int64_t waits_for_a_thread_that_ends(void *arg) {
    gate_open(arg);
    return awaits_a_promise(NULL);
}

static void the_thread_that_could_is_gone(void **state) {
    (void)state;
    gate g = GATE_INIT;
    pthread_t thread = start_thread(ends_without_a_word, &g);
    assert_int_equal(ferry_run(waits_for_a_thread_that_ends, &g), -EDEADLK);
    pthread_join(thread, NULL);
    gate_destroy(&g);
}

static int64_t returns_deadlk(void *arg) {
    ferry_detach(ferry_spawn(waits_for_event, arg));
    ferry_yield();
    return ferry_await(ferry_self());
}

/* That code as a task's own result is no dead end, and no reason to leave others behind. */
static void its_own_result(void **state) {
    (void)state;
    ferry_event event = FERRY_EVENT_INIT;
    assert_int_equal(ferry_run(returns_deadlk, &event), -EDEADLK);
    assert_non_null(strstr(ferry_errmsg(), "own handle"));
    assert_int_equal(times_said("deadlock"), 0);
    assert_null(event.first);
}

/* ---- No dead ends ---------------------------------------------------------------------------- */

struct helped {
    gate gate;
    ferry_event event;
    pid_t pid;
};

static void *sets_it_late(void *arg) {
    struct helped *h = arg;
    gate_wait(&h->gate);
    until_it_looked();
    ferry_event_set(&h->event);
    return NULL;
}

static int64_t waits_for_a_thread(void *arg) {
    struct helped *h = arg;
    gate_open(&h->gate);
    return ferry_event_wait(&h->event);
}

static void a_thread_helps(void **state) {
    (void)state;
    struct helped h = {.gate = GATE_INIT};
    pthread_t thread = start_thread(sets_it_late, &h);
    assert_int_equal(ferry_run(waits_for_a_thread, &h), 0);
    pthread_join(thread, NULL);
    assert_int_equal(times_said("deadlock"), 0);
    gate_destroy(&h.gate);
}

static int64_t sets_it_late_in_a_job(void *arg) {
    struct helped *h = arg;
    gate_wait(&h->gate);
    until_it_sleeps();
    ferry_event_set(&h->event);
    return 0;
}

/* Of another executor than the loop's own, and nobody awaits it. */
static int64_t waits_for_a_job(void *arg) {
    struct helped *h = arg;
    ferry_executor *pool;
    CHECK_INT(ferry_executor_new(&pool, NULL), 0);
    ferry_detach(ferry_submit(pool, sets_it_late_in_a_job, h));
    ferry_executor_free(pool);
    gate_open(&h->gate);
    return ferry_event_wait(&h->event);
}

static void a_job_helps(void **state) {
    (void)state;
    struct helped h = {.gate = GATE_INIT};
    assert_int_equal(ferry_run(waits_for_a_job, &h), 0);
    assert_int_equal(times_said("deadlock"), 0);
    gate_destroy(&h.gate);
}

static int64_t sleeps_and_sets(void *arg) {
    CHECK_INT(ferry_sleep(60), 0);
    ferry_event_set(arg);
    return 0;
}

static int64_t waits_for_a_sleeper(void *arg) {
    ferry_future *f = ferry_spawn(sleeps_and_sets, arg);
    CHECK_INT(ferry_event_wait(arg), 0);
    CHECK_INT(ferry_wait_for(f, LONG), 0);
    return ferry_await(f);
}

static void a_timer_helps(void **state) {
    (void)state;
    ferry_event event = FERRY_EVENT_INIT;
    assert_int_equal(ferry_run(waits_for_a_sleeper, &event), 0);
    assert_int_equal(times_said("deadlock"), 0);
}

static int64_t waits_for_a_descriptor(void *arg) {
    return ferry_poll(*(int *)arg, FERRY_READABLE);
}

/* Another process writes: nothing in this one is awake. */
static void a_descriptor_helps(void **state) {
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        until_it_sleeps();
        _exit(write(fds[1], "", 1) != 1);
    }
    assert_int_equal(ferry_run(waits_for_a_descriptor, &fds[0]), FERRY_READABLE);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(times_said("deadlock"), 0);
    close(fds[0]);
    close(fds[1]);
}

static int64_t waits_for_a_signal(void *arg) {
    struct helped *h = arg;
    h->pid = fork();
    if (h->pid == 0) {
        until_it_looked();
        _exit(kill(getppid(), SIGUSR1) != 0);
    }
    return ferry_signal_wait(SIGUSR1);
}

static void a_signal_helps(void **state) {
    (void)state;
    struct helped h = {.pid = 0};
    signal(SIGUSR1, SIG_IGN); /* until it is waited for */
    assert_int_equal(ferry_run(waits_for_a_signal, &h), 0);
    assert_int_equal(waitpid(h.pid, NULL, 0), h.pid);
    assert_int_equal(times_said("deadlock"), 0);
    ferry_signal_restore(SIGUSR1);
}

static void *runs_a_loop(void *arg) {
    ferry_run_options options = {.no_signals = true};
    CHECK_INT(ferry_run_with(waits_for_a_sleeper, arg, &options), 0);
    return NULL;
}

/* The one that waits knows that the other one runs. */
static void another_loop_helps(void **state) {
    (void)state;
    ferry_event event = FERRY_EVENT_INIT;
    pthread_t thread = start_thread(runs_a_loop, &event);
    assert_int_equal(ferry_run(waits_for_event, &event), 0);
    pthread_join(thread, NULL);
    assert_int_equal(times_said("deadlock"), 0);
}

#define LOGGED(text, function) CASE_WITH(text, function, listen_to_log, stop_listening)

int main(void) {
    loop_seen =
        mmap(NULL, sizeof *loop_seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (loop_seen == MAP_FAILED)
        return 99;
    static const struct CMUnitTest tests[] = {
        LOGGED("two tasks wait for each other", two_tasks_wait_for_each_other),
        LOGGED("nobody is left who could set it", nobody_sets_it),
        LOGGED("the threads of a pool are idle", after_a_pool_was_used),
        LOGGED("a task that goes on waiting", it_goes_on_waiting),
        LOGGED("a loop goes on afterwards", a_loop_goes_on_afterwards),
        LOGGED("the thread that could have helped is gone", the_thread_that_could_is_gone),
        LOGGED("that error as a task's own result", its_own_result),
        LOGGED("no dead end: a thread helps", a_thread_helps),
        LOGGED("no dead end: a job helps", a_job_helps),
        LOGGED("no dead end: a timer helps", a_timer_helps),
        LOGGED("no dead end: another process writes", a_descriptor_helps),
        LOGGED("no dead end: a signal comes", a_signal_helps),
        LOGGED("no dead end: another loop helps", another_loop_helps),
    };
    return SUPPORT_RUN(tests);
}

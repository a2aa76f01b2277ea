/* ferry_run(): the result, what it leaves behind (nothing), signals, options and errors. What
 * concerns signals and crashes is done by this program, started once more with the name of a
 * scenario. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "core.h"
#include "oom.h"
#include "parked.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000
#define HOUR 3600000

static int64_t nothing(void *arg) {
    (void)arg;
    return 0;
}

/* ---- Results --------------------------------------------------------------------------------- */

static int64_t returns(void *arg) {
    ferry_yield();
    return *(int64_t *)arg;
}

static int64_t fails(void *arg) {
    return ferry_fail(-EIO, "%s", (char *)arg);
}

static int64_t cancels_itself(void *arg) {
    (void)arg;
    ferry_cancel(ferry_self());
    return ferry_sleep(LONG);
}

static void results(void **state) {
    (void)state;
    for (int64_t value = 0; value < 3; value++)
        assert_int_equal(ferry_run(returns, &value), value);
    assert_int_equal(ferry_run(returns, &(int64_t){INT64_MAX}), INT64_MAX);
    assert_int_equal(ferry_run(fails, (char[]){"the disk is gone"}), -EIO);
    assert_string_equal(ferry_errmsg(), "the disk is gone");
    assert_int_equal(ferry_run(cancels_itself, NULL), -ECANCELED); /* no signal: plain */
    assert_null(ferry_loop_current());
}

static void *runs_in_a_thread(void *arg) {
    for (int i = 0; i < 20; i++)
        CHECK_INT(ferry_run(returns, arg), *(int64_t *)arg);
    return NULL;
}

static void several_at_once(void **state) {
    (void)state;
    int64_t values[3] = {1, 2, 3};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = start_thread(runs_in_a_thread, &values[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static int64_t runs_again(void *arg) {
    CHECK_INT(ferry_run(nothing, NULL), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "inside") != NULL);
    ++*(int *)arg;
    return 0;
}

TASK_TEST(run_inside) {
    int n = 0;
    runs_again(&n);
    CHECK_INT(ferry_await(ferry_submit(NULL, runs_again, &n)), 0);
    CHECK_INT(ferry_post(ferry_loop_current(), runs_again, &n), 0);
    while (n < 3)
        ferry_yield();
    return 0;
}

/* ---- Background work ------------------------------------------------------------------------- */

static int64_t leaves_a_failing_task(void *arg) {
    ferry_task_options options = {.name = "careless"};
    ferry_detach(ferry_spawn_with(fails, arg, &options));
    ferry_detach(ferry_spawn(cancels_itself, NULL)); /* that isn't an error */
    ferry_yield();
    return 0;
}

static void failing_task(void **state) {
    (void)state;
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "careless");
    assert_int_equal(ferry_run(leaves_a_failing_task, (char[]){"the disk is gone"}), 0);
    assert_int_equal(kept_messages(&log), 1);
    keep_log(&log, FERRY_LOG_WARNING, "the disk is gone");
    assert_int_equal(ferry_run(leaves_a_failing_task, (char[]){"the disk is gone"}), 0);
    assert_int_equal(kept_messages(&log), 1);
}

struct background {
    int cleaned, freed; /* loop thread */
    _Atomic int stopped, ran;
    gate gate;
};

static int64_t cleans_up(void *arg) {
    struct background *b = arg;
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, LONG), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    b->cleaned++;
    return -ECANCELED;
}

static void count_freed(void *arg) {
    ((struct background *)arg)->freed++;
}

static int64_t runs_until_told(void *arg) {
    struct background *b = arg;
    gate_wait(&b->gate);
    while (ferry_checkpoint() == 0)
        sched_yield();
    atomic_fetch_add(&b->stopped, 1);
    return -ECANCELED;
}

static int64_t leaves_work(void *arg) {
    struct background *b = arg;
    ferry_task_options options = {.arg_free = count_freed};
    for (int i = 0; i < 10; i++)
        ferry_detach(ferry_spawn_with(cleans_up, b, &options));
    ferry_detach(ferry_submit(NULL, runs_until_told, b));
    gate_wait_arrivals(&b->gate, 1);
    gate_open(&b->gate);
    ferry_yield();
    return 3;
}

static void left_work(void **state) {
    (void)state;
    struct background b = {.gate = GATE_INIT};
    assert_int_equal(ferry_run(leaves_work, &b), 3);
    assert_int_equal(b.cleaned, 10);
    assert_int_equal(b.freed, 10);
    assert_int_equal(atomic_load(&b.stopped), 1);
    gate_destroy(&b.gate);
}

/* ---- Options and errors ---------------------------------------------------------------------- */

static int64_t uses_its_stack(void *arg) {
    volatile char room[768 * 1024];
    (void)arg;
    for (size_t i = 0; i < sizeof room; i += 4096)
        room[i] = 1;
    return room[4096];
}

static int64_t hides_in_a_shield(void *arg) {
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(HOUR), -ECANCELED);
    ferry_scope_close(&shield, 0);
    ++*(int *)arg;
    return 0;
}

static int64_t leaves_one_shielded(void *arg) {
    ferry_future *f = ferry_spawn(hides_in_a_shield, arg);
    until_parked(f);
    ferry_detach(f);
    return 6;
}

static void options(void **state) {
    (void)state;
    assert_int_equal(ferry_run(NULL, NULL), -EINVAL);
    assert_int_equal(ferry_run_with(nothing, NULL, &(ferry_run_options){.grace_ms = -1}), -EINVAL);
    assert_int_equal(ferry_run_with(nothing, NULL, NULL), 0);
    ferry_run_options large = {.stack_size = 1024 * 1024};
    assert_int_equal(ferry_run_with(uses_its_stack, NULL, &large), 1);
    int ended = 0;
    ferry_run_options impatient = {.grace_ms = 1};
    assert_int_equal(ferry_run_with(leaves_one_shielded, &ended, &impatient), 6);
    assert_int_equal(ended, 1);
    ferry_run_options too_large = {.stack_size = SIZE_MAX};
    assert_true(ferry_run_with(nothing, NULL, &too_large) < 0);
}

static int64_t looks_at_handlers(void *arg) {
    const ferry_run_options *wanted = arg;
    static const int signals[] = {SIGINT, SIGTERM, SIGSEGV};
    for (int i = 0; i < 3; i++) {
        struct sigaction action;
        CHECK_INT(sigaction(signals[i], NULL, &action), 0);
        bool untouched = i < 2 ? wanted->no_signals : wanted->no_overflow_handler;
        if (untouched)
            CHECK(action.sa_handler == SIG_IGN);
        else
            CHECK(action.sa_handler != SIG_IGN);
    }
    return 0;
}

static void left_alone(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGSEGV};
    struct sigaction before[3], ignore = {.sa_handler = SIG_IGN};
    for (int i = 0; i < 3; i++)
        assert_int_equal(sigaction(signals[i], &ignore, &before[i]), 0);
    ferry_run_options options = {.no_signals = true, .no_overflow_handler = true};
    assert_int_equal(ferry_run_with(looks_at_handlers, &options, &options), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sigaction(signals[i], &before[i], NULL), 0);
}

static void no_descriptors(void **state) {
    (void)state;
    struct rlimit before, none = {0, 0};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int64_t rc = ferry_run(nothing, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, -EMFILE);
    assert_true(strlen(ferry_errmsg()) > 0);
    assert_int_equal(ferry_run(nothing, NULL), 0);
}

/* From some point on there is no memory: the end needs none. */
static int64_t runs_out(void *arg) {
    for (int i = 0; i < 20; i++) {
        ferry_future *f = ferry_spawn_with(
            cleans_up, arg, &(ferry_task_options){.arg_free = count_freed});
        until_parked(f);
        ferry_detach(f);
    }
    oom_after(0, true);
    CHECK(ferry_spawn(nothing, NULL) == NULL);
    return 5;
}

static void memory_ends(void **state) {
    (void)state;
    ferry_run_options plain = {.no_signals = true, .no_overflow_handler = true};
    assert_int_equal(ferry_run_with(nothing, NULL, &plain), 0);
    long blocks = oom_blocks();
    struct background b = {.cleaned = 0};
    int64_t rc = ferry_run_with(runs_out, &b, &plain);
    oom_never();
    assert_int_equal(rc, 5);
    assert_int_equal(b.cleaned, 20);
    assert_int_equal(b.freed, 20);
    assert_int_equal(oom_blocks(), blocks);
}

/* ---- Signals, in a process of its own -------------------------------------------------------- */

#define DEMAND(claim) \
    do { \
        if (!(claim)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #claim); \
            _exit(1); \
        } \
    } while (0)

static ferry_future *first; /* the first task */
static int signal_to_send;

static bool requested(ferry_future *task) {
    return __atomic_load_n(&((struct ferry__task *)task)->ctx.root.request, __ATOMIC_SEQ_CST) != 0;
}

static bool is_default(int signo) {
    struct sigaction action;
    DEMAND(sigaction(signo, NULL, &action) == 0);
    return action.sa_handler == SIG_DFL;
}

static int64_t sends_signal(void *arg) {
    (void)arg;
    until_parked(first);
    DEMAND(kill(getpid(), signal_to_send) == 0);
    return 0;
}

static int64_t is_interrupted(void *arg) {
    bool *cleaned = arg;
    first = ferry_self();
    ferry_detach(ferry_spawn(sends_signal, NULL));
    int rc = ferry_sleep(HOUR);
    DEMAND(rc == -ECANCELED);
    ferry_scope shield = FERRY_SCOPE_INIT;
    DEMAND(ferry_shield_open(&shield, LONG) == 0);
    DEMAND(ferry_sleep(1) == 0);
    DEMAND(ferry_scope_close(&shield, 0) == 0);
    *cleaned = true;
    return rc;
}

static void once(int signo) {
    bool cleaned = false;
    signal_to_send = signo;
    DEMAND(ferry_run(is_interrupted, &cleaned) == -EINTR);
    DEMAND(strstr(ferry_errmsg(), "signal"));
    DEMAND(cleaned);
    DEMAND(is_default(SIGINT) && is_default(SIGTERM)); /* as before */
}

static void child_interrupted(void) {
    once(SIGINT);
}

static void child_terminated(void) {
    once(SIGTERM);
    once(SIGTERM); /* each run begins anew */
}

static int64_t has_a_result_all_the_same(void *arg) {
    bool cleaned;
    DEMAND(is_interrupted(&cleaned) == -ECANCELED);
    (void)arg;
    return 42;
}

static void child_result(void) {
    signal_to_send = SIGINT;
    DEMAND(ferry_run(has_a_result_all_the_same, NULL) == 42);
}

static int64_t is_cancelled_before(void *arg) {
    first = ferry_self();
    ferry_cancel(first);
    ferry_detach(ferry_spawn(sends_signal, NULL));
    ferry_scope shield = FERRY_SCOPE_INIT;
    DEMAND(ferry_shield_open(&shield, FERRY_FOREVER) == 0);
    while (!atomic_load((_Atomic bool *)arg))
        DEMAND(ferry_sleep(1) == 0);
    DEMAND(ferry_scope_close(&shield, 0) == 0);
    return ferry_sleep(HOUR);
}

static _Atomic bool seen;

static int64_t sees_the_signal(void *arg) {
    (void)arg;
    DEMAND(ferry_signal_wait(SIGINT) == 0);
    atomic_store(&seen, true);
    return 0;
}

static int64_t cancelled_and_watched(void *arg) {
    ferry_detach(ferry_spawn(sees_the_signal, NULL)); /* it gets it too */
    ferry_yield();
    return is_cancelled_before(arg);
}

static void child_cancelled_before(void) {
    signal_to_send = SIGINT;
    DEMAND(ferry_run(cancelled_and_watched, &seen) == -ECANCELED);
}

static int64_t sends_two(void *arg) {
    sends_signal(arg);
    while (!requested(first))
        DEMAND(ferry_yield() == 0);
    DEMAND(kill(getpid(), signal_to_send) == 0);
    return 0;
}

static int64_t hides(void *arg) {
    (void)arg;
    first = ferry_self();
    ferry_detach(ferry_spawn(sends_two, NULL));
    ferry_scope shield = FERRY_SCOPE_INIT;
    DEMAND(ferry_shield_open(&shield, FERRY_FOREVER) == 0);
    DEMAND(ferry_sleep(HOUR) == -ECANCELED); /* the first one didn't end it, the second did */
    ferry_scope_close(&shield, 0);
    return ferry_sleep(HOUR);
}

static void child_twice(void) {
    signal_to_send = SIGINT;
    DEMAND(ferry_run(hides, NULL) == -EINTR);
}

static int64_t does_not_listen(void *arg) {
    (void)arg;
    first = ferry_self();
    ferry_detach(ferry_spawn(sends_two, NULL));
    DEMAND(ferry_sleep(HOUR) == -ECANCELED);
    while (!is_default(SIGINT))
        ferry_yield();
    kill(getpid(), SIGINT); /* does what it did before */
    for (;;)
        pause();
}

static void child_thrice(void) {
    signal_to_send = SIGINT;
    ferry_run(does_not_listen, NULL);
}

static int64_t is_told_late(void *arg) {
    bool *ended = arg;
    DEMAND(ferry_sleep(HOUR) == -ECANCELED); /* the first task has ended */
    ferry_scope shield = FERRY_SCOPE_INIT;
    DEMAND(ferry_shield_open(&shield, FERRY_FOREVER) == 0);
    DEMAND(kill(getpid(), SIGTERM) == 0);
    DEMAND(ferry_sleep(HOUR) == -ECANCELED);
    ferry_scope_close(&shield, 0);
    *ended = true;
    return 0;
}

static int64_t leaves_a_late_one(void *arg) {
    ferry_future *f = ferry_spawn(is_told_late, arg);
    until_parked(f);
    ferry_detach(f);
    return 9;
}

static void child_late(void) {
    bool ended = false;
    ferry_run_options patient = {.grace_ms = HOUR};
    DEMAND(ferry_run_with(leaves_a_late_one, &ended, &patient) == 9);
    DEMAND(ended);
}

static volatile sig_atomic_t caught;

static void catches(int signo) {
    caught = signo;
}

static int64_t sends_to_the_program(void *arg) {
    (void)arg;
    DEMAND(kill(getpid(), SIGTERM) == 0);
    while (caught == 0)
        DEMAND(ferry_sleep(1) == 0);
    return 1;
}

static void child_no_signals(void) {
    signal(SIGTERM, catches);
    ferry_run_options options = {.no_signals = true};
    DEMAND(ferry_run_with(sends_to_the_program, NULL, &options) == 1);
    DEMAND(caught == SIGTERM);
}

static int64_t recurses(void *arg) {
    volatile char frame[512];
    frame[0] = 1;
    int64_t rc = arg == frame ? 0 : recurses((void *)(uintptr_t)&frame[1]);
    return rc + frame[0];
}

static int64_t awaits_deep(void *arg) {
    return ferry_await(ferry_spawn_with(recurses, arg, &(ferry_task_options){.name = "deep"}));
}

static void no_core(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
}

static void child_overflow_main(void) {
    no_core();
    ferry_run(recurses, NULL);
}

static void child_overflow_task(void) {
    no_core();
    ferry_run(awaits_deep, NULL);
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"interrupted", child_interrupted},
    {"terminated", child_terminated},
    {"result", child_result},
    {"cancelled-before", child_cancelled_before},
    {"twice", child_twice},
    {"thrice", child_thrice},
    {"late", child_late},
    {"no-signals", child_no_signals},
    {"overflow-main", child_overflow_main},
    {"overflow-task", child_overflow_task},
};

/* What waitpid() says; `said` gets what it wrote on standard error. */
static int run_child(const char *name, char *said, size_t size) {
    int fds[2], status;
    size_t length = 0;
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        /* A shell ignores SIGINT for what it starts with "&". */
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        exec_anew(name, NULL);
        _exit(127);
    }
    close(fds[1]);
    ssize_t got;
    while ((got = read(fds[0], said + length, size - 1 - length)) > 0)
        length += (size_t)got;
    said[length] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void child_is_good(const char *name) {
    char said[4096];
    int status = run_child(name, said, sizeof said);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: status %#x: %s", name, (unsigned)status, said);
}

#define GOOD_CHILD(function, name) \
    static void function(void **state) { \
        (void)state; \
        child_is_good(name); \
    }

GOOD_CHILD(interrupted, "interrupted")
GOOD_CHILD(terminated, "terminated")
GOOD_CHILD(result_after_a_signal, "result")
GOOD_CHILD(cancelled_before, "cancelled-before")
GOOD_CHILD(twice, "twice")
GOOD_CHILD(late, "late")
GOOD_CHILD(no_signals, "no-signals")

static void thrice(void **state) {
    (void)state;
    char said[4096];
    int status = run_child("thrice", said, sizeof said);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
}

static void overflows(const char *scenario, const char *task) {
    char said[4096];
    if (FERRY__ASAN || FERRY__TSAN)
        SKIP("the sanitizer has the signal");
    int status = run_child(scenario, said, sizeof said);
    assert_true(WIFSIGNALED(status));
    assert_true(WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
    assert_non_null(strstr(said, "stack"));
    assert_non_null(strstr(said, task));
}

static void overflow_of_main(void **state) {
    (void)state;
    overflows("overflow-main", "main");
}

static void overflow_of_a_task(void **state) {
    (void)state;
    overflows("overflow-task", "deep");
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof scenarios / sizeof scenarios[0]; i++) {
        if (strcmp(argv[1], scenarios[i].name) == 0) {
            scenarios[i].run();
            return 0;
        }
    }
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("the first task's result, error and words", results),
        CASE("several threads, one after the other", several_at_once),
        CASE("RUN-02 inside a task, a job or a callback", run_inside),
        CASE("RUN-09 a background task fails: told once, by name", failing_task),
        CASE("background tasks and jobs are cancelled and joined", left_work),
        CASE("options", options),
        CASE("options: signals left alone", left_alone),
        CASE("no descriptors", no_descriptors),
        CASE("memory ends while it runs: the end needs none", memory_ends),
        CASE("RUN-07 SIGINT: cancelled, cleaned up, interrupted", interrupted),
        CASE("RUN-07 SIGTERM, in two runs", terminated),
        CASE("RUN-07 a result all the same", result_after_a_signal),
        CASE("RUN-07 a signal when the first task is cancelled already", cancelled_before),
        CASE("RUN-07 the second signal ends shields", twice),
        CASE("RUN-07 the third does what it did before", thrice),
        CASE("RUN-07 a signal after the first task hurries the shutdown", late),
        CASE("no_signals: the program's handler gets them", no_signals),
        CASE("the first task overflows its stack and is named", overflow_of_main),
        CASE("another task overflows its stack and is named", overflow_of_a_task),
    };
    return SUPPORT_RUN(tests);
}

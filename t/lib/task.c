/* Tasks: the order in which they run, what each has of its own, their stacks, and what happens when
 * there is none. */
#include "config.h"

#include <errno.h>
#include <fenv.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "child.h"
#include "parked.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000
#define KIB ((size_t)1024)

/* ---- Order ----------------------------------------------------------------------------------- */

struct trace {
    int at;
    int seen[64];
};

struct step {
    struct trace *trace;
    int number;
    bool spawns, yields;
};

static int64_t note(void *arg);

static void spawn_and_note(struct step *s) {
    static struct step inner[8];
    struct step *next = &inner[s->number % 8];
    *next = (struct step){.trace = s->trace, .number = s->number + 10};
    int before = s->trace->at;
    ferry_detach(ferry_spawn(note, next));
    CHECK_INT(s->trace->at, before); /* a spawn never switches */
}

static int64_t note(void *arg) {
    struct step *s = arg;
    s->trace->seen[s->trace->at++] = s->number;
    if (s->spawns)
        spawn_and_note(s);
    if (s->yields) {
        ferry_yield();
        s->trace->seen[s->trace->at++] = s->number + 20;
    }
    return 0;
}

TASK_TEST(spawn_order) {
    struct trace trace = {.at = 0};
    struct step steps[5];
    ferry_future *f[5];
    for (int i = 0; i < 5; i++) {
        steps[i] = (struct step){.trace = &trace, .number = i, .spawns = i == 1, .yields = i == 2};
        f[i] = ferry_spawn(note, &steps[i]);
        CHECK_INT(trace.at, 0);
    }
    CHECK_INT(ferry_gather(f, 5, NULL, 0), 0);
    static const int expected[] = {0, 1, 2, 3, 4, 11, 22};
    CHECK_INT(trace.at, 7);
    for (int i = 0; i < 7; i++)
        CHECK_INT(trace.seen[i], expected[i]);
    return 0;
}

struct spawner {
    ferry_loop *loop;
    struct trace trace;
    struct step steps[40];
};

static void *spawns_from_a_thread(void *arg) {
    struct spawner *s = arg;
    for (int i = 0; i < 40; i++) {
        s->steps[i] = (struct step){.trace = &s->trace, .number = i};
        ferry_detach(ferry_spawn_on(s->loop, note, &s->steps[i]));
    }
    return NULL;
}

TASK_TEST(spawn_order_from_a_thread) {
    struct spawner s = {.loop = ferry_loop_current()};
    pthread_t thread = start_thread(spawns_from_a_thread, &s);
    while (s.trace.at < 40)
        ferry_yield();
    pthread_join(thread, NULL);
    for (int i = 0; i < 40; i++)
        CHECK_INT(s.trace.seen[i], i);
    return 0;
}

static int64_t spawns_here(void *arg) {
    ferry_future *f = ferry_spawn(note, arg);
    CHECK(!ferry_done(f) || ferry_result(f) == 0);
    ferry_detach(f);
    return 0;
}

/* A job, or a callback, spawns on the loop that it belongs to. */
TASK_TEST(spawned_from_elsewhere) {
    struct trace trace = {.at = 0};
    struct step steps[] = {{.trace = &trace, .number = 1}, {.trace = &trace, .number = 2}};
    CHECK_INT(ferry_await(ferry_submit(NULL, spawns_here, &steps[0])), 0);
    while (trace.at < 1)
        ferry_yield();
    CHECK_INT(ferry_post(ferry_loop_current(), spawns_here, &steps[1]), 0);
    while (trace.at < 2)
        ferry_yield();
    CHECK_INT(trace.seen[0], 1);
    CHECK_INT(trace.seen[1], 2);
    return 0;
}

static int64_t takes_turns(void *arg) {
    struct step *s = arg;
    for (int i = 0; i < 5; i++) {
        s->trace->seen[s->trace->at++] = s->number;
        CHECK_INT(i % 2 ? ferry_yield() : ferry_sleep(0), 0);
    }
    return 0;
}

TASK_TEST(yields_take_turns) {
    struct trace trace = {.at = 0};
    struct step steps[3];
    ferry_future *f[3];
    for (int i = 0; i < 3; i++) {
        steps[i] = (struct step){.trace = &trace, .number = i};
        f[i] = ferry_spawn(takes_turns, &steps[i]);
    }
    CHECK_INT(ferry_gather(f, 3, NULL, 0), 0);
    CHECK_INT(trace.at, 15);
    for (int i = 0; i < 15; i++)
        CHECK_INT(trace.seen[i], i % 3);
    return 0;
}

static void yields_elsewhere(void **state) {
    (void)state;
    assert_int_equal(ferry_yield(), 0); /* a plain thread */
    assert_int_equal(ferry_sleep(-5), 0);
    assert_string_equal(ferry_self_name(), "thread");
}

static int64_t sleeps_for_ever(void *arg) {
    (void)arg;
    return ferry_sleep(FERRY_FOREVER);
}

TASK_TEST(sleeps_until_cancelled) {
    ferry_future *f = ferry_spawn(sleeps_for_ever, NULL);
    until_parked(f);
    CHECK_INT(ferry_loop_current()->timers.used, 0);
    CHECK_INT(ferry_sleep(3), 0);
    CHECK(task_parked(f));
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    return 0;
}

/* ---- What each has of its own ---------------------------------------------------------------- */

struct own {
    int rounding;
    int error;
    int begun_with;
    bool kept;
};

/* Differs with the rounding. */
static double three_thirds(void) {
    volatile double third = 1.0;
    third /= 3.0;
    return third * 3.0;
}

static int64_t keeps_its_own(void *arg) {
    struct own *o = arg;
    o->begun_with = errno;
    errno = o->error;
    fesetround(o->rounding);
    double sum = three_thirds();
    o->kept = true;
    for (int i = 0; i < 6; i++) {
        int rc = i == 3 ? ferry_sleep(1) : ferry_yield();
        o->kept &= rc == 0 && errno == o->error && fegetround() == o->rounding;
    }
    o->kept &= three_thirds() == sum;
    return 0;
}

TASK_TEST(errno_and_rounding) {
    static const int rounding[] = {FE_UPWARD, FE_DOWNWARD, FE_TONEAREST, FE_TOWARDZERO};
    struct own own[4];
    ferry_future *f[4];
    errno = EDOM;
    for (int i = 0; i < 4; i++) {
        own[i] = (struct own){.rounding = rounding[i], .error = EPERM + i};
        f[i] = ferry_spawn(keeps_its_own, &own[i]);
    }
    CHECK_INT(ferry_gather(f, 4, NULL, 0), 0);
    CHECK_INT(errno, EDOM);
    CHECK_INT(fegetround(), FE_TONEAREST);
    for (int i = 0; i < 4; i++) {
        CHECK(own[i].kept);
        CHECK_INT(own[i].begun_with, 0);
    }
    return 0;
}

static int64_t fails_and_looks(void *arg) {
    ferry_fail(-EIO, "%s", (char *)arg);
    for (int i = 0; i < 3; i++) {
        CHECK_STR(ferry_errmsg(), (char *)arg);
        ferry_yield();
    }
    return 0;
}

TASK_TEST(the_last_error) {
    char first[] = "the first", second[] = "the second";
    ferry_future *f[] = {ferry_spawn(fails_and_looks, first), ferry_spawn(fails_and_looks, second)};
    ferry_fail(-EPERM, "main's");
    CHECK_INT(ferry_gather(f, 2, NULL, 0), 0);
    CHECK_STR(ferry_errmsg(), "main's");
    return 0;
}

/* ---- Stacks ---------------------------------------------------------------------------------- */

struct space {
    size_t bytes;
    int freed;
    struct ferry__thread *freed_on;
};

static int64_t uses_its_stack(void *arg) {
    struct space *s = arg;
    volatile char *here = __builtin_alloca(s->bytes);
    for (size_t i = 0; i < s->bytes; i += 512) {
        here[i] = (char)i;
        if (i % 8192 == 0)
            ferry_yield();
    }
    for (size_t i = 0; i < s->bytes; i += 512)
        if (here[i] != (char)i)
            return -EFAULT;
    return 0;
}

static void note_freed(void *arg) {
    struct space *s = arg;
    s->freed++;
    s->freed_on = ferry__thread_self();
}

TASK_TEST(stacks_of_all_sizes) {
    static const size_t sizes[] = {0,        1,         16 * KIB,   20 * KIB,
                                   64 * KIB, 300 * KIB, 1024 * KIB, 8192 * KIB};
    enum { N = sizeof sizes / sizeof sizes[0] };
    struct space space[N];
    ferry_future *f[N];
    for (int i = 0; i < N; i++) {
        size_t usable = sizes[i] == 0 ? 64 * KIB : sizes[i] < 16 * KIB ? 16 * KIB : sizes[i];
        space[i] = (struct space){.bytes = usable / 2};
        ferry_task_options options = {.stack_size = sizes[i], .arg_free = note_freed};
        f[i] = ferry_spawn_with(uses_its_stack, &space[i], &options);
    }
    CHECK_INT(ferry_gather(f, N, NULL, 0), 0);
    for (int i = 0; i < N; i++) {
        CHECK_INT(space[i].freed, 1);
        CHECK(space[i].freed_on == ferry__thread_self());
    }
    return 0;
}

/* The stack is taken at the first step: that is where it shows. Others aren't held up. */
TASK_TEST(no_stack) {
    struct space impossible = {0}, fine = {.bytes = 4096};
    ferry_task_options options = {
        .name = "giant", .stack_size = SIZE_MAX / 2, .arg_free = note_freed};
    ferry_future *first = ferry_spawn_with(uses_its_stack, &impossible, &options);
    ferry_future *second = ferry_spawn(uses_its_stack, &fine);
    ferry_future *third = ferry_spawn_with(uses_its_stack, &impossible, &options);
    CHECK_INT(ferry_await(second), 0);
    CHECK_INT(ferry_await(first), -EINVAL);
    CHECK(strstr(ferry_errmsg(), "'giant'") != NULL);
    CHECK_INT(ferry_await(third), -EINVAL);
    CHECK_INT(impossible.freed, 2);
    CHECK(impossible.freed_on == ferry__thread_self());

    /* One that nobody holds is said in the log; one that is cancelled first fails all the same. */
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "'giant'");
    ferry_detach(ferry_spawn_with(uses_its_stack, &impossible, &options));
    first = ferry_spawn_with(uses_its_stack, &impossible, &options);
    ferry_cancel(first);
    CHECK_INT(ferry_await(first), -EINVAL);
    CHECK_INT(kept_messages(&log), 1);
    CHECK_INT(impossible.freed, 4);
    return 0;
}

static void the_first_task_has_no_stack(void **state) {
    (void)state;
    int64_t zero = 0;
    ferry_run_options options = {.stack_size = SIZE_MAX / 2};
    assert_int_equal(ferry_run_with(sleeps_for_ever, &zero, &options), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "'main'"));
}

static int64_t waits_for_event(void *arg) {
    return ferry_event_wait(arg);
}

/* Starts tasks until the address space is used up, and a few more: those that run aren't harmed. */
static int64_t fills_the_address_space(void *arg) {
    (void)arg;
    enum { MOST = 4096, MORE = 10 };
    static ferry_future *f[MOST];
    ferry_event event = FERRY_EVENT_INIT;
    ferry_task_options options = {.stack_size = 1024 * KIB};
    struct rlimit limit = {.rlim_cur = 512 * 1024 * KIB, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 1;
    int n = 0, failed = 0;
    while (n < MOST && failed < MORE) {
        f[n] = ferry_spawn_with(waits_for_event, &event, &options);
        if (!f[n])
            return 2;
        ferry_yield();
        failed += ferry_done(f[n]);
        n++;
    }
    ferry_event_set(&event);
    int good = 0, bad = 0;
    for (int i = 0; i < n; i++) {
        int64_t rc = ferry_await(f[i]);
        good += rc == 0;
        bad += rc == -ENOMEM && strstr(ferry_errmsg(), "no stack of") != NULL;
    }
    if (good < 100 || bad != MORE || good + bad != n)
        return 3;
    /* What they gave back serves others. */
    ferry_event_set(&event);
    return ferry_await(ferry_spawn_with(waits_for_event, &event, &options)) == 0 ? 0 : 4;
}

static void the_address_space_is_used_up(void **state) {
    (void)state;
    if (support_slow())
        SKIP("sanitizers and valgrind need their address space");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        end_child(ferry_run(fills_the_address_space, NULL) == 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(child_was_good(status));
}

/* ---- Many ------------------------------------------------------------------------------------ */

struct chain {
    int left;
    int *deepest;
};

static int64_t awaits_the_next(void *arg) {
    struct chain *c = arg;
    if (c->left == 0) {
        *c->deepest += 1;
        return ferry_sleep(LONG);
    }
    struct chain next = {c->left - 1, c->deepest};
    return ferry_await(ferry_spawn(awaits_the_next, &next));
}

TASK_TEST(a_long_chain) {
    int deepest = 0;
    struct chain chain = {support_slow() ? 500 : 5000, &deepest};
    ferry_future *f = ferry_spawn(awaits_the_next, &chain);
    while (deepest == 0)
        ferry_yield();
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_loop_current()->n_tasks, 1);
    return 0;
}

static int64_t counts(void *arg) {
    ++*(int *)arg;
    return 0;
}

TASK_TEST(many) {
    int count = 0;
    const int rounds = support_slow() ? 5 : 50;
    for (int round = 0; round < rounds; round++) {
        ferry_future *f[200];
        for (int i = 0; i < 200; i++)
            f[i] = ferry_spawn(counts, &count);
        for (int i = 0; i < 200; i++)
            CHECK_INT(ferry_await(f[i]), 0);
    }
    CHECK_INT(count, rounds * 200);
    CHECK_INT(ferry_loop_current()->n_tasks, 1);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("RUN-10 tasks begin in the order of the spawns, which never switch", spawn_order),
        CASE("RUN-10 also when they come from another thread", spawn_order_from_a_thread),
        CASE("a job and a callback spawn on their loop", spawned_from_elsewhere),
        CASE("yields take turns", yields_take_turns),
        CASE("yields outside of tasks", yields_elsewhere),
        CASE("a sleep for ever ends by a cancel", sleeps_until_cancelled),
        CASE("errno and the rounding of numbers belong to a task", errno_and_rounding),
        CASE("so does the last error", the_last_error),
        CASE("stacks of all sizes", stacks_of_all_sizes),
        CASE("a task that gets no stack says so", no_stack),
        CASE("so does the first one", the_first_task_has_no_stack),
        CASE("the address space is used up", the_address_space_is_used_up),
        CASE("a long chain of awaits is cancelled", a_long_chain),
        CASE("many", many),
    };
    return SUPPORT_RUN(tests);
}

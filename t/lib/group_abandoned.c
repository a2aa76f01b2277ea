/* Groups that nobody closes: their owner ends, or leaves a scope around them. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#include <event2/event.h>

#include "parked.h"
#include "quiet.h"
#include "sleeper.h"
#include "support.h"
#include "waiters.h"

struct abandoned {
    struct sleeper task, job;
};

static int64_t fails_when_cancelled(void *arg) {
    (void)arg;
    ferry_sleep(60000);
    return ferry_fail(-EIO, "too late to be seen");
}

static int64_t leaves_group_open(void *arg) {
    struct abandoned *a = arg;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps, &a->task), 0);
    CHECK_INT(ferry_group_submit(&group, NULL, sleeps, &a->job), 0);
    CHECK_INT(ferry_group_spawn(&group, fails_when_cancelled, NULL), 0);
    CHECK_INT(ferry_event_wait(&a->task.begun), 0);
    CHECK_INT(ferry_event_wait(&a->job.begun), 0);
    return 9;
}

TASK_TEST(a_task_ends_with_its_group_open) {
    struct abandoned a = {0};
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "without closing it");
    CHECK_INT(ferry_await(ferry_spawn(leaves_group_open, &a)), 9);
    CHECK_INT(kept_messages(&log), 1);
    CHECK(a.task.ended && a.job.ended);
    CHECK_INT(a.task.rc, -ECANCELED);
    CHECK_INT(a.job.rc, -ECANCELED);
    return 0;
}

TASK_TEST(errors_in_an_abandoned_group_are_logged) {
    struct abandoned a = {0};
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "too late to be seen");
    CHECK_INT(ferry_await(ferry_spawn(leaves_group_open, &a)), 9);
    CHECK_INT(kept_messages(&log), 1);
    return 0;
}

static int64_t leaves_two_groups_open(void *arg) {
    struct sleeper *sleepers = arg;
    ferry_group outer = FERRY_GROUP_INIT, inner = FERRY_GROUP_INIT;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_group_open(&outer), 0);
    CHECK_INT(ferry_group_spawn(&outer, sleeps, &sleepers[0]), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&inner), 0);
    CHECK_INT(ferry_group_spawn(&inner, sleeps, &sleepers[1]), 0);
    return 1;
}

TASK_TEST(a_cancelled_task_ends_with_two_groups_open) {
    struct sleeper sleepers[2] = {0};
    ferry_future *owner = ferry_spawn(leaves_two_groups_open, sleepers);
    ferry_cancel(owner);
    CHECK_INT(ferry_await(owner), 1);
    CHECK(sleepers[0].ended && sleepers[1].ended);
    return 0;
}

static void *thread_leaves_group_open(void *arg) {
    struct sleeper *sleeper = arg;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, NULL, sleeps, sleeper), 0);
    CHECK_INT(ferry_event_wait(&sleeper->begun), 0);
    return NULL;
}

static void a_thread_ends_with_its_group_open(void **state) {
    (void)state;
    struct sleeper sleeper = {0};
    pthread_join(start_thread(thread_leaves_group_open, &sleeper), NULL);
    assert_true(sleeper.ended);
    assert_int_equal(sleeper.rc, -ECANCELED);
}

static int64_t job_leaves_group_open(void *arg) {
    thread_leaves_group_open(arg);
    return 2;
}

static void a_job_ends_with_its_group_open(void **state) {
    (void)state;
    struct sleeper sleeper = {0};
    assert_int_equal(ferry_await(ferry_submit(NULL, job_leaves_group_open, &sleeper)), 2);
    assert_true(sleeper.ended);
}

struct loops_thread {
    struct event_base *base;
    ferry_loop *loop;
    gate gate;
};

static int64_t fails_at_gate(void *arg) {
    gate_wait(arg);
    return ferry_fail(-EIO, "an orphan's error");
}

/* It can't wait for the job: that would block the loop. */
static void *loops_thread_leaves_group_open(void *arg) {
    struct loops_thread *l = arg;
    ferry_group group = FERRY_GROUP_INIT;
    l->loop = ferry_loop_attach(l->base);
    CHECK(l->loop != NULL);
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, NULL, fails_at_gate, &l->gate), 0);
    gate_wait_arrivals(&l->gate, 1);
    return NULL;
}

static void a_loops_thread_ends_with_its_group_open(void **state) {
    (void)state;
    struct loops_thread l = {.base = event_base_new(), .gate = GATE_INIT};
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "an orphan's error");
    pthread_join(start_thread(loops_thread_leaves_group_open, &l), NULL);
    gate_open(&l.gate);
    while (ferry_loop_free(l.loop) == -EBUSY) /* until the job has ended */
        sched_yield();
    event_base_free(l.base);
    assert_int_equal(kept_messages(&log), 1);
    gate_destroy(&l.gate);
}

TASK_TEST(a_scope_around_is_closed_first) {
    struct sleeper sleeper = {0};
    bool ran = false;
    ferry_scope outer = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps, &sleeper), 0);
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_scope_close(&outer, 0), -EINVAL);
    CHECK_INT(sleeper.rc, -ECANCELED);
    CHECK(sleeper.ended);
    CHECK_INT(ferry_group_spawn(&group, succeeds, &ran), -EINVAL);
    CHECK_INT(ferry_group_close(&group, 0), -EINVAL);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

TASK_TEST(a_group_around_is_closed_first) {
    struct sleeper sleepers[2] = {0};
    ferry_group outer = FERRY_GROUP_INIT, inner = FERRY_GROUP_INIT;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_group_open(&outer), 0);
    CHECK_INT(ferry_group_spawn(&outer, sleeps, &sleepers[0]), 0);
    CHECK_INT(ferry_group_open(&inner), 0);
    CHECK_INT(ferry_group_spawn(&inner, sleeps, &sleepers[1]), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_group_close(&outer, 0), -EINVAL);
    CHECK(sleepers[0].ended && sleepers[1].ended);
    CHECK_INT(ferry_group_close(&inner, 0), -EINVAL);
    CHECK_INT(ferry_scope_close(&scope, 0), -EINVAL);
    CHECK_INT(ferry_group_close(&outer, 0), -EINVAL);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

struct failing {
    _Atomic int begun, go;
};

static int64_t fails_when_told(void *arg) {
    struct failing *f = arg;
    atomic_store_explicit(&f->begun, 1, memory_order_relaxed);
    while (!atomic_load_explicit(&f->go, memory_order_relaxed))
        continue;
    return -EIO;
}

/* The member's error asks the group's scope to stop just when that leaves its owner's chain. */
TASK_TEST(a_scope_around_is_closed_while_a_member_fails) {
    ferry_log_set(quiet_ferry, NULL);
    int rounds = support_slow() ? 200 : 2000;
    for (int round = 0; round < rounds && support_in_time(); round++) {
        struct failing f = {0};
        ferry_scope outer = FERRY_SCOPE_INIT;
        ferry_group group = FERRY_GROUP_INIT;
        CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
        CHECK_INT(ferry_group_open(&group), 0);
        CHECK_INT(ferry_group_submit(&group, NULL, fails_when_told, &f), 0);
        while (!atomic_load_explicit(&f.begun, memory_order_relaxed))
            sched_yield();
        atomic_store_explicit(&f.go, 1, memory_order_relaxed);
        for (volatile int i = 0; i < round % 200 * 10;)
            i = i + 1;
        CHECK_INT(ferry_scope_close(&outer, 0), -EINVAL);
    }
    ferry_log_set(NULL, NULL);
    return 0;
}

static int64_t closes_foreign_group(void *arg) {
    CHECK_INT(ferry_group_close(arg, 0), -EINVAL);
    return 0;
}

TASK_TEST(only_the_owner_closes) {
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_await(ferry_spawn(closes_foreign_group, &group)), 0);
    CHECK_INT(ferry_await(ferry_submit(NULL, closes_foreign_group, &group)), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("GRP-23 a task ends with its group open: its members are cancelled and joined",
             a_task_ends_with_its_group_open),
        CASE("GRP-23 their errors are logged", errors_in_an_abandoned_group_are_logged),
        CASE("GRP-23 a cancelled task ends with two groups open",
             a_cancelled_task_ends_with_two_groups_open),
        CASE("GRP-23 a thread ends with its group open", a_thread_ends_with_its_group_open),
        CASE("GRP-23 a job ends with its group open", a_job_ends_with_its_group_open),
        CASE("GRP-23 a loop's own thread ends with its group open",
             a_loops_thread_ends_with_its_group_open),
        CASE("GRP-23 a scope around the group is closed first", a_scope_around_is_closed_first),
        CASE("GRP-23 a group around it is closed first", a_group_around_is_closed_first),
        CASE("GRP-23 a scope around it is closed while a member fails",
             a_scope_around_is_closed_while_a_member_fails),
        CASE("GRP-23 only the owner closes a group", only_the_owner_closes),
    };
    return SUPPORT_RUN(tests);
}

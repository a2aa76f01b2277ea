/* ferry_group_start() and ferry_ready(): a member that says when it is ready. */
#include "config.h"

#include <errno.h>

#include "parked.h"
#include "support.h"
#include "waiters.h"

/* A task that does what its starter's test asks for. */
struct target {
    ferry_future *self;  /* its handle, borrowed */
    ferry_future *owner; /* of the group: the task that the test looks at */
    ferry_event go;      /* it waits for this before it reports */
    bool waits;          /* for `go` */
    int64_t early;       /* returned before it has reported */
    int64_t late;        /* returned after it has reported */
    bool sleeps;         /* after it has reported */
    int64_t value;
    int64_t ready[2]; /* what ferry_ready() gave */
    int64_t slept;
    bool ended;
};

static int64_t target(void *arg) {
    struct target *t = arg;
    t->self = ferry_self();
    if (t->waits) {
        int64_t rc = ferry_event_wait(&t->go);
        if (rc < 0) {
            t->ended = true;
            return t->early ? ferry_fail(t->early, "cleaning up failed") : rc;
        }
    }
    if (t->early) {
        t->ended = true;
        return t->early < 0 ? ferry_fail(t->early, "it couldn't start") : t->early;
    }
    t->ready[0] = ferry_ready(t->value);
    if (t->sleeps)
        t->slept = ferry_sleep(60000);
    t->ended = true;
    return t->late ? ferry_fail(t->late, "it broke later") : t->sleeps ? t->slept : 0;
}

TASK_TEST(reports_ready) {
    struct target t = {.value = 31};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_start(&group, target, &t), 31);
    CHECK_INT(t.ready[0], 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK(t.ended);
    return 0;
}

struct job_start {
    ferry_group group;
    struct target target;
};

static int64_t starts_from_job(void *arg) {
    struct job_start *j = arg;
    CHECK_INT(ferry_group_start(&j->group, target, &j->target), 5);
    ferry_group_cancel(&j->group);
    return 0;
}

TASK_TEST(a_job_starts_a_task) {
    struct job_start j = {.group = FERRY_GROUP_INIT, .target = {.value = 5, .sleeps = true}};
    CHECK_INT(ferry_group_open(&j.group), 0);
    CHECK_INT(ferry_group_submit(&j.group, NULL, starts_from_job, &j), 0);
    CHECK_INT(ferry_group_close(&j.group, 0), 0);
    CHECK_INT(j.target.slept, -ECANCELED);
    return 0;
}

TASK_TEST(fails_before) {
    struct target t = {.early = -EIO};
    struct target other = {.value = 1, .waits = true, .go = FERRY_EVENT_INIT};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_start(&group, target, &t), -EIO);
    CHECK_STR(ferry_errmsg(), "it couldn't start");
    CHECK_INT(ferry_yield(), 0); /* the group is unharmed */
    ferry_event_set(&other.go);
    CHECK_INT(ferry_group_start(&group, target, &other), 1);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    return 0;
}

TASK_TEST(fails_after) {
    struct target t = {.value = 2, .late = -EIO};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_start(&group, target, &t), 2);
    CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, 1)) {
        CHECK_INT(errors[0].code, -EIO);
        CHECK_STR(errors[0].message, "it broke later");
    }
    return 0;
}

TASK_TEST(never_reports) {
    struct target t = {.early = 17};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_start(&group, target, &t), -EINVAL);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    return 0;
}

static int64_t reports_twice(void *arg) {
    struct target *t = arg;
    CHECK_INT(ferry_ready(-1), -EINVAL); /* doesn't count */
    t->ready[0] = ferry_ready(4);
    t->ready[1] = ferry_ready(5);
    return 0;
}

TASK_TEST(reports_again) {
    struct target t = {0};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_start(&group, reports_twice, &t), 4);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_INT(t.ready[0], 0);
    CHECK_INT(t.ready[1], -EINVAL);
    return 0;
}

static int64_t reports_to_nobody(void *arg) {
    (void)arg;
    return ferry_ready(1);
}

static void nobody_waits_for_it(void **state) {
    (void)state;
    assert_int_equal(ferry_ready(1), -EINVAL);
    assert_int_equal(ferry_await(ferry_submit(NULL, reports_to_nobody, NULL)), -EINVAL);
    assert_int_equal(ferry_run(reports_to_nobody, NULL), -EINVAL);
}

/* ---- Meanwhile ------------------------------------------------------------------------------- */

struct starting {
    ferry_group *group;
    struct target target;
    int64_t started; /* what ferry_group_start() gave */
    int64_t closed;
    bool close_returned;
};

static int64_t starts(void *arg) {
    struct starting *s = arg;
    s->started = ferry_group_start(s->group, target, &s->target);
    return 0;
}

static int64_t owns_empty_group(void *arg) {
    struct starting *s = arg;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    s->group = &group;
    while (!s->target.self) /* until somebody has begun to start it */
        CHECK_INT(ferry_yield(), 0);
    s->closed = ferry_group_close(&group, 0);
    s->close_returned = true;
    return 0;
}

/* The body ends while somebody who isn't a member starts a task. */
static void begin(struct starting *s, ferry_future **owner, ferry_future **starter) {
    s->target.waits = true;
    s->target.value = 9;
    *owner = ferry_spawn(owns_empty_group, s);
    while (!s->group)
        ferry_yield();
    *starter = ferry_spawn(starts, s);
    while (!s->target.self)
        ferry_yield();
    until_parked(*owner);
    until_parked(s->target.self);
}

TASK_TEST(the_body_ends_meanwhile) {
    struct starting s = {.target.sleeps = true};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    CHECK(!s.close_returned); /* although there are no members */
    ferry_event_set(&s.target.go);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(s.started, 9);
    for (int i = 0; i < 10; i++)
        ferry_yield();
    CHECK(!s.close_returned); /* now it is one */
    ferry_cancel(s.target.self);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.closed, 0);
    return 0;
}

TASK_TEST(it_fails_and_the_group_may_end) {
    struct starting s = {.target.early = -EIO};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    CHECK(!s.close_returned);
    ferry_event_set(&s.target.go);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(s.started, -EIO);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.closed, 0);
    return 0;
}

TASK_TEST(cancelled_just_before_ready) {
    struct starting s = {.target.sleeps = true};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    ferry_event_set(&s.target.go); /* its wait is granted: the cancel comes at its next one */
    ferry_cancel(s.target.self);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(s.started, 9);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.closed, 0);
    CHECK_INT(s.target.slept, -ECANCELED);
    return 0;
}

TASK_TEST(cancelled_just_after_ready) {
    struct starting s = {.target.sleeps = true};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    ferry_event_set(&s.target.go);
    while (s.started != 9)
        ferry_yield();
    ferry_cancel(s.target.self);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.closed, 0);
    CHECK_INT(s.target.slept, -ECANCELED);
    return 0;
}

TASK_TEST(ready_in_a_cancelled_group) {
    struct starting s = {.target.sleeps = true};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    ferry_group_cancel(s.group);
    for (int i = 0; i < 3; i++)
        ferry_yield();
    CHECK(!s.target.ended); /* not a member yet */
    ferry_event_set(&s.target.go);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(s.started, 9);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.target.slept, -ECANCELED); /* aborted where it slept */
    return 0;
}

TASK_TEST(the_starter_is_cancelled) {
    struct starting s = {0};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    ferry_cancel(starter);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(s.started, -ECANCELED);
    CHECK(s.target.ended); /* cancelled and joined */
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.closed, 0);
    return 0;
}

TASK_TEST(the_starter_is_cancelled_and_the_clean_up_fails) {
    struct starting s = {.target.early = -EIO};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    ferry_cancel(starter);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(s.started, -EIO);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.closed, 0);
    return 0;
}

/* It was granted before: it reports, in vain, after its starter has given up. */
TASK_TEST(ready_after_the_starter_gave_up) {
    struct starting s = {.target.sleeps = true};
    ferry_future *owner, *starter;
    begin(&s, &owner, &starter);
    ferry_cancel(starter);
    ferry_event_set(&s.target.go);
    CHECK_INT(ferry_await(starter), 0);
    CHECK_INT(s.started, -ECANCELED);
    CHECK_INT(s.target.ready[0], 0);
    CHECK_INT(s.target.slept, -ECANCELED);
    CHECK(s.target.ended);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(s.closed, 0);
    return 0;
}

TASK_TEST(started_in_a_cancelled_scope) {
    struct target t = {.waits = true};
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&group), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_group_start(&group, target, &t), -ECANCELED);
    CHECK(t.ended); /* it ran to its first wait */
    CHECK_INT(ferry_group_close(&group, -ECANCELED), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("GRP-20 a task that reports: its value is returned", reports_ready),
        CASE("GRP-20 a job starts a task", a_job_starts_a_task),
        CASE("GRP-20 a task that fails before: the starter's error, the group is unharmed",
             fails_before),
        CASE("GRP-20 a task that fails after: the group's error", fails_after),
        CASE("GRP-20 a task that returns without reporting", never_reports),
        CASE("GRP-20 a second report is refused", reports_again),
        CASE("GRP-20 a report that nobody waits for is refused", nobody_waits_for_it),
        CASE("GRP-21 the body ends meanwhile: the group stays open", the_body_ends_meanwhile),
        CASE("GRP-21 the task fails meanwhile: the group may end", it_fails_and_the_group_may_end),
        CASE("GRP-21 the task is cancelled just before it reports", cancelled_just_before_ready),
        CASE("GRP-21 the task is cancelled just after it has reported", cancelled_just_after_ready),
        CASE("GRP-21 a task moved into a cancelled group is aborted where it sleeps",
             ready_in_a_cancelled_group),
        CASE("GRP-21 the starter is cancelled: so is the task, which is joined",
             the_starter_is_cancelled),
        CASE("GRP-21 the starter is cancelled, and the task's clean-up fails",
             the_starter_is_cancelled_and_the_clean_up_fails),
        CASE("GRP-21 the task reports after its starter has given up",
             ready_after_the_starter_gave_up),
        CASE("GRP-21 the scope was cancelled before", started_in_a_cancelled_scope),
    };
    return SUPPORT_RUN(tests);
}

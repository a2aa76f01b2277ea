/* Groups: cancel, deadline, shields, fork, and memory that runs out. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "oom.h"
#include "parked.h"
#include "saturate.h"
#include "sleeper.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

static int64_t sleeps_and_succeeds(void *arg) {
    ferry_sleep(60000);
    *(bool *)arg = true;
    return 0;
}

static int64_t cancels_group(void *arg) {
    ferry_group_cancel(arg);
    return 0;
}

static void *cancels_group_thread(void *arg) {
    ferry_group_cancel(arg);
    return NULL;
}

/* ---- Cancel ---------------------------------------------------------------------------------- */

struct tree {
    struct sleeper leaves[2];
    int64_t rc[2]; /* of the nested groups' closes */
    int made;
};

struct branch {
    struct tree *tree;
    int depth;
};

/* A group in a group in a group; a sleeper in each of the lower two. */
static int64_t grows(void *arg) {
    struct branch *b = arg;
    struct branch next = {b->tree, b->depth + 1};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps, &b->tree->leaves[b->depth]), 0);
    if (next.depth < 2)
        CHECK_INT(ferry_group_spawn(&group, grows, &next), 0);
    b->tree->made++;
    return b->tree->rc[b->depth] = ferry_group_close(&group, 0);
}

static void check_tree(const struct tree *tree) {
    for (int i = 0; i < 2; i++) {
        CHECK(tree->leaves[i].ended);
        CHECK_INT(tree->leaves[i].rc, -ECANCELED);
        CHECK_INT(tree->rc[i], -ECANCELED);
    }
}

static void open_tree(ferry_group *group, struct tree *tree, struct branch *root) {
    *root = (struct branch){tree, 0};
    CHECK_INT(ferry_group_open(group), 0);
    CHECK_INT(ferry_group_spawn(group, grows, root), 0);
    while (tree->made < 2)
        CHECK_INT(ferry_yield(), 0);
}

TASK_TEST(cancel_by_the_body) {
    struct tree tree = {0};
    struct branch root;
    ferry_group group = FERRY_GROUP_INIT;
    open_tree(&group, &tree, &root);
    ferry_group_cancel(&group);
    int64_t rc = ferry_yield();
    CHECK_INT(rc, -ECANCELED); /* the body is cancelled too */
    CHECK_INT(ferry_group_close(&group, rc), 0);
    check_tree(&tree);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

TASK_TEST(cancel_by_a_member) {
    struct tree tree = {0};
    struct branch root;
    ferry_group group = FERRY_GROUP_INIT;
    open_tree(&group, &tree, &root);
    CHECK_INT(ferry_group_spawn(&group, cancels_group, &group), 0);
    CHECK_INT(ferry_group_close(&group, 4), 4);
    check_tree(&tree);
    return 0;
}

TASK_TEST(cancel_by_a_thread) {
    struct tree tree = {0};
    struct branch root;
    ferry_group group = FERRY_GROUP_INIT;
    open_tree(&group, &tree, &root);
    pthread_t thread = start_thread(cancels_group_thread, &group);
    int64_t rc = ferry_sleep(60000);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), 0);
    check_tree(&tree);
    pthread_join(thread, NULL);
    return 0;
}

static void cancel_of_a_threads_group(void **state) {
    (void)state;
    struct sleeper sleepers[3] = {0};
    ferry_group group = FERRY_GROUP_INIT;
    assert_int_equal(ferry_group_open(&group), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_group_submit(&group, NULL, sleeps, &sleepers[i]), 0);
        CHECK_INT(ferry_event_wait(&sleepers[i].begun), 0);
    }
    pthread_t thread = start_thread(cancels_group_thread, &group);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(sleepers[i].rc, -ECANCELED);
    CHECK_INT(ferry_yield(), 0);
    pthread_join(thread, NULL);
}

TASK_TEST(a_queued_member) {
    ferry_executor *pool;
    CHECK_INT(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    saturation s;
    saturate(&s, pool, 1);
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    bool ran = false;
    CHECK_INT(ferry_group_submit(&group, pool, succeeds, &ran), 0);
    ferry_group_cancel(&group);
    CHECK_INT(ferry_group_close(&group, 0), 0); /* while the pool is still saturated */
    ferry_executor_stats stats;
    ferry_executor_get_stats(pool, &stats);
    CHECK_INT(stats.cancelled, 1);
    desaturate(&s);
    CHECK(!ran);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
    return 0;
}

struct hooked {
    gate gate;
    int calls;
};

static int64_t stands_at_gate(void *arg) {
    gate_wait(&((struct hooked *)arg)->gate);
    return -ECANCELED;
}

static void open_gate(void *arg) {
    struct hooked *h = arg;
    h->calls++;
    gate_open(&h->gate);
}

TASK_TEST(a_running_member_is_told_once) {
    struct hooked h = {.gate = GATE_INIT};
    ferry_job_options options = {.interrupt = open_gate};
    ferry_scope outer = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit_with(&group, NULL, stands_at_gate, &h, &options, NULL), 0);
    gate_wait_arrivals(&h.gate, 1);
    ferry_group_cancel(&group);
    ferry_group_cancel(&group);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_group_close(&group, 0), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    CHECK_INT(h.calls, 1);
    gate_destroy(&h.gate);
    return 0;
}

struct late_submit {
    ferry_group *group;
    ferry_executor *pool;
    struct sleeper job;
    bool submitted;
};

static int64_t submits_late(void *arg) {
    struct late_submit *l = arg;
    CHECK_INT(ferry_group_submit(l->group, l->pool, sleeps, &l->job), 0);
    l->submitted = true;
    return 0;
}

/* Its submitter, which isn't a member, waits for a place in the queue when the group is
 * cancelled. */
TASK_TEST(a_member_that_is_being_submitted) {
    ferry_group group = FERRY_GROUP_INIT;
    struct late_submit l = {.group = &group};
    ferry_executor_options options = {.threads_max = 1, .queue_max = 1};
    CHECK_INT(ferry_executor_new(&l.pool, &options), 0);
    saturation s;
    saturate(&s, l.pool, 1);
    bool ran = false;
    ferry_future *queued = ferry_submit(l.pool, succeeds, &ran);
    ferry_future *submitter = ferry_spawn(submits_late, &l);
    CHECK_INT(ferry_group_open(&group), 0);
    until_parked(submitter);
    ferry_group_cancel(&group);
    CHECK(task_parked(submitter)); /* it isn't cancelled itself */
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    desaturate(&s);
    CHECK_INT(ferry_await(submitter), 0);
    CHECK_INT(ferry_await(queued), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK(l.submitted);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_INT(ferry_executor_stop(l.pool, FERRY_FOREVER), 0);
    ferry_executor_free(l.pool);
    return 0;
}

TASK_TEST(cancelled_before_it_was_opened) {
    bool done = false;
    struct sleeper sleeper = {0};
    ferry_group group = FERRY_GROUP_INIT;
    ferry_group_cancel(&group);
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, succeeds, &done), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps, &sleeper), 0);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_group_close(&group, -ECANCELED), 0);
    CHECK(done); /* it ran to its first wait, which it hadn't */
    CHECK_INT(sleeper.rc, -ECANCELED);
    return 0;
}

TASK_TEST(a_member_of_a_cancelled_group_runs_to_its_first_wait) {
    struct sleeper sleeper = {0};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    ferry_group_cancel(&group);
    CHECK_INT(ferry_group_spawn(&group, sleeps, &sleeper), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_INT(sleeper.rc, -ECANCELED);
    return 0;
}

/* ---- Deadlines ------------------------------------------------------------------------------- */

TASK_TEST(deadline_in_the_body) {
    struct sleeper sleeper = {0};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open_for(&group, 1), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps, &sleeper), 0);
    int64_t rc = ferry_sleep(60000);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), -ETIMEDOUT);
    CHECK_INT(sleeper.rc, -ECANCELED);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

TASK_TEST(deadline_while_joining) {
    struct sleeper sleeper = {0};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open_for(&group, 1), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps, &sleeper), 0);
    CHECK_INT(ferry_group_close(&group, 0), -ETIMEDOUT);
    CHECK_INT(sleeper.rc, -ECANCELED);
    return 0;
}

static void deadline_of_a_thread(void **state) {
    (void)state;
    struct sleeper sleeper = {0};
    ferry_group group = FERRY_GROUP_INIT;
    assert_int_equal(ferry_group_open_for(&group, 1), 0);
    CHECK_INT(ferry_group_submit(&group, NULL, sleeps, &sleeper), 0);
    CHECK_INT(ferry_group_close(&group, 0), -ETIMEDOUT);
    CHECK_INT(ferry_yield(), 0);
}

TASK_TEST(a_member_that_succeeds_after_the_deadline) {
    bool done = false;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open_for(&group, 1), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps_and_succeeds, &done), 0);
    CHECK_INT(ferry_group_close(&group, 6), 6);
    CHECK(done);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

/* ---- Shields --------------------------------------------------------------------------------- */

struct behind_shield {
    ferry_event go;
    struct sleeper child;
    int64_t rc;         /* of the body's wait behind its shield */
    ferry_scope *outer; /* cancelled instead of the group */
    ferry_group *group;
};

static int64_t body_behind_shield(void *arg) {
    struct behind_shield *b = arg;
    ferry_group group = FERRY_GROUP_INIT;
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_scope outer = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&group), 0);
    b->group = &group;
    b->outer = &outer;
    CHECK_INT(ferry_group_spawn(&group, sleeps, &b->child), 0);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    b->rc = ferry_event_wait(&b->go);
    CHECK(b->child.ended); /* before the body was let go */
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    int64_t rc = ferry_yield();
    CHECK_INT(rc, -ECANCELED);
    rc = ferry_group_close(&group, rc);
    return ferry_scope_close(&outer, rc);
}

static void cancel_around_a_shield(bool outer) {
    struct behind_shield b = {.go = FERRY_EVENT_INIT};
    ferry_future *owner = ferry_spawn(body_behind_shield, &b);
    CHECK_INT(ferry_event_wait(&b.child.begun), 0);
    until_parked(owner);
    if (outer)
        ferry_scope_cancel(b.outer);
    else
        ferry_group_cancel(b.group);
    while (!b.child.ended)
        ferry_yield();
    CHECK(task_parked(owner)); /* still behind its shield */
    ferry_event_set(&b.go);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(b.rc, 0);
    CHECK_INT(b.child.rc, -ECANCELED);
}

TASK_TEST(children_are_told_although_the_owner_is_shielded) {
    cancel_around_a_shield(false);
    return 0;
}

TASK_TEST(children_are_told_when_the_scope_around_is_cancelled) {
    cancel_around_a_shield(true);
    return 0;
}

struct shielded_child {
    ferry_future *owner;
    int looks;
};

static int64_t child_behind_shield(void *arg) {
    struct shielded_child *c = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_sleep(60000), -ECANCELED);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    until_parked(c->owner);
    /* The owner joins, cancelled: it must sleep all the time, not look again and again. */
    for (int i = 0; i < 50; i++) {
        CHECK_INT(ferry_yield(), 0);
        c->looks += task_parked(c->owner);
    }
    CHECK_INT(ferry_sleep(1), 0);
    c->looks += task_parked(c->owner);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    return 0;
}

static int64_t owner_of_shielded_child(void *arg) {
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, child_behind_shield, arg), 0);
    CHECK_INT(ferry_yield(), 0);
    ferry_group_cancel(&group);
    return ferry_group_close(&group, 0);
}

TASK_TEST(a_shielded_child_delays_the_end) {
    struct shielded_child child = {0};
    child.owner = ferry_spawn(owner_of_shielded_child, &child);
    CHECK_INT(ferry_await(child.owner), 0);
    CHECK_INT(child.looks, 51);
    return 0;
}

struct behind_hard {
    ferry_executor *pool;
    struct sleeper sleeper;
    int64_t grace_ms;
    int left; /* behind */
};

static int64_t joins_behind_shield(void *arg) {
    struct behind_hard *b = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, b->pool, sleeps, &b->sleeper), 0);
    int64_t rc = ferry_group_close(&group, 0);
    return ferry_scope_close(&shield, rc);
}

/* A shutdown that has become hard ends the owner's shield, and so its members, also those on
 * executors that aren't the loop's. */
static int64_t shuts_down_hard(void *arg) {
    struct behind_hard *b = arg;
    ferry_future *owner = ferry_spawn(joins_behind_shield, b);
    CHECK_INT(ferry_event_wait(&b->sleeper.begun), 0);
    until_parked(owner);
    b->left = ferry_loop_shutdown(ferry_loop_current(), b->grace_ms);
    if (b->left == 0)
        CHECK(ferry_cancelled(owner));
    ferry_detach(owner);
    return 0;
}

static void a_hard_shutdown(void **state) {
    (void)state;
    struct kept_log log;
    struct behind_hard b;
    int64_t grace_ms = 100;
    do { /* with more time, where that wasn't enough for the job's thread to hear of it and end */
        b = (struct behind_hard){.grace_ms = grace_ms};
        assert_int_equal(ferry_executor_new(&b.pool, &(ferry_executor_options){.threads_max = 1}),
                         0);
        keep_log(&log, FERRY_LOG_WARNING, "");
        assert_int_equal(ferry_run(shuts_down_hard, &b), 0);
        kept_messages(&log);
        assert_int_equal(ferry_executor_stop(b.pool, FERRY_FOREVER), 0);
        ferry_executor_free(b.pool);
        assert_int_equal(b.sleeper.rc, -ECANCELED);
        grace_ms *= 2;
    } while (b.left > 0);
}

/* ---- Where nothing may wait ------------------------------------------------------------------ */

struct callback_group {
    ferry_group group;
    struct sleeper sleeper;
    ferry_event closed;
    int calls;
};

static int64_t group_in_callback(void *arg) {
    struct callback_group *c = arg;
    if (c->calls++ == 0) {
        CHECK_INT(ferry_group_open(&c->group), 0);
        CHECK_INT(ferry_group_spawn(&c->group, sleeps, &c->sleeper), 0);
        CHECK_INT(ferry_group_start(&c->group, sleeps, &c->sleeper), -EDEADLK);
        CHECK_INT(ferry_group_close(&c->group, 0), -EDEADLK);
        ferry_group_cancel(&c->group); /* it is still open */
    } else if (c->sleeper.ended) {
        CHECK_INT(ferry_group_close(&c->group, 8), 8);
        ferry_event_set(&c->closed);
        return 0;
    }
    CHECK_INT(ferry_post(ferry_loop_current(), group_in_callback, c), 0);
    return 0;
}

TASK_TEST(a_callback_must_not_wait_for_its_group) {
    struct callback_group c = {.group = FERRY_GROUP_INIT};
    CHECK_INT(ferry_post(ferry_loop_current(), group_in_callback, &c), 0);
    CHECK_INT(ferry_event_wait(&c.closed), 0);
    CHECK_INT(c.sleeper.rc, -ECANCELED);
    return 0;
}

static void no_loop_no_tasks(void **state) {
    (void)state;
    bool ran = false;
    ferry_group group = FERRY_GROUP_INIT;
    assert_int_equal(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, succeeds, &ran), -EINVAL);
    CHECK_INT(ferry_group_start(&group, succeeds, &ran), -EINVAL);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK(!ran);
}

/* ---- Fork ------------------------------------------------------------------------------------ */

static void the_childs_copy_of_a_group(void **state) {
    (void)state;
    struct sleeper sleeper = {0};
    bool ran = false;
    ferry_group group = FERRY_GROUP_INIT;
    assert_int_equal(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, NULL, sleeps, &sleeper), 0);
    CHECK_INT(ferry_event_wait(&sleeper.begun), 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool good = ferry_group_submit(&group, NULL, succeeds, &ran) == FERRY_EFORKED &&
                    ferry_group_close(&group, 0) == FERRY_EFORKED && ferry_yield() == 0;
        end_child(good);
    }
    int status = 0;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(child_was_good(status));
    ferry_group_cancel(&group);
    CHECK_INT(ferry_group_close(&group, 0), 0);
}

/* ---- At any moment --------------------------------------------------------------------------- */

struct straw {
    ferry_group *group;
    atomic_int *alive;
    int64_t ms, code;
};

static int64_t straw(void *arg) {
    struct straw *s = arg;
    atomic_fetch_add(s->alive, 1);
    if (s->ms > 2)
        ferry_group_cancel(s->group);
    int64_t rc = ferry_sleep(s->ms);
    atomic_fetch_sub(s->alive, 1);
    return rc < 0 ? rc : s->code;
}

static void group_round(void *arg, int who, unsigned *seed) {
    (void)who;
    atomic_int alive = 0;
    ferry_group group = FERRY_GROUP_INIT;
    struct straw straws[6];
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < 6; i++) {
        straws[i] = (struct straw){&group, &alive, rand_r(seed) % 4, rand_r(seed) % 4 ? 0 : -EIO};
        if (i % 2 && ferry_loop_current())
            CHECK_INT(ferry_group_spawn(&group, straw, &straws[i]), 0);
        else
            CHECK_INT(ferry_group_submit(&group, arg, straw, &straws[i]), 0);
    }
    int64_t rc = ferry_group_close(&group, 0);
    CHECK(rc == 0 || rc == FERRY_EGROUP || rc == -ECANCELED);
    CHECK_INT(atomic_load(&alive), 0);
}

static void groups_are_cancelled_at_any_moment(void **state) {
    (void)state;
    storm_run_on_pool(4, 3, 2, 3, support_slow() ? 20 : 100, group_round);
}

/* ---- Out of memory --------------------------------------------------------------------------- */

static int64_t reports_and_sleeps(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    ferry_ready(3);
    ferry_sleep(60000);
    atomic_fetch_sub((atomic_int *)arg, 1);
    return 0;
}

/* Counts itself while it runs. */
static int64_t counted(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    ferry_sleep(1);
    atomic_fetch_sub((atomic_int *)arg, 1);
    return ferry_fail(-EIO, "an error with a text of its own");
}

struct scarce {
    long n;
    bool on;
    bool whole; /* nothing failed for want of memory */
};

static int64_t group_in_need(void *arg) {
    struct scarce *s = arg;
    atomic_int alive = 0;
    ferry_group group = FERRY_GROUP_INIT;
    oom_after(s->n, s->on);
    if (ferry_group_open(&group) == 0) {
        ferry_group_spawn(&group, counted, &alive);
        ferry_group_submit(&group, NULL, counted, &alive);
        ferry_group_start(&group, reports_and_sleeps, &alive);
        ferry_group inner = FERRY_GROUP_INIT;
        int64_t rc = ferry_group_open(&inner);
        if (rc == 0) {
            ferry_group_spawn(&inner, counted, &alive);
            rc = ferry_group_close(&inner, 0);
        }
        rc = ferry_group_close(&group, rc);
        CHECK(rc == FERRY_EGROUP || rc == 0 || rc == -ENOMEM);
        CHECK_INT(atomic_load(&alive), 0);
        CHECK(ferry_errmsg() != NULL);
    }
    s->whole = !oom_hit();
    oom_never();
    return 0;
}

static void memory_runs_out(bool on) {
    struct scarce s = {.n = 1 << 20};
    long least = 0;
    spare_records();
    for (int i = 0; i < 3; i++) { /* what is made once and kept */
        assert_int_equal(ferry_run(group_in_need, &s), 0);
        least = oom_blocks();
    }
    s.whole = false;
    s.on = on;
    ferry_log_set(NULL, NULL);
    for (s.n = 0; !s.whole; s.n++) {
        assert_int_equal(ferry_run(group_in_need, &s), 0);
        assert_int_equal(oom_blocks(), least);
    }
    assert_true(s.n > 10);
}

static void one_allocation_fails(void **state) {
    (void)state;
    memory_runs_out(false);
}

static void all_further_allocations_fail(void **state) {
    (void)state;
    memory_runs_out(true);
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("GRP-16 the body cancels the group: every descendant, no error", cancel_by_the_body),
        CASE("GRP-16 a member cancels it", cancel_by_a_member),
        CASE("GRP-16 another thread cancels it", cancel_by_a_thread),
        CASE("GRP-16 a thread's group of jobs", cancel_of_a_threads_group),
        CASE("GRP-16 a queued member never runs", a_queued_member),
        CASE("GRP-16 a running member is told once", a_running_member_is_told_once),
        CASE("GRP-16 a member that is just being submitted", a_member_that_is_being_submitted),
        CASE("GRP-16 a group that was cancelled before it was opened",
             cancelled_before_it_was_opened),
        CASE("GRP-16 a member of a cancelled group runs to its first wait",
             a_member_of_a_cancelled_group_runs_to_its_first_wait),
        CASE("a deadline ends the body", deadline_in_the_body),
        CASE("a deadline ends the members", deadline_while_joining),
        CASE("a deadline ends a thread's jobs", deadline_of_a_thread),
        CASE("a member that succeeds after the deadline counts",
             a_member_that_succeeds_after_the_deadline),
        CASE("GRP-17 children are told although their owner is shielded",
             children_are_told_although_the_owner_is_shielded),
        CASE("GRP-17 so are they when a scope around the group is cancelled",
             children_are_told_when_the_scope_around_is_cancelled),
        CASE("GRP-17 a shielded child delays the end, and the owner sleeps",
             a_shielded_child_delays_the_end),
        CASE("GRP-17 a hard shutdown tells the members behind the owner's shield", a_hard_shutdown),
        CASE("a callback must not wait for its group", a_callback_must_not_wait_for_its_group),
        CASE("without a loop there are no tasks", no_loop_no_tasks),
        CASE("the child's copy of a group is of no use", the_childs_copy_of_a_group),
        CASE("GRP-05 GRP-16 groups are cancelled at any moment",
             groups_are_cancelled_at_any_moment),
        CASE("one allocation fails, whichever", one_allocation_fails),
        CASE("all allocations fail from one on", all_further_allocations_fail),
    };
    return SUPPORT_RUN(tests);
}

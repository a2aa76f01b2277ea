/* Groups: errors and how they are kept, members, and the end of the ordinary kind. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "parked.h"
#include "sleeper.h"
#include "support.h"
#include "waiters.h"

/* ---- Members --------------------------------------------------------------------------------- */

static int64_t sleeps_and_succeeds(void *arg) {
    ferry_sleep(60000);
    *(bool *)arg = true;
    return 0;
}

static void spawn_named(ferry_group *group, ferry_fn fn, void *arg, const char *name) {
    ferry_task_options options = {.name = name};
    CHECK_INT(ferry_group_spawn_with(group, fn, arg, &options, NULL), 0);
}

static void check_error(const ferry_error *error, int64_t code, const char *name,
                        const char *message) {
    CHECK_INT(error->code, code);
    CHECK_STR(error->name, name);
    CHECK_STR(error->message, message);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

TASK_TEST(all_errors_are_kept) {
    int64_t codes[] = {-EIO, -ENOENT, -EBADMSG};
    struct sleeper sleeper = {0};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    spawn_named(&group, sleeps, &sleeper, "sleeper");
    spawn_named(&group, fails, &codes[0], "one");
    spawn_named(&group, fails, &codes[1], "two");
    spawn_named(&group, fails, &codes[2], "three");
    int64_t rc = ferry_sleep(60000);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), FERRY_EGROUP);
    CHECK(sleeper.ended);
    CHECK_INT(sleeper.rc, -ECANCELED);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, 3)) {
        check_error(&errors[0], -EIO, "one", "code -5");
        check_error(&errors[1], -ENOENT, "two", "code -2");
        check_error(&errors[2], -EBADMSG, "three", "code -74");
    }
    CHECK(strstr(ferry_errmsg(), "two: code -2") != NULL);
    return 0;
}

struct gated {
    gate gate;
    int64_t code;
};

static int64_t fails_at_gate(void *arg) {
    struct gated *g = arg;
    gate_wait(&g->gate);
    return ferry_fail(g->code, "code %d", (int)g->code);
}

static void errors_of_jobs(void **state) {
    (void)state;
    ferry_executor *pool;
    ferry_executor_options options = {.threads_max = 4};
    assert_int_equal(ferry_executor_new(&pool, &options), 0);
    struct gated gated[3];
    struct sleeper sleeper = {0};
    ferry_group group = FERRY_GROUP_INIT;
    assert_int_equal(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, pool, sleeps, &sleeper), 0);
    for (int i = 0; i < 3; i++) {
        gate_init(&gated[i].gate);
        gated[i].code = -EIO - i;
        CHECK_INT(ferry_group_submit(&group, pool, fails_at_gate, &gated[i]), 0);
    }
    /* All of them are past the point where a cancel could keep them from running. */
    CHECK_INT(ferry_event_wait(&sleeper.begun), 0);
    for (int i = 0; i < 3; i++)
        gate_wait_arrivals(&gated[i].gate, 1);
    for (int i = 0; i < 3; i++)
        gate_open(&gated[i].gate);
    int64_t rc = ferry_sleep(60000);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), FERRY_EGROUP);
    CHECK_INT(sleeper.rc, -ECANCELED);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    assert_int_equal(n, 3);
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += errors[i].code;
    assert_int_equal(sum, 3 * -EIO - 3);
    CHECK_INT(ferry_sleep(1), 0);
    for (int i = 0; i < 3; i++)
        gate_destroy(&gated[i].gate);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
}

TASK_TEST(body_and_child_fail) {
    struct sleeper child = {.instead = -EIO};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    ferry_future *handle;
    ferry_task_options options = {.name = "child"};
    CHECK_INT(ferry_group_spawn_with(&group, sleeps, &child, &options, &handle), 0);
    until_parked(handle);
    ferry_detach(handle);
    CHECK_INT(ferry_group_close(&group, ferry_fail(-EBADMSG, "the body broke")), FERRY_EGROUP);
    CHECK_INT(child.rc, -ECANCELED);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, 2)) {
        check_error(&errors[0], -EBADMSG, "body", "the body broke");
        check_error(&errors[1], -EIO, "child", "broke while cleaning up");
    }
    return 0;
}

TASK_TEST(child_fails_before_body) {
    int64_t code = -EIO;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    spawn_named(&group, fails, &code, "child");
    CHECK_INT(ferry_sleep(60000), -ECANCELED);
    CHECK_INT(ferry_group_close(&group, -EPERM), FERRY_EGROUP);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, 2)) {
        check_error(&errors[0], -EIO, "child", "code -5");
        check_error(&errors[1], -EPERM, "body", ferry_strerror(-EPERM));
    }
    return 0;
}

struct pair {
    ferry_event go;
    bool done;
};

static int64_t waits_for_event(void *arg) {
    struct pair *p = arg;
    int64_t rc = ferry_event_wait(&p->go);
    p->done = rc == 0;
    return rc;
}

TASK_TEST(one_child_is_cancelled) {
    struct sleeper one = {0};
    struct pair other = {.go = FERRY_EVENT_INIT};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    ferry_future *handle;
    CHECK_INT(ferry_group_spawn_with(&group, sleeps, &one, NULL, &handle), 0);
    CHECK_INT(ferry_group_spawn(&group, waits_for_event, &other), 0);
    CHECK_INT(ferry_cancel(handle), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(handle), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_yield(), 0); /* the body isn't cancelled */
    CHECK(!other.done);
    ferry_event_set(&other.go);
    CHECK_INT(ferry_group_close(&group, 7), 7);
    CHECK(other.done);
    return 0;
}

/* ---- The owner is cancelled ------------------------------------------------------------------ */

struct owner {
    struct sleeper children[3];
    bool joins;     /* goes to the close at once */
    int64_t body;   /* what its wait gave */
    int64_t closed; /* what the close gave */
    size_t n_errors;
    bool all_ended; /* when the close returned */
    int64_t after;  /* the next wait */
};

static int64_t owns_group(void *arg) {
    struct owner *o = arg;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_group_spawn(&group, sleeps, &o->children[i]), 0);
    o->body = o->joins ? 0 : ferry_sleep(60000);
    o->closed = ferry_group_close(&group, o->body);
    o->all_ended = o->children[0].ended && o->children[1].ended && o->children[2].ended;
    ferry_group_errors(&o->n_errors);
    o->after = ferry_yield();
    return o->closed == FERRY_EGROUP ? 0 : o->closed;
}

static void cancel_owner(struct owner *o) {
    ferry_future *owner = ferry_spawn(owns_group, o);
    until_parked(owner);
    CHECK_INT(ferry_cancel(owner), FERRY_CANCEL_ASKED);
    int64_t rc = ferry_await(owner);
    CHECK_INT(rc, o->n_errors ? 0 : FERRY_EJOBCANCELED);
}

TASK_TEST(owner_cancelled_in_body) {
    struct owner o = {0};
    cancel_owner(&o);
    CHECK_INT(o.body, -ECANCELED);
    CHECK_INT(o.closed, -ECANCELED);
    CHECK_INT(o.n_errors, 0);
    CHECK(o.all_ended);
    CHECK_INT(o.children[2].rc, -ECANCELED);
    return 0;
}

TASK_TEST(owner_cancelled_while_joining) {
    struct owner o = {.joins = true};
    cancel_owner(&o);
    CHECK_INT(o.closed, -ECANCELED);
    CHECK_INT(o.n_errors, 0);
    CHECK(o.all_ended);
    return 0;
}

static int64_t cancels_scope(void *arg) {
    ferry_scope_cancel(arg);
    return 0;
}

static void owner_thread_cancelled(void **state) {
    (void)state;
    ferry_scope outer = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    struct sleeper sleeper = {0};
    assert_int_equal(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    assert_int_equal(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, NULL, sleeps, &sleeper), 0);
    CHECK_INT(ferry_event_wait(&sleeper.begun), 0);
    CHECK_INT(ferry_group_submit(&group, NULL, cancels_scope, &outer), 0);
    CHECK_INT(ferry_group_close(&group, 0), -ECANCELED);
    CHECK_INT(sleeper.rc, -ECANCELED);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
}

TASK_TEST(errors_beat_the_cancel) {
    struct owner o = {.children[1].instead = -EIO};
    cancel_owner(&o);
    CHECK_INT(o.closed, FERRY_EGROUP);
    CHECK_INT(o.n_errors, 1);       /* the other two were cancelled: no errors */
    CHECK_INT(o.after, -ECANCELED); /* the cancel isn't lost */
    return 0;
}

TASK_TEST(errors_beat_the_cancel_of_a_join) {
    struct owner o = {.joins = true, .children[0].instead = -EIO};
    cancel_owner(&o);
    CHECK_INT(o.closed, FERRY_EGROUP);
    CHECK_INT(o.n_errors, 1);
    CHECK_INT(o.after, -ECANCELED);
    return 0;
}

/* Nothing was cut off: the result stands, and the cancel comes at the next wait. */
TASK_TEST(members_that_succeed_all_the_same) {
    bool done = false;
    ferry_scope outer = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, sleeps_and_succeeds, &done), 0);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_group_close(&group, 5), 5);
    CHECK(done);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    return 0;
}

/* ---- The group takes back what it asked for -------------------------------------------------- */

TASK_TEST(no_stray_cancel_after_the_body_was_interrupted) {
    int64_t code = -EIO;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, fails, &code), 0);
    int64_t rc = ferry_sleep(60000);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), FERRY_EGROUP);
    CHECK_INT(ferry_checkpoint(), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

TASK_TEST(no_stray_cancel_after_a_join) {
    int64_t code = -EIO;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, fails, &code), 0);
    CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
    CHECK_INT(ferry_checkpoint(), 0);
    CHECK_INT(ferry_sleep(1), 0);
    return 0;
}

/* ---- Groups in groups ------------------------------------------------------------------------ */

struct nest {
    int64_t inner_code; /* of the inner group's child; 0: it sleeps */
    int64_t late_code;  /* what that sleeper returns when it is cancelled; 0: -ECANCELED */
    int64_t inner_rc;
};

static int64_t inner_group(void *arg) {
    struct nest *n = arg;
    struct sleeper sleeper = {.instead = n->late_code};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    if (n->inner_code)
        spawn_named(&group, fails, &n->inner_code, "leaf");
    else
        spawn_named(&group, sleeps, &sleeper, "leaf");
    n->inner_rc = ferry_group_close(&group, 0);
    return n->inner_rc;
}

TASK_TEST(only_the_inner_one_fails) {
    struct nest nest = {.inner_code = -EIO};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    spawn_named(&group, inner_group, &nest, "branch");
    CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, 1) && CHECK_INT(errors[0].code, FERRY_EGROUP) &&
        CHECK_INT(errors[0].n_causes, 1)) {
        CHECK_STR(errors[0].name, "branch");
        check_error(&errors[0].causes[0], -EIO, "leaf", "code -5");
    }
    return 0;
}

TASK_TEST(the_bodys_own_group_fails) {
    struct nest nest = {.inner_code = -EIO};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_close(&group, inner_group(&nest)), FERRY_EGROUP);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, 1) && CHECK_INT(errors[0].code, FERRY_EGROUP) &&
        CHECK_INT(errors[0].n_causes, 1)) {
        CHECK_STR(errors[0].name, "body");
        check_error(&errors[0].causes[0], -EIO, "leaf", "code -5");
    }
    return 0;
}

static void outer_fails(struct nest *nest, size_t wanted) {
    int64_t code = -ENOENT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    ferry_future *branch;
    ferry_task_options options = {.name = "branch"};
    CHECK_INT(ferry_group_spawn_with(&group, inner_group, nest, &options, &branch), 0);
    until_parked(branch);
    ferry_detach(branch);
    spawn_named(&group, fails, &code, "leaf of the outer");
    CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (!CHECK_INT(n, wanted))
        return;
    check_error(&errors[0], -ENOENT, "leaf of the outer", "code -2");
    if (n == 2 && CHECK_INT(errors[1].code, FERRY_EGROUP) && CHECK_INT(errors[1].n_causes, 1))
        check_error(&errors[1].causes[0], -EIO, "leaf", "broke while cleaning up");
}

TASK_TEST(only_the_outer_one_fails) {
    struct nest nest = {0};
    outer_fails(&nest, 1);
    CHECK_INT(nest.inner_rc, -ECANCELED);
    return 0;
}

TASK_TEST(both_fail) {
    struct nest nest = {.late_code = -EIO};
    outer_fails(&nest, 2);
    CHECK_INT(nest.inner_rc, FERRY_EGROUP);
    return 0;
}

/* ---- Members that come late ------------------------------------------------------------------ */

struct latecomer {
    ferry_group *group;
    ferry_future *owner;
    bool done;
};

static int64_t spawns_while_joined(void *arg) {
    struct latecomer *l = arg;
    until_parked(l->owner); /* in the close: nothing else makes it wait */
    CHECK_INT(ferry_group_spawn(l->group, succeeds, &l->done), 0);
    return 0;
}

static int64_t owns_late_group(void *arg) {
    struct latecomer *l = arg;
    ferry_group group = FERRY_GROUP_INIT;
    l->group = &group;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn(&group, spawns_while_joined, l), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK(l->done);
    return 0;
}

TASK_TEST(a_child_spawns_while_the_group_closes) {
    struct latecomer l = {0};
    l.owner = ferry_spawn(owns_late_group, &l);
    CHECK_INT(ferry_await(l.owner), 0);
    return 0;
}

struct chain {
    ferry_group *group;
    ferry_executor *pool;
    int left;
};

static int64_t submits_next(void *arg) {
    struct chain *c = arg;
    if (--c->left > 0)
        CHECK_INT(ferry_group_submit(c->group, c->pool, submits_next, c), 0);
    return 0;
}

static void jobs_submit_members(void **state) {
    (void)state;
    ferry_executor *pool;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 2}), 0);
    ferry_group group = FERRY_GROUP_INIT;
    struct chain chain = {&group, pool, 100};
    assert_int_equal(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, pool, submits_next, &chain), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_INT(chain.left, 0);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
}

static void count_free(void *arg) {
    ++*(int *)arg;
}

static int64_t spawns_too_late(void *arg) {
    bool ran = false;
    CHECK_INT(ferry_group_spawn(arg, succeeds, &ran), -EINVAL);
    ferry_group_cancel(arg);
    return 0;
}

static void check_left(ferry_group *group) {
    int freed = 0;
    ferry_future *handle = ferry_self();
    ferry_task_options task = {.arg_free = count_free};
    ferry_job_options job = {.arg_free = count_free};
    CHECK_INT(ferry_group_spawn_with(group, succeeds, &freed, &task, &handle), -EINVAL);
    CHECK(handle == NULL);
    handle = ferry_self();
    CHECK_INT(ferry_group_submit_with(group, NULL, succeeds, &freed, &job, &handle), -EINVAL);
    CHECK(handle == NULL);
    CHECK_INT(ferry_group_start(group, succeeds, &freed), -EINVAL);
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(freed, 0);
    CHECK_INT(ferry_await(ferry_spawn(spawns_too_late, group)), 0);
    CHECK_INT(ferry_group_close(group, 0), -EINVAL);
    CHECK_INT(ferry_group_open(group), -EINVAL);
}

TASK_TEST(nothing_is_taken_after_the_end) {
    int64_t code = -EIO;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    check_left(&group);
    ferry_group failed = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&failed), 0);
    CHECK_INT(ferry_group_spawn(&failed, fails, &code), 0);
    CHECK_INT(ferry_group_close(&failed, 0), FERRY_EGROUP);
    check_left(&failed);
    ferry_group fresh = FERRY_GROUP_INIT;
    bool done = false;
    CHECK_INT(ferry_group_spawn(&fresh, succeeds, &done), -EINVAL);
    CHECK_INT(ferry_group_close(&fresh, 0), -EINVAL);
    return 0;
}

TASK_TEST(nothing_is_started_on_a_closed_loop) {
    int freed = 0;
    ferry_task_options options = {.arg_free = count_free};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_loop_shutdown(ferry_loop_current(), 0), 0);
    CHECK_INT(ferry_group_spawn_with(&group, succeeds, &freed, &options, NULL), FERRY_ECLOSED);
    CHECK_INT(ferry_group_start(&group, succeeds, &freed), FERRY_ECLOSED);
    CHECK_INT(ferry_group_spawn(&group, NULL, NULL), -EINVAL);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_INT(freed, 0); /* it stays the caller's */
    return 0;
}

/* ---- Cancelled scopes around it -------------------------------------------------------------- */

TASK_TEST(an_empty_group_invents_no_cancel) {
    bool ran = false;
    ferry_scope outer = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_group_open(&group), 0);
    ferry_future *other = ferry_spawn(succeeds, &ran);
    CHECK_INT(ferry_group_close(&group, 3), 3);
    CHECK(ran); /* others were scheduled */
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    CHECK_INT(ferry_await(other), 0);
    return 0;
}

TASK_TEST(children_that_never_wait_invent_no_cancel) {
    bool ran[3] = {false};
    ferry_scope outer = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_group_spawn(&group, succeeds, &ran[i]), 0);
    CHECK_INT(ferry_group_close(&group, 3), 3);
    CHECK(ran[0] && ran[1] && ran[2]);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    return 0;
}

static void an_empty_group_in_a_cancelled_thread(void **state) {
    (void)state;
    ferry_scope outer = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    assert_int_equal(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    ferry_scope_cancel(&outer);
    assert_int_equal(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_close(&group, 3), 3);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
}

/* ---- Results --------------------------------------------------------------------------------- */

TASK_TEST(a_handle_of_a_member) {
    int64_t codes[] = {12, -EIO};
    ferry_future *handles[2];
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_spawn_with(&group, returns_it, &codes[0], NULL, &handles[0]), 0);
    CHECK_INT(ferry_group_submit_with(&group, NULL, fails, &codes[1], NULL, &handles[1]), 0);
    CHECK_INT(ferry_await(handles[0]), 12);
    CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
    CHECK_INT(ferry_result(handles[1]), -EIO);
    ferry_detach(handles[1]);
    CHECK_INT(kept_messages(&log), 0);
    return 0;
}

TASK_TEST(a_job_refused_is_an_error_of_the_group) {
    ferry_executor *pool;
    CHECK_INT(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    CHECK_INT(ferry_executor_close(pool, FERRY_CLOSE_DRAIN), 0);
    bool ran = false;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    CHECK_INT(ferry_group_submit(&group, pool, succeeds, &ran), 0);
    CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    CHECK(n == 1 && errors[0].code == FERRY_ECLOSED && !ran);
    ferry_executor_free(pool);
    return 0;
}

TASK_TEST(inline_jobs_end_inside_the_submit) {
    ferry_executor *inl;
    CHECK_INT(ferry_inline_new(&inl), 0);
    int64_t codes[] = {5, -EIO, -ECANCELED};
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < 3; i++) {
        ferry_future *handle;
        CHECK_INT(ferry_group_submit_with(&group, inl, returns_it, &codes[i], NULL, &handle), 0);
        CHECK(ferry_done(handle));
        ferry_detach(handle);
    }
    CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
    size_t n;
    ferry_group_errors(&n);
    CHECK_INT(n, 1);
    ferry_executor_free(inl);
    return 0;
}

/* A job owns a group whose members are queued behind it in its own full pool. */
static int64_t group_in_full_pool(void *arg) {
    ferry_group group = FERRY_GROUP_INIT;
    bool ran[20] = {false};
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < 20; i++)
        CHECK_INT(ferry_group_submit(&group, arg, succeeds, &ran[i]), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    for (int i = 0; i < 20; i++)
        CHECK(ran[i]);
    return 0;
}

static void a_job_owns_a_group_in_its_own_pool(void **state) {
    (void)state;
    ferry_executor *pool;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    CHECK_INT(ferry_await(ferry_submit(pool, group_in_full_pool, pool)), 0);
    ferry_executor_stats stats;
    ferry_executor_get_stats(pool, &stats);
    CHECK_INT(stats.threads_peak, 1); /* the owner's own thread ran them */
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("GRP-01 all errors are kept, in their order; body and sleeper are cancelled",
             all_errors_are_kept),
        CASE("GRP-01 the same with jobs and a thread as owner", errors_of_jobs),
        CASE("GRP-02 body and child fail: both are kept", body_and_child_fail),
        CASE("GRP-02 a child that failed before the body stands before it",
             child_fails_before_body),
        CASE("GRP-04 a child that is cancelled alone is no error", one_child_is_cancelled),
        CASE("GRP-05 owner cancelled in the body: one bare cancel", owner_cancelled_in_body),
        CASE("GRP-05 owner cancelled while it joins: one bare cancel",
             owner_cancelled_while_joining),
        CASE("GRP-05 the same with a thread as owner", owner_thread_cancelled),
        CASE("GRP-05 members that succeed all the same aren't a cancel",
             members_that_succeed_all_the_same),
        CASE("GRP-06 errors during the clean-up win over the owner's cancel",
             errors_beat_the_cancel),
        CASE("GRP-06 the same while it joins", errors_beat_the_cancel_of_a_join),
        CASE("GRP-08 no stray cancel after a group that interrupted its body",
             no_stray_cancel_after_the_body_was_interrupted),
        CASE("GRP-08 no stray cancel after a group that failed while it was joined",
             no_stray_cancel_after_a_join),
        CASE("GRP-11 an inner failure arrives as a group in a group", only_the_inner_one_fails),
        CASE("GRP-11 so does that of a group in the body", the_bodys_own_group_fails),
        CASE("GRP-11 an outer failure cancels the inner group cleanly", only_the_outer_one_fails),
        CASE("GRP-11 both failures are kept", both_fail),
        CASE("GRP-12 a child spawns another while the group closes",
             a_child_spawns_while_the_group_closes),
        CASE("GRP-12 so do jobs of a thread's group", jobs_submit_members),
        CASE("GRP-13 nothing is taken after the end", nothing_is_taken_after_the_end),
        CASE("GRP-13 nothing is started on a loop that was shut down",
             nothing_is_started_on_a_closed_loop),
        CASE("GRP-18 an empty group in a cancelled scope lets others run and invents no cancel",
             an_empty_group_invents_no_cancel),
        CASE("GRP-18 nor do children that never wait", children_that_never_wait_invent_no_cancel),
        CASE("GRP-18 nor does a thread's empty group", an_empty_group_in_a_cancelled_thread),
        CASE("a handle of a member is the caller's own", a_handle_of_a_member),
        CASE("a job that is refused counts as the group's error",
             a_job_refused_is_an_error_of_the_group),
        CASE("inline jobs end inside the submit", inline_jobs_end_inside_the_submit),
        CASE("a job owns a group in its own full pool", a_job_owns_a_group_in_its_own_pool),
    };
    return SUPPORT_RUN(tests);
}

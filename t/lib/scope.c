/* Scopes: whose request it is, who absorbs it, shields, moved deadlines, and the order of closing.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parked.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000

static const ferry_scope fresh = FERRY_SCOPE_INIT;

/* A task that sleeps in a scope that others can reach. */
struct inside {
    ferry_scope scope;
    int64_t timeout, slept, closed;
};

static int64_t sleeps_inside(void *arg) {
    struct inside *in = arg;
    CHECK_INT(ferry_scope_open(&in->scope, in->timeout), 0);
    in->slept = ferry_sleep(LONG);
    in->closed = ferry_scope_close(&in->scope, in->slept);
    return in->closed;
}

/* ---- Whose request it is --------------------------------------------------------------------- */

TASK_TEST(the_task_is_cancelled) {
    struct inside in = {.timeout = LONG};
    ferry_future *f = ferry_spawn(sleeps_inside, &in);
    until_parked(f);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(in.closed, -ECANCELED);
    CHECK(!ferry_scope_expired(&in.scope));
    CHECK(!ferry_scope_cancelled(&in.scope));
    return 0;
}

TASK_TEST(the_scope_is_cancelled) {
    struct inside in = {.timeout = LONG};
    ferry_future *f = ferry_spawn(sleeps_inside, &in);
    until_parked(f);
    ferry_scope_cancel(&in.scope);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(in.slept, -ECANCELED);
    CHECK(ferry_scope_cancelled(&in.scope));
    CHECK(!ferry_scope_expired(&in.scope));
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

static void *cancels_the_scope(void *arg) {
    ferry_scope_cancel(arg);
    return NULL;
}

TASK_TEST(the_scope_is_cancelled_from_a_thread) {
    struct inside in = {.timeout = LONG};
    ferry_future *f = ferry_spawn(sleeps_inside, &in);
    until_parked(f);
    pthread_t thread = start_thread(cancels_the_scope, &in.scope);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(in.slept, -ECANCELED);
    pthread_join(thread, NULL);
    return 0;
}

TASK_TEST(an_error_stays_an_error) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, LONG), 0);
    int64_t rc = ferry_fail(-EIO, "the disk is gone");
    CHECK_INT(ferry_scope_close(&scope, rc), -EIO);
    CHECK_STR(ferry_errmsg(), "the disk is gone");
    CHECK(!ferry_scope_expired(&scope));

    scope = fresh;
    CHECK_INT(ferry_scope_open(&scope, 1), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    rc = ferry_fail(-EIO, "clean-up failed, too");
    CHECK_INT(ferry_scope_close(&scope, rc), -EIO);
    CHECK_STR(ferry_errmsg(), "clean-up failed, too");
    CHECK(ferry_scope_expired(&scope)); /* that it was late isn't lost */

    scope = fresh;
    CHECK_INT(ferry_scope_open(&scope, 1), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, 9), 9); /* a result all the same */
    return 0;
}

/* -ECANCELED that isn't the scope's own. */
TASK_TEST(a_foreign_cancel_passes_through) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, LONG), 0);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ECANCELED);
    scope = fresh;
    CHECK_INT(ferry_scope_open(&scope, LONG), 0);
    CHECK_INT(ferry_scope_close(&scope, FERRY_EJOBCANCELED), FERRY_EJOBCANCELED);
    return 0;
}

/* ---- Shields --------------------------------------------------------------------------------- */

TASK_TEST(a_shield_keeps_out_what_is_around) {
    ferry_scope outer = FERRY_SCOPE_INIT, shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_checkpoint(), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    CHECK_INT(ferry_sleep(1), 0);
    return 0;
}

static void *sleeps_behind_a_shield(void *arg) {
    struct inside *in = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&in->scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    ferry_scope_cancel(&in->scope);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&in->scope, -ECANCELED), 0);
    return NULL;
}

static void a_shield_in_a_thread(void **state) {
    (void)state;
    struct inside in = {0};
    pthread_join(start_thread(sleeps_behind_a_shield, &in), NULL);
}

TASK_TEST(a_shield_absorbs_its_own) {
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_shield_open(&inner, FERRY_FOREVER), 0);
    ferry_scope_cancel(&inner);
    int64_t rc = ferry_sleep(LONG);
    CHECK_INT(rc, -ECANCELED);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_scope_close(&inner, rc), 0);
    /* What stands between the two runs, and as long as it doesn't wait it isn't stopped. */
    CHECK_INT(ferry_scope_close(&outer, 0), 0);
    CHECK_INT(ferry_sleep(1), 0);
    return 0;
}

struct cleanup {
    ferry_scope scope, shield;
    bool cleaning;
    int64_t in_shield, shield_closed, closed;
};

static int64_t cleans_up_in_a_shield(void *arg) {
    struct cleanup *c = arg;
    CHECK_INT(ferry_scope_open(&c->scope, FERRY_FOREVER), 0);
    int64_t rc = ferry_sleep(LONG);
    CHECK_INT(ferry_shield_open(&c->shield, LONG), 0);
    c->cleaning = true;
    c->in_shield = ferry_sleep(LONG);
    c->shield_closed = ferry_scope_close(&c->shield, c->in_shield);
    c->closed = ferry_scope_close(&c->scope, rc);
    return c->closed;
}

static ferry_future *begin_cleanup(struct cleanup *c) {
    ferry_future *f = ferry_spawn(cleans_up_in_a_shield, c);
    until_parked(f);
    ferry_scope_cancel(&c->scope);
    while (!c->cleaning)
        ferry_yield();
    until_parked(f);
    return f;
}

TASK_TEST(a_shield_can_be_cancelled_itself) {
    struct cleanup c = {0};
    ferry_future *f = begin_cleanup(&c);
    ferry_scope_cancel(&c.shield);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(c.in_shield, -ECANCELED);
    CHECK_INT(c.shield_closed, 0);

    /* The task is cancelled, too: that is delivered outside of the shield. */
    c = (struct cleanup){0};
    f = begin_cleanup(&c);
    ferry_cancel(f);
    for (int i = 0; i < 3; i++)
        ferry_yield();
    CHECK(!ferry_done(f));
    ferry_scope_cancel(&c.shield);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(c.shield_closed, 0);
    CHECK_INT(c.closed, -ECANCELED);
    return 0;
}

TASK_TEST(a_shield_has_a_bound) {
    ferry_scope outer = FERRY_SCOPE_INIT, shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_shield_open(&shield, 1), 0);
    int64_t rc = ferry_sleep(LONG);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&shield, rc), -ETIMEDOUT);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    return 0;
}

/* A clean-up on the way out, in each of the frames that the cancel passes. */
static int64_t unwinds(int depth) {
    if (depth == 0)
        return ferry_sleep(LONG);
    ferry_scope scope = FERRY_SCOPE_INIT, shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, LONG), 0);
    int64_t rc = unwinds(depth - 1);
    CHECK_INT(ferry_shield_open(&shield, LONG), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_scope_close(&shield, rc), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), -ECANCELED);
    return rc;
}

static int64_t unwinds_to_the_owner(void *arg) {
    ferry_scope *owner = arg;
    CHECK_INT(ferry_scope_open(owner, FERRY_FOREVER), 0);
    return ferry_scope_close(owner, unwinds(3));
}

TASK_TEST(shields_on_the_way_out) {
    ferry_scope owner = FERRY_SCOPE_INIT;
    ferry_future *f = ferry_spawn(unwinds_to_the_owner, &owner);
    until_parked(f);
    ferry_scope_cancel(&owner);
    CHECK_INT(ferry_await(f), 0);
    return 0;
}

/* ---- A deadline is moved --------------------------------------------------------------------- */

TASK_TEST(ones_own_deadline_is_moved) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 1), 0);
    CHECK_INT(ferry_scope_set_timeout(&scope, LONG), 0);
    CHECK_INT(ferry_sleep(3), 0);
    CHECK_INT(ferry_scope_set_timeout(&scope, 1), 0);
    CHECK_INT(ferry_scope_set_timeout(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(3), 0);
    CHECK(!ferry_scope_expired(&scope));
    CHECK_INT(ferry_scope_set_timeout(&scope, 1), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_set_timeout(&scope, LONG), -EINVAL); /* never undone */
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(ferry_scope_set_timeout(&scope, LONG), -EINVAL);

    scope = fresh;
    CHECK_INT(ferry_scope_set_timeout(&scope, LONG), -EINVAL); /* not open yet */
    CHECK_INT(ferry_scope_open(&scope, 0), 0);
    CHECK_INT(ferry_scope_set_timeout(&scope, LONG), -EINVAL); /* over, only nobody has looked */
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);

    scope = fresh;
    CHECK_INT(ferry_scope_open(&scope, LONG), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_scope_set_timeout(&scope, LONG), -EINVAL);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    return 0;
}

/* Inner scopes remember how long the outer ones have. */
TASK_TEST(an_outer_deadline_is_moved_from_inside) {
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, LONG), 0);
    CHECK_INT(ferry_scope_open(&inner, LONG), 0);
    CHECK_INT(ferry_scope_set_timeout(&outer, 1), 0);
    CHECK_INT(ferry_scope_close(&inner, 0), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), -ETIMEDOUT);
    outer = inner = fresh;
    CHECK_INT(ferry_scope_open(&outer, 1), 0);
    CHECK_INT(ferry_scope_open(&inner, 2), 0);
    CHECK_INT(ferry_scope_set_timeout(&outer, LONG), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&inner, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(ferry_scope_close(&outer, 0), 0);
    return 0;
}

TASK_TEST(a_sleepers_deadline_is_moved) {
    struct inside in;
    ferry_future *f;
    int64_t ms = 1;
    for (;; ms *= 2) { /* once more where the loop has seen already that the time is over */
        in = (struct inside){.timeout = ms};
        int64_t begun = ferry__now();
        f = ferry_spawn(sleeps_inside, &in);
        until_parked(f);
        if (ferry_scope_set_timeout(&in.scope, LONG) == 0)
            break;
        if (!CHECK(ferry__now() - begun >= ms * FERRY__MS))
            break;
        CHECK_INT(ferry_await(f), -ETIMEDOUT);
    }
    CHECK_INT(ferry_sleep(ms + 5), 0);
    CHECK(!ferry_done(f));
    CHECK(!ferry_scope_expired(&in.scope));
    CHECK_INT(ferry_scope_set_timeout(&in.scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_scope_set_timeout(&in.scope, 1), 0);
    CHECK_INT(ferry_await(f), -ETIMEDOUT);
    CHECK(ferry_scope_expired(&in.scope));

    in = (struct inside){.timeout = LONG};
    f = ferry_spawn(sleeps_inside, &in);
    until_parked(f);
    CHECK_INT(ferry_scope_set_timeout(&in.scope, -1), 0);
    CHECK_INT(ferry_await(f), -ETIMEDOUT);
    return 0;
}

static void *moves_a_deadline(void *arg) {
    struct inside *in = arg;
    CHECK_INT(ferry_scope_set_timeout(&in->scope, 1), -EINVAL);
    return NULL;
}

TASK_TEST(only_the_own_thread_moves_it) {
    struct inside in = {.timeout = FERRY_FOREVER};
    ferry_future *f = ferry_spawn(sleeps_inside, &in);
    until_parked(f);
    pthread_join(start_thread(moves_a_deadline, &in), NULL);
    CHECK(!ferry_done(f));
    ferry_scope_cancel(&in.scope);
    CHECK_INT(ferry_await(f), 0);
    return 0;
}

/* These two use CHECK throughout: an assertion that fails would leave the thread's scope open, on a
 * stack frame that is gone, for the tests that follow. */
static void a_threads_deadline_is_moved(void **state) {
    (void)state;
    ferry_scope scope;
    int64_t ms = 1;
    for (;; ms *= 2) { /* once more where the time was over before it could be moved */
        scope = fresh;
        int64_t begun = ferry__now();
        CHECK_INT(ferry_scope_open(&scope, ms), 0);
        int rc = ferry_scope_set_timeout(&scope, LONG);
        if (rc == 0)
            break;
        CHECK_INT(rc, -EINVAL);
        if (!CHECK(ferry__now() - begun >= ms * FERRY__MS))
            break;
        CHECK_INT(ferry_scope_close(&scope, 0), 0);
    }
    CHECK_INT(ferry_sleep(ms + 2), 0);
    CHECK_INT(ferry_scope_set_timeout(&scope, 1), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_set_timeout(&scope, LONG), -EINVAL);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
}

/* ---- Once, and by whom ----------------------------------------------------------------------- */

static int64_t tries_to_enter(void *arg) {
    ferry_scope *scope = arg;
    CHECK_INT(ferry_scope_open(scope, FERRY_FOREVER), -EINVAL);
    CHECK_INT(ferry_scope_close(scope, 5), -EINVAL);
    return 0;
}

TASK_TEST(entered_once) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_cancel(&scope); /* before it is entered */
    CHECK_INT(ferry_checkpoint(), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), -EINVAL);
    CHECK_INT(ferry_await(ferry_spawn(tries_to_enter, &scope)), 0);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), -EINVAL);
    CHECK(strstr(ferry_errmsg(), "FERRY_SCOPE_INIT") != NULL);
    CHECK_INT(ferry_scope_close(&scope, 0), -EINVAL);
    CHECK_INT(ferry_yield(), 0);

    ferry_scope shared = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&shared, FERRY_FOREVER), 0);
    CHECK_INT(ferry_await(ferry_spawn(tries_to_enter, &shared)), 0);
    CHECK_INT(ferry_await(ferry_submit(NULL, tries_to_enter, &shared)), 0);
    ferry_scope_cancel(&shared); /* it is still the one that was opened here */
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&shared, -ECANCELED), 0);
    return 0;
}

static void entered_once_in_a_thread(void **state) {
    (void)state;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_checkpoint(), -EINVAL); /* there is nobody who could cancel */
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), -EINVAL);
    CHECK_INT(ferry_await(ferry_submit(NULL, tries_to_enter, &scope)), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), -EINVAL);
}

TASK_TEST(closed_in_the_wrong_order) {
    ferry_scope outer = FERRY_SCOPE_INIT, middle = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, LONG), 0);
    CHECK_INT(ferry_scope_open(&middle, 0), 0);
    CHECK_INT(ferry_scope_open(&inner, LONG), 0);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, 7), -EINVAL);
    CHECK_INT(ferry_scope_close(&inner, 0), -EINVAL); /* it went with the outer one */
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_sleep(1), 0);
    return 0;
}

static int64_t leaves_it_open(void *arg) {
    (void)arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, LONG), 0);
    return 3;
}

TASK_TEST(left_open_at_the_end) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "left open");
    CHECK_INT(ferry_await(ferry_spawn(leaves_it_open, NULL)), 3);
    CHECK_INT(ferry_await(ferry_submit(NULL, leaves_it_open, NULL)), 3);
    CHECK_INT(kept_messages(&log), 2);
    return 0;
}

/* ---- Many ------------------------------------------------------------------------------------ */

enum { MANY = 5000 };

struct deep {
    ferry_scope *scopes;
    ferry_future *job;
    int64_t slept;
};

static int64_t waits_in_a_job(void *arg) {
    (void)arg;
    return ferry_sleep(LONG);
}

static int64_t opens_many(void *arg) {
    struct deep *d = arg;
    for (int i = 0; i < MANY; i++)
        CHECK_INT(ferry_scope_open(&d->scopes[i], LONG + i % 7), 0);
    d->job = ferry_submit(NULL, waits_in_a_job, NULL);
    d->slept = ferry_sleep(LONG);
    for (int i = MANY - 1; i > 0; i--)
        CHECK_INT(ferry_scope_close(&d->scopes[i], d->slept), -ECANCELED);
    return ferry_scope_close(&d->scopes[0], d->slept);
}

TASK_TEST(many_scopes) {
    struct deep d = {.scopes = calloc(MANY, sizeof(ferry_scope))};
    ferry_future *f = ferry_spawn(opens_many, &d);
    until_parked(f);
    struct ferry__heap *timers = &ferry_loop_current()->timers;
    CHECK_INT(timers->used, 1);
    for (int i = 0; i < 100000; i++) { /* what is inside of it is told */
        int which = i < MANY ? i : MANY - 1 - i % 100;
        CHECK_INT(ferry_scope_set_timeout(&d.scopes[which], LONG - i % 1000), 0);
    }
    CHECK_INT(timers->used, 1);
    ferry_scope_cancel(&d.scopes[0]);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(d.slept, -ECANCELED);
    CHECK_INT(ferry_await(d.job), FERRY_EJOBCANCELED);
    CHECK_INT(timers->used, 0);
    free(d.scopes);
    return 0;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

struct waiting_job {
    _Atomic(struct ferry__thread *) record;
    bool polls;
    int rc;
};

static int64_t waits_long(void *arg) {
    struct waiting_job *w = arg;
    int fds[2];
    CHECK_INT(pipe(fds), 0);
    atomic_store(&w->record, ferry__thread_self());
    w->rc = w->polls ? ferry_poll(fds[0], FERRY_READABLE) : ferry_sleep(LONG);
    close(fds[0]);
    close(fds[1]);
    return w->rc;
}

/* Nobody awaits it at the time, and the scope is gone when somebody does. */
static void a_job_outlives_its_scope(bool polls) {
    struct waiting_job w = {.polls = polls};
    ferry_scope scope = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_scope_open(&inner, FERRY_FOREVER), 0);
    ferry_future *job = ferry_submit(NULL, waits_long, &w);
    CHECK_INT(ferry_scope_close(&inner, 0), 0);
    struct ferry__thread *thread;
    while (!(thread = atomic_load(&w.record)) ||
           !(polls ? atomic_load(&thread->polling) : atomic_load(&thread->sleeping)))
        sched_yield();
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    CHECK_INT(ferry_await(job), FERRY_EJOBCANCELED);
    CHECK_INT(w.rc, -ECANCELED);
}

TASK_TEST(a_job_that_waits_is_told) {
    a_job_outlives_its_scope(false);
    a_job_outlives_its_scope(true);
    return 0;
}

static void a_threads_job_that_waits_is_told(void **state) {
    (void)state;
    a_job_outlives_its_scope(false);
    a_job_outlives_its_scope(true);
}

static int64_t starts_a_job_inside(void *arg) {
    (void)arg;
    a_job_outlives_its_scope(false);
    return 0;
}

TASK_TEST(a_jobs_job_that_waits_is_told) {
    CHECK_INT(ferry_await(ferry_submit(NULL, starts_a_job_inside, NULL)), 0);
    return 0;
}

TASK_TEST(a_shield_keeps_it_from_jobs) {
    ferry_scope outer = FERRY_SCOPE_INIT, shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    struct waiting_job w = {.rc = 0};
    ferry_future *job = ferry_submit(NULL, waits_long, &w);
    until_asleep(&w.record);
    ferry_scope_cancel(&outer);
    CHECK_INT(ferry_sleep(2), 0);
    CHECK(!ferry_done(job));
    ferry_scope_cancel(&shield);
    CHECK_INT(ferry_await(job), -ECANCELED); /* so is the awaiter */
    CHECK_INT(ferry_scope_close(&shield, -ECANCELED), 0);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
    return 0;
}

static int64_t time_left_in_a_job(void *arg) {
    (void)arg;
    return ferry_time_left();
}

TASK_TEST(time_left) {
    CHECK_INT(ferry_time_left(), FERRY_FOREVER);
    CHECK_INT(ferry_await(ferry_submit(NULL, time_left_in_a_job, NULL)), FERRY_FOREVER);
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT, shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, LONG), 0);
    CHECK_INT(ferry_scope_open(&inner, 2 * LONG), 0);
    int64_t left = ferry_time_left();
    CHECK(left <= LONG && left > LONG / 2);
    left = ferry_await(ferry_submit(NULL, time_left_in_a_job, NULL));
    CHECK(left <= LONG && left > LONG / 2);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_time_left(), FERRY_FOREVER);
    CHECK_INT(ferry_await(ferry_submit(NULL, time_left_in_a_job, NULL)), FERRY_FOREVER);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    ferry_scope_cancel(&inner);
    CHECK_INT(ferry_time_left(), 0);
    CHECK_INT(ferry_scope_close(&inner, 0), 0);
    CHECK(ferry_time_left() > 0);
    CHECK_INT(ferry_scope_set_timeout(&outer, -1), 0);
    CHECK_INT(ferry_time_left(), 0);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(ferry_time_left(), FERRY_FOREVER);
    return 0;
}

/* ---- As long as the scope lives -------------------------------------------------------------- */

/* The canceller is the only one who ends the wait; the waiter leaves and its memory is gone at
 * once. */
struct short_life {
    _Atomic(ferry_scope *) scope;
    _Atomic bool over;
};

static void *cancels_what_it_gets(void *arg) {
    struct short_life *s = arg;
    while (!atomic_load(&s->over)) {
        ferry_scope *scope = atomic_exchange(&s->scope, NULL);
        if (scope)
            ferry_scope_cancel(scope);
        else
            sched_yield();
    }
    return NULL;
}

static void live_shortly(struct short_life *s, int i) {
    ferry_scope *scope = calloc(1, sizeof *scope);
    CHECK_INT(ferry_scope_open(scope, FERRY_FOREVER), 0);
    atomic_store(&s->scope, scope);
    int64_t rc = 0;
    while (rc == 0) /* looks by itself, so that it may see the request before it is told */
        rc = i % 2                                         ? ferry_sleep(LONG)
             : ferry_yield() < 0 || ferry_time_left() == 0 ? -ECANCELED
                                                           : 0;
    CHECK_INT(ferry_scope_close(scope, rc), 0);
    memset(scope, 0x5a, sizeof *scope);
    free(scope);
}

struct life {
    struct short_life *s;
    int number;
};

static int64_t lives_in_a_task(void *arg) {
    struct life *l = arg;
    live_shortly(l->s, l->number);
    return 0;
}

static int64_t lives(void *arg) {
    for (int i = 0; i < (support_slow() ? 50 : 400); i++) {
        struct life l = {arg, i};
        CHECK_INT(ferry_await(ferry_spawn(lives_in_a_task, &l)), 0);
        live_shortly(arg, i);
    }
    return 0;
}

static void as_long_as_the_scope_lives(void **state) {
    (void)state;
    struct short_life s = {.over = false};
    pthread_t thread = start_thread(cancels_what_it_gets, &s);
    assert_int_equal(ferry_run(lives, &s), 0);
    for (int i = 0; i < (support_slow() ? 50 : 400); i++)
        live_shortly(&s, i);
    atomic_store(&s.over, true);
    pthread_join(thread, NULL);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("SCP-06 inside a time-out the task is cancelled: that passes through",
             the_task_is_cancelled),
        CASE("SCP-06 the time-out's scope is cancelled: it absorbs that", the_scope_is_cancelled),
        CASE("SCP-06 the same from a thread", the_scope_is_cancelled_from_a_thread),
        CASE("SCP-07 an error stays an error", an_error_stays_an_error),
        CASE("a cancel that isn't the scope's own passes through", a_foreign_cancel_passes_through),
        CASE("SCP-15 a shield keeps out what is around", a_shield_keeps_out_what_is_around),
        CASE("SCP-15 in a thread", a_shield_in_a_thread),
        CASE("SCP-12 a shield absorbs its own request only", a_shield_absorbs_its_own),
        CASE("SCP-14 a shield can be cancelled itself", a_shield_can_be_cancelled_itself),
        CASE("a shield has a bound", a_shield_has_a_bound),
        CASE("SCP-17 shields on the way out don't hold it up", shields_on_the_way_out),
        CASE("SCP-18 one's own deadline is moved", ones_own_deadline_is_moved),
        CASE("SCP-18 an outer deadline is moved from inside",
             an_outer_deadline_is_moved_from_inside),
        CASE("SCP-18 a sleeper's deadline is moved by another task", a_sleepers_deadline_is_moved),
        CASE("SCP-18 only the own thread moves it", only_the_own_thread_moves_it),
        CASE("SCP-18 a thread's deadline is moved", a_threads_deadline_is_moved),
        CASE("SCP-19 a scope is entered once, and may be cancelled before", entered_once),
        CASE("SCP-19 in a thread", entered_once_in_a_thread),
        CASE("scopes are closed in the reverse order", closed_in_the_wrong_order),
        CASE("a scope that is left open ends with the task", left_open_at_the_end),
        CASE("SCP-21 5000 nested scopes, moved 100000 times", many_scopes),
        CASE("a job that waits is told when the scope it was started in is cancelled",
             a_job_that_waits_is_told),
        CASE("so is a thread's", a_threads_job_that_waits_is_told),
        CASE("so is a job's", a_jobs_job_that_waits_is_told),
        CASE("a shield keeps it from jobs", a_shield_keeps_it_from_jobs),
        CASE("time left", time_left),
        CASE("a scope may be gone as soon as its cancel has been seen", as_long_as_the_scope_lives),
    };
    return SUPPORT_RUN(tests);
}

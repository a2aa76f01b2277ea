/* Stress twins of the races between scopes, shields, deadlines and cancels: CAN-13, CAN-16,
 * SCP-02, SCP-11, SCP-12. See stress.h. */
#include "config.h"

#include "actor.h"

#define LONG 60000

/* ---- CAN-13: two scopes are cancelled, a shield is raised ------------------------------------ */

struct abort_round {
    struct stress_round round;
    ferry_scope outer, inner;
    ferry_event told;
    _Atomic int hooks; /* atomic: calls of the hook */
    bool ran;
    int64_t rc;
    int shielded;
};

static void abort_prepare(void *arg) {
    ((struct abort_round *)arg)->told = (ferry_event)FERRY_EVENT_INIT;
}

static void abort_hook(void *arg) {
    struct abort_round *r = arg;
    atomic_fetch_add(&r->hooks, 1);
    ferry_event_set(&r->told);
}

static int64_t abort_job(void *arg) {
    struct abort_round *r = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    r->ran = true;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_event_wait(&r->told), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    return 5;
}

static void abort_act(void *arg) {
    static const ferry_job_options options = {.interrupt = abort_hook};
    struct abort_round *r = arg;
    CHECK_INT(ferry_scope_open(&r->outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_scope_open(&r->inner, FERRY_FOREVER), 0);
    r->rc = ferry_await(ferry_submit_with(NULL, abort_job, r, &options));
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    r->shielded = ferry_yield() + ferry_yield();
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    stress_wait_for(&r->round, 0);
    stress_wait_for(&r->round, 1);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&r->inner, -ECANCELED), -ECANCELED);
    CHECK_INT(ferry_scope_close(&r->outer, -ECANCELED), 0);
}

static void abort_inner(void *arg) {
    ferry_scope_cancel(&((struct abort_round *)arg)->inner);
}

static void abort_outer(void *arg) {
    ferry_scope_cancel(&((struct abort_round *)arg)->outer);
}

static void abort_check(void *arg) {
    struct abort_round *r = arg;
    int hooks = atomic_load(&r->hooks);
    CHECK(r->ran ? hooks == 1 : hooks <= 1); /* a thread had taken the job: told, and never begun */
    CHECK_INT(r->rc, r->ran ? 5 : -ECANCELED);
    CHECK_INT(r->shielded, 0);
}

static void abort_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct abort_round),
                                     .prepare = abort_prepare,
                                     .acts = {abort_act},
                                     .hands = {abort_inner, abort_outer},
                                     .check = abort_check});
}

/* ---- CAN-16: cancelled by a thread that drops the handle ------------------------------------- */

struct dropped_round {
    struct stress_round round;
    _Atomic(ferry_future *) handle; /* atomic: the hand's as soon as it stands here */
    ferry_event ended;
    pthread_t home, unwound, freed;
    int frees;
    int rc;
};

static void dropped_prepare(void *arg) {
    struct dropped_round *r = arg;
    r->ended = (ferry_event)FERRY_EVENT_INIT;
    r->home = pthread_self();
}

static int64_t dropped_task(void *arg) {
    struct dropped_round *r = arg;
    r->rc = ferry_sleep(LONG);
    r->unwound = pthread_self();
    return r->rc;
}

static void dropped_free(void *arg) {
    struct dropped_round *r = arg;
    r->freed = pthread_self();
    r->frees++;
    ferry_event_set(&r->ended);
}

static void dropped_act(void *arg) {
    struct dropped_round *r = arg;
    ferry_task_options options = {.arg_free = dropped_free};
    atomic_store(&r->handle, ferry_spawn_with(dropped_task, r, &options));
    CHECK_INT(ferry_event_wait(&r->ended), 0);
}

static void dropped_cancel(void *arg) {
    struct dropped_round *r = arg;
    ferry_future *f;
    while (!(f = atomic_load(&r->handle)))
        ferry_yield();
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    if (points_random() % 2)
        ferry_detach(f);
    else
        CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
}

static void dropped_check(void *arg) {
    struct dropped_round *r = arg;
    CHECK_INT(r->rc, -ECANCELED);
    CHECK_INT(r->frees, 1);
    CHECK(pthread_equal(r->unwound, r->home) && pthread_equal(r->freed, r->home));
}

static void dropped_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct dropped_round),
                                     .prepare = dropped_prepare,
                                     .acts = {dropped_act},
                                     .hands = {dropped_cancel},
                                     .check = dropped_check,
                                     .tasks_only = true});
}

/* ---- SCP-02: what is complete beats a time-out of zero --------------------------------------- */

struct ready_round {
    struct stress_round round;
    ferry_promise *promise;
    ferry_future *future;
    _Atomic bool complete; /* atomic: from here on nobody may be told of a time-out */
};

static void ready_prepare(void *arg) {
    struct ready_round *r = arg;
    r->promise = ferry_promise_new(&r->future, NULL);
}

static int ready_look(struct ready_round *r, unsigned how) {
    if (how % 4 == 0)
        return ferry_wait_for(r->future, -1);
    if (how % 4 == 1)
        return ferry_wait_for(r->future, 0);
    if (how % 4 == 2) {
        int which = ferry_wait_any(&r->future, 1, 0);
        return which < 0 ? which : 0;
    }
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 0), 0);
    return (int)ferry_scope_close(&scope, ferry_wait(r->future));
}

static void ready_act(void *arg) {
    struct ready_round *r = arg;
    bool complete = false;
    for (int rc = -1; rc != 0;) {
        complete = atomic_load(&r->complete);
        rc = ready_look(r, points_random());
        if (!CHECK_INT(rc, rc == 0 || complete ? 0 : -ETIMEDOUT))
            break;
        ferry_yield();
    }
}

static void ready_set(void *arg) {
    struct ready_round *r = arg;
    CHECK_INT(ferry_promise_set(r->promise, 7), 0);
    atomic_store(&r->complete, true);
}

static void ready_check(void *arg) {
    struct ready_round *r = arg;
    ferry_promise_drop(r->promise);
    CHECK_INT(ferry_await_for(r->future, 0), 7);
}

static void ready_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct ready_round),
                                     .prepare = ready_prepare,
                                     .acts = {ready_act},
                                     .hands = {ready_set},
                                     .check = ready_check});
}

/* ---- SCP-11: the inner one's time is over, the outer one is cancelled ------------------------ */

struct outer_round {
    struct stress_round round;
    ferry_scope outer, inner;
    int64_t ms;
    bool known; /* the outer one was cancelled before the inner one was closed */
    int rc, after;
    int64_t closed;
};

static void outer_prepare(void *arg) {
    ((struct outer_round *)arg)->ms = points_random() % 8 == 0;
}

static void outer_act(void *arg) {
    struct outer_round *r = arg;
    CHECK_INT(ferry_scope_open(&r->outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_scope_open(&r->inner, r->ms), 0);
    r->rc = ferry_sleep(LONG);
    r->known = ferry_scope_cancelled(&r->outer);
    r->closed = ferry_scope_close(&r->inner, r->rc);
    stress_wait_for(&r->round, 0);
    r->after = ferry_sleep(LONG);
    CHECK_INT(ferry_scope_close(&r->outer, r->after), 0);
}

static void outer_cancel(void *arg) {
    ferry_scope_cancel(&((struct outer_round *)arg)->outer);
}

static void outer_check(void *arg) {
    struct outer_round *r = arg;
    CHECK_INT(r->rc, -ECANCELED);
    CHECK_INT(r->closed, r->known || r->closed != -ETIMEDOUT ? -ECANCELED : -ETIMEDOUT);
    CHECK(r->closed != -ETIMEDOUT || ferry_scope_expired(&r->inner));
    CHECK_INT(r->after, -ECANCELED);
    CHECK(ferry_scope_cancelled(&r->outer) && !ferry_scope_expired(&r->outer));
}

static void outer_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct outer_round),
                                     .prepare = outer_prepare,
                                     .acts = {outer_act},
                                     .hands = {outer_cancel},
                                     .check = outer_check});
}

/* ---- SCP-12: a shield is cancelled, and what is around it ------------------------------------ */

struct shield_round {
    struct stress_round round;
    ferry_scope outer, inner;
    int rc, between;
    int64_t inner_closed, outer_closed;
    bool own;   /* the shield itself was cancelled when the wait in it ended */
    bool known; /* the outer one was cancelled before the code between the two */
};

static void shield_prepare(void *arg) {
    (void)arg;
}

static void shield_act(void *arg) {
    struct shield_round *r = arg;
    CHECK_INT(ferry_scope_open(&r->outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_shield_open(&r->inner, FERRY_FOREVER), 0);
    r->rc = ferry_sleep(LONG);
    r->own = ferry_scope_cancelled(&r->inner);
    stress_wait_for(&r->round, 0);
    r->inner_closed = ferry_scope_close(&r->inner, r->rc);
    r->known = ferry_scope_cancelled(&r->outer);
    r->between = ferry_checkpoint();
    stress_wait_for(&r->round, 1);
    r->outer_closed = ferry_scope_close(&r->outer, 3);
}

static void shield_inner(void *arg) {
    ferry_scope_cancel(&((struct shield_round *)arg)->inner);
}

static void shield_outer(void *arg) {
    ferry_scope_cancel(&((struct shield_round *)arg)->outer);
}

static void shield_check(void *arg) {
    struct shield_round *r = arg;
    CHECK_INT(r->rc, -ECANCELED);
    CHECK(r->own);
    CHECK_INT(r->inner_closed, 0); /* its own request, and nobody else's */
    CHECK(r->between == -ECANCELED || (r->between == 0 && !r->known));
    CHECK_INT(r->outer_closed, 3); /* nothing went through it that it could have absorbed */
}

static void shield_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct shield_round),
                                     .prepare = shield_prepare,
                                     .acts = {shield_act},
                                     .hands = {shield_inner, shield_outer},
                                     .check = shield_check});
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("CAN-13 two scopes are cancelled at once: the hook is called once, then the shield "
             "holds",
             abort_race),
        CASE("CAN-16 cancelled by a thread that drops the handle: unwound at home, once",
             dropped_race),
        CASE("SCP-02 completed while somebody looks with a time-out of zero", ready_race),
        CASE("SCP-11 the inner one expires and the outer is cancelled at once", outer_race),
        CASE("SCP-12 a shield and what is around it are cancelled at once", shield_race),
    };
    return SUPPORT_RUN(tests);
}

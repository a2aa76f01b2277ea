/* Stress twins of the races of groups: GRP-08, GRP-21. See stress.h. */
#include "config.h"

#include "actor.h"

#define LONG 60000

/* ---- GRP-08: a child fails while the body ends ----------------------------------------------- */

struct stray_round {
    struct stress_round round;
    ferry_group group;
    ferry_event body_ends, child_fails;
    int body;
    int64_t closed;
    int after;
};

static void stray_prepare(void *arg) {
    struct stray_round *r = arg;
    r->group = (ferry_group)FERRY_GROUP_INIT;
    r->body_ends = r->child_fails = (ferry_event)FERRY_EVENT_INIT;
}

static int64_t stray_child(void *arg) {
    struct stray_round *r = arg;
    CHECK_INT(ferry_event_wait(&r->child_fails), 0);
    return -EIO;
}

static void stray_act(void *arg) {
    struct stray_round *r = arg;
    CHECK_INT(ferry_group_open(&r->group), 0);
    CHECK_INT(ferry_group_submit(&r->group, NULL, stray_child, r), 0);
    r->body = ferry_event_wait(&r->body_ends);
    r->closed = ferry_group_close(&r->group, r->body);
    r->after = ferry_yield() + ferry_yield();
    stress_wait_for(&r->round, 0);
}

static void stray_end(void *arg) {
    ferry_event_set(&((struct stray_round *)arg)->body_ends);
}

static void stray_fail(void *arg) {
    ferry_event_set(&((struct stray_round *)arg)->child_fails);
}

static void stray_check(void *arg) {
    struct stray_round *r = arg;
    CHECK(r->body == 0 || r->body == -ECANCELED);
    CHECK_INT(r->closed, FERRY_EGROUP);
    CHECK_INT(r->after, 0); /* the group has taken back what it asked for */
}

static void stray_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct stray_round),
                                     .prepare = stray_prepare,
                                     .acts = {stray_act},
                                     .hands = {stray_end, stray_fail},
                                     .check = stray_check});
}

/* ---- GRP-21: a start that is under way ------------------------------------------------------- */

enum { THE_TARGET, THE_STARTER, THE_GROUP, WAYS };

struct start_round {
    struct stress_round round;
    int whom; /* is cancelled */
    ferry_group group;
    ferry_scope scope; /* of the starter */
    ferry_event go;    /* the target may get ready */
    _Atomic(ferry_future *) target;
    int waited, readied, slept;
    bool ended;
    int64_t started, closed;
    bool ended_then; /* when the start returned */
    int after;
};

static void start_prepare(void *arg) {
    struct start_round *r = arg;
    r->whom = (int)(points_random() % WAYS);
    r->group = (ferry_group)FERRY_GROUP_INIT;
    r->go = (ferry_event)FERRY_EVENT_INIT;
    r->readied = -1;
}

static int64_t start_target(void *arg) {
    struct start_round *r = arg;
    atomic_store(&r->target, ferry_ref(ferry_self()));
    r->waited = ferry_event_wait(&r->go);
    if (r->waited == 0) {
        r->readied = ferry_ready(7);
        r->slept = ferry_sleep(LONG);
    }
    r->ended = true;
    return -ECANCELED;
}

static void start_act(void *arg) {
    struct start_round *r = arg;
    CHECK_INT(ferry_scope_open(&r->scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&r->group), 0);
    r->started = ferry_group_start(&r->group, start_target, r);
    r->ended_then = r->ended;
    stress_wait_for(&r->round, 1);
    r->after = ferry_checkpoint();
    ferry_group_cancel(&r->group);
    r->closed = ferry_group_close(&r->group, 0);
    CHECK_INT(ferry_scope_close(&r->scope, 0), 0);
}

static void start_go(void *arg) {
    ferry_event_set(&((struct start_round *)arg)->go);
}

static void start_cancel(void *arg) {
    struct start_round *r = arg;
    ferry_future *target;
    while (!(target = atomic_load(&r->target)))
        ferry_yield();
    if (r->whom == THE_TARGET)
        ferry_cancel(target);
    else if (r->whom == THE_STARTER)
        ferry_scope_cancel(&r->scope);
    else
        ferry_group_cancel(&r->group);
}

static void start_check(void *arg) {
    struct start_round *r = arg;
    CHECK(r->ended);
    if (r->started == 7) {
        CHECK_INT(r->readied, 0);
        CHECK_INT(r->slept, -ECANCELED);
    } else if (r->whom == THE_TARGET) { /* it wasn't ready, and nobody but it was cancelled */
        CHECK_INT(r->started, FERRY_EJOBCANCELED);
        CHECK_INT(r->waited, -ECANCELED);
    } else {
        CHECK_INT(r->started, -ECANCELED);
        CHECK(r->ended_then); /* joined */
    }
    CHECK_INT(r->after, r->whom == THE_TARGET ? 0 : -ECANCELED);
    CHECK(r->closed == 0 || (r->whom == THE_STARTER && r->closed == -ECANCELED));
    ferry_detach(atomic_load(&r->target));
}

static void start_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct start_round),
                                     .prepare = start_prepare,
                                     .acts = {start_act},
                                     .hands = {start_go, start_cancel},
                                     .check = start_check,
                                     .tasks_only = true});
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("GRP-08 a child fails while the body ends: no stray cancel", stray_race),
        CASE("GRP-21 a start whose target, starter or group is cancelled", start_race),
    };
    return SUPPORT_RUN(tests);
}

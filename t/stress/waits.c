/* Stress twins of the races between a grant, a cancel and a time-out: LCK-04, SEM-03, CND-03,
 * CND-05, CAN-07. See stress.h. */
#include "config.h"

#include "actor.h"

/* ---- LCK-04: handed over, cancelled; somebody else waits ------------------------------------- */

struct lock_round {
    struct stress_round round;
    ferry_mutex mutex;
    struct actor b, c;
    int inside; /* under the mutex */
    int most;   /* under the mutex */
};

static void lock_prepare(void *arg) {
    struct lock_round *r = arg;
    r->mutex = (ferry_mutex)FERRY_MUTEX_INIT;
}

static void lock_held(void *arg) {
    CHECK_INT(ferry_lock(&((struct lock_round *)arg)->mutex), 0);
}

static void lock_hold(struct lock_round *r) {
    if (++r->inside > r->most)
        r->most = r->inside;
    r->inside--;
    CHECK_INT(ferry_unlock(&r->mutex), 0);
}

static void lock_b(void *arg) {
    struct lock_round *r = arg;
    enter(&r->b);
    r->b.rc = ferry_lock_for(&r->mutex, some_time());
    if (r->b.rc == 0)
        lock_hold(r);
    leave(&r->round, &r->b, 1);
}

static void lock_c(void *arg) {
    struct lock_round *r = arg;
    r->c.rc = ferry_lock(&r->mutex);
    lock_hold(r);
}

static void lock_unlock(void *arg) {
    CHECK_INT(ferry_unlock(&((struct lock_round *)arg)->mutex), 0);
}

static void lock_cancel(void *arg) {
    cancel_or_not(&((struct lock_round *)arg)->b.scope);
}

static void lock_check(void *arg) {
    struct lock_round *r = arg;
    CHECK(r->b.rc == 0 || said_no(r->b.rc));
    CHECK_INT(r->c.rc, 0);
    CHECK_INT(r->most, 1);
    CHECK(!r->mutex.owner && !r->mutex.first); /* never without a holder that waits */
}

static void lock_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct lock_round),
                                     .prepare = lock_prepare,
                                     .first = lock_held,
                                     .acts = {lock_b, lock_c},
                                     .hands = {lock_unlock, lock_cancel},
                                     .check = lock_check});
}

/* ---- SEM-03 ---------------------------------------------------------------------------------- */

struct sem_round {
    struct stress_round round;
    ferry_sem sem;
    struct actor first, second;
};

static void sem_prepare(void *arg) {
    struct sem_round *r = arg;
    r->sem = (ferry_sem)FERRY_SEM_INIT(0);
}

static void sem_first(void *arg) {
    struct sem_round *r = arg;
    enter(&r->first);
    r->first.rc = ferry_sem_acquire_for(&r->sem, 1, some_time());
    if (r->first.rc == 0)
        CHECK_INT(ferry_sem_release(&r->sem, 1), 0);
    leave(&r->round, &r->first, 1);
}

static void sem_second(void *arg) {
    struct sem_round *r = arg;
    r->second.rc = ferry_sem_acquire(&r->sem, 1);
    CHECK_INT(ferry_sem_release(&r->sem, 1), 0);
}

static void sem_give(void *arg) {
    CHECK_INT(ferry_sem_release(&((struct sem_round *)arg)->sem, 1), 0);
}

static void sem_cancel(void *arg) {
    cancel_or_not(&((struct sem_round *)arg)->first.scope);
}

static void sem_check(void *arg) {
    struct sem_round *r = arg;
    CHECK(r->first.rc == 0 || said_no(r->first.rc));
    CHECK_INT(r->second.rc, 0);
    CHECK_INT(ferry_sem_value(&r->sem), 1);
    CHECK(!r->sem.first);
}

static void sem_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct sem_round),
                                     .prepare = sem_prepare,
                                     .acts = {sem_first, sem_second},
                                     .hands = {sem_give, sem_cancel},
                                     .check = sem_check});
}

/* ---- CND-03, CND-05 -------------------------------------------------------------------------- */

struct cond_round {
    struct stress_round round;
    ferry_mutex mutex;
    ferry_cond cond;
    struct actor first, second;
    int waiting; /* under the mutex: those that have begun to wait */
    int inside;  /* under the mutex */
};

static void cond_prepare(void *arg) {
    struct cond_round *r = arg;
    r->mutex = (ferry_mutex)FERRY_MUTEX_INIT;
    r->cond = (ferry_cond)FERRY_COND_INIT(&r->mutex);
}

/* What `rc` is, the mutex is held. */
static void cond_hold(struct cond_round *r) {
    CHECK_INT(++r->inside, 1);
    r->inside--;
}

static void cond_first(void *arg) {
    struct cond_round *r = arg;
    CHECK_INT(ferry_lock(&r->mutex), 0);
    enter(&r->first);
    r->waiting++;
    r->first.rc = ferry_cond_wait_for(&r->cond, some_time());
    cond_hold(r);
    if (r->first.rc == 0) /* it has consumed the signal, and passes it on */
        CHECK_INT(ferry_cond_signal(&r->cond), 0);
    CHECK_INT(ferry_unlock(&r->mutex), 0);
    leave(&r->round, &r->first, 1);
}

static void cond_second(void *arg) {
    struct cond_round *r = arg;
    CHECK_INT(ferry_lock(&r->mutex), 0);
    r->waiting++;
    r->second.rc = ferry_cond_wait(&r->cond);
    cond_hold(r);
    CHECK_INT(ferry_cond_signal(&r->cond), 0);
    CHECK_INT(ferry_unlock(&r->mutex), 0);
}

/* One signal, when both wait, or have waited. */
static void cond_signal(void *arg) {
    struct cond_round *r = arg;
    bool both;
    do {
        CHECK_INT(ferry_lock(&r->mutex), 0);
        cond_hold(r);
        both = r->waiting == 2;
        if (both)
            CHECK_INT(ferry_cond_signal(&r->cond), 0);
        CHECK_INT(ferry_unlock(&r->mutex), 0);
    } while (!both);
}

static void cond_cancel(void *arg) {
    cancel_or_not(&((struct cond_round *)arg)->first.scope);
}

static void cond_check(void *arg) {
    struct cond_round *r = arg;
    CHECK(r->first.rc == 0 || said_no(r->first.rc));
    CHECK_INT(r->second.rc, 0);
    CHECK(!r->mutex.owner && !r->mutex.first && !r->cond.first);
}

static void cond_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct cond_round),
                                     .prepare = cond_prepare,
                                     .acts = {cond_first, cond_second},
                                     .hands = {cond_signal, cond_cancel},
                                     .check = cond_check});
}

/* ---- CAN-07: completed, cancelled ------------------------------------------------------------ */

struct wake_round {
    struct stress_round round;
    ferry_promise *promise;
    ferry_future *future;
    struct actor waiter;
    int64_t value;
};

static void wake_prepare(void *arg) {
    struct wake_round *r = arg;
    r->promise = ferry_promise_new(&r->future, NULL);
}

static void wake_wait(void *arg) {
    struct wake_round *r = arg;
    struct actor *a = &r->waiter;
    enter(a);
    a->rc = ferry_wait_for(r->future, some_time());
    r->value = ferry_result(r->future);
    stress_wait_for(&r->round, 1);
    a->after = ferry_sleep(0); /* its next wait */
    CHECK_INT(ferry_scope_close(&a->scope, 0), 0);
}

static void wake_set(void *arg) {
    CHECK_INT(ferry_promise_set(((struct wake_round *)arg)->promise, 7), 0);
}

static void wake_cancel(void *arg) {
    cancel_or_not(&((struct wake_round *)arg)->waiter.scope);
}

static void wake_check(void *arg) {
    struct wake_round *r = arg;
    struct actor *a = &r->waiter;
    CHECK(a->rc == 0 ? r->value == 7 : said_no(a->rc));
    /* A cancel that came too late for this wait comes at the next one. */
    CHECK_INT(a->after, ferry_scope_cancelled(&a->scope) ? -ECANCELED : 0);
    CHECK(a->rc != -ECANCELED || ferry_scope_cancelled(&a->scope));
    ferry_promise_drop(r->promise);
    CHECK_INT(ferry_await(r->future), 7);
}

static void wake_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct wake_round),
                                     .prepare = wake_prepare,
                                     .acts = {wake_wait},
                                     .hands = {wake_set, wake_cancel},
                                     .check = wake_check});
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("CAN-07 completed and cancelled at once: first wake wins", wake_race),
        CASE("LCK-04 handed over and cancelled at once: exactly one holder", lock_race),
        CASE("SEM-03 released and cancelled at once: no permit is lost", sem_race),
        CASE("CND-03 CND-05 signalled and cancelled at once: held on every way out, no signal is "
             "lost",
             cond_race),
    };
    return SUPPORT_RUN(tests);
}

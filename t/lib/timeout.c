/* Time-outs: when a deadline shows, what beats it, which one of several counts, and that nothing is
 * left behind. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "parked.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000

/* Keeps the thread busy until `ms` have passed: the loop is late then. */
static void be_busy(int64_t ms) {
    int64_t until = ferry__now() + ms * FERRY__MS;
    while (ferry__now() < until)
        continue;
}

static int64_t returns_it(void *arg) {
    return *(int64_t *)arg;
}

/* ---- Zero ------------------------------------------------------------------------------------ */

static void check_zero(int64_t ms) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    int reached = 0;
    CHECK_INT(ferry_scope_open(&scope, ms), 0);
    reached++; /* what doesn't wait runs */
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    CHECK(ferry_scope_expired(&scope));
    CHECK_INT(reached, 1);

    scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, ms), 0);
    int64_t begun = ferry__now();
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK(ferry__now() - begun < LONG / 2 * FERRY__MS);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);

    ferry_event event = FERRY_EVENT_INIT;
    CHECK_INT(ferry_event_wait_for(&event, ms), -ETIMEDOUT);
    CHECK_INT(ferry_yield(), 0);
}

static int64_t zero_body(void *arg) {
    (void)arg;
    check_zero(0);
    check_zero(-1);
    check_zero(INT64_MIN);
    return 0;
}

static void zero(void **state) {
    (void)state;
    assert_int_equal(ferry_run(zero_body, NULL), 0);
    zero_body(NULL);
    assert_int_equal(ferry_await(ferry_submit(NULL, zero_body, NULL)), 0);
}

static void check_ready(void) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    ferry_sem sem = FERRY_SEM_INIT(1);
    ferry_queue *queue = ferry_queue_new(1, NULL);
    ferry_future *future;
    ferry_promise *promise = ferry_promise_new(&future, NULL);
    ferry_promise_set(promise, 7);
    ferry_event_set(&event);
    CHECK_INT(ferry_event_wait_for(&event, 0), 0);
    CHECK_INT(ferry_wait_for(future, -5), 0);
    CHECK_INT(ferry_wait_any(&future, 1, 0), 0);
    ferry_ref(future);
    CHECK_INT(ferry_await_for(future, 0), 7);
    /* In a scope whose time is over from the beginning: nothing has had to wait yet. More often
     * than the budget, so that no call among many comes at the moment when others are let run. */
    for (int i = 0; i < 1000; i++) {
        ferry_scope scope = FERRY_SCOPE_INIT;
        void *item;
        CHECK_INT(ferry_scope_open(&scope, i % 2 ? 0 : -1), 0);
        int64_t rc = ferry_event_wait(&event);
        if (rc == 0)
            rc = ferry_lock(&mutex);
        if (rc == 0)
            rc = ferry_unlock(&mutex);
        if (rc == 0)
            rc = ferry_sem_acquire(&sem, 1);
        if (rc == 0)
            rc = ferry_sem_release(&sem, 1);
        if (rc == 0)
            rc = ferry_queue_put(queue, &item);
        if (rc == 0)
            rc = ferry_queue_get(queue, &item);
        if (rc == 0)
            rc = ferry_wait(future);
        ferry_ref(future);
        if (ferry_await(future) != 7)
            rc = -EIO;
        if (!CHECK_INT(ferry_scope_close(&scope, rc), 0))
            break;
    }
    CHECK_INT(ferry_await(future), 7);
    ferry_promise_drop(promise);
    ferry_queue_free(queue);
}

static int64_t ready_body(void *arg) {
    (void)arg;
    check_ready();
    return 0;
}

static void ready_beats_the_clock(void **state) {
    (void)state;
    assert_int_equal(ferry_run(ready_body, NULL), 0);
    ready_body(NULL);
    assert_int_equal(ferry_await(ferry_submit(NULL, ready_body, NULL)), 0);
}

/* It became ready and its time was over before the waiter ran: who came first counts. */
struct both {
    ferry_event event;
    int64_t timeout, rc;
};

static int64_t waits_for_both(void *arg) {
    struct both *b = arg;
    b->rc = ferry_event_wait_for(&b->event, b->timeout);
    return 0;
}

TASK_TEST(ready_and_late) {
    struct both b = {.timeout = 2};
    ferry_future *f = ferry_spawn(waits_for_both, &b);
    until_parked(f);
    be_busy(4); /* its time is over, and nobody has noticed */
    ferry_event_set(&b.event);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(b.rc, 0);
    return 0;
}

/* ---- Waiting for a handle -------------------------------------------------------------------- */

static int64_t counts_and_sleeps(void *arg) {
    ++*(int *)arg;
    return ferry_sleep(LONG);
}

struct slow_end {
    int turns;
    bool ended;
};

static int64_t ends_slowly(void *arg) {
    struct slow_end *e = arg;
    int64_t rc = ferry_sleep(LONG);
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_shield_open(&shield, FERRY_FOREVER);
    for (; e->turns < 5; e->turns++)
        ferry_sleep(1);
    ferry_scope_close(&shield, 0);
    e->ended = true;
    return rc;
}

TASK_TEST(await_for_nothing) {
    /* A job that stands in line never runs. */
    ferry_executor *pool;
    CHECK_INT(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    saturation s;
    saturate(&s, pool, 1);
    int begun = 0;
    CHECK_INT(ferry_await_for(ferry_submit(pool, counts_and_sleeps, &begun), 0), -ETIMEDOUT);
    desaturate(&s);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
    CHECK_INT(begun, 0);

    /* A task gets to its first wait, so that it can free what it owns; what it returns counts. */
    CHECK_INT(ferry_await_for(ferry_spawn(counts_and_sleeps, &begun), 0), -ETIMEDOUT);
    CHECK_INT(begun, 1);
    int64_t seven = 7;
    CHECK_INT(ferry_await_for(ferry_spawn(returns_it, &seven), 0), 7);
    int64_t error = -EIO;
    CHECK_INT(ferry_await_for(ferry_spawn(returns_it, &error), 0), -EIO);

    for (int64_t ms = -1; ms <= 0; ms++) {
        struct slow_end e = {0};
        ferry_future *f = ferry_spawn(ends_slowly, &e);
        until_parked(f);
        CHECK_INT(ferry_wait_for(f, ms), -ETIMEDOUT); /* looks on */
        CHECK(task_parked(f));
        CHECK_INT(ferry_await_for(f, ms), -ETIMEDOUT);
        CHECK(e.ended);
    }
    return 0;
}

TASK_TEST(await_for_joins) {
    struct slow_end e = {0};
    ferry_future *f = ferry_spawn(ends_slowly, &e);
    CHECK_INT(ferry_await_for(f, 2), -ETIMEDOUT);
    CHECK_INT(e.turns, 5);
    CHECK(e.ended);
    CHECK_STR(ferry_errmsg(), "'task' didn't end in time; it was told to stop, and has ended");
    return 0;
}

static void await_for_joins_jobs(void **state) {
    (void)state;
    struct slow_end e = {0};
    assert_int_equal(ferry_await_for(ferry_submit(NULL, ends_slowly, &e), 2), -ETIMEDOUT);
    /* Whether it began or not: nothing of it runs any more. */
    assert_true(e.ended || e.turns == 0);

    struct slow_end t = {0};
    ferry_future *observed = ferry_submit(NULL, ends_slowly, &t);
    assert_int_equal(ferry_wait_for(observed, 2), -ETIMEDOUT);
    assert_false(t.ended);
    ferry_cancel(observed);
    assert_int_equal(ferry_await(observed), FERRY_EJOBCANCELED);
}

struct awaiter {
    ferry_future *awaited;
    int64_t ms, rc;
    struct slow_end *end;
    bool ended;
};

static int64_t awaits_for(void *arg) {
    struct awaiter *a = arg;
    a->rc = ferry_await_for(a->awaited, a->ms);
    a->ended = a->end && a->end->ended;
    return a->rc;
}

TASK_TEST(the_awaiter_is_cancelled) {
    struct slow_end e = {0};
    struct awaiter a = {.awaited = ferry_spawn(ends_slowly, &e), .ms = LONG, .end = &e};
    ferry_future *f = ferry_spawn(awaits_for, &a);
    until_parked(a.awaited);
    until_parked(f);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(a.rc, -ECANCELED);
    CHECK(a.ended);

    /* Both at once: the task that waits for a while for one that waits for a while. */
    struct slow_end e2 = {0};
    struct awaiter inner = {.awaited = ferry_spawn(ends_slowly, &e2), .ms = LONG, .end = &e2};
    struct awaiter outer = {.awaited = ferry_spawn(awaits_for, &inner), .ms = 2, .end = &e2};
    CHECK_INT(awaits_for(&outer), -ETIMEDOUT);
    CHECK_INT(inner.rc, -ECANCELED);
    CHECK(inner.ended && outer.ended);
    return 0;
}

static int64_t waits_for_the_event(void *arg) {
    int rc = ferry_event_wait(arg);
    return rc < 0 ? rc : 11;
}

TASK_TEST(a_shielded_operation_runs_on) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_future *job = ferry_spawn(waits_for_the_event, &event);
    CHECK_INT(ferry_await_for(ferry_shield(job), 1), -ETIMEDOUT);
    CHECK(!ferry_done(job));
    ferry_event_set(&event);
    CHECK_INT(ferry_await(job), 11);
    ferry_event_clear(&event);
    job = ferry_submit(NULL, waits_for_the_event, &event);
    CHECK_INT(ferry_await_for(ferry_shield(job), 0), -ETIMEDOUT);
    ferry_event_set(&event);
    CHECK_INT(ferry_await(job), 11);
    return 0;
}

/* ---- One inside the other -------------------------------------------------------------------- */

/* The outer one is cancelled, and when somebody looks again, the inner one's time is over, too. */
static void check_cancelled_and_late(void) {
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_scope_open(&inner, 1), 0);
    ferry_scope_cancel(&outer);
    be_busy(3);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK(!ferry_scope_expired(&inner));
    CHECK_INT(ferry_scope_close(&inner, -ECANCELED), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), 0);
}

static int64_t cancelled_and_late_body(void *arg) {
    (void)arg;
    check_cancelled_and_late();
    return 0;
}

static void cancelled_and_late(void **state) {
    (void)state;
    assert_int_equal(ferry_run(cancelled_and_late_body, NULL), 0);
    check_cancelled_and_late();
    assert_int_equal(ferry_await(ferry_submit(NULL, cancelled_and_late_body, NULL)), 0);
}

/* Which of the two says that its time was over, when both are noticed at once. */
static void check_outermost(int64_t outer_ms, int64_t inner_ms, bool late) {
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, outer_ms), 0);
    CHECK_INT(ferry_scope_open(&inner, inner_ms), 0);
    if (late)
        be_busy(4);
    int64_t rc = ferry_sleep(LONG);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&inner, rc), -ECANCELED);
    CHECK(!ferry_scope_expired(&inner));
    CHECK_INT(ferry_scope_close(&outer, rc), -ETIMEDOUT);
    CHECK(ferry_scope_expired(&outer));
}

static int64_t outermost_body(void *arg) {
    (void)arg;
    check_outermost(2, LONG, false);
    check_outermost(2, 3, true);
    check_outermost(3, 2, true);
    check_outermost(0, 0, false);
    /* Time for both, but the inner one's comes first and is noticed alone. */
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, LONG), 0);
    CHECK_INT(ferry_scope_open(&inner, 2), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&inner, -ECANCELED), -ETIMEDOUT);
    CHECK(!ferry_scope_expired(&outer));
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_scope_close(&outer, 0), 0);
    return 0;
}

static void the_outermost_says_so(void **state) {
    (void)state;
    assert_int_equal(ferry_run(outermost_body, NULL), 0);
    outermost_body(NULL);
    assert_int_equal(ferry_await(ferry_submit(NULL, outermost_body, NULL)), 0);
}

/* The deadline that counts inside is the earliest that no shield keeps out. */
TASK_TEST(the_earliest_counts) {
    ferry_scope outer = FERRY_SCOPE_INIT, shield = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, 2), 0);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(4), 0);
    CHECK_INT(ferry_scope_open(&inner, 2), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&inner, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, -ECANCELED), -ETIMEDOUT);
    return 0;
}

struct same_tick {
    ferry_scope outer, inner;
    int64_t slept, inner_closed, outer_closed;
};

static int64_t sleeps_in_two(void *arg) {
    struct same_tick *s = arg;
    CHECK_INT(ferry_scope_open(&s->outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_scope_open(&s->inner, 5), 0);
    s->slept = ferry_sleep(LONG);
    s->inner_closed = ferry_scope_close(&s->inner, s->slept);
    s->outer_closed = ferry_scope_close(&s->outer, s->inner_closed);
    return s->outer_closed;
}

struct canceller {
    ferry_future *target;
    struct same_tick *s;
    bool task, expired_first;
};

/* Its sleep is over no later than the time-out, and both are noticed in one turn of a late loop: it
 * runs after the time-out has ended the other's wait, and before the other one. */
static int64_t cancels_after_a_sleep(void *arg) {
    struct canceller *c = arg;
    ferry_sleep(1);
    c->expired_first = ferry_scope_expired(&c->s->inner);
    if (c->task)
        ferry_cancel(c->target);
    else
        ferry_scope_cancel(&c->s->outer);
    return 0;
}

static void expire_and_cancel(bool task) {
    struct same_tick s = {0};
    struct canceller c = {.s = &s, .task = task};
    ferry_future *canceller = ferry_spawn(cancels_after_a_sleep, &c);
    c.target = ferry_spawn(sleeps_in_two, &s);
    until_parked(canceller);
    until_parked(c.target);
    be_busy(10);
    ferry_wait(c.target);
    CHECK(c.expired_first);
    CHECK_INT(s.inner_closed, -ECANCELED);
    CHECK_INT(s.outer_closed, task ? -ECANCELED : 0);
    CHECK_INT(ferry_await(c.target), task ? FERRY_EJOBCANCELED : 0);
    CHECK_INT(ferry_await(canceller), 0);
}

static void cancel_and_expire(bool task) {
    struct same_tick s = {0};
    ferry_future *f = ferry_spawn(sleeps_in_two, &s);
    until_parked(f);
    be_busy(10); /* its time is over, but this is still the turn in which nobody has noticed */
    if (task)
        ferry_cancel(f);
    else
        ferry_scope_cancel(&s.outer);
    ferry_wait(f);
    CHECK(!ferry_scope_expired(&s.inner));
    CHECK_INT(s.inner_closed, -ECANCELED);
    CHECK_INT(s.outer_closed, task ? -ECANCELED : 0);
    CHECK_INT(ferry_await(f), task ? FERRY_EJOBCANCELED : 0);
}

TASK_TEST(expired_and_cancelled_in_one_turn) {
    for (int task = 0; task < 2; task++) {
        expire_and_cancel(task);
        cancel_and_expire(task);
    }
    return 0;
}

/* ---- Calls that never have to wait ----------------------------------------------------------- */

enum ready_kind { YIELDS, LOCKS, GETS, WAITS_FOR_HANDLE, WAITS_FOR_EVENT, CHECKS, READY_KINDS };

struct busy_body {
    enum ready_kind kind;
    bool others_run;
    int64_t closed;
};

static int64_t never_waits(void *arg) {
    struct busy_body *b = arg;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    ferry_event event = FERRY_EVENT_INIT;
    ferry_sem sem = FERRY_SEM_INIT(1);
    ferry_future *future;
    ferry_promise *promise = ferry_promise_new(&future, NULL);
    ferry_promise_set(promise, 7);
    ferry_event_set(&event);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 3), 0);
    int64_t rc = 0;
    while (rc == 0) {
        switch (b->kind) {
        case YIELDS:
            rc = ferry_yield();
            break;
        case LOCKS:
            rc = ferry_lock(&mutex);
            if (rc == 0)
                ferry_unlock(&mutex);
            break;
        case GETS:
            rc = ferry_sem_acquire(&sem, 1);
            if (rc == 0)
                ferry_sem_release(&sem, 1);
            break;
        case WAITS_FOR_HANDLE:
            rc = ferry_wait(future);
            break;
        case WAITS_FOR_EVENT:
            rc = ferry_event_wait(&event);
            break;
        case CHECKS:
        case READY_KINDS:
            rc = ferry_checkpoint();
            break;
        }
    }
    b->closed = ferry_scope_close(&scope, rc);
    ferry_detach(future);
    ferry_promise_drop(promise);
    return 0;
}

static int64_t runs_beside(void *arg) {
    struct busy_body *b = arg;
    b->others_run = true;
    return 0;
}

TASK_TEST(a_body_that_never_waits) {
    for (int kind = 0; kind < READY_KINDS; kind++) {
        struct busy_body b = {.kind = (enum ready_kind)kind};
        ferry_future *beside = ferry_spawn(runs_beside, &b);
        never_waits(&b);
        CHECK_INT(b.closed, -ETIMEDOUT);
        CHECK(b.others_run == (kind != CHECKS)); /* a checkpoint lets nobody run */
        CHECK_INT(ferry_await(beside), 0);
        CHECK_INT(ferry_await(ferry_submit(NULL, never_waits, &b)), 0);
        CHECK_INT(b.closed, -ETIMEDOUT);
    }
    return 0;
}

static void a_thread_that_never_waits(void **state) {
    (void)state;
    for (int kind = 0; kind < READY_KINDS; kind++) {
        struct busy_body b = {.kind = (enum ready_kind)kind};
        never_waits(&b);
        assert_int_equal(b.closed, -ETIMEDOUT);
    }
}

/* The outer scope's time runs out although each call has a fresh scope of its own. */
TASK_TEST(fresh_scopes_inside) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_event_set(&event);
    ferry_scope outer = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, 3), 0);
    int64_t rc = 0;
    while (rc == 0) {
        ferry_scope inner = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&inner, LONG), 0);
        rc = ferry_scope_close(&inner, ferry_event_wait(&event));
    }
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&outer, rc), -ETIMEDOUT);
    return 0;
}

struct taken {
    int awaits;
    bool over;
};

static int64_t awaits_what_is_ready(void *arg) {
    struct taken *t = arg;
    while (!t->over) {
        ferry_future *future;
        ferry_promise *promise = ferry_promise_new(&future, NULL);
        ferry_promise_set(promise, 1);
        ferry_promise_drop(promise);
        CHECK_INT(ferry_await(future), 1);
        if (++t->awaits == 1000000)
            return -ELOOP; /* nobody else was let run */
    }
    return 0;
}

TASK_TEST(awaits_let_others_run) {
    struct taken t = {0};
    ferry_future *f = ferry_spawn(awaits_what_is_ready, &t);
    ferry_yield();
    t.over = true;
    CHECK_INT(ferry_await(f), 0);
    return 0;
}

/* ---- Timers ---------------------------------------------------------------------------------- */

struct ordered {
    int *next;
    int order;
    int64_t ms, early_by;
};

static int64_t sleeps_in_order(void *arg) {
    struct ordered *o = arg;
    int64_t begun = ferry__now();
    CHECK_INT(ferry_sleep(o->ms), 0);
    o->early_by = o->ms * FERRY__MS - (ferry__now() - begun);
    o->order = (*o->next)++;
    return 0;
}

enum { SLEEPERS = 40 };

TASK_TEST(equal_times_in_order) {
    for (int late = 0; late < 2; late++) {
        int next = 0;
        struct ordered o[SLEEPERS];
        ferry_future *f[SLEEPERS];
        for (int i = 0; i < SLEEPERS; i++) {
            o[i] = (struct ordered){.next = &next, .ms = 3};
            f[i] = ferry_spawn(sleeps_in_order, &o[i]);
        }
        /* Or over, where the loop has looked at the clock in between. */
        while (!task_parked(f[SLEEPERS - 1]) && !ferry_done(f[SLEEPERS - 1]))
            ferry_yield();
        if (late)
            be_busy(6);
        for (int i = 0; i < SLEEPERS; i++) {
            CHECK_INT(ferry_await(f[i]), 0);
            CHECK_INT(o[i].order, i);
            CHECK(o[i].early_by <= 0);
        }
    }
    return 0;
}

static void check_never_early(void) {
    for (int64_t ms = 1; ms <= 4; ms++) {
        int64_t begun = ferry__now();
        CHECK_INT(ferry_sleep(ms), 0);
        CHECK(ferry__now() - begun >= ms * FERRY__MS);
        ferry_event never = FERRY_EVENT_INIT;
        begun = ferry__now();
        CHECK_INT(ferry_event_wait_for(&never, ms), -ETIMEDOUT);
        CHECK(ferry__now() - begun >= ms * FERRY__MS);
        ferry_scope scope = FERRY_SCOPE_INIT;
        begun = ferry__now();
        CHECK_INT(ferry_scope_open(&scope, ms), 0);
        CHECK_INT(ferry_sleep(LONG), -ECANCELED);
        CHECK(ferry__now() - begun >= ms * FERRY__MS);
        CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    }
}

static int64_t never_early_body(void *arg) {
    (void)arg;
    check_never_early();
    return 0;
}

static void never_early(void **state) {
    (void)state;
    assert_int_equal(ferry_run(never_early_body, NULL), 0);
    check_never_early();
    assert_int_equal(ferry_await(ferry_submit(NULL, never_early_body, NULL)), 0);
}

struct periodic {
    int64_t ms;
    int ticks;
    bool over;
};

static int64_t ticks(void *arg) {
    struct periodic *p = arg;
    while (!p->over) {
        CHECK_INT(ferry_sleep(p->ms), 0);
        p->ticks++;
    }
    return 0;
}

/* A zero timer that is armed again waits until all others had their turn; and one that is late by
 * two periods is called once. */
TASK_TEST(no_bursts) {
    struct periodic zero = {.ms = 0}, late = {.ms = 3};
    ferry_future *f = ferry_spawn(ticks, &zero);
    for (int i = 1; i <= 5; i++) {
        ferry_yield();
        CHECK_INT(zero.ticks, i - 1);
    }
    zero.over = true;
    CHECK_INT(ferry_await(f), 0);

    f = ferry_spawn(ticks, &late);
    until_parked(f);
    be_busy(8);
    CHECK_INT(late.ticks, 0);
    while (late.ticks == 0)
        ferry_yield();
    CHECK_INT(late.ticks, 1);
    CHECK(task_parked(f));
    late.over = true;
    CHECK_INT(ferry_await(f), 0);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("SCP-01 SCP-04 a time that is over shows at the first wait", zero),
        CASE("SCP-02 what is ready beats the clock", ready_beats_the_clock),
        CASE("SCP-02 ready and late: who came first counts", ready_and_late),
        CASE("SCP-03 an await for no time", await_for_nothing),
        CASE("SCP-23 an await for a time returns when the task has ended", await_for_joins),
        CASE("SCP-23 and when the job has", await_for_joins_jobs),
        CASE("SCP-26 the awaiter is cancelled", the_awaiter_is_cancelled),
        CASE("SCP-26 what is shielded runs on", a_shielded_operation_runs_on),
        CASE("SCP-09 of several time-outs the outermost says so", the_outermost_says_so),
        CASE("SCP-09 the earliest that no shield keeps out counts", the_earliest_counts),
        CASE("SCP-11 the inner one expires and the outer is cancelled in one turn",
             expired_and_cancelled_in_one_turn),
        CASE("SCP-11 the outer one is cancelled, and then the inner one's time is over",
             cancelled_and_late),
        CASE("SCP-22 a body that never has to wait", a_body_that_never_waits),
        CASE("SCP-22 in a thread", a_thread_that_never_waits),
        CASE("SCP-22 with fresh scopes inside", fresh_scopes_inside),
        CASE("SCP-22 awaits of what is ready let others run", awaits_let_others_run),
        CASE("SCP-27 equal times in the order of their start, also when late",
             equal_times_in_order),
        CASE("SCP-27 never early", never_early),
        CASE("SCP-27 no bursts", no_bursts),
    };
    return SUPPORT_RUN(tests);
}

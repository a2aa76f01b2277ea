/* Pools of resources: order, hand-off, time-outs, creation that fails; for tasks and threads. */
#include "config.h"

#include "child.h"
#include "pool.h"

/* ---- Lending --------------------------------------------------------------------------------- */

static void options_are_checked(void **state) {
    (void)state;
    struct works w = {0};
    const ferry_pool_options good = {.max = 2, .create = make, .destroy = unmake, .arg = &w};
    ferry_pool *pool = (ferry_pool *)&w;
    ferry_pool_options bad[9];
    for (int i = 0; i < 9; i++)
        bad[i] = good;
    bad[0].max = 0;
    bad[1].max = FERRY_POOL_MOST + 1;
    bad[2].min = 3;
    bad[3].create = NULL;
    bad[4].destroy = NULL;
    bad[5].idle_ms = -1;
    bad[6].acquire_ms = -1;
    bad[7].check_after_ms = -2;
    bad[8].max = SIZE_MAX;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(ferry_pool_new(&pool, &bad[i]), -EINVAL);
        assert_null(pool);
    }
    assert_int_equal(ferry_pool_new(&pool, NULL), -EINVAL);
    void *thing;
    assert_int_equal(ferry_pool_acquire(NULL, &thing), -EINVAL);
    assert_int_equal(ferry_pool_try_acquire(NULL, &thing), -EINVAL);
    assert_int_equal(ferry_pool_release(NULL, &w), -EINVAL);
    assert_int_equal(ferry_pool_close(NULL, 0), -EINVAL);
    assert_int_equal(ferry_pool_free(NULL), 0);
}

static void check_use(void) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 3, DEFAULTS);
    void *none;
    CHECK_INT(w.made, 0);
    CHECK_INT(ferry_pool_try_acquire(pool, &none), -EAGAIN); /* it creates nothing */
    struct thing *a = acquired(pool), *b = acquired(pool);
    CHECK_INT(a->number, 1);
    CHECK_INT(b->number, 2);
    CHECK_INT(pool_stats(pool).lent, 2);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK_INT(ferry_pool_release(pool, b), 0);
    CHECK_INT(pool_stats(pool).idle, 2);
    CHECK_INT(pool_stats(pool).lent, 0);
    CHECK(acquired(pool) == b); /* used last, lent first */
    CHECK_INT(ferry_pool_release(pool, b), 0);
    CHECK(acquired(pool) == b);
    void *second = NULL;
    CHECK_INT(ferry_pool_try_acquire(pool, &second), 0);
    CHECK(second == a);
    CHECK_INT(w.made, 2);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK_INT(ferry_pool_release(pool, b), 0);
    end_of(pool, &w);
}

TASK_TEST(last_in_first_out) {
    check_use();
    return 0;
}

static void last_in_first_out_in_threads(void **state) {
    (void)state;
    check_use();
}

TASK_TEST(in_turn) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *thing = acquired(pool);
    atomic_int turns = 0;
    struct taker t[3];
    ferry_future *f[2];
    for (int i = 0; i < 3; i++)
        t[i] = (struct taker){.pool = pool, .turns = &turns};
    f[0] = ferry_spawn(take, &t[0]);
    UNTIL_WAITERS(pool, 1);
    pthread_t thread = start_in_thread(take, &t[1]);
    UNTIL_WAITERS(pool, 2);
    f[1] = ferry_spawn(take, &t[2]);
    UNTIL_WAITERS(pool, 3);
    CHECK_INT(pool_stats(pool).waiting, 3);
    for (int i = 0; i < 3; i++) {
        void *stolen;
        CHECK_INT(ferry_pool_release(pool, thing), 0);
        CHECK_INT(WAITERS(pool), (size_t)(2 - i));
        CHECK_INT(pool_stats(pool).lent, 1); /* it went over inside the release */
        CHECK_INT(pool_stats(pool).idle, 0);
        CHECK_INT(ferry_pool_try_acquire(pool, &stolen), -EAGAIN);
        while (t[i].turn == 0)
            ferry_yield();
        CHECK_INT(t[i].turn, i + 1);
        CHECK(t[i].thing == thing);
    }
    CHECK_INT(ferry_await(f[0]), 0);
    CHECK_INT(ferry_await(f[1]), 0);
    pthread_join(thread, NULL);
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    CHECK_INT(w.made, 1);
    end_of(pool, &w);
    return 0;
}

TASK_TEST(a_late_one_is_told_why) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 2, (ferry_pool_options){.name = "db"});
    struct thing *a = acquired(pool), *b = acquired(pool);
    struct taker patient = {0};
    ferry_future *f = taking(&patient, pool);
    UNTIL_WAITERS(pool, 1);
    int64_t patience = ((struct ferry__task *)f)->ctx.wait_deadline - ferry__now();
    CHECK(patience > 20000 * FERRY__MS && patience <= 30000 * FERRY__MS); /* the default */
    void *thing = &w;
    CHECK_INT(ferry_pool_acquire_for(pool, &thing, 5), -ETIMEDOUT);
    CHECK(thing == &w);
    CHECK_STR(ferry_errmsg(),
              "pool 'db': none came free within 5 ms: of at most 2 there are 2 lent, "
              "0 idle, 0 being created or checked, 0 being destroyed; 1 others wait");
    CHECK_INT(ferry_pool_acquire_for(pool, &thing, -1), -ETIMEDOUT);
    CHECK_INT(pool_stats(pool).timeouts, 2);
    CHECK_INT(pool_stats(pool).waiting, 1);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK(patient.thing == a);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK_INT(ferry_pool_acquire_for(pool, &thing, 0), 0); /* ready beats a time-out of zero */
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    CHECK_INT(ferry_pool_release(pool, b), 0);
    end_of(pool, &w);
    return 0;
}

static void a_late_thread(void **state) {
    (void)state;
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, (ferry_pool_options){.acquire_ms = 5});
    struct thing *a = acquired(pool);
    void *thing;
    assert_int_equal(ferry_pool_acquire(pool, &thing), -ETIMEDOUT);
    assert_non_null(strstr(ferry_errmsg(), "none came free within 5 ms"));
    assert_int_equal(ferry_pool_release(pool, a), 0);
    end_of(pool, &w);
}

/* A deadline of a scope around is that scope's. */
TASK_TEST(the_deadline_around) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *a = acquired(pool);
    void *thing;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, 5);
    int64_t rc = ferry_pool_acquire(pool, &thing);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_pool_acquire(pool, &thing), -ECANCELED); /* again, and at once */
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK_INT(ferry_pool_acquire(pool, &thing), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    CHECK_INT(pool_stats(pool).timeouts, 0);
    end_of(pool, &w);
    return 0;
}

/* ---- Races, in a fixed order ----------------------------------------------------------------- */

TASK_TEST(released_then_cancelled) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *thing = acquired(pool);
    struct taker t1 = {0}, t2 = {0};
    ferry_future *f1 = taking(&t1, pool);
    UNTIL_WAITERS(pool, 1);
    ferry_future *f2 = taking(&t2, pool);
    UNTIL_WAITERS(pool, 2);
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    ferry_scope_cancel(&t1.scope);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(t1.rc, 0); /* it keeps what it was granted */
    CHECK(t1.thing == thing);
    CHECK_INT(WAITERS(pool), 1);
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK(t2.thing == thing);
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    end_of(pool, &w);
    return 0;
}

TASK_TEST(cancelled_then_released) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *thing = acquired(pool);
    struct taker t1 = {0}, t2 = {0};
    ferry_future *f1 = taking(&t1, pool);
    UNTIL_WAITERS(pool, 1);
    ferry_future *f2 = taking(&t2, pool);
    UNTIL_WAITERS(pool, 2);
    ferry_scope_cancel(&t1.scope);
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(t1.rc, -ECANCELED);
    CHECK_INT(ferry_await(f2), 0);
    CHECK(t2.thing == thing);
    ferry_future *f3 = taking(&t1, pool);
    UNTIL_WAITERS(pool, 1);
    ferry_scope_cancel(&t1.scope);
    CHECK_INT(ferry_pool_release(pool, thing), 0); /* nobody wants it */
    CHECK_INT(pool_stats(pool).idle, 1);
    CHECK_INT(ferry_await(f3), 0);
    CHECK_INT(t1.rc, -ECANCELED);
    end_of(pool, &w);
    return 0;
}

/* The time is over, but nobody has looked at the clock yet: a release in the same tick is first.
 * The other way round the resource is nobody's. */
TASK_TEST(released_then_timed_out) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *thing = acquired(pool);
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    UNTIL_WAITERS(pool, 1);
    struct ferry__ctx *ctx = &((struct ferry__task *)f)->ctx;
    ctx->wait_deadline = 1;
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    ferry__poke(ctx, ferry__now());
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.rc, 0);
    CHECK(t.thing == thing);
    CHECK_INT(pool_stats(pool).timeouts, 0);
    f = taking(&t, pool);
    UNTIL_WAITERS(pool, 1);
    ctx = &((struct ferry__task *)f)->ctx;
    ctx->wait_deadline = 1;
    ferry__poke(ctx, ferry__now());
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    CHECK_INT(pool_stats(pool).idle, 1);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.rc, -ETIMEDOUT);
    CHECK_INT(pool_stats(pool).timeouts, 1);
    end_of(pool, &w);
    return 0;
}

/* ---- Creating -------------------------------------------------------------------------------- */

TASK_TEST(creating_fails) {
    struct works w = {.fail = -ECONNREFUSED, .fails = 1};
    ferry_event later = FERRY_EVENT_INIT;
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct taker t1 = {0}, t2 = {0}, t3 = {0};
    w.until = &later;
    ferry_future *f1 = taking(&t1, pool);
    ferry_yield();
    CHECK_INT(pool_stats(pool).preparing, 1);
    ferry_future *f2 = taking(&t2, pool), *f3 = taking(&t3, pool);
    UNTIL_WAITERS(pool, 2);
    ferry_event_set(&later);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(t1.rc, -ECONNREFUSED);
    CHECK_STR(t1.says, "no route to the works");
    CHECK_INT(ferry_await(f2), 0); /* the next one has tried */
    CHECK_INT(t2.rc, 0);
    CHECK_INT(WAITERS(pool), 1);
    CHECK_INT(ferry_pool_release(pool, t2.thing), 0);
    CHECK_INT(ferry_await(f3), 0);
    CHECK(t3.thing == t2.thing);
    CHECK_INT(ferry_pool_release(pool, t3.thing), 0);
    CHECK_INT(pool_stats(pool).failed, 1);
    CHECK_INT(pool_stats(pool).created, 1);
    end_of(pool, &w);
    return 0;
}

static void creating_fails_in_threads(void **state) {
    (void)state;
    gate stands = GATE_INIT;
    struct works w = {.fail = -ECONNREFUSED, .stands = &stands};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct taker t1 = {.pool = pool}, t2 = {.pool = pool};
    pthread_t one = start_in_thread(take, &t1);
    gate_wait_arrivals(&stands, 1);
    pthread_t two = start_in_thread(take, &t2);
    UNTIL_WAITERS(pool, 1);
    gate_open(&stands);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    assert_int_equal(t1.rc, -ECONNREFUSED);
    assert_int_equal(t2.rc, -ECONNREFUSED);
    assert_string_equal(t2.says, "no route to the works");
    assert_int_equal(w.creating, 2);
    assert_int_equal(alive_in(pool), 0);
    w.fail = 0;
    assert_int_equal(ferry_pool_release(pool, acquired(pool)), 0);
    end_of(pool, &w);
}

static int64_t make_nothing(void **thing, void *arg) {
    (void)thing;
    (void)arg;
    return 0;
}

static void creating_nothing(void **state) {
    (void)state;
    ferry_pool *pool;
    const ferry_pool_options o = {.max = 1, .create = make_nothing, .destroy = unmake};
    void *thing;
    assert_int_equal(ferry_pool_new(&pool, &o), 0);
    assert_int_equal(ferry_pool_acquire(pool, &thing), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "without storing a resource"));
    assert_int_equal(ferry_pool_free(pool), 0);
}

/* Whoever creates is cancelled, or late: the place is the next one's. */
TASK_TEST(cancelled_while_creating) {
    struct works w = {0};
    ferry_event never = FERRY_EVENT_INIT;
    w.until = &never;
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct taker t1 = {0}, t2 = {0};
    ferry_future *f1 = taking(&t1, pool);
    ferry_yield();
    ferry_future *f2 = taking(&t2, pool);
    UNTIL_WAITERS(pool, 1);
    ferry_scope_cancel(&t1.scope);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(t1.rc, -ECANCELED);
    CHECK_INT(pool_stats(pool).preparing, 1); /* t2's */
    ferry_event_set(&never);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(t2.rc, 0);
    CHECK_INT(ferry_pool_discard(pool, t2.thing), 0);
    ferry_event_clear(&never);
    void *thing;
    CHECK_INT(ferry_pool_acquire_for(pool, &thing, 3), -ETIMEDOUT);
    CHECK(strstr(ferry_errmsg(),
                 "pool 'works': a resource could not be created or checked within 3 ms"));
    CHECK_INT(pool_stats(pool).timeouts, 1);
    CHECK_INT(alive_in(pool), 0);
    end_of(pool, &w);
    return 0;
}

static int64_t make_all_the_same(void **thing, void *arg) {
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    return make(thing, arg);
}

/* Completed beats cancelled. */
TASK_TEST(created_in_spite_of_it) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    pool->options.create = make_all_the_same;
    void *thing = NULL;
    CHECK_INT(ferry_pool_acquire_for(pool, &thing, 2), 0);
    CHECK_INT(pool_stats(pool).timeouts, 0);
    CHECK_INT(ferry_pool_release(pool, thing), 0);
    end_of(pool, &w);
    return 0;
}

static int64_t make_and_leave_a_scope_open(void **thing, void *arg) {
    static ferry_scope scope;
    scope = (ferry_scope)FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, FERRY_FOREVER);
    return make(thing, arg);
}

TASK_TEST(created_carelessly) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    pool->options.create = make_and_leave_a_scope_open;
    CHECK_INT(ferry_pool_release(pool, acquired(pool)), 0);
    end_of(pool, &w);
    return 0;
}

/* ---- Broken ones, foreign ones --------------------------------------------------------------- */

TASK_TEST(a_broken_one) {
    struct works w = {.naps = true};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *thing = acquired(pool);
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    UNTIL_WAITERS(pool, 1);
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, FERRY_FOREVER);
    ferry_scope_cancel(&scope);
    ferry_fail(-EPIPE, "the line went dead");
    CHECK_INT(ferry_pool_discard(pool, thing), 0);
    CHECK_STR(ferry_errmsg(), "the line went dead"); /* still the last error */
    ferry_scope_close(&scope, 0);
    CHECK_INT(w.destroyed, 1);
    CHECK_INT(w.nap, 0); /* it could wait in the cancelled scope */
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.thing->number, 2);
    CHECK_INT(ferry_pool_discard(pool, t.thing), 0);
    CHECK_INT(alive_in(pool), 0);
    end_of(pool, &w);
    return 0;
}

static void foreign_ones(void **state) {
    (void)state;
    struct works w = {0}, v = {0};
    ferry_pool *pool = open_pool(&w, 2, DEFAULTS), *other = open_pool(&v, 2, DEFAULTS);
    struct thing *thing = acquired(pool), *others = acquired(other);
    assert_int_equal(ferry_pool_release(pool, others), -EPERM);
    assert_non_null(strstr(ferry_errmsg(), "pool 'works' hasn't lent"));
    assert_int_equal(ferry_pool_discard(pool, others), -EPERM);
    assert_int_equal(ferry_pool_release(pool, NULL), -EPERM);
    assert_int_equal(ferry_pool_release(pool, &w), -EPERM);
    assert_int_equal(ferry_pool_release(pool, thing), 0);
    assert_int_equal(ferry_pool_release(pool, thing), -EPERM); /* twice */
    assert_int_equal(ferry_pool_discard(pool, thing), -EPERM);
    assert_int_equal(pool_stats(pool).idle, 1);
    assert_int_equal(ferry_pool_release(other, others), 0);
    end_of(pool, &w);
    end_of(other, &v);
}

/* Every one of many is found again, in any order. */
static void many(void **state) {
    (void)state;
    enum { N = 300 };
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, N, DEFAULTS);
    struct thing *things[N];
    for (int i = 0; i < N; i++)
        things[i] = acquired(pool);
    for (int i = 0; i < N; i++)
        assert_int_equal(ferry_pool_release(pool, things[(i * 7) % N]), 0);
    assert_int_equal(pool_stats(pool).idle, N);
    end_of(pool, &w);
}

/* ---- Checks ---------------------------------------------------------------------------------- */

static ferry_pool *open_checked(struct works *w, size_t max, int64_t after) {
    return open_pool(w, max, (ferry_pool_options){.check = look, .check_after_ms = after});
}

static void check_checks(void) {
    struct works w = {0};
    ferry_pool *pool = open_checked(&w, 2, 0);
    struct thing *a = acquired(pool);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK(acquired(pool) == a);
    CHECK_INT(w.checked, 0); /* it was idle for a moment only */
    CHECK_INT(ferry_pool_release(pool, a), 0);
    pool->idle_first->since -= 2000 * FERRY__MS;
    void *thing;
    CHECK_INT(ferry_pool_try_acquire(pool, &thing), -EAGAIN);
    CHECK(acquired(pool) == a);
    CHECK_INT(w.checked, 1);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    pool->idle_first->since -= 2000 * FERRY__MS;
    w.unfit = -EPIPE;
    struct thing *b = acquired(pool);
    CHECK_INT(b->number, 2);
    CHECK_INT(w.destroyed, 1);
    CHECK_INT(pool_stats(pool).unfit, 1);
    CHECK_INT(ferry_pool_release(pool, b), 0);
    pool->idle_first->since -= 2000 * FERRY__MS;
    w.fail = -ECONNREFUSED;
    CHECK_INT(ferry_pool_acquire(pool, &thing), -ECONNREFUSED);
    CHECK_INT(alive_in(pool), 0);
    CHECK_INT(w.destroyed, 2);
    w.fail = 0;
    CHECK_INT(ferry_pool_release(pool, acquired(pool)), 0);
    end_of(pool, &w);
}

TASK_TEST(checked) {
    check_checks();
    return 0;
}

static void checked_in_threads(void **state) {
    (void)state;
    check_checks();
}

TASK_TEST(checked_always) {
    struct works w = {0};
    ferry_pool *pool = open_checked(&w, 1, FERRY_POOL_CHECK_ALWAYS);
    struct thing *a = acquired(pool);
    CHECK_INT(w.checked, 0);
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    UNTIL_WAITERS(pool, 1);
    CHECK_INT(ferry_pool_release(pool, a), 0); /* handed on, it wasn't idle */
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(w.checked, 0);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK(acquired(pool) == a);
    CHECK_INT(w.checked, 1);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    end_of(pool, &w);
    return 0;
}

/* ---- The first ones -------------------------------------------------------------------------- */

TASK_TEST(filled) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 4, (ferry_pool_options){.min = 3, .fill = true});
    CHECK_INT(w.made, 3);
    CHECK_INT(pool_stats(pool).idle, 3);
    end_of(pool, &w);
    return 0;
}

static int64_t make_two(void **thing, void *arg) {
    struct works *w = arg;
    return w->made == 2 ? ferry_fail(-EMFILE, "only two") : make(thing, arg);
}

TASK_TEST(half_filled) {
    struct works w = {0};
    ferry_pool *pool;
    ferry_pool_options o = {
        .max = 4, .min = 3, .fill = true, .create = make_two, .destroy = unmake, .arg = &w};
    CHECK_INT(ferry_pool_new(&pool, &o), -EMFILE);
    CHECK_STR(ferry_errmsg(), "only two");
    CHECK(pool == NULL);
    CHECK_INT(w.made, 2);
    CHECK_INT(w.destroyed, 2);
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, FERRY_FOREVER);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_pool_new(&pool, &o), -ECANCELED);
    ferry_scope_close(&scope, 0);
    return 0;
}

/* ---- Elsewhere: on a loop, in a child -------------------------------------------------------- */

static int64_t on_the_loop(void *arg) {
    ferry_pool *pool = arg;
    void *thing;
    CHECK_INT(ferry_pool_acquire_for(pool, &thing, 1), -EDEADLK);
    CHECK_INT(ferry_pool_close(pool, 1), -EDEADLK);
    return 0;
}

TASK_TEST(nothing_blocks_the_loop) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *a = acquired(pool);
    CHECK_INT(ferry_post(ferry_loop_current(), on_the_loop, pool), 0);
    while (!pool->closed)
        ferry_yield();
    CHECK_INT(pool_stats(pool).waiting, 0);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    end_of(pool, &w);
    return 0;
}

static void after_a_fork(void **state) {
    (void)state;
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 2, (ferry_pool_options){.idle_ms = LONG});
    struct thing *a = acquired(pool);
    assert_int_equal(ferry_pool_release(pool, acquired(pool)), 0);
    ferry__lock(&pool->lock); /* as another thread might hold it */
    pid_t pid = fork();
    if (pid == 0) {
        void *thing;
        bool good = ferry_pool_acquire(pool, &thing) == FERRY_EFORKED &&
                    strstr(ferry_errmsg(), "parent process") &&
                    ferry_pool_try_acquire(pool, &thing) == FERRY_EFORKED &&
                    ferry_pool_release(pool, a) == FERRY_EFORKED &&
                    ferry_pool_close(pool, 0) == FERRY_EFORKED && pool_stats(pool).lent == 0 &&
                    ferry_pool_free(pool) == 0 && w.destroyed == 0;
        end_child(good);
    }
    ferry__unlock(&pool->lock);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(child_was_good(status));
    assert_int_equal(ferry_pool_release(pool, a), 0);
    end_of(pool, &w);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        /* First: the child has no records of other threads then that a leak checker would find. */
        CASE("the child of a fork has a clear error, and destroys nothing", after_a_fork),
        CASE("what a pool needs is checked", options_are_checked),
        CASE("a task gets what was used last", last_in_first_out),
        CASE("a thread gets what was used last", last_in_first_out_in_threads),
        CASE("tasks and threads wait in one line, and are handed what is given back", in_turn),
        CASE("a time-out says which pool, and who has it all", a_late_one_is_told_why),
        CASE("a thread's time-out", a_late_thread),
        CASE("the deadline of a scope around is a cancel", the_deadline_around),
        CASE("released, then cancelled: it has it", released_then_cancelled),
        CASE("cancelled, then released: the next one has it", cancelled_then_released),
        CASE("released in the tick in which the time is over: it has it", released_then_timed_out),
        CASE("LIM-06 creating fails: the next waiter tries", creating_fails),
        CASE("LIM-06 creating fails in a thread: the next one tries", creating_fails_in_threads),
        CASE("a create function that stores nothing is an error", creating_nothing),
        CASE("LIM-06 a cancel or a time-out while creating gives the place back",
             cancelled_while_creating),
        CASE("what was created in spite of a time-out is lent", created_in_spite_of_it),
        CASE("a create function may leave a scope open", created_carelessly),
        CASE("LIM-06 a broken one is destroyed, and the next waiter creates one", a_broken_one),
        CASE("a foreign one, or one given back twice, is refused", foreign_ones),
        CASE("many are found again", many),
        CASE("one that was idle for long is checked first", checked),
        CASE("the same in a thread", checked_in_threads),
        CASE("each idle one is checked on demand", checked_always),
        CASE("the first ones are made with the pool", filled),
        CASE("the first ones are unmade when one of them fails", half_filled),
        CASE("nothing blocks a loop's own thread", nothing_blocks_the_loop),
    };
    return SUPPORT_RUN(tests);
}

/* Pools of resources that are made on an executor, those that nobody has used for a while, and
 * pools without memory. */
#include "config.h"

#include "oom.h"
#include "pool.h"
#include "saturate.h"
#include "storm.h"

static ferry_pool *open_on(struct works *w, size_t max, ferry_executor *executor) {
    return open_pool(w, max, (ferry_pool_options){.executor = executor});
}

/* Closes and frees the pool first: it keeps the executor. */
static void end_both(ferry_pool *pool, struct works *w, ferry_executor *executor) {
    end_of(pool, w);
    end_pool(executor);
}

/* ---- Made by jobs ---------------------------------------------------------------------------- */

static pthread_t maker, unmaker;

static int64_t make_noting(void **thing, void *arg) {
    maker = pthread_self();
    return make(thing, arg);
}

static void unmake_noting(void *thing, void *arg) {
    unmaker = pthread_self();
    unmake(thing, arg);
}

static void check_jobs(void) {
    struct works w = {.naps = true};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_on(&w, 2, executor);
    pool->options.create = make_noting;
    pool->options.destroy = unmake_noting;
    struct thing *a = acquired(pool);
    CHECK(!pthread_equal(maker, pthread_self()));
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK(acquired(pool) == a);
    CHECK_INT(w.creating, 1);
    CHECK_INT(ferry_pool_discard(pool, a), 0);
    w.fail = -ECONNREFUSED;
    void *thing;
    CHECK_INT(ferry_pool_acquire(pool, &thing), -ECONNREFUSED);
    CHECK_STR(ferry_errmsg(), "no route to the works"); /* the words came along */
    w.fail = 0;
    CHECK_INT(ferry_pool_release(pool, acquired(pool)), 0);
    ferry_executor_free(executor); /* the pool keeps it */
    CHECK_INT(ferry_pool_close(pool, LONG), 0);
    CHECK(!pthread_equal(unmaker, pthread_self()));
    end_of(pool, &w);
}

TASK_TEST(made_by_jobs) {
    check_jobs();
    return 0;
}

static void made_by_jobs_for_a_thread(void **state) {
    (void)state;
    check_jobs();
}

TASK_TEST(made_inline) {
    struct works w = {0};
    ferry_executor *executor;
    CHECK_INT(ferry_inline_new(&executor), 0);
    ferry_pool *pool = open_on(&w, 1, executor);
    struct thing *a = acquired(pool);
    CHECK_INT(ferry_pool_discard(pool, a), 0);
    CHECK_INT(w.destroyed, 1);
    w.fail = -ECONNREFUSED;
    void *thing;
    CHECK_INT(ferry_pool_acquire(pool, &thing), -ECONNREFUSED);
    CHECK_STR(ferry_errmsg(), "no route to the works");
    end_of(pool, &w);
    ferry_executor_free(executor);
    return 0;
}

TASK_TEST(filled_by_jobs) {
    struct works w = {0};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool =
        open_pool(&w, 3, (ferry_pool_options){.executor = executor, .min = 2, .fill = true});
    CHECK_INT(pool_stats(pool).idle, 2);
    end_both(pool, &w, executor);
    return 0;
}

/* A job of the same executor, which has one thread. */
static int64_t take_there(void *arg) {
    take(arg);
    return 0;
}

static void a_job_of_the_same_executor(void **state) {
    (void)state;
    struct works w = {0};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_on(&w, 1, executor);
    struct taker t = {.pool = pool};
    assert_int_equal(ferry_await(ferry_submit(executor, take_there, &t)), 0);
    assert_int_equal(t.rc, 0);
    assert_int_equal(ferry_pool_release(pool, t.thing), 0);
    end_both(pool, &w, executor);
}

/* ---- Whoever asked has left ------------------------------------------------------------------ */

TASK_TEST(made_for_the_next_one) {
    gate stands = GATE_INIT;
    struct works w = {.stands = &stands};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_on(&w, 1, executor);
    struct taker t1 = {0}, t2 = {0};
    ferry_future *f1 = taking(&t1, pool);
    while (gate_arrivals(&stands) == 0)
        ferry_yield();
    ferry_future *f2 = taking(&t2, pool);
    UNTIL_WAITERS(pool, 1);
    ferry_scope_cancel(&t1.scope);
    CHECK_INT(ferry_await(f1), 0); /* although the call is deaf */
    CHECK_INT(t1.rc, -ECANCELED);
    CHECK_INT(pool_stats(pool).preparing, 1);
    gate_open(&stands);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(t2.rc, 0);
    CHECK_INT(w.made, 1);
    CHECK_INT(ferry_pool_release(pool, t2.thing), 0);
    end_both(pool, &w, executor);
    return 0;
}

TASK_TEST(made_for_nobody) {
    gate stands = GATE_INIT;
    struct works w = {.stands = &stands};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_on(&w, 1, executor);
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    while (gate_arrivals(&stands) == 0)
        ferry_yield();
    CHECK_INT(ferry_scope_set_timeout(((struct ferry__task *)f)->ctx.top, 0), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.rc, -ETIMEDOUT);
    CHECK(
        strstr(t.says, "pool 'works': a resource could not be created or checked within 30000 ms"));
    CHECK(strstr(t.says, "1 being created"));
    CHECK_INT(pool_stats(pool).timeouts, 1);
    gate_open(&stands);
    while (pool_stats(pool).preparing > 0)
        ferry_yield();
    CHECK_INT(w.made, 1);
    CHECK_INT(pool_stats(pool).idle, 1);
    end_both(pool, &w, executor);
    return 0;
}

TASK_TEST(failed_for_nobody) {
    gate stands = GATE_INIT;
    struct works w = {.stands = &stands, .fail = -ECONNREFUSED};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_on(&w, 1, executor);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "'works' failed and nobody asked for its result: no route");
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    while (gate_arrivals(&stands) == 0)
        ferry_yield();
    ferry_scope_cancel(&t.scope);
    CHECK_INT(ferry_await(f), 0);
    gate_open(&stands);
    while (pool_stats(pool).preparing > 0)
        ferry_yield();
    CHECK_INT(alive_in(pool), 0);
    end_both(pool, &w, executor);
    CHECK_INT(kept_messages(&log), 1);
    return 0;
}

/* The job waits behind others, and never runs. */
TASK_TEST(cancelled_in_the_queue) {
    struct works w = {0};
    saturation s;
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_on(&w, 1, executor);
    saturate(&s, executor, 1);
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    until_parked(f);
    ferry_scope_cancel(&t.scope);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.rc, -ECANCELED);
    CHECK_INT(pool_stats(pool).preparing, 1);
    desaturate(&s);
    while (pool_stats(pool).preparing > 0)
        ferry_yield();
    CHECK_INT(w.creating, 0);
    CHECK_INT(alive_in(pool), 0);
    CHECK_INT(ferry_pool_release(pool, acquired(pool)), 0);
    end_both(pool, &w, executor);
    return 0;
}

/* The executor's end: what it had in its line is cancelled by somebody else. */
TASK_TEST(the_executor_is_cancelled) {
    struct works w = {0};
    saturation s;
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_pool(
        &w, 4, (ferry_pool_options){.executor = executor, .check = look, .check_after_ms = -1});
    struct thing *a = acquired(pool), *b = acquired(pool);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    saturate(&s, executor, 1);
    struct taker checks = {0}, creates = {0};
    ferry_future *fa = taking(&checks, pool), *fb = taking(&creates, pool);
    until_parked(fa);
    until_parked(fb);
    CHECK_INT(ferry_pool_discard(pool, b), 0);
    CHECK_INT(w.destroyed, 0);
    CHECK_INT(pool_stats(pool).ending, 1);
    CHECK_INT(ferry_executor_close(executor, FERRY_CLOSE_CANCEL), 0);
    CHECK_INT(w.destroyed, 1); /* where it was cancelled: it must not be lost */
    CHECK_INT(ferry_await(fa), 0);
    CHECK_INT(checks.rc, FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await(fb), 0);
    CHECK_INT(creates.rc, FERRY_EJOBCANCELED);
    CHECK_INT(pool_stats(pool).idle, 1); /* nobody has looked at it: it is as good as before */
    CHECK_INT(pool_stats(pool).preparing, 0);
    desaturate(&s);
    void *thing;
    CHECK_INT(ferry_pool_acquire(pool, &thing), FERRY_ECLOSED);
    CHECK_STR(ferry_errmsg(), "the executor was closed: it takes no more jobs");
    CHECK_INT(pool_stats(pool).idle, 1);
    end_both(pool, &w, executor); /* it is destroyed here */
    return 0;
}

TASK_TEST(closed_during_the_job) {
    gate stands = GATE_INIT;
    struct works w = {.stands = &stands};
    ferry_executor *executor = make_pool(2, NULL);
    ferry_pool *pool = open_on(&w, 2, executor);
    struct taker t = {0}, gone = {0};
    ferry_future *f = taking(&t, pool), *g = taking(&gone, pool);
    while (gate_arrivals(&stands) < 2)
        ferry_yield();
    ferry_scope_cancel(&gone.scope);
    CHECK_INT(ferry_await(g), 0);
    CHECK_INT(ferry_pool_close(pool, 1), -ETIMEDOUT);
    CHECK(strstr(ferry_errmsg(), "2 being created"));
    gate_open(&stands);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.rc, FERRY_ECLOSED);
    int rc = ferry_pool_close(pool, LONG);
    CHECK(rc == 0 || rc == FERRY_ECLOSED);
    CHECK_INT(w.made, 2);
    end_both(pool, &w, executor);
    return 0;
}

static bool was_on_the_loop;

static int64_t on_the_loop(void *arg) {
    void *thing;
    CHECK_INT(ferry_pool_acquire(arg, &thing), -EDEADLK);
    was_on_the_loop = true;
    return 0;
}

TASK_TEST(no_job_is_waited_for_on_the_loop) {
    struct works w = {0};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_on(&w, 1, executor);
    CHECK_INT(ferry_post(ferry_loop_current(), on_the_loop, pool), 0);
    while (!was_on_the_loop)
        ferry_yield();
    CHECK_INT(alive_in(pool), 0);
    CHECK_INT(w.creating, 0);
    end_both(pool, &w, executor);
    return 0;
}

/* ---- Expiry ---------------------------------------------------------------------------------- */

static void until_expired(ferry_pool *pool, uint64_t n) {
    while (pool_stats(pool).destroyed < n)
        sched_yield();
}

static void pass(void *arg) {
    gate_open(arg);
}

/* Until the service thread has done with a timer whose deadline is 0. */
static void until_it_came(void) {
    gate g = GATE_INIT;
    struct ferry__service_timer *behind = ferry__service_at(1, pass, &g);
    assert_non_null(behind);
    gate_wait(&g);
    ferry__service_cancel(behind);
    gate_destroy(&g);
}

static void idle_for_too_long(void **state) {
    (void)state;
    struct works w = {0};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool =
        open_pool(&w, 4, (ferry_pool_options){.executor = executor, .min = 1, .idle_ms = 3600000});
    pool->options.destroy = unmake_noting;
    struct thing *a = acquired(pool), *b = acquired(pool), *c = acquired(pool);
    int64_t now = ferry__now();
    assert_int_equal(ferry_pool_release(pool, a), 0);
    assert_int_equal(ferry_pool_release(pool, b), 0);
    /* The timer comes for nothing: all were used since. */
    ferry__service_set(pool->timer, 0);
    assert_int_equal(ferry_pool_release(pool, c), 0);
    until_it_came(); /* it sets the timer again itself */
    /* b and a are old now; c, too, but the pool keeps one. */
    ferry__lock(&pool->lock);
    for (struct ferry__slot *slot = pool->idle_first; slot; slot = slot->next)
        slot->since = now - 3600001 * FERRY__MS;
    ferry__unlock(&pool->lock);
    ferry__service_set(pool->timer, 0);
    until_expired(pool, 2);
    assert_int_equal(pool_stats(pool).expired, 2);
    assert_int_equal(pool_stats(pool).idle, 1);
    assert_false(pthread_equal(unmaker, pthread_self()));
    assert_true(acquired(pool) == c); /* the one that was used last */
    assert_int_equal(ferry_pool_release(pool, c), 0);
    end_both(pool, &w, executor);
}

/* One goes, and somebody looks again when the other's time comes. */
static void the_next_one_expires_later(void **state) {
    (void)state;
    struct works w = {0};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool =
        open_pool(&w, 2, (ferry_pool_options){.executor = executor, .idle_ms = 3600000});
    struct thing *a = acquired(pool), *b = acquired(pool);
    assert_int_equal(ferry_pool_release(pool, a), 0);
    assert_int_equal(ferry_pool_release(pool, b), 0);
    ferry__lock(&pool->lock);
    pool->idle_last->since -= 3600001 * FERRY__MS;
    ferry__unlock(&pool->lock);
    ferry__service_set(pool->timer, 0);
    until_expired(pool, 1);
    ferry__lock(&pool->lock);
    bool alarm = pool->alarm;
    ferry__unlock(&pool->lock);
    assert_true(alarm);
    assert_int_equal(pool_stats(pool).idle, 1);
    end_both(pool, &w, executor);
}

/* By the clock, and on the process's own executor. */
static void idle_without_an_executor(void **state) {
    (void)state;
    struct works w = {.naps = true};
    ferry_pool *pool = open_pool(&w, 4, (ferry_pool_options){.idle_ms = 2});
    for (int round = 1; round <= 3; round++) {
        struct thing *a = acquired(pool), *b = acquired(pool);
        assert_int_equal(ferry_pool_release(pool, a), 0);
        assert_int_equal(ferry_pool_release(pool, b), 0);
        while (alive_in(pool) > 0)
            sched_yield();
        assert_int_equal(pool_stats(pool).destroyed, pool_stats(pool).created);
    }
    assert_true(pool_stats(pool).expired >= 3);
    end_of(pool, &w);
}

/* No job can be made: it stays idle, and the next round tries again. */
static void idle_without_a_job(void **state) {
    (void)state;
    struct works w = {0};
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool =
        open_pool(&w, 2, (ferry_pool_options){.executor = executor, .idle_ms = 3600000});
    struct thing *a = acquired(pool);
    assert_int_equal(ferry_pool_release(pool, a), 0);
    assert_int_equal(ferry_executor_close(executor, FERRY_CLOSE_DRAIN), 0);
    ferry__lock(&pool->lock);
    int64_t old = pool->idle_first->since -= 3600001 * FERRY__MS;
    ferry__unlock(&pool->lock);
    ferry__service_set(pool->timer, 0);
    for (bool again = false; !again; sched_yield()) {
        ferry__lock(&pool->lock);
        again =
            pool->idle_first && pool->idle_first->since != old && pool->alarm && pool->pins == 0;
        ferry__unlock(&pool->lock);
    }
    assert_int_equal(w.destroyed, 0);
    assert_int_equal(pool_stats(pool).expired, 0);
    assert_int_equal(pool_stats(pool).ending, 0);
    assert_true(acquired(pool) == a);
    assert_int_equal(ferry_pool_release(pool, a), 0);
    end_both(pool, &w, executor);
}

/* ---- Without memory -------------------------------------------------------------------------- */

static bool fine(int64_t rc, int64_t wanted) {
    return rc == wanted || (oom_hit() && (rc == -ENOMEM || rc == -EAGAIN));
}
#define FINE(got, wanted) support_check(fine((got), (wanted)), #got, __FILE__, __LINE__)

static void once_without_memory(ferry_executor *executor) {
    struct works w = {0};
    ferry_pool *pool;
    ferry_pool_options o = {.max = 2,
                            .min = 1,
                            .fill = true,
                            .create = make,
                            .destroy = unmake,
                            .check = look,
                            .check_after_ms = -1,
                            .arg = &w,
                            .executor = executor};
    int64_t rc = ferry_pool_new(&pool, &o);
    FINE(rc, 0);
    if (rc == 0) {
        void *a, *b;
        int64_t ra = ferry_pool_acquire(pool, &a), rb = ferry_pool_acquire(pool, &b);
        FINE(ra, 0);
        FINE(rb, 0);
        if (ra == 0)
            CHECK_INT(ferry_pool_release(pool, a), 0);
        if (rb == 0)
            CHECK_INT(ferry_pool_discard(pool, b), 0);
        int closed = ferry_pool_close(pool, LONG);
        CHECK(closed == 0 || closed == FERRY_ECLOSED);
        CHECK_INT(ferry_pool_free(pool), 0);
    }
    CHECK_INT(w.made, w.destroyed);
}

static void sweep(ferry_executor *executor) {
    once_without_memory(executor);
    for (int on = 0; on < 2; on++) {
        bool hit = true;
        int n = 0;
        for (; hit; n++) {
            ferry__error_set(ferry__ctx_self(), 0, NULL);
            while (executor && stats_of(executor).running > 0)
                sched_yield();
            long blocks = oom_blocks();
            oom_after(n, on == 1);
            once_without_memory(executor);
            hit = oom_hit();
            oom_never();
            ferry__error_set(ferry__ctx_self(), 0, NULL);
            if (!executor)
                CHECK_INT(oom_blocks(), blocks);
        }
        CHECK(n > 3);
    }
}

static void no_memory(void **state) {
    (void)state;
    sweep(NULL);
    ferry_executor *executor = make_pool(1, NULL);
    long blocks = oom_blocks();
    sweep(executor);
    end_pool(executor);
    assert_true(oom_blocks() < blocks);
}

/* ---- All at once ----------------------------------------------------------------------------- */

enum { FEW = 3 };

struct weather {
    struct works works;
    ferry_pool *pool;
    atomic_int held;
};

static void round_of_the_storm(void *arg, int who, unsigned *seed) {
    struct weather *s = arg;
    void *thing = NULL;
    (void)who;
    int64_t rc = ferry_pool_acquire_for(s->pool, &thing, rand_r(seed) % 4 == 0 ? 0 : LONG);
    if (rc < 0) {
        CHECK(rc == -ECANCELED || rc == -ETIMEDOUT || rc == -ECONNREFUSED);
        return;
    }
    CHECK_INT(atomic_fetch_add(&((struct thing *)thing)->held, 1), 0);
    CHECK(atomic_fetch_add(&s->held, 1) < FEW);
    if (rand_r(seed) % 2)
        ferry_yield();
    s->works.fail = rand_r(seed) % 8 == 0 ? -ECONNREFUSED : 0;
    s->works.unfit = rand_r(seed) % 8 == 0 ? -EPIPE : 0;
    atomic_fetch_sub(&s->held, 1);
    atomic_fetch_sub(&((struct thing *)thing)->held, 1);
    CHECK_INT(rand_r(seed) % 8 ? ferry_pool_release(s->pool, thing)
                               : ferry_pool_discard(s->pool, thing),
              0);
}

static void weather(ferry_executor *executor, int rounds) {
    struct weather s = {.held = 0};
    struct kept_log log; /* creations that failed for nobody */
    keep_log(&log, FERRY_LOG_ERROR, "no route");
    s.pool =
        open_pool(&s.works, FEW,
                  (ferry_pool_options){
                      .executor = executor, .check = look, .check_after_ms = -1, .idle_ms = 1});
    storm_run(3, 2, 8, rounds, round_of_the_storm, &s);
    assert_int_equal(pool_stats(s.pool).lent, 0);
    assert_int_equal(pool_stats(s.pool).waiting, 0);
    assert_null(s.pool->first);
    end_of(s.pool, &s.works);
    kept_messages(&log);
}

static void storm(void **state) {
    (void)state;
    ferry_executor *executor = make_pool(2, NULL);
    weather(NULL, support_slow() ? 60 : 600);
    weather(executor, support_slow() ? 40 : 300);
    end_pool(executor);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("resources made and unmade by jobs", made_by_jobs),
        CASE("the same for a thread", made_by_jobs_for_a_thread),
        CASE("an inline executor will do", made_inline),
        CASE("the first ones are made by jobs", filled_by_jobs),
        CASE("a job of the same executor doesn't wait for itself", a_job_of_the_same_executor),
        CASE("LIM-06 cancelled while a deaf call creates: the next waiter gets it",
             made_for_the_next_one),
        CASE("LIM-06 late while a deaf call creates: it becomes idle", made_for_nobody),
        CASE("an error that nobody waits for is logged", failed_for_nobody),
        CASE("LIM-06 cancelled while the job is queued: the place is given back",
             cancelled_in_the_queue),
        CASE("the executor's jobs are cancelled: nothing is lost", the_executor_is_cancelled),
        CASE("closed while jobs create", closed_during_the_job),
        CASE("a job isn't waited for on a loop's own thread", no_job_is_waited_for_on_the_loop),
        CASE("what is idle for too long goes, but for the last ones", idle_for_too_long),
        CASE("after one that goes the next one's time is seen to", the_next_one_expires_later),
        CASE("it goes without an executor as well", idle_without_an_executor),
        CASE("it stays when no job can be made", idle_without_a_job),
        CASE("no memory at any point loses nothing", no_memory),
        CASE("LIM-06 tasks and threads, cancelled at any moment, lose nothing", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

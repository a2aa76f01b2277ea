/* Pools of resources in the few instructions in which it is decided who has a resource, or who is
 * to destroy it: whoever is there is stopped at a switch point (lib/point.h), others act, and it
 * goes on. */
#include "config.h"

#include "points.h"
#include "pool.h"
#include "saturate.h"

/* ---- Expiry ---------------------------------------------------------------------------------- */

#define HOUR 3600000

/* A pool of one resource, made on an executor, that has been idle for too long; the service thread
 * stands at `point` on its way to have it destroyed. */
struct expiry {
    struct works works;
    ferry_executor *executor;
    ferry_pool *pool;
    struct thing *thing;
    struct point_stop stop;
};

static void until_settled(ferry_pool *pool, size_t idle) {
    for (bool settled = false; !settled; sched_yield()) {
        ferry__lock(&pool->lock);
        settled = pool->stats.ending == 0 && pool->stats.idle == idle && pool->pins == 0;
        ferry__unlock(&pool->lock);
    }
}

static void begin_expiry(struct expiry *e, const char *point) {
    *e = (struct expiry){.executor = make_pool(1, NULL)};
    e->pool =
        open_pool(&e->works, 1, (ferry_pool_options){.executor = e->executor, .idle_ms = HOUR});
    e->thing = acquired(e->pool);
    CHECK_INT(ferry_pool_release(e->pool, e->thing), 0);
    ferry__lock(&e->pool->lock);
    e->pool->idle_first->since -= 2 * HOUR * FERRY__MS;
    ferry__unlock(&e->pool->lock);
    point_stop(&e->stop, point);
    ferry__service_set(e->pool->timer, 0);
    point_wait(&e->stop);
    CHECK_INT(pool_stats(e->pool).ending, 1);
    CHECK_INT(pool_stats(e->pool).idle, 0);
}

/* What was made is destroyed once, by now. */
static void end_expiry(struct expiry *e) {
    end_of(e->pool, &e->works);
    end_pool(e->executor);
}

static void expired_while_the_executor_is_closed(void **state) {
    (void)state;
    struct expiry e;
    begin_expiry(&e, "pool_expired");
    assert_int_equal(ferry_executor_close(e.executor, FERRY_CLOSE_DRAIN), 0);
    point_go(&e.stop);
    until_settled(e.pool, 1);
    assert_int_equal(e.works.destroyed, 0); /* it stays: there is nobody to destroy it */
    assert_int_equal(pool_stats(e.pool).expired, 0);
    assert_true(e.pool->alarm);
    assert_true(e.pool->idle_first->since > ferry__now() - HOUR * FERRY__MS);
    assert_true(acquired(e.pool) == e.thing);
    assert_int_equal(ferry_pool_release(e.pool, e.thing), 0);
    end_expiry(&e);
}

static void expired_and_wanted_while_the_executor_is_closed(void **state) {
    (void)state;
    struct expiry e;
    begin_expiry(&e, "pool_expired");
    struct taker t = {.pool = e.pool};
    pthread_t thread = start_in_thread(take, &t);
    UNTIL_WAITERS(e.pool, 1);
    assert_int_equal(ferry_executor_close(e.executor, FERRY_CLOSE_DRAIN), 0);
    point_go(&e.stop);
    pthread_join(thread, NULL);
    assert_int_equal(t.rc, 0);
    assert_true(t.thing == e.thing);
    assert_int_equal(e.works.destroyed, 0);
    assert_int_equal(ferry_pool_release(e.pool, t.thing), 0);
    end_expiry(&e);
}

static pthread_t unmaker;

static void unmake_noting(void *thing, void *arg) {
    unmaker = pthread_self();
    unmake(thing, arg);
}

static void *close_thread(void *arg) {
    CHECK_INT(ferry_pool_close(arg, LONG), 0);
    return NULL;
}

/* On the service thread nothing may wait: one who closes the pool destroys it. */
static void expired_while_all_is_closed(void **state) {
    (void)state;
    for (int late = 0; late < 2; late++) {
        struct expiry e;
        pthread_t closer = pthread_self();
        begin_expiry(&e, "pool_expired");
        e.pool->options.destroy = unmake_noting;
        if (late) {
            assert_int_equal(ferry_pool_close(e.pool, 1), -ETIMEDOUT);
        } else {
            closer = start_thread(close_thread, e.pool);
            until_waiters(&e.pool->lock, &e.pool->close_first, 1);
        }
        assert_int_equal(ferry_pool_free(e.pool), -EBUSY);
        assert_int_equal(ferry_executor_close(e.executor, FERRY_CLOSE_DRAIN), 0);
        point_go(&e.stop);
        if (late) {
            until_settled(e.pool, 1);
            assert_int_equal(ferry_pool_close(e.pool, LONG), 0);
        } else {
            pthread_join(closer, NULL);
        }
        assert_int_equal(e.works.destroyed, 1);
        assert_true(pthread_equal(unmaker, closer));
        end_expiry(&e);
    }
}

/* ---- A job that has ended before anybody is told of its end ---------------------------------- */

static void until_idle(ferry_executor *executor) {
    while (stats_of(executor).running + stats_of(executor).queued > 0)
        sched_yield();
    CHECK_INT(ferry_executor_stop(executor, FERRY_FOREVER), 0); /* its thread has let go */
}

static void expired_and_destroyed_at_once(void **state) {
    (void)state;
    struct expiry e;
    begin_expiry(&e, "pool_submitted");
    until_idle(e.executor);
    assert_int_equal(e.works.destroyed, 1);
    assert_int_equal(alive_in(e.pool), 1); /* the pool doesn't know */
    point_go(&e.stop);
    until_settled(e.pool, 0);
    assert_int_equal(alive_in(e.pool), 0);
    assert_int_equal(pool_stats(e.pool).expired, 1);
    end_expiry(&e);
}

/* Another thread acquires or discards, and stands there when its job is submitted. */
struct submitter {
    ferry_pool *pool;
    struct thing *discards; /* NULL: it acquires */
    struct taker taker;
    struct point_stop stop;
    pthread_t thread;
};

static void *submits(void *arg) {
    struct submitter *s = arg;
    if (s->discards)
        CHECK_INT(ferry_pool_discard(s->pool, s->discards), 0);
    else
        take(&s->taker);
    return NULL;
}

static void begin_submitter(struct submitter *s, ferry_pool *pool, struct thing *discards) {
    *s = (struct submitter){.pool = pool, .discards = discards, .taker.pool = pool};
    point_stop(&s->stop, "pool_submitted");
    s->thread = start_thread(submits, s);
    point_wait(&s->stop);
}

static void end_submitter(struct submitter *s) {
    point_go(&s->stop);
    pthread_join(s->thread, NULL);
}

static void made_and_destroyed_at_once(void **state) {
    (void)state;
    struct works w = {0};
    struct submitter s;
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_pool(&w, 1, (ferry_pool_options){.executor = executor});
    begin_submitter(&s, pool, NULL);
    while (w.made == 0 || stats_of(executor).running > 0)
        sched_yield();
    CHECK_INT(ferry_await(ferry_submit(executor, return_arg, as_arg(1))), 1); /* it has let go */
    end_submitter(&s);
    assert_int_equal(s.taker.rc, 0);
    assert_int_equal(pool_stats(pool).lent, 1);
    assert_int_equal(pool_stats(pool).preparing, 0);
    begin_submitter(&s, pool, s.taker.thing);
    until_idle(executor);
    assert_int_equal(w.destroyed, 1);
    end_submitter(&s);
    assert_int_equal(alive_in(pool), 0);
    assert_int_equal(pool_stats(pool).ending, 0);
    end_of(pool, &w);
    end_pool(executor);
}

/* The job is in line, and nobody is told yet, when its executor is closed. */
static void submitted_to_be_cancelled(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct works w = {0};
        struct submitter s;
        saturation full;
        ferry_executor *executor = make_pool(1, NULL);
        ferry_pool *pool = open_pool(
            &w, 1,
            (ferry_pool_options){
                .executor = executor, .check = look, .check_after_ms = FERRY_POOL_CHECK_ALWAYS});
        struct thing *thing = kind == 0 ? NULL : acquired(pool);
        if (kind == 1)
            assert_int_equal(ferry_pool_release(pool, thing), 0);
        saturate(&full, executor, 1);
        begin_submitter(&s, pool, kind == 2 ? thing : NULL);
        assert_int_equal(ferry_executor_close(executor, FERRY_CLOSE_CANCEL), 0);
        end_submitter(&s);
        desaturate(&full);
        assert_int_equal(s.taker.rc, kind == 2 ? 0 : FERRY_EJOBCANCELED);
        assert_int_equal(w.destroyed, kind == 2); /* where it was discarded: it isn't lost */
        assert_int_equal(pool_stats(pool).idle, kind == 1);
        assert_int_equal(alive_in(pool), kind == 1);
        assert_int_equal(pool_stats(pool).preparing + pool_stats(pool).ending, 0);
        end_of(pool, &w);
        end_pool(executor);
    }
}

static void expired_to_be_cancelled(void **state) {
    (void)state;
    struct expiry e;
    saturation full;
    begin_expiry(&e, "pool_expired");
    saturate(&full, e.executor, 1);
    struct point_stop submitted;
    point_stop(&submitted, "pool_submitted");
    point_go(&e.stop);
    point_wait(&submitted);
    assert_int_equal(ferry_executor_close(e.executor, FERRY_CLOSE_CANCEL), 0);
    point_go(&submitted);
    until_settled(e.pool, 1);
    desaturate(&full);
    assert_int_equal(e.works.destroyed, 0);
    assert_int_equal(pool_stats(e.pool).expired, 0);
    end_expiry(&e);
}

/* ---- Whoever asked has left, and doesn't know what became of it since ------------------------ */

static gate checking;

static int64_t look_at_the_gate(void *thing, void *arg) {
    gate_wait(&checking);
    return look(thing, arg);
}

/* One that was cancelled while its resource was made stands where it is about to leave; the
 * resource is idle since. */
static pthread_t start_leaver(struct taker *t, gate *making, struct point_stop *leaving) {
    pthread_t thread = start_in_thread(take, t);
    gate_wait_arrivals(making, 1);
    point_stop_thread(leaving, "park_over", thread);
    ferry_scope_cancel(&t->scope);
    point_wait(leaving);
    gate_open(making);
    while (pool_stats(t->pool).idle == 0)
        sched_yield();
    return thread;
}

/* The one who was cancelled has the slot of somebody else in its hand. */
static void left_and_asked_for_again(void **state) {
    (void)state;
    gate making = GATE_INIT;
    struct works w = {.stands = &making};
    gate_init(&checking);
    ferry_executor *executor = make_pool(1, NULL);
    ferry_pool *pool = open_pool(&w, 1,
                                 (ferry_pool_options){.executor = executor,
                                                      .check = look_at_the_gate,
                                                      .check_after_ms = FERRY_POOL_CHECK_ALWAYS});
    struct taker first = {.pool = pool}, second = {.pool = pool};
    struct point_stop leaving, submitted;
    pthread_t one = start_leaver(&first, &making, &leaving);
    point_stop(&submitted, "pool_submitted");
    pthread_t two = start_in_thread(take, &second);
    point_wait(&submitted);
    point_go(&leaving);
    pthread_join(one, NULL);
    point_go(&submitted);
    assert_int_equal(first.rc, -ECANCELED);
    gate_open(&checking);
    pthread_join(two, NULL);
    assert_int_equal(second.rc, 0);
    assert_int_equal(w.made, 1);
    assert_int_equal(ferry_pool_release(pool, second.thing), 0);
    end_of(pool, &w);
    end_pool(executor);
}

/* The same, both at once: one looks whose slot it is while the other one makes it its own. */
static void left_while_it_is_asked_for_again(void **state) {
    (void)state;
    for (int round = 0; round < 10; round++) {
        gate making = GATE_INIT;
        struct works w = {.stands = &making};
        ferry_executor *executor = make_pool(1, NULL);
        ferry_pool *pool = open_pool(
            &w, 1,
            (ferry_pool_options){
                .executor = executor, .check = look, .check_after_ms = FERRY_POOL_CHECK_ALWAYS});
        struct taker first = {.pool = pool}, second = {.pool = pool};
        struct point_stop leaving, taken;
        pthread_t one = start_leaver(&first, &making, &leaving);
        point_stop(&taken, "pool_taken");
        pthread_t two = start_in_thread(take, &second);
        point_wait(&taken);
        point_go(&leaving);
        point_go(&taken);
        pthread_join(one, NULL);
        pthread_join(two, NULL);
        assert_int_equal(first.rc, -ECANCELED);
        assert_int_equal(second.rc, 0);
        assert_int_equal(ferry_pool_release(pool, second.thing), 0);
        end_of(pool, &w);
        end_pool(executor);
        gate_destroy(&making);
    }
}

/* ---- Filling --------------------------------------------------------------------------------- */

struct filler {
    struct works works;
    ferry_executor *executor;
    int64_t rc;
};

static void *fill_thread(void *arg) {
    struct filler *f = arg;
    ferry_pool *pool;
    ferry_pool_options options = {.name = "works",
                                  .create = make,
                                  .destroy = unmake,
                                  .arg = &f->works,
                                  .max = 2,
                                  .min = 1,
                                  .fill = true,
                                  .acquire_ms = 5,
                                  .idle_ms = FERRY_FOREVER,
                                  .executor = f->executor};
    f->rc = ferry_pool_new(&pool, &options);
    return NULL;
}

/* Nobody waits for the job any more, which ends while what there is so far is given back. */
static void filled_too_late(void **state) {
    (void)state;
    for (int round = 0; round < 10; round++) {
        gate making = GATE_INIT;
        struct filler f = {.works.stands = &making, .executor = make_pool(1, NULL)};
        struct point_stop failed;
        point_stop(&failed, "pool_late");
        pthread_t thread = start_thread(fill_thread, &f);
        point_wait(&failed);
        gate_open(&making);
        point_go(&failed);
        pthread_join(thread, NULL);
        assert_int_equal(f.rc, -ETIMEDOUT);
        assert_int_equal(f.works.destroyed, f.works.made); /* none if the job hadn't begun */
        end_pool(f.executor);
        gate_destroy(&making);
    }
}

/* ---- The pool stays until everybody is out --------------------------------------------------- */

static void *release_thread(void *arg) {
    struct taker *t = arg;
    CHECK_INT(ferry_pool_release(t->pool, t->thing), 0);
    return NULL;
}

static void check_pinned(ferry_pool *pool, struct point_stop *stop, pthread_t thread) {
    int closed = ferry_pool_close(pool, 1);
    int freed = ferry_pool_free(pool);
    point_go(stop);
    pthread_join(thread, NULL);
    assert_int_equal(closed, -ETIMEDOUT);
    assert_int_equal(freed, -EBUSY);
}

/* Who gives one back is about to set the alarm. */
static void closed_before_the_alarm_is_set(void **state) {
    (void)state;
    struct works w = {0};
    struct taker t = {.pool = open_pool(&w, 1, (ferry_pool_options){.idle_ms = HOUR})};
    struct point_stop stop;
    take(&t);
    point_stop(&stop, "pool_alarm");
    pthread_t thread = start_thread(release_thread, &t);
    point_wait(&stop);
    check_pinned(t.pool, &stop, thread);
    end_of(t.pool, &w);
}

/* Who waited was told of the close, and is on its way out. */
static void closed_before_the_waiter_is_out(void **state) {
    (void)state;
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *thing = acquired(pool);
    struct taker t = {.pool = pool};
    pthread_t thread = start_in_thread(take, &t);
    UNTIL_WAITERS(pool, 1);
    struct point_stop stop;
    point_stop(&stop, "pool_taken");
    assert_int_equal(ferry_pool_close(pool, 1), -ETIMEDOUT);
    assert_int_equal(ferry_pool_release(pool, thing), 0);
    point_wait(&stop);
    check_pinned(pool, &stop, thread);
    assert_int_equal(t.rc, FERRY_ECLOSED);
    end_of(pool, &w);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("an idle one expires while the executor is closed: it stays",
             expired_while_the_executor_is_closed),
        CASE("LIM-06 the same, and a waiter gets it",
             expired_and_wanted_while_the_executor_is_closed),
        CASE("the same, and the pool is closed: the closer destroys it",
             expired_while_all_is_closed),
        CASE("an idle one expires, and is destroyed before the pool hears of it",
             expired_and_destroyed_at_once),
        CASE("made and destroyed before anybody is told", made_and_destroyed_at_once),
        CASE("the executor is cancelled before anybody is told", submitted_to_be_cancelled),
        CASE("the same with one that expires: it stays", expired_to_be_cancelled),
        CASE("LIM-06 cancelled while a job creates, and the place is the next one's already",
             left_and_asked_for_again),
        CASE("LIM-06 cancelled while a job creates, and the place becomes the next one's",
             left_while_it_is_asked_for_again),
        CASE("a pool isn't filled in time, and the job ends all the same", filled_too_late),
        CASE("a pool isn't freed while somebody sets its alarm", closed_before_the_alarm_is_set),
        CASE("a pool isn't freed while a waiter leaves", closed_before_the_waiter_is_out),
    };
    return SUPPORT_RUN(tests);
}

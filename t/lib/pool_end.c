/* The end of pools of resources: closed with waiters, in vain, in a cancelled scope, while one is
 * being created. */
#include "config.h"

#include "pool.h"

struct closer {
    ferry_pool *pool;
    int64_t ms;
    ferry_scope scope;
    int rc;
};

static int64_t close_it(void *arg) {
    struct closer *c = arg;
    CHECK_INT(ferry_scope_open(&c->scope, FERRY_FOREVER), 0);
    c->rc = ferry_pool_close(c->pool, c->ms);
    ferry_scope_close(&c->scope, 0);
    return 0;
}

#define UNTIL_CLOSERS(pool, n) until_waiters(&(pool)->lock, &(pool)->close_first, (n))

TASK_TEST(closed) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 2, DEFAULTS);
    struct thing *a = acquired(pool), *b = acquired(pool);
    struct taker task = {0}, thread = {.pool = pool};
    ferry_future *f = taking(&task, pool);
    UNTIL_WAITERS(pool, 1);
    pthread_t t = start_in_thread(take, &thread);
    UNTIL_WAITERS(pool, 2);
    struct closer c = {.pool = pool, .ms = LONG}, c2 = {.pool = pool, .ms = LONG};
    ferry_future *fc = ferry_spawn(close_it, &c);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(task.rc, FERRY_ECLOSED);
    CHECK_STR(task.says, "the pool was closed: it lends nothing any more");
    pthread_join(t, NULL);
    CHECK_INT(thread.rc, FERRY_ECLOSED);
    void *thing;
    CHECK_INT(ferry_pool_acquire(pool, &thing), FERRY_ECLOSED);
    CHECK_INT(ferry_pool_try_acquire(pool, &thing), FERRY_ECLOSED);
    UNTIL_CLOSERS(pool, 1);
    pthread_t second = start_in_thread(close_it, &c2);
    UNTIL_CLOSERS(pool, 2);
    CHECK_INT(ferry_pool_free(pool), -EBUSY);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK_INT(ferry_pool_discard(pool, b), 0);
    CHECK_INT(ferry_await(fc), 0);
    pthread_join(second, NULL);
    CHECK_INT(c.rc, 0);
    CHECK_INT(c2.rc, 0);
    CHECK_INT(w.destroyed, 2);
    CHECK_INT(ferry_pool_close(pool, LONG), FERRY_ECLOSED);
    CHECK(strstr(ferry_errmsg(), "closed before"));
    CHECK_INT(ferry_pool_free(pool), 0);
    return 0;
}

/* One that stays out: the close says so, and it is destroyed by who brings it. */
static void check_late_end(void) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 3, DEFAULTS);
    struct thing *a = acquired(pool), *b = acquired(pool);
    CHECK_INT(ferry_pool_release(pool, acquired(pool)), 0);
    CHECK_INT(ferry_pool_close(pool, 2), -ETIMEDOUT);
    CHECK_STR(ferry_errmsg(),
              "pool 'works' is closed, but after 2 ms 2 resources are still lent, 0 being "
              "created or checked and 0 being destroyed");
    CHECK_INT(w.destroyed, 1);
    CHECK_INT(ferry_pool_free(pool), -EBUSY);
    CHECK_INT(ferry_pool_release(pool, a), 0);
    CHECK_INT(w.destroyed, 2);
    CHECK_INT(ferry_pool_close(pool, 0), -ETIMEDOUT);
    CHECK_INT(ferry_pool_release(pool, b), 0);
    CHECK_INT(w.destroyed, 3);
    CHECK_INT(ferry_pool_close(pool, 0), FERRY_ECLOSED);
    end_of(pool, &w);
}

TASK_TEST(closed_in_vain) {
    check_late_end();
    return 0;
}

static void closed_in_vain_by_a_thread(void **state) {
    (void)state;
    check_late_end();
}

TASK_TEST(closed_in_a_cancelled_scope) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 2, DEFAULTS);
    struct thing *a = acquired(pool);
    CHECK_INT(ferry_pool_release(pool, acquired(pool)), 0);
    struct closer c = {.pool = pool, .ms = LONG};
    ferry_scope_cancel(&c.scope);
    close_it(&c);
    CHECK_INT(c.rc, -ECANCELED);
    CHECK_INT(w.destroyed, 1);
    c.scope = (ferry_scope)FERRY_SCOPE_INIT;
    ferry_future *f = ferry_spawn(close_it, &c);
    UNTIL_CLOSERS(pool, 1);
    ferry_scope_cancel(&c.scope);
    CHECK_INT(ferry_pool_release(pool, a), 0); /* to a closer that is on its way out */
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(c.rc, 0);
    CHECK_INT(w.destroyed, 2);
    CHECK_INT(ferry_pool_free(pool), 0);
    return 0;
}

TASK_TEST(closed_while_creating) {
    struct works w = {0};
    ferry_event later = FERRY_EVENT_INIT;
    w.until = &later;
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    ferry_yield();
    struct closer c = {.pool = pool, .ms = LONG};
    ferry_future *fc = ferry_spawn(close_it, &c);
    UNTIL_CLOSERS(pool, 1);
    ferry_event_set(&later);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.rc, FERRY_ECLOSED);
    CHECK_INT(ferry_await(fc), 0);
    CHECK_INT(c.rc, 0);
    CHECK_INT(w.made, 1);
    CHECK_INT(w.destroyed, 1);
    CHECK_INT(ferry_pool_free(pool), 0);
    return 0;
}

/* The waiter has got a place to create one in, and hasn't run yet. */
TASK_TEST(closed_after_the_grant) {
    struct works w = {0};
    ferry_pool *pool = open_pool(&w, 1, DEFAULTS);
    struct thing *a = acquired(pool);
    struct taker t = {0};
    ferry_future *f = taking(&t, pool);
    UNTIL_WAITERS(pool, 1);
    CHECK_INT(ferry_pool_discard(pool, a), 0);
    CHECK_INT(pool_stats(pool).preparing, 1);
    CHECK_INT(ferry_pool_close(pool, LONG), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(t.rc, FERRY_ECLOSED);
    CHECK_INT(w.made, w.destroyed);
    CHECK_INT(ferry_pool_free(pool), 0);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("close ends waits now, and waits for what is lent", closed),
        CASE("close in vain says what is left, and leaves that to who brings it", closed_in_vain),
        CASE("the same in a thread", closed_in_vain_by_a_thread),
        CASE("close in a cancelled scope does all but wait", closed_in_a_cancelled_scope),
        CASE("close while one is being created", closed_while_creating),
        CASE("close after a waiter got a place", closed_after_the_grant),
    };
    return SUPPORT_RUN(tests);
}

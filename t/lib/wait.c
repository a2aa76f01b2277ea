/* Several handles at once: waiting for any, the first error, or all, and leaving them alone. */
#include "config.h"

#include <errno.h>

#include "parked.h"
#include "sleeper.h"
#include "support.h"
#include "waiters.h"

TASK_TEST(the_first_error_ends_the_wait) {
    ferry_promise *p[4];
    ferry_future *f[4];
    promises(p, f, 4);
    struct sleeper sleeper = {0};
    ferry_future *all[5] = {f[0], ferry_spawn(sleeps, &sleeper), f[1], f[2], f[3]};
    CHECK_INT(ferry_promise_set(p[0], 1), 0);
    CHECK_INT(ferry_wait_until(all, 5, FERRY_FIRST_ERROR, 0), -ETIMEDOUT);
    ferry_cancel(all[1]);
    ferry_cancel(f[1]);
    CHECK_INT(ferry_wait_until(all, 5, FERRY_FIRST_ERROR, 10), -ETIMEDOUT);
    CHECK(ferry_cancelled(all[1]) && ferry_cancelled(all[2]));
    CHECK_INT(ferry_promise_set(p[3], -EIO), 0);
    CHECK_INT(ferry_wait_until(all, 5, FERRY_FIRST_ERROR, FERRY_FOREVER), 4);
    CHECK_INT(ferry_promise_set(p[2], 0), 0);
    drop(p, 4);
    for (int i = 0; i < 5; i++)
        ferry_await(all[i]);
    return 0;
}

struct wait {
    ferry_future **f;
    size_t n;
    int what;
    int64_t ms;
    int rc;
};

static int64_t waits(void *arg) {
    struct wait *w = arg;
    w->rc = ferry_wait_until(w->f, w->n, w->what, w->ms);
    return w->rc < 0 ? w->rc : 0;
}

/* While it waits: a success, a cancel, and then the failure. */
TASK_TEST(a_parked_wait_for_the_first_error) {
    ferry_promise *p[4];
    ferry_future *f[4];
    promises(p, f, 4);
    struct wait w = {f, 4, FERRY_FIRST_ERROR, FERRY_FOREVER, 0};
    ferry_future *waiter = ferry_spawn(waits, &w);
    until_parked(waiter);
    CHECK_INT(ferry_promise_set(p[2], 1), 0);
    ferry_cancel(f[0]);
    for (int i = 0; i < 5; i++)
        ferry_yield();
    CHECK(task_parked(waiter));
    CHECK_INT(ferry_promise_set(p[1], -EIO), 0);
    CHECK_INT(ferry_promise_set(p[3], -EIO), 0); /* before it runs again */
    CHECK_INT(ferry_await(waiter), 0);
    CHECK_INT(w.rc, 1);
    CHECK_INT(ferry_gather(f, 4, NULL, FERRY_COLLECT), 0);
    drop(p, 4);
    return 0;
}

TASK_TEST(none_fails) {
    ferry_promise *p[3];
    ferry_future *f[3];
    promises(p, f, 3);
    struct wait w = {f, 3, FERRY_FIRST_ERROR, FERRY_FOREVER, 0};
    ferry_future *waiter = ferry_spawn(waits, &w);
    until_parked(waiter);
    CHECK_INT(ferry_promise_set(p[2], 1), 0);
    CHECK_INT(ferry_promise_set(p[0], 1), 0);
    ferry_cancel(f[1]);
    CHECK_INT(ferry_await(waiter), 0);
    CHECK_INT(w.rc, 1); /* the last one to end */
    for (int i = 0; i < 3; i++)
        ferry_detach(f[i]);
    drop(p, 3);
    return 0;
}

TASK_TEST(a_wait_that_times_out_or_is_cancelled) {
    struct sleeper sleepers[2] = {0};
    int64_t value = 1;
    ferry_future *f[3] = {ferry_spawn(returns_it, &value), ferry_spawn(sleeps, &sleepers[0]),
                          ferry_spawn(sleeps, &sleepers[1])};
    CHECK_INT(ferry_wait_all(f, 3, 5), -ETIMEDOUT);
    CHECK(ferry_done(f[0]) && !ferry_done(f[1]) && !ferry_done(f[2]));
    struct wait w = {f, 3, FERRY_ALL_DONE, FERRY_FOREVER, 0};
    ferry_future *waiter = ferry_spawn(waits, &w);
    until_parked(waiter);
    ferry_cancel(waiter);
    CHECK_INT(ferry_await(waiter), FERRY_EJOBCANCELED);
    CHECK_INT(w.rc, -ECANCELED);
    for (int i = 0; i < 5; i++)
        ferry_yield();
    CHECK(!ferry_done(f[1]) && !ferry_done(f[2])); /* they run on */
    CHECK_INT(links_on(f[1]), 0);                  /* and nobody looks at them any more */
    ferry_cancel(f[1]);
    ferry_cancel(f[2]);
    CHECK_INT(ferry_wait_all(f, 3, FERRY_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        ferry_await(f[i]);
    return 0;
}

TASK_TEST(an_empty_set) {
    CHECK_INT(ferry_wait_any(NULL, 0, FERRY_FOREVER), -EINVAL);
    CHECK_INT(ferry_wait_until(NULL, 0, FERRY_FIRST_ERROR, FERRY_FOREVER), -EINVAL);
    CHECK_INT(ferry_wait_all(NULL, 0, 5), -EINVAL);
    CHECK_INT(ferry_wait_until(NULL, 0, 99, 5), -EINVAL);
    int64_t before = ferry__now();
    CHECK_INT(ferry_wait_any(NULL, 0, 3), -ETIMEDOUT);
    CHECK(ferry__now() - before >= 3 * FERRY__MS);
    CHECK_INT(ferry_wait_until(NULL, 0, FERRY_FIRST_ERROR, 1), -ETIMEDOUT);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_wait_any(NULL, 0, 60000), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    return 0;
}

static int64_t flags_it(void *arg) {
    *(bool *)arg = true;
    return 0;
}

TASK_TEST(a_time_out_of_zero) {
    ferry_promise *p[2];
    ferry_future *f[2];
    promises(p, f, 2);
    bool ran = false;
    ferry_future *other = ferry_spawn(flags_it, &ran);
    CHECK_INT(ferry_wait_any(f, 2, 0), -ETIMEDOUT);
    CHECK_INT(ferry_wait_any(f, 2, -1), -ETIMEDOUT);
    CHECK_INT(ferry_wait_any(NULL, 0, 0), -ETIMEDOUT);
    CHECK(!ran); /* without suspending */
    CHECK_INT(ferry_promise_set(p[1], 0), 0);
    CHECK_INT(ferry_wait_any(f, 2, 0), 1);
    CHECK_INT(ferry_wait_any(f, 2, -1), 1);
    CHECK_INT(ferry_promise_set(p[0], 0), 0);
    CHECK_INT(ferry_wait_all(f, 2, 0), 0);
    CHECK_INT(ferry_await(other), 0);
    drop(p, 2);
    ferry_detach(f[0]);
    ferry_detach(f[1]);
    return 0;
}

TASK_TEST(a_wait_for_the_same_handle_twice) {
    ferry_promise *p;
    ferry_future *f;
    p = ferry_promise_new(&f, NULL);
    ferry_future *twice[3] = {f, f, f};
    struct wait w = {twice, 3, FERRY_ALL_DONE, FERRY_FOREVER, 0};
    ferry_future *waiter = ferry_spawn(waits, &w);
    until_parked(waiter);
    CHECK_INT(links_on(f), 1);
    CHECK_INT(ferry_promise_set(p, 1), 0);
    CHECK_INT(ferry_await(waiter), 0);
    CHECK_INT(w.rc, 0);
    CHECK_INT(ferry_wait_any(twice, 3, FERRY_FOREVER), 0);
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(f), 1);
    return 0;
}

TASK_TEST(the_order_of_ending_counts) {
    ferry_promise *p[3];
    ferry_future *f[3];
    promises(p, f, 3);
    struct wait any = {f, 3, FERRY_FIRST_DONE, FERRY_FOREVER, 0};
    struct wait all = {f, 3, FERRY_ALL_DONE, FERRY_FOREVER, 0};
    ferry_future *waiters[2] = {ferry_spawn(waits, &any), ferry_spawn(waits, &all)};
    until_parked(waiters[1]);
    CHECK_INT(ferry_promise_set(p[2], 0), 0);
    CHECK_INT(ferry_promise_set(p[0], 0), 0);
    CHECK_INT(ferry_promise_set(p[1], 0), 0);
    CHECK_INT(ferry_gather(waiters, 2, NULL, 0), 0);
    CHECK_INT(any.rc, 2);
    CHECK_INT(all.rc, 1);
    drop(p, 3);
    CHECK_INT(ferry_gather(f, 3, NULL, 0), 0);
    return 0;
}

TASK_TEST(a_wait_in_a_cancelled_scope) {
    int64_t value = 1;
    ferry_future *f[1] = {ferry_spawn(returns_it, &value)};
    CHECK_INT(ferry_wait_all(f, 1, FERRY_FOREVER), 0);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_wait_all(f, 1, FERRY_FOREVER), -ECANCELED);
    CHECK_INT(ferry_wait_any(f, 1, 0), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_await(f[0]), 1);
    ferry_future *none[2] = {NULL, NULL};
    CHECK_INT(ferry_wait_any(none, 2, 0), -ENOMEM);
    return 0;
}

struct moment {
    ferry_promise *p;
    _Atomic int round;
    int rounds;
};

static void take_time(int steps) {
    for (volatile int i = 0; i < steps; i++)
        continue;
}

static void *sets_at_any_moment(void *arg) {
    struct moment *m = arg;
    for (int i = 1; i <= m->rounds; i++) {
        for (int looks = 0; atomic_load(&m->round) != i; looks++)
            if (looks > 1000) /* the other one may need this processor */
                sched_yield();
        take_time(i % 64);
        ferry_promise *p = m->p;
        CHECK_INT(ferry_promise_set(p, i), 0);
        ferry_promise_drop(p);
    }
    return NULL;
}

/* One of two ends, at another moment each time, while this thread begins to wait. */
static void no_notification_is_lost(void **state) {
    (void)state;
    struct moment m = {.rounds = support_slow() ? 500 : 20000};
    pthread_t thread = start_thread(sets_at_any_moment, &m);
    for (int i = 1; i <= m.rounds; i++) {
        ferry_future *f[2];
        ferry_promise *never = ferry_promise_new(&f[0], NULL);
        m.p = ferry_promise_new(&f[1], NULL);
        atomic_store(&m.round, i);
        take_time(i / 64 % 256);
        CHECK_INT(ferry_wait_any(f, 2, FERRY_FOREVER), 1);
        CHECK_INT(ferry_await(f[1]), i);
        ferry_detach(f[0]);
        ferry_promise_drop(never);
    }
    pthread_join(thread, NULL);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("AGG-06 wait: the same handle twice doesn't hang", a_wait_for_the_same_handle_twice),
        CASE("AGG-08 a wait for the first error passes over cancelled ones",
             the_first_error_ends_the_wait),
        CASE("AGG-08 the same while it is parked", a_parked_wait_for_the_first_error),
        CASE("AGG-08 none fails: the last one to end", none_fails),
        CASE("AGG-09 a wait that times out or is cancelled leaves the handles alone",
             a_wait_that_times_out_or_is_cancelled),
        CASE("AGG-09 AGG-14 an empty set", an_empty_set),
        CASE("AGG-14 a time-out of zero doesn't suspend", a_time_out_of_zero),
        CASE("the order of ending counts", the_order_of_ending_counts),
        CASE("a wait in a cancelled scope, and for NULL", a_wait_in_a_cancelled_scope),
        CASE("AGG-15 no notification is lost, whenever it comes", no_notification_is_lost),
    };
    return SUPPORT_RUN(tests);
}

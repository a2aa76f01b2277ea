/* Limiters: order within a key and among keys, what jobs hold, keys that come and go; for tasks and
 * threads. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "oom.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "storm.h"
#include "waiters.h"

#define LONG 60000

static ferry_limiter *limiter_of(size_t per_key, size_t total) {
    ferry_limiter *limiter;
    CHECK_INT(ferry_limiter_new(
                  &limiter,
                  &(ferry_limiter_options){.name = "hosts", .per_key = per_key, .total = total}),
              0);
    return limiter;
}

static ferry_limiter_stats stats_for(ferry_limiter *limiter, const char *key) {
    ferry_limiter_stats stats;
    ferry_limiter_get_stats(limiter, key, &stats);
    return stats;
}

static void until_waiting(ferry_limiter *limiter, size_t n) {
    while (stats_for(limiter, NULL).waiting != n)
        ferry_yield();
}

/* All were given back, and no key is left. */
static void end_of(ferry_limiter *limiter) {
    CHECK_INT(stats_for(limiter, NULL).held, 0);
    CHECK_INT(stats_for(limiter, NULL).keys, 0);
    CHECK_INT(ferry_limiter_free(limiter), 0);
}

struct taker {
    ferry_limiter *limiter;
    const char *key;
    int64_t ms; /* 0: for ever */
    ferry_scope scope;
    int rc;
    atomic_int turn; /* which one it was, from 1 */
    atomic_int *turns;
};

/* Takes and keeps. */
static int64_t take(void *arg) {
    struct taker *t = arg;
    t->scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&t->scope, FERRY_FOREVER), 0);
    t->rc = ferry_limiter_acquire_for(t->limiter, t->key, t->ms ? t->ms : FERRY_FOREVER);
    if (t->turns)
        atomic_store(&t->turn, atomic_fetch_add(t->turns, 1) + 1);
    ferry_scope_close(&t->scope, 0);
    return 0;
}

/* ---- Tokens ---------------------------------------------------------------------------------- */

static void check_use(void) {
    ferry_limiter *limiter = limiter_of(2, 3);
    CHECK_INT(ferry_limiter_acquire(limiter, "a"), 0);
    CHECK_INT(ferry_limiter_acquire(limiter, "a"), 0);
    CHECK_INT(ferry_limiter_try(limiter, "a"), -EAGAIN);
    CHECK_INT(ferry_limiter_try(limiter, "b"), 0);
    CHECK_INT(ferry_limiter_try(limiter, "b"), -EAGAIN); /* three in all */
    CHECK_INT(ferry_limiter_try(limiter, "c"), -EAGAIN);
    CHECK_INT(stats_for(limiter, NULL).held, 3);
    CHECK_INT(stats_for(limiter, NULL).keys, 2);
    CHECK_INT(stats_for(limiter, "a").held, 2);
    CHECK_INT(stats_for(limiter, "c").held, 0);
    CHECK_INT(ferry_limiter_acquire_for(limiter, "a", 3), -ETIMEDOUT);
    CHECK_STR(ferry_errmsg(),
              "limiter 'hosts': no token of 'a' within 3 ms: 2 of 2 of that key are taken, 3 "
              "in all, and 0 others wait for it");
    CHECK_INT(ferry_limiter_acquire_for(limiter, "c", -1), -ETIMEDOUT);
    CHECK_INT(stats_for(limiter, NULL).timeouts, 2);
    CHECK_INT(stats_for(limiter, NULL).keys, 2);
    CHECK_INT(ferry_limiter_release(limiter, "c"), -EPERM);
    CHECK(strstr(ferry_errmsg(), "limiter 'hosts': no token of 'c'"));
    CHECK_INT(ferry_limiter_release(limiter, "b"), 0);
    CHECK_INT(ferry_limiter_release(limiter, "b"), -EPERM);
    CHECK_INT(ferry_limiter_acquire_for(limiter, "b", 0), 0);
    CHECK_INT(ferry_limiter_free(limiter), -EBUSY);
    CHECK_INT(ferry_limiter_release(limiter, "b"), 0);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    CHECK_INT(ferry_limiter_acquire(limiter, NULL), -EINVAL);
    CHECK_INT(ferry_limiter_try(limiter, NULL), -EINVAL);
    CHECK_INT(ferry_limiter_release(limiter, NULL), -EINVAL);
    CHECK_INT(ferry_limiter_acquire(NULL, "a"), -EINVAL);
    CHECK_INT(ferry_limiter_free(NULL), 0);
    end_of(limiter);
}

TASK_TEST(tokens) {
    check_use();
    return 0;
}

static void tokens_in_threads(void **state) {
    (void)state;
    check_use();
    ferry_limiter *limiter;
    assert_int_equal(ferry_limiter_new(&limiter, NULL), 0); /* one of each key */
    assert_int_equal(ferry_limiter_try(limiter, "a"), 0);
    assert_int_equal(ferry_limiter_try(limiter, "a"), -EAGAIN);
    assert_int_equal(ferry_limiter_try(limiter, ""), 0);
    assert_int_equal(ferry_limiter_release(limiter, ""), 0);
    assert_int_equal(ferry_limiter_release(limiter, "a"), 0);
    end_of(limiter);
}

TASK_TEST(in_turn) {
    ferry_limiter *limiter = limiter_of(1, 0);
    atomic_int turns = 0;
    struct taker t[3];
    ferry_future *f[3] = {NULL};
    for (int i = 0; i < 3; i++)
        t[i] = (struct taker){.limiter = limiter, .key = "a", .turns = &turns};
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0);
    f[0] = ferry_spawn(take, &t[0]);
    until_waiting(limiter, 1);
    pthread_t thread = start_in_thread(take, &t[1]);
    until_waiting(limiter, 2);
    f[2] = ferry_spawn(take, &t[2]);
    until_waiting(limiter, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
        CHECK_INT(stats_for(limiter, "a").held, 1); /* it went over inside the release */
        CHECK_INT(stats_for(limiter, "a").waiting, 2 - i);
        CHECK_INT(ferry_limiter_try(limiter, "a"), -EAGAIN);
        while (atomic_load(&t[i].turn) == 0)
            ferry_yield();
        CHECK_INT(t[i].turn, i + 1);
    }
    CHECK_INT(ferry_await(f[0]), 0);
    CHECK_INT(ferry_await(f[2]), 0);
    pthread_join(thread, NULL);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    end_of(limiter);
    return 0;
}

/* However many wait for one key, the others have their turns. */
TASK_TEST(keys_take_turns) {
    static const char *const keys[] = {"a", "a", "a", "b", "b", "c"};
    static const int turn_of[] = {1, 4, 6, 2, 5, 3};
    enum { N = 6 };
    ferry_limiter *limiter = limiter_of(3, 1);
    atomic_int turns = 0;
    struct taker t[N];
    ferry_future *f[N];
    CHECK_INT(ferry_limiter_try(limiter, "z"), 0);
    for (size_t i = 0; i < N; i++) {
        t[i] = (struct taker){.limiter = limiter, .key = keys[i], .turns = &turns};
        f[i] = ferry_spawn(take, &t[i]);
        until_waiting(limiter, i + 1);
    }
    const char *held = "z";
    for (int turn = 1; turn <= N; turn++) {
        CHECK_INT(ferry_limiter_release(limiter, held), 0);
        while (atomic_load(&turns) < turn)
            ferry_yield();
        for (int i = 0; i < N; i++)
            if (t[i].turn == turn)
                held = keys[i];
    }
    CHECK_INT(ferry_limiter_release(limiter, held), 0);
    for (int i = 0; i < N; i++) {
        CHECK_INT(t[i].turn, turn_of[i]);
        CHECK_INT(ferry_await(f[i]), 0);
    }
    end_of(limiter);
    return 0;
}

/* A key at its own limit isn't in the way of others when one in all comes free. */
TASK_TEST(a_full_key_is_passed) {
    ferry_limiter *limiter = limiter_of(1, 2);
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0);
    CHECK_INT(ferry_limiter_try(limiter, "b"), 0);
    struct taker a = {.limiter = limiter, .key = "a"}, c = {.limiter = limiter, .key = "c"};
    ferry_future *fa = ferry_spawn(take, &a);
    until_waiting(limiter, 1);
    ferry_future *fc = ferry_spawn(take, &c);
    until_waiting(limiter, 2);
    CHECK_INT(ferry_limiter_release(limiter, "b"), 0);
    CHECK_INT(ferry_await(fc), 0);
    CHECK_INT(stats_for(limiter, "a").waiting, 1);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    CHECK_INT(ferry_await(fa), 0);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    CHECK_INT(ferry_limiter_release(limiter, "c"), 0);
    end_of(limiter);
    return 0;
}

/* A key that got one stands in line again, for the next that comes free from another key. */
TASK_TEST(one_key_gets_all) {
    ferry_limiter *limiter = limiter_of(3, 2);
    struct taker t[2] = {{.limiter = limiter, .key = "a"}, {.limiter = limiter, .key = "a"}};
    ferry_future *f[2];
    CHECK_INT(ferry_limiter_try(limiter, "y"), 0);
    CHECK_INT(ferry_limiter_try(limiter, "z"), 0);
    for (size_t i = 0; i < 2; i++) {
        f[i] = ferry_spawn(take, &t[i]);
        until_waiting(limiter, i + 1);
    }
    CHECK_INT(ferry_limiter_release(limiter, "y"), 0);
    CHECK_INT(stats_for(limiter, "a").held, 1);
    CHECK_INT(ferry_limiter_release(limiter, "z"), 0);
    CHECK_INT(stats_for(limiter, "a").held, 2);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    }
    end_of(limiter);
    return 0;
}

/* ---- Races, in a fixed order ----------------------------------------------------------------- */

TASK_TEST(released_then_cancelled) {
    ferry_limiter *limiter = limiter_of(1, 1);
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0);
    struct taker t1 = {.limiter = limiter, .key = "b"}, t2 = {.limiter = limiter, .key = "c"};
    ferry_future *f1 = ferry_spawn(take, &t1);
    until_waiting(limiter, 1);
    ferry_future *f2 = ferry_spawn(take, &t2);
    until_waiting(limiter, 2);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    ferry_scope_cancel(&t1.scope);
    CHECK_INT(stats_for(limiter, "c").waiting, 1);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(t1.rc, 0);
    CHECK_INT(ferry_limiter_release(limiter, "b"), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(ferry_limiter_release(limiter, "c"), 0);
    end_of(limiter);
    return 0;
}

/* The cancelled one hasn't run yet when the token comes free: it goes on, to the next of the same
 * key and to another key; or it is free. */
TASK_TEST(cancelled_then_released) {
    ferry_limiter *limiter = limiter_of(1, 1);
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0);
    for (int round = 0; round < 3; round++) {
        struct taker gone = {.limiter = limiter, .key = round == 0 ? "a" : "b"};
        struct taker next = {.limiter = limiter, .key = round == 0 ? "a" : "c"};
        ferry_future *g = ferry_spawn(take, &gone), *n = NULL;
        until_waiting(limiter, 1);
        if (round < 2) {
            n = ferry_spawn(take, &next);
            until_waiting(limiter, 2);
        }
        ferry_scope_cancel(&gone.scope);
        CHECK_INT(ferry_limiter_release(limiter, round == 2 ? "c" : "a"), 0);
        CHECK_INT(stats_for(limiter, NULL).held, round < 2 ? 1 : 0);
        if (round == 2) /* it is free, although one stands there still */
            CHECK_INT(ferry_limiter_try(limiter, "b"), 0);
        CHECK_INT(ferry_await(g), 0);
        CHECK_INT(gone.rc, -ECANCELED);
        if (n) {
            CHECK_INT(ferry_await(n), 0);
            CHECK_INT(next.rc, 0);
        }
    }
    CHECK_INT(ferry_limiter_release(limiter, "b"), 0);
    end_of(limiter);
    return 0;
}

/* Its time is over, but it is granted before anybody looks; and the other way round. */
TASK_TEST(released_then_timed_out) {
    ferry_limiter *limiter = limiter_of(1, 0);
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0);
    struct taker t = {.limiter = limiter, .key = "a", .ms = LONG};
    for (int late = 0; late < 2; late++) {
        ferry_future *f = ferry_spawn(take, &t);
        until_waiting(limiter, 1);
        struct ferry__ctx *ctx = &((struct ferry__task *)f)->ctx;
        ctx->wait_deadline = 1;
        if (late)
            ferry__poke(ctx, ferry__now());
        CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
        ferry__poke(ctx, ferry__now());
        CHECK_INT(stats_for(limiter, "a").held, late ? 0 : 1);
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(t.rc, late ? -ETIMEDOUT : 0);
    }
    end_of(limiter);
    return 0;
}

TASK_TEST(in_a_cancelled_scope) {
    ferry_limiter *limiter = limiter_of(1, 0);
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, FERRY_FOREVER);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_limiter_acquire(limiter, "a"), -ECANCELED);
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0); /* it never waits */
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    ferry_scope_close(&scope, 0);
    end_of(limiter);
    return 0;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

struct call {
    gate *gate;
    atomic_int *inside, *most;
    atomic_bool left;
};

static int64_t calls(void *arg) {
    struct call *c = arg;
    int inside = atomic_fetch_add(c->inside, 1) + 1;
    for (int most = *c->most; inside > most;)
        if (atomic_compare_exchange_weak(c->most, &most, inside))
            break;
    gate_wait(c->gate);
    atomic_fetch_sub(c->inside, 1);
    atomic_store(&c->left, true);
    return 7;
}

static void nothing(void *arg) {
    (void)arg;
}

struct submitter {
    ferry_limiter *limiter;
    const char *key;
    ferry_executor *pool;
    struct call *call;
    bool abandon;
    ferry_future *job;
    int64_t rc;
};

static int64_t submits(void *arg) {
    struct submitter *s = arg;
    ferry_job_options options = {.limiter = s->limiter,
                                 .key = s->key,
                                 .policy = s->abandon ? FERRY_JOB_ABANDON : FERRY_JOB_WAIT,
                                 .arg_free = nothing};
    s->job = ferry_submit_with(s->pool, calls, s->call, &options);
    s->rc = ferry_await(ferry_ref(s->job));
    return s->rc;
}

/* MAX tokens, 2 * MAX calls; those that run are given up. */
TASK_TEST(given_up_and_still_counted) {
    enum { MAX = 2, N = 2 * MAX };
    gate first = GATE_INIT, second = GATE_INIT;
    atomic_int inside = 0, most = 0;
    ferry_limiter *limiter = limiter_of(N, MAX);
    ferry_executor *pool = make_pool(N, NULL);
    struct call call[N];
    struct submitter s[N];
    ferry_future *f[N];
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "was given up");
    for (int i = 0; i < N; i++) {
        call[i] =
            (struct call){.gate = i < MAX ? &first : &second, .inside = &inside, .most = &most};
        s[i] = (struct submitter){.limiter = limiter,
                                  .key = i % 2 ? "odd" : "even",
                                  .pool = pool,
                                  .call = &call[i],
                                  .abandon = true};
        f[i] = ferry_spawn(submits, &s[i]);
    }
    until_waiting(limiter, N - MAX);
    while (gate_arrivals(&first) < MAX)
        ferry_yield();
    for (int i = 0; i < MAX; i++) {
        CHECK_INT(ferry_cancel(f[i]), FERRY_CANCEL_ASKED);
        CHECK_INT(ferry_await(f[i]), FERRY_EJOBCANCELED);
        CHECK_INT(s[i].rc, -ECANCELED);
        ferry_detach(s[i].job);
    }
    CHECK_INT(stats_for(limiter, NULL).by_jobs, MAX); /* their threads haven't ended */
    CHECK_INT(stats_for(limiter, NULL).waiting, N - MAX);
    CHECK_INT(stats_of(pool).running, MAX);
    CHECK_INT(ferry_limiter_release(limiter, "odd"), -EPERM); /* nobody else's */
    gate_open(&first);
    while (gate_arrivals(&second) < MAX)
        ferry_yield();
    gate_open(&second);
    for (int i = MAX; i < N; i++) {
        CHECK_INT(ferry_await(f[i]), 7);
        ferry_detach(s[i].job);
    }
    CHECK_INT(most, MAX);
    end_pool(pool);
    CHECK_INT(stats_for(limiter, NULL).granted, N);
    end_of(limiter);
    CHECK_INT(kept_messages(&log), MAX);
    return 0;
}

/* One server is dead; its calls hold one thread of two. */
TASK_TEST(a_dead_server) {
    enum { N = 5 };
    gate dead = GATE_INIT, alive = GATE_INIT;
    atomic_int inside = 0, most = 0;
    gate_open(&alive);
    ferry_limiter *limiter = limiter_of(1, 0);
    ferry_executor *pool = make_pool(2, NULL);
    struct call stuck[N], fine = {.gate = &alive, .inside = &inside, .most = &most};
    struct submitter s[N];
    ferry_future *f[N];
    for (int i = 0; i < N; i++) {
        stuck[i] = (struct call){.gate = &dead, .inside = &inside, .most = &most};
        s[i] =
            (struct submitter){.limiter = limiter, .key = "dead", .pool = pool, .call = &stuck[i]};
        f[i] = ferry_spawn(submits, &s[i]);
    }
    until_waiting(limiter, N - 1);
    for (int i = 0; i < N; i++)
        CHECK_INT(ferry_await(ferry_limiter_submit(limiter, "alive", pool, calls, &fine)), 7);
    gate_open(&dead);
    for (int i = 0; i < N; i++) {
        CHECK_INT(ferry_await(f[i]), 7);
        ferry_detach(s[i].job);
    }
    CHECK(most <= 2);
    end_of(limiter);
    end_pool(pool);
    return 0;
}

static int64_t checks_token(void *arg) {
    CHECK_INT(stats_for(arg, "a").by_jobs, 1);
    return 3;
}

/* Whoever awaited a job may submit the next one: the token is back. From a thread, too. */
static void one_after_the_other(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(1, 0);
    ferry_executor *pool = make_pool(2, NULL), *direct;
    assert_int_equal(ferry_inline_new(&direct), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(
            ferry_await(ferry_limiter_submit(limiter, "a", pool, checks_token, limiter)), 3);
        assert_int_equal(ferry_limiter_try(limiter, "a"), 0);
        assert_int_equal(ferry_limiter_release(limiter, "a"), 0);
    }
    assert_int_equal(ferry_await(ferry_limiter_submit(limiter, "a", direct, checks_token, limiter)),
                     3);
    ferry_executor_free(direct);
    assert_int_equal(ferry_await(ferry_limiter_submit(limiter, NULL, pool, checks_token, limiter)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_limiter_submit(NULL, "a", pool, checks_token, limiter)),
                     -EINVAL);
    end_pool(pool);
    end_of(limiter);
}

TASK_TEST(never_run) {
    saturation s;
    ferry_limiter *limiter = limiter_of(1, 0);
    ferry_executor *pool = make_pool(1, NULL);
    saturate(&s, pool, 1);
    ferry_future *queued = ferry_limiter_submit(limiter, "a", pool, checks_token, limiter);
    CHECK_INT(stats_for(limiter, "a").by_jobs, 1); /* queued, it has it already */
    CHECK_INT(ferry_cancel(queued), FERRY_CANCEL_NEVER_RAN);
    CHECK_INT(stats_for(limiter, "a").by_jobs, 0); /* although its handle is still there */
    CHECK_INT(ferry_await(queued), FERRY_EJOBCANCELED);
    desaturate(&s);
    ferry_executor_close(pool, FERRY_CLOSE_DRAIN);
    CHECK_INT(ferry_await(ferry_limiter_submit(limiter, "a", pool, checks_token, limiter)),
              FERRY_ECLOSED);
    end_pool(pool);
    end_of(limiter);
    return 0;
}

TASK_TEST(cancelled_before_it_had_a_token) {
    gate never = GATE_INIT;
    atomic_int inside = 0, most = 0;
    ferry_limiter *limiter = limiter_of(1, 0);
    struct call call = {.gate = &never, .inside = &inside, .most = &most};
    struct submitter s = {.limiter = limiter, .key = "a", .call = &call};
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0);
    ferry_future *f = ferry_spawn(submits, &s);
    until_waiting(limiter, 1);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(s.rc, -ECANCELED);
    CHECK_INT(ferry_await(s.job), FERRY_EJOBCANCELED);
    CHECK_INT(gate_arrivals(&never), 0);
    CHECK_INT(stats_for(limiter, "a").waiting, 0);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    end_of(limiter);
    return 0;
}

/* As a member of a group, by the option. */
TASK_TEST(in_a_group) {
    ferry_limiter *limiter = limiter_of(1, 0);
    ferry_group group = FERRY_GROUP_INIT;
    char key[] = "a"; /* copied */
    ferry_group_open(&group);
    for (int i = 0; i < 5; i++) {
        key[0] = 'a';
        CHECK_INT(ferry_group_submit_with(&group, NULL, checks_token, limiter,
                                          &(ferry_job_options){.limiter = limiter, .key = key},
                                          NULL),
                  0);
        key[0] = 'x';
    }
    CHECK_INT(ferry_group_close(&group, 0), 0);
    end_of(limiter);
    return 0;
}

static bool was_on_the_loop;

static int64_t on_the_loop(void *arg) {
    ferry_limiter *limiter = arg;
    CHECK_INT(ferry_limiter_acquire(limiter, "a"), -EDEADLK);
    ferry_future *f = ferry_limiter_submit(limiter, "a", NULL, checks_token, limiter);
    CHECK_INT(ferry_await(f), -EAGAIN);
    CHECK(strstr(ferry_errmsg(), "submit from a task"));
    was_on_the_loop = true;
    return 0;
}

TASK_TEST(nothing_blocks_the_loop) {
    ferry_limiter *limiter = limiter_of(1, 0);
    CHECK_INT(ferry_limiter_try(limiter, "a"), 0);
    CHECK_INT(ferry_post(ferry_loop_current(), on_the_loop, limiter), 0);
    while (!was_on_the_loop)
        ferry_yield();
    CHECK_INT(stats_for(limiter, "a").waiting, 0);
    CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    end_of(limiter);
    return 0;
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static void a_million_keys(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(1, 0);
    long blocks = oom_blocks();
    int n = support_slow() ? 20000 : 1000000;
    for (int i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof key, "host-%d", i);
        if (ferry_limiter_acquire(limiter, key) != 0 || ferry_limiter_release(limiter, key) != 0)
            fail();
    }
    assert_int_equal(oom_blocks(), blocks);
    assert_int_equal(stats_for(limiter, NULL).granted, n);
    end_of(limiter);
}

/* Keys in order, which go in another one; each is found as long as it is there. */
static void many_keys_at_once(void **state) {
    (void)state;
    enum { N = 1009, STEP = 613 };
    ferry_limiter *limiter = limiter_of(1, 0);
    long blocks = oom_blocks();
    char key[32];
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "key %04d", i);
        assert_int_equal(ferry_limiter_try(limiter, key), 0);
    }
    assert_int_equal(stats_for(limiter, NULL).keys, N);
    for (int i = 0, gone = 0; i < N; i++, gone = (gone + STEP) % N) {
        snprintf(key, sizeof key, "key %04d", gone);
        assert_int_equal(ferry_limiter_try(limiter, key), -EAGAIN);
        assert_int_equal(ferry_limiter_release(limiter, key), 0);
        assert_int_equal(ferry_limiter_release(limiter, key), -EPERM);
    }
    ferry__error_set(ferry__ctx_self(), 0, NULL); /* the last error's words */
    assert_int_equal(oom_blocks(), blocks);
    end_of(limiter);
}

static int64_t stands(void *arg) {
    gate_wait(arg);
    return 0;
}

/* Given back while a job holds a token: the memory goes with that. */
static void given_back_too_early(void **state) {
    (void)state;
    gate g = GATE_INIT;
    ferry_executor *pool = make_pool(1, NULL);
    CHECK_INT(ferry_await(ferry_submit(pool, return_arg, as_arg(1))), 1);
    long blocks = oom_blocks();
    ferry_limiter *limiter = limiter_of(1, 0);
    ferry_future *f = ferry_limiter_submit(limiter, "a", pool, stands, &g);
    gate_wait_arrivals(&g, 1);
    struct taker t = {.limiter = limiter, .key = "a"};
    pthread_t thread = start_in_thread(take, &t);
    until_waiting(limiter, 1);
    assert_int_equal(ferry_limiter_free(limiter), -EBUSY);
    ferry_scope_cancel(&t.scope);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_limiter_free(limiter), 0);
    assert_true(oom_blocks() > blocks);
    gate_open(&g);
    assert_int_equal(ferry_await(f), 0);
    end_pool(pool);
    assert_true(oom_blocks() <= blocks);
}

static void after_a_fork(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(1, 0);
    assert_int_equal(ferry_limiter_try(limiter, "a"), 0);
    assert_int_equal(ferry_limiter_try(limiter, "b"), 0);
    pid_t pid = fork();
    if (pid == 0) {
        long blocks = oom_blocks();
        bool good = ferry_limiter_acquire(limiter, "a") == FERRY_EFORKED &&
                    ferry_limiter_try(limiter, "c") == FERRY_EFORKED &&
                    ferry_limiter_release(limiter, "a") == FERRY_EFORKED &&
                    ferry_await(ferry_limiter_submit(limiter, "c", NULL, return_arg, NULL)) ==
                        FERRY_EFORKED &&
                    stats_for(limiter, NULL).held == 0 && ferry_limiter_free(limiter) == 0 &&
                    oom_blocks() != blocks;
        end_child(good);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(child_was_good(status));
    assert_int_equal(ferry_limiter_release(limiter, "a"), 0);
    assert_int_equal(ferry_limiter_release(limiter, "b"), 0);
    end_of(limiter);
}

/* ---- Without memory -------------------------------------------------------------------------- */

static void once_without_memory(void) {
    ferry_limiter *limiter;
    int rc = ferry_limiter_new(&limiter, NULL);
    CHECK(rc == 0 || (rc == -ENOMEM && oom_hit()));
    if (rc < 0)
        return;
    rc = ferry_limiter_acquire(limiter, "a");
    CHECK(rc == 0 || (rc == -ENOMEM && oom_hit()));
    if (rc == 0)
        CHECK_INT(ferry_limiter_release(limiter, "a"), 0);
    int64_t ran = ferry_await(ferry_limiter_submit(limiter, "a", NULL, checks_token, limiter));
    CHECK(ran == 3 || ((ran == -ENOMEM || ran == -EAGAIN) && oom_hit()));
    end_of(limiter);
}

static void no_memory(void **state) {
    (void)state;
    once_without_memory();
    for (int on = 0; on < 2; on++) {
        bool hit = true;
        for (int n = 0; hit; n++) {
            oom_after(n, on == 1);
            once_without_memory();
            hit = oom_hit();
            oom_never();
        }
    }
    ferry__error_set(ferry__ctx_self(), 0, NULL);
}

/* ---- All at once ----------------------------------------------------------------------------- */

enum { KEYS = 5, EACH = 2, ALL = 6 };

struct weather {
    ferry_limiter *limiter;
    atomic_int held[KEYS], all;
};

static void round_of_the_storm(void *arg, int who, unsigned *seed) {
    struct weather *s = arg;
    int k = rand_r(seed) % KEYS;
    char key[] = {(char)('a' + k), '\0'};
    (void)who;
    int rc = ferry_limiter_acquire_for(s->limiter, key, rand_r(seed) % 4 == 0 ? 0 : LONG);
    if (rc < 0) {
        CHECK(rc == -ECANCELED || rc == -ETIMEDOUT);
        return;
    }
    CHECK(atomic_fetch_add(&s->held[k], 1) < EACH);
    CHECK(atomic_fetch_add(&s->all, 1) < ALL);
    if (rand_r(seed) % 2)
        ferry_yield();
    atomic_fetch_sub(&s->all, 1);
    atomic_fetch_sub(&s->held[k], 1);
    CHECK_INT(ferry_limiter_release(s->limiter, key), 0);
}

static void storm(void **state) {
    (void)state;
    struct weather s = {.limiter = limiter_of(EACH, ALL)};
    storm_run(4, 2, 8, support_slow() ? 60 : 1000, round_of_the_storm, &s);
    assert_int_equal(stats_for(s.limiter, NULL).waiting, 0);
    end_of(s.limiter);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        /* First: the child has no records of other threads then that a leak checker would find. */
        CASE("the child of a fork has a clear error", after_a_fork),
        CASE("so many of a key, and in all", tokens),
        CASE("the same in a thread", tokens_in_threads),
        CASE("tasks and threads wait for a key in one line", in_turn),
        CASE("keys take turns when all together are the limit", keys_take_turns),
        CASE("a key at its limit is passed", a_full_key_is_passed),
        CASE("one key gets all that nobody else wants", one_key_gets_all),
        CASE("released, then cancelled: it has it", released_then_cancelled),
        CASE("cancelled, then released: the next one has it", cancelled_then_released),
        CASE("released in the tick in which the time is over: it has it", released_then_timed_out),
        CASE("in a cancelled scope nothing is taken but by a try", in_a_cancelled_scope),
        CASE("THR-04 a call that was given up keeps its token until its thread ends",
             given_up_and_still_counted),
        CASE("THR-04 one dead server doesn't eat all threads", a_dead_server),
        CASE("the token is back before the result", one_after_the_other),
        CASE("THR-04 a job that never runs gives its token back at once", never_run),
        CASE("cancelled while it waits for its token", cancelled_before_it_had_a_token),
        CASE("a member of a group holds a token", in_a_group),
        CASE("nothing blocks a loop's own thread", nothing_blocks_the_loop),
        CASE("a million keys leave nothing behind", a_million_keys),
        CASE("many keys at once", many_keys_at_once),
        CASE("a limiter stays as long as its jobs", given_back_too_early),
        CASE("no memory at any point loses nothing", no_memory),
        CASE("THR-04 tasks and threads, cancelled at any moment, lose nothing", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

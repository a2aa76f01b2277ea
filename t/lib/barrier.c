/* Barriers: rounds and their numbers, leaving a round, breaking one, for tasks and threads. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "oom.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

struct party {
    ferry_barrier *barrier;
    ferry_scope scope;
    int64_t ms;
    int64_t rc;
};

static int64_t arrive(void *arg) {
    struct party *p = arg;
    p->rc = ferry_barrier_wait(p->barrier);
    return 0;
}

/* In a scope that can be cancelled; the next wait says whether it was. */
static int64_t arrive_in_a_scope(void *arg) {
    struct party *p = arg;
    CHECK_INT(ferry_scope_open(&p->scope, FERRY_FOREVER), 0);
    p->rc = ferry_barrier_wait(p->barrier);
    ferry_scope_close(&p->scope, 0);
    return 0;
}

static int64_t arrive_in_time(void *arg) {
    struct party *p = arg;
    p->rc = ferry_barrier_wait_for(p->barrier, p->ms);
    return 0;
}

/* Rounds. */

enum { PARTIES = 5 };

/* Each one plays `rounds` rounds, and notes in each what number it had. */
struct game {
    ferry_barrier barrier;
    int rounds;
    _Atomic int had[PARTIES]; /* how often each number was given, in all rounds */
    _Atomic int arrived;      /* in all rounds */
};

static int64_t play(void *arg) {
    struct game *g = arg;
    for (int i = 1; i <= g->rounds; i++) {
        atomic_fetch_add(&g->arrived, 1);
        int number = ferry_barrier_wait(&g->barrier);
        if (!CHECK(number >= 0 && number < PARTIES))
            return 0;
        CHECK(atomic_load(&g->arrived) >= i * PARTIES); /* nobody goes on before all have come */
        atomic_fetch_add(&g->had[number], 1);
        CHECK(atomic_load(&g->had[number]) <= i);
    }
    return 0;
}

static int64_t play_two(void *arg) {
    ferry_future *a = ferry_spawn(play, arg);
    ferry_future *b = ferry_spawn(play, arg);
    CHECK_INT(ferry_await(a), 0);
    CHECK_INT(ferry_await(b), 0);
    return 0;
}

static void check_game(struct game *g) {
    for (int i = 0; i < PARTIES; i++)
        CHECK_INT(g->had[i], g->rounds);
    CHECK_INT(g->barrier.waiting, 0);
    CHECK(g->barrier.first == NULL);
}

TASK_TEST(rounds_of_tasks) {
    struct game g = {.barrier = FERRY_BARRIER_INIT(PARTIES), .rounds = 100};
    ferry_future *f[PARTIES];
    for (int i = 0; i < PARTIES; i++)
        f[i] = ferry_spawn(play, &g);
    for (int i = 0; i < PARTIES; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    check_game(&g);
    return 0;
}

static struct game anywhere = {.barrier = FERRY_BARRIER_INIT(PARTIES)}; /* static */

static void rounds_of_all_kinds(void **state) {
    (void)state;
    pthread_t threads[3];
    anywhere.rounds = support_slow() ? 100 : 2000;
    threads[0] = start_in_loop(play_two, &anywhere);
    threads[1] = start_in_loop(play_two, &anywhere);
    threads[2] = start_in_thread(play, &anywhere);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    check_game(&anywhere);
}

/* Who came last is the leader; the others are numbered as they came. */
TASK_TEST(numbers_in_order) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[2] = {{.barrier = &barrier}, {.barrier = &barrier}};
    for (int round = 0; round < 3; round++) {
        ferry_future *first = ferry_spawn(arrive, &p[0]);
        UNTIL_WAITERS(&barrier, 1);
        ferry_future *second = ferry_spawn(arrive, &p[1]);
        UNTIL_WAITERS(&barrier, 2);
        CHECK_INT(ferry_barrier_wait(&barrier), 0);
        CHECK_INT(ferry_await(first), 0);
        CHECK_INT(ferry_await(second), 0);
        CHECK_INT(p[0].rc, 1);
        CHECK_INT(p[1].rc, 2);
    }
    return 0;
}

struct heaped {
    ferry_barrier barrier;
    _Atomic int left; /* how many calls have returned */
};

static int64_t meet_and_leave(void *arg) {
    struct heaped *h = arg;
    int number = ferry_barrier_wait(&h->barrier);
    atomic_fetch_add(&h->left, 1);
    if (number == 0) {
        while (atomic_load(&h->left) < 3)
            ferry_yield();
        free(h);
    }
    return number;
}

static void freed_by_the_leader(void **state) {
    (void)state;
    for (int i = 0; i < (support_slow() ? 100 : 1000) && support_in_time(); i++) {
        struct heaped *h = calloc(1, sizeof *h);
        assert_non_null(h);
        assert_int_equal(ferry_barrier_init(&h->barrier, 3), 0);
        pthread_t threads[2];
        for (int k = 0; k < 2; k++)
            threads[k] = start_in_thread(meet_and_leave, h);
        assert_in_range(ferry_run(meet_and_leave, h), 0, 2);
        for (int k = 0; k < 2; k++)
            pthread_join(threads[k], NULL);
    }
}

/* Leaving a round. */

TASK_TEST(one_is_cancelled) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[4] = {{.barrier = &barrier}, {.barrier = &barrier}, {.barrier = &barrier}};
    ferry_future *gone = ferry_spawn(arrive, &p[0]);
    UNTIL_WAITERS(&barrier, 1);
    ferry_future *stays = ferry_spawn(arrive, &p[1]);
    UNTIL_WAITERS(&barrier, 2);
    ferry_cancel(gone);
    CHECK_INT(ferry_await(gone), 0);
    CHECK_INT(p[0].rc, -ECANCELED);
    CHECK_INT(barrier.waiting, 1);
    ferry_future *more = ferry_spawn(arrive, &p[2]);
    UNTIL_WAITERS(&barrier, 2);
    CHECK_INT(ferry_barrier_wait(&barrier), 0);
    CHECK_INT(ferry_await(stays), 0);
    CHECK_INT(ferry_await(more), 0);
    CHECK_INT(p[1].rc, 1);
    CHECK_INT(p[2].rc, 2);
    return 0;
}

/* It was cancelled, but hasn't run since: it doesn't count any more. */
TASK_TEST(one_is_about_to_leave) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[2] = {{.barrier = &barrier}, {.barrier = &barrier}};
    ferry_future *gone = ferry_spawn(arrive, &p[0]);
    ferry_future *stays = ferry_spawn(arrive, &p[1]);
    UNTIL_WAITERS(&barrier, 2);
    ferry_cancel(gone);
    CHECK_INT(ferry_barrier_wait_for(&barrier, 0), -ETIMEDOUT); /* two are not three */
    CHECK_INT(ferry_await(gone), 0);
    CHECK_INT(p[0].rc, -ECANCELED);
    CHECK_INT(barrier.waiting, 1);
    ferry_cancel(stays);
    CHECK_INT(ferry_await(stays), 0);
    CHECK_INT(barrier.waiting, 0);
    return 0;
}

static void one_thread_is_cancelled(void **state) {
    (void)state;
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[3] = {{.barrier = &barrier}, {.barrier = &barrier}, {.barrier = &barrier}};
    pthread_t gone = start_in_thread(arrive_in_a_scope, &p[0]);
    UNTIL_WAITERS(&barrier, 1);
    pthread_t stays = start_in_thread(arrive_in_a_scope, &p[1]);
    UNTIL_WAITERS(&barrier, 2);
    ferry_scope_cancel(&p[0].scope);
    pthread_join(gone, NULL);
    assert_int_equal(p[0].rc, -ECANCELED);
    pthread_t more = start_in_thread(arrive, &p[2]);
    UNTIL_WAITERS(&barrier, 2);
    assert_int_equal(ferry_barrier_wait(&barrier), 0);
    pthread_join(stays, NULL);
    pthread_join(more, NULL);
    assert_int_equal(p[1].rc, 1);
    assert_int_equal(p[2].rc, 2);
}

/* The round is complete first, its cancel comes after: it passes, and sees the cancel later. */
static int64_t pass_then_look(void *arg) {
    struct party *p = arg;
    p->rc = ferry_barrier_wait(p->barrier);
    CHECK_INT(ferry_yield(), -ECANCELED);
    return 0;
}

TASK_TEST(complete_then_cancelled) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(2);
    struct party p = {.barrier = &barrier};
    ferry_future *f = ferry_spawn(pass_then_look, &p);
    UNTIL_WAITERS(&barrier, 1);
    CHECK_INT(ferry_barrier_wait(&barrier), 0);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(p.rc, 1);
    return 0;
}

static int64_t time_outs(void *arg) {
    (void)arg;
    ferry_barrier barrier = FERRY_BARRIER_INIT(2);
    CHECK_INT(ferry_barrier_wait_for(&barrier, 5), -ETIMEDOUT);
    CHECK_INT(ferry_barrier_wait_for(&barrier, 0), -ETIMEDOUT);
    CHECK_INT(ferry_barrier_wait_for(&barrier, -1), -ETIMEDOUT);
    CHECK_INT(barrier.waiting, 0);
    CHECK(!barrier.broken);
    struct party p = {.barrier = &barrier, .ms = 1000000};
    pthread_t thread = start_in_thread(arrive_in_time, &p);
    UNTIL_WAITERS(&barrier, 1);
    CHECK_INT(ferry_barrier_wait_for(&barrier, -1), 0); /* it needs no time */
    pthread_join(thread, NULL);
    CHECK_INT(p.rc, 1);
    return 0;
}

static void timed_out(void **state) {
    (void)state;
    assert_int_equal(time_outs(NULL), 0);
    assert_int_equal(ferry_run(time_outs, NULL), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, time_outs, NULL)), 0);
}

static int64_t waits_while_cancelled(void *arg) {
    (void)arg;
    ferry_barrier barrier = FERRY_BARRIER_INIT(1);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_barrier_wait(&barrier), -ECANCELED);
    CHECK_INT(ferry_barrier_wait_for(&barrier, 5), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_barrier_wait(&barrier), 0);
    return 0;
}

static void cancelled_at_entry(void **state) {
    (void)state;
    assert_int_equal(waits_while_cancelled(NULL), 0);
    assert_int_equal(ferry_run(waits_while_cancelled, NULL), 0);
}

/* Breaking. */

/* Gets broken, and waits again at once. */
static int64_t arrive_again(void *arg) {
    struct party *p = arg;
    CHECK_INT(ferry_barrier_wait(p->barrier), FERRY_EBROKEN);
    CHECK(strstr(ferry_errmsg(), "broken"));
    p->rc = ferry_barrier_wait(p->barrier);
    return 0;
}

TASK_TEST(reset_while_tasks_wait) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[2] = {{.barrier = &barrier}, {.barrier = &barrier}};
    ferry_future *f[2];
    for (int i = 0; i < 2; i++)
        f[i] = ferry_spawn(arrive_again, &p[i]);
    UNTIL_WAITERS(&barrier, 2);
    ferry_barrier_reset(&barrier);
    CHECK_INT(barrier.waiting, 0);
    UNTIL_WAITERS(&barrier, 2);
    CHECK_INT(ferry_barrier_wait(&barrier), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(p[i].rc, i + 1);
    }
    return 0;
}

static void reset_while_threads_wait(void **state) {
    (void)state;
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[2] = {{.barrier = &barrier}, {.barrier = &barrier}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        threads[i] = start_in_thread(arrive_again, &p[i]);
    UNTIL_WAITERS(&barrier, 2);
    ferry_barrier_reset(&barrier);
    UNTIL_WAITERS(&barrier, 2);
    assert_int_equal(ferry_barrier_wait(&barrier), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(p[0].rc + p[1].rc, 1 + 2);
}

/* Its cancel came before: it gets that, and isn't taken for one who waits. */
TASK_TEST(reset_after_a_cancel) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(2);
    struct party p = {.barrier = &barrier};
    ferry_future *f = ferry_spawn(arrive, &p);
    UNTIL_WAITERS(&barrier, 1);
    ferry_cancel(f);
    ferry_barrier_reset(&barrier);
    CHECK_INT(barrier.waiting, 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(p.rc, -ECANCELED);
    CHECK_INT(barrier.waiting, 0);
    return 0;
}

static int64_t aborts(void *arg) {
    (void)arg;
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[2] = {{.barrier = &barrier}, {.barrier = &barrier}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        threads[i] = start_in_thread(arrive, &p[i]);
    UNTIL_WAITERS(&barrier, 2);
    ferry_barrier_abort(&barrier);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT(p[i].rc, FERRY_EBROKEN);
    }
    for (int i = 0; i < 5; i++)
        CHECK_INT(ferry_barrier_wait(&barrier), FERRY_EBROKEN);
    CHECK_INT(ferry_barrier_wait_for(&barrier, 0), FERRY_EBROKEN);
    ferry_barrier_abort(&barrier);
    ferry_barrier_reset(&barrier);
    for (int i = 0; i < 2; i++) {
        threads[i] = start_in_thread(arrive, &p[i]);
        UNTIL_WAITERS(&barrier, (size_t)i + 1);
    }
    CHECK_INT(ferry_barrier_wait(&barrier), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT(p[i].rc, i + 1);
    }
    return 0;
}

static void aborted(void **state) {
    (void)state;
    assert_int_equal(aborts(NULL), 0);
    assert_int_equal(ferry_run(aborts, NULL), 0);
}

TASK_TEST(aborted_tasks) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party p[2] = {{.barrier = &barrier}, {.barrier = &barrier}};
    ferry_future *f[2];
    for (int i = 0; i < 2; i++)
        f[i] = ferry_spawn(arrive, &p[i]);
    UNTIL_WAITERS(&barrier, 2);
    ferry_barrier_abort(&barrier);
    ferry_cancel(f[0]); /* too late for this wait */
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(p[i].rc, FERRY_EBROKEN);
    }
    return 0;
}

/* Parties. */

static int64_t alone(void *arg) {
    (void)arg;
    ferry_barrier barrier = {0};
    CHECK_INT(ferry_barrier_init(&barrier, 1), 0);
    for (int i = 0; i < 5; i++)
        CHECK_INT(ferry_barrier_wait(&barrier), 0);
    static const int wrong[] = {0, -4};
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(ferry_barrier_init(&barrier, wrong[i]), -EINVAL);
        CHECK(strstr(ferry_errmsg(), "at least one party"));
        CHECK_INT(barrier.parties, 1);
        ferry_barrier fixed = FERRY_BARRIER_INIT(wrong[i]);
        CHECK_INT(ferry_barrier_wait(&fixed), -EINVAL);
        CHECK_INT(ferry_barrier_wait_for(&fixed, 0), -EINVAL);
        ferry_barrier_abort(&fixed);
        ferry_barrier_reset(&fixed);
        CHECK_INT(ferry_barrier_wait(&fixed), -EINVAL);
    }
    return 0;
}

static void few_parties(void **state) {
    (void)state;
    assert_int_equal(alone(NULL), 0);
    assert_int_equal(ferry_run(alone, NULL), 0);
}

struct posted {
    ferry_barrier two, one;
    ferry_event done;
};

static int64_t wait_in_a_callback(void *arg) {
    struct posted *p = arg;
    CHECK_INT(ferry_barrier_wait(&p->two), -EDEADLK);
    CHECK_INT(ferry_barrier_wait_for(&p->two, 0), -EDEADLK);
    CHECK_INT(p->two.waiting, 0);
    CHECK_INT(ferry_barrier_wait(&p->one), 0);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(in_a_callback) {
    struct posted p = {FERRY_BARRIER_INIT(2), FERRY_BARRIER_INIT(1), FERRY_EVENT_INIT};
    CHECK_INT(ferry_post(ferry_loop_current(), wait_in_a_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    return 0;
}

/* A round is all or nothing, whatever is cancelled, timed out or reset: each number comes as often
 * as any other. */
struct stormy {
    ferry_barrier barrier;
    _Atomic long had[PARTIES];
};

static void stormy_round(void *arg, int who, unsigned *seed) {
    (void)who;
    struct stormy *s = arg;
    int rc = ferry_barrier_wait_for(&s->barrier, rand_r(seed) % 3);
    if (rc >= 0) {
        if (CHECK(rc < PARTIES))
            atomic_fetch_add(&s->had[rc], 1);
    } else {
        CHECK(rc == -ECANCELED || rc == -ETIMEDOUT || rc == FERRY_EBROKEN);
    }
    if (rand_r(seed) % 100 == 0)
        ferry_barrier_reset(&s->barrier);
}

static void storm(void **state) {
    (void)state;
    struct stormy s = {.barrier = FERRY_BARRIER_INIT(PARTIES)};
    do /* again, where the machine was too slow for any round to come about */
        storm_run(4, 2, 6, support_slow() ? 200 : 3000, stormy_round, &s);
    while (s.had[0] == 0);
    for (int i = 1; i < PARTIES; i++)
        assert_int_equal(s.had[i], s.had[0]);
    assert_int_equal(s.barrier.waiting, 0);
    assert_null(s.barrier.first);
}

/* A thread's first call makes its record. */
static void no_memory_for_a_thread(void **state) {
    (void)state;
    ferry_barrier barrier = FERRY_BARRIER_INIT(1);
    struct party p = {.barrier = &barrier};
    oom_after(0, true);
    pthread_join(start_in_thread(arrive, &p), NULL);
    oom_never();
    assert_true(oom_hit());
    assert_int_equal(p.rc, -ENOMEM);
    pthread_join(start_in_thread(arrive, &p), NULL);
    assert_int_equal(p.rc, 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        /* First: later there are records of ended threads to use again. */
        CASE("out of memory for a thread's record", no_memory_for_a_thread),
        CASE("BAR-01 five tasks, many rounds: each number once a round", rounds_of_tasks),
        CASE("BAR-01 the same with tasks of two loops and a thread", rounds_of_all_kinds),
        CASE("BAR-01 the last one leads, the others are numbered as they came", numbers_in_order),
        CASE("BAR-01 the leader frees it when all have left", freed_by_the_leader),
        CASE("BAR-03 one of two is cancelled: the next three pass", one_is_cancelled),
        CASE("BAR-03 one that was cancelled and hasn't run yet doesn't count",
             one_is_about_to_leave),
        CASE("BAR-03 the same with threads", one_thread_is_cancelled),
        CASE("complete, then cancelled: it passes", complete_then_cancelled),
        CASE("time-outs leave the round; who is last needs no time", timed_out),
        CASE("in a cancelled scope", cancelled_at_entry),
        CASE("BAR-05 reset while tasks wait, who come again at once", reset_while_tasks_wait),
        CASE("BAR-05 the same with threads", reset_while_threads_wait),
        CASE("BAR-05 reset after one was cancelled", reset_after_a_cancel),
        CASE("BAR-07 abort, wait, reset, wait", aborted),
        CASE("BAR-07 abort while tasks wait, one of them cancelled after", aborted_tasks),
        CASE("BAR-08 parties 1, 0 and -4", few_parties),
        CASE("in a callback nothing may wait", in_a_callback),
        CASE("threads and tasks, cancelled at any moment: a round is all or nothing", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

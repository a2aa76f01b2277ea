/* A pool with one processor, and jobs so short that a thread naps: a loop hands over the jobs of a
 * turn together, and the napper sees to it that none waits for the end of a long one.
 *
 * A pool is told that it has one processor, and that its jobs are short, by its own fields. */
#include "config.h"

#include <sched.h>
#include <stdatomic.h>

#include "pools.h"
#include "support.h"
#include "threads.h"

enum { ENOUGH = 20, MOST = 20000 };

static ferry_executor *brisk_pool(void) {
    ferry_executor *pool = make_pool(2, NULL);
    ferry__threads_of(pool)->spin.possible = false;
    return pool;
}

/* Until one of its threads naps, and a call may come a little later. */
static void until_one_naps(ferry_executor *pool) {
    while (atomic_load(&pool->wanted) != FERRY__SOON) {
        ferry__lock(&pool->lock);
        ferry__threads_of(pool)->brisk = FERRY__BRISK;
        ferry__unlock(&pool->lock);
        CHECK_INT(ferry_await(ferry_submit(pool, return_arg, as_arg(3))), 3);
    }
}

static int64_t set_flag(void *arg) {
    atomic_store((atomic_bool *)arg, true);
    return 4;
}

static void until_set(atomic_bool *flag) {
    while (!atomic_load(flag))
        sched_yield();
}

/* ---- A turn that doesn't end ----------------------------------------------------------------- */

static int64_t goes_on_computing(void *arg) {
    ferry_executor *pool = arg;
    int owed = 0;
    for (int i = 0; i < MOST && owed < ENOUGH; i++) {
        atomic_bool flag = false;
        until_one_naps(pool);
        ferry_future *job = ferry_submit(pool, set_flag, &flag);
        owed += ferry_loop_current()->owed == pool;
        until_set(&flag); /* without giving way */
        CHECK_INT(ferry_await(job), 4);
    }
    return owed;
}

static void a_long_turn_holds_up_no_job(void **state) {
    (void)state;
    ferry_executor *pool = brisk_pool();
    assert_int_equal(ferry_run(goes_on_computing, pool), ENOUGH);
    end_pool(pool);
}

/* ---- Two pools ------------------------------------------------------------------------------- */

struct two {
    ferry_executor *first, *second;
};

static int64_t submits_to_both(void *arg) {
    struct two *two = arg;
    int owed = 0;
    for (int i = 0; i < MOST && owed < ENOUGH; i++) {
        atomic_bool flags[2] = {false, false};
        until_one_naps(two->first);
        until_one_naps(two->second);
        ferry_future *a = ferry_submit(two->first, set_flag, &flags[0]);
        owed += ferry_loop_current()->owed == two->first;
        ferry_future *b = ferry_submit(two->second, set_flag, &flags[1]);
        until_set(&flags[1]);
        until_set(&flags[0]);
        CHECK_INT(ferry_await(a), 4);
        CHECK_INT(ferry_await(b), 4);
    }
    return owed;
}

static void one_turn_two_pools(void **state) {
    (void)state;
    struct two two = {brisk_pool(), brisk_pool()};
    assert_int_equal(ferry_run(submits_to_both, &two), ENOUGH);
    end_pool(two.first);
    end_pool(two.second);
}

/* ---- The end of the turn --------------------------------------------------------------------- */

static int64_t gives_way(void *arg) {
    ferry_executor *pool = arg;
    int owed = 0;
    for (int i = 0; i < MOST && owed < ENOUGH; i++) {
        until_one_naps(pool);
        ferry_future *job = ferry_submit(pool, return_arg, as_arg(5));
        if (ferry_loop_current()->owed == pool) {
            owed++;
            /* Nobody naps from now on: who is to be called is called by the loop. */
            ferry__lock(&pool->lock);
            ferry__threads_of(pool)->brisk = 0;
            ferry__unlock(&pool->lock);
        }
        CHECK_INT(ferry_await(job), 5);
        CHECK_INT(ferry_sleep(1), 0); /* it may have been done at once: now the turn has ended */
        CHECK(ferry_loop_current()->owed != pool);
    }
    return owed;
}

static void the_end_of_a_turn_calls(void **state) {
    (void)state;
    ferry_executor *pool = brisk_pool();
    assert_int_equal(ferry_run(gives_way, pool), ENOUGH);
    end_pool(pool);
}

/* ---- A pool that is freed before the turn ends ----------------------------------------------- */

static int64_t frees_in_the_same_turn(void *arg) {
    (void)arg;
    int owed = 0;
    for (int i = 0; i < MOST && owed < ENOUGH; i++) {
        ferry_executor *pool = brisk_pool();
        until_one_naps(pool);
        ferry_future *job = ferry_submit(pool, return_arg, as_arg(6));
        owed += ferry_loop_current()->owed == pool;
        ferry_executor_free(pool);
        CHECK_INT(ferry_await(job), 6);
    }
    return owed;
}

static void a_pool_freed_before_the_turn_ends(void **state) {
    (void)state;
    assert_int_equal(ferry_run(frees_in_the_same_turn, NULL), ENOUGH);
}

/* ---- A loop that gives way ------------------------------------------------------------------- */

enum { JOBS = 200 };

static int64_t opens_in_time(void *arg) {
    CHECK_INT(ferry_sleep(2), 0); /* a timer that is due while a job is waited for */
    gate_open(arg);
    return 0;
}

static int64_t waits_at_gate(void *arg) {
    gate_wait(arg);
    return 7;
}

static int64_t all_sorts_of_jobs(void *arg) {
    ferry_executor *pool = arg;
    CHECK(!ferry_loop_current()->inbox.spin.possible);
    for (int i = 0; i < JOBS; i++) {
        gate g = GATE_INIT;
        CHECK_INT(ferry_await(ferry_submit(pool, return_arg, as_arg(i))), i);
        if (i % 20 != 0)
            continue;
        ferry_future *opener = ferry_spawn(opens_in_time, &g);
        CHECK_INT(ferry_await(ferry_submit(pool, waits_at_gate, &g)), 7);
        CHECK_INT(ferry_await(opener), 0);
    }
    return 0;
}

static void a_loop_gives_way(void **state) {
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    ferry_executor *pool = make_pool(2, NULL);
    assert_int_equal(ferry_run(all_sorts_of_jobs, pool), 0);
    end_pool(pool);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("no job waits for the end of a turn that computes", a_long_turn_holds_up_no_job),
        CASE("jobs for two pools in one turn", one_turn_two_pools),
        CASE("the end of a turn calls a thread", the_end_of_a_turn_calls),
        CASE("a pool that is freed in the turn of its last job", a_pool_freed_before_the_turn_ends),
        CASE("a loop gives way to its jobs, and its timers fire", a_loop_gives_way),
    };
    return SUPPORT_RUN(tests);
}

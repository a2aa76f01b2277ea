/* Events: set and clear, cancel and time-out, for tasks and threads. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "clock.h"
#include "oom.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

static int64_t wait_for_it(void *arg) {
    return ferry_event_wait(arg);
}

static void *wait_in_a_thread(void *arg) {
    CHECK_INT(ferry_event_wait(arg), 0);
    return NULL;
}

static int64_t wait_in_turn(void *arg) {
    int64_t rc = ferry_event_wait(arg);
    if (rc == 0)
        rc = ferry_event_wait(arg); /* set is set: again is no wait */
    return rc;
}

TASK_TEST(all_pass) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_future *f1 = ferry_spawn(wait_for_it, &event);
    ferry_future *f2 = ferry_spawn(wait_in_turn, &event);
    UNTIL_WAITERS(&event, 2);
    CHECK(!ferry_event_is_set(&event));
    ferry_future *f3 = ferry_spawn(wait_for_it, &event);
    ferry_event_set(&event);
    CHECK(ferry_event_is_set(&event));
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(ferry_await(f3), 0);
    CHECK_INT(ferry_event_wait(&event), 0);
    CHECK_INT(ferry_event_wait_for(&event, -1), 0);
    ferry_event_set(&event);
    CHECK_INT(ferry_event_wait(&event), 0);
    ferry_event_clear(&event);
    CHECK(!ferry_event_is_set(&event));
    CHECK_INT(ferry_event_wait_for(&event, 0), -ETIMEDOUT);
    CHECK(event.first == NULL);
    return 0;
}

static void all_pass_everywhere(void **state) {
    (void)state;
    static ferry_event event;
    pthread_t threads[3];
    threads[0] = start_thread(wait_in_a_thread, &event);
    threads[1] = start_in_loop(wait_for_it, &event);
    UNTIL_WAITERS(&event, 2);
    ferry_future *job = ferry_submit(NULL, wait_for_it, &event);
    UNTIL_WAITERS(&event, 3);
    ferry_event_set(&event);
    threads[2] = start_thread(wait_in_a_thread, &event);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ferry_await(job), 0);
}

/* Cleared before they run: they were granted. */
TASK_TEST(set_and_cleared_in_one_tick) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_future *f1 = ferry_spawn(wait_for_it, &event);
    ferry_future *f2 = ferry_spawn(wait_for_it, &event);
    UNTIL_WAITERS(&event, 2);
    ferry_event_set(&event);
    ferry_event_clear(&event);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(ferry_await(f2), 0);
    return 0;
}

static int64_t wait_and_see(void *arg) {
    int64_t rc = ferry_event_wait(arg);
    return rc == 0 && ferry_yield() == -ECANCELED ? 1 : rc;
}

TASK_TEST(cancel_before_and_after) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_future *f1 = ferry_spawn(wait_for_it, &event);
    ferry_future *f2 = ferry_spawn(wait_and_see, &event);
    UNTIL_WAITERS(&event, 2);
    ferry_cancel(f1);
    ferry_event_set(&event);
    ferry_cancel(f2);
    CHECK_INT(ferry_wait(f1), 0);
    CHECK_INT(ferry_result(f1), FERRY_EJOBCANCELED);
    ferry_detach(f1);
    CHECK_INT(ferry_await(f2), 1); /* granted first; the cancel came at the next wait */
    return 0;
}

static int64_t cancel_and_time_out(void *arg) {
    ferry_event event = FERRY_EVENT_INIT;
    (void)arg;
    CHECK_INT(ferry_event_wait_for(&event, 5), -ETIMEDOUT);
    CHECK_INT(ferry_event_wait_for(&event, -1), -ETIMEDOUT);
    CHECK(event.first == NULL);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 5), 0);
    CHECK_INT(ferry_event_wait(&event), -ECANCELED);
    ferry_event_set(&event);
    CHECK_INT(ferry_event_wait(&event), -ECANCELED); /* set or not: the scope is over */
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(ferry_event_wait_for(&event, 0), 0);
    return 0;
}

TASK_TEST(cancel_and_time_out_in_a_task) {
    return cancel_and_time_out(NULL);
}

static void cancel_and_time_out_in_threads(void **state) {
    (void)state;
    assert_int_equal(cancel_and_time_out(NULL), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, cancel_and_time_out, NULL)), 0);
}

static int64_t wait_in_a_callback(void *arg) {
    ferry_event *events = arg;
    CHECK_INT(ferry_event_wait(&events[0]), -EDEADLK);
    CHECK(events[0].first == NULL);
    ferry_event_set(&events[0]);
    CHECK_INT(ferry_event_wait(&events[0]), 0);
    ferry_event_set(&events[1]);
    return 0;
}

TASK_TEST(in_a_callback) {
    ferry_event events[2] = {FERRY_EVENT_INIT};
    CHECK_INT(ferry_post(ferry_loop_current(), wait_in_a_callback, events), 0);
    CHECK_INT(ferry_event_wait(&events[1]), 0);
    return 0;
}

/* Whoever has seen it set may free it. */
static void *set_it(void *arg) {
    ferry_event_set(arg);
    return NULL;
}

static void freed_by_who_waited(void **state) {
    (void)state;
    for (int i = 0; i < (support_slow() ? 200 : 2000) && support_in_time(); i++) {
        ferry_event *event = calloc(1, sizeof *event);
        assert_non_null(event);
        pthread_t thread = start_thread(set_it, event);
        if (i % 3 == 0) {
            while (!ferry_event_is_set(event))
                ferry_yield();
        } else if (i % 3 == 1) {
            assert_int_equal(ferry_event_wait(event), 0);
        } else {
            while (ferry_event_wait_for(event, 0) != 0)
                ferry_yield();
        }
        free(event);
        pthread_join(thread, NULL);
    }
}

/* The same looked at closely: the setter is out of it when somebody has seen it set. Each round
 * hands the processor to and fro, which takes milliseconds where others want it as well: then
 * there are fewer. */
enum { DUEL_MS = 3000 };

struct duel {
    ferry_event event;
    _Atomic int round;
};

static void *set_in_rounds(void *arg) {
    struct duel *d = arg;
    for (int round; (round = atomic_load(&d->round)) >= 0;) {
        if (round % 2 == 0) {
            sched_yield();
            continue;
        }
        ferry_event_set(&d->event);
        while (atomic_load(&d->round) == round)
            sched_yield();
    }
    return NULL;
}

static void seen_means_untouched(void **state) {
    (void)state;
    struct duel d = {.event = FERRY_EVENT_INIT};
    pthread_t setter = start_thread(set_in_rounds, &d);
    int64_t until = ferry__now() + DUEL_MS * FERRY__MS;
    for (int i = 1; i < (support_slow() ? 400 : 40000) && ferry__now() < until; i += 2) {
        ferry_event_clear(&d.event);
        atomic_store(&d.round, i);
        /* Spinning, to see it soon; but there may be one processor only. */
        for (int spins = 1; !ferry_event_is_set(&d.event); spins++) {
            if (spins % 1000 == 0)
                sched_yield();
        }
        CHECK_INT(__atomic_load_n(&d.event.lock, __ATOMIC_RELAXED), 0);
        atomic_store(&d.round, i + 1);
    }
    atomic_store(&d.round, -1);
    pthread_join(setter, NULL);
}

/* Each sets its own event and waits for its neighbour's. */
struct ring {
    ferry_event events[STORM_MOST];
    int n;
};

static void ring_round(void *arg, int who, unsigned *seed) {
    struct ring *ring = arg;
    ferry_event_set(&ring->events[who]);
    int rc = ferry_event_wait_for(&ring->events[(who + 1) % ring->n], rand_r(seed) % 3);
    CHECK(rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT);
    if (rand_r(seed) % 2 == 0)
        ferry_event_clear(&ring->events[who]);
}

static void storm(void **state) {
    (void)state;
    static struct ring ring = {.n = 3 + 2 * 8};
    storm_run(3, 2, 8, support_slow() ? 200 : 2000, ring_round, &ring);
    for (int i = 0; i < ring.n; i++)
        assert_null(ring.events[i].first);
}

static void *first_wait(void *arg) {
    CHECK_INT(ferry_event_wait(arg), -ENOMEM);
    return NULL;
}

static void no_memory_for_a_thread(void **state) {
    (void)state;
    ferry_event event = FERRY_EVENT_INIT;
    ferry_event_set(&event);
    oom_after(0, true);
    pthread_join(start_thread(first_wait, &event), NULL);
    oom_never();
    assert_true(oom_hit());
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("out of memory for a thread's record", no_memory_for_a_thread),
        CASE("EVT-01 all pass: those who wait, and who comes later", all_pass),
        CASE("EVT-01 threads, jobs and tasks of another loop pass as well", all_pass_everywhere),
        CASE("set and cleared in one tick: those who waited pass", set_and_cleared_in_one_tick),
        CASE("cancelled before and after it was set", cancel_before_and_after),
        CASE("cancel and time-out in a task", cancel_and_time_out_in_a_task),
        CASE("cancel and time-out in a thread and a job", cancel_and_time_out_in_threads),
        CASE("in a callback nothing may wait", in_a_callback),
        CASE("whoever has seen it set may free it", freed_by_who_waited),
        CASE("an event that was seen set isn't touched by the setter any more",
             seen_means_untouched),
        CASE("threads and tasks, cancelled at any moment", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

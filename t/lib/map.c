/* Map: order, bounds, errors at their place, leaving and ends. */
#include "config.h"

#include <sched.h>
#include <string.h>

#include "map.h"
#include "oom.h"
#include "parked.h"
#include "pools.h"
#include "storm.h"
#include "stream_core.h"
#include "streams.h"
#include "waiters.h"
#include "waiting.h"

/* Each waits for its own event; they are let go from the last to the first of a window. */
TASK_TEST(results_in_order) {
    for (int tasks = 0; tasks < 2; tasks++) {
        ferry_event may_end[N];
        fresh(NULL);
        for (int i = 0; i < N; i++) {
            may_end[i] = (ferry_event)FERRY_EVENT_INIT;
            works[i].may_end = &may_end[i];
        }
        ferry_stream *map =
            map_works(tasks, &array, (ferry_map_options){.concurrency = 5, .ahead = 5});
        for (int window = 0; window < N; window += 5) {
            CHECK_INT(ferry_stream_start(map), 0);
            until_begun(window + 5);
            for (int i = window + 4; i >= window; i--) {
                ferry_event_set(&may_end[i]);
                while (!works[i].ended)
                    ferry_yield();
            }
            if (window < N - 5)
                check_results(map, window + 1, window + 5);
        }
        check_results(map, N - 4, N);
        check_end(map, FERRY_END);
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(freed(), 0);
    }
    return 0;
}

TASK_TEST(bounds) {
    for (int tasks = 0; tasks < 2; tasks++) {
        ferry_event go = FERRY_EVENT_INIT;
        fresh(&go);
        ferry_stream *map =
            map_works(tasks, &array, (ferry_map_options){.concurrency = 3, .ahead = 7});
        settle();
        CHECK_INT(begun, 0); /* nobody has asked */
        CHECK_INT(ferry_stream_start(map), 0);
        until_begun(3);
        settle();
        CHECK_INT(begun, 3);
        ferry_event_set(&go);
        until_begun(7); /* the others follow by themselves, as far as `ahead` lets them */
        settle();
        CHECK_INT(begun, 7);
        for (int i = 1; i <= N; i++) {
            check_results(map, i, i);
            int taken = i + 6 < N ? i + 6 : N; /* the last call has put its own back */
            until_begun(taken);
            settle();
            CHECK_INT(begun, taken);
        }
        check_end(map, FERRY_END);
        CHECK(most <= 3);
        CHECK_INT(ferry_stream_close(map), 0);
    }
    return 0;
}

TASK_TEST(an_error_at_its_place) {
    for (int tasks = 0; tasks < 2; tasks++) {
        fresh(NULL);
        works[4].result = -EIO;
        ferry_stream *map =
            map_works(tasks, &array, (ferry_map_options){.concurrency = 1, .ahead = 10});
        CHECK_INT(ferry_stream_start(map), 0);
        check_results(map, 1, 4);
        intptr_t number;
        CHECK_INT(next_result(map, &number), -EIO);
        CHECK_STR(ferry_errmsg(), "item 5 is bad");
        CHECK_INT(number, 5);
        check_end(map, -EIO);
        CHECK_STR(ferry_errmsg(), "item 5 is bad");
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(freed(), N - 5);
        for (int i = 14; i < N; i++)
            CHECK_INT(works[i].begun, 0); /* never taken */
    }
    return 0;
}

/* What is queued behind the one that failed never begins. */
TASK_TEST(an_error_stops_the_others) {
    for (int tasks = 0; tasks < 2; tasks++) {
        ferry_event first = FERRY_EVENT_INIT, never = FERRY_EVENT_INIT;
        fresh(&never);
        works[0].may_end = &first;
        works[0].result = -EIO;
        ferry_stream *map =
            map_works(tasks, &array, (ferry_map_options){.concurrency = 2, .ahead = 6});
        CHECK_INT(ferry_stream_start(map), 0);
        until_begun(2);
        ferry_event_set(&first);
        until_begun(3);
        intptr_t number;
        CHECK_INT(next_result(map, &number), -EIO);
        CHECK_INT(number, 1);
        while (works[1].ended + works[2].ended < 2) /* told to stop */
            ferry_yield();
        CHECK_INT(works[1].told, -ECANCELED);
        settle();
        CHECK_INT(begun, 3);
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(freed(), N - 1);
    }
    return 0;
}

TASK_TEST(errors_collected) {
    for (int tasks = 0; tasks < 2; tasks++) {
        fresh(NULL);
        works[0].result = works[7].result = works[N - 1].result = -EIO;
        ferry_stream *map = map_works(tasks, &array, (ferry_map_options){.flags = FERRY_COLLECT});
        for (int i = 1; i <= N; i++) {
            intptr_t number;
            int64_t rc = next_result(map, &number);
            CHECK_INT(rc, i == 1 || i == 8 || i == N ? -EIO : i);
            CHECK_INT(number, i);
        }
        CHECK_STR(ferry_errmsg(), "item 20 is bad");
        check_end(map, FERRY_END);
        CHECK_INT(ferry_stream_close(map), 0);
    }
    return 0;
}

/* The consumer's time is over: it leaves; what hasn't begun never will, what runs is joined. */
TASK_TEST(the_consumer_times_out) {
    for (int tasks = 0; tasks < 2; tasks++) {
        ferry_event never = FERRY_EVENT_INIT;
        fresh(&never);
        works[0].may_end = NULL;
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
        ferry_stream *map = map_works(tasks, &array, (ferry_map_options){.concurrency = 2});
        check_results(map, 1, 1);
        intptr_t number;
        until_begun(3);
        CHECK_INT(ferry_scope_set_timeout(&scope, 5), 0);
        CHECK_INT(next_result(map, &number), -ECANCELED);
        CHECK_INT(next_result(map, &number), -ECANCELED);
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
        CHECK_INT(begun, 3);
        CHECK_INT(running, 0);
        CHECK_INT(works[1].told, -ECANCELED);
        CHECK_INT(freed(), N - 1);
    }
    return 0;
}

/* A job sees the end of the scope that it shares with the consumer first: nothing is taken. */
TASK_TEST(the_job_times_out_first) {
    ferry_event never = FERRY_EVENT_INIT;
    fresh(&never);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 20), 0);
    ferry_stream *map = map_works(false, &array, (ferry_map_options){.concurrency = 1});
    CHECK_INT(ferry_stream_start(map), 0);
    /* This loop doesn't get to look at the time. On a slow machine the job may never begin. */
    while (map->kind->busy(map))
        sched_yield();
    intptr_t number;
    CHECK_INT(next_result(map, &number), -ECANCELED);
    CHECK_INT(number, 0);
    CHECK_INT(ferry_stream_close(map), 0);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(freed(), N);
    return 0;
}

TASK_TEST(a_time_out_is_no_end) {
    for (int tasks = 0; tasks < 2; tasks++) {
        ferry_event go = FERRY_EVENT_INIT;
        fresh(&go);
        ferry_stream *map = map_works(tasks, &array, (ferry_map_options){0});
        void *item;
        CHECK_INT(ferry_stream_next_for(map, &item, 0), -ETIMEDOUT);
        CHECK_INT(ferry_stream_next_for(map, &item, 5), -ETIMEDOUT);
        CHECK_INT(ferry_stream_try_next(map, &item), -EAGAIN);
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, 5), 0);
        CHECK_INT(ferry_stream_next(map, &item), -ECANCELED);
        CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
        CHECK(item == NULL);
        ferry_event_set(&go);
        check_results(map, 1, N); /* jobs belong to the scope of the making */
        check_end(map, FERRY_END);
        CHECK_INT(ferry_stream_close(map), 0);
    }
    return 0;
}

TASK_TEST(leaving_early) {
    for (int tasks = 0; tasks < 2; tasks++) {
        fresh(NULL);
        ferry_stream *map = map_works(tasks, &array, (ferry_map_options){0});
        check_results(map, 1, 3);
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(freed(), N - 3);
        CHECK_INT(running, 0);
        fresh(NULL);
        map = map_works(tasks, &array, (ferry_map_options){0});
        CHECK_INT(ferry_stream_close(map), 0); /* before anything was asked for */
        CHECK_INT(freed(), N);
        CHECK_INT(begun, 0);
        /* An error that nobody took is what the close returns. */
        fresh(NULL);
        works[1].result = -EIO;
        map = map_works(tasks, &array, (ferry_map_options){0});
        check_results(map, 1, 1);
        while (!works[1].ended)
            ferry_yield();
        CHECK_INT(ferry_stream_close(map), -EIO);
    }
    return 0;
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static int64_t wait_result(void *arg) {
    intptr_t number;
    return next_result(arg, &number);
}

static int64_t wait_forever(ferry_stream *stream, void *arg) {
    (void)stream;
    (void)arg;
    return ferry_sleep(FERRY_FOREVER);
}

TASK_TEST(stopped) {
    for (int kind = 0; kind < 4; kind++) {
        ferry_event never = FERRY_EVENT_INIT;
        fresh(&never);
        ferry_source source = array;
        if (kind & 2) /* no item ever */
            source = (ferry_source){.stream = ferry_stream_spawn(wait_forever, NULL, NULL)};
        ferry_stream *map = map_works(kind & 1, &source, (ferry_map_options){.concurrency = 2});
        ferry_future *consumer = ferry_spawn(wait_result, map);
        until_begun(kind & 2 ? 0 : 2);
        while (((struct ferry__task *)consumer)->state == FERRY__TASK_NEW || !task_parked(consumer))
            ferry_yield();
        ferry_stream_stop(map);
        CHECK_INT(ferry_await(consumer), FERRY_ECLOSED);
        check_end(map, FERRY_ECLOSED);
        CHECK_INT(ferry_stream_send(map, NULL), -EINVAL);
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(begun, kind & 2 ? 0 : 2);
        CHECK_INT(running, 0);
        CHECK_INT(freed(), kind & 2 ? 0 : N);
    }
    return 0;
}

/* Between the look and the start of a task: here by the source itself. */
struct stopper {
    ferry_stream *map;
    int calls;
};

static int64_t stop_and_go_on(void *arg, void **item) {
    struct stopper *s = arg;
    ferry_stream_stop(s->map);
    *item = items[s->calls++];
    return 0;
}

TASK_TEST(stopped_by_its_source) {
    for (int tasks = 0; tasks < 2; tasks++) {
        ferry_event never = FERRY_EVENT_INIT;
        struct stopper s = {0};
        ferry_source source = {.next = stop_and_go_on, .arg = &s};
        fresh(&never);
        s.map = map_works(tasks, &source, (ferry_map_options){.ahead = 3});
        check_end(s.map, FERRY_ECLOSED);
        settle();
        CHECK_INT(begun, 0);
        CHECK_INT(ferry_stream_close(s.map), 0);
        CHECK_INT(freed(), s.calls);
    }
    return 0;
}

static int64_t leaves_a_map(void *arg) {
    ferry_stream **maps = arg;
    for (int tasks = 0; tasks < 2; tasks++) {
        maps[tasks] = map_works(tasks, &(ferry_source){.items = items + 10 * tasks, .n = 10},
                                (ferry_map_options){.concurrency = 2});
        check_results(maps[tasks], 10 * tasks + 1, 10 * tasks + 1);
    }
    return 0;
}

static void finalised_at_shutdown(void **state) {
    (void)state;
    ferry_event never = FERRY_EVENT_INIT;
    ferry_stream *maps[2];
    fresh(&never);
    works[0].may_end = works[10].may_end = NULL;
    assert_int_equal(ferry_run(leaves_a_map, maps), 0);
    assert_int_equal(running, 0);
    for (int i = 0; i < 2; i++) {
        check_end(maps[i], FERRY_ECLOSED);
        assert_int_equal(ferry_stream_close(maps[i]), 0);
    }
    assert_int_equal(freed(), N - 2);
}

static _Atomic(void *) interrupted_item;

static void note_item(void *item) {
    atomic_store(&interrupted_item, item);
}

static int64_t until_interrupted(void *item) {
    (void)item;
    atomic_fetch_add(&begun, 1);
    /* Else it might see the request, and end, before the hook's turn comes. */
    while (!atomic_load(&interrupted_item))
        sched_yield();
    return ferry_checkpoint();
}

TASK_TEST(interrupt_hook) {
    fresh(NULL);
    atomic_store(&interrupted_item, NULL);
    ferry_stream *map =
        ferry_map_submit(NULL, until_interrupted, &array,
                         &(ferry_map_options){.concurrency = 1, .interrupt = note_item});
    CHECK_INT(ferry_stream_start(map), 0);
    until_begun(1);
    CHECK_INT(ferry_stream_close(map), 0);
    CHECK(atomic_load(&interrupted_item) == &works[0]);
    CHECK_INT(begun, 1);
    return 0;
}

static int64_t nested(void *arg) {
    ferry_stream *map =
        ferry_map_submit(arg, work_on, &array, &(ferry_map_options){.item_free = free_work});
    check_results(map, 1, N);
    check_end(map, FERRY_END);
    return ferry_stream_close(map);
}

TASK_TEST(in_a_pool_of_one) {
    ferry_executor *pool = make_pool(1, NULL);
    fresh(NULL);
    CHECK_INT(ferry_await(ferry_submit(pool, nested, pool)), 0);
    end_pool(pool);
    return 0;
}

static int wait_for_result(void *arg) {
    return (int)wait_result(arg);
}

static void from_a_thread(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(3, NULL);
    for (int round = 0; round < 10; round++) {
        fresh(NULL);
        assert_int_equal(nested(pool), 0);
    }
    for (int cancel = 0; cancel < 2; cancel++) {
        ferry_event never = FERRY_EVENT_INIT;
        fresh(&never);
        ferry_stream *map =
            ferry_map_submit(pool, work_on, &array, &(ferry_map_options){.item_free = free_work});
        struct waiting w;
        begin_waiting(&w, wait_for_result, map);
        if (cancel)
            ferry_scope_cancel(&w.scope);
        else
            ferry_stream_stop(map);
        pthread_join(w.thread, NULL);
        assert_int_equal(w.rc, cancel ? -ECANCELED : FERRY_ECLOSED);
        assert_int_equal(ferry_stream_close(map), 0);
        assert_int_equal(freed(), N);
    }
    end_pool(pool);
}

static void check_refused(ferry_stream *map, const char *why) {
    CHECK(map == NULL);
    CHECK_INT(errno, EINVAL);
    CHECK(strstr(ferry_errmsg(), why));
    errno = 0;
}

static void refused(void **state) {
    (void)state;
    ferry_executor *here;
    assert_int_equal(ferry_inline_new(&here), 0);
    struct counter c = {0};
    check_refused(ferry_map_submit(NULL, NULL, &array, NULL), "function");
    check_refused(ferry_map_submit(NULL, work_on, NULL, NULL), "source");
    check_refused(ferry_map_submit(NULL, work_on, &(ferry_source){.n = 3}, NULL), "source");
    check_refused(ferry_map_submit(NULL, work_on,
                                   &(ferry_source){.items = items, .next = count_up, .arg = &c},
                                   NULL),
                  "source");
    check_refused(ferry_map_submit(NULL, work_on, &array, &(ferry_map_options){.concurrency = -1}),
                  "concurrency");
    check_refused(ferry_map_submit(NULL, work_on, &array, &(ferry_map_options){.flags = 2}),
                  "FERRY_COLLECT");
    check_refused(ferry_map_submit(here, work_on, &array, NULL), "pool");
    check_refused(ferry_map_spawn(work_on, &array, NULL), "loop");
    check_refused(ferry_map_submit(NULL, work_on, &array, &(ferry_map_options){.ahead = SIZE_MAX}),
                  "ahead");
    ferry_executor_free(here);
}

/* ---- Without memory -------------------------------------------------------------------------- */

static int64_t use_one(void *arg) {
    bool tasks = arg != NULL;
    struct counter c = {.last = N, .end = FERRY_END};
    ferry_source source = {.next = count_up, .arg = &c};
    fresh(NULL);
    errno = 0;
    ferry_stream *map = map_works(tasks, &source, (ferry_map_options){.concurrency = 2});
    if (!map) {
        CHECK_INT(errno, ENOMEM);
        return 0;
    }
    intptr_t number;
    int64_t rc;
    int given = 0;
    while ((rc = next_result(map, &number)) >= 0)
        CHECK_INT(rc, ++given);
    CHECK(rc == FERRY_END ? given == N : oom_hit() && (rc == -ENOMEM || rc == -EAGAIN));
    oom_never();
    given += number > 0; /* with its error */
    rc = ferry_stream_close(map);
    CHECK(rc == 0 || (oom_hit() && (rc == -ENOMEM || rc == -EAGAIN)));
    CHECK_INT(given + freed(), c.taken);
    return 0;
}

static void out_of_memory(void **state) {
    (void)state;
    sweep_memory(use_one);
}

/* ---- Any moment ------------------------------------------------------------------------------ */

static int64_t short_work(void *item) {
    return NUMBER(item) % 7 == 0 ? ferry_yield() : NUMBER(item);
}

static void one_round(void *pool, int who, unsigned *seed) {
    (void)who;
    struct numbers *n = calloc(1, sizeof *n);
    n->last = 1 + rand_r(seed) % 20;
    ferry_stream_options between = {.capacity = (size_t)rand_r(seed) % 3, .arg_free = free};
    ferry_source source = {.stream = ferry_stream_submit(pool, send_numbers, n, &between)};
    ferry_map_options options = {.concurrency = 1 + rand_r(seed) % 4};
    bool tasks = rand_r(seed) % 2 && ferry_loop_current();
    ferry_stream *map = tasks ? ferry_map_spawn(short_work, &source, &options)
                              : ferry_map_submit(pool, short_work, &source, &options);
    int64_t rc = 0;
    intptr_t wanted = 1;
    for (int most_calls = rand_r(seed) % 25; most_calls > 0 && rc >= 0; most_calls--) {
        void *item;
        rc = ferry_stream_next_for(map, &item, rand_r(seed) % 8 ? FERRY_FOREVER : 0);
        if (rc >= 0)
            CHECK_INT(NUMBER(item), wanted++);
        else if (rc == -ETIMEDOUT)
            rc = 0;
        else
            CHECK(rc == FERRY_END || rc == -ECANCELED || rc == FERRY_EJOBCANCELED);
    }
    if (rand_r(seed) % 4 == 0)
        ferry_stream_stop(map);
    rc = ferry_stream_close(map);
    CHECK(rc == 0 || rc == FERRY_EJOBCANCELED || rc == -ECANCELED);
}

static void storm(void **state) {
    (void)state;
    storm_run_on_pool(3, 4, 2, 4, support_slow() ? 20 : 200, one_round);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("EXE-17 results in the order of the items", results_in_order),
        CASE("so many at a time, and no more ahead than that", bounds),
        CASE("EXE-17 an error at its place, after the results before", an_error_at_its_place),
        CASE("EXE-17 after an error what hasn't begun never will", an_error_stops_the_others),
        CASE("errors collected", errors_collected),
        CASE("EXE-17 the consumer times out: not begun, cancelled; running, joined",
             the_consumer_times_out),
        CASE("EXE-17 a job times out before its consumer does: nothing is taken",
             the_job_times_out_first),
        CASE("a time-out is no end", a_time_out_is_no_end),
        CASE("leaving early", leaving_early),
        CASE("CHN-12 stopped by a third party", stopped),
        CASE("CHN-12 stopped while an item is being taken", stopped_by_its_source),
        CASE("CHN-12 finalised at the shutdown of its loop", finalised_at_shutdown),
        CASE("a job's interrupt hook gets the item", interrupt_hook),
        CASE("EXE-14 in a pool of one thread", in_a_pool_of_one),
        CASE("for a thread, which may be cancelled", from_a_thread),
        CASE("what can't be made is refused", refused),
        CASE("out of memory at every allocation", out_of_memory),
        CASE("closed, stopped and cancelled at any moment", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

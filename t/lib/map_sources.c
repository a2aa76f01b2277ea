/* Map: every kind of source, and when items are taken from it. */
#include "config.h"

#include "map.h"
#include "waiters.h"

TASK_TEST(from_a_function) {
    for (int tasks = 0; tasks < 2; tasks++) {
        struct counter c = {.last = N, .end = FERRY_END};
        ferry_source source = {.next = count_up, .arg = &c};
        fresh(NULL);
        ferry_stream *map =
            map_works(tasks, &source, (ferry_map_options){.concurrency = 2, .ahead = 4});
        for (int i = 1; i <= N; i++) {
            check_results(map, i, i);
            CHECK(c.taken >= i && c.taken <= i + 3);
        }
        check_end(map, FERRY_END);
        CHECK_INT(ferry_stream_close(map), 0);

        /* Its error comes after the results. */
        c = (struct counter){.last = 3, .end = -ENODATA};
        map = map_works(tasks, &source, (ferry_map_options){.ahead = 10});
        check_results(map, 1, 3);
        check_end(map, -ENODATA);
        CHECK_STR(ferry_errmsg(), "no more paper");
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(freed(), 0);
    }
    return 0;
}

static int64_t send_items(ferry_stream *stream, void *arg) {
    struct counter *c = arg;
    int64_t rc = 0;
    while (rc == 0 && c->taken < c->last) {
        rc = ferry_stream_send(stream, items[c->taken]);
        c->taken += rc == 0;
    }
    return rc < 0 ? rc : c->end;
}

TASK_TEST(from_a_stream) {
    for (int kind = 0; kind < 8; kind++) {
        struct counter c = {.last = N};
        ferry_stream_options options = {.capacity = kind & 4 ? 3 : 0, .item_free = free_work};
        ferry_stream *stream = kind & 2 ? ferry_stream_submit(NULL, send_items, &c, &options)
                                        : ferry_stream_spawn(send_items, &c, &options);
        ferry_source source = {.stream = stream};
        fresh(NULL);
        ferry_stream *map = map_works(kind & 1, &source, (ferry_map_options){.concurrency = 4});
        check_results(map, 1, N);
        check_end(map, FERRY_END);
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(freed(), 0);

        c = (struct counter){.last = 3, .end = -ENODATA};
        fresh(NULL);
        stream = kind & 2 ? ferry_stream_submit(NULL, send_items, &c, &options)
                          : ferry_stream_spawn(send_items, &c, &options);
        source = (ferry_source){.stream = stream};
        map = map_works(kind & 1, &source, (ferry_map_options){0});
        check_results(map, 1, 3);
        check_end(map, -ENODATA);
        CHECK_INT(ferry_stream_close(map), -ENODATA);
    }
    return 0;
}

static int64_t take_all(void *arg) {
    ferry_stream *map = arg;
    int64_t rc, sum = 0;
    intptr_t number;
    while ((rc = next_result(map, &number)) >= 0)
        sum += number;
    CHECK_INT(rc, FERRY_END);
    return sum;
}

/* While the consumer waits for the first result, items that come are started: of a rendezvous. */
TASK_TEST(items_come_while_waiting) {
    for (int kind = 0; kind < 4; kind++) {
        ferry_event go = FERRY_EVENT_INIT;
        struct counter c = {.last = N};
        fresh(&go);
        ferry_stream *stream = kind & 2 ? ferry_stream_submit(NULL, send_items, &c, NULL)
                                        : ferry_stream_spawn(send_items, &c, NULL);
        ferry_source source = {.stream = stream};
        ferry_stream *map =
            map_works(kind & 1, &source, (ferry_map_options){.concurrency = 4, .ahead = 6});
        ferry_future *consumer = ferry_spawn(take_all, map);
        until_begun(4);
        while (c.taken < 6)
            ferry_yield();
        settle();
        CHECK_INT(c.taken, 6);
        CHECK_INT(begun, 4);
        ferry_event_set(&go);
        CHECK_INT(ferry_await(consumer), N * (N + 1) / 2);
        CHECK_INT(ferry_stream_close(map), 0);
        CHECK_INT(most, 4);
    }
    return 0;
}

struct slow_source {
    ferry_event more;
    int sent;
};

static int64_t send_slowly(ferry_stream *stream, void *arg) {
    struct slow_source *s = arg;
    int rc = 0;
    for (; rc == 0 && s->sent < 2; s->sent++) {
        rc = ferry_stream_send(stream, items[s->sent]);
        if (rc == 0)
            rc = ferry_event_wait(&s->more);
    }
    return rc;
}

/* While the source has nothing, results are given. */
TASK_TEST(results_come_while_the_source_is_slow) {
    for (int tasks = 0; tasks < 2; tasks++) {
        struct slow_source s = {.more = FERRY_EVENT_INIT};
        fresh(NULL);
        ferry_source source = {.stream = ferry_stream_spawn(send_slowly, &s, NULL)};
        ferry_stream *map = map_works(tasks, &source, (ferry_map_options){0});
        check_results(map, 1, 1);
        ferry_event_set(&s.more);
        check_results(map, 2, 2);
        check_end(map, FERRY_END);
        CHECK_INT(ferry_stream_close(map), 0);
    }
    return 0;
}

static int64_t then_double(void *item) {
    return 2 * ((struct work *)item)->number;
}

/* The results of one map are the items of the next. */
TASK_TEST(from_a_map) {
    for (int tasks = 0; tasks < 2; tasks++) {
        struct counter c = {.last = N};
        fresh(NULL);
        ferry_source source = {.stream = ferry_stream_spawn(send_items, &c, NULL)};
        ferry_stream *first = map_works(tasks, &source, (ferry_map_options){.concurrency = 2});
        source = (ferry_source){.stream = first};
        ferry_stream *second = ferry_map_submit(NULL, then_double, &source, NULL);
        for (int i = 1; i <= N; i++) {
            intptr_t number;
            CHECK_INT(next_result(second, &number), 2 * i);
            CHECK_INT(number, i);
        }
        check_end(second, FERRY_END);
        CHECK_INT(ferry_stream_close(second), 0);

        /* One that gave up in the first stage: its error comes after the results before it. */
        ferry_event never = FERRY_EVENT_INIT;
        fresh(NULL);
        works[3].result = -EIO;
        works[4].may_end = &never;
        source = array;
        first = map_works(tasks, &source, (ferry_map_options){.flags = FERRY_COLLECT});
        source = (ferry_source){.stream = first};
        second = map_works(1 - tasks, &source, (ferry_map_options){0});
        intptr_t number;
        for (int i = 1; i <= 3; i++)
            CHECK_INT(next_result(second, &number), i);
        check_end(second, -EIO);
        CHECK_INT(ferry_stream_close(second), 0);
        CHECK_INT(freed(), N - 3);
    }
    return 0;
}

TASK_TEST(no_items) {
    ferry_source none = {0};
    fresh(NULL);
    for (int tasks = 0; tasks < 2; tasks++) {
        ferry_stream *map = map_works(tasks, &none, (ferry_map_options){0});
        check_end(map, FERRY_END);
        CHECK_INT(ferry_stream_close(map), 0);
    }
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("items from a function", from_a_function),
        CASE("items from a stream", from_a_stream),
        CASE("items that come while a result is waited for are started", items_come_while_waiting),
        CASE("results come while the source has no item", results_come_while_the_source_is_slow),
        CASE("items from another map", from_a_map),
        CASE("no items", no_items),
    };
    return SUPPORT_RUN(tests);
}

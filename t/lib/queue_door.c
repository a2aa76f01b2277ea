/* A queue's door, where puts leave items without meeting the gets: nobody may notice it, but by its
 * speed. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "queue_core.h"
#include "support.h"

enum { CAPACITY = 300 };

static void *number(size_t i) {
    return (void *)(uintptr_t)i;
}

static void put(ferry_queue *queue, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        assert_int_equal(ferry_queue_try_put(queue, number(i)), 0);
}

static void get(ferry_queue *queue, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        void *item;
        assert_int_equal(ferry_queue_try_get(queue, &item), 0);
        assert_ptr_equal(item, number(i));
    }
}

static void first_come_first_served(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(CAPACITY, NULL);
    put(queue, 1, 51);
    assert_true(queue->door_open);
    assert_true(queue->door.n > 0);
    assert_int_equal(ferry_queue_length(queue), 50);
    get(queue, 1, 30);
    assert_int_equal(ferry_queue_length(queue), 21);
    put(queue, 51, 101);
    get(queue, 30, 101);
    void *item;
    assert_int_equal(ferry_queue_try_get(queue, &item), -EAGAIN);
    assert_false(queue->door_open);
    assert_int_equal(ferry_queue_free(queue), 0);
}

static void bound_holds(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(CAPACITY, NULL);
    for (size_t round = 0; round < 5; round++) {
        put(queue, 0, CAPACITY);
        assert_int_equal(ferry_queue_try_put(queue, queue), -EAGAIN);
        assert_int_equal(ferry_queue_length(queue), CAPACITY);
        get(queue, 0, 37 * round);
        put(queue, CAPACITY, CAPACITY + 37 * round);
        assert_int_equal(ferry_queue_try_put(queue, queue), -EAGAIN);
        get(queue, 37 * round, CAPACITY + 37 * round);
    }
    assert_int_equal(ferry_queue_free(queue), 0);
}

static size_t discarded;

static void discard(void *item) {
    assert_ptr_equal(item, number(discarded));
    discarded++;
}

static void discarded_in_order(void **state) {
    (void)state;
    for (int by_close = 0; by_close < 2; by_close++) {
        discarded = 0;
        ferry_queue *queue =
            ferry_queue_new(CAPACITY, &(ferry_queue_options){.item_free = discard});
        put(queue, 0, 100);
        assert_true(queue->door.n > 0);
        if (by_close) {
            ferry_queue_close(queue, true);
            assert_int_equal(discarded, 100);
        }
        assert_int_equal(ferry_queue_free(queue), 0);
        assert_int_equal(discarded, 100);
    }
}

static void closed_with_items_at_the_door(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(CAPACITY, NULL);
    put(queue, 0, 100);
    assert_true(queue->door.n > 0);
    ferry_queue_close(queue, false);
    assert_int_equal(ferry_queue_try_put(queue, queue), FERRY_ECLOSED);
    get(queue, 0, 100);
    void *item;
    assert_int_equal(ferry_queue_try_get(queue, &item), FERRY_ECLOSED);
    assert_int_equal(ferry_queue_free(queue), 0);
}

static void unfinished_at_the_door(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(CAPACITY, NULL);
    put(queue, 0, 100);
    assert_true(queue->door.n > 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(ferry_queue_task_done(queue), 0);
    assert_int_equal(ferry_queue_task_done(queue), -EINVAL);
    assert_int_equal(ferry_queue_join(queue), 0);
    put(queue, 100, 200);
    assert_int_equal(ferry_queue_length(queue), 200);
    assert_int_equal(queue->unfinished + queue->door.n, 100);
    get(queue, 0, 200);
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* A waiting putter has the place that comes free; nobody passes it by the door. */
static int64_t puts_one(void *queue) {
    return ferry_queue_put(queue, number(CAPACITY));
}

static int64_t no_way_past_a_putter(void *unused) {
    (void)unused;
    ferry_queue *queue = ferry_queue_new(CAPACITY, NULL);
    for (size_t i = 0; i < CAPACITY; i++)
        CHECK_INT(ferry_queue_put(queue, number(i)), 0);
    ferry_future *putter = ferry_spawn(puts_one, queue);
    ferry_yield();
    CHECK(!queue->door_open);
    void *item;
    CHECK_INT(ferry_queue_get(queue, &item), 0);
    CHECK_INT(ferry_queue_try_put(queue, queue), -EAGAIN);
    CHECK_INT(ferry_await(putter), 0);
    for (size_t i = 1; i <= CAPACITY; i++) {
        CHECK_INT(ferry_queue_get(queue, &item), 0);
        CHECK(item == number(i));
    }
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

static void waiting_putter(void **state) {
    (void)state;
    assert_int_equal(ferry_run(no_way_past_a_putter, NULL), 0);
}

static size_t one_byte(const void *item) {
    (void)item;
    return 1;
}

static int by_address(const void *a, const void *b) {
    return (a > b) - (a < b);
}

static void only_plain_queues_have_one(void **state) {
    (void)state;
    const ferry_queue_options options[] = {{.order = FERRY_LIFO},
                                           {.order = FERRY_PRIORITY, .compare = by_address},
                                           {.item_size = one_byte, .bytes_max = 1000}};
    for (int i = 0; i < 3; i++) {
        ferry_queue *queue = ferry_queue_new(CAPACITY, &options[i]);
        put(queue, 0, 100);
        assert_false(queue->door_open);
        assert_int_equal(ferry_queue_free(queue), 0);
    }
}

/* Any order of calls, against a plain count: what goes in comes out in order, all bounds hold. */
static void against_a_model(void **state) {
    (void)state;
    unsigned seed = 1;
    for (size_t capacity = 1; capacity < 5000; capacity = capacity * 3 + 1) {
        ferry_queue *queue = ferry_queue_new(capacity, NULL);
        size_t in = 0, out = 0, done = 0;
        for (int i = 0; i < 3000; i++) {
            size_t many = (size_t)rand_r(&seed) % (capacity + 2);
            int what = rand_r(&seed) % 5;
            for (; many > 0 && what < 4; many--) {
                void *item;
                if (what < 2) {
                    int rc = ferry_queue_try_put(queue, number(in));
                    assert_int_equal(rc, in - out < capacity ? 0 : -EAGAIN);
                    in += rc == 0;
                } else if (what == 2) {
                    int rc = ferry_queue_try_get(queue, &item);
                    assert_int_equal(rc, in > out ? 0 : -EAGAIN);
                    if (rc == 0)
                        assert_ptr_equal(item, number(out++));
                } else {
                    int rc = ferry_queue_task_done(queue);
                    assert_int_equal(rc, in > done ? 0 : -EINVAL);
                    done += rc == 0;
                }
            }
            assert_int_equal(ferry_queue_length(queue), in - out);
        }
        assert_int_equal(ferry_queue_free(queue), 0);
    }
}

/* ---- Threads --------------------------------------------------------------------------------- */

enum { PRODUCERS = 3, CONSUMERS = 2 };

struct storm {
    ferry_queue *queue;
    size_t each;
    _Atomic size_t next_producer;
    _Atomic uint64_t sum;
};

static void *produces(void *arg) {
    struct storm *storm = arg;
    size_t me = atomic_fetch_add(&storm->next_producer, 1);
    for (size_t i = 1; i <= storm->each; i++) {
        void *item = number(i * PRODUCERS + me);
        if (i % 7 == 0)
            while (ferry_queue_try_put(storm->queue, item) != 0)
                sched_yield();
        else
            CHECK_INT(ferry_queue_put(storm->queue, item), 0);
    }
    return NULL;
}

static void *consumes(void *arg) {
    struct storm *storm = arg;
    size_t latest[PRODUCERS] = {0};
    uint64_t sum = 0;
    void *item;
    while (ferry_queue_get(storm->queue, &item) == 0) {
        size_t from = (uintptr_t)item % PRODUCERS, i = (uintptr_t)item / PRODUCERS;
        CHECK(i > latest[from]);
        latest[from] = i;
        sum += i;
        CHECK(ferry_queue_length(storm->queue) <= storm->queue->capacity);
        CHECK_INT(ferry_queue_task_done(storm->queue), 0);
    }
    atomic_fetch_add(&storm->sum, sum);
    return NULL;
}

static int64_t consumes_as_a_task(void *arg) {
    consumes(arg);
    return 0;
}

static void *runs_a_loop(void *arg) {
    CHECK_INT(ferry_run(consumes_as_a_task, arg), 0);
    return NULL;
}

static void storm(size_t capacity) {
    struct storm storm = {.queue = ferry_queue_new(capacity, NULL),
                          .each = support_slow() ? 2000 : 30000};
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    for (int i = 0; i < PRODUCERS; i++)
        pthread_create(&producers[i], NULL, produces, &storm);
    for (int i = 0; i < CONSUMERS; i++)
        pthread_create(&consumers[i], NULL, i == 0 ? runs_a_loop : consumes, &storm);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i], NULL);
    assert_int_equal(ferry_queue_join(storm.queue), 0);
    ferry_queue_close(storm.queue, false);
    for (int i = 0; i < CONSUMERS; i++)
        pthread_join(consumers[i], NULL);
    assert_int_equal(storm.sum, PRODUCERS * (storm.each * (storm.each + 1) / 2));
    assert_int_equal(ferry_queue_free(storm.queue), 0);
}

static void between_threads(void **state) {
    (void)state;
    storm(16);
    storm(1000);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("items at the door come after those inside, and all in order",
             first_come_first_served),
        CASE("the bound holds, to the item", bound_holds),
        CASE("items at the door are discarded with the others", discarded_in_order),
        CASE("a closed queue gives what was at the door", closed_with_items_at_the_door),
        CASE("task_done and join know of items at the door", unfinished_at_the_door),
        CASE("a waiting putter isn't passed by the door", waiting_putter),
        CASE("only plain queues have a door", only_plain_queues_have_one),
        CASE("any order of calls, against a model", against_a_model),
        CASE("between threads: order, bound, sum", between_threads),
    };
    return SUPPORT_RUN(tests);
}

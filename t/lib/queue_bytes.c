/* Queues bounded by bytes: who gets in, who waits, and who is let in when somebody leaves. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "queue.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

/* An item is its own size. */
static size_t size_of(const void *item) {
    return (size_t)NUMBER(item);
}

static ferry_queue *queue_of(size_t capacity, size_t bytes, int order) {
    return ferry_queue_new(capacity, &(ferry_queue_options){.order = order,
                                                            .compare = by_number,
                                                            .bytes_max = bytes,
                                                            .item_size = size_of});
}

struct putter {
    ferry_queue *queue;
    intptr_t item;
    int64_t ms;
    ferry_scope scope;
    int rc;
};

static int64_t put(void *arg) {
    struct putter *p = arg;
    ferry_scope_open(&p->scope, FERRY_FOREVER);
    p->rc = ferry_queue_put_for(p->queue, ITEM(p->item), p->ms ? p->ms : FERRY_FOREVER);
    ferry_scope_close(&p->scope, 0);
    return 0;
}

static void bounded_by_bytes(void **state) {
    (void)state;
    for (int order = FERRY_FIFO; order <= FERRY_PRIORITY; order++) {
        ferry_queue *queue = queue_of(4, 100, order);
        assert_int_equal(ferry_queue_put(queue, ITEM(60)), 0);
        assert_int_equal(ferry_queue_try_put(queue, ITEM(41)), -EAGAIN);
        assert_int_equal(ferry_queue_put_for(queue, ITEM(41), 0), -ETIMEDOUT);
        assert_int_equal(ferry_queue_try_put(queue, ITEM(40)), 0);
        assert_int_equal(ferry_queue_bytes(queue), 100);
        assert_int_equal(ferry_queue_try_put(queue, ITEM(1)), -EAGAIN);
        assert_int_equal(ferry_queue_try_put(queue, ITEM(0)), 0); /* takes no room */
        assert_true(got(queue) >= 0);
        assert_true(got(queue) >= 0);
        assert_true(got(queue) >= 0);
        assert_int_equal(ferry_queue_bytes(queue), 0);
        for (int i = 0; i < 4; i++)
            assert_int_equal(ferry_queue_try_put(queue, ITEM(1)), 0);
        assert_int_equal(ferry_queue_try_put(queue, ITEM(1)), -EAGAIN); /* 4 items */
        ferry_queue_close(queue, true);
        assert_int_equal(ferry_queue_bytes(queue), 0);
        assert_int_equal(ferry_queue_free(queue), 0);
    }
}

static void larger_than_the_bound(void **state) {
    (void)state;
    ferry_queue *queue = queue_of(4, 100, FERRY_FIFO);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(1)), 0);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(101)), -EAGAIN);
    assert_int_equal(got(queue), 1);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(INTPTR_MAX)), 0);
    assert_int_equal(ferry_queue_bytes(queue), INTPTR_MAX);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(1)), -EAGAIN);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(-1)), -EAGAIN); /* SIZE_MAX */
    assert_int_equal(got(queue), INTPTR_MAX);
    assert_int_equal(ferry_queue_bytes(queue), 0);
    assert_int_equal(ferry_queue_free(queue), 0);
}

static void counted_only(void **state) {
    (void)state;
    ferry_queue *queue = queue_of(2, 0, FERRY_FIFO);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(INTPTR_MAX)), 0);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(7)), 0);
    assert_int_equal(got(queue), INTPTR_MAX);
    assert_int_equal(ferry_queue_bytes(queue), 7);
    assert_int_equal(ferry_queue_free(queue), 0);
    errno = 0;
    assert_null(ferry_queue_new(2, &(ferry_queue_options){.bytes_max = 5}));
    assert_int_equal(errno, EINVAL);
    assert_true(CHECK(strstr(ferry_errmsg(), "item_size")));
}

/* One that leaves makes room for several; nobody overtakes the first who waits. */
TASK_TEST(let_in_in_turn) {
    ferry_queue *queue = queue_of(100, 100, FERRY_FIFO);
    static const intptr_t sizes[] = {50, 20, 40, 1};
    struct putter p[4];
    ferry_future *f[4];
    CHECK_INT(ferry_queue_put(queue, ITEM(90)), 0);
    CHECK_INT(ferry_queue_put(queue, ITEM(5)), 0);
    for (int i = 0; i < 4; i++) {
        p[i] = (struct putter){.queue = queue, .item = sizes[i]};
        f[i] = ferry_spawn(put, &p[i]);
    }
    UNTIL_PUTTERS(queue, 4); /* 1 would fit */
    CHECK_INT(ferry_queue_try_put(queue, ITEM(1)), -EAGAIN);
    CHECK_INT(got(queue), 90);
    CHECK_INT(ferry_queue_bytes(queue), 75); /* 5, 50, 20 */
    CHECK_INT(PUTTERS(queue), 2);
    CHECK_INT(ferry_queue_try_put(queue, ITEM(1)), -EAGAIN);
    CHECK_INT(got(queue), 5);
    CHECK_INT(PUTTERS(queue), 2); /* 70 and 40 are too much */
    CHECK_INT(got(queue), 50);
    CHECK_INT(ferry_queue_bytes(queue), 61);
    CHECK_INT(PUTTERS(queue), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(p[i].rc, 0);
    }
    CHECK_INT(got(queue), 20);
    CHECK_INT(got(queue), 40);
    CHECK_INT(got(queue), 1);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

/* A big one at the head holds up small ones, until it is cancelled or its time is over. */
TASK_TEST(the_head_gives_up) {
    ferry_queue *queue = queue_of(100, 100, FERRY_FIFO);
    for (int timed = 0; timed < 2; timed++) {
        struct putter big = {.queue = queue, .item = 99, .ms = timed ? 5 : 0};
        struct putter small = {.queue = queue, .item = 10};
        CHECK_INT(ferry_queue_put(queue, ITEM(50)), 0);
        ferry_future *f = ferry_spawn(put, &big);
        UNTIL_PUTTERS(queue, 1);
        ferry_future *g = ferry_spawn(put, &small);
        UNTIL_PUTTERS(queue, 2);
        if (!timed)
            ferry_cancel(f);
        CHECK_INT(ferry_await(g), 0);
        CHECK_INT(small.rc, 0);
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(big.rc, timed ? -ETIMEDOUT : -ECANCELED);
        CHECK_INT(ferry_queue_bytes(queue), 60);
        CHECK_INT(got(queue), 50);
        CHECK_INT(got(queue), 10);
    }
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

/* A waiting getter gets any item, whatever its size: it isn't inside. */
static int64_t get(void *arg) {
    void *item = NULL;
    CHECK_INT(ferry_queue_get(arg, &item), 0);
    return NUMBER(item);
}

TASK_TEST(handed_to_a_getter) {
    ferry_queue *queue = queue_of(1, 10, FERRY_FIFO);
    ferry_future *f = ferry_spawn(get, queue);
    until_waiters(&queue->lock, &queue->get_first, 1);
    CHECK_INT(ferry_queue_try_put(queue, ITEM(1000)), 0);
    CHECK_INT(ferry_queue_bytes(queue), 0);
    CHECK_INT(ferry_queue_try_put(queue, ITEM(10)), 0);
    CHECK_INT(ferry_await(f), 1000);
    CHECK_INT(got(queue), 10);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

/* A thread and a task of another loop wait; the one at the head leaves or is served. */
static void from_both_worlds(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool cancel = i >= 2;
        ferry_queue *queue = queue_of(100, 100, FERRY_FIFO);
        struct putter big = {.queue = queue, .item = 80};
        struct putter small = {.queue = queue, .item = 20};
        assert_int_equal(ferry_queue_put(queue, ITEM(30)), 0);
        pthread_t first = start_outside(i % 2, put, &big);
        UNTIL_PUTTERS(queue, 1);
        pthread_t second = start_outside(1 - i % 2, put, &small);
        UNTIL_PUTTERS(queue, 2);
        if (cancel)
            ferry_scope_cancel(&big.scope);
        else
            assert_int_equal(got(queue), 30);
        pthread_join(first, NULL);
        pthread_join(second, NULL);
        assert_int_equal(big.rc, cancel ? -ECANCELED : 0);
        assert_int_equal(small.rc, 0);
        assert_int_equal(ferry_queue_bytes(queue), cancel ? 50 : 100);
        assert_int_equal(ferry_queue_free(queue), 0);
    }
}

/* More small items wait than there are places: they get in as places become free, none is lost. */
TASK_TEST(more_than_the_places) {
    enum { PLACES = 4096, MORE = 50 };
    static struct putter p[MORE];
    static ferry_future *f[MORE];
    ferry_queue *queue = queue_of(100000, PLACES, FERRY_FIFO);
    CHECK_INT(ferry_queue_put(queue, ITEM(PLACES)), 0);
    for (int i = 1; i < PLACES; i++)
        CHECK_INT(ferry_queue_put(queue, ITEM(0)), 0);
    for (int i = 0; i < MORE; i++) {
        p[i] = (struct putter){.queue = queue, .item = 1};
        f[i] = ferry_spawn(put, &p[i]);
    }
    UNTIL_PUTTERS(queue, MORE);
    CHECK_INT(got(queue), PLACES); /* room for the bytes of all, and one place */
    CHECK_INT(queue->store.room, PLACES);
    for (size_t i = 1; i < MORE; i++) {
        CHECK_INT(PUTTERS(queue), MORE - i);
        CHECK_INT(got(queue), 0);
    }
    CHECK_INT(PUTTERS(queue), 0);
    CHECK_INT(ferry_queue_length(queue), PLACES);
    for (int i = 0; i < MORE; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    CHECK_INT(ferry_queue_bytes(queue), MORE);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

/* Putters of all sizes and getters, cancelled at any moment: never more inside than the bound. */
struct traffic {
    ferry_queue *queue;
    _Atomic int64_t in, out;
};

static void one_round(void *arg, int who, unsigned *seed) {
    struct traffic *t = arg;
    intptr_t size = 1 + rand_r(seed) % 60;
    if (who % 2) {
        if (ferry_queue_put_for(t->queue, ITEM(size), rand_r(seed) % 2) == 0)
            atomic_fetch_add(&t->in, size);
    } else {
        void *item;
        if (ferry_queue_get_for(t->queue, &item, rand_r(seed) % 2) == 0)
            atomic_fetch_add(&t->out, NUMBER(item));
    }
    CHECK(ferry_queue_bytes(t->queue) <= 100);
}

static void storm(void **state) {
    (void)state;
    struct traffic t = {.queue = queue_of(8, 100, FERRY_FIFO)};
    storm_run(4, 2, 4, support_slow() ? 100 : 1000, one_round, &t);
    assert_true(t.in > 0 && t.out > 0);
    assert_int_equal(t.in - t.out, ferry_queue_bytes(t.queue));
    assert_int_equal(ferry_queue_free(t.queue), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("bytes_max bounds the sum of the sizes, in every order", bounded_by_bytes),
        CASE("an item larger than the bound gets in alone", larger_than_the_bound),
        CASE("without bytes_max sizes are only counted", counted_only),
        CASE("QUE-06 who waits by bytes is let in, in turn", let_in_in_turn),
        CASE("QUE-04 a big item that gives up lets those behind it in", the_head_gives_up),
        CASE("QUE-06 a waiting getter gets an item of any size", handed_to_a_getter),
        CASE("QUE-14 threads and tasks wait by bytes", from_both_worlds),
        CASE("more wait than there are places made", more_than_the_places),
        CASE("QUE-14 bounded by bytes and cancelled at any moment: nothing lost", storm),
    };
    return SUPPORT_RUN(tests);
}

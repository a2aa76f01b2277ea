/* What a queue keeps its items in: their order, growth, and memory running out. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oom.h"
#include "queue.h"
#include "support.h"

static void check_order(int order, const intptr_t *wanted) {
    static const intptr_t items[] = {1, 3, 2};
    ferry_queue *queue =
        ferry_queue_new(3, &(ferry_queue_options){.order = order, .compare = by_number});
    assert_non_null(queue);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_queue_put(queue, ITEM(items[i])), 0);
    assert_int_equal(ferry_queue_length(queue), 3);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(4)), -EAGAIN);
    for (int i = 0; i < 3; i++)
        assert_int_equal(got(queue), wanted[i]);
    assert_int_equal(got(queue), -EAGAIN);
    assert_int_equal(ferry_queue_free(queue), 0);
}

static void orders(void **state) {
    (void)state;
    check_order(FERRY_FIFO, (const intptr_t[]){1, 3, 2});
    check_order(FERRY_LIFO, (const intptr_t[]){2, 3, 1});
    check_order(FERRY_PRIORITY, (const intptr_t[]){1, 2, 3});
}

struct ranked {
    int rank;
    int turn;
};

static int by_rank(const void *a, const void *b) {
    const struct ranked *x = a;
    const struct ranked *y = b;
    return x->rank - y->rank;
}

/* Equal ones come in the order of their puts, also with gets in between. */
static void priority_is_stable(void **state) {
    (void)state;
    enum { N = 500 };
    static struct ranked items[N];
    unsigned seed = 3;
    ferry_queue *queue = ferry_queue_new(
        N, &(ferry_queue_options){.order = FERRY_PRIORITY, .compare = by_rank});
    int put_so_far = 0;
    int last_of_rank[5] = {-1, -1, -1, -1, -1};
    while (put_so_far < N || ferry_queue_length(queue) > 0) {
        if (put_so_far < N && rand_r(&seed) % 3 > 0) {
            items[put_so_far] = (struct ranked){rand_r(&seed) % 5, put_so_far};
            assert_int_equal(ferry_queue_put(queue, &items[put_so_far]), 0);
            put_so_far++;
            continue;
        }
        void *item;
        if (ferry_queue_try_get(queue, &item) != 0)
            continue;
        struct ranked *r = item;
        assert_true(r->turn > last_of_rank[r->rank]);
        last_of_rank[r->rank] = r->turn;
        /* Nothing that is still inside should have come before. */
        for (int i = 0; i < put_so_far; i++) {
            if (items[i].turn >= 0 && &items[i] != r)
                assert_true(items[i].rank >= r->rank);
        }
        r->turn = -1;
    }
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* More items than the first block holds, in waves, so that places are used again. */
static void check_growth(int order) {
    enum { MOST = 100000 };
    ferry_queue *queue = ferry_queue_new(
        MOST, &(ferry_queue_options){.order = order, .compare = by_number});
    intptr_t next_in = 0;
    intptr_t next_out = 0;
    for (intptr_t wave = 3000; wave < MOST; wave += wave / 2) {
        while ((intptr_t)ferry_queue_length(queue) < wave)
            assert_int_equal(ferry_queue_put(queue, ITEM(next_in++)), 0);
        if (order == FERRY_LIFO) {
            for (intptr_t i = next_in - 1; i >= 0; i--)
                assert_int_equal(got(queue), i);
            next_in = 0;
        } else {
            for (intptr_t i = 0; i < wave / 2; i++)
                assert_int_equal(got(queue), next_out++);
        }
    }
    while (ferry_queue_length(queue) > 0)
        assert_int_equal(got(queue), order == FERRY_LIFO ? --next_in : next_out++);
    assert_int_equal(ferry_queue_free(queue), 0);
}

static void growth(void **state) {
    (void)state;
    check_growth(FERRY_FIFO);
    check_growth(FERRY_LIFO);
    check_growth(FERRY_PRIORITY);
}

static void full_after_growth(void **state) {
    (void)state;
    enum { MOST = 10001 };
    ferry_queue *queue = ferry_queue_new(MOST, NULL);
    for (intptr_t i = 0; i < MOST; i++)
        assert_int_equal(ferry_queue_try_put(queue, ITEM(i)), 0);
    assert_int_equal(ferry_queue_try_put(queue, ITEM(MOST)), -EAGAIN);
    assert_int_equal(ferry_queue_length(queue), MOST);
    assert_int_equal(queue->store.room, MOST);
    for (intptr_t i = 0; i < MOST; i++)
        assert_int_equal(got(queue), i);
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* Fills and empties a queue that must grow twice. Whatever fails, no item is lost. */
static int fill_and_empty(int order) {
    enum { MOST = 10000 };
    ferry_queue *queue = ferry_queue_new(
        MOST, &(ferry_queue_options){.order = order, .compare = by_number});
    if (!queue) {
        CHECK_INT(errno, ENOMEM);
        return -ENOMEM;
    }
    int failed = 0;
    intptr_t inside = 0;
    while (inside < MOST) {
        int rc = ferry_queue_put(queue, ITEM(inside));
        if (rc == 0) {
            inside++;
            continue;
        }
        CHECK_INT(rc, -ENOMEM);
        CHECK(strstr(ferry_errmsg(), "could not grow"));
        failed = rc;
        if (inside == 4096 || inside == 8192)
            oom_never(); /* the same put again, with memory */
        else
            break;
    }
    CHECK_INT(inside, MOST);
    CHECK_INT(ferry_queue_length(queue), inside);
    for (intptr_t i = 0; i < inside; i++)
        CHECK_INT(got(queue), order == FERRY_LIFO ? inside - 1 - i : i);
    CHECK_INT(ferry_queue_free(queue), 0);
    return failed;
}

static void out_of_memory(void **state) {
    (void)state;
    for (int order = FERRY_FIFO; order <= FERRY_PRIORITY; order++) {
        long blocks = oom_blocks();
        long n = 0;
        for (;; n++) {
            oom_after(n, true);
            int rc = fill_and_empty(order);
            oom_never();
            assert_int_equal(oom_blocks(), blocks);
            if (!oom_hit()) {
                assert_int_equal(rc, 0);
                break;
            }
            assert_int_equal(rc, -ENOMEM);
        }
        assert_int_equal(n, 4); /* the record, and a block each for 4,096, 8,192 and 10,000 items */
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("QUE-01 FIFO, LIFO and priority", orders),
        CASE("QUE-01 priority ties come in the order of their puts", priority_is_stable),
        CASE("growing keeps the order", growth),
        CASE("grown to its capacity it is full", full_after_growth),
        CASE("out of memory at every allocation: no item lost, no leak", out_of_memory),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

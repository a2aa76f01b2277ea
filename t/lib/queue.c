/* Queues within one loop: hand-over, close and join. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "queue.h"
#include "support.h"
#include "waiters.h"

/* What a task or thread wants from a queue, and what came of it. */
struct actor {
    ferry_queue *queue;
    intptr_t item;
    int64_t ms;
    int rc;
};

static int64_t get(void *arg) {
    struct actor *a = arg;
    void *item = ITEM(-1);
    a->rc = ferry_queue_get(a->queue, &item);
    a->item = NUMBER(item);
    return 0;
}

static int64_t get_for(void *arg) {
    struct actor *a = arg;
    void *item = ITEM(-1);
    a->rc = ferry_queue_get_for(a->queue, &item, a->ms);
    a->item = NUMBER(item);
    return 0;
}

static int64_t put(void *arg) {
    struct actor *a = arg;
    a->rc = ferry_queue_put(a->queue, ITEM(a->item));
    return 0;
}

static void null_is_an_item(void **state) {
    (void)state;
    void *item = ITEM(7);
    ferry_queue *queue = ferry_queue_new(1, NULL);
    assert_int_equal(ferry_queue_put(queue, NULL), 0);
    assert_int_equal(ferry_queue_get(queue, &item), 0);
    assert_null(item);
    assert_int_equal(ferry_queue_free(queue), 0);
    assert_int_equal(ferry_queue_free(NULL), 0);
}

static void check_refused(size_t capacity, const ferry_queue_options *options) {
    errno = 0;
    assert_null(ferry_queue_new(capacity, options));
    assert_int_equal(errno, EINVAL);
    assert_true(CHECK(strstr(ferry_errmsg(), "queue's")));
}

static void bad_options(void **state) {
    (void)state;
    check_refused(0, NULL);
    check_refused(SIZE_MAX, NULL);
    check_refused(SIZE_MAX / 64 + 1, NULL);
    check_refused(1, &(ferry_queue_options){.order = FERRY_PRIORITY});
    check_refused(1, &(ferry_queue_options){.order = 3});
    check_refused(1, &(ferry_queue_options){.order = -1});
    ferry_queue *huge = ferry_queue_new(SIZE_MAX / 64, NULL);
    assert_non_null(huge);
    assert_int_equal(ferry_queue_put(huge, ITEM(1)), 0);
    assert_int_equal(ferry_queue_free(huge), 0);
}

TASK_TEST(cancelled_getter_loses_nothing) {
    /* Granted first: it returns 1, and its cancel comes later. */
    ferry_queue *queue = ferry_queue_new(4, NULL);
    struct actor g = {.queue = queue};
    ferry_future *f = ferry_spawn(get, &g);
    UNTIL_GETTERS(queue, 1);
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    CHECK_INT(ferry_queue_put(queue, ITEM(2)), 0);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(g.rc, 0);
    CHECK_INT(g.item, 1);
    CHECK_INT(got(queue), 2);

    /* Cancelled first: the next get has 1. */
    f = ferry_spawn(get, &g);
    UNTIL_GETTERS(queue, 1);
    ferry_cancel(f);
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    CHECK_INT(ferry_queue_put(queue, ITEM(2)), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(g.rc, -ECANCELED);
    CHECK_INT(g.item, -1);
    CHECK_INT(got(queue), 1);
    CHECK_INT(got(queue), 2);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

TASK_TEST(cancelled_getter_is_passed) {
    ferry_queue *queue = ferry_queue_new(4, NULL);
    struct actor g1 = {.queue = queue};
    struct actor g2 = {.queue = queue};
    ferry_future *f1 = ferry_spawn(get, &g1);
    ferry_future *f2 = ferry_spawn(get, &g2);
    UNTIL_GETTERS(queue, 2);
    ferry_cancel(f1);
    CHECK_INT(ferry_queue_put(queue, ITEM(5)), 0);
    CHECK_INT(ferry_queue_length(queue), 0); /* it is g2's */
    CHECK(queue->get_first == NULL);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(g1.rc, -ECANCELED);
    CHECK_INT(g2.rc, 0);
    CHECK_INT(g2.item, 5);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

TASK_TEST(cancelled_putter_keeps_the_order) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct actor p[3];
    ferry_future *f[3];
    CHECK_INT(ferry_queue_put(queue, ITEM(10)), 0);
    for (int i = 0; i < 3; i++) {
        p[i] = (struct actor){.queue = queue, .item = 11 + i};
        f[i] = ferry_spawn(put, &p[i]);
    }
    UNTIL_PUTTERS(queue, 3);
    ferry_cancel(f[1]);
    CHECK_INT(got(queue), 10);
    CHECK_INT(got(queue), 11);
    CHECK_INT(got(queue), 13);
    CHECK(queue->put_first == NULL);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(p[i].rc, i == 1 ? -ECANCELED : 0);
    }
    CHECK_INT(got(queue), -EAGAIN);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

/* The putter at the head was cancelled and hasn't run yet: a place that becomes free stays free. */
TASK_TEST(cancelled_putter_takes_no_place) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct actor p = {.queue = queue, .item = 2};
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    ferry_future *f = ferry_spawn(put, &p);
    UNTIL_PUTTERS(queue, 1);
    ferry_cancel(f);
    CHECK_INT(got(queue), 1);
    CHECK_INT(ferry_queue_try_put(queue, ITEM(3)), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(p.rc, -ECANCELED);
    CHECK_INT(got(queue), 3);
    CHECK_INT(got(queue), -EAGAIN);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

TASK_TEST(timed_out_waiters_leave_nothing) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    void *item = ITEM(-1);
    struct actor slow = {.queue = queue, .ms = 5};
    struct actor patient = {.queue = queue};
    ferry_future *f1 = ferry_spawn(get_for, &slow);
    ferry_future *f2 = ferry_spawn(get, &patient);
    UNTIL_GETTERS(queue, 2);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(slow.rc, -ETIMEDOUT);
    CHECK_INT(slow.item, -1);
    CHECK_INT(GETTERS(queue), 1);
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(patient.item, 1);
    CHECK_INT(ferry_queue_get_for(queue, &item, 0), -ETIMEDOUT);
    CHECK_INT(ferry_queue_get_for(queue, &item, -1), -ETIMEDOUT);
    CHECK(item == ITEM(-1));
    CHECK_INT(ferry_queue_put_for(queue, ITEM(2), -1), 0); /* room beats the clock */
    CHECK_INT(ferry_queue_put_for(queue, ITEM(3), -1), -ETIMEDOUT);
    CHECK_INT(ferry_queue_put_for(queue, ITEM(3), 5), -ETIMEDOUT);
    CHECK_INT(ferry_queue_get_for(queue, &item, -1), 0); /* an item too */
    CHECK(item == ITEM(2));
    CHECK(queue->get_first == NULL && queue->put_first == NULL);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

TASK_TEST(an_item_belongs_to_the_getter) {
    for (int order = FERRY_FIFO; order <= FERRY_PRIORITY; order++) {
        ferry_queue *queue =
            ferry_queue_new(1, &(ferry_queue_options){.order = order, .compare = by_number});
        struct actor g = {.queue = queue};
        ferry_future *f = ferry_spawn(get, &g);
        UNTIL_GETTERS(queue, 1);
        CHECK_INT(ferry_queue_try_put(queue, ITEM(1)), 0);
        CHECK_INT(got(queue), -EAGAIN);
        CHECK_INT(ferry_queue_length(queue), 0);
        CHECK_INT(ferry_queue_try_put(queue, ITEM(2)), 0); /* there is room for the next */
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(g.item, 1);
        CHECK_INT(got(queue), 2);
        CHECK_INT(ferry_queue_free(queue), 0);
    }
    return 0;
}

TASK_TEST(a_place_belongs_to_the_putter) {
    for (int order = FERRY_FIFO; order <= FERRY_PRIORITY; order++) {
        ferry_queue *queue =
            ferry_queue_new(1, &(ferry_queue_options){.order = order, .compare = by_number});
        struct actor p = {.queue = queue, .item = 2};
        CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
        ferry_future *f = ferry_spawn(put, &p);
        UNTIL_PUTTERS(queue, 1);
        CHECK_INT(got(queue), 1);
        CHECK_INT(ferry_queue_try_put(queue, ITEM(3)), -EAGAIN);
        CHECK_INT(ferry_queue_put_for(queue, ITEM(3), 0), -ETIMEDOUT);
        CHECK_INT(ferry_queue_length(queue), 1);
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(p.rc, 0);
        CHECK_INT(got(queue), 2);
        CHECK_INT(ferry_queue_free(queue), 0);
    }
    return 0;
}

static int64_t get_three(void *arg) {
    struct actor *a = arg;
    for (int i = 0; i < 3; i++) {
        void *item;
        CHECK_INT(ferry_queue_get(a->queue, &item), 0);
        a->item = a->item * 10 + NUMBER(item);
    }
    return 0;
}

/* Getters that come back are behind those who wait. */
TASK_TEST(getters_rotate) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct actor g[3];
    ferry_future *f[3];
    for (int i = 0; i < 3; i++) {
        g[i] = (struct actor){.queue = queue};
        f[i] = ferry_spawn(get_three, &g[i]);
    }
    for (int i = 0; i < 9; i++) {
        if (i % 3 == 0)
            UNTIL_GETTERS(queue, 3);
        CHECK_INT(ferry_queue_put(queue, ITEM(i + 1)), 0);
    }
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    CHECK_INT(g[0].item, 147);
    CHECK_INT(g[1].item, 258);
    CHECK_INT(g[2].item, 369);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

static int64_t join(void *arg) {
    struct actor *a = arg;
    a->rc = ferry_queue_join(a->queue);
    return 0;
}

static int64_t work(void *arg) {
    struct actor *a = arg;
    void *item;
    while ((a->rc = ferry_queue_get(a->queue, &item)) == 0) {
        ferry_yield();
        a->item++;
        CHECK_INT(ferry_queue_task_done(a->queue), 0);
    }
    return 0;
}

TASK_TEST(join_counts_task_done) {
    ferry_queue *queue = ferry_queue_new(8, NULL);
    CHECK_INT(ferry_queue_join(queue), 0);
    CHECK_INT(ferry_queue_join(queue), 0);
    CHECK_INT(ferry_queue_task_done(queue), -EINVAL);
    CHECK(strstr(ferry_errmsg(), "more often"));
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    CHECK_INT(ferry_queue_put(queue, ITEM(2)), 0);
    struct actor j = {.queue = queue, .rc = 1};
    struct actor j2 = {.queue = queue, .rc = 1};
    ferry_future *f = ferry_spawn(join, &j);
    ferry_future *f2 = ferry_spawn(join, &j2);
    UNTIL_JOINERS(queue, 2);
    CHECK_INT(got(queue), 1);
    CHECK_INT(got(queue), 2); /* empty, but not finished */
    CHECK_INT(JOINERS(queue), 2);
    CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(JOINERS(queue), 2);
    struct actor late = {.queue = queue, .rc = 1};
    ferry_future *fl = ferry_spawn(join, &late);
    UNTIL_JOINERS(queue, 3);
    CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(JOINERS(queue), 0);
    CHECK_INT(ferry_queue_task_done(queue), -EINVAL);
    CHECK_INT(ferry_queue_put(queue, ITEM(3)), 0); /* comes too late to hold them up */
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(ferry_await(fl), 0);
    CHECK_INT(j.rc, 0);
    CHECK_INT(j2.rc, 0);
    CHECK_INT(late.rc, 0);
    CHECK_INT(got(queue), 3);
    CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(ferry_queue_join(queue), 0);

    struct actor w[3];
    ferry_future *fw[3];
    for (int i = 0; i < 3; i++) {
        w[i] = (struct actor){.queue = queue};
        fw[i] = ferry_spawn(work, &w[i]);
    }
    for (int i = 0; i < 30; i++)
        CHECK_INT(ferry_queue_put(queue, ITEM(i)), 0);
    CHECK_INT(ferry_queue_join(queue), 0);
    CHECK_INT(w[0].item + w[1].item + w[2].item, 30);
    ferry_queue_close(queue, false);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_await(fw[i]), 0);
        CHECK_INT(w[i].rc, FERRY_ECLOSED);
    }
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

/* What was handed to a getter and what waited for a place counts as well. */
TASK_TEST(join_counts_handed_over_items) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct actor g = {.queue = queue};
    struct actor p = {.queue = queue, .item = 3};
    ferry_future *f = ferry_spawn(get, &g);
    UNTIL_GETTERS(queue, 1);
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    CHECK_INT(queue->unfinished, 1);
    CHECK_INT(ferry_queue_put(queue, ITEM(2)), 0);
    ferry_future *fp = ferry_spawn(put, &p);
    UNTIL_PUTTERS(queue, 1);
    CHECK_INT(queue->unfinished, 2); /* 3 isn't in yet */
    CHECK_INT(got(queue), 2);
    CHECK_INT(queue->unfinished, 3);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_await(fp), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(ferry_queue_task_done(queue), -EINVAL);
    CHECK_INT(got(queue), 3);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

TASK_TEST(cancelled_join) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct actor j = {.queue = queue};
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    ferry_future *f = ferry_spawn(join, &j);
    UNTIL_JOINERS(queue, 1);
    CHECK_INT(ferry_queue_free(queue), -EBUSY);
    CHECK(strstr(ferry_errmsg(), "freed"));
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(j.rc, -ECANCELED);
    CHECK(queue->join_first == NULL);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

TASK_TEST(close_with_getters) {
    ferry_queue *queue = ferry_queue_new(2, NULL);
    struct actor g[3];
    ferry_future *f[3];
    for (int i = 0; i < 3; i++) {
        g[i] = (struct actor){.queue = queue};
        f[i] = ferry_spawn(get, &g[i]);
    }
    UNTIL_GETTERS(queue, 3);
    CHECK_INT(ferry_queue_free(queue), -EBUSY);
    ferry_queue_close(queue, false);
    CHECK_INT(GETTERS(queue), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(g[i].rc, FERRY_ECLOSED);
        CHECK_INT(g[i].item, -1);
    }
    void *item;
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), FERRY_ECLOSED);
    CHECK_STR(ferry_errmsg(), "the queue was closed");
    CHECK_INT(ferry_queue_try_put(queue, ITEM(1)), FERRY_ECLOSED);
    CHECK_INT(ferry_queue_get(queue, &item), FERRY_ECLOSED);
    CHECK_INT(got(queue), FERRY_ECLOSED);
    CHECK_INT(ferry_queue_join(queue), 0);
    ferry_queue_close(queue, false);
    ferry_queue_close(queue, true);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

TASK_TEST(close_with_items_and_putters) {
    ferry_queue *queue = ferry_queue_new(2, NULL);
    struct actor p[2];
    ferry_future *f[2];
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    CHECK_INT(ferry_queue_put(queue, ITEM(2)), 0);
    for (int i = 0; i < 2; i++) {
        p[i] = (struct actor){.queue = queue, .item = 3 + i};
        f[i] = ferry_spawn(put, &p[i]);
    }
    UNTIL_PUTTERS(queue, 2);
    struct actor j = {.queue = queue, .rc = 1};
    ferry_future *fj = ferry_spawn(join, &j);
    UNTIL_JOINERS(queue, 1);
    ferry_queue_close(queue, false);
    CHECK_INT(PUTTERS(queue), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(p[i].rc, FERRY_ECLOSED);
    }
    CHECK_INT(ferry_queue_put(queue, ITEM(5)), FERRY_ECLOSED);
    CHECK_INT(got(queue), 1);
    CHECK_INT(ferry_queue_put(queue, ITEM(5)), FERRY_ECLOSED); /* though there is room */
    CHECK_INT(got(queue), 2);
    CHECK_INT(got(queue), FERRY_ECLOSED);
    CHECK_INT(JOINERS(queue), 1);
    CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(JOINERS(queue), 1);
    CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(ferry_await(fj), 0);
    CHECK_INT(j.rc, 0);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

static int discarded; /* one thread */

static void count_discarded(void *item) {
    (void)item;
    discarded++;
}

TASK_TEST(close_and_discard) {
    for (int order = FERRY_FIFO; order <= FERRY_PRIORITY; order++) {
        ferry_queue *queue =
            ferry_queue_new(4, &(ferry_queue_options){.order = order,
                                                      .compare = by_number,
                                                      .item_free = count_discarded});
        for (int i = 0; i < 4; i++)
            CHECK_INT(ferry_queue_put(queue, ITEM(i)), 0);
        void *item;
        CHECK_INT(ferry_queue_get(queue, &item), 0); /* in work */
        struct actor j = {.queue = queue, .rc = 1};
        ferry_future *f = ferry_spawn(join, &j);
        UNTIL_JOINERS(queue, 1);
        discarded = 0;
        ferry_queue_close(queue, false);
        CHECK_INT(ferry_queue_length(queue), 3);
        ferry_queue_close(queue, true);
        CHECK_INT(discarded, 3);
        CHECK_INT(ferry_queue_length(queue), 0);
        CHECK_INT(got(queue), FERRY_ECLOSED);
        CHECK_INT(JOINERS(queue), 1); /* one item is still in work */
        CHECK_INT(ferry_queue_task_done(queue), 0);
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(j.rc, 0);
        CHECK_INT(ferry_queue_free(queue), 0);
        CHECK_INT(discarded, 3);
    }
    return 0;
}

TASK_TEST(discard_clamps) {
    ferry_queue *queue =
        ferry_queue_new(4, &(ferry_queue_options){.item_free = count_discarded});
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_queue_put(queue, ITEM(i)), 0);
    CHECK_INT(ferry_queue_task_done(queue), 0); /* too early */
    CHECK_INT(ferry_queue_task_done(queue), 0);
    struct actor j = {.queue = queue, .rc = 1};
    ferry_future *f = ferry_spawn(join, &j);
    UNTIL_JOINERS(queue, 1);
    discarded = 0;
    ferry_queue_close(queue, true);
    CHECK_INT(discarded, 3);
    CHECK_INT(queue->unfinished, 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(j.rc, 0);
    CHECK_INT(ferry_queue_task_done(queue), -EINVAL);
    CHECK_INT(ferry_queue_join(queue), 0);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

static void free_discards(void **state) {
    (void)state;
    for (int order = FERRY_FIFO; order <= FERRY_PRIORITY; order++) {
        ferry_queue *queue =
            ferry_queue_new(9, &(ferry_queue_options){.order = order,
                                                      .compare = by_number,
                                                      .item_free = count_discarded});
        for (int i = 0; i < 5; i++)
            assert_int_equal(ferry_queue_put(queue, ITEM(i)), 0);
        discarded = 0;
        assert_int_equal(ferry_queue_free(queue), 0);
        assert_int_equal(discarded, 5);
    }
}

static ferry_queue *reentered;

static void use_the_queue(void *item) {
    (void)item;
    CHECK_INT(ferry_queue_length(reentered), 0);
    CHECK_INT(ferry_queue_try_put(reentered, NULL), FERRY_ECLOSED);
}

/* item_free runs without the inner lock. */
static void item_free_may_use_the_queue(void **state) {
    (void)state;
    reentered = ferry_queue_new(2, &(ferry_queue_options){.item_free = use_the_queue});
    assert_int_equal(ferry_queue_put(reentered, ITEM(1)), 0);
    ferry_queue_close(reentered, true);
    assert_int_equal(ferry_queue_free(reentered), 0);
}

TASK_TEST(cancelled_at_entry) {
    ferry_queue *queue = ferry_queue_new(2, NULL);
    void *item = ITEM(-1);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_queue_put(queue, ITEM(1)), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_queue_put(queue, ITEM(2)), -ECANCELED);
    CHECK_INT(ferry_queue_get(queue, &item), -ECANCELED);
    CHECK_INT(ferry_queue_join(queue), -ECANCELED);
    CHECK(item == ITEM(-1));
    CHECK_INT(ferry_queue_length(queue), 1);
    CHECK_INT(ferry_queue_try_put(queue, ITEM(2)), 0);
    CHECK_INT(got(queue), 1);
    CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(ferry_queue_task_done(queue), 0);
    CHECK_INT(ferry_queue_join(queue), -ECANCELED); /* though nothing is unfinished */
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    CHECK_INT(got(queue), 2);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

struct posted {
    ferry_queue *queue;
    ferry_event done;
};

static int64_t put_and_get_in_a_callback(void *arg) {
    struct posted *p = arg;
    void *item;
    CHECK_INT(ferry_queue_get(p->queue, &item), -EDEADLK);
    CHECK_INT(ferry_queue_put(p->queue, ITEM(1)), 0);
    CHECK_INT(ferry_queue_put(p->queue, ITEM(2)), -EDEADLK);
    CHECK_INT(ferry_queue_join(p->queue), -EDEADLK);
    CHECK_INT(ferry_queue_get(p->queue, &item), 0);
    CHECK(!p->queue->get_first && !p->queue->put_first && !p->queue->join_first);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(in_a_callback) {
    struct posted p = {ferry_queue_new(1, NULL), FERRY_EVENT_INIT};
    CHECK_INT(ferry_post(ferry_loop_current(), put_and_get_in_a_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    CHECK_INT(ferry_queue_free(p.queue), 0);
    return 0;
}

/* What a task waits for is named after the queue, for reports. */
static int64_t put_and_look(void *arg) {
    struct actor *a = arg;
    struct ferry__waiter *w = a->queue->get_first;
    CHECK_STR(w->ctx->waits_for, "get from letters");
    return ferry_queue_put(a->queue, ITEM(1));
}

TASK_TEST(named) {
    ferry_queue *queue = ferry_queue_new(1, &(ferry_queue_options){.name = "letters"});
    struct actor a = {.queue = queue};
    ferry_future *f = ferry_spawn(get, &a);
    UNTIL_GETTERS(queue, 1);
    CHECK_INT(ferry_await(ferry_spawn(put_and_look, &a)), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_queue_free(queue), 0);
    queue = ferry_queue_new(
        1, &(ferry_queue_options){.name = "a name of more than thirty-one bytes"});
    CHECK_STR(queue->getting, "get from a name of more than thirty-one ");
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("NULL is an item like any other", null_is_an_item),
        CASE("options that make no sense are refused", bad_options),
        CASE("QUE-02 put, put, cancel the getter: nothing lost, never 2 first",
             cancelled_getter_loses_nothing),
        CASE("QUE-04 a cancelled getter is passed over", cancelled_getter_is_passed),
        CASE("QUE-04 a cancelled putter leaves the order of the others",
             cancelled_putter_keeps_the_order),
        CASE("QUE-04 a cancelled putter takes no place", cancelled_putter_takes_no_place),
        CASE("QUE-04 time-outs leave nothing in the lines; ready beats zero",
             timed_out_waiters_leave_nothing),
        CASE("QUE-06 an item belongs to the parked getter", an_item_belongs_to_the_getter),
        CASE("QUE-06 a place belongs to the parked putter", a_place_belongs_to_the_putter),
        CASE("QUE-06 getters rotate", getters_rotate),
        CASE("QUE-08 join waits for task_done, not for emptiness", join_counts_task_done),
        CASE("QUE-08 items that were handed over count", join_counts_handed_over_items),
        CASE("QUE-08 a cancelled join", cancelled_join),
        CASE("QUE-09 close with getters on an empty queue", close_with_getters),
        CASE("QUE-10 close with items and putters", close_with_items_and_putters),
        CASE("QUE-10 close, then discard what is left", close_and_discard),
        CASE("QUE-12 discarding after early task_done clamps at 0", discard_clamps),
        CASE("free discards what is inside", free_discards),
        CASE("item_free may use the queue", item_free_may_use_the_queue),
        CASE("in a cancelled scope nothing is taken", cancelled_at_entry),
        CASE("in a callback nothing may wait", in_a_callback),
        CASE("reports say which queue", named),
    };
    return SUPPORT_RUN(tests);
}

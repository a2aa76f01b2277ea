/* Queues between threads, jobs and tasks of several loops. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oom.h"
#include "queue.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

struct actor {
    ferry_queue *queue;
    intptr_t item;
    ferry_scope scope;
    int rc;
};

static int64_t get(void *arg) {
    struct actor *a = arg;
    void *item = ITEM(-1);
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
    a->rc = ferry_queue_get(a->queue, &item);
    a->item = NUMBER(item);
    ferry_scope_close(&a->scope, 0);
    return 0;
}

static int64_t put(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
    a->rc = ferry_queue_put(a->queue, ITEM(a->item));
    ferry_scope_close(&a->scope, 0);
    return 0;
}

static int64_t join(void *arg) {
    struct actor *a = arg;
    a->rc = ferry_queue_join(a->queue);
    return 0;
}

static int64_t done_twice(void *arg) {
    CHECK_INT(ferry_queue_task_done(arg), 0);
    CHECK_INT(ferry_queue_task_done(arg), 0);
    return 0;
}

/* Four getters of one kind: each put from the other side, and from this one, wakes one, in turn. */
static void check_getters(bool in_a_loop, bool from_a_loop) {
    ferry_queue *queue = ferry_queue_new(4, NULL);
    struct actor g[4];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        g[i] = (struct actor){.queue = queue};
        threads[i] = start_outside(in_a_loop, get, &g[i]);
        UNTIL_GETTERS(queue, i + 1);
    }
    for (int i = 0; i < 4; i++) {
        struct actor p = {.queue = queue, .item = i + 1};
        run_here(from_a_loop, put, &p);
        assert_int_equal(p.rc, 0);
        assert_int_equal(GETTERS(queue), (size_t)(3 - i));
        assert_int_equal(ferry_queue_length(queue), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(g[i].rc, 0);
        assert_int_equal(g[i].item, i + 1);
    }
    assert_int_equal(ferry_queue_free(queue), 0);
}

static void getters_of_one_kind(void **state) {
    (void)state;
    check_getters(false, false);
    check_getters(false, true);
    check_getters(true, false);
    check_getters(true, true);
}

static void check_putters(bool in_a_loop, bool from_a_loop) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct actor p[4];
    pthread_t threads[4];
    assert_int_equal(ferry_queue_put(queue, ITEM(0)), 0);
    for (size_t i = 0; i < 4; i++) {
        p[i] = (struct actor){.queue = queue, .item = (intptr_t)i + 1};
        threads[i] = start_outside(in_a_loop, put, &p[i]);
        UNTIL_PUTTERS(queue, i + 1);
    }
    for (int i = 0; i < 5; i++) {
        struct actor g = {.queue = queue};
        run_here(from_a_loop, get, &g);
        assert_int_equal(g.rc, 0);
        assert_int_equal(g.item, i);
        assert_int_equal(PUTTERS(queue), (size_t)(i < 4 ? 3 - i : 0));
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(p[i].rc, 0);
    }
    assert_int_equal(ferry_queue_free(queue), 0);
}

static void putters_of_one_kind(void **state) {
    (void)state;
    check_putters(false, false);
    check_putters(false, true);
    check_putters(true, false);
    check_putters(true, true);
}

static void first_come_first_served_across(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(4, NULL);
    struct actor g[4];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        g[i] = (struct actor){.queue = queue};
        threads[i] = start_outside(i % 2 == 0, get, &g[i]);
        UNTIL_GETTERS(queue, i + 1);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(ferry_queue_put(queue, ITEM(i)), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(g[i].item, i);
    }
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* Joined on one side, done on the other. */
static void join_across(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(2, NULL);
    for (int i = 0; i < 2; i++) {
        struct actor j = {.queue = queue, .rc = 1};
        assert_int_equal(ferry_queue_put(queue, ITEM(1)), 0);
        assert_int_equal(ferry_queue_put(queue, ITEM(2)), 0);
        pthread_t thread = start_outside(i, join, &j);
        UNTIL_JOINERS(queue, 1);
        assert_int_equal(got(queue), 1);
        assert_int_equal(got(queue), 2);
        run_here(i == 0, done_twice, queue);
        pthread_join(thread, NULL);
        assert_int_equal(j.rc, 0);
    }
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* A cancelled thread and a cancelled task, passed over by what comes next. */
static void cancelled_across(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        ferry_queue *queue = ferry_queue_new(1, NULL);
        struct actor g1 = {.queue = queue};
        struct actor g2 = {.queue = queue};
        pthread_t t1 = start_outside(i, get, &g1);
        UNTIL_GETTERS(queue, 1);
        pthread_t t2 = start_outside(1 - i, get, &g2);
        UNTIL_GETTERS(queue, 2);
        ferry_scope_cancel(&g1.scope);
        pthread_join(t1, NULL);
        assert_int_equal(g1.rc, -ECANCELED);
        assert_int_equal(GETTERS(queue), 1);
        assert_int_equal(ferry_queue_put(queue, ITEM(5)), 0);
        pthread_join(t2, NULL);
        assert_int_equal(g2.rc, 0);
        assert_int_equal(g2.item, 5);
        assert_int_equal(ferry_queue_free(queue), 0);
    }
}

static void close_across(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct actor a[2] = {{.queue = queue}, {.queue = queue}};
    pthread_t threads[2] = {start_in_thread(get, &a[0]), start_in_loop(get, &a[1])};
    UNTIL_GETTERS(queue, 2);
    ferry_queue_close(queue, false);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(a[i].rc, FERRY_ECLOSED);
    }
    assert_int_equal(ferry_queue_free(queue), 0);

    queue = ferry_queue_new(1, NULL);
    assert_int_equal(ferry_queue_put(queue, ITEM(1)), 0);
    for (int i = 0; i < 2; i++)
        a[i] = (struct actor){.queue = queue, .item = 2};
    threads[0] = start_in_thread(put, &a[0]);
    threads[1] = start_in_loop(put, &a[1]);
    UNTIL_PUTTERS(queue, 2);
    ferry_queue_close(queue, false);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(a[i].rc, FERRY_ECLOSED);
    }
    assert_int_equal(got(queue), 1);
    assert_int_equal(got(queue), FERRY_ECLOSED);
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* Whoever sees the queue closed and empty may free it at once. */
static void *close_it(void *arg) {
    ferry_queue_close(arg, true);
    return NULL;
}

static void count_down(void *item) {
    atomic_fetch_sub((_Atomic int *)item, 1);
}

static void freed_by_the_getter(void **state) {
    (void)state;
    _Atomic int alive = 0;
    int taken = 0;
    for (int i = 0; i < (support_slow() ? 200 : 2000); i++) {
        ferry_queue *queue =
            ferry_queue_new(8, &(ferry_queue_options){.item_free = count_down});
        for (int k = 0; k < i % 4; k++) {
            alive++;
            assert_int_equal(ferry_queue_put(queue, &alive), 0);
        }
        pthread_t thread = start_thread(close_it, queue);
        void *item;
        while (ferry_queue_get(queue, &item) == 0)
            taken++;
        assert_int_equal(ferry_queue_free(queue), 0);
        pthread_join(thread, NULL);
    }
    assert_int_equal(alive, taken); /* each was either taken or discarded, once */
}

/* Everybody puts and gets. The numbers that are put are all different; each is got once or is still
 * inside at the end. */
struct exchange {
    ferry_queue *queue;
    _Atomic long next;
    _Atomic long done;     /* task_done calls */
    _Atomic char *state;   /* of each number: 0 not in, 1 put, 2 got */
    _Atomic char *refused; /* its put failed */
};

static void take_note(struct exchange *x, void *item) {
    CHECK_INT(atomic_fetch_add(&x->state[NUMBER(item)], 1), 0);
    CHECK_INT(ferry_queue_task_done(x->queue), 0);
}

static void exchange_round(void *arg, int who, unsigned *seed) {
    struct exchange *x = arg;
    int what = rand_r(seed) % 6;
    /* Half of them begin with a get, so that both lines are used. */
    for (int step = 0; step < 2; step++) {
        if ((step + who) % 2 == 0) {
            long number = atomic_fetch_add(&x->next, 1);
            int rc = what == 0   ? ferry_queue_try_put(x->queue, ITEM(number))
                     : what == 1 ? ferry_queue_put_for(x->queue, ITEM(number), 0)
                     : what == 2 ? ferry_queue_put_for(x->queue, ITEM(number), 1)
                                 : ferry_queue_put(x->queue, ITEM(number));
            if (rc != 0) {
                CHECK(rc == -ECANCELED || (rc == -EAGAIN && what == 0) ||
                      (rc == -ETIMEDOUT && (what == 1 || what == 2)));
                CHECK_INT(atomic_fetch_add(&x->refused[number], 1), 0);
            }
        } else {
            void *item;
            int rc = what == 0   ? ferry_queue_try_get(x->queue, &item)
                     : what == 1 ? ferry_queue_get_for(x->queue, &item, 0)
                                 : ferry_queue_get_for(x->queue, &item, 1);
            if (rc == 0)
                take_note(x, item);
            else
                CHECK(rc == -ECANCELED || (rc == -EAGAIN && what == 0) || rc == -ETIMEDOUT);
        }
    }
}

static void *drain(void *arg) {
    struct exchange *x = arg;
    void *item;
    while (ferry_queue_get(x->queue, &item) == 0)
        take_note(x, item);
    return NULL;
}

static void check_storm(int order, size_t capacity) {
    int rounds = support_slow() ? 150 : 2000;
    size_t numbers = (size_t)rounds * (3 + 2 * 8);
    struct exchange x = {
        .queue = ferry_queue_new(
            capacity, &(ferry_queue_options){.order = order, .compare = by_number}),
        .state = calloc(numbers, 1),
        .refused = calloc(numbers, 1),
    };
    assert_non_null(x.queue);
    assert_true(x.state && x.refused);
    /* A patient getter, so that a put without a time-out is always relieved. */
    pthread_t getter = start_thread(drain, &x);
    storm_run(3, 2, 8, rounds, exchange_round, &x);
    assert_int_equal(ferry_queue_join(x.queue), 0);
    ferry_queue_close(x.queue, false);
    pthread_join(getter, NULL);
    assert_int_equal(ferry_queue_length(x.queue), 0);
    assert_int_equal(ferry_queue_task_done(x.queue), -EINVAL);
    for (size_t i = 0; i < (size_t)x.next; i++)
        assert_int_equal(x.state[i] + x.refused[i], 1);
    assert_int_equal(ferry_queue_free(x.queue), 0);
    free((void *)x.state);
    free((void *)x.refused);
}

static void storm(void **state) {
    (void)state;
    check_storm(FERRY_FIFO, 1);
    check_storm(FERRY_FIFO, 5);
    check_storm(FERRY_LIFO, 5);
    check_storm(FERRY_PRIORITY, 5);
}

/* Several threads make the queue grow at once. */
static void *put_many(void *arg) {
    for (int i = 1; i <= 20000; i++)
        CHECK_INT(ferry_queue_put(arg, ITEM(i)), 0);
    return NULL;
}

static void growing_together(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(60000, NULL);
    pthread_t threads[3];
    long sum = 0;
    for (int i = 0; i < 3; i++)
        threads[i] = start_thread(put_many, queue);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ferry_queue_length(queue), 60000);
    assert_int_equal(queue->store.room, 60000);
    for (intptr_t item; (item = got(queue)) > 0;)
        sum += item;
    assert_int_equal(sum, 3L * 20000 * 20001 / 2);
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* The first block is full, and three find that before one of them has made another: one is
 * added. */
static void *put_one(void *arg) {
    CHECK_INT(ferry_queue_try_put(arg, ITEM(1)), 0);
    return NULL;
}

static void growing_once(void **state) {
    (void)state;
    enum { FIRST = 4096, MOST = 4 * FIRST };
    ferry_queue *queue = ferry_queue_new(MOST, NULL);
    pthread_t threads[3];
    for (int i = 0; i < FIRST; i++)
        assert_int_equal(ferry_queue_try_put(queue, ITEM(1)), 0);
    long blocks = oom_blocks();
    oom_meet(3);
    for (int i = 0; i < 3; i++)
        threads[i] = start_thread(put_one, queue);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(queue->store.room, 2 * FIRST);
    assert_int_equal(oom_blocks(), blocks + 1);
    assert_int_equal(ferry_queue_length(queue), FIRST + 3);
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* One producer, one consumer, on each side: what came in is what goes out, in order. */
static int64_t produce(void *arg) {
    struct actor *a = arg;
    for (intptr_t i = 1; i <= a->item; i++)
        CHECK_INT(ferry_queue_put(a->queue, ITEM(i)), 0);
    ferry_queue_close(a->queue, false);
    return 0;
}

static int64_t consume(void *arg) {
    struct actor *a = arg;
    void *item;
    intptr_t last = 0;
    while ((a->rc = ferry_queue_get(a->queue, &item)) == 0)
        CHECK_INT(NUMBER(item), ++last);
    CHECK_INT(last, a->item);
    return 0;
}

static void in_order_across(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        /* With room for one, each may cost a switch from thread to thread. */
        intptr_t n = support_slow() ? 2000 : i < 4 ? 10000 : 50000;
        ferry_queue *queue = ferry_queue_new(i < 4 ? 1 : 64, NULL);
        struct actor a = {.queue = queue, .item = n};
        struct actor b = {.queue = queue, .item = n};
        pthread_t thread = start_outside(i % 2 == 0, produce, &a);
        run_here(i & 2, consume, &b);
        pthread_join(thread, NULL);
        assert_int_equal(b.rc, FERRY_ECLOSED);
        assert_int_equal(ferry_queue_free(queue), 0);
    }
}

static void *first_calls(void *arg) {
    void *item;
    CHECK_INT(ferry_queue_put(arg, ITEM(1)), -ENOMEM);
    CHECK_INT(ferry_queue_get(arg, &item), -ENOMEM);
    CHECK_INT(ferry_queue_join(arg), -ENOMEM);
    CHECK_INT(ferry_queue_try_put(arg, ITEM(1)), 0); /* needs no record */
    CHECK_INT(got(arg), 1);
    return NULL;
}

static void no_memory_for_a_thread(void **state) {
    (void)state;
    ferry_queue *queue = ferry_queue_new(1, NULL);
    oom_after(0, true);
    pthread_join(start_thread(first_calls, queue), NULL);
    oom_never();
    assert_true(oom_hit());
    assert_int_equal(ferry_queue_length(queue), 0);
    assert_int_equal(ferry_queue_free(queue), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("out of memory for a thread's record: nothing is taken", no_memory_for_a_thread),
        CASE("QUE-14 four getters of one kind, puts from either side", getters_of_one_kind),
        CASE("QUE-14 four putters of one kind, gets from either side", putters_of_one_kind),
        CASE("QUE-14 first come, first served across threads and loops",
             first_come_first_served_across),
        CASE("QUE-14 joined on one side, done on the other", join_across),
        CASE("QUE-04 a cancelled thread or task is passed over", cancelled_across),
        CASE("QUE-09 QUE-10 close reaches both sides", close_across),
        CASE("whoever sees it closed may free it", freed_by_the_getter),
        CASE("QUE-14 threads and tasks, cancelled at any moment: nothing lost, nothing doubled",
             storm),
        CASE("several threads make it grow at once", growing_together),
        CASE("several threads that find it full at once make it grow once", growing_once),
        CASE("in order between threads and loops", in_order_across),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

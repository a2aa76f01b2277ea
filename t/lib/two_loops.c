/* Two loops on two threads exchange items both ways, through queues, under a mutex that both
 * take, and ask each other by handles. FERRY_TEST_ITEMS says how many items each way; a million
 * of them is for a run by hand, best under ThreadSanitizer. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include <ferry.h>

#include "pools.h"
#include "support.h"
#include "waiters.h"

enum { PRODUCERS = 2, CONSUMERS = 2, ASK_EVERY = 50 };

static int64_t items; /* each way */

struct shared {
    ferry_mutex mutex;
    int64_t taken; /* under the mutex */
    ferry_cond some; /* all were taken */
};

struct side {
    struct shared *shared;
    struct side *other;
    ferry_loop *loop;
    ferry_queue *in;   /* what the other one sends */
    gate *start;
    int64_t sum;       /* of what was taken; its loop's thread */
    int64_t asked;     /* by the other side; its loop's thread */
};

struct producer {
    struct side *side;
    int number;
};

static int64_t answer(void *arg) {
    struct side *s = arg;
    CHECK(ferry_loop_current() == s->loop);
    return ++s->asked;
}

/* Items are numbers: which producer's, and the how manieth. */
static int64_t produces(void *arg) {
    struct producer *p = arg;
    int64_t mine = items / PRODUCERS;
    for (int64_t i = 1; i <= mine; i++) {
        if (!CHECK_INT(ferry_queue_put(p->side->other->in, as_arg(i * PRODUCERS + p->number)), 0))
            return -EPROTO;
        if (i % ASK_EVERY == 0)
            CHECK(ferry_await(ferry_spawn_on(p->side->other->loop, answer, p->side->other)) > 0);
    }
    return 0;
}

static int64_t consumes(void *arg) {
    struct side *s = arg;
    void *item;
    int64_t rc, last[PRODUCERS] = {0}; /* of each producer, the latest that came here */
    bool in_order = true;
    while ((rc = ferry_queue_get(s->in, &item)) == 0) {
        int64_t n = (int64_t)(intptr_t)item, from = n % PRODUCERS;
        in_order &= n / PRODUCERS > last[from];
        last[from] = n / PRODUCERS;
        s->sum += n / PRODUCERS;
        CHECK_INT(ferry_lock(&s->shared->mutex), 0);
        if (++s->shared->taken == 2 * items)
            CHECK_INT(ferry_cond_broadcast(&s->shared->some), 0);
        CHECK_INT(ferry_unlock(&s->shared->mutex), 0);
    }
    CHECK(in_order);
    return rc == FERRY_ECLOSED ? 0 : rc;
}

static int64_t one_side(void *arg) {
    struct side *s = arg;
    struct shared *shared = s->shared;
    struct producer producers[PRODUCERS];
    ferry_future *tasks[PRODUCERS + CONSUMERS];
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){s, i};
        tasks[i] = ferry_spawn(produces, &producers[i]);
    }
    for (int i = 0; i < CONSUMERS; i++)
        tasks[PRODUCERS + i] = ferry_spawn(consumes, s);
    CHECK_INT(ferry_lock(&shared->mutex), 0);
    while (shared->taken < 2 * items)
        CHECK_INT(ferry_cond_wait(&shared->some), 0);
    CHECK_INT(ferry_unlock(&shared->mutex), 0);
    for (int i = 0; i < PRODUCERS; i++)
        CHECK_INT(ferry_await(tasks[i]), 0);
    ferry_queue_close(s->in, false);
    for (int i = 0; i < CONSUMERS; i++)
        CHECK_INT(ferry_await(tasks[PRODUCERS + i]), 0);
    /* The other side may still ask. */
    while (s->asked < items / PRODUCERS / ASK_EVERY * PRODUCERS)
        CHECK_INT(ferry_sleep(1), 0);
    return 0;
}

static void *turns(void *arg) {
    struct side *s = arg;
    gate_wait(s->start);
    CHECK_INT(ferry_loop_run(s->loop, one_side, s), 0);
    return NULL;
}

static void both_ways(void **state) {
    (void)state;
    struct shared shared = {.mutex = FERRY_MUTEX_INIT, .some = FERRY_COND_INIT(&shared.mutex)};
    struct side sides[2];
    pthread_t threads[2];
    gate start = GATE_INIT;
    const char *wanted = getenv("FERRY_TEST_ITEMS");
    items = wanted ? strtol(wanted, NULL, 10) : support_slow() ? 2000 : 20000;
    items -= items % (PRODUCERS * ASK_EVERY);
    assert_true(items > 0);
    for (int i = 0; i < 2; i++)
        sides[i] = (struct side){.shared = &shared,
                                 .other = &sides[1 - i],
                                 .loop = ferry_loop_new(),
                                 .in = ferry_queue_new(64, NULL),
                                 .start = &start};
    for (int i = 0; i < 2; i++)
        threads[i] = start_thread(turns, &sides[i]);
    gate_open(&start);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    int64_t each = items / PRODUCERS;
    assert_int_equal(shared.taken, 2 * items);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sides[i].sum, PRODUCERS * (each * (each + 1) / 2));
        assert_int_equal(sides[i].asked, each / ASK_EVERY * PRODUCERS);
        assert_int_equal(ferry_queue_free(sides[i].in), 0);
        assert_int_equal(ferry_loop_shutdown(sides[i].loop, FERRY_FOREVER), 0);
        assert_int_equal(ferry_loop_free(sides[i].loop), 0);
    }
    gate_destroy(&start);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("QUE-14 LCK-11 FUT-07 two loops exchange items both ways", both_ways),
    };
    return SUPPORT_RUN(tests);
}

/* Stress twins of the races at queues and channels: QUE-02, QUE-04, QUE-06, CHN-02, CHN-04. See
 * stress.h. */
#include "config.h"

#include "actor.h"
#include "queue_core.h"
#include "waiters.h"

static int numbers[4] = {0, 1, 2, 3};

static int get_number(ferry_queue *queue, int64_t ms, int *number) {
    void *item = NULL;
    int rc = ms == 0 ? ferry_queue_try_get(queue, &item) : ferry_queue_get_for(queue, &item, ms);
    *number = rc == 0 ? *(int *)item : 0;
    return rc;
}

static void put_number(ferry_queue *queue, int number) {
    CHECK_INT(ferry_queue_try_put(queue, &numbers[number]), 0);
}

static void nobody_waits(ferry_queue *queue) {
    CHECK(!queue->get_first && !queue->get_last && !queue->put_first && !queue->put_last);
    CHECK_INT(ferry_queue_free(queue), 0);
}

/* ---- QUE-02: put, put, cancel the getter ----------------------------------------------------- */

struct two_round {
    struct stress_round round;
    ferry_queue *queue;
    struct actor getter;
    int got;
};

static void two_prepare(void *arg) {
    ((struct two_round *)arg)->queue = ferry_queue_new(2, NULL);
}

static void two_get(void *arg) {
    struct two_round *r = arg;
    enter(&r->getter);
    r->getter.rc = get_number(r->queue, some_time(), &r->got);
    leave(&r->round, &r->getter, 1);
}

static void two_put(void *arg) {
    struct two_round *r = arg;
    put_number(r->queue, 1);
    put_number(r->queue, 2);
}

static void two_cancel(void *arg) {
    cancel_or_not(&((struct two_round *)arg)->getter.scope);
}

static void two_check(void *arg) {
    struct two_round *r = arg;
    int left;
    CHECK(r->getter.rc == 0 ? r->got == 1 : said_no(r->getter.rc));
    for (int i = r->getter.rc == 0 ? 2 : 1; i <= 2; i++) {
        CHECK_INT(get_number(r->queue, 0, &left), 0);
        CHECK_INT(left, i);
    }
    CHECK_INT(get_number(r->queue, 0, &left), -EAGAIN);
    nobody_waits(r->queue);
}

static void two_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct two_round),
                                     .prepare = two_prepare,
                                     .acts = {two_get},
                                     .hands = {two_put, two_cancel},
                                     .check = two_check});
}

/* ---- QUE-04: one of two getters is cancelled or times out ------------------------------------ */

struct getters_round {
    struct stress_round round;
    ferry_queue *queue;
    struct actor first;
    int got[2];
    int second_rc;
};

static void getters_prepare(void *arg) {
    ((struct getters_round *)arg)->queue = ferry_queue_new(1, NULL);
}

static void getters_first(void *arg) {
    struct getters_round *r = arg;
    enter(&r->first);
    r->first.rc = get_number(r->queue, some_time(), &r->got[0]);
    if (r->first.rc == 0)
        put_number(r->queue, r->got[0]);
    leave(&r->round, &r->first, 1);
}

static void getters_second(void *arg) {
    struct getters_round *r = arg;
    r->second_rc = get_number(r->queue, FERRY_FOREVER, &r->got[1]);
    put_number(r->queue, r->got[1]);
}

static void getters_put(void *arg) {
    put_number(((struct getters_round *)arg)->queue, 1);
}

static void getters_cancel(void *arg) {
    cancel_or_not(&((struct getters_round *)arg)->first.scope);
}

static void getters_check(void *arg) {
    struct getters_round *r = arg;
    int left;
    CHECK(r->first.rc == 0 ? r->got[0] == 1 : said_no(r->first.rc));
    CHECK_INT(r->second_rc, 0);
    CHECK_INT(get_number(r->queue, 0, &left), 0);
    CHECK_INT(left, 1);
    nobody_waits(r->queue);
}

static void getters_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct getters_round),
                                     .prepare = getters_prepare,
                                     .acts = {getters_first, getters_second},
                                     .hands = {getters_put, getters_cancel},
                                     .check = getters_check});
}

/* ---- QUE-04: one of three putters is cancelled ----------------------------------------------- */

struct putters_round {
    struct stress_round round;
    ferry_queue *queue;
    struct actor second;
    _Atomic int ended; /* atomic: putters */
    int got[4], n;
};

static void putters_prepare(void *arg) {
    struct putters_round *r = arg;
    r->queue = ferry_queue_new(1, NULL);
    put_number(r->queue, 0);
}

static void putters_put(struct putters_round *r, int number) {
    CHECK_INT(ferry_queue_put(r->queue, &numbers[number]), 0);
    atomic_fetch_add(&r->ended, 1);
}

static void putters_first(void *arg) {
    putters_put(arg, 1);
}

static void putters_second(void *arg) {
    struct putters_round *r = arg;
    enter(&r->second);
    r->second.rc = ferry_queue_put_for(r->queue, &numbers[2], some_time());
    atomic_fetch_add(&r->ended, 1);
    leave(&r->round, &r->second, 1);
}

static void putters_third(void *arg) {
    putters_put(arg, 3);
}

static void putters_take(struct putters_round *r) {
    int number;
    if (get_number(r->queue, 0, &number) == 0 && CHECK(r->n < 4))
        r->got[r->n++] = number;
}

static void putters_get(void *arg) {
    struct putters_round *r = arg;
    while (atomic_load(&r->ended) < 3) {
        putters_take(r);
        ferry_yield();
    }
}

static void putters_cancel(void *arg) {
    cancel_or_not(&((struct putters_round *)arg)->second.scope);
}

static void putters_check(void *arg) {
    struct putters_round *r = arg;
    for (int i = 0; i < 4; i++)
        putters_take(r);
    bool two = false;
    CHECK(r->second.rc == 0 || said_no(r->second.rc));
    CHECK_INT(r->n, r->second.rc == 0 ? 4 : 3);
    for (int i = 0; i < r->n; i++) {
        two |= r->got[i] == 2;
        if (r->round.tasks[0]) /* they came in this order */
            CHECK(i == 0 || r->got[i - 1] < r->got[i]);
    }
    CHECK(two == (r->second.rc == 0));
    nobody_waits(r->queue);
}

static void putters_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct putters_round),
                                     .prepare = putters_prepare,
                                     .acts = {putters_first, putters_second, putters_third},
                                     .hands = {putters_get, putters_cancel},
                                     .check = putters_check});
}

/* ---- QUE-06: what is put belongs to the parked getter, a place to the parked putter ---------- */

struct owned_round {
    struct stress_round round;
    ferry_queue *queue;
    struct actor waiter;
    bool put;     /* the waiter puts */
    bool cancels; /* in this round */
    int got;
    int taken; /* what the hand got */
};

static void owned_prepare(void *arg) {
    struct owned_round *r = arg;
    r->queue = ferry_queue_new(1, NULL);
    r->put = points_random() % 2;
    r->cancels = points_random() % 2;
    if (r->put)
        put_number(r->queue, 0);
}

static void owned_wait(void *arg) {
    struct owned_round *r = arg;
    enter(&r->waiter);
    r->waiter.rc = r->put ? ferry_queue_put(r->queue, &numbers[1])
                          : get_number(r->queue, FERRY_FOREVER, &r->got);
    leave(&r->round, &r->waiter, 1);
}

/* Where nobody cancels it, somebody is parked when this is put, and gets it. */
static void owned_give(struct owned_round *r) {
    if (!r->cancels)
        until_waiters(&r->queue->lock, &r->queue->get_first, 1);
    put_number(r->queue, 1);
    int rc = get_number(r->queue, 0, &r->taken);
    CHECK(rc == -EAGAIN || (r->cancels && rc == 0 && r->taken == 1));
}

static void owned_make_room(struct owned_round *r) {
    int zero;
    if (!r->cancels)
        until_waiters(&r->queue->lock, &r->queue->put_first, 1);
    CHECK_INT(get_number(r->queue, 0, &zero), 0);
    CHECK_INT(zero, 0);
    int rc = ferry_queue_try_put(r->queue, &numbers[2]);
    CHECK(rc == -EAGAIN || (r->cancels && rc == 0));
    if (rc == 0) { /* its waiter had gone, or hadn't come */
        int two;
        rc = get_number(r->queue, 0, &two);
        CHECK_INT(two, 2);
    }
}

static void owned_hand(void *arg) {
    struct owned_round *r = arg;
    if (r->put)
        owned_make_room(r);
    else
        owned_give(r);
}

static void owned_cancel(void *arg) {
    struct owned_round *r = arg;
    if (r->cancels)
        ferry_scope_cancel(&r->waiter.scope);
}

static void owned_check(void *arg) {
    struct owned_round *r = arg;
    CHECK(r->waiter.rc == 0 || (r->cancels && r->waiter.rc == -ECANCELED));
    int left = 0;
    int rc = get_number(r->queue, 0, &left);
    if (r->put)
        CHECK(r->waiter.rc == 0 ? rc == 0 && left == 1 : rc == -EAGAIN);
    else /* exactly one has it */
        CHECK_INT((r->waiter.rc == 0 && r->got == 1) + (r->taken == 1) + (rc == 0 && left == 1), 1);
    nobody_waits(r->queue);
}

static void owned_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct owned_round),
                                     .prepare = owned_prepare,
                                     .acts = {owned_wait},
                                     .hands = {owned_hand, owned_cancel},
                                     .check = owned_check});
}

/* ---- CHN-02: sent to a receiver who is cancelled --------------------------------------------- */

struct sent_round {
    struct stress_round round;
    ferry_channel *channel;
    struct actor receiver;
    void *got;
    _Atomic bool ended; /* atomic: the receive */
    bool sent;
};

static void sent_prepare(void *arg) {
    ((struct sent_round *)arg)->channel = ferry_channel_new(0, NULL);
}

static void sent_receive(void *arg) {
    struct sent_round *r = arg;
    enter(&r->receiver);
    r->receiver.rc = ferry_channel_receive_for(r->channel, &r->got, some_time());
    atomic_store(&r->ended, true);
    leave(&r->round, &r->receiver, 1);
}

static void sent_send(void *arg) {
    struct sent_round *r = arg;
    while (!r->sent && !atomic_load(&r->ended)) {
        int rc = ferry_channel_try_send(r->channel, &numbers[1]);
        CHECK(rc == 0 || rc == -EAGAIN);
        r->sent = rc == 0;
        ferry_yield();
    }
}

static void sent_cancel(void *arg) {
    cancel_or_not(&((struct sent_round *)arg)->receiver.scope);
}

static void sent_check(void *arg) {
    struct sent_round *r = arg;
    CHECK(r->receiver.rc == 0 || said_no(r->receiver.rc));
    CHECK(r->sent == (r->receiver.rc == 0));
    CHECK(!r->sent || r->got == &numbers[1]);
    CHECK_INT(ferry_channel_free(r->channel), 0);
}

static void sent_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct sent_round),
                                     .prepare = sent_prepare,
                                     .acts = {sent_receive},
                                     .hands = {sent_send, sent_cancel},
                                     .check = sent_check});
}

/* ---- CHN-04: a receive and a send while the scope is cancelled, the other side being ready --- */

struct late_round {
    struct stress_round round;
    ferry_channel *in, *out;
    struct actor both;
    bool known; /* the scope was cancelled before */
    int received, sent;
};

static void late_prepare(void *arg) {
    struct late_round *r = arg;
    r->in = ferry_channel_new(1, NULL);
    r->out = ferry_channel_new(1, NULL);
    CHECK_INT(ferry_channel_try_send(r->in, &numbers[1]), 0);
}

static void late_act(void *arg) {
    struct late_round *r = arg;
    void *item;
    enter(&r->both);
    for (uint32_t n = points_random() % 4; n > 0; n--)
        ferry_yield();
    r->known = ferry_scope_cancelled(&r->both.scope);
    r->received = ferry_channel_receive(r->in, &item);
    r->sent = ferry_channel_send(r->out, &numbers[2]);
    leave(&r->round, &r->both, 0);
}

static void late_cancel(void *arg) {
    ferry_scope_cancel(&((struct late_round *)arg)->both.scope);
}

static void late_check(void *arg) {
    struct late_round *r = arg;
    if (r->known || r->received != 0) { /* again and again */
        CHECK_INT(r->sent, -ECANCELED);
    }
    if (r->known)
        CHECK_INT(r->received, -ECANCELED);
    CHECK_INT(ferry_channel_length(r->in), r->received == 0 ? 0 : 1);
    CHECK_INT(ferry_channel_length(r->out), r->sent == 0 ? 1 : 0);
    CHECK_INT(ferry_channel_free(r->in), 0);
    CHECK_INT(ferry_channel_free(r->out), 0);
}

static void late_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct late_round),
                                     .prepare = late_prepare,
                                     .acts = {late_act},
                                     .hands = {late_cancel},
                                     .check = late_check});
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("QUE-02 put, put and cancelled at once: nothing lost, never 2 first", two_race),
        CASE("QUE-04 one of two getters is cancelled or times out: the other one has it",
             getters_race),
        CASE("QUE-04 one of three putters is cancelled: the others keep their order", putters_race),
        CASE("QUE-06 an item or a place belongs to who is parked", owned_race),
        CASE("CHN-02 sent and cancelled at once: first wake wins", sent_race),
        CASE("CHN-04 a receive and a send while their scope is cancelled", late_race),
    };
    return SUPPORT_RUN(tests);
}

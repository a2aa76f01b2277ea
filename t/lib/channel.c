/* Channels: rendezvous, two ends that close one by one, and who is served when. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oom.h"
#include "queue_core.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

#define ITEM(n) ((void *)(intptr_t)(n))
#define NUMBER(item) ((intptr_t)(item))
#define QUEUE(c) ((ferry_queue *)(c))
#define RECEIVERS(c) waiters_in(&QUEUE(c)->lock, &QUEUE(c)->get_first)
#define SENDERS(c) waiters_in(&QUEUE(c)->lock, &QUEUE(c)->put_first)
#define UNTIL_RECEIVERS(c, n) until_waiters(&QUEUE(c)->lock, &QUEUE(c)->get_first, (n))
#define UNTIL_SENDERS(c, n) until_waiters(&QUEUE(c)->lock, &QUEUE(c)->put_first, (n))

struct actor {
    ferry_channel *channel;
    intptr_t item;
    ferry_scope scope;
    int rc;
};

static int64_t receive(void *arg) {
    struct actor *a = arg;
    void *item = ITEM(-1);
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
    a->rc = ferry_channel_receive(a->channel, &item);
    a->item = NUMBER(item);
    ferry_scope_close(&a->scope, 0);
    return 0;
}

static int64_t send(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
    a->rc = ferry_channel_send(a->channel, ITEM(a->item));
    ferry_scope_close(&a->scope, 0);
    return 0;
}

static intptr_t got(ferry_channel *channel) {
    void *item = ITEM(-1);
    int rc = ferry_channel_try_receive(channel, &item);
    return rc == 0 ? NUMBER(item) : rc;
}

TASK_TEST(rendezvous) {
    ferry_channel *channel = ferry_channel_new(0, NULL);
    CHECK_INT(ferry_channel_try_send(channel, ITEM(1)), -EAGAIN);
    CHECK_STR(ferry_errmsg(), "the channel has no room, and no receiver waits");
    CHECK_INT(got(channel), -EAGAIN);
    CHECK_STR(ferry_errmsg(), "the channel is empty, and no sender waits");
    CHECK_INT(ferry_channel_send_for(channel, ITEM(1), 0), -ETIMEDOUT);
    void *item;
    CHECK_INT(ferry_channel_receive_for(channel, &item, 0), -ETIMEDOUT);

    struct actor r = {.channel = channel};
    ferry_future *f = ferry_spawn(receive, &r);
    UNTIL_RECEIVERS(channel, 1);
    CHECK_INT(ferry_channel_try_send(channel, ITEM(2)), 0);
    CHECK_INT(ferry_channel_try_send(channel, ITEM(3)), -EAGAIN); /* that one has an item */
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(r.item, 2);

    struct actor s = {.channel = channel, .item = 4};
    f = ferry_spawn(send, &s);
    UNTIL_SENDERS(channel, 1);
    CHECK_INT(ferry_channel_length(channel), 0);
    CHECK(!ferry_done(f)); /* it returns when the item is taken */
    CHECK_INT(got(channel), 4);
    CHECK_INT(got(channel), -EAGAIN);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(s.rc, 0);
    CHECK_INT(ferry_channel_free(channel), 0);
    return 0;
}

static size_t five(const void *item) {
    (void)item;
    return 5;
}

/* The same between threads and other loops. */
static void rendezvous_across(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        ferry_channel *channel = ferry_channel_new(0, &(ferry_channel_options){.item_size = five});
        struct actor s = {.channel = channel, .item = 7};
        struct actor r = {.channel = channel};
        pthread_t first;
        if (i % 2) {
            first = start_outside(i / 2, send, &s);
            UNTIL_SENDERS(channel, 1);
            run_here(i / 2, receive, &r);
        } else {
            first = start_outside(i / 2, receive, &r);
            UNTIL_RECEIVERS(channel, 1);
            run_here(1 - i / 2, send, &s);
        }
        pthread_join(first, NULL);
        assert_int_equal(s.rc, 0);
        assert_int_equal(r.rc, 0);
        assert_int_equal(r.item, 7);
        assert_int_equal(ferry_channel_free(channel), 0);
    }
}

TASK_TEST(cancelled_receiver) {
    for (size_t capacity = 0; capacity < 2; capacity++) {
        ferry_channel *channel = ferry_channel_new(capacity, NULL);
        struct actor r = {.channel = channel};
        ferry_future *f = ferry_spawn(receive, &r);
        UNTIL_RECEIVERS(channel, 1);
        CHECK_INT(ferry_channel_try_send(channel, ITEM(1)), 0);
        ferry_cancel(f);
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(r.rc, 0);
        CHECK_INT(r.item, 1);

        /* The other way round the item stays with the sender. */
        r = (struct actor){.channel = channel};
        f = ferry_spawn(receive, &r);
        UNTIL_RECEIVERS(channel, 1);
        ferry_cancel(f);
        CHECK_INT(ferry_channel_try_send(channel, ITEM(1)), capacity ? 0 : -EAGAIN);
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(r.rc, -ECANCELED);
        CHECK_INT(ferry_channel_free(channel), 0);

        /* A sender that was taken from keeps its success; one that was cancelled, its item. */
        channel = ferry_channel_new(0, NULL);
        for (int taken = 0; taken < 2; taken++) {
            struct actor s = {.channel = channel, .item = 5};
            f = ferry_spawn(send, &s);
            UNTIL_SENDERS(channel, 1);
            if (taken)
                CHECK_INT(got(channel), 5);
            ferry_cancel(f);
            if (!taken)
                CHECK_INT(got(channel), -EAGAIN);
            CHECK_INT(ferry_await(f), 0);
            CHECK_INT(s.rc, taken ? 0 : -ECANCELED);
        }
        CHECK_INT(ferry_channel_free(channel), 0);
    }
    return 0;
}

/* In a cancelled scope nothing happens, although the peer is ready. `send_first`: the peer
 * sends. */
static void check_cancelled_at_entry(ferry_channel *channel) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    void *item = ITEM(-1);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_channel_send(channel, ITEM(9)), -ECANCELED);
    CHECK_INT(ferry_channel_receive(channel, &item), -ECANCELED);
    CHECK_INT(NUMBER(item), -1);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
}

TASK_TEST(cancelled_at_entry) {
    ferry_channel *channel = ferry_channel_new(0, NULL);
    struct actor r = {.channel = channel};
    struct actor s = {.channel = channel, .item = 3};
    ferry_future *f = ferry_spawn(receive, &r);
    UNTIL_RECEIVERS(channel, 1);
    check_cancelled_at_entry(channel);
    CHECK_INT(RECEIVERS(channel), 1);
    CHECK_INT(ferry_channel_send(channel, ITEM(2)), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(r.item, 2);
    f = ferry_spawn(send, &s);
    UNTIL_SENDERS(channel, 1);
    check_cancelled_at_entry(channel);
    CHECK_INT(SENDERS(channel), 1);
    CHECK_INT(got(channel), 3);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_channel_free(channel), 0);
    return 0;
}

static void cancelled_thread_at_entry(void **state) {
    (void)state;
    ferry_channel *channel = ferry_channel_new(0, NULL);
    struct actor s = {.channel = channel, .item = 3};
    pthread_t thread = start_in_thread(send, &s);
    UNTIL_SENDERS(channel, 1);
    check_cancelled_at_entry(channel);
    assert_int_equal(got(channel), 3);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_channel_free(channel), 0);
}

TASK_TEST(close_with_receivers) {
    for (int own = 0; own < 2; own++) {
        ferry_channel *channel = ferry_channel_new(0, NULL);
        int wanted = own ? FERRY_ECLOSED : FERRY_END;
        struct actor r[3];
        ferry_future *f[3];
        void *item;
        for (int i = 0; i < 3; i++) {
            r[i] = (struct actor){.channel = channel};
            f[i] = ferry_spawn(receive, &r[i]);
        }
        UNTIL_RECEIVERS(channel, 3);
        CHECK_INT(ferry_channel_free(channel), -EBUSY);
        if (own)
            ferry_channel_close_receive(channel);
        else
            ferry_channel_close_send(channel);
        CHECK_INT(RECEIVERS(channel), 0);
        for (int i = 0; i < 3; i++) {
            CHECK_INT(ferry_await(f[i]), 0);
            CHECK_INT(r[i].rc, wanted);
        }
        for (int again = 0; again < 2; again++) {
            CHECK_INT(ferry_channel_receive(channel, &item), wanted);
            CHECK_INT(got(channel), wanted);
            CHECK_INT(ferry_channel_send(channel, ITEM(1)), own ? FERRY_EBROKEN : FERRY_ECLOSED);
            CHECK_INT(ferry_channel_try_send(channel, ITEM(1)),
                      own ? FERRY_EBROKEN : FERRY_ECLOSED);
        }
        if (own)
            ferry_channel_close_receive(channel); /* twice is no error */
        else
            ferry_channel_close_send(channel);
        CHECK_INT(got(channel), wanted);
        CHECK_INT(ferry_channel_free(channel), 0);
    }
    return 0;
}

TASK_TEST(close_with_senders) {
    for (int own = 0; own < 2; own++) {
        ferry_channel *channel = ferry_channel_new(1, NULL);
        int wanted = own ? FERRY_ECLOSED : FERRY_EBROKEN;
        struct actor s[3];
        ferry_future *f[3];
        CHECK_INT(ferry_channel_send(channel, ITEM(1)), 0);
        for (int i = 0; i < 3; i++) {
            s[i] = (struct actor){.channel = channel, .item = 2 + i};
            f[i] = ferry_spawn(send, &s[i]);
        }
        UNTIL_SENDERS(channel, 3);
        if (own)
            ferry_channel_close_send(channel);
        else
            ferry_channel_close_receive(channel);
        CHECK_INT(SENDERS(channel), 0);
        for (int i = 0; i < 3; i++) {
            CHECK_INT(ferry_await(f[i]), 0);
            CHECK_INT(s[i].rc, wanted);
        }
        CHECK_INT(ferry_channel_send(channel, ITEM(1)), wanted);
        if (own)
            CHECK_INT(got(channel), 1); /* what was sent before is still received */
        CHECK_INT(got(channel), own ? FERRY_END : FERRY_ECLOSED);
        CHECK_INT(got(channel), own ? FERRY_END : FERRY_ECLOSED);
        CHECK_INT(ferry_channel_free(channel), 0);
    }
    return 0;
}

/* Each side that has closed its own end gets FERRY_ECLOSED, whatever the other one does. */
static void both_ends(void **state) {
    (void)state;
    for (int order = 0; order < 2; order++) {
        ferry_channel *channel = ferry_channel_new(1, NULL);
        if (order)
            ferry_channel_close_send(channel);
        ferry_channel_close_receive(channel);
        ferry_channel_close_send(channel);
        assert_int_equal(ferry_channel_try_send(channel, NULL), FERRY_ECLOSED);
        assert_string_equal(ferry_errmsg(), "this end of the channel was closed");
        assert_int_equal(got(channel), FERRY_ECLOSED);
        assert_int_equal(ferry_channel_free(channel), 0);
    }
    assert_int_equal(ferry_channel_free(ferry_channel_new(0, NULL)), 0);
}

static void close_reaches_both_worlds(void **state) {
    (void)state;
    for (int receiving = 0; receiving < 2; receiving++) {
        ferry_channel *channel = ferry_channel_new(0, NULL);
        struct actor a[2] = {{.channel = channel}, {.channel = channel}};
        ferry_fn fn = receiving ? receive : send;
        pthread_t threads[2] = {start_in_thread(fn, &a[0]), start_in_loop(fn, &a[1])};
        if (receiving) {
            UNTIL_RECEIVERS(channel, 2);
            ferry_channel_close_send(channel);
        } else {
            UNTIL_SENDERS(channel, 2);
            ferry_channel_close_receive(channel);
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(a[i].rc, receiving ? FERRY_END : FERRY_EBROKEN);
        }
        assert_int_equal(ferry_channel_free(channel), 0);
    }
}

TASK_TEST(served_in_order) {
    ferry_channel *channel = ferry_channel_new(0, NULL);
    struct actor a[3];
    ferry_future *f[3];
    for (int i = 0; i < 3; i++) {
        a[i] = (struct actor){.channel = channel, .item = 1 + i};
        f[i] = ferry_spawn(send, &a[i]);
    }
    UNTIL_SENDERS(channel, 3);
    ferry_cancel(f[1]);
    CHECK_INT(got(channel), 1);
    CHECK_INT(got(channel), 3);
    CHECK_INT(got(channel), -EAGAIN);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(a[i].rc, i == 1 ? -ECANCELED : 0);
        a[i] = (struct actor){.channel = channel};
        f[i] = ferry_spawn(receive, &a[i]);
        UNTIL_RECEIVERS(channel, (size_t)i + 1);
    }
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_channel_try_send(channel, ITEM(10 + i)), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(a[i].item, 10 + i);
    }
    CHECK_INT(ferry_channel_free(channel), 0);
    return 0;
}

static _Atomic int discarded;

static void count_discarded(void *item) {
    (void)item;
    atomic_fetch_add(&discarded, 1);
}

static void options(void **state) {
    (void)state;
    ferry_channel *channel = ferry_channel_new(
        9,
        &(ferry_channel_options){
            .name = "letters", .item_free = count_discarded, .bytes_max = 10, .item_size = five});
    assert_string_equal(QUEUE(channel)->getting, "get from letters");
    assert_int_equal(ferry_channel_try_send(channel, ITEM(1)), 0);
    assert_int_equal(ferry_channel_try_send(channel, ITEM(2)), 0);
    assert_int_equal(ferry_channel_try_send(channel, ITEM(3)), -EAGAIN);
    assert_int_equal(ferry_channel_length(channel), 2);
    discarded = 0;
    ferry_channel_close_receive(channel);
    assert_int_equal(discarded, 2);
    assert_int_equal(ferry_channel_free(channel), 0);
    channel = ferry_channel_new(1, &(ferry_channel_options){.item_free = count_discarded});
    assert_int_equal(ferry_channel_try_send(channel, ITEM(1)), 0);
    assert_int_equal(ferry_channel_free(channel), 0);
    assert_int_equal(discarded, 3);
    errno = 0;
    assert_null(ferry_channel_new(SIZE_MAX, NULL));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(ferry_channel_free(NULL), 0);
}

struct posted {
    ferry_channel *channel;
    ferry_event done;
};

static int64_t in_callback(void *arg) {
    struct posted *p = arg;
    void *item;
    CHECK_INT(ferry_channel_send(p->channel, ITEM(1)), -EDEADLK);
    CHECK_INT(ferry_channel_receive(p->channel, &item), -EDEADLK);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(in_a_callback) {
    struct posted p = {ferry_channel_new(0, NULL), FERRY_EVENT_INIT};
    CHECK_INT(ferry_post(ferry_loop_current(), in_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    CHECK_INT(ferry_channel_free(p.channel), 0);
    return 0;
}

static void out_of_memory(void **state) {
    (void)state;
    for (size_t capacity = 0; capacity < 2; capacity++) {
        long blocks = oom_blocks();
        for (long n = 0;; n++) {
            oom_after(n, true);
            errno = 0;
            ferry_channel *channel = ferry_channel_new(capacity, NULL);
            oom_never();
            if (channel) {
                assert_int_equal(n, capacity ? 2 : 1);
                assert_int_equal(ferry_channel_free(channel), 0);
                break;
            }
            assert_int_equal(errno, ENOMEM);
            assert_int_equal(oom_blocks(), blocks);
        }
        assert_int_equal(oom_blocks(), blocks);
    }
}

struct traffic {
    ferry_channel *channel;
    _Atomic int64_t sent, received;
};

static void one_round(void *arg, int who, unsigned *seed) {
    struct traffic *t = arg;
    void *item = ITEM(1 + rand_r(seed) % 1000);
    int64_t ms = rand_r(seed) % 3;
    if (who % 2) {
        int rc = rand_r(seed) % 4 ? ferry_channel_send_for(t->channel, item, ms)
                                  : ferry_channel_try_send(t->channel, item);
        if (rc == 0)
            atomic_fetch_add(&t->sent, NUMBER(item));
    } else {
        int rc = rand_r(seed) % 4 ? ferry_channel_receive_for(t->channel, &item, ms)
                                  : ferry_channel_try_receive(t->channel, &item);
        if (rc == 0)
            atomic_fetch_add(&t->received, NUMBER(item));
    }
}

static void storm(void **state) {
    (void)state;
    struct traffic t = {.channel = ferry_channel_new(0, NULL)};
    do /* again, where the machine was too slow for any two to meet */
        storm_run(4, 2, 4, support_slow() ? 100 : 500, one_round, &t);
    while (t.sent == 0);
    assert_int_equal(t.sent, t.received);
    assert_int_equal(ferry_channel_free(t.channel), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("CHN-01 a rendezvous needs a peer; send returns when the item is taken", rendezvous),
        CASE("CHN-01 between threads and loops", rendezvous_across),
        CASE("CHN-02 first wake wins, for receivers and senders", cancelled_receiver),
        CASE("CHN-04 in a cancelled scope nothing happens, though a peer is ready",
             cancelled_at_entry),
        CASE("CHN-04 the same for a thread", cancelled_thread_at_entry),
        CASE("CHN-05 receivers: CLOSED on the own end, END from the peer's", close_with_receivers),
        CASE("CHN-05 CHN-08 senders: CLOSED on the own end, BROKEN from the peer's",
             close_with_senders),
        CASE("CHN-05 both ends closed", both_ends),
        CASE("CHN-05 CHN-08 a close reaches threads and loops", close_reaches_both_worlds),
        CASE("CHN-08 first come, first served", served_in_order),
        CASE("name, bytes, destructor", options),
        CASE("in a callback nothing may wait", in_a_callback),
        CASE("out of memory", out_of_memory),
        CASE("a rendezvous cancelled at any moment: nothing lost, nothing doubled", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

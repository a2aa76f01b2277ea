/* Streams, consumed by a task or by the test's own thread: order, bounds, ends. */
#include "config.h"

#include <string.h>

#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "streams.h"
#include "waiters.h"

static const ferry_stream_options plain = {.arg_free = free_numbers, .item_free = count_discarded};

static ferry_stream *numbers_stream(struct numbers *n, bool job, size_t capacity) {
    ferry_stream_options options = plain;
    options.capacity = capacity;
    return job ? ferry_stream_submit(NULL, send_numbers, n, &options)
               : ferry_stream_spawn(send_numbers, n, &options);
}

/* arg_free of a job comes back to the loop. */
static void until_freed(struct numbers *n) {
    while (!atomic_load(&n->freed))
        ferry_yield();
    CHECK_INT(n->freed, 1);
}

/* All that is between the first item and the close, in both kinds and several capacities. */
static void check_whole(bool job, size_t capacity) {
    struct numbers n = {.last = 5, .result = 42};
    ferry_stream *stream = numbers_stream(&n, job, capacity);
    for (int i = 1; i <= 5; i++)
        CHECK_INT(next_number(stream), i);
    for (int again = 0; again < 2; again++) {
        void *item = ITEM(9);
        CHECK_INT(ferry_stream_next(stream, &item), FERRY_END);
        CHECK(item == NULL);
        CHECK_STR(ferry_errmsg(), "the stream is over");
        CHECK_INT(try_number(stream), FERRY_END);
    }
    CHECK_INT(ferry_stream_send(stream, ITEM(1)), FERRY_ECLOSED);
    CHECK_INT(ferry_stream_close(stream), 42);
    until_freed(&n);
    CHECK_INT(n.begun, 1);
}

TASK_TEST(from_begin_to_end) {
    for (size_t capacity = 0; capacity < 8; capacity++) {
        check_whole(false, capacity);
        check_whole(true, capacity);
    }
    struct numbers none = {.last = -1};
    ferry_stream *stream = numbers_stream(&none, false, 0);
    CHECK_INT(next_number(stream), FERRY_END);
    CHECK_INT(ferry_stream_close(stream), 0);
    return 0;
}

/* The producer is ahead by what the capacity allows, and by the one that it holds in its hand. */
TASK_TEST(no_read_ahead) {
    for (intptr_t capacity = 0; capacity < 4; capacity++) {
        struct numbers n = {0};
        ferry_stream *stream = numbers_stream(&n, false, (size_t)capacity);
        for (int i = 0; i < 5; i++)
            CHECK_INT(ferry_yield(), 0);
        CHECK_INT(n.begun, 0); /* nobody has asked */
        for (int i = 1; i <= 6; i++) {
            CHECK_INT(next_number(stream), i);
            for (int k = 0; k < 10; k++)
                CHECK_INT(ferry_yield(), 0);
            CHECK_INT(n.made, i + capacity + 1);
        }
        CHECK_INT(ferry_stream_close(stream), 0);
    }
    return 0;
}

TASK_TEST(started_early) {
    struct numbers n = {0};
    ferry_stream *stream = numbers_stream(&n, false, 3);
    CHECK_INT(ferry_stream_start(stream), 0);
    CHECK_INT(ferry_stream_start(stream), 0);
    while (n.made < 4)
        CHECK_INT(ferry_yield(), 0);
    for (int k = 0; k < 10; k++)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(n.made, 4);
    CHECK_INT(n.begun, 1);
    CHECK_INT(try_number(stream), 1);
    CHECK_INT(ferry_stream_close(stream), 0);
    return 0;
}

static size_t ten(const void *item) {
    (void)item;
    return 10;
}

TASK_TEST(bounded_by_bytes) {
    struct numbers n = {0};
    ferry_stream *stream = ferry_stream_spawn(
        send_numbers, &n,
        &(ferry_stream_options){.capacity = 100, .bytes_max = 30, .item_size = ten});
    CHECK_INT(next_number(stream), 1);
    for (int k = 0; k < 20; k++)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(n.made, 1 + 3 + 1);
    CHECK_INT(ferry_stream_close(stream), 0);
    return 0;
}

static void check_error(bool job) {
    struct numbers n = {.last = 2, .result = -EIO, .message = "the disk is on fire"};
    ferry_stream *stream = numbers_stream(&n, job, 5);
    CHECK_INT(next_number(stream), 1);
    while (!n.ended) /* the error comes after what was sent before it */
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(next_number(stream), 2);
    for (int again = 0; again < 2; again++) {
        CHECK_INT(next_number(stream), -EIO);
        CHECK_STR(ferry_errmsg(), "the disk is on fire");
    }
    CHECK_INT(ferry_stream_close(stream), -EIO);
    CHECK_STR(ferry_errmsg(), "the disk is on fire");
    until_freed(&n);
}

TASK_TEST(errors_come_last) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "");
    check_error(false);
    check_error(true);
    CHECK_INT(kept_messages(&log), 0); /* it was read */
    return 0;
}

TASK_TEST(nothing_begun_in_a_cancelled_scope) {
    for (int job = 0; job < 2; job++) {
        struct numbers n = {.last = 3};
        ferry_stream *stream = numbers_stream(&n, job, 0);
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
        ferry_scope_cancel(&scope);
        CHECK_INT(next_number(stream), -ECANCELED);
        CHECK_INT(ferry_stream_start(stream), -ECANCELED);
        CHECK_INT(ferry_stream_close(stream), 0);
        CHECK_INT(ferry_scope_close(&scope, 0), 0);
        CHECK_INT(n.begun, 0);
        until_freed(&n);

        /* Or it is begun later. */
        n = (struct numbers){.last = 3};
        stream = numbers_stream(&n, job, 0);
        scope = (ferry_scope)FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
        ferry_scope_cancel(&scope);
        CHECK_INT(next_number(stream), -ECANCELED);
        CHECK_INT(ferry_scope_close(&scope, 0), 0);
        CHECK_INT(next_number(stream), 1);
        CHECK_INT(ferry_stream_close(stream), 0);
        CHECK_INT(n.begun, 1);
        until_freed(&n);
    }
    return 0;
}

/* An item that is ready stays where it is. */
TASK_TEST(a_cancelled_next_takes_nothing) {
    struct numbers n = {0};
    ferry_stream *stream = numbers_stream(&n, false, 2);
    CHECK_INT(ferry_stream_start(stream), 0);
    while (n.made < 3)
        CHECK_INT(ferry_yield(), 0);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(next_number(stream), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    CHECK_INT(next_number(stream), 1);
    CHECK_INT(ferry_stream_close(stream), 0);
    return 0;
}

struct waits {
    ferry_event event;
    int64_t rc;
};

static int64_t waits_first(ferry_stream *stream, void *arg) {
    struct waits *w = arg;
    w->rc = ferry_event_wait(&w->event);
    return w->rc == 0 ? ferry_stream_send(stream, ITEM(7)) : w->rc;
}

TASK_TEST(a_time_out_is_no_end) {
    struct waits w = {.event = FERRY_EVENT_INIT};
    ferry_stream *stream = ferry_stream_spawn(waits_first, &w, NULL);
    void *item;
    CHECK_INT(ferry_stream_next_for(stream, &item, 0), -ETIMEDOUT);
    CHECK_INT(ferry_stream_next_for(stream, &item, 5), -ETIMEDOUT);
    CHECK_INT(ferry_stream_try_next(stream, &item), -EAGAIN);
    CHECK(item == NULL);
    ferry_event_set(&w.event);
    while (ferry_stream_try_next(stream, &item) == -EAGAIN)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(NUMBER(item), 7);
    CHECK_INT(next_number(stream), FERRY_END);
    CHECK_INT(ferry_stream_close(stream), 0);
    return 0;
}

/* The consumer leaves after two. */
static void check_leaving(bool job, size_t capacity) {
    struct numbers n = {0};
    ferry_stream *stream = numbers_stream(&n, job, capacity);
    atomic_store(&discarded, 0);
    CHECK_INT(next_number(stream), 1);
    CHECK_INT(next_number(stream), 2);
    while (n.made < 3 + (intptr_t)capacity) /* it stands at its bound */
        ferry_yield();
    CHECK_INT(ferry_stream_close(stream), 0);
    CHECK_INT(n.ended, 1); /* joined */
    CHECK(n.told == FERRY_EBROKEN || n.told == -ECANCELED);
    CHECK_INT(discarded, capacity); /* the one in its hand is the producer's */
    until_freed(&n);
}

TASK_TEST(leaving_early) {
    for (size_t capacity = 0; capacity < 3; capacity++) {
        check_leaving(false, capacity);
        check_leaving(true, capacity);
    }
    return 0;
}

TASK_TEST(leaving_in_a_cancelled_scope) {
    for (int job = 0; job < 2; job++) {
        struct numbers n = {0};
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
        ferry_stream *stream = numbers_stream(&n, job, 0);
        CHECK_INT(next_number(stream), 1);
        ferry_scope_cancel(&scope);
        CHECK_INT(next_number(stream), -ECANCELED);
        while (job && !n.ended) /* it is in that scope as well, and may end before the close */
            ferry_yield();
        CHECK_INT(ferry_stream_close(stream), 0);
        CHECK_INT(n.ended, 1);
        CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
        until_freed(&n);
    }
    return 0;
}

/* A sender in a shield can't be cancelled, but it is told that nobody takes its items. */
struct shielded {
    ferry_scope shield;
    int rc[2];
    int cancelled;
};

static int64_t sends_shielded(ferry_stream *stream, void *arg) {
    struct shielded *s = arg;
    ferry_shield_open(&s->shield, FERRY_FOREVER);
    s->rc[0] = ferry_stream_send(stream, ITEM(1));
    if (s->rc[0] == 0)
        s->rc[0] = ferry_stream_send(stream, ITEM(2));
    s->rc[1] = ferry_stream_send(stream, ITEM(3));
    ferry_scope_close(&s->shield, 0);
    s->cancelled = ferry_checkpoint();
    return ferry_fail(-EIO, "clean-up failed");
}

TASK_TEST(senders_are_told) {
    struct shielded s = {.shield = FERRY_SCOPE_INIT};
    ferry_stream *stream = ferry_stream_spawn(sends_shielded, &s, NULL);
    CHECK_INT(next_number(stream), 1);
    CHECK_INT(ferry_stream_close(stream), -EIO); /* an error of its own isn't swallowed */
    CHECK_STR(ferry_errmsg(), "clean-up failed");
    CHECK_INT(s.rc[0], FERRY_EBROKEN);
    CHECK_INT(s.rc[1], FERRY_EBROKEN);
    CHECK_INT(s.cancelled, -ECANCELED);
    return 0;
}

static int64_t cancels_itself(ferry_stream *stream, void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_stream_send(stream, ITEM(1)), 0);
    ferry_scope_open(&scope, FERRY_FOREVER);
    ferry_scope_cancel(&scope);
    int rc = ferry_stream_send(stream, ITEM(2));
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), 0);
    if (arg)
        return rc;
    return ferry_stream_send(stream, ITEM(3));
}

/* What is cancelled on the producer's side never cancels the consumer. */
TASK_TEST(producer_side_scopes) {
    for (int job = 0; job < 2; job++) {
        ferry_stream *stream = job ? ferry_stream_submit(NULL, cancels_itself, NULL, NULL)
                                   : ferry_stream_spawn(cancels_itself, NULL, NULL);
        CHECK_INT(next_number(stream), 1);
        CHECK_INT(next_number(stream), 3);
        CHECK_INT(next_number(stream), FERRY_END);
        CHECK_INT(ferry_stream_close(stream), 0);
        stream = job ? ferry_stream_submit(NULL, cancels_itself, &job, NULL)
                     : ferry_stream_spawn(cancels_itself, &job, NULL);
        CHECK_INT(next_number(stream), 1);
        CHECK_INT(next_number(stream), FERRY_EJOBCANCELED);
        CHECK_INT(ferry_checkpoint(), 0);
        CHECK_INT(ferry_stream_close(stream), FERRY_EJOBCANCELED);
    }
    return 0;
}

/* A job inherits the scope in which the stream was made, not that of the first call. */
TASK_TEST(scope_of_the_making) {
    struct numbers n = {0};
    ferry_stream *stream = numbers_stream(&n, true, 0);
    ferry_scope narrow = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&narrow, FERRY_FOREVER), 0);
    CHECK_INT(next_number(stream), 1);
    ferry_scope_cancel(&narrow);
    CHECK_INT(next_number(stream), -ECANCELED);
    CHECK_INT(ferry_scope_close(&narrow, -ECANCELED), 0);
    for (int i = 2; i < 10; i++)
        CHECK_INT(next_number(stream), i);
    CHECK_INT(ferry_stream_close(stream), 0);
    until_freed(&n);

    n = (struct numbers){0};
    ferry_scope wide = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&wide, FERRY_FOREVER), 0);
    stream = numbers_stream(&n, true, 0);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(next_number(stream), 1);
    ferry_scope_cancel(&wide);
    int64_t rc;
    while ((rc = next_number(stream)) > 0) {
    }
    CHECK_INT(rc, FERRY_EJOBCANCELED);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_stream_close(stream), 0); /* it was cancelled with the caller */
    CHECK_INT(ferry_scope_close(&wide, 0), 0);
    until_freed(&n);
    return 0;
}

static int64_t consume(void *arg) {
    ferry_stream *stream = arg;
    int64_t rc;
    while ((rc = next_number(stream)) > 0) {
    }
    return rc;
}

static int64_t consume_and_close(void *arg) {
    int64_t rc = consume(arg);
    int64_t closed = ferry_stream_close(arg);
    return closed < 0 ? closed : rc;
}

static int64_t fails(void *arg) {
    (void)arg;
    return -EIO;
}

/* Another member fails: the consumer is cancelled, leaves, and the producer has ended with it. */
TASK_TEST(inside_a_group) {
    for (int job = 0; job < 2; job++) {
        struct waits w = {.event = FERRY_EVENT_INIT};
        ferry_stream *stream = job ? ferry_stream_submit(NULL, waits_first, &w, NULL)
                                   : ferry_stream_spawn(waits_first, &w, NULL);
        ferry_group group = FERRY_GROUP_INIT;
        CHECK_INT(ferry_group_open(&group), 0);
        ferry_future *consumer;
        CHECK_INT(ferry_group_spawn_with(&group, consume_and_close, stream, NULL, &consumer), 0);
        until_parked(consumer);
        UNTIL_WAITERS(&w.event, 1);
        CHECK_INT(ferry_group_spawn(&group, fails, NULL), 0);
        CHECK_INT(ferry_group_close(&group, 0), FERRY_EGROUP);
        CHECK_INT(ferry_await(consumer), FERRY_EJOBCANCELED);
        CHECK_INT(w.rc, -ECANCELED);
    }
    return 0;
}

TASK_TEST(stopped_by_a_third_party) {
    for (int job = 0; job < 2; job++) {
        struct waits w = {.event = FERRY_EVENT_INIT};
        ferry_stream *stream = job ? ferry_stream_submit(NULL, waits_first, &w, NULL)
                                   : ferry_stream_spawn(waits_first, &w, NULL);
        ferry_future *consumer = ferry_spawn(consume, stream);
        until_parked(consumer);
        UNTIL_WAITERS(&w.event, 1);
        ferry_stream_stop(stream);
        ferry_stream_stop(stream);
        CHECK_INT(ferry_await(consumer), FERRY_ECLOSED);
        CHECK_INT(next_number(stream), FERRY_ECLOSED);
        CHECK_STR(ferry_errmsg(), "the stream was stopped");
        CHECK_INT(ferry_stream_close(stream), 0);
        CHECK_INT(w.rc, -ECANCELED);
    }
    struct numbers n = {0};
    ferry_stream *stream = numbers_stream(&n, false, 0);
    ferry_stream_stop(stream); /* before it began */
    CHECK_INT(n.freed, 1);
    CHECK_INT(next_number(stream), FERRY_ECLOSED);
    CHECK_INT(ferry_stream_close(stream), 0);
    CHECK_INT(n.begun, 0);
    ferry_stream_stop(NULL);
    return 0;
}

/* A producer that is still queued when its consumer leaves never runs. */
TASK_TEST(leaving_before_its_turn) {
    ferry_executor *pool = make_pool(1, NULL);
    saturation s;
    saturate(&s, pool, 1);
    struct numbers n = {0};
    ferry_stream *stream = ferry_stream_submit(pool, send_numbers, &n, &plain);
    CHECK_INT(try_number(stream), -EAGAIN);
    CHECK_INT(stats_of(pool).queued, 1);
    CHECK_INT(ferry_stream_close(stream), 0);
    CHECK_INT(stats_of(pool).queued, 0);
    until_freed(&n);
    CHECK_INT(n.begun, 0);
    desaturate(&s);
    end_pool(pool);
    return 0;
}

static int64_t deaf(ferry_stream *stream, void *arg) {
    gate_wait(arg);
    CHECK_INT(ferry_stream_send(stream, ITEM(1)), -ECANCELED);
    return 0;
}

static _Atomic int gate_freed;

static void free_gate(void *arg) {
    (void)arg;
    atomic_fetch_add(&gate_freed, 1);
}

TASK_TEST(given_up) {
    ferry_executor *pool = make_pool(1, NULL);
    gate g = GATE_INIT;
    ferry_stream *stream = ferry_stream_submit(
        pool, deaf, &g,
        &(ferry_stream_options){.policy = FERRY_JOB_ABANDON, .arg_free = free_gate});
    CHECK_INT(try_number(stream), -EAGAIN);
    gate_wait_arrivals(&g, 1);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "given up");
    CHECK_INT(ferry_stream_close(stream), 0); /* its thread runs on, with what it uses */
    CHECK_INT(kept_messages(&log), 1);
    CHECK_INT(gate_freed, 0);
    gate_open(&g);
    while (!gate_freed)
        CHECK_INT(ferry_yield(), 0);
    end_pool(pool);
    CHECK_INT(gate_freed, 1);
    gate_destroy(&g);
    return 0;
}

static void open_gate(void *arg) {
    gate_open(arg);
}

TASK_TEST(interrupted) {
    gate g = GATE_INIT;
    ferry_stream *stream =
        ferry_stream_submit(NULL, deaf, &g, &(ferry_stream_options){.interrupt = open_gate});
    CHECK_INT(try_number(stream), -EAGAIN);
    gate_wait_arrivals(&g, 1);
    CHECK_INT(ferry_stream_close(stream), 0);
    gate_destroy(&g);
    return 0;
}

static int64_t asks_itself(ferry_stream *stream, void *arg) {
    void *item;
    (void)arg;
    CHECK_INT(ferry_stream_next(stream, &item), -EDEADLK);
    CHECK_INT(ferry_stream_close(stream), -EDEADLK);
    return ferry_stream_send(stream, ITEM(1));
}

TASK_TEST(own_stream) {
    for (int job = 0; job < 2; job++) {
        ferry_stream *stream = job ? ferry_stream_submit(NULL, asks_itself, NULL, NULL)
                                   : ferry_stream_spawn(asks_itself, NULL, NULL);
        CHECK_INT(next_number(stream), 1);
        CHECK_INT(next_number(stream), FERRY_END);
        CHECK_INT(ferry_stream_close(stream), 0);
    }
    return 0;
}

struct posted {
    ferry_stream *stream;
    ferry_event done;
};

static int64_t in_callback(void *arg) {
    struct posted *p = arg;
    struct numbers fresh = {0};
    CHECK_INT(next_number(p->stream), -EDEADLK);
    CHECK_INT(try_number(p->stream), -EAGAIN);
    CHECK_INT(ferry_stream_close(p->stream), -EDEADLK);
    CHECK_INT(ferry_stream_close(numbers_stream(&fresh, false, 0)), 0); /* nothing to wait for */
    CHECK_INT(fresh.freed, 1);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(in_a_callback) {
    struct waits w = {.event = FERRY_EVENT_INIT};
    struct posted p = {ferry_stream_spawn(waits_first, &w, NULL), FERRY_EVENT_INIT};
    CHECK_INT(ferry_post(ferry_loop_current(), in_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    ferry_event_set(&w.event);
    CHECK_INT(next_number(p.stream), 7);
    CHECK_INT(ferry_stream_close(p.stream), 0);
    return 0;
}

/* Several consumers share one stream: each item goes to one of them, the end to all. */
struct share {
    ferry_stream *stream;
    intptr_t sum;
    int64_t rc;
};

static int64_t take_share(void *arg) {
    struct share *s = arg;
    int64_t n;
    while ((n = next_number(s->stream)) > 0)
        s->sum += (intptr_t)n;
    s->rc = n;
    return 0;
}

TASK_TEST(several_consumers) {
    struct numbers n = {.last = 100};
    struct share s[4];
    ferry_future *f[4];
    ferry_stream *stream = numbers_stream(&n, true, 2);
    for (int i = 0; i < 4; i++) {
        s[i] = (struct share){.stream = stream};
        f[i] = i % 2 ? ferry_spawn(take_share, &s[i]) : ferry_submit(NULL, take_share, &s[i]);
    }
    intptr_t sum = 0;
    for (int i = 0; i < 4; i++) {
        CHECK_INT(ferry_await(f[i]), 0);
        CHECK_INT(s[i].rc, FERRY_END);
        sum += s[i].sum;
    }
    CHECK_INT(sum, 5050);
    CHECK_INT(ferry_stream_close(stream), 0);
    until_freed(&n);
    return 0;
}

/* One thread for both sides: the pool grows by one (rule 21). On a strand that can't help. */
static int64_t consume_here(void *arg) {
    struct numbers n = {.last = 20};
    ferry_stream *stream = ferry_stream_submit(arg, send_numbers, &n, NULL);
    int64_t sum = 0, i;
    while ((i = next_number(stream)) > 0)
        sum += i;
    CHECK_INT(i, FERRY_END);
    CHECK_INT(ferry_stream_close(stream), 0);
    return sum;
}

static int64_t behind_itself(void *arg) {
    struct numbers n = {0};
    ferry_stream *stream = ferry_stream_submit(arg, send_numbers, &n, NULL);
    CHECK_INT(next_number(stream), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "strand"));
    CHECK_INT(ferry_stream_start(stream), -EDEADLK);
    CHECK_INT(ferry_stream_close(stream), 0);
    return n.begun;
}

TASK_TEST(both_sides_in_one_pool) {
    ferry_executor *pool = make_pool(1, NULL);
    ferry_executor *strand = make_strand(pool, 1);
    ferry_executor *wide = make_strand(pool, 2);
    CHECK_INT(ferry_await(ferry_submit(pool, consume_here, pool)), 210);
    CHECK_INT(ferry_await(ferry_submit(strand, consume_here, pool)), 210);
    CHECK_INT(ferry_await(ferry_submit(wide, consume_here, wide)), 210);
    CHECK_INT(ferry_await(ferry_submit(strand, behind_itself, strand)), 0);
    /* It has shrunk again. */
    saturation s;
    saturate(&s, pool, 1);
    ferry_future *f = ferry_submit(pool, return_arg, as_arg(3));
    for (int k = 0; k < 100; k++)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(stats_of(pool).running, 1);
    desaturate(&s);
    CHECK_INT(ferry_await(f), 3);
    ferry_executor_free(strand);
    ferry_executor_free(wide);
    end_pool(pool);
    return 0;
}

static void check_refused(ferry_stream *stream, int code, const char *why) {
    CHECK(stream == NULL);
    CHECK_INT(errno, code);
    CHECK(strstr(ferry_errmsg(), why));
}

TASK_TEST(refused) {
    struct numbers n = {0};
    ferry_executor *here;
    CHECK_INT(ferry_inline_new(&here), 0);
    check_refused(ferry_stream_spawn(NULL, &n, NULL), EINVAL, "producer function");
    check_refused(ferry_stream_submit(NULL, NULL, &n, NULL), EINVAL, "producer function");
    check_refused(ferry_stream_submit(here, send_numbers, &n, NULL), EINVAL, "inline");
    check_refused(ferry_stream_spawn(send_numbers, &n, &(ferry_stream_options){.bytes_max = 1}),
                  EINVAL, "item_size");
    check_refused(
        ferry_stream_spawn(send_numbers, &n, &(ferry_stream_options){.capacity = SIZE_MAX}), EINVAL,
        "capacity");
    ferry_executor_free(here);
    void *item = &n;
    CHECK_INT(ferry_stream_next(NULL, &item), -ENOMEM);
    CHECK(item == NULL);
    CHECK_INT(ferry_stream_try_next(NULL, &item), -ENOMEM);
    CHECK_INT(ferry_stream_start(NULL), -ENOMEM);
    CHECK_INT(ferry_stream_send(NULL, item), -ENOMEM);
    CHECK_INT(ferry_stream_try_send(NULL, item), -ENOMEM);
    CHECK_INT(ferry_stream_close(NULL), 0);

    /* Where the producer can't run any more, the consumer is told. */
    ferry_executor *pool = make_pool(1, NULL);
    ferry_executor_close(pool, FERRY_CLOSE_DRAIN);
    ferry_stream *stream = ferry_stream_submit(pool, send_numbers, &n, &plain);
    CHECK_INT(next_number(stream), FERRY_ECLOSED);
    CHECK(strstr(ferry_errmsg(), "executor was closed"));
    CHECK_INT(ferry_stream_close(stream), FERRY_ECLOSED);
    until_freed(&n);
    end_pool(pool);
    n = (struct numbers){0};
    ferry_loop *loop = ferry_loop_new();
    stream = ferry_stream_spawn_on(loop, send_numbers, &n, &plain);
    CHECK_INT(ferry_loop_shutdown(loop, 0), -EDEADLK);
    CHECK_INT(ferry_stream_close(stream), 0);
    CHECK_INT(n.begun, 0);
    until_freed(&n);
    CHECK_INT(ferry_loop_free(loop), 0);
    return 0;
}

static int64_t look_at_names(ferry_stream *stream, void *arg) {
    (void)arg;
    CHECK_STR(ferry_self_name(), "letters");
    return ferry_stream_send(stream, ITEM(1));
}

TASK_TEST(named) {
    for (int job = 0; job < 2; job++) {
        ferry_stream_options options = {.name = "letters"};
        ferry_stream *stream = job ? ferry_stream_submit(NULL, look_at_names, NULL, &options)
                                   : ferry_stream_spawn(look_at_names, NULL, &options);
        CHECK_INT(next_number(stream), 1);
        CHECK_INT(next_number(stream), FERRY_END);
        CHECK_INT(ferry_stream_close(stream), 0);
    }
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("items in order, then END, which stays", from_begin_to_end),
        CASE("no read-ahead beyond the capacity, and none before the first call", no_read_ahead),
        CASE("started early, it gets ahead as far as it may", started_early),
        CASE("bounded by bytes", bounded_by_bytes),
        CASE("the producer's error comes after its items, and stays", errors_come_last),
        CASE("CHN-11 cancelled before the first item: the producer is never begun",
             nothing_begun_in_a_cancelled_scope),
        CASE("CHN-04 in a cancelled scope no item is taken", a_cancelled_next_takes_nothing),
        CASE("a time-out is no end", a_time_out_is_no_end),
        CASE("leaving early stops and joins the producer", leaving_early),
        CASE("leaving in a cancelled scope joins as well", leaving_in_a_cancelled_scope),
        CASE("CHN-05 senders get BROKEN when the consumer has left", senders_are_told),
        CASE("CHN-11 a producer's own scope never cancels the consumer", producer_side_scopes),
        CASE("a job belongs to the scope in which its stream was made", scope_of_the_making),
        CASE("a consumer in a group", inside_a_group),
        CASE("CHN-12 a third party stops it: CLOSED", stopped_by_a_third_party),
        CASE("a producer that is still queued never runs", leaving_before_its_turn),
        CASE("THR-02 a producer that doesn't listen is given up", given_up),
        CASE("a producer's interrupt hook", interrupted),
        CASE("a producer can't wait for itself", own_stream),
        CASE("in a callback nothing may wait", in_a_callback),
        CASE("several consumers", several_consumers),
        CASE("EXE-14 consumer and producer share a pool of one thread", both_sides_in_one_pool),
        CASE("what can't be made is refused", refused),
        CASE("producers have names", named),
    };
    return SUPPORT_RUN(tests);
}

/* Streams between threads and loops, at a loop's shutdown, after a fork, and without memory. */
#include "config.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "oom.h"
#include "parked.h"
#include "pools.h"
#include "storm.h"
#include "streams.h"
#include "waiters.h"
#include "waiting.h"

static const ferry_stream_options plain = {
    .capacity = 3, .arg_free = free_numbers, .item_free = count_discarded};

/* A loop on a thread of its own, until it is told to end. */
struct elsewhere {
    ferry_loop *loop;
    ferry_event end;
    pthread_t thread;
};

static int64_t until_told(void *arg) {
    struct elsewhere *e = arg;
    return ferry_event_wait(&e->end);
}

static void *turn_elsewhere(void *arg) {
    struct elsewhere *e = arg;
    CHECK_INT(ferry_loop_run(e->loop, until_told, e), 0);
    CHECK_INT(ferry_loop_shutdown(e->loop, 1000), 0);
    return NULL;
}

static void begin_elsewhere(struct elsewhere *e) {
    *e = (struct elsewhere){.loop = ferry_loop_new(), .end = FERRY_EVENT_INIT};
    e->thread = start_thread(turn_elsewhere, e);
}

static void end_elsewhere(struct elsewhere *e) {
    ferry_event_set(&e->end);
    pthread_join(e->thread, NULL);
    CHECK_INT(ferry_loop_free(e->loop), 0);
}

/* A thread consumes what a job, or a task of a loop elsewhere, produces. */
static void check_consume(ferry_stream *stream, struct numbers *n) {
    for (int i = 1; i <= 50; i++)
        CHECK_INT(next_number(stream), i);
    CHECK_INT(ferry_stream_close(stream), 0);
    CHECK_INT(n->ended, 1);
    while (!atomic_load(&n->freed))
        sched_yield();
}

static void consumed_by_a_thread(void **state) {
    (void)state;
    struct elsewhere e;
    begin_elsewhere(&e);
    for (int round = 0; round < 20; round++) {
        struct numbers n = {0};
        check_consume(ferry_stream_spawn_on(e.loop, send_numbers, &n, &plain), &n);
        n = (struct numbers){0};
        check_consume(ferry_stream_submit(NULL, send_numbers, &n, &plain), &n);
    }
    end_elsewhere(&e);
}

static int64_t consume_across(void *arg) {
    for (int round = 0; round < 20; round++) {
        struct numbers n = {0};
        check_consume(ferry_stream_spawn_on(arg, send_numbers, &n, &plain), &n);
    }
    return 0;
}

static void across_two_loops(void **state) {
    (void)state;
    struct elsewhere e;
    begin_elsewhere(&e);
    assert_int_equal(ferry_run(consume_across, e.loop), 0);
    end_elsewhere(&e);
}

/* ---- A waiting consumer ---------------------------------------------------------------------- */

static int64_t sends_nothing(ferry_stream *stream, void *arg) {
    (void)stream;
    (void)arg;
    return ferry_sleep(FERRY_FOREVER);
}

static int wait_for_next(void *arg) {
    return (int)next_number(arg);
}

static void a_waiting_thread(void **state) {
    (void)state;
    for (int cancel = 0; cancel < 2; cancel++) {
        ferry_stream *stream = ferry_stream_submit(NULL, sends_nothing, NULL, NULL);
        struct waiting w;
        begin_waiting(&w, wait_for_next, stream);
        if (cancel)
            ferry_scope_cancel(&w.scope);
        else
            ferry_stream_stop(stream);
        pthread_join(w.thread, NULL);
        assert_int_equal(w.rc, cancel ? -ECANCELED : FERRY_ECLOSED);
        assert_int_equal(ferry_stream_close(stream), 0);
    }
}

/* The producer's own loop goes down under a consumer elsewhere. */
static void the_producers_loop_ends(void **state) {
    (void)state;
    struct elsewhere e;
    begin_elsewhere(&e);
    ferry_stream *stream = ferry_stream_spawn_on(e.loop, sends_nothing, NULL, NULL);
    ferry_stream *late = ferry_stream_spawn_on(e.loop, sends_nothing, NULL, NULL);
    struct waiting w;
    begin_waiting(&w, wait_for_next, stream);
    ferry_event_set(&e.end);
    pthread_join(e.thread, NULL);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.rc, FERRY_EJOBCANCELED);
    assert_int_equal(ferry_stream_close(stream), FERRY_EJOBCANCELED);
    assert_int_equal(next_number(late), FERRY_ECLOSED);
    assert_int_equal(ferry_stream_close(late), FERRY_ECLOSED);
    assert_int_equal(ferry_loop_free(e.loop), 0);
}

/* ---- A loop's shutdown ----------------------------------------------------------------------- */

struct left {
    ferry_executor *pool;
    ferry_stream *streams[3];
    struct numbers numbers[3];
    _Atomic intptr_t made;
    _Atomic bool task_ended;
    _Atomic int early; /* producers that ended before the tasks had */
};

static int64_t send_until_told(ferry_stream *stream, void *arg) {
    struct left *l = arg;
    int rc = 0;
    for (intptr_t i = 1; rc == 0; i++) {
        atomic_store(&l->made, i);
        rc = ferry_stream_send(stream, ITEM(i));
    }
    if (!atomic_load(&l->task_ended))
        atomic_fetch_add(&l->early, 1);
    CHECK(rc == FERRY_EBROKEN || rc == -ECANCELED);
    return rc;
}

static int64_t looks_on(void *arg) {
    struct left *l = arg;
    int rc = ferry_sleep(FERRY_FOREVER);
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_shield_open(&shield, FERRY_FOREVER);
    for (int i = 0; i < 20; i++)
        ferry_yield();
    ferry_scope_close(&shield, 0);
    atomic_store(&l->task_ended, true);
    return rc;
}

/* Ends with streams half consumed: of a job elsewhere, of a task, and one that never began. */
static int64_t leaves_streams(void *arg) {
    struct left *l = arg;
    ferry_detach(ferry_spawn(looks_on, l));
    CHECK_INT(ferry_yield(), 0);
    ferry_stream_options options = {.capacity = 2, .item_free = count_discarded};
    l->streams[0] = ferry_stream_submit(l->pool, send_until_told, l, &options);
    l->streams[1] = ferry_stream_spawn(send_numbers, &l->numbers[1], &options);
    l->streams[2] = ferry_stream_submit(l->pool, send_numbers, &l->numbers[2], &options);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(next_number(l->streams[i]), 1);
        CHECK_INT(next_number(l->streams[i]), 2);
    }
    while (l->made < 5 || l->numbers[1].made < 5) /* two taken, two inside, one in the hand */
        CHECK_INT(ferry_yield(), 0);
    atomic_store(&discarded, 0);
    return 0;
}

static void finalised_at_shutdown(void **state) {
    (void)state;
    struct left l = {.pool = make_pool(1, NULL)};
    assert_int_equal(ferry_run(leaves_streams, &l), 0);
    assert_true(l.task_ended);
    assert_int_equal(l.early, 0);
    assert_int_equal(stats_of(l.pool).running, 0);
    assert_int_equal(l.numbers[1].ended, 1);
    assert_int_equal(l.numbers[2].begun, 0);
    assert_int_equal(discarded, 4);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next_number(l.streams[i]), FERRY_ECLOSED);
        ferry_stream_close(l.streams[i]);
    }
    end_pool(l.pool);
}

static int64_t stands_at_gate(ferry_stream *stream, void *arg) {
    (void)stream;
    gate_wait(arg);
    return 0;
}

struct deaf {
    ferry_executor *pool;
    ferry_stream *stream;
    gate gate;
};

static int64_t leaves_a_deaf_one(void *arg) {
    struct deaf *d = arg;
    d->stream = ferry_stream_submit(d->pool, stands_at_gate, &d->gate,
                                    &(ferry_stream_options){.name = "deaf"});
    CHECK_INT(try_number(d->stream), -EAGAIN);
    gate_wait_arrivals(&d->gate, 1);
    return 0;
}

static void left_behind_at_shutdown(void **state) {
    (void)state;
    struct deaf d = {.pool = make_pool(1, NULL), .gate = GATE_INIT};
    struct kept_log log;
    ferry_loop *loop = ferry_loop_new();
    keep_log(&log, FERRY_LOG_WARNING, "stream 'deaf' is left behind");
    assert_int_equal(ferry_loop_run(loop, leaves_a_deaf_one, &d), 0);
    assert_int_equal(ferry_loop_shutdown(loop, 1), 1);
    assert_int_equal(kept_messages(&log), 1);
    gate_open(&d.gate);
    assert_int_equal(ferry_stream_close(d.stream), 0);
    end_pool(d.pool); /* the job isn't the loop's any more */
    assert_int_equal(ferry_loop_free(loop), 0);
    gate_destroy(&d.gate);
}

/* A stream that was never begun keeps no loop from ending. */
static int64_t makes_one(void *arg) {
    *(ferry_stream **)arg = ferry_stream_submit(NULL, sends_nothing, NULL, NULL);
    return 0;
}

static void an_unbegun_one_holds_nothing(void **state) {
    (void)state;
    ferry_stream *stream;
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, makes_one, &stream), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(ferry_stream_close(stream), 0);
}

/* ---- A fork ---------------------------------------------------------------------------------- */

static void after_a_fork(void **state) {
    (void)state;
    struct numbers n = {0};
    struct numbers fresh = {0};
    ferry_stream *stream = ferry_stream_submit(NULL, send_numbers, &n, &plain);
    ferry_stream *unbegun = ferry_stream_submit(NULL, send_numbers, &fresh, &plain);
    assert_int_equal(next_number(stream), 1);
    pid_t pid = fork_with_alarm();
    if (pid == 0) {
        ferry_stream_stop(stream);
        end_child(next_number(stream) == FERRY_EFORKED && next_number(unbegun) == FERRY_EFORKED &&
                  ferry_stream_start(unbegun) == FERRY_EFORKED &&
                  ferry_stream_send(stream, NULL) == FERRY_EFORKED &&
                  ferry_stream_close(stream) == FERRY_EFORKED);
    }
    int status = -1;
    assert_true(waitpid(pid, &status, 0) == pid);
    assert_true(child_was_good(status));
    assert_int_equal(next_number(stream), 2);
    assert_int_equal(ferry_stream_close(stream), 0);
    assert_int_equal(ferry_stream_close(unbegun), 0);
}

/* ---- Without memory -------------------------------------------------------------------------- */

/* Whatever fails, arg is freed once or is still the caller's, and nothing is lost. */
static int64_t use_one(void *arg) {
    bool job = arg != NULL;
    struct numbers n = {.last = 5};
    ferry_executor *pool = NULL;
    if (job && ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}) != 0)
        return CHECK(oom_hit());
    errno = 0;
    ferry_stream *stream = job ? ferry_stream_submit(pool, send_numbers, &n, &plain)
                               : ferry_stream_spawn(send_numbers, &n, &plain);
    if (stream) {
        int64_t rc, sum = 0;
        while ((rc = next_number(stream)) > 0)
            sum += rc;
        CHECK_INT(rc == FERRY_END ? sum : 15, 15);
        CHECK(rc == FERRY_END || (oom_hit() && (rc == -ENOMEM || rc == -EAGAIN)));
        rc = ferry_stream_close(stream);
        CHECK(rc == 0 || (oom_hit() && (rc == -ENOMEM || rc == -EAGAIN)));
    } else {
        CHECK_INT(errno, ENOMEM);
        CHECK_INT(n.begun, 0);
    }
    if (pool) {
        oom_never();
        CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
        ferry_executor_free(pool);
    }
    while (stream && !atomic_load(&n.freed))
        ferry_yield();
    CHECK_INT(n.freed, stream != NULL);
    return 0;
}

static void out_of_memory(void **state) {
    (void)state;
    sweep_memory(use_one);
}

/* ---- Any moment ------------------------------------------------------------------------------ */

static void one_round(void *pool, int who, unsigned *seed) {
    (void)who;
    struct numbers *n = calloc(1, sizeof *n);
    n->last = rand_r(seed) % 8;
    ferry_stream_options options = {.capacity = (size_t)rand_r(seed) % 3, .arg_free = free};
    bool job = rand_r(seed) % 2 || !ferry_loop_current();
    ferry_stream *stream = job ? ferry_stream_submit(pool, send_numbers, n, &options)
                               : ferry_stream_spawn(send_numbers, n, &options);
    int64_t rc = 1;
    for (int i = 1, most = rand_r(seed) % 10; i <= most && rc > 0; i++) {
        rc = next_number(stream);
        CHECK(rc == i || rc == FERRY_END || rc == -ECANCELED || rc == FERRY_EJOBCANCELED);
    }
    if (rand_r(seed) % 4 == 0)
        ferry_stream_stop(stream);
    rc = ferry_stream_close(stream);
    CHECK(rc == 0 || rc == FERRY_EJOBCANCELED);
}

static void storm(void **state) {
    (void)state;
    storm_run_on_pool(3, 4, 2, 4, support_slow() ? 50 : 500, one_round);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a thread consumes", consumed_by_a_thread),
        CASE("across two loops", across_two_loops),
        CASE("CHN-12 a waiting thread: cancelled, or its stream stopped", a_waiting_thread),
        CASE("CHN-12 the producer's loop is shut down", the_producers_loop_ends),
        CASE("CHN-12 half consumed at the shutdown: finalised after the tasks",
             finalised_at_shutdown),
        CASE("CHN-12 a producer that doesn't end is reported by name", left_behind_at_shutdown),
        CASE("RUN-05 a stream that wasn't begun holds nothing up", an_unbegun_one_holds_nothing),
        CASE("EXE-15 after a fork", after_a_fork),
        CASE("out of memory at every allocation", out_of_memory),
        CASE("closed, stopped and cancelled at any moment", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

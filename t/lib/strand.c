/* Strands: one job at a time, in order, or as many as are wide, and fair to each other. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "executor.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

/* What ran, in the order in which it began. */
struct journal {
    pthread_mutex_t lock;
    int entries[512]; /* under lock */
    size_t n;         /* under lock */
    int inside, most; /* under lock */
};

#define JOURNAL {.lock = PTHREAD_MUTEX_INITIALIZER}

struct visit {
    struct journal *journal;
    int id;
    gate *gate; /* to be passed; NULL */
};

static int64_t visit(void *arg) {
    struct visit *v = arg;
    struct journal *j = v->journal;
    pthread_mutex_lock(&j->lock);
    j->entries[j->n++] = v->id;
    if (++j->inside > j->most)
        j->most = j->inside;
    pthread_mutex_unlock(&j->lock);
    if (v->gate)
        gate_wait(v->gate);
    pthread_mutex_lock(&j->lock);
    j->inside--;
    pthread_mutex_unlock(&j->lock);
    return v->id;
}

enum { MANY = 200 };

static void one_at_a_time_in_order(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(4, NULL), *strand = make_strand(pool, 0);
    struct journal journal = JOURNAL;
    struct visit visits[MANY];
    ferry_future *jobs[MANY];
    for (int i = 0; i < MANY; i++) {
        visits[i] = (struct visit){&journal, i, NULL};
        jobs[i] = ferry_submit(strand, visit, &visits[i]);
    }
    for (int i = 0; i < MANY; i++)
        assert_int_equal(ferry_await(jobs[i]), i);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(journal.entries[i], i);
    assert_int_equal(journal.most, 1);
    assert_int_equal(stats_of(strand).started, MANY);
    ferry_executor_free(strand);
    end_pool(pool);
}

/* The worker that ends a job of a strand goes on with the next: nobody else is woken for it. */
static void a_strand_stays_on_its_thread(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(4, NULL), *strand = make_strand(pool, 1);
    struct journal journal = JOURNAL;
    struct visit visits[MANY];
    ferry_future *jobs[MANY];
    for (int round = 0; round < 2; round++) {
        gate g = GATE_INIT;
        journal.n = 0;
        for (int i = 0; i < MANY; i++) {
            visits[i] = (struct visit){&journal, i, i == 0 ? &g : NULL};
            jobs[i] = ferry_submit(strand, visit, &visits[i]);
        }
        gate_open(&g); /* it isn't out of jobs before */
        for (int i = 0; i < MANY; i++)
            assert_int_equal(ferry_await(jobs[i]), i);
    }
    assert_int_equal(stats_of(pool).threads_peak, 1);
    ferry_executor_free(strand);
    end_pool(pool);
}

static void as_many_as_it_is_wide(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(8, NULL), *strand = make_strand(pool, 3);
    struct journal journal = JOURNAL;
    struct visit visits[30];
    ferry_future *jobs[30];
    gate g = GATE_INIT;
    for (int i = 0; i < 30; i++) {
        visits[i] = (struct visit){&journal, i, i < 10 ? &g : NULL};
        jobs[i] = ferry_submit(strand, visit, &visits[i]);
    }
    gate_wait_arrivals(&g, 3);
    assert_int_equal(stats_of(strand).running, 3);
    assert_int_equal(stats_of(strand).queued, 27);
    assert_int_equal(stats_of(pool).running, 3);
    assert_int_equal(stats_of(pool).queued, 0); /* they take no place there */
    assert_int_equal(gate_arrivals(&g), 3);
    /* The rest of the pool is free for others. */
    for (int i = 0; i < 10; i++)
        assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(i))), i);
    gate_open(&g);
    for (int i = 0; i < 30; i++)
        assert_int_equal(ferry_await(jobs[i]), i);
    assert_int_equal(journal.most, 3);
    ferry_executor_free(strand);
    end_pool(pool);
    gate_destroy(&g);
}

/* With one thread there is one order: the turns go round. */
static void strands_take_turns(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strands[3];
    struct journal journal = JOURNAL;
    struct visit visits[4][10];
    ferry_future *jobs[4][10];
    saturation s;
    saturate(&s, pool, 1);
    for (int i = 0; i < 3; i++) {
        strands[i] = make_strand(pool, 1);
        for (int k = 0; k < 10; k++) {
            visits[i][k] = (struct visit){&journal, 100 * i + k, NULL};
            jobs[i][k] = ferry_submit(strands[i], visit, &visits[i][k]);
        }
    }
    /* jobs of the pool's own come after one turn of each, not after all jobs */
    for (int k = 0; k < 10; k++) {
        visits[3][k] = (struct visit){&journal, 300 + k, NULL};
        jobs[3][k] = ferry_submit(pool, visit, &visits[3][k]);
    }
    desaturate(&s);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 10; k++)
            assert_int_equal(ferry_await(jobs[i][k]), 100 * i + k);
    size_t at = 0;
    for (int i = 0; i < 3; i++)
        assert_int_equal(journal.entries[at++], 100 * i);
    for (int k = 0; k < 10; k++)
        assert_int_equal(journal.entries[at++], 300 + k);
    for (int k = 1; k < 10; k++)
        for (int i = 0; i < 3; i++)
            assert_int_equal(journal.entries[at++], 100 * i + k);
    for (int i = 0; i < 3; i++)
        ferry_executor_free(strands[i]);
    end_pool(pool);
}

static void a_strand_has_a_limit_of_its_own(void **state) {
    (void)state;
    ferry_executor *pool =
        make_pool(2, &(ferry_executor_options){.queue_max = 1, .full = FERRY_FULL_REFUSE});
    ferry_executor *strand;
    gate g = GATE_INIT;
    struct journal journal = JOURNAL;
    struct visit visits[4];
    ferry_future *jobs[4];
    assert_int_equal(
        ferry_strand_new(&strand, pool,
                         &(ferry_executor_options){.queue_max = 3, .full = FERRY_FULL_REFUSE}),
        0);
    for (int i = 0; i < 4; i++) {
        visits[i] = (struct visit){&journal, i, &g};
        jobs[i] = ferry_submit(strand, visit, &visits[i]);
        assert_false(ferry_done(jobs[i]));
    }
    assert_int_equal(ferry_await(ferry_submit(strand, visit, &visits[0])), -EAGAIN);
    gate_wait_arrivals(&g, 1);
    assert_int_equal(ferry_await(ferry_submit(strand, visit, &visits[0])), -EAGAIN);
    assert_int_equal(ferry_cancel(jobs[2]), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(jobs[2]), FERRY_EJOBCANCELED);
    jobs[2] = ferry_submit(strand, visit, &visits[2]);
    assert_int_equal(ferry_await(ferry_submit(strand, visit, &visits[0])), -EAGAIN);
    gate_open(&g);
    for (int i = 0; i < 4; i++)
        assert_int_equal(ferry_await(jobs[i]), i);
    ferry_executor_free(strand);
    end_pool(pool);
    gate_destroy(&g);
}

/* Whether a thread has got to the strand's turn yet, or not: the pool's queue has one place. */
static void a_turn_needs_a_thread_and_no_place(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        ferry_executor *pool =
            make_pool(1, &(ferry_executor_options){.queue_max = 1, .full = FERRY_FULL_REFUSE});
        ferry_executor *strand = make_strand(pool, 1);
        gate g = GATE_INIT;
        struct journal journal = JOURNAL;
        struct visit v = {&journal, 1, &g};
        ferry_future *jobs[] = {ferry_submit(strand, visit, &v),
                                ferry_submit(pool, return_arg, as_arg(1))};
        if (i % 2)
            gate_wait_arrivals(&g, 1);
        assert_false(ferry_done(jobs[1]));
        assert_int_equal(ferry_await(ferry_submit(pool, return_arg, NULL)), -EAGAIN);
        gate_open(&g);
        for (int k = 0; k < 2; k++)
            assert_int_equal(ferry_await(jobs[k]), 1);
        ferry_executor_free(strand);
        end_pool(pool);
        gate_destroy(&g);
    }
}

static void *submit_and_await(void *arg) {
    void **args = arg;
    struct visit *v = args[1];
    CHECK_INT(ferry_await(ferry_submit(args[0], visit, v)), v->id);
    return NULL;
}

static void places_in_a_strand_are_given_in_order(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL), *strand;
    assert_int_equal(ferry_strand_new(&strand, pool,
                                      &(ferry_executor_options){.threads_max = 1, .queue_max = 1}),
                     0);
    gate g = GATE_INIT;
    struct journal journal = JOURNAL;
    struct visit visits[8];
    ferry_future *jobs[2];
    pthread_t threads[8];
    void *args[8][2];
    for (int i = 0; i < 8; i++) {
        visits[i] = (struct visit){&journal, i, i == 0 ? &g : NULL};
        args[i][0] = strand;
        args[i][1] = &visits[i];
        if (i < 2) {
            jobs[i] = ferry_submit(strand, visit, &visits[i]);
            gate_wait_arrivals(&g, 1);
            continue;
        }
        threads[i] = start_thread(submit_and_await, args[i]);
        until_waiters(&strand->lock, &strand->wait_first, (size_t)i - 1);
        assert_int_equal(stats_of(strand).queued, 1);
    }
    gate_open(&g);
    for (int i = 0; i < 8; i++) {
        if (i < 2)
            assert_int_equal(ferry_await(jobs[i]), i);
        else
            pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 8; i++)
        assert_int_equal(journal.entries[i], i);
    assert_int_equal(journal.most, 1);
    ferry_executor_free(strand);
    end_pool(pool);
    gate_destroy(&g);
}

/* ---- Cancelled, closed, freed ---------------------------------------------------------------- */

static void a_cancelled_job_leaves_the_others_in_order(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL), *strand = make_strand(pool, 1);
    struct journal journal = JOURNAL;
    struct visit visits[20];
    ferry_future *jobs[20];
    gate g = GATE_INIT;
    for (int i = 0; i < 20; i++) {
        visits[i] = (struct visit){&journal, i, i == 0 ? &g : NULL};
        jobs[i] = ferry_submit(strand, visit, &visits[i]);
    }
    gate_wait_arrivals(&g, 1);
    for (int i = 1; i < 20; i += 2)
        assert_int_equal(ferry_cancel(jobs[i]), FERRY_CANCEL_NEVER_RAN);
    gate_open(&g);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ferry_await(jobs[i]), i % 2 ? FERRY_EJOBCANCELED : i);
    assert_int_equal(journal.n, 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(journal.entries[i], 2 * i);
    /* With nothing left for its turn, it is as good as new. */
    for (int i = 0; i < 50; i++) {
        ferry_future *job = ferry_submit(strand, return_arg, as_arg(1));
        ferry_cancel(job);
        ferry_detach(job);
        assert_int_equal(ferry_await(ferry_submit(strand, return_arg, as_arg(i))), i);
    }
    end_pool(strand);
    end_pool(pool);
    gate_destroy(&g);
}

static void *stop_thread(void *strand) {
    CHECK_INT(ferry_executor_stop(strand, FERRY_FOREVER), 0);
    return NULL;
}

static void stop_waits_for_what_is_queued(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(3, NULL), *strand = make_strand(pool, 2);
    struct journal journal = JOURNAL;
    struct visit visits[10];
    ferry_future *jobs[10];
    gate g = GATE_INIT;
    for (int i = 0; i < 10; i++) {
        visits[i] = (struct visit){&journal, i, &g};
        jobs[i] = ferry_submit(strand, visit, &visits[i]);
    }
    pthread_t stopper = start_thread(stop_thread, strand);
    until_waiters(&strand->lock, &strand->stop_first, 1);
    assert_int_equal(ferry_await(ferry_submit(strand, visit, &visits[0])), FERRY_ECLOSED);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(1))), 1);
    gate_open(&g);
    pthread_join(stopper, NULL);
    for (int i = 0; i < 10; i++) {
        assert_true(ferry_done(jobs[i])); /* it doesn't return before */
        assert_int_equal(ferry_await(jobs[i]), i);
    }
    ferry_executor_free(strand);
    end_pool(pool);
    gate_destroy(&g);
}

/* The handle's lock is held: its job has ended, and can't be delivered yet. */
static void stop_waits_for_the_delivery(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL), *strand = make_strand(pool, 1);
    gate g = GATE_INIT;
    struct journal journal = JOURNAL;
    struct visit v = {&journal, 4, &g};
    ferry_future *job = ferry_submit(strand, visit, &v);
    gate_wait_arrivals(&g, 1);
    ferry__lock(&job->lock);
    gate_open(&g);
    while (stats_of(strand).running > 0)
        sched_yield();
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "still has 1 jobs");
    assert_int_equal(ferry_executor_stop(strand, 0), 1);
    assert_int_equal(kept_messages(&log), 1);
    ferry__unlock(&job->lock);
    assert_int_equal(ferry_executor_stop(strand, FERRY_FOREVER), 0);
    assert_true(ferry_done(job));
    assert_int_equal(ferry_await(job), 4);
    ferry_executor_free(strand);
    end_pool(pool);
    gate_destroy(&g);
}

/* Again and again at the moment of the end, with the last job cancelled or not. */
static void stop_returns_when_all_handles_are_done(void **state) {
    (void)state;
    int rounds = support_slow() ? 100 : 1000;
    ferry_executor *pool = make_pool(2, NULL);
    for (int i = 0; i < rounds; i++) {
        ferry_executor *strand = make_strand(pool, 2);
        ferry_future *jobs[3];
        for (int k = 0; k < 3; k++)
            jobs[k] = ferry_submit(strand, return_arg, as_arg(k));
        if (i % 2)
            ferry_executor_close(strand, FERRY_CLOSE_CANCEL);
        CHECK_INT(ferry_executor_stop(strand, FERRY_FOREVER), 0);
        for (int k = 0; k < 3; k++) {
            CHECK(ferry_done(jobs[k]));
            ferry_detach(jobs[k]);
        }
        ferry_executor_free(strand);
    }
    end_pool(pool);
}

static int64_t free_strand(void *arg) {
    ferry_executor_free(arg);
    return 1;
}

/* The pool goes with the last of its strands. */
static void a_strand_keeps_its_pool(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strands[2];
    for (int i = 0; i < 2; i++)
        strands[i] = make_strand(pool, 1);
    ferry_executor_free(pool);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ferry_await(ferry_submit(strands[i % 2], return_arg, as_arg(i))), i);
    ferry_executor_free(strands[0]);
    assert_int_equal(ferry_await(ferry_submit(strands[1], return_arg, as_arg(7))), 7);
    ferry_future *jobs[10];
    jobs[0] = ferry_submit(strands[1], free_strand, strands[1]);
    assert_int_equal(ferry_await(jobs[0]), 1);
}

static void a_freed_strand_runs_what_is_queued(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strand = make_strand(pool, 1);
    ferry_future *jobs[10];
    saturation s;
    saturate(&s, pool, 1);
    for (int i = 0; i < 10; i++)
        jobs[i] = ferry_submit(strand, return_arg, as_arg(i));
    ferry_executor_free(strand);
    ferry_executor_free(pool);
    desaturate(&s);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ferry_await(jobs[i]), i);
}

static void a_strand_on_a_closed_pool_is_closed(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strand = make_strand(pool, 1);
    ferry_future *queued;
    saturation s;
    saturate(&s, pool, 1);
    queued = ferry_submit(strand, return_arg, as_arg(1));
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_DRAIN), 0);
    assert_int_equal(ferry_await(ferry_submit(strand, return_arg, NULL)), FERRY_ECLOSED);
    desaturate(&s);
    assert_int_equal(ferry_await(queued), 1); /* what it had still runs */
    end_pool(strand);
    end_pool(pool);
}

static void what_a_strand_can_be_made_of(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strand = make_strand(pool, 1), *in_place,
                   *bad = strand;
    assert_int_equal(ferry_inline_new(&in_place), 0);
    assert_int_equal(ferry_strand_new(&bad, strand, NULL), -EINVAL);
    assert_null(bad);
    assert_non_null(strstr(ferry_errmsg(), "pool"));
    assert_int_equal(ferry_strand_new(&bad, in_place, NULL), -EINVAL);
    assert_int_equal(ferry_strand_new(&bad, pool, &(ferry_executor_options){.threads_max = -1}),
                     -EINVAL);
    ferry_executor *of_default;
    assert_int_equal(ferry_strand_new(&of_default, NULL, NULL), 0);
    assert_int_equal(ferry_await(ferry_submit(of_default, return_arg, as_arg(5))), 5);
    ferry_executor_free(of_default);
    /* it wasn't the owner */
    assert_int_equal(ferry_await(ferry_submit(NULL, return_arg, as_arg(6))), 6);
    ferry_executor_free(in_place);
    ferry_executor_free(strand);
    end_pool(pool);
}

/* ---- Jobs of a strand that wait for others --------------------------------------------------- */

struct nest {
    ferry_executor *strand;
    struct journal *journal;
    int depth;
};

static int64_t await_the_next(void *arg) {
    struct nest *n = arg;
    struct visit v = {n->journal, n->depth, NULL};
    CHECK_INT(visit(&v), n->depth);
    if (n->depth == 0)
        return 0;
    struct nest below = {n->strand, n->journal, n->depth - 1};
    return 1 + ferry_await(ferry_submit(n->strand, await_the_next, &below));
}

static void a_strand_that_waits_for_itself(void **state) {
    (void)state;
    for (int width = 1; width <= 2; width++) {
        ferry_executor *pool = make_pool(2, NULL), *strand = make_strand(pool, width);
        struct journal journal = JOURNAL;
        struct nest nest = {strand, &journal, 20};
        struct visit visits[10];
        ferry_future *jobs[10], *outer = ferry_submit(strand, await_the_next, &nest);
        for (int i = 0; i < 10; i++) {
            visits[i] = (struct visit){&journal, 100 + i, NULL};
            jobs[i] = ferry_submit(strand, visit, &visits[i]);
        }
        assert_int_equal(ferry_await(outer), 20);
        for (int i = 0; i < 10; i++)
            assert_int_equal(ferry_await(jobs[i]), 100 + i);
        assert_int_equal(journal.n, 31);
        assert_true(journal.most <= width);
        assert_int_equal(stats_of(strand).running + stats_of(strand).queued, 0);
        /* And it goes on as before. */
        journal.n = 0;
        gate g = GATE_INIT;
        for (int i = 0; i < 10; i++) {
            visits[i].gate = &g;
            jobs[i] = ferry_submit(strand, visit, &visits[i]);
        }
        gate_wait_arrivals(&g, (unsigned)width);
        assert_int_equal(stats_of(strand).running, width);
        gate_open(&g);
        for (int i = 0; i < 10; i++)
            assert_int_equal(ferry_await(jobs[i]), 100 + i);
        assert_int_equal(journal.most, width);
        end_pool(strand);
        end_pool(pool);
        gate_destroy(&g);
    }
}

static int64_t await_other_strand(void *arg) {
    return ferry_await(ferry_submit(arg, return_arg, as_arg(3)));
}

static int64_t await_strand_of_full_pool(void *arg) {
    return ferry_await(ferry_submit(arg, await_other_strand, arg));
}

/* The strand isn't full, but the pool is: it grows. */
static void a_pool_job_that_waits_for_a_strand(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strand = make_strand(pool, 1);
    assert_int_equal(ferry_await(ferry_submit(pool, await_other_strand, strand)), 3);
    assert_int_equal(stats_of(pool).threads_peak, 2);
    assert_int_equal(ferry_await(ferry_submit(pool, await_strand_of_full_pool, strand)), 3);
    ferry_executor_free(strand);
    end_pool(pool);
}

/* ---- Many ------------------------------------------------------------------------------------ */

struct counter {
    ferry_executor *strand;
    long plain; /* by the strand's jobs alone */
    gate *start;
};

static int64_t count(void *arg) {
    struct counter *c = arg;
    c->plain++;
    return 1;
}

static void *flood(void *arg) {
    struct counter *c = arg;
    int rounds = support_slow() ? 500 : 5000;
    ferry_future *jobs[16];
    for (int i = 0; i < rounds; i++) {
        if (i >= 16)
            ferry_detach(jobs[i % 16]);
        jobs[i % 16] = ferry_submit(c[i % 3].strand, count, &c[i % 3]);
    }
    for (int i = 0; i < 16; i++)
        CHECK_INT(ferry_await(jobs[i]), 1);
    return NULL;
}

/* What only a strand's jobs touch needs no lock: ThreadSanitizer would see if one ran beside
 * another. */
static void a_strand_guards_what_its_jobs_share(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(3, &(ferry_executor_options){.idle_ms = 1});
    struct counter counters[3] = {0};
    pthread_t threads[4];
    for (int i = 0; i < 3; i++)
        counters[i].strand = make_strand(pool, 1);
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(flood, counters);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    long sum = 0;
    for (int i = 0; i < 3; i++) {
        end_pool(counters[i].strand);
        sum += counters[i].plain;
    }
    assert_int_equal(sum, 4 * (support_slow() ? 500 : 5000));
    end_pool(pool);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a strand runs one job at a time, in order", one_at_a_time_in_order),
        CASE("EXE-02 a strand stays on its thread as long as it has jobs",
             a_strand_stays_on_its_thread),
        CASE("a strand runs as many jobs as it is wide, and no more", as_many_as_it_is_wide),
        CASE("strands, and the pool's own jobs, take turns", strands_take_turns),
        CASE("a strand has a limit of its own, and takes no place in the pool's queue",
             a_strand_has_a_limit_of_its_own),
        CASE("a strand's turn needs a thread of the pool, and no place",
             a_turn_needs_a_thread_and_no_place),
        CASE("places in a full strand are given in order", places_in_a_strand_are_given_in_order),
        CASE("a cancelled job leaves the others in order",
             a_cancelled_job_leaves_the_others_in_order),
        CASE("EXE-06 stop of a strand waits for what is queued", stop_waits_for_what_is_queued),
        CASE("EXE-06 stop of a strand waits for the delivery", stop_waits_for_the_delivery),
        CASE("EXE-07 when stop of a strand returns all its handles are done",
             stop_returns_when_all_handles_are_done),
        CASE("a strand keeps its pool alive", a_strand_keeps_its_pool),
        CASE("EXE-06 a freed strand runs what is queued", a_freed_strand_runs_what_is_queued),
        CASE("EXE-05 a strand on a closed pool is closed", a_strand_on_a_closed_pool_is_closed),
        CASE("what a strand can be made of", what_a_strand_can_be_made_of),
        CASE("EXE-14 a job that waits for one of its own strand runs it",
             a_strand_that_waits_for_itself),
        CASE("EXE-14 a job that waits for a strand of its own full pool",
             a_pool_job_that_waits_for_a_strand),
        CASE("a strand guards what its jobs share", a_strand_guards_what_its_jobs_share),
    };
    return SUPPORT_RUN(tests);
}

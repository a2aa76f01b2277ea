/* Pools: how many threads there are and when, who gets which job, limits of the queue. Their
 * end, the default ones and the inline executor are in executor_end.c, cancelling in
 * executor_cancel.c, what the system may refuse in threads.c. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "executor.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "threads.h"
#include "waiters.h"

#define UNTIL_SUBMITTERS(pool, n) until_waiters(&(pool)->lock, &(pool)->wait_first, (n))

static int64_t pass_gate(void *arg) {
    gate_wait(arg);
    return (int64_t)(uintptr_t)pthread_self();
}

/* ---- Threads --------------------------------------------------------------------------------- */

struct crowd {
    gate gate;
    atomic_int inside, most;
};

static int64_t join_crowd(void *arg) {
    struct crowd *c = arg;
    int now = atomic_fetch_add(&c->inside, 1) + 1;
    int most = atomic_load(&c->most);
    while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
        continue;
    gate_wait(&c->gate);
    atomic_fetch_sub(&c->inside, 1);
    return 1;
}

static void four_threads_for_sixty_jobs(void **state) {
    (void)state;
    struct crowd c = {.gate = GATE_INIT};
    ferry_executor *pool = make_pool(4, NULL);
    ferry_future *jobs[60];
    assert_int_equal(stats_of(pool).threads, 0); /* made by the first jobs that need them */
    for (int i = 0; i < 60; i++)
        jobs[i] = ferry_submit(pool, join_crowd, &c);
    gate_wait_arrivals(&c.gate, 4);
    ferry_executor_stats stats = stats_of(pool);
    assert_int_equal(stats.threads, 4);
    assert_int_equal(stats.running, 4);
    assert_int_equal(stats.queued, 56);
    assert_int_equal(stats.idle, 0);
    assert_int_equal(gate_arrivals(&c.gate), 4);
    gate_open(&c.gate);
    for (int i = 0; i < 60; i++)
        assert_int_equal(ferry_await(jobs[i]), 1);
    stats = stats_of(pool);
    assert_int_equal(atomic_load(&c.most), 4);
    assert_int_equal(stats.threads_peak, 4);
    assert_int_equal(stats.started, 60);
    assert_int_equal(stats.queued + stats.running, 0);
    end_pool(pool);
    gate_destroy(&c.gate);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    static const ferry_executor_options bad[] = {
        {.threads_max = 0},
        {.threads_max = -1},
        {.threads_max = 2, .threads_min = -1},
        {.threads_max = 2, .threads_min = 3},
        {.threads_max = 2, .idle_ms = -1},
        {.threads_max = 2, .full = 2},
        {.threads_max = 2, .full = -1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ferry_executor *pool = (ferry_executor *)1;
        assert_int_equal(ferry_executor_new(&pool, &bad[i]), -EINVAL);
        assert_null(pool);
        assert_non_null(strstr(ferry_errmsg(), "threads_max"));
    }
}

static void default_options(void **state) {
    (void)state;
    ferry_executor *pool;
    assert_int_equal(ferry_executor_new(&pool, NULL), 0);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(3))), 3);
    end_pool(pool);
}

static void the_same_thread_again(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(4, NULL);
    int64_t first = ferry_await(ferry_submit(pool, my_thread, NULL));
    for (int i = 0; i < 200; i++)
        assert_true(ferry_await(ferry_submit(pool, my_thread, NULL)) == first);
    assert_int_equal(stats_of(pool).threads_peak, 1);
    end_pool(pool);
}

/* Until all idle threads sleep until they are called: one that still looks at the door, or only
 * naps, may come before the one that is. */
static void until_all_sleep(ferry_executor *pool) {
    for (bool all = false; !all; sched_yield()) {
        ferry__lock(&pool->lock);
        all = true;
        for (struct ferry__worker *w = ferry__threads_of(pool)->idle; w; w = w->below)
            all = all && w->counted;
        ferry__unlock(&pool->lock);
    }
}

static void last_idle_first_used(void **state) {
    (void)state;
    gate g[3] = {GATE_INIT, GATE_INIT, GATE_INIT};
    int64_t thread[3];
    ferry_future *jobs[3];
    ferry_executor *pool = make_pool(3, NULL);
    for (int i = 0; i < 3; i++) {
        jobs[i] = ferry_submit(pool, pass_gate, &g[i]);
        gate_wait_arrivals(&g[i], 1);
    }
    static const int order[] = {2, 0, 1};
    for (int i = 0; i < 3; i++) {
        gate_open(&g[order[i]]);
        thread[order[i]] = ferry_await(jobs[order[i]]);
    }
    assert_int_equal(stats_of(pool).idle, 3);
    until_all_sleep(pool);
    for (int i = 0; i < 50; i++)
        assert_true(ferry_await(ferry_submit(pool, my_thread, NULL)) == thread[1]);
    end_pool(pool);
    for (int i = 0; i < 3; i++)
        gate_destroy(&g[i]);
}

struct chain {
    ferry_executor *pool;
    int left;
    int64_t thread;
    ferry_promise *over;
};

static void next_of_chain(ferry_future *job, int64_t result, void *arg) {
    struct chain *c = arg;
    ferry_detach(job);
    CHECK(c->thread == 0 || c->thread == result);
    CHECK_INT(stats_of(c->pool).idle, 1); /* it is idle before anybody hears of the result */
    c->thread = result;
    if (c->left-- == 0) {
        CHECK_INT(ferry_promise_set(c->over, 0), 0);
        return;
    }
    CHECK_INT(ferry_then(ferry_submit(c->pool, my_thread, NULL), NULL, next_of_chain, c), 0);
}

TASK_TEST(a_completion_submits_the_next_job) {
    struct chain c = {.pool = make_pool(4, NULL), .left = 100};
    ferry_future *over;
    c.over = ferry_promise_new(&over, NULL);
    CHECK_INT(ferry_then(ferry_submit(c.pool, my_thread, NULL), NULL, next_of_chain, &c), 0);
    CHECK_INT(ferry_await(over), 0);
    ferry_promise_drop(c.over);
    CHECK_INT(stats_of(c.pool).threads_peak, 1);
    end_pool(c.pool);
    return 0;
}

/* The quick job comes last in a burst: each thread that is woken has to pass it on. */
static void no_job_waits_while_a_thread_is_free(void **state) {
    (void)state;
    int rounds = support_slow() ? 20 : 200;
    ferry_executor *pool = make_pool(4, &(ferry_executor_options){.idle_ms = 1});
    for (int round = 0; round < rounds; round++) {
        gate g = GATE_INIT;
        ferry_future *slow[3];
        int n = round % 4;
        for (int i = 0; i < n; i++)
            slow[i] = ferry_submit(pool, pass_gate, &g);
        assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(5))), 5);
        gate_open(&g);
        for (int i = 0; i < n; i++)
            assert_true(ferry_await(slow[i]) != 0);
        gate_destroy(&g);
        if (round % 16 == 0) /* now and then all have gone home */
            while (stats_of(pool).threads > 0)
                sched_yield();
    }
    assert_true(stats_of(pool).threads_peak <= 4);
    end_pool(pool);
}

static void idle_threads_leave(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(4, &(ferry_executor_options){.idle_ms = 1});
    saturation s;
    saturate(&s, pool, 4);
    assert_int_equal(stats_of(pool).threads, 4);
    desaturate(&s);
    while (stats_of(pool).threads > 0)
        sched_yield();
    assert_int_equal(stats_of(pool).idle, 0);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(1))), 1);
    end_pool(pool);
}

struct looks {
    char name[32];
    sigset_t mask;
    size_t stack;
};

static int64_t look_at_thread(void *arg) {
    struct looks *l = arg;
    pthread_attr_t attr;
    CHECK_INT(pthread_getname_np(pthread_self(), l->name, sizeof l->name), 0);
    CHECK_INT(pthread_sigmask(SIG_BLOCK, NULL, &l->mask), 0);
    CHECK_INT(pthread_getattr_np(pthread_self(), &attr), 0);
    CHECK_INT(pthread_attr_getstacksize(&attr, &l->stack), 0);
    pthread_attr_destroy(&attr);
    return 0;
}

static void names_stacks_and_masks(void **state) {
    (void)state;
    struct looks looks;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    ferry_executor *pool =
        make_pool(1, &(ferry_executor_options){.name = "readers", .stack_size = (size_t)3 << 20});
    assert_int_equal(ferry_await(ferry_submit(pool, look_at_thread, &looks)), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_string_equal(looks.name, "readers-1");
    assert_true(looks.stack >= (size_t)3 << 20);
    static const int blocked[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGALRM, SIGCHLD, SIGPIPE};
    for (size_t i = 0; i < sizeof blocked / sizeof blocked[0]; i++) {
        assert_int_equal(sigismember(&looks.mask, blocked[i]), 1);
        assert_int_equal(sigismember(&after, blocked[i]), sigismember(&before, blocked[i]));
    }
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        assert_int_equal(sigismember(&looks.mask, open[i]), 0);
    end_pool(pool);
    pool = make_pool(1, &(ferry_executor_options){.stack_size = 1}); /* rounded up */
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(2))), 2);
    end_pool(pool);
}

/* ---- The queue's limit ----------------------------------------------------------------------- */

/* What free threads will take at once takes no place. */
static void refuses_when_full(void **state) {
    (void)state;
    gate g = GATE_INIT;
    ferry_executor *pool =
        make_pool(3, &(ferry_executor_options){.queue_max = 2, .full = FERRY_FULL_REFUSE});
    ferry_future *jobs[5];
    for (int i = 0; i < 5; i++) {
        jobs[i] = ferry_submit(pool, pass_gate, &g);
        assert_false(ferry_done(jobs[i]));
    }
    for (int i = 0; i < 2; i++) {
        ferry_future *refused = ferry_submit(pool, pass_gate, &g);
        assert_true(ferry_done(refused));
        assert_int_equal(ferry_await(refused), -EAGAIN);
        assert_non_null(strstr(ferry_errmsg(), "queue is full"));
    }
    /* A queued one that is cancelled leaves its place at once. */
    assert_int_equal(ferry_cancel(jobs[4]), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(jobs[4]), FERRY_EJOBCANCELED);
    jobs[4] = ferry_submit(pool, pass_gate, &g);
    assert_false(ferry_done(jobs[4]));
    assert_int_equal(ferry_await(ferry_submit(pool, pass_gate, &g)), -EAGAIN);
    gate_open(&g);
    for (int i = 0; i < 5; i++)
        assert_true(ferry_await(jobs[i]) != 0);
    assert_int_equal(stats_of(pool).cancelled, 1);
    end_pool(pool);
    gate_destroy(&g);
}

struct line {
    ferry_executor *pool;
    pthread_mutex_t lock;
    int order[64]; /* of running; under lock */
    size_t n;      /* under lock */
};

struct entry {
    struct line *line;
    int id;
    ferry_scope scope;
    int64_t rc;
};

static int64_t note_entry(void *arg) {
    struct entry *e = arg;
    pthread_mutex_lock(&e->line->lock);
    e->line->order[e->line->n++] = e->id;
    pthread_mutex_unlock(&e->line->lock);
    return e->id;
}

/* A task or a thread that submits, and then waits for its job. */
static int64_t enter_line(void *arg) {
    struct entry *e = arg;
    CHECK_INT(ferry_scope_open(&e->scope, FERRY_FOREVER), 0);
    e->rc = ferry_await(ferry_submit(e->line->pool, note_entry, e));
    ferry_scope_close(&e->scope, 0);
    return 0;
}

enum { IN_LINE = 12 };

/* Every third of those who wait for a place is a thread. */
TASK_TEST(places_are_given_in_order_to_tasks_and_threads) {
    struct line line = {.pool = make_pool(1, &(ferry_executor_options){.queue_max = 1}),
                        .lock = PTHREAD_MUTEX_INITIALIZER};
    struct entry entries[IN_LINE + 1];
    ferry_future *tasks[IN_LINE] = {NULL};
    pthread_t threads[IN_LINE];
    saturation s;
    saturate(&s, line.pool, 1);
    entries[IN_LINE] = (struct entry){.line = &line, .id = 99};
    ferry_future *queued = ferry_submit(line.pool, note_entry, &entries[IN_LINE]);
    for (int i = 0; i < IN_LINE; i++) {
        entries[i] = (struct entry){.line = &line, .id = i};
        if (i % 3 == 2)
            threads[i] = start_in_thread(enter_line, &entries[i]);
        else
            tasks[i] = ferry_spawn(enter_line, &entries[i]);
        UNTIL_SUBMITTERS(line.pool, (size_t)i + 1);
    }
    CHECK_INT(stats_of(line.pool).queued, 1);
    /* One task and one thread give up: nobody gets their places, and their jobs never run. */
    ferry_scope_cancel(&entries[3].scope);
    ferry_scope_cancel(&entries[5].scope);
    UNTIL_SUBMITTERS(line.pool, IN_LINE - 2);
    /* The queued job leaves, and the first in line gets its place. */
    CHECK_INT(ferry_cancel(queued), FERRY_CANCEL_NEVER_RAN);
    CHECK_INT(ferry_await(queued), FERRY_EJOBCANCELED);
    UNTIL_SUBMITTERS(line.pool, IN_LINE - 3);
    CHECK_INT(stats_of(line.pool).queued, 1);
    desaturate(&s);
    size_t at = 0;
    for (int i = 0; i < IN_LINE; i++) {
        if (tasks[i])
            CHECK_INT(ferry_await(tasks[i]), 0);
    }
    for (int i = 2; i < IN_LINE; i += 3)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < IN_LINE; i++) {
        bool gave_up = i == 3 || i == 5;
        CHECK_INT(entries[i].rc, gave_up ? -ECANCELED : i);
        if (!gave_up)
            CHECK_INT(line.order[at++], i);
    }
    CHECK_INT(line.n, at);
    end_pool(line.pool);
    return 0;
}

static int64_t submit_in_callback(void *arg) {
    ferry_future *job = ferry_submit(arg, return_arg, NULL);
    CHECK(ferry_done(job));
    CHECK_INT(ferry_await(job), -EAGAIN);
    return 0;
}

TASK_TEST(where_nothing_may_wait_a_full_queue_refuses) {
    ferry_executor *pool = make_pool(1, &(ferry_executor_options){.queue_max = 1});
    saturation s;
    saturate(&s, pool, 1);
    ferry_future *queued = ferry_submit(pool, return_arg, as_arg(1));
    CHECK_INT(ferry_post(ferry_loop_current(), submit_in_callback, pool), 0);
    CHECK_INT(ferry_sleep(1), 0); /* a turn has gone by */
    desaturate(&s);
    CHECK_INT(ferry_await(queued), 1);
    end_pool(pool);
    return 0;
}

static void closing_ends_the_wait_for_a_place(void **state) {
    (void)state;
    struct line line = {.pool = make_pool(1, &(ferry_executor_options){.queue_max = 1}),
                        .lock = PTHREAD_MUTEX_INITIALIZER};
    saturation s;
    saturate(&s, line.pool, 1);
    ferry_future *queued = ferry_submit(line.pool, return_arg, as_arg(1));
    struct entry entry = {.line = &line};
    pthread_t thread = start_in_thread(enter_line, &entry);
    UNTIL_SUBMITTERS(line.pool, 1);
    assert_int_equal(ferry_executor_close(line.pool, FERRY_CLOSE_DRAIN), 0);
    pthread_join(thread, NULL);
    assert_int_equal(entry.rc, FERRY_ECLOSED);
    desaturate(&s);
    assert_int_equal(ferry_await(queued), 1);
    assert_int_equal(line.n, 0);
    end_pool(line.pool);
}

static int64_t submit_five_more(void *arg) {
    ferry_future *jobs[5];
    for (int i = 0; i < 5; i++)
        jobs[i] = ferry_submit(arg, return_arg, as_arg(i));
    for (int i = 0; i < 5; i++)
        CHECK_INT(ferry_await(jobs[i]), i);
    return 5;
}

/* It would wait for itself. */
static void a_job_passes_the_limit_of_its_own_pool(void **state) {
    (void)state;
    for (int full = FERRY_FULL_WAIT; full <= FERRY_FULL_REFUSE; full++) {
        ferry_executor *pool =
            make_pool(1, &(ferry_executor_options){.queue_max = 1, .full = full});
        assert_int_equal(ferry_await(ferry_submit(pool, submit_five_more, pool)), 5);
        end_pool(pool);
    }
}

/* ---- Waiting inside -------------------------------------------------------------------------- */

static int64_t await_own(void *arg) {
    ferry_executor *pool = arg;
    return ferry_await(ferry_submit(pool, my_thread, NULL));
}

static void gather_three(ferry_executor *pool, unsigned flags) {
    ferry_future *jobs[3];
    int64_t results[3];
    for (int i = 0; i < 3; i++)
        jobs[i] = ferry_submit(pool, return_arg, as_arg(i));
    CHECK_INT(ferry_gather(jobs, 3, results, flags), 0);
    CHECK_INT(results[0] + 10 * results[1] + 100 * results[2], 210);
}

static int64_t gather_own(void *arg) {
    gather_three(arg, FERRY_COLLECT);
    return my_thread(NULL);
}

static int64_t group_own(void *arg) {
    ferry_executor *pool = arg;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_group_submit(&group, pool, return_arg, as_arg(i)), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    return my_thread(NULL);
}

/* The worker runs what it waits for itself: no thread more is needed. */
static void a_saturated_pool_of_one_waits_for_itself(void **state) {
    (void)state;
    static const ferry_fn own[] = {await_own, gather_own, group_own};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        ferry_executor *pool = make_pool(1, NULL);
        int64_t thread = ferry_await(ferry_submit(pool, my_thread, NULL));
        assert_true(ferry_await(ferry_submit(pool, own[i], pool)) == thread);
        assert_int_equal(stats_of(pool).threads_peak, 1);
        assert_int_equal(stats_of(pool).running, 0);
        assert_int_equal(stats_of(pool).idle, 1);
        end_pool(pool);
    }
}

static int64_t wait_own(void *arg) {
    ferry_future *job = ferry_submit(arg, return_arg, as_arg(4));
    CHECK_INT(ferry_wait(job), 0);
    return ferry_await(job);
}

static int64_t await_own_for(void *arg) {
    return ferry_await_for(ferry_submit(arg, return_arg, as_arg(4)), 3600000);
}

static int64_t await_own_in_a_scope(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    return ferry_scope_close(&scope, ferry_await(ferry_submit(arg, return_arg, as_arg(4))));
}

static int64_t gather_own_until_one_fails(void *arg) {
    gather_three(arg, 0);
    return 4;
}

static int64_t await_own_in_a_task(void *arg) {
    return ferry_await(ferry_submit(arg, return_arg, as_arg(4)));
}

/* A wait that may have to end before what it waits for: that runs elsewhere. */
static void the_pool_grows_for_other_waits(void **state) {
    (void)state;
    static const ferry_fn own[] = {wait_own, await_own_for, await_own_in_a_scope,
                                   gather_own_until_one_fails};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        ferry_executor *pool = make_pool(1, &(ferry_executor_options){.idle_ms = 3600000});
        assert_int_equal(ferry_await(ferry_submit(pool, own[i], pool)), 4);
        assert_int_equal(stats_of(pool).threads_peak, 2);
        /* One too many now: it leaves, however long it might stay idle. */
        while (stats_of(pool).threads > 1)
            sched_yield();
        saturation s;
        saturate(&s, pool, 1);
        ferry_future *queued = ferry_submit(pool, return_arg, as_arg(1));
        assert_int_equal(stats_of(pool).threads, 1);
        assert_false(ferry_done(queued));
        desaturate(&s);
        assert_int_equal(ferry_await(queued), 1);
        end_pool(pool);
    }
}

static int64_t await_a_task_that_needs_the_pool(void *arg) {
    return ferry_await(ferry_spawn(await_own_in_a_task, arg));
}

TASK_TEST(the_pool_grows_for_a_job_behind_a_task) {
    ferry_executor *pool = make_pool(1, NULL);
    CHECK_INT(ferry_await(ferry_submit(pool, await_a_task_that_needs_the_pool, pool)), 4);
    CHECK_INT(stats_of(pool).threads_peak, 2);
    end_pool(pool);
    return 0;
}

struct tree {
    ferry_executor *pool;
    int depth;
};

static int64_t grow_tree(void *arg) {
    struct tree *t = arg, below[2];
    if (t->depth == 0)
        return 1;
    ferry_future *jobs[2];
    int64_t sum[2];
    for (int i = 0; i < 2; i++) {
        below[i] = (struct tree){t->pool, t->depth - 1};
        jobs[i] = ferry_submit(t->pool, grow_tree, &below[i]);
    }
    CHECK_INT(ferry_gather(jobs, 2, sum, 0), 0);
    return sum[0] + sum[1];
}

static int64_t go_down(void *arg) {
    struct tree *t = arg, below = {t->pool, t->depth - 1};
    return t->depth == 0 ? 0 : 1 + ferry_await(ferry_submit(t->pool, go_down, &below));
}

static void jobs_that_wait_for_jobs_that_wait(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        ferry_executor *pool = make_pool(threads, NULL);
        struct tree tree = {pool, support_slow() ? 5 : 8};
        assert_int_equal(ferry_await(ferry_submit(pool, grow_tree, &tree)), 1 << tree.depth);
        struct tree well = {pool, 100}; /* deeper than one stack may get */
        assert_int_equal(ferry_await(ferry_submit(pool, go_down, &well)), 100);
        end_pool(pool);
    }
}

/* ---- Workers --------------------------------------------------------------------------------- */

static atomic_int frees;

static int64_t fail_job(void *arg) {
    (void)arg;
    return ferry_fail(-EIO, "the disk is on fire");
}

static void an_error_that_nobody_reads_is_logged(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR,
             "'doomed' failed and nobody asked for its result: the disk is on fire");
    for (int i = 0; i < 3; i++)
        ferry_detach(
            ferry_submit_with(pool, fail_job, NULL, &(ferry_job_options){.name = "doomed"}));
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(6))), 6);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_int_equal(kept_messages(&log), 3);
    assert_int_equal(stats_of(pool).threads_peak, 1);
    ferry_executor_free(pool);
}

static void free_block(void *arg) {
    free(arg);
    atomic_fetch_add(&frees, 1);
}

static int64_t read_block(void *arg) {
    return *(int *)arg;
}

/* Valgrind and AddressSanitizer would see a worker that still looks at what is freed. */
static void a_worker_keeps_nothing_of_its_job(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    atomic_store(&frees, 0);
    for (int i = 0; i < 20; i++) {
        int *block = malloc(sizeof *block);
        *block = i;
        ferry_future *job = ferry_submit_with(pool, read_block, block,
                                              &(ferry_job_options){.arg_free = free_block});
        assert_int_equal(ferry_await(job), i);
        assert_int_equal(stats_of(pool).running, 0);
        assert_null(pool->running);
        while (atomic_load(&frees) <= i) /* by who gave up the handle last: here, or the worker */
            sched_yield();
    }
    end_pool(pool);
}

struct two_gates {
    gate run, clean_up;
};

static int64_t pass_first(void *arg) {
    struct two_gates *gates = arg;
    gate_wait(&gates->run);
    return 1;
}

static void pass_second(void *arg) {
    struct two_gates *gates = arg;
    gate_wait(&gates->clean_up);
}

/* A clean-up that takes its time keeps nobody waiting: its thread isn't idle meanwhile. */
static void a_slow_clean_up_holds_up_nobody(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL), *strand = make_strand(pool, 1);
    ferry_executor *both[] = {pool, strand};
    for (int i = 0; i < 2; i++) {
        struct two_gates gates = {GATE_INIT, GATE_INIT};
        ferry_future *job = ferry_submit_with(both[i], pass_first, &gates,
                                              &(ferry_job_options){.arg_free = pass_second});
        gate_wait_arrivals(&gates.run, 1);
        ferry_detach(job);
        gate_open(&gates.run);
        gate_wait_arrivals(&gates.clean_up, 1);
        for (int k = 0; k < 20; k++)
            assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(k))), k);
        gate_open(&gates.clean_up);
        while (stats_of(pool).idle != 2)
            sched_yield();
        gate_destroy(&gates.run);
        gate_destroy(&gates.clean_up);
    }
    ferry_executor_free(strand);
    end_pool(pool);
}

/* Its job has ended, it only hasn't left yet: nothing to complain of. */
static void a_thread_without_a_job_is_not_reported(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct two_gates gates = {GATE_INIT, GATE_INIT};
    struct kept_log log;
    ferry_future *job =
        ferry_submit_with(pool, pass_first, &gates, &(ferry_job_options){.arg_free = pass_second});
    gate_wait_arrivals(&gates.run, 1);
    ferry_detach(job);
    gate_open(&gates.run);
    gate_wait_arrivals(&gates.clean_up, 1);
    keep_log(&log, FERRY_LOG_DEBUG, "");
    assert_int_equal(ferry_executor_stop(pool, 0), 0);
    assert_int_equal(kept_messages(&log), 0);
    assert_int_equal(stats_of(pool).threads, 1);
    gate_open(&gates.clean_up);
    end_pool(pool);
    gate_destroy(&gates.run);
    gate_destroy(&gates.clean_up);
}

/* ---- Many ------------------------------------------------------------------------------------ */

struct flood {
    ferry_executor *pool, *strand;
    int each;
    atomic_long sum;
};

static int64_t add_one(void *arg) {
    atomic_fetch_add((atomic_long *)arg, 1);
    return 1;
}

static int64_t flood_task(void *arg) {
    struct flood *f = arg;
    int64_t sum = 0;
    for (int i = 0; i < 10; i++)
        sum += ferry_await(ferry_submit(i % 4 ? f->pool : f->strand, add_one, &f->sum));
    CHECK_INT(sum, 10);
    return 0;
}

static int64_t flood_body(void *arg) {
    struct flood *f = arg;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < f->each / 10; i++)
        CHECK_INT(ferry_group_spawn(&group, flood_task, f), 0);
    return ferry_group_close(&group, 0);
}

static void *flood_from_a_thread(void *arg) {
    struct flood *f = arg;
    ferry_future *jobs[64];
    for (int done = 0; done < f->each;) {
        int n = 0;
        for (; n < 64 && done < f->each; n++, done++)
            jobs[n] = ferry_submit(done % 4 ? f->pool : f->strand, add_one, &f->sum);
        for (int i = 0; i < n; i++)
            CHECK_INT(ferry_await(jobs[i]), 1);
    }
    return NULL;
}

/* The queue is short, so that many wait for a place. */
static void two_loops_and_four_threads_on_one_pool(void **state) {
    (void)state;
    struct flood f = {.pool =
                          make_pool(3, &(ferry_executor_options){.queue_max = 16, .idle_ms = 1}),
                      .each = support_slow() ? 1000 : 10000};
    f.strand = make_strand(f.pool, 1);
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        threads[i] = i < 2 ? start_in_loop(flood_body, &f) : start_thread(flood_from_a_thread, &f);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&f.sum), 6 * f.each);
    assert_true(stats_of(f.pool).threads_peak <= 3);
    assert_int_equal(stats_of(f.pool).queued + stats_of(f.pool).running, 0);
    assert_int_equal(stats_of(f.pool).started + stats_of(f.strand).started, 6 * f.each);
    ferry_executor_free(f.strand);
    end_pool(f.pool);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("EXE-01 sixty jobs on four threads: four run, the rest is queued, all end",
             four_threads_for_sixty_jobs),
        CASE("EXE-01 options that are out of range are refused", bad_options_are_refused),
        CASE("a pool with the default options", default_options),
        CASE("EXE-02 jobs that come one by one run on the same thread", the_same_thread_again),
        CASE("EXE-02 the thread that became idle last is used first", last_idle_first_used),
        CASE("EXE-02 a worker is idle before its result is delivered",
             a_completion_submits_the_next_job),
        CASE("no job waits behind a slow one while a thread is free",
             no_job_waits_while_a_thread_is_free),
        CASE("threads leave when they are idle", idle_threads_leave),
        CASE("threads have a name, a stack of the size asked for, and no signals",
             names_stacks_and_masks),
        CASE("EXE-01 a full queue refuses; a cancelled job frees its place at once",
             refuses_when_full),
        CASE("places in a full queue go to tasks and threads in the order of their coming",
             places_are_given_in_order_to_tasks_and_threads),
        CASE("where nothing may wait a full queue refuses",
             where_nothing_may_wait_a_full_queue_refuses),
        CASE("EXE-05 who waits for a place when the executor is closed gets that",
             closing_ends_the_wait_for_a_place),
        CASE("a job passes the limit of the pool that it runs on",
             a_job_passes_the_limit_of_its_own_pool),
        CASE("EXE-14 a job that waits for jobs of its own full pool runs them",
             a_saturated_pool_of_one_waits_for_itself),
        CASE("EXE-14 for a wait that may end early the pool grows by one",
             the_pool_grows_for_other_waits),
        CASE("EXE-14 a job behind a task that a job waits for runs",
             the_pool_grows_for_a_job_behind_a_task),
        CASE("EXE-14 jobs that wait for jobs that wait for jobs",
             jobs_that_wait_for_jobs_that_wait),
        CASE("EXE-13 an error that nobody reads is logged, and the worker goes on",
             an_error_that_nobody_reads_is_logged),
        CASE("EXE-12 a worker keeps nothing of its job", a_worker_keeps_nothing_of_its_job),
        CASE("a slow clean-up holds up nobody", a_slow_clean_up_holds_up_nobody),
        CASE("a thread without a job isn't reported", a_thread_without_a_job_is_not_reported),
        CASE("two loops and four threads on one pool", two_loops_and_four_threads_on_one_pool),
    };
    return SUPPORT_RUN(tests);
}

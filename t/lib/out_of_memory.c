/* Memory runs out at every single allocation, ours and libevent's, once or from then on: what was
 * asked for fails with an error or works, nothing hangs, nothing is lost, and the next attempt
 * finds all as it was. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "core.h"
#include "oom.h"
#include "quiet.h"
#include "support.h"
#include "waiters.h"

#define LONG 60000

/* ---- libevent's memory ----------------------------------------------------------------------- */

static atomic_long event_blocks;

static void *event_malloc(size_t size) {
    void *block = oom_refuses() ? NULL : malloc(size);
    if (block)
        atomic_fetch_add(&event_blocks, 1);
    return block;
}

static void *event_realloc(void *old, size_t size) {
    void *block = oom_refuses() ? NULL : realloc(old, size);
    if (block && !old)
        atomic_fetch_add(&event_blocks, 1);
    return block;
}

static void event_release(void *block) {
    if (block)
        atomic_fetch_sub(&event_blocks, 1);
    free(block);
}

/* ---- Until it passes ------------------------------------------------------------------------- */

/* What was wanted; or, when memory was refused since the attempt began, the error that says so. */
static bool fine(int64_t rc, int64_t wanted) {
    if (rc == wanted)
        return true;
    return oom_hit() && (rc == -ENOMEM || rc == -EAGAIN || rc == FERRY_EGROUP);
}
#define FINE(got, wanted) support_check(fine((got), (wanted)), #got, __FILE__, __LINE__)

enum { MOST_ATTEMPTS = 5000 };

static void at_every_allocation(int64_t (*scenario)(void)) {
    assert_int_equal(scenario(), 0); /* what is made once is made now */
    ferry__error_set(ferry__ctx_self(), 0, NULL);
    for (int on = 0; on < 2; on++) {
        long blocks = oom_blocks(), of_events = atomic_load(&event_blocks);
        bool hit = true;
        int n = 0;
        for (; hit; n++) {
            assert_true(n < MOST_ATTEMPTS);
            oom_after(n, on == 1);
            int64_t rc = scenario();
            hit = oom_hit();
            FINE(rc, 0);
            oom_never();
            ferry__error_set(ferry__ctx_self(), 0, NULL); /* the last error's words */
            if (!CHECK_INT(oom_blocks(), blocks) ||
                !CHECK_INT(atomic_load(&event_blocks), of_events))
                fail_msg("with allocation %d refused%s", n, on ? ", and all after it" : "");
            if (!CHECK(hit || rc == 0))
                return;
        }
        CHECK(n > 5); /* it isn't idle talk */
    }
}

/* The scenario's body is the first task of a loop. */
static int64_t run(ferry_fn body) {
    ferry_run_options options = {.no_signals = true, .no_overflow_handler = true};
    return ferry_run_with(body, NULL, &options);
}

#define SCENARIO(name) \
    static int64_t name##_body(void *unused); \
    static int64_t name##_run(void) { \
        return run(name##_body); \
    } \
    static void name(void **state) { \
        (void)state; \
        at_every_allocation(name##_run); \
    } \
    static int64_t name##_body(__attribute__((unused)) void *unused)

/* ---- Tasks, scopes and errors ---------------------------------------------------------------- */

static int64_t seven(void *arg) {
    (void)arg;
    ferry_yield();
    return 7;
}

static int64_t fails(void *arg) {
    return ferry_fail(-EIO, "%s", arg ? (const char *)arg : "the disk is gone");
}

static int64_t sleeps(void *arg) {
    (void)arg;
    return ferry_sleep(LONG);
}

static void count_freed(void *arg) {
    ++*(int *)arg;
}

SCENARIO(tasks) {
    int freed = 0;
    ferry_task_options options = {.name = "seven", .arg_free = count_freed};
    ferry_future *f = ferry_spawn_with(seven, &freed, &options);
    bool started = f != NULL;
    FINE(ferry_await(f), 7);
    CHECK_INT(freed, started);
    f = ferry_spawn(fails, NULL);
    FINE(ferry_await(f), -EIO);
    CHECK(strstr(ferry_errmsg(), "disk") || oom_hit()); /* the code's words stand in for the text */
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 1), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    FINE(ferry_await_for(ferry_spawn(sleeps, NULL), 1), -ETIMEDOUT);
    ferry_detach(ferry_spawn(fails, NULL));
    ferry_detach(ferry_spawn(sleeps, NULL));
    return 0;
}

/* More than the heap of timers and the ready line had room for. */
SCENARIO(many_tasks) {
    ferry_future *f[150];
    for (int i = 0; i < 150; i++)
        f[i] = ferry_spawn(sleeps, NULL);
    ferry_yield();
    for (int i = 0; i < 150; i++)
        ferry_cancel(f[i]);
    for (int i = 0; i < 150; i++)
        FINE(ferry_await(f[i]), FERRY_EJOBCANCELED);
    return 0;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

struct job {
    int delivered, freed, hooks;
    gate gate;
    gate *shut; /* the one that it waits at */
};

static int64_t works(void *arg) {
    struct job *job = arg;
    if (job->shut)
        gate_wait(job->shut);
    return 5;
}

static void deliver(void *arg, int64_t result) {
    ((struct job *)arg)->delivered += result == 5;
}

static void free_job(void *arg) {
    ((struct job *)arg)->freed++;
}

static void hook(void *arg) {
    struct job *job = arg;
    job->hooks++;
    gate_open(job->shut);
}

/* Two threads at most, so that the number of their records is the same each time. */
static ferry_executor *two_threads(void) {
    ferry_executor *pool;
    int rc = ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 2});
    FINE(rc, 0);
    CHECK((rc == 0) == (pool != NULL));
    return pool;
}

static void stop(ferry_executor *pool) {
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
}

SCENARIO(jobs) {
    ferry_executor *pool = two_threads();
    if (!pool)
        return -ENOMEM;
    ferry_job_options options = {.deliver = deliver, .arg_free = free_job, .interrupt = hook};
    /* Both threads at once, for the sake of their records. */
    struct job both[2] = {{.gate = GATE_INIT}, {.gate = GATE_INIT}};
    ferry_future *f[2];
    for (int i = 0; i < 2; i++) {
        both[i].shut = &both[i].gate;
        f[i] = ferry_submit_with(pool, works, &both[i], &options);
    }
    for (int i = 0; i < 2; i++)
        if (!oom_hit())
            gate_wait_arrivals(&both[i].gate, 1);
    for (int i = 0; i < 2; i++) {
        bool started = f[i] != NULL;
        gate_open(&both[i].gate);
        int64_t rc = ferry_await(f[i]);
        FINE(rc, 5);
        CHECK_INT(both[i].delivered, rc == 5);
        while (started && both[i].freed == 0)
            ferry_yield();
    }
    /* Cancelled while it runs, or in line. */
    struct job told = {.gate = GATE_INIT};
    told.shut = &told.gate;
    ferry_future *job = ferry_submit_with(pool, works, &told, &options);
    bool started = job != NULL;
    ferry_cancel(job);
    int64_t rc = ferry_await(job);
    CHECK(rc == 5 || fine(rc, FERRY_EJOBCANCELED));
    while (started && told.freed == 0)
        ferry_yield();
    /* In a scope that ends. */
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    job = ferry_submit(pool, sleeps, NULL);
    ferry_scope_cancel(&scope);
    rc = ferry_await(job);
    FINE(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    rc = ferry_await(ferry_submit(pool, fails, NULL));
    FINE(rc, -EIO);
    stop(pool);
    return 0;
}

struct abandoned {
    _Atomic int freed;
    gate gate;
};

static int64_t does_not_listen(void *arg) {
    struct abandoned *a = arg;
    gate_wait(&a->gate);
    return 0;
}

static void abandoned_freed(void *arg) {
    struct abandoned *a = arg;
    atomic_fetch_add(&a->freed, 1);
}

SCENARIO(given_up) {
    ferry_executor *pool = two_threads();
    if (!pool)
        return -ENOMEM;
    struct abandoned a = {.gate = GATE_INIT};
    ferry_job_options options = {
        .policy = FERRY_JOB_ABANDON, .grace_ms = 1, .arg_free = abandoned_freed};
    ferry_future *f = ferry_submit_with(pool, does_not_listen, &a, &options);
    bool started = f != NULL;
    FINE(ferry_await_for(f, 1), -ETIMEDOUT);
    gate_open(&a.gate);
    while (started && !atomic_load(&a.freed))
        ferry_yield();
    stop(pool);
    return 0;
}

SCENARIO(strands) {
    ferry_executor *pool = two_threads();
    if (!pool)
        return -ENOMEM;
    ferry_executor *strand, *inline_one;
    int rc = ferry_strand_new(&strand, pool, NULL);
    if (FINE(rc, 0) && rc == 0) {
        ferry_future *f[4];
        for (int i = 0; i < 4; i++)
            f[i] = ferry_submit(strand, seven, NULL);
        for (int i = 0; i < 4; i++)
            FINE(ferry_await(f[i]), 7);
        ferry_executor_free(strand);
    }
    rc = ferry_inline_new(&inline_one);
    if (FINE(rc, 0) && rc == 0) {
        FINE(ferry_await(ferry_submit(inline_one, fails, NULL)), -EIO);
        ferry_executor_free(inline_one);
    }
    stop(pool);
    return 0;
}

/* ---- Groups ---------------------------------------------------------------------------------- */

static int64_t gets_ready(void *arg) {
    (void)arg;
    CHECK_INT(ferry_ready(3), 0);
    return ferry_sleep(LONG);
}

SCENARIO(groups) {
    ferry_executor *pool = two_threads();
    if (!pool)
        return -ENOMEM;
    ferry_group group = FERRY_GROUP_INIT;
    int64_t rc = ferry_group_open(&group);
    if (FINE(rc, 0) && rc == 0) {
        FINE(ferry_group_spawn(&group, seven, NULL), 0);
        FINE(ferry_group_submit(&group, pool, seven, NULL), 0);
        FINE(ferry_group_close(&group, 0), 0);
    }
    ferry_group failing = FERRY_GROUP_INIT;
    rc = ferry_group_open(&failing);
    if (FINE(rc, 0) && rc == 0) {
        FINE(ferry_group_start(&failing, gets_ready, NULL), 3);
        bool failed = ferry_group_spawn(&failing, fails, (char[]){"first"}) == 0;
        failed |= ferry_group_submit(&failing, pool, fails, (char[]){"second"}) == 0;
        rc = ferry_group_close(&failing, failed ? 0 : fails(NULL));
        CHECK_INT(rc, FERRY_EGROUP);
        size_t n;
        const ferry_error *errors = ferry_group_errors(&n);
        CHECK(oom_hit() || (n >= 1 && errors != NULL));
        for (size_t i = 0; i < n; i++)
            CHECK(errors[i].message != NULL && errors[i].name != NULL);
    }
    ferry_group given_up = FERRY_GROUP_INIT;
    rc = ferry_group_open_for(&given_up, 1);
    if (FINE(rc, 0) && rc == 0) {
        ferry_group_spawn(&given_up, sleeps, NULL);
        rc = ferry_sleep(LONG);
        FINE(ferry_group_close(&given_up, rc), -ETIMEDOUT);
    }
    stop(pool);
    return 0;
}

/* ---- Several handles ------------------------------------------------------------------------- */

static void called(ferry_future *f, int64_t result, void *arg) {
    (void)f;
    *(int64_t *)arg = result;
}

SCENARIO(handles) {
    ferry_future *f[3];
    int64_t results[3];
    for (int i = 0; i < 3; i++)
        f[i] = ferry_spawn(seven, NULL);
    FINE(ferry_gather(f, 3, results, 0), 0);
    for (int i = 0; i < 3; i++)
        f[i] = ferry_spawn(i == 1 ? fails : sleeps, NULL);
    int64_t rc = ferry_gather(f, 3, NULL, 0);
    FINE(rc, -EIO);
    for (int i = 0; i < 3; i++)
        f[i] = ferry_spawn(i == 1 ? seven : sleeps, NULL);
    rc = ferry_wait_any(f, 3, LONG);
    FINE(rc, 1);
    FINE(ferry_wait_all(f, 3, 1), -ETIMEDOUT);
    ferry_completion *done = ferry_completion_new(f, 3);
    rc = ferry_completion_next(done, LONG);
    FINE(rc, 1);
    ferry_completion_free(done);
    for (int i = 0; i < 3; i++)
        ferry_cancel(f[i]);
    FINE(ferry_gather(f, 3, NULL, FERRY_COLLECT), 0);

    ferry_future *value;
    ferry_promise *promise = ferry_promise_new(&value, "value");
    CHECK((promise == NULL) == (value == NULL));
    ferry_future *shield = ferry_shield(value);
    FINE(ferry_await_for(shield, 1), -ETIMEDOUT);
    int64_t result = 0;
    rc = ferry_then(value, NULL, called, &result);
    FINE(rc, 0);
    if (promise) {
        CHECK_INT(ferry_promise_set(promise, 9), 0);
        CHECK_INT(ferry_await(value), 9);
    }
    ferry_promise_drop(promise);
    while (rc == 0 && result == 0)
        ferry_yield();
    CHECK_INT(result, rc == 0 ? 9 : 0);
    return 0;
}

/* ---- What tasks and threads share ------------------------------------------------------------ */

struct shared {
    ferry_queue *queue;
    ferry_mutex mutex;
    ferry_sem sem;
    ferry_event event;
    ferry_loop *loop;
};

static void *uses_all(void *arg) {
    struct shared *s = arg;
    void *item;
    FINE(ferry_queue_put(s->queue, arg), 0);
    FINE(ferry_event_wait(&s->event), 0);
    int rc = ferry_lock(&s->mutex);
    if (FINE(rc, 0) && rc == 0)
        CHECK_INT(ferry_unlock(&s->mutex), 0);
    rc = ferry_sem_acquire(&s->sem, 1);
    if (FINE(rc, 0) && rc == 0)
        CHECK_INT(ferry_sem_release(&s->sem, 1), 0);
    rc = ferry_queue_try_get(s->queue, &item);
    CHECK(rc == 0 || fine(rc, -EAGAIN));
    FINE(ferry_await(ferry_spawn_on(s->loop, seven, NULL)), 7);
    FINE(ferry_event_wait_for(&(ferry_event)FERRY_EVENT_INIT, 1), -ETIMEDOUT);
    ferry_sleep(0);
    return NULL;
}

static int64_t uses_all_in_a_task(void *arg) {
    uses_all(arg);
    return 0;
}

static int64_t joins(void *arg) {
    pthread_join(*(pthread_t *)arg, NULL);
    return 0;
}

SCENARIO(primitives) {
    ferry_executor *pool = two_threads();
    if (!pool)
        return -ENOMEM;
    struct shared s = {.sem = FERRY_SEM_INIT(1), .loop = ferry_loop_current()};
    s.queue = ferry_queue_new(8, NULL);
    if (s.queue) {
        pthread_t thread = start_thread(uses_all, &s);
        ferry_future *task = ferry_spawn(uses_all_in_a_task, &s);
        ferry_event_set(&s.event);
        FINE(ferry_await(task), 0);
        /* Where a job can't join it, the loop goes on turning until it has what it asked for. */
        int64_t rc = ferry_await(ferry_submit(pool, joins, &thread));
        if (FINE(rc, 0) && rc != 0) {
            while (pthread_tryjoin_np(thread, NULL) != 0)
                ferry_yield();
        }
        ferry_queue_close(s.queue, true);
        CHECK_INT(ferry_queue_free(s.queue), 0);
    } else {
        CHECK(oom_hit());
    }
    stop(pool);
    return 0;
}

SCENARIO(descriptors) {
    int fds[2];
    CHECK_INT(pipe(fds), 0);
    int rc = ferry_poll_for(fds[0], FERRY_READABLE, 1);
    FINE(rc, -ETIMEDOUT);
    rc = ferry_poll_for(fds[0], FERRY_HANGUP, 1);
    FINE(rc, -ETIMEDOUT);
    CHECK_INT(write(fds[1], "", 1), 1);
    FINE(ferry_poll(fds[0], FERRY_READABLE), FERRY_READABLE);
    close(fds[0]);
    close(fds[1]);
    return 0;
}

/* ---- Loops ----------------------------------------------------------------------------------- */

static int64_t counts(void *arg) {
    ++*(int *)arg;
    return 0;
}

static int64_t own_loop(void) {
    ferry_loop *loop = ferry_loop_new();
    if (!loop)
        return -errno;
    int posted = 0, sent = 0, tasks = 0;
    bool posts = ferry_post(loop, counts, &posted) == 0;
    ferry_async *async = ferry_async_new(loop, counts, &sent);
    if (async)
        CHECK_INT(ferry_async_send(async), 0);
    ferry_future *waits = ferry_spawn_on(loop, sleeps, NULL);
    int64_t rc = ferry_loop_run(loop, counts, &tasks);
    FINE(rc, 0);
    if (rc == 0) {
        CHECK_INT(posted, posts);
        CHECK_INT(sent, async != NULL);
        CHECK_INT(tasks, 1);
    }
    ferry_async_free(async);
    ferry_detach(waits);
    /* Without memory for the task that does it, it can be tried again. */
    int left = ferry_loop_shutdown(loop, FERRY_FOREVER);
    if (FINE(left, 0) && left != 0) {
        oom_never();
        CHECK_INT(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    }
    CHECK_INT(ferry_loop_free(loop), 0);
    return 0;
}

static void loops_of_ones_own(void **state) {
    (void)state;
    at_every_allocation(own_loop);
}

static int64_t attached_loop(void) {
    struct event_base *base = event_base_new();
    if (!base)
        return -ENOMEM;
    ferry_loop *loop = ferry_loop_attach(base);
    if (loop) {
        ferry_future *f = ferry_spawn_on(loop, seven, NULL);
        int64_t result = 0;
        int rc = ferry_then(f, loop, called, &result);
        FINE(rc, 0);
        while (!ferry_done(f) || (rc == 0 && result == 0))
            event_base_loop(base, EVLOOP_NONBLOCK);
        FINE(ferry_await(f), 7);
        CHECK(rc == 0 ? fine(result, 7) : result == 0);
        int left = ferry_loop_shutdown(loop, FERRY_FOREVER);
        if (FINE(left, 0) && left != 0) {
            oom_never();
            CHECK_INT(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
        }
        CHECK_INT(ferry_loop_free(loop), 0);
    }
    event_base_free(base);
    return loop ? 0 : -ENOMEM;
}

static void attached_loops(void **state) {
    (void)state;
    at_every_allocation(attached_loop);
}

static int64_t with_all_options(void) {
    return ferry_run(tasks_body, NULL);
}

static void runs_with_signals(void **state) {
    (void)state;
    at_every_allocation(with_all_options);
}

/* ---- Without a record ------------------------------------------------------------------------ */

struct recordless {
    ferry_future *done, *later, *never;
    _Atomic bool begun;
};

static void *has_no_record(void *arg) {
    struct recordless *r = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), -ENOMEM);
    CHECK_INT(ferry_sleep(1), -ENOMEM);
    CHECK_INT(ferry_wait(r->later), -ENOMEM);
    CHECK_INT(ferry_await(NULL), -ENOMEM);
    CHECK_INT(ferry_await(r->done), 1);
    CHECK_INT(ferry_await_for(r->never, 1), -ETIMEDOUT);
    atomic_store(&r->begun, true);
    CHECK_INT(ferry_await(r->later), 2); /* it needs none to take what it owns */
    return NULL;
}

static void a_thread_without_a_record(void **state) {
    (void)state;
    struct recordless r = {.begun = false};
    ferry_promise *done = ferry_promise_new(&r.done, NULL);
    ferry_promise *later = ferry_promise_new(&r.later, NULL);
    ferry_promise *never = ferry_promise_new(&r.never, NULL);
    CHECK_INT(ferry_promise_set(done, 1), 0);
    oom_after(0, true);
    pthread_t thread = start_thread(has_no_record, &r);
    while (!atomic_load(&r.begun))
        sched_yield();
    CHECK_INT(ferry_promise_set(later, 2), 0);
    pthread_join(thread, NULL);
    oom_never();
    assert_int_equal(ferry_promise_set(never, 3), -ECANCELED);
    ferry_promise_drop(done);
    ferry_promise_drop(later);
    ferry_promise_drop(never);
}

/* ---- Main ------------------------------------------------------------------------------------ */

/* More than the scenarios need at a time. */
static int make_records(void **state) {
    (void)state;
    spare_records();
    return 0;
}

int main(void) {
    oom_install();
    event_set_mem_functions(event_malloc, event_realloc, event_release);
    event_set_log_callback(quiet_libevent);
    ferry_log_set(quiet_ferry, NULL);
    static const struct CMUnitTest tests[] = {
        CASE("a thread whose record can't be made", a_thread_without_a_record),
        CASE_WITH("tasks, scopes and errors", tasks, make_records, NULL),
        CASE("many tasks", many_tasks),
        CASE("jobs", jobs),
        CASE("a job that is given up", given_up),
        CASE("strands and the inline executor", strands),
        CASE("groups", groups),
        CASE("gather, wait, promises, shields and callbacks", handles),
        CASE("queues, mutexes, semaphores and events, from a thread too", primitives),
        CASE("descriptors", descriptors),
        CASE("loops of one's own", loops_of_ones_own),
        CASE("attached loops", attached_loops),
        CASE("ferry_run() with signals and all", runs_with_signals),
    };
    return SUPPORT_RUN(tests);
}

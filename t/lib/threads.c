/* What the system may refuse a pool, and what a pool asks of the system: threads that can't be
 * made, and wake-ups.
 *
 * The program is linked with --wrap for pthread_create, ferry__futex_wait, ferry__futex_wake and
 * ferry__executor_lock: the calls of the library's objects come here first. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"
#include "oom.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "threads.h"
#include "waiters.h"

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
void __real_ferry__futex_wake(uint32_t *word, int count);
void __wrap_ferry__futex_wake(uint32_t *word, int count);
void __real_ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline);
void __wrap_ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline);
void __real_ferry__executor_lock(ferry_executor *executor);
void __wrap_ferry__executor_lock(ferry_executor *executor);

static atomic_int allowed = INT_MAX; /* threads that may still be made */
static atomic_int refused;
static gate *before_refusal; /* to be passed by who is refused; NULL */
static _Thread_local unsigned wakes; /* by this thread */
static _Thread_local bool is_worker; /* of a pool, as of its last call that comes here */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg) {
    if (atomic_load(&allowed) == INT_MAX || atomic_fetch_sub(&allowed, 1) > 0)
        return __real_pthread_create(thread, attr, fn, arg);
    atomic_fetch_add(&refused, 1);
    if (before_refusal)
        gate_wait(before_refusal);
    return EAGAIN;
}

void __wrap_ferry__futex_wake(uint32_t *word, int count) {
    __real_ferry__futex_wake(word, count);
    wakes++;
}

static bool in_a_worker(void) {
    struct ferry__thread *thread = ferry__thread_known();
    return thread && thread->worker;
}

/* A worker that is about to leave its pool stops at the gate. */
static gate *_Atomic leavers;

void __wrap_ferry__executor_lock(ferry_executor *executor) {
    static _Thread_local bool seen;
    gate *g = atomic_load(&leavers);
    bool was_worker = is_worker;
    is_worker = in_a_worker();
    if (g && was_worker && !is_worker && !seen) {
        seen = true;
        gate_wait(g);
    }
    __real_ferry__executor_lock(executor);
}

/* A worker that has slept so often for a while, and not to an end, has lost patience at least
 * once, and stays. */
static atomic_int patient;
/* A worker that was woken stops at the gate. */
static gate *_Atomic woken;

void __wrap_ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline) {
    static _Thread_local int naps;
    is_worker = in_a_worker();
    if (is_worker && deadline != FERRY__NEVER && ++naps == 3)
        atomic_fetch_add(&patient, 1);
    __real_ferry__futex_wait(word, seen, deadline);
    gate *g = is_worker ? atomic_load(&woken) : NULL;
    if (g)
        gate_wait(g);
}

static struct kept_log log_kept;

static void allow_threads(int n) {
    keep_log(&log_kept, FERRY_LOG_WARNING, "a thread couldn't be made");
    atomic_store(&refused, 0);
    atomic_store(&allowed, n);
}

static void allow_all(void) {
    atomic_store(&allowed, INT_MAX);
    assert_int_equal(kept_messages(&log_kept), (unsigned)atomic_load(&refused)); /* never silent */
}

/* ---- Threads that can't be made -------------------------------------------------------------- */

static void without_any_thread_a_job_fails(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(4, NULL), *strand = make_strand(pool, 2),
                   *both[] = {pool, strand};
    allow_threads(0);
    for (int i = 0; i < 2; i++) {
        ferry_future *job = ferry_submit(both[i], return_arg, as_arg(1));
        assert_true(ferry_done(job));
        assert_int_equal(ferry_await(job), -EAGAIN);
        assert_non_null(strstr(ferry_errmsg(), "no thread could be made"));
        assert_int_equal(stats_of(both[i]).queued, 0);
    }
    assert_int_equal(atomic_load(&refused), 2);
    allow_all();
    for (int i = 0; i < 2; i++)
        assert_int_equal(ferry_await(ferry_submit(both[i], return_arg, as_arg(3))), 3);
    end_pool(strand);
    end_pool(pool);
}

/* Each job finds one, if it must wait for it. */
static void fewer_threads_do(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(4, NULL);
    ferry_future *jobs[40];
    allow_threads(2);
    for (int i = 0; i < 40; i++)
        jobs[i] = ferry_submit(pool, return_arg, as_arg(i));
    for (int i = 0; i < 40; i++)
        assert_int_equal(ferry_await(jobs[i]), i);
    /* the one that couldn't be made was counted while it was tried */
    assert_true(stats_of(pool).threads_peak <= 3);
    assert_true(stats_of(pool).threads <= 2);
    allow_all();
    end_pool(pool);
}

static void a_stack_that_there_is_no_memory_for(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, &(ferry_executor_options){.stack_size = (size_t)1 << 46});
    allow_threads(INT_MAX);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(1))), -EAGAIN);
    assert_int_equal(kept_messages(&log_kept), 1);
    end_pool(pool);
}

struct submission {
    ferry_executor *executor;
    int64_t rc;
};

static void *submit_one(void *arg) {
    struct submission *s = arg;
    s->rc = ferry_await(ferry_submit(s->executor, return_arg, as_arg(1)));
    return NULL;
}

enum { MANY = 32 };

/* While the only thread is being made others fill the queue, and more wait for a place. */
static void who_waits_for_a_place_fails_too(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        ferry_executor *pool = make_pool(1, &(ferry_executor_options){.queue_max = 2}),
                       *executor = pool;
        gate g = GATE_INIT;
        if (i == 1)
            assert_int_equal(
                ferry_strand_new(&executor, pool, &(ferry_executor_options){.queue_max = 2}), 0);
        struct submission submissions[MANY];
        pthread_t threads[MANY];
        before_refusal = &g;
        allow_threads(0);
        for (int k = 0; k < MANY; k++) {
            submissions[k] = (struct submission){executor, 0};
            assert_int_equal(__real_pthread_create(&threads[k], NULL, submit_one, &submissions[k]),
                             0);
            if (k == 0)
                gate_wait_arrivals(&g, 1);
            else if (k >= 3)
                until_waiters(&executor->lock, &executor->wait_first, (size_t)k - 2);
            else
                while (stats_of(executor).queued < (size_t)k + 1)
                    sched_yield();
        }
        assert_int_equal(stats_of(executor).queued, 3);
        gate_open(&g);
        for (int k = 0; k < MANY; k++) {
            pthread_join(threads[k], NULL);
            assert_int_equal(submissions[k].rc, -EAGAIN);
        }
        before_refusal = NULL;
        allow_all();
        assert_int_equal(ferry_await(ferry_submit(executor, return_arg, as_arg(4))), 4);
        if (executor != pool)
            end_pool(executor);
        end_pool(pool);
        gate_destroy(&g);
    }
}

static int64_t await_own(void *arg) {
    return ferry_await(ferry_submit(arg, return_arg, as_arg(6)));
}

static int64_t wait_own(void *arg) {
    ferry_future *job = ferry_submit(arg, return_arg, as_arg(6));
    CHECK_INT(ferry_wait(job), 0);
    return ferry_await(job);
}

static int64_t await_own_in_a_task(void *arg) {
    return ferry_await(ferry_spawn(await_own, arg));
}

/* The pool may have four threads, and gets one: a job that waits for another one doesn't wait
 * for ever. */
TASK_TEST(the_only_thread_waits) {
    ferry_executor *pool = make_pool(4, NULL);
    int64_t thread = ferry_await(ferry_submit(pool, my_thread, NULL));
    CHECK(thread != 0);
    allow_threads(0);
    CHECK_INT(ferry_await(ferry_submit(pool, await_own, pool)), 6);  /* it runs it itself */
    /* it has to leave it to others */
    CHECK_INT(ferry_await(ferry_submit(pool, wait_own, pool)), -EAGAIN);
    CHECK_INT(ferry_await(ferry_submit(pool, await_own_in_a_task, pool)), -EAGAIN);
    CHECK(ferry_await(ferry_submit(pool, my_thread, NULL)) == thread);
    CHECK(atomic_load(&refused) >= 2);
    allow_all();
    end_pool(pool);
    return 0;
}

/* ---- Wake-ups -------------------------------------------------------------------------------- */

/* Those who sleep until they are called: it takes a system call. */
static long sleepers(ferry_executor *pool) {
    long n = 0;
    ferry__lock(&pool->lock);
    for (struct ferry__worker *w = ferry__threads_of(pool)->idle; w; w = w->below)
        n += w->counted && __atomic_load_n(&w->called, __ATOMIC_ACQUIRE) == ASLEEP;
    ferry__unlock(&pool->lock);
    return n;
}

static void until_all_sleep(ferry_executor *pool, long n) {
    while (sleepers(pool) != n)
        sched_yield();
}

static int64_t pass_gate(void *arg) {
    gate_wait(arg);
    return 1;
}

static void a_burst_costs_one_wake_up(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strand = make_strand(pool, 1),
                   *both[] = {pool, strand};
    for (int i = 0; i < 2; i++) {
        gate g = GATE_INIT;
        ferry_future *jobs[100];
        assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(1))), 1);
        until_all_sleep(pool, 1);
        wakes = 0;
        for (int k = 0; k < 100; k++)
            jobs[k] = ferry_submit(both[i], pass_gate, &g);
        assert_int_equal(wakes, 1);
        gate_open(&g);
        for (int k = 0; k < 100; k++)
            assert_int_equal(ferry_await(jobs[k]), 1);
        gate_destroy(&g);
    }
    end_pool(strand);
    end_pool(pool);
}

/* One is woken, and hasn't got to the line yet: it will see what came meanwhile, and call the
 * others if need be. */
static void one_wake_up_is_on_its_way(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(3, NULL);
    gate g = GATE_INIT;
    ferry_future *jobs[10];
    saturation s;
    saturate(&s, pool, 3);
    desaturate(&s);
    until_all_sleep(pool, 3);
    atomic_store(&woken, &g);
    wakes = 0;
    for (int i = 0; i < 10; i++)
        jobs[i] = ferry_submit(pool, return_arg, as_arg(i));
    unsigned before_it_came = wakes;
    atomic_store(&woken, NULL);
    gate_open(&g);
    assert_int_equal(before_it_came, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ferry_await(jobs[i]), i);
    end_pool(pool);
    gate_destroy(&g);
}

static void nobody_is_woken_while_all_are_busy(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(3, NULL);
    ferry_future *jobs[100];
    saturation s;
    saturate(&s, pool, 3);
    wakes = 0;
    for (int k = 0; k < 100; k++)
        jobs[k] = ferry_submit(pool, return_arg, as_arg(k));
    assert_int_equal(wakes, 0);
    desaturate(&s);
    for (int k = 0; k < 100; k++)
        assert_int_equal(ferry_await(jobs[k]), k);
    end_pool(pool);
}

static int64_t submit_and_count(void *arg) {
    ferry_executor *strand = arg;
    ferry_future *jobs[20];
    wakes = 0;
    for (int i = 0; i < 20; i++)
        jobs[i] = ferry_submit(strand, return_arg, as_arg(i));
    for (int i = 0; i < 20; i++)
        ferry_detach(jobs[i]);
    return wakes;
}

/* A strand's jobs go on on the thread that has just ended one, though others sleep. */
static void a_strand_wakes_nobody_for_its_next_job(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(3, NULL), *strand = make_strand(pool, 1);
    saturation s;
    saturate(&s, pool, 3);
    desaturate(&s);
    until_all_sleep(pool, 3);
    assert_int_equal(ferry_await(ferry_submit(strand, submit_and_count, strand)), 0);
    end_pool(strand);
    end_pool(pool);
}

/* ---- Leaving --------------------------------------------------------------------------------- */

/* All lose patience before one of them has left. */
static void the_least_number_stays(void **state) {
    (void)state;
    enum { ALL = 8, LEAST = 3, IDLE_MS = 5 };
    ferry_executor *pool =
        make_pool(ALL, &(ferry_executor_options){.idle_ms = IDLE_MS, .threads_min = LEAST});
    gate g = GATE_INIT, leaving = GATE_INIT;
    ferry_future *jobs[ALL];
    atomic_store(&patient, 0);
    atomic_store(&leavers, &leaving);
    for (int i = 0; i < ALL; i++)
        jobs[i] = ferry_submit(pool, pass_gate, &g);
    gate_wait_arrivals(&g, ALL);
    gate_open(&g);
    for (int i = 0; i < ALL; i++)
        assert_int_equal(ferry_await(jobs[i]), 1);
    gate_wait_arrivals(&leaving, ALL - LEAST);
    while (atomic_load(&patient) < LEAST)
        sched_yield();
    assert_int_equal(gate_arrivals(&leaving), ALL - LEAST);
    gate_open(&leaving);
    while (stats_of(pool).threads > LEAST)
        sched_yield();
    atomic_store(&leavers, NULL);
    assert_int_equal(stats_of(pool).threads, LEAST);
    assert_int_equal(stats_of(pool).idle, LEAST);
    end_pool(pool);
    gate_destroy(&g);
    gate_destroy(&leaving);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static int64_t count_run(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    return 1;
}

static void count_free(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 100);
}

/* Makes a pool, a strand, an inline executor and a job, and ends them. */
static void make_all(atomic_int *marks) {
    ferry_executor *pool = NULL, *strand = NULL, *in_place = NULL;
    ferry_scope scope = FERRY_SCOPE_INIT;
    int rc = ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1});
    int rc_strand = rc == 0 ? ferry_strand_new(&strand, pool, NULL) : -ENOMEM;
    int rc_inline = ferry_inline_new(&in_place);
    ferry_future *job = NULL;
    assert_int_equal(ferry_scope_open(&scope, FERRY_FOREVER), 0); /* its flag is inherited */
    if (rc_strand == 0)
        job = ferry_submit_with(strand, count_run, marks,
                                &(ferry_job_options){.arg_free = count_free});
    ferry_scope_close(&scope, 0);
    int64_t result = ferry_await(job);
    if (rc_strand == 0)
        end_pool(strand);
    if (rc == 0)
        end_pool(pool);
    ferry_executor_free(in_place);
    oom_never();
    assert_true(rc == 0 || rc == -ENOMEM);
    assert_true(rc_strand == 0 || rc_strand == -ENOMEM);
    assert_true(rc_inline == 0 || rc_inline == -ENOMEM);
    assert_true(result == 1 || result == -ENOMEM || result == -EAGAIN);
    /* without a handle it is still ours */
    assert_int_equal(atomic_load(marks), job ? 100 + (result == 1) : 0);
    assert_true((in_place == NULL) == (rc_inline < 0));
}

/* Whatever allocation fails: nothing is lost. */
static void nothing_is_lost_when_memory_is_short(void **state) {
    (void)state;
    atomic_int marks;
    bool hit = true;
    atomic_init(&marks, 0);
    make_all(&marks); /* records of threads stay */
    for (int n = 0; hit; n++) {
        long before = oom_blocks();
        atomic_store(&marks, 0);
        oom_after(n, false);
        make_all(&marks);
        hit = oom_hit();
        ferry__error_set(ferry__ctx_self(), 0, NULL);
        assert_int_equal(oom_blocks(), before);
        assert_true(n < 1000);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("without any thread a job fails with EAGAIN", without_any_thread_a_job_fails),
        CASE("fewer threads than asked for do as well", fewer_threads_do),
        CASE("a stack that there is no memory for", a_stack_that_there_is_no_memory_for),
        CASE("when there is no thread who waits for a place fails too",
             who_waits_for_a_place_fails_too),
        CASE("EXE-14 the only thread there is waits for a job behind it", the_only_thread_waits),
        CASE("a burst of submits costs one wake-up", a_burst_costs_one_wake_up),
        CASE("nobody is woken while a wake-up is on its way", one_wake_up_is_on_its_way),
        CASE("nobody is woken while all threads are busy", nobody_is_woken_while_all_are_busy),
        CASE("a strand wakes nobody for its next job", a_strand_wakes_nobody_for_its_next_job),
        CASE("as many threads as threads_min says stay", the_least_number_stays),
        CASE("nothing is lost when memory is short", nothing_is_lost_when_memory_is_short),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

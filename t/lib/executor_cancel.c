/* Telling jobs to stop: queued ones, running ones, and those that others wait for. Those that
 * don't listen: abandon.c. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

static int64_t pass_gate(void *arg) {
    gate_wait(arg);
    return 7;
}

static int64_t must_not_run(void *arg) {
    (void)arg;
    MUST_NOT_HAPPEN("it ran");
    return 0;
}

static void count_free(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
}

/* ---- Queued ---------------------------------------------------------------------------------- */

static void a_queued_job_never_runs(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    saturation s;
    atomic_int frees;
    atomic_init(&frees, 0);
    saturate(&s, pool, 1);
    ferry_future *first = ferry_submit(pool, return_arg, as_arg(1));
    ferry_future *cut =
        ferry_submit_with(pool, must_not_run, &frees, &(ferry_job_options){.arg_free = count_free});
    ferry_future *last = ferry_submit(pool, return_arg, as_arg(3));
    assert_int_equal(ferry_cancel(cut), FERRY_CANCEL_NEVER_RAN);
    assert_true(ferry_done(cut));
    assert_true(ferry_cancelled(cut));
    assert_int_equal(stats_of(pool).queued, 2);
    assert_int_equal(stats_of(pool).cancelled, 1);
    assert_int_equal(ferry_cancel(cut), FERRY_CANCEL_LATE);
    assert_int_equal(atomic_load(&frees), 0); /* the handle still has it */
    assert_int_equal(ferry_await(cut), FERRY_EJOBCANCELED);
    assert_int_equal(atomic_load(&frees), 1);
    desaturate(&s);
    assert_int_equal(ferry_await(first), 1);
    assert_int_equal(ferry_await(last), 3);
    assert_int_equal(stats_of(pool).started, 3);
    end_pool(pool);
}

/* Nobody has told the job itself: it finds out when its turn comes. */
TASK_TEST(a_job_whose_scope_was_cancelled_while_it_was_queued) {
    ferry_executor *pool = make_pool(1, NULL);
    saturation s;
    saturate(&s, pool, 1);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_future *job = ferry_submit(pool, must_not_run, NULL);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK(!ferry_done(job));
    desaturate(&s);
    CHECK_INT(ferry_await(job), FERRY_EJOBCANCELED);
    end_pool(pool);
    return 0;
}

TASK_TEST(submitted_in_a_cancelled_scope) {
    ferry_executor *pool = make_pool(1, NULL);
    atomic_int frees;
    atomic_init(&frees, 0);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    ferry_future *job =
        ferry_submit_with(pool, must_not_run, &frees, &(ferry_job_options){.arg_free = count_free});
    CHECK(ferry_done(job));
    CHECK_INT(ferry_await(job), -ECANCELED);
    CHECK_INT(atomic_load(&frees), 1);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(stats_of(pool).threads, 0);
    end_pool(pool);
    return 0;
}

/* ---- Running --------------------------------------------------------------------------------- */

static void a_job_that_does_not_listen(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    gate g = GATE_INIT;
    ferry_future *job = ferry_submit(pool, pass_gate, &g);
    gate_wait_arrivals(&g, 1);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    assert_false(ferry_done(job));
    gate_open(&g);
    assert_int_equal(ferry_wait(job), 0);
    assert_false(ferry_cancelled(job));
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_LATE);
    assert_int_equal(ferry_await(job), 7);
    end_pool(pool);
    gate_destroy(&g);
}

static int64_t check_until_told(void *arg) {
    gate_wait(arg);
    while (ferry_checkpoint() == 0)
        sched_yield();
    /* each call that may wait says so, again and again */
    CHECK_INT(ferry_sleep(FERRY_FOREVER), -ECANCELED);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_time_left(), 0);
    return ferry_checkpoint();
}

static void a_job_that_looks(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    gate g = GATE_INIT;
    ferry_future *job = ferry_submit(pool, check_until_told, &g);
    gate_wait_arrivals(&g, 1);
    gate_open(&g);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    assert_int_equal(ferry_wait(job), 0);
    assert_true(ferry_cancelled(job));
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    end_pool(pool);
    gate_destroy(&g);
}

static int64_t sleep_for_ever(void *arg) {
    gate_wait(arg);
    return ferry_sleep(FERRY_FOREVER);
}

static void a_job_that_sleeps(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    gate g = GATE_INIT;
    gate_open(&g);
    for (int i = 0; i < 100; i++) {
        ferry_future *job = ferry_submit(pool, sleep_for_ever, &g);
        gate_wait_arrivals(&g, (unsigned)i + 1);
        assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
        assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    }
    end_pool(pool);
    gate_destroy(&g);
}

static int64_t look_at_the_deadline(void *arg) {
    (void)arg;
    int64_t left = ferry_time_left();
    CHECK(left > 0 && left <= 3600000);
    return 1;
}

static int64_t sleep_to_the_deadline(void *arg) {
    (void)arg;
    return ferry_sleep(FERRY_FOREVER);
}

TASK_TEST(a_job_inherits_the_deadline) {
    ferry_executor *pool = make_pool(1, NULL);
    ferry_scope scope = FERRY_SCOPE_INIT, soon = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 3600000), 0);
    CHECK_INT(ferry_await(ferry_submit(pool, look_at_the_deadline, NULL)), 1);
    CHECK_INT(ferry_scope_open(&soon, 5), 0);
    CHECK_INT(
        ferry_scope_close(&soon, ferry_await(ferry_submit(pool, sleep_to_the_deadline, NULL))),
        -ETIMEDOUT);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    end_pool(pool);
    return 0;
}

/* ---- Hooks ----------------------------------------------------------------------------------- */

struct hooked {
    gate begun, go;
    atomic_int calls, over;
    pthread_t caller;
    ferry_future *other;
};

static int64_t wait_for_hook(void *arg) {
    struct hooked *h = arg;
    gate_wait(&h->begun);
    gate_wait(&h->go);
    return atomic_load(&h->calls);
}

static void hook(void *arg) {
    struct hooked *h = arg;
    CHECK_INT(atomic_load(&h->over), 0);
    atomic_fetch_add(&h->calls, 1);
    h->caller = pthread_self();
    if (h->other)
        CHECK_INT(ferry_cancel(h->other), FERRY_CANCEL_ASKED);
    gate_open(&h->go);
    CHECK_INT(atomic_load(&h->over), 0);
}

#define HOOKED {.begun = GATE_INIT, .go = GATE_INIT}

static void the_hook_is_called_once_on_the_cancelling_thread(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL);
    struct hooked h = HOOKED, other = HOOKED;
    static const ferry_job_options options = {.interrupt = hook};
    gate_open(&h.begun);
    gate_open(&other.begun);
    other.other = NULL;
    ferry_future *jobs[] = {ferry_submit_with(pool, wait_for_hook, &h, &options),
                            ferry_submit_with(pool, wait_for_hook, &other, &options)};
    h.other = jobs[1]; /* a hook may cancel others */
    gate_wait_arrivals(&h.go, 1);
    gate_wait_arrivals(&other.go, 1);
    assert_int_equal(ferry_cancel(jobs[0]), FERRY_CANCEL_ASKED);
    ferry_cancel(jobs[0]);
    ferry_cancel(jobs[1]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ferry_await(jobs[i]), 1);
    assert_true(pthread_equal(h.caller, pthread_self()));
    assert_int_equal(atomic_load(&h.calls), 1);
    assert_int_equal(atomic_load(&other.calls), 1);
    end_pool(pool);
}

static void just_count(void *arg) {
    struct hooked *h = arg;
    atomic_fetch_add(&h->calls, 1);
}

static void *cancel_in_a_thread(void *job) {
    CHECK_INT(ferry_cancel(job), FERRY_CANCEL_ASKED);
    return NULL;
}

static void the_hook_is_called_once_however_often_one_asks(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct hooked h = HOOKED;
    gate_open(&h.begun);
    ferry_future *job =
        ferry_submit_with(pool, wait_for_hook, &h, &(ferry_job_options){.interrupt = just_count});
    gate_wait_arrivals(&h.go, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    pthread_join(start_thread(cancel_in_a_thread, job), NULL);
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_CANCEL), 0);
    gate_open(&h.go);
    assert_int_equal(ferry_await(job), 1);
    assert_int_equal(atomic_load(&h.calls), 1);
    end_pool(pool);
}

static void no_hook_for_a_queued_or_ended_job(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct hooked h = HOOKED;
    saturation s;
    saturate(&s, pool, 1);
    ferry_future *job =
        ferry_submit_with(pool, must_not_run, &h, &(ferry_job_options){.interrupt = hook});
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    desaturate(&s);
    gate_open(&h.begun);
    gate_open(&h.go);
    job = ferry_submit_with(pool, wait_for_hook, &h, &(ferry_job_options){.interrupt = hook});
    assert_int_equal(ferry_wait(job), 0);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_LATE);
    assert_int_equal(ferry_await(job), 0);
    assert_int_equal(atomic_load(&h.calls), 0);
    end_pool(pool);
}

struct slow_hook {
    gate begun, go, in_hook, leave_hook;
    atomic_int inside;
};

static int64_t begin_and_go(void *arg) {
    struct slow_hook *h = arg;
    gate_wait(&h->begun);
    gate_wait(&h->go);
    return 3;
}

static void hook_that_takes_its_time(void *arg) {
    struct slow_hook *h = arg;
    atomic_store(&h->inside, 1);
    gate_wait(&h->in_hook);
    gate_wait(&h->leave_hook);
    atomic_store(&h->inside, 0);
}

static void *cancel_thread(void *job) {
    ferry_cancel(job);
    return NULL;
}

/* fn has returned, but the handle isn't done and its memory is in use as long as the hook runs. */
static void the_end_of_a_job_waits_for_its_hook(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct slow_hook h = {GATE_INIT, GATE_INIT, GATE_INIT, GATE_INIT, 0};
    gate_open(&h.begun);
    gate_open(&h.in_hook);
    ferry_future *job = ferry_submit_with(
        pool, begin_and_go, &h, &(ferry_job_options){.interrupt = hook_that_takes_its_time});
    gate_wait_arrivals(&h.go, 1);
    pthread_t canceller = start_thread(cancel_thread, job);
    gate_wait_arrivals(&h.leave_hook, 1);
    gate_open(&h.go);
    assert_int_equal(ferry_wait_for(job, 5), -ETIMEDOUT);
    assert_int_equal(stats_of(pool).running, 1);
    gate_open(&h.leave_hook);
    assert_int_equal(ferry_await(job), 3);
    assert_int_equal(atomic_load(&h.inside), 0);
    pthread_join(canceller, NULL);
    end_pool(pool);
}

struct race {
    ferry_future *job;
    pthread_barrier_t start;
    atomic_int calls, over;
};

static int64_t end_at_once(void *arg) {
    (void)arg;
    return 2;
}

static void race_hook(void *arg) {
    struct race *r = arg;
    CHECK_INT(atomic_load(&r->over), 0);
    atomic_fetch_add(&r->calls, 1);
    CHECK_INT(atomic_load(&r->over), 0);
}

static void *race_to_cancel(void *arg) {
    struct race *r = arg;
    pthread_barrier_wait(&r->start);
    ferry_cancel(r->job);
    ferry_detach(r->job);
    return NULL;
}

static void hooks_and_the_end_of_the_job_race(void **state) {
    (void)state;
    int rounds = support_slow() ? 100 : 1000;
    ferry_executor *pool = make_pool(1, NULL);
    for (int i = 0; i < rounds && support_in_time(); i++) {
        struct race *r = malloc(sizeof *r); /* not found again by a hook that is late */
        atomic_init(&r->calls, 0);
        atomic_init(&r->over, 0);
        pthread_barrier_init(&r->start, NULL, 2);
        ferry_future *job =
            ferry_submit_with(pool, end_at_once, r, &(ferry_job_options){.interrupt = race_hook});
        r->job = ferry_ref(job);
        pthread_t thread = start_thread(race_to_cancel, r);
        pthread_barrier_wait(&r->start);
        int64_t result = ferry_await(job);
        atomic_store(&r->over, 1);
        CHECK(result == 2 || result == FERRY_EJOBCANCELED);
        CHECK(atomic_load(&r->calls) <= 1);
        pthread_join(thread, NULL);
        pthread_barrier_destroy(&r->start);
        free(r);
    }
    end_pool(pool);
}

/* ---- Signals --------------------------------------------------------------------------------- */

static _Thread_local struct victim *at_work;
static atomic_int strays, hits;

struct victim {
    ferry_future *job;
    atomic_int told;
    atomic_int started; /* the thread's number */
    int fd[2];
};

static void on_signal(int signo) {
    (void)signo;
    atomic_fetch_add(&hits, 1);
    if (at_work && !atomic_load(&at_work->told))
        atomic_fetch_add(&strays, 1);
}

static void catch_usr1(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    atomic_store(&strays, 0);
    atomic_store(&hits, 0);
}

static int64_t read_until_told(void *arg) {
    struct victim *v = arg;
    char c;
    atomic_store(&v->started, (int)gettid());
    while (read(v->fd[0], &c, 1) < 0) {
        if (errno != EINTR)
            return -errno;
        if (ferry_checkpoint() < 0)
            return -ECANCELED;
    }
    return 1;
}

/* Until the kernel says that the thread is inside of read(): a signal that came before that would
 * end nothing. Where it doesn't say it, that the thread sleeps has to do. */
static void until_in_read(int thread) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
    for (bool inside = false; !inside; sched_yield()) {
        FILE *call = fopen(path, "r");
        char *end = line;
        if (!call || !fgets(line, sizeof line, call)) {
            if (call)
                fclose(call);
            until_in_the_kernel(thread);
            return;
        }
        inside = strtol(line, &end, 10) == SYS_read && end != line; /* "running": no number */
        fclose(call);
    }
}

static void a_signal_ends_a_system_call(void **state) {
    (void)state;
    catch_usr1();
    ferry_executor *pool = make_pool(1, NULL);
    for (int i = 0; i < 20; i++) {
        struct victim v = {.fd = {-1, -1}};
        assert_int_equal(pipe(v.fd), 0);
        ferry_future *job = ferry_submit_with(pool, read_until_told, &v,
                                              &(ferry_job_options){.interrupt_signal = SIGUSR1});
        while (!atomic_load(&v.started))
            sched_yield();
        until_in_read(atomic_load(&v.started));
        assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
        assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
        assert_int_equal(atomic_load(&hits), i + 1); /* one each */
        close(v.fd[0]);
        close(v.fd[1]);
    }
    end_pool(pool);
    signal(SIGUSR1, SIG_DFL);
}

static int64_t be_a_victim(void *arg) {
    struct victim *v = arg;
    at_work = v;
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store(&v->started, 1);
    sched_yield();
    atomic_signal_fence(memory_order_seq_cst);
    at_work = NULL;
    return 1;
}

/* A signal that is sent as its job ends must not hit the next job of that thread. */
static void a_signal_never_hits_another_job(void **state) {
    (void)state;
    int rounds = support_slow() ? 100 : 1000;
    catch_usr1();
    ferry_executor *pool = make_pool(1, NULL);
    static const ferry_job_options options = {.interrupt_signal = SIGUSR1};
    for (int i = 0; i < rounds && support_in_time(); i++) {
        struct victim v[2] = {{.fd = {-1, -1}}, {.fd = {-1, -1}}};
        v[0].job = ferry_submit_with(pool, be_a_victim, &v[0], &options);
        v[1].job = ferry_submit_with(pool, be_a_victim, &v[1], &options);
        while (!atomic_load(&v[0].started))
            sched_yield();
        atomic_store(&v[0].told, 1);
        ferry_cancel(v[0].job);
        for (int k = 0; k < 2; k++)
            CHECK(ferry_await(v[k].job) == 1);
    }
    assert_int_equal(atomic_load(&strays), 0);
    end_pool(pool);
    signal(SIGUSR1, SIG_DFL);
}

static bool usr1_blocked(void) {
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    return sigismember(&mask, SIGUSR1) == 1;
}

static int64_t is_open(void *arg) {
    (void)arg;
    return !usr1_blocked();
}

static int64_t is_open_after_the_inner(void *arg) {
    static const ferry_job_options options = {.interrupt_signal = SIGUSR1};
    CHECK_INT(ferry_await(ferry_submit_with(arg, is_open, NULL, &options)), 1); /* on this thread */
    return !usr1_blocked();
}

static int64_t is_shut(void *arg) {
    (void)arg;
    return usr1_blocked();
}

static void the_mask_is_put_back(void **state) {
    (void)state;
    static const ferry_job_options options = {.interrupt_signal = SIGUSR1};
    ferry_executor *in_place, *pool = make_pool(1, NULL);
    assert_int_equal(ferry_inline_new(&in_place), 0);
    assert_int_equal(ferry_await(ferry_submit_with(in_place, is_open, NULL, &options)), 1);
    assert_false(usr1_blocked());
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    assert_int_equal(ferry_await(ferry_submit_with(in_place, is_open, NULL, &options)), 1);
    assert_true(usr1_blocked());
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    assert_int_equal(ferry_await(ferry_submit_with(pool, is_open_after_the_inner, pool, &options)),
                     1);
    assert_int_equal(ferry_await(ferry_submit(pool, is_shut, NULL)), 1);
    /* One that there isn't is none. */
    assert_int_equal(ferry_await(ferry_submit_with(pool, is_shut, NULL,
                                                   &(ferry_job_options){.interrupt_signal = 9999})),
                     1);
    ferry_executor_free(in_place);
    end_pool(pool);
}

/* ---- Closing --------------------------------------------------------------------------------- */

static void closing_a_pool_tells_its_strands(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(2, NULL), *strands[3];
    struct hooked h[2] = {HOOKED, HOOKED};
    ferry_future *running[2], *queued[3][2];
    struct kept_log log;
    for (int i = 0; i < 3; i++) {
        strands[i] = make_strand(pool, 1);
        if (i < 2) {
            gate_open(&h[i].begun);
            running[i] =
                ferry_submit_with(strands[i], wait_for_hook, &h[i],
                                  &(ferry_job_options){.name = "at it", .interrupt = hook});
            gate_wait_arrivals(&h[i].go, 1);
        }
        for (int k = 0; k < 2; k++)
            queued[i][k] = ferry_submit(strands[i], must_not_run, NULL);
    }
    keep_log(&log, FERRY_LOG_WARNING, "'at it' has been running");
    assert_int_equal(ferry_executor_stop(pool, 0), 2);
    assert_int_equal(kept_messages(&log), 2); /* by name */
    assert_int_equal(ferry_executor_close(pool, FERRY_CLOSE_CANCEL), 0);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 2; k++) {
            assert_true(ferry_done(queued[i][k]));
            assert_int_equal(ferry_await(queued[i][k]), FERRY_EJOBCANCELED);
        }
        assert_int_equal(ferry_await(ferry_submit(strands[i], must_not_run, NULL)), FERRY_ECLOSED);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(ferry_await(running[i]), 1);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        end_pool(strands[i]);
    ferry_executor_free(pool);
}

/* ---- Jobs that others wait for --------------------------------------------------------------- */

struct nested {
    ferry_executor *executor;
    struct hooked inner;
    atomic_int outer_thread_differs;
    pthread_t outer;
};

static int64_t inner_job(void *arg) {
    struct nested *n = arg;
    if (!pthread_equal(n->outer, pthread_self()))
        atomic_store(&n->outer_thread_differs, 1);
    gate_wait(&n->inner.begun);
    gate_wait(&n->inner.go);
    return ferry_checkpoint();
}

static void inner_hook(void *arg) {
    struct nested *n = arg;
    hook(&n->inner);
}

static int64_t outer_job(void *arg) {
    struct nested *n = arg;
    n->outer = pthread_self();
    return ferry_await(ferry_submit_with(n->executor, inner_job, n,
                                         &(ferry_job_options){.interrupt = inner_hook}));
}

/* The awaiter's thread runs the inner job itself: what the outer one is told goes through to it. */
static void a_job_that_runs_another_one_passes_it_on(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL), *strand = make_strand(pool, 1),
                   *both[] = {pool, strand};
    for (int i = 0; i < 2; i++) {
        struct nested n = {.executor = both[i], .inner = HOOKED};
        gate_open(&n.inner.begun);
        ferry_future *outer = ferry_submit(both[i], outer_job, &n);
        gate_wait_arrivals(&n.inner.go, 1);
        assert_int_equal(stats_of(both[i]).running, 2);
        assert_int_equal(ferry_cancel(outer), FERRY_CANCEL_ASKED);
        assert_int_equal(ferry_await(outer), FERRY_EJOBCANCELED);
        assert_int_equal(atomic_load(&n.inner.calls), 1);
        assert_int_equal(atomic_load(&n.outer_thread_differs), 0);
    }
    ferry_executor_free(strand);
    end_pool(pool);
}

/* An await in a shield is left alone by what its job is told: somebody else's thread runs the
 * inner one. */
static int64_t outer_job_in_a_shield(void *arg) {
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    int64_t rc = outer_job(arg);
    CHECK_INT(rc, 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    return ferry_checkpoint();
}

static void a_shield_keeps_it_from_the_inner_job(void **state) {
    (void)state;
    ferry_executor *pool = make_pool(1, NULL);
    struct nested n = {.executor = pool, .inner = HOOKED};
    gate_open(&n.inner.begun);
    ferry_future *outer = ferry_submit(pool, outer_job_in_a_shield, &n);
    gate_wait_arrivals(&n.inner.go, 1);
    assert_int_equal(ferry_cancel(outer), FERRY_CANCEL_ASKED);
    assert_false(ferry_done(outer));
    gate_open(&n.inner.go);
    assert_int_equal(ferry_await(outer), FERRY_EJOBCANCELED);
    assert_int_equal(atomic_load(&n.inner.calls), 0);
    assert_int_equal(atomic_load(&n.outer_thread_differs), 1);
    end_pool(pool);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("EXE-07 a queued job that is cancelled never runs, and its handle is done at once",
             a_queued_job_never_runs),
        CASE("a job whose scope was cancelled while it was queued never runs",
             a_job_whose_scope_was_cancelled_while_it_was_queued),
        CASE("THR-03 a job submitted in a cancelled scope never runs",
             submitted_in_a_cancelled_scope),
        CASE("EXE-09 a running job that ignores a cancel: its result is delivered",
             a_job_that_does_not_listen),
        CASE("a running job sees the cancel at its checkpoint and in each wait", a_job_that_looks),
        CASE("a job that sleeps is woken by a cancel", a_job_that_sleeps),
        CASE("a job inherits the deadline of its scope", a_job_inherits_the_deadline),
        CASE("the interrupt hook is called once, on the cancelling thread",
             the_hook_is_called_once_on_the_cancelling_thread),
        CASE("the interrupt hook is called once, however often one asks",
             the_hook_is_called_once_however_often_one_asks),
        CASE("no hook for a job that is queued or has ended", no_hook_for_a_queued_or_ended_job),
        CASE("the end of a job waits for its hook", the_end_of_a_job_waits_for_its_hook),
        CASE("hooks and the end of the job race", hooks_and_the_end_of_the_job_race),
        CASE("a signal ends a system call of the job", a_signal_ends_a_system_call),
        CASE("a signal never hits another job", a_signal_never_hits_another_job),
        CASE("signal masks are put back", the_mask_is_put_back),
        CASE("EXE-07 closing a pool tells its strands, and a report names their jobs",
             closing_a_pool_tells_its_strands),
        CASE("a job that runs the one that it awaits passes a cancel on",
             a_job_that_runs_another_one_passes_it_on),
        CASE("a shield keeps a cancel from the awaited job", a_shield_keeps_it_from_the_inner_job),
    };
    return SUPPORT_RUN(tests);
}

/* Clocks that jump: CLOCK_MONOTONIC far ahead, as after a machine was suspended, and CLOCK_REALTIME
 * back, which nothing may rest on.
 *
 * The program is linked with --wrap for clock_gettime and evutil_gettimeofday, whose answers are
 * shifted here, and for ferry__futex_wait, since the kernel's clock isn't, with ferry__lock_slow,
 * whose own calls of that can't be wrapped: a nap of it would last for days. libevent's own timers,
 * which are relative, go by the true clock. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "core.h"
#include "parked.h"
#include "pools.h"
#include "service.h"
#include "support.h"
#include "waiters.h"

#define SECOND 1000
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_evutil_gettimeofday(struct timeval *tv, void *zone);
void __real_ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline);
void __wrap_ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline);
void __wrap_ferry__lock_slow(unsigned *lock);

static _Atomic int64_t ahead_ms; /* of CLOCK_MONOTONIC */
static _Atomic int days_back;    /* of the time of day: one more each time that it is asked for */

int __wrap_clock_gettime(clockid_t id, struct timespec *ts) {
    int rc = __real_clock_gettime(id, ts);
    if (id == CLOCK_MONOTONIC)
        ts->tv_sec += (time_t)(atomic_load(&ahead_ms) / SECOND);
    else
        ts->tv_sec -= (time_t)(atomic_fetch_add(&days_back, 1) + 1) * 24 * 3600;
    return rc;
}

int __wrap_evutil_gettimeofday(struct timeval *tv, void *zone) {
    struct timespec ts;
    (void)zone;
    __wrap_clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
    return 0;
}

void __wrap_ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline) {
    int64_t ahead = atomic_load(&ahead_ms) * FERRY__MS;
    if (deadline != FERRY__NEVER)
        deadline = deadline > ahead ? deadline - ahead : 0;
    __real_ferry__futex_wait(word, seen, deadline);
}

void __wrap_ferry__lock_slow(unsigned *lock) {
    while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}

static void jump(int64_t ms) {
    atomic_fetch_add(&ahead_ms, ms);
}

/* ---- Far ahead ------------------------------------------------------------------------------- */

enum { SLEEPERS = 3000 };

static struct {
    int order[SLEEPERS], n;
    int posts, n_at_post;
} woken;

struct nap {
    int number;
    int64_t ms;
    int rc;
};

static int64_t naps(void *arg) {
    struct nap *s = arg;
    s->rc = ferry_sleep(s->ms);
    if (woken.n < SLEEPERS)
        woken.order[woken.n++] = s->number;
    return s->rc;
}

struct ticker {
    int ticks;
    bool over;
};

static int64_t ticks(void *arg) {
    struct ticker *t = arg;
    while (!t->over && ferry_sleep(HOUR) == 0)
        t->ticks++;
    return 0;
}

static int64_t note_post(void *arg) {
    (void)arg;
    woken.posts++;
    woken.n_at_post = woken.n;
    return 0;
}

TASK_TEST(all_that_is_due) {
    static struct nap s[SLEEPERS];
    static ferry_future *tasks[SLEEPERS];
    static int64_t at[SLEEPERS]; /* clock: when each one is to wake */
    struct nap far = {.number = -1, .ms = 2 * DAY, .rc = 1};
    struct ticker ticker = {0};
    woken.n = woken.posts = 0;
    for (int i = 0; i < SLEEPERS; i++) { /* the later ones are started first, and some are equal */
        int place = SLEEPERS - 1 - i;
        s[place] = (struct nap){.number = place, .ms = HOUR + place / 3 * SECOND};
        tasks[place] = ferry_spawn(naps, &s[place]);
    }
    ferry_future *late = ferry_spawn(naps, &far), *tick = ferry_spawn(ticks, &ticker);
    until_parked(tick);
    for (int i = 0; i < 10; i++)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(woken.n, 0);
    for (int i = 0; i < SLEEPERS; i++)
        at[i] = ((struct ferry__task *)tasks[i])->timer.at;
    jump(DAY);
    CHECK_INT(ferry_post(ferry_loop_current(), note_post, NULL), 0);
    while (woken.n < SLEEPERS)
        CHECK_INT(ferry_yield(), 0);
    /* In the order of their times; one call each; and who hands something in isn't kept waiting
     * for all of them. */
    for (int i = 1; i < SLEEPERS; i++)
        CHECK(at[woken.order[i - 1]] <= at[woken.order[i]]);
    CHECK_INT(woken.posts, 1);
    CHECK(woken.n_at_post < SLEEPERS);
    CHECK_INT(ticker.ticks, 1); /* not one for each hour of a day */
    for (int i = 0; i < 10; i++)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ticker.ticks, 1);
    CHECK(task_parked(late));
    for (int i = 0; i < SLEEPERS; i++)
        CHECK_INT(ferry_await(tasks[i]), 0);
    jump(DAY);
    CHECK_INT(ferry_await(late), 0);
    ticker.over = true;
    ferry_cancel(tick);
    CHECK_INT(ferry_await(tick), 0);
    return 0;
}

/* Time-outs of every kind are over once, and what was there before the jump is taken. */
struct waits {
    ferry_queue *queue;
    ferry_sem sem;
    ferry_event never;
    ferry_promise *promise;
    ferry_future *promised;
    int begun;
};

static int64_t in_a_scope(void *arg) {
    struct waits *w = arg;
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&outer, 2 * DAY), 0);
    CHECK_INT(ferry_scope_open(&inner, HOUR), 0);
    w->begun++;
    CHECK_INT(ferry_event_wait(&w->never), -ECANCELED);
    CHECK_INT(ferry_scope_close(&inner, -ECANCELED), -ETIMEDOUT);
    CHECK_INT(ferry_sleep(1), 0); /* the outer one has a day left */
    return ferry_scope_close(&outer, 0);
}

static int64_t at_a_queue(void *arg) {
    struct waits *w = arg;
    void *item;
    w->begun++;
    return ferry_queue_get_for(w->queue, &item, HOUR);
}

static int64_t at_a_semaphore(void *arg) {
    struct waits *w = arg;
    w->begun++;
    return ferry_sem_acquire_for(&w->sem, 1, HOUR);
}

static int64_t at_a_handle(void *arg) {
    struct waits *w = arg;
    w->begun++;
    return ferry_await_for(w->promised, HOUR);
}

TASK_TEST(time_outs_are_over) {
    struct waits w = {.sem = FERRY_SEM_INIT(0)};
    w.queue = ferry_queue_new(4, NULL);
    w.promise = ferry_promise_new(&w.promised, "promised");
    static const struct {
        ferry_fn fn;
        int64_t rc;
    } all[] = {
        {in_a_scope, 0}, {at_a_queue, -ETIMEDOUT}, {at_a_semaphore, 0}, {at_a_handle, -ETIMEDOUT}};
    ferry_future *tasks[4];
    for (int i = 0; i < 4; i++) {
        tasks[i] = ferry_spawn(all[i].fn, &w);
        until_parked(tasks[i]);
    }
    CHECK_INT(w.begun, 4);
    CHECK_INT(ferry_sem_release(&w.sem, 1), 0); /* granted before the jump: it is kept */
    jump(DAY);
    for (int i = 0; i < 4; i++) {
        while (!ferry_done(tasks[i]))
            CHECK_INT(ferry_yield(), 0);
        CHECK_INT(ferry_await(tasks[i]), all[i].rc);
    }
    ferry_promise_drop(w.promise);
    ferry_queue_free(w.queue);
    return 0;
}

static int64_t stands(void *arg) {
    gate_wait(arg);
    return 0;
}

/* A job's patience is over, idle threads leave: nothing is lost. */
static void pools_and_the_service(void **state) {
    (void)state;
    static const ferry_job_options options = {.policy = FERRY_JOB_ABANDON, .grace_ms = HOUR};
    gate g = GATE_INIT;
    ferry_executor *pool = make_pool(2, NULL);
    struct kept_log log;
    keep_log(&log, FERRY_LOG_WARNING, "given up");
    ferry_future *job = ferry_submit_with(pool, stands, &g, &options);
    gate_wait_arrivals(&g, 1);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(3))), 3);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    assert_false(ferry_done(job));
    jump(DAY);
    ferry__service_nudge(); /* its poll() goes by the true clock */
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    for (int i = 0; i < 100; i++) {
        jump(DAY);
        assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(i))), i);
    }
    assert_int_equal(kept_messages(&log), 1);
    gate_open(&g);
    end_pool(pool);
}

/* ---- The time of day, set back --------------------------------------------------------------- */

static int64_t waits_a_little(void *arg) {
    ferry_executor *pool = arg;
    ferry_event never = FERRY_EVENT_INIT;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_sleep(2), 0);
    CHECK_INT(ferry_event_wait_for(&never, 2), -ETIMEDOUT);
    CHECK_INT(ferry_scope_open(&scope, 2), 0);
    CHECK_INT(ferry_event_wait(&never), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    return ferry_await(ferry_submit(pool, return_arg, as_arg(4)));
}

static int64_t posts_nothing(void *arg) {
    (void)arg;
    return 0;
}

static void the_time_of_day_does_not_matter(void **state) {
    (void)state;
    struct timespec before, after;
    clock_gettime(CLOCK_REALTIME, &before);
    clock_gettime(CLOCK_REALTIME, &after);
    assert_true(after.tv_sec < before.tv_sec);
    ferry_executor *pool = make_pool(2, &(ferry_executor_options){.idle_ms = 1});
    int64_t begun = ferry__now();
    assert_int_equal(waits_a_little(pool), 4); /* a thread's waits */
    assert_int_equal(ferry_run(waits_a_little, pool), 4);
    assert_int_equal(ferry_await(ferry_submit(pool, waits_a_little, pool)), 4);
    assert_true(ferry__now() - begun >= 18 * FERRY__MS); /* nothing was early */
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    assert_int_equal(ferry_post(loop, posts_nothing, NULL), 0);
    /* which looks whether it is inside of a callback */
    assert_int_equal(ferry_loop_shutdown(loop, HOUR), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    event_base_free(base);
    end_pool(pool);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("SCP-27 the clock jumps a day ahead: all that is due, in order, once",
             all_that_is_due),
        CASE("SCP-09 the clock jumps a day ahead: time-outs are over, grants are kept",
             time_outs_are_over),
        CASE("the clock jumps a day ahead: pools and the service thread", pools_and_the_service),
        CASE("the time of day is set back: nothing rests on it", the_time_of_day_does_not_matter),
    };
    return SUPPORT_RUN(tests);
}

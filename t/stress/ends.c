/* Stress twins of the races at the end of executors and loops, and of sends: EXE-02,
 * EXE-07, THR-12, TSC-05. See stress.h. */
#include "config.h"

#include <sched.h>

#include "actor.h"
#include "pools.h"
#include "waiters.h"

#define LONG 60000

/* ---- EXE-07: closed with jobs that run and jobs that are queued ------------------------------ */

enum { JOBS = 4 };

struct close_round {
    struct stress_round round;
    ferry_executor *pool;
    ferry_future *jobs[JOBS];
    bool ran[JOBS];
};

static void close_prepare(void *arg) {
    ((struct close_round *)arg)->pool = make_pool(2, NULL);
}

static int64_t close_job(void *arg) {
    *(bool *)arg = true;
    return 0;
}

static void close_submit(void *arg) {
    struct close_round *r = arg;
    for (int i = 1; i < JOBS; i++)
        r->jobs[i] = ferry_submit(r->pool, close_job, &r->ran[i]);
}

static void close_submit_and_cancel(void *arg) {
    struct close_round *r = arg;
    r->jobs[0] = ferry_submit(r->pool, close_job, &r->ran[0]);
    ferry_cancel(r->jobs[0]);
}

static void close_close(void *arg) {
    CHECK_INT(ferry_executor_close(((struct close_round *)arg)->pool, FERRY_CLOSE_CANCEL), 0);
}

static void close_check(void *arg) {
    struct close_round *r = arg;
    CHECK_INT(ferry_executor_stop(r->pool, FERRY_FOREVER), 0);
    for (int i = 0; i < JOBS; i++) {
        CHECK(ferry_done(r->jobs[i]));
        int64_t rc = ferry_await(r->jobs[i]);
        CHECK(r->ran[i] ? rc == 0 : rc == FERRY_EJOBCANCELED || rc == FERRY_ECLOSED);
    }
    ferry_executor_free(r->pool);
}

static void close_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct close_round),
                                     .prepare = close_prepare,
                                     .acts = {close_submit, close_submit_and_cancel},
                                     .hands = {close_close},
                                     .check = close_check});
}

/* ---- EXE-02: jobs come while threads fall asleep, leave and are made ------------------------- */

struct job_round {
    struct stress_round round;
    bool ran[3];
    int64_t result[3];
};

static ferry_executor *job_pool; /* of all rounds */

static void job_prepare(void *arg) {
    (void)arg;
}

static void job_submit(struct job_round *r, int i, bool cancelled) {
    ferry_future *f = ferry_submit(job_pool, close_job, &r->ran[i]);
    if (cancelled)
        ferry_cancel(f);
    r->result[i] = ferry_await(f);
}

static void job_first(void *arg) {
    job_submit(arg, 0, false);
}

static void job_second(void *arg) {
    job_submit(arg, 1, false);
}

static void job_third(void *arg) {
    job_submit(arg, 2, points_random() % 2);
}

static void job_check(void *arg) {
    struct job_round *r = arg;
    for (int i = 0; i < 3; i++)
        CHECK(r->ran[i] ? r->result[i] == 0 : i == 2 && r->result[i] == FERRY_EJOBCANCELED);
}

static void job_race(void **state) {
    (void)state;
    job_pool = make_pool(2, &(ferry_executor_options){.idle_ms = 1});
    stress_run(&(struct stress_race){.size = sizeof(struct job_round),
                                     .prepare = job_prepare,
                                     .acts = {job_first, job_second},
                                     .hands = {job_third},
                                     .check = job_check});
    end_pool(job_pool);
}

/* ---- THR-12: threads start tasks on a loop and cancel them at once --------------------------- */

struct started {
    int rc;
    int64_t result;
};

struct cancel_round {
    struct stress_round round;
    ferry_loop *loop;
    struct started tasks[2];
};

static void cancel_prepare(void *arg) {
    ((struct cancel_round *)arg)->loop = ferry_loop_current();
}

static void cancel_act(void *arg) {
    (void)arg;
    CHECK_INT(ferry_yield(), 0);
}

static int64_t cancel_task(void *arg) {
    struct started *s = arg;
    s->rc = ferry_sleep(LONG);
    return s->rc;
}

static void start_and_cancel(struct cancel_round *r, struct started *s) {
    ferry_future *f = ferry_spawn_on(r->loop, cancel_task, s);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    s->result = ferry_await(f);
}

static void cancel_first(void *arg) {
    struct cancel_round *r = arg;
    start_and_cancel(r, &r->tasks[0]);
}

static void cancel_second(void *arg) {
    struct cancel_round *r = arg;
    start_and_cancel(r, &r->tasks[1]);
}

static void cancel_check(void *arg) {
    struct cancel_round *r = arg;
    for (int i = 0; i < 2; i++) {
        CHECK_INT(r->tasks[i].rc, -ECANCELED); /* it ran to its first wait */
        CHECK_INT(r->tasks[i].result, FERRY_EJOBCANCELED);
    }
}

static void cancel_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct cancel_round),
                                     .prepare = cancel_prepare,
                                     .acts = {cancel_act},
                                     .hands = {cancel_first, cancel_second},
                                     .check = cancel_check,
                                     .tasks_only = true});
}

/* ---- THR-12: a loop ends while threads hand it tasks ----------------------------------------- */

enum { GUESTS = 2, ENDS_ONE_IN = 16 };

struct portal {
    ferry_loop *loop;
    long rounds;
    pthread_barrier_t opened, closed;
    bool over;
};

static int64_t portal_sleep(void *arg) {
    (void)arg;
    return ferry_sleep(LONG);
}

static int64_t portal_nothing(void *arg) {
    (void)arg;
    return 3;
}

/* Each handle ends, whatever becomes of the loop. */
static void *portal_guest(void *arg) {
    struct portal *p = arg;
    for (pthread_barrier_wait(&p->opened); !p->over; pthread_barrier_wait(&p->opened)) {
        bool sleeps = points_random() % 2, asks = points_random() % 4 == 0;
        ferry_future *f = ferry_spawn_on(p->loop, sleeps ? portal_sleep : portal_nothing, NULL);
        if (asks)
            ferry_cancel(f);
        if (points_random() % 8 == 0)
            ferry_loop_shutdown(p->loop, 1000);
        int64_t rc = ferry_await(f);
        CHECK(rc == FERRY_EJOBCANCELED || rc == FERRY_ECLOSED || (!sleeps && rc == 3));
        pthread_barrier_wait(&p->closed);
    }
    return NULL;
}

static int64_t portal_body(void *arg) {
    struct portal *p = arg;
    pthread_barrier_wait(&p->opened);
    for (uint32_t yields = points_random() % 4; yields > 0; yields--)
        ferry_yield();
    return 0;
}

static void portal_race(void **state) {
    (void)state;
    struct portal p = {.rounds = stress_rounds() / ENDS_ONE_IN + 1};
    pthread_t guests[GUESTS];
    long done = 0;
    stress_begin();
    pthread_barrier_init(&p.opened, NULL, GUESTS + 1);
    pthread_barrier_init(&p.closed, NULL, GUESTS + 1);
    for (int i = 0; i < GUESTS; i++)
        guests[i] = start_thread(portal_guest, &p);
    for (; done < p.rounds && !support_failing(); done++) {
        p.loop = ferry_loop_new();
        int64_t rc = ferry_loop_run(p.loop, portal_body, &p);
        CHECK(rc == 0 || rc == -ECANCELED);
        rc = ferry_loop_shutdown(p.loop, 1000);
        /* a guest, who returns when it is over, was quicker */
        CHECK(rc == 0 || rc == -EINPROGRESS);
        pthread_barrier_wait(&p.closed);
        CHECK_INT(ferry_loop_free(p.loop), 0);
    }
    p.over = true;
    pthread_barrier_wait(&p.opened);
    for (int i = 0; i < GUESTS; i++)
        pthread_join(guests[i], NULL);
    pthread_barrier_destroy(&p.opened);
    pthread_barrier_destroy(&p.closed);
    stress_end(done);
}

/* ---- TSC-05: sends while the callback runs --------------------------------------------------- */

struct send_round {
    struct stress_round round;
    ferry_async *async;
    _Atomic int sent; /* atomic: things that the callback is to see */
    int seen, runs;   /* the callback's */
};

static int64_t send_callback(void *arg) {
    struct send_round *r = arg;
    r->runs++;
    r->seen = atomic_load(&r->sent);
    if (r->seen == 2 && points_random() % 4 == 0) { /* once more, from inside */
        atomic_fetch_add(&r->sent, 1);
        CHECK_INT(ferry_async_send(r->async), 0);
    }
    return 0;
}

static void send_prepare(void *arg) {
    struct send_round *r = arg;
    r->async = ferry_async_new(ferry_loop_current(), send_callback, r);
}

static void send_act(void *arg) {
    (void)arg;
    CHECK_INT(ferry_yield(), 0);
}

static void send_hand(void *arg) {
    struct send_round *r = arg;
    for (int i = 0; i < 2; i++) {
        atomic_fetch_add(&r->sent, 1);
        CHECK_INT(ferry_async_send(r->async), 0);
    }
}

static void send_check(void *arg) {
    struct send_round *r = arg;
    while (r->seen != atomic_load(&r->sent)) /* a send that is lost hangs here */
        ferry_yield();
    CHECK(r->runs <= r->seen); /* never for nothing */
    ferry_async_free(r->async);
}

static void send_race(void **state) {
    (void)state;
    stress_run(&(struct stress_race){.size = sizeof(struct send_round),
                                     .prepare = send_prepare,
                                     .acts = {send_act},
                                     .hands = {send_hand, send_hand},
                                     .check = send_check,
                                     .tasks_only = true});
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE(
            "EXE-07 closed while jobs run, are queued, submitted and cancelled: none stays pending",
            close_race),
        CASE("EXE-02 jobs come while threads fall asleep and leave: none is forgotten", job_race),
        CASE("THR-12 threads start tasks and cancel them at once", cancel_race),
        CASE("THR-12 a loop ends while threads hand it tasks: every handle ends", portal_race),
        CASE("TSC-05 sends while the callback runs: none is lost", send_race),
    };
    return SUPPORT_RUN(tests);
}

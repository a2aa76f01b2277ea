/* Who waits for a job on the loop that it was submitted from, in tasks and by callbacks, with and
 * without others elsewhere: who is told, in which order, and what becomes of the references. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "executor.h"
#include "parked.h"
#include "points.h"
#include "pools.h"
#include "saturate.h"
#include "waiters.h"

enum { MANY = 8 };

/* A job that stands at its gate, and those who are told of its end. */
struct scene {
    ferry_executor *pool;
    ferry_future *job;
    gate gate;
    pthread_t worker;
    ferry_loop *loop;
    int tasks[MANY], n_tasks; /* as they were told */
    int calls[MANY], n_calls;
    bool inside;      /* a call of the library that mustn't call back */
    int nested;       /* the first callback adds this one; 0: none */
    atomic_int fewer; /* callbacks that weren't added */
    struct point_stop stop;
};

struct one {
    struct scene *scene;
    int number;
};

static int64_t stands_there(void *arg) {
    struct scene *s = arg;
    s->worker = pthread_self();
    gate_wait(&s->gate);
    return 7;
}

static void begin_with(struct scene *s, const ferry_job_options *options) {
    *s =
        (struct scene){.pool = make_pool(1, NULL), .gate = GATE_INIT, .loop = ferry_loop_current()};
    s->job = ferry_submit_with(s->pool, stands_there, s, options);
    gate_wait_arrivals(&s->gate, 1);
}

static void begin(struct scene *s) {
    begin_with(s, NULL);
}

/* The loop stands still meanwhile: nobody there was told. */
static void until_done(struct scene *s) {
    gate_open(&s->gate);
    while (!ferry_done(s->job))
        sched_yield();
}

static void end(struct scene *s) {
    end_pool(s->pool);
    gate_destroy(&s->gate);
}

static void is_called(ferry_future *f, int64_t result, void *arg) {
    struct one *one = arg;
    struct scene *s = one->scene;
    CHECK(!s->inside && f == s->job && ferry_loop_current() == s->loop);
    CHECK(result == 7 || result == FERRY_EJOBCANCELED);
    if (CHECK(s->n_calls < MANY))
        s->calls[s->n_calls++] = one->number;
    if (one->number == 0 && s->nested > 0) {
        static struct one nested;
        nested = (struct one){s, s->nested};
        s->inside = true;
        CHECK_INT(ferry_then(f, NULL, is_called, &nested), 0);
        s->inside = false;
    }
}

static void add(struct one *one) {
    struct scene *s = one->scene;
    s->inside = true;
    CHECK_INT(ferry_then(s->job, s->loop, is_called, one), 0);
    s->inside = false;
}

static void *adds(void *arg) {
    struct one *one = arg;
    CHECK_INT(ferry_then(one->scene->job, one->scene->loop, is_called, one), 0);
    return NULL;
}

static void add_elsewhere(struct one *one) {
    pthread_join(start_thread(adds, one), NULL);
}

static void all_called(struct scene *s, int n) {
    while (s->n_calls < n)
        ferry_yield();
    ferry_sleep(1); /* a turn of the loop, at least: none comes twice */
    CHECK_INT(s->n_calls, n);
    for (int i = 0; i < n; i++)
        CHECK_INT(s->calls[i], i);
}

/* ---- Callbacks ------------------------------------------------------------------------------- */

/* So many are added before the job ends, by turns here and elsewhere, and the others when it has,
 * but the loop hasn't been told: also inside the first one. */
TASK_TEST(callbacks_in_order) {
    for (int before = 1; before <= 4; before++) {
        for (int first_elsewhere = 0; first_elsewhere < 2; first_elsewhere++) {
            struct scene s;
            struct one ones[5];
            begin(&s);
            s.nested = 5;
            for (int i = 0; i < 5; i++) {
                if (i == before)
                    until_done(&s);
                ones[i] = (struct one){&s, i};
                if (i % 2 == first_elsewhere)
                    add(&ones[i]);
                else
                    add_elsewhere(&ones[i]);
            }
            CHECK_INT(s.n_calls, 0);
            all_called(&s, 6);
            CHECK_INT(ferry_await(s.job), 7);
            CHECK_INT(ferry__loop_callbacks(s.loop), 0);
            end(&s);
        }
    }
    return 0;
}

/* Whoever completes it has sent it home, and is about to tell the others. */
TASK_TEST(a_callback_behind_those_elsewhere) {
    struct scene s;
    struct one ones[4];
    begin(&s);
    for (int i = 0; i < 4; i++)
        ones[i] = (struct one){&s, i};
    add(&ones[0]);
    add_elsewhere(&ones[1]);
    point_stop_thread(&s.stop, "inbox_pushed", s.worker);
    gate_open(&s.gate);
    point_wait(&s.stop);
    add(&ones[2]);
    while (s.n_calls == 0)
        ferry_yield();
    ferry_sleep(1);
    CHECK_INT(s.n_calls, 1);
    add(&ones[3]);
    point_go(&s.stop);
    all_called(&s, 4);
    CHECK_INT(ferry_await(s.job), 7);
    end(&s);
    return 0;
}

/* It is done, and not on its way home yet. */
TASK_TEST(callbacks_behind_the_first) {
    struct scene s;
    struct one ones[3];
    begin(&s);
    for (int i = 0; i < 3; i++)
        ones[i] = (struct one){&s, i};
    add(&ones[0]);
    point_stop_thread(&s.stop, "job_done", s.worker);
    until_done(&s);
    point_wait(&s.stop);
    add_elsewhere(&ones[1]);
    add(&ones[2]);
    ferry_sleep(1);
    CHECK_INT(s.n_calls, 0);
    point_go(&s.stop);
    all_called(&s, 3);
    CHECK_INT(ferry_await(s.job), 7);
    end(&s);
    return 0;
}

/* ---- Tasks ----------------------------------------------------------------------------------- */

static int64_t waits(void *arg) {
    struct one *one = arg;
    struct scene *s = one->scene;
    int64_t rc = one->number % 2 ? ferry_await(ferry_ref(s->job)) : ferry_wait(s->job);
    if (rc >= 0 || rc == FERRY_EJOBCANCELED)
        s->tasks[s->n_tasks++] = one->number;
    return rc;
}

static void *awaits(void *arg) {
    CHECK_INT(ferry_await(arg), 7);
    return NULL;
}

/* Three here, a thread, and three more here; of the first three one leaves, and comes once more. */
TASK_TEST(tasks_and_a_thread) {
    for (int leaves = 0; leaves <= 2; leaves += 2) {
        struct scene s;
        struct one ones[6];
        ferry_future *tasks[6];
        pthread_t thread = 0;
        begin(&s);
        for (int i = 0; i < 6; i++) {
            if (i == 3) {
                thread = start_thread(awaits, ferry_ref(s.job));
                until_linked(s.job, 4);
            }
            ones[i] = (struct one){&s, i};
            tasks[i] = ferry_spawn(waits, &ones[i]);
            until_parked(tasks[i]);
        }
        CHECK_INT(ferry_cancel(tasks[leaves]), FERRY_CANCEL_ASKED);
        CHECK_INT(ferry_await(tasks[leaves]), FERRY_EJOBCANCELED);
        tasks[leaves] = ferry_spawn(waits, &ones[leaves]);
        until_parked(tasks[leaves]);
        until_done(&s);
        pthread_join(thread, NULL); /* the loop stands still meanwhile */
        CHECK_INT(s.n_tasks, 0);
        for (int i = 0; i < 6; i++)
            CHECK_INT(ferry_await(tasks[i]), i % 2 ? 7 : 0);
        for (int i = 0; i < 5; i++)
            CHECK_INT(s.tasks[i], i + (i >= leaves));
        CHECK_INT(s.tasks[5], leaves);
        end(&s);
        CHECK_INT(atomic_load(&s.job->refs), 1);
        CHECK_INT(ferry_await(s.job), 7);
    }
    return 0;
}

static int64_t cancels(void *task) {
    CHECK_INT(ferry_cancel(task), FERRY_CANCEL_ASKED);
    return 0;
}

/* One of two is cancelled by what the loop finds just ahead of the job that comes home. */
TASK_TEST(cancelled_just_before) {
    for (int who = 0; who < 2; who++) {
        struct scene s;
        struct one ones[2] = {{&s, 0}, {&s, 2}};
        ferry_future *tasks[2];
        begin(&s);
        for (int i = 0; i < 2; i++) {
            tasks[i] = ferry_spawn(waits, &ones[i]);
            until_parked(tasks[i]);
        }
        CHECK_INT(ferry_post(s.loop, cancels, tasks[who]), 0);
        point_stop_thread(&s.stop, "inbox_pushed", s.worker);
        until_done(&s);
        point_wait(&s.stop);
        point_go(&s.stop);
        CHECK_INT(ferry_await(tasks[who]), FERRY_EJOBCANCELED);
        CHECK_INT(ferry_await(tasks[1 - who]), 0);
        CHECK_INT(s.n_tasks, 1);
        CHECK_INT(s.tasks[0], ones[1 - who].number);
        CHECK_INT(ferry_await(s.job), 7);
        end(&s);
    }
    return 0;
}

/* The loop isn't woken for those who wait no longer. */
TASK_TEST(nobody_waits_any_more) {
    struct scene s;
    begin(&s);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_wait_for(s.job, 1), -ETIMEDOUT);
        CHECK_INT(atomic_load(&s.job->state), 0);
    }
    until_done(&s);
    CHECK_INT(atomic_load(&s.job->state), FERRY__DONE);
    CHECK_INT(ferry_await(s.job), 7);
    end(&s);
    return 0;
}

/* ---- While it is decided --------------------------------------------------------------------- */

static int64_t awaits_here(void *arg) {
    return ferry_await(ferry_ref(arg));
}

static int64_t gathers(void *arg) {
    ferry_future *f[1] = {arg};
    return ferry_wait_all(f, 1, FERRY_FOREVER);
}

/* The job's thread has found nobody there, and is about to say that it is done. */
TASK_TEST(whoever_comes_while_it_is_decided) {
    static const ferry_job_options none = {0};
    for (int who = 0; who < 8; who++) {
        struct scene s;
        struct one one = {&s, 0};
        ferry_future *task = NULL;
        pthread_t thread = 0;
        begin_with(&s, who < 4 ? NULL : &none);
        point_stop_thread(&s.stop, "future_decide", s.worker);
        gate_open(&s.gate);
        point_wait(&s.stop);
        switch (who % 4) {
        case 0:
            task = ferry_spawn(awaits_here, s.job);
            until_parked(task);
            break;
        case 1:
            add(&one);
            break;
        case 2:
            thread = start_thread(awaits, ferry_ref(s.job));
            if (who < 4) /* with options the lock is held there */
                until_linked(s.job, 1);
            break;
        default:
            if (who > 4)
                break;
            task = ferry_spawn(gathers, s.job);
            until_parked(task);
        }
        point_go(&s.stop);
        if (task)
            CHECK_INT(ferry_await(task), who == 3 ? 0 : 7);
        if (thread)
            pthread_join(thread, NULL);
        if (who % 4 == 1)
            all_called(&s, 1);
        CHECK_INT(ferry_await(s.job), 7);
        end(&s);
    }
    return 0;
}

/* ---- Ends of other kinds --------------------------------------------------------------------- */

/* Queued, and cancelled by a task beside the one that awaits it. */
TASK_TEST(cancelled_before_it_began) {
    struct scene s = {.pool = make_pool(1, NULL), .loop = ferry_loop_current()};
    struct one ones[2] = {{&s, 0}, {&s, 1}};
    saturation full;
    saturate(&full, s.pool, 1);
    s.job = ferry_submit(s.pool, stands_there, &s);
    ferry_future *task = ferry_spawn(waits, &ones[1]);
    until_parked(task);
    add(&ones[0]);
    s.inside = true;
    CHECK_INT(ferry_cancel(s.job), FERRY_CANCEL_NEVER_RAN);
    s.inside = false;
    CHECK_INT(s.n_calls + s.n_tasks, 0);
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    all_called(&s, 1);
    CHECK_INT(atomic_load(&s.job->refs), 1);
    CHECK_INT(ferry_await(s.job), FERRY_EJOBCANCELED);
    desaturate(&full);
    CHECK_INT(ferry__loop_jobs(s.loop), 0);
    end_pool(s.pool);
    return 0;
}

/* Given up while somebody awaits it, and has a callback: they are told once, and its thread finds
 * nobody left. */
TASK_TEST(given_up) {
    static const ferry_job_options give_up = {.policy = FERRY_JOB_ABANDON};
    struct scene s;
    struct one ones[2] = {{&s, 0}, {&s, 1}};
    begin_with(&s, &give_up);
    ferry_future *task = ferry_spawn(waits, &ones[1]);
    until_parked(task);
    add(&ones[0]);
    CHECK_INT(ferry_cancel(s.job), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    all_called(&s, 1);
    gate_open(&s.gate);
    while (atomic_load(&s.job->refs) > 1)
        ferry_yield();
    CHECK_INT(s.n_tasks, 1);
    CHECK_INT(ferry_await(s.job), FERRY_EJOBCANCELED);
    end(&s);
    return 0;
}

/* ---- References ------------------------------------------------------------------------------ */

static void detaches(ferry_future *f, int64_t result, void *arg) {
    CHECK_INT(result, 7);
    ferry_detach(f);
    *(bool *)arg = true;
}

/* The last one is this task's own, whoever was told. */
TASK_TEST(references) {
    for (int who = 0; who < 6; who++) {
        struct scene s;
        struct one looker = {&s, 0};
        bool called = who < 3;
        begin(&s);
        ferry_ref(s.job);
        ferry_future *task = NULL, *other = NULL;
        if (who % 3 > 0) {
            task = ferry_spawn(awaits_here, s.job);
            until_parked(task);
        }
        if (who % 3 > 1) {
            other = ferry_spawn(waits, &looker);
            until_parked(other);
        }
        if (!called)
            CHECK_INT(ferry_then(s.job, NULL, detaches, &called), 0);
        gate_open(&s.gate);
        if (task)
            CHECK_INT(ferry_await(task), 7);
        if (other)
            CHECK_INT(ferry_await(other), 0);
        while (!called || !ferry_done(s.job))
            ferry_yield();
        end_pool(s.pool); /* the job's thread has given back its own */
        CHECK_INT(atomic_load(&s.job->refs), who < 3 ? 2 : 1);
        CHECK_INT(ferry__loop_jobs(s.loop), 0);
        if (who < 3)
            ferry_detach(s.job);
        CHECK_INT(ferry_await(s.job), 7);
        gate_destroy(&s.gate);
    }
    return 0;
}

/* ---- All at once ----------------------------------------------------------------------------- */

static int64_t at_once(void *arg) {
    (void)arg;
    return 7;
}

static void *adds_and_awaits(void *arg) {
    struct one *one = arg;
    if (points_random() % 2)
        CHECK_INT(ferry_then(one->scene->job, one->scene->loop, is_called, one), 0);
    else
        atomic_fetch_add(&one->scene->fewer, 1);
    CHECK_INT(ferry_await(one->scene->job), 7);
    return NULL;
}

TASK_TEST(a_race_for_the_end) {
    struct scene s = {.pool = make_pool(2, NULL), .loop = ferry_loop_current()};
    int rounds = support_slow() ? 40 : 400;
    for (int i = 1; i <= rounds; i++) {
        struct one ones[3] = {{&s, 1}, {&s, 2}, {&s, 3}};
        int calls = 0;
        s.n_calls = 0;
        atomic_store(&s.fewer, 0);
        points_delay((uint64_t)i);
        s.job = ferry_ref(ferry_ref(ferry_submit(s.pool, at_once, NULL)));
        pthread_t thread = start_thread(adds_and_awaits, &ones[2]);
        ferry_future *task = ferry_spawn(awaits_here, s.job);
        for (int more = (int)(points_random() % 3); calls < more; calls++) {
            CHECK_INT(ferry_then(s.job, NULL, is_called, &ones[calls]), 0);
            if (points_random() % 2)
                ferry_yield();
        }
        if (points_random() % 2)
            CHECK(ferry_wait_for(s.job, (int64_t)(points_random() % 2)) <= 0);
        CHECK_INT(ferry_await(s.job), 7);
        CHECK_INT(ferry_await(task), 7);
        pthread_join(thread, NULL);
        points_delay(0);
        while (s.n_calls < calls + 1 - s.fewer)
            ferry_yield();
        for (int seen = 0, at = 0; at < s.n_calls; at++)
            if (s.calls[at] != 3)
                CHECK_INT(s.calls[at], ++seen);
        CHECK_INT(ferry_await(s.job), 7);
    }
    end_pool(s.pool);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("FUT-04 callbacks of a job, here and elsewhere, before it ends and after: in order",
             callbacks_in_order),
        CASE("FUT-04 a callback doesn't overtake those that came from elsewhere",
             a_callback_behind_those_elsewhere),
        CASE("FUT-04 a callback doesn't overtake the first one, which is about to come home",
             callbacks_behind_the_first),
        CASE("FUT-04 tasks at home and a thread are all told, the tasks in order",
             tasks_and_a_thread),
        CASE("CAN-07 a task is cancelled just before the job comes home", cancelled_just_before),
        CASE("FUT-04 a loop isn't woken for those who wait no longer", nobody_waits_any_more),
        CASE("FUT-04 whoever comes while the end is decided is told",
             whoever_comes_while_it_is_decided),
        CASE("FUT-05 a job that is cancelled before it began tells its home, and not inside the "
             "cancel",
             cancelled_before_it_began),
        CASE("FUT-05 a job that is given up tells its home once", given_up),
        CASE("FUT-01 whoever is told at home, the references come out right", references),
        CASE("FUT-04 tasks, a thread and callbacks race for the end of a job", a_race_for_the_end),
    };
    return SUPPORT_RUN(tests);
}

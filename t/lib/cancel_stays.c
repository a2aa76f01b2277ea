/* A cancel stays: every wait in the cancelled region fails until it is absorbed, the hook is called
 * once, and the first reason counts. */
#include "config.h"

#include <errno.h>

#include "support.h"
#include "waiting.h"

/* ---- Level-triggered ------------------------------------------------------------------------- */

static int64_t counts_turns(void *arg) {
    int *turns = arg;
    for (;;) {
        int rc = ferry_yield();
        if (rc < 0)
            return rc;
        ++*turns;
    }
}

TASK_TEST(yields_and_checkpoints) {
    int turns = 0;
    CHECK_INT(ferry_checkpoint(), 0);
    ferry_future *other = ferry_spawn(counts_turns, &turns);
    CHECK_INT(ferry_yield(), 0);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    int before = turns;
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_STR(ferry_errmsg(), "cancelled");
    CHECK_INT(turns, before); /* it lets nobody run */
    CHECK_INT(ferry_yield(), -ECANCELED);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_checkpoint(), 0);
    for (int i = 0; i < 3; i++) {
        before = turns;
        CHECK_INT(ferry_yield(), 0);
        CHECK(turns > before);
    }
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_checkpoint(), 0);
    ferry_cancel(other);
    CHECK_INT(ferry_await(other), FERRY_EJOBCANCELED);
    return 0;
}

/* Each of these could have been done at once, or would have to wait. */
static void try_everything(void) {
    ferry_event event = FERRY_EVENT_INIT;
    ferry_event never = FERRY_EVENT_INIT;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    ferry_sem sem = FERRY_SEM_INIT(1);
    void *item;
    ferry_future *future;
    ferry_queue *queue = ferry_queue_new(2, NULL);
    ferry_promise *promise = ferry_promise_new(&future, NULL);
    CHECK_INT(ferry_queue_try_put(queue, NULL), 0);
    ferry_event_set(&event);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_sleep(0), -ECANCELED);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    CHECK_INT(ferry_event_wait(&event), -ECANCELED);
    CHECK_INT(ferry_event_wait_for(&never, 0), -ECANCELED);
    CHECK_INT(ferry_lock(&mutex), -ECANCELED);
    CHECK_INT(ferry_unlock(&mutex), -EPERM);
    CHECK_INT(ferry_sem_acquire(&sem, 1), -ECANCELED);
    CHECK_INT(ferry_sem_value(&sem), 1);
    CHECK_INT(ferry_queue_get(queue, &item), -ECANCELED);
    CHECK_INT(ferry_queue_put(queue, NULL), -ECANCELED);
    CHECK_INT(ferry_queue_length(queue), 1);
    CHECK_INT(ferry_queue_join(queue), -ECANCELED);
    CHECK_INT(ferry_poll(1, FERRY_WRITABLE), -ECANCELED);
    CHECK_INT(ferry_wait(future), -ECANCELED);
    CHECK_INT(ferry_wait_any(&future, 1, FERRY_FOREVER), -ECANCELED);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK(!ferry_done(future));
    CHECK_INT(ferry_await(future), -ECANCELED);
    ferry_promise_drop(promise);
    ferry_queue_free(queue);
}

static int64_t tries_everything_when_cancelled(void *arg) {
    (void)arg;
    while (ferry_checkpoint() == 0)
        ferry_sleep(LONG);
    for (int i = 0; i < 3; i++)
        try_everything();
    return 5;
}

TASK_TEST(again_and_again) {
    ferry_future *task = ferry_spawn(tries_everything_when_cancelled, NULL);
    until_parked(task);
    ferry_cancel(task);
    CHECK_INT(ferry_await(task), 5);
    return 0;
}

static int wait_by_everything(void *arg) {
    return (int)tries_everything_when_cancelled(arg);
}

static void again_and_again_in_threads(void **state) {
    (void)state;
    struct waiting w;
    begin_waiting(&w, wait_by_everything, NULL);
    ferry_scope_cancel(&w.scope);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.rc, 5);
    assert_int_equal(w.closed, 5);

    w = (struct waiting){.wait = wait_by_everything};
    ferry_future *job = ferry_submit(NULL, wait_in_a_job, &w);
    until_asleep(&w.record);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    assert_int_equal(ferry_await(job), 5);
}

/* ---- The hook is called once ----------------------------------------------------------------- */

struct aborted {
    struct stubborn job;
    ferry_future *handle;
    ferry_scope outer, inner;
    int64_t rc;
    int shielded;
};

static int64_t awaits_in_two_scopes(void *arg) {
    struct aborted *a = arg;
    CHECK_INT(ferry_scope_open(&a->outer, FERRY_FOREVER), 0);
    CHECK_INT(ferry_scope_open(&a->inner, FERRY_FOREVER), 0);
    a->rc = ferry_await(a->handle);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    a->shielded = ferry_sleep(1) + ferry_yield();
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_scope_close(&a->inner, a->rc), -ECANCELED);
    CHECK_INT(ferry_scope_close(&a->outer, -ECANCELED),
              -ECANCELED); /* the task was cancelled, too */
    return 0;
}

TASK_TEST(the_hook_is_called_once) {
    struct aborted a = {.job.gate = GATE_INIT};
    a.handle = ferry_ref(ferry_submit_with(NULL, runs_until_the_gate_opens, &a.job, &with_hook));
    gate_wait_arrivals(&a.job.gate, 1);
    ferry_future *f = ferry_spawn(awaits_in_two_scopes, &a);
    until_parked(f);
    ferry_scope_cancel(&a.inner);
    ferry_scope_cancel(&a.outer);
    while (!atomic_load(&a.job.told))
        ferry_yield();
    until_parked(f); /* now it joins */
    ferry_cancel(f);
    ferry_cancel(a.handle);
    for (int i = 0; i < 5; i++)
        ferry_yield();
    CHECK(!ferry_done(a.handle));
    CHECK(!ferry_done(f));
    gate_open(&a.job.gate);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.job.hooks, 1);
    CHECK_INT(a.rc, -ECANCELED);
    CHECK_INT(a.shielded, 0);
    CHECK_INT(ferry_await(a.handle), FERRY_EJOBCANCELED);
    gate_destroy(&a.job.gate);
    return 0;
}

/* ---- The first reason is kept ---------------------------------------------------------------- */

/* With a deadline that was ahead when it was cancelled: where the machine was too slow for that,
 * another one is to try. */
static void open_and_cancel(ferry_scope *scope, int64_t ms) {
    for (;;) {
        int64_t deadline = ferry__now() + ms * FERRY__MS; /* the scope's isn't earlier */
        *scope = (ferry_scope)FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(scope, ms), 0);
        ferry_scope_cancel(scope);
        if (ferry__now() < deadline)
            return;
        ferry_scope_close(scope, 0);
    }
}

static void check_reasons(void) {
    ferry_scope scope;
    open_and_cancel(&scope, 2);
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sleep(4), 0); /* past the deadline */
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK(ferry_scope_cancelled(&scope));
    CHECK(!ferry_scope_expired(&scope));
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK(ferry_scope_cancelled(&scope)); /* it still answers */

    ferry_scope over = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&over, 1), 0);
    CHECK_INT(ferry_sleep(LONG), -ECANCELED);
    ferry_scope_cancel(&over);
    CHECK(ferry_scope_expired(&over));
    CHECK(!ferry_scope_cancelled(&over));
    CHECK_INT(ferry_scope_close(&over, -ECANCELED), -ETIMEDOUT);

    /* Its time is over when it is cancelled, only nobody has noticed yet. */
    ferry_scope unnoticed = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&unnoticed, 0), 0);
    ferry_scope_cancel(&unnoticed);
    CHECK(ferry_scope_expired(&unnoticed));
    CHECK_INT(ferry_yield(), -ECANCELED);
    CHECK_INT(ferry_scope_close(&unnoticed, -ECANCELED), -ETIMEDOUT);
}

TASK_TEST(the_first_reason_is_kept) {
    check_reasons();
    return 0;
}

static int64_t the_first_reason_in_a_job(void *arg) {
    (void)arg;
    check_reasons();
    return 0;
}

static void the_first_reason_in_a_thread(void **state) {
    (void)state;
    check_reasons();
    assert_int_equal(ferry_await(ferry_submit(NULL, the_first_reason_in_a_job, NULL)), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("CAN-11 yield and checkpoint, cancelled and shielded", yields_and_checkpoints),
        CASE("in a cancelled scope every call that may wait fails, again and again",
             again_and_again),
        CASE("in a thread's cancelled scope, and in a cancelled job", again_and_again_in_threads),
        CASE("CAN-13 two scopes are cancelled, the hook is called once, then the shield holds",
             the_hook_is_called_once),
        CASE("CAN-14 the first reason is kept", the_first_reason_is_kept),
        CASE("CAN-14 in a thread and in a job", the_first_reason_in_a_thread),
    };
    return SUPPORT_RUN(tests);
}

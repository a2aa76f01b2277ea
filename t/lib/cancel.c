/* Cancelling tasks, jobs and threads: who is told, when it shows, and that nothing is lost by it.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "saturate.h"
#include "support.h"
#include "waiting.h"

/* ---- Those who are cancelled ----------------------------------------------------------------- */

static int64_t sleeps(void *arg) {
    int64_t *rc = arg;
    *rc = ferry_sleep(LONG);
    return *rc;
}

/* ---- A cancel ends a wait -------------------------------------------------------------------- */

TASK_TEST(a_sleep_is_cancelled) {
    int64_t rc = 0;
    ferry_future *f = ferry_spawn(sleeps, &rc);
    until_parked(f);
    struct ferry__heap *timers = &ferry_loop_current()->timers;
    CHECK_INT(timers->used, 1);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(timers->used, 0); /* nothing is left to fire */
    return 0;
}

static int wait_by_sleep(void *arg) {
    (void)arg;
    return ferry_sleep(LONG);
}

static void a_thread_and_a_job_are_cancelled(void **state) {
    (void)state;
    struct waiting w;
    begin_waiting(&w, wait_by_sleep, NULL);
    ferry_scope_cancel(&w.scope);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.rc, -ECANCELED);
    assert_int_equal(w.closed, 0);

    w = (struct waiting){.wait = wait_by_sleep};
    ferry_future *job = ferry_submit(NULL, wait_in_a_job, &w);
    until_asleep(&w.record);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    assert_int_equal(w.rc, -ECANCELED);
}

struct counted {
    int cancels;
    int64_t rc;
};

static int64_t counts_cancels(void *arg) {
    struct counted *c = arg;
    c->cancels += ferry_sleep(LONG) == -ECANCELED;
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_shield_open(&shield, FERRY_FOREVER);
    for (int i = 0; i < 3; i++)
        c->cancels += ferry_sleep(1) == -ECANCELED;
    ferry_scope_close(&shield, 0);
    return c->rc;
}

TASK_TEST(twice_is_once) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_DEBUG, "");
    struct counted c = {.rc = 3};
    ferry_future *f = ferry_spawn(counts_cancels, &c);
    until_parked(f);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_wait(f), 0);
    CHECK_INT(c.cancels, 1);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_LATE);
    CHECK(!ferry_cancelled(f));
    CHECK_INT(ferry_await(f), 3);
    CHECK_INT(ferry_cancel(NULL), FERRY_CANCEL_LATE);
    CHECK_INT(kept_messages(&log), 0);
    return 0;
}

/* ---- Before it began ------------------------------------------------------------------------- */

struct owned {
    char *block;
    bool begun;
    int rc;
    int freed;
};

static int64_t frees_what_it_owns(void *arg) {
    struct owned *o = arg;
    o->begun = true;
    o->rc = ferry_sleep(LONG);
    free(o->block);
    o->block = NULL;
    return o->rc;
}

TASK_TEST(before_the_first_step) {
    struct owned o = {.block = malloc(16)};
    ferry_future *f = ferry_spawn(frees_what_it_owns, &o);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK(!o.begun);
    CHECK_INT(ferry_wait(f), 0);
    CHECK(o.begun);
    CHECK_INT(o.rc, -ECANCELED);
    CHECK(o.block == NULL);
    CHECK(ferry_cancelled(f));
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    return 0;
}

static void count_freed(void *arg) {
    ((struct owned *)arg)->freed++;
}

TASK_TEST(a_queued_job_never_runs) {
    ferry_executor *pool;
    CHECK_INT(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    saturation s;
    saturate(&s, pool, 1);
    struct owned o = {0};
    ferry_job_options options = {.arg_free = count_freed};
    ferry_future *job = ferry_submit_with(pool, frees_what_it_owns, &o, &options);
    CHECK_INT(ferry_cancel(job), FERRY_CANCEL_NEVER_RAN);
    CHECK(ferry_done(job));
    CHECK_INT(ferry_cancel(job), FERRY_CANCEL_LATE);
    CHECK_INT(o.freed, 0);
    CHECK_INT(ferry_await(job), FERRY_EJOBCANCELED);
    CHECK_INT(o.freed, 1);
    desaturate(&s);
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);
    CHECK(!o.begun);
    return 0;
}

/* ---- By oneself; and a result all the same --------------------------------------------------- */

TASK_TEST(by_itself) {
    CHECK_INT(ferry_await(ferry_spawn(cancels_itself_and_sleeps, NULL)), FERRY_EJOBCANCELED);
    ferry_future *f = ferry_spawn(cancels_itself_and_returns, NULL);
    CHECK_INT(ferry_wait(f), 0);
    CHECK(!ferry_cancelled(f));
    CHECK_INT(ferry_await(f), 7);
    CHECK_INT(ferry_await(ferry_submit(NULL, cancels_itself_and_sleeps, NULL)), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_await(ferry_submit(NULL, cancels_itself_and_returns, NULL)), 7);
    return 0;
}

static int64_t returns_all_the_same(void *arg) {
    (void)arg;
    return ferry_sleep(LONG) == -ECANCELED ? 42 : -EIO;
}

TASK_TEST(a_result_all_the_same) {
    ferry_future *f = ferry_spawn(returns_all_the_same, NULL);
    until_parked(f);
    ferry_cancel(f);
    CHECK_INT(ferry_wait(f), 0);
    CHECK(!ferry_cancelled(f));
    CHECK_INT(ferry_result(f), 42);
    CHECK_INT(ferry_await(f), 42);
    return 0;
}

/* ---- First wake wins ------------------------------------------------------------------------- */

struct race {
    ferry_future *awaited;
    ferry_event event;
    int64_t first, next, later;
    bool observes;
};

static int64_t awaits_and_waits_again(void *arg) {
    struct race *r = arg;
    r->first = r->observes ? ferry_wait(r->awaited) : ferry_await(r->awaited);
    r->next = ferry_sleep(LONG);
    r->later = ferry_yield();
    return 0;
}

TASK_TEST(completed_then_cancelled) {
    struct race r = {0};
    ferry_promise *p = ferry_promise_new(&r.awaited, NULL);
    ferry_future *f = ferry_spawn(awaits_and_waits_again, &r);
    until_parked(f);
    CHECK_INT(ferry_promise_set(p, 7), 0);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(r.first, 7);
    CHECK_INT(r.next, -ECANCELED);
    CHECK_INT(r.later, -ECANCELED);
    ferry_promise_drop(p);
    return 0;
}

TASK_TEST(cancelled_then_completed) {
    struct race r = {.observes = true};
    ferry_promise *p = ferry_promise_new(&r.awaited, NULL);
    ferry_future *f = ferry_spawn(awaits_and_waits_again, &r);
    until_parked(f);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_promise_set(p, 7), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(r.first, -ECANCELED);
    CHECK_INT(r.next, -ECANCELED);
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(r.awaited), 7);

    /* An await owns what it awaits: the result that came all the same isn't thrown away. */
    struct race owner = {0};
    p = ferry_promise_new(&owner.awaited, NULL);
    f = ferry_spawn(awaits_and_waits_again, &owner);
    until_parked(f);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_promise_set(p, 7), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(owner.first, 7);
    CHECK_INT(owner.next, -ECANCELED);
    ferry_promise_drop(p);
    return 0;
}

static int64_t waits_for_event(void *arg) {
    struct race *r = arg;
    r->first = ferry_event_wait(&r->event);
    r->next = ferry_sleep(LONG);
    return 0;
}

/* Whoever comes to an event first has decided the wait; that the event is cleared again, or the
 * waiter's time over, changes nothing. */
TASK_TEST(granted_then_cancelled_then_expired) {
    struct race r = {0};
    ferry_future *f = ferry_spawn(waits_for_event, &r);
    until_parked(f);
    ferry_event_set(&r.event);
    ferry_event_clear(&r.event);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(r.first, 0);
    CHECK_INT(r.next, -ECANCELED);

    struct race late = {0};
    f = ferry_spawn(waits_for_event, &late);
    until_parked(f);
    ferry_cancel(f);
    ferry_event_set(&late.event);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(late.first, -ECANCELED);
    return 0;
}

static int wait_for_event_and_again(void *arg) {
    struct race *r = arg;
    r->first = ferry_event_wait(&r->event);
    return ferry_sleep(LONG);
}

static void a_thread_is_granted_then_cancelled(void **state) {
    (void)state;
    struct race r = {0};
    struct waiting w;
    begin_waiting(&w, wait_for_event_and_again, &r);
    ferry_event_set(&r.event); /* decides the wait, whenever the thread gets to see it */
    ferry_scope_cancel(&w.scope);
    pthread_join(w.thread, NULL);
    assert_int_equal(r.first, 0);
    assert_int_equal(w.rc, -ECANCELED);
    assert_int_equal(w.closed, 0);
}

/* ---- Who is asked ---------------------------------------------------------------------------- */

struct nested {
    ferry_future *child;
    int steps;        /* how often somebody cleaned up */
    int inner, outer; /* which step it was */
    bool observes;
    bool child_done; /* when the wait for it returned */
    int64_t rc;
};

static int64_t inner_function(struct nested *n) {
    int64_t rc = ferry_sleep(LONG);
    n->inner = ++n->steps;
    return rc;
}

static int64_t outer_function(void *arg) {
    struct nested *n = arg;
    n->rc = inner_function(n);
    n->outer = ++n->steps;
    return n->rc;
}

TASK_TEST(innermost_first) {
    struct nested n = {0};
    ferry_future *f = ferry_spawn(outer_function, &n);
    until_parked(f);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(n.inner, 1);
    CHECK_INT(n.outer, 2);
    CHECK_INT(n.rc, -ECANCELED);
    return 0;
}

/* Takes three turns to end after it was cancelled. */
static int64_t cleans_up_slowly(void *arg) {
    int *turns = arg;
    int64_t rc = ferry_sleep(LONG);
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_shield_open(&shield, FERRY_FOREVER);
    for (; *turns < 3; (*turns)++)
        CHECK_INT(ferry_yield(), 0);
    ferry_scope_close(&shield, 0);
    return rc;
}

static int64_t waits_for_child(void *arg) {
    struct nested *n = arg;
    ferry_ref(n->child);
    n->rc = n->observes ? ferry_wait(n->child) : ferry_await(n->child);
    n->child_done = ferry_done(n->child);
    if (n->observes)
        ferry_detach(n->child);
    return n->rc;
}

TASK_TEST(await_owns_and_wait_observes) {
    int turns = 0;
    struct nested n = {.child = ferry_spawn(cleans_up_slowly, &turns)};
    ferry_future *f = ferry_spawn(waits_for_child, &n);
    until_parked(f);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(n.rc, -ECANCELED);
    CHECK(n.child_done);
    CHECK_INT(turns, 3);
    CHECK_INT(ferry_await(n.child), FERRY_EJOBCANCELED);

    turns = 0;
    n = (struct nested){.child = ferry_spawn(cleans_up_slowly, &turns), .observes = true};
    f = ferry_spawn(waits_for_child, &n);
    until_parked(f);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(n.rc, -ECANCELED);
    CHECK(!n.child_done);
    for (int i = 0; i < 3; i++)
        ferry_yield();
    CHECK(task_parked(n.child)); /* it sleeps on */
    CHECK_INT(turns, 0);
    ferry_cancel(n.child);
    CHECK_INT(ferry_await(n.child), FERRY_EJOBCANCELED);
    return 0;
}

/* It was cancelled before it began to await. */
TASK_TEST(await_in_a_cancelled_scope) {
    int turns = 0;
    struct nested n = {.child = ferry_spawn(cleans_up_slowly, &turns)};
    until_parked(n.child);
    ferry_future *f = ferry_spawn(waits_for_child, &n);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(n.rc, -ECANCELED);
    CHECK(n.child_done);
    CHECK_INT(turns, 3);
    CHECK_INT(ferry_await(n.child), FERRY_EJOBCANCELED);
    return 0;
}

static int wait_by_await(void *arg) {
    return (int)ferry_await(arg);
}

static void an_awaiting_thread_is_cancelled(void **state) {
    (void)state;
    struct stubborn s = {.gate = GATE_INIT};
    ferry_future *job =
        ferry_ref(ferry_submit_with(NULL, runs_until_the_gate_opens, &s, &with_hook));
    gate_wait_arrivals(&s.gate, 1);
    struct waiting w;
    begin_waiting(&w, wait_by_await, job);
    ferry_scope_cancel(&w.scope);
    while (!atomic_load(&s.told)) /* by the awaiter */
        sched_yield();
    until_asleep(&w.record);
    assert_false(ferry_done(job));
    gate_open(&s.gate);
    pthread_join(w.thread, NULL);
    assert_true(ferry_done(job));
    assert_int_equal(w.rc, -ECANCELED);
    assert_int_equal(s.hooks, 1);
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    gate_destroy(&s.gate);
}

struct bystander {
    ferry_future *awaited;
    int64_t rc, next;
    ferry_scope *scope;
};

static int64_t awaits_and_goes_on(void *arg) {
    struct bystander *b = arg;
    b->rc = ferry_await(b->awaited);
    b->next = ferry_sleep(1);
    return 0;
}

TASK_TEST(what_is_awaited_is_cancelled) {
    int64_t rc;
    struct bystander b = {.awaited = ferry_spawn(sleeps, &rc)};
    ferry_future *f = ferry_spawn(awaits_and_goes_on, &b);
    until_parked(f);
    ferry_cancel(b.awaited);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(b.rc, FERRY_EJOBCANCELED);
    CHECK_INT(b.next, 0);

    struct stubborn s = {.gate = GATE_INIT};
    b = (struct bystander){.awaited = ferry_submit(NULL, runs_until_the_gate_opens, &s)};
    f = ferry_spawn(awaits_and_goes_on, &b);
    until_parked(f);
    gate_wait_arrivals(&s.gate, 1);
    CHECK_INT(ferry_cancel(b.awaited), FERRY_CANCEL_ASKED);
    gate_open(&s.gate);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(b.rc, FERRY_EJOBCANCELED);
    CHECK_INT(b.next, 0);
    gate_destroy(&s.gate);
    return 0;
}

static void what_a_thread_awaits_is_cancelled(void **state) {
    (void)state;
    struct stubborn s = {.gate = GATE_INIT};
    struct bystander b = {.awaited = ferry_ref(ferry_submit(NULL, runs_until_the_gate_opens, &s))};
    pthread_t thread = start_in_thread(awaits_and_goes_on, &b);
    gate_wait_arrivals(&s.gate, 1);
    until_linked(b.awaited, 1);
    assert_int_equal(ferry_cancel(b.awaited), FERRY_CANCEL_ASKED);
    gate_open(&s.gate);
    pthread_join(thread, NULL);
    assert_int_equal(b.rc, FERRY_EJOBCANCELED);
    assert_int_equal(b.next, 0);
    ferry_detach(b.awaited);
    gate_destroy(&s.gate);
}

/* ---- From another thread --------------------------------------------------------------------- */

struct foreign {
    ferry_future *task;
    _Atomic int outcome;
    struct ferry__thread *unwound_on, *freed_on;
    int rc;
};

static int64_t notes_where_it_unwinds(void *arg) {
    struct foreign *f = arg;
    f->rc = ferry_sleep(LONG);
    f->unwound_on = ferry__thread_self();
    return f->rc;
}

static void note_where_it_is_freed(void *arg) {
    ((struct foreign *)arg)->freed_on = ferry__thread_self();
}

static void *cancels_and_drops(void *arg) {
    struct foreign *f = arg;
    int outcome = ferry_cancel(f->task);
    ferry_detach(f->task);
    atomic_store(&f->outcome, outcome);
    return NULL;
}

TASK_TEST(from_another_thread) {
    struct foreign f = {.outcome = -1};
    ferry_task_options options = {.arg_free = note_where_it_is_freed};
    f.task = ferry_spawn_with(notes_where_it_unwinds, &f, &options);
    ferry_future *mine = ferry_ref(f.task);
    until_parked(mine);
    pthread_t thread = start_thread(cancels_and_drops, &f);
    CHECK_INT(ferry_await(mine), FERRY_EJOBCANCELED);
    pthread_join(thread, NULL);
    CHECK_INT(atomic_load(&f.outcome), FERRY_CANCEL_ASKED);
    CHECK_INT(f.rc, -ECANCELED);
    CHECK(f.unwound_on == ferry__thread_self());
    CHECK(f.freed_on == ferry__thread_self());

    /* Nobody else holds it: the running side does. */
    struct foreign alone = {.outcome = -1};
    alone.task = ferry_spawn_with(notes_where_it_unwinds, &alone, &options);
    until_parked(alone.task);
    thread = start_thread(cancels_and_drops, &alone);
    while (alone.freed_on == NULL)
        ferry_yield();
    pthread_join(thread, NULL);
    CHECK_INT(alone.rc, -ECANCELED);
    CHECK(alone.unwound_on == ferry__thread_self());
    return 0;
}

/* Cancels from two threads at any moment of a task's life. */
struct hunted {
    _Atomic(ferry_future *) task;
    _Atomic bool over;
};

static void *hunts(void *arg) {
    struct hunted *h = arg;
    while (!atomic_load(&h->over)) {
        ferry_future *task = atomic_exchange(&h->task, NULL);
        if (!task) {
            sched_yield();
            continue;
        }
        ferry_cancel(task);
        ferry_detach(task);
    }
    return NULL;
}

static int64_t yields_until_cancelled(void *arg) {
    int rc = 0;
    for (int i = 0; rc == 0; i++)
        rc = i % 3 ? ferry_yield() : ferry_sleep(LONG);
    (void)arg;
    return rc;
}

TASK_TEST(at_any_moment) {
    struct hunted h = {.over = false};
    pthread_t hunters[2];
    for (int i = 0; i < 2; i++)
        hunters[i] = start_thread(hunts, &h);
    for (int i = 0; i < (support_slow() ? 200 : 2000); i++) {
        ferry_future *f = ferry_spawn(yields_until_cancelled, NULL);
        ferry_ref(f);
        for (ferry_future *none = NULL; !atomic_compare_exchange_strong(&h.task, &none, f);
             none = NULL)
            ferry_yield();
        CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    }
    atomic_store(&h.over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(hunters[i], NULL);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("CAN-01 a cancelled sleep ends at once, and leaves no timer", a_sleep_is_cancelled),
        CASE("CAN-01 a thread's and a job's sleep, too", a_thread_and_a_job_are_cancelled),
        CASE("CAN-02 asked twice is asked once; after the end nothing happens", twice_is_once),
        CASE("CAN-03 a task that hasn't begun runs to its first wait", before_the_first_step),
        CASE("CAN-03 a job that hasn't begun never runs", a_queued_job_never_runs),
        CASE("CAN-04 by itself: the next wait fails; a result stands", by_itself),
        CASE("CAN-06 a result all the same is the result", a_result_all_the_same),
        CASE("CAN-07 completed, then cancelled: the value, and the cancel at the next wait",
             completed_then_cancelled),
        CASE("CAN-07 cancelled, then completed", cancelled_then_completed),
        CASE("CAN-07 granted, then cancelled; cancelled, then granted",
             granted_then_cancelled_then_expired),
        CASE("CAN-07 a thread is granted, then cancelled", a_thread_is_granted_then_cancelled),
        CASE("CAN-09 a cancel shows in the innermost call first", innermost_first),
        CASE("CAN-09 await cancels and joins, wait only looks on", await_owns_and_wait_observes),
        CASE("CAN-09 an await that begins in a cancelled scope", await_in_a_cancelled_scope),
        CASE("CAN-09 a thread that awaits a job is cancelled", an_awaiting_thread_is_cancelled),
        CASE("CAN-10 what is awaited is cancelled by somebody else", what_is_awaited_is_cancelled),
        CASE("CAN-10 the same for a thread", what_a_thread_awaits_is_cancelled),
        CASE("CAN-16 a task is cancelled from another thread, which drops the handle",
             from_another_thread),
        CASE("CAN-16 at any moment", at_any_moment),
    };
    return SUPPORT_RUN(tests);
}

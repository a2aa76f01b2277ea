/* Groups, several handles and primitives where a thread or a job stands in a task's place. */
#include "config.h"

#include <errno.h>

#include "queue_core.h"
#include "sleeper.h"
#include "worlds.h"

/* ---- Groups of jobs -------------------------------------------------------------------------- */

static void open_group(ferry_group *group) {
    *group = (ferry_group)FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(group), 0);
}

/* A job that sleeps, and is past the point where a cancel could keep it from running. */
static ferry_future *join_sleeper(ferry_group *group, struct sleeper *s) {
    ferry_future *f;
    CHECK_INT(ferry_group_submit_with(group, side, sleeps, s, NULL, &f), 0);
    CHECK_INT(ferry_event_wait(&s->begun), 0);
    return f;
}

static void check_codes(int64_t first, int64_t second) {
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, second ? 2 : 1)) {
        CHECK_INT(errors[0].code, first);
        if (second)
            CHECK_INT(errors[1].code, second);
    }
}

WORLDS_TEST(body_and_child_fail) {
    struct sleeper s = {.instead = -EIO};
    ferry_group group;
    open_group(&group);
    ferry_detach(join_sleeper(&group, &s));
    CHECK_INT(ferry_group_close(&group, ferry_fail(-EPIPE, "the body broke")), FERRY_EGROUP);
    CHECK(s.ended);
    check_codes(-EPIPE, -EIO);
    return 0;
}

WORLDS_TEST(one_child_is_cancelled) {
    struct sleeper s = {0};
    bool ran = false;
    ferry_group group;
    open_group(&group);
    ferry_future *f = join_sleeper(&group, &s);
    ferry_cancel(f);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_group_submit(&group, side, succeeds, &ran), 0);
    CHECK_INT(ferry_sleep(1), 0); /* the body isn't cancelled */
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK(ran);
    return 0;
}

WORLDS_TEST(errors_of_the_clean_up) {
    struct sleeper s = {.instead = -EIO}, silent = {0};
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_group group;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    open_group(&group);
    ferry_detach(join_sleeper(&group, &s));
    ferry_detach(join_sleeper(&group, &silent));
    ferry_scope_cancel(&scope);
    int rc = ferry_sleep(LONG);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), FERRY_EGROUP);
    check_codes(-EIO, 0);
    CHECK(silent.ended);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    return 0;
}

WORLDS_TEST(no_stray_cancel) {
    int64_t code = -EIO;
    ferry_group group;
    open_group(&group);
    CHECK_INT(ferry_group_submit(&group, side, fails, &code), 0);
    int rc = ferry_sleep(LONG); /* the child's error interrupts it */
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), FERRY_EGROUP);
    CHECK_INT(ferry_sleep(1), 0);
    CHECK_INT(ferry_yield(), 0);
    return 0;
}

WORLDS_TEST(groups_in_groups) {
    int64_t code = -EIO;
    struct sleeper s = {0};
    ferry_group outer, inner;
    open_group(&outer); /* the inner one fails */
    open_group(&inner);
    CHECK_INT(ferry_group_submit(&inner, side, fails, &code), 0);
    int64_t rc = ferry_group_close(&inner, ferry_sleep(LONG));
    CHECK_INT(rc, FERRY_EGROUP);
    CHECK_INT(ferry_group_close(&outer, rc), FERRY_EGROUP);
    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    if (CHECK_INT(n, 1) && CHECK_INT(errors[0].code, FERRY_EGROUP) &&
        CHECK_INT(errors[0].n_causes, 1))
        CHECK_INT(errors[0].causes[0].code, -EIO);
    open_group(&outer); /* the outer one fails */
    open_group(&inner);
    ferry_detach(join_sleeper(&inner, &s));
    CHECK_INT(ferry_group_submit(&outer, side, fails, &code), 0);
    rc = ferry_group_close(&inner, ferry_sleep(LONG));
    CHECK_INT(rc, -ECANCELED); /* cleanly */
    CHECK(s.ended);
    CHECK_INT(ferry_group_close(&outer, rc), FERRY_EGROUP);
    check_codes(-EIO, 0);
    return 0;
}

WORLDS_TEST(nothing_after_the_end) {
    bool ran = false;
    ferry_group group;
    open_group(&group);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_INT(ferry_group_submit(&group, side, succeeds, &ran), -EINVAL);
    open_group(&group);
    CHECK_INT(ferry_group_close(&group, -EIO), FERRY_EGROUP);
    CHECK_INT(ferry_group_submit(&group, side, succeeds, &ran), -EINVAL);
    CHECK(!ran);
    return 0;
}

WORLDS_TEST(told_behind_a_shield) {
    struct sleeper s = {0};
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_group group;
    open_group(&group);
    ferry_future *f = join_sleeper(&group, &s);
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    ferry_group_cancel(&group);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED); /* told, and the owner isn't cancelled */
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    CHECK_INT(ferry_checkpoint(), -ECANCELED);
    CHECK_INT(ferry_group_close(&group, -ECANCELED), 0);
    return 0;
}

/* ---- Several handles ------------------------------------------------------------------------- */

WORLDS_TEST(collected) {
    ferry_promise *p[3];
    ferry_future *f[3];
    int64_t results[3];
    promises(p, f, 3);
    CHECK_INT(ferry_promise_set(p[2], 8), 0);
    ferry_cancel(f[1]);
    CHECK_INT(ferry_promise_set(p[0], -EIO), 0);
    CHECK_INT(ferry_gather(f, 3, results, FERRY_COLLECT), 0);
    CHECK_INT(results[0], -EIO);
    CHECK_INT(results[1], FERRY_EJOBCANCELED);
    CHECK_INT(results[2], 8);
    drop(p, 3);
    return 0;
}

static void cancel_a_handle(void *arg) {
    ferry_cancel(arg);
}

WORLDS_TEST(a_child_is_cancelled_elsewhere) {
    ferry_promise *p[2];
    ferry_future *f[2];
    struct meanwhile other;
    promises(p, f, 2);
    meanwhile(&other, f[1], cancel_a_handle, f[0]);
    CHECK_INT(ferry_gather(f, 2, NULL, 0), FERRY_EJOBCANCELED);
    pthread_join(other.thread, NULL);
    CHECK_INT(ferry_sleep(1), 0); /* the caller isn't cancelled */
    drop(p, 2);
    return 0;
}

WORLDS_TEST(a_gather_is_cancelled) {
    for (unsigned flags = 0; flags <= FERRY_COLLECT; flags++) {
        ferry_promise *p[2];
        ferry_future *f[2];
        ferry_scope scope = FERRY_SCOPE_INIT;
        struct meanwhile other;
        promises(p, f, 2);
        CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
        meanwhile(&other, f[1], cancel_a_scope, &scope);
        int64_t rc = ferry_gather(f, 2, NULL, flags);
        CHECK_INT(rc, -ECANCELED);
        CHECK(!ferry_promise_wanted(p[0]) && !ferry_promise_wanted(p[1]));
        CHECK_INT(ferry_scope_close(&scope, rc), 0);
        pthread_join(other.thread, NULL);
        drop(p, 2);
    }
    return 0;
}

WORLDS_TEST(twice_the_same) {
    ferry_promise *p;
    ferry_future *f;
    promises(&p, &f, 1);
    ferry_future *twice[] = {f, f};
    int64_t results[2];
    CHECK_INT(ferry_promise_set(p, 6), 0);
    CHECK_INT(ferry_wait_all(twice, 2, FERRY_FOREVER), 0);
    ferry_completion *completion = ferry_completion_new(twice, 2);
    CHECK_INT(ferry_completion_next(completion, 0), 0);
    CHECK_INT(ferry_completion_next(completion, 0), FERRY_END);
    ferry_completion_free(completion);
    CHECK_INT(ferry_gather(twice, 2, results, 0), 0);
    CHECK(results[0] == 6 && results[1] == 6);
    ferry_promise_drop(p);
    return 0;
}

struct three {
    ferry_promise *p[3];
    ferry_future *f[3];
};

static void succeed_cancel_fail(void *arg) {
    struct three *t = arg;
    CHECK_INT(ferry_promise_set(t->p[0], 1), 0);
    ferry_cancel(t->f[1]);
    CHECK_INT(ferry_promise_set(t->p[2], -EIO), 0);
}

WORLDS_TEST(the_first_error) {
    struct three t;
    struct meanwhile other;
    promises(t.p, t.f, 3);
    meanwhile(&other, t.f[2], succeed_cancel_fail, &t);
    CHECK_INT(ferry_wait_until(t.f, 3, FERRY_FIRST_ERROR, FERRY_FOREVER), 2);
    pthread_join(other.thread, NULL);
    CHECK_INT(ferry_gather(t.f, 3, NULL, FERRY_COLLECT), 0);
    drop(t.p, 3);
    return 0;
}

WORLDS_TEST(waits_leave_handles_alone) {
    ferry_promise *p[2];
    ferry_future *f[2];
    ferry_scope scope = FERRY_SCOPE_INIT;
    struct meanwhile other;
    promises(p, f, 2);
    CHECK_INT(ferry_wait_all(f, 2, 1), -ETIMEDOUT);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    meanwhile(&other, f[1], cancel_a_scope, &scope);
    int rc = ferry_wait_any(f, 2, FERRY_FOREVER);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), 0);
    pthread_join(other.thread, NULL);
    CHECK(ferry_promise_wanted(p[0]) && ferry_promise_wanted(p[1]));
    CHECK_INT(links_on(f[0]) + links_on(f[1]), 0);
    CHECK_INT(ferry_wait_all(NULL, 0, FERRY_FOREVER), -EINVAL);
    CHECK_INT(ferry_wait_any(NULL, 0, FERRY_FOREVER), -EINVAL);
    CHECK_INT(ferry_wait_any(NULL, 0, 1), -ETIMEDOUT); /* nothing but the time */
    CHECK_INT(ferry_gather(NULL, 0, NULL, 0), 0);
    CHECK_INT(ferry_wait_any(f, 2, 0), -ETIMEDOUT);
    drop(p, 2);
    CHECK_INT(ferry_gather(f, 2, NULL, FERRY_COLLECT), 0);
    return 0;
}

WORLDS_TEST(shields) {
    ferry_promise *p[2];
    ferry_future *inner[2];
    ferry_scope scope = FERRY_SCOPE_INIT;
    struct meanwhile other;
    promises(p, inner, 2);
    ferry_future *f = ferry_shield(inner[0]);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    meanwhile(&other, f, cancel_a_scope, &scope);
    int64_t rc = ferry_await(f); /* the waiter is cancelled */
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), 0);
    pthread_join(other.thread, NULL);
    CHECK(ferry_promise_wanted(p[0]));
    ferry_future *both[] = {ferry_shield(inner[0]), ferry_shield(inner[1])};
    scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    meanwhile(&other, both[1], cancel_a_scope, &scope);
    rc = ferry_gather(both, 2, NULL, 0); /* only the wrappers are */
    CHECK_INT(ferry_scope_close(&scope, rc), 0);
    pthread_join(other.thread, NULL);
    CHECK(ferry_promise_wanted(p[0]) && ferry_promise_wanted(p[1]));
    f = ferry_shield(inner[1]);
    ferry_cancel(inner[1]);
    CHECK_INT(ferry_await(f), FERRY_EJOBCANCELED); /* inner was cancelled */
    CHECK_INT(links_on(inner[0]), 0);
    ferry_cancel(inner[0]);
    CHECK_INT(ferry_gather(inner, 2, NULL, FERRY_COLLECT), 0);
    drop(p, 2);
    return 0;
}

WORLDS_TEST(an_orphans_error) {
    struct kept_log log;
    ferry_promise *p;
    ferry_future *inner;
    promises(&p, &inner, 1);
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    for (int i = 0; i < 100; i++) {
        ferry_future *f = ferry_shield(inner);
        CHECK_INT(ferry_await_for(f, 0), -ETIMEDOUT);
        CHECK_INT(links_on(inner), 0);
    }
    ferry_detach(inner);
    ferry_promise_drop(p); /* nobody listens any more: no error */
    inner = ferry_submit(side, fails, &(int64_t){-EIO});
    ferry_future *f = ferry_shield(inner);
    ferry_cancel(f);
    ferry_detach(f);
    CHECK_INT(ferry_wait(inner), 0);
    ferry_detach(inner);
    bool told = false;
    while (!told) { /* the worker's reference may be the last */
        ferry__lock(&log.lock);
        told = log.count > 0;
        ferry__unlock(&log.lock);
        ferry_yield();
    }
    CHECK_INT(kept_messages(&log), 1);
    return 0;
}

WORLDS_TEST(unread_errors) {
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "nobody asked");
    ferry_promise *p[3];
    ferry_future *f[3];
    promises(p, f, 3);
    CHECK_INT(ferry_promise_set(p[0], -EIO), 0); /* not read */
    CHECK_INT(ferry_promise_set(p[1], -EIO), 0); /* read */
    CHECK_INT(ferry_result(f[1]), -EIO);
    ferry_cancel(f[2]);
    drop(p, 3);
    for (int i = 0; i < 3; i++)
        ferry_detach(f[i]);
    CHECK_INT(kept_messages(&log), 1);
    return 0;
}

static void drop_it(void *arg) {
    ferry_promise_drop(arg);
}

WORLDS_TEST(dropped_without_a_value) {
    ferry_promise *p;
    ferry_future *f;
    struct meanwhile other;
    promises(&p, &f, 1);
    meanwhile(&other, f, drop_it, p);
    CHECK_INT(ferry_await(f), FERRY_ECLOSED);
    pthread_join(other.thread, NULL);
    promises(&p, &f, 1);
    ferry_detach(f);
    CHECK(!ferry_promise_wanted(p));
    CHECK_INT(ferry_promise_set(p, 1), FERRY_ECLOSED);
    ferry_promise_drop(p);
    return 0;
}

/* ---- Primitives ------------------------------------------------------------------------------ */

WORLDS_TEST(a_condition_without_its_mutex) {
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    ferry_cond cond = FERRY_COND_INIT(&mutex);
    CHECK_INT(ferry_cond_wait(&cond), -EPERM);
    CHECK_INT(ferry_cond_signal(&cond), -EPERM);
    CHECK_INT(ferry_cond_broadcast(&cond), -EPERM);
    return 0;
}

WORLDS_TEST(above_the_bound) {
    ferry_sem bounded = FERRY_SEM_BOUNDED_INIT(1, 2), plain = FERRY_SEM_INIT(1);
    CHECK_INT(ferry_sem_release(&bounded, 2), -EOVERFLOW);
    CHECK_INT(ferry_sem_value(&bounded), 1);
    CHECK_INT(ferry_sem_release(&plain, 2), 0);
    CHECK_INT(ferry_sem_acquire(&plain, 3), 0);
    return 0;
}

WORLDS_TEST(aborted_until_reset) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(2);
    ferry_barrier_abort(&barrier);
    CHECK_INT(ferry_barrier_wait(&barrier), FERRY_EBROKEN);
    CHECK_INT(ferry_barrier_wait(&barrier), FERRY_EBROKEN);
    ferry_barrier_reset(&barrier);
    CHECK_INT(ferry_barrier_wait_for(&barrier, 0), -ETIMEDOUT);
    return 0;
}

WORLDS_TEST(parties) {
    ferry_barrier one = FERRY_BARRIER_INIT(1);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_barrier_wait(&one), 0); /* each one leads */
    CHECK_INT(ferry_barrier_init(&one, 0), -EINVAL);
    CHECK_INT(ferry_barrier_init(&one, -4), -EINVAL);
    ferry_barrier none = FERRY_BARRIER_INIT(0);
    CHECK_INT(ferry_barrier_wait(&none), -EINVAL);
    return 0;
}

/* A thread waits at a queue or channel in a scope of its own. */
static int get_item(void *arg) {
    void *item = NULL;
    int rc = ferry_queue_get(arg, &item);
    return rc < 0 ? rc : *(int *)item;
}

static int receive_item(void *arg) {
    void *item = NULL;
    int rc = ferry_channel_receive(arg, &item);
    return rc < 0 ? rc : *(int *)item;
}

static int put_item(void *arg) {
    static int five = 5;
    return ferry_queue_put(arg, &five);
}

static int numbers[] = {0, 1, 2};

WORLDS_TEST(put_put_cancel) {
    ferry_queue *queue = ferry_queue_new(2, NULL);
    struct waiting getter;
    void *item;
    begin_waiting(&getter, get_item, queue);
    CHECK_INT(ferry_queue_try_put(queue, &numbers[1]), 0);
    CHECK_INT(ferry_queue_try_put(queue, &numbers[2]), 0);
    ferry_scope_cancel(&getter.scope);
    pthread_join(getter.thread, NULL);
    CHECK_INT(getter.rc, 1);
    CHECK_INT(ferry_queue_try_get(queue, &item), 0);
    CHECK(item == &numbers[2]);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

WORLDS_TEST(what_is_put_is_theirs) {
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct waiting other;
    void *item;
    begin_waiting(&other, get_item, queue);
    CHECK_INT(ferry_queue_try_put(queue, &numbers[1]), 0);
    CHECK_INT(ferry_queue_try_get(queue, &item), -EAGAIN);
    pthread_join(other.thread, NULL);
    CHECK_INT(other.rc, 1);
    CHECK_INT(ferry_queue_try_put(queue, &numbers[1]), 0);
    begin_waiting(&other, put_item, queue);
    CHECK_INT(ferry_queue_try_get(queue, &item), 0);
    CHECK_INT(ferry_queue_try_put(queue, &numbers[2]), -EAGAIN);
    pthread_join(other.thread, NULL);
    CHECK_INT(other.rc, 0);
    CHECK_INT(ferry_queue_try_get(queue, &item), 0);
    CHECK_INT(*(int *)item, 5);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

static int64_t takes_and_says_done(void *arg) {
    ferry_queue *queue = arg;
    void *item;
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_queue_get(queue, &item), 0);
        until_waiters(&queue->lock, &queue->join_first, 1); /* empty, and still joined */
        CHECK_INT(ferry_queue_task_done(queue), 0);
    }
    return 0;
}

WORLDS_TEST(joined) {
    ferry_queue *queue = ferry_queue_new(2, NULL);
    CHECK_INT(ferry_queue_join(queue), 0);
    CHECK_INT(ferry_queue_task_done(queue), -EINVAL);
    CHECK_INT(ferry_queue_put(queue, &numbers[1]), 0);
    CHECK_INT(ferry_queue_put(queue, &numbers[2]), 0);
    ferry_future *f = ferry_submit(side, takes_and_says_done, queue);
    CHECK_INT(ferry_queue_join(queue), 0);
    CHECK_INT(ferry_queue_task_done(queue), -EINVAL);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_queue_free(queue), 0);
    return 0;
}

WORLDS_TEST(sent_then_cancelled) {
    ferry_channel *channel = ferry_channel_new(0, NULL);
    struct waiting receiver;
    begin_waiting(&receiver, receive_item, channel);
    CHECK_INT(ferry_channel_try_send(channel, &numbers[1]), 0);
    ferry_scope_cancel(&receiver.scope);
    pthread_join(receiver.thread, NULL);
    CHECK_INT(receiver.rc, 1);
    begin_waiting(&receiver, receive_item, channel);
    ferry_scope_cancel(&receiver.scope);
    pthread_join(receiver.thread, NULL);
    CHECK_INT(receiver.rc, -ECANCELED);
    CHECK_INT(ferry_channel_try_send(channel, &numbers[1]), -EAGAIN);
    CHECK_INT(ferry_channel_free(channel), 0);
    return 0;
}

/* ---- Streams --------------------------------------------------------------------------------- */

static int64_t cancels_its_own_scope(ferry_stream *stream, void *begun) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    *(bool *)begun = true;
    CHECK_INT(ferry_stream_send(stream, &numbers[1]), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    int rc = ferry_stream_send(stream, &numbers[2]);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), 0);
    return 0;
}

WORLDS_TEST(a_producers_own_scope) {
    bool begun = false;
    void *item;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_stream *stream = ferry_stream_submit(side, cancels_its_own_scope, &begun, NULL);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_stream_next(stream, &item), -ECANCELED); /* before the first item */
    CHECK(!begun);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    CHECK_INT(ferry_stream_next(stream, &item), 0);
    CHECK(begun && item == &numbers[1]);
    CHECK_INT(ferry_stream_next(stream, &item), FERRY_END);
    CHECK_INT(ferry_sleep(1), 0); /* the consumer isn't cancelled */
    CHECK_INT(ferry_stream_close(stream), 0);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("GRP-02 in every world: body and child fail", body_and_child_fail),
        CASE("GRP-04 in every world: one child is cancelled", one_child_is_cancelled),
        CASE("GRP-06 in every world: errors of the clean-up win", errors_of_the_clean_up),
        CASE("GRP-08 in every world: no stray cancel", no_stray_cancel),
        CASE("GRP-11 in every world: groups in groups", groups_in_groups),
        CASE("GRP-13 in every world: nothing is taken after the end", nothing_after_the_end),
        CASE("GRP-17 in every world: children are told behind a shield", told_behind_a_shield),
        CASE("AGG-02 in every world: all is collected", collected),
        CASE("AGG-03 in every world: a child is cancelled elsewhere",
             a_child_is_cancelled_elsewhere),
        CASE("AGG-04 in every world: a gather is cancelled", a_gather_is_cancelled),
        CASE("AGG-06 in every world: twice the same handle", twice_the_same),
        CASE("AGG-08 in every world: the first error", the_first_error),
        CASE("AGG-09 AGG-14 in every world: waits leave handles alone; nothing to wait for",
             waits_leave_handles_alone),
        CASE("AGG-11 in every world: shields", shields),
        CASE("AGG-12 in every world: an orphan's error is told once", an_orphans_error),
        CASE("FUT-08 in every world: errors that nobody read", unread_errors),
        CASE("FUT-10 in every world: dropped without a value, nobody listens",
             dropped_without_a_value),
        CASE("CND-02 in every world: a condition without its mutex", a_condition_without_its_mutex),
        CASE("SEM-05 in every world: above the bound", above_the_bound),
        CASE("BAR-07 in every world: aborted until it is reset", aborted_until_reset),
        CASE("BAR-08 in every world: parties", parties),
        CASE("QUE-02 a thread gets: put, put, cancelled", put_put_cancel),
        CASE("QUE-06 an item or a place belongs to a parked thread", what_is_put_is_theirs),
        CASE("QUE-08 in every world: joined", joined),
        CASE("CHN-02 a thread receives: sent, cancelled", sent_then_cancelled),
        CASE(
            "CHN-11 in every world: a producer's own scope, and a consumer that is cancelled first",
            a_producers_own_scope),
    };
    return SUPPORT_RUN(tests);
}

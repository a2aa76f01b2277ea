/* Work handed to a loop from elsewhere: ferry_post() and ferry_async, in order, none lost, each
 * once. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "core.h"
#include "oom.h"
#include "parked.h"
#include "support.h"
#include "waiters.h"

static int64_t counts(void *arg) {
    ++*(int *)arg;
    return 0;
}

static int64_t nothing(void *arg) {
    (void)arg;
    return 0;
}

/* A loop of its own, ended. */
static void end_loop(ferry_loop *loop) {
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
}

/* Until all that was handed in before has been called. */
static void settle(void) {
    int called = 0;
    CHECK_INT(ferry_post(ferry_loop_current(), counts, &called), 0);
    while (called == 0)
        ferry_yield();
}

/* ---- Order ----------------------------------------------------------------------------------- */

enum { POSTS = 100 };

struct poster;
struct number {
    struct poster *poster;
    int value;
};

struct poster {
    ferry_loop *loop;
    int next; /* on the loop's thread */
    struct number numbers[POSTS];
};

static int64_t comes_in_order(void *arg) {
    struct number *n = arg;
    CHECK_INT(n->value, n->poster->next);
    n->poster->next = n->value + 1;
    return 0;
}

static int post_number(struct poster *p, int i) {
    p->numbers[i] = (struct number){p, i};
    return ferry_post(p->loop, comes_in_order, &p->numbers[i]);
}

static void *posts_all(void *arg) {
    for (int i = 0; i < POSTS; i++)
        CHECK_INT(post_number(arg, i), 0);
    return NULL;
}

TASK_TEST(order) {
    static struct poster posters[3];
    memset(posters, 0, sizeof posters);
    pthread_t threads[2];
    for (int i = 0; i < 3; i++)
        posters[i].loop = ferry_loop_current();
    for (int i = 0; i < 2; i++)
        threads[i] = start_thread(posts_all, &posters[i]);
    for (int i = 0; i < POSTS; i++) {
        CHECK_INT(post_number(&posters[2], i), 0);
        CHECK(posters[2].next <= i); /* never from inside the call */
        if (i % 7 == 0)
            ferry_yield();
    }
    for (int i = 0; i < 3; i++)
        while (posters[i].next < POSTS)
            ferry_yield();
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

/* A callback posts the next one, a task and a job do: the same order of each. */
struct relay {
    ferry_loop *loop;
    int left, ran;
};

static int64_t passes_on(void *arg) {
    struct relay *r = arg;
    r->ran++;
    CHECK_INT(ferry_sleep(1), -EDEADLK); /* a callback must not wait */
    CHECK(ferry_loop_current() == r->loop);
    CHECK(ferry_self() == NULL);
    if (--r->left > 0)
        CHECK_INT(ferry_post(r->loop, passes_on, r), 0);
    return 0;
}

static int64_t posts_from_a_job(void *arg) {
    struct relay *r = arg;
    return ferry_post(r->loop, passes_on, r);
}

TASK_TEST(from_a_callback_and_a_job) {
    struct relay r = {.loop = ferry_loop_current(), .left = 10};
    CHECK_INT(ferry_await(ferry_submit(NULL, posts_from_a_job, &r)), 0);
    while (r.ran < 10)
        ferry_yield();
    CHECK_INT(r.left, 0);
    return 0;
}

/* ---- Waking ---------------------------------------------------------------------------------- */

struct sleeper {
    ferry_loop *loop;
    ferry_event event;
    _Atomic bool waits, spins;
    bool flag; /* loop thread */
};

static int64_t sets_event(void *arg) {
    struct sleeper *s = arg;
    ferry_event_set(&s->event);
    return 0;
}

static int64_t sets_flag(void *arg) {
    ((struct sleeper *)arg)->flag = true;
    return 0;
}

/* First when the loop sleeps, then while a task yields for ever. */
static void *wakes(void *arg) {
    struct sleeper *s = arg;
    while (!atomic_load(&s->waits) || !ferry__inbox_sleeps(&s->loop->inbox))
        sched_yield();
    CHECK_INT(ferry_post(s->loop, sets_event, s), 0);
    while (!atomic_load(&s->spins))
        sched_yield();
    CHECK_INT(ferry_post(s->loop, sets_flag, s), 0);
    return NULL;
}

static int64_t is_woken(void *arg) {
    struct sleeper *s = arg;
    s->loop = ferry_loop_current();
    pthread_t thread = start_thread(wakes, s);
    atomic_store(&s->waits, true);
    CHECK_INT(ferry_event_wait(&s->event), 0);
    while (!s->flag) {
        CHECK_INT(ferry_yield(), 0);
        atomic_store(&s->spins, true);
    }
    pthread_join(thread, NULL);
    return 0;
}

static void wakes_a_loop(void **state) {
    (void)state;
    struct sleeper s = {.event = FERRY_EVENT_INIT};
    assert_int_equal(ferry_run(is_woken, &s), 0);
}

/* Nothing but the post could wake it: an attached loop has no timer of its own. */
static void wakes_an_attached_loop(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    struct sleeper s = {.event = FERRY_EVENT_INIT};
    ferry_future *task = ferry_spawn_on(loop, is_woken, &s);
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(ferry_await(task), 0);
    end_loop(loop);
    event_base_free(base);
}

/* ---- Many before the first run --------------------------------------------------------------- */

enum { MANY = 20000, MANY_THREADS = 3 };

struct flood {
    ferry_loop *loop;
    int ran;
};

static int64_t counts_flood(void *arg) {
    ((struct flood *)arg)->ran++;
    return 0;
}

static void *floods(void *arg) {
    struct flood *f = arg;
    for (int i = 0; i < MANY; i++)
        CHECK_INT(ferry_post(f->loop, counts_flood, f), 0);
    return NULL;
}

static int64_t until_all(void *arg) {
    struct flood *f = arg;
    while (f->ran < MANY * MANY_THREADS)
        ferry_yield();
    return 0;
}

static void none_is_lost(void **state) {
    (void)state;
    struct flood f = {.loop = ferry_loop_new()};
    pthread_t threads[MANY_THREADS];
    for (int i = 0; i < MANY_THREADS; i++)
        threads[i] = start_thread(floods, &f);
    for (int i = 0; i < MANY_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(f.ran, 0);
    assert_int_equal(ferry_loop_run(f.loop, until_all, &f), 0);
    assert_int_equal(f.ran, MANY * MANY_THREADS);
    end_loop(f.loop);
}

/* ---- Async ----------------------------------------------------------------------------------- */

struct repeats {
    ferry_async *async;
    int ran, again;
};

static int64_t sends_again(void *arg) {
    struct repeats *r = arg;
    r->ran++;
    if (r->again > 0) {
        r->again--;
        for (int i = 0; i < 3; i++)
            CHECK_INT(ferry_async_send(r->async), 0);
    }
    return 0;
}

TASK_TEST(one_run_a_batch) {
    struct repeats r = {.again = 0};
    r.async = ferry_async_new(ferry_loop_current(), sends_again, &r);
    for (int i = 0; i < 5; i++)
        CHECK_INT(ferry_async_send(r.async), 0);
    CHECK_INT(r.ran, 0);
    settle();
    CHECK_INT(r.ran, 1);
    r.again = 2;
    CHECK_INT(ferry_async_send(r.async), 0);
    while (r.ran < 4)
        ferry_yield();
    settle();
    CHECK_INT(r.ran, 4);
    ferry_async_free(r.async);
    return 0;
}

struct race {
    ferry_async *async;
    _Atomic int sent;
    int seen, ran; /* loop thread */
};

static int64_t looks(void *arg) {
    struct race *r = arg;
    r->seen = atomic_load(&r->sent);
    r->ran++;
    return 0;
}

enum { SENDS = 20000 };

static void *sends_many(void *arg) {
    struct race *r = arg;
    for (int i = 0; i < SENDS; i++) {
        atomic_fetch_add(&r->sent, 1);
        CHECK_INT(ferry_async_send(r->async), 0);
    }
    return NULL;
}

/* What was written before a send is seen by a run after it. */
TASK_TEST(no_send_is_lost) {
    struct race r = {.sent = 0};
    r.async = ferry_async_new(ferry_loop_current(), looks, &r);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        threads[i] = start_thread(sends_many, &r);
    while (r.seen < 2 * SENDS)
        ferry_yield();
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    settle();
    CHECK(r.ran >= 1 && r.ran <= 2 * SENDS);
    ferry_async_free(r.async);
    return 0;
}

static int64_t frees_itself(void *arg) {
    struct repeats *r = arg;
    r->ran++;
    ferry_async_send(r->async);
    ferry_async_free(r->async);
    return 0;
}

TASK_TEST(freed_async) {
    struct repeats pending = {.again = 0}, itself = {.again = 0};
    pending.async = ferry_async_new(ferry_loop_current(), sends_again, &pending);
    itself.async = ferry_async_new(ferry_loop_current(), frees_itself, &itself);
    CHECK_INT(ferry_async_send(pending.async), 0);
    ferry_async_free(pending.async);
    CHECK_INT(ferry_async_send(itself.async), 0);
    settle();
    CHECK_INT(pending.ran, 0);
    CHECK_INT(itself.ran, 1);
    ferry_async_free(NULL);
    CHECK_INT(ferry_async_send(NULL), -EINVAL);
    return 0;
}

/* ---- Before, between and after --------------------------------------------------------------- */

static void before_between_after(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int counted[2] = {0, 0};
    ferry_async *async = ferry_async_new(loop, counts, &counted[1]);
    for (int run = 1; run <= 2; run++) {
        assert_int_equal(ferry_post(loop, counts, &counted[0]), 0);
        assert_int_equal(ferry_async_send(async), 0);
        assert_int_equal(counted[0] + counted[1], 2 * (run - 1));
        assert_int_equal(ferry_loop_free(loop), -EBUSY); /* they are owed */
        int before[2] = {counted[0], counted[1]};
        assert_int_equal(ferry_loop_run(loop, nothing, NULL), 0);
        assert_int_equal(counted[0], before[0] + 1);
        assert_int_equal(counted[1], before[1] + 1);
    }
    assert_int_equal(ferry_loop_shutdown(loop, FERRY_FOREVER), 0);
    assert_int_equal(ferry_post(loop, counts, &counted[0]), FERRY_ECLOSED);
    assert_non_null(strstr(ferry_errmsg(), "shut down"));
    assert_int_equal(ferry_async_send(async), FERRY_ECLOSED);
    assert_int_equal(ferry_async_send(async), FERRY_ECLOSED); /* it isn't pending now */
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(ferry_async_send(async), FERRY_ECLOSED); /* it outlives the loop */
    ferry_async_free(async);
    assert_int_equal(counted[0], 2);
    assert_int_equal(counted[1], 2);
}

/* What was taken before a shutdown runs, once, before it has ended. */
static void taken_is_run(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int counted[2] = {0, 0};
    ferry_async *async = ferry_async_new(loop, counts, &counted[1]);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ferry_post(loop, counts, &counted[0]), 0);
    assert_int_equal(ferry_async_send(async), 0);
    assert_int_equal(ferry_loop_shutdown(loop, 0), 0);
    assert_int_equal(counted[0], 1000);
    assert_int_equal(counted[1], 1);
    assert_int_equal(ferry_loop_free(loop), 0);
    ferry_async_free(async);
}

/* A thread posts while the loop is shut down: each post was taken and is run, or was refused and
 * isn't. */
struct late {
    ferry_loop *loop;
    _Atomic int taken;
    gate begun;
    int ran; /* loop thread */
};

static int64_t counts_late(void *arg) {
    ((struct late *)arg)->ran++;
    return 0;
}

static void *posts_until_closed(void *arg) {
    struct late *l = arg;
    for (;;) {
        int rc = ferry_post(l->loop, counts_late, l);
        if (rc == FERRY_ECLOSED)
            return NULL;
        CHECK_INT(rc, 0);
        if (atomic_fetch_add(&l->taken, 1) == 100)
            gate_open(&l->begun);
    }
}

static void race_with_the_end(void **state) {
    (void)state;
    for (int round = support_slow() ? 5 : 50; round > 0; round--) {
        struct late l = {.loop = ferry_loop_new(), .begun = GATE_INIT};
        pthread_t thread = start_thread(posts_until_closed, &l);
        gate_wait(&l.begun);
        assert_int_equal(ferry_loop_shutdown(l.loop, FERRY_FOREVER), 0);
        pthread_join(thread, NULL);
        assert_int_equal(l.ran, atomic_load(&l.taken));
        assert_int_equal(ferry_loop_free(l.loop), 0);
        gate_destroy(&l.begun);
    }
}

/* The same with the poster held between its look at the state and the inbox: the shutdown waits
 * for it. */
struct held_up {
    struct ferry__item item;
    ferry_loop *loop;
    int ran; /* loop thread */
};

static void runs_held_up(ferry_loop *loop, struct ferry__item *item) {
    (void)loop;
    ferry__container(item, struct held_up, item)->ran++;
}

static void *enters_late(void *arg) {
    struct held_up *h = arg;
    while (atomic_load(&h->loop->state) == FERRY__LOOP_OPEN)
        sched_yield();
    for (int i = 0; i < 1000; i++) {
        CHECK(atomic_load(&h->loop->state) != FERRY__LOOP_DOWN);
        sched_yield();
    }
    CHECK(ferry__loop_send(h->loop, &h->item));
    atomic_fetch_sub(&h->loop->entering, 1);
    return NULL;
}

static void waits_for_who_enters(void **state) {
    (void)state;
    struct held_up h = {.item.run = runs_held_up, .loop = ferry_loop_new()};
    atomic_fetch_add(&h.loop->entering, 1);
    pthread_t thread = start_thread(enters_late, &h);
    assert_int_equal(ferry_loop_shutdown(h.loop, FERRY_FOREVER), 0);
    assert_int_equal(h.ran, 1);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_loop_free(h.loop), 0);
}

/* ---- Failures -------------------------------------------------------------------------------- */

static int64_t fails(void *arg) {
    return ferry_fail(-EIO, "%s", (char *)arg);
}

static void failures_are_told(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int counted = 0;
    struct kept_log log;
    keep_log(&log, FERRY_LOG_ERROR, "the disk is gone");
    assert_int_equal(ferry_post(loop, fails, (char[]){"the disk is gone"}), 0);
    assert_int_equal(ferry_post(loop, counts, &counted), 0);
    ferry_async *async = ferry_async_new(loop, fails, (char[]){"the disk is gone too"});
    assert_int_equal(ferry_async_send(async), 0);
    assert_int_equal(ferry_post(loop, counts, &counted), 0);
    assert_int_equal(ferry_loop_run(loop, nothing, NULL), 0);
    assert_int_equal(counted, 2);
    ferry_async_free(async);
    end_loop(loop);
    assert_int_equal(kept_messages(&log), 2);
}

struct creation {
    ferry_loop *loop;
    int freed; /* loop thread */
    ferry_future *f[200];
};

static void count_freed(void *arg) {
    ((struct creation *)arg)->freed++;
}

static int64_t five(void *arg) {
    (void)arg;
    return 5;
}

static void *spawns_all(void *arg) {
    struct creation *c = arg;
    ferry_task_options options = {.arg_free = count_freed};
    for (int i = 0; i < 200; i++)
        c->f[i] = ferry_spawn_on_with(c->loop, five, c, &options);
    return NULL;
}

static void *awaits_all(void *arg) {
    struct creation *c = arg;
    int failed = 0;
    for (int i = 0; i < 200; i++) {
        int64_t rc = ferry_await(c->f[i]);
        failed += rc == -ENOMEM;
        CHECK(rc == 5 || rc == -ENOMEM);
    }
    CHECK(failed > 0);
    return NULL;
}

/* The spawn has succeeded; what the loop's side then needs isn't there. */
static void creation_fails(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct creation c = {.loop = ferry_loop_attach(base)};
    pthread_join(start_thread(spawns_all, &c), NULL);
    oom_after(0, true);
    assert_int_equal(event_base_dispatch(base), 1);
    oom_never();
    assert_int_equal(c.freed, 200);
    pthread_join(start_thread(awaits_all, &c), NULL);
    end_loop(c.loop);
    event_base_free(base);
}

struct huge {
    ferry_loop *loop;
    int freed; /* loop thread */
    _Atomic bool over;
};

static void frees_huge(void *arg) {
    ((struct huge *)arg)->freed++;
}

static void *spawns_huge(void *arg) {
    struct huge *h = arg;
    ferry_task_options options = {.stack_size = (size_t)1 << 31, .arg_free = frees_huge};
    CHECK_INT(ferry_await(ferry_spawn_on_with(h->loop, five, h, &options)), -EINVAL);
    atomic_store(&h->over, true);
    return NULL;
}

TASK_TEST(stack_fails) {
    struct huge h = {.loop = ferry_loop_current()};
    pthread_t thread = start_thread(spawns_huge, &h);
    while (!atomic_load(&h.over))
        ferry_yield();
    pthread_join(thread, NULL);
    CHECK_INT(h.freed, 1);
    return 0;
}

static void *calls_what_it_may_not(void *arg) {
    ferry_loop *loop = arg;
    CHECK_INT(ferry_loop_run(loop, nothing, NULL), -EINVAL);
    CHECK(strstr(ferry_errmsg(), "another thread") != NULL);
    CHECK_INT(ferry_loop_free(loop), -EBUSY);
    return NULL;
}

TASK_TEST(foreign_calls) {
    pthread_join(start_thread(calls_what_it_may_not, ferry_loop_current()), NULL);
    return 0;
}

static void no_memory(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    int counted = 0;
    ferry_async *async = ferry_async_new(loop, counts, &counted);
    assert_int_equal(ferry_post(NULL, counts, &counted), -EINVAL);
    assert_int_equal(ferry_post(loop, NULL, &counted), -EINVAL);
    assert_null(ferry_async_new(loop, NULL, NULL));
    assert_null(ferry_async_new(NULL, counts, &counted));
    oom_after(0, true);
    int post = ferry_post(loop, counts, &counted);
    ferry_async *second = ferry_async_new(loop, counts, &counted);
    int sent = ferry_async_send(async); /* needs none */
    oom_never();
    assert_int_equal(post, -ENOMEM);
    assert_null(second);
    assert_int_equal(sent, 0);
    assert_int_equal(ferry_loop_run(loop, nothing, NULL), 0);
    assert_int_equal(counted, 1);
    ferry_async_free(async);
    end_loop(loop);
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("TSC-01 posts of one thread come in their order, mixed with the loop's own", order),
        CASE("posts from a callback and from a job", from_a_callback_and_a_job),
        CASE("TSC-02 a post wakes a loop that sleeps, and comes beside a task that spins",
             wakes_a_loop),
        CASE("TSC-02 a post wakes an attached loop without a timer", wakes_an_attached_loop),
        CASE("TSC-03 none of 60,000 posts before the first run is lost", none_is_lost),
        CASE("TSC-05 an async runs once a batch, and again when sent from inside", one_run_a_batch),
        CASE("TSC-05 no send is lost in a race with the callback", no_send_is_lost),
        CASE("an async that is freed runs no more", freed_async),
        CASE("TSC-06 before the first run, between two, after the end", before_between_after),
        CASE("TSC-06 what was taken before a shutdown is run", taken_is_run),
        CASE("TSC-06 posts while the loop is shut down: taken and run, or refused",
             race_with_the_end),
        CASE("TSC-06 a shutdown waits for who is about to post", waits_for_who_enters),
        CASE("TSC-08 a callback that fails is told, and the later ones run", failures_are_told),
        CASE("TSC-10 a task that can't be made on the loop's side: its waiter is told",
             creation_fails),
        CASE("TSC-10 a stack that is refused", stack_fails),
        CASE("TSC-10 calls of another thread that may not be", foreign_calls),
        CASE("no memory, no loop, no function", no_memory),
    };
    return SUPPORT_RUN(tests);
}

/* The windows of requests, wake-ups and hand-overs that no luck is needed to hit: whoever is on
 * such a path is stopped at a switch point (lib/point.h), others act, and it goes on. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "child.h"
#include "parked.h"
#include "points.h"
#include "pools.h"
#include "waiting.h"

static void *call(void *arg) {
    void (**fn)(void *) = arg;
    (*fn)((void *)(fn + 1));
    return NULL;
}

/* What another thread does: a function that gets what follows it. */
#define OTHER(name, field) \
    struct name { \
        void (*fn)(void *); \
        field; \
        pthread_t thread; \
    }
#define START(other) ((other)->thread = start_thread(call, (other)))

/* ---- Scopes ---------------------------------------------------------------------------------- */

OTHER(canceller, ferry_scope *scope);

static void cancel_scope(void *arg) {
    ferry_scope_cancel(*(ferry_scope **)arg);
}

static void seen_before_the_kick(void **state) {
    (void)state;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_sem sem = FERRY_SEM_INIT(1);
    struct canceller other = {cancel_scope, &scope, 0};
    struct point_stop stop;
    assert_int_equal(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    point_stop(&stop, "scope_kick");
    START(&other);
    point_wait(&stop);
    CHECK(ferry_scope_cancelled(&scope));
    CHECK_INT(ferry_sem_acquire(&sem, 1), -ECANCELED);
    CHECK_INT(ferry_sem_value(&sem), 1);
    point_go(&stop);
    pthread_join(other.thread, NULL);
    assert_int_equal(ferry_scope_close(&scope, -ECANCELED), 0);
}

static void close_in_child(ferry_scope *scope, pid_t *child) {
    *child = fork_with_alarm();
    if (*child != 0)
        return;
    MUST(ferry_scope_cancelled(scope));
    MUST(ferry_checkpoint() == -ECANCELED);
    MUST(ferry_scope_close(scope, -ECANCELED) == 0);
    end_child(true);
}

/* The child has the canceller's mark on the scope, and not the canceller. */
static void forked_before_the_kick(void **state) {
    (void)state;
    ferry_scope scope = FERRY_SCOPE_INIT;
    struct canceller other = {cancel_scope, &scope, 0};
    struct point_stop stop;
    pid_t child;
    int status = -1;
    ferry__fork_watch();
    assert_int_equal(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    point_stop(&stop, "scope_kick");
    START(&other);
    point_wait(&stop);
    close_in_child(&scope, &child);
    point_go(&stop);
    pthread_join(other.thread, NULL);
    assert_int_equal(ferry_scope_close(&scope, -ECANCELED), 0);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(child_was_good(status));
}

/* ---- Falling asleep -------------------------------------------------------------------------- */

static const char *const drowsy[] = {"park_seen", "park_doze", "park_sleep"};

static int acquire(void *arg) {
    return ferry_sem_acquire(arg, 1);
}

static void wakes_on_the_way_to_sleep(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof drowsy / sizeof drowsy[0]; i++) {
        for (int cancel = 0; cancel < 2; cancel++) {
            ferry_sem sem = FERRY_SEM_INIT(0);
            struct waiting w = {.wait = acquire, .arg = &sem};
            struct point_stop stop;
            point_stop(&stop, drowsy[i]);
            w.thread = start_thread(wait_in_scope, &w);
            point_wait(&stop);
            if (cancel)
                ferry_scope_cancel(&w.scope);
            else
                CHECK_INT(ferry_sem_release(&sem, 1), 0);
            point_go(&stop);
            pthread_join(w.thread, NULL);
            CHECK_INT(w.rc, cancel ? -ECANCELED : 0);
        }
    }
}

/* ---- A loop's inbox -------------------------------------------------------------------------- */

struct posts {
    ferry_loop *loop;
    _Atomic int run;
};

static int64_t post_runs(void *arg) {
    atomic_fetch_add(&((struct posts *)arg)->run, 1);
    return 0;
}

OTHER(poster, struct posts *posts);

static void post_one(void *arg) {
    struct posts *posts = *(struct posts **)arg;
    CHECK_INT(ferry_post(posts->loop, post_runs, posts), 0);
}

struct asleep {
    struct posts posts;
    ferry_event published, end;
};

/* It has a timer, so that it doesn't look for a dead end by itself now and then: once it sleeps it
 * sleeps until it is woken. */
static int64_t sleeping_loop(void *arg) {
    struct asleep *a = arg;
    a->posts.loop = ferry_loop_current();
    ferry_event_set(&a->published);
    return ferry_event_wait_for(&a->end, LONG);
}

static pthread_t start_loop(struct asleep *a) {
    *a = (struct asleep){.published = FERRY_EVENT_INIT, .end = FERRY_EVENT_INIT};
    pthread_t thread = start_in_loop(sleeping_loop, a);
    CHECK_INT(ferry_event_wait(&a->published), 0);
    return thread;
}

static void end_loop(struct asleep *a, pthread_t thread) {
    ferry_event_set(&a->end);
    pthread_join(thread, NULL);
}

static void until_run(struct posts *posts, int n) {
    while (atomic_load(&posts->run) < n)
        sched_yield();
}

static void posted_while_the_loop_dozes(void **state) {
    (void)state;
    struct asleep a;
    struct point_stop stop;
    point_stop(&stop, "inbox_dozed"); /* it has said that it sleeps, and will look once more */
    pthread_t thread = start_loop(&a);
    point_wait(&stop);
    CHECK_INT(ferry_post(a.posts.loop, post_runs, &a.posts), 0);
    point_go(&stop);
    until_run(&a.posts, 1);
    end_loop(&a, thread);
}

/* The one before has pushed and hasn't rung, or is about to ring: neither post is lost. */
static void posted_beside_another(const char *point) {
    struct asleep a;
    struct point_stop stop;
    pthread_t thread = start_loop(&a);
    struct poster first = {post_one, &a.posts, 0};
    while (!ferry__inbox_sleeps(&a.posts.loop->inbox))
        sched_yield();
    point_stop(&stop, point);
    START(&first);
    point_wait(&stop);
    CHECK_INT(ferry_post(a.posts.loop, post_runs, &a.posts), 0);
    point_go(&stop);
    pthread_join(first.thread, NULL);
    until_run(&a.posts, 2);
    end_loop(&a, thread);
}

static void two_posters(void **state) {
    (void)state;
    posted_beside_another("inbox_pushed");
    posted_beside_another("inbox_ring");
}

struct sends {
    ferry_async *async;
    int runs;
    bool done;
};

static int64_t send_runs(void *arg) {
    ((struct sends *)arg)->runs++;
    return 0;
}

static void send_again(void *arg) {
    struct point_stop *stop = ((void **)arg)[0];
    point_wait(stop);
    CHECK_INT(ferry_async_send(((void **)arg)[1]), 0);
    point_go(stop);
}

static int64_t sends_while_it_begins(void *arg) {
    (void)arg;
    struct sends s = {0};
    s.async = ferry_async_new(ferry_loop_current(), send_runs, &s);
    struct point_stop stop;
    struct {
        void (*fn)(void *);
        void *args[2];
        pthread_t thread;
    } other = {send_again, {&stop, s.async}, 0};
    point_stop(&stop, "async_began"); /* it is pending no longer, and its callback hasn't begun */
    CHECK_INT(ferry_async_send(s.async), 0);
    START(&other);
    while (s.runs < 2)
        ferry_yield();
    pthread_join(other.thread, NULL);
    ferry_async_free(s.async);
    return 0;
}

static void sent_when_it_begins(void **state) {
    (void)state;
    assert_int_equal(ferry_run(sends_while_it_begins, NULL), 0);
}

/* ---- A pool's threads ------------------------------------------------------------------------ */

static int64_t seven(void *arg) {
    if (arg)
        *(bool *)arg = true;
    return 7;
}

/* Its only thread stands at the point, after its first job: a second one comes. */
static void submitted_at(const char *point, int64_t idle_ms) {
    ferry_executor *pool = make_pool(1, &(ferry_executor_options){.idle_ms = idle_ms});
    struct point_stop stop;
    point_stop(&stop, point);
    CHECK_INT(ferry_await(ferry_submit(pool, seven, NULL)), 7);
    point_wait(&stop);
    ferry_future *f = ferry_submit(pool, seven, NULL);
    point_go(&stop);
    CHECK_INT(ferry_await(f), 7);
    end_pool(pool);
}

static void submitted_while_a_thread_goes(void **state) {
    (void)state;
    submitted_at("worker_sleep", 60000);
    submitted_at("worker_bored", 1);
    submitted_at("worker_leave", 1);
}

static void count_hook(void *arg) {
    (void)arg;
}

/* Cancelled where its thread stands. */
static void job_cancelled_at(const char *point, bool runs) {
    static const ferry_job_options options = {.interrupt = count_hook};
    ferry_executor *pool = make_pool(1, NULL);
    struct point_stop stop;
    bool ran = false;
    point_stop(&stop, point);
    ferry_future *f = ferry_submit_with(pool, seven, &ran, &options);
    point_wait(&stop);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK(!ferry_done(f));
    point_go(&stop);
    CHECK_INT(ferry_await(f), runs ? 7 : FERRY_EJOBCANCELED);
    CHECK(ran == runs);
    end_pool(pool);
}

static void jobs_cancelled_at_begin_and_end(void **state) {
    (void)state;
    job_cancelled_at("job_taken", false);
    job_cancelled_at("job_began", false);
    job_cancelled_at("job_returned", true);
}

OTHER(closer, ferry_executor *pool);

static void close_pool(void *arg) {
    CHECK_INT(ferry_executor_close(*(ferry_executor **)arg, FERRY_CLOSE_CANCEL), 0);
}

static void submitted_while_it_is_closed(void **state) {
    (void)state;
    struct closer other = {close_pool, make_pool(1, NULL), 0};
    struct point_stop stop;
    point_stop(&stop, "close_marked");
    START(&other);
    point_wait(&stop);
    ferry_future *f = ferry_submit(other.pool, seven, NULL);
    CHECK(ferry_done(f));
    CHECK_INT(ferry_await(f), FERRY_ECLOSED);
    point_go(&stop);
    pthread_join(other.thread, NULL);
    end_pool(other.pool);
}

/* ---- Handles --------------------------------------------------------------------------------- */

struct awaiting {
    void (*fn)(void *);
    struct {
        ferry_future *f;
        ferry_scope scope;
        int64_t rc;
        int after;
    } it;
    pthread_t thread;
};

static void await_it(void *arg) {
    struct awaiting *a = ferry__container(arg, struct awaiting, it);
    CHECK_INT(ferry_scope_open(&a->it.scope, FERRY_FOREVER), 0);
    a->it.rc = ferry_await(a->it.f);
    a->it.after = ferry_checkpoint();
    CHECK_INT(ferry_scope_close(&a->it.scope, 0), 0);
}

static void done_while_somebody_joins_the_list(void **state) {
    (void)state;
    struct awaiting a = {.fn = await_it};
    struct point_stop stop;
    ferry_promise *p = ferry_promise_new(&a.it.f, NULL);
    point_stop(&stop, "future_link");
    START(&a);
    point_wait(&stop);
    CHECK_INT(ferry_promise_set(p, 7), 0);
    point_go(&stop);
    pthread_join(a.thread, NULL);
    CHECK_INT(a.it.rc, 7);
    ferry_promise_drop(p);
}

static void done_before_its_awaiter_cancels_it(void **state) {
    (void)state;
    struct awaiting a = {.fn = await_it};
    struct point_stop stop;
    ferry_promise *p = ferry_promise_new(&a.it.f, NULL);
    point_stop(&stop, "await_cancel");
    START(&a);
    until_linked(a.it.f, 1);
    ferry_scope_cancel(&a.it.scope);
    point_wait(&stop);
    CHECK_INT(ferry_promise_set(p, 7), 0);
    point_go(&stop);
    pthread_join(a.thread, NULL);
    CHECK_INT(a.it.rc, 7); /* a result all the same, and the cancel at its next wait */
    CHECK_INT(a.it.after, -ECANCELED);
    ferry_promise_drop(p);
}

struct setting {
    void (*fn)(void *);
    struct {
        ferry_promise *p;
        int rc;
    } it;
    pthread_t thread;
};

static void set_it(void *arg) {
    struct setting *s = ferry__container(arg, struct setting, it);
    s->it.rc = ferry_promise_set(s->it.p, 7);
}

static void set_and_cancelled(void **state) {
    (void)state;
    for (int decided = 0; decided < 2; decided++) {
        ferry_future *f;
        struct setting s = {.fn = set_it, .it = {.p = ferry_promise_new(&f, NULL)}};
        struct point_stop stop;
        point_stop(&stop, decided ? "promise_decided" : "promise_set");
        START(&s);
        point_wait(&stop);
        CHECK_INT(ferry_cancel(f), decided ? FERRY_CANCEL_LATE : FERRY_CANCEL_ASKED);
        point_go(&stop);
        pthread_join(s.thread, NULL);
        CHECK_INT(s.it.rc, decided ? 0 : -ECANCELED);
        CHECK_INT(ferry_await(f), decided ? 7 : FERRY_EJOBCANCELED);
        ferry_promise_drop(s.it.p);
    }
}

/* ---- Groups ---------------------------------------------------------------------------------- */

struct owning {
    void (*fn)(void *);
    struct {
        ferry_group group;
        ferry_executor *pool;
        bool ran;
        int64_t closed;
    } it;
    pthread_t thread;
};

static void own_one(void *arg) {
    struct owning *o = ferry__container(arg, struct owning, it);
    CHECK_INT(ferry_group_open(&o->it.group), 0);
    CHECK_INT(ferry_group_submit(&o->it.group, o->it.pool, seven, &o->it.ran), 0);
    o->it.closed = ferry_group_close(&o->it.group, 0);
}

static void a_member_ends_before_it_is_attached(void **state) {
    (void)state;
    struct owning o = {.fn = own_one, .it = {.pool = make_pool(1, NULL)}};
    struct point_stop stop;
    point_stop(&stop, "group_attach");
    START(&o);
    point_wait(&stop);
    /* the member's was before it */
    CHECK_INT(ferry_await(ferry_submit(o.it.pool, seven, NULL)), 7);
    point_go(&stop);
    pthread_join(o.thread, NULL);
    CHECK_INT(o.it.closed, 0);
    CHECK(o.it.ran);
    end_pool(o.it.pool);
}

static void a_member_that_ends_is_cancelled(void **state) {
    (void)state;
    struct owning o = {.fn = own_one, .it = {.pool = make_pool(1, NULL)}};
    struct point_stop stop;
    point_stop(&stop, "group_member_done"); /* it is done, and its group doesn't know */
    START(&o);
    point_wait(&stop);
    ferry_group_cancel(&o.it.group);
    point_go(&stop);
    pthread_join(o.thread, NULL);
    CHECK_INT(o.it.closed, 0);
    end_pool(o.it.pool);
}

struct torn {
    ferry_executor *pool;
    _Atomic int begun;
};

static void until_both_have_begun(struct torn *torn) {
    while (atomic_load(&torn->begun) < 2)
        sched_yield();
}

static int64_t begins_and_fails(void *arg) {
    atomic_fetch_add(&((struct torn *)arg)->begun, 1);
    until_both_have_begun(arg);
    return -EIO;
}

/* Its scope, or its owner, is gone while the first error asks it to stop. */
static int64_t leaves_a_failing_group(void *arg) {
    struct torn *torn = arg;
    ferry_scope around = FERRY_SCOPE_INIT;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_scope_open(&around, FERRY_FOREVER), 0);
    CHECK_INT(ferry_group_open(&group), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(ferry_group_submit(&group, torn->pool, begins_and_fails, torn), 0);
    until_both_have_begun(torn);
    if (points_random() % 2)
        CHECK_INT(ferry_scope_close(&around, 0), -EINVAL);
    return 0;
}

static void *leaves_it_on_a_thread(void *arg) {
    leaves_a_failing_group(arg);
    return NULL;
}

/* Where nothing can be waited for: the members outlive the job. */
static int64_t leaves_it_in_an_inline_job(void *arg) {
    ferry_executor *here;
    CHECK_INT(ferry_inline_new(&here), 0);
    CHECK_INT(ferry_await(ferry_submit(here, leaves_a_failing_group, arg)), 0);
    ferry_executor_free(here);
    return 0;
}

static void members_fail_while_their_group_is_torn_down(void **state) {
    (void)state;
    struct kept_log log;
    unsigned rounds = 0;
    ferry_loop *loop = ferry_loop_new();
    keep_log(&log, FERRY_LOG_ERROR, "failed in a group that nobody closed");
    for (; rounds < (support_slow() ? 100 : 500) && support_in_time(); rounds++) {
        struct torn on_thread = {.pool = make_pool(4, NULL)}, in_job = {.pool = on_thread.pool};
        points_delay(rounds + 1);
        pthread_t thread = start_thread(leaves_it_on_a_thread, &on_thread);
        CHECK_INT(ferry_loop_run(loop, leaves_it_in_an_inline_job, &in_job), 0);
        pthread_join(thread, NULL);
        end_pool(on_thread.pool);
        points_delay(0);
    }
    assert_int_equal(ferry_loop_free(loop), 0);
    assert_int_equal(kept_messages(&log), 4 * rounds);
}

/* ---- A condition and its mutex --------------------------------------------------------------- */

struct room {
    ferry_mutex mutex;
    ferry_cond cond;
};

static int wait_in_room(void *arg) {
    struct room *room = arg;
    CHECK_INT(ferry_lock(&room->mutex), 0);
    int rc = ferry_cond_wait(&room->cond);
    CHECK_INT(ferry_unlock(&room->mutex), 0);
    return rc;
}

OTHER(signaller, struct room *room);

static void signal_room(void *arg) {
    struct room *room = *(struct room **)arg;
    CHECK_INT(ferry_lock(&room->mutex), 0);
    CHECK_INT(ferry_cond_signal(&room->cond), 0);
    CHECK_INT(ferry_unlock(&room->mutex), 0);
}

static void cancelled_between_the_lines(void **state) {
    (void)state;
    struct room room = {.mutex = FERRY_MUTEX_INIT, .cond = FERRY_COND_INIT(&room.mutex)};
    struct signaller other = {signal_room, &room, 0};
    struct waiting first, second;
    struct point_stop stop;
    begin_waiting(&first, wait_in_room, &room);
    begin_waiting(&second, wait_in_room, &room);
    /* it has left the condition's line and isn't in the mutex's */
    point_stop(&stop, "cond_claimed");
    START(&other);
    point_wait(&stop);
    ferry_scope_cancel(&first.scope);
    point_go(&stop);
    pthread_join(other.thread, NULL);
    pthread_join(first.thread, NULL);
    CHECK_INT(first.rc, 0); /* it has consumed the signal */
    CHECK_INT(WAITERS(&room.cond), 1);
    ferry_scope_cancel(&second.scope);
    pthread_join(second.thread, NULL);
    CHECK_INT(second.rc, -ECANCELED);
}

static int lock_and_unlock(void *arg) {
    int rc = ferry_lock(arg);
    if (rc == 0)
        CHECK_INT(ferry_unlock(arg), 0);
    return rc;
}

OTHER(owner, ferry_mutex *mutex);

static void hold_until_waited(void *arg) {
    ferry_mutex *mutex = *(ferry_mutex **)arg;
    CHECK_INT(ferry_lock(mutex), 0);
    UNTIL_WAITERS(mutex, 1);
    CHECK_INT(ferry_unlock(mutex), 0);
}

static void the_line_is_empty_when_it_is_handed_over(void **state) {
    (void)state;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    struct owner other = {hold_until_waited, &mutex, 0};
    struct waiting w;
    struct point_stop stop;
    /* somebody is in line, it has seen, and is about to hand over */
    point_stop(&stop, "mutex_unlock");
    START(&other);
    while (!__atomic_load_n(&mutex.owner, __ATOMIC_ACQUIRE))
        sched_yield();
    w = (struct waiting){.wait = lock_and_unlock, .arg = &mutex};
    w.thread = start_thread(wait_in_scope, &w);
    point_wait(&stop);
    ferry_scope_cancel(&w.scope);
    pthread_join(w.thread, NULL);
    CHECK_INT(w.rc, -ECANCELED);
    point_go(&stop);
    pthread_join(other.thread, NULL);
    assert_int_equal(ferry_trylock(&mutex), 0);
    assert_int_equal(ferry_unlock(&mutex), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a thread that has seen its scope cancelled can't wait, though the canceller hasn't "
             "told it",
             seen_before_the_kick),
        CASE("a child is forked while a scope is being cancelled", forked_before_the_kick),
        CASE("CAN-07 granted and cancelled on a thread's way to sleep", wakes_on_the_way_to_sleep),
        CASE("TSC-02 posted between the loop's doze and its last look",
             posted_while_the_loop_dozes),
        CASE("TSC-03 posted while another one is about to ring", two_posters),
        CASE("TSC-05 sent when the callback is about to begin", sent_when_it_begins),
        CASE("EXE-02 submitted while the only thread falls asleep, gives up waiting, or leaves",
             submitted_while_a_thread_goes),
        CASE("EXE-07 a job cancelled when it was taken, begins, or has returned",
             jobs_cancelled_at_begin_and_end),
        CASE("EXE-05 submitted while it is being closed", submitted_while_it_is_closed),
        CASE("FUT-04 done while a thread joins the list", done_while_somebody_joins_the_list),
        CASE("CAN-09 done before its cancelled awaiter has cancelled it",
             done_before_its_awaiter_cancels_it),
        CASE("FUT-01 set and cancelled, before and after it was decided", set_and_cancelled),
        CASE("GRP-12 a member ends before its group has its handle",
             a_member_ends_before_it_is_attached),
        CASE("GRP-16 a member is cancelled between its end and its group's knowing",
             a_member_that_ends_is_cancelled),
        CASE("GRP-23 members fail while their group is torn down, or its owner is gone",
             members_fail_while_their_group_is_torn_down),
        CASE("CND-05 a signalled thread is cancelled between the two lines",
             cancelled_between_the_lines),
        CASE("LCK-04 the only thread in line leaves before it is handed over",
             the_line_is_empty_when_it_is_handed_over),
    };
    return SUPPORT_RUN(tests);
}

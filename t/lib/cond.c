/* Conditions: order of the signals, ownership of the mutex, cancel and time-out, for tasks and
 * threads. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "oom.h"
#include "parked.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

/* A condition with its mutex, and who went on, in order. */
struct scene {
    ferry_mutex mutex;
    ferry_cond cond;
    bool ready;    /* under the mutex */
    int order[64]; /* under the mutex */
    size_t n;      /* under the mutex */
};

static void set_up(struct scene *scene) {
    *scene = (struct scene){.mutex = FERRY_MUTEX_INIT, .cond = FERRY_COND_INIT(&scene->mutex)};
}

struct actor {
    struct scene *scene;
    int id;
    int64_t ms;
    ferry_scope scope;
    int64_t rc;
};

/* How many stand in the mutex's line, those whom a condition sent there too. */
static size_t in_line(ferry_mutex *mutex) {
    size_t n = 0;
    ferry__lock(&mutex->lock);
    for (struct ferry__waiter *w = mutex->first; w; w = w->next)
        n++;
    ferry__unlock(&mutex->lock);
    return n;
}

static void until_in_line(ferry_mutex *mutex, size_t n) {
    while (in_line(mutex) != n)
        ferry_yield();
}

static void note(struct scene *scene, int id) {
    scene->order[scene->n++] = id;
}

static void check_order(const struct scene *scene, size_t n, const int *order) {
    CHECK_INT(scene->n, n);
    for (size_t i = 0; i < n && i < scene->n; i++)
        CHECK_INT(scene->order[i], order[i]);
}

/* Waits once, and holds the mutex whatever comes of it. */
static int64_t wait_once(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_lock(&a->scene->mutex), 0);
    a->rc = ferry_cond_wait(&a->scene->cond);
    CHECK(held_by(&a->scene->mutex, ferry__ctx_self()));
    if (a->rc == 0)
        note(a->scene, a->id);
    CHECK_INT(ferry_unlock(&a->scene->mutex), 0);
    return 0;
}

static int64_t wait_in_a_scope(void *arg) {
    struct actor *a = arg;
    a->scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
    wait_once(a);
    CHECK_INT(ferry_scope_close(&a->scope, 0), 0);
    return 0;
}

static void signal_once(struct scene *scene) {
    CHECK_INT(ferry_lock(&scene->mutex), 0);
    CHECK_INT(ferry_cond_signal(&scene->cond), 0);
    CHECK_INT(ferry_unlock(&scene->mutex), 0);
}

/* Order. */

static int64_t lock_and_note(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_lock(&a->scene->mutex), 0);
    note(a->scene, a->id);
    CHECK_INT(ferry_unlock(&a->scene->mutex), 0);
    return 0;
}

TASK_TEST(tasks_go_in_order) {
    struct scene scene;
    struct actor actors[4];
    ferry_future *f[4];
    set_up(&scene);
    for (int i = 0; i < 4; i++)
        actors[i] = (struct actor){.scene = &scene, .id = i + 1};
    for (int i = 0; i < 3; i++) {
        f[i] = ferry_spawn(wait_once, &actors[i]);
        UNTIL_WAITERS(&scene.cond, (size_t)i + 1);
    }
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    CHECK_INT(ferry_cond_signal(&scene.cond), 0);
    CHECK_INT(WAITERS(&scene.cond), 2);
    for (int i = 0; i < 10; i++)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(scene.n, 0);
    CHECK(task_parked(f[0])); /* it hasn't run at all */
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(f[0]), 0);
    CHECK_INT(WAITERS(&scene.cond), 2);

    CHECK_INT(ferry_lock(&scene.mutex), 0);
    f[3] = ferry_spawn(lock_and_note, &actors[3]); /* in the mutex's line before the signals */
    until_in_line(&scene.mutex, 1);
    for (int i = 0; i < 2048; i++)
        CHECK_INT(ferry_cond_signal(&scene.cond), 0);
    CHECK_INT(WAITERS(&scene.cond), 0);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_lock(&scene.mutex), 0); /* behind all of them */
    check_order(&scene, 4, (const int[]){1, 4, 2, 3});
    CHECK_INT(ferry_cond_wait_for(&scene.cond, 0), -ETIMEDOUT); /* no signal was left */
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    for (int i = 1; i < 4; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    return 0;
}

static struct scene anywhere = {.mutex = FERRY_MUTEX_INIT,
                                .cond = FERRY_COND_INIT(&anywhere.mutex)}; /* static */

/* Threads and tasks of two loops; one signal each, or one for all. */
static void check_all_kinds(bool broadcast) {
    struct actor actors[4];
    pthread_t threads[4];
    anywhere.n = 0;
    for (int i = 0; i < 4; i++) {
        actors[i] = (struct actor){.scene = &anywhere, .id = i + 1};
        threads[i] = start_outside(i % 2, wait_once, &actors[i]);
        UNTIL_WAITERS(&anywhere.cond, (size_t)i + 1);
    }
    CHECK_INT(ferry_lock(&anywhere.mutex), 0);
    if (broadcast) {
        CHECK_INT(ferry_cond_broadcast(&anywhere.cond), 0);
        CHECK_INT(ferry_cond_broadcast(&anywhere.cond), 0);
    } else {
        for (int i = 0; i < 4; i++)
            CHECK_INT(ferry_cond_signal(&anywhere.cond), 0);
    }
    CHECK_INT(in_line(&anywhere.mutex), 4);
    CHECK_INT(anywhere.n, 0);
    CHECK_INT(ferry_unlock(&anywhere.mutex), 0);
    CHECK_INT(lock_and_note(&(struct actor){.scene = &anywhere, .id = 5}), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    check_order(&anywhere, 5, (const int[]){1, 2, 3, 4, 5});
}

static void all_kinds_go_in_order(void **state) {
    (void)state;
    check_all_kinds(false);
    check_all_kinds(true);
}

/* A task signals a task of its own loop; a thread, later, gives it the mutex. */
static void *lock_until_asked(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_lock(&a->scene->mutex), 0);
    note(a->scene, a->id);
    until_in_line(&a->scene->mutex, 1);
    CHECK_INT(ferry_unlock(&a->scene->mutex), 0);
    return NULL;
}

TASK_TEST(woken_by_another_thread) {
    struct scene scene;
    set_up(&scene);
    struct actor waiter = {.scene = &scene, .id = 1};
    struct actor between = {.scene = &scene, .id = 2};
    ferry_future *f = ferry_spawn(wait_once, &waiter);
    UNTIL_WAITERS(&scene.cond, 1);
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    pthread_t thread = start_thread(lock_until_asked, &between);
    until_in_line(&scene.mutex, 1);
    CHECK_INT(ferry_cond_signal(&scene.cond), 0);
    const struct ferry__waiter *w = scene.mutex.last;
    CHECK(w->pinned == ferry_loop_current()); /* its waker may be the last to leave the loop */
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(f), 0);
    pthread_join(thread, NULL);
    check_order(&scene, 2, (const int[]){2, 1});
    return 0;
}

/* The mutex. */

static int64_t without_the_mutex(void *arg) {
    struct scene *scene = arg;
    CHECK_INT(ferry_cond_wait(&scene->cond), -EPERM);
    CHECK(strstr(ferry_errmsg(), "isn't held by the caller"));
    CHECK_INT(ferry_cond_wait_for(&scene->cond, 0), -EPERM);
    CHECK_INT(ferry_cond_signal(&scene->cond), -EPERM);
    CHECK_INT(ferry_cond_broadcast(&scene->cond), -EPERM);
    CHECK(scene->cond.first == NULL);
    return 0;
}

static void unlocked(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    assert_int_equal(without_the_mutex(&scene), 0);
    assert_int_equal(ferry_run(without_the_mutex, &scene), 0);
    assert_int_equal(ferry_lock(&scene.mutex), 0); /* somebody else */
    assert_int_equal(ferry_run(without_the_mutex, &scene), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, without_the_mutex, &scene)), 0);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);

    ferry_cond bare = {0};
    assert_int_equal(ferry_cond_wait(&bare), -EINVAL);
    assert_int_equal(ferry_cond_signal(&bare), -EINVAL);
    assert_int_equal(ferry_cond_broadcast(&bare), -EINVAL);
}

struct posted {
    struct scene scene;
    ferry_event done;
};

static int64_t wait_in_a_callback(void *arg) {
    struct posted *p = arg;
    CHECK_INT(ferry_lock(&p->scene.mutex), 0);
    CHECK_INT(ferry_cond_wait(&p->scene.cond), -EDEADLK);
    CHECK_INT(ferry_cond_wait_for(&p->scene.cond, 0), -EDEADLK);
    CHECK(held_by(&p->scene.mutex, ferry__ctx_self()));
    CHECK_INT(ferry_cond_signal(&p->scene.cond), 0);
    CHECK_INT(ferry_unlock(&p->scene.mutex), 0);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(in_a_callback) {
    struct posted p = {.done = FERRY_EVENT_INIT};
    struct actor a = {.scene = &p.scene, .id = 1};
    set_up(&p.scene);
    ferry_future *f = ferry_spawn(wait_once, &a);
    UNTIL_WAITERS(&p.scene.cond, 1);
    CHECK_INT(ferry_post(ferry_loop_current(), wait_in_a_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.rc, 0);
    return 0;
}

/* Cancel and time-out. */

/* Retaking the mutex: it waits in line like anybody, and the cancel doesn't keep it awake. */
TASK_TEST(cancelled_task) {
    struct scene scene;
    set_up(&scene);
    struct actor a = {.scene = &scene, .id = 1};
    ferry_future *f = ferry_spawn(wait_once, &a);
    UNTIL_WAITERS(&scene.cond, 1);
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    UNTIL_WAITERS(&scene.mutex, 1);
    CHECK(scene.cond.first == NULL);
    for (int i = 0; i < 10; i++) {
        ferry_cancel(f);
        CHECK_INT(ferry_yield(), 0);
        CHECK(task_parked(f));
    }
    CHECK(!ferry_done(f));
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.rc, -ECANCELED);
    return 0;
}

static void cancelled_thread(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    struct actor a = {.scene = &scene, .id = 1};
    pthread_t thread = start_in_thread(wait_in_a_scope, &a);
    UNTIL_WAITERS(&scene.cond, 1);
    assert_int_equal(ferry_lock(&scene.mutex), 0);
    ferry_scope_cancel(&a.scope);
    UNTIL_WAITERS(&scene.mutex, 1);
    assert_null(scene.cond.first);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    pthread_join(thread, NULL);
    assert_int_equal(a.rc, -ECANCELED);
}

static int64_t waits_while_cancelled(void *arg) {
    struct scene *scene = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_lock(&scene->mutex), 0);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_cond_wait(&scene->cond), -ECANCELED);
        CHECK_INT(ferry_cond_wait_for(&scene->cond, 5), -ECANCELED);
    }
    CHECK_INT(ferry_cond_signal(&scene->cond), 0); /* it never waits */
    CHECK(held_by(&scene->mutex, ferry__ctx_self()));
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_unlock(&scene->mutex), 0);
    return 0;
}

static void cancelled_at_entry(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    assert_int_equal(waits_while_cancelled(&scene), 0);
    assert_int_equal(ferry_run(waits_while_cancelled, &scene), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, waits_while_cancelled, &scene)), 0);
}

TASK_TEST(signalled_then_cancelled) {
    struct scene scene;
    set_up(&scene);
    struct actor w1 = {.scene = &scene, .id = 1};
    struct actor w2 = {.scene = &scene, .id = 2};
    ferry_future *f1 = ferry_spawn(wait_in_a_scope, &w1);
    UNTIL_WAITERS(&scene.cond, 1);
    ferry_future *f2 = ferry_spawn(wait_once, &w2);
    UNTIL_WAITERS(&scene.cond, 2);
    signal_once(&scene);
    ferry_scope_cancel(&w1.scope);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(w1.rc, 0); /* it consumed the signal */
    CHECK_INT(WAITERS(&scene.cond), 1);
    signal_once(&scene);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(w2.rc, 0);

    /* Cancelled between the signal and the unlock. */
    f1 = ferry_spawn(wait_in_a_scope, &w1);
    UNTIL_WAITERS(&scene.cond, 1);
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    CHECK_INT(ferry_cond_signal(&scene.cond), 0);
    ferry_scope_cancel(&w1.scope);
    CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(w1.rc, 0);
    return 0;
}

TASK_TEST(cancelled_then_signalled) {
    struct scene scene;
    set_up(&scene);
    struct actor w1 = {.scene = &scene, .id = 1};
    struct actor w2 = {.scene = &scene, .id = 2};
    ferry_future *f1 = ferry_spawn(wait_once, &w1);
    UNTIL_WAITERS(&scene.cond, 1);
    ferry_future *f2 = ferry_spawn(wait_once, &w2);
    UNTIL_WAITERS(&scene.cond, 2);
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    ferry_cancel(f1);
    CHECK_INT(ferry_cond_signal(&scene.cond), 0);
    CHECK_INT(WAITERS(&scene.cond), 0);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(w1.rc, -ECANCELED);
    CHECK_INT(w2.rc, 0);
    return 0;
}

static void thread_signalled_then_cancelled(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    struct actor w1 = {.scene = &scene, .id = 1};
    struct actor w2 = {.scene = &scene, .id = 2};
    pthread_t t1 = start_in_thread(wait_in_a_scope, &w1);
    UNTIL_WAITERS(&scene.cond, 1);
    pthread_t t2 = start_in_thread(wait_in_a_scope, &w2);
    UNTIL_WAITERS(&scene.cond, 2);
    assert_int_equal(ferry_lock(&scene.mutex), 0);
    assert_int_equal(ferry_cond_signal(&scene.cond), 0);
    ferry_scope_cancel(&w1.scope);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    pthread_join(t1, NULL);
    assert_int_equal(w1.rc, 0);
    assert_int_equal(WAITERS(&scene.cond), 1);
    ferry_scope_cancel(&w2.scope);
    pthread_join(t2, NULL);
    assert_int_equal(w2.rc, -ECANCELED);
}

/* As every caller should wait. */
static int64_t wait_until_ready(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_lock(&a->scene->mutex), 0);
    a->scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&a->scope, a->ms), 0);
    a->rc = 0;
    while (a->rc == 0 && !a->scene->ready) {
        note(a->scene, a->id); /* how often it looked */
        a->rc = ferry_cond_wait(&a->scene->cond);
    }
    a->rc = ferry_scope_close(&a->scope, a->rc);
    CHECK(held_by(&a->scene->mutex, ferry__ctx_self()));
    CHECK_INT(ferry_unlock(&a->scene->mutex), 0);
    return 0;
}

/* Signals in vain, then in earnest. */
static void signal_in_vain(struct scene *scene) {
    for (size_t looks = 1; looks <= 3; looks++) {
        UNTIL_WAITERS(&scene->cond, 1);
        CHECK_INT(ferry_lock(&scene->mutex), 0);
        CHECK_INT(scene->n, looks);
        scene->ready = looks == 3;
        CHECK_INT(ferry_cond_broadcast(&scene->cond), 0);
        CHECK_INT(ferry_unlock(&scene->mutex), 0);
    }
}

TASK_TEST(predicate_in_a_task) {
    struct scene scene;
    set_up(&scene);
    struct actor a = {.scene = &scene, .id = 1, .ms = FERRY_FOREVER};
    ferry_future *f = ferry_spawn(wait_until_ready, &a);
    signal_in_vain(&scene);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.rc, 0);
    scene.ready = false;
    a.ms = 5; /* and nobody signals */
    CHECK_INT(ferry_await(ferry_spawn(wait_until_ready, &a)), 0);
    CHECK_INT(a.rc, -ETIMEDOUT);
    CHECK(scene.cond.first == NULL);
    return 0;
}

static void predicate_in_a_thread(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    struct actor a = {.scene = &scene, .id = 1, .ms = FERRY_FOREVER};
    pthread_t thread = start_in_thread(wait_until_ready, &a);
    signal_in_vain(&scene);
    pthread_join(thread, NULL);
    assert_int_equal(a.rc, 0);
    scene.ready = false;
    a.ms = 5;
    pthread_join(start_in_thread(wait_until_ready, &a), NULL);
    assert_int_equal(a.rc, -ETIMEDOUT);
    assert_null(scene.cond.first);
}

static int64_t time_outs(void *arg) {
    struct scene *scene = arg;
    CHECK_INT(ferry_lock(&scene->mutex), 0);
    static const int64_t ms[] = {5, 0, -1};
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_cond_wait_for(&scene->cond, ms[i]), -ETIMEDOUT);
        CHECK(held_by(&scene->mutex, ferry__ctx_self()));
        CHECK(scene->cond.first == NULL);
    }
    CHECK_INT(ferry_unlock(&scene->mutex), 0);
    return 0;
}

static void timed_out(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    assert_int_equal(time_outs(&scene), 0);
    assert_int_equal(ferry_run(time_outs, &scene), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, time_outs, &scene)), 0);
}

/* Signalled in time, it waits for the mutex beyond its own time limit and beyond the deadline of a
 * group of its own: the members of that are told when it comes, not when the mutex is free. */
struct patient {
    struct scene *scene;
    ferry_event begun; /* the member has */
    _Atomic bool member_told;
    _Atomic bool over;    /* its wait */
    ferry_executor *pool; /* NULL: the member is a task */
    int64_t ms;           /* of its wait; the group has twice as long */
    int64_t rc;
};

static int64_t sleep_until_told(void *arg) {
    struct patient *p = arg;
    ferry_event_set(&p->begun);
    CHECK_INT(ferry_sleep(FERRY_FOREVER), -ECANCELED);
    atomic_store(&p->member_told, true);
    return 0;
}

static int64_t wait_with_a_group(void *arg) {
    struct patient *p = arg;
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_lock(&p->scene->mutex), 0);
    CHECK_INT(ferry_group_open_for(&group, 2 * p->ms), 0);
    if (p->pool)
        CHECK_INT(ferry_group_submit(&group, p->pool, sleep_until_told, p), 0);
    else
        CHECK_INT(ferry_group_spawn(&group, sleep_until_told, p), 0);
    /* A job that is told before never runs, and tells nobody: then this is cancelled as well. */
    ferry_event_wait(&p->begun);
    p->rc = ferry_cond_wait_for(&p->scene->cond, p->ms);
    atomic_store(&p->over, true);
    int rc = ferry_yield();
    while (rc == 0) /* the wait was over before the group's time, which shows nothing */
        rc = ferry_sleep(FERRY_FOREVER);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_group_close(&group, rc), -ETIMEDOUT);
    CHECK_INT(ferry_unlock(&p->scene->mutex), 0);
    return 0;
}

static const void *first_in_line(unsigned *lock, void *const *first) {
    ferry__lock(lock);
    const void *w = *first;
    ferry__unlock(lock);
    return w;
}

/* Signals, and holds the mutex until the member was told. Returns whether the signal came in time:
 * then it has sent the waiter from one line to the other. On a slow machine it may not, which shows
 * nothing, and another one is to try, with more time. */
static bool signal_and_hold(struct patient *p) {
    ferry_cond *cond = &p->scene->cond;
    ferry_mutex *mutex = &p->scene->mutex;
    while (WAITERS(cond) == 0 && !atomic_load(&p->over))
        ferry_yield();
    CHECK_INT(ferry_lock(mutex), 0);
    const void *waiter = first_in_line(&cond->lock, &cond->first);
    CHECK_INT(ferry_cond_signal(cond), 0);
    bool in_time = waiter && first_in_line(&mutex->lock, &mutex->first) == waiter;
    while (in_time && !atomic_load(&p->member_told))
        ferry_sleep(1);
    CHECK_INT(ferry_unlock(mutex), 0);
    return in_time;
}

TASK_TEST(patient_task) {
    struct scene scene;
    struct patient p;
    int64_t ms = 20;
    ferry_future *f;
    bool in_time;
    do {
        set_up(&scene);
        p = (struct patient){.scene = &scene, .ms = ms, .rc = 1};
        f = ferry_spawn(wait_with_a_group, &p);
        in_time = signal_and_hold(&p);
        CHECK_INT(ferry_await(f), 0);
        ms *= 2;
    } while (!in_time);
    CHECK_INT(p.rc, 0);
    return 0;
}

static void patient_thread(void **state) {
    (void)state;
    struct scene scene;
    struct patient p;
    int64_t ms = 20;
    bool in_time;
    ferry_executor *pool;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    do {
        set_up(&scene);
        p = (struct patient){.scene = &scene, .pool = pool, .ms = ms, .rc = 1};
        pthread_t thread = start_in_thread(wait_with_a_group, &p);
        in_time = signal_and_hold(&p);
        pthread_join(thread, NULL);
        ms *= 2;
    } while (!in_time);
    assert_int_equal(p.rc, 0);
    ferry_executor_free(pool);
}

/* Who signals and ends with the mutex. */
static int64_t signal_and_end(void *arg) {
    struct scene *scene = arg;
    CHECK_INT(ferry_lock(&scene->mutex), 0);
    CHECK_INT(ferry_cond_signal(&scene->cond), 0);
    return 0;
}

/* Ends with the mutex when somebody waits for it. */
static int64_t lock_and_end(void *arg) {
    struct scene *scene = arg;
    CHECK_INT(ferry_lock(&scene->mutex), 0);
    until_in_line(&scene->mutex, 1);
    return 0;
}

static int64_t wait_for_the_dead(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_lock(&a->scene->mutex), 0);
    a->rc = ferry_cond_wait_for(&a->scene->cond, a->ms);
    CHECK(held_by(&a->scene->mutex, ferry__ctx_self()));
    CHECK_INT(ferry_unlock(&a->scene->mutex), 0);
    return 0;
}

TASK_TEST(dead_owner) {
    struct scene scene;
    set_up(&scene);
    struct actor a = {.scene = &scene, .ms = FERRY_FOREVER};
    ferry_future *f = ferry_spawn(wait_for_the_dead, &a);
    UNTIL_WAITERS(&scene.cond, 1);
    CHECK_INT(ferry_await(ferry_spawn(signal_and_end, &scene)), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.rc, -EOWNERDEAD);

    f = ferry_submit(NULL, wait_for_the_dead, &a);
    UNTIL_WAITERS(&scene.cond, 1);
    CHECK_INT(ferry_await(ferry_submit(NULL, signal_and_end, &scene)), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.rc, -EOWNERDEAD);

    /* The same with a time-out: the mutex is the graver news. */
    a.ms = 1;
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    f = ferry_spawn(wait_for_the_dead, &a);
    until_in_line(&scene.mutex, 1);
    ferry_future *owner = ferry_spawn(lock_and_end, &scene); /* has it as long as the other waits */
    until_in_line(&scene.mutex, 2);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(owner), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.rc, -EOWNERDEAD);
    CHECK_INT(ferry_trylock(&scene.mutex), 0);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    return 0;
}

/* Every participant brings a token, then takes one, or gives up when it is cancelled: were a signal
 * lost, somebody would wait beside a token for ever. */
struct tokens {
    ferry_mutex mutex;
    ferry_cond cond;
    long left, brought, taken; /* under the mutex */
    int inside;                /* under the mutex */
};

static bool locked(struct tokens *t) {
    int rc = ferry_lock(&t->mutex);
    CHECK(rc == 0 || rc == -ECANCELED);
    if (rc == 0)
        CHECK_INT(t->inside++, 0);
    return rc == 0;
}

static void unlock(struct tokens *t) {
    CHECK_INT(--t->inside, 0);
    CHECK_INT(ferry_unlock(&t->mutex), 0);
}

static void token_round(void *arg, int who, unsigned *seed) {
    (void)who;
    struct tokens *t = arg;
    if (!locked(t))
        return;
    t->brought++;
    t->left++;
    CHECK_INT(rand_r(seed) % 8 == 0 ? ferry_cond_broadcast(&t->cond) : ferry_cond_signal(&t->cond),
              0);
    if (rand_r(seed) % 4 == 0)
        ferry_yield();
    unlock(t);
    if (!locked(t))
        return;
    int64_t ms = rand_r(seed) % 4 == 0 ? rand_r(seed) % 2 : FERRY_FOREVER;
    int rc = 0;
    while (rc == 0 && t->left == 0) {
        t->inside--;
        rc = ferry_cond_wait_for(&t->cond, ms);
        CHECK_INT(t->inside++, 0);
    }
    CHECK(rc == 0 || rc == -ECANCELED || (rc == -ETIMEDOUT && ms != FERRY_FOREVER));
    if (rc == 0) {
        t->left--;
        t->taken++;
    }
    unlock(t);
}

static void storm(void **state) {
    (void)state;
    struct tokens t = {.mutex = FERRY_MUTEX_INIT, .cond = FERRY_COND_INIT(&t.mutex)};
    storm_run(3, 2, 8, support_slow() ? 300 : 5000, token_round, &t);
    assert_true(t.taken > 0);
    assert_int_equal(t.left, t.brought - t.taken);
    assert_null(t.mutex.owner);
    assert_null(t.mutex.first);
    assert_null(t.cond.first);
}

/* Nobody has to give up: two who pass a ball, each waiting for the other. */
struct ball {
    ferry_mutex mutex;
    ferry_cond cond;
    int at, rounds; /* under the mutex */
};

static int64_t play_ball(void *arg) {
    struct ball *b = arg;
    CHECK_INT(ferry_lock(&b->mutex), 0);
    for (int i = 0; i < b->rounds; i++) {
        int mine = ++b->at;
        CHECK_INT(ferry_cond_signal(&b->cond), 0);
        while (b->at == mine && mine < 2 * b->rounds)
            CHECK_INT(ferry_cond_wait(&b->cond), 0);
    }
    CHECK_INT(ferry_unlock(&b->mutex), 0);
    return 0;
}

static void ball_between_worlds(void **state) {
    (void)state;
    struct ball b = {.mutex = FERRY_MUTEX_INIT,
                     .cond = FERRY_COND_INIT(&b.mutex),
                     .rounds = support_slow() ? 200 : 5000};
    pthread_t thread = start_in_thread(play_ball, &b);
    assert_int_equal(ferry_run(play_ball, &b), 0);
    pthread_join(thread, NULL);
    assert_int_equal(b.at, 2 * b.rounds);
}

struct first_call {
    struct scene *scene;
    int wait, signal, broadcast;
};

/* A thread's first call makes its record. */
static void *first_calls(void *arg) {
    struct first_call *c = arg;
    c->wait = ferry_cond_wait(&c->scene->cond);
    c->signal = ferry_cond_signal(&c->scene->cond);
    c->broadcast = ferry_cond_broadcast(&c->scene->cond);
    return NULL;
}

static void no_memory_for_a_thread(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    struct first_call c = {.scene = &scene};
    oom_after(0, true);
    pthread_join(start_thread(first_calls, &c), NULL);
    oom_never();
    assert_true(oom_hit());
    assert_int_equal(c.wait, -ENOMEM);
    assert_int_equal(c.signal, -ENOMEM);
    assert_int_equal(c.broadcast, -ENOMEM);
    pthread_join(start_thread(first_calls, &c), NULL);
    assert_int_equal(c.wait, -EPERM);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        /* First: later there are records of ended threads to use again. */
        CASE("out of memory for a thread's record", no_memory_for_a_thread),
        CASE("CND-01 three tasks: one signal, then 2048", tasks_go_in_order),
        CASE("CND-01 threads and tasks of two loops: signals, broadcast", all_kinds_go_in_order),
        CASE("CND-01 signalled on its own loop, handed the mutex by a thread",
             woken_by_another_thread),
        CASE("CND-02 without holding the mutex", unlocked),
        CASE("in a callback nothing may wait, but signals may be given", in_a_callback),
        CASE("CND-03 a task cancelled while it waits takes the mutex again", cancelled_task),
        CASE("CND-03 a thread cancelled while it waits", cancelled_thread),
        CASE("CND-03 in a cancelled scope", cancelled_at_entry),
        CASE("CND-05 signalled, then cancelled: the signal is consumed", signalled_then_cancelled),
        CASE("CND-05 cancelled, then signalled: the next one has it", cancelled_then_signalled),
        CASE("CND-05 a thread that was signalled, then cancelled", thread_signalled_then_cancelled),
        CASE("CND-07 a predicate in a task: signals in vain, time-out", predicate_in_a_task),
        CASE("CND-07 the same in a thread", predicate_in_a_thread),
        CASE("CND-07 time-outs: the mutex is held", timed_out),
        CASE("CND-07 a task that was signalled in time waits for the mutex", patient_task),
        CASE("CND-07 a thread that was signalled in time waits for the mutex", patient_thread),
        CASE("an owner that ended without unlocking", dead_owner),
        CASE("a ball between a task and a thread", ball_between_worlds),
        CASE("threads and tasks, cancelled at any moment: no signal is lost", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

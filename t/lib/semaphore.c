/* Semaphores: order, many permits at once, bounds, cancel and time-out, for tasks and threads. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "oom.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

struct scene {
    ferry_sem sem;
    pthread_mutex_t mutex;
    int order[64]; /* under the mutex */
    size_t n;      /* under the mutex */
};

struct actor {
    struct scene *scene;
    int id;
    int64_t permits;
    int rounds;
    ferry_scope scope;
    int64_t rc;
};

static void note(struct scene *scene, int id) {
    pthread_mutex_lock(&scene->mutex);
    scene->order[scene->n++] = id;
    pthread_mutex_unlock(&scene->mutex);
}

/* Takes and keeps. */
static int64_t acquire(void *arg) {
    struct actor *a = arg;
    a->rc = ferry_sem_acquire(&a->scene->sem, a->permits);
    if (a->rc == 0)
        note(a->scene, a->id);
    return 0;
}

static int64_t acquire_and_release(void *arg) {
    struct actor *a = arg;
    for (int i = 0; i < a->rounds; i++) {
        CHECK_INT(ferry_sem_acquire(&a->scene->sem, 1), 0);
        note(a->scene, a->id);
        CHECK_INT(ferry_sem_release(&a->scene->sem, 1), 0);
    }
    return 0;
}

/* Comes back only when the others stand in line. */
static void *acquire_and_release_thread(void *arg) {
    struct actor *a = arg;
    for (int i = 0; i < a->rounds; i++) {
        CHECK_INT(ferry_sem_acquire(&a->scene->sem, 1), 0);
        note(a->scene, a->id);
        if (i < a->rounds - 1)
            UNTIL_WAITERS(&a->scene->sem, 2);
        CHECK_INT(ferry_sem_release(&a->scene->sem, 1), 0);
    }
    return NULL;
}

static void check_order(const struct scene *scene, size_t n, const int *order) {
    CHECK_INT(scene->n, n);
    for (size_t i = 0; i < n && i < scene->n; i++)
        CHECK_INT(scene->order[i], order[i]);
}

static void check_rotation(const struct scene *scene, size_t rounds) {
    CHECK_INT(scene->n, 3 * rounds);
    for (size_t i = 0; i < scene->n; i++)
        CHECK_INT(scene->order[i], i % 3 + 1);
}

TASK_TEST(tasks_rotate) {
    struct scene scene = {.sem = FERRY_SEM_INIT(0), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor actors[3];
    ferry_future *f[3];
    for (int i = 0; i < 3; i++) {
        actors[i] = (struct actor){.scene = &scene, .id = i + 1, .rounds = 10};
        f[i] = ferry_spawn(acquire_and_release, &actors[i]);
    }
    UNTIL_WAITERS(&scene.sem, 3);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    check_rotation(&scene, 10);
    CHECK_INT(ferry_sem_value(&scene.sem), 1);
    return 0;
}

static void threads_rotate(void **state) {
    (void)state;
    struct scene scene = {.sem = FERRY_SEM_INIT(0), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor actors[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        actors[i] = (struct actor){.scene = &scene, .id = i + 1, .rounds = 10};
        threads[i] = start_thread(acquire_and_release_thread, &actors[i]);
        UNTIL_WAITERS(&scene.sem, (size_t)i + 1);
    }
    assert_int_equal(ferry_sem_release(&scene.sem, 1), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    check_rotation(&scene, 10);
}

TASK_TEST(three_releases_in_one_tick) {
    struct scene scene = {.sem = FERRY_SEM_INIT(0), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor actors[4];
    ferry_future *f[4];
    for (int i = 0; i < 4; i++)
        actors[i] = (struct actor){.scene = &scene, .id = i + 1, .permits = 1};
    for (int i = 0; i < 3; i++)
        f[i] = ferry_spawn(acquire, &actors[i]);
    UNTIL_WAITERS(&scene.sem, 3);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    CHECK_INT(WAITERS(&scene.sem), 0);
    CHECK_INT(ferry_sem_value(&scene.sem), 0);
    CHECK_INT(ferry_sem_try(&scene.sem, 1), -EAGAIN); /* all three have owners */
    f[3] = ferry_spawn(acquire, &actors[3]);          /* a later arrival */
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    UNTIL_WAITERS(&scene.sem, 1);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    CHECK_INT(ferry_await(f[3]), 0);
    check_order(&scene, 4, (const int[]){1, 2, 3, 4});
    return 0;
}

static int64_t acquire_in_a_scope(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
    acquire(a);
    ferry_scope_close(&a->scope, 0);
    return 0;
}

/* Whoever wants many holds up those behind; when it is cancelled they have their turn. */
TASK_TEST(many_permits_hold_the_line) {
    struct scene scene = {.sem = FERRY_SEM_INIT(1), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor big = {.scene = &scene, .id = 1, .permits = 3};
    struct actor small = {.scene = &scene, .id = 2, .permits = 1};
    struct actor last = {.scene = &scene, .id = 3, .permits = 2};
    ferry_future *fb = ferry_spawn(acquire_in_a_scope, &big);
    UNTIL_WAITERS(&scene.sem, 1);
    CHECK_INT(ferry_sem_value(&scene.sem), 1);
    CHECK_INT(ferry_sem_try(&scene.sem, 1), -EAGAIN); /* no stealing */
    CHECK_INT(ferry_sem_acquire_for(&scene.sem, 1, 0), -ETIMEDOUT);
    ferry_future *fs = ferry_spawn(acquire, &small);
    ferry_future *fl = ferry_spawn(acquire, &last);
    UNTIL_WAITERS(&scene.sem, 3);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0); /* enough for those behind */
    CHECK_INT(WAITERS(&scene.sem), 3);
    CHECK_INT(ferry_sem_value(&scene.sem), 2);
    ferry_scope_cancel(&big.scope);
    CHECK_INT(ferry_await(fb), 0);
    CHECK_INT(big.rc, -ECANCELED);
    CHECK_INT(ferry_await(fs), 0);
    CHECK_INT(WAITERS(&scene.sem), 1);
    CHECK_INT(ferry_sem_value(&scene.sem), 1);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    CHECK_INT(ferry_await(fl), 0);
    CHECK_INT(ferry_sem_value(&scene.sem), 0);
    check_order(&scene, 2, (const int[]){2, 3});
    return 0;
}

static void many_permits_in_threads(void **state) {
    (void)state;
    struct scene scene = {.sem = FERRY_SEM_INIT(2), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor big = {.scene = &scene, .id = 1, .permits = 3};
    struct actor small[2] = {{.scene = &scene, .id = 2, .permits = 1},
                             {.scene = &scene, .id = 2, .permits = 1}};
    pthread_t tb = start_in_thread(acquire_in_a_scope, &big);
    UNTIL_WAITERS(&scene.sem, 1);
    pthread_t ts[2];
    for (size_t i = 0; i < 2; i++) {
        ts[i] = start_in_thread(acquire, &small[i]);
        UNTIL_WAITERS(&scene.sem, i + 2);
    }
    ferry_scope_cancel(&big.scope);
    pthread_join(tb, NULL);
    assert_int_equal(big.rc, -ECANCELED);
    for (int i = 0; i < 2; i++)
        pthread_join(ts[i], NULL);
    assert_int_equal(ferry_sem_value(&scene.sem), 0);
    assert_null(scene.sem.first);
}

/* A waiter that was cancelled and has not run yet doesn't stand in anybody's way. */
TASK_TEST(cancelled_head_is_passed) {
    struct scene scene = {.sem = FERRY_SEM_INIT(1), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor big = {.scene = &scene, .id = 1, .permits = 2};
    ferry_future *f = ferry_spawn(acquire, &big);
    UNTIL_WAITERS(&scene.sem, 1);
    CHECK_INT(ferry_cancel(f), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_sem_acquire_for(&scene.sem, 1, 0), 0);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(big.rc, -ECANCELED);
    CHECK_INT(ferry_sem_value(&scene.sem), 1);
    return 0;
}

TASK_TEST(granted_then_cancelled) {
    struct scene scene = {.sem = FERRY_SEM_INIT(0), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor t1 = {.scene = &scene, .id = 1, .permits = 1};
    struct actor t2 = {.scene = &scene, .id = 2, .permits = 1};
    ferry_future *f1 = ferry_spawn(acquire_in_a_scope, &t1);
    UNTIL_WAITERS(&scene.sem, 1);
    ferry_future *f2 = ferry_spawn(acquire, &t2);
    UNTIL_WAITERS(&scene.sem, 2);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    ferry_scope_cancel(&t1.scope);
    CHECK_INT(WAITERS(&scene.sem), 1); /* the permit is t1's */
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(t1.rc, 0);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(t2.rc, 0);
    CHECK_INT(ferry_sem_value(&scene.sem), 0);
    return 0;
}

TASK_TEST(cancelled_then_granted) {
    struct scene scene = {.sem = FERRY_SEM_INIT(0), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor t1 = {.scene = &scene, .id = 1, .permits = 1};
    struct actor t2 = {.scene = &scene, .id = 2, .permits = 1};
    ferry_future *f1 = ferry_spawn(acquire, &t1);
    UNTIL_WAITERS(&scene.sem, 1);
    ferry_future *f2 = ferry_spawn(acquire, &t2);
    UNTIL_WAITERS(&scene.sem, 2);
    ferry_cancel(f1);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    CHECK_INT(WAITERS(&scene.sem), 0);
    CHECK_INT(ferry_await(f1), 0);
    CHECK_INT(t1.rc, -ECANCELED);
    CHECK_INT(ferry_await(f2), 0);
    CHECK_INT(t2.rc, 0);

    ferry_future *f3 = ferry_spawn(acquire, &t1);
    UNTIL_WAITERS(&scene.sem, 1);
    ferry_cancel(f3);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0); /* nobody wants it: back to the value */
    CHECK_INT(ferry_sem_value(&scene.sem), 1);
    CHECK_INT(ferry_await(f3), 0);
    CHECK_INT(ferry_sem_acquire(&scene.sem, 1), 0);
    return 0;
}

struct gated {
    ferry_sem sem;
    ferry_scope scope;
    gate cancelled;
};

static void *acquire_then_wait(void *arg) {
    struct gated *g = arg;
    CHECK_INT(ferry_scope_open(&g->scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_sem_acquire(&g->sem, 1), 0);
    gate_wait(&g->cancelled);
    CHECK_INT(ferry_sem_acquire(&g->sem, 1), -ECANCELED);
    CHECK_INT(ferry_scope_close(&g->scope, 0), 0);
    return NULL;
}

static void thread_granted_then_cancelled(void **state) {
    (void)state;
    struct gated scene = {.sem = FERRY_SEM_INIT(0), .cancelled = GATE_INIT};
    pthread_t thread = start_thread(acquire_then_wait, &scene);
    UNTIL_WAITERS(&scene.sem, 1);
    assert_int_equal(ferry_sem_release(&scene.sem, 1), 0);
    ferry_scope_cancel(&scene.scope);
    gate_open(&scene.cancelled);
    pthread_join(thread, NULL);
    assert_int_equal(ferry_sem_value(&scene.sem), 0);
}

static void bounds(void **state) {
    (void)state;
    ferry_sem bounded = FERRY_SEM_BOUNDED_INIT(2, 3);
    assert_int_equal(ferry_sem_release(&bounded, 2), -EOVERFLOW);
    assert_true(CHECK(strstr(ferry_errmsg(), "bound")));
    assert_int_equal(ferry_sem_value(&bounded), 2);
    assert_int_equal(ferry_sem_release(&bounded, 1), 0);
    assert_int_equal(ferry_sem_release(&bounded, 1), -EOVERFLOW);
    assert_int_equal(ferry_sem_value(&bounded), 3);
    assert_int_equal(ferry_sem_acquire(&bounded, 4), -EINVAL);
    assert_int_equal(ferry_sem_acquire_for(&bounded, 4, 0), -EINVAL);
    assert_int_equal(ferry_sem_try(&bounded, 4), -EINVAL);
    assert_int_equal(ferry_sem_acquire(&bounded, 3), 0);
    assert_int_equal(ferry_sem_try(&bounded, 1), -EAGAIN);
    assert_int_equal(ferry_sem_release(&bounded, 4), -EOVERFLOW);

    ferry_sem plain = FERRY_SEM_INIT(1);
    assert_int_equal(ferry_sem_release(&plain, 5), 0);
    assert_int_equal(ferry_sem_value(&plain), 6);
}

/* A release too many is refused also while somebody waits for more than there is. */
TASK_TEST(over_release_with_a_waiter) {
    struct scene scene = {.sem = FERRY_SEM_BOUNDED_INIT(2, 3), .mutex = PTHREAD_MUTEX_INITIALIZER};
    struct actor a = {.scene = &scene, .id = 1, .permits = 3};
    ferry_future *f = ferry_spawn(acquire, &a);
    UNTIL_WAITERS(&scene.sem, 1);
    CHECK_INT(ferry_sem_release(&scene.sem, 2), -EOVERFLOW);
    CHECK_INT(WAITERS(&scene.sem), 1);
    CHECK_INT(ferry_sem_release(&scene.sem, 1), 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_sem_value(&scene.sem), 0);
    return 0;
}

static void counter_range(void **state) {
    (void)state;
    ferry_sem sem = FERRY_SEM_INIT(1);
    assert_int_equal(ferry_sem_release(&sem, INT64_MAX), -EOVERFLOW);
    assert_int_equal(ferry_sem_value(&sem), 1);
    assert_int_equal(ferry_sem_release(&sem, INT64_MAX - 1), 0);
    assert_int_equal(ferry_sem_release(&sem, 1), -EOVERFLOW);
    assert_true(ferry_sem_value(&sem) == INT64_MAX);
    assert_int_equal(ferry_sem_acquire(&sem, INT64_MAX), 0);
    assert_int_equal(ferry_sem_value(&sem), 0);
}

struct crowd {
    ferry_sem sem;
    int inside, most, passed;
};

static int64_t pass(void *arg) {
    struct crowd *crowd = arg;
    CHECK_INT(ferry_sem_acquire(&crowd->sem, 1), 0);
    if (++crowd->inside > crowd->most)
        crowd->most = crowd->inside;
    ferry_yield();
    crowd->inside--;
    crowd->passed++;
    CHECK_INT(ferry_sem_release(&crowd->sem, 1), 0);
    return 0;
}

TASK_TEST(a_thousand_tasks) {
    enum { N = 1000 };
    static ferry_future *f[N];
    struct crowd crowd = {.sem = FERRY_SEM_INIT(5)};
    for (int i = 0; i < N; i++)
        f[i] = ferry_spawn(pass, &crowd);
    for (int i = 0; i < N; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    CHECK_INT(crowd.passed, N);
    CHECK_INT(crowd.most, 5);
    CHECK_INT(ferry_sem_value(&crowd.sem), 5);
    return 0;
}

static void bad_values(void **state) {
    (void)state;
    ferry_sem sem = FERRY_SEM_INIT(7);
    assert_int_equal(ferry_sem_init(&sem, -1, 0), -EINVAL);
    assert_int_equal(ferry_sem_init(&sem, 3, 2), -EINVAL);
    assert_int_equal(ferry_sem_init(&sem, 0, -1), -EINVAL);
    assert_int_equal(ferry_sem_value(&sem), 7);
    assert_int_equal(ferry_sem_init(&sem, 0, 2), 0);
    assert_int_equal(ferry_sem_value(&sem), 0);
    static const int64_t none[] = {0, -1, INT64_MIN};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ferry_sem_acquire(&sem, none[i]), -EINVAL);
        assert_int_equal(ferry_sem_try(&sem, none[i]), -EINVAL);
        assert_int_equal(ferry_sem_release(&sem, none[i]), -EINVAL);
    }
    assert_int_equal(ferry_sem_value(&sem), 0);

    ferry_sem negative = FERRY_SEM_INIT(-1);
    assert_int_equal(ferry_sem_acquire(&negative, 1), -EINVAL);
    assert_int_equal(ferry_sem_try(&negative, 1), -EINVAL);
    assert_int_equal(ferry_sem_release(&negative, 1), -EINVAL);
    ferry_sem above = FERRY_SEM_BOUNDED_INIT(4, 2);
    assert_int_equal(ferry_sem_acquire(&above, 1), -EINVAL);
    assert_true(CHECK(strstr(ferry_errmsg(), "starts with")));
}

static int64_t acquire_job(void *arg) {
    return ferry_sem_acquire(arg, 1);
}

struct posted {
    ferry_sem *sem;
    ferry_event done;
};

static int64_t acquire_in_a_callback(void *arg) {
    struct posted *p = arg;
    CHECK_INT(ferry_sem_acquire(p->sem, 1), 0);
    CHECK_INT(ferry_sem_acquire(p->sem, 1), -EDEADLK);
    CHECK_INT(ferry_sem_acquire_for(p->sem, 1, 0), -EDEADLK);
    CHECK_INT(ferry_sem_try(p->sem, 1), -EAGAIN);
    CHECK(p->sem->first == NULL);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(from_everywhere) {
    ferry_sem sem = FERRY_SEM_INIT(0);
    ferry_future *job = ferry_submit(NULL, acquire_job, &sem);
    UNTIL_WAITERS(&sem, 1);
    CHECK_INT(ferry_sem_release(&sem, 2), 0);
    CHECK_INT(ferry_await(job), 0);
    struct posted p = {&sem, FERRY_EVENT_INIT};
    CHECK_INT(ferry_post(ferry_loop_current(), acquire_in_a_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    return 0;
}

static int64_t cancel_and_time_out(void *arg) {
    ferry_sem sem = FERRY_SEM_INIT(1);
    (void)arg;
    CHECK_INT(ferry_sem_acquire_for(&sem, 1, -1), 0); /* what is free beats the clock */
    CHECK_INT(ferry_sem_acquire_for(&sem, 1, -1), -ETIMEDOUT);
    CHECK_INT(ferry_sem_acquire_for(&sem, 1, 5), -ETIMEDOUT);
    CHECK(sem.first == NULL);
    CHECK_INT(ferry_sem_release(&sem, 1), 0);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_sem_acquire(&sem, 1), -ECANCELED);
    CHECK_INT(ferry_sem_value(&sem), 1);
    CHECK_INT(ferry_sem_try(&sem, 1), 0);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    return 0;
}

TASK_TEST(cancel_and_time_out_in_a_task) {
    return cancel_and_time_out(NULL);
}

static void cancel_and_time_out_in_threads(void **state) {
    (void)state;
    assert_int_equal(cancel_and_time_out(NULL), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, cancel_and_time_out, NULL)), 0);
}

struct permits {
    ferry_sem sem;
    _Atomic long inside;
};

enum { PERMITS = 5 };

static void permits_round(void *arg, int who, unsigned *seed) {
    struct permits *p = arg;
    (void)who;
    int64_t n = 1 + rand_r(seed) % PERMITS;
    int what = rand_r(seed) % 8;
    int rc = what == 0   ? ferry_sem_try(&p->sem, n)
             : what == 1 ? ferry_sem_acquire_for(&p->sem, n, 0)
             : what == 2 ? ferry_sem_acquire_for(&p->sem, n, 1)
                         : ferry_sem_acquire(&p->sem, n);
    if (rc != 0) {
        CHECK(rc == -ECANCELED || (rc == -EAGAIN && what == 0) ||
              (rc == -ETIMEDOUT && (what == 1 || what == 2)));
        return;
    }
    long inside = atomic_fetch_add(&p->inside, (long)n) + (long)n;
    CHECK(inside <= PERMITS);
    if (rand_r(seed) % 4 == 0)
        ferry_yield();
    atomic_fetch_sub(&p->inside, (long)n);
    CHECK_INT(ferry_sem_release(&p->sem, n), 0);
}

static void storm(void **state) {
    (void)state;
    struct permits p = {.sem = FERRY_SEM_BOUNDED_INIT(PERMITS, PERMITS)};
    storm_run(3, 2, 8, support_slow() ? 300 : 20000, permits_round, &p);
    assert_int_equal(ferry_sem_value(&p.sem), PERMITS);
    assert_null(p.sem.first);
}

static void *first_acquire(void *arg) {
    CHECK_INT(ferry_sem_acquire(arg, 1), -ENOMEM);
    CHECK_INT(ferry_sem_try(arg, 1), 0); /* needs no record */
    CHECK_INT(ferry_sem_release(arg, 1), 0);
    return NULL;
}

static void no_memory_for_a_thread(void **state) {
    (void)state;
    ferry_sem sem = FERRY_SEM_INIT(1);
    oom_after(0, true);
    pthread_join(start_thread(first_acquire, &sem), NULL);
    oom_never();
    assert_true(oom_hit());
    assert_int_equal(ferry_sem_value(&sem), 1);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("out of memory for a thread's record: nothing is taken", no_memory_for_a_thread),
        CASE("SEM-01 tasks that acquire again and again rotate strictly", tasks_rotate),
        CASE("SEM-01 the same in threads", threads_rotate),
        CASE("SEM-01 three releases in one tick wake three, before later arrivals",
             three_releases_in_one_tick),
        CASE("SEM-01 whoever wants many holds the line, and frees it when cancelled",
             many_permits_hold_the_line),
        CASE("SEM-01 the same in threads", many_permits_in_threads),
        CASE("SEM-03 a cancelled head that hasn't run yet stands in nobody's way",
             cancelled_head_is_passed),
        CASE("SEM-03 granted, then cancelled: the permit isn't lost", granted_then_cancelled),
        CASE("SEM-03 cancelled, then released: the next one gets it", cancelled_then_granted),
        CASE("SEM-03 a thread that was granted, then cancelled", thread_granted_then_cancelled),
        CASE("SEM-05 released above the bound; a plain one above its initial value", bounds),
        CASE("SEM-05 a release too many while somebody waits", over_release_with_a_waiter),
        CASE("SEM-06 the counter doesn't wrap", counter_range),
        CASE("SEM-06 a thousand tasks, five permits", a_thousand_tasks),
        CASE("SEM-08 initial values and counts that make no sense", bad_values),
        CASE("SEM-08 from a job, and in a callback", from_everywhere),
        CASE("cancel and time-out in a task", cancel_and_time_out_in_a_task),
        CASE("cancel and time-out in a thread and a job", cancel_and_time_out_in_threads),
        CASE("threads and tasks, cancelled at any moment: nothing lost, nothing doubled", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

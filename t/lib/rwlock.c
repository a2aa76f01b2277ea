/* Locks to read or to write: order, sharing, ownership, cancel and time-out, for tasks and
 * threads. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "exclusive.h"
#include "oom.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

/* A lock and who has had it, in order. */
struct scene {
    ferry_rwlock lock;
    pthread_mutex_t mutex;
    int order[64]; /* under the mutex */
    size_t n;      /* under the mutex */
};
#define SCENE_INIT \
    { .lock = FERRY_RWLOCK_INIT, .mutex = PTHREAD_MUTEX_INITIALIZER }

struct actor {
    struct scene *scene;
    int id;
    bool writes;
    int64_t ms; /* 0: for ever */
    ferry_scope scope;
    ferry_event *leave; /* NULL: at once */
    int rc;
};

static void note(struct scene *scene, int id) {
    pthread_mutex_lock(&scene->mutex);
    scene->order[scene->n++] = id;
    pthread_mutex_unlock(&scene->mutex);
}

static void check_order(const struct scene *scene, size_t n, const int *order) {
    CHECK_INT(scene->n, n);
    for (size_t i = 0; i < n && i < scene->n; i++)
        CHECK_INT(scene->order[i], order[i]);
}

static void check_free(ferry_rwlock *lock) {
    CHECK(lock->writer == NULL);
    CHECK_INT(lock->readers, 0);
    CHECK(lock->first == NULL && lock->last == NULL);
}

/* Takes it, notes that, and gives it back; in a scope that can be cancelled. */
static int64_t visit(void *arg) {
    struct actor *a = arg;
    ferry_rwlock *lock = &a->scene->lock;
    a->scope = (ferry_scope)FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&a->scope, FERRY_FOREVER), 0);
    int64_t ms = a->ms ? a->ms : FERRY_FOREVER;
    a->rc = a->writes ? ferry_wrlock_for(lock, ms) : ferry_rdlock_for(lock, ms);
    if (a->rc == 0) {
        note(a->scene, a->id);
        if (a->leave)
            CHECK_INT(ferry_event_wait(a->leave), 0);
        CHECK_INT(ferry_rwunlock(lock), 0);
    }
    ferry_scope_close(&a->scope, 0);
    return 0;
}

/* Order. */

static void set_up_actors(struct actor *actors, size_t n, struct scene *scene, const char *kinds) {
    for (size_t i = 0; i < n; i++)
        actors[i] = (struct actor){.scene = scene, .id = (int)i + 1, .writes = kinds[i] == 'w'};
}

/* R waits behind W although the lock is held to read; both R go together, the next W waits. */
TASK_TEST(tasks_in_order) {
    struct scene scene = SCENE_INIT;
    struct actor actors[5];
    ferry_event leave = FERRY_EVENT_INIT;
    ferry_future *f[5];
    set_up_actors(actors, 5, &scene, "wrrwr");
    CHECK_INT(ferry_rdlock(&scene.lock), 0);
    CHECK_INT(ferry_await(ferry_spawn(visit, &(struct actor){.scene = &scene, .id = 9})), 0);
    for (size_t i = 0; i < 5; i++) {
        actors[i].leave = i == 1 || i == 2 ? &leave : NULL;
        f[i] = ferry_spawn(visit, &actors[i]);
        UNTIL_WAITERS(&scene.lock, i + 1);
    }
    CHECK_INT(ferry_tryrdlock(&scene.lock), -EBUSY);
    CHECK_INT(ferry_rdlock_for(&scene.lock, 0), -ETIMEDOUT);
    CHECK_INT(scene.lock.readers, 1);
    CHECK_INT(ferry_rwunlock(&scene.lock), 0);
    CHECK(scene.lock.writer != NULL); /* handed over inside the unlock */
    CHECK_INT(WAITERS(&scene.lock), 4);
    CHECK_INT(ferry_trywrlock(&scene.lock), -EBUSY);
    CHECK_INT(ferry_await(f[0]), 0);
    CHECK_INT(scene.lock.readers, 2);
    CHECK_INT(WAITERS(&scene.lock), 2);
    while (scene.n < 4)
        CHECK_INT(ferry_yield(), 0);
    CHECK_INT(ferry_tryrdlock(&scene.lock), -EBUSY);
    ferry_event_set(&leave);
    for (int i = 1; i < 5; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    check_order(&scene, 6, (const int[]){9, 1, 2, 3, 4, 5});
    check_free(&scene.lock);
    return 0;
}

static struct scene anywhere = SCENE_INIT; /* static */

static void all_kinds_in_order(void **state) {
    (void)state;
    struct actor actors[5];
    pthread_t threads[5];
    set_up_actors(actors, 5, &anywhere, "wrwwr");
    assert_int_equal(ferry_wrlock(&anywhere.lock), 0);
    for (size_t i = 0; i < 5; i++) {
        threads[i] = start_outside(i % 2, visit, &actors[i]);
        UNTIL_WAITERS(&anywhere.lock, i + 1);
    }
    assert_int_equal(ferry_rwunlock(&anywhere.lock), 0);
    assert_int_equal(ferry_wrlock(&anywhere.lock), 0); /* behind all of them */
    note(&anywhere, 6);
    assert_int_equal(ferry_rwunlock(&anywhere.lock), 0);
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    check_order(&anywhere, 6, (const int[]){1, 2, 3, 4, 5, 6});
    check_free(&anywhere.lock);
}

/* Greedy readers, one always inside, can't keep a writer out. */
struct crowd {
    struct scene scene;
    _Atomic bool written;
    _Atomic long reads;
};

static void *read_until_written(void *arg) {
    struct crowd *c = arg;
    while (!atomic_load(&c->written)) {
        CHECK_INT(ferry_rdlock(&c->scene.lock), 0);
        long before = atomic_fetch_add(&c->reads, 1);
        /* Stays until another reader has come, or somebody stands in line. */
        while (atomic_load(&c->reads) == before + 1 && WAITERS(&c->scene.lock) == 0 &&
               !atomic_load(&c->written))
            sched_yield();
        CHECK_INT(ferry_rwunlock(&c->scene.lock), 0);
    }
    return NULL;
}

static int64_t write_once(void *arg) {
    struct crowd *c = arg;
    CHECK_INT(ferry_wrlock(&c->scene.lock), 0);
    CHECK_INT(c->scene.lock.readers, 0);
    atomic_store(&c->written, true);
    CHECK_INT(ferry_rwunlock(&c->scene.lock), 0);
    return 0;
}

static void writers_get_in(void **state) {
    (void)state;
    struct crowd c = {.scene = SCENE_INIT};
    pthread_t readers[2];
    for (int i = 0; i < 2; i++)
        readers[i] = start_thread(read_until_written, &c);
    while (atomic_load(&c.reads) < 10)
        sched_yield();
    assert_int_equal(ferry_run(write_once, &c), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    check_free(&c.scene.lock);
}

/* Cancel and time-out. */

TASK_TEST(cancelled_writer) {
    struct scene scene = SCENE_INIT;
    struct actor actors[4];
    ferry_future *f[4];
    set_up_actors(actors, 4, &scene, "wrrw");
    CHECK_INT(ferry_rdlock(&scene.lock), 0);
    for (size_t i = 0; i < 4; i++) {
        f[i] = ferry_spawn(visit, &actors[i]);
        UNTIL_WAITERS(&scene.lock, i + 1);
    }
    ferry_scope_cancel(&actors[0].scope);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    CHECK_INT(actors[0].rc, -ECANCELED);
    check_order(&scene, 2, (const int[]){2, 3});
    CHECK_INT(WAITERS(&scene.lock), 1);
    CHECK_INT(scene.lock.readers, 1);
    ferry_cancel(f[3]);
    CHECK_INT(ferry_await(f[3]), 0);
    CHECK_INT(actors[3].rc, -ECANCELED);
    CHECK_INT(ferry_rwunlock(&scene.lock), 0);
    check_free(&scene.lock);
    return 0;
}

/* It hasn't run since it was cancelled: it isn't in anybody's way. */
TASK_TEST(cancelled_head_is_passed) {
    struct scene scene = SCENE_INIT;
    struct actor a = {.scene = &scene, .id = 1, .writes = true};
    CHECK_INT(ferry_rdlock(&scene.lock), 0);
    ferry_future *f = ferry_spawn(visit, &a);
    UNTIL_WAITERS(&scene.lock, 1);
    ferry_cancel(f);
    CHECK_INT(ferry_tryrdlock(&scene.lock), 0);
    CHECK_INT(ferry_rdlock_for(&scene.lock, 0), 0);
    CHECK_INT(scene.lock.readers, 3);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(a.rc, -ECANCELED);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_rwunlock(&scene.lock), 0);
    check_free(&scene.lock);
    return 0;
}

static void writer_thread_leaves(void **state) {
    (void)state;
    for (int timed = 0; timed < 2; timed++) {
        struct scene scene = SCENE_INIT;
        struct actor actors[2];
        set_up_actors(actors, 2, &scene, "wr");
        actors[0].ms = timed ? 300 : 0;
        assert_int_equal(ferry_rdlock(&scene.lock), 0);
        pthread_t writer = start_in_thread(visit, &actors[0]);
        if (!timed)
            UNTIL_WAITERS(&scene.lock, 1);
        pthread_t reader = start_in_thread(visit, &actors[1]);
        if (!timed) {
            UNTIL_WAITERS(&scene.lock, 2);
            ferry_scope_cancel(&actors[0].scope);
        }
        pthread_join(writer, NULL);
        pthread_join(reader, NULL); /* while the lock is held to read */
        assert_int_equal(actors[0].rc, timed ? -ETIMEDOUT : -ECANCELED);
        assert_int_equal(actors[1].rc, 0);
        assert_int_equal(ferry_rwunlock(&scene.lock), 0);
        check_free(&scene.lock);
    }
}

/* Granted first, cancelled then: it keeps what it was granted. */
static int64_t keep_the_grant(void *arg) {
    struct actor *a = arg;
    ferry_rwlock *lock = &a->scene->lock;
    a->rc = a->writes ? ferry_wrlock(lock) : ferry_rdlock(lock);
    CHECK_INT(ferry_yield(), -ECANCELED);
    note(a->scene, a->id);
    CHECK_INT(ferry_rwunlock(lock), 0);
    return 0;
}

TASK_TEST(granted_then_cancelled) {
    for (int writes = 0; writes < 2; writes++) {
        struct scene scene = SCENE_INIT;
        struct actor first = {.scene = &scene, .id = 1, .writes = writes};
        struct actor second = {.scene = &scene, .id = 2, .writes = true};
        CHECK_INT(ferry_wrlock(&scene.lock), 0);
        ferry_future *f = ferry_spawn(keep_the_grant, &first);
        UNTIL_WAITERS(&scene.lock, 1);
        ferry_future *g = ferry_spawn(visit, &second);
        UNTIL_WAITERS(&scene.lock, 2);
        CHECK_INT(ferry_rwunlock(&scene.lock), 0);
        ferry_cancel(f);
        CHECK_INT(ferry_await(f), 0);
        CHECK_INT(first.rc, 0);
        CHECK_INT(ferry_await(g), 0);
        check_order(&scene, 2, (const int[]){1, 2});
        check_free(&scene.lock);
    }
    return 0;
}

TASK_TEST(cancelled_then_granted) {
    struct scene scene = SCENE_INIT;
    struct actor actors[2];
    ferry_future *f[2];
    set_up_actors(actors, 2, &scene, "ww");
    CHECK_INT(ferry_wrlock(&scene.lock), 0);
    for (size_t i = 0; i < 2; i++) {
        f[i] = ferry_spawn(visit, &actors[i]);
        UNTIL_WAITERS(&scene.lock, i + 1);
    }
    ferry_cancel(f[0]);
    CHECK_INT(ferry_rwunlock(&scene.lock), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    CHECK_INT(actors[0].rc, -ECANCELED);
    check_order(&scene, 1, (const int[]){2});
    check_free(&scene.lock);
    return 0;
}

static int64_t time_outs(void *arg) {
    ferry_rwlock *lock = arg;
    static const int64_t ms[] = {5, 0, -1};
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ferry_rdlock_for(lock, ms[i]), -ETIMEDOUT);
        CHECK_INT(ferry_wrlock_for(lock, ms[i]), -ETIMEDOUT);
    }
    CHECK(lock->first == NULL);
    return 0;
}

static int64_t in_no_time(void *arg) {
    ferry_rwlock *lock = arg;
    for (int64_t ms = -1; ms <= 0; ms++) {
        CHECK_INT(ferry_rdlock_for(lock, ms), 0);
        CHECK_INT(ferry_rdlock_for(lock, ms), 0);
        CHECK_INT(ferry_wrlock_for(lock, ms), -ETIMEDOUT);
        CHECK_INT(ferry_rwunlock(lock), 0);
        CHECK_INT(ferry_rwunlock(lock), 0);
        CHECK_INT(ferry_wrlock_for(lock, ms), 0);
        CHECK_INT(ferry_rwunlock(lock), 0);
    }
    check_free(lock);
    return 0;
}

static void timed_out(void **state) {
    (void)state;
    ferry_rwlock lock = FERRY_RWLOCK_INIT;
    assert_int_equal(ferry_wrlock(&lock), 0);
    assert_int_equal(ferry_run(time_outs, &lock), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, time_outs, &lock)), 0);
    assert_int_equal(ferry_rwunlock(&lock), 0);
    assert_int_equal(in_no_time(&lock), 0);
    assert_int_equal(ferry_run(in_no_time, &lock), 0);
}

static int64_t locks_while_cancelled(void *arg) {
    ferry_rwlock *lock = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_rdlock(lock), -ECANCELED);
    CHECK_INT(ferry_wrlock(lock), -ECANCELED);
    CHECK_INT(ferry_rdlock_for(lock, 5), -ECANCELED);
    CHECK_INT(ferry_wrlock_for(lock, 5), -ECANCELED);
    check_free(lock);
    CHECK_INT(ferry_tryrdlock(lock), 0); /* these never wait */
    CHECK_INT(ferry_rwunlock(lock), 0);
    CHECK_INT(ferry_trywrlock(lock), 0);
    CHECK_INT(ferry_rwunlock(lock), 0);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    return 0;
}

static void cancelled_at_entry(void **state) {
    (void)state;
    ferry_rwlock lock = FERRY_RWLOCK_INIT;
    assert_int_equal(locks_while_cancelled(&lock), 0);
    assert_int_equal(ferry_run(locks_while_cancelled, &lock), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, locks_while_cancelled, &lock)), 0);
}

/* Ownership. */

static void check_recursion(ferry_rwlock *lock) {
    CHECK_INT(ferry_wrlock(lock), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "holds this lock to write already"));
    CHECK_INT(ferry_rdlock(lock), -EDEADLK);
    CHECK_INT(ferry_wrlock_for(lock, 0), -EDEADLK);
    CHECK_INT(ferry_rdlock_for(lock, 0), -EDEADLK);
    CHECK_INT(ferry_trywrlock(lock), -EDEADLK);
    CHECK_INT(ferry_tryrdlock(lock), -EDEADLK);
    CHECK_INT(lock->readers, 0);
}

static int64_t lock_twice(void *arg) {
    ferry_rwlock *lock = arg;
    CHECK_INT(ferry_wrlock(lock), 0); /* at once, or when it is handed over */
    check_recursion(lock);
    CHECK_INT(ferry_rwunlock(lock), 0);
    return 0;
}

static int64_t granted_then_twice(void *arg) {
    ferry_rwlock *lock = arg;
    CHECK_INT(ferry_wrlock(lock), 0);
    ferry_future *f = ferry_spawn(lock_twice, lock);
    UNTIL_WAITERS(lock, 1);
    check_recursion(lock); /* with one in line */
    CHECK_INT(ferry_rwunlock(lock), 0);
    CHECK_INT(ferry_await(f), 0);
    return 0;
}

static void locked_twice(void **state) {
    (void)state;
    ferry_rwlock lock = FERRY_RWLOCK_INIT;
    assert_int_equal(lock_twice(&lock), 0);
    assert_int_equal(ferry_run(granted_then_twice, &lock), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, lock_twice, &lock)), 0);
    check_free(&lock);
}

static int64_t foreign_unlock(void *arg) {
    CHECK_INT(ferry_rwunlock(arg), -EPERM);
    CHECK(strstr(ferry_errmsg(), "isn't held by the caller"));
    return 0;
}

static int64_t try_held(void *arg) {
    ferry_rwlock *lock = arg;
    bool shared = lock->readers > 0;
    CHECK_INT(ferry_trywrlock(lock), -EBUSY);
    CHECK(strstr(ferry_errmsg(), "is held"));
    CHECK_INT(ferry_tryrdlock(lock), shared ? 0 : -EBUSY);
    if (shared)
        CHECK_INT(ferry_rwunlock(lock), 0);
    return 0;
}

static void in_all_worlds(ferry_fn fn, void *arg) {
    CHECK_INT(ferry_run(fn, arg), 0);
    CHECK_INT(ferry_await(ferry_submit(NULL, fn, arg)), 0);
}

static void foreign_unlocks(void **state) {
    (void)state;
    ferry_rwlock lock = FERRY_RWLOCK_INIT;
    assert_int_equal(foreign_unlock(&lock), 0); /* nobody holds it */
    in_all_worlds(foreign_unlock, &lock);
    assert_int_equal(ferry_wrlock(&lock), 0);
    in_all_worlds(foreign_unlock, &lock);
    assert_int_equal(ferry_rwunlock(&lock), 0);
    assert_int_equal(ferry_rwunlock(&lock), -EPERM);
    check_free(&lock);
}

static void tries(void **state) {
    (void)state;
    ferry_rwlock lock = FERRY_RWLOCK_INIT;
    assert_int_equal(ferry_trywrlock(&lock), 0);
    in_all_worlds(try_held, &lock);
    assert_int_equal(ferry_rwunlock(&lock), 0);
    assert_int_equal(ferry_tryrdlock(&lock), 0);
    in_all_worlds(try_held, &lock);
    assert_int_equal(ferry_rwunlock(&lock), 0);
    check_free(&lock);
}

struct posted {
    ferry_rwlock *held, *free;
    ferry_event done;
};

static int64_t lock_in_a_callback(void *arg) {
    struct posted *p = arg;
    CHECK_INT(ferry_wrlock(p->held), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "block a loop's own thread"));
    CHECK_INT(ferry_wrlock_for(p->held, 0), -EDEADLK);
    CHECK_INT(ferry_trywrlock(p->held), -EBUSY);
    CHECK_INT(ferry_wrlock(p->free), 0);
    CHECK_INT(ferry_rwunlock(p->free), 0);
    CHECK_INT(ferry_rdlock(p->held), 0); /* it is held to read */
    CHECK_INT(ferry_rwunlock(p->held), 0);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(in_a_callback) {
    ferry_rwlock held = FERRY_RWLOCK_INIT;
    ferry_rwlock other = FERRY_RWLOCK_INIT;
    struct posted p = {&held, &other, FERRY_EVENT_INIT};
    CHECK_INT(ferry_rdlock(&held), 0);
    CHECK_INT(ferry_post(ferry_loop_current(), lock_in_a_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    CHECK_INT(ferry_rwunlock(&held), 0);
    check_free(&held);
    return 0;
}

/* A writer that ends. */

static int64_t write_and_end(void *arg) {
    int rc = ferry_wrlock(arg);
    CHECK(rc == 0 || rc == -EOWNERDEAD);
    return 0;
}

static int64_t read_orphaned(void *arg) {
    CHECK_INT(ferry_rdlock(arg), -EOWNERDEAD);
    CHECK(strstr(ferry_errmsg(), "ended without unlocking"));
    CHECK_INT(ferry_rwunlock(arg), 0);
    return 0;
}

static int64_t write_orphaned(void *arg) {
    CHECK_INT(ferry_wrlock(arg), -EOWNERDEAD);
    CHECK_INT(ferry_wrlock(arg), -EDEADLK);
    CHECK_INT(ferry_rwunlock(arg), 0);
    return 0;
}

static ferry_future *start_job(ferry_fn fn, void *arg) {
    return ferry_submit(NULL, fn, arg);
}

static void check_dead_writer(ferry_rwlock *lock, ferry_future *(*start)(ferry_fn, void *)) {
    CHECK_INT(ferry_await(start(write_and_end, lock)), 0);
    for (int i = 0; i < 2; i++) { /* readers can't put it right: each is told */
        CHECK_INT(ferry_rdlock(lock), -EOWNERDEAD);
        CHECK_INT(ferry_tryrdlock(lock), -EOWNERDEAD);
        CHECK_INT(ferry_rwunlock(lock), 0);
        CHECK_INT(ferry_rwunlock(lock), 0);
    }
    CHECK_INT(ferry_wrlock(lock), -EOWNERDEAD); /* a writer can: it is told once */
    CHECK_INT(ferry_rwunlock(lock), 0);
    CHECK_INT(ferry_rdlock(lock), 0);
    CHECK_INT(ferry_rwunlock(lock), 0);
    CHECK_INT(ferry_trywrlock(lock), 0);

    /* Those who stand in line when it ends. */
    ferry_future *f[5];
    f[0] = start(write_and_end, lock);
    UNTIL_WAITERS(lock, 1);
    for (size_t i = 1; i < 4; i++) {
        f[i] = start(i < 3 ? read_orphaned : write_orphaned, lock);
        UNTIL_WAITERS(lock, i + 1);
    }
    f[4] = start(lock_twice, lock);
    UNTIL_WAITERS(lock, 5);
    CHECK_INT(ferry_rwunlock(lock), 0);
    for (int i = 0; i < 5; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    check_free(lock);

    /* One that was told, and then ends like the one before. */
    CHECK_INT(ferry_await(start(write_and_end, lock)), 0);
    CHECK_INT(ferry_await(start(write_and_end, lock)), 0);
    CHECK_INT(ferry_trywrlock(lock), -EOWNERDEAD);
    CHECK_INT(ferry_rwunlock(lock), 0);
}

TASK_TEST(dead_tasks_and_jobs) {
    ferry_rwlock lock = FERRY_RWLOCK_INIT;
    check_dead_writer(&lock, ferry_spawn);
    check_dead_writer(&lock, start_job);
    return 0;
}

static void dead_threads(void **state) {
    (void)state;
    ferry_rwlock lock = FERRY_RWLOCK_INIT;
    pthread_join(start_in_thread(write_and_end, &lock), NULL);
    assert_int_equal(write_orphaned(&lock), 0);
    assert_int_equal(ferry_wrlock(&lock), 0);
    pthread_t writer = start_in_thread(write_and_end, &lock);
    UNTIL_WAITERS(&lock, 1);
    assert_int_equal(ferry_rwunlock(&lock), 0);
    pthread_join(writer, NULL);
    assert_int_equal(ferry_run(write_orphaned, &lock), 0);
    check_free(&lock);
}

TASK_TEST(dead_writer_of_several) {
    exclusive_several_kept(&exclusive_rwlock);
    return 0;
}

static void freed_after_the_last_unlock(void **state) {
    (void)state;
    exclusive_freed_at_once(&exclusive_rwlock);
}

struct guarded {
    ferry_rwlock lock;
    long count;                /* under the lock */
    _Atomic int readers;       /* inside */
    _Atomic int writers;       /* inside */
    long expected[STORM_MOST]; /* each by its participant */
};

static int lock_somehow(ferry_rwlock *lock, bool write, int how) {
    switch (how) {
    case 0:
        return write ? ferry_trywrlock(lock) : ferry_tryrdlock(lock);
    case 1:
    case 2:
        return write ? ferry_wrlock_for(lock, how - 1) : ferry_rdlock_for(lock, how - 1);
    default:
        return write ? ferry_wrlock(lock) : ferry_rdlock(lock);
    }
}

static void guarded_round(void *arg, int who, unsigned *seed) {
    struct guarded *g = arg;
    bool write = rand_r(seed) % 3 == 0;
    int how = rand_r(seed) % 8;
    int rc = lock_somehow(&g->lock, write, how);
    if (rc != 0) {
        CHECK(rc == -ECANCELED || (rc == -EBUSY && how == 0) ||
              (rc == -ETIMEDOUT && (how == 1 || how == 2)));
        return;
    }
    if (write) {
        CHECK_INT(atomic_fetch_add(&g->writers, 1), 0);
        CHECK_INT(atomic_load(&g->readers), 0);
        g->count++;
        g->expected[who]++;
    } else {
        atomic_fetch_add(&g->readers, 1);
        CHECK_INT(atomic_load(&g->writers), 0);
    }
    long before = g->count;
    if (rand_r(seed) % 4 == 0)
        ferry_yield();
    CHECK_INT(g->count, before);
    atomic_fetch_sub(write ? &g->writers : &g->readers, 1);
    CHECK_INT(ferry_rwunlock(&g->lock), 0);
}

static void storm(void **state) {
    (void)state;
    struct guarded g = {.lock = FERRY_RWLOCK_INIT};
    storm_run(3, 2, 8, support_slow() ? 300 : 5000, guarded_round, &g);
    long sum = 0;
    for (int i = 0; i < STORM_MOST; i++)
        sum += g.expected[i];
    assert_true(sum > 0);
    assert_int_equal(g.count, sum);
    check_free(&g.lock);
}

struct first_call {
    ferry_rwlock lock;
    int lock_rc, try_rc, unlock_rc;
};

/* A thread's first call makes its record. */
static void *first_calls(void *arg) {
    struct first_call *c = arg;
    c->lock_rc = ferry_wrlock(&c->lock);
    c->try_rc = ferry_tryrdlock(&c->lock);
    c->unlock_rc = ferry_rwunlock(&c->lock);
    return NULL;
}

static void no_memory_for_a_thread(void **state) {
    (void)state;
    struct first_call c = {.lock = FERRY_RWLOCK_INIT};
    oom_after(0, true);
    pthread_join(start_thread(first_calls, &c), NULL);
    oom_never();
    assert_true(oom_hit());
    assert_int_equal(c.lock_rc, -ENOMEM);
    assert_int_equal(c.try_rc, -ENOMEM);
    assert_int_equal(c.unlock_rc, -EPERM);
    check_free(&c.lock);
    pthread_join(start_thread(first_calls, &c), NULL);
    assert_int_equal(c.lock_rc, 0);
    assert_int_equal(c.try_rc, -EDEADLK);
    assert_int_equal(c.unlock_rc, 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        /* First: later there are records of ended threads to use again. */
        CASE("out of memory for a thread's record: the lock isn't taken", no_memory_for_a_thread),
        CASE("tasks: readers share, nobody passes one who waits", tasks_in_order),
        CASE("a static lock, two loops and threads: first come, first served", all_kinds_in_order),
        CASE("greedy readers can't keep a writer out", writers_get_in),
        CASE("a waiting writer is cancelled: readers behind it go on", cancelled_writer),
        CASE("a writer that was cancelled and hasn't run yet isn't in the way",
             cancelled_head_is_passed),
        CASE("a waiting writer thread is cancelled, or times out", writer_thread_leaves),
        CASE("granted, then cancelled: the grant stands", granted_then_cancelled),
        CASE("cancelled, then unlocked: the next one gets it", cancelled_then_granted),
        CASE("time-outs; a lock that can be had beats zero", timed_out),
        CASE("in a cancelled scope", cancelled_at_entry),
        CASE("the writer locks again", locked_twice),
        CASE("unlock by who doesn't hold it", foreign_unlocks),
        CASE("tries never wait", tries),
        CASE("in a callback nothing may wait", in_a_callback),
        CASE("a task or job that ends while it writes", dead_tasks_and_jobs),
        CASE("a task that ends while it writes several", dead_writer_of_several),
        CASE("a thread that ends while it writes", dead_threads),
        CASE("whoever unlocks last may free it at once", freed_after_the_last_unlock),
        CASE("threads and tasks, cancelled at any moment: nothing lost, nobody stuck", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

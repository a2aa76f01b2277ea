/* Mutexes: order, ownership, cancel and time-out, for tasks and threads. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "exclusive.h"
#include "oom.h"
#include "storm.h"
#include "support.h"
#include "waiters.h"

/* A mutex and who has had it, in order. */
struct scene {
    ferry_mutex mutex;
    int order[64]; /* under the mutex */
    size_t n;      /* under the mutex */
};

struct actor {
    struct scene *scene;
    int id;
    int rounds;
};

static void note(struct scene *scene, int id) {
    scene->order[scene->n++] = id;
}

/* 1, 2, 3, 1, 2, 3, ... */
static void check_rotation(const struct scene *scene, size_t rounds) {
    CHECK_INT(scene->n, 3 * rounds);
    for (size_t i = 0; i < scene->n; i++)
        CHECK_INT(scene->order[i], i % 3 + 1);
}

static int64_t lock_note_unlock(void *arg) {
    struct actor *a = arg;
    CHECK_INT(ferry_lock(&a->scene->mutex), 0);
    note(a->scene, a->id);
    CHECK_INT(ferry_unlock(&a->scene->mutex), 0);
    return 0;
}

/* Order. */

struct turns {
    ferry_mutex mutex;
    int inside;
    int count;
};

static int64_t ten_turns(void *arg) {
    struct turns *t = arg;
    for (int i = 0; i < 10; i++) {
        CHECK_INT(ferry_lock(&t->mutex), 0);
        CHECK_INT(t->inside++, 0);
        ferry_yield();
        ferry_yield();
        CHECK_INT(--t->inside, 0);
        t->count++;
        CHECK_INT(ferry_unlock(&t->mutex), 0);
    }
    return 0;
}

TASK_TEST(one_inside) {
    struct turns t = {.mutex = FERRY_MUTEX_INIT};
    ferry_future *f[5];
    for (int i = 0; i < 5; i++)
        f[i] = ferry_spawn(ten_turns, &t);
    for (int i = 0; i < 5; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    CHECK_INT(t.count, 50);
    return 0;
}

static int64_t greedy(void *arg) {
    struct actor *a = arg;
    for (int i = 0; i < a->rounds; i++)
        lock_note_unlock(a);
    return 0;
}

TASK_TEST(tasks_rotate) {
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct actor actors[3];
    ferry_future *f[3];
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    for (int i = 0; i < 3; i++) {
        actors[i] = (struct actor){&scene, i + 1, 10};
        f[i] = ferry_spawn(greedy, &actors[i]);
    }
    UNTIL_WAITERS(&scene.mutex, 3);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_await(f[i]), 0);
    check_rotation(&scene, 10);
    return 0;
}

/* Unlocks only when both others stand in line, and is back at once. */
static void *greedy_thread(void *arg) {
    struct actor *a = arg;
    for (int i = 0; i < a->rounds; i++) {
        CHECK_INT(ferry_lock(&a->scene->mutex), 0);
        note(a->scene, a->id);
        if (i < a->rounds - 1)
            UNTIL_WAITERS(&a->scene->mutex, 2);
        CHECK_INT(ferry_unlock(&a->scene->mutex), 0);
    }
    return NULL;
}

static void threads_rotate(void **state) {
    (void)state;
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct actor actors[3];
    pthread_t threads[3];
    assert_int_equal(ferry_lock(&scene.mutex), 0);
    for (int i = 0; i < 3; i++) {
        actors[i] = (struct actor){&scene, i + 1, 10};
        threads[i] = start_thread(greedy_thread, &actors[i]);
        UNTIL_WAITERS(&scene.mutex, (size_t)i + 1);
    }
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    check_rotation(&scene, 10);
}

struct known {
    struct scene *scene;
    int id;
    struct ferry__ctx *ctx;
    int rc;
};

static int64_t lock_as_known(void *arg) {
    struct known *k = arg;
    k->ctx = ferry__ctx_self();
    k->rc = ferry_lock(&k->scene->mutex);
    if (k->rc == 0) {
        note(k->scene, k->id);
        CHECK_INT(ferry_unlock(&k->scene->mutex), 0);
    }
    return 0;
}

TASK_TEST(handed_over_inside_unlock) {
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct known b = {.scene = &scene, .id = 2};
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    ferry_future *f = ferry_spawn(lock_as_known, &b);
    UNTIL_WAITERS(&scene.mutex, 1);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK(held_by(&scene.mutex, b.ctx));
    CHECK_INT(ferry_trylock(&scene.mutex), -EBUSY);
    CHECK_INT(ferry_unlock(&scene.mutex), -EPERM);
    CHECK_INT(ferry_lock_for(&scene.mutex, 0), -ETIMEDOUT);
    CHECK_INT(scene.n, 0);
    CHECK_INT(ferry_await(f), 0);
    CHECK_INT(ferry_trylock(&scene.mutex), 0);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    return 0;
}

static void handed_over_to_a_thread(void **state) {
    (void)state;
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct known b = {.scene = &scene, .id = 2};
    struct known c = {.scene = &scene, .id = 3};
    assert_int_equal(ferry_lock(&scene.mutex), 0);
    pthread_t tb = start_in_thread(lock_as_known, &b);
    UNTIL_WAITERS(&scene.mutex, 1);
    pthread_t tc = start_in_thread(lock_as_known, &c);
    UNTIL_WAITERS(&scene.mutex, 2);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    assert_int_equal(ferry_lock(&scene.mutex), 0); /* behind both */
    note(&scene, 1);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    pthread_join(tb, NULL);
    pthread_join(tc, NULL);
    static const int order[] = {2, 3, 1};
    assert_int_equal(scene.n, 3);
    assert_memory_equal(scene.order, order, sizeof order);
}

/* Cancel and time-out. */

/* Keeps what it was granted, and sees its cancel at the next wait. */
static int64_t keep_the_grant(void *arg) {
    struct known *k = arg;
    k->ctx = ferry__ctx_self();
    k->rc = ferry_lock(&k->scene->mutex);
    CHECK_INT(k->rc, 0);
    CHECK(held_by(&k->scene->mutex, k->ctx));
    CHECK_INT(ferry_yield(), -ECANCELED);
    note(k->scene, k->id);
    CHECK_INT(ferry_unlock(&k->scene->mutex), 0);
    return 0;
}

TASK_TEST(granted_then_cancelled) {
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct known b = {.scene = &scene, .id = 2};
    struct actor c = {&scene, 3, 1};
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    ferry_future *fb = ferry_spawn(keep_the_grant, &b);
    UNTIL_WAITERS(&scene.mutex, 1);
    ferry_future *fc = ferry_spawn(lock_note_unlock, &c);
    UNTIL_WAITERS(&scene.mutex, 2);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_cancel(fb), FERRY_CANCEL_ASKED);
    CHECK(held_by(&scene.mutex, b.ctx));
    CHECK_INT(ferry_await(fb), 0);
    CHECK_INT(ferry_await(fc), 0);
    CHECK_INT(scene.n, 2);
    CHECK_INT(scene.order[0], 2);
    CHECK_INT(scene.order[1], 3);
    return 0;
}

TASK_TEST(cancelled_then_granted) {
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct known b = {.scene = &scene, .id = 2};
    struct known c = {.scene = &scene, .id = 3};
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    ferry_future *fb = ferry_spawn(lock_as_known, &b);
    UNTIL_WAITERS(&scene.mutex, 1);
    ferry_future *fc = ferry_spawn(lock_as_known, &c);
    UNTIL_WAITERS(&scene.mutex, 2);
    CHECK_INT(ferry_cancel(fb), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK(held_by(&scene.mutex, c.ctx));
    CHECK_INT(ferry_await(fb), 0);
    CHECK_INT(b.rc, -ECANCELED);
    CHECK_INT(ferry_await(fc), 0);
    CHECK_INT(c.rc, 0);
    CHECK_INT(ferry_trylock(&scene.mutex), 0);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    return 0;
}

struct scoped {
    struct scene *scene;
    ferry_scope scope;
    gate cancelled; /* with the mutex held it waits here */
    int64_t rc;
};

static void *lock_in_a_scope(void *arg) {
    struct scoped *s = arg;
    CHECK_INT(ferry_scope_open(&s->scope, FERRY_FOREVER), 0);
    s->rc = ferry_lock(&s->scene->mutex);
    if (s->rc == 0) {
        gate_wait(&s->cancelled);
        CHECK_INT(ferry_yield(), -ECANCELED);
        CHECK_INT(ferry_unlock(&s->scene->mutex), 0);
    }
    CHECK_INT(ferry_scope_close(&s->scope, 0), 0);
    return NULL;
}

static void thread_granted_then_cancelled(void **state) {
    (void)state;
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct scoped b = {.scene = &scene, .cancelled = GATE_INIT};
    assert_int_equal(ferry_lock(&scene.mutex), 0);
    pthread_t tb = start_thread(lock_in_a_scope, &b);
    UNTIL_WAITERS(&scene.mutex, 1);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    ferry_scope_cancel(&b.scope);
    gate_open(&b.cancelled);
    pthread_join(tb, NULL);
    assert_int_equal(b.rc, 0);
    assert_int_equal(ferry_trylock(&scene.mutex), 0);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
}

static void thread_cancelled_while_waiting(void **state) {
    (void)state;
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct scoped b = {.scene = &scene, .cancelled = GATE_INIT};
    struct actor c = {&scene, 3, 1};
    assert_int_equal(ferry_lock(&scene.mutex), 0);
    pthread_t tb = start_thread(lock_in_a_scope, &b);
    UNTIL_WAITERS(&scene.mutex, 1);
    pthread_t tc = start_in_thread(lock_note_unlock, &c);
    UNTIL_WAITERS(&scene.mutex, 2);
    ferry_scope_cancel(&b.scope);
    pthread_join(tb, NULL);
    assert_int_equal(b.rc, -ECANCELED);
    assert_int_equal(WAITERS(&scene.mutex), 1);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    pthread_join(tc, NULL);
    assert_int_equal(scene.n, 1);
}

static int64_t hold_too_long(void *arg) {
    struct scene *scene = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    CHECK_INT(ferry_lock(&scene->mutex), 0);
    CHECK_INT(ferry_scope_set_timeout(&scope, 10), 0); /* not before it has it */
    int rc = ferry_sleep(FERRY_FOREVER);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_unlock(&scene->mutex), 0);
    return ferry_scope_close(&scope, rc);
}

static int64_t wait_too_long(void *arg) {
    struct scene *scene = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 10), 0);
    int rc = ferry_lock(&scene->mutex);
    CHECK_INT(rc, -ECANCELED);
    return ferry_scope_close(&scope, rc);
}

static void check_time_out(struct scene *scene) {
    CHECK_INT(hold_too_long(scene), -ETIMEDOUT);
    CHECK_INT(ferry_trylock(&scene->mutex), 0);
    CHECK_INT(ferry_unlock(&scene->mutex), 0);
}

TASK_TEST(time_out_holding_and_waiting) {
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct actor third = {&scene, 3, 1};
    check_time_out(&scene);
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    CHECK_INT(ferry_await(ferry_spawn(wait_too_long, &scene)), -ETIMEDOUT);
    CHECK(scene.mutex.first == NULL && scene.mutex.last == NULL);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(ferry_spawn(lock_note_unlock, &third)), 0);
    CHECK_INT(scene.n, 1);
    return 0;
}

static void *time_out_thread(void *arg) {
    struct scene *scene = arg;
    CHECK_INT(wait_too_long(scene), -ETIMEDOUT);
    CHECK_INT(ferry_lock_for(&scene->mutex, 5), -ETIMEDOUT);
    CHECK_INT(ferry_lock_for(&scene->mutex, 0), -ETIMEDOUT);
    CHECK_INT(ferry_lock_for(&scene->mutex, -1), -ETIMEDOUT);
    return NULL;
}

static void thread_time_out(void **state) {
    (void)state;
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    check_time_out(&scene);
    assert_int_equal(ferry_lock(&scene.mutex), 0);
    pthread_join(start_thread(time_out_thread, &scene), NULL);
    assert_null(scene.mutex.first);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    assert_int_equal(ferry_lock_for(&scene.mutex, 0), 0); /* free beats a time-out of zero */
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
    assert_int_equal(ferry_lock_for(&scene.mutex, -1), 0);
    assert_int_equal(ferry_unlock(&scene.mutex), 0);
}

static int64_t locks_while_cancelled(void *arg) {
    ferry_mutex *mutex = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_lock(mutex), -ECANCELED);
    CHECK_INT(ferry_lock_for(mutex, 5), -ECANCELED);
    CHECK(held_by(mutex, NULL));
    CHECK_INT(ferry_trylock(mutex), 0); /* it never waits */
    CHECK_INT(ferry_unlock(mutex), 0);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(ferry_lock(mutex), 0);
    CHECK_INT(ferry_unlock(mutex), 0);
    return 0;
}

TASK_TEST(cancelled_at_entry) {
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    return locks_while_cancelled(&mutex);
}

static int64_t trylock_held(void *arg) {
    CHECK_INT(ferry_trylock(arg), -EBUSY);
    CHECK(strstr(ferry_errmsg(), "held by another"));
    return 0;
}

static void cancelled_at_entry_in_threads(void **state) {
    (void)state;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    assert_int_equal(locks_while_cancelled(&mutex), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, locks_while_cancelled, &mutex)), 0);
    assert_int_equal(ferry_lock(&mutex), 0);
    assert_int_equal(ferry_run(trylock_held, &mutex), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, trylock_held, &mutex)), 0);
    assert_int_equal(ferry_unlock(&mutex), 0);
}

/* Ownership. */

static int64_t foreign_unlock(void *arg) {
    CHECK_INT(ferry_unlock(arg), -EPERM);
    CHECK(strstr(ferry_errmsg(), "isn't held by the caller"));
    return 0;
}

static int64_t unlock_rules(void *arg) {
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    (void)arg;
    CHECK_INT(ferry_unlock(&mutex), -EPERM);
    CHECK_INT(ferry_lock(&mutex), 0);
    CHECK_INT(ferry_await(ferry_submit(NULL, foreign_unlock, &mutex)), 0);
    CHECK(held_by(&mutex, ferry__ctx_self()));
    CHECK_INT(ferry_unlock(&mutex), 0);
    CHECK_INT(ferry_unlock(&mutex), -EPERM);
    return 0;
}

TASK_TEST(unlock_without_owning) {
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    CHECK_INT(ferry_lock(&mutex), 0);
    CHECK_INT(ferry_await(ferry_spawn(foreign_unlock, &mutex)), 0);
    CHECK_INT(ferry_unlock(&mutex), 0);
    return unlock_rules(NULL);
}

static void unlock_without_owning_in_threads(void **state) {
    (void)state;
    assert_int_equal(unlock_rules(NULL), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, unlock_rules, NULL)), 0);
}

static int64_t lock_twice(void *arg) {
    ferry_mutex *mutex = arg;
    CHECK_INT(ferry_lock(mutex), 0);
    CHECK_INT(ferry_lock(mutex), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "already"));
    CHECK_INT(ferry_lock_for(mutex, FERRY_FOREVER), -EDEADLK);
    CHECK_INT(ferry_trylock(mutex), -EDEADLK);
    CHECK_INT(ferry_unlock(mutex), 0);
    CHECK_INT(ferry_unlock(mutex), -EPERM);
    return 0;
}

TASK_TEST(locked_twice) {
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    return lock_twice(&mutex);
}

static void locked_twice_in_threads(void **state) {
    (void)state;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    assert_int_equal(lock_twice(&mutex), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, lock_twice, &mutex)), 0);
}

/* Also when it was handed over by somebody, and while others stand in line. */
static int64_t granted_then_twice(void *arg) {
    struct scene *scene = arg;
    CHECK_INT(ferry_lock(&scene->mutex), 0);
    UNTIL_WAITERS(&scene->mutex, 1);
    CHECK_INT(ferry_lock(&scene->mutex), -EDEADLK);
    CHECK_INT(ferry_trylock(&scene->mutex), -EDEADLK);
    CHECK_INT(ferry_unlock(&scene->mutex), 0);
    return 0;
}

TASK_TEST(locked_twice_after_a_grant) {
    struct scene scene = {.mutex = FERRY_MUTEX_INIT};
    struct actor c = {&scene, 3, 1};
    CHECK_INT(ferry_lock(&scene.mutex), 0);
    ferry_future *fb = ferry_spawn(granted_then_twice, &scene);
    UNTIL_WAITERS(&scene.mutex, 1);
    ferry_future *fc = ferry_spawn(lock_note_unlock, &c);
    UNTIL_WAITERS(&scene.mutex, 2);
    CHECK_INT(ferry_unlock(&scene.mutex), 0);
    CHECK_INT(ferry_await(fb), 0);
    CHECK_INT(ferry_await(fc), 0);
    return 0;
}

struct posted {
    ferry_mutex *held, *free;
    ferry_event done;
};

static int64_t lock_in_a_callback(void *arg) {
    struct posted *p = arg;
    CHECK_INT(ferry_lock(p->held), -EDEADLK);
    CHECK(strstr(ferry_errmsg(), "block a loop's own thread"));
    CHECK_INT(ferry_lock_for(p->held, 0), -EDEADLK);
    CHECK_INT(ferry_trylock(p->held), -EBUSY);
    CHECK_INT(ferry_lock(p->free), 0);
    CHECK_INT(ferry_unlock(p->free), 0);
    ferry_event_set(&p->done);
    return 0;
}

TASK_TEST(in_a_callback) {
    ferry_mutex held = FERRY_MUTEX_INIT;
    ferry_mutex other = FERRY_MUTEX_INIT;
    struct posted p = {&held, &other, FERRY_EVENT_INIT};
    CHECK_INT(ferry_lock(&held), 0);
    CHECK_INT(ferry_post(ferry_loop_current(), lock_in_a_callback, &p), 0);
    CHECK_INT(ferry_event_wait(&p.done), 0);
    CHECK_INT(ferry_unlock(&held), 0);
    return 0;
}

/* Anywhere. */

static struct scene anywhere; /* statically initialised */

static void loops_and_threads(void **state) {
    (void)state;
    struct actor actors[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        actors[i] = (struct actor){&anywhere, i + 1, 1};
    assert_int_equal(ferry_lock(&anywhere.mutex), 0);
    for (int i = 0; i < 4; i++) {
        threads[i] = start_outside(i % 2 == 0, lock_note_unlock, &actors[i]);
        UNTIL_WAITERS(&anywhere.mutex, (size_t)i + 1);
    }
    assert_int_equal(ferry_unlock(&anywhere.mutex), 0);
    assert_int_equal(lock_note_unlock(&(struct actor){&anywhere, 5, 1}), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(anywhere.n, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(anywhere.order[i], i + 1);
}

static void freed_after_the_last_unlock(void **state) {
    (void)state;
    exclusive_freed_at_once(&exclusive_mutex);
}

/* The same looked at closely: an unlock that finds the line empty, since whoever stood there has
 * given up, doesn't touch the mutex any more once it is free. Each round hands the processor to and
 * fro, which takes milliseconds where others want it as well: then there are fewer. */
enum { DUEL_MS = 3000 };

struct duel {
    ferry_mutex mutex;
    _Atomic int given_up; /* rounds */
    _Atomic bool over;
};

static void *give_up_and_watch(void *arg) {
    struct duel *d = arg;
    for (int i = 1;; i++) {
        while (held_by(&d->mutex, NULL)) {
            if (atomic_load(&d->over))
                return NULL;
            sched_yield();
        }
        CHECK_INT(ferry_lock_for(&d->mutex, 0), -ETIMEDOUT);
        atomic_store(&d->given_up, i);
        /* Spinning, to see it soon; but there may be one processor only. */
        for (int spins = 1; !held_by(&d->mutex, NULL); spins++) {
            if (spins % 1000 == 0)
                sched_yield();
        }
        CHECK_INT(__atomic_load_n(&d->mutex.lock, __ATOMIC_RELAXED), 0);
        atomic_store(&d->given_up, -i);
    }
}

static void free_means_untouched(void **state) {
    (void)state;
    struct duel d = {.mutex = FERRY_MUTEX_INIT};
    pthread_t watcher = start_thread(give_up_and_watch, &d);
    int64_t until = ferry__now() + DUEL_MS * FERRY__MS;
    for (int i = 1; i <= (support_slow() ? 200 : 20000) && ferry__now() < until; i++) {
        assert_int_equal(ferry_lock(&d.mutex), 0);
        while (atomic_load(&d.given_up) != i)
            sched_yield();
        assert_int_equal(ferry_unlock(&d.mutex), 0);
        while (atomic_load(&d.given_up) != -i)
            sched_yield();
    }
    atomic_store(&d.over, true);
    pthread_join(watcher, NULL);
}

struct guarded {
    ferry_mutex mutex;
    long count;                  /* under the mutex */
    int inside;                  /* under the mutex */
    long expected[STORM_MOST];   /* each by its participant */
};

static void guarded_round(void *arg, int who, unsigned *seed) {
    struct guarded *g = arg;
    int what = rand_r(seed) % 8;
    int rc = what == 0   ? ferry_trylock(&g->mutex)
             : what == 1 ? ferry_lock_for(&g->mutex, 0)
             : what == 2 ? ferry_lock_for(&g->mutex, 1)
                         : ferry_lock(&g->mutex);
    if (rc != 0) {
        CHECK(rc == -ECANCELED || (rc == -EBUSY && what == 0) ||
              (rc == -ETIMEDOUT && (what == 1 || what == 2)));
        return;
    }
    CHECK_INT(g->inside++, 0);
    g->count++;
    if (rand_r(seed) % 4 == 0)
        ferry_yield();
    g->inside--;
    g->expected[who]++;
    CHECK_INT(ferry_unlock(&g->mutex), 0);
}

static void storm(void **state) {
    (void)state;
    struct guarded g = {.mutex = FERRY_MUTEX_INIT};
    storm_run(3, 2, 8, support_slow() ? 300 : 5000, guarded_round, &g);
    long sum = 0;
    for (int i = 0; i < STORM_MOST; i++)
        sum += g.expected[i];
    assert_int_equal(g.count, sum);
    assert_null(g.mutex.owner);
    assert_null(g.mutex.first);
}

struct first_call {
    ferry_mutex mutex;
    int lock, try, unlock;
};

/* A thread's first call makes its record. */
static void *first_calls(void *arg) {
    struct first_call *c = arg;
    c->lock = ferry_lock(&c->mutex);
    c->try = ferry_trylock(&c->mutex);
    c->unlock = ferry_unlock(&c->mutex);
    return NULL;
}

static void no_memory_for_a_thread(void **state) {
    (void)state;
    struct first_call c = {.mutex = FERRY_MUTEX_INIT};
    assert_int_equal(ferry_lock(&c.mutex), 0); /* this thread's record is there */
    assert_int_equal(ferry_unlock(&c.mutex), 0);
    oom_after(0, true);
    pthread_join(start_thread(first_calls, &c), NULL);
    oom_never();
    assert_true(oom_hit());
    assert_int_equal(c.lock, -ENOMEM);
    assert_int_equal(c.try, -ENOMEM);
    assert_int_equal(c.unlock, -EPERM);
    assert_null(c.mutex.owner);
    pthread_join(start_thread(first_calls, &c), NULL);
    assert_int_equal(c.lock, 0);
    assert_int_equal(c.try, -EDEADLK);
    assert_int_equal(c.unlock, 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        /* First: later there are records of ended threads to use again. */
        CASE("out of memory for a thread's record: the mutex isn't taken", no_memory_for_a_thread),
        CASE("LCK-01 five tasks, ten turns each: never two inside", one_inside),
        CASE("LCK-01 greedy tasks rotate strictly", tasks_rotate),
        CASE("LCK-01 greedy threads rotate strictly", threads_rotate),
        CASE("LCK-02 unlock hands it to the head of the line", handed_over_inside_unlock),
        CASE("LCK-02 the same between threads: the releaser comes last", handed_over_to_a_thread),
        CASE("LCK-04 granted, then cancelled: the grant stands", granted_then_cancelled),
        CASE("LCK-04 cancelled, then unlocked: the next one gets it", cancelled_then_granted),
        CASE("LCK-04 a thread that was granted, then cancelled", thread_granted_then_cancelled),
        CASE("LCK-04 a thread that is cancelled while it waits", thread_cancelled_while_waiting),
        CASE("LCK-06 time-outs, holding and waiting", time_out_holding_and_waiting),
        CASE("LCK-06 time-outs in a thread; a free mutex beats zero", thread_time_out),
        CASE("LCK-07 unlock by who doesn't hold it", unlock_without_owning),
        CASE("LCK-07 the same in threads and jobs", unlock_without_owning_in_threads),
        CASE("LCK-08 locking twice", locked_twice),
        CASE("LCK-08 the same in threads and jobs", locked_twice_in_threads),
        CASE("LCK-08 locking twice after a hand-over, with others in line",
             locked_twice_after_a_grant),
        CASE("LCK-10 in a cancelled scope", cancelled_at_entry),
        CASE("LCK-10 the same in threads and jobs; trylock of a held mutex",
             cancelled_at_entry_in_threads),
        CASE("in a callback nothing may wait", in_a_callback),
        CASE("LCK-11 a static mutex, two loops and threads: first come, first served",
             loops_and_threads),
        CASE("whoever unlocks last may free it at once", freed_after_the_last_unlock),
        CASE("a free mutex isn't touched by the last unlock any more", free_means_untouched),
        CASE("threads and tasks, cancelled at any moment: nothing lost, nothing doubled", storm),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

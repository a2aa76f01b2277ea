/* Mutexes whose owner ends without unlocking: whoever comes next is told, once. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "exclusive.h"
#include "support.h"
#include "waiters.h"

static int64_t lock_and_end(void *arg) {
    int rc = ferry_lock(arg);
    CHECK(rc == 0 || rc == -EOWNERDEAD);
    return 0;
}

static int64_t inherit(void *arg) {
    CHECK_INT(ferry_lock(arg), -EOWNERDEAD);
    CHECK(strstr(ferry_errmsg(), "ended without unlocking"));
    CHECK(held_by(arg, ferry__ctx_self()));
    CHECK_INT(ferry_unlock(arg), 0);
    return 0;
}

static void check_dead_owner(ferry_mutex *mutex, ferry_future *(*start)(ferry_fn, void *)) {
    CHECK_INT(ferry_await(start(lock_and_end, mutex)), 0);
    CHECK_INT(ferry_lock(mutex), -EOWNERDEAD);
    CHECK_INT(ferry_unlock(mutex), 0);
    CHECK_INT(ferry_lock(mutex), 0); /* it was told once */
    CHECK_INT(ferry_unlock(mutex), 0);

    CHECK_INT(ferry_await(start(lock_and_end, mutex)), 0);
    CHECK_INT(ferry_trylock(mutex), -EOWNERDEAD);
    CHECK_INT(ferry_unlock(mutex), 0);
    CHECK_INT(ferry_trylock(mutex), 0);

    ferry_future *next = start(lock_and_end, mutex);
    UNTIL_WAITERS(mutex, 1);
    ferry_future *last = start(inherit, mutex); /* waits when the owner ends */
    UNTIL_WAITERS(mutex, 2);
    CHECK_INT(ferry_unlock(mutex), 0);
    CHECK_INT(ferry_await(next), 0);
    CHECK_INT(ferry_await(last), 0);
    CHECK_INT(ferry_trylock(mutex), 0);
    CHECK_INT(ferry_unlock(mutex), 0);

    /* One that was told, and then ends like the one before. */
    CHECK_INT(ferry_await(start(lock_and_end, mutex)), 0);
    CHECK_INT(ferry_await(start(lock_and_end, mutex)), 0);
    CHECK_INT(ferry_lock(mutex), -EOWNERDEAD);
    CHECK_INT(ferry_unlock(mutex), 0);
}

static ferry_future *start_job(ferry_fn fn, void *arg) {
    return ferry_submit(NULL, fn, arg);
}

TASK_TEST(dead_tasks_and_jobs) {
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    check_dead_owner(&mutex, ferry_spawn);
    check_dead_owner(&mutex, start_job);
    return 0;
}

TASK_TEST(dead_owner_of_several) {
    exclusive_several_kept(&exclusive_mutex);
    return 0;
}

static void dead_threads(void **state) {
    (void)state;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    pthread_join(start_in_thread(lock_and_end, &mutex), NULL);
    assert_int_equal(ferry_lock(&mutex), -EOWNERDEAD);
    pthread_t next = start_in_thread(lock_and_end, &mutex);
    UNTIL_WAITERS(&mutex, 1);
    pthread_t last = start_in_thread(inherit, &mutex);
    UNTIL_WAITERS(&mutex, 2);
    assert_int_equal(ferry_unlock(&mutex), 0);
    pthread_join(next, NULL);
    pthread_join(last, NULL);
    assert_int_equal(ferry_lock(&mutex), 0);
    assert_int_equal(ferry_unlock(&mutex), 0);
}

/* The dead owner is a thread, who inherits is a task. */
static void *lock_wait_and_end(void *arg) {
    CHECK_INT(ferry_lock(arg), 0);
    UNTIL_WAITERS((ferry_mutex *)arg, 1);
    return NULL;
}

static void dead_thread_before_a_task(void **state) {
    (void)state;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    assert_int_equal(ferry_lock(&mutex), 0);
    pthread_t owner = start_thread(lock_wait_and_end, &mutex);
    UNTIL_WAITERS(&mutex, 1);
    pthread_t heir = start_in_loop(inherit, &mutex);
    UNTIL_WAITERS(&mutex, 2);
    assert_int_equal(ferry_unlock(&mutex), 0);
    pthread_join(owner, NULL);
    pthread_join(heir, NULL);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a task or job that ends without unlocking", dead_tasks_and_jobs),
        CASE("a task that ends holding several", dead_owner_of_several),
        CASE("a thread that ends without unlocking", dead_threads),
        CASE("a thread that ends without unlocking, before a task", dead_thread_before_a_task),
    };
    return SUPPORT_RUN(tests);
}

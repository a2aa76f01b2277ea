/* fork() in the midst of it all: inside tasks, beside busy pools, with a base of the program's
 * own, to exec, and to make a daemon. Nothing of the parent's runs in the child, nothing hangs
 * there, and the parent notices nothing. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "child.h"
#include "core.h"
#include "parked.h"
#include "pools.h"
#include "queue_core.h"
#include "support.h"
#include "waiters.h"

#define HOUR 3600000

static const ferry_run_options no_threads = {.no_signals = true, .no_overflow_handler = true};

static int64_t sleeps_a_little(void *arg) {
    return ferry_sleep(1) == 0 ? (int64_t)(intptr_t)arg : -EPROTO;
}

/* The child leaves the task that it forked in. */
#define LEAVES_A_TASK() \
    do { \
        if (FERRY__TSAN) \
            SKIP("ThreadSanitizer knows of no other stacks in such a child"); \
    } while (0)

/* ---- In a task ------------------------------------------------------------------------------- */

struct around {
    ferry_executor *pool;
    ferry_mutex mutex;
    ferry_event never;
    gate gate;
    pid_t parent, child;
    int others;          /* turns of the other tasks */
    int others_at_fork;
    bool tried;          /* the child came to the end of what it does inside the task */
};

static int64_t goes_on(void *arg) {
    struct around *a = arg;
    while (ferry_yield() == 0)
        a->others++;
    return 0;
}

static int64_t stands_in_job(void *arg) {
    gate_wait(arg);
    return 5;
}

/* In the child, still inside the task. */
static void try_all(struct around *a, ferry_future *task, ferry_future *job) {
    ferry_scope shield = FERRY_SCOPE_INIT;
    MUST(ferry_sleep(1) == FERRY_EFORKED);
    MUST(strstr(ferry_errmsg(), "after fork()") != NULL);
    MUST(ferry_yield() == FERRY_EFORKED);
    MUST(ferry_event_wait(&a->never) == FERRY_EFORKED);
    MUST(ferry_lock(&a->mutex) == 0 && ferry_unlock(&a->mutex) == 0); /* nobody has it: no wait */
    MUST(ferry_wait(task) == FERRY_EFORKED && ferry_await(job) == FERRY_EFORKED);
    MUST(ferry_cancel(task) == FERRY_CANCEL_LATE);
    MUST(ferry_await(ferry_spawn(goes_on, a)) == FERRY_EFORKED);
    MUST(ferry_then(task, NULL, NULL, NULL) == -EINVAL);
    MUST(ferry_shield_open(&shield, FERRY_FOREVER) == 0);
    MUST(ferry_sleep(1) == FERRY_EFORKED);
    MUST(ferry_scope_close(&shield, 0) == 0);
    ferry_group group = FERRY_GROUP_INIT;
    MUST(ferry_group_open(&group) == 0);
    MUST(ferry_group_close(&group, 0) == 0);
    for (int i = 0; i < 10000; i++) /* calls that give way from time to time */
        MUST(ferry_lock(&a->mutex) == 0 && ferry_unlock(&a->mutex) == 0);
    MUST(a->others == a->others_at_fork);
    a->tried = true;
}

static int64_t forks(void *arg) {
    struct around *a = arg;
    ferry_future *others[3], *job = ferry_submit(a->pool, stands_in_job, &a->gate);
    ferry_future *queued = ferry_submit(a->pool, stands_in_job, &a->gate);
    for (int i = 0; i < 3; i++)
        others[i] = ferry_spawn(goes_on, a);
    gate_wait_arrivals(&a->gate, 1);
    while (a->others == 0)
        CHECK_INT(ferry_yield(), 0);
    a->others_at_fork = a->others;
    a->child = fork_with_alarm();
    if (a->child == 0) {
        try_all(a, others[0], job);
        return 77; /* and leaves the task, and the run */
    }
    CHECK_INT(ferry_sleep(1), 0);
    CHECK(a->others > a->others_at_fork);
    gate_open(&a->gate);
    CHECK_INT(ferry_await(job), 5);
    CHECK_INT(ferry_await(queued), 5);
    for (int i = 0; i < 3; i++) {
        ferry_cancel(others[i]);
        CHECK_INT(ferry_await(others[i]), 0);
    }
    return 8;
}

static void in_a_task(void **state) {
    (void)state;
    LEAVES_A_TASK();
    struct around a = {.pool = make_pool(1, NULL), .parent = getpid(), .gate = GATE_INIT};
    int64_t rc = ferry_run_with(forks, &a, &no_threads);
    if (getpid() != a.parent) {
        MUST(rc == FERRY_EFORKED);
        MUST(a.tried && a.others == a.others_at_fork);
        MUST(ferry_loop_current() == NULL);
        MUST(ferry_run_with(sleeps_a_little, as_arg(4), &no_threads) == 4);
        end_well();
    }
    assert_int_equal(rc, 8);
    assert_true(ended_well(a.child));
    end_pool(a.pool);
}

/* One that parks for good in the child's eyes: the run of the child ends with the task that
 * forked, whichever it was. */
static int64_t forks_in_the_background(void *arg) {
    struct around *a = arg;
    a->child = fork_with_alarm();
    return 0;
}

static int64_t waits_for_it(void *arg) {
    ferry_future *task = ferry_spawn(forks_in_the_background, arg);
    int64_t rc = ferry_await(task);
    ((struct around *)arg)->others++;
    return rc == 0 ? 9 : rc;
}

static void in_a_task_in_the_background(void **state) {
    (void)state;
    LEAVES_A_TASK();
    struct around a = {.parent = getpid()};
    ferry_loop *loop = ferry_loop_new();
    int64_t rc = ferry_loop_run(loop, waits_for_it, &a);
    if (getpid() != a.parent) {
        MUST(rc == FERRY_EFORKED);
        MUST(a.others == 0);
        MUST(ferry_loop_run(loop, NULL, NULL) == FERRY_EFORKED);
        MUST(ferry_loop_shutdown(loop, 0) == FERRY_EFORKED);
        MUST(ferry_loop_free(loop) == 0);
        end_well();
    }
    assert_int_equal(rc, 9);
    assert_int_equal(a.others, 1);
    assert_true(ended_well(a.child));
    assert_int_equal(ferry_loop_free(loop), 0);
}

/* ---- Loops and primitives of the parent ------------------------------------------------------ */

static void called(ferry_future *f, int64_t result, void *arg) {
    (void)f;
    (void)result;
    ++*(int *)arg;
}

static int64_t counts(void *arg) {
    ++*(int *)arg;
    return 0;
}

static void loops_refuse(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    int n = 0;
    ferry_loop *loops[2] = {ferry_loop_new(), ferry_loop_attach(base)};
    ferry_async *async = ferry_async_new(loops[0], counts, &n);
    pid_t pid = fork_with_alarm();
    if (pid == 0) {
        ferry_future *ended;
        ferry_promise *promise = ferry_promise_new(&ended, NULL);
        MUST(ferry_promise_set(promise, 1) == 0);
        for (int i = 0; i < 2; i++) {
            MUST(ferry_post(loops[i], counts, &n) == FERRY_EFORKED);
            MUST(ferry_await(ferry_spawn_on(loops[i], counts, &n)) == FERRY_EFORKED);
            MUST(ferry_then(ended, loops[i], called, &n) == FERRY_EFORKED);
            MUST(ferry_loop_run(loops[i], counts, &n) == FERRY_EFORKED);
            MUST(ferry_loop_shutdown(loops[i], 1) == FERRY_EFORKED);
            ferry_loop_stop(loops[i]);
        }
        MUST(ferry_async_send(async) == FERRY_EFORKED);
        MUST(ferry_sleep(1) == 0); /* this thread is no loop's any more */
        MUST(ferry_loop_current() == NULL);
        MUST(ferry_loop_free(loops[0]) == 0 && ferry_loop_free(loops[1]) == 0);
        MUST(n == 0);
        MUST(ferry_run_with(sleeps_a_little, as_arg(4), &no_threads) == 4);
        end_well();
    }
    assert_true(ended_well(pid));
    assert_int_equal(ferry_async_send(async), 0);
    assert_int_equal(ferry_loop_run(loops[0], counts, &n), 0);
    assert_int_equal(n, 2);
    ferry_async_free(async);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ferry_loop_shutdown(loops[i], HOUR), 0);
        assert_int_equal(ferry_loop_free(loops[i]), 0);
    }
    event_base_free(base);
}

struct put {
    ferry_queue *queue;
    ferry_mutex *mutex;
    int item;
};

static void *puts_one(void *arg) {
    struct put *p = arg;
    CHECK_INT(ferry_queue_put(p->queue, &p->item), 0);
    CHECK_INT(ferry_lock(p->mutex), 0);
    CHECK_INT(ferry_unlock(p->mutex), 0);
    return NULL;
}

/* Threads of the parent wait at a full queue. In the child they are gone, and what they brought
 * is there. */
static void a_full_queue(void **state) {
    (void)state;
    enum { PUTTERS = 3 };
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    ferry_queue *queue = ferry_queue_new(1, NULL);
    struct put puts[PUTTERS];
    pthread_t threads[PUTTERS];
    int first = 0;
    void *item;
    assert_int_equal(ferry_lock(&mutex), 0);
    assert_int_equal(ferry_queue_put(queue, &first), 0);
    for (int i = 0; i < PUTTERS; i++) {
        puts[i] = (struct put){queue, &mutex, i + 1};
        threads[i] = start_thread(puts_one, &puts[i]);
        until_waiters(&queue->lock, &queue->put_first, (size_t)i + 1);
    }
    pid_t pid = fork_with_alarm();
    if (pid == 0) {
        for (int i = 0; i <= PUTTERS; i++)
            MUST(ferry_queue_get(queue, &item) == 0 && *(int *)item == i);
        MUST(ferry_queue_try_get(queue, &item) == -EAGAIN);
        MUST(ferry_queue_get_for(queue, &item, 1) == -ETIMEDOUT);
        MUST(ferry_unlock(&mutex) == 0 && ferry_lock(&mutex) == 0);
        end_well();
    }
    assert_true(ended_well(pid));
    for (int i = 0; i <= PUTTERS; i++) {
        assert_int_equal(ferry_queue_get(queue, &item), 0);
        assert_int_equal(*(int *)item, i);
    }
    assert_int_equal(ferry_unlock(&mutex), 0);
    for (int i = 0; i < PUTTERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ferry_queue_free(queue), 0);
}

/* ---- A base of the program's ----------------------------------------------------------------- */

static void *posts(void *arg) {
    struct around *a = arg;
    CHECK_INT(ferry_post((ferry_loop *)(void *)a->pool, counts, &a->others), 0);
    return NULL;
}

static int64_t sleeps_and_counts(void *arg) {
    int64_t rc = ferry_sleep(1);
    ++*(int *)arg;
    return rc;
}

/* One that sleeps, and hasn't noticed the end of that yet: on a slow machine its time may be over
 * before the loop comes back, and then another one is to try. */
static ferry_future *spawn_sleeper(struct event_base *base, ferry_loop *loop, int *slept) {
    for (;;) {
        *slept = 0;
        ferry_future *task = ferry_spawn_on(loop, sleeps_and_counts, slept);
        while (!task_parked(task) && !ferry_done(task))
            CHECK(event_base_loop(base, EVLOOP_NONBLOCK) >= 0);
        if (task_parked(task))
            return task;
        CHECK_INT(ferry_await(task), 0);
    }
}

/* The child goes on with the base: the wake-up of the parent's loop is left to the parent, and
 * its tasks stand still. */
static void a_base_of_the_program(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    struct around a = {.pool = (ferry_executor *)(void *)loop};
    int slept = 0;
    ferry_future *task = spawn_sleeper(base, loop, &slept);
    pthread_join(start_thread(posts, &a), NULL); /* the fd is readable now */
    pid_t pid = fork_with_alarm();
    if (pid == 0) {
        MUST(event_reinit(base) == 0);
        while (ferry__now() < ((struct ferry__task *)task)->timer.at)
            sched_yield();
        MUST(event_base_loop(base, EVLOOP_NONBLOCK) >= 0);
        MUST(event_base_dispatch(base) == 1); /* and nothing is left on it */
        MUST(a.others == 0 && slept == 0);
        MUST(ferry_loop_free(loop) == 0);
        end_well();
    }
    assert_true(ended_well(pid));
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(a.others, 1);
    assert_int_equal(slept, 1);
    assert_int_equal(ferry_await(task), 0);
    assert_int_equal(ferry_loop_free(loop), 0);
    event_base_free(base);
}

/* ---- exec ------------------------------------------------------------------------------------ */

/* What the program does when it is called with an argument. */
static int count_descriptors(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return 99;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static int descriptors_of_another_program(void) {
    int status = -1;
    pid_t pid = fork_with_alarm();
    if (pid == 0) {
        exec_anew("count", NULL);
        _exit(98);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int64_t execs_in_a_task(void *arg) {
    struct around *a = arg;
    int fds[2];
    CHECK_INT(ferry_signal_wait_for(SIGUSR1, 0), -ETIMEDOUT); /* the service thread is there */
    CHECK_INT(pipe(fds), 0);
    CHECK_INT(ferry_await(ferry_submit(a->pool, sleeps_a_little, as_arg(3))), 3);
    CHECK_INT(ferry_poll_for(fds[0], FERRY_READABLE, 0), -ETIMEDOUT);
    close(fds[0]);
    close(fds[1]);
    return descriptors_of_another_program();
}

/* Nothing of Ferry's is open in the other program. */
static void to_exec(void **state) {
    (void)state;
    struct around a = {.pool = make_pool(2, NULL)};
    int before = descriptors_of_another_program();
    assert_true(before > 2 && before < 90);
    assert_int_equal(ferry_run(execs_in_a_task, &a), before);
    assert_int_equal(ferry_signal_restore(SIGUSR1), 0);
    end_pool(a.pool);
}

/* ---- Daemons --------------------------------------------------------------------------------- */

/* Twice, with a session of its own between: the grandchild returns 0, everybody else the child's
 * process id. */
static pid_t become_daemon(void) {
    pid_t pid = fork_with_alarm();
    if (pid != 0)
        return pid;
    MUST(setsid() > 0);
    pid = fork_with_alarm();
    if (pid > 0) {
        int status = -1;
        MUST(waitpid(pid, &status, 0) == pid && status == 0); /* a real one would just end */
        end_well();
    }
    MUST(pid == 0);
    return 0;
}

static int64_t asks_a_pool(void *arg) {
    return FERRY__TSAN ? sleeps_a_little(arg)
                       : ferry_await(ferry_submit(NULL, sleeps_a_little, arg));
}

static void before_the_loop_is_made(void **state) {
    (void)state;
    pid_t pid = become_daemon();
    if (pid == 0) {
        MUST(ferry_run_with(asks_a_pool, as_arg(6), FERRY__TSAN ? &no_threads : NULL) == 6);
        end_well();
    }
    assert_true(ended_well(pid));
}

static void after_the_loop_was_made(void **state) {
    (void)state;
    ferry_loop *loop = ferry_loop_new();
    assert_int_equal(ferry_loop_run(loop, sleeps_a_little, as_arg(1)), 1);
    pid_t pid = become_daemon();
    if (pid == 0) {
        MUST(ferry_loop_run(loop, sleeps_a_little, as_arg(1)) == FERRY_EFORKED);
        MUST(strstr(ferry_errmsg(), "make a new one after fork()") != NULL);
        MUST(ferry_run_with(asks_a_pool, as_arg(6), FERRY__TSAN ? &no_threads : NULL) == 6);
        end_well();
    }
    assert_true(ended_well(pid));
    assert_int_equal(ferry_loop_run(loop, sleeps_a_little, as_arg(2)), 2);
    assert_int_equal(ferry_loop_free(loop), 0);
}

static int64_t becomes_a_daemon(void *arg) {
    struct around *a = arg;
    a->child = become_daemon();
    int rc = ferry_sleep(1);
    a->tried = true;
    return rc == 0 ? 3 : rc;
}

static void in_the_midst_of_a_run(void **state) {
    (void)state;
    LEAVES_A_TASK();
    struct around a = {.parent = getpid()};
    int64_t rc = ferry_run(becomes_a_daemon, &a);
    if (a.child == 0) {
        MUST(rc == FERRY_EFORKED && a.tried);
        MUST(ferry_run_with(asks_a_pool, as_arg(6), FERRY__TSAN ? &no_threads : NULL) == 6);
        end_well();
    }
    assert_int_equal(rc, 3);
    assert_true(ended_well(a.child));
}

int main(int argc, char **argv) {
    (void)argv;
    static const struct CMUnitTest tests[] = {
        /* no threads yet */
        CASE("rule 24: a daemon is made before the loop", before_the_loop_is_made),
        CASE("rule 24: a daemon is made after the loop was", after_the_loop_was_made),
        CASE("rule 24: a task forks: nothing of the parent's runs in the child", in_a_task),
        CASE("rule 24: a task in the background forks", in_a_task_in_the_background),
        CASE("rule 24: loops of the parent refuse all in the child", loops_refuse),
        CASE("rule 24: threads wait at a full queue", a_full_queue),
        CASE("rule 24: a child goes on with the program's base", a_base_of_the_program),
        CASE("rule 24: fork and exec beside tasks, jobs and signals", to_exec),
        CASE("rule 24: a task makes a daemon", in_the_midst_of_a_run),
    };
    return argc > 1 ? count_descriptors() : SUPPORT_RUN(tests);
}

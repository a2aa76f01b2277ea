/* A system that refuses: descriptors, mappings, guards and threads, while tasks and jobs run that
 * have got theirs. Each refusal is an error that says so, nothing is lost, and when there is enough
 * again all goes on.
 *
 * The program is linked with --wrap for mmap, mprotect, madvise and pthread_create. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <event2/event.h>

#include "executor.h"
#include "oom.h"
#include "parked.h"
#include "pools.h"
#include "quiet.h"
#include "support.h"
#include "waiters.h"

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_mprotect(void *at, size_t size, int protection);
int __wrap_mprotect(void *at, size_t size, int protection);
int __real_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);

/* that the system still gives */
static atomic_int maps = INT_MAX, guards = INT_MAX, threads = INT_MAX;
static atomic_bool no_guard_pages;                                     /* a kernel before 6.13 */

static bool refuses(atomic_int *left) {
    return atomic_load(left) != INT_MAX && atomic_fetch_sub(left, 1) <= 0;
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (!refuses(&maps))
        return __real_mmap(at, size, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

int __wrap_mprotect(void *at, size_t size, int protection) {
    if (!refuses(&guards))
        return __real_mprotect(at, size, protection);
    errno = ENOMEM;
    return -1;
}

enum { GUARD_INSTALL = 102 }; /* MADV_GUARD_INSTALL */

int __wrap_madvise(void *at, size_t size, int advice) {
    if (advice != GUARD_INSTALL || !atomic_load(&no_guard_pages))
        return __real_madvise(at, size, advice);
    errno = EINVAL;
    return -1;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg) {
    return refuses(&threads) ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

/* ---- Stacks ---------------------------------------------------------------------------------- */

enum { CROWD = 2000 };

struct crowd {
    ferry_event go;
    int begun;
};

static int64_t stands(void *arg) {
    struct crowd *c = arg;
    c->begun++;
    return ferry_event_wait(&c->go);
}

/* More tasks than there are stacks for: each of the others fails for itself. */
static int64_t a_crowd(void *arg) {
    atomic_int *limit = arg;
    static ferry_future *tasks[CROWD];
    struct crowd c = {.go = FERRY_EVENT_INIT};
    atomic_store(limit, limit == &maps ? 1 : 100);
    for (int i = 0; i < CROWD; i++)
        tasks[i] = ferry_spawn(stands, &c);
    CHECK_INT(ferry_yield(), 0);
    int refused = 0;
    for (int i = 0; i < CROWD; i++) {
        while (!ferry_done(tasks[i]) && !task_parked(tasks[i]))
            CHECK_INT(ferry_yield(), 0);
        if (!ferry_done(tasks[i]))
            continue;
        refused++;
        CHECK_INT(ferry_await(tasks[i]), -ENOMEM);
        CHECK(strstr(ferry_errmsg(), "no stack of ") != NULL &&
              strstr(ferry_errmsg(), "task 'task'") != NULL);
        CHECK(strstr(ferry_errmsg(), limit == &maps ? "no address space" : "vm.max_map_count") !=
              NULL);
        tasks[i] = NULL;
    }
    CHECK(refused > 0);
    CHECK_INT(refused, CROWD - c.begun);
    if (limit == &guards)
        CHECK_INT(c.begun, 100);
    atomic_store(limit, INT_MAX);
    ferry_future *more = ferry_spawn(stands, &c); /* there is enough again */
    until_parked(more);
    ferry_event_set(&c.go);
    CHECK_INT(ferry_await(more), 0);
    for (int i = 0; i < CROWD; i++)
        if (tasks[i])
            CHECK_INT(ferry_await(tasks[i]), 0);
    return 0;
}

static void no_mapping(void **state) {
    (void)state;
    assert_int_equal(ferry_run(a_crowd, &maps), 0);
}

static void no_guard(void **state) {
    (void)state;
    int known = atomic_exchange(&ferry__stack_guard, FERRY__STACK_GUARD_UNKNOWN);
    atomic_store(&no_guard_pages, true);
    assert_int_equal(ferry_run(a_crowd, &guards), 0);
    atomic_store(&no_guard_pages, false);
    atomic_store(&ferry__stack_guard, known);
}

static void no_stack_for_the_first_task(void **state) {
    (void)state;
    atomic_store(&maps, 0);
    int64_t rc = ferry_run(return_arg, as_arg(3));
    atomic_store(&maps, INT_MAX);
    assert_int_equal(rc, -ENOMEM);
    assert_non_null(strstr(ferry_errmsg(), "no memory for the first task"));
    assert_non_null(strstr(ferry_errmsg(), "no address space for another task stack"));
    assert_int_equal(ferry_run(return_arg, as_arg(3)), 3);
}

/* ---- Threads --------------------------------------------------------------------------------- */

static int64_t stand_in_job(void *arg) {
    gate_wait(arg);
    return 5;
}

static void no_replacement(void **state) {
    (void)state;
    gate g = GATE_INIT;
    struct kept_log log;
    ferry_executor *pool = make_pool(1, &(ferry_executor_options){.replacements_max = 1});
    ferry_future *hung = ferry_submit_with(pool, stand_in_job, &g,
                                           &(ferry_job_options){.policy = FERRY_JOB_ABANDON});
    gate_wait_arrivals(&g, 1);
    keep_log(&log, FERRY_LOG_WARNING, "a thread couldn't be made");
    ferry_cancel(hung);
    assert_int_equal(ferry_await(hung), FERRY_EJOBCANCELED);
    atomic_store(&threads, 0);
    ferry_future *job = ferry_submit(pool, return_arg, as_arg(3));
    assert_true(ferry_done(job)); /* the thread that hangs may never come back */
    assert_int_equal(ferry_await(job), -EAGAIN);
    assert_non_null(strstr(ferry_errmsg(), "no thread could be made"));
    atomic_store(&threads, INT_MAX);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(3))), 3);
    assert_int_equal(kept_messages(&log), 1);
    gate_open(&g);
    end_pool(pool);
}

/* ---- Descriptors ----------------------------------------------------------------------------- */

static int open_descriptors(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!CHECK(dir != NULL))
        return -1;
    for (struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* A loop needs several: each of them is once the one too many. */
static void no_descriptors(void **state) {
    (void)state;
    struct rlimit before, fewer;
    int needed = 0;
    /* what is kept for the next time is there */
    assert_int_equal(ferry_run(return_arg, as_arg(3)), 3);
    int open = open_descriptors();
    long blocks = oom_blocks();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct event_base *base = event_base_new();
    ferry_loop *loop = NULL;
    fewer = before;
    fewer.rlim_cur = 0;
    for (; !loop; fewer.rlim_cur++) {
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &fewer), 0);
        errno = 0;
        loop = ferry_loop_new();
        int error = errno;
        errno = 0;
        ferry_loop *attached = loop ? NULL : ferry_loop_attach(base);
        int attached_error = errno;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (!loop) {
            assert_int_equal(error, EMFILE);
            needed++;
        }
        if (attached)
            assert_int_equal(ferry_loop_free(attached), 0);
        else if (!loop)
            assert_int_equal(attached_error, EMFILE);
        assert_true(needed < 1000);
    }
    assert_true(needed > 2); /* its own, and libevent's */
    assert_int_equal(ferry_loop_run(loop, return_arg, as_arg(3)), 3);
    assert_int_equal(ferry_loop_free(loop), 0);
    event_base_free(base);
    assert_int_equal(open_descriptors(), open);
    assert_int_equal(oom_blocks(), blocks);
}

int main(void) {
    oom_install();
    event_set_log_callback(quiet_libevent); /* of what the system refuses it */
    static const struct CMUnitTest tests[] = {
        CASE("no descriptors for a loop", no_descriptors),
        CASE("no mapping for the stacks of some tasks", no_mapping),
        CASE("no guards for the stacks of some tasks: the limit of mappings", no_guard),
        CASE("no stack for the first task", no_stack_for_the_first_task),
        CASE("no thread in the place of one that hangs", no_replacement),
    };
    return SUPPORT_RUN(tests);
}

/* Clean-up that is tied to a scope, and values that are inherited. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <ferry.h>

#include "oom.h"
#include "support.h"

static char order[64];
static size_t at;

static int64_t note(void *arg) {
    order[at++] = *(const char *)arg;
    order[at] = 0;
    return 0;
}

static char a[] = "a", b[] = "b", c[] = "c";

static void fresh(void) {
    at = 0;
    order[0] = 0;
}

static void run(ferry_fn fn) {
    fresh();
    assert_int_equal(ferry_run(fn, NULL), 0);
}

/* ---- defer ----------------------------------------------------------------------------------- */

static int64_t in_two_scopes(void *arg) {
    (void)arg;
    ferry_scope outer = FERRY_SCOPE_INIT, inner = FERRY_SCOPE_INIT;
    ferry_scope_open(&outer, FERRY_FOREVER);
    CHECK_INT(ferry_defer(note, a), 0);
    CHECK_INT(ferry_defer(note, b), 0);
    ferry_scope_open(&inner, FERRY_FOREVER);
    CHECK_INT(ferry_defer(note, c), 0);
    CHECK_STR(order, "");
    CHECK_INT(ferry_scope_close(&inner, -EIO), -EIO);
    CHECK_STR(order, "c");
    CHECK_INT(ferry_scope_close(&outer, 5), 5);
    CHECK_STR(order, "cba");
    return 0;
}

static void last_in_first_out(void **state) {
    (void)state;
    run(in_two_scopes);
}

static int64_t waits(void *arg) {
    int rc = ferry_sleep(5);
    CHECK_INT(rc, 0);
    return note(arg);
}

static int64_t runs_out_of_time(void *arg) {
    (void)arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, 1);
    CHECK_INT(ferry_defer(waits, a), 0);
    int64_t rc = ferry_sleep(10000);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    CHECK_STR(order, "a");
    return 0;
}

static void it_may_wait_in_a_cancelled_scope(void **state) {
    (void)state;
    run(runs_out_of_time);
}

static int64_t never_ends(void *arg) {
    (void)arg;
    int rc = ferry_sleep(FERRY_FOREVER);
    CHECK_INT(rc, -ECANCELED);
    return rc;
}

static int64_t is_bounded(void *arg) {
    (void)arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, FERRY_FOREVER);
    CHECK_INT(ferry_defer_for(never_ends, NULL, 1), 0);
    CHECK_INT(ferry_scope_close(&scope, 3), 3);
    return 0;
}

static void it_is_bounded(void **state) {
    (void)state;
    run(is_bounded);
}

static int64_t ends_with_some(void *arg) {
    CHECK_INT(ferry_defer(note, a), 0);
    CHECK_INT(ferry_defer(note, b), 0);
    if (arg)
        ferry_event_set(arg);
    return ferry_sleep(FERRY_FOREVER);
}

static int64_t cancels_one(void *arg) {
    (void)arg;
    ferry_future *task = ferry_spawn(ends_with_some, NULL);
    ferry_yield();
    ferry_cancel(task);
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    CHECK_STR(order, "ba");
    fresh();
    ferry_event begun = FERRY_EVENT_INIT;
    ferry_future *job = ferry_submit(NULL, ends_with_some, &begun);
    CHECK_INT(ferry_event_wait(&begun), 0);
    CHECK_INT(ferry_await_for(job, 0), -ETIMEDOUT);
    CHECK_STR(order, "ba");
    return 0;
}

static void without_a_scope_at_the_end_of_the_task_or_job(void **state) {
    (void)state;
    run(cancels_one);
}

static void *thread_ends(void *arg) {
    (void)arg;
    CHECK_INT(ferry_defer(note, c), 0);
    return NULL;
}

static void and_of_a_thread(void **state) {
    (void)state;
    fresh();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, thread_ends, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(order, "c");
}

static int64_t member(void *arg) {
    int rc = ferry_sleep(5);
    CHECK_INT(rc, 0);
    return note(arg);
}

static int64_t in_a_group(void *arg) {
    (void)arg;
    ferry_group group = FERRY_GROUP_INIT;
    ferry_group_open(&group);
    CHECK_INT(ferry_defer(note, b), 0);
    CHECK_INT(ferry_group_spawn(&group, member, a), 0);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_STR(order, "ab");
    return 0;
}

static void a_groups_comes_after_its_members(void **state) {
    (void)state;
    run(in_a_group);
}

static int64_t takes_back(void *arg) {
    (void)arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_defer(note, a), 0);
    ferry_scope_open(&scope, FERRY_FOREVER);
    CHECK_INT(ferry_undefer(note, a), -EINVAL); /* it is the outer scope's */
    CHECK_INT(ferry_defer(note, b), 0);
    CHECK_INT(ferry_defer(note, c), 0);
    CHECK_INT(ferry_undefer(note, b), 0);
    CHECK_INT(ferry_undefer(note, b), -EINVAL);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    CHECK_STR(order, "c");
    CHECK_INT(ferry_undefer(note, a), 0);
    return 0;
}

static void it_can_be_taken_back(void **state) {
    (void)state;
    run(takes_back);
    assert_string_equal(order, "c");
}

static int64_t fails(void *arg) {
    (void)arg;
    return ferry_fail(-EIO, "the clean-up's own trouble");
}

static int64_t with_an_error(void *arg) {
    (void)arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, FERRY_FOREVER);
    ferry_defer(fails, NULL);
    int64_t rc = ferry_scope_close(&scope, ferry_fail(-ENOENT, "the region's error"));
    CHECK_INT(rc, -ENOENT);
    CHECK_STR(ferry_errmsg(), "the region's error");
    return 0;
}

static char logged[256];

static void listen(int level, const char *message, void *arg) {
    (void)arg;
    if (level == FERRY_LOG_ERROR)
        strncpy(logged, message, sizeof logged - 1);
}

static void its_error_is_logged_and_hides_none(void **state) {
    (void)state;
    ferry_log_set(listen, NULL);
    run(with_an_error);
    ferry_log_set(NULL, NULL);
    assert_non_null(strstr(logged, "the clean-up's own trouble"));
}

/* ---- local ----------------------------------------------------------------------------------- */

static ferry_local request = FERRY_LOCAL_INIT, user = FERRY_LOCAL_INIT;
static int freed;

static void count_free(void *value) {
    (void)value;
    __atomic_add_fetch(&freed, 1, __ATOMIC_RELAXED);
}

static int64_t sees(void *arg) {
    CHECK(ferry_local_get(&request) == arg);
    return 0;
}

static int64_t sees_later(void *arg) {
    ferry_yield();
    return sees(arg);
}

static int64_t sets_its_own(void *arg) {
    CHECK_INT(ferry_local_set(&request, arg, NULL), 0);
    return ferry_await(ferry_spawn(sees, arg));
}

static int64_t inherits(void *arg) {
    (void)arg;
    CHECK(ferry_local_get(&request) == NULL);
    CHECK_INT(ferry_local_set(&request, a, count_free), 0);
    CHECK_INT(ferry_local_set(&user, c, NULL), 0);
    ferry_future *before = ferry_spawn(sees_later, a);
    CHECK_INT(ferry_await(ferry_submit(NULL, sees, a)), 0);
    CHECK_INT(ferry_await(ferry_spawn(sets_its_own, b)), 0);
    CHECK(ferry_local_get(&request) == a);
    CHECK_INT(ferry_local_set(&request, b, count_free), 0);
    CHECK(ferry_local_get(&request) == b);
    CHECK(ferry_local_get(&user) == c);
    CHECK_INT(ferry_await(before), 0); /* started before: it keeps what it inherited */
    return 0;
}

static void tasks_and_jobs_inherit(void **state) {
    (void)state;
    freed = 0;
    run(inherits);
    assert_int_equal(freed, 2);
}

static int64_t sets_often(void *arg) {
    (void)arg;
    for (int i = 0; i < 1000; i++)
        CHECK_INT(ferry_local_set(&request, a, count_free), 0);
    CHECK_INT(freed, 999);
    return 0;
}

static void a_value_that_is_nobody_elses_is_replaced(void **state) {
    (void)state;
    freed = 0;
    run(sets_often);
    assert_int_equal(freed, 1000);
}

static void *thread_has_its_own(void *arg) {
    (void)arg;
    CHECK(ferry_local_get(&request) == NULL);
    CHECK_INT(ferry_local_set(&request, b, count_free), 0);
    CHECK(ferry_local_get(&request) == b);
    return NULL;
}

static void threads_have_values_too(void **state) {
    (void)state;
    freed = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, thread_has_its_own, NULL), 0);
    pthread_join(thread, NULL);
    assert_int_equal(freed, 1);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int refused;

static void scenario(void) {
    fresh();
    ferry_scope scope = FERRY_SCOPE_INIT;
    if (ferry_scope_open(&scope, FERRY_FOREVER) != 0)
        return;
    int rc = ferry_defer(note, a);
    CHECK(rc == 0 || rc == -ENOMEM);
    refused += rc != 0;
    int set = ferry_local_set(&request, b, NULL);
    CHECK(set == 0 || set == -ENOMEM);
    refused += set != 0;
    if (set == 0)
        CHECK(ferry_local_get(&request) == b);
    ferry_scope_close(&scope, 0);
    CHECK_STR(order, rc == 0 ? "a" : "");
}

static void out_of_memory(void **state) {
    (void)state;
    refused = 0;
    scenario(); /* the thread's own record is made here */
    long before = oom_blocks();
    for (long n = 0;; n++) {
        oom_after(n, false);
        scenario();
        bool hit = oom_hit();
        oom_never();
        ferry_local_set(&request, NULL, NULL);
        if (!hit)
            break;
    }
    assert_true(refused >= 1);
    assert_true(oom_blocks() <= before + 1); /* the value that was set */
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("deferred calls come last in, first out, when their scope is closed",
             last_in_first_out),
        CASE("they may wait in a scope that is cancelled", it_may_wait_in_a_cancelled_scope),
        CASE("but not for ever", it_is_bounded),
        CASE("without a scope: when the task or job ends",
             without_a_scope_at_the_end_of_the_task_or_job),
        CASE("or the thread", and_of_a_thread),
        CASE("a group's come after its members", a_groups_comes_after_its_members),
        CASE("one can be taken back", it_can_be_taken_back),
        CASE("an error of one is logged and hides no other", its_error_is_logged_and_hides_none),
        CASE("values are inherited by what is started after", tasks_and_jobs_inherit),
        CASE("a value that nobody else has is replaced", a_value_that_is_nobody_elses_is_replaced),
        CASE("threads have values of their own", threads_have_values_too),
        CASE("out of memory, nothing is deferred or set", out_of_memory),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

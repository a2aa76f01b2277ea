/* Handles that are lost: FERRY_DEBUG names them at the end of the process. */
#include "config.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ferry.h>

#include "support.h"
#include "waiters.h"

static char heard[16384];

/* Runs fn in a process of its own, with FERRY_DEBUG as given; what it says on standard error is
 * in `heard`. */
static int in_a_process(ferry_fn fn, const char *debug) {
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(fd[1], STDERR_FILENO);
        close(fd[0]);
        close(fd[1]);
        if (debug)
            setenv("FERRY_DEBUG", debug, 1);
        else
            unsetenv("FERRY_DEBUG");
        exit(ferry_run(fn, NULL) == 0 ? 0 : 1);
    }
    close(fd[1]);
    size_t n = 0;
    for (ssize_t got;
         n < sizeof heard - 1 && (got = read(fd[0], heard + n, sizeof heard - 1 - n)) > 0;)
        n += (size_t)got;
    heard[n] = 0;
    close(fd[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int64_t nothing(void *arg) {
    (void)arg;
    return 0;
}

static ferry_future *volatile lost; /* so that a leak checker sees that it is still held */

static int64_t loses_a_handle(void *arg) {
    (void)arg;
    lost = ferry_submit_with(NULL, nothing, NULL, &(ferry_job_options){.name = "forgotten"});
    return ferry_wait(lost);
}

static int64_t loses_none(void *arg) {
    (void)arg;
    ferry_detach(ferry_spawn(nothing, NULL));
    return ferry_await(ferry_submit(NULL, nothing, NULL));
}

static int64_t loses_a_later_one(void *arg) {
    for (int i = 0; i < 20; i++)
        if (ferry_await(ferry_submit(NULL, nothing, arg)) < 0)
            return -EIO;
    lost = ferry_submit(NULL, nothing, arg);
    return ferry_wait(lost);
}

static void a_lost_handle_is_named(void **state) {
    (void)state;
    assert_int_equal(in_a_process(loses_a_handle, "1"), 0);
    const char *said =
        strstr(heard, "the handle of 'forgotten' (ended) was neither awaited nor detached");
    assert_non_null(said);
    assert_null(strstr(said + strlen("the handle of 'forgotten'"), "'forgotten'"));
}

static void one_of_many_plain_jobs(void **state) {
    (void)state;
    assert_int_equal(in_a_process(loses_a_later_one, "1"), 0);
    const char *said =
        strstr(heard, "the handle of 'job' (ended) was neither awaited nor detached");
    assert_non_null(said);
    assert_null(strstr(said + 1, "the handle of 'job'"));
}

static void what_was_taken_is_not(void **state) {
    (void)state;
    assert_int_equal(in_a_process(loses_none, "1"), 0);
    assert_string_equal(heard, "");
}

static void nothing_is_kept_without_it(void **state) {
    (void)state;
    assert_int_equal(in_a_process(loses_a_handle, NULL), 0);
    assert_string_equal(heard, "");
    assert_int_equal(in_a_process(loses_a_handle, "0"), 0);
    assert_string_equal(heard, "");
}

static pthread_t taker;
static gate at_it = GATE_INIT;
static atomic_bool is_over;

static void *makes_and_takes(void *arg) {
    const ferry_job_options named = {.name = "taken"};
    ferry_executor *here;
    CHECK_INT(ferry_inline_new(&here), 0);
    for (int i = 0; !atomic_load(&is_over); i++) {
        CHECK_INT(ferry_await(ferry_submit_with(here, nothing, NULL, &named)), 0);
        if (i == 10)
            gate_open(arg);
    }
    ferry_executor_free(here);
    return NULL;
}

/* After those of the library, which have no priority. */
static void __attribute__((destructor(101))) end_taker(void) {
    atomic_store(&is_over, true);
    if (taker)
        pthread_join(taker, NULL);
}

static int64_t leaves_a_thread_at_it(void *arg) {
    (void)arg;
    lost = ferry_submit_with(NULL, nothing, NULL, &(ferry_job_options){.name = "forgotten"});
    taker = start_thread(makes_and_takes, &at_it);
    gate_wait(&at_it);
    return ferry_wait(lost);
}

/* The process ends while a thread of the program still makes handles and takes them. */
static void others_go_on_meanwhile(void **state) {
    (void)state;
    for (int i = 0; i < 10 && support_in_time(); i++) {
        assert_int_equal(in_a_process(leaves_a_thread_at_it, "1"), 0);
        assert_non_null(strstr(heard, "the handle of 'forgotten' (ended)"));
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a handle that was neither awaited nor detached is named, once",
             a_lost_handle_is_named),
        CASE("so is one of many plain jobs", one_of_many_plain_jobs),
        CASE("handles that were taken aren't", what_was_taken_is_not),
        CASE("others make handles and take them while the process ends", others_go_on_meanwhile),
        CASE("without FERRY_DEBUG nothing is said", nothing_is_kept_without_it),
    };
    return SUPPORT_RUN(tests);
}

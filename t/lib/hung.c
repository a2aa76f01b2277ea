/* Calls that hang: who waited for them is told so, their threads are replaced within a second
 * cap, and the program ends all the same. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "executor.h"
#include "parked.h"
#include "pools.h"
#include "saturate.h"
#include "support.h"
#include "waiters.h"

static const ferry_job_options give_up = {.name = "deaf", .policy = FERRY_JOB_ABANDON};

static ferry_executor *pool_with(int threads, int replacements) {
    return make_pool(threads, &(ferry_executor_options){.replacements_max = replacements});
}

static int64_t stand(void *arg) {
    gate_wait(arg);
    return 5;
}

/* Hangs at the gate and is given up; `arrived`: so many are there then. */
static void hang(ferry_executor *executor, gate *g, unsigned arrived) {
    ferry_future *job = ferry_submit_with(executor, stand, g, &give_up);
    gate_wait_arrivals(g, arrived);
    CHECK_INT(ferry_cancel(job), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(job), FERRY_EJOBCANCELED);
}

/* Hung ones that were let go have given their threads back. */
static void until_found(ferry_executor *pool) {
    while (stats_of(pool).abandoned > 0)
        sched_yield();
}

static unsigned warnings_are_kept(struct kept_log *log, bool begin) {
    if (!begin)
        return kept_messages(log);
    keep_log(log, FERRY_LOG_WARNING, "was given up");
    return 0;
}

/* ---- What the waiter is told ----------------------------------------------------------------- */

static int64_t listens(void *arg) {
    gate_wait(arg);
    return ferry_sleep(FERRY_FOREVER);
}

static int64_t sleeps(void *arg) {
    (void)arg;
    return ferry_sleep(FERRY_FOREVER);
}

static bool says(const char *fate) {
    const char *text = ferry_errmsg();
    return CHECK(strstr(text, "didn't end in time") != NULL) && CHECK(strstr(text, fate) != NULL);
}

TASK_TEST(what_became_of_it) {
    gate hung = GATE_INIT, open = GATE_INIT;
    ferry_executor *pool = pool_with(1, 0), *other = pool_with(1, 0);
    struct kept_log log;
    ferry_promise *promise;
    ferry_future *promised, *job;
    warnings_are_kept(&log, true);
    gate_open(&open);

    job = ferry_submit_with(other, listens, &open, &(ferry_job_options){.name = "good"});
    gate_wait_arrivals(&open, 1);
    CHECK_INT(ferry_await_for(job, 1), -ETIMEDOUT);
    CHECK(says("'good' ") && says("it was told to stop, and has ended"));
    CHECK_INT(ferry_await_for(ferry_spawn(sleeps, NULL), 1), -ETIMEDOUT);
    CHECK(says("it was told to stop, and has ended"));

    job = ferry_submit_with(pool, stand, &hung, &give_up);
    gate_wait_arrivals(&hung, 1);
    ferry_future *shield = ferry_shield(job);
    CHECK_INT(ferry_await_for(shield, 1), -ETIMEDOUT);
    CHECK(says("what it shields was left alone"));
    CHECK_INT(stats_of(pool).abandoned, 0);
    CHECK_INT(ferry_await_for(job, 1), -ETIMEDOUT);
    CHECK(says("'deaf' ") && says("given up: it doesn't stop, and its thread runs on"));
    CHECK_INT(stats_of(pool).abandoned, 1); /* its place is lost */

    CHECK_INT(ferry_await_for(ferry_submit(pool, stand, &hung), 1), -ETIMEDOUT);
    CHECK(says("cancelled before it began"));
    promise = ferry_promise_new(&promised, "promised");
    CHECK_INT(ferry_await_for(promised, 1), -ETIMEDOUT);
    CHECK(says("nobody waits for what was promised any more"));
    ferry_promise_drop(promise);

    gate_open(&hung);
    until_found(pool);
    CHECK_INT(warnings_are_kept(&log, false), 1);
    end_pool(pool);
    end_pool(other);
    return 0;
}

TASK_TEST(what_became_of_it_in_a_scope) {
    gate hung = GATE_INIT;
    ferry_executor *pool = pool_with(1, 0);
    struct kept_log log;
    ferry_scope scope = FERRY_SCOPE_INIT;
    warnings_are_kept(&log, true);
    ferry_future *job = ferry_submit_with(pool, stand, &hung, &give_up);
    gate_wait_arrivals(&hung, 1);
    CHECK_INT(ferry_scope_open(&scope, 1), 0);
    CHECK_INT(ferry_await(job), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    CHECK_STR(ferry_errmsg(),
              "the time-out of the scope was over; what was awaited: given up: it doesn't stop, "
              "and its thread runs on");
    gate_open(&hung);
    until_found(pool);
    CHECK_INT(warnings_are_kept(&log, false), 1);
    end_pool(pool);
    return 0;
}

/* ---- Threads in their place ------------------------------------------------------------------ */

static void replaced(void **state) {
    (void)state;
    gate first = GATE_INIT, second = GATE_INIT;
    ferry_executor *pool = pool_with(1, 1);
    struct kept_log log;
    warnings_are_kept(&log, true);
    hang(pool, &first, 1);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(3))), 3);
    assert_int_equal(stats_of(pool).threads, 2);
    hang(pool, &second, 1);
    ferry_future *third = ferry_submit(pool, return_arg, as_arg(4)); /* that was the second cap */
    assert_false(ferry_done(third));
    assert_int_equal(stats_of(pool).queued, 1);
    gate_open(&first);
    assert_int_equal(ferry_await(third), 4);
    gate_open(&second);
    until_found(pool);
    while (stats_of(pool).threads > 1) /* the surplus goes when it has nothing to do */
        sched_yield();
    assert_int_equal(stats_of(pool).threads_peak, 2);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(6))), 6);
    assert_int_equal(warnings_are_kept(&log, false), 2);
    end_pool(pool);
}

/* What is in the line when a job is given up doesn't wait for the next submit. */
static void replaced_at_once(void **state) {
    (void)state;
    gate g = GATE_INIT;
    ferry_executor *pool = pool_with(1, 1);
    struct kept_log log;
    warnings_are_kept(&log, true);
    ferry_future *hung = ferry_submit_with(pool, stand, &g, &give_up);
    gate_wait_arrivals(&g, 1);
    ferry_future *queued = ferry_submit(pool, return_arg, as_arg(3));
    ferry_cancel(hung);
    assert_int_equal(ferry_await(queued), 3);
    assert_int_equal(ferry_await(hung), FERRY_EJOBCANCELED);
    gate_open(&g);
    until_found(pool);
    assert_int_equal(warnings_are_kept(&log, false), 1);
    end_pool(pool);
}

static void thousands(void **state) {
    (void)state;
    enum { MOST = 3, REPLACED = 2, CALLS = 3000 };
    gate g = GATE_INIT;
    ferry_executor *pool = pool_with(MOST, REPLACED);
    struct kept_log log;
    warnings_are_kept(&log, true);
    for (int i = 0; i < CALLS; i++) {
        ferry_future *job = ferry_submit_with(pool, stand, &g, &give_up);
        if (i < MOST + REPLACED)
            gate_wait_arrivals(&g, (unsigned)i + 1);
        assert_int_equal(ferry_cancel(job),
                         i < MOST + REPLACED ? FERRY_CANCEL_ASKED : FERRY_CANCEL_NEVER_RAN);
        assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    }
    ferry_executor_stats stats = stats_of(pool);
    assert_int_equal(stats.threads_peak, MOST + REPLACED);
    assert_int_equal(stats.abandoned, MOST + REPLACED);
    assert_int_equal(stats.queued, 0);
    gate_open(&g);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(3))), 3);
    assert_int_equal(warnings_are_kept(&log, false), MOST + REPLACED);
    end_pool(pool);
}

/* Its jobs run one by one: the next one doesn't run beside one that hangs. But others on the
 * pool do. */
static void on_a_strand(void **state) {
    (void)state;
    gate g = GATE_INIT;
    ferry_executor *pool = pool_with(1, 1), *strand = make_strand(pool, 1),
                   *other = make_strand(pool, 1);
    struct kept_log log;
    warnings_are_kept(&log, true);
    hang(strand, &g, 1);
    assert_int_equal(stats_of(strand).abandoned, 1);
    ferry_future *behind = ferry_submit(strand, return_arg, as_arg(1));
    assert_int_equal(ferry_await(ferry_submit(other, return_arg, as_arg(2))), 2);
    assert_int_equal(ferry_await(ferry_submit(pool, return_arg, as_arg(3))), 3);
    assert_false(ferry_done(behind));
    gate_open(&g);
    assert_int_equal(ferry_await(behind), 1);
    assert_int_equal(stats_of(pool).threads_peak, 2);
    assert_int_equal(warnings_are_kept(&log, false), 1);
    end_pool(strand);
    end_pool(other);
    end_pool(pool);
}

struct nested {
    ferry_executor *executor;
    ferry_future *promised;
    gate begun, g;
};

/* A job that waits for a handle counts as that, given up or not: one thread in its place. */
static int64_t awaits_in_a_shield(void *arg) {
    struct nested *n = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_shield_open(&shield, FERRY_FOREVER), 0);
    gate_wait(&n->begun);
    CHECK_INT(ferry_wait(n->promised), 0);
    CHECK_INT(ferry_scope_close(&shield, 0), 0);
    gate_wait(&n->g);
    return 0;
}

static void hung_in_a_wait(void **state) {
    (void)state;
    gate stop = GATE_INIT, more = GATE_INIT;
    struct nested n = {.executor = pool_with(1, 1), .begun = GATE_INIT, .g = GATE_INIT};
    struct kept_log log;
    ferry_promise *promise = ferry_promise_new(&n.promised, "promised");
    warnings_are_kept(&log, true);
    gate_open(&n.begun);
    ferry_future *job = ferry_submit_with(n.executor, awaits_in_a_shield, &n, &give_up);
    until_linked(n.promised, 1);
    ferry_future *standing = ferry_submit(n.executor, stand, &stop); /* in the place of who waits */
    gate_wait_arrivals(&stop, 1);
    ferry_cancel(job);
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    ferry_future *queued = ferry_submit(n.executor, stand, &more);
    assert_int_equal(stats_of(n.executor).threads, 2);
    assert_int_equal(ferry_promise_set(promise, 0), 0); /* it waits no longer, but is lost */
    gate_wait_arrivals(&n.g, 1);
    assert_int_equal(stats_of(n.executor).threads, 2);
    assert_int_equal(gate_arrivals(&more), 0);
    gate_open(&stop);
    assert_int_equal(ferry_await(standing), 5);
    gate_wait_arrivals(&more, 1); /* one thread is there all the while */
    gate_open(&more);
    assert_int_equal(ferry_await(queued), 5);
    gate_open(&n.g);
    until_found(n.executor);
    assert_int_equal(stats_of(n.executor).threads_peak, 2);
    assert_int_equal(warnings_are_kept(&log, false), 1);
    ferry_promise_drop(promise);
    assert_int_equal(ferry_await(n.promised), 0);
    end_pool(n.executor);
}

static int64_t runs_it_itself(void *arg) {
    struct nested *n = arg;
    gate_wait(&n->begun);
    return ferry_await(ferry_submit_with(n->executor, stand, &n->g, &give_up));
}

/* One thread hangs in a job and in the one that it runs for it: that is one place. */
static void hung_in_a_job_inside(void **state) {
    (void)state;
    gate after = GATE_INIT, third = GATE_INIT;
    struct nested n = {.executor = pool_with(1, 2), .begun = GATE_INIT, .g = GATE_INIT};
    struct kept_log log;
    warnings_are_kept(&log, true);
    gate_open(&n.begun);
    ferry_executor *strand = make_strand(n.executor, 1);
    n.executor = strand;
    ferry_executor *pool = ferry__strand_pool(strand);
    ferry_future *outer = ferry_submit_with(strand, runs_it_itself, &n, &give_up);
    gate_wait_arrivals(&n.g, 1);
    ferry_cancel(outer);
    assert_int_equal(ferry_await(outer), FERRY_EJOBCANCELED);
    assert_int_equal(stats_of(strand).abandoned, 2);
    ferry_future *one = ferry_submit(pool, stand, &after);
    gate_wait_arrivals(&after, 1);
    ferry_future *two = ferry_submit(pool, stand, &third);
    assert_int_equal(stats_of(pool).threads, 2);
    assert_int_equal(stats_of(pool).queued, 1);
    gate_open(&n.g);
    until_found(strand);
    while (stats_of(pool).threads > 1) /* it is surplus now */
        sched_yield();
    assert_int_equal(gate_arrivals(&third), 0);
    gate_open(&after);
    gate_open(&third);
    assert_int_equal(ferry_await(one), 5);
    assert_int_equal(ferry_await(two), 5);
    assert_int_equal(stats_of(pool).threads_peak, 2);
    assert_int_equal(warnings_are_kept(&log, false), 2);
    end_pool(strand);
    end_pool(pool);
}

static void hung_in_an_inline_job(void **state) {
    (void)state;
    struct nested n = {.begun = GATE_INIT, .g = GATE_INIT};
    struct kept_log log;
    warnings_are_kept(&log, true);
    assert_int_equal(ferry_inline_new(&n.executor), 0);
    gate_open(&n.begun);
    ferry_executor *pool = pool_with(1, 1);
    ferry_future *outer = ferry_submit(pool, runs_it_itself, &n);
    gate_wait_arrivals(&n.g, 1);
    /* it is given up; its thread's job isn't */
    assert_int_equal(ferry_executor_close(n.executor, FERRY_CLOSE_CANCEL), 0);
    assert_int_equal(stats_of(n.executor).abandoned, 1);
    ferry_future *behind = ferry_submit(pool, return_arg, as_arg(1));
    assert_int_equal(stats_of(pool).threads, 1);
    gate_open(&n.g);
    assert_int_equal(ferry_await(behind), 1);
    assert_int_equal(ferry_await(outer), FERRY_EJOBCANCELED);
    assert_int_equal(warnings_are_kept(&log, false), 1);
    ferry_executor_free(n.executor);
    end_pool(pool);
}

static void refused(void **state) {
    (void)state;
    ferry_executor *pool = NULL;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1,
                                                                         .replacements_max = -1}),
                     -EINVAL);
    assert_null(pool);
    assert_non_null(strstr(ferry_errmsg(), "replacements_max -1"));
}

/* ---- The program ends ------------------------------------------------------------------------ */

static gate never = GATE_INIT;

static int64_t gives_up(void *arg) {
    unsigned *arrived = arg;
    ferry_future *job = ferry_submit_with(NULL, stand, &never, &give_up);
    gate_wait_arrivals(&never, ++*arrived);
    CHECK_INT(ferry_await_for(job, 1), -ETIMEDOUT);
    return 7;
}

/* What the program does when it is called with an argument: hangs in the loop's own pool and in
 * the process's. */
static int hang_and_end(void) {
    static const ferry_run_options options = {.grace_ms = 20};
    unsigned arrived = 0;
    bool good = CHECK_INT(ferry_run_with(gives_up, &arrived, &options), 7);
    good &= CHECK_INT(gives_up(&arrived), 7);
    return good ? 0 : 1;
}

static void the_program_ends(void **state) {
    (void)state;
    char said[4096];
    size_t length = 0;
    int fd[2], status = -1;
    assert_int_equal(pipe(fd), 0);
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fd[1], STDERR_FILENO);
        exec_anew("hang", NULL);
        _exit(9);
    }
    close(fd[1]);
    for (ssize_t n; length < sizeof said - 1 &&
                    (n = read(fd[0], said + length, sizeof said - 1 - length)) > 0;)
        length += (size_t)n;
    said[length] = '\0';
    close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0)
        printf("# %s\n", said);
    assert_int_equal(status, 0);
    assert_non_null(strstr(said, "'deaf' was given up"));
    assert_non_null(strstr(said, "'deaf' has been running for "));
    assert_non_null(strstr(said, "left behind"));
}

int main(int argc, char **argv) {
    (void)argv;
    static const struct CMUnitTest tests[] = {
        CASE("a time-out says what became of it", what_became_of_it),
        CASE("the time-out of a scope says what became of it", what_became_of_it_in_a_scope),
        CASE("THR-02 a thread that hangs is replaced, within a second cap", replaced),
        CASE("THR-02 it is replaced at once when there is work", replaced_at_once),
        CASE("THR-04 thousands of calls that are given up are no thousands of threads", thousands),
        CASE("a strand that hangs holds up nobody else", on_a_strand),
        CASE("a job that is given up while it waits for a handle is one place", hung_in_a_wait),
        CASE("a job that is given up with the one that it runs is one place", hung_in_a_job_inside),
        CASE("a job that hangs inside of another one doesn't cost the pool a thread",
             hung_in_an_inline_job),
        CASE("a number of replacements below zero is refused", refused),
        CASE("the program ends all the same, and says what hangs", the_program_ends),
    };
    return argc > 1 ? hang_and_end() : SUPPORT_RUN(tests);
}

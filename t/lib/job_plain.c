/* The record of a job that has ended at home is the next one's, and nothing of the first is left in
 * it but what is the same for all plain jobs. It holds on to nothing. */
#include "config.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#include "child.h"
#include "executor.h"
#include "keeping.h"
#include "oom.h"
#include "orphans.h"
#include "pools.h"
#include "support.h"
#include "waiters.h"

static unsigned kept(void) {
    return ferry__thread_self()->cache.n_jobs;
}

/* Of a job that has ended; its handle is one to compare with, from then on. */
static ferry_future *ended(void) {
    ferry_future *job = ferry_submit(pool, return_arg, as_arg(1));
    CHECK_INT(result_of(job), 1);
    return job;
}

static int64_t checkpoint(void *unused) {
    (void)unused;
    return ferry_checkpoint();
}

static int64_t pass_gate(void *arg) {
    gate_wait(arg);
    return 7;
}

static int64_t pass_gate_and_look(void *arg) {
    gate_wait(arg);
    return ferry_checkpoint();
}

static int64_t fails(void *unused) {
    (void)unused;
    return ferry_fail(-EIO, "the words of the first");
}

/* Submits one, which is to have that record, and looks at it from all sides. */
static void is_as_new(ferry_future *record) {
    gate g = GATE_INIT;
    unsigned before = kept();
    ferry_future *job = ferry_submit(pool, pass_gate_and_look, &g);
    CHECK(job == record);
    CHECK_INT(kept(), before - 1);
    CHECK(job->plain);
    CHECK(!ferry_done(job));
    CHECK(!ferry_cancelled(job));
    CHECK_INT(ferry_result(job), -EAGAIN);
    CHECK_INT(ferry_wait_for(job, 0), -ETIMEDOUT);
    CHECK_INT(atomic_load(&job->state) & FERRY__ABROAD, 0);
    CHECK_STR(ferry_future_name(job), "job");
    gate_open(&g);
    CHECK_INT(result_of(job), 0);
    CHECK_INT(kept(), before);
    gate_destroy(&g);
}

TASK_TEST(the_next_one_has_the_record_of_the_last) {
    ferry_future *first = ended();
    CHECK_INT(kept(), 1);
    long blocks = oom_blocks();
    for (int i = 0; i < 100; i++)
        CHECK(ended() == first);
    CHECK_INT(oom_blocks(), blocks);
    is_as_new(first);
    return 0;
}

static int64_t opens(void *arg) {
    gate_open(arg);
    return 0;
}

/* The task sleeps when the job ends, so that it is told at home. */
TASK_TEST(after_one_that_was_waited_for) {
    gate g = GATE_INIT;
    ferry_future *first = ferry_submit(pool, pass_gate, &g), *task = ferry_spawn(opens, &g);
    CHECK_INT(ferry_await(first), 7);
    CHECK_INT(ferry_await(task), 0);
    gate_destroy(&g);
    CHECK_INT(kept(), 1);
    is_as_new(first);
    return 0;
}

TASK_TEST(after_one_that_failed) {
    ferry_future *first = ferry_submit(pool, fails, NULL);
    CHECK_INT(result_of(first), -EIO);
    is_as_new(first);
    return 0;
}

TASK_TEST(after_one_that_was_told_to_stop) {
    gate g = GATE_INIT;
    ferry_future *first = ferry_submit(pool, pass_gate_and_look, &g);
    gate_wait_arrivals(&g, 1);
    CHECK_INT(ferry_cancel(first), FERRY_CANCEL_ASKED);
    gate_open(&g);
    CHECK_INT(result_of(first), FERRY_EJOBCANCELED);
    gate_destroy(&g);
    CHECK_INT(kept(), 1);
    is_as_new(first);
    return 0;
}

static int64_t sleeps(void *arg) {
    gate_wait(arg);
    return ferry_sleep(FERRY_FOREVER);
}

/* Each of them is told in its sleep. */
TASK_TEST(after_one_that_was_told_in_its_sleep) {
    ferry_future *first = ended();
    gate g = GATE_INIT;
    gate_open(&g);
    for (int i = 0; i < 3; i++) {
        ferry_future *job = ferry_submit(pool, sleeps, &g);
        CHECK(job == first);
        gate_wait_arrivals(&g, (unsigned)i + 1);
        while (!atomic_load(&((struct ferry__job *)job)->runner))
            sched_yield();
        CHECK_INT(ferry_cancel(job), FERRY_CANCEL_ASKED);
        CHECK_INT(result_of(job), FERRY_EJOBCANCELED);
    }
    gate_destroy(&g);
    is_as_new(first);
    return 0;
}

TASK_TEST(after_one_that_never_ran) {
    gate g = GATE_INIT;
    ferry_future *blocker = ferry_submit(pool, pass_gate, &g);
    gate_wait_arrivals(&g, 1);
    ferry_future *first = ferry_submit(pool, return_arg, NULL);
    CHECK_INT(ferry_cancel(first), FERRY_CANCEL_NEVER_RAN);
    CHECK_INT(ferry_await(first), FERRY_EJOBCANCELED);
    CHECK_INT(kept(), 1);
    gate_open(&g);
    CHECK_INT(result_of(blocker), 7);
    gate_destroy(&g);
    CHECK_INT(kept(), 2);
    is_as_new(blocker);
    return 0;
}

TASK_TEST(after_a_member_of_a_group) {
    ferry_future *first = ended();
    ferry_group group = FERRY_GROUP_INIT;
    CHECK_INT(ferry_group_open(&group), 0);
    gate g = GATE_INIT;
    CHECK_INT(ferry_group_submit(&group, pool, pass_gate, &g), 0);
    CHECK_INT(kept(), 0); /* that one is the member */
    ferry_ref(first);
    gate_open(&g);
    CHECK_INT(ferry_group_close(&group, 0), 0);
    CHECK_INT(result_of(first), 7);
    gate_destroy(&g);
    CHECK_INT(kept(), 1);
    is_as_new(first);
    return 0;
}

/* One who waits for it elsewhere: then its own thread tells it, and not its home. */
static void *waits(void *job) {
    CHECK_INT(ferry_wait(job), 0);
    ferry_detach(job);
    return NULL;
}

TASK_TEST(after_one_that_others_waited_for) {
    gate g = GATE_INIT;
    ferry_future *first = ferry_submit(pool, pass_gate, &g);
    pthread_t thread = start_thread(waits, ferry_ref(first));
    while (!(atomic_load(&first->state) & FERRY__ABROAD))
        sched_yield();
    gate_open(&g);
    CHECK_INT(ferry_wait(first), 0);
    pthread_join(thread, NULL);
    CHECK_INT(result_of(first), 7);
    gate_destroy(&g);
    CHECK_INT(kept(), 1);
    is_as_new(first);
    return 0;
}

/* ---- Who else gets one ----------------------------------------------------------------------- */

static int delivered, freed; /* here, where the job was submitted */

static void deliver(void *arg, int64_t result) {
    CHECK_INT(result, return_arg(arg));
    delivered++;
}

static void count_free(void *arg) {
    CHECK(arg != NULL);
    freed++;
}

TASK_TEST(options_are_for_one_job) {
    ferry_future *first = ended();
    delivered = freed = 0;
    for (int i = 1; i <= 3; i++) {
        ferry_future *named = ferry_submit_with(
            pool, return_arg, as_arg(2),
            &(ferry_job_options){.name = "named", .deliver = deliver, .arg_free = count_free});
        CHECK(named == first);
        CHECK_STR(ferry_future_name(named), "named");
        CHECK_INT(result_of(named), 2);
        CHECK_INT(delivered, i);
        CHECK_INT(freed, i);
        is_as_new(first);
        CHECK_INT(delivered, i);
        CHECK_INT(freed, i);
    }
    return 0;
}

static void open_gate(void *arg) {
    gate_open(arg);
}

TASK_TEST(after_one_that_was_interrupted) {
    gate g = GATE_INIT;
    ferry_future *first =
        ferry_submit_with(pool, pass_gate, &g, &(ferry_job_options){.interrupt = open_gate});
    gate_wait_arrivals(&g, 1);
    CHECK_INT(ferry_cancel(first), FERRY_CANCEL_ASKED);
    CHECK_INT(result_of(first), 7);
    gate_destroy(&g);
    CHECK_INT(kept(), 1);
    is_as_new(first);
    return 0;
}

TASK_TEST(after_one_that_was_given_up) {
    gate g = GATE_INIT;
    ferry_future *first =
        ferry_submit_with(pool, pass_gate, &g, &(ferry_job_options){.policy = FERRY_JOB_ABANDON});
    gate_wait_arrivals(&g, 1);
    CHECK_INT(ferry_cancel(first), FERRY_CANCEL_ASKED);
    CHECK(ferry_done(first));
    gate_open(&g);
    CHECK_INT(result_of(first), FERRY_EJOBCANCELED);
    gate_destroy(&g);
    CHECK_INT(kept(), 1);
    is_as_new(first);
    CHECK_INT(stats_of(pool).abandoned, 0);
    return 0;
}

TASK_TEST(after_one_with_a_token) {
    ferry_limiter *limiter;
    CHECK_INT(ferry_limiter_new(&limiter, NULL), 0);
    ferry_future *first = ended();
    for (int i = 0; i < 3; i++) {
        CHECK(ferry_submit_with(pool, return_arg, as_arg(i),
                                &(ferry_job_options){.limiter = limiter, .key = "one"}) == first);
        CHECK_INT(result_of(first), i);
        is_as_new(first);
    }
    CHECK_INT(ferry_limiter_free(limiter), 0);
    return 0;
}

static ferry_local value;

static int64_t value_here(void *unused) {
    (void)unused;
    return (int64_t)(intptr_t)ferry_local_get(&value);
}

TASK_TEST(values_come_with_the_job_that_is_made_under_them) {
    ended();
    CHECK_INT(result_of(ferry_submit(pool, value_here, NULL)), 0);
    delivered = freed = 0;
    CHECK_INT(result_of(ferry_submit_with(pool, return_arg, as_arg(1),
                                          &(ferry_job_options){.arg_free = count_free})),
              1);
    CHECK_INT(ferry_local_set(&value, as_arg(5), NULL), 0);
    CHECK_INT(result_of(ferry_submit(pool, value_here, NULL)), 5);
    CHECK_INT(freed, 1); /* values are all that this one had */
    /* One that never runs has them until its end. */
    gate g = GATE_INIT;
    ferry_future *blocker = ferry_submit(pool, pass_gate, &g);
    gate_wait_arrivals(&g, 1);
    ferry_future *first = ferry_submit(pool, value_here, NULL);
    CHECK_INT(ferry_cancel(first), FERRY_CANCEL_NEVER_RAN);
    CHECK_INT(ferry_await(first), FERRY_EJOBCANCELED);
    gate_open(&g);
    CHECK_INT(result_of(blocker), 7);
    gate_destroy(&g);
    CHECK_INT(kept(), 2);
    for (int i = 0; i < 2; i++)
        CHECK(!((struct ferry__job *)ferry__thread_self()->cache.jobs[i])->values);
    return 0;
}

TASK_TEST(other_executors) {
    ferry_future *first = ended();
    ferry_executor *other = make_pool(2, NULL), *strand = make_strand(other, 1), *in_line;
    CHECK_INT(ferry_inline_new(&in_line), 0);
    ferry_executor *all[] = {other, strand, in_line, NULL};
    for (int i = 0; i < 4; i++) {
        ferry_future *job = ferry_submit(all[i], return_arg, as_arg(i));
        CHECK(job == first);
        CHECK_INT(result_of(job), i);
    }
    CHECK_INT(ferry_executor_stop(strand, FERRY_FOREVER), 0);
    CHECK(ferry_submit(strand, return_arg, NULL) == first);
    CHECK_INT(ferry_await(first), FERRY_ECLOSED);
    CHECK(ferry_submit(pool, NULL, NULL) == first);
    CHECK_INT(ferry_await(first), -EINVAL);
    ferry_executor_free(in_line);
    ferry_executor_free(strand);
    end_pool(other);
    is_as_new(first);
    return 0;
}

/* ---- Regions --------------------------------------------------------------------------------- */

TASK_TEST(the_region_is_that_of_the_submit) {
    ferry_future *first = ended();
    gate g = GATE_INIT;
    for (int i = 0; i < 3; i++) {
        ferry_scope one = FERRY_SCOPE_INIT, other = FERRY_SCOPE_INIT;
        gate_init(&g);
        CHECK_INT(ferry_scope_open(&one, FERRY_FOREVER), 0);
        CHECK_INT(result_of(ferry_submit(pool, checkpoint, NULL)), 0); /* it has a flag now */
        CHECK_INT(result_of(ferry_submit(pool, checkpoint, NULL)), 0);
        CHECK_INT(ferry_scope_close(&one, 0), 0);
        is_as_new(first);
        CHECK_INT(ferry_scope_open(&other, FERRY_FOREVER), 0);
        CHECK_INT(result_of(ferry_submit(pool, checkpoint, NULL)), 0);
        ferry_future *job = ferry_submit(pool, pass_gate_and_look, &g);
        gate_wait_arrivals(&g, 1);
        ferry_scope_cancel(&other);
        gate_open(&g);
        CHECK_INT(result_of(job), -ECANCELED);
        CHECK_INT(result_of(ferry_submit(pool, checkpoint, NULL)), -ECANCELED);
        CHECK_INT(ferry_scope_close(&other, -ECANCELED), 0);
        is_as_new(first);
        gate_destroy(&g);
    }
    return 0;
}

/* More at once than the flag has references in reserve; and it is gone before they are. */
TASK_TEST(many_of_a_region_that_ends) {
    static ferry_future *jobs[5 * FERRY__CELL_SPARE];
    enum { N = sizeof jobs / sizeof jobs[0] };
    gate g;
    long blocks = 0;
    for (int round = 0; round < 4; round++) {
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
        gate_init(&g);
        for (int i = 0; i < N; i++)
            jobs[i] = ferry_submit(pool, pass_gate_and_look, &g);
        if (round % 2 == 1)
            ferry_scope_cancel(&scope);
        CHECK_INT(ferry_scope_close(&scope, 0), 0);
        gate_open(&g);
        for (int i = 0; i < N; i++)
            CHECK_INT(result_of(jobs[i]), round % 2 == 0 ? 0 : FERRY_EJOBCANCELED);
        gate_destroy(&g);
        CHECK_INT(kept(), MOST);
        if (round == 0)
            blocks = oom_blocks();
        CHECK_INT(oom_blocks(), blocks); /* the flag is gone, too */
    }
    return 0;
}

static int64_t time_left(void *unused) {
    (void)unused;
    return ferry_time_left();
}

TASK_TEST(deadlines_are_inherited) {
    ferry_future *first = ended();
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 1000000), 0);
    for (int i = 0; i < 2; i++) { /* the second one finds that the scope has a flag */
        int64_t left = result_of(ferry_submit(pool, time_left, NULL));
        CHECK(left > 0 && left <= 1000000);
    }
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    CHECK(result_of(ferry_submit(pool, time_left, NULL)) == FERRY_FOREVER);
    is_as_new(first);
    return 0;
}

/* ---- What it holds on to --------------------------------------------------------------------- */

/* With a pool of its own, whose thread is gone then, and with it the last that it held of the
 * loop. */
static int64_t one_job(void *unused) {
    (void)unused;
    ferry_executor *own = make_pool(1, NULL);
    CHECK_INT(result_of(ferry_submit(own, return_arg, as_arg(4))), 4);
    end_pool(own);
    return 0;
}

TASK_TEST(no_executor) {
    ended();
    CHECK_INT(one_job(NULL), 0); /* the record of its thread stays, for the next one */
    long blocks = oom_blocks();
    for (int i = 0; i < 3; i++) {
        one_job(NULL);
        CHECK_INT(kept(), 1);
        CHECK_INT(oom_blocks(), blocks);
    }
    return 0;
}

/* A run's task leaves its own (cells.c). */
static long blocks_but_cells(void) {
    return oom_blocks() - (long)ferry__thread_self()->cache.n_cells;
}

static void no_loop(void **state) {
    (void)state;
    assert_int_equal(ferry_run(one_job, NULL), 0);
    assert_int_equal(kept(), 1);
    long blocks = blocks_but_cells();
    for (int i = 0; i < 3; i++) { /* each with a loop of its own */
        assert_int_equal(ferry_run(one_job, NULL), 0);
        assert_int_equal(kept(), 1);
        assert_int_equal(blocks_but_cells(), blocks);
    }
}

/* They end where they were submitted, since none of them ever runs. */
static int64_t many_jobs(void *unused) {
    static ferry_future *jobs[3 * MOST];
    (void)unused;
    gate g = GATE_INIT;
    ferry_executor *own = make_pool(1, NULL);
    ferry_future *blocker = ferry_submit(own, pass_gate, &g);
    gate_wait_arrivals(&g, 1);
    for (int i = 0; i < 3 * MOST; i++)
        jobs[i] = ferry_submit(own, return_arg, NULL);
    for (int i = 0; i < 3 * MOST; i++)
        CHECK_INT(ferry_cancel(jobs[i]), FERRY_CANCEL_NEVER_RAN);
    for (int i = 0; i < 3 * MOST; i++) {
        CHECK_INT(ferry_await(jobs[i]), FERRY_EJOBCANCELED);
        CHECK_INT(kept(), i < MOST ? i + 1 : MOST);
    }
    gate_open(&g);
    CHECK_INT(result_of(blocker), 7);
    gate_destroy(&g);
    end_pool(own);
    return 0;
}

/* A thread gives all of them back at its end. */
static void no_more_than_a_few(void **state) {
    (void)state;
    gives_back_at_its_end(many_jobs);
}

struct relay {
    gate g;
    int calls;
};

static void called(ferry_future *job, int64_t result, void *arg);

static void submit_next(struct relay *relay) {
    gate_init(&relay->g);
    CHECK_INT(ferry_then(ferry_submit(pool, pass_gate, &relay->g), NULL, called, relay), 0);
    gate_open(&relay->g); /* not before: so it is told at home */
}

static void called(ferry_future *job, int64_t result, void *arg) {
    struct relay *relay = arg;
    CHECK_INT(result, 7);
    ferry_detach(job);
    gate_destroy(&relay->g);
    if (++relay->calls < 100)
        submit_next(relay);
}

/* Who waits is a callback, which submits the next one: then its own isn't over yet. */
TASK_TEST(callbacks) {
    struct relay relay = {.calls = 0};
    submit_next(&relay);
    while (relay.calls < 100)
        ferry_yield();
    CHECK_INT(kept(), 2);
    return 0;
}

TASK_TEST(nothing_where_no_records_are_kept) {
    struct ferry__cache *cache = &ferry__thread_self()->cache;
    ferry__cache_begin(cache);
    CHECK_INT(cache->most_kept, 0); /* the test has its own allocator */
    ended();
    CHECK_INT(kept(), 0);
    return 0;
}

/* ---- No memory, and fork --------------------------------------------------------------------- */

TASK_TEST(out_of_memory) {
    ferry_future *first = ended(), *second;
    ferry_loop *loop = ferry_loop_current();
    gate g = GATE_INIT;
    CHECK(ferry_submit(pool, pass_gate, &g) == first);
    long jobs = ferry__loop_jobs(loop), blocks = oom_blocks();
    for (int i = 0; i < 2; i++) {
        oom_after(0, i == 1);
        second = ferry_submit(pool, return_arg, NULL);
        oom_never();
        CHECK(second == NULL);
        CHECK_INT(ferry__loop_jobs(loop), jobs);
        CHECK_INT(oom_blocks(), blocks);
    }
    gate_open(&g);
    CHECK_INT(result_of(first), 7);
    gate_destroy(&g);
    is_as_new(first);
    return 0;
}

/* The child has what its thread had kept, and a generation of its own. */
static int64_t in_the_child(void *unused) {
    (void)unused;
    MUST(kept() == 1);
    ferry_future *first = ferry__thread_self()->cache.jobs[0];
    for (int i = 0; i < 3; i++)
        is_as_new(first);
    MUST(!support_failing());
    return 0;
}

static void forked(void **state) {
    (void)state;
    if (FERRY__TSAN)
        SKIP("ThreadSanitizer allows no threads in such a child");
    assert_int_equal(ferry_run(one_job, NULL), 0);
    assert_int_equal(kept(), 1);
    pid_t child = fork_with_alarm();
    assert_true(child >= 0);
    if (child == 0)
        end_child(ferry_run(in_the_child, NULL) == 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(child_was_good(status));
    assert_int_equal(ferry_run(one_job, NULL), 0);
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        KEEPING("the next job has the record of the last one",
                the_next_one_has_the_record_of_the_last),
        KEEPING("after one that was waited for", after_one_that_was_waited_for),
        KEEPING("after one that failed", after_one_that_failed),
        KEEPING("after one that was told to stop", after_one_that_was_told_to_stop),
        KEEPING("after one that was told in its sleep", after_one_that_was_told_in_its_sleep),
        KEEPING("after one that never ran", after_one_that_never_ran),
        KEEPING("after a member of a group", after_a_member_of_a_group),
        KEEPING("after one that others waited for", after_one_that_others_waited_for),
        KEEPING("after one that was interrupted", after_one_that_was_interrupted),
        KEEPING("after one that was given up", after_one_that_was_given_up),
        KEEPING("after one with a token", after_one_with_a_token),
        KEEPING("options are for one job", options_are_for_one_job),
        KEEPING("values come with the job that is made under them",
                values_come_with_the_job_that_is_made_under_them),
        KEEPING("other executors, and refused there", other_executors),
        KEEPING("the region that a job inherits is that of its submit",
                the_region_is_that_of_the_submit),
        KEEPING("many jobs of a region that ends before them", many_of_a_region_that_ends),
        KEEPING("deadlines are inherited, by one job", deadlines_are_inherited),
        KEEPING("a record that is kept holds no executor", no_executor),
        KEEPING("a record that is kept holds no loop", no_loop),
        KEEPING("a thread keeps a few, and gives them back at its end", no_more_than_a_few),
        KEEPING("with an allocator of the program's own nothing is kept",
                nothing_where_no_records_are_kept),
        KEEPING("a callback submits the next one", callbacks),
        KEEPING("out of memory", out_of_memory),
        KEEPING("a child of fork() goes on with its own", forked),
    };
    return SUPPORT_RUN(tests);
}

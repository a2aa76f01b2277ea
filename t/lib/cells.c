/* The flag of a task that its jobs inherit is kept for the next task, once nobody else has it, and
 * nothing of the first is left in it. */
#include "config.h"

#include <errno.h>

#include "executor.h"
#include "keeping.h"
#include "oom.h"
#include "orphans.h"
#include "parked.h"
#include "pools.h"
#include "support.h"
#include "waiters.h"

static unsigned kept(void) {
    return ferry__thread_self()->cache.n_cells;
}

static struct ferry__cell *cell_of(ferry_future *task) {
    return ((struct ferry__task *)task)->ctx.root.cell;
}

struct job {
    gate g;
    int64_t saw; /* when the gate was open: whether it is to stop */
};

/* A success in any case: a job that fails comes to its end on its own thread. */
static int64_t look_behind_gate(void *arg) {
    struct job *j = arg;
    gate_wait(&j->g);
    j->saw = ferry_checkpoint();
    return 0;
}

static int64_t submits(void *arg) {
    return result_of(ferry_submit(pool, return_arg, arg));
}

static int64_t submits_and_waits(void *arg) {
    return ferry_await(ferry_submit(pool, look_behind_gate, arg));
}

static int64_t submits_in_a_scope(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    int64_t rc = submits_and_waits(arg);
    CHECK_INT(ferry_scope_close(&scope, rc < 0 ? (int)rc : 0), rc < 0 ? -ECANCELED : 0);
    return rc;
}

/* A task that has left its cell. */
static void leave_one(void) {
    unsigned before = kept();
    CHECK_INT(ferry_await(ferry_spawn(submits, as_arg(3))), 3);
    CHECK_INT(kept(), before > 0 ? before : 1);
}

/* A task whose job is told to stop when the task is. Returns the cell that it had. */
static struct ferry__cell *is_told(ferry_fn fn) {
    struct job j = {.g = GATE_INIT};
    ferry_future *task = ferry_spawn(fn, &j);
    struct ferry__cell *cell = cell_of(task);
    until_parked(task);
    gate_wait_arrivals(&j.g, 1);
    CHECK_INT(ferry_cancel(task), FERRY_CANCEL_ASKED);
    until_parked(task); /* it joins its job, which comes to its end here, then */
    gate_open(&j.g);
    CHECK_INT(ferry_await(task), 0);
    CHECK_INT(j.saw, -ECANCELED);
    gate_destroy(&j.g);
    return cell;
}

TASK_TEST(the_next_task_has_it) {
    CHECK_INT(kept(), 0);
    leave_one();
    struct ferry__cell *first = ferry__thread_self()->cache.cells[0];
    for (int i = 0; i < 10; i++) {
        ferry_future *task = ferry_spawn(submits, as_arg(4));
        CHECK(cell_of(task) == first);
        CHECK_INT(kept(), 0);
        CHECK_INT(ferry_await(task), 4);
        CHECK_INT(kept(), 1);
    }
    return 0;
}

TASK_TEST(a_task_without_a_job_gives_it_back) {
    leave_one();
    CHECK_INT(ferry_await(ferry_spawn(return_arg, as_arg(5))), 5);
    CHECK_INT(kept(), 1);
    return 0;
}

/* A task whose job stands behind that of the pool's only thread. */
static void cancel_one_behind(void) {
    struct job behind = {.g = GATE_INIT};
    ferry_future *task = ferry_spawn(submits_and_waits, &behind);
    until_parked(task);
    CHECK_INT(ferry_cancel(task), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    CHECK_INT(gate_arrivals(&behind.g), 0);
    gate_destroy(&behind.g);
}

TASK_TEST(nothing_is_left_in_it) {
    leave_one();
    struct ferry__cell *first = is_told(submits_and_waits);
    CHECK(is_told(submits_in_a_scope) == first);
    struct job j = {.g = GATE_INIT, .saw = 1};
    ferry_future *task = ferry_spawn(submits_and_waits, &j);
    until_parked(task);
    gate_wait_arrivals(&j.g, 1);
    cancel_one_behind(); /* a job looks at its flag once some flag was set */
    gate_open(&j.g);
    CHECK_INT(ferry_await(task), 0); /* this one wasn't cancelled */
    CHECK_INT(j.saw, 0);
    gate_destroy(&j.g);
    return 0;
}

TASK_TEST(cancelled_before_it_runs) {
    leave_one();
    ferry_future *task = ferry_spawn(submits, as_arg(6));
    CHECK_INT(ferry_cancel(task), FERRY_CANCEL_ASKED);
    CHECK_INT(ferry_await(task), FERRY_EJOBCANCELED);
    leave_one();
    return 0;
}

static void *detaches(void *f) {
    ferry_detach(f);
    return NULL;
}

/* For want of a stack. Its handle is given up here, or on another thread. */
TASK_TEST(of_one_that_never_ran) {
    static const ferry_task_options giant = {.stack_size = SIZE_MAX / 2};
    long blocks = 0;
    leave_one();
    for (int i = 0; i < 6; i++) {
        ferry_future *task = ferry_spawn_with(submits, as_arg(1), &giant);
        CHECK(cell_of(task) != NULL);
        CHECK_INT(ferry_await(ferry_ref(task)), -EINVAL);
        if (i % 2)
            pthread_join(start_thread(detaches, task), NULL);
        else
            ferry_detach(task);
        CHECK_INT(kept(), i % 2 ? 0 : 1);
        leave_one();
        if (i == 1)
            blocks = oom_blocks();
    }
    CHECK_INT(oom_blocks(), blocks);
    return 0;
}

struct left {
    struct job j;
    ferry_future *job;
};

static int64_t leaves_its_job(void *arg) {
    struct left *left = arg;
    left->job = ferry_submit(pool, look_behind_gate, &left->j);
    return 0;
}

/* A job that outlives its task has the flag still: it isn't the next one's. */
TASK_TEST(not_while_a_job_has_it) {
    leave_one();
    struct left left = {.j = {.g = GATE_INIT, .saw = 1}};
    CHECK_INT(ferry_await(ferry_spawn(leaves_its_job, &left)), 0);
    CHECK_INT(kept(), 0);
    cancel_one_behind();
    gate_open(&left.j.g);
    CHECK_INT(ferry_await(left.job), 0);
    CHECK_INT(left.j.saw, 0);
    gate_destroy(&left.j.g);
    return 0;
}

static int64_t many(void *unused) {
    (void)unused;
    ferry_future *tasks[2 * MOST];
    for (int i = 0; i < 2 * MOST; i++)
        tasks[i] = ferry_spawn(submits, as_arg(i));
    for (int i = 0; i < 2 * MOST; i++)
        CHECK_INT(ferry_await(tasks[i]), i);
    CHECK_INT(kept(), MOST);
    return 0;
}

TASK_TEST(no_more_than_a_few) {
    return many(NULL);
}

static void a_thread_gives_them_back(void **state) {
    (void)state;
    gives_back_at_its_end(many);
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        KEEPING("the next task has it", the_next_task_has_it),
        KEEPING("a task without a job gives it back", a_task_without_a_job_gives_it_back),
        KEEPING("nothing is left in it", nothing_is_left_in_it),
        KEEPING("of a task that was cancelled before it ran", cancelled_before_it_runs),
        KEEPING("of a task that never ran", of_one_that_never_ran),
        KEEPING("not while a job has it", not_while_a_job_has_it),
        KEEPING("no more than a few", no_more_than_a_few),
        KEEPING("a thread gives them back at its end", a_thread_gives_them_back),
    };
    return SUPPORT_RUN(tests);
}

/* How a walk and those who take its batches go together: bounds, leaving early, cancelling, worlds.
 */
#include "config.h"

#include "child.h"
#include "saturate.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- What the hook sees ---------------------------------------------------------------------- */

/* Counts calls; stands at the gate at call number `stop_at` (from 1). */
struct hook {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned calls; /* under lock */
    bool freed;     /* under lock */
    unsigned stop_at;
    gate gate;
};

#define HOOK_INIT \
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false, 0, GATE_INIT }

static int hook_call(const ferry_walk_entry *entry, void *arg) {
    struct hook *hook = arg;
    (void)entry;
    pthread_mutex_lock(&hook->lock);
    bool stop = ++hook->calls == hook->stop_at;
    pthread_cond_broadcast(&hook->changed);
    pthread_mutex_unlock(&hook->lock);
    if (stop)
        gate_wait(&hook->gate);
    return FERRY_WALK_KEEP;
}

static void hook_freed(void *arg) {
    struct hook *hook = arg;
    pthread_mutex_lock(&hook->lock);
    CHECK(!hook->freed);
    hook->freed = true;
    pthread_cond_broadcast(&hook->changed);
    pthread_mutex_unlock(&hook->lock);
}

static unsigned hook_calls(struct hook *hook) {
    pthread_mutex_lock(&hook->lock);
    unsigned calls = hook->calls;
    pthread_mutex_unlock(&hook->lock);
    return calls;
}

static void wait_for_calls(struct hook *hook, unsigned calls) {
    pthread_mutex_lock(&hook->lock);
    while (hook->calls < calls)
        pthread_cond_wait(&hook->changed, &hook->lock);
    pthread_mutex_unlock(&hook->lock);
}

static void wait_until_freed(struct hook *hook) {
    pthread_mutex_lock(&hook->lock);
    while (!hook->freed)
        pthread_cond_wait(&hook->changed, &hook->lock);
    pthread_mutex_unlock(&hook->lock);
}

static ferry_walk_options options_with(struct hook *hook) {
    return (ferry_walk_options){.batch_entries = 1,
                                .queue_batches = 3,
                                .exclude = hook_call,
                                .exclude_arg = hook,
                                .exclude_arg_free = hook_freed};
}

enum { FILES = 200 };

static void make_tree(void) {
    make_folder("t");
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "t/f%03d", i);
        make_file(name, 1);
    }
}

static ferry_walk *open_walk(const ferry_walk_options *options) {
    ferry_walk *walk;
    assert_int_equal(ferry_walk_open(&walk, pool, scratch_fd, "t", options), 0);
    return walk;
}

/* It stands in its first call of the hook, until the gate opens. */
static ferry_walk *open_held_walk(struct hook *hook) {
    ferry_walk_options options = options_with(hook);
    make_tree();
    hook->stop_at = 1;
    ferry_walk *walk = open_walk(&options);
    gate_wait_arrivals(&hook->gate, 1);
    return walk;
}

static int take_one(ferry_walk *walk) {
    ferry_walk_batch *batch;
    int rc = ferry_walk_next(walk, &batch);
    if (rc == 0)
        ferry_walk_batch_free(batch);
    return rc;
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

/* Three batches wait in the queue, and the fourth entry in the walk's hand. */
static void the_walk_waits_when_nobody_takes(void **state) {
    struct hook hook = HOOK_INIT;
    ferry_walk_options options = options_with(&hook);
    (void)state;
    make_tree();
    ferry_walk *walk = open_walk(&options);
    for (unsigned taken = 0; taken < 20; taken++) {
        wait_for_calls(&hook, taken + 4);
        assert_true(hook_calls(&hook) <= taken + 4);
        assert_int_equal(take_one(walk), 0);
    }
    assert_int_equal(ferry_walk_close(walk), 0);
    unsigned calls = hook_calls(&hook);
    assert_true(calls <= 24);
    wait_until_freed(&hook);
    assert_int_equal(hook_calls(&hook), calls);
}

static void batches_are_bounded(void **state) {
    ferry_walk_options by_bytes = {.batch_bytes = 50};
    ferry_walk_options by_entries = {.batch_entries = 7};
    size_t total = 0, biggest = 0;
    ferry_walk_batch *batch;
    (void)state;
    make_tree();
    ferry_walk *walk = open_walk(&by_entries);
    while (ferry_walk_next(walk, &batch) == 0) {
        assert_in_range(batch->count, 1, 7);
        total += batch->count;
        ferry_walk_batch_free(batch);
    }
    assert_int_equal(total, FILES + 1);
    assert_int_equal(ferry_walk_close(walk), 0);
    /* "t/f000" and its zero are 7 bytes. */
    walk = open_walk(&by_bytes);
    total = 0;
    while (ferry_walk_next(walk, &batch) == 0) {
        total += batch->count;
        biggest = batch->count > biggest ? batch->count : biggest;
        ferry_walk_batch_free(batch);
    }
    assert_int_equal(total, FILES + 1);
    assert_in_range(biggest, 2, 8);
    assert_int_equal(ferry_walk_close(walk), 0);
    /* A path longer than what a batch holds comes alone. */
    by_bytes.batch_bytes = 1;
    struct walked w = walk_all(pool, scratch_fd, "t", &by_bytes);
    assert_int_equal(w.count, FILES + 1);
    walked_free(&w);
}

static void the_end_comes_again_and_again(void **state) {
    (void)state;
    make_tree();
    ferry_walk *walk = open_walk(NULL);
    ferry_walk_batch *batch;
    while (take_one(walk) == 0)
        ;
    assert_int_equal(ferry_walk_next(walk, &batch), FERRY_END);
    assert_int_equal(ferry_walk_next(walk, &batch), FERRY_END);
    assert_int_equal(ferry_walk_next(NULL, &batch), -EINVAL);
    assert_int_equal(ferry_walk_next(walk, NULL), -EINVAL);
    assert_int_equal(ferry_walk_close(walk), 0);
    assert_int_equal(ferry_walk_close(NULL), 0);
    ferry_walk_detach(NULL);
    ferry_walk_batch_free(NULL);
}

/* ---- Leaving early --------------------------------------------------------------------------- */

static void closing_stops_and_joins(void **state) {
    (void)state;
    make_tree();
    for (unsigned taken = 0; taken < 6; taken++) {
        struct hook hook = HOOK_INIT;
        ferry_walk_options options = options_with(&hook);
        ferry_walk *walk = open_walk(&options);
        for (unsigned i = 0; i < taken; i++)
            assert_int_equal(take_one(walk), 0);
        assert_int_equal(ferry_walk_close(walk), 0);
        unsigned calls = hook_calls(&hook);
        wait_until_freed(&hook);
        assert_int_equal(hook_calls(&hook), calls);
        assert_true(calls <= taken + 4);
    }
}

static void detaching_does_not_wait(void **state) {
    struct hook hook = HOOK_INIT;
    ferry_walk_options options = options_with(&hook);
    (void)state;
    make_tree();
    hook.stop_at = 2;
    ferry_walk *walk = open_walk(&options);
    gate_wait_arrivals(&hook.gate, 1);
    ferry_walk_detach(walk);
    gate_open(&hook.gate);
    wait_until_freed(&hook);
    assert_int_equal(hook_calls(&hook), 2);
}

static void a_walk_that_is_queued_is_closed_at_once(void **state) {
    struct hook hook = HOOK_INIT;
    ferry_walk_options options = options_with(&hook);
    saturation s;
    (void)state;
    make_tree();
    saturate(&s, pool, 2);
    ferry_walk *walk = open_walk(&options);
    assert_int_equal(ferry_walk_close(walk), 0);
    desaturate(&s);
    wait_until_freed(&hook);
    assert_int_equal(hook_calls(&hook), 0);
}

/* ---- Cancelling ------------------------------------------------------------------------------ */

static void a_cancelled_consumer_can_still_close(void **state) {
    struct hook hook = HOOK_INIT;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_walk_batch *batch;
    (void)state;
    ferry_walk *walk = open_held_walk(&hook);
    assert_int_equal(ferry_scope_open(&scope, 1), 0);
    int64_t rc = ferry_walk_next(walk, &batch);
    assert_int_equal(rc, -ECANCELED);
    gate_open(&hook.gate);
    assert_int_equal(ferry_walk_close(walk), 0);
    assert_int_equal(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    wait_until_freed(&hook);
}

static void *take_all_there(void *arg) {
    struct walked *w = calloc(1, sizeof *w);
    take_all(w, arg);
    return w;
}

/* A consumer outside of the walk's scope isn't cancelled itself. */
static void a_walk_ends_with_its_scope(void **state) {
    struct hook hook = HOOK_INIT;
    ferry_walk_options options = options_with(&hook);
    ferry_scope scope = FERRY_SCOPE_INIT;
    pthread_t thread;
    struct walked *w;
    (void)state;
    make_tree();
    hook.stop_at = 3;
    assert_int_equal(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_walk *walk = open_walk(&options);
    gate_wait_arrivals(&hook.gate, 1);
    assert_int_equal(pthread_create(&thread, NULL, take_all_there, walk), 0);
    ferry_scope_cancel(&scope);
    gate_open(&hook.gate);
    assert_int_equal(pthread_join(thread, (void **)&w), 0);
    assert_int_equal(w->end, FERRY_EJOBCANCELED);
    assert_in_range(w->count, 2, 3);
    walked_free(w);
    free(w);
    ferry_walk *never;
    assert_int_equal(ferry_walk_open(&never, pool, scratch_fd, "t", NULL), -ECANCELED);
    assert_null(never);
    assert_int_equal(ferry_scope_close(&scope, 0), 0);
    assert_int_equal(ferry_walk_close(walk), 0);
    wait_until_freed(&hook);
}

static void whoever_waits_hears_that_it_will_never_run(void **state) {
    struct hook hook = HOOK_INIT;
    ferry_walk_options options = options_with(&hook);
    ferry_executor_options one = {.threads_max = 1};
    ferry_executor *own;
    ferry_walk *walk;
    saturation s;
    pthread_t thread;
    struct walked *w;
    (void)state;
    make_tree();
    assert_int_equal(ferry_executor_new(&own, &one), 0);
    saturate(&s, own, 1);
    assert_int_equal(ferry_walk_open(&walk, own, scratch_fd, "t", &options), 0);
    ferry_future *ready = ferry_walk_ready(walk);
    assert_int_equal(pthread_create(&thread, NULL, take_all_there, walk), 0);
    assert_int_equal(ferry_executor_close(own, FERRY_CLOSE_CANCEL), 0);
    assert_int_equal(pthread_join(thread, (void **)&w), 0);
    assert_int_equal(w->end, FERRY_EJOBCANCELED);
    assert_int_equal(w->count, 0);
    free(w);
    assert_int_equal(ferry_await(ready), 0);
    assert_int_equal(ferry_walk_close(walk), 0);
    wait_until_freed(&hook);
    assert_int_equal(ferry_walk_open(&walk, own, scratch_fd, "t", NULL), FERRY_ECLOSED);
    assert_null(walk);
    desaturate(&s);
    assert_int_equal(ferry_executor_stop(own, FERRY_FOREVER), 0);
    ferry_executor_free(own);
    assert_int_equal(hook_calls(&hook), 0);
}

static void an_executor_without_threads_is_refused(void **state) {
    ferry_executor *same;
    ferry_walk *walk;
    ferry_walk_batch *batch;
    (void)state;
    make_tree();
    assert_int_equal(ferry_inline_new(&same), 0);
    assert_int_equal(ferry_walk_open(&walk, same, scratch_fd, "t", NULL), 0);
    assert_int_equal(ferry_walk_next(walk, &batch), -EDEADLK);
    assert_non_null(strstr(ferry_errmsg(), "'t'"));
    assert_int_equal(ferry_walk_close(walk), 0);
    ferry_executor_free(same);
}

/* ---- Several consumers ----------------------------------------------------------------------- */

static void several_share_the_batches(void **state) {
    ferry_walk_options options = {.batch_entries = 3};
    pthread_t threads[3];
    struct walked *w[3];
    size_t times[FILES] = {0}, total = 0;
    (void)state;
    make_tree();
    ferry_walk *walk = open_walk(&options);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_all_there, walk), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], (void **)&w[i]), 0);
        assert_int_equal(w[i]->end, FERRY_END);
        total += w[i]->count;
        for (size_t k = 0; k < w[i]->count; k++)
            if (w[i]->entries[k].depth > 0)
                times[atoi(w[i]->entries[k].path + 3)]++;
        walked_free(w[i]);
        free(w[i]);
    }
    assert_int_equal(total, FILES + 1);
    for (int i = 0; i < FILES; i++)
        assert_int_equal(times[i], 1);
    assert_int_equal(ferry_walk_close(walk), 0);
}

/* ---- Handles --------------------------------------------------------------------------------- */

static void ready_says_when_next_does_not_wait(void **state) {
    struct hook hook = HOOK_INIT;
    (void)state;
    ferry_walk *walk = open_held_walk(&hook);
    ferry_future *first = ferry_walk_ready(walk);
    assert_false(ferry_done(first));
    ferry_future *second = ferry_walk_ready(walk);
    assert_int_equal(ferry_await(first), 0); /* another was asked for */
    assert_false(ferry_done(second));
    gate_open(&hook.gate);
    assert_int_equal(ferry_await(second), 0);
    assert_int_equal(take_one(walk), 0);
    wait_for_calls(&hook, 4);
    assert_int_equal(ferry_await(ferry_walk_ready(walk)), 0);
    while (take_one(walk) == 0)
        ;
    assert_int_equal(ferry_await(ferry_walk_ready(walk)), 0); /* the end is ready */
    assert_int_equal(ferry_walk_close(walk), 0);
    assert_int_equal(ferry_await(ferry_walk_ready(NULL)), -EINVAL);
    wait_until_freed(&hook);
}

static void ready_ends_when_the_walk_is_closed(void **state) {
    struct hook hook = HOOK_INIT;
    (void)state;
    ferry_walk *walk = open_held_walk(&hook);
    ferry_future *ready = ferry_walk_ready(walk);
    ferry_walk_detach(walk);
    assert_int_equal(ferry_await(ready), FERRY_ECLOSED);
    gate_open(&hook.gate);
    wait_until_freed(&hook);
}

/* ---- The child of a fork --------------------------------------------------------------------- */

static void a_child_has_no_part_in_the_walk(void **state) {
    static ferry_walk *walk; /* so that a tool that looks for leaks finds it in the child */
    ferry_walk_batch *batch;
    int status;
    (void)state;
    make_tree();
    walk = open_walk(NULL);
    assert_int_equal(take_one(walk), 0);
    pid_t child = fork();
    if (child == 0) {
        bool good = ferry_walk_next(walk, &batch) == FERRY_EFORKED &&
                    ferry_await(ferry_walk_ready(walk)) == FERRY_EFORKED &&
                    ferry_walk_close(walk) == FERRY_EFORKED;
        ferry_walk_detach(walk);
        end_child(good);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(child_was_good(status));
    assert_int_equal(take_one(walk), 0);
    assert_int_equal(ferry_walk_close(walk), 0);
}

/* ---- Worlds ---------------------------------------------------------------------------------- */

static int64_t walk_in_task(void *arg) {
    struct walked w = walk_all(NULL, scratch_fd, "t", arg);
    CHECK_INT(w.end, FERRY_END);
    CHECK_INT(w.count, FILES + 1);
    walked_free(&w);
    return 5;
}

static int64_t leave_early_in_task(void *arg) {
    ferry_walk *walk;
    CHECK_INT(ferry_walk_open(&walk, NULL, scratch_fd, "t", arg), 0);
    CHECK_INT(take_one(walk), 0);
    CHECK_INT(ferry_walk_close(walk), 0);
    return 6;
}

static int64_t walk_past_deadline(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    struct hook *hook = arg;
    ferry_walk_options options = options_with(hook);
    ferry_walk_batch *batch;
    ferry_walk *walk;
    CHECK_INT(ferry_walk_open(&walk, pool, scratch_fd, "t", &options), 0);
    CHECK_INT(ferry_scope_open(&scope, 5), 0);
    int64_t rc = ferry_walk_next(walk, &batch);
    CHECK_INT(rc, -ECANCELED);
    gate_open(&hook->gate);
    CHECK_INT(ferry_walk_close(walk), 0);
    return ferry_scope_close(&scope, rc);
}

static void tasks_walk_too(void **state) {
    ferry_walk_options small = {.batch_entries = 2, .queue_batches = 1};
    struct hook hook = HOOK_INIT;
    (void)state;
    make_tree();
    assert_int_equal(ferry_run(walk_in_task, NULL), 5);
    assert_int_equal(ferry_run(walk_in_task, &small), 5);
    assert_int_equal(ferry_run(leave_early_in_task, &small), 6);
    hook.stop_at = 1;
    assert_int_equal(ferry_run(walk_past_deadline, &hook), -ETIMEDOUT);
    wait_until_freed(&hook);
}

struct callbacks {
    ferry_walk *walk;
    size_t count;
    ferry_promise *over;
};

/* On the loop's thread, outside of any task: nothing may wait here. */
static void on_ready(ferry_future *future, int64_t result, void *arg) {
    struct callbacks *c = arg;
    ferry_walk_batch *batch;
    int rc;
    CHECK_INT(result, 0);
    ferry_detach(future);
    while ((rc = ferry_walk_next(c->walk, &batch)) == 0) {
        c->count += batch->count;
        ferry_walk_batch_free(batch);
    }
    if (rc == -EDEADLK) {
        CHECK_INT(ferry_then(ferry_walk_ready(c->walk), NULL, on_ready, c), 0);
        return;
    }
    CHECK_INT(rc, FERRY_END);
    CHECK_INT(ferry_walk_close(c->walk), 0);
    ferry_promise_set(c->over, 0);
}

static int64_t walk_by_callbacks(void *arg) {
    struct callbacks *c = arg;
    ferry_walk_options options = {.batch_entries = 8, .queue_batches = 2};
    ferry_future *over;
    c->over = ferry_promise_new(&over, NULL);
    CHECK_INT(ferry_walk_open(&c->walk, NULL, scratch_fd, "t", &options), 0);
    CHECK_INT(ferry_then(ferry_walk_ready(c->walk), NULL, on_ready, c), 0);
    AWAIT_INT(over, 0);
    ferry_promise_drop(c->over);
    return 0;
}

struct stopper {
    struct hook hook;
    ferry_promise *over;
};

static int64_t close_in_callback(void *arg) {
    struct stopper *s = arg;
    ferry_walk_options options = options_with(&s->hook);
    ferry_walk *walk;
    CHECK_INT(ferry_walk_open(&walk, pool, scratch_fd, "t", &options), 0);
    gate_wait_arrivals(&s->hook.gate, 1);
    CHECK_INT(ferry_walk_close(walk), -EDEADLK);
    ferry_walk_detach(walk);
    gate_open(&s->hook.gate);
    ferry_promise_set(s->over, 0);
    return 0;
}

static int64_t post_the_close(void *arg) {
    struct stopper *s = arg;
    ferry_future *over;
    s->over = ferry_promise_new(&over, NULL);
    CHECK_INT(ferry_post(ferry_loop_current(), close_in_callback, s), 0);
    AWAIT_INT(over, 0);
    ferry_promise_drop(s->over);
    return 0;
}

static void callbacks_walk_too(void **state) {
    struct callbacks c = {.count = 0};
    struct stopper s = {.hook = HOOK_INIT};
    (void)state;
    make_tree();
    assert_int_equal(ferry_run(walk_by_callbacks, &c), 0);
    assert_int_equal(c.count, FILES + 1);
    s.hook.stop_at = 1;
    assert_int_equal(ferry_run(post_the_close, &s), 0);
    wait_until_freed(&s.hook);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILE_CASE("the walk waits when nobody takes", the_walk_waits_when_nobody_takes),
        FILE_CASE("batches are bounded by entries and bytes", batches_are_bounded),
        FILE_CASE("the end comes again and again", the_end_comes_again_and_again),
        FILE_CASE("closing early stops and joins", closing_stops_and_joins),
        FILE_CASE("detaching doesn't wait", detaching_does_not_wait),
        FILE_CASE("a walk that is queued is closed at once",
                  a_walk_that_is_queued_is_closed_at_once),
        FILE_CASE("a cancelled consumer can still close", a_cancelled_consumer_can_still_close),
        FILE_CASE("a walk ends with its scope", a_walk_ends_with_its_scope),
        FILE_CASE("whoever waits hears that the walk will never run",
                  whoever_waits_hears_that_it_will_never_run),
        FILE_CASE("an executor without threads is refused", an_executor_without_threads_is_refused),
        FILE_CASE("several consumers share the batches", several_share_the_batches),
        FILE_CASE("ready says when next doesn't wait", ready_says_when_next_does_not_wait),
        FILE_CASE("ready ends when the walk is closed", ready_ends_when_the_walk_is_closed),
        FILE_CASE("the child of a fork has no part in a walk", a_child_has_no_part_in_the_walk),
        FILE_CASE("tasks walk too", tasks_walk_too),
        FILE_CASE("callbacks walk too", callbacks_walk_too),
    };

    return SUPPORT_RUN(tests);
}

/* Who waits for what on a loop, in the log's words. */
#include "config.h"

#include <string.h>

#include <event2/event.h>

#include "core.h"
#include "parked.h"
#include "support.h"
#include "waiters.h"

static char lines[16][160];
static int n_lines;

static void keep_line(int level, const char *message, void *arg) {
    (void)arg;
    CHECK_INT(level, FERRY_LOG_WARNING);
    if (CHECK(n_lines < 16))
        snprintf(lines[n_lines++], sizeof lines[0], "%s", message);
}

static void report(ferry_loop *loop) {
    n_lines = 0;
    ferry_log_set(keep_line, NULL);
    ferry__loop_report(loop, "why it is said");
    ferry_log_set(NULL, NULL);
}

/* Line `at` is about task `name` and says `what`. */
static void check_line(int at, const char *name, const char *what) {
    char begin[64];
    snprintf(begin, sizeof begin, "task '%s', ", name);
    if (!CHECK(at < n_lines && strncmp(lines[at], begin, strlen(begin)) == 0 &&
               strstr(lines[at], what)))
        printf("# line %d: %s\n", at, at < n_lines ? lines[at] : "(none)");
}

static ferry_event event = FERRY_EVENT_INIT;

static int64_t wait_for_event(void *arg) {
    (void)arg;
    return ferry_event_wait(&event);
}

static int64_t report_from_inside(void *arg) {
    (void)arg;
    report(ferry_loop_current());
    return 0;
}

static int64_t set_event(void *arg) {
    (void)arg;
    ferry_event_set(&event);
    return report_from_inside(NULL);
}

static ferry_future *start(ferry_loop *loop, ferry_fn fn, const char *name) {
    ferry_task_options options = {.name = name};
    return ferry_spawn_on_with(loop, fn, NULL, &options);
}

static void each_state_has_its_words(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    ferry_loop *loop = ferry_loop_attach(base);
    assert_non_null(loop);
    ferry_future *tasks[3];
    int64_t begun = ferry__now();

    report(loop);
    assert_int_equal(n_lines, 1);
    assert_string_equal(lines[0], "why it is said");

    tasks[0] = start(loop, wait_for_event, "oldest");
    tasks[1] = start(loop, report_from_inside, "talker");
    report(loop);
    assert_int_equal(n_lines, 3);
    check_line(1, "oldest", "hasn't begun");
    check_line(2, "talker", "hasn't begun");

    while (!ferry_done(tasks[1]))
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(n_lines, 3);
    check_line(1, "oldest", "has waited for event for ");
    check_line(2, "talker", "is running");
    const char *waited = strstr(lines[1], "for event for ");
    double for_s = -1, most = (double)(ferry__now() - begun) / 1e9;
    assert_int_equal(waited ? sscanf(waited, "for event for %lf s", &for_s) : 0, 1);
    assert_true(for_s >= 0 && for_s <= most + 0.1);

    tasks[2] = start(loop, set_event, "setter");
    while (!ferry_done(tasks[2]))
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(n_lines, 3);
    check_line(1, "oldest", "is ready to run");
    check_line(2, "setter", "is running");

    while (!ferry_done(tasks[0]))
        event_base_loop(base, EVLOOP_NONBLOCK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_await(tasks[i]), 0);
    report(loop);
    assert_int_equal(n_lines, 1);
    assert_int_equal(ferry_loop_free(loop), 0);
    event_base_free(base);
}

static ferry_queue *queue;

static int64_t get(void *arg) {
    (void)arg;
    void *item;
    return ferry_queue_get(queue, &item);
}

static void *closes_and_frees(void *arg) {
    (void)arg;
    ferry_queue_close(queue, false);
    CHECK_INT(ferry_queue_free(queue), 0);
    return NULL;
}

/* The getter was sent to its loop, which hasn't taken it yet. */
TASK_TEST(what_was_waited_for_is_gone) {
    ferry_loop *loop = ferry_loop_current();
    queue = ferry_queue_new(1, &(ferry_queue_options){.name = "gone"});
    ferry_future *getter = start(loop, get, "getter");
    until_parked(getter);
    report(loop);
    check_line(2, "getter", "has waited for get from gone for ");
    pthread_join(start_thread(closes_and_frees, NULL), NULL);
    report(loop);
    check_line(2, "getter", "has waited for its turn for ");
    CHECK_INT(ferry_await(getter), FERRY_ECLOSED);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a report names every task, the oldest first, and what it does",
             each_state_has_its_words),
        CASE("a report names nothing that may be gone", what_was_waited_for_is_gone),
    };
    return SUPPORT_RUN(tests);
}

/* The log: its hook, its lines, and what goes to standard error without a hook. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "support.h"

struct heard {
    int level, calls;
    char message[1200];
};

static void listen(int level, const char *message, void *arg) {
    struct heard *heard = arg;
    heard->level = level;
    heard->calls++;
    snprintf(heard->message, sizeof heard->message, "%s", message);
    errno = EIO;
}

static void the_hook_gets_everything(void **state) {
    (void)state;
    struct heard heard = {0};
    ferry_log_set(listen, &heard);
    for (int level = FERRY_LOG_DEBUG; level <= FERRY_LOG_ERROR; level++) {
        ferry__log(level, "message %d", level);
        assert_int_equal(heard.level, level);
        assert_int_equal(heard.calls, level + 1);
    }
    assert_string_equal(heard.message, "message 3");
    ferry_log_set(NULL, NULL);
}

static void a_message_is_one_line(void **state) {
    (void)state;
    struct heard heard = {0};
    ferry_log_set(listen, &heard);
    ferry__log(FERRY_LOG_INFO, "%s", "one\ntwo\r\nthree\n");
    assert_string_equal(heard.message, "one two  three ");
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    ferry__log(FERRY_LOG_INFO, "%s", text);
    assert_int_equal(strlen(heard.message), 1000);
    ferry_log_set(NULL, NULL);
}

static void errno_stays(void **state) {
    (void)state;
    struct heard heard = {0};
    ferry_log_set(listen, &heard);
    errno = EXDEV;
    ferry__log(FERRY_LOG_INFO, "it stays");
    assert_int_equal(errno, EXDEV);
    ferry_log_set(NULL, NULL);
}

static void without_a_hook_warnings_go_to_standard_error(void **state) {
    (void)state;
    int fds[2], saved = dup(STDERR_FILENO);
    char text[4000];
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    memset(text, 'x', 1500);
    text[1500] = '\0';
    ferry__log(FERRY_LOG_DEBUG, "not told");
    ferry__log(FERRY_LOG_INFO, "not told");
    ferry__log(FERRY_LOG_WARNING, "told %d", 1);
    ferry__log(FERRY_LOG_ERROR, "told %d", 2);
    ferry__log(FERRY_LOG_ERROR, "%s", text);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[1]);
    size_t used = 0;
    for (ssize_t n; (n = read(fds[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)n;
    text[used] = '\0';
    close(fds[0]);
    static const char first[] = "ferry: warning: told 1\nferry: error: told 2\nferry: error: xxx";
    assert_int_equal(strncmp(text, first, sizeof first - 1), 0);
    assert_int_equal(used, strlen("ferry: warning: told 1\nferry: error: told 2\nferry: error: ") +
                               1000 + 1);
    assert_int_equal(text[used - 1], '\n');
}

static void a_closed_standard_error_is_no_error(void **state) {
    (void)state;
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = EXDEV;
    ferry__log(FERRY_LOG_ERROR, "nobody hears this");
    int after = errno;
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(after, EXDEV);
}

/* The hook and its argument belong together: each of the two hooks insists on its own argument. */
static int one, two;
static atomic_int heard_of_one, heard_of_two;

static void hook_one(int level, const char *message, void *arg) {
    (void)level;
    (void)message;
    CHECK(arg == &one);
    atomic_fetch_add(&heard_of_one, 1);
}

static void hook_two(int level, const char *message, void *arg) {
    (void)level;
    (void)message;
    CHECK(arg == &two);
    atomic_fetch_add(&heard_of_two, 1);
}

enum { LINES = 2000 };

static void *say_much(void *arg) {
    for (int i = 0; i < LINES; i++)
        ferry__log(FERRY_LOG_ERROR, "line %d", i);
    return arg;
}

static void the_hook_may_change_any_time(void **state) {
    (void)state;
    pthread_t threads[2];
    ferry_log_set(hook_one, &one);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_much, NULL), 0);
    for (int i = 0; i < LINES; i++) {
        ferry_log_set(hook_two, &two);
        ferry_log_set(hook_one, &one);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    ferry_log_set(NULL, NULL);
    assert_int_equal(atomic_load(&heard_of_one) + atomic_load(&heard_of_two), 2 * LINES);
}

static void hook_sets_a_hook(int level, const char *message, void *arg) {
    listen(level, message, arg);
    ferry_log_set(NULL, NULL);
}

static void the_hook_may_change_itself(void **state) {
    (void)state;
    struct heard heard = {0};
    ferry_log_set(hook_sets_a_hook, &heard);
    ferry__log(FERRY_LOG_INFO, "heard");
    ferry__log(FERRY_LOG_INFO, "not heard any more");
    assert_int_equal(heard.calls, 1);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("the hook gets every level", the_hook_gets_everything),
        CASE("a message is one line of 1,000 bytes at most", a_message_is_one_line),
        CASE("errno stays as it is", errno_stays),
        CASE("without a hook, warnings and errors go to standard error",
             without_a_hook_warnings_go_to_standard_error),
        CASE("a closed standard error is no error", a_closed_standard_error_is_no_error),
        CASE("the hook may be changed while others log", the_hook_may_change_any_time),
        CASE("the hook may change the hook", the_hook_may_change_itself),
    };
    return SUPPORT_RUN(tests);
}

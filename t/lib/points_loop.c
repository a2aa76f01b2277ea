/* A loop calls what another thread has handed in, and the program ends and frees it on account
 * of that, while that thread is still on its way out: between the push and the look whether the
 * loop has to be woken. The loop stays there until it is out. */
#include "config.h"

#include <fcntl.h>

#include "core.h"
#include "points.h"
#include "support.h"
#include "waiters.h"

struct scene {
    ferry_loop *loop;
    ferry_promise *promise;
    ferry_future *future;
    struct point_stop stop;
    bool called; /* loop thread */
    int bell;
};

static int64_t is_called(void *arg) {
    ((struct scene *)arg)->called = true;
    return 0;
}

static void is_called_back(ferry_future *f, int64_t rc, void *arg) {
    (void)f;
    CHECK_INT(rc, 7);
    is_called(arg);
}

static int64_t until_called(void *arg) {
    struct scene *s = arg;
    while (!s->called)
        ferry_yield();
    return 0;
}

static void *posts(void *arg) {
    struct scene *s = arg;
    CHECK_INT(ferry_post(s->loop, is_called, s), 0);
    return NULL;
}

static void *completes(void *arg) {
    struct scene *s = arg;
    CHECK_INT(ferry_promise_set(s->promise, 7), 0);
    return NULL;
}

/* The thread stands behind its push when the loop is freed. */
static void free_meanwhile(struct scene *s, void *(*hands_in)(void *)) {
    point_stop(&s->stop, "inbox_pushed");
    pthread_t thread = start_thread(hands_in, s);
    point_wait(&s->stop);
    int64_t rc = ferry_loop_run(s->loop, until_called, s);
    int freed = ferry_loop_free(s->loop);
    bool held = fcntl(s->bell, F_GETFD) >= 0;
    point_go(&s->stop);
    pthread_join(thread, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(freed, 0);
    assert_true(held);
    assert_true(fcntl(s->bell, F_GETFD) < 0);
}

static void open_scene(struct scene *s) {
    *s = (struct scene){.loop = ferry_loop_new()};
    assert_non_null(s->loop);
    s->bell = s->loop->inbox.bell.fd[0];
}

static void posted(void **state) {
    (void)state;
    struct scene s;
    open_scene(&s);
    free_meanwhile(&s, posts);
}

static void completed(void **state) {
    (void)state;
    struct scene s;
    open_scene(&s);
    s.promise = ferry_promise_new(&s.future, NULL);
    assert_non_null(s.promise);
    assert_int_equal(ferry_then(s.future, s.loop, is_called_back, &s), 0);
    free_meanwhile(&s, completes);
    ferry_promise_drop(s.promise);
    ferry_detach(s.future);
}

static void *adds(void *arg) {
    struct scene *s = arg;
    CHECK_INT(ferry_then(s->future, s->loop, is_called_back, s), 0);
    return NULL;
}

static void added(void **state) {
    (void)state;
    struct scene s;
    open_scene(&s);
    s.promise = ferry_promise_new(&s.future, NULL);
    assert_non_null(s.promise);
    assert_int_equal(ferry_promise_set(s.promise, 7), 0);
    ferry__loop_expect(s.loop); /* so that the callback is the first thing that the thread pushes */
    free_meanwhile(&s, adds);
    ferry_promise_drop(s.promise);
    ferry_detach(s.future);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a post's callback ends and frees the loop before ferry_post() is out", posted),
        CASE("a handle's callback does before whoever completed the handle is out", completed),
        CASE("a late callback does before ferry_then() is out", added),
    };
    return SUPPORT_RUN(tests);
}

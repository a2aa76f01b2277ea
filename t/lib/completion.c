/* Handles one by one, in the order in which they end. */
#include "config.h"

#include <errno.h>

#include "parked.h"
#include "support.h"
#include "waiters.h"

enum { N = 5 };

struct scene {
    ferry_promise *p[N];
    ferry_future *f[N];
};

static void open_scene(struct scene *s) {
    for (int i = 0; i < N; i++)
        s->p[i] = ferry_promise_new(&s->f[i], NULL);
}

static void end(struct scene *s, int i) {
    CHECK_INT(ferry_promise_set(s->p[i], i), 0);
}

/* Those that were given were awaited. */
static void close_scene(struct scene *s) {
    for (int i = 0; i < N; i++)
        ferry_promise_drop(s->p[i]);
}

TASK_TEST(stops_and_goes_on) {
    struct scene s;
    open_scene(&s);
    end(&s, 3);
    end(&s, 1);
    ferry_completion *c = ferry_completion_new(s.f, N);
    end(&s, 4);
    /* Two that were done before, in the order of the arguments; then the one that came later. */
    int got[3];
    for (int i = 0; i < 3; i++) {
        got[i] = ferry_completion_next(c, 0);
        CHECK_INT(ferry_await(s.f[got[i]]), got[i]);
    }
    CHECK(got[0] == 1 && got[1] == 3 && got[2] == 4);
    CHECK_INT(ferry_completion_next(c, 0), -ETIMEDOUT);
    CHECK_INT(ferry_completion_next(c, 2), -ETIMEDOUT);
    end(&s, 2);
    CHECK_INT(ferry_completion_next(c, 0), 2);
    CHECK_INT(ferry_await(s.f[2]), 2);
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&scope, 2), 0);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), -ETIMEDOUT);
    end(&s, 0);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), 0);
    CHECK_INT(ferry_await(s.f[0]), 0);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), FERRY_END);
    CHECK_INT(ferry_completion_next(c, 0), FERRY_END);
    ferry_completion_free(c);
    close_scene(&s);
    return 0;
}

struct consumer {
    ferry_completion *c;
    struct scene *scene;
    int got[N];
    int n;
};

static int64_t consumes(void *arg) {
    struct consumer *k = arg;
    int i;
    while ((i = ferry_completion_next(k->c, FERRY_FOREVER)) >= 0) {
        CHECK_INT(ferry_await(k->scene->f[i]), i);
        k->got[k->n++] = i;
    }
    return i == FERRY_END ? 0 : i;
}

TASK_TEST(in_the_order_of_ending) {
    static const int order[N] = {2, 0, 4, 1, 3};
    struct scene s;
    open_scene(&s);
    struct consumer k = {.c = ferry_completion_new(s.f, N), .scene = &s};
    ferry_future *consumer = ferry_spawn(consumes, &k);
    until_parked(consumer);
    end(&s, order[0]);
    end(&s, order[1]); /* two before it runs again */
    until_parked(consumer);
    CHECK_INT(k.n, 2);
    for (int i = 2; i < N; i++)
        end(&s, order[i]);
    CHECK_INT(ferry_await(consumer), 0);
    for (int i = 0; i < N; i++)
        CHECK_INT(k.got[i], order[i]);
    ferry_completion_free(k.c);
    close_scene(&s);
    return 0;
}

static int64_t returns_number(void *arg) {
    return (int64_t)(intptr_t)arg;
}

static void jobs_for_a_thread(void **state) {
    (void)state;
    for (int round = 0; round < (support_slow() ? 10 : 100); round++) {
        ferry_future *f[50];
        bool seen[50] = {false};
        for (intptr_t i = 0; i < 50; i++)
            f[i] = ferry_submit(NULL, returns_number, (void *)i);
        ferry_completion *c = ferry_completion_new(f, 50);
        for (int n = 0; n < 50; n++) {
            int i = ferry_completion_next(c, FERRY_FOREVER);
            assert_in_range(i, 0, 49);
            assert_false(seen[i]);
            seen[i] = true;
            assert_int_equal(ferry_await(f[i]), i);
        }
        assert_int_equal(ferry_completion_next(c, FERRY_FOREVER), FERRY_END);
        ferry_completion_free(c);
    }
}

TASK_TEST(the_same_handle_twice) {
    struct scene s;
    open_scene(&s);
    ferry_future *f[4] = {s.f[0], s.f[1], s.f[0], s.f[1]};
    ferry_completion *c = ferry_completion_new(f, 4);
    end(&s, 1);
    end(&s, 0);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), 1);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), 0);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), FERRY_END);
    ferry_completion_free(c);
    for (int i = 0; i < N; i++)
        ferry_detach(s.f[i]);
    close_scene(&s);
    return 0;
}

TASK_TEST(left_before_the_end) {
    struct scene s;
    open_scene(&s);
    ferry_completion *c = ferry_completion_new(s.f, N);
    CHECK_INT(links_on(s.f[2]), 1);
    end(&s, 0);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), 0);
    ferry_completion_free(c);
    for (int i = 0; i < N; i++) {
        CHECK_INT(links_on(s.f[i]), 0);
        ferry_detach(s.f[i]);
    }
    close_scene(&s);
    ferry_completion_free(NULL);
    return 0;
}

static void count_free(void *arg) {
    ++*(int *)arg;
}

static int64_t succeeds(void *arg) {
    (void)arg;
    return 0;
}

TASK_TEST(what_was_given_is_let_go) {
    int freed = 0;
    ferry_job_options options = {.arg_free = count_free};
    ferry_future *f[2];
    f[0] = ferry_submit_with(NULL, succeeds, &freed, &options);
    ferry_promise *p = ferry_promise_new(&f[1], NULL);
    ferry_completion *c = ferry_completion_new(f, 2);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), 0);
    CHECK_INT(ferry_await(f[0]), 0);
    while (freed == 0) /* the last reference is gone, although the completion isn't */
        ferry_yield();
    ferry_completion_free(c);
    ferry_promise_drop(p);
    CHECK_INT(ferry_await(f[1]), FERRY_ECLOSED);
    return 0;
}

TASK_TEST(of_nothing) {
    ferry_completion *c = ferry_completion_new(NULL, 0);
    CHECK(c != NULL);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), FERRY_END);
    ferry_completion_free(c);
    ferry_future *none[1] = {NULL};
    CHECK(ferry_completion_new(none, 1) == NULL);
    CHECK_INT(ferry_completion_next(NULL, 0), -ENOMEM);
    ferry_future *own[1] = {ferry_self()};
    c = ferry_completion_new(own, 1);
    CHECK_INT(ferry_completion_next(c, FERRY_FOREVER), -EDEADLK);
    ferry_completion_free(c);
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("AGG-10 done ones first, then -ETIMEDOUT; the iteration goes on, nothing twice",
             stops_and_goes_on),
        CASE("AGG-10 in the order of ending", in_the_order_of_ending),
        CASE("AGG-10 AGG-15 jobs, for a thread", jobs_for_a_thread),
        CASE("AGG-06 the same handle twice is given once", the_same_handle_twice),
        CASE("a completion that is freed before its end leaves nothing behind",
             left_before_the_end),
        CASE("a handle that was given is let go", what_was_given_is_let_go),
        CASE("a completion of nothing, of NULL and of oneself", of_nothing),
    };
    return SUPPORT_RUN(tests);
}

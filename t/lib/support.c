/* The test support itself: state, gates, checks and skipping. */

#include "config.h"

#include "support.h"

#include <ferry/base.h>

static int give_state(void **state) {
    static int seven = 7;

    assert_ptr_equal(*state, NULL);
    *state = &seven;
    return 0;
}

static int see_state(void **state) {
    return *(int *)*state == 7 ? 0 : -1;
}

static void state_reaches_the_test(void **state) {
    assert_int_equal(*(int *)*state, 7);
}

static void *arrive(void *arg) {
    gate_wait(arg);
    return NULL;
}

static void gate_holds_until_it_opens(void **state) {
    gate g = GATE_INIT;
    pthread_t threads[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, arrive, &g), 0);
    }
    gate_wait_arrivals(&g, 3);
    assert_int_equal(gate_arrivals(&g), 3);
    gate_open(&g);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    gate_wait(&g);
    assert_int_equal(gate_arrivals(&g), 4);
    gate_destroy(&g);
}

static void *check_something(void *arg) {
    return CHECK_INT(*(int *)arg, 3) && CHECK_STR("a", "a") && CHECK(arg != NULL) ? arg : NULL;
}

static void checks_work_on_any_thread(void **state) {
    int three = 3;
    void *result;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, check_something, &three), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &three);
}

static void header_and_library_agree(void **state) {
    (void)state;
    assert_string_equal(ferry_version(), FERRY_VERSION);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE_WITH("set-up and tear-down share a state", state_reaches_the_test, give_state,
                  see_state),
        CASE("a gate holds threads until it opens", gate_holds_until_it_opens),
        CASE("checks work on any thread", checks_work_on_any_thread),
        CASE("the header's version is the library's", header_and_library_agree),
    };

    return SUPPORT_RUN(tests);
}

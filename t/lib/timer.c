/* The heap of timers against a plain model, and its behaviour when memory is short. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "support.h"

static int allocations_left; /* < 0: any number */

static bool may_allocate(void) {
    return allocations_left < 0 || allocations_left-- > 0;
}

static void *counted_malloc(size_t size) {
    return may_allocate() ? malloc(size) : NULL;
}

static void *counted_realloc(void *block, size_t size) {
    return may_allocate() ? realloc(block, size) : NULL;
}

static void arm(struct ferry__heap *heap, struct ferry__timer *timer, int64_t at) {
    assert_int_equal(ferry__heap_reserve(heap, heap->used + 1), 0);
    ferry__heap_add(heap, timer, at);
}

/* Takes the first out and returns its number in `timers`. */
static long fire(struct ferry__heap *heap, struct ferry__timer *timers) {
    struct ferry__timer *first = ferry__heap_first(heap);
    if (!first)
        return -1;
    ferry__heap_remove(heap, first);
    return first - timers;
}

static void earliest_first(void **state) {
    (void)state;
    static const int64_t at[] = {50, 10, INT64_MAX, 30, 0, 20, 40};
    static const long order[] = {4, 1, 5, 3, 6, 0, 2};
    struct ferry__timer timers[7] = {{0}};
    struct ferry__heap heap = {0};
    for (size_t i = 0; i < 7; i++)
        arm(&heap, &timers[i], at[i]);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(fire(&heap, timers), order[i]);
    assert_int_equal(fire(&heap, timers), -1);
    ferry__heap_fini(&heap);
}

static void equal_times_in_order_of_arming(void **state) {
    (void)state;
    enum { N = 300 };
    static struct ferry__timer timers[N];
    struct ferry__heap heap = {0};
    for (size_t i = 0; i < N; i++)
        arm(&heap, &timers[i], i % 3 == 0 ? 5 : 7);
    for (long i = 0; i < N; i += 3)
        assert_int_equal(fire(&heap, timers), i);
    for (long i = 0; i < N; i++) {
        if (i % 3 != 0)
            assert_int_equal(fire(&heap, timers), i);
    }
    ferry__heap_fini(&heap);
}

static void armed_again_is_last_among_equals(void **state) {
    (void)state;
    struct ferry__timer timers[3] = {{0}};
    struct ferry__heap heap = {0};
    for (size_t i = 0; i < 3; i++)
        arm(&heap, &timers[i], 5);
    ferry__heap_remove(&heap, &timers[0]);
    arm(&heap, &timers[0], 5);
    assert_int_equal(fire(&heap, timers), 1);
    assert_int_equal(fire(&heap, timers), 2);
    assert_int_equal(fire(&heap, timers), 0);
    ferry__heap_fini(&heap);
}

static void removing_twice_is_nothing(void **state) {
    (void)state;
    struct ferry__timer timers[2] = {{0}};
    struct ferry__heap heap = {0};
    ferry__heap_remove(&heap, &timers[0]);
    arm(&heap, &timers[0], 1);
    arm(&heap, &timers[1], 2);
    ferry__heap_remove(&heap, &timers[0]);
    ferry__heap_remove(&heap, &timers[0]);
    assert_int_equal(heap.used, 1);
    assert_int_equal(fire(&heap, timers), 1);
    ferry__heap_fini(&heap);
}

/* Random arming and removing anywhere; what fires is what a search through all timers finds. */
static void like_a_plain_search(void **state) {
    (void)state;
    enum { N = 200 };
    static struct ferry__timer timers[N];
    struct ferry__heap heap = {0};
    unsigned seed = 7;
    memset(timers, 0, sizeof timers);
    for (int round = 0; round < (support_slow() ? 5000 : 50000); round++) {
        size_t i = (size_t)rand_r(&seed) % N;
        int what = rand_r(&seed) % 3;
        if (what == 0) {
            struct ferry__timer *least = NULL;
            for (size_t k = 0; k < N; k++) {
                if (timers[k].index &&
                    (!least || timers[k].at < least->at ||
                     (timers[k].at == least->at && timers[k].turn < least->turn)))
                    least = &timers[k];
            }
            assert_ptr_equal(ferry__heap_first(&heap), least);
            if (least)
                ferry__heap_remove(&heap, least);
        } else if (timers[i].index) {
            ferry__heap_remove(&heap, &timers[i]);
        } else {
            arm(&heap, &timers[i], rand_r(&seed) % 50);
        }
        for (size_t k = 0; k < heap.used; k++)
            assert_int_equal(heap.at[k]->index, k + 1);
    }
    ferry__heap_fini(&heap);
}

static void reserved_room_is_enough(void **state) {
    (void)state;
    enum { N = 1000 };
    static struct ferry__timer timers[N];
    struct ferry__heap heap = {0};
    const ferry_allocator counted = {counted_malloc, counted_realloc, free};
    assert_int_equal(ferry_set_allocator(&counted), 0);
    allocations_left = 1;
    assert_int_equal(ferry__heap_reserve(&heap, N), 0);
    for (size_t i = 0; i < N; i++)
        ferry__heap_add(&heap, &timers[i], (int64_t)(N - i));
    assert_int_equal(ferry__heap_reserve(&heap, N), 0);
    assert_int_equal(ferry__heap_reserve(&heap, N + 1), -ENOMEM);
    assert_int_equal(heap.used, N);
    for (long i = N - 1; i >= 0; i--)
        assert_int_equal(fire(&heap, timers), i);
    assert_int_equal(ferry__heap_reserve(&heap, SIZE_MAX), -ENOMEM);
    ferry__heap_fini(&heap);
    assert_int_equal(ferry_set_allocator(NULL), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("the earliest timer is first", earliest_first),
        CASE("SCP-27 equal times fire in the order of arming", equal_times_in_order_of_arming),
        CASE("SCP-27 one that is armed again comes after its equals",
             armed_again_is_last_among_equals),
        CASE("a timer that isn't armed can be removed", removing_twice_is_nothing),
        CASE("random arming and removing agree with a plain search", like_a_plain_search),
        CASE("room is reserved beforehand, and running out of memory changes nothing",
             reserved_room_is_enough),
    };
    return SUPPORT_RUN(tests);
}

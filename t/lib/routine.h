/* A routine with a context and a stack of its own, for the tests of switching. */
#ifndef FERRY_TEST_ROUTINE_H
#define FERRY_TEST_ROUTINE_H

#include "context.h"
#include "stack.h"
#include "support.h"

/* A loop and a task in their simplest form: main_context switches to a routine, and it back. */
struct routine {
    ferry__context context;
    ferry__context *home;
    void (*body)(struct routine *);
    struct ferry__stack *stack;
    int steps;
    bool ended;
};

static struct ferry__stack_cache cache;
static ferry__context main_context;

static inline int open_cache(void **state) {
    (void)state;
    ferry__stack_cache_init(&cache);
    ferry__context_adopt(&main_context);
    return 0;
}

static inline int close_cache(void **state) {
    (void)state;
    ferry__context_release(&main_context);
    ferry__stack_cache_fini(&cache);
    return 0;
}

static inline void routine_main(void *arg) {
    struct routine *r = arg;

    r->body(r);
    r->ended = true;
    ferry__context_switch_last(&r->context, r->home);
}

static inline void routine_make(struct routine *r, size_t stack_size,
                                void (*body)(struct routine *)) {
    *r = (struct routine){.home = &main_context, .body = body};
    assert_int_equal(ferry__stack_get(&cache, stack_size, &r->stack), 0);
    assert_int_equal(
        ferry__context_make(&r->context, r->stack->lo, r->stack->size, routine_main, r), 0);
}

static inline void routine_free(struct routine *r) {
    ferry__context_release(&r->context);
    ferry__stack_put(&cache, r->stack);
}

static inline void resume(struct routine *r) {
    ferry__context_switch(r->home, &r->context);
}

static inline void pause_routine(struct routine *r) {
    ferry__context_switch(&r->context, r->home);
}

/* A test with that cache of stacks. */
#define WITH_CACHE(text, function) CASE_WITH(text, function, open_cache, close_cache)

#endif

/* Floating-point control words of contexts: the rounding mode, and which errors are signals. */
#include "config.h"

#include <fenv.h>

#include "routine.h"
#include "support.h"

/* Not inlined: the compiler may move a division across a change of the rounding mode. */
static __attribute__((noinline)) double third(void) {
    volatile double one = 1.0, three = 3.0;

    return one / three;
}

static __attribute__((noinline)) long double wide_third(void) {
    volatile long double one = 1.0L, three = 3.0L;

    return one / three;
}

struct thirds {
    double narrow;
    long double wide;
};

static struct thirds thirds_in(int mode) {
    int before = fegetround();
    struct thirds t;

    fesetround(mode);
    t.narrow = third();
    t.wide = wide_third();
    fesetround(before);
    return t;
}

static struct thirds up, down;

static void round_up_inside(struct routine *r) {
    fesetround(FE_UPWARD);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(fegetround(), FE_UPWARD);
        CHECK(third() == up.narrow && wide_third() == up.wide);
        pause_routine(r);
    }
}

static void rounding_is_per_context(void **state) {
    struct routine r;

    (void)state;
    up = thirds_in(FE_UPWARD);
    down = thirds_in(FE_DOWNWARD);
    if (up.narrow == down.narrow) {
        SKIP("this processor, or valgrind, has one rounding mode");
    }
    routine_make(&r, 0, round_up_inside);
    fesetround(FE_DOWNWARD);
    for (int i = 0; i < 3; i++) {
        resume(&r);
        assert_int_equal(fegetround(), FE_DOWNWARD);
        assert_true(third() == down.narrow && wide_third() == down.wide);
    }
    resume(&r);
    fesetround(FE_TONEAREST);
    assert_true(r.ended);
    routine_free(&r);
}

static void expect_downward(struct routine *r) {
    r->steps = fegetround() == FE_DOWNWARD;
}

static void a_context_starts_with_its_makers_rounding(void **state) {
    struct routine r;

    (void)state;
    fesetround(FE_DOWNWARD);
    bool works = fegetround() == FE_DOWNWARD;
    routine_make(&r, 0, expect_downward);
    fesetround(FE_TONEAREST);
    resume(&r);
    assert_int_equal(r.steps, works);
    routine_free(&r);
}

static struct routine inner;

/* Makes another routine while its own rounding mode is set. */
static void make_inside(struct routine *r) {
    fesetround(FE_UPWARD);
    inner = (struct routine){.home = &main_context, .body = expect_downward};
    CHECK_INT(ferry__stack_get(&cache, 0, &inner.stack), 0);
    ferry__context_make(&inner.context, inner.stack->lo, inner.stack->size, routine_main, &inner);
    ferry__context_inherit(&inner.context, r->home);
}

static void a_context_inherits_the_rounding_of_its_home(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, make_inside);
    fesetround(FE_DOWNWARD);
    bool works = fegetround() == FE_DOWNWARD;
    resume(&r);
    fesetround(FE_TONEAREST);
    resume(&inner);
    assert_true(r.ended && inner.ended);
    assert_int_equal(inner.steps, works);
    routine_free(&r);
    routine_free(&inner);
}

/* The home may not have switched yet: what it had when it was adopted counts. */
static void a_context_inherits_from_an_adopted_one(void **state) {
    ferry__context home;
    struct routine r;

    (void)state;
    fesetround(FE_DOWNWARD);
    bool works = fegetround() == FE_DOWNWARD;
    ferry__context_adopt(&home);
    fesetround(FE_TONEAREST);
    routine_make(&r, 0, expect_downward);
    ferry__context_inherit(&r.context, &home);
    resume(&r);
    assert_int_equal(r.steps, works);
    routine_free(&r);
    ferry__context_release(&home);
}

#if defined __x86_64__ && defined __GLIBC__

static void divide_by_zero(struct routine *r) {
    volatile long double zero = 0.0L;
    volatile long double result = 1.0L / zero;

    (void)result;
    r->steps++;
    pause_routine(r);
}

/* The status flags are shared, so a flag that one context raised must not become a signal in
 * another one that wants signals. */
static void flags_of_others_raise_no_signal(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, divide_by_zero);
    feclearexcept(FE_ALL_EXCEPT);
    if (feenableexcept(FE_DIVBYZERO) == -1) {
        routine_free(&r);
        SKIP("no floating-point exceptions here");
    }
    fedisableexcept(FE_DIVBYZERO);
    routine_free(&r);
    routine_make(&r, 0, divide_by_zero);
    feenableexcept(FE_DIVBYZERO);
    resume(&r);
    assert_true(wide_third() > 0.3L);
    fedisableexcept(FE_DIVBYZERO);
    resume(&r);
    assert_true(r.ended);
    feclearexcept(FE_ALL_EXCEPT);
    routine_free(&r);
}

#endif

int main(void) {
    static const struct CMUnitTest tests[] = {
        WITH_CACHE("the rounding mode is per context", rounding_is_per_context),
        WITH_CACHE("a context starts with its maker's rounding mode",
                   a_context_starts_with_its_makers_rounding),
        WITH_CACHE("a context inherits the rounding mode of its home",
                   a_context_inherits_the_rounding_of_its_home),
        WITH_CACHE("a context inherits from an adopted one",
                   a_context_inherits_from_an_adopted_one),
#if defined __x86_64__ && defined __GLIBC__
        WITH_CACHE("status flags of others raise no signal", flags_of_others_raise_no_signal),
#endif
    };
    return SUPPORT_RUN(tests);
}

/* Switching stacks: what a context keeps, where it starts, how it ends. */

#include "config.h"

#include "support.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "routine.h"

static void three_steps(struct routine *r) {
    for (int i = 0; i < 3; i++) {
        r->steps++;
        pause_routine(r);
    }
}

static void control_goes_back_and_forth(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, three_steps);
    assert_int_equal(r.steps, 0);
    for (int i = 1; i <= 3; i++) {
        resume(&r);
        assert_int_equal(r.steps, i);
        assert_false(r.ended);
    }
    resume(&r);
    assert_true(r.ended);
    routine_free(&r);
}

/* Often enough that ThreadSanitizer runs out of fibers, or of room in its own call stack, if it
 * isn't told of every switch and every end. */
static void a_stack_serves_again_after_the_end(void **state) {
    struct routine r;

    (void)state;
    for (int round = 0; round < 40000; round++) {
        routine_make(&r, 0, three_steps);
        while (!r.ended) {
            resume(&r);
        }
        assert_int_equal(r.steps, 3);
        routine_free(&r);
    }
}

static void a_context_that_never_ran_is_released(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, three_steps);
    routine_free(&r);
}

static void a_tiny_stack_is_refused(void **state) {
    static _Alignas(16) char small[FERRY__CONTEXT_ROOM];
    ferry__context c;

    (void)state;
    assert_int_equal(ferry__context_make(&c, small, sizeof small - 1, routine_main, NULL), -ENOMEM);
    assert_int_equal(ferry__context_make(&c, small, sizeof small, routine_main, NULL), 0);
    ferry__context_release(&c);
}

/* More live values than there are registers, each computed from `seed` into a register before the
 * switch and compared after it. The compiler leaves them in all registers that it believes to be
 * preserved. */
#ifdef __x86_64__
#define IN_REAL_REGISTER "+x"
#define IN_WIDE_REGISTER "+t"
#elif defined __aarch64__
#define IN_REAL_REGISTER "+w"
#define IN_WIDE_REGISTER "+w"
#else
#define IN_REAL_REGISTER "+m"
#define IN_WIDE_REGISTER "+m"
#endif
#define VALUES(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define DECLARE(i) \
    long whole##i = seed * (i + 3) ^ i; \
    double real##i = (double)seed * 0.5 + i; \
    long double wide##i = (long double)seed * 0.25L - i;
#define KEEP(i) \
    __asm__ volatile("" : "+r"(whole##i)); \
    __asm__ volatile("" : IN_REAL_REGISTER(real##i)); \
    __asm__ volatile("" : IN_WIDE_REGISTER(wide##i));
#define COMPARE(i) \
    same = same && whole##i == (seed * (i + 3) ^ i) && real##i == (double)seed * 0.5 + i && \
           wide##i == (long double)seed * 0.25L - i;

static __attribute__((noinline)) bool values_survive(volatile long *source, ferry__context *from,
                                                     ferry__context *to) {
    long seed = *source;
    bool same = true;

    VALUES(DECLARE)
    VALUES(KEEP)
    ferry__context_switch(from, to);
    seed = *source;
    VALUES(COMPARE)
    return same;
}

static void keep_values(struct routine *r) {
    for (int i = 0; i < 10; i++) {
        volatile long source = 1000 + i;

        CHECK(values_survive(&source, &r->context, r->home));
        r->steps++;
    }
}

static void registers_survive_a_switch(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, keep_values);
    for (int i = 0; i < 10; i++) {
        volatile long source = -77 * i;

        assert_true(values_survive(&source, r.home, &r.context));
    }
    resume(&r);
    assert_true(r.ended);
    assert_int_equal(r.steps, 10);
    routine_free(&r);
}

#if FERRY__CONTEXT_ASSEMBLY

void ferry__context_start(void); /* the first frame of every context */

/* Every register that a called function must preserve, with a pattern of its own, across a call
 * that switches. The other side fills them all with something else. */
static __attribute__((noinline)) void call_switch(ferry__context *from, ferry__context *to) {
    ferry__context_switch(from, to);
}

#ifdef __x86_64__
#define PRESERVED 6
static __attribute__((noinline)) void preserved_after(ferry__context *from, ferry__context *to,
                                                      uint64_t pattern, uint64_t after[PRESERVED]) {
    register void (*function)(ferry__context *, ferry__context *) __asm__("r11") = call_switch;

    __asm__ volatile(
        "subq $136, %%rsp\n\t" /* the red zone, and back to a multiple of 16 */
        "pushq %%rbp\n\t"
        "pushq %%rbx\n\t"
        "pushq %[after]\n\t"
        "movq %%rsp, %%r9\n\t"
        "andq $-16, %%rsp\n\t"
        "pushq %%r9\n\t"
        "pushq %%r9\n\t"
        "leaq 1(%[pattern]), %%rbx\n\t"
        "leaq 2(%[pattern]), %%rbp\n\t"
        "leaq 3(%[pattern]), %%r12\n\t"
        "leaq 4(%[pattern]), %%r13\n\t"
        "leaq 5(%[pattern]), %%r14\n\t"
        "leaq 6(%[pattern]), %%r15\n\t"
        "call *%[function]\n\t"
        "popq %%rsp\n\t"
        "popq %%rax\n\t"
        "movq %%rbx, (%%rax)\n\t"
        "movq %%rbp, 8(%%rax)\n\t"
        "movq %%r12, 16(%%rax)\n\t"
        "movq %%r13, 24(%%rax)\n\t"
        "movq %%r14, 32(%%rax)\n\t"
        "movq %%r15, 40(%%rax)\n\t"
        "popq %%rbx\n\t"
        "popq %%rbp\n\t"
        "addq $136, %%rsp\n\t"
        : "+D"(from),
          "+S"(to), [pattern] "+d"(pattern), [after] "+c"(after), [function] "+r"(function)
        :
        : "memory", "cc", "rax", "r8", "r9", "r10", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
          "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15");
}
#else
#define PRESERVED 18
static __attribute__((noinline)) void preserved_after(ferry__context *from, ferry__context *to,
                                                      uint64_t pattern, uint64_t after[PRESERVED]) {
    register ferry__context *x0 __asm__("x0") = from;
    register ferry__context *x1 __asm__("x1") = to;
    register uint64_t x2 __asm__("x2") = pattern;
    register uint64_t *x3 __asm__("x3") = after;
    register void (*x4)(ferry__context *, ferry__context *) __asm__("x4") = call_switch;

    __asm__ volatile("stp x29, x19, [sp, #-32]!\n\t"
                     "str x3, [sp, #16]\n\t"
                     "add x19, x2, #1\n\t"
                     "add x20, x2, #2\n\t"
                     "add x21, x2, #3\n\t"
                     "add x22, x2, #4\n\t"
                     "add x23, x2, #5\n\t"
                     "add x24, x2, #6\n\t"
                     "add x25, x2, #7\n\t"
                     "add x26, x2, #8\n\t"
                     "add x27, x2, #9\n\t"
                     "add x28, x2, #10\n\t"
                     "fmov d8, x19\n\t"
                     "fmov d9, x20\n\t"
                     "fmov d10, x21\n\t"
                     "fmov d11, x22\n\t"
                     "fmov d12, x23\n\t"
                     "fmov d13, x24\n\t"
                     "fmov d14, x25\n\t"
                     "fmov d15, x26\n\t"
                     "blr x4\n\t"
                     "ldr x3, [sp, #16]\n\t"
                     "stp x19, x20, [x3]\n\t"
                     "stp x21, x22, [x3, #16]\n\t"
                     "stp x23, x24, [x3, #32]\n\t"
                     "stp x25, x26, [x3, #48]\n\t"
                     "stp x27, x28, [x3, #64]\n\t"
                     "stp d8, d9, [x3, #80]\n\t"
                     "stp d10, d11, [x3, #96]\n\t"
                     "stp d12, d13, [x3, #112]\n\t"
                     "stp d14, d15, [x3, #128]\n\t"
                     "ldp x29, x19, [sp], #32\n\t"
                     : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x4)
                     :
                     : "memory", "cc", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
                       "x14", "x15", "x16", "x17", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
                       "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8",
                       "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19",
                       "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30",
                       "v31");
}
#endif

/* The pattern that register i of preserved_after was given. */
static uint64_t preserved_pattern(uint64_t pattern, int i) {
    return pattern + 1 + (uint64_t)(i < 10 ? i : i - 10);
}

static void fill_preserved(struct routine *r) {
    for (;;) {
        uint64_t after[PRESERVED] = {0};

        preserved_after(&r->context, r->home, 0x5500, after);
        for (int i = 0; i < PRESERVED; i++) {
            CHECK_INT(after[i], preserved_pattern(0x5500, i));
        }
        r->steps++;
    }
}

static void preserved_registers_are_kept(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, fill_preserved);
    for (int round = 0; round < 3; round++) {
        uint64_t after[PRESERVED] = {0};

        preserved_after(r.home, &r.context, 0xaa00, after);
        for (int i = 0; i < PRESERVED; i++) {
            assert_int_equal(after[i], preserved_pattern(0xaa00, i));
        }
        assert_int_equal(r.steps, round);
    }
    routine_free(&r);
}

#endif

/* errno */

static void set_errno(struct routine *r) {
    CHECK_INT(errno, 0);
    errno = EAGAIN;
    pause_routine(r);
    CHECK_INT(errno, EAGAIN);
    errno = EINTR;
    pause_routine(r);
    CHECK_INT(errno, EINTR);
}

static void errno_is_per_context(void **state) {
    struct routine one, two;

    (void)state;
    routine_make(&one, 0, set_errno);
    routine_make(&two, 0, set_errno);
    errno = EDOM;
    for (int i = 0; i < 3; i++) {
        resume(&one);
        assert_int_equal(errno, EDOM);
        resume(&two);
        assert_int_equal(errno, EDOM);
    }
    assert_true(one.ended && two.ended);
    routine_free(&one);
    routine_free(&two);
}

/* Depth */

/* Goes down until less than `left` bytes remain, switches there, and comes up again. */
static __attribute__((noinline)) int dive(struct routine *r, size_t left) {
    char frame[256];
    const char *here = __builtin_frame_address(0);

    memset(frame, 1, sizeof frame);
    __asm__ volatile("" : : "r"(frame) : "memory");
    if ((size_t)(here - r->stack->lo) < left) {
        pause_routine(r);
        return frame[17];
    }
    return dive(r, left) + frame[99];
}

static void dive_and_return(struct routine *r) {
    r->steps = dive(r, 6 * 1024);
}

static void a_deep_stack_is_kept(void **state) {
    struct routine r;
    const size_t size = 256 * 1024;

    (void)state;
    routine_make(&r, size, dive_and_return);
    resume(&r);
    assert_false(r.ended);
    resume(&r);
    assert_true(r.ended);
    assert_in_range(r.steps, 50, size / 256);
    routine_free(&r);
}

/* The stack of a context is aligned as the ABI wants it, at its start and below. */
static void see_alignment(struct routine *r) {
    _Alignas(64) volatile char line[64];

    line[0] = 1;
    r->steps = (uintptr_t)line % 64 == 0 && (uintptr_t)__builtin_frame_address(0) % 16 == 0;
}

static void frames_are_aligned(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, see_alignment);
    resume(&r);
    assert_int_equal(r.steps, 1);
    routine_free(&r);
}

static void call_printf(struct routine *r) {
    char text[100];

    snprintf(text, sizeof text, "%s %.3f %Lf %d", "text", 1.25, 2.5L, 7);
    CHECK_STR(text, "text 1.250 2.500000 7");
    r->steps++;
}

static void library_calls_work_inside(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, call_printf);
    resume(&r);
    assert_int_equal(r.steps, 1);
    routine_free(&r);
}

static __attribute__((noinline)) int trace(void **frames, int room) {
    int count = backtrace(frames, room);

    __asm__ volatile("" ::: "memory");
    return count;
}

static void take_backtrace(struct routine *r) {
    void *frames[64];

    r->steps = trace(frames, 64);
    for (int i = 0; i < r->steps; i++) {
        CHECK(frames[i] != NULL);
    }
#if FERRY__CONTEXT_ASSEMBLY
    CHECK((uintptr_t)frames[r->steps - 1] - (uintptr_t)ferry__context_start < 64);
#endif
}

static void a_backtrace_ends_at_the_entry(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, take_backtrace);
    resume(&r);
    assert_true(r.ended);
    assert_in_range(r.steps, 2, 8);
    routine_free(&r);
}

#if FERRY__CONTEXT_ASSEMBLY && !FERRY__ASAN

/* Profilers follow frame pointers: a frame starts with the one of its caller. */
static void see_frame_pointer(void *arg) {
    struct routine *r = arg;
    void *const *frame = __builtin_frame_address(0);

    r->ended = *frame == NULL;
    ferry__context_switch_last(&r->context, r->home);
}

static void frame_pointers_end_at_the_entry(void **state) {
    struct routine r;

    (void)state;
    routine_make(&r, 0, NULL);
    ferry__context_release(&r.context);
    ferry__context_make(&r.context, r.stack->lo, r.stack->size, see_frame_pointer, &r);
    resume(&r);
    assert_true(r.ended);
    routine_free(&r);
}

#endif

static volatile sig_atomic_t handled;

static void on_signal(int signo) {
    (void)signo;
    handled++;
}

static void raise_inside(struct routine *r) {
    raise(SIGUSR1);
    pause_routine(r);
    raise(SIGUSR1);
}

static void signals_arrive_on_either_stack(void **state) {
    struct sigaction action = {.sa_handler = on_signal}, old;
    struct routine r;

    (void)state;
    sigaction(SIGUSR1, &action, &old);
    handled = 0;
    routine_make(&r, 0, raise_inside);
    resume(&r);
    raise(SIGUSR1);
    resume(&r);
    assert_true(r.ended);
    assert_int_equal(handled, 3);
    sigaction(SIGUSR1, &old, NULL);
    routine_free(&r);
}

/* One routine resumes another directly, without its maker in between. */
static struct routine *partner[2];

static void hand_on(struct routine *r) {
    struct routine *other = partner[r == partner[0]];

    while (r->steps < 1000) {
        r->steps++;
        ferry__context_switch(&r->context, &other->context);
    }
}

static void routines_switch_among_themselves(void **state) {
    struct routine one, two;

    (void)state;
    routine_make(&one, 0, hand_on);
    routine_make(&two, 0, hand_on);
    partner[0] = &one;
    partner[1] = &two;
    resume(&one);
    assert_true(one.ended);
    assert_false(two.ended);
    resume(&two);
    assert_true(two.ended);
    assert_int_equal(one.steps, 1000);
    assert_int_equal(two.steps, 1000);
    routine_free(&one);
    routine_free(&two);
}

/* Threads */

static void count_to(struct routine *r) {
    while (r->steps < 1000) {
        errno = ++r->steps;
        pause_routine(r);
        CHECK_INT(errno, r->steps);
    }
}

static void *run_own_contexts(void *arg) {
    struct ferry__stack_cache own_cache;
    ferry__context own_main;
    struct routine r = {.home = &own_main, .body = count_to};

    (void)arg;
    ferry__stack_cache_init(&own_cache);
    ferry__context_adopt(&own_main);
    if (!CHECK_INT(ferry__stack_get(&own_cache, 0, &r.stack), 0)) {
        return NULL;
    }
    ferry__context_make(&r.context, r.stack->lo, r.stack->size, routine_main, &r);
    errno = 4321;
    while (!r.ended) {
        resume(&r);
        CHECK_INT(errno, 4321);
    }
    ferry__context_release(&r.context);
    ferry__context_release(&own_main);
    ferry__stack_put(&own_cache, r.stack);
    ferry__stack_cache_fini(&own_cache);
    return NULL;
}

static void threads_switch_side_by_side(void **state) {
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_own_contexts, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void many_contexts_live_at_once(void **state) {
    const int count = support_slow() ? 500 : 20000;
    struct routine *all = calloc((size_t)count, sizeof *all);

    (void)state;
    assert_non_null(all);
    for (int i = 0; i < count; i++) {
        routine_make(&all[i], 0, three_steps);
    }
    for (int step = 0; step <= 3; step++) {
        for (int i = 0; i < count; i++) {
            resume(&all[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        assert_true(all[i].ended);
        assert_int_equal(all[i].steps, 3);
        routine_free(&all[i]);
    }
    free(all);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        WITH_CACHE("control goes back and forth", control_goes_back_and_forth),
        WITH_CACHE("a stack serves again after the end of its context",
                   a_stack_serves_again_after_the_end),
        WITH_CACHE("a context that never ran is released", a_context_that_never_ran_is_released),
        CASE("a stack without room for a frame is refused", a_tiny_stack_is_refused),
        WITH_CACHE("values in registers survive a switch", registers_survive_a_switch),
#if FERRY__CONTEXT_ASSEMBLY
        WITH_CACHE("the registers that the ABI preserves are kept", preserved_registers_are_kept),
#endif
        WITH_CACHE("errno is per context and starts at 0", errno_is_per_context),
        WITH_CACHE("a deep stack is kept", a_deep_stack_is_kept),
        WITH_CACHE("frames are aligned", frames_are_aligned),
        WITH_CACHE("library calls with vector arguments work inside", library_calls_work_inside),
        WITH_CACHE("a backtrace ends at the entry", a_backtrace_ends_at_the_entry),
#if FERRY__CONTEXT_ASSEMBLY && !FERRY__ASAN
        WITH_CACHE("frame pointers end at the entry", frame_pointers_end_at_the_entry),
#endif
        WITH_CACHE("signals arrive on either stack", signals_arrive_on_either_stack),
        WITH_CACHE("contexts switch among themselves", routines_switch_among_themselves),
        CASE("threads switch side by side", threads_switch_side_by_side),
        WITH_CACHE("many contexts live at once", many_contexts_live_at_once),
    };

    return SUPPORT_RUN(tests);
}

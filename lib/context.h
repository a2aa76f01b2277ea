/* Stacks that take turns on one thread: saving one context and resuming another.
 *
 * A context is the place where a stack stopped: stack pointer, frame pointer, one scratch register
 * and the address to go on at. The switch is inlined into its caller as a few instructions of
 * assembly. They tell the compiler that every other register is lost, so it keeps only what it
 * needs, on the stack that is being left. The switch never moves the stack pointer of a running
 * function, so the compiler's own unwind data holds before and after it.
 *
 * It leaves by an indirect jump, and it is inlined rather than called: the processor predicts a
 * return by matching it with the call, and a stack switch inside a called function would break the
 * match of every return above it. For the same reason a loop is fastest when the function that
 * iterates over its ready tasks contains the switch: there and back costs 7 ns then, and 30 ns when
 * the switch sits in a function that returns after each step.
 *
 * Kept per context: errno, and the control words of the floating-point unit (rounding, masks,
 * flush to zero). Its status flags are shared: the ABI lets every call change them. The signal mask
 * is the thread's (with ucontext it is per context, so tasks shouldn't change it for long).
 *
 * States: made (never ran) -> running <-> suspended -> ended by ferry__context_switch_last. An
 * adopted context starts as running. Exactly one context of a thread is running; every switch
 * starts from it.
 *
 * Owner: all fields belong to the thread that switches. ferry__context_make may be called on
 * another thread if the context is handed over in a synchronised way before its first switch.
 *
 * Where the processor has no switch here, or configure was told so (FERRY_CONTEXT_UCONTEXT),
 * ucontext does it with two system calls a switch.
 *
 * Include config.h first. */
#ifndef FERRY__CONTEXT_H
#define FERRY__CONTEXT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined FERRY_CONTEXT_UCONTEXT && defined __LP64__ && \
    (defined __x86_64__ || defined __aarch64__)
#define FERRY__CONTEXT_ASSEMBLY 1
#else
#define FERRY__CONTEXT_ASSEMBLY 0
#include <ucontext.h>
#endif

#if defined __has_feature
#if __has_feature(address_sanitizer)
#define FERRY__ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FERRY__TSAN 1
#endif
#endif
#if defined __SANITIZE_ADDRESS__
#define FERRY__ASAN 1
#endif
#if defined __SANITIZE_THREAD__
#define FERRY__TSAN 1
#endif
#ifndef FERRY__ASAN
#define FERRY__ASAN 0
#endif
#ifndef FERRY__TSAN
#define FERRY__TSAN 0
#endif

#if FERRY__ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if FERRY__TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* The least room that ferry__context_make accepts: the first frames of an entry function. */
#define FERRY__CONTEXT_ROOM 1024

typedef struct ferry__context ferry__context;

struct ferry__context {
#if FERRY__CONTEXT_ASSEMBLY
    /* The assembly knows these offsets. */
    void *sp;            /*  0 */
    void *frame;         /*  8: rbp, x29; before the first switch: the entry function */
    void *scratch;       /* 16: rbx, x19; before the first switch: its argument */
    void *resume;        /* 24: where to go on */
    uint64_t fp_control; /* 32: mxcsr and, at 36, the x87 control word; fpcr */
#else
    void *sp; /* where it stopped, roughly: for the dump only */
    ucontext_t ucontext;
    stack_t stack;
#endif
    int *errno_at;        /* the running thread's errno; handed on at every switch */
    int error;            /* errno of this context while it is suspended */
    unsigned valgrind_id; /* one more than valgrind's number for the stack; 0: none */
#if !FERRY__CONTEXT_ASSEMBLY
    void (*entry)(void *arg);
    void *arg;
#endif
#if FERRY__ASAN
    void (*asan_entry)(void *arg);
    void *asan_arg;
    void *fake_stack;   /* while it is suspended */
    const void *bottom; /* of the stack */
    size_t size;
    struct ferry__context *came_from; /* who switched here last */
#endif
#if FERRY__TSAN
    void *fiber;
#endif
};

/* C stands for the stack that the calling thread runs on now (a loop's own). Once per run of a
 * loop, on its thread. */
void ferry__context_adopt(ferry__context *c);

/* Makes C start with entry(arg) on the stack [stack_lo, stack_lo + size) when it is first switched
 * to. entry must not return: it ends with ferry__context_switch_last. It starts with errno 0 and
 * with the floating-point control words of the caller of this function. Returns 0, or -ENOMEM if
 * the stack is smaller than FERRY__CONTEXT_ROOM. */
int ferry__context_make(ferry__context *c, void *stack_lo, size_t size, void (*entry)(void *arg),
                        void *arg);

/* Lets C, which was made and hasn't run yet, start with the floating-point control words of HOME,
 * as they were at its last switch away (or when it was adopted): so a task that happens to run
 * doesn't lend its rounding mode to those that are made meanwhile. With ucontext it does nothing on
 * processors other than x86-64, aarch64 and RISC-V. */
void ferry__context_inherit(ferry__context *c, const ferry__context *home);

/* ferry__context_make(), with the control words that ferry__context_inherit() gives. */
int ferry__context_make_slowly(ferry__context *c, void *stack_lo, size_t size,
                               void (*entry)(void *arg), void *arg, const ferry__context *home);
extern bool ferry__on_valgrind; /* it is told of each stack. Fixed, before main */

#if FERRY__CONTEXT_ASSEMBLY
/* Where a context starts: calls frame(scratch), at the end of every backtrace. */
void ferry__context_start(void);

static inline void ferry__context_set_start(ferry__context *c, char *stack_lo, size_t size,
                                            void (*entry)(void *), void *arg) {
    c->sp = (void *)((uintptr_t)(stack_lo + size) & ~(uintptr_t)15);
    memcpy(&c->frame, &entry, sizeof entry);
    c->scratch = arg;
    void (*start)(void) = ferry__context_start;
    memcpy(&c->resume, &start, sizeof start);
}
#endif

static inline int ferry__context_make_like(ferry__context *c, void *stack_lo, size_t size,
                                           void (*entry)(void *arg), void *arg,
                                           const ferry__context *home) {
#if FERRY__CONTEXT_ASSEMBLY && !FERRY__ASAN && !FERRY__TSAN
    if (size >= FERRY__CONTEXT_ROOM && !ferry__on_valgrind) {
        ferry__context_set_start(c, stack_lo, size, entry, arg);
        c->fp_control = home->fp_control;
        c->error = 0;
        c->valgrind_id = 0;
        return 0;
    }
#endif
    return ferry__context_make_slowly(c, stack_lo, size, entry, arg, home);
}

/* Gives back what sanitizers and valgrind hold for C. After its last switch away, from another
 * context; for an adopted one, when no made context will switch to it any more. A context that was
 * made and never ran is released in the same way. */
void ferry__context_release_slowly(ferry__context *c);
static inline void ferry__context_release(ferry__context *c) {
    if (FERRY__TSAN || c->valgrind_id != 0)
        ferry__context_release_slowly(c);
}

#if FERRY__ASAN
/* Tells AddressSanitizer that SELF runs now; FAKE_STACK is NULL when it runs for the first time. */
void ferry__context_arrived(ferry__context *self);
#endif

#if FERRY__CONTEXT_ASSEMBLY && defined __x86_64__

#if defined __CET__ && (__CET__ & 1)
#define FERRY__LANDING "endbr64\n\t"
#else
#define FERRY__LANDING ""
#endif
#ifdef __AVX512F__
#define FERRY__CLOBBER_AVX512 \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5", \
        "k6", "k7"
#else
#define FERRY__CLOBBER_AVX512
#endif
#ifdef __APX_F__
#define FERRY__CLOBBER_APX \
    , "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28", \
        "r29", "r30", "r31"
#else
#define FERRY__CLOBBER_APX
#endif

/* The control words are loaded only where they differ: loading costs more than all the rest.
 * Pending x87 exceptions are dropped before that, or they would be raised in a task that unmasks
 * them. */
static inline __attribute__((always_inline)) void ferry__context_jump(ferry__context *from,
                                                                      ferry__context *to) {
    __asm__ volatile("leaq 3f(%%rip), %%rax\n\t"
                     "movq %%rsp, (%0)\n\t"
                     "movq %%rbp, 8(%0)\n\t"
                     "movq %%rbx, 16(%0)\n\t"
                     "movq %%rax, 24(%0)\n\t"
                     "stmxcsr 32(%0)\n\t"
                     "fnstcw 36(%0)\n\t"
                     "movl 32(%0), %%eax\n\t"
                     "xorl 32(%1), %%eax\n\t"
                     "testl $0xffc0, %%eax\n\t"
                     "jz 1f\n\t"
                     "ldmxcsr 32(%1)\n"
                     "1:\n\t"
                     "movzwl 36(%0), %%eax\n\t"
                     "cmpw 36(%1), %%ax\n\t"
                     "je 2f\n\t"
                     "fnclex\n\t"
                     "fldcw 36(%1)\n"
                     "2:\n\t"
                     "movq 24(%1), %%rcx\n\t"
                     "movq 16(%1), %%rbx\n\t"
                     "movq 8(%1), %%rbp\n\t"
                     "movq (%1), %%rsp\n\t"
                     "jmp *%%rcx\n"
                     "3:\n\t" FERRY__LANDING
                     : "+D"(from), "+S"(to)
                     :
                     : "memory", "cc", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13",
                       "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "st",
                       "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)",
                       "st(7)" FERRY__CLOBBER_AVX512 FERRY__CLOBBER_APX);
}

#elif FERRY__CONTEXT_ASSEMBLY

#ifdef __ARM_FEATURE_SVE
#define FERRY__CLOBBER_SVE \
    , "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12", "p13", \
        "p14", "p15"
#else
#define FERRY__CLOBBER_SVE
#endif

/* Where x18 belongs to the platform, no code may touch it. Elsewhere it is like the others. */
#if defined __APPLE__ || defined __ANDROID__
#define FERRY__CLOBBER_X18
#else
#define FERRY__CLOBBER_X18 , "x18"
#endif

/* `hint #36` is `bti j`: a landing place for an indirect jump, and
 * nothing on processors that don't know it. */
static inline __attribute__((always_inline)) void ferry__context_jump(ferry__context *from,
                                                                      ferry__context *to) {
    register ferry__context *x0 __asm__("x0") = from;
    register ferry__context *x1 __asm__("x1") = to;
    __asm__ volatile("adr x9, 2f\n\t"
                     "mov x10, sp\n\t"
                     "stp x10, x29, [%0]\n\t"
                     "stp x19, x9, [%0, #16]\n\t"
                     "mrs x11, fpcr\n\t"
                     "str x11, [%0, #32]\n\t"
                     "ldr x12, [%1, #32]\n\t"
                     "cmp x11, x12\n\t"
                     "b.eq 1f\n\t"
                     "msr fpcr, x12\n"
                     "1:\n\t"
                     "ldp x10, x29, [%1]\n\t"
                     "ldp x19, x16, [%1, #16]\n\t"
                     "mov sp, x10\n\t"
                     "br x16\n"
                     "2:\n\t"
                     "hint #36\n\t"
                     : "+r"(x0), "+r"(x1)
                     :
                     : "memory", "cc", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
                       "x12", "x13", "x14", "x15", "x16", "x17", "x20", "x21", "x22", "x23", "x24",
                       "x25", "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6",
                       "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17",
                       "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28",
                       "v29", "v30", "v31" FERRY__CLOBBER_X18 FERRY__CLOBBER_SVE);
}

#else

void ferry__context_jump(ferry__context *from, ferry__context *to);

#endif

/* What both switches share. errno is reached through the address that travels from context to
 * context: the thread's own, looked up once in ferry__context_adopt. */
static inline __attribute__((always_inline)) void ferry__context_leave(ferry__context *from,
                                                                       ferry__context *to) {
    int *at = from->errno_at;
    from->error = *at;
    *at = to->error;
    to->errno_at = at;
#if FERRY__ASAN
    to->came_from = from;
#endif
#if FERRY__TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
    ferry__context_jump(from, to);
}

/* Saves the running context in FROM and resumes TO. Returns when somebody switches to FROM. */
static inline __attribute__((always_inline)) void ferry__context_switch(ferry__context *from,
                                                                        ferry__context *to) {
#if FERRY__ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->size);
#endif
    ferry__context_leave(from, to);
#if FERRY__ASAN
    ferry__context_arrived(from);
#endif
}

/* As ferry__context_switch, but FROM is never resumed: the call doesn't return. */
static inline __attribute__((always_inline, noreturn)) void
ferry__context_switch_last(ferry__context *from, ferry__context *to) {
#if FERRY__ASAN
    __sanitizer_start_switch_fiber(NULL, to->bottom, to->size);
#endif
    ferry__context_leave(from, to);
    __builtin_unreachable();
}

#endif

/* Making contexts, and telling sanitizers and valgrind of them. The switch itself is in context.h,
 * the first instructions of a context are in context_<processor>.S. */
#include "config.h"

#include "context.h"

#include <stdbool.h>
#include <string.h>

#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#endif

#if FERRY__CONTEXT_ASSEMBLY

_Static_assert(offsetof(ferry__context, sp) == 0, "the assembly knows the offsets");
_Static_assert(offsetof(ferry__context, frame) == 8, "the assembly knows the offsets");
_Static_assert(offsetof(ferry__context, scratch) == 16, "the assembly knows the offsets");
_Static_assert(offsetof(ferry__context, resume) == 24, "the assembly knows the offsets");
_Static_assert(offsetof(ferry__context, fp_control) == 32, "the assembly knows the offsets");

static void save_fp_control(ferry__context *c) {
#ifdef __x86_64__
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87));
    c->fp_control = mxcsr | (uint64_t)x87 << 32;
#else
    __asm__ volatile("mrs %0, fpcr" : "=r"(c->fp_control));
#endif
}

void ferry__context_inherit(ferry__context *c, const ferry__context *home) {
    c->fp_control = home->fp_control;
}

#else

/* makecontext passes ints only, so the pointer travels in two. */
static void start(unsigned high, unsigned low) {
    ferry__context *c = (ferry__context *)((uintptr_t)((uint64_t)high << 32 | low));
    c->entry(c->arg);
}

static void ferry__context_set_start(ferry__context *c, char *stack_lo, size_t size,
                                     void (*entry)(void *), void *arg) {
    c->sp = stack_lo + size;
    c->entry = entry;
    c->arg = arg;
    c->stack = (stack_t){.ss_sp = stack_lo, .ss_size = size};
}

/* Around what getcontext saved, or what was saved for another context. */
static void set_ucontext(ferry__context *c) {
    c->ucontext.uc_stack = c->stack;
    c->ucontext.uc_link = NULL;
    makecontext(&c->ucontext, (void (*)(void))start, 2, (unsigned)((uint64_t)(uintptr_t)c >> 32),
                (unsigned)(uintptr_t)c);
}

/* getcontext saves more than the control words, so what was set before is put in again. */
static void save_fp_control(ferry__context *c) {
    getcontext(&c->ucontext);
    if (c->entry != NULL)
        set_ucontext(c);
}

/* Where a ucontext_t points into itself, the pointer has to be set right, so it is copied only
 * where it is known to. */
void ferry__context_inherit(ferry__context *c, const ferry__context *home) {
#if defined __GLIBC__ && (defined __x86_64__ || defined __aarch64__ || defined __riscv)
    c->ucontext = home->ucontext;
#ifdef __x86_64__
    c->ucontext.uc_mcontext.fpregs = &c->ucontext.__fpregs_mem;
#endif
    set_ucontext(c);
#else
    (void)c;
    (void)home;
#endif
}

void ferry__context_jump(ferry__context *from, ferry__context *to) {
    from->sp = __builtin_frame_address(0);
    swapcontext(&from->ucontext, &to->ucontext);
}

#endif

#if FERRY__ASAN

void ferry__context_arrived(ferry__context *self) {
    __sanitizer_finish_switch_fiber(self->fake_stack, &self->came_from->bottom,
                                    &self->came_from->size);
}

/* The entry function under AddressSanitizer. */
static void start_fiber(void *arg) {
    ferry__context *c = arg;
    ferry__context_arrived(c);
    c->asan_entry(c->asan_arg);
}

#endif

void ferry__context_adopt(ferry__context *c) {
    memset(c, 0, sizeof *c);
    c->errno_at = &errno;
    save_fp_control(c);
#if FERRY__TSAN
    c->fiber = __tsan_get_current_fiber();
#endif
}

bool ferry__on_valgrind;

#ifdef HAVE_VALGRIND_VALGRIND_H
__attribute__((constructor)) static void look_for_valgrind(void) {
    ferry__on_valgrind = RUNNING_ON_VALGRIND != 0;
}
#endif

static int begin(ferry__context *c, void *stack_lo, size_t size, void (*entry)(void *arg),
                 void *arg) {
    if (size < FERRY__CONTEXT_ROOM)
        return -ENOMEM;
    memset(c, 0, sizeof *c);
#if FERRY__ASAN
    c->bottom = stack_lo;
    c->size = size;
    c->asan_entry = entry;
    c->asan_arg = arg;
    entry = start_fiber;
    arg = c;
#endif
#if FERRY__TSAN
    c->fiber = __tsan_create_fiber(0);
#endif
#ifdef HAVE_VALGRIND_VALGRIND_H
    if (ferry__on_valgrind)
        c->valgrind_id = (unsigned)VALGRIND_STACK_REGISTER(stack_lo, (char *)stack_lo + size) + 1;
#endif
    ferry__context_set_start(c, stack_lo, size, entry, arg);
    return 0;
}

int ferry__context_make(ferry__context *c, void *stack_lo, size_t size, void (*entry)(void *arg),
                        void *arg) {
    int rc = begin(c, stack_lo, size, entry, arg);
    if (rc == 0)
        save_fp_control(c);
    return rc;
}

int ferry__context_make_slowly(ferry__context *c, void *stack_lo, size_t size,
                               void (*entry)(void *arg), void *arg, const ferry__context *home) {
#if FERRY__CONTEXT_ASSEMBLY
    int rc = begin(c, stack_lo, size, entry, arg);
#else
    int rc = ferry__context_make(c, stack_lo, size, entry, arg);
#endif
    if (rc == 0)
        ferry__context_inherit(c, home);
    return rc;
}

void ferry__context_release_slowly(ferry__context *c) {
#if FERRY__TSAN
    if (c->fiber != __tsan_get_current_fiber())
        __tsan_destroy_fiber(c->fiber);
    c->fiber = NULL;
#endif
#ifdef HAVE_VALGRIND_VALGRIND_H
    if (c->valgrind_id != 0)
        VALGRIND_STACK_DEREGISTER(c->valgrind_id - 1);
    c->valgrind_id = 0;
#endif
    (void)c;
}

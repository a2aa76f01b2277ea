/* The first instructions of a context on x86-64. The switch in context.h jumps here with the entry
 * function in rbp, its argument in rbx and the stack pointer at the top of the stack, a multiple
 * of 16. There is no caller: the unwind data says so, and debuggers and backtrace() end here.
 *
 * The entry function is jumped to, with a return address of its own making: it never returns, and
 * the processor would keep the return of a call in mind, and be wrong about every return of whoever
 * is switched to next. */

    .text
    .globl ferry__context_start
    .hidden ferry__context_start
    .type ferry__context_start, @function
    .balign 16
ferry__context_start:
    .cfi_startproc
    .cfi_undefined rip
#if defined __CET__ && (__CET__ & 1)
    endbr64
#endif
    movq %rbp, %rax
    movq %rbx, %rdi
    xorl %ebp, %ebp
    leaq 1f(%rip), %rcx
    pushq %rcx
    .cfi_adjust_cfa_offset 8
    jmp *%rax
1:  ud2
    .cfi_endproc
    .size ferry__context_start, . - ferry__context_start

#if defined __CET__ && (__CET__ & 1)
/* Indirect branch tracking only. A stack switch without a shadow stack of its own can't run under
 * shadow stacks, so this file doesn't claim them, and neither does what it is linked into. */
    .section .note.gnu.property, "a", @note
    .balign 8
    .long 4, 16, 5
    .asciz "GNU"
    .long 0xc0000002, 4, 1, 0
#endif

    .section .note.GNU-stack, "", @progbits

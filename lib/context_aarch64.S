/* The first instructions of a context on aarch64. The switch in context.h branches here with the
 * entry function in x29, its argument in x19 and the stack pointer at the top of the stack, a
 * multiple of 16. There is no caller: the unwind data says so, and debuggers and backtrace() end
 * here. The entry function is branched to rather than called: it never returns, and the processor
 * would keep the return of a call in mind, and be wrong about those of whoever runs next. */

    .text
    .globl ferry__context_start
    .hidden ferry__context_start
    .type ferry__context_start, %function
    .balign 16
ferry__context_start:
    .cfi_startproc
    .cfi_undefined x30
    hint #36 /* bti j */
    mov x16, x29
    mov x0, x19
    mov x29, xzr
    adr x30, 1f
    br x16
1:  brk #1
    .cfi_endproc
    .size ferry__context_start, . - ferry__context_start

#ifdef __ARM_FEATURE_BTI_DEFAULT
/* Branch targets are marked. Shadow stacks (GCS) aren't claimed: the switch has none of its own. */
    .section .note.gnu.property, "a", %note
    .balign 8
    .long 4, 16, 5
    .asciz "GNU"
    .long 0xc0000000, 4, 1, 0
#endif

    .section .note.GNU-stack, "", %progbits

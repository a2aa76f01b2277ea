/* Naming the task that ran into the guard of its stack; overflow.c says how. */
#ifndef FERRY__OVERFLOW_H
#define FERRY__OVERFLOW_H

struct ferry__stack;

/* The stack and the name of the task that runs on the calling thread; NULL if none does. Called
 * from a signal handler, so it may only look at memory. Set by the loop before the handler is
 * installed. */
extern const struct ferry__stack *(*ferry__overflow_current)(const char **name);

/* Installs the handler of the process for SIGSEGV, and for SIGBUS if that is free. Returns 0 (also
 * when it is there already), or -EEXIST if the program, or a sanitizer, has its own for SIGSEGV. */
int ferry__overflow_install(void);

/* Gives the calling thread an alternate signal stack if it has none: the handler can't run on the
 * stack that is full. Calls nest. Returns 0 or -ENOMEM. */
int ferry__overflow_thread(void);

/* Undoes one ferry__overflow_thread that returned 0, on the same thread. */
void ferry__overflow_thread_end(void);

#endif

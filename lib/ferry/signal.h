/* Waiting for signals of the process. */
#ifndef FERRY_SIGNAL_H
#define FERRY_SIGNAL_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* Inside a signal handler no function of Ferry may be called: they take locks and memory. What a
 * signal is to lead to is done by a task or thread that waits for it here, by ferry_run()
 * (SIGINT, SIGTERM), or in a signal event of libevent, whose callback runs on the loop like any
 * other. A program that must have a handler of its own writes to an eventfd or a pipe there,
 * which a task waits for with ferry_poll(). */

/* Waits until the process gets `signo`. The first call for a signal takes it over from its
 * default action or handler, until ferry_signal_restore(): signals that come between two waits
 * are counted, and the next wait returns at once (several that come before anybody waits may be
 * one, as signals are). Every waiter gets it. At least one thread must not block the signal. The
 * library's own threads block all of them. In the child of a fork the signal does what it did
 * before, until the child waits for it itself. Returns 0; -ECANCELED; -ETIMEDOUT; -EINVAL for a
 * signal that can't be caught or isn't asynchronous (SIGSEGV, SIGBUS, SIGFPE, SIGILL);
 * FERRY_ECLOSED when ferry_signal_restore() gave it back meanwhile; -EAGAIN when the library's
 * service thread can't be made; -ENOMEM; -EDEADLK on a loop's own thread outside a task: the
 * signal isn't taken over then. Suspends or blocks. */
FERRY_API int ferry_signal_wait(int signo);
FERRY_API int ferry_signal_wait_for(int signo, int64_t ms);

/* Puts back what the signal did before the first wait. 0, or -EINVAL when it wasn't taken over.
 * Any thread. */
FERRY_API int ferry_signal_restore(int signo);

FERRY_END_DECLS

#endif

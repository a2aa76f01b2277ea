/* Signals for the library's own use (ferry_run()): see signal_wait.c. */
#ifndef FERRY__SIGNAL_WAIT_H
#define FERRY__SIGNAL_WAIT_H

#include <stddef.h>

struct ferry__signal_watch;

/* Has fn(arg) called on the service thread for each `signo` that the process gets; it must not
 * wait. The signal is taken over from its default action or handler. *out is the watch. Returns
 * 0; -ENOMEM; -EAGAIN when the service thread can't be made; -EINVAL for a signal that can't be
 * caught. Any thread; never blocks. */
int ferry__signal_watch(int signo, void (*fn)(void *arg), void *arg,
                        struct ferry__signal_watch **out);

/* Ends it: when this returns, fn doesn't run and won't any more (called from inside fn: it ends
 * with this call of fn), and the signal does what it did before, unless others use it. NULL is
 * ignored. Any thread; waits for a running fn. */
void ferry__signal_unwatch(struct ferry__signal_watch *watch);

size_t ferry__signals_awaited(void); /* how many tasks and threads wait for a signal. Any thread */

#endif

/* What service.c offers besides the timers of core.h. */
#ifndef FERRY__SERVICE_H
#define FERRY__SERVICE_H

#include <stdbool.h>

int ferry__service_start(void); /* makes the thread unless it is there: 0, or -EAGAIN. Any thread */
void ferry__service_nudge(
    void); /* has the thread look at the signals; signal handlers may call it */
bool ferry__service_here(void); /* whether the service thread calls */
bool ferry__service_idle(
    void); /* whether it exists, sleeps, and has no timer to wake up for. Any thread */

/* signal_wait.c: handles the signals that have come. On the service thread, without locks. */
void ferry__signal_dispatch(void);

#endif

/* An event: a flag that tasks and threads wait for. */
#ifndef FERRY_EVENT_H
#define FERRY_EVENT_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. */
typedef struct ferry_event {
    unsigned lock; /* inner lock: guards what follows */
    bool set;
    void *first, *last; /* who waits */
    void *reserved[2];
} ferry_event;
#define FERRY_EVENT_INIT FERRY_ZERO

/* Waits until the event is set; returns at once when it is. Returns 0; -ECANCELED; -EDEADLK on a
 * loop's own thread outside a task when it would have to wait; -ENOMEM: no memory for the thread's
 * record, which its first call makes. Suspends or blocks. Any thread. */
FERRY_API int ferry_event_wait(ferry_event *event);
FERRY_API int ferry_event_wait_for(ferry_event *event, int64_t ms); /* or -ETIMEDOUT */

/* Sets it: all who wait go on, also when it is cleared before they run, and nobody waits until it
 * is cleared. Who has seen it set may free it. Never waits. Any thread, like the two below. */
FERRY_API void ferry_event_set(ferry_event *event);
FERRY_API void ferry_event_clear(ferry_event *event);
FERRY_API bool ferry_event_is_set(ferry_event *event);

FERRY_END_DECLS

#endif

/* Values that belong to a task, and to what it starts: a request's id, a user, a trace.
 *
 *     static ferry_local request_id = FERRY_LOCAL_INIT;
 *     ferry_local_set(&request_id, "4711", NULL);
 *     ...ferry_local_get(&request_id)...
 *
 * gives it here, and in every task and job that was started from here since. */
#ifndef FERRY_LOCAL_H
#define FERRY_LOCAL_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* A key: its address is what counts. Usually static; must outlive the values. */
typedef struct ferry_local {
    const char *name; /* for reports; may be NULL */
    void *reserved[1];
} ferry_local;
#define FERRY_LOCAL_INIT FERRY_ZERO

/* Gives the key a value in the current task, job or thread, and in every task and job that it
 * starts from now on; what was started before keeps the value that it inherited. `value_free`
 * (may be NULL) is called once, when the last one that has the value has ended or has set
 * another one, on whichever thread that happens; it must not wait. Returns 0, or -ENOMEM:
 * nothing was changed, and the value is still the caller's. Never suspends. */
FERRY_API int ferry_local_set(ferry_local *key, void *value, void (*value_free)(void *value));

/* The value here; NULL when there is none. It is valid as long as the caller neither ends nor
 * sets another. */
FERRY_API void *ferry_local_get(const ferry_local *key);

FERRY_END_DECLS

#endif

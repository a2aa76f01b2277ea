/* A condition variable for tasks and threads together. */
#ifndef FERRY_COND_H
#define FERRY_COND_H

#include <ferry/base.h>
#include <ferry/mutex.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. The mutex guards what the condition is about; it stays the
 * same. May stand anywhere (also static); must not be moved or copied in use. */
typedef struct ferry_cond {
    unsigned lock;      /* inner lock: guards the line */
    ferry_mutex *mutex; /* fixed */
    void *first, *last; /* the line: who waits */
    void *reserved[2];
} ferry_cond;
#define FERRY_COND_INIT(mutex_of_it) {0, (mutex_of_it), NULL, NULL, {NULL, NULL}}

/* Gives the mutex up, waits to be signalled, and has the mutex again when it returns. A caller that
 * held it holds it on every way out, also when it was cancelled (retaking it is shielded). Wake-ups
 * without a signal don't occur, but others who stood in the mutex's line before may have changed
 * what the signal was about: call it in a loop. For a time limit on the whole loop put a scope
 * around it:
 *
 *     ferry_lock(&mutex);
 *     ferry_scope_open(&scope, 500);
 *     while (rc == 0 && !ready)
 *         rc = ferry_cond_wait(&cond);
 *     rc = ferry_scope_close(&scope, rc);      // -ETIMEDOUT when the 500 ms were over
 *     ferry_unlock(&mutex);
 *
 * Returns
 *   0             it was signalled
 *   -ECANCELED, -ETIMEDOUT   no signal was consumed
 *   -EPERM        the caller doesn't hold the mutex
 *   -EINVAL       the condition has no mutex
 *   -EDEADLK      on a loop's own thread outside a task
 *   -EOWNERDEAD   as ferry_lock(): the mutex is held, but its last owner ended without unlocking.
 *                 The caller may have been signalled or not: look at what it waits for
 *   -ENOMEM       no memory for the thread's record, which its first call makes
 * Suspends or blocks. Any thread. */
FERRY_API int ferry_cond_wait(ferry_cond *cond);

/* The same for `ms` milliseconds at most, without the time that having the mutex again takes. */
FERRY_API int ferry_cond_wait_for(ferry_cond *cond, int64_t ms);

/* Lets the one who has waited longest go on, or all of them: they stand in line for the mutex from
 * then on, and go on when it is their turn, after the caller has given it up. Without anybody who
 * waits it does nothing. Returns 0; -EPERM when the caller doesn't hold the mutex, -EINVAL and
 * -ENOMEM as above. Never waits. Any thread. */
FERRY_API int ferry_cond_signal(ferry_cond *cond);
FERRY_API int ferry_cond_broadcast(ferry_cond *cond);

FERRY_END_DECLS

#endif

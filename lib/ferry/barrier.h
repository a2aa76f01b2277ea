/* A barrier: so many tasks and threads wait for each other, round after round. */
#ifndef FERRY_BARRIER_H
#define FERRY_BARRIER_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. */
typedef struct ferry_barrier {
    unsigned lock; /* inner lock: guards what follows */
    int parties;
    int waiting;
    bool broken;
    void *first, *last; /* who waits */
    void *reserved[2];
} ferry_barrier;
#define FERRY_BARRIER_INIT(parties_of_it) {0, (parties_of_it), 0, false, NULL, NULL, {NULL, NULL}}

/* The same at run time. Returns 0, or -EINVAL for fewer than one party. */
FERRY_API int ferry_barrier_init(ferry_barrier *barrier, int parties);

/* Waits until as many as there are parties have come. Each one of a round gets another number, from
 * 0 to parties - 1; the one with 0 came last and is the round's leader, the others are numbered in
 * the order in which they came. One that is cancelled or timed out leaves the round, which goes on
 * waiting without it. Returns
 *   the number    the round is complete; a completed round beats a time-out of zero
 *   FERRY_EBROKEN the barrier was aborted, or reset while this one waited
 *   -ECANCELED, -ETIMEDOUT   the caller has left the round
 *   -EINVAL       it has fewer than one party
 *   -EDEADLK      on a loop's own thread outside a task, when it would have to wait
 *   -ENOMEM       no memory for the thread's record, which its first call makes
 * Suspends or blocks. Any thread. A next round may begin at once. The memory of the barrier may go
 * when every call on it has returned: to be the leader doesn't tell that. */
FERRY_API int ferry_barrier_wait(ferry_barrier *barrier);
FERRY_API int ferry_barrier_wait_for(ferry_barrier *barrier, int64_t ms);

/* Breaks it: all who wait and who come get FERRY_EBROKEN, until a reset. Never waits. Any thread.
 * */
FERRY_API void ferry_barrier_abort(ferry_barrier *barrier);

/* Makes it as new: those who wait get FERRY_EBROKEN. Never waits. Any thread. */
FERRY_API void ferry_barrier_reset(ferry_barrier *barrier);

FERRY_END_DECLS

#endif

/* A counting semaphore for tasks and threads together. */
#ifndef FERRY_SEMAPHORE_H
#define FERRY_SEMAPHORE_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. */
typedef struct ferry_sem {
    unsigned lock;      /* inner lock: guards what follows */
    int64_t value;      /* permits that are free */
    int64_t max;        /* 0: no bound but INT64_MAX */
    void *first, *last; /* who waits */
    void *reserved[2];
} ferry_sem;
#define FERRY_SEM_INIT(permits) {0, (permits), 0, NULL, NULL, {NULL, NULL}}
#define FERRY_SEM_BOUNDED_INIT(permits, bound) {0, (permits), (bound), NULL, NULL, {NULL, NULL}}

/* The same at run time. Returns 0, or -EINVAL for a negative value, a bound below it, or a negative
 * bound. */
FERRY_API int ferry_sem_init(ferry_sem *sem, int64_t permits, int64_t bound);

/* Takes n permits, all or none, in turn: whoever wants many holds up those behind. Returns 0;
 * -ECANCELED: none taken; -EINVAL for n < 1 or more than the bound, or when the macro was given
 * what ferry_sem_init() refuses; -EDEADLK on a loop's own thread outside a task when it would have
 * to wait; -ENOMEM: no memory for the thread's record, which its first call makes. Suspends or
 * blocks. Any thread. */
FERRY_API int ferry_sem_acquire(ferry_sem *sem, int64_t n);
FERRY_API int ferry_sem_acquire_for(ferry_sem *sem, int64_t n, int64_t ms); /* or -ETIMEDOUT */

/* Takes them if they are free and nobody waits: 0, -EAGAIN, -EINVAL. Never waits. Any thread. */
FERRY_API int ferry_sem_try(ferry_sem *sem, int64_t n);

/* Gives n permits back, to those who wait first. Returns 0; -EOVERFLOW when that would exceed the
 * bound, or INT64_MAX (nothing is changed then); -EINVAL for n < 1. Never waits. Any thread. */
FERRY_API int ferry_sem_release(ferry_sem *sem, int64_t n);

/* How many are free now. Never waits. Any thread. */
FERRY_API int64_t ferry_sem_value(ferry_sem *sem);

FERRY_END_DECLS

#endif

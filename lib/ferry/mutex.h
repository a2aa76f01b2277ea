/* A mutex for tasks and threads together: first in, first out, handed from owner to owner. */
#ifndef FERRY_MUTEX_H
#define FERRY_MUTEX_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. May stand anywhere (also static); must not be moved or copied
 * in use. */
typedef struct ferry_mutex {
    void *owner;        /* atomic: who holds it, and whether somebody may wait */
    unsigned lock;      /* inner lock: guards the line */
    void *first, *last; /* the line: who waits */
    struct ferry_mutex *next, *prev; /* what the same owner holds besides: owner only */
    void *reserved[2];
} ferry_mutex;
#define FERRY_MUTEX_INIT FERRY_ZERO

/* Takes the mutex. Returns 0; -EOWNERDEAD: it is taken, but its last owner ended without unlocking,
 * so what it guards may be half done; -EDEADLK: the caller holds it already, or the call was made
 * on a loop's own thread outside a task and would have to wait; -ECANCELED: not taken;
 * -ENOMEM: no memory for the thread's record, which its first call makes. Suspends or
 * blocks. Any thread. */
FERRY_API int ferry_lock(ferry_mutex *mutex);

/* The same, for `ms` milliseconds at most; -ETIMEDOUT: not taken. A free mutex beats a time-out of
 * zero. */
FERRY_API int ferry_lock_for(ferry_mutex *mutex, int64_t ms);

/* Takes it if it is free and nobody waits for it: 0, -EOWNERDEAD, -EBUSY, -EDEADLK; -ENOMEM as
 * above. Never waits. Any thread. */
FERRY_API int ferry_trylock(ferry_mutex *mutex);

/* Gives it to the next in line. Returns 0, or -EPERM when the caller doesn't hold it. Never
 * waits. */
FERRY_API int ferry_unlock(ferry_mutex *mutex);

FERRY_END_DECLS

#endif

/* A lock that many may hold to read, or one to write: tasks and threads together, first come, first
 * served. */
#ifndef FERRY_RWLOCK_H
#define FERRY_RWLOCK_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. May stand anywhere (also static); must not be moved or copied
 * in use. */
typedef struct ferry_rwlock {
    unsigned lock;      /* inner lock: guards what follows, up to the line */
    bool orphaned;      /* the last writer ended without unlocking */
    void *writer;       /* the task, job or thread that holds it to write */
    int64_t readers;    /* how many hold it to read */
    void *first, *last; /* the line: who waits */
    struct ferry_rwlock *next, *prev; /* what the same writer holds besides: writer only */
    void *reserved[2];
} ferry_rwlock;
#define FERRY_RWLOCK_INIT FERRY_ZERO

/* Takes the lock to read. Who comes after a writer that waits waits behind it, so that readers
 * can't keep writers out for ever; a caller that holds it to read already must therefore not take
 * it again, neither to read nor to write. `ms`: milliseconds at most; a lock that can be had beats
 * a time-out of zero. Returns
 *   0
 *   -EOWNERDEAD   it is taken, but the last one who held it to write ended without unlocking, so
 *                 what it guards may be half done. Every reader is told until a writer has been
 *   -EDEADLK      the caller holds it to write, or the call was made on a loop's own thread outside
 *                 a task and would have to wait
 *   -ECANCELED, -ETIMEDOUT   not taken
 *   -ENOMEM       no memory for the thread's record, which its first call makes
 * Suspends or blocks. Any thread. */
FERRY_API int ferry_rdlock(ferry_rwlock *rwlock);
FERRY_API int ferry_rdlock_for(ferry_rwlock *rwlock, int64_t ms);

/* The same if it can be had now, and nobody waits for it; -EBUSY otherwise. Never waits, and takes
 * no notice of a cancel. Any thread. */
FERRY_API int ferry_tryrdlock(ferry_rwlock *rwlock);

/* Takes the lock to write: alone. Returns, suspends and blocks as above; -EOWNERDEAD comes once. */
FERRY_API int ferry_wrlock(ferry_rwlock *rwlock);
FERRY_API int ferry_wrlock_for(ferry_rwlock *rwlock, int64_t ms);
FERRY_API int ferry_trywrlock(ferry_rwlock *rwlock);

/* Gives it back, whichever way the caller holds it, to those whose turn it is. Returns 0; -EPERM
 * when somebody else holds it to write, or nobody holds it. Who holds it to read isn't known by
 * name: a foreign unlock among readers isn't noticed, nor is a reader that ends without giving it
 * back (it keeps writers out). Never waits. Any thread. */
FERRY_API int ferry_rwunlock(ferry_rwlock *rwlock);

FERRY_END_DECLS

#endif

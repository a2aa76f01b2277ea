/* What holds for each lock that one holds alone: a mutex, and a rwlock to write. */
#ifndef FERRY_TEST_EXCLUSIVE_H
#define FERRY_TEST_EXCLUSIVE_H

/* What to do with a lock of that kind; each returns what the library says. One of zeros is free. */
struct exclusive {
    int (*take)(void *lock);
    int (*try_take)(void *lock);
    int (*give)(void *lock);
};

extern const struct exclusive exclusive_mutex, exclusive_rwlock;

/* Again and again a task takes several, gives some of them back in any order, and ends: the next
 * one is told of those, and of no other. In a task. */
void exclusive_several_kept(const struct exclusive *kind);

/* Again and again the last of three threads frees the object that the lock stands in, at once after
 * it has given it back. */
void exclusive_freed_at_once(const struct exclusive *kind);

#endif

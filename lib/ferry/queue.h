/* A bounded queue between tasks and threads, with backpressure. */
#ifndef FERRY_QUEUE_H
#define FERRY_QUEUE_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

typedef struct ferry_queue ferry_queue;

enum ferry_queue_order {
    FERRY_FIFO = 0,
    FERRY_LIFO = 1,
    FERRY_PRIORITY = 2 /* smallest first, by `compare`; equal ones in the order of their puts */
};

/* Zero is the default of each. */
typedef struct ferry_queue_options {
    const char *name; /* for reports; copied, cut at 31 bytes; default "queue" */
    int order;        /* enum ferry_queue_order */
    /* For FERRY_PRIORITY. Called with the queue's inner lock held: it must be short and call
     * nothing of Ferry. */
    int (*compare)(const void *a, const void *b);
    void (*item_free)(void *item); /* for items that are discarded */
    /* The bound by bytes: puts also wait while the sizes of the items inside and of the new one
     * add up to more than bytes_max (0: no such bound). An item that is larger than bytes_max gets
     * in alone, when the queue is empty: so what is inside never exceeds bytes_max or the largest
     * item, whichever is more, and no item can get stuck for ever. */
    size_t bytes_max;
    /* The size of an item in bytes; required with bytes_max, and without it only for
     * ferry_queue_bytes(). Called once for each put, on its thread, before it waits; no lock is
     * held. */
    size_t (*item_size)(const void *item);
    void *reserved[2]; /* zero */
} ferry_queue_options;

/* A queue of up to `capacity` items. NULL with errno EINVAL (capacity 0 or above SIZE_MAX / 64,
 * an unknown order, priority without compare, bytes_max without item_size) or ENOMEM. `options`
 * may be NULL. Memory for up to 4,096 items is taken here; for more when they come. Any thread;
 * never waits. */
FERRY_API ferry_queue *ferry_queue_new(size_t capacity, const ferry_queue_options *options);

/* Frees it; items in it are discarded (item_free, on the calling thread). -EBUSY, nothing freed,
 * while somebody waits on it. NULL is ignored. Nobody may use it any more. Any thread; never
 * waits. */
FERRY_API int ferry_queue_free(ferry_queue *queue);

/* Puts an item (any pointer, NULL too); waits while the queue is full, by items or by bytes, and
 * while others wait to put: first come, first served, also when a smaller item would fit. (When
 * a big one at the head gives up, those behind it get their turn at once.) Returns 0;
 * FERRY_ECLOSED; -ECANCELED; -ETIMEDOUT; -EDEADLK on a loop's own thread outside a task when it
 * would have to wait; -ENOMEM when memory for more than 4,096 items, or for the record that a
 * thread's first call makes, is short. After an error the item is still the caller's. Suspends
 * or blocks. Any thread. */
FERRY_API int ferry_queue_put(ferry_queue *queue, void *item);
FERRY_API int ferry_queue_put_for(ferry_queue *queue, void *item, int64_t ms);
FERRY_API int ferry_queue_try_put(ferry_queue *queue, void *item); /* or -EAGAIN: never waits */

/* Gets the next item into *item; waits while the queue is empty. Returns 0; FERRY_ECLOSED when it
 * is closed and empty; -ECANCELED, -ETIMEDOUT, -EDEADLK, -ENOMEM for the thread's record: nothing
 * was taken. Suspends or blocks. Any thread. */
FERRY_API int ferry_queue_get(ferry_queue *queue, void **item);
FERRY_API int ferry_queue_get_for(ferry_queue *queue, void **item, int64_t ms);
FERRY_API int ferry_queue_try_get(ferry_queue *queue, void **item); /* or -EAGAIN: never waits */

/* Each item that was put is unfinished until somebody has called task_done for it. join waits until
 * none is, and returns 0, at once when none is, or -ECANCELED, -EDEADLK, -ENOMEM as above.
 * task_done never waits, and returns 0, or -EINVAL when there is none. Any thread. */
FERRY_API int ferry_queue_task_done(ferry_queue *queue);
FERRY_API int ferry_queue_join(ferry_queue *queue);

/* No more items: those who wait to put get FERRY_ECLOSED now, their items are still theirs. With
 * `discard` the items inside are discarded (and no longer unfinished); without, they can still be
 * got. Those who wait to get, get FERRY_ECLOSED when it is empty. Again is no error (discard may be
 * added). Never waits. Any thread. */
FERRY_API void ferry_queue_close(ferry_queue *queue, bool discard);

/* Items in it now, and the sum of their sizes. Never waits. Any thread. */
FERRY_API size_t ferry_queue_length(ferry_queue *queue);
FERRY_API size_t ferry_queue_bytes(ferry_queue *queue);

FERRY_END_DECLS

#endif

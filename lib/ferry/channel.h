/* Channels: items from senders to receivers, with an end of its own for each side. */
#ifndef FERRY_CHANNEL_H
#define FERRY_CHANNEL_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* Any number of senders and receivers, tasks, jobs and threads mixed, are served first come, first
 * served. Up to `capacity` items lie in between; with capacity 0 (a rendezvous) a send returns when
 * a receiver has taken the item.
 *
 * A queue has one close; a channel has two, and each side is told what it has to know:
 *
 *                       closed by senders         closed by receivers
 *     send              FERRY_ECLOSED             FERRY_EBROKEN: nobody will take it
 *     receive           what is left, then        FERRY_ECLOSED
 *                       FERRY_END
 */
typedef struct ferry_channel ferry_channel;

/* Zero is the default of each. */
typedef struct ferry_channel_options {
    const char *name;              /* for reports; copied, cut at 31 bytes; default "channel" */
    void (*item_free)(void *item); /* for items that nobody took */
    size_t bytes_max;              /* a bound by bytes as well: as of a queue */
    size_t (*item_size)(const void *item);
    void *reserved[4]; /* zero */
} ferry_channel_options;

/* A channel for up to `capacity` items. NULL with errno EINVAL (capacity above SIZE_MAX / 64,
 * bytes_max without item_size) or ENOMEM. `options` may be NULL. Any thread; never waits. */
FERRY_API ferry_channel *ferry_channel_new(size_t capacity, const ferry_channel_options *options);

/* Frees it; items in it are discarded (item_free, on the calling thread). -EBUSY, nothing freed,
 * while somebody waits on it. NULL is ignored. Nobody may use it any more. Any thread; never
 * waits. */
FERRY_API int ferry_channel_free(ferry_channel *channel);

/* Sends an item (any pointer, NULL too); waits while the channel is full, of a rendezvous until a
 * receiver takes it. Returns 0; FERRY_ECLOSED, FERRY_EBROKEN as above; -ECANCELED; -ETIMEDOUT;
 * -EDEADLK on a loop's own thread outside a task when it would have to wait; -ENOMEM as
 * ferry_queue_put(). After an error the item is still the caller's. Suspends or blocks. Any
 * thread. */
FERRY_API int ferry_channel_send(ferry_channel *channel, void *item);
FERRY_API int ferry_channel_send_for(ferry_channel *channel, void *item, int64_t ms);
/* Never waits: -EAGAIN when there is no room (of a rendezvous: when no receiver waits). */
FERRY_API int ferry_channel_try_send(ferry_channel *channel, void *item);

/* Receives the next item into *item; waits while there is none. Returns 0; FERRY_END,
 * FERRY_ECLOSED as above; -ECANCELED, -ETIMEDOUT, -EDEADLK, -ENOMEM for the thread's record:
 * nothing was taken. Suspends or blocks. Any thread. */
FERRY_API int ferry_channel_receive(ferry_channel *channel, void **item);
FERRY_API int ferry_channel_receive_for(ferry_channel *channel, void **item, int64_t ms);
/* Never waits: -EAGAIN when there is no item (of a rendezvous: when no sender waits). */
FERRY_API int ferry_channel_try_receive(ferry_channel *channel, void **item);

/* The senders' end: nothing more will come. Those who wait to send get FERRY_ECLOSED now, their
 * items are still theirs; receivers get what is inside, then FERRY_END. Again is no error. Never
 * waits. Any thread. */
FERRY_API void ferry_channel_close_send(ferry_channel *channel);

/* The receivers' end: nobody will take anything more. What is inside is discarded (item_free, on
 * the calling thread); those who wait to send get FERRY_EBROKEN now, their items are still theirs;
 * those who wait to receive get FERRY_ECLOSED. Again is no error. Never waits. Any thread. */
FERRY_API void ferry_channel_close_receive(ferry_channel *channel);

/* Items in it now. Never waits. Any thread. */
FERRY_API size_t ferry_channel_length(ferry_channel *channel);

FERRY_END_DECLS

#endif

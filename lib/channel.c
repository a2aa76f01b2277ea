/* A channel is a queue whose two sides are ended one by one, and which may have no room at all.
 *
 * Waiting, handing over and the bounds are the queue's (queue.c); what is the channel's own is
 * which code each side gets once one of them has left. FERRY_ECLOSED, for who closed its own end,
 * is final; the other side's codes give way to it. */
#include "config.h"

#include "queue_core.h"

struct ferry_channel {
    ferry_queue queue; /* its only field: the same record */
};

static struct ferry__detail say_closed = FERRY__STATIC_DETAIL("this end of the channel was closed");
static struct ferry__detail say_full =
    FERRY__STATIC_DETAIL("the channel has no room, and no receiver waits");
static struct ferry__detail say_empty =
    FERRY__STATIC_DETAIL("the channel is empty, and no sender waits");
static struct ferry__detail say_broken =
    FERRY__STATIC_DETAIL("the receivers have left: nobody will take the item");
static struct ferry__detail say_over =
    FERRY__STATIC_DETAIL("the senders have closed the channel, and it is empty");
static const struct ferry__queue_words words = {
    .closed = &say_closed,
    .full = &say_full,
    .empty = &say_empty,
    .broken = &say_broken,
    .over = &say_over,
};

static ferry_queue *queue_of(ferry_channel *channel) {
    return (ferry_queue *)channel;
}

ferry_channel *ferry_channel_new(size_t capacity, const ferry_channel_options *options) {
    ferry_queue_options same = {0};
    if (options)
        same = (ferry_queue_options){.name = options->name,
                                     .item_free = options->item_free,
                                     .bytes_max = options->bytes_max,
                                     .item_size = options->item_size};
    return (ferry_channel *)ferry__queue_new(capacity, &same, "channel", &words);
}

int ferry_channel_free(ferry_channel *channel) {
    return ferry_queue_free(queue_of(channel));
}

int ferry_channel_send(ferry_channel *channel, void *item) {
    return ferry_queue_put(queue_of(channel), item);
}

int ferry_channel_send_for(ferry_channel *channel, void *item, int64_t ms) {
    return ferry_queue_put_for(queue_of(channel), item, ms);
}

int ferry_channel_try_send(ferry_channel *channel, void *item) {
    return ferry_queue_try_put(queue_of(channel), item);
}

int ferry_channel_receive(ferry_channel *channel, void **item) {
    return ferry_queue_get(queue_of(channel), item);
}

int ferry_channel_receive_for(ferry_channel *channel, void **item, int64_t ms) {
    return ferry_queue_get_for(queue_of(channel), item, ms);
}

int ferry_channel_try_receive(ferry_channel *channel, void **item) {
    return ferry_queue_try_get(queue_of(channel), item);
}

void ferry_channel_close_send(ferry_channel *channel) {
    ferry__queue_end(queue_of(channel), FERRY_ECLOSED, FERRY_END, false);
}

void ferry_channel_close_receive(ferry_channel *channel) {
    ferry__queue_end(queue_of(channel), FERRY_EBROKEN, FERRY_ECLOSED, true);
}

size_t ferry_channel_length(ferry_channel *channel) {
    return ferry_queue_length(queue_of(channel));
}

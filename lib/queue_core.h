/* The record of a queue, for what is built on queues: see queue.c. */
#ifndef FERRY__QUEUE_CORE_H
#define FERRY__QUEUE_CORE_H

#include "core.h"

enum { FERRY__QUEUE_BLOCKS = 47 };

struct ferry__place;

/* Where the items lie. Under the queue's lock. */
struct ferry__store {
    struct ferry__place *blocks[FERRY__QUEUE_BLOCKS];
    size_t room;                       /* places in the blocks */
    size_t used;                       /* items */
    size_t bytes;                      /* the sum of their sizes */
    struct ferry__place *first, *last; /* FIFO, LIFO: the items */
    struct ferry__place *spare;        /* FIFO, LIFO: places that were used before and are free */
    size_t touched;                    /* FIFO, LIFO: places below this number have been used */
    uint64_t turns;                    /* priority */
};

struct ferry_queue {
    size_t capacity; /* fixed, like what follows */
    int order;
    int (*compare)(const void *a, const void *b);
    void (*item_free)(void *item);
    size_t (*item_size)(const void *item);
    size_t bytes_max;
    char putting[FERRY__NAME_MAX + 16]; /* what a waiter waits for, for reports */
    char getting[FERRY__NAME_MAX + 16];
    char joining[FERRY__NAME_MAX + 16];

    unsigned lock; /* inner lock: guards what follows */
    bool closed;
    struct ferry__store store;
    size_t unfinished;
    void *put_first, *put_last;   /* who waits to put; item: what; value: its size */
    void *get_first, *get_last;   /* who waits to get; item: what it got */
    void *join_first, *join_last; /* who waits until nothing is unfinished */
};

#endif

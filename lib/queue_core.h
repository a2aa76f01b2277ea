/* The record of a queue, for what is built on queues: see queue.c. */
#ifndef FERRY__QUEUE_CORE_H
#define FERRY__QUEUE_CORE_H

#include "core.h"

enum { FERRY__QUEUE_BLOCKS = 47 };

struct ferry__either; /* line.h */
struct ferry__place;

/* What refusals are called; each queue has one of these. */
struct ferry__queue_words {
    struct ferry__detail *closed, *full, *empty, *broken, *over;
};

/* Where the items lie. Under the queue's lock. */
struct ferry__store {
    struct ferry__place *blocks[FERRY__QUEUE_BLOCKS];
    size_t room;                       /* places in the blocks */
    size_t used;                       /* items */
    size_t bytes;                      /* the sum of their sizes */
    struct ferry__place *first, *last; /* FIFO, LIFO: the items */
    struct ferry__place *spare;        /* FIFO, LIFO: places that were used before and are free */
    struct ferry__place *spare_last;   /* while there are any */
    size_t touched;                    /* FIFO, LIFO: places below this number have been used */
    uint64_t turns;                    /* priority */
};

/* Where a plain FIFO queue with a few items inside takes more of them, without the queue's lock. */
struct ferry__door {
    unsigned lock;               /* guards what follows; taken with the queue's lock held, or
                                  * alone */
    size_t left;                 /* written atomically: how many places are free here */
    struct ferry__place *free, *free_last;
    struct ferry__place *first, *last; /* items, in order */
    size_t n;
};

struct ferry_queue {
    size_t capacity; /* fixed, like what follows */
    int order;
    int (*compare)(const void *a, const void *b);
    void (*item_free)(void *item);
    size_t (*item_size)(const void *item);
    size_t bytes_max;
    const struct ferry__queue_words *words;
    char putting[FERRY__NAME_MAX + 16]; /* what a waiter waits for, for reports */
    char getting[FERRY__NAME_MAX + 16];
    char joining[FERRY__NAME_MAX + 16];

    unsigned lock;                /* inner lock: guards what follows */
    int put_code;                 /* 0: open; else what puts get */
    int get_code;                 /* 0: open; else what gets get once it is empty */
    struct ferry__either *looker; /* who waits until a get needn't wait: see ferry__queue_arm() */
    struct ferry__store store;
    size_t unfinished;
    void *put_first, *put_last;   /* who waits to put; item: what; value: its size */
    void *get_first, *get_last;   /* who waits to get; item: what it got */
    void *join_first, *join_last; /* who waits until nothing is unfinished */
    bool door_open;               /* written with the door's lock held as well */
    char apart[64];               /* who puts and who gets don't write to the same cache line */
    struct ferry__door door;
};

/* ferry_queue_new() that also knows capacity 0, a rendezvous: an item goes from a put straight to a
 * get, and nothing is ever inside. `name` is the default one. */
ferry_queue *ferry__queue_new(size_t capacity, const ferry_queue_options *options, const char *name,
                              const struct ferry__queue_words *words);

/* Ends one side or both: from now on puts get `put_code` (those who wait, now), and gets
 * `get_code` once it is empty. 0: that side stays as it is. FERRY_ECLOSED is final, other codes
 * replace none. */
void ferry__queue_end(ferry_queue *queue, int put_code, int get_code, bool discard);

/* Has a waiter woken when a get needn't wait any more; one at a time. False, and nothing done: it
 * needn't now. Disarm before the record goes; it may have been granted until then. */
bool ferry__queue_arm(ferry_queue *queue, struct ferry__either *looker);
void ferry__queue_disarm(ferry_queue *queue);

#endif

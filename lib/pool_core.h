/* The record of a pool, and what pool.c and pool_slot.c offer each other. */
#ifndef FERRY__POOL_CORE_H
#define FERRY__POOL_CORE_H

#include "core.h"

enum ferry__slot_state {
    FERRY__SLOT_FREE,
    FERRY__SLOT_PREPARING,
    FERRY__SLOT_IDLE,
    FERRY__SLOT_LENT,
    FERRY__SLOT_ENDING
};

/* The place of one resource. The lists are under the pool's lock; who owns what else says
 * pool_slot.c. */
struct ferry__slot {
    ferry_pool *pool;                /* fixed */
    enum ferry__slot_state state;    /* under the pool's lock */
    struct ferry__slot *next, *prev; /* IDLE: the list; FREE: next alone; of a tick: next alone */
    struct ferry__slot *chain;       /* LENT: its bucket */
    void *resource;                  /* the owner's; NULL: there is none */
    int64_t since;                   /* the owner's: when it was used last, or made */
    bool ran;                        /* the owner's: its job has begun */
    struct ferry__link link;         /* on the job, whose handle it holds a reference of */
    struct ferry__waiter *
        requester; /* under the pool's lock: who waits for the job; NULL: nobody, or has left */
};

struct ferry_pool {
    ferry_pool_options options; /* fixed, like what follows; defaults filled in, no name */
    char name[FERRY__NAME_MAX];
    char acquiring[FERRY__NAME_MAX + 24]; /* what a waiter waits for, for reports */
    char creating[FERRY__NAME_MAX + 24];
    char closing[FERRY__NAME_MAX + 24];
    uint32_t generation;
    struct ferry__service_timer *timer; /* NULL: nothing expires */
    struct ferry__slot **lent;          /* buckets of those lent, by resource */
    size_t bucket_mask;

    unsigned lock; /* inner lock: guards what follows */
    bool closed;
    bool alarm;     /* the timer is set, or is about to be */
    size_t alive;   /* slots that aren't FREE */
    size_t pins;    /* calls under way that will come back to the pool */
    size_t closers; /* inside ferry_pool_close() */
    struct ferry__slot *free;
    struct ferry__slot *idle_first, *idle_last; /* the one used last is the first */
    void *first, *last;                         /* who waits for a slot; item: which it got */
    void *close_first, *close_last;             /* closers that wait */
    ferry_pool_stats stats;
    struct ferry__slot slots[]; /* options.max of them */
};

/* What follows from a change made under the lock, to be done when it was dropped. Zero to begin
 * with. */
struct ferry__follow {
    struct ferry__wakes wakes;
    int64_t alarm_at;        /* 0: no alarm is to be set. Counted in pins */
    struct ferry__slot *end; /* to be destroyed */
};

extern struct ferry__detail ferry__say_pool_closed;

/* Under the lock. */
void ferry__slot_lend(struct ferry__slot *slot);
/* The slot of a resource that is lent, which it no longer is; NULL: it isn't. */
struct ferry__slot *ferry__slot_take_back(ferry_pool *pool, const void *resource);
void ferry__slot_take_idle(struct ferry__slot *slot);
void ferry__slot_to_end(struct ferry__slot *slot);
/* A slot that nobody owns any more, with or without a resource: finds an owner. */
void ferry__slot_settle(struct ferry__slot *slot, struct ferry__follow *follow);
/* The resource of an idle slot has been idle for so long that it must be checked. */
bool ferry__slot_needs_check(const ferry_pool *pool, const struct ferry__slot *slot);
/* An idle slot, LENT unless it has to be checked, or a free one; NULL: there is none. */
struct ferry__slot *ferry__slot_take(ferry_pool *pool);
/* Claims who waits first; NULL: nobody does, or the pool is closed. */
struct ferry__waiter *ferry__slots_claim(ferry_pool *pool);
bool ferry__slots_at_end(const ferry_pool *pool);
/* A call that is under way won't come back to the pool. */
void ferry__slots_unpin(ferry_pool *pool, struct ferry__follow *follow);

/* Without the lock. Once it is over the pool may be gone. */
void ferry__slots_follow(ferry_pool *pool, struct ferry__follow *follow);
void ferry__slot_end(struct ferry__slot *slot); /* destroys the resource of one that is ENDING */
void ferry__slots_expire(void *pool);           /* the timer's: on the service thread */
/* Without the lock: one that is PREPARING leads to a resource that is lent, or an error. The slot
 * isn't the caller's after an error. */
int64_t ferry__slot_prepare(struct ferry__slot *slot, struct ferry__ctx *ctx, void **resource);

#endif

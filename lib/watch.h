/* Waiting for several handles at once: see watch.c. */
#ifndef FERRY__WATCH_H
#define FERRY__WATCH_H

#include "core.h"

struct ferry__watch;

/* One of the handles. */
struct ferry__watched {
    struct ferry__link link;
    struct ferry__watch *watch;
    ferry_future *future;        /* a reference; fixed until the owner lets it go: NULL then */
    size_t index;                /* fixed: its first place among the arguments */
    struct ferry__watched *same; /* fixed: the next one in the same bucket */
    struct ferry__watched *next; /* under the watch's lock: the line of those that have ended */
    int64_t value;               /* owner only: for whoever watches */
};

enum ferry__watch_until {
    FERRY__UNTIL_NEXT,    /* one has ended that ferry__watch_next() hasn't given yet */
    FERRY__UNTIL_ERROR,   /* one has failed (a cancelled one hasn't), or all have ended */
    FERRY__UNTIL_FAILURE, /* one has failed or was cancelled, or all have ended */
    FERRY__UNTIL_ALL
};

struct ferry__watch {
    uint32_t generation; /* fixed: the oldest among its own and those of handles in work */
    size_t n;            /* fixed: distinct handles */
    struct ferry__watched *watched;  /* fixed: n of them, in the order of the arguments */
    struct ferry__watched **place;   /* fixed: of each argument; NULL for a NULL handle */
    struct ferry__watched **buckets; /* fixed: to find a handle */
    size_t helped;                   /* owner only: so many were offered to the owner's worker */
    unsigned shift;                  /* fixed: a hash's bits that aren't used */

    unsigned lock;                /* guards what follows */
    struct ferry__waiter *waiter; /* the owner, while it waits */
    enum ferry__watch_until until;
    size_t n_ended;
    struct ferry__watched *first, *last; /* ended and not yet given, in the order of ending */
    struct ferry__watched *error;        /* the first that failed */
    struct ferry__watched *failure;      /* the first that failed or was cancelled */
    struct ferry__watched *latest;       /* the last one to end so far */
};

/* Begins to look at n handles, which may be NULL or stand there twice; takes a reference on
 * each. Those that have ended already count as ended in the order of the arguments. Returns 0 or
 * -ENOMEM, after which there is nothing to end. */
int ferry__watch_begin(struct ferry__watch *watch, ferry_future **futures, size_t n);

/* Stops looking, and gives the references back. Any context. */
void ferry__watch_end(struct ferry__watch *watch);

/* Does the condition hold already? Handles may end meanwhile. */
bool ferry__watch_holds(struct ferry__watch *watch, enum ferry__watch_until until);

/* Waits until the condition holds: 0 (at once when it does already), -ECANCELED, -ETIMEDOUT,
 * -EDEADLK, FERRY_EFORKED. `deadline` is absolute; flags as for ferry__park(). One caller at a
 * time. */
int ferry__watch_wait(struct ferry__watch *watch, struct ferry__ctx *ctx,
                      enum ferry__watch_until until, int64_t deadline, unsigned flags);

/* The next one that has ended, in the order of ending; none is given twice. NULL: none has. */
struct ferry__watched *ferry__watch_next(struct ferry__watch *watch);

/* Lets a handle go that has ended, before the watch's own end: it isn't touched any more. */
void ferry__watch_let_go(struct ferry__watched *w);

/* Cancels all that haven't ended. */
void ferry__watch_cancel(struct ferry__watch *watch);

#endif

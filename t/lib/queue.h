/* Items that are numbers, and who waits on a queue, for the tests of queues. */
#ifndef FERRY_TEST_QUEUE_H
#define FERRY_TEST_QUEUE_H

#include "queue_core.h"
#include "waiters.h"

#define ITEM(n) ((void *)(intptr_t)(n))
#define NUMBER(item) ((intptr_t)(item))
#define GETTERS(q) waiters_in(&(q)->lock, &(q)->get_first)
#define PUTTERS(q) waiters_in(&(q)->lock, &(q)->put_first)
#define JOINERS(q) waiters_in(&(q)->lock, &(q)->join_first)
#define UNTIL_GETTERS(q, n) until_waiters(&(q)->lock, &(q)->get_first, (n))
#define UNTIL_PUTTERS(q, n) until_waiters(&(q)->lock, &(q)->put_first, (n))
#define UNTIL_JOINERS(q, n) until_waiters(&(q)->lock, &(q)->join_first, (n))

static inline int by_number(const void *a, const void *b) {
    return (NUMBER(a) > NUMBER(b)) - (NUMBER(a) < NUMBER(b));
}

/* What a get has without waiting: the number, or the error. */
static inline intptr_t got(ferry_queue *queue) {
    void *item = ITEM(-1);
    int rc = ferry_queue_try_get(queue, &item);
    return rc == 0 ? NUMBER(item) : rc;
}

#endif

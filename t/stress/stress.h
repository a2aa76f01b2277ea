/* The same race again and again, with real threads, held up at random at the library's switch
 * points.
 *
 * A race has a record for each round. Its acts are the waiters: each is a task of its own on one
 * loop, or, in another half of the rounds, they are threads. Its hands are what happens to them:
 * each is a thread of its own, and comes to a round as soon as all acts have begun it. Rounds are
 * run in batches, so that tasks of many rounds stand at their objects at once.
 *
 *     STRESS_ROUNDS   how many rounds of each race (1,000,000)
 *     STRESS_SEED     of the delays (taken from the clock; printed) */
#ifndef FERRY_TEST_STRESS_H
#define FERRY_TEST_STRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "points.h"
#include "support.h"

enum { STRESS_HANDS = 3, STRESS_ACTS = 4 };

/* The first field of each round's record. */
struct stress_round {
    _Atomic int begun;              /* atomic: acts that have begun it */
    _Atomic int done[STRESS_HANDS]; /* atomic: the hand has done its part */
    struct ferry_future *tasks[STRESS_ACTS]; /* of the acts that are tasks, before they begin; else
                                              * NULL */
};

struct stress_race {
    size_t size;                         /* of a record */
    void (*prepare)(void *round);        /* the record is zero; nobody else is at work */
    void (*first)(void *round);          /* by hand 0, for the whole batch, before the acts begin;
                                          * NULL */
    void (*acts[STRESS_ACTS])(void *round);
    void (*hands[STRESS_HANDS])(void *round);
    void (*check)(void *round);          /* all are done with it: was the promise kept? */
    bool tasks_only;                     /* a thread makes no sense there */
};

/* Runs a part of the rounds with tasks, and the others with threads, until one has failed. */
void stress_run(const struct stress_race *race);

/* For races of another shape: how many rounds, the seed at work from now on, and when to look
 * up. */
long stress_rounds(void);
void stress_begin(void);
void stress_end(long rounds);

/* Until the hand is through with this round, so that what it may still touch can go. In an act. */
void stress_wait_for(struct stress_round *round, int hand);

#endif

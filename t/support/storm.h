/* Many threads and tasks on one object, cancelled at any moment. */
#ifndef FERRY_TEST_STORM_H
#define FERRY_TEST_STORM_H

/* One round of one participant (numbered from 0): waits on the object, and accounts for what it
 * got. It runs in a scope of its own, which may be cancelled at any time. *seed is for rand_r(). */
typedef void (*storm_round)(void *arg, int who, unsigned *seed);

enum { STORM_MOST = 64 };

/* Runs `rounds` rounds in each of `threads` threads and, at the same time, in each of `tasks` tasks
 * on each of `loops` loops (STORM_MOST participants at most); returns when all are done. On a busy
 * machine there are fewer rounds: none begins after 15 s. */
void storm_run(int threads, int loops, int tasks, int rounds, storm_round round, void *arg);

/* The same with a pool of `workers` threads that all share: it is the rounds' arg. After it, its
 * jobs and threads must all come to their end. */
void storm_run_on_pool(int workers, int threads, int loops, int tasks, int rounds,
                       storm_round round);

#endif

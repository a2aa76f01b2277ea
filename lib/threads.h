/* The threads of a pool: shared by threads.c, idle.c and help.c. */
#ifndef FERRY__THREADS_H
#define FERRY__THREADS_H

#include "executor.h"
#include "spin.h"

#define FERRY__STREAK 16 /* jobs in a row by which the pace is measured */
#define FERRY__BRISK 8

enum call { NOT_CALLED, CALLED, ASLEEP }; /* CALLED: it is to look at the line */

struct ferry__worker {
    struct ferry__threads *pool;
    pthread_t pthread;                  /* own; read by who joins it */
    struct ferry__worker *above, *below; /* on the list of idle ones; under the lock */
    bool idle;                          /* on that list; under the lock */
    bool searching;                     /* under the lock */
    uint64_t nap_left, nap_entered;     /* when the nap began: jobs that had left the line, that had
                                         * ever been in it */
    int64_t streak_began;               /* clock: when it had run the first job of the last few
                                         * without a rest */
    unsigned streak;                    /* jobs since; these five under the lock */
    unsigned rested;                    /* the streak, when it rested last */
    struct ferry__spin spin;            /* own: what the pool had learned when it became the
                                         * spinner */
    bool counted;                       /* among the sleeping threads of the process; under the
                                         * lock */
    uint32_t called;                    /* futex word: enum call */
    int helping;                        /* own: depth of jobs run while waiting */
    unsigned lost;                      /* jobs that it runs and that were given up; under the
                                         * lock */
    bool blocked;                       /* its job waits for a handle; under the lock */
};

struct ferry__threads {
    ferry_executor base; /* first */
    size_t threads_min, threads_max, replacements_max;
    int64_t idle_ms;
    size_t stack_size;
    size_t threads;              /* from here: under the lock */
    size_t leaving;              /* of them */
    size_t searching;            /* 0 or 1 */
    size_t blocked;              /* workers whose job waits for a handle */
    size_t lost;                 /* others, whose job was given up */
    size_t helped;               /* jobs that run on threads whose own job waits for them */
    struct ferry__work *turns;   /* of strands, at work */
    size_t turns_waiting;        /* of strands, in the line */
    struct ferry__worker *idle;  /* the one that became idle last */
    struct ferry__worker *_Atomic spinner; /* of the idle ones; also looked at without the lock.
                                            * NULL */
    struct ferry__worker *napper; /* of the idle ones. NULL */
    size_t busy;                 /* threads that run something */
    unsigned brisk;              /* goes up to FERRY__BRISK with each streak of short jobs, down
                                  * with each other one */
    size_t gathered;             /* jobs that were at the door when it was emptied last */
    struct ferry__spin spin;
    bool has_left;               /* `left` is to be joined */
    pthread_t left;
    unsigned number;             /* for the threads' names */
    uint32_t departures;         /* futex word: counted up when a thread leaves */
};

static inline struct ferry__threads *ferry__threads_of(ferry_executor *executor) {
    return (struct ferry__threads *)executor;
}

static inline struct ferry__worker *ferry__threads_spinner(const struct ferry__threads *pool) {
    return atomic_load_explicit(&pool->spinner, memory_order_relaxed);
}

/* Somebody runs jobs, or is about to. Under the lock. */
static inline bool ferry__threads_work(const struct ferry__threads *pool) {
    return pool->busy > 0 || ferry__threads_spinner(pool);
}

/* There is one processor: while a loop runs no thread does. */
static inline bool ferry__one_processor(const struct ferry__threads *pool) {
    return !pool->spin.possible;
}

/* Whether there is anything in the line, now that it has what was at the door. Under the lock. */
static inline bool ferry__threads_line(struct ferry__threads *pool) {
    ferry_executor *executor = &pool->base;
    if (!executor->first && atomic_load_explicit(&executor->in_first, memory_order_relaxed) &&
        ferry__executor_gather(executor))
        pool->gathered = executor->stats.queued;
    return executor->first != NULL;
}

/* threads.c. Before the lock is dropped where it was taken alone: finds whom to call, and lets
 * submitters know whether they are to call somebody. */
void ferry__threads_settle(struct ferry__threads *pool, struct ferry__after *after);

/* idle.c. Onto the list of idle threads, and off it. Under the lock. */
void ferry__idle_add(struct ferry__threads *pool, struct ferry__worker *w);
void ferry__idle_remove(struct ferry__threads *pool, struct ferry__worker *w);
enum ferry__waking { WAS_CALLED, HAS_FOUND, IS_BORED }; /* HAS_FOUND: with the lock held */
/* Waits until the worker, which is on the list, is called, finds something itself, or has been
 * idle for idle_ms: then it is counted as leaving. No lock. */
enum ferry__waking ferry__idle_wait(struct ferry__threads *pool, struct ferry__worker *w,
                                    struct ferry__thread *thread);

/* A job of this worker's has ended. If it was given up, its thread is back. Under the lock. */
static inline void ferry__worker_found(struct ferry__threads *pool, struct ferry__worker *w,
                                       const struct ferry__job *job) {
    if (job->work.abandoned && --w->lost == 0 && !w->blocked)
        pool->lost--;
}

#endif

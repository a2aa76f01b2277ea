#include "config.h"

#include "storm.h"

#include <ferry.h>
#include <sched.h>
#include <stdlib.h>

#include "clock.h"
#include "pools.h"
#include "waiters.h"

enum { LONGEST_MS = 15000 }; /* where many want the processor; the watchdog comes after 60 s */

struct storm {
    storm_round round;
    void *arg;
    int rounds, tasks;
    int64_t until; /* no round begins later */
    pthread_mutex_t lock;
    ferry_scope *open[STORM_MOST]; /* under lock: the scope of the round that each one is in */
    int participants;
    bool over; /* under lock */
};

struct participant {
    struct storm *storm;
    int who;
};

static void show(struct storm *storm, int who, ferry_scope *scope) {
    pthread_mutex_lock(&storm->lock);
    storm->open[who] = scope;
    pthread_mutex_unlock(&storm->lock);
}

static int64_t take_part(void *arg) {
    struct participant *p = arg;
    unsigned seed = (unsigned)p->who + 1;
    for (int i = 0; i < p->storm->rounds && ferry__now() < p->storm->until; i++) {
        ferry_scope scope = FERRY_SCOPE_INIT;
        CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
        show(p->storm, p->who, &scope);
        p->storm->round(p->storm->arg, p->who, &seed);
        show(p->storm, p->who, NULL);
        CHECK_INT(ferry_scope_close(&scope, 0), 0);
    }
    return 0;
}

static int64_t loop_body(void *arg) {
    struct participant *first = arg;
    ferry_future *futures[STORM_MOST];
    int n = first->storm->tasks;
    for (int i = 0; i < n; i++) {
        futures[i] = ferry_spawn(take_part, first + i);
    }
    for (int i = 0; i < n; i++) {
        CHECK_INT(ferry_await(futures[i]), 0);
    }
    return 0;
}

static void *cancel_main(void *arg) {
    struct storm *storm = arg;
    unsigned seed = 99;
    for (bool over = false; !over;) {
        pthread_mutex_lock(&storm->lock);
        ferry_scope *scope = storm->open[rand_r(&seed) % storm->participants];
        if (scope != NULL) {
            ferry_scope_cancel(scope);
        }
        over = storm->over;
        pthread_mutex_unlock(&storm->lock);
        sched_yield();
    }
    return NULL;
}

void storm_run(int threads, int loops, int tasks, int rounds, storm_round round, void *arg) {
    struct storm storm = {.round = round,
                          .arg = arg,
                          .rounds = rounds,
                          .tasks = tasks,
                          .until = ferry__now() + LONGEST_MS * FERRY__MS,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .participants = threads + loops * tasks};
    struct participant participants[STORM_MOST];
    pthread_t running[STORM_MOST];
    int n = 0;

    for (int i = 0; i < storm.participants; i++) {
        participants[i] = (struct participant){&storm, i};
    }
    for (int i = 0; i < threads; i++) {
        running[n++] = start_in_thread(take_part, &participants[i]);
    }
    for (int i = 0; i < loops; i++) {
        running[n++] = start_in_loop(loop_body, &participants[threads + i * tasks]);
    }
    pthread_t canceller = start_thread(cancel_main, &storm);
    for (int i = 0; i < n; i++) {
        pthread_join(running[i], NULL);
    }
    pthread_mutex_lock(&storm.lock);
    storm.over = true;
    pthread_mutex_unlock(&storm.lock);
    pthread_join(canceller, NULL);
}

void storm_run_on_pool(int workers, int threads, int loops, int tasks, int rounds,
                       storm_round round) {
    ferry_executor *pool = make_pool(workers, NULL);
    storm_run(threads, loops, tasks, rounds, round, pool);
    end_pool(pool);
}

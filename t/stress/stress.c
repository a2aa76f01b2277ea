/* The engine of the stress tests: see stress.h.
 *
 * Who waits for a batch sleeps; within a batch hands follow the acts by looking again and again,
 * so that both are at the same round at the same time. */
#include "config.h"

#include "stress.h"

#include <ferry.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 64, LOOKS = 100 };

struct engine {
    const struct stress_race *race;
    char *rounds; /* BATCH records */
    int n_acts, n_hands;
    bool tasks; /* the acts are tasks */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned batch;      /* under the lock: which one is under way */
    unsigned set_up;     /* under the lock: hand 0 has done its `first` of this one */
    bool over;           /* under the lock */
    _Atomic int at_work; /* atomic: threads that haven't done their part of the batch */
};

struct part {
    struct engine *engine;
    int number;
    pthread_t thread;
};

long stress_rounds(void) {
    const char *text = getenv("STRESS_ROUNDS");
    long rounds = text && *text ? strtol(text, NULL, 10) : 1000000;
    return rounds < 1 ? 1 : rounds;
}

void stress_begin(void) {
    const char *text = getenv("STRESS_SEED");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t seed = text && *text ? strtoull(text, NULL, 10) : (uint64_t)now.tv_nsec * 1000003 + 1;
    printf("# STRESS_SEED=%" PRIu64 "\n", seed);
    points_delay(seed);
}

void stress_end(long rounds) {
    points_delay(0);
    printf("# %ld rounds%s\n", rounds, support_failing() ? ", the last of them failed" : "");
}

void stress_wait_for(struct stress_round *round, int hand) {
    while (!atomic_load(&round->done[hand]))
        ferry_yield();
}

static void *record(const struct engine *e, int i) {
    return e->rounds + (size_t)i * e->race->size;
}

/* ---- The threads ----------------------------------------------------------------------------- */

/* False: there are no more batches. */
static bool next_batch(struct engine *e, unsigned *seen) {
    pthread_mutex_lock(&e->lock);
    while (e->batch == *seen && !e->over)
        pthread_cond_wait(&e->changed, &e->lock);
    bool more = !e->over;
    *seen = e->batch;
    pthread_mutex_unlock(&e->lock);
    return more;
}

static void has_set_up(struct engine *e, unsigned batch) {
    pthread_mutex_lock(&e->lock);
    e->set_up = batch;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

static void until_set_up(struct engine *e) {
    pthread_mutex_lock(&e->lock);
    while (e->set_up != e->batch)
        pthread_cond_wait(&e->changed, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

static void end_of_part(struct engine *e) {
    if (atomic_fetch_sub(&e->at_work, 1) > 1)
        return;
    pthread_mutex_lock(&e->lock);
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

static void *hand_main(void *arg) {
    struct part *part = arg;
    struct engine *e = part->engine;
    for (unsigned seen = 0; next_batch(e, &seen); end_of_part(e)) {
        for (int i = 0; i < BATCH && part->number == 0 && e->race->first; i++)
            e->race->first(record(e, i));
        if (part->number == 0)
            has_set_up(e, seen);
        for (int i = 0; i < BATCH; i++) {
            struct stress_round *round = record(e, i);
            for (int looks = 0; atomic_load(&round->begun) < e->n_acts; looks++)
                if (looks >= LOOKS)
                    sched_yield();
            e->race->hands[part->number](round);
            atomic_store(&round->done[part->number], 1);
        }
    }
    return NULL;
}

static void *act_main(void *arg) {
    struct part *part = arg;
    struct engine *e = part->engine;
    for (unsigned seen = 0; next_batch(e, &seen); end_of_part(e)) {
        until_set_up(e);
        for (int i = 0; i < BATCH; i++) {
            struct stress_round *round = record(e, i);
            /* All are in the same round: the next one's objects are of no interest yet. */
            for (int looks = 0;
                 i > 0 &&
                 atomic_load(&((struct stress_round *)record(e, i - 1))->begun) < e->n_acts;
                 looks++)
                if (looks >= LOOKS)
                    sched_yield();
            atomic_fetch_add(&round->begun, 1);
            e->race->acts[part->number](round);
        }
    }
    return NULL;
}

/* ---- The tasks ------------------------------------------------------------------------------- */

struct act {
    struct engine *engine;
    struct stress_round *round;
    int number;
};

static int64_t act_body(void *arg) {
    struct act *act = arg;
    atomic_fetch_add(&act->round->begun, 1);
    act->engine->race->acts[act->number](act->round);
    return 0;
}

static void run_tasks(struct engine *e) {
    static struct act acts[BATCH * STRESS_ACTS];
    ferry_future *tasks[BATCH * STRESS_ACTS];
    int n = 0;
    until_set_up(e);
    for (int i = 0; i < BATCH; i++) {
        for (int k = 0; k < e->n_acts; k++, n++) {
            struct stress_round *round = record(e, i);
            acts[n] = (struct act){e, round, k};
            tasks[n] = ferry_spawn(act_body, &acts[n]);
            round->tasks[k] = tasks[n];
        }
    }
    for (int i = 0; i < n; i++)
        CHECK_INT(ferry_wait(tasks[i]), 0);
    while (atomic_load(&e->at_work) > 0)
        ferry_yield();
    for (int i = 0; i < n; i++)
        /* an act that was cancelled has ended all the same: it says what it saw */
        ferry_detach(tasks[i]);
}

/* ---- Batches --------------------------------------------------------------------------------- */

static void batch(struct engine *e, int threads) {
    const struct stress_race *race = e->race;
    memset(e->rounds, 0, BATCH * race->size);
    for (int i = 0; i < BATCH; i++)
        race->prepare(record(e, i));
    atomic_store(&e->at_work, threads);
    pthread_mutex_lock(&e->lock);
    e->batch++;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    if (e->tasks)
        run_tasks(e);
    pthread_mutex_lock(&e->lock);
    while (atomic_load(&e->at_work) > 0)
        pthread_cond_wait(&e->changed, &e->lock);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < BATCH; i++)
        race->check(record(e, i));
}

struct stretch {
    struct engine *engine;
    long rounds, done;
    int threads;
};

static int64_t batches(void *arg) {
    struct stretch *s = arg;
    for (; s->done < s->rounds && !support_failing(); s->done += BATCH)
        batch(s->engine, s->threads);
    return 0;
}

static long run_half(const struct stress_race *race, bool tasks, long rounds) {
    struct engine e = {.race = race,
                       .tasks = tasks,
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .changed = PTHREAD_COND_INITIALIZER,
                       .rounds = malloc(BATCH * race->size)};
    struct part parts[STRESS_HANDS + STRESS_ACTS];
    int n = 0;
    while (e.n_acts < STRESS_ACTS && race->acts[e.n_acts])
        e.n_acts++;
    while (e.n_hands < STRESS_HANDS && race->hands[e.n_hands])
        e.n_hands++;
    for (int i = 0; i < e.n_hands + (tasks ? 0 : e.n_acts); i++, n++) {
        bool hand = i < e.n_hands;
        parts[n] = (struct part){.engine = &e, .number = hand ? i : i - e.n_hands};
        assert_int_equal(
            pthread_create(&parts[n].thread, NULL, hand ? hand_main : act_main, &parts[n]), 0);
    }
    struct stretch s = {&e, rounds, 0, n};
    if (tasks)
        CHECK_INT(ferry_run_with(batches, &s, &(ferry_run_options){.no_signals = true}), 0);
    else
        batches(&s);
    pthread_mutex_lock(&e.lock);
    e.over = true;
    pthread_cond_broadcast(&e.changed);
    pthread_mutex_unlock(&e.lock);
    for (int i = 0; i < n; i++)
        pthread_join(parts[i].thread, NULL);
    free(e.rounds);
    return s.done;
}

void stress_run(const struct stress_race *race) {
    long rounds = stress_rounds();
    stress_begin();
    long threads = race->tasks_only ? 0 : run_half(race, false, rounds / 4);
    long tasks = support_failing() ? 0 : run_half(race, true, rounds - threads);
    printf("# %ld with threads, %ld with tasks\n", threads, tasks);
    stress_end(threads + tasks);
}

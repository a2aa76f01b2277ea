/* Between tasks and threads: a bounded queue of 1,024 places, one way and the other; a mutex and a
 * semaphore, contended by 4 tasks and 4 threads, and free. */
#include "config.h"

#include <ferry.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "peers.h"

enum { PLACES = 1024, STRIDE = 32, PARTIES = 8, TASKS = 4 };

/* ---- Queues: one producer, one consumer ------------------------------------------------------ */

/* A queue as its users see it. Items are the numbers from 1; 0 ends the stream. */
typedef struct pipeline {
    const bench_case *what;
    void (*put)(void *queue, uint64_t item);
    uint64_t (*get)(void *queue);
    void *queue;
    char apart[128]; /* what one side writes for each item is in no cache line of the other's */
    bench_span span;
    uint64_t put_count;
    char apart_too[128];
    uint64_t got_count, sum;
} pipeline;

static void produce(pipeline *p) {
    while (!bench_over(&p->span))
        p->put(p->queue, ++p->put_count);
    p->put(p->queue, 0);
}

static void consume(pipeline *p) {
    uint64_t item, last = 0;
    while ((item = p->get(p->queue)) != 0) {
        BENCH_CHECK(item == ++last); /* in order, none lost */
        p->got_count++;
        p->sum += (uint64_t)bench_piece(item - 1);
    }
}

static void *produce_thread(void *arg) {
    produce(arg);
    return NULL;
}

static void *consume_thread(void *arg) {
    consume(arg);
    return NULL;
}

static int64_t produce_task(void *arg) {
    produce(arg);
    return 0;
}

static int64_t consume_task(void *arg) {
    consume(arg);
    return 0;
}

static void finish(pipeline *p, bench_out *out) {
    BENCH_CHECK(p->put_count == p->got_count);
    bench_span_close(&p->span, out, p->got_count);
    bench_work(out, p->got_count, p->sum);
}

/* ---- Ferry's queue --------------------------------------------------------------------------- */

static void ferry_put(void *queue, uint64_t item) {
    BENCH_CHECK(ferry_queue_put(queue, (void *)(uintptr_t)item) == 0);
}

static uint64_t ferry_get(void *queue) {
    void *item;
    BENCH_CHECK(ferry_queue_get(queue, &item) == 0);
    return (uintptr_t)item;
}

typedef struct order {
    const bench_case *what;
    bench_out *out;
} order;

/* One side is a task of this loop, the other one a thread; in "task to task" both are tasks. */
static int64_t queue_task(void *arg) {
    order *o = arg;
    bool to_task = strstr(o->what->name, "to task"), from_task = strstr(o->what->name, "task to");
    for (int warm = 1; warm >= 0; warm--) {
        pipeline p = {.what = o->what,
                      .put = ferry_put,
                      .get = ferry_get,
                      .queue = ferry_queue_new(PLACES, NULL)};
        pthread_t thread;
        BENCH_CHECK(p.queue);
        bench_span_open(&p.span, warm ? o->what->ms / 5 + 1 : o->what->ms, STRIDE);
        ferry_future *task = ferry_spawn(to_task ? consume_task : produce_task, &p);
        if (to_task && from_task)
            BENCH_CHECK(produce_task(&p) == 0);
        else
            BENCH_CHECK(
                pthread_create(&thread, NULL, to_task ? produce_thread : consume_thread, &p) == 0);
        BENCH_CHECK(ferry_await(task) == 0);
        if (!to_task || !from_task)
            pthread_join(thread, NULL);
        if (!warm)
            finish(&p, o->out);
        BENCH_CHECK(ferry_queue_free(p.queue) == 0);
    }
    return 0;
}

static void in_ferry_queue(const bench_case *what, bench_out *out) {
    BENCH_CHECK(ferry_run(queue_task, &(order){what, out}) == 0);
}

/* ---- Queues between two threads -------------------------------------------------------------- */

static void between_threads(const bench_case *what, bench_out *out, void (*put)(void *, uint64_t),
                            uint64_t (*get)(void *), void *queue) {
    for (int warm = 1; warm >= 0; warm--) {
        pipeline p = {.what = what, .put = put, .get = get, .queue = queue};
        pthread_t consumer;
        bench_span_open(&p.span, warm ? what->ms / 5 + 1 : what->ms, STRIDE);
        BENCH_CHECK(pthread_create(&consumer, NULL, consume_thread, &p) == 0);
        produce(&p);
        pthread_join(consumer, NULL);
        if (!warm)
            finish(&p, out);
    }
}

typedef struct ring {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full;
    uint64_t items[PLACES];
    unsigned first, length; /* under lock */
} ring;

static void ring_put(void *queue, uint64_t item) {
    ring *r = queue;
    pthread_mutex_lock(&r->lock);
    while (r->length == PLACES)
        pthread_cond_wait(&r->not_full, &r->lock);
    r->items[(r->first + r->length) % PLACES] = item;
    bool was_empty = r->length++ == 0;
    pthread_mutex_unlock(&r->lock);
    if (was_empty)
        pthread_cond_signal(&r->not_empty);
}

static uint64_t ring_get(void *queue) {
    ring *r = queue;
    pthread_mutex_lock(&r->lock);
    while (r->length == 0)
        pthread_cond_wait(&r->not_empty, &r->lock);
    uint64_t item = r->items[r->first];
    r->first = (r->first + 1) % PLACES;
    bool was_full = r->length-- == PLACES;
    pthread_mutex_unlock(&r->lock);
    if (was_full)
        pthread_cond_signal(&r->not_full);
    return item;
}

static void in_ring(const bench_case *what, bench_out *out) {
    static ring r = {.lock = PTHREAD_MUTEX_INITIALIZER,
                     .not_empty = PTHREAD_COND_INITIALIZER,
                     .not_full = PTHREAD_COND_INITIALIZER};
    between_threads(what, out, ring_put, ring_get, &r);
}

#ifdef BENCH_GLIB
/* It takes no NULL, and has no bound: the producer may run ahead of the consumer. */
static void async_put(void *queue, uint64_t item) {
    g_async_queue_push(queue, (void *)(uintptr_t)(item + 1));
}

static uint64_t async_get(void *queue) {
    return (uintptr_t)g_async_queue_pop(queue) - 1;
}

static void in_gasyncqueue(const bench_case *what, bench_out *out) {
    GAsyncQueue *queue = g_async_queue_new();
    between_threads(what, out, async_put, async_get, queue);
    g_async_queue_unref(queue);
}
#else
#define in_gasyncqueue NULL
#endif

/* ---- A mutex and a semaphore of several ------------------------------------------------------ */

/* A lock as its users see it. */
typedef struct contest {
    const bench_case *what;
    void (*take)(void *lock);
    void (*give)(void *lock);
    void *lock;
    uint64_t count, sum; /* under the lock */
    atomic_bool over;
    atomic_ullong ended; /* parties' own counts */
} contest;

static void compete(contest *c) {
    uint64_t mine = 0;
    while (!atomic_load_explicit(&c->over, memory_order_relaxed)) {
        c->take(c->lock);
        c->sum += (uint64_t)bench_piece(c->count++);
        c->give(c->lock);
        mine++;
    }
    atomic_fetch_add(&c->ended, mine);
}

static void *compete_thread(void *arg) {
    compete(arg);
    return NULL;
}

static int64_t compete_task(void *arg) {
    compete(arg);
    return 0;
}

static void *end_after(void *arg) {
    contest *c = arg;
    nanosleep(&(struct timespec){c->what->ms / 1000, c->what->ms % 1000 * 1000000L}, NULL);
    atomic_store(&c->over, true);
    return NULL;
}

/* `n` threads; the caller's tasks (or the caller itself, with n < PARTIES) do the rest. */
static void contend(contest *c, bench_out *out, int n) {
    pthread_t threads[PARTIES], clock;
    ferry_future *tasks[TASKS];
    bench_span span;
    bench_span_open(&span, c->what->ms, 1);
    BENCH_CHECK(pthread_create(&clock, NULL, end_after, c) == 0);
    for (int i = 0; i < n; i++)
        BENCH_CHECK(pthread_create(&threads[i], NULL, compete_thread, c) == 0);
    for (int i = 0; n < PARTIES && i < TASKS; i++)
        tasks[i] = ferry_spawn(compete_task, c);
    for (int i = 0; n < PARTIES && i < TASKS; i++)
        BENCH_CHECK(ferry_await(tasks[i]) == 0);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    bench_span_close(&span, out, c->count);
    pthread_join(clock, NULL);
    BENCH_CHECK(atomic_load(&c->ended) == c->count);
    bench_work(out, c->count, c->sum);
}

static void alone(contest *c, bench_out *out) {
    bench_span span;
    for (int warm = 1; warm >= 0; warm--) {
        c->count = c->sum = 0;
        bench_span_open(&span, warm ? c->what->ms / 5 + 1 : c->what->ms, STRIDE);
        while (!bench_over(&span)) {
            c->take(c->lock);
            c->sum += (uint64_t)bench_piece(c->count++);
            c->give(c->lock);
        }
    }
    bench_span_close(&span, out, c->count);
    bench_work(out, c->count, c->sum);
}

static void mutex_take(void *lock) {
    BENCH_CHECK(ferry_lock(lock) == 0);
}

static void mutex_give(void *lock) {
    ferry_unlock(lock);
}

static void sem_take(void *lock) {
    BENCH_CHECK(ferry_sem_acquire(lock, 1) == 0);
}

static void sem_give(void *lock) {
    ferry_sem_release(lock, 1);
}

static void pthread_take(void *lock) {
    pthread_mutex_lock(lock);
}

static void pthread_give(void *lock) {
    pthread_mutex_unlock(lock);
}

static void posix_take(void *lock) {
    BENCH_CHECK(sem_wait(lock) == 0);
}

static void posix_give(void *lock) {
    sem_post(lock);
}

static bool of_semaphore(const bench_case *what) {
    return strstr(what->name, "semaphore") != NULL;
}

static bool of_one(const bench_case *what) {
    return strstr(what->name, "free") != NULL;
}

static int64_t lock_task(void *arg) {
    order *o = arg;
    ferry_mutex mutex = FERRY_MUTEX_INIT;
    ferry_sem sem = FERRY_SEM_INIT(1);
    contest c = {.what = o->what, .take = mutex_take, .give = mutex_give, .lock = &mutex};
    if (of_semaphore(o->what))
        c = (contest){.what = o->what, .take = sem_take, .give = sem_give, .lock = &sem};
    if (of_one(o->what))
        alone(&c, o->out);
    else
        contend(&c, o->out, PARTIES - TASKS);
    return 0;
}

static void in_ferry_lock(const bench_case *what, bench_out *out) {
    BENCH_CHECK(ferry_run(lock_task, &(order){what, out}) == 0);
}

static void in_posix_lock(const bench_case *what, bench_out *out) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    sem_t sem;
    BENCH_CHECK(sem_init(&sem, 0, 1) == 0);
    contest c = {.what = what, .take = pthread_take, .give = pthread_give, .lock = &mutex};
    if (of_semaphore(what))
        c = (contest){.what = what, .take = posix_take, .give = posix_give, .lock = &sem};
    if (of_one(what))
        alone(&c, out);
    else
        contend(&c, out, PARTIES);
}

/* ---- The comparison -------------------------------------------------------------------------- */

static void queues(bool pinned) {
    static const char *const names[] = {"thread to task", "task to thread", "task to task"};
    static bench_side sides[] = {
        {.name = "ferry", .run = in_ferry_queue},
        {.name = "mutex and condvar", .run = in_ring},
        {.name = "GAsyncQueue", .run = in_gasyncqueue, BENCH_GLIB_VERSION},
        {.name = "Go channel", .program = "peers-go"},
    };
    char text[120];
    bench_probe(&sides[3]);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bench_case what = {.name = names[i],
                           .size = PLACES,
                           .threads = 1,
                           .loops = 1,
                           .ms = bench_ms(),
                           .pinned = pinned};
        bench_measure(&what, sides, 4, bench_pieces);
        for (int s = 1; s < 4; s++)
            bench_compare(&what, "ferry", sides[s].name, "rate", 1e-6, "M items/s");
        snprintf(text, sizeof text, "worlds, queue of 1,024 places, %s, %s", names[i],
                 pinned ? "one CPU" : "all CPUs");
        if (i < 2)
            bench_target(text, bench_median_of(&what, "ferry", "rate") / 1e6, '>', 10, "M items/s");
    }
}

static void locks(bool pinned) {
    static const char *const names[] = {"mutex, free", "semaphore, free",
                                        "mutex, 4 tasks and 4 threads",
                                        "semaphore, 4 tasks and 4 threads"};
    static bench_side sides[] = {{.name = "ferry", .run = in_ferry_lock},
                                 {.name = "POSIX, threads", .run = in_posix_lock}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bench_case what = {.name = names[i],
                           .size = PARTIES,
                           .threads = 4,
                           .loops = 1,
                           .ms = bench_ms(),
                           .pinned = pinned};
        bench_measure(&what, sides, 2, bench_pieces);
        bench_compare(&what, "ferry", "POSIX, threads", "cost", 1, "ns");
    }
}

int main(int argc, char **argv) {
    bench_begin(argc, argv, "worlds", "queues, mutexes and semaphores of tasks and threads", NULL);
    for (int pinned = 0; pinned < 2; pinned++) {
        queues(pinned);
        locks(pinned);
    }
    return bench_end();
}

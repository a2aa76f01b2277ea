/* Grants, cancels and time-outs that meet in the few instructions in which a wait is decided, at
 * every primitive, for threads and tasks. The test stops whoever decides at a switch point
 * (lib/point.h), lets the other side act, and lets go. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "parked.h"
#include "points.h"
#include "queue_core.h"
#include "support.h"
#include "waiters.h"

/* ---- What is waited for ---------------------------------------------------------------------- */

struct scene {
    ferry_mutex mutex;
    ferry_sem sem;
    ferry_event event;
    ferry_cond cond;
    ferry_rwlock rwlock;
    ferry_queue *queue;
    ferry_promise *promise;
    ferry_future *future;
    int items[3];
};

/* One way to wait. What a wait took is given back by whoever took it. */
struct way {
    const char *name;
    void (*open)(struct scene *s); /* by the granter: who comes now has to wait */
    int (*wait)(struct scene *s, int64_t ms);
    void (*grant)(struct scene *s); /* by the granter: one may go on, or all */
    void (*give_back)(struct scene *s, int rc);
    size_t (*waiting)(struct scene *s);
    const char *looked; /* a point between a look at the waiter and the claim */
};

static void mutex_open(struct scene *s) {
    CHECK_INT(ferry_lock(&s->mutex), 0);
}
static int mutex_wait(struct scene *s, int64_t ms) {
    return ferry_lock_for(&s->mutex, ms);
}
static void mutex_grant(struct scene *s) {
    CHECK_INT(ferry_unlock(&s->mutex), 0);
}
static void mutex_give_back(struct scene *s, int rc) {
    if (rc == 0)
        mutex_grant(s);
}
static size_t mutex_waiting(struct scene *s) {
    return WAITERS(&s->mutex);
}

static void sem_open(struct scene *s) {
    CHECK_INT(ferry_sem_acquire(&s->sem, 1), 0);
}
static int sem_wait_(struct scene *s, int64_t ms) {
    return ferry_sem_acquire_for(&s->sem, 1, ms);
}
static void sem_grant(struct scene *s) {
    CHECK_INT(ferry_sem_release(&s->sem, 1), 0);
}
static void sem_give_back(struct scene *s, int rc) {
    if (rc == 0)
        sem_grant(s);
}
static size_t sem_waiting(struct scene *s) {
    return WAITERS(&s->sem);
}

static void nothing(struct scene *s) {
    (void)s;
}
static void nothing_back(struct scene *s, int rc) {
    (void)s;
    (void)rc;
}
static int event_wait(struct scene *s, int64_t ms) {
    return ferry_event_wait_for(&s->event, ms);
}
static void event_grant(struct scene *s) {
    ferry_event_set(&s->event);
}
static size_t event_waiting(struct scene *s) {
    return WAITERS(&s->event);
}

static int cond_wait(struct scene *s, int64_t ms) {
    CHECK_INT(ferry_lock(&s->mutex), 0);
    return ferry_cond_wait_for(&s->cond, ms);
}
static void cond_grant(struct scene *s) {
    CHECK_INT(ferry_lock(&s->mutex), 0);
    CHECK_INT(ferry_cond_signal(&s->cond), 0);
    CHECK_INT(ferry_unlock(&s->mutex), 0);
}
static void cond_give_back(struct scene *s, int rc) {
    (void)rc; /* it is held on every way out */
    CHECK_INT(ferry_unlock(&s->mutex), 0);
}
static size_t cond_waiting(struct scene *s) {
    return WAITERS(&s->cond);
}

static void rwlock_open(struct scene *s) {
    CHECK_INT(ferry_wrlock(&s->rwlock), 0);
}
static int rd_wait(struct scene *s, int64_t ms) {
    return ferry_rdlock_for(&s->rwlock, ms);
}
static int wr_wait(struct scene *s, int64_t ms) {
    return ferry_wrlock_for(&s->rwlock, ms);
}
static void rwlock_grant(struct scene *s) {
    CHECK_INT(ferry_rwunlock(&s->rwlock), 0);
}
static void rwlock_give_back(struct scene *s, int rc) {
    if (rc == 0)
        rwlock_grant(s);
}
static size_t rwlock_waiting(struct scene *s) {
    return WAITERS(&s->rwlock);
}

static int get_wait(struct scene *s, int64_t ms) {
    void *item = NULL;
    int rc = ferry_queue_get_for(s->queue, &item, ms);
    CHECK(rc != 0 || item == &s->items[0]);
    return rc;
}
static void get_grant(struct scene *s) {
    CHECK_INT(ferry_queue_put(s->queue, &s->items[0]), 0);
}
static void get_give_back(struct scene *s, int rc) {
    if (rc == 0)
        get_grant(s);
}
static size_t get_waiting(struct scene *s) {
    return waiters_in(&s->queue->lock, &s->queue->get_first);
}

static int put_wait(struct scene *s, int64_t ms) {
    return ferry_queue_put_for(s->queue, &s->items[1], ms);
}
static void put_grant(struct scene *s) {
    void *item;
    CHECK_INT(ferry_queue_get(s->queue, &item), 0);
}
static void put_give_back(struct scene *s, int rc) {
    if (rc == 0)
        put_grant(s);
}
static size_t put_waiting(struct scene *s) {
    return waiters_in(&s->queue->lock, &s->queue->put_first);
}

static int future_wait(struct scene *s, int64_t ms) {
    return ferry_wait_for(s->future, ms);
}
static void future_grant(struct scene *s) {
    CHECK_INT(ferry_promise_set(s->promise, 7), 0);
}
static size_t future_waiting(struct scene *s) {
    return links_on(s->future);
}

#define CLAIM "claim_looked"
static const struct way ways[] = {
    {"mutex", mutex_open, mutex_wait, mutex_grant, mutex_give_back, mutex_waiting, CLAIM},
    {"semaphore", sem_open, sem_wait_, sem_grant, sem_give_back, sem_waiting, CLAIM},
    {"semaphore, looked", sem_open, sem_wait_, sem_grant, sem_give_back, sem_waiting, "sem_looked"},
    {"event", nothing, event_wait, event_grant, nothing_back, event_waiting, CLAIM},
    {"condition", nothing, cond_wait, cond_grant, cond_give_back, cond_waiting, CLAIM},
    {"to read", rwlock_open, rd_wait, rwlock_grant, rwlock_give_back, rwlock_waiting, CLAIM},
    {"to write", rwlock_open, wr_wait, rwlock_grant, rwlock_give_back, rwlock_waiting, CLAIM},
    {"to write, looked", rwlock_open, wr_wait, rwlock_grant, rwlock_give_back, rwlock_waiting,
     "rwlock_looked"},
    {"to get", nothing, get_wait, get_grant, get_give_back, get_waiting, CLAIM},
    {"to put", get_grant, put_wait, put_grant, put_give_back, put_waiting, CLAIM},
    {"handle", nothing, future_wait, future_grant, nothing_back, future_waiting, CLAIM},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

/* ---- Who takes part -------------------------------------------------------------------------- */

struct waiter {
    struct scene *scene;
    const struct way *way;
    int64_t ms;
    bool task;
    struct point_stop *over; /* where it stops when its wait has ended; NULL */
    pthread_t thread;
    ferry_scope scope;
    int rc;
    int after; /* what a checkpoint said when the wait was over */
};

static int64_t wait_now(void *arg) {
    struct waiter *w = arg;
    CHECK_INT(ferry_scope_open(&w->scope, FERRY_FOREVER), 0);
    if (w->over)
        point_stop_thread(w->over, "park_over", pthread_self());
    w->rc = w->way->wait(w->scene, w->ms);
    w->after = ferry_checkpoint();
    CHECK_INT(ferry_scope_close(&w->scope, 0), 0);
    w->way->give_back(w->scene, w->rc);
    return 0;
}

static void *waiter_main(void *arg) {
    struct waiter *w = arg;
    if (w->task)
        CHECK_INT(ferry_run_with(wait_now, w, &(ferry_run_options){.no_signals = true}), 0);
    else
        wait_now(w);
    return NULL;
}

static void begin(struct waiter *w, struct scene *s, const struct way *way, int64_t ms, bool task,
                  struct point_stop *over) {
    *w = (struct waiter){.scene = s, .way = way, .ms = ms, .task = task, .over = over};
    w->thread = start_thread(waiter_main, w);
}

struct granter {
    struct scene *scene;
    const struct way *way;
    pthread_t thread;
    gate opened, may_grant;
    _Atomic bool over;
};

static void *granter_main(void *arg) {
    struct granter *g = arg;
    g->way->open(g->scene);
    gate_open(&g->opened);
    gate_wait(&g->may_grant);
    g->way->grant(g->scene);
    atomic_store(&g->over, true);
    return NULL;
}

static void set_up(struct scene *s, struct granter *g, const struct way *way) {
    *s = (struct scene){.mutex = FERRY_MUTEX_INIT,
                        .sem = FERRY_SEM_INIT(1),
                        .event = FERRY_EVENT_INIT,
                        .cond = FERRY_COND_INIT(&s->mutex),
                        .rwlock = FERRY_RWLOCK_INIT,
                        .queue = ferry_queue_new(1, NULL)};
    s->promise = ferry_promise_new(&s->future, NULL);
    *g = (struct granter){
        .scene = s, .way = way, .opened = GATE_INIT, .may_grant = GATE_INIT, .over = false};
    g->thread = start_thread(granter_main, g);
    gate_wait(&g->opened);
}

static void tear_down(struct scene *s) {
    CHECK_INT(ferry_trylock(&s->mutex), 0);
    CHECK_INT(ferry_unlock(&s->mutex), 0);
    CHECK_INT(ferry_trywrlock(&s->rwlock), 0);
    CHECK_INT(ferry_rwunlock(&s->rwlock), 0);
    CHECK_INT(ferry_sem_value(&s->sem), 1);
    CHECK_INT(ferry_queue_free(s->queue), 0);
    ferry_detach(s->future);
    ferry_promise_drop(s->promise);
}

/* ---- The wait is about to end for another reason: a grant comes first ------------------------ */

static void say_which(const struct way *way, bool task, bool cancel) {
    printf("# %s, a %s that %s\n", way->name, task ? "task" : "thread",
           cancel ? "is cancelled" : "times out");
}

static void granted_first(const struct way *way, bool task, bool cancel) {
    struct scene s;
    struct granter g;
    struct waiter w;
    struct point_stop stop;
    set_up(&s, &g, way);
    point_stop(&stop, "poke_looked");
    begin(&w, &s, way, cancel ? FERRY_FOREVER : 5, task, NULL);
    if (cancel) {
        while (way->waiting(&s) != 1)
            sched_yield();
        ferry_scope_cancel(&w.scope);
    }
    point_wait(&stop);
    gate_open(&g.may_grant);
    pthread_join(g.thread, NULL);
    point_go(&stop);
    pthread_join(w.thread, NULL);
    if (!CHECK_INT(w.rc, 0) || !CHECK_INT(w.after, cancel ? -ECANCELED : 0))
        say_which(way, task, cancel);
    tear_down(&s);
}

static void granted_in_time(void **state) {
    (void)state;
    for (int i = 0; i < WAYS; i++)
        for (int kind = 0; kind < 4; kind++)
            granted_first(&ways[i], kind & 1, kind & 2);
}

/* ---- A grant is about to come: the wait ends before ------------------------------------------ */

/* False: its time was over before anybody was about to grant. */
static bool granted_late(const struct way *way, bool task, int64_t ms) {
    struct scene s;
    struct granter g;
    struct waiter w, next;
    struct point_stop looked, over = {0};
    bool cancel = ms == FERRY_FOREVER;
    set_up(&s, &g, way);
    begin(&w, &s, way, ms, task, &over);
    while (way->waiting(&s) != 1 && !point_reached(&over))
        sched_yield();
    begin(&next, &s, way, FERRY_FOREVER, !task, NULL);
    /* Who is over doesn't count, but its link is on a handle until it goes on. */
    size_t both = 2, alone = way->waiting == future_waiting ? 2 : 1;
    while (way->waiting(&s) != both && !(point_reached(&over) && way->waiting(&s) == alone))
        sched_yield();
    point_stop(&looked, way->looked);
    gate_open(&g.may_grant);
    point_wait(&looked);
    bool in_time = !point_reached(&over);
    if (cancel)
        ferry_scope_cancel(&w.scope);
    point_wait(&over);
    point_go(&over);
    point_go(&looked);
    pthread_join(w.thread, NULL);
    pthread_join(next.thread, NULL);
    pthread_join(g.thread, NULL);
    if (!CHECK_INT(w.rc, cancel ? -ECANCELED : -ETIMEDOUT) || !CHECK_INT(next.rc, 0))
        say_which(way, task, cancel);
    tear_down(&s);
    return in_time;
}

static void cancelled_before_the_grant(void **state) {
    (void)state;
    for (int i = 0; i < WAYS; i++)
        for (int task = 0; task < 2; task++)
            CHECK(granted_late(&ways[i], task, FERRY_FOREVER));
}

static void timed_out_before_the_grant(void **state) {
    (void)state;
    for (int i = 0; i < WAYS; i++)
        for (int task = 0; task < 2; task++)
            for (int64_t ms = 10; !granted_late(&ways[i], task, ms);)
                ms *= 2;
}

/* ---- A barrier ------------------------------------------------------------------------------- */

struct party {
    ferry_barrier *barrier;
    bool task;
    pthread_t thread;
    ferry_scope scope;
    int rc, after;
};

static int64_t party_body(void *arg) {
    struct party *p = arg;
    CHECK_INT(ferry_scope_open(&p->scope, FERRY_FOREVER), 0);
    p->rc = ferry_barrier_wait(p->barrier);
    p->after = ferry_checkpoint();
    CHECK_INT(ferry_scope_close(&p->scope, 0), 0);
    return 0;
}

static void *party_main(void *arg) {
    struct party *p = arg;
    if (p->task)
        CHECK_INT(ferry_run_with(party_body, p, &(ferry_run_options){.no_signals = true}), 0);
    else
        party_body(p);
    return NULL;
}

/* The round was complete when it was looked at: all pass, also one who is cancelled before it is
 * claimed. */
static void cancelled_in_a_complete_round(const char *point, bool task) {
    ferry_barrier barrier = FERRY_BARRIER_INIT(3);
    struct party parties[3];
    struct point_stop swept, over;
    for (int i = 0; i < 3; i++) {
        parties[i] = (struct party){.barrier = &barrier, .task = task && i < 2};
        if (i == 2)
            point_stop(&swept, point);
        parties[i].thread = start_thread(party_main, &parties[i]);
        if (i < 2)
            UNTIL_WAITERS(&barrier, (size_t)i + 1);
    }
    point_wait(&swept);
    point_stop_thread(&over, "park_over", parties[0].thread);
    ferry_scope_cancel(&parties[0].scope);
    point_wait(&over);
    point_go(&over);
    point_go(&swept);
    for (int i = 0; i < 3; i++) {
        pthread_join(parties[i].thread, NULL);
        CHECK_INT(parties[i].rc, (i + 1) % 3);
        CHECK_INT(parties[i].after, i == 0 ? -ECANCELED : 0);
    }
    CHECK_INT(WAITERS(&barrier), 0);
}

static void barrier_round_complete(void **state) {
    (void)state;
    for (int task = 0; task < 2; task++) {
        cancelled_in_a_complete_round("barrier_swept", task);
        cancelled_in_a_complete_round("claim_looked", task);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("CAN-07 granted between the look at a cancel or time-out and its claim",
             granted_in_time),
        CASE("CAN-07 SEM-03 LCK-04 cancelled between a grant's look and its claim",
             cancelled_before_the_grant),
        CASE("CAN-07 timed out between a grant's look and its claim", timed_out_before_the_grant),
        CASE("BAR-03 cancelled between the sweep of a complete round and its claim",
             barrier_round_complete),
    };
    return SUPPORT_RUN(tests);
}

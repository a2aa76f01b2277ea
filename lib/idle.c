/* Idle threads of a pool: the list of them, and how each waits.
 *
 * Who is idle doesn't sleep at once. The one that became idle last looks at the door for a while
 * (spinner; spin.c), on the list like the others. And where jobs have been so short that calling a
 * thread for every second one would cost more than they do, one of the others (napper) sleeps for a
 * moment only, again and again as long as threads are busy and jobs go through, and takes part when
 * one has been in the line since its nap began. Each of them is done after a bounded time, without
 * a call, and settles then; threads.c says why no job is lost meanwhile.
 *
 * With one processor nothing runs as long as the loop does, unless the kernel takes the processor
 * away from it for a thread that was called: one switch there and back for each few jobs. There one
 * naps also when no thread is busy, and as long as it does a loop calls a thread for all jobs of
 * its turn at once, at the end (executor.c, owe()); the napper comes before that when the turn is
 * long.
 *
 * Owners: the list, spinner and napper are under the pool's lock; a spinner is also looked at
 * without. A worker's `called` becomes CALLED by who took it off the list, once; ASLEEP, and
 * NOT_CALLED again, by the worker. Who finds it ASLEEP wakes it. */
#include "config.h"

#include "threads.h"

#define NAP_NS 50000
#define NAP_ONE_NS 100000 /* with one processor: each nap takes it from who works */

static _Atomic long sleeping_threads;

long ferry__threads_idle(void) {
    return atomic_load(&sleeping_threads);
}

void ferry__threads_forked(void) {
    atomic_store(&sleeping_threads, 0);
}

/* ---- The list, under the lock ---------------------------------------------------------------- */

void ferry__idle_add(struct ferry__threads *pool, struct ferry__worker *w) {
    w->above = NULL;
    w->below = pool->idle;
    if (w->below)
        w->below->above = w;
    pool->idle = w;
    w->idle = true;
    pool->base.stats.idle++;
}

void ferry__idle_remove(struct ferry__threads *pool, struct ferry__worker *w) {
    if (w->above)
        w->above->below = w->below;
    else
        pool->idle = w->below;
    if (w->below)
        w->below->above = w->above;
    w->idle = false;
    pool->base.stats.idle--;
    if (ferry__threads_spinner(pool) == w)
        atomic_store_explicit(&pool->spinner, NULL, memory_order_relaxed);
    if (pool->napper == w)
        pool->napper = NULL;
    if (w->counted) {
        w->counted = false;
        atomic_fetch_sub(&sleeping_threads, 1);
    }
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* True: it was called. */
static bool take_call(struct ferry__worker *w) {
    if (__atomic_load_n(&w->called, __ATOMIC_ACQUIRE) != CALLED)
        return false;
    __atomic_store_n(&w->called, NOT_CALLED, __ATOMIC_RELAXED);
    return true;
}

/* False: it was called meanwhile, and is no longer on the list; the call is a few instructions
 * away. Returns with the lock held otherwise. */
static bool lock_if_idle(struct ferry__threads *pool, struct ferry__worker *w) {
    ferry__lock(&pool->base.lock);
    if (w->idle)
        return true;
    ferry__unlock(&pool->base.lock);
    return false;
}

static void unlock_settled(struct ferry__threads *pool) {
    struct ferry__after after = {0};
    ferry__threads_settle(pool, &after);
    ferry__unlock(&pool->base.lock);
    ferry__executor_after(&pool->base, &after);
}

/* Looks at the door for a while; whoever becomes idle later does that instead. */
static bool spin(struct ferry__threads *pool, struct ferry__worker *w, enum ferry__waking *waking) {
    ferry_executor *executor = &pool->base;
    bool called = false, some = false;
    for (struct ferry__spinning s = ferry__spin_begin(&w->spin);
         ferry__threads_spinner(pool) == w && ferry__spin_on(&s);) {
        called = take_call(w);
        some = atomic_load_explicit(&executor->in_first, memory_order_relaxed) != NULL;
        if (called || some)
            break;
    }
    if (called) {
        *waking = WAS_CALLED;
        return true;
    }
    FERRY__POINT(worker_spun);
    if (!lock_if_idle(pool, w))
        return false;
    if (ferry__threads_spinner(pool) == w)
        ferry__spin_end(&pool->spin, some);
    some = some && ferry__threads_line(pool);
    if (some) {
        ferry__spin_amount(&pool->spin, executor->stats.queued);
        ferry__idle_remove(pool, w);
        *waking = HAS_FOUND;
        return true;
    }
    if (ferry__threads_spinner(pool) == w)
        atomic_store_explicit(&pool->spinner, NULL, memory_order_relaxed);
    unlock_settled(pool);
    return false;
}

static bool nap_pays(const struct ferry__threads *pool) {
    return pool->brisk >= FERRY__BRISK / 2 &&
           (ferry__threads_work(pool) || ferry__one_processor(pool));
}

/* Where jobs are so short that one thread may do them all a wake-up for each second one would
 * cost more than they do. So one idle thread sleeps for a moment only, as long as others work,
 * and nobody is called meanwhile; it takes part when a job has been in the line all that time, or
 * when nobody works any more. */
static bool nap(struct ferry__threads *pool, struct ferry__worker *w, enum ferry__waking *waking) {
    ferry_executor *executor = &pool->base;
    if (!lock_if_idle(pool, w))
        return false;
    if (pool->napper || !nap_pays(pool)) {
        ferry__unlock(&executor->lock);
        return false;
    }
    pool->napper = w;
    for (;;) {
        w->nap_left = atomic_load_explicit(&executor->left, memory_order_relaxed);
        w->nap_entered = w->nap_left + executor->stats.queued;
        unlock_settled(pool);
        uint32_t call = NOT_CALLED;
        if (__atomic_compare_exchange_n(&w->called, &call, ASLEEP, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            FERRY__POINT(worker_nap);
            ferry__futex_wait(&w->called, ASLEEP,
                              ferry__now() + (ferry__one_processor(pool) ? NAP_ONE_NS : NAP_NS));
            call = ASLEEP;
            __atomic_compare_exchange_n(&w->called, &call, NOT_CALLED, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE);
        }
        if (take_call(w)) {
            *waking = WAS_CALLED;
            return true;
        }
        if (!lock_if_idle(pool, w))
            return false;
        bool some = ferry__threads_line(pool);
        uint64_t left = atomic_load_explicit(&executor->left, memory_order_relaxed);
        bool others = ferry__threads_work(pool);
        if (some && (!others || left < w->nap_entered)) {
            ferry__idle_remove(pool, w);
            if (others)
                pool->brisk = 0;
            *waking = HAS_FOUND;
            return true;
        }
        if (left - w->nap_left < FERRY__STREAK || !nap_pays(pool))
            break;
    }
    pool->napper = NULL;
    unlock_settled(pool);
    return false;
}

enum ferry__waking ferry__idle_wait(struct ferry__threads *pool, struct ferry__worker *w,
                                    struct ferry__thread *thread) {
    ferry_executor *executor = &pool->base;
    enum ferry__waking waking;
    if (ferry__threads_spinner(pool) == w && spin(pool, w, &waking))
        return waking;
    ferry__job_no_client(thread);
    if (nap(pool, w, &waking))
        return waking;
    ferry__lock(&executor->lock);
    if (w->idle) {
        w->counted = true;
        atomic_fetch_add(&sleeping_threads, 1);
    }
    ferry__unlock(&executor->lock);
    int64_t until = ferry__deadline(pool->idle_ms);
    for (;;) {
        uint32_t call = NOT_CALLED;
        if (!__atomic_compare_exchange_n(&w->called, &call, ASLEEP, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE) &&
            call == CALLED)
            break;
        FERRY__POINT(worker_sleep);
        ferry__futex_wait(&w->called, ASLEEP, until);
        if (__atomic_load_n(&w->called, __ATOMIC_ACQUIRE) == CALLED || ferry__now() < until)
            continue;
        FERRY__POINT(worker_bored);
        ferry__lock(&executor->lock);
        bool bored = w->idle && pool->threads - pool->leaving > pool->threads_min;
        if (bored) {
            ferry__idle_remove(pool, w);
            pool->leaving++;
        }
        ferry__unlock(&executor->lock);
        if (bored)
            return IS_BORED;
        until = ferry__deadline(pool->idle_ms);
    }
    __atomic_store_n(&w->called, NOT_CALLED, __ATOMIC_RELAXED);
    return WAS_CALLED;
}

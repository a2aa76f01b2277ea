/* A mutex for tasks and threads, handed from owner to owner.
 *
 * `owner` is one atomic word: the context that holds it, and in bit 0 "not so simple":
 *
 *     0               free, nobody is in line
 *     ctx             held, nobody is in line
 *     ctx | ASK       held, somebody may be in line
 *     ASK             free, nobody is in line, and its last owner has ended without unlocking
 *
 * The first two turn into each other by one compare-and-exchange, without the inner lock. All else
 * happens under it; the bit is set before anybody joins the line, so the owner's short way out is
 * closed from then on.
 *
 * The line is served by whoever gives the mutex up: the word goes from owner to owner and isn't
 * free in between, so nobody who comes later can have it first. A context that was granted it links
 * it to the list of what it holds (next, prev: owner side only) once it runs, which is before it
 * can unlock or end.
 *
 * The word becomes 0 only by that exchange, as the last access of an unlock: whoever takes the
 * mutex then may free it, even while the one before is still on its way out of ferry_unlock(). */
#include "config.h"

#include <errno.h>

#include "line.h"

#define ASK ((uintptr_t)1)

static struct ferry__detail say_again =
    FERRY__STATIC_DETAIL("the caller holds this mutex already; it can't be locked twice by the "
                         "same task, job or thread");
static struct ferry__detail say_busy =
    FERRY__STATIC_DETAIL("the mutex is held by another task, job or thread");
static struct ferry__detail say_foreign =
    FERRY__STATIC_DETAIL("the mutex isn't held by the caller: only the task, job or thread that "
                         "locked it can unlock it");
static struct ferry__detail say_dead = FERRY__STATIC_DETAIL(
    "the mutex is locked now, but its last owner ended without unlocking it: check what it guards");

static uintptr_t word_of(const ferry_mutex *mutex) {
    return (uintptr_t)__atomic_load_n(&mutex->owner, __ATOMIC_ACQUIRE);
}

static bool swing(ferry_mutex *mutex, uintptr_t from, uintptr_t to) {
    void *expected = (void *)from;
    return __atomic_compare_exchange_n(&mutex->owner, &expected, (void *)to, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* The first in the list has no use for prev: it isn't written, which the short way gains from. */
static inline void link_to(struct ferry__ctx *ctx, ferry_mutex *mutex) {
    mutex->next = ctx->held;
    if (mutex->next)
        mutex->next->prev = mutex;
    ctx->held = mutex;
}

static inline void unlink_from(struct ferry__ctx *ctx, ferry_mutex *mutex) {
    if (ctx->held == mutex) {
        ctx->held = mutex->next;
        return;
    }
    mutex->prev->next = mutex->next;
    if (mutex->next)
        mutex->next->prev = mutex->prev;
}

/* Under the inner lock: 0 or -EOWNERDEAD when ctx has it now, -EDEADLK when it had it before,
 * -EBUSY when somebody else has it, who will look at the line before giving it up. */
static int take(ferry_mutex *mutex, struct ferry__ctx *ctx) {
    for (;;) {
        uintptr_t word = word_of(mutex);
        uintptr_t owner = word & ~ASK;
        if (owner == (uintptr_t)ctx)
            return -EDEADLK;
        if (owner == 0) {
            FERRY__POINT(mutex_take);
            if (swing(mutex, word, (uintptr_t)ctx))
                return word == ASK ? -EOWNERDEAD : 0;
        } else if ((word & ASK) || swing(mutex, word, word | ASK)) {
            return -EBUSY;
        }
    }
}

/* What take() has decided, or the one who handed it over: without the inner lock. */
static int settle(ferry_mutex *mutex, struct ferry__ctx *ctx, int rc) {
    switch (rc) {
    case 0:
        link_to(ctx, mutex);
        return 0;
    case -EOWNERDEAD:
        link_to(ctx, mutex);
        return (int)ferry__error_say(ctx, rc, &say_dead);
    case -EDEADLK:
        return (int)ferry__error_say(ctx, rc, &say_again);
    default:
        return (int)ferry__error_say(ctx, rc, &say_busy);
    }
}

bool ferry__mutex_held(const ferry_mutex *mutex, const struct ferry__ctx *ctx) {
    return (word_of(mutex) & ~ASK) == (uintptr_t)ctx;
}

int ferry__mutex_relock(ferry_mutex *mutex, struct ferry__ctx *ctx) {
    ferry__lock(&mutex->lock);
    int rc = take(mutex, ctx);
    if (rc != -EBUSY) {
        ferry__unlock(&mutex->lock);
        return settle(mutex, ctx, rc);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    ferry__line_append(&mutex->first, &mutex->last, &w);
    ferry__unlock(&mutex->lock);
    ferry__park(&w, "mutex", FERRY__NEVER, FERRY__SHIELDED); /* can only be granted */
    return settle(mutex, ctx, (int)w.value);
}

void ferry__mutex_queue(ferry_mutex *mutex, struct ferry__wakes *granted) {
    ferry__lock(&mutex->lock);
    for (struct ferry__waiter *w = granted->first; w; w = w->wake_next) {
        /* The granter had no need to pin its own loop; who wakes may be another thread. */
        if (!w->thread && !w->pinned) {
            ferry__loop_ref(w->ctx->loop);
            w->pinned = w->ctx->loop;
        }
        ferry__line_append(&mutex->first, &mutex->last, w);
    }
    uintptr_t word = word_of(mutex); /* it is the caller's: nobody else changes it now */
    __atomic_store_n(&mutex->owner, (void *)(word | ASK), __ATOMIC_RELEASE);
    ferry__unlock(&mutex->lock);
}

int ferry__mutex_handed(ferry_mutex *mutex, const struct ferry__waiter *w) {
    return settle(mutex, w->ctx, (int)w->value);
}

static FERRY__NOINLINE int lock_slowly(ferry_mutex *mutex, struct ferry__ctx *ctx, int64_t ms) {
    ferry__lock(&mutex->lock);
    int rc = take(mutex, ctx);
    if (rc != -EBUSY) {
        ferry__unlock(&mutex->lock);
        return settle(mutex, ctx, rc);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    rc = ferry__line_wait(&mutex->lock, &mutex->first, &mutex->last, &w, "mutex", ms);
    return rc != 0 ? rc : settle(mutex, ctx, (int)w.value);
}

static inline int lock_within(ferry_mutex *mutex, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    if (!swing(mutex, 0, (uintptr_t)ctx))
        return lock_slowly(mutex, ctx, ms);
    link_to(ctx, mutex);
    return 0;
}

int ferry_lock(ferry_mutex *mutex) {
    return lock_within(mutex, FERRY_FOREVER);
}

int ferry_lock_for(ferry_mutex *mutex, int64_t ms) {
    return lock_within(mutex, ms);
}

int ferry_trylock(ferry_mutex *mutex) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (swing(mutex, 0, (uintptr_t)ctx)) {
        link_to(ctx, mutex);
        return 0;
    }
    uintptr_t owner = word_of(mutex) & ~ASK;
    int rc = owner == (uintptr_t)ctx ? -EDEADLK : -EBUSY;
    if (owner == 0) {
        ferry__lock(&mutex->lock);
        rc = take(mutex, ctx);
        ferry__unlock(&mutex->lock);
    }
    return settle(mutex, ctx, rc);
}

/* Gives it to the first in line, who gets `value` as its result; if there is none, the word becomes
 * `otherwise`. */
static FERRY__NOINLINE bool hand_over(ferry_mutex *mutex, int value, uintptr_t otherwise) {
    ferry__lock(&mutex->lock);
    struct ferry__waiter *w = ferry__line_claim(&mutex->first, &mutex->last);
    if (w) {
        w->value = value;
        otherwise = (uintptr_t)w->ctx | (mutex->first ? ASK : 0);
    }
    __atomic_store_n(&mutex->owner, (void *)otherwise, __ATOMIC_RELEASE);
    ferry__unlock(&mutex->lock);
    if (w)
        ferry__wake(w);
    return w != NULL;
}

static FERRY__NOINLINE int unlock_slowly(ferry_mutex *mutex, struct ferry__ctx *ctx) {
    do {
        FERRY__POINT(mutex_unlock);
    } while (!hand_over(mutex, 0, (uintptr_t)ctx) && !swing(mutex, (uintptr_t)ctx, 0));
    return 0;
}

int ferry_unlock(ferry_mutex *mutex) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    /* Mostly it is the one that was locked last: the list says so, without a look at the shared
     * word. */
    if (ctx && ctx->held == mutex) {
        ctx->held = mutex->next;
    } else {
        if (!ctx || (word_of(mutex) & ~ASK) != (uintptr_t)ctx)
            return (int)ferry__error_say(ctx, -EPERM, &say_foreign);
        unlink_from(ctx, mutex);
    }
    return swing(mutex, (uintptr_t)ctx, 0) ? 0 : unlock_slowly(mutex, ctx);
}

void ferry__mutex_orphan(struct ferry__ctx *ctx) {
    for (ferry_mutex *mutex; (mutex = ctx->held) != NULL;) {
        unlink_from(ctx, mutex);
        hand_over(mutex, -EOWNERDEAD, ASK);
    }
}

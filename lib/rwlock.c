/* A lock to read or to write, first come, first served.
 *
 *     free      writer NULL, readers 0
 *     reading   writer NULL, readers > 0
 *     writing   writer set,  readers 0
 *
 * The line is strict: nobody passes one who waits. Whoever gives the lock up, or leaves the line,
 * hands it to the head: to one writer, or to all readers in front of the next writer. A waiter's
 * `value` says what it wants. The state is changed for the waiter by the one who grants, and
 * `value` then says how: 0 or -EOWNERDEAD.
 *
 * A writer links the lock to the list of what its context holds (next, prev: owner side only)
 * once it runs, which is before it can unlock or end. One that ends without unlocking leaves
 * `orphaned` behind, and the lock free: who takes it is told, every reader until a writer has
 * been, since only a writer can put right what is guarded. Readers have no names: one that ends
 * without unlocking isn't noticed. */
#include "config.h"

#include <errno.h>

#include "line.h"

enum { TO_READ, TO_WRITE };

static struct ferry__detail say_held =
    FERRY__STATIC_DETAIL("the caller holds this lock to write already; it can't be taken again by "
                         "the same task, job or thread");
static struct ferry__detail say_busy =
    FERRY__STATIC_DETAIL("the lock is held, or others wait for it");
static struct ferry__detail say_foreign = FERRY__STATIC_DETAIL(
    "the lock isn't held by the caller: only the task, job or thread that took it gives it back");
static struct ferry__detail say_dead = FERRY__STATIC_DETAIL(
    "the lock is taken now, but the last one who held it to write ended without unlocking it: "
    "check what it guards");

/* Owner side. */
static void link_to(struct ferry__ctx *ctx, ferry_rwlock *l) {
    l->prev = NULL;
    l->next = ctx->written;
    if (l->next)
        l->next->prev = l;
    ctx->written = l;
}

static void unlink_from(struct ferry__ctx *ctx, ferry_rwlock *l) {
    if (l->prev)
        l->prev->next = l->next;
    else
        ctx->written = l->next;
    if (l->next)
        l->next->prev = l->prev;
}

/* Under the lock. */
static bool available(const ferry_rwlock *l, int64_t what) {
    return !l->writer && (what == TO_READ || l->readers == 0);
}

/* Under the lock, for one for whom it is available: 0 or -EOWNERDEAD. */
static int occupy(ferry_rwlock *l, int64_t what, struct ferry__ctx *ctx) {
    int rc = l->orphaned ? -EOWNERDEAD : 0;
    if (what == TO_WRITE) {
        l->writer = ctx;
        l->orphaned = false;
    } else {
        l->readers++;
    }
    return rc;
}

/* Under the lock: gives it to those whose turn it is. */
static void serve(ferry_rwlock *l, struct ferry__wakes *wakes) {
    struct ferry__waiter *w;
    while ((w = ferry__line_head(&l->first, &l->last)) != NULL && available(l, w->value)) {
        FERRY__POINT(rwlock_looked);
        ferry__line_remove(&l->first, &l->last, w);
        if (ferry__claim(w)) {
            w->value = occupy(l, w->value, w->ctx);
            ferry__wakes_add(wakes, w);
        }
    }
}

/* Under the lock: 0 or -EOWNERDEAD when ctx has it now, -EDEADLK or -EBUSY. */
static int take(ferry_rwlock *l, int64_t what, struct ferry__ctx *ctx) {
    if (l->writer == ctx)
        return -EDEADLK;
    if (ferry__line_head(&l->first, &l->last) || !available(l, what))
        return -EBUSY;
    return occupy(l, what, ctx);
}

/* What take() has decided, or the one who granted it: without the inner lock. */
static int settle(ferry_rwlock *l, int64_t what, struct ferry__ctx *ctx, int rc) {
    if (what == TO_WRITE && (rc == 0 || rc == -EOWNERDEAD))
        link_to(ctx, l);
    switch (rc) {
    case 0:
        return 0;
    case -EOWNERDEAD:
        return (int)ferry__error_say(ctx, rc, &say_dead);
    case -EDEADLK:
        return (int)ferry__error_say(ctx, rc, &say_held);
    default:
        return (int)ferry__error_say(ctx, rc, &say_busy);
    }
}

static int lock_for(ferry_rwlock *l, int64_t what, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    ferry__lock(&l->lock);
    rc = take(l, what, ctx);
    if (rc != -EBUSY) {
        ferry__unlock(&l->lock);
        return settle(l, what, ctx, rc);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    w.value = what;
    rc = ferry__line_wait(&l->lock, &l->first, &l->last, &w,
                          what == TO_READ ? "rwlock to read" : "rwlock to write", ms);
    if (rc == 0)
        return settle(l, what, ctx, (int)w.value);
    if (rc != -EDEADLK) { /* readers behind a writer that has left may go on */
        struct ferry__wakes wakes = {0};
        ferry__lock(&l->lock);
        serve(l, &wakes);
        ferry__unlock(&l->lock);
        ferry__wake_all(&wakes);
    }
    return rc;
}

static int trylock(ferry_rwlock *l, int64_t what) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    ferry__lock(&l->lock);
    int rc = take(l, what, ctx);
    ferry__unlock(&l->lock);
    return settle(l, what, ctx, rc);
}

int ferry_rdlock(ferry_rwlock *rwlock) {
    return lock_for(rwlock, TO_READ, FERRY_FOREVER);
}

int ferry_rdlock_for(ferry_rwlock *rwlock, int64_t ms) {
    return lock_for(rwlock, TO_READ, ms);
}

int ferry_tryrdlock(ferry_rwlock *rwlock) {
    return trylock(rwlock, TO_READ);
}

int ferry_wrlock(ferry_rwlock *rwlock) {
    return lock_for(rwlock, TO_WRITE, FERRY_FOREVER);
}

int ferry_wrlock_for(ferry_rwlock *rwlock, int64_t ms) {
    return lock_for(rwlock, TO_WRITE, ms);
}

int ferry_trywrlock(ferry_rwlock *rwlock) {
    return trylock(rwlock, TO_WRITE);
}

int ferry_rwunlock(ferry_rwlock *rwlock) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    struct ferry__wakes wakes = {0};
    bool held = true;
    ferry__lock(&rwlock->lock);
    if (ctx && rwlock->writer == ctx) {
        unlink_from(ctx, rwlock);
        rwlock->writer = NULL;
    } else if (rwlock->readers > 0) {
        rwlock->readers--;
    } else {
        held = false;
    }
    if (held)
        serve(rwlock, &wakes);
    ferry__unlock(&rwlock->lock);
    ferry__wake_all(&wakes);
    return held ? 0 : ferry__refuse(-EPERM, &say_foreign);
}

void ferry__rwlock_orphan(struct ferry__ctx *ctx) {
    for (ferry_rwlock *l; (l = ctx->written) != NULL;) {
        struct ferry__wakes wakes = {0};
        ferry__lock(&l->lock);
        unlink_from(ctx, l);
        l->writer = NULL;
        l->orphaned = true;
        serve(l, &wakes);
        ferry__unlock(&l->lock);
        ferry__wake_all(&wakes);
    }
}

/* Pools of resources: what the user calls. What becomes of a resource's slot, and the rules that
 * this file keeps as well, stand in pool_slot.c. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "executor.h"
#include "line.h"
#include "pool_core.h"

#define ACQUIRE_MS 30000
#define IDLE_MS 60000
#define CHECK_AFTER_MS 1000

static struct ferry__detail say_ended =
    FERRY__STATIC_DETAIL("the pool was closed before, and nothing is left of it");
static struct ferry__detail say_none =
    FERRY__STATIC_DETAIL("no resource of the pool is idle and fit to be lent at once");
static struct ferry__detail say_busy = FERRY__STATIC_DETAIL(
    "the pool can't be freed while it has resources or somebody waits: ferry_pool_close() first");
static struct ferry__detail say_parent = FERRY__STATIC_DETAIL(
    "the pool belongs to the parent process, and so do its resources: make a new one in the child");
static struct ferry__detail say_no_pool = FERRY__STATIC_DETAIL("there is no pool: it is NULL");

/* 0, or why nothing can be done with it. */
static int usable(const ferry_pool *pool) {
    if (!pool)
        return ferry__refuse(-EINVAL, &say_no_pool);
    return ferry__forked(pool->generation) ? ferry__refuse(FERRY_EFORKED, &say_parent) : 0;
}

/* Milliseconds until then, rounded up. */
static int64_t ms_until(int64_t deadline) {
    if (deadline == FERRY__NEVER)
        return FERRY_FOREVER;
    int64_t left = deadline == 0 ? 0 : deadline - ferry__now();
    return left <= 0 ? 0 : (left - 1) / FERRY__MS + 1;
}

/* ---- Acquiring ------------------------------------------------------------------------------- */

static int64_t fail_late(ferry_pool *pool, const char *what, int64_t ms) {
    ferry_pool_stats stats;
    ferry__lock(&pool->lock);
    pool->stats.timeouts++;
    stats = pool->stats;
    ferry__unlock(&pool->lock);
    FERRY__POINT(pool_late);
    return ferry_fail(
        -ETIMEDOUT,
        "pool '%s': %s within %lld ms: of at most %zu there are %zu lent, %zu idle, %zu being "
        "created or checked, %zu being destroyed; %zu others wait",
        pool->name, what, (long long)(ms < 0 ? 0 : ms), pool->options.max, stats.lent, stats.idle,
        stats.preparing, stats.ending, stats.waiting);
}

/* A slot that is PREPARING leads to a resource, or an error. */
static int64_t obtain(struct ferry__slot *slot, struct ferry__ctx *ctx, void **resource, int64_t ms,
                      int64_t deadline) {
    ferry_pool *pool = slot->pool;
    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, ms_until(deadline));
    int64_t inside = ferry__slot_prepare(slot, ctx, resource);
    int64_t rc = ferry_scope_close(&scope, inside);
    if (inside >= 0) /* it is lent, even if `create` has left a scope of its own open */
        return 0;
    if (inside == -ECANCELED && rc == -ETIMEDOUT)
        return fail_late(pool, "a resource could not be created or checked", ms);
    return rc;
}

/* With the lock held, which it drops: waits in line. 0: *slot is LENT or PREPARING. Pinned. */
static int64_t wait_in_line(ferry_pool *pool, struct ferry__ctx *ctx, struct ferry__slot **slot,
                            int64_t ms) {
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    pool->stats.waiting++;
    int rc = ferry__line_wait(&pool->lock, &pool->first, &pool->last, &w, pool->acquiring, ms);
    if (rc != 0) {
        ferry__lock(&pool->lock);
        pool->stats.waiting--;
        ferry__unlock(&pool->lock);
        return rc == -ETIMEDOUT ? fail_late(pool, "none came free", ms) : rc;
    }
    if (w.value != 0)
        return ferry__refuse((int)w.value, &ferry__say_pool_closed);
    *slot = w.item;
    return 0;
}

int64_t ferry_pool_acquire_for(ferry_pool *pool, void **resource, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int64_t rc = usable(pool);
    if (rc == 0)
        rc = ferry__enter(ctx);
    if (rc != 0)
        return rc;
    ferry__lock(&pool->lock);
    if (pool->closed) {
        ferry__unlock(&pool->lock);
        return ferry__error_say(ctx, FERRY_ECLOSED, &ferry__say_pool_closed);
    }
    struct ferry__slot *slot = ferry__slot_take(pool);
    if (slot && slot->state == FERRY__SLOT_LENT) {
        *resource = slot->resource;
        ferry__unlock(&pool->lock);
        return 0;
    }
    pool->pins++;
    int64_t deadline = ferry__deadline(ms);
    if (slot)
        ferry__unlock(&pool->lock);
    else
        rc = wait_in_line(pool, ctx, &slot, ms);
    FERRY__POINT(pool_taken);
    if (rc == 0 && slot->state == FERRY__SLOT_LENT)
        *resource = slot->resource;
    else if (rc == 0)
        rc = obtain(slot, ctx, resource, ms, deadline);
    struct ferry__follow follow = {0};
    ferry__lock(&pool->lock);
    ferry__slots_unpin(pool, &follow);
    ferry__unlock(&pool->lock);
    ferry__wake_all(&follow.wakes);
    return rc;
}

int64_t ferry_pool_acquire(ferry_pool *pool, void **resource) {
    return ferry_pool_acquire_for(pool, resource, pool ? pool->options.acquire_ms : 0);
}

int ferry_pool_try_acquire(ferry_pool *pool, void **resource) {
    int rc = usable(pool);
    if (rc != 0)
        return rc;
    ferry__lock(&pool->lock);
    rc = pool->closed ? FERRY_ECLOSED : -EAGAIN;
    struct ferry__slot *slot = pool->idle_first;
    if (rc == -EAGAIN && slot && !ferry__slot_needs_check(pool, slot)) {
        ferry__slot_take_idle(slot);
        ferry__slot_lend(slot);
        *resource = slot->resource;
        rc = 0;
    }
    ferry__unlock(&pool->lock);
    return rc == 0 ? 0 : ferry__refuse(rc, rc == -EAGAIN ? &say_none : &ferry__say_pool_closed);
}

/* ---- Giving back ----------------------------------------------------------------------------- */

static int give_back(ferry_pool *pool, void *resource, bool broken) {
    int rc = usable(pool);
    if (rc != 0)
        return rc;
    struct ferry__follow follow = {0};
    int64_t now = ferry__now();
    ferry__lock(&pool->lock);
    struct ferry__slot *slot = ferry__slot_take_back(pool, resource);
    if (!slot) {
        ferry__unlock(&pool->lock);
        return (int)ferry_fail(
            -EPERM, "pool '%s' hasn't lent %p: it was given back before, or belongs elsewhere",
            pool->name, resource);
    }
    slot->since = now;
    if (broken) {
        ferry__slot_to_end(slot);
        follow.end = slot;
    } else {
        ferry__slot_settle(slot, &follow);
    }
    ferry__unlock(&pool->lock);
    FERRY__POINT(pool_given_back);
    ferry__slots_follow(pool, &follow);
    return 0;
}

int ferry_pool_release(ferry_pool *pool, void *resource) {
    return give_back(pool, resource, false);
}

int ferry_pool_discard(ferry_pool *pool, void *resource) {
    return give_back(pool, resource, true);
}

/* ---- The end --------------------------------------------------------------------------------- */

/* With the lock held: what is idle is destroyed, what is lent waited for, until nothing is left or
 * `rc` says why not. */
static int wait_for_end(ferry_pool *pool, struct ferry__ctx *ctx, int rc, int64_t deadline) {
    for (;;) {
        struct ferry__slot *slot = pool->idle_first;
        if (slot) {
            ferry__slot_take_idle(slot);
            ferry__slot_to_end(slot);
            ferry__unlock(&pool->lock);
            ferry__slot_end(slot);
        } else if (ferry__slots_at_end(pool)) {
            return 0;
        } else if (rc != 0) {
            return rc;
        } else {
            struct ferry__waiter w;
            ferry__waiter_init(&w, ctx);
            rc = ferry__line_wait(&pool->lock, &pool->close_first, &pool->close_last, &w,
                                  pool->closing, ms_until(deadline));
        }
        ferry__lock(&pool->lock);
    }
}

int ferry_pool_close(ferry_pool *pool, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int rc = usable(pool);
    if (rc != 0)
        return rc;
    struct ferry__wakes wakes = {0};
    int64_t deadline = ferry__deadline(ms);
    ferry__lock(&pool->lock);
    if (pool->closed && ferry__slots_at_end(pool)) {
        ferry__unlock(&pool->lock);
        return ferry__refuse(FERRY_ECLOSED, &say_ended);
    }
    for (struct ferry__waiter *w; (w = ferry__slots_claim(pool)) != NULL;) {
        w->value = FERRY_ECLOSED;
        ferry__wakes_add(&wakes, w);
    }
    pool->closed = true;
    pool->closers++;
    ferry__unlock(&pool->lock);
    ferry__wake_all(&wakes);
    rc = ferry__enter(ctx); /* in a cancelled scope it doesn't wait, but all the rest is done */
    ferry__lock(&pool->lock);
    rc = wait_for_end(pool, ctx, rc, deadline);
    ferry_pool_stats stats = pool->stats;
    char name[FERRY__NAME_MAX];
    memcpy(name, pool->name, sizeof name);
    pool->closers--;
    ferry__unlock(&pool->lock);
    if (rc != -ETIMEDOUT)
        return rc;
    return (int)ferry_fail(
        rc,
        "pool '%s' is closed, but after %lld ms %zu resources are still lent, %zu being "
        "created or checked and %zu being destroyed",
        name, (long long)(ms < 0 ? 0 : ms), stats.lent, stats.preparing, stats.ending);
}

static void pool_free(ferry_pool *pool) {
    if (pool->timer)
        ferry__service_cancel(pool->timer);
    ferry_executor_free(pool->options.executor);
    ferry__free(pool->lent);
    ferry__free(pool);
}

int ferry_pool_free(ferry_pool *pool) {
    if (!pool)
        return 0;
    if (!ferry__forked(pool->generation)) {
        ferry__lock(&pool->lock);
        bool busy = !ferry__slots_at_end(pool) || pool->closers > 0;
        ferry__unlock(&pool->lock);
        if (busy)
            return ferry__refuse(-EBUSY, &say_busy);
    }
    pool_free(pool);
    return 0;
}

void ferry_pool_get_stats(ferry_pool *pool, ferry_pool_stats *stats) {
    memset(stats, 0, sizeof *stats);
    if (!pool || ferry__forked(pool->generation))
        return;
    ferry__lock(&pool->lock);
    *stats = pool->stats;
    ferry__unlock(&pool->lock);
}

/* ---- Making one ------------------------------------------------------------------------------ */

static int check_options(const ferry_pool_options *o) {
    if (!o || !o->create || !o->destroy)
        return (int)ferry_fail(-EINVAL, "pool '%s': create and destroy are required",
                               o && o->name ? o->name : "pool");
    if (o->max < 1 || o->max > FERRY_POOL_MOST || o->min > o->max || o->idle_ms < 0 ||
        o->acquire_ms < 0 || o->check_after_ms < FERRY_POOL_CHECK_ALWAYS)
        return (int)ferry_fail(
            -EINVAL,
            "pool '%s': max %zu, min %zu, check_after_ms %lld, idle_ms %lld, acquire_ms %lld: "
            "one of them is out of range",
            o->name ? o->name : "pool", o->max, o->min, (long long)o->check_after_ms,
            (long long)o->idle_ms, (long long)o->acquire_ms);
    return 0;
}

static ferry_pool *pool_make(const ferry_pool_options *options) {
    size_t buckets = 2;
    while (buckets < options->max)
        buckets *= 2;
    ferry_pool *pool = ferry__calloc(1, sizeof *pool + options->max * sizeof *pool->slots);
    if (!pool)
        return NULL;
    pool->lent = ferry__calloc(buckets, sizeof(struct ferry__slot *));
    if (options->idle_ms != FERRY_FOREVER)
        pool->timer = ferry__service_new(ferry__slots_expire, pool);
    if (!pool->lent || (options->idle_ms != FERRY_FOREVER && !pool->timer)) {
        pool_free(pool);
        return NULL;
    }
    pool->bucket_mask = buckets - 1;
    pool->options = *options;
    snprintf(pool->name, sizeof pool->name, "%s", options->name ? options->name : "pool");
    snprintf(pool->acquiring, sizeof pool->acquiring, "a resource of pool %s", pool->name);
    snprintf(pool->creating, sizeof pool->creating, "a new one for pool %s", pool->name);
    snprintf(pool->closing, sizeof pool->closing, "the end of pool %s", pool->name);
    pool->options.name = NULL;
    if (options->executor) {
        ferry__executor_ref(options->executor);
        atomic_fetch_add(&options->executor->owners, 1);
    }
    for (size_t i = options->max; i-- > 0;) {
        pool->slots[i].pool = pool;
        pool->slots[i].next = pool->free;
        pool->free = &pool->slots[i];
    }
    ferry__fork_watch();
    pool->generation = atomic_load(&ferry__generation);
    return pool;
}

/* Creates the first ones, and gives them back when all are there. */
static int64_t fill(ferry_pool *pool, struct ferry__ctx *ctx) {
    int64_t rc = ferry__enter(ctx), ms = pool->options.acquire_ms;
    size_t n = 0;
    for (void *resource; rc == 0 && n < pool->options.min; n += rc == 0) {
        ferry__lock(&pool->lock);
        struct ferry__slot *slot = ferry__slot_take(pool);
        ferry__unlock(&pool->lock);
        rc = obtain(slot, ctx, &resource, ms, ferry__deadline(ms));
    }
    for (size_t i = 0; i < pool->options.max; i++) {
        /* A job that nobody waits for any more may be about to change it. */
        ferry__lock(&pool->lock);
        struct ferry__slot *slot = &pool->slots[i];
        void *lent = slot->state == FERRY__SLOT_LENT ? slot->resource : NULL;
        ferry__unlock(&pool->lock);
        if (lent)
            give_back(pool, lent, false);
    }
    return rc;
}

int64_t ferry_pool_new(ferry_pool **out, const ferry_pool_options *options) {
    *out = NULL;
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int64_t rc = check_options(options);
    if (rc < 0)
        return rc;
    ferry_pool_options all = *options;
    all.acquire_ms = all.acquire_ms ? all.acquire_ms : ACQUIRE_MS;
    all.idle_ms = all.idle_ms ? all.idle_ms : IDLE_MS;
    all.check_after_ms = all.check_after_ms ? all.check_after_ms : CHECK_AFTER_MS;
    ferry_pool *pool = pool_make(&all);
    if (!pool)
        return ferry__error_say(ctx, -ENOMEM, NULL);
    rc = all.fill ? fill(pool, ctx) : 0;
    if (rc < 0) { /* what was created is destroyed, and a job that still creates one waited for */
        struct ferry__detail *detail = ferry__error_take(ctx, rc);
        ferry_scope shield = FERRY_SCOPE_INIT;
        ferry_shield_open(&shield, FERRY_FOREVER);
        ferry_pool_close(pool, FERRY_FOREVER);
        ferry_scope_close(&shield, 0);
        ferry_pool_free(pool);
        ferry__error_set(ctx, rc, detail);
        return rc;
    }
    *out = pool;
    return 0;
}

/* The slots of a pool: what becomes of them.
 *
 * Each resource has a slot, from before it is created until after it was destroyed, so that there
 * are never more of them than slots. Slots are made with the pool: lending and giving back needs no
 * memory.
 *
 *     FREE -> PREPARING            by an acquire: a resource is to be created in it
 *     IDLE -> PREPARING            by an acquire: it is to be checked first
 *     IDLE -> LENT                 by an acquire
 *     PREPARING -> LENT            it is ready, and the acquire still wants it
 *     PREPARING -> IDLE            it is ready, or wasn't looked at, and nobody wants it
 *     PREPARING -> FREE            it could not be created
 *     LENT -> IDLE                 release
 *     LENT, IDLE, PREPARING -> ENDING -> FREE   discard, expiry, close
 *
 * A slot that would become IDLE or FREE goes to who waits first instead: LENT with its resource, or
 * PREPARING, for the waiter to create one in. So, with the lock free and the pool open:
 *
 *     somebody waits in line  =>  no slot is IDLE or FREE
 *
 * (A waiter that was cancelled or timed out stands in line until it runs; it no longer waits.)
 *
 * Who owns a slot: FREE and IDLE, the lists, under the lock; PREPARING, the acquire that got it, or
 * with an executor its job, until the job's end was looked at (prepared()); LENT, the user; ENDING,
 * whoever destroys it, or its job (destroyed()). The owner calls create, check and destroy, without
 * the lock. An acquire that waits for a job is the slot's requester. When it leaves, the job goes
 * on, and whatever it makes belongs to the pool.
 *
 * Closed, a slot with a resource that nobody has goes to those inside ferry_pool_close(), by the
 * idle list; when nobody is, to whoever brings it.
 *
 * alarm: the timer on the service thread is set for when the resource that has been idle longest
 * expires. It stays set while that one is used; the tick looks again.
 *
 * pins counts the calls that have dropped the lock and come back: the pool isn't at its end before
 * they have. So whoever has closed it may free it.
 *
 * Lock order: the pool's lock stands alone. */
#include "config.h"

#include <errno.h>

#include "line.h"
#include "pool_core.h"

#define DESTROY_MS 5000

struct ferry__detail ferry__say_pool_closed =
    FERRY__STATIC_DETAIL("the pool was closed: it lends nothing any more");
static struct ferry__detail say_other =
    FERRY__STATIC_DETAIL("somebody else cancelled the job that was to create the resource");
static struct ferry__detail say_nothing =
    FERRY__STATIC_DETAIL("the pool's create function returned success without storing a resource");

static int64_t later(int64_t from, int64_t ms) {
    return ms >= (FERRY__NEVER - from) / FERRY__MS ? FERRY__NEVER : from + ms * FERRY__MS;
}

/* ---- Under the lock -------------------------------------------------------------------------- */

static struct ferry__slot **bucket_of(ferry_pool *pool, const void *resource) {
    uint64_t hash = (uint64_t)(uintptr_t)resource * UINT64_C(0x9E3779B97F4A7C15);
    return &pool->lent[(hash >> 32) & pool->bucket_mask];
}

void ferry__slot_lend(struct ferry__slot *slot) {
    struct ferry__slot **bucket = bucket_of(slot->pool, slot->resource);
    slot->state = FERRY__SLOT_LENT;
    slot->chain = *bucket;
    *bucket = slot;
    slot->pool->stats.lent++;
}

struct ferry__slot *ferry__slot_take_back(ferry_pool *pool, const void *resource) {
    for (struct ferry__slot **at = bucket_of(pool, resource), *slot; (slot = *at) != NULL;
         at = &slot->chain) {
        if (slot->resource == resource) {
            *at = slot->chain;
            pool->stats.lent--;
            return slot;
        }
    }
    return NULL;
}

static void push_idle(struct ferry__slot *slot) {
    ferry_pool *pool = slot->pool;
    slot->state = FERRY__SLOT_IDLE;
    slot->prev = NULL;
    slot->next = pool->idle_first;
    if (slot->next)
        slot->next->prev = slot;
    else
        pool->idle_last = slot;
    pool->idle_first = slot;
    pool->stats.idle++;
}

void ferry__slot_take_idle(struct ferry__slot *slot) {
    ferry_pool *pool = slot->pool;
    if (slot->prev)
        slot->prev->next = slot->next;
    else
        pool->idle_first = slot->next;
    if (slot->next)
        slot->next->prev = slot->prev;
    else
        pool->idle_last = slot->prev;
    pool->stats.idle--;
}

static void to_prepare(struct ferry__slot *slot) {
    slot->state = FERRY__SLOT_PREPARING;
    slot->pool->stats.preparing++;
}

void ferry__slot_to_end(struct ferry__slot *slot) {
    slot->state = FERRY__SLOT_ENDING;
    slot->pool->stats.ending++;
}

bool ferry__slots_at_end(const ferry_pool *pool) {
    return pool->alive == 0 && pool->pins == 0;
}

static void tell_closers(ferry_pool *pool, struct ferry__follow *follow) {
    if (pool->closed && (pool->idle_first || ferry__slots_at_end(pool)))
        ferry__line_claim_all(&pool->close_first, &pool->close_last, 0, &follow->wakes);
}

void ferry__slots_unpin(ferry_pool *pool, struct ferry__follow *follow) {
    pool->pins--;
    tell_closers(pool, follow);
}

struct ferry__waiter *ferry__slots_claim(ferry_pool *pool) {
    struct ferry__waiter *w = pool->closed ? NULL : ferry__line_claim(&pool->first, &pool->last);
    if (w)
        pool->stats.waiting--;
    return w;
}

/* There may be something that expires: sees to it that somebody looks then. */
static void plan_alarm(ferry_pool *pool, struct ferry__follow *follow) {
    if (!pool->timer || pool->alarm || pool->closed || !pool->idle_last ||
        pool->alive - pool->stats.ending <= pool->options.min)
        return;
    pool->alarm = true;
    pool->pins++;
    follow->alarm_at = later(pool->idle_last->since, pool->options.idle_ms);
}

/* A slot without a resource: for who waits first, else free. */
static void vacate(struct ferry__slot *slot, struct ferry__follow *follow) {
    ferry_pool *pool = slot->pool;
    slot->resource = NULL;
    struct ferry__waiter *w = ferry__slots_claim(pool);
    if (w) {
        to_prepare(slot);
        w->item = slot;
        ferry__wakes_add(&follow->wakes, w);
        return;
    }
    slot->state = FERRY__SLOT_FREE;
    slot->next = pool->free;
    pool->free = slot;
    pool->alive--;
    tell_closers(pool, follow);
}

void ferry__slot_settle(struct ferry__slot *slot, struct ferry__follow *follow) {
    ferry_pool *pool = slot->pool;
    if (!slot->resource) {
        vacate(slot, follow);
        return;
    }
    struct ferry__waiter *w = ferry__slots_claim(pool);
    if (w) {
        ferry__slot_lend(slot);
        w->item = slot;
        ferry__wakes_add(&follow->wakes, w);
    } else if (pool->closed && pool->closers == 0) {
        ferry__slot_to_end(slot);
        follow->end = slot;
    } else {
        push_idle(slot);
        tell_closers(pool, follow);
        plan_alarm(pool, follow);
    }
}

bool ferry__slot_needs_check(const ferry_pool *pool, const struct ferry__slot *slot) {
    if (!pool->options.check)
        return false;
    return pool->options.check_after_ms == FERRY_POOL_CHECK_ALWAYS ||
           ferry__now() > later(slot->since, pool->options.check_after_ms);
}

struct ferry__slot *ferry__slot_take(ferry_pool *pool) {
    struct ferry__slot *slot = pool->idle_first;
    if (slot) {
        ferry__slot_take_idle(slot);
        if (ferry__slot_needs_check(pool, slot))
            to_prepare(slot);
        else
            ferry__slot_lend(slot);
        return slot;
    }
    slot = pool->free;
    if (slot) {
        pool->free = slot->next;
        pool->alive++;
        to_prepare(slot);
    }
    return slot;
}

/* ---- Without the lock ------------------------------------------------------------------------ */

static void set_alarm(ferry_pool *pool, int64_t at) {
    FERRY__POINT(pool_alarm);
    int rc = ferry__service_set(pool->timer, at);
    struct ferry__follow follow = {0};
    ferry__lock(&pool->lock);
    if (rc < 0) /* whoever gives one back next tries again */
        pool->alarm = false;
    ferry__slots_unpin(pool, &follow);
    ferry__unlock(&pool->lock);
    ferry__wake_all(&follow.wakes);
}

void ferry__slots_follow(ferry_pool *pool, struct ferry__follow *follow) {
    ferry__wake_all(&follow->wakes);
    if (follow->alarm_at)
        set_alarm(pool, follow->alarm_at);
    if (follow->end)
        ferry__slot_end(follow->end);
}

/* Calls the user's function, which may wait although all around is cancelled. What the caller's
 * last error is stays. */
static void destroy(struct ferry__slot *slot) {
    const ferry_pool_options *options = &slot->pool->options;
    struct ferry__ctx *ctx = ferry__ctx_self();
    int64_t code = ctx ? ctx->error : 0;
    struct ferry__detail *detail = ctx ? ferry__detail_ref(ctx->detail) : NULL;
    ferry_scope shield = FERRY_SCOPE_INIT;
    bool shielded = ferry_shield_open(&shield, DESTROY_MS) == 0;
    options->destroy(slot->resource, options->arg);
    if (shielded)
        ferry_scope_close(&shield, 0);
    ferry__error_set(ctx, code, detail);
    slot->resource = NULL;
}

static void ended(struct ferry__slot *slot) {
    ferry_pool *pool = slot->pool;
    struct ferry__follow follow = {0};
    ferry__lock(&pool->lock);
    pool->stats.ending--;
    pool->stats.destroyed++;
    vacate(slot, &follow);
    ferry__unlock(&pool->lock);
    ferry__wake_all(&follow.wakes);
}

static void when_done(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    (void)f;
    ferry__wakes_later(wakes, link);
}

/* Nobody is to be told of this job's error. */
static void drop_job(ferry_future *f) {
    atomic_store_explicit(&f->read, true, memory_order_relaxed);
    ferry__future_unref(f);
}

static int64_t run_destroy(void *arg) {
    struct ferry__slot *slot = arg;
    slot->ran = true;
    destroy(slot);
    return 0;
}

static void destroyed(struct ferry__link *link, ferry_future *f) {
    struct ferry__slot *slot = ferry__container(link, struct ferry__slot, link);
    if (!slot->ran) /* the executor was closed, and what it had in its line was cancelled */
        destroy(slot);
    ended(slot);
    drop_job(f);
}

/* Has a job destroy the resource of a slot that is ENDING; false, and nothing done: there can be no
 * such job. */
static bool end_by_job(struct ferry__slot *slot) {
    ferry_pool *pool = slot->pool;
    ferry_job_options options = {.name = pool->name};
    slot->ran = false;
    slot->link = (struct ferry__link){.notify = when_done, .after = destroyed};
    ferry_scope shield = FERRY_SCOPE_INIT;
    bool shielded = ferry_shield_open(&shield, DESTROY_MS) == 0;
    ferry_future *f = ferry_submit_with(pool->options.executor, run_destroy, slot, &options);
    if (shielded)
        ferry_scope_close(&shield, 0);
    if (!f)
        return false;
    FERRY__POINT(pool_submitted);
    if (ferry__future_link(f, &slot->link))
        return true;
    bool ran = slot->ran;
    if (ran)
        ended(slot);
    drop_job(f);
    return ran;
}

void ferry__slot_end(struct ferry__slot *slot) {
    if (slot->pool->options.executor && end_by_job(slot))
        return;
    destroy(slot);
    ended(slot);
}

/* ---- Expiry ---------------------------------------------------------------------------------- */

/* On the service thread, which must not wait: the rest is done by jobs. */
void ferry__slots_expire(void *arg) {
    ferry_pool *pool = arg;
    struct ferry__slot *expired = NULL;
    struct ferry__follow follow = {0};
    int64_t now = ferry__now();
    ferry__lock(&pool->lock);
    pool->alarm = false;
    for (struct ferry__slot *slot; !pool->closed && (slot = pool->idle_last) != NULL;) {
        if (pool->alive - pool->stats.ending <= pool->options.min ||
            later(slot->since, pool->options.idle_ms) > now)
            break;
        ferry__slot_take_idle(slot);
        ferry__slot_to_end(slot);
        pool->stats.expired++;
        slot->next = expired;
        expired = slot;
    }
    plan_alarm(pool, &follow);
    ferry__unlock(&pool->lock);
    FERRY__POINT(pool_expired);
    if (follow.alarm_at)
        set_alarm(pool, follow.alarm_at);
    for (struct ferry__slot *slot = expired, *next; slot; slot = next) {
        next = slot->next;
        if (end_by_job(slot))
            continue;
        follow = (struct ferry__follow){0}; /* it has as long again */
        slot->since = now;
        ferry__lock(&pool->lock);
        pool->stats.ending--;
        pool->stats.expired--;
        if (pool->closed) { /* this isn't the thread to destroy it on, although nobody else might */
            push_idle(slot);
            tell_closers(pool, &follow);
        } else {
            ferry__slot_settle(slot, &follow);
        }
        ferry__unlock(&pool->lock);
        ferry__slots_follow(pool, &follow);
    }
}

/* ---- Preparing one --------------------------------------------------------------------------- */

static void count(ferry_pool *pool, uint64_t *a, uint64_t *b) {
    ferry__lock(&pool->lock);
    ++*a;
    if (b)
        ++*b;
    ferry__unlock(&pool->lock);
}

/* In the acquirer, or as a job: makes sure that there is a good resource in the slot. After an
 * error there is none. */
static int64_t prepare(void *arg) {
    struct ferry__slot *slot = arg;
    ferry_pool *pool = slot->pool;
    const ferry_pool_options *options = &pool->options;
    slot->ran = true;
    if (slot->resource) {
        if (options->check(slot->resource, options->arg) >= 0) {
            slot->since = ferry__now();
            return 0;
        }
        destroy(slot);
        count(pool, &pool->stats.destroyed, &pool->stats.unfit);
    }
    void *made = NULL;
    int64_t rc = options->create(&made, options->arg);
    if (rc >= 0 && !made)
        rc = ferry__refuse(-EINVAL, &say_nothing);
    if (rc < 0) {
        count(pool, &pool->stats.failed, NULL);
        return rc;
    }
    slot->resource = made;
    slot->since = ferry__now();
    count(pool, &pool->stats.created, NULL);
    return 0;
}

/* The end of what an acquire prepared itself, or of a job that nobody was told of. */
static int64_t conclude(struct ferry__slot *slot, int64_t rc, void **resource) {
    ferry_pool *pool = slot->pool;
    struct ferry__follow follow = {0};
    ferry__lock(&pool->lock);
    pool->stats.preparing--;
    slot->requester = NULL;
    bool lent = rc >= 0 && !pool->closed;
    if (lent) {
        *resource = slot->resource;
        ferry__slot_lend(slot);
    } else {
        ferry__slot_settle(slot, &follow);
    }
    ferry__unlock(&pool->lock);
    ferry__slots_follow(pool, &follow);
    return lent ? 0 : rc < 0 ? rc : ferry__refuse(FERRY_ECLOSED, &ferry__say_pool_closed);
}

/* The job has ended. Who asked for it gets the resource, if it still waits. */
static void prepared(struct ferry__link *link, ferry_future *f) {
    struct ferry__slot *slot = ferry__container(link, struct ferry__slot, link);
    ferry_pool *pool = slot->pool;
    struct ferry__follow follow = {0};
    ferry__lock(&pool->lock);
    pool->stats.preparing--;
    struct ferry__waiter *w = slot->requester;
    slot->requester = NULL;
    if (w && !ferry__claim(w))
        w = NULL;
    bool told = w != NULL;
    if (w) {
        w->value = f->result < 0 ? f->result : pool->closed ? FERRY_ECLOSED : 0;
        w->item = slot;
        if (w->value < 0)
            w->item = f->result < 0 ? ferry__detail_ref(f->detail) : &ferry__say_pool_closed;
        ferry__wakes_add(&follow.wakes, w);
    }
    if (w && w->value == 0)
        ferry__slot_lend(slot);
    else
        ferry__slot_settle(slot, &follow);
    ferry__unlock(&pool->lock);
    ferry__slots_follow(pool, &follow);
    if (told)
        drop_job(f);
    else
        ferry__future_unref(f); /* an error is logged */
}

/* An error of the job in the words of who waited for it; takes over `detail`. */
static int64_t job_failed(struct ferry__ctx *ctx, int64_t rc, struct ferry__detail *detail) {
    if (rc == -ECANCELED && !ferry__region_cancelled(ctx)) {
        ferry__detail_unref(detail);
        return ferry__error_say(ctx, FERRY_EJOBCANCELED, &say_other);
    }
    ferry__error_set(ctx, rc, detail);
    return rc;
}

static int64_t prepare_by_job(struct ferry__slot *slot, struct ferry__ctx *ctx, void **resource) {
    ferry_pool *pool = slot->pool;
    slot->ran = false;
    int rc = ferry__can_park(ctx);
    if (rc < 0)
        return conclude(slot, rc, resource);
    ferry_job_options options = {.name = pool->name};
    ferry_future *f = ferry_submit_with(pool->options.executor, prepare, slot, &options);
    if (!f)
        return conclude(slot, ferry__error_say(ctx, -ENOMEM, NULL), resource);
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    slot->link = (struct ferry__link){.notify = when_done, .after = prepared};
    ferry__lock(&pool->lock); /* who has left it may be looking whose it is */
    slot->requester = &w;
    ferry__unlock(&pool->lock);
    FERRY__POINT(pool_submitted);
    if (!ferry__future_link(f, &slot->link)) {
        int64_t result = f->result;
        if (result < 0)
            result = job_failed(ctx, result, ferry__detail_ref(f->detail));
        drop_job(f);
        return conclude(slot, result, resource);
    }
    bool job = ctx->kind == FERRY__JOB;
    if (job) /* of the same executor, perhaps, which gets one more thread then */
        ferry__worker_blocked(ctx);
    rc = ferry__park(&w, pool->creating, FERRY__NEVER, 0);
    if (job)
        ferry__worker_unblocked(ctx);
    if (rc < 0) {
        ferry__lock(&pool->lock);
        if (slot->requester == &w) /* else it is another one's by now */
            slot->requester = NULL;
        ferry__unlock(&pool->lock);
        return rc;
    }
    if (w.value < 0)
        return job_failed(ctx, w.value, w.item);
    *resource = slot->resource;
    return 0;
}

int64_t ferry__slot_prepare(struct ferry__slot *slot, struct ferry__ctx *ctx, void **resource) {
    return slot->pool->options.executor ? prepare_by_job(slot, ctx, resource)
                                        : conclude(slot, prepare(slot), resource);
}

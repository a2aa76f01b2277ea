/* Scopes: who may still wait, and until when.
 *
 * Each context (task, job, thread) has a chain of open scopes, from the innermost to its root. The
 * owner side alone walks and changes the chain. What others may do is to set a scope's `request`,
 * once, and to kick the context, which then looks for itself:
 *
 *     request:  0 -> CANCEL     ferry_scope_cancel(), or (root scope) a cancel of the handle; any
 *                               thread
 *               0 -> DEADLINE   owner side, when a look finds the deadline passed
 *
 * The request's BUSY bit is set as long as who cancels (ferry__scope_stop()) still has to do with
 * the scope and its context: a close waits for its end, so that a scope may be gone as soon as its
 * owner has seen the request.
 *
 * The first reason is kept. A look marks, of several deadlines that have passed in one unshielded
 * stretch of the chain, only the outermost, and none when a scope around it was asked to stop
 * anyhow: so the scope that absorbs the cancel is the one that asked for it, or one around it.
 *
 * asked is the cheap hint that every waiting call reads: it is set after a request and before the
 * kick, cleared at the beginning of a look and set again by the look when a request stands anywhere
 * in the chain: a request that comes during the look sets it once more, so none is overlooked.
 *
 * next_deadline is a lower bound for the earliest deadline in the chain that hasn't been used up.
 * It may be too early (a deadline that was moved or used up), and then costs one look; never too
 * late.
 *
 * round counts how often a context's budget was used up. That is where a body that never has to
 * wait gets to see that its time is over; but a scope that was opened in the same round is spared,
 * so that a time-out of zero around something that is ready never fires.
 *
 * Jobs outlive scopes, so they look at a cell, a flag with a reference count that is made when a
 * scope starts its first job and chained to the cells of the scopes around it, as far as no shield
 * is between. A job that waits is on the list of listeners, for whoever sets a flag above it to
 * kick its thread. The list's lock stands alone. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "core.h"
#include "fork.h"

/* Of a request: its canceller isn't done yet. */
#define BUSY 0x100

static struct ferry__detail say_expired =
    FERRY__STATIC_DETAIL("the time-out of the scope was over");
static struct ferry__detail say_used = FERRY__STATIC_DETAIL(
    "the scope was used before, or isn't initialised: set it to FERRY_SCOPE_INIT for each use");
static struct ferry__detail say_order =
    FERRY__STATIC_DETAIL("the scope isn't the innermost open one of the caller: scopes are closed "
                         "in the reverse order, by whoever opened them");
static struct ferry__detail say_settled = FERRY__STATIC_DETAIL(
    "the scope isn't open, or was cancelled or has expired already: that is never undone");
static struct ferry__detail say_no_scope = FERRY__STATIC_DETAIL(
    "nobody can cancel a thread that has no scope open: there is nothing to check");
static struct ferry__detail say_cancelled = FERRY__STATIC_DETAIL("cancelled");
static struct ferry__detail say_deadline =
    FERRY__STATIC_DETAIL("cancelled: a time-out around it was over");

/* ---- Cells ----------------------------------------------------------------------------------- */

/* True: that were all that there are. Who holds the only ones needs nobody's consent. */
static bool give_back(struct ferry__cell *cell, int refs) {
    return atomic_load_explicit(&cell->refs, memory_order_acquire) == refs ||
           atomic_fetch_sub_explicit(&cell->refs, refs, memory_order_acq_rel) == refs;
}

void ferry__cell_unref(struct ferry__cell *cell) {
    while (cell && give_back(cell, 1)) {
        struct ferry__cell *outer = cell->outer;
        ferry__record_put(cell, sizeof *cell);
        cell = outer;
    }
}

struct ferry__cell *ferry__cell_ref(struct ferry__cell *cell) {
    if (cell)
        atomic_fetch_add_explicit(&cell->refs, 1, memory_order_relaxed);
    return cell;
}

/* A task's jobs are mostly submitted and freed on its loop's thread, which is its owner side: a
 * reference for one of them is taken from those in reserve, and goes back to them. What isn't in
 * reserve any more is with jobs that may be freed elsewhere. */
void ferry__cell_ref_slow(struct ferry__cell *cell) {
    if (cell->loop)
        cell->spare = FERRY__CELL_SPARE - 1;
    atomic_fetch_add_explicit(&cell->refs, cell->loop ? FERRY__CELL_SPARE : 1,
                              memory_order_relaxed);
}

void ferry__cell_unref_slow(struct ferry__cell *cell, const ferry_loop *loop) {
    if (cell->loop != loop) {
        ferry__cell_unref(cell);
        return;
    }
    atomic_fetch_sub_explicit(&cell->refs, FERRY__CELL_SPARE, memory_order_release);
    cell->spare -= FERRY__CELL_SPARE - 1;
}

/* Its owner has no more use for what is in reserve. The owner's own reference stays. */
static void no_more_spare(struct ferry__cell *cell) {
    if (!cell->loop)
        return;
    int spare = cell->spare;
    cell->loop = NULL;
    cell->spare = 0;
    if (atomic_load_explicit(&cell->refs, memory_order_acquire) == 1 + spare)
        atomic_store_explicit(&cell->refs, 1, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(&cell->refs, spare, memory_order_release);
}

/* A task's own cell is mostly all that its jobs inherit. Where tasks leave theirs, so that there
 * is one at hand, the next task has it from birth: nobody else knows the task yet, who could look
 * for the cell while it is put there (ferry__scope_cell()). */
void ferry__cell_adopt(struct ferry__ctx *ctx, struct ferry__cache *cache) {
    struct ferry__cell *cell = cache->cells[--cache->n_cells];
    *cell = (struct ferry__cell){
        .refs = 1 + FERRY__CELL_SPARE, .spare = FERRY__CELL_SPARE, .loop = ctx->loop};
    ctx->root.cell = ctx->cells = cell;
}

void ferry__cell_leave(struct ferry__cell *cell, struct ferry__cache *cache) {
    no_more_spare(cell); /* of a task that never ran */
    if (cache && cache->n_cells < cache->most_kept &&
        atomic_load_explicit(&cell->refs, memory_order_acquire) == 1 && !cell->outer)
        cache->cells[cache->n_cells++] = cell;
    else
        ferry__cell_unref(cell);
}

_Atomic uint32_t ferry__scope_cancels;
unsigned ferry__scope_lock;
static struct ferry__heir *listeners; /* under the lock */

void ferry__scope_listen(struct ferry__ctx *ctx) {
    struct ferry__heir *heir = ferry__heir_of(ctx);
    uint32_t generation = atomic_load_explicit(&ferry__generation, memory_order_relaxed);
    if (heir)
        ferry__job_listen(heir);
    if (!heir || !heir->inherited || heir->listens == generation)
        return;
    heir->listens = generation;
    ferry__lock(&ferry__scope_lock);
    heir->prev = NULL;
    heir->next = listeners;
    if (listeners)
        listeners->prev = heir;
    listeners = heir;
    ferry__unlock(&ferry__scope_lock);
}

static void listen_no_more(struct ferry__heir *heir) {
    if (heir->listens != atomic_load_explicit(&ferry__generation, memory_order_relaxed))
        return;
    ferry__lock(&ferry__scope_lock);
    if (heir->prev)
        heir->prev->next = heir->next;
    else
        listeners = heir->next;
    if (heir->next)
        heir->next->prev = heir->prev;
    ferry__unlock(&ferry__scope_lock);
}

/* Nobody is left who would come to the end of a cancel. */
static void forget_cancellers(struct ferry__ctx *ctx) {
    for (ferry_scope *s = ctx->top; s; s = s->outer)
        if (__atomic_fetch_and(&s->request, ~BUSY, __ATOMIC_RELAXED) & BUSY)
            atomic_store(&ctx->asked, 1);
}

/* The other threads, and what they ran, aren't in the child. */
void ferry__scope_forked(void) {
    struct ferry__thread *thread = ferry__thread_known();
    listeners = NULL;
    if (!thread)
        return;
    forget_cancellers(thread->current);
    forget_cancellers(&thread->ctx);
}

static void set_flag(struct ferry__cell *cell) {
    atomic_store(&cell->cancelled, 1);
    atomic_fetch_add(&ferry__scope_cancels, 1);
}

/* Sets the flag and tells the jobs below it, also those that sleep. */
static void cell_cancel(struct ferry__cell *cell) {
    set_flag(cell);
    if (atomic_load(&cell->refs) == 1)
        return; /* nobody has inherited it */
    FERRY__POINT(cell_cancel);
    ferry__lock(&ferry__scope_lock);
    for (const struct ferry__heir *heir = listeners; heir; heir = heir->next) {
        const struct ferry__cell *above = heir->inherited;
        while (above && above != cell)
            above = above->outer;
        if (above)
            ferry__thread_kick(heir->ctx.thread);
    }
    ferry__unlock(&ferry__scope_lock);
}

static struct ferry__cell *cell_of(const ferry_scope *scope) {
    return __atomic_load_n((struct ferry__cell *const *)&scope->cell, __ATOMIC_SEQ_CST);
}

static int request_of(const ferry_scope *scope) {
    return __atomic_load_n(&scope->request, __ATOMIC_SEQ_CST) & ~BUSY;
}

struct ferry__cell *ferry__scope_cell(struct ferry__ctx *ctx) {
    /* All are made before the first is published: a chain with a gap would miss a cancel. */
    struct ferry__cell *fresh = NULL;
    ferry_scope *s = ctx->top;
    for (; s && !s->cell; s = s->shield ? NULL : s->outer) {
        struct ferry__cell *cell = ferry__record_get(sizeof *cell);
        if (!cell) {
            while (fresh) {
                struct ferry__cell *next = fresh->next;
                ferry__record_put(fresh, sizeof *fresh);
                fresh = next;
            }
            return NULL;
        }
        *cell = (struct ferry__cell){.refs = 1, .next = fresh};
        if (ctx->kind == FERRY__TASK && !ctx->ended) {
            cell->refs = 1 + FERRY__CELL_SPARE;
            cell->spare = FERRY__CELL_SPARE;
            cell->loop = ctx->loop;
        }
        fresh = cell;
    }
    struct ferry__cell *inner = NULL;
    const struct ferry__heir *heir = ferry__heir_of(ctx);
    for (s = ctx->top; s; s = s->shield ? NULL : s->outer) {
        struct ferry__cell *cell = s->cell;
        bool known = cell != NULL;
        if (!known) {
            cell = fresh;
            fresh = fresh->next;
            cell->next = ctx->cells;
            ctx->cells = cell;
        }
        if (inner)
            inner->outer = ferry__cell_ref(cell);
        if (known)
            break;
        if (!s->outer && !s->shield && heir)
            cell->outer = ferry__cell_ref(heir->inherited);
        __atomic_store_n(&s->cell, cell, __ATOMIC_SEQ_CST);
        FERRY__POINT(cell_published);
        if (request_of(s))
            set_flag(cell);
        inner = cell;
    }
    return ctx->top->cell;
}

static void drop_cell(struct ferry__ctx *ctx, ferry_scope *scope) {
    struct ferry__cell *cell = scope->cell;
    if (!cell)
        return;
    struct ferry__cell **at = &ctx->cells;
    while (*at != cell)
        at = &(*at)->next;
    *at = cell->next;
    scope->cell = NULL;
    no_more_spare(cell);
    ferry__cell_unref(cell);
}

/* ---- Contexts -------------------------------------------------------------------------------- */

void ferry__ctx_init(struct ferry__ctx *ctx, enum ferry__ctx_kind kind) {
    ferry__zero_words(ctx, sizeof *ctx);
    ferry__ctx_begin(ctx, kind);
}

static FERRY__NOINLINE void end_slowly(struct ferry__ctx *ctx) {
    /* The scopes that were left open stood in frames that are gone: nobody looks at them. */
    bool left_open = ctx->top != &ctx->root;
    ctx->top = &ctx->root;
    ctx->next_deadline = ctx->root.deadline;
    if (ctx->groups)
        ferry__group_abandon_all(ctx);
    if (ctx->deferred)
        ferry__defer_call(ctx, NULL);
    ferry__values_unref(ctx->values);
    ctx->values = NULL;
    if (left_open)
        ferry__log(FERRY_LOG_WARNING, "'%s' ended with a scope or group left open",
                   ferry_self_name());
    if (ctx->held)
        ferry__mutex_orphan(ctx);
    if (ctx->written)
        ferry__rwlock_orphan(ctx);
    while (ctx->cells) {
        struct ferry__cell *cell = ctx->cells;
        ctx->cells = cell->next;
        no_more_spare(cell);
        if (cell == ctx->root.cell && ctx->kind == FERRY__TASK) {
            /* Others may still cancel it by its handle: the root's cell goes with the task. */
            cell->next = NULL;
            continue;
        }
        ferry__cell_unref(cell);
    }
    if (ctx->kind != FERRY__TASK)
        ctx->root.cell = NULL;
    if (ctx->detail || ctx->error)
        ferry__error_set(ctx, 0, NULL);
}

/* Nothing is to be done at its end. */
static bool is_bare(const struct ferry__ctx *ctx) {
    return ctx->top == &ctx->root && ctx->error == 0 &&
           !((uintptr_t)ctx->cells | (uintptr_t)ctx->groups | (uintptr_t)ctx->held |
             (uintptr_t)ctx->written | (uintptr_t)ctx->deferred | (uintptr_t)ctx->values |
             (uintptr_t)ctx->detail);
}

void ferry__ctx_end(struct ferry__ctx *ctx) {
    if (!is_bare(ctx))
        end_slowly(ctx);
    ctx->next_deadline = ctx->root.deadline;
    ctx->ended = true;
    struct ferry__heir *heir = ferry__heir_of(ctx);
    if (heir && heir->listens != 0)
        listen_no_more(heir);
}

void ferry__ctx_kick(struct ferry__ctx *ctx) {
    atomic_store(&ctx->asked, 1);
    FERRY__POINT(scope_asked);
    if (ctx->kind == FERRY__TASK)
        ferry__task_kick(ferry__container(ctx, struct ferry__task, ctx));
    else
        ferry__thread_kick(ctx->thread);
}

bool ferry__scope_request(ferry_scope *scope, int request) {
    int none = FERRY__REQUEST_NONE;
    if (!__atomic_compare_exchange_n(&scope->request, &none, request, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
        return false;
    FERRY__POINT(scope_requested);
    struct ferry__cell *cell = cell_of(scope);
    if (cell)
        cell_cancel(cell);
    return true;
}

/* A job's requests come by its record, which outlives this context. */
static void import_job(struct ferry__ctx *ctx) {
    const struct ferry__heir *heir = ferry__heir_of(ctx);
    int request = ferry__job_request(ctx->self);
    if (!request && heir->calm != atomic_load(&ferry__scope_cancels) &&
        ferry__cell_cancelled(heir->inherited))
        request = FERRY__REQUEST_CANCEL;
    if (request)
        ferry__scope_request(&ctx->root, request);
}

static bool look(struct ferry__ctx *ctx, int64_t now, bool spare_new) {
    atomic_exchange(&ctx->asked, 0);
    FERRY__POINT(scope_look);
    if (ctx->kind == FERRY__JOB)
        import_job(ctx);
    /* A shutdown that has become hard ignores shields. */
    bool shields = !(ctx->kind == FERRY__TASK && atomic_load(&ctx->loop->unshielded) &&
                     ctx->loop->spared != ferry__container(ctx, struct ferry__task, ctx));
    bool visible = true, cancelled = false, any = false;
    ferry_scope *expired = NULL;
    int64_t next = FERRY__NEVER;
    for (ferry_scope *s = ctx->top; s; s = s->outer) {
        if (request_of(s)) {
            any = true;
            cancelled |= visible;
            expired = NULL;
        } else if (s->deadline <= now && !(spare_new && s->round == ctx->round)) {
            expired = s;
        } else if (s->deadline < next) {
            next = s->deadline;
        }
        if (expired && (s->shield || !s->outer)) { /* the end of a stretch */
            ferry__scope_request(expired, FERRY__REQUEST_DEADLINE);
            any = true;
            cancelled |= visible;
            expired = NULL;
        }
        if (s->shield && shields)
            visible = false;
    }
    ctx->next_deadline = next;
    if (any)
        ctx->untold |= ctx->groups != NULL;
    /* A job's inherited flags come without a hint: every call of its looks. */
    if (any || ctx->kind == FERRY__JOB)
        atomic_store(&ctx->asked, 1);
    return cancelled;
}

bool ferry__scope_look(struct ferry__ctx *ctx, int64_t now) {
    return look(ctx, now, false);
}

void ferry__scope_tell(struct ferry__ctx *ctx) {
    if (!ctx->untold)
        return;
    ctx->untold = false;
    ferry_scope *start = ctx->top;
    for (ferry_scope *s = ctx->top; s; s = s->outer) {
        if (request_of(s)) {
            for (ferry_scope *t = start; t != s->outer; t = t->outer) {
                if (t->group && !t->told) {
                    t->told = true;
                    ferry__group_tell(t->group);
                }
            }
            start = s->outer;
        }
        if (s->shield)
            start = s->outer;
    }
}

static int64_t clock_for(const struct ferry__ctx *ctx) {
    if (ctx->kind == FERRY__TASK)
        return ctx->loop->now;
    return ctx->next_deadline == FERRY__NEVER ? 0 : ferry__now();
}

int ferry__enter_slow(struct ferry__ctx *ctx) {
    bool cancelled;
    if (--ctx->budget <= 0) {
        ctx->budget = FERRY__BUDGET;
        if (ctx->kind == FERRY__TASK)
            ferry__task_yield(ferry__container(ctx, struct ferry__task, ctx));
        cancelled = look(ctx, clock_for(ctx), true);
        ctx->round++;
    } else {
        /* What is ready beats the clock; whoever has to wait looks at it in ferry__park(). */
        cancelled = look(ctx, -1, false);
    }
    ferry__scope_tell(ctx);
    if (!cancelled)
        return 0;
    ferry__error_set(ctx, -ECANCELED, NULL);
    return -ECANCELED;
}

/* ---- Open and close -------------------------------------------------------------------------- */

static int open_scope(ferry_scope *scope, int64_t timeout_ms, bool shield) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (scope->state != FERRY__SCOPE_FRESH)
        return (int)ferry__error_say(ctx, -EINVAL, &say_used);
    scope->outer = ctx->top; /* its cell is NULL as it was, which a canceller may be reading now */
    scope->shield = shield;
    scope->told = false;
    scope->round = ctx->round;
    scope->deadline = ferry__deadline(timeout_ms);
    scope->saved = ctx->next_deadline;
    scope->state = FERRY__SCOPE_OPEN;
    ctx->top = scope;
    if (scope->deadline < ctx->next_deadline)
        ctx->next_deadline = scope->deadline;
    __atomic_store_n(&scope->ctx, ctx, __ATOMIC_SEQ_CST);
    FERRY__POINT(scope_opened);
    if (request_of(scope))
        atomic_store(&ctx->asked, 1);
    return 0;
}

int ferry_scope_open(ferry_scope *scope, int64_t timeout_ms) {
    return open_scope(scope, timeout_ms, false);
}

int ferry_shield_open(ferry_scope *scope, int64_t at_most_ms) {
    return open_scope(scope, at_most_ms, true);
}

void ferry__scope_settle(const ferry_scope *scope) {
    while (__atomic_load_n(&scope->request, __ATOMIC_ACQUIRE) & BUSY)
        sched_yield(); /* another thread is a few instructions and a wake-up away from the end */
}

static void pop(struct ferry__ctx *ctx) {
    ferry_scope *scope = ctx->top;
    ferry__scope_settle(scope);
    drop_cell(ctx, scope);
    ctx->top = scope->outer;
    ctx->next_deadline = scope->saved;
    scope->state = FERRY__SCOPE_CLOSED;
}

static bool contains(const struct ferry__ctx *ctx, const ferry_scope *scope) {
    for (const ferry_scope *s = ctx->top; s; s = s->outer)
        if (s == scope)
            return true;
    return false;
}

int64_t ferry_scope_close(ferry_scope *scope, int64_t rc) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (scope->state != FERRY__SCOPE_OPEN || scope->ctx != ctx || !contains(ctx, scope))
        return ferry__error_say(ctx, -EINVAL, &say_order);
    bool in_order = ctx->top == scope;
    while (ctx->top != scope) {
        struct ferry__group_core *left_open = ctx->top->group;
        ferry__defer_call(ctx, ctx->top);
        if (left_open)
            ferry__group_part(left_open);
        pop(ctx);
        if (left_open)
            ferry__group_abandon(left_open);
    }
    ferry__defer_call(ctx, scope);
    pop(ctx);
    if (!in_order)
        return ferry__error_say(ctx, -EINVAL, &say_order);
    int request = request_of(scope);
    if (rc != -ECANCELED || !request)
        return rc;
    if (!scope->shield && ferry__scope_look(ctx, clock_for(ctx)))
        return rc;
    if (request != FERRY__REQUEST_DEADLINE)
        return 0;
    struct ferry__detail *fate = ferry__error_take(ctx, rc); /* of what was awaited last */
    if (!fate)
        return ferry__error_say(ctx, -ETIMEDOUT, &say_expired);
    ferry_fail(-ETIMEDOUT, "%s; what was awaited: %s", say_expired.text,
               ferry__detail_words(fate, rc));
    ferry__detail_unref(fate);
    return -ETIMEDOUT;
}

static struct ferry__ctx *context_of(const ferry_scope *scope) {
    return __atomic_load_n((struct ferry__ctx *const *)&scope->ctx, __ATOMIC_SEQ_CST);
}

static bool on_owner_side(const struct ferry__ctx *ctx, const struct ferry__ctx *me) {
    return ctx == me || (ctx->kind == FERRY__TASK && ferry__loop_here(ctx->loop));
}

void ferry__scope_stop(ferry_scope *scope, int request) {
    if (!ferry__scope_request(scope, BUSY | request))
        return;
    /* An opening that hasn't stored its context yet sees the request after it has. */
    FERRY__POINT(scope_kick);
    struct ferry__ctx *ctx = context_of(scope);
    if (ctx)
        ferry__ctx_kick(ctx);
    FERRY__POINT(scope_cancel_over);
    __atomic_fetch_and(&scope->request, ~BUSY, __ATOMIC_RELEASE); /* from here on it may be gone */
}

void ferry_scope_cancel(ferry_scope *scope) {
    struct ferry__ctx *ctx = context_of(scope);
    bool late = false; /* its time was over already, only nobody had looked yet */
    if (ctx && on_owner_side(ctx, ferry__ctx_self()))
        late = scope->deadline <= clock_for(ctx);
    ferry__scope_stop(scope, late ? FERRY__REQUEST_DEADLINE : FERRY__REQUEST_CANCEL);
}

int ferry_scope_set_timeout(ferry_scope *scope, int64_t timeout_ms) {
    struct ferry__ctx *me = ferry__ctx_self();
    if (!me)
        return -ENOMEM;
    struct ferry__ctx *ctx = context_of(scope);
    if (!ctx || !on_owner_side(ctx, me) || scope->state != FERRY__SCOPE_OPEN || request_of(scope) ||
        scope->deadline <= clock_for(ctx))
        return (int)ferry__error_say(me, -EINVAL, &say_settled);
    scope->deadline = ferry__deadline(timeout_ms);
    for (ferry_scope *s = ctx->top; s != scope; s = s->outer)
        if (scope->deadline < s->saved)
            s->saved = scope->deadline;
    if (scope->deadline < ctx->next_deadline) {
        ctx->next_deadline = scope->deadline;
        if (ctx != me && ctx->parked)
            ferry__task_rearm(ferry__container(ctx, struct ferry__task, ctx));
    }
    return 0;
}

/* ---- Questions ------------------------------------------------------------------------------- */

/* Whoever has seen the request of its own scope finds its next wait cancelled, also while the
 * canceller is still on its way from the request to the hint. */
static bool has_seen(const ferry_scope *scope, int request) {
    if (request_of(scope) != request)
        return false;
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (ctx && ctx == context_of(scope))
        atomic_store(&ctx->asked, 1);
    return true;
}

bool ferry_scope_cancelled(const ferry_scope *scope) {
    return has_seen(scope, FERRY__REQUEST_CANCEL);
}

bool ferry_scope_expired(const ferry_scope *scope) {
    return has_seen(scope, FERRY__REQUEST_DEADLINE);
}

int64_t ferry__scope_deadline(struct ferry__ctx *ctx) {
    int64_t earliest = FERRY__NEVER;
    for (const ferry_scope *s = ctx->top; s; s = s->shield ? NULL : s->outer)
        if (s->deadline < earliest)
            earliest = s->deadline;
    return earliest;
}

int ferry_checkpoint(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (ctx->kind == FERRY__THREAD && ctx->top == &ctx->root)
        return (int)ferry__error_say(ctx, -EINVAL, &say_no_scope);
    /* A loop's reading of the clock is old when a task computes for long: this is real time. */
    int64_t now = ctx->next_deadline == FERRY__NEVER ? 0 : ferry__now();
    if (ctx->kind != FERRY__JOB && !atomic_load_explicit(&ctx->asked, memory_order_acquire) &&
        ctx->next_deadline > now)
        return 0;
    bool cancelled = ferry__scope_look(ctx, now);
    ferry__scope_tell(ctx);
    if (!cancelled)
        return 0;
    bool deadline = ferry__scope_deadline(ctx) <= now;
    return (int)ferry__error_say(ctx, -ECANCELED, deadline ? &say_deadline : &say_cancelled);
}

int64_t ferry_time_left(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return FERRY_FOREVER;
    int64_t deadline = ferry__scope_deadline(ctx);
    int64_t now = deadline == FERRY__NEVER ? 0 : ferry__now();
    if (ferry__scope_look(ctx, now))
        return 0;
    return deadline == FERRY__NEVER ? FERRY_FOREVER
           : deadline <= now        ? 0
                                    : (deadline - now) / FERRY__MS;
}

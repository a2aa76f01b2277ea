/* The one way to wait, for tasks and threads.
 *
 * Whoever waits puts a waiter into the line of what it waits for, under that thing's lock, and
 * parks. The waiter's outcome is written once, by one compare-and-exchange:
 *
 *     WAITING -> GRANTED    by any thread, under the lock of what is waited for (ferry__claim)
 *             -> CANCELED   by the owner side only: the task's loop, or the thread itself
 *             -> TIMEDOUT   likewise
 *
 * First one wins; the others see that they came late and do nothing. So a grant is never lost to a
 * cancel (who was granted owns what it got), and a cancelled waiter is passed over by the next
 * grant.
 *
 * Lifetime. A waiter stands on its owner's stack. It is touched by others only
 *   - under the lock of the line that it stands in: its owner takes that lock, to leave the line,
 *     before it returns with an error;
 *   - between claim and wake, by the one who claimed, or under the lock of the line that it was
 *     moved to (cond.c): the owner doesn't return before the wake. For a task the wake is its way
 *     into the ready line; for a thread it is `woken`, the granter's last write.
 * The thread's record (word, sleeping, its bell) is touched after that, which is why those records
 * are never freed. A loop that a task must be woken on is pinned from claim to wake, since the task
 * may end, and its loop be freed, before the waker has written to the loop's fd.
 *
 * A request to stop (scope.c) sets a flag first and kicks then: a thread's word is counted up, a
 * task's loop gets an item. The thread reads the word before it looks at the flags and sleeps only
 * while the word is the same, so that no kick falls between looking and sleeping. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "core.h"
#include "service.h"

/* ---- Threads' records ------------------------------------------------------------------------ */

static unsigned spare_lock; /* guards spare */
static struct ferry__thread *spare;
static pthread_key_t key;
static bool key_made;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
/* One word at a fixed distance from the thread's own register: every call of the library begins
 * with it. glibc keeps room for such words in libraries that are loaded late, too. */
#ifdef __GLIBC__
__attribute__((tls_model("initial-exec")))
#endif
static _Thread_local struct ferry__thread *self;

static void thread_ended(void *record) {
    struct ferry__thread *t = record;
    self = t; /* what is torn down below may ask who runs */
    ferry__ctx_end(&t->ctx);
    ferry__loops_unbind(t); /* one may outlive its thread, whose record is somebody else's then */
    ferry__cache_end(&t->cache);
    self = NULL;
    ferry__lock(&spare_lock);
    t->next = spare;
    spare = t;
    ferry__unlock(&spare_lock);
}

static void key_make(void) {
    key_made = pthread_key_create(&key, thread_ended) == 0;
    ferry__fork_watch();
}

static FERRY__NOINLINE struct ferry__thread *thread_enroll(void) {
    pthread_once(&key_once, key_make);
    if (!key_made)
        return NULL;
    ferry__lock(&spare_lock);
    struct ferry__thread *t = spare;
    if (t)
        spare = t->next;
    ferry__unlock(&spare_lock);
    if (!t) {
        t = ferry__calloc(1, sizeof *t);
        if (!t)
            return NULL;
        t->bell = (struct ferry__bell)FERRY__BELL_INIT;
    }
    if (pthread_setspecific(key, t) != 0) {
        ferry__lock(&spare_lock);
        t->next = spare;
        spare = t;
        ferry__unlock(&spare_lock);
        return NULL;
    }
    ferry__cache_begin(&t->cache);
    ferry__ctx_init(&t->ctx, FERRY__THREAD);
    t->ctx.thread = t;
    t->current = &t->ctx;
    t->loop = NULL;
    t->worker = NULL;
    t->client = NULL;
    t->pthread = pthread_self();
    self = t;
    return t;
}

/* Not inlined: a task that calls this twice must not see an address of thread-local storage that
 * the compiler kept across the switch between (design.md, rule 25). */
FERRY__NOINLINE struct ferry__thread *ferry__thread_self(void) {
    return self ? self : thread_enroll();
}

FERRY__NOINLINE struct ferry__thread *ferry__thread_known(void) {
    return self;
}

FERRY__NOINLINE struct ferry__ctx *ferry__ctx_self(void) {
    struct ferry__thread *t = self ? self : thread_enroll();
    return t ? t->current : NULL;
}

void ferry__thread_forked(void) {
    spare_lock = 0;
    /* The bells are the parent's: one process would take the other's rings. */
    for (struct ferry__thread *t = spare; t; t = t->next)
        ferry__bell_fini(&t->bell);
    if (!self)
        return;
    ferry__bell_fini(&self->bell);
    ferry__loops_forked(self);
}

void ferry__thread_kick(struct ferry__thread *t) {
    atomic_fetch_add(&t->word, 1);
    FERRY__POINT(kick_counted);
    if (atomic_load(&t->sleeping))
        ferry__futex_wake((uint32_t *)&t->word, 1);
    if (atomic_load(&t->polling))
        ferry__bell_ring(&t->bell);
}

/* ---- Lines ----------------------------------------------------------------------------------- */

void ferry__line_append(void **first, void **last, struct ferry__waiter *w) {
    w->next = NULL;
    w->prev = *last;
    if (w->prev)
        w->prev->next = w;
    else
        *first = w;
    *last = w;
    w->listed = true;
}

void ferry__line_remove(void **first, void **last, struct ferry__waiter *w) {
    if (!w->listed)
        return;
    if (w->prev)
        w->prev->next = w->next;
    else
        *first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        *last = w->prev;
    w->next = w->prev = NULL;
    w->listed = false;
}

/* ---- Granting -------------------------------------------------------------------------------- */

static bool decide(struct ferry__waiter *w, int outcome) {
    int waiting = FERRY__WAITING;
    return atomic_compare_exchange_strong(&w->outcome, &waiting, outcome);
}

bool ferry__claim(struct ferry__waiter *w) {
    if (atomic_load_explicit(&w->outcome, memory_order_relaxed) != FERRY__WAITING)
        return false;
    FERRY__POINT(claim_looked);
    w->wake_next = NULL;
    w->pinned = NULL;
    if (w->thread)
        return decide(w, FERRY__GRANTED);
    ferry_loop *loop = w->ctx->loop;
    if (ferry__loop_here(loop)) {
        /* Who else grants needs the lock that is held here, and who cancels does it on this
         * thread. */
        atomic_store_explicit(&w->outcome, FERRY__GRANTED, memory_order_relaxed);
        return true;
    }
    ferry__loop_ref(loop);
    w->pinned = loop;
    if (decide(w, FERRY__GRANTED))
        return true;
    ferry__loop_unref(loop);
    return false;
}

void ferry__wake(struct ferry__waiter *w) {
    FERRY__POINT(wake);
    struct ferry__thread *t = w->thread;
    if (t) {
        atomic_store_explicit(&w->woken, 1, memory_order_release); /* w is the owner's again */
        FERRY__POINT(wake_told);
        ferry__thread_kick(t);
        return;
    }
    ferry_loop *loop = w->pinned;
    struct ferry__task *task = ferry__container(w->ctx, struct ferry__task, ctx);
    if (!loop) { /* it was claimed on its loop's own thread */
        ferry__loop_push_parked(task->ctx.loop, task);
        ferry__loop_need_turn(task->ctx.loop);
        return;
    }
    ferry__task_ready(task);
    ferry__loop_unref(loop);
}

void ferry__wakes_add(struct ferry__wakes *wakes, struct ferry__waiter *w) {
    w->wake_next = NULL;
    if (wakes->last)
        wakes->last->wake_next = w;
    else
        wakes->first = w;
    wakes->last = w;
}

void ferry__wake_all(struct ferry__wakes *wakes) {
    for (struct ferry__waiter *w = wakes->first, *next; w; w = next) {
        next = w->wake_next;
        ferry__wake(w);
    }
    wakes->first = wakes->last = NULL;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static struct ferry__detail on_the_loop = FERRY__STATIC_DETAIL(
    "this would block a loop's own thread, or the library's; wait in a task (ferry_spawn), or use "
    "ferry_then()");

bool ferry__may_park(const struct ferry__ctx *ctx) {
    if (ctx->kind == FERRY__TASK)
        return !ferry__loop_forked(ctx->loop);
    /* an inline job runs on whatever thread */
    return !ctx->thread->loop && !ferry__service_here();
}

int ferry__can_park(struct ferry__ctx *ctx) {
    if (ferry__may_park(ctx))
        return 0;
    if (ctx->kind == FERRY__TASK)
        return (int)ferry__error_say(ctx, FERRY_EFORKED, &ferry__say_parents_loop);
    return (int)ferry__error_say(ctx, -EDEADLK, &on_the_loop);
}

void ferry__poke(struct ferry__ctx *ctx, int64_t now) {
    bool cancelled = ferry__scope_look(ctx, now);
    struct ferry__waiter *w = ctx->parked;
    if (!w)
        return;
    int outcome;
    if (cancelled && !ctx->shielded)
        outcome = FERRY__CANCELED;
    else if (ctx->wait_deadline <= now)
        outcome = FERRY__TIMEDOUT;
    else
        return;
    FERRY__POINT(poke_looked);
    if (!decide(w, outcome)) {
        ctx->wait_deadline =
            FERRY__NEVER; /* granted before, and to be woken: its time is of no interest any more */
        return;
    }
    if (ctx->kind == FERRY__TASK) {
        struct ferry__task *task = ferry__container(ctx, struct ferry__task, ctx);
        if (task->state == FERRY__TASK_PARKED)
            ferry__task_ready(task);
    }
}

/* There may be something to see by now, or at some time. */
bool ferry__park_look(struct ferry__ctx *ctx, struct ferry__waiter *w) {
    struct ferry__task *task = ferry__container(ctx, struct ferry__task, ctx);
    ferry_loop *loop = ctx->loop;
    /* The loop's reading of the clock will do: when it lags, the timer does what this does. */
    if (atomic_load_explicit(&ctx->asked, memory_order_acquire) ||
        ferry__look_again_at(ctx) <= loop->now) {
        ferry__poke(ctx, loop->now);
        ferry__scope_tell(ctx);
        int outcome = atomic_load_explicit(&w->outcome, memory_order_acquire);
        if (outcome == FERRY__CANCELED || outcome == FERRY__TIMEDOUT)
            return false;
    }
    int64_t at = ferry__look_again_at(ctx);
    if (at != FERRY__NEVER)
        ferry__heap_add(&loop->timers, &task->timer, at);
    return true;
}

static void sleep_until_decided(struct ferry__ctx *ctx, struct ferry__waiter *w) {
    struct ferry__thread *t = ctx->thread;
    ferry__scope_listen(ctx);
    for (;;) {
        uint32_t seen = atomic_load(&t->word);
        FERRY__POINT(park_seen);
        int outcome = atomic_load_explicit(&w->outcome, memory_order_acquire);
        if (outcome != FERRY__WAITING &&
            (outcome != FERRY__GRANTED || atomic_load_explicit(&w->woken, memory_order_acquire)))
            return;
        ferry__poke(ctx, ferry__look_again_at(ctx) == FERRY__NEVER ? 0 : ferry__now());
        ferry__scope_tell(ctx);
        if (atomic_load_explicit(&w->outcome, memory_order_acquire) != outcome)
            continue;
        FERRY__POINT(park_doze);
        atomic_store(&t->sleeping, 1);
        FERRY__POINT(park_sleep);
        ferry__futex_wait((uint32_t *)&t->word, seen, ferry__look_again_at(ctx));
        atomic_store(&t->sleeping, 0);
    }
}

static FERRY__NOINLINE int park_thread(struct ferry__waiter *w, struct ferry__ctx *ctx,
                                       const char *what, int64_t deadline, unsigned flags) {
    ctx->shielded = (flags & FERRY__SHIELDED) != 0;
    ctx->wait_deadline = deadline;
    ctx->waits_for = what;
    ctx->parked = w;
    sleep_until_decided(ctx, w);
    ctx->parked = NULL;
    ctx->waits_for = NULL;
    FERRY__POINT(park_over);
    int outcome = atomic_load_explicit(&w->outcome, memory_order_acquire);
    return outcome == FERRY__GRANTED ? 0 : ferry__park_refused(ctx, outcome);
}

int ferry__park_refused(struct ferry__ctx *ctx, int outcome) {
    int code = outcome == FERRY__CANCELED ? -ECANCELED : -ETIMEDOUT;
    ferry__error_set(ctx, code, NULL);
    return code;
}

int ferry__park(struct ferry__waiter *w, const char *what, int64_t deadline, unsigned flags) {
    struct ferry__ctx *ctx = w->ctx;
    if (ctx->kind == FERRY__TASK)
        return ferry__park_task(w, ctx, what, deadline, flags);
    return park_thread(w, ctx, what, deadline, flags);
}

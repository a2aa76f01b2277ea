/* The records that the parts of libferry share, and what each part offers the others.
 *
 * Who may touch what. A context (struct ferry__ctx) stands for whoever runs and waits: a task, a
 * job or a thread. Its "owner side" is the only one to read or write its fields, unless they are
 * marked atomic: for a task that is its loop's thread, for a job and a thread the thread itself.
 * Other threads never reach in: they set the atomic request and kick the context, which then looks
 * for itself.
 *
 * Lock order, outermost first; no lock is held across a call-out:
 *     pool or strand  >  future  >  watch (several handles at once)
 *     group           >  future
 *     one primitive's inner lock stands alone, or with that of a wait for several things inside
 *     (line.h).
 * A waiter is claimed under the lock of what it waits for, and woken after that lock was
 * dropped. */
#ifndef FERRY__CORE_H
#define FERRY__CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <ferry.h>

#include "alloc.h"
#include "bell.h"
#include "cache.h"
#include "clock.h"
#include "context.h"
#include "lock.h"
#include "point.h"
#include "spin.h"
#include "stack.h"

#define FERRY__NAME_MAX 32
#define FERRY__NOINLINE __attribute__((noinline))
#define ferry__container(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct ferry__ctx;
struct ferry__thread;
struct ferry__task;
struct ferry__job;
struct ferry__waiter;

/* ---- error.c: what went wrong, in words ------------------------------------------------------ */

/* Immutable once made; travels by reference count. */
struct ferry__detail {
    _Atomic int refs; /* < 0: static, never freed */
    size_t n_errors;
    ferry_error *errors; /* of a group: an own copy, with its strings and causes */
    const char *text;
};

struct ferry__detail *ferry__detail_ref(struct ferry__detail *detail);
void ferry__detail_drop(struct ferry__detail *detail);
static inline void ferry__detail_unref(struct ferry__detail *detail) {
    if (detail)
        ferry__detail_drop(detail);
}
/* A copy of n errors and a summary of them; NULL when out of memory. Takes over the details in
 * `causes`. */
struct ferry__detail *ferry__detail_group(const ferry_error *errors, size_t n, size_t lost);
/* The current context's last error becomes (code, detail); takes over the reference; detail may
 * be NULL. */
void ferry__error_set(struct ferry__ctx *ctx, int64_t code, struct ferry__detail *detail);
/* Sets a static text and returns the code. */
int64_t ferry__error_say(struct ferry__ctx *ctx, int64_t code, struct ferry__detail *fixed);
/* The detail that belongs to `code`, taken out of the context; NULL when its last error was
 * another one. */
struct ferry__detail *ferry__error_take(struct ferry__ctx *ctx, int64_t code);
const char *ferry__detail_words(const struct ferry__detail *detail, int64_t code);

#define FERRY__STATIC_DETAIL(words) {.refs = -1, .text = (words)}

/* ---- log.c ----------------------------------------------------------------------------------- */

void ferry__log(int level, const char *fmt, ...) FERRY_PRINTF(2, 3);

/* ---- debug.c: handles that were lost --------------------------------------------------------- */

extern _Atomic int ferry__debug_wanted; /* -1: the environment wasn't looked at */
void ferry__debug_made(ferry_future *f); /* as long as that isn't 0; it has a name */
void ferry__debug_name(ferry_future *f, const char *name); /* another one, which it owns */
void ferry__debug_ended(ferry_future *f);
void ferry__debug_forked(void); /* in the child of a fork */

/* ---- fork.c ---------------------------------------------------------------------------------- */

/* One more in each child of a fork: what was made by another generation has no threads here. */
extern _Atomic uint32_t ferry__generation;
/* Whether what was made in that generation is the parent's: this is the child of a fork. */
static inline bool ferry__forked(uint32_t generation) {
    return generation != atomic_load_explicit(&ferry__generation, memory_order_relaxed);
}
void ferry__fork_watch(void); /* makes sure that the counter is kept; idempotent */

/* ---- scope.c: who may still wait, and until when --------------------------------------------- */

enum ferry__request { FERRY__REQUEST_NONE, FERRY__REQUEST_CANCEL, FERRY__REQUEST_DEADLINE };

/* A flag that outlives its scope, for jobs that were started inside: refcounted, chained to the
 * cells of the scopes around. */
struct ferry__cell {
    _Atomic int refs;
    _Atomic int cancelled;
    struct ferry__cell *outer; /* a reference; fixed */
    struct ferry__cell *next;  /* owner side: the context's list */
    ferry_loop *loop;          /* owner side: a task's, as long as that runs; NULL */
    int spare;                 /* owner side, with a loop: counted in refs, and not given to anybody
                                * at the moment */
};

enum ferry__ctx_kind { FERRY__THREAD, FERRY__TASK, FERRY__JOB };

struct ferry__ctx {
    uint8_t kind;             /* enum ferry__ctx_kind; fixed */
    bool ended;               /* ferry__ctx_end() was called */
    bool untold;              /* a cancelled group's members may not know yet:
                               * ferry__scope_tell() */
    bool shielded;            /* of the current wait: only a grant or its own deadline end it */
    _Atomic int asked;        /* atomic: some scope, or the job, may have been asked to stop:
                               * look */
    int budget;               /* calls left before one must let others run or read the clock */
    unsigned round;           /* how often the budget was used up */
    int64_t next_deadline;    /* not later than the earliest deadline in the chain of scopes that
                               * hasn't led to a request yet, also beyond shields: members of groups
                               * out there are told */
    struct ferry_scope *top;  /* innermost open scope */
    struct ferry_scope root;  /* where a cancel of the handle lands */
    struct ferry__waiter *parked;
    int64_t wait_deadline;
    const char *waits_for;    /* there until the wait is decided: report.c */
    int64_t since;            /* loop time or clock when the wait began */
    ferry_loop *loop;         /* task: its loop; job: the one that it was submitted from, or NULL */
    union {
        struct ferry__thread *thread; /* job, thread: whose */
        void *starter;        /* task: group.c: who waits for ferry_ready() */
    };
    ferry_future *self;       /* the handle of the task or job */
    struct ferry__cell *cells; /* of its open scopes: freed at the end without looking at the
                                * scopes */
    struct ferry__group_core *groups; /* group.c: open ones, innermost first */
    ferry_mutex *held;        /* mutexes that it holds */
    ferry_rwlock *written;    /* rwlocks that it holds to write */
    struct ferry__deferred *deferred; /* defer.c: clean-up, the latest first */
    struct ferry__values *values;     /* local.c: the latest first; a reference */
    int64_t error;            /* the last one */
    struct ferry__detail *detail;
};

/* A job's context: what it has from the scope that it was started in. */
struct ferry__heir {
    struct ferry__ctx ctx;         /* first */
    struct ferry__cell *inherited; /* the flag of that scope; NULL */
    struct ferry__heir *next, *prev; /* of scope.c's list, under its lock */
    uint32_t listens; /* the generation in which it got on that list; 0: never */
    uint32_t calm;    /* as long as this is ferry__scope_cancels, `inherited` can't have been set */
    bool is_runner;   /* the job's record says who runs it */
};
/* NULL for a task or a thread, which inherit nothing. */
static inline struct ferry__heir *ferry__heir_of(struct ferry__ctx *ctx) {
    return ctx->kind == FERRY__JOB ? ferry__container(ctx, struct ferry__heir, ctx) : NULL;
}

/* The state of a scope. */
enum { FERRY__SCOPE_FRESH, FERRY__SCOPE_OPEN = 0x0a5c09e1, FERRY__SCOPE_CLOSED = 0x0c105ed0 };

/* Calls that never had to wait before one is made to let others run (and look at the clock). */
#define FERRY__BUDGET 128

void ferry__ctx_init(struct ferry__ctx *ctx, enum ferry__ctx_kind kind);
/* The same of a record that is zero. */
static inline void ferry__ctx_begin(struct ferry__ctx *ctx, enum ferry__ctx_kind kind) {
    ctx->kind = (uint8_t)kind;
    ctx->budget = FERRY__BUDGET;
    ctx->round = 1;
    ctx->next_deadline = FERRY__NEVER;
    ctx->root.deadline = FERRY__NEVER;
    ctx->root.saved = FERRY__NEVER;
    ctx->root.state = FERRY__SCOPE_OPEN;
    ctx->root.ctx = ctx;
    ctx->top = &ctx->root;
}
/* At the end of what it stands for: scopes and groups left open are torn down, held mutexes
 * passed on. May wait. */
void ferry__ctx_end(struct ferry__ctx *ctx);

/* Looks at the chain of scopes: marks those whose time is over, and returns whether the
 * innermost region is cancelled. Owner side. */
bool ferry__scope_look(struct ferry__ctx *ctx, int64_t now);
/* Tells the members of groups that are cancelled, by themselves or from around. Owner side; a
 * call-out. */
void ferry__scope_tell(struct ferry__ctx *ctx);
/* Whether the innermost region is cancelled by now; members of groups are told. Owner side; a
 * call-out. */
static inline bool ferry__region_cancelled(struct ferry__ctx *ctx) {
    bool cancelled = ferry__scope_look(ctx, ferry__now());
    ferry__scope_tell(ctx);
    return cancelled;
}
/* Makes a context look at itself after a request. Any thread. */
void ferry__ctx_kick(struct ferry__ctx *ctx);
/* The flag of the current region, for a job started here: it belongs to the region, as
 * ctx->top->cell. NULL: out of memory. Owner side. */
struct ferry__cell *ferry__scope_cell(struct ferry__ctx *ctx);
struct ferry__cell *ferry__cell_ref(struct ferry__cell *cell); /* NULL too */
void ferry__cell_unref(struct ferry__cell *cell);
/* The same on the owner side, and for a job on the thread of the loop where it was submitted:
 * mostly without an atomic operation, by the references in reserve (scope.c). */
enum { FERRY__CELL_SPARE = 16 };
void ferry__cell_ref_slow(struct ferry__cell *cell);
void ferry__cell_unref_slow(struct ferry__cell *cell, const ferry_loop *loop);
static inline void ferry__cell_ref_here(struct ferry__cell *cell) {
    if (cell->spare > 0)
        cell->spare--;
    else
        ferry__cell_ref_slow(cell);
}
static inline void ferry__cell_unref_here(struct ferry__cell *cell, const ferry_loop *loop) {
    if (cell->loop == loop && cell->spare < 2 * FERRY__CELL_SPARE)
        cell->spare++;
    else
        ferry__cell_unref_slow(cell, loop);
}
/* On a loop's thread: a task that is being made there has one that was kept. One whose record goes
 * leaves its own, to be kept there if nobody else has it; elsewhere `cache` is NULL. */
void ferry__cell_adopt(struct ferry__ctx *ctx, struct ferry__cache *cache);
void ferry__cell_leave(struct ferry__cell *cell, struct ferry__cache *cache);
/* It, or one around it. Any thread. */
static inline bool ferry__cell_cancelled(const struct ferry__cell *cell) {
    for (; cell; cell = cell->outer)
        if (atomic_load_explicit(&cell->cancelled, memory_order_acquire))
            return true;
    return false;
}
/* Counted up after each flag that is set: who has seen that a region isn't cancelled, and knows
 * the count of before, needn't look at its flags while that is the same. */
extern _Atomic uint32_t ferry__scope_cancels;
/* The earliest deadline that counts for the current region, absolute. Owner side. */
int64_t ferry__scope_deadline(struct ferry__ctx *ctx);
/* Before a job sleeps: who cancels it, or sets a flag that it inherited, kicks its thread. Owner
 * side; once will do. */
void ferry__scope_listen(struct ferry__ctx *ctx);
/* Sets the request of a scope (first one stays). Any thread. Returns whether this call set it. */
bool ferry__scope_request(struct ferry_scope *scope, int request);
/* The same, and its context is told, unless the request was set before. Any thread. */
void ferry__scope_stop(struct ferry_scope *scope, int request);
/* Waits until nobody who has set its request is about to tell its context: then both may go. Owner
 * side, and the request is set, or nobody sets it any more. */
void ferry__scope_settle(const struct ferry_scope *scope);

int ferry__enter_slow(struct ferry__ctx *ctx);

/* Every call that may wait begins with this: 0, or -ECANCELED. A task that never has to wait is
 * made to let others run from time to time. */
static inline int ferry__enter(struct ferry__ctx *ctx) {
    if (atomic_load_explicit(&ctx->asked, memory_order_relaxed) == 0 && --ctx->budget > 0)
        return 0;
    return ferry__enter_slow(ctx);
}

/* ---- defer.c, local.c ------------------------------------------------------------------------ */

/* Calls what was deferred in `scope`, which is still open; NULL: all that is left. Owner side;
 * may wait. */
void ferry__defer_call(struct ferry__ctx *ctx, const ferry_scope *scope);

struct ferry__values *ferry__values_ref(struct ferry__values *values);
void ferry__values_drop(struct ferry__values *values);
static inline void ferry__values_unref(struct ferry__values *values) {
    if (values)
        ferry__values_drop(values);
}

/* ---- park.c: the one way to wait ------------------------------------------------------------- */

enum ferry__outcome { FERRY__WAITING, FERRY__GRANTED, FERRY__CANCELED, FERRY__TIMEDOUT };

struct ferry__waiter {
    struct ferry__waiter *next, *prev; /* while listed: the line that it stands in; under the lock
                                        * of what it waits for */
    bool listed;                       /* same lock */
    _Atomic int outcome;               /* written once */
    _Atomic int woken;                 /* a thread's: the granter's last write to this record */
    struct ferry__ctx *ctx;
    struct ferry__thread *thread;      /* NULL for a task */
    ferry_loop *pinned;                /* granter's, from claim to wake */
    struct ferry__waiter *wake_next;   /* granter's, from claim to wake */
    void *item;                        /* what is handed over: set before the wake, under the
                                        * lock */
    int64_t value;
};

struct ferry__line { /* the waiters of a primitive, first come first served */
    struct ferry__waiter *first, *last;
};

void ferry__line_append(void **first, void **last, struct ferry__waiter *w);
/* no-op when not listed */
void ferry__line_remove(void **first, void **last, struct ferry__waiter *w);

/* who runs now; NULL when out of memory for a thread's record */
struct ferry__ctx *ferry__ctx_self(void);
/* How a call that may wait begins: who runs now, in *ctx, and 0 or -ECANCELED. -ENOMEM: *ctx is
 * NULL. */
static inline int ferry__enter_self(struct ferry__ctx **ctx) {
    *ctx = ferry__ctx_self();
    return *ctx ? ferry__enter(*ctx) : -ENOMEM;
}
static inline void ferry__waiter_init(struct ferry__waiter *w, struct ferry__ctx *ctx) {
    w->listed = false;
    atomic_init(&w->outcome, FERRY__WAITING);
    atomic_init(&w->woken, 0);
    w->ctx = ctx;
    w->thread = ctx->kind == FERRY__TASK ? NULL : ctx->thread;
    w->item = NULL;
    w->value = 0;
}
/* False on a loop's thread outside a task, and in a task that has forked, in the child. Owner
 * side; any locks may be held. */
bool ferry__may_park(const struct ferry__ctx *ctx);
/* 0, or -EDEADLK or FERRY_EFORKED where it may not, which is recorded as the error (no inner
 * lock may be held then). Owner side. */
int ferry__can_park(struct ferry__ctx *ctx);

/* Grants: true when this is the first to decide; the waiter then must be woken, after the lock
 * is dropped. Under the lock of what it waits for. Any thread. */
bool ferry__claim(struct ferry__waiter *w);
void ferry__wake(struct ferry__waiter *w);

struct ferry__link;
struct ferry__wakes { /* waiters claimed and not yet woken; links whose `after` is to be called */
    struct ferry__waiter *first, *last;
    struct ferry__link *later_first, *later_last;
};
void ferry__wakes_add(struct ferry__wakes *wakes, struct ferry__waiter *w);
/* the waiters only: future.c calls the links' `after` */
void ferry__wake_all(struct ferry__wakes *wakes);

enum {
    FERRY__SHIELDED = 1,
    FERRY__OWNED = 2 /* of futures: the waiter cancels what it waits for when it is cancelled
                      * itself */
};
/* Waits until w is granted (0), the current region is cancelled (-ECANCELED; not when shielded),
 * or `deadline` has passed (-ETIMEDOUT). After an error the caller takes w out of its line,
 * under the lock. The context must be able to park. */
int ferry__park(struct ferry__waiter *w, const char *what, int64_t deadline, unsigned flags);

/* Ends the wait of a context when there is reason to: owner side; after a request or a timer. */
void ferry__poke(struct ferry__ctx *ctx, int64_t now);
/* When a parked context must look again by itself. Owner side. */
static inline int64_t ferry__look_again_at(const struct ferry__ctx *ctx) {
    return ctx->wait_deadline < ctx->next_deadline ? ctx->wait_deadline : ctx->next_deadline;
}

/* A thread that Ferry has seen. The records are never freed but used again, so that a late
 * wake-up always hits one: at worst it makes another thread look once more. */
struct ferry__thread {
    _Atomic uint32_t word;      /* atomic: counted up when there is something to look at */
    _Atomic int sleeping;       /* atomic */
    struct ferry__bell bell;    /* for ferry_poll() from a thread; made by it, kept with the
                                 * record */
    _Atomic int polling;        /* atomic: sleeping in poll(), to be woken by the bell */
    struct ferry__ctx ctx;
    struct ferry__ctx *current; /* own: the task, job or thread that runs now */
    ferry_loop *_Atomic loop;   /* under ferry__bound_lock, or read by its thread: the loop bound
                                 * to it last, or NULL */
    struct ferry__worker *worker; /* own: of a pool; NULL */
    pthread_t pthread;          /* fixed, as long as it lives */
    ferry_loop *client;         /* own: of a pool's thread: the loop that it works for; a reference.
                                 * NULL */
    struct ferry__cache cache;  /* own */
    struct ferry__thread *next; /* under the list's lock */
};

struct ferry__thread *ferry__thread_self(void);  /* NULL: out of memory */
struct ferry__thread *ferry__thread_known(void); /* NULL: not seen before. Async-signal-safe */
/* in the child of a fork: the other threads are gone */
void ferry__thread_forked(void);
void ferry__thread_kick(struct ferry__thread *thread); /* look again; any thread */

/* ---- future.c -------------------------------------------------------------------------------- */

enum ferry__kind {
    FERRY__IS_TASK,
    FERRY__IS_JOB,
    FERRY__IS_PROMISE,
    FERRY__IS_SHIELD,
    FERRY__IS_FIXED
};

/* Work handed to a loop from outside; lives in whoever it concerns. */
struct ferry__item {
    struct ferry__item *next;
    void (*run)(ferry_loop *loop, struct ferry__item *item); /* on the loop's thread */
    const void *ahead; /* a hint: what stands further down in the inbox, if it hasn't gone yet.
                        * NULL */
    void (*drop)(struct ferry__item *item); /* the loop was closed with it inside; NULL: nothing to
                                             * do */
};

/* Somebody who wants to know when a future is done. */
struct ferry__link {
    struct ferry__link *next, *prev; /* under the future's lock */
    bool listed;                     /* under the future's lock */
    /* Called once, with the future's lock held, in the order of registration: may claim one
     * waiter and put it on `wakes` (ferry__wakes_add), or ask for `after` (ferry__wakes_later). */
    void (*notify)(struct ferry__link *link, ferry_future *future, struct ferry__wakes *wakes);
    /* Called without locks once the waiters are woken; the link is this function's from the
     * notify on, and it may free it. */
    void (*after)(struct ferry__link *link, ferry_future *future);
};

/* What a handle has come to: bits. Those but DONE are of a job's that has a home. */
enum {
    FERRY__DONE = 1,    /* for good; set after result and detail */
    FERRY__AT_HOME = 2, /* home is to be told: somebody waits there */
    FERRY__CALLS = 4,   /* home is to call the job's own callback; with AT_HOME */
    FERRY__ABROAD = 8   /* before it was done others came on the list, too. Set under lock */
};

struct ferry_future {
    _Atomic uint32_t refs;
    unsigned lock;
    uint8_t kind;            /* enum ferry__kind; fixed */
    _Atomic bool read;       /* atomic: its error was seen by somebody */
    _Atomic bool delivered;  /* atomic: the out-parameters were written */
    _Atomic uint8_t state;   /* atomic: see above */
    bool telling;            /* under lock: done, and the list is being told */
    bool plain;              /* fixed: a task, a plain job (executor.h): a success has a result
                              * only */
    bool named;              /* fixed: the name is a copy of its own */
    bool dated;              /* fixed: a job with a deadline */
    int64_t result;          /* before done */
    struct ferry__waiter *waiters; /* home's thread: tasks of it; the first one's prev is the
                                    * last */
    struct ferry__item item; /* a job on its way home, to be told of or freed; a task that another
                              * thread starts or wakes, one grant at a time. As far as here it is a
                              * cache line */
    struct ferry__link *first, *last; /* under lock: the list of all others */
    struct ferry__detail *detail; /* before done */
    ferry_loop *home;        /* fixed: the loop of a job's submitter, which the job holds; NULL */
    struct ferry__member *member;     /* group.c; set before the start */
    struct ferry__origin *origin;     /* debug.c: where it was made; NULL */
    const char *name;                 /* fixed */
    uint32_t generation;     /* fixed */
};

void ferry__wakes_later(struct ferry__wakes *wakes, struct ferry__link *link); /* inside a notify */
/* All of its fields. `name` is copied (a lack of memory for that costs the name); NULL: it is
 * called `otherwise`, a string that stays. */
void ferry__future_init(ferry_future *f, enum ferry__kind kind, const char *name,
                        const char *otherwise);
/* The same for a record that was the handle of another plain job until its end, and isn't in
 * debug.c's list: only what differs, with the references of the user and the running side. */
static inline void ferry__future_again(ferry_future *f, ferry_loop *home,
                                       struct ferry__member *member) {
    atomic_store_explicit(&f->refs, 2, memory_order_relaxed);
    atomic_store_explicit(&f->read, false, memory_order_relaxed);
    atomic_store_explicit(&f->delivered, false, memory_order_relaxed);
    atomic_store_explicit(&f->state, member ? FERRY__ABROAD : 0, memory_order_relaxed);
    f->telling = false;
    f->waiters = NULL;
    f->first = f->last = NULL;
    f->detail = NULL;
    f->home = home;
    f->member = member;
    f->generation = atomic_load_explicit(&ferry__generation, memory_order_relaxed);
}
/* Names it: the name is copied, a lack of memory costs it. */
void ferry__future_name(ferry_future *f, const char *name);
/* ferry__future_init() of a record that is zero. */
static inline void ferry__future_begin(ferry_future *f, enum ferry__kind kind, const char *name,
                                       const char *otherwise) {
    atomic_init(&f->refs, 1);
    f->kind = (uint8_t)kind;
    f->generation = atomic_load_explicit(&ferry__generation, memory_order_relaxed);
    f->name = otherwise;
    if (name)
        ferry__future_name(f, name);
    if (atomic_load_explicit(&ferry__debug_wanted, memory_order_relaxed) != 0)
        ferry__debug_made(f);
}
void ferry__future_unref(ferry_future *f);
/* promise.c, shield.c: the same calls as for any handle, and the end of the record. */
int ferry__promise_cancel(ferry_future *f);
void ferry__promise_destroy(ferry_future *f);
int ferry__shield_cancel(ferry_future *f);
/* returns what it shielded: a reference to give back */
ferry_future *ferry__shield_destroy(ferry_future *f);
/* Whose result a handle that is done has: that of what it shields, through any number of
 * shields. */
ferry_future *ferry__shield_source(ferry_future *f);
/* A future that is done from birth; NULL when out of memory. Takes over `detail`. */
ferry_future *ferry__future_fixed(int64_t result, struct ferry__detail *detail);
/* Decides it, once; false when it was decided before (detail is dropped then). Any thread. */
bool ferry__future_complete(ferry_future *f, int64_t result, struct ferry__detail *detail);
/* The same for a job's thread, and a job that has a home: when only home has to do with it the rest
 * is left to that. *left is true then, and ferry__future_tell_home() to be called next on home's
 * thread. The caller holds the handle and the loop until that is certain. */
bool ferry__future_decide_slow(ferry_future *f, int64_t result, struct ferry__detail *detail,
                               bool *left);
/* With the lock, or nobody else may complete it. False: it isn't so, or no longer. */
static inline bool ferry__future_decide_here(ferry_future *f, int64_t result,
                                             struct ferry__detail *detail, bool *left) {
    uint8_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
    if (state & (FERRY__DONE | FERRY__ABROAD))
        return false;
    f->result = result;
    if (detail)
        f->detail = detail;
    FERRY__POINT(future_decide);
    while (!atomic_compare_exchange_weak_explicit(&f->state, &state, state | FERRY__DONE,
                                                  memory_order_acq_rel, memory_order_relaxed))
        if (state & FERRY__ABROAD)
            return false;
    *left = state & FERRY__AT_HOME;
    return true;
}
static inline bool ferry__future_decide(ferry_future *f, int64_t result,
                                        struct ferry__detail *detail, bool *left) {
    return (f->plain && ferry__future_decide_here(f, result, detail, left)) ||
           ferry__future_decide_slow(f, result, detail, left);
}
/* Tells those at home. Takes over a reference. Home's thread, inside a turn. */
void ferry__future_tell_home(ferry_future *f, ferry_loop *home);
/* Instead, when home is closed: nobody there waits any more. The same reference. */
void ferry__future_drop_home(ferry_future *f);
/* Registers; false, and nothing done, when the future is done. */
bool ferry__future_link(ferry_future *f, struct ferry__link *link);
/* The same, but when those on the list are being told it is told behind them. */
bool ferry__future_link_in_turn(ferry_future *f, struct ferry__link *link);
/* Takes back; false when it was notified already. */
bool ferry__future_unlink(ferry_future *f, struct ferry__link *link);
/* What an await on a done future does: the result in the words of the awaiter
 * (FERRY_EJOBCANCELED), delivery, detail into ctx's error. The reference is not given back. */
int64_t ferry__future_take(ferry_future *f, struct ferry__ctx *ctx);
/* Waits for the end without any reaction to it: 0, -ECANCELED, -ETIMEDOUT, -EDEADLK,
 * FERRY_EFORKED. */
int ferry__future_observe(ferry_future *f, struct ferry__ctx *ctx, int64_t deadline,
                          unsigned flags);
/* From here on home is to be told; false when one of the bits `refusing` is set. Home's thread. */
static inline bool ferry__future_ask_home(ferry_future *f, uint8_t bits, uint8_t refusing) {
    uint8_t state = atomic_load_explicit(&f->state, memory_order_acquire);
    do {
        if (state & refusing)
            return false;
        if ((state & bits) == bits)
            return true;
    } while (!atomic_compare_exchange_weak_explicit(&f->state, &state, state | bits,
                                                    memory_order_acq_rel, memory_order_acquire));
    return true;
}
extern struct ferry__detail ferry__say_no_handle; /* NULL instead of one: out of memory before */
static inline bool ferry__future_done(const ferry_future *f) {
    return (atomic_load_explicit(&f->state, memory_order_acquire) & FERRY__DONE) != 0;
}

/* By whoever alone has to do with it: result and detail were written. */
static inline void ferry__future_set_done(ferry_future *f) {
    atomic_store_explicit(&f->state, FERRY__DONE, memory_order_release);
}

/* then.c: its callback will never be called, which is logged. */
void ferry__then_dropped(const ferry_future *f);

/* group.c: a member has ended; called once, after the future was decided, without locks, before
 * its own waiters run. */
void ferry__group_member_done(struct ferry__member *member, ferry_future *f);
/* A cancelled group tells its members, those who weren't told yet. Any thread. */
/* what members touch: on the heap, since the owner's frame may die first */
struct ferry__group_core;
void ferry__group_tell(struct ferry__group_core *core);
/* Before the scope of a group that has members, or may get some, leaves its owner's chain. Owner
 * side. */
void ferry__group_part(struct ferry__group_core *core);
/* Tears down a group that its owner left without closing it: members are cancelled and joined.
 * May wait. */
void ferry__group_abandon(struct ferry__group_core *core);
void ferry__group_abandon_all(struct ferry__ctx *ctx);

/* ---- task.c ---------------------------------------------------------------------------------- */

struct ferry__timer { /* in a loop's heap; loop thread only */
    int64_t at;
    uint64_t turn;  /* equal times fire in the order of arming */
    size_t index;   /* 1 + place in the heap; 0: not armed */
};

enum ferry__task_state {
    FERRY__TASK_NEW,
    FERRY__TASK_READY, /* it gave way to the others */
    FERRY__TASK_WOKEN, /* ready again after it was parked */
    FERRY__TASK_RUNNING,
    FERRY__TASK_PARKED,
    FERRY__TASK_ENDED
};

struct ferry__task {
    ferry_future future;     /* first */
    struct ferry__ctx ctx;
#if !FERRY__CONTEXT_ON_STACK
    ferry__context context;
#endif
    /* From here on: loop thread only, unless marked. */
    struct ferry__stack *stack; /* NULL until it runs */
    struct ferry__waiter *awaiter; /* a task of the same loop that waits for its end; told before
                                    * all links */
    uint8_t state;              /* enum ferry__task_state */
    bool listed_here : 1;       /* the loop's own thread has put a link on its handle's list */
    bool added : 1;             /* the loop has it: it ends there, and nowhere else */
    bool drains : 1;            /* background.c: a soft shutdown lets it end; set before the
                                 * start */
    bool owned : 1;             /* the awaiter gives its reference back when it has seen the end */
    bool alone : 1;             /* it has ended, and only its awaiter has to do with the handle */
    _Atomic bool kicked;        /* atomic: kick_item is on its way; it holds a reference */
    uint32_t stack_kib;         /* wanted of its stack; 0: the usual size. The last that begins as
                                 * 0 */
    ferry_fn fn;
    void *arg;
    void (*arg_free)(void *arg);
    struct ferry__task *ready_next;
    struct ferry__task *next, *prev; /* all tasks of the loop */
    struct ferry__timer timer;
    struct ferry__item kick_item;
    int64_t born;
};

void ferry__task_cancel(struct ferry__task *task); /* any thread */
void ferry__task_kick(struct ferry__task *task);   /* look at yourself; any thread */
void ferry__task_ready(struct ferry__task *task);  /* any thread; it was claimed */
struct ferry__task *ferry__task_new(ferry_loop *loop, ferry_fn fn, void *arg,
                                    const ferry_task_options *options);
/* takes its stack: 0, -ENOMEM, -EINVAL. Loop thread, or before it runs */
int ferry__task_reserve(struct ferry__task *task);
/* Hands a new task to its loop; 0, or FERRY_ECLOSED: it is unchanged then. Any thread. */
int ferry__task_start(struct ferry__task *task);
void ferry__task_destroy(struct ferry__task *task); /* future.c, at the last reference */
/* gives the thread away until somebody resumes it */
void ferry__task_suspend(struct ferry__task *task);
void ferry__task_yield(struct ferry__task *task);   /* to the end of the ready line */
/* a deadline of a parked task was moved; loop thread */
void ferry__task_rearm(struct ferry__task *task);

#include "loop_core.h"

/* ---- executor.c, submit.c, job.c: see executor.h --------------------------------------------- */

/* What an await does for a job, on its worker: runs `f` itself, when that is a job queued in the
 * same full pool or strand (true: look again); else the pool may grow by one from blocked to
 * unblocked. Only for who owns `f` (would cancel it when cancelled), and waits for it until
 * `deadline`. */
bool ferry__worker_help(struct ferry__ctx *ctx, ferry_future *f, int64_t deadline);
void ferry__worker_blocked(struct ferry__ctx *ctx);
void ferry__worker_unblocked(struct ferry__ctx *ctx);

/* Calls the thread that jobs of this turn need. Loop thread. */
void ferry__executor_owed(ferry_loop *loop);
int ferry__job_cancel(ferry_future *f);
/* The job is done, and not by decide: sends it to its home, to be told there. */
void ferry__job_send_home(ferry_future *f);
void ferry__job_destroy(ferry_future *f); /* future.c, at the last reference */
void ferry__job_deliver(ferry_future *f, int64_t result);
/* On its thread, before fn sleeps: who cancels the job kicks the thread from now on. */
void ferry__job_listen(struct ferry__heir *heir);
/* What scope.c asks for on behalf of a job that runs: enum ferry__request. */
int ferry__job_request(const ferry_future *f);
/* ferry_submit_with() for a member of a group; `member` is set before the job can end. */
ferry_future *ferry__submit_member(ferry_executor *executor, ferry_fn fn, void *arg,
                                   const ferry_job_options *options, struct ferry__member *member);

/* ---- service.c: one thread for late timers and signals, made when first needed --------------- */

struct ferry__service_timer;
/* Calls fn(arg) on the service thread after `deadline`; NULL: out of memory, or no thread. */
struct ferry__service_timer *ferry__service_at(int64_t deadline, void (*fn)(void *arg), void *arg);
/* The same in two steps: a record for a timer that is set again and again; NULL: out of memory.
 * Set, it calls fn(arg) once; one that is set already is moved. Returns 0, or -EAGAIN: no
 * thread, and it isn't set. Any thread, fn too. */
struct ferry__service_timer *ferry__service_new(void (*fn)(void *arg), void *arg);
int ferry__service_set(struct ferry__service_timer *timer, int64_t deadline);
/* Takes it back and frees the record; true when fn will not run (any more). Waits for a running
 * fn. */
bool ferry__service_cancel(struct ferry__service_timer *timer);

/* mutex.c: whoever held these has ended. */
void ferry__mutex_orphan(struct ferry__ctx *ctx);
/* For a condition: whether ctx holds it; takes it again, whatever has been cancelled: 0 or
 * -EOWNERDEAD. */
bool ferry__mutex_held(const ferry_mutex *mutex, const struct ferry__ctx *ctx);
int ferry__mutex_relock(ferry_mutex *mutex, struct ferry__ctx *ctx);
/* For a condition: waiters that were claimed and not woken join the line of the mutex, which the
 * caller holds. Each is woken when it owns the mutex; then it calls the second, which returns as
 * relock does. */
void ferry__mutex_queue(ferry_mutex *mutex, struct ferry__wakes *granted);
int ferry__mutex_handed(ferry_mutex *mutex, const struct ferry__waiter *w);

/* rwlock.c: whoever held these to write has ended. */
void ferry__rwlock_orphan(struct ferry__ctx *ctx);

/* stream.c: stops the streams that were made on the loop and aren't closed, and waits until
 * their producers have ended or `deadline` has passed. Returns how many jobs are left; they are
 * logged. */
size_t ferry__streams_end(ferry_loop *loop, struct ferry__ctx *ctx, int64_t deadline);

/* report.c: who waits for what, one line a task, to the log. */
void ferry__loop_report(ferry_loop *loop, const char *why);
/* Before a string is freed that a wait was described by: no report looks at it after this. */
void ferry__report_over(void);

#endif

/* Groups: a scope that owns tasks and jobs and ends only when they all have.
 *
 *     fresh -> open -> closed     struct ferry_group, the caller's: by ferry_group_close(), or
 *                                 behind its back, when its owner ends or leaves a scope around it
 *
 * What members touch is the core, a record on the heap: the frame that the caller's struct
 * stands in may die before the members do (a task that returns with the group open). The core's
 * scope is what stands in the owner's chain of scopes, and ctx->groups lists the open cores,
 * innermost first. The owner finds its core only there, by the address of the caller's struct,
 * so that a group that was torn down is known as such.
 *
 * A member is RUNNING (in core->running) until its future is decided; one that failed then
 * stands in core->failed, with its future, which has the error's code, name and detail: so
 * recording an error needs no memory. A cancelled member isn't an error. Whoever starts a member
 * has inserted it before it can end, and attaches the future afterwards.
 *
 * pins counts the members that are running and the calls that are under way with the core
 * (starting a member, cancelling the group from outside): the owner's join waits until there are
 * none. A core is freed by its owner, after the last pin was given back; only when the owner
 * can't wait for that (a thread that ends as a loop's own) by the last pin.
 *
 * The first error asks the core's scope to stop, wakes the owner and tells the members, each
 * once: to_tell is the first one that wasn't told yet. From then on new members are told by
 * whoever starts them.
 *
 * Lock order: the caller's struct > core. No future's lock is taken, and nothing is cancelled,
 * woken or freed, with either of them held. */
#include "config.h"

#include <errno.h>

#include "core.h"

enum { FRESH, OPEN, CLOSED };

struct ferry__member {
    struct ferry__member *next, *prev; /* under core->lock */
    struct ferry__group_core *core;    /* fixed */
    ferry_future *future; /* under core->lock: a reference; NULL while it is being started */
    bool starting;        /* under core->lock: whoever starts it comes back to it */
    bool told;            /* under core->lock: it was cancelled with the group, or will be */
    bool ended;           /* under core->lock */
    bool failed;          /* under core->lock */
};

struct members {
    struct ferry__member *first, *last;
};

struct ferry__group_core {
    struct ferry_scope scope;
    struct ferry__group_core *outer; /* owner only: the context's list */
    const ferry_group *face;         /* fixed: the caller's struct, which may be gone: an address */
    struct ferry__ctx *owner;        /* fixed */
    uint32_t generation;             /* fixed */

    unsigned lock; /* guards what follows */
    size_t pins;
    struct ferry__waiter *waiter; /* the owner, while it joins */
    struct members running;
    struct members failed; /* in the order in which that happened */
    size_t n_failed;
    struct ferry__member *to_tell;
    struct ferry__member *to_help; /* the next one to offer to the owner's worker */
    bool told;                     /* the members were, and new ones are, told to stop */
    bool cut;                      /* a member has ended as cancelled */
    bool abandoned;                /* nobody may join any more */
    bool orphaned;                 /* the owner doesn't wait: the last pin frees the core */
};

static struct ferry__detail say_used = FERRY__STATIC_DETAIL(
    "the group was used before, or isn't initialised: set it to FERRY_GROUP_INIT for each use");
static struct ferry__detail say_not_open = FERRY__STATIC_DETAIL("the group isn't open");
static struct ferry__detail say_not_yours =
    FERRY__STATIC_DETAIL("the group isn't open, or was opened by another task, job or thread");
static struct ferry__detail say_order = FERRY__STATIC_DETAIL(
    "the group isn't the caller's innermost scope: it was torn down with what was left open "
    "inside");
static struct ferry__detail say_no_loop =
    FERRY__STATIC_DETAIL("there is no loop here to start a task on, or no function to run");
static struct ferry__detail say_closed =
    FERRY__STATIC_DETAIL("the loop was shut down: it takes no more tasks");
static struct ferry__detail say_forked = FERRY__STATIC_DETAIL(
    "the group belongs to the parent process: fork() copies no threads; open a new one in the "
    "child");
static struct ferry__detail say_unready =
    FERRY__STATIC_DETAIL("the task returned without having called ferry_ready()");
static struct ferry__detail say_not_starting = FERRY__STATIC_DETAIL(
    "ferry_ready() is for a task that ferry_group_start() waits for, once, with a value >= 0");

/* ---- The core -------------------------------------------------------------------------------- */

static void append(struct members *list, struct ferry__member *m) {
    m->next = NULL;
    m->prev = list->last;
    if (m->prev)
        m->prev->next = m;
    else
        list->first = m;
    list->last = m;
}

static void take_out(struct members *list, struct ferry__member *m) {
    if (m->prev)
        m->prev->next = m->next;
    else
        list->first = m->next;
    if (m->next)
        m->next->prev = m->prev;
    else
        list->last = m->prev;
}

static void core_free(struct ferry__group_core *core) {
    for (struct ferry__member *m = core->failed.first, *next; m; m = next) {
        next = m->next;
        ferry__future_unref(m->future);
        ferry__record_put(m, sizeof *m);
    }
    ferry__free(core);
}

static void log_failed(const struct ferry__group_core *core) {
    for (const struct ferry__member *m = core->failed.first; m; m = m->next)
        ferry__log(FERRY_LOG_ERROR, "'%s' failed in a group that nobody closed: %s",
                   m->future->name, ferry__detail_words(m->future->detail, m->future->result));
}

/* The core may be gone afterwards. */
static void unpin(struct ferry__group_core *core) {
    struct ferry__waiter *w = NULL;
    ferry__lock(&core->lock);
    bool last = --core->pins == 0;
    bool orphan = last && core->orphaned;
    if (last && core->waiter) {
        w = core->waiter;
        core->waiter = NULL;
        if (!ferry__claim(w))
            w = NULL;
    }
    ferry__unlock(&core->lock);
    if (w)
        ferry__wake(w);
    if (orphan) {
        log_failed(core);
        core_free(core);
    }
}

/* Whoever calls this keeps the core alive: the owner, or by a pin. */
void ferry__group_tell(struct ferry__group_core *core) {
    ferry__lock(&core->lock);
    core->told = true;
    for (struct ferry__member *m; (m = core->to_tell) != NULL;) {
        core->to_tell = m->next;
        if (m->told)
            continue;
        m->told = true;
        ferry_future *f = ferry_ref(m->future);
        if (!f)
            continue; /* whoever starts it will see that it is told */
        ferry__unlock(&core->lock);
        FERRY__POINT(group_tell);
        ferry_cancel(f);
        ferry__future_unref(f);
        ferry__lock(&core->lock);
    }
    ferry__unlock(&core->lock);
}

/* After an error: body and members are to stop. */
static void stop(struct ferry__group_core *core) {
    ferry__scope_stop(&core->scope, FERRY__REQUEST_CANCEL);
    FERRY__POINT(group_stop);
    ferry__group_tell(core);
}

/* ---- Open and cancel ------------------------------------------------------------------------- */

int ferry_group_open_for(ferry_group *group, int64_t timeout_ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (group->state != FRESH)
        return (int)ferry__error_say(ctx, -EINVAL, &say_used);
    struct ferry__group_core *core = ferry__calloc(1, sizeof *core);
    if (!core)
        return (int)ferry__error_say(ctx, -ENOMEM, NULL);
    core->face = group;
    core->owner = ctx;
    core->generation = atomic_load_explicit(&ferry__generation, memory_order_relaxed);
    int rc = ferry_scope_open(&core->scope, timeout_ms);
    if (rc < 0) {
        ferry__free(core);
        return rc;
    }
    core->scope.group = core;
    core->outer = ctx->groups;
    ctx->groups = core;
    ferry__lock(&group->lock);
    group->owner = ctx;
    group->core = core;
    group->state = OPEN;
    bool cancelled = group->cancelled;
    ferry__unlock(&group->lock);
    if (cancelled)
        stop(core);
    return 0;
}

int ferry_group_open(ferry_group *group) {
    return ferry_group_open_for(group, FERRY_FOREVER);
}

void ferry_group_cancel(ferry_group *group) {
    ferry__lock(&group->lock);
    struct ferry__group_core *core = group->core;
    if (core) {
        ferry__lock(&core->lock);
        core->pins++;
        ferry__unlock(&core->lock);
    } else {
        group->cancelled = true;
    }
    ferry__unlock(&group->lock);
    if (!core)
        return;
    FERRY__POINT(group_cancel);
    ferry_scope_cancel(&core->scope);
    ferry__group_tell(core);
    unpin(core);
}

/* ---- Members --------------------------------------------------------------------------------- */

static struct ferry__group_core *find_own(const struct ferry__ctx *ctx, const ferry_group *group) {
    struct ferry__group_core *core = ctx->groups;
    while (core && core->face != group)
        core = core->outer;
    return core;
}

/* Begins a call that starts something: says who calls, and pins the core. NULL: refused, for
 * *rc. */
static struct ferry__group_core *enter(ferry_group *group, struct ferry__ctx **caller, int *rc) {
    struct ferry__detail *why = &say_not_open;
    struct ferry__ctx *ctx = *caller = ferry__ctx_self();
    *rc = ctx ? -EINVAL : -ENOMEM;
    if (!ctx)
        return NULL;
    ferry__lock(&group->lock);
    struct ferry__group_core *core = group->core;
    if (core && group->owner == ctx)
        core = find_own(ctx, group); /* it may have been torn down */
    if (core && ferry__forked(core->generation)) {
        *rc = FERRY_EFORKED;
        why = &say_forked;
        core = NULL;
    }
    if (core) {
        ferry__lock(&core->lock);
        bool open = !core->abandoned;
        if (open)
            core->pins++;
        ferry__unlock(&core->lock);
        if (!open)
            core = NULL;
    }
    ferry__unlock(&group->lock);
    if (!core)
        ferry__error_say(ctx, *rc, why);
    return core;
}

/* Under the lock. */
static void join_in(struct ferry__group_core *core, struct ferry__member *m) {
    append(&core->running, m);
    core->pins++;
    m->told = core->told;
    if (!m->told && !core->to_tell)
        core->to_tell = m;
    if (!core->to_help)
        core->to_help = m;
}

/* Under the lock; the pin is left. */
static void leave(struct ferry__group_core *core, struct ferry__member *m) {
    if (core->to_tell == m)
        core->to_tell = m->next;
    if (core->to_help == m)
        core->to_help = m->next;
    take_out(&core->running, m);
}

/* A member that is about to be started; NULL: out of memory. */
static struct ferry__member *member_new(struct ferry__group_core *core) {
    struct ferry__member *m = ferry__record_get(sizeof *m);
    if (!m)
        return NULL;
    *m = (struct ferry__member){.core = core, .starting = true};
    ferry__lock(&core->lock);
    join_in(core, m);
    ferry__unlock(&core->lock);
    return m;
}

/* It could not be started. */
static void member_withdraw(struct ferry__group_core *core, struct ferry__member *m) {
    ferry__lock(&core->lock);
    leave(core, m);
    ferry__unlock(&core->lock);
    ferry__record_put(m, sizeof *m);
    unpin(core);
}

/* It was started, and may have ended since. Takes over the reference on `f`, or gives it to
 * *handle. */
static void member_attach(struct ferry__group_core *core, struct ferry__member *m, ferry_future *f,
                          ferry_future **handle) {
    FERRY__POINT(group_attach);
    ferry__lock(&core->lock);
    m->starting = false;
    bool ended = m->ended, told = m->told, failed = m->failed;
    if (!ended)
        m->future = ferry_ref(f);
    ferry__unlock(&core->lock);
    if (ended && !failed)
        ferry__record_put(m, sizeof *m);
    if (told && !ended)
        ferry_cancel(f);
    if (handle)
        *handle = f;
    else
        ferry__future_unref(f);
}

void ferry__group_member_done(struct ferry__member *m, ferry_future *f) {
    struct ferry__group_core *core = m->core;
    bool failed = f->result < 0 && f->result != -ECANCELED;
    FERRY__POINT(group_member_done);
    ferry__lock(&core->lock);
    leave(core, m);
    m->ended = true;
    m->failed = failed;
    bool starting = m->starting;
    ferry_future *let_go = NULL;
    if (failed) {
        if (!m->future)
            m->future = ferry_ref(f);
        append(&core->failed, m);
        core->n_failed++;
    } else {
        core->cut |= f->result < 0;
        let_go = m->future;
    }
    ferry__unlock(&core->lock);
    if (failed)
        stop(core);
    else if (!starting)
        ferry__record_put(m, sizeof *m);
    if (let_go)
        ferry__future_unref(let_go);
    unpin(core);
}

/* The argument of what couldn't be started stays the caller's. */
static int start_failed(struct ferry__ctx *ctx, int rc) {
    return (int)ferry__error_say(ctx, rc, rc == FERRY_ECLOSED ? &say_closed : NULL);
}

static int spawn(struct ferry__group_core *core, struct ferry__ctx *ctx, ferry_fn fn, void *arg,
                 const ferry_task_options *options, ferry_future **handle) {
    ferry_loop *loop = ferry__loop_of(ctx);
    if (!loop || !fn)
        return (int)ferry__error_say(ctx, -EINVAL, &say_no_loop);
    struct ferry__task *task = ferry__task_new(loop, fn, arg, options);
    struct ferry__member *m = task ? member_new(core) : NULL;
    if (!m) {
        if (task)
            ferry__future_unref(&task->future);
        return start_failed(ctx, -ENOMEM);
    }
    task->future.member = m;
    int rc = ferry__task_start(task);
    if (rc < 0) {
        member_withdraw(core, m);
        ferry__future_unref(&task->future);
        return start_failed(ctx, rc);
    }
    member_attach(core, m, &task->future, handle);
    return 0;
}

int ferry_group_spawn_with(ferry_group *group, ferry_fn fn, void *arg,
                           const ferry_task_options *options, ferry_future **handle) {
    if (handle)
        *handle = NULL;
    struct ferry__ctx *ctx;
    int rc;
    struct ferry__group_core *core = enter(group, &ctx, &rc);
    if (!core)
        return rc;
    rc = spawn(core, ctx, fn, arg, options, handle);
    unpin(core);
    return rc;
}

int ferry_group_spawn(ferry_group *group, ferry_fn fn, void *arg) {
    return ferry_group_spawn_with(group, fn, arg, NULL, NULL);
}

int ferry_group_submit_with(ferry_group *group, ferry_executor *executor, ferry_fn fn, void *arg,
                            const ferry_job_options *options, ferry_future **handle) {
    if (handle)
        *handle = NULL;
    struct ferry__ctx *ctx;
    int rc;
    struct ferry__group_core *core = enter(group, &ctx, &rc);
    if (!core)
        return rc;
    struct ferry__member *m = member_new(core);
    ferry_future *f = m ? ferry__submit_member(executor, fn, arg, options, m) : NULL;
    if (f) {
        member_attach(core, m, f, handle);
    } else {
        if (m)
            member_withdraw(core, m);
        rc = start_failed(ctx, -ENOMEM);
    }
    unpin(core);
    return f ? 0 : rc;
}

int ferry_group_submit(ferry_group *group, ferry_executor *executor, ferry_fn fn, void *arg) {
    return ferry_group_submit_with(group, executor, fn, arg, NULL, NULL);
}

/* ---- A member that reports when it is ready -------------------------------------------------- */

/* Stands in the frame of ferry_group_start(), which doesn't return before the task has ended or
 * called ferry_ready(). Which of these came first, or a cancel of the starter, is decided by who
 * claims the waiter. */
struct starter {
    struct ferry__link link;
    struct ferry__waiter waiter;
    struct ferry__group_core *core;
    struct ferry__member *member; /* made beforehand; the group's once the task is ready */
    bool ready;
    int64_t value;
};

static void ended_unready(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    struct starter *s = ferry__container(link, struct starter, link);
    (void)f;
    if (ferry__claim(&s->waiter))
        ferry__wakes_add(wakes, &s->waiter);
}

int ferry_ready(int64_t value) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    struct ferry__task *task =
        ctx->kind == FERRY__TASK ? ferry__container(ctx, struct ferry__task, ctx) : NULL;
    struct starter *s = task ? ctx->starter : NULL;
    if (!s || value < 0)
        return (int)ferry__error_say(ctx, -EINVAL, &say_not_starting);
    ctx->starter = NULL;
    if (!ferry__claim(&s->waiter))
        return 0; /* the starter was cancelled, and so is this task, whose end is waited for */
    struct ferry__group_core *core = s->core;
    struct ferry__member *m = s->member;
    m->core = core;
    m->future = ferry_ref(&task->future);
    task->future.member = m;
    ferry__lock(&core->lock);
    join_in(core, m);
    bool told = m->told;
    ferry__unlock(&core->lock);
    s->value = value;
    s->ready = true;
    ferry__wake(&s->waiter);
    if (told)
        ferry__task_cancel(task);
    return 0;
}

/* The task was cancelled or has ended by itself, or soon will have; it is the starter's to join. */
static int64_t never_ready(struct ferry__ctx *ctx, ferry_future *f, int stopped) {
    if (stopped < 0) {
        ferry_cancel(f);
        ferry__future_observe(f, ctx, FERRY__NEVER, FERRY__SHIELDED);
    }
    int64_t result = ferry__future_take(f, ctx);
    if (result == FERRY_EJOBCANCELED && stopped == 0 && ferry__region_cancelled(ctx))
        stopped = -ECANCELED;
    if (stopped < 0 && (result >= 0 || result == FERRY_EJOBCANCELED))
        return ferry__error_say(ctx, stopped, NULL);
    return result < 0 ? result : ferry__error_say(ctx, -EINVAL, &say_unready);
}

static int64_t start(struct ferry__group_core *core, struct ferry__ctx *ctx, ferry_fn fn,
                     void *arg) {
    ferry_loop *loop = ferry__loop_of(ctx);
    if (!loop || !fn)
        return ferry__error_say(ctx, -EINVAL, &say_no_loop);
    int rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    struct starter s = {.link = {.notify = ended_unready}, .core = core};
    ferry__waiter_init(&s.waiter, ctx);
    struct ferry__task *task = ferry__task_new(loop, fn, arg, NULL);
    s.member = task ? ferry__record_get(sizeof *s.member) : NULL;
    if (s.member) {
        *s.member = (struct ferry__member){0};
        task->ctx.starter = &s;
        ferry__future_link(&task->future, &s.link);
        rc = ferry__task_start(task);
    } else {
        rc = -ENOMEM;
    }
    if (rc < 0) {
        if (s.member)
            ferry__record_put(s.member, sizeof *s.member);
        if (task)
            ferry__future_unref(&task->future);
        return start_failed(ctx, rc);
    }
    if (ctx->kind == FERRY__JOB)
        ferry__worker_blocked(ctx);
    rc = ferry__park(&s.waiter, "a task that gets ready", FERRY__NEVER, 0);
    if (ctx->kind == FERRY__JOB)
        ferry__worker_unblocked(ctx);
    ferry__future_unlink(&task->future, &s.link);
    int64_t result = s.value;
    if (!s.ready) {
        result = never_ready(ctx, &task->future, rc);
        if (s.member)
            ferry__record_put(s.member, sizeof *s.member);
    }
    ferry__future_unref(&task->future);
    return result;
}

int64_t ferry_group_start(ferry_group *group, ferry_fn fn, void *arg) {
    struct ferry__ctx *ctx;
    int rc;
    struct ferry__group_core *core = enter(group, &ctx, &rc);
    if (!core)
        return rc;
    int64_t result = start(core, ctx, fn, arg);
    unpin(core);
    return result;
}

/* ---- The end --------------------------------------------------------------------------------- */

/* A job that waits on its worker runs members that are queued behind it in the same full pool
 * itself. */
static bool help(struct ferry__group_core *core, struct ferry__ctx *ctx) {
    bool helped = false;
    ferry__lock(&core->lock);
    for (struct ferry__member *m; !helped && (m = core->to_help) != NULL;) {
        core->to_help = m->next;
        ferry_future *f = ferry_ref(m->future);
        if (!f)
            continue;
        ferry__unlock(&core->lock);
        helped = ferry__worker_help(ctx, f, FERRY__NEVER);
        ferry__future_unref(f);
        ferry__lock(&core->lock);
    }
    ferry__unlock(&core->lock);
    return helped;
}

/* Waits until there are no pins. When the region is cancelled, so are the members; from then on
 * only their end counts. Whether there will be new pins is for the caller to know. */
static void join(struct ferry__group_core *core, struct ferry__ctx *ctx) {
    unsigned flags = 0;
    bool job = ctx->kind == FERRY__JOB;
    for (;;) {
        while (job && help(core, ctx))
            continue;
        struct ferry__waiter w;
        ferry__waiter_init(&w, ctx);
        ferry__lock(&core->lock);
        bool over = core->pins == 0;
        if (!over)
            core->waiter = &w;
        ferry__unlock(&core->lock);
        if (over)
            return;
        if (job)
            ferry__worker_blocked(ctx);
        int rc = ferry__park(&w, "the members of a group", FERRY__NEVER, flags);
        if (job)
            ferry__worker_unblocked(ctx);
        ferry__lock(&core->lock);
        core->waiter = NULL;
        ferry__unlock(&core->lock);
        if (rc < 0) { /* the look may have found a reason beyond a shield: shutdown (scope.c) */
            ferry__group_tell(core);
            flags = FERRY__SHIELDED;
        }
    }
}

static void forget(struct ferry__ctx *ctx, struct ferry__group_core *core) {
    struct ferry__group_core **at = &ctx->groups;
    while (*at != core)
        at = &(*at)->outer;
    *at = core->outer;
}

/* Closes the caller's struct, unless there are pins: from then on nobody comes in. */
static bool seal(ferry_group *group, struct ferry__group_core *core) {
    ferry__lock(&group->lock);
    ferry__lock(&core->lock);
    bool empty = core->pins == 0;
    ferry__unlock(&core->lock);
    if (empty) {
        group->core = NULL;
        group->state = CLOSED;
    }
    ferry__unlock(&group->lock);
    return empty;
}

/* From here on a member's error doesn't look at the scope: it finds it asked to stop. Who has come
 * to it before is waited for when it is closed. */
void ferry__group_part(struct ferry__group_core *core) {
    int none = FERRY__REQUEST_NONE;
    __atomic_compare_exchange_n(&core->scope.request, &none, FERRY__REQUEST_CANCEL, 0,
                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

void ferry__group_abandon(struct ferry__group_core *core) {
    struct ferry__ctx *ctx = core->owner;
    forget(ctx, core);
    if (ferry__forked(core->generation))
        return; /* its members report to the parent's copy; this one has no use any more */
    ferry__lock(&core->lock);
    core->abandoned = true;
    ferry__unlock(&core->lock);
    ferry__log(FERRY_LOG_WARNING, "'%s' left a group without closing it: its members are cancelled",
               ferry_self_name());
    stop(core);
    if (ferry__may_park(ctx)) {
        join(core, ctx);
    } else {
        ferry__scope_settle(&core->scope); /* the owner, and its cell, may be gone before them */
        ferry__lock(&core->lock);
        core->orphaned = core->pins > 0;
        bool orphaned = core->orphaned;
        ferry__unlock(&core->lock);
        if (orphaned)
            return;
    }
    log_failed(core);
    core_free(core);
}

void ferry__group_abandon_all(struct ferry__ctx *ctx) {
    while (ctx->groups)
        ferry__group_abandon(ctx->groups);
}

/* What was left open inside goes first; then the group, which is the innermost scope now. */
static int64_t tear_down(ferry_group *group, struct ferry__group_core *core,
                         struct ferry__ctx *ctx) {
    ferry__lock(&group->lock);
    group->core = NULL;
    group->state = CLOSED;
    ferry__unlock(&group->lock);
    for (bool last = false; !last;) {
        struct ferry_scope *scope = ctx->top;
        struct ferry__group_core *inside = scope->group;
        last = inside == core;
        if (inside)
            ferry__group_part(inside);
        ferry_scope_close(scope, 0);
        if (inside)
            ferry__group_abandon(inside);
    }
    return ferry__error_say(ctx, -EINVAL, &say_order);
}

static int64_t close_forked(ferry_group *group, struct ferry__group_core *core,
                            struct ferry__ctx *ctx, int64_t rc) {
    group->core = NULL; /* its lock may be held by a thread of the parent */
    group->state = CLOSED;
    forget(ctx, core);
    rc = ferry_scope_close(&core->scope, rc);
    if (core->pins > 0)
        return ferry__error_say(ctx, FERRY_EFORKED, &say_forked);
    core_free(core);
    return rc;
}

static void error_fill(ferry_error *error, int64_t code, const char *name,
                       struct ferry__detail *detail) {
    *error = (ferry_error){.code = code, .name = name, .message = detail ? detail->text : NULL};
    if (code == FERRY_EGROUP && detail && detail->n_errors > 0) {
        error->causes = ferry__detail_ref(detail)->errors;
        error->n_causes = detail->n_errors;
    }
}

/* All errors in the order in which they happened: the body's comes after the first `before` of
 * the members'. */
static struct ferry__detail *collect(const struct ferry__group_core *core, int64_t body,
                                     struct ferry__detail *detail, size_t before) {
    size_t n = core->n_failed + (body < 0), i = 0;
    ferry_error *errors = ferry__calloc(n, sizeof *errors);
    if (!errors)
        return ferry__detail_group(NULL, 0, n);
    for (const struct ferry__member *m = core->failed.first; i < n;) {
        if (body < 0 && i == before) {
            error_fill(&errors[i++], body, "body", detail);
            continue;
        }
        error_fill(&errors[i++], m->future->result, m->future->name, m->future->detail);
        m = m->next;
    }
    struct ferry__detail *all = ferry__detail_group(errors, n, 0);
    ferry__free(errors);
    return all;
}

/* Nothing failed, and all have ended. A member that was cut off together with the caller counts
 * as the caller's own cancel; when none was, the caller's cancel comes at its next wait. */
static int64_t close_clean(struct ferry__group_core *core, struct ferry__ctx *ctx, int64_t rc) {
    bool cut = rc >= 0 && core->cut && ferry__region_cancelled(ctx);
    int64_t result = ferry_scope_close(&core->scope, cut ? -ECANCELED : rc);
    if (result == -ECANCELED)
        ferry__error_set(ctx, -ECANCELED, NULL);
    return cut && result == 0 ? rc : result;
}

int64_t ferry_group_close(ferry_group *group, int64_t rc) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    struct ferry__group_core *core = find_own(ctx, group);
    if (!core)
        return ferry__error_say(ctx, -EINVAL, &say_not_yours);
    if (ferry__forked(core->generation))
        return close_forked(group, core, ctx, rc);
    if (ctx->top != &core->scope)
        return tear_down(group, core, ctx);
    bool sealed = false;
    if (!ferry__may_park(ctx)) {
        sealed = seal(group, core);
        if (!sealed)
            return ferry__can_park(ctx);
    }
    ferry__lock(&core->lock);
    bool empty = core->pins == 0;
    size_t before = core->n_failed;
    ferry__unlock(&core->lock);
    struct ferry__detail *detail = NULL;
    bool failed = rc < 0 && rc != -ECANCELED;
    if (failed) {
        detail = ferry__error_take(ctx, rc);
        stop(core);
    }
    if (empty && ctx->kind == FERRY__TASK) /* others get a turn all the same */
        ferry__task_yield(ferry__container(ctx, struct ferry__task, ctx));
    while (!sealed) {
        join(core, ctx);
        sealed = seal(group, core);
    }
    forget(ctx, core);
    if (failed || core->n_failed > 0) {
        struct ferry__detail *all = collect(core, failed ? rc : 0, detail, before);
        ferry_scope_close(&core->scope, 0);
        ferry__error_set(ctx, FERRY_EGROUP, all);
        rc = FERRY_EGROUP;
    } else {
        rc = close_clean(core, ctx, rc);
    }
    ferry__detail_unref(detail);
    core_free(core);
    return rc;
}

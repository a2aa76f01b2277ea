/* Loops, their inboxes and timers, and the background: loop.c, inbox.c, timer.c, background.c.
 * A part of core.h, which includes it. */
#ifndef FERRY__LOOP_CORE_H
#define FERRY__LOOP_CORE_H

#include "core.h"

struct ferry__heap {
    struct ferry__timer **at;
    size_t used, room;
    uint64_t turns;
};
int ferry__heap_reserve(struct ferry__heap *heap, size_t timers);
void ferry__heap_add(struct ferry__heap *heap, struct ferry__timer *timer, int64_t at);
void ferry__heap_take(struct ferry__heap *heap, struct ferry__timer *timer); /* it is armed */
static inline void ferry__heap_remove(struct ferry__heap *heap, struct ferry__timer *timer) {
    if (timer->index != 0)
        ferry__heap_take(heap, timer);
}
void ferry__heap_fini(struct ferry__heap *heap);
static inline struct ferry__timer *ferry__heap_first(struct ferry__heap *heap) {
    return heap->used ? heap->at[0] : NULL;
}

/* with `head` a cache line; and about what a processor can wait for at once */
enum { FERRY__INBOX_RECENT = 6 };
struct ferry__inbox {
    struct ferry__item *first;  /* loop thread: taken out, oldest first */
    struct ferry__spin spin;    /* loop thread */
    unsigned puts_seen;         /* loop thread */
    unsigned in_vain, left_out; /* loop thread: how often in a row it gave way in vain; and isn't to
                                 * try now */
    int64_t rests_until;        /* loop thread: since it took long, it isn't to try before */
    char apart_head[FERRY__LINE_SIZE + 16]; /* what the loop writes all the time stands apart from
                                             * what the others write */
    _Atomic(struct ferry__item *) head; /* atomic: newest first, or the closed mark */
    _Atomic unsigned puts;              /* atomic: about how many there were */
    const void *_Atomic recent[FERRY__INBOX_RECENT]; /* atomic: what was put last, as a hint: it may
                                                      * be gone */
    char apart[FERRY__LINE_SIZE];
    _Atomic int awake;          /* atomic: the loop will look by itself before it sleeps */
    _Atomic int waking;         /* atomic: a wake-up is on its way */
    struct ferry__bell bell;
    char apart_rest[FERRY__LINE_SIZE];
};
int ferry__inbox_init(struct ferry__inbox *inbox);
void ferry__inbox_fini(struct ferry__inbox *inbox);
/* false: closed. Any thread */
bool ferry__inbox_put(struct ferry__inbox *inbox, struct ferry__item *item);
struct ferry__item *ferry__inbox_get(struct ferry__inbox *inbox);            /* loop thread */
/* loop thread: waits for a moment, if that pays; anything there? */
bool ferry__inbox_linger(struct ferry__inbox *inbox);
bool ferry__inbox_waits(struct ferry__inbox *inbox);                         /* something inside? */
void ferry__inbox_doze(struct ferry__inbox *inbox);   /* from now on a put writes to the fd */
void ferry__inbox_rouse(struct ferry__inbox *inbox);  /* the loop is awake */
/* the loop dozes, and nobody has woken it. Any thread */
bool ferry__inbox_sleeps(struct ferry__inbox *inbox);
void ferry__inbox_empty(struct ferry__inbox *inbox);  /* its bell has become readable */
/* what is left inside, oldest first */
struct ferry__item *ferry__inbox_close(struct ferry__inbox *inbox);

/* background.c: of each loop. */
struct ferry__background {
    unsigned lock; /* guards what follows */
    size_t count;  /* started and not ended */
    ferry_background_options options;
    int64_t failure; /* what the run is to return; 0 */
    struct ferry__detail *detail; /* a reference */
};
/* What a run returns whose first task has ended with rc: that, or an error of the background.
 * Loop thread, or nobody's loop. */
int64_t ferry__background_verdict(ferry_loop *loop, struct ferry__ctx *ctx, int64_t rc);

enum ferry__loop_state {
    FERRY__LOOP_OPEN,
    FERRY__LOOP_SOFT,
    FERRY__LOOP_HARD,
    FERRY__LOOP_LAST,
    FERRY__LOOP_DOWN
};

struct ferry_loop {
    _Atomic int refs;           /* the user's, each job's, each wake-up's on its way */
    int spare_refs;             /* own: counted in refs, and not given to anybody at the moment */
    ferry_executor *reserve_of; /* own: executor.c; the executor that jobs are mostly submitted to
                                 * from here, or NULL */
    int reserve;                /* own: references on it, not given to any job at the moment */
    int reserve_missed;         /* own: jobs for others since it was chosen */
    ferry_executor *owed;       /* own: a pool that has jobs of this turn, and whose threads are yet
                                 * to be called; a reference. NULL */
    struct event_base *base;
    bool own_base;
    uint32_t generation;
    struct ferry__inbox inbox;
    struct event *wake_event;   /* libevent's events: loop thread only */
    struct event *tick_event;
    struct event *keep_event;
    bool kept;
    _Atomic(struct ferry__thread *) thread; /* whose loop it is; written by that thread */
    ferry_loop *bound_next;     /* under ferry__bound_lock: other loops of the same thread */
    _Atomic int state;          /* enum ferry__loop_state; written by the loop thread */
    bool turning;               /* inside a turn */
    bool own_run;               /* inside ferry_loop_run() */
    bool ends_itself;           /* of ferry_run(), which shuts it down after the run: nobody else
                                 * turns it; fixed */
    int64_t tick_at;            /* what tick_event is armed for; FERRY__NEVER: not */
    bool probing;               /* it is, to see whether anything can still happen: it may come for
                                 * nothing */
    _Atomic int stop;
    ferry__context context;     /* the loop's own stack */
    struct ferry__stack_cache stacks;
    struct ferry__task *ready_first, **ready_end; /* the ready line, and where the next one is put
                                                   * into it */
    struct ferry__task *ended;  /* its stack can be taken back as soon as another one runs */
    int steps;                  /* left in this slice of the turn */
    int slice;                  /* steps of a slice: learned, loop.c */
    int64_t now;                /* clock as of this turn */
    struct ferry__heap timers;
    struct ferry__task *tasks;  /* all of them */
    size_t n_tasks;
    size_t n_fds;               /* tasks that wait for an fd */
    _Atomic long callbacks;     /* registered by ferry_then(), not yet run; with those below they
                                 * keep the base busy */
    _Atomic long callbacks_here; /* those of jobs that the loop's own thread has added; only written
                                  * by that */
    _Atomic int entering;       /* atomic: threads that look at the state, and hand something in if
                                 * it lets them */
    struct ferry__item recount_item; /* makes the loop see a new callback */
    _Atomic int recounting;          /* atomic: recount_item is on its way; it holds a reference */
    _Atomic long jobs;          /* submitted from here, not yet ended (or given up): with those
                                 * below. May be negative */
    _Atomic long jobs_here;     /* the same, as counted by the loop's own thread; only written by
                                 * that */
    _Atomic(ferry_executor *) executor; /* made when first needed */
    struct ferry__task *main_task; /* of ferry_loop_run(): holds a reference */
    struct ferry__task *spared;    /* the task that runs the shutdown itself */
    _Atomic int awaited;           /* atomic: how many wait elsewhere for a shutdown that they asked
                                    * for */
    struct ferry__task *closing;   /* of ferry_run(): made beforehand, since its shutdown must not
                                    * want for memory */
    struct ferry__waiter *quiet;   /* who waits until the loop has no other tasks (shutdown) */
    struct ferry_scope *patience;  /* around what a shutdown waits for: cancelled to hurry it */
    size_t left_behind;            /* how many the shutdown has given up */
    bool hurried;                  /* a shutdown, also one to come, waits for nothing more */
    _Atomic bool unshielded;       /* shields hold no longer, but for the task that runs the
                                    * shutdown */
    struct ferry__background background;
    bool deadlocked;               /* this run found that nothing could wake its tasks */
    unsigned streams_lock;         /* guards streams and their links */
    ferry_stream *streams;         /* made here and not yet closed */
};
_Static_assert(offsetof(ferry_loop, inbox.head) % FERRY__LINE_SIZE == 0 || sizeof(void *) != 8,
               "what both sides of an inbox write is one cache line");

/* In the child of a fork the parent's loops stand still: nothing of theirs runs here. */
static inline bool ferry__loop_forked(const ferry_loop *loop) {
    return ferry__forked(loop->generation);
}
extern struct ferry__detail ferry__say_parents_loop, ferry__say_base_gone;
/* the program freed its base before; loop thread, before it is freed */
bool ferry__loop_base_gone(const ferry_loop *loop);

static inline long ferry__loop_jobs(const ferry_loop *loop) {
    long here = atomic_load_explicit(&((ferry_loop *)loop)->jobs_here, memory_order_relaxed);
    return atomic_load(&((ferry_loop *)loop)->jobs) + here;
}
static inline void ferry__loop_count_here(ferry_loop *loop, long more) { /* loop thread */
    long jobs = atomic_load_explicit(&loop->jobs_here, memory_order_relaxed);
    atomic_store_explicit(&loop->jobs_here, jobs + more, memory_order_relaxed);
}
static inline long ferry__loop_callbacks(const ferry_loop *loop) {
    long here = atomic_load_explicit(&((ferry_loop *)loop)->callbacks_here, memory_order_relaxed);
    return atomic_load(&((ferry_loop *)loop)->callbacks) + here;
}
/* Loop thread. */
static inline void ferry__loop_callback_here(ferry_loop *loop, long more) {
    long here = atomic_load_explicit(&loop->callbacks_here, memory_order_relaxed);
    atomic_store_explicit(&loop->callbacks_here, here + more, memory_order_relaxed);
}
void ferry__loop_ref(ferry_loop *loop);
void ferry__loop_unref(ferry_loop *loop);
/* The same on its own thread, mostly without an atomic operation: for what comes and goes with
 * each task. */
enum { FERRY__LOOP_SPARE = 64 };
void ferry__loop_ref_slow(ferry_loop *loop);
void ferry__loop_unref_slow(ferry_loop *loop);
static inline void ferry__loop_ref_here(ferry_loop *loop) {
    if (loop->spare_refs > 0)
        loop->spare_refs--;
    else
        ferry__loop_ref_slow(loop);
}
static inline void ferry__loop_unref_here(ferry_loop *loop) {
    if (loop->spare_refs < 2 * FERRY__LOOP_SPARE)
        loop->spare_refs++;
    else
        ferry__loop_unref_slow(loop);
}
/* Turns an own loop that nobody runs until `task` has ended; NULL: until it is down, and the
 * task that has shut it down has ended too, which is asked to stop. 0; else, as
 * ferry_loop_run(), why that can't be. */
int64_t ferry__loop_serve(ferry_loop *loop, struct ferry__task *task, bool hurry);
/* shutdown.c: no shields and no patience any more; loop thread */
void ferry__loop_hurry(ferry_loop *loop);
bool ferry__shutdown_prepare(ferry_loop *loop); /* shutdown.c: from then on it needs no memory */
/* shutdown.c: ferry_loop_shutdown() after the run; one that is under way already keeps its
 * grace. */
int ferry__shutdown_after_run(ferry_loop *loop, int64_t grace_ms);
/* ferry_loop_free() that goes as far as what is left allows */
void ferry__loop_leave_behind(ferry_loop *loop);
/* The calling thread, whose record that is (NULL: it has none), is the loop's. */
static inline bool ferry__loop_is_on(const ferry_loop *loop, const struct ferry__thread *thread) {
    return thread && atomic_load_explicit(&loop->thread, memory_order_acquire) == thread;
}
bool ferry__loop_here(const ferry_loop *loop);   /* the calling thread is the loop's */
static inline ferry_loop *ferry__loop_of(const struct ferry__ctx *ctx) {
    return ctx->kind == FERRY__THREAD
               ? atomic_load_explicit(&ctx->thread->loop, memory_order_relaxed)
               : ctx->loop;
}
void ferry__loop_arm_turn(ferry_loop *loop);
/* Loop thread: something is ready. Inside a turn, or a run, it will be seen. */
static inline void ferry__loop_need_turn(ferry_loop *loop) {
    if (!loop->turning && !loop->own_run)
        ferry__loop_arm_turn(loop);
}
bool ferry__loop_send(ferry_loop *loop, struct ferry__item *item); /* any thread; false: closed */
/* The same for new work, which only an open loop takes: what it took is run before a shutdown
 * has ended. Any thread. */
bool ferry__loop_accept(ferry_loop *loop, struct ferry__item *item);
void ferry__loop_ended(ferry_loop *loop);        /* loop thread: a task or callback is no more */
/* any thread: what is outstanding on it has changed */
void ferry__loop_expect(ferry_loop *loop);

/* bound.c */
void ferry__loop_bind(ferry_loop *loop);         /* the calling thread's from now on */
void ferry__loop_unbind(ferry_loop *loop);       /* any thread */
void ferry__loops_unbind(struct ferry__thread *thread); /* all of a thread that ends */
/* In the child of a fork: the parent's loops aren't this thread's any more, unless it stands inside
 * of one, which it still has to leave. */
void ferry__loops_forked(struct ferry__thread *thread);
/* The calling thread, whose record that is, runs or turns one of its loops. */
bool ferry__inside_a_loop(struct ferry__thread *thread);

/* Loop thread: to the end of the ready line. Its state is the caller's to set. */
static inline void ferry__loop_push(ferry_loop *loop, struct ferry__task *task) {
    task->ready_next = NULL;
    *loop->ready_end = task;
    loop->ready_end = &task->ready_next;
}
/* The same with one that was parked, maybe for long: its context is needed soon. */
static inline void ferry__loop_push_parked(ferry_loop *loop, struct ferry__task *task) {
#if FERRY__CONTEXT_ON_STACK
    ferry__prefetch_to_write(&task->stack->context);
#endif
    task->state = FERRY__TASK_WOKEN;
    ferry__loop_push(loop, task);
}
/* ferry__park() of a task. When nothing but the grant can end the wait, as far as is known, it
 * notes what is waited for, and gives the thread away. */
/* park.c; false: it has ended the wait */
bool ferry__park_look(struct ferry__ctx *ctx, struct ferry__waiter *w);
int ferry__park_refused(struct ferry__ctx *ctx, int outcome);           /* park.c: says why */
static inline int ferry__park_task(struct ferry__waiter *w, struct ferry__ctx *ctx,
                                   const char *what, int64_t deadline, unsigned flags) {
    struct ferry__task *task = ferry__container(ctx, struct ferry__task, ctx);
    ferry_loop *loop = ctx->loop;
    ctx->shielded = (flags & FERRY__SHIELDED) != 0;
    ctx->wait_deadline = deadline;
    ctx->waits_for = what;
    ctx->since = loop->now;
    ctx->parked = w;
    bool plain = !atomic_load_explicit(&ctx->asked, memory_order_acquire) &&
                 ferry__look_again_at(ctx) == FERRY__NEVER;
    if (plain || ferry__park_look(ctx, w)) {
        FERRY__POINT(park_task);
        ferry__task_suspend(task);
        ferry__heap_remove(&loop->timers, &task->timer);
    }
    ctx->parked = NULL;
    ctx->waits_for = NULL;
    FERRY__POINT(park_over);
    int outcome = atomic_load_explicit(&w->outcome, memory_order_acquire);
    return outcome == FERRY__GRANTED ? 0 : ferry__park_refused(ctx, outcome);
}
void ferry__loop_run_ready(ferry_loop *loop);    /* task.c: from the loop's own stack */
/* ferry_loop_run() of a task that was made and not started, which it takes over; started(task)
 * is called before that runs. NULL: it is a shutdown, and ferry_loop_stop() doesn't end the run. */
int64_t ferry__loop_run_task(ferry_loop *loop, struct ferry__task *task,
                             void (*started)(struct ferry__task *task));

#endif

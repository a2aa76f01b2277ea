/* Jobs and what runs them: shared by executor.c, submit.c, job.c, threads.c (with idle.c and
 * help.c), strand.c and inline.c.
 *
 * An executor's lock guards its line, its counters and the state of the jobs in the line. A pool
 * has a second one, for its door: what is submitted comes in there, and the threads take all of
 * it into the line when that is empty. So submitters and threads seldom meet.
 * ferry__executor_lock() takes both and empties the door: then the line is all there is, and
 * nothing comes or goes. A strand's turns stand in its pool's line; the strand's lock and the
 * pool's are never held together. A job's hook_lock comes before its executor's. What follows
 * from a change made under the lock (a thread to wake or to start, a turn to hand to the pool,
 * submitters to wake) is collected in a struct ferry__after and done once the lock was dropped. */
#ifndef FERRY__EXECUTOR_H
#define FERRY__EXECUTOR_H

#include "core.h"

struct ferry__worker;

enum ferry__executor_kind { FERRY__POOL, FERRY__STRAND, FERRY__INLINE };

enum ferry__job_state {
    FERRY__JOB_WAITING, /* in no line, and not at the door yet: its submitter waits for a place, or
                         * hasn't asked for one */
    FERRY__JOB_QUEUED,
    FERRY__JOB_TAKEN    /* by whoever runs it, or by a cancel */
};

/* What a job that comes to a pool's door needs besides (threads.c). */
enum ferry__wanted {
    FERRY__NOBODY,   /* somebody comes for it */
    FERRY__SOMEBODY, /* a thread is to be called */
    FERRY__SOON      /* the same, but it may be done a little later: a thread comes for it anyway,
                      * in a moment */
};

/* So many jobs before its turn a job is fetched from the processor where it was submitted. One
 * would do where jobs take longer than that. */
enum { FERRY__AHEAD = 4 };

/* What stands in a line: a job, or a strand's turn in its pool's line; what is at work, in a list.
 * The rest is a job's: the record is filled up, so that a job's line is enough for it. */
struct ferry__work {
    struct ferry__work *next, *prev; /* under the lock of the executor in whose line (at whose door:
                                      * in_lock) it stands */
    bool is_turn;                /* fixed */
    uint8_t state;               /* enum ferry__job_state; under the executor's lock; at the door:
                                  * in_lock */
    bool abandoned;              /* under hook_lock and the executor's lock; stays once fn has
                                  * ended */
    _Atomic uint8_t request;     /* atomic: enum ferry__request */
    uint32_t calm;               /* fixed: of the context that it will be */
    union {
        const struct ferry__work *ahead; /* in a line, at a door: who came FERRY__AHEAD places
                                          * behind it, and may be gone; only to be fetched from */
        int64_t started;         /* at work: since when; under the executor's lock */
    };
};

struct ferry__turn {
    struct ferry__work work; /* first */
    ferry_executor *strand;  /* whose; fixed */
    bool told;               /* under its pool's lock: its strand was told that all is cancelled */
};

/* What two processors touch of a job that nothing special happens to is the first line of its
 * handle, and the line that `work` begins; the rest of the handle, and what follows, is written and
 * read where it was submitted. */
struct ferry__job {
    ferry_future future;         /* first: two lines. future.plain: neither options nor inherited
                                  * values */

    struct ferry__work work;
    ferry_fn fn;
    void *arg;
    ferry_loop *home;            /* fixed: future.home, which holds a reference; NULL */
    struct ferry__cell *inherited; /* a reference; NULL. Fixed */

    int64_t deadline;            /* fixed; where future.dated */
    _Atomic uintptr_t runner;    /* atomic: the struct ferry__thread that runs fn; plus 1: it was
                                  * told; 0: there is nothing to tell */
    ferry_executor *executor;    /* a reference */
    struct ferry__values *values; /* a reference, until it runs; NULL */
    ferry_callback then;         /* with FERRY__CALLS: the first that home asked for */
    void *then_arg;
    _Atomic bool counted;        /* atomic: it counts among its home's jobs */
    bool optioned;               /* fixed: there are options */
    bool hooked;                 /* it was told; stays once fn has ended */
    unsigned hook_lock;          /* guards `hooked` and the four below */
    struct ferry__thread *thread; /* its runner, from when it was told until fn has ended */
    struct ferry__job *helping;  /* what its thread runs while it waits for that: told with it */
    struct ferry__service_timer *patience; /* until it is abandoned; holds a reference on the
                                            * handle */
    uint32_t hook_busy;          /* futex word: 1 while the hook runs */
    struct ferry__token *token;  /* of options.limiter; held until it is finished; NULL */
    ferry_job_options options;   /* only set when optioned */
    char apart_end[16];          /* whole lines, where pointers have 8 bytes: the record begins with
                                  * one, then */
};

_Static_assert(sizeof(ferry_future) == 2 * FERRY__LINE_SIZE || sizeof(void *) != 8,
               "what follows in a job begins with a cache line");
_Static_assert(offsetof(struct ferry__job, deadline) == 3 * FERRY__LINE_SIZE || sizeof(void *) != 8,
               "what a job's thread needs is in one cache line");

struct ferry_executor {
    enum ferry__executor_kind kind;
    _Atomic int refs;   /* owners, threads, jobs, turns: the memory */
    _Atomic int owners; /* the user, and a pool's strands: when the last one leaves, it closes */
    _Atomic uint32_t generation;
    char name[FERRY__NAME_MAX];
    size_t queue_max;
    int full;
    char apart_door[FERRY__LINE_SIZE + 4]; /* what submitters write stands apart from what threads
                                            * write */

    unsigned in_lock;    /* of a pool's door; comes after `lock`; guards the six below */
    size_t at_door;
    struct ferry__work *_Atomic in_first; /* the oldest at the door; also looked at without the
                                           * lock */
    struct ferry__work *in_last;
    struct ferry__work *in_before; /* FERRY__AHEAD places before the next to come, once as many are
                                    * there; till then the first */
    uint64_t entered;    /* jobs that ever came to the door or into the line */
    uint64_t left_seen;  /* of them: an older value of `left` */

    char apart_both[FERRY__LINE_SIZE + 8];

    _Atomic int wanted;  /* a pool: enum ferry__wanted (threads.c); under `lock`; also read under
                          * in_lock */
    /* Changed with both locks held: so either will do to read these. */
    bool closed;
    bool cancelling;     /* closed with FERRY_CLOSE_CANCEL */
    void *wait_first, *wait_last;     /* submitters that wait for a place: waiter.item is the job */
    char apart[FERRY__LINE_SIZE + 40];

    unsigned lock;       /* guards all below, and what threads.c and strand.c say */
    size_t delivering;   /* jobs that have left the line, or run no longer, and whose handles aren't
                          * done yet */
    struct ferry__work *first, *last; /* the line */
    _Atomic uint64_t left;            /* jobs that ever left it; also read under in_lock */
    void *stop_first, *stop_last;     /* who waits for the end */
    struct ferry__work *running;      /* jobs, for reports and for telling them to stop */
    ferry_executor_stats stats;
};
_Static_assert((offsetof(ferry_executor, in_lock) % FERRY__LINE_SIZE == 0 &&
                offsetof(ferry_executor, wanted) % FERRY__LINE_SIZE == 0 &&
                offsetof(ferry_executor, lock) % FERRY__LINE_SIZE == 0) ||
                   sizeof(void *) != 8,
               "each of the three parts begins with a cache line");

/* To be done once the executor's lock was dropped. Zero to begin with. */
struct ferry__after {
    struct ferry__worker *wake;  /* a pool's thread that gets work */
    bool start;                  /* a pool's thread is to be made (it is counted already) */
    struct ferry__turn *turn;    /* a strand's, to stand in its pool's line */
    struct ferry__wakes wakes;
};
/* the same, when there is something */
void ferry__executor_do(ferry_executor *executor, struct ferry__after *after);
static inline void ferry__executor_after(ferry_executor *executor, struct ferry__after *after) {
    FERRY__POINT(executor_after);
    if (after->turn || after->wake || after->start || after->wakes.first)
        ferry__executor_do(executor, after);
}

/* executor.c */
void ferry__executor_init(ferry_executor *executor, enum ferry__executor_kind kind,
                          const ferry_executor_options *options, const char *name);
/* In the child of a fork: the executor's threads and jobs are the parent's, and it begins anew.
 * Before its use. */
void ferry__executor_check_fork_slow(ferry_executor *executor);
static inline void ferry__executor_check_fork(ferry_executor *executor) {
    if (executor->kind == FERRY__STRAND ||
        ferry__forked(atomic_load_explicit(&executor->generation, memory_order_acquire)))
        ferry__executor_check_fork_slow(executor);
}
int ferry__executor_check(const ferry_executor_options *options);
void ferry__executor_ref(ferry_executor *executor);
void ferry__executor_unref(ferry_executor *executor);
/* The same for a job, on the thread of its home loop: mostly without an atomic operation. The
 * loop holds references in reserve, until it is freed, uses another executor for long, or the
 * executor is freed on its thread. */
enum { FERRY__EXECUTOR_RESERVE = 64 };
void ferry__executor_ref_slow(ferry_executor *executor, ferry_loop *loop);
void ferry__executor_unref_slow(ferry_executor *executor, ferry_loop *loop);
static inline void ferry__executor_ref_here(ferry_executor *executor, ferry_loop *loop) {
    if (loop->reserve_of == executor && loop->reserve > 0)
        loop->reserve--;
    else
        ferry__executor_ref_slow(executor, loop);
}
static inline void ferry__executor_unref_here(ferry_executor *executor, ferry_loop *loop) {
    if (loop->reserve_of == executor && loop->reserve < 2 * FERRY__EXECUTOR_RESERVE)
        loop->reserve++;
    else
        ferry__executor_unref_slow(executor, loop);
}
void ferry__executor_reserve_end(ferry_loop *loop); /* loop thread, or nobody's loop */
/* The lock, and of a pool that of the door as well, which is empty then. */
void ferry__executor_lock(ferry_executor *executor);
void ferry__executor_unlock(ferry_executor *executor);
/* Under the lock alone: takes what is at the door into the line; false: there was nothing. */
bool ferry__executor_gather(ferry_executor *executor);
/* Under the lock; of a pool under both, but for ferry__line_take(), _take(), _began() and
 * _ended(). */
void ferry__line_push(ferry_executor *executor, struct ferry__work *work);
static inline void ferry__line_take(ferry_executor *executor, struct ferry__work *work) {
    if (work->prev)
        work->prev->next = work->next;
    else
        executor->first = work->next;
    if (work->next)
        work->next->prev = work->prev;
    else
        executor->last = work->prev;
    work->next = work->prev = NULL;
}
void ferry__executor_enqueue(ferry_executor *executor, struct ferry__job *job,
                             struct ferry__after *after);
static inline struct ferry__job *ferry__executor_take(ferry_executor *executor,
                                                      struct ferry__work *work) {
    struct ferry__job *job = ferry__container(work, struct ferry__job, work);
    ferry__line_take(executor, work);
    work->state = FERRY__JOB_TAKEN;
    executor->stats.queued--;
    uint64_t left = atomic_load_explicit(&executor->left, memory_order_relaxed);
    atomic_store_explicit(&executor->left, left + 1, memory_order_relaxed);
    return job;
}
/* The list of what is at work: jobs of an executor, turns of a pool. By the same links: it isn't in
 * a line any more. */
static inline void ferry__at_work(struct ferry__work **list, struct ferry__work *work) {
    work->prev = NULL;
    work->next = *list;
    if (work->next)
        work->next->prev = work;
    *list = work;
}
static inline void ferry__work_done(struct ferry__work **list, struct ferry__work *work) {
    if (work->prev)
        work->prev->next = work->next;
    else
        *list = work->next;
    if (work->next)
        work->next->prev = work->prev;
}
static inline void ferry__executor_began(ferry_executor *executor, struct ferry__job *job) {
    job->work.started = ferry__now_roughly();
    executor->stats.running++;
    executor->stats.started++;
    ferry__at_work(&executor->running, &job->work);
}
/* After a job was taken, and is counted as running if it will: the places that are free now are
 * given away. */
void ferry__executor_admit(ferry_executor *executor, struct ferry__after *after);
/* who is at the door comes first */
void ferry__executor_admit_all(ferry_executor *executor, struct ferry__after *after);
/* Whoever waits for a place gets `code` instead. */
void ferry__executor_refuse(ferry_executor *executor, int64_t code, struct ferry__wakes *wakes);
static inline void ferry__executor_ended(ferry_executor *executor, struct ferry__job *job) {
    ferry__work_done(&executor->running, &job->work);
    executor->stats.running--;
    if (job->work.abandoned) /* settled: the worker has cleared job->thread before */
        executor->stats.abandoned--;
}
void ferry__executor_check_end(ferry_executor *executor, struct ferry__wakes *wakes);
/* No lock: the handles of n jobs that were counted as `delivering` are done. */
void ferry__executor_delivered(ferry_executor *executor, size_t n);
extern struct ferry__detail ferry__say_closed, ferry__say_no_thread;
/* What ferry_executor_stop() does after the close: waits until it has come to its end, the
 * current region is cancelled, or the deadline has passed. Returns how many jobs are left; they
 * are logged. The context must be able to park. */
size_t ferry__executor_join(ferry_executor *executor, struct ferry__ctx *ctx, int64_t deadline);
/* Closes a loop's own executor, or the process's, and waits until its idle threads are gone. */
void ferry__executor_dismiss(ferry_executor *executor);

/* Under the lock. A job that a thread, or a turn, will take at once doesn't wait: it needs no
 * place. */
bool ferry__executor_has_place(const ferry_executor *executor);
/* A job that submits to its own full executor would wait for itself: it passes the limit. */
bool ferry__executor_is_inside(const ferry_executor *executor, const struct ferry__ctx *ctx);

/* submit.c */
struct ferry__job *ferry__job_new(ferry_executor *executor, ferry_fn fn, void *arg,
                                  const ferry_job_options *options, struct ferry__ctx *ctx,
                                  struct ferry__member *member);
/* What a job takes over from the place where it is made; references but for the deadline. */
struct ferry__heritage {
    struct ferry__cell *cell;     /* NULL: nobody could cancel there */
    struct ferry__values *values; /* NULL: none */
    ferry_loop *home;             /* NULL: outside of any */
    int64_t deadline;
    bool here;                    /* it was taken on the thread of `home` */
};
/* false: out of memory */
bool ferry__heritage_take(struct ferry__heritage *heritage, struct ferry__ctx *ctx);
void ferry__heritage_drop(struct ferry__heritage *heritage);
/* A job that is made later and inherits the same as what was made there. NULL: out of memory. */
struct ferry__job *ferry__job_heir(ferry_executor *executor, ferry_fn fn, void *arg,
                                   const ferry_job_options *options,
                                   const struct ferry__heritage *heritage);
/* Hands a new job over; it ends at once when the executor doesn't take it. May suspend or block,
 * as ferry_submit(). */
void ferry__job_submit(struct ferry__job *job);
/* What is the same in all plain jobs, and in the records that are kept for the next one. */
static inline void ferry__job_blank(struct ferry__job *job) {
    job->future.name = "job";
    job->future.named = false;
    job->future.plain = true;
    job->values = NULL;
    job->optioned = job->work.abandoned = false;
    job->hook_lock = 0;
    job->thread = NULL;
    job->helping = NULL;
    job->patience = NULL;
    job->hook_busy = 0;
    job->token = NULL;
}

/* job.c */
struct ferry__job_end {
    int64_t result;
    struct ferry__detail *detail;
};
/* Runs a job that was taken, on the calling thread. The end is the caller's to deliver. */
struct ferry__job_end ferry__job_run(struct ferry__job *job, struct ferry__thread *thread);
/* The same inside the job of `ctx`, which awaits it on its own thread and is told with it. */
struct ferry__job_end ferry__job_run_for(struct ferry__ctx *ctx, struct ferry__job *job);
/* Its request, unless there is one already; nobody is told. */
void ferry__job_ask(struct ferry__job *job);
/* Nobody but the running side holds its handle. */
static inline bool ferry__job_orphaned(const struct ferry__job *job) {
    return atomic_load_explicit(&job->future.refs, memory_order_acquire) == 1;
}
static inline const ferry_job_options *ferry__job_options(const struct ferry__job *job) {
    static const ferry_job_options none;
    return job->optioned ? &job->options : &none;
}
/* Decides the handle and gives the running side's reference back: the job may be gone then. */
void ferry__job_finish(struct ferry__job *job, struct ferry__job_end end);
/* The same by a pool's thread, which may leave what follows to the loop that the job came from. */
void ferry__job_finish_at_home(struct ferry__job *job, struct ferry__job_end end,
                               struct ferry__thread *thread);
/* Before a pool's thread rests or leaves. */
void ferry__job_no_client(struct ferry__thread *thread);

/* threads.c, under both of the pool's locks unless said otherwise */
/* the line, or the pool, has grown */
void ferry__pool_rouse(ferry_executor *pool, struct ferry__after *after);
enum ferry__wanted ferry__pool_wants(const ferry_executor *pool);
void ferry__pool_wake(ferry_executor *pool, struct ferry__worker *worker);  /* no lock */
void ferry__pool_start(ferry_executor *pool);                               /* no lock */
/* no lock: a strand's turn */
void ferry__pool_turn(ferry_executor *pool, struct ferry__turn *turn);
/* no lock: idle threads leave */
void ferry__pool_closed(ferry_executor *pool);
bool ferry__pool_ended(const ferry_executor *pool);
/* jobs that threads will take at once */
size_t ferry__pool_spare(const ferry_executor *pool);
/* No lock. The strand of a turn in the line or at work that wasn't asked for before; NULL: no
 * more. A reference. */
ferry_executor *ferry__pool_untold(ferry_executor *pool);
/* No lock. The strand of the i-th turn at work; NULL: there are fewer. A reference. */
ferry_executor *ferry__pool_at_work(ferry_executor *pool, size_t i);
/* No lock, but the hook_lock of the job, which runs on the calling thread or another one and has
 * just been given up: its thread may be replaced. What follows is for ferry__executor_after() of
 * the returned pool; NULL: nothing. */
ferry_executor *ferry__worker_lost(const struct ferry__job *job, struct ferry__after *after);
/* no lock: the last thread has left */
void ferry__pool_join(ferry_executor *pool);
/* no lock: waits for idle threads to leave */
void ferry__pool_idle_out(ferry_executor *pool);
/* no lock: alone in the child */
void ferry__pool_forked(ferry_executor *pool);
void ferry__pool_destroy(ferry_executor *pool);
long ferry__threads_idle(void); /* threads of all pools that sleep without work */
void ferry__threads_forked(void); /* fork.c: in the child */

/* strand.c, under the strand's lock unless said otherwise */
/* one more, if there is need and room */
struct ferry__turn *ferry__strand_turn(ferry_executor *strand);
size_t ferry__strand_spare(const ferry_executor *strand);       /* turns that run no job */
/* The turns are all at work: what is queued waits for one of the jobs that run. */
bool ferry__strand_full(const ferry_executor *strand);
/* a job runs without a turn, or has run */
void ferry__strand_helped(ferry_executor *strand, bool begins);
/* no lock; see there */
struct ferry__job *ferry__strand_begin(struct ferry__turn *turn);
/* no lock; see there */
bool ferry__strand_end(struct ferry__turn *turn, struct ferry__job *job);
void ferry__strand_fail(struct ferry__turn *turn, struct ferry__job_end end);    /* no lock */
bool ferry__strand_ended(const ferry_executor *strand);
size_t ferry__strand_width(const ferry_executor *strand);         /* fixed */
ferry_executor *ferry__strand_pool(const ferry_executor *strand); /* fixed */
void ferry__strand_forked(ferry_executor *strand);                /* no lock: alone in the child */
void ferry__strand_destroy(ferry_executor *strand);

/* limiter.c: a token for a job, which the caller waits for in turn: 0, or an error that is
 * recorded. */
int ferry__token_take(ferry_limiter *limiter, const char *key, struct ferry__token **token);
void ferry__token_put(struct ferry__token *token);

/* inline.c */
void ferry__inline_submit(ferry_executor *executor, struct ferry__job *job,
                          struct ferry__thread *thread);

#endif

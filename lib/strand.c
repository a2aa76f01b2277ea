/* Strands: one job at a time (or `width`), in order, on the threads of a pool.
 *
 * A strand has `width` turns. A turn is either free or stands in the pool's line or is being run by
 * a worker: it is handed to the pool when there are more jobs than turns under way, takes one job
 * when a worker gets to it, and goes back to the end of the pool's line while jobs are left. So
 * strands share a pool fairly, and a strand with a thousand jobs takes no more than `width` places
 * in front of others.
 *
 * A job that waits for one that is queued behind it on its own strand, with all turns at work, runs
 * it itself (help.c): that one has no turn, and is counted as helped.
 *
 * All under the strand's lock, but for the links of turns that aren't free, which are the
 * pool's. A turn that isn't free holds a reference on the strand. */
#include "config.h"

#include <errno.h>

#include "executor.h"

struct strand {
    ferry_executor base; /* first */
    ferry_executor *pool; /* one of its owners */
    size_t width;
    size_t under_way;           /* turns that aren't free */
    size_t helped;              /* jobs that run without a turn */
    struct ferry__turn *free;   /* linked by work.next */
    struct ferry__turn turns[]; /* width of them */
};

static struct ferry__detail say_pool = FERRY__STATIC_DETAIL("a strand needs a pool to run on");

static void push_free(struct strand *s, struct ferry__turn *turn) {
    turn->work.next = s->free ? &s->free->work : NULL;
    s->free = turn;
}

static struct ferry__turn *pop_free(struct strand *s) {
    struct ferry__turn *turn = s->free;
    s->free = (struct ferry__turn *)turn->work.next; /* NULL is NULL */
    return turn;
}

static void free_all(struct strand *s) {
    s->free = NULL;
    for (size_t i = 0; i < s->width; i++) {
        s->turns[i] = (struct ferry__turn){.work.is_turn = true, .strand = &s->base};
        push_free(s, &s->turns[i]);
    }
    s->under_way = s->helped = 0;
}

int ferry_strand_new(ferry_executor **out, ferry_executor *pool,
                     const ferry_executor_options *options) {
    *out = NULL;
    if (!pool && !(pool = ferry_executor_default()))
        return -ENOMEM;
    if (pool->kind != FERRY__POOL)
        return (int)ferry__error_say(ferry__ctx_self(), -EINVAL, &say_pool);
    int rc = ferry__executor_check(options);
    if (rc < 0)
        return rc;
    size_t width = options && options->threads_max ? (size_t)options->threads_max : 1;
    struct strand *s = ferry__calloc(1, sizeof *s + width * sizeof s->turns[0]);
    if (!s)
        return -ENOMEM;
    ferry__executor_init(&s->base, FERRY__STRAND, options, "strand");
    s->width = width;
    free_all(s);
    s->pool = pool;
    atomic_fetch_add(&pool->owners, 1);
    ferry__executor_ref(pool);
    *out = &s->base;
    return 0;
}

size_t ferry__strand_width(const ferry_executor *strand) {
    return ((const struct strand *)strand)->width;
}

ferry_executor *ferry__strand_pool(const ferry_executor *strand) {
    return ((const struct strand *)strand)->pool;
}

bool ferry__strand_ended(const ferry_executor *strand) {
    return strand->stats.queued == 0 && strand->stats.running == 0;
}

void ferry__strand_destroy(ferry_executor *strand) {
    ferry_executor *pool = ((struct strand *)strand)->pool;
    ferry__free(strand);
    ferry_executor_free(pool);
}

void ferry__strand_forked(ferry_executor *strand) {
    free_all((struct strand *)strand);
}

/* ---- Turns ----------------------------------------------------------------------------------- */

/* Jobs that run in a turn. */
static size_t in_turns(const struct strand *s) {
    return s->base.stats.running - s->helped;
}

size_t ferry__strand_spare(const ferry_executor *strand) {
    const struct strand *s = (const struct strand *)strand;
    return s->width - in_turns(s);
}

bool ferry__strand_full(const ferry_executor *strand) {
    return ferry__strand_spare(strand) == 0;
}

void ferry__strand_helped(ferry_executor *strand, bool begins) {
    struct strand *s = (struct strand *)strand;
    s->helped = begins ? s->helped + 1 : s->helped - 1;
}

struct ferry__turn *ferry__strand_turn(ferry_executor *strand) {
    struct strand *s = (struct strand *)strand;
    if (!s->free || s->under_way >= strand->stats.queued + in_turns(s))
        return NULL;
    s->under_way++;
    ferry__executor_ref(strand);
    return pop_free(s);
}

/* Under the lock. */
static void free_turn(struct strand *s, struct ferry__turn *turn) {
    push_free(s, turn);
    s->under_way--;
}

/* A worker has got to a turn: the job that it is to run, counted as running; NULL: none is left. */
struct ferry__job *ferry__strand_begin(struct ferry__turn *turn) {
    ferry_executor *strand = turn->strand;
    struct ferry__after after = {0};
    struct ferry__job *job = NULL;
    ferry__lock(&strand->lock);
    if (strand->first) {
        job = ferry__executor_take(strand, strand->first);
        ferry__executor_began(strand, job);
        ferry__executor_admit(strand, &after);
    }
    ferry__unlock(&strand->lock);
    ferry__executor_after(strand, &after);
    FERRY__POINT(strand_began);
    /* A close of the pool that hasn't seen this job among those that run has set the flag
     * before. */
    if (job && __atomic_load_n(&((struct strand *)strand)->pool->cancelling, __ATOMIC_RELAXED)) {
        ferry__job_ask(job);
    }
    return job;
}

/* The job, if there was one, has come to its end; it is the caller's to finish, and counts as
 * `delivering`. True: the turn is to stand in the pool's line again. False: it is free, and its
 * reference on the strand is the caller's. No list of the pool holds it when this is called. */
bool ferry__strand_end(struct ferry__turn *turn, struct ferry__job *job) {
    ferry_executor *strand = turn->strand;
    struct strand *s = (struct strand *)strand;
    ferry__lock(&strand->lock);
    if (job) {
        ferry__executor_ended(strand, job);
        strand->delivering++;
    }
    /* Each of the other turns runs a job or will take one. */
    bool again = strand->stats.queued + in_turns(s) > s->under_way - 1;
    if (!again)
        free_turn(s, turn);
    ferry__unlock(&strand->lock);
    return again;
}

/* There is no thread to run it: what the strand has fails. */
void ferry__strand_fail(struct ferry__turn *turn, struct ferry__job_end end) {
    ferry_executor *strand = turn->strand;
    struct ferry__work *failed = NULL;
    struct ferry__wakes wakes = {0};
    size_t n = 0;
    ferry__lock(&strand->lock);
    free_turn((struct strand *)strand, turn);
    for (; strand->first; n++) {
        struct ferry__job *job = ferry__executor_take(strand, strand->first);
        job->work.next = failed;
        failed = &job->work;
    }
    strand->delivering += n;
    ferry__executor_refuse(strand, end.result, &wakes);
    ferry__unlock(&strand->lock);
    ferry__wake_all(&wakes);
    while (failed) {
        struct ferry__job *job = ferry__container(failed, struct ferry__job, work);
        failed = failed->next;
        ferry__job_finish(job, end);
    }
    ferry__executor_delivered(strand, n);
    ferry__executor_unref(strand);
}

/* Strands: one job at a time (or `width`), in order, on the threads of a pool.
 *
 * A strand has `width` turns. A turn is either free or stands in the pool's line or is being run by a worker: it
 * is handed to the pool when there are more jobs than turns under way, takes one job when a worker gets to it, and
 * goes back to the end of the pool's line while jobs are left. So strands share a pool fairly, and a strand
 * with a thousand jobs takes no more than `width` places in front of others.
 *
 * All under the strand's lock, but for the turns' links, which are the pool's. A turn that isn't free holds a
 * reference on the strand. */
#include "config.h"

#include <errno.h>

#include "executor.h"

struct strand {
    ferry_executor base; /* first */
    ferry_executor *pool; /* one of its owners */
    size_t width;
    size_t under_way;           /* turns that aren't free */
    struct ferry__work *free;   /* turns, linked by next */
    struct ferry__work turns[]; /* width of them */
};

static struct ferry__detail say_pool = FERRY__STATIC_DETAIL("a strand needs a pool to run on");

int ferry_strand_new(ferry_executor **out, ferry_executor *pool, const ferry_executor_options *options) {
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
    for (size_t i = 0; i < width; i++) {
        s->turns[i].strand = &s->base;
        s->turns[i].next = s->free;
        s->free = &s->turns[i];
    }
    s->pool = pool;
    atomic_fetch_add(&pool->owners, 1);
    ferry__executor_ref(pool);
    *out = &s->base;
    return 0;
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

struct ferry__work *ferry__strand_turn(ferry_executor *strand) {
    struct strand *s = (struct strand *)strand;
    struct ferry__work *turn = s->free;
    if (!turn || s->under_way >= strand->stats.queued + strand->stats.running)
        return NULL;
    s->free = turn->next;
    s->under_way++;
    ferry__executor_ref(strand);
    return turn;
}

/* A worker has got to a turn. Runs the strand's next job, if there is one (*job; it is the caller's to finish, after
 * it has counted itself idle). Afterwards the turn stands in the pool's line again, or is free. */
void ferry__strand_run(struct ferry__work *turn, struct ferry__job **job, struct ferry__job_end *end,
                       struct ferry__thread *thread) {
    ferry_executor *strand = turn->strand;
    struct strand *s = (struct strand *)strand;
    struct ferry__after after = {0};
    ferry__lock(&strand->lock);
    *job = NULL;
    if (strand->first) {
        *job = ferry__executor_take(strand, strand->first, &after);
        ferry__executor_began(strand, *job);
    }
    ferry__unlock(&strand->lock);
    ferry__executor_after(strand, &after);
    if (*job) {
        if (__atomic_load_n(&s->pool->cancelling, __ATOMIC_RELAXED)) {
            int none = FERRY__REQUEST_NONE;
            atomic_compare_exchange_strong(&(*job)->request, &none, FERRY__REQUEST_CANCEL);
        }
        *end = ferry__job_run(*job, thread);
    }
    struct ferry__wakes wakes = {0};
    ferry__lock(&strand->lock);
    if (*job)
        ferry__executor_ended(strand, *job);
    /* Turns that stand in the pool's line will take one each; those that run one come back here. */
    bool again = strand->stats.queued > s->under_way - 1 - strand->stats.running;
    if (!again) {
        turn->next = s->free;
        s->free = turn;
        s->under_way--;
    }
    ferry__executor_check_end(strand, &wakes);
    ferry__unlock(&strand->lock);
    if (again)
        ferry__pool_turn(s->pool, turn);
    ferry__wake_all(&wakes);
    if (!again)
        ferry__executor_unref(strand);
}

/* There is no thread to run it: what the strand has fails. */
void ferry__strand_fail(struct ferry__work *turn, struct ferry__job_end end) {
    ferry_executor *strand = turn->strand;
    struct strand *s = (struct strand *)strand;
    struct ferry__work *failed = NULL;
    struct ferry__after after = {0};
    ferry__lock(&strand->lock);
    turn->next = s->free;
    s->free = turn;
    s->under_way--;
    /* As many as stand here now; those of submitters who wait come after them, with a turn of their own. */
    for (size_t n = strand->stats.queued; n > 0; n--) {
        struct ferry__job *job = ferry__executor_take(strand, strand->first, &after);
        job->work.next = failed;
        failed = &job->work;
    }
    ferry__executor_check_end(strand, &after.wakes);
    ferry__unlock(&strand->lock);
    while (failed) {
        struct ferry__job *job = ferry__container(failed, struct ferry__job, work);
        failed = failed->next;
        ferry__job_finish(job, end);
    }
    ferry__executor_after(strand, &after);
    ferry__executor_unref(strand);
}

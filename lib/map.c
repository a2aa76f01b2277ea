/* Map: a ring of items whose jobs or tasks run, and whose results are taken in order.
 *
 * The consumer drives it. A call for a result first takes items from the source as long as there is
 * room in the ring (`ahead` slots), and starts a job or task for each; then it looks at the oldest
 * slot. There is no task or thread that would have to be found a place to run, and nothing is read
 * ahead that the ring doesn't hold. How many run at a time isn't the ring's business: jobs stand in
 * a strand of the map's own with as many turns, tasks take a permit each. So the next one begins as
 * soon as another has ended, also while the consumer is away.
 *
 * When there is nothing to give, the consumer waits for the oldest slot's handle, for the source to
 * have an item (of a stream, when there is room), and for a stop, whichever comes first (struct
 * ferry__either). Because a map is a stream, it can be the source of another.
 *
 *     OPEN -> FAILED     by the consumer: it was given an error, and FERRY_COLLECT wasn't asked for
 *          -> STOPPED    by any thread; stays
 *
 * All fields are the consumer's (one at a time), but for those under the lock: the handles in the
 * ring, which a stop from another thread has to find, and who waits.
 *
 * Jobs are told to stop by closing the strand, tasks one by one. A slot's item is the map's until
 * its result is given. */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>

#include "executor.h"
#include "stream_core.h"

enum { CONCURRENCY = 8 };
#define AHEAD_MAX (SIZE_MAX / 64)

struct map;

struct slot {
    struct map *map;
    void *item;
    ferry_future *future; /* written under the map's lock; NULL: out of memory */
};

enum state { OPEN, FAILED };

struct map {
    ferry_stream base; /* first */
    ferry_fn fn;       /* fixed, like what follows */
    ferry_source source;
    unsigned flags;
    void (*item_free)(void *item);
    ferry_job_options job;
    ferry_task_options task;
    ferry_loop *loop;             /* of tasks: a reference; NULL: jobs */
    struct ferry__heritage heirs; /* of jobs: what each of them inherits */
    size_t ahead;
    char name[FERRY__NAME_MAX];
    char waits[FERRY__NAME_MAX + 16]; /* what the consumer waits for, for reports */

    ferry_sem permits; /* of tasks */
    size_t taken;      /* from an array */
    int64_t over;      /* 0: the source may have more; else how it ended */
    struct ferry__detail *over_detail;
    enum state state;
    int64_t error; /* FAILED: with this */
    struct ferry__detail *error_detail;
    size_t head, count; /* the ring; written under the lock */
    struct slot *slots;
    struct ferry__link look; /* at the oldest slot's handle */
    struct ferry__either *looker;
    ferry_future *looked_at; /* NULL: the link is nowhere */

    unsigned lock;                /* guards what follows, and what says so above */
    struct ferry__either *parked; /* the consumer, while it waits */
    bool stopped;
    bool source_closed; /* a stream that is the source: a stop leaves it alone */
};

static struct ferry__detail say_source =
    FERRY__STATIC_DETAIL("a map needs a function and one source: items, next or stream");
static struct ferry__detail say_options = FERRY__STATIC_DETAIL(
    "a map's concurrency isn't negative, `ahead` is at most SIZE_MAX / 64, and it knows no other "
    "flag than FERRY_COLLECT");
static struct ferry__detail say_no_loop = FERRY__STATIC_DETAIL(
    "there is no loop here for a map's tasks: use ferry_run(), or ferry_map_submit()");
static struct ferry__detail say_stopped = FERRY__STATIC_DETAIL("the map was stopped");
static struct ferry__detail say_over = FERRY__STATIC_DETAIL("every result was given");
static struct ferry__detail say_not_yet = FERRY__STATIC_DETAIL("the next result isn't there yet");
static struct ferry__detail say_no_memory =
    FERRY__STATIC_DETAIL("out of memory: the item's job or task could not be started");

static struct map *map_of(ferry_stream *stream) {
    return (struct map *)stream;
}

static struct slot *slot_at(struct map *m, size_t i) {
    return &m->slots[(m->head + i) % m->ahead];
}

static bool is_stopped(struct map *m) {
    ferry__lock(&m->lock);
    bool stopped = m->stopped;
    ferry__unlock(&m->lock);
    return stopped;
}

static void discard(const struct map *m, void *item) {
    if (m->item_free)
        m->item_free(item);
}

/* ---- Starting -------------------------------------------------------------------------------- */

static int64_t run_task(void *arg) {
    struct slot *slot = arg;
    struct map *m = slot->map;
    int rc = ferry_sem_acquire(&m->permits, 1);
    if (rc < 0)
        return rc;
    int64_t result = m->fn(slot->item);
    ferry_sem_release(&m->permits, 1);
    return result;
}

static void launch(struct map *m, void *item) {
    struct slot *slot = slot_at(m, m->count);
    *slot = (struct slot){.map = m, .item = item};
    ferry_future *future;
    if (m->loop) {
        future = ferry_spawn_on_with(m->loop, run_task, slot, &m->task);
    } else {
        struct ferry__job *job = ferry__job_heir(m->base.strand, m->fn, item, &m->job, &m->heirs);
        future = job ? &job->future : NULL;
        if (job)
            ferry__job_submit(job);
    }
    ferry__lock(&m->lock);
    slot->future = future;
    m->count++;
    bool stopped = m->stopped;
    ferry__unlock(&m->lock);
    if (stopped) /* too late for the stop to have seen it */
        ferry_cancel(future);
}

/* The next item: 0; -EAGAIN (a stream has none now); FERRY_END; an error. */
static int64_t take_item(struct map *m, struct ferry__ctx *ctx, void **item) {
    const ferry_source *source = &m->source;
    *item = NULL;
    if (source->next)
        return source->next(source->arg, item);
    if (!source->stream) {
        if (m->taken == source->n)
            return FERRY_END;
        *item = source->items[m->taken++];
        return 0;
    }
    int64_t rc = source->stream->kind->next(source->stream, ctx, item, 0, false);
    if (rc < 0 && *item) /* of a map that goes on after errors; this one doesn't */
        discard(m, *item);
    return rc;
}

static bool head_done(struct map *m) {
    const ferry_future *f = slot_at(m, 0)->future;
    return !f || ferry__future_done(f);
}

/* Takes what there is, without waiting but for the source's own function: that is asked for one
 * item at least, and for more as long as there is no result to give. 0 or -ECANCELED. */
static int64_t fill(struct map *m, struct ferry__ctx *ctx) {
    while (m->over == 0 && m->count < m->ahead) {
        void *item;
        int64_t rc = take_item(m, ctx, &item);
        if (rc == -EAGAIN && m->source.stream)
            break;
        if (rc == -ECANCELED && ferry__region_cancelled(ctx))
            return rc;
        if (rc < 0) {
            m->over = rc == -ECANCELED ? FERRY_EJOBCANCELED : rc;
            m->over_detail = ferry__error_take(ctx, rc);
            break;
        }
        launch(m, item);
        if (m->source.next && head_done(m))
            break;
    }
    return 0;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static void head_ended(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    (void)f;
    ferry__either_claim(ferry__container(link, struct map, look)->looker, wakes);
}

static bool map_arm(ferry_stream *stream, struct ferry__either *looker) {
    struct map *m = map_of(stream);
    ferry__lock(&m->lock);
    bool stopped = m->stopped;
    m->parked = looker;
    ferry__unlock(&m->lock);
    bool room = m->over == 0 && m->count < m->ahead;
    if (stopped || m->state == FAILED || (m->count == 0 && !room) || (m->count > 0 && head_done(m)))
        return false;
    if (room && !m->source.stream)
        return false;
    if (m->count > 0) {
        m->looker = looker;
        m->looked_at = slot_at(m, 0)->future;
        if (!ferry__future_link(m->looked_at, &m->look)) {
            m->looked_at = NULL;
            return false;
        }
    }
    return !room || m->source.stream->kind->arm(m->source.stream, looker);
}

static void map_disarm(ferry_stream *stream) {
    struct map *m = map_of(stream);
    ferry__lock(&m->lock);
    m->parked = NULL;
    ferry__unlock(&m->lock);
    if (m->looked_at)
        ferry__future_unlink(m->looked_at, &m->look);
    m->looked_at = NULL;
    if (m->source.stream)
        m->source.stream->kind->disarm(m->source.stream);
}

/* Until it is worth looking again: 0; -ECANCELED; -ETIMEDOUT; -EDEADLK. */
static int wait_for_change(struct map *m, struct ferry__ctx *ctx, int64_t deadline) {
    int rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    struct ferry__either looker = {.waiter = &w};
    if (!map_arm(&m->base, &looker)) {
        map_disarm(&m->base);
        /* Somebody may have granted it all the same: that wake has to be waited for. */
        return atomic_load(&w.outcome) == FERRY__GRANTED
                   ? ferry__park(&w, m->waits, FERRY__NEVER, FERRY__SHIELDED)
                   : 0;
    }
    if (ctx->kind == FERRY__JOB)
        ferry__worker_blocked(ctx);
    rc = ferry__park(&w, m->waits, deadline, 0);
    if (ctx->kind == FERRY__JOB)
        ferry__worker_unblocked(ctx);
    map_disarm(&m->base);
    return rc;
}

/* ---- Ending ---------------------------------------------------------------------------------- */

/* What hasn't begun never will, what runs is told to stop. Any thread. */
static void halt(struct map *m) {
    struct ferry__stream_held source = {0};
    ferry__lock(&m->lock);
    if (m->source.stream && !m->source_closed)
        ferry__stream_hold(&source, m->source.stream);
    ferry__unlock(&m->lock);
    ferry_stream_stop(source.stream);
    ferry__stream_let_go(&source);
    if (m->base.strand) {
        ferry_executor_close(m->base.strand, FERRY_CLOSE_CANCEL);
        return;
    }
    for (size_t i = m->ahead; i-- > 0;) { /* backwards: the consumer may take one from the front */
        ferry__lock(&m->lock);
        ferry_future *f = i < m->count ? ferry_ref(slot_at(m, i)->future) : NULL;
        ferry__unlock(&m->lock);
        if (!f)
            continue;
        ferry_cancel(f);
        ferry_detach(f);
    }
}

static void map_stop(ferry_stream *stream) {
    struct map *m = map_of(stream);
    struct ferry__wakes wakes = {0};
    ferry__lock(&m->lock);
    m->stopped = true;
    if (m->parked)
        ferry__either_claim(m->parked, &wakes);
    m->parked = NULL;
    ferry__unlock(&m->lock);
    ferry__wake_all(&wakes);
    halt(m);
}

static ferry_future *leave_ring(struct map *m) {
    ferry__lock(&m->lock);
    ferry_future *f = slot_at(m, 0)->future;
    m->head = (m->head + 1) % m->ahead;
    m->count--;
    ferry__unlock(&m->lock);
    return f;
}

/* The oldest slot is done. */
static int64_t give(struct map *m, struct ferry__ctx *ctx, void **item) {
    struct slot *slot = slot_at(m, 0);
    int64_t rc = slot->future ? ferry__future_take(slot->future, ctx)
                              : ferry__error_say(ctx, -ENOMEM, &say_no_memory);
    /* Did it end because of a stop (a job may have come to a closed strand), or for the caller's
     * sake? Then nothing was given. */
    if ((rc == FERRY_EJOBCANCELED || rc == FERRY_ECLOSED) && is_stopped(m))
        return ferry__error_say(ctx, FERRY_ECLOSED, &say_stopped);
    if (rc == FERRY_EJOBCANCELED && ferry__region_cancelled(ctx)) {
        ferry__error_set(ctx, -ECANCELED, NULL);
        return -ECANCELED;
    }
    *item = slot->item;
    ferry_detach(leave_ring(m));
    if (rc < 0 && !(m->flags & FERRY_COLLECT)) {
        m->state = FAILED;
        m->error = rc;
        m->error_detail = ferry__detail_ref(ctx->detail);
        halt(m);
        ferry__error_set(ctx, rc, ferry__detail_ref(m->error_detail));
    }
    return rc;
}

static int64_t map_next(ferry_stream *stream, struct ferry__ctx *ctx, void **item, int64_t ms,
                        bool wait) {
    struct map *m = map_of(stream);
    int64_t deadline = wait ? ferry__deadline(ms) : 0;
    int64_t rc = wait ? ferry__enter(ctx) : 0;
    for (; rc == 0; rc = wait_for_change(m, ctx, deadline)) {
        if (is_stopped(m))
            return ferry__error_say(ctx, FERRY_ECLOSED, &say_stopped);
        if (m->state == FAILED) {
            ferry__error_set(ctx, m->error, ferry__detail_ref(m->error_detail));
            return m->error;
        }
        rc = fill(m, ctx);
        if (rc < 0)
            return rc;
        if (m->count > 0 && head_done(m))
            return give(m, ctx, item);
        if (m->count == 0 && m->over == FERRY_END)
            return ferry__error_say(ctx, FERRY_END, &say_over);
        if (m->count == 0 && m->over < 0) {
            ferry__error_set(ctx, m->over, ferry__detail_ref(m->over_detail));
            return m->over;
        }
        if (!wait)
            return ferry__error_say(ctx, -EAGAIN, &say_not_yet);
    }
    return rc;
}

static int map_start(ferry_stream *stream, struct ferry__ctx *ctx) {
    struct map *m = map_of(stream);
    return m->state == OPEN && !is_stopped(m) ? (int)fill(m, ctx) : 0;
}

static bool map_busy(ferry_stream *stream) {
    struct map *m = map_of(stream);
    for (size_t i = 0; i < m->count; i++)
        if (!ferry_done(slot_at(m, i)->future))
            return true;
    return m->source.stream && m->source.stream->kind->busy(m->source.stream);
}

static int64_t map_join(ferry_stream *stream, struct ferry__ctx *ctx, bool *closed) {
    struct map *m = map_of(stream);
    int64_t first = 0;
    map_stop(stream);
    for (*closed = true; m->count > 0;) {
        void *item = slot_at(m, 0)->item;
        ferry_future *f = leave_ring(m);
        if (f && ctx)
            ferry__future_observe(f, ctx, FERRY__NEVER, FERRY__SHIELDED);
        while (!ferry_done(f)) /* without a record there is nothing to sleep on */
            sched_yield();
        int64_t rc = f ? ferry__future_take(f, ctx) : -ENOMEM;
        if (first == 0 && rc < 0 && rc != FERRY_EJOBCANCELED && rc != FERRY_ECLOSED)
            first = rc;
        ferry_detach(f);
        discard(m, item);
    }
    while (m->taken < m->source.n)
        discard(m, m->source.items[m->taken++]);
    ferry__lock(&m->lock);
    m->source_closed = true;
    ferry__unlock(&m->lock);
    int64_t source = ferry_stream_close(m->source.stream);
    return first < 0 ? first : source < 0 ? source : 0;
}

static void map_destroy(ferry_stream *stream) {
    struct map *m = map_of(stream);
    ferry__detail_unref(m->over_detail);
    ferry__detail_unref(m->error_detail);
    ferry__heritage_drop(&m->heirs);
    if (m->loop)
        ferry__loop_unref(m->loop);
    ferry__free(m->slots);
    ferry__free(m);
}

static const struct ferry__stream_kind map_kind = {
    .next = map_next,
    .start = map_start,
    .arm = map_arm,
    .disarm = map_disarm,
    .stop = map_stop,
    .busy = map_busy,
    .join = map_join,
    .destroy = map_destroy,
};

/* ---- Making one ------------------------------------------------------------------------------ */

static const ferry_map_options defaults;

/* 0, -EINVAL, -ENOMEM (no record). */
static int check(struct ferry__ctx *ctx, ferry_fn fn, const ferry_source *source,
                 const ferry_map_options *options) {
    if (!ctx)
        return -ENOMEM;
    if (!fn || !source || (source->n > 0 && !source->items) ||
        !!source->items + !!source->next + !!source->stream > 1)
        return (int)ferry__error_say(ctx, -EINVAL, &say_source);
    if (options->concurrency < 0 || options->ahead > AHEAD_MAX ||
        options->flags & ~(unsigned)FERRY_COLLECT)
        return (int)ferry__error_say(ctx, -EINVAL, &say_options);
    return 0;
}

static struct map *make(ferry_fn fn, const ferry_source *source, const ferry_map_options *options) {
    int concurrency = options->concurrency ? options->concurrency : CONCURRENCY;
    size_t ahead = options->ahead ? options->ahead : 2 * (size_t)concurrency;
    struct map *m = ferry__calloc(1, sizeof *m);
    if (m)
        m->slots = ferry__calloc(ahead, sizeof *m->slots);
    if (!m || !m->slots) {
        ferry__free(m);
        return NULL;
    }
    m->fn = fn;
    m->source = *source;
    m->flags = options->flags;
    m->item_free = options->item_free;
    m->ahead = ahead;
    m->look.notify = head_ended;
    snprintf(m->name, sizeof m->name, "%s", options->name ? options->name : "map");
    snprintf(m->waits, sizeof m->waits, "result of %s", m->name);
    m->job = (ferry_job_options){.name = m->name,
                                 .interrupt = options->interrupt,
                                 .interrupt_signal = options->interrupt_signal};
    m->task = (ferry_task_options){.name = m->name, .stack_size = options->stack_size};
    ferry_sem_init(&m->permits, concurrency, 0);
    return m;
}

ferry_stream *ferry_map_submit(ferry_executor *pool, ferry_fn fn, const ferry_source *source,
                               const ferry_map_options *options) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!options)
        options = &defaults;
    int rc = check(ctx, fn, source, options);
    struct map *m = rc == 0 ? make(fn, source, options) : NULL;
    if (rc == 0)
        rc = m ? 0 : -ENOMEM;
    if (rc == 0) {
        ferry_executor_options lane = {.name = options->name ? options->name : "map",
                                       .threads_max = (int)m->permits.value,
                                       .queue_max = m->ahead};
        rc = ferry_strand_new(&m->base.strand, pool, &lane);
    }
    if (rc == 0 && !ferry__heritage_take(&m->heirs, ctx))
        rc = -ENOMEM;
    if (rc == 0) {
        ferry__stream_init(&m->base, &map_kind, 1, ctx);
        return &m->base;
    }
    if (m) {
        ferry_executor_free(m->base.strand);
        ferry__free(m->slots);
        ferry__free(m);
    }
    if (rc == -ENOMEM) /* the others have said why */
        return ferry__stream_refuse(ctx, ENOMEM, NULL);
    errno = -rc;
    return NULL;
}

ferry_stream *ferry_map_spawn(ferry_fn fn, const ferry_source *source,
                              const ferry_map_options *options) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!options)
        options = &defaults;
    int rc = check(ctx, fn, source, options);
    if (rc < 0) {
        errno = -rc;
        return NULL;
    }
    ferry_loop *loop = ferry__loop_of(ctx);
    if (!loop)
        return ferry__stream_refuse(ctx, EINVAL, &say_no_loop);
    struct map *m = make(fn, source, options);
    if (!m)
        return ferry__stream_refuse(ctx, ENOMEM, NULL);
    m->loop = loop;
    ferry__loop_ref(loop);
    ferry__stream_init(&m->base, &map_kind, 1, ctx);
    return &m->base;
}

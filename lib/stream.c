/* Streams: a producer, a task or a job, and a queue between it and the consumer.
 *
 *     FRESH -> BEGUN    by whoever comes first: the first call for an item, ferry_stream_start(),
 *                       or a stop or close, after which the producer never runs
 *
 * The producer's handle is made with the stream, so that a stop finds it at any time, and what it
 * inherits is that of the place where the stream was made; it is handed to its loop or executor
 * when the producer is to begin. A link on that handle ends the queue's put side once the handle is
 * done, whatever the reason (the function returned, the job was cancelled before it ran, there was
 * no stack): so whoever gets FERRY_END from the queue finds the result in the handle.
 *
 * A stop ends both sides of the queue first, so that senders get FERRY_EBROKEN and receivers
 * FERRY_ECLOSED, and cancels the producer then. A close is a stop and a shielded join.
 *
 * References: the user's, until the close; the running side's, until the producer doesn't use its
 * argument any more (of an abandoned job, after the close); the link's, until it was called. The
 * last one frees the record. Items are gone by then: a stop discards them, and nothing is let in
 * after it.
 *
 * Each stream stands on a list of the loop on which it was made, under that loop's streams_lock. A
 * shutdown stops and joins those that are left, after the tasks; they still have to be closed.
 *
 * Other kinds of streams (map.c) share the list and the consumer's calls. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "executor.h"
#include "queue_core.h"
#include "stream_core.h"

static struct ferry__detail say_null =
    FERRY__STATIC_DETAIL("there is no stream: it could not be made");
static struct ferry__detail say_own =
    FERRY__STATIC_DETAIL("a producer can't wait for its own items, nor close its own stream");
static struct ferry__detail say_strand = FERRY__STATIC_DETAIL(
    "the producer would have to wait for its turn on the strand that its consumer runs on");
static struct ferry__detail say_no_fn = FERRY__STATIC_DETAIL("a stream needs a producer function");
static struct ferry__detail say_no_loop = FERRY__STATIC_DETAIL(
    "there is no loop here for the producer: use ferry_run(), ferry_stream_spawn_on() with a loop, "
    "or ferry_stream_submit()");
static struct ferry__detail say_inline = FERRY__STATIC_DETAIL(
    "an inline executor would run the producer inside its consumer: use a pool or a strand");
static struct ferry__detail say_never = FERRY__STATIC_DETAIL("stopped before it began");
static struct ferry__detail say_no_start =
    FERRY__STATIC_DETAIL("the producer's loop was shut down: it takes no more tasks");
static struct ferry__detail say_no_producer =
    FERRY__STATIC_DETAIL("only a stream that was made with a producer can be sent into");

static struct ferry__detail say_ended = FERRY__STATIC_DETAIL("the stream's producer has ended");
static struct ferry__detail say_full =
    FERRY__STATIC_DETAIL("the consumer is behind: the stream has no room");
static struct ferry__detail say_empty = FERRY__STATIC_DETAIL("the stream has no item now");
static struct ferry__detail say_left =
    FERRY__STATIC_DETAIL("the stream's consumer has left: nobody will take the item");
static struct ferry__detail say_over = FERRY__STATIC_DETAIL("the stream is over");
static const struct ferry__queue_words words = {
    .closed = &say_ended,
    .full = &say_full,
    .empty = &say_empty,
    .broken = &say_left,
    .over = &say_over,
};
static struct ferry__detail say_forked =
    FERRY__STATIC_DETAIL("the stream belongs to the parent process: fork() copies no threads; "
                         "make it again in the child");
static struct ferry__detail say_stopped = FERRY__STATIC_DETAIL("the stream was stopped");

/* ---- Any kind -------------------------------------------------------------------------------- */

void ferry__stream_init(ferry_stream *stream, const struct ferry__stream_kind *kind, int refs,
                        struct ferry__ctx *ctx) {
    stream->kind = kind;
    atomic_init(&stream->refs, refs);
    stream->generation = atomic_load_explicit(&ferry__generation, memory_order_relaxed);
    ferry_loop *home = ferry__loop_of(ctx);
    if (!home)
        return;
    ferry__loop_ref(home);
    stream->home = home;
    ferry__lock(&home->streams_lock);
    stream->next = home->streams;
    if (stream->next)
        stream->next->prev = stream;
    home->streams = stream;
    ferry__unlock(&home->streams_lock);
}

static void unref(ferry_stream *stream) {
    if (atomic_fetch_sub_explicit(&stream->refs, 1, memory_order_acq_rel) != 1)
        return;
    ferry_loop *home = stream->home;
    stream->kind->destroy(stream);
    if (home)
        ferry__loop_unref(home);
}

/* From here on no shutdown finds it. */
static void unlist(ferry_stream *stream) {
    ferry_loop *home = stream->home;
    if (!home)
        return;
    ferry__lock(&home->streams_lock);
    if (stream->prev)
        stream->prev->next = stream->next;
    else
        home->streams = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    ferry__unlock(&home->streams_lock);
}

/* Whether it can be used here: 0, -ENOMEM, FERRY_EFORKED. */
static int usable(const ferry_stream *stream, struct ferry__ctx *ctx) {
    if (!stream)
        return (int)ferry__error_say(ctx, -ENOMEM, &say_null);
    if (ferry__forked(stream->generation))
        return (int)ferry__error_say(ctx, FERRY_EFORKED, &say_forked);
    return 0;
}

static int64_t next(ferry_stream *stream, void **item, int64_t ms, bool wait) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    *item = NULL;
    if (!ctx)
        return -ENOMEM;
    int rc = usable(stream, ctx);
    return rc < 0 ? rc : stream->kind->next(stream, ctx, item, ms, wait);
}

int64_t ferry_stream_next_for(ferry_stream *stream, void **item, int64_t ms) {
    return next(stream, item, ms, true);
}

int64_t ferry_stream_next(ferry_stream *stream, void **item) {
    return next(stream, item, FERRY_FOREVER, true);
}

int64_t ferry_stream_try_next(ferry_stream *stream, void **item) {
    return next(stream, item, 0, false);
}

int ferry_stream_start(ferry_stream *stream) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int rc = usable(stream, ctx);
    if (rc == 0)
        rc = ferry__enter(ctx);
    return rc < 0 ? rc : stream->kind->start(stream, ctx);
}

void ferry_stream_stop(ferry_stream *stream) {
    if (stream && usable(stream, ferry__ctx_self()) == 0)
        stream->kind->stop(stream);
}

int64_t ferry_stream_close(ferry_stream *stream) {
    if (!stream)
        return 0;
    struct ferry__ctx *ctx = ferry__ctx_self();
    int64_t rc = usable(stream, ctx);
    if (rc == 0 && ctx && stream->kind->busy(stream))
        rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    bool closed = true;
    rc = stream->kind->join(stream, ctx, &closed);
    if (!closed)
        return rc;
    unlist(stream);
    ferry_future *producer = stream->producer;
    ferry_executor *strand = stream->strand;
    if (producer)
        ferry__future_unref(producer);
    ferry_executor_free(strand);
    unref(stream);
    return rc;
}

/* ---- A loop's shutdown ----------------------------------------------------------------------- */

void ferry__stream_hold(struct ferry__stream_held *held, ferry_stream *stream) {
    atomic_fetch_add_explicit(&stream->refs, 1, memory_order_relaxed);
    *held = (struct ferry__stream_held){stream, ferry_ref(stream->producer), stream->strand};
    if (held->strand)
        ferry__executor_ref(held->strand);
}

void ferry__stream_let_go(const struct ferry__stream_held *held) {
    if (!held->stream)
        return;
    if (held->strand)
        ferry__executor_unref(held->strand);
    if (held->producer)
        ferry__future_unref(held->producer);
    unref(held->stream);
}

/* The latest stream that wasn't told yet; false: none is left. */
static bool untold(ferry_loop *loop, struct ferry__stream_held *held) {
    ferry__lock(&loop->streams_lock);
    ferry_stream *stream = loop->streams;
    while (stream && stream->told)
        stream = stream->next;
    if (stream) {
        stream->told = true;
        ferry__stream_hold(held, stream);
    }
    ferry__unlock(&loop->streams_lock);
    FERRY__POINT(stream_untold);
    return stream != NULL;
}

size_t ferry__streams_end(ferry_loop *loop, struct ferry__ctx *ctx, int64_t deadline) {
    size_t left = 0;
    struct ferry__stream_held held;
    while (untold(loop, &held)) {
        held.stream->kind->stop(held.stream);
        if (held.producer && ferry__future_observe(held.producer, ctx, deadline, 0) < 0) {
            ferry__log(FERRY_LOG_WARNING,
                       "shutdown: stream '%s' is left behind: its producer "
                       "doesn't end",
                       held.producer->name);
            left++;
        }
        if (held.strand)
            left += ferry__executor_join(held.strand, ctx, deadline);
        ferry__stream_let_go(&held);
    }
    return left;
}

/* ---- With a producer ------------------------------------------------------------------------- */

enum { FRESH, BEGUN };

struct produced {
    ferry_stream base; /* first */
    _Atomic int state; /* atomic: written once */
    _Atomic bool told; /* atomic: it was stopped before it had ended */
    ferry_queue *queue;
    struct ferry__link link; /* on the producer's handle */
    ferry_stream_fn fn;      /* fixed, like what follows */
    void *arg;
    void (*arg_free)(void *arg);
    void (*interrupt)(void *arg);
};

static struct produced *produced_of(ferry_stream *stream) {
    return (struct produced *)stream;
}

static int64_t produce(void *arg) {
    struct produced *p = arg;
    return p->fn(&p->base, p->arg);
}

static void interrupt(void *arg) {
    struct produced *p = arg;
    p->interrupt(p->arg);
}

/* The producer doesn't use its argument, nor the stream, any more. */
static void producer_gone(void *arg) {
    struct produced *p = arg;
    if (p->arg_free)
        p->arg_free(p->arg);
    unref(&p->base);
}

static void handle_done(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    (void)f;
    ferry__wakes_later(wakes, link);
}

static void end_of_items(struct ferry__link *link, ferry_future *f) {
    struct produced *p = ferry__container(link, struct produced, link);
    (void)f;
    ferry__queue_end(p->queue, FERRY_ECLOSED, FERRY_END, false);
    unref(&p->base);
}

static void destroy(ferry_stream *stream) {
    struct produced *p = produced_of(stream);
    ferry_queue_free(p->queue);
    ferry__free(p);
}

static bool begin(struct produced *p) {
    int fresh = FRESH;
    return atomic_compare_exchange_strong(&p->state, &fresh, BEGUN);
}

/* Instead of a begin. */
static void never_begin(struct produced *p, int64_t why, struct ferry__detail *detail) {
    ferry_future *f = p->base.producer;
    if (f->kind == FERRY__IS_JOB) {
        ferry__job_finish((struct ferry__job *)f, (struct ferry__job_end){why, detail});
        return;
    }
    producer_gone(p);
    ferry__future_complete(f, why, detail);
}

/* The caller is a job on a strand that runs one at a time, and the producer is to be the next one
 * there. */
static bool behind_the_caller(const struct produced *p, const struct ferry__ctx *ctx) {
    if (ctx->kind != FERRY__JOB || p->base.producer->kind != FERRY__IS_JOB)
        return false;
    const ferry_executor *theirs = ((const struct ferry__job *)p->base.producer)->executor;
    return theirs->kind == FERRY__STRAND && ferry__strand_width(theirs) == 1 &&
           theirs == ((const struct ferry__job *)ctx->self)->executor;
}

static int produced_start(ferry_stream *stream, struct ferry__ctx *ctx) {
    struct produced *p = produced_of(stream);
    ferry_future *f = stream->producer;
    if (atomic_load(&p->state) == FRESH && behind_the_caller(p, ctx))
        return (int)ferry__error_say(ctx, -EDEADLK, &say_strand);
    if (!begin(p))
        return 0;
    if (f->kind == FERRY__IS_JOB) {
        ferry__job_submit((struct ferry__job *)f);
        return 0;
    }
    int rc = ferry__task_start((struct ferry__task *)f);
    if (rc < 0)
        never_begin(p, rc, rc == FERRY_ECLOSED ? &say_no_start : NULL);
    return 0;
}

/* A job that has to wait says so to its pool, which may have to run the other side (rule 21). */
static int get(ferry_queue *queue, struct ferry__ctx *ctx, void **item, int64_t ms, bool wait) {
    if (!wait)
        return ferry_queue_try_get(queue, item);
    if (ctx->kind != FERRY__JOB)
        return ferry_queue_get_for(queue, item, ms);
    int rc = ferry__enter(ctx);
    if (rc == 0)
        rc = ferry_queue_try_get(queue, item);
    if (rc != -EAGAIN)
        return rc;
    ferry__worker_blocked(ctx);
    rc = ferry_queue_get_for(queue, item, ms);
    ferry__worker_unblocked(ctx);
    return rc;
}

/* The handle is done. */
static int64_t how_it_ended(ferry_future *f, struct ferry__ctx *ctx) {
    int64_t rc = ferry__future_take(f, ctx);
    if (rc >= 0 || rc == FERRY_END)
        return ferry__error_say(ctx, FERRY_END, &say_over);
    /* A job may have seen the end of the consumer's own scope first. */
    if (rc == FERRY_EJOBCANCELED && ferry__region_cancelled(ctx)) {
        rc = -ECANCELED;
        ferry__error_set(ctx, rc, NULL);
    }
    return rc;
}

static int64_t produced_next(ferry_stream *stream, struct ferry__ctx *ctx, void **item, int64_t ms,
                             bool wait) {
    struct produced *p = produced_of(stream);
    if (stream->producer == ctx->self)
        return ferry__error_say(ctx, -EDEADLK, &say_own);
    if (atomic_load_explicit(&p->state, memory_order_relaxed) == FRESH) {
        int rc = wait ? ferry__enter(ctx) : 0;
        if (rc == 0)
            rc = produced_start(stream, ctx);
        if (rc < 0)
            return rc;
    }
    int rc = get(p->queue, ctx, item, ms, wait);
    if (rc == FERRY_END)
        return how_it_ended(stream->producer, ctx);
    return rc == FERRY_ECLOSED ? ferry__error_say(ctx, rc, &say_stopped) : rc;
}

static bool produced_arm(ferry_stream *stream, struct ferry__either *looker) {
    return ferry__queue_arm(produced_of(stream)->queue, looker);
}

static void produced_disarm(ferry_stream *stream) {
    ferry__queue_disarm(produced_of(stream)->queue);
}

static void produced_stop(ferry_stream *stream) {
    struct produced *p = produced_of(stream);
    ferry_future *f = stream->producer;
    if (!ferry__future_done(f))
        atomic_store(&p->told, true);
    ferry__queue_end(p->queue, FERRY_EBROKEN, FERRY_ECLOSED, true);
    if (begin(p))
        never_begin(p, -ECANCELED, &say_never);
    else
        ferry_cancel(f);
}

static bool produced_busy(ferry_stream *stream) {
    return atomic_load(&produced_of(stream)->state) != FRESH &&
           !ferry__future_done(stream->producer);
}

static int64_t produced_join(ferry_stream *stream, struct ferry__ctx *ctx, bool *closed) {
    struct produced *p = produced_of(stream);
    ferry_future *f = stream->producer;
    int64_t rc = 0;
    if (ctx && f == ctx->self)
        rc = ferry__error_say(ctx, -EDEADLK, &say_own);
    else
        produced_stop(stream);
    if (rc == 0 && ctx)
        rc = ferry__future_observe(f, ctx, FERRY__NEVER, FERRY__SHIELDED);
    *closed = rc == 0;
    if (rc < 0)
        return rc;
    while (!ferry__future_done(f)) /* without a record there is nothing to sleep on */
        sched_yield();
    rc = f->result;
    /* A job may have been stopped by the scope that it shares with the caller before this came. */
    bool ours = atomic_load(&p->told) || (ctx && rc == -ECANCELED && ferry__region_cancelled(ctx));
    if (ours && (rc == -ECANCELED || rc == FERRY_EBROKEN || rc == FERRY_ECLOSED)) {
        atomic_store_explicit(&f->read, true, memory_order_relaxed);
        return 0;
    }
    return ferry__future_take(f, ctx);
}

static const struct ferry__stream_kind produced_kind = {
    .next = produced_next,
    .start = produced_start,
    .arm = produced_arm,
    .disarm = produced_disarm,
    .stop = produced_stop,
    .busy = produced_busy,
    .join = produced_join,
    .destroy = destroy,
};

/* ---- Making one ------------------------------------------------------------------------------ */

ferry_stream *ferry__stream_refuse(struct ferry__ctx *ctx, int code, struct ferry__detail *why) {
    errno = -(int)ferry__error_say(ctx, -code, why);
    return NULL;
}

static struct produced *make(ferry_stream_fn fn, void *arg, const ferry_stream_options *options) {
    ferry_queue_options between = {.name = options->name,
                                   .item_free = options->item_free,
                                   .bytes_max = options->bytes_max,
                                   .item_size = options->item_size};
    struct produced *p = ferry__calloc(1, sizeof *p);
    if (!p) {
        errno = ENOMEM;
        return NULL;
    }
    p->queue = ferry__queue_new(options->capacity, &between, "stream", &words);
    if (!p->queue) {
        ferry__free(p); /* errno is the queue's */
        return NULL;
    }
    p->fn = fn;
    p->arg = arg;
    p->arg_free = options->arg_free;
    p->interrupt = options->interrupt;
    p->link.notify = handle_done;
    p->link.after = end_of_items;
    return p;
}

/* With its producer's handle, or without for want of memory. */
static ferry_stream *made(struct produced *p, ferry_future *producer, struct ferry__ctx *ctx) {
    if (!producer) {
        ferry_queue_free(p->queue);
        ferry__free(p);
        return ferry__stream_refuse(ctx, ENOMEM, NULL);
    }
    p->base.producer = producer;
    ferry__future_link(producer, &p->link);
    ferry__stream_init(&p->base, &produced_kind, 3, ctx); /* user, running side, link */
    return &p->base;
}

ferry_stream *ferry_stream_spawn_on(ferry_loop *loop, ferry_stream_fn fn, void *arg,
                                    const ferry_stream_options *options) {
    static const ferry_stream_options defaults;
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (ctx && !loop)
        loop = ferry__loop_of(ctx);
    if (!ctx || !fn || !loop)
        return ferry__stream_refuse(ctx, ctx ? EINVAL : ENOMEM,
                                    !ctx ? NULL
                                    : fn ? &say_no_loop
                                         : &say_no_fn);
    if (!options)
        options = &defaults;
    struct produced *p = make(fn, arg, options);
    if (!p)
        return NULL;
    ferry_task_options same = {.name = options->name ? options->name : "stream",
                               .stack_size = options->stack_size,
                               .arg_free = producer_gone};
    return made(p, (ferry_future *)ferry__task_new(loop, produce, p, &same), ctx);
}

ferry_stream *ferry_stream_spawn(ferry_stream_fn fn, void *arg,
                                 const ferry_stream_options *options) {
    return ferry_stream_spawn_on(NULL, fn, arg, options);
}

ferry_stream *ferry_stream_submit(ferry_executor *executor, ferry_stream_fn fn, void *arg,
                                  const ferry_stream_options *options) {
    static const ferry_stream_options defaults;
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (ctx && !executor)
        executor = ferry_executor_default();
    if (!ctx || !executor)
        return ferry__stream_refuse(ctx, ENOMEM, NULL);
    ferry__executor_check_fork(executor);
    if (!fn || executor->kind == FERRY__INLINE)
        return ferry__stream_refuse(ctx, EINVAL, fn ? &say_inline : &say_no_fn);
    if (!options)
        options = &defaults;
    struct produced *p = make(fn, arg, options);
    if (!p)
        return NULL;
    ferry_job_options same = {.name = options->name ? options->name : "stream",
                              .interrupt = options->interrupt ? interrupt : NULL,
                              .interrupt_signal = options->interrupt_signal,
                              .policy = options->policy,
                              .grace_ms = options->grace_ms,
                              .arg_free = producer_gone};
    return made(p, (ferry_future *)ferry__job_new(executor, produce, p, &same, ctx, NULL), ctx);
}

/* ---- The producer's side --------------------------------------------------------------------- */

static int not_into(ferry_stream *stream, struct ferry__ctx *ctx) {
    int rc = usable(stream, ctx);
    return rc < 0 || stream->kind == &produced_kind
               ? rc
               : (int)ferry__error_say(ctx, -EINVAL, &say_no_producer);
}

int ferry_stream_send_for(ferry_stream *stream, void *item, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int rc = not_into(stream, ctx);
    if (rc < 0)
        return rc;
    ferry_queue *queue = produced_of(stream)->queue;
    if (ctx->kind != FERRY__JOB)
        return ferry_queue_put_for(queue, item, ms);
    rc = ferry__enter(ctx);
    if (rc == 0)
        rc = ferry_queue_try_put(queue, item);
    if (rc != -EAGAIN)
        return rc;
    ferry__worker_blocked(ctx);
    rc = ferry_queue_put_for(queue, item, ms);
    ferry__worker_unblocked(ctx);
    return rc;
}

int ferry_stream_send(ferry_stream *stream, void *item) {
    return ferry_stream_send_for(stream, item, FERRY_FOREVER);
}

int ferry_stream_try_send(ferry_stream *stream, void *item) {
    int rc = not_into(stream, ferry__ctx_self());
    return rc < 0 ? rc : ferry_queue_try_put(produced_of(stream)->queue, item);
}

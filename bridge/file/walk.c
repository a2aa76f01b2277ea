/* A walk: a job that goes through a tree (tree.c) and puts what it finds, in batches, into a
 * bounded queue.
 *
 * States, under walk->lock:
 *
 *     QUEUED --> RUNNING --> ENDED        the job came to its end: `result` says how
 *        `--------------------^           it never ran, or it found the walk stopped when it began
 *
 * The walk has two owners, counted in `owners`: whoever opened it, until close or detach, and the
 * job, until its arg_free. The job's handle is detached at once: an owner stops the job by `stop`
 * and by closing the queue, so that the arg_free of a job that never ran comes without anybody
 * awaiting it, and consumers hear of it.
 *
 * The end is published by closing the queue (`result` and `detail` are written before), and `ended`
 * is set as the last thing that the job does with the walk besides giving up its ownership: it is
 * what close waits for.
 *
 * walk->lock is held for a few instructions; nothing of Ferry is called under it. */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/event.h>
#include <ferry/queue.h>

#include "file.h"
#include "tree.h"

#define BATCH_ENTRIES 1024
#define BATCH_ENTRIES_FIRST 64 /* doubled from batch to batch: the first come soon */
#define BATCH_BYTES ((size_t)64 << 10)
#define QUEUE_BATCHES 4
#define NAMES_MAX ((size_t)4 << 20)

struct batch {
    ferry_walk_batch batch; /* what the consumer sees */
    size_t limit;
    char *paths; /* behind the entries */
    size_t paths_size, paths_room;
    ferry_walk_entry entries[];
};

enum state { QUEUED, RUNNING, ENDED };

struct ferry_walk {
    ferry_walk_options options; /* these five are written before the job starts */
    int dirfd;
    ferry_queue *queue; /* of struct batch */
    pthread_t opener;
    pid_t process;

    struct batch *batch; /* these two are the job's only */
    size_t limit;

    pthread_mutex_t lock;
    enum state state;       /* under lock */
    ferry_promise *promise; /* under lock: who wants to hear that a batch is there */
    int64_t result;         /* under lock; final when ENDED; FERRY_END: all was walked */
    char detail[1000];      /* likewise */

    atomic_bool opening; /* the opener is inside ferry_submit() */
    atomic_bool stop;
    atomic_int owners;
    ferry_event ended;
    char root[];
};

/* ---- Batches --------------------------------------------------------------------------------- */

static struct batch *batch_new(size_t limit, size_t paths_room) {
    size_t entries, size;
    if (__builtin_mul_overflow(limit, sizeof(ferry_walk_entry), &entries) ||
        __builtin_add_overflow(entries, sizeof(struct batch), &size) ||
        __builtin_add_overflow(size, paths_room, &size))
        return NULL;
    struct batch *b = malloc(size);
    if (!b)
        return NULL;
    b->batch = (ferry_walk_batch){.entries = b->entries};
    b->limit = limit;
    b->paths = (char *)&b->entries[limit];
    b->paths_size = 0;
    b->paths_room = paths_room;
    return b;
}

static void batch_add(struct batch *b, const ferry_walk_entry *entry) {
    ferry_walk_entry *copy = &b->entries[b->batch.count++];
    *copy = *entry;
    copy->path = memcpy(b->paths + b->paths_size, entry->path, entry->path_size + 1);
    b->paths_size += entry->path_size + 1;
}

void ferry_walk_batch_free(ferry_walk_batch *batch) {
    free(batch); /* it is the first member of its struct batch */
}

/* ---- The end of a walk ----------------------------------------------------------------------- */

static void walk_free(ferry_walk *walk) {
    free(walk->batch);
    ferry_queue_free(walk->queue);
    if (walk->options.exclude_arg_free)
        walk->options.exclude_arg_free(walk->options.exclude_arg);
    pthread_mutex_destroy(&walk->lock);
    free(walk);
}

static void walk_release(ferry_walk *walk) {
    if (atomic_fetch_sub(&walk->owners, 1) == 1)
        walk_free(walk);
}

static ferry_promise *take_promise(ferry_walk *walk) {
    pthread_mutex_lock(&walk->lock);
    ferry_promise *promise = walk->promise;
    walk->promise = NULL;
    pthread_mutex_unlock(&walk->lock);
    return promise;
}

static void tell(ferry_promise *promise) {
    if (!promise)
        return;
    ferry_promise_set(promise, 0);
    ferry_promise_drop(promise);
}

/* Job side, once. */
static void finish(ferry_walk *walk, int64_t result, const char *detail) {
    pthread_mutex_lock(&walk->lock);
    walk->result = result;
    snprintf(walk->detail, sizeof walk->detail, "%s", detail);
    walk->state = ENDED;
    pthread_mutex_unlock(&walk->lock);
    ferry_queue_close(walk->queue, false);
    tell(take_promise(walk));
    ferry_event_set(&walk->ended);
}

/* ---- The job --------------------------------------------------------------------------------- */

/* After an error the batch is still the walk's. */
static int64_t flush(ferry_walk *walk) {
    if (!walk->batch || walk->batch->batch.count == 0)
        return 0;
    int rc = ferry_queue_put(walk->queue, walk->batch);
    if (rc < 0)
        return rc;
    walk->batch = NULL;
    tell(take_promise(walk));
    if (walk->limit < walk->options.batch_entries / 2)
        walk->limit *= 2;
    else
        walk->limit = walk->options.batch_entries;
    return 0;
}

static int64_t deliver(const ferry_walk_entry *entry, void *arg) {
    ferry_walk *walk = arg;
    size_t size = entry->path_size + 1;
    int64_t rc = 0;
    if (walk->batch && walk->batch->paths_room - walk->batch->paths_size < size)
        rc = flush(walk);
    if (rc < 0)
        return rc;
    if (!walk->batch) {
        size_t room = size > walk->options.batch_bytes ? size : walk->options.batch_bytes;
        walk->batch = batch_new(walk->limit, room);
        if (!walk->batch)
            return ferry__file_fail(ENOMEM, "walk", walk->root);
    }
    batch_add(walk->batch, entry);
    return walk->batch->batch.count == walk->batch->limit ? flush(walk) : 0;
}

static int64_t check(void *arg) {
    ferry_walk *walk = arg;
    return atomic_load(&walk->stop) ? FERRY_ECLOSED : ferry__file_cancelled() ? -ECANCELED : 0;
}

static bool begin(ferry_walk *walk) {
    pthread_mutex_lock(&walk->lock);
    bool wanted = !atomic_load(&walk->stop);
    if (wanted)
        walk->state = RUNNING;
    pthread_mutex_unlock(&walk->lock);
    return wanted;
}

static int64_t walk_all(ferry_walk *walk) {
    struct ferry__tree_options tree = {
        .dirfd = walk->dirfd,
        .root = walk->root,
        .one_device = walk->options.one_device,
        .follow_root = walk->options.follow_root,
        .names_max = NAMES_MAX,
        .exclude = walk->options.exclude,
        .exclude_arg = walk->options.exclude_arg,
        .deliver = deliver,
        .check = check,
        .arg = walk,
    };
    if (atomic_load(&walk->opening) && pthread_equal(walk->opener, pthread_self()))
        return ferry_fail(-EDEADLK, "cannot walk '%s': its executor has no thread for it",
                          walk->root);
    return ferry__tree_walk(&tree);
}

/* Its result is in the walk; the handle has nobody who could read it. */
static int64_t walk_run(void *arg) {
    ferry_walk *walk = arg;
    char detail[sizeof walk->detail] = "";
    if (!begin(walk)) {
        finish(walk, FERRY_ECLOSED, detail);
        return 0;
    }
    int64_t rc = walk_all(walk);
    if (rc < 0 && rc != -ECANCELED)
        snprintf(detail, sizeof detail, "%s", ferry_errmsg());
    /* What was found before an error is delivered. */
    int64_t last = rc == -ECANCELED || rc == FERRY_ECLOSED ? rc : flush(walk);
    if (rc >= 0)
        rc = last < 0 ? last : FERRY_END;
    finish(walk, rc == -ECANCELED ? FERRY_EJOBCANCELED : rc, detail);
    return 0;
}

static void walk_arg_free(void *arg) {
    ferry_walk *walk = arg;
    if (!ferry_event_is_set(&walk->ended))
        finish(walk, FERRY_EJOBCANCELED, "the walk was cancelled before it began");
    walk_release(walk);
}

/* ---- Opening --------------------------------------------------------------------------------- */

static ferry_walk *walk_new(int dirfd, const char *root, const ferry_walk_options *options) {
    static const ferry_queue_options queue_options = {.name = "walk", .item_free = free};
    size_t size = strlen(root) + 1;
    ferry_walk *walk = calloc(1, sizeof *walk + size);
    if (!walk)
        return NULL;
    walk->options = *options;
    if (!walk->options.batch_entries)
        walk->options.batch_entries = BATCH_ENTRIES;
    if (!walk->options.batch_bytes)
        walk->options.batch_bytes = BATCH_BYTES;
    if (!walk->options.queue_batches)
        walk->options.queue_batches = QUEUE_BATCHES;
    walk->limit = walk->options.batch_entries < BATCH_ENTRIES_FIRST ? walk->options.batch_entries
                                                                    : BATCH_ENTRIES_FIRST;
    walk->dirfd = dirfd;
    walk->opener = pthread_self();
    walk->process = getpid();
    memcpy(walk->root, root, size);
    atomic_init(&walk->opening, true);
    atomic_init(&walk->owners, 2);
    walk->queue = ferry_queue_new(walk->options.queue_batches, &queue_options);
    if (walk->queue && pthread_mutex_init(&walk->lock, NULL) == 0)
        return walk;
    if (walk->queue)
        ferry_queue_free(walk->queue);
    free(walk);
    return NULL;
}

/* The job, which owns its half from now on. An error is one of starting it: it will never run. */
static int64_t walk_start(ferry_walk *walk, ferry_executor *executor) {
    ferry_job_options options = {.name = "walk", .arg_free = walk_arg_free};
    ferry_future *job = ferry_submit_with(executor, walk_run, walk, &options);
    atomic_store(&walk->opening, false);
    if (!job) {
        walk_release(walk);
        return ferry__file_fail(ENOMEM, "walk", walk->root);
    }
    if (ferry_done(job))
        return ferry_await(job);
    ferry_detach(job);
    return 0;
}

int ferry_walk_open(ferry_walk **out, ferry_executor *executor, int dirfd, const char *root,
                    const ferry_walk_options *options) {
    static const ferry_walk_options defaults;
    if (!options)
        options = &defaults;
    if (out)
        *out = NULL;
    ferry_walk *walk = out && root && *root ? walk_new(dirfd, root, options) : NULL;
    if (!walk) {
        if (options->exclude_arg_free)
            options->exclude_arg_free(options->exclude_arg);
        if (!out || !root || !*root)
            return (int)ferry_fail(-EINVAL, "cannot walk: no folder, or no place for the walk");
        return (int)ferry__file_fail(ENOMEM, "walk", root);
    }
    int64_t rc = walk_start(walk, executor);
    if (rc < 0) {
        ferry_walk_detach(walk);
        return (int)rc;
    }
    *out = walk;
    return 0;
}

/* In the child of a fork there is no job, and the lock may be held by a thread that isn't there. */
static int64_t fail_if_forked(const ferry_walk *walk) {
    if (walk->process == getpid())
        return 0;
    return ferry_fail(FERRY_EFORKED, "the walk of '%s' belongs to the parent process", walk->root);
}

/* ---- Taking batches -------------------------------------------------------------------------- */

int ferry_walk_next(ferry_walk *walk, ferry_walk_batch **batch) {
    void *item;
    if (!walk || !batch)
        return (int)ferry_fail(-EINVAL, "cannot take a batch: no walk, or no place for the batch");
    int rc = (int)fail_if_forked(walk);
    if (rc == 0)
        rc = ferry_queue_get(walk->queue, &item);
    if (rc == 0) {
        *batch = &((struct batch *)item)->batch;
        return 0;
    }
    if (rc != FERRY_ECLOSED)
        return rc;
    pthread_mutex_lock(&walk->lock);
    rc = walk->state == ENDED ? (int)walk->result : FERRY_ECLOSED;
    pthread_mutex_unlock(&walk->lock);
    /* An ended walk's detail doesn't change any more. */
    return (int)ferry_fail(
        rc, "%s", rc != FERRY_ECLOSED && *walk->detail ? walk->detail : ferry_strerror(rc));
}

ferry_future *ferry_walk_ready(ferry_walk *walk) {
    if (!walk)
        return ferry__file_refuse(-EINVAL, "cannot wait for a batch: no walk");
    if (fail_if_forked(walk) < 0)
        return ferry__file_refuse(FERRY_EFORKED, "the walk belongs to the parent process");
    ferry_future *future;
    ferry_promise *promise = ferry_promise_new(&future, "walk");
    if (!promise)
        return NULL;
    pthread_mutex_lock(&walk->lock);
    ferry_promise *earlier = walk->promise;
    walk->promise = promise;
    bool ended = walk->state == ENDED;
    pthread_mutex_unlock(&walk->lock);
    tell(earlier);
    /* After the promise is in its place: a batch that comes from now on finds it. */
    if (ended || ferry_queue_length(walk->queue) > 0)
        tell(take_promise(walk));
    return future;
}

/* ---- Closing --------------------------------------------------------------------------------- */

/* Whether the job is at work and will notice. */
static bool walk_stop(ferry_walk *walk) {
    pthread_mutex_lock(&walk->lock);
    atomic_store(&walk->stop, true);
    bool running = walk->state == RUNNING;
    pthread_mutex_unlock(&walk->lock);
    ferry_queue_close(walk->queue, true);
    return running;
}

/* Owner side: the walk may be gone after it. */
static void walk_leave(ferry_walk *walk) {
    ferry_promise_drop(take_promise(walk)); /* its handle ends with FERRY_ECLOSED */
    walk_release(walk);
}

static int wait_for_end(ferry_walk *walk) {
    ferry_scope shield = FERRY_SCOPE_INIT;
    int rc = ferry_shield_open(&shield, FERRY_FOREVER);
    if (rc < 0)
        return rc;
    rc = ferry_event_wait(&walk->ended);
    return (int)ferry_scope_close(&shield, rc);
}

int ferry_walk_close(ferry_walk *walk) {
    if (!walk)
        return 0;
    int rc = (int)fail_if_forked(walk);
    if (rc < 0)
        return rc;
    if (walk_stop(walk) && !ferry_event_is_set(&walk->ended))
        rc = wait_for_end(walk);
    if (rc != -EDEADLK)
        walk_leave(walk);
    return rc;
}

void ferry_walk_detach(ferry_walk *walk) {
    if (!walk || fail_if_forked(walk) < 0)
        return;
    walk_stop(walk);
    walk_leave(walk);
}

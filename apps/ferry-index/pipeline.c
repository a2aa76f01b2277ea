/* From the walk to the end. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <ferry/error.h>
#include <ferry/future.h>
#include <ferry/group.h>
#include <ferry/scope.h>

#include "hash.h"
#include "pipeline.h"
#include "progress.h"

#define JOB_BYTES ((int64_t)1 << 20) /* a parcel to be hashed ends with the file that reaches it */
#define WORK_SPARE 16                /* parcels that may wait besides two for each job */
#define RESULTS_MAX 32               /* parcels that may wait for `absorb` */
#define ABSORB_RECORDS 4096          /* and what it gets at once, at most, */
#define ABSORB_MS 500                /* or after so long */

const char *record_error(int error) {
    return error == ENTRY_CHANGING ? "it changed while it was being read" : ferry_strerror(error);
}

int64_t pipeline_cause(int64_t rc) {
    char text[1000];
    size_t n;
    if (rc != FERRY_EGROUP)
        return rc;
    const ferry_error *error = ferry_group_errors(&n);
    while (n > 0 && error->code == FERRY_EGROUP && error->n_causes > 0) {
        n = error->n_causes;
        error = error->causes;
    }
    if (n == 0)
        return rc;
    rc = error->code;
    snprintf(text, sizeof text, "%s", error->message);
    return ferry_fail(rc, "%s", text);
}

/* ---- Other FOLDERs in this one --------------------------------------------------------------- */

/* Whether `root` is below the folder that is walked, and isn't that itself. */
static bool is_nested(const struct pipeline *p, const char *root) {
    size_t n = strlen(p->root);
    if (strlen(root) <= n || memcmp(root, p->root, n) != 0)
        return false;
    return root[n] == '/' || (n > 0 && p->root[n - 1] == '/');
}

/* Another FOLDER below this one is walked for itself: what is there is left alone here, so that
 * each entry comes once. */
static int64_t keep_nested(ferry_sqlite_tx *tx, void *arg) {
    struct pipeline *p = arg;
    struct old_row row;
    int64_t rc = old_begin(p->old, tx);
    for (size_t i = 0; i < p->options->n_roots && rc >= 0; i++) {
        const char *root = p->options->roots[i];
        if (!is_nested(p, root))
            continue;
        rc = old_find(p->old, root, strlen(root), &row);
        if (rc >= 0)
            rc = old_keep_below(p->old, tx, root, strlen(root));
    }
    p->old->after = 0;
    return rc < 0 ? rc : 0;
}

/* On the walk's thread. */
static int exclude(const ferry_walk_entry *entry, void *arg) {
    const struct pipeline *p = arg;
    if (catalogue_owns(p->catalogue, entry->info.dev, entry->info.inode) && entry->info.mode != 0)
        return FERRY_WALK_SKIP;
    for (size_t i = 0; i < p->options->n_roots && p->options->n_roots > 1; i++)
        if (is_nested(p, p->options->roots[i]) && strcmp(entry->path, p->options->roots[i]) == 0)
            return FERRY_WALK_SKIP;
    return FERRY_WALK_KEEP;
}

ferry_walk_options pipeline_walk_options(const struct pipeline *p) {
    return (ferry_walk_options){
        .one_device = p->options->one_file_system,
        .follow_root = true,
        .exclude = exclude,
        .exclude_arg = (void *)(uintptr_t)p, /* exclude() takes it as const again */
    };
}

/* ---- Compare: a job for each batch of the walk ----------------------------------------------- */

static void tally(struct pipeline *p, const ferry_walk_entry *entry, enum verdict verdict) {
    uint64_t bytes = 0;
    switch (entry->info.type) {
    case FERRY_FILE_REGULAR:
        p->compare.tally.files++;
        bytes = (uint64_t)entry->info.size;
        break;
    case FERRY_FILE_FOLDER:
        p->compare.tally.folders++;
        break;
    case FERRY_FILE_SYMLINK:
        p->compare.tally.symlinks++;
        break;
    default:
        p->compare.tally.others++;
    }
    p->compare.tally.bytes += bytes;
    if (verdict != VERDICT_HASH) {
        p->compare.tally.settled++;
        p->compare.tally.settled_bytes += bytes;
    }
    p->compare.tally.fine += verdict == VERDICT_FINE;
}

static int64_t hand_on(struct pipeline *p, const struct record *record, enum verdict verdict) {
    bool hash = verdict == VERDICT_HASH;
    struct record *copy = parcels_add(hash ? &p->compare.to_hash : &p->compare.to_absorb,
                                      record->path, record->path_size, hash ? record->size : 0);
    if (!copy)
        return ferry_fail(-ENOMEM, "out of memory for the entries of '%s'", p->root);
    const char *path = copy->path;
    *copy = *record;
    copy->path = path;
    return 0;
}

/* Whether there may be entries below that the walk doesn't deliver. */
static bool is_closed(const struct pipeline *p, const ferry_walk_entry *entry) {
    if (entry->info.type != FERRY_FILE_FOLDER && entry->info.type != FERRY_FILE_UNKNOWN)
        return false;
    return entry->error || (p->options->one_file_system && entry->info.dev != p->compare.dev);
}

static int64_t compare_entry(struct pipeline *p, ferry_sqlite_tx *tx,
                             const ferry_walk_entry *entry) {
    struct record record = {.path = entry->path, .path_size = entry->path_size};
    struct old_row row;
    if (entry->error == -ENOENT) /* it isn't there any more */
        return 0;
    if (entry->depth == 0)
        p->compare.dev = entry->info.dev;
    int64_t rc = old_find(p->old, entry->path, entry->path_size, &row);
    if (rc < 0)
        return rc;
    record.known = rc > 0;
    record.row = record.known ? row.row : p->compare.next_row;
    record.error = entry->error;
    record.follow = entry->depth == 0;
    record_set_info(&record, &entry->info);
    rc = is_closed(p, entry) ? old_keep_below(p->old, tx, entry->path, entry->path_size) : 0;
    if (rc < 0)
        return rc;
    enum verdict verdict = p->judge(p, &record, record.known ? &row : NULL);
    tally(p, entry, verdict);
    if (verdict == VERDICT_FINE)
        return 0;
    p->compare.next_row += !record.known;
    return hand_on(p, &record, verdict);
}

/* It may be called again for the same batch, after an SQLITE_BUSY. */
static int64_t compare(ferry_sqlite_tx *tx, void *arg) {
    struct pipeline *p = arg;
    int64_t next_row = p->compare.next_row, after = p->old->after;
    parcels_clear(&p->compare.to_hash);
    parcels_clear(&p->compare.to_absorb);
    memset(&p->compare.tally, 0, sizeof p->compare.tally);
    int64_t rc = old_begin(p->old, tx);
    for (size_t i = 0; i < p->compare.batch->count && rc == 0; i++)
        rc = compare_entry(p, tx, &p->compare.batch->entries[i]);
    if (rc < 0) {
        p->compare.next_row = next_row;
        p->old->after = after;
    }
    return rc;
}

static void count_batch(struct pipeline *p) {
    struct counts *to = p->counts;
    count_add(&to->files, p->compare.tally.files);
    count_add(&to->folders, p->compare.tally.folders);
    count_add(&to->symlinks, p->compare.tally.symlinks);
    count_add(&to->others, p->compare.tally.others);
    count_add(&to->bytes, p->compare.tally.bytes);
    count_add(&to->settled, p->compare.tally.settled);
    count_add(&to->settled_bytes, p->compare.tally.settled_bytes);
    count_add(&to->unchanged, p->compare.tally.fine);
}

/* ---- Walk: the caller's task ----------------------------------------------------------------- */

static int64_t send(ferry_queue *queue, struct parcels *parcels) {
    struct parcel *parcel;
    int64_t rc = 0;
    while (rc == 0 && (parcel = parcels_take(parcels))) {
        rc = ferry_queue_put(queue, parcel);
        if (rc < 0)
            parcel_free(parcel);
    }
    return rc;
}

static int64_t handle_batch(struct pipeline *p, const ferry_walk_batch *batch) {
    p->compare.batch = batch;
    int64_t rc = ferry_await(
        ferry_sqlite_transaction(p->catalogue->db, FERRY_SQLITE_READ, compare, p, NULL));
    if (rc < 0)
        return rc;
    count_batch(p);
    rc = send(p->work, &p->compare.to_hash);
    return rc < 0 ? rc : send(p->results, &p->compare.to_absorb);
}

static int64_t walk_tree(struct pipeline *p) {
    const ferry_walk_options options = pipeline_walk_options(p);
    ferry_walk *walk;
    ferry_walk_batch *batch;
    int64_t rc = ferry_walk_open(&walk, NULL, AT_FDCWD, p->root, &options);
    if (rc < 0)
        return rc;
    while (rc == 0 && (rc = ferry_walk_next(walk, &batch)) == 0) {
        rc = handle_batch(p, batch);
        ferry_walk_batch_free(batch);
    }
    ferry_walk_close(walk);
    if (rc == FERRY_END)
        return 0;
    /* What cancels the walk cancels this task, too, and may be seen there first. */
    return rc == FERRY_EJOBCANCELED && ferry_checkpoint() == -ECANCELED ? -ECANCELED : rc;
}

/* ---- Hash: so many jobs ---------------------------------------------------------------------- */

/* After an error the parcel holds what was complete before it. */
static int64_t hash_parcel(struct hasher *hasher, struct parcel *parcel) {
    for (size_t i = 0; i < parcel->count; i++) {
        int64_t rc = hasher_read(hasher, &parcel->records[i]);
        if (rc < 0) {
            parcel->count = i;
            return rc;
        }
    }
    return 0;
}

/* What was hashed isn't lost by a cancel. */
static int64_t pass_on(struct pipeline *p, struct parcel *parcel) {
    ferry_scope shield = FERRY_SCOPE_INIT;
    int64_t rc = ferry_shield_open(&shield, FERRY_FOREVER);
    if (rc == 0)
        rc = ferry_scope_close(&shield, ferry_queue_put(p->results, parcel));
    if (rc < 0)
        parcel_free(parcel);
    return rc;
}

static int64_t hash_all(void *arg) {
    struct pipeline *p = arg;
    struct hasher hasher;
    void *parcel;
    int64_t rc = hasher_init(&hasher, p->counts);
    while (rc == 0 && (rc = ferry_queue_get(p->work, &parcel)) == 0) {
        rc = hash_parcel(&hasher, parcel);
        int64_t passed = pass_on(p, parcel);
        rc = rc < 0 ? rc : passed;
    }
    hasher_free(&hasher);
    return rc == FERRY_ECLOSED ? 0 : rc;
}

static int64_t walk_and_hash(struct pipeline *p, ferry_executor *executor) {
    static const ferry_job_options job = {.name = "hash"};
    ferry_group hashers = FERRY_GROUP_INIT;
    int64_t rc = ferry_group_open(&hashers);
    if (rc < 0)
        return rc;
    for (int i = 0; i < p->options->jobs && rc == 0; i++)
        rc = ferry_group_submit_with(&hashers, executor, hash_all, p, &job, NULL);
    if (rc == 0)
        rc = walk_tree(p);
    ferry_queue_close(p->work, rc < 0);
    return pipeline_cause(ferry_group_close(&hashers, rc));
}

/* ---- Absorb: a task -------------------------------------------------------------------------- */

/* The next parcels: at least one unless the queue is closed and empty (FERRY_ECLOSED); not only one
 * when more come soon. */
static int64_t collect(struct pipeline *p, struct parcels *parcels) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    size_t records = 0;
    void *item;
    int64_t rc = ferry_queue_get(p->results, &item);
    if (rc < 0)
        return rc;
    rc = ferry_scope_open(&scope, ABSORB_MS);
    if (rc < 0) {
        parcel_free(item);
        return rc;
    }
    do {
        struct parcel *parcel = item;
        records += parcel->count;
        parcels_append(parcels, parcel);
    } while (records < ABSORB_RECORDS && (rc = ferry_queue_get(p->results, &item)) == 0);
    rc = ferry_scope_close(&scope, rc);
    return rc == -ETIMEDOUT || rc == FERRY_ECLOSED ? 0 : rc;
}

static int64_t absorb_all(void *arg) {
    struct pipeline *p = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    struct parcels parcels = {0};
    int64_t rc = ferry_shield_open(&shield, FERRY_FOREVER);
    if (rc == 0) {
        while (rc == 0 && (rc = collect(p, &parcels)) == 0) {
            rc = p->absorb(p, &parcels);
            parcels_clear(&parcels);
        }
        rc = ferry_scope_close(&shield, rc);
    }
    parcels_clear(&parcels);
    /* Nobody takes parcels any more: whoever has one is to know. */
    ferry_queue_close(p->results, true);
    return rc == FERRY_ECLOSED ? 0 : rc;
}

static int64_t stages(struct pipeline *p, ferry_executor *executor) {
    static const ferry_task_options task = {.name = "absorb"};
    ferry_group group = FERRY_GROUP_INIT;
    int64_t rc = ferry_group_open(&group);
    if (rc < 0)
        return rc;
    rc = ferry_group_spawn_with(&group, absorb_all, p, &task, NULL);
    if (rc == 0)
        rc = walk_and_hash(p, executor);
    ferry_queue_close(p->results, false);
    return pipeline_cause(ferry_group_close(&group, rc));
}

/* ---- All of it ------------------------------------------------------------------------------- */

static bool has_nested(const struct pipeline *p) {
    for (size_t i = 0; i < p->options->n_roots; i++)
        if (is_nested(p, p->options->roots[i]))
            return true;
    return false;
}

static int64_t run(struct pipeline *p, ferry_executor *executor) {
    struct progress progress;
    int64_t rc = 0;
    p->compare.to_hash.bytes_max = JOB_BYTES;
    p->compare.next_row = p->old->last + 1;
    if (has_nested(p))
        rc = ferry_await(
            ferry_sqlite_transaction(p->catalogue->db, FERRY_SQLITE_READ, keep_nested, p, NULL));
    if (rc == 0)
        rc = progress_begin(&progress, p);
    if (rc == 0)
        rc = progress_end(&progress, stages(p, executor));
    parcels_clear(&p->compare.to_hash);
    parcels_clear(&p->compare.to_absorb);
    return rc;
}

int64_t pipeline_run(struct pipeline *p) {
    static const ferry_queue_options work = {.name = "work", .item_free = parcel_free};
    static const ferry_queue_options results = {.name = "results", .item_free = parcel_free};
    const ferry_executor_options hash = {.name = "hash", .threads_max = p->options->jobs};
    ferry_executor *executor = NULL;
    int64_t rc = ferry_executor_new(&executor, &hash);
    p->work = ferry_queue_new((size_t)p->options->jobs * 2 + WORK_SPARE, &work);
    p->results = ferry_queue_new(RESULTS_MAX, &results);
    if (rc == 0 && (!p->work || !p->results))
        rc = ferry_fail(-ENOMEM, "out of memory for the queues between the stages");
    if (rc == 0)
        rc = run(p, executor);
    ferry_queue_free(p->work);
    ferry_queue_free(p->results);
    ferry_executor_free(executor);
    p->work = p->results = NULL;
    return rc;
}

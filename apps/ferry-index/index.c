/* Cataloguing: the comparison with the old row, the writer, and the end of what has vanished. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ferry/error.h>
#include <ferry/executor.h>
#include <ferry/future.h>
#include <sqlite3.h>

#include "index.h"

#define ERRORS_SAID 20       /* on standard error; all are in the catalogue */
#define REMOVED_AT_ONCE 4096 /* rows in a transaction */

/* ---- Judge ----------------------------------------------------------------------------------- */

static bool is_same_content(const struct record *record, const struct old_row *row) {
    return row->type == record->type && row->size == record->size &&
           row->mtime_ns == record->mtime_ns && row->dev == record->dev &&
           row->inode == record->inode;
}

static enum verdict judge(const struct pipeline *p, struct record *record,
                          const struct old_row *row) {
    bool to_hash = record->type == FERRY_FILE_REGULAR && !p->options->no_hash;
    if (record->error)
        return VERDICT_ABSORB;
    if (!row || row->error || !is_same_content(record, row) || (to_hash && !row->sha256))
        return to_hash ? VERDICT_HASH : VERDICT_ABSORB;
    if (row->mode == record->mode)
        return VERDICT_FINE;
    if (row->sha256) {
        memcpy(record->sha256, row->sha256, SHA256_HEX);
        record->hash = HASH_KEPT;
    }
    return VERDICT_ABSORB;
}

/* ---- Write: a transaction for each list of parcels ------------------------------------------- */

/* A row that stands there as it is to be isn't written, and so keeps its run. */
#define PUT_SQL \
    "INSERT INTO files(rowid, path, type, size, mode, mtime_ns, dev, inode, sha256, error, run)" \
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)" \
    " ON CONFLICT(path) DO UPDATE SET type=excluded.type, size=excluded.size, mode=excluded.mode," \
    " mtime_ns=excluded.mtime_ns, dev=excluded.dev, inode=excluded.inode," \
    " sha256=excluded.sha256, error=excluded.error, run=excluded.run" \
    " WHERE (type, size, mode, mtime_ns, dev, inode, sha256, error) IS NOT" \
    " (excluded.type, excluded.size, excluded.mode, excluded.mtime_ns, excluded.dev," \
    " excluded.inode, excluded.sha256, excluded.error)"
#define DROP_SQL "DELETE FROM files WHERE path = ?1"

struct writing {
    const struct index *index;
    const struct parcels *parcels;
    sqlite3 *connection;
    sqlite3_stmt *put, *drop;
    struct {
        uint64_t added, changed, unchanged, removed;
    } tally;
};

static int bind_info(sqlite3_stmt *put, const struct record *record) {
    const int64_t values[] = {record->size, record->mode, record->mtime_ns, (int64_t)record->dev,
                              (int64_t)record->inode};
    int code = SQLITE_OK;
    for (int i = 0; i < 5 && code == SQLITE_OK; i++)
        code = record->mode ? sqlite3_bind_int64(put, 4 + i, values[i])
                            : sqlite3_bind_null(put, 4 + i);
    return code;
}

/* Statements keep their values between the steps: each is bound every time. */
static int bind_record(sqlite3_stmt *put, const struct record *record, const char *type,
                       int64_t run) {
    /* A row that is known is found by its path and keeps its number. */
    int code = record->known ? sqlite3_bind_null(put, 1) : sqlite3_bind_int64(put, 1, record->row);
    if (code == SQLITE_OK)
        code = catalogue_bind_path(put, 2, record->path, record->path_size);
    if (code == SQLITE_OK)
        code = sqlite3_bind_text(put, 3, type, 1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = bind_info(put, record);
    if (code == SQLITE_OK)
        code = record->hash == HASH_NONE
                   ? sqlite3_bind_null(put, 9)
                   : sqlite3_bind_text(put, 9, record->sha256, SHA256_HEX, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = record->error == 0
                   ? sqlite3_bind_null(put, 10)
                   : sqlite3_bind_text(put, 10, record_error(record->error), -1, SQLITE_TRANSIENT);
    return code == SQLITE_OK ? sqlite3_bind_int64(put, 11, run) : code;
}

static int64_t drop(struct writing *w, const struct record *record) {
    int code = catalogue_bind_path(w->drop, 1, record->path, record->path_size);
    if (code == SQLITE_OK)
        code = sqlite3_step(w->drop);
    int64_t rc = ferry_sqlite_fail(w->connection, code, DROP_SQL);
    sqlite3_reset(w->drop);
    if (rc == 0)
        w->tally.removed += (uint64_t)sqlite3_changes(w->connection);
    return rc;
}

static int64_t put(struct writing *w, const struct record *record) {
    const char type = record->type == FERRY_FILE_UNKNOWN ? '?' : (char)record->type;
    int code = bind_record(w->put, record, &type, w->index->run);
    if (code == SQLITE_OK)
        code = sqlite3_step(w->put);
    int64_t rc = ferry_sqlite_fail(w->connection, code, PUT_SQL);
    sqlite3_reset(w->put);
    if (rc < 0)
        return rc;
    if (!record->known)
        w->tally.added++;
    else if (sqlite3_changes(w->connection) > 0)
        w->tally.changed++;
    else
        w->tally.unchanged++;
    return 0;
}

/* It may be called again for the same parcels, after an SQLITE_BUSY. */
static int64_t write_parcels(ferry_sqlite_tx *tx, void *arg) {
    struct writing *w = arg;
    memset(&w->tally, 0, sizeof w->tally);
    w->connection = ferry_sqlite_tx_raw(tx);
    int64_t rc = ferry_sqlite_tx_prepare(tx, PUT_SQL, &w->put);
    if (rc == 0)
        rc = ferry_sqlite_tx_prepare(tx, DROP_SQL, &w->drop);
    for (const struct parcel *parcel = w->parcels->first; parcel && rc == 0; parcel = parcel->next)
        for (size_t i = 0; i < parcel->count && rc == 0; i++) {
            const struct record *record = &parcel->records[i];
            rc = record->gone ? drop(w, record) : put(w, record);
        }
    return rc;
}

/* ---- Say what could not be read -------------------------------------------------------------- */

struct saying {
    struct index *index;
    const struct parcels *parcels;
};

static int64_t say_errors(void *arg) {
    const struct saying *saying = arg;
    struct index *index = saying->index;
    for (const struct parcel *parcel = saying->parcels->first; parcel; parcel = parcel->next)
        for (size_t i = 0; i < parcel->count; i++) {
            const struct record *record = &parcel->records[i];
            if (!record->error || index->said > ERRORS_SAID)
                continue;
            if (index->said++ < ERRORS_SAID)
                console_say_path(index->pipeline.console, "cannot read", record->path,
                                 record->path_size, record_error(record->error));
            else
                console_say(index->pipeline.console,
                            "there are more that can't be read: SELECT path, "
                            "error FROM files WHERE error IS NOT NULL");
        }
    return 0;
}

static uint64_t count_errors(const struct parcels *parcels) {
    uint64_t errors = 0;
    for (const struct parcel *parcel = parcels->first; parcel; parcel = parcel->next)
        for (size_t i = 0; i < parcel->count; i++)
            errors += parcel->records[i].error != 0;
    return errors;
}

static int64_t absorb(struct pipeline *p, struct parcels *parcels) {
    struct index *index = (struct index *)p;
    struct writing w = {.index = index, .parcels = parcels};
    struct saying saying = {index, parcels};
    int64_t rc = ferry_await(
        ferry_sqlite_transaction(p->catalogue->db, FERRY_SQLITE_WRITE, write_parcels, &w, NULL));
    if (rc < 0)
        return rc;
    uint64_t errors = count_errors(parcels);
    count_add(&p->counts->added, w.tally.added);
    count_add(&p->counts->changed, w.tally.changed);
    count_add(&p->counts->unchanged, w.tally.unchanged);
    count_add(&p->counts->removed, w.tally.removed);
    count_add(&p->counts->errors, errors);
    return errors > 0 ? ferry_await(ferry_submit(NULL, say_errors, &saying)) : 0;
}

/* ---- Remove what has vanished ---------------------------------------------------------------- */

#define BELOW_SQL "SELECT rowid, path FROM files WHERE path > ?1 AND path < ?2 ORDER BY path"
#define REMOVE_SQL "DELETE FROM files WHERE rowid = ?1"

/* One transaction of it after the other. */
struct removing {
    const struct pipeline *pipeline;
    struct range range;
    enum range_kind kind;
    char *after; /* the path that the last one ended with, which this one goes on from */
    char *ended; /* likewise, of this one */
    size_t after_size, ended_size;
    size_t n;
    int64_t rows[REMOVED_AT_ONCE];
};

static int bind_below(sqlite3_stmt *below, const struct removing *r) {
    int code = range_bind(below, 1, &r->range, r->kind);
    if (code == SQLITE_OK && r->after)
        code = catalogue_bind_path(below, 1, r->after, r->after_size);
    return code;
}

static int64_t keep_place(struct removing *r, sqlite3_stmt *below) {
    const void *path = sqlite3_column_blob(below, 1);
    size_t size = (size_t)sqlite3_column_bytes(below, 1);
    char *copy = path ? realloc(r->ended, size) : NULL;
    if (!copy)
        return ferry_fail(-ENOMEM, "out of memory for a path of the catalogue");
    r->ended = memcpy(copy, path, size);
    r->ended_size = size;
    return 0;
}

/* Finds the next rows that the walk didn't come by. */
static int64_t find_unseen(struct removing *r, sqlite3_stmt *below) {
    int code = bind_below(below, r);
    int64_t rc = 0;
    r->n = 0;
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(below);
        if (code != SQLITE_ROW || old_was_seen(r->pipeline->old, sqlite3_column_int64(below, 0)))
            continue;
        r->rows[r->n++] = sqlite3_column_int64(below, 0);
        if (r->n == REMOVED_AT_ONCE) {
            rc = keep_place(r, below);
            break;
        }
    }
    if (rc == 0)
        rc = ferry_sqlite_fail(sqlite3_db_handle(below), code, BELOW_SQL);
    sqlite3_reset(below);
    return rc;
}

/* It may be called again, after an SQLITE_BUSY. */
static int64_t remove_some(ferry_sqlite_tx *tx, void *arg) {
    struct removing *r = arg;
    sqlite3_stmt *below, *remove;
    r->n = 0;
    int64_t rc = ferry_sqlite_tx_prepare(tx, BELOW_SQL, &below);
    if (rc == 0)
        rc = ferry_sqlite_tx_prepare(tx, REMOVE_SQL, &remove);
    if (rc == 0)
        rc = find_unseen(r, below);
    for (size_t i = 0; i < r->n && rc == 0; i++) {
        int code = sqlite3_bind_int64(remove, 1, r->rows[i]);
        if (code == SQLITE_OK)
            code = sqlite3_step(remove);
        rc = ferry_sqlite_fail(ferry_sqlite_tx_raw(tx), code, REMOVE_SQL);
        sqlite3_reset(remove);
    }
    return rc;
}

/* The next transaction goes on where this one has ended. */
static void move_on(struct removing *r) {
    char *spare = r->after;
    r->after = r->ended;
    r->after_size = r->ended_size;
    r->ended = spare;
}

static int64_t remove_kind(struct removing *r, ferry_sqlite *db) {
    int64_t rc;
    free(r->after);
    r->after = NULL;
    do {
        rc = ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, remove_some, r, NULL));
        if (rc == 0)
            count_add(&r->pipeline->counts->removed, r->n);
        move_on(r);
    } while (rc == 0 && r->n == REMOVED_AT_ONCE);
    return rc;
}

static int64_t remove_vanished(const struct pipeline *p) {
    if (p->old->last == 0)
        return 0;
    struct removing *r = calloc(1, sizeof *r);
    if (!r || !range_below(&r->range, p->root, strlen(p->root))) {
        free(r);
        return ferry_fail(-ENOMEM, "out of memory for the rows to be removed");
    }
    r->pipeline = p;
    int64_t rc = 0;
    for (r->kind = RANGE_TEXT; r->kind < RANGE_KINDS && rc == 0; r->kind++)
        rc = remove_kind(r, p->catalogue->db);
    range_free(&r->range);
    free(r->after);
    free(r->ended);
    free(r);
    return rc;
}

/* ---- All of it ------------------------------------------------------------------------------- */

int64_t index_run(struct index *index) {
    struct pipeline *p = &index->pipeline;
    p->judge = judge;
    p->absorb = absorb;
    int64_t rc = pipeline_run(p);
    return rc < 0 ? rc : remove_vanished(p);
}

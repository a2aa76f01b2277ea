/* The rows that the catalogue had before the run. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ferry/error.h>
#include <ferry/future.h>
#include <sqlite3.h>

#include "catalogue.h"
#include "old.h"
#include "parcel.h"

#define SEEN_BYTES_MAX ((int64_t)1 << 30)

#define COLUMNS "rowid, path, type, size, mode, mtime_ns, dev, inode, sha256, error"
#define NEXT_SQL "SELECT " COLUMNS " FROM files WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid"
#define FIND_SQL "SELECT " COLUMNS " FROM files WHERE path = ?1"
#define BELOW_SQL "SELECT rowid FROM files WHERE path >= ?1 AND path < ?2"

/* ---- Which rows there are -------------------------------------------------------------------- */

int64_t old_open(struct old *old, ferry_sqlite *db) {
    *old = (struct old){0};
    int64_t rc = ferry_await(ferry_sqlite_get_int64(
        db, FERRY_SQLITE_READ, "SELECT max(rowid) FROM files", FERRY_SQLITE_NO_VALUES, &old->last));
    if (rc < 0 || old->last <= 0)
        return rc < 0 ? rc : 0;
    if (old->last / 8 >= SEEN_BYTES_MAX)
        return ferry_fail(-EOVERFLOW, "the rows of the catalogue have grown too high numbers: "
                                      "VACUUM numbers them anew (sqlite3 FILE VACUUM)");
    old->seen = calloc((size_t)(old->last / 8 + 1), 1);
    return old->seen ? 0 : ferry_fail(-ENOMEM, "out of memory for the rows of the catalogue");
}

void old_close(struct old *old) {
    free(old->seen);
    *old = (struct old){0};
}

static void see(struct old *old, int64_t row) {
    if (row > 0 && row <= old->last)
        old->seen[row / 8] |= (unsigned char)(1 << row % 8);
}

bool old_was_seen(const struct old *old, int64_t row) {
    return row <= 0 || row > old->last || (old->seen[row / 8] & 1 << row % 8);
}

/* ---- Finding a row --------------------------------------------------------------------------- */

int64_t old_begin(struct old *old, ferry_sqlite_tx *tx) {
    old->connection = ferry_sqlite_tx_raw(tx);
    old->at_row = false;
    old->at_end = false;
    int64_t rc = ferry_sqlite_tx_prepare(tx, NEXT_SQL, &old->next);
    if (rc == 0)
        rc = ferry_sqlite_tx_prepare(tx, FIND_SQL, &old->find);
    return rc;
}

static bool is_row_of(sqlite3_stmt *statement, const char *path, size_t size) {
    const void *stored = sqlite3_column_blob(statement, 1);
    return (size_t)sqlite3_column_bytes(statement, 1) == size &&
           (size == 0 || (stored && memcmp(stored, path, size) == 0));
}

static void read_row(struct old *old, sqlite3_stmt *statement, struct old_row *row) {
    const unsigned char *type = sqlite3_column_text(statement, 2);
    const unsigned char *sha256 = sqlite3_column_text(statement, 8);
    *row = (struct old_row){
        .row = sqlite3_column_int64(statement, 0),
        .type = type && *type != '?' ? *type : 0,
        .size = sqlite3_column_int64(statement, 3),
        .mode = (uint32_t)sqlite3_column_int64(statement, 4),
        .mtime_ns = sqlite3_column_int64(statement, 5),
        .dev = (uint64_t)sqlite3_column_int64(statement, 6),
        .inode = (uint64_t)sqlite3_column_int64(statement, 7),
        .sha256 = sha256 && sqlite3_column_bytes(statement, 8) == SHA256_HEX ? (const char *)sha256
                                                                             : NULL,
        .error = sqlite3_column_type(statement, 9) != SQLITE_NULL,
    };
    old->after = row->row;
    see(old, row->row);
}

/* Brings the stream to a row unless it stands at one. */
static int64_t advance(struct old *old) {
    if (old->at_row || old->at_end)
        return 0;
    if (!sqlite3_stmt_busy(old->next)) {
        sqlite3_bind_int64(old->next, 1, old->after);
        sqlite3_bind_int64(old->next, 2, old->last);
    }
    int code = sqlite3_step(old->next);
    old->at_row = code == SQLITE_ROW;
    old->at_end = code == SQLITE_DONE;
    return ferry_sqlite_fail(old->connection, code, NEXT_SQL);
}

int64_t old_find(struct old *old, const char *path, size_t size, struct old_row *row) {
    if (old->last == 0)
        return 0;
    int64_t rc = advance(old);
    if (rc < 0)
        return rc;
    if (old->at_row && is_row_of(old->next, path, size)) {
        read_row(old, old->next, row);
        old->at_row = false;
        return 1;
    }
    sqlite3_reset(old->find);
    int code = catalogue_bind_path(old->find, 1, path, size);
    if (code == SQLITE_OK)
        code = sqlite3_step(old->find);
    if (code != SQLITE_ROW)
        return ferry_sqlite_fail(old->connection, code, FIND_SQL);
    read_row(old, old->find, row);
    sqlite3_reset(old->next);
    old->at_row = false;
    old->at_end = false;
    return 1;
}

/* ---- Keeping rows ---------------------------------------------------------------------------- */

static int64_t keep_range(struct old *old, sqlite3_stmt *below) {
    int code;
    while ((code = sqlite3_step(below)) == SQLITE_ROW)
        see(old, sqlite3_column_int64(below, 0));
    int64_t rc = ferry_sqlite_fail(sqlite3_db_handle(below), code, BELOW_SQL);
    sqlite3_reset(below);
    return rc;
}

int64_t old_keep_below(struct old *old, ferry_sqlite_tx *tx, const char *folder, size_t size) {
    struct range range;
    sqlite3_stmt *below;
    if (old->last == 0)
        return 0;
    if (!range_below(&range, folder, size))
        return ferry_fail(-ENOMEM, "out of memory for a path of the catalogue");
    int64_t rc = ferry_sqlite_tx_prepare(tx, BELOW_SQL, &below);
    for (enum range_kind kind = RANGE_TEXT; kind < RANGE_KINDS && rc == 0; kind++) {
        int code = range_bind(below, 1, &range, kind);
        rc = code == SQLITE_OK ? keep_range(old, below)
                               : ferry_sqlite_fail(sqlite3_db_handle(below), code, BELOW_SQL);
    }
    range_free(&range);
    return rc;
}

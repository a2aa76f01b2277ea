/* One connection: how it is opened, how a job on it is told to stop, and how it is put in order
 * again.
 *
 * A connection is opened without SQLite's mutexes: the job that has taken it is the only one to
 * touch it. The progress handler and the busy handler look at the flag of whatever job runs at that
 * moment (ferry_checkpoint()), so a cancel can neither be lost before a statement's first step nor
 * hit the next job. The first is deaf while an error is being cleaned up: a ROLLBACK that was
 * cancelled would leave the transaction open. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sqlite-internal.h"

#define OPCODES_BETWEEN_LOOKS 1000
#define LONGEST_PAUSE_MS 5
#define NS_PER_MS INT64_C(1000000)

/* ---- Told to stop --------------------------------------------------------------------------- */

static int on_progress(void *arg) {
    struct ferry__sqlite_conn *conn = arg;
    if (conn->deaf)
        return 0;
    if (conn->stream)
        ferry__sqlite_stream_breathe(conn->stream);
    return ferry_checkpoint() == -ECANCELED;
}

int64_t ferry__sqlite_conn_check(struct ferry__sqlite_conn *conn) {
    int64_t now = ferry__sqlite_now_coarse();
    if (now == conn->tick)
        return 0;
    conn->tick = now;
    return ferry_checkpoint() == -ECANCELED ? -ECANCELED : 0;
}

/* 0.1, 0.2 and 0.5 ms by the clock, then 1 ms and more by ferry_sleep(), which a cancel ends at
 * once. */
bool ferry__sqlite_conn_pause(struct ferry__sqlite_conn *conn, int tries, int64_t since) {
    static const long short_ns[] = {100000, 200000, 500000};
    int64_t left = conn->db->options.busy_ms - (ferry__sqlite_now() - since) / NS_PER_MS;

    if (left <= 0)
        return false;
    if (tries < 3) {
        nanosleep(&(struct timespec){0, short_ns[tries]}, NULL);
        return true;
    }
    int64_t ms = tries - 2 < LONGEST_PAUSE_MS ? tries - 2 : LONGEST_PAUSE_MS;
    return ferry_sleep(ms < left ? ms : left) != -ECANCELED;
}

static int on_busy(void *arg, int tries) {
    struct ferry__sqlite_conn *conn = arg;
    if (tries == 0)
        conn->waits_since = ferry__sqlite_now();
    return ferry__sqlite_conn_pause(conn, tries, conn->waits_since);
}

void ferry__sqlite_conn_arm(struct ferry__sqlite_conn *conn) {
    sqlite3_extended_result_codes(conn->raw, 1);
    sqlite3_busy_handler(conn->raw, on_busy, conn);
    sqlite3_progress_handler(conn->raw, OPCODES_BETWEEN_LOOKS, on_progress, conn);
}

/* ---- Open ----------------------------------------------------------------------------------- */

/* The first value of a PRAGMA as text, in `out`. */
static int64_t pragma(struct ferry__sqlite_conn *conn, const char *sql, char *out, size_t size) {
    int64_t since = ferry__sqlite_now();
    *out = '\0';
    /* SQLite doesn't call the busy handler for all of what these do. */
    for (int tries = 0;; tries++) {
        sqlite3_stmt *raw = NULL;
        int code = sqlite3_prepare_v2(conn->raw, sql, -1, &raw, NULL);
        if (code == SQLITE_OK) {
            code = sqlite3_step(raw);
            const unsigned char *text = code == SQLITE_ROW ? sqlite3_column_text(raw, 0) : NULL;
            if (code == SQLITE_ROW && !text)
                code = SQLITE_NOMEM;
            else if (text)
                snprintf(out, size, "%s", (const char *)text);
        }
        int64_t rc = ferry_sqlite_fail(conn->raw, code, sql);
        sqlite3_finalize(raw);
        if (FERRY_SQLITE_PRIMARY(rc) != SQLITE_BUSY)
            return rc;
        if (!ferry__sqlite_conn_pause(conn, tries, since))
            return ferry_checkpoint() == -ECANCELED ? -ECANCELED : rc;
    }
}

static int64_t set_journal_mode(struct ferry__sqlite_conn *conn) {
    const char *wanted = conn->db->options.journal_mode;
    char sql[64], got[32];

    snprintf(sql, sizeof sql, "PRAGMA journal_mode=%s", wanted);
    int64_t rc = pragma(conn, sql, got, sizeof got);
    if (rc < 0 || !sqlite3_stricmp(got, wanted))
        return rc;
    return ferry_fail(-ENOTSUP,
                      "'%s' keeps journal mode \"%s\" and can't do \"%s\" where it lies; set "
                      "options.journal_mode to \"DELETE\" to do without",
                      conn->db->path, got, wanted);
}

static int64_t prepare_control(struct ferry__sqlite_conn *conn) {
    const struct {
        const char *sql;
        sqlite3_stmt **place;
    } statements[] = {
        {"BEGIN", &conn->begin},
        {"BEGIN IMMEDIATE", &conn->begin_immediate},
        {"COMMIT", &conn->commit},
        {"ROLLBACK", &conn->rollback},
    };
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        int code = sqlite3_prepare_v3(conn->raw, statements[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
                                      statements[i].place, NULL);
        if (code != SQLITE_OK)
            return ferry_sqlite_fail(conn->raw, code, statements[i].sql);
    }
    return 0;
}

static int64_t configure(struct ferry__sqlite_conn *conn, bool first) {
    static const char *const synchronous[] = {"NORMAL", "OFF", "NORMAL", "FULL", "EXTRA"};
    const ferry_sqlite_options *options = &conn->db->options;
    char sql[64], got[32];
    int64_t rc = 0;

    if (first && !options->read_only && !conn->db->single)
        rc = set_journal_mode(conn);
    if (rc == 0) {
        snprintf(sql, sizeof sql, "PRAGMA synchronous=%s", synchronous[options->synchronous]);
        rc = pragma(conn, sql, got, sizeof got);
    }
    /* SQLite reads nothing before it must: a file that isn't a database is to be found now. */
    if (rc == 0 && first)
        rc = pragma(conn, "PRAGMA schema_version", got, sizeof got);
    if (rc == 0 && options->pragmas)
        rc = ferry__sqlite_script_on(conn, options->pragmas);
    if (rc >= 0 && options->init)
        rc = options->init(conn->raw, options->init_arg);
    if (rc < 0)
        return rc;
    ferry__sqlite_conn_arm(conn);
    if (!sqlite3_get_autocommit(conn->raw))
        return ferry_fail(FERRY_SQLITE(SQLITE_MISUSE),
                          "options.pragmas or options.init left a transaction open on '%s'",
                          conn->db->path);
    return prepare_control(conn);
}

static int64_t cannot_open(struct ferry__sqlite_conn *conn, int code, bool create) {
    const char *path = conn->db->path;
    int64_t rc = ferry_sqlite_fail(conn->raw, code, NULL);
    int failed = conn->raw ? sqlite3_system_errno(conn->raw) : 0;
    const char *advice = "";

    if (FERRY_SQLITE_PRIMARY(rc) != SQLITE_CANTOPEN)
        return rc;
    if (failed == ENOENT && !create)
        advice = "; set options.create to make it";
    else if (failed == ENOENT)
        advice = "; its folder doesn't exist";
    else if (failed == EACCES || failed == EPERM)
        advice = "; check the permissions of the file and its folder";
    else if (failed == EISDIR)
        advice = "; give the name of a file in it";
    return ferry_fail(rc, "cannot open the database '%s': %s%s (%s)", path,
                      failed ? ferry_strerror(-failed) : sqlite3_errstr(code), advice,
                      ferry__sqlite_code_name(code));
}

int64_t ferry__sqlite_conn_open(struct ferry__sqlite_conn *conn, bool first) {
    ferry_sqlite *db = conn->db;
    const bool create = first && db->options.create;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;

    flags |= conn->writer ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    flags |= create ? SQLITE_OPEN_CREATE : 0;
    int code = sqlite3_open_v2(db->path, &conn->raw, flags, db->options.vfs);
    if (conn->raw)
        sqlite3_extended_result_codes(conn->raw, 1);
    if (code != SQLITE_OK) {
        int64_t rc =
            cannot_open(conn, conn->raw ? sqlite3_extended_errcode(conn->raw) : code, create);
        ferry__sqlite_conn_close(conn);
        return rc;
    }
    conn->deaf = false;
    conn->undo_first = false;
    conn->in_tx = false;
    conn->cache.max = db->options.statements;
    ferry__sqlite_conn_arm(conn);

    int64_t rc = 0;
    /* Without the right to write SQLite opens the file for reading and says nothing. */
    if (conn->writer && sqlite3_db_readonly(conn->raw, "main") == 1)
        rc = ferry_fail(FERRY_SQLITE(SQLITE_READONLY),
                        "there is no permission to write to the database '%s': "
                        "change it, or set options.read_only",
                        db->path);
    if (rc == 0)
        rc = configure(conn, first);
    if (rc < 0)
        ferry__sqlite_conn_close(conn);
    return rc < 0 ? rc : 0;
}

/* ---- Put in order --------------------------------------------------------------------------- */

void ferry__sqlite_conn_close(struct ferry__sqlite_conn *conn) {
    if (!conn->raw)
        return;
    conn->deaf = true;
    ferry__sqlite_cache_clear(conn);
    /* Ours, and what a caller's function has forgotten: with a statement left it couldn't be
     * closed. */
    sqlite3_stmt *raw;
    while ((raw = sqlite3_next_stmt(conn->raw, NULL)))
        sqlite3_finalize(raw);
    conn->begin = conn->begin_immediate = conn->commit = conn->rollback = NULL;
    /* A backup that a caller's function left unfinished keeps it until it is finished. */
    sqlite3_close_v2(conn->raw);
    conn->raw = NULL;
}

void ferry__sqlite_conn_reset_statements(struct ferry__sqlite_conn *conn) {
    sqlite3_stmt *raw = NULL;
    while ((raw = sqlite3_next_stmt(conn->raw, raw)))
        if (sqlite3_stmt_busy(raw))
            sqlite3_reset(raw);
}

int64_t ferry__sqlite_conn_settle(struct ferry__sqlite_conn *conn, int64_t rc) {
    conn->deaf = true;
    conn->undo_first = false;
    ferry__sqlite_conn_reset_statements(conn);
    if (!sqlite3_get_autocommit(conn->raw)) {
        sqlite3_step(conn->rollback);
        sqlite3_reset(conn->rollback);
        if (rc >= 0)
            rc = ferry_fail(FERRY_SQLITE(SQLITE_MISUSE),
                            "a transaction was left open and was rolled back: end it with COMMIT");
        if (!sqlite3_get_autocommit(conn->raw)) {
            /* In memory it is all there is; the next job tries again. */
            if (conn->db->single)
                conn->undo_first = true;
            else
                ferry__sqlite_conn_close(conn);
        }
    }
    conn->deaf = false;
    return rc;
}

/* SQLite's result codes as errors of Ferry: their names, their words, and the detail for people. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sqlite-internal.h"

#define LOWEST FERRY_SQLITE(65535)
#define HIGHEST FERRY_SQLITE(1)

/* The words of each primary code, as a literal, so that every text below is static. */
#define WORDS_ERROR "SQL error"
#define WORDS_INTERNAL "internal error of SQLite"
#define WORDS_PERM "access permission denied"
#define WORDS_ABORT "the statement was aborted"
#define WORDS_BUSY "database is locked"
#define WORDS_LOCKED "database table is locked"
#define WORDS_NOMEM "out of memory"
#define WORDS_READONLY "attempt to write a readonly database"
#define WORDS_INTERRUPT "interrupted"
#define WORDS_IOERR "disk I/O error"
#define WORDS_CORRUPT "database disk image is malformed"
#define WORDS_NOTFOUND "unknown operation"
#define WORDS_FULL "database or disk is full"
#define WORDS_CANTOPEN "unable to open database file"
#define WORDS_PROTOCOL "locking protocol failed"
#define WORDS_EMPTY "the table has no data"
#define WORDS_SCHEMA "database schema has changed"
#define WORDS_TOOBIG "string or blob too big"
#define WORDS_CONSTRAINT "constraint failed"
#define WORDS_MISMATCH "datatype mismatch"
#define WORDS_MISUSE "SQLite was used wrongly"
#define WORDS_NOLFS "large file support is missing"
#define WORDS_AUTH "not authorized"
#define WORDS_FORMAT "wrong format"
#define WORDS_RANGE "parameter or column out of range"
#define WORDS_NOTADB "file is not a database"
#define WORDS_NOTICE "notice"
#define WORDS_WARNING "warning"
#define WORDS_ROW "a row is ready"
#define WORDS_DONE "the statement has ended"

/* The extended numbers are written out: older versions of sqlite3.h don't have all of them. */
#define CODE(base, n, suffix) \
    { SQLITE_##base | (n) << 8, "SQLITE_" #base suffix, WORDS_##base " (SQLITE_" #base suffix ")" }

static const struct {
    int code;
    const char *name, *text;
} codes[] = {
    CODE(ERROR, 0, ""),
    CODE(ERROR, 1, "_MISSING_COLLSEQ"),
    CODE(ERROR, 2, "_RETRY"),
    CODE(ERROR, 3, "_SNAPSHOT"),
    CODE(INTERNAL, 0, ""),
    CODE(PERM, 0, ""),
    CODE(ABORT, 0, ""),
    CODE(ABORT, 2, "_ROLLBACK"),
    CODE(BUSY, 0, ""),
    CODE(BUSY, 1, "_RECOVERY"),
    CODE(BUSY, 2, "_SNAPSHOT"),
    CODE(BUSY, 3, "_TIMEOUT"),
    CODE(LOCKED, 0, ""),
    CODE(LOCKED, 1, "_SHAREDCACHE"),
    CODE(LOCKED, 2, "_VTAB"),
    CODE(NOMEM, 0, ""),
    CODE(READONLY, 0, ""),
    CODE(READONLY, 1, "_RECOVERY"),
    CODE(READONLY, 2, "_CANTLOCK"),
    CODE(READONLY, 3, "_ROLLBACK"),
    CODE(READONLY, 4, "_DBMOVED"),
    CODE(READONLY, 5, "_CANTINIT"),
    CODE(READONLY, 6, "_DIRECTORY"),
    CODE(INTERRUPT, 0, ""),
    CODE(IOERR, 0, ""),
    CODE(IOERR, 1, "_READ"),
    CODE(IOERR, 2, "_SHORT_READ"),
    CODE(IOERR, 3, "_WRITE"),
    CODE(IOERR, 4, "_FSYNC"),
    CODE(IOERR, 5, "_DIR_FSYNC"),
    CODE(IOERR, 6, "_TRUNCATE"),
    CODE(IOERR, 7, "_FSTAT"),
    CODE(IOERR, 8, "_UNLOCK"),
    CODE(IOERR, 9, "_RDLOCK"),
    CODE(IOERR, 10, "_DELETE"),
    CODE(IOERR, 11, "_BLOCKED"),
    CODE(IOERR, 12, "_NOMEM"),
    CODE(IOERR, 13, "_ACCESS"),
    CODE(IOERR, 14, "_CHECKRESERVEDLOCK"),
    CODE(IOERR, 15, "_LOCK"),
    CODE(IOERR, 16, "_CLOSE"),
    CODE(IOERR, 17, "_DIR_CLOSE"),
    CODE(IOERR, 18, "_SHMOPEN"),
    CODE(IOERR, 19, "_SHMSIZE"),
    CODE(IOERR, 20, "_SHMLOCK"),
    CODE(IOERR, 21, "_SHMMAP"),
    CODE(IOERR, 22, "_SEEK"),
    CODE(IOERR, 23, "_DELETE_NOENT"),
    CODE(IOERR, 24, "_MMAP"),
    CODE(IOERR, 25, "_GETTEMPPATH"),
    CODE(IOERR, 26, "_CONVPATH"),
    CODE(IOERR, 27, "_VNODE"),
    CODE(IOERR, 28, "_AUTH"),
    CODE(IOERR, 29, "_BEGIN_ATOMIC"),
    CODE(IOERR, 30, "_COMMIT_ATOMIC"),
    CODE(IOERR, 31, "_ROLLBACK_ATOMIC"),
    CODE(IOERR, 32, "_DATA"),
    CODE(IOERR, 33, "_CORRUPTFS"),
    CODE(IOERR, 34, "_IN_PAGE"),
    CODE(CORRUPT, 0, ""),
    CODE(CORRUPT, 1, "_VTAB"),
    CODE(CORRUPT, 2, "_SEQUENCE"),
    CODE(CORRUPT, 3, "_INDEX"),
    CODE(NOTFOUND, 0, ""),
    CODE(FULL, 0, ""),
    CODE(CANTOPEN, 0, ""),
    CODE(CANTOPEN, 1, "_NOTEMPDIR"),
    CODE(CANTOPEN, 2, "_ISDIR"),
    CODE(CANTOPEN, 3, "_FULLPATH"),
    CODE(CANTOPEN, 4, "_CONVPATH"),
    CODE(CANTOPEN, 5, "_DIRTYWAL"),
    CODE(CANTOPEN, 6, "_SYMLINK"),
    CODE(PROTOCOL, 0, ""),
    CODE(EMPTY, 0, ""),
    CODE(SCHEMA, 0, ""),
    CODE(TOOBIG, 0, ""),
    CODE(CONSTRAINT, 0, ""),
    CODE(CONSTRAINT, 1, "_CHECK"),
    CODE(CONSTRAINT, 2, "_COMMITHOOK"),
    CODE(CONSTRAINT, 3, "_FOREIGNKEY"),
    CODE(CONSTRAINT, 4, "_FUNCTION"),
    CODE(CONSTRAINT, 5, "_NOTNULL"),
    CODE(CONSTRAINT, 6, "_PRIMARYKEY"),
    CODE(CONSTRAINT, 7, "_TRIGGER"),
    CODE(CONSTRAINT, 8, "_UNIQUE"),
    CODE(CONSTRAINT, 9, "_VTAB"),
    CODE(CONSTRAINT, 10, "_ROWID"),
    CODE(CONSTRAINT, 11, "_PINNED"),
    CODE(CONSTRAINT, 12, "_DATATYPE"),
    CODE(MISMATCH, 0, ""),
    CODE(MISUSE, 0, ""),
    CODE(NOLFS, 0, ""),
    CODE(AUTH, 0, ""),
    CODE(AUTH, 1, "_USER"),
    CODE(FORMAT, 0, ""),
    CODE(RANGE, 0, ""),
    CODE(NOTADB, 0, ""),
    CODE(NOTICE, 0, ""),
    CODE(NOTICE, 1, "_RECOVER_WAL"),
    CODE(NOTICE, 2, "_RECOVER_ROLLBACK"),
    CODE(NOTICE, 3, "_RBU"),
    CODE(WARNING, 0, ""),
    CODE(WARNING, 1, "_AUTOINDEX"),
    CODE(ROW, 0, ""),
    CODE(DONE, 0, ""),
};

/* The entry of a code; of its primary code when it is newer than this list; -1 when that isn't
 * known either. */
static int entry_of(int code) {
    int primary = -1;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i].code == code)
            return (int)i;
        if (codes[i].code == (code & 0xff))
            primary = (int)i;
    }
    return primary;
}

const char *ferry__sqlite_code_name(int code) {
    int i = entry_of(code);
    return i < 0 ? "unknown result code of SQLite" : codes[i].name;
}

static const char *text_of(int64_t error) {
    int i = entry_of(FERRY_SQLITE_CODE(error));
    return i < 0 ? "unknown result code of SQLite" : codes[i].text;
}

/* Without a place in the registry only ferry_strerror() is poorer, so the result doesn't matter. */
void ferry__sqlite_register_errors(void) {
    (void)ferry_error_register(LOWEST, HIGHEST, text_of);
}

int64_t ferry__sqlite_no_memory(void) {
    return ferry_fail(-ENOMEM, "out of memory in the SQLite bridge");
}

/* ---- The detail ----------------------------------------------------------------------------- */

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

static bool inside_character(char c) {
    return ((unsigned char)c & 0xc0) == 0x80;
}

char *ferry__sqlite_shorten(char *out, size_t size, const char *sql, size_t at) {
    const size_t before = size / 3; /* what is shown in front of `at` */
    size_t start = 0, used = 0;

    if (at >= size / 2) {
        start = at - before;
        while (inside_character(sql[start]))
            start++;
        memcpy(out, "...", 3);
        used = 3;
    }
    for (const char *c = sql + start; *c; c++) {
        bool space = is_space(*c);
        if (space && (used == 0 || out[used - 1] == ' '))
            continue;
        if (used + 4 >= size) {
            while (used > 0 && inside_character(out[used - 1]))
                used--;
            if (used > 0 && (unsigned char)out[used - 1] >= 0xc0)
                used--;
            memcpy(out + used, "...", 3);
            used += 3;
            break;
        }
        out[used++] = space ? ' ' : *c;
    }
    while (used > 0 && out[used - 1] == ' ')
        used--;
    out[used] = '\0';
    return out;
}

/* What to do about it; "" where SQLite's own message says it all. `room` is for those with a system
 * error. */
static const char *hint_of(sqlite3 *raw, int code, char *room, size_t size) {
    int failed = raw ? sqlite3_system_errno(raw) : 0;

    switch (code & 0xff) {
    case SQLITE_BUSY:
        if (code == (SQLITE_BUSY | 2 << 8)) /* SQLITE_BUSY_SNAPSHOT */
            return ": another connection wrote since this transaction began to read; run it again";
        return ": another connection or program kept its lock; try again, or allow more busy_ms";
    case SQLITE_LOCKED:
        return ": another statement of the same connection is using it";
    case SQLITE_FULL:
        return ": make room on its file system (or raise max_page_count), then try again";
    case SQLITE_NOTADB:
        return ": it is some other file, or it is encrypted";
    case SQLITE_CORRUPT:
        return ": run PRAGMA integrity_check, and restore a backup";
    case SQLITE_READONLY:
        if (code == (SQLITE_READONLY | 6 << 8)) /* SQLITE_READONLY_DIRECTORY */
            return ": SQLite makes files beside it, so its folder must be writable";
        if (code == (SQLITE_READONLY | 3 << 8)) /* SQLITE_READONLY_ROLLBACK */
            return ": a program that crashed left a transaction half done; the next call with "
                   "FERRY_SQLITE_WRITE undoes it";
        if (raw && sqlite3_db_readonly(raw, "main") == 1)
            return ": this connection only reads; what writes needs FERRY_SQLITE_WRITE";
        return ": check the permissions of the file and its folder";
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
        if (!failed)
            return "";
        snprintf(room, size, ": %s", ferry_strerror(-failed));
        return room;
    default:
        return "";
    }
}

int64_t ferry__sqlite_fail_at(sqlite3 *raw, int code, const char *sql, size_t base) {
    const int primary = code & 0xff;
    char excerpt[80] = "", place[32] = "", room[80], in[96] = "";
    const char *file = raw ? sqlite3_db_filename(raw, "main") : NULL;

    if (code == SQLITE_OK || primary == SQLITE_ROW || primary == SQLITE_DONE)
        return 0;
    /* The flag decides, not what SQLite made of it: a busy handler that gave up looks like
     * SQLITE_BUSY. */
    if ((primary == SQLITE_INTERRUPT || primary == SQLITE_BUSY) && ferry_checkpoint() == -ECANCELED)
        return -ECANCELED;

    /* A connection remembers its last error only: words for an older one come from the list. */
    bool current = raw && (sqlite3_extended_errcode(raw) & 0xff) == primary;
    const char *message = current ? sqlite3_errmsg(raw) : sqlite3_errstr(code);
    long long at = -1;
#if SQLITE_VERSION_NUMBER >= 3038000
    if (current && sql)
        at = sqlite3_error_offset(raw);
#endif
    if (at >= 0) {
        at += (long long)base;
        snprintf(place, sizeof place, " at byte %lld", at);
    }
    if (sql) {
        ferry__sqlite_shorten(excerpt, sizeof excerpt, sql, at >= 0 ? (size_t)at : base);
        snprintf(in, sizeof in, " in \"%s\"", excerpt);
    }
    if (primary == SQLITE_NOMEM || code == (SQLITE_IOERR | 12 << 8)) /* SQLITE_IOERR_NOMEM */
        return ferry_fail(-ENOMEM, "SQLite is out of memory%s", in);
    return ferry_fail(FERRY_SQLITE(code), "%s%s%s%s (%s%s%s, %s)", message, place, in,
                      hint_of(raw, code, room, sizeof room), file && *file ? "'" : "",
                      file && *file ? file : "in memory", file && *file ? "'" : "",
                      ferry__sqlite_code_name(code));
}

int64_t ferry_sqlite_fail(sqlite3 *connection, int code, const char *sql) {
    return ferry__sqlite_fail_at(connection, code, sql, 0);
}

/* The catalogue: its file, its lock, its schema and its runs. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <ferry/error.h>
#include <ferry/executor.h>
#include <ferry/future.h>
#include <ferry/scope.h>
#include <sqlite3.h>

#include "catalogue.h"
#include "text.h"

#define APPLICATION_ID 0x46696478 /* "Fidx" */
#define SCHEMA_VERSION 1
_Static_assert(APPLICATION_ID == 1181312120 && SCHEMA_VERSION == 1, "the schema says both");

/* One transaction, in which the header gets its mark, too. It is written before the file gets a
 * write-ahead log: a process that dies in the middle leaves an empty file, or a marked one with a
 * journal, which empties it again when it is opened. */
static const char schema[] =
    "BEGIN;"
    "PRAGMA application_id=1181312120;"
    "PRAGMA user_version=1;"
    "CREATE TABLE IF NOT EXISTS files(path TEXT PRIMARY KEY, type TEXT, size INTEGER, mode INTEGER,"
    " mtime_ns INTEGER, dev INTEGER, inode INTEGER, sha256 TEXT, error TEXT, run INTEGER);"
    "CREATE TABLE IF NOT EXISTS runs(id INTEGER PRIMARY KEY, root TEXT, started TEXT, finished "
    "TEXT, state TEXT,"
    " files INTEGER, bytes INTEGER, errors INTEGER);"
    "COMMIT;";

/* The log may grow to 16 MiB before it is moved into the file; pages of the file are moved once and
 * not again and again. The cache holds the parts of the index that a walk comes back to. */
static const char pragmas[] = "PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-8192;";

/* ---- The file -------------------------------------------------------------------------------- */

static uint32_t big_endian(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

enum { TO_BE_SET_UP = 1 };

/* Whether it is a catalogue: 0, TO_BE_SET_UP when it is empty, or an error. Looks at the header
 * alone: SQLite might roll something back, or make files beside it. */
static int64_t check_header(const struct catalogue *catalogue) {
    unsigned char header[100];
    ssize_t n = pread(catalogue->fd, header, sizeof header, 0);
    if (n < 0)
        return ferry_fail(-errno, "cannot read the catalogue '%s': %s", catalogue->path,
                          ferry_strerror(-errno));
    if (n == 0)
        return TO_BE_SET_UP;
    if (n < (ssize_t)sizeof header || memcmp(header, "SQLite format 3", 16) != 0)
        return ferry_fail(-EINVAL,
                          "'%s' is not a catalogue, and was left as it is: name another "
                          "file with -o",
                          catalogue->path);
    if (big_endian(header + 68) != APPLICATION_ID)
        return ferry_fail(-EINVAL,
                          "'%s' is an SQLite database but not a catalogue, and was left as "
                          "it is: name another file with -o",
                          catalogue->path);
    if (big_endian(header + 60) != SCHEMA_VERSION)
        return ferry_fail(-EINVAL,
                          "the catalogue '%s' was made by another version of ferry-index "
                          "(its schema is %" PRIu32
                          ", this one's is %d): use that version, or name "
                          "another file with -o",
                          catalogue->path, big_endian(header + 60), SCHEMA_VERSION);
    return 0;
}

static int64_t open_file(struct catalogue *catalogue) {
    int flags = catalogue->to_write ? O_RDWR | O_CREAT : O_RDONLY;
    catalogue->fd = open(catalogue->path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if (catalogue->fd < 0 && errno == ENOENT && !catalogue->to_write)
        return ferry_fail(-ENOENT,
                          "there is no catalogue '%s': make one with "
                          "ferry-index -o FILE FOLDER",
                          catalogue->path);
    if (catalogue->fd < 0)
        return ferry_fail(-errno, "cannot open the catalogue '%s': %s", catalogue->path,
                          ferry_strerror(-errno));
    struct stat st;
    if (fstat(catalogue->fd, &st) < 0)
        return ferry_fail(-errno, "cannot look at the catalogue '%s': %s", catalogue->path,
                          ferry_strerror(-errno));
    if (!S_ISREG(st.st_mode))
        return ferry_fail(-EINVAL,
                          "'%s' is not a regular file, so it can't be a catalogue: name "
                          "another file with -o",
                          catalogue->path);
    return 0;
}

/* ---- The lock -------------------------------------------------------------------------------- */

/* The process that holds a flock() on the file, as far as /proc/locks tells; 0 when it doesn't. */
static long lock_holder(int fd) {
    struct stat st;
    char line[256], *end;
    long holder = 0;
    FILE *locks = fopen("/proc/locks", "re");
    if (!locks)
        return 0;
    if (fstat(fd, &st) < 0)
        st = (struct stat){0};
    /* "1: FLOCK  ADVISORY  WRITE 4711 fe:01:131074 0 EOF" */
    while (holder == 0 && fgets(line, sizeof line, locks)) {
        const char *word[6];
        size_t n = 0;
        for (char *at = strtok_r(line, " ", &end); at && n < 6; at = strtok_r(NULL, " ", &end))
            word[n++] = at;
        unsigned major_, minor_;
        unsigned long long inode;
        if (n == 6 && strcmp(word[1], "FLOCK") == 0 &&
            sscanf(word[5], "%x:%x:%llu", &major_, &minor_, &inode) == 3 &&
            major_ == major(st.st_dev) && minor_ == minor(st.st_dev) && inode == st.st_ino)
            holder = strtol(word[4], NULL, 10);
    }
    fclose(locks);
    return holder > 0 ? holder : 0;
}

static int64_t lock_file(struct catalogue *catalogue) {
    int rc;
    do
        rc = flock(catalogue->fd, (catalogue->to_write ? LOCK_EX : LOCK_SH) | LOCK_NB);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return ferry_fail(-errno,
                          "cannot lock the catalogue '%s': %s; put it on a local file system",
                          catalogue->path, ferry_strerror(-errno));
    catalogue->holder = lock_holder(catalogue->fd);
    return -EWOULDBLOCK;
}

/* Since when the run goes on that holds the lock, in `since`; "" when that can't be known. */
static void running_since(const struct catalogue *catalogue, char *since, size_t size) {
    const ferry_sqlite_options options = {.read_only = true, .readers = 1};
    ferry_sqlite *db = NULL;
    ferry_sqlite_rows *rows = NULL;
    *since = '\0';
    if (ferry_await(ferry_sqlite_open(catalogue->path, &options, &db)) < 0)
        return;
    if (ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ,
                                       "SELECT started FROM runs WHERE state='running'"
                                       " ORDER BY id DESC LIMIT 1",
                                       FERRY_SQLITE_NO_VALUES, NULL, &rows)) == 1 &&
        ferry_sqlite_rows_next(rows) == 1)
        snprintf(since, size, "%s", ferry_sqlite_rows_text(rows, 0, NULL));
    ferry_sqlite_rows_close(rows);
    ferry_await(ferry_sqlite_close(db));
    ferry_sqlite_free(db);
}

static int64_t say_locked(const struct catalogue *catalogue) {
    char process[64] = "", since[64] = "";
    if (catalogue->holder)
        snprintf(process, sizeof process, " (process %ld)", catalogue->holder);
    if (check_header(catalogue) == 0)
        running_since(catalogue, since, sizeof since);
    return ferry_fail(-EWOULDBLOCK,
                      "the catalogue '%s' is in use by another ferry-index%s%s%s: wait "
                      "until it has ended, or name another file with -o",
                      catalogue->path, process, *since ? " since " : "", since);
}

/* ---- Open and close -------------------------------------------------------------------------- */

/* Whether a transaction without a log was broken off: the next who opens the file undoes it. */
static bool has_journal(const struct catalogue *catalogue) {
    struct stat st;
    char *path;
    if (asprintf(&path, "%s-journal", catalogue->path) < 0)
        return false;
    bool there = stat(path, &st) == 0;
    free(path);
    return there;
}

static int64_t take_file(void *arg) {
    struct catalogue *catalogue = arg;
    int64_t rc = open_file(catalogue);
    if (rc == 0)
        rc = lock_file(catalogue);
    if (rc == 0)
        rc = check_header(catalogue);
    if (rc == TO_BE_SET_UP && !catalogue->to_write)
        return ferry_fail(-EINVAL,
                          "the catalogue '%s' is empty: fill it with ferry-index -o FILE FOLDER",
                          catalogue->path);
    if (rc != 0 || !has_journal(catalogue))
        return rc;
    if (!catalogue->to_write)
        return ferry_fail(-EINVAL,
                          "the catalogue '%s' was left half written by a run that was killed: run "
                          "ferry-index -o FILE FOLDER once more",
                          catalogue->path);
    return TO_BE_SET_UP;
}

static void own(struct catalogue *catalogue, const char *suffix) {
    struct stat st;
    char *path;
    if (asprintf(&path, "%s%s", catalogue->path, suffix) < 0)
        return;
    if (stat(path, &st) == 0) {
        catalogue->own[catalogue->n_own].dev = st.st_dev;
        catalogue->own[catalogue->n_own++].inode = st.st_ino;
    }
    free(path);
}

/* The log and its index are there as soon as something was read. */
static int64_t note_own_files(void *arg) {
    struct catalogue *catalogue = arg;
    own(catalogue, "");
    own(catalogue, "-wal");
    own(catalogue, "-shm");
    return 0;
}

bool catalogue_owns(const struct catalogue *catalogue, uint64_t dev, uint64_t inode) {
    for (size_t i = 0; i < catalogue->n_own; i++)
        if (catalogue->own[i].inode == inode && catalogue->own[i].dev == dev)
            return true;
    return false;
}

/* Runs a script without a write-ahead log, which there is none of afterwards. */
static int64_t run_without_log(const struct catalogue *catalogue, const char *sql) {
    const ferry_sqlite_options options = {.readers = 1, .journal_mode = "DELETE"};
    ferry_sqlite *db = NULL;
    int64_t rc = ferry_await(ferry_sqlite_open(catalogue->path, &options, &db));
    if (rc < 0)
        return rc;
    rc = ferry_await(ferry_sqlite_script(db, sql));
    int64_t closed = ferry_await(ferry_sqlite_close(db));
    ferry_sqlite_free(db);
    return rc < 0 ? rc : closed;
}

/* The first statement: an index that can't be read is to be found before anything else is done. */
static int64_t begin(const struct catalogue *catalogue) {
    int64_t runs;
    if (catalogue->to_write)
        return ferry_await(ferry_sqlite_exec(
            catalogue->db, "UPDATE runs SET state='abandoned' WHERE state='running'",
            FERRY_SQLITE_NO_VALUES, NULL));
    return ferry_await(ferry_sqlite_get_int64(catalogue->db, FERRY_SQLITE_READ,
                                              "SELECT count(*) FROM runs", FERRY_SQLITE_NO_VALUES,
                                              &runs));
}

int64_t catalogue_open(struct catalogue *catalogue, const char *path, bool to_write) {
    *catalogue = (struct catalogue){.fd = -1};
    catalogue->path = path;
    catalogue->to_write = to_write;
    const ferry_sqlite_options options = {
        .readers = 1, .read_only = !to_write, .busy_ms = 10000, .pragmas = pragmas};
    int64_t rc = ferry_await(ferry_submit(NULL, take_file, catalogue));
    if (rc == -EWOULDBLOCK)
        rc = say_locked(catalogue);
    if (rc == TO_BE_SET_UP)
        rc = run_without_log(catalogue, schema);
    if (rc >= 0)
        rc = ferry_await(ferry_sqlite_open(path, &options, &catalogue->db));
    if (rc >= 0)
        rc = begin(catalogue);
    if (rc >= 0)
        rc = ferry_await(ferry_submit(NULL, note_own_files, catalogue));
    return rc < 0 ? rc : 0;
}

int64_t catalogue_close(struct catalogue *catalogue) {
    bool written = catalogue->db && catalogue->to_write;
    int64_t rc = catalogue->db ? ferry_await(ferry_sqlite_close(catalogue->db)) : 0;
    ferry_sqlite_free(catalogue->db);
    /* Without its log it can be read where nothing may be written. It can't give it up while
     * another program has it open: then it keeps the log, and is as good. */
    if (written && rc >= 0)
        run_without_log(catalogue, "SELECT 1");
    if (catalogue->fd >= 0)
        close(catalogue->fd);
    *catalogue = (struct catalogue){.fd = -1};
    return rc;
}

/* ---- Runs ------------------------------------------------------------------------------------ */

#define NOW "strftime('%Y-%m-%dT%H:%M:%SZ','now')"

int64_t catalogue_begin_run(struct catalogue *catalogue, const char *root) {
    ferry_sqlite_result result;
    int64_t rc = ferry_await(ferry_sqlite_exec(
        catalogue->db, "INSERT INTO runs(root, started, state) VALUES (?, " NOW ", 'running')",
        FERRY_SQLITE_VALUES(catalogue_path(root, strlen(root))), &result));
    return rc < 0 ? rc : result.last_rowid;
}

int64_t catalogue_end_run(struct catalogue *catalogue, int64_t run, const char *state,
                          const struct counts *counts) {
    return ferry_await(ferry_sqlite_exec(
        catalogue->db,
        "UPDATE runs SET finished=" NOW ", state=?, files=?, bytes=?, errors=? WHERE id=?",
        FERRY_SQLITE_VALUES(
            ferry_sqlite_text(state), ferry_sqlite_int64((int64_t)counts_entries(counts)),
            ferry_sqlite_int64((int64_t)count_get(&counts->bytes)),
            ferry_sqlite_int64((int64_t)count_get(&counts->errors)), ferry_sqlite_int64(run)),
        NULL));
}

/* ---- Paths ----------------------------------------------------------------------------------- */

ferry_sqlite_value catalogue_path(const char *path, size_t size) {
    return text_is_utf8(path, size) ? ferry_sqlite_text_borrowed(path, size)
                                    : ferry_sqlite_blob_borrowed(path, size);
}

int catalogue_bind_path(sqlite3_stmt *statement, int parameter, const char *path, size_t size) {
    return text_is_utf8(path, size)
               ? sqlite3_bind_text64(statement, parameter, path, size, SQLITE_STATIC, SQLITE_UTF8)
               : sqlite3_bind_blob64(statement, parameter, path, size, SQLITE_STATIC);
}

bool range_below(struct range *range, const char *folder, size_t size) {
    bool slash = size > 0 && folder[size - 1] == '/'; /* "/" alone ends with one */
    range->size = size + !slash;
    range->from = malloc(range->size);
    range->to = malloc(range->size);
    if (!range->from || !range->to) {
        range_free(range);
        return false;
    }
    memcpy(range->from, folder, size);
    range->from[range->size - 1] = '/';
    memcpy(range->to, range->from, range->size);
    range->to[range->size - 1] = '/' + 1;
    return true;
}

void range_free(struct range *range) {
    free(range->from);
    free(range->to);
    *range = (struct range){0};
}

ferry_sqlite_value range_value(const struct range *range, const char *end, enum range_kind kind) {
    return kind == RANGE_TEXT ? ferry_sqlite_text_borrowed(end, range->size)
                              : ferry_sqlite_blob_borrowed(end, range->size);
}

int range_bind(sqlite3_stmt *statement, int parameter, const struct range *range,
               enum range_kind kind) {
    const char *ends[] = {range->from, range->to};
    int code = SQLITE_OK;
    for (int i = 0; i < 2 && code == SQLITE_OK; i++)
        code = kind == RANGE_TEXT ? sqlite3_bind_text64(statement, parameter + i, ends[i],
                                                        range->size, SQLITE_STATIC, SQLITE_UTF8)
                                  : sqlite3_bind_blob64(statement, parameter + i, ends[i],
                                                        range->size, SQLITE_STATIC);
    return code;
}

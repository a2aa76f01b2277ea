/* The catalogue: an SQLite file with a row for every entry of the trees, and one for every run.
 *
 *     files(path TEXT PRIMARY KEY, type TEXT, size INTEGER, mode INTEGER, mtime_ns INTEGER,
 *           dev INTEGER, inode INTEGER, sha256 TEXT, error TEXT, run INTEGER)
 *     runs(id INTEGER PRIMARY KEY, root TEXT, started TEXT, finished TEXT, state TEXT,
 *          files INTEGER, bytes INTEGER, errors INTEGER)
 *
 * path     as `find` prints it: the FOLDER as it was given and the names below. It is TEXT when it
 *          is UTF-8; else it is a BLOB of the same bytes, so that no name is lost, and no reader of
 *          the column gets text that isn't. CAST(path AS BLOB) is always the bytes. The same
 *          bytes are always the same value.
 * type     the letter of `find -printf %y`: f, d, l, p, s, c, b; ? when it could not be looked at
 * mode     st_mode: type and permissions
 * sha256   64 lowercase digits; NULL for what isn't a regular file, could not be read, or was
 *          catalogued with --no-hash
 * error    what went wrong with the entry; NULL when nothing did
 * run      the run that wrote the row last: a row that is right isn't written again
 *
 * started, finished: UTC, as 2026-01-31T23:59:59Z. files counts the entries of all types below the
 * root, bytes the sizes of the regular files among them, errors the entries that could not be read.
 * state:
 *
 *     running --> finished       the whole tree was gone through
 *        |------> interrupted    a signal ended it in order; what it had is in the catalogue
 *        |------> failed         an error ended it (the disk is full, ...); likewise
 *        `------> abandoned      its process died; the next run says so, when it begins
 *
 * New rows are numbered (by their rowid) in the order of the walk. The next walk comes through the
 * same tree in the same order, so it can read them as one stream: see old.h.
 *
 * The lock is a flock() on the file: exclusive for a run, shared for those who only read. It dies
 * with the process. `fd` must stay open until SQLite has closed the file: closing any descriptor of
 * a file drops the process's record locks on it, which are SQLite's. */
#ifndef FERRY_INDEX_CATALOGUE_H
#define FERRY_INDEX_CATALOGUE_H

#include <stdbool.h>
#include <sys/types.h>

#include <ferry-sqlite.h>

#include "counts.h"

/* Before it is opened: {.fd = -1} */
struct catalogue {
    const char *path;
    bool to_write;
    ferry_sqlite *db;
    int fd;
    long holder; /* the process that has the lock, when somebody else has it; 0: unknown */
    struct {
        dev_t dev;
        ino_t inode;
    } own[3]; /* the file itself, its -wal and its -shm */
    size_t n_own;
};

/* Opens and locks the file. To write: it is made when it is missing, and runs whose process has
 * died are marked; else nothing is changed. A file that isn't a catalogue is never touched. From a
 * task. Returns 0 or an error, with a detail that says what to do. */
int64_t catalogue_open(struct catalogue *catalogue, const char *path, bool to_write);

/* Closes it, and moves the write-ahead log into the file, which then is all there is; also after
 * catalogue_open() has failed. Returns 0 or an error. */
int64_t catalogue_close(struct catalogue *catalogue);

/* Whether a file is one of the catalogue's own, which are no part of any tree. Any thread. */
bool catalogue_owns(const struct catalogue *catalogue, uint64_t dev, uint64_t inode);

/* Writes the row of a run that begins, and of one that has ended. The first one returns the run's
 * id. From a task that isn't cancelled: an interrupted run is to be marked, too. */
int64_t catalogue_begin_run(struct catalogue *catalogue, const char *root);
int64_t catalogue_end_run(struct catalogue *catalogue, int64_t run, const char *state,
                          const struct counts *counts);

/* A path as the catalogue stores it, borrowed. */
ferry_sqlite_value catalogue_path(const char *path, size_t size);
int catalogue_bind_path(sqlite3_stmt *statement, int parameter, const char *path, size_t size);

/* What lies below a folder: the paths >= `from` and < `to`, of `size` bytes each; once among those
 * stored as text, once among those stored as blobs. */
struct range {
    char *from, *to;
    size_t size;
};

enum range_kind { RANGE_TEXT, RANGE_BLOB, RANGE_KINDS };

/* Returns false when out of memory. Freed with range_free(). */
bool range_below(struct range *range, const char *folder, size_t size);
void range_free(struct range *range);

/* An end of it as a value, borrowed. */
ferry_sqlite_value range_value(const struct range *range, const char *end, enum range_kind kind);

/* Binds from and to, at `parameter` and the one after it. Returns an SQLite code. */
int range_bind(sqlite3_stmt *statement, int parameter, const struct range *range,
               enum range_kind kind);

#endif

/* The rows that the catalogue had before the run: finding those of the walk's entries, and knowing
 * at the end which of them the walk didn't come by.
 *
 * Rows are numbered in the order of the walk that made them, and a tree that hasn't changed is
 * walked in the same order again. So the row of an entry is most likely the one after the row of
 * the entry before: it is looked at first, in a stream of rows that costs a fraction of a
 * microsecond each. Only when it isn't the one is the path looked up in the index, and the stream
 * goes on from what was found.
 *
 * What was seen is a bit for each row number: 125 KB for a million. */
#ifndef FERRY_INDEX_OLD_H
#define FERRY_INDEX_OLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ferry-sqlite.h>

struct old {
    int64_t last; /* the highest row number before the run; 0: there are none */
    unsigned char *seen;

    /* During a transaction: */
    sqlite3 *connection;
    sqlite3_stmt *next, *find;
    bool at_row, at_end; /* `next` stands at a row; has none left */
    int64_t after;       /* the stream is to go on after this row; kept between transactions */
};

/* The row of an entry. Texts are valid until the next call. */
struct old_row {
    int64_t row;
    int type;
    uint32_t mode;
    uint64_t dev, inode;
    int64_t size, mtime_ns;
    const char *sha256; /* 64 digits, or NULL */
    bool error;         /* it could not be read then */
};

/* Looks how many rows there are. From a task; returns 0 or an error. */
int64_t old_open(struct old *old, ferry_sqlite *db);
void old_close(struct old *old);

/* In each transaction that the rows are looked at in. Returns 0 or an error. */
int64_t old_begin(struct old *old, ferry_sqlite_tx *tx);

/* Finds the row of a path. Returns 1 and *row, which counts as seen from now on; 0 when there is
 * none; or an error. */
int64_t old_find(struct old *old, const char *path, size_t size, struct old_row *row);

/* Counts all that lies below a folder as seen. Returns 0 or an error. */
int64_t old_keep_below(struct old *old, ferry_sqlite_tx *tx, const char *folder, size_t size);

bool old_was_seen(const struct old *old, int64_t row);

#endif

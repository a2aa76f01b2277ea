/* What the parts of libferry-sqlite share.
 *
 * Who owns what. A database (struct ferry_sqlite) is reference counted: one reference is the
 * program's, and one belongs to each call under way and each stream of rows. Its connections are
 * part of it. A connection belongs to the job that has taken it (ferry__sqlite_acquire()) until
 * that job gives it back; only the fields marked so are touched by others. A call is the heap box
 * of a job: its arguments, its result, and copies of the strings in both; it goes with the job's
 * handle.
 *
 * Locks: one, `lock` of the database. It is held for a few instructions, never across SQLite, a
 * call-out or an allocation; a queue's inner lock may be taken under it.
 *
 * Memory comes from sqlite3_malloc64(): one place to limit it, and one to let it fail in tests. */
#ifndef FERRY__SQLITE_INTERNAL_H
#define FERRY__SQLITE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <sqlite3.h>

#include <ferry.h>

#include "ferry-sqlite.h"

struct ferry__sqlite_conn;
struct ferry__sqlite_call;
struct ferry__sqlite_stream;

/* ---- error.c -------------------------------------------------------------------------------- */

/* Lets ferry_strerror() know SQLite's codes. */
void ferry__sqlite_register_errors(void);
/* As ferry_sqlite_fail(), for a statement that starts `base` bytes into `sql`. */
int64_t ferry__sqlite_fail_at(sqlite3 *raw, int code, const char *sql, size_t base);
/* "SQLITE_BUSY"; for an extended code that isn't known, its primary code's name. Static. */
const char *ferry__sqlite_code_name(int code);
/* One line of at most size - 1 bytes out of `sql`, around byte `at` where it is long. Returns
 * `out`. */
char *ferry__sqlite_shorten(char *out, size_t size, const char *sql, size_t at);
int64_t ferry__sqlite_no_memory(void);

/* ---- statement.c: SQL with its values, and the statements that a connection keeps ----------- */

/* A statement's text and values; the memory belongs to somebody else. */
struct ferry__sqlite_query {
    const char *sql;
    const ferry_sqlite_value *values;
    size_t n;
};

/* A prepared statement. */
struct ferry__sqlite_statement {
    sqlite3_stmt *raw;
    struct ferry__sqlite_statement *newer, *older; /* the cache, by last use */
    uint64_t hash;
    bool busy; /* somebody uses it: it can be neither shared nor evicted */
    bool held; /* implies busy: ferry_sqlite_tx_prepare() gave it away until the transaction ends */
    char sql[];
};

struct ferry__sqlite_cache {
    struct ferry__sqlite_statement *newest, *oldest;
    int count, max;
};

/* 0, or why the query can't be run, as a recorded error. */
int64_t ferry__sqlite_check(const char *sql, const ferry_sqlite_value *values, size_t n);
/* What a copy of the query takes, behind a struct of `head` bytes. */
size_t ferry__sqlite_copy_size(size_t head, const char *sql, const ferry_sqlite_value *values,
                               size_t n);
/* Copies text and values (but not what is borrowed) to `block` + `head`. */
struct ferry__sqlite_query ferry__sqlite_copy(void *block, size_t head, const char *sql,
                                              const ferry_sqlite_value *values, size_t n);

/* A statement for one use, with its values bound; they must stay until it is given back, unless
 * `keep` has SQLite copy what isn't borrowed. */
int64_t ferry__sqlite_begin_statement(struct ferry__sqlite_conn *conn,
                                      const struct ferry__sqlite_query *query, bool keep,
                                      struct ferry__sqlite_statement **out);
int64_t ferry__sqlite_prepare_held(struct ferry__sqlite_conn *conn, const char *sql,
                                   struct ferry__sqlite_statement **out);
void ferry__sqlite_end_statement(struct ferry__sqlite_conn *conn,
                                 struct ferry__sqlite_statement *statement);
void ferry__sqlite_end_held(struct ferry__sqlite_conn *conn);
void ferry__sqlite_cache_clear(struct ferry__sqlite_conn *conn);

/* The number of rows changed; rows are ignored. */
int64_t ferry__sqlite_exec_on(struct ferry__sqlite_conn *conn,
                              const struct ferry__sqlite_query *query, ferry_sqlite_result *result);
int64_t ferry__sqlite_script_on(struct ferry__sqlite_conn *conn, const char *sql);
/* The first value as `type` (FERRY_SQLITE_INTEGER or _FLOAT): 1, 0 or an error. */
int64_t ferry__sqlite_get_on(struct ferry__sqlite_conn *conn,
                             const struct ferry__sqlite_query *query, int type,
                             ferry_sqlite_value *value);

/* ---- connection.c --------------------------------------------------------------------------- */

struct ferry__sqlite_conn {
    ferry_sqlite *db;
    sqlite3 *raw; /* NULL: not opened yet, or closed after a failure */
    sqlite3_stmt *begin, *begin_immediate, *commit, *rollback;
    struct ferry__sqlite_cache cache;
    bool writer;     /* written once */
    bool undo_first; /* a ROLLBACK failed, and the connection couldn't be closed for it */

    /* The job that runs on it now. */
    bool in_tx;          /* a transaction's function runs: no statement may run outside of it */
    bool deaf;           /* cleaning up: no statement is stopped now */
    int64_t waits_since; /* start of the present wait for a lock, ns */
    int64_t tick;        /* when somebody last looked whether the job should stop, coarse ns */
    struct ferry__sqlite_stream *stream; /* whose rows a long step may send on; or NULL */

    /* under db->lock */
    bool taken;
    ferry_future *owner; /* the job's handle, only to be compared */
    struct ferry__sqlite_conn *next_free;
};

/* Opens it; `first`: the file may be made, its mode is set, and it is read once. */
int64_t ferry__sqlite_conn_open(struct ferry__sqlite_conn *conn, bool first);
void ferry__sqlite_conn_close(struct ferry__sqlite_conn *conn);
/* Puts the handlers back that a caller's function may have replaced. */
void ferry__sqlite_conn_arm(struct ferry__sqlite_conn *conn);
/* After an error or a caller's function: no statement runs and no transaction is open afterwards,
 * or the connection is closed. `rc` is how the job went, and is returned, unless it was a success
 * that left a transaction open. */
int64_t ferry__sqlite_conn_settle(struct ferry__sqlite_conn *conn, int64_t rc);
void ferry__sqlite_conn_reset_statements(struct ferry__sqlite_conn *conn);
/* Sleeps before the next try to get a lock. False when busy_ms are over since `since`, or the job
 * is cancelled. */
bool ferry__sqlite_conn_pause(struct ferry__sqlite_conn *conn, int tries, int64_t since);
/* 0 or -ECANCELED; looks only now and then, for loops over rows. */
int64_t ferry__sqlite_conn_check(struct ferry__sqlite_conn *conn);

/* ---- clock.c -------------------------------------------------------------------------------- */

int64_t ferry__sqlite_now(void);        /* CLOCK_MONOTONIC, ns */
int64_t ferry__sqlite_now_coarse(void); /* the same, some ms behind, and cheaper */

/* ---- transaction.c -------------------------------------------------------------------------- */

typedef int64_t (*ferry__sqlite_body)(struct ferry__sqlite_conn *conn, void *arg);

/* Runs body in a transaction that commits when it returns >= 0. When it fails the transaction is
 * left to ferry__sqlite_conn_settle(). `again`: it may be run again when it was busy. */
int64_t ferry__sqlite_in_transaction(struct ferry__sqlite_conn *conn, ferry__sqlite_body body,
                                     void *arg, bool again);

/* ---- call.c --------------------------------------------------------------------------------- */

/* A job's box. Kinds put it first in a struct of their own. */
struct ferry__sqlite_call {
    ferry_sqlite *db; /* a reference */
    int mode;
    int64_t (*run)(struct ferry__sqlite_call *call, struct ferry__sqlite_conn *conn);

    /* Each of these may be NULL. */
    void (*ended)(struct ferry__sqlite_call *call); /* run is over, the connection is back */
    void (*deliver)(struct ferry__sqlite_call *call, int64_t result); /* a result >= 0 */
    void (*destroy)(struct ferry__sqlite_call *call); /* NULL: sqlite3_free() does */
};

/* Checks that the database takes calls, and starts the job. NULL when out of memory: `call` is
 * still the caller's. In every other case it belongs to the handle. */
ferry_future *ferry__sqlite_start(ferry_sqlite *db, struct ferry__sqlite_call *call,
                                  const char *name);
/* A handle that has ended with `code`, whose detail was just recorded. NULL when out of memory. */
ferry_future *ferry__sqlite_failed(int64_t code);

/* ---- pool.c --------------------------------------------------------------------------------- */

enum ferry__sqlite_state {
    FERRY__SQLITE_OPENING,
    FERRY__SQLITE_OPEN,
    FERRY__SQLITE_CLOSING, /* no new calls; those that were made before still run */
    FERRY__SQLITE_ENDING,  /* whoever was last closes the connections */
    FERRY__SQLITE_CLOSED
};

struct ferry__sqlite_closer;

struct ferry_sqlite {
    atomic_int refs;
    pid_t pid;                    /* written once: a child of a fork may not touch it */
    ferry_sqlite_options options; /* written once; strings are ours */
    char *path;                   /* as given; then, written by the job that opens, the full name */
    ferry_executor *write_line;   /* a strand: one job at a time */
    ferry_executor *read_line;    /* a strand: as many as there are readers */
    bool single;                  /* written once: one connection serves all */

    pthread_mutex_t lock;
    /* under lock */
    enum ferry__sqlite_state state;
    int taken; /* connections that jobs have */
    int lines; /* markers that are still queued: see ferry_sqlite_close() */
    struct ferry__sqlite_conn *free_readers; /* last in, first out: the warmest first */
    struct ferry__sqlite_stream *streams;
    struct ferry__sqlite_closer *closers;

    int n_conns;
    struct ferry__sqlite_conn conns[]; /* [0] is the writer's */
};

void ferry__sqlite_ref(ferry_sqlite *db);
void ferry__sqlite_unref(ferry_sqlite *db);
/* Takes a connection for the running job; opens it where it isn't. */
int64_t ferry__sqlite_acquire(ferry_sqlite *db, int mode, struct ferry__sqlite_conn **out);
void ferry__sqlite_release(struct ferry__sqlite_conn *conn);
/* Whether a job may be started now: 0, or a recorded FERRY_ECLOSED, -EDEADLK, -EINVAL or
 * SQLITE_READONLY. */
int64_t ferry__sqlite_admit(ferry_sqlite *db, int mode);
/* Where jobs of this mode stand in line. */
ferry_executor *ferry__sqlite_line(ferry_sqlite *db, int mode);
/* The database knows its streams, to end them when it is closed. */
void ferry__sqlite_enlist(ferry_sqlite *db, struct ferry__sqlite_stream *stream);
void ferry__sqlite_delist(ferry_sqlite *db, struct ferry__sqlite_stream *stream);

/* ---- batch.c: rows as memory ---------------------------------------------------------------- */

struct ferry__sqlite_cell {
    union {
        int64_t integer;
        double real;
        size_t offset; /* of text or a blob in the batch's bytes; a NUL stands behind */
    } as;
    uint32_t length;
    uint8_t type;
};

struct ferry__sqlite_batch {
    size_t rows, columns;
    size_t cells_room; /* in cells */
    size_t used, room; /* of bytes */
    struct ferry__sqlite_cell *cells;
    unsigned char *bytes;
};

/* The names of a result's columns, in one block. */
struct ferry__sqlite_columns {
    int n;
    const char *names[];
};

/* NULL: out of memory. */
struct ferry__sqlite_columns *ferry__sqlite_columns_new(sqlite3_stmt *raw);
struct ferry__sqlite_batch *ferry__sqlite_batch_new(int columns);
void ferry__sqlite_batch_free(struct ferry__sqlite_batch *batch); /* NULL is ignored */
size_t ferry__sqlite_batch_size(const struct ferry__sqlite_batch *batch);
/* Adds the statement's row; after -ENOMEM the batch has the rows before it. */
int64_t ferry__sqlite_batch_add(struct ferry__sqlite_batch *batch, sqlite3_stmt *raw);

/* ---- stream.c: the producing side of rows --------------------------------------------------- */

/* Shared by the job (whose box it is) and the consumer; the last of the two frees it. */
struct ferry__sqlite_stream {
    struct ferry__sqlite_call call; /* first: the job's part */
    ferry_sqlite *db;               /* a reference of the record's own */
    atomic_int refs;
    atomic_bool left; /* the consumer wants no more rows */
    struct ferry__sqlite_query query;
    size_t batch_rows, batch_bytes; /* written once */
    ferry_queue *queue;             /* of batches; closed when the job's function has ended */
    ferry_promise *first;           /* kept with the first batch */
    struct ferry__sqlite_columns *columns; /* written before the first batch or the end */

    /* producer only, while it runs */
    struct ferry__sqlite_batch *filling;
    size_t fill_rows;      /* when to send it: grows from batch to batch */
    int64_t filling_since; /* coarse ns */
    bool flowing;          /* `first` was kept */

    /* under db->lock */
    struct ferry__sqlite_stream *next, **prev;
};

/* With one reference, and *first for the consumer; NULL: out of memory. */
struct ferry__sqlite_stream *ferry__sqlite_stream_new(ferry_sqlite *db, int mode,
                                                      const struct ferry__sqlite_query *query,
                                                      const ferry_sqlite_query_options *options,
                                                      ferry_future **first);
/* The job's handle, or NULL: out of memory. */
ferry_future *ferry__sqlite_stream_start(struct ferry__sqlite_stream *stream);
/* NULL is ignored. */
void ferry__sqlite_stream_unref(struct ferry__sqlite_stream *stream);
/* From the progress handler: sends rows on that have waited during a long step. */
void ferry__sqlite_stream_breathe(struct ferry__sqlite_stream *stream);

/* ---- rows.c: the consuming side ------------------------------------------------------------- */

enum ferry__sqlite_source {
    FERRY__SQLITE_STREAM, /* batches come through a queue */
    FERRY__SQLITE_BUFFER, /* one batch, complete */
    FERRY__SQLITE_DIRECT  /* a statement of the connection that the caller runs on */
};

struct ferry_sqlite_rows {
    enum ferry__sqlite_source source;
    bool on_row;
    bool flowing;                          /* STREAM: the queue will be closed by the producer */
    int64_t end;                           /* 1: it isn't over; 0: it is; < 0: its error */
    struct ferry__sqlite_columns *columns; /* STREAM: the stream's */
    struct ferry__sqlite_batch *batch;
    size_t row; /* the current one of the batch */

    /* STREAM */
    struct ferry__sqlite_stream *stream;
    ferry_future *job, *first;

    /* DIRECT */
    struct ferry__sqlite_conn *conn;
    struct ferry__sqlite_statement *statement; /* NULL: given back */
    uint8_t *types; /* of the current row: asking for text changes SQLite's */
    struct ferry_sqlite_rows *next, **prev; /* the transaction's list */
};

/* A transaction's function runs with this. */
struct ferry_sqlite_tx {
    struct ferry__sqlite_conn *conn;
    struct ferry_sqlite_rows *rows; /* that are open */
};

/* Rows straight from a statement, listed in `tx`; NULL and *error when it can't be started. */
ferry_sqlite_rows *ferry__sqlite_rows_direct(ferry_sqlite_tx *tx,
                                             const struct ferry__sqlite_query *query,
                                             int64_t *error);

#endif

/* SQLite off the event loop: one writer and several readers on one database, whose calls are
 * handles.
 *
 *     ferry_sqlite *db;
 *     ferry_sqlite_options options = {.create = true};
 *     int64_t rc = ferry_await(ferry_sqlite_open("notes.db", &options, &db));
 *     ...
 *     rc = ferry_await(ferry_sqlite_exec(db, "INSERT INTO note VALUES (?, ?)",
 *             FERRY_SQLITE_VALUES(ferry_sqlite_int64(1), ferry_sqlite_text("buy milk")), NULL));
 *
 *     ferry_sqlite_rows *rows = ferry_sqlite_query(
 *             db, FERRY_SQLITE_READ, "SELECT id, text FROM note", FERRY_SQLITE_NO_VALUES, NULL);
 *     while ((rc = ferry_sqlite_rows_next(rows)) > 0)
 *         printf("%s\n", ferry_sqlite_rows_text(rows, 1, NULL));
 *     ferry_sqlite_rows_close(rows);
 *
 *     ferry_await(ferry_sqlite_close(db));
 *     ferry_sqlite_free(db);
 *
 * Whatever returns a handle may be called from tasks, threads, jobs and callbacks alike, never
 * blocks (but for a full queue, see ferry_submit()), and returns NULL only when out of memory,
 * which ferry_await() takes. Out-parameters are written by the ferry_await() that takes the result,
 * and only when it is >= 0. SQL and values are copied, unless a value was made by one of the
 * _borrowed functions.
 *
 * Every handle ends with one of these, and ferry_errmsg() tells the story:
 *   >= 0              as each function says
 *   FERRY_SQLITE(c)   SQLite failed with the (extended) result code c
 *   -ENOMEM           SQLite or this library was out of memory
 *   -ECANCELED, FERRY_EJOBCANCELED   cancelled, or the deadline of the scope that the call was made
 *                     in was over: the statement or transaction was undone
 *   FERRY_ECLOSED     ferry_sqlite_close() was called before, or the executor was closed
 *   -EDEADLK          called by a function that runs on a connection of this database and would
 *                     have to wait for itself: it should use the connection that it was given
 *   -EINVAL           wrong arguments: a number of values that isn't the statement's number of
 *                     parameters, no statement or more than one, an unknown mode or type
 *   FERRY_EFORKED     the database was opened by the parent process
 *   -EAGAIN           the queue was full or no thread could be made: see ferry_submit() */
#ifndef FERRY_SQLITE_H
#define FERRY_SQLITE_H

#include <string.h>

#include <ferry/base.h>
#include <ferry/executor.h>

FERRY_BEGIN_DECLS

typedef struct sqlite3 sqlite3;           /* SQLite's own: see sqlite3.h */
typedef struct sqlite3_stmt sqlite3_stmt; /* likewise */

typedef struct ferry_sqlite ferry_sqlite;           /* a database */
typedef struct ferry_sqlite_rows ferry_sqlite_rows; /* the rows of one query, one at a time */
typedef struct ferry_sqlite_tx ferry_sqlite_tx;     /* a transaction, for its function */

/* ---- Errors --------------------------------------------------------------------------------- */

/* SQLite's result codes (SQLITE_BUSY, SQLITE_CONSTRAINT_UNIQUE, ...; extended ones too) as error
 * codes of Ferry, and back. SQLITE_NOMEM is never among them (-ENOMEM is), nor SQLITE_INTERRUPT for
 * a cancel. */
#define FERRY_SQLITE(code) (INT64_C(-1000000) - (int64_t)(code))
#define FERRY_SQLITE_CODE(error) ((int)(INT64_C(-1000000) - (int64_t)(error)))
#define FERRY_IS_SQLITE(error) ((error) < INT64_C(-1000000) && (error) >= INT64_C(-1065535))

/* The primary code of such an error: SQLITE_CONSTRAINT for SQLITE_CONSTRAINT_UNIQUE, ...; 0 for any
 * other. */
#define FERRY_SQLITE_PRIMARY(error) (FERRY_IS_SQLITE(error) ? FERRY_SQLITE_CODE(error) & 0xff : 0)

/* For functions that use the raw connection: turns `code`, which a call on it has just returned,
 * into an error with a detail (message, byte offset, what to do), recorded by ferry_fail().
 * SQLITE_OK, SQLITE_ROW and SQLITE_DONE give 0. `sql` is the statement, for the detail, or NULL. An
 * interrupted or busy statement of a cancelled job gives -ECANCELED. Never blocks. */
FERRY_API int64_t ferry_sqlite_fail(sqlite3 *connection, int code, const char *sql);

/* ---- Values --------------------------------------------------------------------------------- */

enum ferry_sqlite_type {
    FERRY_SQLITE_INTEGER = 1,
    FERRY_SQLITE_FLOAT = 2,
    FERRY_SQLITE_TEXT = 3,
    FERRY_SQLITE_BLOB = 4,
    FERRY_SQLITE_NULL = 5,
    FERRY_SQLITE_ZEROBLOB =
        6 /* as a parameter only: `length` bytes of zero, to be filled in later */
};

/* A value for a parameter (?, ?2, :name) of a statement, in the order of their numbers. Made by one
 * of the functions below. */
typedef struct ferry_sqlite_value {
    int type;      /* enum ferry_sqlite_type */
    bool borrowed; /* the bytes aren't copied: they must stay until the call's handle has ended */
    size_t length; /* of text (without a NUL), blob or zeroblob, bytes */
    union {
        int64_t integer;
        double real;
        const void *data;
    } as;
} ferry_sqlite_value;

static inline ferry_sqlite_value ferry_sqlite_null(void) {
    ferry_sqlite_value value;
    memset(&value, 0, sizeof value);
    value.type = FERRY_SQLITE_NULL;
    return value;
}

static inline ferry_sqlite_value ferry_sqlite_int64(int64_t integer) {
    ferry_sqlite_value value = ferry_sqlite_null();
    value.type = FERRY_SQLITE_INTEGER;
    value.as.integer = integer;
    return value;
}

/* NaN becomes NULL: SQLite has none. */
static inline ferry_sqlite_value ferry_sqlite_double(double real) {
    ferry_sqlite_value value = ferry_sqlite_null();
    value.type = FERRY_SQLITE_FLOAT;
    value.as.real = real;
    return value;
}

/* Text of `length` bytes: any bytes, NUL and what isn't UTF-8 too. */
static inline ferry_sqlite_value ferry_sqlite_text_n(const char *text, size_t length) {
    ferry_sqlite_value value = ferry_sqlite_null();
    value.type = FERRY_SQLITE_TEXT;
    value.length = length;
    value.as.data = text;
    return value;
}

/* A C string; NULL gives the SQL NULL. */
static inline ferry_sqlite_value ferry_sqlite_text(const char *text) {
    return text ? ferry_sqlite_text_n(text, strlen(text)) : ferry_sqlite_null();
}

static inline ferry_sqlite_value ferry_sqlite_blob(const void *data, size_t length) {
    ferry_sqlite_value value = ferry_sqlite_null();
    value.type = FERRY_SQLITE_BLOB;
    value.length = length;
    value.as.data = data;
    return value;
}

static inline ferry_sqlite_value ferry_sqlite_zeroblob(size_t length) {
    ferry_sqlite_value value = ferry_sqlite_null();
    value.type = FERRY_SQLITE_ZEROBLOB;
    value.length = length;
    return value;
}

/* The same without a copy, for what is big: the bytes must stay unchanged until the handle has
 * ended (for rows: until ferry_sqlite_rows_close()). */
static inline ferry_sqlite_value ferry_sqlite_text_borrowed(const char *text, size_t length) {
    ferry_sqlite_value value = ferry_sqlite_text_n(text, length);
    value.borrowed = true;
    return value;
}

static inline ferry_sqlite_value ferry_sqlite_blob_borrowed(const void *data, size_t length) {
    ferry_sqlite_value value = ferry_sqlite_blob(data, length);
    value.borrowed = true;
    return value;
}

/* The two arguments `values, n` of the calls below. C++ has no literals of this kind: give an array
 * there. */
#define FERRY_SQLITE_NO_VALUES NULL, 0
#ifndef __cplusplus
#define FERRY_SQLITE_VALUES(...) \
    (const ferry_sqlite_value[]){__VA_ARGS__}, \
        sizeof((const ferry_sqlite_value[]){__VA_ARGS__}) / sizeof(ferry_sqlite_value)
#endif

/* ---- Open and close ------------------------------------------------------------------------- */

enum ferry_sqlite_synchronous {
    FERRY_SQLITE_SYNC_DEFAULT = 0, /* NORMAL */
    FERRY_SQLITE_SYNC_OFF,         /* a crash of the system may destroy the file */
    FERRY_SQLITE_SYNC_NORMAL,      /* with WAL: the last commits may be lost, no more */
    FERRY_SQLITE_SYNC_FULL,        /* what is committed is on the disk */
    FERRY_SQLITE_SYNC_EXTRA        /* with journal mode DELETE: and the folder as well */
};

/* Zero is the default of each. Strings are copied. */
typedef struct ferry_sqlite_options {
    ferry_executor *executor; /* the pool whose threads are used; default: the default executor */
    int readers;              /* connections for reading, made when needed; default 4, at most 64 */
    bool read_only;           /* nothing is ever written; what would fails with SQLITE_READONLY */
    bool create;              /* make the file when it is missing (never with read_only) */

    /* How long to wait for a lock that another program or connection holds, in milliseconds;
     * default 5,000; negative: not at all. */
    int64_t busy_ms;
    int synchronous; /* enum ferry_sqlite_synchronous */

    /* Default "WAL"; "DELETE", ... where that can't be had: readers and the writer then wait for
     * each other. Not touched with read_only, nor in memory. */
    const char *journal_mode;
    int statements; /* prepared statements kept by each connection; default 64; negative: none */

    /* What every new connection is given, the writer and the readers alike: SQL ("PRAGMA
     * foreign_keys=ON; ..."), then a call of `init` on a worker thread, several at a time
     * (functions, collations, ...). A result < 0 is the error of the call that needed it. */
    const char *pragmas;
    int64_t (*init)(sqlite3 *connection, void *arg);
    void *init_arg;
    const char *vfs;   /* SQLite's VFS; default: its default */
    size_t queue_max;  /* jobs waiting for the writer, and for the readers; default 65,536 */
    int full;          /* enum ferry_full_policy */
    void *reserved[6]; /* zero */
} ferry_sqlite_options;

/* Opens the database `path` (a plain file name, not a URI). ":memory:" is a database in memory, ""
 * a temporary file: they have one connection that serves reads and writes, and doesn't keep READ
 * from writing. The result is 0, and *db. `options` may be NULL. Errors:
 * FERRY_SQLITE(SQLITE_CANTOPEN), (SQLITE_NOTADB), (SQLITE_BUSY), (SQLITE_READONLY), ...; -EINVAL
 * for wrong options; -ENOTSUP when the file system can't do WAL, or SQLite was built without
 * threads. */
FERRY_API ferry_future *ferry_sqlite_open(const char *path, const ferry_sqlite_options *options,
                                          ferry_sqlite **db);

/* Closes it: later calls end with FERRY_ECLOSED; what was started before still runs, but streams of
 * rows end with FERRY_ECLOSED (after the rows that are under way); when all have ended, the
 * connections are closed and the write-ahead log goes into the file. (When a queue is full and
 * refuses more, the calls in it end with FERRY_ECLOSED as well.) The handle's result is 0.
 * Cancelling the handle only gives up waiting. A second call gives a handle that ends when the
 * first one does. The memory stays: see ferry_sqlite_free(). */
FERRY_API ferry_future *ferry_sqlite_close(ferry_sqlite *db);

/* Gives the memory back, and closes the database in the background if nobody has. Nothing may be
 * called with `db` afterwards; handles and rows that are still open stay valid. NULL is ignored,
 * and so is the parent's database in a child of a fork. Never waits. */
FERRY_API void ferry_sqlite_free(ferry_sqlite *db);

/* The file's full name as SQLite knows it; "" for a database in memory, and for NULL. Valid as long
 * as db. */
FERRY_API const char *ferry_sqlite_path(const ferry_sqlite *db);

/* ---- Statements ----------------------------------------------------------------------------- */

enum ferry_sqlite_mode {
    FERRY_SQLITE_READ = 0, /* on a reader; a statement that writes fails with SQLITE_READONLY */
    FERRY_SQLITE_WRITE = 1 /* on the writer, one at a time, in the order of the calls */
};

typedef struct ferry_sqlite_result {
    int64_t changes;    /* rows inserted, updated or deleted */
    int64_t last_rowid; /* of the last row that this connection inserted */
} ferry_sqlite_result;

/* Runs one statement on the writer, rows that it gives are ignored. The handle's result is the
 * number of rows that it changed; *result (may be NULL) has more. */
FERRY_API ferry_future *ferry_sqlite_exec(ferry_sqlite *db, const char *sql,
                                          const ferry_sqlite_value *values, size_t n,
                                          ferry_sqlite_result *result);

/* Runs any number of statements on the writer, each in its own transaction unless the script says
 * BEGIN and COMMIT. It ends with the first error (a transaction that is open then, or at the end,
 * is rolled back; at the end that is FERRY_SQLITE(SQLITE_MISUSE)). The handle's result is the
 * number of rows changed by all. */
FERRY_API ferry_future *ferry_sqlite_script(ferry_sqlite *db, const char *sql);

/* The first column of the first row as a number. The handle's result is 1, or 0 when there was no
 * row or the value was NULL: *value is untouched then. FERRY_SQLITE(SQLITE_MISMATCH) when it is
 * text or a blob. */
FERRY_API ferry_future *ferry_sqlite_get_int64(ferry_sqlite *db, int mode, const char *sql,
                                               const ferry_sqlite_value *values, size_t n,
                                               int64_t *value);
FERRY_API ferry_future *ferry_sqlite_get_double(ferry_sqlite *db, int mode, const char *sql,
                                                const ferry_sqlite_value *values, size_t n,
                                                double *value);

/* Zero is the default of each. */
typedef struct ferry_sqlite_query_options {
    size_t batch_rows;  /* rows that cross in one go; default 1,024 */
    size_t batch_bytes; /* and their size; default 256 KiB. One row may be bigger */
    size_t batches;     /* under way at a time; default 3, at most 64 */
    size_t fetch_bytes; /* ferry_sqlite_fetch(): what the rows may take in all; default 64 MiB */
    void *reserved[4];  /* zero */
} ferry_sqlite_query_options;

/* All rows of one statement at once, for results that are small. The handle's result is their
 * number; ferry_sqlite_rows_next(*rows) gives them without waiting (so it may be used in
 * callbacks), and ferry_sqlite_rows_close(*rows) gives them back. FERRY_SQLITE(SQLITE_TOOBIG) when
 * they are more than fetch_bytes. A statement that writes (INSERT ... RETURNING) is undone on any
 * error. */
FERRY_API ferry_future *ferry_sqlite_fetch(ferry_sqlite *db, int mode, const char *sql,
                                           const ferry_sqlite_value *values, size_t n,
                                           const ferry_sqlite_query_options *options,
                                           ferry_sqlite_rows **rows);

/* ---- Rows ----------------------------------------------------------------------------------- */

/* Starts one statement whose rows come as a stream: a job fetches them in batches, and waits while
 * the consumer is behind. It doesn't wait for the first row: errors come from
 * ferry_sqlite_rows_next(). NULL only when out of memory, which the functions below take. The
 * statement belongs to the scope that this call is made in.
 *
 * Until it has ended or is closed, a stream occupies a reader (or the writer) and keeps its view of
 * the database: don't wait for more streams than there are readers at a time, and don't leave one
 * lying about. With FERRY_SQLITE_WRITE (INSERT ... RETURNING) the statement is committed when its
 * rows have been fetched or the rows are closed, and undone when it is cancelled: it is sure when
 * ferry_sqlite_rows_next() or ferry_sqlite_rows_close() has returned 0. */
FERRY_API ferry_sqlite_rows *ferry_sqlite_query(ferry_sqlite *db, int mode, const char *sql,
                                                const ferry_sqlite_value *values, size_t n,
                                                const ferry_sqlite_query_options *options);

/* Goes to the next row. Returns 1; 0 after the last one; or an error, which comes in its place,
 * after the rows before it, and is returned again by later calls: FERRY_SQLITE(...), -ENOMEM,
 * -EDEADLK, ... as above; FERRY_EJOBCANCELED when the scope of the query was cancelled and this
 * caller isn't. -ECANCELED means that the caller was cancelled: the next call (in a scope that
 * isn't) goes on. -EDEADLK on a loop's own thread outside a task when it would have to wait:
 * likewise. Suspends or blocks. One caller at a time, on any thread. */
FERRY_API int64_t ferry_sqlite_rows_next(ferry_sqlite_rows *rows);

/* Gives the rows back; may be called at any row. Waits until the statement has stopped (a reading
 * one is cancelled), whatever scope the caller is in; on a loop's own thread outside a task it
 * doesn't wait. Returns 0; for a writing statement that was closed early, its error. NULL is
 * ignored (0). Suspends or blocks. */
FERRY_API int64_t ferry_sqlite_rows_close(ferry_sqlite_rows *rows);

/* The columns: their number and names, known when ferry_sqlite_rows_next() has returned 1 or 0 (0
 * and NULL before, and for a column that doesn't exist). Valid until the close. */
FERRY_API int ferry_sqlite_rows_columns(const ferry_sqlite_rows *rows);
FERRY_API const char *ferry_sqlite_rows_name(const ferry_sqlite_rows *rows, int column);

/* The values of the current row; `column` counts from 0. Numbers convert to each other (a float is
 * cut towards zero and to the range of an int64); text and blobs convert to each other; nothing
 * else converts: say CAST in the SQL. What doesn't convert, and a column that doesn't exist, is 0
 * or NULL. Text has a NUL behind its last byte. *length (may be NULL) gets the number of bytes.
 * Pointers are valid until the next ferry_sqlite_rows_next() or close. Never block. */
FERRY_API int ferry_sqlite_rows_type(const ferry_sqlite_rows *rows, int column);
FERRY_API int64_t ferry_sqlite_rows_int64(const ferry_sqlite_rows *rows, int column);
FERRY_API double ferry_sqlite_rows_double(const ferry_sqlite_rows *rows, int column);
FERRY_API const char *ferry_sqlite_rows_text(const ferry_sqlite_rows *rows, int column,
                                             size_t *length);
FERRY_API const void *ferry_sqlite_rows_blob(const ferry_sqlite_rows *rows, int column,
                                             size_t *length);

/* ---- Functions that run on a connection ----------------------------------------------------- */

/* Zero is the default of each. */
typedef struct ferry_sqlite_call_options {
    const char *name; /* of the job; copied; default "sqlite" */

    /* For functions that wrap these, as in ferry_job_options; deliver only for a result >= 0. */
    void (*deliver)(void *arg, int64_t result);
    void (*arg_free)(void *arg);
    void *reserved[4]; /* zero */
} ferry_sqlite_call_options;

/* Runs fn(tx, arg) as a job in a transaction, with the functions below. A result >= 0 commits, and
 * is the handle's; a result < 0 rolls back, and is the handle's.
 *
 * A transaction of the writer begins with BEGIN IMMEDIATE. When it ends with SQLITE_BUSY or
 * SQLITE_BUSY_SNAPSHOT it is rolled back and run again, for busy_ms at most: so `fn` may be called
 * several times, and must not leave anything outside of the database half done. A COMMIT that finds
 * the database locked is tried again for busy_ms, then rolled back. When fn ends the transaction
 * itself, the handle ends with FERRY_SQLITE(SQLITE_MISUSE).
 *
 * With FERRY_SQLITE_READ it is a read transaction: every statement sees the same state of the
 * database. Many reads in one are several times as fast as each alone.
 *
 * fn and what it calls must not wait for other jobs of this database. arg must live until the
 * handle has ended; `options` may be NULL. arg_free is not called when NULL is returned. */
typedef int64_t (*ferry_sqlite_tx_fn)(ferry_sqlite_tx *tx, void *arg);
FERRY_API ferry_future *ferry_sqlite_transaction(ferry_sqlite *db, int mode, ferry_sqlite_tx_fn fn,
                                                 void *arg,
                                                 const ferry_sqlite_call_options *options);

/* Runs fn(connection, arg) as a job on a raw connection, outside of a transaction: for everything
 * that has no function here (backup, blobs, PRAGMAs, checkpoints). It must finalise its statements
 * and leave no transaction open: statements are reset, and an open transaction is rolled back and
 * reported as FERRY_SQLITE(SQLITE_MISUSE) when fn returned a result >= 0. It must not close the
 * connection, nor keep it. Long statements end with SQLITE_INTERRUPT when the job is cancelled:
 * return ferry_sqlite_fail() for them. Otherwise as above. */
typedef int64_t (*ferry_sqlite_run_fn)(sqlite3 *connection, void *arg);
FERRY_API ferry_future *ferry_sqlite_run(ferry_sqlite *db, int mode, ferry_sqlite_run_fn fn,
                                         void *arg, const ferry_sqlite_call_options *options);

/* What a transaction's function may call, on its own thread, until it returns. They block; a
 * cancelled job's fail with -ECANCELED. Their errors are as the handles' at the top, with details
 * in ferry_errmsg(); values are borrowed for the call. When SQLite has rolled the transaction back
 * after an error, later calls fail with FERRY_SQLITE(SQLITE_MISUSE) instead of running outside of
 * it. */

/* Runs one statement; returns the number of rows that it changed. `result` may be NULL. */
FERRY_API int64_t ferry_sqlite_tx_exec(ferry_sqlite_tx *tx, const char *sql,
                                       const ferry_sqlite_value *values, size_t n,
                                       ferry_sqlite_result *result);

/* Runs any number of statements; returns the number of rows that they changed. */
FERRY_API int64_t ferry_sqlite_tx_script(ferry_sqlite_tx *tx, const char *sql);

/* As ferry_sqlite_get_int64(): 1, or 0 for no row or NULL, or an error. */
FERRY_API int64_t ferry_sqlite_tx_get_int64(ferry_sqlite_tx *tx, const char *sql,
                                            const ferry_sqlite_value *values, size_t n,
                                            int64_t *value);
FERRY_API int64_t ferry_sqlite_tx_get_double(ferry_sqlite_tx *tx, const char *sql,
                                             const ferry_sqlite_value *values, size_t n,
                                             double *value);

/* Rows straight from the statement, for the functions of the part above: no copies, no batches.
 * Returns 0 and *rows, or an error and NULL. They are valid until the transaction's function
 * returns, which closes them if nobody has (give each back all the same, or its statement can't be
 * used again). Values that aren't borrowed are copied. */
FERRY_API int64_t ferry_sqlite_tx_query(ferry_sqlite_tx *tx, const char *sql,
                                        const ferry_sqlite_value *values, size_t n,
                                        ferry_sqlite_rows **rows);

/* A prepared statement from the connection's cache, for use with sqlite3_bind_...(), sqlite3_step()
 * and sqlite3_reset(): for inner loops. It is the connection's: don't finalise it. Valid until the
 * transaction's function returns; the same SQL gives the same statement. Returns 0 and *statement,
 * or an error and NULL. */
FERRY_API int64_t ferry_sqlite_tx_prepare(ferry_sqlite_tx *tx, const char *sql,
                                          sqlite3_stmt **statement);

/* The connection itself. */
FERRY_API sqlite3 *ferry_sqlite_tx_raw(ferry_sqlite_tx *tx);

FERRY_END_DECLS

#endif

/* Rows, as their reader sees them, whichever way they come: as batches through a queue, all at
 * once, or straight from a statement of the connection that the reader runs on.
 *
 * A rows record belongs to its reader alone; what it shares with a job is the stream (stream.c). */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "sqlite-internal.h"

#define BATCHES_MAX 64
#define FETCH_BYTES_DEFAULT (64 * 1024 * 1024)

/* ---- Next: from batches --------------------------------------------------------------------- */

/* The stream is over: its job's result says how. */
static int64_t take_end(ferry_sqlite_rows *rows) {
    int rc = ferry_wait(rows->job);
    if (rc < 0)
        return rc;
    rows->columns = rows->stream ? rows->stream->columns : NULL;
    int64_t end = ferry_await(rows->job);
    rows->job = NULL;
    rows->end = end >= 0 ? 0 : end == -ECANCELED ? FERRY_EJOBCANCELED : end;
    return end >= 0 ? 0 : end;
}

/* The next batch: 1, or 0 or an error at the end. */
static int64_t take_batch(ferry_sqlite_rows *rows) {
    void *item = NULL;
    int rc = FERRY_ECLOSED;

    if (!rows->flowing) {
        ferry_future *either[] = {rows->job, rows->first};
        rc = ferry_wait_any(either, rows->first ? 2 : 1, FERRY_FOREVER);
        if (rc < 0)
            return rc;
        rows->flowing = true;
    }
    /* A job that never ran has an open queue: don't wait there. */
    if (!rows->stream || ferry_done(rows->job))
        rc = rows->stream ? ferry_queue_try_get(rows->stream->queue, &item) : FERRY_ECLOSED;
    else
        rc = ferry_queue_get(rows->stream->queue, &item);
    if (rc == FERRY_ECLOSED || rc == -EAGAIN)
        return take_end(rows);
    if (rc < 0)
        return rc;
    rows->batch = item;
    rows->row = 0;
    rows->columns = rows->stream->columns;
    return 1;
}

static int64_t next_in_batch(ferry_sqlite_rows *rows) {
    struct ferry__sqlite_batch *batch = rows->batch;

    if (batch && rows->on_row && ++rows->row < batch->rows)
        return 1;
    if (batch && !rows->on_row && batch->rows > 0)
        return 1; /* the first of what was fetched at once */
    ferry__sqlite_batch_free(batch);
    rows->batch = NULL;
    if (rows->source == FERRY__SQLITE_BUFFER) {
        rows->end = 0;
        return 0;
    }
    return take_batch(rows);
}

/* ---- Next: straight from the statement ------------------------------------------------------ */

static void stop_direct(ferry_sqlite_rows *rows) {
    if (rows->statement)
        ferry__sqlite_end_statement(rows->conn, rows->statement);
    rows->statement = NULL;
}

static int64_t describe(ferry_sqlite_rows *rows) {
    if (!rows->columns)
        rows->columns = ferry__sqlite_columns_new(rows->statement->raw);
    if (rows->columns && !rows->types)
        rows->types = sqlite3_malloc64((sqlite3_uint64)rows->columns->n + 1);
    return rows->types ? 0 : ferry__sqlite_no_memory();
}

static int64_t next_direct(ferry_sqlite_rows *rows) {
    const char *sql = rows->statement->sql;
    int64_t rc = ferry__sqlite_conn_check(rows->conn);
    if (rc < 0)
        return rc;
    int code = sqlite3_step(rows->statement->raw);
    rc = ferry_sqlite_fail(rows->conn->raw, code, sql);
    if (rc == 0 && !rows->types)
        rc = describe(rows);
    if (rc == 0 && code == SQLITE_ROW) {
        for (int i = 0; i < rows->columns->n; i++)
            rows->types[i] = (uint8_t)sqlite3_column_type(rows->statement->raw, i);
        return 1;
    }
    rows->end = rc;
    stop_direct(rows);
    return rc;
}

int64_t ferry_sqlite_rows_next(ferry_sqlite_rows *rows) {
    if (!rows)
        return ferry__sqlite_no_memory();
    if (rows->end < 0)
        return ferry_fail(rows->end, "these rows ended with an error before: %s",
                          ferry_strerror(rows->end));
    if (rows->end == 0)
        return 0;
    int64_t rc = rows->source == FERRY__SQLITE_DIRECT ? next_direct(rows) : next_in_batch(rows);
    rows->on_row = rc > 0;
    return rc;
}

/* ---- The current row ------------------------------------------------------------------------ */

int ferry_sqlite_rows_columns(const ferry_sqlite_rows *rows) {
    return rows && rows->columns ? rows->columns->n : 0;
}

const char *ferry_sqlite_rows_name(const ferry_sqlite_rows *rows, int column) {
    if (column < 0 || column >= ferry_sqlite_rows_columns(rows))
        return NULL;
    return rows->columns->names[column];
}

static const struct ferry__sqlite_cell *cell_of(const ferry_sqlite_rows *rows, int column) {
    return &rows->batch->cells[rows->row * rows->batch->columns + (size_t)column];
}

int ferry_sqlite_rows_type(const ferry_sqlite_rows *rows, int column) {
    if (column < 0 || column >= ferry_sqlite_rows_columns(rows) || !rows->on_row)
        return FERRY_SQLITE_NULL;
    return rows->source == FERRY__SQLITE_DIRECT ? rows->types[column] : cell_of(rows, column)->type;
}

double ferry_sqlite_rows_double(const ferry_sqlite_rows *rows, int column) {
    const bool direct = rows && rows->source == FERRY__SQLITE_DIRECT;

    switch (ferry_sqlite_rows_type(rows, column)) {
    case FERRY_SQLITE_INTEGER:
        return direct ? (double)sqlite3_column_int64(rows->statement->raw, column)
                      : (double)cell_of(rows, column)->as.integer;
    case FERRY_SQLITE_FLOAT:
        return direct ? sqlite3_column_double(rows->statement->raw, column)
                      : cell_of(rows, column)->as.real;
    default:
        return 0;
    }
}

static int64_t cut(double real) {
    if (real >= 9223372036854775808.0)
        return INT64_MAX;
    if (real < -9223372036854775808.0)
        return INT64_MIN;
    return (int64_t)real;
}

int64_t ferry_sqlite_rows_int64(const ferry_sqlite_rows *rows, int column) {
    switch (ferry_sqlite_rows_type(rows, column)) {
    case FERRY_SQLITE_INTEGER:
        return rows->source == FERRY__SQLITE_DIRECT
                   ? sqlite3_column_int64(rows->statement->raw, column)
                   : cell_of(rows, column)->as.integer;
    case FERRY_SQLITE_FLOAT:
        return cut(ferry_sqlite_rows_double(rows, column));
    default:
        return 0;
    }
}

/* Text has a NUL behind it, and so has a blob that is asked for as text. */
static const void *direct_bytes(const ferry_sqlite_rows *rows, int column, bool as_text,
                                size_t *length) {
    sqlite3_stmt *raw = rows->statement->raw;
    const void *data =
        as_text ? sqlite3_column_text(raw, column) : sqlite3_column_blob(raw, column);
    *length = (size_t)sqlite3_column_bytes(raw, column);
    if (!data && sqlite3_errcode(sqlite3_db_handle(raw)) != SQLITE_NOMEM)
        return ""; /* an empty one has no address; without memory, the next step fails */
    return data;
}

static const void *bytes_of(const ferry_sqlite_rows *rows, int column, bool as_text,
                            size_t *length) {
    int type = ferry_sqlite_rows_type(rows, column);
    const void *data = NULL;
    size_t n = 0;

    if (type != FERRY_SQLITE_TEXT && type != FERRY_SQLITE_BLOB) {
        /* numbers and NULL have no bytes */
    } else if (rows->source == FERRY__SQLITE_DIRECT) {
        data = direct_bytes(rows, column, as_text, &n);
    } else {
        const struct ferry__sqlite_cell *cell = cell_of(rows, column);
        data = rows->batch->bytes + cell->as.offset;
        n = cell->length;
    }
    if (length)
        *length = n;
    return data;
}

const char *ferry_sqlite_rows_text(const ferry_sqlite_rows *rows, int column, size_t *length) {
    return bytes_of(rows, column, true, length);
}

const void *ferry_sqlite_rows_blob(const ferry_sqlite_rows *rows, int column, size_t *length) {
    return bytes_of(rows, column, false, length);
}

/* ---- Start ---------------------------------------------------------------------------------- */

static int64_t check_query(ferry_sqlite *db, int mode, const char *sql,
                           const ferry_sqlite_value *values, size_t n,
                           const ferry_sqlite_query_options *options) {
    int64_t rc = ferry__sqlite_admit(db, mode);
    if (rc < 0)
        return rc;
    if (options->batches > BATCHES_MAX)
        return ferry_fail(-EINVAL, "options.batches is %zu; up to %d are possible",
                          options->batches, BATCHES_MAX);
    return ferry__sqlite_check(sql, values, n);
}

static ferry_sqlite_rows *rows_new(enum ferry__sqlite_source source) {
    ferry_sqlite_rows *rows = sqlite3_malloc64(sizeof *rows);
    if (rows)
        *rows = (ferry_sqlite_rows){.source = source, .end = 1};
    return rows;
}

ferry_sqlite_rows *ferry_sqlite_query(ferry_sqlite *db, int mode, const char *sql,
                                      const ferry_sqlite_value *values, size_t n,
                                      const ferry_sqlite_query_options *given) {
    const ferry_sqlite_query_options options = given ? *given : (ferry_sqlite_query_options){0};
    const struct ferry__sqlite_query query = {sql, values, n};
    ferry_sqlite_rows *rows = rows_new(FERRY__SQLITE_STREAM);
    if (!rows)
        return NULL;

    int64_t rc = check_query(db, mode, sql, values, n, &options);
    if (rc < 0) {
        rows->job = ferry__sqlite_failed(rc);
    } else {
        rows->stream = ferry__sqlite_stream_new(db, mode, &query, &options, &rows->first);
        rows->job = rows->stream ? ferry__sqlite_stream_start(rows->stream) : NULL;
    }
    if (!rows->job) {
        ferry_sqlite_rows_close(rows);
        return NULL;
    }
    return rows;
}

ferry_sqlite_rows *ferry__sqlite_rows_direct(ferry_sqlite_tx *tx,
                                             const struct ferry__sqlite_query *query,
                                             int64_t *error) {
    ferry_sqlite_rows *rows = rows_new(FERRY__SQLITE_DIRECT);
    if (!rows) {
        *error = ferry__sqlite_no_memory();
        return NULL;
    }
    rows->conn = tx->conn;
    *error = ferry__sqlite_begin_statement(tx->conn, query, true, &rows->statement);
    if (*error < 0) {
        sqlite3_free(rows);
        return NULL;
    }
    rows->next = tx->rows;
    rows->prev = &tx->rows;
    if (rows->next)
        rows->next->prev = &rows->next;
    tx->rows = rows;
    return rows;
}

/* ---- All at once ---------------------------------------------------------------------------- */

struct fetch_call {
    struct ferry__sqlite_call call;
    struct ferry__sqlite_query query;
    size_t bytes_max;
    ferry_sqlite_rows *rows; /* until it is delivered */
    ferry_sqlite_rows **out;
};

static int64_t collect(struct fetch_call *fetch, struct ferry__sqlite_conn *conn,
                       sqlite3_stmt *raw) {
    ferry_sqlite_rows *rows = fetch->rows;

    for (;;) {
        int code = sqlite3_step(raw);
        if (code != SQLITE_ROW && code != SQLITE_DONE)
            return ferry_sqlite_fail(conn->raw, code, fetch->query.sql);
        if (!rows->columns)
            rows->columns = ferry__sqlite_columns_new(raw);
        if (rows->columns && !rows->batch)
            rows->batch = ferry__sqlite_batch_new(rows->columns->n);
        if (!rows->batch)
            return ferry__sqlite_no_memory();
        if (code == SQLITE_DONE)
            return (int64_t)rows->batch->rows;
        int64_t rc = ferry__sqlite_batch_add(rows->batch, raw);
        if (rc == 0)
            rc = ferry__sqlite_conn_check(conn);
        if (rc < 0)
            return rc;
        if (ferry__sqlite_batch_size(rows->batch) > fetch->bytes_max)
            return ferry_fail(FERRY_SQLITE(SQLITE_TOOBIG),
                              "the rows are more than %zu bytes: raise "
                              "fetch_bytes, or use ferry_sqlite_query()",
                              fetch->bytes_max);
    }
}

static int64_t fetch_body(struct ferry__sqlite_conn *conn, void *arg) {
    struct fetch_call *fetch = arg;
    struct ferry__sqlite_statement *statement = NULL;

    /* A transaction that was busy begins again. */
    sqlite3_free(fetch->rows->columns);
    ferry__sqlite_batch_free(fetch->rows->batch);
    fetch->rows->columns = NULL;
    fetch->rows->batch = NULL;
    int64_t rc = ferry__sqlite_begin_statement(conn, &fetch->query, false, &statement);
    if (rc < 0)
        return rc;
    rc = collect(fetch, conn, statement->raw);
    ferry__sqlite_end_statement(conn, statement);
    return rc;
}

static int64_t run_fetch(struct ferry__sqlite_call *call, struct ferry__sqlite_conn *conn) {
    return call->mode == FERRY_SQLITE_WRITE
               ? ferry__sqlite_in_transaction(conn, fetch_body, call, true)
               : fetch_body(conn, call);
}

static void deliver_fetch(struct ferry__sqlite_call *call, int64_t result) {
    struct fetch_call *fetch = (struct fetch_call *)call;
    (void)result;
    *fetch->out = fetch->rows;
    fetch->rows = NULL;
}

static void destroy_fetch(struct ferry__sqlite_call *call) {
    struct fetch_call *fetch = (struct fetch_call *)call;
    ferry_sqlite_rows_close(fetch->rows);
    sqlite3_free(fetch);
}

ferry_future *ferry_sqlite_fetch(ferry_sqlite *db, int mode, const char *sql,
                                 const ferry_sqlite_value *values, size_t n,
                                 const ferry_sqlite_query_options *given, ferry_sqlite_rows **out) {
    const ferry_sqlite_query_options options = given ? *given : (ferry_sqlite_query_options){0};
    int64_t rc = check_query(db, mode, sql, values, n, &options);
    if (rc == 0 && !out)
        rc = ferry_fail(-EINVAL, "there is no place for the rows (NULL)");
    if (rc < 0)
        return ferry__sqlite_failed(rc);

    struct fetch_call *fetch =
        sqlite3_malloc64(ferry__sqlite_copy_size(sizeof *fetch, sql, values, n));
    ferry_sqlite_rows *rows = fetch ? rows_new(FERRY__SQLITE_BUFFER) : NULL;
    if (!rows) {
        sqlite3_free(fetch);
        return NULL;
    }
    *fetch = (struct fetch_call){
        .call = {.mode = mode,
                 .run = run_fetch,
                 .deliver = deliver_fetch,
                 .destroy = destroy_fetch},
        .query = ferry__sqlite_copy(fetch, sizeof *fetch, sql, values, n),
        .bytes_max = options.fetch_bytes ? options.fetch_bytes : FETCH_BYTES_DEFAULT,
        .rows = rows,
        .out = out,
    };
    char name[32];
    ferry_future *future =
        ferry__sqlite_start(db, &fetch->call, ferry__sqlite_shorten(name, sizeof name, sql, 0));
    if (!future)
        destroy_fetch(&fetch->call);
    return future;
}

/* ---- Close ---------------------------------------------------------------------------------- */

/* Stops the job and waits for it; its error is the caller's business only when it writes. */
static int64_t stop_stream(ferry_sqlite_rows *rows) {
    const bool writes = rows->stream && rows->stream->call.mode == FERRY_SQLITE_WRITE;
    ferry_scope shield = FERRY_SCOPE_INIT;
    int64_t rc = 0;

    if (rows->stream) {
        atomic_store(&rows->stream->left, true);
        ferry_queue_close(rows->stream->queue, true);
    }
    if (!writes)
        ferry_cancel(rows->job);
    bool shielded = ferry_shield_open(&shield, FERRY_FOREVER) == 0;
    bool stopped = ferry_wait(rows->job) == 0;
    if (shielded)
        ferry_scope_close(&shield, 0);
    if (stopped)
        rc = ferry_await(rows->job);
    else
        ferry_detach(rows->job); /* in a callback: it ends by itself */
    return writes && rc < 0 ? rc : 0;
}

int64_t ferry_sqlite_rows_close(ferry_sqlite_rows *rows) {
    int64_t rc = 0;
    if (!rows)
        return 0;
    if (rows->source == FERRY__SQLITE_DIRECT) {
        stop_direct(rows);
        *rows->prev = rows->next;
        if (rows->next)
            rows->next->prev = rows->prev;
    }
    if (rows->job)
        rc = stop_stream(rows);
    if (rows->first) {
        ferry_cancel(rows->first); /* so that nobody logs that it was never kept */
        ferry_detach(rows->first);
    }
    if (rows->source != FERRY__SQLITE_STREAM)
        sqlite3_free(rows->columns);
    ferry__sqlite_batch_free(rows->batch);
    ferry__sqlite_stream_unref(rows->stream);
    sqlite3_free(rows->types);
    sqlite3_free(rows);
    return rc;
}

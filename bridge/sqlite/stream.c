/* Streams: the job that steps a statement and sends its rows on in batches.
 *
 * The queue between the job and the consumer holds a few batches; when it is full the job waits,
 * with its connection and its view of the database. The first batch is small, so that the first
 * rows come at once, and each is four times the one before it, up to the limit. A batch that has
 * stood for some milliseconds is sent when there is room, however small it is: between two rows, or
 * from the progress handler during a long step, so that rows that were found don't wait for one
 * that is hard to find.
 *
 * Two promises tell the consumer where it stands. The job's handle ends in any case, also when the
 * job never runs; `first` is kept with the first batch, and from then on it is sure that the job
 * will close the queue. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "sqlite-internal.h"

#define FIRST_ROWS 16
#define GROWTH 4
#define STALE_NS INT64_C(5000000)

/* What produce() ends with when the consumer has left: no error. */
#define ENOUGH 1

/* ---- The job -------------------------------------------------------------------------------- */

/* Passes on what was filled. A batch that isn't taken stays. */
static int64_t send_batch(struct ferry__sqlite_stream *stream, bool wait) {
    int rc = wait ? ferry_queue_put(stream->queue, stream->filling)
                  : ferry_queue_try_put(stream->queue, stream->filling);
    if (rc < 0)
        return rc;
    stream->filling = NULL;
    if (stream->fill_rows < stream->batch_rows / GROWTH)
        stream->fill_rows *= GROWTH;
    else
        stream->fill_rows = stream->batch_rows;
    if (!stream->flowing)
        ferry_promise_set(stream->first, 1); /* a consumer who has left is no matter */
    stream->flowing = true;
    return 0;
}

/* Sends and waits for room; ENOUGH when the consumer wants no more. */
static int64_t send_on(struct ferry__sqlite_stream *stream) {
    int64_t rc = send_batch(stream, true);
    if (rc != FERRY_ECLOSED)
        return rc;
    if (atomic_load(&stream->left))
        return ENOUGH;
    return ferry_fail(FERRY_ECLOSED, "the database was closed while rows were read from it");
}

/* Sends what has stood for too long, if there is room. Refused, it is tried again after as long. */
static void send_stale(struct ferry__sqlite_stream *stream, int64_t now) {
    if (!stream->filling || now - stream->filling_since < STALE_NS)
        return;
    if (send_batch(stream, false) < 0)
        stream->filling_since = now;
}

void ferry__sqlite_stream_breathe(struct ferry__sqlite_stream *stream) {
    if (stream->filling)
        send_stale(stream, ferry__sqlite_now_coarse());
}

static int64_t add_row(struct ferry__sqlite_conn *conn, struct ferry__sqlite_stream *stream,
                       sqlite3_stmt *raw) {
    int64_t rc = ferry__sqlite_conn_check(conn);
    if (rc < 0)
        return rc;
    struct ferry__sqlite_batch *batch = stream->filling;
    if (!batch) {
        batch = ferry__sqlite_batch_new(stream->columns->n);
        if (!batch)
            return ferry__sqlite_no_memory();
        stream->filling_since = conn->tick;
    }
    rc = ferry__sqlite_batch_add(batch, raw);
    stream->filling = batch; /* empty only when the job fails now */
    if (rc < 0)
        return rc;
    if (batch->rows >= stream->fill_rows || ferry__sqlite_batch_size(batch) >= stream->batch_bytes)
        return send_on(stream);
    send_stale(stream, conn->tick);
    return 0;
}

static int64_t step_through(struct ferry__sqlite_conn *conn, struct ferry__sqlite_stream *stream,
                            sqlite3_stmt *raw) {
    for (;;) {
        int code = sqlite3_step(raw);
        if (code != SQLITE_ROW && code != SQLITE_DONE)
            return ferry_sqlite_fail(conn->raw, code, stream->query.sql);
        /* Only now: a changed schema has the first step prepare the statement anew. */
        if (!stream->columns && !(stream->columns = ferry__sqlite_columns_new(raw)))
            return ferry__sqlite_no_memory();
        if (code == SQLITE_DONE)
            return 0;
        int64_t rc = add_row(conn, stream, raw);
        if (rc != 0)
            return rc;
    }
}

static int64_t produce(struct ferry__sqlite_conn *conn, void *arg) {
    struct ferry__sqlite_stream *stream = arg;
    struct ferry__sqlite_statement *statement = NULL;
    int64_t rc = ferry__sqlite_begin_statement(conn, &stream->query, false, &statement);
    if (rc < 0)
        return rc;
    conn->stream = stream;
    rc = step_through(conn, stream, statement->raw);
    conn->stream = NULL;
    ferry__sqlite_end_statement(conn, statement);
    /* An error comes after the rows before it. */
    if (rc <= 0 && rc != -ECANCELED && stream->filling && stream->filling->rows > 0) {
        int64_t sent = send_on(stream);
        return rc < 0 ? rc : sent;
    }
    return rc;
}

static int64_t run_stream(struct ferry__sqlite_call *call, struct ferry__sqlite_conn *conn) {
    /* Not again when it is busy: rows have been sent. */
    return call->mode == FERRY_SQLITE_WRITE
               ? ferry__sqlite_in_transaction(conn, produce, call, false)
               : produce(conn, call);
}

/* Nothing comes any more; what is in the queue can still be had. */
static void end_stream(struct ferry__sqlite_call *call) {
    struct ferry__sqlite_stream *stream = (struct ferry__sqlite_stream *)call;
    ferry__sqlite_batch_free(stream->filling);
    stream->filling = NULL;
    ferry_queue_close(stream->queue, false);
}

static void destroy_stream(struct ferry__sqlite_call *call) {
    ferry__sqlite_stream_unref((struct ferry__sqlite_stream *)call);
}

/* ---- The record ----------------------------------------------------------------------------- */

static void free_item(void *item) {
    ferry__sqlite_batch_free(item);
}

static size_t or_default(size_t value, size_t fallback) {
    return value ? value : fallback;
}

struct ferry__sqlite_stream *ferry__sqlite_stream_new(ferry_sqlite *db, int mode,
                                                      const struct ferry__sqlite_query *query,
                                                      const ferry_sqlite_query_options *options,
                                                      ferry_future **first) {
    ferry_queue_options queue = {.name = "sqlite rows", .item_free = free_item};
    struct ferry__sqlite_stream *stream = sqlite3_malloc64(
        ferry__sqlite_copy_size(sizeof *stream, query->sql, query->values, query->n));
    if (!stream)
        return NULL;
    memset(stream, 0, sizeof *stream);
    stream->call = (struct ferry__sqlite_call){
        .mode = mode, .run = run_stream, .ended = end_stream, .destroy = destroy_stream};
    stream->query = ferry__sqlite_copy(stream, sizeof *stream, query->sql, query->values, query->n);
    stream->batch_rows = or_default(options->batch_rows, 1024);
    stream->batch_bytes = or_default(options->batch_bytes, 256 * 1024);
    stream->fill_rows = stream->batch_rows < FIRST_ROWS ? stream->batch_rows : FIRST_ROWS;
    atomic_init(&stream->refs, 1);
    atomic_init(&stream->left, false);
    stream->queue = ferry_queue_new(or_default(options->batches, 3), &queue);
    stream->first = stream->queue ? ferry_promise_new(first, "sqlite rows") : NULL;
    if (!stream->first) {
        ferry_queue_free(stream->queue);
        sqlite3_free(stream);
        return NULL;
    }
    ferry__sqlite_ref(db);
    stream->db = db;
    ferry__sqlite_enlist(db, stream);
    return stream;
}

ferry_future *ferry__sqlite_stream_start(struct ferry__sqlite_stream *stream) {
    char name[32];
    atomic_fetch_add(&stream->refs, 1); /* the job's */
    ferry_future *future = ferry__sqlite_start(
        stream->db, &stream->call, ferry__sqlite_shorten(name, sizeof name, stream->query.sql, 0));
    if (!future)
        ferry__sqlite_stream_unref(stream);
    return future;
}

void ferry__sqlite_stream_unref(struct ferry__sqlite_stream *stream) {
    if (!stream || atomic_fetch_sub(&stream->refs, 1) != 1)
        return;
    ferry_sqlite *db = stream->db;
    ferry__sqlite_delist(db, stream);
    ferry_queue_close(stream->queue, true);
    ferry_queue_free(stream->queue);
    ferry_promise_drop(stream->first);
    sqlite3_free(stream->columns);
    sqlite3_free(stream);
    ferry__sqlite_unref(db);
}

/* Calls: from a function that returns a handle to a job that has a connection, and back.
 *
 * A call is a heap box with copies of everything that it needs. It belongs to the job's handle,
 * which frees it (arg_free) when the last reference has gone; so an awaiter that leaves takes
 * nothing away from a running job. Results stay in the box until the await writes them to the
 * caller's variables (deliver). */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "sqlite-internal.h"

static int64_t run_call(void *arg) {
    struct ferry__sqlite_call *call = arg;
    struct ferry__sqlite_conn *conn = NULL;
    int64_t rc = ferry__sqlite_acquire(call->db, call->mode, &conn);

    if (rc == 0) {
        rc = call->run(call, conn);
        if (conn->raw && (rc < 0 || !sqlite3_get_autocommit(conn->raw)))
            rc = ferry__sqlite_conn_settle(conn, rc);
        ferry__sqlite_release(conn);
    }
    if (call->ended)
        call->ended(call);
    return rc;
}

static void deliver_call(void *arg, int64_t result) {
    struct ferry__sqlite_call *call = arg;
    if (result >= 0 && call->deliver)
        call->deliver(call, result);
}

static void free_call(void *arg) {
    struct ferry__sqlite_call *call = arg;
    ferry_sqlite *db = call->db;
    if (call->destroy)
        call->destroy(call);
    else
        sqlite3_free(call);
    ferry__sqlite_unref(db);
}

ferry_future *ferry__sqlite_failed(int64_t code) {
    ferry_future *future = NULL;
    ferry_promise *promise = ferry_promise_new(&future, "sqlite");
    if (!promise)
        return NULL;
    ferry_promise_set(promise, code); /* nobody can have been faster */
    ferry_promise_drop(promise);
    return future;
}

ferry_future *ferry__sqlite_start(ferry_sqlite *db, struct ferry__sqlite_call *call,
                                  const char *name) {
    ferry_job_options options = {.name = name, .deliver = deliver_call, .arg_free = free_call};
    ferry_future *future;
    int64_t rc = ferry__sqlite_admit(db, call->mode);

    ferry__sqlite_ref(db);
    call->db = db;
    if (rc < 0) {
        future = ferry__sqlite_failed(rc);
        if (future && call->ended)
            call->ended(call);
        if (future)
            free_call(call);
    } else {
        future = ferry_submit_with(ferry__sqlite_line(db, call->mode), run_call, call, &options);
    }
    if (!future)
        ferry__sqlite_unref(db);
    return future;
}

/* ---- Statements ----------------------------------------------------------------------------- */

enum kind { EXEC, SCRIPT, GET_INT64, GET_DOUBLE };

struct statement_call {
    struct ferry__sqlite_call call;
    enum kind kind;
    struct ferry__sqlite_query query;
    ferry_sqlite_result result;
    ferry_sqlite_value value;
    void *out; /* the caller's; written by deliver alone */
};

static int64_t get_body(struct ferry__sqlite_conn *conn, void *arg) {
    struct statement_call *statement = arg;
    int type = statement->kind == GET_INT64 ? FERRY_SQLITE_INTEGER : FERRY_SQLITE_FLOAT;
    return ferry__sqlite_get_on(conn, &statement->query, type, &statement->value);
}

static int64_t run_statement(struct ferry__sqlite_call *call, struct ferry__sqlite_conn *conn) {
    struct statement_call *statement = (struct statement_call *)call;

    switch (statement->kind) {
    case EXEC:
        return ferry__sqlite_exec_on(conn, &statement->query, &statement->result);
    case SCRIPT:
        return ferry__sqlite_script_on(conn, statement->query.sql);
    default:
        /* Its result is looked at after it wrote: that must still be able to undo it. */
        return call->mode == FERRY_SQLITE_WRITE
                   ? ferry__sqlite_in_transaction(conn, get_body, statement, true)
                   : get_body(conn, statement);
    }
}

static void deliver_statement(struct ferry__sqlite_call *call, int64_t result) {
    struct statement_call *statement = (struct statement_call *)call;

    if (!statement->out || statement->kind == SCRIPT)
        return;
    if (statement->kind == EXEC)
        *(ferry_sqlite_result *)statement->out = statement->result;
    else if (result > 0 && statement->kind == GET_INT64)
        *(int64_t *)statement->out = statement->value.as.integer;
    else if (result > 0)
        *(double *)statement->out = statement->value.as.real;
}

static ferry_future *start_statement(ferry_sqlite *db, int mode, enum kind kind, const char *sql,
                                     const ferry_sqlite_value *values, size_t n, void *out) {
    int64_t rc = ferry__sqlite_check(sql, values, n);
    if (rc < 0)
        return ferry__sqlite_failed(rc);
    struct statement_call *statement =
        sqlite3_malloc64(ferry__sqlite_copy_size(sizeof *statement, sql, values, n));
    if (!statement)
        return NULL;
    memset(statement, 0, sizeof *statement);
    statement->call = (struct ferry__sqlite_call){
        .mode = mode, .run = run_statement, .deliver = deliver_statement};
    statement->kind = kind;
    statement->query = ferry__sqlite_copy(statement, sizeof *statement, sql, values, n);
    statement->out = out;
    char name[32];
    ferry_future *future =
        ferry__sqlite_start(db, &statement->call, ferry__sqlite_shorten(name, sizeof name, sql, 0));
    if (!future)
        sqlite3_free(statement);
    return future;
}

ferry_future *ferry_sqlite_exec(ferry_sqlite *db, const char *sql, const ferry_sqlite_value *values,
                                size_t n, ferry_sqlite_result *result) {
    return start_statement(db, FERRY_SQLITE_WRITE, EXEC, sql, values, n, result);
}

ferry_future *ferry_sqlite_script(ferry_sqlite *db, const char *sql) {
    return start_statement(db, FERRY_SQLITE_WRITE, SCRIPT, sql, NULL, 0, NULL);
}

ferry_future *ferry_sqlite_get_int64(ferry_sqlite *db, int mode, const char *sql,
                                     const ferry_sqlite_value *values, size_t n, int64_t *value) {
    return start_statement(db, mode, GET_INT64, sql, values, n, value);
}

ferry_future *ferry_sqlite_get_double(ferry_sqlite *db, int mode, const char *sql,
                                      const ferry_sqlite_value *values, size_t n, double *value) {
    return start_statement(db, mode, GET_DOUBLE, sql, values, n, value);
}

/* Transactions: begin, run a function, commit; and the calls that such a function may make.
 *
 * A transaction of the writer takes its lock at the start (BEGIN IMMEDIATE), so it doesn't find out
 * half-way that somebody else has it. When it fails, the transaction is left open here: the end of
 * the job, which every failed job comes to, resets, rolls back and closes (connection.c). */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "sqlite-internal.h"

static int64_t control(struct ferry__sqlite_conn *conn, sqlite3_stmt *raw) {
    int code = sqlite3_step(raw);
    int64_t rc = ferry_sqlite_fail(conn->raw, code, sqlite3_sql(raw));
    sqlite3_reset(raw); /* repeats the code */
    return rc;
}

/* A COMMIT that finds the database locked leaves the transaction open, and is tried again. */
static int64_t commit(struct ferry__sqlite_conn *conn, int64_t result) {
    int64_t since = ferry__sqlite_now();

    if (sqlite3_get_autocommit(conn->raw))
        return ferry_fail(
            FERRY_SQLITE(SQLITE_MISUSE),
            "the transaction had ended before its function did: the function said COMMIT "
            "or ROLLBACK itself, or returned a success after an error that undid it all");
    for (int tries = 0;; tries++) {
        int64_t rc = control(conn, conn->commit);
        if (rc == 0)
            return result;
        if (FERRY_SQLITE_PRIMARY(rc) != SQLITE_BUSY || sqlite3_get_autocommit(conn->raw))
            return rc;
        if (!ferry__sqlite_conn_pause(conn, tries, since))
            return ferry_checkpoint() == -ECANCELED ? -ECANCELED : rc;
    }
}

int64_t ferry__sqlite_in_transaction(struct ferry__sqlite_conn *conn, ferry__sqlite_body body,
                                     void *arg, bool again) {
    int64_t since = 0;

    for (int tries = 0;; tries++) {
        int64_t rc = control(conn, conn->writer ? conn->begin_immediate : conn->begin);
        if (rc < 0)
            return rc;
        conn->in_tx = true;
        rc = body(conn, arg);
        conn->in_tx = false;
        if (rc >= 0)
            return commit(conn, rc);
        if (!again || FERRY_SQLITE_PRIMARY(rc) != SQLITE_BUSY)
            return rc;
        ferry__sqlite_conn_settle(conn, rc);
        if (!conn->raw || conn->undo_first)
            return rc;
        if (tries == 0)
            since = ferry__sqlite_now();
        if (!ferry__sqlite_conn_pause(conn, tries, since))
            return ferry_checkpoint() == -ECANCELED ? -ECANCELED : rc;
    }
}

/* ---- A caller's function -------------------------------------------------------------------- */

struct function_call {
    struct ferry__sqlite_call call;
    ferry_sqlite_tx_fn tx_fn;
    ferry_sqlite_run_fn run_fn;
    void *arg;
    void (*deliver)(void *arg, int64_t result);
    void (*arg_free)(void *arg);
};

static int64_t tx_body(struct ferry__sqlite_conn *conn, void *arg) {
    struct function_call *function = arg;
    ferry_sqlite_tx tx = {.conn = conn};
    int64_t rc = function->tx_fn(&tx, function->arg);

    /* Nothing that it left running may hinder the COMMIT, and nothing may be used afterwards. */
    while (tx.rows)
        ferry_sqlite_rows_close(tx.rows);
    ferry__sqlite_end_held(conn);
    ferry__sqlite_conn_reset_statements(conn);
    return rc;
}

static int64_t run_tx(struct ferry__sqlite_call *call, struct ferry__sqlite_conn *conn) {
    int64_t rc = ferry__sqlite_in_transaction(conn, tx_body, call, true);
    if (conn->raw)
        ferry__sqlite_conn_arm(conn);
    return rc;
}

static int64_t run_raw(struct ferry__sqlite_call *call, struct ferry__sqlite_conn *conn) {
    struct function_call *function = (struct function_call *)call;
    int64_t rc = function->run_fn(conn->raw, function->arg);
    ferry__sqlite_conn_arm(conn);
    return ferry__sqlite_conn_settle(conn, rc);
}

static void deliver_function(struct ferry__sqlite_call *call, int64_t result) {
    struct function_call *function = (struct function_call *)call;
    if (function->deliver)
        function->deliver(function->arg, result);
}

static void destroy_function(struct ferry__sqlite_call *call) {
    struct function_call *function = (struct function_call *)call;
    if (function->arg_free)
        function->arg_free(function->arg);
    sqlite3_free(function);
}

static ferry_future *start_function(ferry_sqlite *db, int mode, struct function_call what,
                                    const ferry_sqlite_call_options *options) {
    if (!what.tx_fn && !what.run_fn) {
        ferry_future *failed =
            ferry__sqlite_failed(ferry_fail(-EINVAL, "there is no function to run"));
        if (failed && options && options->arg_free)
            options->arg_free(what.arg);
        return failed;
    }
    struct function_call *function = sqlite3_malloc64(sizeof *function);
    if (!function)
        return NULL;
    *function = what;
    function->call.mode = mode;
    function->call.deliver = deliver_function;
    function->call.destroy = destroy_function;
    if (options) {
        function->deliver = options->deliver;
        function->arg_free = options->arg_free;
    }
    ferry_future *future = ferry__sqlite_start(db, &function->call,
                                               options && options->name ? options->name : "sqlite");
    if (!future)
        sqlite3_free(function);
    return future;
}

ferry_future *ferry_sqlite_transaction(ferry_sqlite *db, int mode, ferry_sqlite_tx_fn fn, void *arg,
                                       const ferry_sqlite_call_options *options) {
    return start_function(
        db, mode, (struct function_call){.call.run = run_tx, .tx_fn = fn, .arg = arg}, options);
}

ferry_future *ferry_sqlite_run(ferry_sqlite *db, int mode, ferry_sqlite_run_fn fn, void *arg,
                               const ferry_sqlite_call_options *options) {
    return start_function(
        db, mode, (struct function_call){.call.run = run_raw, .run_fn = fn, .arg = arg}, options);
}

/* ---- What it may call ----------------------------------------------------------------------- */

/* 0, or why nothing may be run here: a cancel, or a transaction that SQLite has undone after an
 * error. */
static int64_t may_run(const ferry_sqlite_tx *tx) {
    if (ferry_checkpoint() == -ECANCELED)
        return -ECANCELED;
    if (sqlite3_get_autocommit(tx->conn->raw))
        return ferry_fail(
            FERRY_SQLITE(SQLITE_MISUSE),
            "the transaction is over: it was ended by its function, or undone after an error, "
            "and what follows would run outside of it");
    return 0;
}

static int64_t may_run_query(const ferry_sqlite_tx *tx, const char *sql,
                             const ferry_sqlite_value *values, size_t n) {
    int64_t rc = ferry__sqlite_check(sql, values, n);
    return rc < 0 ? rc : may_run(tx);
}

int64_t ferry_sqlite_tx_exec(ferry_sqlite_tx *tx, const char *sql, const ferry_sqlite_value *values,
                             size_t n, ferry_sqlite_result *result) {
    int64_t rc = may_run_query(tx, sql, values, n);
    if (rc < 0)
        return rc;
    return ferry__sqlite_exec_on(tx->conn, &(struct ferry__sqlite_query){sql, values, n}, result);
}

int64_t ferry_sqlite_tx_script(ferry_sqlite_tx *tx, const char *sql) {
    int64_t rc = may_run_query(tx, sql, NULL, 0);
    return rc < 0 ? rc : ferry__sqlite_script_on(tx->conn, sql);
}

/* The first value as `type`: 1, 0 (there is no row) or an error. */
static int64_t get(ferry_sqlite_tx *tx, struct ferry__sqlite_query query, int type,
                   ferry_sqlite_value *got) {
    int64_t rc = may_run_query(tx, query.sql, query.values, query.n);
    return rc < 0 ? rc : ferry__sqlite_get_on(tx->conn, &query, type, got);
}

int64_t ferry_sqlite_tx_get_int64(ferry_sqlite_tx *tx, const char *sql,
                                  const ferry_sqlite_value *values, size_t n, int64_t *value) {
    ferry_sqlite_value got;
    int64_t rc = get(tx, (struct ferry__sqlite_query){sql, values, n}, FERRY_SQLITE_INTEGER, &got);
    if (rc > 0)
        *value = got.as.integer;
    return rc;
}

int64_t ferry_sqlite_tx_get_double(ferry_sqlite_tx *tx, const char *sql,
                                   const ferry_sqlite_value *values, size_t n, double *value) {
    ferry_sqlite_value got;
    int64_t rc = get(tx, (struct ferry__sqlite_query){sql, values, n}, FERRY_SQLITE_FLOAT, &got);
    if (rc > 0)
        *value = got.as.real;
    return rc;
}

int64_t ferry_sqlite_tx_query(ferry_sqlite_tx *tx, const char *sql,
                              const ferry_sqlite_value *values, size_t n, ferry_sqlite_rows **out) {
    struct ferry__sqlite_query query = {sql, values, n};
    *out = NULL;
    int64_t rc = may_run_query(tx, sql, values, n);
    if (rc < 0)
        return rc;
    *out = ferry__sqlite_rows_direct(tx, &query, &rc);
    return rc;
}

int64_t ferry_sqlite_tx_prepare(ferry_sqlite_tx *tx, const char *sql, sqlite3_stmt **statement) {
    struct ferry__sqlite_statement *held = NULL;
    *statement = NULL;
    int64_t rc = may_run_query(tx, sql, NULL, 0);
    if (rc == 0)
        rc = ferry__sqlite_prepare_held(tx->conn, sql, &held);
    if (rc < 0)
        return rc;
    *statement = held->raw;
    return 0;
}

sqlite3 *ferry_sqlite_tx_raw(ferry_sqlite_tx *tx) {
    return tx->conn->raw;
}

/* The SQLite bridge: cancels and deadlines of long statements and of waits for locks, and those who
 * come after. */
#include "saturate.h"
#include "sqlite_test.h"

#define HOLD_THEN_FOR_EVER \
    "WITH RECURSIVE c(x) AS (SELECT hold(1) UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"

/* ---- Long statements ------------------------------------------------------------------------ */

static int64_t cancels_a_long_one(void *arg) {
    struct probe probe = PROBE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1, PROBED(&probe)});
    script(db, "CREATE TABLE t(x)");
    ferry_future *endless[] = {
        ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, HOLD_THEN_FOR_EVER, FERRY_SQLITE_NO_VALUES,
                               NULL),
        ferry_sqlite_exec(db, "INSERT INTO t " HOLD_THEN_FOR_EVER, FERRY_SQLITE_NO_VALUES, NULL),
    };
    /* Behind each, one who has done nothing. */
    ferry_future *innocent[] = {
        ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, UP_TO(100000), FERRY_SQLITE_NO_VALUES, NULL),
        ferry_sqlite_exec(db, "INSERT INTO t " UP_TO(100000), FERRY_SQLITE_NO_VALUES, NULL),
    };
    gate_wait_arrivals(&probe.gate, 2);
    gate_open(&probe.gate);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ferry_cancel(endless[i]), FERRY_CANCEL_ASKED);
        CHECK_INT(ferry_await(endless[i]), FERRY_EJOBCANCELED);
    }
    CHECK_INT(ferry_await(innocent[0]), 1);
    CHECK_INT(ferry_await(innocent[1]), 100000);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 100000);
    close_db(db);
    return 0;
}

static void a_cancel_stops_its_statement_and_no_other(void **state) {
    (void)state;
    in_both_worlds(cancels_a_long_one);
}

/* The cancel is there before the first step: it can't be lost. */
static int64_t cancels_before_the_first_step(void *arg) {
    struct probe probe = PROBE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1, PROBED(&probe)});
    for (int i = 0; i < 50; i++) {
        ferry_future *endless =
            ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, FOR_EVER, FERRY_SQLITE_NO_VALUES, NULL);
        ferry_future *innocent =
            ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT 1", FERRY_SQLITE_NO_VALUES, NULL);
        if (i % 2)
            ferry_yield();
        CHECK(ferry_cancel(endless) != FERRY_CANCEL_LATE);
        CHECK_INT(ferry_await(endless), FERRY_EJOBCANCELED);
        CHECK_INT(ferry_await(innocent), 1);
    }
    close_db(db);
    return 0;
}

static void a_cancel_is_never_lost(void **state) {
    (void)state;
    in_both_worlds(cancels_before_the_first_step);
}

static int64_t runs_out_of_time(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    int64_t value = 77;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1});
    script(db, "CREATE TABLE t(x)");
    CHECK_INT(ferry_scope_open(&scope, 10), 0);
    int64_t rc = ferry_await(
        ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, FOR_EVER, FERRY_SQLITE_NO_VALUES, &value));
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    CHECK_INT(value, 77);
    CHECK_INT(ferry_await_for(
                  ferry_sqlite_script(db, "INSERT INTO t VALUES (1); INSERT INTO t " FOR_EVER), 10),
              -ETIMEDOUT);
    CHECK_INT(ferry_await_for(ferry_sqlite_script(
                                  db, "BEGIN; INSERT INTO t VALUES (1); INSERT INTO t " FOR_EVER),
                              10),
              -ETIMEDOUT);
    CHECK(number(db, "SELECT count(*) FROM t") <= 1);
    close_db(db);
    return 0;
}

static void a_deadline_stops_a_statement(void **state) {
    (void)state;
    in_both_worlds(runs_out_of_time);
}

/* The job's own inheritance of the deadline, without an await that would cancel it. */
static void a_deadline_reaches_a_job_nobody_awaits(void **state) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    assert_int_equal(ferry_scope_open(&scope, 10), 0);
    ferry_future *endless =
        ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, FOR_EVER, FERRY_SQLITE_NO_VALUES, NULL);
    assert_int_equal(ferry_scope_close(&scope, 0), 0);
    assert_int_equal(ferry_await(endless), FERRY_EJOBCANCELED);
    close_db(db);
}

static void what_is_cancelled_in_the_queue_never_runs(void **state) {
    struct probe probe = PROBE_INIT;
    (void)state;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){PROBED(&probe)});
    script(db, "CREATE TABLE t(x)");
    ferry_future *holder =
        ferry_sqlite_exec(db, "INSERT INTO t VALUES (hold(1))", FERRY_SQLITE_NO_VALUES, NULL);
    gate_wait_arrivals(&probe.gate, 1);
    ferry_future *queued =
        ferry_sqlite_exec(db, "INSERT INTO t VALUES (tick(2))", FERRY_SQLITE_NO_VALUES, NULL);
    assert_int_equal(ferry_cancel(queued), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(queued), FERRY_EJOBCANCELED);
    gate_open(&probe.gate);
    assert_int_equal(ferry_await(holder), 1);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    assert_int_equal(atomic_load(&probe.ticks), 0);
    close_db(db);
}

/* ---- Functions ------------------------------------------------------------------------------ */

static int64_t step_for_ever(sqlite3 *raw, void *arg) {
    sqlite3_stmt *statement = NULL;
    (void)arg;
    CHECK_INT(sqlite3_prepare_v2(raw, FOR_EVER, -1, &statement, NULL), SQLITE_OK);
    int code = sqlite3_step(statement);
    CHECK_INT(code, SQLITE_INTERRUPT);
    int64_t rc = ferry_sqlite_fail(raw, code, FOR_EVER);
    sqlite3_finalize(statement);
    return rc;
}

struct bounded {
    int64_t first, second;
};

/* A scope inside the function: its deadline ends the statement, and the function goes on. */
static int64_t bound_one_statement(ferry_sqlite_tx *tx, void *arg) {
    struct bounded *bounded = arg;
    ferry_scope scope = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_sqlite_tx_exec(tx, "INSERT INTO t VALUES (1)", FERRY_SQLITE_NO_VALUES, NULL),
              1);
    CHECK_INT(ferry_scope_open(&scope, 10), 0);
    int64_t rc = ferry_sqlite_tx_get_int64(tx, FOR_EVER, FERRY_SQLITE_NO_VALUES, &bounded->first);
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_sqlite_tx_exec(tx, "INSERT INTO t VALUES (2)", FERRY_SQLITE_NO_VALUES, NULL),
              -ECANCELED);
    bounded->first = ferry_scope_close(&scope, rc);
    /* Reading didn't undo it. */
    CHECK_INT(ferry_sqlite_tx_exec(tx, "INSERT INTO t VALUES (3)", FERRY_SQLITE_NO_VALUES, NULL),
              1);

    ferry_scope again = FERRY_SCOPE_INIT;
    ferry_sqlite_rows *rows = NULL;
    CHECK_INT(ferry_sqlite_tx_query(tx, FOR_EVER, FERRY_SQLITE_NO_VALUES, &rows), 0);
    CHECK_INT(ferry_scope_open(&again, 10), 0);
    rc = ferry_sqlite_rows_next(rows);
    bounded->second = ferry_scope_close(&again, rc);
    ferry_sqlite_rows_close(rows);
    return 0;
}

static int64_t insert_for_ever(ferry_sqlite_tx *tx, void *arg) {
    CHECK_INT(ferry_sqlite_tx_exec(tx, "INSERT INTO t VALUES (4)", FERRY_SQLITE_NO_VALUES, NULL),
              1);
    gate_wait(arg);
    return ferry_sqlite_tx_exec(tx, "INSERT INTO t " FOR_EVER, FERRY_SQLITE_NO_VALUES, NULL);
}

/* A cancelled function that doesn't look still commits: completed beats cancelled. */
static int64_t insert_and_wait(ferry_sqlite_tx *tx, void *arg) {
    CHECK_INT(ferry_sqlite_tx_exec(tx, "INSERT INTO t VALUES (5)", FERRY_SQLITE_NO_VALUES, NULL),
              1);
    gate_wait(arg);
    return 5;
}

static int64_t cancels_functions(void *arg) {
    struct bounded bounded = {0, 0};
    gate inserted = GATE_INIT, before_end = GATE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1});
    script(db, "CREATE TABLE t(x)");
    const int w = FERRY_SQLITE_WRITE;
    CHECK_INT(
        ferry_await_for(ferry_sqlite_run(db, FERRY_SQLITE_READ, step_for_ever, NULL, NULL), 10),
        -ETIMEDOUT);
    CHECK_INT(number(db, "SELECT 5"), 5);
    CHECK_INT(ferry_await(ferry_sqlite_transaction(db, w, bound_one_statement, &bounded, NULL)), 0);
    CHECK_INT(bounded.first, -ETIMEDOUT);
    CHECK_INT(bounded.second, -ETIMEDOUT);
    CHECK_INT(number(db, "SELECT sum(x) FROM t"), 4);
    ferry_future *endless = ferry_sqlite_transaction(db, w, insert_for_ever, &inserted, NULL);
    gate_wait_arrivals(&inserted, 1);
    gate_open(&inserted);
    CHECK_INT(ferry_await_for(endless, 10), -ETIMEDOUT);
    CHECK_INT(number(db, "SELECT sum(x) FROM t"), 4);

    ferry_future *committing = ferry_sqlite_transaction(db, w, insert_and_wait, &before_end, NULL);
    gate_wait_arrivals(&before_end, 1);
    CHECK_INT(ferry_cancel(committing), FERRY_CANCEL_ASKED);
    gate_open(&before_end);
    CHECK_INT(ferry_await(committing), 5);
    CHECK_INT(number(db, "SELECT sum(x) FROM t"), 9);
    close_db(db);
    return 0;
}

static void functions_are_told_to_stop(void **state) {
    (void)state;
    in_both_worlds(cancels_functions);
}

/* ---- Locks ---------------------------------------------------------------------------------- */

/* In another process: holds the write lock until it is told to let go. */
static int hold_lock(void) {
    char byte = 0;
    sqlite3 *raw = NULL;
    bool held = sqlite3_open(in_folder("a.db"), &raw) == SQLITE_OK &&
                sqlite3_exec(raw, "BEGIN IMMEDIATE; INSERT INTO t VALUES (100)", NULL, NULL,
                             NULL) == SQLITE_OK;
    bool told = held && write(1, &byte, 1) == 1 && read(0, &byte, 1) == 0;
    bool done = told && sqlite3_exec(raw, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_close(raw);
    return done ? 0 : 1;
}

static int64_t never_called(ferry_sqlite_tx *tx, void *arg) {
    (void)tx, (void)arg;
    CHECK(false);
    return 0;
}

/* busy_ms is an hour: a wait that didn't listen would meet the watchdog. */
static int64_t cancels_waits(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.busy_ms = 3600000});
    script(db, "CREATE TABLE t(x)");
    char byte;
    struct child holder = start_child();
    CHECK_INT(read(holder.from, &byte, 1), 1);

    CHECK_INT(
        ferry_await_for(ferry_sqlite_exec(db, "DELETE FROM t", FERRY_SQLITE_NO_VALUES, NULL), 20),
        -ETIMEDOUT);
    CHECK_INT(ferry_scope_open(&scope, 20), 0);
    int64_t rc =
        ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, never_called, NULL, NULL));
    CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    ferry_future *waits = ferry_sqlite_script(db, "BEGIN IMMEDIATE");
    CHECK_INT(ferry_wait_for(waits, 20), -ETIMEDOUT);
    CHECK(ferry_cancel(waits) != FERRY_CANCEL_LATE); /* on a busy machine it may not have begun */
    CHECK_INT(ferry_await(waits), FERRY_EJOBCANCELED);
    /* Readers don't mind. */
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 0);

    /* One that goes on waiting gets the lock. */
    waits = ferry_sqlite_exec(db, "INSERT INTO t VALUES (1)", FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_wait_for(waits, 20), -ETIMEDOUT);
    CHECK_INT(wait_child(&holder), 0);
    CHECK_INT(ferry_await(waits), 1);
    CHECK_INT(number(db, "SELECT sum(x) FROM t"), 101);
    close_db(db);
    return 0;
}

static void a_wait_for_a_lock_can_be_cancelled(void **state) {
    (void)state;
    in_both_worlds(cancels_waits);
}

static void a_lock_that_stays_is_told(void **state) {
    (void)state;
    for (int64_t ms = -1; ms <= 20; ms += 21) {
        ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.busy_ms = ms});
        script(db, "CREATE TABLE IF NOT EXISTS t(x)");
        sqlite3 *other = foreign("a.db");
        foreign_exec(other, "BEGIN IMMEDIATE");
        assert_int_equal(exec(db, "INSERT INTO t VALUES (1)"), FERRY_SQLITE(SQLITE_BUSY));
        CHECK_SAYS("database is locked");
        CHECK_SAYS("busy_ms");
        CHECK_SAYS("SQLITE_BUSY");
        assert_int_equal(
            ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, never_called, NULL, NULL)),
            FERRY_SQLITE(SQLITE_BUSY));
        foreign_exec(other, "COMMIT");
        assert_int_equal(exec(db, "INSERT INTO t VALUES (1)"), 1);
        sqlite3_close(other);
        close_db(db);
    }
}

/* What can't be submitted isn't lost. */
static void a_full_queue_is_told(void **state) {
    struct probe probe = PROBE_INIT;
    (void)state;
    ferry_sqlite *db = open_with(
        "a.db", (ferry_sqlite_options){
                    .queue_max = 1, .full = FERRY_FULL_REFUSE, .readers = 1, PROBED(&probe)});
    ferry_future *running = ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT hold(1)",
                                                   FERRY_SQLITE_NO_VALUES, NULL);
    gate_wait_arrivals(&probe.gate, 1);
    ferry_future *queued =
        ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT 1", FERRY_SQLITE_NO_VALUES, NULL);
    assert_int_equal(ferry_await(ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT 1",
                                                        FERRY_SQLITE_NO_VALUES, NULL)),
                     -EAGAIN);
    ferry_sqlite_rows *rows =
        ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT 1", FERRY_SQLITE_NO_VALUES, NULL);
    assert_int_equal(ferry_sqlite_rows_next(rows), -EAGAIN);
    ferry_sqlite_rows_close(rows);
    gate_open(&probe.gate);
    assert_int_equal(ferry_await(running), 1);
    assert_int_equal(ferry_await(queued), 1);
    close_db(db);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        FILES("a cancel stops its statement and no other",
              a_cancel_stops_its_statement_and_no_other),
        FILES("a cancel is never lost", a_cancel_is_never_lost),
        FILES("a deadline stops a statement", a_deadline_stops_a_statement),
        FILES("a deadline reaches a job that nobody awaits",
              a_deadline_reaches_a_job_nobody_awaits),
        FILES("what is cancelled in the queue never runs",
              what_is_cancelled_in_the_queue_never_runs),
        FILES("functions are told to stop", functions_are_told_to_stop),
        FILES("a wait for a lock can be cancelled", a_wait_for_a_lock_can_be_cancelled),
        FILES("a lock that stays is told", a_lock_that_stays_is_told),
        FILES("a full queue is told", a_full_queue_is_told),
    };
    if (is_child(argc, argv))
        return hold_lock();
    return SUPPORT_RUN(tests);
}

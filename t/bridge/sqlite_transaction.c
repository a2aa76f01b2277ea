/* The SQLite bridge: transactions that commit or roll back by their result, raw connections, and
 * their misuse. */
#include "saturate.h"
#include "sqlite_test.h"

static int64_t transact(ferry_sqlite *db, int mode, ferry_sqlite_tx_fn fn, void *arg) {
    return ferry_await(ferry_sqlite_transaction(db, mode, fn, arg, NULL));
}

static int64_t tx_exec(ferry_sqlite_tx *tx, const char *sql) {
    return ferry_sqlite_tx_exec(tx, sql, FERRY_SQLITE_NO_VALUES, NULL);
}

static int64_t tx_number(ferry_sqlite_tx *tx, const char *sql) {
    int64_t value = -1;
    CHECK_INT(ferry_sqlite_tx_get_int64(tx, sql, FERRY_SQLITE_NO_VALUES, &value), 1);
    return value;
}

static ferry_sqlite *open_table(ferry_sqlite_options options) {
    ferry_sqlite *db = open_with("a.db", options);
    script(db, "CREATE TABLE t(x INTEGER PRIMARY KEY, y); INSERT INTO t VALUES (1, 'one')");
    return db;
}

/* ---- By their result ------------------------------------------------------------------------ */

static int64_t insert_and_return(ferry_sqlite_tx *tx, void *arg) {
    int64_t rc = *(int64_t *)arg;
    ferry_sqlite_result result;
    CHECK_INT(ferry_sqlite_tx_exec(tx, "INSERT INTO t(y) VALUES (?)",
                                   FERRY_SQLITE_VALUES(ferry_sqlite_text("two")), &result),
              1);
    CHECK_INT(result.last_rowid, 2);
    CHECK_INT(tx_number(tx, "SELECT count(*) FROM t"), 2);
    return rc < 0 ? ferry_fail(rc, "as it was told") : rc;
}

static int64_t commits_or_not(void *arg) {
    int64_t rc = -EPERM;
    (void)arg;
    ferry_sqlite *db = open_table((ferry_sqlite_options){0});
    CHECK_INT(transact(db, FERRY_SQLITE_WRITE, insert_and_return, &rc), -EPERM);
    CHECK_SAYS("as it was told");
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 1);
    rc = 12345678901;
    CHECK_INT(transact(db, FERRY_SQLITE_WRITE, insert_and_return, &rc), 12345678901);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 2);
    close_db(db);
    return 0;
}

static void the_result_decides(void **state) {
    (void)state;
    in_both_worlds(commits_or_not);
}

static int64_t use_everything(ferry_sqlite_tx *tx, void *arg) {
    ferry_sqlite_rows *rows = NULL;
    sqlite3_stmt *insert = NULL;
    double real = 0;
    int64_t whole = 0;
    (void)arg;
    CHECK_INT(
        ferry_sqlite_tx_script(tx, "CREATE TABLE u(x); INSERT INTO u VALUES (1), (2); SAVEPOINT s;"
                                   "DELETE FROM u; ROLLBACK TO s; RELEASE s"),
        4);
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "INSERT INTO u VALUES (?)", &insert), 0);
    for (int i = 3; i <= 5; i++) {
        sqlite3_bind_int(insert, 1, i);
        CHECK_INT(sqlite3_step(insert), SQLITE_DONE);
        sqlite3_reset(insert);
    }
    CHECK_INT(ferry_sqlite_tx_get_double(tx, "SELECT avg(x) FROM u", FERRY_SQLITE_NO_VALUES, &real),
              1);
    CHECK(real == 3.0);
    CHECK_INT(ferry_sqlite_tx_get_int64(tx, "SELECT x FROM u WHERE x > 9", FERRY_SQLITE_NO_VALUES,
                                        &whole),
              0);
    CHECK_INT(ferry_sqlite_tx_get_int64(tx, "SELECT 'x'", FERRY_SQLITE_NO_VALUES, &whole),
              FERRY_SQLITE(SQLITE_MISMATCH));
    CHECK_INT(ferry_sqlite_tx_query(tx, "SELECT x FROM u WHERE x < ? ORDER BY x",
                                    FERRY_SQLITE_VALUES(ferry_sqlite_int64(3)), &rows),
              0);
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    CHECK_INT(ferry_sqlite_rows_int64(rows, 0), 1);
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    CHECK_INT(
        ferry_sqlite_tx_query(tx, "SELECT abs(-9223372036854775807 - x) FROM u", NULL, 0, &rows),
        0);
    CHECK_INT(ferry_sqlite_rows_next(rows), FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("integer overflow");
    CHECK_INT(ferry_sqlite_rows_next(rows), FERRY_SQLITE(SQLITE_ERROR));
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    CHECK_INT(ferry_sqlite_tx_query(tx, "SELEC", FERRY_SQLITE_NO_VALUES, &rows),
              FERRY_SQLITE(SQLITE_ERROR));
    CHECK(rows == NULL);
    CHECK_INT(ferry_sqlite_tx_query(tx, NULL, FERRY_SQLITE_NO_VALUES, &rows), -EINVAL);
    CHECK_INT(tx_exec(tx, "INSERT INTO u VALUES (?)"), -EINVAL);
    CHECK_INT(ferry_sqlite_tx_get_int64(tx, "SELECT ?", NULL, 1, &whole), -EINVAL);
    CHECK_INT(ferry_sqlite_tx_get_double(tx, NULL, FERRY_SQLITE_NO_VALUES, &real), -EINVAL);
    CHECK_INT(ferry_sqlite_tx_prepare(tx, NULL, &insert), -EINVAL);
    CHECK(insert == NULL);
    CHECK_INT(sqlite3_get_autocommit(ferry_sqlite_tx_raw(tx)), 0);
    /* Errors that it deals with are its own business. */
    CHECK_INT(tx_exec(tx, "INSERT INTO t VALUES (1, 'again')"),
              FERRY_SQLITE(SQLITE_CONSTRAINT_PRIMARYKEY));
    return tx_number(tx, "SELECT count(*) FROM u");
}

static void a_transaction_can_do_all(void **state) {
    (void)state;
    ferry_sqlite *db = open_table((ferry_sqlite_options){0});
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, use_everything, NULL), 5);
    assert_int_equal(number(db, "SELECT count(*) FROM u"), 5);
    close_db(db);
}

/* Copies of values last as long as the rows; rows and statements may be left lying about. */
static int64_t leave_things_open(ferry_sqlite_tx *tx, void *arg) {
    ferry_sqlite_rows *rows = NULL;
    sqlite3_stmt *held = NULL;
    char text[] = "one";
    (void)arg;
    ferry_sqlite_value value = ferry_sqlite_text(text);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ferry_sqlite_tx_query(tx, "SELECT x FROM t WHERE y = ?", &value, 1, &rows), 0);
    memset(text, 'x', sizeof text - 1);
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "INSERT INTO t(y) VALUES (2), (3) RETURNING x", &held),
              0);
    CHECK_INT(sqlite3_step(held), SQLITE_ROW);
    return 0;
}

static void what_is_left_open_is_closed(void **state) {
    (void)state;
    ferry_sqlite *db = open_table((ferry_sqlite_options){0});
    for (int i = 0; i < 3; i++) {
        assert_int_equal(transact(db, FERRY_SQLITE_WRITE, leave_things_open, NULL), 0);
        assert_int_equal(number(db, "SELECT count(*) FROM t"), 1 + 2 * (i + 1));
    }
    close_db(db);
}

/* ---- Reading -------------------------------------------------------------------------------- */

struct snapshot {
    ferry_sqlite *db;
    gate gate;
};

static int64_t look_twice(ferry_sqlite_tx *tx, void *arg) {
    struct snapshot *snapshot = arg;
    int64_t before = tx_number(tx, "SELECT count(*) FROM t");
    gate_wait(&snapshot->gate);
    CHECK_INT(tx_number(tx, "SELECT count(*) FROM t"), before);
    CHECK_INT(tx_exec(tx, "DELETE FROM t"), FERRY_SQLITE(SQLITE_READONLY));
    CHECK_SAYS("FERRY_SQLITE_WRITE");
    return before;
}

static int64_t reads_one_state(void *arg) {
    struct snapshot snapshot = {.gate = GATE_INIT};
    (void)arg;
    ferry_sqlite *db = snapshot.db = open_table((ferry_sqlite_options){0});
    ferry_future *reading =
        ferry_sqlite_transaction(db, FERRY_SQLITE_READ, look_twice, &snapshot, NULL);
    gate_wait_arrivals(&snapshot.gate, 1);
    CHECK_INT(exec(db, "INSERT INTO t(y) VALUES (2)"), 1);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 2);
    gate_open(&snapshot.gate);
    CHECK_INT(ferry_await(reading), 1);
    close_db(db);
    return 0;
}

static void a_read_transaction_sees_one_state(void **state) {
    (void)state;
    in_both_worlds(reads_one_state);
}

/* ---- Busy ----------------------------------------------------------------------------------- */

struct again {
    int calls, busy_calls;
    int code;
};

static int64_t busy_at_first(ferry_sqlite_tx *tx, void *arg) {
    struct again *again = arg;
    CHECK_INT(tx_number(tx, "SELECT count(*) FROM t"), 1);
    CHECK_INT(tx_exec(tx, "INSERT INTO t(y) VALUES (2)"), 1);
    return again->calls++ < again->busy_calls ? ferry_sqlite_fail(NULL, again->code, NULL) : 7;
}

static void a_busy_transaction_runs_again(void **state) {
    static const int codes[] = {SQLITE_BUSY_SNAPSHOT, SQLITE_BUSY};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        ferry_sqlite *db = open_table((ferry_sqlite_options){.busy_ms = 3600000});
        struct again again = {.busy_calls = 6, .code = codes[i]};
        assert_int_equal(transact(db, FERRY_SQLITE_WRITE, busy_at_first, &again), 7);
        assert_int_equal(again.calls, 7);
        assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
        close_db(db);
        assert_int_equal(unlink(in_folder("a.db")), 0);
    }
}

/* How often a transaction that is always busy runs before it is given up. */
static int calls_within(int64_t busy_ms) {
    ferry_sqlite *db = open_table((ferry_sqlite_options){.busy_ms = busy_ms});
    struct again again = {.busy_calls = INT32_MAX, .code = SQLITE_BUSY_SNAPSHOT};
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, busy_at_first, &again),
                     FERRY_SQLITE(SQLITE_BUSY_SNAPSHOT));
    CHECK_SAYS("run it again");
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    close_db(db);
    assert_int_equal(unlink(in_folder("a.db")), 0);
    return again.calls;
}

static void it_gives_up_after_busy_ms(void **state) {
    (void)state;
    assert_int_equal(calls_within(-1), 1);
    /* Once more where the time was over after the first call. */
    for (int64_t ms = 3; calls_within(ms) == 1; ms *= 2)
        assert_true(ms < 60000);
}

static int64_t insert_one(ferry_sqlite_tx *tx, void *arg) {
    if (arg)
        gate_wait(arg);
    return tx_exec(tx, "INSERT INTO t(y) VALUES (2)");
}

/* Without WAL a COMMIT needs every reader to leave. */
static void a_commit_that_stays_locked_is_undone(void **state) {
    (void)state;
    ferry_sqlite *db = open_table((ferry_sqlite_options){.journal_mode = "DELETE", .busy_ms = 5});
    sqlite3 *other = foreign("a.db");
    foreign_exec(other, "BEGIN; SELECT * FROM t");
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, insert_one, NULL), FERRY_SQLITE(SQLITE_BUSY));
    CHECK_SAYS("COMMIT");
    assert_int_equal(exec(db, "INSERT INTO t(y) VALUES (3)"), FERRY_SQLITE(SQLITE_BUSY));
    foreign_exec(other, "COMMIT");
    /* The connection is as good as new, and nobody was left with a lock. */
    foreign_exec(other, "INSERT INTO t(y) VALUES (4)");
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, insert_one, NULL), 1);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 3);
    sqlite3_close(other);
    close_db(db);
}

static void a_commit_waits_for_readers_to_leave(void **state) {
    gate ready = GATE_INIT;
    (void)state;
    ferry_sqlite *db =
        open_table((ferry_sqlite_options){.journal_mode = "DELETE", .busy_ms = 3600000});
    sqlite3 *other = foreign("a.db");
    ferry_future *writing =
        ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, insert_one, &ready, NULL);
    gate_wait_arrivals(&ready, 1);
    foreign_exec(other, "BEGIN; SELECT * FROM t");
    gate_open(&ready);
    assert_int_equal(ferry_wait_for(writing, 20), -ETIMEDOUT);
    foreign_exec(other, "COMMIT");
    assert_int_equal(ferry_await(writing), 1);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
    sqlite3_close(other);
    close_db(db);
}

/* ---- Misuse --------------------------------------------------------------------------------- */

static int64_t commit_itself(ferry_sqlite_tx *tx, void *arg) {
    CHECK_INT(tx_exec(tx, "INSERT INTO t(y) VALUES (2)"), 1);
    CHECK_INT(tx_exec(tx, arg), 0);
    /* It is over: nothing runs outside of it. */
    CHECK_INT(tx_exec(tx, "INSERT INTO t(y) VALUES (3)"), FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_SAYS("the transaction is over");
    CHECK_INT(ferry_sqlite_tx_script(tx, "DELETE FROM t"), FERRY_SQLITE(SQLITE_MISUSE));
    int64_t whole;
    double real;
    ferry_sqlite_rows *rows;
    sqlite3_stmt *statement;
    CHECK_INT(ferry_sqlite_tx_get_int64(tx, "SELECT 1", FERRY_SQLITE_NO_VALUES, &whole),
              FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_INT(ferry_sqlite_tx_get_double(tx, "SELECT 1.5", FERRY_SQLITE_NO_VALUES, &real),
              FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_INT(ferry_sqlite_tx_query(tx, "SELECT 1", FERRY_SQLITE_NO_VALUES, &rows),
              FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "SELECT 1", &statement), FERRY_SQLITE(SQLITE_MISUSE));
    return 0;
}

static int64_t commit_in_a_script(ferry_sqlite_tx *tx, void *arg) {
    (void)arg;
    CHECK_INT(ferry_sqlite_tx_script(tx, "INSERT INTO t(y) VALUES (2); ROLLBACK; DELETE FROM t"),
              FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_SAYS("ended its transaction");
    return -EPERM;
}

/* An error that undoes the transaction, and a function that goes on as if nothing had been. */
static int64_t ignore_an_error(ferry_sqlite_tx *tx, void *arg) {
    (void)arg;
    CHECK_INT(tx_exec(tx, "INSERT INTO t(y) VALUES (2)"), 1);
    CHECK_INT(tx_exec(tx, "INSERT OR ROLLBACK INTO t VALUES (1, 'again')"),
              FERRY_SQLITE(SQLITE_CONSTRAINT_PRIMARYKEY));
    CHECK_INT(tx_exec(tx, "INSERT INTO t(y) VALUES (3)"), FERRY_SQLITE(SQLITE_MISUSE));
    return 0;
}

static void a_function_that_ends_its_transaction_is_told(void **state) {
    (void)state;
    static char rollback[] = "ROLLBACK", commit[] = "COMMIT";
    ferry_sqlite *db = open_table((ferry_sqlite_options){0});
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, commit_itself, rollback),
                     FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_SAYS("COMMIT or ROLLBACK itself");
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, commit_in_a_script, NULL), -EPERM);
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, ignore_an_error, NULL),
                     FERRY_SQLITE(SQLITE_MISUSE));
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, commit_itself, commit),
                     FERRY_SQLITE(SQLITE_MISUSE));
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
    close_db(db);
}

static int64_t wait_for_oneself(ferry_sqlite_tx *tx, void *arg) {
    ferry_sqlite *db = arg;
    (void)tx;
    CHECK_INT(exec(db, "INSERT INTO t(y) VALUES (2)"), -EDEADLK);
    CHECK_SAYS("use the connection that it was given");
    CHECK_INT(transact(db, FERRY_SQLITE_WRITE, insert_one, NULL), -EDEADLK);
    ferry_sqlite_rows *rows = ferry_sqlite_query(
        db, FERRY_SQLITE_WRITE, "DELETE FROM t RETURNING x", FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_sqlite_rows_next(rows), -EDEADLK);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    return 0;
}

static int64_t read_beside(ferry_sqlite_tx *tx, void *arg) {
    CHECK_INT(tx_exec(tx, "DELETE FROM t"), 1);
    CHECK_INT(number(arg, "SELECT count(*) FROM t"), 1);
    return -EPERM;
}

static int64_t read_in_read(ferry_sqlite_tx *tx, void *arg) {
    (void)tx;
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(arg, FERRY_SQLITE_READ, "SELECT 1",
                                                 FERRY_SQLITE_NO_VALUES, NULL)),
              -EDEADLK);
    return 0;
}

/* Another's call that stands behind this one in line, on a pool of one thread that waits for it. */
struct inside {
    gate gate;
    ferry_future *behind;
};

static int64_t wait_for_the_next(ferry_sqlite_tx *tx, void *arg) {
    struct inside *inside = arg;
    (void)tx;
    gate_wait(&inside->gate);
    return ferry_await(inside->behind);
}

static void waiting_for_the_next_in_line_is_told(void **state) {
    struct inside inside = {.gate = GATE_INIT};
    ferry_executor *pool = NULL;
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    ferry_sqlite *db = open_table((ferry_sqlite_options){.executor = pool});
    ferry_future *first =
        ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, wait_for_the_next, &inside, NULL);
    gate_wait_arrivals(&inside.gate, 1);
    inside.behind = ferry_sqlite_exec(db, "DELETE FROM t", FERRY_SQLITE_NO_VALUES, NULL);
    gate_open(&inside.gate);
    assert_int_equal(ferry_await(first), -EDEADLK);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    close_db(db);
    ferry_executor_free(pool);
}

static int64_t nests(void *arg) {
    (void)arg;
    ferry_sqlite *db = open_table((ferry_sqlite_options){.readers = 1});
    CHECK_INT(transact(db, FERRY_SQLITE_WRITE, wait_for_oneself, db), 0);
    CHECK_INT(transact(db, FERRY_SQLITE_READ, read_in_read, db), 0);
    CHECK_INT(transact(db, FERRY_SQLITE_WRITE, read_beside, db), -EPERM);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 1);
    close_db(db);
    db = open_with(":memory:", (ferry_sqlite_options){0});
    script(db, "CREATE TABLE t(x)");
    CHECK_INT(transact(db, FERRY_SQLITE_WRITE, read_in_read, db), 0);
    CHECK_INT(transact(db, FERRY_SQLITE_READ, read_in_read, db), 0);
    close_db(db);
    return 0;
}

static void waiting_for_oneself_is_told(void **state) {
    (void)state;
    in_both_worlds(nests);
}

/* ---- Raw connections ------------------------------------------------------------------------ */

static int64_t leave_a_transaction(sqlite3 *raw, void *arg) {
    CHECK_INT(sqlite3_exec(raw, "BEGIN; DELETE FROM t", NULL, NULL, NULL), SQLITE_OK);
    return *(int64_t *)arg;
}

static int64_t leave_a_statement(sqlite3 *raw, void *arg) {
    sqlite3_stmt *statement = NULL;
    (void)arg;
    CHECK_INT(sqlite3_prepare_v2(raw, "SELECT * FROM t", -1, &statement, NULL), SQLITE_OK);
    CHECK_INT(sqlite3_step(statement), SQLITE_ROW);
    return 0;
}

static int64_t change_the_handlers(sqlite3 *raw, void *arg) {
    (void)arg;
    sqlite3_busy_timeout(raw, 0);
    sqlite3_progress_handler(raw, 0, NULL, NULL);
    sqlite3_extended_result_codes(raw, 0);
    return 0;
}

static void a_raw_connection_is_put_in_order(void **state) {
    int64_t rc = 3;
    (void)state;
    ferry_sqlite *db = open_table((ferry_sqlite_options){.busy_ms = 3600000});
    const int w = FERRY_SQLITE_WRITE;
    assert_int_equal(ferry_await(ferry_sqlite_run(db, w, leave_a_transaction, &rc, NULL)),
                     FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_SAYS("left open");
    rc = -EPERM;
    assert_int_equal(ferry_await(ferry_sqlite_run(db, w, leave_a_transaction, &rc, NULL)), -EPERM);
    assert_int_equal(ferry_await(ferry_sqlite_run(db, w, leave_a_statement, NULL, NULL)), 0);
    /* With a statement running, these could not. */
    assert_int_equal(exec(db, "VACUUM"), 0);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);

    assert_int_equal(ferry_await(ferry_sqlite_run(db, w, change_the_handlers, NULL, NULL)), 0);
    assert_int_equal(exec(db, "INSERT INTO t VALUES (1, 2)"),
                     FERRY_SQLITE(SQLITE_CONSTRAINT_PRIMARYKEY));
    assert_int_equal(
        ferry_await_for(ferry_sqlite_exec(db, FOR_EVER, FERRY_SQLITE_NO_VALUES, NULL), 10),
        -ETIMEDOUT);
    sqlite3 *other = foreign("a.db");
    foreign_exec(other, "BEGIN IMMEDIATE");
    ferry_future *waits = ferry_sqlite_exec(db, "DELETE FROM t", FERRY_SQLITE_NO_VALUES, NULL);
    assert_int_equal(ferry_wait_for(waits, 20), -ETIMEDOUT);
    foreign_exec(other, "COMMIT");
    assert_int_equal(ferry_await(waits), 1);
    sqlite3_close(other);
    close_db(db);
    assert_false(file_exists("a.db-wal"));
}

/* ---- When even the clean-up fails ----------------------------------------------------------- */

static atomic_bool denied;

static int deny_rollback(void *arg, int action, const char *a, const char *b, const char *c,
                         const char *d) {
    (void)arg, (void)b, (void)c, (void)d;
    return atomic_load(&denied) && action == SQLITE_TRANSACTION && !strcmp(a, "ROLLBACK")
               ? SQLITE_DENY
               : SQLITE_OK;
}

/* An authorizer has all statements prepared anew: now the ROLLBACK of the clean-up can't be. */
static int64_t leave_a_stuck_transaction(sqlite3 *raw, void *arg) {
    CHECK_INT(sqlite3_exec(raw, "BEGIN; INSERT INTO t(y) VALUES (2)", NULL, NULL, NULL), SQLITE_OK);
    CHECK_INT(sqlite3_set_authorizer(raw, deny_rollback, NULL), SQLITE_OK);
    return *(int64_t *)arg;
}

static int64_t stuck_and_busy(ferry_sqlite_tx *tx, void *arg) {
    CHECK_INT(sqlite3_set_authorizer(ferry_sqlite_tx_raw(tx), deny_rollback, NULL), SQLITE_OK);
    ++*(int *)arg;
    return ferry_sqlite_fail(NULL, SQLITE_BUSY_SNAPSHOT, NULL);
}

static void a_connection_that_cannot_roll_back_is_closed(void **state) {
    struct probe probe = PROBE_INIT;
    int64_t rc = 0;
    int calls = 0;
    (void)state;
    atomic_store(&denied, true);
    ferry_sqlite *db = open_table((ferry_sqlite_options){.readers = 1, PROBED(&probe)});
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    assert_int_equal(atomic_load(&probe.connections), 2);
    assert_int_equal(
        ferry_await(ferry_sqlite_run(db, FERRY_SQLITE_WRITE, leave_a_stuck_transaction, &rc, NULL)),
        FERRY_SQLITE(SQLITE_MISUSE));
    assert_int_equal(exec(db, "INSERT INTO t(y) VALUES (3)"), 1);
    assert_int_equal(atomic_load(&probe.connections), 3);
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, stuck_and_busy, &calls),
                     FERRY_SQLITE(SQLITE_BUSY_SNAPSHOT));
    assert_int_equal(calls, 1);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
    close_db(db);
}

/* In memory the connection is the database. */
static void memory_that_cannot_roll_back_is_kept(void **state) {
    int64_t rc = -EPERM;
    (void)state;
    atomic_store(&denied, true);
    ferry_sqlite *db = open_with(":memory:", (ferry_sqlite_options){0});
    script(db, "CREATE TABLE t(x INTEGER PRIMARY KEY, y); INSERT INTO t VALUES (1, 'one')");
    assert_int_equal(
        ferry_await(ferry_sqlite_run(db, FERRY_SQLITE_WRITE, leave_a_stuck_transaction, &rc, NULL)),
        -EPERM);
    assert_int_equal(exec(db, "INSERT INTO t(y) VALUES (3)"), FERRY_SQLITE(SQLITE_ABORT));
    CHECK_SAYS("can't be rolled back");
    atomic_store(&denied, false);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    close_db(db);
}

static int64_t wait_to_be_cancelled(ferry_sqlite_tx *tx, void *arg) {
    CHECK_INT(tx_exec(tx, "INSERT INTO t(y) VALUES (2)"), 1);
    gate_wait(arg);
    while (ferry_checkpoint() != -ECANCELED)
        ;
    return -ECANCELED;
}

/* The progress handler counts over many runs of the same ROLLBACK; none of them may be stopped. */
static void a_cancel_never_stops_the_clean_up(void **state) {
    struct probe probe = PROBE_INIT;
    (void)state;
    ferry_sqlite *db = open_table((ferry_sqlite_options){PROBED(&probe)});
    gate_open(&probe.gate);
    for (unsigned i = 1; i <= 1200; i++) {
        ferry_future *future = ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE,
                                                        wait_to_be_cancelled, &probe.gate, NULL);
        gate_wait_arrivals(&probe.gate, i);
        assert_int_equal(ferry_cancel(future), FERRY_CANCEL_ASKED);
        assert_int_equal(ferry_await(future), FERRY_EJOBCANCELED);
    }
    assert_int_equal(atomic_load(&probe.connections), 1);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    close_db(db);
}

static int64_t break_a_reference(ferry_sqlite_tx *tx, void *arg) {
    (void)arg;
    return tx_exec(tx, "INSERT INTO child VALUES (99)");
}

static void a_commit_that_fails_is_undone(void **state) {
    (void)state;
    ferry_sqlite *db = open_table((ferry_sqlite_options){.pragmas = "PRAGMA foreign_keys=1"});
    script(db, "CREATE TABLE child(x REFERENCES t DEFERRABLE INITIALLY DEFERRED)");
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, break_a_reference, NULL),
                     FERRY_SQLITE(SQLITE_CONSTRAINT_FOREIGNKEY));
    CHECK_SAYS("FOREIGN KEY");
    assert_int_equal(number(db, "SELECT count(*) FROM child"), 0);
    assert_int_equal(transact(db, FERRY_SQLITE_WRITE, insert_one, NULL), 1);
    close_db(db);
}

/* ---- What the callers of the callers need --------------------------------------------------- */

struct box {
    atomic_int delivered, freed;
    int64_t result;
};

static void on_deliver(void *arg, int64_t result) {
    struct box *box = arg;
    box->result = result;
    atomic_fetch_add(&box->delivered, 1);
}

static void on_free(void *arg) {
    struct box *box = arg;
    atomic_fetch_add(&box->freed, 1);
}

static int64_t return_nine(sqlite3 *raw, void *arg) {
    (void)raw, (void)arg;
    return 9;
}

static int64_t return_error(ferry_sqlite_tx *tx, void *arg) {
    (void)tx, (void)arg;
    return -EPERM;
}

static void arguments_are_delivered_and_freed_once(void **state) {
    const ferry_sqlite_call_options options = {
        .name = "box", .deliver = on_deliver, .arg_free = on_free};
    struct box done = {0}, failed = {0}, queued = {0}, refused = {0}, missing = {0}, detached = {0};
    ferry_executor *pool = NULL;
    saturation full;
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.executor = pool});
    const int w = FERRY_SQLITE_WRITE;

    ferry_future *future = ferry_sqlite_run(db, w, return_nine, &done, &options);
    assert_string_equal(ferry_future_name(future), "box");
    assert_int_equal(ferry_await(future), 9);
    assert_int_equal(done.result, 9);
    assert_int_equal(ferry_await(ferry_sqlite_transaction(db, w, return_error, &failed, &options)),
                     -EPERM);
    assert_int_equal(ferry_await(ferry_sqlite_run(db, w, NULL, &missing, &options)), -EINVAL);
    saturate(&full, pool, 1);
    future = ferry_sqlite_run(db, w, return_nine, &queued, &options);
    assert_int_equal(ferry_cancel(future), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(future), FERRY_EJOBCANCELED);
    ferry_detach(ferry_sqlite_run(db, w, return_nine, &detached, &options));
    desaturate(&full);
    ferry_future *closing = ferry_sqlite_close(db);
    assert_int_equal(ferry_await(ferry_sqlite_run(db, w, return_nine, &refused, &options)),
                     FERRY_ECLOSED);
    assert_int_equal(ferry_await(closing), 0);
    ferry_sqlite_free(db);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    ferry_executor_free(pool);

    struct box *boxes[] = {&done, &failed, &queued, &refused, &missing, &detached};
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(boxes[i]->delivered, boxes[i] == &done);
        assert_int_equal(boxes[i]->freed, 1);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILES("the result decides", the_result_decides),
        FILES("a transaction can do all", a_transaction_can_do_all),
        FILES("what is left open is closed", what_is_left_open_is_closed),
        FILES("a read transaction sees one state", a_read_transaction_sees_one_state),
        FILES("a busy transaction runs again", a_busy_transaction_runs_again),
        FILES("it gives up after busy_ms", it_gives_up_after_busy_ms),
        FILES("a COMMIT that stays locked is undone", a_commit_that_stays_locked_is_undone),
        FILES("a COMMIT waits for readers to leave", a_commit_waits_for_readers_to_leave),
        FILES("a function that ends its transaction is told",
              a_function_that_ends_its_transaction_is_told),
        FILES("waiting for oneself is told", waiting_for_oneself_is_told),
        FILES("waiting for the next in line is told", waiting_for_the_next_in_line_is_told),
        FILES("a raw connection is put in order", a_raw_connection_is_put_in_order),
        FILES("a connection that can't roll back is closed",
              a_connection_that_cannot_roll_back_is_closed),
        FILES("memory that can't roll back is kept", memory_that_cannot_roll_back_is_kept),
        FILES("a cancel never stops the clean-up", a_cancel_never_stops_the_clean_up),
        FILES("a COMMIT that fails is undone", a_commit_that_fails_is_undone),
        FILES("arguments are delivered and freed once", arguments_are_delivered_and_freed_once),
    };
    return SUPPORT_RUN(tests);
}

/* The SQLite bridge: statements, their values and results, errors, and the statement cache. */
#include <float.h>
#include <limits.h>
#include <math.h>

#include "saturate.h"
#include "sqlite_test.h"

/* ---- Values --------------------------------------------------------------------------------- */

#define ODD_TEXT "a\0b\xff\xfe"
#define ODD_BYTES 5

static const char odd[] = ODD_TEXT;

static void insert_values(ferry_sqlite *db) {
    static const char big[] = "borrowed";
    ferry_sqlite_result result = {-1, -1};
    CHECK_INT(ferry_await(ferry_sqlite_exec(
                  db, "INSERT INTO v VALUES (1,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                  FERRY_SQLITE_VALUES(ferry_sqlite_int64(INT64_MIN), ferry_sqlite_int64(INT64_MAX),
                                      ferry_sqlite_double(0.1), ferry_sqlite_double(-DBL_MAX),
                                      ferry_sqlite_double(NAN), ferry_sqlite_text("na\xc3\xafve"),
                                      ferry_sqlite_text_n(odd, ODD_BYTES), ferry_sqlite_text(""),
                                      ferry_sqlite_blob(odd, ODD_BYTES), ferry_sqlite_blob(NULL, 0),
                                      ferry_sqlite_zeroblob(3), ferry_sqlite_text(NULL),
                                      ferry_sqlite_blob_borrowed(big, sizeof big - 1),
                                      ferry_sqlite_double(1e300)),
                  &result)),
              1);
    CHECK_INT(result.changes, 1);
    CHECK_INT(result.last_rowid, 1);
}

static void check_bytes(const ferry_sqlite_rows *rows, int column, int type, const char *bytes,
                        size_t n) {
    size_t text_n = 99, blob_n = 99;
    CHECK_INT(ferry_sqlite_rows_type(rows, column), type);
    const void *blob = ferry_sqlite_rows_blob(rows, column, &blob_n);
    CHECK(blob && blob_n == n && !memcmp(blob, bytes, n));
    const char *text = ferry_sqlite_rows_text(rows, column, &text_n);
    CHECK(text && text_n == n && !memcmp(text, bytes, n) && text[n] == '\0');
    /* Asking for one doesn't change what it is. */
    CHECK_INT(ferry_sqlite_rows_type(rows, column), type);
    CHECK_INT(ferry_sqlite_rows_int64(rows, column), 0);
    CHECK(ferry_sqlite_rows_double(rows, column) == 0);
}

static void check_values(ferry_sqlite_rows *rows) {
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    CHECK_INT(ferry_sqlite_rows_columns(rows), 15);
    CHECK_STR(ferry_sqlite_rows_name(rows, 0), "id");
    CHECK_STR(ferry_sqlite_rows_name(rows, 14), "n");
    CHECK_INT(ferry_sqlite_rows_type(rows, 1), FERRY_SQLITE_INTEGER);
    CHECK(ferry_sqlite_rows_int64(rows, 1) == INT64_MIN);
    CHECK(ferry_sqlite_rows_int64(rows, 2) == INT64_MAX);
    CHECK(ferry_sqlite_rows_double(rows, 2) == 9223372036854775808.0);
    CHECK(ferry_sqlite_rows_text(rows, 2, NULL) == NULL);
    CHECK_INT(ferry_sqlite_rows_type(rows, 3), FERRY_SQLITE_FLOAT);
    CHECK(ferry_sqlite_rows_double(rows, 3) == 0.1);
    CHECK_INT(ferry_sqlite_rows_int64(rows, 3), 0);
    CHECK(ferry_sqlite_rows_double(rows, 4) == -DBL_MAX);
    CHECK(ferry_sqlite_rows_int64(rows, 4) == INT64_MIN);
    CHECK(ferry_sqlite_rows_int64(rows, 14) == INT64_MAX);
    CHECK_INT(ferry_sqlite_rows_type(rows, 5), FERRY_SQLITE_NULL);
    check_bytes(rows, 6, FERRY_SQLITE_TEXT, "na\xc3\xafve", 6);
    check_bytes(rows, 7, FERRY_SQLITE_TEXT, odd, ODD_BYTES);
    check_bytes(rows, 8, FERRY_SQLITE_TEXT, "", 0);
    check_bytes(rows, 9, FERRY_SQLITE_BLOB, odd, ODD_BYTES);
    check_bytes(rows, 10, FERRY_SQLITE_BLOB, "", 0);
    check_bytes(rows, 11, FERRY_SQLITE_BLOB, "\0\0\0", 3);
    CHECK_INT(ferry_sqlite_rows_type(rows, 12), FERRY_SQLITE_NULL);
    CHECK(ferry_sqlite_rows_blob(rows, 12, NULL) == NULL);
    check_bytes(rows, 13, FERRY_SQLITE_BLOB, "borrowed", 8);
    /* Columns that aren't there. */
    CHECK_INT(ferry_sqlite_rows_type(rows, 15), FERRY_SQLITE_NULL);
    CHECK_INT(ferry_sqlite_rows_int64(rows, -1), 0);
    CHECK(ferry_sqlite_rows_name(rows, 15) == NULL);
    CHECK(ferry_sqlite_rows_name(rows, -1) == NULL);
    /* And no row. */
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    CHECK_INT(ferry_sqlite_rows_type(rows, 1), FERRY_SQLITE_NULL);
    CHECK(ferry_sqlite_rows_text(rows, 6, NULL) == NULL);
    CHECK_INT(ferry_sqlite_rows_columns(rows), 15);
}

static int64_t check_values_directly(ferry_sqlite_tx *tx, void *arg) {
    ferry_sqlite_rows *rows = NULL;
    (void)arg;
    CHECK_INT(ferry_sqlite_tx_query(tx, "SELECT * FROM v", FERRY_SQLITE_NO_VALUES, &rows), 0);
    check_values(rows);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    return 0;
}

static int64_t carries_values(void *arg) {
    ferry_sqlite_rows *rows = NULL;
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE v(id INTEGER PRIMARY KEY, a, b, c, d, e, f, g, h, i, j, k, l, m, n)");
    insert_values(db);
    rows =
        ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT * FROM v", FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_sqlite_rows_columns(rows), 0);
    CHECK(ferry_sqlite_rows_name(rows, 0) == NULL);
    check_values(rows);
    ferry_sqlite_rows_close(rows);
    CHECK_INT(ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT * FROM v",
                                             FERRY_SQLITE_NO_VALUES, NULL, &rows)),
              1);
    check_values(rows);
    ferry_sqlite_rows_close(rows);
    CHECK_INT(ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_READ, check_values_directly,
                                                   NULL, NULL)),
              0);
    close_db(db);
    return 0;
}

static void every_value_comes_back_as_it_went(void **state) {
    (void)state;
    in_both_worlds(carries_values);
}

static void values_come_back_from_utf16(void **state) {
    ferry_sqlite_rows *rows = NULL;
    (void)state;
    ferry_sqlite *db =
        open_with("a.db", (ferry_sqlite_options){.pragmas = "PRAGMA encoding='UTF-16'"});
    script(db, "CREATE TABLE t(x); INSERT INTO t VALUES ('na\xc3\xafve')");
    assert_int_equal(ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT x FROM t",
                                                    FERRY_SQLITE_NO_VALUES, NULL, &rows)),
                     1);
    assert_int_equal(ferry_sqlite_rows_next(rows), 1);
    check_bytes(rows, 0, FERRY_SQLITE_TEXT, "na\xc3\xafve", 6);
    ferry_sqlite_rows_close(rows);
    close_db(db);
}

static void what_is_passed_in_is_copied(void **state) {
    ferry_executor *pool = NULL;
    saturation full;
    char sql[] = "INSERT INTO t VALUES (?)", text[] = "before";
    ferry_sqlite_value value = ferry_sqlite_text(text);
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.executor = pool});
    script(db, "CREATE TABLE t(x)");
    saturate(&full, pool, 1);
    ferry_future *insert = ferry_sqlite_exec(db, sql, &value, 1, NULL);
    memset(sql, 'x', sizeof sql - 1);
    memset(text, 'x', sizeof text - 1);
    value = ferry_sqlite_null();
    desaturate(&full);
    assert_int_equal(ferry_await(insert), 1);
    assert_int_equal(number(db, "SELECT count(*) FROM t WHERE x = 'before'"), 1);
    close_db(db);
    ferry_executor_free(pool);
}

static void values_that_do_not_fit_are_told(void **state) {
    ferry_sqlite_value none = {0}, wild = {.type = 7};
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x, y)");
    const char *insert = "INSERT INTO t VALUES (?, ?)";
    assert_int_equal(exec(db, insert), -EINVAL);
    CHECK_SAYS("2 parameters, and 0 values were given");
    assert_int_equal(ferry_await(ferry_sqlite_exec(db, "SELECT 1",
                                                   FERRY_SQLITE_VALUES(ferry_sqlite_null()), NULL)),
                     -EINVAL);
    CHECK_SAYS("0 parameters, and 1 value was given");
    assert_int_equal(ferry_await(ferry_sqlite_exec(
                         db, insert, FERRY_SQLITE_VALUES(ferry_sqlite_null(), none), NULL)),
                     -EINVAL);
    CHECK_SAYS("value 2 has no type");
    assert_int_equal(
        ferry_await(ferry_sqlite_exec(db, insert, FERRY_SQLITE_VALUES(wild, none), NULL)), -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_exec(
                         db, insert, FERRY_SQLITE_VALUES(ferry_sqlite_blob(NULL, 1), none), NULL)),
                     -EINVAL);
    CHECK_SAYS("value 1 has a length but no bytes");
    assert_int_equal(
        ferry_await(ferry_sqlite_exec(
            db, insert,
            FERRY_SQLITE_VALUES(ferry_sqlite_text_borrowed("", (size_t)INT_MAX + 1), none), NULL)),
        FERRY_SQLITE(SQLITE_TOOBIG));
    /* More than this SQLite takes, though less than any could. */
    assert_int_equal(
        ferry_await(ferry_sqlite_exec(
            db, insert, FERRY_SQLITE_VALUES(ferry_sqlite_zeroblob(INT_MAX), ferry_sqlite_null()),
            NULL)),
        FERRY_SQLITE(SQLITE_TOOBIG));
    assert_int_equal(ferry_await(ferry_sqlite_exec(db, insert, &none, 300000, NULL)), -EINVAL);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
    close_db(db);
}

/* ---- exec and script ------------------------------------------------------------------------ */

static void exec_counts_what_its_statement_changed(void **state) {
    ferry_sqlite_result result;
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    assert_int_equal(exec(db, "CREATE TABLE t(x)"), 0);
    assert_int_equal(exec(db, "INSERT INTO t VALUES (1), (2), (3)"), 3);
    assert_int_equal(exec(db, "CREATE TABLE u(x)"), 0);
    assert_int_equal(exec(db, "SELECT x FROM t"), 0);
    assert_int_equal(exec(db, "UPDATE t SET x = x + 1 WHERE x > 1"), 2);
    assert_int_equal(exec(db, "DELETE FROM t WHERE x > 100"), 0);
    assert_int_equal(ferry_await(ferry_sqlite_exec(db, "INSERT INTO t VALUES (4) RETURNING x",
                                                   FERRY_SQLITE_NO_VALUES, &result)),
                     1);
    assert_int_equal(result.changes, 1);
    assert_int_equal(result.last_rowid, 4);
    close_db(db);
}

static void exec_takes_one_statement(void **state) {
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    assert_int_equal(exec(db, "CREATE TABLE t(x); CREATE TABLE u(x)"), -EINVAL);
    CHECK_SAYS("second statement begins at byte 18");
    assert_int_equal(exec(db, "SELECT 1; nonsense"), -EINVAL);
    assert_int_equal(exec(db, ""), -EINVAL);
    CHECK_SAYS("no statement");
    assert_int_equal(exec(db, " ; -- nothing"), -EINVAL);
    assert_int_equal(exec(db, "CREATE TABLE t(x); -- a comment\n ; /* another */ "), 0);
    close_db(db);
}

static int64_t runs_scripts(void *arg) {
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    CHECK_INT(ferry_await(ferry_sqlite_script(
                  db, "-- a comment first\nCREATE TABLE t(x);\nINSERT INTO t VALUES (1), (2);;\n"
                      "BEGIN; DELETE FROM t WHERE x = 1; COMMIT; SELECT * FROM t;\n -- the end")),
              3);
    CHECK_INT(ferry_await(ferry_sqlite_script(db, "")), 0);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 1);
    /* What came before the error stays. */
    CHECK_INT(ferry_await(ferry_sqlite_script(
                  db, "INSERT INTO t VALUES (3);\nINSERT INTO t VALUES (3, oops);")),
              FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("INSERT INTO t VALUES (3, oops)");
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 2);
    CHECK_INT(ferry_await(ferry_sqlite_script(db, "SELECT 1; SELEC 2")),
              FERRY_SQLITE(SQLITE_ERROR));
#if SQLITE_VERSION_NUMBER >= 3038000
    CHECK_SAYS("near \"SELEC\": syntax error at byte 10");
#endif
    CHECK_INT(ferry_await(ferry_sqlite_script(db, "INSERT INTO t VALUES (?)")), -EINVAL);
    CHECK_SAYS("parameters");
    /* An open transaction is undone, whether it was forgotten or an error came between. */
    CHECK_INT(ferry_await(ferry_sqlite_script(db, "BEGIN; DELETE FROM t")),
              FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_SAYS("rolled back");
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 2);
    CHECK_INT(ferry_await(ferry_sqlite_script(db, "BEGIN; DELETE FROM t; SELEC; COMMIT")),
              FERRY_SQLITE(SQLITE_ERROR));
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 2);
    CHECK_INT(exec(db, "BEGIN"), FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_INT(exec(db, "INSERT INTO t VALUES (9)"), 1);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 3);
    close_db(db);
    return 0;
}

static void scripts_run_to_the_first_error(void **state) {
    (void)state;
    in_both_worlds(runs_scripts);
}

/* ---- Errors --------------------------------------------------------------------------------- */

static void errors_have_code_message_and_place(void **state) {
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x UNIQUE NOT NULL); INSERT INTO t VALUES (1)");
    assert_int_equal(exec(db, "SELEC 1"), FERRY_SQLITE(SQLITE_ERROR));
#if SQLITE_VERSION_NUMBER >= 3038000
    CHECK_SAYS("near \"SELEC\": syntax error at byte 0 in \"SELEC 1\"");
#endif
    CHECK_SAYS("SQLITE_ERROR");
    CHECK_SAYS(in_folder("a.db"));
    assert_int_equal(exec(db, "INSERT INTO t VALUES (1)"), FERRY_SQLITE(SQLITE_CONSTRAINT_UNIQUE));
    CHECK_SAYS("UNIQUE constraint failed: t.x");
    CHECK_SAYS("SQLITE_CONSTRAINT_UNIQUE");
    assert_int_equal(exec(db, "INSERT INTO t VALUES (NULL)"),
                     FERRY_SQLITE(SQLITE_CONSTRAINT_NOTNULL));
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    close_db(db);
}

static void cut_around_the_error(ferry_sqlite *db, int shift) {
    char sql[3000];
    int n = snprintf(sql, sizeof sql, "SELECT\n%.*s, ", shift + 1, "1111");
    while (n < 1000)
        n += snprintf(sql + n, sizeof sql - (size_t)n, "'\xc3\xa4\xc3\xb6\xc3\xbc',\n    ");
    int at = n;
    n += snprintf(sql + n, sizeof sql - (size_t)n, "no_such_column ");
    while (n < 2500)
        n += snprintf(sql + n, sizeof sql - (size_t)n, ", '\xc3\xa4\xc3\xb6\xc3\xbc'");
    assert_int_equal(exec(db, sql), FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("no such column: no_such_column");
#if SQLITE_VERSION_NUMBER >= 3038000
    char place[40];
    snprintf(place, sizeof place, "at byte %d in \"...", at);
    CHECK_SAYS(place);
    CHECK_SAYS("no_such_column , '");
    CHECK_SAYS("...\"");
#else
    (void)at;
#endif
    assert_null(strchr(ferry_errmsg(), '\n'));
    assert_true(strlen(ferry_errmsg()) < 400);
    /* No character is cut in two. */
    for (const char *c = ferry_errmsg(); *c; c++)
        if ((unsigned char)*c == 0xc3)
            assert_true(((unsigned char)c[1] & 0xc0) == 0x80);
}

static void long_statements_are_cut_around_the_error(void **state) {
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    for (int shift = 0; shift < 4; shift++)
        cut_around_the_error(db, shift);
    assert_int_equal(exec(db, "  SELEC \n 1  \n"), FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("\"SELEC 1\"");
    close_db(db);
}

static void codes_have_words_and_go_both_ways(void **state) {
    (void)state;
    close_db(open_db("a.db")); /* registers the words */
    assert_string_equal(ferry_strerror(FERRY_SQLITE(SQLITE_BUSY)),
                        "database is locked (SQLITE_BUSY)");
    assert_string_equal(ferry_strerror(FERRY_SQLITE(SQLITE_CONSTRAINT_UNIQUE)),
                        "constraint failed (SQLITE_CONSTRAINT_UNIQUE)");
    /* Newer than the list, and unknown altogether. */
    assert_string_equal(ferry_strerror(FERRY_SQLITE(SQLITE_BUSY | 99 << 8)),
                        "database is locked (SQLITE_BUSY)");
    assert_string_equal(ferry_strerror(FERRY_SQLITE(99)), "unknown result code of SQLite");
    assert_int_equal(FERRY_SQLITE_CODE(FERRY_SQLITE(SQLITE_IOERR_FSYNC)), SQLITE_IOERR_FSYNC);
    assert_int_equal(FERRY_SQLITE_PRIMARY(FERRY_SQLITE(SQLITE_IOERR_FSYNC)), SQLITE_IOERR);
    assert_int_equal(FERRY_SQLITE_PRIMARY(-EIO), 0);
    assert_true(FERRY_IS_SQLITE(FERRY_SQLITE(SQLITE_ERROR)));
    assert_false(FERRY_IS_SQLITE(FERRY_ECLOSED));
    assert_false(FERRY_IS_SQLITE(1));
}

static void raw_codes_become_errors(void **state) {
    sqlite3 *raw = NULL;
    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &raw), SQLITE_OK);
    assert_int_equal(ferry_sqlite_fail(raw, SQLITE_OK, NULL), 0);
    assert_int_equal(ferry_sqlite_fail(raw, SQLITE_ROW, "SELECT 1"), 0);
    assert_int_equal(ferry_sqlite_fail(raw, SQLITE_DONE, "SELECT 1"), 0);
    int code = sqlite3_exec(raw, "SELECT * FROM nowhere", NULL, NULL, NULL);
    assert_int_equal(ferry_sqlite_fail(raw, code, "SELECT * FROM nowhere"),
                     FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("no such table: nowhere");
    CHECK_SAYS("in memory");
    /* One that isn't the connection's last, and none at all. */
    assert_int_equal(ferry_sqlite_fail(raw, SQLITE_FULL, NULL), FERRY_SQLITE(SQLITE_FULL));
    CHECK_SAYS("full");
    assert_int_equal(ferry_sqlite_fail(NULL, SQLITE_BUSY_SNAPSHOT, NULL),
                     FERRY_SQLITE(SQLITE_BUSY_SNAPSHOT));
    CHECK_SAYS("run it again");
    assert_int_equal(ferry_sqlite_fail(NULL, SQLITE_LOCKED, NULL), FERRY_SQLITE(SQLITE_LOCKED));
    assert_int_equal(ferry_sqlite_fail(NULL, SQLITE_CORRUPT, NULL), FERRY_SQLITE(SQLITE_CORRUPT));
    CHECK_SAYS("integrity_check");
    assert_int_equal(ferry_sqlite_fail(NULL, SQLITE_READONLY_ROLLBACK, NULL),
                     FERRY_SQLITE(SQLITE_READONLY_ROLLBACK));
    CHECK_SAYS("FERRY_SQLITE_WRITE undoes it");
    assert_int_equal(ferry_sqlite_fail(NULL, SQLITE_NOMEM, NULL), -ENOMEM);
    assert_int_equal(ferry_sqlite_fail(raw, SQLITE_IOERR_NOMEM, "SELECT 1"), -ENOMEM);
    CHECK_SAYS("out of memory in \"SELECT 1\"");
    assert_int_equal(ferry_sqlite_fail(NULL, SQLITE_READONLY, NULL), FERRY_SQLITE(SQLITE_READONLY));
    CHECK_SAYS("permissions");
    assert_int_equal(ferry_sqlite_fail(NULL, SQLITE_CANTOPEN, NULL), FERRY_SQLITE(SQLITE_CANTOPEN));
    /* Nobody is cancelled here, so somebody else interrupted it. */
    assert_int_equal(ferry_sqlite_fail(raw, SQLITE_INTERRUPT, NULL),
                     FERRY_SQLITE(SQLITE_INTERRUPT));
    sqlite3_close(raw);
}

/* ---- One value, and all rows ---------------------------------------------------------------- */

static int64_t gets_numbers(void *arg) {
    int64_t whole = -5;
    double real = -5;
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x INTEGER PRIMARY KEY, y)");
    const int r = FERRY_SQLITE_READ, w = FERRY_SQLITE_WRITE;
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, r, "SELECT max(x) FROM t", NULL, 0, &whole)),
              0);
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, r, "SELECT x FROM t", NULL, 0, &whole)), 0);
    CHECK_INT(whole, -5);
    CHECK_INT(
        ferry_await(ferry_sqlite_get_int64(db, w, "INSERT INTO t(y) VALUES (?) RETURNING x",
                                           FERRY_SQLITE_VALUES(ferry_sqlite_double(2.5)), &whole)),
        1);
    CHECK_INT(whole, 1);
    CHECK_INT(ferry_await(ferry_sqlite_get_double(db, r, "SELECT y FROM t", NULL, 0, &real)), 1);
    CHECK(real == 2.5);
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, r, "SELECT y FROM t", NULL, 0, &whole)), 1);
    CHECK_INT(whole, 2);
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, r, "SELECT 1e300", NULL, 0, &whole)), 1);
    CHECK(whole == INT64_MAX);
    whole = 2;
    CHECK_INT(ferry_await(ferry_sqlite_get_double(db, r, "SELECT x FROM t", NULL, 0, &real)), 1);
    CHECK(real == 1.0);
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, r, "SELECT 'one'", NULL, 0, &whole)),
              FERRY_SQLITE(SQLITE_MISMATCH));
    CHECK_SAYS("text");
    CHECK_INT(ferry_await(ferry_sqlite_get_double(db, r, "SELECT x'00'", NULL, 0, &real)),
              FERRY_SQLITE(SQLITE_MISMATCH));
    CHECK_SAYS("a blob");
    /* What can't be delivered didn't happen. */
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(
                  db, w, "INSERT INTO t(y) VALUES (1) RETURNING 'no number'", NULL, 0, &whole)),
              FERRY_SQLITE(SQLITE_MISMATCH));
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 1);
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, r, "SELECT nothing", NULL, 0, NULL)),
              FERRY_SQLITE(SQLITE_ERROR));
    CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, r, "SELECT 1", NULL, 0, NULL)), 1);
    CHECK_INT(whole, 2);
    close_db(db);
    return 0;
}

static void numbers_are_got_in_one_call(void **state) {
    (void)state;
    in_both_worlds(gets_numbers);
}

static void fetch_gives_all_rows_or_none(void **state) {
    const ferry_sqlite_query_options small = {.fetch_bytes = 1000}, many = {.batches = 65};
    ferry_sqlite_rows *rows = NULL;
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x)");
    assert_int_equal(
        ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, UP_TO(5000), NULL, 0, NULL, &rows)),
        5000);
    for (int64_t i = 1; i <= 5000; i++) {
        assert_int_equal(ferry_sqlite_rows_next(rows), 1);
        assert_int_equal(ferry_sqlite_rows_int64(rows, 0), i);
    }
    assert_int_equal(ferry_sqlite_rows_next(rows), 0);
    ferry_sqlite_rows_close(rows);
    rows = NULL;
    assert_int_equal(ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT x FROM t", NULL,
                                                    0, NULL, &rows)),
                     0);
    assert_int_equal(ferry_sqlite_rows_next(rows), 0);
    assert_int_equal(ferry_sqlite_rows_columns(rows), 1);
    ferry_sqlite_rows_close(rows);
    rows = NULL;
    assert_int_equal(
        ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_WRITE,
                                       "INSERT INTO t SELECT * FROM (" UP_TO(100) ") "
                                                                                  "RETURNING x",
                                       NULL, 0, &small, &rows)),
        FERRY_SQLITE(SQLITE_TOOBIG));
    CHECK_SAYS("fetch_bytes");
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
    assert_int_equal(
        ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_WRITE,
                                       "INSERT INTO t SELECT * FROM (" UP_TO(10) ") "
                                                                                 "RETURNING x",
                                       NULL, 0, &small, &rows)),
        10);
    ferry_sqlite_rows_close(rows);
    rows = NULL;
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 10);
    assert_int_equal(
        ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT", NULL, 0, NULL, &rows)),
        FERRY_SQLITE(SQLITE_ERROR));
    assert_int_equal(
        ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT ?", NULL, 0, NULL, &rows)),
        -EINVAL);
    assert_int_equal(
        ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT 1", NULL, 0, &many, &rows)),
        -EINVAL);
    assert_null(rows);
    /* Results that nobody takes are freed. */
    ferry_detach(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, UP_TO(100), NULL, 0, NULL, &rows));
    close_db(db);
    assert_null(rows);
}

/* ---- The cache ------------------------------------------------------------------------------ */

static int64_t count_statements(sqlite3 *connection, void *arg) {
    int64_t n = 0;
    (void)arg;
    for (sqlite3_stmt *raw = NULL; (raw = sqlite3_next_stmt(connection, raw));)
        n++;
    return n;
}

static int64_t statement_count(ferry_sqlite *db) {
    return ferry_await(ferry_sqlite_run(db, FERRY_SQLITE_WRITE, count_statements, NULL, NULL));
}

static void the_cache_is_bounded_and_shared(void **state) {
    char sql[64];
    (void)state;
    for (int max = -1; max <= 8; max += 9) {
        ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.statements = max});
        int64_t own = statement_count(db);
        int64_t kept = max < 0 ? 0 : max;
        for (int i = 0; i < 100; i++) {
            snprintf(sql, sizeof sql, "SELECT %d", i);
            assert_int_equal(exec(db, sql), 0);
            assert_int_equal(exec(db, "SELECT 'hot'"), 0);
            assert_true(statement_count(db) <= own + kept);
        }
        assert_int_equal(statement_count(db), own + kept);
        close_db(db);
    }
}

static int64_t same_statement(ferry_sqlite_tx *tx, void *arg) {
    sqlite3_stmt **seen = arg, *first = NULL, *second = NULL, *other = NULL;
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "SELECT 'hot'", &first), 0);
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "SELECT 'hot'", &second), 0);
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "SELECT 'cold'", &other), 0);
    CHECK(first == second && first != other);
    CHECK(!*seen || *seen == first);
    *seen = first;
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "SELEC", &other), FERRY_SQLITE(SQLITE_ERROR));
    CHECK(other == NULL);
    return 0;
}

static void a_prepared_statement_is_the_same_next_time(void **state) {
    sqlite3_stmt *seen = NULL;
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    for (int i = 0; i < 3; i++)
        assert_int_equal(ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE,
                                                              same_statement, &seen, NULL)),
                         0);
    close_db(db);
}

static int64_t uses_one_twice(ferry_sqlite_tx *tx, void *arg) {
    ferry_sqlite_rows *rows = NULL;
    sqlite3_stmt *held = NULL;
    (void)arg;
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "SELECT 'hot'", &held), 0);
    CHECK_INT(sqlite3_step(held), SQLITE_ROW);
    CHECK_INT(ferry_sqlite_tx_query(tx, "SELECT 'hot'", FERRY_SQLITE_NO_VALUES, &rows), 0);
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    CHECK_INT(ferry_sqlite_tx_exec(tx, "SELECT 'hot'", FERRY_SQLITE_NO_VALUES, NULL), 0);
    CHECK_STR((const char *)sqlite3_column_text(held, 0), "hot");
    CHECK_STR(ferry_sqlite_rows_text(rows, 0, NULL), "hot");
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    return 0;
}

static void a_statement_in_use_is_not_shared(void **state) {
    (void)state;
    for (int max = -1; max <= 2; max++) {
        ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.statements = max});
        int64_t own = statement_count(db);
        assert_int_equal(ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE,
                                                              uses_one_twice, NULL, NULL)),
                         0);
        assert_true(max == 0 || statement_count(db) <= own + (max < 0 ? 0 : max));
        close_db(db);
    }
}

static int64_t insert_unbound(ferry_sqlite_tx *tx, void *arg) {
    sqlite3_stmt *insert = NULL;
    (void)arg;
    CHECK_INT(ferry_sqlite_tx_exec(tx, "INSERT INTO t VALUES (?)",
                                   FERRY_SQLITE_VALUES(ferry_sqlite_int64(5)), NULL),
              1);
    CHECK_INT(ferry_sqlite_tx_prepare(tx, "INSERT INTO t VALUES (?)", &insert), 0);
    CHECK_INT(sqlite3_step(insert), SQLITE_DONE);
    return 0;
}

static void values_of_one_call_are_not_left_for_the_next(void **state) {
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x)");
    assert_int_equal(
        ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, insert_unbound, NULL, NULL)),
        0);
    assert_int_equal(number(db, "SELECT count(*) FROM t WHERE x IS NULL"), 1);
    close_db(db);
}

static void a_changed_schema_is_seen(void **state) {
    ferry_sqlite_rows *rows = NULL;
    (void)state;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1});
    script(db, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    for (int columns = 1; columns <= 3; columns++) {
        assert_int_equal(ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT * FROM t",
                                                        NULL, 0, NULL, &rows)),
                         1);
        assert_int_equal(ferry_sqlite_rows_columns(rows), columns);
        ferry_sqlite_rows_close(rows);
        rows = ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT * FROM t", NULL, 0, NULL);
        assert_int_equal(ferry_sqlite_rows_next(rows), 1);
        assert_int_equal(ferry_sqlite_rows_columns(rows), columns);
        ferry_sqlite_rows_close(rows);
        script(db, columns == 1   ? "ALTER TABLE t ADD y"
                   : columns == 2 ? "ALTER TABLE t ADD z"
                                  : "");
    }
    close_db(db);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILES("every value comes back as it went", every_value_comes_back_as_it_went),
        FILES("values come back from UTF-16", values_come_back_from_utf16),
        FILES("what is passed in is copied", what_is_passed_in_is_copied),
        FILES("values that don't fit are told", values_that_do_not_fit_are_told),
        FILES("exec counts what its statement changed", exec_counts_what_its_statement_changed),
        FILES("exec takes one statement", exec_takes_one_statement),
        FILES("scripts run to the first error", scripts_run_to_the_first_error),
        FILES("errors have code, message and place", errors_have_code_message_and_place),
        FILES("long statements are cut around the error", long_statements_are_cut_around_the_error),
        FILES("codes have words and go both ways", codes_have_words_and_go_both_ways),
        FILES("raw codes become errors", raw_codes_become_errors),
        FILES("numbers are got in one call", numbers_are_got_in_one_call),
        FILES("fetch gives all rows or none", fetch_gives_all_rows_or_none),
        FILES("the cache is bounded and shared", the_cache_is_bounded_and_shared),
        FILES("a prepared statement is the same next time",
              a_prepared_statement_is_the_same_next_time),
        FILES("a statement in use isn't shared", a_statement_in_use_is_not_shared),
        FILES("values of one call aren't left for the next",
              values_of_one_call_are_not_left_for_the_next),
        FILES("a changed schema is seen", a_changed_schema_is_seen),
    };
    return SUPPORT_RUN(tests);
}

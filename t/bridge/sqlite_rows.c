/* The SQLite bridge: streams of rows, with backpressure, errors in their place, and readers who
 * leave early. */
#include "saturate.h"
#include "sqlite_test.h"

#include <event2/event.h>
#include <stdatomic.h>

static ferry_sqlite_rows *query(ferry_sqlite *db, const char *sql) {
    return ferry_sqlite_query(db, FERRY_SQLITE_READ, sql, FERRY_SQLITE_NO_VALUES, NULL);
}

static int64_t count_to(ferry_sqlite_rows *rows, int64_t n) {
    int64_t rc = 0, i = 0;
    while (i < n && (rc = ferry_sqlite_rows_next(rows)) > 0)
        CHECK_INT(ferry_sqlite_rows_int64(rows, 0), ++i);
    return rc < 0 ? rc : i;
}

static int64_t reads_many(void *arg) {
    const ferry_sqlite_query_options shapes[] = {{0},
                                                 {.batch_rows = 1},
                                                 {.batch_rows = 7, .batches = 1},
                                                 {.batch_bytes = 1},
                                                 {.batches = 64}};
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        /* It takes time. */
        bool one_by_one = shapes[i].batch_rows == 1 || shapes[i].batch_bytes == 1;
        ferry_sqlite_rows *rows =
            ferry_sqlite_query(db, FERRY_SQLITE_READ, one_by_one ? UP_TO(2000) : UP_TO(10000),
                               FERRY_SQLITE_NO_VALUES, &shapes[i]);
        CHECK_INT(count_to(rows, INT64_MAX), one_by_one ? 2000 : 10000);
        CHECK_INT(ferry_sqlite_rows_next(rows), 0);
        CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    }
    close_db(db);
    return 0;
}

static void all_rows_come_in_order(void **state) {
    (void)state;
    in_both_worlds(reads_many);
}

static int64_t reads_empty(void *arg) {
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x, y)");
    ferry_sqlite_rows *rows = query(db, "SELECT x AS first, y FROM t");
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    CHECK_INT(ferry_sqlite_rows_columns(rows), 2);
    CHECK_STR(ferry_sqlite_rows_name(rows, 0), "first");
    ferry_sqlite_rows_close(rows);
    close_db(db);
    return 0;
}

static void no_rows_still_have_columns(void **state) {
    (void)state;
    in_both_worlds(reads_empty);
}

/* The job is never further ahead than what is under way, whatever the consumer's pace is. */
static int64_t reads_slowly(void *arg) {
    enum { ROWS = 10, BATCHES = 2 };
    struct probe probe = PROBE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){PROBED(&probe)});
    ferry_sqlite_rows *rows = ferry_sqlite_query(
        db, FERRY_SQLITE_READ, "SELECT tick(x) FROM (" UP_TO(1000) ")", FERRY_SQLITE_NO_VALUES,
        &(ferry_sqlite_query_options){.batch_rows = ROWS, .batches = BATCHES});
    for (int64_t i = 1; i <= 1000; i++) {
        CHECK_INT(ferry_sqlite_rows_next(rows), 1);
        if (i % 100 == 0)
            ferry_sleep(1);
        /* The batch being read, those in the queue, and the one that is being put. */
        CHECK(atomic_load(&probe.ticks) <= i + (BATCHES + 2) * ROWS);
    }
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    ferry_sqlite_rows_close(rows);
    close_db(db);
    return 0;
}

static void a_slow_consumer_slows_the_job(void **state) {
    (void)state;
    in_both_worlds(reads_slowly);
}

static int64_t leaves_early(void *arg) {
    (void)arg;
    /* With one reader, the next query only runs when the one before has given it back. */
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1});
    for (int64_t at = 0; at < 40; at++) {
        ferry_sqlite_rows *rows = query(db, UP_TO(1000000));
        CHECK_INT(count_to(rows, at), at);
        CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    }
    /* In the middle of a step that would never end. */
    ferry_sqlite_rows *rows = query(db, FOR_EVER);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    CHECK_INT(number(db, "SELECT 5"), 5);
    close_db(db);
    return 0;
}

static void a_reader_may_leave_at_any_row(void **state) {
    (void)state;
    in_both_worlds(leaves_early);
}

static int64_t waits_for_a_hard_row(void *arg) {
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1});
    ferry_sqlite_rows *rows =
        query(db, "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT * FROM (" FOR_EVER ")");
    CHECK_INT(count_to(rows, 2), 2);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    CHECK_INT(number(db, "SELECT 5"), 5);
    close_db(db);
    return 0;
}

static void found_rows_do_not_wait_for_one_that_is_hard_to_find(void **state) {
    (void)state;
    in_both_worlds(waits_for_a_hard_row);
}

/* The bridge's clock, by which rows age, is the test's: the program is linked with --wrap for
 * it. */
int64_t __real_ferry__sqlite_now_coarse(void);
int64_t __wrap_ferry__sqlite_now_coarse(void);

static _Atomic int64_t aged_ns;

int64_t __wrap_ferry__sqlite_now_coarse(void) {
    return __real_ferry__sqlite_now_coarse() + atomic_load(&aged_ns);
}

static void nap(sqlite3_context *context, int n, sqlite3_value **values) {
    (void)n;
    atomic_fetch_add(&aged_ns, INT64_C(6000000));
    sqlite3_result_value(context, values[0]);
}

static int64_t add_nap(sqlite3 *connection, void *arg) {
    sqlite3_create_function(connection, "nap", 1, SQLITE_UTF8, NULL, nap, NULL, NULL);
    return add_functions(connection, arg);
}

/* Each row is old enough to be sent, but there is no room: the consumer reads on only when the
 * last row is about to be found. */
static int64_t reads_slow_rows(void *arg) {
    struct probe probe = PROBE_INIT;
    (void)arg;
    ferry_sqlite *db =
        open_with("a.db", (ferry_sqlite_options){.init = add_nap, .init_arg = &probe});
    ferry_sqlite_rows *rows = ferry_sqlite_query(
        db, FERRY_SQLITE_READ,
        "SELECT CASE nap(x) WHEN 12 THEN hold(x) ELSE x END FROM (" UP_TO(12) ")",
        FERRY_SQLITE_NO_VALUES, &(ferry_sqlite_query_options){.batches = 1});
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    gate_wait_arrivals(&probe.gate, 1);
    gate_open(&probe.gate);
    for (int64_t i = 2; i <= 12; i++) {
        CHECK_INT(ferry_sqlite_rows_next(rows), 1);
        CHECK_INT(ferry_sqlite_rows_int64(rows, 0), i);
    }
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    ferry_sqlite_rows_close(rows);
    close_db(db);
    return 0;
}

static void slow_rows_and_slow_consumers_meet(void **state) {
    (void)state;
    in_both_worlds(reads_slow_rows);
}

static int64_t reads_up_to_an_error(void *arg) {
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    ferry_sqlite_rows *rows = query(
        db, "SELECT CASE x WHEN 3000 THEN abs(-9223372036854772808 - x) ELSE x END FROM (" UP_TO(
                5000) ")");
    CHECK_INT(count_to(rows, 2999), 2999);
    CHECK_INT(ferry_sqlite_rows_next(rows), FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("integer overflow");
    CHECK_SAYS("CASE x WHEN");
    ferry_fail(-EIO, "something else");
    CHECK_INT(ferry_sqlite_rows_next(rows), FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("ended with an error before");
    CHECK_INT(ferry_sqlite_rows_type(rows, 0), FERRY_SQLITE_NULL);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);

    rows = query(db, "SELEC");
    CHECK_INT(ferry_sqlite_rows_next(rows), FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("syntax error");
    ferry_sqlite_rows_close(rows);
    rows = query(db, "SELECT ?");
    CHECK_INT(ferry_sqlite_rows_next(rows), -EINVAL);
    ferry_sqlite_rows_close(rows);
    rows = query(db, NULL);
    CHECK_INT(ferry_sqlite_rows_next(rows), -EINVAL);
    ferry_sqlite_rows_close(rows);
    rows = ferry_sqlite_query(db, 3, "SELECT 1", FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_sqlite_rows_next(rows), -EINVAL);
    ferry_sqlite_rows_close(rows);
    /* Closed unread, an error is nobody's business. */
    CHECK_INT(ferry_sqlite_rows_close(query(db, "SELEC")), 0);
    close_db(db);
    return 0;
}

static void errors_come_in_their_place(void **state) {
    (void)state;
    in_both_worlds(reads_up_to_an_error);
}

/* ---- Cancelled ------------------------------------------------------------------------------ */

static int64_t goes_on_after_a_cancel(void *arg) {
    struct probe probe = PROBE_INIT;
    ferry_scope scope = FERRY_SCOPE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){PROBED(&probe)});
    ferry_sqlite_rows *rows = query(db, "SELECT hold(x) FROM (" UP_TO(3) ")");
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_sqlite_rows_next(rows), -ECANCELED);
    CHECK_INT(ferry_sqlite_rows_next(rows), -ECANCELED);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    gate_open(&probe.gate);
    CHECK_INT(count_to(rows, 3), 3);
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    ferry_sqlite_rows_close(rows);

    ferry_scope again = FERRY_SCOPE_INIT;
    int64_t rc, n = 1;
    rows = query(db, UP_TO(1000));
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    CHECK_INT(ferry_scope_open(&again, FERRY_FOREVER), 0);
    ferry_scope_cancel(&again);
    while ((rc = ferry_sqlite_rows_next(rows)) > 0) /* what is here needs no waiting */
        n++;
    CHECK_INT(rc, -ECANCELED);
    CHECK_INT(ferry_scope_close(&again, rc), 0);
    while (ferry_sqlite_rows_next(rows) > 0)
        CHECK_INT(ferry_sqlite_rows_int64(rows, 0), ++n);
    CHECK_INT(n, 1000);
    ferry_sqlite_rows_close(rows);
    close_db(db);
    return 0;
}

static void a_cancelled_consumer_loses_no_row(void **state) {
    (void)state;
    in_both_worlds(goes_on_after_a_cancel);
}

static int64_t ends_with_its_scope(void *arg) {
    struct probe probe = PROBE_INIT;
    ferry_scope scope = FERRY_SCOPE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1, PROBED(&probe)});
    ferry_future *holder = ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT hold(1)",
                                                  FERRY_SQLITE_NO_VALUES, NULL);
    gate_wait_arrivals(&probe.gate, 1);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_sqlite_rows *queued = query(db, UP_TO(3));
    ferry_scope_cancel(&scope);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    gate_open(&probe.gate);
    CHECK_INT(ferry_await(holder), 1);
    /* It never runs, and whoever waits is told. */
    CHECK_INT(ferry_sqlite_rows_next(queued), FERRY_EJOBCANCELED);
    CHECK_INT(ferry_sqlite_rows_next(queued), FERRY_EJOBCANCELED);
    ferry_sqlite_rows_close(queued);

    ferry_scope again = FERRY_SCOPE_INIT;
    CHECK_INT(ferry_scope_open(&again, FERRY_FOREVER), 0);
    ferry_sqlite_rows *running = query(db, "SELECT 1 UNION ALL SELECT * FROM (" FOR_EVER ")");
    CHECK_INT(count_to(running, 1), 1);
    ferry_scope_cancel(&again);
    CHECK_INT(ferry_scope_close(&again, 0), 0);
    CHECK_INT(ferry_sqlite_rows_next(running), FERRY_EJOBCANCELED);
    ferry_sqlite_rows_close(running);
    CHECK_INT(number(db, "SELECT 5"), 5);
    close_db(db);
    return 0;
}

static void a_stream_ends_with_the_scope_it_was_started_in(void **state) {
    (void)state;
    in_both_worlds(ends_with_its_scope);
}

static int64_t runs_out_of_time(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    int64_t rc;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1});
    CHECK_INT(ferry_scope_open(&scope, 20), 0);
    ferry_sqlite_rows *rows = query(db, UP_TO(1000000000));
    while ((rc = ferry_sqlite_rows_next(rows)) > 0)
        ;
    ferry_sqlite_rows_close(rows);
    CHECK_INT(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    CHECK_INT(number(db, "SELECT 5"), 5);
    close_db(db);
    return 0;
}

static void a_deadline_ends_a_stream(void **state) {
    (void)state;
    in_both_worlds(runs_out_of_time);
}

/* ---- Threads, loops and callbacks ----------------------------------------------------------- */

static void *consume(void *arg) {
    CHECK_INT(count_to(arg, INT64_MAX), 10000);
    return NULL;
}

static int64_t consume_in_task(void *arg) {
    return count_to(arg, INT64_MAX);
}

static void rows_may_be_handed_over(void **state) {
    pthread_t thread;
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    ferry_sqlite_rows *rows = query(db, UP_TO(10000));
    assert_int_equal(pthread_create(&thread, NULL, consume, rows), 0);
    pthread_join(thread, NULL);
    ferry_sqlite_rows_close(rows);
    rows = query(db, UP_TO(10000));
    assert_int_equal(ferry_run(consume_in_task, rows), 10000);
    ferry_sqlite_rows_close(rows);
    close_db(db);
}

/* In a callback nothing may wait: fetch() and then() are the way, and closing leaves the rest to
 * itself. */
struct plain {
    struct event_base *base;
    ferry_loop *loop;
    ferry_sqlite *db;
    ferry_sqlite_rows *rows, *fetched;
    struct probe probe;
    int step;
};

static void on_closed(ferry_future *future, int64_t result, void *arg) {
    struct plain *plain = arg;
    CHECK_INT(result, 0);
    CHECK_INT(ferry_await(future), 0);
    ferry_sqlite_free(plain->db);
    plain->step++;
}

static void on_fetched(ferry_future *future, int64_t result, void *arg) {
    struct plain *plain = arg;
    CHECK_INT(result, 3);
    CHECK(plain->fetched == NULL);
    CHECK_INT(ferry_await(future), 3);
    CHECK_INT(count_to(plain->fetched, INT64_MAX), 3);
    CHECK_INT(ferry_sqlite_rows_close(plain->fetched), 0);

    plain->rows = query(plain->db, "SELECT hold(1)");
    CHECK_INT(ferry_sqlite_rows_next(plain->rows), -EDEADLK);
    gate_wait_arrivals(&plain->probe.gate, 1);
    CHECK_INT(ferry_sqlite_rows_close(plain->rows), 0);
    gate_open(&plain->probe.gate);
    CHECK_INT(ferry_then(ferry_sqlite_close(plain->db), NULL, on_closed, plain), 0);
    plain->step++;
}

static void on_opened(ferry_future *future, int64_t result, void *arg) {
    struct plain *plain = arg;
    CHECK_INT(result, 0);
    CHECK(plain->db == NULL);
    CHECK_INT(ferry_await(future), 0);
    CHECK(plain->db != NULL);
    ferry_future *fetch = ferry_sqlite_fetch(plain->db, FERRY_SQLITE_READ, UP_TO(3),
                                             FERRY_SQLITE_NO_VALUES, NULL, &plain->fetched);
    CHECK_INT(ferry_then(fetch, NULL, on_fetched, plain), 0);
    plain->step++;
}

static void a_callback_program_never_waits(void **state) {
    struct plain plain = {.probe = PROBE_INIT};
    const ferry_sqlite_options options = {.create = true, PROBED(&plain.probe)};
    (void)state;
    plain.base = event_base_new();
    plain.loop = ferry_loop_attach(plain.base);
    assert_non_null(plain.loop);
    ferry_future *opening = ferry_sqlite_open(in_folder("a.db"), &options, &plain.db);
    assert_int_equal(ferry_then(opening, plain.loop, on_opened, &plain), 0);
    assert_int_equal(event_base_dispatch(plain.base), 1);
    assert_int_equal(plain.step, 3);
    /* The job that closed the database may still be on its way out. */
    int rc;
    while ((rc = ferry_loop_free(plain.loop)) == -EBUSY)
        event_base_loop(plain.base, EVLOOP_NONBLOCK);
    assert_int_equal(rc, 0);
    event_base_free(plain.base);
}

static int64_t drops_rows(void *arg) {
    ferry_sqlite *db = arg;
    ferry_sqlite_rows *rows[4];
    for (int i = 0; i < 4; i++)
        rows[i] = query(db, UP_TO(100000));
    for (int i = 0; i < 4; i++)
        CHECK_INT(count_to(rows[i], i * 100), i * 100);
    for (int i = 0; i < 4; i++)
        CHECK_INT(ferry_sqlite_rows_close(rows[i]), 0);
    return 0;
}

static void many_threads_share_a_database(void **state) {
    enum { THREADS = 6 };
    ferry_executor *pool = NULL, *callers = NULL;
    ferry_future *jobs[THREADS];
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 4}), 0);
    assert_int_equal(
        ferry_executor_new(&callers, &(ferry_executor_options){.threads_max = THREADS}), 0);
    /* As many readers and threads as there can be streams that wait for each other. */
    ferry_executor *wide = NULL;
    assert_int_equal(
        ferry_executor_new(&wide, &(ferry_executor_options){.threads_max = 4 * THREADS}), 0);
    ferry_sqlite *db =
        open_with("a.db", (ferry_sqlite_options){.executor = wide, .readers = 4 * THREADS});
    for (int i = 0; i < THREADS; i++)
        jobs[i] = ferry_submit(callers, drops_rows, db);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(ferry_await(jobs[i]), 0);
    close_db(db);
    ferry_executor_free(wide);
    ferry_executor_free(callers);
    ferry_executor_free(pool);
}

/* ---- Rows of a statement that writes -------------------------------------------------------- */

#define INSERT_MANY "INSERT INTO t SELECT * FROM (" UP_TO(5000) ") RETURNING x"

static int64_t writes_rows(void *arg) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x UNIQUE)");
    ferry_sqlite_rows *rows =
        ferry_sqlite_query(db, FERRY_SQLITE_WRITE, INSERT_MANY, FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(count_to(rows, INT64_MAX), 5000);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 5000);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
    /* Left early: the rest isn't read, but all of it is written. */
    for (int64_t at = 0; at < 3; at++) {
        CHECK_INT(exec(db, "DELETE FROM t"), 5000);
        rows =
            ferry_sqlite_query(db, FERRY_SQLITE_WRITE, INSERT_MANY, FERRY_SQLITE_NO_VALUES, NULL);
        CHECK_INT(count_to(rows, at * 1000), at * 1000);
        CHECK_INT(ferry_sqlite_rows_close(rows), 0);
        CHECK_INT(number(db, "SELECT count(*) FROM t"), 5000);
    }
    /* An error that nobody has read is the close's. */
    rows = ferry_sqlite_query(db, FERRY_SQLITE_WRITE, INSERT_MANY, FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_sqlite_rows_close(rows), FERRY_SQLITE(SQLITE_CONSTRAINT_UNIQUE));
    CHECK_SAYS("UNIQUE constraint failed");
    /* Cancelled, it is undone. */
    CHECK_INT(exec(db, "DELETE FROM t"), 5000);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    rows = ferry_sqlite_query(db, FERRY_SQLITE_WRITE, INSERT_MANY, FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(count_to(rows, 10), 10);
    ferry_scope_cancel(&scope);
    CHECK(ferry_sqlite_rows_close(rows) < 0);
    CHECK_INT(ferry_scope_close(&scope, -ECANCELED), 0);
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 0);
    close_db(db);
    return 0;
}

static void a_writing_statement_commits_unless_cancelled(void **state) {
    (void)state;
    in_both_worlds(writes_rows);
}

/* ---- The database goes ---------------------------------------------------------------------- */

static int64_t closes_under_a_stream(void *arg) {
    int64_t rc, n = 0;
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x)");
    ferry_sqlite_rows *rows = query(db, UP_TO(1000000));
    ferry_sqlite_rows *written =
        ferry_sqlite_query(db, FERRY_SQLITE_WRITE, INSERT_MANY, FERRY_SQLITE_NO_VALUES,
                           &(ferry_sqlite_query_options){.batch_rows = 10});
    CHECK_INT(count_to(rows, 1), 1);
    CHECK_INT(count_to(written, 1), 1);
    close_db(db);
    while ((rc = ferry_sqlite_rows_next(rows)) > 0)
        n++;
    CHECK_INT(rc, FERRY_ECLOSED);
    CHECK_SAYS("closed while rows were read");
    CHECK(n > 0 && n < 10000);
    ferry_sqlite_rows_close(rows);
    CHECK_INT(ferry_sqlite_rows_close(written), FERRY_ECLOSED);

    db = open_db("a.db");
    CHECK_INT(number(db, "SELECT count(*) FROM t"), 0);
    close_db(db);
    return 0;
}

static void closing_the_database_ends_its_streams(void **state) {
    (void)state;
    in_both_worlds(closes_under_a_stream);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILES("all rows come, in order", all_rows_come_in_order),
        FILES("no rows still have columns", no_rows_still_have_columns),
        FILES("a slow consumer slows the job", a_slow_consumer_slows_the_job),
        FILES("a reader may leave at any row", a_reader_may_leave_at_any_row),
        FILES("found rows don't wait for one that is hard to find",
              found_rows_do_not_wait_for_one_that_is_hard_to_find),
        FILES("slow rows and slow consumers meet", slow_rows_and_slow_consumers_meet),
        FILES("errors come in their place", errors_come_in_their_place),
        FILES("a cancelled consumer loses no row", a_cancelled_consumer_loses_no_row),
        FILES("a stream ends with the scope it was started in",
              a_stream_ends_with_the_scope_it_was_started_in),
        FILES("a deadline ends a stream", a_deadline_ends_a_stream),
        FILES("rows may be handed over", rows_may_be_handed_over),
        FILES("a callback program never waits", a_callback_program_never_waits),
        FILES("many threads share a database", many_threads_share_a_database),
        FILES("a writing statement commits unless cancelled",
              a_writing_statement_commits_unless_cancelled),
        FILES("closing the database ends its streams", closing_the_database_ends_its_streams),
    };
    return SUPPORT_RUN(tests);
}

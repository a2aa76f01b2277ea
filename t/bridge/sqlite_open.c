/* The SQLite bridge: opening, closing, and what goes wrong there. */
#include <fcntl.h>
#include <sys/stat.h>

#include "child.h"
#include "saturate.h"
#include "sqlite_test.h"

static int64_t try_open(const char *path, ferry_sqlite_options options) {
    ferry_sqlite *db = NULL;
    int64_t rc = ferry_await(ferry_sqlite_open(path, &options, &db));
    CHECK((rc == 0) == (db != NULL));
    if (db)
        close_db(db);
    return rc;
}

static void write_file(const char *name, const char *text, mode_t mode) {
    int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK_INT(fchmod(fd, mode), 0);
    close(fd);
}

static int64_t reopens(void *arg) {
    (void)arg;
    ferry_sqlite *db = open_db("a.db");
    CHECK_STR(ferry_sqlite_path(db), in_folder("a.db"));
    script(db, "CREATE TABLE t(x); INSERT INTO t VALUES (7)");
    CHECK(file_exists("a.db-wal"));
    close_db(db);
    CHECK(!file_exists("a.db-wal"));

    db = NULL;
    CHECK_INT(ferry_await(ferry_sqlite_open(in_folder("a.db"), NULL, &db)), 0);
    CHECK_INT(number(db, "SELECT x FROM t"), 7);
    ferry_sqlite_rows *rows = NULL;
    CHECK_INT(ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "PRAGMA journal_mode",
                                             FERRY_SQLITE_NO_VALUES, NULL, &rows)),
              1);
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    CHECK_STR(ferry_sqlite_rows_text(rows, 0, NULL), "wal");
    ferry_sqlite_rows_close(rows);
    close_db(db);
    return 0;
}

static void a_database_is_made_closed_and_reopened(void **state) {
    (void)state;
    in_both_worlds(reopens);
}

static void a_missing_file_is_not_made_unasked(void **state) {
    (void)state;
    assert_int_equal(try_open(in_folder("no.db"), (ferry_sqlite_options){0}),
                     FERRY_SQLITE(SQLITE_CANTOPEN));
    CHECK_SAYS(in_folder("no.db"));
    CHECK_SAYS("No such file");
    CHECK_SAYS("options.create");
    assert_false(file_exists("no.db"));
}

static void a_missing_folder_is_named(void **state) {
    (void)state;
    assert_int_equal(try_open(in_folder("no/a.db"), (ferry_sqlite_options){.create = true}),
                     FERRY_SQLITE(SQLITE_CANTOPEN));
    CHECK_SAYS("no/a.db");
    CHECK_SAYS("folder doesn't exist");
}

static void a_folder_is_no_database(void **state) {
    (void)state;
    int64_t rc = try_open(folder, (ferry_sqlite_options){.create = true});
    assert_int_equal(FERRY_SQLITE_PRIMARY(rc), SQLITE_CANTOPEN);
    CHECK_SAYS("directory");
}

static void some_other_file_is_no_database(void **state) {
    (void)state;
    write_file(
        "text",
        "This is a text of some length that was never meant to be a database at all, and it is "
        "longer than the hundred bytes of a header.",
        0600);
    assert_int_equal(try_open(in_folder("text"), (ferry_sqlite_options){0}),
                     FERRY_SQLITE(SQLITE_NOTADB));
    CHECK_SAYS("some other file");
    CHECK_SAYS(in_folder("text"));
}

static void wrong_options_are_told(void **state) {
    static const ferry_sqlite_options wrong[] = {
        {.readers = -1},
        {.readers = 65},
        {.synchronous = 5},
        {.synchronous = -1},
        {.journal_mode = "FAST"},
        {.full = 2},
        {.read_only = true, .create = true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(try_open(in_folder("a.db"), wrong[i]), -EINVAL);
    assert_int_equal(try_open(":memory:", (ferry_sqlite_options){.read_only = true}), -EINVAL);
    assert_int_equal(try_open(NULL, (ferry_sqlite_options){0}), -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_open(in_folder("a.db"), NULL, NULL)), -EINVAL);
    ferry_executor *no_pool = NULL;
    assert_int_equal(ferry_inline_new(&no_pool), 0);
    assert_int_equal(try_open(in_folder("a.db"), (ferry_sqlite_options){.executor = no_pool}),
                     -EINVAL);
    CHECK_SAYS("pool");
    ferry_executor_free(no_pool);
    assert_false(file_exists("a.db"));
}

static void an_unknown_vfs_is_told(void **state) {
    (void)state;
    assert_true(try_open(in_folder("a.db"), (ferry_sqlite_options){.vfs = "none", .create = true}) <
                0);
    CHECK_SAYS("no such vfs");
}

/* The error that an open gives in another process, which has no rights on what root owns. */
static int expect(const char *name, int primary, const char *says) {
    ferry_sqlite *db;
    int64_t rc = ferry_await(ferry_sqlite_open(in_folder(name), NULL, &db));
    if (FERRY_SQLITE_PRIMARY(rc) == primary && strstr(ferry_errmsg(), says))
        return 0;
    fprintf(stderr, "# %s: %" PRId64 ": %s\n", name, rc, rc < 0 ? ferry_errmsg() : "opened");
    return 1;
}

static int without_rights(void) {
    if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
        return 99;
    return expect("secret.db", SQLITE_CANTOPEN, "permissions") +
           expect("readable.db", SQLITE_READONLY, "options.read_only") +
           expect("fixed/writable.db", SQLITE_READONLY, "folder must be");
}

static void missing_rights_are_told(void **state) {
    (void)state;
    ferry_sqlite *db = open_db("secret.db");
    script(db, "CREATE TABLE t(x)");
    close_db(db);
    db = open_db("readable.db");
    script(db, "CREATE TABLE t(x)");
    close_db(db);
    assert_int_equal(mkdir(in_folder("fixed"), 0755), 0);
    db = open_db("fixed/writable.db");
    script(db, "CREATE TABLE t(x)");
    close_db(db);
    assert_int_equal(chmod(in_folder("secret.db"), 0), 0);
    assert_int_equal(chmod(in_folder("readable.db"), 0444), 0);
    assert_int_equal(chmod(in_folder("fixed/writable.db"), 0666), 0);
    assert_int_equal(chmod(in_folder("fixed"), 0555), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    struct child child = start_child();
    assert_int_equal(wait_child(&child), 0);
    assert_int_equal(chmod(in_folder("fixed"), 0755), 0);
    assert_int_equal(unlink(in_folder("fixed/writable.db")), 0);
}

static void read_only_writes_nothing(void **state) {
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)");
    close_db(db);
    db = open_with("a.db", (ferry_sqlite_options){.read_only = true});
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
    assert_int_equal(exec(db, "INSERT INTO t VALUES (3)"), FERRY_SQLITE(SQLITE_READONLY));
    CHECK_SAYS("options.read_only");
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
    close_db(db);
}

static void a_reader_does_not_write(void **state) {
    int64_t id;
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x)");
    assert_int_equal(ferry_await(ferry_sqlite_get_int64(db, FERRY_SQLITE_READ,
                                                        "INSERT INTO t VALUES (3) RETURNING x",
                                                        FERRY_SQLITE_NO_VALUES, &id)),
                     FERRY_SQLITE(SQLITE_READONLY));
    CHECK_SAYS("FERRY_SQLITE_WRITE");
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
    close_db(db);
}

static int64_t uses_memory(void *arg) {
    (void)arg;
    ferry_sqlite *db = open_db(":memory:");
    CHECK_STR(ferry_sqlite_path(db), "");
    script(db, "CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)");
    CHECK_INT(number(db, "SELECT sum(x) FROM t"), 3);
    ferry_sqlite_rows *rows =
        ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT x FROM t", FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_sqlite_rows_next(rows), 1);
    ferry_sqlite_rows_close(rows);
    CHECK_INT(exec(db, "DELETE FROM t"), 2);
    close_db(db);
    return 0;
}

static void memory_has_one_connection_for_all(void **state) {
    (void)state;
    in_both_worlds(uses_memory);
}

static void a_name_is_never_a_uri(void **state) {
    char before[512];
    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(try_open("file:a.db?mode=memory", (ferry_sqlite_options){.create = true}), 0);
    assert_int_equal(chdir(before), 0);
    assert_true(file_exists("file:a.db?mode=memory"));
}

static void readers_follow_the_first_connection_not_the_folder(void **state) {
    char before[512];
    ferry_sqlite *db = NULL;
    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(
        ferry_await(ferry_sqlite_open("a.db", &(ferry_sqlite_options){.create = true}, &db)), 0);
    assert_int_equal(chdir(before), 0);
    script(db, "CREATE TABLE t(x); INSERT INTO t VALUES (5)");
    assert_int_equal(number(db, "SELECT x FROM t"), 5);
    close_db(db);
}

/* As many readers as there may be, all at once. */
static int64_t foreign_keys_of(sqlite3 *connection, void *arg) {
    struct probe *probe = arg;
    sqlite3_stmt *raw = NULL;
    int64_t on = -1;
    gate_wait(&probe->gate);
    if (sqlite3_prepare_v2(connection, "PRAGMA foreign_keys", -1, &raw, NULL) == SQLITE_OK &&
        sqlite3_step(raw) == SQLITE_ROW)
        on = sqlite3_column_int64(raw, 0);
    sqlite3_finalize(raw);
    return on;
}

static void every_connection_is_set_up_alike(void **state) {
    struct probe probe = PROBE_INIT;
    ferry_executor *pool = NULL;
    ferry_future *jobs[4];
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 4}), 0);
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.executor = pool,
                                                                .readers = 3,
                                                                .pragmas = "PRAGMA foreign_keys=1;",
                                                                PROBED(&probe)});
    assert_int_equal(atomic_load(&probe.connections), 1);
    for (int i = 0; i < 4; i++)
        jobs[i] = ferry_sqlite_run(db, i == 0 ? FERRY_SQLITE_WRITE : FERRY_SQLITE_READ,
                                   foreign_keys_of, &probe, NULL);
    gate_wait_arrivals(&probe.gate, 4);
    gate_open(&probe.gate);
    for (int i = 0; i < 4; i++)
        assert_int_equal(ferry_await(jobs[i]), 1);
    assert_int_equal(atomic_load(&probe.connections), 4);
    /* The warmest reader is taken again: none is added. */
    for (int i = 0; i < 10; i++)
        assert_int_equal(number(db, "SELECT 1"), 1);
    assert_int_equal(atomic_load(&probe.connections), 4);
    close_db(db);
    ferry_executor_free(pool);
}

static int64_t refuses(sqlite3 *connection, void *arg) {
    (void)connection, (void)arg;
    return ferry_fail(-EPERM, "not today");
}

static int64_t begins(sqlite3 *connection, void *arg) {
    (void)arg;
    return sqlite3_exec(connection, "BEGIN", NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

static void a_place_without_wal_is_told(void **state) {
    (void)state;
    assert_int_equal(try_open("/memory", (ferry_sqlite_options){.vfs = "memdb", .create = true}),
                     -ENOTSUP);
    CHECK_SAYS("journal_mode");
}

static void a_set_up_that_fails_fails_the_open(void **state) {
    (void)state;
    assert_int_equal(
        try_open(in_folder("a.db"), (ferry_sqlite_options){.create = true, .init = refuses}),
        -EPERM);
    CHECK_SAYS("not today");
    assert_int_equal(
        try_open(in_folder("a.db"), (ferry_sqlite_options){.create = true, .init = begins}),
        FERRY_SQLITE(SQLITE_MISUSE));
    CHECK_SAYS("transaction open");
    assert_int_equal(
        try_open(in_folder("a.db"),
                 (ferry_sqlite_options){.create = true, .pragmas = "PRAGMA no=; SELEC"}),
        FERRY_SQLITE(SQLITE_ERROR));
    CHECK_SAYS("syntax error");
}

static void a_lock_at_open_is_waited_for_and_told(void **state) {
    (void)state;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.journal_mode = "DELETE"});
    script(db, "CREATE TABLE t(x)");
    close_db(db);
    sqlite3 *other = foreign("a.db");
    foreign_exec(other, "BEGIN EXCLUSIVE");
    assert_int_equal(try_open(in_folder("a.db"), (ferry_sqlite_options){.busy_ms = 10}),
                     FERRY_SQLITE(SQLITE_BUSY));
    CHECK_SAYS("locked");
    foreign_exec(other, "ROLLBACK");
    assert_int_equal(try_open(in_folder("a.db"), (ferry_sqlite_options){.busy_ms = -1}), 0);
    sqlite3_close(other);
}

static void a_full_disk_is_told(void **state) {
    (void)state;
    ferry_sqlite *db =
        open_with("a.db", (ferry_sqlite_options){.pragmas = "PRAGMA max_page_count=10"});
    script(db, "CREATE TABLE t(x)");
    assert_int_equal(
        ferry_await(ferry_sqlite_exec(db, "INSERT INTO t VALUES (?)",
                                      FERRY_SQLITE_VALUES(ferry_sqlite_zeroblob(100000)), NULL)),
        FERRY_SQLITE(SQLITE_FULL));
    CHECK_SAYS("make room");
    CHECK_SAYS("SQLITE_FULL");
    CHECK_SAYS("INSERT INTO t");
    assert_int_equal(exec(db, "INSERT INTO t VALUES (1)"), 1);
    close_db(db);
}

/* ---- Close ---------------------------------------------------------------------------------- */

static int64_t closes(void *arg) {
    struct probe probe = PROBE_INIT;
    int64_t value = 0;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.readers = 1, PROBED(&probe)});
    script(db, "CREATE TABLE t(x)");

    ferry_future *running = ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT hold(4)",
                                                   FERRY_SQLITE_NO_VALUES, &value);
    gate_wait_arrivals(&probe.gate, 1);
    ferry_future *queued =
        ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT 9", FERRY_SQLITE_NO_VALUES, NULL);
    ferry_future *first = ferry_sqlite_close(db);
    ferry_future *second = ferry_sqlite_close(db);

    CHECK_INT(exec(db, "INSERT INTO t VALUES (1)"), FERRY_ECLOSED);
    CHECK_SAYS("closed");
    CHECK_INT(ferry_await(ferry_sqlite_run(db, FERRY_SQLITE_WRITE, refuses, NULL, NULL)),
              FERRY_ECLOSED);
    ferry_sqlite_rows *rows =
        ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT 1", FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_sqlite_rows_next(rows), FERRY_ECLOSED);
    CHECK_SAYS("closed");
    ferry_sqlite_rows_close(rows);
    CHECK(!ferry_done(first));
    gate_open(&probe.gate);

    CHECK_INT(ferry_await(running), 1);
    CHECK_INT(value, 4);
    CHECK_INT(ferry_await(queued), 1);
    CHECK_INT(ferry_await(first), 0);
    CHECK_INT(ferry_await(second), 0);
    CHECK_INT(ferry_await(ferry_sqlite_close(db)), 0);
    CHECK(!file_exists("a.db-wal"));
    ferry_sqlite_free(db);
    return 0;
}

static void close_waits_for_what_was_started(void **state) {
    (void)state;
    in_both_worlds(closes);
}

static void a_full_queue_is_not_run_after_the_close(void **state) {
    struct probe probe = PROBE_INIT;
    (void)state;
    ferry_sqlite *db = open_with(
        "a.db", (ferry_sqlite_options){.queue_max = 1, .full = FERRY_FULL_REFUSE, PROBED(&probe)});
    script(db, "CREATE TABLE t(x)");
    ferry_future *running =
        ferry_sqlite_exec(db, "INSERT INTO t VALUES (hold(1))", FERRY_SQLITE_NO_VALUES, NULL);
    gate_wait_arrivals(&probe.gate, 1);
    ferry_future *queued =
        ferry_sqlite_exec(db, "INSERT INTO t VALUES (2)", FERRY_SQLITE_NO_VALUES, NULL);
    ferry_future *closing = ferry_sqlite_close(db);
    gate_open(&probe.gate);
    assert_int_equal(ferry_await(running), 1);
    assert_int_equal(ferry_await(closing), 0);
    /* The close had no place in the queue: it and what was queued race for the connection. */
    int64_t rc = ferry_await(queued);
    assert_true(rc == FERRY_ECLOSED || rc == 1);
    ferry_sqlite_free(db);
    db = open_db("a.db");
    assert_int_equal(number(db, "SELECT sum(x) FROM t"), rc == 1 ? 3 : 1);
    close_db(db);
}

static int64_t closes_in_a_cancelled_scope(void *arg) {
    struct probe probe = PROBE_INIT;
    ferry_scope scope = FERRY_SCOPE_INIT;
    (void)arg;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){PROBED(&probe)});
    script(db, "CREATE TABLE t(x)");
    ferry_future *running =
        ferry_sqlite_exec(db, "INSERT INTO t VALUES (hold(1))", FERRY_SQLITE_NO_VALUES, NULL);
    gate_wait_arrivals(&probe.gate, 1);
    ferry_future *queued =
        ferry_sqlite_exec(db, "INSERT INTO t VALUES (2)", FERRY_SQLITE_NO_VALUES, NULL);
    CHECK_INT(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    ferry_scope_cancel(&scope);
    ferry_future *closing = ferry_sqlite_close(db);
    CHECK_INT(ferry_scope_close(&scope, 0), 0);
    gate_open(&probe.gate);
    CHECK_INT(ferry_await(running), 1);
    CHECK_INT(ferry_await(queued), 1);
    CHECK_INT(ferry_await(closing), 0);
    CHECK(!file_exists("a.db-wal"));
    ferry_sqlite_free(db);
    return 0;
}

static void a_cancelled_caller_can_close(void **state) {
    (void)state;
    in_both_worlds(closes_in_a_cancelled_scope);
}

/* Whether nobody has the database open: only then its journal mode can be changed. */
static bool nobody_has(const char *name) {
    sqlite3 *raw = foreign(name);
    sqlite3_stmt *mode = NULL;
    CHECK_INT(sqlite3_prepare_v2(raw, "PRAGMA journal_mode=DELETE", -1, &mode, NULL), SQLITE_OK);
    bool changed = sqlite3_step(mode) == SQLITE_ROW &&
                   !strcmp((const char *)sqlite3_column_text(mode, 0), "delete");
    sqlite3_finalize(mode);
    sqlite3_close(raw);
    return changed;
}

static void free_closes_what_nobody_closed(void **state) {
    struct probe probe = PROBE_INIT;
    ferry_executor *pool = NULL;
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.executor = pool, PROBED(&probe)});
    script(db, "CREATE TABLE t(x)");
    assert_false(nobody_has("a.db"));
    ferry_future *running =
        ferry_sqlite_exec(db, "INSERT INTO t VALUES (hold(4))", FERRY_SQLITE_NO_VALUES, NULL);
    gate_wait_arrivals(&probe.gate, 1);
    ferry_sqlite_free(db);
    gate_open(&probe.gate);
    assert_int_equal(ferry_await(running), 1);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_true(nobody_has("a.db"));
    ferry_executor_free(pool);
}

static void an_open_that_nobody_awaits_closes_again(void **state) {
    ferry_executor *pool = NULL;
    ferry_sqlite *db = NULL;
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    ferry_detach(ferry_sqlite_open(in_folder("a.db"),
                                   &(ferry_sqlite_options){.create = true, .executor = pool}, &db));
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_null(db);
    assert_true(file_exists("a.db"));
    assert_true(nobody_has("a.db"));
    ferry_executor_free(pool);
}

static void an_open_cancelled_in_the_queue_leaves_nothing(void **state) {
    ferry_executor *pool = NULL;
    ferry_sqlite *db = NULL;
    saturation full;
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    saturate(&full, pool, 1);
    ferry_future *opening = ferry_sqlite_open(
        in_folder("a.db"), &(ferry_sqlite_options){.create = true, .executor = pool}, &db);
    assert_int_equal(ferry_cancel(opening), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(opening), FERRY_EJOBCANCELED);
    assert_null(db);
    assert_false(file_exists("a.db"));
    desaturate(&full);
    ferry_executor_free(pool);
}

static void a_closed_pool_is_told_and_the_database_still_closes(void **state) {
    ferry_executor *pool = NULL;
    (void)state;
    assert_int_equal(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 1}), 0);
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){.executor = pool});
    script(db, "CREATE TABLE t(x)");
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_int_equal(exec(db, "INSERT INTO t VALUES (1)"), FERRY_ECLOSED);
    close_db(db);
    assert_false(file_exists("a.db-wal"));
    assert_int_equal(try_open(in_folder("a.db"), (ferry_sqlite_options){.executor = pool}),
                     FERRY_ECLOSED);
    ferry_executor_free(pool);
}

/* A database outlives the loop whose pool it used. */
static ferry_sqlite *kept;

static int64_t opens_and_leaves(void *arg) {
    (void)arg;
    kept = open_db("a.db");
    script(kept, "CREATE TABLE t(x)");
    return 0;
}

static void a_database_outlives_its_loop(void **state) {
    (void)state;
    assert_int_equal(ferry_run(opens_and_leaves, NULL), 0);
    assert_int_equal(exec(kept, "INSERT INTO t VALUES (1)"), FERRY_ECLOSED);
    close_db(kept);
    assert_false(file_exists("a.db-wal"));
}

static bool child_is_refused(ferry_sqlite *db, ferry_sqlite_rows *rows) {
    bool refused = exec(db, "INSERT INTO t VALUES (1)") == FERRY_EFORKED &&
                   strstr(ferry_errmsg(), "parent process") &&
                   ferry_await(ferry_sqlite_close(db)) == FERRY_EFORKED;
    ferry_sqlite_rows *own =
        ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT 1", FERRY_SQLITE_NO_VALUES, NULL);
    refused = refused && ferry_sqlite_rows_next(own) == FERRY_EFORKED &&
              ferry_sqlite_rows_next(rows) < 0 && ferry_sqlite_rows_close(own) == 0 &&
              ferry_sqlite_rows_close(rows) == 0;
    ferry_sqlite_free(db);
    return refused;
}

static void a_child_of_a_fork_is_refused(void **state) {
    struct probe probe = PROBE_INIT;
    int status = -1;
    (void)state;
    ferry_sqlite *db = open_with("a.db", (ferry_sqlite_options){PROBED(&probe)});
    script(db, "CREATE TABLE t(x)");
    ferry_sqlite_rows *rows =
        ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT hold(5)", FERRY_SQLITE_NO_VALUES, NULL);
    gate_wait_arrivals(&probe.gate, 1);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        end_child(child_is_refused(db, rows));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(child_was_good(status));
    /* The parent goes on. */
    gate_open(&probe.gate);
    assert_int_equal(ferry_sqlite_rows_next(rows), 1);
    assert_int_equal(ferry_sqlite_rows_close(rows), 0);
    assert_int_equal(exec(db, "INSERT INTO t VALUES (1)"), 1);
    close_db(db);
}

static void what_is_missing_is_told(void **state) {
    int64_t value;
    ferry_sqlite_rows *rows = NULL;
    (void)state;
    assert_int_equal(exec(NULL, "SELECT 1"), -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_close(NULL)), -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_get_int64(NULL, 0, "SELECT 1", NULL, 0, &value)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_fetch(NULL, 0, "SELECT 1", NULL, 0, NULL, &rows)),
                     -EINVAL);
    rows = ferry_sqlite_query(NULL, 0, "SELECT 1", NULL, 0, NULL);
    assert_int_equal(ferry_sqlite_rows_next(rows), -EINVAL);
    assert_int_equal(ferry_sqlite_rows_close(rows), 0);
    assert_int_equal(ferry_sqlite_rows_close(NULL), 0);
    assert_int_equal(ferry_sqlite_rows_next(NULL), -ENOMEM);
    assert_int_equal(ferry_sqlite_rows_columns(NULL), 0);
    assert_null(ferry_sqlite_rows_text(NULL, 0, NULL));
    assert_string_equal(ferry_sqlite_path(NULL), "");
    ferry_sqlite_free(NULL);

    ferry_sqlite *db = open_db("a.db");
    assert_int_equal(ferry_await(ferry_sqlite_get_int64(db, 2, "SELECT 1", NULL, 0, &value)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_exec(db, NULL, NULL, 0, NULL)), -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_exec(db, "SELECT ?", NULL, 1, NULL)), -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_run(db, FERRY_SQLITE_READ, NULL, NULL, NULL)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_sqlite_fetch(db, 0, "SELECT 1", NULL, 0, NULL, NULL)),
                     -EINVAL);
    close_db(db);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        FILES("a database is made, closed and reopened", a_database_is_made_closed_and_reopened),
        FILES("a missing file isn't made unasked", a_missing_file_is_not_made_unasked),
        FILES("a missing folder is named", a_missing_folder_is_named),
        FILES("a folder is no database", a_folder_is_no_database),
        FILES("some other file is no database", some_other_file_is_no_database),
        FILES("wrong options are told", wrong_options_are_told),
        FILES("an unknown VFS is told", an_unknown_vfs_is_told),
        FILES("a place without WAL is told", a_place_without_wal_is_told),
        FILES("missing rights are told", missing_rights_are_told),
        FILES("read_only writes nothing", read_only_writes_nothing),
        FILES("a reader doesn't write", a_reader_does_not_write),
        FILES("memory has one connection for all", memory_has_one_connection_for_all),
        FILES("a name is never a URI", a_name_is_never_a_uri),
        FILES("readers follow the first connection, not the folder",
              readers_follow_the_first_connection_not_the_folder),
        FILES("every connection is set up alike", every_connection_is_set_up_alike),
        FILES("a set-up that fails fails the open", a_set_up_that_fails_fails_the_open),
        FILES("a lock at open is waited for and told", a_lock_at_open_is_waited_for_and_told),
        FILES("a full disk is told", a_full_disk_is_told),
        FILES("close waits for what was started", close_waits_for_what_was_started),
        FILES("a close that finds the queue full", a_full_queue_is_not_run_after_the_close),
        FILES("a cancelled caller can close", a_cancelled_caller_can_close),
        FILES("free closes what nobody closed", free_closes_what_nobody_closed),
        FILES("an open that nobody awaits closes again", an_open_that_nobody_awaits_closes_again),
        FILES("an open cancelled in the queue leaves nothing",
              an_open_cancelled_in_the_queue_leaves_nothing),
        FILES("a closed pool is told, and the database still closes",
              a_closed_pool_is_told_and_the_database_still_closes),
        FILES("a database outlives its loop", a_database_outlives_its_loop),
        FILES("a child of a fork is refused", a_child_of_a_fork_is_refused),
        FILES("what is missing is told", what_is_missing_is_told),
    };
    if (is_child(argc, argv))
        return without_rights();
    return SUPPORT_RUN(tests);
}

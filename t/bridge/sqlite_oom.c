/* The SQLite bridge without memory: each allocation of the library, the bridge and SQLite fails
 * once, alone and with all that follow it. Every call then succeeds with the right result or fails
 * with an error, nothing leaks, and afterwards the database works as before. */
#include "oom.h"
#include "sqlite_test.h"

/* ---- SQLite's memory ------------------------------------------------------------------------ */

static sqlite3_mem_methods system_memory;
static atomic_long sqlite_blocks;

static void *counted_malloc(int size) {
    void *block = oom_refuses() ? NULL : system_memory.xMalloc(size);
    if (block)
        atomic_fetch_add(&sqlite_blocks, 1);
    return block;
}

static void *counted_realloc(void *block, int size) {
    return oom_refuses() ? NULL : system_memory.xRealloc(block, size);
}

static void counted_free(void *block) {
    if (block)
        atomic_fetch_sub(&sqlite_blocks, 1);
    system_memory.xFree(block);
}

static void count_memory(void) {
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory);
    sqlite3_mem_methods counted = system_memory;
    counted.xMalloc = counted_malloc;
    counted.xRealloc = counted_realloc;
    counted.xFree = counted_free;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &counted) != SQLITE_OK ||
        sqlite3_initialize() != SQLITE_OK) {
        fprintf(stderr, "SQLite's allocator could not be replaced\n");
        exit(99);
    }
}

/* ---- The scenario --------------------------------------------------------------------------- */

/* True when the call succeeded; anything but a clean failure is a failed check. */
static bool worked(int64_t rc, const char *what) {
    if (rc >= 0)
        return true;
    /* Without memory there may be no thread, and no room for what SQLite would have said. */
    bool clean = rc == -ENOMEM || rc == -EAGAIN || rc == FERRY_ECLOSED;
    if (!CHECK(clean && oom_hit()))
        printf("# %s: %" PRId64 ": %s\n", what, rc, ferry_errmsg());
    return false;
}

#define WORKED(rc) worked((rc), #rc)

static void check_row(const ferry_sqlite_rows *rows, int64_t x) {
    char text[32];
    snprintf(text, sizeof text, "row %" PRId64, x);
    CHECK_INT(ferry_sqlite_rows_int64(rows, 0), x);
    const char *got = ferry_sqlite_rows_text(rows, 1, NULL);
    if (got)
        CHECK_STR(got, text);
    else
        CHECK(oom_hit());
}

static void read_stream(ferry_sqlite *db) {
    const ferry_sqlite_query_options options = {.batch_rows = 40, .batches = 2};
    int64_t rc, n = 0;
    ferry_sqlite_rows *rows =
        ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT x, y FROM t WHERE y <> ? ORDER BY x",
                           FERRY_SQLITE_VALUES(ferry_sqlite_text("nothing")), &options);
    while ((rc = ferry_sqlite_rows_next(rows)) > 0)
        check_row(rows, ++n);
    if (WORKED(rc))
        CHECK_INT(n, 100);
    CHECK_INT(ferry_sqlite_rows_close(rows), 0);
}

static void read_all(ferry_sqlite *db) {
    ferry_sqlite_rows *rows = NULL;
    int64_t rc =
        ferry_await(ferry_sqlite_fetch(db, FERRY_SQLITE_READ, "SELECT x, y FROM t ORDER BY x",
                                       FERRY_SQLITE_NO_VALUES, NULL, &rows));
    if (!WORKED(rc))
        return;
    CHECK_INT(rc, 100);
    for (int64_t x = 1; x <= 100; x++) {
        CHECK_INT(ferry_sqlite_rows_next(rows), 1);
        check_row(rows, x);
        CHECK(ferry_sqlite_rows_text(rows, 1, NULL) != NULL);
    }
    CHECK_INT(ferry_sqlite_rows_next(rows), 0);
    ferry_sqlite_rows_close(rows);
}

static int64_t change_all(ferry_sqlite_tx *tx, void *arg) {
    ferry_sqlite_rows *rows = NULL;
    sqlite3_stmt *update = NULL;
    int64_t rc, n = 0;
    (void)arg;
    rc = ferry_sqlite_tx_query(tx, "SELECT x, y FROM t ORDER BY x", FERRY_SQLITE_NO_VALUES, &rows);
    while (rc >= 0 && (rc = ferry_sqlite_rows_next(rows)) > 0)
        check_row(rows, ++n);
    if (rc >= 0)
        CHECK_INT(n, 100);
    ferry_sqlite_rows_close(rows);
    if (rc >= 0)
        rc = ferry_sqlite_tx_prepare(tx, "UPDATE t SET z = ? WHERE x = 7", &update);
    if (rc >= 0) {
        sqlite3_bind_int(update, 1, 70);
        int code = sqlite3_step(update);
        rc = ferry_sqlite_fail(ferry_sqlite_tx_raw(tx), code, "UPDATE t");
        sqlite3_reset(update);
    }
    if (rc >= 0)
        rc = ferry_sqlite_tx_exec(tx, "UPDATE t SET z = 1 WHERE x > ?",
                                  FERRY_SQLITE_VALUES(ferry_sqlite_int64(90)), NULL);
    return rc;
}

static int64_t raw_vacuum(sqlite3 *raw, void *arg) {
    (void)arg;
    return ferry_sqlite_fail(raw, sqlite3_exec(raw, "PRAGMA wal_checkpoint", NULL, NULL, NULL),
                             NULL);
}

#define FILL "INSERT INTO t SELECT x, 'row ' || x, 0 FROM (" UP_TO(100) ")"

static void use(ferry_sqlite *db) {
    int64_t value = -1;
    const int w = FERRY_SQLITE_WRITE;
    bool made =
        WORKED(ferry_await(ferry_sqlite_script(
            db, "DROP TABLE IF EXISTS t; CREATE TABLE t(x INTEGER PRIMARY KEY, y TEXT, z)"))) &&
        WORKED(ferry_await(ferry_sqlite_exec(db, FILL, FERRY_SQLITE_NO_VALUES, NULL)));
    if (!made)
        return;
    if (WORKED(ferry_await(ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT count(*) FROM t",
                                                  FERRY_SQLITE_NO_VALUES, &value))))
        CHECK_INT(value, 100);
    read_stream(db);
    read_all(db);
    int64_t rc = ferry_await(ferry_sqlite_transaction(db, w, change_all, NULL, NULL));
    bool changed = WORKED(rc);
    if (changed)
        CHECK_INT(rc, 10);
    if (WORKED(ferry_await(ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, "SELECT sum(z) FROM t",
                                                  FERRY_SQLITE_NO_VALUES, &value))))
        CHECK_INT(value, changed ? 80 : 0);
    WORKED(ferry_await(ferry_sqlite_run(db, w, raw_vacuum, NULL, NULL)));
    /* An error that is one with memory, too. */
    rc = ferry_await(
        ferry_sqlite_exec(db, "INSERT INTO t(x) VALUES (1)", FERRY_SQLITE_NO_VALUES, NULL));
    if (rc != FERRY_SQLITE(SQLITE_CONSTRAINT_PRIMARYKEY))
        CHECK(!WORKED(rc));
    rc = ferry_await(ferry_sqlite_exec(db, NULL, FERRY_SQLITE_NO_VALUES, NULL));
    if (rc != -EINVAL)
        CHECK(!WORKED(rc));
}

static void scenario(ferry_executor *pool) {
    ferry_sqlite *db = NULL;
    const ferry_sqlite_options options = {.executor = pool,
                                          .create = true,
                                          .readers = 2,
                                          .statements = 4,
                                          .pragmas = "PRAGMA synchronous=OFF"};
    if (!WORKED(ferry_await(ferry_sqlite_open(in_folder("a.db"), &options, &db))))
        return;
    use(db);
    WORKED(ferry_await(ferry_sqlite_close(db)));
    ferry_sqlite_free(db);
}

/* Runs it with the n-th allocation failing; true when one did. */
static bool fails_at(long n, bool on) {
    ferry_executor *pool = NULL;
    CHECK_INT(ferry_executor_new(&pool, &(ferry_executor_options){.threads_max = 3}), 0);
    long theirs = atomic_load(&sqlite_blocks);
    oom_after(n, on);
    scenario(pool);
    bool hit = oom_hit();
    oom_never();
    CHECK_INT(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    CHECK(atomic_load(&sqlite_blocks) <= theirs); /* SQLite may give back what it kept before */
    ferry_executor_free(pool);
    return hit;
}

/* All in turn would be long for one test on a busy machine: each part begins at another one. */
enum { PARTS = 4 };

static void fail_all(bool on, int part) {
    const long between = support_slow() ? 23 : 1;
    long n = part * between;
    assert_false(fails_at(INT32_MAX, false)); /* what SQLite keeps for the process is there now */
    long ours = oom_blocks();
    while (fails_at(n, on))
        n += PARTS * between;
    /* The library keeps records of threads for the next ones: a few, however many runs there
     * were. */
    assert_true(oom_blocks() <= ours + 8);
    printf("# %ld allocations\n", n);
    assert_true(n > 500);
    /* Nothing of all that is left in the file. */
    ferry_sqlite *db = open_db("a.db");
    assert_int_equal(
        number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
    close_db(db);
}

#define PART(number) \
    static void each_allocation_may_fail_##number(void **state) { \
        (void)state; \
        fail_all(false, number); \
    } \
    static void memory_may_end_anywhere_##number(void **state) { \
        (void)state; \
        fail_all(true, number); \
    }

PART(0)
PART(1)
PART(2)
PART(3)

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILES("each allocation may fail, the 1st, 5th, ...", each_allocation_may_fail_0),
        FILES("each allocation may fail, the 2nd, 6th, ...", each_allocation_may_fail_1),
        FILES("each allocation may fail, the 3rd, 7th, ...", each_allocation_may_fail_2),
        FILES("each allocation may fail, the 4th, 8th, ...", each_allocation_may_fail_3),
        FILES("memory may end anywhere, at the 1st, 5th, ...", memory_may_end_anywhere_0),
        FILES("memory may end anywhere, at the 2nd, 6th, ...", memory_may_end_anywhere_1),
        FILES("memory may end anywhere, at the 3rd, 7th, ...", memory_may_end_anywhere_2),
        FILES("memory may end anywhere, at the 4th, 8th, ...", memory_may_end_anywhere_3),
    };
    oom_install();
    count_memory();
    return SUPPORT_RUN(tests);
}

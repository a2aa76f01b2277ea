/* The SQLite bridge: a program that is killed while it writes, and the database that it leaves
 * behind. */
#include <signal.h>

#include "sqlite_test.h"

enum { ROWS_IN_ONE = 50 };

static int64_t insert_some(ferry_sqlite_tx *tx, void *arg) {
    (void)arg;
    for (int i = 0; i < ROWS_IN_ONE; i++) {
        int64_t rc = ferry_sqlite_tx_exec(tx, "INSERT INTO t(y) VALUES (randomblob(200))",
                                          FERRY_SQLITE_NO_VALUES, NULL);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Writes for ever, with a reader beside it; says each commit. */
static int64_t write_for_ever(void *arg) {
    (void)arg;
    ferry_sqlite *db = NULL;
    char byte = 0;
    int64_t rc = ferry_await(ferry_sqlite_open(in_folder("a.db"), NULL, &db));
    while (rc >= 0) {
        ferry_sqlite_rows *rows = ferry_sqlite_query(db, FERRY_SQLITE_READ, "SELECT y FROM t",
                                                     FERRY_SQLITE_NO_VALUES, NULL);
        rc = ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, insert_some, NULL, NULL));
        if (rc >= 0 && (ferry_sqlite_rows_next(rows) < 0 || write(1, &byte, 1) != 1))
            rc = -EIO;
        ferry_sqlite_rows_close(rows);
    }
    return rc;
}

/* Kills it after so many commits; returns how many it said. */
static int64_t run_and_kill(int commits) {
    char byte;
    int64_t said = 0;
    struct child child = start_child();
    while (said < commits && read(child.from, &byte, 1) == 1)
        said++;
    CHECK_INT(kill(child.pid, SIGKILL), 0);
    while (read(child.from, &byte, 1) == 1)
        said++;
    CHECK(WIFSIGNALED(wait_child(&child)));
    return said;
}

static void a_killed_writer_leaves_whole_transactions(void **state) {
    (void)state;
    ferry_sqlite *db = open_db("a.db");
    script(db, "CREATE TABLE t(x INTEGER PRIMARY KEY, y)");
    close_db(db);
    int64_t rows = 0;
    for (int commits = 1; commits <= 10; commits++) {
        int64_t said = run_and_kill(commits);
        assert_true(said >= commits);
        db = open_db("a.db");
        int64_t now = number(db, "SELECT count(*) FROM t");
        /* Whole ones, all that were said, and at most one that could not be said any more. */
        assert_int_equal(now % ROWS_IN_ONE, 0);
        assert_in_range((now - rows) / ROWS_IN_ONE, (uintmax_t)said, (uintmax_t)said + 1);
        assert_int_equal(
            number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"),
            1);
        close_db(db);
        rows = now;
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        FILES("a killed writer leaves whole transactions",
              a_killed_writer_leaves_whole_transactions),
    };
    if (is_child(argc, argv))
        return ferry_run(write_for_ever, NULL) < 0;
    return SUPPORT_RUN(tests);
}

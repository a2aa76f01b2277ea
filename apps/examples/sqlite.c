/* A database off the loop: a transaction, a stream of rows, an error that explains itself, and a
 * deadline.
 *
 * Each call is a job on the one connection that writes or on one of those that read; a task waits
 * for it without holding the loop up. */
#include <ferry.h>

#include <ferry-sqlite.h>

#include <errno.h>
#include <stdio.h>

/* Runs on a worker thread. A result >= 0 commits, an error undoes it all. */
static int64_t fill(ferry_sqlite_tx *tx, void *arg) {
    static const char *const towns[] = {"Oslo", "Bergen", "Tromsø"};
    int64_t rc = 0;
    (void)arg;
    for (int i = 0; i < 3 && rc >= 0; i++)
        rc = ferry_sqlite_tx_exec(
            tx, "INSERT INTO town(name, height) VALUES (?, ?)",
            FERRY_SQLITE_VALUES(ferry_sqlite_text(towns[i]), ferry_sqlite_double(12.5 * (i + 1))),
            NULL);
    return rc < 0 ? rc : 3;
}

static int64_t list(ferry_sqlite *db) {
    int64_t rc;
    ferry_sqlite_rows *rows = ferry_sqlite_query(
        db, FERRY_SQLITE_READ, "SELECT id, name, height FROM town WHERE height > ?",
        FERRY_SQLITE_VALUES(ferry_sqlite_int64(20)), NULL);
    while ((rc = ferry_sqlite_rows_next(rows)) > 0)
        printf("town %lld: %s, %.1f m\n", (long long)ferry_sqlite_rows_int64(rows, 0),
               ferry_sqlite_rows_text(rows, 1, NULL), ferry_sqlite_rows_double(rows, 2));
    ferry_sqlite_rows_close(rows); /* at any row */
    return rc;
}

static int64_t towns(void *arg) {
    ferry_sqlite *db;
    int64_t rc = ferry_await(ferry_sqlite_open(":memory:", NULL, &db));
    (void)arg;
    if (rc < 0) {
        printf("%s\n", ferry_errmsg());
        return rc;
    }
    rc = ferry_await(ferry_sqlite_script(
        db, "CREATE TABLE town(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, height REAL)"));
    if (rc >= 0)
        rc = ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, fill, NULL, NULL));
    printf("%lld towns\n", (long long)rc);
    if (rc >= 0)
        rc = list(db);

    /* The whole transaction is undone. */
    if (ferry_await(ferry_sqlite_transaction(db, FERRY_SQLITE_WRITE, fill, NULL, NULL)) < 0)
        printf("again: %s\n", ferry_errmsg());

    /* Without an end of its own. */
    const char *endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    int64_t late = ferry_await_for(
        ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, endless, FERRY_SQLITE_NO_VALUES, NULL), 50);
    printf("an endless one: %s\n", ferry_strerror(late));

    ferry_await(ferry_sqlite_close(db));
    ferry_sqlite_free(db);
    return rc < 0 ? rc : late == -ETIMEDOUT ? 0 : -1;
}

int main(void) {
    return ferry_run(towns, NULL) < 0;
}

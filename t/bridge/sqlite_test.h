/* What the tests of the SQLite bridge share: a folder of their own, databases in it, SQL functions
 * that stop at a gate or count, and scenarios that run as a plain thread and as a task. */
#ifndef FERRY_TEST_SQLITE_H
#define FERRY_TEST_SQLITE_H

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include <ferry.h>

#include <ferry-sqlite.h>

#include "support.h"

/* ---- A folder for each test ----------------------------------------------------------------- */

static char folder[256];

static inline int make_folder(void **state) {
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(folder, sizeof folder, "%s/ferry-sqlite-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
    char path[600];
    DIR *dir = opendir(folder);
    (void)state;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.' && unlink(path))
            rmdir(path);
    }
    if (dir)
        closedir(dir);
    return rmdir(folder);
}

#define FILES(text, function) CASE_WITH(text, function, make_folder, remove_folder)

/* A name in the folder; eight are valid at a time. */
static inline const char *in_folder(const char *name) {
    static char paths[8][512];
    static atomic_uint turn;
    char *path = paths[atomic_fetch_add(&turn, 1) % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline bool file_exists(const char *name) {
    return access(in_folder(name), F_OK) == 0;
}

/* ---- Databases ------------------------------------------------------------------------------ */

/* Opens (and makes) a database, or says why not and returns NULL. */
static inline ferry_sqlite *open_with(const char *name, ferry_sqlite_options options) {
    ferry_sqlite *db = NULL;
    options.create = !options.read_only;
    int64_t rc =
        ferry_await(ferry_sqlite_open(*name == ':' ? name : in_folder(name), &options, &db));
    if (!CHECK_INT(rc, 0))
        printf("# %s\n", ferry_errmsg());
    return db;
}

static inline ferry_sqlite *open_db(const char *name) {
    return open_with(name, (ferry_sqlite_options){0});
}

static inline void close_db(ferry_sqlite *db) {
    CHECK_INT(ferry_await(ferry_sqlite_close(db)), 0);
    ferry_sqlite_free(db);
}

static inline void script(ferry_sqlite *db, const char *sql) {
    if (!CHECK(ferry_await(ferry_sqlite_script(db, sql)) >= 0))
        printf("# %s: %s\n", sql, ferry_errmsg());
}

/* One number, seen by a reader. */
static inline int64_t number(ferry_sqlite *db, const char *sql) {
    int64_t value = -1;
    if (!CHECK_INT(ferry_await(ferry_sqlite_get_int64(db, FERRY_SQLITE_READ, sql,
                                                      FERRY_SQLITE_NO_VALUES, &value)),
                   1))
        printf("# %s: %s\n", sql, ferry_errmsg());
    return value;
}

static inline int64_t exec(ferry_sqlite *db, const char *sql) {
    return ferry_await(ferry_sqlite_exec(db, sql, FERRY_SQLITE_NO_VALUES, NULL));
}

/* An endless statement, and one that counts to n. */
#define FOR_EVER \
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
#define UP_TO(n) \
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT " #n ") SELECT x FROM c"

/* ---- Other processes ------------------------------------------------------------------------ */

/* A process of its own, that runs this program's main() with the folder as its argument: a fork
 * alone would copy threads' memory without the threads. Two pipes are its standard input and
 * output. */
struct child {
    pid_t pid;
    int to, from;
};

static const char *program; /* argv[0] */

static inline struct child start_child(void) {
    int to[2], from[2];
    CHECK(pipe(to) == 0 && pipe(from) == 0);
    fflush(stdout);
    struct child child = {fork(), to[1], from[0]};
    if (child.pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execl(program, program, folder, (char *)NULL);
        _exit(98);
    }
    close(to[0]);
    close(from[1]);
    return child;
}

/* Its wait status. */
static inline int wait_child(struct child *child) {
    int status = -1;
    close(child->to);
    CHECK_INT(waitpid(child->pid, &status, 0), child->pid);
    close(child->from);
    return status;
}

/* For main(): true in such a process. */
static inline bool is_child(int argc, char **argv) {
    program = argv[0];
    if (argc == 2)
        snprintf(folder, sizeof folder, "%s", argv[1]);
    return argc == 2;
}

/* A message that names all that it should. */
#define CHECK_SAYS(what) support_check_says(what, __FILE__, __LINE__)
static inline void support_check_says(const char *what, const char *file, int line) {
    if (!support_check(strstr(ferry_errmsg(), what) != NULL, what, file, line))
        printf("# it says: %s\n", ferry_errmsg());
}

/* ---- SQL functions: hold() stops at a gate and gives its argument; tick() counts ------------ */

struct probe {
    gate gate;
    atomic_int ticks;
    atomic_int connections;
};

#define PROBE_INIT \
    { .gate = GATE_INIT }

static inline void hold_function(sqlite3_context *context, int n, sqlite3_value **values) {
    struct probe *probe = sqlite3_user_data(context);
    (void)n;
    gate_wait(&probe->gate);
    sqlite3_result_value(context, values[0]);
}

static inline void tick_function(sqlite3_context *context, int n, sqlite3_value **values) {
    struct probe *probe = sqlite3_user_data(context);
    (void)n;
    atomic_fetch_add(&probe->ticks, 1);
    sqlite3_result_value(context, values[0]);
}

/* For options.init, with the probe as its argument. */
static inline int64_t add_functions(sqlite3 *connection, void *arg) {
    struct probe *probe = arg;
    atomic_fetch_add(&probe->connections, 1);
    sqlite3_create_function(connection, "hold", 1, SQLITE_UTF8, probe, hold_function, NULL, NULL);
    sqlite3_create_function(connection, "tick", 1, SQLITE_UTF8, probe, tick_function, NULL, NULL);
    return 0;
}

#define PROBED(p) .init = add_functions, .init_arg = (p)

/* ---- Both worlds ---------------------------------------------------------------------------- */

/* Runs a scenario as this thread, outside of any loop, and as a task. Its folder is empty each
 * time. */
static inline void in_both_worlds(ferry_fn scenario) {
    CHECK_INT(scenario(NULL), 0);
    remove_folder(NULL);
    make_folder(NULL);
    CHECK_INT(ferry_run(scenario, NULL), 0);
}

/* A connection of the test's own, as another program would have it. */
static inline sqlite3 *foreign(const char *name) {
    sqlite3 *raw = NULL;
    CHECK_INT(sqlite3_open(in_folder(name), &raw), SQLITE_OK);
    return raw;
}

static inline void foreign_exec(sqlite3 *raw, const char *sql) {
    if (!CHECK_INT(sqlite3_exec(raw, sql, NULL, NULL, NULL), SQLITE_OK))
        printf("# %s: %s\n", sql, sqlite3_errmsg(raw));
}

#endif

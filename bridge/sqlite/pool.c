/* A database: its connections, the two lines in which jobs wait for them, and its end.
 *
 * Jobs that write stand in one strand, jobs that read in another that lets as many through as there
 * are readers; both run on the threads of one pool. So a job that has come through finds a free
 * connection. It doesn't only when it was run inside another one of the same database, on its
 * thread, because that one waited for it (a waiting worker helps itself): then it fails with
 * -EDEADLK.
 *
 * States: OPENING -> OPEN -> CLOSING -> ENDING -> CLOSED; OPENING -> CLOSED when it can't be
 * opened. Closing sends a marker down each line. When both are through and no connection is taken,
 * the last one to leave closes the connections and fulfils the promises of ferry_sqlite_close(). A
 * marker that never runs (the pool was closed) counts as through when it is freed; jobs that come
 * later than that find the database closed. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "sqlite-internal.h"

#define READERS_DEFAULT 4
#define READERS_MAX 64
#define BUSY_MS_DEFAULT 5000
#define STATEMENTS_DEFAULT 64

struct ferry__sqlite_closer {
    ferry_promise *promise;
    struct ferry__sqlite_closer *next;
};

/* ---- The life of the record ----------------------------------------------------------------- */

void ferry__sqlite_ref(ferry_sqlite *db) {
    if (db)
        atomic_fetch_add_explicit(&db->refs, 1, memory_order_relaxed);
}

static void destroy(ferry_sqlite *db) {
    ferry_executor_free(db->write_line);
    ferry_executor_free(db->read_line);
    pthread_mutex_destroy(&db->lock);
    sqlite3_free(db->path);
    sqlite3_free(db);
}

void ferry__sqlite_unref(ferry_sqlite *db) {
    if (db && atomic_fetch_sub_explicit(&db->refs, 1, memory_order_acq_rel) == 1)
        destroy(db);
}

const char *ferry_sqlite_path(const ferry_sqlite *db) {
    return db ? db->path : "";
}

/* ---- Connections for jobs ------------------------------------------------------------------- */

ferry_executor *ferry__sqlite_line(ferry_sqlite *db, int mode) {
    return mode == FERRY_SQLITE_WRITE || db->single ? db->write_line : db->read_line;
}

/* After a fork the lock may be held by a thread that isn't there, and SQLite forbids to go on with
 * the parent's connections, even to close them. */
static bool is_the_parents(const ferry_sqlite *db) {
    return db->pid != getpid();
}

static int64_t belongs_to_parent(void) {
    return ferry_fail(FERRY_EFORKED, "the database belongs to the parent process: open it again in "
                                     "this one");
}

static int64_t is_closed(void) {
    return ferry_fail(FERRY_ECLOSED, "the database was closed by ferry_sqlite_close()");
}

static int64_t waits_for_itself(void) {
    return ferry_fail(
        -EDEADLK, "a function that runs on a connection of this database can't wait for another "
                  "call of it: use the connection that it was given");
}

/* Whether a job that has a connection of the class that `mode` needs is the one that asks. Under
 * lock. */
static bool holds_one(const ferry_sqlite *db, int mode, const ferry_future *self) {
    bool writer = mode == FERRY_SQLITE_WRITE || db->single;
    for (int i = 0; self && i < db->n_conns; i++)
        if (db->conns[i].taken && db->conns[i].owner == self && db->conns[i].writer == writer)
            return true;
    return false;
}

int64_t ferry__sqlite_admit(ferry_sqlite *db, int mode) {
    if (!db)
        return ferry_fail(-EINVAL, "the database is missing (NULL)");
    if (is_the_parents(db))
        return belongs_to_parent();
    if (mode != FERRY_SQLITE_READ && mode != FERRY_SQLITE_WRITE)
        return ferry_fail(-EINVAL, "mode %d is neither FERRY_SQLITE_READ nor FERRY_SQLITE_WRITE",
                          mode);
    if (mode == FERRY_SQLITE_WRITE && db->options.read_only)
        return ferry_fail(FERRY_SQLITE(SQLITE_READONLY),
                          "the database '%s' was opened with options.read_only", db->path);

    const ferry_future *self = ferry_self();
    pthread_mutex_lock(&db->lock);
    bool open = db->state == FERRY__SQLITE_OPEN;
    bool nested = holds_one(db, mode, self);
    pthread_mutex_unlock(&db->lock);
    return !open ? is_closed() : nested ? waits_for_itself() : 0;
}

int64_t ferry__sqlite_acquire(ferry_sqlite *db, int mode, struct ferry__sqlite_conn **out) {
    ferry_future *self = ferry_self();

    pthread_mutex_lock(&db->lock);
    bool open = db->state == FERRY__SQLITE_OPEN || db->state == FERRY__SQLITE_CLOSING;
    bool writer = mode == FERRY_SQLITE_WRITE || db->single;
    struct ferry__sqlite_conn *conn = writer ? &db->conns[0] : db->free_readers;
    if (!open || !conn || conn->taken) {
        pthread_mutex_unlock(&db->lock);
        return open ? waits_for_itself() : is_closed();
    }
    if (!writer)
        db->free_readers = conn->next_free;
    conn->taken = true;
    conn->owner = self;
    db->taken++;
    pthread_mutex_unlock(&db->lock);

    int64_t rc;
    if (conn->undo_first)
        ferry__sqlite_conn_settle(conn, -1);
    if (conn->undo_first)
        rc = ferry_fail(FERRY_SQLITE(SQLITE_ABORT),
                        "the database in memory has a transaction open that can't be rolled back");
    else
        rc = conn->raw ? 0 : ferry__sqlite_conn_open(conn, false);
    if (rc < 0) {
        ferry__sqlite_release(conn);
        return rc;
    }
    *out = conn;
    return 0;
}

/* True for one caller: the one that has to end it. Under lock. */
static bool is_over(ferry_sqlite *db) {
    if (db->state != FERRY__SQLITE_CLOSING || db->lines > 0 || db->taken > 0)
        return false;
    db->state = FERRY__SQLITE_ENDING;
    return true;
}

/* The readers first: the last connection to go brings the write-ahead log into the file. */
static void end(ferry_sqlite *db) {
    for (int i = db->n_conns - 1; i >= 0; i--)
        ferry__sqlite_conn_close(&db->conns[i]);

    pthread_mutex_lock(&db->lock);
    db->state = FERRY__SQLITE_CLOSED;
    struct ferry__sqlite_closer *closer = db->closers;
    db->closers = NULL;
    pthread_mutex_unlock(&db->lock);

    while (closer) {
        struct ferry__sqlite_closer *next = closer->next;
        ferry_promise_set(closer->promise, 0); /* whoever waited may have left */
        ferry_promise_drop(closer->promise);
        sqlite3_free(closer);
        closer = next;
    }
}

void ferry__sqlite_release(struct ferry__sqlite_conn *conn) {
    ferry_sqlite *db = conn->db;

    pthread_mutex_lock(&db->lock);
    conn->taken = false;
    conn->owner = NULL;
    if (!conn->writer) {
        conn->next_free = db->free_readers;
        db->free_readers = conn;
    }
    db->taken--;
    bool over = is_over(db);
    pthread_mutex_unlock(&db->lock);
    if (over)
        end(db);
}

void ferry__sqlite_enlist(ferry_sqlite *db, struct ferry__sqlite_stream *stream) {
    pthread_mutex_lock(&db->lock);
    stream->next = db->streams;
    stream->prev = &db->streams;
    if (stream->next)
        stream->next->prev = &stream->next;
    db->streams = stream;
    pthread_mutex_unlock(&db->lock);
}

void ferry__sqlite_delist(ferry_sqlite *db, struct ferry__sqlite_stream *stream) {
    pthread_mutex_lock(&db->lock);
    *stream->prev = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    pthread_mutex_unlock(&db->lock);
}

/* ---- Open ----------------------------------------------------------------------------------- */

static int64_t check_options(const char *path, const ferry_sqlite_options *o) {
    static const char *const modes[] = {"WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"};
    size_t mode = 0;

    if (!path)
        return ferry_fail(-EINVAL, "the path of the database is missing (NULL)");
    if (o->readers < 1 || o->readers > READERS_MAX)
        return ferry_fail(-EINVAL, "options.readers is %d; 1 to %d is possible", o->readers,
                          READERS_MAX);
    if (o->synchronous < FERRY_SQLITE_SYNC_DEFAULT || o->synchronous > FERRY_SQLITE_SYNC_EXTRA)
        return ferry_fail(-EINVAL,
                          "options.synchronous is %d, which isn't one of "
                          "enum ferry_sqlite_synchronous",
                          o->synchronous);
    while (mode < sizeof modes / sizeof modes[0] && sqlite3_stricmp(modes[mode], o->journal_mode))
        mode++;
    if (mode == sizeof modes / sizeof modes[0])
        return ferry_fail(-EINVAL,
                          "options.journal_mode is \"%s\"; WAL, DELETE, TRUNCATE, PERSIST, MEMORY "
                          "and OFF are possible",
                          o->journal_mode);
    if (o->full != FERRY_FULL_WAIT && o->full != FERRY_FULL_REFUSE)
        return ferry_fail(-EINVAL, "options.full is %d, which isn't one of enum ferry_full_policy",
                          o->full);
    if (o->read_only && o->create)
        return ferry_fail(-EINVAL,
                          "options.create makes a file, and options.read_only writes nothing");
    if (o->read_only && (!*path || !strcmp(path, ":memory:")))
        return ferry_fail(-EINVAL,
                          "a database in memory is empty: options.read_only makes no sense");
    if (!sqlite3_threadsafe())
        return ferry_fail(-ENOTSUP, "this SQLite was built without threads (SQLITE_THREADSAFE=0)");
    return 0;
}

static void set_defaults(ferry_sqlite_options *o) {
    o->readers = o->readers ? o->readers : READERS_DEFAULT;
    o->busy_ms = o->busy_ms ? o->busy_ms : BUSY_MS_DEFAULT;
    o->journal_mode = o->journal_mode ? o->journal_mode : "WAL";
    o->statements = o->statements ? o->statements : STATEMENTS_DEFAULT;
}

static const char *take_string(char **place, const char *string) {
    if (!string)
        return NULL;
    size_t size = strlen(string) + 1;
    char *copy = memcpy(*place, string, size);
    *place += size;
    return copy;
}

static size_t string_size(const char *string) {
    return string ? strlen(string) + 1 : 0;
}

/* SQLite may have been built to take names that begin with "file:" for URIs. */
static char *plain_path(const char *path) {
    return sqlite3_mprintf("%s%s", strncmp(path, "file:", 5) ? "" : "./", path);
}

/* A database that isn't open. The options' strings stand behind the connections. */
static ferry_sqlite *db_new(const char *path, const ferry_sqlite_options *options) {
    int n_conns = options->readers + 1;
    size_t size = sizeof(ferry_sqlite) + (size_t)n_conns * sizeof(struct ferry__sqlite_conn);
    ferry_sqlite *db = sqlite3_malloc64(size + string_size(options->journal_mode) +
                                        string_size(options->pragmas) + string_size(options->vfs));
    if (!db)
        return NULL;
    memset(db, 0, size);
    db->path = plain_path(path);
    if (!db->path || pthread_mutex_init(&db->lock, NULL)) {
        sqlite3_free(db->path);
        sqlite3_free(db);
        return NULL;
    }
    char *strings = (char *)db + size;
    db->options = *options;
    db->options.journal_mode = take_string(&strings, options->journal_mode);
    db->options.pragmas = take_string(&strings, options->pragmas);
    db->options.vfs = take_string(&strings, options->vfs);
    atomic_init(&db->refs, 1);
    db->pid = getpid();
    db->single = !*path || !strcmp(path, ":memory:");
    db->n_conns = n_conns;
    for (int i = n_conns - 1; i >= 0; i--) {
        struct ferry__sqlite_conn *conn = &db->conns[i];
        conn->db = db;
        conn->writer = i == 0;
        if (i > 0) {
            conn->next_free = db->free_readers;
            db->free_readers = conn;
        }
    }
    return db;
}

static int64_t make_lines(ferry_sqlite *db) {
    ferry_executor_options line = {.name = "sqlite-write",
                                   .threads_max = 1,
                                   .queue_max = db->options.queue_max,
                                   .full = db->options.full};
    int rc = ferry_strand_new(&db->write_line, db->options.executor, &line);
    if (rc < 0)
        return rc;
    line.name = "sqlite-read";
    line.threads_max = db->options.readers;
    return ferry_strand_new(&db->read_line, db->options.executor, &line);
}

/* The box of the job that opens; the program's reference is in it until it is delivered. */
struct open_call {
    ferry_sqlite *db;
    ferry_sqlite **out;
};

static int64_t open_first(ferry_sqlite *db) {
    struct ferry__sqlite_conn *conn = db->options.read_only ? db->free_readers : &db->conns[0];
    int64_t rc = ferry__sqlite_conn_open(conn, true);
    if (rc < 0)
        return rc;
    /* The program may change its folder before the other connections are opened. */
    const char *full = sqlite3_db_filename(conn->raw, "main");
    char *path = sqlite3_mprintf("%s", full ? full : "");
    if (!path) {
        ferry__sqlite_conn_close(conn);
        return ferry__sqlite_no_memory();
    }
    sqlite3_free(db->path);
    db->path = path;
    return 0;
}

static int64_t run_open(void *arg) {
    struct open_call *call = arg;
    int64_t rc = open_first(call->db);

    pthread_mutex_lock(&call->db->lock);
    call->db->state = rc < 0 ? FERRY__SQLITE_CLOSED : FERRY__SQLITE_OPEN;
    pthread_mutex_unlock(&call->db->lock);
    return rc;
}

static void deliver_open(void *arg, int64_t result) {
    struct open_call *call = arg;
    if (result < 0)
        return;
    *call->out = call->db;
    call->db = NULL;
}

static void free_open(void *arg) {
    struct open_call *call = arg;
    ferry_sqlite_free(call->db);
    sqlite3_free(call);
}

ferry_future *ferry_sqlite_open(const char *path, const ferry_sqlite_options *given,
                                ferry_sqlite **out) {
    ferry_sqlite_options options = given ? *given : (ferry_sqlite_options){0};
    ferry_job_options job = {.name = "sqlite open", .deliver = deliver_open, .arg_free = free_open};

    ferry__sqlite_register_errors();
    set_defaults(&options);
    int64_t rc = check_options(path, &options);
    if (rc == 0 && !out)
        rc = ferry_fail(-EINVAL, "there is no place for the database (NULL)");
    if (rc < 0)
        return ferry__sqlite_failed(rc);

    ferry_sqlite *db = db_new(path, &options);
    struct open_call *call = db ? sqlite3_malloc64(sizeof *call) : NULL;
    ferry_future *future = NULL;
    if (call) {
        *call = (struct open_call){db, out};
        rc = make_lines(db);
        if (rc == 0)
            future = ferry_submit_with(db->write_line, run_open, call, &job);
        else if (rc != -ENOMEM)
            future = ferry__sqlite_failed(rc);
    }
    if (!future || rc < 0) {
        sqlite3_free(call);
        ferry__sqlite_unref(db);
    }
    return future;
}

/* ---- Close ---------------------------------------------------------------------------------- */

struct marker {
    ferry_sqlite *db; /* a reference */
    bool ran;
};

static void line_is_through(ferry_sqlite *db) {
    pthread_mutex_lock(&db->lock);
    db->lines--;
    bool over = is_over(db);
    pthread_mutex_unlock(&db->lock);
    if (over)
        end(db);
}

static int64_t run_marker(void *arg) {
    struct marker *marker = arg;
    marker->ran = true;
    line_is_through(marker->db);
    return 0;
}

static void free_marker(void *arg) {
    struct marker *marker = arg;
    if (!marker->ran)
        line_is_through(marker->db);
    ferry__sqlite_unref(marker->db);
    sqlite3_free(marker);
}

static void send_marker(ferry_sqlite *db, ferry_executor *line) {
    ferry_job_options options = {.name = "sqlite close", .arg_free = free_marker};
    struct marker *marker = sqlite3_malloc64(sizeof *marker);
    ferry_future *future = NULL;

    if (marker) {
        ferry__sqlite_ref(db);
        *marker = (struct marker){db, false};
        future = ferry_submit_with(line, run_marker, marker, &options);
    }
    if (future && ferry_done(future)) {
        ferry_await(future); /* refused by a closed pool: nobody needs to read about that */
    } else if (future) {
        ferry_detach(future);
    } else {
        /* Out of memory: what still stands in this line will find the database closed. */
        if (marker)
            ferry__sqlite_unref(db);
        sqlite3_free(marker);
        line_is_through(db);
    }
}

/* From OPEN to CLOSING, once. Streams end, because their consumer may be the one that closes. */
static void begin_closing(ferry_sqlite *db) {
    pthread_mutex_lock(&db->lock);
    bool first = db->state == FERRY__SQLITE_OPEN;
    if (first) {
        db->state = FERRY__SQLITE_CLOSING;
        db->lines = 2;
        for (struct ferry__sqlite_stream *s = db->streams; s; s = s->next)
            ferry_queue_close(s->queue, false);
    }
    pthread_mutex_unlock(&db->lock);
    if (!first)
        return;

    /* A cancelled caller closes like any other. */
    ferry_scope shield = FERRY_SCOPE_INIT;
    bool shielded = ferry_shield_open(&shield, FERRY_FOREVER) == 0;
    send_marker(db, db->write_line);
    send_marker(db, db->read_line);
    if (shielded)
        ferry_scope_close(&shield, 0);
}

ferry_future *ferry_sqlite_close(ferry_sqlite *db) {
    if (!db)
        return ferry__sqlite_failed(ferry_fail(-EINVAL, "the database is missing (NULL)"));
    if (is_the_parents(db))
        return ferry__sqlite_failed(belongs_to_parent());
    ferry_future *future = NULL;
    struct ferry__sqlite_closer *closer = sqlite3_malloc64(sizeof *closer);
    ferry_promise *promise = closer ? ferry_promise_new(&future, "sqlite close") : NULL;
    if (!promise) {
        sqlite3_free(closer);
        return NULL;
    }
    *closer = (struct ferry__sqlite_closer){promise, NULL};

    pthread_mutex_lock(&db->lock);
    bool closed = db->state == FERRY__SQLITE_CLOSED;
    if (!closed) {
        closer->next = db->closers;
        db->closers = closer;
    }
    pthread_mutex_unlock(&db->lock);

    if (closed) {
        ferry_promise_set(promise, 0);
        ferry_promise_drop(promise);
        sqlite3_free(closer);
    } else {
        begin_closing(db);
    }
    return future;
}

void ferry_sqlite_free(ferry_sqlite *db) {
    if (!db || is_the_parents(db))
        return;
    begin_closing(db);
    ferry__sqlite_unref(db);
}

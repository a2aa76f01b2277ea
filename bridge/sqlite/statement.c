/* Statements: the text and values of a call, and the prepared statements that a connection keeps.
 *
 * The cache is a list by last use; it is short, and a hash makes a step along it cheap. A
 * statement that is busy (rows are being read from it, or it was given to a transaction's
 * function) is neither shared nor evicted: the same SQL then gets a second statement, which
 * isn't kept. Whoever gives one back resets it and clears its values, because these may point
 * into the caller's memory. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "sqlite-internal.h"

#define VALUES_MAX 250000 /* the highest SQLITE_MAX_VARIABLE_NUMBER in use */

/* ---- Text and values ------------------------------------------------------------------------ */

static bool has_bytes(const ferry_sqlite_value *value) {
    return value->type == FERRY_SQLITE_TEXT || value->type == FERRY_SQLITE_BLOB;
}

int64_t ferry__sqlite_check(const char *sql, const ferry_sqlite_value *values, size_t n) {
    if (!sql)
        return ferry_fail(-EINVAL, "the SQL is missing (NULL)");
    if (n > VALUES_MAX || (n > 0 && !values))
        return ferry_fail(-EINVAL, "%zu values can't be given to a statement", n);
    for (size_t i = 0; i < n; i++) {
        if (values[i].type < FERRY_SQLITE_INTEGER || values[i].type > FERRY_SQLITE_ZEROBLOB)
            return ferry_fail(-EINVAL,
                              "value %zu has no type: make it with ferry_sqlite_int64() "
                              "or one of its sisters",
                              i + 1);
        if (!has_bytes(&values[i]) && values[i].type != FERRY_SQLITE_ZEROBLOB)
            continue;
        if (values[i].length > INT_MAX)
            return ferry_fail(FERRY_SQLITE(SQLITE_TOOBIG),
                              "value %zu has %zu bytes; SQLite takes %d", i + 1, values[i].length,
                              INT_MAX);
        if (has_bytes(&values[i]) && values[i].length > 0 && !values[i].as.data)
            return ferry_fail(-EINVAL, "value %zu has a length but no bytes (NULL)", i + 1);
    }
    return 0;
}

/* Values stand behind the head, so that they are aligned; the bytes stand behind them. */
static size_t values_at(size_t head) {
    const size_t align = _Alignof(max_align_t);
    return (head + align - 1) / align * align;
}

static bool copies(const ferry_sqlite_value *value) {
    return has_bytes(value) && !value->borrowed;
}

size_t ferry__sqlite_copy_size(size_t head, const char *sql, const ferry_sqlite_value *values,
                               size_t n) {
    size_t size = values_at(head) + n * sizeof *values + strlen(sql) + 1;
    for (size_t i = 0; i < n; i++)
        size += copies(&values[i]) ? values[i].length : 0;
    return size;
}

struct ferry__sqlite_query ferry__sqlite_copy(void *block, size_t head, const char *sql,
                                              const ferry_sqlite_value *values, size_t n) {
    ferry_sqlite_value *copy = (void *)((char *)block + values_at(head));
    char *bytes = (char *)(copy + n);
    size_t size = strlen(sql) + 1;
    struct ferry__sqlite_query query = {memcpy(bytes, sql, size), copy, n};

    bytes += size;
    for (size_t i = 0; i < n; i++) {
        copy[i] = values[i];
        if (!copies(&copy[i]))
            continue;
        if (copy[i].length > 0)
            memcpy(bytes, values[i].as.data, copy[i].length);
        copy[i].as.data = bytes;
        bytes += copy[i].length;
    }
    return query;
}

static int bind_one(sqlite3_stmt *raw, int i, const ferry_sqlite_value *value, bool keep) {
    sqlite3_destructor_type life = keep && !value->borrowed ? SQLITE_TRANSIENT : SQLITE_STATIC;
    /* NULL would be the SQL NULL. */
    const void *data = value->length > 0 ? value->as.data : "";

    switch (value->type) {
    case FERRY_SQLITE_INTEGER:
        return sqlite3_bind_int64(raw, i, value->as.integer);
    case FERRY_SQLITE_FLOAT:
        return sqlite3_bind_double(raw, i, value->as.real);
    case FERRY_SQLITE_TEXT:
        return sqlite3_bind_text64(raw, i, data, value->length, life, SQLITE_UTF8);
    case FERRY_SQLITE_BLOB:
        return sqlite3_bind_blob64(raw, i, data, value->length, life);
    case FERRY_SQLITE_ZEROBLOB:
        return sqlite3_bind_zeroblob64(raw, i, value->length);
    default:
        return sqlite3_bind_null(raw, i);
    }
}

static int64_t bind_all(struct ferry__sqlite_conn *conn, sqlite3_stmt *raw,
                        const struct ferry__sqlite_query *query, bool keep) {
    int wanted = sqlite3_bind_parameter_count(raw);
    char excerpt[80];

    if ((size_t)wanted != query->n)
        return ferry_fail(-EINVAL,
                          "the statement has %d parameter%s, and %zu value%s given: \"%s\"", wanted,
                          wanted == 1 ? "" : "s", query->n, query->n == 1 ? " was" : "s were",
                          ferry__sqlite_shorten(excerpt, sizeof excerpt, query->sql, 0));
    for (size_t i = 0; i < query->n; i++) {
        int code = bind_one(raw, (int)i + 1, &query->values[i], keep);
        if (code != SQLITE_OK)
            return ferry_sqlite_fail(conn->raw, code, query->sql);
    }
    return 0;
}

/* ---- The cache ------------------------------------------------------------------------------ */

/* FNV-1a. */
static uint64_t hash_of(const char *sql, size_t *length) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    const char *c = sql;
    for (; *c; c++)
        hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    *length = (size_t)(c - sql);
    return hash;
}

static void unlink_statement(struct ferry__sqlite_cache *cache, struct ferry__sqlite_statement *s) {
    *(s->newer ? &s->newer->older : &cache->newest) = s->older;
    *(s->older ? &s->older->newer : &cache->oldest) = s->newer;
    s->newer = s->older = NULL;
}

static void link_newest(struct ferry__sqlite_cache *cache, struct ferry__sqlite_statement *s) {
    s->older = cache->newest;
    *(s->older ? &s->older->newer : &cache->oldest) = s;
    cache->newest = s;
}

static void drop(struct ferry__sqlite_statement *s) {
    sqlite3_finalize(s->raw); /* repeats an old error, which was reported when it came */
    sqlite3_free(s);
}

/* Lets those go that weren't used for longest. More than `max` stay only while they are busy. */
static void evict(struct ferry__sqlite_cache *cache) {
    struct ferry__sqlite_statement *old = cache->oldest;
    while (old && cache->count > cache->max) {
        struct ferry__sqlite_statement *newer = old->newer;
        if (!old->busy) {
            unlink_statement(cache, old);
            drop(old);
            cache->count--;
        }
        old = newer;
    }
}

void ferry__sqlite_cache_clear(struct ferry__sqlite_conn *conn) {
    struct ferry__sqlite_statement *s;
    while ((s = conn->cache.newest)) {
        unlink_statement(&conn->cache, s);
        drop(s);
    }
    conn->cache.count = 0;
}

/* Comments and empty statements may follow; anything else would be forgotten silently. */
static int64_t nothing_follows(struct ferry__sqlite_conn *conn, const char *sql, const char *tail) {
    while (*tail) {
        sqlite3_stmt *more = NULL;
        const char *next = NULL;
        int code = sqlite3_prepare_v3(conn->raw, tail, -1, 0, &more, &next);
        sqlite3_finalize(more);
        if (code == SQLITE_NOMEM)
            return ferry_sqlite_fail(conn->raw, code, sql);
        if (code != SQLITE_OK || more)
            return ferry_fail(-EINVAL,
                              "a second statement begins at byte %zu: run them one by one, or "
                              "all of them with ferry_sqlite_script()",
                              (size_t)(tail - sql));
        tail = next;
    }
    return 0;
}

static int64_t prepare(struct ferry__sqlite_conn *conn, const char *sql, uint64_t hash,
                       size_t length, struct ferry__sqlite_statement **out) {
    struct ferry__sqlite_statement *s = sqlite3_malloc64(sizeof *s + length + 1);
    const char *tail = NULL;

    if (!s)
        return ferry__sqlite_no_memory();
    memset(s, 0, sizeof *s);
    memcpy(s->sql, sql, length + 1);
    s->hash = hash;
    int code =
        sqlite3_prepare_v3(conn->raw, s->sql, length < INT_MAX ? (int)length + 1 : -1,
                           conn->cache.max > 0 ? SQLITE_PREPARE_PERSISTENT : 0, &s->raw, &tail);
    int64_t rc = 0;
    if (code != SQLITE_OK)
        rc = ferry_sqlite_fail(conn->raw, code, sql);
    else if (!s->raw)
        rc = ferry_fail(-EINVAL,
                        "there is no statement in the SQL, only comments or nothing at all");
    else
        rc = nothing_follows(conn, s->sql, tail);
    if (rc < 0) {
        drop(s);
        return rc;
    }
    s->busy = true;
    link_newest(&conn->cache, s);
    conn->cache.count++;
    evict(&conn->cache);
    *out = s;
    return 0;
}

/* A statement for the SQL that is the caller's now: an idle one, a new one, or, where `held` is
 * wanted, the one that was given away. */
static int64_t find(struct ferry__sqlite_conn *conn, const char *sql, bool held,
                    struct ferry__sqlite_statement **out) {
    size_t length;
    uint64_t hash = hash_of(sql, &length);
    struct ferry__sqlite_statement *s = conn->cache.newest;

    for (; s; s = s->older)
        if (s->hash == hash && (!s->busy || (held && s->held)) && !strcmp(s->sql, sql))
            break;
    if (!s)
        return prepare(conn, sql, hash, length, out);
    if (s != conn->cache.newest) {
        unlink_statement(&conn->cache, s);
        link_newest(&conn->cache, s);
    }
    s->busy = true;
    *out = s;
    return 0;
}

void ferry__sqlite_end_statement(struct ferry__sqlite_conn *conn,
                                 struct ferry__sqlite_statement *s) {
    sqlite3_reset(s->raw); /* repeats the error of the last step */
    sqlite3_clear_bindings(s->raw);
    s->busy = s->held = false;
    evict(&conn->cache);
}

void ferry__sqlite_end_held(struct ferry__sqlite_conn *conn) {
    struct ferry__sqlite_statement *s = conn->cache.newest;
    while (s) {
        struct ferry__sqlite_statement *older = s->older;
        if (s->held)
            ferry__sqlite_end_statement(conn, s);
        s = older;
    }
}

int64_t ferry__sqlite_begin_statement(struct ferry__sqlite_conn *conn,
                                      const struct ferry__sqlite_query *query, bool copy,
                                      struct ferry__sqlite_statement **out) {
    struct ferry__sqlite_statement *s = NULL;
    int64_t rc = find(conn, query->sql, false, &s);
    if (rc < 0)
        return rc;
    rc = bind_all(conn, s->raw, query, copy);
    if (rc < 0) {
        ferry__sqlite_end_statement(conn, s);
        return rc;
    }
    *out = s;
    return 0;
}

int64_t ferry__sqlite_prepare_held(struct ferry__sqlite_conn *conn, const char *sql,
                                   struct ferry__sqlite_statement **out) {
    struct ferry__sqlite_statement *s = NULL;
    int64_t rc = find(conn, sql, true, &s);
    if (rc < 0)
        return rc;
    s->held = true;
    *out = s;
    return 0;
}

/* ---- Running them --------------------------------------------------------------------------- */

static int64_t changed_by_last(sqlite3 *raw) {
#if SQLITE_VERSION_NUMBER >= 3037000
    return sqlite3_changes64(raw);
#else
    return sqlite3_changes(raw);
#endif
}

static int64_t changed_by_all(sqlite3 *raw) {
#if SQLITE_VERSION_NUMBER >= 3037000
    return sqlite3_total_changes64(raw);
#else
    return sqlite3_total_changes(raw);
#endif
}

/* Steps to the end. *changes: of this statement; SQLite's own count is stale after one that isn't
 * an INSERT, UPDATE or DELETE. */
static int64_t run_to_end(struct ferry__sqlite_conn *conn, sqlite3_stmt *raw, const char *sql,
                          size_t base, int64_t *changes) {
    int64_t before = changed_by_all(conn->raw);
    int code;

    while ((code = sqlite3_step(raw)) == SQLITE_ROW) {
        int64_t rc = ferry__sqlite_conn_check(conn);
        if (rc < 0)
            return rc;
    }
    if (code != SQLITE_DONE)
        return ferry__sqlite_fail_at(conn->raw, code, sql, base);
    *changes = changed_by_all(conn->raw) == before ? 0 : changed_by_last(conn->raw);
    return 0;
}

int64_t ferry__sqlite_exec_on(struct ferry__sqlite_conn *conn,
                              const struct ferry__sqlite_query *query,
                              ferry_sqlite_result *result) {
    struct ferry__sqlite_statement *s = NULL;
    int64_t changes = 0;
    int64_t rc = ferry__sqlite_begin_statement(conn, query, false, &s);
    if (rc < 0)
        return rc;
    rc = run_to_end(conn, s->raw, query->sql, 0, &changes);
    ferry__sqlite_end_statement(conn, s);
    if (rc < 0)
        return rc;
    if (result)
        *result = (ferry_sqlite_result){changes, sqlite3_last_insert_rowid(conn->raw)};
    return changes;
}

int64_t ferry__sqlite_script_on(struct ferry__sqlite_conn *conn, const char *sql) {
    const char *at = sql;
    int64_t total = 0;

    while (*at) {
        sqlite3_stmt *raw = NULL;
        const char *tail = NULL;
        int64_t changes = 0, rc = ferry__sqlite_conn_check(conn);
        if (rc < 0)
            return rc;
        if (conn->in_tx && sqlite3_get_autocommit(conn->raw))
            return ferry_fail(FERRY_SQLITE(SQLITE_MISUSE),
                              "the script ended its transaction before byte %zu",
                              (size_t)(at - sql));
        int code = sqlite3_prepare_v3(conn->raw, at, -1, 0, &raw, &tail);
        if (code != SQLITE_OK)
            return ferry__sqlite_fail_at(conn->raw, code, sql, (size_t)(at - sql));
        if (raw && sqlite3_bind_parameter_count(raw) > 0)
            rc = ferry_fail(-EINVAL,
                            "the statement at byte %zu of the script has parameters: run it with "
                            "ferry_sqlite_exec()",
                            (size_t)(at - sql));
        else if (raw)
            rc = run_to_end(conn, raw, sql, (size_t)(at - sql), &changes);
        sqlite3_finalize(raw);
        if (rc < 0)
            return rc;
        total += changes;
        at = tail;
    }
    return total;
}

/* Takes the first value of the row that the statement stands on: 1, 0 for NULL. */
static int64_t take_number(sqlite3_stmt *raw, const char *sql, int type,
                           ferry_sqlite_value *value) {
    int is = sqlite3_column_type(raw, 0);
    char excerpt[80];

    if (is == SQLITE_NULL)
        return 0;
    if (is != SQLITE_INTEGER && is != SQLITE_FLOAT)
        return ferry_fail(FERRY_SQLITE(SQLITE_MISMATCH),
                          "a number was wanted, and this gave %s: \"%s\"",
                          is == SQLITE_TEXT ? "text" : "a blob",
                          ferry__sqlite_shorten(excerpt, sizeof excerpt, sql, 0));
    *value = type == FERRY_SQLITE_INTEGER ? ferry_sqlite_int64(sqlite3_column_int64(raw, 0))
                                          : ferry_sqlite_double(sqlite3_column_double(raw, 0));
    return 1;
}

int64_t ferry__sqlite_get_on(struct ferry__sqlite_conn *conn,
                             const struct ferry__sqlite_query *query, int type,
                             ferry_sqlite_value *value) {
    struct ferry__sqlite_statement *s = NULL;
    int64_t rc = ferry__sqlite_begin_statement(conn, query, false, &s);
    if (rc < 0)
        return rc;
    int code = sqlite3_step(s->raw);
    if (code == SQLITE_ROW)
        rc = take_number(s->raw, query->sql, type, value);
    else
        rc = ferry_sqlite_fail(conn->raw, code, query->sql); /* 0 when there is no row */
    ferry__sqlite_end_statement(conn, s);
    return rc;
}

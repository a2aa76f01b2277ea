/* --duplicates. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ferry/error.h>
#include <ferry/executor.h>
#include <ferry/future.h>

#include "duplicates.h"
#include "parcel.h"
#include "text.h"

/* SQLite sorts with a bounded cache and temporary files, so the catalogue may be any size. Most
 * files have no double: what is dear is only done for those that may have one. The order of the
 * last join is forced: each file looks for its group, by an index that SQLite makes for it. */
#define PICK_SQL \
    "WITH picked AS NOT MATERIALIZED (SELECT sha256, size, path, dev, inode FROM files" \
    " WHERE type = 'f' AND size > 0 AND sha256 IS NOT NULL"
#define GROUP_SQL \
    "), again AS MATERIALIZED" \
    " (SELECT sha256 FROM picked GROUP BY sha256 HAVING count(*) > 1)," \
    " groups AS MATERIALIZED" \
    " (SELECT sha256, max(size) AS size, count(DISTINCT dev || ':' || inode) AS copies" \
    " FROM picked WHERE sha256 IN again GROUP BY sha256 HAVING copies > 1)" \
    " SELECT groups.sha256, groups.size, copies, path, dev, inode" \
    " FROM picked CROSS JOIN groups ON picked.sha256 = groups.sha256" \
    " ORDER BY (copies - 1) * groups.size DESC, groups.sha256, dev, inode, path"
#define BELOW_SQL "path = ? OR (path >= ? AND path < ?) OR (path >= ? AND path < ?)"
#define BELOW_VALUES 5

struct listing {
    struct report *report;
    ferry_sqlite *db;
    char *sql;
    struct range *ranges; /* of the folders, what is below */
    ferry_sqlite_value *values;
    size_t n_values;

    char group[SHA256_HEX + 1]; /* that is being printed; "": none yet */
    bool filled;                /* it has a file already */
    uint64_t dev, inode;        /* of the file before in the group */
};

/* ---- The query ------------------------------------------------------------------------------- */

static void write_sql(FILE *out, size_t n_roots) {
    fputs(PICK_SQL, out);
    for (size_t i = 0; i < n_roots; i++)
        fprintf(out, "%s%s", i == 0 ? " AND (" : " OR ", BELOW_SQL);
    fputs(n_roots > 0 ? ")" GROUP_SQL : GROUP_SQL, out);
}

static int64_t prepare(struct listing *l) {
    const struct options *options = l->report->options;
    size_t size, n = options->n_roots;
    FILE *out = open_memstream(&l->sql, &size);
    bool fine = out != NULL;
    if (out) {
        write_sql(out, n);
        fine = fclose(out) == 0;
    }
    l->ranges = calloc(n + 1, sizeof *l->ranges);
    l->values = calloc(n + 1, BELOW_VALUES * sizeof *l->values);
    fine = fine && l->ranges && l->values;
    for (size_t i = 0; i < n && fine; i++) {
        const char *root = options->roots[i];
        struct range *range = &l->ranges[i];
        fine = range_below(range, root, strlen(root));
        if (!fine)
            break;
        l->values[l->n_values++] = catalogue_path(root, strlen(root));
        for (enum range_kind kind = RANGE_TEXT; kind < RANGE_KINDS; kind++) {
            l->values[l->n_values++] = range_value(range, range->from, kind);
            l->values[l->n_values++] = range_value(range, range->to, kind);
        }
    }
    return fine ? 0 : ferry_fail(-ENOMEM, "out of memory for the search for duplicates");
}

static void clean_up(struct listing *l) {
    for (size_t i = 0; l->ranges && i < l->report->options->n_roots; i++)
        range_free(&l->ranges[i]);
    free(l->ranges);
    free(l->values);
    free(l->sql);
}

/* ---- Print ----------------------------------------------------------------------------------- */

static void end_group(struct listing *l) {
    if (*l->group && l->report->options->json)
        fputs("]}", stdout);
}

/* A group may be as big as the catalogue: it is written as it comes. */
static void begin_group(struct listing *l, ferry_sqlite_rows *rows, const char *sha256) {
    uint64_t size = (uint64_t)ferry_sqlite_rows_int64(rows, 1);
    uint64_t copies = (uint64_t)ferry_sqlite_rows_int64(rows, 2), wasted = (copies - 1) * size;
    struct waste *waste = &l->report->waste;
    char each[TEXT_ROOM], all[TEXT_ROOM], number[TEXT_ROOM];
    end_group(l);
    snprintf(l->group, sizeof l->group, "%s", sha256);
    l->filled = false;
    waste->bytes += wasted;
    waste->groups++;
    if (l->report->options->json) {
        report_separate(l->report);
        printf("{\"sha256\":\"%s\",\"size\":%" PRIu64 ",\"copies\":%" PRIu64
               ",\"wasted_bytes\":%" PRIu64 ",\"files\":[",
               l->group, size, copies, wasted);
    } else {
        printf("%s%s copies of %s, %s wasted  (%.16s)\n", waste->groups > 1 ? "\n" : "",
               text_count(number, copies), text_bytes(each, size), text_bytes(all, wasted),
               l->group);
    }
}

static int64_t print_file_json(struct listing *l, const char *path, size_t size, bool again) {
    json_t *file = json_object();
    int rc = report_set_path(file, path, size);
    if (again)
        rc |= json_object_set_new(file, "hard_link", json_true());
    if (rc == 0) {
        fputs(l->filled ? "," : "", stdout);
        return report_json(file);
    }
    json_decref(file);
    return ferry_fail(-ENOMEM, "out of memory for the report");
}

static int64_t print_file(struct listing *l, ferry_sqlite_rows *rows) {
    size_t size;
    const char *path = ferry_sqlite_rows_text(rows, 3, &size);
    uint64_t dev = (uint64_t)ferry_sqlite_rows_int64(rows, 4);
    uint64_t inode = (uint64_t)ferry_sqlite_rows_int64(rows, 5);
    bool again = l->filled && dev == l->dev && inode == l->inode;
    int64_t rc = 0;
    l->report->waste.files++;
    if (l->report->options->json) {
        rc = print_file_json(l, path, size, again);
    } else {
        fputs("    ", stdout);
        text_write_path(stdout, path, size);
        puts(again ? "  (hard link to the one before)" : "");
    }
    l->dev = dev;
    l->inode = inode;
    l->filled = true;
    return rc;
}

/* The catalogue may have been written to by anybody; what is printed as JSON is digits. */
static bool is_sha256(const char *text) {
    return text && strlen(text) == SHA256_HEX && strspn(text, "0123456789abcdef") == SHA256_HEX;
}

static int64_t print_row(struct listing *l, ferry_sqlite_rows *rows) {
    const char *sha256 = ferry_sqlite_rows_text(rows, 0, NULL);
    if (!is_sha256(sha256))
        return 0;
    if (strcmp(sha256, l->group) != 0)
        begin_group(l, rows, sha256);
    return print_file(l, rows);
}

/* A job: it waits for rows, and for whoever reads what it prints. */
static int64_t list(void *arg) {
    struct listing *l = arg;
    int64_t rc = 0;
    ferry_sqlite_rows *rows =
        ferry_sqlite_query(l->db, FERRY_SQLITE_READ, l->sql, l->values, l->n_values, NULL);
    console_begin_output(l->report->console);
    while (rc == 0 && (rc = ferry_sqlite_rows_next(rows)) == 1)
        rc = ferror(stdout) ? FERRY_END : print_row(l, rows);
    end_group(l);
    int64_t written = console_end_output(l->report->console);
    int64_t closed = ferry_sqlite_rows_close(rows);
    return written < 0 ? written : rc < 0 ? rc : closed;
}

int64_t duplicates_run(struct report *report, const struct catalogue *catalogue) {
    struct listing l = {.report = report, .db = catalogue->db};
    int64_t rc = prepare(&l);
    if (rc == 0)
        rc = ferry_await(ferry_submit(NULL, list, &l));
    clean_up(&l);
    return rc;
}

/* --verify. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <ferry/error.h>
#include <ferry/executor.h>
#include <ferry/future.h>

#include "text.h"
#include "verify.h"

enum finding { FINE, ADDED, REMOVED, CHANGED, CORRUPTED, UNREADABLE };
static const char *const finding_words[] = {"",        "added",     "removed",
                                            "changed", "corrupted", "unreadable"};

/* What is different in a changed entry: bits. */
enum difference { TYPE = 1, SIZE = 2, MODE = 4, MTIME = 8, CONTENT = 16 };
#define N_DIFFERENCES 5
static const char *const difference_words[N_DIFFERENCES] = {"type", "size", "mode", "mtime",
                                                            "content"};

/* ---- Judge ----------------------------------------------------------------------------------- */

static unsigned compare_info(const struct record *record) {
    unsigned differences = 0;
    if (record->type != record->old_type)
        return TYPE;
    if (record->mode != record->old_mode)
        differences |= MODE;
    if (record->type == FERRY_FILE_FOLDER)
        return differences;
    if (record->size != record->old_size)
        differences |= SIZE;
    if (record->mtime_ns != record->old_mtime_ns)
        differences |= MTIME;
    return differences;
}

/* A file of another size has another content; nobody need read it. */
static bool is_to_be_hashed(const struct record *record) {
    return record->type == FERRY_FILE_REGULAR && record->old_type == record->type &&
           record->old_size == record->size;
}

static enum verdict judge(const struct pipeline *p, struct record *record,
                          const struct old_row *row) {
    if (record->error || !row)
        return VERDICT_ABSORB;
    record->old_type = row->type;
    record->old_mode = row->mode;
    record->old_size = row->size;
    record->old_mtime_ns = row->mtime_ns;
    record->old_hash = row->sha256;
    if (row->sha256)
        memcpy(record->old_sha256, row->sha256, SHA256_HEX);
    if (is_to_be_hashed(record) && !p->options->no_hash)
        return row->sha256 ? VERDICT_HASH : VERDICT_ABSORB;
    return compare_info(record) == 0 ? VERDICT_FINE : VERDICT_ABSORB;
}

/* What is different about an entry that both have: the file is taken as it was when it was read. */
static unsigned compare_all(const struct record *record) {
    unsigned differences = compare_info(record);
    if (record->hash == HASH_FRESH && memcmp(record->sha256, record->old_sha256, SHA256_HEX) != 0)
        differences |= CONTENT;
    return differences;
}

static enum finding find_out(const struct record *record, unsigned *differences) {
    *differences = 0;
    if (record->gone) /* after the walk had come by: as if it had been before */
        return REMOVED;
    if (record->error)
        return UNREADABLE;
    if (!record->known)
        return ADDED;
    *differences = compare_all(record);
    if (*differences == 0)
        return FINE;
    return *differences & CONTENT && !(*differences & (SIZE | MTIME)) ? CORRUPTED : CHANGED;
}

/* ---- Print ----------------------------------------------------------------------------------- */

static void print_text(const struct record *record, enum finding finding, unsigned differences) {
    const char *before = "  (";
    printf("%-10s  ", finding_words[finding]);
    text_write_path(stdout, record->path, record->path_size);
    if (finding == UNREADABLE)
        printf(": %s", record_error(record->error));
    for (int i = 0; i < N_DIFFERENCES && finding == CHANGED; i++) {
        if (!(differences & 1u << i))
            continue;
        printf("%s%s", before, difference_words[i]);
        if (1u << i == SIZE)
            printf(" %" PRId64 " -> %" PRId64, record->old_size, record->size);
        before = ", ";
    }
    if (finding == CHANGED && record->hash == HASH_FRESH && !(differences & CONTENT))
        fputs("; same content", stdout);
    puts(finding == CHANGED ? ")" : "");
}

static int64_t print_json(struct report *report, const struct record *record, enum finding finding,
                          unsigned differences) {
    json_t *item = json_pack("{s:s}", "kind", finding_words[finding]);
    json_t *what = json_array();
    int rc = item && what ? report_set_path(item, record->path, record->path_size) : -1;
    for (int i = 0; i < N_DIFFERENCES; i++)
        if (differences & 1u << i)
            rc |= json_array_append_new(what, json_string(difference_words[i]));
    if (differences)
        rc |= json_object_set(item, "what", what);
    if (differences & SIZE) {
        rc |= json_object_set_new(item, "size_then", json_integer(record->old_size));
        rc |= json_object_set_new(item, "size_now", json_integer(record->size));
    }
    if (finding == UNREADABLE)
        rc |= json_object_set_new(item, "error", json_string(record_error(record->error)));
    json_decref(what);
    if (rc == 0) {
        report_separate(report);
        return report_json(item);
    }
    json_decref(item);
    return ferry_fail(-ENOMEM, "out of memory for the report");
}

static void count_finding(struct counts *counts, enum finding finding) {
    count *const places[] = {&counts->unchanged, &counts->added,     &counts->removed,
                             &counts->changed,   &counts->corrupted, &counts->errors};
    count_add(places[finding], 1);
}

/* During the output. */
static int64_t print_finding(struct verify *verify, const struct record *record) {
    unsigned differences;
    enum finding finding = find_out(record, &differences);
    struct counts *counts = verify->pipeline.counts;
    count_finding(counts, finding);
    if (!record->gone && !record->error && record->known && is_to_be_hashed(record) &&
        !record->old_hash)
        count_add(&counts->unchecked, 1);
    if (finding == FINE)
        return 0;
    if (verify->report->options->json)
        return print_json(verify->report, record, finding, differences);
    print_text(record, finding, differences);
    return 0;
}

/* ---- Absorb ---------------------------------------------------------------------------------- */

struct printing {
    struct verify *verify;
    const struct parcels *parcels;
};

static int64_t print_parcels(void *arg) {
    const struct printing *printing = arg;
    struct console *console = printing->verify->pipeline.console;
    int64_t rc = 0;
    console_begin_output(console);
    for (const struct parcel *parcel = printing->parcels->first; parcel && rc == 0;
         parcel = parcel->next)
        for (size_t i = 0; i < parcel->count && rc == 0; i++)
            rc = print_finding(printing->verify, &parcel->records[i]);
    int64_t written = console_end_output(console);
    return rc < 0 ? rc : written;
}

static int64_t absorb(struct pipeline *p, struct parcels *parcels) {
    struct printing printing = {(struct verify *)p, parcels};
    return ferry_await(ferry_submit(NULL, print_parcels, &printing));
}

/* ---- What the tree has no longer ------------------------------------------------------------- */

#define BELOW_SQL "SELECT rowid, path FROM files WHERE path > ? AND path < ? ORDER BY path"

static int64_t print_lost_row(struct verify *verify, ferry_sqlite_rows *rows) {
    size_t size;
    const char *path = ferry_sqlite_rows_text(rows, 1, &size);
    if (old_was_seen(verify->pipeline.old, ferry_sqlite_rows_int64(rows, 0)))
        return 0;
    const struct record record = {.path = path, .path_size = size, .gone = true};
    return print_finding(verify, &record);
}

static int64_t print_lost_kind(struct verify *verify, const struct range *range,
                               enum range_kind kind) {
    const ferry_sqlite_value values[] = {range_value(range, range->from, kind),
                                         range_value(range, range->to, kind)};
    int64_t rc = 0;
    ferry_sqlite_rows *rows = ferry_sqlite_query(verify->pipeline.catalogue->db, FERRY_SQLITE_READ,
                                                 BELOW_SQL, values, 2, NULL);
    while (rc == 0 && (rc = ferry_sqlite_rows_next(rows)) == 1)
        rc = ferror(stdout) ? FERRY_END : print_lost_row(verify, rows);
    int64_t closed = ferry_sqlite_rows_close(rows);
    return rc < 0 ? rc : closed;
}

/* A job: it waits for rows, and for whoever reads what it prints. */
static int64_t print_lost(void *arg) {
    struct verify *verify = arg;
    const struct pipeline *p = &verify->pipeline;
    struct range range;
    int64_t rc = 0;
    if (!range_below(&range, p->root, strlen(p->root)))
        return ferry_fail(-ENOMEM, "out of memory for a path of the catalogue");
    console_begin_output(p->console);
    for (enum range_kind kind = RANGE_TEXT; kind < RANGE_KINDS && rc == 0; kind++)
        rc = print_lost_kind(verify, &range, kind);
    int64_t written = console_end_output(p->console);
    range_free(&range);
    return written < 0 ? written : rc;
}

/* ---- All of it ------------------------------------------------------------------------------- */

int64_t verify_run(struct verify *verify) {
    struct pipeline *p = &verify->pipeline;
    p->judge = judge;
    p->absorb = absorb;
    int64_t rc = pipeline_run(p);
    if (rc == 0 && p->old->last > 0)
        rc = ferry_await(ferry_submit(NULL, print_lost, verify));
    return rc;
}

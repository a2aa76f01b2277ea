/* What ferry-index prints. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ferry/error.h>
#include <sqlite3.h>

#include "report.h"
#include "status.h"
#include "text.h"

/* ---- Errors ---------------------------------------------------------------------------------- */

/* What to do, where the detail doesn't say it. */
static const char *advice(int64_t rc) {
    switch (FERRY_SQLITE_PRIMARY(rc)) {
    case SQLITE_FULL:
        return ": make room, or put the catalogue on another disk with -o; then run it again, and "
               "it goes on from here";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ": another program has it open and writes; end that first";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ": the catalogue is damaged; move it away, and make a new one";
    case SQLITE_IOERR:
        return ": look after the disk that the catalogue is on";
    default:
        return "";
    }
}

void report_error(struct report *report, int64_t rc) {
    if (!*report->error)
        snprintf(report->error, sizeof report->error, "%s%s", ferry_errmsg(), advice(rc));
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static int set_hex(json_t *object, const char *key, const char *bytes, size_t size) {
    char *hex = malloc(2 * size + 1);
    if (!hex)
        return -1;
    for (size_t i = 0; i < size; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned char)bytes[i]);
    int rc = json_object_set_new(object, key, json_string(hex));
    free(hex);
    return rc;
}

/* U+FFFD takes three bytes. */
static char *replace_bytes(const char *bytes, size_t size) {
    char *text = malloc(3 * size + 1), *to = text;
    for (size_t i = 0; text && i < size;) {
        uint32_t code;
        size_t n = text_utf8_next(bytes + i, size - i, &code);
        memcpy(to, n > 0 ? bytes + i : "\xef\xbf\xbd", n > 0 ? n : 3);
        to += n > 0 ? n : 3;
        i += n > 0 ? n : 1;
    }
    if (text)
        *to = '\0';
    return text;
}

/* KEY is the text; KEY_hex the bytes, where the text isn't all. */
static int set_bytes(json_t *object, const char *key, const char *key_hex, const char *bytes,
                     size_t size) {
    if (text_is_utf8(bytes, size))
        return json_object_set_new(object, key, json_stringn(bytes, size));
    char *text = replace_bytes(bytes, size);
    int rc = text ? json_object_set_new(object, key, json_string(text)) : -1;
    free(text);
    return rc | set_hex(object, key_hex, bytes, size);
}

int report_set_path(json_t *object, const char *path, size_t size) {
    return set_bytes(object, "path", "path_hex", path, size);
}

static void open_list(struct report *report) {
    if (report->list_begun)
        return;
    report->list_begun = true;
    if (report->options->verify)
        fputs("{\"differences\": [", stdout);
    else if (report->options->duplicates)
        fputs("{\"duplicates\": [", stdout);
    else
        putchar('{');
}

void report_separate(struct report *report) {
    open_list(report);
    fputs(report->list_filled ? ",\n" : "\n", stdout);
    report->list_filled = true;
}

int64_t report_json(json_t *item) {
    int rc = json_dumpf(item, stdout, JSON_COMPACT);
    json_decref(item);
    return rc == 0 || ferror(stdout) ? 0 : ferry_fail(-ENOMEM, "out of memory for the report");
}

struct number {
    const char *key;
    const count *value;
};

static int set_counts(json_t *object, const struct counts *counts, bool verify) {
    const struct number numbers[] = {
        {"files", &counts->files},
        {"folders", &counts->folders},
        {"symlinks", &counts->symlinks},
        {"others", &counts->others},
        {"bytes", &counts->bytes},
        {"hashed", &counts->hashed},
        {"hashed_bytes", &counts->hashed_bytes},
        {"added", &counts->added},
        {"changed", &counts->changed},
        {"unchanged", &counts->unchanged},
        {"removed", &counts->removed},
        {"errors", &counts->errors},
        {"corrupted", &counts->corrupted},
        {"unchecked", &counts->unchecked},
    };
    size_t n = sizeof numbers / sizeof numbers[0] - (verify ? 0 : 2);
    int rc =
        json_object_set_new(object, "entries", json_integer((json_int_t)counts_entries(counts)));
    for (size_t i = 0; i < n; i++)
        rc |= json_object_set_new(object, numbers[i].key,
                                  json_integer((json_int_t)count_get(numbers[i].value)));
    return rc;
}

static int add_root(json_t *roots, const struct root_report *root, bool verify) {
    json_t *object = json_object();
    int rc = set_bytes(object, "root", "root_hex", root->root, strlen(root->root));
    rc |= json_object_set_new(object, "state", json_string(root->state));
    if (root->run)
        rc |= json_object_set_new(object, "run", json_integer(root->run));
    rc |= set_counts(object, &root->counts, verify);
    return rc | json_array_append_new(roots, object);
}

static const char *mode_word(const struct options *options) {
    return options->verify ? "verify" : options->duplicates ? "duplicates" : "catalogue";
}

/* FOLDERs that don't exist are said, and the others are gone through. */
static bool is_incomplete(const struct report *report) {
    for (size_t i = 0; i < report->n_roots; i++)
        if (report->roots[i].missing)
            return true;
    return false;
}

static const char *state_word(const struct report *report) {
    if (*report->error)
        return "failed";
    return report->signal ? "interrupted" : is_incomplete(report) ? "incomplete" : "finished";
}

static int set_summary(json_t *summary, const struct report *report, const struct counts *all,
                       int status) {
    const struct options *options = report->options;
    const struct waste *waste = &report->waste;
    json_t *roots = json_array();
    int rc = json_object_set_new(summary, "mode", json_string(mode_word(options)));
    rc |= json_object_set_new(summary, "state", json_string(state_word(report)));
    rc |= json_object_set_new(summary, "status", json_integer(status));
    if (*report->error)
        rc |= set_bytes(summary, "error", "error_hex", report->error, strlen(report->error));
    rc |= set_bytes(summary, "catalogue", "catalogue_hex", options->catalogue,
                    strlen(options->catalogue));
    if (options->n_roots > 0)
        rc |= set_counts(summary, all, options->verify);
    if (options->duplicates) {
        rc |= json_object_set_new(summary, "groups", json_integer((json_int_t)waste->groups));
        rc |=
            json_object_set_new(summary, "duplicate_files", json_integer((json_int_t)waste->files));
        rc |= json_object_set_new(summary, "wasted_bytes", json_integer((json_int_t)waste->bytes));
    }
    rc |= json_object_set_new(summary, "seconds", json_real(report->seconds));
    for (size_t i = 0; i < report->n_roots; i++)
        rc |= add_root(roots, &report->roots[i], options->verify);
    return rc | json_object_set_new(summary, "roots", roots);
}

/* Returns the status: it is another one when memory is short. */
static int print_json(struct report *report, const struct counts *all, int status) {
    json_t *summary = json_object();
    char *text = NULL;
    if (set_summary(summary, report, all, status) == 0)
        text = json_dumps(summary, JSON_EMBED | JSON_REAL_PRECISION(6));
    json_decref(summary);
    open_list(report);
    if (report->options->verify || report->options->duplicates)
        fputs(report->list_filled ? "\n], " : "], ", stdout);
    if (text)
        printf("%s}\n", text);
    else
        puts("\"state\": \"failed\", \"status\": 3, \"error\": \"out of memory\"}");
    status = text ? status : STATUS_FATAL;
    free(text);
    return status;
}

/* ---- Text ------------------------------------------------------------------------------------ */

static const char *plural(char *out, uint64_t n, const char *noun) {
    char number[TEXT_ROOM];
    snprintf(out, 2 * TEXT_ROOM, "%s %s%s", text_count(number, n), noun, text_s(n));
    return out;
}

static void print_tree(const struct counts *counts) {
    char a[2 * TEXT_ROOM], b[2 * TEXT_ROOM], c[2 * TEXT_ROOM], d[2 * TEXT_ROOM], bytes[TEXT_ROOM];
    printf("%s, %s, %s, %s; %s\n", plural(a, count_get(&counts->files), "file"),
           plural(b, count_get(&counts->folders), "folder"),
           plural(c, count_get(&counts->symlinks), "symbolic link"),
           plural(d, count_get(&counts->others), "other"),
           text_bytes(bytes, count_get(&counts->bytes)));
}

static void print_work(const struct report *report, const struct counts *counts) {
    char hashed[2 * TEXT_ROOM], bytes[TEXT_ROOM];
    uint64_t n = count_get(&counts->hashed_bytes);
    printf("hashed: %s, %s", plural(hashed, count_get(&counts->hashed), "file"),
           text_bytes(bytes, n));
    if (n > 0 && report->seconds > 0)
        printf(" (%s/s)", text_bytes(bytes, (uint64_t)((double)n / report->seconds)));
    printf("; %.2f s\n", report->seconds);
}

static void print_number(const char *word, const count *n, const char *before) {
    char number[TEXT_ROOM];
    printf("%s%s: %s", before, word, text_count(number, count_get(n)));
}

static void print_catalogued(const struct report *report, const struct counts *all) {
    print_tree(all);
    print_number("added", &all->added, "");
    print_number("changed", &all->changed, ", ");
    print_number("removed", &all->removed, ", ");
    print_number("unchanged", &all->unchanged, ", ");
    print_number("errors", &all->errors, ", ");
    putchar('\n');
    print_work(report, all);
    fputs("catalogue: ", stdout);
    text_write_path(stdout, report->options->catalogue, strlen(report->options->catalogue));
    putchar('\n');
}

static void print_verified(const struct report *report, const struct counts *all) {
    print_tree(all);
    print_number("added", &all->added, "");
    print_number("removed", &all->removed, ", ");
    print_number("changed", &all->changed, ", ");
    print_number("corrupted", &all->corrupted, ", ");
    print_number("unreadable", &all->errors, ", ");
    print_number("the same", &all->unchanged, ", ");
    putchar('\n');
    if (count_get(&all->unchecked) > 0) {
        print_number("files without a hash in the catalogue to compare their content with",
                     &all->unchecked, "");
        putchar('\n');
    }
    print_work(report, all);
}

static void print_duplicates(const struct report *report) {
    char groups[2 * TEXT_ROOM], files[2 * TEXT_ROOM], bytes[TEXT_ROOM];
    const struct waste *waste = &report->waste;
    if (waste->groups == 0)
        puts("No duplicates.");
    else
        printf("\n%s of the same content, %s, %s wasted\n", plural(groups, waste->groups, "group"),
               plural(files, waste->files, "file"), text_bytes(bytes, waste->bytes));
}

static void print_text(const struct report *report, const struct counts *all) {
    const struct options *options = report->options;
    if (*report->error || (report->signal && options->duplicates) ||
        (options->n_roots > 0 && counts_entries(all) == 0))
        return;
    if (options->duplicates)
        print_duplicates(report);
    else if (options->verify)
        print_verified(report, all);
    else
        print_catalogued(report, all);
}

/* ---- The end --------------------------------------------------------------------------------- */

static int status_of(const struct report *report, const struct counts *all) {
    if (*report->error)
        return STATUS_FATAL;
    if (report->signal)
        return STATUS_SIGNAL + report->signal;
    if (is_incomplete(report))
        return STATUS_FATAL;
    if (count_get(&all->errors) > 0)
        return STATUS_DIFFERENT;
    return report->options->verify && (count_get(&all->added) || count_get(&all->changed) ||
                                       count_get(&all->removed) || count_get(&all->corrupted))
               ? STATUS_DIFFERENT
               : STATUS_FINE;
}

static const char *signal_name(int signal) {
    return signal == SIGINT ? "Ctrl-C" : signal == SIGTERM ? "SIGTERM" : "SIGHUP";
}

static void say_end(const struct report *report) {
    const struct options *options = report->options;
    for (size_t i = 0; i < report->n_roots; i++)
        if (report->roots[i].missing)
            console_say_path(report->console, "cannot find", report->roots[i].root,
                             strlen(report->roots[i].root),
                             ferry_strerror(report->roots[i].missing));
    if (*report->error)
        console_say(report->console, "%s", report->error);
    else if (report->signal && (options->verify || options->n_roots == 0))
        console_say(report->console, "stopped by %s: the list is incomplete",
                    signal_name(report->signal));
    else if (report->signal)
        console_say(report->console,
                    "stopped by %s: what was complete is in the catalogue; run it "
                    "again, and it goes on from here",
                    signal_name(report->signal));
}

int report_end(struct report *report) {
    struct counts all = {0};
    for (size_t i = 0; i < report->n_roots; i++)
        counts_sum(&all, &report->roots[i].counts);
    int status = status_of(report, &all);
    say_end(report);
    console_begin_output(report->console);
    if (report->options->json)
        status = print_json(report, &all, status);
    else if (!report->options->quiet)
        print_text(report, &all);
    int64_t rc = console_end_output(report->console);
    if (rc == 0)
        return status;
    if (!*report->error)
        console_say(report->console, "%s", ferry_errmsg());
    return STATUS_FATAL;
}

/* What ferry-index prints: text for people, or one JSON object.
 *
 * A path in JSON: "path" is its text, in which U+FFFD stands for each byte that isn't UTF-8; only
 * when there is such a byte, "path_hex" beside it holds the exact bytes, two digits each. */
#ifndef FERRY_INDEX_REPORT_H
#define FERRY_INDEX_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "catalogue.h"
#include "console.h"
#include "counts.h"
#include "options.h"

/* How it went with one FOLDER. */
struct root_report {
    const char *root;
    const char *state; /* as in runs.state, or "missing" */
    int64_t run;       /* its id; 0: none */
    int missing;       /* 0, or -errno: why it could not even be looked at */
    struct counts counts;
};

/* What --duplicates has found. */
struct waste {
    uint64_t groups, files, bytes;
};

struct report {
    const struct options *options;
    struct console *console;
    struct root_report *roots;
    size_t n_roots; /* those that were begun */
    struct waste waste;
    double seconds;
    int signal;       /* that ended it; 0: none */
    char error[1200]; /* that ended it; "": none */
    bool list_begun;  /* JSON: the object was opened, and its list */
    bool list_filled; /* and something was put into it */
};

/* Records an error that ends the program: `rc` with its detail. Only the first one is kept. */
void report_error(struct report *report, int64_t rc);

/* Between console_begin_output() and console_end_output(): what separates an item of the JSON
 * object's list ("differences" or "duplicates") from what is before it; and the item itself, which
 * is freed. The second one returns 0 or -ENOMEM. */
void report_separate(struct report *report);
int64_t report_json(json_t *item);

/* Sets the members "path" and, where needed, "path_hex". Returns 0 or -1, as jansson does. */
int report_set_path(json_t *object, const char *path, size_t size);

/* Prints the end: the summary. Returns what the program exits with. */
int report_end(struct report *report);

#endif

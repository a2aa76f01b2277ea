/* ferry-index: catalogues folder trees into SQLite.
 *
 * The program is one task in one loop. It waits for jobs (reading the tree, comparing, hashing,
 * writing, printing: whatever blocks) and for signals; pipeline.h shows how the work flows. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ferry-file.h>
#include <ferry/error.h>
#include <ferry/future.h>
#include <ferry/loop.h>

#include "duplicates.h"
#include "index.h"
#include "options.h"
#include "report.h"
#include "status.h"
#include "stop.h"
#include "verify.h"

struct program {
    struct options options;
    struct console console;
    struct stop stop;
    struct catalogue catalogue;
    struct report report;
};

/* ---- One FOLDER ------------------------------------------------------------------------------ */

static struct pipeline pipeline_of(struct program *program, struct root_report *root,
                                   struct old *old) {
    return (struct pipeline){.options = &program->options,
                             .catalogue = &program->catalogue,
                             .console = &program->console,
                             .counts = &root->counts,
                             .old = old,
                             .root = root->root};
}

static int64_t catalogue_root(struct program *program, struct root_report *root, struct old *old) {
    struct index index = {.pipeline = pipeline_of(program, root, old)};
    ferry_scope scope = FERRY_SCOPE_INIT;
    int64_t rc = catalogue_begin_run(&program->catalogue, root->root);
    if (rc < 0)
        return rc;
    index.run = root->run = rc;
    rc = stop_enter(&program->stop, &scope);
    if (rc == 0)
        rc = stop_leave(&program->stop, &scope, index_run(&index));
    if (rc < 0 && rc != -ECANCELED)
        report_error(&program->report, rc); /* the next call may have an error, too */
    root->state = rc == 0 ? "finished" : rc == -ECANCELED ? "interrupted" : "failed";
    int64_t ended = catalogue_end_run(&program->catalogue, root->run, root->state, &root->counts);
    return rc < 0 ? rc : ended < 0 ? ended : 0;
}

static int64_t verify_root(struct program *program, struct root_report *root, struct old *old) {
    struct verify verify = {.pipeline = pipeline_of(program, root, old),
                            .report = &program->report};
    ferry_scope scope = FERRY_SCOPE_INIT;
    int64_t rc = stop_enter(&program->stop, &scope);
    if (rc == 0)
        rc = stop_leave(&program->stop, &scope, verify_run(&verify));
    root->state = rc == 0 ? "finished" : rc == -ECANCELED ? "interrupted" : "failed";
    return rc;
}

/* ---- All of them ----------------------------------------------------------------------------- */

/* Which of them are there at all: those that aren't lose none of their rows. */
static int64_t look_at_roots(struct program *program, size_t *n_found) {
    for (size_t i = 0; i < program->options.n_roots; i++) {
        struct root_report *root = &program->report.roots[i];
        ferry_file_info info;
        root->root = program->options.roots[i];
        int64_t rc = ferry_await(ferry_file_stat(NULL, AT_FDCWD, root->root, false, &info));
        if (rc == -ENOMEM)
            return rc;
        *n_found += rc >= 0;
        if (rc < 0) {
            root->missing = (int)rc;
            root->state = "missing";
        }
    }
    return 0;
}

static int64_t do_root(struct program *program, struct root_report *root) {
    struct old old;
    int64_t rc = old_open(&old, program->catalogue.db);
    if (rc == 0)
        rc = program->options.verify ? verify_root(program, root, &old)
                                     : catalogue_root(program, root, &old);
    old_close(&old);
    return rc;
}

static int64_t do_roots(struct program *program) {
    struct report *report = &program->report;
    int64_t rc = 0;
    for (size_t i = 0; i < program->options.n_roots && rc == 0; i++) {
        if (program->stop.signal)
            return -ECANCELED;
        report->n_roots = i + 1;
        if (report->roots[i].missing)
            continue;
        report->roots[i].state = "failed"; /* unless it comes to something better */
        rc = do_root(program, &report->roots[i]);
    }
    return rc;
}

static int64_t open_catalogue(struct program *program) {
    const struct options *options = &program->options;
    ferry_scope scope = FERRY_SCOPE_INIT;
    int64_t rc = stop_enter(&program->stop, &scope);
    return rc < 0 ? rc
                  : stop_leave(&program->stop, &scope,
                               catalogue_open(&program->catalogue, options->catalogue,
                                              options->n_roots > 0 && !options->verify));
}

static int64_t list_duplicates(struct program *program) {
    ferry_scope scope = FERRY_SCOPE_INIT;
    int64_t rc = stop_enter(&program->stop, &scope);
    return rc < 0 ? rc
                  : stop_leave(&program->stop, &scope,
                               duplicates_run(&program->report, &program->catalogue));
}

static int64_t work(struct program *program) {
    const struct options *options = &program->options;
    size_t n_found = 0;
    int64_t rc = look_at_roots(program, &n_found);
    if (rc < 0)
        return rc;
    if (options->n_roots > 0 && n_found == 0) {
        program->report.n_roots = options->n_roots;
        return 0;
    }
    rc = open_catalogue(program);
    if (rc == 0)
        rc = do_roots(program);
    if (rc == 0 && options->duplicates)
        rc = list_duplicates(program);
    if (rc < 0 && rc != -ECANCELED)
        report_error(&program->report, rc);
    int64_t closed = catalogue_close(&program->catalogue);
    return rc < 0 ? rc : closed;
}

static int64_t first_task(void *arg) {
    struct program *program = arg;
    int64_t rc = stop_begin(&program->stop, &program->console);
    if (rc < 0)
        return rc;
    rc = work(program);
    if (rc == -ECANCELED)
        program->report.signal = program->stop.signal;
    else if (rc < 0)
        report_error(&program->report, rc);
    stop_end(&program->stop);
    return 0;
}

static double seconds_since(const struct timespec *began) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - began->tv_sec) + (double)(now.tv_nsec - began->tv_nsec) / 1e9;
}

int main(int argc, char **argv) {
    static struct program program = {.catalogue = {.fd = -1}};
    static const ferry_run_options run = {.no_signals = true}; /* stop.c has them */
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    signal(SIGPIPE, SIG_IGN); /* an output that nobody reads is an error that is said */
    int status = options_parse(&program.options, argc, argv);
    if (status >= 0)
        return status;
    console_init(&program.console);
    program.report.options = &program.options;
    program.report.console = &program.console;
    program.report.roots = calloc(program.options.n_roots + 1, sizeof *program.report.roots);
    int64_t rc = program.report.roots ? ferry_run_with(first_task, &program, &run)
                                      : ferry_fail(-ENOMEM, "out of memory");
    if (rc < 0)
        report_error(&program.report, rc);
    program.report.seconds = seconds_since(&began);
    status = report_end(&program.report);
    free(program.report.roots);
    return status;
}

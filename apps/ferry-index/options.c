/* The command line. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/base.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <sqlite3.h>

#include "options.h"
#include "status.h"

#define JOBS_MAX 256

static const char help[] =
    "Usage: ferry-index [options] FOLDER...\n"
    "Catalogues folder trees into an SQLite database: every entry's path, type, size, mode and\n"
    "time, and the SHA-256 of each regular file. The next run reads only what has changed.\n"
    "\n"
    "  -o, --output=FILE        the catalogue (default: catalog.db)\n"
    "  -j, --jobs=N             hash N files at once (default: the number of processors)\n"
    "      --no-hash            don't read files: look only at sizes and times\n"
    "      --verify             compare the tree with the catalogue and change neither: what was\n"
    "                           added, removed, changed, or corrupted (other content, though size\n"
    "                           and time are the same)\n"
    "      --duplicates         list files of the same content, and the bytes that they waste;\n"
    "                           without a FOLDER: all that the catalogue knows\n"
    "      --one-file-system    don't enter folders on other file systems than FOLDER's\n"
    "      --json               print the result as one JSON object\n"
    "      --quiet              no progress, no summary; only errors, and what was asked for\n"
    "      --help               print this\n"
    "      --version            print the version\n"
    "\n"
    "Ctrl-C stops it in order; the next run goes on from there. A second Ctrl-C stops it at once.\n"
    "\n"
    "Exit status: 0 all is well; 1 some entries could not be read, or --verify found differences;\n"
    "2 wrong usage; 3 it could not be done (the message says what to do); 128 + the signal that\n"
    "stopped it (130 for Ctrl-C).\n"
    "\n"
    "    ferry-index -o photos.db ~/Pictures           catalogue a folder, or bring it up to date\n"
    "    ferry-index -o photos.db --verify ~/Pictures  what has changed since, and what rotted?\n"
    "    ferry-index -o photos.db --duplicates         what is there more than once?\n";

enum {
    OPT_NO_HASH = 256,
    OPT_VERIFY,
    OPT_DUPLICATES,
    OPT_JSON,
    OPT_QUIET,
    OPT_ONE_FILE_SYSTEM,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"jobs", required_argument, NULL, 'j'},
    {"no-hash", no_argument, NULL, OPT_NO_HASH},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"duplicates", no_argument, NULL, OPT_DUPLICATES},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"one-file-system", no_argument, NULL, OPT_ONE_FILE_SYSTEM},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

static int wrong(const char *what, const char *value) {
    fprintf(stderr, "ferry-index: %s%s%s%s\nTry 'ferry-index --help'.\n", what, value ? " '" : "",
            value ? value : "", value ? "'" : "");
    return STATUS_USAGE;
}

/* The status of a program that has only said something. */
static int said(int written) {
    if (written >= 0 && fflush(stdout) == 0)
        return STATUS_FINE;
    fprintf(stderr, "ferry-index: cannot write to standard output: %s\n", strerror(errno));
    return STATUS_FATAL;
}

static int processors(void) {
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                         : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n < JOBS_MAX ? (int)n : JOBS_MAX;
}

static int parse_jobs(const char *text) {
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && n >= 1 && n <= JOBS_MAX ? (int)n : 0;
}

/* "tree/" and "tree" are one folder; so is one that is given twice. */
static void tidy_roots(struct options *options) {
    size_t n = 0;
    for (size_t i = 0; i < options->n_roots; i++) {
        char *root = options->roots[i];
        for (size_t size = strlen(root); size > 1 && root[size - 1] == '/'; size--)
            root[size - 1] = '\0';
        size_t k = 0;
        while (k < n && strcmp(options->roots[k], root) != 0)
            k++;
        if (k == n)
            options->roots[n++] = root;
    }
    options->n_roots = n;
}

static int check(const struct options *options) {
    if (options->verify && options->duplicates)
        return wrong("--verify and --duplicates exclude each other", NULL);
    if (options->n_roots == 0 && !options->duplicates)
        return wrong("no FOLDER was given", NULL);
    if (!*options->catalogue)
        return wrong("-o needs the name of a file", NULL);
    for (size_t i = 0; i < options->n_roots; i++)
        if (!*options->roots[i])
            return wrong("a FOLDER has an empty name", NULL);
    return -1;
}

int options_parse(struct options *options, int argc, char **argv) {
    int option;
    *options = (struct options){.catalogue = "catalog.db", .jobs = processors()};
    while ((option = getopt_long(argc, argv, "o:j:", long_options, NULL)) != -1) {
        switch (option) {
        case 'o':
            options->catalogue = optarg;
            break;
        case 'j':
            options->jobs = parse_jobs(optarg);
            if (options->jobs == 0)
                return wrong("-j takes a number from 1 to 256, not", optarg);
            break;
        case OPT_NO_HASH:
            options->no_hash = true;
            break;
        case OPT_VERIFY:
            options->verify = true;
            break;
        case OPT_DUPLICATES:
            options->duplicates = true;
            break;
        case OPT_JSON:
            options->json = true;
            break;
        case OPT_QUIET:
            options->quiet = true;
            break;
        case OPT_ONE_FILE_SYSTEM:
            options->one_file_system = true;
            break;
        case OPT_HELP:
            return said(fputs(help, stdout));
        case OPT_VERSION:
            return said(printf("ferry-index " FERRY_VERSION " (SQLite %s, %s, jansson %s)\n",
                               sqlite3_libversion(), OpenSSL_version(OPENSSL_VERSION),
                               JANSSON_VERSION));
        default: /* getopt has said what is wrong */
            fputs("Try 'ferry-index --help'.\n", stderr);
            return STATUS_USAGE;
        }
    }
    options->roots = argv + optind;
    options->n_roots = (size_t)(argc - optind);
    tidy_roots(options);
    return check(options);
}

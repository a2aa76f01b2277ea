/* What the command line says. */
#ifndef FERRY_INDEX_OPTIONS_H
#define FERRY_INDEX_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct options {
    const char *catalogue;
    int jobs; /* files that are hashed at once */
    bool no_hash;
    bool verify;
    bool duplicates;
    bool json;
    bool quiet;
    bool one_file_system;
    char **roots; /* as given, but for slashes at their ends; none of them twice */
    size_t n_roots;
};

/* Reads the command line; `roots` points into argv afterwards. Returns -1 to go on, or the status
 * to exit with: what there is to say was said. */
int options_parse(struct options *options, int argc, char **argv);

#endif

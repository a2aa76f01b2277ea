/* ferry-index against what a shell has for the same: hashing many small files, hashing big ones,
 * and looking at a tree that hasn't changed. Hashes and counts are compared. The trees are made
 * in a folder below $TMPDIR (/tmp), and removed at the end. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

enum { SMALL = 4096, FOLDER = 100 };

static struct {
    char folder[512]; /* of the trees */
    long small, entries, big_mib;
    uint64_t sum; /* of the first 32 bits of all hashes of the case */
    char *program;
} setting = {.small = 20000, .entries = 100000, .big_mib = 256};

/* ---- Trees ----------------------------------------------------------------------------------- */

static void write_file(const char *path, size_t size, uint64_t seed) {
    static uint64_t block[1 << 17];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    BENCH_CHECK(fd >= 0);
    for (size_t left = size; left > 0;) {
        size_t n = left < sizeof block ? left : sizeof block;
        for (size_t i = 0; i < n / sizeof *block; i++)
            block[i] = seed = seed * 6364136223846793005u + 1442695040888963407u;
        BENCH_CHECK(write(fd, block, n) == (ssize_t)n);
        left -= n;
    }
    close(fd);
}

static void make_folder(const char *path) {
    BENCH_CHECK(mkdir(path, 0755) == 0);
}

/* So many files, in folders of a hundred. */
static void make_tree(const char *name, long files, size_t size) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", setting.folder, name);
    make_folder(path);
    for (long i = 0; i < files; i++) {
        if (i % FOLDER == 0) {
            snprintf(path, sizeof path, "%s/%s/%05ld", setting.folder, name, i / FOLDER);
            make_folder(path);
        }
        snprintf(path, sizeof path, "%s/%s/%05ld/file-%07ld", setting.folder, name, i / FOLDER, i);
        write_file(path, size, (uint64_t)i + 1);
    }
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_trees(void) {
    if (setting.folder[0])
        nftw(setting.folder, remove_one, 64, FTW_DEPTH | FTW_PHYS);
}

/* ---- Commands -------------------------------------------------------------------------------- */

/* Runs a shell command and returns how long it took, ns; it must end with 0. */
static uint64_t run(const char *command) {
    uint64_t start = bench_now();
    int status = system(command);
    uint64_t took = bench_now() - start;
    if (status != 0)
        fprintf(stderr, "index: this failed (%d): %s\n", status, command);
    BENCH_CHECK(status == 0);
    return took;
}

static void sum_line(const char *hash, uint64_t *count, uint64_t *sum) {
    char first[9] = "";
    memcpy(first, hash, 8);
    *sum += strtoull(first, NULL, 16);
    ++*count;
}

/* What sha256sum printed. */
static void sum_of_text(const char *path, uint64_t *count, uint64_t *sum) {
    char *line = NULL;
    size_t size = 0;
    FILE *in = fopen(path, "r");
    BENCH_CHECK(in);
    *count = *sum = 0;
    while (getline(&line, &size, in) > 64)
        sum_line(line, count, sum);
    free(line);
    fclose(in);
}

/* What ferry-index wrote. */
static void sum_of_catalogue(const char *path, uint64_t *count, uint64_t *sum) {
    sqlite3 *db;
    sqlite3_stmt *rows;
    BENCH_CHECK(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK);
    BENCH_CHECK(sqlite3_prepare_v2(db, "SELECT sha256 FROM files WHERE type = 'f'", -1, &rows,
                                   NULL) == SQLITE_OK);
    *count = *sum = 0;
    while (sqlite3_step(rows) == SQLITE_ROW)
        sum_line((const char *)sqlite3_column_text(rows, 0), count, sum);
    sqlite3_finalize(rows);
    sqlite3_close(db);
}

static uint64_t expected_sum(uint64_t count) {
    (void)count;
    return setting.sum;
}

/* ---- Hashing: what->loops says how many at once ---------------------------------------------- */

static void report(bench_out *out, uint64_t took, uint64_t count, uint64_t sum) {
    bench_value(out, "seconds", (double)took / 1e9);
    bench_work(out, count, sum);
}

static bool of_small(const bench_case *what) {
    return strstr(what->name, "files of 4 KiB") != NULL;
}

static const char *tree_of(const bench_case *what) {
    return of_small(what) ? "small" : "big";
}

static void hash_ferry(const bench_case *what, bench_out *out) {
    char command[2000], db[700];
    uint64_t count, sum;
    snprintf(db, sizeof db, "%s/hash.db", setting.folder);
    snprintf(command, sizeof command, "'%s' --quiet -o '%s' '%s/%s'", setting.program, db,
             setting.folder, tree_of(what));
    uint64_t took = run(command);
    sum_of_catalogue(db, &count, &sum);
    BENCH_CHECK(unlink(db) == 0);
    BENCH_CHECK(count == (uint64_t)what->size);
    report(out, took, count, sum);
}

static void hash_shell(const bench_case *what, bench_out *out) {
    char command[2000], text[700];
    uint64_t count, sum;
    snprintf(text, sizeof text, "%s/hash.txt", setting.folder);
    if (of_small(what))
        snprintf(command, sizeof command,
                 "find '%s/small' -type f -print0 | xargs -0 -P2 -n64 sha256sum >'%s'",
                 setting.folder, text);
    else
        snprintf(command, sizeof command, "sha256sum '%s/big/00000/file-0000000' >'%s'",
                 setting.folder, text);
    uint64_t took = run(command);
    sum_of_text(text, &count, &sum);
    BENCH_CHECK(count == (uint64_t)what->size);
    report(out, took, count, sum);
}

/* The library that ferry-index hashes with, by itself. */
static void hash_openssl(const bench_case *what, bench_out *out) {
    char command[2000], text[700];
    uint64_t count, sum;
    snprintf(text, sizeof text, "%s/hash.txt", setting.folder);
    snprintf(command, sizeof command, "openssl dgst -sha256 -r '%s/big/00000/file-0000000' >'%s'",
             setting.folder, text);
    uint64_t took = run(command);
    sum_of_text(text, &count, &sum);
    BENCH_CHECK(count == (uint64_t)what->size);
    report(out, took, count, sum);
}

/* ---- A tree that hasn't changed -------------------------------------------------------------- */

/* The count and the sum are the number of entries that each has seen. */
static void again_ferry(const bench_case *what, bench_out *out) {
    char command[2000], answer[16384], path[700];
    snprintf(path, sizeof path, "%s/again.json", setting.folder);
    snprintf(command, sizeof command, "'%s' --json -o '%s/again.db' '%s/many' >'%s'",
             setting.program, setting.folder, setting.folder, path);
    uint64_t took = run(command);
    FILE *in = fopen(path, "r");
    BENCH_CHECK(in);
    answer[fread(answer, 1, sizeof answer - 1, in)] = '\0';
    fclose(in);
    const char *unchanged = strstr(answer, "\"unchanged\":");
    BENCH_CHECK(unchanged);
    uint64_t count = strtoull(unchanged + strlen("\"unchanged\":"), NULL, 10);
    BENCH_CHECK(count == (uint64_t)what->size);
    report(out, took, count, count);
}

static void again_find(const bench_case *what, bench_out *out) {
    char command[2000], path[700];
    snprintf(path, sizeof path, "%s/again.txt", setting.folder);
    snprintf(command, sizeof command,
             "find '%s/many' -printf '%%p\\t%%y\\t%%s\\t%%m\\t%%T@\\t%%D\\t%%i\\n' >'%s'",
             setting.folder, path);
    uint64_t took = run(command), count = 0;
    FILE *in = fopen(path, "r");
    BENCH_CHECK(in);
    for (int c; (c = getc(in)) != EOF;)
        count += c == '\n';
    fclose(in);
    BENCH_CHECK(count == (uint64_t)what->size);
    report(out, took, count, count);
}

static uint64_t count_itself(uint64_t count) {
    return count;
}

/* ---- The comparison -------------------------------------------------------------------------- */

static bool known(const char *argument) {
    char *end = NULL;
    if (strncmp(argument, "--entries=", 10) == 0)
        setting.entries = strtol(argument + 10, &end, 10);
    return end && *end == '\0' && setting.entries >= FOLDER;
}

static void hash_case(const char *name, long files, const char *peer, double bound, bool pinned) {
    bench_side sides[] = {{.name = "ferry-index", .run = hash_ferry},
                          {.name = peer, .run = hash_shell},
                          {.name = "openssl dgst -sha256", .run = hash_openssl}};
    char text[160];
    bench_case what = {.name = name, .size = files, .threads = 2, .loops = 1, .pinned = pinned};
    /* What the hashes add up to is what sha256sum says, once before. */
    char command[2000], list[700];
    uint64_t count;
    snprintf(list, sizeof list, "%s/list.txt", setting.folder);
    snprintf(command, sizeof command, "find '%s/%s' -type f -exec sha256sum {} + >'%s'",
             setting.folder, tree_of(&what), list);
    run(command);
    sum_of_text(list, &count, &setting.sum);
    BENCH_CHECK(count == (uint64_t)files);

    if (!of_small(&what) && system("command -v openssl >/dev/null") != 0)
        sides[2].missing = "the program isn't installed (Debian: openssl)";
    bench_measure(&what, sides, of_small(&what) ? 2 : 3, expected_sum);
    double ratio = bench_compare(&what, "ferry-index", peer, "seconds", 1, "s");
    if (!of_small(&what))
        bench_compare(&what, "ferry-index", sides[2].name, "seconds", 1, "s");
    snprintf(text, sizeof text, "index, %s, %s: time against %s", name,
             pinned ? "one CPU" : "all CPUs", peer);
    if (!bench_quick()) /* small trees are no measure */
        bench_target(text, ratio, '<', bound, "times");
}

static void again_case(const char *name, long entries, bool pinned) {
    static bench_side sides[] = {{.name = "ferry-index", .run = again_ferry},
                                 {.name = "find -printf", .run = again_find}};
    char text[160];
    bench_case what = {.name = name, .size = entries, .threads = 2, .loops = 1, .pinned = pinned};
    bench_measure(&what, sides, 2, count_itself);
    double ratio = bench_compare(&what, "ferry-index", "find -printf", "seconds", 1, "s");
    snprintf(text, sizeof text, "index, %s, %s: time against find -printf", name,
             pinned ? "one CPU" : "all CPUs");
    if (!bench_quick())
        bench_target(text, ratio, '<', 1.5, "times");
}

int main(int argc, char **argv) {
    char command[2000], small_name[64], big_name[64], again_name[64];
    bench_begin(argc, argv, "index",
                "ferry-index against find, xargs and sha256sum (--entries=N: the unchanged tree)",
                known);
    if (bench_quick()) {
        setting.small = 5000;
        setting.entries = 20000;
        setting.big_mib = 64;
    }
    setting.program = realpath("ferry-index", NULL);
    if (!setting.program || access(setting.program, X_OK) != 0) {
        bench_skip("ferry-index", "it isn't built, or this wasn't called in the build folder");
        return bench_end();
    }
    const char *tmp = getenv("TMPDIR");
    snprintf(setting.folder, sizeof setting.folder, "%s/ferry-bench-XXXXXX",
             tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(setting.folder)) {
        fprintf(stderr, "index: can't make a folder in %s: %s\n", tmp ? tmp : "/tmp",
                strerror(errno));
        return 1;
    }
    atexit(remove_trees);
    make_tree("small", setting.small, SMALL);
    make_tree("big", 1, (size_t)setting.big_mib << 20);
    /* The folder itself and its folders are entries, too. */
    long files = setting.entries - 1 - (setting.entries - 1) / (FOLDER + 1) - 1;
    make_tree("many", files, 0);
    long entries = files + 1 + (files + FOLDER - 1) / FOLDER;
    snprintf(command, sizeof command, "'%s' --quiet -o '%s/again.db' '%s/many'", setting.program,
             setting.folder, setting.folder);
    run(command);

    snprintf(small_name, sizeof small_name, "%ld files of 4 KiB", setting.small);
    snprintf(big_name, sizeof big_name, "a file of %ld MiB", setting.big_mib);
    snprintf(again_name, sizeof again_name, "unchanged tree of %ld entries", entries);
    for (int pinned = 0; pinned < 2; pinned++) {
        hash_case(small_name, setting.small, "find | xargs -P2 sha256sum", 0.4, pinned);
        hash_case(big_name, 1, "sha256sum", 1.05, pinned);
        again_case(again_name, entries, pinned);
    }
    return bench_end();
}

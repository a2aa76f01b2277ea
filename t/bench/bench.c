/* Rounds, processes, medians and tables: see bench.h.
 *
 * A side runs in a child that writes "name value" lines into a pipe. The parent stays
 * single-threaded and touches no library that is measured, so that a fork is as good as a new
 * process. */
#include "config.h"

#include "bench.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS_MAX = 99, VALUE_NAME = 24, SIDE_SECONDS = 40 };

/* What one side measured in one case: rounds[i] is NAN when round i has no such figure. */
typedef struct series {
    bench_case what;
    const char *side, *value;
    double rounds[ROUNDS_MAX];
} series;

typedef struct line {
    bench_case what;
    const char *ferry, *peer, *value, *unit;
    double ferry_median, ferry_spread, peer_median, peer_spread, ratio, ratio_spread;
} line;

typedef struct target {
    char *text;
    const char *unit;
    double figure, bound;
    char op;
} target;

typedef struct skip {
    const char *name, *why;
} skip;

static struct {
    const char *subject, *programs, *json, *targets_file;
    bool table, quick, failed;
    int rounds, ms, longest;
    series *series;
    size_t n_series;
    line *lines;
    size_t n_lines;
    target *targets;
    size_t n_targets;
    skip *skips;
    size_t n_skips;
    bench_side *sides; /* with versions, for the report */
    size_t n_sides;
} bench = {.table = true, .rounds = 5, .ms = 120, .programs = "."};

/* ---- Small things ---------------------------------------------------------------------------- */

void *bench_alloc(size_t size) {
    void *block = calloc(1, size ? size : 1);
    if (!block) {
        fprintf(stderr, "%s: no memory for %zu bytes\n", bench.subject, size);
        exit(1);
    }
    return block;
}

/* One more element at the end of an array, zeroed. */
static void *grown(void *array, size_t *n, size_t size) {
    char *bigger = realloc(array, (*n + 1) * size);
    if (!bigger) {
        fprintf(stderr, "%s: out of memory\n", bench.subject);
        exit(1);
    }
    memset(bigger + *n * size, 0, size);
    ++*n;
    return bigger;
}

void bench_failed(const char *file, int at, const char *condition) {
    const char *slash = strrchr(file, '/');
    fprintf(stderr, "%s:%d: this should hold, and doesn't: %s (errno: %s)\n",
            slash ? slash + 1 : file, at, condition, strerror(errno));
    _exit(1);
}

uint64_t bench_cpu(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000u;
}

uint64_t bench_resident(void) {
    unsigned long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    BENCH_CHECK(file && fscanf(file, "%lu %lu", &pages, &resident) == 2);
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t bench_pieces(uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += (uint64_t)bench_piece(i);
    return sum;
}

/* ---- What a side says ------------------------------------------------------------------------ */

void bench_value(bench_out *out, const char *name, double value) {
    fprintf(out, "%s %.17g\n", name, value);
}

void bench_work(bench_out *out, uint64_t count, uint64_t sum) {
    fprintf(out, "count %llu\nsum %llu\n", (unsigned long long)count, (unsigned long long)sum);
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void bench_sort(uint64_t *ns, size_t n) {
    qsort(ns, n, sizeof *ns, by_size);
}

void bench_percentiles(bench_out *out, uint64_t *ns, size_t n) {
    static const struct {
        const char *name;
        double part;
    } wanted[] = {{"p10", 0.1}, {"p25", 0.25}, {"p50", 0.5},    {"p75", 0.75},
                  {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
    if (n == 0)
        return;
    bench_sort(ns, n);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        bench_value(out, wanted[i].name,
                    (double)ns[(size_t)(wanted[i].part * (double)(n - 1))] / 1e3);
}

void bench_span_open(bench_span *span, int ms, int stride) {
    *span = (bench_span){.stride = stride, .cpu = bench_cpu(), .start = bench_now()};
    span->end = span->start + (uint64_t)ms * 1000000u;
}

void bench_span_close(bench_span *span, bench_out *out, uint64_t count) {
    double took = (double)(bench_now() - span->start), used = (double)(bench_cpu() - span->cpu);
    if (count == 0)
        return;
    bench_value(out, "rate", (double)count / took * 1e9);
    bench_value(out, "cost", took / (double)count);
    bench_value(out, "cpu", used / (double)count);
}

/* ---- Figures --------------------------------------------------------------------------------- */

static bool same_case(const bench_case *a, const bench_case *b) {
    return a->pinned == b->pinned && strcmp(a->name, b->name) == 0;
}

static int rounds_of(const bench_case *what) {
    int rounds = bench.rounds * (what->times ? what->times : 1);
    return rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
}

static series *find(const bench_case *what, const char *side, const char *value) {
    for (size_t i = 0; i < bench.n_series; i++) {
        series *s = &bench.series[i];
        if (same_case(&s->what, what) && strcmp(s->side, side) == 0 && strcmp(s->value, value) == 0)
            return s;
    }
    return NULL;
}

static void keep(const bench_case *what, const char *side, const char *value, int round,
                 double figure) {
    series *s = find(what, side, value);
    if (!s) {
        bench.series = grown(bench.series, &bench.n_series, sizeof *bench.series);
        s = &bench.series[bench.n_series - 1];
        s->what = *what;
        s->side = side;
        s->value = strdup(value);
        for (int i = 0; i < ROUNDS_MAX; i++)
            s->rounds[i] = NAN;
    }
    s->rounds[round] = figure;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of those that aren't NAN, and half the distance of the quartiles in per cent of it. */
static double median(const double *rounds, double *spread) {
    double sorted[ROUNDS_MAX];
    int n = 0;
    for (int i = 0; i < ROUNDS_MAX; i++)
        if (!isnan(rounds[i]))
            sorted[n++] = rounds[i];
    *spread = 0;
    if (n == 0)
        return NAN;
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    double middle = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    if (middle != 0)
        *spread = (sorted[(3 * (n - 1) + 2) / 4] - sorted[(n - 1) / 4]) / 2 / fabs(middle) * 100;
    return middle;
}

double bench_median_of(const bench_case *what, const char *side, const char *value) {
    double spread;
    series *s = find(what, side, value);
    return s ? median(s->rounds, &spread) : NAN;
}

/* ---- Processes ------------------------------------------------------------------------------- */

static void pin(void) {
    cpu_set_t all, one;
    BENCH_CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    size_t last = 0;
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all))
            last = i;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    BENCH_CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
}

static _Noreturn void become(const bench_side *side, const bench_case *what, int fd) {
    char path[4096], number[4][24];
    snprintf(path, sizeof path, "%s/%s", bench.programs, side->program);
    snprintf(number[0], sizeof number[0], "%ld", what->size);
    snprintf(number[1], sizeof number[1], "%d", what->threads);
    snprintf(number[2], sizeof number[2], "%d", what->loops);
    snprintf(number[3], sizeof number[3], "%d", what->ms);
    char *argv[10];
    int n = 0;
    if (side->before)
        argv[n++] = (char *)(uintptr_t)side->before;
    argv[n++] = path;
    argv[n++] = (char *)(uintptr_t)bench.subject;
    argv[n++] = (char *)(uintptr_t)what->name;
    for (int i = 0; i < 4; i++)
        argv[n++] = number[i];
    argv[n++] = (char *)(uintptr_t)side->option;
    argv[n] = NULL;
    dup2(fd, STDOUT_FILENO);
    execvp(argv[0], argv);
    fprintf(stderr, "%s: can't run %s: %s\n", bench.subject, argv[0], strerror(errno));
    _exit(1);
}

static FILE *start(const bench_side *side, const bench_case *what, pid_t *child) {
    int ends[2];
    BENCH_CHECK(pipe(ends) == 0);
    fflush(NULL);
    *child = fork();
    BENCH_CHECK(*child >= 0);
    if (*child == 0) {
        close(ends[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(SIDE_SECONDS); /* a side that hangs is a side that fails */
        if (what->pinned)
            pin();
        if (!side->run)
            become(side, what, ends[1]);
        FILE *out = fdopen(ends[1], "w");
        BENCH_CHECK(out);
        side->run(what, out);
        BENCH_CHECK(fflush(out) == 0);
        _exit(0);
    }
    close(ends[1]);
    FILE *in = fdopen(ends[0], "r");
    BENCH_CHECK(in);
    return in;
}

static void complain(const bench_case *what, const char *side, const char *why) {
    fprintf(stderr, "%s: %s%s, %s: %s\n", bench.subject, what->name,
            what->pinned ? " on one CPU" : "", side, why);
    bench.failed = true;
}

/* A peer that hangs has no figure in that round, and is named. It is no error of Ferry's:
 * libraries and baselines that wait on a condition variable can hang where pthread_cond_signal
 * loses a wake-up (glibc before 2.41: bug 25847). */
static void peer_hung(const bench_case *what, const char *side) {
    char name[160];
    snprintf(name, sizeof name, "%s (%s%s), a round", side, what->name,
             what->pinned ? ", one CPU" : "");
    bench_skip(strdup(name), "it hung");
}

/* One side, one round. A figure counts only when the work was done. */
static void measure_one(const bench_case *what, const bench_side *side, int round,
                        uint64_t (*sum_of)(uint64_t)) {
    struct {
        char name[VALUE_NAME];
        double value;
    } said[64];
    size_t n = 0;
    unsigned long long count = 0, sum = 0;
    bool has_count = false, has_sum = false;
    char name[VALUE_NAME], text[64], why[160];
    pid_t child;
    FILE *in = start(side, what, &child);
    while (n < sizeof said / sizeof *said && fscanf(in, "%23s %63s", name, text) == 2) {
        if (strcmp(name, "count") == 0) {
            count = strtoull(text, NULL, 10);
            has_count = true;
        } else if (strcmp(name, "sum") == 0) {
            sum = strtoull(text, NULL, 10);
            has_sum = true;
        } else {
            snprintf(said[n].name, sizeof said[n].name, "%s", name);
            said[n++].value = strtod(text, NULL);
        }
    }
    fclose(in);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM &&
        strncmp(side->name, "ferry", 5) != 0) {
        peer_hung(what, side->name);
        return;
    }
    if (status != 0) {
        snprintf(why, sizeof why, "%s %d",
                 WIFSIGNALED(status) ? "was ended by signal" : "failed, exit status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        complain(what, side->name, why);
        return;
    }
    if (!what->no_check) {
        if (!has_count || !has_sum || count == 0) {
            complain(what, side->name, "it doesn't say what work it did");
            return;
        }
        if (sum != sum_of(count)) {
            snprintf(why, sizeof why,
                     "the results of %llu pieces of work add up to %llu, not to %llu", count,
                     (unsigned long long)sum_of(count), sum);
            complain(what, side->name, why);
            return;
        }
    }
    for (size_t i = 0; i < n; i++)
        keep(what, side->name, said[i].name, round, said[i].value);
}

static void remember_side(const bench_side *side) {
    for (size_t i = 0; i < bench.n_sides; i++)
        if (strcmp(bench.sides[i].name, side->name) == 0)
            return;
    bench.sides = grown(bench.sides, &bench.n_sides, sizeof *bench.sides);
    bench.sides[bench.n_sides - 1] = *side;
}

void bench_measure(const bench_case *what, bench_side *sides, size_t n,
                   uint64_t (*sum_of)(uint64_t)) {
    for (size_t i = 0; i < n; i++) {
        if (sides[i].missing)
            bench_skip(sides[i].name, sides[i].missing);
        else
            remember_side(&sides[i]);
    }
    for (int round = 0; round < rounds_of(what); round++)
        for (size_t i = 0; i < n; i++) {
            /* Every other round backwards: nobody always comes after the same one. */
            bench_side *side = &sides[round % 2 ? n - 1 - i : i];
            if (!side->missing && (side->most == 0 || what->size <= side->most))
                measure_one(what, side, round, sum_of);
        }
}

void bench_probe(bench_side *side) {
    char path[4096], said[128];
    snprintf(path, sizeof path, "%s/%s", bench.programs, side->program);
    if (access(path, R_OK) != 0) {
        side->missing = "it wasn't built: its compiler or its library isn't installed";
        return;
    }
    const char *before = side->before;
    snprintf(path, sizeof path, "%s%s'%s/%s' version %s 2>/dev/null", before ? before : "",
             before ? " " : "", bench.programs, side->program, side->option ? side->option : "");
    FILE *in = popen(path, "r");
    bool asked = in && fgets(said, sizeof said, in);
    if (in && pclose(in) == 0 && asked) {
        said[strcspn(said, "\n")] = '\0';
        side->version = strdup(said);
    } else {
        side->missing = "its program doesn't run here";
    }
}

/* ---- Tables ---------------------------------------------------------------------------------- */

static const char *number(char *buffer, size_t size, double value, double spread) {
    char text[32];
    double big = fabs(value);
    snprintf(text, sizeof text, "%.*f",
             big >= 1000  ? 0
             : big >= 100 ? 1
             : big >= 10  ? 2
                          : 3,
             value);
    if (isnan(value))
        snprintf(buffer, size, "-");
    else
        snprintf(buffer, size, "%s ±%.0f%%", text, spread);
    return buffer;
}

/* printf counts bytes, and the plus-minus sign has two. */
static void column(const char *text, int width) {
    int extra = strstr(text, "±") ? 1 : 0;
    printf("%*s  ", width + extra, text);
}

static void print_line(const line *l) {
    static bool headed;
    char text[160], a[48], b[48], c[48];
    if (!bench.table)
        return;
    if (!headed) {
        printf("%-58s", "name");
        column("ferry", 15);
        column("peer", 15);
        column("ratio", 13);
        printf("unit\n");
    }
    headed = true;
    snprintf(text, sizeof text, "%s, %s%s%s%s", l->what.name, l->ferry, l->peer ? " / " : "",
             l->peer ? l->peer : "", l->what.pinned ? ", one CPU" : "");
    printf("%-58s", text);
    column(number(a, sizeof a, l->ferry_median, l->ferry_spread), 15);
    column(number(b, sizeof b, l->peer_median, l->peer_spread), 15);
    column(number(c, sizeof c, l->ratio, l->ratio_spread), 13);
    printf("%s\n", l->unit);
    fflush(stdout);
}

double bench_compare(const bench_case *what, const char *ferry, const char *peer, const char *value,
                     double scale, const char *unit) {
    series *f = find(what, ferry, value), *p = peer ? find(what, peer, value) : NULL;
    if (!f || (peer && !p))
        return NAN;
    bench.lines = grown(bench.lines, &bench.n_lines, sizeof *bench.lines);
    line *l = &bench.lines[bench.n_lines - 1];
    *l = (line){*what, ferry, peer, value, unit, 0, 0, NAN, 0, NAN, 0};
    l->ferry_median = median(f->rounds, &l->ferry_spread) * scale;
    if (p) {
        double ratios[ROUNDS_MAX];
        for (int i = 0; i < ROUNDS_MAX; i++)
            ratios[i] = f->rounds[i] / p->rounds[i];
        l->peer_median = median(p->rounds, &l->peer_spread) * scale;
        l->ratio = median(ratios, &l->ratio_spread);
    }
    print_line(l);
    return peer ? l->ratio : l->ferry_median;
}

double bench_figure(const bench_case *what, const char *side, const char *value, double scale,
                    const char *unit) {
    return bench_compare(what, side, NULL, value, scale, unit);
}

void bench_target(const char *text, double figure, char op, double bound, const char *unit) {
    bench.targets = grown(bench.targets, &bench.n_targets, sizeof *bench.targets);
    bench.targets[bench.n_targets - 1] = (target){strdup(text), unit, figure, bound, op};
}

void bench_skip(const char *name, const char *why) {
    for (size_t i = 0; i < bench.n_skips; i++)
        if (strcmp(bench.skips[i].name, name) == 0)
            return;
    bench.skips = grown(bench.skips, &bench.n_skips, sizeof *bench.skips);
    bench.skips[bench.n_skips - 1] = (skip){name, why};
    if (bench.table)
        printf("skipped: %s: %s\n", name, why);
}

static const char *verdict(const target *t) {
    if (isnan(t->figure))
        return "not measured";
    return (t->op == '<' ? t->figure <= t->bound : t->figure >= t->bound) ? "met" : "not met";
}

/* Targets of all subjects go to one file, one line each, for the table at the end. */
static void write_targets(void) {
    FILE *file = bench.targets_file ? fopen(bench.targets_file, "a") : NULL;
    if (bench.targets_file && !file) {
        fprintf(stderr, "%s: can't write %s: %s\n", bench.subject, bench.targets_file,
                strerror(errno));
        bench.failed = true;
    }
    for (size_t i = 0; i < bench.n_targets; i++) {
        const target *t = &bench.targets[i];
        char figure[32] = "-";
        if (!isnan(t->figure))
            snprintf(figure, sizeof figure, "%.3g", t->figure);
        if (file)
            fprintf(file, "%s\t%s\t%s\t%s %g\t%s\t%s\n", verdict(t), bench.subject, figure,
                    t->op == '<' ? "<=" : ">=", t->bound, t->unit, t->text);
        else if (bench.table)
            printf("%-12s  %9s  %s %-6g %-12s  %s\n", verdict(t), figure,
                   t->op == '<' ? "<=" : ">=", t->bound, t->unit, t->text);
    }
    if (file && fclose(file) != 0)
        bench.failed = true;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_text(FILE *out, const char *text) {
    if (!text) {
        fputs("null", out);
        return;
    }
    putc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            fprintf(out, "\\u%04x", *text);
        else
            putc(*text, out);
    }
    putc('"', out);
}

static void json_number(FILE *out, const char *name, double value) {
    if (isfinite(value))
        fprintf(out, ", \"%s\": %.9g", name, value);
    else
        fprintf(out, ", \"%s\": null", name);
}

static void json_case(FILE *out, const bench_case *what) {
    fprintf(out, "{\"case\": ");
    json_text(out, what->name);
    fprintf(out, ", \"cpus\": \"%s\", \"size\": %ld, \"threads\": %d, \"loops\": %d",
            what->pinned ? "one" : "all", what->size, what->threads, what->loops);
}

static void write_json(FILE *out) {
    fprintf(out, "{\"subject\": \"%s\", \"rounds\": %d, \"ms\": %d, \"quick\": %s,\n \"sides\": [",
            bench.subject, bench.rounds, bench.ms, bench.quick ? "true" : "false");
    for (size_t i = 0; i < bench.n_sides; i++) {
        fprintf(out, "%s\n  {\"name\": ", i ? "," : "");
        json_text(out, bench.sides[i].name);
        fprintf(out, ", \"version\": ");
        json_text(out, bench.sides[i].version);
        fprintf(out, "}");
    }
    fprintf(out, "],\n \"figures\": [");
    for (size_t i = 0; i < bench.n_series; i++) {
        const series *s = &bench.series[i];
        double spread, middle = median(s->rounds, &spread);
        fprintf(out, "%s\n  ", i ? "," : "");
        json_case(out, &s->what);
        fprintf(out, ", \"side\": ");
        json_text(out, s->side);
        fprintf(out, ", \"value\": \"%s\"", s->value);
        json_number(out, "median", middle);
        json_number(out, "spread_percent", spread);
        fprintf(out, ", \"rounds\": [");
        for (int r = 0; r < rounds_of(&s->what); r++)
            isnan(s->rounds[r]) ? fprintf(out, "%snull", r ? ", " : "")
                                : fprintf(out, "%s%.9g", r ? ", " : "", s->rounds[r]);
        fprintf(out, "]}");
    }
    fprintf(out, "],\n \"lines\": [");
    for (size_t i = 0; i < bench.n_lines; i++) {
        const line *l = &bench.lines[i];
        fprintf(out, "%s\n  ", i ? "," : "");
        json_case(out, &l->what);
        fprintf(out, ", \"ferry\": ");
        json_text(out, l->ferry);
        fprintf(out, ", \"peer\": ");
        json_text(out, l->peer);
        fprintf(out, ", \"value\": \"%s\", \"unit\": \"%s\"", l->value, l->unit);
        json_number(out, "ferry_median", l->ferry_median);
        json_number(out, "ferry_spread_percent", l->ferry_spread);
        json_number(out, "peer_median", l->peer_median);
        json_number(out, "peer_spread_percent", l->peer_spread);
        json_number(out, "ratio", l->ratio);
        json_number(out, "ratio_spread_percent", l->ratio_spread);
        fprintf(out, "}");
    }
    fprintf(out, "],\n \"targets\": [");
    for (size_t i = 0; i < bench.n_targets; i++) {
        const target *t = &bench.targets[i];
        fprintf(out, "%s\n  {\"text\": ", i ? "," : "");
        json_text(out, t->text);
        json_number(out, "figure", t->figure);
        json_number(out, "bound", t->bound);
        fprintf(out, ", \"at\": \"%s\", \"unit\": ", t->op == '<' ? "most" : "least");
        json_text(out, t->unit);
        fprintf(out, ", \"verdict\": \"%s\"}", verdict(t));
    }
    fprintf(out, "],\n \"skipped\": [");
    for (size_t i = 0; i < bench.n_skips; i++) {
        fprintf(out, "%s\n  {\"name\": ", i ? "," : "");
        json_text(out, bench.skips[i].name);
        fprintf(out, ", \"why\": ");
        json_text(out, bench.skips[i].why);
        fprintf(out, "}");
    }
    fprintf(out, "],\n \"failed\": %s}\n", bench.failed ? "true" : "false");
}

/* ---- Begin and end --------------------------------------------------------------------------- */

static int number_of(const char *argument, const char *text, long least, long most) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most) {
        fprintf(stderr, "%s: %s: a number from %ld to %ld is needed\n", bench.subject, argument,
                least, most);
        exit(2);
    }
    return (int)value;
}

void bench_begin(int argc, char **argv, const char *subject, const char *about,
                 bool (*extra)(const char *)) {
    bench.subject = subject;
    bool ms_given = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--json") == 0) {
            bench.json = "-";
            bench.table = false;
        } else if (strncmp(a, "--json=", 7) == 0) {
            bench.json = a + 7;
        } else if (strcmp(a, "--quick") == 0) {
            bench.quick = true;
        } else if (strncmp(a, "--rounds=", 9) == 0) {
            bench.rounds = number_of(a, a + 9, 1, ROUNDS_MAX);
        } else if (strncmp(a, "--ms=", 5) == 0) {
            bench.ms = number_of(a, a + 5, 1, 60000);
            ms_given = true;
        } else if (strncmp(a, "--programs=", 11) == 0) {
            bench.programs = a + 11;
        } else if (strncmp(a, "--targets=", 10) == 0) {
            bench.targets_file = a + 10;
        } else if (!extra || !extra(a)) {
            bool help = strcmp(a, "--help") == 0;
            fprintf(help ? stdout : stderr,
                    "%s: %s\n"
                    "  --quick            shorter, with fewer cases\n"
                    "  --rounds=N         rounds of each case, 1 to %d; default 5\n"
                    "  --ms=N             milliseconds of a measurement\n"
                    "  --json[=FILE]      all figures as JSON, on standard output or in FILE\n"
                    "  --targets=FILE     append the figures that have a target to FILE\n"
                    "  --programs=FOLDER  where the peers' programs are\n",
                    subject, about, ROUNDS_MAX);
            exit(help ? 0 : 2);
        }
    }
    if (bench.quick && !ms_given)
        bench.ms = 20;
}

bool bench_quick(void) {
    return bench.quick;
}

int bench_ms(void) {
    return bench.ms;
}

const char *bench_programs(void) {
    return bench.programs;
}

const char *bench_python(void) {
    const char *python = getenv("PYTHON");
    return python && *python ? python : "python3";
}

int bench_end(void) {
    write_targets();
    if (bench.json) {
        FILE *out = strcmp(bench.json, "-") == 0 ? stdout : fopen(bench.json, "w");
        if (!out) {
            fprintf(stderr, "%s: can't write %s: %s\n", bench.subject, bench.json, strerror(errno));
            return 1;
        }
        write_json(out);
        if (fflush(out) != 0 || (out != stdout && fclose(out) != 0)) {
            fprintf(stderr, "%s: can't write %s: %s\n", bench.subject, bench.json, strerror(errno));
            return 1;
        }
    }
    return bench.failed;
}

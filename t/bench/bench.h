/* What every benchmark shares: rounds, processes, clocks, medians, checks, tables and JSON.
 *
 * A subject (one program) measures cases; in a case several sides do the same work: Ferry, its
 * peers, plain-C baselines. Sides take turns, round after round, each time in a process of its
 * own, so that no side inherits threads, memory or a warmed-up heap from another. A side says
 * what it did (count and sum) and what it took; a round whose work wasn't done is an error, and
 * gives no figure. Ratios are taken within a round, and the median of the rounds' ratios is what
 * is printed. */
#ifndef FERRY_BENCH_H
#define FERRY_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* ---- In the program of a subject ------------------------------------------------------------- */

/* What is to be done. A case is known by its name and by where it runs. */
typedef struct bench_case {
    const char *name; /* unique within the subject */
    long size;        /* jobs in flight, tasks, entries, ...: the subject says which */
    int threads;
    int loops;
    int ms;        /* how long a measurement lasts, about */
    int times;     /* so many times the rounds, for what varies much; 0: once */
    bool pinned;   /* to one CPU, with all its threads */
    bool no_check; /* the side gives no count and sum: it has other checks, and ends on failure */
} bench_case;

/* Where a side writes its figures to. */
typedef FILE bench_out;

typedef void (*bench_fn)(const bench_case *what, bench_out *out);

/* A side is a function, or a program that gets "what it is to do" as arguments and prints its
 * figures as lines "name value". */
typedef struct bench_side {
    const char *name;
    bench_fn run;
    const char *program; /* file in the folder of the benchmarks */
    const char *before;  /* an interpreter for it, or NULL */
    const char *option;  /* one more argument, or NULL */
    const char *version; /* of the peer; NULL for Ferry and baselines */
    long most;           /* cases above this size are left out; 0: none is */
    const char *missing; /* why it can't run here; NULL when it can */
} bench_side;

/* Parses --json[=FILE], --rounds=N, --ms=N, --quick, --programs=FOLDER, --targets=FILE, --help
 * and what `extra` knows (NULL: nothing; it returns whether it knew the argument); ends the
 * program when there is something wrong with them. */
void bench_begin(int argc, char **argv, const char *subject, const char *about,
                 bool (*extra)(const char *argument));
bool bench_quick(void);
int bench_ms(void);
const char *bench_programs(void);
const char *bench_python(void); /* the environment's PYTHON, or python3 */

/* Finds out whether a program of another language was built, and what it calls itself: it is asked
 * with the argument "version". Sets side->missing or side->version. */
void bench_probe(bench_side *side);

/* Measures a case: all sides, all rounds. A side that fails is reported, and makes bench_end()
 * return 1. `sum_of(count)` is the sum that belongs to so many pieces of work. */
void bench_measure(const bench_case *what, bench_side *sides, size_t n,
                   uint64_t (*sum_of)(uint64_t count));

/* Prints (and keeps) one line: the figure `value` of side `ferry` against that of side `peer`,
 * both multiplied by `scale`, in `unit`. Returns the median ratio ferry / peer; NAN when either
 * is missing. */
double bench_compare(const bench_case *what, const char *ferry, const char *peer, const char *value,
                     double scale, const char *unit);

/* The same against a constant: a figure that has no peer. Returns the median. */
double bench_figure(const bench_case *what, const char *side, const char *value, double scale,
                    const char *unit);

/* The median of what a side measured; NAN without. */
double bench_median_of(const bench_case *what, const char *side, const char *value);

/* A figure against its target: `op` is '<' (at most) or '>' (at least). A figure that is missing
 * (NAN) is stated as such. */
void bench_target(const char *text, double figure, char op, double bound, const char *unit);

/* Names a peer that isn't there, and why. */
void bench_skip(const char *name, const char *why);

/* Writes the JSON. Returns what main() returns: 1 when a check failed. */
int bench_end(void);

/* ---- In a side ------------------------------------------------------------------------------- */

void bench_value(bench_out *out, const char *name, double value);

/* The work that was done: how many pieces, and the sum of their results. */
void bench_work(bench_out *out, uint64_t count, uint64_t sum);

/* The smallest first. */
void bench_sort(uint64_t *ns, size_t n);

/* Percentiles of n latencies (sorts them), in microseconds: p10 p25 p50 p75 p90 p99 p99.9. */
void bench_percentiles(bench_out *out, uint64_t *ns, size_t n);

/* A check inside a side: says what is wrong and ends the side's process. */
#define BENCH_CHECK(condition) \
    ((condition) ? (void)0 : bench_failed(__FILE__, __LINE__, #condition))
void bench_failed(const char *file, int line, const char *condition) __attribute__((noreturn));

void *bench_alloc(size_t size); /* zeroed, or the process ends */

static inline uint64_t bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CPU time of the whole process, user and system, ns. */
uint64_t bench_cpu(void);

/* Resident memory of the process, bytes. */
uint64_t bench_resident(void);

/* Until when work is handed out: the clock is read every `stride` calls. */
typedef struct bench_span {
    uint64_t start, end, cpu; /* ns */
    int stride, calls;
    bool over;
} bench_span;

void bench_span_open(bench_span *span, int ms, int stride);

static inline bool bench_over(bench_span *span) {
    if (span->over)
        return true;
    if (++span->calls < span->stride)
        return false;
    span->calls = 0;
    span->over = bench_now() >= span->end;
    return span->over;
}

/* Writes what `count` pieces took since the span was opened: rate (1/s), cost (ns) and cpu (ns). */
void bench_span_close(bench_span *span, bench_out *out, uint64_t count);

/* The result of piece `i`: cheap, and wrong when a piece is lost, doubled or mixed up. */
static inline int64_t bench_piece(uint64_t i) {
    return (int64_t)((i * 7 + 3) & 0xffff);
}
uint64_t bench_pieces(uint64_t count); /* the sum of all from 0 */

#endif

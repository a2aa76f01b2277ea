/* How far a run is.
 *
 * The queues are short, so the walk is never far ahead of the hashing and can't say how much is to
 * come. On a terminal a second walk counts the tree meanwhile: it reads nothing but the entries,
 * which the first one then finds in the kernel's memory. Until it has ended, the bar only shows
 * that something moves. Without a terminal, and where nothing is hashed, nobody counts. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <ferry-file.h>
#include <ferry/error.h>
#include <ferry/executor.h>
#include <ferry/future.h>
#include <ferry/scope.h>
#include <ferry/task.h>

#include "pipeline.h"
#include "progress.h"
#include "text.h"

#define DRAW_MS 100
#define SAY_MS 10000
#define SMOOTH_S 2.0       /* how long the rates remember */
#define ENTRY_WORK 16384.0 /* an entry takes as long as so many bytes */
#define BAR_MIN 10
#define BAR_MAX 40
#define LINE_ROOM 512

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- Rates ----------------------------------------------------------------------------------- */

static void smooth(double *rate, double now, double share) {
    *rate += (now - *rate) * share;
}

static double work_done(const struct counts *counts) {
    /* While a file is left that was longer than it said, the bytes may be a little more than all.
     */
    return (double)(int64_t)count_get(&counts->settled_bytes) +
           ENTRY_WORK * (double)count_get(&counts->settled);
}

static void measure(struct progress *progress) {
    const struct counts *counts = progress->pipeline->counts;
    uint64_t read = count_get(&counts->read_bytes), settled = count_get(&counts->settled);
    double now = seconds(), work = work_done(counts), passed = now - progress->last;
    if (passed <= 0)
        return;
    double share =
        progress->bytes_rate + progress->entries_rate > 0 ? passed / (passed + SMOOTH_S) : 1;
    smooth(&progress->bytes_rate, (double)(read - progress->last_read) / passed, share);
    smooth(&progress->entries_rate, (double)(settled - progress->last_settled) / passed, share);
    smooth(&progress->work_rate, (work - progress->last_work) / passed, share);
    progress->last = now;
    progress->last_read = read;
    progress->last_settled = settled;
    progress->last_work = work;
}

/* ---- The line -------------------------------------------------------------------------------- */

static const char *rate_text(const struct progress *progress, char *out, size_t size) {
    char number[TEXT_ROOM];
    if (progress->bytes_rate >= 1)
        snprintf(out, size, "%s/s", text_bytes(number, (uint64_t)progress->bytes_rate));
    else
        snprintf(out, size, "%s files/s", text_count(number, (uint64_t)progress->entries_rate));
    return out;
}

static void draw_bar(char *out, size_t width, double part, unsigned step, bool known) {
    memset(out, ' ', width);
    if (known) {
        size_t full = (size_t)((double)width * part);
        memset(out, '=', full);
        if (full < width)
            out[full] = '>';
    } else {
        size_t room = width - 3, at = step % (2 * room);
        memcpy(out + (at < room ? at : 2 * room - at), "<=>", 3);
    }
    out[width] = '\0';
}

/* Writes the line, in ASCII, into `line`: as much as goes into `width` columns. */
static void compose(struct progress *progress, char *line, size_t width) {
    const struct counts *counts = progress->pipeline->counts;
    bool known = atomic_load_explicit(&progress->counted, memory_order_acquire);
    char files[TEXT_ROOM], bytes[TEXT_ROOM], rate[64], left[64] = "", bar[BAR_MAX + 1],
                                                       share[8] = "    ";
    char numbers[256];
    double part = 0;
    if (known) {
        double whole = (double)progress->bytes + ENTRY_WORK * (double)progress->entries;
        part = whole > 0 ? progress->last_work / whole : 0;
        part = part < 0 ? 0 : part > 1 ? 1 : part;
        snprintf(share, sizeof share, "%3.0f%%", part * 100 - (part < 1 && part > 0.99 ? 0.5 : 0));
        if (progress->work_rate > 0)
            snprintf(left, sizeof left, "  %s left",
                     text_seconds(files, (1 - part) * whole / progress->work_rate));
    }
    int n = snprintf(numbers, sizeof numbers, "%s file%s  %s  %s%s",
                     text_count(files, count_get(&counts->settled)),
                     text_s(count_get(&counts->settled)),
                     text_bytes(bytes, count_get(&counts->settled_bytes)),
                     rate_text(progress, rate, sizeof rate), left);
    size_t room = width > 1 ? width - 1 : 0; /* the last column would make some terminals wrap */
    size_t used = (size_t)n + strlen(share) + strlen(" []  ");
    size_t bar_width = room > used ? room - used : 0;
    if (bar_width >= BAR_MIN) {
        draw_bar(bar, bar_width < BAR_MAX ? bar_width : BAR_MAX, part, progress->step++, known);
        snprintf(line, LINE_ROOM, "%s [%s]  %s", share, bar, numbers);
    } else {
        snprintf(line, LINE_ROOM, "%s%s%s", share, known ? "  " : "", numbers);
    }
    if (room < strlen(line))
        line[room] = '\0';
}

static int64_t draw(void *arg) {
    struct progress *progress = arg;
    char line[LINE_ROOM];
    measure(progress);
    compose(progress, line, console_width());
    console_draw(progress->pipeline->console, line);
    return 0;
}

static int64_t clear(void *arg) {
    console_clear(arg);
    return 0;
}

static int64_t say(void *arg) {
    struct progress *progress = arg;
    const struct counts *counts = progress->pipeline->counts;
    char files[TEXT_ROOM], bytes[TEXT_ROOM], rate[64];
    measure(progress);
    console_say(progress->pipeline->console, "%s file%s, %s, %s",
                text_count(files, count_get(&counts->settled)), text_s(count_get(&counts->settled)),
                text_bytes(bytes, count_get(&counts->settled_bytes)),
                rate_text(progress, rate, sizeof rate));
    return 0;
}

/* ---- The tasks ------------------------------------------------------------------------------- */

static int64_t keep_drawing(void *arg) {
    struct progress *progress = arg;
    ferry_scope shield = FERRY_SCOPE_INIT;
    int64_t rc = 0;
    while (rc >= 0 && (rc = ferry_sleep(DRAW_MS)) == 0)
        rc = ferry_await(ferry_submit(NULL, draw, progress));
    int64_t opened = ferry_shield_open(&shield, FERRY_FOREVER);
    if (opened == 0)
        ferry_scope_close(&shield,
                          ferry_await(ferry_submit(NULL, clear, progress->pipeline->console)));
    return rc == -ECANCELED ? opened : rc;
}

static int64_t keep_saying(void *arg) {
    struct progress *progress = arg;
    int64_t rc = 0;
    while (rc >= 0 && (rc = ferry_sleep(SAY_MS)) == 0)
        rc = ferry_await(ferry_submit(NULL, say, progress));
    return rc == -ECANCELED ? 0 : rc;
}

/* What hinders it hinders the walk itself, too, which then says so. */
static int64_t count_ahead(void *arg) {
    struct progress *progress = arg;
    const ferry_walk_options options = pipeline_walk_options(progress->pipeline);
    ferry_walk *walk;
    ferry_walk_batch *batch;
    if (ferry_walk_open(&walk, NULL, AT_FDCWD, progress->pipeline->root, &options) < 0)
        return 0;
    int rc;
    while ((rc = ferry_walk_next(walk, &batch)) == 0) {
        progress->entries += batch->count;
        for (size_t i = 0; i < batch->count; i++)
            if (batch->entries[i].info.type == FERRY_FILE_REGULAR)
                progress->bytes += (uint64_t)batch->entries[i].info.size;
        ferry_walk_batch_free(batch);
    }
    if (rc == FERRY_END)
        atomic_store_explicit(&progress->counted, true, memory_order_release);
    ferry_walk_close(walk);
    return 0;
}

/* ---- Begin and end --------------------------------------------------------------------------- */

int64_t progress_begin(struct progress *progress, const struct pipeline *pipeline) {
    static const ferry_task_options progress_task = {.name = "progress"};
    static const ferry_task_options count_task = {.name = "count ahead"};
    const struct options *options = pipeline->options;
    *progress = (struct progress){.pipeline = pipeline, .last = seconds()};
    int64_t rc = ferry_group_open(&progress->group);
    if (rc < 0 || options->quiet)
        return rc;
    if (!pipeline->console->terminal)
        rc = ferry_group_spawn_with(&progress->group, keep_saying, progress, &progress_task, NULL);
    else
        rc = ferry_group_spawn_with(&progress->group, keep_drawing, progress, &progress_task, NULL);
    if (rc == 0 && pipeline->console->terminal && !options->no_hash)
        rc = ferry_group_spawn_with(&progress->group, count_ahead, progress, &count_task, NULL);
    return rc < 0 ? progress_end(progress, rc) : 0;
}

int64_t progress_end(struct progress *progress, int64_t rc) {
    ferry_group_cancel(&progress->group);
    return pipeline_cause(ferry_group_close(&progress->group, rc));
}

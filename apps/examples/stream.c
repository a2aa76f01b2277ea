/* A file line by line: a job reads, with blocking calls; a task takes one line after the other.
 *
 * The reader is never more than eight lines ahead. It is told to stop when the task has seen
 * enough, and has ended, with its file closed, when ferry_stream_close() returns. An error of
 * the reader comes after the lines before it. */
#include <ferry.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t read_lines(ferry_stream *lines, void *path) { /* a job, on a thread */
    FILE *file = fopen(path, "r");
    if (!file)
        return ferry_fail(-errno, "cannot open '%s': %s", (char *)path, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    int64_t rc = 0;
    while (rc == 0 && getline(&line, &room, file) > 0) {
        rc = ferry_stream_send(lines, line); /* blocks this thread while the consumer is behind */
        if (rc == 0)
            line = NULL; /* it is the consumer's now */
        room = line ? room : 0;
    }
    free(line);
    fclose(file);
    return rc;
}

/* The first lines of a file, `most` at most. */
static int64_t head(const char *path, int most) {
    ferry_stream_options options = {.name = "lines", .capacity = 8, .item_free = free};
    ferry_stream *lines = ferry_stream_submit(NULL, read_lines, (void *)path, &options);
    void *line;
    int n = 0;
    int64_t rc = 0;
    while (n < most && (rc = ferry_stream_next(lines, &line)) == 0) { /* suspends this task */
        n++;
        free(line);
    }
    if (rc < 0 && rc != FERRY_END)
        printf("%s\n", ferry_errmsg());
    ferry_stream_close(lines); /* stops and joins the reader; lines that nobody took are freed */
    return rc == FERRY_END || rc == 0 ? n : rc;
}

static int64_t run(void *arg) {
    (void)arg;
    const char *path = "/etc/passwd";
    int64_t all = head(path, 1000000);
    int64_t first = head(path, 1);
    printf("%s: %lld lines; of them seen again: %lld\n", path, (long long)all, (long long)first);
    return head("/nowhere/at/all", 10) == -ENOENT && all >= first && first == 1 ? 0 : -1;
}

int main(void) {
    return ferry_run(run, NULL) < 0;
}

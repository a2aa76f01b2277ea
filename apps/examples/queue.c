/* A pipeline with backpressure: a blocking producer on a thread, two tasks that consume.
 *
 * The queue holds eight lines. When the tasks are slow the thread waits, and the other way
 * round; closing the queue ends the consumers when it is empty. */
#include <ferry.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct count {
    ferry_queue *lines;
    size_t n, bytes;
};

static int64_t read_lines(void *arg) { /* a job: blocking stdio on a thread */
    ferry_queue *lines = arg;
    FILE *file = fopen("/etc/services", "r");
    if (!file)
        file = fopen("/etc/passwd", "r");
    char *line = NULL;
    size_t room = 0;
    int64_t n = 0;
    while (file && getline(&line, &room, file) > 0) {
        if (ferry_queue_put(lines, line) < 0) /* blocks this thread while the queue is full */
            break;
        line = NULL;
        room = 0;
        n++;
    }
    free(line);
    if (file)
        fclose(file);
    ferry_queue_close(lines, false);
    return n;
}

static int64_t count(void *arg) { /* a task */
    struct count *c = arg;
    void *line;
    /* suspends this task while the queue is empty */
    while (ferry_queue_get(c->lines, &line) == 0) {
        c->n++;
        c->bytes += strlen(line);
        free(line);
        ferry_yield();
    }
    return 0;
}

static int64_t pipeline(void *arg) {
    (void)arg;
    ferry_queue *lines =
        ferry_queue_new(8, &(ferry_queue_options){.name = "lines", .item_free = free});
    if (!lines)
        return -1;
    struct count a = {.lines = lines}, b = {.lines = lines};
    ferry_future *all[] = {ferry_submit(NULL, read_lines, lines), ferry_spawn(count, &a),
                           ferry_spawn(count, &b)};
    int64_t results[3];
    int64_t rc = ferry_gather(all, 3, results, 0);
    if (rc < 0)
        fprintf(stderr, "queue: %s\n", ferry_errmsg());
    else
        printf("%lld lines, %zu bytes, shared as %s\n", (long long)results[0], a.bytes + b.bytes,
               a.n && b.n ? "both could" : "one was enough");
    ferry_queue_free(lines);
    return rc < 0 ? rc : results[0] == (int64_t)(a.n + b.n) ? 0 : -1;
}

int main(void) {
    return ferry_run(pipeline, NULL) < 0;
}

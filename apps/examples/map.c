/* A function over many items, eight at a time, and the results in the order of the items.
 *
 * The items come from a function here, one after the other: there could be millions of them, and
 * no more than `ahead` exist at a time. The slow ones don't hold up those behind them, but each
 * result comes at its place; an error, too. */
#include <ferry.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct item {
    int number;
};

struct made {
    int so_far, last, given_back, most;
};

static int64_t make_item(void *arg, void **item) { /* the source */
    struct made *made = arg;
    if (made->so_far == made->last)
        return FERRY_END;
    struct item *fresh = malloc(sizeof *fresh);
    if (!fresh)
        return -ENOMEM;
    fresh->number = ++made->so_far;
    if (made->so_far - made->given_back > made->most)
        made->most = made->so_far - made->given_back;
    *item = fresh;
    return 0;
}

static int64_t square(void *arg) { /* a job, on a thread */
    const struct item *item = arg;
    struct timespec some_time = {0, item->number % 5 * 1000 * 1000};
    nanosleep(&some_time, NULL); /* a blocking call, longer for some than for others */
    if (item->number == 90)
        return ferry_fail(-EDOM, "90 has no square today");
    return (int64_t)item->number * item->number;
}

static int64_t run(void *arg) {
    (void)arg;
    struct made made = {.last = 100};
    ferry_source source = {.next = make_item, .arg = &made};
    ferry_map_options options = {
        .name = "square", .concurrency = 8, .ahead = 16, .item_free = free};
    ferry_stream *squares = ferry_map_submit(NULL, square, &source, &options);
    void *item;
    int64_t rc, sum = 0;
    int n = 0;
    while ((rc = ferry_stream_next(squares, &item)) >= 0) { /* suspends this task */
        n++;
        sum += rc;
        made.given_back++;
        free(item);
    }
    printf("%d squares in order, their sum is %lld, then: %s\n", n, (long long)sum, ferry_errmsg());
    free(item); /* the one that failed; NULL when there is none */
    ferry_stream_close(squares);
    printf("%d items were made, never more than %d at a time\n", made.so_far, made.most);
    return rc == -EDOM && n == 89 && made.most <= 16 ? 0 : -1;
}

int main(void) {
    return ferry_run(run, NULL) < 0;
}

/* Handles one by one, in the order in which they end: a watch that stays open between the waits.
 *
 * A handle is let go when it is given, since its owner may await it then, and its memory may be
 * freed. */
#include "config.h"

#include <errno.h>
#include <limits.h>

#include "watch.h"

struct ferry_completion {
    struct ferry__watch watch;
    size_t given;
};

static struct ferry__detail say_over = FERRY__STATIC_DETAIL("every handle was given already");
static struct ferry__detail say_none =
    FERRY__STATIC_DETAIL("there is no completion to ask: out of memory when it was to be made");

ferry_completion *ferry_completion_new(ferry_future **futures, size_t n) {
    if (n > INT_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (!futures[i])
            return NULL;
    ferry_completion *completion = ferry__calloc(1, sizeof *completion);
    if (!completion)
        return NULL;
    if (ferry__watch_begin(&completion->watch, futures, n) < 0) {
        ferry__free(completion);
        return NULL;
    }
    return completion;
}

int ferry_completion_next(ferry_completion *completion, int64_t ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    if (!completion)
        return (int)ferry__error_say(ctx, -ENOMEM, &say_none);
    int rc = ferry__enter(ctx);
    if (rc < 0)
        return rc;
    if (completion->given == completion->watch.n)
        return (int)ferry__error_say(ctx, FERRY_END, &say_over);
    rc = ferry__watch_wait(&completion->watch, ctx, FERRY__UNTIL_NEXT, ferry__deadline(ms), 0);
    if (rc < 0)
        return rc;
    struct ferry__watched *w = ferry__watch_next(&completion->watch);
    completion->given++;
    ferry__watch_let_go(w);
    return (int)w->index;
}

void ferry_completion_free(ferry_completion *completion) {
    if (!completion)
        return;
    ferry__watch_end(&completion->watch);
    ferry__free(completion);
}

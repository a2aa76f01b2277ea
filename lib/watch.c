/* Waiting for several handles at once: one link in each, one waiter for all of them.
 *
 * A watch looks at each distinct handle by a link of its own. When one ends, its completer notes
 * that in the watch, in the order of ending, and claims the owner's waiter once the condition
 * holds that the owner waits for: constant work for each end, one wake-up for each wait, however
 * many handles there are.
 *
 * Lock order: a future's lock > the watch's lock (a notify runs under the former and takes the
 * latter). So the owner never links, unlinks, cancels or waits with the watch's lock held.
 *
 * Lifetime. A watch holds a reference on every handle that it looks at. It may be freed once
 * each link was taken back, or was found to be gone: then its notify has come to its end,
 * because that needs the future's lock too. The waiter stands on the owner's stack; `waiter`
 * points to it only during the wait. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "watch.h"

static struct ferry__detail say_self =
    FERRY__STATIC_DETAIL("a task or job can't wait for its own handle, also not among others");
static struct ferry__detail say_forked = FERRY__STATIC_DETAIL(
    "a handle belongs to the parent process: fork() copies no threads; start the operation again "
    "in the child");

static bool holds(const struct ferry__watch *watch, enum ferry__watch_until until) {
    switch (until) {
    case FERRY__UNTIL_NEXT:
        return watch->first != NULL;
    case FERRY__UNTIL_ERROR:
        return watch->error || watch->n_ended == watch->n;
    case FERRY__UNTIL_FAILURE:
        return watch->failure || watch->n_ended == watch->n;
    case FERRY__UNTIL_ALL:
        break;
    }
    return watch->n_ended == watch->n;
}

/* Under the watch's lock. */
static void note(struct ferry__watch *watch, struct ferry__watched *w) {
    int64_t result = w->future->result;
    if (result < 0 && !watch->failure)
        watch->failure = w;
    if (result < 0 && result != -ECANCELED && !watch->error)
        watch->error = w;
    watch->latest = w;
    watch->n_ended++;
    w->next = NULL;
    if (watch->last)
        watch->last->next = w;
    else
        watch->first = w;
    watch->last = w;
}

static void ended(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    struct ferry__watched *w = ferry__container(link, struct ferry__watched, link);
    struct ferry__watch *watch = w->watch;
    (void)f;
    FERRY__POINT(watch_ended);
    ferry__lock(&watch->lock);
    note(watch, w);
    struct ferry__waiter *waiter = watch->waiter;
    if (waiter && holds(watch, watch->until)) {
        watch->waiter = NULL;
        if (ferry__claim(waiter))
            ferry__wakes_add(wakes, waiter);
    }
    ferry__unlock(&watch->lock);
}

/* ---- Begin and end --------------------------------------------------------------------------- */

/* The buckets are the upper bits of a product, which depend on all bits of the address (Knuth,
 * 6.4). */
static struct ferry__watched **bucket_of(const struct ferry__watch *watch, const ferry_future *f) {
    uint64_t product = (uint64_t)(uintptr_t)f * UINT64_C(0x9e3779b97f4a7c15);
    return &watch->buckets[product >> watch->shift];
}

static struct ferry__watched *find(const struct ferry__watch *watch, const ferry_future *f) {
    struct ferry__watched *w = *bucket_of(watch, f);
    while (w && w->future != f)
        w = w->same;
    return w;
}

int ferry__watch_begin(struct ferry__watch *watch, ferry_future **futures, size_t n) {
    *watch = (struct ferry__watch){.generation = atomic_load(&ferry__generation), .shift = 63};
    /* One block: the handles, then their places, then the buckets, of which there are less than
     * 2n + 2. */
    if (n > SIZE_MAX / (sizeof(struct ferry__watched) + 4 * sizeof(void *)) - 2)
        return -ENOMEM;
    size_t buckets = 2;
    while (buckets < n) {
        buckets *= 2;
        watch->shift--;
    }
    size_t pointers = n + buckets;
    char *block = ferry__malloc(n * sizeof(struct ferry__watched) + pointers * sizeof(void *));
    if (!block)
        return -ENOMEM;
    watch->watched = (struct ferry__watched *)(void *)block;
    watch->place = (struct ferry__watched **)(void *)(block + n * sizeof(struct ferry__watched));
    watch->buckets = watch->place + n;
    memset(watch->place, 0, pointers * sizeof(void *));
    for (size_t i = 0; i < n; i++) {
        ferry_future *f = futures[i];
        if (!f)
            continue;
        struct ferry__watched *w = find(watch, f);
        if (!w) {
            struct ferry__watched **bucket = bucket_of(watch, f);
            w = &watch->watched[watch->n++];
            *w = (struct ferry__watched){.link = {.notify = ended},
                                         .watch = watch,
                                         .future = ferry_ref(f),
                                         .index = i,
                                         .same = *bucket};
            *bucket = w;
        }
        watch->place[i] = w;
    }
    /* Only now, since an end may come at once and asks how many there are. */
    for (size_t i = 0; i < watch->n; i++) {
        struct ferry__watched *w = &watch->watched[i];
        if (!ferry__future_link(w->future, &w->link)) {
            ferry__lock(&watch->lock);
            note(watch, w);
            ferry__unlock(&watch->lock);
        } else if (w->future->generation < watch->generation) {
            watch->generation = w->future->generation;
        }
    }
    return 0;
}

void ferry__watch_let_go(struct ferry__watched *w) {
    if (!w->future)
        return;
    ferry__future_unlink(w->future, &w->link);
    ferry__future_unref(w->future);
    w->future = NULL;
}

void ferry__watch_end(struct ferry__watch *watch) {
    for (size_t i = 0; i < watch->n; i++)
        ferry__watch_let_go(&watch->watched[i]);
    ferry__free(watch->watched);
}

/* ---- Waiting --------------------------------------------------------------------------------- */

bool ferry__watch_holds(struct ferry__watch *watch, enum ferry__watch_until until) {
    ferry__lock(&watch->lock);
    bool yes = holds(watch, until);
    ferry__unlock(&watch->lock);
    return yes;
}

/* A job that waits on its worker runs what is queued behind it in the same full pool itself. Each
 * handle is offered once: what couldn't be run then is running, or the pool can still grow. */
static bool help(struct ferry__watch *watch, struct ferry__ctx *ctx, int64_t deadline) {
    while (watch->helped < watch->n) {
        ferry_future *f = watch->watched[watch->helped].future;
        if (!ferry__future_done(f) && ferry__worker_help(ctx, f, deadline))
            return true;
        watch->helped++;
    }
    return false;
}

int ferry__watch_wait(struct ferry__watch *watch, struct ferry__ctx *ctx,
                      enum ferry__watch_until until, int64_t deadline, unsigned flags) {
    if (ferry__watch_holds(watch, until))
        return 0;
    if (ferry__forked(watch->generation))
        return (int)ferry__error_say(ctx, FERRY_EFORKED, &say_forked);
    if (ctx->self && !ferry__future_done(ctx->self) && find(watch, ctx->self))
        return (int)ferry__error_say(ctx, -EDEADLK, &say_self);
    int rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    bool job = ctx->kind == FERRY__JOB;
    /* Only where nothing but the end of all ends the wait, or a cancel that is passed on: the first
     * failure of another one couldn't end a job that this thread runs itself. */
    bool helps = job && (flags & FERRY__OWNED) && until == FERRY__UNTIL_ALL;
    while (helps && help(watch, ctx, deadline))
        if (ferry__watch_holds(watch, until))
            return 0;
    FERRY__POINT(watch_wait);
    struct ferry__waiter waiter;
    ferry__waiter_init(&waiter, ctx);
    ferry__lock(&watch->lock);
    if (holds(watch, until)) {
        ferry__unlock(&watch->lock);
        return 0;
    }
    watch->until = until;
    watch->waiter = &waiter;
    ferry__unlock(&watch->lock);
    if (job)
        ferry__worker_blocked(ctx);
    rc = ferry__park(&waiter, "several handles", deadline, flags);
    if (job)
        ferry__worker_unblocked(ctx);
    if (rc < 0) {
        ferry__lock(&watch->lock);
        watch->waiter = NULL;
        ferry__unlock(&watch->lock);
    }
    return rc;
}

struct ferry__watched *ferry__watch_next(struct ferry__watch *watch) {
    ferry__lock(&watch->lock);
    struct ferry__watched *w = watch->first;
    if (w) {
        watch->first = w->next;
        if (!watch->first)
            watch->last = NULL;
    }
    ferry__unlock(&watch->lock);
    return w;
}

void ferry__watch_cancel(struct ferry__watch *watch) {
    for (size_t i = 0; i < watch->n; i++)
        if (watch->watched[i].future)
            ferry_cancel(watch->watched[i].future); /* too late for those that have ended */
}

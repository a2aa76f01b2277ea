/* So many at once per key, and in all.
 *
 * A key has a record as long as somebody holds a token of it or waits for one. The records are
 * a treap by name: a tree in which ranks, random numbers, go down from parent to child, so that it
 * is as deep as a random one in whatever order keys come and go, and never has to be made anew.
 *
 * A token goes straight from who gives it back to who is next. A key with waiters that could have
 * one more token of its own stands in the line of turns; it does so only while all keys together
 * are the limit. So, with the lock free:
 *
 *     somebody waits for a key  =>  all its tokens are taken, or all there are in all
 *     a key stands in line     <=>  somebody is listed in its line, and it has a token to spare
 *     a key stands in line      =>  all tokens there are in all are taken
 *
 * When one of those comes free the key at the head gets it, and goes to the end of the line if it
 * still belongs there: keys take turns. (A waiter that was cancelled or timed out stands in its
 * line until it runs, or is passed; it no longer waits, but is counted in `waiting` until it runs.)
 *
 * Tokens of jobs are given back by ferry__job_finish(), which comes when the job's thread has left
 * its function, or when it never will come to it. The last one frees a limiter that was given up.
 *
 * Owners: all fields of keys and limiter are under the limiter's lock, but for what is fixed. Lock
 * order: it stands alone. Keys are made before, and freed after, it is held. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "executor.h"
#include "line.h"

/* A key's record; of a job's token as well. */
struct ferry__token {
    ferry_limiter *limiter; /* fixed */
    struct ferry__token *left, *right;
    uint64_t rank;
    size_t held;    /* tokens taken */
    size_t by_jobs; /* of them by jobs */
    size_t waiting; /* calls that haven't got one, nor left */
    void *first, *last;
    struct ferry__token *next, *prev; /* the line of turns */
    bool in_line;
    char name[]; /* fixed */
};

struct ferry_limiter {
    size_t per_key; /* fixed, like what follows */
    size_t total;
    char name[FERRY__NAME_MAX];
    char waits_for[FERRY__NAME_MAX + 16]; /* for reports */
    uint32_t generation;

    unsigned lock; /* guards what follows */
    struct ferry__token *root;
    uint64_t dice;
    struct ferry__token *first, *last; /* keys whose turn will come */
    bool given_up;
    ferry_limiter_stats stats;
};

static struct ferry__detail say_null =
    FERRY__STATIC_DETAIL("a limiter and a key are needed: one of them is NULL");
static struct ferry__detail say_parent = FERRY__STATIC_DETAIL(
    "the limiter belongs to the parent process, and so do those who hold it: make a new one in the "
    "child");
static struct ferry__detail say_none = FERRY__STATIC_DETAIL("no token of the key is free now");
static struct ferry__detail say_nowhere =
    FERRY__STATIC_DETAIL("no token of the key is free now, and a loop's own thread can't wait for "
                         "one: submit from a task");
static struct ferry__detail say_busy = FERRY__STATIC_DETAIL(
    "the limiter can't be freed while somebody waits for it, or holds a token from an acquire");

/* ---- The keys, under the lock ---------------------------------------------------------------- */

static struct ferry__token *find(const ferry_limiter *limiter, const char *name) {
    struct ferry__token *key = limiter->root;
    for (int order; key && (order = strcmp(name, key->name)) != 0;)
        key = order < 0 ? key->left : key->right;
    return key;
}

static struct ferry__token **place_of(ferry_limiter *limiter, const struct ferry__token *key) {
    struct ferry__token **at = &limiter->root;
    while (*at != key)
        at = strcmp(key->name, (*at)->name) < 0 ? &(*at)->left : &(*at)->right;
    return at;
}

/* A key that isn't inside takes the place of the first whose rank is lower; what stood there is
 * parted into what is before it and what is after. */
static void insert(ferry_limiter *limiter, struct ferry__token *key) {
    limiter->dice ^= limiter->dice << 13;
    limiter->dice ^= limiter->dice >> 7;
    limiter->dice ^= limiter->dice << 17;
    key->rank = limiter->dice;
    struct ferry__token **at = &limiter->root;
    while (*at && (*at)->rank >= key->rank)
        at = strcmp(key->name, (*at)->name) < 0 ? &(*at)->left : &(*at)->right;
    struct ferry__token *rest = *at, **before = &key->left, **after = &key->right;
    *at = key;
    while (rest) {
        if (strcmp(rest->name, key->name) < 0) {
            *before = rest;
            before = &rest->right;
            rest = rest->right;
        } else {
            *after = rest;
            after = &rest->left;
            rest = rest->left;
        }
    }
    *before = *after = NULL;
    limiter->stats.keys++;
}

static void take_out(ferry_limiter *limiter, struct ferry__token *key) {
    struct ferry__token **at = place_of(limiter, key);
    struct ferry__token *before = key->left, *after = key->right;
    while (before && after) {
        if (before->rank >= after->rank) {
            *at = before;
            at = &before->right;
            before = before->right;
        } else {
            *at = after;
            at = &after->left;
            after = after->left;
        }
    }
    *at = before ? before : after;
    limiter->stats.keys--;
}

/* ---- Turns, under the lock ------------------------------------------------------------------- */

/* Somebody is listed, or about to be: it gets in line if it could have one more. */
static void line_up(ferry_limiter *limiter, struct ferry__token *key) {
    if (key->in_line || key->held >= limiter->per_key)
        return;
    key->next = NULL;
    key->prev = limiter->last;
    if (key->prev)
        key->prev->next = key;
    else
        limiter->first = key;
    limiter->last = key;
    key->in_line = true;
}

static void leave_line(ferry_limiter *limiter, struct ferry__token *key) {
    if (!key->in_line)
        return;
    if (key->prev)
        key->prev->next = key->next;
    else
        limiter->first = key->next;
    if (key->next)
        key->next->prev = key->prev;
    else
        limiter->last = key->prev;
    key->in_line = false;
}

static bool is_free(const ferry_limiter *limiter) {
    return limiter->total == 0 || limiter->stats.held < limiter->total;
}

static void grant(struct ferry__token *key, bool to_job) {
    ferry_limiter_stats *all = &key->limiter->stats;
    key->held++;
    all->held++;
    all->granted++;
    key->by_jobs += to_job;
    all->by_jobs += to_job;
}

/* Hands out what there is. */
static void serve(ferry_limiter *limiter, struct ferry__wakes *wakes) {
    for (struct ferry__token *key; is_free(limiter) && (key = limiter->first) != NULL;) {
        leave_line(limiter, key);
        struct ferry__waiter *w = ferry__line_claim(&key->first, &key->last);
        if (!w)
            continue;
        key->waiting--;
        limiter->stats.waiting--;
        grant(key, w->value != 0);
        w->item = key;
        ferry__wakes_add(wakes, w);
        if (key->first)
            line_up(limiter, key);
    }
}

/* Takes a key out that nobody needs, to be freed without the lock; NULL: somebody does. */
static struct ferry__token *unneeded(ferry_limiter *limiter, struct ferry__token *key) {
    if (!key->first)
        leave_line(limiter, key);
    if (key->held > 0 || key->waiting > 0)
        return NULL;
    take_out(limiter, key);
    return key;
}

/* ---- Taking ---------------------------------------------------------------------------------- */

/* 0, or why nothing can be done with them. */
static int usable(const ferry_limiter *limiter, const char *name) {
    if (!limiter || !name)
        return ferry__refuse(-EINVAL, &say_null);
    return ferry__forked(limiter->generation) ? ferry__refuse(FERRY_EFORKED, &say_parent) : 0;
}

/* The key's record, made if there is none, with the lock held; NULL, without the lock: no
 * memory. */
static struct ferry__token *lock_key(ferry_limiter *limiter, const char *name) {
    ferry__lock(&limiter->lock);
    struct ferry__token *key = find(limiter, name);
    if (key)
        return key;
    ferry__unlock(&limiter->lock);
    size_t size = strlen(name) + 1;
    struct ferry__token *fresh = ferry__calloc(1, sizeof *fresh + size);
    if (!fresh)
        return NULL;
    fresh->limiter = limiter;
    memcpy(fresh->name, name, size);
    FERRY__POINT(limiter_made);
    ferry__lock(&limiter->lock);
    key = find(limiter, name);
    if (!key) {
        insert(limiter, fresh);
        return fresh;
    }
    ferry__unlock(&limiter->lock);
    FERRY__POINT(limiter_again);
    ferry__free(fresh); /* and once more: it may be gone again */
    return lock_key(limiter, name);
}

/* With the lock held, which it drops: waits in turn. */
static int wait_in_line(ferry_limiter *limiter, struct ferry__token *key, int64_t ms,
                        struct ferry__waiter *w) {
    key->waiting++;
    limiter->stats.waiting++;
    line_up(limiter, key);
    int rc = ferry__line_wait(&limiter->lock, &key->first, &key->last, w, limiter->waits_for, ms);
    if (rc == 0)
        return 0;
    char text[256];
    ferry__lock(&limiter->lock);
    key->waiting--;
    limiter->stats.waiting--;
    limiter->stats.timeouts += rc == -ETIMEDOUT;
    snprintf(text, sizeof text,
             "limiter '%s': no token of '%.100s' within %lld ms: %zu of %zu of that key are taken, "
             "%zu in "
             "all, and %zu others wait for it",
             limiter->name, key->name, (long long)(ms < 0 ? 0 : ms), key->held, limiter->per_key,
             limiter->stats.held, key->waiting);
    struct ferry__token *gone = unneeded(limiter, key);
    ferry__unlock(&limiter->lock);
    ferry__free(gone);
    return rc == -ETIMEDOUT ? (int)ferry_fail(rc, "%s", text) : rc;
}

enum how { TRY, WAIT, WAIT_FOR_JOB };

/* A token of the key, in *token. */
static int take(ferry_limiter *limiter, const char *name, enum how how, int64_t ms,
                struct ferry__token **token) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    int rc = usable(limiter, name);
    if (rc == 0 && how != TRY)
        rc = ferry__enter(ctx);
    if (rc != 0)
        return rc;
    struct ferry__token *key = lock_key(limiter, name);
    if (!key)
        return (int)ferry__error_say(ctx, -ENOMEM, NULL);
    if (key->held < limiter->per_key && is_free(limiter)) {
        grant(key, how == WAIT_FOR_JOB); /* nobody stands in the line of turns */
        ferry__unlock(&limiter->lock);
        *token = key;
        return 0;
    }
    if (how == TRY || !ferry__may_park(ctx)) {
        struct ferry__token *gone = unneeded(limiter, key);
        ferry__unlock(&limiter->lock);
        ferry__free(gone);
        return how == WAIT ? ferry__can_park(ctx)
                           : ferry__refuse(-EAGAIN, how == TRY ? &say_none : &say_nowhere);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    w.value = how == WAIT_FOR_JOB;
    rc = wait_in_line(limiter, key, ms, &w);
    *token = w.item;
    return rc;
}

int ferry_limiter_acquire_for(ferry_limiter *limiter, const char *key, int64_t ms) {
    struct ferry__token *token;
    return take(limiter, key, WAIT, ms, &token);
}

int ferry_limiter_acquire(ferry_limiter *limiter, const char *key) {
    return ferry_limiter_acquire_for(limiter, key, FERRY_FOREVER);
}

int ferry_limiter_try(ferry_limiter *limiter, const char *key) {
    struct ferry__token *token;
    return take(limiter, key, TRY, 0, &token);
}

int ferry__token_take(ferry_limiter *limiter, const char *key, struct ferry__token **token) {
    return take(limiter, key, WAIT_FOR_JOB, FERRY_FOREVER, token);
}

ferry_future *ferry_limiter_submit(ferry_limiter *limiter, const char *key,
                                   ferry_executor *executor, ferry_fn fn, void *arg) {
    ferry_job_options options = {.limiter = limiter, .key = key};
    if (limiter && key)
        return ferry_submit_with(executor, fn, arg, &options);
    return ferry__future_fixed(ferry__refuse(-EINVAL, &say_null), &say_null);
}

/* ---- Giving back ----------------------------------------------------------------------------- */

/* With the lock held, which it drops. */
static void put(ferry_limiter *limiter, struct ferry__token *key) {
    struct ferry__wakes wakes = {0};
    key->held--;
    limiter->stats.held--;
    if (key->first)
        line_up(limiter, key);
    serve(limiter, &wakes);
    struct ferry__token *gone = unneeded(limiter, key);
    bool last = limiter->given_up && limiter->stats.held == 0;
    ferry__unlock(&limiter->lock);
    ferry__wake_all(&wakes);
    ferry__free(gone);
    if (last)
        ferry__free(limiter);
}

int ferry_limiter_release(ferry_limiter *limiter, const char *name) {
    int rc = usable(limiter, name);
    if (rc != 0)
        return rc;
    ferry__lock(&limiter->lock);
    struct ferry__token *key = find(limiter, name);
    if (!key || key->held == key->by_jobs) {
        ferry__unlock(&limiter->lock);
        return (int)ferry_fail(-EPERM, "limiter '%s': no token of '%.100s' is held by an acquire",
                               limiter->name, name);
    }
    put(limiter, key);
    return 0;
}

void ferry__token_put(struct ferry__token *token) {
    ferry_limiter *limiter = token->limiter;
    ferry__lock(&limiter->lock);
    token->by_jobs--;
    limiter->stats.by_jobs--;
    put(limiter, token);
}

/* ---- Life ------------------------------------------------------------------------------------ */

int ferry_limiter_new(ferry_limiter **out, const ferry_limiter_options *options) {
    static const ferry_limiter_options defaults;
    if (!options)
        options = &defaults;
    ferry_limiter *limiter = *out = ferry__calloc(1, sizeof *limiter);
    if (!limiter)
        return ferry__refuse(-ENOMEM, NULL);
    limiter->per_key = options->per_key ? options->per_key : 1;
    limiter->total = options->total;
    snprintf(limiter->name, sizeof limiter->name, "%s", options->name ? options->name : "limiter");
    snprintf(limiter->waits_for, sizeof limiter->waits_for, "a token of %s", limiter->name);
    limiter->dice = ((uint64_t)ferry__now() ^ (uint64_t)(uintptr_t)limiter) | 1;
    ferry__fork_watch();
    limiter->generation = atomic_load(&ferry__generation);
    return 0;
}

/* In the child of a fork, where the threads that were about to change something are gone. */
static void free_inherited(ferry_limiter *limiter) {
    bool whole = __atomic_load_n(&limiter->lock, __ATOMIC_RELAXED) == 0;
    for (struct ferry__token *key; whole && (key = limiter->root) != NULL;) {
        take_out(limiter, key);
        ferry__free(key);
    }
    ferry__free(limiter);
}

int ferry_limiter_free(ferry_limiter *limiter) {
    if (!limiter)
        return 0;
    if (ferry__forked(limiter->generation)) {
        free_inherited(limiter);
        return 0;
    }
    ferry__lock(&limiter->lock);
    bool busy = limiter->stats.waiting > 0 || limiter->stats.held > limiter->stats.by_jobs;
    limiter->given_up = !busy;
    bool now = !busy && limiter->stats.held == 0;
    ferry__unlock(&limiter->lock);
    if (now)
        ferry__free(limiter);
    return busy ? ferry__refuse(-EBUSY, &say_busy) : 0;
}

void ferry_limiter_get_stats(ferry_limiter *limiter, const char *name, ferry_limiter_stats *stats) {
    memset(stats, 0, sizeof *stats);
    if (!limiter || ferry__forked(limiter->generation))
        return;
    ferry__lock(&limiter->lock);
    const struct ferry__token *key = name ? find(limiter, name) : NULL;
    if (!name)
        *stats = limiter->stats;
    else if (key)
        *stats = (ferry_limiter_stats){
            .held = key->held, .by_jobs = key->by_jobs, .waiting = key->waiting, .keys = 1};
    ferry__unlock(&limiter->lock);
}

/* Clean-up that is tied to a scope.
 *
 * Each context has one list of what is deferred, the latest first; each entry remembers the
 * address of its scope. Since scopes nest, the entries of the innermost scope stand in front.
 * Closing a scope calls its entries before it goes out of the chain; the end of a context calls
 * whatever is left, without looking at scopes, whose frames may be gone. Owner side only. */
#include "config.h"

#include <errno.h>

#include "core.h"

#define AT_MOST_MS 5000

struct ferry__deferred {
    struct ferry__deferred *next;
    const ferry_scope *scope; /* an address to compare with */
    ferry_fn fn;
    void *arg;
    int64_t at_most_ms;
};

static struct ferry__detail say_none = FERRY__STATIC_DETAIL(
    "the innermost scope has no clean-up with this function and argument");

int ferry_defer_for(ferry_fn fn, void *arg, int64_t at_most_ms) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    struct ferry__deferred *d = ferry__record_get(sizeof *d);
    if (!d)
        return (int)ferry__error_say(ctx, -ENOMEM, NULL);
    *d = (struct ferry__deferred){ctx->deferred, ctx->top, fn, arg, at_most_ms};
    ctx->deferred = d;
    return 0;
}

int ferry_defer(ferry_fn fn, void *arg) {
    return ferry_defer_for(fn, arg, AT_MOST_MS);
}

int ferry_undefer(ferry_fn fn, void *arg) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return -ENOMEM;
    for (struct ferry__deferred **at = &ctx->deferred, *d; (d = *at) && d->scope == ctx->top;
         at = &d->next) {
        if (d->fn == fn && d->arg == arg) {
            *at = d->next;
            ferry__record_put(d, sizeof *d);
            return 0;
        }
    }
    return (int)ferry__error_say(ctx, -EINVAL, &say_none);
}

/* The list may grow while it is called: what a clean-up defers is called as well. */
static void call_first(struct ferry__ctx *ctx) {
    struct ferry__deferred d = *ctx->deferred;
    ferry__record_put(ctx->deferred, sizeof *ctx->deferred);
    ctx->deferred = d.next;
    ferry_scope shield = FERRY_SCOPE_INIT;
    ferry_shield_open(&shield, d.at_most_ms);
    int64_t rc = d.fn(d.arg);
    if (rc < 0)
        ferry__log(FERRY_LOG_ERROR, "a clean-up of '%s' failed: %s", ferry_self_name(),
                   ferry_errmsg());
    ferry_scope_close(&shield, 0);
}

void ferry__defer_call(struct ferry__ctx *ctx, const ferry_scope *scope) {
    if (!ctx->deferred)
        return;
    /* The region's own error stays the last one. */
    int64_t code = ctx->error;
    struct ferry__detail *detail = ferry__detail_ref(ctx->detail);
    while (ctx->deferred && (!scope || ctx->deferred->scope == scope))
        call_first(ctx);
    ferry__error_set(ctx, code, detail);
}

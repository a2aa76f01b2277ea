/* Clean-up that is tied to a scope: what an async context manager or a `finally` is elsewhere. */
#ifndef FERRY_DEFER_H
#define FERRY_DEFER_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* Has fn(arg) called when the innermost open scope (or group) of the caller is closed: after the
 * region has ended, with success, an error or a cancel; last in, first out. Without an open
 * scope: when the task, job or thread ends. fn runs where the scope is closed, in the same task,
 * job or thread, and may wait: in a shield, at most for `at_most_ms` milliseconds
 * (ferry_defer(): 5,000), so that clean-up is possible in a cancelled scope and still ends. What
 * it returns < 0 is logged, with its detail; it doesn't replace the result of the region.
 * Returns 0, or -ENOMEM: fn won't be called then, and the caller must clean up. Never suspends. */
FERRY_API int ferry_defer(ferry_fn fn, void *arg);
FERRY_API int ferry_defer_for(ferry_fn fn, void *arg, int64_t at_most_ms);

/* Takes back the latest ferry_defer() of the innermost scope with this fn and arg: for clean-up
 * that was done by hand, or isn't wanted any more. Returns 0, or -EINVAL when there is none. */
FERRY_API int ferry_undefer(ferry_fn fn, void *arg);

FERRY_END_DECLS

#endif

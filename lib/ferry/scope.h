/* Scopes: who may still wait, and until when.
 *
 * A scope is a region of a task, a job or a thread, with a deadline and a cancel flag. In a
 * cancelled scope every call that may wait fails with -ECANCELED, again and again, until the scope
 * is closed or a shield is open. Scopes nest and are closed in the reverse order, by the task, job
 * or thread that opened them.
 *
 *     ferry_scope scope = FERRY_SCOPE_INIT;
 *     ferry_scope_open(&scope, 500);
 *     int64_t rc = talk_to_server();
 *     rc = ferry_scope_close(&scope, rc);      // -ETIMEDOUT when the 500 ms were over
 */
#ifndef FERRY_SCOPE_H
#define FERRY_SCOPE_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* The fields belong to the library. They are here so that a scope can stand on the stack. */
struct ferry_scope {
    struct ferry_scope *outer; /* owner only */
    void *ctx;                 /* atomic: written by open */
    void *group;               /* owner only: the group that this scope is part of */
    void *cell;                /* atomic: the flag that jobs started in here look at */
    int64_t deadline;          /* owner only: absolute, ns */
    int64_t saved;             /* owner only: the earliest deadline outside */
    int request;               /* atomic: written once, 0 or the first reason to stop */
    int state;                 /* owner only: fresh, open, closed */
    bool shield;               /* owner only */
    bool told;                 /* owner only: members of the group were told */
    unsigned round;            /* owner only: when it was opened, counted in budgets */
    void *reserved[2];
};
#define FERRY_SCOPE_INIT FERRY_ZERO

/* Opens a scope that ends by itself after `timeout_ms` milliseconds (FERRY_FOREVER: never; <= 0:
 * at the first call that has to wait; what is ready is still got). It must have been initialised
 * with FERRY_SCOPE_INIT; a cancel before the opening counts. Returns 0; -EINVAL when it is open
 * or was used before; -ENOMEM when the thread's record could not be made. Never suspends. Tasks,
 * jobs, threads. */
FERRY_API int ferry_scope_open(ferry_scope *scope, int64_t timeout_ms);

/* Closes it. `rc` is how the region ended, and so is what is returned, with one exception: when
 * rc is -ECANCELED, this scope was cancelled, and no scope around it is, its own request is
 * absorbed: -ETIMEDOUT for a deadline, 0 for ferry_scope_cancel(). Returns -EINVAL when the
 * scope isn't the caller's innermost one (scopes opened inside and left open are closed then,
 * and members of groups among them cancelled). Never suspends. */
FERRY_API int64_t ferry_scope_close(ferry_scope *scope, int64_t rc);

/* Cancels the scope, and by that all that is inside, jobs that were started there as well. The
 * first reason is kept. Any thread; the scope must be alive when this is called, and may be gone
 * as soon as its owner has seen the request: a close waits until this call is done with it.
 * Never blocks. */
FERRY_API void ferry_scope_cancel(ferry_scope *scope);

/* Moves the deadline to `timeout_ms` from now (FERRY_FOREVER: none). Returns 0, or -EINVAL when
 * the scope isn't open or is cancelled or expired already: that is never undone. Only on the
 * thread that the scope lives on (any task of the same loop may). Never suspends. */
FERRY_API int ferry_scope_set_timeout(ferry_scope *scope, int64_t timeout_ms);

/* Whether the scope was cancelled by somebody, or by its deadline; false for both while it
 * isn't. They still answer after the close. */
FERRY_API bool ferry_scope_cancelled(const ferry_scope *scope);
FERRY_API bool ferry_scope_expired(const ferry_scope *scope);

/* Opens a scope in which requests from outside of it don't count, so that clean-up can still
 * wait; at most for `at_most_ms` milliseconds. Its own deadline and ferry_scope_cancel() do
 * count. Closed like any other. A shutdown that has become hard ignores shields. Errors as
 * ferry_scope_open(). */
FERRY_API int ferry_shield_open(ferry_scope *scope, int64_t at_most_ms);

/* Whether the current task, job or thread should stop: 0 or -ECANCELED (ferry_errmsg() says
 * why). It reads the flag and the clock, never waits, and is cheap enough for inner loops. In a
 * thread without an open scope there is nobody who could cancel: -EINVAL. */
FERRY_API int ferry_checkpoint(void);

/* How many milliseconds are left until the nearest deadline that counts here (0 when it has
 * passed or the scope is cancelled); FERRY_FOREVER when there is none. For calls that take a
 * time-out of their own. */
FERRY_API int64_t ferry_time_left(void);

FERRY_END_DECLS

#endif

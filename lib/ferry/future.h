/* Handles: what a task, a job or any other started operation returns.
 *
 * A handle is reference counted. Whoever starts an operation owns one reference and gives it
 * back with exactly one of ferry_await(), ferry_await_for() or ferry_detach(). The same calls
 * work from a task (which is suspended), from a thread and from a job (which are blocked). On a
 * loop's own thread outside a task nothing may block: there a call that would have to wait
 * returns -EDEADLK at once, and ferry_then() is the way. */
#ifndef FERRY_FUTURE_H
#define FERRY_FUTURE_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

/* ---- Waiting for the end --------------------------------------------------------------------- */

/* Waits until the operation has ended, takes its result and gives the caller's reference back.
 *
 * Await owns: when the awaiter is cancelled meanwhile (or was before the call), the operation is
 * cancelled and joined first. If it had a result all the same, that is returned and the cancel
 * comes at the next wait.
 *
 * Returns the operation's result (>= 0, or its own error), or
 *   -ECANCELED           the awaiter was cancelled, and so was the operation
 *   FERRY_EJOBCANCELED   somebody else cancelled the operation; the awaiter isn't cancelled
 *   -ENOMEM              `future` is NULL: starting the operation had failed
 *   -EDEADLK             a task or job awaits itself, or the call was made on a loop's own thread
 *                        outside a task and would have to wait. The handle is still the caller's
 *   FERRY_EFORKED        the operation belongs to the parent process. The handle is still the
 *                        caller's
 * May suspend or block. Any thread. */
FERRY_API int64_t ferry_await(ferry_future *future);

/* The same with a bound: when `ms` milliseconds are over, the operation is cancelled and joined,
 * and -ETIMEDOUT is returned (unless it ended with a result or an error of its own all the same,
 * which is returned then). A result that is there already beats a time-out of zero. */
FERRY_API int64_t ferry_await_for(ferry_future *future, int64_t ms);

/* Looks on: waits until the operation has ended, and neither takes the result nor cancels
 * anything. Returns 0 when it has ended, -ECANCELED when the waiter was cancelled, -EDEADLK and
 * FERRY_EFORKED as ferry_await(), -ENOMEM for NULL, or when there is no memory for the record
 * that a thread's first call makes. May suspend or block. Any thread. */
FERRY_API int ferry_wait(ferry_future *future);

/* The same with a bound in milliseconds; -ETIMEDOUT when it is over. */
FERRY_API int ferry_wait_for(ferry_future *future, int64_t ms);

/* Whether the operation has ended. Never blocks. Any thread. NULL has ended (with -ENOMEM). */
FERRY_API bool ferry_done(const ferry_future *future);

/* The result of an operation that has ended, as ferry_await() would return it, without giving
 * the reference back; -EAGAIN while it runs. Out-parameters aren't written by this. Never
 * blocks. Any thread. */
FERRY_API int64_t ferry_result(ferry_future *future);

/* Whether the operation ended because it was cancelled. Never blocks. Any thread. */
FERRY_API bool ferry_cancelled(const ferry_future *future);

/* The name that the operation was given, or "task" / "job" / "promise". Valid as long as the
 * handle. */
FERRY_API const char *ferry_future_name(const ferry_future *future);

/* ---- Ending it ------------------------------------------------------------------------------- */

enum ferry_cancel_outcome {
    FERRY_CANCEL_LATE = 0,      /* it had ended already: nothing was done */
    FERRY_CANCEL_ASKED = 1,     /* it was told to stop; await it to know how it ended */
    FERRY_CANCEL_NEVER_RAN = 2  /* a queued job: it is done, cancelled, and will never run */
};

/* Asks the operation to stop; never waits for it. Asking twice is asking once. A task is told on
 * its own loop. A job that is queued never runs; a running one has its flag set
 * (ferry_checkpoint()) and its interrupt hook called, on the calling thread, once. Returns one
 * of enum ferry_cancel_outcome. Any thread. NULL gives FERRY_CANCEL_LATE. */
FERRY_API int ferry_cancel(ferry_future *future);

/* Lets the operation run on by itself and gives the caller's reference back. An error that it
 * ends with goes to the log hook (a cancellation doesn't). NULL is ignored. Never blocks. Any
 * thread. What is started to be let go is better started with ferry_background_spawn() or
 * _submit(): see background.h. */
FERRY_API void ferry_detach(ferry_future *future);

/* One more reference, for one more owner who awaits or detaches it on its own. Returns `future`.
 * With several awaits, the out-parameters of a bridge call are written by the first. Any thread. */
FERRY_API ferry_future *ferry_ref(ferry_future *future);

/* ---- Callbacks ------------------------------------------------------------------------------- */

/* `result` is what ferry_result() gives. The callback may call ferry_await() or ferry_detach()
 * on the handle (the caller's reference is untouched by ferry_then()), and release whatever it
 * likes. */
typedef void (*ferry_callback)(ferry_future *future, int64_t result, void *arg);

/* Calls `fn` exactly once, on `loop`'s thread, when the operation has ended; never from inside
 * this call, ferry_cancel() or the completing call. Callbacks of one loop come in the order of
 * registration. Any number may be added, also after the end. `loop` NULL: the loop of the
 * current task, callback or job. Returns 0, -ENOMEM (also for a NULL handle), -EINVAL without a
 * loop or function, FERRY_ECLOSED when the loop was closed. Until the callback has run, the loop
 * stays alive and busy. Any thread. */
FERRY_API int ferry_then(ferry_future *future, ferry_loop *loop, ferry_callback fn, void *arg);

/* ---- Handles of your own --------------------------------------------------------------------- */

typedef struct ferry_promise ferry_promise;

/* A handle that the program completes itself. *future (one reference, for the consumer) ends
 * when ferry_promise_set() is called, with FERRY_ECLOSED when the promise is dropped without, or
 * cancelled by ferry_cancel(). Returns the producer's side, or NULL when out of memory (*future
 * is NULL then). Give it back with ferry_promise_drop(). `name` (NULL: "promise") is copied, cut
 * at 31 bytes. */
FERRY_API ferry_promise *ferry_promise_new(ferry_future **future, const char *name);

/* Completes the handle: `result` >= 0, or an error whose detail is the caller's current one. The
 * first value stands. Returns 0; -EINVAL when it was set before; -ECANCELED when the handle was
 * cancelled, and FERRY_ECLOSED when nobody holds the handle any more: the value still belongs to
 * the caller then. Never blocks; nothing of the consumer's runs inside. Any thread. */
FERRY_API int ferry_promise_set(ferry_promise *promise, int64_t result);

/* Whether somebody still wants the value: false once it is set, cancelled, or the consumer has
 * left. */
FERRY_API bool ferry_promise_wanted(ferry_promise *promise);

/* Gives the producer's side back. NULL is ignored. Any thread; never blocks. */
FERRY_API void ferry_promise_drop(ferry_promise *promise);

/* A new handle that ends as `inner` does, while cancelling the new one leaves `inner` alone: so
 * that an await (or a gather) can be given up and the operation runs on. `inner` stays the
 * caller's. When the new handle is cancelled, nothing of it stays behind on `inner`; if `inner`
 * later fails and nobody reads it, its error goes to the log hook. NULL when out of memory or
 * for NULL. Any thread; never blocks. */
FERRY_API ferry_future *ferry_shield(ferry_future *inner);

FERRY_END_DECLS

#endif

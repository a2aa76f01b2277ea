/* Streams: a producer, a task or a job, that feeds a consumer through a bounded channel. This is
 * what an async generator is elsewhere.
 *
 *     static int64_t numbers(ferry_stream *out, void *arg) {
 *         int64_t rc = 0;
 *         for (int *n = arg; *n && rc == 0; n++)
 *             rc = ferry_stream_send(out, n);
 *         return rc;
 *     }
 *     ...
 *     ferry_stream *stream = ferry_stream_spawn(numbers, array, NULL);
 *     while ((rc = ferry_stream_next(stream, &item)) == 0)
 *         use(item);
 *     ferry_stream_close(stream);          // rc is FERRY_END, or the producer's error
 */
#ifndef FERRY_STREAM_H
#define FERRY_STREAM_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

typedef struct ferry_stream ferry_stream;

/* What a producer runs. The stream is over when it returns: the consumer gets the items that are
 * left, then FERRY_END (result >= 0) or the producer's error. */
typedef int64_t (*ferry_stream_fn)(ferry_stream *stream, void *arg);

/* Zero is the default of each. */
typedef struct ferry_stream_options {
    const char *name; /* of the stream and its producer, for reports; copied, cut at 31 bytes;
                         default "stream" */
    size_t capacity;  /* items that the producer may be ahead; 0: a rendezvous, each send returns
                         when its item is taken */
    void (*item_free)(void *item); /* for items that nobody took */
    size_t bytes_max;              /* a bound by bytes as well: as of a queue */
    size_t (*item_size)(const void *item);
    /* Called once, when the producer has ended, or will never begin, and does not use arg any
     * more. A task's: on its loop's thread (on the thread that stops or closes the stream, when it
     * never began). A job's: as arg_free of ferry_job_options. */
    void (*arg_free)(void *arg);
    size_t stack_size; /* of a task: as in ferry_task_options */
    /* Of a job: as in ferry_job_options; `interrupt` gets arg. */
    void (*interrupt)(void *arg);
    int interrupt_signal;
    int policy;
    int64_t grace_ms;
    void *reserved[6]; /* zero */
} ferry_stream_options;

/* ---- Making one ------------------------------------------------------------------------------ */

/* A stream whose producer is a task, on the current loop or on the given one (NULL: the current),
 * or a job on an executor (NULL: the loop's own, or the process's). The producer begins with the
 * first call for an item (or ferry_stream_start()): what nobody asks for is never begun. A job
 * inherits the deadline and the cancel flag of the scope in which the stream is made.
 * `options` may be NULL. Returns NULL, with arg still the caller's and errno
 *   EINVAL   no function, no loop here, bytes_max without item_size, a capacity above
 *            SIZE_MAX / 64, an inline executor (it would run the producer inside the consumer)
 *   ENOMEM
 * The calls below take NULL as "out of memory when the stream was to be made". Any thread; never
 * waits. */
FERRY_API ferry_stream *ferry_stream_spawn(ferry_stream_fn fn, void *arg,
                                           const ferry_stream_options *options);
FERRY_API ferry_stream *ferry_stream_spawn_on(ferry_loop *loop, ferry_stream_fn fn, void *arg,
                                              const ferry_stream_options *options);
FERRY_API ferry_stream *ferry_stream_submit(ferry_executor *executor, ferry_stream_fn fn, void *arg,
                                            const ferry_stream_options *options);

/* Has the producer begin now, to get ahead (as far as `capacity` lets it) before the first item is
 * asked for. Again is no error. Returns 0; -ECANCELED in a cancelled scope; -EDEADLK when the
 * producer would have to wait for its turn on the strand that the caller's job runs on; -ENOMEM
 * for NULL. Why it could not begin is what the consumer gets instead of items. Waits only as
 * ferry_submit() does, for a place in the executor's queue. Any thread. */
FERRY_API int ferry_stream_start(ferry_stream *stream);

/* ---- The consumer's side --------------------------------------------------------------------- */

/* The next item, into *item (NULL when there is none); waits while there is none. Returns
 *   0                    an item. Of ferry_map(): what the function returned for it
 *   FERRY_END            the stream is over, and its producer ended well
 *   the producer's error after the items that it sent before. FERRY_EJOBCANCELED when somebody
 *                        else cancelled it (or a scope around it did); the caller isn't cancelled
 *   FERRY_ECLOSED        the stream was stopped: ferry_stream_stop(), or its loop's shutdown
 *   -ECANCELED           the caller is cancelled: no item was lost, and in a stream that was
 *                        cancelled before its first item the producer was never begun
 *   -ETIMEDOUT           `ms` milliseconds are over: the stream goes on as it was
 *   -EDEADLK             on a loop's own thread outside a task when it would have to wait; in the
 *                        producer itself; and as ferry_stream_start()
 *   FERRY_EFORKED        the stream belongs to the parent process
 *   -ENOMEM              `stream` is NULL, or for the record that a thread's first call makes
 * The end and errors stay: the next call gets the same. Several callers are served first come,
 * first served (of ferry_map(): one caller at a time). Suspends or blocks. Any thread. */
FERRY_API int64_t ferry_stream_next(ferry_stream *stream, void **item);
FERRY_API int64_t ferry_stream_next_for(ferry_stream *stream, void **item, int64_t ms);
/* -EAGAIN when there is no item now. Begins the producer like the others; doesn't wait for it. */
FERRY_API int64_t ferry_stream_try_next(ferry_stream *stream, void **item);

/* The consumer leaves, at any time: the producer is told to stop (its sends fail with FERRY_EBROKEN
 * and -ECANCELED) and joined, whatever has been cancelled around the caller; items that nobody took
 * are discarded (item_free, on the calling thread); the stream is freed. Returns how the producer
 * ended: its result, or its error; 0 when it ended because it was told to, by this or by a scope
 * that the caller is in. Without freeing anything: -EDEADLK in the producer, and on a loop's own
 * thread outside a task when it would have to wait; FERRY_EFORKED when the producer belongs to the
 * parent process. 0 for NULL. Every stream has to be closed once; nobody else may be in a call on
 * it then. Suspends or blocks. Any thread. */
FERRY_API int64_t ferry_stream_close(ferry_stream *stream);

/* The same from outside, and without the wait: the producer is told to stop, items inside are
 * discarded, and the consumer gets FERRY_ECLOSED. The stream is still to be closed. Again is no
 * error. NULL is ignored. Runs the interrupt hook of a job; never waits. Any thread, as long as the
 * stream lives. */
FERRY_API void ferry_stream_stop(ferry_stream *stream);

/* ---- The producer's side --------------------------------------------------------------------- */

/* Sends an item (any pointer, NULL too); waits while the consumer is so far behind. Returns 0;
 * FERRY_EBROKEN when the consumer has left; FERRY_ECLOSED when the producer has ended; -ECANCELED;
 * -ETIMEDOUT; -EDEADLK on a loop's own thread outside a task when it would have to wait; -ENOMEM as
 * ferry_queue_put(), or for NULL; -EINVAL for a stream that has no such producer (ferry_map()).
 * After an error the item is still the caller's. Tasks and threads that the producer has started
 * may send as well, until it ends. Suspends or blocks. Any thread. */
FERRY_API int ferry_stream_send(ferry_stream *stream, void *item);
FERRY_API int ferry_stream_send_for(ferry_stream *stream, void *item, int64_t ms);
FERRY_API int ferry_stream_try_send(ferry_stream *stream, void *item); /* or -EAGAIN: never waits */

FERRY_END_DECLS

#endif

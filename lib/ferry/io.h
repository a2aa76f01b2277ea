/* Waiting for file descriptors. */
#ifndef FERRY_IO_H
#define FERRY_IO_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

enum ferry_poll_events {
    FERRY_READABLE = 1,
    FERRY_WRITABLE = 2,
    FERRY_HANGUP = 4 /* the peer has closed its side; reported without reading (where the kernel
                      * can) */
};

/* Waits until `fd` is ready for one of `events`. Returns the events that it is ready for (> 0);
 * -ECANCELED; -ETIMEDOUT; -EINVAL for no or unknown events; -EBADF; -EPERM for an fd that is
 * always ready (a regular file: use the file bridge); -ENOMEM; -EMFILE or -ENFILE when the wait
 * needs a descriptor of its own (the first one of a thread; FERRY_HANGUP without FERRY_READABLE
 * in a task) and there is none left; -EDEADLK on a loop's own thread outside a task when it
 * would have to wait. Errors on the fd count as ready, so that the next read or write tells
 * them. The fd stays the caller's and must stay open meanwhile. Suspends or blocks. */
FERRY_API int ferry_poll(int fd, unsigned events);
FERRY_API int ferry_poll_for(int fd, unsigned events, int64_t ms);

FERRY_END_DECLS

#endif

/* Reading and writing at an offset. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "file.h"

/* The buffer is the caller's, and borrowed: the worker reads into it, or writes from it. */
struct transfer {
    int fd;
    union {
        char *into;
        const char *from;
    } buffer;
    size_t size;
    off_t offset;
};

static size_t piece(const struct transfer *t, size_t done) {
    size_t left = t->size - done;
    return left < FERRY__FILE_PIECE ? left : FERRY__FILE_PIECE;
}

static int64_t read_run(void *arg) {
    struct transfer *t = arg;
    size_t done = 0;
    while (done < t->size) {
        if (ferry__file_cancelled())
            return -ECANCELED;
        ssize_t n = pread(t->fd, t->buffer.into + done, piece(t, done), t->offset + (off_t)done);
        if (n == 0)
            break;
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return ferry_fail(-errno, "cannot read %zu bytes at offset %jd of fd %d: %s", t->size,
                              (intmax_t)t->offset, t->fd, ferry_strerror(-errno));
    }
    return (int64_t)done;
}

/* A cancel after the first piece gives a short count: -ECANCELED would say that nothing was
 * written. */
static int64_t write_run(void *arg) {
    struct transfer *t = arg;
    size_t done = 0;
    while (done < t->size) {
        if (ferry__file_cancelled()) {
            if (done == 0)
                return -ECANCELED;
            break;
        }
        ssize_t n = pwrite(t->fd, t->buffer.from + done, piece(t, done), t->offset + (off_t)done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            int error = n == 0 ? EIO : errno; /* what takes nothing and says nothing never will */
            return ferry_fail(-error,
                              "cannot write %zu bytes at offset %jd of fd %d: %s (after %zu bytes)",
                              t->size, (intmax_t)t->offset, t->fd, ferry_strerror(-error), done);
        }
    }
    return (int64_t)done;
}

static ferry_future *transfer(ferry_executor *executor, const char *name, ferry_fn fn,
                              const struct transfer *what, bool buffer, int64_t offset) {
    off_t end;
    if (offset < 0 || what->size > SSIZE_MAX || (!buffer && what->size > 0) ||
        __builtin_add_overflow(offset, what->size, &end))
        return ferry__file_refuse(-EINVAL,
                                  "cannot read or write at an offset: a negative offset, a size "
                                  "that doesn't fit, or no buffer");
    struct transfer *t = malloc(sizeof *t);
    if (t) {
        *t = *what;
        t->offset = (off_t)offset;
    }
    return ferry__file_start(executor, name, fn, t, NULL, free);
}

ferry_future *ferry_file_read_at(ferry_executor *executor, int fd, void *buffer, size_t size,
                                 int64_t offset) {
    struct transfer what = {.fd = fd, .buffer.into = buffer, .size = size};
    return transfer(executor, "file read", read_run, &what, buffer != NULL, offset);
}

ferry_future *ferry_file_write_at(ferry_executor *executor, int fd, const void *buffer, size_t size,
                                  int64_t offset) {
    struct transfer what = {.fd = fd, .buffer.from = buffer, .size = size};
    return transfer(executor, "file write", write_run, &what, buffer != NULL, offset);
}

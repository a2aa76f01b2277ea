/* Reading a file in chunks.
 *
 * Made for many small files: open, fstat, read, close, and nothing more. A buffer of the default
 * size isn't given back to the heap but kept in a few slots for the next scan, on whichever thread.
 */
#include "config.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#define CHUNK_DEFAULT ((size_t)256 << 10)
#define CHUNK_MAX ((size_t)16 << 20)
#define SPARE_BUFFERS 8

#ifndef O_NOATIME
#define O_NOATIME 0
#endif

/* ---- Buffers --------------------------------------------------------------------------------- */

static _Atomic(void *) spare[SPARE_BUFFERS]; /* each CHUNK_DEFAULT bytes, or NULL */

static void *take_buffer(size_t size) {
    for (int i = 0; size == CHUNK_DEFAULT && i < SPARE_BUFFERS; i++) {
        void *buffer = atomic_load_explicit(&spare[i], memory_order_relaxed);
        if (buffer)
            buffer = atomic_exchange(&spare[i], NULL);
        if (buffer)
            return buffer;
    }
    return malloc(size);
}

static void give_buffer(void *buffer, size_t size) {
    for (int i = 0; size == CHUNK_DEFAULT && i < SPARE_BUFFERS; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&spare[i], &none, buffer))
            return;
    }
    free(buffer);
}

static __attribute__((destructor)) void free_buffers(void) {
    for (int i = 0; i < SPARE_BUFFERS; i++)
        free(atomic_exchange(&spare[i], NULL));
}

/* ---- Scanning -------------------------------------------------------------------------------- */

static int open_to_scan(int dirfd, const char *path, const ferry_file_scan_options *options,
                        struct stat *st) {
    int flags = options->follow ? 0 : O_NOFOLLOW;
    int fd = -EPERM;
    if (options->no_atime && O_NOATIME != 0)
        fd = ferry__file_open_regular(dirfd, path, flags | O_NOATIME, st);
    return fd == -EPERM ? ferry__file_open_regular(dirfd, path, flags, st) : fd;
}

static int64_t scan_chunks(int fd, const char *path, const struct stat *st, char *buffer,
                           size_t size, ferry_file_chunk_fn fn, void *arg) {
    int64_t total = 0;
    for (;;) {
        ssize_t n = ferry__file_read(fd, buffer, size);
        if (n < 0)
            return ferry__file_fail((int)-n, "read", path);
        if (n == 0)
            return total;
        int64_t rc = fn(buffer, (size_t)n, arg);
        if (rc < 0)
            return rc;
        total += n;
        /* A short read to where the file ended when it was opened needs no other to confirm it. */
        if ((size_t)n < size && total == st->st_size)
            return total;
        if (ferry__file_cancelled())
            return -ECANCELED;
    }
}

int64_t ferry_file_scan_now(int dirfd, const char *path, const ferry_file_scan_options *options,
                            ferry_file_chunk_fn fn, void *arg, ferry_file_info *info) {
    static const ferry_file_scan_options defaults;
    struct stat st;
    if (!options)
        options = &defaults;
    size_t size = options->chunk_size ? options->chunk_size : CHUNK_DEFAULT;
    if (!path || !fn || size > CHUNK_MAX)
        return ferry_fail(-EINVAL,
                          "cannot scan a file: no path, no function, or chunks above 16 MiB");
    if (ferry__file_cancelled())
        return -ECANCELED;
    int fd = open_to_scan(dirfd, path, options, &st);
    if (fd < 0)
        return fd;
    if (info)
        ferry__file_info(info, &st);
#ifdef HAVE_POSIX_FADVISE
    if (st.st_size > (off_t)size)
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
    int64_t rc;
    void *buffer = take_buffer(size);
    if (buffer) {
        rc = scan_chunks(fd, path, &st, buffer, size, fn, arg);
        give_buffer(buffer, size);
    } else {
        rc = ferry__file_fail(ENOMEM, "scan", path);
    }
    close(fd);
    return rc;
}

/* ---- As a job -------------------------------------------------------------------------------- */

struct scan {
    int dirfd;
    ferry_file_scan_options options;
    ferry_file_chunk_fn fn;
    void *arg;
    char path[];
};

static int64_t scan_run(void *arg) {
    struct scan *scan = arg;
    return ferry_file_scan_now(scan->dirfd, scan->path, &scan->options, scan->fn, scan->arg, NULL);
}

ferry_future *ferry_file_scan(ferry_executor *executor, int dirfd, const char *path,
                              const ferry_file_scan_options *options, ferry_file_chunk_fn fn,
                              void *arg) {
    if (!path)
        return ferry__file_refuse(-EINVAL, "cannot scan a file: no path");
    size_t size = strlen(path) + 1;
    struct scan *scan = malloc(sizeof *scan + size);
    if (scan) {
        *scan = (struct scan){.dirfd = dirfd, .fn = fn, .arg = arg};
        if (options)
            scan->options = *options;
        memcpy(scan->path, path, size);
    }
    return ferry__file_start(executor, "file scan", scan_run, scan, NULL, free);
}

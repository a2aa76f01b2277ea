/* What the files of libferry-file share. */
#ifndef FERRY__FILE_H
#define FERRY__FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <ferry/base.h>
#include <ferry/error.h>
#include <ferry/executor.h>
#include <ferry/future.h>
#include <ferry/scope.h>

#include <ferry-file.h>

/* How much is read or written between two looks at the cancel flag. */
#define FERRY__FILE_PIECE ((size_t)1 << 20)

/* ---- Jobs (job.c) ---------------------------------------------------------------------------- */

/* Starts fn(box) as a job that owns `box`: it goes with arg_free, also when the job can't be
 * started. A NULL box is out of memory: so is the handle. */
ferry_future *ferry__file_start(ferry_executor *executor, const char *name, ferry_fn fn, void *box,
                                void (*deliver)(void *box, int64_t result),
                                void (*arg_free)(void *box));

/* A handle that is done, with an error and its detail. */
ferry_future *ferry__file_refuse(int64_t code, const char *what);

/* Whether the caller was cancelled. (A thread without a scope can't be.) */
bool ferry__file_cancelled(void);

/* ferry_fail(-error, "cannot <what> '<path>': <words for the error>"). */
int64_t ferry__file_fail(int error, const char *what, const char *path);

/* ---- Paths (path.c) -------------------------------------------------------------------------- */

/* openat() and fstatat() for paths of any length. They return an fd, 0 or -errno, and go on when a
 * signal comes. */
int ferry__file_open(int dirfd, const char *path, int flags, mode_t mode);
int ferry__file_look(int dirfd, const char *path, int flags, struct stat *st);

/* Opens a regular file for reading: anything else is closed again unread, and nothing is waited
 * for. `flags` are added to those that this needs. Returns an fd, or an error with its detail. */
int ferry__file_open_regular(int dirfd, const char *path, int flags, struct stat *st);

/* read() that goes on when a signal comes: bytes, 0 at the end, or -errno. */
ssize_t ferry__file_read(int fd, void *buffer, size_t size);

/* ---- Looks (stat.c) -------------------------------------------------------------------------- */

int ferry__file_type(mode_t mode);
void ferry__file_info(ferry_file_info *info, const struct stat *st);

#endif

/* Opening and looking, whatever the length of the path and the kind of the file. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif
#ifndef O_PATH
#define O_PATH O_RDONLY
#endif

static int open_again(int dirfd, const char *path, int flags, mode_t mode) {
    int fd;
    do
        fd = openat(dirfd, path, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

/* The kernel takes paths shorter than PATH_MAX: all but the end of a longer one is gone down here,
 * a piece at a time. Returns 0 or -errno; *at is the folder to go on from, to be closed when it
 * isn't `dirfd`, and *path what is left. */
static int shorten(int dirfd, const char **path, int *at) {
    const char *rest = *path;
    size_t left = strlen(rest);
    *at = dirfd;
    while (left >= PATH_MAX) {
        char piece[PATH_MAX];
        size_t n = PATH_MAX - 1;
        while (n > 0 && rest[n] != '/')
            n--;
        memcpy(piece, rest, n);
        piece[n] = '\0';
        /* Without a slash the kernel's answer to the whole is the right one. */
        int next = open_again(*at, n > 0 ? piece : rest, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        if (*at != dirfd)
            close(*at);
        if (next < 0)
            return next;
        *at = next;
        while (rest[n] == '/')
            n++;
        rest += n;
        left -= n;
    }
    *path = left > 0 ? rest : ".";
    return 0;
}

int ferry__file_open(int dirfd, const char *path, int flags, mode_t mode) {
    int fd = open_again(dirfd, path, flags, mode);
    if (fd != -ENAMETOOLONG || strlen(path) < PATH_MAX)
        return fd;
    int at;
    fd = shorten(dirfd, &path, &at);
    if (fd < 0)
        return fd;
    fd = open_again(at, path, flags, mode);
    if (at != dirfd)
        close(at);
    return fd;
}

static int look_again(int dirfd, const char *path, int flags, struct stat *st) {
    int rc;
    do
        rc = fstatat(dirfd, path, st, flags);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

int ferry__file_look(int dirfd, const char *path, int flags, struct stat *st) {
    int rc = look_again(dirfd, path, flags, st);
    if (rc != -ENAMETOOLONG || strlen(path) < PATH_MAX)
        return rc;
    int at;
    rc = shorten(dirfd, &path, &at);
    if (rc < 0)
        return rc;
    rc = look_again(at, path, flags, st);
    if (at != dirfd)
        close(at);
    return rc;
}

static const char *what_else(mode_t mode) {
    switch (ferry__file_type(mode)) {
    case FERRY_FILE_FIFO:
        return "a FIFO";
    case FERRY_FILE_SOCKET:
        return "a socket";
    default:
        return "a device";
    }
}

int ferry__file_open_regular(int dirfd, const char *path, int flags, struct stat *st) {
    /* O_NONBLOCK: opening a FIFO doesn't wait for a writer. For a regular file it means nothing. */
    int fd = ferry__file_open(dirfd, path, flags | O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    if (fd == -ELOOP && (flags & O_NOFOLLOW) &&
        ferry__file_look(dirfd, path, AT_SYMLINK_NOFOLLOW, st) == 0 && S_ISLNK(st->st_mode))
        return (int)ferry_fail(-ELOOP, "cannot open '%s': it is a symbolic link", path);
    if (fd == -ENXIO)
        return (int)ferry_fail(-EINVAL, "cannot read '%s': it is a socket or a device", path);
    if (fd < 0)
        return (int)ferry__file_fail(-fd, "open", path);
    int rc;
    if (fstat(fd, st) < 0)
        rc = (int)ferry__file_fail(errno, "look at", path);
    else if (S_ISREG(st->st_mode))
        return fd;
    else if (S_ISDIR(st->st_mode))
        rc = (int)ferry_fail(-EISDIR, "cannot read '%s': it is a folder", path);
    else
        rc = (int)ferry_fail(-EINVAL, "cannot read '%s': it is %s, not a regular file", path,
                             what_else(st->st_mode));
    close(fd);
    return rc;
}

ssize_t ferry__file_read(int fd, void *buffer, size_t size) {
    ssize_t n;
    do
        n = read(fd, buffer, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

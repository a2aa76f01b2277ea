/* Replacing a file atomically.
 *
 *     open the folder -> look at the old file -> write a temporary file -> sync it
 *                     -> rename it -> sync the folder
 *
 * The temporary file has no name until it is complete (O_TMPFILE), so that a killed process leaves
 * nothing behind; it gets one by way of /proc just before the renaming, since a link can't replace.
 * Where the file system or a missing /proc doesn't allow that, it has a name from the start. Until
 * the renaming everything can be taken back; from then on nothing is looked at but the sync of the
 * folder. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

#define TEMPORARY_NAMES 100 /* tried before giving up */

/* Worker only, but for `data`, which is the caller's, and borrowed. */
struct replace {
    const char *data;
    size_t size;
    mode_t mode; /* 0: that of the old file */
    bool sync;
    int dirfd;

    int folder;       /* fd, or -1 */
    const char *base; /* the last component of path */
    bool exists;      /* old says what is replaced */
    struct stat old;

    int fd;             /* the temporary file, or -1 */
    char temporary[64]; /* its name; "" while it has none */
    char path[];
};

static int64_t failed(const struct replace *r, int error, const char *step) {
    return ferry_fail(-error, "cannot replace '%s': %s: %s", r->path, step, ferry_strerror(-error));
}

/* ---- Where it goes --------------------------------------------------------------------------- */

static int64_t open_folder(struct replace *r) {
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    char *slash = strrchr(r->path, '/');
    r->base = slash ? slash + 1 : r->path;
    if (*r->path == '\0')
        return failed(r, ENOENT, "the path is empty");
    if (*r->base == '\0' || strcmp(r->base, ".") == 0 || strcmp(r->base, "..") == 0)
        return ferry__file_fail(EISDIR, "replace", r->path);
    if (!slash) {
        r->folder = ferry__file_open(r->dirfd, ".", flags, 0);
    } else if (slash == r->path) {
        r->folder = ferry__file_open(r->dirfd, "/", flags, 0);
    } else {
        *slash = '\0';
        r->folder = ferry__file_open(r->dirfd, r->path, flags, 0);
        *slash = '/';
    }
    return r->folder < 0 ? failed(r, -r->folder, "opening its folder") : 0;
}

static int64_t look_at_old(struct replace *r) {
    int rc = ferry__file_look(r->folder, r->base, AT_SYMLINK_NOFOLLOW, &r->old);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return failed(r, -rc, "looking at it");
    if (S_ISDIR(r->old.st_mode))
        return ferry__file_fail(EISDIR, "replace", r->path);
    if (!S_ISREG(r->old.st_mode) && !S_ISLNK(r->old.st_mode))
        return ferry_fail(-EINVAL, "cannot replace '%s': it is a FIFO, a socket or a device",
                          r->path);
    r->exists = S_ISREG(r->old.st_mode);
    return 0;
}

/* ---- The temporary file ---------------------------------------------------------------------- */

static void next_name(struct replace *r) {
    static atomic_uint count;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(r->temporary, sizeof r->temporary, ".ferry-%jx-%x-%jx.tmp", (intmax_t)getpid(),
             atomic_fetch_add(&count, 1), (intmax_t)now.tv_sec * 1000000000 + now.tv_nsec);
}

/* Nobody else may read what is written before it has its final permissions; without any to take
 * over, the umask says what they are. */
static mode_t first_mode(const struct replace *r) {
    return r->mode || r->exists ? S_IRUSR | S_IWUSR : 0666;
}

static int64_t make_named(struct replace *r) {
    int fd = -EEXIST;
    for (int i = 0; i < TEMPORARY_NAMES && fd == -EEXIST; i++) {
        next_name(r);
        fd = ferry__file_open(r->folder, r->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                              first_mode(r));
    }
    if (fd < 0) {
        r->temporary[0] = '\0';
        return failed(r, -fd, "making a temporary file");
    }
    r->fd = fd;
    return 0;
}

static int make_unnamed(struct replace *r) {
#ifdef O_TMPFILE
    r->fd = ferry__file_open(r->folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, first_mode(r));
    return r->fd;
#else
    (void)r;
    return -EOPNOTSUPP;
#endif
}

/* Gives the unnamed file a name. -errno without a detail: the caller may have another way. */
static int give_name(struct replace *r) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", r->fd);
    for (int i = 0; i < TEMPORARY_NAMES; i++) {
        next_name(r);
        if (linkat(AT_FDCWD, link, r->folder, r->temporary, AT_SYMLINK_FOLLOW) == 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    r->temporary[0] = '\0';
    return -errno;
}

static void drop_temporary(struct replace *r) {
    if (r->temporary[0] != '\0')
        unlinkat(r->folder, r->temporary, 0);
    r->temporary[0] = '\0';
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

/* ---- Its content ----------------------------------------------------------------------------- */

static int64_t write_all(struct replace *r) {
    size_t done = 0;
    while (done < r->size) {
        size_t left = r->size - done;
        if (ferry__file_cancelled())
            return -ECANCELED;
        ssize_t n =
            write(r->fd, r->data + done, left < FERRY__FILE_PIECE ? left : FERRY__FILE_PIECE);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return failed(r, n == 0 ? EIO : errno, "writing the temporary file");
    }
    return 0;
}

/* Makes owner and group those of the old file, and returns its permissions. Where we may not, the
 * file stays ours: bits that lent the old owner's rights must not lend ours, and what the old group
 * was allowed our group is not. */
static mode_t keep_owner(const struct replace *r, const struct stat *st) {
    mode_t mode = r->old.st_mode & 07777;
    if (st->st_uid == r->old.st_uid && st->st_gid == r->old.st_gid)
        return mode;
    if (fchown(r->fd, r->old.st_uid, r->old.st_gid) == 0)
        return mode;
    mode &= 0777;
    if (st->st_gid == r->old.st_gid || fchown(r->fd, (uid_t)-1, r->old.st_gid) == 0)
        return mode;
    return (mode & 0707) | (mode & 07) << 3;
}

/* The owner comes first: changing it clears the set-ID bits. */
static int64_t take_over(struct replace *r) {
    mode_t mode = r->mode;
    if (!mode && !r->exists)
        return 0;
    if (!mode) {
        struct stat st;
        if (fstat(r->fd, &st) < 0)
            return failed(r, errno, "looking at the temporary file");
        mode = keep_owner(r, &st);
    }
    return fchmod(r->fd, mode) < 0 ? failed(r, errno, "setting its permissions") : 0;
}

static int sync_fd(int fd) {
    int rc;
    do
        rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int64_t fill(struct replace *r) {
    int64_t rc = write_all(r);
    if (rc >= 0)
        rc = take_over(r);
    if (rc >= 0 && r->sync) {
        int error = sync_fd(r->fd);
        if (error < 0)
            rc = failed(r, -error, "syncing the temporary file");
    }
    return rc >= 0 && ferry__file_cancelled() ? -ECANCELED : rc;
}

/* A complete temporary file with a name. */
static int64_t prepare(struct replace *r) {
    int64_t rc;
    if (make_unnamed(r) >= 0) {
        rc = fill(r);
        if (rc < 0 || give_name(r) == 0)
            return rc;
        drop_temporary(r);
    }
    rc = make_named(r);
    return rc < 0 ? rc : fill(r);
}

/* ---- All of it ------------------------------------------------------------------------------- */

static int64_t put_in_place(struct replace *r) {
    if (renameat(r->folder, r->temporary, r->folder, r->base) < 0)
        return failed(r, errno, "renaming the temporary file");
    r->temporary[0] = '\0';
    if (!r->sync)
        return 0;
    int error = sync_fd(r->folder);
    if (error < 0 && error != -EINVAL) /* which says that folders can't be synced here */
        return ferry_fail(error,
                          "'%s' has been replaced, but may not survive a power failure: "
                          "syncing its folder: %s",
                          r->path, ferry_strerror(error));
    return 0;
}

static int64_t replace_run(void *arg) {
    struct replace *r = arg;
    int64_t rc = open_folder(r);
    if (rc >= 0)
        rc = look_at_old(r);
    if (rc >= 0)
        rc = prepare(r);
    if (rc >= 0)
        rc = put_in_place(r);
    drop_temporary(r);
    if (r->folder >= 0)
        close(r->folder);
    return rc < 0 ? rc : (int64_t)r->size;
}

ferry_future *ferry_file_replace(ferry_executor *executor, int dirfd, const char *path,
                                 const void *data, size_t size,
                                 const ferry_file_replace_options *options) {
    static const ferry_file_replace_options defaults;
    if (!options)
        options = &defaults;
    if (!path || (!data && size > 0) || size > SSIZE_MAX)
        return ferry__file_refuse(-EINVAL,
                                  "cannot replace a file: no path, no data, or too much of it");
    if (options->mode > 07777)
        return ferry__file_refuse(-EINVAL,
                                  "cannot replace a file: the mode is more than permissions");
    size_t path_size = strlen(path) + 1;
    struct replace *r = malloc(sizeof *r + path_size);
    if (r) {
        *r = (struct replace){
            .data = data,
            .size = size,
            .mode = (mode_t)options->mode,
            .sync = !options->no_sync,
            .dirfd = dirfd,
            .folder = -1,
            .fd = -1,
        };
        memcpy(r->path, path, path_size);
    }
    return ferry__file_start(executor, "file replace", replace_run, r, NULL, free);
}

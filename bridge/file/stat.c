/* Looking at a file. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

int ferry__file_type(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return FERRY_FILE_REGULAR;
    case S_IFDIR:
        return FERRY_FILE_FOLDER;
    case S_IFLNK:
        return FERRY_FILE_SYMLINK;
    case S_IFIFO:
        return FERRY_FILE_FIFO;
    case S_IFSOCK:
        return FERRY_FILE_SOCKET;
    case S_IFCHR:
        return FERRY_FILE_CHAR_DEVICE;
    case S_IFBLK:
        return FERRY_FILE_BLOCK_DEVICE;
    default:
        return FERRY_FILE_UNKNOWN;
    }
}

static int64_t nanoseconds(const struct timespec *t) {
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)t->tv_sec, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns))
        return t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

void ferry__file_info(ferry_file_info *info, const struct stat *st) {
    *info = (ferry_file_info){
        .type = ferry__file_type(st->st_mode),
        .mode = (uint32_t)st->st_mode,
        .uid = (uint32_t)st->st_uid,
        .gid = (uint32_t)st->st_gid,
        .dev = (uint64_t)st->st_dev,
        .inode = (uint64_t)st->st_ino,
        .nlink = (uint64_t)st->st_nlink,
        .size = (int64_t)st->st_size,
        .blocks = (int64_t)st->st_blocks,
        .atime_ns = nanoseconds(&st->st_atim),
        .mtime_ns = nanoseconds(&st->st_mtim),
        .ctime_ns = nanoseconds(&st->st_ctim),
    };
}

/* The worker writes info, the awaiter copies it to *out. */
struct look {
    int dirfd;
    bool no_follow;
    ferry_file_info info;
    ferry_file_info *out;
    char path[];
};

static int64_t look_run(void *arg) {
    struct look *look = arg;
    struct stat st;
    int rc =
        ferry__file_look(look->dirfd, look->path, look->no_follow ? AT_SYMLINK_NOFOLLOW : 0, &st);
    if (rc < 0)
        return ferry__file_fail(-rc, "look at", look->path);
    ferry__file_info(&look->info, &st);
    return 0;
}

static void look_deliver(void *arg, int64_t result) {
    struct look *look = arg;
    if (result >= 0)
        *look->out = look->info;
}

ferry_future *ferry_file_stat(ferry_executor *executor, int dirfd, const char *path, bool no_follow,
                              ferry_file_info *info) {
    if (!path || !info)
        return ferry__file_refuse(-EINVAL,
                                  "cannot look at a file: no path, or no place for the answer");
    size_t size = strlen(path) + 1;
    struct look *look = malloc(sizeof *look + size);
    if (look) {
        *look = (struct look){.dirfd = dirfd, .no_follow = no_follow, .out = info};
        memcpy(look->path, path, size);
    }
    return ferry__file_start(executor, "file stat", look_run, look, look_deliver, free);
}

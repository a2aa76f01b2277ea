/* Loading a whole file. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

/* Where st_size says nothing: /proc and the like. */
#define ROOM_MIN ((size_t)4096)

/* The worker writes data and size; the awaiter takes them over, or the box frees them. */
struct load {
    int dirfd;
    bool no_follow;
    size_t size_max;
    char *data;
    size_t size;
    size_t room; /* of data; at the end more than size */
    void **data_out;
    size_t *size_out;
    char path[];
};

static int64_t too_big(const struct load *load) {
    return ferry_fail(-EFBIG, "cannot load '%s': it is bigger than the %zu bytes that are allowed",
                      load->path, load->size_max);
}

static int64_t resize(struct load *load, size_t room) {
    char *data = realloc(load->data, room);
    if (!data)
        return ferry_fail(-ENOMEM, "cannot load '%s': no memory for %zu bytes", load->path, room);
    load->data = data;
    load->room = room;
    return 0;
}

/* The room is one byte more than what is expected, which the final zero takes: so the end of a file
 * that is as long as st_size said is seen without growing. */
static int64_t first_room(struct load *load, const struct stat *st) {
    uintmax_t expected = st->st_size > 0 ? (uintmax_t)st->st_size : 0;
    if (expected > load->size_max)
        return too_big(load);
    if (expected >= PTRDIFF_MAX)
        return ferry__file_fail(ENOMEM, "load", load->path);
    size_t room = expected > 0 ? (size_t)expected + 1 : ROOM_MIN;
    return resize(load, room - 1 > load->size_max ? load->size_max + 1 : room);
}

static int64_t more_room(struct load *load) {
    if (load->size > load->size_max)
        return too_big(load);
    size_t room = load->room > ROOM_MIN / 2 ? load->room : ROOM_MIN / 2;
    if (room > PTRDIFF_MAX / 2)
        return ferry__file_fail(ENOMEM, "load", load->path);
    room *= 2;
    return resize(load, room - 1 > load->size_max ? load->size_max + 1 : room);
}

static int64_t read_all(struct load *load, int fd) {
    for (;;) {
        if (ferry__file_cancelled())
            return -ECANCELED;
        if (load->size == load->room) {
            int64_t rc = more_room(load);
            if (rc < 0)
                return rc;
        }
        size_t want = load->room - load->size;
        ssize_t n = ferry__file_read(fd, load->data + load->size,
                                     want < FERRY__FILE_PIECE ? want : FERRY__FILE_PIECE);
        if (n < 0)
            return ferry__file_fail((int)-n, "read", load->path);
        if (n == 0)
            break;
        load->size += (size_t)n;
    }
    load->data[load->size] = '\0';
    if (load->room - load->size > ROOM_MIN) {
        char *smaller = realloc(load->data, load->size + 1);
        if (smaller)
            load->data = smaller;
    }
    return (int64_t)load->size;
}

static int64_t load_run(void *arg) {
    struct load *load = arg;
    struct stat st;
    int fd =
        ferry__file_open_regular(load->dirfd, load->path, load->no_follow ? O_NOFOLLOW : 0, &st);
    if (fd < 0)
        return fd;
    int64_t rc = first_room(load, &st);
    if (rc >= 0)
        rc = read_all(load, fd);
    close(fd);
    return rc;
}

static void load_deliver(void *arg, int64_t result) {
    struct load *load = arg;
    if (result < 0)
        return;
    *load->data_out = load->data;
    *load->size_out = load->size;
    load->data = NULL;
}

static void load_free(void *arg) {
    struct load *load = arg;
    free(load->data);
    free(load);
}

ferry_future *ferry_file_load(ferry_executor *executor, int dirfd, const char *path,
                              const ferry_file_load_options *options, void **data, size_t *size) {
    static const ferry_file_load_options defaults;
    if (!path || !data || !size)
        return ferry__file_refuse(-EINVAL,
                                  "cannot load a file: no path, or no place for the answer");
    if (!options)
        options = &defaults;
    size_t path_size = strlen(path) + 1;
    struct load *load = malloc(sizeof *load + path_size);
    if (load) {
        *load = (struct load){
            .dirfd = dirfd,
            .no_follow = options->no_follow,
            .size_max = options->size_max && options->size_max < PTRDIFF_MAX ? options->size_max
                                                                             : PTRDIFF_MAX - 1,
            .data_out = data,
            .size_out = size,
        };
        memcpy(load->path, path, path_size);
    }
    return ferry__file_start(executor, "file load", load_run, load, load_deliver, load_free);
}

/* Loading whole files, looking at them, and reading and writing at an offset. */
#include "config.h"

#include "saturate.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t load(const char *name, const ferry_file_load_options *options, void **data,
                    size_t *size) {
    *data = NULL;
    *size = 12345;
    return ferry_await(ferry_file_load(pool, scratch_fd, name, options, data, size));
}

/* ---- Loading --------------------------------------------------------------------------------- */

static void loads_every_size(void **state) {
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (3 << 20) + 1};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *data;
        size_t size;
        make_file("f", sizes[i]);
        assert_int_equal(load("f", NULL, &data, &size), sizes[i]);
        assert_int_equal(size, sizes[i]);
        assert_true(is_pattern(data, size, 0));
        assert_int_equal(((char *)data)[size], 0);
        free(data);
    }
}

/* What the system makes up when it is read: st_size is 0, or a page. */
static void loads_like_read(const char *path) {
    char content[4096];
    size_t size;
    void *data;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t wanted = read(fd, content, sizeof content);
    close(fd);
    assert_in_range(wanted, 1, sizeof content - 1);
    assert_int_equal(ferry_await(ferry_file_load(pool, AT_FDCWD, path, NULL, &data, &size)),
                     wanted);
    assert_memory_equal(data, content, size);
    assert_int_equal(((char *)data)[size], 0);
    free(data);
}

/* The environment of another process: a file of /proc as large as one likes. The other is cat, and
 * what it has echoed shows that it runs. */
static void loads_an_environment(void) {
    enum { SIZE = 100000 };
    char *variable = malloc(SIZE + 1), path[64], byte = 'x', name[] = "cat";
    char *arguments[] = {name, NULL}, *environment[] = {variable, NULL};
    posix_spawn_file_actions_t actions;
    int in[2], out[2];
    pid_t child;
    void *data;
    size_t size;
    assert_non_null(variable);
    memset(variable, 'x', SIZE);
    memcpy(variable, "X=", 2);
    variable[SIZE] = '\0';
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    assert_int_equal(posix_spawn(&child, "/bin/cat", &actions, NULL, arguments, environment), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    assert_int_equal(write(in[1], &byte, 1), 1);
    assert_int_equal(read(out[0], &byte, 1), 1);
    snprintf(path, sizeof path, "/proc/%ld/environ", (long)child);
    int64_t rc = ferry_await(ferry_file_load(pool, AT_FDCWD, path, NULL, &data, &size));
    close(in[0]);
    close(in[1]);
    close(out[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(rc, SIZE + 1);
    assert_int_equal(size, SIZE + 1);
    assert_memory_equal(data, variable, SIZE + 1);
    free(data);
    free(variable);
}

static void loads_what_the_system_makes_up(void **state) {
    (void)state;
    if (access("/proc/version", R_OK) < 0)
        SKIP("there is no /proc");
    loads_like_read("/proc/version");
    loads_like_read("/sys/devices/system/cpu/online");
    loads_an_environment();
}

static void size_max_is_the_last_that_is_allowed(void **state) {
    ferry_file_load_options options = {.size_max = 5000};
    void *data;
    size_t size;
    (void)state;
    make_file("fits", 5000);
    make_file("over", 5001);
    assert_int_equal(load("fits", &options, &data, &size), 5000);
    free(data);
    assert_int_equal(load("over", &options, &data, &size), -EFBIG);
    assert_null(data);
    assert_int_equal(size, 12345);
    assert_non_null(strstr(ferry_errmsg(), "5000"));
    options.size_max = 3;
    assert_int_equal(
        ferry_await(ferry_file_load(pool, AT_FDCWD, "/proc/version", &options, &data, &size)),
        -EFBIG);
    options.size_max = SIZE_MAX;
    assert_int_equal(load("fits", &options, &data, &size), 5000);
    free(data);
}

static void refuses_what_is_no_file(void **state) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    void *data;
    size_t size;
    (void)state;
    make_folder("folder");
    assert_int_equal(mkfifoat(scratch_fd, "fifo", 0600), 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", in_scratch("socket"));
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(load("folder", NULL, &data, &size), -EISDIR);
    assert_non_null(strstr(ferry_errmsg(), "'folder'"));
    assert_int_equal(load("fifo", NULL, &data, &size), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "FIFO"));
    assert_int_equal(load("socket", NULL, &data, &size), -EINVAL);
    assert_int_equal(load("/dev/null", NULL, &data, &size), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "device"));
    assert_int_equal(load("missing", NULL, &data, &size), -ENOENT);
    assert_non_null(strstr(ferry_errmsg(), "cannot open 'missing': No such file or directory"));
    assert_int_equal(load("", NULL, &data, &size), -ENOENT);
    close(s);
}

static void links_are_followed_unless_refused(void **state) {
    ferry_file_load_options options = {.no_follow = true};
    ferry_file_info info;
    void *data;
    size_t size;
    (void)state;
    make_file("f", 10);
    assert_int_equal(symlinkat("f", scratch_fd, "link"), 0);
    assert_int_equal(symlinkat("loop", scratch_fd, "loop"), 0);
    assert_int_equal(load("link", NULL, &data, &size), 10);
    free(data);
    assert_int_equal(load("link", &options, &data, &size), -ELOOP);
    assert_non_null(strstr(ferry_errmsg(), "symbolic link"));
    assert_int_equal(load("loop", NULL, &data, &size), -ELOOP);
    assert_int_equal(ferry_await(ferry_file_stat(pool, scratch_fd, "link", false, &info)), 0);
    assert_int_equal(info.type, FERRY_FILE_REGULAR);
    assert_int_equal(ferry_await(ferry_file_stat(pool, scratch_fd, "link", true, &info)), 0);
    assert_int_equal(info.type, FERRY_FILE_SYMLINK);
}

static int64_t count_bytes(const void *chunk, size_t size, void *arg) {
    (void)chunk;
    *(size_t *)arg += size;
    return 0;
}

static void takes_names_of_any_bytes_and_length(void **state) {
    enum { DEPTH = 60 };
    char n[101], path[DEPTH * 102 + 10] = "";
    ferry_file_info info;
    size_t size, scanned = 0;
    void *data;
    (void)state;
    make_file("\377\376 \n\t\x80", 7);
    assert_int_equal(load("\377\376 \n\t\x80", NULL, &data, &size), 7);
    free(data);
    memset(n, 'x', 100);
    n[100] = '\0';
    int inner = make_chain(scratch_fd, DEPTH, n);
    assert_int_equal(write(inner, "", 0), -1); /* a folder */
    int fd = openat(inner, "f", O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    close(inner);
    for (int i = 0; i < DEPTH; i++) {
        strcat(path, n);
        strcat(path, i % 3 == 0 ? "//" : "/");
    }
    assert_int_equal(ferry_await(ferry_file_stat(pool, scratch_fd, path, false, &info)), 0);
    assert_int_equal(info.type, FERRY_FILE_FOLDER);
    strcat(path, "f");
    assert_int_equal(load(path, NULL, &data, &size), 5);
    assert_string_equal(data, "hello");
    free(data);
    assert_int_equal(
        ferry_await(ferry_file_scan(pool, scratch_fd, path, NULL, count_bytes, &scanned)), 5);
    assert_int_equal(scanned, 5);
    path[strlen(path) - 1] = 'g';
    assert_int_equal(load(path, NULL, &data, &size), -ENOENT);
    path[0] = 'y';
    assert_int_equal(load(path, NULL, &data, &size), -ENOENT);
    memset(path, 'x', 5000);
    path[5000] = '\0';
    assert_int_equal(load(path, NULL, &data, &size), -ENAMETOOLONG);
}

static void try_as_nobody(void *arg) {
    ferry_executor_options options = {.threads_max = 1};
    ferry_executor *own;
    ferry_file_info info;
    void *data;
    size_t size;
    (void)arg;
    CHECK_INT(ferry_executor_new(&own, &options), 0);
    AWAIT_INT(ferry_file_load(own, scratch_fd, "secret", NULL, &data, &size), -EACCES);
    CHECK_STR(ferry_errmsg(), "cannot open 'secret': Permission denied");
    AWAIT_INT(ferry_file_stat(own, scratch_fd, "closed/f", false, &info), -EACCES);
    AWAIT_INT(ferry_file_replace(own, scratch_fd, "closed/f", "x", 1, NULL), -EACCES);
    CHECK_INT(ferry_executor_stop(own, FERRY_FOREVER), 0);
    ferry_executor_free(own);
}

static void permission_denied_is_said(void **state) {
    (void)state;
    make_folder("closed");
    make_text("secret", "x");
    make_text("closed/f", "x");
    assert_int_equal(fchmodat(scratch_fd, "secret", 0, 0), 0);
    assert_int_equal(fchmodat(scratch_fd, "closed", 0, 0), 0);
    as_nobody(try_as_nobody, NULL);
    assert_int_equal(fchmodat(scratch_fd, "closed", 0755, 0), 0);
    assert_true(has_text("closed/f", "x"));
}

/* ---- Results --------------------------------------------------------------------------------- */

static void results_are_written_by_the_await(void **state) {
    void *data = NULL;
    size_t size = 12345;
    ferry_file_info info = {.size = 12345};
    (void)state;
    make_file("f", 100);
    ferry_future *load_it = ferry_file_load(pool, scratch_fd, "f", NULL, &data, &size);
    ferry_future *look = ferry_file_stat(pool, scratch_fd, "f", false, &info);
    assert_int_equal(ferry_wait(load_it), 0);
    assert_int_equal(ferry_wait(look), 0);
    assert_int_equal(ferry_result(load_it), 100);
    assert_null(data);
    assert_int_equal(size, 12345);
    assert_int_equal(info.size, 12345);
    assert_int_equal(ferry_await(load_it), 100);
    assert_int_equal(ferry_await(look), 0);
    assert_int_equal(size, 100);
    assert_int_equal(info.size, 100);
    free(data);
    /* Nobody takes this one: it is freed with its handle. */
    load_it = ferry_file_load(pool, scratch_fd, "f", NULL, &data, &size);
    data = NULL;
    assert_int_equal(ferry_wait(load_it), 0);
    ferry_detach(load_it);
    assert_null(data);
}

static void what_is_cancelled_in_the_queue_never_runs(void **state) {
    saturation s;
    void *data = NULL;
    size_t size;
    (void)state;
    make_text("f", "old");
    saturate(&s, pool, 2);
    ferry_future *load_it = ferry_file_load(pool, scratch_fd, "f", NULL, &data, &size);
    ferry_future *replace = ferry_file_replace(pool, scratch_fd, "f", "new", 3, NULL);
    assert_int_equal(ferry_cancel(load_it), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_cancel(replace), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(load_it), FERRY_EJOBCANCELED);
    assert_int_equal(ferry_await(replace), FERRY_EJOBCANCELED);
    desaturate(&s);
    assert_null(data);
    assert_true(has_text("f", "old"));
}

static void a_look_says_what_fstatat_says(void **state) {
    struct stat st;
    ferry_file_info info;
    (void)state;
    make_file("f", 4711);
    assert_int_equal(fchmodat(scratch_fd, "f", 0640, 0), 0);
    assert_int_equal(linkat(scratch_fd, "f", scratch_fd, "g", 0), 0);
    struct timespec times[2] = {{1000000000, 123456789}, {-5, 500000000}};
    assert_int_equal(utimensat(scratch_fd, "f", times, 0), 0);
    assert_int_equal(fstatat(scratch_fd, "f", &st, 0), 0);
    assert_int_equal(ferry_await(ferry_file_stat(pool, AT_FDCWD, in_scratch("f"), false, &info)),
                     0);
    assert_int_equal(info.type, FERRY_FILE_REGULAR);
    assert_int_equal(info.mode, st.st_mode);
    assert_int_equal(info.size, 4711);
    assert_int_equal(info.nlink, 2);
    assert_int_equal(info.dev, st.st_dev);
    assert_int_equal(info.inode, st.st_ino);
    assert_int_equal(info.uid, st.st_uid);
    assert_int_equal(info.gid, st.st_gid);
    assert_int_equal(info.blocks, st.st_blocks);
    assert_int_equal(info.atime_ns, INT64_C(1000000000123456789));
    assert_int_equal(info.mtime_ns, INT64_C(-4500000000));
    assert_int_equal(info.ctime_ns, (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
    assert_int_equal(ferry_await(ferry_file_stat(pool, scratch_fd, "no", false, &info)), -ENOENT);
    assert_string_equal(ferry_errmsg(), "cannot look at 'no': No such file or directory");
}

static void missing_arguments_are_an_error(void **state) {
    ferry_file_info info;
    void *data;
    size_t size;
    (void)state;
    assert_int_equal(ferry_await(ferry_file_load(pool, 0, NULL, NULL, &data, &size)), -EINVAL);
    assert_int_equal(ferry_await(ferry_file_load(pool, 0, "f", NULL, NULL, &size)), -EINVAL);
    assert_int_equal(ferry_await(ferry_file_load(pool, 0, "f", NULL, &data, NULL)), -EINVAL);
    assert_int_equal(ferry_await(ferry_file_stat(pool, 0, NULL, false, &info)), -EINVAL);
    assert_int_equal(ferry_await(ferry_file_stat(pool, 0, "f", false, NULL)), -EINVAL);
    assert_non_null(strstr(ferry_errmsg(), "cannot look at a file"));
}

/* ---- Worlds ---------------------------------------------------------------------------------- */

static int64_t load_in_task(void *arg) {
    void *data = NULL;
    size_t size = 0;
    (void)arg;
    AWAIT_INT(ferry_file_load(NULL, scratch_fd, "f", NULL, &data, &size), 3000);
    CHECK(size == 3000 && is_pattern(data, size, 0));
    free(data);
    return 7;
}

struct callback {
    ferry_loop *loop;
    void *data;
    size_t size;
    bool called;
    ferry_promise *over;
};

static void loaded(ferry_future *future, int64_t result, void *arg) {
    struct callback *c = arg;
    CHECK_INT(result, 3000);
    CHECK(c->data == NULL);
    AWAIT_INT(future, 3000);
    CHECK(c->size == 3000 && is_pattern(c->data, c->size, 0));
    ferry_promise_set(c->over, 0);
}

static int64_t load_by_callback(void *arg) {
    struct callback *c = arg;
    ferry_future *over;
    c->over = ferry_promise_new(&over, NULL);
    ferry_future *future = ferry_file_load(pool, scratch_fd, "f", NULL, &c->data, &c->size);
    CHECK_INT(ferry_then(future, NULL, loaded, c), 0);
    AWAIT_INT(over, 0);
    ferry_promise_drop(c->over);
    return 8;
}

static void tasks_and_callbacks_load_too(void **state) {
    struct callback c = {.data = NULL};
    (void)state;
    make_file("f", 3000);
    assert_int_equal(ferry_run(load_in_task, NULL), 7);
    assert_int_equal(ferry_run(load_by_callback, &c), 8);
    free(c.data);
}

/* ---- At an offset ---------------------------------------------------------------------------- */

static void reads_and_writes_where_it_is_told(void **state) {
    enum { SIZE = (5 << 19) + 3 };
    unsigned char *buffer = malloc(SIZE);
    (void)state;
    assert_non_null(buffer);
    for (size_t i = 0; i < SIZE; i++)
        buffer[i] = pattern_at(i);
    int fd = openat(scratch_fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(lseek(fd, 11, SEEK_SET), 11);
    assert_int_equal(ferry_await(ferry_file_write_at(pool, fd, buffer, SIZE, 1000)), SIZE);
    assert_int_equal(ferry_await(ferry_file_write_at(pool, fd, NULL, 0, 1 << 30)), 0);
    memset(buffer, 0, SIZE);
    assert_int_equal(ferry_await(ferry_file_read_at(pool, fd, buffer, SIZE, 1000)), SIZE);
    assert_true(is_pattern(buffer, SIZE, 0));
    assert_int_equal(ferry_await(ferry_file_read_at(pool, fd, buffer, SIZE, 1000 + SIZE - 5)), 5);
    assert_true(is_pattern(buffer, 5, SIZE - 5));
    assert_int_equal(ferry_await(ferry_file_read_at(pool, fd, buffer, SIZE, 1 << 30)), 0);
    assert_int_equal(ferry_await(ferry_file_read_at(pool, fd, buffer, 1000, 0)), 1000);
    assert_true(buffer[0] == 0 && buffer[999] == 0);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 11);
    close(fd);
    free(buffer);
}

static void offsets_that_cannot_be_are_refused(void **state) {
    char buffer[10] = "";
    int pipes[2];
    (void)state;
    assert_int_equal(pipe(pipes), 0);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ferry_await(ferry_file_read_at(pool, pipes[0], buffer, 10, 0)), -ESPIPE);
    assert_int_equal(ferry_await(ferry_file_write_at(pool, pipes[1], buffer, 10, 0)), -ESPIPE);
    assert_int_equal(ferry_await(ferry_file_read_at(pool, -1, buffer, 10, 0)), -EBADF);
    assert_int_equal(ferry_await(ferry_file_read_at(pool, scratch_fd, buffer, 10, 0)), -EISDIR);
    assert_int_equal(ferry_await(ferry_file_write_at(pool, full, buffer, 10, 0)), -ENOSPC);
    assert_non_null(strstr(ferry_errmsg(), "cannot write 10 bytes at offset 0"));
    assert_int_equal(ferry_await(ferry_file_read_at(pool, pipes[0], buffer, 10, -1)), -EINVAL);
    assert_int_equal(ferry_await(ferry_file_read_at(pool, pipes[0], NULL, 10, 0)), -EINVAL);
    assert_int_equal(ferry_await(ferry_file_read_at(pool, pipes[0], buffer, SIZE_MAX, 0)), -EINVAL);
    assert_int_equal(ferry_await(ferry_file_write_at(pool, pipes[1], buffer, 10, INT64_MAX - 9)),
                     -EINVAL);
    close(full);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILE_CASE("files of every size are loaded whole", loads_every_size),
        FILE_CASE("files of /proc and /sys are loaded whole", loads_what_the_system_makes_up),
        FILE_CASE("a file above size_max is refused", size_max_is_the_last_that_is_allowed),
        FILE_CASE("folders, FIFOs, sockets, devices aren't loaded", refuses_what_is_no_file),
        FILE_CASE("links are followed unless refused", links_are_followed_unless_refused),
        FILE_CASE("names may have any bytes and any length", takes_names_of_any_bytes_and_length),
        FILE_CASE("a denied permission is said", permission_denied_is_said),
        FILE_CASE("results are written by the await", results_are_written_by_the_await),
        FILE_CASE("what is cancelled in the queue never runs",
                  what_is_cancelled_in_the_queue_never_runs),
        FILE_CASE("a look says what fstatat says", a_look_says_what_fstatat_says),
        FILE_CASE("missing arguments are an error", missing_arguments_are_an_error),
        FILE_CASE("tasks and callbacks load too", tasks_and_callbacks_load_too),
        FILE_CASE("reads and writes go where they are told", reads_and_writes_where_it_is_told),
        FILE_CASE("offsets that can't be are refused", offsets_that_cannot_be_are_refused),
    };

    return SUPPORT_RUN(tests);
}

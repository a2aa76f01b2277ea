/* Replacing a file atomically. */
#include "config.h"

#include "child.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t replace(const char *name, const char *text, const ferry_file_replace_options *o) {
    return ferry_await(ferry_file_replace(pool, scratch_fd, name, text, strlen(text), o));
}

static mode_t mode_of(const char *name) {
    struct stat st;
    return fstatat(scratch_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static void a_file_is_made_or_replaced(void **state) {
    ferry_file_replace_options quick = {.no_sync = true};
    (void)state;
    assert_int_equal(replace("f", "first", NULL), 5);
    assert_true(has_text("f", "first"));
    assert_int_equal(replace("f", "the second", &quick), 10);
    assert_true(has_text("f", "the second"));
    assert_int_equal(ferry_await(ferry_file_replace(pool, scratch_fd, "f", NULL, 0, NULL)), 0);
    assert_true(has_text("f", ""));
    make_folder("a/b");
    assert_int_equal(replace("a/b//g", "x", NULL), 1);
    assert_true(has_text("a/b/g", "x"));
    assert_int_equal(
        ferry_await(ferry_file_replace(pool, AT_FDCWD, in_scratch("a/h"), "yy", 2, NULL)), 2);
    assert_true(has_text("a/h", "yy"));
    assert_int_equal(entries_in(scratch_fd, "."), 2);
    assert_int_equal(entries_in(scratch_fd, "a"), 2);
    assert_int_equal(entries_in(scratch_fd, "a/b"), 1);
}

static void big_files_are_written_whole(void **state) {
    enum { SIZE = (5 << 20) + 3 };
    unsigned char *data = malloc(SIZE);
    void *loaded;
    size_t size;
    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = pattern_at(i);
    assert_int_equal(ferry_await(ferry_file_replace(pool, scratch_fd, "f", data, SIZE, NULL)),
                     SIZE);
    assert_int_equal(ferry_await(ferry_file_load(pool, scratch_fd, "f", NULL, &loaded, &size)),
                     SIZE);
    assert_true(is_pattern(loaded, size, 0));
    free(loaded);
    free(data);
}

static void permissions_are_kept_or_set(void **state) {
    ferry_file_replace_options options = {.mode = 0604};
    mode_t mask = umask(027);
    (void)state;
    assert_int_equal(replace("new", "x", NULL), 1);
    assert_int_equal(mode_of("new"), S_IFREG | 0640);
    assert_int_equal(replace("given", "x", &options), 1);
    assert_int_equal(mode_of("given"), S_IFREG | 0604);
    make_text("old", "x");
    assert_int_equal(fchmodat(scratch_fd, "old", 06751, 0), 0);
    assert_int_equal(replace("old", "y", NULL), 1);
    assert_int_equal(mode_of("old"), S_IFREG | 06751);
    assert_int_equal(replace("old", "z", &options), 1);
    assert_int_equal(mode_of("old"), S_IFREG | 0604);
    options.mode = 010000;
    assert_int_equal(replace("old", "0", &options), -EINVAL);
    assert_true(has_text("old", "z"));
    umask(mask);
}

static void replace_as_nobody(void *arg) {
    ferry_executor_options options = {.threads_max = 1};
    ferry_executor *own;
    (void)arg;
    CHECK_INT(ferry_executor_new(&own, &options), 0);
    AWAIT_INT(ferry_file_replace(own, scratch_fd, "open/f", "new", 3, NULL), 3);
    AWAIT_INT(ferry_file_replace(own, scratch_fd, "open/g", "new", 3, NULL), 3);
    AWAIT_INT(ferry_file_replace(own, scratch_fd, "open/h", "new", 3, NULL), 3);
    AWAIT_INT(ferry_file_replace(own, scratch_fd, "shut/f", "new", 3, NULL), -EACCES);
    CHECK(strstr(ferry_errmsg(), "cannot replace 'shut/f': making a temporary file:") != NULL);
    CHECK_INT(ferry_executor_stop(own, FERRY_FOREVER), 0);
    ferry_executor_free(own);
}

static void the_owner_is_kept_where_that_is_allowed(void **state) {
    struct stat st;
    (void)state;
    if (geteuid() != 0)
        SKIP("only root can give files to others");
    make_folder("open");
    make_folder("shut");
    make_text("open/f", "old");
    make_text("shut/f", "old");
    assert_int_equal(fchmodat(scratch_fd, "open", 0777, 0), 0);
    assert_int_equal(fchmodat(scratch_fd, "open/f", 06755, 0), 0);
    make_text("open/g", "old");
    assert_int_equal(fchmodat(scratch_fd, "open/g", 0664, 0), 0);
    make_text("open/h", "old");
    assert_int_equal(fchownat(scratch_fd, "open/h", 0, 65534, 0), 0);
    assert_int_equal(fchmodat(scratch_fd, "open/h", 04770, 0), 0);
    as_nobody(replace_as_nobody, NULL);
    assert_true(has_text("open/f", "new"));
    assert_true(has_text("shut/f", "old"));
    assert_int_equal(entries_in(scratch_fd, "shut"), 1);
    /* It belongs to somebody else now, and must not lend his rights. */
    assert_int_equal(fstatat(scratch_fd, "open/f", &st, 0), 0);
    assert_int_equal(st.st_uid, 65534);
    assert_int_equal(st.st_mode, S_IFREG | 0755);
    assert_int_equal(mode_of("open/g"), S_IFREG | 0644); /* and so for the group */
    assert_int_equal(mode_of("open/h"), S_IFREG | 0770); /* which is the same here */
    assert_int_equal(replace("open/f", "newer", NULL), 5);
    assert_int_equal(fstatat(scratch_fd, "open/f", &st, 0), 0);
    assert_int_equal(st.st_uid, 65534);
    assert_int_equal(st.st_gid, 65534);
}

static void links_keep_what_they_had(void **state) {
    (void)state;
    make_text("f", "old");
    assert_int_equal(linkat(scratch_fd, "f", scratch_fd, "hard", 0), 0);
    assert_int_equal(symlinkat("hard", scratch_fd, "soft"), 0);
    assert_int_equal(replace("f", "new", NULL), 3);
    assert_int_equal(replace("soft", "soft", NULL), 4);
    assert_true(has_text("f", "new"));
    assert_true(has_text("hard", "old"));
    assert_true(has_text("soft", "soft"));
    assert_true(S_ISREG(mode_of("soft")));
}

static void what_cannot_be_replaced_is_refused(void **state) {
    (void)state;
    make_folder("folder");
    assert_int_equal(mkfifoat(scratch_fd, "fifo", 0600), 0);
    assert_int_equal(replace("folder", "x", NULL), -EISDIR);
    assert_non_null(strstr(ferry_errmsg(), "cannot replace 'folder'"));
    assert_int_equal(replace("folder/", "x", NULL), -EISDIR);
    assert_int_equal(replace("folder/.", "x", NULL), -EISDIR);
    assert_int_equal(replace("folder/..", "x", NULL), -EISDIR);
    assert_int_equal(replace("/", "x", NULL), -EISDIR);
    assert_int_equal(replace("fifo", "x", NULL), -EINVAL);
    assert_int_equal(replace("/dev/null", "x", NULL), -EINVAL);
    assert_int_equal(replace("", "x", NULL), -ENOENT);
    assert_int_equal(replace("no/f", "x", NULL), -ENOENT);
    assert_string_equal(ferry_errmsg(),
                        "cannot replace 'no/f': opening its folder: No such file or directory");
    assert_int_equal(ferry_await(ferry_file_replace(pool, scratch_fd, NULL, "x", 1, NULL)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_file_replace(pool, scratch_fd, "f", NULL, 1, NULL)),
                     -EINVAL);
    assert_int_equal(entries_in(scratch_fd, "."), 2);
    assert_true(S_ISFIFO(mode_of("fifo")));
}

/* ---- No room on the disk --------------------------------------------------------------------- */

static void fill_a_small_disk(void *arg) {
    enum { SIZE = 2 << 20 };
    ferry_executor_options options = {.threads_max = 1};
    ferry_executor *own;
    char *data = calloc(1, SIZE);
    (void)arg;
    make_folder("disk");
    if (!CHECK_INT(mount("none", in_scratch("disk"), "tmpfs", 0, "size=1m"), 0))
        return;
    int disk = open(in_scratch("disk"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(ferry_executor_new(&own, &options), 0);
    AWAIT_INT(ferry_file_replace(own, disk, "f", "old", 3, NULL), 3);
    AWAIT_INT(ferry_file_replace(own, disk, "f", data, SIZE, NULL), -ENOSPC);
    CHECK(strstr(ferry_errmsg(), "No space left on device") != NULL);
    char text[4] = "";
    AWAIT_INT(ferry_file_stat(own, disk, "f", true, &(ferry_file_info){0}), 0);
    int fd = openat(disk, "f", O_RDWR | O_CLOEXEC);
    AWAIT_INT(ferry_file_read_at(own, fd, text, 4, 0), 3);
    CHECK_STR(text, "old");
    AWAIT_INT(ferry_file_write_at(own, fd, data, SIZE, 0), -ENOSPC);
    CHECK(strstr(ferry_errmsg(), "(after ") != NULL);
    CHECK_INT(ftruncate(fd, 0), 0);
    close(fd);
    CHECK_INT(entries_in(disk, "."), 1);
    AWAIT_INT(ferry_file_replace(own, disk, "f", data, SIZE / 4, NULL), SIZE / 4);
    CHECK_INT(ferry_executor_stop(own, FERRY_FOREVER), 0);
    ferry_executor_free(own);
    close(disk);
    free(data);
}

static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    if (!with_own_mounts(fill_a_small_disk, NULL))
        SKIP("mounting isn't allowed here");
}

/* ---- A missing /proc: no way to name an unnamed file ----------------------------------------- */

static void replace_without_proc(void *arg) {
    ferry_executor_options options = {.threads_max = 1};
    ferry_executor *own;
    (void)arg;
    if (!CHECK_INT(mount("none", "/proc", "tmpfs", 0, NULL), 0))
        return;
    CHECK_INT(ferry_executor_new(&own, &options), 0);
    AWAIT_INT(ferry_file_replace(own, scratch_fd, "f", "new", 3, NULL), 3);
    CHECK_INT(ferry_executor_stop(own, FERRY_FOREVER), 0);
    ferry_executor_free(own);
}

static void it_works_without_proc(void **state) {
    (void)state;
    make_text("f", "old");
    assert_int_equal(fchmodat(scratch_fd, "f", 0640, 0), 0);
    if (!with_own_mounts(replace_without_proc, NULL))
        SKIP("mounting isn't allowed here");
    assert_true(has_text("f", "new"));
    assert_int_equal(mode_of("f"), S_IFREG | 0640);
    assert_int_equal(entries_in(scratch_fd, "."), 1);
}

/* ---- Killed ---------------------------------------------------------------------------------- */

enum { PAGE = 256 << 10 };

/* This program once more: replaces the file for ever, each time with one byte over and over. */
static int replace_for_ever(const char *path) {
    char *data = malloc(PAGE);
    if (!data)
        return 1;
    for (unsigned char byte = 'a';; byte = byte == 'z' ? 'a' : (unsigned char)(byte + 1)) {
        memset(data, byte, PAGE);
        if (ferry_await(ferry_file_replace(NULL, AT_FDCWD, path, data, PAGE, NULL)) != PAGE ||
            write(STDOUT_FILENO, ".", 1) != 1)
            break;
    }
    free(data);
    return 1;
}

/* Returns after `count` replacements, having killed it in whatever comes next. */
static void run_and_kill(const char *path, int count) {
    char dot;
    int pipes[2], status;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        exec_anew("--replace-for-ever", path);
        _exit(127);
    }
    assert_true(child > 0);
    close(pipes[1]);
    for (int i = 0; i < count; i++)
        assert_int_equal(read(pipes[0], &dot, 1), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(pipes[0]);
}

static void a_killed_process_leaves_a_whole_file(void **state) {
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s", in_scratch("f"));
    for (int i = 0; i < (support_slow() ? 3 : 12); i++) {
        void *data;
        size_t size;
        run_and_kill(path, 1 + i % 5);
        assert_int_equal(ferry_await(ferry_file_load(pool, scratch_fd, "f", NULL, &data, &size)),
                         PAGE);
        for (size_t k = 1; k < size; k++)
            assert_int_equal(((char *)data)[k], ((char *)data)[0]);
        free(data);
    }
}

/* ---- Worlds ---------------------------------------------------------------------------------- */

static int64_t replace_in_task(void *arg) {
    (void)arg;
    AWAIT_INT(ferry_file_replace(NULL, scratch_fd, "f", "task", 4, NULL), 4);
    return 0;
}

static void tasks_replace_too(void **state) {
    (void)state;
    assert_int_equal(ferry_run(replace_in_task, NULL), 0);
    assert_true(has_text("f", "task"));
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        FILE_CASE("a file is made, or replaced", a_file_is_made_or_replaced),
        FILE_CASE("big files are written whole", big_files_are_written_whole),
        FILE_CASE("permissions are kept, or set", permissions_are_kept_or_set),
        FILE_CASE("the owner is kept where that is allowed",
                  the_owner_is_kept_where_that_is_allowed),
        FILE_CASE("hard links and targets keep what they had", links_keep_what_they_had),
        FILE_CASE("what can't be replaced is refused", what_cannot_be_replaced_is_refused),
        FILE_CASE("a full disk leaves the old file", a_full_disk_leaves_the_old_file),
        FILE_CASE("it works without /proc", it_works_without_proc),
        FILE_CASE("a killed process leaves the old file or the new one",
                  a_killed_process_leaves_a_whole_file),
        FILE_CASE("tasks replace too", tasks_replace_too),
    };

    if (argc == 3 && strcmp(argv[1], "--replace-for-ever") == 0)
        return replace_for_ever(argv[2]);
    return SUPPORT_RUN(tests);
}

/* What a walk finds. */
#include "config.h"

#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tree.h"

#define WALK(root, options) walk_all(pool, scratch_fd, root, options)

/* ---- What there is --------------------------------------------------------------------------- */

static void everything_is_delivered_once(void **state) {
    static const struct {
        const char *name;
        int type;
    } wanted[] = {
        {"", 'd'},       {"empty", 'd'},    {"a", 'd'},           {"a/f", 'f'},       {"a/b", 'd'},
        {"a/b/g", 'f'},  {"fifo", 'p'},     {"socket", 's'},      {"dangling", 'l'},  {"self", 'l'},
        {"parent", 'l'}, {"a/b/root", 'l'}, {"\377\n \x80", 'f'}, {"a/b/\303(", 'd'},
    };
    enum { WANTED = sizeof wanted / sizeof wanted[0] };
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)state;
    make_folder("empty");
    make_folder("a/b/\303(");
    make_file("a/f", 17);
    make_file("a/b/g", 0);
    make_file("\377\n \x80", 3);
    assert_int_equal(mkfifoat(scratch_fd, "fifo", 0600), 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", in_scratch("socket"));
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    close(s);
    assert_int_equal(symlinkat("nothing", scratch_fd, "dangling"), 0);
    assert_int_equal(symlinkat("self", scratch_fd, "self"), 0);
    assert_int_equal(symlinkat("..", scratch_fd, "parent"), 0);
    assert_int_equal(symlinkat("../..", scratch_fd, "a/b/root"), 0);

    struct walked w = walk_all(pool, AT_FDCWD, scratch, NULL);
    assert_int_equal(w.end, FERRY_END);
    assert_int_equal(w.count, WANTED);
    for (size_t i = 0; i < WANTED; i++) {
        const ferry_walk_entry *e = seen_at(&w, wanted[i].name);
        struct stat st;
        if (!e)
            fail_msg("%s isn't there", wanted[i].name);
        assert_int_equal(e->info.type, wanted[i].type);
        assert_int_equal(e->error, 0);
        assert_int_equal(lstat(e->path, &st), 0);
        assert_int_equal(e->info.size, st.st_size);
        assert_int_equal(e->info.mode, st.st_mode);
        assert_int_equal(e->info.nlink, st.st_nlink);
        assert_int_equal(e->info.dev, st.st_dev);
        assert_int_equal(e->info.inode, st.st_ino);
        assert_int_equal(e->info.mtime_ns,
                         (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    }
    walked_free(&w);
}

static void an_entry_knows_its_place(void **state) {
    (void)state;
    make_folder("a/bb/ccc");
    make_file("a/bb/ccc/f", 1);
    struct walked w = WALK("a", NULL);
    const ferry_walk_entry *root = seen_at(&w, "");
    const ferry_walk_entry *b = seen_at(&w, "bb");
    const ferry_walk_entry *f = seen_at(&w, "bb/ccc/f");
    assert_int_equal(w.count, 4);
    assert_true(root && b && f);
    assert_string_equal(root->path, "a");
    assert_string_equal(root->path + root->name, "a");
    assert_int_equal(root->depth, 0);
    assert_string_equal(b->path, "a/bb");
    assert_string_equal(b->path + b->name, "bb");
    assert_int_equal(b->depth, 1);
    assert_string_equal(f->path, "a/bb/ccc/f");
    assert_string_equal(f->path + f->name, "f");
    assert_int_equal(f->depth, 3);
    walked_free(&w);
}

static void a_folder_comes_before_what_is_in_it(void **state) {
    (void)state;
    for (int i = 0; i < 30; i++) {
        char name[64];
        snprintf(name, sizeof name, "d%d/e%d/x%d", i % 3, i % 7, i);
        make_folder(name);
    }
    struct walked w = WALK(".", NULL);
    for (size_t i = 1; i < w.count; i++) {
        const ferry_walk_entry *e = &w.entries[i];
        size_t folder = e->name - 1, before = 0;
        while (w.entries[before].path_size != folder ||
               memcmp(w.entries[before].path, e->path, folder) != 0)
            assert_true(++before < i);
    }
    walked_free(&w);
}

static void the_root_may_be_written_in_many_ways(void **state) {
    static const struct {
        const char *root, *path;
    } ways[] = {
        {"a", "a/f"}, {"a/", "a/f"}, {"a//", "a//f"}, {"./a/.", "./a/./f"}, {"a/../a", "a/../a/f"}};
    ferry_walk_options follow = {.follow_root = true};
    (void)state;
    make_folder("a");
    make_file("a/f", 5);
    assert_int_equal(symlinkat("a", scratch_fd, "link"), 0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct walked w = WALK(ways[i].root, NULL);
        assert_int_equal(w.end, FERRY_END);
        assert_int_equal(w.count, 2);
        assert_string_equal(w.entries[0].path, ways[i].root);
        assert_string_equal(w.entries[1].path, ways[i].path);
        assert_string_equal(w.entries[1].path + w.entries[1].relative, "f");
        assert_string_equal(w.entries[1].path + w.entries[1].name, "f");
        walked_free(&w);
    }
    struct walked w = WALK("link", NULL);
    assert_int_equal(w.count, 1);
    assert_int_equal(w.entries[0].info.type, FERRY_FILE_SYMLINK);
    walked_free(&w);
    w = WALK("link", &follow);
    assert_int_equal(w.count, 2);
    assert_string_equal(w.entries[1].path, "link/f");
    walked_free(&w);
    w = WALK("a/f", NULL);
    assert_int_equal(w.end, FERRY_END);
    assert_int_equal(w.count, 1);
    assert_int_equal(w.entries[0].info.size, 5);
    walked_free(&w);
}

static int first_level(const ferry_walk_entry *entry, void *arg) {
    (void)arg;
    return entry->depth > 0 ? FERRY_WALK_PRUNE : FERRY_WALK_KEEP;
}

static void the_system_s_root_has_one_slash(void **state) {
    ferry_walk_options options = {.exclude = first_level};
    (void)state;
    struct walked w = walk_all(pool, AT_FDCWD, "/", &options);
    assert_int_equal(w.end, FERRY_END);
    assert_string_equal(w.entries[0].path, "/");
    const ferry_walk_entry *tmp = seen_at(&w, "tmp");
    assert_non_null(tmp);
    assert_string_equal(tmp->path, "/tmp");
    walked_free(&w);
}

static void a_root_that_is_not_there_ends_it(void **state) {
    ferry_walk *walk = (ferry_walk *)state;
    struct walked w = WALK("no", NULL);
    assert_int_equal(w.count, 0);
    assert_int_equal(w.end, -ENOENT);
    assert_string_equal(ferry_errmsg(), "cannot walk 'no': No such file or directory");
    walked_free(&w);
    assert_int_equal(ferry_walk_open(&walk, pool, scratch_fd, "", NULL), -EINVAL);
    assert_null(walk);
    assert_int_equal(ferry_walk_open(&walk, pool, scratch_fd, NULL, NULL), -EINVAL);
    assert_int_equal(ferry_walk_open(NULL, pool, scratch_fd, ".", NULL), -EINVAL);
}

/* ---- What is left out ------------------------------------------------------------------------ */

static int by_name(const ferry_walk_entry *entry, void *arg) {
    const char *name = entry->path + entry->name;
    ++*(int *)arg;
    if (strcmp(name, "end") == 0)
        return (int)ferry_fail(-EDOM, "that is far enough");
    return name[0] == 's' ? FERRY_WALK_SKIP : name[0] == 'p' ? FERRY_WALK_PRUNE : FERRY_WALK_KEEP;
}

static void count_call(void *arg) {
    *(int *)arg += 1000;
}

static void the_hook_leaves_out(void **state) {
    int calls = 0;
    ferry_walk_options options = {
        .exclude = by_name, .exclude_arg = &calls, .exclude_arg_free = count_call};
    (void)state;
    make_folder("t/k");
    make_folder("t/skipped/x");
    make_folder("t/pruned/x");
    make_file("t/k/sf", 1);
    make_file("t/k/f", 1);
    struct walked w = WALK("t", &options);
    assert_int_equal(w.end, FERRY_END);
    assert_int_equal(w.count, 4);
    assert_true(seen_at(&w, "") && seen_at(&w, "k") && seen_at(&w, "k/f") && seen_at(&w, "pruned"));
    walked_free(&w);
    assert_int_equal(ferry_executor_stop(pool, FERRY_FOREVER), 0);
    assert_int_equal(calls, 1006);
}

static void the_hook_ends_the_walk(void **state) {
    int calls = 0;
    ferry_walk_options options = {.exclude = by_name, .exclude_arg = &calls};
    (void)state;
    make_folder("t/end");
    struct walked w = WALK("t", &options);
    assert_int_equal(w.end, -EDOM);
    assert_string_equal(ferry_errmsg(), "that is far enough");
    assert_int_equal(w.count, 1); /* what came before is delivered */
    walked_free(&w);
}

/* ---- Mounts ---------------------------------------------------------------------------------- */

static void walk_over_mounts(void *arg) {
    ferry_executor_options options = {.threads_max = 1};
    ferry_walk_options one_device = {.one_device = true};
    ferry_executor *own;
    (void)arg;
    make_folder("t/a/mounted");
    make_folder("t/a/loop");
    make_folder("t/z");
    if (!CHECK_INT(mount("none", in_scratch("t/a/mounted"), "tmpfs", 0, NULL), 0) ||
        !CHECK_INT(mount(in_scratch("t"), in_scratch("t/a/loop"), "none", MS_BIND, NULL), 0))
        return;
    /* scratch_fd knows nothing of these mounts. */
    int dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(openat(dir, "t/a/mounted/f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    CHECK_INT(ferry_executor_new(&own, &options), 0);
    struct walked w = walk_all(own, dir, "t", NULL);
    CHECK_INT(w.end, FERRY_END);
    CHECK_INT(w.count, 6);
    CHECK(seen_at(&w, "a/mounted/f") != NULL);
    const ferry_walk_entry *loop = seen_at(&w, "a/loop");
    CHECK(loop && loop->error == -ELOOP && loop->info.inode == w.entries[0].info.inode);
    walked_free(&w);
    w = walk_all(own, dir, "t", &one_device);
    CHECK_INT(w.end, FERRY_END);
    CHECK_INT(w.count, 5);
    const ferry_walk_entry *mounted = seen_at(&w, "a/mounted");
    CHECK(mounted && mounted->error == 0 && mounted->info.dev != w.entries[0].info.dev);
    walked_free(&w);
    close(dir);
    CHECK_INT(ferry_executor_stop(own, FERRY_FOREVER), 0);
    ferry_executor_free(own);
}

static void mounts_are_entered_or_not_and_never_for_ever(void **state) {
    (void)state;
    if (!with_own_mounts(walk_over_mounts, NULL))
        SKIP("mounting isn't allowed here");
}

/* ---- Permissions ----------------------------------------------------------------------------- */

static void walk_as_nobody(void *arg) {
    ferry_executor_options options = {.threads_max = 1};
    ferry_executor *own;
    (void)arg;
    CHECK_INT(ferry_executor_new(&own, &options), 0);
    struct walked w = walk_all(own, scratch_fd, "t", NULL);
    CHECK_INT(w.end, FERRY_END);
    CHECK_INT(w.count, 6);
    const ferry_walk_entry *shut = seen_at(&w, "shut"), *listed = seen_at(&w, "listed/f");
    CHECK(shut && shut->error == -EACCES && shut->info.type == FERRY_FILE_FOLDER);
    CHECK(shut && shut->info.inode != 0);
    CHECK_INT(times_seen(&w, "shut"), 1);
    CHECK(listed && listed->error == -EACCES && listed->info.type == FERRY_FILE_REGULAR);
    CHECK(listed && listed->info.inode == 0);
    CHECK(seen_at(&w, "open/f") && seen_at(&w, "open/f")->error == 0);
    walked_free(&w);
    CHECK_INT(ferry_executor_stop(own, FERRY_FOREVER), 0);
    ferry_executor_free(own);
}

static void what_may_not_be_read_is_an_entry(void **state) {
    (void)state;
    make_folder("t/shut");
    make_folder("t/open");
    make_folder("t/listed");
    make_file("t/shut/f", 1);
    make_file("t/open/f", 1);
    make_file("t/listed/f", 1);
    assert_int_equal(fchmodat(scratch_fd, "t/shut", 0, 0), 0);
    assert_int_equal(fchmodat(scratch_fd, "t/listed", 0444, 0), 0);
    as_nobody(walk_as_nobody, NULL);
    assert_int_equal(fchmodat(scratch_fd, "t/shut", 0755, 0), 0);
    assert_int_equal(fchmodat(scratch_fd, "t/listed", 0755, 0), 0);
}

/* ---- Big trees ------------------------------------------------------------------------------- */

struct deep {
    unsigned calls;
    size_t most_open;
};

static int look_at_open_files(const ferry_walk_entry *entry, void *arg) {
    struct deep *deep = arg;
    (void)entry;
    if (++deep->calls % 97 == 0) {
        size_t now = open_files();
        deep->most_open = now > deep->most_open ? now : deep->most_open;
    }
    return FERRY_WALK_KEEP;
}

static int64_t count_chunk(const void *chunk, size_t size, void *arg) {
    (void)chunk;
    *(size_t *)arg += size;
    return 0;
}

/* Thousands of levels, folders beside the way at every hundredth, so that the way up matters. */
static void depth_has_no_limit(void **state) {
    enum { PIECES = 30, PIECE = 100 };
    struct deep deep = {0};
    ferry_walk_options options = {.exclude = look_at_open_files, .exclude_arg = &deep};
    (void)state;
    make_folder("t");
    int at = openat(scratch_fd, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < PIECES; i++) {
        int next = make_chain(at, PIECE, "next");
        close(at);
        at = next;
        assert_int_equal(mkdirat(at, "beside", 0755), 0);
        assert_int_equal(mkdirat(at, "beside/x", 0755), 0);
        assert_int_equal(mkdirat(at, "other", 0755), 0);
        if (i == 0) { /* a second way into the deep, after the way up */
            int beside = openat(at, "beside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            close(make_chain(beside, PIECE, "deep"));
            close(beside);
        }
    }
    close(at);
    size_t open_before = open_files();
    struct walked w = WALK("t", &options);
    assert_int_equal(w.end, FERRY_END);
    assert_int_equal(w.count, 1 + PIECES * (PIECE * 2 + 3) + PIECE * 2);
    size_t deepest = 0, longest = 0;
    for (size_t i = 0; i < w.count; i++) {
        assert_int_equal(w.entries[i].error, 0);
        deepest = w.entries[i].depth > deepest ? w.entries[i].depth : deepest;
        if (w.entries[i].info.type == FERRY_FILE_REGULAR &&
            w.entries[i].path_size > w.entries[longest].path_size)
            longest = i;
    }
    assert_int_equal(deepest, PIECES * PIECE + 2);
    if (open_before > 0)
        assert_true(deep.most_open <= open_before + 40);
    /* What was found can be opened by the path with which it was delivered. */
    size_t bytes = 0;
    assert_true(w.entries[longest].path_size > 15000);
    assert_int_equal(
        ferry_file_scan_now(scratch_fd, w.entries[longest].path, NULL, count_chunk, &bytes, NULL),
        0);
    walked_free(&w);
}

struct counted {
    size_t folders;
    struct deep deep;
};

static int64_t count_entry(const ferry_walk_entry *entry, void *arg) {
    struct counted *counted = arg;
    counted->folders += entry->info.type == FERRY_FILE_FOLDER && entry->error == 0;
    look_at_open_files(entry, &counted->deep);
    return 0;
}

static int64_t never(void *arg) {
    (void)arg;
    return 0;
}

/* With room for few waiting names the reading of each folder pauses, again and again: in 50 nested
 * folders (more than may pause) with 20 subfolders each. */
static void reading_pauses_when_too_many_names_wait(void **state) {
    enum { NESTED = 50, BESIDE = 20 };
    size_t open_before = open_files();
    (void)state;
    make_folder("t");
    int at = openat(scratch_fd, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < NESTED; i++) {
        for (int k = 0; k < BESIDE; k++) {
            char name[32];
            snprintf(name, sizeof name, "folder-%d", k);
            assert_int_equal(mkdirat(at, name, 0755), 0);
        }
        int next = openat(at, "folder-17", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    for (size_t names_max = 0; names_max < 20000; names_max = names_max * 5 + 1) {
        struct counted counted = {0};
        struct ferry__tree_options options = {.dirfd = scratch_fd,
                                              .root = "t",
                                              .names_max = names_max,
                                              .deliver = count_entry,
                                              .check = never,
                                              .arg = &counted};
        assert_int_equal(ferry__tree_walk(&options), 0);
        assert_int_equal(counted.folders, 1 + NESTED * BESIDE);
        if (open_before > 0)
            assert_true(counted.deep.most_open <= open_before + 40);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILE_CASE("everything is delivered once, links unfollowed", everything_is_delivered_once),
        FILE_CASE("an entry knows its place", an_entry_knows_its_place),
        FILE_CASE("a folder comes before what is in it", a_folder_comes_before_what_is_in_it),
        FILE_CASE("the root may be written in many ways", the_root_may_be_written_in_many_ways),
        FILE_CASE("the system's root has one slash", the_system_s_root_has_one_slash),
        FILE_CASE("a root that isn't there ends the walk", a_root_that_is_not_there_ends_it),
        FILE_CASE("the hook leaves out", the_hook_leaves_out),
        FILE_CASE("the hook ends the walk", the_hook_ends_the_walk),
        FILE_CASE("mounts are entered or not, and never for ever",
                  mounts_are_entered_or_not_and_never_for_ever),
        FILE_CASE("what may not be read is an entry", what_may_not_be_read_is_an_entry),
        FILE_CASE("depth has no limit, open files have", depth_has_no_limit),
        FILE_CASE("reading pauses when too many names wait",
                  reading_pauses_when_too_many_names_wait),
    };

    return SUPPORT_RUN(tests);
}

/* Trees that change while they are walked. The changes are made by the exclude hook, so each comes
 * at its moment. */
#include "config.h"

#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct change {
    size_t depth;     /* made once, at the first entry of this depth ... */
    const char *name; /* ... or with this name */
    void (*make)(const ferry_walk_entry *entry);
    bool made;
};

static int change_once(const ferry_walk_entry *entry, void *arg) {
    struct change *change = arg;
    bool now = change->name ? strcmp(entry->path + entry->name, change->name) == 0
                            : entry->depth == change->depth;
    if (now && !change->made) {
        change->made = true;
        change->make(entry);
    }
    return FERRY_WALK_KEEP;
}

static struct walked walk_with(struct change *change) {
    ferry_walk_options options = {.exclude = change_once, .exclude_arg = change};
    struct walked w = walk_all(pool, scratch_fd, "t", &options);
    CHECK_INT(w.end, FERRY_END);
    CHECK(change->made);
    return w;
}

/* ---- Vanishing ------------------------------------------------------------------------------- */

static void remove_the_others(const ferry_walk_entry *entry) {
    for (int i = 0; i < 10; i++) {
        char name[32];
        snprintf(name, sizeof name, "t/f%d", i);
        if (strcmp(name, entry->path) != 0)
            CHECK_INT(unlinkat(scratch_fd, name, 0), 0);
    }
}

static void a_file_that_vanishes_is_an_entry(void **state) {
    struct change change = {.depth = 1, .make = remove_the_others};
    (void)state;
    make_folder("t");
    for (int i = 0; i < 10; i++) {
        char name[32];
        snprintf(name, sizeof name, "t/f%d", i);
        make_file(name, 1);
    }
    struct walked w = walk_with(&change);
    assert_int_equal(w.count, 11);
    assert_int_equal(w.entries[1].error, 0);
    for (size_t i = 2; i < w.count; i++) {
        assert_int_equal(w.entries[i].error, -ENOENT);
        assert_int_equal(w.entries[i].info.type, FERRY_FILE_REGULAR);
    }
    walked_free(&w);
}

static void remove_folder(const ferry_walk_entry *entry) {
    CHECK_INT(unlinkat(scratch_fd, entry->path, AT_REMOVEDIR), 0);
}

static void replace_folder_by_link(const ferry_walk_entry *entry) {
    remove_folder(entry);
    CHECK_INT(symlinkat("/etc", scratch_fd, entry->path), 0);
}

static void replace_folder_by_file(const ferry_walk_entry *entry) {
    remove_folder(entry);
    make_file(entry->path, 5);
}

static void a_folder_that_vanishes_is_an_entry(void **state) {
    static void (*const ways[])(const ferry_walk_entry *) = {remove_folder, replace_folder_by_link,
                                                             replace_folder_by_file};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct change change = {.name = "victim", .make = ways[i]};
        make_folder("t/a");
        make_folder("t/victim");
        make_folder("t/z");
        struct walked w = walk_with(&change);
        const ferry_walk_entry *victim = seen_at(&w, "victim");
        assert_int_equal(w.count, 4);
        assert_non_null(victim);
        if (i == 0)
            assert_int_equal(victim->error, -ENOENT);
        else
            assert_true(victim->error == -ENOTDIR || victim->error == -ELOOP);
        walked_free(&w);
        unlinkat(scratch_fd, "t/victim", 0);
    }
}

static void swap_folder(const ferry_walk_entry *entry) {
    CHECK_INT(renameat(scratch_fd, entry->path, scratch_fd, "elsewhere"), 0);
    CHECK_INT(renameat(scratch_fd, "other", scratch_fd, entry->path), 0);
}

static void a_folder_that_is_replaced_is_delivered_as_it_is_walked(void **state) {
    struct change change = {.name = "victim", .make = swap_folder};
    struct stat st;
    (void)state;
    make_folder("t/victim/before");
    make_folder("other/after");
    assert_int_equal(fstatat(scratch_fd, "other", &st, 0), 0);
    struct walked w = walk_with(&change);
    assert_int_equal(w.count, 3);
    assert_non_null(seen_at(&w, "victim/after"));
    assert_int_equal(seen_at(&w, "victim")->info.inode, st.st_ino);
    walked_free(&w);
}

/* ---- Moving folders above the place where the walk is ---------------------------------------- */

enum { LEVELS = 80, MOVED = 20 };

/* Nested folders d, each with a file f and, but for the innermost, a folder "side" with a file in
 * it. What comes first in the reading is the file system's choice, so "side" may come before d or
 * behind it. */
static void make_ladder(void) {
    make_folder("t");
    int at = openat(scratch_fd, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < LEVELS; i++) {
        for (int k = 0; k < 4; k++) {
            char name[16];
            snprintf(name, sizeof name, "side%d", k);
            assert_int_equal(mkdirat(at, name, 0755), 0);
            int side = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            close(make_chain(side, 1, "x"));
            close(side);
        }
        int next = make_chain(at, 1, "d");
        close(at);
        at = next;
    }
    close(at);
}

static const char *ladder(int level) {
    static char path[LEVELS * 2 + 16];
    strcpy(path, "t");
    for (int i = 0; i < level; i++)
        strcat(path, "/d");
    return path;
}

/* How many of the four side folders at a level were delivered. */
static size_t sides_seen(const struct walked *w, int level) {
    size_t seen = 0;
    for (int k = 0; k < 4; k++) {
        char name[LEVELS * 2 + 32];
        snprintf(name, sizeof name, "%s/side%d", ladder(level), k);
        seen += times_seen(w, name + 2);
    }
    return seen;
}

static void move_inner(const ferry_walk_entry *entry) {
    (void)entry;
    CHECK_INT(renameat(scratch_fd, ladder(MOVED + 1), scratch_fd, "inner"), 0);
}

/* ".." of what was moved leads elsewhere; the folder outside of it is found on its path. */
static void the_way_up_is_found_when_a_folder_was_moved(void **state) {
    struct change change = {.depth = LEVELS, .make = move_inner};
    (void)state;
    make_ladder();
    struct walked w = walk_with(&change);
    for (int i = 0; i < LEVELS; i++)
        assert_int_equal(sides_seen(&w, i), 4);
    for (size_t i = 0; i < w.count; i++)
        assert_int_equal(w.entries[i].error, 0);
    walked_free(&w);
}

static void move_both(const ferry_walk_entry *entry) {
    move_inner(entry);
    CHECK_INT(renameat(scratch_fd, ladder(MOVED), scratch_fd, "outer"), 0);
}

/* Neither way leads back: what is left of that folder is given up, and the walk goes on outside of
 * it. */
static void a_folder_that_is_lost_is_said(void **state) {
    struct change change = {.depth = LEVELS, .make = move_both};
    size_t lost = 0;
    (void)state;
    make_ladder();
    struct walked w = walk_with(&change);
    for (int i = 0; i < LEVELS; i++)
        if (i != MOVED)
            assert_int_equal(sides_seen(&w, i), 4);
    for (size_t i = 0; i < w.count; i++) {
        if (w.entries[i].error == 0)
            continue;
        lost++;
        assert_int_equal(w.entries[i].error, -ESTALE);
        assert_string_equal(w.entries[i].path, ladder(MOVED));
        assert_int_equal(w.entries[i].info.type, FERRY_FILE_FOLDER);
        assert_int_equal(times_seen(&w, ladder(MOVED) + 2), 2);
    }
    /* Unless the file system had named the folder last of all. */
    assert_int_equal(lost, sides_seen(&w, MOVED) < 4);
    walked_free(&w);
}

static void remove_all(const ferry_walk_entry *entry) {
    char command[600];
    (void)entry;
    snprintf(command, sizeof command, "rm -rf '%s/t'", scratch);
    CHECK_INT(system(command), 0);
}

static void a_tree_that_is_removed_ends_the_walk_soon(void **state) {
    struct change change = {.depth = LEVELS, .make = remove_all};
    (void)state;
    make_ladder();
    struct walked w = walk_with(&change);
    for (size_t i = 0; i < w.count; i++)
        assert_true(w.entries[i].error == 0 || w.entries[i].error == -ENOENT ||
                    w.entries[i].error == -ESTALE);
    walked_free(&w);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILE_CASE("a file that vanishes is an entry", a_file_that_vanishes_is_an_entry),
        FILE_CASE("a folder that vanishes is an entry", a_folder_that_vanishes_is_an_entry),
        FILE_CASE("a replaced folder is delivered as it is walked",
                  a_folder_that_is_replaced_is_delivered_as_it_is_walked),
        FILE_CASE("the way up is found when a folder was moved",
                  the_way_up_is_found_when_a_folder_was_moved),
        FILE_CASE("a folder that is lost is said", a_folder_that_is_lost_is_said),
        FILE_CASE("a tree that is removed ends the walk",
                  a_tree_that_is_removed_ends_the_walk_soon),
    };

    return SUPPORT_RUN(tests);
}

/* The way through a folder tree.
 *
 * A folder is read to its end before its subfolders are entered; their names wait on one stack of
 * bytes for the whole tree, the innermost folder's at its top. When that stack holds more than
 * names_max, reading pauses and the subfolders found so far come first, so that a folder of
 * millions of folders isn't held in memory.
 *
 * Each folder between the root and where we are is a level. A level's fd is needed to enter its
 * next subfolder. At most LEVELS_OPEN are open; in a deeper tree those nearest to the root are
 * closed first (never the root, and never one that pauses, since its place in the reading would be
 * lost: LEVELS_PAUSED of those at most). On the way up a closed one is opened again as "..", and
 * recognised by device and inode. Where that fails, because somebody moved a folder, it is looked
 * for on its old path from the nearest open level; if it isn't there either, what is left of it is
 * given up with -ESTALE. So a race never leads out of the tree.
 *
 * Open files: the levels' and one more on each of the two ways to a level, LEVELS_OPEN + 2. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "tree.h"

#define LEVELS_OPEN 32
#define LEVELS_PAUSED 16
#define CHECK_EVERY 64 /* entries */
#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

struct level {
    DIR *dir; /* NULL when it was closed on the way down, also after it was opened again */
    int fd;   /* dir's, or opened again; -1 while closed */
    bool all_read;
    bool paused;
    size_t path_size; /* of the path up to here */
    size_t names;     /* where its waiting names begin */
    dev_t dev;
    ino_t ino;
    size_t same; /* the next outer level in the same chain of the hash, + 1 */
};

struct tree {
    const struct ferry__tree_options *options;

    char *path; /* of what is looked at, with a final zero */
    size_t path_size, path_room;
    size_t root_size;

    struct level *levels; /* the root first */
    size_t n_levels, levels_room;
    size_t n_open, n_paused;
    size_t closable; /* no level before this one (but the root) can be closed */

    size_t *chains;  /* levels with the same hash of (dev, ino): the innermost's index + 1, or 0 */
    size_t n_chains; /* a power of two */

    char *names;
    size_t names_size, names_room;

    unsigned countdown; /* to the next check */
};

static int64_t out_of_memory(const struct tree *t) {
    return ferry__file_fail(ENOMEM, "walk", t->options->root);
}

static struct level *top(const struct tree *t) {
    return &t->levels[t->n_levels - 1];
}

/* ---- The path -------------------------------------------------------------------------------- */

static int64_t path_reserve(struct tree *t, size_t size) {
    if (size < t->path_room)
        return 0;
    size_t room = t->path_room * 2 > size + 1 ? t->path_room * 2 : size + 1;
    char *path = realloc(t->path, room);
    if (!path)
        return out_of_memory(t);
    t->path = path;
    t->path_room = room;
    return 0;
}

static void path_cut(struct tree *t, size_t size) {
    t->path_size = size;
    t->path[size] = '\0';
}

/* Where the name of something in the folder with this path begins. */
static size_t path_child(const struct tree *t, size_t folder_size) {
    return folder_size + (t->path[folder_size - 1] != '/');
}

/* Makes the path that of `name` in the folder with a path of folder_size bytes. */
static int64_t path_enter(struct tree *t, size_t folder_size, const char *name, size_t name_size) {
    int64_t rc = path_reserve(t, folder_size + 1 + name_size);
    if (rc < 0)
        return rc;
    size_t begin = path_child(t, folder_size);
    t->path[begin - 1] = '/';
    memcpy(t->path + begin, name, name_size);
    path_cut(t, begin + name_size);
    return 0;
}

/* ---- Waiting names --------------------------------------------------------------------------- */

static int64_t name_push(struct tree *t, const char *name) {
    size_t size = strlen(name) + 1;
    if (t->names_size + size > t->names_room) {
        size_t room = t->names_room > 2048 ? t->names_room * 2 : 4096;
        char *names = realloc(t->names, room);
        if (!names)
            return out_of_memory(t);
        t->names = names;
        t->names_room = room;
    }
    memcpy(t->names + t->names_size, name, size);
    t->names_size += size;
    return 0;
}

/* Takes the last name of the innermost folder. It stays readable until the next push. */
static const char *name_pop(struct tree *t, size_t *size) {
    size_t end = t->names_size - 1, begin = end;
    while (begin > top(t)->names && t->names[begin - 1] != '\0')
        begin--;
    t->names_size = begin;
    *size = end - begin;
    return t->names + begin;
}

/* ---- Levels ---------------------------------------------------------------------------------- */

static size_t *chain_of(const struct tree *t, dev_t dev, ino_t ino) {
    uint64_t hash = ((uint64_t)ino ^ (uint64_t)dev << 32) * UINT64_C(0x9e3779b97f4a7c15);
    return &t->chains[(hash >> 32) & (t->n_chains - 1)];
}

static void chain_in(struct tree *t, size_t index) {
    struct level *level = &t->levels[index];
    size_t *chain = chain_of(t, level->dev, level->ino);
    level->same = *chain;
    *chain = index + 1;
}

static bool is_ancestor(const struct tree *t, const struct stat *st) {
    if (t->n_levels == 0)
        return false;
    for (size_t i = *chain_of(t, st->st_dev, st->st_ino); i > 0; i = t->levels[i - 1].same)
        if (t->levels[i - 1].dev == st->st_dev && t->levels[i - 1].ino == st->st_ino)
            return true;
    return false;
}

static int64_t levels_reserve(struct tree *t) {
    if (t->n_levels < t->levels_room)
        return 0;
    size_t room = t->levels_room ? t->levels_room * 2 : LEVELS_OPEN;
    struct level *levels = realloc(t->levels, room * sizeof *levels);
    if (!levels)
        return out_of_memory(t);
    t->levels = levels;
    size_t *chains = calloc(room * 2, sizeof *chains);
    if (!chains)
        return out_of_memory(t);
    free(t->chains);
    t->chains = chains;
    t->n_chains = room * 2;
    t->levels_room = room;
    for (size_t i = 0; i < t->n_levels; i++)
        chain_in(t, i);
    return 0;
}

static void level_close(struct tree *t, struct level *level) {
    if (level->fd < 0)
        return;
    if (level->dir)
        closedir(level->dir);
    else
        close(level->fd);
    level->dir = NULL;
    level->fd = -1;
    t->n_open--;
}

/* Closes an outer level when as many are open as may be. The innermost one is needed. */
static void close_one(struct tree *t) {
    if (t->n_open < LEVELS_OPEN)
        return;
    for (; t->closable < t->n_levels - 1; t->closable++) {
        struct level *level = &t->levels[t->closable];
        if (level->fd >= 0 && level->all_read) {
            level_close(t, level);
            return;
        }
    }
}

static void level_push(struct tree *t, DIR *dir, const struct stat *st) {
    struct level *level = &t->levels[t->n_levels];
    *level = (struct level){
        .dir = dir,
        .fd = dirfd(dir),
        .path_size = t->path_size,
        .names = t->names_size,
        .dev = st->st_dev,
        .ino = st->st_ino,
    };
    chain_in(t, t->n_levels++);
    t->n_open++;
}

static void level_pop(struct tree *t) {
    struct level *level = top(t);
    t->names_size = level->names;
    *chain_of(t, level->dev, level->ino) = level->same;
    level_close(t, level);
    t->n_levels--;
    if (t->closable >= t->n_levels)
        t->closable = t->n_levels > 1 ? t->n_levels - 1 : 1;
}

/* ---- What is found --------------------------------------------------------------------------- */

static ferry_walk_entry entry_here(const struct tree *t, size_t depth, int error,
                                   const struct stat *st, int type) {
    ferry_walk_entry entry = {
        .path = t->path,
        .path_size = t->path_size,
        .relative = t->root_size,
        .depth = depth,
        .error = error,
        .info.type = type,
    };
    if (st)
        ferry__file_info(&entry.info, st);
    if (depth > 0) {
        entry.relative = path_child(t, t->root_size);
        entry.name = path_child(t, t->levels[depth - 1].path_size);
    }
    return entry;
}

/* Counts an entry, and asks whether it is wanted: one of enum ferry_walk_verdict, or negative. */
static int64_t judge(struct tree *t, const ferry_walk_entry *entry) {
    const struct ferry__tree_options *o = t->options;
    if (t->countdown-- == 0) {
        t->countdown = CHECK_EVERY;
        int64_t rc = o->check(o->arg);
        if (rc < 0)
            return rc;
    }
    return o->exclude ? o->exclude(entry, o->exclude_arg) : FERRY_WALK_KEEP;
}

static int64_t deliver(const struct tree *t, const ferry_walk_entry *entry) {
    return t->options->deliver(entry, t->options->arg);
}

/* Something that isn't entered. */
static int64_t found(struct tree *t, int error, const struct stat *st, int type) {
    ferry_walk_entry entry = entry_here(t, t->n_levels, error, st, type);
    int64_t rc = judge(t, &entry);
    return rc < 0 || rc == FERRY_WALK_SKIP ? rc : deliver(t, &entry);
}

/* A folder that was delivered already and can't be read on. */
static int64_t broke_off(struct tree *t, int error) {
    struct level *level = top(t);
    struct stat st;
    path_cut(t, level->path_size);
    bool known = level->fd >= 0 && fstat(level->fd, &st) == 0;
    ferry_walk_entry entry =
        entry_here(t, t->n_levels - 1, error, known ? &st : NULL, FERRY_FILE_FOLDER);
    return deliver(t, &entry);
}

/* ---- Going down ------------------------------------------------------------------------------ */

/* Whether the folder may be entered: 0, -ELOOP, or 1 when it is on another device and that isn't
 * wanted. */
static int enterable(const struct tree *t, const struct stat *st) {
    if (is_ancestor(t, st))
        return -ELOOP;
    return t->options->one_device && t->n_levels > 0 && st->st_dev != t->levels[0].dev;
}

/* Opens a folder that was found to be `st`, and looks at it again: it may have been replaced since.
 * Returns 0 and *dir; 1 when it isn't to be entered; -errno; -ENOMEM alone is not the folder's. */
static int open_folder(struct tree *t, int parent, const char *name, int flags, struct stat *st,
                       DIR **dir) {
    int rc = enterable(t, st);
    if (rc != 0)
        return rc;
    close_one(t);
    int fd = ferry__file_open(parent, name, OPEN_FLAGS | flags, 0);
    if (fd < 0)
        return fd;
    rc = fstat(fd, st) < 0 ? -errno : enterable(t, st);
    if (rc == 0) {
        *dir = fdopendir(fd);
        if (*dir)
            return 0;
        rc = -errno;
    }
    close(fd);
    return rc;
}

/* What the path names, in the folder `parent`, where its name is `name`: delivers it, and enters it
 * when it is a folder. */
static int64_t enter(struct tree *t, int parent, const char *name, bool follow) {
    struct stat st;
    DIR *dir = NULL;
    int rc = ferry__file_look(parent, name, follow ? 0 : AT_SYMLINK_NOFOLLOW, &st);
    if (rc < 0)
        return t->n_levels > 0 ? found(t, rc, NULL, FERRY_FILE_FOLDER)
                               : ferry__file_fail(-rc, "walk", t->options->root);
    if (!S_ISDIR(st.st_mode))
        return found(t, 0, &st, FERRY_FILE_UNKNOWN);
    ferry_walk_entry entry = entry_here(t, t->n_levels, 0, &st, FERRY_FILE_FOLDER);
    int64_t verdict = judge(t, &entry);
    if (verdict < 0 || verdict == FERRY_WALK_SKIP)
        return verdict;
    if (verdict == FERRY_WALK_PRUNE)
        return deliver(t, &entry);
    if (levels_reserve(t) < 0)
        return -ENOMEM;
    rc = open_folder(t, parent, name, follow ? 0 : O_NOFOLLOW, &st, &dir);
    if (rc == -ENOMEM)
        return out_of_memory(t);
    entry = entry_here(t, t->n_levels, rc < 0 ? rc : 0, &st, FERRY_FILE_FOLDER);
    if (rc == 0)
        level_push(t, dir, &st);
    return deliver(t, &entry);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static int64_t read_entry(struct tree *t, const struct level *level, const struct dirent *d) {
#ifdef DT_DIR
    if (d->d_type == DT_DIR)
        return name_push(t, d->d_name); /* it is looked at when it is entered */
    int type = ferry__file_type((mode_t)DTTOIF(d->d_type));
#else
    int type = FERRY_FILE_UNKNOWN;
#endif
    int64_t rc = path_enter(t, level->path_size, d->d_name, strlen(d->d_name));
    if (rc < 0)
        return rc;
    struct stat st;
    int error = ferry__file_look(level->fd, d->d_name, AT_SYMLINK_NOFOLLOW, &st);
    if (error < 0)
        return found(t, error, NULL, type);
    if (S_ISDIR(st.st_mode))
        return name_push(t, d->d_name);
    return found(t, 0, &st, type);
}

/* Reads the innermost folder to its end, or to a pause. */
static int64_t read_level(struct tree *t) {
    struct level *level = top(t);
    if (level->paused) {
        level->paused = false;
        t->n_paused--;
    }
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(level->dir);
        if (!d) {
            level->all_read = true;
            return errno == 0 ? 0 : broke_off(t, -errno);
        }
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int64_t rc = read_entry(t, level, d);
        if (rc < 0)
            return rc;
        if (t->names_size > t->options->names_max && t->names_size > level->names &&
            t->n_paused < LEVELS_PAUSED) {
            level->paused = true;
            t->n_paused++;
            return 0;
        }
    }
}

/* ---- Going up -------------------------------------------------------------------------------- */

/* The fd of `name` in `at` if it is the folder of `level`; else -1. */
static int open_same(int at, const char *name, const struct level *level) {
    struct stat st;
    int fd = ferry__file_open(at, name, OPEN_FLAGS | O_NOFOLLOW, 0);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && st.st_dev == level->dev && st.st_ino == level->ino)
        return fd;
    close(fd);
    return -1;
}

/* Down the old path from the nearest open level (the root always is); -1 when it doesn't lead there
 * any more. */
static int open_by_path(struct tree *t, size_t index) {
    size_t i = index;
    while (t->levels[i].fd < 0)
        i--;
    int fd = t->levels[i].fd;
    for (size_t k = i + 1; k <= index && fd >= 0; k++) {
        size_t end = t->levels[k].path_size;
        char after = t->path[end];
        t->path[end] = '\0';
        int next =
            open_same(fd, t->path + path_child(t, t->levels[k - 1].path_size), &t->levels[k]);
        t->path[end] = after;
        if (k > i + 1)
            close(fd);
        fd = next;
    }
    return fd;
}

/* Leaves the innermost folder; the one outside of it is open then, or given up. */
static int64_t leave(struct tree *t) {
    int64_t rc = 0;
    int inner = top(t)->fd;
    struct level *outer = t->n_levels > 1 ? top(t) - 1 : NULL;
    if (outer && outer->fd < 0) {
        outer->fd = inner >= 0 ? open_same(inner, "..", outer) : -1;
        if (outer->fd < 0)
            outer->fd = open_by_path(t, t->n_levels - 2);
        if (outer->fd >= 0)
            t->n_open++;
    }
    level_pop(t);
    if (outer && outer->fd < 0 && t->names_size > outer->names) {
        t->names_size = outer->names;
        rc = broke_off(t, -ESTALE);
    }
    return rc;
}

/* ---- All of it ------------------------------------------------------------------------------- */

static int64_t step(struct tree *t) {
    struct level *level = top(t);
    if (t->names_size > level->names) {
        size_t size;
        const char *name = name_pop(t, &size);
        int64_t rc = path_enter(t, level->path_size, name, size);
        return rc < 0 ? rc : enter(t, level->fd, t->path + t->path_size - size, false);
    }
    return level->all_read ? leave(t) : read_level(t);
}

int64_t ferry__tree_walk(const struct ferry__tree_options *options) {
    struct tree t = {.options = options, .root_size = strlen(options->root), .closable = 1};
    int64_t rc = path_reserve(&t, t.root_size);
    if (rc >= 0) {
        memcpy(t.path, options->root, t.root_size);
        path_cut(&t, t.root_size);
        rc = enter(&t, options->dirfd, options->root, options->follow_root);
    }
    while (rc >= 0 && t.n_levels > 0)
        rc = step(&t);
    while (t.n_levels > 0)
        level_pop(&t);
    free(t.levels);
    free(t.chains);
    free(t.names);
    free(t.path);
    return rc < 0 ? rc : 0;
}

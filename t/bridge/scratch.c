/* See scratch.h. */
#include "config.h"

#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int scratch_fd = -1;
const char *scratch;
ferry_executor *pool;

static char folder[400];
static size_t open_before;

size_t open_files(void) {
    DIR *dir = opendir("/proc/self/fd");
    size_t count = 0;
    if (!dir)
        return 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int64_t sleep_a_moment(void *arg) {
    (void)arg;
    return ferry_sleep(1);
}

/* The library's own files, which it opens once and keeps: for its service thread, and for signals.
 */
static void warm_up(void) {
    static bool done;
    if (!done && ferry_run(sleep_a_moment, NULL) == 0)
        done = true;
}

int scratch_make(void **state) {
    ferry_executor_options options = {.name = "test", .threads_max = 2};
    (void)state;
    const char *base = getenv("TMPDIR");
    if (!base || strlen(base) > sizeof folder - 32)
        base = "/tmp";
    snprintf(folder, sizeof folder, "%s/ferry-test-XXXXXX", base);
    scratch = mkdtemp(folder);
    if (!scratch || chmod(scratch, 0755) < 0)
        return -1;
    warm_up();
    open_before = open_files();
    scratch_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return scratch_fd < 0 || ferry_executor_new(&pool, &options) < 0 ? -1 : 0;
}

int scratch_drop(void **state) {
    char command[sizeof folder + 16];
    (void)state;
    int stuck = ferry_executor_stop(pool, FERRY_FOREVER);
    ferry_executor_free(pool);
    close(scratch_fd);
    size_t open_after = open_files();
    if (open_after > open_before)
        printf("# %zu files are open, %zu were before the test\n", open_after, open_before);
    snprintf(command, sizeof command, "rm -rf '%s'", scratch);
    return system(command) != 0 || stuck != 0 || open_after > open_before ? -1 : 0;
}

const char *in_scratch(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch, name);
    return path;
}

unsigned char pattern_at(size_t place) {
    return (unsigned char)(place * 7 + place / 251);
}

bool is_pattern(const void *data, size_t size, size_t first_place) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != pattern_at(first_place + i))
            return false;
    return true;
}

static void write_file(const char *name, const void *data, size_t size) {
    int fd = openat(scratch_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) < 0) {
        printf("# can't make %s: %s\n", name, strerror(errno));
        abort();
    }
}

void make_file(const char *name, size_t size) {
    unsigned char *data = malloc(size + 1);
    if (!data)
        abort();
    for (size_t i = 0; i < size; i++)
        data[i] = pattern_at(i);
    write_file(name, data, size);
    free(data);
}

void make_text(const char *name, const char *text) {
    write_file(name, text, strlen(text));
}

bool has_text(const char *name, const char *text) {
    char found[256] = "";
    int fd = openat(scratch_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, found, sizeof found - 1);
    close(fd);
    return n == (ssize_t)strlen(text) && memcmp(found, text, (size_t)n) == 0;
}

void make_folder(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s", name);
    for (char *slash = path;; *slash = '/') {
        slash = strchr(slash == path ? slash : slash + 1, '/');
        if (slash)
            *slash = '\0';
        if (mkdirat(scratch_fd, path, 0755) < 0 && errno != EEXIST) {
            printf("# can't make %s: %s\n", path, strerror(errno));
            abort();
        }
        if (!slash)
            return;
    }
}

int make_chain(int fd, unsigned depth, const char *n) {
    int at = dup(fd);
    for (unsigned i = 0; i < depth && at >= 0; i++) {
        int next =
            mkdirat(at, n, 0755) < 0 ? -1 : openat(at, n, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
        int file = at < 0 ? -1 : openat(at, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (file >= 0)
            close(file);
    }
    if (at < 0) {
        printf("# can't make a chain of folders: %s\n", strerror(errno));
        abort();
    }
    return at;
}

size_t entries_in(int dirfd, const char *name) {
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    size_t count = 0;
    if (!dir)
        return SIZE_MAX;
    for (struct dirent *d; (d = readdir(dir));)
        count += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
    closedir(dir);
    return count;
}

/* ---- Walks ----------------------------------------------------------------------------------- */

void take_all(struct walked *walked, ferry_walk *walk) {
    ferry_walk_batch *batch;
    while ((walked->end = ferry_walk_next(walk, &batch)) == 0) {
        size_t count = walked->count + batch->count;
        walked->entries = realloc(walked->entries, count * sizeof *walked->entries);
        if (!walked->entries)
            abort();
        for (size_t i = 0; i < batch->count; i++) {
            ferry_walk_entry *copy = &walked->entries[walked->count++];
            *copy = batch->entries[i];
            copy->path = strdup(copy->path);
            CHECK(copy->path && strlen(copy->path) == copy->path_size);
        }
        ferry_walk_batch_free(batch);
    }
}

struct walked walk_all(ferry_executor *executor, int dirfd, const char *root,
                       const ferry_walk_options *options) {
    struct walked walked = {.entries = NULL};
    ferry_walk *walk;
    walked.end = ferry_walk_open(&walk, executor, dirfd, root, options);
    if (walked.end == 0) {
        take_all(&walked, walk);
        CHECK_INT(ferry_walk_close(walk), 0);
    }
    return walked;
}

const ferry_walk_entry *seen_at(const struct walked *walked, const char *relative) {
    for (size_t i = 0; i < walked->count; i++)
        if (strcmp(walked->entries[i].path + walked->entries[i].relative, relative) == 0)
            return &walked->entries[i];
    return NULL;
}

size_t times_seen(const struct walked *walked, const char *relative) {
    size_t times = 0;
    for (size_t i = 0; i < walked->count; i++)
        times += strcmp(walked->entries[i].path + walked->entries[i].relative, relative) == 0;
    return times;
}

void walked_free(struct walked *walked) {
    for (size_t i = 0; i < walked->count; i++)
        free((char *)(uintptr_t)walked->entries[i].path);
    free(walked->entries);
}

/* ---- Threads of another kind ----------------------------------------------------------------- */

struct call {
    void (*fn)(void *arg);
    void *arg;
    bool done;
};

/* On Linux each thread has its own ids for files, and without being root there no capabilities for
 * them. A thread inherits them from the one that makes it. */
static void *run_as_nobody(void *arg) {
    struct call *call = arg;
    if (geteuid() == 0) {
        setfsgid(65534);
        setfsuid(65534);
    }
    call->fn(call->arg);
    return NULL;
}

static void *run_with_own_mounts(void *arg) {
    struct call *call = arg;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
        return NULL;
    call->done = true;
    call->fn(call->arg);
    return NULL;
}

static bool on_thread(void *(*run)(void *), void (*fn)(void *arg), void *arg) {
    struct call call = {fn, arg, false};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &call) != 0)
        abort();
    pthread_join(thread, NULL);
    return call.done;
}

void as_nobody(void (*fn)(void *arg), void *arg) {
    on_thread(run_as_nobody, fn, arg);
}

bool with_own_mounts(void (*fn)(void *arg), void *arg) {
    return on_thread(run_with_own_mounts, fn, arg);
}

bool await_int(ferry_future *future, int64_t wanted, const char *text, const char *file, int line) {
    int64_t got = ferry_await(future);
    if (got < 0 && got != wanted)
        printf("# %s\n", ferry_errmsg());
    return support_check_int(got, wanted, text, "what was wanted", file, line);
}

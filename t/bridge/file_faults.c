/* Failing on purpose: the n-th allocation, and the n-th system call, for every n until all goes
 * well.
 *
 * The linker gives the calls of the bridge and of libferry to the __wrap_ functions here (see
 * t/Makefile.inc). What fails is what the test's own thread and its pool do between begin and end.
 */
#include "config.h"

#include "saturate.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Who fails ------------------------------------------------------------------------------- */

enum kind { MEMORY, SYSTEM };

/* All atomic: a pool's thread may call something, and be late, when a round begins. */
static atomic_bool armed;
static _Atomic(enum kind) failing;
static atomic_long left; /* calls until the one that fails */
static atomic_bool struck;
/* by the n-th call, instead of failing; changed while not armed */
static ferry_future *_Atomic to_cancel;

static void (*_Atomic always)(void); /* called at each call; changed while not armed */

static bool strike(enum kind kind) {
    if (!atomic_load(&armed) || kind != atomic_load(&failing))
        return false;
    void (*each)(void) = atomic_load(&always);
    if (each)
        each();
    if (atomic_fetch_sub(&left, 1) != 1)
        return false;
    atomic_store(&struck, true);
    ferry_future *cancelled = atomic_load(&to_cancel);
    if (cancelled)
        CHECK_INT(ferry_cancel(cancelled), FERRY_CANCEL_ASKED);
    return !cancelled;
}

static void begin(enum kind kind, long n) {
    atomic_store(&failing, kind);
    atomic_store(&left, n);
    atomic_store(&struck, false);
    atomic_store(&armed, true);
}

/* Whether there was an n-th call. */
static bool end(void) {
    atomic_store(&armed, false);
    return atomic_load(&struck);
}

#define WRAP(kind, type, failed, error, name, parameters, arguments) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters { \
        if (strike(kind)) { \
            errno = (error); \
            return (failed); \
        } \
        return __real_##name arguments; \
    }

WRAP(MEMORY, void *, NULL, ENOMEM, malloc, (size_t size), (size))
WRAP(MEMORY, void *, NULL, ENOMEM, calloc, (size_t n, size_t size), (n, size))
WRAP(MEMORY, void *, NULL, ENOMEM, realloc, (void *p, size_t size), (p, size))
WRAP(MEMORY, DIR *, NULL, ENOMEM, fdopendir, (int fd), (fd))
WRAP(SYSTEM, ssize_t, -1, EIO, read, (int fd, void *p, size_t n), (fd, p, n))
WRAP(SYSTEM, int, -1, EIO, fstat, (int fd, struct stat *st), (fd, st))
WRAP(SYSTEM, int, -1, EIO, fstatat, (int fd, const char *p, struct stat *st, int f), (fd, p, st, f))
WRAP(SYSTEM, int, -1, EIO, fsync, (int fd), (fd))
WRAP(SYSTEM, int, -1, EIO, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(SYSTEM, int, -1, EIO, renameat, (int a, const char *p, int b, const char *q), (a, p, b, q))
WRAP(SYSTEM, int, -1, EIO, linkat, (int a, const char *p, int b, const char *q, int f),
     (a, p, b, q, f))

WRAP(SYSTEM, ssize_t, -1, ENOSPC, write, (int fd, const void *p, size_t n), (fd, p, n))
WRAP(SYSTEM, ssize_t, -1, ENOSPC, pwrite, (int fd, const void *p, size_t n, off_t at),
     (fd, p, n, at))
WRAP(SYSTEM, struct dirent *, NULL, EIO, readdir, (DIR * dir), (dir))

int __real_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (strike(SYSTEM)) {
        errno = EIO;
        return -1;
    }
    return __real_openat(fd, path, flags, mode);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static int64_t sum(const void *chunk, size_t size, void *arg) {
    (void)chunk;
    *(size_t *)arg += size;
    return 0;
}

static int64_t load_it(void) {
    void *loaded = NULL;
    size_t size = 77;
    int64_t rc = ferry_await(ferry_file_load(pool, scratch_fd, "f", NULL, &loaded, &size));
    CHECK(rc >= 0 ? size == 5000 && is_pattern(loaded, 5000, 0) : !loaded && size == 77);
    free(loaded);
    return rc < 0 ? rc : 0;
}

static int64_t load_what_grows(void) {
    void *loaded = NULL;
    size_t size;
    int64_t rc =
        ferry_await(ferry_file_load(pool, AT_FDCWD, "/proc/self/maps", NULL, &loaded, &size));
    free(loaded);
    return rc < 0 ? rc : 0;
}

static int64_t replace_it(void) {
    int64_t rc = ferry_await(ferry_file_replace(pool, scratch_fd, "new", "new", 3, NULL));
    return rc < 0 ? rc : 0;
}

static int64_t look_and_transfer(void) {
    ferry_file_info info;
    char buffer[10];
    int64_t rc = ferry_await(ferry_file_stat(pool, scratch_fd, "f", false, &info));
    if (rc >= 0)
        rc = ferry_await(ferry_file_read_at(pool, scratch_fd, buffer, 10, -1)) == -EINVAL ? 0
                                                                                          : -ENOMEM;
    int fd = __real_openat(scratch_fd, "f", O_RDONLY | O_CLOEXEC, 0);
    if (rc >= 0)
        rc = ferry_await(ferry_file_read_at(pool, fd, buffer, 10, 0));
    close(fd);
    return rc < 0 ? rc : 0;
}

static int64_t scan_it(void) {
    ferry_file_scan_options odd = {.chunk_size = 4321}; /* no buffer of this size is kept */
    size_t total = 0;
    int64_t rc = ferry_await(ferry_file_scan(pool, scratch_fd, "f", NULL, sum, &total));
    if (rc >= 0)
        rc = ferry_await(ferry_file_scan(pool, scratch_fd, "f", &odd, sum, &total));
    CHECK(rc < 0 || total == 10000);
    return rc < 0 ? rc : 0;
}

/* Deep enough for the tables of levels to grow, with batches small enough for many of them. */
static int64_t walk_it(void) {
    ferry_walk_options options = {.batch_entries = 10, .batch_bytes = 200};
    ferry_walk_batch *batch;
    ferry_walk *walk;
    size_t total = 0;
    int64_t rc = ferry_walk_open(&walk, pool, scratch_fd, "t", &options);
    if (rc < 0) {
        CHECK(walk == NULL);
        return rc;
    }
    ferry_future *ready = ferry_walk_ready(walk);
    rc = ferry_await(ready);
    while (rc == 0 && (rc = ferry_walk_next(walk, &batch)) == 0) {
        total += batch->count;
        ferry_walk_batch_free(batch);
    }
    CHECK_INT(ferry_walk_close(walk), 0);
    CHECK(rc != FERRY_END || total == 1 + 70 * 2);
    return rc == FERRY_END ? 0 : rc;
}

static void memory_fails(int64_t (*scenario)(void), const char *name) {
    long n = 1;
    for (;; n++) {
        begin(MEMORY, n);
        int64_t rc = scenario();
        bool any = end();
        if (!any) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc != 0 && rc != -ENOMEM && rc != -EAGAIN)
            fail_msg("%s: with allocation %ld failing: %s", name, n, ferry_errmsg());
    }
    printf("# %s: %ld allocations\n", name, n - 1);
    assert_true(n > 2);
}

static void out_of_memory_is_an_error(void **state) {
    (void)state;
    make_file("f", 5000);
    make_folder("t");
    int at = openat(scratch_fd, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(make_chain(at, 70, "n"));
    close(at);
    memory_fails(load_it, "load");
    memory_fails(load_what_grows, "load of a file that grows");
    memory_fails(replace_it, "replace");
    memory_fails(look_and_transfer, "stat, read_at");
    memory_fails(scan_it, "scan");
    memory_fails(walk_it, "walk");
}

/* ---- System calls ---------------------------------------------------------------------------- */

static void system_fails(int64_t (*scenario)(void), const char *name) {
    long n = 1;
    for (;; n++) {
        begin(SYSTEM, n);
        int64_t rc = scenario();
        bool any = end();
        if (!any) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc >= 0)
            fail_msg("%s: call %ld failed, and nothing was said", name, n);
        assert_int_equal(rc, -EIO);
        assert_non_null(strstr(ferry_errmsg(), "Input/output error"));
    }
    printf("# %s: %ld calls\n", name, n - 1);
    assert_true(n > 2);
}

static void every_failing_call_is_said(void **state) {
    (void)state;
    make_file("f", 5000);
    system_fails(load_it, "load");
    system_fails(scan_it, "scan");
}

/* At no time is there something else at the path, or open to others. */
static void look_at_both(void) {
    static const char hidden[] = ".ferry-";
    CHECK(faccessat(scratch_fd, "f", F_OK, 0) == 0);
    DIR *dir = opendir(scratch);
    for (struct dirent *d; dir && (d = __real_readdir(dir));) {
        struct stat st;
        if (strncmp(d->d_name, hidden, sizeof hidden - 1) == 0 &&
            __real_fstatat(scratch_fd, d->d_name, &st, 0) == 0)
            CHECK_INT(st.st_mode & 0777, 0600);
    }
    closedir(dir);
}

/* Whatever fails, the old file is there or the new one, and nothing else. */
static void a_replacement_fails_without_a_trace(void **state) {
    (void)state;
    long n = 1;
    always = look_at_both;
    for (;; n++) {
        make_text("f", "old");
        assert_int_equal(fchmodat(scratch_fd, "f", 0600, 0), 0);
        begin(SYSTEM, n);
        int64_t rc = ferry_await(ferry_file_replace(pool, scratch_fd, "f", "newer", 5, NULL));
        bool any = end();
        assert_int_equal(entries_in(scratch_fd, "."), 1);
        if (rc < 0 && strncmp(ferry_errmsg(), "'f' has been replaced, but", 26) != 0) {
            assert_true(rc == -EIO || rc == -ENOSPC);
            assert_non_null(strstr(ferry_errmsg(), "cannot replace 'f': "));
            assert_true(has_text("f", "old"));
        } else {
            assert_true(has_text("f", "newer"));
        }
        if (!any) {
            assert_int_equal(rc, 5);
            break;
        }
    }
    printf("# replace: %ld calls\n", n - 1);
    assert_true(n > 8);
    atomic_store(&always, (void (*)(void))0);
}

static long calls_of_a_replacement(bool no_sync) {
    ferry_file_replace_options options = {.no_sync = no_sync};
    begin(SYSTEM, LONG_MAX);
    assert_int_equal(ferry_await(ferry_file_replace(pool, scratch_fd, "f", "x", 1, &options)), 1);
    end();
    return LONG_MAX - atomic_load(&left);
}

/* The file, and the folder. */
static void a_replacement_syncs_twice(void **state) {
    (void)state;
    long quick = calls_of_a_replacement(true); /* it makes the file */
    quick = calls_of_a_replacement(true);
    assert_int_equal(calls_of_a_replacement(false), quick + 2);
}

/* A walk says in an entry what failed, and goes on; or it fails, when it was the root. */
static void a_walk_goes_on(void **state) {
    (void)state;
    make_folder("t/a");
    make_folder("t/b");
    make_file("t/a/f", 1);
    make_file("t/b/f", 1);
    make_file("t/g", 1);
    for (long n = 1;; n++) {
        begin(SYSTEM, n);
        struct walked w = walk_all(pool, scratch_fd, "t", NULL);
        bool any = end();
        size_t errors = 0;
        for (size_t i = 0; i < w.count; i++)
            errors += w.entries[i].error != 0;
        if (!any) {
            assert_int_equal(w.count, 6);
            assert_int_equal(errors, 0);
            walked_free(&w);
            break;
        }
        if (w.end == FERRY_END)
            assert_int_equal(errors, 1);
        else
            assert_true(w.end == -EIO && w.count == 0);
        walked_free(&w);
    }
}

/* ---- Cancelled in the n-th call -------------------------------------------------------------- */

enum { PIECES = 3, PIECE = 1 << 20 };

static char data[PIECES * PIECE];
static int target;

/* The result of what `start` starts; its thread is held until to_cancel is known. *any: there was
 * an n-th call. */
static int64_t cancelled_in(ferry_future *(*start)(void), long n, bool *any) {
    saturation s;
    saturate(&s, pool, 2);
    to_cancel = start();
    begin(SYSTEM, n);
    desaturate(&s);
    int64_t rc = ferry_await(to_cancel);
    *any = end();
    to_cancel = NULL;
    return rc;
}

static ferry_future *start_write(void) {
    return ferry_file_write_at(pool, target, data, sizeof data, 0);
}

static void a_cancelled_write_says_how_far_it_came(void **state) {
    bool any;
    (void)state;
    target = openat(scratch_fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    for (long n = 1; n <= PIECES; n++) {
        assert_int_equal(cancelled_in(start_write, n, &any), n * PIECE);
        assert_true(any);
    }
    close(target);
}

static ferry_future *start_replace(void) {
    return ferry_file_replace(pool, scratch_fd, "f", data, sizeof data, NULL);
}

static void a_cancelled_replacement_is_none(void **state) {
    bool any = true;
    int cancelled = 0;
    (void)state;
    for (long n = 1; any; n++) {
        make_text("f", "old");
        int64_t rc = cancelled_in(start_replace, n, &any);
        assert_int_equal(entries_in(scratch_fd, "."), 1);
        if (rc == FERRY_EJOBCANCELED) {
            cancelled++;
            assert_true(has_text("f", "old"));
        } else {
            assert_int_equal(rc, sizeof data);
            assert_false(has_text("f", "old"));
        }
    }
    assert_true(cancelled > PIECES + 3);
}

static ferry_future *start_load(void) {
    static void *loaded;
    static size_t size;
    return ferry_file_load(pool, scratch_fd, "f", NULL, &loaded, &size);
}

static void a_cancelled_load_gives_nothing(void **state) {
    bool any;
    (void)state;
    make_file("f", sizeof data);
    for (long n = 1; n < 2 + PIECES; n++) { /* openat, fstat, read, read, read */
        assert_int_equal(cancelled_in(start_load, n, &any), FERRY_EJOBCANCELED);
        assert_true(any);
    }
}

/* With an allocator of the program's own Ferry keeps no records for the next time: each one is
 * asked for. */
static void *plain_malloc(size_t size) {
    return malloc(size);
}

int main(void) {
    ferry_set_allocator(&(ferry_allocator){plain_malloc, realloc, free});
    static const struct CMUnitTest tests[] = {
        FILE_CASE("out of memory is an error, at any allocation", out_of_memory_is_an_error),
        FILE_CASE("every failing call is said", every_failing_call_is_said),
        FILE_CASE("a replacement that fails leaves no trace", a_replacement_fails_without_a_trace),
        FILE_CASE("a replacement syncs the file and the folder", a_replacement_syncs_twice),
        FILE_CASE("a walk goes on when a call fails", a_walk_goes_on),
        FILE_CASE("a cancelled write says how far it came", a_cancelled_write_says_how_far_it_came),
        FILE_CASE("a cancelled replacement is none", a_cancelled_replacement_is_none),
        FILE_CASE("a cancelled load gives nothing", a_cancelled_load_gives_nothing),
    };

    return SUPPORT_RUN(tests);
}

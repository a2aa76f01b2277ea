/* Reading files in chunks. */
#include "config.h"

#include "saturate.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the chunks were: each is compared with the pattern. */
struct seen {
    size_t bytes, chunks, biggest;
    bool right;
};

static int64_t see(const void *chunk, size_t size, void *arg) {
    struct seen *seen = arg;
    seen->right = seen->right && is_pattern(chunk, size, seen->bytes);
    seen->bytes += size;
    seen->chunks++;
    if (size > seen->biggest)
        seen->biggest = size;
    return 1;
}

static void every_size_comes_in_chunks(void **state) {
    static const size_t sizes[] = {0,      1, 4096, (256 << 10) - 1, 256 << 10, (256 << 10) + 1,
                                   3 << 20};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct seen seen = {.right = true};
        make_file("f", sizes[i]);
        assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "f", NULL, see, &seen)),
                         sizes[i]);
        assert_true(seen.right);
        assert_int_equal(seen.bytes, sizes[i]);
        assert_int_equal(seen.chunks, (sizes[i] + (256 << 10) - 1) / (256 << 10));
    }
}

static void chunks_are_as_large_as_asked(void **state) {
    ferry_file_scan_options options = {.chunk_size = 1000};
    struct seen seen = {.right = true};
    (void)state;
    make_file("f", 4500);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "f", &options, see, &seen)),
                     4500);
    assert_true(seen.right);
    assert_int_equal(seen.chunks, 5);
    assert_int_equal(seen.biggest, 1000);
    options.chunk_size = (16 << 20) + 1;
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "f", &options, see, &seen)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, NULL, NULL, see, &seen)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "f", NULL, NULL, &seen)),
                     -EINVAL);
}

static int64_t refuse_second(const void *chunk, size_t size, void *arg) {
    int *calls = arg;
    (void)chunk;
    (void)size;
    return ++*calls < 2 ? 0 : ferry_fail(-EILSEQ, "not what was wanted");
}

static void the_function_ends_the_scan_by_an_error(void **state) {
    int calls = 0;
    (void)state;
    make_file("f", 1 << 20);
    assert_int_equal(
        ferry_await(ferry_file_scan(pool, scratch_fd, "f", NULL, refuse_second, &calls)), -EILSEQ);
    assert_string_equal(ferry_errmsg(), "not what was wanted");
    assert_int_equal(calls, 2);
}

static void what_is_no_file_is_not_read(void **state) {
    struct seen seen = {.right = true};
    char byte;
    (void)state;
    make_folder("folder");
    make_file("f", 10);
    assert_int_equal(symlinkat("f", scratch_fd, "link"), 0);
    assert_int_equal(mkfifoat(scratch_fd, "fifo", 0600), 0);
    int fifo = openat(scratch_fd, "fifo", O_RDWR | O_CLOEXEC);
    assert_int_equal(write(fifo, "x", 1), 1);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "fifo", NULL, see, &seen)),
                     -EINVAL);
    assert_int_equal(read(fifo, &byte, 1), 1); /* still there */
    close(fifo);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "fifo", NULL, see, &seen)),
                     -EINVAL);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "folder", NULL, see, &seen)),
                     -EISDIR);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "link", NULL, see, &seen)),
                     -ELOOP);
    assert_int_equal(ferry_await(ferry_file_scan(pool, AT_FDCWD, "/dev/zero", NULL, see, &seen)),
                     -EINVAL);
    assert_int_equal(seen.chunks, 0);
    ferry_file_scan_options options = {.follow = true};
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "link", &options, see, &seen)),
                     10);
    assert_int_equal(seen.bytes, 10);
    size_t size = 0;
    struct stat st;
    assert_int_equal(stat("/proc/version", &st), 0);
    assert_int_equal(st.st_size, 0);
    seen = (struct seen){.right = true};
    int64_t rc = ferry_await(ferry_file_scan(pool, AT_FDCWD, "/proc/version", NULL, see, &seen));
    assert_true(rc > (int64_t)size);
    assert_int_equal(seen.bytes, rc);
}

/* ---- While it is read ------------------------------------------------------------------------ */

static int64_t grow_or_shrink(const void *chunk, size_t size, void *arg) {
    struct seen *seen = arg;
    see(chunk, size, seen);
    if (seen->chunks == 1) {
        int fd = openat(scratch_fd, "grows", O_WRONLY | O_APPEND | O_CLOEXEC);
        CHECK_INT(write(fd, "0123456789", 10), 10);
        close(fd);
        fd = openat(scratch_fd, "shrinks", O_WRONLY | O_CLOEXEC);
        CHECK_INT(ftruncate(fd, 300 << 10), 0);
        close(fd);
    }
    return 0;
}

static void a_file_may_grow_or_shrink_meanwhile(void **state) {
    struct seen seen = {.right = true};
    ferry_file_info info;
    (void)state;
    make_file("grows", 512 << 10);
    make_file("shrinks", 512 << 10);
    assert_int_equal(ferry_file_scan_now(scratch_fd, "grows", NULL, grow_or_shrink, &seen, &info),
                     (512 << 10) + 10);
    assert_int_equal(info.size, 512 << 10);
    make_file("shrinks", 512 << 10);
    seen = (struct seen){.right = true};
    assert_int_equal(ferry_file_scan_now(scratch_fd, "shrinks", NULL, grow_or_shrink, &seen, &info),
                     300 << 10);
    assert_true(seen.right);
    assert_int_equal(info.size, 512 << 10);
}

struct gated {
    gate gate;
    atomic_int calls;
};

static int64_t stand_at_gate(const void *chunk, size_t size, void *arg) {
    struct gated *gated = arg;
    (void)chunk;
    (void)size;
    atomic_fetch_add(&gated->calls, 1);
    gate_wait(&gated->gate);
    return 0;
}

static void a_cancel_ends_the_scan_between_two_chunks(void **state) {
    struct gated gated = {.gate = GATE_INIT};
    (void)state;
    make_file("f", 1 << 20);
    ferry_future *scan = ferry_file_scan(pool, scratch_fd, "f", NULL, stand_at_gate, &gated);
    gate_wait_arrivals(&gated.gate, 1);
    assert_int_equal(ferry_cancel(scan), FERRY_CANCEL_ASKED);
    gate_open(&gated.gate);
    assert_int_equal(ferry_await(scan), FERRY_EJOBCANCELED);
    assert_int_equal(gated.calls, 1);
    gate_destroy(&gated.gate);
}

static void a_deadline_ends_it_too(void **state) {
    struct gated gated = {.gate = GATE_INIT};
    ferry_scope scope = FERRY_SCOPE_INIT;
    (void)state;
    make_file("f", 1 << 20);
    assert_int_equal(ferry_scope_open(&scope, 10), 0);
    ferry_future *scan = ferry_file_scan(pool, scratch_fd, "f", NULL, stand_at_gate, &gated);
    /* On a busy machine the job may be over before anybody looks: what is ready beats the clock. */
    int waited = ferry_wait(scan);
    assert_true(waited == -ECANCELED || waited == 0);
    gate_open(&gated.gate);
    int64_t rc = ferry_await(scan);
    assert_int_equal(rc, -ECANCELED);
    assert_int_equal(ferry_scope_close(&scope, rc), -ETIMEDOUT);
    assert_true(gated.calls <= 1);
    gate_destroy(&gated.gate);
}

static void one_that_is_queued_never_starts(void **state) {
    struct seen seen = {.right = true};
    saturation s;
    (void)state;
    make_file("f", 100);
    saturate(&s, pool, 2);
    ferry_future *scan = ferry_file_scan(pool, scratch_fd, "f", NULL, see, &seen);
    assert_int_equal(ferry_cancel(scan), FERRY_CANCEL_NEVER_RAN);
    assert_int_equal(ferry_await(scan), FERRY_EJOBCANCELED);
    desaturate(&s);
    assert_int_equal(seen.chunks, 0);
}

/* ---- Inside a job ---------------------------------------------------------------------------- */

struct many {
    int files;
    size_t bytes;
    gate gate;
    int stop_at;
};

static int64_t add_up(const void *chunk, size_t size, void *arg) {
    struct many *many = arg;
    (void)chunk;
    many->bytes += size;
    if (many->files == many->stop_at)
        gate_wait(&many->gate);
    return 0;
}

static int64_t scan_many(void *arg) {
    struct many *many = arg;
    for (many->files = 0; many->files < 300; many->files++) {
        char name[16];
        ferry_file_info info;
        snprintf(name, sizeof name, "f%d", many->files);
        int64_t rc = ferry_file_scan_now(scratch_fd, name, NULL, add_up, many, &info);
        if (rc < 0)
            return rc;
        CHECK_INT(rc, many->files * 10);
        CHECK_INT(info.size, rc);
    }
    return many->files;
}

static void one_job_scans_many_files(void **state) {
    struct many many = {.gate = GATE_INIT, .stop_at = -1};
    (void)state;
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        make_file(name, (size_t)i * 10);
    }
    assert_int_equal(ferry_await(ferry_submit(pool, scan_many, &many)), 300);
    assert_int_equal(many.bytes, 299 * 300 / 2 * 10);
    /* The cancel is seen before the next file is opened. */
    many = (struct many){.gate = GATE_INIT, .stop_at = 7};
    ferry_future *job = ferry_submit(pool, scan_many, &many);
    gate_wait_arrivals(&many.gate, 1);
    assert_int_equal(ferry_cancel(job), FERRY_CANCEL_ASKED);
    gate_open(&many.gate);
    assert_int_equal(ferry_await(job), FERRY_EJOBCANCELED);
    assert_int_equal(many.files, 8);
    gate_destroy(&many.gate);
}

static int64_t scan_inner(const void *chunk, size_t size, void *arg) {
    struct seen inner = {.right = true};
    (void)arg;
    CHECK_INT(ferry_file_scan_now(scratch_fd, "inner", NULL, see, &inner, NULL), 100000);
    CHECK(inner.right);
    CHECK(is_pattern(chunk, size, 0)); /* not overwritten */
    return 0;
}

static void a_scan_inside_a_scan_has_its_own_buffer(void **state) {
    (void)state;
    make_file("inner", 100000);
    make_file("outer", 200000);
    assert_int_equal(
        ferry_await(ferry_file_scan(pool, scratch_fd, "outer", NULL, scan_inner, NULL)), 200000);
}

static void many_at_once_do_not_mix(void **state) {
    enum { SCANS = 40 };
    struct seen seen[SCANS];
    ferry_future *scans[SCANS];
    int64_t results[SCANS];
    ferry_executor *wide;
    ferry_executor_options options = {.threads_max = 12};
    (void)state;
    make_file("f", 600 << 10);
    assert_int_equal(ferry_executor_new(&wide, &options), 0);
    for (int i = 0; i < SCANS; i++) {
        seen[i] = (struct seen){.right = true};
        scans[i] = ferry_file_scan(wide, scratch_fd, "f", NULL, see, &seen[i]);
    }
    assert_int_equal(ferry_gather(scans, SCANS, results, 0), 0);
    for (int i = 0; i < SCANS; i++) {
        assert_int_equal(results[i], 600 << 10);
        assert_true(seen[i].right);
    }
    assert_int_equal(ferry_executor_stop(wide, FERRY_FOREVER), 0);
    ferry_executor_free(wide);
}

static void scan_as_nobody(void *arg) {
    ferry_file_scan_options options = {.no_atime = true};
    CHECK_INT(ferry_file_scan_now(scratch_fd, "f", &options, see, arg, NULL), 5000);
}

static void the_access_time_can_be_left_alone(void **state) {
    ferry_file_scan_options options = {.no_atime = true};
    struct seen seen = {.right = true};
    struct timespec times[2] = {{1000000, 0}, {2000000, 0}};
    struct stat st;
    (void)state;
    make_file("f", 5000);
    assert_int_equal(utimensat(scratch_fd, "f", times, 0), 0);
    assert_int_equal(ferry_await(ferry_file_scan(pool, scratch_fd, "f", &options, see, &seen)),
                     5000);
    assert_int_equal(fstatat(scratch_fd, "f", &st, 0), 0);
    assert_int_equal(st.st_atim.tv_sec, 1000000);
    /* Who doesn't own the file reads it all the same. */
    seen = (struct seen){.right = true};
    as_nobody(scan_as_nobody, &seen);
    assert_int_equal(seen.bytes, 5000);
}

static int64_t scan_in_task(void *arg) {
    AWAIT_INT(ferry_file_scan(NULL, scratch_fd, "f", NULL, see, arg), 5000);
    return 1;
}

static void tasks_scan_too(void **state) {
    struct seen seen = {.right = true};
    (void)state;
    make_file("f", 5000);
    assert_int_equal(ferry_run(scan_in_task, &seen), 1);
    assert_true(seen.right && seen.bytes == 5000);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        FILE_CASE("every size comes whole, in chunks", every_size_comes_in_chunks),
        FILE_CASE("chunks are as large as asked", chunks_are_as_large_as_asked),
        FILE_CASE("the function ends the scan by an error", the_function_ends_the_scan_by_an_error),
        FILE_CASE("what is no regular file isn't read", what_is_no_file_is_not_read),
        FILE_CASE("a file may grow or shrink meanwhile", a_file_may_grow_or_shrink_meanwhile),
        FILE_CASE("a cancel ends a scan between two chunks",
                  a_cancel_ends_the_scan_between_two_chunks),
        FILE_CASE("a deadline ends a scan", a_deadline_ends_it_too),
        FILE_CASE("a scan that is cancelled in the queue never starts",
                  one_that_is_queued_never_starts),
        FILE_CASE("one job scans many files, and a cancel ends it", one_job_scans_many_files),
        FILE_CASE("a scan inside a scan has its own buffer",
                  a_scan_inside_a_scan_has_its_own_buffer),
        FILE_CASE("many scans at once don't mix", many_at_once_do_not_mix),
        FILE_CASE("the access time can be left alone", the_access_time_can_be_left_alone),
        FILE_CASE("tasks scan too", tasks_scan_too),
    };

    return SUPPORT_RUN(tests);
}

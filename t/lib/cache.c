/* Records that are kept for the next time: where they come from, and that there is a bound to
 * them. */
#include "config.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "oom.h"
#include "support.h"

enum { SIZE = 200, BATCH = FERRY__RECORD_BATCH };
#define WATCHED "nothing is kept under sanitizers and Valgrind"

/* The test's allocator, which counts, would turn it off. */
static struct ferry__cache *keeping(void) {
    struct ferry__cache *cache = &ferry__thread_self()->cache;
    assert_int_equal(cache->most, 0);
    cache->most = BATCH;
    return cache;
}

static void keep_no_more(struct ferry__cache *cache) {
    ferry__cache_end(cache);
    ferry__cache_begin(cache);
}

static void get(void **records, size_t n) {
    for (size_t i = 0; i < n; i++) {
        records[i] = ferry__record_get(SIZE);
        if (CHECK(records[i] != NULL))
            memset(records[i], 0xa5, SIZE);
    }
}

static void put(void **records, size_t n) {
    for (size_t i = 0; i < n; i++)
        ferry__record_put(records[i], SIZE);
}

static void latest_first(void **state) {
    (void)state;
    if (support_slow())
        SKIP(WATCHED);
    struct ferry__cache *cache = keeping();
    void *records[3];
    get(records, 3);
    put(records, 3);
    long blocks = oom_blocks();
    for (int i = 3; i-- > 0;)
        assert_ptr_equal(ferry__record_get(SIZE), records[i]);
    assert_int_equal(oom_blocks(), blocks);
    void *other = ferry__record_get(SIZE + FERRY__RECORD_UNIT);
    for (int i = 0; i < 3; i++)
        assert_ptr_not_equal(other, records[i]);
    ferry__record_put(other, SIZE + FERRY__RECORD_UNIT);
    put(records, 3);
    keep_no_more(cache);
}

/* What one thread takes and another gives back, more often than all bounds together allow to
 * keep. */
static void *gives_back(void *arg) {
    struct ferry__cache *cache = &ferry__thread_self()->cache;
    cache->most = BATCH;
    put(arg, 4 * BATCH);
    return NULL; /* at its end, all that it has kept */
}

static void *enrolls(void *unused) {
    (void)unused;
    return ferry__thread_self(); /* the record of a thread stays, for the next one */
}

static void elsewhere(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
    pthread_join(thread, NULL);
}

static void bounded_across_threads(void **state) {
    (void)state;
    if (support_slow())
        SKIP(WATCHED);
    struct ferry__cache *cache = keeping();
    static void *records[4 * BATCH];
    elsewhere(enrolls, NULL);
    long before = oom_blocks();
    for (int round = 0; round < FERRY__RECORD_BATCHES; round++) {
        for (int i = 0; i < 4 * BATCH; i++) /* new ones, not those that are kept */
            records[i] = ferry__malloc(FERRY__RECORD_MAX);
        elsewhere(gives_back, records);
    }
    long kept = oom_blocks() - before;
    assert_int_equal(kept, FERRY__RECORD_BATCHES * BATCH);
    /* They come back, in batches, and all of them. */
    static void *back[FERRY__RECORD_BATCHES * BATCH];
    get(back, FERRY__RECORD_BATCHES * BATCH);
    assert_int_equal(oom_blocks() - before, kept);
    get(records, 1);
    assert_int_equal(oom_blocks() - before, kept + 1);
    cache->most = 0;
    put(records, 1);
    put(back, FERRY__RECORD_BATCHES * BATCH);
    assert_int_equal(oom_blocks(), before);
    keep_no_more(cache);
}

/* In turn at a batch's edge: neither the allocator nor the depot is asked. */
static void edges_are_its_own(void **state) {
    (void)state;
    if (support_slow())
        SKIP(WATCHED);
    struct ferry__cache *cache = keeping();
    static void *records[2 * BATCH + 2];
    get(records, 2 * BATCH + 2);
    put(records, BATCH + 1); /* a spare batch, and one */
    long blocks = oom_blocks();
    for (int i = 0; i < 10; i++) {
        get(records, 2);
        assert_int_equal(oom_blocks(), blocks);
        put(records, 2);
        assert_int_equal(oom_blocks(), blocks);
    }
    put(records + BATCH + 1, BATCH + 1);
    assert_int_equal(oom_blocks(), blocks);
    keep_no_more(cache);
    cache->most = BATCH;
    get(records, 2 * BATCH); /* what the depot has got */
    cache->most = 0;
    put(records, 2 * BATCH);
    keep_no_more(cache);
}

static void large_ones_are_not_kept(void **state) {
    (void)state;
    if (support_slow())
        SKIP(WATCHED);
    struct ferry__cache *cache = keeping();
    long blocks = oom_blocks();
    void *record = ferry__record_get(FERRY__RECORD_MAX + 1);
    assert_int_equal(oom_blocks(), blocks + 1);
    memset(record, 0, FERRY__RECORD_MAX + 1);
    ferry__record_put(record, FERRY__RECORD_MAX + 1);
    assert_int_equal(oom_blocks(), blocks);
    keep_no_more(cache);
}

static void out_of_memory(void **state) {
    (void)state;
    if (support_slow())
        SKIP(WATCHED);
    struct ferry__cache *cache = keeping();
    oom_after(0, true);
    assert_null(ferry__record_get(SIZE));
    assert_null(ferry__record_get(FERRY__RECORD_MAX + 1));
    oom_never();
    keep_no_more(cache);
}

/* The depot's lock is free in the child, whoever held it in the parent. */
static _Atomic bool stop;

static void *churns(void *unused) {
    (void)unused;
    ferry__thread_self()->cache.most = BATCH;
    static void *records[3 * BATCH];
    while (!atomic_load(&stop)) {
        get(records, 3 * BATCH);
        put(records, 3 * BATCH);
    }
    return NULL;
}

static void forked(void **state) {
    (void)state;
    if (support_slow())
        SKIP(WATCHED);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, churns, NULL), 0);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(30);
            struct ferry__cache *cache = keeping();
            void *records[3 * BATCH];
            get(records, 3 * BATCH);
            put(records, 3 * BATCH);
            ferry__cache_end(cache);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

/* Each handle comes from the allocator when the program has one of its own. */
static int64_t nothing(void *unused) {
    (void)unused;
    return 0;
}

static int64_t counts(void *unused) {
    (void)unused;
    long blocks = oom_blocks();
    ferry_future *f = ferry_spawn(nothing, NULL);
    CHECK(oom_blocks() > blocks);
    CHECK_INT(ferry_await(f), 0);
    return 0;
}

static void nothing_is_kept_with_an_own_allocator(void **state) {
    (void)state;
    assert_int_equal(ferry_run(counts, NULL), 0);
    assert_int_equal(ferry_run(counts, NULL), 0);
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("the record that was given back last is the next one", latest_first),
        CASE("what others give back has a bound, and comes back", bounded_across_threads),
        CASE("taking and giving in turn stays within the thread", edges_are_its_own),
        CASE("large records aren't kept", large_ones_are_not_kept),
        CASE("out of memory", out_of_memory),
        CASE("a child of fork() finds the depot free", forked),
        CASE("with an allocator of the program's own nothing is kept",
             nothing_is_kept_with_an_own_allocator),
    };
    return SUPPORT_RUN(tests);
}

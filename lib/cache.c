/* Records of handles, jobs and callbacks, kept for the next time.
 *
 * They are allocated one by one, some of them at the beginning of a cache line, and are freed one
 * by one by whoever has too many: a record doesn't know where it has been kept. For each size a
 * thread keeps up to two batches: the loaded records, from which it takes and to which it gives,
 * and a spare batch, so that taking and giving in turn at a batch's edge stays its own affair. When
 * both are full the spare one goes to the depot, all of it with one step under the lock; when both
 * are empty one comes from there. So memory that is taken on one thread and given back on another
 * finds its way back in batches. The depot has a bound: what is beyond it is freed. A thread gives
 * all back at its end.
 *
 * Tools that watch each object see each one: nothing is kept under AddressSanitizer,
 * ThreadSanitizer and Valgrind, nor when the program has an allocator of its own, which may count
 * or bound what the library holds.
 *
 * A thread that Ferry has no record of keeps nothing, and larger records aren't kept.
 *
 * Lock order: the depot's lock is the innermost; it is held for a few instructions. fork.c holds
 * it across a fork; what other threads kept stays with them. */
#include "config.h"

#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#endif

#include "core.h"
#include "fork.h"

/* Sizes are 8 short of a multiple of 16: what the C library's allocator has left of its blocks. */
_Static_assert(sizeof(struct ferry__record) <= FERRY__RECORD_MIN,
               "the links stand in the record itself");

unsigned ferry__record_lock; /* guards what follows */
static struct {
    struct ferry__record *batches;
    unsigned n;
} depot[FERRY__RECORD_SIZES];

static size_t place_of(size_t size) {
    return size <= FERRY__RECORD_MIN
               ? 0
               : (size - FERRY__RECORD_MIN + FERRY__RECORD_UNIT - 1) / FERRY__RECORD_UNIT;
}

/* By a tool: the same at all times. */
static bool watched(void) {
#ifdef HAVE_VALGRIND_VALGRIND_H
    if (RUNNING_ON_VALGRIND)
        return true;
#endif
    return FERRY__ASAN || FERRY__TSAN;
}

static void free_batch(struct ferry__record *record) {
    while (record) {
        struct ferry__record *next = record->next;
        ferry__free(record);
        record = next;
    }
}

static struct ferry__record *depot_take(size_t place) {
    ferry__lock(&ferry__record_lock);
    struct ferry__record *batch = depot[place].batches;
    if (batch) {
        depot[place].batches = batch->next_batch;
        depot[place].n--;
    }
    ferry__unlock(&ferry__record_lock);
    return batch;
}

static void depot_give(size_t place, struct ferry__record *batch) {
    ferry__lock(&ferry__record_lock);
    bool room = depot[place].n < FERRY__RECORD_BATCHES;
    if (room) {
        batch->next_batch = depot[place].batches;
        depot[place].batches = batch;
        depot[place].n++;
    }
    ferry__unlock(&ferry__record_lock);
    if (!room)
        free_batch(batch);
}

/* Who asks for whole cache lines means that: it is passed between processors. */
static void *fresh(size_t size, size_t room) {
    return size % FERRY__LINE_SIZE != 0 ? ferry__malloc(room) : ferry__malloc_lines(room);
}

static FERRY__NOINLINE void *get_slowly(struct ferry__cache *cache, size_t size) {
    size_t place = place_of(size);
    if (place >= FERRY__RECORD_SIZES || watched())
        return ferry__malloc(size);
    struct ferry__record *batch = NULL;
    if (cache && cache->most > 0) {
        batch = cache->sizes[place].spare;
        cache->sizes[place].spare = NULL;
        if (!batch)
            batch = depot_take(place);
    }
    if (!batch)
        return fresh(size, FERRY__RECORD_MIN + place * FERRY__RECORD_UNIT);
    cache->sizes[place].loaded = batch->next;
    cache->sizes[place].n = FERRY__RECORD_BATCH - 1;
    return batch;
}

void *ferry__record_get_on(struct ferry__thread *thread, size_t size) {
    size_t place = place_of(size);
    if (!thread || place >= FERRY__RECORD_SIZES)
        return get_slowly(NULL, size);
    struct ferry__record *record = thread->cache.sizes[place].loaded;
    if (!record)
        return get_slowly(&thread->cache, size);
    thread->cache.sizes[place].loaded = record->next;
    thread->cache.sizes[place].n--;
    return record;
}

static FERRY__NOINLINE void put_slowly(struct ferry__cache *cache, size_t place,
                                       struct ferry__record *record) {
    if (cache->most == 0) {
        ferry__free(record);
        return;
    }
    struct ferry__record *surplus = cache->sizes[place].spare;
    cache->sizes[place].spare = cache->sizes[place].loaded;
    record->next = NULL;
    cache->sizes[place].loaded = record;
    cache->sizes[place].n = 1;
    if (surplus)
        depot_give(place, surplus);
}

void ferry__record_put_on(struct ferry__thread *thread, void *old, size_t size) {
    struct ferry__record *record = old;
    size_t place = place_of(size);
    if (!thread || place >= FERRY__RECORD_SIZES) {
        ferry__free(record);
        return;
    }
    if (thread->cache.sizes[place].n >= thread->cache.most) {
        put_slowly(&thread->cache, place, record);
        return;
    }
    record->next = thread->cache.sizes[place].loaded;
    thread->cache.sizes[place].loaded = record;
    thread->cache.sizes[place].n++;
}

void *ferry__record_get(size_t size) {
    return ferry__record_get_on(ferry__thread_known(), size);
}

void ferry__record_put(void *record, size_t size) {
    ferry__record_put_on(ferry__thread_known(), record, size);
}

void ferry__cache_begin(struct ferry__cache *cache) {
    cache->most = watched() || ferry__alloc_replaced() ? 0 : FERRY__RECORD_BATCH;
    cache->most_kept = cache->most;
}

void ferry__cache_end(struct ferry__cache *cache) {
    while (cache->n_jobs > 0)
        ferry__free(cache->jobs[--cache->n_jobs]);
    while (cache->n_cells > 0)
        ferry__free(cache->cells[--cache->n_cells]);
    for (size_t place = 0; place < FERRY__RECORD_SIZES; place++) {
        struct ferry__record *spare = cache->sizes[place].spare;
        if (spare)
            depot_give(place, spare);
        free_batch(cache->sizes[place].loaded);
    }
    *cache = (struct ferry__cache){0};
}

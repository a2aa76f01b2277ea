/* Stacks: their sizes, their guards, how they are used again, and that their memory goes back. */

#include "config.h"

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ferry/alloc.h>

#include "context.h"
#include "stack.h"

#if FERRY__ASAN
#include <sanitizer/asan_interface.h>
#define poison(at, size) ASAN_POISON_MEMORY_REGION(at, size)
#else
#define poison(at, size) ((void)(at), (void)(size))
#endif

#define KIB ((size_t)1024)

static struct ferry__stack_cache cache;

static int open_cache(void **state) {
    (void)state;
    ferry__stack_cache_init(&cache);
    return 0;
}

static int close_cache(void **state) {
    (void)state;
    ferry__stack_cache_fini(&cache);
    return 0;
}

static struct ferry__stack *get(size_t size) {
    struct ferry__stack *stack;

    assert_int_equal(ferry__stack_get(&cache, size, &stack), 0);
    return stack;
}

/* Whether the kernel can read the byte for us. */
static bool readable(const char *at) {
    static int ends[2] = {-1, -1};
    char byte;

    if (ends[0] < 0 && pipe(ends) != 0) {
        abort();
    }
    if (write(ends[1], at, 1) != 1) {
        return false;
    }
    return read(ends[0], &byte, 1) == 1;
}

static bool guarded(const struct ferry__stack *stack) {
    size_t guard = ferry__stack_guard_size();

    return readable(stack->lo) && !readable(stack->lo - 1) && !readable(stack->lo - guard);
}

/* 1: the page is in memory, 0: it isn't, -1: nothing is mapped there. */
static int resident(const void *at) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char seen;

    if (mincore((void *)((uintptr_t)at & ~(uintptr_t)(page - 1)), 1, &seen) != 0) {
        return -1;
    }
    return seen & 1;
}

static void all_of_a_stack_is_usable(void **state) {
    static const size_t sizes[] = {0,         1,         16 * KIB,  16 * KIB + 1, 100 * KIB,
                                   256 * KIB, 257 * KIB, 300 * KIB, 1024 * KIB};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct ferry__stack *stack = get(sizes[i]);
        size_t wanted = sizes[i] == 0 ? 64 * KIB : sizes[i];

        assert_ptr_equal(stack->lo + stack->size, stack);
        assert_true(stack->size + KIB >= wanted);
        assert_int_equal((uintptr_t)stack % 64, 0);
        memset(stack->lo, 0x5a, stack->size);
        assert_true(guarded(stack));
        ferry__stack_put(&cache, stack);
    }
}

static void sizes_have_bounds(void **state) {
    struct ferry__stack *stack = get(1);

    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    assert_in_range(stack->size, 15 * KIB, page > 16 * KIB ? page : 16 * KIB);
    ferry__stack_put(&cache, stack);
    stack = NULL;
    assert_int_equal(ferry__stack_get(&cache, FERRY__STACK_MAX + 1, &stack), -EINVAL);
    assert_non_null(strstr(ferry__stack_error(), "1 GiB"));
    assert_int_equal(ferry__stack_get(&cache, SIZE_MAX, &stack), -EINVAL);
    assert_null(stack);
    stack = get(FERRY__STACK_MAX);
    stack->lo[0] = 1;
    ferry__stack_put(&cache, stack);
}

static void the_latest_stack_comes_back_first(void **state) {
    static const size_t sizes[] = {0, 16 * KIB, 512 * KIB};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct ferry__stack *first = get(sizes[i]), *second = get(sizes[i]), *third = get(sizes[i]);

        ferry__stack_put(&cache, second);
        ferry__stack_put(&cache, first);
        ferry__stack_put(&cache, third);
        assert_ptr_equal(get(sizes[i]), third);
        assert_ptr_equal(get(sizes[i]), first);
        assert_ptr_equal(get(sizes[i]), second);
        ferry__stack_put(&cache, third);
        ferry__stack_put(&cache, second);
        ferry__stack_put(&cache, first);
    }
}

static void stacks_of_another_size_are_not_mixed_up(void **state) {
    struct ferry__stack *small = get(20 * KIB), *large = get(512 * KIB), *larger = get(600 * KIB);

    (void)state;
    ferry__stack_put(&cache, small);
    ferry__stack_put(&cache, large);
    ferry__stack_put(&cache, larger);
    assert_ptr_not_equal(get(200 * KIB), small);
    assert_ptr_equal(get(512 * KIB), large);
    assert_ptr_equal(get(600 * KIB), larger);
    assert_ptr_equal(get(32 * KIB), small);
    ferry__stack_put(&cache, large);
    ferry__stack_put(&cache, larger);
}

static void few_large_stacks_are_kept(void **state) {
    struct ferry__stack *all[FERRY__STACK_SPARE + 3];
    const int count = FERRY__STACK_SPARE + 3;
    size_t kept = 0;

    (void)state;
    for (int i = 0; i < count; i++) {
        all[i] = get(KIB * KIB);
        memset(all[i]->lo, 1, all[i]->size);
    }
    char *low = all[count - 1]->lo, *top = low + all[count - 1]->size - 1;
    for (int i = 0; i < count; i++) {
        ferry__stack_put(&cache, all[i]);
    }
    for (int i = 0; i < count; i++) {
        kept += resident(all[i]) == 1;
    }
    assert_int_equal(kept, FERRY__STACK_SPARE);
    assert_int_equal(resident(low), 0);
    assert_int_equal(resident(top), 1);
}

/* Gets `count` stacks, marks each at both ends, then looks at the marks and the guards. */
static void use_many(size_t count, struct ferry__stack **all) {
    for (size_t i = 0; i < count; i++) {
        all[i] = get(0);
        memcpy(all[i]->lo, &i, sizeof i);
        memcpy(all[i]->lo + all[i]->size - sizeof i, &i, sizeof i);
    }
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(all[i]->lo, &i, sizeof i);
        assert_memory_equal(all[i]->lo + all[i]->size - sizeof i, &i, sizeof i);
        if (i % 37 == 0) {
            assert_true(guarded(all[i]));
        }
    }
}

static void memory_goes_back(void **state) {
    const size_t count = support_slow() ? 3000 : 20000;
    /* Each keeps a page at both ends. */
    const size_t most = FERRY__STACK_WARM_BYTES / (2 * (size_t)sysconf(_SC_PAGESIZE));
    struct ferry__stack **all = calloc(count, sizeof *all);
    size_t kept = 0, unmapped = 0;

    (void)state;
    assert_non_null(all);
    for (int round = 0; round < 2; round++) {
        use_many(count, all);
        for (size_t i = 0; i < count; i++) {
            ferry__stack_put(&cache, all[round == 0 ? i : count - 1 - i]);
        }
        kept = unmapped = 0;
        for (size_t i = 0; i < count; i++) {
            int there = resident(all[i]);

            kept += there == 1;
            unmapped += there == -1;
        }
        /* The second time some were wanted again that had given their memory back. */
        assert_in_range(kept, 1, round == 0 ? FERRY__STACK_WARM : most);
        assert_in_range(unmapped, round == 0 || count > 2 * most ? count / 4 : 0, count);
    }
    free(all);
}

/* Every second stack stays: its slab can't be unmapped, and the memory of the others goes back all
 * the same. */
static void memory_goes_back_beside_parked_tasks(void **state) {
    const size_t count = 3000;
    struct ferry__stack **all = calloc(count, sizeof *all);
    size_t kept = 0;

    (void)state;
    assert_non_null(all);
    use_many(count, all);
    for (size_t i = 0; i < count; i += 2) {
        ferry__stack_put(&cache, all[i]);
    }
    for (size_t i = 0; i < count; i++) {
        int there = resident(all[i]);

        assert_int_not_equal(there, -1);
        kept += there == 1;
        if (i % 2 == 1) {
            assert_memory_equal(all[i]->lo, &i, sizeof i);
        }
    }
    assert_in_range(kept, count / 2, count / 2 + FERRY__STACK_WARM);
    for (size_t i = 0; i < count; i += 2) {
        all[i] = get(0);
        assert_true(guarded(all[i]));
    }
    for (size_t i = 0; i < count; i++) {
        ferry__stack_put(&cache, all[i]);
    }
    free(all);
}

static size_t count_kept(struct ferry__stack **all, size_t count) {
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        kept += resident(all[i]) == 1;
    }
    return kept;
}

/* So many stacks are got, used from their top down, and put back. */
static void come_and_go(size_t count, struct ferry__stack **all, size_t bytes) {
    for (size_t i = 0; i < count; i++) {
        all[i] = get(0);
        memset(all[i]->lo + all[i]->size - bytes, 1, bytes);
    }
    for (size_t i = 0; i < count; i++) {
        ferry__stack_put(&cache, all[i]);
    }
}

/* Where as many come and go again and again all of them stay warm: no page is lost and found again.
 * When only few come and go for a while, the others go. */
static void what_comes_and_goes_stays_warm(void **state) {
    enum { COUNT = 5000, FEW = 10, FOR_A_WHILE = 400000 };
    static struct ferry__stack *all[COUNT], *few[FEW];

    (void)state;
    come_and_go(COUNT, all, 1);
    assert_in_range(count_kept(all, COUNT), 1, FERRY__STACK_WARM);
    for (int round = 0; round < 4; round++) {
        come_and_go(COUNT, all, 1);
    }
    assert_int_equal(count_kept(all, COUNT), COUNT);
    for (int round = 0; round < FOR_A_WHILE / FEW; round++) {
        come_and_go(FEW, few, 1);
    }
    assert_in_range(count_kept(all, COUNT), FEW, FERRY__STACK_WARM);
}

/* Now and then the pool looks at some warm stacks. Of two there are no eight, and the third, which
 * was warm as well, is in use. */
static void few_are_looked_at(void **state) {
    struct ferry__stack *few[3];

    (void)state;
    come_and_go(3, few, 1);
    struct ferry__stack *latest = get(0);
    for (int i = 0; i < 20000; i++) {
        struct ferry__stack *stack = get(0);

        memset(stack->lo, 1, stack->size);
        ferry__stack_put(&cache, stack);
    }
    ferry__stack_put(&cache, latest);
}

/* There is a bound, one of memory: the more of each is used, the fewer stay warm. */
static void warm_stacks_have_a_bound(void **state) {
    enum { COUNT = 5000, FEWER = 2500, USED = FERRY__STACK_DEFAULT / 2 };
    static struct ferry__stack *all[COUNT];
    const size_t most = FERRY__STACK_WARM_BYTES / USED;

    (void)state;
    assert_true(most < FEWER);
    for (int round = 0; round < 5; round++) {
        come_and_go(COUNT, all, 1);
    }
    assert_int_equal(count_kept(all, COUNT), COUNT);
    for (int round = 0; round < 60; round++) {
        come_and_go(FEWER, all, USED);
    }
    assert_in_range(count_kept(all, FEWER), most / 2, most);
}

/* A frame that never returned leaves its red zones behind. */
static void marks_of_old_frames_are_wiped(void **state) {
    static const size_t sizes[] = {0, 512 * KIB};

    (void)state;
    if (!FERRY__ASAN) {
        SKIP("there are none without AddressSanitizer");
    }
    for (size_t i = 0; i < 2; i++) {
        struct ferry__stack *stack = get(sizes[i]);

        poison(stack->lo + 4096, 1024);
        ferry__stack_put(&cache, stack);
        assert_ptr_equal(get(sizes[i]), stack);
        memset(stack->lo, 1, stack->size);
        ferry__stack_put(&cache, stack);
    }
}

static uint32_t dice(uint32_t *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void random_use_keeps_stacks_apart(void **state) {
    enum { PLACES = 1500 };
    static const size_t sizes[] = {0, 0, 0, 10 * KIB, 40 * KIB, 128 * KIB, 256 * KIB, 270 * KIB};
    struct ferry__stack **all = calloc(PLACES, sizeof(struct ferry__stack *));
    uint32_t seed = 1;
    const int rounds = support_slow() ? 20000 : 100000;

    (void)state;
    assert_non_null(all);
    for (int round = 0; round < rounds; round++) {
        /* Up to a third of the places, then all of them, then few again. */
        size_t i = dice(&seed) % (round % 30000 < 10000 ? PLACES / 3 : PLACES);

        if (all[i] == NULL) {
            size_t which = dice(&seed) % (sizeof sizes / sizeof sizes[0]);

            if (sizes[which] == 270 * KIB && i % 16 != 0) {
                which = 0;
            }
            all[i] = get(sizes[which]);
            memcpy(all[i]->lo, &i, sizeof i);
            memcpy(all[i]->lo + all[i]->size - sizeof i, &i, sizeof i);
        } else {
            assert_memory_equal(all[i]->lo, &i, sizeof i);
            assert_memory_equal(all[i]->lo + all[i]->size - sizeof i, &i, sizeof i);
            ferry__stack_put(&cache, all[i]);
            all[i] = NULL;
        }
    }
    for (size_t i = 0; i < PLACES; i++) {
        if (all[i] != NULL) {
            ferry__stack_put(&cache, all[i]);
        }
    }
    free(all);
}

/* Guards */

static void mprotect_guards_where_madvise_has_none(void **state) {
    int before = atomic_load(&ferry__stack_guard);
    struct ferry__stack *all[100];

    (void)state;
    atomic_store(&ferry__stack_guard, FERRY__STACK_GUARD_MPROTECT);
    use_many(100, all);
    for (size_t i = 0; i < 100; i++) {
        ferry__stack_put(&cache, all[i]);
    }
    atomic_store(&ferry__stack_guard, before);
}

static void the_kernel_is_asked_once(void **state) {
    (void)state;
    atomic_store(&ferry__stack_guard, FERRY__STACK_GUARD_UNKNOWN);
    ferry__stack_put(&cache, get(0));
    assert_int_not_equal(atomic_load(&ferry__stack_guard), FERRY__STACK_GUARD_UNKNOWN);
}

/* MADV_GUARD_INSTALL refuses locked memory: mprotect does it then. */
static void locked_memory_is_guarded_too(void **state) {
    static const int known[] = {FERRY__STACK_GUARD_MADVISE, FERRY__STACK_GUARD_UNKNOWN};
    int before = atomic_load(&ferry__stack_guard);

    (void)state;
    if (support_slow()) {
        SKIP("sanitizers and valgrind ignore mlockall");
    }
    for (size_t i = 0; i < 2; i++) {
        struct ferry__stack *stack = NULL;

        if (known[i] == FERRY__STACK_GUARD_MADVISE && before != FERRY__STACK_GUARD_MADVISE) {
            continue; /* the kernel doesn't have it, or an emulator ignores it */
        }
        if (mlockall(MCL_FUTURE) != 0) {
            SKIP("memory can't be locked here");
        }
        atomic_store(&ferry__stack_guard, known[i]);
        int rc = ferry__stack_get(&cache, 16 * KIB, &stack);
        atomic_store(&ferry__stack_guard, before);
        munlockall();
        assert_int_equal(rc, 0);
        assert_true(guarded(stack));
        ferry__stack_put(&cache, stack);
        ferry__stack_cache_fini(&cache);
    }
}

static void a_hundred_thousand_stacks_at_once(void **state) {
    const size_t count = support_slow() ? 5000 : 100000;
    struct ferry__stack **all = calloc(count, sizeof *all);

    (void)state;
    assert_non_null(all);
    struct ferry__stack *first = get(0);
    if (atomic_load(&ferry__stack_guard) != FERRY__STACK_GUARD_MADVISE) {
        ferry__stack_put(&cache, first);
        free(all);
        SKIP("the kernel has no MADV_GUARD_INSTALL");
    }
    ferry__stack_put(&cache, first);
    use_many(count, all);
    for (size_t i = 0; i < count; i++) {
        ferry__stack_put(&cache, all[i]);
    }
    free(all);
}

static size_t map_limit(void) {
    size_t limit = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");

    if (file != NULL) {
        if (fscanf(file, "%zu", &limit) != 1) {
            limit = 0;
        }
        fclose(file);
    }
    return limit;
}

/* With mprotect guards the kernel's limit of mappings ends it: that is an error with a reason, what
 * was handed out stays good, and after some were put back there are stacks again. */
static void the_map_limit_is_an_error(void **state) {
    size_t most = map_limit() / 2 + 1, count = 0;
    int before = atomic_load(&ferry__stack_guard);

    (void)state;
    if (support_slow() || most == 1 || most > 100000) {
        SKIP("the limit of mappings is too far away");
    }
    struct ferry__stack **all = calloc(most, sizeof *all);
    assert_non_null(all);
    atomic_store(&ferry__stack_guard, FERRY__STACK_GUARD_MPROTECT);
    int rc = 0;
    while (count < most && (rc = ferry__stack_get(&cache, 16 * KIB, &all[count])) == 0) {
        memset(all[count]->lo, 1, 64);
        count++;
    }
    struct ferry__stack *other = NULL;
    int large_rc = ferry__stack_get(&cache, 512 * KIB, &other);
    char why[256];
    snprintf(why, sizeof why, "%s", ferry__stack_error());
    for (size_t i = 0; i < count; i++) {
        ferry__stack_put(&cache, all[i]);
    }
    free(all);
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(large_rc, -ENOMEM);
    assert_non_null(strstr(why, "max_map_count"));
    assert_in_range(count, most / 2, most);
    ferry__stack_put(&cache, get(16 * KIB));
    ferry__stack_put(&cache, get(512 * KIB));
    ferry__stack_cache_fini(&cache);
    atomic_store(&ferry__stack_guard, before);
}

/* Out of memory */

static int allocations_left = -1; /* -1: no limit */

static void *failing_malloc(size_t size) {
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left -= allocations_left > 0;
    return malloc(size);
}

static void *failing_realloc(void *block, size_t size) {
    return realloc(block, size);
}

static void a_failed_allocation_is_an_error(void **state) {
    static const ferry_allocator failing = {failing_malloc, failing_realloc, free};
    static const size_t sizes[] = {0, 16 * KIB, 512 * KIB};

    (void)state;
    assert_int_equal(ferry_set_allocator(&failing), 0);
    for (size_t i = 0; i < 3; i++) {
        struct ferry__stack *stack = NULL;

        allocations_left = 0;
        int rc = ferry__stack_get(&cache, sizes[i], &stack);
        allocations_left = -1;
        assert_int_equal(rc, -ENOMEM);
        assert_null(stack);
        assert_non_null(strstr(ferry__stack_error(), "out of memory"));
        ferry__stack_put(&cache, get(sizes[i]));
    }
    ferry__stack_cache_fini(&cache);
    ferry_set_allocator(NULL);
}

static size_t address_space(void) {
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file != NULL) {
        if (fscanf(file, "%zu", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

enum { LIMIT_IGNORED = 14 };

/* In a child: little address space is used up to the last stack, then it is an error. 0: all as it
 * should be. */
static int run_out_of_address_space(void) {
    struct ferry__stack *stack;
    char *big = malloc(256 * KIB); /* what stdio and malloc may still want */
    struct rlimit limit = {.rlim_cur = address_space() + 900 * KIB, .rlim_max = RLIM_INFINITY};
    int count = 0, rc;

    free(big);
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return 10;
    }
    if (mmap(NULL, 1024 * KIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
        return LIMIT_IGNORED;
    }
    while ((rc = ferry__stack_get(&cache, 0, &stack)) == 0) {
        stack->lo[0] = 1;
        count++;
    }
    if (rc != -ENOMEM || strstr(ferry__stack_error(), "ulimit -v") == NULL) {
        return 11;
    }
    if (ferry__stack_get(&cache, 1024 * KIB, &stack) != -ENOMEM) {
        return 12;
    }
    return count >= 8 ? 0 : 13;
}

static void too_little_address_space_is_an_error(void **state) {
    (void)state;
    if (support_slow()) {
        SKIP("sanitizers and valgrind need their address space");
    }
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(run_out_of_address_space());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == LIMIT_IGNORED) {
        SKIP("an emulator ignores the limit");
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define WITH_CACHE(text, function) CASE_WITH(text, function, open_cache, close_cache)

int main(void) {
    static const struct CMUnitTest tests[] = {
        WITH_CACHE("all of a stack is usable, and a guard lies below", all_of_a_stack_is_usable),
        WITH_CACHE("sizes have bounds", sizes_have_bounds),
        WITH_CACHE("the latest stack comes back first", the_latest_stack_comes_back_first),
        WITH_CACHE("stacks of another size are not mixed up",
                   stacks_of_another_size_are_not_mixed_up),
        WITH_CACHE("few large stacks are kept, with little memory", few_large_stacks_are_kept),
        WITH_CACHE("the memory of finished stacks goes back", memory_goes_back),
        WITH_CACHE("the memory goes back beside parked tasks",
                   memory_goes_back_beside_parked_tasks),
        WITH_CACHE("what comes and goes all the time stays warm, until it doesn't any more",
                   what_comes_and_goes_stays_warm),
        WITH_CACHE("a few warm stacks are looked at", few_are_looked_at),
        WITH_CACHE("warm stacks have a bound", warm_stacks_have_a_bound),
        WITH_CACHE("marks of old frames are wiped", marks_of_old_frames_are_wiped),
        WITH_CACHE("random use keeps stacks apart", random_use_keeps_stacks_apart),
        WITH_CACHE("mprotect guards where madvise has none",
                   mprotect_guards_where_madvise_has_none),
        WITH_CACHE("the kernel is asked once what it can do", the_kernel_is_asked_once),
        WITH_CACHE("locked memory is guarded too", locked_memory_is_guarded_too),
        WITH_CACHE("a hundred thousand stacks at once", a_hundred_thousand_stacks_at_once),
        WITH_CACHE("the limit of mappings is an error with a reason", the_map_limit_is_an_error),
        WITH_CACHE("a failed allocation is an error", a_failed_allocation_is_an_error),
        WITH_CACHE("too little address space is an error", too_little_address_space_is_an_error),
    };

    return SUPPORT_RUN(tests);
}

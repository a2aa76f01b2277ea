/* The counters are atomic: any thread of the library may allocate. */
#include "config.h"

#include "oom.h"

#include <ferry/alloc.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_long left = LONG_MAX; /* allocations that still succeed */
static atomic_bool stays;
static atomic_bool hit;
static atomic_long blocks;
static atomic_long expected; /* allocations that are still to come to the meeting */

bool oom_refuses(void) {
    long before = atomic_fetch_sub(&left, 1);
    if (before > 0 || (before < 0 && !atomic_load(&stays))) {
        return false;
    }
    atomic_store(&hit, true);
    return true;
}

static void meet(void) {
    if (atomic_load(&expected) == 0) {
        return;
    }
    atomic_fetch_sub(&expected, 1);
    while (atomic_load(&expected) > 0) {
        sched_yield();
    }
}

static void *oom_malloc(size_t size) {
    meet();
    void *block = oom_refuses() ? NULL : malloc(size);
    if (block != NULL) {
        atomic_fetch_add(&blocks, 1);
    }
    return block;
}

static void *oom_realloc(void *old, size_t size) {
    void *block = oom_refuses() ? NULL : realloc(old, size);
    if (block != NULL && old == NULL) {
        atomic_fetch_add(&blocks, 1);
    }
    return block;
}

static void oom_free(void *block) {
    if (block != NULL) {
        atomic_fetch_sub(&blocks, 1);
    }
    free(block);
}

void oom_install(void) {
    static const ferry_allocator allocator = {oom_malloc, oom_realloc, oom_free};
    if (ferry_set_allocator(&allocator) != 0) {
        fprintf(stderr, "oom: the allocator wasn't accepted\n");
        exit(99);
    }
}

void oom_after(long n, bool on) {
    atomic_store(&hit, false);
    atomic_store(&stays, on);
    atomic_store(&left, n);
}

void oom_never(void) {
    atomic_store(&left, LONG_MAX);
}

bool oom_hit(void) {
    return atomic_load(&hit);
}

void oom_meet(long n) {
    atomic_store(&expected, n);
}

long oom_blocks(void) {
    return atomic_load(&blocks);
}

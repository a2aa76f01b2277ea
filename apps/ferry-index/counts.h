/* What a run counts: by several threads, read by the progress line meanwhile.
 *
 * Each number is right by itself at any time; they fit together when the run has ended. */
#ifndef FERRY_INDEX_COUNTS_H
#define FERRY_INDEX_COUNTS_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t count;

struct counts {
    /* Of the tree: */
    count files; /* regular ones */
    count folders;
    count symlinks;
    count others;
    count bytes; /* the sizes of the regular files */

    /* Of the work: */
    count hashed; /* files */
    count hashed_bytes;
    count errors; /* entries that could not be read */

    /* Of the catalogue: */
    count added;
    count changed;
    count unchanged;
    count removed;

    /* Of --verify alone: */
    count corrupted;
    count
        unchecked; /* files whose content could not be compared: the catalogue has no hash of it */

    /* For the progress line: */
    count settled;       /* entries that need no more work */
    count settled_bytes; /* and the bytes of regular files that do */
    count read_bytes;
};

static inline void count_add(count *to, uint64_t n) {
    atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static inline uint64_t count_get(const count *from) {
    return atomic_load_explicit(from, memory_order_relaxed);
}

static inline uint64_t counts_entries(const struct counts *counts) {
    return count_get(&counts->files) + count_get(&counts->folders) + count_get(&counts->symlinks) +
           count_get(&counts->others);
}

/* Adds all of `from`. */
void counts_sum(struct counts *to, const struct counts *from);

#endif

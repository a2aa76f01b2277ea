/* Memory of libferry: every block that it takes goes through these (see alloc.c). */
#ifndef FERRY__ALLOC_H
#define FERRY__ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define FERRY__LINE_SIZE 64 /* bytes that processors pass to each other at once: of a cache line */

void *ferry__malloc(size_t size);
void *ferry__calloc(size_t count, size_t size);
/* Cache lines of their own, unless the program has an allocator, which may not know how. */
void *ferry__malloc_lines(size_t size);
void *ferry__calloc_lines(size_t size);
void *ferry__realloc(void *block, size_t size);
void ferry__free(void *block);
/* memset(at, 0, size) of a few words, so many that the compiler knows it: a store for each 16
 * bytes, where the compiler would take an instruction that is slow to begin. */
typedef long long ferry__two_words __attribute__((vector_size(16), aligned(8), may_alias));
static inline __attribute__((always_inline)) void ferry__zero_words(void *at, size_t size) {
    char *to = at;
#pragma GCC unroll 64
    for (size_t i = 0; i + 16 <= size; i += 16)
        *(ferry__two_words *)(void *)(to + i) = (ferry__two_words){0, 0};
    if (size % 16 != 0)
        memset(to + size / 16 * 16, 0, size % 16);
}
bool ferry__alloc_replaced(void); /* the program has given its own */

#endif

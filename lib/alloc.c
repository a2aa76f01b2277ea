/* The allocator, replaceable as a whole before anything else of Ferry runs. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <ferry/alloc.h>

#include "alloc.h"

/* Written before the first use of Ferry (the contract of ferry_set_allocator), only read
 * afterwards. */
static ferry_allocator current = {malloc, realloc, free};

int ferry_set_allocator(const ferry_allocator *allocator) {
    if (!allocator) {
        current = (ferry_allocator){malloc, realloc, free};
        return 0;
    }
    if (!allocator->malloc || !allocator->realloc || !allocator->free)
        return -EINVAL;
    current = *allocator;
    return 0;
}

bool ferry__alloc_replaced(void) {
    return current.malloc != malloc;
}

void *ferry__malloc(size_t size) {
    return current.malloc(size ? size : 1);
}

static size_t whole_lines(size_t size) {
    return (size + FERRY__LINE_SIZE - 1) / FERRY__LINE_SIZE * FERRY__LINE_SIZE;
}

void *ferry__malloc_lines(size_t size) {
    return ferry__alloc_replaced() ? ferry__malloc(size)
                                   : aligned_alloc(FERRY__LINE_SIZE, whole_lines(size));
}

void *ferry__calloc(size_t count, size_t size) {
    if (size && count > SIZE_MAX / size)
        return NULL;
    void *block = ferry__malloc(count * size);
    if (block)
        memset(block, 0, count * size);
    return block;
}

void *ferry__calloc_lines(size_t size) {
    void *block = ferry__malloc_lines(size);
    if (block)
        memset(block, 0, size);
    return block;
}

void *ferry__realloc(void *block, size_t size) {
    return current.realloc(block, size ? size : 1);
}

void ferry__free(void *block) {
    if (block)
        current.free(block);
}

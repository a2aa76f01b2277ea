/* Where libferry takes its memory from. */
#ifndef FERRY_ALLOC_H
#define FERRY_ALLOC_H

#include <ferry/base.h>

FERRY_BEGIN_DECLS

typedef struct ferry_allocator {
    void *(*malloc)(size_t size);
    void *(*realloc)(void *block, size_t size);
    void (*free)(void *block);
} ferry_allocator;

/* Replaces malloc, realloc and free inside libferry (not inside libevent: see
 * event_set_mem_functions). All three must be given, and be callable from any thread; NULL takes
 * the C library's again. All that Ferry needs is asked from them one by one then: it keeps no
 * records of its own for the next time. Call it before anything else of Ferry: a block must be
 * freed by the allocator that it came from. Returns 0, or -EINVAL when one of the three is
 * missing. Never blocks. */
FERRY_API int ferry_set_allocator(const ferry_allocator *allocator);

FERRY_END_DECLS

#endif

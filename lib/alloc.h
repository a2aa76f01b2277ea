/* Memory of libferry: every block that it takes goes through these (see alloc.c). */
#ifndef FERRY__ALLOC_H
#define FERRY__ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void *ferry__malloc(size_t size);
void *ferry__calloc(size_t count, size_t size);
void *ferry__realloc(void *block, size_t size);
void ferry__free(void *block);
bool ferry__alloc_replaced(void); /* the program has given its own */

#endif

/* Memory that runs out when a test says so: an allocator for ferry_set_allocator(). */
#ifndef FERRY_TEST_OOM_H
#define FERRY_TEST_OOM_H

#include <stdbool.h>

/* Makes libferry take its memory from here. The first thing that main() does. */
void oom_install(void);

/* The allocation after the next n fails, and with `on` set all that follow, until oom_never(). */
void oom_after(long n, bool on);
void oom_never(void);

/* Whether an allocation was refused since oom_after(). */
bool oom_hit(void);

/* For an allocator of the test's own that counts along (SQLite's): whether this allocation is to
 * fail. */
bool oom_refuses(void);

/* The next n allocations, by as many threads, wait for one another: all of them are under way. */
void oom_meet(long n);

/* Blocks that libferry holds now. */
long oom_blocks(void);

#endif

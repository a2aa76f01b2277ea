/* A folder of its own for each test that needs files, and what such tests share. */
#ifndef FERRY_TEST_SCRATCH_H
#define FERRY_TEST_SCRATCH_H

#include "support.h"

#include <ferry.h>

#include <ferry-file.h>

/* Set-up and tear-down for CASE_WITH(): an empty folder, and a pool of two threads. The tear-down
 * removes all that is in the folder, waits for the pool, and fails the test when a file that it
 * opened is still open. */
#define FILE_CASE(text, function) CASE_WITH(text, function, scratch_make, scratch_drop)
int scratch_make(void **state);
int scratch_drop(void **state);

extern int scratch_fd;      /* the folder, open */
extern const char *scratch; /* its path */
extern ferry_executor *pool;

/* The path of `name` in the folder. Valid until the 8th call after it; from the test's own thread.
 */
const char *in_scratch(const char *name);

/* Makes a file of `size` bytes, each place with a byte of its own (see pattern_at). */
void make_file(const char *name, size_t size);
unsigned char pattern_at(size_t place);
bool is_pattern(const void *data, size_t size, size_t first_place);

/* Makes a file with this text, or looks whether it is so. */
void make_text(const char *name, const char *text);
bool has_text(const char *name, const char *text);

/* Makes a folder (mode 0755), and all folders on the way to it. */
void make_folder(const char *name);

/* Makes a chain of `depth` folders called "n" in the folder open as `fd`; a file "f" is in each.
 * The paths get longer than the system takes. Returns the innermost folder, open. */
int make_chain(int fd, unsigned depth, const char *n);

size_t entries_in(int dirfd, const char *name); /* how many things are in a folder */
size_t open_files(void);                        /* of the process; 0 where that can't be known */

/* Runs fn(arg) as a user who isn't root, on a thread of its own: that thread and those that are
 * made from it. (The test itself may be root or not.) */
void as_nobody(void (*fn)(void *arg), void *arg);

/* Runs fn(arg) on a thread with mounts of its own, which nobody else sees and which end with it.
 * False, and fn isn't called, where the process isn't allowed to. */
bool with_own_mounts(void (*fn)(void *arg), void *arg);

/* All that a walk delivered, in its order, and how ferry_walk_next() ended it. */
struct walked {
    ferry_walk_entry *entries; /* their paths are copies */
    size_t count;
    int end;
};
struct walked walk_all(ferry_executor *executor, int dirfd, const char *root,
                       const ferry_walk_options *options);
void take_all(struct walked *walked, ferry_walk *walk); /* from a walk that is open; it stays so */
const ferry_walk_entry *seen_at(const struct walked *walked, const char *relative); /* the first */
size_t times_seen(const struct walked *walked, const char *relative);
void walked_free(struct walked *walked);

/* The awaited result, with its detail printed when it isn't the wanted one. */
#define AWAIT_INT(future, wanted) await_int((future), (wanted), #future, __FILE__, __LINE__)
bool await_int(ferry_future *future, int64_t wanted, const char *text, const char *file, int line);

#endif

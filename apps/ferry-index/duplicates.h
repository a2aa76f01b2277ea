/* --duplicates: files of the same content. */
#ifndef FERRY_INDEX_DUPLICATES_H
#define FERRY_INDEX_DUPLICATES_H

#include "catalogue.h"
#include "report.h"

/* Lists the groups of regular files that have the same SHA-256 and a size above 0, those that waste
 * most first; report->options says below which folders (none: all). Names of one and the same inode
 * are one copy: what is wasted is (copies - 1) times the size. From a task. Returns 0 or an error.
 */
int64_t duplicates_run(struct report *report, const struct catalogue *catalogue);

#endif

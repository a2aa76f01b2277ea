/* --verify: compares the tree with the catalogue, and changes neither.
 *
 * added       in the tree alone
 * removed     in the catalogue alone
 * changed     type, size, mode, mtime or content are different. Folders are compared by type and
 *             mode alone: their size and time only follow from what is in them. Devices and inodes
 *             aren't compared at all, so that a backup elsewhere can be verified
 * corrupted   a regular file of the same size and time whose content is different
 * unreadable  in the tree, but it can't be read now */
#ifndef FERRY_INDEX_VERIFY_H
#define FERRY_INDEX_VERIFY_H

#include "pipeline.h"
#include "report.h"

struct verify {
    struct pipeline pipeline; /* first */
    struct report *report;
};

/* From a task. Returns 0; -ECANCELED: the list is incomplete; or an error. */
int64_t verify_run(struct verify *verify);

#endif

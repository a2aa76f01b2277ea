/* Cataloguing: what a run does with the entries of the walk. */
#ifndef FERRY_INDEX_INDEX_H
#define FERRY_INDEX_INDEX_H

#include "pipeline.h"

struct index {
    struct pipeline pipeline; /* first */
    int64_t run;              /* the run's id */
    unsigned said;            /* errors of entries that were said */
};

/* Brings the catalogue up to date with the tree of index->pipeline.root, and removes what isn't
 * there any more once all of it was gone through. From a task. Returns 0; -ECANCELED: what was
 * complete is in the catalogue; or an error. */
int64_t index_run(struct index *index);

#endif

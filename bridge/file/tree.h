/* The way through a folder tree, without the question of who takes what is found (tree.c). */
#ifndef FERRY__FILE_TREE_H
#define FERRY__FILE_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include <ferry-file.h>

struct ferry__tree_options {
    int dirfd;
    const char *root;
    bool one_device;
    bool follow_root;
    size_t names_max; /* bytes of names of subfolders that wait to be entered, before a pause */
    int (*exclude)(const ferry_walk_entry *entry, void *arg);
    void *exclude_arg;

    /* Takes an entry, which is valid during the call only. A negative result ends the walk. */
    int64_t (*deliver)(const ferry_walk_entry *entry, void *arg);
    /* Asked every now and then: a negative result ends the walk. */
    int64_t (*check)(void *arg);
    void *arg;
};

/* Walks on the calling thread. Returns 0 at the end; what deliver, check or exclude returned; or an
 * error with its detail: -ENOMEM, or -errno of looking at the root. */
int64_t ferry__tree_walk(const struct ferry__tree_options *options);

#endif

/* Parcels: how entries travel from the walk to the hashing to the end, some dozens at a time.
 *
 * A parcel belongs to one stage at a time; the queues between hand it over. A record's texts lie in
 * its parcel. */
#ifndef FERRY_INDEX_PARCEL_H
#define FERRY_INDEX_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ferry-file.h>

#define PARCEL_RECORDS 64
#define SHA256_HEX 64

/* Errors of an entry that no system call has a word for. */
enum {
    ENTRY_CHANGING = -20001, /* it changed while it was being read, more than once */
};

/* Where a hash comes from. */
enum hash_state {
    HASH_NONE = 0, /* there is none */
    HASH_KEPT,     /* as it stands in the catalogue */
    HASH_FRESH     /* read now */
};

struct record {
    const char *path; /* ends with a zero byte, too */
    size_t path_size;
    int64_t row; /* its row's number in the catalogue, or the one that a new row is to get */
    int error;   /* 0, -errno, or one of the above */
    bool known;  /* it has a row */
    bool follow; /* it is a FOLDER that may be a symbolic link */
    bool gone;   /* it vanished before it could be read */

    int type;      /* enum ferry_file_type */
    uint32_t mode; /* 0: nothing but the type is known of it */
    uint64_t dev, inode;
    int64_t size, mtime_ns;

    enum hash_state hash;
    char sha256[SHA256_HEX]; /* with HASH_FRESH: of the content */

    /* For --verify, what its row says: */
    int old_type;
    uint32_t old_mode;
    int64_t old_size, old_mtime_ns;
    bool old_hash; /* it has a hash: */
    char old_sha256[SHA256_HEX];
};

struct parcel {
    struct parcel *next; /* for lists of whoever has it */
    size_t count;
    int64_t bytes; /* sizes of the regular files in it */
    size_t used, room;
    struct record records[PARCEL_RECORDS];
    char paths[];
};

/* A list of parcels that is being filled. */
struct parcels {
    struct parcel *first, *last;
    int64_t bytes_max; /* a parcel with so many bytes of files is full; 0: no limit */
};

/* Adds a record with a copy of the path, the rest zero, in the last parcel or a new one. `bytes` is
 * what it adds to the size of the parcel. NULL when out of memory. */
struct record *parcels_add(struct parcels *parcels, const char *path, size_t path_size,
                           int64_t bytes);

/* Takes the first parcel off the list; NULL when it is empty. */
struct parcel *parcels_take(struct parcels *parcels);

void parcels_append(struct parcels *parcels, struct parcel *parcel);
void parcels_clear(struct parcels *parcels);

/* For ferry_queue_options.item_free, too. */
void parcel_free(void *parcel);

/* Takes over what a look at the entry has found. */
void record_set_info(struct record *record, const ferry_file_info *info);

#endif

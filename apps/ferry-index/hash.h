/* The SHA-256 of files. */
#ifndef FERRY_INDEX_HASH_H
#define FERRY_INDEX_HASH_H

#include <stdbool.h>
#include <stdint.h>

#include <openssl/evp.h>

#include "counts.h"
#include "parcel.h"

/* One for each job that hashes: its context is used again for every file. */
struct hasher {
    EVP_MD *algorithm;
    EVP_MD_CTX *context;
    struct counts *counts;
    int64_t read; /* bytes of the current file, of all tries */
    bool broken;  /* libcrypto has failed */
};

/* Returns 0 or an error. hasher_free() takes it back in either case, on the same thread. */
int64_t hasher_init(struct hasher *hasher, struct counts *counts);
void hasher_free(struct hasher *hasher);

/* Reads the file and fills in its hash, and what it looked like when it was opened. What hinders
 * the reading is no error here but stands in the record afterwards: error, or gone. A file that
 * changes while it is read is read once more. Blocks. Returns 0; -ECANCELED (the record is
 * incomplete then); -ENOMEM; or an error of libcrypto. */
int64_t hasher_read(struct hasher *hasher, struct record *record);

#endif

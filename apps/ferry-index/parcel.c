/* Parcels. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "parcel.h"

#define PATHS_ROOM 8192 /* bytes of paths; a longer path is alone in its parcel */

static struct parcel *parcel_new(size_t room) {
    struct parcel *parcel = malloc(sizeof *parcel + room);
    if (!parcel)
        return NULL;
    parcel->next = NULL;
    parcel->count = 0;
    parcel->bytes = 0;
    parcel->used = 0;
    parcel->room = room;
    return parcel;
}

void parcel_free(void *parcel) {
    free(parcel);
}

static bool has_room(const struct parcels *parcels, size_t size, int64_t bytes) {
    const struct parcel *last = parcels->last;
    return last && last->count < PARCEL_RECORDS && last->room - last->used >= size &&
           (parcels->bytes_max == 0 || last->bytes == 0 ||
            (last->bytes < parcels->bytes_max && bytes <= parcels->bytes_max - last->bytes));
}

struct record *parcels_add(struct parcels *parcels, const char *path, size_t path_size,
                           int64_t bytes) {
    size_t size = path_size + 1;
    if (!has_room(parcels, size, bytes)) {
        struct parcel *parcel = parcel_new(size > PATHS_ROOM ? size : PATHS_ROOM);
        if (!parcel)
            return NULL;
        parcels_append(parcels, parcel);
    }
    struct parcel *parcel = parcels->last;
    struct record *record = &parcel->records[parcel->count++];
    char *copy = parcel->paths + parcel->used;
    memcpy(copy, path, path_size);
    copy[path_size] = '\0';
    parcel->used += size;
    parcel->bytes += bytes;
    *record = (struct record){.path = copy, .path_size = path_size};
    return record;
}

struct parcel *parcels_take(struct parcels *parcels) {
    struct parcel *parcel = parcels->first;
    if (!parcel)
        return NULL;
    parcels->first = parcel->next;
    if (!parcels->first)
        parcels->last = NULL;
    parcel->next = NULL;
    return parcel;
}

void parcels_append(struct parcels *parcels, struct parcel *parcel) {
    parcel->next = NULL;
    if (parcels->last)
        parcels->last->next = parcel;
    else
        parcels->first = parcel;
    parcels->last = parcel;
}

void parcels_clear(struct parcels *parcels) {
    struct parcel *parcel;
    while ((parcel = parcels_take(parcels)))
        parcel_free(parcel);
}

void record_set_info(struct record *record, const ferry_file_info *info) {
    record->type = info->type;
    record->mode = info->mode;
    record->dev = info->dev;
    record->inode = info->inode;
    record->size = info->size;
    record->mtime_ns = info->mtime_ns;
}

/* Rows as memory: what crosses from the job to the consumer in one go.
 *
 * A batch has one array of cells (16 bytes each) and one block of bytes for text and blobs, so it
 * costs a handful of allocations however many rows it has. Behind each text and blob stands a NUL
 * that isn't counted. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "sqlite-internal.h"

#define FIRST_CELLS 64
#define FIRST_BYTES 1024

struct ferry__sqlite_columns *ferry__sqlite_columns_new(sqlite3_stmt *raw) {
    int n = sqlite3_column_count(raw);
    struct ferry__sqlite_columns *columns;
    size_t size = sizeof *columns + (size_t)n * sizeof columns->names[0];

    for (int i = 0; i < n; i++) {
        const char *name = sqlite3_column_name(raw, i);
        if (!name)
            return NULL;
        size += strlen(name) + 1;
    }
    columns = sqlite3_malloc64(size);
    if (!columns)
        return NULL;
    columns->n = n;
    char *to = (char *)&columns->names[n];
    for (int i = 0; i < n; i++) {
        const char *name = sqlite3_column_name(raw, i);
        size_t length = strlen(name) + 1;
        columns->names[i] = memcpy(to, name, length);
        to += length;
    }
    return columns;
}

struct ferry__sqlite_batch *ferry__sqlite_batch_new(int columns) {
    struct ferry__sqlite_batch *batch = sqlite3_malloc64(sizeof *batch);
    if (!batch)
        return NULL;
    memset(batch, 0, sizeof *batch);
    batch->columns = (size_t)columns;
    return batch;
}

void ferry__sqlite_batch_free(struct ferry__sqlite_batch *batch) {
    if (!batch)
        return;
    sqlite3_free(batch->cells);
    sqlite3_free(batch->bytes);
    sqlite3_free(batch);
}

size_t ferry__sqlite_batch_size(const struct ferry__sqlite_batch *batch) {
    return batch->used + batch->rows * batch->columns * sizeof *batch->cells;
}

/* At least `want` units, doubling from `first`. The block is unchanged when it fails. */
static bool grow(void **block, size_t *room, size_t want, size_t first, size_t unit) {
    if (want <= *room)
        return true;
    size_t new_room = *room ? *room : first;
    while (new_room < want)
        new_room *= 2;
    void *bigger = sqlite3_realloc64(*block, new_room * unit);
    if (!bigger)
        return false;
    *block = bigger;
    *room = new_room;
    return true;
}

static bool add_bytes(struct ferry__sqlite_batch *batch, struct ferry__sqlite_cell *cell,
                      sqlite3_stmt *raw, int i) {
    const void *data =
        cell->type == SQLITE_TEXT ? sqlite3_column_text(raw, i) : sqlite3_column_blob(raw, i);
    size_t length = (size_t)sqlite3_column_bytes(raw, i);
    void *bytes = batch->bytes;

    /* An empty blob has no address; anything else without one is out of memory. */
    if (!data &&
        (cell->type == SQLITE_TEXT || sqlite3_errcode(sqlite3_db_handle(raw)) == SQLITE_NOMEM))
        return false;
    bool room = grow(&bytes, &batch->room, batch->used + length + 1, FIRST_BYTES, 1);
    batch->bytes = bytes;
    if (!room)
        return false;
    if (length > 0)
        memcpy(batch->bytes + batch->used, data, length);
    batch->bytes[batch->used + length] = '\0';
    cell->as.offset = batch->used;
    cell->length = (uint32_t)length;
    batch->used += length + 1;
    return true;
}

int64_t ferry__sqlite_batch_add(struct ferry__sqlite_batch *batch, sqlite3_stmt *raw) {
    const size_t at = batch->rows * batch->columns;
    void *cells = batch->cells;
    bool room =
        grow(&cells, &batch->cells_room, at + batch->columns, FIRST_CELLS, sizeof *batch->cells);

    batch->cells = cells;
    if (!room)
        return ferry__sqlite_no_memory();
    for (int i = 0; i < (int)batch->columns; i++) {
        struct ferry__sqlite_cell *cell = &batch->cells[at + (size_t)i];
        cell->type = (uint8_t)sqlite3_column_type(raw, i);
        cell->length = 0;
        cell->as.integer = 0;
        if (cell->type == SQLITE_INTEGER) {
            cell->as.integer = sqlite3_column_int64(raw, i);
        } else if (cell->type == SQLITE_FLOAT) {
            cell->as.real = sqlite3_column_double(raw, i);
        } else if (cell->type != SQLITE_NULL && !add_bytes(batch, cell, raw, i)) {
            return ferry__sqlite_no_memory();
        }
    }
    batch->rows++;
    return 0;
}

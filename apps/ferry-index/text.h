/* Bytes and numbers as people read them. */
#ifndef FERRY_INDEX_TEXT_H
#define FERRY_INDEX_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Whether the bytes are UTF-8 as Unicode defines it (no surrogates, nothing longer than it must
 * be). */
bool text_is_utf8(const char *bytes, size_t size);

/* The length of the UTF-8 character at `bytes`, and the character in *code; 0 when there is none.
 */
size_t text_utf8_next(const char *bytes, size_t size, uint32_t *code);

/* Writes a path on one line and without effect on a terminal: \n, \r, \t and \\ for these, \xHH for
 * each byte of other control characters, of marks that turn the direction of writing, and of what
 * isn't UTF-8. */
void text_write_path(FILE *out, const char *path, size_t size);

#define TEXT_ROOM 32

/* "1,234,567"; "1.2 GiB"; "1:02:03". Each writes into `out` (TEXT_ROOM bytes) and returns it. */
const char *text_count(char *out, uint64_t n);
const char *text_bytes(char *out, uint64_t bytes);
const char *text_seconds(char *out, double seconds);

/* The end of a plural. */
static inline const char *text_s(uint64_t n) {
    return n == 1 ? "" : "s";
}

#endif

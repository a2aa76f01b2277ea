/* Bytes and numbers as people read them. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "text.h"

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

size_t text_utf8_next(const char *bytes, size_t size, uint32_t *code) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *at = (const unsigned char *)bytes;
    if (size == 0)
        return 0;
    if (at[0] < 0x80) {
        *code = at[0];
        return 1;
    }
    size_t n = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || n > size)
        return 0;
    uint32_t c = at[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (at[i] & 0x3fu);
    }
    if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *code = c;
    return n;
}

bool text_is_utf8(const char *bytes, size_t size) {
    for (size_t i = 0; i < size;) {
        uint32_t code;
        if ((unsigned char)bytes[i] < 0x80) {
            i++;
            continue;
        }
        size_t n = text_utf8_next(bytes + i, size - i, &code);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* ---- Paths ----------------------------------------------------------------------------------- */

static bool prints(uint32_t code) {
    return !(code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c ||
             (code >= 0x200e && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
             (code >= 0x2066 && code <= 0x2069));
}

void text_write_path(FILE *out, const char *path, size_t size) {
    for (size_t i = 0; i < size;) {
        uint32_t code;
        size_t n = text_utf8_next(path + i, size - i, &code);
        if (n == 1 && strchr("\n\r\t\\", (int)code) && code != 0) {
            fprintf(out, "\\%c",
                    code == '\n'   ? 'n'
                    : code == '\r' ? 'r'
                    : code == '\t' ? 't'
                                   : '\\');
        } else if (n > 0 && prints(code)) {
            fwrite(path + i, 1, n, out);
        } else {
            n = n > 0 ? n : 1;
            for (size_t k = i; k < i + n; k++)
                fprintf(out, "\\x%02x", (unsigned char)path[k]);
        }
        i += n;
    }
}

/* ---- Numbers --------------------------------------------------------------------------------- */

const char *text_count(char *out, uint64_t n) {
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    char *to = out;
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out;
}

const char *text_bytes(char *out, uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double n = (double)bytes;
    size_t unit = 0;
    /* What would be written as 1024.0 or 1024 belongs to the next unit. */
    while (unit + 1 < sizeof units / sizeof units[0] && n >= (unit == 0 ? 1024 : 1023.95)) {
        n /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(out, TEXT_ROOM, "%.0f %s", n, bytes == 1 ? "byte" : units[0]);
    else
        snprintf(out, TEXT_ROOM, n < 99.95 ? "%.1f %s" : "%.0f %s", n, units[unit]);
    return out;
}

const char *text_seconds(char *out, double seconds) {
    if (!(seconds < 359999)) { /* more than a hundred hours: nobody waits for that */
        snprintf(out, TEXT_ROOM, "--:--");
        return out;
    }
    unsigned long s = seconds > 0 ? (unsigned long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, TEXT_ROOM, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, TEXT_ROOM, "%lu:%02lu", s / 60, s % 60);
    return out;
}

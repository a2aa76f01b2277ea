/* What a run counts. */
#include "config.h"

#include <stddef.h>

#include "counts.h"

void counts_sum(struct counts *to, const struct counts *from) {
    count *t = (count *)to; /* it is nothing but counts */
    const count *f = (const count *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *t; i++)
        count_add(&t[i], count_get(&f[i]));
}

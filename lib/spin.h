/* Looking again for a short while before one sleeps: see spin.c. */
#ifndef FERRY__SPIN_H
#define FERRY__SPIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clock.h"

/* What has been learned in one place. All calls but ferry__spin_on() under one lock, or on one
 * thread. */
struct ferry__spin {
    int64_t ns;      /* as long as this; 0: it doesn't pay */
    unsigned asked;  /* since it was found not to pay */
    int64_t pause;   /* ns between two looks */
    bool possible;   /* another processor may do something meanwhile */
};

struct ferry__spinning {
    int64_t now, end, pause;
};

void ferry__spin_init(struct ferry__spin *spin);
/* Whether it is worth trying now. */
bool ferry__spin_pays(struct ferry__spin *spin);
struct ferry__spinning ferry__spin_begin(const struct ferry__spin *spin);
/* Pauses; false: it was long enough. */
bool ferry__spin_on(struct ferry__spinning *s);
/* Whether there was something. */
void ferry__spin_end(struct ferry__spin *spin, bool found);
/* How much there was at the last look, or is at one look usually. */
void ferry__spin_amount(struct ferry__spin *spin, size_t n);

#endif

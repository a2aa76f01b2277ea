/* The saturated pool: see saturate.h. */

#include "config.h"

#include "saturate.h"

static int64_t stand_at_gate(void *arg) {
    gate_wait(arg);
    return 0;
}

void saturate(saturation *s, ferry_executor *pool, unsigned threads) {
    gate_init(&s->gate);
    s->count = 0;
    while (s->count < threads && CHECK(s->count < SATURATION_MAX)) {
        ferry_future *job = ferry_submit(pool, stand_at_gate, &s->gate);

        if (!CHECK(job != NULL)) {
            break;
        }
        s->jobs[s->count++] = job;
    }
    gate_wait_arrivals(&s->gate, s->count);
}

void desaturate(saturation *s) {
    gate_open(&s->gate);
    for (unsigned i = 0; i < s->count; i++) {
        CHECK_INT(ferry_await(s->jobs[i]), 0);
    }
    s->count = 0;
    gate_destroy(&s->gate);
}

/* Looking again for a short while before one sleeps.
 *
 * To sleep and to be woken costs tens of microseconds where the processor has to be woken as well;
 * looking costs that processor, for as long as it lasts. So how long one looks is learned from
 * whether there was something: more after a success, half after a failure, nothing after several,
 * and then one try in every PROBE. It is never more than MOST_NS, and never done with one
 * processor, where nobody could bring anything meanwhile. With more threads that want to run than
 * processors it fails, and so ends by itself.
 *
 * There is a pause between two looks: who looks all the time takes the cache line away from who
 * is to write there. Where much comes at a time the pause is longer, so that the processors meet
 * less often. Where little comes it is short: those who sent that may be waiting for it. In between
 * it grows with the square of the pieces. */
#include "config.h"

#include <sched.h>
#include <unistd.h>

#include "lock.h"
#include "spin.h"

#define MOST_NS 20000
#define LEAST_NS 2000
#define PROBE 64
#define LEAST_PAUSE 300
#define MOST_PAUSE 4000
#define MANY 128 /* pieces, from which on it is the longest */

void ferry__spin_init(struct ferry__spin *spin) {
    long processors;
#ifdef __linux__
    cpu_set_t set;
    processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 2;
#else
    processors = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    *spin = (struct ferry__spin){.ns = MOST_NS, .pause = LEAST_PAUSE, .possible = processors > 1};
}

bool ferry__spin_pays(struct ferry__spin *spin) {
    if (!spin->possible)
        return false;
    if (spin->ns == 0 && ++spin->asked % PROBE == 0)
        spin->ns = MOST_NS / 2;
    return spin->ns > 0;
}

struct ferry__spinning ferry__spin_begin(const struct ferry__spin *spin) {
    int64_t now = ferry__now();
    return (struct ferry__spinning){.now = now, .end = now + spin->ns, .pause = spin->pause};
}

bool ferry__spin_on(struct ferry__spinning *s) {
    int64_t now, next = s->now + s->pause;
    do {
        for (int i = 0; i < 4; i++)
            ferry__relax();
        now = ferry__now();
    } while (now < next);
    s->now = now;
    return now < s->end;
}

void ferry__spin_end(struct ferry__spin *spin, bool found) {
    if (found)
        spin->ns = spin->ns > MOST_NS / 2 ? MOST_NS : 2 * spin->ns;
    else
        spin->ns = spin->ns > 2 * LEAST_NS ? spin->ns / 2 : 0;
}

void ferry__spin_amount(struct ferry__spin *spin, size_t n) {
    int64_t pause = n < MANY ? (int64_t)(n * n) * MOST_PAUSE / (MANY * MANY) : MOST_PAUSE;
    spin->pause = pause < LEAST_PAUSE ? LEAST_PAUSE : pause;
}

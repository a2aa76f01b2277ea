/* What happens at the switch points: see points.h. */
#include "config.h"

#include "points.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "point.h"

enum { ARMED, REACHED, GONE };
enum { STOPS = 8, PAUSE_NS = 50 * 1000 };

void ferry__point(const char *name);

/* ---- Stops ----------------------------------------------------------------------------------- */

static pthread_mutex_t stops_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stops_changed = PTHREAD_COND_INITIALIZER;
static struct point_stop *stops[STOPS]; /* under the lock */
/* atomic: how many may be in there, so that most points are cheap */
static _Atomic int n_stops;

/* Its state may be looked at meanwhile (point_reached). */
static void arm(struct point_stop *stop, const char *point, const pthread_t *thread) {
    int i = 0;
    pthread_mutex_lock(&stops_lock);
    stop->point = point;
    stop->any = !thread;
    if (thread)
        stop->thread = *thread;
    atomic_store(&stop->state, ARMED);
    while (stops[i])
        if (++i == STOPS)
            abort();
    stops[i] = stop;
    pthread_mutex_unlock(&stops_lock);
    atomic_fetch_add(&n_stops, 1);
}

void point_stop(struct point_stop *stop, const char *point) {
    arm(stop, point, NULL);
}

void point_stop_thread(struct point_stop *stop, const char *point, pthread_t thread) {
    arm(stop, point, &thread);
}

bool point_reached(struct point_stop *stop) {
    return atomic_load(&stop->state) != ARMED;
}

void point_wait(struct point_stop *stop) {
    pthread_mutex_lock(&stops_lock);
    while (!point_reached(stop))
        pthread_cond_wait(&stops_changed, &stops_lock);
    pthread_mutex_unlock(&stops_lock);
}

void point_go(struct point_stop *stop) {
    pthread_mutex_lock(&stops_lock);
    for (int i = 0; i < STOPS; i++)
        if (stops[i] == stop)
            stops[i] = NULL;
    atomic_fetch_sub(&n_stops, 1);
    bool held = point_reached(stop);
    atomic_store(&stop->state, GONE);
    pthread_cond_broadcast(&stops_changed);
    while (held && atomic_load(&stop->state) == GONE) /* until whoever stands there has seen it */
        pthread_cond_wait(&stops_changed, &stops_lock);
    pthread_mutex_unlock(&stops_lock);
}

static void stand(const char *name) {
    pthread_mutex_lock(&stops_lock);
    for (int i = 0; i < STOPS; i++) {
        struct point_stop *stop = stops[i];
        if (!stop || atomic_load(&stop->state) != ARMED || strcmp(stop->point, name) != 0 ||
            !(stop->any || pthread_equal(stop->thread, pthread_self())))
            continue;
        atomic_store(&stop->state, REACHED);
        pthread_cond_broadcast(&stops_changed);
        while (atomic_load(&stop->state) == REACHED)
            pthread_cond_wait(&stops_changed, &stops_lock);
        atomic_store(&stop->state, REACHED);
        pthread_cond_broadcast(&stops_changed);
        break;
    }
    pthread_mutex_unlock(&stops_lock);
}

/* ---- Delays ---------------------------------------------------------------------------------- */

static _Atomic uint64_t delay_seed; /* atomic: 0: none */
static _Atomic uint32_t numbers;    /* atomic: threads that came to a point */
static _Thread_local uint64_t stream;
static _Thread_local uint64_t stream_seed;

void points_delay(uint64_t seed) {
    atomic_store(&numbers, 0);
    atomic_store(&delay_seed, seed);
}

/* Not inlined: a task that was moved between two calls would be on the same thread, but the
 * compiler mustn't rest on that. */
__attribute__((noinline)) uint32_t points_random(void) {
    uint64_t seed = atomic_load_explicit(&delay_seed, memory_order_relaxed);
    if (stream_seed != seed || stream == 0) {
        stream_seed = seed;
        stream = (seed + atomic_fetch_add(&numbers, 1) + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    }
    /* xorshift64*, Vigna 2016 */
    stream ^= stream >> 12;
    stream ^= stream << 25;
    stream ^= stream >> 27;
    return (uint32_t)((stream * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}

static void delay(void) {
    uint32_t dice = points_random();
    if (dice % 8 != 0)
        return;
    dice /= 8;
    if (dice % 2048 == 0) {
        nanosleep(&(struct timespec){.tv_nsec = (long)(dice / 2048 % PAUSE_NS)}, NULL);
    } else if (dice % 16 == 0) {
        sched_yield();
    } else {
        for (volatile uint32_t spins = dice % 256; spins > 0; spins--)
            continue;
    }
}

void ferry__point(const char *name) {
    int saved = errno;
    if (atomic_load_explicit(&n_stops, memory_order_acquire) > 0)
        stand(name);
    if (atomic_load_explicit(&delay_seed, memory_order_relaxed))
        delay();
    errno = saved;
}

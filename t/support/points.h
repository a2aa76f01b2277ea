/* What happens at the library's switch points (lib/point.h): random delays, or a stop while others
 * act. For programs that link libferry_points.la in place of the core. */
#ifndef FERRY_TEST_POINTS_H
#define FERRY_TEST_POINTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* From now on every thread is held up at random: by spinning, by giving the processor away,
 * rarely by a short sleep. The same seed gives each thread, numbered by its first point, the
 * same delays; what the kernel does beside that isn't in anybody's hand. 0: no more. */
void points_delay(uint64_t seed);

/* The next number of the calling thread's own random stream, for what else a race decides. */
uint32_t points_random(void);

/* The first who comes to `point` stays there until the test says go; those who come after it
 * pass. */
struct point_stop {
    const char *point;
    pthread_t thread;  /* of whom; with `any` unset */
    bool any;
    _Atomic int state; /* atomic: armed, reached, gone on */
};

void point_stop(struct point_stop *stop, const char *point);                  /* any thread */
void point_stop_thread(struct point_stop *stop, const char *point, pthread_t thread);
/* until somebody stands there; blocks the calling thread */
void point_wait(struct point_stop *stop);
bool point_reached(struct point_stop *stop);
/* Lets it go, or takes the stop back; `stop` may go then, too. */
void point_go(struct point_stop *stop);

#endif

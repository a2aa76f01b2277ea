/* What every compiled test shares: the runner with its watchdog, checks that work on any stack and
 * thread, and the gate that makes races happen in a fixed order.
 *
 * A test program looks like this:
 *
 *     #include "support.h"
 *
 *     static void cancel_wins(void **state) {
 *         (void)state;
 *         ...
 *         assert_int_equal(ferry_await(f), 7);
 *     }
 *
 *     int main(void) {
 *         static const struct CMUnitTest tests[] = {
 *             CASE("CAN-01 a cancelled sleep fails at once", cancel_wins),
 *         };
 *         return SUPPORT_RUN(tests);
 *     }
 */
#ifndef FERRY_TEST_SUPPORT_H
#define FERRY_TEST_SUPPORT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* One test with a free text as its name, so that the TAP line carries the conformance ids. The
 * second form has cmocka's set-up and tear-down functions. */
#define CASE(text, function) {(text), (function), NULL, NULL, NULL}
#define CASE_WITH(text, function, setup, teardown) {(text), (function), (setup), (teardown), NULL}

/* Runs the tests in order and prints TAP; returns main's exit status.
 *
 * Each test has FERRY_TEST_TIMEOUT seconds (environment; 60 where it isn't set, 0 for no limit).
 * When they are over, the watchdog says which test hangs, prints where each thread stands and what
 * ferry_dump() knows, and aborts the program. A crash isn't caught: the program dies by its signal,
 * and sanitizers report it. FERRY_TEST_ONLY=pattern picks tests by their names. */
#define SUPPORT_RUN(tests) support_run(__FILE__, (tests), sizeof(tests) / sizeof((tests)[0]))
int support_run(const char *name, const struct CMUnitTest *tests, size_t count);

/* cmocka's assertions leave the test by longjmp, so they are for the test function's own thread and
 * stack alone. Inside tasks, jobs, callbacks and other threads use these: they print what is wrong,
 * go on, and the test fails when its function returns. Each is true when the claim holds. */
#define CHECK(claim) support_check((claim), #claim, __FILE__, __LINE__)
#define CHECK_INT(got, wanted) \
    support_check_int((int64_t)(got), (int64_t)(wanted), #got, #wanted, __FILE__, __LINE__)
#define CHECK_STR(got, wanted) support_check_str((got), (wanted), #got, __FILE__, __LINE__)
bool support_check(bool holds, const char *claim, const char *file, int line);
bool support_check_int(int64_t got, int64_t wanted, const char *got_text, const char *wanted_text,
                       const char *file, int line);
bool support_check_str(const char *got, const char *wanted, const char *text, const char *file,
                       int line);
bool support_failing(void); /* whether one has failed in this test */

/* Leaves the test, from its own function, as skipped. (cmocka's own skip() prints TAP that counts
 * as a failure.) */
#define SKIP(reason) \
    do { \
        support_skip(reason); \
        return; \
    } while (0)
void support_skip(const char *reason);

/* True under Valgrind, AddressSanitizer or ThreadSanitizer, where the same work takes 10 to 50
 * times as long: a test may then do fewer rounds, never other ones. */
bool support_slow(void);

/* True for the first 15 s of a test: for loops that do the same again and again, of which there are
 * fewer rounds, then, where many want the processor. */
bool support_in_time(void);

/* A gate: threads that come to it stop until it opens, and a test can wait until they are there.
 * It blocks the calling thread, so it is for jobs and threads; in a task it stops its whole loop.
 * A pool with all its threads at a gate: saturate.h. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;        /* under lock */
    unsigned arrived; /* under lock: how many gate_wait() calls there have been */
} gate;

#define GATE_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0}

void gate_init(gate *g);                         /* closed, nobody arrived */
void gate_wait(gate *g);                         /* arrives, then stands there until it is open */
void gate_open(gate *g);                         /* lets everybody pass, now and later */
void gate_wait_arrivals(gate *g, unsigned want); /* until gate_wait() was called `want` times */
unsigned gate_arrivals(gate *g);
void gate_destroy(gate *g);

#endif

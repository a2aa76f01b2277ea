/* A job that is submitted while its scope is being cancelled: the canceller has set the scope's
 * flag and hasn't said so to the scope's owner yet. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "core.h"
#include "points.h"
#include "support.h"
#include "waiters.h"

static int64_t looks(void *arg) {
    (void)arg;
    return ferry_checkpoint();
}

static void *cancels(void *arg) {
    ferry_scope_cancel(arg);
    return NULL;
}

static void submitted_meanwhile(void **state) {
    (void)state;
    ferry_scope scope = FERRY_SCOPE_INIT;
    assert_int_equal(ferry_scope_open(&scope, FERRY_FOREVER), 0);
    assert_int_equal(ferry_await(ferry_submit(NULL, looks, NULL)), 0); /* from here on the scope has a flag for jobs */
    struct point_stop stop;
    point_stop(&stop, "scope_kick");
    pthread_t thread = start_thread(cancels, &scope);
    point_wait(&stop);
    ferry_future *f = ferry_submit(NULL, looks, NULL);
    point_go(&stop);
    pthread_join(thread, NULL);
    while (!ferry_done(f)) /* not by a wait, which would cancel it */
        sched_yield();
    assert_true(ferry_cancelled(f));
    ferry_detach(f);
    assert_int_equal(ferry_scope_close(&scope, -ECANCELED), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a job that is submitted while its scope is being cancelled sees that",
             submitted_meanwhile),
    };
    return SUPPORT_RUN(tests);
}

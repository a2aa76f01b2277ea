/* Limiters in the few instructions in which a key comes, goes, or is handed on: whoever is there is
 * stopped at a switch point (lib/point.h), others act, and it goes on. */
#include "config.h"

#include <errno.h>
#include <sched.h>

#include "points.h"
#include "pools.h"
#include "waiting.h"

static const char key[] = "host";

static int takes(void *arg) {
    return ferry_limiter_acquire(arg, key);
}

static void begin_taking(struct waiting *w, ferry_limiter *limiter) {
    *w = (struct waiting){.wait = takes, .arg = limiter};
    w->thread = start_thread(wait_in_scope, w);
}

static ferry_limiter_stats stats_for(ferry_limiter *limiter, const char *name) {
    ferry_limiter_stats stats;
    ferry_limiter_get_stats(limiter, name, &stats);
    return stats;
}

static ferry_limiter *limiter_of(size_t total) {
    ferry_limiter *limiter;
    CHECK_INT(ferry_limiter_new(&limiter, &(ferry_limiter_options){.total = total}), 0);
    return limiter;
}

/* What one thread has taken is given back by this one; no key is left then. */
static void end_of(ferry_limiter *limiter) {
    CHECK_INT(stats_for(limiter, NULL).held, 1);
    CHECK_INT(ferry_limiter_release(limiter, key), 0);
    CHECK_INT(stats_for(limiter, NULL).held, 0);
    CHECK_INT(stats_for(limiter, NULL).keys, 0);
    CHECK_INT(ferry_limiter_free(limiter), 0);
}

/* Two make a record for the same key. */
static void a_key_comes_meanwhile(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(0);
    struct waiting w;
    struct point_stop stop;
    point_stop(&stop, "limiter_made");
    begin_taking(&w, limiter);
    point_wait(&stop);
    assert_int_equal(ferry_limiter_acquire(limiter, key), 0);
    point_go(&stop);
    until_asleep(&w.record);
    assert_int_equal(stats_for(limiter, NULL).keys, 1);
    assert_int_equal(stats_for(limiter, key).waiting, 1);
    assert_int_equal(ferry_limiter_release(limiter, key), 0);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.rc, 0);
    end_of(limiter);
}

static void a_key_comes_and_goes_meanwhile(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(0);
    struct waiting w;
    struct point_stop made, again;
    point_stop(&made, "limiter_made");
    point_stop(&again, "limiter_again");
    begin_taking(&w, limiter);
    point_wait(&made);
    assert_int_equal(ferry_limiter_acquire(limiter, key), 0);
    point_go(&made);
    point_wait(&again); /* it has seen this one's */
    assert_int_equal(ferry_limiter_release(limiter, key), 0);
    assert_int_equal(stats_for(limiter, NULL).keys, 0);
    point_go(&again);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.rc, 0);
    end_of(limiter);
}

/* A thread that was cancelled while it waited, and hasn't said yet that it is gone. */
static void begin_leaving(struct waiting *w, struct point_stop *stop, ferry_limiter *limiter) {
    begin_taking(w, limiter);
    until_asleep(&w->record);
    point_stop_thread(stop, "park_over", w->thread);
    ferry_scope_cancel(&w->scope);
    point_wait(stop);
}

static void end_leaving(struct waiting *w, struct point_stop *stop) {
    point_go(stop);
    pthread_join(w->thread, NULL);
    assert_int_equal(w->rc, -ECANCELED);
}

/* Nobody holds a token of the key any more, but its record is needed. */
static void a_key_goes_with_its_last_waiter(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(0);
    struct waiting w;
    struct point_stop stop;
    assert_int_equal(ferry_limiter_acquire(limiter, key), 0);
    begin_leaving(&w, &stop, limiter);
    assert_int_equal(ferry_limiter_release(limiter, key), 0);
    assert_int_equal(stats_for(limiter, NULL).keys, 1);
    assert_int_equal(ferry_limiter_free(limiter), -EBUSY);
    assert_int_equal(ferry_limiter_try(limiter, key), 0); /* it stands in nobody's way */
    end_leaving(&w, &stop);
    end_of(limiter);
}

/* All tokens in all are taken, so the key stands in the line of turns. */
static void a_turn_passes_one_who_leaves(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(1);
    struct waiting first, second;
    struct point_stop stop;
    assert_int_equal(ferry_limiter_acquire(limiter, "other"), 0);
    begin_leaving(&first, &stop, limiter);
    begin_taking(&second, limiter);
    until_asleep(&second.record);
    assert_int_equal(ferry_limiter_release(limiter, "other"), 0);
    pthread_join(second.thread, NULL);
    assert_int_equal(second.rc, 0);
    assert_int_equal(stats_for(limiter, key).waiting, 1);
    end_leaving(&first, &stop);
    end_of(limiter);
}

/* Nobody is behind it: the turn, and what is free, isn't kept for it. */
static void a_turn_of_one_who_leaves(void **state) {
    (void)state;
    ferry_limiter *limiter = limiter_of(1);
    struct waiting first;
    struct point_stop stop;
    assert_int_equal(ferry_limiter_acquire(limiter, "other"), 0);
    begin_leaving(&first, &stop, limiter);
    assert_int_equal(ferry_limiter_release(limiter, "other"), 0);
    assert_int_equal(stats_for(limiter, NULL).held, 0);
    assert_int_equal(ferry_limiter_try(limiter, "third"), 0);
    assert_int_equal(ferry_limiter_release(limiter, "third"), 0);
    end_leaving(&first, &stop);
    assert_int_equal(ferry_limiter_acquire(limiter, key), 0);
    end_of(limiter);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("two threads make the record of one key", a_key_comes_meanwhile),
        CASE("a key's record has gone again when it is looked for once more",
             a_key_comes_and_goes_meanwhile),
        CASE("a key stays until its last waiter is out", a_key_goes_with_its_last_waiter),
        CASE("a turn passes one who was cancelled and isn't out", a_turn_passes_one_who_leaves),
        CASE("a turn of one who was cancelled and isn't out is given up", a_turn_of_one_who_leaves),
    };
    return SUPPORT_RUN(tests);
}

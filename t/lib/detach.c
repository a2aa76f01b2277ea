/* Handles that are given up: by the loop's own thread, which has its own way of doing so, while
 * others have them, or as the last. */
#include "config.h"

#include <sched.h>
#include <stdatomic.h>

#include "core.h"
#include "oom.h"
#include "support.h"
#include "waiters.h"

struct shared {
    ferry_future *f;
    atomic_int begun, over; /* rounds: nobody sleeps before one, so that both are at it at once */
    int rounds;
};

static int64_t yields(void *arg) {
    for (int i = (int)(intptr_t)arg; i > 0; i--)
        ferry_yield();
    return 0;
}

static void until(atomic_int *count, int n) {
    while (atomic_load(count) < n)
        sched_yield();
}

static void *refs_and_detaches(void *arg) {
    struct shared *s = arg;
    for (int round = 0; round < s->rounds; round++) {
        until(&s->begun, round + 1);
        for (int i = 0; i < 20; i++)
            ferry_detach(ferry_ref(s->f));
        CHECK_STR(ferry_future_name(s->f), "task"); /* it is there as long as this thread has it */
        ferry_detach(s->f);
        atomic_store(&s->over, round + 1);
    }
    return NULL;
}

/* Another thread refers to the task and goes on referring to it. It has ended, and its running side
 * has given its reference back; or is just about to; or it runs on. */
TASK_TEST(while_another_thread_has_it) {
    struct shared s = {.rounds = support_slow() ? 300 : 5000};
    pthread_t thread = start_thread(refs_and_detaches, &s);
    long blocks = oom_blocks();
    for (int round = 0; round < s.rounds; round++) {
        s.f = ferry_ref(ferry_spawn(yields, (void *)(intptr_t)(round % 3)));
        while (round % 2 && !ferry_done(s.f))
            ferry_yield();
        atomic_store(&s.begun, round + 1);
        for (int i = round % 64; i > 0; i--)
            ferry__relax();
        ferry_detach(s.f);
        until(&s.over, round + 1);
        while (ferry_loop_current()->n_tasks > 1)
            ferry_yield();
        ferry_yield(); /* the last one's stack and reference are taken back */
        CHECK_INT(oom_blocks(), blocks);
    }
    pthread_join(thread, NULL);
    return 0;
}

/* Nobody has the handle when it ends, or only somebody who doesn't wait. */
TASK_TEST(before_it_ends) {
    long blocks = 0;
    for (int i = 0; i < 100; i++) {
        ferry_future *f = ferry_spawn(yields, (void *)(intptr_t)3);
        if (i % 2)
            ferry_ref(f);
        ferry_detach(f);
        while (ferry_loop_current()->n_tasks > 1)
            ferry_yield();
        ferry_yield();
        if (i % 2) {
            CHECK(ferry_done(f));
            ferry_detach(f);
        }
        if (i == 10)
            blocks = oom_blocks();
    }
    CHECK_INT(oom_blocks(), blocks);
    return 0;
}

int main(void) {
    oom_install();
    static const struct CMUnitTest tests[] = {
        CASE("a task, before it ends", before_it_ends),
        CASE("a task, while another thread has it", while_another_thread_has_it),
    };
    return SUPPORT_RUN(tests);
}

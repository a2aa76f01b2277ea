/* A lock of one word, and sleeping on a word.
 *
 * A lock is given up by a plain store of 0 unless somebody is known to sleep on it. A 2 that a
 * sleeper writes just before that store is lost with it, and so is his wake-up. Mostly he finds the
 * word changed before he sleeps, as the store arrives before the system call has come to compare
 * it; if the one who unlocks is interrupted between his look and his store, he sleeps: for a nap at
 * most, and tries again. So a sleep on a lock always has an end, and nobody pays for it who doesn't
 * wait.
 *
 * What that buys, against an exchange on the way out, which loses no wake-up (x86-64, one CPU, the
 * two builds in turn, medians; an atomic read-modify-write takes 6.6 ns): a hop of a ping-pong over
 * a queue 68 ns instead of 81; an item through a queue of 1,024 places 36 instead of 46 between two
 * tasks, 45 instead of 56 from a thread to a task; a free semaphore 31 instead of 40; spawn and
 * await 112 instead of 119. A free mutex doesn't take this lock: 18 with either. What it costs: a
 * mutex or a semaphore that 4 tasks and 4 threads contended for 12 s, half of it on one CPU, made
 * 75 sleeps on a lock; in 39 of them the nap ran out, in 23 with the mark of a sleeper still there;
 * in 16 it was gone by then, so that as many wake-ups may have been lost, each for a nap. Naps were
 * 1 ms then. Where all share one CPU that was 8 % of the time that a loop and its pool had, with
 * 1,024 jobs in flight; so who doesn't get the lock lets the others run first, and naps are short.
 *
 * Where the kernel has futexes they do the sleeping. Elsewhere a small table of mutexes and
 * condition variables stands in, picked by the word's address: a wake under the bucket's mutex
 * can't pass by a sleeper that has compared the word under the same mutex. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#include "lock.h"

_Static_assert(sizeof(unsigned) == sizeof(uint32_t), "a lock is a futex word");

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>

void ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline) {
    struct timespec ts = {.tv_sec = (time_t)(deadline / 1000000000),
                          .tv_nsec = (long)(deadline % 1000000000)};
    int saved = errno;
    /* With the BITSET form the time is absolute, on CLOCK_MONOTONIC (futex(2)). */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen,
            deadline == FERRY__NEVER ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
    errno = saved;
}

void ferry__futex_wake(uint32_t *word, int count) {
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
    errno = saved;
}

#else
#include <pthread.h>

#define BUCKETS 64
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
} buckets[BUCKETS];
static pthread_once_t buckets_once = PTHREAD_ONCE_INIT;

static void buckets_init(void) {
    for (int i = 0; i < BUCKETS; i++) {
        pthread_mutex_init(&buckets[i].mutex, NULL);
        pthread_cond_init(&buckets[i].cond, NULL);
    }
}

static size_t bucket_of(const uint32_t *word) {
    pthread_once(&buckets_once, buckets_init);
    return ((uintptr_t)word >> 4) % BUCKETS;
}

void ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline) {
    size_t b = bucket_of(word);
    pthread_mutex_lock(&buckets[b].mutex);
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == seen) {
        if (deadline == FERRY__NEVER) {
            pthread_cond_wait(&buckets[b].cond, &buckets[b].mutex);
        } else {
            /* The condition's clock is CLOCK_REALTIME here; the caller compares the monotonic
             * one again. */
            int64_t left = deadline - ferry__now();
            struct timespec ts;
            clock_gettime(CLOCK_REALTIME, &ts);
            if (left > 0) {
                ts.tv_sec += (time_t)(left / 1000000000);
                ts.tv_nsec += (long)(left % 1000000000);
                if (ts.tv_nsec >= 1000000000) {
                    ts.tv_sec++;
                    ts.tv_nsec -= 1000000000;
                }
            }
            pthread_cond_timedwait(&buckets[b].cond, &buckets[b].mutex, &ts);
        }
    }
    pthread_mutex_unlock(&buckets[b].mutex);
}

void ferry__futex_wake(uint32_t *word, int count) {
    size_t b = bucket_of(word);
    (void)count; /* words share a bucket: all look again */
    pthread_mutex_lock(&buckets[b].mutex);
    pthread_cond_broadcast(&buckets[b].cond);
    pthread_mutex_unlock(&buckets[b].mutex);
}
#endif

#define NAP (FERRY__MS / 10) /* for a lock whose holder has a few instructions to go, and doesn't
                              * run */

static bool try_lock(unsigned *lock) {
    unsigned free = 0;
    return __atomic_load_n(lock, __ATOMIC_RELAXED) == 0 &&
           __atomic_compare_exchange_n(lock, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void ferry__lock_slow(unsigned *lock) {
    /* The holder is a few instructions from the end, unless it was preempted: then spinning is
     * in vain, but it may run on as soon as it is let. */
    for (int i = 0; i < 100; i++) {
        if (try_lock(lock))
            return;
        ferry__relax();
    }
    for (int i = 0; i < 4; i++) {
        sched_yield();
        if (try_lock(lock))
            return;
    }
    while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE) != 0)
        ferry__futex_wait(lock, 2, ferry__now() + NAP);
}

void ferry__unlock_slow(unsigned *lock) {
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
    ferry__futex_wake(lock, 1);
}

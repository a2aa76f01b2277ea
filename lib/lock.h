/* The inner lock of every primitive, and sleeping on a word: see lock.c. */
#ifndef FERRY__LOCK_H
#define FERRY__LOCK_H

#include <stdint.h>

#include "clock.h"

/* Sleeps while *word == seen, until `deadline` at most; may return early. */
void ferry__futex_wait(uint32_t *word, uint32_t seen, int64_t deadline);
void ferry__futex_wake(uint32_t *word, int count);

/* A few cycles in which a processor's other half may run, inside a loop that waits. */
static inline void ferry__relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A hint; the address needn't be one. */
static inline void ferry__prefetch_to_write(const void *address) {
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1);
#endif
}

void ferry__lock_slow(unsigned *lock);
void ferry__unlock_slow(unsigned *lock);

/* 0 free, 1 held, 2 held and somebody may sleep. Held for a few instructions, never across a
 * call-out. */
static inline void ferry__lock(unsigned *lock) {
    unsigned free = 0;
    if (!__atomic_compare_exchange_n(lock, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        ferry__lock_slow(lock);
}

/* The way out is a look and a store, which cost nothing against an exchange. One who comes to
 * sleep between the two isn't woken by this unlock: lock.c says what becomes of him. */
static inline void ferry__unlock(unsigned *lock) {
    if (__atomic_load_n(lock, __ATOMIC_RELAXED) == 2)
        ferry__unlock_slow(lock);
    else
        __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

#endif

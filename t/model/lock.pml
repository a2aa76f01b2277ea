/* The inner lock of everything: lib/lock.h and lib/lock.c.
 *
 *     here            stands for
 *     acquire         ferry__lock(), ferry__lock_slow(): the word 0, 1, 2; the first try, some spinning, the sleep
 *     release         ferry__unlock(), ferry__unlock_slow(): a look, and a store of 0 unless it says that somebody sleeps
 *     futex           ferry__futex_wait(), ferry__futex_wake(): the wait has an end (NAP)
 *
 * Three threads take the lock, one of them twice.
 *
 * What must hold: one holds it at a time, and sees what the one before has written; all get it. A wake-up may be lost, that
 * is the bargain: then the nap is what ends the sleep.
 *
 * control NO_NAP asleep: a sleep on the lock has no end
 * control NO_WAKE_NO_NAP asleep: a sleep has no end, and the way out is an exchange, but doesn't wake
 * control RELEASE_RELAXED assertion: the lock may be seen free before what was written under it
 * control TAKE_PLAIN assertion: the lock is taken by a load and a store
 * variant EXCHANGE: a sleep has no end, and the way out is an exchange: the classic lock */

#define WORD 0
#define DATA 1
#define CELLS 2
#define PROCS 5
#include "memory.pml"

byte inside;
bool asleep[3];

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    od
}

inline exchange(value) {
    atomic {
        DRAINED;
        old = mem[WORD];
        mem[WORD] = value
    }
}

inline acquire() {
#ifdef TAKE_PLAIN
    old = LOAD(WORD);
    if
    :: old == 0 -> STORE_SC(WORD, 1)
    :: else
    fi;
#else
    atomic {
        DRAINED;
        old = mem[WORD];
        if
        :: old == 0 -> mem[WORD] = 1
        :: else
        fi
    };
#endif
    do
    :: old == 0 -> break
    :: else ->
        exchange(2);
        if
        :: old == 0
        :: else ->
            atomic {
                if
                :: mem[WORD] == 2 -> asleep[me] = true
                :: else
                fi
            };
#if defined(NO_NAP) || defined(EXCHANGE) || defined(NO_WAKE_NO_NAP)
            !asleep[me]
#else
            asleep[me] = false
#endif
        fi
    od;
    old = 0
}

inline wake_one() {
    if
    :: asleep[0] -> asleep[0] = false
    :: asleep[1] -> asleep[1] = false
    :: asleep[2] -> asleep[2] = false
    :: !asleep[0] && !asleep[1] && !asleep[2]
    fi
}

inline release() {
#if defined(EXCHANGE) || defined(NO_WAKE_NO_NAP)
    exchange(0);
#ifdef EXCHANGE
    if
    :: old == 2 -> atomic { wake_one() }
    :: else
    fi;
#endif
    old = 0
#else
    if
    :: LOAD(WORD) == 2 ->
        STORE_RELEASE(WORD, 0);
        FENCE(); /* the system call's own */
        atomic { wake_one() }
    :: else ->
#ifdef RELEASE_RELAXED
        STORE(WORD, 0)
#else
        STORE_RELEASE(WORD, 0)
#endif
    fi
#endif
}

inline section() {
    acquire();
    inside++;
    assert(inside == 1);
    seen = LOAD(DATA);
    assert(seen == rounds);
    STORE(DATA, seen + 1);
    atomic { rounds++; inside--; seen = 0 };
    release()
}

byte rounds;

proctype thread(byte me; byte times) {
    byte old, seen;
    do
    :: times == 0 -> break
    :: else -> section(); times--
    od
}

init {
    atomic {
        run thread(0, 2);
        run thread(1, 1);
        run thread(2, 1)
    };
    _nr_pr == 2
}

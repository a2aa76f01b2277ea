/* A handle's end, and who waits for it: lib/future.c.
 *
 *     here            stands for
 *     complete        ferry__future_complete(), tell(), observed(), ferry__wake_all(): f->lock, result, done, the links
 *     observe         ferry__future_observe(), ferry__future_link(), ferry__future_unlink(); its observer on the stack
 *     await           ferry_await(): observes, cancels and joins, ferry__future_take(), gives the reference back
 *     look_on         ferry_wait() with a reference of its own
 *     unref           ferry__future_unref()
 *
 * Waiting itself is taken for right (park-thread.pml): here a wait is ended by the grant and its wake, or by a cancel. Two may
 * complete the handle, the worker and the one who gives up its job; each holds a reference.
 *
 * What must hold: both waits end; the result is the first completer's for everybody, and is there for whoever sees done, also
 * without the lock; nobody touches an observer that has left, or the handle after its last reference.
 *
 * control DONE_RELAXED assertion: done may be seen before the result
 * control LINK_UNLOCKED asleep: a link looks at done before it takes the lock, and not again
 * control NO_UNLINK assertion: who was cancelled leaves without taking its link back
 * control UNLINK_UNLOCKED assertion: the link is taken back without the lock
 * control NO_RUNNING_REF assertion: the completers hold no references
 * control DECIDED_UNLOCKED assertion: a completer looks at done before it takes the lock, and not again
 * control WOKEN_ANYHOW assertion: an observer is woken that couldn't be claimed
 * control REF_PLAIN assertion: references are given back by a load and a store */

#define WAITING 0
#define GRANTED 1
#define CANCELED 2

#define DONE 0
#define RESULT 1
#define CELLS 2
#define PROCS 6
#include "memory.pml"

/* Observers: 0, the awaiter's; 1, who looks on; 2, the awaiter's join. */
bit lock;
bool listed[3];
byte outcome[3];
bool woken[3];
bool gone[3];
byte refs;
bool freed;
byte winner;

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    WRITES_OF(5)
    od
}

inline touch() { assert(!freed) }

inline unref() {
#ifdef REF_PLAIN
    n = refs;
    refs = n - 1;
    n = n - 1;
#else
    atomic { DRAINED -> assert(!freed && refs > 0); refs--; n = refs };
#endif
    if
    :: n == 0 -> freed = true
    :: else -> n = 0
    fi
}

inline notify(o) {
    if
    :: listed[o] ->
        listed[o] = false;
        atomic {
            DRAINED;
            assert(!gone[o]);
            if
            :: outcome[o] == WAITING -> outcome[o] = GRANTED; wake[o] = true
#ifdef WOKEN_ANYHOW
            :: else -> wake[o] = true
#else
            :: else
#endif
            fi
        }
    :: else
    fi
}

inline wake_up(o) {
    if
    :: wake[o] -> assert(!gone[o]); wake[o] = false; woken[o] = true
    :: else
    fi
}

proctype completer(byte result) {
    byte n;
    bool wake[3];
    touch();
#ifdef DECIDED_UNLOCKED
    if
    :: LOAD(DONE) -> goto end_it
    :: else
    fi;
    LOCK(lock);
#else
    LOCK(lock);
    if
    :: LOAD(DONE) -> UNLOCK(lock); goto end_it
    :: else
    fi;
#endif
    assert(winner == 0);
    winner = result;
    STORE(RESULT, result);
#ifdef DONE_RELAXED
    STORE(DONE, 1);
#else
    STORE_SC(DONE, 1);
#endif
    notify(0);
    notify(1);
    notify(2);
    touch();
    UNLOCK(lock);
    wake_up(0);
    wake_up(1);
    wake_up(2);
end_it:
#ifndef NO_RUNNING_REF
    unref()
#endif
}

/* rc: 0, or CANCELED where that is allowed */
inline observe(o, cancellable) {
    touch();
    if
    :: LOAD(DONE)
    :: else ->
#ifdef LINK_UNLOCKED
        n = LOAD(DONE);
        LOCK(lock);
#else
        LOCK(lock);
        n = LOAD(DONE);
#endif
        if
        :: n -> n = 0; UNLOCK(lock)
        :: else ->
            listed[o] = true;
            UNLOCK(lock);
            do
            :: atomic { DRAINED && outcome[o] == GRANTED && woken[o] -> break }
            :: atomic { DRAINED && cancellable && outcome[o] == WAITING -> outcome[o] = CANCELED }; rc = CANCELED; break
            od;
            if
            :: rc == CANCELED ->
#ifndef NO_UNLINK
#ifndef UNLINK_UNLOCKED
                LOCK(lock);
#endif
                touch();
                listed[o] = false;
#ifndef UNLINK_UNLOCKED
                UNLOCK(lock)
#endif
#endif
            :: else
            fi;
            gone[o] = true
        fi
    fi
}

inline take() {
    touch();
    assert(LOAD(DONE));
    n = LOAD(RESULT);
    assert(winner && n == winner);
    n = 0
}

proctype await() {
    byte n, rc;
    observe(0, true);
    if
    :: rc == CANCELED -> rc = 0; observe(2, false)
    :: else
    fi;
    take();
    unref()
}

proctype look_on() {
    byte n, rc;
    observe(1, true);
    if
    :: rc == CANCELED -> rc = 0
    :: else -> take()
    fi;
    unref()
}

init {
    atomic {
        refs = 2;
#ifndef NO_RUNNING_REF
        refs = 4;
#endif
        run await();
        run look_on();
        run completer(1);
        run completer(2)
    };
    _nr_pr == 2;
    assert(freed && refs == 0)
}

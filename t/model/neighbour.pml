/* The end of a task that a task of the same loop awaits: lib/task.c, lib/future.c.
 *
 *     here            stands for
 *     loop            the loop's thread: the body of the task and its end (complete(), is_between_two()), reap(), then its
 *                     awaiter: ferry_await(), or ferry_wait() and ferry_detach(); ferry__future_unref()
 *     guest           another thread that looks on (ferry_wait()), with a reference of its own
 *     borrower        another thread that looks on without one: it is through before the last reference can be given back,
 *                     which is before the end when that is awaited
 *     beside          a task of the same loop that looks on; it stands in the list of the handle
 *
 * When only awaiter and running side have references, and the list is empty, the end is told without the handle's lock, and the
 * running side's reference is given back by a store. future.pml is about all that has the lock.
 *
 * What must hold: all waits end; the result is there for whoever sees done; nobody touches the handle after its last reference,
 * and that is given back once.
 *
 * control NO_COUNT assertion: nobody looks at the references
 * control NO_LIST asleep: nobody looks at the list
 * control NOT_OWNED asleep: the same for an awaiter that only looks on */

#define DONE 0
#define RESULT 1
#define REFS 2
#define CELLS 3
#define PROCS 5
#include "memory.pml"

#define GUEST 0
#define BORROWER 1
#define BESIDE 2

bit lock;
bool listed[3], granted[3];
bool freed, over;
bool leaves; /* the borrower, before it is granted */

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    od
}

inline touch() { assert(!freed) }

inline unref() {
    touch();
    n = LOAD(REFS);
    if
    :: n == 1
    :: else -> atomic { DRAINED -> assert(!freed && mem[REFS] > 0); mem[REFS] = mem[REFS] - 1; n = mem[REFS] + 1 }
    fi;
    if
    :: n == 1 -> assert(!freed); freed = true
    :: else
    fi;
    n = 0
}

inline tell(o) {
    if
    :: listed[o] -> atomic { DRAINED -> listed[o] = false; granted[o] = true }
    :: else
    fi
}

proctype loop() {
    byte n;
    bool owned, alone, beside, between;
    if
    :: leaves -> owned = true
    :: owned = false
    fi;
    if
    :: atomic { DRAINED && !lock -> listed[BESIDE] = true; beside = true }
    :: beside = false
    fi;
    if
    :: owned -> atomic { DRAINED && over -> skip }
    :: else
    fi;
    between = true;
#ifndef NO_COUNT
    between = LOAD(REFS) == 2;
#endif
#ifndef NO_LIST
    between = between && !listed[GUEST] && !listed[BORROWER] && !listed[BESIDE];
#endif
#ifndef NOT_OWNED
    between = between && owned;
#endif
    if
    :: between ->
        alone = true;
        STORE(RESULT, 1);
        STORE_RELEASE(DONE, 1)
    :: else ->
        LOCK(lock);
        STORE(RESULT, 1);
        STORE_RELEASE(DONE, 1);
        tell(GUEST);
        tell(BORROWER);
        tell(BESIDE);
        UNLOCK(lock)
    fi;
    if
    :: alone -> STORE(REFS, 1)
    :: else -> unref()
    fi;
    touch();
    assert(LOAD(DONE) && LOAD(RESULT));
    if
    :: owned
    :: else -> atomic { DRAINED && over -> skip }
    fi;
    unref();
    if
    :: beside -> granted[BESIDE]
    :: else
    fi
}

inline look_on(o, cancelled) {
    touch();
    LOCK(lock);
    if
    :: LOAD(DONE) -> assert(LOAD(RESULT)); UNLOCK(lock)
    :: else ->
        listed[o] = true;
        UNLOCK(lock);
        if
        :: granted[o] -> assert(LOAD(DONE) && LOAD(RESULT))
        :: cancelled ->
            LOCK(lock);
            touch();
            listed[o] = false;
            UNLOCK(lock)
        fi
    fi
}

proctype guest() {
    byte n;
    bool cancelled;
    if
    :: cancelled = true
    :: cancelled = false
    fi;
    look_on(GUEST, cancelled);
    unref()
}

proctype borrower() {
    look_on(BORROWER, leaves);
    atomic { DRAINED -> over = true }
}

init {
    atomic {
        mem[REFS] = 3;
        if
        :: leaves = true
        :: leaves = false
        fi;
        run loop();
        run guest();
        run borrower()
    };
    _nr_pr == 2;
    assert(freed)
}

/* A thread that parks: lib/park.c, with the line of lib/semaphore.c and the scope of lib/scope.c.
 *
 *     here            stands for
 *     waiter          ferry_sem_acquire_for(), ferry__line_wait(), ferry__park(), park_thread(), ferry__poke(),
 *                     open_scope(), look(), ferry__enter(), pop(): w->outcome, w->woken, w->listed; the thread's word
 *                     and sleeping; ctx->asked
 *     granter         ferry_sem_release(), ferry__claim(), ferry__wake(), ferry__wake_all()
 *     kick            ferry__thread_kick()
 *     canceller       ferry_scope_cancel(), ferry__ctx_kick(): scope->request, scope->ctx
 *     futex_wait      ferry__futex_wait(): the kernel compares, and sleeps if the word is the same. It is no barrier here
 *
 * A thread opens a scope and acquires twice, each time with a waiter on its stack; the first time with or without
 * a time-out. Either somebody releases once and somebody cancels the scope, from before it is opened on; or two permits are
 * released and nobody cancels.
 *
 * What must hold: both acquires come back; permits aren't lost and don't multiply; once the cancel is through, the next
 * acquire fails with it, whatever there is; a granted one keeps the permit; nobody touches a waiter, or the scope, after its
 * owner has gone on.
 *
 * control SLEEPING_RELAXED asleep: sleeping = 1 may be seen after the look at the word
 * control KICK_LOOKS_FIRST asleep: a kick reads sleeping before it counts the word up
 * control SEEN_LATE asleep: the word is read after the look at outcome and request
 * control KICK_FIRST asleep: a cancel kicks before it sets the request
 * control OPEN_RELAXED assertion: the opening's scope->ctx may be seen after its look at the request
 * control OPEN_NO_LOOK assertion: the opening doesn't look at the request again
 * control ASKED_CLEARED_LATE assertion: a look clears asked after it has read the requests
 * control NO_WOKEN assertion: the owner goes on when it is granted, without waiting for woken
 * control NEXT_AFTER_WAKE assertion: wake_next is read after the wake
 * control LEAVES_UNLOCKED assertion: a cancelled waiter leaves without the lock of the line
 * control DECIDE_PLAIN assertion: the outcome is written by a load and a store
 * control NO_BUSY assertion: the close doesn't wait for the canceller */

#define WAITING 0
#define GRANTED 1
#define CANCELED 2
#define TIMEDOUT 3
#define BUSY 4 /* of a request */
#define CANCEL 1

#define SLEEPING 0
#define CTX 1
#define WOKEN 2 /* two waits */
#define CELLS 4
#define PROCS 6
#include "memory.pml"

byte word;
bool asleep; /* in the kernel, on that word */
byte outcome[2];
bool gone[2]; /* the waiter's frame */
byte line;    /* the waiter in it, from 1 on; 0: empty */
bit line_lock;
byte permits;
bool asked;
byte request;
bool scope_gone;
bool told; /* the cancel is through */
bool timed, cancels;
byte taken, released;
bool late; /* the first wait's time is over */

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    od
}

inline touch(w) {
    assert(!gone[w])
}

inline decide(w, what, won) {
#ifdef DECIDE_PLAIN
    won = outcome[w] == WAITING;
    if
    :: won -> outcome[w] = what
    :: else
    fi
#else
    atomic {
        DRAINED;
        won = outcome[w] == WAITING;
        if
        :: won -> outcome[w] = what
        :: else
        fi
    }
#endif
}

inline kick() {
#ifdef KICK_LOOKS_FIRST
    s = LOAD(SLEEPING);
    atomic { DRAINED -> word++ };
#else
    atomic { DRAINED -> word++ };
    s = LOAD(SLEEPING);
#endif
    if
    :: s -> asleep = false
    :: else
    fi;
    s = 0
}

inline look() {
#ifdef ASKED_CLEARED_LATE
    cancelled = request != 0;
    atomic { DRAINED -> asked = cancelled }
#else
    atomic { DRAINED -> asked = false };
    cancelled = request != 0;
    if
    :: cancelled -> atomic { DRAINED -> asked = true }
    :: else
    fi
#endif
}

#define DUE(k) (k == 0 && timed && late)

/* park_thread() of wait k: rc becomes its outcome. */
inline park(k) {
    do
    :: true ->
#ifndef SEEN_LATE
        seen = word;
#endif
        rc = outcome[k];
#ifdef NO_WOKEN
        if
        :: rc != WAITING -> break
        :: else
        fi;
#else
        if
        :: rc != WAITING && rc != GRANTED -> break
        :: rc == GRANTED && LOAD(WOKEN + k) -> break
        :: else
        fi;
#endif
        look();
        if
        :: cancelled -> decide(k, CANCELED, won)
        :: !cancelled && DUE(k) -> decide(k, TIMEDOUT, won)
        :: else
        fi;
        cancelled = false;
        won = false;
        if
        :: outcome[k] == rc ->
#ifdef SEEN_LATE
            seen = word;
#endif
#ifdef SLEEPING_RELAXED
            STORE(SLEEPING, 1);
#else
            STORE_SC(SLEEPING, 1);
#endif
            atomic {
                if
                :: word == seen -> asleep = true
                :: else
                fi
            };
            atomic { !asleep || DUE(k) -> asleep = false };
            STORE_SC(SLEEPING, 0)
        :: else
        fi;
        seen = 0
    od;
    seen = 0
}

inline acquire(k) {
    must_fail = told;
    if
    :: asked -> look()
    :: else
    fi;
    if
    :: cancelled -> cancelled = false; rc = CANCELED
    :: else ->
        LOCK(line_lock);
        if
        :: permits > 0 -> permits--; UNLOCK(line_lock); rc = GRANTED
        :: else ->
            line = k + 1;
            UNLOCK(line_lock);
            park(k);
            if
            :: rc == GRANTED
            :: else ->
#ifndef LEAVES_UNLOCKED
                LOCK(line_lock);
#endif
                if
                :: line == k + 1 -> line = 0
                :: else
                fi;
#ifndef LEAVES_UNLOCKED
                UNLOCK(line_lock)
#endif
            fi;
            gone[k] = true
        fi
    fi;
    if
    :: rc == GRANTED -> taken++
    :: else
    fi;
    assert(!must_fail || rc == CANCELED);
    must_fail = false;
    rc = 0
}

proctype waiter() {
    byte seen, rc;
    bool cancelled, won, must_fail;
#ifdef OPEN_RELAXED
    STORE(CTX, 1);
#else
    STORE_SC(CTX, 1);
#endif
#ifndef OPEN_NO_LOOK
    if
    :: request -> atomic { DRAINED -> asked = true }
    :: else
    fi;
#endif
    acquire(0);
    acquire(1);
    if
    :: cancels ->
        request; /* who may still be cancelled isn't closed: that is the program's to see to */
#ifndef NO_BUSY
        !(request & BUSY)
#endif
    :: else
    fi;
    scope_gone = true
}

proctype granter() {
    byte w, s;
    bool won;
    do
    :: released == (cancels -> 1 : 2) -> break
    :: else ->
        LOCK(line_lock);
        w = line;
        if
        :: w ->
            touch(w - 1);
            line = 0;
            decide(w - 1, GRANTED, won)
        :: else
        fi;
        if
        :: won
        :: else -> permits++
        fi;
        released++;
        UNLOCK(line_lock);
        if
        :: won ->
            touch(w - 1);
            STORE_RELEASE(WOKEN + w - 1, 1);
#ifdef NEXT_AFTER_WAKE
            DRAINED; /* at the earliest when others have seen it */
            touch(w - 1);
#endif
            kick()
        :: else
        fi;
        w = 0;
        won = false
    od
}

proctype canceller() {
    byte s;
#ifdef KICK_FIRST
    if
    :: LOAD(CTX) -> kick(); asked = true
    :: else
    fi;
    atomic { DRAINED -> request = CANCEL | BUSY };
#else
    atomic { DRAINED -> request = CANCEL | BUSY };
    if
    :: LOAD(CTX) ->
        atomic { DRAINED -> asked = true };
        kick()
    :: else
    fi;
#endif
    told = true;
    atomic { DRAINED -> assert(!scope_gone); request = CANCEL }
}

proctype clock() {
    late = true
}

init {
    atomic {
        if
        :: cancels = true; run waiter(); run granter(); run canceller()
        :: cancels = false; run waiter(); run granter()
        fi;
        if
        :: timed = true; run clock()
        :: timed = false
        fi
    };
    _nr_pr == 2;
    assert(taken + permits == released && line == 0)
}

/* A loop's end against those who hand work in: lib/shutdown.c, ferry__loop_accept() and ferry_loop_free() of lib/loop.c.
 *
 *     here            stands for
 *     poster          ferry_post(), hand_in(), ferry__loop_accept(): loop->entering, state, the inbox
 *     adder           ferry_then() of a handle that has ended: the same
 *     completer       callback_due() of one that ends now: ferry__loop_send(), with a reference while it does that
 *     shut_down       shut_down(), run_inbox(): state OPEN -> SOFT (-> HARD) -> LAST -> DOWN, entering, ferry__inbox_waits()
 *     free_loop       ferry_loop_free(), destroy(), close_inbox(), ferry__loop_unref()
 *
 * The inbox is taken for right (inbox.pml). Somebody posts to the loop, somebody adds a callback, and somebody completes a handle
 * that has one there. The program frees the loop after a shutdown, when all three have begun; or without one, when
 * all has been run: then those three may still be on their way out.
 *
 * What must hold: what was accepted is run before the shutdown has ended; what was sent is run or dropped, once; nobody
 * touches the loop after it is gone.
 *
 * control STATE_RELAXED assertion: state = LAST may be seen after the look at entering
 * control NO_LAST assertion: a shutdown doesn't say that it takes no more callbacks before it looks at the inbox
 * control COUNT_LATE assertion: who hands in doesn't look at the state again once it counts as entering
 * control NO_ENTERING assertion: the shutdown doesn't wait for those who are entering
 * control INBOX_FIRST assertion: the shutdown looks at the inbox first, at entering then
 * control NO_INBOX assertion: the shutdown doesn't look whether the inbox is empty
 * control POST_NO_REF assertion: a poster holds no reference on the loop
 * control ADD_NO_REF assertion: who adds a callback holds no reference on the loop
 * control NO_PIN assertion: the completer holds no reference while it sends
 * control NO_CLOSED asleep: a completer doesn't see that the inbox is closed */

#define OPEN 0
#define SOFT 1
#define HARD 2
#define LAST 3
#define DOWN 4

#define STATE 0
#define CELLS 1
#define PROCS 6
#include "memory.pml"

byte entering;
byte inbox; /* bits: the post 1, the callbacks 2 and 4 */
bool closed;
byte ran, dropped, refused, accepted; /* bits */
byte begun; /* bits: have made their first step */
byte refs;
bool freed;

active proctype memory() {
end:
    do
    WRITES_OF(5)
    od
}

#define ALL 7

inline touch() { assert(!freed) }

inline unref() {
    atomic { DRAINED -> assert(!freed && refs > 0); refs--; freed = refs == 0 }
}

/* Of what `me` hands in, while the state is less than `refusal`. */
inline enter(refusal) {
    open = LOAD(STATE) < refusal;
    if
    :: open ->
        atomic { DRAINED -> touch(); entering++ };
#ifndef COUNT_LATE
        touch();
        open = LOAD(STATE) < refusal;
#endif
        if
        :: open ->
            if
            :: me == 2 -> refs++ /* the callback's */
            :: else
            fi;
            atomic {
                DRAINED;
                touch();
                if
                :: closed -> refused = refused | me
                :: else -> accepted = accepted | me; inbox = inbox | me
                fi
            };
            touch(); /* ring() */
            if
            :: me == 2 && (refused & me) -> unref()
            :: else
            fi
        :: else -> refused = refused | me
        fi;
        atomic { DRAINED -> touch(); entering-- }
    :: else -> refused = refused | me
    fi
}

proctype poster(byte me) {
    bool open;
#ifdef POST_NO_REF
    atomic { touch(); begun = begun | me };
#else
    atomic { touch(); refs++; begun = begun | me };
#endif
    enter(SOFT);
#ifndef POST_NO_REF
    unref()
#endif
}

proctype adder(byte me) {
    bool open;
#ifdef ADD_NO_REF
    atomic { touch(); begun = begun | me };
#else
    atomic { touch(); refs++; begun = begun | me };
#endif
    enter(LAST);
#ifndef ADD_NO_REF
    unref()
#endif
}

proctype completer() {
    atomic { touch(); refs++ }; /* the callback's, since ferry_then() */
    begun = begun | 4;
#ifndef NO_PIN
    atomic { touch(); refs++ };
#endif
    if
#ifndef NO_CLOSED
    :: atomic { closed -> touch(); dropped = dropped | 4 };
        unref()
#endif
    :: atomic { !closed -> touch(); inbox = inbox | 4 };
        touch() /* ring() */
    fi;
#ifndef NO_PIN
    unref()
#endif
}

/* Items run on the loop's thread. */
inline run_one() {
    if
    :: inbox & 1 -> atomic { inbox = inbox & 6; ran = ran | 1 }
    :: inbox & 2 -> atomic { inbox = inbox & 5; ran = ran | 2 }; unref()
    :: inbox & 4 -> atomic { inbox = inbox & 3; ran = ran | 4 }; unref()
    fi
}

inline run_inbox() {
    do
#ifdef INBOX_FIRST
    :: inbox -> run_one()
    :: !inbox ->
        if
        :: entering == 0 -> break
        :: else
        fi
#else
#ifndef NO_ENTERING
    :: entering > 0 ->
        if
        :: inbox -> run_one()
        :: true
        fi
#endif
#ifdef NO_ENTERING
    :: true ->
#else
    :: entering == 0 ->
#endif
        if
#ifdef NO_INBOX
        :: true -> break
#else
        :: inbox -> run_one()
        :: else -> break
#endif
        fi
#endif
    od
}

inline shut_down() {
    STORE_SC(STATE, SOFT);
    if
    :: STORE_SC(STATE, HARD)
    :: true
    fi;
    do /* for so many steps */
    :: inbox -> run_one()
    :: true -> break
    od;
#ifndef NO_LAST
#ifdef STATE_RELAXED
    STORE(STATE, LAST);
#else
    STORE_SC(STATE, LAST);
#endif
#endif
    run_inbox();
    STORE_SC(STATE, DOWN);
    assert((accepted & (ran | dropped)) == accepted)
}

inline free_loop() {
    atomic { DRAINED -> closed = true; left = inbox; inbox = 0; dropped = dropped | left };
    assert(!(left & 3) || LOAD(STATE) == OPEN);
    if
    :: left & 2 -> unref()
    :: else
    fi;
    if
    :: left & 4 -> unref()
    :: else
    fi;
    unref() /* the user's */
}

proctype loop() {
    byte left;
    do
    :: inbox -> run_one()
    :: true ->
        shut_down();
        begun == ALL;
        free_loop();
        break
    :: ran == ALL -> free_loop(); break
    od
}

init {
    atomic {
        refs = 1;
        run poster(1);
        run adder(2);
        run completer();
        run loop()
    };
    _nr_pr == 2;
    assert((ran | dropped | refused) == ALL && !(ran & dropped) && !(ran & refused) && freed)
}

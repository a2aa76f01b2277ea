/* A loop's inbox: lib/inbox.c, with how lib/loop.c turns on it.
 *
 *     here            stands for
 *     push            ferry__inbox_put(), ring(): inbox->head, item->next, awake, waking; the eventfd
 *     take            ferry__inbox_get(), turned_round(): head, first
 *     doze, rouse     ferry__inbox_doze(), ferry__inbox_rouse(): awake, waking
 *     waits           ferry__inbox_waits()
 *     loop            turn(), drain(), on_wake(), ferry__inbox_empty(), a pass of event_base_loop(), close_inbox(),
 *                     ferry__inbox_close()
 *
 * Two threads push two items each. The loop takes at most two a turn, and may be closed between two turns.
 *
 * What must hold: each item is run once, or dropped by the close, or was refused, whoever pushes or turns when; the
 * items of one thread are run in their order; the loop never sleeps with an item inside (that would be an invalid end state);
 * and there is at most one write to the fd for each time that the loop was roused, and one more.
 *
 * control NO_FENCE asleep: awake = 0 may be seen after the look at the stack
 * control NO_SECOND_LOOK asleep: the loop goes to sleep without looking at the stack again
 * control RING_BEFORE_PUSH asleep: the pusher reads awake before its item is in the stack
 * control WAKING_STAYS asleep: a rouse doesn't clear waking
 * control EMPTY_LATE asleep: the fd is emptied after the turn, not before
 * control NO_MARK assertion: a close leaves no mark behind
 * control NO_WAKING assertion: each push to a loop that dozes writes
 * control PLAIN_PUSH assertion: head is changed by a load and a store */

#define ITEMS 4
#define MARK 9 /* closed_mark */
#define BUDGET 2

#define AWAKE 0
#define WAKING 1
#define CELLS 2
#define PROCS 5
#include "memory.pml"

byte head;
byte older[ITEMS + 1]; /* item->next */
byte fd;               /* eventfd's count */
bool closed;
byte ran[ITEMS + 1];
byte dropped[ITEMS + 1];
byte refused[ITEMS + 1];
byte writes;
byte rouses;
byte done;

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    od
}

inline push(item) {
    h = head;
    do
    :: h == MARK ->
        refused[item]++;
        done++;
        break
    :: else ->
        older[item] = h;
#ifdef RING_BEFORE_PUSH
        seen = LOAD(AWAKE);
#endif
#ifdef PLAIN_PUSH
        if
        :: atomic { head == h -> skip };
            head = item;
            h = 0;
            ok = true
        :: else -> h = head
        fi;
#else
        atomic {
            DRAINED;
            if
            :: head == h -> head = item; h = 0; ok = true
            :: else -> h = head
            fi
        };
#endif
        if
        :: ok ->
#ifndef RING_BEFORE_PUSH
            seen = LOAD(AWAKE);
#endif
            ring();
            ok = false;
            break
        :: else
        fi
    od
}

inline ring() {
    if
    :: seen
    :: else ->
#ifndef NO_WAKING
        atomic { DRAINED -> seen = mem[WAKING]; mem[WAKING] = 1 };
#endif
        if
        :: seen
        :: else ->
            atomic { fd++; writes++; assert(writes <= rouses + 1) }
        fi
    fi;
    seen = 0
}

proctype pusher(byte item) {
    byte h, seen;
    bool ok;
    push(item);
    item++;
    push(item)
}

inline rouse() {
    STORE_SC(AWAKE, 1);
    atomic {
        DRAINED;
#ifndef WAKING_STAYS
        mem[WAKING] = 0;
#endif
        rouses++
    }
}

inline doze() {
#ifdef NO_FENCE
    STORE(AWAKE, 0)
#else
    STORE_SC(AWAKE, 0);
    FENCE()
#endif
}

/* The whole stack, turned round, behind `first`. */
inline turn_round(stack) {
    d_step {
        t = stack;
        reversed = 0;
        do
        :: t == 0 -> break
        :: else ->
            n = older[t];
            older[t] = reversed;
            reversed = t;
            t = n
        od;
        stack = reversed;
        reversed = 0;
        n = 0
    }
}

inline run_one() {
    d_step {
        ran[first]++;
        done++;
        assert(ran[first] == 1 && (first % 2 == 1 || ran[first - 1] == 1));
        n = older[first];
        older[first] = 0;
        first = n;
        n = 0
    }
}

inline drain() {
    left = BUDGET;
    do
    :: left == 0 -> break
    :: left > 0 && first -> run_one(); left--
    :: left > 0 && !first ->
        if
        :: atomic { head == 0 || head == MARK -> skip }; break
        :: else ->
            atomic { DRAINED -> t = head; head = 0 };
            turn_round(t);
            first = t;
            t = 0
        fi
    od;
    left = 0
}

inline turn() {
    rouse();
    drain();
    doze();
#ifdef NO_SECOND_LOOK
    has = first != 0;
#else
    has = first != 0 || (head != 0 && head != MARK);
#endif
    if
    :: has -> rouse()
    :: else
    fi
}

inline close_inbox() {
    atomic {
        DRAINED;
        t = head;
#ifdef NO_MARK
        head = 0;
#else
        head = MARK;
#endif
        closed = true
    };
    turn_round(t);
    d_step {
        do
        :: first -> dropped[first]++; done++; n = older[first]; older[first] = 0; first = n
        :: !first && t -> first = t; t = 0
        :: !first && !t -> break
        od;
        n = 0
    }
}

proctype loop() {
    byte first, t, n, reversed, left;
    bool has;
    do
    :: done == ITEMS && !first && fd == 0 -> break /* nothing can come any more */
    :: true -> close_inbox(); break
    :: done < ITEMS || fd > 0 ->
        turn();
        /* A pass: the base sleeps on the fd, unless the tick is armed for at once. */
#ifdef EMPTY_LATE
        fd = 0;
#endif
        if
        :: fd > 0 -> fd = 0
        :: has
        :: !has && done == ITEMS && fd == 0 -> skip
        fi
    od;
    has = false
}

init {
    atomic {
        run pusher(1);
        run pusher(3);
        run loop()
    };
    _nr_pr == 2;
    d_step {
        byte i;
        for (i : 1 .. ITEMS) {
            assert(ran[i] + dropped[i] + refused[i] == 1)
        }
        assert(closed || ran[1] + ran[2] + ran[3] + ran[4] == ITEMS)
    }
}

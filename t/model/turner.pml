/* Who turns a loop to its end: lib/loop.c and lib/shutdown.c, for a loop of ferry_loop_new().
 *
 *     here            stands for
 *     runner          ferry_loop_run(), turn_until_done(), give_loop_back(), ferry__loop_unbind(): loop->thread, awaited
 *     asker           ferry_loop_shutdown() on another thread: spawn_shutdown(), await_elsewhere(): loop->awaited, thread
 *     serve           ferry__loop_serve(), take_loop(), turn_until_done()
 *
 * The thread that runs the loop comes to the end of its run while two others ask for a shutdown. A loop that nobody turns
 * runs nothing.
 *
 * What must hold: whoever asked comes back; the loop is turned by one thread at a time.
 *
 * control NO_FENCE asleep: thread = NULL may be seen after the look at awaited
 * control NO_LOOK_BACK asleep: the runner doesn't look at awaited when it has given the loop back
 * control AWAITED_LATE asleep: who asks looks at the thread before it counts itself as waiting
 * control NO_SERVE asleep: who asks doesn't turn a loop that nobody turns
 * control NO_AWAITED asleep: a run ends when its own task has ended, whoever waits for the shutdown
 * control TAKEN_PLAIN assertion: the loop is taken by a load and a store */

#define NOBODY 0

#define THREAD 0
#define CELLS 1
#define PROCS 5
#include "memory.pml"

byte awaited;
bool open = true;
bool down;
bool spawned[4], done[4]; /* by who asked, by its number */
byte closing; /* who runs the shutdown */
byte turning;

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    od
}

#ifdef NO_AWAITED
#define FOR_OTHERS false
#else
#define FOR_OTHERS (awaited > 0 && !down)
#endif

/* The loop's thread, until `mine` (the task of that number; 0: the shutdown) has ended. Of the tasks that were spawned the first
 * is the shutdown; a second one finds it under way. Before the loop is down, what was accepted is run (shutdown.pml). */
inline turn_until(mine) {
    atomic { turning++; assert(turning == 1) };
    do
    :: atomic { spawned[2] -> spawned[2] = false; start(2) }
    :: atomic { spawned[3] -> spawned[3] = false; start(3) }
    :: atomic { closing && !spawned[2] && !spawned[3] -> done[closing] = true; closing = 0; down = true }
    :: !FOR_OTHERS && ((mine) == 0 && down || (mine) != 0 && done[mine]) -> break
    od;
    turning--
}

inline start(who) {
    if
    :: open -> open = false; closing = who
    :: else -> done[who] = true
    fi
}

inline take_loop() {
#ifdef TAKEN_PLAIN
    ok = mem[THREAD] == NOBODY;
    if
    :: ok -> STORE_SC(THREAD, me)
    :: else
    fi
#else
    atomic {
        DRAINED;
        ok = mem[THREAD] == NOBODY && !down;
        if
        :: ok -> mem[THREAD] = me
        :: else
        fi
    }
#endif
}

/* give_loop_back() looks at awaited, ferry__loop_serve() doesn't: who serves counts, or comes from there. */
inline unbind() {
    STORE_RELEASE(THREAD, NOBODY)
}

inline serve(mine) {
    take_loop();
    if
    :: ok -> turn_until(mine); unbind()
    :: else
    fi;
    ok = false
}

proctype runner(byte me) {
    bool ok;
    done[1] = true; /* its task */
    turn_until(1);
    unbind();
#ifndef NO_FENCE
    FENCE();
#endif
#ifndef NO_LOOK_BACK
    if
    :: awaited > 0 && !down -> serve(0)
    :: else
    fi
#endif
}

proctype asker(byte me) {
    bool ok, nobody;
#ifdef AWAITED_LATE
    nobody = LOAD(THREAD) == NOBODY;
    atomic { DRAINED -> awaited++ };
#else
    atomic { DRAINED -> awaited++ };
#endif
    if
    :: atomic { open -> spawned[me] = true };
#ifndef AWAITED_LATE
        nobody = LOAD(THREAD) == NOBODY;
#endif
#ifndef NO_SERVE
        if
        :: nobody && !done[me] -> serve(me)
        :: else
        fi;
#endif
        done[me]
    :: !open /* refused */
    fi;
    atomic { DRAINED -> awaited-- }
}

init {
    atomic {
        mem[THREAD] = 1;
        run runner(1);
        run asker(2);
        run asker(3)
    };
    _nr_pr == 2;
    assert(awaited == 0)
}

/* A counting semaphore, first come first served: lib/semaphore.c.
 *
 *     here            stands for
 *     take            take(): sem->value, the line
 *     serve           serve(), ferry__line_head(): it looks at the first in line, and claims it then: a cancel may come between
 *     acquire         ferry_sem_acquire_for()
 *     releaser        ferry_sem_release()
 *
 * The first wants several permits, two others want one each; each may be cancelled while it waits. In one case there is
 * enough for all; in the other the first can't be served and is cancelled in the end.
 *
 * What must hold: all come back; permits aren't lost and don't multiply; nobody who comes later has one before those who wait;
 * one that was claimed keeps its permits.
 *
 * control NO_SERVE asleep: a cancelled waiter leaves, and doesn't serve those behind it
 * control UNCLAIMED assertion: permits are taken for a waiter that was cancelled between the look and the claim
 * control WAKES_ANYHOW assertion: a waiter that was cancelled between the look and the claim is woken
 * control NO_HEAD assertion: who comes takes permits without a look at the line
 * control LEAVES_UNLOCKED assertion: a cancelled waiter leaves without the lock of the line */

#define WAITERS 3
#include "line.pml"

byte wants[WAITERS];
byte permits;
byte to_release;
byte taken, released;

inline serve() {
    do
    :: atomic { nempty(line) -> line ? <w> };
        assert(!gone[w]);
        if
        :: !STILL(w) -> line ? eval(w)
        :: else ->
            if
            :: wants[w] > permits -> break
            :: else ->
                line ? eval(w);
                claim(w, won);
                if
                :: won -> permits = permits - wants[w]; wake_next[w] = true
                :: else ->
#ifdef UNCLAIMED
                    permits = permits - wants[w];
#endif
#ifdef WAKES_ANYHOW
                    wake_next[w] = true;
#endif
                    skip
                fi;
                won = false
            fi
        fi
    :: empty(line) -> break
    od;
    w = 0
}

inline wake_all() {
    if
    :: wake_next[0] -> wake_next[0] = false; wake(0)
    :: else
    fi;
    if
    :: wake_next[1] -> wake_next[1] = false; wake(1)
    :: else
    fi;
    if
    :: wake_next[2] -> wake_next[2] = false; wake(2)
    :: else
    fi
}

proctype acquirer(byte me) {
    byte w;
    bool won, wake_next[WAITERS];
    LOCK(lock);
    if
    :: permits >= wants[me] ->
#ifndef NO_HEAD
        do /* ferry__line_head() */
        :: atomic { nempty(line) -> line ? <w> };
            if
            :: !STILL(w) -> line ? eval(w)
            :: else -> break
            fi
        :: empty(line) -> break
        od;
#endif
        if
#ifdef NO_HEAD
        :: true ->
#else
        :: empty(line) ->
#endif
            assert(empty(line));
            permits = permits - wants[me];
            taken = taken + wants[me];
            UNLOCK(lock);
            goto served
        :: nempty(line)
        fi;
        w = 0
    :: else
    fi;
    line ! me;
    UNLOCK(lock);
    park(me);
    if
    :: outcome[me] == GRANTED -> gone[me] = true; taken = taken + wants[me]
    :: else ->
        leave_line(me);
        gone[me] = true;
#ifndef NO_SERVE
        LOCK(lock);
        serve();
        UNLOCK(lock);
        wake_all()
#endif
    fi;
served:
    skip
}

proctype releaser() {
    byte w;
    bool won, wake_next[WAITERS];
    do
    :: released == to_release -> break
    :: else ->
        LOCK(lock);
        permits++;
        released++;
        serve();
        UNLOCK(lock);
        wake_all()
    od
}

init {
    atomic {
        wants[1] = 1;
        wants[2] = 1;
        can_cancel[0] = true;
        if
        :: wants[0] = 2; to_release = 4
        :: wants[0] = 3; to_release = 2
        fi;
        if
        :: can_cancel[1] = true
        :: true
        fi;
        run acquirer(0);
        run acquirer(1);
        run acquirer(2);
        run releaser()
    };
    _nr_pr == 1;
    assert(taken + permits == released && empty(line))
}

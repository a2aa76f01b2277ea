/* A mutex that goes from owner to owner: lib/mutex.c.
 *
 *     here            stands for
 *     take, acquire   ferry_lock(), lock_slowly(), take(): mutex->owner, the line
 *     hand_over       hand_over(), ferry__line_claim()
 *     release         ferry_unlock()
 *
 * Three lock and unlock once; two of them may be cancelled while they wait. Who comes to the end last frees the mutex, while
 * the others may be on their way out of ferry_unlock().
 *
 * What must hold: one holds it at a time; everybody gets it or was cancelled; nobody who comes later has it before one who waits;
 * nobody touches a waiter, or the mutex, after it is gone.
 *
 * control NO_ASK asleep: who joins the line doesn't say so in the owner's word
 * control ASK_PLAIN asleep: the bit is set by a load and a store
 * control ASK_LOST asleep: a hand-over forgets the bit though there are more in line
 * control NO_CLAIM asleep: the mutex is handed to a waiter that couldn't be claimed
 * control FREE_AND_WAKE assertion: a release sets the mutex free and wakes the first in line
 * control ZERO_LOCKED assertion: with nobody in line, a release sets the mutex free under the inner lock
 * control LEAVES_UNLOCKED assertion: a cancelled waiter leaves without the lock of the line */

#define WAITERS 3
#include "line.pml"

#define ASK 1
#define WORD(who) (2 * ((who) + 1)) /* 0: free */

byte owner;
byte inside;
byte past;
bool freed;

inline touch() { assert(!freed) }

/* Taking a free mutex must not pass by those who wait. Who was handed it isn't waiting any more. */
#define NOBODY_WAITS \
    (!(line ?? [0] && STILL(0)) && !(line ?? [1] && STILL(1)) && !(line ?? [2] && STILL(2)))

inline swing(from, to) {
    atomic {
        touch();
        ok = owner == (from);
        if
        :: ok -> assert((from) >= 2 || NOBODY_WAITS); owner = to
        :: else
        fi
    }
}

inline acquire() {
    swing(0, WORD(me));
    if
    :: ok -> rc = GRANTED
    :: else ->
        touch();
        LOCK(lock);
        do /* take() */
        :: true ->
            word = owner;
            if
            :: word < 2 ->
                swing(word, WORD(me));
                if
                :: ok -> rc = GRANTED; break
                :: else
                fi
            :: word >= 2 && (word & ASK) -> break
            :: else ->
#ifdef NO_ASK
                break;
#endif
#ifdef ASK_PLAIN
                owner = word | ASK;
                break;
#endif
                swing(word, word | ASK);
                if
                :: ok -> break
                :: else
                fi
            fi
        od;
        if
        :: rc == GRANTED -> UNLOCK(lock)
        :: else ->
            line ! me;
            UNLOCK(lock);
            park(me);
            rc = outcome[me];
            if
            :: rc == CANCELED -> leave_line(me)
            :: else
            fi;
            gone[me] = true
        fi
    fi;
    word = 0;
    ok = false
}

inline hand_over(otherwise) {
    touch();
    LOCK(lock);
    do
    :: nempty(line) ->
        line ? w;
#ifdef NO_CLAIM
        ok = true;
        atomic { if :: STILL(w) -> outcome[w] = GRANTED :: else fi };
#else
        claim(w, ok);
#endif
        if
        :: ok -> break
        :: else
        fi
    :: empty(line) -> break
    od;
    if
#ifdef FREE_AND_WAKE
    :: ok -> owner = 0
#endif
#ifdef ASK_LOST
    :: ok -> owner = WORD(w)
#else
    :: ok -> owner = WORD(w) | (len(line) > 0 -> ASK : 0)
#endif
    :: else -> owner = otherwise
    fi;
    touch();
    UNLOCK(lock);
    touch();
    if
    :: ok && !gone[w] -> wake(w)
    :: else
    fi;
    w = 0
}

inline release() {
    do
    :: true ->
        swing(WORD(me), 0);
        if
        :: ok -> break
        :: else
        fi;
#ifdef ZERO_LOCKED
        hand_over(0);
        break;
#endif
        hand_over(WORD(me));
        if
        :: ok -> break
        :: else
        fi
    od;
    ok = false
}

proctype contender(byte me) {
    byte rc, word, w;
    bool ok;
    acquire();
    if
    :: rc == GRANTED ->
        atomic { inside++; assert(inside == 1) };
        inside--;
        past++;
        if
        :: past == WAITERS -> release(); freed = true
        :: else -> release()
        fi
    :: else ->
        atomic { past++; rc = past };
        if
        :: rc == WAITERS -> /* to free it one has to have had it */
            rc = 0;
            do
            :: atomic { owner == 0 -> freed = true; break }
            od
        :: else
        fi
    fi
}

init {
    atomic {
        can_cancel[0] = true;
        can_cancel[1] = true;
        run contender(0);
        run contender(1);
        run contender(2)
    };
    _nr_pr == 1;
    assert(freed && owner == 0 && empty(line))
}

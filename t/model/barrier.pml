/* A barrier: lib/barrier.c.
 *
 *     here            stands for
 *     sweep, let_go   sweep(), let_go(): barrier->waiting, the line, w->value; a cancel may come between sweep and claim
 *     caller          ferry_barrier_wait_for(), settled()
 *     abort           ferry_barrier_abort(), break_up()
 *
 * Four come to a barrier of three; two of them may be cancelled while they wait. When all have come, the barrier is broken,
 * for those who are left.
 *
 * What must hold: all come back; in each round that is complete as many go on as there are parties, or none, and none of them
 * had been cancelled before the last one came; nobody touches a waiter that has gone.
 *
 * control NO_SWEEP assertion: those whose wait has ended are counted
 * control NO_NUMBER assertion: a cancelled one fails although it has its number
 * control CLAIMED_ONLY assertion: only those get a number that could be claimed
 * control COUNTED_TWICE assertion: a cancelled one counts itself out although it isn't in line any more
 * control NO_WAKE asleep: those that were claimed aren't woken
 * control LEAVES_UNLOCKED assertion: a cancelled one leaves without the lock of the line */

#define WAITERS 4
#include "line.pml"

#define PARTIES 3
#define UNDECIDED 0
#define BROKEN 9

byte waiting;
byte value[WAITERS];
byte round_of[WAITERS];
byte round;   /* those that were complete */
byte went[3]; /* who has gone on, by round */
byte came;
bool counted_out[WAITERS]; /* its wait had ended before somebody came and completed the round */
bool broken;

inline sweep() {
    n = len(line);
    do
    :: n > 0 ->
        line ? w;
        assert(!gone[w]);
        if
        :: STILL(w) -> line ! w
        :: else -> waiting--
        fi;
        n--
    :: else -> break
    od;
    w = 0
}

inline let_go(error) {
    do
    :: nempty(line) ->
        line ? w;
        assert(!gone[w]);
#ifndef CLAIMED_ONLY
        n++;
        value[w] = (error -> error : n);
        round_of[w] = round;
#endif
        claim(w, won);
        if
        :: won ->
            wake_next[w] = true;
#ifdef CLAIMED_ONLY
            n++;
            value[w] = (error -> error : n);
            round_of[w] = round;
#endif
        :: else
        fi;
        won = false
    :: empty(line) -> break
    od;
    n = 0;
    w = 0;
    waiting = 0
}

inline wake_all() {
    do
    :: n < WAITERS ->
        if
        :: wake_next[n] ->
#ifndef NO_WAKE
            wake(n);
#endif
            wake_next[n] = false
        :: else
        fi;
        n++
    :: else -> break
    od;
    n = 0
}

proctype caller(byte me) {
    byte w, n;
    bool won, wake_next[WAITERS], ended[2];
    LOCK(lock);
    came++;
    if
    :: broken -> UNLOCK(lock)
    :: else ->
        d_step {
            ended[0] = outcome[0] == CANCELED;
            ended[1] = outcome[1] == CANCELED
        };
#ifndef NO_SWEEP
        if
        :: waiting >= PARTIES - 1 -> sweep()
        :: else
        fi;
#endif
        if
        :: waiting >= PARTIES - 1 ->
            d_step { round++; counted_out[0] = ended[0]; counted_out[1] = ended[1] };
            let_go(0);
            went[round]++;
            UNLOCK(lock);
            wake_all()
        :: else ->
            line ! me;
            waiting++;
            UNLOCK(lock);
            park(me);
            if
            :: outcome[me] == CANCELED ->
#ifndef LEAVES_UNLOCKED
                LOCK(lock);
#endif
                if
                :: line ?? [eval(me)] -> waiting--; line ?? eval(me)
                :: else ->
#ifdef COUNTED_TWICE
                    waiting--;
#endif
                    skip
                fi;
#ifndef LEAVES_UNLOCKED
                UNLOCK(lock);
#endif
#ifdef NO_NUMBER
                value[me] = UNDECIDED
#endif
            :: else
            fi;
            gone[me] = true;
            if
            :: value[me] != UNDECIDED && value[me] != BROKEN -> went[round_of[me]]++; assert(!counted_out[me])
            :: else
            fi
        fi
    fi
}

proctype abort() {
    byte w, n;
    bool won, wake_next[WAITERS];
    came == WAITERS;
    LOCK(lock);
    sweep();
    let_go(BROKEN);
    broken = true;
    UNLOCK(lock);
    wake_all()
}

init {
    atomic {
        can_cancel[0] = true;
        can_cancel[1] = true;
        run caller(0);
        run caller(1);
        run caller(2);
        run caller(3);
        run abort()
    };
    _nr_pr == 1;
    assert(round <= 1 && went[0] == 0 && went[1] == (round == 1 -> PARTIES : 0) && waiting == 0)
}

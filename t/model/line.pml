/* Waiting in the line of a primitive: lib/line.c, for the models of what stands on it. The wait itself is taken for right
 * (park-thread.pml): it is ended by a claim and the wake that follows, or by a cancel, by which ever comes first.
 *
 * The including model defines WAITERS before. Waiters are numbered from 0 on; the lock of the primitive is `lock`. */

#define WAITING 0
#define GRANTED 1
#define CANCELED 2

#define LOCK(l) atomic { l == 0 -> l = 1 }
#define UNLOCK(l) atomic { assert(l == 1); l = 0 }

bit lock;
chan line = [WAITERS] of { byte };
byte outcome[WAITERS];
bool woken[WAITERS];
bool gone[WAITERS];
bool can_cancel[WAITERS];

#define STILL(w) (outcome[w] == WAITING)

/* ferry__claim() */
inline claim(w, won) {
    atomic {
        assert(!gone[w]);
        won = STILL(w);
        if
        :: won -> outcome[w] = GRANTED
        :: else
        fi
    }
}

inline wake(w) {
    atomic { assert(!gone[w] && !woken[w]); woken[w] = true }
}

/* ferry__park() */
inline park(w) {
    do
    :: atomic { outcome[w] == GRANTED && woken[w] -> break }
    :: atomic { STILL(w) && can_cancel[w] -> outcome[w] = CANCELED; break }
    od
}

/* What ferry__line_wait() does after a wait that failed. */
inline leave_line(w) {
#ifndef LEAVES_UNLOCKED
    LOCK(lock);
#endif
    if
    :: line ?? [eval(w)] -> line ?? eval(w)
    :: else
    fi;
#ifndef LEAVES_UNLOCKED
    UNLOCK(lock)
#endif
}

/* A job's end, told at home: lib/future.c, lib/then.c, lib/job.c.
 *
 *     here            stands for
 *     worker          ferry__future_decide(), _decide_here(), ferry__job_finish_at_home(), and thread->client; or
 *                     ferry__future_complete(), ferry__job_send_home(), tell(): state, result, the list, telling, f->lock
 *     home            the loop's thread: ferry_then() with then_at_home(), observe_at_home(), ferry__future_ask_home(), remove_waiter(),
 *                     ferry__future_tell_home(), call_at_home(), tell_rest(); its inbox: items of the job and of callbacks
 *     elsewhere       ferry_then() for that loop from another thread: add_link(), go_abroad(), is_telling(), callback_due()
 *     observer        a thread that waits for the job: add_link(), go_abroad(); being granted and woken is one step (future.pml)
 *
 * Home adds two callbacks, the second one after the first or inside of it, and awaits the job, or leaves that wait as it is
 * cancelled. Once both were added another thread adds a third one. The loop is freed as soon as all is over at home and
 * the job is gone: the worker may still be on its way out.
 *
 * What must hold: every callback is called once, in the order in which they were added; both waits end; whoever sees that it is
 * done sees one result; nobody touches the handle after its last reference, nor a waiter that has left, nor the loop after it is gone.
 *
 * variant OPTIONED: somebody else may give the job up at the same time: who decides takes the lock
 *
 * control DONE_STORED asleep: the worker says that it is done by a load and a store
 * control HOME_STORED asleep: home says that it is to be told by a load and a store
 * control ABROAD_UNSAID asleep: who comes from elsewhere goes on the list and doesn't say so
 * control LATE_AT_ONCE assertion: a callback is due at once, though it is done and home hasn't called the first one
 * control LIST_FIRST assertion: the list is told before the job is sent home
 * control CALLS_LATE asleep: once the first callback was called home tells the list, and drops CALLS after that
 * control NO_ITEM_REF assertion: the job on its way home holds no reference, when the list is told elsewhere
 * control NO_CLIENT assertion: the worker doesn't hold the loop while it sends the job home
 * control GIVEN_TWICE assertion: home gives its reference to the awaiter, and back
 * control WAITER_STAYS assertion: who was cancelled leaves without taking its waiter out
 * control DECIDED_UNLOCKED+OPTIONED assertion: the worker decides without the lock, though the job may be given up */

#define DONE 1
#define AT_HOME 2
#define CALLS 4
#define ABROAD 8

#define LOCK(l) atomic { l == 0 -> l = 1 }
#define UNLOCK(l) atomic { assert(l == 1); l = 0 }

/* Items of the inbox: callbacks 1 and 2, one from elsewhere, the job */
#define THIRD 3
#define LEFT 4
#define SENT 5

bit lock;
byte state, result, refs;
bool telling, freed;
bool on_list[4];     /* callbacks */
bool observes, observed;
byte own;            /* the callback in the job's record */
chan inbox = [5] of { byte };
byte called, loop_refs;
bool loop_freed;
byte added;          /* callbacks */

inline touch() { assert(!freed) }

inline loop_unref() {
    atomic { assert(!loop_freed && loop_refs > 0); loop_refs--; loop_freed = loop_refs == 0 }
}

inline unref(n) {
    atomic {
        assert(!freed && refs >= n);
        refs = refs - n;
        if
        :: refs == 0 -> freed = true; loop_refs--; loop_freed = loop_refs == 0 /* the job's */
        :: else
        fi
    }
}

inline send(item) { atomic { assert(!loop_freed); inbox!item } }

/* ---- The list */

/* With the lock, which it drops. */
inline tell() {
    do
    :: true ->
        atomic { /* under the lock */
            touch();
            due[1] = on_list[1];
            due[2] = on_list[2];
            due[3] = on_list[3];
            on_list[1] = false;
            on_list[2] = false;
            on_list[3] = false;
            if
            :: observes -> observes = false; observed = true
            :: else
            fi;
            telling = due[1] || due[2] || due[3];
            again = telling
        }
        UNLOCK(lock);
        if
        :: due[1] -> send(1)
        :: else
        fi;
        if
        :: due[2] -> send(2)
        :: else
        fi;
        if
        :: due[3] -> send(3)
        :: else
        fi;
        if
        :: again
        :: else -> break
        fi;
        LOCK(lock)
    od
}

/* With the lock. */
inline go_abroad() {
    touch();
#ifdef ABROAD_UNSAID
    in_time = !(state & DONE)
#else
    s = state;
    do
    :: s & DONE -> in_time = false; break
    :: !(s & DONE) && (s & ABROAD) -> in_time = true; break
    :: else ->
        atomic {
            if
            :: state == s -> state = s | ABROAD; in_time = true; s = 0; break
            :: else -> s = state
            fi
        }
    od;
    s = 0
#endif
}

inline add_callback(c) {
    atomic { touch(); refs++ };
    LOCK(lock);
    go_abroad();
#ifndef LATE_AT_ONCE
    if
    :: telling || (state & (CALLS | ABROAD)) == CALLS -> in_time = true
    :: else
    fi;
#else
    if
    :: telling -> in_time = true
    :: else
    fi;
#endif
    if
    :: in_time -> in_time = false; on_list[c] = true; UNLOCK(lock)
    :: else -> UNLOCK(lock); send(c)
    fi
}

/* ---- The job's thread */

inline decide_result(by) { atomic { assert(!(state & DONE)); result = by } }

inline complete(by) {
    LOCK(lock);
    touch();
    if
    :: state & DONE -> UNLOCK(lock)
    :: else ->
        decide_result(by);
        telling = true;
        atomic { s = state; state = s | DONE | ABROAD };
        if
        :: s & AT_HOME ->
#ifdef LIST_FIRST
            tell();
#else
            UNLOCK(lock);
#endif
#ifndef NO_ITEM_REF
            atomic { touch(); refs++ };
#endif
            send(SENT);
            assert(!loop_freed); /* the bell */
#ifndef LIST_FIRST
            LOCK(lock);
            tell()
#endif
        :: else -> tell()
        fi;
        s = 0
    fi
}

proctype worker() {
    byte s;
    bool due[4], again, decided;
    touch();
#ifdef OPTIONED
#ifndef DECIDED_UNLOCKED
    LOCK(lock);
#endif
#endif
    s = state;
    if
    :: s & (DONE | ABROAD) -> skip
    :: else ->
        decide_result(1);
        do
        :: true ->
#ifdef DONE_STORED
            state = s | DONE;
            decided = true;
            break
#else
            atomic {
                if
                :: state == s -> state = s | DONE; decided = true; break
                :: else -> s = state
                fi
            };
            if
            :: s & ABROAD -> break
            :: else
            fi
#endif
        od
    fi;
#ifdef OPTIONED
#ifndef DECIDED_UNLOCKED
    UNLOCK(lock);
#endif
#endif
    if
    :: decided && (s & AT_HOME) ->
        s = 0;
        send(LEFT);
        assert(!loop_freed) /* the bell */
    :: decided && !(s & AT_HOME) -> s = 0; unref(1)
    :: else -> s = 0; complete(1); unref(1)
    fi;
#ifndef NO_CLIENT
    loop_unref()
#endif
}

#ifdef OPTIONED
proctype gives_up() {
    byte s;
    bool due[4], again;
    complete(2);
    unref(1)
}
#endif

/* ---- The loop's thread */

inline ask_home(bits, refusing) {
    touch();
#ifdef HOME_STORED
    s = state;
    if
    :: s & (refusing) -> said = false
    :: else -> state = s | bits; said = true
    fi;
#else
    s = state;
    do
    :: s & (refusing) -> said = false; break
    :: !(s & (refusing)) && (s & (bits)) == (bits) -> said = true; break
    :: else ->
        atomic {
            if
            :: state == s -> state = s | bits; said = true; break
            :: else -> s = state
            fi
        }
    od;
#endif
    s = 0
}

inline then(c) {
    assert(added == c - 1);
    touch();
    said = false;
    if
    :: !(state & CALLS) -> ask_home(AT_HOME | CALLS, DONE | ABROAD)
    :: else
    fi;
    if
    :: said -> said = false; own = c
    :: else -> add_callback(c)
    fi;
    added = c
}

/* The callback may add the second one. */
inline call(c) {
    assert(called == c - 1 && (state & DONE) && result);
    called = c;
    if
    :: added == 1 -> then(2); unref(1)
    :: true
    fi
}

inline tell_rest() {
    LOCK(lock);
    if
    :: !(state & ABROAD) ->
#ifndef CALLS_LATE
        state = state & ~CALLS;
#endif
        telling = true;
        tell();
#ifdef CALLS_LATE
        state = state & ~CALLS
#endif
    :: else -> UNLOCK(lock)
    fi
}

inline tell_home() {
    touch();
    calls = (state & CALLS) != 0;
    all = false;
    if
    :: listed ->
        assert(waiting);
        listed = false;
        if
        :: !granted ->
            granted = true;
            if
            :: !calls -> all = true; mine = 2
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    if
    :: calls -> calls = false;
        call(own);
        if
        :: refs != 1 -> tell_rest()
        :: else
        fi
    :: else
    fi;
    if
#ifndef GIVEN_TWICE
    :: all -> all = false
#endif
    :: else -> unref(1)
    fi
}

inline leave_wait() {
#ifndef WAITER_STAYS
    if
    :: listed ->
        listed = false;
        if
        :: !(state & (CALLS | DONE)) -> atomic { state = state & ~AT_HOME }
        :: else
        fi
    :: else
    fi;
#endif
    waiting = false
}

proctype home() {
    byte s, item;
    byte mine = 1;      /* references that the awaiter gives back */
    bool due[4], again, in_time, said, calls, all;
    bool began, waiting, listed, granted, awaited;
    do
    :: added == 0 -> then(1)
    :: added == 1 -> then(2); unref(1) /* that with which it adds callbacks */
    :: !began ->
        began = true;
        touch();
        if
        :: state & DONE -> assert(result); unref(1); awaited = true
        :: !(state & DONE) && !(state & ABROAD) ->
            listed = true;
            ask_home(AT_HOME, DONE);
            waiting = said;
            if
            :: said -> said = false
            :: else -> listed = false; assert((state & DONE) && result); unref(1); awaited = true
            fi
        :: else -> unref(1); awaited = true /* waits on the list: the observer */
        fi
    :: waiting && granted -> assert((state & DONE) && result); waiting = false; unref(mine); mine = 0; awaited = true
    :: waiting && !granted -> leave_wait(); unref(1); awaited = true
    :: inbox?item ->
        if
        :: item >= LEFT -> item = 0; tell_home()
        :: else -> call(item); item = 0; unref(1)
        fi
    :: called == 3 && awaited && empty(inbox) && freed -> break
    od;
    loop_unref()
}

/* ---- Other threads */

proctype elsewhere() {
    byte s;
    bool in_time;
    added == 2;
    add_callback(3);
    unref(1)
}

proctype observer() {
    byte s;
    bool in_time;
    LOCK(lock);
    go_abroad();
    if
    :: in_time -> observes = true; UNLOCK(lock); observed
    :: else -> UNLOCK(lock)
    fi;
    touch();
    assert((state & DONE) && result);
    unref(1)
}

init {
    atomic {
        loop_refs = 2; /* the user's, the job's */
#ifndef NO_CLIENT
        loop_refs = 3;
#endif
        refs = 5;
#ifdef OPTIONED
        run gives_up(); /* in place of the observer: more would take too long */
#else
        run observer();
#endif
        run worker();
        run home();
        run elsewhere()
    };
    _nr_pr == 1;
    assert(freed && refs == 0 && called == 3 && loop_freed)
}

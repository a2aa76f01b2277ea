/* A task that parks, and is woken through its loop's inbox: lib/park.c and lib/task.c, with the line of lib/semaphore.c.
 *
 *     here            stands for
 *     acquire, park   ferry_sem_acquire_for(), ferry__line_wait(), park_task(), ferry__task_suspend()
 *     poke, look      ferry__poke(), ferry__scope_look(): ctx->asked, root.request, w->outcome, task->state
 *     turn            a turn of the loop: wake_run(), kick_run(), fire_timers()
 *     granter         ferry_sem_release(), ferry__claim(), ferry__wake(), ferry__task_ready(): w->pinned, loop->refs, wake_item
 *     neighbour       the same on the loop's own thread, where a grant is a store
 *     send_kick       ferry__ctx_kick(), send_kick(): ctx->asked, task->kicked, future.refs, kick_item
 *     loop            entry(), reap(), close_inbox(), ferry_loop_free(), ferry__loop_unref(), ferry__task_destroy()
 *
 * The inbox is taken for right (inbox.pml): an item that was put is run, or dropped at the close. What is of interest is that a
 * put goes on to touch the loop after the item is in.
 *
 * A task acquires twice, and may yield in between; then it ends and its loop is freed. The first time may have a time-out; else
 * the second one may begin without ferry__enter(), as in shutdown.c. Either somebody releases once, somebody cancels the
 * task by its handle, and somebody else kicks it for nothing (a scope that is out of sight, say); or two permits
 * are released, the second one perhaps by a task of the same loop.
 *
 * What must hold: the task ends; permits aren't lost and don't multiply; once the cancel is through, the next acquire fails with
 * it; a parked task is made ready once; no item is put twice; nobody touches waiter, task or loop after it has gone.
 *
 * control PARK_NO_LOOK asleep: a park doesn't look at asked
 * control KICKED_LATE asleep: kicked is cleared after the look, not before
 * control KICK_FIRST asleep: a cancel kicks before it sets the request
 * control NO_PIN assertion: the waker doesn't hold the loop
 * control KICK_NO_REF assertion: a kick on its way holds no reference on the task
 * control NO_KICKED assertion: each kick puts the item
 * control READY_ANYHOW assertion: a poke makes the task ready without having decided the outcome
 * control NO_STATE assertion: a poke makes the task ready also when it runs
 * control LEAVES_UNLOCKED assertion: a cancelled waiter leaves without the lock of the line
 * control DECIDE_PLAIN assertion: the outcome is written by a load and a store */

#define WAITING 0
#define GRANTED 1
#define CANCELED 2
#define TIMEDOUT 3

/* All of this is locked, sequentially consistent or the loop's own: there is nothing to be buffered. */
#define DRAINED true
#define LOCK(l) atomic { l == 0 -> l = 1 }
#define UNLOCK(l) atomic { assert(l == 1); l = 0 }

byte outcome[2];
bool gone[2];
byte line;
bit line_lock;
byte permits;
byte parked;      /* ctx->parked: the waiter, from 1 on; loop's thread */
bool state_parked; /* task->state: parked, or running; loop's thread */
bool ready;       /* it stands in the ready line; loop's thread */
bool armed;       /* its timer; loop's thread */
bool ended;
bool asked;
bool kicked;
bool request;
bool told;
bool wake_in, kick_in; /* items in the inbox */
bool closed;
byte task_refs, loop_refs;
bool task_freed, loop_freed;
bool timed, cancels, enters, late;
byte taken, released, to_release;
bool neighbour;

inline touch_loop() { assert(!loop_freed) }
inline touch_task() { assert(!task_freed) }
inline touch(w) { assert(!gone[w]) }

inline loop_unref() {
    atomic {
        DRAINED;
        assert(!loop_freed && loop_refs > 0);
        loop_refs--;
        if
        :: loop_refs == 0 -> loop_freed = true
        :: else
        fi
    }
}

inline task_unref() {
    atomic { DRAINED -> assert(!task_freed && task_refs > 0); task_refs--; last = task_refs == 0; task_freed = last };
    if
    :: last -> last = false; loop_unref()
    :: else
    fi
}

inline decide(w, what) {
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

inline make_ready() {
    atomic { assert(!ready && !task_freed); ready = true }
}

inline look() {
    atomic { DRAINED -> asked = false };
    cancelled = request;
    if
    :: cancelled -> atomic { DRAINED -> asked = true }
    :: else
    fi
}

#define DUE (armed && late)

inline poke() {
    look();
    if
    :: parked && (cancelled || DUE) ->
        decide(parked - 1, (cancelled -> CANCELED : TIMEDOUT));
#ifdef READY_ANYHOW
        won = true;
#endif
        if
#ifdef NO_STATE
        :: won -> make_ready()
#else
        :: won && state_parked -> make_ready()
        :: won && !state_parked
#endif
        :: !won -> armed = false
        fi;
        won = false
    :: else
    fi;
    cancelled = false
}

/* One thing that the loop does while the task is parked, or after it has ended. */
inline turn() {
    if
    :: atomic { wake_in -> wake_in = false }; make_ready()
    :: atomic { kick_in -> kick_in = false };
        touch_task();
#ifndef KICKED_LATE
        atomic { DRAINED -> kicked = false };
#endif
        if
        :: ended
        :: else -> poke()
        fi;
#ifdef KICKED_LATE
        atomic { DRAINED -> kicked = false };
#endif
#ifndef KICK_NO_REF
        task_unref()
#endif
    :: atomic { neighbour -> neighbour = false };
        LOCK(line_lock);
        w = line;
        if
        :: w ->
            line = 0;
            touch(w - 1);
            won = outcome[w - 1] == WAITING;
            if
            :: won -> outcome[w - 1] = GRANTED
            :: else
            fi
        :: else
        fi;
        if
        :: won
        :: else -> permits++
        fi;
        released++;
        UNLOCK(line_lock);
        if
        :: won -> make_ready(); won = false
        :: else
        fi;
        w = 0
    :: DUE && state_parked -> armed = false; look();
        decide(parked - 1, (cancelled -> CANCELED : TIMEDOUT));
        cancelled = false;
        if
        :: won -> won = false; make_ready()
        :: else
        fi
    fi
}

inline suspend() {
    state_parked = true;
    do
    :: ready -> break
    :: turn()
    od;
    ready = false;
    state_parked = false
}

inline park(k) {
    parked = k + 1;
    armed = k == 0 && timed;
#ifndef PARK_NO_LOOK
    if
    :: asked || DUE -> poke()
    :: else
    fi;
#endif
    rc = outcome[k];
    if
    :: rc == CANCELED || rc == TIMEDOUT
    :: else -> suspend(); rc = outcome[k]
    fi;
    armed = false;
    parked = 0;
    assert(rc != WAITING)
}

inline acquire(k) {
    must_fail = told && (k == 0 || enters);
    if
    :: asked && (k == 0 || enters) -> look()
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

proctype loop() {
    byte rc, w;
    bool cancelled, won, must_fail, last;
    acquire(0);
    do /* a yield: not parked, and the loop turns */
    :: kick_in || neighbour -> turn()
    :: true -> break
    od;
    acquire(1);
    ended = true;
    task_unref(); /* the running side's */
    do
    :: wake_in || kick_in -> turn()
    :: true -> break
    od;
    atomic { DRAINED -> closed = true; last = kick_in; kick_in = false; assert(!wake_in) };
    if
    :: last -> last = false; touch_task();
#ifndef KICK_NO_REF
        task_unref()
#endif
    :: else
    fi;
    loop_unref() /* the user's */
}

proctype granter() {
    byte w;
    bool won;
    do
    :: to_release == 0 -> break
    :: else ->
        LOCK(line_lock);
        w = line;
        if
        :: w ->
            touch(w - 1);
            line = 0;
#ifndef NO_PIN
            atomic { touch_loop(); loop_refs++ };
#endif
            decide(w - 1, GRANTED);
            if
            :: won
            :: else ->
#ifndef NO_PIN
                loop_unref()
#endif
            fi
        :: else
        fi;
        if
        :: won
        :: else -> permits++
        fi;
        released++;
        to_release--;
        UNLOCK(line_lock);
        if
        :: won ->
            touch(w - 1);
            touch_task();
            atomic { DRAINED -> assert(!wake_in && !closed); wake_in = true };
            touch_loop(); /* ring() */
#ifndef NO_PIN
            loop_unref()
#endif
        :: else
        fi;
        w = 0;
        won = false
    od
}

inline send_kick() {
    touch_task();
    atomic { DRAINED -> asked = true };
    atomic {
        DRAINED;
        last = kicked;
        kicked = true
    };
#ifdef NO_KICKED
    last = false;
#endif
    if
    :: last -> last = false
    :: else ->
#ifndef KICK_NO_REF
        task_refs++;
#endif
        atomic {
            DRAINED;
            last = closed;
            if
            :: !closed -> assert(!kick_in); kick_in = true
            :: else
            fi
        };
        if
        :: last ->
            last = false;
#ifndef KICK_NO_REF
            task_unref()
#endif
        :: else -> touch_loop()
        fi
    fi
}

/* Each holds a reference on the task's handle. */
proctype canceller() {
    bool last;
    if
    :: !ended ->
#ifdef KICK_FIRST
        send_kick();
        atomic { DRAINED -> request = true };
#else
        atomic { DRAINED -> request = true };
        send_kick();
#endif
        told = true
    :: ended
    fi;
    task_unref()
}

proctype bystander() {
    bool last;
    send_kick();
    task_unref()
}

proctype clock() {
    late = true
}

init {
    atomic {
        task_refs = 2;
        loop_refs = 2; /* the user's, and the task's */
        if
        :: cancels = true; to_release = 1; task_refs++; run loop(); run granter(); run bystander(); run canceller()
        :: cancels = false; to_release = 2; task_refs--; run loop(); run granter()
        :: cancels = false; to_release = 1; task_refs--; neighbour = true; run loop(); run granter()
        fi;
        if
        :: timed = true; enters = true; run clock()
        :: timed = false; enters = true
        :: timed = false; enters = false
        fi
    };
    _nr_pr == 1;
    assert(taken + permits == released && line == 0 && task_freed && loop_freed)
}

/* A job is taken, runs, and is cancelled: lib/job.c.
 *
 *     here            stands for
 *     worker          look() of lib/threads.c, ferry__job_run(), no_more_hooks(), ferry__job_finish(): job->state, runner,
 *                     hook_busy
 *     fn              the job's function. It may end by itself, or only when it is told to: by its flag (ferry_checkpoint(),
 *                     or the kick of its thread that makes a wait look), or by the interrupt hook
 *     canceller       ferry__job_cancel(), tell(): job->request, state, runner, hook_busy
 *     await           ferry_await(): consumes the handle
 *     unref           ferry__future_unref()
 *
 * Two cancel the job. They came by a handle that is good when they begin, and may be consumed then. The inner locks are the
 * executor's (of the line) and hook_lock.
 *
 * What must hold: either a canceller takes the job, which never runs then, or the worker does, and a job that has begun is told:
 * it sees its request or gets the kick and the hook; the hook runs once at most, and never after fn's end; nobody touches the job
 * after its last reference; the executor counts it as delivered once.
 *
 * variant PLAIN: a job without a hook, which is told by its flag and, when it sleeps, by a kick: its thread sets the runner when fn is
 * about to sleep
 *
 * control SLEEP_UNSEEN+PLAIN asleep: it sleeps without a look at the request after that
 * control SLEEP_UNSET+PLAIN asleep: it sleeps without setting the runner
 * control LOOK_FIRST asleep: the worker looks at the request before it sets the runner
 * control RUNNER_RELAXED asleep: the runner may be seen after the look at the request
 * control REQUEST_LATE asleep: a cancel sets the request after it has looked for the runner
 * control WAKE_FIRST asleep: the end of the hook wakes before it clears hook_busy
 * control NO_HOOK_WAIT assertion: the worker doesn't wait for a hook that runs
 * control BUSY_LATE assertion: hook_busy is set after hook_lock was dropped
 * control NO_MARK assertion: who tells the job doesn't mark the runner
 * control OUT_PLAIN assertion: the worker takes itself out by a load and a store
 * control TAKEN_UNLOCKED assertion: job->state is read before the executor's lock is taken, and not again
 * control NO_CANCEL_REF assertion: a cancel holds no reference */

#define QUEUED 1
#define TAKEN 2

#define RUN 1 /* the thread, in runner */
#define TOLD 2

#define HOOK_BUSY 0
#define RUNNER 1
#define CELLS 2
#define PROCS 6
#include "memory.pml"

bit lock, hook_lock;
byte state = QUEUED;
bool request;
bool kicked;      /* the thread's word was counted up */
bool interrupted; /* the hook has been called */
bool asleep;      /* the worker, on hook_busy */
bool stubborn;    /* fn ends only when it is told */
byte began, hooks, finished;
bool over, done, freed;
byte refs, entered;

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    od
}

inline touch() { assert(!freed) }

inline unref() {
    atomic { DRAINED -> assert(!freed && refs > 0); refs--; freed = refs == 0 }
}

inline finish() {
    atomic { DRAINED -> touch(); assert(!done); done = true; finished++ };
    unref()
}

inline take() {
#ifdef TAKEN_UNLOCKED
    mine = state == QUEUED;
    LOCK(lock);
#else
    LOCK(lock);
    mine = state == QUEUED;
#endif
    touch();
    if
    :: mine -> state = TAKEN
    :: else
    fi;
    UNLOCK(lock)
}

proctype worker() {
    bool mine;
    /* The line held the job, and with it the running side's reference. When a cancel has taken it out, the worker finds none. */
    LOCK(lock);
    mine = state == QUEUED;
#ifdef TAKEN_UNLOCKED
    UNLOCK(lock);
    LOCK(lock);
#endif
    if
    :: mine -> state = TAKEN; UNLOCK(lock)
    :: else -> UNLOCK(lock); goto nothing
    fi;
#ifdef LOOK_FIRST
    mine = !request;
#endif
#ifdef RUNNER_RELAXED
    STORE(RUNNER, RUN);
#else
#ifndef PLAIN
    STORE_SC(RUNNER, RUN);
#endif
#endif
#ifndef LOOK_FIRST
    mine = !request;
#endif
    if
    :: mine ->
        began++;
        if
        :: !stubborn
#ifdef PLAIN
        :: stubborn ->
#ifndef SLEEP_UNSET
            STORE_SC(RUNNER, RUN);
#endif
            if
#ifndef SLEEP_UNSEEN
            :: request
            :: !request -> kicked && request
#else
            :: kicked && request
#endif
            fi
#else
        :: kicked && request /* the kick makes it look */
        :: interrupted
#endif
        fi
    :: else
    fi;
#ifdef PLAIN
    if
    :: LOAD(RUNNER) == 0 -> goto out
    :: else
    fi;
#endif
#ifdef OUT_PLAIN
    mine = LOAD(RUNNER) == RUN;
    if
    :: mine -> STORE_SC(RUNNER, 0)
    :: else
    fi;
#else
    atomic {
        DRAINED;
        mine = mem[RUNNER] == RUN;
        if
        :: mine -> mem[RUNNER] = 0
        :: else
        fi
    };
#endif
    if
    :: mine -> goto out /* nobody has told it, and nobody will */
    :: else
    fi;
    LOCK(hook_lock);
    UNLOCK(hook_lock);
#ifndef NO_HOOK_WAIT
    do
    :: LOAD(HOOK_BUSY) ->
        atomic {
            if
            :: mem[HOOK_BUSY] -> asleep = true
            :: else
            fi
        };
        !asleep
    :: else -> break
    od;
#endif
out:
    over = true;
    finish();
nothing:
    skip
}

inline tell() {
    LOCK(hook_lock);
    touch();
    atomic {
        DRAINED;
        mine = mem[RUNNER] == RUN;
#ifndef NO_MARK
        if
        :: mine -> mem[RUNNER] = RUN | TOLD
        :: else
        fi
#endif
    };
    if
    :: mine ->
        assert(!over);
        kicked = true;
#if !defined(BUSY_LATE) && !defined(PLAIN)
        STORE(HOOK_BUSY, 1)
#endif
    :: else
    fi;
    UNLOCK(hook_lock);
#ifndef PLAIN
    if
    :: mine ->
#ifdef BUSY_LATE
        STORE(HOOK_BUSY, 1);
#endif
        atomic { assert(!over); hooks++; interrupted = true };
        assert(hooks == 1 && !over); /* it takes its time */
#ifdef WAKE_FIRST
        asleep = false;
#endif
        STORE_RELEASE(HOOK_BUSY, 0);
        touch();
#ifndef WAKE_FIRST
        FENCE(); /* the system call's own */
        asleep = false
#endif
    :: else
    fi
#endif
}

proctype canceller() {
    bool mine;
    atomic {
        DRAINED;
        touch();
        entered++;
#ifndef NO_CANCEL_REF
        refs++
#endif
    };
#ifndef REQUEST_LATE
    atomic { DRAINED -> touch(); request = true };
#endif
    take();
    if
    :: mine -> assert(!began); finish(); assert(!began)
    :: else -> tell()
    fi;
#ifdef REQUEST_LATE
    atomic { DRAINED -> touch(); request = true };
#endif
#ifndef NO_CANCEL_REF
    unref()
#endif
}

proctype await() {
    done && entered == 2;
    unref()
}

init {
    atomic {
        refs = 2; /* the user's, and the running side's */
        if
        :: stubborn = true
        :: stubborn = false
        fi;
        run canceller();
        run canceller();
        run worker();
        run await()
    };
    _nr_pr == 2;
    assert(finished == 1 && freed)
}

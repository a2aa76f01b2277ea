/* A pool of threads: lib/threads.c, lib/idle.c and the door of lib/executor.c and submit.c.
 *
 *     here            stands for
 *     submit          leave_at_door(), submit(): executor->in_first and the door's line, wanted, wait_first
 *     look, settle    look_locked(), ferry__threads_settle(), rest(), ferry__executor_gather(): executor->first and its line, wanted, searching
 *     rouse           ferry__pool_rouse(): pool->searching, idle, threads
 *     wants           ferry__pool_wants()
 *     BOTH, unlock_both  ferry__executor_lock(), ferry__executor_unlock()
 *     after           ferry__executor_after(), ferry__pool_wake(), ferry__pool_start(): worker->called
 *     spin, nap       spin(), nap(): pool->spinner, napper, busy; take_call(), lock_if_idle(), unlock_settled()
 *     sleep           ferry__idle_wait(): worker->called, the futex
 *     end_loudly      run(), go_on(), ferry__job_finish()
 *     leave           leave(): pool->threads, leaving; ferry__executor_check_end()
 *     cancel          ferry__job_cancel() of a job in the line: job->state, executor->delivering
 *     stop            ferry_executor_close(), ferry__pool_closed(), wait_for_end()
 *
 * What happens under both locks is one step here: nothing that others do at the same time can be seen inside. Under `lock`
 * alone others come and go at the door, so there each look at it is a step of its own. Taken for chance: whether spinning
 * and napping pay, how long they last, whether the end of a job is loud (may call out), and whether a submitter who may call a
 * thread a little later (SOON) calls at once or never: the napper has to be enough.
 *
 * Two submitters hand in three jobs; two threads at most. A thread may lose patience, once in all or never. Job 1 ends only when
 * job 2 has begun: so it won't do that 2 is run some time, it must be run while another thread is there for it, or may be made.
 *
 * What must hold: each job is run once, or cancelled, or refused; none is left behind with all threads asleep; there are never
 * more threads than may be, nor fewer than are to stay, and none is left after a stop.
 *
 * variant STOP: somebody closes the pool meanwhile and waits for its end; two jobs
 * variant CANCEL: the same, and somebody cancels one of the jobs; nobody spins or naps
 * variant BLOCK: one thread; job 1 waits for job 2 as for a handle, so that the pool may grow
 * variant FULL: one thread, and a place for one in the queue: who submits may have to wait for it
 *
 * control NO_GATHER asleep: wanted becomes true without a look at the door behind it
 * control GATHER_FIRST asleep: wanted becomes true after the look at the door
 * control PEEK asleep: the look at the door behind wanted = true doesn't take its lock
 * control READ_FIRST asleep: a submitter reads wanted before it has left its job
 * control NO_BATON asleep: who takes a job calls nobody for the next one
 * control NO_LAST_LOOK asleep: a thread that leaves doesn't look at the line again
 * control SLEEP_PLAIN asleep: a thread writes that it is asleep without a look whether it was called
 * control CALL_PLAIN asleep: who calls a thread looks whether it sleeps before it writes that it is called
 * control NO_LEAVING assertion: a thread may leave though another one does already
 * control SPIN_UNSETTLED asleep: who has spun in vain drops the lock without settling
 * control SPINS_AND_SLEEPS asleep: who has spun in vain stays down as the spinner
 * control NAP_UNSETTLED asleep: the end of a nap drops the lock without settling
 * control SOON_ASLEEP asleep: a submitter may leave the call for later though nobody naps
 * control NO_CALL+STOP asleep: a close doesn't call the idle threads
 * control NO_CHECK_END+STOP asleep: a thread that leaves doesn't tell who waits for the end
 * control NO_DELIVERING+CANCEL assertion: a cancelled job isn't counted until its handle is done
 * control TAKEN_UNLOCKED+CANCEL assertion: a cancel looks at the job's state without the locks
 * control NO_GROW+BLOCK asleep: a thread whose job waits calls nobody in its place
 * control NO_ADMIT+FULL asleep: who takes a job doesn't give its place away */

#define JOBS 3
#define SLOTS 3 /* for threads; one more than there may be: one is on its way out while another is made */

#if defined(STOP) || defined(CANCEL)
#define TWO_JOBS
#endif

#if defined(BLOCK) || defined(FULL)
#define THREADS_MAX 1
#else
#define THREADS_MAX 2
#endif
#define THREADS_MIN 1
#ifdef NO_LEAVING
#define BORED 2
#else
#define BORED 1
#endif

#define WAITING 0
#define QUEUED 1
#define TAKEN 2

#define NOT_CALLED 0
#define CALLED 1
#define ASLEEP 2

#define LOOK 0
#define BUSY 1
#define IDLE 2
#define LEAVE 3

#define WANTED 0
#define CELLS 1
#define PROCS 5 /* none but the threads store what isn't seen at once: wanted */
#include "memory.pml"

bit lock, in_lock;
chan door = [JOBS] of { byte };
chan line = [JOBS] of { byte };
chan wait_first = [2] of { byte }; /* submitters' jobs */
bool admitted[JOBS + 1];
bool closed;
byte state[JOBS + 1];
byte ran[JOBS + 1], cancelled[JOBS + 1], refused[JOBS + 1];
bool done[JOBS + 1];
byte threads, leaving, blocked, delivering;
bool searching;
bool idle[SLOTS], searches[SLOTS], made[SLOTS];
byte called[SLOTS];
bool in_kernel[SLOTS];
byte bored;
byte spinner, napper; /* from 1 on */
byte busy;
byte left;
bool stopping, stopped; /* who waits for the end */

active proctype memory() {
end:
    do
    WRITES_OF(2)
    WRITES_OF(3)
    WRITES_OF(4)
    od
}

#define BOTH (lock == 0 && in_lock == 0)
#define LIMIT (THREADS_MAX + blocked)
#define ANY_IDLE (idle[0] || idle[1] || idle[2])
#define OTHERS_WORK (busy > 0 || spinner)
#define NAPS (napper && OTHERS_WORK)
#define NOBODY 0
#define SOMEBODY 1
#define SOON 2
#ifdef SOON_ASLEEP
#define COMES (napper || ANY_IDLE)
#else
#define COMES napper
#endif
#define WANTS (searching || spinner || NAPS -> NOBODY : (COMES -> SOON : (ANY_IDLE || threads < LIMIT -> SOMEBODY : NOBODY)))

/* All of these are parts of a step. */
inline empty_door() {
    do
    :: len(door) > 0 -> door ? j; line ! j
    :: else -> break
    od;
    j = 0
}

inline idle_remove(w) {
    idle[w] = false;
    spinner = (spinner == w + 1 -> 0 : spinner);
    napper = (napper == w + 1 -> 0 : napper)
}

inline call(w) {
    idle_remove(w);
    searches[w] = true;
    searching = true;
    wake = w + 1
}

inline rouse() {
    if
    :: searching || len(line) == 0 || wake || start || NAPS
    :: else ->
        if
        :: idle[0] -> call(0)
        :: idle[1] -> call(1)
        :: idle[2] -> call(2)
        :: !ANY_IDLE && threads < LIMIT -> searching = true; threads++; start = true
        :: !ANY_IDLE && threads >= LIMIT
        fi
    fi;
    assert(threads <= THREADS_MAX + 1)
}

inline unlock_both() {
    mem[WANTED] = WANTS
}

inline admit() {
    do
    :: len(wait_first) > 0 && len(line) == 0 ->
        wait_first ? j;
        state[j] = QUEUED;
        line ! j;
        admitted[j] = true;
        rouse()
    :: else -> break
    od;
    j = 0
}

inline check_end() {
    if
    :: stopping && delivering == 0 && threads == 0 && len(line) == 0 -> stopping = false; stopped = true
    :: else
    fi
}

inline rest() {
    if
    :: closed || threads - leaving > LIMIT -> leaving++; step = LEAVE
    :: else ->
        idle[me] = true;
        step = IDLE;
#ifndef CANCEL
        if
        :: spinner = me + 1
        :: true
        fi
#endif
    fi
}

/* No lock. */
inline after() {
    if
    :: wake ->
#ifdef CALL_PLAIN
        before = called[wake - 1];
        called[wake - 1] = CALLED;
#else
        atomic { before = called[wake - 1]; called[wake - 1] = CALLED };
#endif
        if
        :: before == ASLEEP -> in_kernel[wake - 1] = false
        :: else
        fi;
        wake = 0;
        before = 0
    :: else
    fi;
    if
    :: start ->
        atomic {
            if
            :: !made[0] -> made[0] = true; searches[0] = true
            :: made[0] && !made[1] -> made[1] = true; searches[1] = true
            :: made[0] && made[1] && !made[2] -> made[2] = true; searches[2] = true
            fi;
            start = false
        }
    :: else
    fi
}

inline gather(some) {
    atomic {
        DRAINED && in_lock == 0;
        some = len(door) > 0;
        empty_door()
    }
}

inline settle() {
#ifndef NO_BATON
    atomic { rouse() };
#endif
#ifdef GATHER_FIRST
    gather(some);
    atomic { if :: some -> rouse(); some = false :: else fi };
#endif
    wanted = WANTS;
    if
    :: wanted == LOAD(WANTED)
    :: else ->
        STORE(WANTED, wanted);
        if
        :: wanted ->
#ifdef PEEK
            some = len(door) > 0;
            if
            :: some -> gather(some)
            :: else
            fi;
#else
#if !defined(NO_GATHER) && !defined(GATHER_FIRST)
            gather(some);
#endif
#endif
            if
            :: some -> atomic { rouse(); some = false }; STORE(WANTED, NOBODY)
            :: else
            fi
        :: else
        fi
    fi;
    wanted = NOBODY
}

/* With the lock, which it drops. */
inline look() {
    atomic {
        if
        :: job -> busy--
        :: else
        fi;
        if
        :: searches[me] -> assert(searching); searching = false; searches[me] = false
        :: else
        fi
    };
    if
    :: job && !closed /* it stays away from the door for a moment: that is left to settle() */
    :: has_work()
    fi;
    atomic {
        if
        :: len(line) == 0 -> rest()
        :: len(line) > 0 && threads - leaving > LIMIT -> leaving++; step = LEAVE
        :: else ->
            line ? work;
            left++;
            assert(state[work] == QUEUED);
            state[work] = TAKEN;
            busy++;
            step = BUSY
        fi
    };
#ifndef NO_ADMIT
    if
    :: step == BUSY && len(wait_first) > 0 -> atomic { DRAINED && in_lock == 0 -> empty_door(); admit() }
    :: else
    fi;
#endif
    settle();
    UNLOCK(lock);
    after();
    if
    :: job -> finish(job); job = 0
    :: else
    fi
}

inline has_work() {
    if
    :: len(line) == 0 && len(door) > 0 -> gather(some); some = false
    :: else
    fi
}

inline unlock_settled() {
    settle();
    UNLOCK(lock);
    after()
}

inline finish(job) {
    atomic { assert(!done[job]); done[job] = true }
}

inline fn() {
    atomic { ran[work]++; assert(ran[work] == 1 && !cancelled[work]) };
#ifdef BLOCK
    if
    :: work == 1 ->
        atomic { BOTH -> empty_door(); blocked++;
#ifndef NO_GROW
            rouse();
#endif
            unlock_both() };
        after();
        done[2];
        atomic { DRAINED && lock == 0 -> blocked-- }
    :: else
    fi
#endif
#if THREADS_MAX > 1 && !defined(TWO_JOBS)
    work != 1 || ran[2]
#endif
}

/* Both locks at once. What follows has a look by itself. */
inline end_loudly() {
    atomic {
        BOTH;
        empty_door();
        busy--;
        if
        :: len(line) == 0 -> rest()
        :: else ->
            step = LOOK;
            if
            :: !searching -> searching = true; searches[me] = true
            :: else
            fi
        fi;
        unlock_both()
    };
    finish(job);
    job = 0
}

/* Ends with step LOOK when it was called; the same, with the lock, when it has found something; or as it was. */
inline spin() {
    do
    :: atomic { called[me] == CALLED -> called[me] = NOT_CALLED }; step = LOOK; break
    :: len(door) > 0 -> some = true; break
    :: true -> break /* the time is over, or another one does it now */
    od;
    if
    :: step == LOOK
    :: else ->
        atomic { DRAINED && lock == 0 -> lock = idle[me] };
        if
        :: !idle[me] /* it is about to be called */
        :: idle[me] ->
            if
            :: some -> some = false; has_work(); some = len(line) > 0
            :: else
            fi;
            if
            :: some -> some = false; atomic { idle_remove(me); step = LOOK; locked = true }
            :: else ->
#ifndef SPINS_AND_SLEEPS
                spinner = (spinner == me + 1 -> 0 : spinner);
#endif
#ifdef SPIN_UNSETTLED
                UNLOCK(lock)
#else
                unlock_settled()
#endif
            fi
        fi;
        some = false
    fi
}

inline nap() {
    atomic {
        DRAINED && lock == 0;
        if
#ifndef CANCEL
        :: idle[me] && !napper -> lock = 1; napper = me + 1
#endif
        :: true
        fi
    };
    do
    :: napper != me + 1 -> break
    :: else ->
        atomic { mark = left + len(line); began = left };
        unlock_settled();
        atomic {
            if
            :: called[me] == NOT_CALLED -> called[me] = ASLEEP
            :: else
            fi
        }; /* for a moment, or until it is called */
        atomic {
            if
            :: called[me] == ASLEEP -> called[me] = NOT_CALLED
            :: else
            fi
        };
        if
        :: atomic { called[me] == CALLED -> called[me] = NOT_CALLED }; step = LOOK; break
        :: called[me] != CALLED
        fi;
        atomic { DRAINED && lock == 0 -> lock = idle[me] };
        if
        :: !idle[me] -> break
        :: else
        fi;
        has_work();
        if
        :: len(line) > 0 && (left < mark || !OTHERS_WORK) -> atomic { idle_remove(me); step = LOOK; locked = true }; break
        :: else ->
            if
            :: left > began /* once more */
            :: true ->
                napper = 0;
#ifdef NAP_UNSETTLED
                UNLOCK(lock);
#else
                unlock_settled();
#endif
                break
            fi
        fi
    od;
    atomic { mark = 0; began = 0 }
}

/* Ends with step LOOK when it was called, with LEAVE when its time was over. */
inline sleep() {
    do
    :: true ->
#ifdef SLEEP_PLAIN
        before = NOT_CALLED;
        called[me] = ASLEEP;
#else
        atomic {
            before = called[me];
            if
            :: before == NOT_CALLED -> called[me] = ASLEEP
            :: else
            fi
        };
#endif
        if
        :: before == CALLED -> before = 0; step = LOOK; break
        :: else -> before = 0
        fi;
        atomic {
            if
            :: called[me] == ASLEEP -> in_kernel[me] = true
            :: else
            fi
        };
end_idle:
        if
        :: !in_kernel[me]
        :: atomic { in_kernel[me] && bored < BORED -> in_kernel[me] = false; bored++ }; /* the time is over */
            if
            :: called[me] == CALLED
            :: else ->
                atomic {
                    DRAINED && lock == 0;
#ifdef NO_LEAVING
                    if
                    :: idle[me] && threads > THREADS_MIN ->
#else
                    if
                    :: idle[me] && threads - leaving > THREADS_MIN ->
#endif
                        idle_remove(me);
                        leaving++;
                        assert(threads - leaving >= THREADS_MIN);
                        step = LEAVE
                    :: else
                    fi
                };
                if
                :: step == LEAVE -> break
                :: else
                fi
            fi
        fi
    od;
    called[me] = NOT_CALLED
}

inline leave() {
    atomic {
        BOTH;
        empty_door();
        leaving--;
        threads--;
#ifndef NO_LAST_LOOK
        rouse();
#endif
#ifndef NO_CHECK_END
        check_end();
#endif
        unlock_both()
    };
    after()
}

proctype worker(byte me) {
    byte step, work, job, wake, before, j, mark, began, wanted;
    bool start, some, locked;
    do
    :: step == LOOK ->
end_unmade:
        made[me];
        if
        :: locked -> locked = false
        :: else -> LOCK(lock)
        fi;
        look()
    :: step == BUSY ->
        fn();
        atomic { job = work; work = 0 };
        if
        :: step = LOOK
#ifndef FULL
        :: end_loudly()
#endif
        fi
    :: step == IDLE ->
        if
        :: spinner == me + 1 -> spin()
        :: else
        fi;
        if
        :: step == IDLE -> nap()
        :: else
        fi;
        if
        :: step == IDLE -> sleep()
        :: else
        fi
    :: step == LEAVE ->
        leave();
        atomic { step = LOOK; made[me] = false }
    od
}

inline submit(job) {
#ifdef READ_FIRST
    wanted = mem[WANTED];
#endif
    atomic { in_lock == 0 -> in_lock = 1 };
    if
#ifdef FULL
    :: !closed && len(wait_first) == 0 && len(door) + len(line) == 0 ->
#else
    :: !closed ->
#endif
        state[job] = QUEUED;
        door ! job;
#ifndef READ_FIRST
        wanted = mem[WANTED];
#endif
        in_lock = 0;
        if
        :: wanted == SOON -> wanted = NOBODY
        :: wanted ->
            wanted = NOBODY;
            atomic { BOTH -> empty_door(); rouse(); unlock_both() };
            after()
        :: else
        fi
    :: else ->
        in_lock = 0;
        atomic {
            BOTH;
            empty_door();
            if
            :: closed -> refused[job]++
#ifdef FULL
            :: !closed && len(line) == 0 -> state[job] = QUEUED; line ! job; rouse()
            :: !closed && len(line) > 0 -> wait_first ! job; wait = true
#endif
            fi;
            unlock_both()
        };
        after();
        if
        :: refused[job] -> finish(job)
        :: wait -> wait = false; admitted[job]
        :: else
        fi
    fi
}

proctype submitter(byte first, last) {
    byte job, wake, before, j, wanted;
    bool start, wait;
    job = first;
    do
    :: job > last -> break
    :: else -> submit(job); job++
    od
}

inline cancel(job) {
#ifdef TAKEN_UNLOCKED
    mine = state[job] == QUEUED;
#endif
    atomic {
        BOTH;
        empty_door();
#ifndef TAKEN_UNLOCKED
        mine = state[job] == QUEUED;
#endif
        if
        :: mine ->
            state[job] = TAKEN;
            cancelled[job]++;
            if
            :: line ?? [eval(job)] -> line ?? eval(job); left++
            :: else
            fi;
#ifndef NO_DELIVERING
            delivering++
#endif
        :: else
        fi;
        unlock_both()
    };
    if
    :: mine ->
        assert(!ran[job]);
        finish(job);
#ifndef NO_DELIVERING
        atomic { BOTH -> empty_door(); delivering--; check_end(); unlock_both() };
#endif
        mine = false
    :: else
    fi
}

proctype stopper() {
    byte wake, before, j, called_before[SLOTS];
    bool start, wait;
    atomic { BOTH -> empty_door(); closed = true; unlock_both() };
#ifndef NO_CALL
    atomic {
        BOTH;
        empty_door();
        if
        :: idle[0] -> idle_remove(0); called_before[0] = called[0]; called[0] = CALLED
        :: else
        fi;
        if
        :: idle[1] -> idle_remove(1); called_before[1] = called[1]; called[1] = CALLED
        :: else
        fi;
        if
        :: idle[2] -> idle_remove(2); called_before[2] = called[2]; called[2] = CALLED
        :: else
        fi;
        if
        :: called_before[0] == ASLEEP -> in_kernel[0] = false
        :: else
        fi;
        if
        :: called_before[1] == ASLEEP -> in_kernel[1] = false
        :: else
        fi;
        if
        :: called_before[2] == ASLEEP -> in_kernel[2] = false
        :: else
        fi;
        check_end();
        unlock_both()
    };
#endif
    atomic {
        BOTH;
        empty_door();
        wait = !(delivering == 0 && threads == 0 && len(line) == 0);
        stopping = wait;
        unlock_both()
    };
    if
    :: wait -> stopped
    :: else
    fi;
    assert(threads == 0 && len(line) == 0 && leaving == 0);
    assert((state[1] == WAITING || done[1]) && (state[2] == WAITING || done[2]) && (state[3] == WAITING || done[3]))
}

proctype canceller() {
    byte j;
    bool mine;
    cancel(2)
}

init {
    atomic {
        mem[WANTED] = SOMEBODY;
        if
        :: bored = BORED /* nobody loses patience: that would put right what was lost */
        :: true
        fi;
        run worker(0);
        run worker(1);
        run worker(2);
#ifdef TWO_JOBS
        done[3] = true;
        run submitter(1, 1);
        run submitter(2, 2)
#else
        run submitter(1, 2);
        run submitter(3, 3)
#endif
#ifdef STOP
        ; run stopper()
#endif
#ifdef CANCEL
        ; run stopper();
        run canceller()
#endif
    };
    done[1] && done[2] && done[3];
    assert(ran[1] + cancelled[1] + refused[1] == 1);
    assert(ran[2] + cancelled[2] + refused[2] == 1);
#ifndef TWO_JOBS
    assert(ran[3] + cancelled[3] + refused[3] == 1)
#endif
}

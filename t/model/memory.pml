/* Weak memory, for the models in this folder: what a store of C11 that isn't sequentially consistent may do.
 *
 * Each process has a store buffer of two places. A store goes into it, and is seen by the others only when the
 * process `memory` writes it out, at any time. Two stores to different places may be written out in either order, unless the
 * later one is a release. A process sees its own stores at once. So:
 *
 *     STORE(place, value)           memory_order_relaxed, or a plain store
 *     STORE_RELEASE(place, value)   memory_order_release: not before what was stored earlier
 *     STORE_SC(place, value)        memory_order_seq_cst: seen by all before this process goes on
 *     FENCE()                       atomic_thread_fence(memory_order_seq_cst)
 *     atomic { DRAINED -> ... }     a read-modify-write
 *     LOAD(place)                   any load
 *
 * Loads aren't reordered: an acquire that is missing in the code isn't found by these models. Places that only change under a
 * lock, or by read-modify-writes, need no buffer and are plain variables of the model.
 *
 * The including model defines CELLS and PROCS before, and has a process that writes out:
 *
 *     active proctype memory() { end: do WRITES_OF(1) WRITES_OF(2) ... od }
 *
 * A store that finds both places taken waits: none of the code's has more than two on their way between barriers. */

typedef buffer {
    byte n;
    byte at0;
    byte value0;
    byte at1;
    byte value1;
    bool release1
};

byte mem[CELLS];
buffer stores[PROCS];

#define DRAINED (stores[_pid].n == 0)
#define FENCE() DRAINED

#define LOAD(place) \
    (stores[_pid].n == 2 && stores[_pid].at1 == (place) -> stores[_pid].value1 : \
    (stores[_pid].n > 0 && stores[_pid].at0 == (place) -> stores[_pid].value0 : mem[place]))

#define STORE_SC(place, value) atomic { DRAINED -> mem[place] = (value) }

inline store_into(place, value, release) {
    atomic {
        stores[_pid].n < 2;
        if
        :: stores[_pid].n == 0 ->
            stores[_pid].at0 = place;
            stores[_pid].value0 = value
        :: else ->
            stores[_pid].at1 = place;
            stores[_pid].value1 = value;
            stores[_pid].release1 = release
        fi;
        stores[_pid].n++
    }
}
#define STORE(place, value) store_into(place, value, false)
#define STORE_RELEASE(place, value) store_into(place, value, true)

inline forget_second(p) {
    stores[p].n--;
    stores[p].at1 = 0;
    stores[p].value1 = 0;
    stores[p].release1 = false
}

#define WRITES_OF(p) \
    :: atomic { \
        stores[p].n > 0 -> \
        mem[stores[p].at0] = stores[p].value0; \
        stores[p].at0 = stores[p].at1; \
        stores[p].value0 = stores[p].value1; \
        forget_second(p) \
    } \
    :: atomic { \
        stores[p].n == 2 && !stores[p].release1 && stores[p].at0 != stores[p].at1 -> \
        mem[stores[p].at1] = stores[p].value1; \
        forget_second(p) \
    }

/* The inner lock (lock.h): both ends are read-modify-writes. */
#define LOCK(l) atomic { DRAINED && l == 0 -> l = 1 }
#define UNLOCK(l) atomic { DRAINED -> assert(l == 1); l = 0 }

/* Callbacks of a handle: ferry_then() of lib/then.c and lib/future.c, with the loop that they are called on.
 *
 *     here            stands for
 *     adder           then_anywhere(), add_link(): f->lock, done, telling, the links
 *     completer       ferry__future_complete(), tell(): telling, the links whose `after` is to be called
 *     due             callback_due(): the item goes into the loop's inbox, and ring() touches the loop after that
 *     loop            callback_run(), callback_free(): loop->callbacks, loop->refs; ferry_loop_free(), ferry__loop_unref()
 *
 * One thread adds two callbacks, one after the other, while another one completes the handle. The loop is freed as soon as both
 * have been called, and whoever added them has returned: the completer may still be on its way out. A job whose loop tells them
 * is in home.pml.
 *
 * What must hold: each callback is called once, in the order in which they were added; nobody touches the loop after it is gone.
 *
 * control NO_PIN assertion: who hands the callback in doesn't hold the loop meanwhile
 * control NO_TELLING assertion: a callback that is added while others are told is due at once
 * control TELL_ONCE asleep: the completer doesn't look again for what was added meanwhile
 * control LINK_UNLOCKED asleep: who adds looks at done and telling before it takes the lock, and not again */

#define DRAINED true
#define LOCK(l) atomic { l == 0 -> l = 1 }
#define UNLOCK(l) atomic { assert(l == 1); l = 0 }

bit lock;
bool done, telling;
byte links; /* in the list: bits */
byte inbox; /* bits */
byte put, ran, loop_refs, callbacks;
bool added, loop_freed;

inline unref() {
    atomic {
        assert(!loop_freed && loop_refs > 0);
        loop_refs--;
        loop_freed = loop_refs == 0
    }
}

inline due(c) {
#ifndef NO_PIN
    atomic { assert(!loop_freed); loop_refs++ };
#endif
    atomic {
        assert(!loop_freed && !(put & c) && (c == 1 || put == 1));
        put = put | c;
        inbox = inbox | c
    };
    assert(!loop_freed); /* ring() */
#ifndef NO_PIN
    unref()
#endif
}

/* With the lock, which it drops. */
inline tell() {
    do
    :: true ->
        later = links;
        links = 0;
#ifdef NO_TELLING
        telling = false;
#else
        telling = later != 0;
#endif
        UNLOCK(lock);
        if
        :: later & 1 -> due(1)
        :: else
        fi;
        if
        :: later & 2 -> due(2)
        :: else
        fi;
        if
        :: later == 0 -> break
        :: else
        fi;
#ifdef TELL_ONCE
        break;
#endif
        LOCK(lock)
    od
}

proctype completer() {
    byte later;
    LOCK(lock);
    done = true;
    telling = true;
    tell()
}

inline add(c) {
    atomic { assert(!loop_freed); loop_refs++; callbacks++ };
#ifdef LINK_UNLOCKED
    nobody = done && !telling;
    LOCK(lock);
#else
    LOCK(lock);
    nobody = done && !telling;
#endif
    if
    :: nobody -> nobody = false; UNLOCK(lock); due(c)
    :: else -> links = links | c; UNLOCK(lock)
    fi
}

proctype adder() {
    bool nobody;
    add(1);
    add(2);
    added = true
}

inline call(c) {
    assert(!(ran & c) && (c == 1 || ran == 1));
    ran = ran | c;
    callbacks--;
    unref()
}

proctype loop() {
    do
    :: atomic { inbox & 1 -> inbox = inbox & 2 }; call(1)
    :: atomic { inbox == 2 -> inbox = 0 }; call(2)
    :: ran == 3 && added && callbacks == 0 -> break
    od;
    unref()
}

init {
    atomic {
        loop_refs = 1;
        run completer();
        run adder();
        run loop()
    };
    _nr_pr == 1;
    assert(loop_freed && ran == 3)
}

/* A job inherits the flag of the scope that it is started in, and needn't look at it as long as no flag was set anywhere:
 * lib/scope.c, lib/submit.c and ferry__job_run() of lib/job.c.
 *
 *     here            stands for
 *     canceller       ferry_scope_cancel(), ferry__scope_request(), set_flag(), ferry__ctx_kick(): scope->request, scope->cell,
 *                     cell->cancelled, ferry__scope_cancels, ctx->asked
 *     owner           ferry__submit_member(), ferry__scope_cell(), may_be_cancelled(), ferry__region_cancelled(): calm, the same
 *     job             ferry__job_run(), nothing_to_see(), import_job(): job->calm, inherited
 *
 * Somebody cancels a scope while its owner starts a job there, the first one (whose start makes the flag) or a later one.
 * Another scope may be cancelled as well.
 *
 * What must hold: when the cancel is through, the job wasn't started, or sees it at its next look.
 *
 * control NO_FLAG assertion: the submit doesn't look at the flag itself after it has read the count
 * control CALM_LATE assertion: the submit reads the count after it has looked at the flag
 * control COUNT_FIRST assertion: a cancel counts before it sets the flag
 * control CELL_NO_LOOK assertion: who makes the flag doesn't look at the request again
 * control CELL_RELAXED assertion: the new flag may be seen after that look at the request */

#define CELL 0
#define CELLS 1
#define PROCS 5
#include "memory.pml"

bool request, flag, asked;
byte cancels = 1;
bool told, started, saw;
byte job_calm;

active proctype memory() {
end:
    do
    WRITES_OF(3)
    od
}

inline set_flag() {
#ifdef COUNT_FIRST
    atomic { DRAINED -> cancels++ };
    atomic { DRAINED -> flag = true }
#else
    atomic { DRAINED -> flag = true };
    atomic { DRAINED -> cancels++ }
#endif
}

proctype canceller() {
    request = true;
    if
    :: LOAD(CELL) -> set_flag()
    :: else
    fi;
    asked = true;
    told = true
}

proctype owner() {
    byte calm;
    bool refused;
#ifndef CALM_LATE
    calm = cancels;
#endif
    if
    :: mem[CELL] /* of an earlier job */
    :: else ->
#ifdef CELL_RELAXED
        STORE(CELL, 1);
#else
        STORE_SC(CELL, 1);
#endif
#ifndef CELL_NO_LOOK
        if
        :: request -> set_flag()
        :: else
        fi
#endif
    fi;
    if
    :: asked -> refused = true
#ifndef NO_FLAG
    :: !asked && flag -> refused = true
    :: !asked && !flag
#else
    :: !asked
#endif
    fi;
#ifdef CALM_LATE
    calm = cancels;
#endif
    if
    :: refused
    :: else -> job_calm = calm; started = true
    fi
}

proctype stranger() {
    cancels++
}

proctype job() {
    if
    :: !started && timeout
    :: started ->
        told;
        saw = job_calm != cancels && flag;
        assert(saw)
    fi
}

init {
    atomic {
        if
        :: mem[CELL] = 1
        :: true
        fi;
        run canceller();
        run owner();
        run stranger();
        run job()
    }
}

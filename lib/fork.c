/* fork(): the child has one thread and a copy of everything else.
 *
 * Each child counts the generation up. Objects remember the generation that they were made in,
 * so those of the parent are known for what they are: nothing of theirs is waited for, joined or
 * written to. The library's process-wide locks are held across the fork. They are inner locks,
 * never held across a call-out, so taking all of them is a matter of instructions and no order
 * is needed with others. */
#include "config.h"

#include <pthread.h>

#include "executor.h"
#include "fork.h"

_Atomic uint32_t ferry__generation = 1;

static unsigned *const locks[] = {&ferry__signal_lock, &ferry__service_lock, &ferry__error_lock,
                                  &ferry__log_lock, &ferry__scope_lock,
                                  &ferry__record_lock, &ferry__report_lock, &ferry__anew_lock,
                                  &ferry__bound_lock};
enum { N_LOCKS = sizeof locks / sizeof locks[0] };

static void before(void) {
    for (int i = 0; i < N_LOCKS; i++)
        ferry__lock(locks[i]);
}

static void in_parent(void) {
    for (int i = N_LOCKS; i-- > 0;)
        ferry__unlock(locks[i]);
}

static void in_child(void) {
    atomic_fetch_add_explicit(&ferry__generation, 1, memory_order_relaxed);
    in_parent();
    ferry__thread_forked();
    ferry__threads_forked();
    ferry__service_forked();
    ferry__signal_forked();
    ferry__scope_forked();
    ferry__debug_forked();
}

void ferry__fork_watch(void) {
    static _Atomic int watched;
    int no = 0;
    if (atomic_load_explicit(&watched, memory_order_relaxed) == 0 &&
        atomic_compare_exchange_strong(&watched, &no, 1) &&
        pthread_atfork(before, in_parent, in_child) != 0)
        atomic_store(&watched, 0); /* out of memory: the next object that is made tries again */
}

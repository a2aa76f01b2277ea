/* Which loops are a thread's.
 *
 * A loop is bound to the thread on which it turns: loop->thread says to whom, and each thread has a
 * list of its loops, the latest first. One is bound where it is made, and anew where a program
 * dispatches its base on another thread than before; it is unbound there, where it is freed, which
 * may be on another thread as well, and when its thread ends.
 *
 * Owners: the lists are under the lock below, which is held for a few instructions; the first of
 * its own list a thread reads without it. loop->thread is atomic, written under the lock. */
#include "config.h"

#include "core.h"
#include "fork.h"

unsigned ferry__bound_lock;

void ferry__loop_bind(ferry_loop *loop) {
    struct ferry__thread *thread = ferry__thread_self();
    ferry__lock(&ferry__bound_lock);
    atomic_store_explicit(&loop->thread, thread, memory_order_release);
    loop->bound_next = atomic_load_explicit(&thread->loop, memory_order_relaxed);
    atomic_store_explicit(&thread->loop, loop, memory_order_relaxed);
    ferry__unlock(&ferry__bound_lock);
}

/* Under the lock. */
static void take_off_list(struct ferry__thread *thread, ferry_loop *loop) {
    ferry_loop *at = atomic_load_explicit(&thread->loop, memory_order_relaxed);
    if (at == loop) {
        atomic_store_explicit(&thread->loop, loop->bound_next, memory_order_relaxed);
        return;
    }
    while (at && at->bound_next != loop)
        at = at->bound_next;
    if (at)
        at->bound_next = loop->bound_next;
}

void ferry__loop_unbind(ferry_loop *loop) {
    ferry__lock(&ferry__bound_lock);
    struct ferry__thread *thread = atomic_load(&loop->thread);
    if (thread)
        take_off_list(thread, loop);
    atomic_store_explicit(&loop->thread, NULL, memory_order_release);
    ferry__unlock(&ferry__bound_lock);
}

void ferry__loops_unbind(struct ferry__thread *thread) {
    ferry__lock(&ferry__bound_lock);
    for (ferry_loop *loop; (loop = thread->loop) != NULL;) {
        struct ferry__thread *its = thread;
        thread->loop = loop->bound_next;
        atomic_compare_exchange_strong(&loop->thread, &its, NULL);
    }
    ferry__unlock(&ferry__bound_lock);
}

bool ferry__inside_a_loop(struct ferry__thread *thread) {
    bool inside = false;
    ferry__lock(&ferry__bound_lock);
    for (const ferry_loop *bound = thread->loop; bound && !inside; bound = bound->bound_next)
        inside = bound->own_run || bound->turning;
    ferry__unlock(&ferry__bound_lock);
    return inside;
}

void ferry__loops_forked(struct ferry__thread *thread) {
    ferry_loop *kept = NULL, **end = &kept;
    for (ferry_loop *loop = thread->loop; loop; loop = loop->bound_next) {
        if (loop->turning || loop->own_run) {
            *end = loop;
            end = &loop->bound_next;
        }
    }
    *end = NULL;
    thread->loop = kept;
}

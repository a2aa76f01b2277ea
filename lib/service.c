/* The service thread: one thread for timers that must fire when no loop turns, and for signals.
 *
 * It is made when first needed, blocks all signals, sleeps in poll() on a bell until the next
 * deadline and calls whatever is due, without a lock. What it calls must not wait.
 *
 *     phase:  NONE -> STARTING -> UP     by whoever needs the thread first; others wait for that
 *             STARTING -> NONE           no thread could be made
 *             UP -> NONE                 in the child of a fork, where the thread isn't
 *             any -> GONE                the program exits, or unloads the library: the thread is
 *                                        joined, unless something that it calls doesn't return
 *
 *     timer:  DONE -> WAITING              ferry__service_set(); also from RUNNING, which it then
 *                                          is besides: `running` says whose fn runs
 *             WAITING -> RUNNING -> DONE   the service thread
 *             WAITING -> DROPPED           ferry__service_cancel(), or the child of a fork
 *             RUNNING -> DONE              in the child of a fork: it goes on in the parent alone
 *
 * A timer's record belongs to who made it and is freed by ferry__service_cancel(), before or after
 * it has fired; by the service thread when it is cancelled from inside its own fn.
 *
 * ferry__service_lock guards phase, thread, the list and the fields of its timers; the fds of
 * the bell are written before phase is UP and in the child of a fork.
 * Lock order: it stands alone. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "bell.h"
#include "core.h"
#include "fork.h"
#include "service.h"

enum phase { NONE, STARTING, UP, GONE };
enum state { WAITING, RUNNING, DONE, DROPPED };

struct ferry__service_timer {
    struct ferry__service_timer *next, *prev;
    int64_t deadline;
    enum state state;
    bool disowned; /* cancelled from inside its own fn: to be freed after it */
    void (*fn)(void *arg);
    void *arg;
};

enum { STACK_ROOM = 128 * 1024 };
/* How long the exit of the program waits for something that the thread calls. */
#define EXIT_PATIENCE (1000 * FERRY__MS)

unsigned ferry__service_lock;
static uint32_t phase; /* enum phase; a futex word while STARTING */
static pthread_t thread;
static struct ferry__bell bell = FERRY__BELL_INIT;
static struct ferry__service_timer *first, *last; /* WAITING, by deadline */
static struct ferry__service_timer *running;
static int64_t sleeps_until = INT64_MIN; /* when it will look by itself; INT64_MIN: it is awake */
static uint32_t turns;                   /* counted up after each fn; a futex word */
static uint32_t left;                    /* futex word: the thread calls nothing any more */
static _Thread_local bool here;

static bool is_phase(enum phase which) {
    return __atomic_load_n(&phase, __ATOMIC_RELAXED) == (uint32_t)which;
}

static void set_phase(enum phase next) {
    __atomic_store_n(&phase, (uint32_t)next, __ATOMIC_RELAXED);
}

FERRY__NOINLINE bool ferry__service_here(void) {
    return here;
}

void ferry__service_nudge(void) {
    if (bell.fd[1] >= 0)
        ferry__bell_ring(&bell);
}

/* ---- The list; under the lock ---------------------------------------------------------------- */

/* From the back: most deadlines come in order. */
static void insert(struct ferry__service_timer *timer) {
    struct ferry__service_timer *before = last;
    while (before && before->deadline > timer->deadline)
        before = before->prev;
    timer->prev = before;
    timer->next = before ? before->next : first;
    if (timer->next)
        timer->next->prev = timer;
    else
        last = timer;
    if (before)
        before->next = timer;
    else
        first = timer;
}

static void unlist(struct ferry__service_timer *timer) {
    if (timer->prev)
        timer->prev->next = timer->next;
    else
        first = timer->next;
    if (timer->next)
        timer->next->prev = timer->prev;
    else
        last = timer->prev;
}

/* ---- The thread ------------------------------------------------------------------------------ */

/* The thread is awake before it takes the rings: so a ring that isn't there any more, and a
 * thread that sleeps after that, mean that nothing is on its way. */
bool ferry__service_idle(void) {
    ferry__lock(&ferry__service_lock);
    bool idle = is_phase(UP);
    ferry__unlock(&ferry__service_lock);
    struct pollfd fds = {.fd = idle ? bell.fd[0] : -1, .events = POLLIN};
    if (!idle || poll(&fds, 1, 0) != 0)
        return false;
    ferry__lock(&ferry__service_lock);
    idle = is_phase(UP) && sleeps_until == FERRY__NEVER;
    ferry__unlock(&ferry__service_lock);
    return idle;
}

/* Calls what is due; false when the program exits. */
static bool call_due(void) {
    ferry__lock(&ferry__service_lock);
    while (!is_phase(GONE) && first && first->deadline <= ferry__now()) {
        struct ferry__service_timer *timer = first;
        unlist(timer);
        timer->state = RUNNING;
        running = timer;
        ferry__unlock(&ferry__service_lock);
        timer->fn(timer->arg);
        ferry__lock(&ferry__service_lock);
        bool disowned = timer->disowned;
        if (timer->state == RUNNING)
            timer->state = DONE;
        running = NULL;
        __atomic_fetch_add(&turns, 1, __ATOMIC_RELAXED);
        ferry__unlock(&ferry__service_lock);
        ferry__futex_wake(&turns, INT_MAX);
        if (disowned)
            ferry__free(timer);
        ferry__lock(&ferry__service_lock);
    }
    bool stay = !is_phase(GONE);
    ferry__unlock(&ferry__service_lock);
    return stay;
}

/* Until something is due, or somebody rings, who has brought an earlier timer or a signal. */
static void doze(void) {
    ferry__lock(&ferry__service_lock);
    int64_t deadline = sleeps_until = first ? first->deadline : FERRY__NEVER;
    ferry__unlock(&ferry__service_lock);
    struct pollfd fds = {.fd = bell.fd[0], .events = POLLIN};
    int n = poll(&fds, 1, ferry__poll_ms(deadline));
    ferry__lock(&ferry__service_lock);
    sleeps_until = INT64_MIN;
    ferry__unlock(&ferry__service_lock);
    if (n > 0)
        ferry__bell_silence(&bell);
}

static void *serve(void *arg) {
    (void)arg;
    here = true;
#ifdef HAVE_PTHREAD_SETNAME_NP
    pthread_setname_np(pthread_self(), "ferry-service");
#endif
    while (call_due()) {
        ferry__signal_dispatch();
        doze();
    }
    __atomic_store_n(&left, 1, __ATOMIC_RELEASE);
    ferry__futex_wake(&left, INT_MAX);
    return NULL;
}

static size_t stack_size(void) {
    size_t size = STACK_ROOM, page = (size_t)sysconf(_SC_PAGESIZE);
#ifdef _SC_THREAD_STACK_MIN
    long least = sysconf(_SC_THREAD_STACK_MIN); /* the program's thread-local storage is in it */
    if (least > 0)
        size += (size_t)least;
#endif
    return (size + page - 1) / page * page;
}

static int make_thread(void) {
    ferry__fork_watch();
    if (bell.fd[0] < 0 && ferry__bell_init(&bell) < 0)
        return -EAGAIN;
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0)
        return -EAGAIN;
    pthread_attr_setstacksize(&attr, stack_size());
    /* Faults are delivered even when blocked, by killing the process: so crash handlers may see
     * them. */
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&thread, &attr, serve, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0 ? 0 : -EAGAIN;
}

int ferry__service_start(void) {
    ferry__lock(&ferry__service_lock);
    while (is_phase(STARTING)) {
        ferry__unlock(&ferry__service_lock);
        ferry__futex_wait(&phase, STARTING, FERRY__NEVER);
        ferry__lock(&ferry__service_lock);
    }
    int rc = is_phase(GONE) ? -EAGAIN : 0;
    bool mine = is_phase(NONE);
    if (mine)
        set_phase(STARTING);
    ferry__unlock(&ferry__service_lock);
    if (!mine)
        return rc;

    rc = make_thread();
    ferry__lock(&ferry__service_lock);
    bool exiting = is_phase(GONE);
    if (!exiting)
        set_phase(rc == 0 ? UP : NONE);
    ferry__unlock(&ferry__service_lock);
    ferry__futex_wake(&phase, INT_MAX);
    if (exiting && rc == 0) {
        pthread_detach(thread);
        return -EAGAIN;
    }
    return rc;
}

/* At exit: whoever looks for leaks then finds no thread of ours. */
__attribute__((destructor)) static void stop(void) {
    ferry__lock(&ferry__service_lock);
    bool up = is_phase(UP);
    set_phase(GONE);
    ferry__unlock(&ferry__service_lock);
    if (!up)
        return;
    ferry__bell_ring(&bell);
    /* Something that it calls may be what exits the program. */
    int64_t deadline = here ? 0 : ferry__now() + EXIT_PATIENCE;
    while (!__atomic_load_n(&left, __ATOMIC_ACQUIRE) && ferry__now() < deadline)
        ferry__futex_wait(&left, 0, deadline);
    if (__atomic_load_n(&left, __ATOMIC_ACQUIRE))
        pthread_join(thread, NULL);
    else
        pthread_detach(thread);
}

void ferry__service_forked(void) {
    for (struct ferry__service_timer *timer = first; timer; timer = timer->next)
        timer->state = DROPPED;
    first = last = NULL;
    if (running && running->state == RUNNING)
        running->state = DONE;
    running = NULL;
    sleeps_until = INT64_MIN;
    left = 0;
    here = false;
    if (!is_phase(GONE))
        set_phase(NONE);
    ferry__bell_fini(&bell); /* it is the parent's: both would hear it */
}

/* ---- Timers ---------------------------------------------------------------------------------- */

struct ferry__service_timer *ferry__service_new(void (*fn)(void *arg), void *arg) {
    struct ferry__service_timer *timer = ferry__malloc(sizeof *timer);
    if (timer)
        *timer = (struct ferry__service_timer){.state = DONE, .fn = fn, .arg = arg};
    return timer;
}

int ferry__service_set(struct ferry__service_timer *timer, int64_t deadline) {
    if (ferry__service_start() < 0)
        return -EAGAIN;
    ferry__lock(&ferry__service_lock);
    if (timer->state == WAITING)
        unlist(timer);
    timer->state = WAITING;
    timer->deadline = deadline;
    insert(timer);
    bool ring = deadline < sleeps_until;
    if (ring)
        sleeps_until = deadline;
    ferry__unlock(&ferry__service_lock);
    if (ring)
        ferry__bell_ring(&bell);
    return 0;
}

struct ferry__service_timer *ferry__service_at(int64_t deadline, void (*fn)(void *arg), void *arg) {
    struct ferry__service_timer *timer = ferry__service_new(fn, arg);
    if (timer && ferry__service_set(timer, deadline) < 0) {
        ferry__free(timer);
        return NULL;
    }
    return timer;
}

bool ferry__service_cancel(struct ferry__service_timer *timer) {
    ferry__lock(&ferry__service_lock);
    if (timer->state == WAITING) {
        unlist(timer);
        timer->state = DROPPED;
    }
    while (running == timer && !here) {
        uint32_t seen = __atomic_load_n(&turns, __ATOMIC_RELAXED);
        ferry__unlock(&ferry__service_lock);
        ferry__futex_wait(&turns, seen, FERRY__NEVER);
        ferry__lock(&ferry__service_lock);
    }
    bool never_ran = timer->state == DROPPED;
    timer->disowned = running == timer;
    bool free_it = !timer->disowned;
    ferry__unlock(&ferry__service_lock);
    if (free_it)
        ferry__free(timer);
    return never_ran;
}

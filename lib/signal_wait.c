/* Signals of the process, for whoever waits for them and for watches of the library itself.
 *
 * The handler only counts the signal and rings the service thread's bell; that thread then hands it
 * to the watches and to everybody who waits. When nobody waits, it is kept for the waits to come,
 * one each.
 *
 *     signal:  free -> caught   by the first wait or watch: our handler is set, the old one kept
 *              caught -> free   by ferry_signal_restore() and the end of the last watch, the later
 *
 *              caught -> free   in the child of a fork, where nobody is left who would look
 *
 *     watch:   listed -> over   ferry__signal_unwatch(): fn isn't called any more
 *              over -> gone     by who unwatched it, once fn doesn't run; by the service thread
 *                               when that was fn itself
 *
 * Owners: `raised` is atomic, counted up by the handler. All else is under ferry__signal_lock;
 * sigaction() is called under it, since it must agree with `uses`. The lock is given up while a
 * watch's fn runs.
 * Lock order: ferry__signal_lock stands alone. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>

#include "fork.h"
#include "line.h"
#include "service.h"
#include "signal_wait.h"

#if !defined(NSIG) && defined(_NSIG)
#define NSIG _NSIG
#endif

struct ferry__signal_watch {
    struct ferry__signal_watch *next;
    int signo;
    bool listed;   /* false in the child of a fork: it was the parent's */
    bool busy;     /* fn runs */
    bool over;     /* fn isn't to be called any more */
    bool disowned; /* unwatched by its own fn: to be freed after that */
    void (*fn)(void *arg);
    void *arg;
};

unsigned ferry__signal_lock;
static _Atomic unsigned raised[NSIG];
static struct {
    unsigned uses;      /* how many watches, and one more when ferry_signal_wait() took it over */
    bool waited_for;    /* ferry_signal_wait() took it over */
    uint64_t kept;      /* came while nobody waited */
    uint64_t owed;      /* to the watches */
    void *first, *last; /* who waits */
    struct ferry__signal_watch *watches;
    struct sigaction before;
} signals[NSIG];
static uint32_t calls; /* counted up when a watch isn't busy any more; a futex word */

static struct ferry__detail say_not_caught =
    FERRY__STATIC_DETAIL("this signal can't be waited for: it can't be caught, or the running "
                         "instruction itself raises it");
static struct ferry__detail say_no_thread = FERRY__STATIC_DETAIL(
    "no thread could be made to receive signals; the process may be at its limit of threads");
static struct ferry__detail say_restored =
    FERRY__STATIC_DETAIL("ferry_signal_restore() gave the signal back while this waited for it");
static struct ferry__detail say_not_taken =
    FERRY__STATIC_DETAIL("nobody has waited for this signal, so there is nothing to put back");

static void handler(int signo) {
    atomic_fetch_add(&raised[signo], 1);
    ferry__service_nudge();
}

static bool may_catch(int signo) {
    return signo > 0 && signo < NSIG && signo != SIGKILL && signo != SIGSTOP && signo != SIGSEGV &&
           signo != SIGBUS && signo != SIGFPE && signo != SIGILL;
}

/* ---- Under the lock -------------------------------------------------------------------------- */

static int catch_signal(int signo) {
    if (signals[signo].uses == 0) {
        struct sigaction ours = {.sa_handler = handler, .sa_flags = SA_RESTART};
        sigfillset(&ours.sa_mask);
        atomic_store(&raised[signo], 0);
        if (sigaction(signo, &ours, &signals[signo].before) < 0)
            return -EINVAL; /* one that the C library keeps for itself */
    }
    signals[signo].uses++;
    return 0;
}

static void put_back(int signo) {
    struct sigaction now;
    sigaction(signo, NULL, &now);
    bool ours = (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == handler;
    if (ours) /* else the program has set a newer one */
        sigaction(signo, &signals[signo].before, NULL);
}

static void release_signal(int signo) {
    if (--signals[signo].uses == 0)
        put_back(signo);
}

/* What has come since the last look is for those who wait now, the rest for those to come.
 * `wakes` is empty. */
static void collect(int signo, struct ferry__wakes *wakes) {
    unsigned n = atomic_exchange(&raised[signo], 0);
    if (n == 0)
        return;
    if (signals[signo].watches)
        signals[signo].owed += n;
    if (signals[signo].waited_for) {
        ferry__line_claim_all(&signals[signo].first, &signals[signo].last, 0, wakes);
        signals[signo].kept += wakes->first ? n - 1 : n;
    }
}

static void unlist(struct ferry__signal_watch *watch) {
    if (!watch->listed)
        return;
    struct ferry__signal_watch **at = &signals[watch->signo].watches;
    while (*at != watch)
        at = &(*at)->next;
    *at = watch->next;
    release_signal(watch->signo);
}

/* ---- On the service thread ------------------------------------------------------------------- */

/* The list may change while fn runs, but a busy watch stays in it; new ones come before the
 * first. */
static void call_watches(int signo, struct ferry__signal_watch **dead) {
    uint64_t times = signals[signo].owed;
    signals[signo].owed = 0;
    for (struct ferry__signal_watch *watch = signals[signo].watches, *next; watch; watch = next) {
        watch->busy = true;
        for (uint64_t i = 0; i < times && !watch->over; i++) {
            ferry__unlock(&ferry__signal_lock);
            watch->fn(watch->arg);
            ferry__lock(&ferry__signal_lock);
        }
        watch->busy = false;
        __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
        ferry__futex_wake(&calls, INT_MAX);
        next = watch->next;
        if (watch->disowned) {
            unlist(watch);
            watch->next = *dead;
            *dead = watch;
        }
    }
}

void ferry__signal_dispatch(void) {
    struct ferry__signal_watch *dead = NULL;
    ferry__lock(&ferry__signal_lock);
    for (int signo = 1; signo < NSIG; signo++) {
        struct ferry__wakes wakes = {0};
        collect(signo, &wakes);
        if (wakes.first) {
            ferry__unlock(&ferry__signal_lock);
            ferry__wake_all(&wakes);
            ferry__lock(&ferry__signal_lock);
        }
        if (signals[signo].owed)
            call_watches(signo, &dead);
    }
    ferry__unlock(&ferry__signal_lock);
    while (dead) {
        struct ferry__signal_watch *watch = dead;
        dead = watch->next;
        ferry__free(watch);
    }
}

/* Nobody in the child looks at the bell, and what was counted was counted in the parent. */
void ferry__signal_forked(void) {
    for (int signo = 1; signo < NSIG; signo++) {
        for (struct ferry__signal_watch *watch = signals[signo].watches; watch; watch = watch->next)
            watch->listed = watch->busy = false;
        if (signals[signo].uses > 0)
            put_back(signo);
        signals[signo].uses = 0;
        signals[signo].waited_for = false;
        signals[signo].kept = signals[signo].owed = 0;
        signals[signo].first = signals[signo].last = NULL;
        signals[signo].watches = NULL;
    }
}

/* ---- Watches --------------------------------------------------------------------------------- */

int ferry__signal_watch(int signo, void (*fn)(void *arg), void *arg,
                        struct ferry__signal_watch **out) {
    *out = NULL;
    if (!may_catch(signo))
        return -EINVAL;
    struct ferry__signal_watch *watch = ferry__malloc(sizeof *watch);
    if (!watch)
        return -ENOMEM;
    *watch = (struct ferry__signal_watch){.signo = signo, .listed = true, .fn = fn, .arg = arg};
    int rc = ferry__service_start();
    if (rc == 0) {
        ferry__lock(&ferry__signal_lock);
        rc = catch_signal(signo);
        if (rc == 0) {
            watch->next = signals[signo].watches;
            signals[signo].watches = watch;
        }
        ferry__unlock(&ferry__signal_lock);
    }
    if (rc < 0)
        ferry__free(watch);
    else
        *out = watch;
    return rc;
}

void ferry__signal_unwatch(struct ferry__signal_watch *watch) {
    if (!watch)
        return;
    ferry__lock(&ferry__signal_lock);
    watch->over = true;
    while (watch->busy && !ferry__service_here()) {
        uint32_t seen = __atomic_load_n(&calls, __ATOMIC_RELAXED);
        ferry__unlock(&ferry__signal_lock);
        ferry__futex_wait(&calls, seen, FERRY__NEVER);
        ferry__lock(&ferry__signal_lock);
    }
    bool busy = watch->busy; /* this is its own fn */
    watch->disowned = busy;
    if (!busy)
        unlist(watch);
    ferry__unlock(&ferry__signal_lock);
    if (!busy)
        ferry__free(watch);
}

/* ---- Waits ----------------------------------------------------------------------------------- */

static bool take_kept(int signo) {
    if (signals[signo].kept == 0)
        return false;
    signals[signo].kept--;
    return true;
}

static int take_over(int signo) {
    if (signals[signo].waited_for)
        return 0;
    int rc = catch_signal(signo);
    signals[signo].waited_for = rc == 0;
    return rc;
}

int ferry_signal_wait_for(int signo, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc < 0)
        return rc;
    if (!may_catch(signo))
        return ferry__refuse(-EINVAL, &say_not_caught);
    rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    if (ferry__service_start() < 0)
        return ferry__refuse(-EAGAIN, &say_no_thread);

    struct ferry__waiter w;
    struct ferry__wakes none = {0};
    ferry__waiter_init(&w, ctx);
    ferry__lock(&ferry__signal_lock);
    rc = take_over(signo);
    /* Where others wait, the service thread gives what has come to them, and to this one. */
    if (rc == 0 && !signals[signo].first)
        collect(signo, &none);
    if (rc < 0 || take_kept(signo)) {
        ferry__unlock(&ferry__signal_lock);
        return rc < 0 ? ferry__refuse(rc, &say_not_caught) : 0;
    }
    rc = ferry__line_wait(&ferry__signal_lock, &signals[signo].first, &signals[signo].last, &w,
                          "signal", ms);
    if (rc == 0 && w.value < 0)
        rc = ferry__refuse((int)w.value, &say_restored);
    return rc;
}

int ferry_signal_wait(int signo) {
    return ferry_signal_wait_for(signo, FERRY_FOREVER);
}

size_t ferry__signals_awaited(void) {
    size_t n = 0;
    ferry__lock(&ferry__signal_lock);
    for (int signo = 1; signo < NSIG; signo++) {
        for (const struct ferry__waiter *w = signals[signo].first; w; w = w->next)
            n++;
    }
    ferry__unlock(&ferry__signal_lock);
    return n;
}

int ferry_signal_restore(int signo) {
    struct ferry__wakes wakes = {0};
    bool taken = false;
    if (may_catch(signo)) {
        ferry__lock(&ferry__signal_lock);
        taken = signals[signo].waited_for;
        if (taken) {
            signals[signo].waited_for = false;
            signals[signo].kept = 0;
            ferry__line_claim_all(&signals[signo].first, &signals[signo].last, FERRY_ECLOSED,
                                  &wakes);
            release_signal(signo);
        }
        ferry__unlock(&ferry__signal_lock);
        ferry__wake_all(&wakes);
    }
    return taken ? 0 : ferry__refuse(-EINVAL, &say_not_taken);
}

/* Loops: libevent's base turns, Ferry's tasks, timers and inbox turn with it.
 *
 * One turn takes items out of the inbox, fires timers and runs ready tasks, in slices, until
 * nothing is left or the turn's budget is used up; then libevent looks at the file descriptors.
 * Three events of libevent stand behind that:
 *   wake_event   the inbox's fd. Added always, and internal to the base: it doesn't keep the base
 *                from ending
 *   tick_event   a timer: the next deadline, or at once when a turn ended with work left. It goes
 *                through libevent's timers so that file descriptors are looked at before the next
 *                turn
 *   keep_event   the inbox's fd once more, not internal: added while tasks or callbacks are
 *                outstanding, it keeps the base from ending, and costs nothing in a pass
 *
 * Two ways to turn. An attached loop turns inside the callbacks of the wake and the tick event. In
 * ferry_loop_run() these callbacks do nothing but return, and the turn is made between two passes
 * of the base.
 *
 * State: OPEN -> SOFT -> HARD -> DOWN (shutdown.c). Written by the loop's thread only.
 *
 * Owners. A loop belongs to the thread that attached it, or to the one that runs it. All fields
 * are that thread's unless core.h says otherwise. Other threads send items (inbox.c).
 * References: one for the user, some in reserve on the loop's own thread (so that a task costs
 * no atomic operation; the same for a job, on the executor that is used most), one for each
 * task, job, callback and kick, one for a waker from claim to wake. ferry_loop_free() gives up
 * the user's and those in reserve, and closes libevent's side at once; the memory goes with the
 * last. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "executor.h"
#include "overflow.h"
#include "service.h"
#include "signal_wait.h"

#define STEPS_A_SLICE 64       /* at least */
#define STEPS_A_SLICE_MOST 512 /* where they are short */
#define NS_A_SLICE (FERRY__MS / 100)
#define ITEMS_A_SLICE 256
#define STEPS_A_TURN 2048
#define NS_A_TURN (2 * FERRY__MS)
/* A turn that has waited for jobs ends so much later, at the latest. */
#define NS_LINGERING (FERRY__MS / 10)
/* When only other threads could go on, whether there are any is looked at after so long, then
 * after twice that, ... */
#define FIRST_LOOK_MS 10
#define LAST_LOOK_MS (24 * 3600 * 1000)

static struct ferry__detail say_inside = FERRY__STATIC_DETAIL(
    "a loop can't be run from inside a task, a job or a callback of a loop");
static struct ferry__detail say_no_loop = FERRY__STATIC_DETAIL("there is no loop to run");
static struct ferry__detail say_other_thread =
    FERRY__STATIC_DETAIL("another thread runs the loop already");
static struct ferry__detail say_attached = FERRY__STATIC_DETAIL(
    "an attached loop turns with its event_base: dispatch that instead");
static struct ferry__detail say_nothing =
    FERRY__STATIC_DETAIL("there is no stopped run to go on with");
static struct ferry__detail say_down = FERRY__STATIC_DETAIL("the loop was shut down");
static struct ferry__detail say_stopped = FERRY__STATIC_DETAIL("ferry_loop_stop() ended the run");
struct ferry__detail ferry__say_base_gone =
    FERRY__STATIC_DETAIL("the event_base of this loop was freed before it: first shut the loop "
                         "down and free it (ferry_loop_shutdown, "
                         "ferry_loop_free), then free the base");
struct ferry__detail ferry__say_parents_loop = FERRY__STATIC_DETAIL(
    "the loop belongs to the parent process: make a new one after fork()");
static struct ferry__detail say_deadlock = FERRY__STATIC_DETAIL(
    "every task waits for another one: nothing was left that could wake any of them");

/* ---- Whose it is ----------------------------------------------------------------------------- */

void ferry__loop_ref(ferry_loop *loop) {
    atomic_fetch_add_explicit(&loop->refs, 1, memory_order_relaxed);
}

void ferry__loop_unref(ferry_loop *loop) {
    if (atomic_fetch_sub_explicit(&loop->refs, 1, memory_order_acq_rel) != 1)
        return;
    ferry__inbox_fini(&loop->inbox);
    ferry_executor_free(atomic_load(&loop->executor)); /* a job that outlived it may have used it */
    ferry__detail_unref(loop->background.detail);
    ferry__free(loop);
}

void ferry__loop_ref_slow(ferry_loop *loop) {
    atomic_fetch_add_explicit(&loop->refs, FERRY__LOOP_SPARE, memory_order_relaxed);
    loop->spare_refs = FERRY__LOOP_SPARE - 1;
}

/* The user's reference is one of those that are left. */
static void give_spare_refs(ferry_loop *loop, int keep) {
    atomic_fetch_sub_explicit(&loop->refs, loop->spare_refs - keep, memory_order_release);
    loop->spare_refs = keep;
}

void ferry__loop_unref_slow(ferry_loop *loop) {
    loop->spare_refs++;
    give_spare_refs(loop, FERRY__LOOP_SPARE);
}

bool ferry__loop_here(const ferry_loop *loop) {
    return ferry__loop_is_on(loop, ferry__thread_known());
}

ferry_loop *ferry_loop_current(void) {
    struct ferry__ctx *ctx = ferry__ctx_self();
    return ctx ? ferry__loop_of(ctx) : NULL;
}

struct event_base *ferry_loop_base(ferry_loop *loop) {
    return loop ? loop->base : NULL;
}

/* ---- Keeping the base busy, and waking it ---------------------------------------------------- */

/* The program has freed its base before the loop on it: that took the wake event out, which
 * nobody else does. */
bool ferry__loop_base_gone(const ferry_loop *loop) {
    return !(loop->wake_event->ev_evcallback.evcb_flags & EVLIST_INSERTED);
}

static void update_keep(ferry_loop *loop) {
    bool keep = loop->own_run || loop->n_tasks > 0 || ferry__loop_callbacks(loop) > 0;
    if (keep == loop->kept || !loop->keep_event || ferry__loop_forked(loop) ||
        ferry__loop_base_gone(loop))
        return;
    if (keep ? event_add(loop->keep_event, NULL) == 0 : event_del(loop->keep_event) == 0)
        loop->kept = keep;
}

static void recount_run(ferry_loop *loop, struct ferry__item *item) {
    (void)item;
    atomic_store(&loop->recounting, 0);
    FERRY__POINT(loop_recount);
    ferry__loop_unref(loop); /* the caller holds one of its own */
}

static void recount_drop(struct ferry__item *item) {
    ferry__loop_unref(ferry__container(item, ferry_loop, recount_item));
}

void ferry__loop_expect(ferry_loop *loop) {
    if (ferry__loop_here(loop)) {
        update_keep(loop);
        return;
    }
    if (atomic_exchange(&loop->recounting, 1))
        return;
    ferry__loop_ref(loop);
    loop->recount_item.run = recount_run;
    loop->recount_item.drop = recount_drop;
    if (!ferry__loop_send(loop, &loop->recount_item))
        ferry__loop_unref(loop);
}

bool ferry__loop_send(ferry_loop *loop, struct ferry__item *item) {
    return ferry__inbox_put(&loop->inbox, item);
}

/* A shutdown writes the state and then looks at `entering`: it sees whoever has seen the loop
 * open. The first look at the state is for those who come again and again: they don't hold up
 * the shutdown. */
bool ferry__loop_accept(ferry_loop *loop, struct ferry__item *item) {
    if (atomic_load(&loop->state) != FERRY__LOOP_OPEN)
        return false;
    atomic_fetch_add(&loop->entering, 1);
    FERRY__POINT(loop_entering);
    bool taken = atomic_load(&loop->state) == FERRY__LOOP_OPEN && ferry__loop_send(loop, item);
    FERRY__POINT(loop_accepted);
    atomic_fetch_sub(&loop->entering, 1);
    return taken;
}

static void arm(ferry_loop *loop, int64_t at) {
    loop->probing = false;
    if (loop->tick_at == at || !loop->tick_event || ferry__loop_base_gone(loop))
        return;
    if (at == FERRY__NEVER) {
        event_del(loop->tick_event);
        loop->tick_at = at;
        return;
    }
    int64_t us = at == 0 ? 0 : (at - ferry__now() + 999) / 1000;
    if (us < 0)
        us = 0;
    struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    if (event_add(loop->tick_event, &tv) < 0)
        event_active(loop->tick_event, EV_TIMEOUT, 1); /* no memory for a timer: at once */
    loop->tick_at = at;
}

void ferry__loop_arm_turn(ferry_loop *loop) {
    arm(loop, 0);
}

void ferry__loop_ended(ferry_loop *loop) {
    if (!loop->turning)
        update_keep(loop);
    struct ferry__waiter *quiet = loop->quiet;
    if (quiet && loop->n_tasks <= 1) {
        loop->quiet = NULL;
        if (ferry__claim(quiet))
            ferry__wake(quiet);
    }
}

/* ---- Turning --------------------------------------------------------------------------------- */

static void fire_timers(ferry_loop *loop) {
    struct ferry__timer *timer;
    while ((timer = ferry__heap_first(&loop->timers)) && timer->at <= loop->now) {
        struct ferry__task *task = ferry__container(timer, struct ferry__task, timer);
        ferry__heap_remove(&loop->timers, timer);
        if (task->state != FERRY__TASK_PARKED)
            continue;
        ferry__poke(&task->ctx, loop->now);
        ferry__scope_tell(&task->ctx);
        int64_t again = ferry__look_again_at(&task->ctx);
        if (task->state == FERRY__TASK_PARKED && again != FERRY__NEVER && again > loop->now)
            ferry__heap_add(&loop->timers, timer, again);
    }
}

static bool drain(ferry_loop *loop) {
    struct ferry__item *item;
    int left = ITEMS_A_SLICE;
    for (; left > 0 && (item = ferry__inbox_get(&loop->inbox)); left--)
        item->run(loop, item);
    if (left < ITEMS_A_SLICE)
        ferry__spin_amount(&loop->inbox.spin, (size_t)(ITEMS_A_SLICE - left));
    return left < ITEMS_A_SLICE;
}

static bool has_work(ferry_loop *loop) {
    return loop->ready_first || ferry__inbox_waits(&loop->inbox);
}

/* Between two slices the loop looks at its inbox and at the clock, which costs as much as some ten
 * switches: a slice whose steps were used up has more of them the next time, as long as they don't
 * take long. */
static void learn_slice(ferry_loop *loop, int64_t ns) {
    if (ns > NS_A_SLICE && loop->slice > STEPS_A_SLICE)
        loop->slice /= 2;
    else if (ns < NS_A_SLICE / 2 && loop->steps == 0 && loop->slice < STEPS_A_SLICE_MOST)
        loop->slice *= 2;
}

/* Inbox, timers and ready tasks, within the budget; false when there was nothing to do. */
static bool turn(ferry_loop *loop) {
    bool worked = false;
    ferry__loop_ref(loop);
    loop->turning = true;
    ferry__inbox_rouse(&loop->inbox);
    loop->now = ferry__now();
    int64_t end = loop->now + NS_A_TURN;
    for (int steps = STEPS_A_TURN; steps > 0 && loop->now < end;) {
        worked |= drain(loop);
        fire_timers(loop);
        steps -= loop->slice;
        loop->steps = loop->slice;
        ferry__loop_run_ready(loop);
        worked |= loop->steps < loop->slice;
        if (!has_work(loop)) {
            if (loop->owed)
                ferry__executor_owed(loop);
            if (ferry__loop_jobs(loop) <= 0 || !ferry__inbox_linger(&loop->inbox))
                break;
            /* The file descriptors have waited meanwhile. */
            if (end > loop->now + NS_LINGERING)
                end = loop->now + NS_LINGERING;
        }
        int64_t before = loop->now;
        loop->now = ferry__now();
        learn_slice(loop, loop->now - before);
    }
    if (loop->owed)
        ferry__executor_owed(loop);
    loop->turning = false;
    if (loop->base && !ferry__loop_forked(loop)) {
        update_keep(loop);
        ferry__inbox_doze(&loop->inbox);
        struct ferry__timer *first = ferry__heap_first(&loop->timers);
        if (has_work(loop)) {
            ferry__inbox_rouse(&loop->inbox); /* it turns again by itself */
            arm(loop, 0);
        } else if (first || !loop->probing) {
            arm(loop, first ? first->at : FERRY__NEVER);
        }
    }
    ferry__loop_unref(loop);
    return worked;
}

/* In the child of a fork, after its event_reinit(): the parent's loop stands still, and its fd
 * is for the parent to read. */
static bool leave_base(ferry_loop *loop) {
    if (!ferry__loop_forked(loop))
        return false;
    event_del(loop->wake_event);
    event_del(loop->tick_event);
    event_del(loop->keep_event);
    return true;
}

static void turn_from_base(ferry_loop *loop) {
    if (loop->own_run) /* EVLOOP_ONCE alone doesn't return after an internal event */
        event_base_loopbreak(loop->base);
    if (loop->own_run || loop->turning || !loop->base)
        return;
    if (!ferry__loop_here(loop)) { /* the program dispatches elsewhere than it attached */
        ferry__loop_unbind(loop);
        ferry__loop_bind(loop);
    }
    ferry__context_adopt(&loop->context);
    turn(loop);
    ferry__context_release(&loop->context);
}

static void on_wake(evutil_socket_t fd, short events, void *arg) {
    ferry_loop *loop = arg;
    (void)fd;
    (void)events;
    if (leave_base(loop))
        return;
    ferry__inbox_empty(&loop->inbox);
    turn_from_base(loop);
}

static void on_tick(evutil_socket_t fd, short events, void *arg) {
    ferry_loop *loop = arg;
    (void)fd;
    (void)events;
    if (leave_base(loop))
        return;
    loop->tick_at = FERRY__NEVER;
    loop->probing = false;
    turn_from_base(loop);
}

static void on_keep(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    (void)arg;
}

/* For the handler that names the task whose stack is full: it may only look at memory. */
static const struct ferry__stack *running_stack(const char **name) {
    struct ferry__thread *thread = ferry__thread_known();
    if (!thread || thread->current->kind != FERRY__TASK)
        return NULL;
    struct ferry__task *task = ferry__container(thread->current, struct ferry__task, ctx);
    *name = task->future.name;
    return task->stack;
}

/* ---- Making one ------------------------------------------------------------------------------ */

static void free_events(ferry_loop *loop, bool gone) {
    struct event **events[] = {&loop->wake_event, &loop->tick_event, &loop->keep_event};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        if (*events[i] && gone)
            (*events[i])->ev_base = NULL; /* not to be looked at */
        if (*events[i])
            event_free(*events[i]);
        *events[i] = NULL;
    }
    if (loop->own_base && loop->base)
        event_base_free(loop->base);
    loop->base = NULL;
}

/* libevent ends the process when it has no descriptors for the pipe of its signals. So they are
 * tried before: one for the kernel's queue, one for its timer, two for the pipe. */
static bool enough_descriptors(int some) {
    int fds[4];
    size_t n = 0;
    while (n < sizeof fds / sizeof fds[0] && (fds[n] = fcntl(some, F_DUPFD_CLOEXEC, 0)) >= 0)
        n++;
    bool enough = n == sizeof fds / sizeof fds[0];
    int saved = errno;
    while (n > 0)
        close(fds[--n]);
    errno = saved;
    return enough;
}

static struct event_base *new_base(int some_fd) {
    if (!enough_descriptors(some_fd))
        return NULL;
    struct event_config *config = event_config_new();
    if (!config)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static ferry_loop *loop_new(struct event_base *base) {
    ferry_loop *loop = ferry__calloc_lines(sizeof *loop);
    if (!loop) {
        errno = ENOMEM;
        return NULL;
    }
    atomic_init(&loop->refs, 1);
    loop->tick_at = FERRY__NEVER;
    loop->own_base = base == NULL;
    loop->generation = atomic_load(&ferry__generation);
    loop->ready_end = &loop->ready_first;
    loop->slice = STEPS_A_SLICE;
    ferry__stack_cache_init(&loop->stacks);
    /* Each loop writes the same value, but on its own thread. */
    __atomic_store_n(&ferry__overflow_current, running_stack, __ATOMIC_RELEASE);
    int rc = ferry__inbox_init(&loop->inbox);
    if (rc < 0) {
        ferry__free(loop);
        errno = -rc;
        return NULL;
    }
    errno = 0;
    loop->base = base ? base : new_base(loop->inbox.bell.fd[0]);
    if (loop->base) {
        loop->wake_event =
            event_new(loop->base, loop->inbox.bell.fd[0], EV_READ | EV_PERSIST, on_wake, loop);
        loop->tick_event = event_new(loop->base, -1, 0, on_tick, loop);
        loop->keep_event =
            event_new(loop->base, loop->inbox.bell.fd[0], EV_READ | EV_PERSIST, on_keep, loop);
        if (loop->wake_event && loop->tick_event && loop->keep_event) {
            loop->wake_event->ev_evcallback.evcb_flags |= EVLIST_INTERNAL;
            if (event_add(loop->wake_event, NULL) == 0) {
                loop->now = ferry__now();
                return loop;
            }
        }
    }
    int saved = errno ? errno : ENOMEM;
    free_events(loop, false);
    ferry__stack_cache_fini(&loop->stacks);
    ferry__loop_unref(loop);
    errno = saved;
    return NULL;
}

ferry_loop *ferry_loop_new(void) {
    if (!ferry__thread_self()) {
        errno = ENOMEM;
        return NULL;
    }
    return loop_new(NULL);
}

ferry_loop *ferry_loop_attach(struct event_base *base) {
    if (!base) {
        errno = EINVAL;
        return NULL;
    }
    if (!ferry__thread_self()) {
        errno = ENOMEM;
        return NULL;
    }
    ferry_loop *loop = loop_new(base);
    if (loop) {
        ferry__loop_bind(loop);
        arm(loop, 0); /* a first turn: other threads may hand work in before it is dispatched */
    }
    return loop;
}

static void close_inbox(ferry_loop *loop) {
    struct ferry__item *item = ferry__inbox_close(&loop->inbox);
    while (item) {
        struct ferry__item *next = item->next;
        if (item->drop)
            item->drop(item);
        item = next;
    }
}

/* Jobs and callbacks that are left hold references of their own: they find the inbox closed. */
static void destroy(ferry_loop *loop) {
    if (loop->closing) /* there was no need of it */
        ferry__future_unref(&loop->closing->future);
    loop->closing = NULL;
    atomic_store(&loop->state, FERRY__LOOP_DOWN); /* then: who makes an executor now looks at it */
    ferry_executor *executor = atomic_load(&loop->executor);
    if (executor) /* it stays: a job that was given up may just be about to use it */
        ferry__executor_dismiss(executor);
    ferry__loop_unbind(loop);
    close_inbox(loop);
    free_events(loop, ferry__loop_base_gone(loop));
    ferry__heap_fini(&loop->timers);
    ferry__stack_cache_fini(&loop->stacks);
    ferry__executor_reserve_end(loop);
    give_spare_refs(loop, 0);
    ferry__loop_unref(loop);
}

/* The other threads of the parent, and what they were about to hand in, aren't here, and
 * libevent's side is shared with it: closing that would disturb it there. */
static void forget_forked(ferry_loop *loop) {
    atomic_store(&loop->state, FERRY__LOOP_DOWN);
    ferry__loop_unbind(loop);
    ferry__inbox_close(&loop->inbox);
}

int ferry_loop_free(ferry_loop *loop) {
    if (!loop)
        return 0;
    if (ferry__loop_forked(loop)) {
        forget_forked(loop);
        return 0;
    }
    /* After a shutdown those callbacks are left whose handles haven't ended. They are dropped. And
     * jobs that were left behind may have come home since: nobody else takes them out. */
    bool down = atomic_load(&loop->state) == FERRY__LOOP_DOWN;
    if (down && loop->n_tasks == 0 && !loop->turning && !loop->own_run)
        close_inbox(loop);
    long callbacks = down ? 0 : ferry__loop_callbacks(loop);
    long jobs = ferry__loop_jobs(loop);
    bool gone = ferry__loop_base_gone(loop), busy = loop->n_tasks > 0 || callbacks > 0 || jobs > 0;
    if (gone && busy)
        return (int)ferry_fail(-EINVAL, "%s", ferry__say_base_gone.text);
    if (loop->turning || loop->own_run || busy)
        return (int)ferry_fail(
            -EBUSY,
            "the loop is running, or has %zu tasks, %ld callbacks and %ld jobs left: shut it "
            "down first",
            loop->n_tasks, callbacks, jobs);
    destroy(loop);
    return gone ? (int)ferry_fail(-EINVAL, "%s", ferry__say_base_gone.text) : 0;
}

void ferry__loop_leave_behind(ferry_loop *loop) {
    if (loop->n_tasks == 0) {
        destroy(loop);
        return;
    }
    ferry__executor_reserve_end(loop);
    close_inbox(loop); /* the tasks' stacks are part of it */
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Threads of this process, ours that are idle not counted. 0: unknown. */
static long threads_awake(void) {
#ifdef __linux__
    struct stat st;
    if (stat("/proc/self/task", &st) == 0)
        return (long)st.st_nlink - 2 - ferry__threads_idle() - ferry__service_idle();
#endif
    return 0;
}

/* Whether only another thread could make a task of this loop ready. */
static bool depends_on_threads(ferry_loop *loop) {
    if (loop->n_fds > 0 || ferry__loop_jobs(loop) > 0 || ferry__heap_first(&loop->timers) ||
        loop->n_tasks == 0)
        return false;
    return event_base_get_num_events(loop->base, EVENT_BASE_COUNT_ADDED) <=
           1 + (loop->tick_at != FERRY__NEVER);
}

/* Whether nothing in this process can make one ready any more, when only another thread could.
 * Only said when it is certain. */
static bool dead_end(ferry_loop *loop) {
    return !ferry__signals_awaited() && threads_awake() == 1 + FERRY__TSAN && !has_work(loop);
}

static void break_deadlock(ferry_loop *loop) {
    loop->deadlocked = true;
    ferry__loop_report(loop,
                       "deadlock: nothing is left that could wake these tasks; they are cancelled");
    for (struct ferry__task *task = loop->tasks; task; task = task->next)
        ferry__task_cancel(task);
}

static bool is_down(const ferry_loop *loop) {
    return atomic_load(&((ferry_loop *)loop)->state) == FERRY__LOOP_DOWN;
}

/* Somebody elsewhere waits for the end of the loop, and whoever turns it sees to that. */
static bool ends_for_others(const ferry_loop *loop) {
    return atomic_load(&((ferry_loop *)loop)->awaited) > 0 && !is_down(loop);
}

/* Until the task has ended; NULL: until the loop is down. */
static int64_t turn_until_done(ferry_loop *loop, struct ferry__task *task, bool stoppable) {
    bool reported = loop->deadlocked = false;
    int64_t pause_ms = FIRST_LOOK_MS;
    for (;;) {
        bool worked = turn(loop);
        if (ferry__loop_forked(loop)) /* a task has forked, and this is the child */
            return FERRY_EFORKED;
        bool stop = atomic_exchange(&loop->stop, 0) && stoppable && !ends_for_others(loop);
        if (!ends_for_others(loop) && (task ? ferry__future_done(&task->future) : is_down(loop)))
            return 0;
        if (worked)
            pause_ms = FIRST_LOOK_MS;
        bool wait = !stop && loop->tick_at != 0;
        if (wait && !loop->probing && depends_on_threads(loop)) {
            if (!worked && dead_end(loop)) {
                if (reported && loop->patience && !atomic_load(&loop->unshielded)) {
                    ferry__loop_hurry(loop); /* or it would wait for ever for what is shielded */
                    continue;
                }
                if (reported)
                    return -EDEADLK;
                reported = true;
                break_deadlock(loop);
                continue;
            }
            arm(loop, ferry__deadline(pause_ms));
            loop->probing = true;
            if (pause_ms < LAST_LOOK_MS)
                pause_ms *= 2;
        }
        FERRY__POINT(loop_wait);
        event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
        if (stop)
            return FERRY_ESTOPPED;
    }
}

/* Takes an own loop that nobody runs for the calling thread. */
static int64_t take_loop(ferry_loop *loop, struct ferry__thread *thread) {
    struct ferry__ctx *ctx = thread->current;
    if (!loop)
        return ferry__error_say(ctx, -EINVAL, &say_no_loop);
    if (ferry__loop_forked(loop))
        return ferry__error_say(ctx, FERRY_EFORKED, &ferry__say_parents_loop);
    if (ctx->kind != FERRY__THREAD)
        return ferry__error_say(ctx, -EDEADLK, &say_inside);
    if (ferry__inside_a_loop(thread))
        return ferry__error_say(ctx, -EDEADLK, &say_inside);
    if (!loop->own_base)
        return ferry__error_say(ctx, -EINVAL, &say_attached);
    if (atomic_load(&loop->state) == FERRY__LOOP_DOWN)
        return ferry__error_say(ctx, FERRY_ECLOSED, &say_down);
    struct ferry__thread *nobody = NULL;
    if (!atomic_compare_exchange_strong(&loop->thread, &nobody, thread))
        return ferry__error_say(ctx, -EINVAL, &say_other_thread);
    ferry__loop_bind(loop);
    return 0;
}

/* Of a loop that was taken. A shutdown isn't stoppable. */
static int64_t run_main_task(ferry_loop *loop, struct ferry__ctx *ctx,
                             void (*started)(struct ferry__task *task), bool stoppable) {
    struct ferry__task *task = loop->main_task;
    loop->own_run = true;
    ferry__context_adopt(&loop->context);
    if (started)
        started(task);
    int64_t rc = turn_until_done(loop, task, stoppable);
    if (rc == 0) {
        loop->main_task = NULL;
        rc = task->future.result;
        atomic_store(&task->future.read, true);
        ferry__error_set(ctx, rc, rc < 0 ? ferry__detail_ref(task->future.detail) : NULL);
        ferry__future_unref(&task->future);
    } else if (rc == FERRY_EFORKED) {
        ferry__error_say(ctx, rc, &ferry__say_parents_loop);
    } else if (rc == FERRY_ESTOPPED) {
        ferry__error_set(ctx, rc, &say_stopped);
    }
    if (loop->deadlocked && (rc == -ECANCELED || rc == -EDEADLK))
        rc = ferry__error_say(ctx, -EDEADLK, &say_deadlock);
    ferry__context_release(&loop->context);
    loop->own_run = false;
    return rc;
}

int64_t ferry__loop_serve(ferry_loop *loop, struct ferry__task *task, bool hurry) {
    struct ferry__thread *thread = ferry__thread_self();
    int64_t rc = thread ? take_loop(loop, thread) : -ENOMEM;
    if (rc < 0)
        return rc;
    if (!task && (task = loop->spared))
        ferry__task_cancel(task); /* a shield keeps this from the shutdown that it is at */
    if (task)
        ferry_ref(&task->future);
    if (hurry)
        ferry__loop_hurry(loop);
    loop->own_run = true;
    ferry__context_adopt(&loop->context);
    rc = turn_until_done(loop, task, false);
    ferry__context_release(&loop->context);
    loop->own_run = false;
    if (rc == -EDEADLK)
        ferry__error_say(thread->current, rc, &say_deadlock);
    if (task)
        ferry__future_unref(&task->future);
    /* Of a run that was stopped. */
    if (loop->main_task && ferry__future_done(&loop->main_task->future)) {
        ferry__future_unref(&loop->main_task->future);
        loop->main_task = NULL;
    }
    update_keep(loop);
    ferry__loop_unbind(loop);
    return rc;
}

/* Who asks for a shutdown elsewhere counts himself as waiting and looks then whether anybody
 * turns the loop; here it is the other way round. So one of the two turns it to its end. */
static int64_t give_loop_back(ferry_loop *loop, int64_t rc) {
    update_keep(loop);
    ferry__loop_unbind(loop);
    FERRY__POINT(loop_given_back);
    atomic_thread_fence(memory_order_seq_cst);
    if (ends_for_others(loop) && !ferry__loop_forked(loop)) {
        struct ferry__ctx *ctx = ferry__ctx_self();
        struct ferry__detail *detail = rc < 0 ? ferry__error_take(ctx, rc) : NULL;
        ferry__loop_serve(loop, NULL, false);
        if (rc < 0)
            ferry__error_set(ctx, rc, detail);
    }
    return rc;
}

int64_t ferry__loop_run_task(ferry_loop *loop, struct ferry__task *task,
                             void (*started)(struct ferry__task *task)) {
    struct ferry__thread *thread = ferry__thread_self();
    int64_t rc = thread ? take_loop(loop, thread) : -ENOMEM;
    if (rc < 0) {
        ferry__future_unref(&task->future);
        return rc;
    }
    struct ferry__task *stopped = loop->main_task; /* of a run that ferry_loop_stop() ended */
    rc = ferry__task_start(task);
    if (rc < 0) {
        ferry__future_unref(&task->future);
        return give_loop_back(loop, rc);
    }
    loop->main_task = task;
    rc = run_main_task(loop, thread->current, started, started != NULL);
    if (!started) { /* a shutdown: it isn't gone on with */
        bool over = stopped && ferry__future_done(&stopped->future);
        loop->main_task = over ? NULL : stopped;
        if (over)
            ferry__future_unref(&stopped->future);
    }
    return give_loop_back(loop, rc);
}

int64_t ferry_loop_run(ferry_loop *loop, ferry_fn fn, void *arg) {
    struct ferry__thread *thread = ferry__thread_self();
    int64_t rc = thread ? take_loop(loop, thread) : -ENOMEM;
    if (rc < 0)
        return rc;
    struct ferry__ctx *ctx = thread->current;
    struct ferry__task *task = loop->main_task;
    if (fn && task) {
        rc = ferry_fail(-EINVAL, "a run of task '%s' was stopped: go on with that first",
                        task->future.name);
    } else if (!fn && !task) {
        rc = ferry__error_say(ctx, -EINVAL, &say_nothing);
    } else if (!task) {
        task = ferry__task_new(loop, fn, arg, NULL);
        rc = task ? ferry__task_start(task) : -ENOMEM;
        if (rc == 0)
            loop->main_task = task;
        else if (task)
            ferry__future_unref(&task->future);
    }
    if (rc == 0)
        rc = ferry__background_verdict(loop, ctx, run_main_task(loop, ctx, NULL, true));
    return give_loop_back(loop, rc);
}

void ferry_loop_stop(ferry_loop *loop) {
    if (!loop || ferry__loop_forked(loop))
        return;
    atomic_store(&loop->stop, 1);
    if (!ferry__loop_here(loop))
        ferry__loop_expect(loop);
}

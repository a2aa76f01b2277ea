/* ferry_run(): a loop, its executor, signals and an orderly end, in one call.
 *
 * SIGINT and SIGTERM come on the service thread. The first one cancels the first task; the
 * second, or the first after that task has ended, makes shields and the grace count no longer
 * and puts the signals' former actions back, so that the next one does what it always did. The
 * service thread hands both to the loop as items of the watch record, which lives until the
 * signals were unwatched and the loop's inbox is closed. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "core.h"
#include "overflow.h"
#include "signal_wait.h"

#define GRACE_MS 5000
#define MAIN_STACK ((size_t)256 * 1024)

struct interrupts {
    ferry_loop *loop;
    struct ferry__task *task;  /* loop thread: the first one; a reference, until the run is over,
                                * which it may be for a while before somebody else's shutdown is */
    struct ferry__item item;
    _Atomic int on_its_way;    /* atomic: item is in the inbox */
    _Atomic int count;         /* atomic: signals so far */
    int seen;                  /* loop thread */
    bool interrupted;          /* loop thread: a signal was what cancelled the task */
    struct ferry__signal_watch *watch[2];
};

static struct ferry__detail say_interrupted = FERRY__STATIC_DETAIL("interrupted by a signal");

/* One loop at a time is run by a thread; the interrupts belong to that run. */
static _Thread_local struct interrupts *starting;

static void unwatch(struct interrupts *in) {
    for (int i = 0; i < 2; i++) {
        ferry__signal_unwatch(in->watch[i]);
        in->watch[i] = NULL;
    }
}

static void interrupt_run(ferry_loop *loop, struct ferry__item *item) {
    struct interrupts *in = ferry__container(item, struct interrupts, item);
    atomic_store(&in->on_its_way, 0);
    int count = atomic_load(&in->count);
    bool ended = !in->task || ferry__future_done(&in->task->future);
    if (in->seen == 0 && !ended) {
        in->seen = 1;
        in->interrupted = ferry__scope_request(&in->task->ctx.root, FERRY__REQUEST_CANCEL);
        ferry__ctx_kick(&in->task->ctx);
    }
    if ((count > 1 || ended) && in->seen < 2) {
        in->seen = 2;
        unwatch(in);
        ferry__loop_hurry(loop);
    }
}

static void on_signal(void *arg) {
    struct interrupts *in = arg;
    atomic_fetch_add(&in->count, 1);
    if (!atomic_exchange(&in->on_its_way, 1))
        ferry__loop_send(in->loop, &in->item);
}

static void started(struct ferry__task *task) {
    if (starting) {
        ferry_ref(&task->future);
        starting->task = task;
    }
}

int64_t ferry_run(ferry_fn fn, void *arg) {
    return ferry_run_with(fn, arg, NULL);
}

int64_t ferry_run_with(ferry_fn fn, void *arg, const ferry_run_options *options) {
    static const ferry_run_options none;
    if (!options)
        options = &none;
    if (!fn || options->grace_ms < 0)
        return ferry_fail(-EINVAL, "ferry_run() without a function, or with a negative grace_ms");
    errno = 0;
    ferry_loop *loop = ferry_loop_new();
    if (!loop)
        return ferry_fail(errno ? -errno : -ENOMEM, "the event loop can't be made: %s",
                          ferry_strerror(errno ? -errno : -ENOMEM));
    loop->ends_itself = true;
    ferry_task_options first = {
        .name = "main", .stack_size = options->stack_size ? options->stack_size : MAIN_STACK};
    struct ferry__task *task = ferry__task_new(loop, fn, arg, &first);
    if (!task || !ferry__shutdown_prepare(loop)) {
        const char *why = task && loop->closing ? ferry__stack_error() : ferry_strerror(-ENOMEM);
        if (task)
            ferry__future_unref(&task->future);
        ferry__loop_leave_behind(loop);
        return ferry_fail(-ENOMEM, "there is no memory for the first task and the shutdown: %s",
                          why);
    }
    bool overflow_stack = false;
    if (!options->no_overflow_handler) {
        ferry__overflow_install();
        overflow_stack = ferry__overflow_thread() == 0;
    }
    struct interrupts in = {.loop = loop, .item.run = interrupt_run};
    if (!options->no_signals) {
        static const int signals[] = {SIGINT, SIGTERM};
        for (int i = 0; i < 2; i++) {
            int rc = ferry__signal_watch(signals[i], on_signal, &in, &in.watch[i]);
            if (rc < 0)
                ferry__log(FERRY_LOG_WARNING, "signal %d isn't handled: %s", signals[i],
                           ferry_strerror(rc));
        }
    }
    struct interrupts *outer = starting;
    starting = &in;
    int64_t rc = ferry__loop_run_task(loop, task, started);
    starting = outer;
    bool ran = in.task != NULL; /* it was neither refused nor out of memory */
    if (ran)
        ferry__future_unref(&in.task->future);
    in.task = NULL;
    /* the first task or one of the others forked: this is the child */
    if (rc == FERRY_EFORKED && ferry__loop_forked(loop)) {
        unwatch(&in);
        return rc;
    }
    struct ferry__ctx *ctx = ferry__ctx_self();
    struct ferry__detail *detail = rc < 0 ? ferry__error_take(ctx, rc) : NULL;
    int left = 0;
    if (ran)
        left = ferry__shutdown_after_run(loop, options->grace_ms ? options->grace_ms : GRACE_MS);
    unwatch(&in);
    if (rc == -ECANCELED && in.interrupted) {
        ferry__detail_unref(detail);
        rc = ferry__error_say(ctx, -EINTR, &say_interrupted);
    } else {
        if (rc < 0)
            ferry__error_set(ctx, rc, detail);
        rc = ferry__background_verdict(loop, ctx, rc);
    }
    if (overflow_stack)
        ferry__overflow_thread_end();
    if (left > 0)
        ferry__log(FERRY_LOG_WARNING, "%d tasks or jobs were left behind", left);
    /* what is left, if anything; with it the item, should it be in the inbox */
    ferry__loop_leave_behind(loop);
    return rc;
}

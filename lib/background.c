/* A loop's background: tasks and jobs that nobody waits for.
 *
 * Each is a task of the loop, so all rules for those hold: one that was accepted ends, at the
 * latest by the loop's shutdown. For a job it is a task that submits and awaits it: the await owns,
 * so what cancels and joins the task does so with the job.
 *
 * A member's record hears of the end of its task by a link that is set before the start, so that no
 * end is missed: neither that of a task without a stack nor of one whose loop was closed first.
 * The link logs the error and takes the member off the count. What the program is told (handler,
 * end of the run) comes as a callback on the loop, as everything that isn't to wait does: the
 * record is sent there as an item then.
 *
 *     link -> freed                        it succeeded, was cancelled, or the log is enough
 *     link -> item -> run or drop, freed   else
 *
 * Owners: a member is the starting call's until it has started, then its task's (job), the link's
 * and the item's, one after the other. loop->background is under its lock. Lock order: that lock
 * stands alone. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "executor.h"
#include "line.h"

#define MAX_DEFAULT 10000

struct member {
    struct ferry__link link;
    struct ferry__item item;
    ferry_loop *loop;   /* a reference */
    ferry_future *task; /* a reference */
    /* Of a job; the task's */
    ferry_executor *executor; /* one of its owners, until it has the job; NULL */
    ferry_fn fn;
    void *arg;
    ferry_job_options options;
    bool submitted; /* arg is the job's */
    char key[];     /* of options.limiter */
};

static struct ferry__detail say_no_loop =
    FERRY__STATIC_DETAIL("there is no loop here whose background this could be, or no function");
static struct ferry__detail say_down =
    FERRY__STATIC_DETAIL("the loop was shut down: it takes nothing into its background any more");
static struct ferry__detail say_parent =
    FERRY__STATIC_DETAIL("the loop belongs to the parent process: fork() copies no threads");
static struct ferry__detail say_policy =
    FERRY__STATIC_DETAIL("on_error is FERRY_BACKGROUND_LOG or FERRY_BACKGROUND_FAIL");

static ferry_loop *current(ferry_loop *loop) {
    struct ferry__ctx *ctx = loop ? NULL : ferry__ctx_self();
    return ctx ? ferry__loop_of(ctx) : loop;
}

int ferry_background_configure(ferry_loop *loop, const ferry_background_options *options) {
    static const ferry_background_options defaults;
    if (!options)
        options = &defaults;
    loop = current(loop);
    if (!loop)
        return ferry__refuse(-EINVAL, &say_no_loop);
    if (options->on_error < FERRY_BACKGROUND_LOG || options->on_error > FERRY_BACKGROUND_FAIL)
        return ferry__refuse(-EINVAL, &say_policy);
    if (ferry__loop_forked(loop))
        return ferry__refuse(FERRY_EFORKED, &say_parent);
    struct ferry__background *b = &loop->background;
    ferry__lock(&b->lock);
    b->options = *options;
    ferry__unlock(&b->lock);
    return 0;
}

size_t ferry_background_count(ferry_loop *loop) {
    loop = current(loop);
    if (!loop || ferry__loop_forked(loop))
        return 0;
    ferry__lock(&loop->background.lock);
    size_t count = loop->background.count;
    ferry__unlock(&loop->background.lock);
    return count;
}

/* ---- The end of one -------------------------------------------------------------------------- */

static void member_free(struct member *m) {
    ferry_loop *loop = m->loop;
    ferry__future_unref(m->task);
    ferry__free(m);
    ferry__loop_unref(loop);
}

/* The first error ends the run. A shutdown has no first task to end. */
static void end_run(ferry_loop *loop, const ferry_future *f) {
    struct ferry__background *b = &loop->background;
    struct ferry__detail *detail = ferry__detail_ref(f->detail);
    ferry__lock(&b->lock);
    bool first = b->failure == 0;
    if (first) {
        b->failure = f->result;
        b->detail = detail;
    }
    ferry__unlock(&b->lock);
    if (!first)
        ferry__detail_unref(detail);
    if (loop->main_task && atomic_load(&loop->state) == FERRY__LOOP_OPEN)
        ferry__task_cancel(loop->main_task);
}

static void tell_program(ferry_loop *loop, struct ferry__item *item) {
    struct member *m = ferry__container(item, struct member, item);
    const ferry_future *f = m->task;
    ferry__lock(&loop->background.lock);
    ferry_background_options options = loop->background.options;
    ferry__unlock(&loop->background.lock);
    if (options.on_error == FERRY_BACKGROUND_FAIL)
        end_run(loop, f);
    if (options.handler) {
        ferry_error error = {.code = f->result,
                             .name = f->name,
                             .message = ferry__detail_words(f->detail, f->result),
                             .causes = f->detail ? f->detail->errors : NULL,
                             .n_causes = f->detail ? f->detail->n_errors : 0};
        options.handler(&error, options.arg);
    }
    ferry__loop_ref(loop);
    member_free(m);
    atomic_fetch_sub(&loop->callbacks, 1);
    ferry__loop_ended(loop);
    ferry__loop_unref(loop);
}

static void tell_nobody(struct ferry__item *item) {
    struct member *m = ferry__container(item, struct member, item);
    atomic_fetch_sub(&m->loop->callbacks, 1);
    member_free(m);
}

static void when_done(struct ferry__link *link, ferry_future *f, struct ferry__wakes *wakes) {
    (void)f;
    ferry__wakes_later(wakes, link);
}

static void ended(struct ferry__link *link, ferry_future *f) {
    struct member *m = ferry__container(link, struct member, link);
    ferry_loop *loop = m->loop;
    struct ferry__background *b = &loop->background;
    bool failed = f->result < 0 && f->result != -ECANCELED;
    ferry__lock(&b->lock);
    b->count--;
    bool told = failed && (b->options.handler || b->options.on_error == FERRY_BACKGROUND_FAIL);
    ferry__unlock(&b->lock);
    atomic_store_explicit(&f->read, true, memory_order_relaxed);
    if (failed)
        ferry__log(FERRY_LOG_ERROR, "'%s' failed in the background: %s", f->name,
                   ferry__detail_words(f->detail, f->result));
    if (!told) {
        member_free(m);
        return;
    }
    m->item.run = tell_program;
    m->item.drop = tell_nobody;
    bool here = ferry__loop_here(loop);
    atomic_fetch_add(&loop->callbacks, 1);
    if (!ferry__loop_send(loop, &m->item))
        tell_nobody(&m->item);
    else if (here)
        ferry__loop_need_turn(loop);
}

int64_t ferry__background_verdict(ferry_loop *loop, struct ferry__ctx *ctx, int64_t rc) {
    struct ferry__background *b = &loop->background;
    if (rc == FERRY_ESTOPPED || ferry__loop_forked(loop)) /* the run will go on; in the parent */
        return rc;
    ferry__lock(&b->lock);
    int64_t failure = b->failure;
    struct ferry__detail *detail = b->detail;
    b->failure = 0;
    b->detail = NULL;
    ferry__unlock(&b->lock);
    if (failure == 0 || (rc < 0 && rc != -ECANCELED)) {
        ferry__detail_unref(detail);
        return rc;
    }
    ferry__error_set(ctx, failure, detail);
    return failure;
}

/* ---- Starting one ---------------------------------------------------------------------------- */

/* Takes a place, or says why there is none. */
static int reserve(ferry_loop *loop, ferry_fn fn, bool *drains) {
    if (!loop || !fn)
        return ferry__refuse(-EINVAL, &say_no_loop);
    if (ferry__loop_forked(loop))
        return ferry__refuse(FERRY_EFORKED, &say_parent);
    struct ferry__background *b = &loop->background;
    ferry__lock(&b->lock);
    size_t max = b->options.max ? b->options.max : MAX_DEFAULT;
    bool room = b->count < max;
    b->count += room;
    *drains = b->options.drain;
    ferry__unlock(&b->lock);
    if (room)
        return 0;
    return (int)ferry_fail(-EAGAIN, "the loop has %zu tasks and jobs in its background already",
                           max);
}

static void give_place_back(ferry_loop *loop) {
    ferry__lock(&loop->background.lock);
    loop->background.count--;
    ferry__unlock(&loop->background.lock);
}

/* Starts it in a place that was taken; an error gives that back. */
static int start(ferry_loop *loop, struct member *m, ferry_fn fn, void *arg,
                 const ferry_task_options *options, bool drains) {
    struct ferry__task *task = m ? ferry__task_new(loop, fn, arg, options) : NULL;
    if (!task) {
        give_place_back(loop);
        return ferry__refuse(-ENOMEM, NULL);
    }
    task->drains = drains;
    m->loop = loop;
    m->task = &task->future;
    m->link = (struct ferry__link){.notify = when_done, .after = ended};
    ferry__future_link(&task->future, &m->link);
    ferry__loop_ref(loop);
    int rc = ferry__task_start(task);
    if (rc == 0)
        return 0;
    ferry__future_unlink(&task->future, &m->link);
    ferry__future_unref(&task->future);
    ferry__loop_unref(loop);
    give_place_back(loop);
    return ferry__refuse(rc, rc == FERRY_ECLOSED ? &say_down : NULL);
}

int ferry_background_spawn_with(ferry_loop *loop, ferry_fn fn, void *arg,
                                const ferry_task_options *options) {
    bool drains;
    loop = current(loop);
    int rc = reserve(loop, fn, &drains);
    if (rc < 0)
        return rc;
    struct member *m = ferry__calloc(1, sizeof *m);
    rc = start(loop, m, fn, arg, options, drains);
    if (rc < 0)
        ferry__free(m);
    return rc;
}

int ferry_background_spawn(ferry_fn fn, void *arg) {
    return ferry_background_spawn_with(NULL, fn, arg, NULL);
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static int64_t run_job(void *arg) {
    struct member *m = arg;
    m->options.name = ferry_self_name();
    ferry_future *job = ferry_submit_with(m->executor, m->fn, m->arg, &m->options);
    m->submitted = job != NULL;
    ferry_executor_free(m->executor);
    m->executor = NULL;
    ferry_ref(job);
    int64_t rc = ferry_await(job);
    /* Nobody else knows the job: it was cancelled with its executor, which is no error of its
     * own. */
    if (rc == FERRY_EJOBCANCELED && ferry_cancelled(job))
        rc = -ECANCELED;
    ferry_detach(job);
    return rc;
}

/* After run_job(), or without it: the task couldn't start. */
static void give_up_job(void *arg) {
    struct member *m = arg;
    ferry_executor_free(m->executor);
    m->executor = NULL;
    if (!m->submitted && m->options.arg_free)
        m->options.arg_free(m->arg);
}

static struct member *job_member(ferry_executor *executor, ferry_fn fn, void *arg,
                                 const ferry_job_options *options) {
    static const ferry_job_options none;
    if (!options)
        options = &none;
    size_t key = options->key ? strlen(options->key) + 1 : 0;
    struct member *m = ferry__calloc(1, sizeof *m + key);
    if (!m)
        return NULL;
    m->fn = fn;
    m->arg = arg;
    m->options = *options;
    if (key)
        m->options.key = memcpy(m->key, options->key, key);
    m->executor = executor;
    if (executor) {
        ferry__executor_ref(executor);
        atomic_fetch_add(&executor->owners, 1);
    }
    return m;
}

int ferry_background_submit_with(ferry_loop *loop, ferry_executor *executor, ferry_fn fn, void *arg,
                                 const ferry_job_options *options) {
    bool drains;
    loop = current(loop);
    int rc = reserve(loop, fn, &drains);
    if (rc < 0)
        return rc;
    struct member *m = job_member(executor, fn, arg, options);
    ferry_task_options task = {.name = options && options->name ? options->name : "job",
                               .arg_free = give_up_job};
    rc = start(loop, m, run_job, m, &task, drains);
    if (rc < 0 && m) {
        ferry_executor_free(m->executor);
        ferry__free(m);
    }
    return rc;
}

int ferry_background_submit(ferry_executor *executor, ferry_fn fn, void *arg) {
    return ferry_background_submit_with(NULL, executor, fn, arg, NULL);
}

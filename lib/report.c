/* Who waits for what on a loop, for the log: when a loop is stuck, or tasks outlive its
 * shutdown.
 *
 * The string that says what a task waits for may be a queue's own. The queue is there as long as
 * the wait isn't decided. After that any thread may free it, while the task that is to run again
 * is still in its loop's inbox: so the look at the wait and at the string are one step for who
 * frees, who calls ferry__report_over() first. */
#include "config.h"

#include <stdio.h>

#include "core.h"
#include "fork.h"

unsigned ferry__report_lock;

static void waits(const struct ferry__ctx *ctx, char *text, size_t size) {
    ferry__lock(&ferry__report_lock);
    bool decided = ctx->parked && atomic_load_explicit(&ctx->parked->outcome,
                                                       memory_order_acquire) != FERRY__WAITING;
    snprintf(text, size, "has waited for %s for %.1f s",
             decided || !ctx->waits_for ? "its turn" : ctx->waits_for,
             (double)(ferry__now() - ctx->since) / 1e9);
    ferry__unlock(&ferry__report_lock);
}

void ferry__report_over(void) {
    ferry__lock(&ferry__report_lock);
    ferry__unlock(&ferry__report_lock);
}

static const char *doing(const struct ferry__task *task, char *text, size_t size) {
    switch ((enum ferry__task_state)task->state) {
    case FERRY__TASK_NEW:
        return "hasn't begun";
    case FERRY__TASK_READY:
    case FERRY__TASK_WOKEN:
        return "is ready to run";
    case FERRY__TASK_RUNNING:
        return "is running";
    case FERRY__TASK_PARKED:
        waits(&task->ctx, text, size);
        return text;
    case FERRY__TASK_ENDED:
        break;
    }
    return "has ended";
}

void ferry__loop_report(ferry_loop *loop, const char *why) {
    ferry__log(FERRY_LOG_WARNING, "%s", why);
    const struct ferry__task *task = loop->tasks; /* the newest; told from the oldest on */
    while (task && task->next)
        task = task->next;
    for (; task; task = task->prev) {
        if (task == loop->spared) /* it is the one that asks */
            continue;
        char text[80];
        ferry__log(FERRY_LOG_WARNING, "task '%s', %.1f s old, %s", task->future.name,
                   (double)(ferry__now() - task->born) / 1e9, doing(task, text, sizeof text));
    }
}

/* Who waits for what on a loop, for the log: when a loop is stuck, or tasks outlive its
 * shutdown. */
#include "config.h"

#include <stdio.h>

#include "core.h"

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
        snprintf(text, size, "has waited for %s for %.1f s",
                 task->ctx.waits_for ? task->ctx.waits_for : "its turn",
                 (double)(ferry__now() - task->ctx.since) / 1e9);
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

/* The inline executor: a job runs inside ferry_submit(), on the calling thread. For tests, where threads would
 * hide the order of things. What may block a loop's thread is refused there as everywhere (park.c). */
#include "config.h"

#include <errno.h>

#include "executor.h"

void ferry__inline_submit(ferry_executor *executor, struct ferry__job *job, struct ferry__thread *thread) {
    ferry__lock(&executor->lock);
    bool closed = executor->closed;
    job->state = FERRY__JOB_TAKEN;
    if (!closed)
        ferry__executor_began(executor, job);
    ferry__unlock(&executor->lock);
    if (closed) {
        ferry__job_finish(job, (struct ferry__job_end){FERRY_ECLOSED, NULL});
        return;
    }
    struct ferry__job_end end = ferry__job_run(job, thread);
    struct ferry__wakes wakes = {0};
    ferry__lock(&executor->lock);
    ferry__executor_ended(executor, job);
    ferry__executor_check_end(executor, &wakes);
    ferry__unlock(&executor->lock);
    ferry__wake_all(&wakes);
    ferry__job_finish(job, end);
}

int ferry_inline_new(ferry_executor **out) {
    *out = ferry__calloc(1, sizeof **out);
    if (!*out)
        return -ENOMEM;
    ferry__executor_init(*out, FERRY__INLINE, NULL, "inline");
    return 0;
}

/* The inline executor: a job runs inside ferry_submit(), on the calling thread. For tests, where
 * threads would hide the order of things. What may block a loop's thread is refused there as
 * everywhere (park.c). */
#include "config.h"

#include <errno.h>

#include "executor.h"

void ferry__inline_submit(ferry_executor *executor, struct ferry__job *job,
                          struct ferry__thread *thread) {
    ferry__lock(&executor->lock);
    bool closed = executor->closed;
    job->work.state = FERRY__JOB_TAKEN;
    if (!closed)
        ferry__executor_began(executor, job);
    ferry__unlock(&executor->lock);
    if (closed) {
        ferry__job_finish(job, (struct ferry__job_end){FERRY_ECLOSED, &ferry__say_closed});
        return;
    }
    struct ferry__job_end end = ferry__job_run(job, thread);
    ferry__executor_ref(executor); /* the job, and its reference, may be gone before we are */
    ferry__lock(&executor->lock);
    ferry__executor_ended(executor, job);
    executor->delivering++;
    ferry__unlock(&executor->lock);
    ferry__job_finish(job, end);
    ferry__executor_delivered(executor, 1);
    ferry__executor_unref(executor);
}

int ferry_inline_new(ferry_executor **out) {
    *out = ferry__calloc(1, sizeof **out);
    if (!*out)
        return -ENOMEM;
    ferry__executor_init(*out, FERRY__INLINE, NULL, "inline");
    return 0;
}

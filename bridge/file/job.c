/* How the functions of the bridge become jobs. */
#include "config.h"

#include <errno.h>

#include "file.h"

ferry_future *ferry__file_start(ferry_executor *executor, const char *name, ferry_fn fn, void *box,
                                void (*deliver)(void *box, int64_t result),
                                void (*arg_free)(void *box)) {
    ferry_job_options options = {.name = name, .deliver = deliver, .arg_free = arg_free};
    if (!box)
        return NULL;
    ferry_future *future = ferry_submit_with(executor, fn, box, &options);
    if (!future)
        arg_free(box);
    return future;
}

ferry_future *ferry__file_refuse(int64_t code, const char *what) {
    ferry_future *future;
    ferry_promise *promise = ferry_promise_new(&future, "file");
    if (!promise)
        return NULL;
    ferry_promise_set(promise, ferry_fail(code, "%s", what));
    ferry_promise_drop(promise);
    return future;
}

bool ferry__file_cancelled(void) {
    return ferry_checkpoint() == -ECANCELED;
}

int64_t ferry__file_fail(int error, const char *what, const char *path) {
    return ferry_fail(-error, "cannot %s '%s': %s", what, path, ferry_strerror(-error));
}

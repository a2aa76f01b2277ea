/* Structured concurrency: whatever is started in a group has ended when the group is closed.
 *
 * Four downloads, tasks and a job mixed. One fails: the others are cancelled, get to clean up,
 * and the group returns only when all have ended. Every error that happened is there, with the
 * name of who failed. */
#include <ferry.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_int cleaned_up; /* by tasks and a job: on several threads */
static ferry_event at_work = FERRY_EVENT_INIT;

static int64_t download(void *arg) {
    (void)arg;
    int rc = ferry_sleep(10000); /* a long transfer */
    if (rc == -ECANCELED)
        cleaned_up++; /* remove the half-written file */
    return rc;
}

static int64_t broken_mirror(void *arg) {
    ferry_event_wait(&at_work); /* a job that hadn't begun would have nothing to clean up */
    return ferry_fail(-ECONNREFUSED, "mirror %s refuses", (const char *)arg);
}

static int64_t checksum(void *arg) {
    (void)arg;
    ferry_event_set(&at_work);
    while (ferry_checkpoint() == 0) {
        /* a job, on a thread: it asks from time to time whether it should stop */
    }
    cleaned_up++;
    return -ECANCELED;
}

static int64_t fetch_all(void *arg) {
    (void)arg;
    static char mirrors[3][16] = {"a.example", "b.example", "c.example"};
    ferry_task_options named = {.name = "mirror c"};
    ferry_group group = FERRY_GROUP_INIT;
    ferry_group_open(&group);
    ferry_group_spawn(&group, download, mirrors[0]);
    ferry_group_spawn(&group, download, mirrors[1]);
    ferry_group_spawn_with(&group, broken_mirror, mirrors[2], &named, NULL);
    ferry_group_submit(&group, NULL, checksum, NULL);
    int64_t rc = ferry_group_close(&group, 0);

    size_t n;
    const ferry_error *errors = ferry_group_errors(&n);
    for (size_t i = 0; i < n; i++)
        printf("%s failed: %s\n", errors[i].name, errors[i].message);
    printf("%d others stopped and cleaned up\n", cleaned_up);
    return rc == FERRY_EGROUP && n == 1 && cleaned_up == 3 ? 0 : -1;
}

int main(void) {
    return ferry_run(fetch_all, NULL) < 0;
}

/* Time-outs, shields, and a call that doesn't listen.
 *
 * A scope with a deadline covers everything that waits inside it. Clean-up that must still wait
 * gets a shield, with a bound of its own. A blocking call that can't be interrupted is waited
 * for, or, when it was started so, given up: its thread is lost until it returns, but the
 * program goes on. */
#include <ferry.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static int64_t polite(void *arg) {
    (void)arg;
    int64_t rounds = 0;
    while (ferry_checkpoint() == 0)
        rounds++;
    return -ECANCELED;
}

static ferry_event begun = FERRY_EVENT_INIT;

static int64_t deaf(void *arg) {
    (void)arg;
    ferry_event_set(&begun);
    usleep(300000); /* a vendor's call that knows no time-out */
    return 7;
}

static int64_t patience(void *arg) {
    (void)arg;
    int64_t rc = ferry_await_for(ferry_submit(NULL, polite, NULL), 20);
    printf("a polite call: %s\n", ferry_strerror(rc));

    ferry_future *call = ferry_submit(NULL, deaf, NULL);
    ferry_event_wait(&begun); /* one that hadn't begun would never run */
    rc = ferry_await_for(call, 20);
    printf("a deaf call, waited for all the same: %lld\n", (long long)rc);

    ferry_job_options give_up = {.name = "deaf", .policy = FERRY_JOB_ABANDON};
    rc = ferry_await_for(ferry_submit_with(NULL, deaf, NULL, &give_up), 20);
    printf("a deaf call, given up: %s\n", ferry_strerror(rc));

    ferry_scope scope = FERRY_SCOPE_INIT;
    ferry_scope_open(&scope, 20);
    rc = ferry_sleep(10000);
    if (rc == -ECANCELED) { /* say good-bye, at most 100 ms */
        ferry_scope shield = FERRY_SCOPE_INIT;
        ferry_shield_open(&shield, 100);
        int said = ferry_sleep(5);
        ferry_scope_close(&shield, said);
        printf("the clean-up could still wait: %s\n", said == 0 ? "yes" : "no");
    }
    rc = ferry_scope_close(&scope, rc);
    printf("the whole: %s\n", ferry_strerror(rc));
    return rc == -ETIMEDOUT ? 0 : -1;
}

int main(void) {
    return ferry_run(patience, NULL) < 0;
}

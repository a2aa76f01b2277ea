/* Threads and tasks together: a thread awaits a task, and both use one mutex.
 *
 * A program that is full of threads already can start a loop in one of them and hand work to it.
 * The handle is the same on both sides: ferry_await() suspends a task and blocks a thread. */
#include <ferry.h>

#include <pthread.h>
#include <stdio.h>

static ferry_mutex mutex = FERRY_MUTEX_INIT; /* works before any loop exists */
static int balance;

static int64_t deposit(void *arg) {
    for (int i = 0; i < 1000; i++) {
        ferry_lock(&mutex); /* a task suspends here, a thread blocks; first come, first served */
        balance += *(int *)arg;
        ferry_unlock(&mutex);
        ferry_yield();
    }
    return 1000;
}

static void *teller(void *arg) {
    static int one = 1;
    ferry_future *task = ferry_spawn_on(arg, deposit, &one); /* runs on the loop's thread */
    deposit(&one);                                           /* runs here, at the same time */
    int64_t done = ferry_await(task);                        /* blocks this thread only */
    if (done < 0)
        fprintf(stderr, "threads: %s\n", ferry_errmsg());
    return NULL;
}

static int64_t bank(void *arg) {
    (void)arg;
    pthread_t threads[2];
    int made = 0;
    while (made < 2 && pthread_create(&threads[made], NULL, teller, ferry_loop_current()) == 0)
        made++;
    while (ferry_lock(&mutex) == 0) {
        int now = balance;
        ferry_unlock(&mutex);
        if (now == made * 2000)
            break;
        ferry_sleep(1); /* the loop goes on meanwhile */
    }
    for (int i = 0; i < made; i++)
        pthread_join(threads[i], NULL); /* they are done: this doesn't hold the loop up */
    printf("balance: %d of %d\n", balance, made * 2000);
    return made == 2 && balance == 4000 ? 0 : -1;
}

int main(void) {
    return ferry_run(bank, NULL) < 0;
}

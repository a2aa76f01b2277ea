/* Inside a plain libevent program: no task, no change to its main loop.
 *
 * The program has its own event_base and its own timer. Blocking calls go to threads, and their
 * results come back as callbacks on the loop. The base ends by itself when nothing is
 * outstanding any more. */
#include <ferry.h>

#include <event2/event.h>
#include <stdio.h>
#include <unistd.h>

static int ticks;
static struct event *timer;
static ferry_event ticked = FERRY_EVENT_INIT;

static void tick(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    (void)arg;
    ticks++; /* the loop turns while the jobs block */
    ferry_event_set(&ticked);
}

static int64_t slow_square(void *arg) {
    usleep(30000);
    ferry_event_wait(&ticked); /* it would never come if this held up the loop */
    int64_t n = *(int *)arg;
    return n < 0 ? ferry_fail(-1, "%lld is negative", (long long)n) : n * n;
}

static void squared(ferry_future *future, int64_t result, void *arg) {
    static int left = 3;
    if (result < 0)
        printf("%d: no result\n", *(int *)arg);
    else
        printf("%d squared is %lld\n", *(int *)arg, (long long)result);
    ferry_detach(future);
    if (--left == 0)
        event_del(timer);
}

int main(void) {
    struct event_base *base = event_base_new();
    ferry_loop *loop = base ? ferry_loop_attach(base) : NULL;
    if (!loop) {
        perror("callback: no event loop");
        return 1;
    }
    timer = event_new(base, -1, EV_PERSIST, tick, NULL);
    event_add(timer, &(struct timeval){0, 5000});

    static int numbers[] = {3, -4, 12};
    for (int i = 0; i < 3; i++) {
        ferry_future *job = ferry_submit(NULL, slow_square, &numbers[i]);
        if (ferry_then(job, loop, squared, &numbers[i]) < 0) {
            fprintf(stderr, "callback: %s\n", ferry_errmsg());
            return 1;
        }
    }
    event_base_dispatch(base);
    printf("the loop %s meanwhile\n", ticks > 0 ? "turned" : "stood still");

    ferry_loop_free(loop);
    event_free(timer);
    event_base_free(base);
    return ticks == 0;
}

/* Waiting for file descriptors.
 *
 * Both worlds begin with a look that doesn't wait, poll(2) with no time-out: it finds bad
 * descriptors and what is ready already, so that readiness beats a time-out of zero.
 *
 * A task then has an event on its loop's base. It is level-triggered and stays until the task is
 * back; its callback runs on the loop's thread, inside or outside a turn, and grants the task's
 * wait. A thread sleeps in poll(2) beside the bell of its record. It says `polling` before it looks
 * at what it may have been asked, and whoever asks looks at `polling` after: so one of the two sees
 * the other, and no request is slept over.
 *
 * FERRY_HANGUP without FERRY_READABLE needs a detour. libevent gives errors and hang-ups of
 * pipes to events that read or write, but not to EV_CLOSED alone: that one would never fire, and
 * the loop would spin. So an epoll instance of its own watches the descriptor, and the loop
 * waits until that is readable. Together with FERRY_READABLE no detour is needed: a peer that
 * has left makes the fd readable. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#include <event2/event.h>

#include "bell.h"
#include "line.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

enum { ALL_EVENTS = FERRY_READABLE | FERRY_WRITABLE | FERRY_HANGUP };

static struct ferry__detail say_events = FERRY__STATIC_DETAIL(
    "ferry_poll() takes one or more of FERRY_READABLE, FERRY_WRITABLE and FERRY_HANGUP");
static struct ferry__detail say_file =
    FERRY__STATIC_DETAIL("a regular file or a folder is always ready, but reading it may block: "
                         "use the file bridge, or a job");

/* ---- What a descriptor is ready for ---------------------------------------------------------- */

static short asked_of(unsigned events) {
    return (short)((events & FERRY_READABLE ? POLLIN : 0) |
                   (events & FERRY_WRITABLE ? POLLOUT : 0) |
                   (events & FERRY_HANGUP ? POLLRDHUP : 0));
}

/* Errors and hang-ups count as ready for whatever was asked. */
static unsigned told_by(short revents, unsigned events) {
    unsigned ready = 0;
    if (revents & (POLLERR | POLLHUP))
        ready = ALL_EVENTS;
    if (revents & POLLIN)
        ready |= FERRY_READABLE;
    if (revents & POLLOUT)
        ready |= FERRY_WRITABLE;
    if (revents & POLLRDHUP)
        ready |= FERRY_HANGUP;
    return ready & events;
}

/* The events that it is ready for now, 0 for none; -EBADF, -EPERM, or what poll() failed with. */
static int look(int fd, unsigned events) {
    struct pollfd now = {.fd = fd, .events = asked_of(events)};
    int n;
    do {
        n = fd < 0 ? 0 : poll(&now, 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if (fd < 0 || (now.revents & POLLNVAL))
        return -EBADF;
    struct stat st; /* of one that is always ready; for nothing but hang-ups poll() doesn't say */
    if ((n > 0 || events == FERRY_HANGUP) && fstat(fd, &st) == 0 &&
        (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return -EPERM;
    return (int)told_by(now.revents, events);
}

/* ---- A task ---------------------------------------------------------------------------------- */

struct fd_wait {
    struct ferry__waiter waiter; /* value: the events */
    struct event *event;
    int detour; /* -1: none */
    int fd;
    unsigned events;
};

static void on_event(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    struct fd_wait *wait = arg;
    int ready = (what & EV_READ ? FERRY_READABLE : 0) | (what & EV_WRITE ? FERRY_WRITABLE : 0);
    if (wait->events & FERRY_HANGUP) /* the kernel knows more than it says through the event */
        ready = look(wait->fd, wait->events);
    if (ready == 0)
        return; /* somebody else was faster */
    wait->waiter.value = ready;
    if (ferry__claim(&wait->waiter)) {
        event_del(wait->event);
        ferry__wake(&wait->waiter);
    }
}

/* A descriptor that is readable when `fd` is ready; or -errno. */
static int open_detour(int fd, unsigned events) {
#ifdef __linux__
    struct epoll_event watched = {.events = EPOLLRDHUP | (events & FERRY_WRITABLE ? EPOLLOUT : 0U)};
    int detour = epoll_create1(EPOLL_CLOEXEC);
    if (detour >= 0 && epoll_ctl(detour, EPOLL_CTL_ADD, fd, &watched) == 0)
        return detour;
    int rc = -errno;
    if (detour >= 0)
        close(detour);
    return rc;
#else
    (void)fd;
    (void)events;
    return -ENOTSUP;
#endif
}

static int open_wait(struct fd_wait *wait, ferry_loop *loop) {
    int watched = wait->fd;
    short asked = (short)(EV_PERSIST | (wait->events & FERRY_READABLE ? EV_READ : 0) |
                          (wait->events & FERRY_WRITABLE ? EV_WRITE : 0));
    if ((wait->events & (FERRY_HANGUP | FERRY_READABLE)) == FERRY_HANGUP) {
        watched = wait->detour = open_detour(wait->fd, wait->events);
        if (watched < 0)
            return watched;
        asked = EV_PERSIST | EV_READ;
    }
    wait->event = event_new(loop->base, watched, asked, on_event, wait);
    if (!wait->event)
        return -ENOMEM;
    errno = 0;
    if (event_add(wait->event, NULL) < 0)
        return errno ? -errno : -ENOMEM;
    return 0;
}

static void close_wait(struct fd_wait *wait) {
    if (wait->event)
        event_free(wait->event);
    if (wait->detour >= 0)
        close(wait->detour);
}

static int poll_in_task(struct ferry__ctx *ctx, int fd, unsigned events, int64_t deadline) {
    ferry_loop *loop = ctx->loop;
    struct fd_wait wait = {.detour = -1, .fd = fd, .events = events};
    ferry__waiter_init(&wait.waiter, ctx);
    int rc = open_wait(&wait, loop);
    if (rc == 0) {
        loop->n_fds++;
        rc = ferry__park(&wait.waiter, "fd", deadline, 0);
        loop->n_fds--;
        if (rc == 0)
            rc = (int)wait.waiter.value; /* or why it couldn't be told */
    }
    if (rc < 0)
        ferry__error_set(ctx, rc, NULL);
    close_wait(&wait);
    return rc;
}

/* ---- A thread or a job ----------------------------------------------------------------------- */

/* 0, or why the wait is over. */
static int look_at_scope(struct ferry__ctx *ctx, int64_t deadline) {
    int64_t now = ferry__now();
    bool cancelled = ferry__scope_look(ctx, now);
    ferry__scope_tell(ctx);
    int rc = cancelled ? -ECANCELED : deadline <= now ? -ETIMEDOUT : 0;
    if (rc < 0)
        ferry__error_set(ctx, rc, NULL);
    return rc;
}

static int poll_in_thread(struct ferry__ctx *ctx, int fd, unsigned events, int64_t deadline) {
    struct ferry__thread *thread = ctx->thread;
    int rc = thread->bell.fd[0] < 0 ? ferry__bell_init(&thread->bell) : 0;
    if (rc < 0) {
        ferry__error_set(ctx, rc, NULL);
        return rc;
    }
    ctx->waits_for = "fd";
    ctx->since = ferry__now();
    ctx->wait_deadline = deadline;
    ferry__scope_listen(ctx);
    while (rc == 0) {
        struct pollfd fds[] = {{.fd = fd, .events = asked_of(events)},
                               {.fd = thread->bell.fd[0], .events = POLLIN}};
        atomic_store(&thread->polling, 1);
        FERRY__POINT(poll_marked);
        rc = look_at_scope(ctx, deadline);
        int n = rc < 0 ? 0 : poll(fds, 2, ferry__poll_ms(ferry__look_again_at(ctx)));
        atomic_store(&thread->polling, 0);
        if (n < 0 && errno != EINTR)
            ferry__error_set(ctx, rc = -errno, NULL);
        if (n > 0 && (fds[1].revents & POLLIN))
            ferry__bell_silence(&thread->bell);
        if (n > 0 && (fds[0].revents & POLLNVAL))
            ferry__error_set(ctx, rc = -EBADF, NULL);
        else if (n > 0)
            rc = (int)told_by(fds[0].revents, events);
    }
    ctx->waits_for = NULL;
    return rc;
}

/* ---- Both ------------------------------------------------------------------------------------ */

int ferry_poll_for(int fd, unsigned events, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc < 0)
        return rc;
    if (events == 0 || (events & ~(unsigned)ALL_EVENTS))
        return ferry__refuse(-EINVAL, &say_events);
    rc = look(fd, events);
    if (rc == -EPERM)
        return ferry__refuse(rc, &say_file);
    if (rc < 0)
        ferry__error_set(ctx, rc, NULL);
    if (rc != 0)
        return rc;
    rc = ferry__can_park(ctx);
    if (rc < 0)
        return rc;
    int64_t deadline = ferry__deadline(ms);
    return ctx->kind == FERRY__TASK ? poll_in_task(ctx, fd, events, deadline)
                                    : poll_in_thread(ctx, fd, events, deadline);
}

int ferry_poll(int fd, unsigned events) {
    return ferry_poll_for(fd, events, FERRY_FOREVER);
}

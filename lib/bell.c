/* A descriptor to wake a sleeper by: see bell.h. */
#include "config.h"

#include "bell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#ifdef HAVE_SYS_EVENTFD_H
#include <sys/eventfd.h>
#endif

int ferry__bell_init(struct ferry__bell *bell) {
#ifdef HAVE_SYS_EVENTFD_H
    bell->fd[0] = bell->fd[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return bell->fd[0] < 0 ? -errno : 0;
#else
    if (pipe(bell->fd) < 0) {
        bell->fd[0] = bell->fd[1] = -1;
        return -errno;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(bell->fd[i], F_SETFL, fcntl(bell->fd[i], F_GETFL) | O_NONBLOCK);
        fcntl(bell->fd[i], F_SETFD, FD_CLOEXEC);
    }
    return 0;
#endif
}

void ferry__bell_fini(struct ferry__bell *bell) {
    if (bell->fd[0] < 0)
        return;
    close(bell->fd[0]);
    if (bell->fd[1] != bell->fd[0])
        close(bell->fd[1]);
    bell->fd[0] = bell->fd[1] = -1;
}

void ferry__bell_ring(const struct ferry__bell *bell) {
    int saved = errno;
    uint64_t one = 1;
    ssize_t written;
    do {
        written = write(bell->fd[1], &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    errno = saved; /* EAGAIN: it is full, and so readable as it is */
}

void ferry__bell_silence(const struct ferry__bell *bell) {
    int saved = errno;
    uint64_t rings[8];
    ssize_t got;
    /* One read empties an eventfd; a pipe is empty when it gives less than was asked for. */
    size_t size = bell->fd[0] == bell->fd[1] ? sizeof rings[0] : sizeof rings;
    do {
        got = read(bell->fd[0], rings, size);
    } while ((got < 0 && errno == EINTR) || got == (ssize_t)sizeof rings);
    errno = saved;
}

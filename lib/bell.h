/* A bell: a file descriptor that becomes readable when somebody rings, for whoever sleeps in
 * poll() or in an event loop. An eventfd where there is one, a pipe elsewhere. */
#ifndef FERRY__BELL_H
#define FERRY__BELL_H

struct ferry__bell {
    int fd[2]; /* to read, to write; the same for an eventfd; -1: not made */
};
/* clang-format off */
#define FERRY__BELL_INIT {{-1, -1}}
/* clang-format on */

int ferry__bell_init(struct ferry__bell *bell);  /* 0, or -errno (-EMFILE, ...): fds are -1 then */
void ferry__bell_fini(struct ferry__bell *bell); /* fds are -1 then; no-op when not made */
/* Any thread, and signal handlers; errno is kept. */
void ferry__bell_ring(const struct ferry__bell *bell);
/* Takes all rings so far; errno is kept. */
void ferry__bell_silence(const struct ferry__bell *bell);

#endif

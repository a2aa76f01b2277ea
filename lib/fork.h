/* What fork.c knows of the files that must survive a fork: their locks, and whom to tell in the
 * child. */
#ifndef FERRY__FORK_H
#define FERRY__FORK_H

/* Process-wide inner locks. They are taken before a fork and given back after it on both sides,
 * so that the child never finds one held by a thread that it doesn't have. */
extern unsigned ferry__anew_lock;
extern unsigned ferry__bound_lock;
extern unsigned ferry__error_lock;
extern unsigned ferry__log_lock;
extern unsigned ferry__record_lock;
extern unsigned ferry__report_lock;
extern unsigned ferry__service_lock;
extern unsigned ferry__scope_lock;
extern unsigned ferry__signal_lock;

/* In the child, the only thread there is, after those locks were given back. */
void ferry__service_forked(void);
void ferry__signal_forked(void);
void ferry__scope_forked(void);

#endif

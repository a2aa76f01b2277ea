/* Messages that a test expects, and that say nothing to whoever reads its output. */
#ifndef FERRY_TEST_QUIET_H
#define FERRY_TEST_QUIET_H

/* For event_set_log_callback(). */
static inline void quiet_libevent(int severity, const char *message) {
    (void)severity;
    (void)message;
}

/* For ferry_log_set(). */
static inline void quiet_ferry(int level, const char *message, void *arg) {
    (void)level;
    (void)message;
    (void)arg;
}

#endif

/* The test runner: cmocka's groups, with a watchdog and checks from any stack.
 *
 * The watchdog is SIGALRM, armed anew for each test and left armed after the last one, so that a
 * hang in an exit handler is caught too. Its handler calls functions that aren't async-signal-safe:
 * the program is about to die, and a second alarm, with the default action, ends it if they hang.
 */

#include "config.h"

#include "support.h"

#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#endif

/* Not every test program links it. */
extern void ferry_dump(FILE *to) __attribute__((weak));

enum { DUMP_SECONDS = 10, DUMP_MS = 500, BACKTRACE_FRAMES = 64 };

/* What cmocka would catch and turn into an ordinary failure. */
static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
enum { CRASH_SIGNALS = sizeof crash_signals / sizeof crash_signals[0] };

static struct sigaction crash_actions[CRASH_SIGNALS];
static unsigned time_limit = 60;
enum { ROUNDS_SECONDS = 15 };
static struct timespec begun; /* the test that runs; CLOCK_MONOTONIC */
static atomic_uint failed_checks; /* of the test that runs */

/* cmocka is given copies of the tests, so that each starts in enter() and run_one(). */
static const struct CMUnitTest *originals;
static struct CMUnitTest *copies;
static size_t current;
static const char *current_name = "before the first test";

static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        return;
    }
}

static void dump_frames(void) {
    void *frames[BACKTRACE_FRAMES];
    backtrace_symbols_fd(frames, backtrace(frames, BACKTRACE_FRAMES), STDERR_FILENO);
}

#if defined SYS_tgkill && defined SYS_getdents64
static atomic_int dumped; /* threads that have shown where they stand */

static void on_dump(int signo) {
    (void)signo;
    dump_frames();
    atomic_fetch_add(&dumped, 1);
}

/* SIGTRAP, since a pool's threads block what isn't a fault. */
static void dump_thread(const char *name) {
    long id = strtol(name, NULL, 10);
    int before = atomic_load(&dumped);

    if (id <= 0 || id == syscall(SYS_gettid)) {
        return;
    }
    say("# thread ");
    say(name);
    say(":\n");
    syscall(SYS_tgkill, getpid(), id, SIGTRAP);
    for (int i = 0; i < DUMP_MS && atomic_load(&dumped) == before; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* The others, one after the other. Without opendir(), which allocates: ThreadSanitizer would end
 * the program there, in a handler. */
static void dump_others(void) {
    struct entry { /* of getdents64(2) */
        uint64_t number, offset;
        unsigned short size;
        unsigned char type;
        char name[];
    };
    static _Alignas(struct entry) char entries[4096];
    struct sigaction action = {.sa_handler = on_dump};
    int threads = open("/proc/self/task", O_RDONLY | O_DIRECTORY);

    sigaction(SIGTRAP, &action, NULL);
    for (long n; (n = syscall(SYS_getdents64, threads, entries, sizeof entries)) > 0;) {
        for (long at = 0; at < n;) {
            const struct entry *entry = (const void *)(entries + at);

            dump_thread(entry->name);
            at += entry->size;
        }
    }
}
#else
static void dump_others(void) {
}
#endif

static void on_alarm(int signo) {

    (void)signo;
    alarm(DUMP_SECONDS); /* SA_RESETHAND: the next one kills */
    say("# watchdog: out of time in \"");
    say(current_name);
    say("\"\n# the interrupted thread:\n");
    dump_frames();
    dump_others();
    if (ferry_dump) {
        ferry_dump(stderr);
    }
    abort();
}

static void arm_watchdog(void) {
    alarm(time_limit);
}

static void start_watchdog(void) {
    struct sigaction action = {.sa_handler = on_alarm,
                               .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    const char *limit = getenv("FERRY_TEST_TIMEOUT");
    void *frames[1];

    if (limit != NULL && *limit != '\0') {
        char *end;
        unsigned long seconds = strtoul(limit, &end, 10);

        if (*end != '\0' || seconds > 86400) {
            fprintf(stderr, "FERRY_TEST_TIMEOUT: \"%s\" isn't a number of seconds\n", limit);
            exit(99);
        }
        time_limit = (unsigned)seconds;
    }
    backtrace(frames, 1); /* loads libgcc now, not in the handler */
    sigaction(SIGALRM, &action, NULL);
    arm_watchdog();
}

/* Set-up of every test. cmocka hands over the initial state: the test as its author wrote it. */
static int enter(void **state) {
    const struct CMUnitTest *original = *state;

    current = (size_t)(original - originals);
    current_name = original->name;
    *state = original->initial_state;
    atomic_store(&failed_checks, 0);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    arm_watchdog();
    return original->setup_func != NULL ? original->setup_func(state) : 0;
}

static void run_one(void **state) {
    unsigned failed;

    for (size_t i = 0; i < CRASH_SIGNALS; i++) {
        sigaction(crash_signals[i], &crash_actions[i], NULL);
    }
    originals[current].test_func(state);
    failed = atomic_load(&failed_checks);
    if (failed > 0) {
        fail_msg("%u checks failed", failed);
    }
}

int support_run(const char *name, const struct CMUnitTest *tests, size_t count) {
    int failed;

    start_watchdog();
    setvbuf(stdout, NULL, _IOLBF, 0); /* what is printed before a crash reaches the log */
    for (size_t i = 0; i < CRASH_SIGNALS; i++) {
        sigaction(crash_signals[i], NULL, &crash_actions[i]);
    }
    copies = calloc(count, sizeof *copies);
    if (copies == NULL) {
        fprintf(stderr, "%s: out of memory\n", name);
        return 99;
    }
    originals = tests;
    for (size_t i = 0; i < count; i++) {
        copies[i] = (struct CMUnitTest){.name = tests[i].name,
                                        .test_func = run_one,
                                        .setup_func = enter,
                                        .teardown_func = tests[i].teardown_func,
                                        .initial_state = (void *)(uintptr_t)&tests[i]};
    }
    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (getenv("FERRY_TEST_ONLY") != NULL) {
        cmocka_set_test_filter(getenv("FERRY_TEST_ONLY"));
    }
    failed = _cmocka_run_group_tests(name, copies, count, NULL, NULL);
    current_name = "after the last test";
    free(copies);
    return failed != 0; /* as it stands, 256 failures would look like success, 77 like a skip */
}

bool support_in_time(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - begun.tv_sec < ROUNDS_SECONDS;
}

bool support_check(bool holds, const char *claim, const char *file, int line) {
    if (!holds) {
        atomic_fetch_add(&failed_checks, 1);
        printf("# %s:%d: not so: %s\n", file, line, claim);
    }
    return holds;
}

bool support_check_int(int64_t got, int64_t wanted, const char *got_text, const char *wanted_text,
                       const char *file, int line) {
    if (got != wanted) {
        atomic_fetch_add(&failed_checks, 1);
        printf("# %s:%d: %s is %" PRId64 ", not %s (%" PRId64 ")\n", file, line, got_text, got,
               wanted_text, wanted);
    }
    return got == wanted;
}

bool support_check_str(const char *got, const char *wanted, const char *text, const char *file,
                       int line) {
    bool same = got == wanted || (got != NULL && wanted != NULL && strcmp(got, wanted) == 0);

    if (!same) {
        atomic_fetch_add(&failed_checks, 1);
        printf("# %s:%d: %s is \"%s\", not \"%s\"\n", file, line, text,
               got != NULL ? got : "(null)", wanted != NULL ? wanted : "(null)");
    }
    return same;
}

bool support_failing(void) {
    return atomic_load(&failed_checks) > 0;
}

void support_skip(const char *reason) {
    static char text[512]; /* cmocka prints it when the test has returned */

    snprintf(text, sizeof text, "%s # SKIP %s", current_name, reason);
    copies[current].name = text;
}

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif

bool support_slow(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    HAS_FEATURE(address_sanitizer) || HAS_FEATURE(thread_sanitizer)
    return true;
#elif defined(HAVE_VALGRIND_VALGRIND_H)
    return RUNNING_ON_VALGRIND != 0;
#else
    return false;
#endif
}

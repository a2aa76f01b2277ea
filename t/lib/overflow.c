/* A task that runs into its guard is named, and the process dies as it would have. */

#include "config.h"

#include "support.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ferry/alloc.h>

#include "context.h"
#include "overflow.h"
#include "stack.h"

static _Thread_local const struct ferry__stack *running;
static _Thread_local const char *running_name;

static const struct ferry__stack *see_running(const char **name) {
    *name = running_name;
    return running;
}

static ferry__context main_context, task_context;

/* The volatile result keeps the compiler from turning this into a loop. */
static __attribute__((noinline)) int recurse(volatile int *depth) {
    volatile char frame[512];

    frame[0] = (char)*depth;
    if (++*depth < 0) {
        return 0;
    }
    return recurse(depth) + frame[0];
}

static void overflow(void *arg) {
    volatile int depth = 0;

    (void)arg;
    recurse(&depth);
    ferry__context_switch_last(&task_context, &main_context);
}

static void touch_null(void *arg) {
    volatile int *volatile nothing = NULL;

    (void)arg;
    *nothing = 1;
    ferry__context_switch_last(&task_context, &main_context);
}

static void raise_segv(void *arg) {
    (void)arg;
    raise(SIGSEGV);
    ferry__context_switch_last(&task_context, &main_context);
}

static void touch_far_below(void *arg) {
    (void)arg;
    *(volatile char *)(running->lo - ferry__stack_guard_size()) = 1;
    ferry__context_switch_last(&task_context, &main_context);
}

static int run_task(void (*body)(void *), const char *name) {
    struct ferry__stack_cache cache;
    struct ferry__stack *stack;

    ferry__stack_cache_init(&cache);
    ferry__overflow_current = see_running;
    if (ferry__overflow_install() != 0 || ferry__overflow_thread() != 0 ||
        ferry__stack_get(&cache, 0, &stack) != 0) {
        return 10;
    }
    ferry__context_adopt(&main_context);
    ferry__context_make(&task_context, stack->lo, stack->size, body, NULL);
    running_name = name;
    running = stack;
    ferry__context_switch(&main_context, &task_context);
    return 11;
}

static int overflowing_task(void) {
    return run_task(overflow, "parser");
}

static int unnamed_task(void) {
    return run_task(overflow, NULL);
}

static int task_with_a_long_name(void) {
    static char name[1000];

    memset(name, 'x', sizeof name - 1);
    return run_task(overflow, name);
}

static int task_at_the_guards_end(void) {
    return run_task(touch_far_below, "edge");
}

static int task_that_touches_null(void) {
    return run_task(touch_null, "null");
}

static int task_that_raises(void) {
    return run_task(raise_segv, "raiser");
}

static int fault_without_a_task(void) {
    ferry__overflow_current = see_running;
    if (ferry__overflow_install() != 0) {
        return 10;
    }
    touch_null(NULL);
    return 11;
}

static void *overflow_in_a_thread(void *arg) {
    (void)arg;
    run_task(overflow, "of a thread");
    return NULL;
}

static int task_of_another_thread(void) {
    pthread_t thread;

    if (pthread_create(&thread, NULL, overflow_in_a_thread, NULL) != 0) {
        return 10;
    }
    pthread_join(thread, NULL);
    return 11;
}

/* Runs the function in a child with standard error in a pipe; returns the status. */
static int run_child(int (*function)(void), char *output, size_t room) {
    int ends[2], status;
    size_t used = 0;
    ssize_t got;

    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], STDERR_FILENO);
        _exit(function());
    }
    close(ends[1]);
    while (used + 1 < room && (got = read(ends[0], output + used, room - 1 - used)) > 0) {
        used += (size_t)got;
    }
    output[used] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static bool sanitized(void) {
    return FERRY__ASAN || FERRY__TSAN;
}

static void expect_death(int (*function)(void), const char *message) {
    char output[8192];
    int status = run_child(function, output, sizeof output);

    if (!WIFSIGNALED(status)) {
        print_error("exit %d: %s\n", WEXITSTATUS(status), output);
    }
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    if (message == NULL) {
        assert_null(strstr(output, "ferry:"));
    } else {
        assert_non_null(strstr(output, message));
        assert_null(strstr(strstr(output, "ferry:") + 1, "ferry:"));
    }
}

static void an_overflow_names_the_task(void **state) {
    (void)state;
    if (sanitized()) {
        SKIP("sanitizers have their own handler");
    }
    /* Its record stands at the top of it. */
    size_t size = FERRY__STACK_DEFAULT - sizeof(struct ferry__stack);
    char message[200];
    snprintf(message, sizeof message,
             "ferry: task 'parser' overflowed its stack of %zu bytes; "
             "spawn it with a larger stack_size\n",
             size);
    expect_death(overflowing_task, message);
    expect_death(task_at_the_guards_end, "ferry: task 'edge' overflowed its stack");
    expect_death(unnamed_task, "ferry: task 'unnamed' overflowed its stack");
    snprintf(message, sizeof message, "xxxxxxxx' overflowed its stack of %zu bytes; spawn it",
             size);
    expect_death(task_with_a_long_name, message);
    expect_death(task_of_another_thread, "ferry: task 'of a thread' overflowed its stack");
}

static void other_faults_stay_what_they_are(void **state) {
    (void)state;
    if (sanitized()) {
        SKIP("sanitizers have their own handler");
    }
    expect_death(task_that_touches_null, NULL);
    expect_death(task_that_raises, NULL);
    expect_death(fault_without_a_task, NULL);
}

/* The handler of the process */

static void on_fault(int signo) {
    (void)signo;
    _exit(42);
}

static int install_beside(int signo) {
    struct sigaction own = {.sa_handler = on_fault}, now;

    sigaction(SIGSEGV, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    sigaction(signo, &own, NULL);
    int rc = ferry__overflow_install();
    sigaction(signo, NULL, &now);
    if (now.sa_handler != on_fault) {
        return 12;
    }
    return rc == -EEXIST ? 1 : rc == 0 ? 0 : 13;
}

static int install_beside_a_handler(void) {
    return install_beside(SIGSEGV);
}

static int install_beside_a_bus_handler(void) {
    return install_beside(SIGBUS);
}

static int install_where_ignored(void) {
    sigaction(SIGSEGV, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    return ferry__overflow_install() == -EEXIST ? 1 : 0;
}

static void on_fault_with_info(int signo, siginfo_t *info, void *machine) {
    (void)signo;
    (void)info;
    (void)machine;
}

static int install_beside_a_full_handler(void) {
    struct sigaction own = {.sa_sigaction = on_fault_with_info, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &own, NULL);
    return ferry__overflow_install() == -EEXIST ? 1 : 0;
}

static int install_twice(void) {
    sigaction(SIGSEGV, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    return ferry__overflow_install() == 0 && ferry__overflow_install() == 0 ? 0 : 1;
}

static void expect_exit(int (*function)(void), int wanted) {
    char output[8192];
    int status = run_child(function, output, sizeof output);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), wanted);
}

static void a_handler_of_the_program_stays(void **state) {
    (void)state;
    expect_exit(install_beside_a_handler, 1);
    expect_exit(install_beside_a_full_handler, 1);
    expect_exit(install_where_ignored, 1);
    expect_exit(install_beside_a_bus_handler, 0);
    expect_exit(install_twice, 0);
}

/* The alternate stack of a thread */

static void *see_alternate_stack(void) {
    stack_t now;

    sigaltstack(NULL, &now);
    return (now.ss_flags & SS_DISABLE) != 0 ? NULL : now.ss_sp;
}

static void disable_alternate_stack(void) {
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
}

static void *calls_nest(void *arg) {
    (void)arg;
    disable_alternate_stack();
    CHECK_INT(ferry__overflow_thread(), 0);
    void *given = see_alternate_stack();
    CHECK(given != NULL);
    CHECK_INT(ferry__overflow_thread(), 0);
    CHECK(see_alternate_stack() == given);
    ferry__overflow_thread_end();
    CHECK(see_alternate_stack() == given);
    ferry__overflow_thread_end();
    CHECK(see_alternate_stack() == NULL);
    return NULL;
}

static char own_stack[64 * 1024];

static void *own_stack_stays(void *arg) {
    stack_t own = {.ss_sp = own_stack, .ss_size = sizeof own_stack};

    (void)arg;
    sigaltstack(&own, NULL);
    CHECK_INT(ferry__overflow_thread(), 0);
    CHECK(see_alternate_stack() == own_stack);
    ferry__overflow_thread_end();
    CHECK(see_alternate_stack() == own_stack);
    disable_alternate_stack();
    return NULL;
}

static void *later_stack_stays(void *arg) {
    stack_t own = {.ss_sp = own_stack, .ss_size = sizeof own_stack};

    (void)arg;
    disable_alternate_stack();
    CHECK_INT(ferry__overflow_thread(), 0);
    sigaltstack(&own, NULL);
    ferry__overflow_thread_end();
    CHECK(see_alternate_stack() == own_stack);
    disable_alternate_stack();
    return NULL;
}

static void *no_malloc(size_t size) {
    (void)size;
    return NULL;
}

static void *no_realloc(void *block, size_t size) {
    (void)block;
    (void)size;
    return NULL;
}

static void *no_memory(void *arg) {
    static const ferry_allocator none = {no_malloc, no_realloc, free};

    (void)arg;
    disable_alternate_stack();
    ferry_set_allocator(&none);
    CHECK_INT(ferry__overflow_thread(), -ENOMEM);
    ferry_set_allocator(NULL);
    CHECK(see_alternate_stack() == NULL);
    CHECK_INT(ferry__overflow_thread(), 0);
    CHECK(see_alternate_stack() != NULL);
    ferry__overflow_thread_end();
    return NULL;
}

/* Not on the first thread: sanitizers have given it an alternate stack and want it back. */
static void on_a_thread(void *(*function)(void *)) {
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, function, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void alternate_stacks_nest(void **state) {
    (void)state;
    on_a_thread(calls_nest);
}

static void an_alternate_stack_of_the_program_stays(void **state) {
    (void)state;
    on_a_thread(own_stack_stays);
    on_a_thread(later_stack_stays);
}

static void no_memory_for_the_alternate_stack(void **state) {
    (void)state;
    on_a_thread(no_memory);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("an overflow names the task and dies by SIGSEGV", an_overflow_names_the_task),
        CASE("other faults stay what they are", other_faults_stay_what_they_are),
        CASE("a handler of the program stays", a_handler_of_the_program_stays),
        CASE("alternate stacks nest", alternate_stacks_nest),
        CASE("an alternate stack of the program stays", an_alternate_stack_of_the_program_stays),
        CASE("no memory for the alternate stack is an error", no_memory_for_the_alternate_stack),
    };

    return SUPPORT_RUN(tests);
}

/* Standard error and standard output, where they meet a terminal. */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <ferry/error.h>

#include "console.h"
#include "text.h"

#define CLEAR "\r\033[K"

void console_init(struct console *console) {
    const char *term = getenv("TERM");
    setvbuf(stderr, NULL, _IOLBF, BUFSIZ); /* a line is one write, also when it holds a path */
    *console = (struct console){
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .terminal = isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0,
    };
}

_Noreturn void console_leave(const struct console *console, int status) {
    ssize_t n = console->terminal ? write(STDERR_FILENO, CLEAR, strlen(CLEAR)) : 0;
    (void)n;
    _exit(status);
}

size_t console_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Under lock. */
static void clear(struct console *console) {
    if (console->shown)
        fputs(CLEAR, stderr);
    console->shown = false;
}

void console_draw(struct console *console, const char *line) {
    pthread_mutex_lock(&console->lock);
    fprintf(stderr, CLEAR "%s", line);
    fflush(stderr);
    console->shown = true;
    pthread_mutex_unlock(&console->lock);
}

void console_clear(struct console *console) {
    pthread_mutex_lock(&console->lock);
    clear(console);
    fflush(stderr);
    pthread_mutex_unlock(&console->lock);
}

void console_say(struct console *console, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&console->lock);
    clear(console);
    fputs("ferry-index: ", stderr);
    vfprintf(stderr, format, arguments);
    putc('\n', stderr);
    pthread_mutex_unlock(&console->lock);
    va_end(arguments);
}

void console_say_path(struct console *console, const char *what, const char *path, size_t size,
                      const char *why) {
    pthread_mutex_lock(&console->lock);
    clear(console);
    fprintf(stderr, "ferry-index: %s ", what);
    text_write_path(stderr, path, size);
    fprintf(stderr, ": %s\n", why);
    pthread_mutex_unlock(&console->lock);
}

void console_begin_output(struct console *console) {
    pthread_mutex_lock(&console->lock);
    clear(console);
    errno = 0;
}

int64_t console_end_output(struct console *console) {
    int error = 0;
    if (ferror(stdout) || fflush(stdout) != 0)
        error = errno ? errno : EIO;
    pthread_mutex_unlock(&console->lock);
    if (!error)
        return 0;
    return ferry_fail(-error, "cannot write to standard output: %s", ferry_strerror(-error));
}

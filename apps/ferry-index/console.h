/* Standard error and standard output, where they meet a terminal.
 *
 * The progress line is the last line of the terminal and is taken away before anything else is
 * written. Whatever is written may block (Ctrl-S, a slow pipe): that is why jobs write, and not
 * tasks. Any thread. */
#ifndef FERRY_INDEX_CONSOLE_H
#define FERRY_INDEX_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <ferry/base.h>

struct console {
    pthread_mutex_t lock;
    bool terminal; /* progress can be drawn; written by init */
    bool shown;    /* under lock: the progress line is there */
};

void console_init(struct console *console);

/* The width of the terminal in columns; it may change at any time. */
size_t console_width(void);

/* Shows `line` as the progress line. */
void console_draw(struct console *console, const char *line);

/* Takes it away. */
void console_clear(struct console *console);

/* "ferry-index: ..." on a line of its own, on standard error. */
void console_say(struct console *console, const char *format, ...) FERRY_PRINTF(2, 3);

/* The same about a path: "ferry-index: WHAT PATH: WHY". */
void console_say_path(struct console *console, const char *what, const char *path, size_t size,
                      const char *why);

/* Ends the program at once, without waiting for anybody who writes. */
_Noreturn void console_leave(const struct console *console, int status);

/* Around what is written to standard output: no progress line is drawn meanwhile. The second
 * returns 0, or an error with a detail when the output couldn't be written. */
void console_begin_output(struct console *console);
int64_t console_end_output(struct console *console);

#endif

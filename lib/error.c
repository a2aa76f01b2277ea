/* What went wrong: codes, the words for them, and the details that travel with a handle.
 *
 * A detail is immutable once made and goes from context to handle to context by reference count, so
 * the text that somebody looks at stays valid as long as his last error is this one. It is one
 * block: the record, then (of a group) its errors, then all texts.
 *
 * The causes of an error inside a group are the `errors` of another detail, which the group's
 * detail holds a reference to. The owner is found by its address: `errors` always stands right
 * behind its record. Chains of causes may be as long as a program likes (a group whose body failed
 * because a group failed, ...), so they are given back in a loop, without recursion.
 *
 * ferry__error_lock guards changes to the table of bridges; readers take no lock. A row is
 * complete before n_ranges counts it, and only its function changes later. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core.h"
#include "fork.h"

enum { TEXT_MAX = 1000 };

struct group_detail {
    struct ferry__detail detail;
    struct group_detail *dead; /* the next one to free, once nobody refers to it */
    ferry_error errors[];
};

/* ---- Codes and words ------------------------------------------------------------------------- */

enum { LOWEST_ERRNO = -4095, LOWEST_OWN = -10099, HIGHEST_OWN = -10001 };

static const struct own_code {
    int64_t code;
    const char *name, *words;
} own_codes[] = {
    {FERRY_EJOBCANCELED, "FERRY_EJOBCANCELED", "Operation canceled by somebody else"},
    {FERRY_ECLOSED, "FERRY_ECLOSED", "Closed: it takes no more work"},
    {FERRY_END, "FERRY_END", "End of stream"},
    {FERRY_EBROKEN, "FERRY_EBROKEN", "Broken: the other side is gone"},
    {FERRY_EGROUP, "FERRY_EGROUP", "Members of a group failed"},
    {FERRY_EFORKED, "FERRY_EFORKED", "Belongs to the parent process: fork() copies no threads"},
    {FERRY_ESTOPPED, "FERRY_ESTOPPED", "The loop was stopped before its first task was done"},
};

enum { RANGES_MAX = 16 };

typedef const char *words_fn(int64_t code);

static struct {
    int64_t lowest, highest;
    _Atomic(words_fn *) text;
} ranges[RANGES_MAX];
static _Atomic int n_ranges;

unsigned ferry__error_lock;

static bool overlap(int64_t lowest, int64_t highest, int64_t other_lowest, int64_t other_highest) {
    return lowest <= other_highest && other_lowest <= highest;
}

int ferry_error_register(int64_t lowest, int64_t highest, const char *(*text)(int64_t code)) {
    if (!text || lowest > highest || highest >= 0 || overlap(lowest, highest, LOWEST_ERRNO, -1) ||
        overlap(lowest, highest, LOWEST_OWN, HIGHEST_OWN))
        return -EINVAL;
    int rc = 0;
    ferry__fork_watch();
    ferry__lock(&ferry__error_lock);
    int i = 0, n = atomic_load_explicit(&n_ranges, memory_order_relaxed);
    while (i < n && !overlap(lowest, highest, ranges[i].lowest, ranges[i].highest))
        i++;
    if (i < n) {
        if (ranges[i].lowest == lowest && ranges[i].highest == highest)
            atomic_store_explicit(&ranges[i].text, text, memory_order_release);
        else
            rc = -EINVAL;
    } else if (n == RANGES_MAX) {
        rc = -ENOSPC;
    } else {
        ranges[n].lowest = lowest;
        ranges[n].highest = highest;
        atomic_store_explicit(&ranges[n].text, text, memory_order_relaxed);
        atomic_store_explicit(&n_ranges, n + 1, memory_order_release);
    }
    ferry__unlock(&ferry__error_lock);
    return rc;
}

/* strerror_r() has two faces: one returns the text, the other says whether it wrote it. */
__attribute__((unused)) static const char *text_of_gnu(const char *text, const char *buffer) {
    (void)buffer;
    return text;
}

__attribute__((unused)) static const char *text_of_posix(int rc, const char *buffer) {
    (void)rc; /* "Unknown error 4711" is in the buffer when it failed */
    return buffer;
}

/* clang-format off */
#define text_of(result, buffer) \
    _Generic((result), int: text_of_posix, default: text_of_gnu)((result), (buffer))
/* clang-format on */

const char *ferry_strerror(int64_t code) {
    static _Thread_local char buffer[80];
    if (code >= 0)
        return "no error";
    int saved = errno;
    const char *words = NULL;
    if (code >= LOWEST_ERRNO) {
        words = text_of(strerror_r((int)-code, buffer, sizeof buffer), buffer);
    } else {
        for (size_t i = 0; !words && i < sizeof own_codes / sizeof own_codes[0]; i++) {
            if (own_codes[i].code == code)
                words = own_codes[i].words;
        }
        int n = atomic_load_explicit(&n_ranges, memory_order_acquire);
        for (int i = 0; !words && i < n; i++) {
            if (code >= ranges[i].lowest && code <= ranges[i].highest)
                words = atomic_load_explicit(&ranges[i].text, memory_order_acquire)(code);
        }
    }
    if (!words) {
        snprintf(buffer, sizeof buffer, "Unknown error %" PRId64, code);
        words = buffer;
    }
    errno = saved;
    return words;
}

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 32)
#define HAVE_STRERRORNAME 1
#endif
#endif

static const char *errno_name(int number) {
#ifdef HAVE_STRERRORNAME
    return strerrorname_np(number);
#else
    /* What POSIX has and Ferry or its bridges are likely to return. */
#define NAMED(symbol) \
    { symbol, #symbol }
    static const struct {
        int number;
        const char *name;
    } table[] = {
        NAMED(EACCES),    NAMED(EAGAIN),       NAMED(EBADF),      NAMED(EBUSY),
        NAMED(ECANCELED), NAMED(ECONNREFUSED), NAMED(ECONNRESET), NAMED(EDEADLK),
        NAMED(EEXIST),    NAMED(EFAULT),       NAMED(EFBIG),      NAMED(EINPROGRESS),
        NAMED(EINTR),     NAMED(EINVAL),       NAMED(EIO),        NAMED(EISDIR),
        NAMED(ELOOP),     NAMED(EMFILE),       NAMED(EMLINK),     NAMED(ENAMETOOLONG),
        NAMED(ENFILE),    NAMED(ENOBUFS),      NAMED(ENODEV),     NAMED(ENOENT),
        NAMED(ENOLCK),    NAMED(ENOMEM),       NAMED(ENOSPC),     NAMED(ENOSYS),
        NAMED(ENOTCONN),  NAMED(ENOTDIR),      NAMED(ENOTEMPTY),  NAMED(ENOTSUP),
        NAMED(ENOTTY),    NAMED(ENXIO),        NAMED(EOVERFLOW),  NAMED(EOWNERDEAD),
        NAMED(EPERM),     NAMED(EPIPE),        NAMED(ERANGE),     NAMED(EROFS),
        NAMED(ESPIPE),    NAMED(ESRCH),        NAMED(ETIMEDOUT),  NAMED(ETXTBSY),
        NAMED(EXDEV),
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].number == number)
            return table[i].name;
    }
    return NULL;
#endif
}

const char *ferry_error_name(int64_t code) {
    if (code < 0 && code >= LOWEST_ERRNO)
        return errno_name((int)-code);
    for (size_t i = 0; i < sizeof own_codes / sizeof own_codes[0]; i++) {
        if (own_codes[i].code == code)
            return own_codes[i].name;
    }
    return NULL;
}

/* ---- Details --------------------------------------------------------------------------------- */

struct ferry__detail *ferry__detail_ref(struct ferry__detail *detail) {
    if (detail && atomic_load_explicit(&detail->refs, memory_order_relaxed) > 0)
        atomic_fetch_add_explicit(&detail->refs, 1, memory_order_relaxed);
    return detail;
}

/* Gives a reference back; true when it was the last one. */
static bool dropped(struct ferry__detail *detail) {
    return detail && atomic_load_explicit(&detail->refs, memory_order_relaxed) > 0 &&
           atomic_fetch_sub_explicit(&detail->refs, 1, memory_order_acq_rel) == 1;
}

static struct group_detail *owner_of(const ferry_error *errors) {
    return errors ? ferry__container(errors, struct group_detail, errors) : NULL;
}

/* Gives back what the causes of n errors hold; groups that nobody refers to any more go on the
 * list. */
static void drop_causes(const ferry_error *errors, size_t n, struct group_detail **dead) {
    for (size_t i = 0; i < n; i++) {
        struct group_detail *cause = owner_of(errors[i].causes);
        if (cause && dropped(&cause->detail)) {
            cause->dead = *dead;
            *dead = cause;
        }
    }
}

static void free_groups(struct group_detail *dead) {
    while (dead) {
        struct group_detail *group = dead;
        dead = group->dead;
        drop_causes(group->errors, group->detail.n_errors, &dead);
        ferry__free(group);
    }
}

void ferry__detail_drop(struct ferry__detail *detail) {
    if (!dropped(detail))
        return;
    if (detail->errors) {
        struct group_detail *group = owner_of(detail->errors);
        group->dead = NULL;
        free_groups(group);
    } else {
        ferry__free(detail);
    }
}

const char *ferry__detail_words(const struct ferry__detail *detail, int64_t code) {
    return detail && detail->text ? detail->text : ferry_strerror(code);
}

/* Ends a text that was cut at `length` bytes before a character of several bytes rather than
 * inside. */
static size_t cut(char *text, size_t length) {
    size_t at = length;
    while (at > 0 && length - at < 3 && ((unsigned char)text[at - 1] & 0xC0) == 0x80)
        at--;
    if (at > 0) {
        unsigned char lead = (unsigned char)text[at - 1];
        size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
        if (bytes > length - at + 1)
            length = at - 1;
    }
    text[length] = '\0';
    return length;
}

/* Each anew: the words of a code without a name share a buffer. */
static const char *message_of(const ferry_error *error) {
    return error->message ? error->message : ferry_strerror(error->code);
}

/* "2 of the group's members failed: NAME: message; NAME: message" */
static size_t summary(char *text, const ferry_error *errors, size_t n, size_t lost) {
    int used = snprintf(text, TEXT_MAX + 1, "%zu of the group's members failed", n + lost);
    size_t at = used < 0 ? 0 : (size_t)used;
    for (size_t i = 0; i < n && at < TEXT_MAX; i++) {
        used = snprintf(text + at, TEXT_MAX + 1 - at, "%s%s: %s", i ? "; " : ": ", errors[i].name,
                        message_of(&errors[i]));
        at += used < 0 ? 0 : (size_t)used;
    }
    if (lost && at < TEXT_MAX) {
        used = n ? snprintf(text + at, TEXT_MAX + 1 - at,
                            "; and %zu more, for which there was no memory", lost)
                 : snprintf(text + at, TEXT_MAX + 1 - at, "; there was no memory for their errors");
        at += used < 0 ? 0 : (size_t)used;
    }
    return at < TEXT_MAX ? at : cut(text, TEXT_MAX);
}

static const char *put(char **at, const char *text, size_t size) {
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

/* `causes` of each error is NULL or the `errors` of a detail; the reference to that one is taken
 * over, also when there is no memory. Names and messages are copied; `message` NULL: the words
 * of the code. */
struct ferry__detail *ferry__detail_group(const ferry_error *errors, size_t n, size_t lost) {
    char text[TEXT_MAX + 1];
    size_t text_size = summary(text, errors, n, lost) + 1;
    size_t size = sizeof(struct group_detail) + n * sizeof(ferry_error) + text_size;
    for (size_t i = 0; i < n; i++)
        size += strlen(errors[i].name) + 1 + strlen(message_of(&errors[i])) + 1;
    struct group_detail *group = ferry__malloc(size);
    if (!group) {
        struct group_detail *dead = NULL;
        drop_causes(errors, n, &dead);
        free_groups(dead);
        return NULL;
    }
    char *at = (char *)&group->errors[n];
    atomic_init(&group->detail.refs, 1);
    group->detail.n_errors = n;
    group->detail.errors = group->errors;
    group->detail.text = put(&at, text, text_size);
    for (size_t i = 0; i < n; i++) {
        group->errors[i] = errors[i];
        group->errors[i].name = put(&at, errors[i].name, strlen(errors[i].name) + 1);
        const char *message = message_of(&errors[i]);
        group->errors[i].message = put(&at, message, strlen(message) + 1);
    }
    return &group->detail;
}

/* ---- The last error of a context ------------------------------------------------------------- */

void ferry__error_set(struct ferry__ctx *ctx, int64_t code, struct ferry__detail *detail) {
    struct ferry__detail *old = detail; /* nobody to keep it for */
    if (ctx) {
        old = ctx->detail;
        ctx->error = code;
        ctx->detail = detail;
    }
    ferry__detail_unref(old);
}

int64_t ferry__error_say(struct ferry__ctx *ctx, int64_t code, struct ferry__detail *fixed) {
    ferry__error_set(ctx, code, fixed);
    return code;
}

struct ferry__detail *ferry__error_take(struct ferry__ctx *ctx, int64_t code) {
    if (!ctx || ctx->error != code)
        return NULL;
    struct ferry__detail *detail = ctx->detail;
    ctx->detail = NULL;
    return detail;
}

int64_t ferry_fail(int64_t code, const char *fmt, ...) {
    char text[TEXT_MAX + 1];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct ferry__detail *detail = NULL;
    if (length >= 0) {
        size_t size = (length > TEXT_MAX ? cut(text, TEXT_MAX) : (size_t)length) + 1;
        detail = ferry__malloc(sizeof *detail + size);
        if (detail) {
            atomic_init(&detail->refs, 1);
            detail->n_errors = 0;
            detail->errors = NULL;
            detail->text = memcpy(detail + 1, text, size);
        }
    }
    ferry__error_set(ferry__ctx_self(), code, detail);
    return code;
}

const char *ferry_errmsg(void) {
    const struct ferry__ctx *ctx = ferry__ctx_self();
    if (!ctx)
        return ferry_strerror(-ENOMEM);
    return ctx->error == 0 ? "" : ferry__detail_words(ctx->detail, ctx->error);
}

const ferry_error *ferry_group_errors(size_t *n) {
    const struct ferry__ctx *ctx = ferry__ctx_self();
    const struct ferry__detail *detail = ctx && ctx->error == FERRY_EGROUP ? ctx->detail : NULL;
    if (n)
        *n = detail ? detail->n_errors : 0;
    return detail ? detail->errors : NULL;
}

/* Codes and their words, details and who owns them, and what happens when memory is short. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "oom.h"
#include "support.h"

/* ---- Words ----------------------------------------------------------------------------------- */

static void own_codes_have_words(void **state) {
    (void)state;
    static const struct {
        int64_t code;
        const char *name;
    } codes[] = {
        {FERRY_EJOBCANCELED, "FERRY_EJOBCANCELED"},
        {FERRY_ECLOSED, "FERRY_ECLOSED"},
        {FERRY_END, "FERRY_END"},
        {FERRY_EBROKEN, "FERRY_EBROKEN"},
        {FERRY_EGROUP, "FERRY_EGROUP"},
        {FERRY_EFORKED, "FERRY_EFORKED"},
        {FERRY_ESTOPPED, "FERRY_ESTOPPED"},
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        assert_string_equal(ferry_error_name(codes[i].code), codes[i].name);
        assert_null(strstr(ferry_strerror(codes[i].code), "Unknown"));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ferry_strerror(codes[i].code), ferry_strerror(codes[j].code));
    }
}

static void errno_has_its_words(void **state) {
    (void)state;
    errno = EXDEV;
    assert_string_equal(ferry_strerror(-ECONNREFUSED), strerror(ECONNREFUSED));
    assert_string_equal(ferry_strerror(-ENOENT), strerror(ENOENT));
    assert_string_equal(ferry_error_name(-ECONNREFUSED), "ECONNREFUSED");
    assert_string_equal(ferry_error_name(-ENOENT), "ENOENT");
    assert_int_equal(errno, EXDEV);
}

static void any_number_has_words(void **state) {
    (void)state;
    static const int64_t odd[] = {-4000, -4095, -4096, -10000, -10050, -10100, -1000000, INT64_MIN};
    assert_string_equal(ferry_strerror(0), "no error");
    assert_string_equal(ferry_strerror(INT64_MAX), "no error");
    assert_null(ferry_error_name(0));
    assert_null(ferry_error_name(17));
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char number[32];
        snprintf(number, sizeof number, "%" PRId64, odd[i] < -4095 ? odd[i] : -odd[i]);
        assert_non_null(strstr(ferry_strerror(odd[i]), number));
        assert_null(ferry_error_name(odd[i]));
    }
}

static const char *words_a(int64_t code) {
    return code == -20007 ? "seven of a" : NULL;
}

static const char *words_b(int64_t code) {
    return code == -20007 ? "seven of b" : "something of b";
}

static void a_bridge_registers_its_range(void **state) {
    (void)state;
    assert_int_equal(ferry_error_register(-20999, -20000, words_a), 0);
    assert_string_equal(ferry_strerror(-20007), "seven of a");
    assert_non_null(strstr(ferry_strerror(-20008), "-20008")); /* the bridge has no words for it */
    assert_non_null(strstr(ferry_strerror(-21000), "Unknown"));
    assert_int_equal(ferry_error_register(-20999, -20000, words_b), 0);
    assert_string_equal(ferry_strerror(-20007), "seven of b");
    assert_string_equal(ferry_strerror(-20999), "something of b");
    assert_string_equal(ferry_strerror(-20000), "something of b");
}

static void odd_ranges_are_refused(void **state) {
    (void)state;
    assert_int_equal(ferry_error_register(-30010, -30020, words_b), -EINVAL); /* upside down */
    assert_int_equal(ferry_error_register(-30010, 0, words_b), -EINVAL);
    assert_int_equal(ferry_error_register(5, 9, words_b), -EINVAL);
    assert_int_equal(ferry_error_register(-30010, -30000, NULL), -EINVAL);
    assert_int_equal(ferry_error_register(-4100, -4095, words_b), -EINVAL);   /* errno's */
    assert_int_equal(ferry_error_register(-10100, -10099, words_b), -EINVAL); /* Ferry's own */
    assert_int_equal(ferry_error_register(-20500, -20400, words_b), -EINVAL); /* inside another */
    assert_int_equal(ferry_error_register(-21000, -20999, words_b), -EINVAL); /* touches another */
    assert_int_equal(ferry_error_register(INT64_MIN, -20998, words_b), -EINVAL);
}

static void *register_again(void *arg) {
    for (int i = 0; i < 1000; i++)
        CHECK_INT(ferry_error_register(-20999, -20000, i % 2 ? words_a : words_b), 0);
    return arg;
}

static void words_are_read_while_they_change(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, register_again, NULL), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(strncmp(ferry_strerror(-20007), "seven of ", 9), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void sixteen_bridges_fit(void **state) {
    (void)state;
    int rc = 0;
    for (int64_t i = 0; i < 15; i++) /* one is there already */
        rc = rc ? rc : ferry_error_register(-40000 - i * 10, -39991 - i * 10, words_b);
    assert_int_equal(rc, 0);
    assert_int_equal(ferry_error_register(-50000, -49000, words_b), -ENOSPC);
    assert_int_equal(ferry_error_register(-40000, -39991, words_a),
                     0); /* replacing needs no room */
    assert_string_equal(ferry_strerror(-40140), "something of b");
}

/* ---- The last error -------------------------------------------------------------------------- */

static void *fresh_thread(void *arg) {
    size_t n = 7;
    CHECK_STR(ferry_errmsg(), "");
    CHECK(ferry_group_errors(&n) == NULL);
    CHECK_INT(n, 0);
    CHECK_INT(ferry_fail(-EIO, "of the other thread"), -EIO);
    CHECK_STR(ferry_errmsg(), "of the other thread");
    return arg;
}

static void each_thread_has_its_last_error(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(ferry_fail(-EISDIR, "cannot open '%s': is a %s", "x.db", "directory"),
                     -EISDIR);
    assert_int_equal(pthread_create(&thread, NULL, fresh_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(ferry_errmsg(), "cannot open 'x.db': is a directory");
}

static void long_text_is_cut(void **state) {
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    ferry_fail(-EIO, "%s", text);
    assert_int_equal(strlen(ferry_errmsg()), 1000);
    ferry_fail(-EIO, "%.*s", 1000, text);
    assert_int_equal(strlen(ferry_errmsg()), 1000);
    ferry_fail(-EIO, "%.*s", 999, text);
    assert_int_equal(strlen(ferry_errmsg()), 999);
}

static void a_cut_leaves_whole_characters(void **state) {
    (void)state;
    static const char *const characters[] = {"\xC3\xBC", "\xE2\x82\xAC", "\xF0\x9F\x9A\xA2"};
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = strlen(characters[i]);
        for (size_t before = 990; before <= 1000; before++) {
            char text[1100] = "";
            memset(text, 'x', before);
            text[before] = '\0';
            for (int n = 0; n < 8; n++)
                strcat(text, characters[i]);
            ferry_fail(-EIO, "%s", text);
            size_t whole = (1000 - before) / bytes;
            assert_int_equal(strlen(ferry_errmsg()), before + whole * bytes);
        }
    }
    /* Bytes that aren't UTF-8 at all are text as well. */
    char text[1100];
    memset(text, 0x80, sizeof text);
    text[sizeof text - 1] = '\0';
    ferry_fail(-EIO, "%s", text);
    assert_int_equal(strlen(ferry_errmsg()), 1000);
}

static void words_stand_in_when_memory_is_short(void **state) {
    (void)state;
    oom_after(0, true);
    assert_int_equal(ferry_fail(-EIO, "the disk said no"), -EIO);
    oom_never();
    assert_string_equal(ferry_errmsg(), strerror(EIO));
}

static void *first_call_without_memory(void *arg) {
    oom_after(0, true);
    CHECK_INT(ferry_fail(-EIO, "lost"), -EIO);
    CHECK_STR(ferry_errmsg(), strerror(ENOMEM));
    size_t n = 3;
    CHECK(ferry_group_errors(&n) == NULL);
    CHECK_INT(n, 0);
    oom_never();
    return arg;
}

static void a_thread_without_a_record_is_told(void **state) {
    (void)state;
    pthread_t thread;
    /* The first test: there is no spare record of a thread that has ended. */
    assert_int_equal(pthread_create(&thread, NULL, first_call_without_memory, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* ---- Details --------------------------------------------------------------------------------- */

static void a_detail_goes_with_its_code(void **state) {
    (void)state;
    struct ferry__ctx *ctx = ferry__ctx_self();
    ferry_fail(-EIO, "the disk");
    assert_null(ferry__error_take(ctx, -ENOENT));
    struct ferry__detail *detail = ferry__error_take(ctx, -EIO);
    assert_non_null(detail);
    assert_string_equal(ferry_errmsg(), strerror(EIO));
    assert_string_equal(ferry__detail_words(detail, -EIO), "the disk");
    assert_string_equal(ferry__detail_words(NULL, -EIO), strerror(EIO));
    ferry__error_set(ctx, -EPERM, detail);
    assert_string_equal(ferry_errmsg(), "the disk");
    assert_null(ferry__error_take(NULL, -EPERM));
    ferry__error_set(ctx, 0, NULL);
    assert_string_equal(ferry_errmsg(), "");
}

static void static_details_are_never_freed(void **state) {
    (void)state;
    static struct ferry__detail fixed = FERRY__STATIC_DETAIL("a loop can't do that");
    struct ferry__ctx *ctx = ferry__ctx_self();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ferry__error_say(ctx, -EDEADLK, &fixed), -EDEADLK);
        assert_string_equal(ferry_errmsg(), "a loop can't do that");
        assert_ptr_equal(ferry__detail_ref(&fixed), &fixed);
        ferry__detail_unref(&fixed);
    }
    ferry__detail_unref(NULL);
    assert_null(ferry__detail_ref(NULL));
}

static void a_detail_is_shared(void **state) {
    (void)state;
    long before = oom_blocks();
    struct ferry__ctx *ctx = ferry__ctx_self();
    ferry_fail(-EIO, "shared");
    struct ferry__detail *detail = ferry__error_take(ctx, -EIO);
    ferry__error_set(ctx, -EIO, ferry__detail_ref(detail));
    ferry__detail_unref(detail);
    assert_string_equal(ferry_errmsg(), "shared");
    ferry__error_set(ctx, 0, NULL);
    assert_int_equal(oom_blocks(), before);
}

/* ---- Groups ---------------------------------------------------------------------------------- */

static void a_group_copies_its_errors(void **state) {
    (void)state;
    long before = oom_blocks();
    struct ferry__ctx *ctx = ferry__ctx_self();
    char name[] = "fetch", message[] = "no route";
    ferry_error errors[] = {{.code = -EHOSTUNREACH, .name = name, .message = message},
                            {.code = -EIO, .name = "body", .message = "the disk"}};
    ferry__error_set(ctx, FERRY_EGROUP, ferry__detail_group(errors, 2, 0));
    memset(name, '?', strlen(name));
    memset(message, '?', strlen(message));
    memset(errors, 0, sizeof errors);

    size_t n = 0;
    const ferry_error *got = ferry_group_errors(&n);
    assert_int_equal(n, 2);
    assert_int_equal(got[0].code, -EHOSTUNREACH);
    assert_string_equal(got[0].name, "fetch");
    assert_string_equal(got[0].message, "no route");
    assert_int_equal(got[0].n_causes, 0);
    assert_null(got[0].causes);
    assert_string_equal(got[1].name, "body");
    assert_ptr_equal(ferry_group_errors(NULL), got);
    assert_string_equal(ferry_errmsg(),
                        "2 of the group's members failed: fetch: no route; body: the disk");
    ferry_fail(-EIO, "a later one");
    assert_null(ferry_group_errors(&n));
    assert_int_equal(n, 0);
    ferry__error_set(ctx, 0, NULL);
    assert_int_equal(oom_blocks(), before);
}

static void a_group_of_groups_keeps_its_causes(void **state) {
    (void)state;
    long before = oom_blocks();
    ferry_error leaf = {.code = -EIO, .name = "leaf", .message = "the disk"};
    struct ferry__detail *inner = ferry__detail_group(&leaf, 1, 0);
    ferry_error middle = {.code = FERRY_EGROUP,
                          .name = "inner",
                          .message = inner->text,
                          .causes = inner->errors,
                          .n_causes = inner->n_errors};
    struct ferry__detail *outer = ferry__detail_group(&middle, 1, 0); /* takes inner over */
    assert_string_equal(
        outer->text,
        "1 of the group's members failed: inner: 1 of the group's members failed: leaf: the disk");
    assert_int_equal(outer->errors[0].n_causes, 1);
    assert_string_equal(outer->errors[0].causes[0].name, "leaf");
    assert_string_equal(outer->errors[0].causes[0].message, "the disk");
    ferry__detail_unref(outer);
    assert_int_equal(oom_blocks(), before);
}

static void an_error_without_message_gets_the_words(void **state) {
    (void)state;
    /* Codes that nobody knows: their words stand in one buffer. */
    ferry_error errors[] = {{.code = -60001, .name = "a"}, {.code = -60002, .name = "b"}};
    struct ferry__detail *detail = ferry__detail_group(errors, 2, 0);
    assert_string_equal(detail->errors[0].message, "Unknown error -60001");
    assert_string_equal(detail->errors[1].message, "Unknown error -60002");
    assert_string_equal(
        detail->text, "2 of the group's members failed: a: Unknown error -60001; b: Unknown error "
                      "-60002");
    ferry__detail_unref(detail);
}

static void a_long_summary_is_cut(void **state) {
    (void)state;
    enum { N = 100 };
    ferry_error errors[N];
    char name[2000];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < N; i++)
        errors[i] = (ferry_error){.code = -EIO, .name = "worker", .message = "a word or two"};
    struct ferry__detail *detail = ferry__detail_group(errors, N, 3);
    assert_int_equal(strlen(detail->text), 1000);
    assert_int_equal(strncmp(detail->text, "103 of the group's members failed: worker: a ", 45), 0);
    ferry__detail_unref(detail);

    errors[0].name = name;
    detail = ferry__detail_group(errors, 1, 0);
    assert_int_equal(strlen(detail->text), 1000);
    assert_string_equal(detail->errors[0].name, name);
    ferry__detail_unref(detail);
}

static void lost_errors_are_counted(void **state) {
    (void)state;
    ferry_error one = {.code = -EIO, .name = "a", .message = "b"};
    struct ferry__detail *detail = ferry__detail_group(&one, 1, 4);
    assert_string_equal(detail->text,
                        "5 of the group's members failed: a: b; and 4 more, for which there was "
                        "no memory");
    ferry__detail_unref(detail);
    detail = ferry__detail_group(NULL, 0, 2);
    assert_string_equal(detail->text,
                        "2 of the group's members failed; there was no memory for their errors");
    assert_int_equal(detail->n_errors, 0);
    ferry__detail_unref(detail);
}

/* As a program makes it that wraps an error in a group, again and again. */
static void a_long_chain_of_causes_is_freed(void **state) {
    (void)state;
    long before = oom_blocks();
    ferry_error leaf = {.code = -EIO, .name = "leaf", .message = "the disk"};
    struct ferry__detail *detail = ferry__detail_group(&leaf, 1, 0);
    for (int i = 0; i < 200000; i++) {
        ferry_error around = {.code = FERRY_EGROUP,
                              .name = "body",
                              .message = "deeper",
                              .causes = detail->errors,
                              .n_causes = detail->n_errors};
        detail = ferry__detail_group(&around, 1, 0);
        assert_non_null(detail);
    }
    ferry__detail_unref(detail);
    assert_int_equal(oom_blocks(), before);
}

static void without_memory_the_causes_are_given_back(void **state) {
    (void)state;
    long before = oom_blocks();
    ferry_error leaf = {.code = -EIO, .name = "leaf", .message = "the disk"};
    struct ferry__detail *inner = ferry__detail_group(&leaf, 1, 0);
    ferry_error errors[] = {
        {.code = FERRY_EGROUP, .name = "a", .message = "m", .causes = inner->errors, .n_causes = 1},
        {.code = FERRY_EGROUP,
         .name = "b",
         .message = "m",
         .causes = ferry__detail_ref(inner)->errors,
         .n_causes = 1}};
    oom_after(0, true);
    assert_null(ferry__detail_group(errors, 2, 0));
    oom_never();
    assert_int_equal(oom_blocks(), before);
    struct ferry__ctx *ctx = ferry__ctx_self();
    ferry__error_set(ctx, FERRY_EGROUP, NULL);
    size_t n = 1;
    assert_null(ferry_group_errors(&n));
    assert_int_equal(n, 0);
    assert_string_equal(ferry_errmsg(), ferry_strerror(FERRY_EGROUP));
    ferry__error_set(ctx, 0, NULL);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        CASE("a thread without a record is told that memory is short",
             a_thread_without_a_record_is_told),
        CASE("Ferry's own codes have words and names", own_codes_have_words),
        CASE("errno has the C library's words, and stays as it is", errno_has_its_words),
        CASE("any number has words", any_number_has_words),
        CASE("a bridge registers its range, and may replace it", a_bridge_registers_its_range),
        CASE("odd and overlapping ranges are refused", odd_ranges_are_refused),
        CASE("words are read while they are replaced", words_are_read_while_they_change),
        CASE("sixteen bridges fit", sixteen_bridges_fit),
        CASE("each thread has its last error", each_thread_has_its_last_error),
        CASE("long text is cut at 1,000 bytes", long_text_is_cut),
        CASE("a cut leaves whole characters", a_cut_leaves_whole_characters),
        CASE("the code's words stand in when memory is short", words_stand_in_when_memory_is_short),
        CASE("a detail goes with its code only", a_detail_goes_with_its_code),
        CASE("static details are never freed", static_details_are_never_freed),
        CASE("a detail is shared by reference", a_detail_is_shared),
        CASE("a group copies its errors", a_group_copies_its_errors),
        CASE("a group of groups keeps its causes", a_group_of_groups_keeps_its_causes),
        CASE("an error without a message gets the words of its code",
             an_error_without_message_gets_the_words),
        CASE("a long summary is cut, names aren't", a_long_summary_is_cut),
        CASE("lost errors are counted", lost_errors_are_counted),
        CASE("a long chain of causes is freed without recursion", a_long_chain_of_causes_is_freed),
        CASE("without memory the causes are given back", without_memory_the_causes_are_given_back),
    };
    oom_install();
    return SUPPORT_RUN(tests);
}

/* What a line looks like, what is left out, and that what was left out is counted. Time is ours:
 * clock_gettime below takes the place of the system's in this program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/log.h"

static char dir[] = "/tmp/cordis-log-XXXXXX";
static char path[64];
static struct timespec now;

int clock_gettime(clockid_t id, struct timespec *out)
{
    (void)id;
    *out = now;
    return 0;
}

static void next_second(void)
{
    now.tv_sec++;
}

static int make_dir(void **state)
{
    (void)state;
    memcpy(dir, "/tmp/cordis-log-XXXXXX", sizeof dir);
    if (mkdtemp(dir) == NULL) return 1;
    snprintf(path, sizeof path, "%s/log", dir);
    /* 2024-02-29 12:34:56.789 UTC, and every test begins in a second of its own. */
    if (now.tv_sec == 0) now = (struct timespec){ 1709210096, 789999999 };
    next_second();
    return log_open(path, LOG_DEBUG, NULL) != OK;
}

static int remove_dir(void **state)
{
    (void)state;
    if (log_open("", LOG_NOTICE, NULL) != OK) return 1;
    unlink(path);
    return rmdir(dir);
}

/* All that was written so far, terminated; the caller frees it. */
static char *text_of(const char *file)
{
    struct buf text = { 0 };
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    size_t got = 0;
    do {
        got = fread(buf_reserve(&text, 4096), 1, 4096, f);
        text.len += got;
    } while (got > 0);
    fclose(f);
    buf_append_u8(&text, 0);
    return (char *)text.at;
}

static size_t lines_in(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++) count += *text == '\n';
    return count;
}

static void test_a_line_has_time_level_and_event(void **state)
{
    (void)state;
    now = (struct timespec){ 1709210096, 789999999 };
    log_write(LOG_DEBUG, "a");
    log_info("b x=%d", 1);
    log_notice("c");
    log_warning("d y=%s", "z");
    now = (struct timespec){ 1709210097, 5000000 };
    log_error("e");
    char *text = text_of(path);
    assert_string_equal(text, "2024-02-29T12:34:56.789Z debug a\n"
                              "2024-02-29T12:34:56.789Z info b x=1\n"
                              "2024-02-29T12:34:56.789Z notice c\n"
                              "2024-02-29T12:34:56.789Z warning d y=z\n"
                              "2024-02-29T12:34:57.005Z error e\n");
    mem_free(text);
}

static void test_what_is_below_the_level_is_left_out(void **state)
{
    (void)state;
    for (int level = LOG_DEBUG; level <= LOG_OFF; level++) {
        log_level_set((enum log_level)level);
        assert_int_equal(log_level_get(), level);
        for (int line = LOG_DEBUG; line < LOG_OFF; line++) {
            log_write((enum log_level)line, "at%d line%d", level, line);
        }
    }
    char *text = text_of(path);
    for (int level = LOG_DEBUG; level <= LOG_OFF; level++) {
        for (int line = LOG_DEBUG; line < LOG_OFF; line++) {
            char want[32];
            snprintf(want, sizeof want, "at%d line%d\n", level, line);
            assert_int_equal(strstr(text, want) != NULL, line >= level);
        }
    }
    assert_int_equal(lines_in(text), 5 + 4 + 3 + 2 + 1);
    mem_free(text);
}

static void test_a_long_line_is_cut_and_the_next_is_whole(void **state)
{
    (void)state;
    char word[2 * LOG_LINE_BYTES_MAX];
    memset(word, 'w', sizeof word);
    word[sizeof word - 1] = '\0';
    log_notice("%s", word);
    log_notice("next");
    for (size_t len = LOG_LINE_BYTES_MAX - 60; len < LOG_LINE_BYTES_MAX + 3; len++) {
        log_error("%.*s", (int)len, word); /* around the edge, one byte at a time */
    }
    char *text = text_of(path);
    assert_int_equal(lines_in(text), 2 + 63);
    assert_non_null(strstr(text, "Z notice next\n"));
    for (char *at = text; *at != '\0';) {
        char *end = strchr(at, '\n');
        assert_non_null(end);
        assert_true((size_t)(end - at) < LOG_LINE_BYTES_MAX);
        at = end + 1;
    }
    mem_free(text);
}

static void test_lines_over_the_rate_are_dropped_and_counted(void **state)
{
    (void)state;
    for (int i = 0; i < LOG_LINES_PER_S_MAX + 55; i++) log_notice("flood");
    char *text = text_of(path);
    assert_int_equal(lines_in(text), LOG_LINES_PER_S_MAX);
    assert_null(strstr(text, "dropped_lines"));
    mem_free(text);
    next_second();
    log_notice("later");
    log_notice("later");
    next_second();
    log_notice("later");
    text = text_of(path);
    assert_int_equal(lines_in(text), LOG_LINES_PER_S_MAX + 3);
    char *said = strstr(text, "notice dropped_lines=55 later\n");
    assert_non_null(said);
    assert_null(strstr(strchr(said, '\n'), "dropped_lines")); /* once */
    mem_free(text);
}

static void test_errors_are_never_dropped(void **state)
{
    (void)state;
    for (int i = 0; i < LOG_LINES_PER_S_MAX * 2; i++) {
        log_warning("flood");
        log_error("serious");
    }
    char *text = text_of(path);
    assert_int_equal(lines_in(text), LOG_LINES_PER_S_MAX * 3);
    mem_free(text);
}

static void test_opening_again_follows_a_moved_file(void **state)
{
    (void)state;
    char moved[80];
    snprintf(moved, sizeof moved, "%s.1", path);
    log_notice("before");
    assert_int_equal(rename(path, moved), 0);
    log_notice("still the old file");
    assert_int_equal(log_open(path, LOG_NOTICE, NULL), OK);
    log_notice("after");
    char *old_text = text_of(moved);
    char *new_text = text_of(path);
    assert_int_equal(lines_in(old_text), 2);
    assert_int_equal(lines_in(new_text), 1);
    assert_int_equal(log_open(path, LOG_NOTICE, NULL), OK);
    log_notice("appended");
    mem_free(new_text);
    new_text = text_of(path);
    assert_int_equal(lines_in(new_text), 2);
    mem_free(old_text);
    mem_free(new_text);
    unlink(moved);
}

static void test_a_file_that_does_not_open_leaves_the_log_as_it_was(void **state)
{
    (void)state;
    char missing[96];
    snprintf(missing, sizeof missing, "%s/no/log", dir);
    struct errmsg em = { "" };
    log_level_set(LOG_WARNING);
    assert_int_equal(log_open(missing, LOG_DEBUG, &em), ERR_IO);
    assert_non_null(strstr(em.text, missing));
    assert_int_equal(log_level_get(), LOG_WARNING);
    log_warning("here");
    char *text = text_of(path);
    assert_int_equal(lines_in(text), 1);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_line_has_time_level_and_event, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_is_below_the_level_is_left_out, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_long_line_is_cut_and_the_next_is_whole, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_lines_over_the_rate_are_dropped_and_counted, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_errors_are_never_dropped, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_opening_again_follows_a_moved_file, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_file_that_does_not_open_leaves_the_log_as_it_was,
                                        make_dir, remove_dir),
    };
    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}

/* Options: every kind, every unit, what is refused and how it is said, files and their rewriting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/option.h"

static const char *const colours[] = { "red", "green", "blue", NULL };

struct settings {
    bool flag;
    int64_t number;
    int64_t size_bytes;
    int64_t wait_ms;
    char *text;
    char *secret;
    int colour;
    int64_t hidden;
    char *brief;
};

#define AT(field) offsetof(struct settings, field)

static const struct option rows[] = {
    { "flag", OPTION_BOOL, OPTION_RUNTIME, AT(flag), "no", 0, 0, NULL, "First part", "A switch." },
    { "number", OPTION_INT, 0, AT(number), "5", -10, 1000, NULL, NULL,
      "A number. Its help has a second sentence, and goes on for so long that it does not fit into one "
      "line of the file and must be wrapped somewhere." },
    { "size", OPTION_BYTES, 0, AT(size_bytes), "1mb", 0, 1LL << 40, NULL, NULL, "A size." },
    { "wait", OPTION_MS, 0, AT(wait_ms), "2s", -1, INT64_MAX, NULL, NULL, "A time." },
    { "text", OPTION_TEXT, 0, AT(text), "", 0, 0, NULL, "Second part", "Words." },
    { "secret", OPTION_TEXT, OPTION_SECRET, AT(secret), "none yet", 0, 0, NULL, NULL, "A secret." },
    { "colour", OPTION_ENUM, 0, AT(colour), "green", 0, 0, colours, NULL, "A choice." },
    { "short", OPTION_TEXT, 0, AT(brief), "", 0, 8, NULL, NULL, "A word." },
    { "hidden", OPTION_INT, OPTION_HIDDEN, AT(hidden), "1", 0, 9, NULL, NULL, "For tests." },
};

static struct option_set set_of(struct settings *s)
{
    return (struct option_set){ rows, ARRAY_LEN(rows), s };
}

struct fixture {
    struct settings values;
    struct option_set set;
    char path[64];
};

static int make_fixture(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    f->set = set_of(&f->values);
    options_init(&f->set);
    snprintf(f->path, sizeof f->path, "/tmp/cordis-option-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0) return 1;
    close(fd);
    *state = f;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *f = *state;
    options_deinit(&f->set);
    unlink(f->path);
    mem_free(f);
    return 0;
}

static void file_write(const struct fixture *f, struct slice text)
{
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text.at, 1, text.len, file), text.len);
    assert_int_equal(fclose(file), 0);
}

static enum err set_one(struct fixture *f, const char *name, const char *value, struct errmsg *em)
{
    const struct option *o = option_find(&f->set, slice_of(name));
    assert_non_null(o);
    return option_set_value(&f->set, o, slice_of(value), em);
}

static void check_value(const struct fixture *f, const char *name, const char *want)
{
    struct buf got = { 0 };
    option_get_value(&f->set, option_find(&f->set, slice_of(name)), &got);
    if (!slice_eq(buf_slice(&got), slice_of(want))) {
        fail_msg("%s is '%.*s', not '%s'", name, (int)got.len, (const char *)got.at, want);
    }
    buf_deinit(&got);
}

static void test_presets_are_there_from_the_start(void **state)
{
    struct fixture *f = *state;
    assert_false(f->values.flag);
    assert_int_equal(f->values.number, 5);
    assert_int_equal(f->values.size_bytes, 1 << 20);
    assert_int_equal(f->values.wait_ms, 2000);
    assert_string_equal(f->values.text, "");
    assert_string_equal(f->values.secret, "none yet");
    assert_int_equal(f->values.colour, 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) assert_true(option_is_preset(&f->set, &rows[i]));
    assert_ptr_equal(option_find(&f->set, SLICE_LIT("NUMBER")), &rows[1]);
    assert_null(option_find(&f->set, SLICE_LIT("numbe")));
    assert_null(option_find(&f->set, SLICE_LIT("numbers")));
    assert_null(option_find(&f->set, SLICE_NONE));
}

static const struct {
    const char *name, *value;
    const char *want;  /* as read back; NULL: refused */
    const char *error; /* what the message must hold */
} values[] = {
    { "flag", "yes", "yes", NULL },
    { "flag", "NO", "no", NULL },
    { "flag", "true", NULL, "'flag' must be 'yes' or 'no'" },
    { "flag", "1", NULL, "'flag' must be 'yes' or 'no'" },
    { "flag", "", NULL, "'flag' must be 'yes' or 'no'" },
    { "number", "-10", "-10", NULL },
    { "number", "1000", "1000", NULL },
    { "number", "-11", NULL, "'number' must be between -10 and 1000" },
    { "number", "1001", NULL, "'number' must be between -10 and 1000" },
    { "number", "1k", NULL, "'number' must be a number" },
    { "number", "", NULL, "'number' must be a number" },
    { "number", "5 # five", NULL, "'number' must be a number" },
    { "number", "9223372036854775808", NULL, "'number' must be a number" },
    { "size", "0", "0", NULL },
    { "size", "17", "17", NULL },
    { "size", "17b", "17", NULL },
    { "size", "3k", "3072", NULL },
    { "size", "3kb", "3072", NULL },
    { "size", "3KB", "3072", NULL },
    { "size", "2m", "2097152", NULL },
    { "size", "2Mb", "2097152", NULL },
    { "size", "1g", "1073741824", NULL },
    { "size", "1024gb", "1099511627776", NULL },
    { "size", "1025gb", NULL, "between 0 and 1099511627776" },
    { "size", "-1kb", NULL, "between 0 and 1099511627776" },
    { "size", "1tb", NULL, "a number of bytes, like 64mb" },
    { "size", "1 kb", NULL, "a number of bytes, like 64mb" },
    { "size", "kb", NULL, "a number of bytes, like 64mb" },
    { "size", "1.5mb", NULL, "a number of bytes, like 64mb" },
    { "size", "1kbx", NULL, "a number of bytes, like 64mb" },
    { "size", "1s", NULL, "a number of bytes, like 64mb" },
    { "size", "9223372036854775807gb", NULL, "a number of bytes" }, /* the product has no room */
    { "size", "17179869184gb", NULL, "a number of bytes" },         /* 2^64, which would wrap to 0 */
    { "wait", "0", "0", NULL },
    { "wait", "-1", "-1", NULL },
    { "wait", "15", "15", NULL },
    { "wait", "15ms", "15", NULL },
    { "wait", "15s", "15000", NULL },
    { "wait", "15M", "900000", NULL },
    { "wait", "1h", "3600000", NULL },
    { "wait", "1d", "86400000", NULL },
    { "wait", "-2", NULL, "'wait' must be between -1 and" },
    { "wait", "1w", NULL, "milliseconds, or with a unit, like 10s" },
    { "wait", "--1", NULL, "milliseconds, or with a unit, like 10s" },
    { "wait", "1-1", NULL, "milliseconds, or with a unit, like 10s" },
    { "wait", "9223372036854775807", "9223372036854775807", NULL },
    { "wait", "9223372036854775807s", NULL, "milliseconds" },
    { "text", "two words", "two words", NULL },
    { "text", "", "", NULL },
    { "colour", "BLUE", "blue", NULL },
    { "colour", "pink", NULL, "'colour' must be one of: red, green, blue" },
    { "colour", "", NULL, "'colour' must be one of: red, green, blue" },
};

static void test_values_are_read_or_refused_with_a_reason(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        const struct option *o = option_find(&f->set, slice_of(values[i].name));
        enum err e = option_set_value(&f->set, o, slice_of(o->preset), NULL);
        assert_int_equal(e, OK);
        struct buf preset = { 0 };
        option_get_value(&f->set, o, &preset);
        buf_append_u8(&preset, 0);
        struct errmsg em = { "" };
        bool good = option_check_value(o, slice_of(values[i].value), &em) == OK;
        assert_int_equal(good, values[i].want != NULL);
        check_value(f, values[i].name, (char *)preset.at);
        e = set_one(f, values[i].name, values[i].value, &em);
        if (e != (values[i].want != NULL ? OK : ERR_CONFIG)) {
            fail_msg("%s '%s': %s", values[i].name, values[i].value, err_name(e));
        }
        if (values[i].error != NULL && strstr(em.text, values[i].error) == NULL) {
            fail_msg("%s '%s' says: %s", values[i].name, values[i].value, em.text);
        }
        check_value(f, values[i].name, values[i].want != NULL ? values[i].want : (char *)preset.at);
        buf_deinit(&preset);
    }
    struct errmsg em = { "" };
    const struct option *text = option_find(&f->set, SLICE_LIT("text"));
    assert_int_equal(option_set_value(&f->set, text, SLICE_LIT("a\0b"), &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "zero byte"));
    assert_int_equal(option_set_value(&f->set, text, SLICE_NONE, &em), OK);
    assert_string_equal(f->values.text, "");
}

static void test_a_preset_is_known_however_it_is_written(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set_one(f, "size", "1048576", NULL), OK);
    assert_true(option_is_preset(&f->set, &rows[2]));
    assert_int_equal(set_one(f, "size", "1025kb", NULL), OK);
    assert_false(option_is_preset(&f->set, &rows[2]));
    assert_int_equal(set_one(f, "text", "x", NULL), OK);
    assert_false(option_is_preset(&f->set, &rows[4]));
}

/* --- files ------------------------------------------------------------------ */

static const struct {
    const char *file;
    const char *text;  /* the value of `text` then; NULL: refused */
    const char *error; /* behind "path:" */
} files[] = {
    { "", "", NULL },
    { "\n\n  \t\n# text no\n  # text no\n", "", NULL },
    { "text plain\n", "plain", NULL },
    { "text plain", "plain", NULL }, /* no end of line */
    { "  text\t two  words \t\r\n", "two  words", NULL },
    { "TEXT x\n", "x", NULL },
    { "text one\ntext two\n", "two", NULL },
    { "text\n", "", NULL },
    { "text \"\"\n", "", NULL },
    { "text \" quoted # \"\n", " quoted # ", NULL },
    { "text \"a\" # then a comment\n", "a", NULL },
    { "text \"a\"\t\r\n", "a", NULL },
    { "text \"\\\"\\\\\\n\\x41\\x7a\"\n", "\"\\\nAz", NULL },
    { "text \"\\xc3\\xA4\"\n", "\xc3\xa4", NULL },
    { "text a\"b\n", "a\"b", NULL }, /* a quote inside is itself */
    { "text a\\nb\n", "a\\nb", NULL }, /* without quotes, nothing is special */
    { "text a#b\n", "a#b", NULL },
    { "text \"a # b\"\n", "a # b", NULL },
    { "text a # b\n", NULL, ":1: unbalanced quotes, text behind a quoted value, or a comment" },
    { "text # none\n", NULL, ":1: unbalanced quotes, text behind a quoted value, or a comment" },
    { "text #\n", NULL, ":1: unbalanced quotes, text behind a quoted value, or a comment" },
    { "text #secret\n", "#secret", NULL },
    { "number 5 # five\n", NULL, ":1: unbalanced quotes, text behind a quoted value, or a comment" },
    { "short 12345678\n", "", NULL },
    { "short 123456789\n", NULL, ":1: argument of 'short' must be at most 8 bytes long" },
    { "text \"open\n", NULL, ":1: unbalanced quotes" },
    { "text \"open\\\"\n", NULL, ":1: unbalanced quotes" },
    { "text \"open\\\n", NULL, ":1: unbalanced quotes" },
    { "text \"a\"b\n", NULL, ":1: unbalanced quotes, text behind" },
    { "text \"a\" \"b\"\n", NULL, ":1: unbalanced quotes, text behind" },
    { "text \"\\q\"\n", NULL, ":1: unbalanced" },
    { "text \"\\x4\"\n", NULL, ":1: unbalanced" },
    { "text \"\\xg0\"\n", NULL, ":1: unbalanced" },
    { "text \"\\x\n", NULL, ":1: unbalanced" },
    { "text \"\\x00\"\n", NULL, ":1: argument of 'text' must not contain a zero byte" },
    { "# one\n\nnumber 1\nnubmer 2\n", NULL, ":4: unknown option 'nubmer'" },
    { "number 1\r\nnumber many\r\n", NULL, ":2: argument of 'number' must be a number" },
};

static void test_files_are_read_or_refused_with_their_line(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        assert_int_equal(set_one(f, "text", "", NULL), OK);
        file_write(f, slice_of(files[i].file));
        struct errmsg em = { "" };
        enum err e = options_load(&f->set, f->path, &em);
        if (e != (files[i].text != NULL ? OK : ERR_CONFIG)) {
            fail_msg("file %zu: %s: %s", i, err_name(e), em.text);
        }
        if (files[i].text != NULL) {
            check_value(f, "text", files[i].text);
        } else {
            size_t len = strlen(f->path);
            assert_memory_equal(em.text, f->path, len);
            if (strncmp(em.text + len, files[i].error, strlen(files[i].error)) != 0) {
                fail_msg("file %zu says: %s", i, em.text);
            }
        }
    }
}

static void test_files_have_bounds(void **state)
{
    struct fixture *f = *state;
    struct errmsg em = { "" };
    assert_int_equal(options_load(&f->set, "/nonexistent/file", &em), ERR_IO);
    assert_non_null(strstr(em.text, "cannot open '/nonexistent/file'"));
    assert_int_equal(options_load(&f->set, "/tmp", &em), ERR_IO);

    struct buf text = { 0 };
    while (text.len < OPTION_FILE_BYTES_MAX) buf_append_slice(&text, SLICE_LIT("# comment line\n"));
    buf_consume(&text, text.len - OPTION_FILE_BYTES_MAX);
    memset(text.at, '#', 20);
    file_write(f, buf_slice(&text));
    assert_int_equal(options_load(&f->set, f->path, &em), OK);
    buf_append_u8(&text, '\n');
    file_write(f, buf_slice(&text));
    assert_int_equal(options_load(&f->set, f->path, &em), ERR_IO);
    assert_non_null(strstr(em.text, "too large"));

    buf_clear(&text);
    buf_append_slice(&text, SLICE_LIT("text "));
    while (text.len < OPTION_LINE_BYTES_MAX) buf_append_u8(&text, 'x');
    file_write(f, buf_slice(&text));
    assert_int_equal(options_load(&f->set, f->path, &em), OK);
    assert_int_equal(strlen(f->values.text), OPTION_LINE_BYTES_MAX - 5);
    buf_append_u8(&text, 'x');
    file_write(f, buf_slice(&text));
    assert_int_equal(options_load(&f->set, f->path, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, ":1: line too long"));
    buf_deinit(&text);
}

/* --- arguments -------------------------------------------------------------- */

static enum err load_args(struct fixture *f, int argc, const char *const *words, const char **path,
                          struct errmsg *em)
{
    char *argv[8] = { NULL };
    assert_true(argc < (int)ARRAY_LEN(argv));
    for (int i = 0; i < argc; i++) argv[i] = mem_copy(words[i], strlen(words[i]) + 1);
    const char *found = NULL;
    enum err e = options_args(&f->set, argc, argv, path == NULL ? NULL : &found, em);
    if (path != NULL) *path = found == NULL ? NULL : words[1];
    for (int i = 0; i < argc; i++) mem_free(argv[i]);
    return e;
}

#define ARGS(...) ((const char *const[]){ "program", __VA_ARGS__ })

static void test_arguments(void **state)
{
    struct fixture *f = *state;
    struct errmsg em = { "" };
    const char *path = "unset";
    assert_int_equal(load_args(f, 1, ARGS(""), &path, &em), OK);
    assert_null(path);
    assert_int_equal(load_args(f, 5, ARGS("--number", "7", "--TEXT", "--flag"), &path, &em), OK);
    assert_null(path);
    assert_int_equal(f->values.number, 7);
    assert_string_equal(f->values.text, "--flag"); /* a value may look like an option */
    assert_int_equal(load_args(f, 4, ARGS("my.conf", "--number", "8"), &path, &em), OK);
    assert_string_equal(path, "my.conf");
    assert_int_equal(f->values.number, 8);
    assert_int_equal(load_args(f, 3, ARGS("--text", "a # \"b"), NULL, &em), OK);
    assert_string_equal(f->values.text, "a # \"b"); /* the shell has done the quoting */

    assert_int_equal(load_args(f, 2, ARGS("my.conf"), NULL, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "unexpected argument 'my.conf'"));
    assert_int_equal(load_args(f, 4, ARGS("--number", "1", "my.conf"), &path, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "unexpected argument 'my.conf'"));
    assert_int_equal(load_args(f, 2, ARGS("-h"), NULL, &em), ERR_CONFIG);
    assert_int_equal(load_args(f, 2, ARGS("--number"), &path, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "'--number' needs a value"));
    assert_int_equal(load_args(f, 2, ARGS("--nope"), &path, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "unknown option 'nope'"));
    assert_int_equal(load_args(f, 3, ARGS("--nope", "1"), &path, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "unknown option 'nope'"));
    assert_int_equal(load_args(f, 3, ARGS("--", "1"), &path, &em), ERR_CONFIG);
    assert_int_equal(load_args(f, 3, ARGS("--number", "x"), &path, &em), ERR_CONFIG);
}

/* --- printing and rewriting --------------------------------------------------- */

static void test_the_printed_file_says_all_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct buf text = { 0 };
    options_print(&f->set, &text);
    buf_append_u8(&text, 0);
    const char *printed = (const char *)text.at;
    assert_non_null(strstr(printed, "\n## First part\n\n# A switch.\nflag no\n"));
    assert_non_null(strstr(printed, "\nsize 1mb\n")); /* as it would be typed */
    assert_non_null(strstr(printed, "\n# text \"\"\n")); /* empty is no value to copy */
    assert_non_null(strstr(printed, "\nsecret \"none yet\"\n"));
    assert_null(strstr(printed, "hidden"));
    for (const char *at = printed; *at != '\0'; at = strchr(at, '\n') + 1) {
        assert_true(strchr(at, '\n') - at <= 96);
    }

    assert_int_equal(set_one(f, "number", "9", NULL), OK);
    assert_int_equal(set_one(f, "colour", "red", NULL), OK);
    file_write(f, (struct slice){ text.at, text.len - 1 });
    struct errmsg em = { "" };
    assert_int_equal(options_load(&f->set, f->path, &em), OK);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) assert_true(option_is_preset(&f->set, &rows[i]));
    buf_deinit(&text);
}

static void test_help_has_a_line_for_each_option(void **state)
{
    struct fixture *f = *state;
    struct buf text = { 0 };
    options_help(&f->set, &text);
    buf_append_u8(&text, 0);
    const char *help = (const char *)text.at;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char want[32];
        snprintf(want, sizeof want, "\n  --%s ", rows[i].name);
        assert_int_equal(strstr(help, want) != NULL, (rows[i].flags & OPTION_HIDDEN) == 0);
    }
    assert_non_null(strstr(help, "A number.\n"));
    assert_null(strstr(help, "second sentence"));
    assert_non_null(strstr(help, " \"\" ")); /* an empty preset can be seen */
    buf_deinit(&text);
}

static void test_rewriting_keeps_the_users_file(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set_one(f, "number", "7", NULL), OK);
    assert_int_equal(set_one(f, "text", "say \"hi\"", NULL), OK);
    assert_int_equal(set_one(f, "colour", "blue", NULL), OK);
    struct buf out = { 0 };
    options_rewrite(&f->set,
                    SLICE_LIT("# mine\n\n  number 3 \nflag no\n# number 4\nunknown thing\n"
                              "number 5\ncolour red"),
                    &out);
    buf_append_u8(&out, 0);
    assert_string_equal((const char *)out.at,
                        "# mine\n\nnumber 7\nflag no\n# number 4\nunknown thing\n"
                        "colour blue\ntext \"say \\\"hi\\\"\"\n");
    buf_deinit(&out);
}

static void test_rewriting_twice_changes_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(set_one(f, "number", "7", NULL), OK);
    struct buf once = { 0 };
    struct buf twice = { 0 };
    options_rewrite(&f->set, SLICE_LIT("# a\nsize 1mb\n"), &once);
    options_rewrite(&f->set, buf_slice(&once), &twice);
    assert_true(slice_eq(buf_slice(&once), buf_slice(&twice)));
    buf_deinit(&once);
    buf_deinit(&twice);
}

/* Whatever a text holds, a rewritten file gives it back. */
/* A value that a rewritten file could not hold is refused. */
static void test_a_value_fits_a_line(void **state)
{
    struct fixture *f = *state;
    char text[OPTION_LINE_BYTES_MAX];
    memset(text, 'x', sizeof text);
    text[OPTION_LINE_BYTES_MAX - strlen("text ")] = '\0';
    assert_int_equal(set_one(f, "text", text, NULL), OK);
    struct buf out CLEANUP(buf_deinit) = { 0 };
    options_rewrite(&f->set, SLICE_NONE, &out);
    file_write(f, buf_slice(&out));
    assert_int_equal(options_load(&f->set, f->path, NULL), OK);
    check_value(f, "text", text);
    text[0] = '"'; /* takes quotes and a backslash */
    struct errmsg em = { "" };
    assert_int_equal(set_one(f, "text", text, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "too long"));
}

static void test_every_byte_survives_a_rewrite(void **state)
{
    struct fixture *f = *state;
    const struct option *o = option_find(&f->set, SLICE_LIT("text"));
    for (unsigned first = 1; first < 256; first++) {
        char want[4] = { (char)first, 'x', (char)first, '\0' };
        assert_int_equal(option_set_value(&f->set, o, slice_of(want), NULL), OK);
        struct buf out = { 0 };
        options_rewrite(&f->set, SLICE_NONE, &out);
        file_write(f, buf_slice(&out));
        buf_deinit(&out);
        assert_int_equal(set_one(f, "text", "lost", NULL), OK);
        struct errmsg em = { "" };
        if (options_load(&f->set, f->path, &em) != OK) fail_msg("byte %u: %s", first, em.text);
        if (strcmp(f->values.text, want) != 0) fail_msg("byte %u: '%s'", first, f->values.text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_fixture, free_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_presets_are_there_from_the_start),
        TEST(test_values_are_read_or_refused_with_a_reason),
        TEST(test_a_preset_is_known_however_it_is_written),
        TEST(test_files_are_read_or_refused_with_their_line),
        TEST(test_files_have_bounds),
        TEST(test_arguments),
        TEST(test_the_printed_file_says_all_and_changes_nothing),
        TEST(test_help_has_a_line_for_each_option),
        TEST(test_rewriting_keeps_the_users_file),
        TEST(test_rewriting_twice_changes_nothing),
        TEST(test_a_value_fits_a_line),
        TEST(test_every_byte_survives_a_rewrite),
    };
    return cmocka_run_group_tests_name("base/option", tests, NULL, NULL);
}

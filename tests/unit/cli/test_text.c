#include "cli_fake.h"

#include "cli/text.h"

static const char *shown(void (*f)(struct buf *, struct slice), struct slice in)
{
    static struct buf out;
    buf_clear(&out);
    f(&out, in);
    buf_append_u8(&out, '\0');
    return (const char *)out.at;
}

/* RFC 4648, section 10. */
static void test_base64_of_the_rfc(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        { "", "" },          { "f", "Zg==" },         { "fo", "Zm8=" },        { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        assert_string_equal(shown(text_base64, slice_of(pairs[i][0])), pairs[i][1]);
    }
    assert_string_equal(shown(text_base64, SLICE_LIT("\xff\xfb\x00")), "//sA");
}

static void test_escape_keeps_text_and_shows_the_rest(void **state)
{
    (void)state;
    static const struct {
        struct slice in;
        const char *want;
    } cases[] = {
        { SLICE_LIT("plain"), "plain" },
        { SLICE_LIT("a\nb\tc\rd\\"), "a\\nb\\tc\\rd\\\\" },
        { SLICE_LIT("\x00\x1b[2J\x7f"), "\\x00\\x1b[2J\\x7f" },
        { SLICE_LIT("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f" },
        { SLICE_LIT("\xe2\x82\xac \xf0\x9f\x98\x80"), "\xe2\x82\xac \xf0\x9f\x98\x80" },
        { SLICE_LIT("\xc3"), "\\xc3" },                 /* cut */
        { SLICE_LIT("\xc0\xaf"), "\\xc0\\xaf" },         /* overlong */
        { SLICE_LIT("\xed\xa0\x80"), "\\xed\\xa0\\x80" }, /* a surrogate */
        { SLICE_LIT("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80" },
        { SLICE_LIT("\xc2\x9b"), "\\xc2\\x9b" }, /* a control of 8-bit terminals */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(shown(text_escape, cases[i].in), cases[i].want);
    }
    assert_string_equal(shown(text_hex, SLICE_LIT("fo\x00")), "\\x66\\x6f\\x00");
    assert_int_equal(text_width(SLICE_LIT("gr\xc3\xbc\xc3\x9f")), 4);
}

static void test_duration_table(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        enum err want;
        int64_t ms;
    } cases[] = {
        { "5", OK, 5000 },      { "500ms", OK, 500 },   { "8s", OK, 8000 },
        { "2m", OK, 120000 },   { "1h", OK, 3600000 },  { "0", ERR_LIMIT, 0 },
        { "2h", ERR_LIMIT, 0 }, { "", ERR_SYNTAX, 0 },  { "s", ERR_SYNTAX, 0 },
        { "5 s", ERR_SYNTAX, 0 }, { "-5", ERR_SYNTAX, 0 }, { "1d", ERR_SYNTAX, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ms = 0;
        enum err got = text_duration(slice_of(cases[i].in), 3600000, &ms);
        if (got != cases[i].want || ms != cases[i].ms) fail_msg("%s", cases[i].in);
    }
}

static void test_id_is_decimal_or_hexadecimal(void **state)
{
    (void)state;
    int64_t id = 0;
    assert_int_equal(text_id(SLICE_LIT("17"), &id), OK);
    assert_int_equal(id, 17);
    assert_int_equal(text_id(SLICE_LIT("0x1F"), &id), OK);
    assert_int_equal(id, 31);
    static const char *const bad[] = { "", "0x", "x1", "0xg", "1f", "0x1234567890123456" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(text_id(slice_of(bad[i]), &id), ERR_NOT_INT);
    }
    assert_int_equal(id, 31);
}

static void test_words_and_quotes(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        enum err want;
        const char *words; /* each in <> */
    } cases[] = {
        { "  put  a\tb ", OK, "<put><a><b>" },
        { "put \"a b\" 'c d'", OK, "<put><a b><c d>" },
        { "a\"b\"'c'd \"\"", OK, "<abcd><>" },
        { "\"\\n\\t\\\\\\\"\\x41\" '\\n'", OK, "<\n\t\\\"A><\\n>" },
        { "\"open", ERR_AGAIN, "" },
        { "x 'open\nstill", ERR_AGAIN, "<x>" },
        { "\"end\\", ERR_AGAIN, "" },
        { "\"\\q\"", ERR_SYNTAX, "" },
        { "\"\\x4\"", ERR_SYNTAX, "" },
        { "", OK, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice rest = slice_of(cases[i].in);
        struct buf all = { 0 };
        enum err got = OK;
        for (bool found = true; got == OK && found;) {
            struct buf word = { 0 };
            got = text_word(&rest, &word, &found);
            if (got == OK && found) {
                buf_printf(&all, "<%.*s>", (int)word.len, (const char *)word.at);
            }
            buf_deinit(&word);
        }
        buf_append_u8(&all, '\0');
        if (got != cases[i].want || strcmp((const char *)all.at, cases[i].words) != 0) {
            fail_msg("%s: %d %s", cases[i].in, got, (const char *)all.at);
        }
        buf_deinit(&all);
    }
}

static void test_distance_counts_edits(void **state)
{
    (void)state;
    assert_int_equal(text_distance(SLICE_LIT("get"), SLICE_LIT("get")), 0);
    assert_int_equal(text_distance(SLICE_LIT("get"), SLICE_LIT("gte")), 1);
    assert_int_equal(text_distance(SLICE_LIT("prefix"), SLICE_LIT("prefx")), 1);
    assert_int_equal(text_distance(SLICE_LIT("put"), SLICE_LIT("watch")), 4);
    assert_int_equal(text_distance(SLICE_LIT(""), SLICE_LIT("ab")), 2);
    assert_true(text_distance(SLICE_LIT("a"),
                              SLICE_LIT("a-name-that-is-longer-than-any-of-ours")) == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_of_the_rfc),
        cmocka_unit_test(test_escape_keeps_text_and_shows_the_rest),
        cmocka_unit_test(test_duration_table),
        cmocka_unit_test(test_id_is_decimal_or_hexadecimal),
        cmocka_unit_test(test_words_and_quotes),
        cmocka_unit_test(test_distance_counts_edits),
    };
    return cmocka_run_group_tests_name("cli/text", tests, NULL, NULL);
}

/* Patterns: a table of meanings, a slow matcher as a second opinion, and the patterns that cost
 * other matchers seconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/glob.h"

static const struct {
    const char *pattern, *text;
    bool want;
} cases[] = {
    { "", "", true },
    { "", "a", false },
    { "a", "", false },
    { "abc", "abc", true },
    { "abc", "ABC", false },
    { "abc", "ab", false },
    { "abc", "abcd", false },
    { "*", "", true },
    { "*", "anything at all", true },
    { "**", "", true },
    { "a*", "a", true },
    { "a*", "abc", true },
    { "a*", "ba", false },
    { "*a", "ba", true },
    { "*a", "ab", false },
    { "*a", "aab", false },
    { "a*c", "abcbc", true }, /* the star must go on behind the first c */
    { "a*b*c", "aXbYc", true },
    { "a*b*c", "acb", false },
    { "*ab", "aab", true },
    { "?", "", false },
    { "?", "a", true },
    { "?", "ab", false },
    { "?*", "", false },
    { "*?", "a", true },
    { "h?llo", "hello", true },
    { "h[ae]llo", "hallo", true },
    { "h[ae]llo", "hillo", false },
    { "h[^e]llo", "hallo", true },
    { "h[^e]llo", "hello", false },
    { "h[^e]llo", "hllo", false }, /* a class takes one byte */
    { "[a-c]", "b", true },
    { "[a-c]", "d", false },
    { "[c-a]", "b", true }, /* either way round */
    { "[^a-c]", "b", false },
    { "[^a-c]", "d", true },
    { "[a-cx-z]", "y", true },
    { "[-a]", "-", true },
    { "[a-]", "]", true }, /* a range up to ], as Redis reads it */
    { "[a-]", "-", false },
    { "[]", "]", false }, /* an empty class */
    { "[^]", "x", true }, /* of which everything is outside */
    { "[abc", "b", true }, /* not closed: up to the end */
    { "[abc", "d", false },
    { "[\\]]", "]", true },
    { "[\\-]", "-", true },
    { "[a\\-c]", "b", false }, /* quoted: not a range */
    { "[*]", "*", true },
    { "[*]", "a", false },
    { "\\*", "*", true },
    { "\\*", "a", false },
    { "\\?", "?", true },
    { "\\[a]", "[a]", true },
    { "\\\\", "\\", true },
    { "\\a", "a", true },
    { "a\\", "a\\", true }, /* nothing left to quote: itself */
    { "[", "[", false },
    { "[^", "x", true },
    { "user:*:name", "user:17:name", true },
    { "user:*:name", "user:17:names", false },
    { "\xff*", "\xff\xfe", true },
    { "[\x80-\xff]", "\xc3", true }, /* bytes are unsigned */
};

static void test_glob_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool got = glob_match(slice_of(cases[i].pattern), slice_of(cases[i].text));
        if (got != cases[i].want) fail_msg("'%s' against '%s'", cases[i].pattern, cases[i].text);
    }
    assert_true(glob_match(SLICE_LIT("a?c"), SLICE_LIT("a\0c")));
    assert_true(glob_match(SLICE_LIT("a\0*"), SLICE_LIT("a\0c")));
    assert_false(glob_match(SLICE_LIT("a\0*"), SLICE_LIT("a")));
    assert_true(glob_match(SLICE_NONE, SLICE_NONE));
    assert_true(glob_match(SLICE_LIT("*"), SLICE_NONE));
}

/* The meaning of '*' and '?' and quoting, written down without any cleverness. */
static bool slow_match(const char *p, const char *t)
{
    if (*p == '\0') return *t == '\0';
    if (*p == '*') return slow_match(p + 1, t) || (*t != '\0' && slow_match(p, t + 1));
    if (*t == '\0') return false;
    if (*p == '?') return slow_match(p + 1, t + 1);
    if (*p == '\\' && p[1] != '\0') p++;
    return *p == *t && slow_match(p + 1, t + 1);
}

static void draw_word(uint64_t *draw, const char *letters, char out[12])
{
    *draw = u64_mix(*draw + 1);
    size_t len = *draw % 11;
    for (size_t i = 0; i < len; i++) {
        *draw = u64_mix(*draw + i);
        out[i] = letters[*draw % strlen(letters)];
    }
    out[len] = '\0';
}

static void test_glob_agrees_with_a_slow_matcher(void **state)
{
    (void)state;
    uint64_t draw = 5;
    size_t matched = 0;
    for (int round = 0; round < 200000; round++) {
        char pattern[12];
        char text[12];
        draw_word(&draw, "ab*?\\", pattern);
        draw_word(&draw, "ab*", text);
        bool want = slow_match(pattern, text);
        matched += want;
        if (glob_match(slice_of(pattern), slice_of(text)) != want) {
            fail_msg("'%s' against '%s'", pattern, text);
        }
    }
    assert_in_range(matched, 1000, 199000); /* both answers were asked for */
}

/* Every star doubles the work of a matcher that tries all their places; these would not end. */
static void test_many_stars_are_not_a_catastrophe(void **state)
{
    (void)state;
    static uint8_t text[32768];
    memset(text, 'a', sizeof text);
    static const char *const units[] = { "a*", "*a", "?*", "[ab]*", "\\a*", "*[^b]", "**" };
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        struct buf pattern = { 0 };
        while (pattern.len + strlen(units[i]) < GLOB_PATTERN_BYTES_MAX) {
            buf_append_slice(&pattern, slice_of(units[i]));
        }
        struct slice subject = { text, sizeof text };
        assert_true(glob_match(buf_slice(&pattern), subject));
        buf_append_u8(&pattern, 'b');
        assert_int_equal(pattern.len <= GLOB_PATTERN_BYTES_MAX, 1);
        assert_false(glob_match(buf_slice(&pattern), subject));
        buf_deinit(&pattern);
    }
}

static const struct {
    const char *pattern, *prefix;
    bool whole, prefix_only;
} prefixes[] = {
    { "", "", true, false },
    { "abc", "abc", true, false },
    { "abc*", "abc", false, true },
    { "abc**", "abc", false, true },
    { "*", "", false, true },
    { "abc*d", "abc", false, false },
    { "abc?", "abc", false, false },
    { "abc[d]", "abc", false, false },
    { "abc*?", "abc", false, false },
    { "a\\*b", "a*b", true, false },
    { "a\\*b*", "a*b", false, true },
    { "a\\\\", "a\\", true, false },
    { "a\\", "a\\", true, false },
    { "a\\bc?", "abc", false, false },
    { "]", "]", true, false },
};

static void test_the_literal_prefix_of_a_pattern(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        uint8_t out[16];
        bool whole = !prefixes[i].whole;
        bool prefix_only = !prefixes[i].prefix_only;
        size_t len = glob_literal_prefix(slice_of(prefixes[i].pattern), out, &whole, &prefix_only);
        if (!slice_eq((struct slice){ out, len }, slice_of(prefixes[i].prefix)) ||
            whole != prefixes[i].whole || prefix_only != prefixes[i].prefix_only) {
            fail_msg("'%s'", prefixes[i].pattern);
        }
    }
}

/* What a range scan relies on: a prefix never leaves out a match. */
static void test_every_match_begins_with_the_literal_prefix(void **state)
{
    (void)state;
    uint64_t draw = 11;
    for (int round = 0; round < 100000; round++) {
        char pattern[12];
        char text[12];
        draw_word(&draw, "aab*?\\[", pattern);
        draw_word(&draw, "aab*", text);
        uint8_t out[12];
        bool whole;
        bool prefix_only;
        size_t len = glob_literal_prefix(slice_of(pattern), out, &whole, &prefix_only);
        struct slice prefix = { out, len };
        bool matches = glob_match(slice_of(pattern), slice_of(text));
        bool starts = slice_starts(slice_of(text), prefix);
        bool fits = !matches || starts;
        if (whole) fits = matches == slice_eq(slice_of(text), prefix);
        if (prefix_only) fits = matches == starts;
        if (!fits) fail_msg("'%s' against '%s'", pattern, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_glob_table),
        cmocka_unit_test(test_glob_agrees_with_a_slow_matcher),
        cmocka_unit_test(test_many_stars_are_not_a_catastrophe),
        cmocka_unit_test(test_the_literal_prefix_of_a_pattern),
        cmocka_unit_test(test_every_match_begins_with_the_literal_prefix),
    };
    return cmocka_run_group_tests_name("base/glob", tests, NULL, NULL);
}

#include "cli_fake.h"

static void test_options_stand_anywhere(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "get key --limit 5 -w json --prefix",
        "-w json get --prefix --limit=5 key",
        "get -w json --limit 5 --prefix -- key",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct args a = fake_args(lines[i]);
        int64_t limit = 0;
        assert_int_equal(a.command->id, COMMAND_GET);
        assert_int_equal(a.positional_count, 1);
        assert_true(slice_eq(a.positional[0], SLICE_LIT("key")));
        assert_true(slice_eq(a.value[OPT_WRITE_OUT], SLICE_LIT("json")));
        assert_true(args_has(&a, OPT_PREFIX));
        assert_int_equal(args_number(&a, OPT_LIMIT, 0, &limit, NULL), OK);
        assert_int_equal(limit, 5);
    }
}

static void test_endpoints_may_be_repeated(void **state)
{
    (void)state;
    static struct slice words[2 * (ARGS_ENDPOINTS_MAX + 1) + 1];
    struct errmsg em = { "" };
    struct args a = fake_args("-e a:1 status --endpoints=b:2,c:3 --endpoints d");
    assert_int_equal(a.endpoints_count, 3);
    assert_true(slice_eq(a.endpoints[0], SLICE_LIT("a:1")));
    assert_true(slice_eq(a.endpoints[1], SLICE_LIT("b:2,c:3")));
    assert_true(slice_eq(a.endpoints[2], SLICE_LIT("d")));

    words[0] = SLICE_LIT("status");
    for (size_t i = 1; i < ARRAY_LEN(words); i += 2) {
        words[i] = SLICE_LIT("-e");
        words[i + 1] = SLICE_LIT("h");
    }
    assert_int_equal(args_parse(words, ARRAY_LEN(words) - 2, &a, &em), OK);
    assert_int_equal(args_parse(words, ARRAY_LEN(words), &a, &em), ERR_SYNTAX);
    assert_non_null(strstr(em.text, "more than 16 times"));
}

static void test_two_dashes(void **state)
{
    (void)state;
    struct args a = fake_args("put key -- --value");
    assert_int_equal(a.positional_count, 2);
    assert_true(slice_eq(a.positional[1], SLICE_LIT("--value")));

    a = fake_args("watch cfg/ --rev 5 -- sh -c --help");
    assert_int_equal(a.positional_count, 1);
    assert_int_equal(a.tail_count, 3);
    assert_true(slice_eq(a.tail[2], SLICE_LIT("--help")));
    assert_false(args_has(&a, OPT_HELP));

    a = fake_args("put key -");
    assert_true(slice_eq(a.positional[1], SLICE_LIT("-")));
}

static void test_help_and_version_forgive_the_rest(void **state)
{
    (void)state;
    struct args a = fake_args("get --help");
    assert_true(args_has(&a, OPT_HELP));
    assert_int_equal(a.command->id, COMMAND_GET);
    a = fake_args("help lease grant");
    assert_true(args_has(&a, OPT_HELP));
    assert_int_equal(a.command->id, COMMAND_LEASE_GRANT);
    a = fake_args("lease -h");
    assert_null(a.command);
    assert_string_equal(a.group, "lease");
    a = fake_args("--version");
    assert_true(args_has(&a, OPT_VERSION));
    a = fake_args("put help x");
    assert_false(args_has(&a, OPT_HELP));
}

static void test_errors_say_what_to_do(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "gte key", "did you mean 'get'?" },
        { "lease garnt 5", "did you mean 'lease grant'?" },
        { "frobnicate", "`cordis --help` lists them" },
        { "lease frobnicate", "`cordis lease --help` lists them" },
        { "get key --prefx", "did you mean '--prefix'?" },
        { "get key --physical", "see `cordis get --help`" },
        { "get key --limit", "--limit needs a value: --limit n" },
        { "get key --prefix=yes", "--prefix takes no value" },
        { "get", "Usage: cordis get key [end]" },
        { "get a b c", "one argument too many: 'c'" },
        { "put key -5", "a value that begins with a dash stands behind --" },
        { "lease", "which command of 'lease'?" },
        { "--hex", "which command?" },
        { "watch key --", "a command to run is missing" },
        { "member update 5", "Usage: cordis member update id host:peer-port" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct words typed = { 0 };
        struct errmsg em = { "" };
        struct args a = { .positional_count = 77 };
        words_add_text(&typed, cases[i][0]);
        enum err err = args_parse(typed.at, typed.count, &a, &em);
        if (err != ERR_SYNTAX || strstr(em.text, cases[i][1]) == NULL) {
            fail_msg("%s: %d %s", cases[i][0], err, em.text);
        }
        assert_int_equal(a.positional_count, 77); /* unchanged on errors */
        words_deinit(&typed);
    }
}

static void test_numbers_are_checked(void **state)
{
    (void)state;
    struct errmsg em = { "" };
    int64_t v = 7;
    struct args a = fake_args("get key --limit x --rev -3");
    assert_int_equal(args_number(&a, OPT_LIMIT, 0, &v, &em), ERR_SYNTAX);
    assert_string_equal(em.text, "--limit needs a number from 0 on, not 'x'");
    assert_int_equal(args_number(&a, OPT_REV, 0, &v, &em), ERR_SYNTAX);
    assert_int_equal(v, 7);
    a = fake_args("put key v --lease 0x11");
    assert_int_equal(args_id(&a, OPT_LEASE, &v, &em), OK);
    assert_int_equal(v, 17);
    a = fake_args("lease revoke seven");
    assert_int_equal(args_positional_id(&a, 0, "lease id", &v, &em), ERR_SYNTAX);
    assert_string_equal(em.text, "'seven' is not a lease id (a number)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_stand_anywhere),
        cmocka_unit_test(test_endpoints_may_be_repeated),
        cmocka_unit_test(test_two_dashes),
        cmocka_unit_test(test_help_and_version_forgive_the_rest),
        cmocka_unit_test(test_errors_say_what_to_do),
        cmocka_unit_test(test_numbers_are_checked),
    };
    return cmocka_run_group_tests_name("cli/args", tests, NULL, NULL);
}

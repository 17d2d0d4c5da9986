#include "cli_fake.h"

#include "cli/commands.h"

static void test_table_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *c = &command_table[i];
        assert_int_equal(c->id, i);
        assert_true(c->positional_min <= c->positional_max);
        assert_true(c->positional_max <= ARGS_POSITIONAL_MAX);
        assert_int_equal(c->summary[strlen(c->summary) - 1], '.');
        assert_true(strncmp(c->examples + strspn(c->examples, " "), "cordis ", 7) == 0);
        assert_int_equal(c->options & OPT_GLOBAL_MASK, 0);
        struct slice group = c->group == NULL ? SLICE_NONE : slice_of(c->group);
        assert_ptr_equal(command_find(group, slice_of(c->name)), c);
    }
    for (size_t i = 0; i < OPT_COUNT; i++) {
        assert_non_null(option_table[i].name);
        assert_non_null(option_table[i].help);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(option_table[i].name, option_table[j].name);
        }
    }
}

static void test_groups(void **state)
{
    (void)state;
    assert_string_equal(command_group_find(SLICE_LIT("lease")), "lease");
    assert_string_equal(command_group_find(SLICE_LIT("member")), "member");
    assert_null(command_group_find(SLICE_LIT("get")));
    assert_null(command_find(SLICE_NONE, SLICE_LIT("grant")));
    assert_null(command_find(SLICE_LIT("lease"), SLICE_LIT("get")));
}

static void test_suggestions(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        { "", "gte", "get" },        { "", "wacth", "watch" },  { "", "leese", "lease" },
        { "", "set", "put" },        { "", "delete", "del" },   { "lease", "revok", "revoke" },
        { "lease", "ttl", "timetolive" }, { "", "endpoint", "status" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got = command_suggest(slice_of(cases[i][0]), slice_of(cases[i][1]));
        assert_non_null(got);
        assert_string_equal(got, cases[i][2]);
    }
    assert_null(command_suggest(SLICE_NONE, SLICE_LIT("frobnicate")));
    assert_null(command_suggest(SLICE_NONE, SLICE_LIT("")));
    assert_string_equal(option_suggest(OPT_BIT(OPT_PREFIX), SLICE_LIT("prefx")), "prefix");
    assert_null(option_suggest(OPT_BIT(OPT_REV), SLICE_LIT("prefx")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_complete),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_suggestions),
    };
    return cmocka_run_group_tests_name("cli/commands", tests, NULL, NULL);
}

#include "cli_fake.h"

#include "cli/help.h"

/* One screen, no line that a terminal would break, ends with a line end. */
static void check_screen(struct buf *text)
{
    size_t lines = 0;
    size_t columns = 0;
    for (size_t i = 0; i < text->len; i++) {
        columns++;
        if (text->at[i] != '\n') continue;
        if (columns - 1 > HELP_COLUMNS_MAX) {
            fail_msg("%zu columns: %.*s", columns, (int)columns,
                     (const char *)text->at + i - columns);
        }
        columns = 0;
        lines++;
    }
    assert_int_equal(columns, 0);
    if (lines > HELP_LINES_MAX) fail_msg("%zu lines: %.60s", lines, (const char *)text->at);
    buf_append_u8(text, '\0');
}

static void test_tool_names_every_command_and_exit_code(void **state)
{
    (void)state;
    struct buf text = { 0 };
    help_tool(&text);
    check_screen(&text);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        assert_non_null(strstr((const char *)text.at, command_table[i].summary));
    }
    assert_non_null(strstr((const char *)text.at, "Exit codes: 0"));
    assert_non_null(strstr((const char *)text.at, "5 done, but the output"));
    assert_non_null(strstr((const char *)text.at, "CORDIS_ENDPOINTS"));
    buf_deinit(&text);
}

static void test_every_command_has_a_screen_with_an_example(void **state)
{
    (void)state;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        struct buf text = { 0 };
        help_command(&text, &command_table[i]);
        check_screen(&text);
        assert_non_null(strstr((const char *)text.at, "Usage: cordis "));
        assert_non_null(strstr((const char *)text.at, command_table[i].examples));
        for (size_t o = 0; o < OPT_COUNT; o++) {
            if ((command_table[i].options & OPT_BIT(o)) == 0) continue;
            assert_non_null(strstr((const char *)text.at, option_table[o].name));
        }
        buf_deinit(&text);
    }
}

static void test_group_lists_its_own(void **state)
{
    (void)state;
    struct buf text = { 0 };
    help_group(&text, "lease");
    check_screen(&text);
    assert_non_null(strstr((const char *)text.at, "keep-alive"));
    assert_null(strstr((const char *)text.at, "member"));
    buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tool_names_every_command_and_exit_code),
        cmocka_unit_test(test_every_command_has_a_screen_with_an_example),
        cmocka_unit_test(test_group_lists_its_own),
    };
    return cmocka_run_group_tests_name("cli/help", tests, NULL, NULL);
}

#include "cli_fake.h"

#include "cli/table.h"

static void test_columns_are_as_wide_as_their_widest_cell(void **state)
{
    (void)state;
    struct table t;
    struct buf out = { 0 };
    table_init(&t, "KEY|N");
    table_add(&t, SLICE_LIT("gr\xc3\xbc\xc3\x9f"));
    table_add_i64(&t, 1234);
    table_add(&t, SLICE_NONE);
    table_add_i64(&t, 5);
    table_render(&t, &out);
    buf_append_u8(&out, '\0');
    assert_string_equal((const char *)out.at, "+------+------+\n"
                                              "| KEY  | N    |\n"
                                              "+------+------+\n"
                                              "| gr\xc3\xbc\xc3\x9f | 1234 |\n"
                                              "|      | 5    |\n"
                                              "+------+------+\n");
    table_deinit(&t);
    buf_deinit(&out);
}

static void test_no_rows_is_a_header(void **state)
{
    (void)state;
    struct table t;
    struct buf out = { 0 };
    table_init(&t, "ID");
    table_render(&t, &out);
    buf_append_u8(&out, '\0');
    assert_string_equal((const char *)out.at, "+----+\n| ID |\n+----+\n");
    table_deinit(&t);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(test_no_rows_is_a_header),
    };
    return cmocka_run_group_tests_name("cli/table", tests, NULL, NULL);
}

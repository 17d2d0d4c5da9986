#include "cli_fake.h"

static enum err init(const char *line, struct session *s, struct errmsg *em)
{
    struct args a = fake_args(line);
    return session_init(s, &a, em);
}

static void test_options_before_environment_before_defaults(void **state)
{
    (void)state;
    struct session s;
    unsetenv("CORDIS_ENDPOINTS");
    unsetenv("CORDIS_USER");
    unsetenv("CORDIS_PASSWORD");
    assert_int_equal(init("get k", &s, NULL), OK);
    assert_string_equal(conn_endpoint(&s.conn), "127.0.0.1:7379");
    assert_null(s.conn.password.at);
    assert_int_equal(s.render.format, FORMAT_SIMPLE);
    session_deinit(&s);

    setenv("CORDIS_ENDPOINTS", "e:1,f:2", 1);
    setenv("CORDIS_PASSWORD", "secret", 1);
    assert_int_equal(init("status", &s, NULL), OK);
    assert_string_equal(conn_endpoint(&s.conn), "e:1");
    assert_int_equal(s.conn.endpoint_count, 2);
    assert_true(slice_eq(s.conn.password, SLICE_LIT("secret")));
    assert_int_equal(s.conn.user.len, 0);
    assert_int_equal(s.render.format, FORMAT_TABLE);
    session_deinit(&s);

    assert_int_equal(init("get k --endpoints g:3 --user me:pw:x --db 3 --command-timeout 500ms "
                          "-w json --hex", &s, NULL), OK);
    assert_string_equal(conn_endpoint(&s.conn), "g:3");
    assert_true(slice_eq(s.conn.user, SLICE_LIT("me")));
    assert_true(slice_eq(s.conn.password, SLICE_LIT("pw:x")));
    assert_int_equal(s.conn.db, 3);
    assert_int_equal(s.conn.timeout_ms, 500);
    assert_int_equal(s.render.format, FORMAT_JSON);
    assert_true(s.render.hex);
    session_deinit(&s);
    unsetenv("CORDIS_ENDPOINTS");
    unsetenv("CORDIS_PASSWORD");
}

static void test_wrong_settings(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "get k -w xml", "--write-out needs simple, table or json" },
        { "get k --db 16", "--db needs a number from 0 to 15" },
        { "get k --db x", "--db needs a number" },
        { "get k --command-timeout 0", "--command-timeout needs a time" },
        { "get k --endpoints http://a:1", "is not host:port" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct session s;
        struct errmsg em = { "" };
        assert_int_equal(init(cases[i][0], &s, &em), ERR_SYNTAX);
        if (strstr(em.text, cases[i][1]) == NULL) fail_msg("%s: %s", cases[i][0], em.text);
    }
}

static void test_refusals_have_hints_and_codes(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "get k", "", "-ERR_lease_already_exists", "KV RANGE k\n", EXIT_NO, "",
          "cordis: lease already exists\n" },
        { "get k", "", "-NOAUTH_Authentication_required.", "KV RANGE k\n", EXIT_NO, "",
          "cordis: NOAUTH Authentication required. (give --user and CORDIS_PASSWORD)\n" },
        { "put k v", "", "-TIMEOUT_outcome_unknown", "KV PUT k v\n", EXIT_UNKNOWN, "",
          "look before you try again" },
        { "put k v", "", "", "KV PUT k v\n", EXIT_UNKNOWN, "", "outcome unknown: 127.0.0.1:7379" },
        { "get k", "", "", "KV RANGE k\n", EXIT_UNKNOWN, "", "no answer: 127.0.0.1:7379" },
        { "get k", "", "-CLUSTERDOWN_no_leader", "KV RANGE k\n", EXIT_NO, "",
          "see `cordis status`" },
        { "get k", "", "+PONG", "KV RANGE k\n", EXIT_NO, "", "is not understood" },
        { "get k", "", "-ERR_a\x1b[2J", "KV RANGE k\n", EXIT_NO, "", "cordis: a\\x1b[2J\n" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_nobody_there_is_exit_3(void **state)
{
    (void)state;
    struct session s;
    struct args a = fake_args("get k --endpoints 127.0.0.1:1");
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(session_init(&s, &a, NULL), OK);
    s.err = open_memstream(&text, &len);
    assert_int_equal(run_command(&s, &a), EXIT_CONNECT);
    fclose(s.err);
    assert_non_null(strstr(text, "cannot connect: 127.0.0.1:1: "));
    assert_non_null(strstr(text, "--endpoints or CORDIS_ENDPOINTS"));
    free(text);
    session_deinit(&s);
}

static void test_endpoints_of_all_options_are_tried(void **state)
{
    (void)state;
    struct session s;
    struct args a = fake_args("get k -e 127.0.0.1:1 -e 127.0.0.1:2,127.0.0.1:3");
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(session_init(&s, &a, NULL), OK);
    assert_int_equal(s.conn.endpoint_count, 3);
    s.err = open_memstream(&text, &len);
    assert_int_equal(run_command(&s, &a), EXIT_CONNECT);
    fclose(s.err);
    assert_non_null(strstr(text, "none of 3 servers; 127.0.0.1:1: "));
    free(text);
    session_deinit(&s);
}

static void test_output_that_cannot_be_written(void **state)
{
    (void)state;
    struct session s;
    struct args a = fake_args("get k");
    struct buf text = { 0 };
    char *said = NULL;
    size_t len = 0;
    assert_int_equal(session_init(&s, &a, NULL), OK);
    s.out = fopen("/dev/full", "w");
    s.err = open_memstream(&said, &len);
    buf_printf(&text, "x\n");
    assert_int_equal(session_print(&s, &text), EXIT_OUTPUT);
    fclose(s.err);
    assert_non_null(strstr(said, "cannot write the output"));
    fclose(s.out);
    free(said);
    buf_deinit(&text);
    session_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_before_environment_before_defaults),
        cmocka_unit_test(test_wrong_settings),
        cmocka_unit_test(test_refusals_have_hints_and_codes),
        cmocka_unit_test(test_nobody_there_is_exit_3),
        cmocka_unit_test(test_endpoints_of_all_options_are_tried),
        cmocka_unit_test(test_output_that_cannot_be_written),
    };
    return cmocka_run_group_tests_name("cli/session", tests, NULL, NULL);
}

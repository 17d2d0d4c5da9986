#include "cli_fake.h"

#include <errno.h>

#define DONE "[ succeeded :1 revision :9 failed nil responses [ [ revision :9 applied :1 ] ] ]"

static void test_parts_and_lines(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        /* the end of the input ends every part */
        { "txn", "exists(\"a\")\n\nput k v", DONE, "TXN IF 1 EXISTS a THEN 1 4 KV PUT k v\n",
          EXIT_OK, "SUCCESS\n\nOK\n", "" },
        /* lines of white space are blank; carriage returns do not matter */
        { "txn", "exists(\"a\")\r\n \t\r\nput k v\r\n\r\n\r\n", DONE,
          "TXN IF 1 EXISTS a THEN 1 4 KV PUT k v\n", EXIT_OK, "SUCCESS\n\nOK\n", "" },
        /* an open quote takes the next line, an empty one too */
        { "txn", "\nput k \"one\n\ntwo\"\n", DONE, "TXN IF 0 THEN 1 4 KV PUT k one\n\ntwo\n",
          EXIT_OK, "SUCCESS\n\nOK\n", "" },
        { "txn", "", "", "", EXIT_USAGE, "", "stdin holds no transaction" },
        { "txn", "\nput k \"open\n", "", "", EXIT_USAGE, "", "a quote is not closed" },
        /* what is wrong inside a quote is told where it is read */
        { "txn", "\nput k \"one\ntwo\\q\nthree\n", "", "", EXIT_USAGE, "",
          "line 3: unknown escape" },
        { "txn", "\nput k \"one\\\ntwo\nthree\n", "", "", EXIT_USAGE, "",
          "line 3: unknown escape" },
        { "txn", "\nput k v\nwatch k\n", "", "", EXIT_USAGE, "", "line 3: only get, put and del" },
        { "txn", "mod(\"k\") = x\n", "", "", EXIT_USAGE, "", "line 1: compare" },
        { "txn", "\n\n\n\nput k v\n", "", "", EXIT_USAGE, "",
          "line 5 stands behind the third part" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_interactive_prompts_and_forgives(void **state)
{
    (void)state;
    struct fake_run r = fake_run("txn -i", "oops\nexists(\"a\")\n\nptu k v\nput k v\n\n\n", DONE);
    assert_int_equal(r.code, EXIT_OK);
    assert_string_equal((const char *)r.sent.at, "TXN IF 1 EXISTS a THEN 1 4 KV PUT k v\n");
    assert_non_null(strstr(r.err, "compares, like mod(\"key\")"));
    assert_non_null(strstr(r.err, "if one does not hold"));
    assert_non_null(strstr(r.err, "not taken, type it again"));
    assert_non_null(strstr(r.err, "did you mean 'put'?"));
    fake_run_deinit(&r);
}

static void test_a_lost_answer_is_unknown_only_if_it_writes(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "txn", "\nput k v\n", "", "TXN IF 0 THEN 1 4 KV PUT k v\n", EXIT_UNKNOWN, "",
          "outcome unknown" },
        { "txn", "\nget k\n", "", "TXN IF 0 THEN 1 3 KV RANGE k\n", EXIT_UNKNOWN, "", "no answer" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

/* A pipe that others made non-blocking: a line in two parts, and between them nothing for now. */
static ssize_t halting_read(void *at, char *out, size_t cap)
{
    static const char *const parts[] = { "\nput k 1", NULL, "2\n" };
    size_t *part = at;
    if (*part == ARRAY_LEN(parts)) return 0;
    const char *text = parts[(*part)++];
    if (text == NULL) {
        errno = EAGAIN;
        return -1;
    }
    size_t len = strlen(text);
    assert_true(len <= cap);
    memcpy(out, text, len);
    return (ssize_t)len;
}

static void test_input_that_cannot_be_read_is_not_its_end(void **state)
{
    (void)state;
    struct session s;
    struct args a = fake_args("txn");
    char *said = NULL;
    size_t len = 0;
    size_t part = 0;
    assert_int_equal(session_init(&s, &a, NULL), OK);
    s.in = fopencookie(&part, "r", (cookie_io_functions_t){ .read = halting_read });
    s.in_is_tty = false;
    s.err = open_memstream(&said, &len);
    assert_int_equal(run_command(&s, &a), EXIT_USAGE);
    fclose(s.err);
    fclose(s.in);
    assert_non_null(strstr(said, "cannot read the transaction from stdin"));
    free(said);
    session_deinit(&s);
}

/* Parsed again for each of its lines this would take minutes: alarm() of fake_run. */
static void test_a_value_of_many_lines(void **state)
{
    (void)state;
    struct buf input = { 0 };
    buf_printf(&input, "\nput k \"\n");
    for (size_t i = 0; i < 100000; i++) {
        buf_printf(&input, "a line of a certificate, with neither quotes nor escapes in it\n");
    }
    buf_append_u8(&input, '\0');
    struct fake_run r = fake_run("txn", (const char *)input.at, "");
    assert_int_equal(r.code, EXIT_USAGE);
    assert_non_null(strstr(r.err, "a quote is not closed"));
    fake_run_deinit(&r);
    buf_deinit(&input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_and_lines),
        cmocka_unit_test(test_interactive_prompts_and_forgives),
        cmocka_unit_test(test_input_that_cannot_be_read_is_not_its_end),
        cmocka_unit_test(test_a_value_of_many_lines),
        cmocka_unit_test(test_a_lost_answer_is_unknown_only_if_it_writes),
    };
    return cmocka_run_group_tests_name("cli/run_txn", tests, NULL, NULL);
}

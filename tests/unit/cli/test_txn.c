#include "cli_fake.h"

#include "cli/txn.h"

static const char *request_of(const struct txn *t)
{
    static struct buf out;
    struct words w = { 0 };
    buf_clear(&out);
    txn_request(t, &w);
    for (size_t i = 0; i < w.count; i++) {
        if (i > 0) buf_append_u8(&out, ' ');
        if (w.at[i].len == 0) buf_append(&out, "''", 2);
        buf_append_slice(&out, w.at[i]);
    }
    buf_append_u8(&out, '\0');
    words_deinit(&w);
    return (const char *)out.at;
}

static void test_compares(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "mod(\"k\") > \"0\"", "TXN IF 1 MOD k > 0" },
        { "m(\"k\") = 5", "TXN IF 1 MOD k = 5" },
        { " create ( \"k\" ) = \"0\" ", "TXN IF 1 CREATE k = 0" },
        { "c(k)=0", "TXN IF 1 CREATE k = 0" },
        { "VERSION(\"k\") != \"3\"", "TXN IF 1 VERSION k != 3" },
        { "ver('k') < 3", "TXN IF 1 VERSION k < 3" },
        { "lease(\"k\") = \"0x11\"", "TXN IF 1 LEASE k = 17" },
        { "value(\"k\") = \"a b\"", "TXN IF 1 VALUE k = a b" },
        { "val(\"k\") != \"\"", "TXN IF 1 VALUE k != ''" },
        { "value(\"a)b\") = \"x\\ty\"", "TXN IF 1 VALUE a)b = x\ty" },
        { "value(k) = bare words", "TXN IF 1 VALUE k = bare words" },
        { "exists(\"k\")", "TXN IF 1 EXISTS k" },
        { "missing(\"\")", "TXN IF 1 MISSING ''" },
        { "value(\"k\") = \"two\nlines\"", "TXN IF 1 VALUE k = two\nlines" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct txn t = { 0 };
        struct errmsg em = { "" };
        if (txn_compare_add(&t, slice_of(cases[i][0]), &em) != OK) fail_msg("%s", em.text);
        assert_string_equal(request_of(&t), cases[i][1]);
        assert_int_equal(t.compare_texts.count, 1);
        txn_deinit(&t);
    }
}

static void test_bad_compares_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum err want;
        const char *text;
    } cases[] = {
        { "mod", ERR_SYNTAX, "not understood" },
        { "mood(\"k\") = 1", ERR_SYNTAX, "begins with none of" },
        { "mod(\"k\" = 1", ERR_SYNTAX, "the key in parentheses" },
        { "mod() = 1", ERR_SYNTAX, "the key in parentheses" },
        { "mod(\"k\") ~ 1", ERR_SYNTAX, "needs one of" },
        { "mod(\"k\") =", ERR_SYNTAX, "the value to compare with" },
        { "mod(\"k\") = x", ERR_SYNTAX, "compares with a number" },
        { "mod(\"k\") = \"1\" \"2\"", ERR_SYNTAX, "something follows" },
        { "exists(\"k\") = 1", ERR_SYNTAX, "nothing may follow" },
        { "value(\"k\") = \"open", ERR_AGAIN, "" },
        { "value(\"op", ERR_AGAIN, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct txn t = { 0 };
        struct errmsg em = { "" };
        enum err err = txn_compare_add(&t, slice_of(cases[i].line), &em);
        if (err != cases[i].want || strstr(em.text, cases[i].text) == NULL) {
            fail_msg("%s: %d %s", cases[i].line, err, em.text);
        }
        assert_int_equal(t.compare_words.count + t.compare_texts.count, 0);
        txn_deinit(&t);
    }
}

static void test_requests(void **state)
{
    (void)state;
    struct txn t = { 0 };
    assert_int_equal(txn_compare_add(&t, SLICE_LIT("mod(\"a\") = 1"), NULL), OK);
    assert_int_equal(txn_compare_add(&t, SLICE_LIT("exists(\"b\")"), NULL), OK);
    assert_int_equal(txn_op_add(&t, TXN_THEN, SLICE_LIT("get a --prefix --limit 2"), NULL), OK);
    assert_false(txn_is_write(&t));
    assert_int_equal(txn_op_add(&t, TXN_ELSE, SLICE_LIT("put b \"x y\" --lease 5"), NULL), OK);
    assert_int_equal(txn_op_add(&t, TXN_ELSE, SLICE_LIT("del \"c d\""), NULL), OK);
    assert_true(txn_is_write(&t));
    assert_string_equal(request_of(&t),
                        "TXN IF 2 MOD a = 1 EXISTS b THEN 1 6 KV RANGE a PREFIX LIMIT 2 "
                        "ELSE 2 6 KV PUT b x y LEASE 5 3 KV DEL c d");
    txn_deinit(&t);
}

static void test_no_compare_always_succeeds(void **state)
{
    (void)state;
    struct txn t = { 0 };
    assert_int_equal(txn_op_add(&t, TXN_THEN, SLICE_LIT("put k \"\""), NULL), OK);
    assert_string_equal(request_of(&t), "TXN IF 0 THEN 1 4 KV PUT k ''");
    txn_deinit(&t);
}

static void test_bad_requests_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum err want;
        const char *text;
    } cases[] = {
        { "put k", ERR_SYNTAX, "put needs a value" },
        { "status", ERR_SYNTAX, "only get, put and del" },
        { "lease", ERR_SYNTAX, "which command of 'lease'" },
        { "get --help", ERR_SYNTAX, "stand behind `cordis txn`" },
        { "get k --hex", ERR_SYNTAX, "stand behind `cordis txn`" },
        { "gte k", ERR_SYNTAX, "did you mean 'get'" },
        { "put k \"\\q\"", ERR_SYNTAX, "unknown escape" },
        { "put k \"open", ERR_AGAIN, "" },
        { "del k l --prefix", ERR_SYNTAX, "choose one" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct txn t = { 0 };
        struct errmsg em = { "" };
        enum err err = txn_op_add(&t, TXN_THEN, slice_of(cases[i].line), &em);
        if (err != cases[i].want || strstr(em.text, cases[i].text) == NULL) {
            fail_msg("%s: %d %s", cases[i].line, err, em.text);
        }
        assert_int_equal(t.ops[TXN_THEN].count, 0);
        txn_deinit(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compares),
        cmocka_unit_test(test_bad_compares_change_nothing),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_no_compare_always_succeeds),
        cmocka_unit_test(test_bad_requests_change_nothing),
    };
    return cmocka_run_group_tests_name("cli/txn", tests, NULL, NULL);
}

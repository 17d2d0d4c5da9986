#include "check_kit.h"

static void write_text(const struct history *h, char **text, size_t *len)
{
    FILE *to = open_memstream(text, len);
    assert_non_null(to);
    assert_int_equal(history_write(h, to, NULL), OK);
    assert_int_equal(fclose(to), 0);
}

static void test_text_comes_back(void **state)
{
    (void)state;
    struct history *h = history_new(), *again = history_new();
    kit_put(h, -1, 10, "a b%c-", "\n\x01", 1);
    kit_op(h, HISTORY_RANGE, 3, 4, 9)->flags = HISTORY_LOCAL;
    kit_item(h, HISTORY_ITEM_SPAN, "-", "")->number = -3;
    kit_at(h, kit_incr(h, 5, 6, "n", "12"))->outcome = HISTORY_UNKNOWN;
    h->ops[2].complete_ns = HISTORY_NEVER;
    kit_log_put(h, 1, "a b%c-", "\n\x01");
    kit_watch(h, 5, "a", "b", 1, HISTORY_WATCH_PREV);
    kit_seen(h, 5, 20, 0)->prev_mod = -1;
    kit_told(h, HISTORY_MARK_PROGRESS, 5, 21, 4);
    kit_told(h, HISTORY_MARK_CANCELED, 5, 22, 5);
    kit_told(h, HISTORY_MARK_BROKEN, 5, 23, 0);

    char *text, *text_again;
    size_t len, len_again;
    write_text(h, &text, &len);
    FILE *from = fmemopen(text, len, "r");
    struct errmsg em = { "" };
    assert_int_equal(history_read(again, from, &em), OK);
    fclose(from);
    write_text(again, &text_again, &len_again);
    assert_string_equal(text, text_again);
    assert_int_equal(again->op_count, 3);
    assert_int_equal(again->mark_count, 4);
    assert_true(slice_eq(again->items[0].value, SLICE_LIT("\n\x01")));
    free(text);
    free(text_again);
    history_free(h);
    history_free(again);
}

static void test_bad_lines_are_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "X 1\n", "O\n", "O 1 2 put 3 4 done 1 0 0 0 0\n", "O 1 2 put 3 2 done 1 0 0 0 0 0\n",
        "O 1 2 put 3 - done 1 0 0 0 0 0\n", "O 1 2 putt 3 4 done 1 0 0 0 0 0\n",
        "O 1 2 put 3 4 done 1 0 0 0 0 0 put k\n", "O 1 2 put 3 4 done 1 0 0 0 0 0 put %0 v 0 0 0 0\n",
        "O 1 2 put 3 4 done 1 0 0 0 0 0 put %zz v 0 0 0 0\n", "E 1 1 put k v 1 1\n",
        "E 1 1 put k v 1 1 0 7\n", "V 1 2 3\n", "P 1 2\n", "W 1 2 a b 0 0", "B 1 x\n", "  \n",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct history *h = history_new();
        struct errmsg em = { "" };
        char copy[128];
        snprintf(copy, sizeof copy, "%s", lines[i]);
        FILE *from = fmemopen(copy, strlen(copy), "r");
        if (history_read(h, from, &em) != ERR_SYNTAX) fail_msg("accepted: %s", lines[i]);
        assert_non_null(strstr(em.text, "line 1"));
        assert_int_equal(h->op_count + h->log_count + h->mark_count + h->watch_count, 0);
        fclose(from);
        history_free(h);
    }
}

static void test_a_million_operations(void **state)
{
    (void)state;
    struct history *h = history_new();
    struct verdict v = { .violation_count = 0 };
    struct check_params params = CHECK_PARAMS_DEFAULT;
    char key[16], value[24];
    for (int64_t i = 1; i <= 200000; i++) {
        snprintf(key, sizeof key, "k%d", (int)(i % 1000));
        snprintf(value, sizeof value, "%d", (int)i);
        kit_put(h, 2 * i, 2 * i + 3, key, value, (uint64_t)i);
        kit_get(h, 2 * i + 1, 2 * i + 5, key, value, (uint64_t)i);
        struct history_event event = { .rev = (uint64_t)i, .n = 1, .key = slice_of(key),
                                       .value = slice_of(value), .create = (uint64_t)(i - 1) % 1000 + 1,
                                       .version = (uint64_t)(i - 1) / 1000 + 1 };
        history_add_event(h, &event);
    }
    bool right = check_history(h, &params, &v);
    if (!right) fail_msg("%.*s", (int)v.text.len, (const char *)v.text.at);
    assert_int_equal(v.undecided_count, 0);
    verdict_deinit(&v);
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_comes_back),
        cmocka_unit_test(test_bad_lines_are_refused),
        cmocka_unit_test(test_a_million_operations),
    };
    return cmocka_run_group_tests_name("check/history", tests, NULL, NULL);
}

#include "cli_fake.h"

#include "cli/words.h"

static void test_words_are_copies_in_order(void **state)
{
    (void)state;
    struct words w = { 0 };
    struct words more = { 0 };
    char changing[] = "key";
    words_add_text(&w, "KV PUT");
    words_add(&w, slice_of(changing));
    words_add(&w, SLICE_NONE);
    words_add_i64(&w, -42);
    changing[0] = 'X';
    for (int64_t i = 0; i < 40; i++) words_add_i64(&more, i);
    words_add_all(&w, &more);
    words_deinit(&more);

    assert_int_equal(w.count, 45);
    assert_true(slice_eq(w.at[0], SLICE_LIT("KV")));
    assert_true(slice_eq(w.at[1], SLICE_LIT("PUT")));
    assert_true(slice_eq(w.at[2], SLICE_LIT("key")));
    assert_int_equal(w.at[3].len, 0);
    assert_true(slice_eq(w.at[4], SLICE_LIT("-42")));
    assert_true(slice_eq(w.at[44], SLICE_LIT("39")));
    words_deinit(&w);
    assert_int_equal(w.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_words_are_copies_in_order) };
    return cmocka_run_group_tests_name("cli/words", tests, NULL, NULL);
}

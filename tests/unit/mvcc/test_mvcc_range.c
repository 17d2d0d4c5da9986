/* Ranges [start, end): iterators in both directions, counts, the nth. */
#include "mvcc/mvcc.h"

#include "mvcc_model.h"

static struct mvcc *filled(const char *const *keys, size_t count)
{
    struct mvcc *m = mvcc_new(1);
    struct mvcc_event ev;
    for (size_t i = 0; i < count; i++) {
        struct mvcc_write w = { .key = slice_of(keys[i]), .rev = mvcc_rev(m) + 1, .n = 1 };
        mvcc_put(m, &w, NULL, &ev);
    }
    return m;
}

static void test_range_table(void **state)
{
    (void)state;
    static const char *const keys[] = { "b", "ba", "bb", "c", "d", "dd" };
    static const struct {
        const char *start, *end, *want; /* keys with a space behind each */
    } cases[] = {
        { "", "", "b ba bb c d dd " },
        { "b", "c", "b ba bb " },      /* the end is outside */
        { "a", "b", "" },
        { "ba", "ba", "" },
        { "c", "b", "" },              /* upside down */
        { "bb", "", "bb c d dd " },
        { "", "bb", "b ba " },
        { "b\xff", "dc", "c d " },
        { "dd", "", "dd " },
        { "de", "", "" },
        { "dd", "dda", "dd " },
    };
    struct mvcc *m = filled(keys, ARRAY_LEN(keys));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice start = slice_of(cases[i].start);
        struct slice end = slice_of(cases[i].end);
        struct buf got = { 0 };
        struct mvcc_iter it;
        uint64_t count = 0;
        mvcc_iter_init(&it, m, start, end, false, false);
        for (const struct entry *e; (e = mvcc_iter_next(&it)) != NULL; count++) {
            assert_ptr_equal(mvcc_nth(m, start, end, count), e);
            buf_append_slice(&got, entry_key(e));
            buf_append_u8(&got, ' ');
        }
        if (!slice_eq(buf_slice(&got), slice_of(cases[i].want))) fail_msg("case %zu", i);
        assert_int_equal(mvcc_count(m, start, end), count);
        assert_null(mvcc_nth(m, start, end, count));
        assert_null(mvcc_nth(m, start, end, UINT64_MAX));

        mvcc_iter_init(&it, m, start, end, true, false);
        for (uint64_t back = count; back > 0; back--) {
            assert_ptr_equal(mvcc_iter_next(&it), mvcc_nth(m, start, end, back - 1));
        }
        assert_null(mvcc_iter_next(&it));
        buf_deinit(&got);
    }
    mvcc_free(m);
}

/* All pairs of bounds over a tree of several levels with ghosts all over. */
static void test_bounds_over_many_leaves(void **state)
{
    (void)state;
    uint64_t seed = 77;
    struct model model;
    model_init(&model, 900, &seed);
    struct mvcc *m = mvcc_new(1);
    for (size_t i = 0; i < model.key_count; i++) {
        size_t key = i * 7 % model.key_count; /* 900 and 7 share nothing: each once */
        struct mvcc_event ev;
        struct mvcc_write w = { .key = model.keys[key].key, .rev = model.rev + 1, .n = 1 };
        mvcc_put(m, &w, NULL, &ev);
        model_append(&model, key, ROW_PUT, w.type, SLICE_NONE, w.rev, 1, NULL, false);
        if (i % 3 != 0 && i % 100 >= 30) continue;
        mvcc_delete(m, w.key, model.rev + 1, 1, ROW_DEL, NULL, &ev);
        model_append(&model, key, ROW_DEL, VALUE_STRING, SLICE_NONE, model.rev + 1, 1, NULL, false);
    }
    mvcc_check(m);
    for (size_t i = 0; i < 300; i++) {
        struct slice a = model.keys[model_random(&seed) % model.key_count].key;
        struct slice b = model.keys[model_random(&seed) % model.key_count].key;
        model_compare_range(&model, m, a, b, i % 2 == 0);
    }
    model_compare_range(&model, m, SLICE_NONE, SLICE_NONE, true);
    mvcc_free(m);
    model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_table),
        cmocka_unit_test(test_bounds_over_many_leaves),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_range", tests, NULL, NULL);
}

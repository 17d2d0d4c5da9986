#include "cli_fake.h"

#include "cli/request.h"

/* The words that were built, apart by a space; '' is the empty one. Or the error. */
static const char *joined(enum err err, const struct words *w, const struct errmsg *em)
{
    static struct buf out;
    buf_clear(&out);
    if (err != OK) {
        buf_printf(&out, "! %s", em->text);
    } else {
        for (size_t i = 0; i < w->count; i++) {
            if (i > 0) buf_append_u8(&out, ' ');
            if (w->at[i].len == 0) buf_append(&out, "''", 2);
            buf_append_slice(&out, w->at[i]);
        }
    }
    buf_append_u8(&out, '\0');
    return (const char *)out.at;
}

static enum err build(const struct args *a, struct words *w, struct errmsg *em)
{
    switch ((int)a->command->id) {
    case COMMAND_GET: return request_get(a, NULL, w, em);
    case COMMAND_PUT: return request_put(a, SLICE_LIT("v"), w, em);
    case COMMAND_DEL: return request_del(a, w, em);
    case COMMAND_WATCH: return request_watch(a, 17, 5000, w, em);
    default: request_compact(a, 105, w); return OK;
    }
}

static void test_request_table(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "get k", "KV RANGE k" },
        { "get ''", "KV RANGE ''" },
        { "get PREFIX", "KV RANGE PREFIX" },
        { "get a b", "KV RANGE a END b" },
        { "get a --prefix", "KV RANGE a PREFIX" },
        { "get a --from-key", "KV RANGE a END ''" },
        { "get a/ --rev 0", "KV RANGE a/" },
        { "get a --rev 5 --limit 3 --keys-only", "KV RANGE a REV 5 LIMIT 3 KEYSONLY" },
        { "get a --prefix --count-only", "KV RANGE a PREFIX COUNTONLY" },
        { "get a --print-value-only", "KV RANGE a" },
        { "get a --prefix --sort-by mod --order desc", "KV RANGE a PREFIX SORT MOD DESC" },
        { "get a --prefix --sort-by Modify", "KV RANGE a PREFIX SORT MOD ASC" },
        { "get a --prefix --order DESCEND", "KV RANGE a PREFIX SORT KEY DESC" },
        { "get a b --prefix", "! choose one: an end key, --prefix or --from-key" },
        { "get a --prefix --from-key", "! choose one: an end key, --prefix or --from-key" },
        { "get a --keys-only --count-only",
          "! choose one: --keys-only, --count-only or --print-value-only" },
        { "get a --sort-by size", "! --sort-by needs key, value, create, mod or version" },
        { "get a --order up", "! --order needs asc or desc" },
        { "get a --limit many", "! --limit needs a number from 0 on, not 'many'" },
        { "put k v", "KV PUT k v" },
        { "put k v --nx --lease 17 --prev-kv", "KV PUT k v NX LEASE 17 PREVKV" },
        { "put k v --lease 0", "KV PUT k v" },
        { "put k v --if-mod 0", "KV PUT k v IFMOD 0" },
        { "put k v --xx --ignore-lease", "KV PUT k v XX IGNORELEASE" },
        { "put k --ignore-value --lease 0x11", "KV PUT k '' LEASE 17 IGNOREVALUE" },
        { "put k v --ignore-value",
          "! --ignore-value keeps the present value: leave the value out" },
        { "put k v --nx --xx", "! choose one: --nx, --xx or --if-mod" },
        { "put k v --ignore-lease --lease 5",
          "! --ignore-lease keeps the present lease: leave --lease out" },
        { "put k v --lease mine", "! --lease needs an id (a number), not 'mine'" },
        { "del a b --prev-kv", "KV DEL a END b PREVKV" },
        { "del a --prefix", "KV DEL a PREFIX" },
        { "del a/", "KV DEL a/" },
        { "watch k", "KV READ k FROM 17 COUNT 1000 BLOCK 5000" },
        { "watch cfg/", "KV READ cfg/ PREFIX FROM 17 COUNT 1000 BLOCK 5000" },
        { "watch cfg/ --exact", "KV READ cfg/ FROM 17 COUNT 1000 BLOCK 5000" },
        { "watch cfg/ --from-key", "KV READ cfg/ END '' FROM 17 COUNT 1000 BLOCK 5000" },
        { "watch cfg/ d --prev-kv", "KV READ cfg/ END d FROM 17 COUNT 1000 BLOCK 5000 PREVKV" },
        { "watch a --exact --prefix", "! --exact is for one key: without end or --prefix" },
        { "compact 105", "KV COMPACT 105" },
        { "compact 105 --physical", "KV COMPACT 105 PHYSICAL" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct args a = fake_args(cases[i][0]);
        struct words w = { 0 };
        struct errmsg em = { "" };
        enum err err = build(&a, &w, &em);
        const char *got = joined(err, &w, &em);
        if (strcmp(got, cases[i][1]) != 0) fail_msg("%s: %s", cases[i][0], got);
        words_deinit(&w);
    }
}

static void test_next_page_goes_on_behind_the_last_key(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        struct slice start, end;
    } cases[] = {
        { "get a --prefix", SLICE_LIT("ak\0"), SLICE_LIT("b") },
        { "get a\xff --prefix", SLICE_LIT("ak\0"), SLICE_LIT("b") },
        { "get \xff\xff --prefix", SLICE_LIT("ak\0"), SLICE_LIT("") },
        { "get '' --prefix", SLICE_LIT("ak\0"), SLICE_LIT("") },
        { "get a --from-key", SLICE_LIT("ak\0"), SLICE_LIT("") },
        { "get a c", SLICE_LIT("ak\0"), SLICE_LIT("c") },
        { "get a c --order desc", SLICE_LIT("a"), SLICE_LIT("ak") },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct args a = fake_args(cases[i].line);
        struct page next = { .last_key = SLICE_LIT("ak"), .rev = 9, .limit = 4 };
        struct words w = { 0 };
        assert_int_equal(request_get(&a, &next, &w, NULL), OK);
        assert_true(slice_eq(w.at[2], cases[i].start));
        assert_true(slice_eq(w.at[3], SLICE_LIT("END")));
        assert_true(slice_eq(w.at[4], cases[i].end));
        assert_true(slice_eq(w.at[6], SLICE_LIT("9")));
        assert_true(slice_eq(w.at[8], SLICE_LIT("4")));
        words_deinit(&w);
    }
}

static void test_order_and_range_are_told(void **state)
{
    (void)state;
    struct args a = fake_args("get k");
    assert_false(request_is_range(&a));
    assert_int_equal(request_order(&a), RANGE_ASC);
    a = fake_args("get k --prefix --sort-by key --order desc");
    assert_true(request_is_range(&a));
    assert_int_equal(request_order(&a), RANGE_DESC);
    a = fake_args("get k l --sort-by mod");
    assert_true(request_is_range(&a));
    assert_int_equal(request_order(&a), RANGE_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_table),
        cmocka_unit_test(test_next_page_goes_on_behind_the_last_key),
        cmocka_unit_test(test_order_and_range_are_told),
    };
    return cmocka_run_group_tests_name("cli/request", tests, NULL, NULL);
}

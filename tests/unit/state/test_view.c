#include "kit.h"

/* The overlay of a transaction is compared with a model in test_state_apply_model.c; here are the
 * corners of ranges, and what a kv says. */

static void say_range(struct kit *k, const char *start, const char *end, bool reverse)
{
    uint8_t from[16] = { KIT_DB }, to[16] = { KIT_DB };
    struct view v = { k->s, k->s->txn->active ? k->s->txn : NULL };
    struct view_iter it;
    struct kv kv;
    memcpy(from + 1, start, strlen(start));
    struct slice end_key = { to, strlen(end) + 1 };
    memcpy(to + 1, end, strlen(end));
    if (strcmp(end, "*") == 0) end_key = SLICE_NONE; /* to infinity */
    struct slice start_key = { from, strlen(start) + 1 };
    buf_clear(&k->out);
    view_iter_init(&it, &v, start_key, end_key, reverse);
    uint64_t count = 0;
    for (; view_iter_next(&it, &kv); count++) say_slice(&k->out, outer_key(kv.key));
    buf_append_u8(&k->out, 0);
    assert_int_equal(view_count(&v, start_key, end_key), count);
    if (reverse) return;
    for (uint64_t nth = 0; nth < count; nth++) {
        assert_true(view_nth(&v, start_key, end_key, nth, &kv));
        assert_int_equal(outer_key(kv.key).at[0], k->out.at[nth]);
    }
    kv.mod = 77;
    assert_false(view_nth(&v, start_key, end_key, count, &kv));
    assert_int_equal(kv.mod, 77);
}

static const struct {
    const char *start, *end;
    const char *without, *with; /* the transaction below */
} ranges[] = {
    { "", "*", "bdf", "acdg" }, { "", "d", "b", "ac" },   { "c", "*", "df", "cdg" },
    { "c", "g", "df", "cd" },   { "d", "d", "", "" },     { "x", "*", "", "" },
    { "f", "b", "", "" },       { "b", "f", "bd", "cd" }, { "e", "f", "", "" },
    { "", "a", "", "" },        { "g", "h", "", "g" },
};

static void check_ranges(struct kit *k, bool in_txn)
{
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        const char *want = in_txn ? ranges[i].with : ranges[i].without;
        say_range(k, ranges[i].start, ranges[i].end, false);
        assert_string_equal(k->out.at, want);
        say_range(k, ranges[i].start, ranges[i].end, true);
        size_t len = strlen(want);
        assert_int_equal(k->out.len, len + 1);
        for (size_t at = 0; at < len; at++) assert_int_equal(k->out.at[at], want[len - 1 - at]);
    }
}

static void overlay_put(struct kit *k, const char *internal)
{
    struct pending *p = txn_touch(k->s->txn, (struct slice){ (const uint8_t *)internal, 2 }, true);
    txn_put_outside(k->s->txn, p, SLICE_LIT("new"), VALUE_STRING);
}

static void test_ranges_with_and_without_changes(void **unused)
{
    (void)unused;
    struct kit k;
    kit_init(&k, 5);
    kit_run(&k, "mput b=1 d=1 f=1");
    check_ranges(&k, false);
    txn_begin(k.s->txn, k.s->mvcc);
    check_ranges(&k, false); /* nothing changed yet */
    overlay_put(&k, "\0a");
    overlay_put(&k, "\0g");
    overlay_put(&k, "\0c");
    overlay_put(&k, "\0d");
    overlay_put(&k, "\0e");
    txn_delete(k.s->txn, txn_touch(k.s->txn, (struct slice){ (const uint8_t *)"\0b", 2 }, true));
    txn_delete(k.s->txn, txn_touch(k.s->txn, (struct slice){ (const uint8_t *)"\0e", 2 }, true));
    txn_delete(k.s->txn, txn_touch(k.s->txn, (struct slice){ (const uint8_t *)"\0f", 2 }, true));
    check_ranges(&k, true);
    struct view v = { k.s, k.s->txn };
    assert_int_equal(view_rev(&v), mvcc_rev(k.s->mvcc) + 1);
    txn_end(k.s->txn);
    check_ranges(&k, false);
    kit_deinit(&k);
}

static uint32_t place_of(const struct view *v, const char *internal)
{
    struct kv kv;
    assert_true(view_get(v, (struct slice){ (const uint8_t *)internal, 2 }, &kv));
    return kv.n;
}

static void test_place_in_the_revision(void **unused)
{
    (void)unused;
    struct kit k;
    kit_init(&k, 5);
    kit_run(&k, "mput a=1 b=1 c=1");
    txn_begin(k.s->txn, k.s->mvcc);
    struct view v = { k.s, k.s->txn };
    struct life_plan plan = { .form = LIFE_FORM_PRIVATE, .deadline_ms = 5000 };
    txn_set_plan(k.s->txn, txn_touch(k.s->txn, (struct slice){ (const uint8_t *)"\0b", 2 }, true), &plan);
    overlay_put(&k, "\0c");
    overlay_put(&k, "\0d");
    assert_int_equal(place_of(&v, "\0a"), 1);
    assert_int_equal(place_of(&v, "\0b"), 2); /* its lifetime is no part of the revisions */
    assert_int_equal(place_of(&v, "\0c"), 0); /* not known yet */
    assert_int_equal(place_of(&v, "\0d"), 0);
    txn_end(k.s->txn);
    kit_deinit(&k);
}

static void test_missing_key_leaves_out_alone(void **unused)
{
    (void)unused;
    struct kit k;
    kit_init(&k, 5);
    struct view v = { k.s, NULL };
    struct kv kv = { .mod = 77 };
    assert_false(view_get(&v, SLICE_LIT("nothing"), &kv));
    assert_int_equal(kv.mod, 77);
    kit_deinit(&k);
}

static void test_lease_shows_its_deadline(void **unused)
{
    (void)unused;
    struct kit k;
    struct kv kv;
    kit_init(&k, 5);
    kit_run(&k, "grant 700 id 3");
    kit_run(&k, "put a 1 lease 3");
    struct view v = { k.s, NULL };
    struct slice key = { (const uint8_t *)"\0a", 2 };
    assert_true(view_get(&v, key, &kv));
    assert_int_equal(kv.lease_id, 3);
    assert_int_equal(kv.deadline_ms, 1700);
    assert_int_equal(kv.unix_ms, 500700);
    assert_int_equal(kv.life_index, 2);
    k.stamp_ms += 100;
    k.wall_ms += 100;
    kit_run(&k, "keepalive 3");
    assert_true(view_get_hashed(&v, mvcc_key_hash(k.s->mvcc, key), key, &kv));
    assert_int_equal(kv.deadline_ms, 1800);
    assert_int_equal(kv.unix_ms, 500800);
    assert_int_equal(kv.life_index, 2); /* a keepalive is no change of the key's lifetime */
    kit_deinit(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_with_and_without_changes),
        cmocka_unit_test(test_place_in_the_revision),
        cmocka_unit_test(test_missing_key_leaves_out_alone),
        cmocka_unit_test(test_lease_shows_its_deadline),
    };
    return cmocka_run_group_tests_name("state/view", tests, NULL, NULL);
}

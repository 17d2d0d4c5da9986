#include "kit.h"

/* --- fixtures ------------------------------------------------------------------------- */

static void space_put(struct mvcc *m, const char *key, const char *value)
{
    struct mvcc_event ev;
    struct mvcc_write w = { .key = slice_of(key), .value = slice_of(value),
                            .rev = mvcc_rev(m) + 1, .n = 1 };
    mvcc_put(m, &w, NULL, &ev);
}

static struct pending *touch(struct txn *t, const char *key)
{
    return txn_touch(t, slice_of(key), true);
}

static bool value_is(const struct pending *p, const char *value)
{
    return slice_eq(pending_value(p), slice_of(value));
}

struct fixture {
    struct mvcc *m;
    struct txn *t;
};

static void setup(struct fixture *f)
{
    f->m = mvcc_new(3);
    f->t = txn_new();
    space_put(f->m, "base", "old");
    txn_begin(f->t, f->m);
}

static void teardown(struct fixture *f)
{
    txn_check(f->t);
    txn_end(f->t);
    txn_free(f->t);
    mvcc_free(f->m);
}

/* --- one key -------------------------------------------------------------------------- */

static void test_touch_changes_nothing(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *p = touch(f.t, "base");
    assert_true(p->live);
    assert_true(value_is(p, "old"));
    assert_ptr_equal(touch(f.t, "base"), p);
    struct pending *missing = touch(f.t, "nothing");
    assert_false(missing->live);
    assert_null(missing->base);
    assert_int_equal(f.t->changed_count, 0);
    assert_int_equal(f.t->log_count, 0);
    teardown(&f);
}

static void test_last_change_is_in_the_log(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *a = touch(f.t, "a"), *b = touch(f.t, "b");
    txn_put_outside(f.t, a, SLICE_LIT("1"), VALUE_STRING);
    txn_put_outside(f.t, b, SLICE_LIT("2"), VALUE_STRING);
    txn_delete(f.t, a);
    assert_int_equal(f.t->log_count, 3);
    assert_int_equal(a->order, 2);
    assert_int_equal(b->order, 1);
    assert_int_equal(f.t->changed_count, 2);
    assert_false(a->recreated); /* it never was */
    teardown(&f);
}

static void test_delete_and_put_recreates(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *p = touch(f.t, "base");
    txn_put_base(f.t, p);
    assert_false(p->recreated);
    txn_delete(f.t, p);
    txn_put_outside(f.t, p, SLICE_LIT("new"), VALUE_STRING);
    assert_true(p->recreated);
    assert_int_equal(p->plan.form, LIFE_FORM_NONE); /* and nothing of the former lifetime */
    teardown(&f);
}

static void test_values_grow_in_place(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *p = touch(f.t, "base");
    uint8_t *at = txn_put_grown(f.t, p, 5);
    assert_memory_equal(at, "old\0\0", 5);
    memcpy(at + 3, "er", 2);
    uint8_t *again = txn_put_grown(f.t, p, 8);
    assert_ptr_equal(at, again);
    assert_memory_equal(again, "older\0\0\0", 8);
    uint8_t *far = txn_put_grown(f.t, p, 5000);
    assert_memory_equal(far, "older", 5);
    assert_int_equal(far[4999], 0);
    txn_delete(f.t, p);
    assert_memory_equal(txn_put_grown(f.t, p, 2), "\0\0", 2);
    teardown(&f);
}

static void test_copies_do_not_borrow(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    char small[] = "12", large[] = "a value that is longer than a number as text";
    struct pending *p = touch(f.t, "a"), *q = touch(f.t, "b");
    txn_put_copy(f.t, p, slice_of(small), VALUE_STRING);
    txn_put_copy(f.t, q, slice_of(large), VALUE_HASH);
    small[0] = large[0] = '?';
    assert_true(value_is(p, "12"));
    assert_true(value_is(q, "a value that is longer than a number as text"));
    assert_int_equal(q->type, VALUE_HASH);
    teardown(&f);
}

static void test_moved_value_is_not_copied(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *a = touch(f.t, "a"), *b = touch(f.t, "b");
    const uint8_t *at = txn_put_grown(f.t, a, 100);
    txn_delete(f.t, a);
    txn_put_moved(f.t, b, a);
    assert_ptr_equal(pending_value(b).at, at);
    assert_int_equal(pending_value(b).len, 100);
    struct pending *base = touch(f.t, "base"), *to = touch(f.t, "to");
    txn_delete(f.t, base);
    txn_put_moved(f.t, to, base);
    assert_true(value_is(to, "old"));
    assert_true(pending_value(to).at != entry_value(base->base).at);
    teardown(&f);
}

/* --- leases --------------------------------------------------------------------------- */

static void test_attachments_are_counted_once(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *p = touch(f.t, "a");
    struct life_plan lease = { .form = LIFE_FORM_LEASE, .lease_id = 4 };
    txn_put_outside(f.t, p, SLICE_LIT("1"), VALUE_STRING);
    txn_set_plan(f.t, p, &lease);
    txn_set_plan(f.t, p, &lease);
    assert_int_equal(f.t->attach_count, 1);
    txn_delete(f.t, p);
    assert_int_equal(f.t->attach_count, 0);
    teardown(&f);
}

/* --- the save point ------------------------------------------------------------------- */

static void test_restore_undoes_everything_since(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *a = touch(f.t, "a"), *base = touch(f.t, "base");
    memcpy(txn_put_grown(f.t, a, 3), "abc", 3);
    txn_save(f.t);
    memcpy(txn_put_grown(f.t, a, 4), "zzzz", 4); /* not in the room that the saved one shows */
    txn_put_outside(f.t, a, SLICE_LIT("new"), VALUE_STRING);
    txn_delete(f.t, base);
    txn_put_outside(f.t, touch(f.t, "b"), SLICE_LIT("1"), VALUE_STRING);
    txn_set_plan(f.t, a, &(struct life_plan){ .form = LIFE_FORM_LEASE, .lease_id = 1 });
    txn_check(f.t);
    txn_restore(f.t);
    assert_true(value_is(a, "abc"));
    assert_true(base->live);
    assert_false(base->changed);
    assert_false(touch(f.t, "b")->live);
    assert_int_equal(f.t->changed_count, 1);
    assert_int_equal(f.t->attach_count, 0);
    assert_int_equal(f.t->log_count, 1);
    assert_int_equal(a->plan.form, LIFE_FORM_KEEP);
    teardown(&f);
}

static void test_restore_survives_a_larger_table(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *a = touch(f.t, "a");
    txn_put_outside(f.t, a, SLICE_LIT("1"), VALUE_STRING);
    txn_save(f.t);
    txn_delete(f.t, a);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        txn_put_outside(f.t, touch(f.t, key), SLICE_LIT("x"), VALUE_STRING);
    }
    txn_restore(f.t);
    txn_check(f.t);
    assert_true(touch(f.t, "a")->live);
    assert_int_equal(f.t->changed_count, 1);
    teardown(&f);
}

static void test_release_keeps_what_was_done(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *a = touch(f.t, "a"), *b = touch(f.t, "b");
    memcpy(txn_put_grown(f.t, a, 3), "abc", 3);
    memcpy(txn_put_grown(f.t, b, 3), "def", 3);
    txn_save(f.t);
    memcpy(txn_put_grown(f.t, a, 4) + 3, "d", 1);
    txn_set_plan(f.t, b, &(struct life_plan){ .form = LIFE_FORM_CLEARED });
    txn_release(f.t);
    assert_true(value_is(a, "abcd"));
    assert_true(value_is(b, "def"));
    txn_save(f.t);
    txn_delete(f.t, b);
    txn_restore(f.t);
    assert_true(value_is(b, "def"));
    teardown(&f);
}

static void test_end_in_the_middle_frees_all(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    struct pending *a = touch(f.t, "a");
    txn_put_grown(f.t, a, 300);
    txn_save(f.t);
    txn_put_grown(f.t, a, 400);
    txn_end(f.t);
    txn_begin(f.t, f.m);
    assert_int_equal(f.t->pending_count, 0);
    assert_false(touch(f.t, "a")->live);
    teardown(&f);
}

/* --- order ---------------------------------------------------------------------------- */

static void test_sorted_view_of_many(void **unused)
{
    (void)unused;
    struct fixture f;
    setup(&f);
    uint64_t random = 1;
    for (int i = 0; i < 3000; i++) {
        char key[24];
        random = u64_mix(random + 77);
        snprintf(key, sizeof key, "%llu", (unsigned long long)(random % 5000));
        touch(f.t, key);
        if (i % 500 == 0) txn_sort(f.t);
    }
    txn_sort(f.t);
    txn_check(f.t);
    assert_int_equal(f.t->sorted->count, f.t->pending_count);
    for (uint32_t i = 0; i < f.t->sorted->count; i++) {
        assert_int_equal(txn_sorted_find(f.t, txn_sorted_at(f.t, i)->key), i);
    }
    assert_int_equal(txn_sorted_find(f.t, SLICE_LIT("z")), f.t->pending_count);
    assert_int_equal(txn_sorted_find(f.t, SLICE_LIT("")), 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_touch_changes_nothing),
        cmocka_unit_test(test_last_change_is_in_the_log),
        cmocka_unit_test(test_delete_and_put_recreates),
        cmocka_unit_test(test_values_grow_in_place),
        cmocka_unit_test(test_copies_do_not_borrow),
        cmocka_unit_test(test_moved_value_is_not_copied),
        cmocka_unit_test(test_attachments_are_counted_once),
        cmocka_unit_test(test_restore_undoes_everything_since),
        cmocka_unit_test(test_restore_survives_a_larger_table),
        cmocka_unit_test(test_release_keeps_what_was_done),
        cmocka_unit_test(test_end_in_the_middle_frees_all),
        cmocka_unit_test(test_sorted_view_of_many),
    };
    return cmocka_run_group_tests_name("state/txn", tests, NULL, NULL);
}

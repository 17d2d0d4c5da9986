/* Lives: where they are, what the next checkpoint must write of them, and keys in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "state/lease.h"

#define KEY SLICE_LIT("\0key")

struct fixture {
    struct lease_table *t;
    struct life *life;
};

/* A life in a table that has the leases 1 and 2, all of it already in a checkpoint. */
static struct fixture fixture(void)
{
    struct fixture f = { .t = lease_table_new(3) };
    const struct lease *l;
    for (uint64_t id = 1; id <= 2; id++) {
        struct lease_request request = { id, 1000 * (int64_t)id, 0, 10 };
        assert_int_equal(lease_grant(f.t, &request, &l), OK);
    }
    f.life = life_new(f.t, KEY);
    lease_changes_clear(f.t);
    return f;
}

static size_t changed_count(const struct lease_table *t)
{
    size_t count = 0;
    const struct life *life;
    for (size_t at = 0; life_changed_at(t, at, &life); at++) count += life != NULL;
    return count;
}

static size_t gone_count(const struct lease_table *t, struct slice want)
{
    size_t count = 0;
    struct slice key;
    for (size_t offset = 0; life_gone_next(t, &offset, &key); count++) {
        assert_true(slice_eq(key, want));
    }
    return count;
}

static void test_moves_between_private_leased_and_persisted(void **state)
{
    (void)state;
    struct fixture f = fixture();
    uint64_t empty = lease_table_hash(f.t);
    assert_int_equal(life_deadline_ms(f.t, f.life), 0);

    life_set_private(f.t, f.life, 500, 9500, 7);
    assert_int_equal(life_deadline_ms(f.t, f.life), 500);
    assert_int_equal(life_expiring_count(f.t, 0), 1);
    assert_int_equal(lease_next_due_ms(f.t), 500);
    assert_int_equal(lease_attach(f.t, 1, f.life, 8, 10), OK);
    assert_int_equal(life_deadline_ms(f.t, f.life), 1000);
    assert_int_equal(f.life->unix_ms, 0);
    assert_int_equal(lease_next_due_ms(f.t), 1000);
    assert_int_equal(lease_find(f.t, 1)->key_count, 1);
    assert_int_equal(lease_attach(f.t, 2, f.life, 9, 10), OK);
    assert_int_equal(lease_find(f.t, 1)->key_count, 0);
    assert_null(lease_keys(lease_find(f.t, 1)));
    assert_ptr_equal(lease_keys(lease_find(f.t, 2)), f.life);
    assert_int_equal(lease_attach(f.t, 2, f.life, 10, 1), OK); /* the same again: no second key */
    assert_int_equal(lease_find(f.t, 2)->key_count, 1);
    life_set_private(f.t, f.life, 700, 9700, 11);
    assert_int_equal(lease_find(f.t, 2)->key_count, 0);
    assert_int_equal(life_expiring_count(f.t, 0), 1);
    life_clear(f.t, f.life, 12);
    assert_int_equal(life_expiring_count(f.t, 0), 0);
    assert_int_equal(life_deadline_ms(f.t, f.life), 0);
    assert_int_equal(f.life->life_index, 12);
    assert_true(lease_table_hash(f.t) != empty); /* life_index is part of the state */
    lease_table_check(f.t);

    life_free(f.t, f.life, KEY);
    assert_int_equal(lease_table_hash(f.t), empty);
    assert_int_equal(life_count(f.t), 0);
    life_free(f.t, NULL, KEY);
    lease_table_free(f.t);
}

static void test_attach_refusals_change_nothing(void **state)
{
    (void)state;
    struct fixture f = fixture();
    struct life *other = life_new(f.t, SLICE_LIT("\0other"));
    assert_int_equal(lease_attach(f.t, 1, other, 5, 1), OK);
    life_set_private(f.t, f.life, 500, 9500, 7);
    uint64_t hash = lease_table_hash(f.t);
    assert_int_equal(lease_attach(f.t, 1, f.life, 8, 1), ERR_LEASE_KEYS);
    assert_int_equal(lease_attach(f.t, 3, f.life, 8, 1), ERR_NOLEASE);
    assert_int_equal(lease_table_hash(f.t), hash);
    assert_int_equal(f.life->deadline_ms, 500);
    assert_int_equal(f.life->life_index, 7);
    lease_table_check(f.t);
    lease_table_free(f.t);
}

static void test_timer_follows_a_private_deadline(void **state)
{
    (void)state;
    struct fixture f = fixture();
    life_set_private(f.t, f.life, 900, 0, 1);
    life_set_private(f.t, f.life, 300, 0, 2); /* shorter: at once */
    assert_int_equal(lease_next_due_ms(f.t), 300);
    life_set_private(f.t, f.life, 950, 0, 3); /* longer: when the slot comes up */
    assert_int_equal(lease_next_due_ms(f.t), 300);
    lease_table_check(f.t);
    life_clear(f.t, f.life, 4);
    assert_int_equal(lease_next_due_ms(f.t), 1000);
    lease_table_check(f.t);
    lease_table_free(f.t);
}

static void test_written_with_its_row_needs_no_record(void **state)
{
    (void)state;
    struct fixture f = fixture();
    life_set_private(f.t, f.life, 900, 0, 1);
    assert_int_equal(changed_count(f.t), 1);
    life_written(f.t, f.life, KEY);
    assert_int_equal(changed_count(f.t), 0);
    assert_int_equal(gone_count(f.t, KEY), 0);
    assert_false(f.life->changed);
    lease_table_free(f.t);
}

static void test_record_goes_when_a_row_says_the_same(void **state)
{
    (void)state;
    struct fixture f = fixture();
    life_set_private(f.t, f.life, 900, 0, 1);
    lease_changes_clear(f.t);
    assert_true(f.life->changed && f.life->recorded);
    assert_int_equal(changed_count(f.t), 0);
    life_written(f.t, f.life, KEY);
    assert_false(f.life->changed || f.life->recorded);
    assert_int_equal(gone_count(f.t, KEY), 1);
    lease_changes_clear(f.t);
    assert_int_equal(gone_count(f.t, KEY), 0);
    life_written(f.t, f.life, KEY); /* nothing is left to go */
    assert_int_equal(gone_count(f.t, KEY), 0);
    lease_table_free(f.t);
}

static void test_record_goes_with_its_life(void **state)
{
    (void)state;
    struct fixture f = fixture();
    life_set_private(f.t, f.life, 900, 0, 1);
    lease_changes_clear(f.t);
    life_clear(f.t, f.life, 2);
    assert_int_equal(changed_count(f.t), 1);
    life_free(f.t, f.life, KEY);
    assert_int_equal(changed_count(f.t), 0);
    assert_int_equal(gone_count(f.t, KEY), 1);
    f.life = life_new(f.t, KEY);
    life_set_private(f.t, f.life, 901, 0, 3);
    life_free(f.t, f.life, KEY); /* was never recorded */
    assert_int_equal(gone_count(f.t, KEY), 1);
    lease_table_free(f.t);
}

static void test_leases_are_listed_as_changed_once_and_as_removed_only_if_recorded(void **state)
{
    (void)state;
    struct fixture f = fixture();
    const struct lease *l;
    uint64_t id;
    uint8_t ids[8];
    assert_false(lease_changed_at(f.t, 0, &l));
    u64_le_put(ids, 2);
    lease_keepalive(f.t, ids, 1, 10, NULL);
    lease_keepalive(f.t, ids, 1, 20, NULL);
    assert_true(lease_changed_at(f.t, 0, &l));
    assert_int_equal(l->id, 2);
    assert_false(lease_changed_at(f.t, 1, &l));
    struct lease_request request = { 3, 1000, 0, 10 };
    assert_int_equal(lease_grant(f.t, &request, &l), OK);
    lease_remove(f.t, 2);
    assert_true(lease_changed_at(f.t, 0, &l));
    assert_null(l);
    assert_true(lease_changed_at(f.t, 1, &l));
    assert_int_equal(l->id, 3);
    lease_remove(f.t, 3);
    assert_false(lease_changed_at(f.t, 0, &l));
    assert_true(lease_removed_at(f.t, 0, &id));
    assert_int_equal(id, 2);
    assert_false(lease_removed_at(f.t, 1, &id));
    lease_changes_clear(f.t);
    assert_false(lease_removed_at(f.t, 0, &id));
    lease_table_free(f.t);
}

/* --- loading -------------------------------------------------------------------------- */

static const struct {
    const char *label;
    struct life_record record;
    enum err want;
} loads[] = {
    { "private", { 0, 500, 9500, 3, false }, OK },
    { "leased, from its own record", { 2, 0, 0, 3, true }, OK },
    { "persisted", { 0, 0, 0, 3, true }, OK },
    { "never changed", { 0, 500, 9500, 0, false }, ERR_CORRUPT },
    { "no such lease", { 3, 0, 0, 3, false }, ERR_CORRUPT },
    { "lease and deadline", { 1, 500, 0, 3, false }, ERR_CORRUPT },
    { "lease and absolute time", { 1, 0, 500, 3, false }, ERR_CORRUPT },
    { "negative deadline", { 0, -1, 0, 3, false }, ERR_CORRUPT },
};

static void test_load_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
        struct fixture f = fixture();
        struct life *life = NULL;
        struct slice key = SLICE_LIT("\0loaded");
        enum err got = life_load(f.t, key, &loads[i].record, &life);
        if (got != loads[i].want) fail_msg("%s: got %s", loads[i].label, err_name(got));
        if (got == OK) {
            assert_int_equal(life->lease_id, loads[i].record.lease_id);
            assert_int_equal(life->deadline_ms, loads[i].record.deadline_ms);
            assert_int_equal(life->recorded, loads[i].record.recorded);
            assert_int_equal(changed_count(f.t), 0);
            life_free(f.t, life, key);
            assert_int_equal(gone_count(f.t, key), loads[i].record.recorded);
        }
        assert_int_equal(life_count(f.t), 1);
        lease_table_check(f.t);
        lease_table_free(f.t);
    }
}

static void test_load_of_leases_refuses_the_impossible(void **state)
{
    (void)state;
    struct fixture f = fixture();
    assert_int_equal(lease_load(f.t, 0, 1000, 1000), ERR_CORRUPT);
    assert_int_equal(lease_load(f.t, 1, 1000, 1000), ERR_CORRUPT);
    assert_int_equal(lease_load(f.t, 5, 99, 1000), ERR_CORRUPT);
    assert_int_equal(lease_load(f.t, 5, LEASE_TTL_MS_MAX + 1, INT64_MAX), ERR_CORRUPT);
    assert_int_equal(lease_load(f.t, 5, 1000, 999), ERR_CORRUPT);
    assert_int_equal(lease_load(f.t, 5, 1000, 1000), OK);
    lease_table_free(f.t);
}

/* --- keys in order -------------------------------------------------------------------- */

static struct life *keyed(struct lease_table *t, const char *text)
{
    struct slice key = slice_of(text);
    struct entry *e = mem_zalloc(sizeof *e + key.len);
    e->key_bytes = (uint16_t)key.len;
    memcpy(e->data, key.at, key.len);
    struct life *life = life_new(t, key);
    life->entry = e;
    return life;
}

static void test_sort_keys(void **state)
{
    (void)state;
    for (size_t count = 0; count <= 70; count++) {
        struct fixture f = fixture();
        for (size_t i = 0; i < count; i++) {
            char text[16];
            snprintf(text, sizeof text, "k%02d", (int)((i * 31) % 71));
            assert_int_equal(lease_attach(f.t, 1, keyed(f.t, text), 1, 1000), OK);
        }
        lease_sort_keys(f.t, 1);
        lease_table_check(f.t);
        size_t seen = 0;
        const struct life *prev = NULL;
        for (struct life *life = lease_keys(lease_find(f.t, 1)); life != NULL; life = life->next) {
            if (prev != NULL) {
                assert_true(slice_cmp(entry_key(prev->entry), entry_key(life->entry)) < 0);
            }
            prev = life;
            seen++;
        }
        assert_int_equal(seen, count);
        lease_sort_keys(f.t, 1); /* sorted already */
        lease_sort_keys(f.t, 99); /* no such lease */
        for (struct life *life = lease_keys(lease_find(f.t, 1)); life != NULL; life = life->next) {
            mem_free(life->entry);
        }
        lease_table_free(f.t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves_between_private_leased_and_persisted),
        cmocka_unit_test(test_attach_refusals_change_nothing),
        cmocka_unit_test(test_timer_follows_a_private_deadline),
        cmocka_unit_test(test_written_with_its_row_needs_no_record),
        cmocka_unit_test(test_record_goes_when_a_row_says_the_same),
        cmocka_unit_test(test_record_goes_with_its_life),
        cmocka_unit_test(test_leases_are_listed_as_changed_once_and_as_removed_only_if_recorded),
        cmocka_unit_test(test_load_table),
        cmocka_unit_test(test_load_of_leases_refuses_the_impossible),
        cmocka_unit_test(test_sort_keys),
    };
    return cmocka_run_group_tests_name("state/life", tests, NULL, NULL);
}

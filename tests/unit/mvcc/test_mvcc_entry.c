/* Entries: their layout, their hash, and where they live when they change size. */
#include "mvcc/mvcc_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct slice text_of(size_t len)
{
    static uint8_t text[70000];
    memset(text, 'v', sizeof text);
    return (struct slice){ text, len };
}

static const struct entry *put(struct mvcc *m, size_t value_bytes, struct life *life)
{
    struct mvcc_event ev;
    struct mvcc_write w = { .key = SLICE_LIT("\0sixteen bytes key"), .value = text_of(value_bytes),
                            .rev = mvcc_rev(m) + 1, .n = 1, .life = life };
    mvcc_put(m, &w, NULL, &ev);
    mvcc_check(m);
    const struct entry *e = mvcc_find(m, w.key);
    assert_true(slice_eq(entry_key(e), w.key));
    assert_true(slice_eq(entry_value(e), w.value));
    assert_ptr_equal(entry_life(e), life);
    return e;
}

static void test_entry_fills_its_class(void **state)
{
    (void)state;
    assert_int_equal(ENTRY_HEAD_BYTES, 46);
    assert_true(ENTRY_HEAD_BYTES + 17 + 256 <= 320); /* 16-byte keys with 256 bytes */
}

/* Replicas of all versions compare it: these numbers may never change. */
static void test_hash_is_pinned(void **state)
{
    (void)state;
    struct entry e = { .mod = 7, .create = 5, .version = 3, .value_bytes = 9, .crc = 0x12345678,
                       .key_bytes = 4, .flags = VALUE_LIST << 4, .jump = 1, .chain = 1 };
    assert_true(mvcc_entry_hash(&e) == 0xe12e191071edd122ULL);
    struct entry same = e;
    same.jump = 2;
    same.chain = 2;
    same.flags |= ENTRY_LIFE_SLOT;
    /* History and memory do not count. */
    assert_true(mvcc_entry_hash(&same) == mvcc_entry_hash(&e));

    struct entry other[8] = { e, e, e, e, e, e, e, e };
    other[0].mod++;
    other[1].create++;
    other[2].version++;
    other[3].value_bytes++;
    other[4].crc++;
    other[5].key_bytes++;
    other[6].flags = VALUE_HASH << 4;
    other[7].mod = e.create;
    other[7].create = e.mod;
    for (size_t i = 0; i < ARRAY_LEN(other); i++) {
        assert_true(mvcc_entry_hash(&other[i]) != mvcc_entry_hash(&e));
    }
}

static void test_size_changes(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(3);
    static const size_t sizes[] = { 0, 1, 2, 3, 256, 255, 254, 250, 256, 100, 0, 65536, 1, 20 };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        const struct entry *e = put(m, sizes[i], NULL);
        size_t held = ENTRY_HEAD_BYTES + e->key_bytes + e->value_bytes;
        assert_true(mem_usable(e) >= held);
        assert_true(mem_usable(e) <= held + held / 3 + 32);
    }
    mvcc_free(m);
}

static void test_slot_comes_and_goes(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(3);
    struct life life = { .lease_id = 1 };
    for (size_t size = 240; size < 280; size++) {
        put(m, size, NULL);
        put(m, size, &life);
        put(m, size, &life);
        put(m, size, NULL);
        mvcc_set_life(m, SLICE_LIT("\0sixteen bytes key"), &life);
        mvcc_check(m);
        assert_ptr_equal(entry_life(life.entry), &life);
        assert_int_equal(entry_value(life.entry).len, size);
        mvcc_set_life(m, SLICE_LIT("\0sixteen bytes key"), NULL);
        mvcc_check(m);
        assert_null(life.entry);
    }
    mvcc_free(m);
}

static void test_deleted_large_value_is_given_back(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(3);
    put(m, 60000, NULL);
    struct mvcc_event ev;
    mvcc_delete(m, SLICE_LIT("\0sixteen bytes key"), 9, 1, ROW_DEL, NULL, &ev);
    mvcc_check(m);
    assert_true(mem_usable(m->ghost_first) < 200);
    assert_int_equal(mvcc_live_bytes(m), 0);
    put(m, 10, NULL);
    assert_null(m->ghost_first);
    mvcc_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entry_fills_its_class),
        cmocka_unit_test(test_hash_is_pinned),
        cmocka_unit_test(test_size_changes),
        cmocka_unit_test(test_slot_comes_and_goes),
        cmocka_unit_test(test_deleted_large_value_is_given_back),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_entry", tests, NULL, NULL);
}

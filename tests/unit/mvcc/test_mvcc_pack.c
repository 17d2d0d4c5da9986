/* Packs: sealed when full, taken once each in order, kept while recent. */
#include "mvcc/mvcc_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static uint8_t bytes[100000];

static void append(struct mvcc *m, uint64_t rev, uint32_t n, size_t value_bytes)
{
    struct row r = { .rev = rev, .n = n, .op = ROW_PUT, .create = rev, .version = 1,
                     .key = SLICE_LIT("key"), .value = { bytes, value_bytes } };
    mvcc_pack_append(&m->packs, &r);
    m->rev = rev;
    mvcc_packs_check(&m->packs);
}

static size_t pack_count(const struct mvcc *m)
{
    struct mvcc_pack pack;
    size_t count = 0;
    while (mvcc_packs_at(m, count, &pack)) count++;
    return count;
}

static void take_all(struct mvcc *m)
{
    struct mvcc_pack pack;
    while (mvcc_packs_take(m, &pack)) blob_unref(pack.body);
}

static void test_no_pack(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct mvcc_pack pack;
    mvcc_packs_seal(m);
    assert_false(mvcc_packs_take(m, &pack));
    assert_false(mvcc_packs_at(m, 0, &pack));
    assert_int_equal(mvcc_packs_find(m, 1), 0);
    assert_int_equal(mvcc_packs_bytes(m), 0);
    mvcc_packs_stored(m, 99);
    mvcc_free(m);
}

static void test_full_pack_is_sealed_by_the_next_row(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct mvcc_pack pack;
    append(m, 2, 1, 8000);
    append(m, 3, 1, 8000);
    assert_false(mvcc_packs_take(m, &pack)); /* still open */
    append(m, 3, 2, 8000);
    assert_true(mvcc_packs_take(m, &pack));
    assert_int_equal(pack.first_rev, 2);
    assert_int_equal(pack.last_rev, 3);
    assert_int_equal(pack.row_count, 2);
    assert_true(pack.body->len <= PACK_BYTES_MAX);
    blob_unref(pack.body);
    assert_false(mvcc_packs_take(m, &pack));
    mvcc_packs_seal(m);
    assert_true(mvcc_packs_take(m, &pack));
    assert_int_equal(pack.first_rev, 3);
    assert_int_equal(pack.first_n, 2);
    blob_unref(pack.body);
    mvcc_free(m);
}

static void test_large_row_is_alone(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    append(m, 2, 1, 10);
    append(m, 3, 1, 50000);
    append(m, 4, 1, 10);
    assert_int_equal(pack_count(m), 3);
    struct mvcc_pack pack;
    assert_true(mvcc_packs_at(m, 1, &pack));
    assert_int_equal(pack.row_count, 1);
    size_t offset = 0;
    struct row r;
    assert_int_equal(pack_begin(blob_slice(pack.body), &offset), OK);
    assert_int_equal(row_decode(blob_slice(pack.body), &offset, pack.first_rev, &r), OK);
    assert_int_equal(r.value.len, 50000);
    mvcc_free(m);
}

static void test_pack_closed_early_is_small(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    append(m, 2, 1, 10);
    assert_true(mvcc_packs_bytes(m) >= PACK_CAP_BYTES);
    mvcc_packs_seal(m);
    assert_true(mvcc_packs_bytes(m) < 200);
    append(m, 3, 1, 10);
    struct mvcc_pack open;
    assert_true(mvcc_packs_at(m, 1, &open));
    blob_ref(open.body); /* someone reads it: it stays what it is */
    mvcc_packs_seal(m);
    struct mvcc_pack sealed;
    assert_true(mvcc_packs_at(m, 1, &sealed));
    assert_ptr_equal(sealed.body, open.body);
    blob_unref(open.body);
    mvcc_packs_check(&m->packs);
    mvcc_free(m);
}

static void test_only_stored_packs_are_dropped(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    uint64_t rev = 1;
    while (mvcc_packs_bytes(m) < 2 * MVCC_RECENT_PACK_BYTES) append(m, ++rev, 1, 16000);
    size_t all = pack_count(m);
    mvcc_packs_stored(m, rev);
    assert_int_equal(pack_count(m), all); /* none was taken */
    take_all(m);
    mvcc_packs_stored(m, 1);
    assert_int_equal(pack_count(m), all); /* none is in the store */
    mvcc_packs_stored(m, 3);
    assert_int_equal(pack_count(m), all - 2);
    assert_int_equal(mvcc_packs_first_rev(m), 4);
    mvcc_packs_stored(m, rev);
    assert_true(mvcc_packs_bytes(m) <= MVCC_RECENT_PACK_BYTES);
    assert_true(mvcc_packs_bytes(m) > MVCC_RECENT_PACK_BYTES - 2 * PACK_BYTES_MAX);
    mvcc_packs_check(&m->packs);
    mvcc_free(m);
}

/* I6: of a revision that is cut by the oldest pack not all rows are here. */
static void test_first_rev_is_complete(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    append(m, 2, 1, 16000);
    append(m, 2, 2, 16000);
    append(m, 3, 1, 10);
    assert_int_equal(mvcc_packs_first_rev(m), 2);
    for (uint64_t rev = 4; mvcc_packs_bytes(m) <= MVCC_RECENT_PACK_BYTES; rev++) {
        append(m, rev, 1, 16000);
    }
    take_all(m);
    mvcc_packs_stored(m, 2);
    assert_int_equal(mvcc_packs_first_rev(m), 3);
    mvcc_free(m);
}

static void test_find_by_revision(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    append(m, 2, 1, 16000);
    append(m, 5, 1, 16000);
    append(m, 5, 2, 16000);
    append(m, 9, 1, 10); /* in the pack of 5.2 */
    assert_int_equal(mvcc_packs_find(m, 0), 0);
    assert_int_equal(mvcc_packs_find(m, 2), 0);
    assert_int_equal(mvcc_packs_find(m, 3), 1);
    assert_int_equal(mvcc_packs_find(m, 5), 1);
    assert_int_equal(mvcc_packs_find(m, 6), 2);
    assert_int_equal(mvcc_packs_find(m, 9), 2);
    assert_int_equal(mvcc_packs_find(m, 10), 3);
    struct mvcc_pack pack;
    assert_false(mvcc_packs_at(m, 3, &pack));
    mvcc_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_pack),
        cmocka_unit_test(test_full_pack_is_sealed_by_the_next_row),
        cmocka_unit_test(test_large_row_is_alone),
        cmocka_unit_test(test_pack_closed_early_is_small),
        cmocka_unit_test(test_only_stored_packs_are_dropped),
        cmocka_unit_test(test_first_rev_is_complete),
        cmocka_unit_test(test_find_by_revision),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_pack", tests, NULL, NULL);
}

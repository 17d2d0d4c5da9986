/* Rows and packs: bytes pinned, everything else refused. */
#include "mvcc/mvcc_row.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "mvcc/mvcc_row_int.h"

static const struct row row_plain = {
    .rev = 1007, .n = 1, .op = ROW_PUT, .type = VALUE_STRING, .create = 5, .version = 3,
    .prev = 300, .jump = 5, .chain = 2, .key = { (const uint8_t *)"\0abc", 4 },
    .value = { (const uint8_t *)"value", 5 },
};

static const struct row row_full = {
    .rev = UINT64_MAX, .n = UINT32_MAX, .op = ROW_PUT, .type = VALUE_LIST,
    .create = UINT64_MAX, .version = UINT64_MAX, .prev = UINT64_MAX - 1, .jump = UINT64_MAX - 1,
    .chain = 127, .lease = UINT64_MAX, .deadline_ms = INT64_MAX, .unix_ms = -1,
    .life_index = UINT64_MAX, .key = { (const uint8_t *)"\0", 1 }, .value = { NULL, 0 },
};

static const struct row row_expire = {
    .rev = 1000, .n = 2, .op = ROW_EXPIRE, .type = VALUE_HASH, .prev = 999, .jump = 999,
    .chain = 1, .lease = 77, .key = { (const uint8_t *)"\0k", 2 }, .value = { NULL, 0 },
};

static void assert_row_eq(const struct row *a, const struct row *b)
{
    assert_true(a->rev == b->rev);
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->type, b->type);
    assert_true(a->create == b->create);
    assert_true(a->version == b->version);
    assert_true(a->prev == b->prev);
    assert_true(a->jump == b->jump);
    assert_int_equal(a->chain, b->chain);
    assert_true(a->lease == b->lease);
    assert_true(a->deadline_ms == b->deadline_ms);
    assert_true(a->unix_ms == b->unix_ms);
    assert_true(a->life_index == b->life_index);
    assert_true(slice_eq(a->key, b->key));
    assert_true(slice_eq(a->value, b->value));
}

static void test_row_bytes_are_pinned(void **state)
{
    (void)state;
    static const uint8_t want_plain[] = {
        /* length */ 21, /* op type flags chain */ 1, 0, 0, 2, /* rev n */ 7, 1,
        /* create version */ 5, 3, /* prev jump */ 0xac, 2, 5, /* key */ 4, 0, 'a', 'b', 'c',
        'v', 'a', 'l', 'u', 'e',
    };
    static const uint8_t want_expire[] = {
        16, 3, 1, 1, 1, 0, 2, 0, 0, 0xe7, 7, 0xe7, 7, /* lease */ 77, 2, 0, 'k',
    };
    struct buf b = { 0 };
    row_encode(&b, &row_plain, 1000);
    assert_int_equal(b.len, sizeof want_plain);
    assert_memory_equal(b.at, want_plain, sizeof want_plain);
    buf_clear(&b);
    row_encode(&b, &row_expire, 1000);
    assert_int_equal(b.len, sizeof want_expire);
    assert_memory_equal(b.at, want_expire, sizeof want_expire);
    buf_deinit(&b);
}

static void test_rows_of_a_pack_come_back(void **state)
{
    (void)state;
    const struct row *rows[] = { &row_expire, &row_plain, &row_full };
    struct buf b = { 0 };
    buf_append_u8(&b, PACK_FORMAT);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) row_encode(&b, rows[i], 1000);

    size_t offset = 0;
    assert_int_equal(pack_begin(buf_slice(&b), &offset), OK);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct row got;
        assert_int_equal(row_decode(buf_slice(&b), &offset, 1000, &got), OK);
        assert_row_eq(&got, rows[i]);
    }
    assert_int_equal(offset, b.len);
    buf_deinit(&b);
}

static void test_row_head_is_never_longer_than_its_limit(void **state)
{
    (void)state;
    struct buf b = { 0 };
    row_encode(&b, &row_full, 0);
    assert_true(b.len - row_full.key.len <= ROW_HEAD_BYTES_MAX);
    buf_deinit(&b);
}

/* Every cut is refused, and leaves offset and row alone. */
static void test_cut_row_is_refused(void **state)
{
    (void)state;
    struct buf b = { 0 };
    row_encode(&b, &row_full, 0);
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *exact = mem_copy(b.at, len); /* so that asan sees a read behind the end */
        size_t offset = 0;
        struct row got = row_plain;
        assert_int_equal(row_decode((struct slice){ exact, len }, &offset, 0, &got), ERR_CORRUPT);
        assert_int_equal(offset, 0);
        assert_row_eq(&got, &row_plain);
        mem_free(exact);
    }
    buf_deinit(&b);
}

static void test_impossible_rows_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        uint8_t bytes[18];
        size_t len;
        enum err want;
    } cases[] = {
        /*                       length op ty fl ch rv n cr ve pr ju kl key value */
        { "good put",            { 13, 1, 0, 0, 0, 5, 1, 5, 1, 0, 0, 1, 0, 'v' }, 14, OK },
        { "good tombstone",      { 12, 2, 0, 0, 1, 5, 1, 0, 0, 4, 4, 1, 0 }, 13, OK },
        { "operation 0",         { 13, 0, 0, 0, 0, 5, 1, 5, 1, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "operation 4",         { 13, 4, 0, 0, 0, 5, 1, 5, 1, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "type 3",              { 13, 1, 3, 0, 0, 5, 1, 5, 1, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "flag 4",              { 13, 1, 0, 4, 0, 5, 1, 5, 1, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "chain 128",           { 13, 1, 0, 0, 128, 5, 1, 5, 1, 4, 4, 1, 0, 'v' }, 14,
          ERR_CORRUPT },
        { "n 0",                 { 13, 1, 0, 0, 0, 5, 0, 5, 1, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "create after rev",    { 13, 1, 0, 0, 0, 5, 1, 6, 1, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "put of version 0",    { 13, 1, 0, 0, 0, 5, 1, 5, 0, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "put of create 0",     { 13, 1, 0, 0, 0, 5, 1, 0, 1, 0, 0, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "prev is itself",      { 13, 1, 0, 0, 1, 5, 1, 5, 1, 5, 4, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "jump behind prev",    { 13, 1, 0, 0, 1, 5, 1, 5, 1, 3, 4, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "no key",              { 12, 1, 0, 0, 0, 5, 1, 5, 1, 0, 0, 0, 'v' }, 13, ERR_CORRUPT },
        { "key behind the end",  { 13, 1, 0, 0, 0, 5, 1, 5, 1, 0, 0, 3, 0, 'v' }, 14, ERR_CORRUPT },
        { "tombstone's value",   { 13, 2, 0, 0, 1, 5, 1, 0, 0, 4, 4, 1, 0, 'v' }, 14, ERR_CORRUPT },
        { "tombstone's version", { 12, 2, 0, 0, 1, 5, 1, 0, 1, 4, 4, 1, 0 }, 13, ERR_CORRUPT },
        { "body of 3 bytes",     { 3, 1, 0, 0 }, 4, ERR_CORRUPT },
        { "body of nothing",     { 0 }, 1, ERR_CORRUPT },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t offset = 0;
        struct row got;
        enum err e = row_decode((struct slice){ cases[i].bytes, cases[i].len }, &offset, 0, &got);
        if (e != cases[i].want) fail_msg("%s: %s", cases[i].label, err_name(e));
        if (offset != (e == OK ? cases[i].len : 0)) fail_msg("%s: offset", cases[i].label);
    }
}

static void test_revision_beyond_64_bits_is_refused(void **state)
{
    (void)state;
    static const uint8_t bytes[] = { 13, 1, 0, 0, 0, 5, 1, 5, 1, 0, 0, 1, 0, 'v' };
    size_t offset = 0;
    struct row got;
    struct slice in = { bytes, sizeof bytes };
    assert_int_equal(row_decode(in, &offset, UINT64_MAX - 5, &got), OK);
    offset = 0;
    assert_int_equal(row_decode(in, &offset, UINT64_MAX - 4, &got), ERR_CORRUPT);
}

/* One flipped bit may give another row, never a read outside or a row that no writer writes. */
static void test_damaged_rows_stay_inside(void **state)
{
    (void)state;
    const struct row *rows[] = { &row_plain, &row_full, &row_expire };
    size_t refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = { 0 };
        row_encode(&b, rows[i], 0);
        for (size_t bit = 0; bit < b.len * 8; bit++) {
            uint8_t *bytes = mem_copy(b.at, b.len);
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
            size_t offset = 0;
            struct row got;
            if (row_decode((struct slice){ bytes, b.len }, &offset, 0, &got) == OK) {
                assert_true(got.value.at + got.value.len <= bytes + b.len);
                assert_true(got.key.len >= 1);
                assert_true(offset <= b.len);
            } else {
                refused++;
            }
            mem_free(bytes);
        }
        buf_deinit(&b);
    }
    assert_true(refused > 0);
}

static void test_pack_of_another_format_is_refused(void **state)
{
    (void)state;
    size_t offset = 9;
    assert_int_equal(pack_begin(SLICE_NONE, &offset), ERR_CORRUPT);
    assert_int_equal(pack_begin(SLICE_LIT("\2"), &offset), ERR_CORRUPT);
    assert_int_equal(offset, 9);
    assert_int_equal(pack_begin(SLICE_LIT("\1"), &offset), OK);
    assert_int_equal(offset, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_bytes_are_pinned),
        cmocka_unit_test(test_rows_of_a_pack_come_back),
        cmocka_unit_test(test_row_head_is_never_longer_than_its_limit),
        cmocka_unit_test(test_cut_row_is_refused),
        cmocka_unit_test(test_impossible_rows_are_refused),
        cmocka_unit_test(test_revision_beyond_64_bits_is_refused),
        cmocka_unit_test(test_damaged_rows_stay_inside),
        cmocka_unit_test(test_pack_of_another_format_is_refused),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_row", tests, NULL, NULL);
}

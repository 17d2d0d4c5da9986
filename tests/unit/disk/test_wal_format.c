/* The bytes of the log, pinned; what is not a batch; what records may follow each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "disk/wal_format_int.h"

#define BLOCK 4096

static struct errmsg em;

static void test_segment_header_bytes_are_pinned(void **state)
{
    (void)state;
    struct wal_segment_head h = { .version = 1,
                                  .block_bytes = 4096,
                                  .cluster_id = 0x0102030405060708,
                                  .member_id = 0x1112131415161718,
                                  .seq = 7,
                                  .segment_bytes = 65536,
                                  .salt = 0xa1a2a3a4a5a6a7a8,
                                  .group = 3 };
    uint8_t bytes[WAL_SEGMENT_HEAD_BYTES];
    wal_segment_head_encode(&h, bytes);
    assert_memory_equal(bytes, "CWS1", 4);
    assert_int_equal(u32_le(bytes + 4), crc32c(0, bytes + 8, 88));
    static const uint8_t want[] = {
        1, 0,    0,    0,    0,    16,   0,    0,    8,    7,    6,    5, 4,
        3, 2,    1,    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 7, 0,
        0, 0,    0,    0,    0,    0,    0,    0,    1,    0,    0,    0, 0,
        0, 0xa8, 0xa7, 0xa6, 0xa5, 0xa4, 0xa3, 0xa2, 0xa1, 3,    0,    0, 0,
    };
    assert_memory_equal(bytes + 8, want, sizeof want);
    struct wal_segment_head back;
    assert_int_equal(wal_segment_head_decode(bytes, &back, &em), OK);
    assert_int_equal(back.member_id, h.member_id);
    assert_int_equal(back.salt, h.salt);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        assert_int_equal(wal_segment_head_decode(bytes, &back, &em), ERR_CORRUPT);
        bytes[i] ^= 1;
    }
}

static void test_segment_header_numbers_are_checked(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        uint32_t block_bytes;
        uint64_t seq;
        uint64_t segment_bytes;
        enum err want;
    } cases[] = {
        { 1, 4096, 1, 65536, OK },          { 2, 4096, 1, 65536, ERR_UNSUPPORTED },
        { 1, 512, 1, 65536, ERR_CORRUPT },  { 1, 5000, 1, 65536, ERR_CORRUPT },
        { 1, 4096, 0, 65536, ERR_CORRUPT }, { 1, 4096, 1, 4096, ERR_CORRUPT },
        { 1, 4096, 1, 65537, ERR_CORRUPT }, { 1, 65536, 1, 65536, ERR_CORRUPT },
        { 1, 65536, 1, 4 * 65536, OK },     { 1, 4096, 1, 2ull << 30, ERR_CORRUPT },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wal_segment_head h = { .version = cases[i].version,
                                      .seq = cases[i].seq,
                                      .block_bytes = cases[i].block_bytes,
                                      .segment_bytes = cases[i].segment_bytes };
        uint8_t bytes[WAL_SEGMENT_HEAD_BYTES];
        wal_segment_head_encode(&h, bytes);
        if (wal_segment_head_decode(bytes, &h, &em) != cases[i].want) fail_msg("row %zu", i);
    }
}

static struct wal_record entry(uint64_t term, uint64_t index, const char *text)
{
    struct slice body = slice_of(text);
    return (struct wal_record){ .type = WAL_RECORD_ENTRY,
                                .entry_type = 9,
                                .term = term,
                                .index = index,
                                .body = body,
                                .crc = crc32c(0, body.at, body.len) };
}

static void test_batch_round_trip_and_pinned_bytes(void **state)
{
    (void)state;
    struct wal_record records[] = { entry(5, 8, "abc"), entry(5, 9, ""), entry(6, 10, "defgh") };
    uint8_t bytes[BLOCK];
    struct wal_batch b = {
        .bytes = (uint32_t)wal_batch_bytes(3, 8, BLOCK),
        .record_count = 3,
        .seq = 0x21,
        .durable_seq = 0x20,
        .prev_crc = 0xdeadbeef,
        .flags = WAL_BATCH_OPENS,
        .segment_seq = 4,
        .hard = { 6, 77, 8 },
        .before = { 7, 5 },
    };
    assert_int_equal(b.bytes, BLOCK);
    wal_batch_encode(&b, records, 0x1234, bytes);
    static const uint8_t want[] = {
        0x00, 0x10, 0, 0, 3,    0,    0,    0,    0x21, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0,
        0,    0,    0, 0, 0xef, 0xbe, 0xad, 0xde, 1,    0, 0, 0, 4, 0, 0, 0, 0,    0, 0, 0,
        6,    0,    0, 0, 0,    0,    0,    0,    77,   0, 0, 0, 0, 0, 0, 0, 8,    0, 0, 0,
        0,    0,    0, 0, 7,    0,    0,    0,    0,    0, 0, 0, 5, 0, 0, 0, 0,    0, 0, 0,
    };
    assert_memory_equal(bytes, "CWB1", 4);
    assert_int_equal(u32_le(bytes + 4), crc32c(0x1234, bytes + 8, 96 - 8 + 3 * 32));
    assert_memory_equal(bytes + 8, want, sizeof want);
    static const uint8_t head[] = { 1, 9, 0, 0, 3, 0, 0, 0 };
    assert_memory_equal(bytes + 96, head, sizeof head);
    assert_int_equal(u64_le(bytes + 96 + 16), 5);
    assert_int_equal(u64_le(bytes + 96 + 24), 8);
    assert_memory_equal(bytes + 96 + 3 * 32, "abcdefgh", 9);

    struct wal_batch back;
    assert_int_equal(
        wal_batch_decode((struct slice){ bytes, BLOCK }, 0x1234, BLOCK, BLOCK, &back, &em), OK);
    assert_int_equal(back.hard.vote, 77);
    assert_int_equal(back.before.index, 7);
    struct wal_record_cursor cx = { 0 };
    struct wal_record r;
    for (size_t i = 0; i < 3; i++) {
        assert_true(wal_record_next(&back, &cx, &r));
        assert_int_equal(r.index, records[i].index);
        assert_true(slice_eq(r.body, records[i].body));
    }
    assert_false(wal_record_next(&back, &cx, &r));

    /* cut, another seed, another byte */
    for (size_t len = 0; len < BLOCK; len++) {
        assert_int_equal(
            wal_batch_decode((struct slice){ bytes, len }, 0x1234, BLOCK, BLOCK, &back, &em),
            ERR_AGAIN);
    }
    assert_int_equal(
        wal_batch_decode((struct slice){ bytes, BLOCK }, 0x1235, BLOCK, BLOCK, &back, &em),
        ERR_CORRUPT);
    for (size_t i = 0; i < 96 + 3 * 32 + 8; i++) {
        bytes[i] ^= 0x80;
        enum err e =
            wal_batch_decode((struct slice){ bytes, BLOCK }, 0x1234, BLOCK, BLOCK, &back, &em);
        if (e == OK) fail_msg("byte %zu is not covered", i);
        bytes[i] ^= 0x80;
    }
}

static void test_seeds_differ(void **state)
{
    (void)state;
    assert_int_not_equal(wal_seed(1, 1), wal_seed(1, 2));
    assert_int_not_equal(wal_seed(1, 1), wal_seed(2, 1));
}

#define E(i, t)                                                                                    \
    {                                                                                              \
        .type = WAL_RECORD_ENTRY, .index = (i), .term = (t)                                        \
    }
#define T(i, t)                                                                                    \
    {                                                                                              \
        .type = WAL_RECORD_TRUNCATE, .index = (i), .term = (t)                                     \
    }
#define S(i, t)                                                                                    \
    {                                                                                              \
        .type = WAL_RECORD_SNAPSHOT, .index = (i), .term = (t)                                     \
    }
#define SB(i, t)                                                                                   \
    {                                                                                              \
        .type = WAL_RECORD_SNAPSHOT_BEGIN, .index = (i), .term = (t)                               \
    }
#define SR(i, t)                                                                                   \
    {                                                                                              \
        .type = WAL_RECORD_SNAPSHOT, .index = (i), .term = (t), .entry_type = 1                    \
    }

/* All start behind index 10 of term 3. */
static const struct {
    const char *label;
    struct wal_record records[6];
    uint32_t count;
    uint64_t commit;
    enum err want;
    uint64_t last;
    uint64_t run_first;
    uint64_t cut; /* index, or UINT64_MAX */
    uint64_t restart;
} effects[] = {
    { "empty", { E(0, 0) }, 0, 10, OK, 10, 0, UINT64_MAX, 0 },
    { "entries", { E(11, 3), E(12, 4) }, 2, 12, OK, 12, 11, UINT64_MAX, 0 },
    { "truncate", { T(8, 2) }, 1, 7, OK, 7, 0, 7, 0 },
    { "truncate, entries", { T(8, 2), E(8, 4) }, 2, 0, OK, 8, 8, 7, 0 },
    { "entries cut again", { E(11, 3), E(12, 3), T(12, 3), E(12, 5) }, 4, 0, OK, 12, 11, 11, 0 },
    { "entries all cut", { E(11, 3), T(5, 2), E(5, 4) }, 3, 0, OK, 5, 5, 4, 0 },
    { "snapshot", { E(11, 3), S(50, 6), E(51, 6) }, 3, 50, OK, 51, 51, UINT64_MAX, 50 },
    { "snapshot, entry cut", { S(50, 6), E(51, 6), T(51, 6) }, 3, 0, OK, 50, 0, 50, 50 },
    { "snapshot begin", { SB(50, 6), E(11, 3) }, 2, 0, OK, 11, 11, UINT64_MAX, 0 },
    { "hole", { E(12, 3) }, 1, 0, ERR_CORRUPT, 0, 0, 0, 0 },
    { "again", { E(10, 3) }, 1, 0, ERR_CORRUPT, 0, 0, 0, 0 },
    { "term goes back", { E(11, 2) }, 1, 0, ERR_CORRUPT, 0, 0, 0, 0 },
    { "truncate beyond", { T(12, 3) }, 1, 0, ERR_CORRUPT, 0, 0, 0, 0 },
    { "truncate below snapshot", { S(50, 6), T(50, 6) }, 2, 0, ERR_CORRUPT, 0, 0, 0, 0 },
    { "commit beyond", { E(11, 3) }, 1, 12, ERR_CORRUPT, 0, 0, 0, 0 },
    { "repeated mark, not opening", { SR(5, 1) }, 1, 0, ERR_CORRUPT, 0, 0, 0, 0 },
    { "unknown",
      { { .type = (enum wal_record_type)9, .index = 11 } },
      1,
      0,
      ERR_UNSUPPORTED,
      0,
      0,
      0,
      0 },
};

static void test_effects(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(effects); i++) {
        struct wal_batch b = { .bytes = BLOCK,
                               .record_count = effects[i].count,
                               .before = { 10, 3 },
                               .hard = { 9, 0, effects[i].commit } };
        uint8_t bytes[BLOCK];
        struct wal_effect fx = { .entry_count = 0 };
        wal_batch_encode(&b, effects[i].records, 0, bytes);
        struct wal_batch back;
        assert_int_equal(
            wal_batch_decode((struct slice){ bytes, BLOCK }, 0, BLOCK, BLOCK, &back, &em), OK);
        enum err e = wal_batch_effect(&back, &fx, &em);
        if (e != effects[i].want) fail_msg("%s: %s", effects[i].label, err_name(e));
        if (e != OK) continue;
        uint64_t cut = fx.has_cut ? fx.cut.index : UINT64_MAX;
        bool same = fx.last.index == effects[i].last && fx.run_first == effects[i].run_first &&
                    cut == effects[i].cut && fx.restart.index == effects[i].restart;
        if (!same) fail_msg("%s", effects[i].label);
    }
}

/* A block of a client's that looks like a head: what it claims is read, so it may not claim much. */
static void test_record_count_is_bounded_before_the_heads_are_read(void **state)
{
    (void)state;
    uint8_t bytes[BLOCK] = "CWB1";
    u32_le_put(bytes + 8, WAL_BATCH_BYTES_MAX / BLOCK * BLOCK);
    static const struct {
        uint32_t record_count;
        enum err want;
    } cases[] = { { 1, ERR_CORRUPT },
                  { WAL_RECORDS_MAX, ERR_AGAIN },
                  { WAL_RECORDS_MAX + 1, ERR_CORRUPT },
                  { UINT32_MAX, ERR_CORRUPT } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wal_batch b;
        u32_le_put(bytes + 12, cases[i].record_count);
        enum err got = wal_batch_decode_head((struct slice){ bytes, BLOCK }, 1, BLOCK, UINT64_MAX, &b, &em);
        if (got != cases[i].want) fail_msg("row %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_header_bytes_are_pinned),
        cmocka_unit_test(test_segment_header_numbers_are_checked),
        cmocka_unit_test(test_batch_round_trip_and_pinned_bytes),
        cmocka_unit_test(test_seeds_differ),
        cmocka_unit_test(test_effects),
        cmocka_unit_test(test_record_count_is_bounded_before_the_heads_are_read),
    };
    return cmocka_run_group_tests_name("disk/wal_format", tests, NULL, NULL);
}

/* Slices, numbers, varints, checksums, memory: every edge that a parser above relies on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/base.h"

static uint64_t next_random(uint64_t *draw)
{
    *draw += 0x9e3779b97f4a7c15ULL;
    return u64_mix(*draw);
}

/* --- errors ---------------------------------------------------------------- */

static void test_every_error_has_a_name_a_prefix_and_a_text(void **state)
{
    (void)state;
    assert_string_equal(err_name(OK), "OK");
    for (int e = 1; e < ERR_SENTINEL; e++) {
        assert_int_equal(strncmp(err_name((enum err)e), "ERR_", 4), 0);
        assert_true(strlen(err_text((enum err)e)) > 0);
        const char *prefix = err_prefix((enum err)e);
        assert_true(strlen(prefix) > 0);
        assert_int_equal(strspn(prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), strlen(prefix));
    }
    assert_string_equal(err_name(ERR_NOT_INT), "ERR_NOT_INT");
    assert_string_equal(err_text(ERR_NOT_INT), "value is not an integer or out of range");
    assert_string_equal(err_prefix(ERR_WRONGTYPE), "WRONGTYPE");
}

static void test_errmsg_is_cut_and_always_terminated(void **state)
{
    (void)state;
    struct errmsg em;
    memset(&em, 'x', sizeof em);
    errmsg_set(&em, "%s:%d", "file", 7);
    assert_string_equal(em.text, "file:7");
    char text[ERRMSG_BYTES_MAX * 2];
    memset(text, 'y', sizeof text);
    text[sizeof text - 1] = '\0';
    errmsg_set(&em, "%s", text);
    assert_int_equal(strlen(em.text), ERRMSG_BYTES_MAX - 1);
    errmsg_set(NULL, "%s", "nowhere to go");
}

/* --- slices ---------------------------------------------------------------- */

static const struct {
    struct slice a, b;
    int order; /* the sign */
    bool starts; /* a starts with b */
} pairs[] = {
    { SLICE_NONE, SLICE_NONE, 0, true },
    { SLICE_NONE, { (const uint8_t *)"", 0 }, 0, true },
    { { (const uint8_t *)"a", 1 }, SLICE_NONE, 1, true },
    { SLICE_NONE, { (const uint8_t *)"a", 1 }, -1, false },
    { { (const uint8_t *)"a", 1 }, { (const uint8_t *)"b", 1 }, -1, false },
    { { (const uint8_t *)"ab", 2 }, { (const uint8_t *)"a", 1 }, 1, true },
    { { (const uint8_t *)"a", 1 }, { (const uint8_t *)"ab", 2 }, -1, false },
    { { (const uint8_t *)"b", 1 }, { (const uint8_t *)"ab", 2 }, 1, false },
    { { (const uint8_t *)"\xff", 1 }, { (const uint8_t *)"\x01", 1 }, 1, false }, /* unsigned */
    { { (const uint8_t *)"a\0b", 3 }, { (const uint8_t *)"a\0c", 3 }, -1, false },
    { { (const uint8_t *)"a\0b", 3 }, { (const uint8_t *)"a\0", 2 }, 1, true },
    { { (const uint8_t *)"abc", 3 }, { (const uint8_t *)"abc", 3 }, 0, true },
};

static void test_slices_compare_by_unsigned_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct slice a = pairs[i].a;
        struct slice b = pairs[i].b;
        int order = slice_cmp(a, b);
        int mirrored = slice_cmp(b, a);
        if ((order > 0) - (order < 0) != pairs[i].order) fail_msg("row %zu: order %d", i, order);
        if ((mirrored > 0) - (mirrored < 0) != -pairs[i].order) fail_msg("row %zu, mirrored", i);
        if (slice_eq(a, b) != (pairs[i].order == 0)) fail_msg("row %zu: equality", i);
        if (slice_starts(a, b) != pairs[i].starts) fail_msg("row %zu: prefix", i);
    }
    assert_true(slice_eq(slice_of("abc"), SLICE_LIT("abc")));
    assert_int_equal(slice_of("").len, 0);
}

static void test_slice_is_ignores_ascii_case_only(void **state)
{
    (void)state;
    assert_true(slice_is(SLICE_LIT("GET"), "get"));
    assert_true(slice_is(SLICE_LIT("gEt"), "GeT"));
    assert_true(slice_is(SLICE_NONE, ""));
    assert_false(slice_is(SLICE_LIT("GET"), "GETX"));
    assert_false(slice_is(SLICE_LIT("GETX"), "GET"));
    assert_false(slice_is(SLICE_LIT("GE"), "GET"));
    assert_false(slice_is(SLICE_LIT("get\0"), "get"));
    assert_false(slice_is(SLICE_LIT("@"), "`")); /* beside the letters: bit 0x20 differs too */
    assert_false(slice_is(SLICE_LIT("["), "{"));
    assert_false(slice_is(SLICE_LIT("\xc1"), "\xe1"));
}

/* --- numbers --------------------------------------------------------------- */

static const struct {
    const char *text;
    enum err want_u64, want_i64;
    uint64_t u64;
    int64_t i64;
} numbers[] = {
    { "0", OK, OK, 0, 0 },
    { "7", OK, OK, 7, 7 },
    { "10", OK, OK, 10, 10 },
    { "-1", ERR_NOT_INT, OK, 0, -1 },
    { "-10", ERR_NOT_INT, OK, 0, -10 },
    { "9223372036854775807", OK, OK, INT64_MAX, INT64_MAX },
    { "9223372036854775808", OK, ERR_NOT_INT, 9223372036854775808ULL, 0 },
    { "-9223372036854775808", ERR_NOT_INT, OK, 0, INT64_MIN },
    { "-9223372036854775809", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "18446744073709551615", OK, ERR_NOT_INT, UINT64_MAX, 0 },
    { "18446744073709551616", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "18446744073709551620", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "99999999999999999999", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "-18446744073709551615", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "100000000000000000000", ERR_NOT_INT, ERR_NOT_INT, 0, 0 }, /* 21 digits */
    { "", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "-", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "-0", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "+1", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "00", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "01", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "-01", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "--1", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { " 1", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "1 ", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "1.0", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "1e3", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "0x10", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
    { "1/", ERR_NOT_INT, ERR_NOT_INT, 0, 0 }, /* the byte before '0' */
    { "1:", ERR_NOT_INT, ERR_NOT_INT, 0, 0 }, /* the byte behind '9' */
    { "\xb1", ERR_NOT_INT, ERR_NOT_INT, 0, 0 },
};

static void test_numbers_parse_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        struct slice text = slice_of(numbers[i].text);
        uint64_t u = 42;
        int64_t s = 42;
        enum err got_u64 = u64_parse(text, &u);
        enum err got_i64 = i64_parse(text, &s);
        if (got_u64 != numbers[i].want_u64) fail_msg("u64 '%s': %s", numbers[i].text, err_name(got_u64));
        if (got_i64 != numbers[i].want_i64) fail_msg("i64 '%s': %s", numbers[i].text, err_name(got_i64));
        assert_true(u == (got_u64 == OK ? numbers[i].u64 : 42)); /* unchanged on error */
        assert_true(s == (got_i64 == OK ? numbers[i].i64 : 42));
    }
    uint64_t u = 42;
    assert_int_equal(u64_parse(SLICE_LIT("1\0"), &u), ERR_NOT_INT);
    assert_int_equal(u64_parse(SLICE_NONE, &u), ERR_NOT_INT);
}

static void check_format(uint64_t v)
{
    char want[24];
    char got[24];
    snprintf(want, sizeof want, "%llu", (unsigned long long)v);
    size_t len = u64_format(v, got);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(got, want, len);
    uint64_t back = 0;
    assert_int_equal(u64_parse((struct slice){ (uint8_t *)got, len }, &back), OK);
    assert_true(back == v);

    int64_t s = (int64_t)v;
    snprintf(want, sizeof want, "%lld", (long long)s);
    len = i64_format(s, got);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(got, want, len);
    int64_t signed_back = 0;
    assert_int_equal(i64_parse((struct slice){ (uint8_t *)got, len }, &signed_back), OK);
    assert_true(signed_back == s);
}

static void test_numbers_print_and_parse_back(void **state)
{
    (void)state;
    check_format(0);
    check_format(UINT64_MAX);
    check_format((uint64_t)INT64_MIN);
    for (uint64_t power = 1; power <= UINT64_MAX / 10; power *= 10) {
        check_format(power - 1);
        check_format(power);
        check_format(0 - power);
    }
    for (unsigned bit = 0; bit < 64; bit++) check_format(1ULL << bit);
}

static void test_words_lie_in_memory_as_their_names_say(void **state)
{
    (void)state;
    uint8_t at[9] = { 0xee, 1, 2, 3, 4, 5, 6, 7, 8 }; /* from 1 on: not aligned */
    assert_true(u16_le(at + 1) == 0x0201);
    assert_true(u32_le(at + 1) == 0x04030201);
    assert_true(u64_le(at + 1) == 0x0807060504030201ULL);
    assert_true(u32_be(at + 1) == 0x01020304);
    assert_true(u64_be(at + 1) == 0x0102030405060708ULL);
    uint8_t out[8];
    u16_le_put(out, 0x0201);
    assert_memory_equal(out, at + 1, 2);
    u32_le_put(out, 0x04030201);
    assert_memory_equal(out, at + 1, 4);
    u64_le_put(out, 0x0807060504030201ULL);
    assert_memory_equal(out, at + 1, 8);
    u32_be_put(out, 0x01020304);
    assert_memory_equal(out, at + 1, 4);
    u64_be_put(out, 0x0102030405060708ULL);
    assert_memory_equal(out, at + 1, 8);
}

/* --- varints --------------------------------------------------------------- */

static const struct {
    uint64_t value;
    size_t len;
    uint8_t bytes[10];
} varints[] = {
    { 0, 1, { 0 } },
    { 1, 1, { 1 } },
    { 127, 1, { 0x7f } },
    { 128, 2, { 0x80, 0x01 } },
    { 300, 2, { 0xac, 0x02 } },
    { 16383, 2, { 0xff, 0x7f } },
    { 16384, 3, { 0x80, 0x80, 0x01 } },
    { UINT32_MAX, 5, { 0xff, 0xff, 0xff, 0xff, 0x0f } },
    { INT64_MAX, 9, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f } },
    { 1ULL << 63, 10, { 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01 } },
    { UINT64_MAX, 10, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 } },
};

static void test_varints_have_pinned_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(varints); i++) {
        uint8_t out[10];
        assert_int_equal(varint_put(out, varints[i].value), varints[i].len);
        assert_memory_equal(out, varints[i].bytes, varints[i].len);
        uint64_t back = 42;
        for (size_t len = 0; len < varints[i].len; len++) {
            assert_int_equal(varint_get(out, len, &back), 0);
            assert_true(back == 42);
        }
        assert_int_equal(varint_get(out, varints[i].len, &back), varints[i].len);
        assert_true(back == varints[i].value);
    }
}

static void test_varints_that_are_too_long_are_refused(void **state)
{
    (void)state;
    uint64_t v = 42;
    uint8_t eleven[11];
    memset(eleven, 0x80, sizeof eleven);
    eleven[10] = 0;
    assert_int_equal(varint_get(eleven, sizeof eleven, &v), 0);
    uint8_t too_large[10]; /* a 65th bit */
    memset(too_large, 0xff, sizeof too_large);
    too_large[9] = 0x02;
    assert_int_equal(varint_get(too_large, sizeof too_large, &v), 0);
    too_large[9] = 0x81; /* goes on behind the tenth byte */
    assert_int_equal(varint_get(too_large, sizeof too_large, &v), 0);
    assert_true(v == 42);
    uint8_t padded[2] = { 0x80, 0x00 }; /* longer than needed, but not ambiguous in length */
    assert_int_equal(varint_get(padded, sizeof padded, &v), 2);
    assert_true(v == 0);
}

/* --- checksums and hashes --------------------------------------------------- */

/* RFC 3720, B.4; its last row is a SCSI read command. */
static void test_crc32c_gives_the_published_values(void **state)
{
    (void)state;
    static const uint8_t command[48] = {
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
    };
    uint8_t bytes[32];
    memset(bytes, 0, sizeof bytes);
    assert_true(crc32c(0, bytes, sizeof bytes) == 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_true(crc32c(0, bytes, sizeof bytes) == 0x62a8ab43);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)i;
    assert_true(crc32c(0, bytes, sizeof bytes) == 0x46dd794e);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(31 - i);
    assert_true(crc32c(0, bytes, sizeof bytes) == 0x113fdb5c);
    assert_true(crc32c(0, command, sizeof command) == 0xd9963a56);
    assert_true(crc32c(0, "123456789", 9) == 0xe3069283);
    assert_true(crc32c(0, "", 0) == 0);
    assert_true(crc32c(0x12345678, "", 0) == 0x12345678);
}

static uint32_t crc32c_by_bits(const uint8_t *at, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void test_crc32c_of_any_length_start_and_split(void **state)
{
    (void)state;
    uint8_t bytes[96];
    uint64_t draw = 1;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)next_random(&draw);
    for (size_t from = 0; from < 8; from++) {
        for (size_t len = 0; len + from <= sizeof bytes; len++) {
            uint32_t want = crc32c_by_bits(bytes + from, len);
            assert_true(crc32c(0, bytes + from, len) == want);
            for (size_t cut = 0; cut <= len; cut += 5) {
                uint32_t first = crc32c(0, bytes + from, cut);
                assert_true(crc32c(first, bytes + from + cut, len - cut) == want);
            }
        }
    }
}

/* Long ones go in three lanes; around each length at which another way is taken. */
static void test_crc32c_of_long_blocks(void **state)
{
    (void)state;
    enum { BYTES_MAX = 9000 };
    static uint8_t bytes[BYTES_MAX];
    uint64_t draw = 7;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)next_random(&draw);
    for (size_t around = 192; around <= BYTES_MAX - 16; around += 192) {
        for (size_t len = around - 9; len <= around + 9; len += 3) {
            uint32_t want = crc32c_by_bits(bytes + 3, len);
            assert_true(crc32c(0, bytes + 3, len) == want);
            size_t cut = len / 3;
            assert_true(crc32c(crc32c(0, bytes + 3, cut), bytes + 3 + cut, len - cut) == want);
        }
    }
    bytes[4000] ^= 1; /* a bit in the middle of a lane */
    uint32_t before = crc32c(0, bytes, BYTES_MAX);
    bytes[4000] ^= 1;
    assert_true(crc32c(0, bytes, BYTES_MAX) != before);
}

static void test_hash_depends_on_every_bit_the_length_and_the_seed(void **state)
{
    (void)state;
    uint8_t bytes[67] = { 0 };
    uint64_t shorter = ~bytes_hash(bytes, 0, 9);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        uint64_t hash = bytes_hash(bytes, len, 9);
        assert_true(hash == bytes_hash(bytes, len, 9));
        assert_true(hash != shorter);
        assert_true(hash != bytes_hash(bytes, len, 10));
        shorter = hash;
        for (size_t bit = 0; bit < len * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (bytes_hash(bytes, len, 9) == hash) fail_msg("length %zu, bit %zu", len, bit);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

/* Words that differ in one bit share half of the bits of their mix, more or less. */
static void test_mix_spreads_every_bit(void **state)
{
    (void)state;
    uint64_t draw = 7;
    for (int round = 0; round < 100; round++) {
        uint64_t v = next_random(&draw);
        for (unsigned bit = 0; bit < 64; bit++) {
            int changed = __builtin_popcountll(u64_mix(v) ^ u64_mix(v ^ 1ULL << bit));
            assert_in_range(changed, 8, 56);
        }
    }
    assert_true(u64_mix(1) != u64_mix(2));
}

/* --- memory ------------------------------------------------------------------ */

/* How many pages of [at, at + bytes) are there; at is aligned. */
static size_t resident_pages(void *at, size_t bytes)
{
    unsigned char there[4 * MEM_AHEAD_BYTES / 4096];
    size_t count = 0;
    assert_true(bytes / 4096 <= sizeof there);
    assert_int_equal(mincore(at, bytes, there), 0);
    for (size_t i = 0; i < bytes / 4096; i++) count += there[i] & 1;
    return count;
}

static void test_memory_ahead_is_there_before_it_is_touched(void **state)
{
    (void)state;
    size_t bytes = 4 * MEM_AHEAD_BYTES;
    uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    struct mem_ahead ahead = { 0 };
    mem_ahead_note(&ahead, at + 16); /* says where it begins */
    assert_int_equal(resident_pages(at, bytes), 0);
    mem_ahead_note(&ahead, at + 400);
    assert_int_equal(resident_pages(at, bytes), 0);
    at[5000] = 7;
    mem_ahead_note(&ahead, at + 4200); /* passed the first page */
    if (resident_pages(at, bytes) == 1) {
        munmap(at, bytes);
        skip(); /* a kernel before 5.14 */
    }
    assert_int_equal(resident_pages(at, bytes), MEM_AHEAD_BYTES / 4096);
    assert_int_equal(at[5000], 7);
    mem_ahead_note(&ahead, at + 2 * MEM_AHEAD_BYTES + 9000); /* too far: begins anew there */
    mem_ahead_note(&ahead, at + 100);                        /* and far behind */
    mem_ahead_note(&ahead, at + 100);
    assert_int_equal(resident_pages(at, bytes), MEM_AHEAD_BYTES / 4096);
    munmap(at, bytes);
}

static void test_memory_is_never_null(void **state)
{
    (void)state;
    uint8_t *zeros = mem_zalloc(100);
    for (size_t i = 0; i < 100; i++) assert_int_equal(zeros[i], 0);
    assert_true(mem_usable(zeros) >= 100);
    zeros[99] = 7;
    zeros = mem_realloc(zeros, 5000);
    assert_int_equal(zeros[99], 7);
    mem_free(zeros);

    uint8_t *aligned = mem_align(4096, 100);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    memset(aligned, 1, 100);
    mem_free(aligned);

    char *copy = mem_copy("abc", 4);
    assert_string_equal(copy, "abc");
    mem_free(copy);
    void *nothing[] = { mem_alloc(0), mem_zalloc(0), mem_copy(NULL, 0), mem_realloc(NULL, 0) };
    for (size_t i = 0; i < ARRAY_LEN(nothing); i++) {
        assert_non_null(nothing[i]);
        mem_free(nothing[i]);
    }
    mem_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_error_has_a_name_a_prefix_and_a_text),
        cmocka_unit_test(test_errmsg_is_cut_and_always_terminated),
        cmocka_unit_test(test_slices_compare_by_unsigned_bytes),
        cmocka_unit_test(test_slice_is_ignores_ascii_case_only),
        cmocka_unit_test(test_numbers_parse_strictly),
        cmocka_unit_test(test_numbers_print_and_parse_back),
        cmocka_unit_test(test_words_lie_in_memory_as_their_names_say),
        cmocka_unit_test(test_varints_have_pinned_bytes),
        cmocka_unit_test(test_varints_that_are_too_long_are_refused),
        cmocka_unit_test(test_crc32c_gives_the_published_values),
        cmocka_unit_test(test_crc32c_of_any_length_start_and_split),
        cmocka_unit_test(test_crc32c_of_long_blocks),
        cmocka_unit_test(test_hash_depends_on_every_bit_the_length_and_the_seed),
        cmocka_unit_test(test_mix_spreads_every_bit),
        cmocka_unit_test(test_memory_ahead_is_there_before_it_is_touched),
        cmocka_unit_test(test_memory_is_never_null),
    };
    return cmocka_run_group_tests_name("base/base", tests, NULL, NULL);
}

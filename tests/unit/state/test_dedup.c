/* Exactly once: tables of sequences, and random deliveries against a set of what was applied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "state/dedup.h"

static const struct {
    uint64_t member;
    uint32_t incarnation;
    uint64_t seq, floor;
    enum dedup_verdict want;
} steps[] = {
    { 1, 1, 1, 1, DEDUP_APPLY },
    { 1, 1, 2, 1, DEDUP_APPLY },
    { 1, 1, 2, 1, DEDUP_DUPLICATE },
    { 1, 1, 1, 1, DEDUP_DUPLICATE },
    { 1, 1, 5, 1, DEDUP_APPLY },      /* a gap: 3 and 4 may still come */
    { 1, 1, 5, 1, DEDUP_DUPLICATE },
    { 1, 1, 4, 1, DEDUP_APPLY },
    { 1, 1, 3, 1, DEDUP_APPLY },
    { 1, 1, 3, 1, DEDUP_DUPLICATE },
    { 1, 1, 6, 1, DEDUP_APPLY },
    { 1, 1, 7, 7, DEDUP_APPLY },      /* the origin has its answers up to 6 */
    { 1, 1, 6, 1, DEDUP_BELOW_FLOOR },
    { 1, 1, 7, 1, DEDUP_DUPLICATE },  /* an older floor does not lower it */
    { 1, 1, 9, 12, DEDUP_BELOW_FLOOR },
    { 1, 1, 12, 12, DEDUP_APPLY },
    { 2, 9, 1, 0, DEDUP_APPLY },      /* another member has sequences of its own */
    { 1, 1, 13, 12, DEDUP_APPLY },
    { 1, 2, 1, 1, DEDUP_APPLY },      /* started again */
    { 1, 1, 14, 12, DEDUP_STALE },
    { 1, 2, 1 + 65535, 1, DEDUP_APPLY },
    { 1, 2, 1 + 65536, 1, DEDUP_TOO_FAR },
    { 1, 2, 1 + 65536, 2, DEDUP_APPLY },
    { 1, 2, 1 + 65535, 2, DEDUP_DUPLICATE },
    { 1, 2, 2, 2, DEDUP_APPLY },
    { 1, 2, 200000, 200000, DEDUP_APPLY },
    { 1, 2, 2 + 200000, 200000, DEDUP_APPLY },
    { 1, 2, 65537 + 131072 + 65536, 200000, DEDUP_APPLY }, /* no bit of old times is left */
};

static void test_table(void **state)
{
    (void)state;
    struct dedup d;
    dedup_init(&d);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        enum dedup_verdict got = dedup_check(&d, steps[i].member, steps[i].incarnation,
                                             steps[i].seq, steps[i].floor);
        if (got != steps[i].want) fail_msg("step %zu: got %d", i, got);
        dedup_verify(&d);
    }
    dedup_deinit(&d);
}

static void test_window_also_bounds_sequences_without_gaps(void **state)
{
    (void)state;
    struct dedup d;
    dedup_init(&d);
    for (uint64_t seq = 1; seq <= DEDUP_WINDOW; seq++) {
        assert_int_equal(dedup_check(&d, 1, 1, seq, 1), DEDUP_APPLY);
    }
    assert_int_equal(dedup_check(&d, 1, 1, 1 + DEDUP_WINDOW, 1), DEDUP_TOO_FAR);
    assert_int_equal(dedup_check(&d, 1, 1, 1 + DEDUP_WINDOW, 2), DEDUP_APPLY);
    dedup_verify(&d);
    dedup_deinit(&d);
}

static void test_raise_fences_older_incarnations(void **state)
{
    (void)state;
    struct dedup d;
    dedup_init(&d);
    assert_true(dedup_raise(&d, 1, 3));
    assert_int_equal(dedup_check(&d, 1, 2, 1, 1), DEDUP_STALE);
    assert_int_equal(dedup_check(&d, 1, 3, 1, 1), DEDUP_APPLY);
    assert_true(dedup_raise(&d, 1, 3)); /* the same: nothing is forgotten */
    assert_true(dedup_raise(&d, 1, 2));
    assert_int_equal(dedup_check(&d, 1, 3, 1, 1), DEDUP_DUPLICATE);
    assert_true(dedup_raise(&d, 1, 4));
    assert_int_equal(dedup_check(&d, 1, 3, 2, 1), DEDUP_STALE);
    assert_int_equal(dedup_find(&d, 1)->incarnation, 4);
    dedup_deinit(&d);
}

static void test_gone_members_stay_gone(void **state)
{
    (void)state;
    struct dedup d;
    dedup_init(&d);
    assert_int_equal(dedup_check(&d, 1, 1, 1, 1), DEDUP_APPLY);
    assert_int_equal(dedup_check(&d, 2, 1, 1, 1), DEDUP_APPLY);
    dedup_remove(&d, 1);
    dedup_remove(&d, 1);
    dedup_remove(&d, 3); /* never heard of */
    assert_null(dedup_find(&d, 1));
    assert_int_equal(dedup_check(&d, 1, 9, 2, 1), DEDUP_STALE);
    assert_int_equal(dedup_check(&d, 3, 1, 1, 1), DEDUP_STALE);
    assert_false(dedup_raise(&d, 1, 10));
    assert_int_equal(dedup_check(&d, 2, 1, 2, 1), DEDUP_APPLY);
    assert_int_equal(d.gone_count, 2);
    for (uint64_t member = 100; member < 100 + DEDUP_GONE_COUNT_MAX; member++) {
        dedup_remove(&d, member);
    }
    assert_int_equal(d.gone_count, DEDUP_GONE_COUNT_MAX);
    dedup_verify(&d);
    dedup_deinit(&d);
}

static void test_number_of_origins_is_bounded(void **state)
{
    (void)state;
    struct dedup d;
    dedup_init(&d);
    for (uint64_t member = 1; member <= DEDUP_ORIGIN_COUNT_MAX; member++) {
        assert_int_equal(dedup_check(&d, member, 1, 1, 1), DEDUP_APPLY);
    }
    assert_int_equal(dedup_check(&d, 1000, 1, 1, 1), DEDUP_TOO_FAR);
    assert_false(dedup_raise(&d, 1000, 1));
    dedup_remove(&d, 5);
    assert_int_equal(dedup_check(&d, 1000, 1, 1, 1), DEDUP_APPLY);
    dedup_deinit(&d);
}

/* --- random --------------------------------------------------------------------------- */

#define SEQS 100000

static struct dedup copied(const struct dedup *d)
{
    struct dedup back;
    struct buf bytes = { 0 }, again = { 0 };
    dedup_encode(d, &bytes);
    dedup_init(&back);
    assert_int_equal(dedup_decode(&back, buf_slice(&bytes)), OK);
    dedup_verify(&back);
    dedup_encode(&back, &again);
    assert_true(slice_eq(buf_slice(&bytes), buf_slice(&again)));
    buf_deinit(&bytes);
    buf_deinit(&again);
    return back;
}

/* Sequences come out of order, twice, late; the floor goes up now and then; now and then the
 * windows go through bytes. Nothing is applied twice and nothing above the floor is lost. */
static void test_random_deliveries(void **state)
{
    (void)state;
    static bool applied[SEQS];
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct dedup d;
        static const uint64_t spreads[] = { 5, 200, 70000, 70000 };
        uint64_t random = seed << 40, floor_seq = 1, spread = spreads[seed];
        memset(applied, 0, sizeof applied);
        dedup_init(&d);
        for (size_t i = 0; i < 60000; i++) {
            uint64_t r = u64_mix(random++);
            uint64_t seq = floor_seq + r % spread;
            seq = r >> 60 == 0 && seq > 100 ? seq - 100 : seq;
            if (seq >= SEQS) break;
            enum dedup_verdict want = seq < floor_seq ? DEDUP_BELOW_FLOOR
                                      : seq - floor_seq >= DEDUP_WINDOW ? DEDUP_TOO_FAR
                                      : applied[seq] ? DEDUP_DUPLICATE : DEDUP_APPLY;
            assert_int_equal(dedup_check(&d, 7, 1, seq, floor_seq), want);
            if (want == DEDUP_APPLY) applied[seq] = true;
            if ((r >> 32) % 8 == 0) floor_seq += (r >> 20) % 3;
            if (i % 5000 == 0) {
                struct dedup back = copied(&d);
                dedup_deinit(&d);
                d = back;
            }
        }
        dedup_verify(&d);
        dedup_deinit(&d);
    }
}

/* --- bytes ---------------------------------------------------------------------------- */

static const uint8_t pinned[] = {
    1,                               /* version */
    1,                               /* origins */
    7, 0, 0, 0, 0, 0, 0, 0,          /* member */
    3, 0, 0, 0,                      /* incarnation */
    10, 2, 4, 0x0a,                  /* floor 10, dense 12, top 16, applied above dense: 13, 15 */
    1,                               /* gone */
    9, 0, 0, 0, 0, 0, 0, 0,
};

static void test_bytes_are_pinned(void **state)
{
    (void)state;
    struct dedup d;
    struct buf out = { 0 };
    dedup_init(&d);
    static const uint64_t seqs[] = { 10, 11, 13, 15 };
    for (size_t i = 0; i < ARRAY_LEN(seqs); i++) {
        assert_int_equal(dedup_check(&d, 7, 3, seqs[i], 10), DEDUP_APPLY);
    }
    dedup_remove(&d, 9);
    dedup_encode(&d, &out);
    assert_int_equal(out.len, sizeof pinned);
    assert_memory_equal(out.at, pinned, sizeof pinned);
    buf_deinit(&out);
    dedup_deinit(&d);
}

static void test_decode_refuses_cut_and_impossible_bytes(void **state)
{
    (void)state;
    struct dedup d;
    dedup_init(&d);
    for (size_t len = 0; len < sizeof pinned; len++) {
        assert_int_equal(dedup_decode(&d, (struct slice){ pinned, len }), ERR_CORRUPT);
        assert_int_equal(d.origin_count, 0);
    }
    static const struct {
        size_t at;
        uint8_t byte;
    } damages[] = {
        { 0, 2 },     /* version */
        { 1, 65 },    /* too many origins */
        { 17, 0x0b }, /* dense was applied */
        { 17, 0x02 }, /* nothing at top */
        { 17, 0x1a }, /* a bit beyond top */
        { 18, 2 },    /* more gone than bytes */
        { 19, 7 },    /* gone and here */
    };
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        uint8_t bytes[sizeof pinned];
        memcpy(bytes, pinned, sizeof pinned);
        bytes[damages[i].at] = damages[i].byte;
        if (dedup_decode(&d, (struct slice){ bytes, sizeof bytes }) != ERR_CORRUPT) {
            fail_msg("damage %zu was accepted", i);
        }
    }
    assert_int_equal(dedup_decode(&d, (struct slice){ pinned, sizeof pinned }), OK);
    dedup_verify(&d);
    assert_int_equal(dedup_check(&d, 7, 3, 13, 10), DEDUP_DUPLICATE);
    assert_int_equal(dedup_check(&d, 7, 3, 12, 10), DEDUP_APPLY);
    assert_int_equal(dedup_check(&d, 9, 3, 12, 10), DEDUP_STALE);
    dedup_deinit(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_window_also_bounds_sequences_without_gaps),
        cmocka_unit_test(test_raise_fences_older_incarnations),
        cmocka_unit_test(test_gone_members_stay_gone),
        cmocka_unit_test(test_number_of_origins_is_bounded),
        cmocka_unit_test(test_random_deliveries),
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_decode_refuses_cut_and_impossible_bytes),
    };
    return cmocka_run_group_tests_name("state/dedup", tests, NULL, NULL);
}

/* Which revision automatic compaction asks for: by time, by count, by bytes; and the samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "state/retention.h"

/* Limits all off, nothing protected. */
static struct settings limits(uint64_t retain_ms, uint64_t revs, uint64_t bytes, uint64_t revs_min)
{
    struct settings s;
    settings_init(&s);
    s.retain_ms = retain_ms;
    s.retain_revs = revs;
    s.retain_history_bytes = bytes;
    s.retain_revs_min = revs_min;
    return s;
}

static void check_samples(const struct retention *r)
{
    assert_true(r->count <= RETENTION_SAMPLE_COUNT_MAX);
    for (size_t i = 1; i < r->count; i++) {
        assert_true(r->samples[i].rev > r->samples[i - 1].rev);
        assert_true(r->samples[i].stamp_ms >= r->samples[i - 1].stamp_ms);
    }
}

/* One revision a second for two hours, kept for one hour. */
static void test_by_time(void **state)
{
    (void)state;
    struct settings s = limits(3600000, 0, 0, 0);
    struct retention r;
    retention_init(&r);
    uint64_t compacted = 0, requests = 0;
    for (uint64_t second = 1; second <= 7200; second++) {
        retention_note(&r, &s, second * 1000, second);
        struct retention_now now = { second * 1000, second, compacted, 0 };
        uint64_t rev = retention_due(&r, &s, &now);
        if (second <= 3600) assert_int_equal(rev, 0);
        if (rev == 0) continue;
        assert_true(rev <= second - 3600);                /* never too early */
        assert_true(rev + 2 * 57 >= second - 3600);       /* and not much too late */
        compacted = rev;
        requests++;
        retention_compacted(&r, compacted);
    }
    assert_true(requests >= 60 && requests <= 66); /* once a part, not once a second */
    check_samples(&r);
}

static void test_by_count(void **state)
{
    (void)state;
    struct settings s = limits(0, 6400, 0, 0);
    struct retention r;
    retention_init(&r);
    uint64_t compacted = 0, requests = 0;
    for (uint64_t rev = 2; rev <= 20000; rev++) {
        retention_note(&r, &s, 5, rev);
        struct retention_now now = { 5, rev, compacted, 0 };
        uint64_t due = retention_due(&r, &s, &now);
        if (rev - compacted < 6400 + 100) assert_int_equal(due, 0);
        if (due == 0) continue;
        assert_int_equal(due, rev - 6400);
        compacted = due;
        requests++;
        retention_compacted(&r, compacted);
    }
    assert_int_equal(requests, 136);
}

static const struct {
    const char *label;
    uint64_t bytes_max, revs_min;
    struct retention_now now;
    uint64_t low, high; /* both 0: not due */
} by_bytes[] = {
    { "below the limit", 1000, 0, { 0, 5000, 0, 1000 }, 0, 0 },
    { "twice the limit: half goes", 1000, 0, { 0, 5000, 0, 2000 }, 2500, 2600 },
    { "counted from the compacted one", 1000, 0, { 0, 5000, 4000, 2000 }, 4500, 4520 },
    { "the newest are protected", 1000, 10000, { 0, 15000, 0, 2000000 }, 5000, 5000 },
    { "all are protected", 1000, 10000, { 0, 9000, 0, 2000000 }, 0, 0 },
    { "protected ones are left", 1000, 10000, { 0, 15000, 5000, 2000000 }, 0, 0 },
    { "huge", 512ULL << 20, 0, { 0, 1ULL << 62, 0, 1ULL << 60 }, (1ULL << 62) - (1ULL << 33) * 2,
      1ULL << 62 },
    { "no such limit", 0, 0, { 0, 5000, 0, 1ULL << 60 }, 0, 0 },
};

static void test_by_bytes_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(by_bytes); i++) {
        struct settings s = limits(0, 0, by_bytes[i].bytes_max, by_bytes[i].revs_min);
        struct retention r;
        retention_init(&r);
        uint64_t got = retention_due(&r, &s, &by_bytes[i].now);
        if (got < by_bytes[i].low || got > by_bytes[i].high) {
            fail_msg("%s: got %llu", by_bytes[i].label, (unsigned long long)got);
        }
    }
}

static void test_the_strictest_limit_wins_and_the_newest_stay(void **state)
{
    (void)state;
    struct settings s = limits(1000, 100, 0, 50);
    struct retention r;
    retention_init(&r);
    for (uint64_t rev = 1; rev <= 200; rev++) retention_note(&r, &s, rev * 10, rev);
    struct retention_now now = { 2000, 200, 0, 0 };
    assert_int_equal(retention_due(&r, &s, &now), 100);
    now.stamp_ms = 1000000; /* long ago, all of it */
    assert_int_equal(retention_due(&r, &s, &now), 150);
    now.compacted = 150;
    assert_int_equal(retention_due(&r, &s, &now), 0);
    s = limits(0, 0, 0, 0);
    now.compacted = 0;
    assert_int_equal(retention_due(&r, &s, &now), 0);
}

static void test_samples_are_bounded_without_compaction(void **state)
{
    (void)state;
    struct settings s = limits(6400, 6400, 0, 0);
    struct retention r;
    retention_init(&r);
    for (uint64_t i = 1; i <= 100000; i++) {
        retention_note(&r, &s, i * 100, i * 50);
        check_samples(&r);
    }
    assert_true(r.count >= RETENTION_SAMPLE_COUNT_MAX / 2);
    assert_int_equal(r.samples[0].rev, 50); /* the span is kept */
    assert_int_equal(r.samples[r.count - 1].rev, 100000 * 50 / 100 * 100);
}

static void test_samples_need_a_new_revision(void **state)
{
    (void)state;
    struct settings s = limits(6400, 6400, 0, 0);
    struct retention r;
    retention_init(&r);
    retention_note(&r, &s, 1000, 10);
    retention_note(&r, &s, 1000000, 10);
    assert_int_equal(r.count, 1);
    retention_note(&r, &s, 1000050, 11);
    assert_int_equal(r.count, 2);
    retention_note(&r, &s, 1000050, 12); /* neither a part of the time nor of the revisions */
    assert_int_equal(r.count, 2);
    retention_note(&r, &s, 1000050, 111);
    assert_int_equal(r.count, 3);
    retention_compacted(&r, 11);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.samples[0].rev, 111);
}

static void test_bytes(void **state)
{
    (void)state;
    static const uint8_t want[] = { 1, 2, 0xe8, 7, 5, 0, 0x80, 2 };
    struct retention r = { .samples = { { 1000, 5 }, { 1000, 261 } }, .count = 2 }, back;
    struct buf out = { 0 };
    retention_encode(&r, &out);
    assert_int_equal(out.len, sizeof want);
    assert_memory_equal(out.at, want, sizeof want);
    retention_init(&back);
    for (size_t len = 0; len < out.len; len++) {
        assert_int_equal(retention_decode(&back, (struct slice){ out.at, len }), ERR_CORRUPT);
        assert_int_equal(back.count, 0);
    }
    assert_int_equal(retention_decode(&back, buf_slice(&out)), OK);
    assert_int_equal(back.count, 2);
    assert_memory_equal(back.samples, r.samples, 2 * sizeof r.samples[0]);
    buf_append_u8(&out, 0);
    assert_int_equal(retention_decode(&back, buf_slice(&out)), ERR_CORRUPT);
    buf_deinit(&out);
    struct slice same_rev = SLICE_LIT("\1\2\1\1\1\0");
    assert_int_equal(retention_decode(&back, same_rev), ERR_CORRUPT);
    struct slice wraps = SLICE_LIT("\1\2\1\1\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\1");
    assert_int_equal(retention_decode(&back, wraps), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_time),
        cmocka_unit_test(test_by_count),
        cmocka_unit_test(test_by_bytes_table),
        cmocka_unit_test(test_the_strictest_limit_wins_and_the_newest_stay),
        cmocka_unit_test(test_samples_are_bounded_without_compaction),
        cmocka_unit_test(test_samples_need_a_new_revision),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests_name("state/retention", tests, NULL, NULL);
}

/* Replicated settings: the table itself, values in and out, bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "state/settings.h"

static bool prints(const struct settings *s, const struct setting_row *row, const char *want)
{
    struct buf out = { 0 };
    settings_get(s, row, &out);
    bool same = slice_eq(buf_slice(&out), slice_of(want));
    buf_deinit(&out);
    return same;
}

static void test_rows_are_sound(void **state)
{
    (void)state;
    struct settings s;
    settings_init(&s);
    assert_int_equal(setting_row_count * sizeof(uint64_t), sizeof s); /* every field has a row */
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting_row *row = &setting_rows[i];
        assert_true(row->min <= row->fallback && row->fallback <= row->max);
        assert_ptr_equal(setting_find(slice_of(row->name)), row);
        assert_true(row->help[strlen(row->help) - 1] == '.');
        assert_true(row->unit[0] != '\0');
        for (size_t j = 0; j < i; j++) assert_true(setting_rows[j].offset != row->offset);
        struct buf out = { 0 };
        settings_get(&s, row, &out);
        assert_int_equal(settings_set(&s, slice_of(row->name), buf_slice(&out), NULL), OK);
        buf_deinit(&out);
    }
    assert_int_equal(settings_hash(&s), 0);
}

static void test_defaults(void **state)
{
    (void)state;
    struct settings s;
    settings_init(&s);
    assert_int_equal(s.key_bytes_max, 4096);
    assert_int_equal(s.value_bytes_max, 1048576);
    assert_int_equal(s.request_bytes_max, 1572864);
    assert_int_equal(s.txn_ops_max, 128);
    assert_int_equal(s.op_keys_max, 10000);
    assert_int_equal(s.quota_bytes, 8ULL << 30);
    assert_int_equal(s.retain_ms, 3600000);
    assert_int_equal(s.retain_revs, 1000000);
    assert_int_equal(s.retain_history_bytes, 512u << 20);
    assert_int_equal(s.retain_revs_min, 10000);
    assert_int_equal(s.notify_keyspace_events, 0);
}

static const struct {
    const char *name, *value;
    enum err want;
    const char *prints;
} sets[] = {
    { "key-max-bytes", "1", OK, "1" },
    { "KEY-Max-bytes", "65534", OK, "65534" },
    { "key-max-bytes", "65535", ERR_CONFIG, "4096" },
    { "key-max-bytes", "0", ERR_CONFIG, "4096" },
    { "key-max-bytes", "4kb", OK, "4096" },
    { "key-max-bytes", "4K", OK, "4000" },
    { "value-max-bytes", "8mb", OK, "8388608" },
    { "value-max-bytes", "8388609", ERR_CONFIG, "1048576" },
    { "value-max-bytes", "1gb", ERR_CONFIG, "1048576" },
    { "quota-bytes", "2GB", OK, "2147483648" },
    { "quota-bytes", "0", OK, "0" },
    { "quota-bytes", "100000000000gb", ERR_CONFIG, "8589934592" },
    { "quota-bytes", "18446744073709551615", ERR_CONFIG, "8589934592" },
    { "quota-bytes", "18446744073709551616", ERR_CONFIG, "8589934592" },
    { "quota-bytes", "", ERR_CONFIG, "8589934592" },
    { "quota-bytes", "gb", ERR_CONFIG, "8589934592" },
    { "quota-bytes", "-1", ERR_CONFIG, "8589934592" },
    { "quota-bytes", "1 gb", ERR_CONFIG, "8589934592" },
    { "quota-bytes", "1gbx", ERR_CONFIG, "8589934592" },
    { "retain-ms", "2h", OK, "7200000" },
    { "retain-ms", "90s", OK, "90000" },
    { "retain-ms", "5ms", OK, "5" },
    { "retain-ms", "5kb", ERR_CONFIG, "3600000" },
    { "retain-revs", "5kb", ERR_CONFIG, "1000000" },
    { "retain-revs", "0", OK, "0" },
    { "notify-keyspace-events", "", OK, "" },
    { "notify-keyspace-events", "KEA", OK, "AKE" },
    { "notify-keyspace-events", "Ex", OK, "xE" },
    { "notify-keyspace-events", "Kn$glshzxetdm", OK, "AnKm" },
    { "notify-keyspace-events", "g$n", OK, "g$n" },
    { "notify-keyspace-events", "KEq", ERR_CONFIG, "" },
    { "no-such-setting", "1", ERR_NOT_FOUND, NULL },
    { "", "1", ERR_NOT_FOUND, NULL },
};

static void test_set_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        struct settings s, before;
        struct errmsg em = { "" };
        settings_init(&s);
        before = s;
        enum err got = settings_set(&s, slice_of(sets[i].name), slice_of(sets[i].value), &em);
        const struct setting_row *row = setting_find(slice_of(sets[i].name));
        bool fits = got == sets[i].want && (row == NULL || prints(&s, row, sets[i].prints));
        if (!fits) fail_msg("%s %s: got %s", sets[i].name, sets[i].value, err_name(got));
        if (got == ERR_CONFIG) assert_non_null(strstr(em.text, row->name));
        if (got != OK) assert_memory_equal(&s, &before, sizeof s);
        assert_int_equal(settings_hash(&s) == 0, memcmp(&s, &before, sizeof s) == 0);
    }
}

static void sample(struct settings *s)
{
    settings_init(s);
    s->quota_bytes = 12345;
    s->retain_ms = 0;
    s->notify_keyspace_events = NOTIFY_ALL | NOTIFY_KEYEVENT;
}

static void test_bytes_round_trip(void **state)
{
    (void)state;
    struct settings s, back;
    struct buf out = { 0 };
    sample(&s);
    settings_encode(&s, &out);
    settings_init(&back);
    assert_int_equal(settings_decode(&back, buf_slice(&out), NULL), OK);
    assert_memory_equal(&s, &back, sizeof s);
    assert_int_equal(settings_hash(&s), settings_hash(&back));
    for (size_t len = 0; len < out.len; len++) {
        struct errmsg em;
        assert_int_not_equal(settings_decode(&back, (struct slice){ out.at, len }, &em), OK);
        assert_memory_equal(&s, &back, sizeof s);
    }
    buf_append_u8(&out, 0);
    assert_int_equal(settings_decode(&back, buf_slice(&out), NULL), ERR_CORRUPT);
    buf_deinit(&out);
}

static void test_bytes_are_pinned(void **state)
{
    (void)state;
    static const char want[] = "\1\16"
                               "\15key-max-bytes\4" "4096"
                               "\17value-max-bytes\7" "1048576";
    struct settings s;
    struct buf out = { 0 };
    settings_init(&s);
    settings_encode(&s, &out);
    assert_memory_equal(out.at, want, sizeof want - 1);
    buf_deinit(&out);
}

static const struct {
    const char *label;
    struct slice bytes;
    enum err want;
} decodes[] = {
    { "nothing set", SLICE_LIT("\1\0"), OK },
    { "one", SLICE_LIT("\1\1\15key-max-bytes\2" "99"), OK },
    { "later format", SLICE_LIT("\2\0"), ERR_UNSUPPORTED },
    { "later name", SLICE_LIT("\1\1\3new\1" "1"), ERR_UNSUPPORTED },
    { "bad value", SLICE_LIT("\1\1\15key-max-bytes\1x"), ERR_CORRUPT },
    { "out of range", SLICE_LIT("\1\1\15key-max-bytes\1" "0"), ERR_CORRUPT },
    { "empty", SLICE_LIT(""), ERR_CORRUPT },
};

static void test_decode_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(decodes); i++) {
        struct settings s;
        struct errmsg em;
        sample(&s);
        enum err got = settings_decode(&s, decodes[i].bytes, &em);
        if (got != decodes[i].want) fail_msg("%s: got %s", decodes[i].label, err_name(got));
        assert_int_equal(s.quota_bytes, got == OK ? 8ULL << 30 : 12345); /* missing: default */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_sound),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_set_table),
        cmocka_unit_test(test_bytes_round_trip),
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_decode_table),
    };
    return cmocka_run_group_tests_name("state/settings", tests, NULL, NULL);
}

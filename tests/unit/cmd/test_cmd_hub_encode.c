/* tests/unit/cmd/test_cmd_hub_encode.c - the bytes of events, pinned; and the names of streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/cmd_hub_int.h"

static void assert_bytes(const struct buf *got, const char *want)
{
    if (!slice_eq(buf_slice(got), slice_of(want))) {
        fail_msg("got %.*s\nwant %s", (int)got->len, (const char *)got->at, want);
    }
}

static struct hub_event put_event(void)
{
    return (struct hub_event){ .op = "put", .key = SLICE_LIT("\0cfg/a"), .value = SLICE_LIT("1"), .rev = 105,
                               .n = 2, .create = 90, .version = 3, .lease = 7, .prev = SLICE_LIT("0"),
                               .prev_rev = 104 };
}

static struct hub_event del_event(void)
{
    return (struct hub_event){ .op = "del", .key = SLICE_LIT("\0k"), .rev = 6, .n = 1, .prev_rev = -1 };
}

static void test_push_frames(void **state)
{
    (void)state;
    struct hub_event e = put_event();
    struct buf out = { 0 };
    uint8_t head[HUB_HEAD_BYTES_MAX];
    buf_append(&out, head, hub_encode_head(head, 7, false));
    hub_encode_tail(&out, &e, 0);
    assert_bytes(&out, ">9\r\n$7\r\nkvwatch\r\n:7\r\n:105\r\n$3\r\nput\r\n$5\r\ncfg/a\r\n$1\r\n1\r\n:90\r\n:3\r\n:7\r\n");
    buf_clear(&out);
    buf_append(&out, head, hub_encode_head(head, HUB_WATCH_ID_MAX, true));
    hub_encode_tail(&out, &e, TAIL_PREV);
    assert_bytes(&out, ">11\r\n$7\r\nkvwatch\r\n:9007199254740991\r\n:105\r\n$3\r\nput\r\n$5\r\ncfg/a\r\n$1\r\n1\r\n"
                       ":90\r\n:3\r\n:7\r\n$1\r\n0\r\n:104\r\n");
    buf_clear(&out);
    hub_encode_tail(&out, &e, TAIL_PREV | TAIL_KEYS_ONLY);
    assert_bytes(&out, ":105\r\n$3\r\nput\r\n$5\r\ncfg/a\r\n_\r\n:90\r\n:3\r\n:7\r\n_\r\n:104\r\n");
    e = del_event();
    buf_clear(&out);
    hub_encode_tail(&out, &e, TAIL_PREV);
    assert_bytes(&out, ":6\r\n$3\r\ndel\r\n$1\r\nk\r\n_\r\n:0\r\n:0\r\n:0\r\n_\r\n:-1\r\n");
    buf_deinit(&out);
}

static void test_stream_entries(void **state)
{
    (void)state;
    struct hub_event e = put_event();
    struct buf out = { 0 };
    hub_encode_entry(&out, &e);
    assert_bytes(&out, "*2\r\n$5\r\n105-2\r\n*12\r\n$2\r\nop\r\n$3\r\nput\r\n$3\r\nkey\r\n$5\r\ncfg/a\r\n"
                       "$5\r\nvalue\r\n$1\r\n1\r\n$6\r\ncreate\r\n$2\r\n90\r\n$7\r\nversion\r\n$1\r\n3\r\n"
                       "$5\r\nlease\r\n$1\r\n7\r\n");
    e = del_event();
    buf_clear(&out);
    hub_encode_entry(&out, &e);
    assert_bytes(&out, "*2\r\n$3\r\n6-1\r\n*10\r\n$2\r\nop\r\n$3\r\ndel\r\n$3\r\nkey\r\n$1\r\nk\r\n"
                       "$6\r\ncreate\r\n$1\r\n0\r\n$7\r\nversion\r\n$1\r\n0\r\n$5\r\nlease\r\n$1\r\n0\r\n");
    buf_clear(&out);
    hub_encode_progress_entry(&out, 9);
    assert_bytes(&out, "*2\r\n$3\r\n9-0\r\n*2\r\n$2\r\nop\r\n$8\r\nprogress\r\n");
    buf_deinit(&out);
}

static void test_maps(void **state)
{
    (void)state;
    struct hub_event e = del_event();
    struct buf out = { 0 };
    hub_encode_map(&out, &e, false, 3);
    assert_bytes(&out, "%7\r\n$2\r\nop\r\n$3\r\ndel\r\n$3\r\nkey\r\n$1\r\nk\r\n$5\r\nvalue\r\n_\r\n$3\r\nrev\r\n:6\r\n"
                       "$6\r\ncreate\r\n:0\r\n$7\r\nversion\r\n:0\r\n$5\r\nlease\r\n:0\r\n");
    buf_clear(&out);
    hub_encode_map(&out, &e, true, 2);
    assert_bytes(&out, "*18\r\n$2\r\nop\r\n$3\r\ndel\r\n$3\r\nkey\r\n$1\r\nk\r\n$5\r\nvalue\r\n$-1\r\n$3\r\nrev\r\n:6\r\n"
                       "$6\r\ncreate\r\n:0\r\n$7\r\nversion\r\n:0\r\n$5\r\nlease\r\n:0\r\n$4\r\nprev\r\n$-1\r\n"
                       "$7\r\nprevmod\r\n:-1\r\n");
    buf_deinit(&out);
}

static const struct {
    const char *label;
    struct slice value;
    const char *want; /* between "value": and ,"create" */
    bool base64;
} texts[] = {
    { "nothing", SLICE_LIT(""), "\"\"", false },
    { "quotes and controls", SLICE_LIT("a\"\\\n\x7f"), "\"a\\\"\\\\\\u000a\\u007f\"", false },
    { "two, three and four bytes", SLICE_LIT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
      "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", false },
    { "a lone byte", SLICE_LIT("\xff"), "\"/w==\"", true },
    { "two bytes", SLICE_LIT("\xff\xfe"), "\"//4=\"", true },
    { "three bytes", SLICE_LIT("\xff\xfe\xfd"), "\"//79\"", true },
    { "overlong", SLICE_LIT("\xc0\x80"), "\"wIA=\"", true },
    { "overlong, three bytes", SLICE_LIT("\xe0\x80\x80"), "\"4ICA\"", true },
    { "a surrogate", SLICE_LIT("\xed\xa0\x80"), "\"7aCA\"", true },
    { "beyond 10FFFF", SLICE_LIT("\xf4\x90\x80\x80"), "\"9JCAgA==\"", true },
    { "cut", SLICE_LIT("\xe2\x82"), "\"4oI=\"", true },
};

static void test_json(void **state)
{
    (void)state;
    struct buf out = { 0 };
    struct buf want = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct hub_event e = put_event();
        e.value = texts[i].value;
        buf_clear(&out);
        buf_clear(&want);
        hub_encode_json(&out, &e);
        buf_printf(&want, "{\"rev\":105,\"n\":2,\"op\":\"put\",\"key\":\"%s\",\"value\":%s,\"create\":90,"
                   "\"version\":3,\"lease\":7%s}", texts[i].base64 ? "Y2ZnL2E=" : "cfg/a", texts[i].want,
                   texts[i].base64 ? ",\"enc\":\"base64\"" : "");
        if (!slice_eq(buf_slice(&out), buf_slice(&want))) {
            fail_msg("%s: %.*s", texts[i].label, (int)out.len, (const char *)out.at);
        }
    }
    struct hub_event e = del_event();
    buf_clear(&out);
    hub_encode_json(&out, &e);
    assert_bytes(&out, "{\"rev\":6,\"n\":1,\"op\":\"del\",\"key\":\"k\",\"value\":null,\"create\":0,\"version\":0,"
                       "\"lease\":0}");
    buf_deinit(&out);
    buf_deinit(&want);
}

static const struct {
    const char *name;
    bool ok, is_key, has_db;
    uint8_t db;
    const char *rest;
} names[] = {
    { "__watch__:cfg/", true, false, false, 5, "cfg/" },
    { "__watch__:", true, false, false, 5, "" },
    { "__watch__:__:", true, false, false, 5, "__:" },
    { "__watch@0__:a", true, false, true, 0, "a" },
    { "__watch@15__:a", true, false, true, 15, "a" },
    { "__watchkey__:k", true, true, false, 5, "k" },
    { "__watchkey@3__:k", true, true, true, 3, "k" },
    { "__watch@16__:a", false, false, false, 0, "" },
    { "__watch@__:a", false, false, false, 0, "" },
    { "__watch@-1__:a", false, false, false, 0, "" },
    { "__watch@01__:a", false, false, false, 0, "" },
    { "__watch@99999999999999999999__:a", false, false, false, 0, "" },
    { "__watch", false, false, false, 0, "" },
    { "__watch_:a", false, false, false, 0, "" },
    { "__watchkey", false, false, false, 0, "" },
    { "watch__:a", false, false, false, 0, "" },
    { "", false, false, false, 0, "" },
};

static void test_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct hub_name n;
        bool ok = hub_name_parse(slice_of(names[i].name), 5, &n);
        if (ok != names[i].ok) fail_msg("%s: %d", names[i].name, ok);
        if (!ok) continue;
        assert_int_equal(n.is_key, names[i].is_key);
        assert_int_equal(n.has_db, names[i].has_db);
        assert_int_equal(n.db, names[i].db);
        assert_true(slice_eq(n.rest, slice_of(names[i].rest)));
    }
}

static void test_ranges_of_names(void **state)
{
    (void)state;
    struct hub_range r;
    hub_name_range(&(struct hub_name){ .db = 2, .rest = SLICE_LIT("ab") }, &r);
    assert_int_equal(r.kind, WATCH_PREFIX);
    assert_true(slice_eq(r.start, SLICE_LIT("\x02" "ab")));
    assert_true(slice_eq(r.end, SLICE_LIT("\x02" "ac")));
    hub_range_deinit(&r);
    hub_name_range(&(struct hub_name){ .db = 2, .rest = SLICE_LIT("") }, &r);
    assert_true(slice_eq(r.start, SLICE_LIT("\x02")));
    assert_true(slice_eq(r.end, SLICE_LIT("\x03")));
    hub_range_deinit(&r);
    hub_name_range(&(struct hub_name){ .db = 2, .is_key = true, .rest = SLICE_LIT("ab") }, &r);
    assert_int_equal(r.kind, WATCH_KEY);
    assert_true(slice_eq(r.start, SLICE_LIT("\x02" "ab")));
    assert_true(slice_eq(r.end, SLICE_LIT("\x02" "ab\0")));
    hub_range_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push_frames), cmocka_unit_test(test_stream_entries), cmocka_unit_test(test_maps),
        cmocka_unit_test(test_json), cmocka_unit_test(test_names), cmocka_unit_test(test_ranges_of_names),
    };
    return cmocka_run_group_tests_name("cmd/cmd_hub_encode", tests, NULL, NULL);
}

#include "kit.h"
#include "state/op_int.h"

/* Every kind, and every field and flag at least once. These bytes are in logs for ever: a
 * difference is a new kind or a new field, never a change of this table. */
static const struct {
    const char *text;
    const char *hex;
} pins[] = {
    { "noop",
      "1400000001000000000000000000000000000000" },
    { "put k v",
      "1f0000000200000000000000000000000300000002000000006b0100000076" },
    { "put k v eq old ttl 5000",
      "380000000200000000000000000000001b00000002000000006b0100000076030000000000000000"
      "030000006f6c64028813000000000000" },
    { "put k keepvalue keep prev kv mustexist",
      "2300000002005c0000000000000000001100000002000000006b010000000000000000" },
    { "put k v fence lock 258 at 1700000000000",
      "3a0000000200000000000000000000001b00000002000000006b0100000076060201000000000000"
      "05000000006c6f636b030068e5cf8b010000" },
    { "put k v mod 7 lease 9",
      "350000000200000000000000000000001b00000002000000006b0100000076050700000000000000"
      "00000000040900000000000000" },
    { "del k ne x prev",
      "280000000300040000000000000000000900000002000000006b0400000000000000000100000078" },
    { "dels a bc",
      "2900000003000000000000000000000080000000020000000d000000020000000061030000000062"
      "63" },
    { "delrange a *",
      "1f000000040000000000000000000000050000000200000000610100000001" },
    { "delrange a c max 3 prev",
      "28000000040004000000000000000000250000000200000000610200000000630300000000000000" },
    { "incr k -2",
      "220000000500000000000000000000002100000002000000006bfeffffffffffffff" },
    { "append k tail",
      "220000000600000000000000000000000300000002000000006b040000007461696c" },
    { "setrange k 3 part",
      "2a0000000700000000000000000000002300000002000000006b0400000070617274030000000000"
      "0000" },
    { "life k ttl 1000 cond 3",
      "2b0000000800000000000000000000003100000002000000006b02e8030000000000000300000000"
      "000000" },
    { "life k drop prev",
      "230000000800040000000000000000001100000002000000006b000000000000000000" },
    { "rename a b nx",
      "2000000009000100000000000000000005000000020000000061020000000062" },
    { "copy a b replace",
      "200000000a000200000000000000000005000000020000000061020000000062" },
    { "mput a=1 b=2 nx ttl 9",
      "480000000b0000000000000000000000980000000100000000000000000000000002090000000000"
      "0000020000001600000002000000006101000000310200000000620100000032" },
    { "txn { } { } { }",
      "2c0000000c0000000000000000000000800300000000000000000000000000000000000000000000"
      "00000000" },
    { "txn redis { value a..b < x ; exists k ; fence l 4 ; life k = 6 } { put k v ; local"
      " ; txn { } { incr n 1 } { } } { del k ; local k kv ; noop }",
      "540100000c00200000000000000000008003000003000000810000001f0000000200000000000000"
      "000000000300000002000000006b010000007614000000170000000000000000000000000000004e"
      "0000000c000000000000000000000080030000010000002200000022000000050000000000000000"
      "0000002100000002000000006e010000000000000000000000000000000000000000000000030000"
      "00480000001a0000000300000000000000000000000100000002000000006b1a0000001700400000"
      "000000000000000100000002000000006b1400000001000000000000000000000000000000040000"
      "005f0000000503010000000000000000000200000000610200000000620100000078060100000000"
      "00000000000002000000006b0000000008010000040000000000000002000000006c000000000901"
      "0000060000000000000002000000006b00000000" },
    { "grant 1000",
      "1c0000000d000000000000000000000020000000e803000000000000" },
    { "grant 1000 id 5",
      "240000000d000000000000000000000060000000e8030000000000000500000000000000" },
    { "revoke 5",
      "1c0000000e0000000000000000000000400000000500000000000000" },
    { "keepalive 5 6",
      "2c0000000f0000000000000000000000800000000200000010000000050000000000000006000000"
      "00000000" },
    { "attach 5 a b",
      "30000000100000000000000000000000c00000000500000000000000020000000c00000002000000"
      "0061020000000062" },
    { "expire a b #5",
      "3800000011000000000000000000000080010000020000000c000000020000000061020000000062"
      "01000000080000000500000000000000" },
    { "expire #6",
      "240000001100000000000000000000000001000001000000080000000600000000000000" },
    { "compact 12",
      "1c000000120000000000000000000000200000000c00000000000000" },
    { "config name value",
      "25000000130000000000000000000000020400000500000076616c7565040000006e616d65" },
    { "clock",
      "1400000014000000000000000000000000000000" },
    { "alarm 1 3 raise",
      "240000001500010000000000000000006000000001000000000000000300000000000000" },
    { "alarm 1 3 clear",
      "240000001500000000000000000000006000000001000000000000000300000000000000" },
    { "seq q/ v lease 5",
      "29000000160000000000000000000000130000000300000000712f01000000760405000000000000"
      "00" },
    { "incrfloat k 0.5",
      "210000001900000000000000000000000300000002000000006b03000000302e35" },
    { "incarnation 3 2",
      "240000001800000000000000000000006000000002000000000000000300000000000000" },
};

static void hex_decode(const char *hex, struct buf *out)
{
    buf_clear(out);
    for (const char *at = hex; *at != '\0'; at += 2) {
        char byte[3] = { at[0], at[1], '\0' };
        buf_append_u8(out, (uint8_t)strtoul(byte, NULL, 16));
    }
}

static void test_bytes_are_pinned(void **unused)
{
    (void)unused;
    struct buf want = { 0 }, got = { 0 };
    bool kinds[OP_KIND_END] = { false };
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        struct words w = { pins[i].text };
        hex_decode(pins[i].hex, &want);
        buf_clear(&got);
        op_from_words(&w, &got);
        if (!slice_eq(buf_slice(&want), buf_slice(&got))) fail_msg("%s", pins[i].text);
        kinds[got.at[4]] = true;
    }
    kinds[OP_LOCAL] = true; /* only inside of a transaction */
    for (size_t kind = 1; kind < OP_KIND_END; kind++) assert_true(kinds[kind]);
    buf_deinit(&want);
    buf_deinit(&got);
}

/* The client's keys, as op_encode wants them. */
static struct op as_given(const struct op *decoded)
{
    struct op o = *decoded;
    if ((o.fields & FIELD_KEY) != 0) o.key = outer_key(o.key);
    if ((o.fields & FIELD_KEY2) != 0) o.key2 = outer_key(o.key2);
    return o;
}

static void test_decode_inverts_encode(void **unused)
{
    (void)unused;
    struct buf bytes = { 0 }, again = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        struct op o;
        size_t offset = 0;
        hex_decode(pins[i].hex, &bytes);
        assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), OK);
        assert_int_equal(offset, bytes.len);
        bool to_end = (o.fields & FIELD_KEY2) != 0 && o.key2.at[0] != o.db;
        struct op given = as_given(&o);
        buf_clear(&again);
        op_encode(&again, &given, to_end);
        if (!slice_eq(buf_slice(&bytes), buf_slice(&again))) fail_msg("%s", pins[i].text);
    }
    buf_deinit(&bytes);
    buf_deinit(&again);
}

static void test_every_truncation_is_refused(void **unused)
{
    (void)unused;
    struct buf bytes = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        hex_decode(pins[i].hex, &bytes);
        for (size_t len = 0; len < bytes.len; len++) {
            uint8_t *exact = mem_copy(bytes.at, len); /* a read behind it is seen by asan */
            struct op o = { .number = 77 };
            size_t offset = 0;
            assert_int_equal(op_decode((struct slice){ exact, len }, &offset, &o), ERR_CORRUPT);
            assert_int_equal(offset, 0);
            assert_int_equal(o.number, 77);
            if (len >= 4) { /* the same with a length that agrees */
                u32_le_put(exact, (uint32_t)len);
                enum err err = op_decode((struct slice){ exact, len }, &offset, &o);
                if (err == OK) fail_msg("%s cut to %zu", pins[i].text, len);
            }
            mem_free(exact);
        }
    }
    buf_deinit(&bytes);
}

/* Touches everything that a checked operation shows. */
static uint64_t walk(const struct op *o)
{
    uint64_t sum = o->key.len + o->value.len + o->key2.len + o->cond_bytes.len + o->name.len;
    struct slice key, value;
    struct op inner;
    struct op_compare c;
    uint64_t id = 0;
    size_t at = 0;
    if (o->kind == OP_MPUT) {
        while (op_list_next_pair(&o->list, &at, &key, &value)) sum += key.at[0] + value.len;
    } else if (o->kind == OP_LEASE_KEEPALIVE) {
        while (op_list_next_id(&o->list, &at, &id)) sum += id;
    } else if (o->kind == OP_TXN) {
        while (op_list_next_op(&o->list, &at, &inner)) sum += walk(&inner);
        for (at = 0; op_list_next_op(&o->list2, &at, &inner);) sum += walk(&inner);
        for (at = 0; op_list_next_compare(&o->compares, &at, &c);) sum += c.key.at[0] + c.bytes.len;
    } else {
        while (op_list_next_key(&o->list, &at, &key)) sum += key.at[key.len - 1];
        for (at = 0; op_list_next_id(&o->list2, &at, &id);) sum += id;
    }
    return sum;
}

static void test_flipped_bits_never_do_harm(void **unused)
{
    (void)unused;
    struct buf bytes = { 0 };
    size_t good = 0, bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        hex_decode(pins[i].hex, &bytes);
        for (size_t bit = 0; bit < bytes.len * 8; bit++) {
            uint8_t *copy = mem_copy(bytes.at, bytes.len);
            struct op o;
            size_t offset = 0;
            copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
            enum err err = op_decode((struct slice){ copy, bytes.len }, &offset, &o);
            assert_true(err == OK || err == ERR_CORRUPT || err == ERR_UNSUPPORTED);
            if (err == OK) walk(&o);
            good += err == OK;
            bad += err != OK;
            mem_free(copy);
        }
    }
    assert_true(good > 0);
    assert_true(bad > good);
    buf_deinit(&bytes);
}

/* What a later version may add stops this one; what nobody writes is damage. */
static void test_unknown_is_not_guessed(void **unused)
{
    (void)unused;
    static const struct {
        const char *label;
        const char *text;
        size_t at;
        uint8_t byte;
        enum err want;
    } cases[] = {
        { "kind 0", "clock", 4, 0, ERR_CORRUPT },
        { "a later kind", "clock", 4, OP_KIND_END, ERR_UNSUPPORTED },
        { "a later flag", "put k v", 7, 1, ERR_UNSUPPORTED },
        { "a later field", "put k v", 17, 8, ERR_UNSUPPORTED },
        { "a field that the kind has not", "put k v", 16, 0x23, ERR_CORRUPT },
        { "a field that is missing", "append k v", 16, 1, ERR_CORRUPT },
        { "another database's key", "put k v", 24, 1, ERR_CORRUPT },
        { "an empty key", "put k v", 20, 0, ERR_CORRUPT },
        { "bytes behind the fields", "put k v", 26, 0, ERR_CORRUPT },
        { "a later condition", "put k v nx", 31, COND_END, ERR_UNSUPPORTED },
        { "no condition", "put k v nx", 31, 0, ERR_CORRUPT },
        { "a later lifetime", "put k v keep", 31, LIFE_END, ERR_UNSUPPORTED },
        { "a later condition of expire", "life k keep cond 4", 35, LIFE_COND_END, ERR_UNSUPPORTED },
        { "a condition of mput", "mput a=1 nx", 20, COND_VALUE_EQ, ERR_CORRUPT },
        { "one item more", "keepalive 1", 20, 2, ERR_CORRUPT },
        { "one item less", "dels a b", 20, 1, ERR_CORRUPT },
        { "a later compare", "txn { exists k } { } { }", 44, COMPARE_TARGET_END, ERR_UNSUPPORTED },
        { "no compare", "txn { exists k } { } { }", 44, 0, ERR_CORRUPT },
        { "a later order", "txn { mod k = 1 } { } { }", 45, COMPARE_OP_END, ERR_UNSUPPORTED },
        { "a padding byte", "txn { mod k = 1 } { } { }", 47, 1, ERR_CORRUPT },
        { "a clock inside", "txn { } { noop } { }", 32, OP_CLOCK, ERR_CORRUPT },
        { "a read outside", "noop", 4, OP_LOCAL, ERR_CORRUPT },
    };
    struct buf bytes = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct words w = { cases[i].text };
        struct op o;
        size_t offset = 0;
        buf_clear(&bytes);
        op_from_words(&w, &bytes);
        assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), OK);
        offset = 0;
        bytes.at[cases[i].at] = cases[i].byte;
        enum err err = op_decode(buf_slice(&bytes), &offset, &o);
        if (err != cases[i].want) fail_msg("%s: %s", cases[i].label, err_name(err));
    }
    buf_deinit(&bytes);
}

static void nest(struct buf *out, size_t depth)
{
    struct buf inner = { 0 };
    if (depth > 1) nest(&inner, depth - 1);
    op_encode(out, &(struct op){ .kind = OP_TXN, .fields = FIELD_LIST,
                                 .list = { depth > 1, buf_slice(&inner) } }, false);
    buf_deinit(&inner);
}

static void test_nesting_is_bounded(void **unused)
{
    (void)unused;
    struct buf bytes = { 0 };
    struct op o;
    size_t offset = 0;
    nest(&bytes, OP_TXN_DEPTH_MAX);
    assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), OK);
    offset = 0;
    buf_clear(&bytes);
    nest(&bytes, OP_TXN_DEPTH_MAX + 1);
    assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), ERR_CORRUPT);
    buf_deinit(&bytes);
}

static void test_a_copy_may_cross_databases(void **unused)
{
    (void)unused;
    struct buf bytes = { 0 };
    struct op o = { .kind = OP_COPY, .db = 2, .key = SLICE_LIT("a"), .key2 = SLICE_LIT("b"),
                    .key2_elsewhere = true, .key2_db = 5, .fields = FIELD_KEY | FIELD_KEY2 };
    size_t offset = 0;
    op_encode(&bytes, &o, false);
    assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), OK);
    assert_true(slice_eq(o.key, SLICE_LIT("\x02" "a")));
    assert_true(slice_eq(o.key2, SLICE_LIT("\x05" "b")));
    buf_deinit(&bytes);
}

static void test_shape_rules(void **unused)
{
    (void)unused;
    static const struct {
        const char *label;
        struct op op;
    } cases[] = {
        { "put without a value", { .kind = OP_PUT, .fields = FIELD_KEY } },
        { "put that keeps one and has one",
          { .kind = OP_PUT, .flags = OPF_KEEP_VALUE, .fields = FIELD_KEY | FIELD_VALUE } },
        { "delete of nothing", { .kind = OP_DEL } },
        { "delete of a key and a list", { .kind = OP_DEL, .fields = FIELD_KEY | FIELD_LIST } },
        { "condition on a list",
          { .kind = OP_DEL, .fields = FIELD_LIST | FIELD_COND, .cond = COND_EXISTS } },
    };
    struct buf bytes = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct op o;
        size_t offset = 0;
        buf_clear(&bytes);
        op_encode(&bytes, &cases[i].op, false);
        enum err err = op_decode(buf_slice(&bytes), &offset, &o);
        if (err != ERR_CORRUPT) fail_msg("%s: %s", cases[i].label, err_name(err));
    }
    buf_deinit(&bytes);
}

static void test_decode_moves_from_one_to_the_next(void **unused)
{
    (void)unused;
    struct buf bytes = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        struct words w = { pins[i].text };
        op_from_words(&w, &bytes);
    }
    size_t offset = 0;
    struct op o;
    for (size_t i = 0; i < ARRAY_LEN(pins); i++) {
        assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), OK);
    }
    assert_int_equal(offset, bytes.len);
    assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), ERR_CORRUPT);
    buf_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_decode_inverts_encode),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_flipped_bits_never_do_harm),
        cmocka_unit_test(test_unknown_is_not_guessed),
        cmocka_unit_test(test_nesting_is_bounded),
        cmocka_unit_test(test_a_copy_may_cross_databases),
        cmocka_unit_test(test_shape_rules),
        cmocka_unit_test(test_decode_moves_from_one_to_the_next),
    };
    return cmocka_run_group_tests_name("state/op", tests, NULL, NULL);
}

#include "kit.h"

/* stamp 0x0102030405060708, wall -2, one run of two clocks, then a foreign run of one. */
static const char pinned[] =
    "01000100090000000807060504030201feffffffffffffff0300000002000000"
    "07000000000000000500000000000000040000000000000063000000000000000300000002000000"
    "2800000000000000"
    "14000000140000000000000000000000000000001400000014000000000000000000000000000000"
    "08000000000000000100000000000000010000000000000000000000000000000100000001000000"
    "1400000000000000"
    "1400000001000000000000000000000000000000";

static void build(struct buf *batch)
{
    struct op clock = { .kind = OP_CLOCK };
    struct op noop = { .kind = OP_NOOP };
    struct op_batch_head head = { .feature_level = 1, .group = 9, .stamp_ms = 0x0102030405060708,
                                  .wall_ms = -2 };
    struct op_run own = { .member = 7, .first_seq = 5, .floor_seq = 4, .give_up_stamp_ms = 99,
                          .incarnation = 3, .op_count = 2 };
    struct op_run other = { .member = 8, .first_seq = 1, .floor_seq = 1, .incarnation = 1,
                            .op_count = 1 };
    struct buf ops = { 0 };
    op_batch_begin(batch);
    op_encode(batch, &clock, false);
    op_encode(batch, &clock, false);
    op_batch_seal(batch, &head, &own);
    op_encode(&ops, &noop, false);
    other.ops = buf_slice(&ops);
    op_batch_add_run(batch, &other);
    buf_deinit(&ops);
}

static void test_bytes_are_pinned(void **unused)
{
    (void)unused;
    struct buf batch = { 0 }, text = { 0 };
    build(&batch);
    for (size_t i = 0; i < batch.len; i++) buf_printf(&text, "%02x", batch.at[i]);
    buf_append_u8(&text, 0);
    assert_string_equal(text.at, pinned);
    buf_deinit(&batch);
    buf_deinit(&text);
}

static void test_runs_come_back(void **unused)
{
    (void)unused;
    struct buf batch = { 0 };
    struct op_batch_head head;
    struct op_run run;
    size_t offset = 0;
    build(&batch);
    assert_int_equal(op_batch_check(buf_slice(&batch), &head, NULL), OK);
    assert_int_equal(head.op_count, 3);
    assert_int_equal(head.run_count, 2);
    assert_int_equal(head.group, 9);
    assert_int_equal(head.wall_ms, -2);
    assert_true(op_batch_next_run(buf_slice(&batch), &offset, &run));
    assert_int_equal(run.member, 7);
    assert_int_equal(run.first_seq, 5);
    assert_int_equal(run.floor_seq, 4);
    assert_int_equal(run.give_up_stamp_ms, 99);
    assert_int_equal(run.incarnation, 3);
    assert_int_equal(run.op_count, 2);
    assert_int_equal(run.ops.len, 40);
    assert_true(op_batch_next_run(buf_slice(&batch), &offset, &run));
    assert_int_equal(run.member, 8);
    assert_int_equal(run.op_count, 1);
    assert_false(op_batch_next_run(buf_slice(&batch), &offset, &run));
    buf_deinit(&batch);
}

static void test_no_operations_of_its_own_is_no_run(void **unused)
{
    (void)unused;
    struct buf batch = { 0 };
    struct op_batch_head head = { .feature_level = 1, .stamp_ms = 3 }, got;
    struct op_run run;
    size_t offset = 0;
    op_batch_begin(&batch);
    op_batch_seal(&batch, &head, &(struct op_run){ .member = 7 });
    assert_int_equal(batch.len, OP_BATCH_HEAD_BYTES);
    assert_int_equal(op_batch_check(buf_slice(&batch), &got, NULL), OK);
    assert_int_equal(got.run_count, 0);
    assert_int_equal(got.stamp_ms, 3);
    assert_false(op_batch_next_run(buf_slice(&batch), &offset, &run));
    buf_deinit(&batch);
}

static void test_every_truncation_is_refused(void **unused)
{
    (void)unused;
    struct buf batch = { 0 };
    build(&batch);
    for (size_t len = 0; len < batch.len; len++) {
        uint8_t *exact = mem_copy(batch.at, len);
        struct op_batch_head head = { .group = 77 };
        struct errmsg em = { "" };
        assert_int_equal(op_batch_check((struct slice){ exact, len }, &head, &em), ERR_CORRUPT);
        assert_int_equal(head.group, 77);
        assert_true(em.text[0] != '\0');
        mem_free(exact);
    }
    buf_deinit(&batch);
}

static void test_flipped_bits_never_do_harm(void **unused)
{
    (void)unused;
    struct buf batch = { 0 };
    build(&batch);
    for (size_t bit = 0; bit < batch.len * 8; bit++) {
        uint8_t *copy = mem_copy(batch.at, batch.len);
        struct slice body = { copy, batch.len };
        struct op_batch_head head;
        struct op_run run;
        uint32_t runs = 0;
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (op_batch_check(body, &head, NULL) == OK) {
            for (size_t offset = 0; op_batch_next_run(body, &offset, &run);) runs++;
            assert_int_equal(runs, head.run_count);
        }
        mem_free(copy);
    }
    buf_deinit(&batch);
}

static void test_damage_by_field(void **unused)
{
    (void)unused;
    static const struct {
        const char *label;
        size_t at;
        uint8_t byte;
        enum err want;
    } cases[] = {
        { "a later format", 0, 2, ERR_UNSUPPORTED },
        { "a later feature level", 2, OP_FEATURE_LEVEL + 1, ERR_UNSUPPORTED },
        { "a stamp beyond what deadlines can hold", 15, 0x80, ERR_CORRUPT },
        { "one operation more", 24, 4, ERR_CORRUPT },
        { "one run more", 28, 3, ERR_CORRUPT },
        { "one run less", 28, 1, ERR_CORRUPT },
        { "no operations in a run", 68, 0, ERR_CORRUPT },
        { "fewer operations than bytes", 68, 1, ERR_CORRUPT },
        { "a run that is longer than the batch", 73, 1, ERR_CORRUPT },
        { "a padding byte", 76, 1, ERR_CORRUPT },
        { "a later operation", 84, OP_KIND_END, ERR_UNSUPPORTED },
    };
    struct buf batch = { 0 };
    struct op_batch_head head;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&batch);
        build(&batch);
        batch.at[cases[i].at] = cases[i].byte;
        enum err err = op_batch_check(buf_slice(&batch), &head, NULL);
        if (err != cases[i].want) fail_msg("%s: %s", cases[i].label, err_name(err));
    }
    buf_clear(&batch);
    build(&batch);
    memset(batch.at + 40, 0xff, 8); /* sequences that wrap */
    assert_int_equal(op_batch_check(buf_slice(&batch), &head, NULL), ERR_CORRUPT);
    buf_deinit(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_runs_come_back),
        cmocka_unit_test(test_no_operations_of_its_own_is_no_run),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_flipped_bits_never_do_harm),
        cmocka_unit_test(test_damage_by_field),
    };
    return cmocka_run_group_tests_name("state/op_batch", tests, NULL, NULL);
}

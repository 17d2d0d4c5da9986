#include "kit.h"

static const char admin[] =
    "compact 1\n"
    "|@1 yes n=1\n"
    "put a 1\n"
    "|put a=1 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "put a 2\n"
    "|put a=2 @3.1 c2 v2 was2\n"
    "|@3 yes n=1\n"
    "compact 4\n"
    "|@3 ERR_FUTURE no\n"
    "compact 2\n"
    "|@3 yes n=2\n"
    "compact 2\n"
    "|@3 ERR_COMPACTED no\n"
    "compact 3\n"
    "|@3 yes n=3\n"
    "compact 0\n"
    "|@3 ERR_COMPACTED no\n"
    "compact -1\n"
    "|@3 ERR_COMPACTED no\n"
    "config quota-bytes 100000\n"
    "|@3 yes\n"
    "config nothing 1\n"
    "|@3 ERR_NOT_FOUND no\n"
    "config quota-bytes lots\n"
    "|@3 ERR_CONFIG no 'quota-bytes: argument couldn't be parsed into a number'\n"
    "clock\n"
    "|@3 yes\n"
    "noop\n"
    "|@3 yes\n"
    "alarm 1 5 raise\n"
    "|@3 yes\n"
    "alarm 1 5 raise\n"
    "|@3 no\n"
    "alarm 9 5 raise\n"
    "|@3 ERR_NOT_FOUND no\n"
    "alarm 1 0 raise\n"
    "|@3 ERR_MEMBER no\n"
    "put a 1\n"
    "|@3 ERR_NOSPACE no\n"
    "del a\n"
    "|del a @4.1 was3\n"
    "|@4 yes n=1\n"
    "alarm 1 6 raise\n"
    "|@4 yes\n"
    "alarm 1 5 clear\n"
    "|@4 yes\n"
    "put a 1\n"
    "|@4 ERR_NOSPACE no\n"
    "grant 1000\n"
    "|@4 ERR_NOSPACE no\n"
    "incr n 1\n"
    "|@4 ERR_NOSPACE no\n"
    "rename x y\n"
    "|@4 ERR_NOSPACE no\n"
    "txn { } { del a } { put a 1 }\n"
    "|@4 ERR_NOSPACE no\n"
    "alarm 1 0 clear\n"
    "|@4 yes\n"
    "put a 1\n"
    "|put a=1 @5.1 c5 v1\n"
    "|@5 yes n=1\n"
    "alarm 2 5 raise\n"
    "|@5 yes\n"
    "put a 1\n"
    "|put a=1 @6.1 c5 v2 was5\n"
    "|@6 yes n=1\n"
    "incarnation 7 3\n"
    "|@6 yes\n"
    "incarnation 7 3\n"
    "|@6 yes\n"
    "incarnation 7 0\n"
    "|@6 ERR_MEMBER no\n";

static const char limits[] =
    "config key-max-bytes 16\n"
    "|@1 yes\n"
    "config value-max-bytes 32\n"
    "|@1 yes\n"
    "put 12345678901234567 1\n"
    "|@1 ERR_KEY_LIMIT no\n"
    "put 1234567890123456 1\n"
    "|put 1234567890123456=1 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "incr 12345678901234567 1\n"
    "|@2 ERR_KEY_LIMIT no\n"
    "rename 1234567890123456 12345678901234567\n"
    "|@2 ERR_KEY_LIMIT no\n"
    "copy 1234567890123456 12345678901234567\n"
    "|@2 ERR_KEY_LIMIT no\n"
    "seq pre/ x\n"
    "|@2 ERR_KEY_LIMIT no\n"
    "put a 123456789012345678901234567890123\n"
    "|@2 ERR_VALUE_LIMIT no\n"
    "put a 12345678901234567890123456789012\n"
    "|put a=12345678901234567890123456789012 @3.1 c3 v1\n"
    "|@3 yes n=1\n"
    "append a 1\n"
    "|@3 ERR_STRING_LIMIT no\n"
    "setrange a 31 xx\n"
    "|@3 ERR_STRING_LIMIT no\n"
    "setrange a 31 x\n"
    "|put a=1234567890123456789012345678901x @4.1 c3 v2 was3\n"
    "|@4 yes n=32\n"
    "mput b=1 12345678901234567=1\n"
    "|@4 ERR_KEY_LIMIT no\n"
    "mput b=1 c=123456789012345678901234567890123\n"
    "|@4 ERR_VALUE_LIMIT no\n"
    "config op-max-keys 4\n"
    "|@4 yes\n"
    "dels a b c d e\n"
    "|@4 ERR_KEYS_LIMIT no\n"
    "mput b=1 c=1 d=1 e=1 f=1\n"
    "|@4 ERR_KEYS_LIMIT no\n"
    "mput b=1 c=1 d=1 e=1\n"
    "|put b=1 @5.1 c5 v1\n"
    "|put c=1 @5.2 c5 v1\n"
    "|put d=1 @5.3 c5 v1\n"
    "|put e=1 @5.4 c5 v1\n"
    "|@5 yes n=1\n"
    "delrange a *\n"
    "|@5 ERR_KEYS_LIMIT no\n"
    "delrange a * max 1\n"
    "|del a @6.1 was4\n"
    "|@6 yes n=1\n"
    "delrange a *\n"
    "|del b @7.1 was5\n"
    "|del c @7.2 was5\n"
    "|del d @7.3 was5\n"
    "|del e @7.4 was5\n"
    "|@7 yes n=4\n"
    "txn { } { put a 1 ; put b 1 ; put c 1 ; put d 1 ; put e 1 } { }\n"
    "| [0] @8 yes n=1\n"
    "| [1] @8 yes n=1\n"
    "| [2] @8 yes n=1\n"
    "| [3] @8 yes n=1\n"
    "|@7 ERR_KEYS_LIMIT no\n"
    "txn redis { } { put a 1 ; put b 1 ; put c 1 ; put d 1 ; put e 1 ; put a 2 } { }\n"
    "| [0] @8 yes n=1\n"
    "| [1] @8 yes n=1\n"
    "| [2] @8 yes n=1\n"
    "| [3] @8 yes n=1\n"
    "| [4] @8 ERR_KEYS_LIMIT no\n"
    "| [5] @8 yes n=1\n"
    "|put b=1 @8.1 c8 v1\n"
    "|put c=1 @8.2 c8 v1\n"
    "|put d=1 @8.3 c8 v1\n"
    "|put a=2 @8.4 c8 v1\n"
    "|@8 yes\n"
    "txn redis { } { put a 1 ; delrange a * ; put a 3 } { }\n"
    "| [0] @9 yes n=1\n"
    "| [1] @9 ERR_KEYS_LIMIT no\n"
    "| [2] @9 yes n=1\n"
    "|put a=3 @9.1 c8 v2 was8\n"
    "|@9 yes\n"
    "attach 1 a b c d e\n"
    "|@9 ERR_NOLEASE no\n"
    "config txn-max-ops 2\n"
    "|@9 yes\n"
    "txn { } { put a 1 ; put a 2 } { }\n"
    "| [0] @10 yes n=1\n"
    "| [1] @10 yes n=1\n"
    "|put a=2 @10.1 c8 v3 was9\n"
    "|@10 yes\n"
    "txn { } { put a 1 ; put a 2 ; noop } { }\n"
    "|@10 ERR_OPS_LIMIT no\n"
    "txn { } { noop } { noop ; noop ; noop }\n"
    "|@10 ERR_OPS_LIMIT no\n"
    "txn { exists a ; exists b ; exists c } { } { }\n"
    "|@10 ERR_OPS_LIMIT no\n"
    "txn { } { txn { } { noop ; noop } { } } { }\n"
    "|@10 ERR_OPS_LIMIT no\n"
    "txn { } { txn { } { noop } { noop } } { }\n"
    "| [1] @10 yes\n"
    "| [2] @10 skipped\n"
    "| [0] @10 yes\n"
    "|@10 yes\n";

/* What a transaction writes is counted however it comes about; a key counts with its largest value. */
static const char txn_bytes[] =
    "config txn-max-bytes 10\n"
    "|@1 yes\n"
    "put big 123456\n"
    "|put big=123456 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "append long 12345678901234\n" /* one operation writes what a value may be */
    "|put long=12345678901234 @3.1 c3 v1\n"
    "|@3 yes n=14\n"
    "txn redis { } { setrange a 5 x ; setrange b 4 x ; append c 12345 ; append c 1234 ; append c 1 } { }\n"
    "| [0] @4 yes n=6\n"
    "| [1] @4 ERR_TXN_LIMIT no\n"
    "| [2] @4 ERR_TXN_LIMIT no\n"
    "| [3] @4 yes n=4\n"
    "| [4] @4 ERR_TXN_LIMIT no\n"
    "|put a=\\00\\00\\00\\00\\00x @4.1 c4 v1\n"
    "|put c=1234 @4.2 c4 v1\n"
    "|@4 yes\n"
    "txn redis { } { copy big d ; copy big e ; rename big f ; put g 1234 ; put g 123 ; incr h 1 } { }\n"
    "| [0] @5 yes n=1\n"
    "| [1] @5 ERR_TXN_LIMIT no\n"
    "| [2] @5 ERR_TXN_LIMIT no\n"
    "| [3] @5 yes n=1\n"
    "| [4] @5 yes n=1\n"
    "| [5] @5 ERR_TXN_LIMIT no\n"
    "|put d=123456 @5.1 c5 v1\n"
    "|put g=123 @5.2 c5 v1\n"
    "|@5 yes\n"
    "txn redis { } { put i 1234567890 ; del i ; put j 1 ; put i 1 } { }\n" /* deleting gives nothing back */
    "| [0] @6 yes n=1\n"
    "| [1] @6 yes n=1\n"
    "| [2] @6 ERR_TXN_LIMIT no\n"
    "| [3] @6 yes n=1\n"
    "|put i=1 @6.1 c6 v1\n"
    "|@6 yes\n"
    "txn redis { } { txn { } { put k 12345678 ; put l 1234 } { } ; put m 1234567890 } { }\n" /* undone */
    "| [1] @7 yes n=1\n"
    "| [0] @6 ERR_TXN_LIMIT no\n"
    "| [3] @7 yes n=1\n"
    "|put m=1234567890 @7.1 c7 v1\n"
    "|@7 yes\n"
    "txn { } { put n 123456 ; put o 123456 } { }\n"
    "| [0] @8 yes n=1\n"
    "|@7 ERR_TXN_LIMIT no\n"
    "put p 12345678\n"
    "|put p=12345678 @8.1 c8 v1\n"
    "|@8 yes n=1\n"
    /* Each of these makes the value anew, because the one before may be what is gone back to. */
    "txn redis { } { txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } ; txn { } { setrange p 0 x } { } } { }\n"
    "| [1] @9 yes n=8\n"
    "| [0] @9 yes\n"
    "| [3] @9 yes n=8\n"
    "| [2] @9 yes\n"
    "| [5] @9 yes n=8\n"
    "| [4] @9 yes\n"
    "| [7] @9 yes n=8\n"
    "| [6] @9 yes\n"
    "| [9] @9 yes n=8\n"
    "| [8] @9 yes\n"
    "| [11] @9 yes n=8\n"
    "| [10] @9 yes\n"
    "| [13] @9 yes n=8\n"
    "| [12] @9 yes\n"
    "| [15] @9 yes n=8\n"
    "| [14] @9 yes\n"
    "| [17] @9 yes n=8\n"
    "| [16] @9 yes\n"
    "| [19] @9 yes n=8\n"
    "| [18] @9 yes\n"
    "| [21] @9 yes n=8\n"
    "| [20] @9 yes\n"
    "| [23] @9 yes n=8\n"
    "| [22] @9 yes\n"
    "| [25] @9 yes n=8\n"
    "| [24] @9 yes\n"
    "| [27] @9 yes n=8\n"
    "| [26] @9 yes\n"
    "| [29] @9 yes n=8\n"
    "| [28] @9 yes\n"
    "| [31] @9 yes n=8\n"
    "| [30] @9 yes\n"
    "| [33] @9 yes n=8\n"
    "| [32] @9 yes\n"
    "| [35] @9 yes n=8\n"
    "| [34] @9 yes\n"
    "| [37] @9 yes n=8\n"
    "| [36] @9 yes\n"
    "| [39] @9 yes n=8\n"
    "| [38] @9 yes\n"
    "| [41] @9 yes n=8\n"
    "| [40] @9 yes\n"
    "| [43] @9 yes n=8\n"
    "| [42] @9 yes\n"
    "| [44] @9 ERR_TXN_LIMIT no\n"
    "|put p=x2345678 @9.1 c8 v2 was8\n"
    "|@9 yes\n";

static const char quota[] =
    "config quota-bytes 1000\n"
    "|@1 yes\n"
    "append big xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
      "xxxxxxxxxxx\n"
    "|put big=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..88 @2.1 c2 v1\n"
    "|@2 yes n=88\n"
    "setrange big 399 x\n"
    "|put big=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..400 @3.1 c2 v2 was2\n"
    "|@3 yes n=400\n"
    "copy big other\n"
    "|put other=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..400 @4.1 c4 v1\n"
    "|@4 yes n=1\n"
    "copy big third\n"
    "|@4 ERR_NOSPACE no\n"
    "txn { } { copy big third } { }\n"
    "|@4 ERR_NOSPACE no\n"
    "txn redis { } { put a 1 ; copy big third ; put a 2 } { }\n"
    "|@4 ERR_NOSPACE no\n"
    "setrange big 900 x\n"
    "|@4 ERR_NOSPACE no\n"
    "setrange big 1 y\n"
    "|put big=xyxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..400 @5.1 c2 v3 was3\n"
    "|@5 yes n=400\n"
    "del other\n"
    "|del other @6.1 was4\n"
    "|@6 yes n=1\n"
    "txn redis { } { copy big c1 ; copy big c2 ; del c1 ; copy big c3 } { }\n"
    "| [0] @7 yes n=1\n"
    "| [1] @7 ERR_NOSPACE no\n"
    "| [2] @7 yes n=1\n"
    "| [3] @7 ERR_NOSPACE no\n"
    "|@6 yes\n"
    "put b 1\n"
    "|put b=1 @7.1 c7 v1\n"
    "|@7 yes n=1\n"
    "put big 1\n"
    "|put big=1 @8.1 c2 v4 was5\n"
    "|@8 yes n=1\n"
    "put b xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
    "|put b=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..142 @9.1 c7 v2 was7\n"
    "|@9 yes n=1\n"
    "txn { } { del b ; put q 1 } { put q xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
      "xx }\n"
    "| [0] @10 yes n=1\n"
    "| [1] @10 yes n=1\n"
    "| [2] @10 skipped\n"
    "|del b @10.1 was9\n"
    "|put q=1 @10.2 c10 v1\n"
    "|@10 yes\n"
    "life b ttl 100\n"
    "|@10 no\n"
    "expire a\n"
    "|@10 no\n"
    "compact 3\n"
    "|@10 yes n=3\n"
    "config quota-bytes 0\n"
    "|@10 yes\n"
    "put big 2\n"
    "|put big=2 @11.1 c2 v5 was8\n"
    "|@11 yes n=1\n";

static void test_admin(void **unused)
{
    (void)unused;
    run_script("admin", admin);
}

static void test_limits(void **unused)
{
    (void)unused;
    run_script("limits", limits);
}

static void test_txn_bytes(void **unused)
{
    (void)unused;
    run_script("txn bytes", txn_bytes);
}

static void test_quota(void **unused)
{
    (void)unused;
    run_script("quota", quota);
}

/* --- batches: what is not an operation's own ------------------------------------------ */

struct told {
    struct buf out;
};

static void told_result(void *ctx, const struct apply_origin *o, const struct op *op,
                        const struct op_result *r)
{
    struct told *t = ctx;
    buf_printf(&t->out, "%llu.%u/%llu kind %d", (unsigned long long)o->member, o->incarnation,
               (unsigned long long)o->seq, (int)op->kind);
    say_result(&t->out, r);
    buf_printf(&t->out, "\n");
}

static void told_batch_end(void *ctx, uint64_t index)
{
    struct told *t = ctx;
    buf_printf(&t->out, "end %llu\n", (unsigned long long)index);
}

/* Applies runs of plain puts; counts and origins as given. */
static enum err apply_runs(struct state *s, uint64_t stamp_ms, const struct op_run *runs,
                           size_t run_count, struct told *t)
{
    struct buf batch = { 0 };
    struct op_batch_head head = { .feature_level = 1, .stamp_ms = stamp_ms, .wall_ms = 5 };
    struct apply_sink sink = { .ctx = t, .result = told_result, .batch_end = told_batch_end };
    struct errmsg em;
    op_batch_begin(&batch);
    op_batch_seal(&batch, &head, &(struct op_run){ .op_count = 0 });
    for (size_t i = 0; i < run_count; i++) {
        struct buf ops = { 0 };
        struct op_run run = runs[i];
        for (uint32_t n = 0; n < run.op_count; n++) {
            op_encode(&ops, &(struct op){ .kind = OP_PUT, .fields = FIELD_KEY | FIELD_VALUE,
                                          .key = SLICE_LIT("k"), .value = SLICE_LIT("v") }, false);
        }
        run.ops = buf_slice(&ops);
        op_batch_add_run(&batch, &run);
        buf_deinit(&ops);
    }
    buf_clear(&t->out);
    enum err err = state_apply(s, state_applied_index(s) + 1, 1, buf_slice(&batch), &sink, &em);
    buf_append_u8(&t->out, 0);
    buf_deinit(&batch);
    return err;
}

static void test_each_operation_is_applied_once(void **unused)
{
    (void)unused;
    struct state *s = state_new(1);
    struct told t = { { 0 } };
    struct op_run first = { .member = 4, .incarnation = 2, .first_seq = 10, .floor_seq = 10,
                            .op_count = 2 };
    struct op_run other = { .member = 5, .incarnation = 1, .first_seq = 1, .floor_seq = 1,
                            .op_count = 1 };
    assert_int_equal(apply_runs(s, 10, (struct op_run[]){ first, other }, 2, &t), OK);
    assert_string_equal(t.out.at, "4.2/10 kind 2 yes n=1\n4.2/11 kind 2 yes n=1\n"
                                  "5.1/1 kind 2 yes n=1\nend 1\n");
    assert_int_equal(mvcc_rev(state_mvcc(s)), 4);

    assert_int_equal(apply_runs(s, 10, &first, 1, &t), OK); /* forwarded twice */
    assert_string_equal(t.out.at, "4.2/10 kind 2 skipped\n4.2/11 kind 2 skipped\nend 2\n");
    assert_int_equal(mvcc_rev(state_mvcc(s)), 4);

    struct op_run older = { .member = 4, .incarnation = 1, .first_seq = 50, .floor_seq = 50,
                            .op_count = 1 };
    assert_int_equal(apply_runs(s, 10, &older, 1, &t), OK);
    assert_string_equal(t.out.at, "4.1/50 kind 2 ERR_TIMEOUT skipped\nend 3\n");
    assert_int_equal(mvcc_rev(state_mvcc(s)), 4);
    state_free(s);
    buf_deinit(&t.out);
}

static void test_what_was_given_up_is_never_applied(void **unused)
{
    (void)unused;
    struct state *s = state_new(1);
    struct told t = { { 0 } };
    struct op_run run = { .member = 4, .incarnation = 1, .first_seq = 1, .floor_seq = 1,
                          .give_up_stamp_ms = 100, .op_count = 1 };
    assert_int_equal(apply_runs(s, 101, &run, 1, &t), OK);
    assert_string_equal(t.out.at, "4.1/1 kind 2 ERR_TIMEOUT skipped\nend 1\n");
    run.first_seq = 2;
    run.give_up_stamp_ms = 101;
    assert_int_equal(apply_runs(s, 101, &run, 1, &t), OK);
    assert_string_equal(t.out.at, "4.1/2 kind 2 yes n=1\nend 2\n");
    state_free(s);
    buf_deinit(&t.out);
}

static void test_more_operations_than_are_decoded_ahead(void **unused)
{
    (void)unused;
    struct state *s = state_new(1);
    struct told t = { { 0 } };
    for (uint32_t count = 1; count < 3 * APPLY_GROUP_MAX + 2; count++) {
        struct op_run run = { .member = count, .incarnation = 1, .first_seq = 1, .floor_seq = 1,
                              .op_count = count };
        uint64_t before = mvcc_rev(state_mvcc(s));
        assert_int_equal(apply_runs(s, 1, &run, 1, &t), OK);
        assert_int_equal(mvcc_rev(state_mvcc(s)), before + count);
    }
    state_free(s);
    buf_deinit(&t.out);
}

static void test_stamps_never_fall(void **unused)
{
    (void)unused;
    struct state *s = state_new(1);
    struct told t = { { 0 } };
    struct op_run run = { .member = 1, .incarnation = 1, .first_seq = 1, .op_count = 1 };
    assert_int_equal(apply_runs(s, 50, &run, 1, &t), OK);
    assert_int_equal(state_stamp_ms(s), 50);
    assert_int_equal(state_wall_ms(s), 5);
    assert_int_equal(apply_runs(s, 49, &run, 1, &t), ERR_CORRUPT);
    state_free(s);
    buf_deinit(&t.out);
}

static void test_empty_entry_moves_the_index_alone(void **unused)
{
    (void)unused;
    struct state *s = state_new(1);
    struct told t = { { 0 } };
    struct apply_sink sink = { .ctx = &t, .batch_end = told_batch_end };
    uint64_t hash = state_hash(s);
    assert_int_equal(state_apply(s, 1, 3, SLICE_NONE, &sink, NULL), OK);
    assert_int_equal(state_applied_index(s), 1);
    assert_int_equal(state_applied_term(s), 3);
    assert_true(state_hash(s) == hash);
    buf_append_u8(&t.out, 0);
    assert_string_equal(t.out.at, "end 1\n");
    state_free(s);
    buf_deinit(&t.out);
}

/* Every way to cut or extend a batch stops the replica: it never guesses. */
static void test_damaged_batches_are_refused(void **unused)
{
    (void)unused;
    struct buf batch = { 0 };
    struct op_batch_head head = { .feature_level = 1, .stamp_ms = 1 };
    struct op_run run = { .member = 1, .incarnation = 1, .first_seq = 1, .op_count = 1 };
    op_batch_begin(&batch);
    op_encode(&batch, &(struct op){ .kind = OP_PUT, .fields = FIELD_KEY | FIELD_VALUE,
                                    .key = SLICE_LIT("k"), .value = SLICE_LIT("v") }, false);
    op_batch_seal(&batch, &head, &run);
    buf_append_u8(&batch, 0);
    for (size_t len = 1; len <= batch.len; len++) {
        if (len == batch.len - 1) continue; /* the whole */
        struct errmsg em = { "" };
        struct state *s = state_new(1);
        uint8_t *exact = mem_copy(batch.at, len);
        assert_int_equal(state_apply(s, 1, 1, (struct slice){ exact, len }, NULL, &em),
                         ERR_CORRUPT);
        assert_true(em.text[0] != '\0');
        mem_free(exact);
        state_free(s);
    }
    struct state *s = state_new(1);
    u16_le_put(batch.at + 2, OP_FEATURE_LEVEL + 1);
    struct slice whole = { batch.at, batch.len - 1 };
    assert_int_equal(state_apply(s, 1, 1, whole, NULL, NULL), ERR_UNSUPPORTED);
    state_free(s);
    buf_deinit(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_admin),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_txn_bytes),
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_each_operation_is_applied_once),
        cmocka_unit_test(test_what_was_given_up_is_never_applied),
        cmocka_unit_test(test_more_operations_than_are_decoded_ahead),
        cmocka_unit_test(test_stamps_never_fall),
        cmocka_unit_test(test_empty_entry_moves_the_index_alone),
        cmocka_unit_test(test_damaged_batches_are_refused),
    };
    return cmocka_run_group_tests_name("state/state_apply", tests, NULL, NULL);
}

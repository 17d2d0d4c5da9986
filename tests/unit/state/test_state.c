#include "kit.h"

static void test_new_state_is_empty(void **unused)
{
    (void)unused;
    struct state *s = state_new(1);
    assert_int_equal(mvcc_rev(state_mvcc(s)), 1);
    assert_int_equal(lease_count(state_leases(s)), 0);
    assert_int_equal(state_applied_index(s), 0);
    assert_int_equal(state_applied_term(s), 0);
    assert_int_equal(state_stamp_ms(s), 0);
    assert_int_equal(state_wall_ms(s), 0);
    assert_false(state_alarm(s, ALARM_NOSPACE));
    assert_true(state_next_due_ms(s) == UINT64_MAX);
    assert_int_equal(state_compact_due(s, 0), 0);
    assert_true(state_settings(s)->value_bytes_max > 0);
    state_free(s);
    state_free(NULL);
}

/* Each kind of state shows in the hash. */
static void test_hash_sees_every_part(void **unused)
{
    (void)unused;
    static const char *const ops[] = {
        "put a 1", "put a 1", "del a", "put b 1 ttl 9", "life b drop", "grant 1000 id 4",
        "keepalive 4", "put b 1 lease 4", "config txn-max-ops 5", "alarm 1 3 raise",
        "alarm 1 4 raise", "alarm 1 4 clear", "compact 2", "revoke 4",
    };
    struct kit k;
    kit_init(&k, 1);
    uint64_t before = state_hash(k.s);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        k.stamp_ms += 10;
        kit_run(&k, ops[i]);
        assert_true(state_hash(k.s) != before);
        before = state_hash(k.s);
    }
    kit_run(&k, "noop");
    kit_run(&k, "clock");
    kit_run(&k, "put b 1 nx eq x");
    kit_run(&k, "del missing");
    assert_true(state_hash(k.s) == before);
    kit_deinit(&k);
}

static void test_hash_depends_on_entries_alone(void **unused)
{
    (void)unused;
    static const char *const ops[] = {
        "put a 1", "grant 500", "put b 2 lease 1",
        "txn { } { put c 1 ; rename a d ; incr n 4 } { }", "put e 1 ttl 50", "life b drop", "append d zz", "compact 4", "delrange b d", "seq q/ v",
    };
    struct kit one, two;
    kit_init(&one, 1);
    kit_init(&two, 999);
    two.silent = true; /* nobody listens there */
    one.wants_prev = true;
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        kit_run(&one, ops[i]);
        kit_run(&two, ops[i]);
        assert_true(state_hash(one.s) == state_hash(two.s));
    }
    kit_deinit(&one);
    kit_deinit(&two);
}

static void test_alarms_are_a_sorted_set(void **unused)
{
    (void)unused;
    struct state *s = state_new(1);
    assert_true(state_alarm_set(s, 2, 5, true));
    assert_true(state_alarm_set(s, 1, 9, true));
    assert_true(state_alarm_set(s, 1, 3, true));
    assert_true(state_alarm_set(s, 1, 3, true));
    assert_int_equal(s->alarm_count, 3);
    static const struct alarm want[] = { { 1, 3 }, { 1, 9 }, { 2, 5 } };
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(s->alarms[i].kind, want[i].kind);
        assert_int_equal(s->alarms[i].member, want[i].member);
    }
    assert_true(state_alarm_set(s, 1, 4, false)); /* not there */
    assert_true(state_alarm_set(s, 1, 3, false));
    assert_true(state_alarm(s, 1));
    assert_true(state_alarm_set(s, 1, 9, false));
    assert_false(state_alarm(s, 1));
    assert_true(state_alarm(s, 2));
    for (uint64_t member = 1; s->alarm_count < ALARM_COUNT_MAX; member++) {
        assert_true(state_alarm_set(s, 1, member, true));
    }
    assert_false(state_alarm_set(s, 1, 1000, true));
    assert_true(state_alarm_set(s, 1, 1, true)); /* it is there already */
    state_free(s);
}

static void test_growth_is_refused_before_it_is_proposed(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        bool grows;
    } cases[] = {
        { "put a 1", true },      { "append a 1", true },      { "incr a 1", true },
        { "seq q/ 1", true },     { "mput a=1 b=2", true },    { "setrange a 1 x", true },
        { "copy a b", true },     { "rename a b", true },      { "grant 1000", true },
        { "del a", false },       { "dels a b", false },       { "delrange a *", false },
        { "keepalive 1", false }, { "revoke 1", false },       { "expire a #1", false },
        { "compact 3", false },   { "life a ttl 5", false },   { "life a drop", false },
        { "clock", false },       { "noop", false },           { "attach 1 a", false },
        { "config a b", false },  { "alarm 1 1 clear", false }, { "incarnation 1 1", false },
        { "txn { exists a } { del a ; local } { life a drop }", false },
        { "txn { } { del a } { put a 1 }", true },
        { "txn { } { txn { } { incr a 1 } { } } { }", true },
    };
    struct kit k;
    kit_init(&k, 1);
    kit_run(&k, "alarm 1 7 raise");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf bytes = { 0 };
        struct words w = { cases[i].text };
        struct op o;
        size_t offset = 0;
        op_from_words(&w, &bytes);
        assert_int_equal(op_decode(buf_slice(&bytes), &offset, &o), OK);
        if (state_refuses_growth(k.s, &o) != cases[i].grows) fail_msg("%s", cases[i].text);
        buf_deinit(&bytes);
    }
    kit_deinit(&k);
}

static void test_due_is_what_has_passed(void **unused)
{
    (void)unused;
    struct kit k;
    struct buf keys = { 0 }, ids = { 0 };
    struct op op;
    kit_init(&k, 1);
    kit_run(&k, "put a 1 ttl 100");
    kit_run(&k, "put b 1 ttl 200");
    kit_run(&k, "grant 300 id 5");
    assert_int_equal(state_next_due_ms(k.s), 1100);
    assert_false(state_due(k.s, 1099, 100, &keys, &ids, &op));
    assert_true(state_due(k.s, 1100, 100, &keys, &ids, &op));
    assert_int_equal(op.kind, OP_EXPIRE);
    assert_int_equal(op.list.count, 1);
    assert_int_equal(op.list2.count, 0);
    assert_true(state_due(k.s, 5000, 100, &keys, &ids, &op));
    assert_int_equal(op.list.count, 2);
    assert_int_equal(op.list2.count, 1);
    assert_true(state_due(k.s, 5000, 1, &keys, &ids, &op));
    assert_int_equal(op.list.count + op.list2.count, 1);
    buf_deinit(&keys);
    buf_deinit(&ids);
    kit_deinit(&k);
}

static void test_compaction_is_asked_for(void **unused)
{
    (void)unused;
    struct kit k;
    kit_init(&k, 1);
    kit_run(&k, "config retain-min-revs 10");
    kit_run(&k, "config retain-revs 20");
    for (int i = 0; i < 200; i++) {
        k.stamp_ms += 1000;
        kit_run(&k, i % 2 == 0 ? "put a 1" : "del a");
    }
    uint64_t due = state_compact_due(k.s, 0);
    assert_true(due > 1);
    assert_true(due <= mvcc_rev(k.s->mvcc) - 10);
    char text[64];
    snprintf(text, sizeof text, "compact %llu", (unsigned long long)due);
    kit_run(&k, text);
    assert_int_equal(mvcc_compacted(k.s->mvcc), due);
    while (state_compact_step(k.s, 1)) {}
    assert_int_equal(mvcc_ghost_count(k.s->mvcc), 1); /* a, deleted after the compaction */
    kit_deinit(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_state_is_empty),
        cmocka_unit_test(test_hash_sees_every_part),
        cmocka_unit_test(test_hash_depends_on_entries_alone),
        cmocka_unit_test(test_alarms_are_a_sorted_set),
        cmocka_unit_test(test_growth_is_refused_before_it_is_proposed),
        cmocka_unit_test(test_due_is_what_has_passed),
        cmocka_unit_test(test_compaction_is_asked_for),
    };
    return cmocka_run_group_tests_name("state/state", tests, NULL, NULL);
}

#include "raft_lab.h"

static struct raft_members three(void)
{
    struct raft_members m = { 0 };
    static const uint64_t ids[] = { 7, 3, 5 };
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        struct raft_member member = lab_member(ids[i], i == 1 ? RAFT_LEARNER : RAFT_VOTER);
        assert_int_equal(raft_members_put(&m, &member), OK);
    }
    return m;
}

static void test_put_sorts_and_replaces(void **state)
{
    (void)state;
    struct raft_members m = three();
    assert_int_equal(m.count, 3);
    assert_true(m.at[0].id == 3 && m.at[1].id == 5 && m.at[2].id == 7);
    assert_int_equal(raft_members_voter_count(&m), 2);
    struct raft_member member = lab_member(3, RAFT_VOTER);
    assert_int_equal(raft_members_put(&m, &member), OK);
    assert_int_equal(m.count, 3);
    assert_true(raft_members_is_voter(&m, 3));
    assert_false(raft_members_is_voter(&m, 4));
    assert_null(raft_members_find(&m, 4));
}

static void test_remove(void **state)
{
    (void)state;
    struct raft_members m = three();
    assert_int_equal(raft_members_remove(&m, 5), OK);
    assert_int_equal(raft_members_remove(&m, 5), ERR_MEMBER);
    assert_true(m.count == 2 && m.at[0].id == 3 && m.at[1].id == 7);
}

static void test_limits(void **state)
{
    (void)state;
    struct raft_members m = { 0 };
    for (uint64_t id = 1; id <= RAFT_VOTERS_MAX; id++) {
        struct raft_member voter = lab_member(id, RAFT_VOTER);
        assert_int_equal(raft_members_put(&m, &voter), OK);
    }
    struct raft_member more = lab_member(100, RAFT_VOTER);
    assert_int_equal(raft_members_put(&m, &more), ERR_LIMIT);
    for (uint64_t id = 10; m.count < RAFT_MEMBERS_MAX; id++) {
        struct raft_member learner = lab_member(id, RAFT_LEARNER);
        assert_int_equal(raft_members_put(&m, &learner), OK);
    }
    more.role = RAFT_LEARNER;
    assert_int_equal(raft_members_put(&m, &more), ERR_LIMIT);
    more.id = 0;
    assert_int_equal(raft_members_put(&m, &more), ERR_SYNTAX);
    struct raft_member unended = lab_member(1, RAFT_VOTER);
    memset(unended.name, 'x', sizeof unended.name);
    assert_int_equal(raft_members_put(&m, &unended), ERR_SYNTAX);
}

/* The format is in logs and snapshots for ever. */
static void test_bytes_are_pinned(void **state)
{
    (void)state;
    static const uint8_t want[] = {
        1, 1,                                           /* format, count */
        9, 0, 0, 0, 0, 0, 0, 0,                         /* id */
        0x0d, 0x0c, 0, 0, 0, 0, 0, 0,                   /* directory id */
        1,                                              /* voter */
        3, 0, 'a', ':', '1', 2, 0, 'b', ':', 1, 0, 'n', /* addresses, name */
    };
    struct raft_members m = { .count = 1,
                              .at = { { .id = 9, .directory_id = 0x0c0d, .role = RAFT_VOTER,
                                        .peer_address = "a:1", .client_address = "b:",
                                        .name = "n" } } };
    struct buf out = { 0 };
    raft_members_encode(&out, &m);
    assert_int_equal(out.len, sizeof want);
    assert_memory_equal(out.at, want, sizeof want);
    buf_deinit(&out);
}

static void test_decode_returns_what_was_encoded(void **state)
{
    (void)state;
    struct raft_members m = three();
    struct raft_members got;
    struct buf out = { 0 };
    raft_members_encode(&out, &m);
    assert_int_equal(raft_members_decode(buf_slice(&out), &got), OK);
    assert_true(raft_members_eq(&m, &got));
    m.at[1].directory_id++;
    assert_false(raft_members_eq(&m, &got));
    buf_deinit(&out);
}

/* Every cut and every changed byte is refused, or means something else; nothing is read beyond. */
static void test_decode_distrusts(void **state)
{
    (void)state;
    struct raft_members m = three();
    struct raft_members got;
    struct buf out = { 0 };
    raft_members_encode(&out, &m);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *exact = mem_copy(out.at, len);
        assert_int_equal(raft_members_decode((struct slice){ exact, len }, &got), ERR_CORRUPT);
        mem_free(exact);
    }
    for (size_t i = 0; i < out.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            out.at[i] ^= (uint8_t)(1 << bit);
            if (raft_members_decode(buf_slice(&out), &got) == OK) {
                assert_false(raft_members_eq(&m, &got));
            }
            out.at[i] ^= (uint8_t)(1 << bit);
        }
    }
    buf_append_u8(&out, 0);
    assert_int_equal(raft_members_decode(buf_slice(&out), &got), ERR_CORRUPT);
    buf_deinit(&out);
}

static void test_texts_are_plain(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        const uint8_t text[] = { 'n', (uint8_t)c };
        bool good = c > ' ' && c < 127 && c != '"' && c != '\\';
        assert_int_equal(raft_member_text_is_good((struct slice){ text, sizeof text }), good);
    }
    assert_true(raft_member_text_is_good(SLICE_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_sorts_and_replaces),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_decode_returns_what_was_encoded),
        cmocka_unit_test(test_decode_distrusts),
        cmocka_unit_test(test_texts_are_plain),
    };
    return cmocka_run_group_tests_name("raft/raft_members", tests, NULL, NULL);
}

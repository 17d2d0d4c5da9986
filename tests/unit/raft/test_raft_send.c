#include "raft_lab.h"

#include "raft/raft_int.h"

/* A leader whose peer 2 replicates, with `count` entries of `bytes` each not yet sent. */
static struct lab *leader(size_t count, size_t bytes)
{
    uint8_t body[2048] = { 0 };
    struct lab *lab = lab_new(3, 0, 1);
    lab->cfg.uncommitted_bytes_max = 1u << 20;
    lab->cfg.append_bytes_max = 1000;
    lab->cfg.inflight_max = 3;
    for (uint64_t id = 1; id <= 3; id++) lab_start(lab, id);
    lab_elect(lab, 1);
    lab_run(lab, 50);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(lab_propose(lab, 1, (struct slice){ body, bytes }), OK);
    }
    return lab;
}

static void test_messages_are_bounded(void **state)
{
    (void)state;
    static const struct {
        size_t count, bytes, msgs, first;
    } cases[] = {
        { 1, 2000, 1, 1 }, /* one entry always fits */
        { 2, 600, 2, 1 },  { 2, 500, 1, 2 }, { 12, 300, 3, 3 }, { 1, 0, 1, 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = leader(cases[i].count, cases[i].bytes);
        struct raft_update u;
        raft_update_take(lab->node[1].r, &u);
        size_t msgs = 0;
        for (size_t k = 0; k < u.msg_count; k++) {
            if (u.msgs[k].to != 2) continue;
            if (msgs++ == 0) assert_int_equal(u.msgs[k].entry_count, cases[i].first);
            assert_int_equal(u.msgs[k].entries[0].index, u.msgs[k].index + 1);
        }
        assert_int_equal(msgs, cases[i].msgs);
        lab_free(lab);
    }
}

static void test_entry_count_is_bounded(void **state)
{
    (void)state;
    struct lab *lab = leader(RAFT_MSG_ENTRIES_MAX + 5, 0);
    struct raft_update u;
    raft_update_take(lab->node[1].r, &u);
    assert_int_equal(u.msgs[0].entry_count, RAFT_MSG_ENTRIES_MAX);
    assert_int_equal(u.msgs[1].entry_count, 5);
    lab_free(lab);
}

/* The news of a commit goes out at once, and once. */
static void test_commit_is_told(void **state)
{
    (void)state;
    struct lab *lab = leader(1, 10);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    raft_update_take(r, &u);
    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .write = u.write };
    lab_must(lab, 1, ev);
    struct raft_msg m = { .type = RAFT_MSG_APPEND_RESP, .from = 2, .to = 1, .term = 1,
                          .index = 2 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_commit_index(r), 2);
    assert_true(raft_update_take(r, &u));
    assert_int_equal(u.msg_count, 2);
    assert_true(u.msgs[0].commit == 2 && u.msgs[0].entry_count == 0);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_APPLIED, .index = 2 });
    assert_false(raft_update_take(r, &u));
    lab_free(lab);
}

/* With commit_rides it waits for an entry to carry it, or for the owner to say that none will. */
static void test_commit_rides(void **state)
{
    (void)state;
    struct lab *lab = leader(1, 10);
    struct raft *r = lab->node[1].r;
    r->cfg.commit_rides = true;
    struct raft_update u;
    raft_update_take(r, &u);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_PERSISTED, .write = u.write });
    struct raft_msg m = { .type = RAFT_MSG_APPEND_RESP, .from = 2, .to = 1, .term = 1,
                          .index = 2 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_commit_index(r), 2);
    assert_true(raft_update_take(r, &u)); /* to apply */
    assert_int_equal(u.msg_count, 0);

    assert_int_equal(lab_propose(lab, 1, (struct slice){ (const uint8_t *)"x", 1 }), OK);
    assert_true(raft_update_take(r, &u));
    assert_int_equal(u.msg_count, 2);
    assert_true(u.msgs[0].commit == 2 && u.msgs[0].entry_count == 1);
    struct raft_write write = u.write;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_APPLIED, .index = 2 });
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_COMMIT_TELL }); /* they know */
    assert_false(raft_update_take(r, &u));

    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_PERSISTED, .write = write });
    m.index = 3;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_commit_index(r), 3);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_COMMIT_TELL });
    assert_true(raft_update_take(r, &u));
    assert_int_equal(u.msg_count, 2);
    assert_true(u.msgs[1].commit == 3 && u.msgs[1].entry_count == 0);
    lab_free(lab);
}

/* A probe is sent once, until a sign of life. */
static void test_probe_pauses(void **state)
{
    (void)state;
    struct lab *lab = leader(0, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_UNREACHABLE, .peer = 2 });
    raft_update_take(r, &u);
    assert_true(u.msg_count == 1 && u.msgs[0].to == 2 && u.msgs[0].index == 1);
    lab_put(lab, 1, "x");
    raft_update_take(r, &u);
    for (size_t i = 0; i < u.msg_count; i++) assert_int_not_equal(u.msgs[i].to, 2);
    struct raft_msg m = { .type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .to = 1, .term = 1,
                          .round = 1, .index = 1 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    raft_update_take(r, &u);
    assert_true(u.msg_count == 1 && u.msgs[0].to == 2 && u.msgs[0].entry_count == 1);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_are_bounded),
        cmocka_unit_test(test_entry_count_is_bounded),
        cmocka_unit_test(test_commit_is_told),
        cmocka_unit_test(test_commit_rides),
        cmocka_unit_test(test_probe_pauses),
    };
    return cmocka_run_group_tests_name("raft/raft_send", tests, NULL, NULL);
}

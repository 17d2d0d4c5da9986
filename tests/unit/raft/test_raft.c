/* Making, restoring, looking. */
#include "raft_lab.h"

static struct raft_members one(void)
{
    struct raft_members m = { 0 };
    struct raft_member member = lab_member(1, RAFT_VOTER);
    assert_int_equal(raft_members_put(&m, &member), OK);
    return m;
}

static struct raft_config config(const struct raft_members *m)
{
    return (struct raft_config){ .id = 1, .heartbeat_ms = 100, .election_timeout_ms = 1000,
                                 .seed = 1, .append_bytes_max = 1024, .inflight_max = 4,
                                 .uncommitted_bytes_max = 1024, .members = m };
}

static struct raft_entry entry(uint64_t index, uint64_t term)
{
    return (struct raft_entry){ .index = index, .term = term, .type = RAFT_ENTRY_BATCH };
}

static enum err restore(struct raft *r, uint64_t index, uint64_t term)
{
    struct raft_entry e = entry(index, term);
    return raft_restore_entry(r, &e);
}

/* The first update of a new one-node group: term, vote and no-op in one write, nothing to apply. */
static void test_single_node_start(void **state)
{
    (void)state;
    struct raft_members m = one();
    struct raft_config cfg = config(&m);
    struct raft *r = raft_new(&cfg);
    struct raft_update u;
    raft_start(r, 5000);
    assert_int_equal(raft_role(r), RAFT_LEADER);
    assert_int_equal(raft_leader(r), 1);
    assert_true(raft_update_take(r, &u));
    assert_true(u.hard_changed && u.hard.term == 1 && u.hard.vote == 1 && u.hard.commit == 0);
    assert_true(u.write.seq == 1 && u.write.term == 1 && u.write.index == 1);
    assert_true(u.append_from == 1 && u.append_to == 1 && u.truncate_from == 0);
    assert_true(u.apply_from == 0 && u.msg_count == 0 && u.status_changed);
    assert_int_equal(raft_entry_at(r, 1)->type, RAFT_ENTRY_NOOP);
    assert_false(raft_update_take(r, &u)); /* asked once */
    assert_false(raft_own_term_committed(r));

    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .write = { 1, 1, 1 } };
    assert_int_equal(raft_step(r, &ev), OK);
    assert_true(raft_update_take(r, &u));
    assert_true(u.apply_from == 1 && u.apply_to == 1 && u.write.seq == 0 && !u.hard_changed);
    assert_int_equal(u.hard.commit, 1);
    assert_true(raft_own_term_committed(r));
    assert_int_equal(raft_quorum_sent_ms(r), 5000);
    raft_check(r);
    raft_free(r);
}

static void test_restore(void **state)
{
    (void)state;
    struct raft_members m = one();
    struct raft_config cfg = config(&m);
    cfg.hard = (struct raft_hard_state){ .term = 3, .vote = 1, .commit = 9 };
    cfg.applied_index = 4;
    cfg.applied_term = 2;
    struct raft *r = raft_new(&cfg);
    assert_int_equal(restore(r, 3, 1), OK); /* lends its term only */
    assert_int_equal(restore(r, 5, 2), ERR_CORRUPT);
    assert_int_equal(restore(r, 4, 1), ERR_CORRUPT); /* the state machine says term 2 */
    assert_int_equal(restore(r, 4, 2), OK);
    assert_int_equal(restore(r, 5, 1), ERR_CORRUPT);
    assert_int_equal(restore(r, 5, 4), ERR_CORRUPT); /* newer than the term that was stored */
    assert_int_equal(restore(r, 5, 3), OK);
    raft_start(r, 0);
    assert_int_equal(raft_first_index(r), 4);
    assert_int_equal(raft_term(r), 4);
    assert_int_equal(raft_last_index(r), 6); /* and the new term's no-op */
    assert_int_equal(raft_durable_index(r), 5);
    assert_int_equal(raft_commit_index(r), 5); /* 9 was a hint */
    assert_int_equal(raft_applied_index(r), 4);
    struct raft_update u;
    assert_true(raft_update_take(r, &u));
    assert_true(u.apply_from == 5 && u.apply_to == 5);
    raft_check(r);
    raft_free(r);
}

static void test_restore_whole_log(void **state)
{
    (void)state;
    struct raft_members m = one();
    struct raft_config cfg = config(&m);
    cfg.hard = (struct raft_hard_state){ .term = 1, .vote = 1, .commit = 2 };
    cfg.applied_index = 2;
    cfg.applied_term = 1;
    struct raft *r = raft_new(&cfg);
    for (uint64_t i = 1; i <= 3; i++) assert_int_equal(restore(r, i, 1), OK);
    raft_start(r, 0);
    assert_int_equal(raft_first_index(r), 1);
    raft_check(r);
    raft_free(r);
}

static void test_restore_gap_after_state(void **state)
{
    (void)state;
    struct raft_members m = one();
    struct raft_config cfg = config(&m);
    cfg.hard.term = 1;
    cfg.applied_index = 4;
    cfg.applied_term = 1;
    struct raft *r = raft_new(&cfg);
    assert_int_equal(restore(r, 6, 1), ERR_CORRUPT);
    struct raft_entry bad = entry(5, 1);
    bad.type = RAFT_ENTRY_MEMBERS;
    assert_int_equal(raft_restore_entry(r, &bad), ERR_CORRUPT);
    raft_free(r);
}

static void test_trim_keeps_what_is_needed(void **state)
{
    (void)state;
    struct lab *lab = lab_started(1, 0);
    struct lab_node *n = &lab->node[1];
    lab_stabilize(lab);
    for (int i = 0; i < 5; i++) {
        lab_put(lab, 1, "x");
        lab_work(lab, 1);
    }
    size_t full = raft_log_bytes(n->r);
    n->disk_held = true;
    lab_put(lab, 1, "y");
    lab_work(lab, 1);
    raft_log_trim(n->r, 1000);
    raft_check(n->r);
    assert_int_equal(raft_first_index(n->r), 7); /* y is not durable */
    assert_int_equal(raft_last_index(n->r), 7);
    assert_true(raft_log_bytes(n->r) < full);
    lab_free(lab);
}

static void test_may_not_campaign(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    raft_campaign_allow(lab->node[1].r, false);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_CAMPAIGN });
    lab_stabilize(lab);
    assert_int_equal(raft_role(lab->node[1].r), RAFT_FOLLOWER);
    lab_elect(lab, 2);
    assert_int_equal(raft_leader(lab->node[1].r), 2); /* it votes and follows */
    raft_campaign_allow(lab->node[1].r, true);
    lab->cut[2][1] = lab->cut[2][3] = true;
    lab_run(lab, 4000);
    assert_int_not_equal(raft_leader(lab->node[1].r), 2);
    lab_free(lab);
}

static void test_peer_status(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 1);
    struct raft_peer_status p;
    lab_elect(lab, 1);
    assert_true(raft_peer_status(lab->node[1].r, 2, &p));
    assert_true(p.id == 4 && !p.voter && p.match_index == 1 && p.next_index == 2);
    assert_false(raft_peer_status(lab->node[1].r, 3, &p));
    assert_false(raft_peer_status(lab->node[2].r, 0, &p));
    assert_string_equal(raft_role_name(RAFT_PRECANDIDATE), "precandidate");
    assert_string_equal(raft_peer_state_name(RAFT_PEER_LOST), "lost");
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_node_start),
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_restore_whole_log),
        cmocka_unit_test(test_restore_gap_after_state),
        cmocka_unit_test(test_trim_keeps_what_is_needed),
        cmocka_unit_test(test_may_not_campaign),
        cmocka_unit_test(test_peer_status),
    };
    return cmocka_run_group_tests_name("raft/raft", tests, NULL, NULL);
}

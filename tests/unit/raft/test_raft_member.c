#include "raft_lab.h"

#include "raft/raft_int.h"

static enum err propose(struct lab *lab, const struct raft_members *m)
{
    return lab_event(lab, 1, (struct raft_event){ .type = RAFT_EV_PROPOSE_MEMBERS,
                                                  .members = m });
}

static struct lab *settled(size_t voters, size_t learners)
{
    struct lab *lab = lab_started(voters, learners);
    lab_elect(lab, 1);
    return lab;
}

static void test_what_may_be_proposed(void **state)
{
    (void)state;
    struct lab *lab = settled(2, 2);
    const struct raft_members now = *raft_members(lab->node[1].r);
    struct raft_members m = now;
    assert_int_equal(propose(lab, &m), ERR_EXISTS);
    m.at[1] = m.at[0];
    assert_int_equal(propose(lab, &m), ERR_SYNTAX); /* the same id twice */
    m = now;
    m.count = 2;
    assert_int_equal(propose(lab, &m), ERR_SYNTAX); /* two learners less */
    m = now;
    m.at[2].role = RAFT_VOTER;
    m.at[0].name[0] = 'z';
    assert_int_equal(propose(lab, &m), ERR_SYNTAX);
    m = now;
    m.count = RAFT_MEMBERS_MAX + 1;
    assert_int_equal(propose(lab, &m), ERR_LIMIT);
    m = now;
    m.at[0].role = m.at[1].role = RAFT_LEARNER;
    assert_int_equal(propose(lab, &m), ERR_QUORUM);
    m = now;
    m.at[0].name[0] = 'z';
    assert_int_equal(propose(lab, &m), OK); /* a new name is a change like any other */
    assert_int_equal(propose(lab, &now), ERR_BUSY);
    assert_true(raft_members_eq(raft_members(lab->node[1].r), &m));
    assert_int_equal(raft_members_index(lab->node[1].r), 2);
    lab_free(lab);
}

/* The order in which the caller lists them does not matter. */
static void test_proposal_is_normalized(void **state)
{
    (void)state;
    struct lab *lab = settled(2, 0);
    struct raft_members m = *raft_members(lab->node[1].r);
    m.at[2] = m.at[0];
    m.at[0] = lab_member(3, RAFT_LEARNER);
    m.count = 3;
    assert_int_equal(propose(lab, &m), OK);
    const struct raft_members *got = raft_members(lab->node[1].r);
    assert_true(got->at[0].id == 1 && got->at[1].id == 2 && got->at[2].id == 3);
    lab_free(lab);
}

static void test_members_changed_is_told(void **state)
{
    (void)state;
    struct lab *lab = settled(2, 0);
    struct raft_update u;
    raft_update_take(lab->node[1].r, &u);
    assert_false(u.members_changed);
    struct raft_members m = *raft_members(lab->node[1].r);
    assert_int_equal(raft_members_remove(&m, 2), OK);
    assert_int_equal(propose(lab, &m), OK);
    raft_update_take(lab->node[1].r, &u);
    assert_true(u.members_changed && u.append_to == 2);
    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .write = u.write };
    lab_must(lab, 1, ev); /* the only voter now, and enough */
    assert_int_equal(raft_commit_index(lab->node[1].r), 2);
    lab_free(lab);
}

/* A peer that stays keeps its progress; one that comes is probed; one that goes is gone. */
static void test_progress_survives_a_change(void **state)
{
    (void)state;
    struct lab *lab = settled(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_members m = *raft_members(r);
    struct raft_member more = lab_member(4, RAFT_LEARNER);
    assert_int_equal(raft_members_put(&m, &more), OK);
    assert_int_equal(propose(lab, &m), OK);
    assert_int_equal(peer_find(r, 2)->match_index, 1);
    assert_int_equal(peer_find(r, 4)->match_index, 0);
    assert_int_equal(peer_find(r, 4)->state, RAFT_PEER_PROBE);
    lab_stabilize(lab);
    assert_int_equal(raft_members_remove(&m, 3), OK);
    assert_int_equal(propose(lab, &m), OK);
    assert_null(peer_find(r, 3));
    assert_int_equal(r->voter_count, 2);
    lab_free(lab);
}

/* Two changes in the log of a follower that knows of no commit are undone one by one. */
static void test_undo_returns_to_the_one_before(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_members m = lab->first_members;
    struct raft_entry e[3];
    for (size_t i = 0; i < 3; i++) {
        struct raft_member member = lab_member(10 + i, RAFT_LEARNER);
        struct buf bytes = { 0 };
        assert_int_equal(raft_members_put(&m, &member), OK);
        raft_members_encode(&bytes, &m);
        e[i] = (struct raft_entry){ .term = 1, .index = 1 + i, .type = RAFT_ENTRY_MEMBERS,
                                    .body = blob_copy(buf_slice(&bytes)) };
        buf_deinit(&bytes);
    }
    struct raft_msg msg = { .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 1, .entries = e,
                            .entry_count = 3 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &msg });
    assert_int_equal(raft_members(r)->count, 6);
    for (uint64_t from = 3; from >= 1; from--) {
        struct raft_entry other = { .term = 5 - from, .index = from, .type = RAFT_ENTRY_NOOP };
        struct raft_msg cut = { .type = RAFT_MSG_APPEND, .from = 3, .to = 1, .term = 5 - from,
                                .index = from - 1, .log_term = from == 1 ? 0 : 1,
                                .entries = &other, .entry_count = 1 };
        lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &cut });
        assert_int_equal(raft_members(r)->count, 3 + from - 1);
        assert_int_equal(raft_members_index(r), from - 1);
    }
    for (size_t i = 0; i < 3; i++) blob_unref(e[i].body);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_may_be_proposed),
        cmocka_unit_test(test_proposal_is_normalized),
        cmocka_unit_test(test_members_changed_is_told),
        cmocka_unit_test(test_progress_survives_a_change),
        cmocka_unit_test(test_undo_returns_to_the_one_before),
    };
    return cmocka_run_group_tests_name("raft/raft_member", tests, NULL, NULL);
}

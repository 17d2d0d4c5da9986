#include "raft_lab.h"

#include "raft/raft_int.h"

static enum err transfer(struct lab *lab, uint64_t from, uint64_t to)
{
    return lab_event(lab, from, (struct raft_event){ .type = RAFT_EV_TRANSFER, .peer = to });
}

static struct lab *leader(size_t voters, size_t learners)
{
    struct lab *lab = lab_started(voters, learners);
    lab_elect(lab, 1);
    return lab;
}

static void test_who_may_be_asked(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 1);
    assert_int_equal(transfer(lab, 2, 3), ERR_NOT_LEADER);
    assert_int_equal(transfer(lab, 1, 1), ERR_MEMBER);
    assert_int_equal(transfer(lab, 1, 4), ERR_MEMBER);
    assert_int_equal(transfer(lab, 1, 9), ERR_MEMBER);
    assert_int_equal(transfer(lab, 1, 3), OK);
    assert_int_equal(raft_transfer_target(lab->node[1].r), 3);
    assert_int_equal(transfer(lab, 1, 2), ERR_BUSY);
    lab_stabilize(lab);
    assert_int_equal(raft_role(lab->node[3].r), RAFT_LEADER);
    assert_int_equal(raft_transfer_target(lab->node[1].r), 0);
    lab_free(lab);
}

/* 0: the voter that is furthest. */
static void test_the_core_chooses(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 1);
    lab->cut[1][2] = true;
    lab_put(lab, 1, "x");
    lab_stabilize(lab);
    assert_int_equal(transfer(lab, 1, 0), OK);
    assert_int_equal(raft_transfer_target(lab->node[1].r), 3);
    lab_free(lab);
}

static void test_nobody_to_choose(void **state)
{
    (void)state;
    struct lab *lab = leader(1, 0);
    assert_int_equal(transfer(lab, 1, 0), ERR_MEMBER);
    lab_free(lab);
}

static void test_transfer_ends_when_the_target_is_removed(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft *r = lab->node[1].r;
    lab->cut[1][3] = true;
    lab_put(lab, 1, "x");
    lab_stabilize(lab);
    assert_int_equal(transfer(lab, 1, 3), OK);
    struct raft_members m = *raft_members(r);
    assert_int_equal(raft_members_remove(&m, 3), OK);
    members_adopt(r, &m, raft_members_index(r));
    struct raft_update u;
    raft_update_take(r, &u);
    assert_int_equal(raft_transfer_target(r), 0);
    lab_free(lab);
}

/* Who is told to campaign does so only if it hears it from its leader, and may. */
static void test_timeout_now(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 1);
    struct raft_msg m = { .type = RAFT_MSG_TIMEOUT_NOW, .from = 3, .to = 2, .term = 1 };
    lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_role(lab->node[2].r), RAFT_FOLLOWER);
    m.from = 1;
    m.to = 4;
    lab_must(lab, 4, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_role(lab->node[4].r), RAFT_FOLLOWER);
    m.to = 2;
    lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_role(lab->node[2].r), RAFT_CANDIDATE); /* without asking first */
    lab_free(lab);
}

/* A single node has nobody to hand over to: it stays, and goes on when its disk does. */
static void test_stuck_disk_alone(void **state)
{
    (void)state;
    struct lab *lab = lab_started(1, 0);
    struct raft *r = lab->node[1].r;
    lab_stabilize(lab);
    lab->node[1].disk_held = true;
    lab_put(lab, 1, "x");
    lab_run(lab, 3000);
    assert_true(raft_disk_is_slow(r));
    assert_int_equal(raft_role(r), RAFT_LEADER);
    lab->node[1].disk_held = false;
    lab_work(lab, 1);
    assert_false(raft_disk_is_slow(r));
    assert_int_equal(raft_commit_index(r), 2);
    lab_free(lab);
}

/* Nobody is level with the leader: it steps down when the handover has failed. */
static void test_stuck_disk_steps_down(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft *r = lab->node[1].r;
    lab->node[1].disk_held = lab->node[2].disk_held = lab->node[3].disk_held = true;
    lab_put(lab, 1, "x");
    lab_run(lab, 1500);
    assert_int_equal(raft_role(r), RAFT_LEADER);
    assert_int_not_equal(raft_transfer_target(r), 0);
    lab_run(lab, 700);
    assert_int_equal(raft_role(r), RAFT_FOLLOWER);
    lab_free(lab);
}

/* Who may not lead any more hands over, or steps down if there is nobody. */
static void test_who_may_not_lead_hands_over(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    raft_campaign_allow(lab->node[1].r, false);
    lab_run(lab, 500);
    assert_int_equal(raft_role(lab->node[1].r), RAFT_FOLLOWER);
    assert_true(raft_role(lab->node[2].r) == RAFT_LEADER || raft_role(lab->node[3].r) == RAFT_LEADER);
    lab_run(lab, 3000);
    assert_int_equal(raft_role(lab->node[1].r), RAFT_FOLLOWER);
    lab_free(lab);
}

/* A slow disk that does answer within the timeout is no reason. */
static void test_slow_disk_is_borne(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    lab->node[1].disk_held = true;
    for (int i = 0; i < 10; i++) {
        lab_put(lab, 1, "x");
        lab_run(lab, 800);
        lab_persist_one(lab, 1);
        lab_stabilize(lab);
    }
    assert_int_equal(raft_role(lab->node[1].r), RAFT_LEADER);
    assert_false(raft_disk_is_slow(lab->node[1].r));
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_may_be_asked),
        cmocka_unit_test(test_the_core_chooses),
        cmocka_unit_test(test_nobody_to_choose),
        cmocka_unit_test(test_transfer_ends_when_the_target_is_removed),
        cmocka_unit_test(test_timeout_now),
        cmocka_unit_test(test_stuck_disk_alone),
        cmocka_unit_test(test_stuck_disk_steps_down),
        cmocka_unit_test(test_slow_disk_is_borne),
        cmocka_unit_test(test_who_may_not_lead_hands_over),
    };
    return cmocka_run_group_tests_name("raft/raft_transfer", tests, NULL, NULL);
}

#include "raft_lab.h"

#include "raft/raft_int.h"

static const struct raft_msg *find_msg(const struct raft_update *u, enum raft_msg_type type)
{
    for (size_t i = 0; i < u->msg_count; i++) {
        if (u->msgs[i].type == type) return &u->msgs[i];
    }
    return NULL;
}

/* Everything of one turn goes into one write and one message a peer. */
static void test_one_turn_is_one_update(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    lab_elect(lab, 1);
    lab_run(lab, 50);
    for (int i = 0; i < 5; i++) lab_put(lab, 1, "entry");
    assert_true(raft_update_take(r, &u));
    assert_true(u.append_from == 2 && u.append_to == 6 && u.write.index == 6);
    assert_false(u.hard_changed);
    assert_int_equal(u.msg_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(u.msgs[i].entry_count, 5);
        assert_int_equal(u.msgs[i].entries[4].index, 6);
    }
    assert_false(raft_update_take(r, &u));
    lab_free(lab);
}

/* Bodies of messages live as long as the update, whatever happens to the log. */
static void test_messages_hold_their_bodies(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    lab_elect(lab, 1);
    lab_put(lab, 1, "entry");
    assert_true(raft_update_take(r, &u));
    assert_int_equal(raft_entry_at(r, 2)->body->refs, 3); /* the log and two messages */
    assert_false(raft_update_take(r, &u));
    assert_int_equal(raft_entry_at(r, 2)->body->refs, 1);
    lab_free(lab);
}

/* A candidate's requests wait for its disk; several writes in between do not release them. */
static void test_messages_wait_for_term_and_vote(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    lab->node[1].disk_held = true;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_CAMPAIGN });
    lab_work(lab, 1);
    while (lab->net_count != 0) { /* deliver the pre-vote both ways, answer by answer */
        struct lab_packet p = lab_net_take(lab, 0);
        uint64_t to = p.to;
        lab_deliver(lab, &p);
        if (to != 1) lab_work(lab, to);
    }
    assert_int_equal(raft_role(r), RAFT_CANDIDATE);
    assert_true(raft_update_take(r, &u));
    assert_true(u.hard_changed && u.hard.vote == 1);
    assert_null(find_msg(&u, RAFT_MSG_VOTE));
    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .write = u.write };
    assert_int_equal(raft_step(r, &ev), OK);
    assert_true(raft_update_take(r, &u));
    assert_non_null(find_msg(&u, RAFT_MSG_VOTE));
    lab_free(lab);
}

/* A late taker loses nothing. */
static void test_update_taken_late(void **state)
{
    (void)state;
    struct lab *lab = lab_started(1, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    lab_stabilize(lab);
    lab_put(lab, 1, "a");
    lab_read(lab, 1);
    lab->now_ms += 20;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_TICK, .now_ms = lab->now_ms });
    lab_put(lab, 1, "b");
    assert_true(raft_update_take(r, &u));
    assert_true(u.append_from == 2 && u.append_to == 3 && u.read_id == 1 && u.read_index == 1);
    lab_free(lab);
}

/* A log that was cut before its end was handed out asks for no cut on disk. */
static void test_unstored_entries_vanish_silently(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    lab_elect(lab, 1);
    lab_put(lab, 1, "never stored");
    struct raft_entry other = { .term = 2, .index = 2, .type = RAFT_ENTRY_NOOP };
    struct raft_msg m = { .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 2, .index = 1,
                          .log_term = 1, .entries = &other, .entry_count = 1 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_true(raft_update_take(r, &u));
    assert_true(u.truncate_from == 0 && u.append_from == 2 && u.append_to == 2);
    assert_int_equal(raft_entry_at(r, 2)->term, 2);
    lab_free(lab);
}

static void test_outbox_is_bounded(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_msg m = { .type = RAFT_MSG_PREVOTE, .from = 2, .to = 1, .term = 5 };
    for (int i = 0; i < RAFT_OUTBOX_MAX + 100; i++) {
        struct raft_event ev = { .type = RAFT_EV_MESSAGE, .msg = &m };
        assert_int_equal(raft_step(r, &ev), OK);
    }
    assert_int_equal(r->out.msg_count, RAFT_OUTBOX_MAX);
    m.type = RAFT_MSG_VOTE; /* from now on answers wait for the disk */
    for (int i = 0; i < RAFT_OUTBOX_MAX + 100; i++) {
        struct raft_event ev = { .type = RAFT_EV_MESSAGE, .msg = &m };
        assert_int_equal(raft_step(r, &ev), OK);
    }
    assert_int_equal(r->out.held_count, RAFT_OUTBOX_MAX);
    lab_free(lab);
}

/* The steady state of a one-node group allocates nothing here. */
static void test_steady_state_reuses_memory(void **state)
{
    (void)state;
    struct lab *lab = lab_started(1, 0);
    struct lab_node *n = &lab->node[1];
    lab_stabilize(lab);
    size_t cap = 0;
    for (int i = 0; i < 1000; i++) {
        lab_put(lab, 1, "x");
        lab_work(lab, 1);
        raft_log_trim(n->r, n->applied);
        if (i == 10) cap = n->r->log.cap;
    }
    assert_int_equal(n->r->log.cap, cap);
    assert_int_equal(n->r->out.msg_cap + n->r->out.entry_cap + n->r->out.held_cap, 0);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_turn_is_one_update),
        cmocka_unit_test(test_messages_hold_their_bodies),
        cmocka_unit_test(test_messages_wait_for_term_and_vote),
        cmocka_unit_test(test_update_taken_late),
        cmocka_unit_test(test_unstored_entries_vanish_silently),
        cmocka_unit_test(test_outbox_is_bounded),
        cmocka_unit_test(test_steady_state_reuses_memory),
    };
    return cmocka_run_group_tests_name("raft/raft_update", tests, NULL, NULL);
}

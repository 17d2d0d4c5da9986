#include "raft_lab.h"

#include "raft/raft_int.h"

static enum err message(struct lab *lab, uint64_t to, struct raft_msg m)
{
    m.to = m.to == 0 ? to : m.to;
    return lab_event(lab, to, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
}

static void test_malformed_messages_are_refused(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    lab_elect(lab, 1);
    static const struct {
        const char *label;
        struct raft_msg m;
    } cases[] = {
        { "not for us", { .type = RAFT_MSG_VOTE, .from = 2, .to = 3, .term = 9 } },
        { "from us", { .type = RAFT_MSG_VOTE, .from = 1, .to = 1, .term = 9 } },
        { "no type", { .from = 2, .term = 9 } },
        { "no term", { .type = RAFT_MSG_HEARTBEAT, .from = 2 } },
        { "a second leader", { .type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 1 } },
        { "a second leader appends", { .type = RAFT_MSG_APPEND, .from = 2, .term = 1 } },
        { "more than there is", { .type = RAFT_MSG_APPEND_RESP, .from = 2, .term = 1,
                                  .index = 99 } },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (message(lab, 1, cases[i].m) != ERR_PROTO) fail_msg("%s", cases[i].label);
        assert_int_equal(raft_role(lab->node[1].r), RAFT_LEADER);
        assert_int_equal(raft_term(lab->node[1].r), 1);
    }
    lab_free(lab);
}

/* Whatever a peer says that is well-formed, no assertion fails and nothing committed is lost. */
static void test_hostile_peer(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252ULL;
    struct lab *lab = lab_started(3, 0);
    lab_elect(lab, 1);
    lab_put(lab, 1, "a");
    lab_stabilize(lab);
    lab->cut[1][2] = lab->cut[1][3] = true;
    for (int i = 0; i < 50000; i++) {
        struct raft_entry e[2] = { 0 };
        uint64_t word[8];
        for (size_t k = 0; k < ARRAY_LEN(word); k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            word[k] = (x >> 20) % 7;
        }
        struct raft_msg m = { .type = (enum raft_msg_type)(1 + (x >> 9) % 11),
                              .reject = (x >> 30) & 1, .force = (x >> 31) & 1,
                              .from = 2 + word[0] % 3, .term = word[1] + (uint64_t)i / 5000,
                              .index = word[2], .log_term = word[3], .commit = word[4],
                              .round = word[5], .hint = word[6], .entries = e };
        if (m.type == RAFT_MSG_APPEND) m.entry_count = word[7] % 3;
        for (size_t k = 0; k < m.entry_count; k++) {
            e[k] = (struct raft_entry){ .term = m.log_term + k + 1, .index = m.index + 1 + k,
                                        .type = RAFT_ENTRY_BATCH };
        }
        (void)message(lab, 1, m);
        if (i % 3 == 0) {
            struct raft_update u;
            struct raft_event ev = { .type = RAFT_EV_PERSISTED };
            if (raft_update_take(lab->node[1].r, &u) && u.write.seq != 0) {
                ev.write = u.write;
                lab_must(lab, 1, ev);
            }
        }
        assert_true(raft_commit_index(lab->node[1].r) >= 2);
    }
    lab_free(lab);
}

static void test_old_terms_are_told_the_new_one(void **state)
{
    (void)state;
    static const struct {
        enum raft_msg_type type;
        enum raft_msg_type answer; /* 0: none */
    } cases[] = {
        { RAFT_MSG_APPEND, RAFT_MSG_APPEND_RESP }, { RAFT_MSG_HEARTBEAT, RAFT_MSG_APPEND_RESP },
        { RAFT_MSG_VOTE, RAFT_MSG_VOTE_RESP },     { RAFT_MSG_PREVOTE, RAFT_MSG_PREVOTE_RESP },
        { RAFT_MSG_APPEND_RESP, 0 },               { RAFT_MSG_READ, 0 },
        { RAFT_MSG_TIMEOUT_NOW, 0 },
    };
    struct lab *lab = lab_new(3, 0, 1);
    lab->node[1].hard.term = 7;
    lab_start(lab, 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct raft_update u;
        assert_int_equal(message(lab, 1, (struct raft_msg){ .type = cases[i].type, .from = 2,
                                                            .term = 3 }), OK);
        raft_update_take(lab->node[1].r, &u);
        assert_int_equal(u.msg_count, cases[i].answer != 0);
        if (u.msg_count == 0) continue;
        assert_true(u.msgs[0].type == cases[i].answer && u.msgs[0].term == 7);
        assert_true(u.msgs[0].reject && u.msgs[0].to == 2);
    }
    lab_free(lab);
}

/* A newer term makes a follower of anybody; a pre-vote, and its grant, move no term. */
static void test_newer_terms(void **state)
{
    (void)state;
    static const struct {
        struct raft_msg m;
        uint64_t term;
        uint64_t leader;
    } cases[] = {
        { { .type = RAFT_MSG_PREVOTE, .from = 2, .term = 5 }, 2, 0 },
        { { .type = RAFT_MSG_PREVOTE_RESP, .from = 2, .term = 5 }, 2, 0 },
        { { .type = RAFT_MSG_PREVOTE_RESP, .from = 2, .term = 5, .reject = true }, 5, 0 },
        { { .type = RAFT_MSG_VOTE, .from = 2, .term = 5 }, 5, 0 },
        { { .type = RAFT_MSG_VOTE_RESP, .from = 2, .term = 5, .reject = true }, 5, 0 },
        { { .type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 5 }, 5, 2 },
        { { .type = RAFT_MSG_APPEND, .from = 2, .term = 5 }, 5, 2 },
        { { .type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = 5 }, 5, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = lab_new(3, 0, 1);
        lab->node[1].hard.term = 2;
        lab_start(lab, 1);
        assert_int_equal(message(lab, 1, cases[i].m), OK);
        assert_int_equal(raft_term(lab->node[1].r), cases[i].term);
        assert_int_equal(raft_leader(lab->node[1].r), cases[i].leader);
        assert_int_equal(raft_role(lab->node[1].r), RAFT_FOLLOWER);
        lab_free(lab);
    }
}

static void test_uncommitted_log_is_bounded(void **state)
{
    (void)state;
    struct lab *lab = lab_started(1, 0);
    struct raft *r = lab->node[1].r;
    lab_stabilize(lab);
    lab->node[1].disk_held = true;
    uint8_t body[1000] = { 0 };
    for (int i = 0; i < 4; i++) {
        assert_int_equal(lab_propose(lab, 1, (struct slice){ body, 1000 }), OK);
    }
    assert_int_equal(raft_uncommitted_bytes(r), 4000);
    assert_int_equal(lab_propose(lab, 1, (struct slice){ body, 97 }), ERR_BUSY);
    assert_int_equal(lab_propose(lab, 1, (struct slice){ body, 96 }), OK);
    lab->node[1].disk_held = false;
    lab_work(lab, 1);
    assert_int_equal(raft_uncommitted_bytes(r), 0);
    lab_free(lab);
}

/* Time that jumps is one step; time that goes back is none. */
static void test_clock(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_event ev = { .type = RAFT_EV_TICK, .now_ms = 100 };
    lab_must(lab, 1, ev);
    assert_int_equal(r->clock_ms, 100);
    ev.now_ms = 50;
    lab_must(lab, 1, ev);
    assert_int_equal(r->clock_ms, 100);
    assert_int_equal(r->now_ms, 100);
    ev.now_ms = 1000000;
    lab_must(lab, 1, ev);
    assert_int_equal(r->clock_ms, 350);
    assert_int_equal(r->now_ms, 1000000);
    lab_free(lab);
}

/* Each ticks when raft says that it is due, and at no other time. How often. */
static size_t run_by_due(struct lab *lab, int64_t for_ms)
{
    size_t tick_count = 0;
    for (int64_t end_ms = lab->now_ms + for_ms; lab->now_ms < end_ms;) {
        lab->now_ms++;
        for (uint64_t id = 1; id <= lab->node_count; id++) {
            if (raft_due_ms(lab->node[id].r) > lab->now_ms) continue;
            lab_tick(lab, id);
            tick_count++;
        }
        lab_stabilize(lab);
    }
    return tick_count;
}

static void test_ticks_when_due_are_enough(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    run_by_due(lab, 5000);
    uint64_t leader = raft_leader(lab->node[1].r);
    assert_int_not_equal(leader, 0);
    struct raft *r = lab->node[leader].r;
    uint64_t term = raft_term(r);
    for (int i = 0; i < 50; i++) {
        assert_true(run_by_due(lab, 100) <= 3);
        assert_true(lab->now_ms - raft_quorum_sent_ms(r) <= 100);
    }
    assert_int_equal(raft_term(r), term);

    /* A follower's question is lost: it asks again with the next beat. */
    uint64_t other = leader == 1 ? 2 : 1;
    lab->cut[other][leader] = true;
    lab_read(lab, other);
    lab_stabilize(lab);
    lab->cut[other][leader] = false;
    run_by_due(lab, 100);
    assert_int_equal(lab->node[other].read_id, 1);

    for (uint64_t id = 1; id <= 3; id++) lab->cut[leader][id] = lab->cut[id][leader] = true;
    run_by_due(lab, 2 * 1000 + 250); /* the longest election timeout, and a step */
    assert_int_not_equal(raft_role(r), RAFT_LEADER);
    assert_int_not_equal(raft_leader(lab->node[other].r), leader);
    run_by_due(lab, 4000);
    assert_int_not_equal(raft_leader(lab->node[other].r), 0);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_messages_are_refused),
        cmocka_unit_test(test_hostile_peer),
        cmocka_unit_test(test_old_terms_are_told_the_new_one),
        cmocka_unit_test(test_newer_terms),
        cmocka_unit_test(test_uncommitted_log_is_bounded),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_ticks_when_due_are_enough),
    };
    return cmocka_run_group_tests_name("raft/raft_step", tests, NULL, NULL);
}

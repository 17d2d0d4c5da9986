#include "raft_lab.h"

#include "raft/raft_int.h"

static const struct raft_msg *answer(struct lab *lab, struct raft_msg m)
{
    static struct raft_update u;
    struct raft_event ev = { .type = RAFT_EV_MESSAGE, .msg = &m };
    m.to = 1;
    lab_must(lab, 1, ev);
    raft_update_take(lab->node[1].r, &u);
    if (u.write.seq != 0) {
        ev = (struct raft_event){ .type = RAFT_EV_PERSISTED, .write = u.write };
        lab_must(lab, 1, ev);
        raft_update_take(lab->node[1].r, &u);
    }
    return u.msg_count == 0 ? NULL : &u.msgs[0];
}

/* Node 1 has term 3 and a log that ends with index 5 of term 2. */
static struct lab *voter(uint64_t vote)
{
    struct lab *lab = lab_new(3, 0, 1);
    for (uint64_t i = 1; i <= 5; i++) {
        struct raft_entry e = { .term = i < 4 ? 1 : 2, .index = i, .type = RAFT_ENTRY_BATCH };
        lab_log_push(&lab->node[1].log, &e);
    }
    lab->node[1].hard = (struct raft_hard_state){ .term = 3, .vote = vote };
    lab_start(lab, 1);
    return lab;
}

static void test_votes(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        uint64_t vote, term, index, log_term;
        bool grant;
    } cases[] = {
        { "same log", 0, 3, 5, 2, true },
        { "longer log", 0, 3, 6, 2, true },
        { "later term, shorter", 0, 3, 1, 3, true },
        { "shorter log", 0, 3, 4, 2, false },
        { "earlier term, longer", 0, 3, 99, 1, false },
        { "voted for it", 2, 3, 5, 2, true },
        { "voted for another", 3, 3, 5, 2, false },
        { "voted for another, new term", 3, 4, 5, 2, true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = voter(cases[i].vote);
        struct raft_msg m = { .type = RAFT_MSG_VOTE, .from = 2, .term = cases[i].term,
                              .index = cases[i].index, .log_term = cases[i].log_term };
        const struct raft_msg *a = answer(lab, m);
        assert_non_null(a);
        if (a->reject == cases[i].grant) fail_msg("%s", cases[i].label);
        assert_true(a->type == RAFT_MSG_VOTE_RESP && a->term == cases[i].term);
        assert_int_equal(raft_role(lab->node[1].r), RAFT_FOLLOWER);
        lab_free(lab);
    }
}

/* A term may be durable before the vote in it is given; then the vote is a write of its own. */
static void test_vote_in_a_known_term_is_stored(void **state)
{
    (void)state;
    struct lab *lab = voter(0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    struct raft_msg m = { .type = RAFT_MSG_VOTE, .from = 3, .term = 4, .index = 1, .log_term = 1 };
    const struct raft_msg *a = answer(lab, m);
    assert_true(a != NULL && a->reject);
    assert_true(r->hard.term == 4 && r->hard.vote == 0);

    m = (struct raft_msg){ .type = RAFT_MSG_VOTE, .from = 2, .to = 1, .term = 4, .index = 5,
                           .log_term = 2 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_true(raft_update_take(r, &u));
    assert_true(u.hard_changed && u.hard.vote == 2 && u.msg_count == 0);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_PERSISTED, .write = u.write });
    assert_true(raft_update_take(r, &u));
    assert_true(u.msg_count == 1 && !u.msgs[0].reject);
    lab_free(lab);
}

/* A pre-vote is given for a later term whatever was voted for, and changes nothing. */
static void test_prevotes(void **state)
{
    (void)state;
    struct lab *lab = voter(3);
    struct raft_msg m = { .type = RAFT_MSG_PREVOTE, .from = 2, .term = 4, .index = 5,
                          .log_term = 2 };
    const struct raft_msg *a = answer(lab, m);
    assert_true(a != NULL && !a->reject && a->term == 4);
    m.index = 4;
    a = answer(lab, m);
    assert_true(a != NULL && a->reject && a->term == 3);
    assert_int_equal(raft_term(lab->node[1].r), 3);
    assert_int_equal(lab->node[1].r->hard.vote, 3);
    lab_free(lab);
}

static void test_stickiness_ends_with_the_timeout(void **state)
{
    (void)state;
    struct lab *lab = voter(0);
    struct raft *r = lab->node[1].r;
    struct raft_msg beat = { .type = RAFT_MSG_HEARTBEAT, .from = 3, .term = 3, .round = 1 };
    struct raft_msg ask = { .type = RAFT_MSG_VOTE, .from = 2, .term = 4, .index = 5,
                            .log_term = 2 };
    assert_non_null(answer(lab, beat));
    assert_null(answer(lab, ask));
    assert_int_equal(raft_term(r), 3);
    ask.force = true; /* the leader itself wants it */
    const struct raft_msg *a = answer(lab, ask);
    assert_true(a != NULL && !a->reject);

    beat.term = 4;
    beat.from = 2;
    assert_non_null(answer(lab, beat));
    ask = (struct raft_msg){ .type = RAFT_MSG_PREVOTE, .from = 3, .term = 5, .index = 5,
                             .log_term = 2 };
    assert_null(answer(lab, ask));
    for (lab->now_ms = 100; lab->now_ms <= 1000; lab->now_ms += 100) {
        lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_TICK, .now_ms = lab->now_ms });
    }
    a = answer(lab, ask);
    assert_true(a != NULL && !a->reject);
    lab_free(lab);
}

/* Strangers and learners may answer; it does not count. */
static void test_only_voters_elect(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 2);
    struct raft *r = lab->node[1].r;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_CAMPAIGN });
    static const uint64_t others[] = { 4, 5, 8, 9 };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct raft_msg m = { .type = RAFT_MSG_PREVOTE_RESP, .from = others[i], .to = 1,
                              .term = 1 };
        lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
        assert_int_equal(raft_role(r), RAFT_PRECANDIDATE);
    }
    struct raft_msg m = { .type = RAFT_MSG_PREVOTE_RESP, .from = 3, .to = 1, .term = 1 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_role(r), RAFT_CANDIDATE);
    m.type = RAFT_MSG_VOTE_RESP;
    m.reject = true;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    m.from = 2;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_role(r), RAFT_FOLLOWER); /* refused by a majority */
    lab_free(lab);
}

static void test_timeouts_are_spread(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    bool early = false;
    bool late = false;
    for (int i = 0; i < 1000; i++) {
        election_timer_reset(r);
        int64_t in_ms = r->election_due_ms - r->clock_ms;
        assert_in_range(in_ms, 1000, 1999);
        early = early || in_ms < 1100;
        late = late || in_ms > 1900;
    }
    assert_true(early && late);
    lab_free(lab);
}

static void test_check_quorum_counts_voters(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 2);
    struct raft *r = lab->node[1].r;
    lab_elect(lab, 1);
    lab->cut[2][1] = lab->cut[3][1] = true; /* only the learners are heard */
    lab_run(lab, 900);
    assert_int_equal(raft_role(r), RAFT_LEADER);
    lab_run(lab, 300);
    assert_int_equal(raft_role(r), RAFT_FOLLOWER);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_votes),
        cmocka_unit_test(test_vote_in_a_known_term_is_stored),
        cmocka_unit_test(test_prevotes),
        cmocka_unit_test(test_stickiness_ends_with_the_timeout),
        cmocka_unit_test(test_only_voters_elect),
        cmocka_unit_test(test_timeouts_are_spread),
        cmocka_unit_test(test_check_quorum_counts_voters),
    };
    return cmocka_run_group_tests_name("raft/raft_election", tests, NULL, NULL);
}

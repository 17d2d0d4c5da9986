#include "raft_lab.h"

#include "raft/raft_int.h"

static struct raft_update step(struct lab *lab, const struct raft_msg *m)
{
    struct raft_update u;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = m });
    raft_update_take(lab->node[1].r, &u);
    return u;
}

/* Node 1 with terms on disk; commit as given. */
static struct lab *follower(const uint64_t *terms, size_t count, uint64_t commit)
{
    struct lab *lab = lab_new(3, 0, 1);
    for (size_t i = 0; i < count; i++) {
        struct raft_entry e = { .term = terms[i], .index = i + 1, .type = RAFT_ENTRY_BATCH };
        lab_log_push(&lab->node[1].log, &e);
    }
    lab->node[1].hard = (struct raft_hard_state){ .term = 6, .commit = commit };
    lab_start(lab, 1);
    return lab;
}

/* What a follower with terms 1 1 1 4 4 (commit 2) says to each APPEND of term 6. */
static void test_append_answers(void **state)
{
    (void)state;
    static const uint64_t terms[] = { 1, 1, 1, 4, 4 };
    static const struct {
        const char *label;
        uint64_t index, log_term;
        uint64_t entry_terms[3]; /* up to the first 0 */
        bool reject;
        uint64_t hint, last;
    } cases[] = {
        { "fits the end", 5, 4, { 0 }, false, 0, 5 },
        { "appends", 5, 4, { 6, 6 }, false, 0, 7 },
        { "is there already", 3, 1, { 4 }, false, 0, 5 },
        { "replaces", 3, 1, { 5 }, false, 0, 4 },
        { "replaces the end", 4, 4, { 6, 6 }, false, 0, 6 },
        { "leaves a gap", 8, 6, { 6 }, true, 5, 5 },
        { "leaves a gap, older leader", 8, 2, { 6 }, true, 3, 5 },
        { "differs", 5, 5, { 6 }, true, 5, 5 },
        { "differs by a whole term", 5, 2, { 6 }, true, 3, 5 },
        { "below commit, ends below", 0, 0, { 1 }, false, 0, 5 },
        { "below commit, goes on", 1, 1, { 1, 1, 5 }, false, 0, 4 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = follower(terms, ARRAY_LEN(terms), 2);
        struct raft_entry e[3];
        struct raft_msg m = { .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 6,
                              .index = cases[i].index, .log_term = cases[i].log_term,
                              .entries = e };
        for (; m.entry_count < 3 && cases[i].entry_terms[m.entry_count] != 0; m.entry_count++) {
            e[m.entry_count] = (struct raft_entry){ .term = cases[i].entry_terms[m.entry_count],
                                                    .index = m.index + 1 + m.entry_count,
                                                    .type = RAFT_ENTRY_BATCH };
        }
        struct raft_update u = step(lab, &m);
        bool rejected = u.msg_count != 0 && u.msgs[0].reject;
        if (rejected != cases[i].reject) fail_msg("%s: reject", cases[i].label);
        if (rejected && u.msgs[0].hint != cases[i].hint) fail_msg("%s: hint", cases[i].label);
        if (raft_last_index(lab->node[1].r) != cases[i].last) fail_msg("%s", cases[i].label);
        lab_free(lab);
    }
}

/* An acknowledgement never goes beyond what is durable, nor beyond what this leader vouched for. */
static void test_acknowledgement_bounds(void **state)
{
    (void)state;
    static const uint64_t terms[] = { 1, 1, 1, 4, 4 };
    struct lab *lab = follower(terms, ARRAY_LEN(terms), 2);
    struct raft_msg m = { .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 6, .index = 3,
                          .log_term = 1 };
    struct raft_update u = step(lab, &m);
    assert_true(u.msg_count == 1 && u.msgs[0].index == 3); /* 5 are durable, 3 agreed */

    struct raft_entry e = { .term = 6, .index = 6, .type = RAFT_ENTRY_BATCH };
    m.index = 5;
    m.log_term = 4;
    m.entries = &e;
    m.entry_count = 1;
    u = step(lab, &m);
    assert_true(u.msg_count == 1 && u.msgs[0].index == 5); /* 6 agreed, 5 are durable */
    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .write = u.write };
    lab_must(lab, 1, ev);
    raft_update_take(lab->node[1].r, &u);
    assert_true(u.msg_count == 1 && u.msgs[0].index == 6);
    lab_free(lab);
}

/* What was agreed with one leader means nothing to the next. */
static void test_agreement_ends_with_the_leader(void **state)
{
    (void)state;
    static const uint64_t terms[] = { 1, 1, 1, 4, 4 };
    struct lab *lab = follower(terms, ARRAY_LEN(terms), 2);
    struct raft_msg m = { .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 6, .index = 5,
                          .log_term = 4 };
    struct raft_update u = step(lab, &m);
    assert_true(u.msg_count == 1 && u.msgs[0].index == 5);

    m = (struct raft_msg){ .type = RAFT_MSG_APPEND, .from = 3, .to = 1, .term = 7, .index = 3,
                           .log_term = 1, .commit = 5 };
    u = step(lab, &m);
    assert_int_equal(raft_commit_index(lab->node[1].r), 3);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_PERSISTED, .write = u.write });
    raft_update_take(lab->node[1].r, &u);
    assert_true(u.msg_count == 1 && u.msgs[0].index == 3);
    lab_free(lab);
}

static struct raft_msg accept(uint64_t index)
{
    return (struct raft_msg){ .type = RAFT_MSG_APPEND_RESP, .from = 2, .to = 1, .term = 1,
                              .index = index };
}

static struct lab *leader_alone(void)
{
    struct lab *lab = lab_started(3, 0);
    lab_elect(lab, 1);
    for (uint64_t id = 2; id <= 3; id++) lab->cut[1][id] = lab->cut[id][1] = true;
    for (int i = 0; i < 6; i++) {
        lab_put(lab, 1, "x");
        lab_work(lab, 1);
    }
    return lab;
}

static void test_acknowledgements_free_the_window(void **state)
{
    (void)state;
    struct lab *lab = leader_alone();
    struct peer *p = peer_find(lab->node[1].r, 2);
    assert_true(p->inflight_count == 4 && p->next_index == 6 && p->match_index == 1);
    struct raft_msg m = accept(3);
    struct raft_update u = step(lab, &m);
    assert_int_equal(p->match_index, 3);
    assert_int_equal(p->next_index, 8);
    assert_int_equal(u.msgs[0].entry_count, 2); /* the rest, in one piece */
    m = accept(2);
    step(lab, &m); /* overtaken */
    assert_int_equal(p->match_index, 3);
    assert_int_equal(raft_commit_index(lab->node[1].r), 3);
    lab_free(lab);
}

static void test_rejections(void **state)
{
    (void)state;
    struct lab *lab = leader_alone();
    struct peer *p = peer_find(lab->node[1].r, 2);
    struct raft_msg m = accept(4);
    m.reject = true;
    m.hint = 2;
    m.log_term = 1;
    step(lab, &m);
    assert_true(p->state == RAFT_PEER_PROBE && p->next_index == 3 && p->paused);
    m.index = 5; /* of the former stream */
    m.hint = 1;
    step(lab, &m);
    assert_int_equal(p->next_index, 3);
    m.index = 2;
    step(lab, &m);
    assert_int_equal(p->next_index, 2);
    m.index = 1; /* what it had acknowledged: cannot be */
    m.hint = 0;
    step(lab, &m);
    assert_int_equal(p->next_index, 2);
    m = accept(3);
    step(lab, &m);
    assert_true(p->state == RAFT_PEER_REPLICATE && p->match_index == 3);
    lab_free(lab);
}

/* Only a heartbeat that was sent after the acknowledgement arrived can show a loss. */
static void test_lost_entries(void **state)
{
    (void)state;
    struct lab *lab = leader_alone();
    struct raft *r = lab->node[1].r;
    struct peer *p = peer_find(r, 2);
    struct raft_msg m = accept(4);
    step(lab, &m);
    struct raft_msg beat = { .type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .to = 1, .term = 1,
                             .round = r->round, .index = 2 };
    struct raft_update u = step(lab, &beat);
    assert_true(p->state == RAFT_PEER_REPLICATE && u.lost_peer == 0);
    lab->now_ms += 100;
    lab_tick(lab, 1);
    beat.round = r->round;
    u = step(lab, &beat);
    assert_true(p->state == RAFT_PEER_LOST && u.lost_peer == 2 && p->match_index == 0);
    assert_int_equal(raft_commit_index(r), 4); /* what is committed stays so */
    m = accept(7);
    step(lab, &m);
    assert_int_equal(raft_commit_index(r), 4);
    lab_free(lab);
}

static void test_unreachable_probes(void **state)
{
    (void)state;
    struct lab *lab = leader_alone();
    struct peer *p = peer_find(lab->node[1].r, 2);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_UNREACHABLE, .peer = 2 });
    assert_true(p->state == RAFT_PEER_PROBE && p->next_index == 2 && p->inflight_count == 0);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_UNREACHABLE, .peer = 9 });
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_answers),
        cmocka_unit_test(test_acknowledgement_bounds),
        cmocka_unit_test(test_agreement_ends_with_the_leader),
        cmocka_unit_test(test_acknowledgements_free_the_window),
        cmocka_unit_test(test_rejections),
        cmocka_unit_test(test_lost_entries),
        cmocka_unit_test(test_unreachable_probes),
    };
    return cmocka_run_group_tests_name("raft/raft_replicate", tests, NULL, NULL);
}

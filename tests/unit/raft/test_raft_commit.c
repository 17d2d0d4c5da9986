#include "raft_lab.h"

#include "raft/raft_int.h"

static uint64_t match_of(const struct peer *p)
{
    return p->match_index;
}

static void test_quorum_value(void **state)
{
    (void)state;
    static const struct {
        uint64_t self;
        uint64_t others[6];
        size_t voters;
        uint64_t want;
    } cases[] = {
        { 5, { 0 }, 1, 5 },          { 5, { 3 }, 2, 3 },
        { 9, { 7, 4 }, 3, 7 },       { 2, { 9, 7, 4 }, 4, 4 },
        { 0, { 8, 8, 1, 1 }, 5, 1 }, { 6, { 1, 2, 3, 4, 5, 7 }, 7, 4 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = lab_started(cases[i].voters, 2); /* learners do not count */
        struct raft *r = lab->node[1].r;
        for (size_t k = 0; k < r->peer_count; k++) {
            r->peers[k].match_index = r->peers[k].voter ? cases[i].others[k] : 1000;
        }
        assert_int_equal(quorum_value(r, cases[i].self, match_of), cases[i].want);
        for (size_t k = 0; k < r->peer_count; k++) r->peers[k].match_index = 0;
        lab_free(lab);
    }
}

/* PERSISTED in one-node groups: the report decides, whatever was handed out since. */
static void test_single_node_commits_what_is_reported(void **state)
{
    (void)state;
    struct lab *lab = lab_started(1, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u[3];
    lab_stabilize(lab);
    for (int i = 0; i < 3; i++) {
        lab_put(lab, 1, "x");
        assert_true(raft_update_take(r, &u[i]));
        assert_int_equal(raft_commit_index(r), 1);
    }
    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .write = u[1].write };
    lab_must(lab, 1, ev); /* the first write was reported with the second */
    assert_int_equal(raft_commit_index(r), 3);
    ev.write = u[0].write;
    lab_must(lab, 1, ev); /* late and of no use */
    assert_int_equal(raft_commit_index(r), 3);
    assert_int_equal(raft_durable_index(r), 3);
    ev.write = u[2].write;
    lab_must(lab, 1, ev);
    assert_int_equal(raft_commit_index(r), 4);
    assert_int_equal(raft_uncommitted_bytes(r), 0);
    lab_free(lab);
}

static struct raft_msg append(uint64_t term, uint64_t prev_index, uint64_t prev_term,
                              const struct raft_entry *entries, size_t count)
{
    return (struct raft_msg){ .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = term,
                              .index = prev_index, .log_term = prev_term, .entries = entries,
                              .entry_count = count };
}

static struct raft_write step_and_take(struct lab *lab, const struct raft_msg *m)
{
    struct raft_update u;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = m });
    assert_true(raft_update_take(lab->node[1].r, &u));
    raft_check(lab->node[1].r);
    return u.write;
}

/* Four writes under way: entries of term 1; cut and replaced by term 2; cut deeper by term 3. What
 * the early reports prove is what no later cut has taken away. */
static void test_reports_of_writes_before_a_cut(void **state)
{
    (void)state;
    static const struct raft_entry first[] = {
        { .term = 1, .index = 1, .type = RAFT_ENTRY_NOOP },
        { .term = 1, .index = 2, .type = RAFT_ENTRY_BATCH },
        { .term = 1, .index = 3, .type = RAFT_ENTRY_BATCH },
    };
    static const struct raft_entry second[] = {
        { .term = 2, .index = 3, .type = RAFT_ENTRY_NOOP },
        { .term = 2, .index = 4, .type = RAFT_ENTRY_BATCH },
    };
    static const struct raft_entry third[] = { { .term = 3, .index = 2, .type = RAFT_ENTRY_NOOP } };
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_msg m = append(1, 0, 0, first, 3);
    struct raft_event a = { .type = RAFT_EV_PERSISTED, .write = step_and_take(lab, &m) };
    m = append(2, 2, 1, second, 2);
    struct raft_event b = { .type = RAFT_EV_PERSISTED, .write = step_and_take(lab, &m) };
    m = append(3, 1, 1, third, 1);
    struct raft_event c = { .type = RAFT_EV_PERSISTED, .write = step_and_take(lab, &m) };
    assert_true(a.write.index == 3 && b.write.index == 4 && c.write.index == 2);

    lab_must(lab, 1, a);
    assert_int_equal(raft_durable_index(r), 1);
    lab_must(lab, 1, b);
    assert_int_equal(raft_durable_index(r), 1);
    lab_must(lab, 1, c);
    assert_int_equal(raft_durable_index(r), 2);
    lab_free(lab);
}

/* A follower commits only what this term's leader has vouched for. */
static void test_commit_is_bounded_by_agreement(void **state)
{
    (void)state;
    struct lab *lab = lab_new(3, 0, 1);
    struct raft_entry old = { .term = 1, .index = 1, .type = RAFT_ENTRY_BATCH };
    lab_log_push(&lab->node[1].log, &old);
    old.index = 2;
    lab_log_push(&lab->node[1].log, &old);
    lab->node[1].hard.term = 1;
    lab_start(lab, 1);
    struct raft *r = lab->node[1].r;
    struct raft_msg m = { .type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 1, .term = 5, .commit = 2 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_commit_index(r), 0);
    m = append(5, 1, 1, NULL, 0);
    m.commit = 2;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_int_equal(raft_commit_index(r), 1);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quorum_value),
        cmocka_unit_test(test_single_node_commits_what_is_reported),
        cmocka_unit_test(test_reports_of_writes_before_a_cut),
        cmocka_unit_test(test_commit_is_bounded_by_agreement),
    };
    return cmocka_run_group_tests_name("raft/raft_commit", tests, NULL, NULL);
}

#include "raft_lab.h"

#include "raft/raft_int.h"

/* Leader 1 has forgotten what peer 3 needs, and was asked for it. */
static struct lab *behind(void)
{
    struct lab *lab = lab_started(3, 0);
    lab_elect(lab, 1);
    lab->cut[1][3] = lab->cut[3][1] = true;
    for (int i = 0; i < 10; i++) {
        lab_put(lab, 1, "x");
        lab_stabilize(lab);
    }
    lab->node[1].snapshots_held = true;
    lab_compact(lab, 1, 3);
    lab->cut[1][3] = lab->cut[3][1] = false;
    lab_run(lab, 200);
    assert_int_equal(lab->node[1].wish.peer, 3);
    assert_int_equal(lab->node[1].wish.next_index, 2);
    assert_int_equal(peer_find(lab->node[1].r, 3)->state, RAFT_PEER_WISH);
    return lab;
}

static void event(struct lab *lab, struct raft_event ev)
{
    ev.peer = 3;
    lab_must(lab, 1, ev);
}

static void test_sending(void **state)
{
    (void)state;
    struct lab *lab = behind();
    struct peer *p = peer_find(lab->node[1].r, 3);
    event(lab, (struct raft_event){ .type = RAFT_EV_SNAPSHOT_SENDING, .index = 11 });
    assert_int_equal(p->state, RAFT_PEER_SNAPSHOT);
    lab_put(lab, 1, "y");
    lab_run(lab, 300);
    assert_int_equal(p->next_index, 2); /* nothing is sent meanwhile */
    event(lab, (struct raft_event){ .type = RAFT_EV_SNAPSHOT_SENT, .ok = true });
    assert_true(p->state == RAFT_PEER_PROBE && p->next_index == 12 && p->paused);
    lab_free(lab);
}

/* The acknowledgement may come before the node says that the snapshot was sent. */
static void test_acknowledged_before_sent(void **state)
{
    (void)state;
    struct lab *lab = behind();
    struct peer *p = peer_find(lab->node[1].r, 3);
    event(lab, (struct raft_event){ .type = RAFT_EV_SNAPSHOT_SENDING, .index = 11 });
    struct raft_msg m = { .type = RAFT_MSG_APPEND_RESP, .from = 3, .to = 1, .term = 1,
                          .index = 11 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_true(p->state == RAFT_PEER_REPLICATE && p->next_index == 12);
    event(lab, (struct raft_event){ .type = RAFT_EV_SNAPSHOT_SENT, .ok = true });
    assert_int_equal(p->state, RAFT_PEER_REPLICATE);
    lab_free(lab);
}

/* It failed: nothing happens before a sign of life, then the node is asked again. */
static void test_failure_is_retried(void **state)
{
    (void)state;
    struct lab *lab = behind();
    struct peer *p = peer_find(lab->node[1].r, 3);
    lab->node[1].wish.peer = 0;
    event(lab, (struct raft_event){ .type = RAFT_EV_SNAPSHOT_SENT, .ok = false });
    lab_work(lab, 1);
    assert_int_equal(p->state, RAFT_PEER_PROBE);
    assert_int_equal(lab->node[1].wish.peer, 0);
    lab_run(lab, 200);
    assert_int_equal(p->state, RAFT_PEER_WISH);
    assert_int_equal(lab->node[1].wish.peer, 3);
    lab_free(lab);
}

static void test_entries_from_the_disk(void **state)
{
    (void)state;
    struct lab *lab = behind();
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    struct raft_entry e[] = { { .term = 1, .index = 2, .type = RAFT_ENTRY_BATCH },
                              { .term = 1, .index = 3, .type = RAFT_ENTRY_BATCH } };
    e[0].body = blob_copy(SLICE_LIT("two"));
    struct raft_event ev = { .type = RAFT_EV_ENTRIES, .index = 3, .term = 1, .entries = e,
                             .entry_count = 2 };
    event(lab, ev); /* not what was asked for */
    assert_false(raft_update_take(r, &u));
    ev.index = 2;
    event(lab, ev);
    blob_unref(e[0].body); /* the update holds its own reference */
    e[0].body = NULL;
    assert_true(raft_update_take(r, &u));
    assert_true(u.msg_count == 1 && u.msgs[0].index == 1 && u.msgs[0].entry_count == 2);
    assert_true(slice_eq(blob_slice(u.msgs[0].entries[0].body), SLICE_LIT("two")));
    struct raft_msg m = { .type = RAFT_MSG_APPEND_RESP, .from = 3, .to = 1, .term = 1,
                          .index = 3 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    raft_update_take(r, &u);
    assert_true(u.wish_count == 1 && u.wishes[0].next_index == 4); /* and so on */
    lab_free(lab);
}

/* What was sent before the wish is acknowledged while the node reads: it is asked for the rest. */
static void test_acknowledged_while_entries_are_read(void **state)
{
    (void)state;
    struct lab *lab = behind();
    struct raft *r = lab->node[1].r;
    struct peer *p = peer_find(r, 3);
    struct raft_update u;
    struct raft_msg m = { .type = RAFT_MSG_APPEND_RESP, .from = 3, .to = 1, .term = 1,
                          .index = 2 };
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    assert_true(raft_update_take(r, &u));
    assert_true(u.wish_count == 1 && u.wishes[0].next_index == 3);
    struct raft_entry e[] = { { .term = 1, .index = 2, .type = RAFT_ENTRY_BATCH },
                              { .term = 1, .index = 3, .type = RAFT_ENTRY_BATCH } };
    struct raft_event ev = { .type = RAFT_EV_ENTRIES, .index = 2, .term = 1, .entries = e,
                             .entry_count = 2 };
    event(lab, ev); /* the answer to the first wish comes too late */
    assert_true(p->state == RAFT_PEER_WISH && p->next_index == 3);
    ev.index = 3;
    ev.entries = &e[1];
    ev.entry_count = 1;
    event(lab, ev);
    assert_int_equal(p->state, RAFT_PEER_PROBE);
    lab_free(lab);
}

static struct raft_event snapshot(enum raft_event_type type, uint64_t index, uint64_t term,
                                  const struct raft_members *m)
{
    return (struct raft_event){ .type = type, .index = index, .term = term, .members = m };
}

/* Node 2 follows in term 1 with 1 entry, committed. */
static struct lab *receiver(void)
{
    struct lab *lab = lab_started(3, 0);
    lab_elect(lab, 1);
    return lab;
}

static void test_what_is_wanted(void **state)
{
    (void)state;
    struct lab *lab = receiver();
    struct raft *r = lab->node[2].r;
    assert_true(raft_snapshot_is_wanted(r, 50, 1));
    assert_false(raft_snapshot_is_wanted(r, 1, 1));  /* committed here */
    assert_false(raft_snapshot_is_wanted(r, 50, 2)); /* of no term we know */
    assert_false(raft_snapshot_is_wanted(r, 50, 0));
    assert_false(raft_snapshot_is_wanted(lab->node[1].r, 50, 1)); /* a leader lacks nothing */
    lab_free(lab);
}

static void test_installing(void **state)
{
    (void)state;
    struct lab *lab = receiver();
    struct raft *r = lab->node[2].r;
    struct raft_update u;
    struct raft_members m = lab->first_members;
    struct raft_member more = lab_member(4, RAFT_LEARNER);
    assert_int_equal(raft_members_put(&m, &more), OK);

    lab_must(lab, 2, snapshot(RAFT_EV_SNAPSHOT_BEGIN, 50, 1, NULL));
    lab_put(lab, 1, "x");
    lab_stabilize(lab);
    assert_int_equal(raft_last_index(r), 1); /* entries are refused meanwhile ... */
    assert_int_equal(raft_leader(r), 1);
    lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_CAMPAIGN });
    assert_int_equal(raft_role(r), RAFT_FOLLOWER); /* ... and it does not campaign */

    lab_must(lab, 2, snapshot(RAFT_EV_SNAPSHOT_INSTALLED, 50, 1, &m));
    assert_true(raft_commit_index(r) == 50 && raft_applied_index(r) == 50);
    assert_true(raft_last_index(r) == 50 && raft_durable_index(r) == 50);
    assert_int_equal(raft_members(r)->count, 4);
    assert_true(raft_update_take(r, &u));
    assert_true(u.members_changed && u.apply_from == 0 && u.write.seq == 0);
    assert_true(u.msg_count == 1 && u.msgs[0].type == RAFT_MSG_APPEND_RESP &&
                u.msgs[0].index == 50);
    lab_free(lab);
}

static void test_aborting(void **state)
{
    (void)state;
    struct lab *lab = receiver();
    lab_must(lab, 2, snapshot(RAFT_EV_SNAPSHOT_BEGIN, 50, 1, NULL));
    lab_must(lab, 2, snapshot(RAFT_EV_SNAPSHOT_ABORTED, 0, 0, NULL));
    lab_put(lab, 1, "x");
    lab_stabilize(lab);
    assert_int_equal(raft_last_index(lab->node[2].r), 2);
    lab_free(lab);
}

/* What is refused tells the leader how far this member is, and what it may commit. */
static void test_refused(void **state)
{
    (void)state;
    struct lab *lab = receiver();
    struct raft *r = lab->node[2].r;
    struct raft_update u;
    lab->cut[2][1] = true;
    lab_put(lab, 1, "x");
    lab_stabilize(lab);
    lab->cut[2][1] = false;
    raft_update_take(r, &u);
    assert_int_equal(raft_step(r, &(struct raft_event){ .type = RAFT_EV_SNAPSHOT_BEGIN,
                                                        .index = 1, .term = 1 }), ERR_EXISTS);
    assert_true(raft_update_take(r, &u));
    assert_true(u.msg_count == 1 && u.msgs[0].index == raft_last_index(r));
    lab_free(lab);
}

/* A write that was under way when the snapshot came proves nothing about what follows it. */
static void test_reports_of_writes_before(void **state)
{
    (void)state;
    struct lab *lab = receiver();
    struct raft *r = lab->node[2].r;
    struct raft_update u;
    struct raft_entry e[60];
    for (size_t i = 0; i < ARRAY_LEN(e); i++) {
        e[i] = (struct raft_entry){ .term = 1, .index = 2 + i, .type = RAFT_ENTRY_BATCH };
    }
    struct raft_msg m = { .type = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 1, .index = 1,
                          .log_term = 1, .entries = e, .entry_count = ARRAY_LEN(e) };
    lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    raft_update_take(r, &u);
    struct raft_event before = { .type = RAFT_EV_PERSISTED, .write = u.write };
    assert_int_equal(u.write.index, 61);
    struct raft_msg beat = { .type = RAFT_MSG_HEARTBEAT, .from = 3, .to = 2, .term = 2,
                             .round = 1 };
    lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &beat });
    lab_must(lab, 2, snapshot(RAFT_EV_SNAPSHOT_BEGIN, 50, 2, NULL)); /* index 50 was of term 1 */
    lab_must(lab, 2, snapshot(RAFT_EV_SNAPSHOT_INSTALLED, 50, 2, &lab->first_members));
    e[0] = (struct raft_entry){ .term = 2, .index = 51, .type = RAFT_ENTRY_BATCH };
    m = (struct raft_msg){ .type = RAFT_MSG_APPEND, .from = 3, .to = 2, .term = 2, .index = 50,
                           .log_term = 2, .entries = e, .entry_count = 1 };
    lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    raft_update_take(r, &u);
    lab_must(lab, 2, before);
    assert_int_equal(raft_durable_index(r), 50);
    lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_PERSISTED, .write = u.write });
    assert_int_equal(raft_durable_index(r), 51);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sending),
        cmocka_unit_test(test_acknowledged_before_sent),
        cmocka_unit_test(test_failure_is_retried),
        cmocka_unit_test(test_entries_from_the_disk),
        cmocka_unit_test(test_acknowledged_while_entries_are_read),
        cmocka_unit_test(test_what_is_wanted),
        cmocka_unit_test(test_installing),
        cmocka_unit_test(test_aborting),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_reports_of_writes_before),
    };
    return cmocka_run_group_tests_name("raft/raft_snapshot", tests, NULL, NULL);
}

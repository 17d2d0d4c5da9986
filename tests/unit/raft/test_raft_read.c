#include "raft_lab.h"

#include "raft/raft_int.h"

static struct raft_update say(struct lab *lab, uint64_t to, struct raft_msg m)
{
    struct raft_update u;
    m.to = to;
    lab_must(lab, to, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    raft_update_take(lab->node[to].r, &u);
    return u;
}

static size_t count_msgs(const struct raft_update *u, enum raft_msg_type type)
{
    size_t count = 0;
    for (size_t i = 0; i < u->msg_count; i++) count += u->msgs[i].type == type;
    return count;
}

static struct lab *leader(size_t voters, size_t learners)
{
    struct lab *lab = lab_started(voters, learners);
    lab_elect(lab, 1);
    lab_run(lab, 50);
    return lab;
}

static void test_single_node_answers_at_once(void **state)
{
    (void)state;
    struct lab *lab = lab_started(1, 0);
    struct raft_update u;
    lab_stabilize(lab);
    lab_read(lab, 1);
    assert_true(raft_update_take(lab->node[1].r, &u));
    assert_true(u.read_id == 1 && u.read_index == 1 && u.msg_count == 0);
    lab_free(lab);
}

/* All reads of a turn travel with one round; no more are asked than it takes, and no learner. */
static void test_one_round_a_turn(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 2);
    struct raft_update u;
    for (int i = 0; i < 5; i++) lab_read(lab, 1);
    assert_true(raft_update_take(lab->node[1].r, &u));
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 1);
    uint64_t round = u.msgs[0].round;
    u = say(lab, 1, (struct raft_msg){ .type = RAFT_MSG_HEARTBEAT_RESP, .from = 3, .term = 1,
                                       .round = round, .index = 1 });
    assert_true(u.read_id == 5 && u.read_index == 1);
    lab_free(lab);
}

/* Answers to earlier rounds, from learners, or to rounds that never were, prove nothing. */
static void test_what_proves_a_round(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        uint64_t from;
        int64_t round_offset;
        bool ready;
    } cases[] = {
        { "its own", 2, 0, true },
        { "the one before", 2, -1, false },
        { "one that was not sent", 2, 1, false },
        { "a learner's", 4, 0, false },
        { "a stranger's", 9, 0, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = leader(3, 1);
        struct raft_update u;
        lab_read(lab, 1);
        raft_update_take(lab->node[1].r, &u);
        uint64_t round = lab->node[1].r->round + (uint64_t)cases[i].round_offset;
        u = say(lab, 1, (struct raft_msg){ .type = RAFT_MSG_HEARTBEAT_RESP, .term = 1, .index = 1,
                                           .from = cases[i].from, .round = round });
        if ((u.read_id == 1) != cases[i].ready) fail_msg("%s", cases[i].label);
        lab_free(lab);
    }
}

/* Five voters: two of the others must answer the same round or a later one. */
static void test_quorum_of_five(void **state)
{
    (void)state;
    struct lab *lab = leader(5, 0);
    struct raft_update u;
    lab_read(lab, 1);
    raft_update_take(lab->node[1].r, &u);
    uint64_t first = lab->node[1].r->round;
    lab_read(lab, 1);
    raft_update_take(lab->node[1].r, &u);
    struct raft_msg m = { .type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .term = 1, .index = 1,
                          .round = first + 1 };
    u = say(lab, 1, m);
    assert_int_equal(u.read_id, 0);
    m.from = 3;
    m.round = first;
    u = say(lab, 1, m);
    assert_int_equal(u.read_id, 1); /* the second read waits */
    m.from = 4;
    m.round = first + 1;
    u = say(lab, 1, m);
    assert_int_equal(u.read_id, 2);
    lab_free(lab);
}

static struct raft_update tick(struct lab *lab, int64_t ms)
{
    struct raft_update u;
    lab->now_ms += ms;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_TICK, .now_ms = lab->now_ms });
    raft_update_take(lab->node[1].r, &u);
    return u;
}

static struct raft_update read_one(struct lab *lab)
{
    struct raft_update u;
    lab_read(lab, 1);
    raft_update_take(lab->node[1].r, &u);
    return u;
}

/* Those that are asked first are not quick: soon, and once, all are asked, and a tick is due then. */
static void test_late_rounds_go_to_all(void **state)
{
    (void)state;
    struct lab *lab = leader(5, 1);
    struct raft *r = lab->node[1].r;
    r->round_took_ms = 0;
    struct raft_update u = read_one(lab);
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 2);
    uint64_t first = r->round;
    assert_int_equal(raft_due_ms(r), lab->now_ms + ROUND_PATIENCE_MS);
    u = tick(lab, ROUND_PATIENCE_MS - 1);
    assert_int_equal(u.msg_count, 0);
    u = read_one(lab); /* another read does not put it off */
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 2);
    assert_int_equal(raft_due_ms(r), lab->now_ms + 1);
    u = tick(lab, 1);
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 4); /* learners have no say */
    assert_true(raft_due_ms(r) > lab->now_ms + ROUND_PATIENCE_MS);
    u = tick(lab, ROUND_PATIENCE_MS);
    assert_int_equal(u.msg_count, 0);
    assert_int_equal(r->round, first + 2);
    u = read_one(lab); /* nor are some of them quick as long as that one is not proven */
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 4);
    struct raft_msg m = { .type = RAFT_MSG_HEARTBEAT_RESP, .from = 4, .term = 1, .index = 1,
                          .round = r->round };
    say(lab, 1, m);
    m.from = 5;
    u = say(lab, 1, m);
    assert_int_equal(u.read_id, 3);
    lab_free(lab);
}

/* A round to all went out just before and is lost. */
static void test_late_rounds_behind_a_lost_one_go_to_all(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u = tick(lab, 100);
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 2);
    r->round_took_ms = 0;
    u = read_one(lab);
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 1);
    assert_int_equal(raft_due_ms(r), lab->now_ms + ROUND_PATIENCE_MS);
    u = tick(lab, ROUND_PATIENCE_MS);
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 2);
    lab_free(lab);
}

/* Twice as long as the last one took: 2 ms at least, half a heartbeat at most. */
static void test_patience_follows_the_network(void **state)
{
    (void)state;
    static const int64_t cases[][2] = { { 0, 2 }, { 1, 2 }, { 5, 10 }, { 24, 48 }, { 5000, 50 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = leader(3, 0);
        struct raft *r = lab->node[1].r;
        struct raft_update u = tick(lab, 100);
        tick(lab, cases[i][0] % 100);
        r->round_sent_ms[r->round & (ROUNDS_RING - 1)] = lab->now_ms - cases[i][0];
        say(lab, 1, (struct raft_msg){ .type = RAFT_MSG_HEARTBEAT_RESP, .from = 3, .term = 1,
                                       .round = r->round, .index = 1 });
        u = read_one(lab);
        assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 1);
        assert_int_equal(reads_due_ms(r), lab->now_ms + cases[i][1]);
        lab_free(lab);
    }
}

/* A request is a sign of life: a stream that waits for one goes on. */
static void test_a_request_wakes_a_paused_stream(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft *r = lab->node[1].r;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_UNREACHABLE, .peer = 2 });
    struct raft_update u;
    raft_update_take(r, &u);
    assert_int_equal(count_msgs(&u, RAFT_MSG_APPEND), 1); /* the probe, which is lost */
    u = say(lab, 1, (struct raft_msg){ .type = RAFT_MSG_READ, .term = 1, .round = 77, .hint = 5,
                                       .from = 2, .index = 1 });
    assert_int_equal(count_msgs(&u, RAFT_MSG_APPEND), 1);
    assert_int_equal(count_msgs(&u, RAFT_MSG_READ_RESP), 1);
    lab_free(lab);
}

/* Who answered before a quorum had is asked first. */
static void test_the_quick_are_asked_first(void **state)
{
    (void)state;
    struct lab *lab = leader(5, 0);
    struct raft *r = lab->node[1].r;
    tick(lab, 100);
    struct raft_msg m = { .type = RAFT_MSG_HEARTBEAT_RESP, .term = 1, .index = 1,
                          .round = r->round };
    static const uint64_t order[] = { 4, 3, 2, 5 };
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        m.from = order[i];
        say(lab, 1, m);
    }
    struct raft_update u = read_one(lab);
    assert_int_equal(u.msg_count, 2);
    assert_true(u.msgs[0].to == 3 && u.msgs[1].to == 4);
    lab_free(lab);
}

/* A leader that leaves is not of the quorum: all are asked. */
static void test_a_leader_that_is_no_voter_asks_all(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_members m = *raft_members(r);
    assert_int_equal(raft_members_remove(&m, 1), OK);
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_PROPOSE_MEMBERS, .members = &m });
    struct raft_update u;
    raft_update_take(r, &u);
    u = read_one(lab);
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 2);
    lab_free(lab);
}

/* Which requests need no round: the leader and the one that asks are the quorum. */
static void test_what_vouches_for_a_request(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        size_t voters;
        uint64_t from, index;
        bool lost, answered;
    } cases[] = {
        { "one of three", 3, 2, 1, false, true },
        { "one of two", 2, 2, 1, false, true },
        { "one of four", 4, 2, 1, false, false },
        { "one of five", 5, 2, 1, false, false },
        { "a learner", 3, 4, 1, false, false },
        { "one whose log is shorter than what it acknowledged", 3, 2, 0, false, false },
        { "one that has forgotten", 3, 2, 1, true, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab *lab = leader(cases[i].voters, 1);
        struct raft *r = lab->node[1].r;
        for (size_t n = 0; n < r->peer_count; n++) r->peers[n].lost = cases[i].lost;
        struct raft_update u =
            say(lab, 1, (struct raft_msg){ .type = RAFT_MSG_READ, .term = 1, .round = 77, .hint = 5,
                                           .from = cases[i].from, .index = cases[i].index });
        size_t answers = count_msgs(&u, RAFT_MSG_READ_RESP);
        if (answers != cases[i].answered) fail_msg("%s: %zu answers", cases[i].label, answers);
        if (answers == 0 && count_msgs(&u, RAFT_MSG_HEARTBEAT) == 0) fail_msg("%s: no round", cases[i].label);
        if (answers != 0 && u.msg_count != 1) fail_msg("%s: a round, too", cases[i].label);
        lab_free(lab);
    }
}

/* A dead group gets a bounded number of rounds; the next heartbeat's answer frees all. */
static void test_rounds_are_bounded(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft *r = lab->node[1].r;
    struct raft_update u;
    for (int i = 0; i < 100; i++) {
        lab_read(lab, 1);
        raft_update_take(r, &u);
    }
    assert_int_equal(r->round - r->round_quorum, ROUNDS_INFLIGHT_MAX);
    lab->now_ms += 100;
    lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_TICK, .now_ms = lab->now_ms });
    raft_update_take(r, &u);
    assert_int_equal(count_msgs(&u, RAFT_MSG_HEARTBEAT), 2);
    struct raft_msg m = { .type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .term = 1, .index = 1,
                          .round = r->round };
    u = say(lab, 1, m);
    assert_int_equal(u.read_id, ROUNDS_INFLIGHT_MAX);
    m.round = r->round; /* of the round that took all others along */
    u = say(lab, 1, m);
    assert_int_equal(u.read_id, 100);
    lab_free(lab);
}

static void test_follower_requests_are_fresh(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft_update u;
    lab_read(lab, 2);
    raft_update_take(lab->node[2].r, &u);
    assert_true(u.msg_count == 1 && u.msgs[0].type == RAFT_MSG_READ && u.msgs[0].to == 1);
    uint64_t first = u.msgs[0].round;
    for (int i = 0; i < 10; i++) { /* nobody answers: asked again at every heartbeat */
        lab->now_ms += 10;
        lab_must(lab, 2, (struct raft_event){ .type = RAFT_EV_TICK, .now_ms = lab->now_ms });
    }
    raft_update_take(lab->node[2].r, &u);
    assert_true(u.msg_count == 1 && u.msgs[0].round == first + 1 && u.msgs[0].hint == 1);

    struct raft_msg m = { .type = RAFT_MSG_READ_RESP, .from = 1, .term = 1, .round = first - 1,
                          .hint = 1, .index = 77 };
    u = say(lab, 2, m);
    assert_int_equal(u.read_id, 0); /* of another life */
    m.round = first + 2;
    u = say(lab, 2, m);
    assert_int_equal(u.read_id, 0); /* never asked */
    m.round = first;
    u = say(lab, 2, m);
    assert_true(u.read_id == 1 && u.read_index == 77); /* late, but true */
    m.round = first + 1;
    u = say(lab, 2, m);
    assert_int_equal(u.read_id, 0); /* told once */
    lab_free(lab);
}

/* One answer for requests that reached the leader in one turn: it speaks for the earlier ones too, so
 * none of them takes a place in the window any more. */
static void test_one_answer_for_many_requests(void **state)
{
    (void)state;
    struct lab *lab = leader(3, 0);
    struct raft *r = lab->node[2].r;
    struct raft_update u;
    for (int i = 0; i < READ_REQUESTS_MAX; i++) {
        lab_read(lab, 2);
        raft_update_take(r, &u);
        assert_int_equal(count_msgs(&u, RAFT_MSG_READ), 1);
        struct raft_msg m = u.msgs[0];
        lab_must(lab, 1, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
    }
    raft_update_take(lab->node[1].r, &u);
    assert_int_equal(count_msgs(&u, RAFT_MSG_READ_RESP), 1);
    u = say(lab, 2, u.msgs[0]);
    assert_int_equal(u.read_id, READ_REQUESTS_MAX);
    assert_int_equal(r->read_request_count, 0);
    for (int i = 0; i < READ_REQUESTS_MAX; i++) {
        lab_read(lab, 2);
        raft_update_take(r, &u);
        assert_int_equal(count_msgs(&u, RAFT_MSG_READ), 1);
    }
    lab_free(lab);
}

/* Another life of the node never takes the other's answers. */
static void test_request_ids_differ_by_life(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    uint64_t before = lab->node[2].r->read_request;
    lab_crash(lab, 2);
    lab_start(lab, 2);
    uint64_t after = lab->node[2].r->read_request;
    uint64_t distance = before > after ? before - after : after - before;
    assert_true(distance > 1000000);
    lab_free(lab);
}

static void test_quorum_sent_ms(void **state)
{
    (void)state;
    struct lab *lab = lab_started(3, 0);
    struct raft *r = lab->node[1].r;
    assert_true(raft_quorum_sent_ms(r) == INT64_MIN);
    lab_elect(lab, 1);
    assert_int_equal(raft_quorum_sent_ms(r), 0);
    lab_run(lab, 250);
    assert_int_equal(raft_quorum_sent_ms(r), 200);
    lab->cut[2][1] = lab->cut[3][1] = true;
    lab_run(lab, 500);
    assert_int_equal(raft_quorum_sent_ms(r), 200);
    lab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_node_answers_at_once),
        cmocka_unit_test(test_one_round_a_turn),
        cmocka_unit_test(test_what_proves_a_round),
        cmocka_unit_test(test_quorum_of_five),
        cmocka_unit_test(test_late_rounds_go_to_all),
        cmocka_unit_test(test_late_rounds_behind_a_lost_one_go_to_all),
        cmocka_unit_test(test_patience_follows_the_network),
        cmocka_unit_test(test_a_request_wakes_a_paused_stream),
        cmocka_unit_test(test_the_quick_are_asked_first),
        cmocka_unit_test(test_a_leader_that_is_no_voter_asks_all),
        cmocka_unit_test(test_what_vouches_for_a_request),
        cmocka_unit_test(test_rounds_are_bounded),
        cmocka_unit_test(test_follower_requests_are_fresh),
        cmocka_unit_test(test_one_answer_for_many_requests),
        cmocka_unit_test(test_request_ids_differ_by_life),
        cmocka_unit_test(test_quorum_sent_ms),
    };
    return cmocka_run_group_tests_name("raft/raft_read", tests, NULL, NULL);
}

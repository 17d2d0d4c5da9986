/* Groups in the simulator: elections, crashes, partitions, and that equal seeds are equal runs. */
#include "sim_group.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct asker {
    struct sim *s;
    size_t replies;
    uint64_t conn;
    bool closed;
    struct buf in;
};

static void on_bytes(void *ctx, uint64_t conn, struct slice in)
{
    struct asker *a = ctx;
    (void)conn;
    for (size_t i = 0; i < in.len; i++) a->replies += in.at[i] == '\n';
    buf_append_slice(&a->in, in);
    sim_log(a->s, "reply %.*s", (int)in.len, (const char *)in.at);
}

static void on_closed(void *ctx, uint64_t conn)
{
    struct asker *a = ctx;
    (void)conn;
    a->closed = true;
}

static uint64_t run(uint64_t seed, bool trace)
{
    struct sim *s = sim_new(&(struct sim_options){ .seed = seed, .node_count = 3, .trace = trace });
    struct sim_conn_hooks hooks = { on_bytes, on_closed };
    struct asker a = { .s = s };
    sim_run_until(s, sim_now_us(s) + 5000000);
    assert_true(sim_leader(s) < 3);
    size_t follower = (sim_leader(s) + 1) % 3;
    a.conn = sim_connect(s, follower, &hooks, &a);
    sim_send(s, a.conn, SLICE_LIT("SET a 1\r\nGET a\r\n"));
    sim_run_until(s, sim_now_us(s) + 100000);
    assert_int_equal(a.replies, 3);
    sim_send(s, a.conn, SLICE_LIT("GET a\r\nSET b 2\r\nGET b\r\nDBSIZE\r\n"));
    sim_run_until(s, sim_now_us(s) + 100000);
    assert_int_equal(a.replies, 3 + 6);
    sim_power(s, sim_leader(s));
    sim_send(s, a.conn, SLICE_LIT("GET a\r\nSET b 2\r\nGET b\r\n"));
    sim_run_until(s, sim_now_us(s) + 4500000);
    assert_int_equal(a.replies, 9 + 5);
    for (size_t i = 0; i < 3; i++) {
        if (!sim_is_up(s, i)) sim_start(s, i);
    }
    sim_run_until(s, sim_now_us(s) + 3000000);
    buf_deinit(&a.in);
    uint64_t trace_hash = sim_trace(s);
    if (trace) print_message("turns %llu events %llu\n", (unsigned long long)sim_stats(s)->turns, (unsigned long long)sim_stats(s)->events);
    sim_free(s);
    return trace_hash;
}

static void test_a_group(void **arg)
{
    (void)arg;
    log_level_set(LOG_OFF);
    bool trace = getenv("SIM_TRACE") != NULL;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t first = run(seed, trace);
        assert_int_equal(first, run(seed, false));
    }
}

/* What is sent in one piece takes effect in its order: also a read that nothing of its connection
 * came before, in front of a write, on a member that was asked for nothing else. */
static void test_a_read_in_front_of_a_write(void **arg)
{
    (void)arg;
    struct sim_conn_hooks hooks = { on_bytes, on_closed };
    for (size_t at = 0; at < 3; at++) {
        struct sim *s = sim_new(&(struct sim_options){ .seed = 7, .node_count = 3 });
        struct asker a = { .s = s };
        sim_run_until(s, sim_now_us(s) + 5000000);
        a.conn = sim_connect(s, at, &hooks, &a);
        sim_send(s, a.conn, SLICE_LIT("GET a\r\nINCR a\r\nGET a\r\nINCR a\r\n"));
        sim_run_until(s, sim_now_us(s) + 100000);
        sim_send(s, a.conn, SLICE_LIT("GET a\r\nINCR a\r\n"));
        sim_run_until(s, sim_now_us(s) + 100000);
        assert_true(slice_eq(buf_slice(&a.in), SLICE_LIT("$-1\r\n:1\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n:3\r\n")));
        buf_deinit(&a.in);
        sim_free(s);
    }
}

static void say(struct asker *a, size_t at, struct slice what)
{
    struct sim_conn_hooks hooks = { on_bytes, on_closed };
    if (a->conn == 0) a->conn = sim_connect(a->s, at, &hooks, a);
    sim_send(a->s, a->conn, what);
    sim_run_until(a->s, sim_now_us(a->s) + 100000);
}

/* A key that was missing at WATCH, came and went: what was read in between was never true at EXEC. */
static void test_watch_sees_what_came_and_went(void **arg)
{
    (void)arg;
    for (size_t count = 1; count <= 3; count += 2) {
        for (size_t compacts = 0; compacts < 2; compacts++) {
            struct sim *s = sim_new(&(struct sim_options){ .seed = 9, .node_count = count });
            struct asker a = { .s = s }, b = { .s = s };
            sim_run_until(s, sim_now_us(s) + 5000000);
            say(&a, 0, SLICE_LIT("WATCH k\r\n"));
            say(&b, count - 1, SLICE_LIT("SET k 1\r\nDEL k\r\nSET l 1\r\nSET l 2\r\n"));
            if (compacts != 0) say(&b, 0, SLICE_LIT("KV COMPACT 5\r\n"));
            sim_run_until(s, sim_now_us(s) + 1000000);
            say(&a, 0, SLICE_LIT("GET k\r\nMULTI\r\nSET k 2\r\nEXEC\r\n"));
            assert_true(slice_eq(buf_slice(&a.in), SLICE_LIT("+OK\r\n$-1\r\n+OK\r\n+QUEUED\r\n*-1\r\n")));
            buf_clear(&a.in);
            say(&a, 0, SLICE_LIT("WATCH k m\r\nMULTI\r\nSET k 2\r\nEXEC\r\n")); /* missing all the time */
            assert_true(slice_eq(buf_slice(&a.in), SLICE_LIT("+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")));
            buf_deinit(&a.in);
            buf_deinit(&b.in);
            sim_free(s);
        }
    }
}

/* A read in front of a write of its turn takes its place in front of that, not behind what somebody
 * else had asked for before and what the group may have done long before. */
static void test_a_read_behind_an_older_write_of_another(void **arg)
{
    (void)arg;
    struct sim *s = sim_new(&(struct sim_options){ .seed = 11, .node_count = 3 });
    struct asker a = { .s = s }, b = { .s = s }, c = { .s = s };
    sim_run_until(s, sim_now_us(s) + 5000000);
    size_t leader = sim_leader(s), follower = (leader + 1) % 3;
    for (size_t i = 0; i < 3; i++) sim_link(s, i, follower)->blocked = true; /* it speaks and hears nothing */
    say(&a, follower, SLICE_LIT("SET x 1\r\n"));
    say(&b, leader, SLICE_LIT("GET x\r\nSET y 2\r\n"));
    assert_true(slice_eq(buf_slice(&b.in), SLICE_LIT("$1\r\n1\r\n+OK\r\n")));
    assert_int_equal(a.in.len, 0);
    say(&c, follower, SLICE_LIT("GET y\r\nSET z 3\r\n"));
    assert_int_equal(c.in.len, 0);
    sim_network_reset(s);
    sim_run_until(s, sim_now_us(s) + 3000000);
    assert_true(slice_eq(buf_slice(&c.in), SLICE_LIT("$1\r\n2\r\n+OK\r\n")));
    buf_deinit(&a.in);
    buf_deinit(&b.in);
    buf_deinit(&c.in);
    sim_free(s);
}

static uint64_t key_count(const struct sim *s, size_t at)
{
    return mvcc_live_count(state_mvcc(node_state(sim_node(s, at))));
}

/* P5: nobody asks it for anything, so it sleeps; what it sleeps through is not time (node.h I4). */
static void test_the_only_member_expires_in_time(void **arg)
{
    (void)arg;
    struct sim *s = sim_new(&(struct sim_options){ .seed = 13, .node_count = 1, .heartbeat_ms = 10, .election_ms = 50 });
    struct asker a = { .s = s };
    sim_run_until(s, sim_now_us(s) + 5000000);
    int64_t sent_us = sim_now_us(s);
    say(&a, 0, SLICE_LIT("SET x 1 PX 3000\r\n"));
    sim_run_until(s, sent_us + 3000000);
    assert_int_equal(key_count(s, 0), 1);
    sim_run_until(s, sent_us + 3100000);
    assert_int_equal(key_count(s, 0), 0);
    buf_deinit(&a.in);
    sim_free(s);
}

static bool learns(const struct sim *s, size_t at)
{
    const struct raft *r = node_raft(sim_node(s, at));
    return raft_members_find(raft_members(r), sim_member_id(s, at)) != NULL && raft_leader(r) != 0;
}

static size_t learner_add(struct sim *s)
{
    size_t at = sim_add_node(s);
    struct raft_member m = {
        .id = sim_member_id(s, at), .directory_id = sim_directory_id(s, at), .role = RAFT_LEARNER,
    };
    snprintf(m.peer_address, sizeof m.peer_address, "sim:%llu", (unsigned long long)m.id);
    node_member_change(sim_node(s, 0), NODE_MEMBER_ADD, &m, &(struct ticket){ .row = NULL });
    sim_start(s, at);
    for (int i = 0; i < 500 && !learns(s, at); i++) sim_run_until(s, sim_now_us(s) + 10000);
    assert_true(learns(s, at));
    return at;
}

/* The only voter has nobody to ask, but somebody to tell. */
static void test_a_learner_of_the_only_voter_is_told(void **arg)
{
    (void)arg;
    struct sim *s = sim_new(&(struct sim_options){ .seed = 17, .node_count = 1, .election_ms = 400 });
    struct asker a = { .s = s }, b = { .s = s };
    sim_run_until(s, sim_now_us(s) + 5000000);
    size_t learner = learner_add(s);
    for (int i = 0; i < 6000; i++) {
        sim_run_until(s, sim_now_us(s) + 10000);
        assert_true(learns(s, learner));
    }
    say(&a, 0, SLICE_LIT("PING\r\n"));
    say(&b, learner, SLICE_LIT("PING\r\n"));
    for (uint64_t i = 0; i < 10; i++) { /* each without a heartbeat's help */
        struct asker *asker = i % 2 == 0 ? &a : &b;
        char line[32];
        int len = snprintf(line, sizeof line, "SET k%llu v\r\n", (unsigned long long)i);
        sim_run_until(s, sim_now_us(s) + 37000);
        sim_send(s, asker->conn, (struct slice){ (const uint8_t *)line, (size_t)len });
        sim_run_until(s, sim_now_us(s) + 10000);
        assert_int_equal(asker->replies, i / 2 + 2);
        assert_int_equal(key_count(s, learner), i + 1);
    }
    buf_deinit(&a.in);
    buf_deinit(&b.in);
    sim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_group),
        cmocka_unit_test(test_a_read_in_front_of_a_write),
        cmocka_unit_test(test_a_read_behind_an_older_write_of_another),
        cmocka_unit_test(test_watch_sees_what_came_and_went),
        cmocka_unit_test(test_the_only_member_expires_in_time),
        cmocka_unit_test(test_a_learner_of_the_only_voter_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

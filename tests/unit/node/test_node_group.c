/* Three members in one process, on real directories, whose payloads are carried by hand. One thread
 * and a clock of its own: a slow disk or a busy machine changes nothing. */
#include "node/node_int.h"

#include "base/log.h"
#include "state/dedup.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NODES 3
#define QUEUE_MAX 100000
#define TURN_US 1000
#define TURNS_MAX 20000 /* until something has happened */
#define DISK_STEPS_A_TURN 64

struct packet {
    uint64_t from, to;
    struct blob *bytes;
};

struct lab;
struct member {
    struct lab *lab;
    struct node *node;
    char dir[256];
    uint64_t id, directory_id;
    bool cut;    /* nothing goes in or out */
    bool paused; /* takes no turns, but its raft knows the time */
    uint64_t done_ok, done_failed;
    enum err last_err;
    uint64_t last_id;
    uint64_t barrier;
    uint64_t replaced_count; /* snapshots put in force */
    uint64_t sent_count;
    uint64_t flush_count;
    uint64_t flushed_sent;    /* sent_count at the last flush */
    uint64_t flushed_pending; /* submissions to the log that were not durable then */
    size_t segment_bytes;     /* 0: 1 MB */
    char fatal[256];          /* why it would have ended */
    bool loses_refusals;      /* of its own */
    struct raft_members told; /* hooks.members */
    const char *next_value;   /* put by the next done */
    uint64_t told_wrong;      /* how often on_applied was told another index */
};

struct lab {
    char root[128];
    struct member at[NODES + 1];
    size_t count;
    struct packet queue[QUEUE_MAX];
    size_t head, tail;
    struct raft_members members;
    int64_t checkpoint_ms, request_timeout_ms;
};

static int64_t now_us;
static bool time_stands;
static int64_t mono_us(void) { return now_us; }

static void put(struct member *m, const char *key, const char *value);

static void on_done(void *ctx, const struct ticket *t, const struct op *op, const struct op_result *res,
                    const struct view *v)
{
    struct member *m = ctx;
    (void)t;
    (void)op;
    (void)v;
    m->last_err = res == NULL ? OK : res->err;
    if (m->last_err == OK) m->done_ok++;
    else m->done_failed++;
    if (res != NULL) m->last_id = res->id;
    const char *value = m->next_value;
    m->next_value = NULL;
    if (value != NULL) put(m, "next", value);
}
static void on_applied(void *ctx, uint64_t index)
{
    struct member *m = ctx;
    m->told_wrong += index != state_applied_index(node_state(m->node));
}
static bool wants_prev(void *ctx, struct slice key)
{
    (void)ctx;
    (void)key;
    return false;
}
static void on_event(void *ctx, const struct mvcc_event *ev)
{
    (void)ctx;
    (void)ev;
}
static void on_life(void *ctx, struct slice key, const char *what)
{
    (void)ctx;
    (void)key;
    (void)what;
}
static void on_read(void *ctx, const struct store_read *r)
{
    (void)ctx;
    (void)r;
}
static void on_uncongested(void *ctx) { (void)ctx; }
static void on_barrier(void *ctx, uint64_t barrier)
{
    struct member *m = ctx;
    assert_true(barrier >= m->barrier);
    m->barrier = barrier;
}
static void on_replaced(void *ctx, uint64_t old_rev, uint64_t new_rev)
{
    struct member *m = ctx;
    assert_true(new_rev >= old_rev);
    m->replaced_count++;
}
static void on_send(void *ctx, uint64_t peer, enum node_channel channel, struct slice payload)
{
    struct member *m = ctx;
    (void)channel;
    m->sent_count++;
    if (m->cut || (m->loses_refusals && payload.at[0] == PAYLOAD_REFUSED)) return;
    struct lab *lab = m->lab;
    assert_true(lab->tail - lab->head < QUEUE_MAX);
    lab->queue[lab->tail++ % QUEUE_MAX] = (struct packet){ m->id, peer, blob_copy(payload) };
}

static void on_flush(void *ctx)
{
    struct member *m = ctx;
    struct wal_stats st;
    if (m->node == NULL) return; /* being opened */
    wal_stats_get(m->node->wal, &st);
    m->flush_count++;
    m->flushed_sent = m->sent_count;
    m->flushed_pending = st.pending_count;
}

static void on_members(void *ctx, const struct raft_members *members)
{
    struct member *m = ctx;
    m->told = *members;
}

static void on_fatal(void *ctx, const char *line)
{
    struct member *m = ctx;
    snprintf(m->fatal, sizeof m->fatal, "%s", line);
}

static void member_open(struct lab *lab, size_t i, bool waits)
{
    struct member *m = &lab->at[i];
    char name[8];
    snprintf(name, sizeof name, "n%zu", i);
    struct node_config cfg = {
        .dir = m->dir, .name = name, .peer_address = "127.0.0.1:1", .client_address = "127.0.0.1:2",
        .random = { 1, 2 + i, 3 + i, 4 + i + (uint64_t)mono_us() }, .manual = true,
        .heartbeat_ms = 20, .election_timeout_ms = 200, .snapshot_count = 1000, .checkpoint_bytes = 1 << 20,
        .checkpoint_ms = lab->checkpoint_ms,
        .wal_segment_bytes = m->segment_bytes == 0 ? 1 << 20 : m->segment_bytes,
        .on_fatal = on_fatal, .on_fatal_ctx = m,
        .store_buffer_bytes = 1 << 18, .store_backlog_bytes_max = 1 << 26, .uncommitted_bytes_max = 1 << 24,
        .request_timeout_ms = lab->request_timeout_ms, .mono_us = mono_us,
        .group = { .cluster_id = 77, .member_id = m->id, .directory_id = m->directory_id,
                   .members = waits ? NULL : &lab->members },
    };
    struct node_hooks hooks = {
        .ctx = m, .done = on_done, .wants_prev = wants_prev, .event = on_event, .life = on_life,
        .read_done = on_read, .uncongested = on_uncongested, .barrier = on_barrier, .send = on_send,
        .state_replaced = on_replaced, .flush = on_flush, .members = on_members, .applied = on_applied,
    };
    struct errmsg em = { "" };
    enum err e = node_open(&cfg, &hooks, mono_us() / 1000, 1700000000000, &m->node, &em);
    if (e != OK) print_message("%s\n", em.text);
    assert_int_equal(e, OK);
}

static void lab_init(struct lab *lab)
{
    memset(lab, 0, sizeof *lab);
    now_us = 1000000000;
    time_stands = false;
    log_level_set(LOG_ERROR);
    snprintf(lab->root, sizeof lab->root, "%s/node-group-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(lab->root));
    lab->count = NODES;
    lab->checkpoint_ms = 100;
    lab->request_timeout_ms = 1500;
    for (size_t i = 0; i <= NODES; i++) {
        struct member *m = &lab->at[i];
        m->lab = lab;
        m->id = 101 + i;
        m->directory_id = 201 + i;
        snprintf(m->dir, sizeof m->dir, "%s/n%zu", lab->root, i);
        if (i == NODES) break;
        struct raft_member r = { .id = m->id, .directory_id = m->directory_id, .role = RAFT_VOTER };
        snprintf(r.peer_address, sizeof r.peer_address, "127.0.0.1:%zu", 1000 + i);
        assert_int_equal(raft_members_put(&lab->members, &r), OK);
    }
    for (size_t i = 0; i < NODES; i++) member_open(lab, i, false);
}

static void lab_deinit(struct lab *lab)
{
    for (size_t i = 0; i < lab->count; i++) {
        if (lab->at[i].node != NULL) node_close(lab->at[i].node);
    }
    for (; lab->head != lab->tail; lab->head++) blob_unref(lab->queue[lab->head % QUEUE_MAX].bytes);
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", lab->root);
    assert_int_equal(system(command), 0);
}

static int group_begin(void **arg)
{
    *arg = malloc(sizeof(struct lab));
    lab_init(*arg);
    return 0;
}

static int group_end(void **arg)
{
    lab_deinit(*arg);
    free(*arg);
    return 0;
}

static struct member *by_id(struct lab *lab, uint64_t id)
{
    for (size_t i = 0; i < lab->count; i++) {
        if (lab->at[i].id == id) return &lab->at[i];
    }
    return NULL;
}

/* What had been sent before. */
static void deliver(struct lab *lab)
{
    size_t end = lab->tail;
    for (; lab->head != end; lab->head++) {
        struct packet p = lab->queue[lab->head % QUEUE_MAX];
        struct member *to = by_id(lab, p.to);
        if (to != NULL && to->node != NULL && !to->cut) {
            enum err e = node_receive(to->node, p.from, blob_slice(p.bytes));
            assert_int_equal(e, OK);
        }
        blob_unref(p.bytes);
    }
}

static void turn(struct lab *lab)
{
    for (size_t i = 0; i < lab->count; i++) {
        const struct member *m = &lab->at[i];
        struct raft_event tick = { .type = RAFT_EV_TICK, .now_ms = mono_us() / 1000 };
        if (m->node == NULL) continue;
        if (m->paused) assert_int_equal(raft_step(m->node->raft, &tick), OK);
        else node_turn(m->node, mono_us(), 1700000000000);
        for (int step = 0; step < DISK_STEPS_A_TURN && node_disk_step(m->node); step++) {
        }
    }
    deliver(lab);
    if (!time_stands) now_us += TURN_US;
}

#define UNTIL(lab, cond)                                               \
    do {                                                               \
        for (int i_ = 0; i_ < TURNS_MAX && !(cond); i_++) turn(lab);   \
        assert_true(cond);                                             \
    } while (0)

static struct member *leader(struct lab *lab)
{
    for (size_t i = 0; i < lab->count; i++) {
        struct member *m = &lab->at[i];
        if (m->node != NULL && !m->cut && raft_role(node_raft(m->node)) == RAFT_LEADER) return m;
    }
    return NULL;
}

static void put(struct member *m, const char *key, const char *value)
{
    static const char row = 0;
    struct op op = { .kind = OP_PUT, .key = slice_of(key), .value = slice_of(value), .fields = FIELD_KEY | FIELD_VALUE };
    struct ticket t = { .client_id = 1, .row = &row };
    assert_int_equal(node_propose(m->node, &op, false, &t), OK);
}

static uint64_t applied(const struct member *m) { return state_applied_index(node_state(m->node)); }

static bool level(struct lab *lab)
{
    for (size_t i = 1; i < lab->count; i++) {
        if (lab->at[i].node == NULL) continue;
        if (applied(&lab->at[i]) != applied(&lab->at[0])) return false;
        if (state_hash(node_state(lab->at[i].node)) != state_hash(node_state(lab->at[0].node))) return false;
    }
    return true;
}

static void test_writes_on_any_node(void **arg)
{
    struct lab *lab = *arg;
    /* Asked before anybody leads: they wait. */
    for (size_t i = 0; i < NODES; i++) put(&lab->at[i], "early", "x");
    UNTIL(lab, lab->at[0].done_ok + lab->at[1].done_ok + lab->at[2].done_ok == 3);
    for (size_t round = 0; round < 50; round++) {
        char key[32];
        for (size_t i = 0; i < NODES; i++) {
            snprintf(key, sizeof key, "k%zu-%zu", round, i);
            put(&lab->at[i], key, "value");
        }
        turn(lab);
    }
    for (size_t i = 0; i < NODES; i++) UNTIL(lab, lab->at[i].done_ok == 51);
    UNTIL(lab, level(lab));
    assert_int_equal(mvcc_live_count(state_mvcc(node_state(lab->at[0].node))), 151);
    for (size_t i = 0; i < NODES; i++) {
        uint64_t barrier = node_barrier(lab->at[i].node);
        UNTIL(lab, lab->at[i].barrier >= barrier);
    }
}

static void test_leader_is_cut_off(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *old = leader(lab);
    struct member *other = old == &lab->at[0] ? &lab->at[1] : &lab->at[0];
    put(other, "a", "1");
    UNTIL(lab, other->done_ok == 1);
    /* What is forwarded to a leader that is gone is given to the next one: no error. */
    old->cut = true;
    put(other, "b", "1");
    put(old, "lost", "1");
    UNTIL(lab, other->done_ok == 2);
    assert_int_equal(other->done_failed, 0);
    struct member *next = leader(lab);
    assert_ptr_not_equal(next, old);
    /* The old one cannot know what became of its own. */
    UNTIL(lab, old->done_failed == 1);
    assert_int_equal(old->last_err, ERR_TIMEOUT);
    old->cut = false;
    put(old, "c", "1");
    UNTIL(lab, old->done_ok == 1);
    UNTIL(lab, level(lab));
    struct view v = node_view(lab->at[0].node);
    assert_int_equal(view_rev(&v), mvcc_rev(state_mvcc(node_state(lab->at[2].node))));
}

/* It hears of the next leader and is asked for something in the same turn: what was given to the
 * old one, itself, is given to the next one before that. */
static void test_what_was_given_goes_first(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *old = leader(lab);
    put(old, "a", "1");
    UNTIL(lab, old->done_ok == 1);
    old->cut = true;
    put(old, "b", "1");
    turn(lab); /* proposed */
    old->paused = true;
    UNTIL(lab, leader(lab) != NULL);
    struct member *next = leader(lab);
    uint64_t done_ok = next->done_ok;
    put(next, "a", "2");
    UNTIL(lab, next->done_ok > done_ok);
    old->cut = false;
    UNTIL(lab, raft_leader(node_raft(old->node)) == next->id);
    put(old, "c", "1");
    old->paused = false;
    UNTIL(lab, old->done_ok == 3);
    assert_int_equal(old->done_failed, 0);
    UNTIL(lab, level(lab));
}

static void test_restart_of_all(void **arg)
{
    struct lab *lab = *arg;
    for (size_t i = 0; i < NODES; i++) put(&lab->at[i], "k", "v");
    UNTIL(lab, lab->at[0].done_ok + lab->at[1].done_ok + lab->at[2].done_ok == 3);
    uint64_t rev = mvcc_rev(state_mvcc(node_state(lab->at[0].node)));
    for (size_t i = 0; i < NODES; i++) {
        node_close(lab->at[i].node);
        lab->at[i].node = NULL;
    }
    for (size_t i = 0; i < NODES; i++) member_open(lab, i, false);
    put(&lab->at[1], "k", "w");
    UNTIL(lab, lab->at[1].done_ok == 2);
    UNTIL(lab, level(lab));
    assert_int_equal(mvcc_rev(state_mvcc(node_state(lab->at[0].node))), rev + 1);
}

static void test_members_come_and_go(void **arg)
{
    static const char row = 0;
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *old = leader(lab);
    struct member *asker = old == &lab->at[0] ? &lab->at[1] : &lab->at[0];
    struct ticket t = { .row = &row };
    struct raft_member fourth = {
        .id = lab->at[3].id, .directory_id = lab->at[3].directory_id, .role = RAFT_JOINING,
        .peer_address = "127.0.0.1:1003",
    };
    node_member_change(asker->node, NODE_MEMBER_JOIN, &fourth, &t);
    UNTIL(lab, asker->done_ok == 1);
    assert_int_equal(asker->last_id, fourth.id);
    node_member_change(asker->node, NODE_MEMBER_JOIN, &fourth, &t); /* again: the same */
    UNTIL(lab, asker->done_ok == 2);
    lab->count = 4;
    member_open(lab, 3, true);
    UNTIL(lab, raft_members_voter_count(raft_members(node_raft(lab->at[3].node))) == 4);
    put(&lab->at[3], "from the new one", "1");
    UNTIL(lab, lab->at[3].done_ok == 1);
    struct raft_member target = { .id = lab->at[3].id };
    node_member_change(asker->node, NODE_MEMBER_TRANSFER, &target, &t);
    UNTIL(lab, asker->done_ok == 3);
    UNTIL(lab, leader(lab) == &lab->at[3]);
    struct raft_member gone = { .id = old->id };
    node_member_change(asker->node, NODE_MEMBER_REMOVE, &gone, &t);
    UNTIL(lab, asker->done_ok == 4);
    UNTIL(lab, raft_members_find(raft_members(node_raft(asker->node)), old->id) == NULL); /* a follower */
    old->cut = true;
    node_member_change(asker->node, NODE_MEMBER_REMOVE, &gone, &t);
    UNTIL(lab, asker->done_failed == 1);
    assert_int_equal(asker->last_err, ERR_MEMBER);
}

/* An addition that is not committed may give way to one with another directory, which comes from the
 * other directory itself: until it is committed nobody is refused for it. */
static void test_a_directory_is_told_when_it_is_committed(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL && applied(leader(lab)) > 1);
    struct member *l = leader(lab);
    assert_true(raft_members_eq(&l->told, &lab->members));
    struct raft_member fourth = {
        .id = lab->at[3].id, .directory_id = lab->at[3].directory_id, .role = RAFT_LEARNER,
        .peer_address = "127.0.0.1:1003",
    };
    node_member_change(l->node, NODE_MEMBER_JOIN, &fourth, &(struct ticket){ .row = NULL });
    l->cut = true;
    UNTIL(lab, raft_members_find(&l->told, fourth.id) != NULL);
    assert_int_equal(raft_members_find(&l->told, fourth.id)->directory_id, 0);
    assert_int_equal(raft_members_find(&l->told, l->id)->directory_id, l->directory_id);
    l->cut = false;
    UNTIL(lab, raft_members_find(&l->told, fourth.id) != NULL &&
          raft_members_find(&l->told, fourth.id)->directory_id == fourth.directory_id);
}

/* Raft's members are in force when they are appended; a checkpoint holds those of its index. The
 * change is lost after a restart from it: its log entry gives way to another leader's. */
static void test_a_checkpoint_has_the_members_as_of_its_index(void **arg)
{
    struct lab *lab = *arg;
    lab->checkpoint_ms = 3600 * 1000; /* only when it is closed */
    for (size_t i = 0; i < NODES; i++) {
        node_close(lab->at[i].node);
        member_open(lab, i, false);
    }
    UNTIL(lab, leader(lab) != NULL);
    struct member *old = leader(lab);
    put(old, "a", "1");
    UNTIL(lab, old->done_ok == 1);
    old->cut = true;
    struct raft_member fourth = {
        .id = lab->at[3].id, .directory_id = lab->at[3].directory_id, .role = RAFT_JOINING,
        .peer_address = "127.0.0.1:1003",
    };
    node_member_change(old->node, NODE_MEMBER_JOIN, &fourth, &(struct ticket){ .row = NULL });
    UNTIL(lab, raft_members_find(raft_members(node_raft(old->node)), fourth.id) != NULL);
    uint64_t index = applied(old);
    assert_true(raft_members_index(node_raft(old->node)) > index); /* appended, not applied */
    node_close(old->node);
    member_open(lab, (size_t)(old - lab->at), false);

    const struct raft *raft = node_raft(old->node);
    assert_int_equal(old->node->stored_index, index);
    assert_null(raft_members_find(&old->node->members, fourth.id));
    assert_non_null(raft_members_find(raft_members(raft), fourth.id)); /* the log has it */
    UNTIL(lab, leader(lab) != NULL);
    old->cut = false;
    UNTIL(lab, raft_members_find(raft_members(raft), fourth.id) == NULL && level(lab));
    for (size_t i = 0; i < NODES; i++) {
        struct node *n = lab->at[i].node;
        assert_true(raft_members_eq(&n->members, &lab->members));
        assert_true(raft_members_eq(raft_members(n->raft), &lab->members));
    }
}

/* Who joins behind the log's beginning: the members come with the state (and are compared with
 * raft's at each checkpoint). */
static void test_a_snapshot_brings_its_members(void **arg)
{
    static char value[100001];
    memset(value, 'x', sizeof value - 1);
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *first = leader(lab);
    for (uint64_t i = 1; wal_first_index(first->node->wal) == 1; i++) {
        assert_true(i < 1000);
        put(first, "k", value);
        UNTIL(lab, first->done_ok == i);
    }
    uint64_t done_ok = first->done_ok;
    struct raft_member fourth = {
        .id = lab->at[3].id, .directory_id = lab->at[3].directory_id, .role = RAFT_JOINING,
        .peer_address = "127.0.0.1:1003",
    };
    static const char row = 0;
    node_member_change(first->node, NODE_MEMBER_JOIN, &fourth, &(struct ticket){ .row = &row });
    UNTIL(lab, first->done_ok == done_ok + 1);
    lab->count = 4;
    member_open(lab, 3, true);
    struct node *n = lab->at[3].node;
    UNTIL(lab, n->db.number > 0 && n->stats.checkpoint_count > 0);
    UNTIL(lab, raft_members_voter_count(&n->members) == 4);
    UNTIL(lab, level(lab));
    assert_true(raft_members_eq(&n->members, raft_members(n->raft)));
}

static struct member *follower(struct lab *lab)
{
    return leader(lab) == &lab->at[0] ? &lab->at[1] : &lab->at[0];
}

static void start_with_long_timeouts(struct lab *lab)
{
    lab->request_timeout_ms = 60000;
    for (size_t i = 0; i < NODES; i++) {
        node_close(lab->at[i].node);
        member_open(lab, i, false);
    }
    UNTIL(lab, leader(lab) != NULL);
}

static struct member *third_of(struct lab *lab, const struct member *one, const struct member *other)
{
    struct member *m = &lab->at[0];
    while (m == one || m == other) m++;
    return m;
}

/* A transfer is done when the member leads that was asked for, not when anybody else does. */
static void test_a_transfer_that_another_member_wins(void **arg)
{
    static const char row = 0;
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL && node_leads(leader(lab)->node) && level(lab));
    struct member *old = leader(lab);
    struct member *wanted = follower(lab);
    struct member *third = third_of(lab, old, wanted);
    wanted->cut = true;
    struct raft_member target = { .id = wanted->id };
    node_member_change(old->node, NODE_MEMBER_TRANSFER, &target, &(struct ticket){ .row = &row });
    turn(lab);
    assert_int_equal(raft_transfer_target(node_raft(old->node)), wanted->id);
    struct raft_msg now = {
        .type = RAFT_MSG_TIMEOUT_NOW, .from = old->id, .to = third->id, .term = raft_term(node_raft(old->node)),
    };
    struct raft_event ev = { .type = RAFT_EV_MESSAGE, .msg = &now };
    assert_int_equal(raft_step(third->node->raft, &ev), OK);
    UNTIL(lab, raft_leader(node_raft(old->node)) == third->id);
    wanted->cut = false;
    UNTIL(lab, old->done_ok + old->done_failed == 1);
    assert_int_equal(old->done_ok, 1);
    assert_int_equal(raft_leader(node_raft(old->node)), wanted->id);
}

/* Its entry is lost with the leadership, and who asked does not ask again: it is given up in time. */
static void test_a_change_that_was_lost_is_given_up(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL && node_leads(leader(lab)->node) && level(lab));
    struct member *old = leader(lab);
    struct member *asker = follower(lab);
    struct raft_member fourth = {
        .id = lab->at[3].id, .directory_id = lab->at[3].directory_id, .role = RAFT_JOINING,
        .peer_address = "127.0.0.1:1003",
    };
    node_member_change(asker->node, NODE_MEMBER_JOIN, &fourth, &(struct ticket){ .row = NULL });
    UNTIL(lab, old->node->member_waits != NULL);
    old->cut = true;
    UNTIL(lab, old->node->member_waits->index != 0);
    node_close(asker->node);
    member_open(lab, (size_t)(asker - lab->at), false);
    UNTIL(lab, leader(lab) != NULL);
    old->cut = false;
    UNTIL(lab, raft_members_find(raft_members(node_raft(old->node)), fourth.id) == NULL && level(lab));
    UNTIL(lab, old->node->member_waits == NULL);
}

/* All of them sleep: what nobody has lived through does not count. */
static void test_a_pause_is_not_time(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *m = leader(lab);
    put(m, "k", "v");
    UNTIL(lab, m->done_ok == 1 && level(lab));
    turn(lab);
    uint64_t clock_ms = node_clock_ms(m->node);
    now_us += 60000000;
    for (int i = 0; i < 10; i++) turn(lab);
    for (size_t i = 0; i < NODES; i++) {
        assert_true(node_clock_ms(lab->at[i].node) <= clock_ms + 10 + 2 * 200 + 1);
    }
}

/* P5: a leader is cut off whose clock the others have heard little of, so the next one begins behind
 * it. What the next one stamps must not end early when the first leads again. */
static void test_the_clock_of_an_older_term_is_forgotten(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *old = leader(lab);
    put(old, "a", "1");
    UNTIL(lab, old->done_ok == 1);
    uint64_t old_term = old->node->clock_term;
    old->cut = true;
    old->node->clock_ms += 100000;
    UNTIL(lab, leader(lab) != NULL);
    struct member *next = leader(lab);
    uint64_t done_ok = next->done_ok;
    put(next, "b", "1");
    UNTIL(lab, next->done_ok > done_ok);
    old->cut = false;
    UNTIL(lab, raft_leader(node_raft(old->node)) == next->id && level(lab));
    UNTIL(lab, old->node->clock_term > old_term); /* heard */
    assert_true(node_clock_ms(old->node) < node_clock_ms(next->node) + 50000);

    old->node->clock_ms += 100000; /* as if it had not been heard */
    old->node->clock_term = old_term;
    struct raft_event transfer = { .type = RAFT_EV_TRANSFER, .peer = old->id };
    assert_int_equal(raft_step(next->node->raft, &transfer), OK);
    old->paused = false;
    UNTIL(lab, leader(lab) == old && node_leads(old->node));
    assert_true(node_clock_ms(old->node) < node_clock_ms(next->node) + 50000);
    put(old, "c", "1");
    UNTIL(lab, old->done_ok == 2);
    assert_true(state_stamp_ms(node_state(old->node)) < node_clock_ms(next->node) + 50000);
}

/* While entries are under way a batch waits until it is as large as they, but not for long. */
static void test_a_batch_fills_behind_a_larger_one(void **arg)
{
    struct lab *lab = *arg;
    start_with_long_timeouts(lab);
    struct member *m = leader(lab);
    UNTIL(lab, node_leads(m->node) && level(lab));
    for (size_t i = 0; i < NODES; i++) lab->at[i].cut = &lab->at[i] != m; /* nothing gets done */
    time_stands = true;
    for (int i = 0; i < 8; i++) put(m, "k", "v");
    turn(lab);
    assert_int_equal(m->node->batch_ops, 0);
    put(m, "k", "v");
    turn(lab);
    assert_int_not_equal(m->node->batch_ops, 0);
    for (int i = 0; i < 12; i++) put(m, "k", "v");
    turn(lab);
    assert_int_equal(m->node->batch_ops, 0);
    put(m, "k", "v");
    turn(lab);
    assert_int_not_equal(m->node->batch_ops, 0);
    now_us += 150000;
    turn(lab);
    assert_int_equal(m->node->batch_ops, 0);
    time_stands = false;
    for (size_t i = 0; i < NODES; i++) lab->at[i].cut = false;
    UNTIL(lab, m->done_ok == 22 && level(lab));
}

/* The way to a peer's disk is longer than that to our own. */
static void test_entries_leave_before_they_are_written(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *m = leader(lab);
    UNTIL(lab, node_leads(m->node) && level(lab));
    time_stands = true;
    turn(lab); /* with the heartbeat, if one was due */
    uint64_t done_ok = m->done_ok;
    uint64_t flush_count = m->flush_count;
    uint64_t sent_count = m->sent_count;
    put(m, "k", "v");
    node_turn(m->node, now_us, 1700000000000);
    assert_int_equal(m->flush_count, flush_count + 1);
    assert_int_equal(m->flushed_sent, sent_count + NODES - 1);
    assert_int_equal(m->flushed_pending, 0);
    struct wal_stats st;
    wal_stats_get(m->node->wal, &st);
    assert_int_equal(st.pending_count, 1);
    time_stands = false;
    UNTIL(lab, m->done_ok == done_ok + 1 && level(lab));
}

/* What the log finishes while replies are written is acted on at once; the turn behind it tells the
 * followers what was committed by it. */
static void test_the_log_is_polled_between_turns(void **arg)
{
    struct lab *lab = *arg;
    start_with_long_timeouts(lab);
    struct member *m = leader(lab);
    struct member *other = follower(lab);
    UNTIL(lab, node_leads(m->node) && level(lab));
    time_stands = true;
    turn(lab);
    UNTIL(lab, lab->head == lab->tail);
    assert_false(node_log_poll(other->node));
    uint64_t sent_count = other->sent_count;
    put(m, "k", "v");
    node_turn(m->node, mono_us(), 1700000000000);
    deliver(lab);
    node_turn(other->node, mono_us(), 1700000000000);
    assert_int_equal(other->sent_count, sent_count);
    while (node_disk_step(other->node)) {
    }
    assert_true(node_log_poll(other->node));
    assert_int_equal(other->sent_count, sent_count + 1); /* its acknowledgement */
    assert_false(node_log_poll(other->node));

    deliver(lab);
    uint64_t done_ok = m->done_ok;
    while (node_disk_step(m->node)) {
    }
    assert_true(node_log_poll(m->node));
    assert_int_equal(m->done_ok, done_ok + 1); /* committed: here and there */
    sent_count = m->sent_count;
    node_turn(m->node, mono_us(), 1700000000000);
    assert_int_equal(m->sent_count, sent_count + NODES - 1);
    time_stands = false;
    UNTIL(lab, level(lab));
}

/* As a crash between the last two steps of installing a snapshot leaves it: the store is exchanged, the
 * log says only that it was about to be. */
static void unfinish_an_installation(struct member *m, uint64_t index, uint64_t term)
{
    const struct disk_io *io = disk_io_posix();
    struct errmsg em = { "" };
    struct db_current current = { .number = 0, .index = index, .term = term };
    assert_int_equal(db_current_prepare(io, m->dir, &current, &em), OK);
    assert_int_equal(db_current_replace(io, m->dir, &em), OK);
    char dir[300];
    snprintf(dir, sizeof dir, "%s/wal", m->dir);
    struct wal_options options = {
        .dir = dir, .cluster_id = 77, .member_id = m->id, .segment_bytes = 1 << 20, .salt = 5,
        .backend = WAL_BACKEND_THREAD,
    };
    struct wal *wal;
    assert_int_equal(wal_open(&options, &wal, &em), OK);
    wal_submit(wal, &(struct wal_submission){ .snapshot_begin = { index, term } });
    wal_close(wal);
}

/* The mark that finishes it is under way for as long as the disk takes, and a checkpoint is due. */
static void test_a_slow_disk_at_the_end_of_an_installation(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL && node_leads(leader(lab)->node));
    struct member *m = follower(lab);
    size_t at = (size_t)(m - lab->at);
    char command[600];
    UNTIL(lab, level(lab));
    node_close(m->node);
    snprintf(command, sizeof command, "cp -r '%s/wal' '%s/wal.before'", m->dir, m->dir);
    assert_int_equal(system(command), 0);
    member_open(lab, at, false);
    for (int i = 0; i < 20; i++) put(m, "k", "v");
    UNTIL(lab, m->done_ok == 20);
    struct op compact = { .kind = OP_COMPACT, .number = 10, .fields = FIELD_NUMBER };
    static const char row = 0;
    assert_int_equal(node_propose(m->node, &compact, false, &(struct ticket){ .client_id = 1, .row = &row }), OK);
    UNTIL(lab, m->done_ok == 21 && level(lab));
    uint64_t index = applied(m);
    uint64_t term = state_applied_term(node_state(m->node));
    node_close(m->node); /* with a checkpoint */
    snprintf(command, sizeof command, "cd '%s' && rm -r wal && mv wal.before wal", m->dir);
    assert_int_equal(system(command), 0);
    unfinish_an_installation(m, index, term);

    member_open(lab, at, false);
    assert_int_equal(applied(m), index);
    for (int i = 0; i < 5; i++) { /* the disk does nothing */
        node_turn(m->node, mono_us(), 1700000000000);
        now_us += lab->checkpoint_ms * 1000;
    }
    assert_int_equal(m->node->stats.checkpoint_count, 0);
    assert_true(wal_last_durable(m->node->wal).index < index);
    UNTIL(lab, m->node->stats.checkpoint_count > 0 && level(lab));
}

/* More operations than apply remembers of one member: the floor goes along with what is finished. */
static void test_more_operations_than_the_window(void **arg)
{
    struct lab *lab = *arg;
    start_with_long_timeouts(lab);
    struct member *m = follower(lab);
    for (uint64_t count = 0; count < DEDUP_WINDOW + 4096;) {
        for (int i = 0; i < 4096; i++) put(m, "k", "v");
        count += 4096;
        UNTIL(lab, m->done_ok + m->done_failed == count);
        assert_int_equal(m->done_failed, 0);
    }
    UNTIL(lab, level(lab));
}

/* Applied on its way, but its member gets no entry, only a snapshot that has it: unknown outcome. */
static void test_an_operation_inside_a_snapshot(void **arg)
{
    struct lab *lab = *arg;
    static char big[65536];
    memset(big, 'v', sizeof big - 1);
    start_with_long_timeouts(lab);
    struct member *from = leader(lab);
    struct member *m = follower(lab);
    put(m, "before", "1");
    UNTIL(lab, m->done_ok == 1 && level(lab));
    uint64_t count = from->done_ok;
    put(m, "inside", "1");
    turn(lab); /* forwarded */
    m->cut = true;
    UNTIL(lab, mvcc_live_count(state_mvcc(node_state(from->node))) == 2);
    assert_int_equal(m->done_ok, 1);
    /* Until neither memory nor the log has the entries. */
    while (wal_first_index(from->node->wal) <= applied(m) + 1 ||
           raft_first_index(node_raft(from->node)) <= applied(m) + 1) {
        assert_true(count < 2000);
        for (int i = 0; i < 16; i++) put(from, "big", big);
        count += 16;
        UNTIL(lab, from->done_ok == count);
    }
    m->cut = false;
    UNTIL(lab, m->done_ok + m->done_failed == 2);
    assert_int_equal(m->last_err, ERR_TIMEOUT);
    struct node_snapshot_stats st;
    node_snapshot_stats_get(m->node->snapshot, &st);
    assert_int_equal(st.installed, 1);
    put(m, "behind", "1");
    UNTIL(lab, m->done_ok == 2 && level(lab));
}

static char *value_of(size_t bytes)
{
    char *value = malloc(bytes + 1);
    memset(value, 'v', bytes);
    value[bytes] = 0;
    return value;
}

/* What was forwarded and what the leader's own client asks for in the same turn: together they are too
 * large for an entry. */
static void test_an_entry_is_never_larger_than_the_log_takes(void **arg)
{
    struct lab *lab = *arg;
    start_with_long_timeouts(lab);
    struct member *from = leader(lab);
    struct member *m = follower(lab);
    put(m, "before", "1");
    UNTIL(lab, m->done_ok == 1 && level(lab));
    char *value = value_of(wal_entry_bytes_max(from->node->wal) * 6 / 10);
    put(m, "theirs", value);
    turn(lab); /* forwarded */
    assert_int_equal(from->node->foreign_runs, 1);
    put(from, "own", value);
    UNTIL(lab, m->done_ok == 2 && from->done_ok == 1 && level(lab));
    for (int i = 0; i < 4; i++) {
        put(i % 2 == 0 ? m : from, "more", value);
        put(&lab->at[0], "small", "1");
    }
    UNTIL(lab, lab->at[0].done_ok + lab->at[1].done_ok + lab->at[2].done_ok == 11 && level(lab));
    free(value);
}

/* The largest operation that a member takes is one that its leader takes, too. */
static void test_the_largest_operation_is_forwarded(void **arg)
{
    static const char row = 0;
    struct lab *lab = *arg;
    for (size_t i = 0; i < NODES; i++) lab->at[i].segment_bytes = 64 << 10; /* less than the settings take */
    start_with_long_timeouts(lab);
    struct member *m = follower(lab);
    m->node->cfg.request_timeout_ms = 3000;
    size_t bytes = wal_entry_bytes_max(m->node->wal);
    char *value = value_of(bytes);
    struct ticket t = { .client_id = 1, .row = &row };
    struct op op = { .kind = OP_PUT, .key = SLICE_LIT("k"), .fields = FIELD_KEY | FIELD_VALUE };
    do {
        assert_true(bytes > 0);
        op.value = (struct slice){ (const uint8_t *)value, bytes-- };
    } while (node_propose(m->node, &op, false, &t) == ERR_REQUEST_LIMIT);
    UNTIL(lab, m->done_ok + m->done_failed == 1);
    assert_int_equal(m->done_ok, 1);
    UNTIL(lab, level(lab));
    free(value);
}

static void reopen_with_segments(struct lab *lab, struct member *m, size_t bytes)
{
    node_close(m->node);
    m->segment_bytes = bytes;
    member_open(lab, (size_t)(m - lab->at), false);
}

/* An operator's mistake is said in words, and costs nothing that was acknowledged. */
static void test_logs_that_take_less_than_the_leaders(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *m = follower(lab);
    reopen_with_segments(lab, m, 64 << 10);
    UNTIL(lab, leader(lab) != NULL && leader(lab) != m && level(lab));
    char *value = value_of(300000);
    put(leader(lab), "k", value);
    UNTIL(lab, m->fatal[0] != 0);
    assert_non_null(strstr(m->fatal, "'wal-segment-bytes'"));
    UNTIL(lab, lab->at[0].done_ok + lab->at[1].done_ok + lab->at[2].done_ok == 1);
    reopen_with_segments(lab, m, 1 << 20);
    UNTIL(lab, level(lab));
    free(value);
}

static void test_a_leader_whose_log_takes_less(void **arg)
{
    struct lab *lab = *arg;
    UNTIL(lab, leader(lab) != NULL);
    struct member *m = &lab->at[0];
    for (size_t i = 1; i < NODES; i++) reopen_with_segments(lab, &lab->at[i], 64 << 10);
    m->cut = true;
    UNTIL(lab, leader(lab) != NULL && leader(lab) != m);
    m->cut = false;
    put(m, "small", "1");
    UNTIL(lab, m->done_ok == 1 && level(lab));
    char *value = value_of(300000);
    put(m, "k", value);
    UNTIL(lab, m->done_failed == 1);
    assert_int_equal(m->last_err, ERR_CLUSTERDOWN); /* it was never taken */
    put(m, "small", "2");
    UNTIL(lab, m->done_ok == 2 && level(lab));
    free(value);
}

/* Who hears of an operation may propose one that becomes an entry at once, while the first one's entry
 * is being applied: the log's memory may grow under it. */
static void test_an_entry_is_appended_while_one_is_applied(void **arg)
{
    struct lab *lab = *arg;
    start_with_long_timeouts(lab);
    struct member *m = leader(lab);
    UNTIL(lab, node_leads(m->node) && level(lab));
    const struct raft *r = node_raft(m->node);
    char *value = value_of(OP_BATCH_BYTES_MAX);
    follower(lab)->cut = true; /* memory keeps for it what comes */
    mallopt(M_PERTURB, 0x5a);  /* what is freed is overwritten */
    uint64_t count = 0;
    while (count < 128) { /* the ring has grown then: at a power of two */
        uint64_t done_ok = m->done_ok;
        bool is_next_power = ((count + 1) & count) == 0;
        if (is_next_power) m->next_value = value;
        put(m, "k", "v");
        UNTIL(lab, m->done_ok == done_ok + (is_next_power ? 2 : 1));
        count = raft_last_index(r) + 1 - raft_first_index(r);
    }
    mallopt(M_PERTURB, 0);
    assert_int_equal(m->told_wrong, 0);
    follower(lab)->cut = false;
    UNTIL(lab, level(lab));
    free(value);
}

/* A leader that takes nothing for a while leads on: it says each time that a session is broken, because
 * what it said first was lost, and new operations keep coming. */
static void test_a_lost_refusal_is_repeated(void **arg)
{
    struct lab *lab = *arg;
    start_with_long_timeouts(lab);
    struct member *from = leader(lab);
    struct member *m = follower(lab);
    put(m, "before", "1");
    UNTIL(lab, m->done_ok == 1 && level(lab));
    struct member *third = third_of(lab, from, m);
    third->cut = true;
    put(from, "not at the third", "1");
    UNTIL(lab, from->done_ok == 1);
    uint64_t term = raft_term(from->node->raft);
    struct raft_event ev = { .type = RAFT_EV_TRANSFER, .peer = third->id };
    assert_int_equal(raft_step(from->node->raft, &ev), OK); /* cannot succeed */
    from->loses_refusals = true;
    put(m, "k", "0");
    for (int i = 0; i < 10; i++) turn(lab);
    assert_true(from->node->forwards[0].broken);
    from->loses_refusals = false;
    uint64_t given = 2;
    for (int i = 0; i < 400 && m->done_ok < 2; i++) {
        put(m, "k", "1");
        given++;
        turn(lab);
    }
    assert_true(m->done_ok >= 2);
    assert_int_equal(raft_term(from->node->raft), term);
    third->cut = false;
    UNTIL(lab, m->done_ok == given && level(lab));
    assert_int_equal(m->done_failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_writes_on_any_node, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_leader_is_cut_off, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_what_was_given_goes_first, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_restart_of_all, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_members_come_and_go, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_directory_is_told_when_it_is_committed, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_checkpoint_has_the_members_as_of_its_index, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_snapshot_brings_its_members, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_transfer_that_another_member_wins, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_change_that_was_lost_is_given_up, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_pause_is_not_time, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_the_clock_of_an_older_term_is_forgotten, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_batch_fills_behind_a_larger_one, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_slow_disk_at_the_end_of_an_installation, group_begin,
                                        group_end),
        cmocka_unit_test_setup_teardown(test_the_log_is_polled_between_turns, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_entries_leave_before_they_are_written, group_begin,
                                        group_end),
        cmocka_unit_test_setup_teardown(test_more_operations_than_the_window, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_an_operation_inside_a_snapshot, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_an_entry_is_never_larger_than_the_log_takes, group_begin,
                                        group_end),
        cmocka_unit_test_setup_teardown(test_the_largest_operation_is_forwarded, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_logs_that_take_less_than_the_leaders, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_a_leader_whose_log_takes_less, group_begin, group_end),
        cmocka_unit_test_setup_teardown(test_an_entry_is_appended_while_one_is_applied, group_begin,
                                        group_end),
        cmocka_unit_test_setup_teardown(test_a_lost_refusal_is_repeated, group_begin, group_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/unit/raft/raft_lab.h - a group of members in one process: a network and disks of memory.
 *
 * A disk keeps what was persisted; a crash loses the rest. Messages pass through their codec. Every
 * entry that anybody applies is compared with what others applied at that index. */
#ifndef TESTS_RAFT_LAB_H
#define TESTS_RAFT_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft/raft.h"

#define LAB_UNUSED __attribute__((unused))
#define LAB_NODES_MAX 9
#define LAB_INDEX_MAX 4096
#define LAB_WRITES_MAX 1024
#define LAB_NET_MAX 65536
#define LAB_TERMS_MAX 8192

struct lab_log {
    struct raft_entry *at; /* at[0] has index first */
    size_t count;
    size_t cap;
    uint64_t first;
};

struct lab_write {
    struct raft_write write;
    struct raft_hard_state hard;
    uint64_t truncate_from;
    struct lab_log entries;
};

struct lab_node {
    uint64_t id;
    struct raft *r; /* NULL: down */
    uint64_t starts;
    /* on disk */
    struct raft_hard_state hard;
    struct lab_log log;
    uint64_t snap_index;
    uint64_t snap_term;
    struct raft_members snap_members;
    /* on the way to the disk */
    bool disk_held;
    struct lab_write writes[LAB_WRITES_MAX];
    size_t write_first;
    size_t write_count;
    /* the state machine: index applied, and the members there */
    uint64_t applied;
    struct raft_members members;
    /* reads */
    uint64_t read_asked;
    uint64_t read_id;
    uint64_t read_index;
    uint64_t read_floor[64]; /* highest index answered anywhere when read id was asked */
    bool snapshots_held;     /* wishes are not answered */
    struct raft_wish wish;
    uint64_t lost_peer;
    size_t msgs_sent;
};

struct lab_packet {
    struct buf bytes;
    uint64_t from;
    uint64_t to;
    enum raft_msg_type type;
    uint64_t order;
};

struct lab {
    struct lab_node node[LAB_NODES_MAX + 1]; /* by id */
    size_t node_count;
    struct raft_config cfg;
    struct raft_members first_members;
    struct lab_packet *net;
    size_t net_count;
    bool cut[LAB_NODES_MAX + 1][LAB_NODES_MAX + 1]; /* from, to */
    int64_t now_ms;
    uint64_t seed;
    /* what was applied first at each index, by whomever */
    uint64_t applied_term[LAB_INDEX_MAX];
    uint32_t applied_crc[LAB_INDEX_MAX];
    uint64_t applied_max;
    uint64_t leader_of[LAB_TERMS_MAX];
    size_t snapshots;
};

/* --- disk ------------------------------------------------------------------------------------ */

LAB_UNUSED static void lab_log_push(struct lab_log *l, const struct raft_entry *e)
{
    if (l->count == 0) l->first = e->index;
    assert_true(e->index == l->first + l->count);
    if (l->count == l->cap) {
        l->cap = l->cap == 0 ? 16 : l->cap * 2;
        l->at = mem_realloc(l->at, l->cap * sizeof *l->at);
    }
    l->at[l->count] = *e;
    if (e->body != NULL) blob_ref(e->body);
    l->count++;
}

LAB_UNUSED static void lab_log_cut(struct lab_log *l, uint64_t from_index)
{
    while (l->count != 0 && l->first + l->count > from_index) {
        blob_unref(l->at[--l->count].body);
    }
}

LAB_UNUSED static void lab_log_deinit(struct lab_log *l)
{
    lab_log_cut(l, 0);
    mem_free(l->at);
    *l = (struct lab_log){ 0 };
}

/* Keeps entries above index. */
LAB_UNUSED static void lab_log_forget(struct lab_log *l, uint64_t index)
{
    size_t drop = 0;
    while (drop < l->count && l->first + drop <= index) blob_unref(l->at[drop++].body);
    l->count -= drop;
    if (drop == 0) return;
    memmove(l->at, l->at + drop, l->count * sizeof *l->at);
    l->first += drop;
}

LAB_UNUSED static const struct raft_entry *lab_log_find(const struct lab_log *l, uint64_t index)
{
    if (l->count == 0 || index < l->first || index >= l->first + l->count) return NULL;
    return &l->at[index - l->first];
}

LAB_UNUSED static void lab_write_push(struct lab_node *n, const struct raft_update *u)
{
    assert_true(n->write_count < LAB_WRITES_MAX);
    struct lab_write *w = &n->writes[(n->write_first + n->write_count++) % LAB_WRITES_MAX];
    *w = (struct lab_write){ .write = u->write, .hard = u->hard,
                             .truncate_from = u->truncate_from };
    for (uint64_t i = u->append_from; i != 0 && i <= u->append_to; i++) {
        lab_log_push(&w->entries, raft_entry_at(n->r, i));
    }
}

/* The oldest write reaches the disk. */
LAB_UNUSED static struct raft_write lab_write_pop(struct lab_node *n)
{
    assert_true(n->write_count > 0);
    struct lab_write *w = &n->writes[n->write_first];
    n->write_first = (n->write_first + 1) % LAB_WRITES_MAX;
    n->write_count--;
    assert_true(w->hard.term >= n->hard.term); /* never backwards */
    n->hard = w->hard;
    if (w->truncate_from != 0) lab_log_cut(&n->log, w->truncate_from);
    for (size_t i = 0; i < w->entries.count; i++) lab_log_push(&n->log, &w->entries.at[i]);
    struct raft_write write = w->write;
    lab_log_deinit(&w->entries);
    return write;
}

LAB_UNUSED static void lab_writes_drop(struct lab_node *n)
{
    while (n->write_count != 0) {
        lab_log_deinit(&n->writes[n->write_first].entries);
        n->write_first = (n->write_first + 1) % LAB_WRITES_MAX;
        n->write_count--;
    }
}

/* --- network --------------------------------------------------------------------------------- */

/* [P] figure 2: what a message tells of its sender is on the sender's disk before. */
LAB_UNUSED static void lab_check_told(struct lab *lab, const struct raft_msg *m)
{
    const struct lab_node *n = &lab->node[m->from];
    bool asks = m->type == RAFT_MSG_PREVOTE || m->type == RAFT_MSG_PREVOTE_RESP;
    if (!asks && n->hard.term < m->term) {
        fail_msg("seed %llu: %llu speaks in term %llu, its disk is in %llu",
                 (unsigned long long)lab->seed, (unsigned long long)n->id,
                 (unsigned long long)m->term, (unsigned long long)n->hard.term);
    }
    if (m->reject) return;
    if (m->type == RAFT_MSG_VOTE_RESP && n->hard.term == m->term && n->hard.vote != m->to) {
        fail_msg("seed %llu: the vote of %llu for %llu is not on its disk",
                 (unsigned long long)lab->seed, (unsigned long long)n->id,
                 (unsigned long long)m->to);
    }
    if (m->type != RAFT_MSG_APPEND_RESP || m->index <= n->snap_index) return;
    const struct raft_entry *own = lab_log_find(&n->log, m->index);
    const struct raft *leader = lab->node[m->to].r;
    uint64_t term = 0;
    bool leads = leader != NULL && raft_role(leader) == RAFT_LEADER && raft_term(leader) == m->term;
    bool known = leads && raft_term_at(leader, m->index, &term);
    if (own == NULL || (known && own->term != term)) {
        fail_msg("seed %llu: %llu acknowledges %llu, which is not on its disk",
                 (unsigned long long)lab->seed, (unsigned long long)n->id,
                 (unsigned long long)m->index);
    }
}

LAB_UNUSED static void lab_send(struct lab *lab, const struct raft_msg *m)
{
    lab_check_told(lab, m);
    lab->node[m->from].msgs_sent++;
    if (lab->cut[m->from][m->to] || lab->net_count == LAB_NET_MAX) return;
    struct lab_packet *p = &lab->net[lab->net_count++];
    *p = (struct lab_packet){ .from = m->from, .to = m->to, .type = m->type };
    raft_msg_encode(&p->bytes, m);
    assert_true(p->bytes.len == raft_msg_encoded_bytes(m));
}

LAB_UNUSED static struct lab_packet lab_net_take(struct lab *lab, size_t at)
{
    struct lab_packet p = lab->net[at];
    lab->net_count--;
    memmove(&lab->net[at], &lab->net[at + 1], (lab->net_count - at) * sizeof p);
    return p;
}

LAB_UNUSED static enum err lab_event(struct lab *lab, uint64_t id, struct raft_event ev)
{
    enum err err = raft_step(lab->node[id].r, &ev);
    raft_check(lab->node[id].r);
    return err;
}

LAB_UNUSED static void lab_must(struct lab *lab, uint64_t id, struct raft_event ev)
{
    assert_int_equal(lab_event(lab, id, ev), OK);
}

LAB_UNUSED static void lab_deliver(struct lab *lab, struct lab_packet *p)
{
    struct raft_msg m;
    if (lab->node[p->to].r != NULL && !lab->cut[p->from][p->to]) {
        assert_int_equal(raft_msg_decode(buf_slice(&p->bytes), &m), OK);
        lab_must(lab, p->to, (struct raft_event){ .type = RAFT_EV_MESSAGE, .msg = &m });
        raft_msg_deinit(&m);
    }
    buf_deinit(&p->bytes);
}

/* --- what an update asks for ----------------------------------------------------------------- */

LAB_UNUSED static void lab_apply(struct lab *lab, struct lab_node *n, const struct raft_entry *e)
{
    assert_true(e->index == n->applied + 1);
    assert_true(e->index < LAB_INDEX_MAX);
    if (e->index > lab->applied_max) {
        assert_true(e->index == lab->applied_max + 1);
        lab->applied_max = e->index;
        lab->applied_term[e->index] = e->term;
        lab->applied_crc[e->index] = e->crc;
    }
    /* state machine safety */
    if (lab->applied_term[e->index] != e->term || lab->applied_crc[e->index] != e->crc) {
        fail_msg("seed %llu: %llu applies another entry at %llu", (unsigned long long)lab->seed,
                 (unsigned long long)n->id, (unsigned long long)e->index);
    }
    if (e->type == RAFT_ENTRY_MEMBERS) {
        assert_int_equal(raft_members_decode(blob_slice(e->body), &n->members), OK);
    }
    n->applied = e->index;
}

LAB_UNUSED static void lab_persist_one(struct lab *lab, uint64_t id)
{
    struct raft_write write = lab_write_pop(&lab->node[id]);
    lab_must(lab, id, (struct raft_event){ .type = RAFT_EV_PERSISTED, .write = write });
}

/* The whole way of a snapshot, in no time. */
LAB_UNUSED static void lab_snapshot_move(struct lab *lab, uint64_t from, uint64_t to)
{
    struct lab_node *a = &lab->node[from];
    struct lab_node *b = &lab->node[to];
    lab_must(lab, from, (struct raft_event){ .type = RAFT_EV_SNAPSHOT_SENDING, .peer = to,
                                             .index = a->snap_index });
    bool reachable = b->r != NULL && !lab->cut[from][to] && !lab->cut[to][from];
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_BEGIN, .index = a->snap_index,
                             .term = a->snap_term };
    bool ok = reachable && lab_event(lab, to, ev) == OK;
    if (ok) {
        while (b->write_count != 0) lab_persist_one(lab, to);
        lab_log_cut(&b->log, 0); /* the log begins anew; term and vote stay */
        b->snap_index = a->snap_index;
        b->snap_term = a->snap_term;
        b->snap_members = a->snap_members;
        b->applied = a->snap_index;
        b->members = a->snap_members;
        ev.type = RAFT_EV_SNAPSHOT_INSTALLED;
        ev.members = &b->snap_members;
        lab_must(lab, to, ev);
        lab->snapshots++;
    }
    lab_must(lab, from, (struct raft_event){ .type = RAFT_EV_SNAPSHOT_SENT, .peer = to,
                                             .ok = ok });
}

LAB_UNUSED static void lab_wish(struct lab *lab, struct lab_node *n, const struct raft_wish *w)
{
    n->wish = *w;
    if (n->snapshots_held) return;
    const struct raft_entry *before = lab_log_find(&n->log, w->next_index - 1);
    const struct raft_entry *first = lab_log_find(&n->log, w->next_index);
    if (first != NULL && (before != NULL || w->next_index == 1)) {
        size_t left = n->log.count - (size_t)(w->next_index - n->log.first);
        lab_must(lab, n->id, (struct raft_event){
                                 .type = RAFT_EV_ENTRIES, .peer = w->peer,
                                 .index = w->next_index, .term = before ? before->term : 0,
                                 .entries = first, .entry_count = MIN(left, 8) });
        return;
    }
    lab_snapshot_move(lab, n->id, w->peer);
}

LAB_UNUSED static void lab_leader_check(struct lab *lab, const struct lab_node *n)
{
    if (raft_role(n->r) != RAFT_LEADER) return;
    uint64_t term = raft_term(n->r);
    assert_true(term < LAB_TERMS_MAX);
    if (lab->leader_of[term] != 0 && lab->leader_of[term] != n->id) {
        fail_msg("seed %llu: term %llu led by %llu and %llu", (unsigned long long)lab->seed,
                 (unsigned long long)term, (unsigned long long)n->id,
                 (unsigned long long)lab->leader_of[term]);
    }
    lab->leader_of[term] = n->id;
}

LAB_UNUSED static void lab_read_done(struct lab *lab, struct lab_node *n,
                                     const struct raft_update *u)
{
    assert_true(u->read_id > n->read_id && u->read_id <= n->read_asked);
    for (uint64_t id = n->read_id + 1; id <= u->read_id; id++) {
        if (u->read_index < n->read_floor[id % ARRAY_LEN(n->read_floor)]) {
            fail_msg("seed %llu: stale read on %llu", (unsigned long long)lab->seed,
                     (unsigned long long)n->id);
        }
    }
    n->read_id = u->read_id;
    n->read_index = u->read_index;
}

/* Takes one update and does what it says. The disk answers at once unless it is held. */
LAB_UNUSED static bool lab_take(struct lab *lab, uint64_t id)
{
    struct lab_node *n = &lab->node[id];
    struct raft_update u;
    if (n->r == NULL || !raft_update_take(n->r, &u)) return false;
    raft_check(n->r);
    lab_leader_check(lab, n);
    if (u.write.seq != 0) lab_write_push(n, &u);
    for (size_t i = 0; i < u.msg_count; i++) lab_send(lab, &u.msgs[i]);
    for (uint64_t i = u.apply_from; i != 0 && i <= u.apply_to; i++) {
        lab_apply(lab, n, raft_entry_at(n->r, i));
    }
    if (u.read_id != 0) lab_read_done(lab, n, &u);
    if (u.lost_peer != 0) n->lost_peer = u.lost_peer;
    struct raft_wish wishes[RAFT_MEMBERS_MAX];
    size_t wish_count = u.wish_count;
    for (size_t i = 0; i < wish_count; i++) wishes[i] = u.wishes[i];
    if (u.apply_from != 0) {
        lab_must(lab, id, (struct raft_event){ .type = RAFT_EV_APPLIED, .index = u.apply_to });
    }
    for (size_t i = 0; i < wish_count; i++) lab_wish(lab, n, &wishes[i]);
    return true;
}

LAB_UNUSED static void lab_work(struct lab *lab, uint64_t id)
{
    struct lab_node *n = &lab->node[id];
    bool busy = true;
    for (int turn = 0; busy; turn++) {
        assert_true(turn < 1000);
        busy = lab_take(lab, id);
        while (n->r != NULL && !n->disk_held && n->write_count != 0) {
            lab_persist_one(lab, id);
            busy = true;
        }
    }
}

LAB_UNUSED static void lab_work_all(struct lab *lab)
{
    for (uint64_t id = 1; id <= lab->node_count; id++) lab_work(lab, id);
}

/* Delivers until nothing moves. */
LAB_UNUSED static void lab_stabilize(struct lab *lab)
{
    lab_work_all(lab);
    for (int round = 0; lab->net_count != 0; round++) {
        assert_true(round < 100000);
        struct lab_packet p = lab_net_take(lab, 0);
        lab_deliver(lab, &p);
        lab_work(lab, p.to);
    }
}

LAB_UNUSED static void lab_tick(struct lab *lab, uint64_t id)
{
    if (lab->node[id].r == NULL) return;
    lab_must(lab, id, (struct raft_event){ .type = RAFT_EV_TICK, .now_ms = lab->now_ms });
    lab_work(lab, id);
}

LAB_UNUSED static void lab_run(struct lab *lab, int64_t for_ms)
{
    for (int64_t end_ms = lab->now_ms + for_ms; lab->now_ms < end_ms;) {
        lab->now_ms += 10;
        for (uint64_t id = 1; id <= lab->node_count; id++) lab_tick(lab, id);
        lab_stabilize(lab);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

LAB_UNUSED static void lab_start(struct lab *lab, uint64_t id)
{
    struct lab_node *n = &lab->node[id];
    assert_null(n->r);
    n->id = id;
    struct raft_config cfg = lab->cfg;
    cfg.id = id;
    cfg.seed = lab->seed * 1000003 + id * 101 + ++n->starts;
    cfg.hard = n->hard;
    cfg.applied_index = n->snap_index;
    cfg.applied_term = n->snap_term;
    cfg.members = &n->snap_members;
    n->r = raft_new(&cfg);
    for (size_t i = 0; i < n->log.count; i++) {
        assert_int_equal(raft_restore_entry(n->r, &n->log.at[i]), OK);
    }
    n->applied = n->snap_index;
    n->members = n->snap_members;
    n->read_asked = n->read_id = n->read_index = 0;
    raft_start(n->r, lab->now_ms);
    raft_check(n->r);
}

LAB_UNUSED static void lab_crash(struct lab *lab, uint64_t id)
{
    struct lab_node *n = &lab->node[id];
    raft_free(n->r);
    n->r = NULL;
    lab_writes_drop(n);
}

LAB_UNUSED static struct raft_member lab_member(uint64_t id, enum raft_member_role role)
{
    struct raft_member m = { .id = id, .directory_id = id + 100, .role = role };
    snprintf(m.peer_address, sizeof m.peer_address, "host%u:7380", (unsigned)id);
    snprintf(m.client_address, sizeof m.client_address, "host%u:7379", (unsigned)id);
    snprintf(m.name, sizeof m.name, "n%u", (unsigned)id);
    return m;
}

/* Nodes 1..voters vote, the next `learners` learn; more nodes may be started later. */
LAB_UNUSED static struct lab *lab_new(size_t voters, size_t learners, uint64_t seed)
{
    struct lab *lab = mem_zalloc(sizeof *lab);
    lab->net = mem_alloc(LAB_NET_MAX * sizeof *lab->net);
    lab->seed = seed;
    lab->cfg = (struct raft_config){ .heartbeat_ms = 100, .election_timeout_ms = 1000,
                                     .append_bytes_max = 1024, .inflight_max = 4,
                                     .uncommitted_bytes_max = 4096 };
    for (size_t i = 0; i < voters + learners; i++) {
        struct raft_member m = lab_member(i + 1, i < voters ? RAFT_VOTER : RAFT_LEARNER);
        assert_int_equal(raft_members_put(&lab->first_members, &m), OK);
    }
    lab->node_count = voters + learners;
    for (uint64_t id = 1; id <= LAB_NODES_MAX; id++) {
        lab->node[id].id = id;
        if (id <= lab->node_count) lab->node[id].snap_members = lab->first_members;
    }
    return lab;
}

LAB_UNUSED static struct lab *lab_started(size_t voters, size_t learners)
{
    struct lab *lab = lab_new(voters, learners, 1);
    for (uint64_t id = 1; id <= lab->node_count; id++) lab_start(lab, id);
    return lab;
}

LAB_UNUSED static void lab_free(struct lab *lab)
{
    for (uint64_t id = 1; id <= LAB_NODES_MAX; id++) {
        struct lab_node *n = &lab->node[id];
        raft_free(n->r);
        lab_writes_drop(n);
        lab_log_deinit(&n->log);
    }
    for (size_t i = 0; i < lab->net_count; i++) buf_deinit(&lab->net[i].bytes);
    mem_free(lab->net);
    mem_free(lab);
}

/* --- shorthand ------------------------------------------------------------------------------- */

LAB_UNUSED static void lab_elect(struct lab *lab, uint64_t id)
{
    lab_must(lab, id, (struct raft_event){ .type = RAFT_EV_CAMPAIGN });
    lab_stabilize(lab);
    assert_int_equal(raft_role(lab->node[id].r), RAFT_LEADER);
}

LAB_UNUSED static enum err lab_propose(struct lab *lab, uint64_t id, struct slice text)
{
    struct blob *body = blob_copy(text);
    enum err err = lab_event(lab, id, (struct raft_event){ .type = RAFT_EV_PROPOSE, .body = body,
                                                .crc = crc32c(0, text.at, text.len) });
    if (err != OK) blob_unref(body);
    return err;
}

LAB_UNUSED static void lab_put(struct lab *lab, uint64_t id, const char *text)
{
    assert_int_equal(lab_propose(lab, id, slice_of(text)), OK);
}

LAB_UNUSED static void lab_read(struct lab *lab, uint64_t id)
{
    struct lab_node *n = &lab->node[id];
    n->read_asked++;
    n->read_floor[n->read_asked % ARRAY_LEN(n->read_floor)] = lab->applied_max;
    lab_must(lab, id, (struct raft_event){ .type = RAFT_EV_READ, .read_id = n->read_asked });
}

/* The state machine's checkpoint at what is applied; memory and disk forget `keep` below it. */
LAB_UNUSED static void lab_compact(struct lab *lab, uint64_t id, uint64_t keep)
{
    struct lab_node *n = &lab->node[id];
    uint64_t at = MIN(n->applied, raft_durable_index(n->r));
    if (at != n->applied || !raft_term_at(n->r, at, &n->snap_term)) return;
    n->snap_index = at;
    n->snap_members = n->members;
    if (at <= keep) return;
    raft_log_trim(n->r, at - keep);
    lab_log_forget(&n->log, at - keep);
    raft_check(n->r);
}

#endif

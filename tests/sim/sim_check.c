/* tests/sim/sim_check.c - what must hold in every group, after every step. */
#include "sim_int.h"

#define RAFT_CHECK_EVERY 64 /* turns: it walks the log */
#define LOGS_CHECK_EVERY 256

static void term_room(struct sim *s, uint64_t term)
{
    if (term < s->term_count) return;
    size_t count = term * 2 + 64;
    s->term_leader = mem_realloc(s->term_leader, count * sizeof *s->term_leader);
    s->votes = mem_realloc(s->votes, count * sizeof *s->votes);
    memset(s->term_leader + s->term_count, 0, (count - s->term_count) * sizeof *s->term_leader);
    memset(s->votes + s->term_count, 0, (count - s->term_count) * sizeof *s->votes);
    s->term_count = count;
}

/* One vote a term, over all lives of a member. */
void check_vote(struct sim_node *n, uint64_t term, uint64_t candidate)
{
    struct sim *s = n->sim;
    term_room(s, term);
    uint64_t *voter = &s->votes[term].at[n->at].voter;
    uint64_t *before = &s->votes[term].at[n->at].candidate;
    if (*voter == n->member_id && *before != candidate) {
        sim_fail(s, "%s votes in term %llu for member %llu and has voted for %llu", n->name,
                 (unsigned long long)term, (unsigned long long)candidate, (unsigned long long)*before);
    }
    *voter = n->member_id;
    *before = candidate;
}

/* A majority of the voters of its configuration chose it; others do not count. */
static void check_elected(struct sim_node *n, uint64_t term)
{
    const struct raft_members *m = raft_members(node_raft(n->node));
    size_t voters = raft_members_voter_count(m), votes = 0;
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        uint64_t voter = n->sim->votes[term].at[i].voter;
        bool for_it = n->sim->votes[term].at[i].candidate == n->member_id && voter != n->member_id;
        votes += for_it && raft_members_is_voter(m, voter);
    }
    votes += raft_members_is_voter(m, n->member_id);
    if (votes < voters / 2 + 1) {
        sim_fail(n->sim, "%s leads term %llu with %zu votes of %zu voters", n->name, (unsigned long long)term, votes,
                 voters);
    }
}

/* Leader completeness: what is committed in earlier terms is in its log. */
static void check_complete(struct sim_node *n)
{
    const struct sim *s = n->sim;
    const struct raft *r = node_raft(n->node);
    uint64_t index = s->stats.commit_max, term;
    if (raft_last_index(r) < index) {
        sim_fail(n->sim, "%s leads and its log ends at %llu, %llu is committed", n->name,
                 (unsigned long long)raft_last_index(r), (unsigned long long)index);
    }
    bool known = index < s->index_count && s->applied[index].term != 0 && raft_term_at(r, index, &term);
    if (known && term != s->applied[index].term) {
        sim_fail(n->sim, "%s leads and has another entry at %llu than was committed", n->name,
                 (unsigned long long)index);
    }
}

/* One leader a term ([P] figure 3, election safety). */
static void check_leader(struct sim_node *n)
{
    struct sim *s = n->sim;
    const struct raft *r = node_raft(n->node);
    if (raft_role(r) != RAFT_LEADER) return;
    uint64_t term = raft_term(r);
    term_room(s, term);
    if (s->term_leader[term] == 0) {
        s->term_leader[term] = n->member_id;
        s->stats.elections++;
        sim_log(s, "%s leads term %llu", n->name, (unsigned long long)term);
        check_elected(n, term);
        check_complete(n);
    }
    if (s->term_leader[term] != n->member_id) {
        sim_fail(s, "two leaders in term %llu: members %llu and %llu", (unsigned long long)term,
                 (unsigned long long)s->term_leader[term], (unsigned long long)n->member_id);
    }
}

static bool is_durable(const struct sim_node *n, const struct raft_members *m, uint64_t index)
{
    size_t voters = 0, durable = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].role != RAFT_VOTER) continue;
        voters++;
        const struct sim_node *v = node_by_member(n->sim, m->at[i].id);
        if (v == NULL) continue;
        durable += (v->up ? raft_durable_index(node_raft(v->node)) : v->durable_at_end) >= index;
    }
    return voters > 0 && durable >= voters / 2 + 1;
}

/* What is committed is durable on a majority of the voters: P1. */
static void check_commit(struct sim_node *n)
{
    struct sim *s = n->sim;
    const struct raft *r = node_raft(n->node);
    uint64_t commit = raft_commit_index(r);
    if (commit < n->commit_seen) sim_fail(s, "%s: the commit index went back", n->name);
    n->commit_seen = commit;
    if (raft_applied_index(r) > commit) sim_fail(s, "%s: applied more than is committed", n->name);
    if (commit <= s->stats.commit_max || raft_role(r) != RAFT_LEADER) return;
    s->stats.commit_max = commit;
    /* A turn may commit and then append another configuration: that one counts from there on. */
    if (is_durable(n, raft_members(r), commit) || is_durable(n, &n->members_before, commit)) return;
    sim_fail(s, "%s committed %llu, which no majority of the voters has on disk", n->name, (unsigned long long)commit);
}

/* State machine safety: whoever has applied up to an index has the same entry and state there. */
void check_applied(struct sim_node *n, uint64_t index)
{
    struct sim *s = n->sim;
    if (n->node == NULL) return; /* what a group of one repeats while it starts */
    if (index >= s->index_count) {
        size_t count = index * 2 + 1024;
        s->applied = mem_realloc(s->applied, count * sizeof *s->applied);
        memset(s->applied + s->index_count, 0, (count - s->index_count) * sizeof *s->applied);
        s->index_count = count;
    }
    const struct raft *r = node_raft(n->node);
    struct sim_applied *seen = &s->applied[index];
    struct sim_applied now = { .hash = state_hash(node_state(n->node)) | 1 };
    ASSERT(index >= raft_first_index(r) && index <= raft_last_index(r));
    now.term = raft_entry_at(r, index)->term;
    now.crc = raft_entry_at(r, index)->crc;
    if (seen->hash == 0) *seen = now;
    if (seen->term != now.term || seen->crc != now.crc) {
        sim_fail(s, "%s applied another entry than the others at index %llu", n->name, (unsigned long long)index);
    }
    if (seen->hash != now.hash) {
        sim_fail(s, "%s has another state than the others at index %llu", n->name, (unsigned long long)index);
    }
}

/* --- events ------------------------------------------------------------------------------------ */

size_t sim_log_count(const struct sim *s) { return s->log.count; }
void sim_log_at(const struct sim *s, size_t i, struct history_event *out) { *out = s->log.at[i]; }

static struct slice owned(struct slice in)
{
    return (struct slice){ mem_copy(in.len == 0 ? "" : (const void *)in.at, MAX(in.len, 1)), in.len };
}

static bool is_same(const struct history_event *a, const struct history_event *b)
{
    return a->op == b->op && slice_eq(a->key, b->key) && slice_eq(a->value, b->value) && a->create == b->create &&
           a->version == b->version && a->lease == b->lease;
}

/* The first of the log at or behind (rev, n). */
static size_t log_find(const struct sim_event_log *log, uint64_t rev, uint32_t n)
{
    size_t low = 0, high = log->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct history_event *e = &log->at[middle];
        if (e->rev < rev || (e->rev == rev && e->n < n)) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Who applies a revision first says what it is; all others must tell the same. */
void check_event(struct sim_node *n, const struct mvcc_event *ev)
{
    struct sim_event_log *log = &n->sim->log;
    struct history_event e = {
        .rev = ev->rev, .n = ev->n, .create = ev->create, .version = ev->version, .lease = ev->lease,
        .op = ev->op == ROW_PUT ? HISTORY_EVENT_PUT : ev->op == ROW_DEL ? HISTORY_EVENT_DEL : HISTORY_EVENT_EXPIRE,
        .key = { ev->key.at + 1, ev->key.len - 1 }, .value = ev->op == ROW_PUT ? ev->value : SLICE_NONE,
    };
    size_t at = log_find(log, e.rev, e.n);
    bool there = at < log->count && log->at[at].rev == e.rev && log->at[at].n == e.n;
    bool gap = sim_began_alone(n->sim) && !there; /* what a group of one repeats it tells nobody */
    if (at < log->count && !gap) {
        if (!there || !is_same(&log->at[at], &e)) {
            sim_fail(n->sim, "%s tells another event than was told before: revision %llu, %u of it", n->name,
                     (unsigned long long)e.rev, e.n);
        }
        return;
    }
    if (log->count == log->cap) {
        log->cap = log->cap == 0 ? 1024 : log->cap * 2;
        log->at = mem_realloc(log->at, log->cap * sizeof *log->at);
    }
    e.key = owned(e.key);
    e.value = owned(e.value);
    memmove(log->at + at + 1, log->at + at, (log->count - at) * sizeof *log->at);
    log->count++;
    log->at[at] = e;
}

/* --- the log ------------------------------------------------------------------------------------ */

/* Log matching: an equal term at an index is an equal entry, and so are all before it. Of what is in
 * memory, from the end of the shorter one. */
static void check_pair(struct sim_node *a, struct sim_node *b)
{
    const struct raft *x = node_raft(a->node), *y = node_raft(b->node);
    uint64_t first = MAX(raft_first_index(x), raft_first_index(y));
    bool equal = false;
    for (uint64_t i = MIN(raft_last_index(x), raft_last_index(y)); i >= first && i > 0; i--) {
        const struct raft_entry *e = raft_entry_at(x, i), *f = raft_entry_at(y, i);
        if (e->term == f->term && e->crc == f->crc && e->type == f->type) {
            equal = true;
        } else if (e->term == f->term || equal) {
            sim_fail(a->sim, "%s and %s differ at index %llu, terms %llu and %llu", a->name, b->name,
                     (unsigned long long)i, (unsigned long long)e->term, (unsigned long long)f->term);
        }
    }
}

static void check_logs(struct sim *s)
{
    for (size_t i = 0; i < s->node_count; i++) {
        for (size_t k = i + 1; k < s->node_count; k++) {
            if (s->nodes[i].up && s->nodes[k].up) check_pair(&s->nodes[i], &s->nodes[k]);
        }
    }
}

void check_turn(struct sim_node *n)
{
    check_leader(n);
    check_commit(n);
    const struct raft *r = node_raft(n->node);
    if (n->members_index != raft_members_index(r) || n->members_before.count != raft_members(r)->count) {
        n->members_index = raft_members_index(r);
        n->members_before = *raft_members(r);
    }
    if (n->sim->stats.turns % RAFT_CHECK_EVERY == 0) raft_check(node_raft(n->node));
    if (n->sim->stats.turns % LOGS_CHECK_EVERY == 0) check_logs(n->sim);
}

/* What was said before a crash is known after it. */
void check_started(struct sim_node *n)
{
    uint64_t term = raft_term(node_raft(n->node));
    if (term < n->term_sent) {
        sim_fail(n->sim, "%s spoke in term %llu and has forgotten it: %llu", n->name,
                 (unsigned long long)n->term_sent, (unsigned long long)term);
    }
}

void check_free(struct sim *s)
{
    mem_free(s->term_leader);
    mem_free(s->votes);
    mem_free(s->applied);
    for (size_t i = 0; i < s->log.count; i++) {
        mem_free((void *)(uintptr_t)s->log.at[i].key.at);
        mem_free((void *)(uintptr_t)s->log.at[i].value.at);
    }
    mem_free(s->log.at);
}

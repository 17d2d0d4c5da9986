/* tests/sim/sim_check.c - what must hold in every group, after every step. */
#include "sim_int.h"

#define RAFT_CHECK_EVERY 64 /* turns: it walks the log */

/* One leader a term ([P] figure 3, election safety). */
static void check_leader(struct sim_node *n)
{
    struct sim *s = n->sim;
    const struct raft *r = node_raft(n->node);
    if (raft_role(r) != RAFT_LEADER) return;
    uint64_t term = raft_term(r);
    if (term >= s->term_count) {
        size_t count = term * 2 + 64;
        s->term_leader = mem_realloc(s->term_leader, count * sizeof *s->term_leader);
        memset(s->term_leader + s->term_count, 0, (count - s->term_count) * sizeof *s->term_leader);
        s->term_count = count;
    }
    if (s->term_leader[term] == 0) {
        s->term_leader[term] = n->member_id;
        s->stats.elections++;
        sim_log(s, "%s leads term %llu", n->name, (unsigned long long)term);
    }
    if (s->term_leader[term] != n->member_id) {
        sim_fail(s, "two leaders in term %llu: members %llu and %llu", (unsigned long long)term,
                 (unsigned long long)s->term_leader[term], (unsigned long long)n->member_id);
    }
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
    const struct raft_members *m = raft_members(r);
    size_t voters = 0, durable = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].role != RAFT_VOTER) continue;
        voters++;
        const struct sim_node *v = node_by_member(s, m->at[i].id);
        if (v == NULL) continue;
        uint64_t index = v->up ? raft_durable_index(node_raft(v->node)) : v->durable_at_end;
        durable += index >= commit;
    }
    if (durable < voters / 2 + 1) {
        sim_fail(s, "%s committed %llu, which %zu of %zu voters have on disk", n->name,
                 (unsigned long long)commit, durable, voters);
    }
}

/* State machine safety: whoever has applied up to an index has the same state there (P9). */
void check_applied(struct sim_node *n, uint64_t index)
{
    struct sim *s = n->sim;
    if (index >= s->index_count) {
        size_t count = index * 2 + 1024;
        s->index_hash = mem_realloc(s->index_hash, count * sizeof *s->index_hash);
        memset(s->index_hash + s->index_count, 0, (count - s->index_count) * sizeof *s->index_hash);
        s->index_count = count;
    }
    uint64_t hash = state_hash(node_state(n->node)) | 1;
    if (s->index_hash[index] == 0) s->index_hash[index] = hash;
    if (s->index_hash[index] != hash) {
        sim_fail(s, "%s has another state than the others at index %llu", n->name, (unsigned long long)index);
    }
}

void check_turn(struct sim_node *n)
{
    check_leader(n);
    check_commit(n);
    if (n->sim->stats.turns % RAFT_CHECK_EVERY == 0) raft_check(node_raft(n->node));
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
    mem_free(s->index_hash);
}

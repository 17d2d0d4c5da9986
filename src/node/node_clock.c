/* node/node_clock.c - the cluster clock: the only time that apply knows, in the stamps of entries. */
#include "node/node_int.h"

/* Entries that this leader has stamped and that are not applied yet. */
void pending_push(struct pending_ring *r, const struct pending_entry *e)
{
    if (r->tail - r->head == r->cap) {
        size_t count = r->tail - r->head;
        size_t cap = r->cap == 0 ? 256 : r->cap * 2;
        struct pending_entry *at = mem_alloc(cap * sizeof *at);
        for (size_t i = 0; i < count; i++) at[i] = r->at[(r->head + i) & (r->cap - 1)];
        mem_free(r->at);
        *r = (struct pending_ring){ at, cap, 0, count, r->op_count };
    }
    r->at[r->tail++ & (r->cap - 1)] = *e;
    r->op_count += e->op_count;
}

void pending_drop(struct pending_ring *r, uint64_t applied_index)
{
    for (; r->head != r->tail; r->head++) {
        const struct pending_entry *e = &r->at[r->head & (r->cap - 1)];
        if (e->index > applied_index) return;
        r->op_count -= e->op_count;
    }
}

/* A new leader goes on from the highest value that it knows: what has passed since then belongs to
 * nobody. What it knows of a clock is worth nothing, though, if its log holds entries of a later
 * term: that term's leader may have begun behind this clock, and what it stamped would end early by
 * the difference (P5). Then the stamps in the log are all that counts. */
void node_clock_lead(struct node *n, uint64_t term_before)
{
    bool outdated = n->clock_term < term_before && !MUTANT(CLOCK_OF_OLDER_TERM);
    uint64_t known_ms = outdated ? 0 : n->clock_ms;
    n->clock_ms = MAX(MAX(known_ms, state_stamp_ms(n->state)), 1);
    n->clock_term = n->lead_term;
    if (MUTANT(CLOCK_OF_LEADER_FROM_0)) n->clock_ms = n->stamp_ms = 1;
    if (MUTANT(CLOCK_OF_LEADER_IS_WALL)) n->clock_ms = (uint64_t)n->wall_ms;
    n->stamp_ms = n->clock_ms;
    n->clock_mono_ms = n->mono_us / 1000;
    n->pending.head = n->pending.tail;
    n->pending.op_count = 0;
}

/* Leader only. I4: between two turns the clock advances at most one election timeout, and it never
 * passes the sending of the newest round that a quorum has answered plus one: what this process
 * slept through, or led without knowing whether it still does, is never made up, so nobody loses a
 * lease by it. Nor does it run away from an entry that is not committed. */
void node_clock_advance(struct node *n)
{
    int64_t now_ms = n->mono_us / 1000;
    if (raft_role(n->raft) != RAFT_LEADER || n->lead_term != raft_term(n->raft)) return;
    int64_t until_ms = now_ms;
    int64_t sent_ms = raft_quorum_sent_ms(n->raft);
    if (sent_ms != INT64_MIN) until_ms = MIN(until_ms, sent_ms + n->cfg.election_timeout_ms);
    int64_t passed_ms = MAX(until_ms - n->clock_mono_ms, 0);
    if (MUTANT(CLOCK_RUNS_IN_PAUSE)) passed_ms = now_ms - n->clock_mono_ms;
    n->clock_mono_ms = MAX(now_ms, n->clock_mono_ms);
    uint64_t next_ms = n->clock_ms + (uint64_t)MIN(passed_ms, n->cfg.election_timeout_ms);
    if (MUTANT(CLOCK_RUNS_IN_PAUSE)) next_ms = n->clock_ms + (uint64_t)passed_ms;
    if (n->pending.head != n->pending.tail) {
        const struct pending_entry *oldest = &n->pending.at[n->pending.head & (n->pending.cap - 1)];
        next_ms = MIN(next_ms, oldest->stamp_ms + (uint64_t)n->cfg.election_timeout_ms);
    }
    n->clock_ms = MAX(n->clock_ms, next_ms);
}

/* A leader's heartbeat says its clock as of when it was sent. A new leader's replaces what was known
 * before, even if it is lower. */
void node_clock_heard(struct node *n, uint64_t term, uint64_t clock_ms)
{
    bool newer = term > n->clock_term && !MUTANT(CLOCK_OF_OLDER_TERM);
    if (!newer && clock_ms <= n->clock_ms) return;
    n->clock_term = term;
    n->clock_ms = clock_ms;
    n->clock_mono_ms = n->mono_us / 1000;
}

/* For remaining times, so between two heartbeats a follower may guess: nothing is decided by it. */
uint64_t node_clock_ms(const struct node *n)
{
    if (raft_role(n->raft) == RAFT_LEADER) return n->clock_ms;
    int64_t passed_ms = MAX(n->mono_us / 1000 - n->clock_mono_ms, 0);
    return n->clock_ms + (uint64_t)MIN(passed_ms, n->cfg.election_timeout_ms);
}

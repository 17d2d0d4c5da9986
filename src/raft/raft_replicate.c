/* raft/raft_replicate.c - a follower takes entries; the leader hears how far it got. */
#include "raft/raft_int.h"

/* --- follower -------------------------------------------------------------------------------- */

static void heard_leader(struct raft *r, uint64_t leader)
{
    ASSERT(r->role != RAFT_LEADER);
    if (r->role != RAFT_FOLLOWER || r->leader != leader) {
        become_follower(r, r->hard.term, leader);
    }
    r->leader_heard_ms = r->clock_ms;
    election_timer_reset(r);
}

static void commit_follow(struct raft *r, uint64_t commit)
{
    commit_to(r, MIN(commit, MUTANT(COMMIT_OF_UNAGREED) ? last_index(r) : r->agreed_index));
}

/* [P] 5.3: "If an existing entry conflicts with a new one (same index but different terms), delete
 * the existing entry and all that follow it". */
static void log_cut(struct raft *r, uint64_t from_index)
{
    ASSERT(from_index > r->hard.commit);
    log_truncate(&r->log, from_index);
    if (from_index <= r->stored_index) {
        bool earlier = r->truncate_from != 0 && r->truncate_from < from_index;
        if (!earlier) r->truncate_from = from_index;
        durable_cut(r, from_index - 1);
    }
    r->agreed_index = MIN(r->agreed_index, from_index - 1);
    members_undo(r, from_index);
}

static void entry_take(struct raft *r, const struct raft_entry *e)
{
    uint64_t own_term = 0;
    if (e->index <= r->hard.commit) return; /* every leader has what is committed */
    if (log_term_at(&r->log, e->index, &own_term)) {
        if (own_term == e->term || MUTANT(CONFLICT_KEPT)) return;
        log_cut(r, e->index);
    }
    struct raft_entry own = *e;
    if (own.body != NULL) blob_ref(own.body);
    log_append(&r->log, &own);
    members_note(r, &own);
}

static void append_reject(struct raft *r, const struct raft_msg *m)
{
    uint64_t at_term = 0;
    uint64_t hint = log_find_agreement(&r->log, MIN(m->index, last_index(r)), m->log_term,
                                       r->hard.commit);
    bool known = log_term_at(&r->log, hint, &at_term);
    ASSERT(known);
    send_msg(r, (struct raft_msg){ .type = RAFT_MSG_APPEND_RESP, .to = m->from, .reject = true,
                                   .index = m->index, .hint = hint, .log_term = at_term });
}

void on_append(struct raft *r, const struct raft_msg *m)
{
    uint64_t own_term = 0;
    heard_leader(r, m->from);
    if (r->installing_index != 0) return; /* the log is about to be replaced */

    bool below_commit = m->index < r->hard.commit;
    bool fits = below_commit || (MUTANT(LOG_NOT_MATCHED) && m->index <= last_index(r)) ||
                (log_term_at(&r->log, m->index, &own_term) && own_term == m->log_term);
    if (!fits) {
        append_reject(r, m);
        return;
    }
    uint64_t end_index = m->index + m->entry_count;
    for (size_t i = 0; i < m->entry_count; i++) entry_take(r, &m->entries[i]);
    r->agreed_index = MAX(r->agreed_index, MAX(end_index, r->hard.commit));
    ASSERT(r->agreed_index <= last_index(r));
    r->ack_allowed = true;
    if (end_index <= r->durable_index) r->ack_due = true;
    commit_follow(r, m->commit);
}

void on_heartbeat(struct raft *r, const struct raft_msg *m)
{
    heard_leader(r, m->from);
    commit_follow(r, m->commit);
    send_msg(r, (struct raft_msg){ .type = RAFT_MSG_HEARTBEAT_RESP, .to = m->from,
                                   .round = m->round, .index = last_index(r),
                                   .commit = r->hard.commit });
}

/* One acknowledgement an update, for all that is durable and known to be the leader's. */
void send_ack(struct raft *r)
{
    if (r->leader == 0 || !r->ack_allowed) return;
    uint64_t index = MIN(r->durable_index, r->agreed_index);
    if (MUTANT(ACK_BEFORE_DURABLE)) index = r->agreed_index;
    if (MUTANT(ACK_BEYOND_AGREED)) index = r->durable_index;
    if (!r->ack_due && index <= r->acked_index) return;
    r->ack_due = false;
    r->acked_index = index;
    send_msg(r, (struct raft_msg){ .type = RAFT_MSG_APPEND_RESP, .to = r->leader,
                                   .index = index });
}

/* --- leader ---------------------------------------------------------------------------------- */

void append_own(struct raft *r, uint8_t type, struct blob *body_taken, uint32_t crc)
{
    ASSERT(r->role == RAFT_LEADER);
    const struct raft_entry e = { .term = r->hard.term, .index = last_index(r) + 1, .type = type,
                                  .crc = crc, .body = body_taken };
    ASSERT(e.index < RAFT_INDEX_MAX);
    log_append(&r->log, &e);
    r->uncommitted_bytes += entry_bytes(&e);
    members_note(r, &e);
}

void peer_reset(struct raft *r, struct peer *p)
{
    *p = (struct peer){ .id = p->id, .voter = p->voter, .heard_ms = r->clock_ms, .lost = p->lost,
                        .checked_ms = r->clock_ms, .next_index = last_index(r) + 1,
                        .state = p->lost ? RAFT_PEER_LOST : RAFT_PEER_PROBE };
}

void peer_probe(struct peer *p, uint64_t next_index)
{
    ASSERT(next_index > p->match_index);
    p->state = RAFT_PEER_PROBE;
    p->next_index = next_index;
    p->inflight_count = 0;
    p->paused = false;
    p->check = false;
    p->commit_sent = 0;
}

static void peer_replicate(struct peer *p)
{
    p->state = RAFT_PEER_REPLICATE;
    p->next_index = p->match_index + 1;
    p->inflight_count = 0;
    p->paused = false;
}

static void inflight_free(struct peer *p, uint64_t upto_index)
{
    while (p->inflight_count != 0 && p->inflight[p->inflight_first] <= upto_index) {
        p->inflight_first = (p->inflight_first + 1) % RAFT_INFLIGHT_MAX;
        p->inflight_count--;
    }
}

static void append_accepted(struct raft *r, struct peer *p, uint64_t index)
{
    if (index < p->match_index) return; /* overtaken by a later one */
    bool moved = index > p->match_index;
    p->match_index = index;
    if (moved) p->match_round = r->round;
    bool wish_is_late = p->state == RAFT_PEER_WISH && index >= p->next_index;
    p->next_index = MAX(p->next_index, index + 1);
    switch (p->state) {
    case RAFT_PEER_PROBE: peer_replicate(p); break;
    case RAFT_PEER_REPLICATE: inflight_free(p, index); break;
    case RAFT_PEER_SNAPSHOT:
        if (index >= p->snapshot_index) peer_replicate(p);
        break;
    case RAFT_PEER_WISH: /* until the node answers, unless that is not what it needs any more */
        if (wish_is_late) peer_replicate(p);
        break;
    case RAFT_PEER_LOST: ASSERT(false); break;
    }
    if (moved && p->voter) commit_advance(r);
}

static void append_rejected(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    bool stale = p->state == RAFT_PEER_PROBE ? m->index != p->next_index - 1
                                             : p->state != RAFT_PEER_REPLICATE;
    if (stale || m->index <= p->match_index || m->index >= p->next_index) return;
    uint64_t hint = log_find_agreement(&r->log, MIN(m->hint, m->index - 1), m->log_term,
                                       p->match_index);
    peer_probe(p, MAX(hint, p->match_index) + 1);
}

enum err on_append_response(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    ASSERT(r->role == RAFT_LEADER);
    if (!m->reject && m->index > last_index(r)) return ERR_PROTO;
    p->heard_ms = r->clock_ms;
    p->heard = true;
    if (p->state == RAFT_PEER_LOST) return OK;
    if (m->reject) {
        append_rejected(r, p, m);
    } else {
        append_accepted(r, p, m->index);
    }
    return OK;
}

/* A heartbeat that was sent after its acknowledgement arrived here finds the log shorter than what
 * it acknowledged: its disk lost entries that may count as committed. */
static bool has_lost_entries(const struct peer *p, const struct raft_msg *m)
{
    return m->round > p->match_round && m->index < p->match_index;
}

/* An idle stream has two ends to look after. Did its last entries arrive? And does a follower that
 * restarted in this term know how far it agrees with this leader? Until an APPEND tells it, it
 * takes no commit index from a heartbeat. */
static void check_stream(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    bool unsure = p->match_index + 1 < p->next_index ||
                  m->commit < MIN(p->match_index, r->hard.commit);
    if (p->state != RAFT_PEER_REPLICATE || !unsure) return;
    if (r->clock_ms - p->checked_ms < r->cfg.heartbeat_ms) return;
    p->check = true;
    p->checked_ms = r->clock_ms;
}

void on_heartbeat_response(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    ASSERT(r->role == RAFT_LEADER);
    if (m->round > r->round || p->state == RAFT_PEER_LOST) return;
    p->heard_ms = r->clock_ms;
    p->heard = true;
    if (has_lost_entries(p, m)) {
        p->state = RAFT_PEER_LOST;
        p->lost = true;
        p->match_index = 0;
        p->inflight_count = 0;
        p->round_acked = p->round_helped = 0;
        r->lost_peer = p->id;
        return;
    }
    p->paused = false;
    check_stream(r, p, m);
    if (m->round > p->round_acked) {
        p->round_acked = m->round;
        rounds_acked(r);
    }
}

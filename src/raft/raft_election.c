/* raft/raft_election.c - timeouts, votes, and who leads. */
#include "raft/raft_int.h"

/* xorshift64*: only spreads timeouts, so that candidates seldom meet ([P] 5.2). */
static uint64_t random_next(struct raft *r)
{
    r->random ^= r->random >> 12;
    r->random ^= r->random << 25;
    r->random ^= r->random >> 27;
    return r->random * 0x2545f4914f6cdd1dULL;
}

void election_timer_reset(struct raft *r)
{
    int64_t timeout_ms = r->cfg.election_timeout_ms;
    int64_t spread_ms = r->cfg.election_spread_ms == 0 ? timeout_ms : r->cfg.election_spread_ms;
    int64_t extra_ms = (int64_t)(random_next(r) % (uint64_t)spread_ms);
    r->election_due_ms = r->clock_ms + timeout_ms + extra_ms;
}

void become_follower(struct raft *r, uint64_t term, uint64_t leader)
{
    ASSERT(term >= r->hard.term);
    ASSERT(leader != r->cfg.id);
    bool new_term = term > r->hard.term;
    if (new_term) {
        r->hard.term = term;
        r->hard.vote = 0;
        if (!MUTANT(TERM_NOT_STORED)) hard_changed(r);
    }
    if (new_term || leader != r->leader || r->role == RAFT_LEADER) {
        /* What is committed is in every later leader's log ([P] 5.4.3); nothing else is known. */
        r->agreed_index = r->hard.commit;
        r->acked_index = 0;
        r->ack_due = false;
        r->ack_allowed = false;
        r->leader = leader;
        reads_reset(r);
    }
    r->role = RAFT_FOLLOWER;
    r->transfer_to = 0;
    r->leaving = false;
    r->heartbeat_wanted = false;
    election_timer_reset(r);
}

/* --- asking for votes ------------------------------------------------------------------------ */

static void votes_ask(struct raft *r, enum raft_msg_type type, uint64_t term, bool force)
{
    for (size_t i = 0; i < r->peer_count; i++) {
        if (!MUTANT(VOTES_NOT_RESET)) r->peers[i].vote = VOTE_UNKNOWN;
        if (!r->peers[i].voter) continue;
        send_msg(r, (struct raft_msg){ .type = type, .to = r->peers[i].id, .term = term,
                                       .index = last_index(r), .force = force,
                                       .log_term = log_last_term(&r->log) });
    }
}

/* [D] 9.6: first find out whether the election could be won, without disturbing anybody. */
static void become_precandidate(struct raft *r)
{
    become_follower(r, r->hard.term, 0);
    r->role = RAFT_PRECANDIDATE;
    votes_ask(r, RAFT_MSG_PREVOTE, r->hard.term + 1, false);
}

/* [P] 5.2: increments its term and votes for itself. The own vote is counted at once although it is
 * not durable yet: nobody else hears of the candidacy before it is (I9), and a leader that is its
 * own quorum commits nothing before its log is, which is written behind the vote. */
static void become_candidate(struct raft *r, bool force)
{
    become_follower(r, r->hard.term + 1, 0);
    r->role = RAFT_CANDIDATE;
    r->hard.vote = r->cfg.id;
    hard_changed(r);
    votes_ask(r, RAFT_MSG_VOTE, r->hard.term, force);
}

/* [D] 4.2.2: "a server that is not part of its own latest configuration should still start new
 * elections, as it might still be needed until the Cnew entry is committed": it may be the only one
 * that holds that entry, and then nobody else could win. */
static bool is_candidate_member(const struct raft *r)
{
    if (r->self_voter) return true;
    return r->voter_count != 0 && r->members_index > r->hard.commit &&
           raft_members_is_voter(&r->base_members, r->cfg.id);
}

static bool may_campaign(const struct raft *r)
{
    return is_candidate_member(r) && r->campaign_allowed && r->role != RAFT_LEADER &&
           !r->disk_slow && r->installing_index == 0 && r->hard.term + 1 < RAFT_INDEX_MAX;
}

void campaign(struct raft *r, enum campaign kind)
{
    election_timer_reset(r);
    if (!may_campaign(r)) return;
    if (is_sole_voter(r)) {
        become_candidate(r, false);
        become_leader(r);
    } else if (kind == CAMPAIGN_PREVOTE) {
        become_precandidate(r);
    } else {
        become_candidate(r, kind == CAMPAIGN_FORCED);
    }
}

static size_t votes_count(const struct raft *r, enum vote vote)
{
    size_t count = r->self_voter && vote == VOTE_GRANTED;
    for (size_t i = 0; i < r->peer_count; i++) {
        count += r->peers[i].voter && r->peers[i].vote == vote;
    }
    return count;
}

void on_vote_response(struct raft *r, const struct raft_msg *m)
{
    struct peer *p = peer_find(r, m->from);
    if (p == NULL || !p->voter) return; /* only voters in force count */
    bool pre = m->type == RAFT_MSG_PREVOTE_RESP;
    if (r->role != (pre ? RAFT_PRECANDIDATE : RAFT_CANDIDATE)) return;
    uint64_t expected = pre && !m->reject ? r->hard.term + 1 : r->hard.term;
    if (m->term != expected) return;

    /* It may have voted, or acknowledged, before it forgot. */
    p->vote = m->reject || p->lost ? VOTE_REJECTED : VOTE_GRANTED;
    if (votes_count(r, VOTE_GRANTED) >= quorum_count(r)) {
        if (pre) {
            become_candidate(r, false);
        } else {
            become_leader(r);
        }
    } else if (votes_count(r, VOTE_REJECTED) >= quorum_count(r)) {
        become_follower(r, r->hard.term, 0);
    }
}

/* --- leading --------------------------------------------------------------------------------- */

void become_leader(struct raft *r)
{
    ASSERT(r->role == RAFT_CANDIDATE);
    ASSERT(r->hard.vote == r->cfg.id);
    r->role = RAFT_LEADER;
    r->leader = r->cfg.id;
    r->heartbeat_due_ms = r->clock_ms + r->cfg.heartbeat_ms;
    r->heartbeat_wanted = true;
    r->round = 0;
    r->round_quorum = 0;
    r->round_all = 0;
    r->round_took_ms = 0;
    r->quorum_sent_ms = INT64_MIN;
    r->transfer_to = 0;
    r->handover_tried = false;
    r->leaving = false;
    r->uncommitted_bytes = 0;
    for (uint64_t i = r->hard.commit + 1; i <= last_index(r); i++) {
        r->uncommitted_bytes += entry_bytes(log_at(&r->log, i));
    }
    for (size_t i = 0; i < r->peer_count; i++) peer_reset(r, &r->peers[i]);
    reads_reset(r);
    /* [D] 6.4: it learns what is committed by committing an entry of its own term. */
    r->term_first_index = last_index(r) + 1;
    append_own(r, RAFT_ENTRY_NOOP, NULL, 0);
}

static uint64_t heard_of(const struct peer *p)
{
    return p->state == RAFT_PEER_LOST ? 0 : (uint64_t)p->heard_ms;
}

/* [D] 6.2: a leader steps down if an election timeout passes without hearing a majority. */
bool leader_lost_quorum(const struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    int64_t heard_ms = (int64_t)quorum_value(r, (uint64_t)r->clock_ms, heard_of);
    return r->clock_ms - heard_ms > r->cfg.election_timeout_ms;
}

/* --- giving votes ---------------------------------------------------------------------------- */

/* [D] 4.2.3: a server that hears from a leader does not help to depose it. A leader that still
 * leads has heard its quorum within a timeout (check-quorum). */
bool has_working_leader(const struct raft *r)
{
    if (r->role == RAFT_LEADER) return true;
    return r->leader != 0 && r->clock_ms - r->leader_heard_ms < r->cfg.election_timeout_ms;
}

/* [P] 5.4.1: "If the logs have last entries with different terms, then the log with the later term
 * is more up-to-date"; with the same term, the longer one. */
static bool is_up_to_date(const struct raft *r, const struct raft_msg *m)
{
    uint64_t own_term = log_last_term(&r->log);
    if (m->log_term != own_term) return m->log_term > own_term;
    return m->index >= last_index(r);
}

/* The term has been compared before: a VOTE is of the present term here, a PREVOTE of it or above.
 * A node votes even if it does not count itself as a voter: it may not have heard of its promotion
 * yet ([D] 4.2.2). Whether the vote counts is the candidate's business. */
void on_vote_request(struct raft *r, const struct raft_msg *m)
{
    bool pre = m->type == RAFT_MSG_PREVOTE;
    bool free_to_vote = r->hard.vote == m->from || (r->hard.vote == 0 && r->leader == 0) ||
                        (pre && m->term > r->hard.term) || MUTANT(VOTE_TWICE);
    const struct peer *from = peer_find(r, m->from);
    bool grant = free_to_vote && is_up_to_date(r, m) && (from == NULL || !from->lost);
    if (pre ? MUTANT(PREVOTE_IGNORES_LOG) : MUTANT(VOTE_IGNORES_LOG)) grant = free_to_vote;
    if (grant && !pre) {
        election_timer_reset(r);
        if (r->hard.vote != m->from) {
            r->hard.vote = m->from;
            if (!MUTANT(VOTE_NOT_STORED)) hard_changed(r);
        }
    }
    send_msg(r, (struct raft_msg){
                    .type = pre ? RAFT_MSG_PREVOTE_RESP : RAFT_MSG_VOTE_RESP,
                    .to = m->from,
                    .term = grant ? m->term : r->hard.term,
                    .reject = !grant,
                });
}

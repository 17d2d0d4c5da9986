/* raft/raft_step.c - every event enters here. */
#include "raft/raft_int.h"

/* --- messages -------------------------------------------------------------------------------- */

/* Somebody leads, or asks, in a term that is over. It has to hear of the present one: else a node
 * whose term has run ahead, and which check-quorum keeps from deposing the leader by a vote, would
 * never be led again. */
static void answer_old_term(struct raft *r, const struct raft_msg *m)
{
    struct raft_msg answer = { .to = m->from, .reject = true };
    switch (m->type) {
    case RAFT_MSG_APPEND:
    case RAFT_MSG_HEARTBEAT: answer.type = RAFT_MSG_APPEND_RESP; break;
    case RAFT_MSG_PREVOTE: answer.type = RAFT_MSG_PREVOTE_RESP; break;
    case RAFT_MSG_VOTE: answer.type = RAFT_MSG_VOTE_RESP; break;
    case RAFT_MSG_PREVOTE_RESP:
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_APPEND_RESP:
    case RAFT_MSG_HEARTBEAT_RESP:
    case RAFT_MSG_READ:
    case RAFT_MSG_READ_RESP:
    case RAFT_MSG_TIMEOUT_NOW:
    default: return;
    }
    send_msg(r, answer);
}

/* Says whether the message is to be looked at any further; the term is settled then. */
static bool term_settle(struct raft *r, const struct raft_msg *m)
{
    if (m->term == r->hard.term) return true;
    if (m->term < r->hard.term) {
        answer_old_term(r, m);
        return false;
    }
    bool asks = m->type == RAFT_MSG_PREVOTE || m->type == RAFT_MSG_VOTE;
    if (asks && !m->force && has_working_leader(r)) return false; /* [D] 4.2.3 */
    bool only_asks = m->type == RAFT_MSG_PREVOTE;
    bool would_grant = m->type == RAFT_MSG_PREVOTE_RESP && !m->reject;
    if (only_asks || would_grant) return true; /* their term is one that may never be */

    /* [P] 5.1: "If one server's current term is smaller than the other's, then it updates its
     * current term to the larger value"; a leader or candidate becomes a follower. */
    bool leads = m->type == RAFT_MSG_APPEND || m->type == RAFT_MSG_HEARTBEAT;
    become_follower(r, m->term, leads ? m->from : 0);
    return true;
}

static enum err on_leader_message(struct raft *r, const struct raft_msg *m)
{
    bool rival = r->role == RAFT_LEADER || (r->leader != 0 && r->leader != m->from);
    if (rival) return ERR_PROTO; /* [P] 5.2: at most one leader a term */
    if (m->type == RAFT_MSG_APPEND) {
        on_append(r, m);
    } else {
        on_heartbeat(r, m);
    }
    return OK;
}

static enum err on_peer_message(struct raft *r, const struct raft_msg *m)
{
    struct peer *p = peer_find(r, m->from);
    if (r->role != RAFT_LEADER || p == NULL) return OK; /* late, or from a member that has gone */
    if (m->type == RAFT_MSG_APPEND_RESP) return on_append_response(r, p, m);
    if (m->type == RAFT_MSG_HEARTBEAT_RESP) {
        on_heartbeat_response(r, p, m);
    } else {
        on_read_request(r, p, m);
    }
    return OK;
}

static enum err on_message(struct raft *r, const struct raft_msg *m)
{
    if (m->to != r->cfg.id || !raft_msg_is_valid(m)) return ERR_PROTO;
    if (!term_settle(r, m)) return OK;
    switch (m->type) {
    case RAFT_MSG_PREVOTE:
    case RAFT_MSG_VOTE: on_vote_request(r, m); return OK;
    case RAFT_MSG_PREVOTE_RESP:
    case RAFT_MSG_VOTE_RESP: on_vote_response(r, m); return OK;
    case RAFT_MSG_APPEND:
    case RAFT_MSG_HEARTBEAT: return on_leader_message(r, m);
    case RAFT_MSG_APPEND_RESP:
    case RAFT_MSG_HEARTBEAT_RESP:
    case RAFT_MSG_READ: return on_peer_message(r, m);
    case RAFT_MSG_READ_RESP: on_read_response(r, m); return OK;
    case RAFT_MSG_TIMEOUT_NOW: /* [D] 3.10 */
        if (r->leader == m->from) campaign(r, CAMPAIGN_FORCED);
        return OK;
    default: return ERR_PROTO;
    }
}

/* --- time ------------------------------------------------------------------------------------ */

static void leader_tick(struct raft *r)
{
    if (leader_lost_quorum(r)) {
        become_follower(r, r->hard.term, 0);
        return;
    }
    if (r->clock_ms >= r->heartbeat_due_ms) {
        r->heartbeat_due_ms = r->clock_ms + r->cfg.heartbeat_ms;
        r->heartbeat_wanted = true;
    }
    transfer_tick(r);
}

static void follower_tick(struct raft *r)
{
    if (r->clock_ms >= r->heartbeat_due_ms) {
        r->heartbeat_due_ms = r->clock_ms + r->cfg.heartbeat_ms;
        reads_retry(r);
    }
    if (r->clock_ms < r->election_due_ms) return;
    become_follower(r, r->hard.term, 0); /* a learner, too, has no leader now */
    campaign(r, CAMPAIGN_PREVOTE);
}

static int64_t step_ms_max(const struct raft *r)
{
    return MAX(r->cfg.election_timeout_ms / 4, 1);
}

/* Half a step at most, so that a turn that comes late still counts as time that has passed. */
int64_t raft_due_ms(const struct raft *r)
{
    int64_t due_ms = r->clock_ms + MAX(step_ms_max(r) / 2, 1);
    bool heartbeats = r->role == RAFT_LEADER || r->read_done != r->read_wanted;
    if (heartbeats) due_ms = MIN(due_ms, r->heartbeat_due_ms);
    if (r->role != RAFT_LEADER) due_ms = MIN(due_ms, r->election_due_ms);
    if (r->transfer_to != 0) due_ms = MIN(due_ms, r->transfer_due_ms);
    due_ms = r->now_ms + MAX(due_ms - r->clock_ms, 0);
    return r->role == RAFT_LEADER ? MIN(due_ms, reads_due_ms(r)) : due_ms;
}

/* If this process was stopped for a while, that is no silence of the others: what they sent waits
 * in sockets that are read after this. So the clock of all timeouts advances by a part of one at
 * most; real time still counts for raft_quorum_sent_ms(). */
static void raft_tick(struct raft *r, int64_t now_ms)
{
    if (now_ms <= r->now_ms) return;
    r->clock_ms += MIN(now_ms - r->now_ms, step_ms_max(r));
    r->now_ms = now_ms;
    bool write_open = r->durable_seq < r->write_seq;
    if (write_open && r->clock_ms - r->write_since_ms >= r->cfg.election_timeout_ms) {
        r->disk_slow = true;
    }
    if (r->role == RAFT_LEADER) {
        leader_tick(r);
    } else {
        follower_tick(r);
    }
}

/* --- the rest -------------------------------------------------------------------------------- */

/* What is not committed yet is bounded (uncommitted_bytes_max), whoever asks. */
static enum err propose(struct raft *r, const struct raft_event *ev)
{
    if (r->role != RAFT_LEADER) return ERR_NOT_LEADER;
    size_t bytes = ev->body == NULL ? 0 : ev->body->len;
    ASSERT(bytes <= RAFT_ENTRY_BYTES_MAX);
    if (r->transfer_to != 0 || r->leaving) return ERR_BUSY;
    bool fits = r->uncommitted_bytes == 0 ||
                r->uncommitted_bytes + bytes <= r->cfg.uncommitted_bytes_max;
    if (!fits) return ERR_BUSY;
    append_own(r, RAFT_ENTRY_BATCH, ev->body, ev->crc);
    return OK;
}

static enum err applied(struct raft *r, uint64_t index)
{
    ASSERT(index >= r->applied_index);
    ASSERT(index <= r->handed_index);
    r->applied_index = index;
    return OK;
}

static enum err read_ask(struct raft *r, uint64_t read_id)
{
    ASSERT(read_id > r->read_wanted && read_id < RAFT_INDEX_MAX);
    r->read_wanted = read_id;
    return OK;
}

static enum err unreachable(struct raft *r, uint64_t id)
{
    struct peer *p = peer_find(r, id);
    if (r->role != RAFT_LEADER || p == NULL || p->state != RAFT_PEER_REPLICATE) return OK;
    peer_probe(p, p->match_index + 1);
    return OK;
}

enum err raft_step(struct raft *r, const struct raft_event *ev)
{
    ASSERT(r->started);
    outbox_recycle(r);
    switch (ev->type) {
    case RAFT_EV_TICK: raft_tick(r, ev->now_ms); return OK;
    case RAFT_EV_PROPOSE: return propose(r, ev);
    case RAFT_EV_PROPOSE_MEMBERS: return propose_members(r, ev->members);
    case RAFT_EV_MESSAGE: return on_message(r, ev->msg);
    case RAFT_EV_PERSISTED: on_persisted(r, &ev->write); return OK;
    case RAFT_EV_APPLIED: return applied(r, ev->index);
    case RAFT_EV_READ: return read_ask(r, ev->read_id);
    case RAFT_EV_TRANSFER: return transfer_start(r, ev->peer);
    case RAFT_EV_ENTRIES: return on_entries(r, ev);
    case RAFT_EV_SNAPSHOT_SENDING:
    case RAFT_EV_SNAPSHOT_SENT:
    case RAFT_EV_SNAPSHOT_BEGIN:
    case RAFT_EV_SNAPSHOT_INSTALLED:
    case RAFT_EV_SNAPSHOT_ABORTED: return on_snapshot_event(r, ev);
    case RAFT_EV_UNREACHABLE: return unreachable(r, ev->peer);
    case RAFT_EV_COMMIT_TELL: r->commit_told = r->hard.commit; return OK;
    case RAFT_EV_CAMPAIGN: campaign(r, CAMPAIGN_PREVOTE); return OK;
    }
    ASSERT(false);
    return ERR_PROTO;
}

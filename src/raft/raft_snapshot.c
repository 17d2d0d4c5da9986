/* raft/raft_snapshot.c - peers that are too far behind for memory, and being such a peer.
 *
 * [P] 7. The bytes of a snapshot never pass through here: the node streams them. */
#include "raft/raft_int.h"

/* --- leader ---------------------------------------------------------------------------------- */

enum err on_entries(struct raft *r, const struct raft_event *ev)
{
    struct peer *p = peer_find(r, ev->peer);
    if (r->role != RAFT_LEADER || p == NULL || p->state != RAFT_PEER_WISH) return OK;
    if (ev->index != p->next_index) return OK; /* of an older wish: append_accepted() has made another */
    ASSERT(ev->entry_count >= 1 && ev->entry_count <= RAFT_MSG_ENTRIES_MAX);
    uint64_t end_index = ev->index + ev->entry_count - 1;
    ASSERT(end_index <= last_index(r));

    for (size_t i = 0; i < ev->entry_count; i++) {
        ASSERT(ev->entries[i].index == ev->index + i);
        outbox_entry_push(r, &ev->entries[i]);
    }
    const struct raft_msg head = { .to = p->id, .index = ev->index - 1, .log_term = ev->term,
                                   .commit = r->hard.commit };
    send_append(r, &head, ev->entry_count);
    peer_probe(p, p->next_index);
    p->paused = true;
    return OK;
}

static enum err on_sending(struct raft *r, const struct raft_event *ev)
{
    struct peer *p = peer_find(r, ev->peer);
    if (r->role != RAFT_LEADER || p == NULL || p->state != RAFT_PEER_WISH) return OK;
    ASSERT(ev->index <= last_index(r));
    p->state = RAFT_PEER_SNAPSHOT;
    p->snapshot_index = ev->index;
    return OK;
}

/* Either way the next APPEND waits for a sign of life: the peer's acknowledgement or heartbeat. */
static enum err on_sent(struct raft *r, const struct raft_event *ev)
{
    struct peer *p = peer_find(r, ev->peer);
    if (r->role != RAFT_LEADER || p == NULL) return OK;
    if (p->state != RAFT_PEER_SNAPSHOT && p->state != RAFT_PEER_WISH) return OK;
    bool sent = ev->ok && p->state == RAFT_PEER_SNAPSHOT;
    peer_probe(p, MAX(sent ? p->snapshot_index + 1 : p->next_index, p->match_index + 1));
    p->paused = true;
    return OK;
}

/* --- receiver -------------------------------------------------------------------------------- */

/* A snapshot that brings nothing new says one thing still: the leader does not know how far this
 * member is. And what it covers is committed. */
static enum err snapshot_refuse(struct raft *r, const struct raft_event *ev)
{
    uint64_t own_term = 0;
    if (r->role == RAFT_LEADER || r->leader == 0) return ERR_EXISTS;
    if (ev->index > r->hard.commit && log_term_at(&r->log, ev->index, &own_term) &&
        own_term == ev->term) {
        r->agreed_index = MAX(r->agreed_index, ev->index);
        commit_to(r, ev->index);
    }
    r->ack_allowed = true;
    r->ack_due = true;
    return ERR_EXISTS;
}

static enum err on_begin(struct raft *r, const struct raft_event *ev)
{
    if (!raft_snapshot_is_wanted(r, ev->index, ev->term)) return snapshot_refuse(r, ev);
    r->installing_index = ev->index;
    r->installing_term = ev->term;
    return OK;
}

/* The log holds nothing that counts: it is shorter, or it differs at an index that is committed
 * elsewhere, and so from there on. */
static enum err on_installed(struct raft *r, const struct raft_event *ev)
{
    ASSERT(ev->index == r->installing_index && ev->term == r->installing_term);
    ASSERT(r->role != RAFT_LEADER);
    ASSERT(ev->index > r->hard.commit);
    r->installing_index = 0;
    log_reset(&r->log, ev->index, ev->term);
    durable_cut(r, ev->index); /* also what is being written now proves nothing above it */
    r->durable_index = ev->index;
    r->stored_index = ev->index;
    r->truncate_from = 0;
    r->hard.commit = ev->index;
    r->handed_index = ev->index;
    r->applied_index = ev->index;
    r->agreed_index = ev->index;
    r->base_members = *ev->members;
    r->base_members_index = ev->index;
    if (!MUTANT(SNAPSHOT_KEEPS_MEMBERS)) members_adopt(r, ev->members, ev->index);
    r->ack_allowed = true;
    r->ack_due = true;
    return OK;
}

enum err on_snapshot_event(struct raft *r, const struct raft_event *ev)
{
    switch ((int)ev->type) {
    case RAFT_EV_SNAPSHOT_SENDING: return on_sending(r, ev);
    case RAFT_EV_SNAPSHOT_SENT: return on_sent(r, ev);
    case RAFT_EV_SNAPSHOT_BEGIN: return on_begin(r, ev);
    case RAFT_EV_SNAPSHOT_INSTALLED: return on_installed(r, ev);
    case RAFT_EV_SNAPSHOT_ABORTED: r->installing_index = 0; return OK;
    default: ASSERT(false); return ERR_PROTO;
    }
}

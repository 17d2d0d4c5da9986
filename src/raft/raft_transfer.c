/* raft/raft_transfer.c - handing leadership over: on request, on removal, for a stuck disk. */
#include "raft/raft_int.h"

/* The voter that is most likely to win at once; NULL if none is in sync and heard of. */
static struct peer *best_successor(struct raft *r)
{
    struct peer *best = NULL;
    for (size_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        bool heard = r->clock_ms - p->heard_ms <= r->cfg.election_timeout_ms;
        if (!p->voter || !heard || p->state != RAFT_PEER_REPLICATE) continue;
        if (best == NULL || p->match_index > best->match_index) best = p;
    }
    return best;
}

enum err transfer_start(struct raft *r, uint64_t to)
{
    if (r->role != RAFT_LEADER) return ERR_NOT_LEADER;
    if (r->transfer_to != 0 || r->leaving) return ERR_BUSY;
    struct peer *p = to == 0 ? best_successor(r) : peer_find(r, to);
    if (p == NULL || !p->voter || p->state == RAFT_PEER_LOST) return ERR_MEMBER;
    r->transfer_to = p->id;
    r->transfer_sent = false;
    r->transfer_due_ms = r->clock_ms + r->cfg.election_timeout_ms;
    return OK;
}

static void timeout_now_send(struct raft *r, uint64_t to)
{
    send_msg(r, (struct raft_msg){ .type = RAFT_MSG_TIMEOUT_NOW, .to = to });
}

/* [D] 3.10: proposals have stopped; once the target's log is level it is told to campaign. */
void transfer_step(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->transfer_to == 0 || r->transfer_sent) return;
    const struct peer *p = peer_find(r, r->transfer_to);
    if (p == NULL || !p->voter) {
        r->transfer_to = 0;
        return;
    }
    if (p->match_index != last_index(r)) return;
    r->transfer_sent = true;
    timeout_now_send(r, p->id);
}

/* Nothing can be promised while the own disk does not answer, nor by who may not lead at all any more;
 * another one may. */
static void handover_tick(struct raft *r)
{
    bool is_fit = !r->disk_slow && r->campaign_allowed;
    if (is_fit || r->voter_count <= 1) return;
    if (!r->handover_tried) {
        r->handover_tried = true;
        if (r->transfer_to != 0 || transfer_start(r, 0) == OK) return;
    }
    if (r->transfer_to == 0) become_follower(r, r->hard.term, 0);
}

void transfer_tick(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->transfer_to != 0 && r->clock_ms >= r->transfer_due_ms) r->transfer_to = 0;
    handover_tick(r);
}

/* The messages that tell of the commit are in this update already; then nobody needs to wait for
 * an election timeout. */
void leave_step(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (!r->leaving) return;
    const struct peer *p = best_successor(r);
    if (p != NULL) timeout_now_send(r, p->id);
    become_follower(r, r->hard.term, 0);
}

/* raft/raft_read.c - heartbeat rounds, and reads that wait for one.
 *
 * [D] 6.4: a leader notes its commit index, makes sure with a round of heartbeats that it still is
 * the leader, and then serves the read once it has applied that much. The round must begin after
 * the read arrived; a later round proves an earlier one's reads too, never the other way round. So
 * rounds are counted, a reply counts for its own round and term, and a retry is simply a later
 * round with a number never used before.
 *
 * Who is asked. A round for reads goes to as many voters as a quorum needs, to those that were
 * quickest of late: every message more wakes a process for nothing. If they are not quick
 * (ROUND_PATIENCE_MS) the next round goes to all; it proves the reads of the earlier one, too.
 *
 * A follower's request is an answer as well: it was sent after its reads had arrived, in the term
 * it carries. With the leader's own, which is still in that term when the request arrives, and in
 * a group of two or three these are a quorum: had there been a leader of a later term before the
 * reads arrived, one of the two would have voted for it and would know. So no round is needed. */
#include "raft/raft_int.h"

static uint64_t round_of(const struct peer *p)
{
    return p->round_acked;
}

static void read_ready(struct raft *r, uint64_t id, uint64_t index)
{
    if (id <= r->read_done) return;
    r->read_done = id;
    r->read_ready_id = id;
    r->read_ready_index = MAX(r->read_ready_index, index);
}

/* --- leader ---------------------------------------------------------------------------------- */

static void pending_push(struct raft *r, const struct pending_read *read)
{
    ASSERT(r->read_count < READS_MAX);
    r->reads[(r->read_first + r->read_count++) % READS_MAX] = *read;
}

static void pending_finish(struct raft *r, const struct pending_read *read)
{
    if (read->asker == 0) {
        read_ready(r, read->hint, read->index);
        return;
    }
    send_msg(r, (struct raft_msg){ .type = RAFT_MSG_READ_RESP, .to = read->asker,
                                   .round = read->request, .hint = read->hint,
                                   .index = read->index });
}

void rounds_acked(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    uint64_t round = quorum_value(r, r->round, round_of);
    if (MUTANT(READ_WITHOUT_ROUND)) round = r->round;
    ASSERT(round <= r->round);
    if (round <= r->round_quorum) return;
    for (size_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (p->voter && p->round_acked >= round) p->round_helped = round;
    }
    r->round_quorum = round;
    if (r->round - round < ROUNDS_RING) {
        r->quorum_sent_ms = r->round_sent_ms[round & (ROUNDS_RING - 1)];
    }
    if (MUTANT(READ_BY_OLDER_ROUND)) round++;
    while (r->read_count != 0 && r->reads[r->read_first].round <= round) {
        struct pending_read read = r->reads[r->read_first];
        r->read_first = (r->read_first + 1) % READS_MAX;
        r->read_count--;
        pending_finish(r, &read);
    }
}

static bool any_read_waits(const struct raft *r)
{
    if (r->read_wanted > r->read_assigned) return true;
    for (size_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].read_waiting) return true;
    }
    return false;
}

/* Not before an entry of the own term is committed ([D] 6.4 step 1): until then the leader does
 * not know how far its predecessors had committed. */
static bool knows_committed(const struct raft *r)
{
    return raft_own_term_committed(r) || MUTANT(READ_BEFORE_OWN_TERM);
}

static bool reads_may_start(const struct raft *r)
{
    return knows_committed(r) && r->round - r->round_quorum < ROUNDS_INFLIGHT_MAX &&
           any_read_waits(r);
}

static void reads_attach(struct raft *r)
{
    struct pending_read read = { .round = r->round, .index = r->hard.commit };
    if (r->read_wanted > r->read_assigned) {
        r->read_assigned = r->read_wanted;
        read.hint = r->read_wanted;
        pending_push(r, &read);
    }
    for (size_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (!p->read_waiting) continue;
        p->read_waiting = false;
        read.asker = p->id;
        read.request = p->read_request;
        read.hint = p->read_hint;
        pending_push(r, &read);
    }
}

static bool is_quicker(const struct peer *p, const struct peer *than)
{
    if (p->round_helped != than->round_helped) return p->round_helped > than->round_helped;
    return p < than;
}

/* One of as many as it takes beside this node, the quickest. */
static bool is_asked_first(const struct raft *r, const struct peer *p)
{
    size_t before = 0;
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct peer *other = &r->peers[i];
        before += other->voter && is_quicker(other, p);
    }
    return before < r->voter_count / 2;
}

static void round_begin(struct raft *r, bool reads)
{
    bool all = r->heartbeat_wanted || !r->self_voter;
    r->round++;
    r->round_sent_ms[r->round & (ROUNDS_RING - 1)] = r->now_ms;
    if (all) r->round_all = r->round;
    if (reads) reads_attach(r);
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        if (!p->voter && !r->heartbeat_wanted) continue;
        if (!all && !is_asked_first(r, p)) continue;
        send_msg(r, (struct raft_msg){ .type = RAFT_MSG_HEARTBEAT, .to = p->id,
                                       .round = r->round,
                                       .commit = MIN(p->match_index, r->hard.commit) });
    }
    r->heartbeat_wanted = false;
    rounds_acked(r); /* the only voter is its own quorum */
}

/* A round that only some were asked for is late. */
int64_t reads_due_ms(const struct raft *r)
{
    bool some_asked = r->read_count != 0 && r->round_all <= r->round_quorum;
    if (!some_asked || r->heartbeat_wanted) return INT64_MAX;
    return r->round_sent_ms[(r->round_quorum + 1) & (ROUNDS_RING - 1)] + ROUND_PATIENCE_MS;
}

void on_read_request(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    ASSERT(r->role == RAFT_LEADER);
    p->read_waiting = true; /* a newer request speaks for all earlier ones of its sender */
    p->read_vouched = !p->lost && m->index >= p->match_index;
    p->read_request = m->round;
    p->read_hint = m->hint;
}

static bool is_vouched(const struct raft *r, const struct peer *p)
{
    if (!p->read_waiting || !p->read_vouched) return false;
    bool two_suffice = r->self_voter && p->voter && r->voter_count <= 3;
    return two_suffice || MUTANT(READ_VOUCHED_BY_ANYBODY);
}

static void vouched_answer(struct raft *r)
{
    if (!knows_committed(r)) return;
    for (size_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (!is_vouched(r, p)) continue;
        p->read_waiting = false;
        pending_finish(r, &(struct pending_read){ .asker = p->id, .request = p->read_request,
                                                  .hint = p->read_hint, .index = r->hard.commit });
    }
}

/* --- follower -------------------------------------------------------------------------------- */

static void request_send(struct raft *r)
{
    if (r->leader == 0 || r->read_wanted <= r->read_assigned) return;
    if (r->read_request_count == READ_REQUESTS_MAX) return;
    r->read_request_count++;
    r->read_assigned = r->read_wanted;
    send_msg(r, (struct raft_msg){ .type = RAFT_MSG_READ, .to = r->leader,
                                   .round = ++r->read_request, .hint = r->read_wanted,
                                   .index = last_index(r) });
}

/* Any request that was sent after a read arrived proves it, whichever leader answers. */
void on_read_response(struct raft *r, const struct raft_msg *m)
{
    bool ours = m->round > r->read_request_first && m->round <= r->read_request;
    if (!ours || m->hint > r->read_wanted) return;
    if (r->read_request_count != 0) r->read_request_count--;
    read_ready(r, m->hint, m->index);
}

void reads_retry(struct raft *r)
{
    if (r->read_done == r->read_wanted) return;
    r->read_assigned = r->read_done;
    r->read_request_count = 0;
}

void reads_reset(struct raft *r)
{
    r->read_assigned = r->read_done;
    r->read_request_count = 0;
    r->read_first = 0;
    r->read_count = 0;
    for (size_t i = 0; i < r->peer_count; i++) r->peers[i].read_waiting = false;
}

void reads_step(struct raft *r)
{
    if (r->role != RAFT_LEADER) {
        request_send(r);
        return;
    }
    if (r->hard_seq > r->durable_seq) return; /* I9: nobody may hear of this term yet */
    vouched_answer(r);
    bool reads = reads_may_start(r);
    if (reads || r->heartbeat_wanted) round_begin(r, reads);
}

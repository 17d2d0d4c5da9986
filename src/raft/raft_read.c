/* raft/raft_read.c - heartbeat rounds, and reads that wait for one.
 *
 * [D] 6.4: a leader notes its commit index, makes sure with a round of heartbeats that it still is
 * the leader, and then serves the read once it has applied that much. The round must begin after
 * the read arrived; a later round proves an earlier one's reads too, never the other way round. So
 * rounds are counted, a reply counts for its own round and term, and a retry is simply a later
 * round with a number never used before.
 *
 * Who is asked. A round for reads goes to as many voters as a quorum needs, to those that were
 * quickest of late: every message more wakes a process for nothing. If they are slower than usual
 * (patience_ms) another round goes to all, and so does every one until one is proven; a later round
 * proves the reads of the earlier ones, too.
 *
 * A voter's request is an answer as well: it was sent after its reads had arrived, in the term it
 * carries. With the leader, which is in that term when it answers, it is a quorum of two or three:
 * had there been a leader of a later term before the reads arrived, one of the two would have voted
 * for it and would know. (Nor could one have been elected by the members of just before or just
 * behind the present change: their quorums meet this one, [D] 4.1.) A disk that went back in time
 * may have forgotten such a vote; it has forgotten entries, too, which is what the end of the log
 * in the request is for. */
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
        r->round_took_ms = r->now_ms - r->quorum_sent_ms;
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

/* Twice the time of the last one that was proven; half a heartbeat at most, which asks all anyway. */
static int64_t patience_ms(const struct raft *r)
{
    int64_t ms = MIN(2 * r->round_took_ms, r->cfg.heartbeat_ms / 2);
    return MAX(ms, ROUND_PATIENCE_MS);
}

/* From when on a round is late; INT64_MAX: it was not sent. */
static int64_t round_due_ms(const struct raft *r, uint64_t round)
{
    if (round > r->round) return INT64_MAX;
    if (r->round - round >= ROUNDS_RING) return 0; /* long ago */
    return r->round_sent_ms[round & (ROUNDS_RING - 1)] + patience_ms(r);
}

/* Of rounds that some were asked for and that no round to all has followed, the oldest counts. */
int64_t reads_due_ms(const struct raft *r)
{
    if (r->read_count == 0) return INT64_MAX;
    return round_due_ms(r, MAX(r->round_quorum, r->round_all) + 1);
}

static bool all_are_asked(const struct raft *r)
{
    bool is_late = r->now_ms >= round_due_ms(r, r->round_quorum + 1);
    return r->heartbeat_wanted || !r->self_voter || is_late;
}

static void round_begin(struct raft *r, bool reads)
{
    bool all = all_are_asked(r);
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

void on_read_request(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    ASSERT(r->role == RAFT_LEADER);
    p->read_waiting = true; /* a newer request speaks for all earlier ones of its sender */
    p->read_request = m->round;
    p->read_hint = m->hint;
    p->read_log_end = m->index;
    if (p->state == RAFT_PEER_LOST) return;
    p->heard_ms = r->clock_ms; /* a sign of life, as the answer to a round would be */
    p->heard = true;
    p->paused = false;
}

static bool is_vouched(const struct raft *r, const struct peer *p)
{
    bool both_vote = r->self_voter && (p->voter || MUTANT(READ_VOUCHED_BY_LEARNER));
    bool two_suffice = r->voter_count <= 3 || MUTANT(READ_VOUCHED_AMONG_FIVE);
    bool remembers = !p->lost && p->read_log_end >= p->match_index;
    return both_vote && two_suffice && (remembers || MUTANT(READ_VOUCHED_BY_FORGETFUL));
}

static void vouched_answer(struct raft *r)
{
    if (!knows_committed(r)) return;
    for (size_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (!p->read_waiting || !is_vouched(r, p)) continue;
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
    size_t later_count = (size_t)(r->read_request - m->round); /* it speaks for all earlier ones */
    r->read_request_count = MIN(r->read_request_count, later_count);
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
    bool late = r->now_ms >= reads_due_ms(r);
    if (reads || late || r->heartbeat_wanted) round_begin(r, reads);
}

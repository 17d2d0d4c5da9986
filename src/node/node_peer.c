/* node/node_peer.c - what members say to each other: payloads in and out, and what each one says of
 * itself once a second.
 *
 * FORMAT  of a payload, little-endian: u8 kind (enum node_payload), then
 *   RAFT     raft_msg_encode() (raft/raft_msg.h)
 *   FORWARD, REFUSED   node_propose.c        MEMBER_*   node_member.c        16..31  node_snapshot.h
 *   STATUS   7 bytes 0 | u64 term, commit index, applied, revision, compacted, store bytes, live
 *            bytes, leader | u32 alarms | u32 hash count | 24 bytes version, padded with 0 |
 *            hashes: u64 index, u64 hash | u32 match count | matches: u64 member, u64 match index
 *   LOST     nothing: the receiver's log ends before what it had acknowledged to the sender, who leads
 *   PUBLISH  u8 kind (cmd_pubsub.c) | u32 channel length | channel | message
 */
#include "node/node_int.h"

#include "base/log.h"

#define STATUS_HEAD_BYTES (8 + 8 * 8 + 4 + 4 + 24)

void node_payload_begin(struct node *n, enum node_payload kind)
{
    buf_clear(&n->wire);
    buf_append_u8(&n->wire, (uint8_t)kind);
}

void node_payload_send(struct node *n, uint64_t peer, enum node_channel channel)
{
    if (n->hooks.send != NULL) n->hooks.send(n->hooks.ctx, peer, channel, buf_slice(&n->wire));
}

void node_send_raft(struct node *n, const struct raft_msg *m)
{
    struct raft_msg stamped = *m;
    if (m->type == RAFT_MSG_HEARTBEAT) stamped.clock_ms = n->lead_term == raft_term(n->raft) ? n->clock_ms : 0;
    node_payload_begin(n, PAYLOAD_RAFT);
    raft_msg_encode(&n->wire, &stamped);
    node_payload_send(n, m->to, raft_msg_is_urgent(m) ? NODE_CHANNEL_URGENT : NODE_CHANNEL_MAIN);
}

/* A leader whose log takes more than this one's: to go on without the entry is not possible. */
static bool log_takes(const struct node *n, const struct raft_msg *m)
{
    size_t entry_max = wal_entry_bytes_max(n->wal);
    for (size_t i = 0; i < m->entry_count; i++) {
        size_t bytes = m->entries[i].body == NULL ? 0 : m->entries[i].body->len;
        if (LIKELY(bytes <= entry_max)) continue;
        struct errmsg em;
        errmsg_set(&em, "member %llu sends an entry of %zu bytes, and the log of this member takes %zu: give it the "
                   "'wal-segment-bytes' of the others", (unsigned long long)m->from, bytes, entry_max);
        node_fatal(n, em.text);
        return false;
    }
    return true;
}

static enum err on_raft(struct node *n, uint64_t peer, struct slice in)
{
    struct raft_msg m;
    TRY(raft_msg_decode((struct slice){ in.at + 1, in.len - 1 }, &m));
    enum err e = m.from == peer ? OK : ERR_PROTO;
    if (e == OK && log_takes(n, &m)) {
        struct raft_event ev = { .type = RAFT_EV_MESSAGE, .msg = &m };
        e = raft_step(n->raft, &ev);
    }
    bool leads = e == OK && m.type == RAFT_MSG_HEARTBEAT && raft_leader(n->raft) == peer;
    if (leads && m.clock_ms != 0 && m.term == raft_term(n->raft)) {
        node_clock_heard(n, m.term, m.clock_ms);
    }
    raft_msg_deinit(&m);
    return e;
}

/* --- peers -------------------------------------------------------------------------------- */

static struct peer_status *peer_of(struct node *n, uint64_t id)
{
    for (size_t i = 0; i < n->peer_count; i++) {
        if (n->peers[i].info.id == id) return &n->peers[i];
    }
    return NULL;
}

/* Those in force, which are so as soon as they are appended, and those as of the applied index: a
 * removal that is not committed may be undone by the very member that it removes. So may a directory
 * id, by the member that has another one: nobody is refused for it. */
static void members_known(const struct node *n, struct raft_members *out)
{
    *out = *raft_members(n->raft);
    for (size_t i = 0; i < out->count; i++) {
        const struct raft_member *applied = raft_members_find(&n->members, out->at[i].id);
        out->at[i].directory_id = applied == NULL ? 0 : applied->directory_id;
    }
    for (size_t i = 0; i < n->members.count; i++) {
        if (raft_members_find(out, n->members.at[i].id) != NULL) continue;
        struct raft_member leaving = n->members.at[i];
        leaving.role = RAFT_LEARNER; /* as far as anybody is concerned who counts voters */
        enum err e = raft_members_put(out, &leaving);
        if (e != OK) log_debug("member not kept reason=%s", err_name(e)); /* no room for one more */
    }
}

/* Keeps what is known of those that stay. */
void node_peers_adopt(struct node *n)
{
    struct raft_members m;
    members_known(n, &m);
    struct peer_status old[RAFT_MEMBERS_MAX];
    size_t old_count = n->peer_count;
    memcpy(old, n->peers, sizeof old);
    n->peer_count = 0;
    for (size_t i = 0; i < m.count; i++) {
        struct peer_status *p = &n->peers[n->peer_count++];
        *p = (struct peer_status){ .info = { .id = m.at[i].id }, .heard_ms = INT64_MIN };
        for (size_t k = 0; k < old_count; k++) {
            if (old[k].info.id == m.at[i].id) *p = old[k];
        }
    }
    memset(n->in_sync_ms, 0, sizeof n->in_sync_ms);
    if (n->hooks.members != NULL) n->hooks.members(n->hooks.ctx, &m);
}

void node_unreachable(struct node *n, uint64_t peer)
{
    struct raft_event ev = { .type = RAFT_EV_UNREACHABLE, .peer = peer };
    enum err e = raft_step(n->raft, &ev);
    if (e != OK) log_debug("unreachable ignored peer=%llu reason=%s", (unsigned long long)peer, err_name(e));
    if (peer == raft_leader(n->raft)) {
        node_forget_given(n);
        n->retry_ms = n->mono_us / 1000 + n->cfg.heartbeat_ms / 2;
    }
}

/* --- status ------------------------------------------------------------------------------------ */

void node_hash_note(struct node *n)
{
    uint64_t index = state_applied_index(n->state);
    n->hashes[(index / NODE_HASH_EVERY) % NODE_HASHES_KEPT] = (struct node_hash){ index, state_hash(n->state) };
}

static void self_info(const struct node *n, struct node_peer_info *out)
{
    const struct mvcc *m = state_mvcc(n->state);
    *out = (struct node_peer_info){
        .id = n->identity.member_id,
        .term = raft_term(n->raft),
        .index = raft_commit_index(n->raft),
        .applied = state_applied_index(n->state),
        .revision = mvcc_rev(m),
        .compacted = mvcc_compacted(m),
        .store_bytes = store_disk_bytes(n->store),
        .live_bytes = mvcc_live_bytes(m),
        .leader = raft_leader(n->raft),
        .alarms = (n->disk_low ? 1u << ALARM_NOSPACE : 0) | (n->diverged ? 1u << ALARM_CORRUPT : 0),
        .match = raft_durable_index(n->raft),
    };
    snprintf(out->version, sizeof out->version, "%s", n->cfg.version == NULL ? "" : n->cfg.version);
}

static void status_encode(struct node *n)
{
    struct node_peer_info self;
    self_info(n, &self);
    node_payload_begin(n, PAYLOAD_STATUS);
    struct buf *b = &n->wire;
    buf_append(b, "\0\0\0\0\0\0", 7);
    const uint64_t numbers[8] = { self.term, self.index, self.applied, self.revision, self.compacted,
                                  self.store_bytes, self.live_bytes, self.leader };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) buf_append_u64(b, numbers[i]);
    buf_append_u32(b, self.alarms);
    uint32_t hash_count = 0;
    for (size_t i = 0; i < NODE_HASHES_KEPT; i++) hash_count += n->hashes[i].index != 0;
    buf_append_u32(b, hash_count);
    buf_append(b, self.version, sizeof self.version);
    for (size_t i = 0; i < NODE_HASHES_KEPT; i++) {
        if (n->hashes[i].index == 0) continue;
        buf_append_u64(b, n->hashes[i].index);
        buf_append_u64(b, n->hashes[i].hash);
    }
    size_t count_at = b->len;
    uint32_t match_count = 0;
    buf_append_u32(b, 0);
    struct raft_peer_status peer;
    for (size_t i = 0; raft_peer_status(n->raft, i, &peer); i++) {
        buf_append_u64(b, peer.id);
        buf_append_u64(b, peer.match_index);
        match_count++;
    }
    if (match_count > 0) {
        buf_append_u64(b, n->identity.member_id);
        buf_append_u64(b, raft_durable_index(n->raft));
        match_count++;
    }
    u32_le_put(b->at + count_at, match_count);
}

void node_status_send(struct node *n)
{
    if (n->peer_count < 2) return;
    struct raft_peer_status lost;
    for (size_t i = 0; raft_peer_status(n->raft, i, &lost); i++) {
        if (lost.state == RAFT_PEER_LOST) node_lost_send(n, lost.id);
    }
    status_encode(n);
    for (size_t i = 0; i < n->peer_count; i++) {
        uint64_t id = n->peers[i].info.id;
        if (id != n->identity.member_id) node_payload_send(n, id, NODE_CHANNEL_MAIN);
    }
}

void node_lost_send(struct node *n, uint64_t peer)
{
    node_payload_begin(n, PAYLOAD_LOST);
    node_payload_send(n, peer, NODE_CHANNEL_MAIN);
}

/* Design section 7: who lost acknowledged entries does not vote under its old id. From here on this
 * directory is of no use, and says so at every start. */
static enum err on_lost(struct node *n, uint64_t from)
{
    if (from != raft_leader(n->raft)) return OK;
    struct errmsg text, em;
    errmsg_set(&text, "this member (%llu) has lost entries that it had acknowledged: its directory was set back "
               "to an older copy, or its disk forgot. It must not vote any more. On another member: MEMBER "
               "REMOVE %llu; then start this one with an empty directory and --join",
               (unsigned long long)n->identity.member_id, (unsigned long long)n->identity.member_id);
    enum err e = identity_revoke(n->cfg.io, n->cfg.dir, text.text, &em);
    if (e != OK) log_error("revocation is not recorded reason=\"%s\"", em.text);
    node_fatal(n, text.text);
    return OK;
}

/* P9: what do the voters say of the state at this index? A majority of all of them that agrees on
 * something else makes this one wrong. */
static void hash_compare(struct node *n, struct node_hash mine)
{
    const struct raft_members *members = raft_members(n->raft);
    size_t voters = raft_members_voter_count(members);
    for (size_t i = 0; i < n->peer_count; i++) {
        uint64_t other = 0;
        size_t agree = 0;
        for (size_t k = 0; k < n->peer_count; k++) {
            if (!raft_members_is_voter(members, n->peers[k].info.id)) continue;
            for (size_t h = 0; h < NODE_HASHES_KEPT; h++) {
                if (n->peers[k].hashes[h].index != mine.index) continue;
                if (k == i) other = n->peers[k].hashes[h].hash;
            }
        }
        if (other == 0 || other == mine.hash) continue;
        for (size_t k = 0; k < n->peer_count; k++) {
            if (!raft_members_is_voter(members, n->peers[k].info.id)) continue;
            for (size_t h = 0; h < NODE_HASHES_KEPT; h++) {
                agree += n->peers[k].hashes[h].index == mine.index && n->peers[k].hashes[h].hash == other;
            }
        }
        if (agree < voters / 2 + 1 || n->diverged) continue;
        n->diverged = true;
        raft_campaign_allow(n->raft, false);
        log_error("state differs from the majority's index=%llu hash=%016llx theirs=%016llx: this member "
                  "stops serving. Remove it (MEMBER REMOVE) and join it again with an empty directory",
                  (unsigned long long)mine.index, (unsigned long long)mine.hash, (unsigned long long)other);
        if (n->hooks.diverged != NULL) n->hooks.diverged(n->hooks.ctx);
    }
}

static enum err on_status(struct node *n, uint64_t from, struct slice in)
{
    if (in.len < STATUS_HEAD_BYTES + 4) return ERR_PROTO;
    uint32_t hash_count = u32_le(in.at + 76);
    if (hash_count > NODE_HASHES_KEPT) return ERR_PROTO;
    size_t matches_at = STATUS_HEAD_BYTES + (size_t)hash_count * 16;
    if (in.len < matches_at + 4) return ERR_PROTO;
    uint32_t match_count = u32_le(in.at + matches_at);
    if (match_count > RAFT_MEMBERS_MAX + 1 || in.len != matches_at + 4 + (size_t)match_count * 16) return ERR_PROTO;
    struct peer_status *p = peer_of(n, from);
    if (p == NULL) return OK;
    uint64_t match = p->info.match;
    p->info = (struct node_peer_info){
        .id = from, .term = u64_le(in.at + 8), .index = u64_le(in.at + 16), .applied = u64_le(in.at + 24),
        .revision = u64_le(in.at + 32), .compacted = u64_le(in.at + 40), .store_bytes = u64_le(in.at + 48),
        .live_bytes = u64_le(in.at + 56), .leader = u64_le(in.at + 64), .alarms = u32_le(in.at + 72),
        .match = match,
    };
    memcpy(p->info.version, in.at + 80, sizeof p->info.version - 1);
    p->heard_ms = n->mono_us / 1000;
    memset(p->hashes, 0, sizeof p->hashes);
    for (size_t i = 0; i < hash_count; i++) {
        const uint8_t *at = in.at + STATUS_HEAD_BYTES + i * 16;
        p->hashes[i] = (struct node_hash){ u64_le(at), u64_le(at + 8) };
    }
    for (size_t i = 0; i < match_count; i++) {
        const uint8_t *at = in.at + matches_at + 4 + i * 16;
        struct peer_status *other = peer_of(n, u64_le(at));
        if (other != NULL && raft_role(n->raft) != RAFT_LEADER) other->info.match = u64_le(at + 8);
    }
    for (size_t i = 0; i < NODE_HASHES_KEPT; i++) {
        if (n->hashes[i].index != 0) hash_compare(n, n->hashes[i]);
    }
    return OK;
}

bool node_peer_info(const struct node *n, uint64_t id, struct node_peer_info *out)
{
    if (raft_members_find(raft_members(n->raft), id) == NULL) return false;
    if (id == n->identity.member_id) {
        self_info(n, out);
        return true;
    }
    *out = (struct node_peer_info){ .id = id, .age_ms = -1 };
    for (size_t i = 0; i < n->peer_count; i++) {
        if (n->peers[i].info.id != id) continue;
        *out = n->peers[i].info;
        out->age_ms = n->peers[i].heard_ms == INT64_MIN ? -1 : n->mono_us / 1000 - n->peers[i].heard_ms;
    }
    struct raft_peer_status peer;
    for (size_t i = 0; raft_peer_status(n->raft, i, &peer); i++) {
        if (peer.id == id) out->match = peer.match_index;
    }
    return true;
}

/* --- publish ----------------------------------------------------------------------------------------- */

void node_publish(struct node *n, uint8_t kind, struct slice channel, struct slice message)
{
    if (n->peer_count < 2) return;
    node_payload_begin(n, PAYLOAD_PUBLISH);
    buf_append_u8(&n->wire, kind);
    buf_append_u32(&n->wire, (uint32_t)channel.len);
    buf_append_slice(&n->wire, channel);
    buf_append_slice(&n->wire, message);
    for (size_t i = 0; i < n->peer_count; i++) {
        uint64_t id = n->peers[i].info.id;
        if (id != n->identity.member_id) node_payload_send(n, id, NODE_CHANNEL_MAIN);
    }
}

static enum err on_publish(struct node *n, struct slice in)
{
    if (in.len < 6) return ERR_PROTO;
    size_t len = u32_le(in.at + 2);
    if (in.len - 6 < len) return ERR_PROTO;
    struct slice channel = { in.at + 6, len };
    struct slice message = { in.at + 6 + len, in.len - 6 - len };
    if (n->hooks.published != NULL) n->hooks.published(n->hooks.ctx, in.at[1], channel, message);
    return OK;
}

/* --- in ------------------------------------------------------------------------------------------------ */

static bool is_of_snapshot(struct slice payload)
{
    return payload.at[0] >= PAYLOAD_SNAPSHOT_FIRST && payload.at[0] <= PAYLOAD_SNAPSHOT_LAST;
}

/* Who is not a member, no more or not yet, is not heard: but for raft, and for the snapshot of a
 * leader whom this member can only know by it. */
static bool is_heard(struct node *n, uint64_t peer, struct slice payload)
{
    if (peer_of(n, peer) != NULL || payload.at[0] == PAYLOAD_RAFT) return true;
    return is_of_snapshot(payload) && peer == raft_leader(n->raft);
}

enum err node_receive(struct node *n, uint64_t peer, struct slice payload)
{
    if (payload.len == 0) return ERR_PROTO;
    if (!is_heard(n, peer, payload)) return OK;
    switch (payload.at[0]) {
    case PAYLOAD_RAFT: return on_raft(n, peer, payload);
    case PAYLOAD_FORWARD: return node_on_forward(n, peer, payload);
    case PAYLOAD_REFUSED: return node_on_refused(n, peer, payload);
    case PAYLOAD_STATUS: return on_status(n, peer, payload);
    case PAYLOAD_MEMBER_REQUEST: return node_on_member_request(n, peer, payload);
    case PAYLOAD_MEMBER_ANSWER: return node_on_member_answer(n, peer, payload);
    case PAYLOAD_PUBLISH: return on_publish(n, payload);
    case PAYLOAD_LOST: return on_lost(n, peer);
    default: break;
    }
    if (is_of_snapshot(payload)) return node_snapshot_receive(n->snapshot, peer, payload);
    return ERR_UNSUPPORTED;
}

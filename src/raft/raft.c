/* raft/raft.c - making, restoring and looking at a member; its invariants. */
#include "raft/raft_int.h"

struct raft *raft_new(const struct raft_config *cfg)
{
    ASSERT(cfg->id != 0);
    ASSERT(cfg->heartbeat_ms > 0);
    ASSERT(cfg->election_timeout_ms >= 2 * cfg->heartbeat_ms);
    ASSERT(cfg->inflight_max >= 1 && cfg->inflight_max <= RAFT_INFLIGHT_MAX);
    ASSERT(cfg->applied_term <= cfg->hard.term);
    ASSERT(cfg->members != NULL);

    struct raft *r = mem_zalloc(sizeof *r);
    r->cfg = *cfg;
    r->cfg.members = NULL;
    r->campaign_allowed = true;
    r->random = u64_mix(cfg->seed ^ u64_mix(cfg->id)) | 1;
    r->hard = cfg->hard;
    r->quorum_sent_ms = INT64_MIN;
    r->applied_index = cfg->applied_index;
    r->handed_index = cfg->applied_index;
    log_init(&r->log, cfg->applied_index, cfg->applied_term);
    r->base_members = *cfg->members;
    r->base_members_index = cfg->applied_index;
    members_adopt(r, cfg->members, cfg->applied_index);
    /* Ids of another life of this node must not be mistaken for ours; 2^60 leaves room to count. */
    r->read_request_first = u64_mix(r->random) >> 4;
    r->read_request = r->read_request_first;
    return r;
}

void raft_free(struct raft *r)
{
    if (r == NULL) return;
    outbox_deinit(r);
    log_deinit(&r->log);
    mem_free(r);
}

static bool restored_members_are_valid(const struct raft_entry *e)
{
    struct raft_members m;
    return e->type != RAFT_ENTRY_MEMBERS || raft_members_decode(entry_body(e), &m) == OK;
}

enum err raft_restore_entry(struct raft *r, const struct raft_entry *entry)
{
    ASSERT(!r->started);
    bool first = r->log.count == 0 && r->log.base_index == r->cfg.applied_index;
    if (first && entry->index < r->cfg.applied_index + 1) {
        if (entry->index == 0 || entry->term > r->hard.term) return ERR_CORRUPT;
        bool at_state = entry->index == r->cfg.applied_index;
        if (at_state && entry->term != r->cfg.applied_term) return ERR_CORRUPT;
        bool whole = entry->index == 1;
        log_reset(&r->log, whole ? 0 : entry->index, whole ? 0 : entry->term);
        if (!whole) return OK;
    }
    if (entry->index != last_index(r) + 1) return ERR_CORRUPT;
    if (entry->term < log_last_term(&r->log) || entry->term > r->hard.term) return ERR_CORRUPT;
    if (entry->index == r->cfg.applied_index && entry->term != r->cfg.applied_term) {
        return ERR_CORRUPT;
    }
    if (!restored_members_are_valid(entry)) return ERR_CORRUPT;

    struct raft_entry own = *entry;
    if (own.body != NULL) blob_ref(own.body);
    log_append(&r->log, &own);
    if (own.index > r->cfg.applied_index) members_note(r, &own);
    return OK;
}

void raft_start(struct raft *r, int64_t now_ms)
{
    ASSERT(!r->started);
    ASSERT(last_index(r) >= r->applied_index);
    r->started = true;
    r->now_ms = now_ms;
    r->durable_index = last_index(r);
    r->stored_index = last_index(r);

    /* The stored commit index is a hint: a leader may have counted others before its own disk. */
    uint64_t commit = MIN(r->cfg.hard.commit, last_index(r));
    r->hard.commit = r->applied_index;
    commit_to(r, MAX(commit, r->applied_index));

    r->agreed_index = r->hard.commit;
    become_follower(r, r->hard.term, 0);
    r->told_role = r->role;
    r->told_term = r->hard.term;
    r->members_changed = false;
    if (is_sole_voter(r)) campaign(r, CAMPAIGN_VOTE);
}

void raft_campaign_allow(struct raft *r, bool allowed)
{
    r->campaign_allowed = allowed;
}

/* --- the log --------------------------------------------------------------------------------- */

uint64_t raft_first_index(const struct raft *r)
{
    return r->log.base_index + 1;
}

uint64_t raft_last_index(const struct raft *r)
{
    return last_index(r);
}

const struct raft_entry *raft_entry_at(const struct raft *r, uint64_t index)
{
    return log_at(&r->log, index);
}

bool raft_term_at(const struct raft *r, uint64_t index, uint64_t *term)
{
    return log_term_at(&r->log, index, term);
}

void raft_log_trim(struct raft *r, uint64_t upto_index)
{
    uint64_t upto = MIN(upto_index, MIN(r->applied_index, r->durable_index)); /* I10 */
    if (upto > r->log.base_index) log_trim(&r->log, upto);
}

size_t raft_log_bytes(const struct raft *r)
{
    return r->log.body_bytes + r->log.cap * sizeof(struct raft_entry);
}

/* --- looking --------------------------------------------------------------------------------- */

const char *raft_role_name(enum raft_role role)
{
    static const char *const names[] = { "follower", "precandidate", "candidate", "leader" };
    ASSERT((size_t)role < ARRAY_LEN(names));
    return names[role];
}

const char *raft_peer_state_name(enum raft_peer_state state)
{
    static const char *const names[] = { "probe", "replicate", "wish", "snapshot", "lost" };
    ASSERT((size_t)state < ARRAY_LEN(names));
    return names[state];
}

enum raft_role raft_role(const struct raft *r) { return r->role; }
uint64_t raft_term(const struct raft *r) { return r->hard.term; }
uint64_t raft_leader(const struct raft *r) { return r->leader; }
uint64_t raft_commit_index(const struct raft *r) { return r->hard.commit; }
uint64_t raft_applied_index(const struct raft *r) { return r->applied_index; }
uint64_t raft_durable_index(const struct raft *r) { return r->durable_index; }
const struct raft_members *raft_members(const struct raft *r) { return &r->members; }
uint64_t raft_members_index(const struct raft *r) { return r->members_index; }
bool raft_is_voter(const struct raft *r) { return r->self_voter; }
size_t raft_uncommitted_bytes(const struct raft *r) { return r->uncommitted_bytes; }
uint64_t raft_transfer_target(const struct raft *r) { return r->transfer_to; }
bool raft_disk_is_slow(const struct raft *r) { return r->disk_slow; }

int64_t raft_quorum_sent_ms(const struct raft *r)
{
    if (r->role != RAFT_LEADER) return INT64_MIN;
    return is_sole_voter(r) ? r->now_ms : r->quorum_sent_ms;
}

bool raft_own_term_committed(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->hard.commit >= r->term_first_index;
}

bool raft_snapshot_is_wanted(const struct raft *r, uint64_t index, uint64_t term)
{
    uint64_t own_term = 0;
    if (r->role == RAFT_LEADER || index <= r->hard.commit || index >= RAFT_INDEX_MAX) return false;
    if (term == 0 || term > r->hard.term) return false;
    return !log_term_at(&r->log, index, &own_term) || own_term != term;
}

bool raft_peer_status(const struct raft *r, size_t n, struct raft_peer_status *out)
{
    if (r->role != RAFT_LEADER || n >= r->peer_count) return false;
    const struct peer *p = &r->peers[n];
    *out = (struct raft_peer_status){
        .id = p->id,
        .voter = p->voter,
        .state = p->state,
        .match_index = p->match_index,
        .next_index = p->next_index,
        .inflight_count = p->inflight_count,
        .silent_ms = r->clock_ms - p->heard_ms,
        .heard = p->heard,
    };
    return true;
}

struct peer *peer_find(struct raft *r, uint64_t id)
{
    for (size_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].id == id) return &r->peers[i];
    }
    return NULL;
}

/* n voters in descending order: element n/2 is reached by a majority. 3 at {9, 7, 4} -> 7;
 * 4 at {9, 7, 4, 2} -> 4. */
uint64_t quorum_value(const struct raft *r, uint64_t self, uint64_t (*of)(const struct peer *))
{
    uint64_t sorted[RAFT_VOTERS_MAX];
    size_t count = 0;
    if (r->self_voter) sorted[count++] = self;
    for (size_t i = 0; i < r->peer_count; i++) {
        if (!r->peers[i].voter) continue;
        ASSERT(count < RAFT_VOTERS_MAX);
        uint64_t value = of(&r->peers[i]);
        size_t at = count++;
        for (; at > 0 && sorted[at - 1] < value; at--) sorted[at] = sorted[at - 1];
        sorted[at] = value;
    }
    ASSERT(count == r->voter_count);
    if (MUTANT(QUORUM_TOO_SMALL) && count > 1) return sorted[(count - 1) / 2];
    return count == 0 ? 0 : sorted[count / 2];
}

/* --- invariants ------------------------------------------------------------------------------ */

static void check_log(const struct raft *r)
{
    uint64_t term = r->log.base_term;
    const struct raft_entry *newest_members = NULL;
    size_t uncommitted_bytes = 0;
    for (uint64_t i = raft_first_index(r); i <= last_index(r); i++) {
        const struct raft_entry *e = log_at(&r->log, i);
        ASSERT(e->term >= term && e->term <= r->hard.term); /* I4 */
        term = e->term;
        if (i > r->hard.commit) uncommitted_bytes += entry_bytes(e);
        if (e->type == RAFT_ENTRY_MEMBERS && i > r->base_members_index) newest_members = e;
    }
    if (r->role == RAFT_LEADER) ASSERT(uncommitted_bytes == r->uncommitted_bytes);
    ASSERT(r->members_index == (newest_members ? newest_members->index : r->base_members_index));
    struct raft_members m = r->base_members;
    if (newest_members != NULL) {
        ASSERT(raft_members_decode(entry_body(newest_members), &m) == OK);
    }
    ASSERT(raft_members_eq(&m, &r->members)); /* I6 */
}

static void check_leader(const struct raft *r)
{
    uint64_t term = 0;
    size_t changes = 0;
    ASSERT(r->hard.vote == r->cfg.id && r->leader == r->cfg.id); /* I5 */
    ASSERT(r->term_first_index <= last_index(r));
    ASSERT(r->round_quorum <= r->round && r->round_all <= r->round);
    if (log_term_at(&r->log, r->term_first_index, &term)) ASSERT(term == r->hard.term);
    for (uint64_t i = MAX(r->hard.commit, r->term_first_index) + 1; i <= last_index(r); i++) {
        changes += log_at(&r->log, i)->type == RAFT_ENTRY_MEMBERS;
    }
    ASSERT(changes <= 1); /* I7 */
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        ASSERT(p->match_index < p->next_index); /* I8 */
        ASSERT(p->next_index <= last_index(r) + 1);
        ASSERT(p->inflight_count <= r->cfg.inflight_max);
        ASSERT(p->round_acked <= r->round);
        ASSERT(p->round_helped <= r->round_quorum);
    }
}

void raft_check(const struct raft *r)
{
    ASSERT(r->applied_index <= r->handed_index); /* I1 */
    ASSERT(r->handed_index <= r->hard.commit);
    ASSERT(r->hard.commit <= last_index(r));
    if (!r->cfg.apply_early) ASSERT(r->handed_index <= r->durable_index); /* I2 */
    ASSERT(r->durable_index <= r->stored_index); /* I3 */
    ASSERT(r->stored_index <= last_index(r));
    ASSERT(r->log.base_index <= MIN(r->applied_index, r->durable_index)); /* I10 */
    ASSERT(r->durable_seq <= r->write_seq);
    check_log(r);
    if (r->role == RAFT_LEADER) check_leader(r);
}

/* raft/raft_member.c - which configuration is in force, and how it changes. */
#include "raft/raft_int.h"

/* Fills the peers from the configuration; who stays keeps its progress. */
void members_adopt(struct raft *r, const struct raft_members *m, uint64_t index)
{
    struct peer kept[RAFT_MEMBERS_MAX];
    size_t kept_count = r->peer_count;
    memcpy(kept, r->peers, kept_count * sizeof kept[0]);

    if (&r->members != m) r->members = *m;
    r->members_index = index;
    r->members_changed = true;
    r->self_voter = raft_members_is_voter(m, r->cfg.id);
    r->voter_count = raft_members_voter_count(m);
    r->peer_count = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].id == r->cfg.id) continue;
        struct peer *p = &r->peers[r->peer_count++];
        *p = (struct peer){ .id = m->at[i].id };
        peer_reset(r, p);
        for (size_t k = 0; k < kept_count; k++) {
            if (kept[k].id == p->id) *p = kept[k];
        }
        p->voter = m->at[i].role == RAFT_VOTER;
        if (MUTANT(LEARNER_COUNTS) && !p->voter) p->voter = ++r->voter_count > 0;
    }
    ASSERT(r->voter_count <= RAFT_VOTERS_MAX);
}

static void decode(const struct raft_entry *e, struct raft_members *out)
{
    enum err err = raft_members_decode(entry_body(e), out);
    ASSERT(err == OK); /* checked before it entered the log */
}

/* [D] 4.1: "each server adopts the new configuration as soon as it is added to its log". */
void members_note(struct raft *r, const struct raft_entry *e)
{
    if (LIKELY(e->type != RAFT_ENTRY_MEMBERS)) return;
    struct raft_members m;
    decode(e, &m);
    members_adopt(r, &m, e->index);
}

/* [D] 4.1: "a server must be prepared to fall back to a previous configuration in its log". */
void members_undo(struct raft *r, uint64_t from_index)
{
    if (r->members_index < from_index || MUTANT(MEMBERS_NOT_UNDONE)) return;
    ASSERT(from_index > r->base_members_index);
    for (uint64_t i = from_index - 1; i > r->base_members_index; i--) {
        if (i <= r->log.base_index) break;
        if (log_at(&r->log, i)->type != RAFT_ENTRY_MEMBERS) continue;
        members_note(r, log_at(&r->log, i));
        return;
    }
    members_adopt(r, &r->base_members, r->base_members_index);
}

/* [D] 4.2.2: a leader that is not part of the new configuration leads until it is committed. */
void members_committed(struct raft *r, uint64_t old_commit)
{
    for (uint64_t i = r->hard.commit; i > MAX(old_commit, r->base_members_index); i--) {
        const struct raft_entry *e = log_at(&r->log, i);
        if (e->type != RAFT_ENTRY_MEMBERS) continue;
        decode(e, &r->base_members);
        r->base_members_index = i;
        break;
    }
    bool settled = r->members_index <= r->hard.commit;
    if (r->role == RAFT_LEADER && settled && !r->self_voter) r->leaving = true;
}

/* --- changing it ----------------------------------------------------------------------------- */

/* Counts members that were added, removed or differ. */
static size_t difference_count(const struct raft_members *a, const struct raft_members *b)
{
    size_t count = 0;
    for (size_t i = 0; i < a->count; i++) {
        const struct raft_member *other = raft_members_find(b, a->at[i].id);
        if (other == NULL) {
            count++;
            continue;
        }
        struct raft_members x = { .count = 1, .at = { a->at[i] } };
        struct raft_members y = { .count = 1, .at = { *other } };
        count += !raft_members_eq(&x, &y);
    }
    for (size_t i = 0; i < b->count; i++) count += raft_members_find(a, b->at[i].id) == NULL;
    return count;
}

/* A promoted learner counts at once, so it should be able to keep up at once ([D] 4.2.1). */
static bool promotes_a_laggard(struct raft *r, const struct raft_members *m)
{
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        if (p->voter || !raft_members_is_voter(m, p->id)) continue;
        bool heard = r->clock_ms - p->heard_ms <= r->cfg.election_timeout_ms;
        if (p->state != RAFT_PEER_REPLICATE || !heard) return true;
    }
    return false;
}

/* Makes the caller's value canonical: sorted, valid, within limits. */
static enum err members_normalize(const struct raft_members *m, struct raft_members *out)
{
    out->count = 0;
    if (m->count > RAFT_MEMBERS_MAX) return ERR_LIMIT;
    for (size_t i = 0; i < m->count; i++) {
        if (raft_members_find(out, m->at[i].id) != NULL) return ERR_SYNTAX;
        TRY(raft_members_put(out, &m->at[i]));
    }
    return OK;
}

/* [D] 4.1: one server at a time, so that old and new majorities overlap, and only after the former
 * change is committed; and (raft-dev, July 2015, erratum to [D] 4.1) after an entry of the leader's
 * own term is, else two leaders could each commit a change of their own. */
enum err propose_members(struct raft *r, const struct raft_members *proposed)
{
    struct raft_members m;
    if (r->role != RAFT_LEADER) return ERR_NOT_LEADER;
    if (r->transfer_to != 0 || r->leaving) return ERR_BUSY;
    bool settled = r->members_index <= r->hard.commit || MUTANT(MEMBERS_BEFORE_COMMITTED);
    if (r->hard.commit < r->term_first_index || !settled) return ERR_BUSY;
    TRY(members_normalize(proposed, &m));
    if (raft_members_voter_count(&m) == 0) return ERR_QUORUM;
    size_t differences = difference_count(&r->members, &m);
    if (differences == 0) return ERR_EXISTS;
    if (differences > 1 && !MUTANT(MEMBERS_TWO_AT_ONCE)) return ERR_SYNTAX;
    if (promotes_a_laggard(r, &m)) return ERR_AGAIN;

    struct buf bytes = { 0 };
    raft_members_encode(&bytes, &m);
    struct blob *body = blob_copy(buf_slice(&bytes));
    buf_deinit(&bytes);
    append_own(r, RAFT_ENTRY_MEMBERS, body, crc32c(0, body->at, body->len));
    commit_advance(r); /* a smaller quorum may have been reached already */
    return OK;
}

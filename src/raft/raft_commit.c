/* raft/raft_commit.c - what is durable here, and what is committed in the group. */
#include "raft/raft_int.h"

static uint64_t match_of(const struct peer *p)
{
    return p->match_index;
}

void commit_to(struct raft *r, uint64_t index)
{
    ASSERT(index <= last_index(r));
    uint64_t old = r->hard.commit;
    if (index <= old) return;
    if (r->role == RAFT_LEADER) {
        for (uint64_t i = old + 1; i <= index; i++) {
            size_t bytes = entry_bytes(log_at(&r->log, i));
            ASSERT(r->uncommitted_bytes >= bytes);
            r->uncommitted_bytes -= bytes;
        }
    }
    r->hard.commit = index;
    if (r->members_index > r->base_members_index) members_committed(r, old);
}

/* [P] 5.4.2: "Raft never commits log entries from previous terms by counting replicas"; they are
 * committed with the first entry of this term. [D] 10.2.1: the leader's own disk is one of the
 * copies, not a condition. */
void commit_advance(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    uint64_t own_index = MUTANT(LEADER_COUNTS_UNSYNCED) ? last_index(r) : r->durable_index;
    uint64_t index = quorum_value(r, own_index, match_of);
    ASSERT(index <= last_index(r));
    uint64_t first_index = MUTANT(COMMIT_OF_OLD_TERM) ? 1 : r->term_first_index;
    if (index <= r->hard.commit || index < first_index) return;
    ASSERT(log_at(&r->log, index)->term == r->hard.term || MUTANT(COMMIT_OF_OLD_TERM));
    commit_to(r, index);
}

/* Of the writes that are still under way, those before this moment hold entries that are gone:
 * when they report, they prove nothing above limit_index, even if an equal index, or the very same
 * entry, has come back since. The seq plays the part that the term of issue plays in the paper's
 * descendants, and is finer: it also tells two writes of one term apart. */
void durable_cut(struct raft *r, uint64_t limit_index)
{
    bool earlier_open = r->durable_seq + 1 < r->cut_seq;
    r->cut_limit = earlier_open ? MIN(r->cut_limit, limit_index) : limit_index;
    r->cut_seq = r->write_seq + 1;
    r->durable_index = MIN(r->durable_index, limit_index);
    r->stored_index = MIN(r->stored_index, limit_index);
}

void on_persisted(struct raft *r, const struct raft_write *w)
{
    ASSERT(w->seq >= 1 && w->seq <= r->write_seq);
    ASSERT(w->term <= r->hard.term);
    if (w->seq <= r->durable_seq) return;
    r->durable_seq = w->seq;
    r->write_since_ms = r->clock_ms;
    r->disk_slow = false;

    uint64_t index = w->seq < r->cut_seq ? MIN(w->index, r->cut_limit) : w->index;
    if (MUTANT(WRITE_OF_CUT_ENTRIES_COUNTS)) index = MIN(w->index, r->stored_index);
    ASSERT(index <= r->stored_index);
    r->durable_index = MAX(r->durable_index, index);
    outbox_release(r);
    if (r->role == RAFT_LEADER) commit_advance(r);
}

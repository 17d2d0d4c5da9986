/* raft/raft_send.c - which entries the leader sends to whom, once an update. */
#include "raft/raft_int.h"

/* Copies entries from next_index on, as many as one message may hold; one always fits. */
static size_t entries_pick(struct raft *r, uint64_t next_index)
{
    size_t count = 0;
    size_t bytes = 0;
    for (uint64_t i = next_index; i <= last_index(r) && count < RAFT_MSG_ENTRIES_MAX; i++) {
        const struct raft_entry *e = log_at(&r->log, i);
        if (count != 0 && bytes + entry_bytes(e) > r->cfg.append_bytes_max) break;
        outbox_entry_push(r, e);
        bytes += entry_bytes(e);
        count++;
    }
    return count;
}

/* False: memory no longer holds what it would take. */
static bool append_to(struct raft *r, struct peer *p, bool with_entries, size_t *count)
{
    uint64_t prev_term = 0;
    uint64_t prev_index = p->next_index - 1;
    if (!log_term_at(&r->log, prev_index, &prev_term)) return false;
    *count = with_entries ? entries_pick(r, p->next_index) : 0;
    const struct raft_msg head = { .to = p->id, .index = prev_index, .log_term = prev_term,
                                   .commit = r->hard.commit };
    send_append(r, &head, *count);
    p->commit_sent = r->hard.commit;
    return true;
}

static void wish_push(struct raft *r, struct peer *p)
{
    ASSERT(r->out.wish_count < RAFT_MEMBERS_MAX);
    p->state = RAFT_PEER_WISH;
    p->inflight_count = 0;
    p->check = false;
    r->out.wishes[r->out.wish_count++] =
        (struct raft_wish){ .peer = p->id, .next_index = p->next_index };
}

/* One at a time, even an empty one: it asks where the logs agree. */
static void probe(struct raft *r, struct peer *p)
{
    size_t count = 0;
    if (p->paused) return;
    p->paused = true;
    if (!append_to(r, p, true, &count)) wish_push(r, p);
}

/* [D] 10.2.2: next_index moves as entries are sent, not as they are acknowledged. */
static void replicate(struct raft *r, struct peer *p)
{
    size_t count = 0;
    while (p->next_index <= last_index(r) && p->inflight_count < r->cfg.inflight_max) {
        if (!append_to(r, p, true, &count)) {
            wish_push(r, p);
            return;
        }
        ASSERT(count > 0);
        p->next_index += count;
        size_t at = (p->inflight_first + p->inflight_count++) % RAFT_INFLIGHT_MAX;
        p->inflight[at] = p->next_index - 1;
        p->check = false;
    }
    /* Nothing to carry it: a follower's clients wait for its commit index. */
    bool tell = p->commit_sent < (r->cfg.commit_rides ? r->commit_told : r->hard.commit);
    if (!tell && !p->check) return;
    p->check = false;
    if (append_to(r, p, false, &count)) return;
    p->next_index = p->match_index + 1; /* whether the rest arrived cannot be asked any more */
    wish_push(r, p);
}

void send_appends(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->hard_seq > r->durable_seq) return; /* I9 */
    for (size_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        switch (p->state) {
        case RAFT_PEER_PROBE: probe(r, p); break;
        case RAFT_PEER_REPLICATE: replicate(r, p); break;
        case RAFT_PEER_WISH:
        case RAFT_PEER_SNAPSHOT:
        case RAFT_PEER_LOST: break;
        }
    }
}

/* raft/raft.h - one member of a Raft group as a function from events to updates.
 *
 * PURPOSE  Decide who leads, which entries are committed, and when a read may be served. Does not
 *          store, send, apply or look at a clock: it says what must be done.
 * OWNS     struct raft: the log's newest entries (a reference to each body), progress of the peers.
 * USES     base/.
 * THREADS  Loop thread only.
 * LIMITS   struct raft_config; RAFT_INFLIGHT_MAX, RAFT_OUTBOX_MAX; see raft_members.h, raft_msg.h.
 * ERRORS   See raft_step().
 *
 * INVARIANTS (raft_check asserts them; docs: Raft paper = [P], Ongaro's dissertation = [D])
 *  I1  applied <= handed to apply <= commit <= last index; commit and applied never go back.
 *  I2  what is handed to apply is also durable here (unless apply_early).
 *  I3  durable <= last index; what is durable was handed out in an update before.
 *  I4  terms in the log do not descend and are <= the current term.
 *  I5  a leader voted for itself, knows itself as leader, and has an entry of its own term.
 *  I6  the configuration in force is that of the newest MEMBERS entry of the log, else the base's.
 *  I7  a leader has at most one uncommitted MEMBERS entry that it proposed.
 *  I8  for each peer match < next <= last index + 1; messages in flight <= inflight_max.
 *  I9  no message that speaks of a term or vote leaves before that term and vote are durable;
 *      no acknowledgement of an entry leaves before the entry is.
 *  I10 memory holds every entry that is not yet applied and durable.
 *
 * Life: raft_new, raft_restore_entry for each recovered entry, raft_start; then in every turn of
 * the loop any number of raft_step, and one raft_update_take. What an update asks for is never
 * asked again; nothing is lost if it is taken later.
 */
#ifndef RAFT_RAFT_H
#define RAFT_RAFT_H

#include "raft/raft_members.h"
#include "raft/raft_msg.h"

#define RAFT_INFLIGHT_MAX 64
#define RAFT_OUTBOX_MAX 4096 /* messages kept for one update; more are dropped, as a network may */

struct raft;

/* term and vote must be durable before anything is said about them; commit is only a hint that
 * shortens recovery (it may be ahead of the log that was recovered). */
struct raft_hard_state {
    uint64_t term;
    uint64_t vote;
    uint64_t commit;
};

struct raft_config {
    uint64_t id;
    int64_t heartbeat_ms;
    int64_t election_timeout_ms; /* >= 2 * heartbeat_ms */
    int64_t election_spread_ms;  /* each election draws up to so much more; 0: as much again */
    uint64_t seed;               /* must differ at every start of the process */
    size_t append_bytes_max;     /* bodies in one APPEND; one entry always fits */
    size_t inflight_max;         /* unacknowledged APPENDs a peer, <= RAFT_INFLIGHT_MAX */
    size_t uncommitted_bytes_max;
    /* A new commit index alone leaves only after RAFT_EV_COMMIT_TELL; until then it waits for the
     * next APPEND to carry it. */
    bool commit_rides;
    bool apply_early; /* hand committed entries to apply before they are durable here */

    struct raft_hard_state hard; /* as recovered; zero for a new group */
    /* The state machine as recovered: applied up to `index`, whose entry had `term`; the members in
     * force there (borrowed during raft_new; count 0 for a node that waits to be added). A new
     * group starts at index 0, term 0 with its first members, or with a MEMBERS entry at 1. */
    uint64_t applied_index;
    uint64_t applied_term;
    const struct raft_members *members;
};

struct raft *raft_new(const struct raft_config *cfg);
void raft_free(struct raft *r); /* NULL is allowed */

/* Before raft_start: the recovered log in order, without a gap. The first index may be anything
 * from 1 to applied_index + 1 (older entries serve slow followers; the very first of those only
 * lends its term, unless it is entry 1). Takes a reference to the body. ERR_CORRUPT: a gap, terms
 * that descend or are above the stored one, bad members. */
enum err raft_restore_entry(struct raft *r, const struct raft_entry *entry) MUST_USE;

/* Everything restored is durable and reaches applied_index at least (nothing restored: it ends
 * there). The only voter of a group leads at once. */
void raft_start(struct raft *r, int64_t now_ms);

enum raft_event_type {
    RAFT_EV_TICK,               /* now_ms (monotonic): first in every turn, by raft_due_ms() at latest */
    RAFT_EV_PROPOSE,            /* body, crc. On OK the body is taken and the entry is the log's
                                   last: raft_last_index(), raft_term() */
    RAFT_EV_PROPOSE_MEMBERS,    /* members: the whole new configuration; on OK as above */
    RAFT_EV_MESSAGE,            /* msg, borrowed */
    RAFT_EV_PERSISTED,          /* write: as it was in the newest update that is durable */
    RAFT_EV_APPLIED,            /* index */
    RAFT_EV_READ,               /* read_id: ascending in the life of this struct raft */
    RAFT_EV_TRANSFER,           /* peer: 0 lets the core choose */
    RAFT_EV_ENTRIES,            /* answers a wish: peer, index = the wish's next_index, term = of
                                   the entry before, entries from index on (1 or more, borrowed) */
    RAFT_EV_SNAPSHOT_SENDING,   /* answers a wish: peer, index of the snapshot that is being sent */
    RAFT_EV_SNAPSHOT_SENT,      /* peer, ok */
    RAFT_EV_SNAPSHOT_BEGIN,     /* index, term: before the first durable trace of an installation.
                                   On OK entries are refused until INSTALLED or ABORTED. ERR_EXISTS:
                                   not wanted (any more); the leader is told how far this is */
    RAFT_EV_SNAPSHOT_INSTALLED, /* index, term, members: durable, in force, old log discarded */
    RAFT_EV_SNAPSHOT_ABORTED,
    RAFT_EV_UNREACHABLE,        /* peer: what was sent to it may be lost */
    RAFT_EV_CAMPAIGN,           /* as if the election timeout had passed */
    RAFT_EV_COMMIT_TELL,        /* commit_rides: nothing will carry it in this turn */
};

/* Identifies what one update asked to be stored. Hand it back unchanged. */
struct raft_write {
    uint64_t seq;   /* of the update; 0: nothing to store */
    uint64_t term;  /* at which the write was issued */
    uint64_t index; /* the log's last index then */
};

struct raft_event {
    enum raft_event_type type;
    int64_t now_ms;
    struct blob *body;
    uint32_t crc;
    const struct raft_members *members;
    const struct raft_msg *msg;
    struct raft_write write;
    uint64_t index;
    uint64_t term;
    uint64_t peer;
    uint64_t read_id;
    bool ok;
    const struct raft_entry *entries;
    size_t entry_count;
};

/* Changes nothing on error, except that a message of a newer term moves the term.
 * PROPOSE: ERR_NOT_LEADER; ERR_BUSY: too much is uncommitted, or leadership is being transferred.
 * PROPOSE_MEMBERS: also ERR_BUSY while a change or the leader's first entry is uncommitted,
 * ERR_QUORUM: no voter would be left, ERR_LIMIT: too many voters, ERR_AGAIN: the learner to promote
 * is not in sync, ERR_SYNTAX: more than one member differs, ERR_EXISTS: nothing differs.
 * MESSAGE: ERR_PROTO: refused as malformed or not for this member.
 * TRANSFER: ERR_NOT_LEADER, ERR_MEMBER: no such other voter, ERR_BUSY: one is under way. */
enum err raft_step(struct raft *r, const struct raft_event *ev) MUST_USE;

/* A peer needs entries from next_index on, which memory no longer holds. Answer with ENTRIES, or
 * start a snapshot and answer SNAPSHOT_SENDING, then SNAPSHOT_SENT. Nothing else is asked for this
 * peer meanwhile. */
struct raft_wish {
    uint64_t peer;
    uint64_t next_index;
};

struct raft_update {
    /* 1. Store, in this order, in one write: cut the log, append, hard state. */
    struct raft_write write;     /* seq 0: nothing */
    struct raft_hard_state hard; /* always as of now */
    bool hard_changed;           /* term or vote differ from what was handed out last */
    uint64_t truncate_from;      /* 0: no cut; else drop this index and all behind it first */
    uint64_t append_from;        /* raft_entry_at(append_from..append_to); 0: none */
    uint64_t append_to;
    /* 2. Send now, without waiting for the write: what has to wait is kept back by the core.
     * Bodies and entries are borrowed like the array. */
    const struct raft_msg *msgs;
    size_t msg_count;
    /* 3. Apply raft_entry_at(apply_from..apply_to), then APPLIED. MEMBERS and NOOP included. */
    uint64_t apply_from; /* 0: none */
    uint64_t apply_to;
    /* 4. Every read with an id <= read_id may be served once applied >= read_index. 0: none. */
    uint64_t read_id;
    uint64_t read_index;
    /* 5. The rest. */
    const struct raft_wish *wishes;
    size_t wish_count;
    uint64_t lost_peer;   /* 0, or a peer whose log ends before what it had acknowledged: alarm */
    bool status_changed;  /* role, term or leader differ from the last update */
    bool members_changed; /* another configuration is in force (appended, undone or installed) */
};

/* Fills *out; says whether there is anything to do. The arrays are borrowed until the next call of
 * raft_step, raft_update_take or raft_free. */
bool raft_update_take(struct raft *r, struct raft_update *out);

/* --- the log in memory: [raft_first_index, raft_last_index] ---------------------------------- */

uint64_t raft_first_index(const struct raft *r);
uint64_t raft_last_index(const struct raft *r); /* first - 1 when memory holds none */
/* Borrowed until any entry is appended, trimmed or truncated. The index must be in memory. */
const struct raft_entry *raft_entry_at(const struct raft *r, uint64_t index);
bool raft_term_at(const struct raft *r, uint64_t index, uint64_t *term); /* false: not known here */
/* Memory may drop what is at or below index; keeps what is not yet applied and durable. */
void raft_log_trim(struct raft *r, uint64_t upto_index);
size_t raft_log_bytes(const struct raft *r);

/* --- looking --------------------------------------------------------------------------------- */

enum raft_role { RAFT_FOLLOWER, RAFT_PRECANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };
const char *raft_role_name(enum raft_role role); /* "leader"; static */

enum raft_role raft_role(const struct raft *r);
uint64_t raft_term(const struct raft *r);
uint64_t raft_leader(const struct raft *r); /* 0: none known */
uint64_t raft_commit_index(const struct raft *r);
uint64_t raft_applied_index(const struct raft *r);
uint64_t raft_durable_index(const struct raft *r);
const struct raft_members *raft_members(const struct raft *r); /* in force; borrowed until a call */
uint64_t raft_members_index(const struct raft *r); /* of the entry that put it in force */
bool raft_is_voter(const struct raft *r);
size_t raft_uncommitted_bytes(const struct raft *r);
uint64_t raft_transfer_target(const struct raft *r); /* 0: none */
bool raft_disk_is_slow(const struct raft *r);        /* a write is unanswered for a timeout */
/* Leader: when it sent the newest round of heartbeats that a quorum has answered (now, if it is the
 * only voter). Its authority ends there plus one election timeout. INT64_MIN: none yet. */
int64_t raft_quorum_sent_ms(const struct raft *r);
/* When the next tick has something to do at the latest, on the clock of the ticks. */
int64_t raft_due_ms(const struct raft *r);
bool raft_own_term_committed(const struct raft *r); /* leader: its first entry is committed */

/* Whether a snapshot at (index, term) would bring this member forward. */
bool raft_snapshot_is_wanted(const struct raft *r, uint64_t index, uint64_t term);
/* A member that may not campaign votes and follows, but never leads: who leads hands over. Allowed at
 * first. */
void raft_campaign_allow(struct raft *r, bool allowed);

enum raft_peer_state {
    RAFT_PEER_PROBE,     /* one APPEND at a time until one is accepted */
    RAFT_PEER_REPLICATE, /* optimistic, up to inflight_max */
    RAFT_PEER_WISH,      /* the node was asked for entries or a snapshot */
    RAFT_PEER_SNAPSHOT,  /* a snapshot is being sent */
    RAFT_PEER_LOST,      /* it forgot what it had acknowledged; it counts no more */
};
struct raft_peer_status {
    uint64_t id;
    bool voter;
    enum raft_peer_state state;
    uint64_t match_index;
    uint64_t next_index;
    size_t inflight_count;
    int64_t silent_ms; /* since it was heard last, or this leader began */
    bool heard;        /* it has answered this leader */
};
const char *raft_peer_state_name(enum raft_peer_state state); /* "probe"; static */
/* Leader only (else false): the n-th other member. */
bool raft_peer_status(const struct raft *r, size_t n, struct raft_peer_status *out);

/* Asserts I1..I8, I10. Walks the log. */
void raft_check(const struct raft *r);

#endif

/* raft/raft_int.h - the inside of struct raft, shared by the files of this folder only.
 *
 * PURPOSE  One struct, and the functions that one file of the core offers to the others.
 * OWNS     See raft.h.
 * USES     base/.
 * THREADS  Loop thread only.
 * LIMITS   ROUNDS_INFLIGHT_MAX rounds that wait for a quorum before reads wait for the next one.
 * ERRORS   As in raft.h.
 * INVARIANTS  Those of raft.h (I1..I10).
 */
#ifndef RAFT_RAFT_INT_H
#define RAFT_RAFT_INT_H

#include "raft/raft.h"

#define ROUNDS_INFLIGHT_MAX 8
#define ROUNDS_RING 64 /* send times remembered; a power of two */
#define READS_MAX (ROUNDS_INFLIGHT_MAX * RAFT_MEMBERS_MAX)
#define READ_REQUESTS_MAX 4 /* a follower's unanswered requests to the leader */
#define ROUND_PATIENCE_MS 2 /* at least: then what only a quorum was asked for all are asked for */

_Static_assert((ROUNDS_RING & (ROUNDS_RING - 1)) == 0, "indexed by mask");

/* --- raft_log.c ------------------------------------------------------------------------------ */

/* A ring of entries; `base` is the entry before the first, of which only the term is known. */
struct raft_log {
    struct raft_entry *ring;
    size_t cap; /* 0 or a power of two */
    size_t count;
    uint64_t base_index;
    uint64_t base_term;
    size_t body_bytes;
};

void log_init(struct raft_log *l, uint64_t base_index, uint64_t base_term);
void log_deinit(struct raft_log *l);
void log_reset(struct raft_log *l, uint64_t base_index, uint64_t base_term); /* empty */
void log_append(struct raft_log *l, const struct raft_entry *e_taken); /* takes e_taken->body */
void log_truncate(struct raft_log *l, uint64_t from_index);
void log_trim(struct raft_log *l, uint64_t upto_index);
static inline uint64_t log_last(const struct raft_log *l) { return l->base_index + l->count; }
struct raft_entry *log_at(const struct raft_log *l, uint64_t index);
bool log_term_at(const struct raft_log *l, uint64_t index, uint64_t *term);
uint64_t log_last_term(const struct raft_log *l);
/* The largest index <= index, not below floor_index, whose term is <= term or not known. */
uint64_t log_find_agreement(const struct raft_log *l, uint64_t index, uint64_t term,
                            uint64_t floor_index);

static inline size_t entry_bytes(const struct raft_entry *e)
{
    return e->body == NULL ? 0 : e->body->len;
}
static inline struct slice entry_body(const struct raft_entry *e)
{
    return e->body == NULL ? SLICE_NONE : blob_slice(e->body);
}

/* --- the core -------------------------------------------------------------------------------- */

enum vote { VOTE_UNKNOWN, VOTE_GRANTED, VOTE_REJECTED };

struct peer {
    uint64_t id;
    bool voter;
    enum vote vote;
    enum raft_peer_state state;
    uint64_t match_index;
    uint64_t match_round; /* newest round sent when match_index last moved */
    uint64_t next_index;
    uint64_t commit_sent;
    uint64_t round_acked;
    uint64_t round_helped;   /* newest that it answered before a quorum had */
    uint64_t snapshot_index; /* RAFT_PEER_SNAPSHOT */
    int64_t heard_ms;        /* by clock_ms; at first when this leader began */
    bool heard;              /* by this leader */
    bool lost;               /* forgot what it had acknowledged: in the life of this process its vote
                                does not count */
    int64_t checked_ms;      /* when an idle stream was checked for a lost end, by clock_ms */
    bool paused;             /* RAFT_PEER_PROBE: sent one, waits */
    bool check;              /* an empty APPEND is due, to find out where its log ends */
    bool read_waiting;       /* a READ request has neither a round nor an answer yet */
    uint64_t read_request;
    uint64_t read_hint;
    uint64_t read_log_end;
    size_t inflight_first; /* ring of the last index of each unacknowledged APPEND */
    size_t inflight_count;
    uint64_t inflight[RAFT_INFLIGHT_MAX];
};

/* A read that travels with a round: of this node (asker 0) or of a peer. */
struct pending_read {
    uint64_t asker;
    uint64_t request;
    uint64_t hint;
    uint64_t round;
    uint64_t index;
};

struct held_msg {
    struct raft_msg msg;
    uint64_t need_seq; /* I9 */
};

/* What the next update will carry. */
struct outbox {
    bool given; /* the caller holds it: cleared by the next call */
    struct raft_msg *msgs;
    size_t *entry_offset; /* beside msgs: where its entries begin in `entries` */
    size_t msg_count;
    size_t msg_cap;
    struct raft_entry *entries; /* each holds a reference to its body */
    size_t entry_count;
    size_t entry_cap;
    struct held_msg *held;
    size_t held_count;
    size_t held_cap;
    struct raft_wish wishes[RAFT_MEMBERS_MAX];
    size_t wish_count;
};

struct raft {
    struct raft_config cfg;
    bool started;
    bool campaign_allowed;
    uint64_t random;

    struct raft_hard_state hard;
    enum raft_role role;
    uint64_t leader;

    struct raft_log log;
    uint64_t applied_index;
    uint64_t handed_index;  /* to apply */
    uint64_t durable_index;
    uint64_t stored_index;  /* handed out to be stored */
    uint64_t truncate_from; /* not yet handed out; 0: none */
    bool hard_dirty;

    uint64_t write_seq;    /* newest handed out */
    uint64_t durable_seq;
    uint64_t hard_seq;     /* the write that holds the present term and vote */
    uint64_t cut_seq;      /* writes before this one do not know of the newest cut ... */
    uint64_t cut_limit;    /* ... and prove nothing above this index */
    int64_t write_since_ms; /* the oldest unanswered write, by clock_ms */
    bool disk_slow;

    struct raft_members members; /* in force */
    uint64_t members_index;
    struct raft_members base_members; /* the newest committed */
    uint64_t base_members_index;
    bool self_voter;
    size_t voter_count; /* including this node */
    struct peer peers[RAFT_MEMBERS_MAX];
    size_t peer_count;

    int64_t now_ms;   /* as told */
    int64_t clock_ms; /* advances with now_ms, but never by much at once: see raft_tick() */
    int64_t election_due_ms;
    int64_t heartbeat_due_ms;
    int64_t leader_heard_ms;

    /* follower */
    uint64_t agreed_index; /* equal to the log of this term's leader up to here */
    uint64_t acked_index;  /* told to this term's leader */
    bool ack_due;               /* even if it says nothing new */
    bool ack_allowed;           /* an APPEND of this term's leader has been accepted */
    uint64_t installing_index;
    uint64_t installing_term;

    /* leader */
    uint64_t term_first_index; /* the no-op */
    size_t uncommitted_bytes;
    bool heartbeat_wanted;
    uint64_t commit_told; /* commit_rides: up to here a commit index may leave alone */
    uint64_t round;
    uint64_t round_quorum; /* newest answered by a quorum */
    uint64_t round_all;    /* newest that all were asked for, not only as many as it takes */
    int64_t round_took_ms; /* the newest that a quorum answered */
    int64_t round_sent_ms[ROUNDS_RING];
    int64_t quorum_sent_ms;
    uint64_t transfer_to;
    int64_t transfer_due_ms;
    bool transfer_sent;
    bool handover_tried;
    bool leaving; /* its removal is committed */
    struct pending_read reads[READS_MAX]; /* ring */
    size_t read_first;
    size_t read_count;

    /* reads of this node, as a leader or not */
    uint64_t read_wanted;   /* newest id asked for */
    uint64_t read_assigned; /* newest id that travels with a round or a request */
    uint64_t read_done;
    uint64_t read_request;       /* id of the newest request to a leader */
    uint64_t read_request_first; /* ids at or below are of another life of this node */
    size_t read_request_count;
    uint64_t read_ready_id; /* for the next update; 0: none */
    uint64_t read_ready_index;

    struct outbox out;
    enum raft_role told_role;
    uint64_t told_term;
    uint64_t told_leader;
    bool members_changed;
    uint64_t lost_peer;
};

static inline uint64_t last_index(const struct raft *r) { return log_last(&r->log); }
struct peer *peer_find(struct raft *r, uint64_t id); /* NULL if absent */
/* The value that a quorum of voters has reached: `self` for this node, `of` for the others. */
uint64_t quorum_value(const struct raft *r, uint64_t self, uint64_t (*of)(const struct peer *));
static inline size_t quorum_count(const struct raft *r) { return r->voter_count / 2 + 1; }
static inline bool is_sole_voter(const struct raft *r)
{
    return r->self_voter && r->voter_count == 1;
}

/* --- raft_update.c --------------------------------------------------------------------------- */

/* from and, if 0, term are filled in. Waits until the present term and vote are durable (I9). */
void send_msg(struct raft *r, struct raft_msg msg);
/* Leader only, entries are copied with a reference to each body. */
void send_append(struct raft *r, const struct raft_msg *head, size_t entry_count);
void outbox_entry_push(struct raft *r, const struct raft_entry *e);
void outbox_recycle(struct raft *r); /* at the start of every call */
void outbox_release(struct raft *r); /* messages whose term and vote have become durable */
void outbox_deinit(struct raft *r);
void hard_changed(struct raft *r);   /* term or vote just moved */

/* --- raft_election.c ------------------------------------------------------------------------- */

void become_follower(struct raft *r, uint64_t term, uint64_t leader);
void become_leader(struct raft *r);
enum campaign { CAMPAIGN_PREVOTE, CAMPAIGN_VOTE, CAMPAIGN_FORCED };
void campaign(struct raft *r, enum campaign kind); /* does nothing if it may not */
void election_timer_reset(struct raft *r);
bool has_working_leader(const struct raft *r); /* stickiness */
void on_vote_request(struct raft *r, const struct raft_msg *m);
void on_vote_response(struct raft *r, const struct raft_msg *m);
bool leader_lost_quorum(const struct raft *r);

/* --- raft_replicate.c, raft_send.c ----------------------------------------------------------- */

/* For both: the message is of the present term and its sender is this term's leader. */
void on_append(struct raft *r, const struct raft_msg *m);
void on_heartbeat(struct raft *r, const struct raft_msg *m);
enum err on_append_response(struct raft *r, struct peer *p, const struct raft_msg *m) MUST_USE;
void on_heartbeat_response(struct raft *r, struct peer *p, const struct raft_msg *m);
void append_own(struct raft *r, uint8_t type, struct blob *body_taken, uint32_t crc);
void peer_reset(struct raft *r, struct peer *p);
void peer_probe(struct peer *p, uint64_t next_index);
void send_appends(struct raft *r); /* leader, once an update */
void send_ack(struct raft *r);     /* follower, once an update */

/* --- raft_commit.c --------------------------------------------------------------------------- */

void commit_advance(struct raft *r);             /* leader: by counting */
void commit_to(struct raft *r, uint64_t index);  /* moves forward only */
void on_persisted(struct raft *r, const struct raft_write *w);
void durable_cut(struct raft *r, uint64_t limit_index); /* what is above is no longer proven */

/* --- raft_member.c --------------------------------------------------------------------------- */

void members_adopt(struct raft *r, const struct raft_members *m, uint64_t index);
void members_note(struct raft *r, const struct raft_entry *e); /* just appended */
void members_undo(struct raft *r, uint64_t from_index);        /* just truncated */
void members_committed(struct raft *r, uint64_t old_commit);
enum err propose_members(struct raft *r, const struct raft_members *m) MUST_USE;

/* --- raft_read.c ----------------------------------------------------------------------------- */

void reads_step(struct raft *r);   /* once an update: rounds and requests; also sends heartbeats */
void reads_reset(struct raft *r);  /* role, term or leader changed: ask again */
void reads_retry(struct raft *r);  /* follower, once a heartbeat */
int64_t reads_due_ms(const struct raft *r); /* leader: all are asked then; INT64_MAX: no need */
void rounds_acked(struct raft *r); /* some round_acked moved */
void on_read_request(struct raft *r, struct peer *p, const struct raft_msg *m);
void on_read_response(struct raft *r, const struct raft_msg *m);

/* --- raft_transfer.c ------------------------------------------------------------------------- */

enum err transfer_start(struct raft *r, uint64_t to) MUST_USE;
void transfer_step(struct raft *r); /* sends TIMEOUT_NOW when the target is level */
void transfer_tick(struct raft *r);
void leave_step(struct raft *r);    /* a leader whose removal is committed goes */

/* --- raft_snapshot.c ------------------------------------------------------------------------- */

enum err on_entries(struct raft *r, const struct raft_event *ev) MUST_USE;
enum err on_snapshot_event(struct raft *r, const struct raft_event *ev) MUST_USE;

#endif

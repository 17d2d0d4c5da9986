/* node/node_int.h - private to node/: the one structure that holds a member together. */
#ifndef NODE_INT_H
#define NODE_INT_H

#include "disk/db_current.h"
#include "disk/dirlock.h"
#include "disk/identity.h"
#include "disk/workers.h"
#include "node/node.h"
#include "node/node_snapshot.h"

#include <stdio.h>

/* What waits for the log, in log order. seq 0: a local item. */
struct node_ticket {
    struct ticket ticket;
    uint64_t seq;   /* 0: a local item */
    uint64_t after; /* of a local item: the first sequence of its turn's batch. Behind an older one it
                       would see a state that others have left behind when it was asked for */
};

/* Operations of this node with consecutive sequences, as bytes (a run, see op.h): kept until all
 * of them are finished, because another leader may have to be given them again. */
struct own_run {
    uint64_t first_seq;
    uint32_t op_count;
    uint32_t given_count; /* how often a leader was given it; 0: nobody can have applied it */
    int64_t since_ms;
    struct blob *blob;    /* the run is `bytes` bytes at `offset` */
    size_t offset, bytes;
};
struct run_ring {
    struct own_run *at;
    size_t cap; /* a power of two */
    uint64_t head, tail;
    uint64_t given; /* those before it were given to the present leader */
    size_t bytes;
};

/* What a peer forwards, while this node leads. */
struct forward_in {
    uint64_t peer;
    uint64_t session;  /* of the peer's choosing, ascending in the life of its process */
    uint64_t next_seq; /* the only sequence that may follow: what is below it was taken */
    bool broken;       /* of this session nothing is taken any more */
};

/* A round that was answered, but not yet applied up to its index. */
struct barrier_ready {
    uint64_t barrier;
    uint64_t index;
};
#define NODE_BARRIERS_MAX 64

/* State hashes at the same log positions (P9). */
#define NODE_HASH_EVERY 1024 /* entries */
#define NODE_HASHES_KEPT 8
struct node_hash {
    uint64_t index;
    uint64_t hash;
};

struct peer_status {
    struct node_peer_info info;
    int64_t heard_ms; /* INT64_MIN: never */
    struct node_hash hashes[NODE_HASHES_KEPT];
};

/* A change of the membership that somebody waits for. */
struct member_wait {
    struct member_wait *next;
    struct ticket ticket; /* row NULL: a peer's, see peer and request */
    uint64_t peer, request;
    enum node_member_change change;
    struct raft_member member;
    int64_t since_ms;
    bool sent;      /* to a leader: its outcome is not known before its answer */
    unsigned request_count; /* sent so far: a leader may go before it answers */
    uint64_t index; /* of the entry, 0: not appended here */
    uint64_t term;
};

/* A ring that grows by doubling; a large one is given back when it is empty. */
struct ticket_ring {
    struct node_ticket *at;
    size_t cap; /* a power of two */
    uint64_t head, tail;
};

/* An entry of ours that is not applied yet. */
struct pending_entry {
    uint64_t index;
    uint64_t stamp_ms;
    uint32_t op_count;
};
struct pending_ring {
    struct pending_entry *at;
    size_t cap;
    uint64_t head, tail;
    uint32_t op_count; /* in all of them */
};

/* Packs that a history read looks at. */
struct read_refs {
    struct read_refs *next;
    const struct store_read *read;
    size_t count;
    struct blob *packs[];
};

struct checkpoint_mark {
    uint64_t batch;  /* number in the store; 0: none */
    uint64_t index;
    uint64_t rev;
};

#define NODE_CHECKPOINTS_IN_FLIGHT 4

struct node {
    struct node_config cfg;
    struct node_hooks hooks;
    struct dirlock *lock;
    struct identity identity;
    struct db_current db; /* which directory the store is in */
    struct state *state;
    struct raft *raft;
    struct wal *wal;
    struct store *store;
    struct workers *workers;
    bool open; /* false while recovering: nothing is told to anybody */
    struct replay *replay; /* while the log is opened: what it gives back */

    /* the batch being filled */
    struct buf batch;
    uint32_t batch_ops;
    uint64_t batch_first_seq;
    uint64_t next_seq;
    uint64_t done_seq; /* highest own sequence that is finished */

    struct ticket_ring tickets;
    struct pending_ring pending;
    struct run_ring runs;
    uint64_t batch_number;

    /* forwarding */
    struct forward_in forwards[RAFT_MEMBERS_MAX];
    size_t forward_count;
    struct buf foreign; /* runs of others for the next entry, one behind the other */
    uint32_t foreign_runs;
    uint32_t foreign_ops;
    uint64_t session; /* of ours: a new one for each leader, and after each refusal */
    bool session_begun;
    int64_t progress_ms; /* when a leader was given something, or something was finished, last */
    uint64_t clock_term; /* the term whose leader's clock clock_ms is; 0: the log's stamps only */
    int64_t retry_ms; /* not to be forwarded before: the leader refused */
    struct buf wire;  /* a payload being built */

    /* leading */
    uint64_t lead_term;  /* the term in which this node leads and has applied an entry of its own */
    int64_t lead_since_ms;
    uint64_t known_leader;
    uint64_t known_term;
    int64_t leader_seen_ms; /* when there was a leader last */
    bool leaderless_told;
    uint64_t told_commit; /* leader: what its followers know is committed, or will with this turn */
    bool at_once;         /* leads, and is the only voter */
    bool diverged;        /* P9: the others agree on another state */

    /* reads */
    uint64_t barrier;      /* newest given out */
    bool barrier_wanted;   /* not yet asked for */
    struct barrier_ready barriers[NODE_BARRIERS_MAX];
    size_t barrier_count;

    /* peers */
    struct peer_status peers[RAFT_MEMBERS_MAX];
    size_t peer_count;
    struct node_hash hashes[NODE_HASHES_KEPT]; /* ring by index */
    struct member_wait *member_waits;
    uint64_t member_request;
    int64_t in_sync_ms[RAFT_MEMBERS_MAX]; /* beside the members: since when a joining one is; 0 */
    bool in_update;        /* payloads that arrive inside node_update would come back to it */
    struct buf keys, ids; /* for expiry */

    /* writes handed to the WAL: its sequence and raft's name for it */
    struct raft_write *writes;
    size_t write_cap;
    uint64_t write_head, write_tail; /* wal sequence of the first kept is write_first_wal_seq */
    uint64_t write_first_wal_seq;
    struct wal_entry *wal_entries;
    size_t wal_entry_cap;

    /* time */
    int64_t mono_us;
    int64_t wall_ms;
    uint64_t clock_ms;      /* cluster clock */
    int64_t clock_mono_ms;  /* when it was moved */
    uint64_t stamp_ms;      /* newest given to an entry */
    int64_t append_mono_ms; /* newest append */
    int64_t too_large_told_ms; /* nothing is said of a run that is too large before that */
    int64_t logged_mono_ms; /* newest entries handed to the log, on any member */
    int64_t second_ms;      /* last time the once-a-second work ran */
    int64_t compacted_ms;   /* last time a compaction was proposed */
    bool expiring;          /* an expiry of ours is in the log, not yet applied */
    bool compacting;        /* likewise a compaction */
    bool ghosts_left;       /* compaction has passed keys that are still in memory */

    /* checkpoints */
    uint64_t dirty_entries, dirty_bytes;
    int64_t dirty_since_ms; /* 0: clean, but for the clock */
    int64_t clock_since_ms; /* 0: no clock entry was applied since the last one */
    struct checkpoint_mark marks[NODE_CHECKPOINTS_IN_FLIGHT + 2];
    size_t mark_count;      /* in flight */
    uint64_t stored_index;  /* newest durable checkpoint */
    uint64_t stored_before; /* the one before */
    uint64_t compact_told;  /* revision the store was told */
    struct raft_members members; /* as of the applied index: raft's are in force when appended */

    struct read_refs *refs;
    struct node_snapshot *snapshot;
    struct store_read **held_reads; /* asked for while the store is exchanged */
    size_t held_read_count, held_read_cap;
    bool congested;
    bool disk_low;
    struct node_stats stats;
    struct node_disk_probe *probe;
    struct buf *seeds; /* names and values in turn */
    size_t seed_count;
};

/* node_ticket.c */
void ticket_ring_init(struct ticket_ring *r);
void ticket_ring_deinit(struct ticket_ring *r);
void ticket_ring_push(struct ticket_ring *r, const struct ticket *t, uint64_t seq, uint64_t after);
/* NULL if empty; borrowed until the next push or pop. */
const struct node_ticket *ticket_ring_head(const struct ticket_ring *r);
struct node_ticket ticket_ring_pop(struct ticket_ring *r);
static inline size_t ticket_ring_count(const struct ticket_ring *r) { return r->tail - r->head; }

/* Finishes the local items at the head that may stand behind the operation with this sequence. */
void node_run_locals(struct node *n, uint64_t seq);
/* Finishes everything with a refusal; used at the end of the process. */
void node_fail_tickets(struct node *n, enum err e);
/* The apply sink's callbacks. */
void node_sink(struct node *n, struct apply_sink *out);

/* node_propose.c */
void node_seal(struct node *n);           /* the batch of this turn becomes a run or an entry */
void node_forward(struct node *n);        /* gives the leader what it was not given yet */
void node_forget_given(struct node *n);   /* another leader: everything is to be given again */
void node_leader_note(struct node *n);    /* looks whether there is another one, or another term */
void node_expire_tickets(struct node *n); /* the request timeout */
void node_runs_finished(struct node *n);  /* drops runs that are finished */
void node_runs_deinit(struct node *n);
enum err node_on_forward(struct node *n, uint64_t peer, struct slice in) MUST_USE;
enum err node_on_refused(struct node *n, uint64_t peer, struct slice in) MUST_USE;
enum err node_propose_internal(struct node *n, const struct op *op) MUST_USE;

/* node_clock.c */
/* Leadership begins; the log held no later term than term_before. */
void node_clock_lead(struct node *n, uint64_t term_before);
void node_clock_advance(struct node *n);
void node_clock_heard(struct node *n, uint64_t term, uint64_t clock_ms);
void pending_push(struct pending_ring *r, const struct pending_entry *e);
void pending_drop(struct pending_ring *r, uint64_t applied_index);

/* node_turn.c */
void node_seed_settings(struct node *n);
void node_update(struct node *n); /* takes raft's update and carries it out */
void node_wal_take(struct node *n, const struct wal_done *done);
void node_writes_push(struct node *n, uint64_t wal_seq, const struct raft_write *w);

/* node_peer.c */
enum node_payload {
    PAYLOAD_RAFT = 1,
    PAYLOAD_FORWARD = 2,
    PAYLOAD_REFUSED = 3,
    PAYLOAD_STATUS = 4,
    PAYLOAD_MEMBER_REQUEST = 5,
    PAYLOAD_MEMBER_ANSWER = 6,
    PAYLOAD_PUBLISH = 7,
    PAYLOAD_LOST = 8,
    PAYLOAD_SNAPSHOT_FIRST = 16, /* to 31: node_snapshot.h */
    PAYLOAD_SNAPSHOT_LAST = 31,
};
void node_payload_begin(struct node *n, enum node_payload kind); /* in n->wire */
void node_payload_send(struct node *n, uint64_t peer, enum node_channel channel);
void node_send_raft(struct node *n, const struct raft_msg *m);
void node_status_send(struct node *n); /* once a second */
void node_lost_send(struct node *n, uint64_t peer); /* it has forgotten what it acknowledged */
void node_hash_note(struct node *n);   /* after an entry */
void node_peers_adopt(struct node *n); /* another configuration is in force */

/* node_member.c */
void node_members_step(struct node *n); /* once an update: finishes what is decided, sends requests */
void node_members_promote(struct node *n); /* once a second */
enum err node_on_member_request(struct node *n, uint64_t peer, struct slice in) MUST_USE;
enum err node_on_member_answer(struct node *n, uint64_t peer, struct slice in) MUST_USE;
void node_members_fail(struct node *n); /* the end of the process */
void node_members_applied(struct node *n, uint64_t index, uint64_t term);
uint64_t node_random_id(const struct node *n, uint64_t salt); /* node.c */

/* node_install.c */
void node_fatal(const struct node *n, const char *text); /* ends the process */
enum err node_install_open(struct node *n, struct errmsg *em) MUST_USE;
void node_install_turn(struct node *n);
void node_wish(struct node *n, const struct raft_wish *wish);
void node_read_start(struct node *n, struct store_read *read_taken); /* node_store.c */

/* node_store.c */
void node_checkpoint_if_due(struct node *n, bool now);
void node_store_poll(struct node *n);
void node_compaction_tell(struct node *n);
void node_probe_start(struct node *n);
void node_probe_free(struct node *n);
/* All that `store` (open, not yet scanned) holds into `s`, new and empty; on an error, and when the
 * store is empty, `s` must not be used any more. dir is for messages. ERR_TIMEOUT when *cancelled
 * (NULL: never) becomes 1. Any thread, if the store and the state are its own. */
enum err node_load_from(struct store *store, const struct store_info *info, const char *dir,
                        struct state *s, struct raft_members *members, const uint32_t *cancelled,
                        struct errmsg *em) MUST_USE;
enum err node_load(struct node *n, struct store_info *info, const char *dir,
                   struct raft_members *members, struct errmsg *em) MUST_USE;

#endif

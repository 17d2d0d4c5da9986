/* node/node_int.h - private to node/: the one structure that holds a member together. */
#ifndef NODE_INT_H
#define NODE_INT_H

#include "disk/dirlock.h"
#include "disk/identity.h"
#include "disk/workers.h"
#include "node/node.h"

/* What waits for the log, in log order. seq 0: a local item. */
struct node_ticket {
    struct ticket ticket;
    uint64_t seq;
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
};
struct pending_ring {
    struct pending_entry *at;
    size_t cap;
    uint64_t head, tail;
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
    int64_t second_ms;      /* last time the once-a-second work ran */
    int64_t compacted_ms;   /* last time a compaction was proposed */
    bool expiring;          /* an expiry of ours is in the log, not yet applied */
    bool compacting;        /* likewise a compaction */

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
    bool congested;
    bool disk_low;
    struct node_stats stats;
    struct node_disk_probe *probe;
};

/* node_ticket.c */
void ticket_ring_init(struct ticket_ring *r);
void ticket_ring_deinit(struct ticket_ring *r);
void ticket_ring_push(struct ticket_ring *r, const struct ticket *t, uint64_t seq);
/* NULL if empty; borrowed until the next push or pop. */
const struct node_ticket *ticket_ring_head(const struct ticket_ring *r);
struct node_ticket ticket_ring_pop(struct ticket_ring *r);
static inline size_t ticket_ring_count(const struct ticket_ring *r) { return r->tail - r->head; }

/* Finishes what stands at the head and waits for no operation. */
void node_run_locals(struct node *n);
/* Finishes everything with a refusal; used at the end of the process. */
void node_fail_tickets(struct node *n, enum err e);
/* The apply sink's callbacks. */
void node_sink(struct node *n, struct apply_sink *out);

/* node_turn.c */
void node_seal(struct node *n);
void node_update(struct node *n); /* takes raft's update and carries it out */
void node_wal_take(struct node *n, const struct wal_done *done);
enum err node_propose_internal(struct node *n, const struct op *op) MUST_USE;

/* node_store.c */
void node_checkpoint_if_due(struct node *n, bool now);
void node_store_poll(struct node *n);
void node_compaction_tell(struct node *n);
void node_probe_start(struct node *n);
void node_probe_free(struct node *n);
enum err node_load(struct node *n, struct store_info *info, struct raft_members *members,
                   struct errmsg *em) MUST_USE;

#endif

/* node/node.h - one member at work: raft, the disk and the state machine, driven turn by turn.
 *
 * PURPOSE  Take operations, replicate them, apply them in log order and finish each one's ticket
 *          exactly once; cut checkpoints; keep the cluster clock. Does not know commands, clients
 *          or sockets.
 * OWNS     raft, state (nobody else gets it writable), WAL, store, the data directory, tickets.
 * USES     raft, state, mvcc, disk, base. Time comes in with every turn.
 * THREADS  Loop thread only.
 * LIMITS   struct node_config.
 * ERRORS   node_open: ERR_CORRUPT, ERR_IO, ERR_LOCKED, ERR_CONFIG with file and offset in errmsg.
 *          node_propose: ERR_CLUSTERDOWN, ERR_BUSY, ERR_NOSPACE, ERR_REQUEST_LIMIT.
 *
 * INVARIANTS
 *  I1  A ticket's `done` is called exactly once, in the order of the log; a local item's at its
 *      place between the operations that were proposed before and after it.
 *  I2  Nothing is applied, answered or told to a watcher before it is durable on a quorum.
 *  I3  A checkpoint holds everything up to one applied index and nothing behind it; the log is cut
 *      only below the last durable checkpoint but one.
 *  I4  The stamps in the log never fall. Between two turns a leader's clock advances at most one
 *      election timeout; what is known of a clock belongs to the term of the leader it came from.
 *  I5  The incarnation is on disk before the first operation of this run is proposed.
 *  I6  Operations of this node enter every leader's log in the order of their sequences; one that
 *      was answered without being applied is below the floor of all later ones, so never is.
 *  I7  A leader proposes only after an entry of its own term is applied: it then knows the newest
 *      stamp and everything that was ever answered.
 */
#ifndef NODE_H
#define NODE_H

#include "base/buf.h"
#include "disk/store.h"
#include "disk/wal.h"
#include "raft/raft.h"
#include "state/state.h"

struct node;

/* What a fresh directory is to become a part of.
 * member_id 0: a group of one, made here. Else ids were agreed on beforehand (server/bootstrap.h):
 * with members, a group that all of them make in the same way at the same time, this one among
 * them; without, a member that was added to a group (cluster_id) and waits for its leader. */
struct node_group {
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t directory_id;
    const struct raft_members *members; /* NULL: waits. Borrowed during node_open */
};

struct node_config {
    const char *dir;
    const char *name;
    const char *peer_address;
    const char *client_address;
    const char *version;     /* told to the others, NULL: none */
    uint64_t random[4];      /* from the kernel, new at each start: ids, seeds, salt */
    int64_t heartbeat_ms;
    int64_t election_timeout_ms;
    uint64_t snapshot_count; /* a checkpoint at the latest after so many entries */
    uint64_t checkpoint_bytes; /* ... or so many bytes of rows */
    int64_t checkpoint_ms;     /* ... or so long after the first change */
    enum wal_backend wal_backend;
    uint64_t wal_segment_bytes;
    uint64_t wal_keep_bytes;
    uint64_t store_buffer_bytes;
    uint64_t store_cache_bytes;
    uint64_t store_backlog_bytes_max; /* proposals wait above it */
    uint64_t uncommitted_bytes_max;   /* likewise */
    uint64_t disk_reserve_bytes;      /* free space below which growth is refused */
    uint32_t worker_count;
    /* Replicated settings to propose when a new group is made: name, value pairs. */
    const struct slice *seed_settings;
    size_t seed_setting_count;
    int64_t request_timeout_ms; /* an operation that is not applied by then is answered without */
    /* The group, for a directory that has none yet: see struct node_group. */
    struct node_group group;
    /* The monotonic clock, now: an entry's stamp must not lie before its operations were received. */
    int64_t (*mono_us)(void);
    /* Tests and the simulator: NULL is the kernel. manual: no thread is started; node_disk_step()
     * does what the threads would. */
    const struct disk_io *io;
    bool manual;
    /* Tests: called instead of the process ending when the disk fails. */
    void (*on_fatal)(void *ctx, const char *line);
    void *on_fatal_ctx;
};

/* Whom to tell, by id, never by pointer: the client may be gone. 40 bytes, a plain value. */
struct ticket {
    uint64_t client_id;
    uint32_t kind;  /* the callee's */
    uint32_t flags; /* the callee's */
    const void *row; /* static data of the callee's (a command's row) */
    void *data;      /* owned by the callee from done() on; always released there */
    uint64_t arg;
};

/* Streams of bytes between two members. What is urgent must not queue behind what is large. */
enum node_channel {
    NODE_CHANNEL_URGENT, /* heartbeats, votes, acknowledgements: small */
    NODE_CHANNEL_MAIN,   /* entries, forwarded operations, PUBLISH */
    NODE_CHANNEL_BULK,   /* snapshots: windowed by the node itself */
    NODE_CHANNEL_COUNT
};

/* Called on the loop thread, inside node_turn and node_log_poll only (`send` and `diverged` also inside
 * node_receive). */
struct node_hooks {
    void *ctx;
    /* The operation was applied (op, res), or its local place was reached (op == NULL, res == NULL;
     * v shows the state there), or it was refused before the log (op == NULL, res->err says why). */
    void (*done)(void *ctx, const struct ticket *t, const struct op *op,
                 const struct op_result *res, const struct view *v);
    /* An element of a transaction that this node proposed; see apply_sink. */
    void (*element)(void *ctx, const struct ticket *t, uint32_t ordinal, const struct op *op,
                    const struct op_result *res, const struct view *v);
    bool (*wants_prev)(void *ctx, struct slice key);
    void (*event)(void *ctx, const struct mvcc_event *ev);
    void (*life)(void *ctx, struct slice key, const char *what);
    /* After each applied entry. */
    void (*applied)(void *ctx, uint64_t index);
    /* A history read is complete; the result is borrowed for the call. */
    void (*read_done)(void *ctx, const struct store_read *read);
    /* Proposals that had to wait may go on (see node_is_congested). */
    void (*uncongested)(void *ctx);
    /* Everything that was answered before node_barrier() gave `barrier` (or one below) is applied
     * here. Barriers come in ascending order; not every one is told. */
    void (*barrier)(void *ctx, uint64_t barrier);
    /* The state machine was replaced by a snapshot: revisions (old_rev, new_rev] have no events.
     * Pointers into the old state are dead. */
    void (*state_replaced)(void *ctx, uint64_t old_rev, uint64_t new_rev);
    /* Nobody has led for two election timeouts (false), or somebody does again (true). */
    void (*leader_known)(void *ctx, bool known);
    /* The others agree on another state (P9): from here on node_read_check refuses, and nothing of this
     * one's may be shown any more. Once. NULL: the caller shows nothing by itself. */
    void (*diverged)(void *ctx);
    /* Other members; also once at the start. Who is being removed stays one until that is committed; a
     * directory id that is not committed is 0. Borrowed. */
    void (*members)(void *ctx, const struct raft_members *members);
    /* Bytes for a peer, borrowed for the call: sends them, or loses them, never waits. In order on
     * one channel. NULL: a group that never has peers. */
    void (*send)(void *ctx, uint64_t peer, enum node_channel channel, struct slice payload);
    /* What was given to send should leave now: this node's disk comes next. NULL: it leaves at the
     * end of the turn. */
    void (*flush)(void *ctx);
    /* A message of PUBLISH came from a peer; kind as it was given there. */
    void (*published)(void *ctx, uint8_t kind, struct slice channel, struct slice message);
};

/* Locks the directory, creates or recovers, replays everything that is committed. Blocks. */
enum err node_open(const struct node_config *cfg, const struct node_hooks *hooks, int64_t mono_ms,
                   int64_t wall_ms, struct node **out, struct errmsg *em) MUST_USE;
/* Writes a last checkpoint, stops the threads, unlocks. Open tickets are finished with
 * ERR_TIMEOUT. Blocks. */
void node_close(struct node *n);

/* --- the loop ------------------------------------------------------------------- */

/* One turn: publishes what was proposed, takes completions, applies, expires, checkpoints. */
void node_turn(struct node *n, int64_t mono_us, int64_t wall_ms);
/* Between turns: of all that only what the log has finished, and what follows from it. True: a turn must
 * follow without a sleep. False: nothing was there, at the cost of a few loads. */
bool node_log_poll(struct node *n);
/* Before an orderly end: a leader hands over to another voter, and what was proposed is finished. False:
 * nothing is left to wait for (or never was: a group of one); ask again after later turns. */
bool node_retire(struct node *n);
/* Tests: ends as a crash would, writing nothing. Open tickets are finished with ERR_TIMEOUT. */
void node_abandon(struct node *n);
/* Tests: carries out one thing that a thread would do; false: there is none. Only with manual. */
bool node_disk_step(struct node *n);
/* How long the loop may sleep at most, in us; -1 for ever. */
int64_t node_sleep_us(const struct node *n, int64_t mono_us);
bool node_work_ready(const struct node *n); /* a completion waits: one or two loads */
bool node_may_spin(const struct node *n);   /* false while something is with the disk */
bool node_is_logging(const struct node *n); /* entries came in the last 100 ms */
bool node_is_sole_voter(const struct node *n); /* nobody else has to agree to a write */
bool node_about_to_sleep(struct node *n);   /* false: do not sleep, something is there already */
void node_woke(struct node *n);
size_t node_fds(const struct node *n, int fds[4]); /* to be watched for reading */

/* --- clients' operations ------------------------------------------------------------ */

/* Encodes and queues; *op and its slices are not needed afterwards. On an error the ticket is
 * not taken. key2_to_end: see op_encode. */
enum err node_propose(struct node *n, const struct op *op, bool key2_to_end,
                      const struct ticket *t) MUST_USE;
/* Queues a local item behind everything proposed so far. */
void node_local(struct node *n, const struct ticket *t);
/* True: stop reading commands until hooks.uncongested. */
bool node_is_congested(struct node *n);
/* OK, or ERR_CLUSTERDOWN: this node does not serve (any more). */
enum err node_read_check(const struct node *n) MUST_USE;
/* The number of the batch that is being filled. While a client's operation is in it, what that
 * client reads may be a local item. */
uint64_t node_batch_number(const struct node *n);

/* --- reads ---------------------------------------------------------------------------- */

/* Reads may be answered from memory at once: this is the only voter, and it leads. */
bool node_read_at_once(const struct node *n) MUST_USE;
/* The barrier of this turn's reads: see hooks.barrier. Ascending. If nobody leads it never comes;
 * who waits gives up by himself. */
uint64_t node_barrier(struct node *n);

/* --- peers ------------------------------------------------------------------------------ */

/* A payload from a member whose identity the transport has checked. Nothing in it is believed:
 * ERR_PROTO, ERR_CORRUPT, ERR_UNSUPPORTED if it cannot be; the connection should be closed then. */
enum err node_receive(struct node *n, uint64_t peer, struct slice payload) MUST_USE;
/* What was sent to this member lately may be lost. */
void node_unreachable(struct node *n, uint64_t peer);
/* To all other members; at most once, in order for each. kind is the caller's. */
void node_publish(struct node *n, uint8_t kind, struct slice channel, struct slice message);

/* Changes of the membership, on any node. The ticket is done with op NULL and a result whose err
 * and text say what was refused; on OK its id is the member's. */
enum node_member_change {
    NODE_MEMBER_ADD = 1, /* member: peer_address, name; role RAFT_JOINING or RAFT_LEARNER */
    NODE_MEMBER_JOIN,    /* likewise with directory_id and client_address; again: no change */
    NODE_MEMBER_REMOVE,  /* member.id */
    NODE_MEMBER_PROMOTE, /* member.id */
    NODE_MEMBER_UPDATE,  /* member.id, peer_address */
    NODE_MEMBER_TRANSFER /* member.id becomes the leader */
};
void node_member_change(struct node *n, enum node_member_change change,
                        const struct raft_member *member, const struct ticket *t);

/* What another member said of itself, at most some seconds ago. */
struct node_peer_info {
    uint64_t id;
    int64_t age_ms; /* since it said so; -1: never */
    uint64_t term, index, applied, revision, compacted, store_bytes, live_bytes;
    uint64_t leader;
    uint64_t match; /* as its leader knows it; 0: not known here */
    uint32_t alarms; /* bit 1 << ALARM_... */
    char version[24];
};
/* It leads, and an entry of its own term is applied: it knows all committed members. */
bool node_leads(const struct node *n);
/* False: not a member. Works for this node too. */
bool node_peer_info(const struct node *n, uint64_t id, struct node_peer_info *out);

/* Starts a history read (store.h) with the rows that are still in memory added. read_done later. */
void node_read(struct node *n, struct store_read *read_taken);

/* --- looking -------------------------------------------------------------------------- */

const struct state *node_state(const struct node *n);
const struct raft *node_raft(const struct node *n);
struct view node_view(const struct node *n);
uint64_t node_clock_ms(const struct node *n); /* the cluster clock now, for remaining times */
int64_t node_wall_ms(const struct node *n);   /* this turn's wall clock */
uint64_t node_member_id(const struct node *n);
uint64_t node_cluster_id(const struct node *n);
bool node_compacted_physically(const struct node *n, uint64_t rev); /* its rows are gone from disk */
bool node_disk_low(const struct node *n); /* below disk_reserve_bytes */

struct node_stats {
    uint64_t proposed_ops, proposed_batches, applied_ops, applied_entries;
    uint64_t checkpoint_count, checkpoint_index;
    uint64_t ticket_count;
    uint64_t expired_count;
    uint64_t timeout_count; /* operations that were not applied within request_timeout_ms */
    uint64_t forwarded_ops; /* given to a leader, once more for each time */
    uint64_t forwarded_taken_ops; /* of others, while this one led */
    uint64_t snapshots_sent, snapshots_installed, snapshots_failed;
    uint64_t snapshot_sent_bytes, snapshot_received_bytes;
    bool snapshot_receiving;
    uint64_t store_backlog_bytes, store_bytes, store_file_batch_count, store_file_count;
    uint64_t disk_free_bytes;
    struct wal_stats wal;
    int64_t apply_us_max;
};
void node_stats_get(struct node *n, struct node_stats *out);

#endif

/* node/node_snapshot.h - followers that are far behind: entries from the log, or a whole snapshot.
 *
 * PURPOSE  Answer raft's wishes: read entries back from the log, or stream the store to the peer; and
 *          be such a peer: take a snapshot, check it, put it in the place of the present one so that
 *          a crash leaves the one or the other. Decides nothing about who needs what.
 * OWNS     struct node_snapshot: one outgoing transfer, one incoming, reads of the log; the file
 *          db.current after node_snapshot_new. A done queue for what workers finish.
 * USES     disk, raft's events (through hooks), state, node_import.h, node_snapshot_msg.h.
 * THREADS  Loop thread only; all that may block is done by workers.
 * LIMITS   NODE_SNAPSHOT_*. One transfer each way; who comes later is told so, or waits.
 * ERRORS   A transfer that fails is logged and told to raft; raft asks again. Nothing here ends the
 *          process but a db.current that could not be replaced (hooks.fatal).
 *
 * INVARIANTS
 *  I1  Of one incoming snapshot: raft has agreed (SNAPSHOT_BEGIN) before a byte of it is on disk, and
 *      is told exactly once how it ended, INSTALLED or ABORTED.
 *  I2  Order on disk: all of the new store synced and read back -> mark snapshot-begin durable in the
 *      log -> db.current names the new store -> mark snapshot durable (the log restarts behind it)
 *      -> in force. In force means: an answer of this node may rest on it.
 *  I3  While an export goes on, and NODE_SNAPSHOT_HOLD_MS after, the log keeps all behind its index.
 *  I4  Entries are answered to raft only in the term in which they were asked for.
 *
 * What a crash leaves, and what the next start does (X = index of the snapshot):
 *  crash after                      db.current  log                       the start
 *  BEGIN, chunks, reading back      old         as before                 removes the new directory
 *  mark snapshot-begin              old         + begin X                 likewise; the mark stays and
 *                                                                         means nothing by itself
 *  db.current replaced              new, X      begin X, snapshot < X     finds the store ahead, or
 *                                                                         the log of another history:
 *                                                                         node_swap_is_unfinished;
 *                                                                         keeps term and vote, drops
 *                                                                         the log, writes mark
 *                                                                         snapshot X; removes the old
 *  mark snapshot                    new, X      snapshot X, ends at X     an ordinary one
 *  in force                         new, X      snapshot X, then entries  an ordinary one
 * db.current says of which index and term its store was when it was installed. Only a store that is
 * still exactly there, with a durable snapshot-begin for exactly that, may be ahead of the log.
 */
#ifndef NODE_SNAPSHOT_H
#define NODE_SNAPSHOT_H

#include "disk/db_current.h"
#include "disk/wal.h"
#include "node/node.h"
#include "node/node_import.h"
#include "node/node_snapshot_msg.h"

#define NODE_SNAPSHOT_WINDOW 4            /* chunks not yet acknowledged */
#define NODE_SNAPSHOT_SIGN_MS 1000        /* a receiver says at least so often that it is there */
#define NODE_SNAPSHOT_REPEAT_MS 2000      /* BEGIN and END are said again after so long */
#define NODE_SNAPSHOT_ANSWER_MS 10000     /* a sender gives up without an answer ... */
#define NODE_SNAPSHOT_STALL_MS 60000      /* ... or so long without progress, whatever the peer says */
#define NODE_SNAPSHOT_CHUNK_MS 1000       /* ... for each chunk more, when it reads all of them back */
#define NODE_SNAPSHOT_SILENCE_MS 15000    /* a receiver gives up without a word */
#define NODE_SNAPSHOT_ORPHAN_MS 3000      /* ... or so long, when another leads since: it has one too */
#define NODE_SNAPSHOT_HOLD_MS 30000       /* how long the log is kept for one who has a snapshot */
#define NODE_SNAPSHOT_POLL_MS 5           /* while the new store is behind */
#define NODE_WISH_BYTES (1u << 20)        /* of entries read for one wish; one entry always fits */

struct node_snapshot;

/* Called on the loop, inside the calls below. */
struct node_snapshot_hooks {
    void *ctx;
    /* May be lost; never waits. BEGIN, CHUNK and END go to BULK, in order; answers to MAIN. */
    void (*send)(void *ctx, uint64_t peer, enum node_channel channel, struct slice payload);
    /* raft_step */
    enum err (*raft)(void *ctx, const struct raft_event *ev);
    uint64_t (*term)(void *ctx); /* raft_term */
    /* wal_submit of marks. Its sequence; node_snapshot_log_done says when it is durable. */
    uint64_t (*log)(void *ctx, const struct wal_submission *s);
    /* Nothing of the present store is under way: all batches durable and polled, no read. Asked once
     * a turn while node_snapshot_is_installing until true; then install follows at once. */
    bool (*quiet)(void *ctx);
    /* Puts these in the place of the present state and store, which is returned: it is closed and
     * removed elsewhere. `in` is taken; its store is not started yet. */
    struct store *(*install)(void *ctx, const struct node_imported *in);
    /* db.current: nobody knows what is on disk. Must end the process. */
    void (*fatal)(void *ctx, const char *text);
};

struct node_snapshot_options {
    const char *dir;            /* the data directory. Copied */
    const struct disk_io *io;   /* of db.current */
    struct store_options store; /* with workers; how a new store is opened */
    struct store *present;      /* started; store.dir is not looked at */
    struct db_current current;
    struct wal *wal;
    uint64_t hash_seed;
    uint64_t reserve_bytes;
    uint64_t random; /* new at each start */
};

enum err node_snapshot_new(const struct node_snapshot_options *options,
                           const struct node_snapshot_hooks *hooks, struct node_snapshot **out,
                           struct errmsg *em) MUST_USE;
/* No hook is called any more. Waits for what workers have begun. Before the store and the log are
 * closed, after nothing is sent any more. NULL is allowed. */
void node_snapshot_free(struct node_snapshot *ns);
/* The same in two steps, where nothing has threads: until idle, workers are to be stepped. */
void node_snapshot_stop(struct node_snapshot *ns);
bool node_snapshot_is_idle(struct node_snapshot *ns);

/* --- once a turn --------------------------------------------------------------------------- */

/* Takes what workers finished, goes on, looks at the timeouts. */
void node_snapshot_turn(struct node_snapshot *ns, int64_t now_ms);
/* All submissions up to this one are durable (wal_poll). Before the turn. */
void node_snapshot_log_done(struct node_snapshot *ns, uint64_t wal_seq);
/* How long the loop may sleep at most; -1 for ever. */
int64_t node_snapshot_sleep_ms(const struct node_snapshot *ns, int64_t now_ms);
struct done_queue *node_snapshot_done_queue(struct node_snapshot *ns); /* to sleep on */

/* --- what happens --------------------------------------------------------------------------- */

/* A wish of raft's: answered later, in any case. stored_index: the newest checkpoint that is known
 * to be durable. last_index: raft_last_index. */
void node_snapshot_wish(struct node_snapshot *ns, const struct raft_wish *wish,
                        uint64_t stored_index, uint64_t last_index);
/* A payload whose first byte is SNAPSHOT_BEGIN to SNAPSHOT_KIND_LAST. */
enum err node_snapshot_receive(struct node_snapshot *ns, uint64_t peer,
                               struct slice payload) MUST_USE;

/* The log must keep what is above it: wal_drop_below(MIN(.., this + 1)). UINT64_MAX: nothing. */
uint64_t node_snapshot_keep_index(const struct node_snapshot *ns, int64_t now_ms);
/* The present store is about to be replaced: cut no checkpoint, begin no read. */
bool node_snapshot_is_installing(const struct node_snapshot *ns);

struct node_snapshot_stats {
    uint64_t sent, send_failed, sent_bytes;
    uint64_t installed, receive_failed, received_bytes;
    uint64_t entries_read; /* for wishes */
    uint64_t sending_to;   /* 0: nobody */
    bool receiving;
};
void node_snapshot_stats_get(const struct node_snapshot *ns, struct node_snapshot_stats *out);
void node_snapshot_stats_of(const struct node *n, struct node_snapshot_stats *out); /* in node.c */
/* The store that is being filled, or NULL: to step it where nothing has threads. */
struct store *node_snapshot_incoming_store(const struct node_snapshot *ns);

/* --- at the start ------------------------------------------------------------------------------ */

/* The store in force holds a snapshot that the log does not know to be installed: what is in the log
 * is of no use. Keep term and vote, submit the mark snapshot, restore no entry. */
bool node_swap_is_unfinished(const struct db_current *current, uint64_t applied_index,
                             uint64_t applied_term, const struct wal_found *log);

#endif

/* node/node_snapshot_int.h - the parts of node_snapshot: sending, receiving, entries for wishes. */
#ifndef NODE_SNAPSHOT_INT_H
#define NODE_SNAPSHOT_INT_H

#include "node/node_snapshot.h"

/* OUT_IDLE -> VIEW -> BEGUN -> SENDING -> ENDED -> IDLE; from each to CLOSING while a worker is at
 * it, then IDLE. */
enum out_phase {
    OUT_IDLE,
    OUT_VIEW,    /* the view is being taken */
    OUT_BEGUN,   /* BEGIN is said, no answer yet */
    OUT_SENDING, /* chunks */
    OUT_ENDED,   /* END is said; the export is closed */
    OUT_CLOSING, /* told raft how it ended; a worker still has the export */
};

struct outgoing {
    enum out_phase phase;
    uint64_t peer;
    uint64_t id;
    struct store_export *export;
    struct store_view view;
    bool busy;        /* a worker has the export */
    bool chunk_ready; /* read and not sent */
    uint64_t sent, acked; /* chunks */
    uint64_t count;
    uint32_t crc;
    int64_t said_ms;     /* BEGIN, END or a chunk went out */
    int64_t heard_ms;    /* the peer got on, or said that it works */
    int64_t progress_ms; /* the peer got on */
    uint64_t keep_index;
    uint64_t held_index; /* of the one before: see NODE_SNAPSHOT_HOLD_MS */
    int64_t held_until_ms;
};

/* IN_IDLE -> OPENING -> RECEIVING -> READING -> SETTLING -> BEGIN_MARK -> REPLACING -> MARK -> QUIET ->
 * IDLE; from each up to REPLACING to DISCARDING, then IDLE. */
enum in_phase {
    IN_IDLE,
    IN_OPENING,
    IN_RECEIVING,
    IN_READING,    /* all is there and is read back */
    IN_SETTLING,   /* waits for an outgoing transfer to end: it reads the present store */
    IN_BEGIN_MARK, /* ... for the log */
    IN_REPLACING,  /* ... for db.current */
    IN_MARK,       /* ... for the log */
    IN_QUIET,      /* ... for what still uses the present store */
    IN_DISCARDING,
};

struct incoming {
    enum in_phase phase;
    uint64_t peer;
    uint64_t id;
    struct store_view view;
    struct node_import *import;
    bool busy; /* a worker has the import, or db.current */
    struct buf queue[NODE_SNAPSHOT_WINDOW];
    size_t queue_count; /* oldest first */
    uint64_t term; /* as it began */
    uint64_t got, taken; /* chunks */
    bool ended;
    uint64_t end_count;
    uint32_t end_crc;
    int64_t said_ms, heard_ms;
    uint64_t wal_seq; /* what BEGIN_MARK and MARK wait for */
    struct db_current next;
    struct node_imported imported; /* from SETTLING on */
    struct work replace;
    enum err prepare_result, replace_result;
    struct errmsg replace_em;
    uint64_t installed_id; /* the last one that is in force, and whose it was */
    uint64_t installed_peer;
    uint64_t installed_chunks;
};

/* What a worker closes and removes: a store that was replaced, or one that will not be. */
struct disposal {
    const struct disk_io *io;
    struct work work;
    bool busy;
    struct store *store;
    struct state *state; /* NULL, or one that nobody else has seen */
    char path[DISK_PATH_BYTES_MAX]; /* "": it stays */
    enum err result;
    struct errmsg em;
};

enum wish_phase { WISH_NONE, WISH_WAITS, WISH_READS };

struct wish {
    enum wish_phase phase;
    bool again; /* another one came while this is read: wait again, for that */
    struct raft_wish wish;
    uint64_t term, stored_index, last_index;
    struct work work;
    struct wal_read *plan;
    uint64_t read_index, read_term; /* what is read is for this one */
    struct raft_entry *entries;
    size_t entry_count;
    size_t bytes;
    uint64_t before_term;
    enum err result;
    struct errmsg em;
};

struct node_snapshot {
    struct node_snapshot_options options;
    char dir[DISK_PATH_BYTES_MAX];
    struct node_snapshot_hooks hooks;
    struct done_queue done;
    struct store *present;
    struct db_current current;
    uint64_t next_id;
    int64_t now_ms;
    bool stopping;
    struct outgoing out;
    struct incoming in;
    struct disposal disposal;
    struct wish wishes[RAFT_MEMBERS_MAX];
    size_t wishes_waiting;
    struct buf payload;
    struct node_snapshot_stats stats;
};

void snapshot_send(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m);
/* OK while stopping. */
enum err snapshot_tell(struct node_snapshot *ns, const struct raft_event *ev) MUST_USE;
void snapshot_dispose(struct node_snapshot *ns, struct store *store, struct state *state,
                      const char *path);

void out_start(struct node_snapshot *ns, uint64_t peer, uint64_t stored_index);
void out_turn(struct node_snapshot *ns);
bool out_take(struct node_snapshot *ns, const struct work *w); /* false: not its work */
void out_stop(struct node_snapshot *ns);
enum err out_on_ack(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m) MUST_USE;
void out_on_refuse(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m);

void in_turn(struct node_snapshot *ns);
bool in_take(struct node_snapshot *ns, const struct work *w);
void in_stop(struct node_snapshot *ns);
void in_on_begin(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m);
void in_on_chunk(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m);
void in_on_end(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m);
/* Something of this peer's was damaged on its way. */
void in_on_damage(struct node_snapshot *ns, uint64_t peer);

void wish_turn(struct node_snapshot *ns);
bool wish_take(struct node_snapshot *ns, const struct work *w);
bool wish_is_reading(const struct node_snapshot *ns);

#endif

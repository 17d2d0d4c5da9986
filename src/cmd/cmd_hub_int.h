/* cmd/cmd_hub_int.h - private to the hub's files: who listens to what, and how events reach them.
 *
 * One stream of events (the revisions), several carriers: KV WATCH pushes (cmd_watch.c), blocked
 * XREAD and KV READ (cmd_stream.c), watch channels and keyspace notifications (cmd_hub_pubsub.c).
 *
 * INVARIANTS
 *  H1  A KV WATCH is LIVE (in hub->live or hub->live_prev, has been sent everything below the
 *      event being applied) or not; one that is not has a next_rev and is in exactly one of the
 *      lists behind, parked, queued, or has a read under way.
 *  H2  It becomes live only in a call in which it has read up to mvcc_rev, between two entries:
 *      no gap and no repeat.
 *  H3  Whether a connection takes a revision is decided at its first event of that revision, for
 *      all watches of the connection: a revision is never cut.
 *  H4  Nothing here survives its client: cmd_hub_client_gone drops it before the client goes, so
 *      the pointers to clients below are always good.
 *  H5  listener_count = watchers in both sets + subscriptions; 0 means that an event costs one load.
 *  H6  While nobody leads (cmd_hub_leader_known) no KV WATCH begins and no reader waits: who is told
 *      nothing must not take that for "nothing happens".
 *  H7  Once this member's state is known to differ (cmd_hub_diverged) nobody listens any more.
 */
#ifndef CMD_HUB_INT_H
#define CMD_HUB_INT_H

#include "cmd/cmd_int.h"
#include "watch/watch_set.h"
#include "watch/watch_timer.h"

#define HUB_CATCHUP_OUTPUT_BYTES (1u << 20) /* a watch that catches up fills output to here */
#define HUB_CHUNK_EVENTS 1000               /* of one history read */
#define HUB_CHUNK_BYTES (256u << 10)        /* likewise, and of a SNAPSHOT's page; at most an eighth of
                                               client-output-max-bytes */
#define HUB_CHUNK_SCAN_BYTES (4u << 20)
#define HUB_READS_MAX 8            /* history reads of watches at the same time */
#define HUB_TURN_ROWS 20000        /* rows looked at a turn for watches that catch up */
#define HUB_VERSION_STEPS 8        /* former versions of a key that are looked for in memory */
#define HUB_SNAPSHOT_QUERIES 256   /* former versions one page of a SNAPSHOT asks for */
#define HUB_PROGRESS_MS_MIN 100    /* PROGRESS is brought into these bounds */
#define HUB_PROGRESS_MS_MAX (24 * 3600 * 1000)
#define HUB_SWEEP_MS 1000          /* parked watches are looked at anyway */
#define HUB_WATCH_ID_MAX ((1ULL << 53) - 1)
#define HUB_STREAM_ENTRIES 1000    /* of XREAD and KV READ without COUNT */
#define HUB_IDLE_REVS 1000         /* a reader this far behind is told of progress */
#define HUB_BLOCK_MS_MAX 600000    /* BLOCK 0 answers with progress after this */

enum listener_kind { LISTENER_WATCH, LISTENER_READER, LISTENER_TOPIC };

/* What the sets hold. */
struct listener {
    struct watcher watcher;
    enum listener_kind kind;
};

/* A client that pushes go to; written once a turn. */
struct hub_peer {
    struct client *client; /* H4 */
    struct hub_peer *next_touched;
    bool touched;
};

/* A range with its own bytes. */
struct hub_range {
    enum watch_kind kind;
    struct slice start, end; /* internal; in bytes */
    uint8_t *bytes;
};

struct kv_watch;
struct hub_list {
    struct kv_watch *head, *tail;
    size_t count;
};

/* The shared part of the push frames of one event, by variant. */
enum { TAIL_KEYS_ONLY = 1, TAIL_PREV = 2, TAIL_VARIANTS = 4 };
struct hub_tail {
    struct buf bytes;
    struct blob *blob; /* instead, when it is large */
    bool ready;
};

enum topic_kind { TOPIC_CHANNEL, TOPIC_PATTERN, TOPIC_SHARD, TOPIC_KINDS };
struct topic;
struct subscription;
struct topic_table {
    struct topic **buckets;
    size_t bucket_count, topic_count;
};

struct cmd_hub {
    size_t listener_count; /* H5; first: the one load */
    struct cmd_env *env;
    struct watch_set *live;      /* all that do not ask for former values */
    struct watch_set *live_prev; /* those that do */
    struct hub_peer *touched;
    struct hub_list behind;      /* can go on now */
    struct hub_list parked;      /* their connection is full */
    struct hub_list queued;      /* wait for a history read to end */
    size_t reads; /* under way for watches */
    uint64_t turn;
    int64_t sweep_ms;
    bool is_leaderless;          /* H6 */
    struct watch_conn *demoted;  /* fell behind in the event at hand */
    struct stream_reader *ready; /* blocked readers that have something */
    struct watch_timers timers;  /* PROGRESS */
    struct hub_tail tails[TAIL_VARIANTS];
    struct buf json, name, frame;
    bool json_ready;
    /* cmd_hub_pubsub.c */
    uint64_t seed, serial;
    struct topic_table topics[TOPIC_KINDS];
    struct topic *patterns; /* all of them, linked */
    struct subscription **subscription_buckets;
    size_t subscription_bucket_count, subscription_count;
    uint64_t name_bytes; /* of all subscriptions */
};

/* --- cmd_hub.c ---------------------------------------------------------------------------- */

void hub_touch(struct cmd_hub *hub, struct hub_peer *peer);
void hub_flooded(struct cmd_hub *hub, const struct hub_peer *peer);
/* More is unsent than a client may have: nothing is added to it, and it is closed here and now. At the
 * end of the turn some of it may have been written, and the client would live on with a hole. A single
 * revision can be that large, and it is never cut. */
static inline bool hub_is_flooded(struct cmd_hub *hub, const struct hub_peer *peer)
{
    if (LIKELY(chain_bytes(peer->client->out) <= hub->env->limits.output_bytes_max)) return false;
    hub_flooded(hub, peer);
    return true;
}
void hub_peer_drop(struct cmd_hub *hub, struct hub_peer *peer);
void hub_listen(struct cmd_hub *hub, struct watch_set *set, struct listener *l, const struct hub_range *r);
void hub_unlisten(struct cmd_hub *hub, struct watch_set *set, struct listener *l);
void hub_range_copy(struct hub_range *out, const struct cmd_range *from);
void hub_range_deinit(struct hub_range *r);

/* H6. The node may know of a leader a moment before it tells. */
bool hub_is_leaderless(const struct cmd_hub *hub);

/* Names of watch streams and channels: `__watch__:p` (default_db), `__watch@3__:p`,
 * `__watchkey__:k`, `__watchkey@3__:k`. The rest borrows from name. False: another name. */
struct hub_name {
    bool is_key;
    bool has_db; /* the @ form */
    uint8_t db;
    struct slice rest;
};
bool hub_name_parse(struct slice name, uint8_t default_db, struct hub_name *out);
void hub_name_range(const struct hub_name *n, struct hub_range *out);

/* --- cmd_hub_encode.c: events as bytes -------------------------------------------------------- */

const char *hub_op_name(enum row_op op); /* "put", "del", "expire" */
/* The frame behind `kvwatch id`, RESP3. prev: NULL none; prev_rev as sent: 0 none, -1 compacted. */
struct hub_event {
    const char *op;
    struct slice key;   /* internal */
    struct slice value; /* at == NULL: null */
    uint64_t rev, create, version, lease;
    uint32_t n;
    struct slice prev;  /* at == NULL: null */
    int64_t prev_rev;   /* 0 none, -1 compacted */
};
void hub_event_of(const struct mvcc_event *ev, struct hub_event *out);
void hub_event_of_item(const struct store_item *item, struct hub_event *out);
void hub_encode_tail(struct buf *out, const struct hub_event *e, unsigned variant);
size_t hub_encode_head(uint8_t *out, uint64_t watch_id, bool with_prev); /* at most HUB_HEAD_BYTES_MAX */
#define HUB_HEAD_BYTES_MAX 48
/* One stream entry: [id, [field, value, ...]]. */
void hub_encode_entry(struct buf *out, const struct hub_event *e);
/* `<rev>-0` with op progress. */
void hub_encode_progress_entry(struct buf *out, uint64_t rev);
/* One event map of KV READ. */
void hub_encode_map(struct buf *out, const struct hub_event *e, bool with_prev, uint8_t proto);
void hub_encode_bulk(struct buf *out, struct slice s);
void hub_encode_json(struct buf *out, const struct hub_event *e);

/* --- cmd_hub_history.c: events that were ------------------------------------------------------- */

static inline size_t hub_chunk_bytes(const struct cmd_hub *hub)
{
    return MIN(HUB_CHUNK_BYTES, (size_t)hub->env->limits.output_bytes_max / 8);
}

struct hub_scan {
    struct slice start, end;
    bool no_put, no_del, with_prev;
    uint64_t next_rev; /* in: where to begin; out: where to go on */
    uint64_t to_rev;   /* <= mvcc_rev */
};
enum hub_scan_end {
    SCAN_END,       /* all up to to_rev was seen: next_rev > to_rev */
    SCAN_FULL,      /* take said enough, or the budget is spent */
    SCAN_HISTORY,   /* what comes next is not in memory: hub_read */
    SCAN_COMPACTED, /* next_rev is below the compacted revision */
};
/* False: enough; the scan stops before the next revision. */
typedef bool hub_take_fn(void *ctx, const struct store_item *item);
/* From the rows in memory, whole revisions; *budget counts rows down, and may go below 0 to end
 * a revision. */
enum hub_scan_end hub_scan_memory(struct cmd_hub *hub, struct hub_scan *scan, int64_t *budget,
                                  hub_take_fn *take, void *ctx);
enum hub_version { VERSION_NONE, VERSION_FOUND, VERSION_UNKNOWN };
/* What the key had at rev, if the rows in memory tell: FOUND fills *out, borrowed until the next change of
 * the key space. The entry's mod is above rev, and rev is not below the compaction. *budget: likewise. */
enum hub_version hub_version_at(const struct cmd_hub *hub, const struct entry *e, uint64_t rev, int64_t *budget,
                                struct row *out);
/* Starts a read of the same from the store. */
void hub_read_start(struct cmd_hub *hub, uint64_t client_handle, const struct hub_scan *scan,
                    uint64_t events_max, cmd_read_fn *done, void *data);
/* Gives the items of a finished read to take (its answer is ignored) and moves scan->next_rev:
 * SCAN_END, SCAN_FULL or SCAN_COMPACTED. */
enum hub_scan_end hub_read_take(struct cmd_hub *hub, const struct store_read *read,
                                struct hub_scan *scan, hub_take_fn *take, void *ctx);
void hub_reply_compacted(struct cmd_hub *hub, struct reply *r, uint64_t rev);

/* --- cmd_watch.c ----------------------------------------------------------------------------------- */

void hub_watch_event(struct cmd_hub *hub, struct listener *l, const struct mvcc_event *ev);
void hub_watch_event_end(struct cmd_hub *hub, const struct mvcc_event *ev);
void hub_watch_turn(struct cmd_hub *hub);
void hub_watch_writable(struct cmd_hub *hub, struct client *c);
void hub_watch_gone(struct cmd_hub *hub, struct client *c);
/* Revisions (old_rev, new_rev] had no events: what is live goes on from history. */
void hub_watch_replaced(struct cmd_hub *hub, struct client *c, uint64_t old_rev, uint64_t new_rev);
void hub_watch_cancel_all(struct cmd_hub *hub, struct client *c, enum err why);

/* --- cmd_stream.c, cmd_hub_range.c ------------------------------------------------------------------- */

void hub_reader_event(struct cmd_hub *hub, struct listener *l, const struct mvcc_event *ev);
void hub_reader_turn(struct cmd_hub *hub);
void hub_reader_replaced(struct cmd_hub *hub, struct client *c, uint64_t old_rev);
void hub_reader_refuse(struct cmd_hub *hub, struct client *c, enum err why); /* answers what waits */
enum err cmd_kv_read(struct cmd_ctx *cx);
enum err cmd_xrange(struct cmd_ctx *cx);
enum err cmd_xrevrange(struct cmd_ctx *cx);
/* `r`, `r-n`. False: no such form. has_n: the second number was given. */
bool hub_id_parse(struct slice arg, uint64_t *rev, uint64_t *n, bool *has_n);
void hub_reply_not_a_stream(struct reply *r, struct slice key);
bool hub_always_leaves(size_t argc, const struct slice *argv); /* true: for rows */

/* --- cmd_hub_pubsub.c ---------------------------------------------------------------------------------- */

/* Sends a message to the subscribers of a channel, and of patterns unless it is a shard's; returns
 * how many receive it. */
uint64_t hub_publish(struct cmd_hub *hub, bool shard, struct slice channel, struct slice message);
void hub_topic_event(struct cmd_hub *hub, struct listener *l, const struct mvcc_event *ev);
void hub_notify_event(struct cmd_hub *hub, const struct mvcc_event *ev);
void hub_notify_life(struct cmd_hub *hub, struct slice key, const char *what);
void hub_pubsub_gone(struct cmd_hub *hub, struct client *c);
void hub_pubsub_free(struct cmd_hub *hub);
/* False: the client has as many as it may, or their names are as long. */
bool hub_subscribe(struct cmd_hub *hub, struct client *c, enum topic_kind kind, struct slice name);
void hub_unsubscribe(struct cmd_hub *hub, struct client *c, enum topic_kind kind, struct slice name);
size_t hub_subscribed_count(const struct client *c, enum topic_kind kind);
/* The name of one of its subscriptions, at < count; borrowed until it is unsubscribed. */
struct slice hub_subscribed_at(const struct client *c, enum topic_kind kind, size_t at);
size_t hub_topic_count(const struct cmd_hub *hub, enum topic_kind kind);
size_t hub_topic_subscribers(const struct cmd_hub *hub, enum topic_kind kind, struct slice name);
void hub_topic_each(const struct cmd_hub *hub, enum topic_kind kind,
                    void (*visit)(void *ctx, struct slice name), void *ctx);

#endif

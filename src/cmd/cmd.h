/* cmd/cmd.h - commands: what a client typed, turned into operations and replies.
 *
 * PURPOSE  The contract between the dispatcher and the handlers: the environment, the context a
 *          handler gets, how it reads, proposes, waits and answers. Handlers never change state.
 * OWNS     struct client and what hangs on it (queued commands, watched keys, subscriptions).
 *          Not the connection: the server gives an output chain and a few functions.
 * USES     node, state, watch, mvcc, resp, base.
 * THREADS  Loop thread only.
 * LIMITS   struct cmd_limits, and CLIENT_* in cmd_client.h.
 * ERRORS   A handler returns enum err; the dispatcher writes it as the command's only reply.
 *          Handlers that need another text write the error themselves and return OK.
 *
 * INVARIANTS
 *  I1  Every command has exactly one reply that is not a push, in the order of the commands.
 *  I2  While client.pending > 0 (operations or local items on their way) nothing writes to the
 *      client's output but the done functions of those, in order; pushes may come between.
 *  I3  While client.blocked, no further command of that client is executed.
 *  I4  Nothing keeps a struct client pointer across turns: handles are kept, client_find() answers
 *      NULL for one that is gone.
 *  I5  Of what a client has pending all waits in the queue of cmd_barrier.c, or nothing: what comes
 *      behind follows it to there, or into the node's ring of tickets, or waits. Where the former is
 *      decides, not what the node may do by now: role and members may have changed in between.
 */
#ifndef CMD_H
#define CMD_H

#include "cmd/cmd_client.h"
#include "cmd/cmd_table.h"
#include "node/node.h"
#include "resp/resp.h"
#include "state/state.h"

#define CMD_DATABASES 16
#define CMD_PASSWORD_BYTES_MAX 512
#define CMD_SCAN_STEP_MAX 10000        /* entries one command looks at in one turn */

struct cmd_env;
struct cmd_ctx;
struct cmd_done;
struct cmd_peers;
/* --- the environment ------------------------------------------------------------------ */

/* What the server gives. link is the server's connection. */
struct cmd_io {
    void *ctx;
    void (*dirty)(void *ctx, void *link);
    void (*close)(void *ctx, void *link, bool after_flush);
    /* Deliver input again, from the next turn on; if it has ended and nothing is left, close. */
    void (*resume)(void *ctx, void *link);
    /* "address:port" of either end; returns out. */
    const char *(*address)(void *ctx, void *link, bool peer, char *out, size_t out_bytes);
    struct chain_pool *pool;
    void (*shutdown)(void *ctx);
    int64_t (*clock_us)(void *ctx); /* monotonic, now; for timing only */
    /* CONFIG. name is a pattern for get: pairs of bulk strings are appended to `names` as
     * name\0value\0; check: ERR_CONFIG and a text, ERR_NOT_FOUND; set: what was checked. */
    void (*config_get)(void *ctx, struct slice pattern, struct buf *pairs);
    enum err (*config_check)(void *ctx, struct slice name, struct slice value, struct errmsg *em);
    void (*config_set)(void *ctx, struct slice name, struct slice value);
    enum err (*config_rewrite)(void *ctx, struct errmsg *em);
    void (*peers)(void *ctx, struct cmd_peers *out); /* NULL: there is nothing to count */
};

struct cmd_limits {
    struct resp_limits resp;
    uint64_t output_bytes_max;       /* a client with more unsent is closed */
    uint64_t reply_bytes_max;        /* of KV RANGE, KV READ, XREAD: the rest when asked again */
    uint64_t watch_bytes_max;        /* unsent pushes of a connection; beyond: falls back to history */
    uint32_t watches_per_client_max;
    uint32_t subscriptions_per_client_max;
    uint64_t subscription_names_bytes_max; /* of a client, together */
    uint32_t waiting_reads_max;       /* of a group, that wait for a barrier: then TRYAGAIN */
    uint64_t waiting_reads_bytes_max; /* likewise, with what queues behind them */
    /* Replies and reads that wait behind operations of their clients. Below output_bytes_max: they may
     * all be one client's, and come at once. */
    uint64_t waiting_replies_bytes_max;
    uint32_t slowlog_count_max;
    int64_t request_timeout_ms;      /* a read that cannot be served by then is refused */
    int64_t slowlog_us;              /* slower commands are logged; < 0: none */
    int64_t latency_ms;              /* what takes so long is an event of LATENCY; 0: none */
};

struct cmd_info { /* for INFO and HELLO; filled by the server once */
    const char *version; /* ours */
    const char *redis_version; /* what clients parse */
    char run_id[41];
    uint16_t port;
    int64_t start_wall_ms;
    const char *executable, *config_file, *node_name;
    const char *client_address;
};

struct cmd_stats {
    uint64_t commands, connections, rejected_connections, net_input_bytes, net_output_bytes;
    uint64_t errors, protocol_errors, keyspace_hits, keyspace_misses, expired_keys;
    uint64_t watch_events_sent, watch_canceled, pubsub_messages;
};

struct latency;
struct cmd_hub;    /* cmd_watch.c, cmd_pubsub.c: who listens to what */
struct slow_log;

struct cmd_env {
    struct node *node;
    struct cmd_io io;
    struct cmd_limits limits;
    struct cmd_info info;
    struct cmd_stats stats;
    struct cmd_table *table;
    const char *password;  /* requirepass: "" none; borrowed from the configuration */
    struct cmd_hub *hub;
    struct slow_log *slow_log;
    struct latency *latency;
    int64_t pause_until_ms; /* CLIENT PAUSE, loop time; 0: none */
    bool pause_all;
    struct client **monitors;
    size_t monitor_count;
    int64_t now_ms, now_us; /* loop time of this turn */
    uint64_t leader_id;     /* the newest one that was known; 0: none yet */
    uint64_t leader_changes;
    /* private to cmd_dispatch.c */
    struct client_table *clients;
    struct cmd_timers *timers;
    struct cmd_reads *reads;
    struct cmd_barriers *barriers;
    struct cmd_burst *burst;
    uint64_t waiting_replies, waiting_replies_bytes; /* see struct cmd_limits */
    struct chain capture; /* a reply that has to wait behind pending ones */
    struct chain trash;   /* replies to nobody */
    struct buf scratch, scratch2, scratch3; /* for lists of operations being built */
    struct buf key_bytes;                   /* cmd_internal_key's places */
    unsigned key_place;
    uint64_t random; /* of RANDOMKEY: not for anything that matters */
    uint64_t *call_counts; /* one a row of the table */
};

/* io, limits and info are set by the caller before; node once it is open. */
void cmd_env_init(struct cmd_env *env);
void cmd_env_deinit(struct cmd_env *env);
/* The hooks for node_open; ctx is the env. */
void cmd_env_hooks(struct cmd_env *env, struct node_hooks *out);

/* The server's side. */
struct client *client_new(struct cmd_env *env, void *link, struct chain *out);
void client_free(struct cmd_env *env, struct client *c); /* the connection has closed */
/* Executes what it can of `in`; returns the bytes consumed. *want: at least so many bytes (behind
 * the consumed ones) are needed for more, 0 if the command budget ran out or the client waits.
 * *waits: the client is blocked, drains or is congested: stop delivering until io.resume. */
size_t cmd_feed(struct cmd_env *env, struct client *c, struct slice in, struct resp_decoder *d,
                size_t *want, bool *waits);
/* The client's output has drained: watches that fell behind go on. */
void cmd_client_writable(struct cmd_env *env, struct client *c);
/* Once a turn: timers of blocked clients, watchers that catch up. */
void cmd_turn(struct cmd_env *env, int64_t now_us);
/* Operations were applied behind cmd_turn, between the replies: their time is the turn's for LATENCY. */
void cmd_applied_late(struct cmd_env *env);
#define CMD_TIMER_MS_MAX (INT64_MAX / 1000)
/* Loop time, at most CMD_TIMER_MS_MAX; INT64_MAX: none. */
int64_t cmd_next_timer_ms(const struct cmd_env *env);

/* --- what a handler gets ---------------------------------------------------------------- */

enum cmd_mode {
    CMD_MODE_NORMAL,  /* straight from the client */
    CMD_MODE_LOCAL,   /* a read behind pending operations, at its place in the log */
    CMD_MODE_COLLECT, /* EXEC or TXN is being built: cmd_propose records an element */
    CMD_MODE_WORDS,   /* a read of a one-shot TXN that is being built: its reply counts only if it is an
                         error, which has to come from its words: cmd_get finds nothing */
    CMD_MODE_ELEMENT, /* a read inside a transaction being applied: `view` shows it from inside */
};

struct cmd_ctx {
    struct cmd_env *env;
    struct client *client;
    const struct cmd_def *def;
    size_t argc;
    const struct slice *argv; /* dies with the call */
    uint8_t db;               /* use this, not the client's, which may have moved on */
    struct reply *reply;
    struct view view;         /* READ commands use this, nothing else */
    uint64_t key_hash;        /* of argv[1] in db, where the dispatcher prefetched it; else 0 */
    enum cmd_mode mode;
    struct collect *collect;  /* COLLECT: cmd_txn.c */
};

/* Reply of a write, when it was applied. data and arg as given to cmd_propose. */
struct cmd_done {
    struct cmd_env *env;
    struct client *client; /* NULL: gone; only with without_client */
    struct reply *reply;   /* not NULL even if the client is gone: then it goes nowhere */
    struct view view;      /* the state right behind the operation */
    void *data;
    uint64_t arg;
};
/* res->err != OK is handled before (the error is the reply) unless the row has on_error set. */
typedef void cmd_done_fn(struct cmd_done *dx, const struct op *op, const struct op_result *res);

struct cmd_finish {
    cmd_done_fn *done;   /* writes the reply; never NULL */
    void (*release)(void *data); /* frees data; NULL: nothing to free. Called once in any case */
    bool on_error;       /* done also wants errors */
    bool without_client; /* done is also called when the client is gone: a series goes on */
};

/* Proposes op (key, key2, lists: op.h) and answers by finish->done when it is applied. op.db must
 * be set (cmd_op does it). finish must be static. On an error data is still the caller's. */
enum err cmd_propose(struct cmd_ctx *cx, const struct op *op, const struct cmd_finish *finish,
                     void *data, uint64_t arg) MUST_USE;
enum err cmd_propose_range(struct cmd_ctx *cx, const struct op *op, bool key2_to_end,
                           const struct cmd_finish *finish, void *data, uint64_t arg) MUST_USE;

/* An operation for the client's database. */
static inline struct op cmd_op(const struct cmd_ctx *cx, enum op_kind kind)
{
    return (struct op){ .kind = kind, .db = cx->db };
}

/* Starts a history read; done(env, client or NULL, read, data) comes in a later turn and frees
 * data; the read is freed behind it. The client must have been blocked with client_block, unless it
 * is about pushes. read is NULL when the process ends first: only free data. */
typedef void cmd_read_fn(struct cmd_env *env, struct client *c, const struct store_read *read, void *data);
void cmd_read_start(struct cmd_env *env, uint64_t client_handle, struct store_read *read_taken,
                    cmd_read_fn *done, void *data);
uint64_t cmd_read_cookie(struct cmd_env *env); /* for store_read_new */

/* --- helpers for handlers ------------------------------------------------------------------ */

/* The internal key (database byte + key) in env-owned scratch; valid until the next call of the
 * same function in this turn (it has 4 places that are used in turn). The key is shorter than
 * MVCC_KEY_BYTES_MAX: the caller has checked it. */
struct slice cmd_internal_key(struct cmd_env *env, uint8_t db, struct slice key);
/* Key for clients: without the database byte. */
static inline struct slice cmd_client_key(struct slice internal)
{
    return (struct slice){ internal.at + 1, internal.len - 1 };
}
/* Looks one key of the client's database up in cx->view. */
bool cmd_get(struct cmd_ctx *cx, struct slice key, struct kv *out);
enum err cmd_check_key(const struct cmd_env *env, struct slice key) MUST_USE;     /* ERR_KEY_LIMIT */
enum err cmd_check_value(const struct cmd_env *env, struct slice value) MUST_USE; /* ERR_VALUE_LIMIT */

/* `key [PREFIX | END end]` beginning at argv[*at]; *at moves behind it. Bounds are internal keys in
 * memory owned by `r`, an end of "" in the command, or all keys, become the database's end. */
struct cmd_range {
    struct slice start, end; /* internal, [start, end) */
    bool single;             /* one key: end is start + "\0" */
    bool prefix;
    struct buf bytes;        /* holds both */
};
enum err cmd_range_parse(struct cmd_env *env, uint8_t db, size_t argc, const struct slice *argv,
                         size_t *at, struct cmd_range *r) MUST_USE;
void cmd_range_deinit(struct cmd_range *r);
/* The range of a prefix; of all keys of the database with an empty prefix. */
void cmd_range_prefix(uint8_t db, struct slice prefix, struct cmd_range *r);

/* The reply map of a kv: key value type create mod version lease. */
void cmd_reply_kv(struct reply *r, const struct kv *kv);
const char *cmd_type_name(enum value_type type); /* "string"; static */
/* Remaining lifetime in ms at the cluster clock, -1: none. */
int64_t cmd_remaining_ms(const struct cmd_env *env, const struct kv *kv);
/* "ERR unknown subcommand..." and the like; each writes one error reply. */
void cmd_reply_arity(struct reply *r, const struct cmd_def *def);
void cmd_reply_help(struct cmd_ctx *cx, const char *container); /* from the table's rows */

/* `word` in any case. */
static inline bool arg_is(struct slice arg, const char *word) { return slice_is(arg, word); }
enum err arg_i64(struct slice arg, int64_t *out) MUST_USE; /* ERR_NOT_INT */
enum err arg_u64(struct slice arg, uint64_t *out) MUST_USE; /* ERR_NOT_INT; below 2^63 */
/* BLOCK ms and the like: >= 0. ERR_NOT_INT. */
enum err arg_ms(struct slice arg, int64_t *out) MUST_USE;

#endif

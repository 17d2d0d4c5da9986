/* cmd/cmd.h - commands: what a client typed, turned into operations and replies.
 *
 * PURPOSE  The contract between the dispatcher and the handlers: the table's rows, the context a
 *          handler gets, how it reads, proposes, waits and answers. Handlers never change state.
 * OWNS     struct client and what hangs on it (queued commands, watched keys, subscriptions).
 *          Not the connection: the server gives an output chain and a few functions.
 * USES     node, state, watch, mvcc, resp, base.
 * THREADS  Loop thread only.
 * LIMITS   struct cmd_limits and CLIENT_* below.
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
 */
#ifndef CMD_H
#define CMD_H

#include "node/node.h"
#include "resp/resp.h"
#include "state/state.h"

#define CMD_DATABASES 16
#define CLIENT_NAME_BYTES_MAX 256
#define CLIENT_UNAUTH_OUTPUT_BYTES_MAX 16384 /* unread answers to somebody unknown: then it is closed */
#define CLIENT_MULTI_COUNT_MAX 10000   /* commands queued in one MULTI */
#define CLIENT_MULTI_EXTRA_BYTES (16u << 20) /* queued in one MULTI beyond request-max-bytes */
#define CLIENT_WATCH_COUNT_MAX 10000   /* keys of WATCH */
#define CMD_SCAN_STEP_MAX 10000        /* entries one command looks at in one turn */

struct cmd_env;
struct cmd_ctx;
struct cmd_done;
struct client;
struct multi;

/* --- the table -------------------------------------------------------------------- */

enum cmd_flag {
    CMD_READ = 1,        /* reads the key space; in MULTI executed where it stands, never logged */
    CMD_WRITE = 2,       /* proposes an operation, or answers at once (an error, nothing to do) */
    CMD_CONN = 4,        /* about the connection or the server; does not look at the key space */
    CMD_DRAIN = 8,       /* runs only when nothing of the client is pending (else it waits) */
    CMD_NO_MULTI = 16,   /* refused inside MULTI: "ERR Command not allowed inside a transaction" */
    CMD_MULTI_NOW = 32,  /* executed at once inside MULTI instead of being queued: EXEC, DISCARD... */
    CMD_NOAUTH = 64,     /* allowed before authentication */
    CMD_PUBSUB = 128,    /* allowed in RESP2 subscribe mode */
    CMD_BLOCKING = 256,  /* may block */
    CMD_ADMIN = 512,
    CMD_FAST = 1024,     /* cannot be slow: not timed for the slow log */
    CMD_CONTAINER = 2048, /* has subcommands; itself never run */
    CMD_MOVABLE_KEYS = 4096,
    CMD_TXN = 8192,      /* allowed as an operation of one-shot TXN */
    CMD_DENYOOM = 16384, /* may grow the data */
    CMD_SECRET = 32768,  /* arguments never go to slow log or monitor: AUTH, HELLO, CONFIG SET */
    CMD_COLLECT_NOW = 65536, /* inside MULTI: takes effect while EXEC is being put together: SELECT */
};

/* Groups for COMMAND DOCS and ACL categories. */
enum cmd_group {
    GROUP_GENERIC, GROUP_STRING, GROUP_CONNECTION, GROUP_SERVER, GROUP_TRANSACTIONS, GROUP_PUBSUB,
    GROUP_STREAM, GROUP_COORDINATION, GROUP_SCRIPTING, GROUP_CLUSTER
};

/* Where the keys are: as Redis' first/last/step (last < 0 counts from the end). first 0: none. */
struct cmd_keys {
    int first, last, step;
};

struct cmd_def {
    const char *name; /* lower case; a subcommand: "kv|get" */
    enum err (*run)(struct cmd_ctx *cx);
    int arity;        /* as in Redis: with the name (and the subcommand); negative: at least */
    unsigned flags;
    enum cmd_group group;
    struct cmd_keys keys;
    /* For CMD_MOVABLE_KEYS: calls each for every key's place in argv. ERR_SYNTAX: no keys found. */
    enum err (*find_keys)(size_t argc, const struct slice *argv,
                          void (*each)(void *ctx, size_t place), void *ctx);
    /* True if with these arguments the command may leave the turn (history): it then drains first
     * and is refused inside MULTI. NULL: never. */
    bool (*leaves_turn)(size_t argc, const struct slice *argv);
    /* True if these arguments ask for this node's own, maybe old, state: LOCAL. NULL: never. */
    bool (*is_local)(size_t argc, const struct slice *argv);
    const char *since;
    const char *args;    /* syntax behind the name, "" if none */
    const char *summary; /* one sentence, ends with a full stop */
};

#define CMD_DEF_END { .name = NULL }

/* Asserts the whole table (unique names, arity against keys, one of READ/WRITE/CONN, summaries)
 * and builds the look-up. Families are listed in cmd_table.c. */
struct cmd_table;
struct cmd_table *cmd_table_new(void);
void cmd_table_free(struct cmd_table *t);
/* argv[0] (and argv[1] for a container). NULL: unknown; *container is then set if argv[0] is one. */
const struct cmd_def *cmd_table_find(const struct cmd_table *t, size_t argc,
                                     const struct slice *argv, const struct cmd_def **container);
const struct cmd_def *cmd_table_by_name(const struct cmd_table *t, struct slice name); /* "kv|get" */
size_t cmd_table_count(const struct cmd_table *t);
const struct cmd_def *cmd_table_at(const struct cmd_table *t, size_t at); /* sorted by name */
/* Calls each for the place of every key in argv. */
enum err cmd_keys_each(const struct cmd_def *def, size_t argc, const struct slice *argv,
                       void (*each)(void *ctx, size_t place), void *ctx) MUST_USE;

/* --- clients ------------------------------------------------------------------------ */

/* A queued or deferred command with its own copy of the arguments; one allocation. */
struct cmd_copy {
    const struct cmd_def *def;
    size_t argc;
    uint8_t db; /* the client's database when it was given */
    struct slice argv[]; /* point behind the array */
};
struct cmd_copy *cmd_copy_new(const struct cmd_def *def, uint8_t db, size_t argc,
                              const struct slice *argv); /* freed with mem_free */

/* One key of WATCH: what was seen. */
struct watched_key {
    struct slice key; /* internal, owned */
    uint64_t mod, life_index;
};

struct client {
    uint64_t handle;     /* slot and serial: for client_find */
    uint64_t id;         /* as CLIENT ID shows it */
    void *link;          /* the server's connection */
    struct chain *out;   /* borrowed from the connection */
    uint8_t proto;       /* 2 or 3 */
    uint8_t db;
    bool authenticated;
    bool blocked;        /* I3 */
    bool draining;       /* a command waits until pending is 0 */
    bool congested;      /* input waits until the node takes more */
    bool close_asked;    /* close after what is queued was answered */
    bool closing;        /* the connection is going: write nothing */
    bool is_unix;        /* came by the Unix socket: counts as local */
    bool no_touch, no_evict, readonly;
    uint8_t reply_mode;  /* CLIENT REPLY: 0 on, 1 off, 3 skip, not yet; 2 skip this one */
    uint32_t pending;    /* I2 */
    uint32_t barrier_pending; /* of them: in the queue of cmd_barrier.c. Then none is an operation */
    uint64_t write_batch; /* the node's batch that holds the newest operation */
    struct multi *multi; /* inside MULTI; NULL otherwise */
    struct watched_key *watched;
    size_t watched_count, watched_cap;
    /* While blocked. */
    struct {
        uint64_t token;   /* 0: no timer; matches the timer's, else that one is stale */
        int64_t until_ms; /* loop time, INT64_MAX for ever */
        /* Ends the wait as a timeout (also CLIENT UNBLOCK): must reply and client_unblock. */
        void (*timeout)(struct cmd_env *env, struct client *c);
        /* The client goes: release data, write nothing. */
        void (*cancel)(struct cmd_env *env, struct client *c);
        void *data;
        bool can_unblock; /* CLIENT UNBLOCK may end it: waits for events, not for history reads */
    } block;
    void *subs;           /* cmd_pubsub.c: channels and patterns; NULL if none */
    void *watches;        /* cmd_watch.c: KV WATCH of this connection; NULL if none */
    uint32_t sub_count;   /* channels + patterns + shard channels: RESP2 subscribe mode if > 0 */
    char *name, *lib_name, *lib_version; /* owned, NULL if unset */
    int64_t created_ms, active_ms; /* loop time */
    const struct cmd_def *last_def;
    uint64_t command_count, input_bytes;
};

struct client *client_find(const struct cmd_env *env, uint64_t handle);
/* Where replies to this client go right now. */
static inline struct reply client_reply(const struct client *c) { return reply_to(c->out, c->proto); }
/* Something was written to c->out outside of cmd_feed: have it sent this turn. */
void client_wrote(struct cmd_env *env, struct client *c);
/* From a handler: the reply comes later; sets blocked. until_ms in loop time, INT64_MAX for ever. */
void client_block(struct cmd_env *env, struct client *c, int64_t until_ms,
                  void (*timeout)(struct cmd_env *, struct client *),
                  void (*cancel)(struct cmd_env *, struct client *), void *data);
/* The reply was written: goes on with the client's next commands. block.data is the caller's to free. */
void client_unblock(struct cmd_env *env, struct client *c);
/* Calls visit for every client; visit may close it. */
void client_each(struct cmd_env *env, void (*visit)(void *ctx, struct client *c), void *ctx);
size_t client_count(const struct cmd_env *env);
#define CLIENT_ADDRESS_BYTES_MAX 128
const char *client_address(const struct cmd_env *env, const struct client *c, bool peer,
                           char out[CLIENT_ADDRESS_BYTES_MAX]);
/* Closes at once, or after its output was sent. */
void client_close(struct cmd_env *env, struct client *c, bool after_flush);

/* --- the environment ------------------------------------------------------------------ */

/* What the server gives. link is the server's connection. */
struct cmd_io {
    void *ctx;
    void (*dirty)(void *ctx, void *link);
    void (*close)(void *ctx, void *link, bool after_flush);
    void (*resume)(void *ctx, void *link); /* deliver input again, from the next turn on */
    /* "address:port" of either end; returns out. */
    const char *(*address)(void *ctx, void *link, bool peer, char *out, size_t out_bytes);
    struct chain_pool *pool;
    void (*shutdown)(void *ctx);
    int64_t (*clock_us)(void *ctx); /* monotonic, now; for timing only */
    /* CONFIG. name is a pattern for get: pairs of bulk strings are appended to `names` as
     * name\0value\0; set: ERR_CONFIG and a text. */
    void (*config_get)(void *ctx, struct slice pattern, struct buf *pairs);
    enum err (*config_set)(void *ctx, struct slice name, struct slice value, struct errmsg *em);
    enum err (*config_rewrite)(void *ctx, struct errmsg *em);
};

struct cmd_limits {
    struct resp_limits resp;
    uint64_t output_bytes_max;       /* a client with more unsent is closed */
    uint64_t reply_bytes_max;        /* KV RANGE and the like stop here with more :1 */
    uint64_t watch_bytes_max;        /* unsent pushes of a connection; beyond: falls back to history */
    uint32_t watches_per_client_max;
    uint32_t subscriptions_per_client_max;
    uint32_t slowlog_count_max;
    int64_t request_timeout_ms;      /* a read that cannot be served by then is refused */
    int64_t slowlog_us;              /* slower commands are logged; < 0: none */
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
    int64_t now_ms, now_us; /* loop time of this turn */
    /* private to cmd_dispatch.c */
    struct client_table *clients;
    struct cmd_timers *timers;
    struct cmd_reads *reads;
    struct cmd_barriers *barriers;
    struct cmd_burst *burst;
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
int64_t cmd_next_timer_ms(const struct cmd_env *env); /* loop time, INT64_MAX: none */

/* --- what a handler gets ---------------------------------------------------------------- */

enum cmd_mode {
    CMD_MODE_NORMAL,  /* straight from the client */
    CMD_MODE_LOCAL,   /* a read behind pending operations, at its place in the log */
    CMD_MODE_COLLECT, /* EXEC or TXN is being built: cmd_propose records an element */
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
    struct client *client; /* NULL: gone. Then only release data. */
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
 * same function in this turn (it has 4 places that are used in turn). */
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

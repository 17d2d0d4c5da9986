/* cmd/cmd_client.h - clients: what is known of a connection, and how one waits.
 *
 * PURPOSE  struct client, its table by handle, blocking and unblocking, closing.
 * OWNS     struct client and what hangs on it. Not the connection, nor its output chain.
 * USES     resp, base.
 * THREADS  Loop thread only.
 * LIMITS   CLIENT_* below; 2^CLIENT_SLOT_BITS clients.
 * ERRORS   None.
 *
 * INVARIANTS  cmd.h I2 to I5; `block` is set while, and only while, `blocked` is.
 */
#ifndef CMD_CLIENT_H
#define CMD_CLIENT_H

#include "cmd/cmd_table.h"
#include "resp/resp.h"

#define CLIENT_NAME_BYTES_MAX 256
#define CLIENT_UNAUTH_OUTPUT_BYTES_MAX 16384 /* unread answers to somebody unknown: then it is closed */
#define CLIENT_MULTI_COUNT_MAX 10000   /* commands queued in one MULTI */
#define CLIENT_MULTI_EXTRA_BYTES (16u << 20) /* queued in one MULTI beyond request-max-bytes */
#define CLIENT_WATCH_COUNT_MAX 10000   /* keys of WATCH; fewer by multi-max-ops, and request-max-bytes */

struct cmd_env;
struct client;
struct multi;
struct watched;

/* A queued or deferred command with its own copy of the arguments; one allocation. */
struct cmd_copy {
    const struct cmd_def *def;
    size_t argc;
    uint8_t db; /* the client's database when it was given */
    bool quiet; /* CLIENT REPLY: its reply goes to nobody */
    struct slice argv[]; /* point behind the array */
};
struct cmd_copy *cmd_copy_new(const struct cmd_def *def, uint8_t db, size_t argc,
                              const struct slice *argv); /* freed with mem_free */
size_t cmd_copy_bytes(const struct cmd_copy *copy); /* the memory it takes */

#define CLIENT_SLOT_BITS 20

enum client_name { CLIENT_NAME, CLIENT_LIB_NAME, CLIENT_LIB_VERSION, CLIENT_NAMES };
struct client_names {
    char *at[CLIENT_NAMES]; /* owned, NULL if unset */
};

/* What a blocked client waits for. */
struct client_block {
    uint64_t token;   /* 0: no timer; matches the timer's, else that one is stale */
    /* Ends the wait as a timeout (also CLIENT UNBLOCK, if can_unblock): must reply and client_unblock. */
    void (*timeout)(struct cmd_env *env, struct client *c);
    /* The client goes: release data, write nothing. */
    void (*cancel)(struct cmd_env *env, struct client *c);
    void *data;
    bool can_unblock; /* by CLIENT UNBLOCK: waits for events, that is client_wait_events */
    bool quiet;       /* CLIENT REPLY: the reply that is waited for goes to nobody */
};

struct client {
    uint64_t handle;     /* id, as CLIENT ID shows it, and slot: for client_find */
    void *link;          /* the server's connection */
    struct chain *out;   /* borrowed from the connection */
    uint8_t proto;       /* 2 or 3 */
    uint8_t db;
    bool authenticated;
    bool was_authenticated; /* before a RESET */
    bool blocked;        /* I3 */
    bool draining;       /* the next command waits until pending is 0 */
    bool congested;      /* input waits until the node takes more */
    bool paused;         /* a command waits for the end of CLIENT PAUSE */
    bool is_monitor;
    bool close_asked;    /* close after what is queued was answered */
    bool closing;        /* the connection is going: write nothing */
    bool flushing;       /* it goes when what was written is sent */
    bool is_unix;        /* came by the Unix socket: counts as local */
    bool readonly;
    uint8_t reply_mode;  /* CLIENT REPLY: 0 on, 1 off, 3 skip, not yet; 2 skip this one */
    uint32_t pending;    /* I2 */
    uint32_t barrier_pending; /* of them: in the queue of cmd_barrier.c: none or all (cmd.h I5) */
    uint32_t write_batch; /* the node's batch that holds the newest operation; cut */
    uint32_t sub_count;   /* channels + patterns + shard channels: RESP2 subscribe mode if > 0 */
    struct multi *multi; /* inside MULTI; NULL otherwise */
    struct watched *watched; /* cmd_multi.c: keys of WATCH; NULL if none */
    struct client_block *block; /* while blocked */
    struct client_names *names; /* NULL if none is set */
    void *subs;           /* cmd_pubsub.c: channels and patterns; NULL if none */
    void *watches;        /* cmd_watch.c: KV WATCH of this connection; NULL if none */
    int64_t created_ms, active_ms; /* loop time */
    const struct cmd_def *last_def;
};
_Static_assert(sizeof(struct client) <= 128, "an idle connection stays small");

static inline uint64_t client_id(const struct client *c) { return c->handle >> CLIENT_SLOT_BITS; }
/* The limits for those that never gave the password are for it. */
static inline bool client_is_stranger(const struct client *c) { return !c->authenticated && !c->was_authenticated; }
/* Never NULL: "" if unset. */
const char *client_name(const struct client *c, enum client_name which);
/* Empty: unset. */
void client_set_name(struct client *c, enum client_name which, struct slice name);

struct client *client_find(const struct cmd_env *env, uint64_t handle);
/* Nobody reads the reply of what runs, or is waited for, now. */
static inline bool client_is_quiet(const struct client *c)
{
    return c->blocked ? c->block->quiet : c->reply_mode != 0;
}
/* Where the reply that a blocked client waits for goes. */
struct reply client_reply(struct cmd_env *env, const struct client *c);
/* Something was written to c->out outside of cmd_feed: have it sent this turn. */
void client_wrote(struct cmd_env *env, struct client *c);
/* From a handler: the reply comes later; sets blocked. until_ms in loop time, INT64_MAX for ever. */
void client_block(struct cmd_env *env, struct client *c, int64_t until_ms,
                  void (*timeout)(struct cmd_env *, struct client *),
                  void (*cancel)(struct cmd_env *, struct client *), void *data);
/* A blocked one goes on waiting, for something else. */
void client_block_more(struct cmd_env *env, struct client *c, int64_t until_ms,
                       void (*timeout)(struct cmd_env *, struct client *),
                       void (*cancel)(struct cmd_env *, struct client *), void *data);
/* What a blocked one waits for now may never come: CLIENT UNBLOCK may end it, and if it sends no more
 * it is closed. Until it is blocked for something else. */
void client_wait_events(struct cmd_env *env, struct client *c);
/* A blocked one no longer waits for events, but for what ends by itself. */
void client_wait_events_end(struct client *c);
/* The reply was written: goes on with the client's next commands. block.data is the caller's to free. */
void client_unblock(struct cmd_env *env, struct client *c);
/* Calls visit for every client; visit may close it. */
void client_each(struct cmd_env *env, void (*visit)(void *ctx, struct client *c), void *ctx);
size_t client_count(const struct cmd_env *env);
#define CLIENT_ADDRESS_BYTES_MAX 128
const char *client_address(const struct cmd_env *env, const struct client *c, bool peer,
                           char out[CLIENT_ADDRESS_BYTES_MAX]);
/* Closed, and not only when its output is sent: nobody is there any more. */
static inline bool client_is_gone(const struct client *c) { return c->closing && !c->flushing; }
/* Closes at once, or after its output was sent; the first may follow the second. */
void client_close(struct cmd_env *env, struct client *c, bool after_flush);

#endif

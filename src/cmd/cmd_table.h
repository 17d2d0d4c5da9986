/* cmd/cmd_table.h - the rows of the command table: what a command is called, needs and may do.
 *
 * PURPOSE  One description of every command, for the dispatcher, for COMMAND and for HELP.
 * OWNS     struct cmd_table: the sorted rows and the look-up. Rows' texts are static.
 * USES     base.
 * THREADS  Loop thread only.
 * LIMITS   None: the rows are ours; cmd_table_new asserts what they must be.
 * ERRORS   ERR_SYNTAX: arguments in which no keys can be found.
 */
#ifndef CMD_TABLE_H
#define CMD_TABLE_H

#include "base/base.h"

struct cmd_ctx;
struct cmd_table;

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
    CMD_NO_PAUSE = 131072, /* runs in spite of CLIENT PAUSE */
    CMD_ORDERED = 262144, /* a CMD_CONN that takes effect behind what its client asked for before */
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
    /* The same for one that holds other commands: it looks their rows up. */
    enum err (*find_op_keys)(const struct cmd_table *t, size_t argc, const struct slice *argv,
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
struct cmd_table *cmd_table_new(void);
void cmd_table_free(struct cmd_table *t);
/* argv[0] (and argv[1] for a container). NULL: unknown; *container is then set if argv[0] is one. */
const struct cmd_def *cmd_table_find(const struct cmd_table *t, size_t argc,
                                     const struct slice *argv, const struct cmd_def **container);
const struct cmd_def *cmd_table_by_name(const struct cmd_table *t, struct slice name); /* "kv|get" */
size_t cmd_table_count(const struct cmd_table *t);
const struct cmd_def *cmd_table_at(const struct cmd_table *t, size_t at); /* sorted by name */
/* Calls each for the place of every key in argv. */
enum err cmd_keys_each(const struct cmd_table *t, const struct cmd_def *def, size_t argc,
                       const struct slice *argv, void (*each)(void *ctx, size_t place), void *ctx) MUST_USE;

#endif

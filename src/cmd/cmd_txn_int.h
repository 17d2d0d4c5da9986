/* cmd/cmd_txn_int.h - private to the files of transactions: cmd_multi.c queues, cmd_txn.c parses and
 * collects, cmd_txn_reply.c answers.
 *
 * A transaction is put together as a tree of elements, one for each queued line or operation. What
 * writes becomes an operation inside one OP_TXN; what only reads becomes OP_LOCAL, a place that is
 * the same on every replica but is executed here alone, where it stands. Each element collects
 * its own reply; when the whole was applied they are put together in order. */
#ifndef CMD_TXN_INT_H
#define CMD_TXN_INT_H

#include "cmd/cmd_int.h"

#define NO_ORDINAL UINT32_MAX

struct multi {
    struct cmd_copy **queue;
    size_t count, cap;
    size_t bytes;     /* of the arguments */
    bool spoiled;     /* EXEC answers EXECABORT */
    bool has_if;      /* interactive: TXN IF came */
    bool has_else;
};

enum element_kind {
    ELEMENT_WRITE,  /* an operation; finish writes its reply */
    ELEMENT_LOCAL,  /* a read at its place */
    ELEMENT_RAW,    /* answered while it was collected */
    ELEMENT_IF,     /* interactive lines: 1 or 0 */
    ELEMENT_ELSE,   /* guarded: also the operation that holds what follows */
    ELEMENT_NESTED, /* a TXN inside */
};

struct element {
    enum element_kind kind;
    uint32_t ordinal;
    uint32_t depth;
    bool in_else;
    bool skipped;
    const struct cmd_finish *finish;
    void *data;
    uint64_t arg;
    struct cmd_copy *copy;
    struct chain out;    /* the reply; NESTED: what `failed` says */
    bool succeeded;      /* NESTED */
    bool is_error;       /* NESTED: out is its error */
    uint64_t rev;        /* NESTED */
};

/* One level of a transaction that is being put together. */
struct level {
    struct buf then_ops, else_ops, compares;
    uint32_t then_count, else_count, compare_count;
    bool in_else;
    uint32_t depth;
};

struct collect {
    struct cmd_env *env;
    struct element *elements;
    size_t count, cap;
    uint32_t ordinals;
    uint32_t next; /* element that the next callback is about: a hint */
    bool exec;     /* EXEC, not one-shot TXN */
    bool has_write;
    size_t watch_compares; /* the first so many compares are WATCH's */
    bool has_if;
    bool else_guarded;     /* ELSE is a level of its own: WATCH must hold for it, too */
    struct level *level; /* while collecting */
    uint8_t db;          /* EXEC: of the next queued command */
    uint8_t db_then, db_else; /* of the client if that branch was taken: a SELECT counts when it ran */
    bool selects;
    uint32_t proposed;   /* operations that the running handler has added */
    size_t out_bytes;    /* of the elements' replies so far */
    bool quiet;          /* only reads: CLIENT REPLY */
    struct buf compares; /* only reads: taken over from the level */
    uint32_t compare_count;
};

/* --- cmd_txn.c ------------------------------------------------------------------------------ */

void txn_level_deinit(struct level *l);
struct element *txn_element_add(struct collect *k, enum element_kind kind);
void txn_collect_free(struct collect *k);
void txn_compare_add(struct level *l, uint8_t db, const struct op_compare *cmp, bool end_to_end);
void txn_collect_local(struct collect *k, struct cmd_copy *copy_taken);
/* The read is of one string that there can be: its key must not hold anything else. */
bool txn_reads_string(const struct cmd_copy *copy);
/* Runs a writing handler so that it adds its operation; what it answers at once is kept. Returns
 * false if it answered with an error. */
bool txn_collect_write(struct cmd_ctx *outer, struct collect *k, const struct cmd_def *def,
                       uint8_t db, size_t argc, const struct slice *argv);
/* `n compare...` at argv[*at]. */
enum err txn_compares_parse(struct cmd_ctx *cx, size_t *at, struct level *l);
struct op txn_level_op(const struct level *l, bool redis);
enum err txn_propose(struct cmd_ctx *cx, struct collect *k, struct op *op);
/* Does this TXN line stand for itself (THEN, or ELSE with operations), or is it an interactive one? */
bool txn_is_line(const struct cmd_ctx *cx);
enum err cmd_txn(struct cmd_ctx *cx);

/* --- cmd_txn_read.c: transactions that only read -------------------------------------------- */

/* True: taken over, answered now or when its barrier is reached; or refused. False: it writes, or the
 * client's operations are on their way: it has to be proposed. */
bool txn_read_start(struct cmd_ctx *cx, struct collect *k);

/* --- cmd_txn_reply.c -------------------------------------------------------------------------- */

/* The reply of the whole: the elements have theirs. */
void txn_reply(struct collect *k, struct reply *r, const struct op_result *res);
/* Then nothing ran. */
bool txn_watch_failed(const struct collect *k, const struct op_result *res);
/* The SELECTs that ran count now. */
void txn_select(struct client *c, const struct collect *k, const struct op_result *res);

/* --- cmd_multi.c ---------------------------------------------------------------------------- */

enum err cmd_multi(struct cmd_ctx *cx);

#endif

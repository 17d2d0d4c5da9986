/* state/state.h - the replicated state machine: entries in, results and events out.
 *
 * PURPOSE  Decide what every operation does, deterministically: from the replicated state and the
 *          entry alone. Does not decide what is proposed, or who is told.
 * OWNS     The key space (mvcc), leases and lifetimes, dedup windows, replicated settings, alarms,
 *          compaction samples, the cluster clock's applied value.
 * USES     mvcc, base. No clock, no I/O, no randomness, no threads, no floats.
 * THREADS  Loop thread only.
 * LIMITS   From the replicated settings (state/settings.h): key, value, request bytes, operations a
 *          transaction, keys an operation, leases, quota.
 * ERRORS   state_apply: ERR_CORRUPT, ERR_UNSUPPORTED: the replica stops. Refusals of operations are
 *          in op_result.err.
 *
 * INVARIANTS
 *  I1  Applying the same entries in the same order gives the same state and the same state_hash,
 *      whatever the hash seed, the sink, or checkpoints in between.
 *  I2  Each operation that changes the key space makes exactly one revision; all its events have
 *      it, numbered n = 1.. in the order of each key's last change; a key has at most one event a
 *      revision. An operation without net change makes none.
 *  I3  Time is the entry's stamp. stamps never fall. A deadline is stamp + ttl of the entry that set it.
 *  I4  OP_EXPIRE is a wish: it takes effect on each lease or key that still exists and whose
 *      deadline is <= the entry's stamp; everything it removes goes in one revision.
 *  I5  Lifetimes make no revision, no row and no event. life_index = index of the entry that
 *      changed it last.
 *  I6  A one-shot transaction that meets an error has changed nothing.
 *  I7  An operation is applied at most once per (origin, incarnation, sequence).
 */
#ifndef STATE_H
#define STATE_H

#include "mvcc/mvcc.h"
#include "state/lease.h"
#include "state/op.h"
#include "state/settings.h"
#include "state/view.h"

struct state;

struct state *state_new(uint64_t hash_seed);
void state_free(struct state *s);

const struct mvcc *state_mvcc(const struct state *s);
const struct lease_table *state_leases(const struct state *s);
const struct settings *state_settings(const struct state *s);
uint64_t state_applied_index(const struct state *s);
uint64_t state_applied_term(const struct state *s);
uint64_t state_stamp_ms(const struct state *s);    /* of the newest entry applied */
int64_t state_wall_ms(const struct state *s);      /* leader's wall clock in that entry */
uint64_t state_hash(const struct state *s);        /* key space + leases + settings */
bool state_alarm(const struct state *s, uint32_t kind); /* ALARM_NOSPACE... raised by anybody */
enum { ALARM_NOSPACE = 1, ALARM_CORRUPT = 2 };
bool state_alarm_of(const struct state *s, uint32_t kind, uint64_t member); /* raised by this one */

/* --- apply ------------------------------------------------------------------------ */

struct apply_origin {
    uint64_t member, seq;
    uint32_t incarnation;
    uint64_t index, term;
};

/* What one operation did. Slices and entries borrow until the callback returns. */
struct op_result {
    enum err err;        /* a refusal: nothing changed (in Redis' MULTI mode: of this element) */
    const char *text;    /* overrides err_text(err) when not NULL */
    bool applied;        /* the condition held */
    bool skipped;        /* a TXN element of the branch not taken, or a duplicate operation */
    uint64_t rev;        /* newest revision after the operation (a change: its own) */
    int64_t number;      /* see enum op_kind; DEL*: keys deleted; REVOKE: keys deleted; KEEPALIVE:
                            how many were found; LIFE: 1/0 */
    uint64_t id;         /* LEASE_GRANT: the lease; SEQ: unused */
    int64_t ttl_ms;      /* LEASE_GRANT: as granted */
    bool has_prev;       /* PUT, DEL with COND or one key, when OPF_PREV or the condition failed: */
    struct kv prev;      /*   the version before (condition failed: the present one) */
    const struct kv *prevs; /* DEL, DEL_RANGE with OPF_PREV: all deleted versions, number of them */
    size_t prev_count;
    struct slice key;    /* SEQ: the internal key that was made */
    const int64_t *numbers; /* KEEPALIVE: remaining ms per id, -2 where there is none */
    size_t number_count;
    bool txn_succeeded;  /* TXN: the compares held */
    bool txn_failed_has_kv;
    size_t txn_failed_index; /* TXN: first compare that did not hold, from 0 */
    struct kv txn_failed_kv; /*   and the key that was found there */
};

struct apply_sink {
    void *ctx;
    /* Does anybody want the former value in this key's event? NULL: nobody. */
    bool (*wants_prev)(void *ctx, struct slice key);
    /* Every change of the key space, in order. NULL: nobody listens. */
    void (*event)(void *ctx, const struct mvcc_event *ev);
    /* A lifetime was changed without a revision (for keyspace notifications): what = "expire",
     * "persist". NULL: nobody listens. */
    void (*life)(void *ctx, struct slice key, const char *what);
    /* Each operation of a run, after its events. */
    void (*result)(void *ctx, const struct apply_origin *o, const struct op *op,
                   const struct op_result *res);
    /* Each operation inside a transaction, in order, with its place (ordinal: all operations of
     * the transaction counted depth first, THEN before ELSE, from 0, branches not taken too) and
     * the state as it stands there. For OP_LOCAL the origin executes its read here. Called before
     * `result` of the whole; in a one-shot transaction that fails later, the callee must drop what
     * it kept. NULL: nobody listens. */
    void (*element)(void *ctx, const struct apply_origin *o, uint32_t ordinal, const struct op *op,
                    const struct op_result *res, const struct view *v);
    /* Once, after the last operation of an entry (also an empty one). NULL: nobody listens. */
    void (*batch_end)(void *ctx, uint64_t index);
};

/* Applies the entry at applied index + 1. body: a batch (op.h); empty body: a no-op of raft, only
 * the index moves. On error the state must not be used any more. */
enum err state_apply(struct state *s, uint64_t index, uint64_t term, struct slice body,
                     const struct apply_sink *sink, struct errmsg *em) MUST_USE;

/* What apply would say of the compares of a transaction that only reads: txn_succeeded, or what was
 * found, in room (also while res is used). ERR_KEYS_LIMIT. */
enum err state_txn_check(const struct view *v, const struct op *op, struct buf *room,
                         struct op_result *res) MUST_USE;

/* Was this operation of that origin applied? */
bool state_was_applied(const struct state *s, uint64_t member, uint32_t incarnation, uint64_t seq);
/* A configuration of the group was applied: these are its members, at the same index on every
 * replica. Others propose nothing any more; what is in the log of theirs is refused. */
void state_origins_keep(struct state *s, const uint64_t *members, size_t count);

/* Would this operation grow the data while the quota is exceeded (settings: quota bytes; alarm)?
 * The proposer asks so as to refuse early; apply asks again. */
bool state_refuses_growth(const struct state *s, const struct op *op);
/* May it make the data grow at all? What does not is allowed even on a full disk. */
bool state_op_grows(const struct op *op);

/* --- what the leader should propose ------------------------------------------------- */

/* Fills `op` and its lists (in scratch buffers owned by the caller) with an OP_EXPIRE for what is
 * due at now_ms, at most limit keys in all; false when nothing is due. */
bool state_due(const struct state *s, uint64_t now_ms, size_t limit, struct buf *keys,
               struct buf *ids, struct op *op);
/* Earliest deadline in the cluster clock, UINT64_MAX if there is none. */
uint64_t state_next_due_ms(const struct state *s);
/* The revision automatic compaction asks for, 0 if none now: what is older than the retention
 * time, beyond the retained revisions or history bytes, never the newest 10,000. */
uint64_t state_compact_due(const struct state *s, uint64_t history_bytes);
/* Bounded clean-up after a compaction; true while more is left. Call once a turn. */
bool state_compact_step(struct state *s, size_t max);

/* All rows up to rev are in the store: see mvcc_packs_stored. */
void state_packs_stored(struct state *s, uint64_t rev);

/* --- checkpoint and loading: state/checkpoint.h --------------------------------------- */

#endif

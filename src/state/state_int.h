/* state/state_int.h - what apply, the checkpoint and the views share. Private to src/state.
 *
 * PURPOSE  The state itself, and one operation while it is carried out.
 * OWNS     struct state owns all it points to; struct apply lives on apply's stack.
 * USES     Everything of state.
 * THREADS  Loop thread only.
 * LIMITS   ALARM_COUNT_MAX alarms; APPLY_GROUP_MAX operations decoded ahead; a transaction's
 *          compares of ranges look at COMPARE_KEYS_MAX keys.
 * ERRORS   None of its own.
 */
#ifndef STATE_STATE_INT_H
#define STATE_STATE_INT_H

#include "state/dedup.h"
#include "state/retention.h"
#include "state/state.h"
#include "state/txn.h"

#define ALARM_COUNT_MAX 128
#define APPLY_GROUP_MAX 16
#define COMPARE_KEYS_MAX 100000

struct alarm {
    uint32_t kind;
    uint64_t member;
};

/* Memory that lives from the start of an operation to the return of its result callback. Kept
 * between operations, so that nothing is allocated in the steady state. */
struct apply_scratch {
    struct buf value;       /* a computed value */
    struct buf keys;        /* u32 length, key: collected before they are changed */
    struct buf prevs;       /* array of struct kv */
    struct buf numbers;     /* array of int64_t */
    struct buf taken;       /* array of struct entry *: former versions somebody looks at */
    struct buf failed[OP_TXN_DEPTH_MAX]; /* key and value that a compare found */
    struct errmsg message;
};

/* Operations decoded ahead, so that the look-ups of their keys overlap. */
struct apply_group {
    struct op ops[APPLY_GROUP_MAX];
    size_t bytes[APPLY_GROUP_MAX];
    uint64_t hash[APPLY_GROUP_MAX];
    size_t count;
};

struct state {
    struct mvcc *mvcc;
    struct lease_table *leases;
    struct settings settings;
    struct dedup dedup;
    struct retention retention;
    struct alarm alarms[ALARM_COUNT_MAX]; /* ascending by kind, member */
    size_t alarm_count;
    uint64_t applied_index, applied_term;
    uint64_t stamp_ms;
    int64_t wall_ms;

    struct txn *txn; /* empty outside of transactions */
    struct apply_scratch scratch;
    struct apply_group group;  /* here and not on the stack, where the compiler would clear it */
    struct op_result result;   /* of the operation that is carried out */
    struct mvcc_event event;   /* of the change that is made */
};

/* False: the table is full. Raising a raised one, or clearing a cleared one, changes nothing. */
bool state_alarm_set(struct state *s, uint32_t kind, uint64_t member, bool raised);

/* Would so many more bytes exceed the quota? */
bool state_quota_exceeded(const struct state *s, uint64_t more_bytes);

/* --- one operation ------------------------------------------------------------------- */

struct apply {
    struct state *s;
    const struct apply_sink *sink;
    const struct apply_origin *origin;
    struct txn *txn;    /* NULL: changes go to the key space at once */
    enum op_kind kind;  /* of the outermost operation: the cause of its events */
    uint64_t rev;       /* which the operation makes if it changes anything */
    uint32_t n;         /* events so far */
    uint32_t seq_count; /* keys made by OP_SEQ so far */
    uint32_t depth;     /* transactions around */
    uint64_t compared;  /* keys that compares of ranges looked at */
    bool strict;        /* inside a transaction in which an error undoes everything */
};

/* Decides one operation that may also stand in a transaction. *res comes in cleared, with
 * applied = true. Returns what goes into res->err: then nothing has changed. */
enum err apply_element(struct apply *cx, const struct op *o, struct op_result *res);

/* Does the operation's condition hold? kv: the present version, NULL if the key is missing.
 * ERR_FENCED, ERR_WRONGTYPE. */
enum err apply_condition(const struct apply *cx, const struct op *o, const struct kv *kv,
                         bool *met);
/* Runs one operation of several steps inside a transaction so that an error undoes all of them. */
enum err apply_undoable(struct apply *cx, const struct op *o,
                        enum err (*run)(struct apply *cx, const struct op *o));

enum err apply_put(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_mput(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_incr(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_append(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_incr_float(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_setrange(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_seq(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_local(struct apply *cx, const struct op *o, struct op_result *res);

enum err apply_del(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_del_range(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_rename(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_copy(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_life(struct apply *cx, const struct op *o, struct op_result *res);

enum err apply_txn(struct apply *cx, const struct op *o, struct op_result *res);

enum err apply_lease_grant(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_lease_revoke(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_lease_keepalive(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_lease_attach(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_expire(struct apply *cx, const struct op *o, struct op_result *res);

enum err apply_compact(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_config(struct apply *cx, const struct op *o, struct op_result *res);
enum err apply_alarm(struct apply *cx, const struct op *o, struct op_result *res);

/* --- changing keys, in a transaction or outside: state_apply_change.c ----------------- */

static inline struct view apply_view(const struct apply *cx)
{
    return (struct view){ cx->s, cx->txn };
}

/* Sets *plan from the operation's LIFE. *past: the time has passed already, the key is to go.
 * ERR_EXPIRE, ERR_NOLEASE. */
enum err change_plan(const struct apply *cx, const struct op *o, struct life_plan *plan,
                     bool *past);
/* The plan that gives another key the lifetime that this version has. */
struct life_plan change_plan_of(const struct kv *kv);

struct change {
    struct slice key, value;
    enum value_type type;
    struct life_plan plan;
    bool known_missing;  /* the caller looked: there is no such key */
    bool value_is_former; /* value is the key's own present one */
    bool value_is_short_lived; /* it is in scratch memory: a transaction must copy it */
    bool key_is_short_lived;
    bool keep_former;    /* the result shows the former version: it must outlive the change */
};

/* ERR_KEYS_LIMIT, ERR_LEASE_KEYS, ERR_NOSPACE, ERR_TXN_LIMIT: nothing changed. */
enum err change_put(struct apply *cx, const struct change *c);

/* May this operation change so many keys more? ERR_KEYS_LIMIT */
enum err change_allow(const struct apply *cx, uint64_t key_count);
/* May it change this one? */
enum err change_allow_key(const struct apply *cx, struct slice key);
#define TXN_MOVES_MAX 16 /* times txn-max-bytes, that making its values may copy */
/* May it give the key a value of so many bytes? What a transaction writes is one revision, which every
 * member makes at once and no watch may cut. ERR_TXN_LIMIT; outside of a transaction always OK. */
enum err change_allow_value(const struct apply *cx, struct slice key, size_t value_bytes);
/* Deletes a key that exists. */
void change_delete(struct apply *cx, struct slice key, enum row_op row_op, bool keep_former,
                   bool key_is_short_lived);
/* Changes the lifetime of a key that exists; what: for the sink. ERR_LEASE_KEYS, ERR_KEYS_LIMIT */
enum err change_life(struct apply *cx, struct slice key, const struct life_plan *plan,
                     const char *what);
/* Carries out the transaction's net effect; cx is outside of it afterwards. The transaction ends
 * when the result has been told. */
void change_commit(struct apply *cx);

/* keep_former was given if a change followed. */
void change_show_former(struct op_result *res, const struct kv *former);

#endif

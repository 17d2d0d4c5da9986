/* state/txn.h - the changes of a transaction that runs: laid over the key space until it commits.
 *
 * PURPOSE  Remember for each key that the transaction touched what it will be: value, presence,
 *          lifetime, and which change came last. Decides nothing, and changes no key.
 * OWNS     Its pending keys and computed values. Values of operations and of the key space are
 *          borrowed: both must stay as they are until txn_end.
 * USES     mvcc, base.
 * THREADS  Loop thread only.
 * LIMITS   The caller's: keys one operation changes, quota.
 * ERRORS   None.
 *
 * INVARIANTS
 *  I1  A key is pending at most once; pending keys are never removed before txn_end.
 *  I2  log[pending.order] is that pending key, for each one that was put or deleted; older places
 *      of the same key in the log count for nothing.
 *  I3  sorted->at[0 .. sorted->count) is ascending by key and has the first sorted->count pending
 *      keys.
 *  I4  At most one save point is set. A computed value that a saved version shows is frozen: it is
 *      not written until the save point is released or restored.
 */
#ifndef STATE_TXN_H
#define STATE_TXN_H

#include "mvcc/mvcc.h"

/* What a key's lifetime is to be. */
enum life_form {
    LIFE_FORM_KEEP = 0, /* as in the key space */
    LIFE_FORM_NONE,     /* none, and nothing to remember */
    LIFE_FORM_CLEARED,  /* none, and that is a change to be seen by LIFE compares */
    LIFE_FORM_PRIVATE,
    LIFE_FORM_LEASE
};
struct life_plan {
    enum life_form form;
    int64_t deadline_ms, unix_ms; /* PRIVATE */
    uint64_t lease_id;            /* LEASE */
};

enum value_from {
    VALUE_FROM_BASE = 0, /* the present one of the key space */
    VALUE_FROM_OUTSIDE,  /* borrowed from the operation */
    VALUE_FROM_OWNED,    /* computed */
    VALUE_FROM_SMALL     /* computed, at most PENDING_SMALL_BYTES */
};
#define PENDING_SMALL_BYTES 24 /* a 64-bit number as text */

struct pending {
    struct slice key;
    uint64_t hash;
    const struct entry *base; /* the live version in the key space, NULL if there is none */
    bool live;                /* the key is there, as seen from inside */
    bool changed;             /* was put or deleted */
    bool recreated;           /* base was deleted before the last put */
    bool attached;            /* counted in attach_count */
    bool frozen;              /* owned belongs to a saved version */
    enum value_type type;
    enum value_from from;
    struct slice outside;
    uint8_t *owned;           /* room of owned_cap bytes, owned_len of them the value */
    size_t owned_len, owned_cap;
    uint8_t small[PENDING_SMALL_BYTES];
    uint8_t small_len;
    struct life_plan plan;
    const char *life_what;    /* for the sink: the last change of lifetime alone; NULL none */
    uint32_t place;           /* its own, in the order in which keys were touched */
    uint32_t order;           /* place in the log of the last put or delete */
    uint32_t slot;            /* place in the table */
    uint32_t saved_at;        /* save point that has a copy of this */
    size_t value_bytes_max;   /* of the values it was given so far; see txn.value_bytes */
};

#define PENDING_BLOCK 64u

/* A cache: readers bring it up to date. */
struct txn_sorted {
    uint32_t *at; /* places of pending keys */
    uint32_t count, cap;
};

struct txn_saved {
    struct pending *at;
    struct pending was;
};

struct txn_chunk;

struct txn {
    const struct mvcc *mvcc;
    struct pending **blocks;     /* of PENDING_BLOCK each: a pending key never moves */
    uint32_t block_count, block_cap;
    uint32_t pending_count;
    uint32_t *slots;             /* 1 + place of a pending key, 0 free; at most half full */
    uint32_t slot_count;
    struct txn_sorted *sorted;
    uint32_t *log;
    uint32_t log_count, log_cap;
    struct txn_chunk *chunks;    /* keys that had to be copied */
    uint32_t changed_count;      /* keys put or deleted so far, net effect or not */
    uint32_t attach_count;       /* keys that are to hang on a lease they were not on */
    uint64_t copied_bytes;       /* values copied from key to key */
    uint64_t value_bytes;        /* of all values put, a key's largest; deleting gives none back */
    uint64_t moved_bytes;        /* of values made anew: copied, or zeros; going back to a save point gives none back */

    struct txn_saved *saved;     /* versions to go back to */
    uint32_t saved_count, saved_cap;
    uint32_t save_point;         /* number of the last one */
    bool saving;
    uint32_t save_log_count, save_changed_count, save_attach_count;
    uint64_t save_value_bytes;
    bool active;
};

struct txn *txn_new(void);
void txn_free(struct txn *t); /* NULL is allowed */

void txn_begin(struct txn *t, const struct mvcc *m);
void txn_end(struct txn *t); /* forgets everything; keeps some memory for the next one */

/* NULL: the transaction did not touch this key. Borrowed until txn_end. */
struct pending *txn_find(const struct txn *t, uint64_t hash, struct slice key);
/* The same, made if need be. The key is borrowed until txn_end unless copy_key. */
struct pending *txn_touch(struct txn *t, struct slice key, bool copy_key);

struct slice pending_value(const struct pending *p);

static inline struct pending *txn_at(const struct txn *t, uint32_t place)
{
    ASSERT(place < t->pending_count);
    return &t->blocks[place / PENDING_BLOCK][place % PENDING_BLOCK];
}

/* The changes. */
void txn_put_outside(struct txn *t, struct pending *p, struct slice value, enum value_type type);
void txn_put_base(struct txn *t, struct pending *p); /* its own present value once more */
/* A copy of the value, which is not p's own. */
void txn_put_copy(struct txn *t, struct pending *p, struct slice value, enum value_type type);
/* The value that `from` had until it was deleted just now: handed over if it can be. */
void txn_put_moved(struct txn *t, struct pending *p, struct pending *from);
/* Room for a value of `bytes` that begins with the present one (nothing if the key is missing) and
 * goes on with zeros. */
uint8_t *txn_put_grown(struct txn *t, struct pending *p, size_t bytes);
void txn_delete(struct txn *t, struct pending *p);
void txn_set_plan(struct txn *t, struct pending *p, const struct life_plan *plan);

/* Brings t->sorted up to date. */
void txn_sort(const struct txn *t);
/* Place in sorted of the first key >= key. After txn_sort. */
uint32_t txn_sorted_find(const struct txn *t, struct slice key);
static inline const struct pending *txn_sorted_at(const struct txn *t, uint32_t at)
{
    ASSERT(at < t->sorted->count);
    return txn_at(t, t->sorted->at[at]);
}

/* A save point: one at a time. */
void txn_save(struct txn *t);
void txn_release(struct txn *t);
void txn_restore(struct txn *t);

void txn_check(const struct txn *t); /* invariants, asserted; slow */

#endif

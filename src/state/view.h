/* state/view.h - what a reader sees: the applied state, or the inside of a transaction that runs.
 *
 * PURPOSE  Point and range reads for commands, with or without a transaction's own writes laid over
 *          the key space. Changes nothing.
 * OWNS     Nothing. Everything returned borrows until the next change or the next call on an iterator.
 * USES     mvcc, base.
 * THREADS  Loop thread only.
 * LIMITS   None; callers bound how far they walk in one turn.
 * ERRORS   None.
 */
#ifndef STATE_VIEW_H
#define STATE_VIEW_H

#include "mvcc/mvcc.h"

struct state;
struct txn;

/* Key space at one moment. txn is NULL outside a transaction. A plain value. */
struct view {
    const struct state *state;
    const struct txn *txn;
};

/* One live version. key is internal (database byte first). */
struct kv {
    struct slice key, value;
    enum value_type type;
    uint64_t create, mod, version;
    uint32_t n;          /* place among the events of its revision; 0: a transaction is about to say */
    uint64_t lease_id;   /* 0: none or private lifetime */
    int64_t deadline_ms; /* cluster clock, also of the lease; 0: none */
    int64_t unix_ms;     /* absolute time of it, also of the lease; 0: none */
    uint64_t life_index; /* log position of the last lifetime change, 0 never */
};

bool view_get(const struct view *v, struct slice key, struct kv *out); /* false: missing; out unchanged */
bool view_get_hashed(const struct view *v, uint64_t hash, struct slice key, struct kv *out);

/* [start, end), empty end = to infinity (beyond the database: callers give the next database's
 * byte as end). Invalid after any change. */
struct view_iter {
    struct view view;
    struct mvcc_iter base;
    const struct entry *base_next;
    size_t overlay_at; /* place in the transaction's sorted changes */
    struct slice start, end;
    bool reverse, started;
};
void view_iter_init(struct view_iter *it, const struct view *v, struct slice start,
                    struct slice end, bool reverse);
bool view_iter_next(struct view_iter *it, struct kv *out);

uint64_t view_count(const struct view *v, struct slice start, struct slice end);
/* The nth key of the range in order, from 0; looks one by one at the transaction's changes, not at
 * the keys. false: there are not so many; out unchanged. */
bool view_nth(const struct view *v, struct slice start, struct slice end, uint64_t nth, struct kv *out);

/* The revision a reader stands at; inside a transaction that has changed something, the revision
 * that the transaction will make. */
uint64_t view_rev(const struct view *v);

#endif

/* state/lease.h - leases, private lifetimes, and the one timer that holds both.
 *
 * PURPOSE  Decide which leases exist, which keys hang on them, and what has run out of time. Does
 *          not delete keys and does not decide when: expiry is an operation, this module only says
 *          what is due.
 * OWNS     Leases, every struct life (made by life_new only), the timer, the lists of what changed
 *          since the last checkpoint.
 * USES     mvcc (struct life, struct entry), base. No clock: stamps come in.
 * THREADS  Loop thread only.
 * LIMITS   TTL in [LEASE_TTL_MS_MIN (raised to it), LEASE_TTL_MS_MAX]; leases and keys a lease by
 *          the caller's count_max and keys_max (settings).
 * ERRORS   ERR_LEASE_TTL, ERR_LEASE_TTL_LOW, ERR_LEASE_EXISTS, ERR_LEASE_LIMIT, ERR_NOLEASE,
 *          ERR_LEASE_KEYS; ERR_CORRUPT when loading.
 *
 * INVARIANTS
 *  I1  A life with lease_id != 0 is in that lease's list, has no deadline of its own and is not in
 *      the timer; with lease_id 0 it is in the timer exactly if deadline_ms != 0.
 *  I2  Every lease is in the timer. A slot's time is never later than its owner's deadline: a
 *      longer deadline is only written down, the slot is moved when it comes up.
 *  I3  lease_table_hash is the sum over leases and lives of what they say, plus the counter:
 *      independent of order, of addresses, of the hash seed and of the timer's shape.
 *  I4  The order of a lease's key list is not part of the state (loading changes it): sort it with
 *      lease_sort_keys before the order can show.
 *  I5  life.changed: the newest row of the key does not say what the life says. life.recorded: the
 *      store has a record of its own for the life, which goes when a row says the same or the
 *      life ends.
 */
#ifndef STATE_LEASE_H
#define STATE_LEASE_H

#include "mvcc/mvcc.h"

#define LEASE_TTL_MS_MIN 100
#define LEASE_TTL_MS_MAX (9000000000LL * 1000)
#define LEASE_ID_COUNTER_MAX (1ULL << 53) /* own ids stay below: exact in a double */
#define LEASE_REARM_COUNT_MAX 1024 /* timer slots moved in one call of lease_due */

struct lease_table;

/* Read by anybody, changed by lease.c only. Fields below the line are private. */
struct lease {
    uint64_t id;
    int64_t ttl_ms;      /* as granted */
    int64_t deadline_ms; /* cluster clock */
    uint32_t key_count;
    /* --- */
    uint32_t timer;
    uint32_t changed_at; /* 1 + place in the list of changed leases; 0: unchanged */
    bool recorded;       /* the store has a record of it */
    struct life *keys;
    struct lease *hash_next;
};

struct lease_table *lease_table_new(uint64_t hash_seed);
void lease_table_free(struct lease_table *t); /* frees all leases and lives; NULL is allowed */

uint64_t lease_count(const struct lease_table *t);
uint64_t life_count(const struct lease_table *t);
/* Keys of a database that have a lifetime now. */
uint64_t life_expiring_count(const struct lease_table *t, uint8_t db);
uint64_t lease_table_hash(const struct lease_table *t);

/* --- leases --------------------------------------------------------------------------- */

struct lease_request {
    uint64_t id;        /* 0: the next of the counter that is free */
    int64_t ttl_ms;
    uint64_t stamp_ms;
    uint64_t count_max; /* settings: lease-max-count */
};

/* *out says id and ttl as granted; borrowed until the lease is removed. Unchanged on error. */
enum err lease_grant(struct lease_table *t, const struct lease_request *request,
                     const struct lease **out) MUST_USE;

/* NULL if there is none. Borrowed until the lease is removed. */
const struct lease *lease_find(const struct lease_table *t, uint64_t id);

/* Sets the deadline of each lease to stamp + its ttl. ids: count little-endian u64, as in an
 * operation's list. remaining_ms (may be NULL) gets the ttl, or -2 where there is no such lease.
 * Returns how many were found. */
size_t lease_keepalive(struct lease_table *t, const uint8_t *ids, size_t count, uint64_t stamp_ms,
                       int64_t *remaining_ms);

/* Ids greater than after_id in ascending order, at most cap; returns how many. O(log n + cap). */
size_t lease_list_after(const struct lease_table *t, uint64_t after_id, uint64_t *out, size_t cap);

/* Removes a lease that has no keys (asserted) and exists (asserted): delete its keys first. */
void lease_remove(struct lease_table *t, uint64_t id);

/* The first of its keys, then life->next; NULL at the end. Detaching or freeing a life takes it
 * off the list, so a loop that deletes takes the first until there is none. */
static inline struct life *lease_keys(const struct lease *l) { return l->keys; }

/* Sorts the list by key (every life must have its entry). Read-only to everybody who looks. */
void lease_sort_keys(struct lease_table *t, uint64_t id);

/* --- lives: the lifetime of one key ---------------------------------------------------- *
 *
 * A put:            life_new or the one the key had -> life_set_private / lease_attach / nothing
 *                   (KEEP) -> mvcc_put -> life_written; a former other life -> life_free
 * EXPIRE, ATTACH:   life_new if there is none, set or attach -> mvcc_set_life
 * PERSIST:          life_clear (the life stays: it carries life_index)
 * A delete:         mvcc_delete -> life_free
 */

/* A life that says nothing yet, for this internal key. The owner is the table; the caller hands it
 * to mvcc, and ends it with life_free. */
struct life *life_new(struct lease_table *t, struct slice key);

/* Leaves lease and timer, and forgets its record in the store. key: the internal key it was made
 * for (its entry may be gone already). life == NULL is allowed. */
void life_free(struct lease_table *t, struct life *life, struct slice key);

/* An own deadline (cluster clock, > 0); leaves a lease it was attached to. */
void life_set_private(struct lease_table *t, struct life *life, int64_t deadline_ms,
                      int64_t unix_ms, uint64_t life_index);

/* No deadline any more, no lease. */
void life_clear(struct lease_table *t, struct life *life, uint64_t life_index);

/* Attaches to a lease, from wherever it was: ERR_NOLEASE, ERR_LEASE_KEYS (keys_max: settings,
 * op-max-keys). Unchanged on error. */
enum err lease_attach(struct lease_table *t, uint64_t id, struct life *life, uint64_t life_index,
                      uint64_t keys_max) MUST_USE;

/* The newest row of the key says what this life says: call after mvcc_put with w.life == life.
 * (Forgetting it is not wrong, only dear: the checkpoint then writes a record beside the row.) */
void life_written(struct lease_table *t, struct life *life, struct slice key);

/* The life's deadline, its lease's if it has one; 0: none. */
int64_t life_deadline_ms(const struct lease_table *t, const struct life *life);

/* --- what is due ---------------------------------------------------------------------- */

/* Calls visit for leases and private lives whose deadline is <= now_ms, the oldest early, in no
 * strict order; exactly one of lease and life is given. Stops before what it reported would be
 * more than limit keys (a lease counts its keys, at least 1), but reports at least one. Returns the
 * number of keys. Changes nothing that can be seen: calling it again gives the same. Inside, it
 * moves at most LEASE_REARM_COUNT_MAX slots of renewed deadlines; what lies behind those comes with
 * the next call (lease_next_due_ms stays <= now_ms until then). visit must not change the table. */
size_t lease_due(struct lease_table *t, uint64_t now_ms, size_t limit,
                 void (*visit)(void *ctx, const struct lease *lease, const struct life *life),
                 void *ctx);

/* Never later than the earliest deadline; earlier only where a renewed one was not moved yet, which
 * lease_due does when called at that time. UINT64_MAX if there is none. */
uint64_t lease_next_due_ms(const struct lease_table *t);

/* --- for state/checkpoint only -------------------------------------------------------- */

uint64_t lease_counter(const struct lease_table *t); /* the next own id to try */
void lease_counter_load(struct lease_table *t, uint64_t next_id);

/* ERR_CORRUPT: id 0 or taken, ttl or deadline impossible. Not marked as changed. */
enum err lease_load(struct lease_table *t, uint64_t id, int64_t ttl_ms,
                    int64_t deadline_ms) MUST_USE;

/* What a life says, beside its key. */
struct life_record {
    uint64_t lease_id;
    int64_t deadline_ms, unix_ms;
    uint64_t life_index;
    bool recorded; /* it came from a record of its own, not from the row */
};
/* ERR_CORRUPT: no such lease, or an impossible record. */
enum err life_load(struct lease_table *t, struct slice key, const struct life_record *record,
                   struct life **out) MUST_USE;
/* A record in the store that no key has any more: delete it at the next cut. */
void life_record_forget(struct lease_table *t, struct slice key);

/* Walking what changed since the last lease_changes_clear. at counts from 0; false at the end,
 * NULL where a changed one was removed again. Removed ids and keys come before changed ones in the
 * store's batch, because an id or key may be removed and made again. */
bool lease_changed_at(const struct lease_table *t, size_t at, const struct lease **out);
bool lease_removed_at(const struct lease_table *t, size_t at, uint64_t *id);
bool life_changed_at(const struct lease_table *t, size_t at, const struct life **out);
bool life_gone_next(const struct lease_table *t, size_t *offset, struct slice *key);
void lease_changes_clear(struct lease_table *t); /* all of it is in the batch now */

/* Invariants, asserted; slow. */
void lease_table_check(const struct lease_table *t);

#endif

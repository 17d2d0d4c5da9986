/* mvcc/mvcc.h - the versioned key space: the live version of every key in memory, its history as rows.
 *
 * PURPOSE  Decide what the present version of each key is and which rows of history a change
 *          makes. Does not decide whether a change is allowed, when things expire, or where rows go.
 * OWNS     Entries, the index (hash + B+tree), packs of rows that are not yet (or only just) in
 *          the store. Not the `struct life` objects that entries point to.
 * USES     base/. No clock, no I/O, no randomness: the hash seed comes in.
 * THREADS  Loop thread only. Packs' bytes may be read by other threads while a reference is held.
 * LIMITS   MVCC_KEY_BYTES_MAX, MVCC_VALUE_BYTES_MAX; callers check, this asserts.
 * ERRORS   ERR_CORRUPT from mvcc_load_row only.
 *
 * INVARIANTS
 *  I1  A key has at most one entry; it is in the hash and in the tree, or in neither.
 *  I2  A ghost (deleted key) has an entry until compaction passes its revision: mod = revision of
 *      the deletion, version = create = 0, no value, no life. Only ghosts with mod >= compacted exist.
 *  I3  mod <= mvcc_rev for every entry; rows are appended in ascending (rev, n).
 *  I4  entry.jump = revision of the newest row of this key, at or before mod, whose chain is 0, as
 *      it is to be written into the NEXT row; chain counts rows modulo MVCC_JUMP_STRIDE.
 *  I5  mvcc_hash = sum modulo 2^64 over live entries of entry_hash(entry): independent of order,
 *      of memory layout and of history; recomputable from the rows alone.
 *  I6  Every row with rev >= mvcc_packs_first_rev() is in a pack in memory.
 *  I7  life->entry points back to the entry that points to it, whenever an entry moves.
 *  I8  The tree counts live entries per subtree, so that mvcc_count is O(log n).
 */
#ifndef MVCC_H
#define MVCC_H

#include "base/buf.h"
#include "mvcc/mvcc_row.h"

#define MVCC_KEY_BYTES_MAX 65535 /* internal key: database byte + key */
#define MVCC_VALUE_BYTES_MAX (8u << 20) /* a row fits into one record of a snapshot: store_export.h */
#define MVCC_RECENT_PACK_BYTES (1u << 20) /* rows already in the store that stay in memory, so that
                                             a watcher's hand-over from history to live is local */

struct mvcc;
struct entry;

/* A lifetime: one for each key that has, or had since its last put, a TTL or a lease. Owned by
 * state/lease; mvcc keeps the pointer and the way back. */
struct life {
    struct entry *entry;  /* kept by mvcc */
    uint64_t lease_id;    /* 0: private */
    int64_t deadline_ms;  /* private: in the cluster clock; 0: none (persisted, or leased) */
    int64_t unix_ms;      /* private: the same as an absolute time */
    uint64_t life_index;  /* log position of the last change */
    uint32_t timer;       /* place in the timer, kept by state/lease */
    bool changed;         /* differs from the last row: a record of its own is needed */
    bool recorded;        /* such a record may be in the store */
    uint8_t db;           /* the key's first byte, kept by state/lease */
    struct life *prev, *next; /* keys of the same lease, kept by state/lease */
};

enum { ENTRY_GHOST = 1, ENTRY_LIFE_SLOT = 2 };

/* data = [struct life * if ENTRY_LIFE_SLOT][key][value]; 46 bytes of head, then bytes, unaligned:
 * 16-byte keys with 256-byte values fill the allocator's class of 320. */
struct entry {
    uint64_t mod;
    uint64_t create;
    uint64_t version;
    uint64_t jump;
    uint32_t value_bytes;
    uint32_t crc;        /* crc32c over key and value */
    uint16_t key_bytes;
    uint8_t flags;
    uint8_t chain;       /* rows of this key modulo MVCC_JUMP_STRIDE; the type is in flags' upper half */
    uint16_t n;          /* place among the events of mod: a cursor names a row by it */
    uint8_t data[];
};
_Static_assert(MVCC_JUMP_STRIDE == 128, "chain needs 7 bits");

static inline bool entry_is_ghost(const struct entry *e) { return (e->flags & ENTRY_GHOST) != 0; }
static inline enum value_type entry_type(const struct entry *e) { return (enum value_type)(e->flags >> 4); }
static inline size_t entry_slot_bytes(const struct entry *e)
{
    return (e->flags & ENTRY_LIFE_SLOT) != 0 ? sizeof(struct life *) : 0;
}
/* Both borrow until the next change of the key space. */
static inline struct slice entry_key(const struct entry *e)
{
    return (struct slice){ e->data + entry_slot_bytes(e), e->key_bytes };
}
static inline struct slice entry_value(const struct entry *e)
{
    return (struct slice){ e->data + entry_slot_bytes(e) + e->key_bytes, e->value_bytes };
}
static inline struct life *entry_life(const struct entry *e) /* NULL if none */
{
    struct life *life = NULL;
    if ((e->flags & ENTRY_LIFE_SLOT) != 0) memcpy(&life, e->data, sizeof life);
    return life;
}

struct mvcc *mvcc_new(uint64_t hash_seed);
void mvcc_free(struct mvcc *m); /* NULL is allowed; lifes are not freed */

/* --- reading ---------------------------------------------------------------- */

uint64_t mvcc_rev(const struct mvcc *m);       /* the newest revision; 1 in an empty store */
uint64_t mvcc_compacted(const struct mvcc *m); /* reads below it are refused; 0: never compacted */
uint64_t mvcc_hash(const struct mvcc *m);
uint64_t mvcc_live_count(const struct mvcc *m);
uint64_t mvcc_live_bytes(const struct mvcc *m); /* keys + values + heads of live entries */
uint64_t mvcc_ghost_count(const struct mvcc *m);

/* Live entries only; NULL if there is none. Borrowed until the next change. */
const struct entry *mvcc_find(const struct mvcc *m, struct slice key);

/* The same in three steps, so that a batch of lookups overlaps its cache misses: hash all,
 * prefetch all (call twice: first the bucket, then the entry), find all. */
uint64_t mvcc_key_hash(const struct mvcc *m, struct slice key);
void mvcc_prefetch_slot(const struct mvcc *m, uint64_t hash);
void mvcc_prefetch_entry(const struct mvcc *m, uint64_t hash);
const struct entry *mvcc_find_hashed(const struct mvcc *m, uint64_t hash, struct slice key);

/* Live entries of [start, end) by key; an empty end is "to infinity". Start and end are borrowed
 * as long as the iterator is used; the iterator is invalid after any change of the key space:
 * bounded work a turn means to seek again from the last key. */
struct mvcc_iter {
    const struct mvcc *m;
    struct slice start, end;
    void *leaf;
    uint32_t slot;
    bool reverse, ghosts, done;
};
void mvcc_iter_init(struct mvcc_iter *it, const struct mvcc *m, struct slice start,
                    struct slice end, bool reverse, bool with_ghosts);
const struct entry *mvcc_iter_next(struct mvcc_iter *it); /* NULL at the end, and from then on */

uint64_t mvcc_count(const struct mvcc *m, struct slice start, struct slice end); /* live; O(log n) */
/* The nth (from 0) live entry of the range, NULL if there are fewer; O(log n). */
const struct entry *mvcc_nth(const struct mvcc *m, struct slice start, struct slice end, uint64_t nth);

/* --- changing (apply only) ---------------------------------------------------- */

/* What happened to one key. Slices borrow from the entries involved: key and value until the next
 * change, prev_value only if the caller took the old entry. */
struct mvcc_event {
    enum row_op op;
    enum value_type type;
    uint8_t cause;      /* enum op_kind of the operation that did it; 0 in mvcc: state sets it */
    struct slice key;   /* database byte + key */
    struct slice value; /* put only */
    uint64_t rev;
    uint32_t n;         /* from 1 over all events of the revision */
    uint64_t create, version; /* put; 0 for del and expire */
    uint64_t lease;     /* put: the lease attached; del/expire: the one it had; 0 none */
    uint64_t prev_mod;  /* revision of the live version before, 0 if there was none */
    uint64_t prev_create, prev_version;
    struct slice prev_value; /* at == NULL if the old entry was not taken or there was none */
};

struct mvcc_write {
    struct slice key;   /* must not point into the entry that is replaced unless old_taken != NULL */
    struct slice value; /* same */
    enum value_type type;
    uint64_t rev;       /* >= mvcc_rev(); becomes mvcc_rev() */
    uint32_t n;         /* 1 for the first event of a revision, then ascending */
    struct life *life;  /* what the key has afterwards: NULL, a new one or the one it had */
    bool recreate;      /* deleted and put again in one transaction: create = rev, version = 1, though
                           the key is live (the event is one put, prev_* is the live version) */
};

/* Writes one version. Appends its row. *ev is filled. With old_taken == NULL the value may be
 * overwritten in place; otherwise *old_taken receives the former live entry (or NULL), which the
 * caller frees with mvcc_entry_free(). If the former entry's life differs from w->life, the
 * caller disposes of that life afterwards (its entry pointer is NULL then). */
void mvcc_put(struct mvcc *m, const struct mvcc_write *w, struct entry **old_taken,
              struct mvcc_event *ev);

/* Deletes a live key (must exist); it becomes a ghost. op is ROW_DEL or ROW_EXPIRE. The former
 * life's entry pointer becomes NULL; ev->lease says which lease it had. */
void mvcc_delete(struct mvcc *m, struct slice key, uint64_t rev, uint32_t n, enum row_op op,
                 struct entry **old_taken, struct mvcc_event *ev);

void mvcc_entry_free(struct entry *e); /* NULL is allowed */

/* Sets or removes the life of a live key; no revision, no row. */
void mvcc_set_life(struct mvcc *m, struct slice key, struct life *life);

/* Restoring a backup, or a snapshot's end: moves the revision up without an event. */
void mvcc_set_rev(struct mvcc *m, uint64_t rev);

/* --- compaction ------------------------------------------------------------------ */

/* Logical: history below rev is gone for readers at once. compacted < rev <= mvcc_rev(). */
void mvcc_compact(struct mvcc *m, uint64_t rev);
/* Drops at most max ghosts that compaction has passed (mod < compacted). True while more are left. */
bool mvcc_compact_step(struct mvcc *m, size_t max);

/* --- rows on their way to the store ------------------------------------------------ */

struct mvcc_pack {
    uint64_t first_rev;
    uint32_t first_n;
    uint32_t row_count;
    uint64_t last_rev;
    struct blob *body; /* borrowed by whoever looks; blob_ref to keep */
};

/* Closes the open pack so that everything up to now can be taken. */
void mvcc_packs_seal(struct mvcc *m);
/* The oldest sealed pack not yet taken for the store: true and *out (with a reference of its own
 * for the caller), and it counts as taken. */
bool mvcc_packs_take(struct mvcc *m, struct mvcc_pack *out);
/* All taken packs whose last_rev <= rev are in the store now: beyond MVCC_RECENT_PACK_BYTES of the
 * newest rows they are dropped from memory. */
void mvcc_packs_stored(struct mvcc *m, uint64_t rev);
uint64_t mvcc_packs_first_rev(const struct mvcc *m); /* see I6; mvcc_rev() + 1 when there is none */
size_t mvcc_packs_bytes(const struct mvcc *m);
/* Packs in memory in order, the open one last (only its bytes up to now). Index from 0; false past the end. */
bool mvcc_packs_at(const struct mvcc *m, size_t at, struct mvcc_pack *out);
/* Index of the first pack that can hold rows of `rev` or later. */
size_t mvcc_packs_find(const struct mvcc *m, uint64_t rev);

/* --- loading at start ----------------------------------------------------------------- */

/* What a loaded row made dead: up to two (rev, key) pairs; keys borrow from the row or an entry
 * until the next call. */
struct mvcc_dead {
    size_t count;
    uint64_t rev[2];
    struct slice key[2];
};

/* compacted first, then rows in ascending (rev, n), then end. A row takes a former life off its key
 * as mvcc_put would; mvcc_set_life puts one on, and a row with a lifetime left room for it. Rows
 * are not appended to packs. A tombstone below compacted removes its key and is dead itself; a row
 * that supersedes another one at or below compacted makes that one dead. */
void mvcc_load_begin(struct mvcc *m, uint64_t compacted, uint64_t expected_count);
enum err mvcc_load_row(struct mvcc *m, const struct row *r, struct mvcc_dead *dead) MUST_USE;
/* Sorts, builds the tree in bulk. Before it no iterator, count or nth. rev >= every row's. */
void mvcc_load_end(struct mvcc *m, uint64_t rev);

/* Invariants I1..I8, asserted; slow. */
void mvcc_check(const struct mvcc *m);

#endif

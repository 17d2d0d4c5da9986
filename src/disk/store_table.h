/* disk/store_table.h - which packs exist, and how much of each is dead.
 *
 * PURPOSE  Decide which pack holds a row, and which packs are worth deleting or writing anew. Does
 *          not decide which rows are dead, and writes nothing.
 * OWNS     struct store_table: a slot of 56 bytes a pack; 8 bytes a row for packs with dead rows.
 * USES     base/, mvcc/mvcc_row.h.
 * THREADS  One at a time: the loop's while it loads, then the store's.
 * LIMITS   None.
 * ERRORS   What the reader of packs returned; ERR_CORRUPT if a pack does not decode.
 *
 * INVARIANTS
 *  I1  Slots ascend by (first_rev, first_n); gone slots keep their place until squeezed out.
 *  I2  A row is found by its revision and key. A mark has 32 bits of their hash; where that could
 *      mistake one row for another (two equal ones in a pack, a revision over several packs, a row
 *      that may not exist) the pack is read and the whole 64 bits are compared.
 *  I3  dead_bytes and dead_count of a slot are of its rows marked dead; 0 without marks. But when all
 *      rows are dead, the marks are freed and both stay.
 *  I4  sum = the sum, modulo 2^64, of store_pack_sum of all packs that are not gone.
 */
#ifndef DISK_STORE_TABLE_H
#define DISK_STORE_TABLE_H

#include "base/buf.h"
#include "mvcc/mvcc_row.h"

struct store_mark {
    uint32_t print; /* low half of the row's hash */
    uint32_t bytes_dead; /* bytes of the row * 2 + dead */
};

/* Where the bytes of a pack are; see store_files.h. */
struct store_ref {
    uint64_t offset;
    uint32_t file; /* 0: in rows/ */
    uint32_t bytes;
    uint32_t crc;
};

struct store_slot {
    uint64_t first_rev;
    uint64_t offset; /* these three: where it is, see store_slot_ref */
    uint32_t file;
    uint32_t crc;
    uint32_t first_n;
    uint32_t bytes;
    uint32_t dead_bytes;
    uint32_t dead_count;
    uint32_t row_count; /* 0: not known yet */
    bool gone;
    bool queued;    /* in the queue */
    bool unwritten; /* made anew, and its write is not done: it cannot be read yet */
    struct store_mark *marks;
};

struct store_table {
    struct store_slot *slots;
    size_t count;
    size_t cap;
    size_t gone_count;
    uint64_t bytes; /* of all packs that are not gone */
    uint64_t sum;
    uint64_t dead_bytes;
    uint64_t hash_seed;
    struct buf queue; /* of struct store_place: packs that became worth it, in that order */
    size_t queue_at;  /* bytes of it that are done */
    struct buf pack;  /* scratch */
    struct buf marks; /* scratch */
    /* Reads a pack that the table has; never "not found". */
    enum err (*read)(void *ctx, const struct store_slot *slot, struct buf *out);
    void *read_ctx;
};

struct store_place {
    uint64_t rev;
    uint32_t n;
};

#define STORE_SLOT_NONE SIZE_MAX

static inline struct store_ref store_slot_ref(const struct store_slot *slot)
{
    return (struct store_ref){ slot->offset, slot->file, slot->bytes, slot->crc };
}

static inline void store_slot_place(struct store_slot *slot, const struct store_ref *ref)
{
    slot->offset = ref->offset;
    slot->file = ref->file;
    slot->crc = ref->crc;
}

/* What one pack adds to the sum of all: the order of changes does not matter, and one pack missing
 * or too many is seen. Not its content, which LevelDB's checksums cover. */
static inline uint64_t store_pack_sum(uint64_t first_rev, uint32_t first_n, uint32_t bytes)
{
    return u64_mix(u64_mix(first_rev) ^ ((uint64_t)first_n << 32 | bytes));
}

void store_table_deinit(struct store_table *t);
uint64_t store_table_hash(const struct store_table *t, uint64_t rev, struct slice key);

/* Above all others. */
void store_table_append(struct store_table *t, uint64_t first_rev, uint32_t first_n,
                        size_t pack_bytes, const struct store_ref *ref); /* NULL: in rows/ */

/* The last pack whose first row is at or before (rev, n); STORE_SLOT_NONE if there is none. */
size_t store_table_floor(const struct store_table *t, uint64_t rev, uint32_t n);
size_t store_table_next(const struct store_table *t, size_t slot); /* skips what is gone */
size_t store_table_prev(const struct store_table *t, size_t slot);

/* The row of this hash at rev is dead. certain: it is known to exist and to live. Nothing happens
 * if it does not exist or is dead already. */
enum err store_table_kill(struct store_table *t, uint64_t rev, uint64_t hash,
                          bool certain) MUST_USE;

/* Makes the marks of a slot from its pack, which the caller has read, unless they are there or not
 * needed any more; *made: how many. ERR_CORRUPT. */
enum err store_table_marks(struct store_table *t, size_t slot, struct slice pack,
                           size_t *made) MUST_USE;
/* Frees marks of which none is dead. */
void store_table_unmark(struct store_table *t);

/* All dead: delete it. Worth it: some row is dead. */
bool store_slot_all_dead(const struct store_slot *slot);
bool store_slot_worth(const struct store_slot *slot);
static inline uint32_t store_slot_live_bytes(const struct store_slot *slot)
{
    return slot->bytes - slot->dead_bytes;
}

/* Every pack of this file is to be written anew: into the queue, which must be empty. */
void store_table_enqueue_file(struct store_table *t, uint32_t file);

/* The next queued pack that is still there; STORE_SLOT_NONE at the end of the queue. */
size_t store_table_queue_next(struct store_table *t);
bool store_table_queue_empty(const struct store_table *t);

/* The pack is deleted. */
void store_table_remove(struct store_table *t, size_t slot);
/* Packs from `first` to `last` were removed; `fresh` takes their room, with bytes and place set.
 * Slots' numbers are as before only if fresh_count <= last - first + 1. */
void store_table_replace(struct store_table *t, size_t first, size_t last,
                         const struct store_slot *fresh, size_t fresh_count);
/* Drops gone slots if there are many; numbers change. */
void store_table_squeeze(struct store_table *t);

#endif

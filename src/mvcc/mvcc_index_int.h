/* mvcc/mvcc_index_int.h - key to entry, for points: an extendible hash.
 *
 * PURPOSE  Find the entry of a key in two or three cache misses, grow without ever touching more
 *          than one segment. Does not order keys and does not own entries.
 * OWNS     Directory and segments. Segments are never given back before deinit and never merged:
 *          an emptied index keeps about 13 bytes for each key of its largest day.
 * USES     mvcc.h for struct entry.
 * THREADS  Loop thread only.
 * LIMITS   INDEX_DEPTH_MAX directory bits; a seeded hash keeps it near log2(keys / 32).
 * ERRORS   None.
 *
 * A directory word is a segment's address with its local depth in the upper 16 bits; the word is
 * picked by the lower `depth` bits of the hash. A slot is an entry's address with hash bits 8..23
 * in the upper 16: they tell keys apart, and tell a split where an entry goes, without a look at
 * the entry. A tag is 0x80 + the top seven bits of the hash, 0 when the slot is free; an entry is
 * put as near behind slot (tag modulo 64) as it can be, so that a prefetch can guess the line.
 *
 *   directory            segment: 64 tags (one cache line) | 64 slots (eight lines)
 *   +------------+       +----------------+------------------------------------+
 *   | 2 | ptr ---|-----> | 9f 00 c3 81 .. | bits,entry | 0 | bits,entry | ...  |
 *   | 1 | ptr    |       +----------------+------------------------------------+
 *
 * INVARIANTS
 *  H1  A key's entry is in the segment that the directory gives for its hash, exactly once.
 *  H2  A segment of local depth d is in every directory word whose lower d bits agree with it.
 */
#ifndef MVCC_INDEX_INT_H
#define MVCC_INDEX_INT_H

#include "mvcc/mvcc.h"

#define INDEX_SLOTS 64
#define INDEX_DEPTH_MAX 36
#define INDEX_PTR_BITS 48
#define INDEX_PTR_MASK ((1ULL << INDEX_PTR_BITS) - 1)

struct index_segment {
    uint8_t tags[INDEX_SLOTS];
    uint64_t slots[INDEX_SLOTS];
};

struct index_slab;

struct mvcc_index {
    uint64_t *directory;
    uint32_t depth;
    uint64_t seed;
    uint64_t count;
    struct index_slab *slabs;
};

void mvcc_index_init(struct mvcc_index *x, uint64_t seed);
void mvcc_index_deinit(struct mvcc_index *x); /* entries are not freed */

/* Empty index only: segments for about `count` keys at once instead of by splits. */
void mvcc_index_reserve(struct mvcc_index *x, uint64_t count);

static inline uint64_t mvcc_index_hash(const struct mvcc_index *x, struct slice key)
{
    return bytes_hash(key.at, key.len, x->seed);
}

static inline struct entry *index_slot_entry(uint64_t slot)
{
    return (struct entry *)(uintptr_t)(slot & INDEX_PTR_MASK);
}

/* The slot that holds the key's entry, NULL if there is none. Valid until the next insert. */
uint64_t *mvcc_index_find(const struct mvcc_index *x, uint64_t hash, struct slice key);
/* The key must not be there. */
void mvcc_index_insert(struct mvcc_index *x, uint64_t hash, struct entry *e);
/* Another entry of the same key. */
void mvcc_index_replace(struct mvcc_index *x, uint64_t *slot, struct entry *e);
/* slot is of this key's hash. */
void mvcc_index_remove(struct mvcc_index *x, uint64_t hash, uint64_t *slot);

/* First the tags and the likely line of slots, then (when those have arrived) the first two lines
 * of the entry. */
void mvcc_index_prefetch_slot(const struct mvcc_index *x, uint64_t hash);
void mvcc_index_prefetch_entry(const struct mvcc_index *x, uint64_t hash);

/* All entries, in no order. Start with { 0 }; NULL at the end; nothing may change meanwhile. */
struct mvcc_index_walk {
    const struct index_slab *slab;
    uint32_t segment, slot;
    bool started;
};
struct entry *mvcc_index_next(const struct mvcc_index *x, struct mvcc_index_walk *walk);

void mvcc_index_check(const struct mvcc_index *x); /* H1, H2; slow */

#endif

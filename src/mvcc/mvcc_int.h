/* mvcc/mvcc_int.h - what the files of this folder share: struct mvcc, entries, ghosts, packs.
 *
 * PURPOSE  The private side of mvcc.h. Decides nothing that mvcc.h does not say.
 * OWNS     struct mvcc and all that it holds.
 * USES     mvcc_index_int.h (points), mvcc_tree_int.h (order), mvcc_row_int.h (bytes).
 * THREADS  Loop thread only.
 * LIMITS   PACK_CAP_BYTES of a pack that is not a single large row.
 * ERRORS   None.
 *
 * A ghost is an entry of key only; behind the key are two links of the list of all ghosts in the
 * order of their deletions, so that compaction finds those it has passed at the front. A ghost
 * that it has passed but not dropped yet (mvcc_compact_step is bounded) is treated as absent by
 * everything that can be seen: rows, events and iterators do not depend on when it is dropped.
 */
#ifndef MVCC_INT_H
#define MVCC_INT_H

#include "mvcc/mvcc.h"
#include "mvcc/mvcc_index_int.h"
#include "mvcc/mvcc_row_int.h"
#include "mvcc/mvcc_tree_int.h"

#define ENTRY_HEAD_BYTES offsetof(struct entry, data)

/* With its header the blob of a pack is exactly one allocator class. */
#define PACK_CAP_BYTES (PACK_BYTES_MAX - sizeof(struct blob))

/* Sealed packs in a ring, the open one beside it. stored <= taken <= count. */
struct mvcc_packs {
    struct mvcc_pack *ring;
    size_t cap; /* of the ring: 0 or a power of two */
    size_t first, count;
    size_t taken, stored;
    struct mvcc_pack open; /* body NULL: none */
    size_t bytes;          /* allocated, the open one's included */
};

struct mvcc {
    struct mvcc_index index;
    struct mvcc_tree tree; /* while loading: empty */
    struct mvcc_packs packs;
    uint64_t rev;
    uint32_t last_n; /* of rev's events; 0 if none is known */
    bool loading;
    struct mem_ahead ahead; /* of entries, while loading */
    uint64_t compacted;
    uint64_t hash;
    uint64_t live_count, live_bytes;
    uint64_t ghost_count;
    struct entry *ghost_first, *ghost_last;
};

/* --- entries (mvcc_entry.c) ------------------------------------------------------------ */

/* Where a key is: the slot of its entry and the entry, or NULL and NULL. */
struct entry_place {
    uint64_t hash;
    uint64_t *slot;
    struct entry *former;
};
struct entry_place mvcc_place_find(const struct mvcc *m, struct slice key);

/* Makes the key's entry what the row says, in place where that is good and old_taken is NULL, and
 * keeps index, tree, ghosts, counts and hash. A former live entry goes to *old_taken, else it is
 * freed. with_slot: make room for a life even if there is none now. */
struct entry *mvcc_place_write(struct mvcc *m, const struct entry_place *place,
                               const struct row *r, struct life *life, bool with_slot,
                               struct entry **old_taken);
/* Removes and frees the entry, whatever it is. */
void mvcc_place_remove(struct mvcc *m, const struct entry_place *place);
/* Puts a life into a live entry, which may have to move for it. */
void mvcc_place_set_life(struct mvcc *m, const struct entry_place *place, struct life *life);

/* I5: what one live entry adds to the hash of the state. Replicas compare it: pinned by a test. */
uint64_t mvcc_entry_hash(const struct entry *e);

/* --- ghosts (mvcc_compact.c) ------------------------------------------------------------- */

struct ghost_links {
    struct entry *prev, *next;
};
static inline struct ghost_links ghost_links_get(const struct entry *e)
{
    struct ghost_links links;
    memcpy(&links, e->data + e->key_bytes, sizeof links);
    return links;
}
void mvcc_ghost_push(struct mvcc *m, struct entry *e); /* the newest deletion */
void mvcc_ghost_unlink(struct mvcc *m, struct entry *e);
static inline bool ghost_is_passed(const struct mvcc *m, const struct entry *e)
{
    return e->mod < m->compacted;
}

/* --- packs (mvcc_pack.c) ------------------------------------------------------------------ */

void mvcc_pack_append(struct mvcc_packs *p, const struct row *r);
void mvcc_packs_deinit(struct mvcc_packs *p);
void mvcc_packs_check(const struct mvcc_packs *p);

/* --- sorting (mvcc_sort.c) ----------------------------------------------------------------- */

/* By key; keys are distinct. */
void mvcc_sort(struct tree_item *items, size_t count);

#endif

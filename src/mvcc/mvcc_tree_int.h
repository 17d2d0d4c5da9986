/* mvcc/mvcc_tree_int.h - entries in key order: a B+tree of fan-out 62.
 *
 * PURPOSE  Keep entries sorted by key for ranges, counts and the nth of a range. Does not decide
 *          what an entry means, but for one bit: ghosts are in the tree and are not counted.
 * OWNS     Nodes and separators, not the entries.
 * USES     mvcc.h for struct entry.
 * THREADS  Loop thread only.
 * LIMITS   TREE_HEIGHT_MAX levels of inner nodes; no order of changes can exceed it.
 * ERRORS   None.
 *
 * A leaf is 1 KiB: entries and, for each, eight bytes of its key ("head", big-endian, zero padded)
 * from behind the `skip` bytes that all keys of the leaf share. A search looks at heads only; an
 * entry is touched to break a tie and once to see that the searched key shares the skipped bytes.
 * Inner nodes do the same with separators, the shortest byte strings that tell two neighbours
 * apart; their skipped bytes are in the node when they fit. seps[0] is "minus infinity".
 *
 * Splits: in the middle, but where keys come in ascending order (at the right edge of the tree, or
 * TREE_RUN_MIN times one behind the other) behind the new key, which leaves full leaves.
 * Removal: a leaf below a quarter joins a neighbour under the same parent if both fill at most
 * three quarters; an empty leaf and inner nodes without children are freed; the height shrinks
 * with a root of one child. Inner nodes are not joined.
 *
 * INVARIANTS
 *  T1  Keys ascend strictly through the leaves from first to last; links agree in both directions.
 *  T2  Keys below child i of an inner node are >= seps[i] and < seps[i + 1].
 *  T3  live[i] = entries that are not ghosts below child i (I8); bit i of a leaf's ghosts = entry i
 *      is one.
 *  T4  skip bytes are shared by all keys (separators) of the node; heads are of what follows.
 */
#ifndef MVCC_TREE_INT_H
#define MVCC_TREE_INT_H

#include "mvcc/mvcc.h"

#define TREE_SLOTS 62
#define TREE_PREFIX_BYTES 56
/* A split needs at least 20 new children on average, so this takes 20^12 inserts. */
#define TREE_HEIGHT_MAX 12
#define TREE_RUN_MIN 8

struct tree_leaf {
    struct tree_leaf *next, *prev;
    uint64_t ghosts;
    uint16_t count, skip;
    uint16_t last, run; /* where the newest key went; how many in a row went one behind the other */
    uint64_t heads[TREE_SLOTS];
    struct entry *entries[TREE_SLOTS];
};
_Static_assert(sizeof(struct tree_leaf) == 1024, "a class of the allocator");

struct tree_separator {
    uint16_t len;
    uint8_t at[];
};

struct tree_inner {
    uint16_t count, skip;
    uint32_t fill;
    uint8_t prefix[TREE_PREFIX_BYTES];
    uint64_t heads[TREE_SLOTS];
    struct tree_separator *seps[TREE_SLOTS];
    void *children[TREE_SLOTS];
    uint64_t live[TREE_SLOTS];
};
_Static_assert(sizeof(struct tree_inner) == 2048, "a class of the allocator");

struct mvcc_tree {
    void *root; /* a leaf when height is 0 */
    uint32_t height;
    uint64_t count, live;
    struct tree_leaf *first, *last;
};

void mvcc_tree_init(struct mvcc_tree *t);
void mvcc_tree_deinit(struct mvcc_tree *t);

void mvcc_tree_insert(struct mvcc_tree *t, struct entry *e); /* its key must not be there */
void mvcc_tree_remove(struct mvcc_tree *t, const struct entry *e);
/* e takes the place of old, which has the same key or is e itself; counts follow e's ghost flag. */
void mvcc_tree_update(struct mvcc_tree *t, const struct entry *old, struct entry *e);

struct tree_item {
    uint64_t head; /* scratch of the sort */
    struct entry *entry;
};
/* An empty tree becomes that of `count` entries that ascend strictly by key. */
void mvcc_tree_build(struct mvcc_tree *t, const struct tree_item *items, size_t count);

struct tree_spot {
    struct tree_leaf *leaf;
    uint32_t slot; /* may be leaf->count: then it is the next leaf's first, if there is one */
};
/* The first entry, ghost or not, that is not before key. */
struct tree_spot mvcc_tree_seek(const struct mvcc_tree *t, struct slice key);
uint64_t mvcc_tree_rank(const struct mvcc_tree *t, struct slice key); /* live entries before key */
/* The live entry that has `rank` live entries before it; NULL if there are not so many. */
struct entry *mvcc_tree_at_rank(const struct mvcc_tree *t, uint64_t rank);

/* How many leading bytes both have in common. */
size_t key_common_bytes(struct slice a, struct slice b);
/* Eight bytes from behind `skip`, big-endian, zero padded: heads that differ are in key order. */
uint64_t key_head(struct slice key, size_t skip);

void mvcc_tree_check(const struct mvcc_tree *t); /* T1..T4; slow */

#endif

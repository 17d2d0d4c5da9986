/* base/chain.h - the output of a connection: a first-in-first-out run of bytes.
 *
 * PURPOSE  Collect what a turn wants to send so that one writev sends it: small
 *          appends are copied into pooled blocks, big shared payloads are
 *          referenced. Decides nothing about when, or how much is too much.
 * OWNS     chain: its segments and one reference to each blob it sends from.
 *          chain_pool: the blocks and segments that no chain holds.
 * USES     base.h, buf.h (blobs).
 * THREADS  One thread a pool, and all chains of a pool on that thread.
 * LIMITS   CHAIN_POOL_*_COUNT_MAX free blocks are kept, the rest is freed.
 *          How much a chain may hold is its owner's to check: chain_bytes, chain_held_bytes.
 * ERRORS   None.
 * INVARIANTS
 *   I1  An empty chain holds no segment and no block.
 *   I2  `bytes` is the sum of the lengths of all segments; none is empty.
 *   I3  If the last segment lies in the chain's open block, it ends where that
 *       block is filled to, so an append may extend it.
 *   I4  A block counts the segments that lie in it and is freed with the last.
 *
 * Of many clients each gets a short reply in a turn: in blocks of 16 KiB those would lie in 500
 * places that no cache holds. A chain begins with a small block, unless it needed more of late.
 */
#ifndef BASE_CHAIN_H
#define BASE_CHAIN_H

#include "base/base.h"
#include "base/buf.h"

#include <sys/uio.h>

#define CHAIN_BLOCK_BYTES 16384            /* one allocation, its head included */
#define CHAIN_SMALL_BYTES 1024             /* likewise; the block that a chain begins with */
#define CHAIN_RESERVE_BYTES_MAX 512        /* chain_reserve gives this much in one piece */
#define CHAIN_MOVE_COPY_BYTES_MAX 512      /* chain_move copies up to here: no block for 20 bytes */
#define CHAIN_POOL_BLOCK_COUNT_MAX 64      /* free blocks kept: 1 MiB */
#define CHAIN_POOL_SMALL_COUNT_MAX 1024    /* and small ones: 1 MiB */
#define CHAIN_POOL_SEGMENT_COUNT_MAX 4096  /* free segments kept */
#define CHAIN_POOL_BLOCK_COUNT_IDLE 4      /* free blocks kept when nothing happens */
#define CHAIN_POOL_SMALL_COUNT_IDLE 32     /* and small ones */

struct chain_block {
    struct chain_block *next; /* while free */
    uint32_t refs;            /* segments in it (I4) */
    uint32_t fill;            /* bytes used ... */
    uint32_t room;            /* ... of so many: CHAIN_BLOCK_ROOM or CHAIN_SMALL_ROOM */
    uint8_t bytes[];
};
#define CHAIN_BLOCK_ROOM (CHAIN_BLOCK_BYTES - sizeof(struct chain_block))
#define CHAIN_SMALL_ROOM (CHAIN_SMALL_BYTES - sizeof(struct chain_block))

struct chain_segment {
    struct chain_segment *next;
    const uint8_t *at;
    size_t len;
    struct chain_block *block; /* exactly one of block and blob is set */
    struct blob *blob;
};

struct chain_pool {
    struct chain_block *blocks;
    struct chain_block *smalls;
    struct chain_segment *segments;
    size_t block_count;      /* free */
    size_t small_count;      /* free */
    size_t segment_count;    /* free */
    size_t block_used_count; /* held by chains, of both sizes */
};

struct chain {
    struct chain_pool *pool;
    struct chain_segment *head;
    struct chain_segment *tail;
    struct chain_block *block; /* the open block: appends go here; NULL if none */
    size_t bytes;
    bool was_long; /* the last time it held something: then it begins with a large block */
};

void chain_pool_init(struct chain_pool *pool);
void chain_pool_trim(struct chain_pool *pool); /* down to what is kept when nothing happens */
void chain_pool_deinit(struct chain_pool *pool); /* no chain of it may hold anything */

/* The pool must outlive the chain. */
void chain_init(struct chain *c, struct chain_pool *pool);
void chain_deinit(struct chain *c); /* gives everything back; leaves an empty chain */

static inline size_t chain_bytes(const struct chain *c) { return c->bytes; }

/* The memory that it holds: blocks in whole, and what it references. Walks the chain. */
size_t chain_held_bytes(const struct chain *c);

void chain_append_slow(struct chain *c, const uint8_t *at, size_t len);
uint8_t *chain_reserve_slow(struct chain *c);

/* Whether the last segment may be extended by `len` bytes (I3). */
static inline bool chain_fits(const struct chain *c, size_t len)
{
    return c->block != NULL && c->tail->block == c->block &&
           c->block->room - c->block->fill >= len;
}

static inline void chain_extend(struct chain *c, size_t len)
{
    c->block->fill += (uint32_t)len;
    c->tail->len += len;
    c->bytes += len;
}

/* Copies. `at` may be NULL only if len is 0. */
static inline void chain_append(struct chain *c, const void *at, size_t len)
{
    if (UNLIKELY(!chain_fits(c, len))) {
        chain_append_slow(c, at, len);
        return;
    }
    if (len != 0) memcpy(c->block->bytes + c->block->fill, at, len);
    chain_extend(c, len);
}

static inline void chain_append_slice(struct chain *c, struct slice s)
{
    chain_append(c, s.at, s.len);
}

/* Room for at least n <= CHAIN_RESERVE_BYTES_MAX bytes in one piece. Must be
 * followed by chain_commit (of 1..n bytes) before anything else is done with c. */
static inline uint8_t *chain_reserve(struct chain *c, size_t n)
{
    ASSERT(n <= CHAIN_RESERVE_BYTES_MAX);
    if (UNLIKELY(!chain_fits(c, n))) return chain_reserve_slow(c);
    return c->block->bytes + c->block->fill;
}
static inline void chain_commit(struct chain *c, size_t n)
{
    ASSERT(n >= 1);
    ASSERT(chain_fits(c, n));
    chain_extend(c, n);
}

/* Appends [offset, offset + len) of the blob by reference; takes its own reference. */
void chain_append_blob(struct chain *c, struct blob *blob, size_t offset, size_t len);

/* Fills up to `max` pieces from the front; returns how many. They stay valid
 * until the chain is consumed, moved or deinitialised (appends keep them). */
size_t chain_iov(const struct chain *c, struct iovec *iov, size_t max);

/* Drops n <= chain_bytes(c) bytes from the front. */
void chain_consume(struct chain *c, size_t n);

/* Appends everything of `from` to `to` and leaves `from` empty. Both of one pool. */
void chain_move(struct chain *to, struct chain *from);

/* Verifies I1-I4 as far as one chain can see; for tests. */
void chain_check(const struct chain *c);

#endif

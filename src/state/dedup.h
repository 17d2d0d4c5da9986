/* state/dedup.h - exactly once: which operations of each origin were applied already.
 *
 * PURPOSE  Decide whether an operation (origin member, incarnation, sequence) is applied now, was
 *          applied before, or must never be. Keeps no answers: an origin is a replica itself.
 * OWNS     One window for each origin, inside struct dedup.
 * USES     base.
 * THREADS  Loop thread only.
 * LIMITS   DEDUP_WINDOW sequences from the floor; DEDUP_ORIGIN_COUNT_MAX origins;
 *          DEDUP_GONE_COUNT_MAX members that are remembered as gone (the oldest is forgotten).
 * ERRORS   ERR_CORRUPT from dedup_decode.
 *
 * INVARIANTS, for each origin
 *  I1  floor <= dense <= top <= floor + DEDUP_WINDOW, except that nothing is bounded above when
 *      floor == dense == top.
 *  I2  All of [floor, dense) was applied; dense was not; of (dense, top) those whose bit is set.
 *      Bits of everything else are clear.
 *
 * FORMAT   u8 version (1) | varint origins | each: u64 member, u32 incarnation, varint floor,
 *          varint dense - floor, varint top - dense, bits of [dense, top) in (n + 7) / 8 bytes |
 *          varint gone | each: u64 member, oldest first
 */
#ifndef STATE_DEDUP_H
#define STATE_DEDUP_H

#include "base/buf.h"

#define DEDUP_FORMAT 1
#define DEDUP_WINDOW 65536u
#define DEDUP_ORIGIN_COUNT_MAX 64
#define DEDUP_GONE_COUNT_MAX 1024

struct dedup_origin {
    uint64_t member;
    uint64_t floor; /* lowest sequence that can still be applied */
    uint64_t dense;
    uint64_t top;   /* one above the highest applied */
    uint32_t incarnation;
    uint64_t *bits; /* DEDUP_WINDOW bits, by sequence modulo DEDUP_WINDOW; NULL until needed */
};

struct dedup {
    struct dedup_origin *last; /* the origin seen last, NULL if none */
    struct dedup_origin *origins[DEDUP_ORIGIN_COUNT_MAX];
    size_t origin_count;
    uint64_t *gone;
    size_t gone_count;
};

enum dedup_verdict {
    DEDUP_APPLY = 0,        /* and from now on it counts as applied */
    DEDUP_DUPLICATE,        /* was applied before */
    DEDUP_STALE,            /* an older incarnation, or a member that is gone: never */
    DEDUP_BELOW_FLOOR,      /* its origin had its outcome already: never */
    DEDUP_TOO_FAR           /* beyond the window, or too many origins: not applied */
};

void dedup_init(struct dedup *d);
void dedup_deinit(struct dedup *d);

enum dedup_verdict dedup_check_slow(struct dedup *d, uint64_t member, uint32_t incarnation,
                                    uint64_t seq, uint64_t floor_seq);

/* A new member or a higher incarnation starts an empty window at floor_seq. */
static inline enum dedup_verdict dedup_check(struct dedup *d, uint64_t member,
                                             uint32_t incarnation, uint64_t seq, uint64_t floor_seq)
{
    struct dedup_origin *o = d->last;
    if (LIKELY(o != NULL && o->member == member && o->incarnation == incarnation &&
               o->floor == floor_seq && o->dense == seq && o->top == seq &&
               seq - floor_seq < DEDUP_WINDOW)) {
        o->dense = seq + 1;
        o->top = seq + 1;
        return DEDUP_APPLY;
    }
    return dedup_check_slow(d, member, incarnation, seq, floor_seq);
}

/* OP_INCARNATION: from now on nothing of an older incarnation is applied. A lower or equal one
 * changes nothing. False if the member is gone or there are too many origins. */
bool dedup_raise(struct dedup *d, uint64_t member, uint32_t incarnation);

/* The member left the group for ever: nothing of it is applied any more. */
void dedup_remove(struct dedup *d, uint64_t member);

/* At or above the floor: was it applied? */
bool dedup_was_applied(const struct dedup *d, uint64_t member, uint32_t incarnation, uint64_t seq);

/* NULL if nothing is known of it. Borrowed until the next change. */
const struct dedup_origin *dedup_find(const struct dedup *d, uint64_t member);

void dedup_encode(const struct dedup *d, struct buf *out);
/* The whole slice, into an initialised and empty d. Unchanged on error. */
enum err dedup_decode(struct dedup *d, struct slice bytes) MUST_USE;

void dedup_verify(const struct dedup *d); /* invariants, asserted */

#endif

/* disk/store_marker.h - the chain of markers: one in every write, so that a lost write is noticed.
 *
 * PURPOSE  Decide whether meta/ holds every write up to its newest one, and which packs rows/ must
 *          hold. LevelDB can lose writes from its middle or its end and open without a word.
 * OWNS     Nothing.
 * USES     base/, store_db.h, store.h (STORE_MARKERS).
 * THREADS  One at a time.
 * LIMITS   STORE_MARKERS are kept.
 * ERRORS   ERR_CORRUPT: which marker, what is wrong.
 *
 * FORMAT   key "b" seq(be64); value: u64 seq | u64 previous applied index | u64 applied index |
 *          u64 applied term | u64 compacted rev | u64 last rev | u64 pack sum | u64 pack sum
 *          before | u32 last n | u32 CRC32C of the previous marker's value | u32 CRC32C of the
 *          bytes before. "s" "applied" holds the newest once more. A new database begins with
 *          STORE_MARKERS markers of index 0, so there are always as many; a write removes the
 *          oldest. When a run of writes is lost, then either a marker is missing among the newest,
 *          or one that a lost write would have removed is still there.
 *
 * INVARIANTS
 *  I1  No pack named by a marker begins behind (last_rev, last_n), and every pack of a later batch
 *      does. last_rev, last_n never go back, though the pack there may be removed.
 *  I2  A batch's marker follows its packs, so both sums are that of rows/. A compaction's precedes
 *      its change: rows/ has the sum before or, when the change is made, the other.
 */
#ifndef DISK_STORE_MARKER_H
#define DISK_STORE_MARKER_H

#include "disk/store_db.h"

#define STORE_MARKER_BYTES 76u
#define STORE_KEY_APPLIED "sapplied"
#define STORE_KEY_FLOOR "sfloor"
#define STORE_KEY_FORMAT "sformat"

struct store_marker {
    uint64_t seq;
    uint64_t prev_index;
    uint64_t index;
    uint64_t term;
    uint64_t compacted_rev;
    uint64_t last_rev; /* no pack begins behind (last_rev, last_n) */
    uint64_t pack_sum; /* of all packs (store_table.h), when what this marker names is done */
    uint64_t pack_sum_before; /* the same but for a compaction */
    uint32_t last_n;
    uint32_t prev_crc;
};

void store_marker_encode(const struct store_marker *m, uint8_t out[STORE_MARKER_BYTES]);
enum err store_marker_decode(struct slice value, struct store_marker *out) MUST_USE;

/* The one behind `last`, with the same fields; both sums are its pack_sum. */
struct store_marker store_marker_after(const struct store_marker *last);
/* Does a pack begin behind all that the marker names? */
static inline bool store_marker_is_behind(const struct store_marker *m, uint64_t first_rev,
                                          uint32_t first_n)
{
    return first_rev != m->last_rev ? first_rev > m->last_rev : first_n > m->last_n;
}

/* Adds `next`, the removal of the oldest, and "applied". */
void store_marker_add(leveldb_writebatch_t *batch, const struct store_marker *next);
/* The first write of a new database: format and STORE_MARKERS markers; *newest is the last. */
void store_marker_begin(leveldb_writebatch_t *batch, struct store_marker *newest);
/* Format 2 has no references to files in rows/. A program that knows no other must not open this
 * directory any more, before the first reference is written. */
enum err store_marker_raise_format(struct store_db *db, struct errmsg *em) MUST_USE;
/* Walks all markers. */
enum err store_marker_check(const struct store_db *db, struct store_marker *newest,
                            struct errmsg *em) MUST_USE;

#endif

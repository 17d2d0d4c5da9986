/* disk/store_marker.h - the chain of markers: one in every write, so that a lost write is noticed.
 *
 * PURPOSE  Decide whether the database holds every write up to its newest one. LevelDB can lose
 *          writes from its middle or its end and open without a word.
 * OWNS     Nothing.
 * USES     base/, store_db.h, store.h (STORE_MARKERS).
 * THREADS  One at a time.
 * LIMITS   STORE_MARKERS are kept.
 * ERRORS   ERR_CORRUPT: which marker, what is wrong.
 *
 * FORMAT   key "b" seq(be64); value: u64 seq | u64 previous applied index | u64 applied index |
 *          u64 applied term | u64 compacted rev | u32 CRC32C of the previous marker's value |
 *          u32 CRC32C of the bytes before. "s" "applied" holds the newest once more. A new
 *          database begins with STORE_MARKERS markers of index 0, so there are always as many; a
 *          write removes the oldest. When a run of writes is lost, then either a marker is missing
 *          among the newest, or one that a lost write would have removed is still there.
 */
#ifndef DISK_STORE_MARKER_H
#define DISK_STORE_MARKER_H

#include "disk/store_db.h"

#define STORE_MARKER_BYTES 48u
#define STORE_KEY_APPLIED "sapplied"
#define STORE_KEY_FLOOR "sfloor"
#define STORE_KEY_FORMAT "sformat"

struct store_marker {
    uint64_t seq;
    uint64_t prev_index;
    uint64_t index;
    uint64_t term;
    uint64_t compacted_rev;
    uint32_t prev_crc;
};

void store_marker_encode(const struct store_marker *m, uint8_t out[STORE_MARKER_BYTES]);
enum err store_marker_decode(struct slice value, struct store_marker *out) MUST_USE;

/* The one behind `last`, with the same index, term and compacted_rev. */
struct store_marker store_marker_after(const struct store_marker *last);
/* Adds `next`, the removal of the oldest, and "applied". */
void store_marker_add(leveldb_writebatch_t *batch, const struct store_marker *next);
/* The first write of a new database: format and STORE_MARKERS markers; *newest is the last. */
void store_marker_begin(leveldb_writebatch_t *batch, struct store_marker *newest);
/* Walks all markers. */
enum err store_marker_check(const struct store_db *db, struct store_marker *newest,
                            struct errmsg *em) MUST_USE;

#endif

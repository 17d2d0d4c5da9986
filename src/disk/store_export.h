/* disk/store_export.h - all that a store holds as of one durable batch, read in bounded pieces.
 *
 * PURPOSE  Give a snapshot for a follower, or a backup: every name and every pack as of one batch,
 *          while batches and compaction go on. Does not decide where it goes.
 * OWNS     struct store_export: a snapshot of each database, one chunk.
 * USES     store.h, workers.h.
 * THREADS  Loop thread, as store.h. The view is taken by the store's thread between two writes, so
 *          both databases are those of one batch; chunks are read by a worker. Each answer comes
 *          through the done queue of the caller's.
 * LIMITS   STORE_EXPORT_CHUNK_BYTES a chunk, unless its only record is larger;
 *          STORE_RECORD_BYTES_MAX a record. The caller bounds how long an export lives: what it
 *          pins (rows that compaction removed, and files of packs with their descriptors) stays
 *          until then. No memory is pinned between two chunks.
 * ERRORS   ERR_NOT_FOUND: the store has no batch yet. ERR_CORRUPT, ERR_IO, ERR_LIMIT: the export is
 *          over, the store and the process are not; nothing of it may be used.
 *
 * FORMAT   A chunk is whole records, each: u8 kind, then
 *          1 meta  u32 name bytes | u32 value bytes | name | value
 *          2 pack  u64 first rev | u32 first n | u32 bytes | pack
 *          All metas come first, ascending by name, then all packs, ascending. All little-endian.
 */
#ifndef DISK_STORE_EXPORT_H
#define DISK_STORE_EXPORT_H

#include "disk/store.h"

#define STORE_EXPORT_FORMAT 2 /* members of the same one can exchange snapshots */
#define STORE_EXPORT_CHUNK_BYTES (256u << 10)
#define STORE_RECORD_BYTES_MAX (9u << 20) /* the largest row, alone in its pack, and some */

struct store_export;

/* Begins: the view comes first. Never blocks. The store must be started, and outlive the export. */
struct store_export *store_export_new(struct store *s, struct done_queue *done);
/* What the done queue gives back when the view is there, and after each chunk. */
const struct work *store_export_work(const struct store_export *e);
/* Reads the next chunk, after the answer to the last call, if its result was OK and not the end. */
void store_export_next(struct store_export *e);
/* Not between a call and its answer. NULL is allowed. */
void store_export_free(struct store_export *e);

/* After an answer: */
enum err store_export_result(const struct store_export *e, struct errmsg *em) MUST_USE;

struct store_view {
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t compacted_rev;
    uint64_t floor_rev; /* rows that are not visible at or above it may be missing */
};
struct store_view store_export_view(const struct store_export *e);
struct slice store_export_chunk(const struct store_export *e); /* borrowed until the next call */
/* No more chunks (the last may be empty): the sum of all packs was that of the marker. */
bool store_export_at_end(const struct store_export *e);
uint64_t store_export_count(const struct store_export *e); /* of records so far */
uint32_t store_export_crc(const struct store_export *e);   /* crc32c of all chunks so far */

/* --- records ------------------------------------------------------------------ */

enum store_record_kind { STORE_RECORD_META = 1, STORE_RECORD_PACK = 2 };

struct store_record {
    enum store_record_kind kind;
    struct slice name; /* META */
    uint64_t first_rev; /* PACK */
    uint32_t first_n;
    struct slice value;
};

/* Takes the next one from *rest; borrows from it. ERR_CORRUPT: there is none, or it cannot be. */
enum err store_record_decode(struct slice *rest, struct store_record *out) MUST_USE;

#endif

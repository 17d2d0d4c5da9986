/* disk/wal_format_int.h - the bytes of the log: segment headers, batches, records.
 *
 * PURPOSE  Encode and decode; decide whether bytes are a batch of this segment and whether its
 *          records follow each other. Does no I/O.
 * OWNS     Nothing: decoded batches borrow from the bytes given.
 * USES     base/, wal.h (whose FORMAT this is).
 * THREADS  Any.
 * LIMITS   WAL_RECORDS_MAX records a batch; wal.h has the others.
 * ERRORS   ERR_CORRUPT, ERR_UNSUPPORTED; ERR_AGAIN when more bytes are needed.
 */
#ifndef DISK_WAL_FORMAT_INT_H
#define DISK_WAL_FORMAT_INT_H

#include "disk/wal.h"

#define WAL_VERSION 1
#define WAL_SEGMENT_HEAD_BYTES 96
#define WAL_BATCH_HEAD_BYTES 96
#define WAL_RECORD_HEAD_BYTES 32
#define WAL_RECORDS_MAX 8192
#define WAL_MARKS_MAX 2 /* records that an opening batch repeats */

_Static_assert((uint64_t)WAL_BATCH_HEAD_BYTES + (uint64_t)WAL_RECORD_HEAD_BYTES * WAL_RECORDS_MAX +
                       WAL_GROUP_BYTES <= WAL_BATCH_BYTES_MAX,
               "a full group fits in a batch");

struct wal_segment_head {
    uint32_t version;
    uint32_t block_bytes;
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t seq;
    uint64_t segment_bytes;
    uint64_t salt;
    uint32_t group;
};

void wal_segment_head_encode(const struct wal_segment_head *h, uint8_t *out);
/* in has WAL_SEGMENT_HEAD_BYTES. */
enum err wal_segment_head_decode(const uint8_t *in, struct wal_segment_head *out,
                                 struct errmsg *em) MUST_USE;
/* What every batch CRC of that segment starts from. */
uint32_t wal_seed(uint64_t salt, uint64_t segment_seq);

enum wal_record_type {
    WAL_RECORD_ENTRY = 1,
    WAL_RECORD_TRUNCATE = 2,
    WAL_RECORD_SNAPSHOT_BEGIN = 3,
    WAL_RECORD_SNAPSHOT = 4,
};
#define WAL_MARK_REPEATED 1 /* entry type of a mark in an opening batch: restarts nothing */

struct wal_record {
    enum wal_record_type type;
    uint8_t entry_type;
    uint32_t crc; /* of body */
    uint64_t term;
    uint64_t index;
    struct slice body;
};

enum wal_batch_flag { WAL_BATCH_OPENS = 1, WAL_BATCH_SEALS = 2 };

struct wal_batch {
    uint32_t crc; /* over header and heads: out of encode and decode */
    uint32_t bytes;
    uint32_t record_count;
    uint64_t seq;
    uint64_t durable_seq;
    uint32_t prev_crc;
    uint32_t flags;
    uint64_t segment_seq;
    struct wal_hard_state hard;
    struct wal_mark before;
    const uint8_t *heads;  /* decoded only */
    const uint8_t *bodies; /* decoded only; NULL after wal_batch_decode_head */
};

/* Of a batch, with padding. */
size_t wal_batch_bytes(size_t record_count, size_t body_bytes, uint32_t block_bytes);
/* Writes b->bytes bytes to out and sets b->crc. b->bytes is wal_batch_bytes() of the records. */
void wal_batch_encode(struct wal_batch *b, const struct wal_record *records, uint32_t seed,
                      uint8_t *out);
/* Header and heads only: ERR_AGAIN if `in` ends before the heads, ERR_CORRUPT if this is no batch
 * of the segment or longer than bytes_max. */
enum err wal_batch_decode_head(struct slice in, uint32_t seed, uint32_t block_bytes,
                               uint64_t bytes_max, struct wal_batch *out,
                               struct errmsg *em) MUST_USE;
/* All of it; `in` has at least out->bytes of wal_batch_decode_head, else ERR_AGAIN. */
enum err wal_batch_decode(struct slice in, uint32_t seed, uint32_t block_bytes, uint64_t bytes_max,
                          struct wal_batch *out, struct errmsg *em) MUST_USE;

/* Iterates over the records of a decoded batch: start with *cx = { 0 }. */
struct wal_record_cursor {
    uint32_t at;
    size_t body_offset;
};
bool wal_record_next(const struct wal_batch *b, struct wal_record_cursor *cx,
                     struct wal_record *out);

/* What a batch does to the log. */
struct wal_effect {
    struct wal_mark last;   /* the log's end behind it */
    struct wal_mark cut;    /* the lowest end that a truncation in it left; valid if has_cut */
    struct wal_mark restart; /* the snapshot it restarted behind; index 0: none */
    bool has_cut;
    uint64_t run_first; /* lowest entry in it that survives it, 0: none. They reach to `last`. */
    struct wal_mark snapshot_begin; /* index 0: none in it */
    struct wal_mark snapshot;
    uint32_t entry_count;
};
/* ERR_CORRUPT if the records break I8. */
enum err wal_batch_effect(const struct wal_batch *b, struct wal_effect *out,
                          struct errmsg *em) MUST_USE;

#endif

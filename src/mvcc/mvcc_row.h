/* mvcc/mvcc_row.h - how one version of one key is written: rows, and packs of rows.
 *
 * PURPOSE  Encode and decode rows. Decides nothing about which rows exist.
 * OWNS     Nothing; decoded slices borrow from the pack.
 * USES     base/.
 * THREADS  Any (pure).
 * LIMITS   PACK_BYTES_MAX is where a writer starts the next pack; a larger row is alone in its pack.
 * ERRORS   ERR_CORRUPT when bytes are not a row.
 *
 * FORMAT   pack  = u8 format (PACK_FORMAT), then rows to the end. Rows ascend by (rev, n).
 *          A pack's place in the store is (rev, n) of its first row; `base_rev` below is that rev.
 *          row   = varint body length, body
 *          body  = u8 op | u8 type | u8 flags | u8 chain | varint rev - base_rev | varint n |
 *                  varint create | varint version | varint prev | varint jump |
 *                  [flags & ROW_LEASE: varint lease] [flags & ROW_LIFE: varint deadline_ms,
 *                  varint unix_ms, varint life_index] | varint key length, key | value (the rest)
 */
#ifndef MVCC_ROW_H
#define MVCC_ROW_H

#include "base/buf.h"

#define PACK_FORMAT 1
#define PACK_BYTES_MAX 16384

/* Numbers are on disk. */
enum row_op { ROW_PUT = 1, ROW_DEL = 2, ROW_EXPIRE = 3 };
enum value_type { VALUE_STRING = 0, VALUE_HASH = 1, VALUE_LIST = 2 };

struct row {
    uint64_t rev;     /* the revision that made this version */
    uint32_t n;       /* 1.. over all events of that revision */
    enum row_op op;   /* DEL and EXPIRE are tombstones: no value, version 0, create 0 */
    enum value_type type;
    uint64_t create;  /* revision */
    uint64_t version; /* 1 on create */
    uint64_t prev;    /* revision of the row of this key that this one replaces, 0 if none (a
                         tombstone that is still in history counts as a row) */
    uint64_t jump;    /* revision of the newest earlier row of this key whose chain is 0; 0 if none */
    uint8_t chain;    /* rows of this key so far, modulo MVCC_JUMP_STRIDE */
    uint64_t lease;   /* put: attached lease or 0; tombstone: the lease it had */
    int64_t deadline_ms;  /* private lifetime in the cluster clock, 0 if none */
    int64_t unix_ms;      /* the same as an absolute time, 0 if none */
    uint64_t life_index;  /* log position of the last lifetime change, 0 if never */
    struct slice key;     /* database byte + key */
    struct slice value;
};

#define MVCC_JUMP_STRIDE 128

void row_encode(struct buf *out, const struct row *r, uint64_t base_rev);
/* Reads the row at *offset and moves *offset behind it. On error both are unchanged. */
enum err row_decode(struct slice pack, size_t *offset, uint64_t base_rev, struct row *out) MUST_USE;
/* Where the first row of a pack begins, after checking the format byte: ERR_CORRUPT. */
enum err pack_begin(struct slice pack, size_t *offset) MUST_USE;

#endif

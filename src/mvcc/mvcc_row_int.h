/* mvcc/mvcc_row_int.h - the part of a row in front of its key and value, for writers of packs.
 *
 * PURPOSE  Lets a pack be written in place, without a buffer in between. Decides nothing.
 * OWNS     Nothing.
 * USES     mvcc_row.h.
 * THREADS  Any (pure).
 * LIMITS   ROW_HEAD_BYTES_MAX.
 * ERRORS   None.
 */
#ifndef MVCC_ROW_INT_H
#define MVCC_ROW_INT_H

#include "mvcc/mvcc_row.h"

#define VARINT_BYTES_MAX 10
/* Body length, op type flags chain, six numbers, lease, three of the lifetime, key length. */
#define ROW_HEAD_BYTES_MAX (4 + 12 * VARINT_BYTES_MAX)

/* Writes everything of the row up to its key to `out`, which has room for ROW_HEAD_BYTES_MAX, and
 * returns how many bytes that is; key and value follow it. */
size_t row_head_encode(uint8_t *out, const struct row *r, uint64_t base_rev);

#endif

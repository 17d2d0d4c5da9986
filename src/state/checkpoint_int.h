/* state/checkpoint_int.h - what writing and reading a checkpoint share.
 *
 * PURPOSE  The letters that names begin with, and the sum that ends a value.
 * OWNS     Nothing.
 * USES     base.
 * THREADS  Any (pure).
 * LIMITS   None.
 * ERRORS   None.
 */
#ifndef STATE_CHECKPOINT_INT_H
#define STATE_CHECKPOINT_INT_H

#include "base/base.h"

/* In the store for ever. Ascending, and below the packs' 'r'. */
enum { META_LEASE = 'L', META_STATE = 'S', META_LIFE = 'T' };

#define META_CRC_BYTES 4

uint32_t meta_crc(struct slice name, struct slice versioned_body);

#endif

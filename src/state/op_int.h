/* state/op_int.h - decoding for apply: one pass over a batch, nothing copied.
 *
 * PURPOSE  The pieces of op_batch_check, so that apply decodes each operation once, as it goes.
 * OWNS     Nothing.
 * USES     op.h.
 * THREADS  Any (pure).
 * LIMITS   As op.h; clocks up to OP_CLOCK_MS_MAX, so that sums of a clock and a lease's time fit.
 * ERRORS   As op.h.
 */
#ifndef STATE_OP_INT_H
#define STATE_OP_INT_H

#include "state/op.h"

#define OP_CLOCK_MS_MAX (1LL << 62)

/* As op_decode, but *out is undefined on error. */
enum err op_decode_into(struct slice bytes, size_t *offset, struct op *out) MUST_USE;

/* Head of a batch. *offset is set behind it. */
enum err op_batch_decode_head(struct slice body, size_t *offset, struct op_batch_head *out,
                              struct errmsg *em) MUST_USE;
/* Head of the run at *offset; *offset moves behind the run's operations. */
enum err op_batch_decode_run(struct slice body, size_t *offset, struct op_run *out,
                             struct errmsg *em) MUST_USE;

#endif

/* check/wgl.h - linearizability without revisions: Wing and Gong's search with Lowe's memory.
 *
 * PURPOSE  Key by key, from invoke and completion times and answers alone (no revision, no event
 *          log), search an order of its operations that explains every answer. Of operations on
 *          several keys each key's part is looked at for itself. Says nothing about order between
 *          keys; keys with a lifetime or a lease are left out.
 * OWNS     Nothing.
 * USES     history.h.
 * THREADS  One.
 * LIMITS   step_max per key; a key that needs more is counted as undecided, not as violation.
 *          States are remembered by a 128-bit hash of (what is placed, value).
 * ERRORS   None; violations go to the verdict.
 */
#ifndef CHECK_WGL_H
#define CHECK_WGL_H

#include "history.h"

#define WGL_STEP_MAX_DEFAULT 2000000

void wgl_check(const struct history *h, uint64_t step_max, struct verdict *v);

#endif

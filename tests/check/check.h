/* check/check.h - all checkers over one history.
 *
 * PURPOSE  One call for the simulator, for history_check and for tests.
 * OWNS     Nothing.
 * USES     All the others.
 * THREADS  One.
 * LIMITS   See each.
 * ERRORS   None; violations go to the verdict.
 */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include "lease_check.h"
#include "linear.h"
#include "once_check.h"
#include "watch_check.h"
#include "wgl.h"

struct check_params {
    struct lease_params lease;
    uint64_t wgl_step_max; /* per key; 0: without wgl */
    bool holes_allowed;    /* see keyspace_new */
};

#define CHECK_PARAMS_DEFAULT \
    ((struct check_params){ .lease = LEASE_PARAMS_DEFAULT, .wgl_step_max = WGL_STEP_MAX_DEFAULT })

/* True: nothing violated. v is zeroed by the caller before, and verdict_deinit'ed behind. */
bool check_history(const struct history *h, const struct check_params *params, struct verdict *v);

#endif

/* check/lease_check.h - lifetimes and locks: promise P5, and who held a lock when.
 *
 * PURPOSE  E1 A key goes by expiry only if it has a lifetime, and not before it has passed since
 *             the put, grant or last successful keepalive was *sent*, by the tester's clock.
 *          E2 A lease that a keepalive did not find had its time, or was revoked.
 *          E3 All keys of a lease go in one revision, and none is put with it afterwards.
 *          E4 Nobody sees a key later than late_ms_max behind its time (where that is given).
 *          L1 Two holders of a lock never believe at one moment that they have it; fences (create
 *             revisions) grow.
 *          When an expiry was: not later than the first answer or event of its revision or above.
 * OWNS     Nothing.
 * USES     linear.h: what revision everything was at.
 * THREADS  One.
 * LIMITS   None.
 * ERRORS   None; violations go to the verdict.
 */
#ifndef CHECK_LEASE_CHECK_H
#define CHECK_LEASE_CHECK_H

#include "linear.h"

struct lease_params {
    int64_t rate_ppm;       /* clocks may differ by so much; 500 */
    int64_t early_slack_ms; /* of the tester's own clock and of rounding; 1 */
    int64_t late_ms_max;    /* -1: not looked at */
    int64_t unknown_ms_max; /* a change of unknown outcome happens at most so late; for E4 */
};

#define LEASE_PARAMS_DEFAULT \
    ((struct lease_params){ .rate_ppm = 500, .early_slack_ms = 1, .late_ms_max = -1, \
                            .unknown_ms_max = 60000 })

void lease_check(const struct linear *l, const struct lease_params *params, struct verdict *v);

#endif

/* check/linear.h - is a history linearizable, given the event log as the order of its writes?
 *
 * PURPOSE  Every revision of the log must be the effect of exactly one operation (or an expiry);
 *          every acknowledged change must be in the log once, every refused one not at all, one of
 *          unknown outcome at most once; conditions must have held just before; and there must be
 *          a point for each operation, a write's being its revision, such that what was answered
 *          before another was sent comes first and every read saw the state at its point. Exact:
 *          the smallest solution is computed, so a history is refused only if none exists.
 *          Does not decide whether expiries came at the right time (lease_check.h).
 * OWNS     struct linear.
 * USES     history.h, keyspace.h.
 * THREADS  One.
 * LIMITS   About n log n; unmatched revisions times deletes of unknown outcome in the worst case.
 * ERRORS   None; violations go to the verdict.
 */
#ifndef CHECK_LINEAR_H
#define CHECK_LINEAR_H

#include "keyspace.h"

#define LINEAR_NOWHERE UINT64_MAX /* point of what had no effect or cannot be placed */
#define LINEAR_NOBODY SIZE_MAX

struct linear {
    const struct history *h;
    const struct keyspace *ks;
    uint64_t *point; /* by operation: the revision it took effect at or read */
    bool *guessed;   /* by operation: the point is one of several that it may have */
    size_t *owner;   /* by index into ks->revs: the operation, or LINEAR_NOBODY (an expiry) */
};

/* Borrows both; they must not change while the result lives. */
struct linear *linear_check(const struct history *h, const struct keyspace *ks, struct verdict *v);
void linear_free(struct linear *l); /* NULL is allowed */

#endif

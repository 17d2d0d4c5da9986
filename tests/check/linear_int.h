/* check/linear_int.h - what linear.c and linear_own.c share.
 *
 * PURPOSE  linear_own.c finds whose each revision is; linear.c places everything in time.
 * OWNS     Nothing.
 * USES     linear.h.
 * THREADS  One.
 * LIMITS   None.
 * ERRORS   None.
 */
#ifndef CHECK_LINEAR_INT_H
#define CHECK_LINEAR_INT_H

#include "linear.h"

struct linear_work {
    struct linear *out;
    const struct history *h;
    const struct keyspace *ks;
    struct verdict *v;
    uint64_t *low;   /* by operation: what was surely there when it was sent */
    uint64_t *high;  /* by operation: what was surely not there yet when it was answered */
    size_t *floats;  /* changes that name neither revision nor unique value */
    size_t float_count;
};

static inline bool linear_role_changes(enum history_role role)
{
    return role <= HISTORY_ITEM_APPEND;
}

static inline bool linear_role_is_condition(enum history_role role)
{
    return role >= HISTORY_ITEM_IF_VALUE && role <= HISTORY_ITEM_IF_EXISTS;
}

bool linear_op_changes(const struct history *h, const struct history_op *op);
/* Conditions, and observations if told so, at the state of rev. */
bool linear_op_holds(const struct linear_work *w, const struct history_op *op, uint64_t rev,
                     bool observations);
/* Are the events of revs[at] what op does to the state before? */
bool linear_op_fits(const struct linear_work *w, const struct history_op *op, size_t at);

/* Before placing: whose is each revision, as far as it can be told; collects w->floats. */
void linear_own(struct linear_work *w);
/* Behind placing, w->low filled: whose the others are. */
void linear_own_floats(struct linear_work *w);

#endif

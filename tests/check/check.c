/* Everything over one history. */
#include "check.h"

bool check_history(const struct history *h, const struct check_params *params, struct verdict *v)
{
    size_t before = v->violation_count;
    struct keyspace *ks = keyspace_new(h, params->holes_allowed, v);
    struct linear *l = linear_check(h, ks, v);
    watch_check(h, ks, v);
    lease_check(l, &params->lease, v);
    once_check(h, v);
    if (params->wgl_step_max > 0) wgl_check(h, params->wgl_step_max, v);
    linear_free(l);
    keyspace_free(ks);
    return v->violation_count == before;
}

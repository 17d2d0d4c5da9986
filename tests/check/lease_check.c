/* Lifetimes and locks: E1 to E4 and L1 of the header. */
#include "lease_check.h"

#include <stdio.h>
#include <stdlib.h>

#define NS_PER_MS 1000000LL

/* What is known of one lease: no id is used twice. */
struct lease {
    uint64_t id;
    int64_t lives_ns;   /* it lived at least until here */
    size_t lives_op;    /* because of this grant or keepalive */
    int64_t late_ns;    /* the last moment it can have been renewed, plus its TTL */
    int64_t revoke_ns;  /* the first attempt to revoke it was sent; HISTORY_NEVER */
    int64_t revoked_ns; /* a revoke was answered; HISTORY_NEVER */
};

struct attached {
    uint64_t lease;
    size_t key;
};

struct work {
    const struct linear *l;
    const struct history *h;
    const struct keyspace *ks;
    const struct lease_params *params;
    struct verdict *v;
    struct lease *leases; /* sorted by id */
    size_t lease_count;
    struct attached *attached; /* sorted, each once */
    size_t attached_count;
    int64_t *until; /* by index into ks->revs: when it surely had happened */
};

/* The earliest and the latest end of a TTL, by another clock. */
static int64_t ttl_ns_short(const struct work *w, int64_t ttl_ms)
{
    return ttl_ms * (NS_PER_MS - w->params->rate_ppm) - w->params->early_slack_ms * NS_PER_MS;
}

static int64_t ttl_ns_long(const struct work *w, int64_t ttl_ms)
{
    return ttl_ms * (NS_PER_MS + w->params->rate_ppm) + w->params->late_ms_max * NS_PER_MS;
}

/* The last moment at which the operation can have been applied. */
static int64_t applied_ns_max(const struct work *w, const struct history_op *op)
{
    if (op->outcome == HISTORY_DONE) return op->complete_ns;
    return op->invoke_ns + w->params->unknown_ms_max * NS_PER_MS;
}

/* --- collecting ------------------------------------------------------------------------------ */

static int by_lease(const void *a, const void *b)
{
    const struct lease *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static struct lease *lease_find(const struct work *w, uint64_t id)
{
    size_t low = 0, high = w->lease_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->leases[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < w->lease_count && w->leases[low].id == id ? &w->leases[low] : NULL;
}

static void lease_learn(const struct work *w, size_t op_at)
{
    const struct history_op *op = &w->h->ops[op_at];
    if (op->outcome == HISTORY_REFUSED) return;
    bool done = op->outcome == HISTORY_DONE;
    bool renews = op->kind == HISTORY_GRANT || op->kind == HISTORY_KEEPALIVE;
    if (!renews && op->kind != HISTORY_REVOKE) return;
    struct lease *lease = lease_find(w, op->lease);
    if (lease == NULL) return;
    if (op->kind == HISTORY_REVOKE) {
        lease->revoke_ns = MIN(lease->revoke_ns, op->invoke_ns);
        if (done) lease->revoked_ns = MIN(lease->revoked_ns, op->complete_ns);
        return;
    }
    if (done && !op->applied) return;
    lease->late_ns = MAX(lease->late_ns, applied_ns_max(w, op) + ttl_ns_long(w, op->ttl_ms));
    if (!done) return;
    int64_t lives_ns = op->invoke_ns + ttl_ns_short(w, op->ttl_ms);
    if (lives_ns <= lease->lives_ns) return;
    lease->lives_ns = lives_ns;
    lease->lives_op = op_at;
}

static void collect_leases(struct work *w)
{
    w->leases = mem_alloc((w->h->op_count + 1) * sizeof *w->leases);
    for (size_t i = 0; i < w->h->op_count; i++) {
        if (w->h->ops[i].kind != HISTORY_GRANT || w->h->ops[i].lease == 0) continue;
        w->leases[w->lease_count++] = (struct lease){ .id = w->h->ops[i].lease,
                                                      .lives_ns = INT64_MIN,
                                                      .late_ns = INT64_MIN,
                                                      .lives_op = i,
                                                      .revoke_ns = HISTORY_NEVER,
                                                      .revoked_ns = HISTORY_NEVER };
    }
    if (w->lease_count > 0) qsort(w->leases, w->lease_count, sizeof *w->leases, by_lease);
    size_t kept = 0;
    for (size_t i = 0; i < w->lease_count; i++) {
        if (kept == 0 || w->leases[kept - 1].id != w->leases[i].id)
            w->leases[kept++] = w->leases[i];
    }
    w->lease_count = kept;
    for (size_t i = 0; i < w->h->op_count; i++) lease_learn(w, i);
}

static int by_attached(const void *a, const void *b)
{
    const struct attached *x = a, *y = b;
    if (x->lease != y->lease) return x->lease < y->lease ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static void collect_attached(struct work *w)
{
    w->attached = mem_alloc((w->ks->event_count + 1) * sizeof *w->attached);
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < w->ks->event_count; i++) {
        const struct history_event *event = w->ks->events[i];
        if (event->op != HISTORY_EVENT_PUT || event->lease == 0) continue;
        w->attached[count++] = (struct attached){ event->lease, keyspace_find(w->ks, event->key) };
    }
    if (count > 0) qsort(w->attached, count, sizeof *w->attached, by_attached);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && by_attached(&w->attached[kept - 1], &w->attached[i]) == 0) continue;
        w->attached[kept++] = w->attached[i];
    }
    w->attached_count = kept;
}

/* Index of the last revision at or below rev, or rev_count. */
static size_t rev_index(const struct keyspace *ks, uint64_t rev)
{
    size_t low = 0, high = ks->rev_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ks->revs[middle] <= rev) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? ks->rev_count : low - 1;
}

static void seen_at(struct work *w, uint64_t rev, int64_t time_ns)
{
    size_t at = rev_index(w->ks, rev);
    if (at < w->ks->rev_count) w->until[at] = MIN(w->until[at], time_ns);
}

static void collect_times(struct work *w)
{
    w->until = mem_alloc((w->ks->rev_count + 1) * sizeof *w->until);
    for (size_t i = 0; i < w->ks->rev_count; i++) w->until[i] = HISTORY_NEVER;
    for (size_t i = 0; i < w->h->op_count; i++) {
        bool done = w->h->ops[i].outcome == HISTORY_DONE && !w->l->guessed[i];
        if (done && w->l->point[i] != LINEAR_NOWHERE) {
            seen_at(w, w->l->point[i], w->h->ops[i].complete_ns);
        }
    }
    for (size_t i = 0; i < w->h->mark_count; i++) {
        const struct history_mark *mark = &w->h->marks[i];
        bool tells = mark->kind == HISTORY_MARK_EVENT || mark->kind == HISTORY_MARK_PROGRESS;
        if (tells) seen_at(w, mark->rev, mark->time_ns);
    }
    for (size_t i = w->ks->rev_count; i-- > 1;) {
        w->until[i - 1] = MIN(w->until[i - 1], w->until[i]);
    }
}

/* --- E1: not too early ----------------------------------------------------------------------- */

static size_t owner_of(const struct work *w, uint64_t rev)
{
    size_t at = keyspace_rev(w->ks, rev);
    return at == w->ks->rev_count ? LINEAR_NOBODY : w->l->owner[at];
}

static void check_early(const struct work *w, const struct history_event *gone,
                        const struct history_event *put)
{
    int64_t lives_ns = INT64_MIN;
    size_t because = owner_of(w, put->rev);
    const struct lease *lease = put->lease == 0 ? NULL : lease_find(w, put->lease);
    if (lease != NULL) {
        lives_ns = lease->lives_ns;
        because = lease->lives_op;
    } else if (because == LINEAR_NOBODY) {
        return; /* said by linear_check */
    } else if (put->lease == 0) {
        const struct history_op *op = &w->h->ops[because];
        lives_ns = op->invoke_ns + ttl_ns_short(w, op->ttl_ms);
        if (op->ttl_ms == 0) {
            verdict_add(w->v, "expiry: a key without a lifetime expired");
            verdict_op(w->v, w->h, because);
            verdict_event(w->v, gone);
            return;
        }
    }
    int64_t until_ns = w->until[keyspace_rev(w->ks, gone->rev)];
    if (until_ns >= lives_ns) return;
    verdict_add(w->v, "early expiry: gone at %lld ns at the latest, %lld ms before its time",
                (long long)until_ns, (long long)((lives_ns - until_ns) / NS_PER_MS));
    verdict_op(w->v, w->h, because);
    verdict_event(w->v, put);
    verdict_event(w->v, gone);
}

/* --- E2: keepalives --------------------------------------------------------------------------- */

static void check_keepalive(const struct work *w, size_t op_at)
{
    const struct history_op *op = &w->h->ops[op_at];
    if (op->kind != HISTORY_KEEPALIVE || op->outcome != HISTORY_DONE) return;
    const struct lease *lease = lease_find(w, op->lease);
    if (lease == NULL) return;
    if (op->applied && op->invoke_ns > lease->revoked_ns) {
        verdict_add(w->v, "lease: kept alive after it was revoked");
        verdict_op(w->v, w->h, op_at);
    } else if (!op->applied && op->complete_ns < lease->lives_ns &&
               op->complete_ns < lease->revoke_ns) {
        verdict_add(w->v, "early expiry: a keepalive did not find a lease that must live");
        verdict_op(w->v, w->h, lease->lives_op);
        verdict_op(w->v, w->h, op_at);
    }
}

/* --- E3: a lease goes whole --------------------------------------------------------------------
 */

static void check_whole(const struct work *w, const struct history_event *gone, uint64_t lease)
{
    size_t low = 0, high = w->attached_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->attached[middle].lease < lease) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < w->attached_count && w->attached[low].lease == lease; low++) {
        size_t key = w->attached[low].key;
        const struct history_event *left = keyspace_at(w->ks, key, gone->rev);
        if (left != NULL && left->lease == lease) {
            verdict_add(w->v, "split lease: not all its keys went at revision %llu",
                        (unsigned long long)gone->rev);
            verdict_event(w->v, gone);
            verdict_event(w->v, left);
            return;
        }
        const struct history_event *next = keyspace_next(w->ks, key, gone->rev);
        for (; next != NULL; next = keyspace_next(w->ks, key, next->rev)) {
            if (next->op != HISTORY_EVENT_PUT || next->lease != lease) continue;
            verdict_add(w->v, "lease: a key was put with a lease that had gone");
            verdict_event(w->v, gone);
            verdict_event(w->v, next);
            return;
        }
    }
}

static void check_gone(const struct work *w)
{
    for (size_t i = 0; i < w->ks->event_count; i++) {
        const struct history_event *gone = w->ks->events[i];
        if (gone->op == HISTORY_EVENT_PUT) continue;
        const struct history_event *put = keyspace_get(w->ks, gone->key, gone->rev - 1);
        if (put == NULL) continue; /* said by keyspace_new */
        if (gone->op == HISTORY_EVENT_EXPIRE) check_early(w, gone, put);
        size_t owner = owner_of(w, gone->rev);
        bool revoked = owner != LINEAR_NOBODY && w->h->ops[owner].kind == HISTORY_REVOKE;
        bool ends = gone->op == HISTORY_EVENT_EXPIRE || revoked;
        if (ends && put->lease != 0) check_whole(w, gone, put->lease);
    }
}

/* --- E4: not too late --------------------------------------------------------------------------
 */

static void check_late(const struct work *w, size_t op_at)
{
    const struct history_op *op = &w->h->ops[op_at];
    bool looks = op->outcome == HISTORY_DONE && op->at_rev == 0 &&
                 (op->flags & HISTORY_LOCAL) == 0 && w->l->point[op_at] != LINEAR_NOWHERE;
    for (size_t i = 0; looks && i < op->item_count; i++) {
        const struct history_item *item = &w->h->items[op->item_first + i];
        if (item->role != HISTORY_ITEM_SAW) continue;
        const struct history_event *put = keyspace_get(w->ks, item->key, w->l->point[op_at]);
        if (put == NULL) continue;
        size_t because = owner_of(w, put->rev);
        const struct lease *lease = put->lease == 0 ? NULL : lease_find(w, put->lease);
        int64_t late_ns = HISTORY_NEVER;
        if (lease != NULL) {
            late_ns = lease->late_ns;
            because = lease->lives_op;
        } else if (because != LINEAR_NOBODY && w->h->ops[because].ttl_ms > 0) {
            const struct history_op *writer = &w->h->ops[because];
            late_ns = applied_ns_max(w, writer) + ttl_ns_long(w, writer->ttl_ms);
        }
        if (op->invoke_ns <= late_ns) continue;
        verdict_add(w->v, "late expiry: still there %lld ms behind the bound",
                    (long long)((op->invoke_ns - late_ns) / NS_PER_MS));
        if (because != LINEAR_NOBODY) verdict_op(w->v, w->h, because);
        verdict_op(w->v, w->h, op_at);
    }
}

/* --- L1: locks ---------------------------------------------------------------------------------
 */

struct hold {
    struct slice key;
    struct slice token;
    int64_t begin_ns; /* the holder believes from here */
    int64_t end_ns;   /* to here */
    size_t op;
};

static int by_token(const void *a, const void *b)
{
    const struct hold *x = a, *y = b;
    int order = slice_cmp(x->key, y->key);
    return order != 0 ? order : slice_cmp(x->token, y->token);
}

static int by_begin(const void *a, const void *b)
{
    const struct hold *x = a, *y = b;
    int order = slice_cmp(x->key, y->key);
    if (order != 0) return order;
    return x->begin_ns < y->begin_ns ? -1 : x->begin_ns > y->begin_ns;
}

static const struct history_item *item_of(const struct history *h, const struct history_op *op,
                                          enum history_role role)
{
    for (size_t i = 0; i < op->item_count; i++) {
        if (h->items[op->item_first + i].role == role) return &h->items[op->item_first + i];
    }
    return NULL;
}

static size_t collect_holds(const struct work *w, struct hold *holds)
{
    size_t count = 0;
    for (size_t i = 0; i < w->h->op_count; i++) {
        const struct history_op *op = &w->h->ops[i];
        const struct history_item *put = item_of(w->h, op, HISTORY_ITEM_PUT);
        bool held = op->kind == HISTORY_LOCK && op->outcome == HISTORY_DONE && op->applied;
        if (!held || put == NULL) continue;
        struct hold hold = { put->key, put->value, op->complete_ns, HISTORY_NEVER, i };
        const struct lease *lease = op->lease == 0 ? NULL : lease_find(w, op->lease);
        if (op->ttl_ms > 0) hold.end_ns = op->invoke_ns + ttl_ns_short(w, op->ttl_ms);
        if (lease != NULL) hold.end_ns = MIN(lease->lives_ns, lease->revoke_ns);
        holds[count++] = hold;
    }
    if (count > 0) qsort(holds, count, sizeof *holds, by_token);
    return count;
}

static void end_holds(const struct work *w, struct hold *holds, size_t count)
{
    for (size_t i = 0; i < w->h->op_count; i++) {
        const struct history_op *op = &w->h->ops[i];
        const struct history_item *token = item_of(w->h, op, HISTORY_ITEM_IF_VALUE);
        if (op->kind != HISTORY_UNLOCK || token == NULL) continue;
        struct hold wanted = { .key = token->key, .token = token->value };
        struct hold *hold =
            count == 0 ? NULL : bsearch(&wanted, holds, count, sizeof *holds, by_token);
        if (hold != NULL) hold->end_ns = MIN(hold->end_ns, op->invoke_ns);
    }
}

static void check_locks(const struct work *w)
{
    struct hold *holds = mem_alloc((w->h->op_count + 1) * sizeof *holds);
    size_t count = collect_holds(w, holds);
    end_holds(w, holds, count);
    if (count > 0) qsort(holds, count, sizeof *holds, by_begin);
    const struct hold *last = NULL; /* of this key, the one that ends last */
    for (size_t i = 0; i < count; i++) {
        const struct hold *hold = &holds[i];
        if (hold->end_ns <= hold->begin_ns) continue; /* answered too late to believe anything */
        bool same = last != NULL && slice_eq(last->key, hold->key);
        const char *wrong = NULL;
        if (same && hold->begin_ns < last->end_ns) {
            wrong = "two holders at one time";
        } else if (same && w->l->point[hold->op] <= w->l->point[last->op]) {
            wrong = "the fence of a later holder is not above";
        }
        if (wrong != NULL) {
            verdict_add(w->v, "lock: %s", wrong);
            verdict_op(w->v, w->h, last->op);
            verdict_op(w->v, w->h, hold->op);
        }
        if (!same || hold->end_ns > last->end_ns) last = hold;
    }
    mem_free(holds);
}

void lease_check(const struct linear *l, const struct lease_params *params, struct verdict *v)
{
    struct work w = { .l = l, .h = l->h, .ks = l->ks, .params = params, .v = v };
    collect_leases(&w);
    collect_attached(&w);
    collect_times(&w);
    check_gone(&w);
    for (size_t i = 0; i < w.h->op_count; i++) {
        check_keepalive(&w, i);
        if (params->late_ms_max >= 0) check_late(&w, i);
    }
    check_locks(&w);
    mem_free(w.leases);
    mem_free(w.attached);
    mem_free(w.until);
}

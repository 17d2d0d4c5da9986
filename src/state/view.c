/* state/view.c - see view.h. */
#include "state/view.h"

#include "state/state_int.h"

/* What the key's lifetime looks like from outside. */
static void kv_set_life(const struct state *s, const struct life *life, struct kv *out)
{
    if (life == NULL) return;
    out->lease_id = life->lease_id;
    out->life_index = life->life_index;
    out->deadline_ms = life_deadline_ms(s->leases, life);
    out->unix_ms = life->unix_ms;
    if (life->lease_id != 0) {
        out->unix_ms = s->wall_ms + (out->deadline_ms - (int64_t)s->stamp_ms);
    }
}

static void kv_set_entry(const struct state *s, const struct entry *e, struct kv *out)
{
    ASSERT(!entry_is_ghost(e));
    *out = (struct kv){
        .key = entry_key(e), .value = entry_value(e), .type = entry_type(e),
        .create = e->create, .mod = e->mod, .version = e->version, .n = e->n,
    };
    if ((e->flags & ENTRY_LIFE_SLOT) != 0) kv_set_life(s, entry_life(e), out);
}

/* A lifetime that a transaction is about to set. Its log position is the entry that is applied. */
static void kv_set_plan(const struct state *s, const struct life_plan *plan, struct kv *out)
{
    out->lease_id = 0;
    out->deadline_ms = 0;
    out->unix_ms = 0;
    out->life_index = plan->form == LIFE_FORM_NONE ? 0 : s->applied_index + 1;
    if (plan->form == LIFE_FORM_PRIVATE) {
        out->deadline_ms = plan->deadline_ms;
        out->unix_ms = plan->unix_ms;
    } else if (plan->form == LIFE_FORM_LEASE) {
        const struct lease *lease = lease_find(s->leases, plan->lease_id);
        ASSERT(lease != NULL);
        out->lease_id = plan->lease_id;
        out->deadline_ms = lease->deadline_ms;
        out->unix_ms = s->wall_ms + (lease->deadline_ms - (int64_t)s->stamp_ms);
    }
}

static void kv_set_pending(const struct state *s, const struct pending *p, struct kv *out)
{
    ASSERT(p->live);
    bool fresh = p->base == NULL || p->recreated;
    uint64_t rev = mvcc_rev(s->mvcc) + 1;
    *out = (struct kv){
        .key = p->key, .value = pending_value(p), .type = p->type,
        .create = fresh ? rev : p->base->create,
        .mod = p->changed ? rev : p->base->mod,
        .version = fresh ? 1 : p->base->version + p->changed,
        .n = p->changed ? 0 : p->base->n,
    };
    if (p->plan.form != LIFE_FORM_KEEP) {
        kv_set_plan(s, &p->plan, out);
    } else if (p->base != NULL) {
        kv_set_life(s, entry_life(p->base), out);
    }
}

bool view_get_hashed(const struct view *v, uint64_t hash, struct slice key, struct kv *out)
{
    const struct pending *p = v->txn == NULL ? NULL : txn_find(v->txn, hash, key);
    if (p != NULL) {
        if (p->live) kv_set_pending(v->state, p, out);
        return p->live;
    }
    const struct entry *e = mvcc_find_hashed(v->state->mvcc, hash, key);
    if (e != NULL) kv_set_entry(v->state, e, out);
    return e != NULL;
}

bool view_get(const struct view *v, struct slice key, struct kv *out)
{
    return view_get_hashed(v, mvcc_key_hash(v->state->mvcc, key), key, out);
}

uint64_t view_rev(const struct view *v)
{
    bool changed = v->txn != NULL && v->txn->changed_count != 0;
    return mvcc_rev(v->state->mvcc) + changed;
}

/* --- ranges -------------------------------------------------------------------------- */

/* Places in txn->sorted: [first, last) is in the range. */
static void overlay_range(const struct txn *t, struct slice start, struct slice end,
                          uint32_t *first, uint32_t *last)
{
    txn_sort(t);
    *first = txn_sorted_find(t, start);
    *last = end.len == 0 ? t->sorted->count : txn_sorted_find(t, end);
    if (*last < *first) *last = *first;
}

uint64_t view_count(const struct view *v, struct slice start, struct slice end)
{
    if (end.len != 0 && slice_cmp(start, end) >= 0) return 0;
    uint64_t count = mvcc_count(v->state->mvcc, start, end);
    if (v->txn == NULL || v->txn->pending_count == 0) return count;
    uint32_t first, last;
    overlay_range(v->txn, start, end, &first, &last);
    for (uint32_t i = first; i < last; i++) {
        const struct pending *p = txn_sorted_at(v->txn, i);
        count += p->live;
        count -= p->base != NULL;
    }
    return count;
}

bool view_nth(const struct view *v, struct slice start, struct slice end, uint64_t nth, struct kv *out)
{
    const struct mvcc *m = v->state->mvcc;
    uint32_t first = 0, last = 0;
    if (nth >= view_count(v, start, end)) return false;
    if (v->txn != NULL) overlay_range(v->txn, start, end, &first, &last);
    /* nth becomes the place that the key has among those of the key space. */
    for (uint32_t i = first; i < last; i++) {
        const struct pending *p = txn_sorted_at(v->txn, i);
        uint64_t place = mvcc_count(m, start, p->key);
        if (nth < place) break;
        if (p->live && nth == place) {
            kv_set_pending(v->state, p, out);
            return true;
        }
        if (p->base != NULL && !p->live) nth++;
        if (p->base == NULL && p->live) nth--;
    }
    const struct entry *e = mvcc_nth(m, start, end, nth);
    ASSERT(e != NULL);
    kv_set_entry(v->state, e, out);
    return true;
}

/* overlay_at counts changes that are still to come: forwards the next one is [overlay_at], up to
 * the range's end by key; in reverse it is [overlay_at - 1], down to its start. */
void view_iter_init(struct view_iter *it, const struct view *v, struct slice start,
                    struct slice end, bool reverse)
{
    *it = (struct view_iter){ .view = *v, .start = start, .end = end, .reverse = reverse };
    mvcc_iter_init(&it->base, v->state->mvcc, start, end, reverse, false);
    if (v->txn == NULL) return;
    uint32_t first, last;
    overlay_range(v->txn, start, end, &first, &last);
    it->overlay_at = reverse ? last : first;
}

static const struct pending *overlay_peek(const struct view_iter *it)
{
    const struct txn *t = it->view.txn;
    if (t == NULL) return NULL;
    if (it->reverse) {
        if (it->overlay_at == 0) return NULL;
        const struct pending *p = txn_sorted_at(t, (uint32_t)it->overlay_at - 1);
        return slice_cmp(p->key, it->start) < 0 ? NULL : p;
    }
    if (it->overlay_at >= t->sorted->count) return NULL;
    const struct pending *p = txn_sorted_at(t, (uint32_t)it->overlay_at);
    return it->end.len != 0 && slice_cmp(p->key, it->end) >= 0 ? NULL : p;
}

/* Which of the two comes first in the iterator's direction: <0 base, 0 same key, >0 overlay. */
static int merge_order(const struct view_iter *it, const struct pending *p)
{
    if (p == NULL) return -1;
    if (it->base_next == NULL) return 1;
    int order = slice_cmp(entry_key(it->base_next), p->key);
    return it->reverse ? -order : order;
}

bool view_iter_next(struct view_iter *it, struct kv *out)
{
    if (!it->started) it->base_next = mvcc_iter_next(&it->base);
    it->started = true;
    for (;;) {
        const struct pending *p = overlay_peek(it);
        const struct entry *e = it->base_next;
        if (p == NULL && e == NULL) return false;
        int order = merge_order(it, p);
        if (order <= 0) it->base_next = mvcc_iter_next(&it->base);
        if (order < 0) {
            kv_set_entry(it->view.state, e, out);
            return true;
        }
        it->overlay_at = it->reverse ? it->overlay_at - 1 : it->overlay_at + 1;
        if (!p->live) continue;
        kv_set_pending(it->view.state, p, out);
        return true;
    }
}

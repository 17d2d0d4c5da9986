/* Whose is each revision of the log? */
#include "linear_int.h"

static const struct history_item *op_item(const struct history *h, const struct history_op *op,
                                          size_t i)
{
    return &h->items[op->item_first + i];
}

bool linear_op_changes(const struct history *h, const struct history_op *op)
{
    if (op->kind == HISTORY_REVOKE) return true;
    for (size_t i = 0; i < op->item_count; i++) {
        if (linear_role_changes(op_item(h, op, i)->role)) return true;
    }
    return false;
}

/* --- what an operation does to a state ------------------------------------------------------ */

static const struct history_event *event_of(const struct keyspace *ks, size_t at, struct slice key)
{
    for (uint32_t i = ks->rev_first[at]; i < ks->rev_first[at + 1]; i++) {
        if (slice_eq(ks->events[i]->key, key)) return ks->events[i];
    }
    return NULL;
}

static bool is_joined(struct slice whole, struct slice first, struct slice second)
{
    return whole.len == first.len + second.len && slice_starts(whole, first) &&
           slice_eq((struct slice){ whole.at + first.len, second.len }, second);
}

static bool is_sum(const struct history_event *event, const struct history_event *prev,
                   const struct history_item *item)
{
    int64_t before = 0, after = 0;
    if (prev != NULL && i64_parse(prev->value, &before) != OK) return false;
    if (i64_parse(event->value, &after) != OK) return false;
    if (item->value.len > 0 && !slice_eq(item->value, event->value)) return false;
    return after == before + item->number;
}

static bool put_fits(const struct history_op *op, const struct history_item *item,
                     const struct history_event *event, const struct history_event *prev)
{
    if (event == NULL || event->op != HISTORY_EVENT_PUT) return false;
    if (item->role == HISTORY_ITEM_INCR) return is_sum(event, prev, item);
    if (item->role == HISTORY_ITEM_APPEND) {
        if (item->number > 0 && (size_t)item->number != event->value.len) return false;
        return is_joined(event->value, prev == NULL ? SLICE_NONE : prev->value, item->value);
    }
    return slice_eq(event->value, item->value) && event->lease == op->lease;
}

static bool revoke_fits(const struct linear_work *w, const struct history_op *op, size_t at)
{
    const struct keyspace *ks = w->ks;
    for (uint32_t i = ks->rev_first[at]; i < ks->rev_first[at + 1]; i++) {
        if (ks->events[i]->op != HISTORY_EVENT_DEL) return false;
        const struct history_event *prev =
            keyspace_get(ks, ks->events[i]->key, ks->events[i]->rev - 1);
        if (prev == NULL || prev->lease != op->lease) return false;
    }
    return true;
}

bool linear_op_fits(const struct linear_work *w, const struct history_op *op, size_t at)
{
    if (op->kind == HISTORY_REVOKE) return revoke_fits(w, op, at);
    uint64_t rev = w->ks->revs[at];
    size_t expected = 0;
    for (size_t i = 0; i < op->item_count; i++) {
        const struct history_item *item = op_item(w->h, op, i);
        if (!linear_role_changes(item->role)) continue;
        const struct history_event *prev = keyspace_get(w->ks, item->key, rev - 1);
        const struct history_event *event = event_of(w->ks, at, item->key);
        if (item->role == HISTORY_ITEM_DEL) {
            if (prev == NULL) continue;
            if (event == NULL || event->op != HISTORY_EVENT_DEL) return false;
        } else if (!put_fits(op, item, event, prev)) {
            return false;
        }
        expected++;
    }
    return expected == w->ks->rev_first[at + 1] - w->ks->rev_first[at];
}

/* --- by revision or by unique value --------------------------------------------------------- */

static void show_rev(const struct linear_work *w, size_t at)
{
    for (uint32_t i = w->ks->rev_first[at]; i < w->ks->rev_first[at + 1]; i++) {
        verdict_event(w->v, w->ks->events[i]);
    }
}

static void own(struct linear_work *w, size_t op_at, uint64_t rev)
{
    const struct history_op *op = &w->h->ops[op_at];
    size_t at = keyspace_rev(w->ks, rev);
    if (at == w->ks->rev_count) {
        verdict_add(w->v, "lost write: it was answered with revision %llu, the log has none such",
                    (unsigned long long)rev);
        verdict_op(w->v, w->h, op_at);
        return;
    }
    size_t *owner = &w->out->owner[at];
    if (*owner != LINEAR_NOBODY && *owner != op_at) {
        verdict_add(w->v, "two operations for one revision");
        verdict_op(w->v, w->h, *owner);
        verdict_op(w->v, w->h, op_at);
        return;
    }
    *owner = op_at;
    w->out->point[op_at] = rev;
    if (!linear_op_fits(w, op, at)) {
        verdict_add(w->v, "the log does not show what was done at revision %llu",
                    (unsigned long long)rev);
    } else if (!linear_op_holds(w, op, rev - 1, true)) {
        verdict_add(w->v,
                    "applied although at revision %llu its condition did not hold, "
                    "or it saw something else than was there",
                    (unsigned long long)rev - 1);
    } else {
        return;
    }
    verdict_op(w->v, w->h, op_at);
    show_rev(w, at);
    for (size_t i = 0; i < op->item_count; i++) {
        const struct history_event *prev = keyspace_get(w->ks, op_item(w->h, op, i)->key, rev - 1);
        if (prev != NULL) verdict_event(w->v, prev);
    }
}

#define FOUND_MAX 8

/* The revisions at which what this unique item writes is in the log. */
static size_t find_put(const struct linear_work *w, const struct history_item *item,
                       uint64_t found[FOUND_MAX])
{
    size_t first;
    size_t count = MIN(keyspace_writes(w->ks, item->key, item->value, &first), FOUND_MAX);
    for (size_t i = 0; i < count; i++) found[i] = w->ks->events[w->ks->values[first + i]]->rev;
    return count;
}

static size_t find_append(const struct linear_work *w, const struct history_item *item,
                          uint64_t found[FOUND_MAX])
{
    size_t key = keyspace_find(w->ks, item->key), count = 0;
    if (key == KEYSPACE_NO_KEY) return 0;
    struct slice before = SLICE_NONE;
    for (size_t i = 0; i < w->ks->keys[key].count && count < FOUND_MAX; i++) {
        const struct history_event *event =
            w->ks->events[w->ks->versions[w->ks->keys[key].first + i]];
        if (is_joined(event->value, before, item->value)) found[count++] = event->rev;
        before = event->value;
    }
    return count;
}

/* DELIFEQ of a token: it ended that value. */
static size_t find_unlock(const struct linear_work *w, const struct history_item *item,
                          uint64_t found[FOUND_MAX])
{
    size_t count = find_put(w, item, found), kept = 0;
    for (size_t i = 0; i < count; i++) {
        const struct history_event *next =
            keyspace_next(w->ks, keyspace_find(w->ks, item->key), found[i]);
        if (next != NULL && next->op == HISTORY_EVENT_DEL) found[kept++] = next->rev;
    }
    return kept;
}

enum found { FOUND_HERE, FOUND_NOT_HERE, FOUND_CANNOT_SAY };

static enum found find(const struct linear_work *w, const struct history_op *op,
                       uint64_t revs[FOUND_MAX], size_t *count)
{
    *count = 0;
    const struct history_item *item = NULL;
    for (size_t i = 0; i < op->item_count; i++) {
        item = op_item(w->h, op, i);
        if (item->role == HISTORY_ITEM_PUT) {
            *count = find_put(w, item, revs);
        } else if (item->role == HISTORY_ITEM_APPEND) {
            *count = find_append(w, item, revs);
        } else if (item->role == HISTORY_ITEM_INCR && item->value.len > 0) {
            *count = find_put(w, item, revs);
        } else if (item->role == HISTORY_ITEM_IF_VALUE && op->kind == HISTORY_UNLOCK &&
                   op->outcome == HISTORY_DONE) {
            *count = find_unlock(w, item, revs);
        } else {
            continue;
        }
        return *count > 0 ? FOUND_HERE : FOUND_NOT_HERE;
    }
    return FOUND_CANNOT_SAY;
}

static void own_found(struct linear_work *w, size_t op_at, const uint64_t *revs, size_t count)
{
    const struct history_op *op = &w->h->ops[op_at];
    bool refused = op->outcome == HISTORY_REFUSED;
    if (refused || (op->outcome == HISTORY_DONE && !op->applied)) {
        verdict_add(w->v, "%s, but it is in the log",
                    refused ? "refused as not done" : "answered as not applied");
        verdict_op(w->v, w->h, op_at);
        show_rev(w, keyspace_rev(w->ks, revs[0]));
        return;
    }
    if (count > 1) {
        verdict_add(w->v, "applied %zu times", count);
        verdict_op(w->v, w->h, op_at);
        for (size_t i = 0; i < count; i++) show_rev(w, keyspace_rev(w->ks, revs[i]));
    }
    own(w, op_at, revs[0]);
    for (size_t i = 1; i < count; i++) { /* said once: no second violation for being nobody's */
        size_t *owner = &w->out->owner[keyspace_rev(w->ks, revs[i])];
        if (*owner == LINEAR_NOBODY) *owner = op_at;
    }
}

static void own_one(struct linear_work *w, size_t op_at)
{
    const struct history_op *op = &w->h->ops[op_at];
    if (!linear_op_changes(w->h, op)) return;
    bool done = op->outcome == HISTORY_DONE;
    uint64_t revs[FOUND_MAX];
    size_t count;
    enum found found = find(w, op, revs, &count);
    if (found == FOUND_HERE && count == 1 && done && op->applied && op->rev != 0) {
        revs[0] = op->rev; /* `own` says it if the log has it elsewhere */
    }
    if (found == FOUND_HERE) {
        own_found(w, op_at, revs, count);
    } else if (done && op->applied && op->rev != 0) {
        own(w, op_at, op->rev);
    } else if (done && op->applied && found == FOUND_NOT_HERE) {
        verdict_add(w->v, "lost write: acknowledged, but the log does not have it");
        verdict_op(w->v, w->h, op_at);
    } else if (found == FOUND_CANNOT_SAY &&
               (op->outcome == HISTORY_UNKNOWN || (done && op->applied))) {
        w->floats[w->float_count++] = op_at;
    }
}

void linear_own(struct linear_work *w)
{
    for (size_t i = 0; i < w->h->op_count; i++) own_one(w, i);
}

/* --- what is left: unknown deletes, increments, revokes ------------------------------------- */

struct match {
    struct linear_work *w;
    size_t *revs; /* indexes into ks->revs of those that are nobody's yet */
    size_t rev_count;
    size_t *of_float; /* by float: index into revs, or LINEAR_NOBODY */
    size_t *of_rev;
    uint32_t *seen; /* by revision: the round it was tried in */
    uint32_t round;
};

static bool can_be(const struct match *m, size_t float_at, size_t rev_at)
{
    size_t op_at = m->w->floats[float_at];
    const struct history_op *op = &m->w->h->ops[op_at];
    uint64_t rev = m->w->ks->revs[m->revs[rev_at]];
    return m->w->low[op_at] < rev && rev < m->w->high[op_at] && linear_op_fits(m->w, op, m->revs[rev_at]) &&
           linear_op_holds(m->w, op, rev - 1, false);
}

/* Kuhn's augmenting path from a float. */
static bool match_float(struct match *m, size_t float_at)
{
    for (size_t r = 0; r < m->rev_count; r++) {
        if (m->seen[r] == m->round || !can_be(m, float_at, r)) continue;
        m->seen[r] = m->round;
        if (m->of_rev[r] == LINEAR_NOBODY || match_float(m, m->of_rev[r])) {
            m->of_rev[r] = float_at;
            m->of_float[float_at] = r;
            return true;
        }
    }
    return false;
}

/* The same from a revision: nothing that has a partner loses it. */
static bool match_rev(struct match *m, size_t rev_at, uint32_t *float_seen)
{
    for (size_t f = 0; f < m->w->float_count; f++) {
        if (float_seen[f] == m->round || !can_be(m, f, rev_at)) continue;
        float_seen[f] = m->round;
        if (m->of_float[f] == LINEAR_NOBODY || match_rev(m, m->of_float[f], float_seen)) {
            m->of_float[f] = rev_at;
            m->of_rev[rev_at] = f;
            return true;
        }
    }
    return false;
}

static void match_all(struct match *m)
{
    struct linear_work *w = m->w;
    for (size_t f = 0; f < w->float_count; f++) {
        m->round++;
        if (w->h->ops[w->floats[f]].outcome != HISTORY_DONE || match_float(m, f)) continue;
        verdict_add(w->v, "lost write: acknowledged, but no revision of the log can be its");
        verdict_op(w->v, w->h, w->floats[f]);
    }
    uint32_t *float_seen = mem_zalloc((w->float_count + 1) * sizeof *float_seen);
    for (size_t r = 0; r < m->rev_count; r++) {
        m->round++;
        if (m->of_rev[r] != LINEAR_NOBODY || match_rev(m, r, float_seen)) continue;
        verdict_add(w->v,
                    "revision %llu is no operation's: refused, done twice, or never asked for",
                    (unsigned long long)w->ks->revs[m->revs[r]]);
        show_rev(w, m->revs[r]);
    }
    mem_free(float_seen);
    for (size_t r = 0; r < m->rev_count; r++) {
        if (m->of_rev[r] == LINEAR_NOBODY) continue;
        size_t op_at = w->floats[m->of_rev[r]];
        w->out->owner[m->revs[r]] = op_at;
        w->out->point[op_at] = w->ks->revs[m->revs[r]];
        w->out->guessed[op_at] = true;
    }
}

static bool is_expiry(const struct keyspace *ks, size_t at)
{
    for (uint32_t i = ks->rev_first[at]; i < ks->rev_first[at + 1]; i++) {
        if (ks->events[i]->op != HISTORY_EVENT_EXPIRE) return false;
    }
    return true;
}

void linear_own_floats(struct linear_work *w)
{
    const struct keyspace *ks = w->ks;
    struct match m = { .w = w };
    m.revs = mem_alloc((ks->rev_count + 1) * sizeof *m.revs);
    m.of_rev = mem_alloc((ks->rev_count + 1) * sizeof *m.of_rev);
    m.seen = mem_zalloc((ks->rev_count + 1) * sizeof *m.seen);
    m.of_float = mem_alloc((w->float_count + 1) * sizeof *m.of_float);
    for (size_t i = 0; i < w->float_count; i++) m.of_float[i] = LINEAR_NOBODY;
    for (size_t i = 0; i < ks->rev_count; i++) {
        if (w->out->owner[i] != LINEAR_NOBODY || is_expiry(ks, i)) continue;
        m.of_rev[m.rev_count] = LINEAR_NOBODY;
        m.revs[m.rev_count++] = i;
    }
    match_all(&m);
    mem_free(m.revs);
    mem_free(m.of_rev);
    mem_free(m.seen);
    mem_free(m.of_float);
}

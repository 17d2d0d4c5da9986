/* A point for every operation: the smallest that is possible, in the order they were sent.
 *
 * Constraints are of the form "B was sent after A was answered, so B's point is not before A's"
 * (behind it, if B writes); each operation has a set of points at which its answer is right. The
 * minimum of two solutions is a solution, so taking the smallest each time finds one if any is. */
#include "linear_int.h"

#include <stdlib.h>

/* --- conditions and observations ------------------------------------------------------------ */

static bool item_saw(const struct history_item *item, const struct history_event *at)
{
    if (at == NULL || !slice_eq(at->value, item->value)) return false;
    if (item->mod != 0 && item->mod != at->rev) return false;
    if (item->create != 0 && item->create != at->create) return false;
    return item->version == 0 || item->version == at->version;
}

/* A range: what follows the SPAN is all there was. */
static bool span_holds(const struct linear_work *w, const struct history_op *op, size_t i,
                       uint64_t rev)
{
    const struct history_item *items = &w->h->items[op->item_first];
    const struct history_item *span = &items[i++];
    int64_t count = 0;
    for (size_t k = keyspace_lower(w->ks, span->key); k < w->ks->key_count; k++) {
        struct slice key = w->ks->keys[k].key;
        if (!keyspace_in(key, span->key, span->value)) break;
        if (span->number > 0 && count == span->number) break;
        const struct history_event *at = keyspace_at(w->ks, k, rev);
        if (at == NULL) continue;
        if (i == op->item_count || items[i].role != HISTORY_ITEM_SAW) return false;
        if (!slice_eq(items[i].key, key) || !item_saw(&items[i], at)) return false;
        i++;
        count++;
    }
    return i == op->item_count || items[i].role != HISTORY_ITEM_SAW;
}

static bool item_holds(const struct linear_work *w, const struct history_op *op, size_t i,
                       uint64_t rev)
{
    const struct history_item *item = &w->h->items[op->item_first + i];
    if (item->role == HISTORY_ITEM_SPAN) return span_holds(w, op, i, rev);
    const struct history_event *at = keyspace_get(w->ks, item->key, rev);
    switch (item->role) {
    case HISTORY_ITEM_IF_VALUE: return at != NULL && slice_eq(at->value, item->value);
    case HISTORY_ITEM_IF_MOD: return (at == NULL ? 0 : at->rev) == item->mod;
    case HISTORY_ITEM_IF_EXISTS: return at != NULL;
    case HISTORY_ITEM_NONE: return at == NULL;
    case HISTORY_ITEM_SAW: return item_saw(item, at);
    case HISTORY_ITEM_PUT:
    case HISTORY_ITEM_DEL:
    case HISTORY_ITEM_INCR:
    case HISTORY_ITEM_APPEND:
    case HISTORY_ITEM_SPAN:
    case HISTORY_ROLE_COUNT: break;
    }
    return true;
}

bool linear_op_holds(const struct linear_work *w, const struct history_op *op, uint64_t rev,
                     bool observations)
{
    for (size_t i = 0; i < op->item_count; i++) {
        enum history_role role = w->h->items[op->item_first + i].role;
        if (!linear_role_is_condition(role) && !observations) continue;
        if (!item_holds(w, op, i, rev)) return false;
    }
    return true;
}

/* Is what was answered right at rev, for one that changed nothing? */
static bool answer_holds(const struct linear_work *w, const struct history_op *op, uint64_t rev)
{
    bool has_condition = false, conditions_hold = true, deletes = false;
    for (size_t i = 0; i < op->item_count; i++) {
        const struct history_item *item = &w->h->items[op->item_first + i];
        if (linear_role_is_condition(item->role)) {
            has_condition = true;
            conditions_hold = conditions_hold && item_holds(w, op, i, rev);
        } else if (!linear_role_changes(item->role)) {
            if (!item_holds(w, op, i, rev)) return false;
        } else if (item->role == HISTORY_ITEM_DEL) {
            deletes = deletes || keyspace_get(w->ks, item->key, rev) != NULL;
        }
    }
    if (has_condition) return conditions_hold == op->applied;
    return !deletes;
}

/* --- placing --------------------------------------------------------------------------------- */

enum moment_kind { MOMENT_SENT, MOMENT_ANSWERED, MOMENT_MARK };

struct moment {
    int64_t time_ns;
    size_t index;
    enum moment_kind kind;
};

/* What is sure to be there, and what made it sure. */
struct bound {
    uint64_t rev;
    size_t index;
    enum moment_kind by; /* MOMENT_SENT: nothing did yet */
};

struct placing {
    struct linear_work *w;
    struct bound low;
    uint64_t compacted_rev;
    uint64_t *client_low; /* by client: how far its READONLY reads have come */
};

static int by_time(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;
    if (x->time_ns != y->time_ns) return x->time_ns < y->time_ns ? -1 : 1;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void show_low(const struct placing *p)
{
    const struct linear_work *w = p->w;
    if (p->low.by == MOMENT_ANSWERED) verdict_op(w->v, w->h, p->low.index);
    if (p->low.by == MOMENT_MARK) verdict_mark(w->v, &w->h->marks[p->low.index]);
}

static void complain(const struct placing *p, size_t op_at, const char *what)
{
    verdict_add(p->w->v, "%s (revision %llu was known before it was sent)", what,
                (unsigned long long)p->low.rev);
    verdict_op(p->w->v, p->w->h, op_at);
    show_low(p);
}

/* The next revision above rev at which one of the operation's keys changes. */
static uint64_t next_change(const struct linear_work *w, const struct history_op *op, uint64_t rev)
{
    uint64_t next_rev = KEYSPACE_NEVER;
    for (size_t i = 0; i < op->item_count; i++) {
        size_t key = keyspace_find(w->ks, w->h->items[op->item_first + i].key);
        const struct history_event *next = keyspace_next(w->ks, key, rev);
        if (next != NULL) next_rev = MIN(next_rev, next->rev);
    }
    return next_rev;
}

static uint64_t first_right(const struct linear_work *w, const struct history_op *op, uint64_t from)
{
    uint64_t rev = from;
    while (rev != KEYSPACE_NEVER && !answer_holds(w, op, rev)) rev = next_change(w, op, rev);
    return rev;
}

/* Where the answer would have been right, to be told: the last such point below low. */
static void complain_read(const struct placing *p, size_t op_at, uint64_t low)
{
    const struct linear_work *w = p->w;
    const struct history_op *op = &w->h->ops[op_at];
    uint64_t right = first_right(w, op, 0);
    if (right >= low) {
        complain(p, op_at, "nothing like that was ever there");
        return;
    }
    char what[160];
    for (uint64_t later = right; later < low;) {
        right = later;
        later = next_change(w, op, right);
        if (later != KEYSPACE_NEVER) later = first_right(w, op, later);
    }
    snprintf(what, sizeof what, "stale read: right at revision %llu, wrong at %llu and behind",
             (unsigned long long)right, (unsigned long long)low);
    complain(p, op_at, what);
}

static void place_old_read(struct placing *p, size_t op_at)
{
    const struct linear_work *w = p->w;
    const struct history_op *op = &w->h->ops[op_at];
    if (op->at_rev < p->compacted_rev) {
        complain(p, op_at, "a read below the compacted revision was answered");
    } else if (op->at_rev > w->ks->last_rev) {
        complain(p, op_at, "a read of a revision that never was");
    } else if (!answer_holds(w, op, op->at_rev)) {
        complain(p, op_at, "a read of an old revision did not see what was there");
    }
    w->out->point[op_at] = op->at_rev;
}

static void place_read(struct placing *p, size_t op_at)
{
    struct linear_work *w = p->w;
    const struct history_op *op = &w->h->ops[op_at];
    bool local = (op->flags & HISTORY_LOCAL) != 0;
    uint64_t low = local ? p->client_low[op->client] : p->low.rev;
    if (op->at_rev != 0) {
        place_old_read(p, op_at);
    } else if (op->rev == 0) {
        w->out->point[op_at] = first_right(w, op, low);
        if (w->out->point[op_at] == KEYSPACE_NEVER) complain_read(p, op_at, low);
    } else {
        w->out->point[op_at] = op->rev;
        if (op->rev < low) {
            complain(p, op_at,
                     local ? "a READONLY read went back" : "stale: its revision is too low");
        } else if (!answer_holds(w, op, op->rev)) {
            complain(p, op_at, "at its revision something else was there");
        }
    }
    if (local && w->out->point[op_at] != KEYSPACE_NEVER) {
        p->client_low[op->client] = w->out->point[op_at];
    }
}

static void place_sent(struct placing *p, size_t op_at)
{
    struct linear_work *w = p->w;
    const struct history_op *op = &w->h->ops[op_at];
    w->low[op_at] = p->low.rev;
    if (op->kind == HISTORY_GRANT || op->kind == HISTORY_KEEPALIVE) return;
    if (op->kind == HISTORY_COMPACT || op->outcome == HISTORY_REFUSED) return;
    bool writes = op->outcome == HISTORY_UNKNOWN || op->applied;
    if (writes && linear_op_changes(w->h, op)) {
        uint64_t point = w->out->point[op_at];
        if (point == LINEAR_NOWHERE || point > p->low.rev) return;
        char what[160];
        snprintf(what, sizeof what, "seen before it was sent: its revision is %llu",
                 (unsigned long long)point);
        complain(p, op_at, what);
    } else if (op->outcome == HISTORY_DONE && op->kind != HISTORY_REVOKE) {
        place_read(p, op_at);
    }
}

static void place_answered(struct placing *p, size_t op_at)
{
    const struct history_op *op = &p->w->h->ops[op_at];
    uint64_t point = p->w->out->point[op_at];
    if (op->outcome != HISTORY_DONE) return;
    if (op->kind == HISTORY_COMPACT) p->compacted_rev = MAX(p->compacted_rev, op->at_rev);
    if (point == LINEAR_NOWHERE || point <= p->low.rev) return;
    p->low = (struct bound){ point, op_at, MOMENT_ANSWERED };
}

/* Seen is committed: what a watcher was shown, everybody who asks later must see. */
static void place_mark(struct placing *p, size_t at)
{
    const struct history_mark *mark = &p->w->h->marks[at];
    bool tells = mark->kind == HISTORY_MARK_EVENT || mark->kind == HISTORY_MARK_PROGRESS;
    if (!tells || mark->rev <= p->low.rev) return;
    p->low = (struct bound){ mark->rev, at, MOMENT_MARK };
}

/* Backwards: what was sent after an answer has a higher revision than what was answered. */
static void find_high(struct linear_work *w, const struct moment *moments, size_t count)
{
    uint64_t next_rev = KEYSPACE_NEVER;
    for (size_t i = 0; i < w->h->op_count; i++) w->high[i] = KEYSPACE_NEVER;
    for (size_t i = count; i-- > 0;) {
        const struct moment *m = &moments[i];
        if (m->kind == MOMENT_ANSWERED) w->high[m->index] = next_rev;
        if (m->kind == MOMENT_SENT && w->out->point[m->index] != LINEAR_NOWHERE) {
            next_rev = MIN(next_rev, w->out->point[m->index]);
        }
    }
}

static void place_all(struct linear_work *w)
{
    const struct history *h = w->h;
    struct moment *moments = mem_alloc((2 * h->op_count + h->mark_count + 1) * sizeof *moments);
    size_t count = 0;
    uint32_t client_max = 0;
    for (size_t i = 0; i < h->op_count; i++) {
        const struct history_op *op = &h->ops[i];
        client_max = MAX(client_max, op->client);
        moments[count++] = (struct moment){ op->invoke_ns, i, MOMENT_SENT };
        if (op->complete_ns == HISTORY_NEVER) continue;
        moments[count++] = (struct moment){ op->complete_ns, i, MOMENT_ANSWERED };
    }
    for (size_t i = 0; i < h->mark_count; i++) {
        moments[count++] = (struct moment){ h->marks[i].time_ns, i, MOMENT_MARK };
    }
    if (count > 0) qsort(moments, count, sizeof *moments, by_time);
    find_high(w, moments, count);
    struct placing p = { .w = w, .low = { 0, 0, MOMENT_SENT } };
    p.client_low = mem_zalloc(((size_t)client_max + 1) * sizeof *p.client_low);
    for (size_t i = 0; i < count; i++) {
        switch (moments[i].kind) {
        case MOMENT_SENT: place_sent(&p, moments[i].index); break;
        case MOMENT_ANSWERED: place_answered(&p, moments[i].index); break;
        case MOMENT_MARK: place_mark(&p, moments[i].index); break;
        }
    }
    if (p.low.rev > MAX(w->ks->last_rev, 1)) { /* an empty store is at revision 1 */
        verdict_add(w->v, "revision %llu was answered or shown, the log ends at %llu",
                    (unsigned long long)p.low.rev, (unsigned long long)w->ks->last_rev);
        show_low(&p);
    }
    mem_free(p.client_low);
    mem_free(moments);
}

struct linear *linear_check(const struct history *h, const struct keyspace *ks, struct verdict *v)
{
    struct linear *l = mem_zalloc(sizeof *l);
    l->h = h;
    l->ks = ks;
    l->point = mem_alloc((h->op_count + 1) * sizeof *l->point);
    l->guessed = mem_zalloc((h->op_count + 1) * sizeof *l->guessed);
    l->owner = mem_alloc((ks->rev_count + 1) * sizeof *l->owner);
    for (size_t i = 0; i < h->op_count; i++) l->point[i] = LINEAR_NOWHERE;
    for (size_t i = 0; i < ks->rev_count; i++) l->owner[i] = LINEAR_NOBODY;
    struct linear_work w = { .out = l, .h = h, .ks = ks, .v = v };
    w.low = mem_zalloc((h->op_count + 1) * sizeof *w.low);
    w.high = mem_alloc((h->op_count + 1) * sizeof *w.high);
    w.floats = mem_alloc((h->op_count + 1) * sizeof *w.floats);
    linear_own(&w);
    place_all(&w);
    linear_own_floats(&w);
    mem_free(w.low);
    mem_free(w.high);
    mem_free(w.floats);
    return l;
}

void linear_free(struct linear *l)
{
    if (l == NULL) return;
    mem_free(l->point);
    mem_free(l->guessed);
    mem_free(l->owner);
    mem_free(l);
}

/* Counters and lists, from the last read of each. */
#include "once_check.h"

#include <stdlib.h>

/* One INCR, APPEND or read of a key. */
struct part {
    const struct history_item *item;
    const struct history_op *op;
    size_t op_at;
};

struct key_work {
    const struct history *h;
    struct verdict *v;
    const struct part *parts; /* of one key */
    size_t count;
    const struct part *read; /* the first one sent behind all answers */
};

static int by_key(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int order = slice_cmp(x->item->key, y->item->key);
    if (order != 0) return order;
    return x->op->invoke_ns < y->op->invoke_ns ? -1 : x->op->invoke_ns > y->op->invoke_ns;
}

static int by_value(const void *a, const void *b)
{
    const struct part *const *x = a, *const *y = b;
    return slice_cmp((*x)->item->value, (*y)->item->value);
}

static bool is_read(const struct part *part)
{
    return part->item->role == HISTORY_ITEM_SAW || part->item->role == HISTORY_ITEM_NONE;
}

static bool happened(const struct part *part)
{
    return part->op->outcome == HISTORY_DONE && part->op->applied;
}

static void complain(const struct key_work *w, const char *what, const struct part *part)
{
    struct slice key = w->parts[0].item->key;
    verdict_add(w->v, "once: key %.*s: %s", (int)MIN(key.len, 200), (const char *)key.at, what);
    if (part != NULL) verdict_op(w->v, w->h, part->op_at);
    if (w->read != NULL && w->read != part) verdict_op(w->v, w->h, w->read->op_at);
}

/* --- counters --------------------------------------------------------------------------------- */

static void check_results(const struct key_work *w)
{
    const struct part **results = mem_alloc((w->count + 1) * sizeof(*results));
    size_t count = 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct part *part = &w->parts[i];
        bool has = part->item->role == HISTORY_ITEM_INCR && happened(part) && part->item->value.len > 0;
        if (has) results[count++] = part;
    }
    if (count > 0) qsort(results, count, sizeof(*results), by_value);
    for (size_t i = 1; i < count; i++) {
        if (!slice_eq(results[i - 1]->item->value, results[i]->item->value)) continue;
        complain(w, "two increments with one result", results[i - 1]);
        verdict_op(w->v, w->h, results[i]->op_at);
    }
    mem_free(results);
}

static void check_counter(const struct key_work *w)
{
    int64_t sure = 0, unknown = 0, value = 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct part *part = &w->parts[i];
        if (part->item->role != HISTORY_ITEM_INCR) continue;
        if (happened(part)) sure += part->item->number;
        if (part->op->outcome == HISTORY_UNKNOWN) unknown += part->item->number;
    }
    check_results(w);
    if (w->read == NULL) return;
    bool there = w->read->item->role == HISTORY_ITEM_SAW;
    if (there && i64_parse(w->read->item->value, &value) != OK) {
        complain(w, "no number", w->read);
        return;
    }
    if (value >= sure && value <= sure + unknown) return;
    char what[200];
    snprintf(what, sizeof what, "%lld at the end, acknowledged %lld, of unknown outcome %lld: %s",
             (long long)value, (long long)sure, (long long)unknown,
             value < sure ? "increments were lost" : "increments were applied twice");
    complain(w, what, w->read);
}

/* --- lists ------------------------------------------------------------------------------------- */

static const struct part *find_token(const struct part *const *tokens, size_t count,
                                     struct slice token)
{
    const struct history_item item = { .value = token };
    const struct part wanted = { .item = &item };
    const struct part *at = &wanted;
    const struct part *const *found =
        count == 0 ? NULL : bsearch(&at, tokens, count, sizeof(*tokens), by_value);
    return found == NULL ? NULL : *found;
}

/* Walks the list; seen gets a mark for each operation found in it. */
static void walk_list(const struct key_work *w, const struct part *const *tokens, size_t count,
                      bool *seen)
{
    struct slice rest = w->read->item->role == HISTORY_ITEM_SAW ? w->read->item->value : SLICE_NONE;
    const struct part *newest = NULL; /* of those in front, the one sent last */
    while (rest.len > 0) {
        const uint8_t *end = memchr(rest.at, ';', rest.len);
        size_t len = end == NULL ? rest.len : (size_t)(end - rest.at) + 1;
        const struct part *part = find_token(tokens, count, (struct slice){ rest.at, len });
        rest = (struct slice){ rest.at + len, rest.len - len };
        if (part == NULL) {
            complain(w, "the list has what nobody appended", w->read);
            return;
        }
        if (seen[part - w->parts]) complain(w, "appended twice", part);
        seen[part - w->parts] = true;
        if (part->op->outcome == HISTORY_REFUSED) complain(w, "refused, but appended", part);
        if (newest != NULL && part->op->complete_ns < newest->op->invoke_ns) {
            complain(w, "stands behind what was appended later", part);
            verdict_op(w->v, w->h, newest->op_at);
        }
        if (newest == NULL || part->op->invoke_ns > newest->op->invoke_ns) newest = part;
    }
}

static void check_list(const struct key_work *w)
{
    if (w->read == NULL) return;
    const struct part **tokens = mem_alloc((w->count + 1) * sizeof(*tokens));
    bool *seen = mem_zalloc(w->count + 1);
    size_t count = 0;
    for (size_t i = 0; i < w->count; i++) {
        if (w->parts[i].item->role == HISTORY_ITEM_APPEND) tokens[count++] = &w->parts[i];
    }
    if (count > 0) qsort(tokens, count, sizeof(*tokens), by_value);
    walk_list(w, tokens, count, seen);
    for (size_t i = 0; i < count; i++) {
        if (!happened(tokens[i]) || seen[tokens[i] - w->parts]) continue;
        complain(w, "an acknowledged append is lost", tokens[i]);
    }
    mem_free(tokens);
    mem_free(seen);
}

/* --- keys -------------------------------------------------------------------------------------- */

static void check_key(struct key_work *w)
{
    int64_t answered_ns = INT64_MIN;
    bool counts = false, appends = false;
    for (size_t i = 0; i < w->count; i++) {
        const struct part *part = &w->parts[i];
        if (is_read(part)) continue;
        counts = counts || part->item->role == HISTORY_ITEM_INCR;
        appends = appends || part->item->role == HISTORY_ITEM_APPEND;
        if (part->op->outcome == HISTORY_DONE) answered_ns = MAX(answered_ns, part->op->complete_ns);
    }
    for (size_t i = w->count; i-- > 0;) {
        bool last = is_read(&w->parts[i]) && w->parts[i].op->invoke_ns > answered_ns;
        if (last) w->read = &w->parts[i];
    }
    if (counts && !appends) check_counter(w);
    if (appends && !counts) check_list(w);
}

static bool is_wanted(const struct history_op *op, const struct history_item *item)
{
    if (item->role == HISTORY_ITEM_INCR || item->role == HISTORY_ITEM_APPEND) return true;
    bool read = item->role == HISTORY_ITEM_SAW || item->role == HISTORY_ITEM_NONE;
    return read && op->kind == HISTORY_GET && op->outcome == HISTORY_DONE && op->at_rev == 0 &&
           (op->flags & HISTORY_LOCAL) == 0;
}

void once_check(const struct history *h, struct verdict *v)
{
    struct part *parts = mem_alloc((h->item_count + 1) * sizeof *parts);
    size_t count = 0;
    for (size_t i = 0; i < h->op_count; i++) {
        const struct history_op *op = &h->ops[i];
        for (size_t k = 0; k < op->item_count; k++) {
            const struct history_item *item = &h->items[op->item_first + k];
            if (is_wanted(op, item)) parts[count++] = (struct part){ item, op, i };
        }
    }
    if (count > 0) qsort(parts, count, sizeof *parts, by_key);
    for (size_t first = 0; first < count;) {
        size_t end = first + 1;
        while (end < count && slice_eq(parts[end].item->key, parts[first].item->key)) end++;
        struct key_work w = { .h = h, .v = v, .parts = parts + first, .count = end - first };
        check_key(&w);
        first = end;
    }
    mem_free(parts);
}

/* mvcc/mvcc_range.c - iterators, counts, the nth of a range; see mvcc.h. */
#include "mvcc/mvcc_int.h"

#define PREFETCH_AHEAD 6

static struct tree_leaf *iter_leaf(const struct mvcc_iter *it) { return it->leaf; }

static void entry_prefetch(const struct tree_leaf *l, uint32_t slot)
{
    if (slot < l->count) __builtin_prefetch(l->entries[slot]);
}

static const struct entry *iter_end(struct mvcc_iter *it)
{
    it->done = true;
    return NULL;
}

void mvcc_iter_init(struct mvcc_iter *it, const struct mvcc *m, struct slice start,
                    struct slice end, bool reverse, bool with_ghosts)
{
    ASSERT(!m->loading);
    *it = (struct mvcc_iter){ .m = m, .start = start, .end = end, .reverse = reverse,
                              .ghosts = with_ghosts };
    struct tree_spot spot;
    if (reverse && end.len == 0) spot = (struct tree_spot){ m->tree.last, m->tree.last->count };
    else spot = mvcc_tree_seek(&m->tree, reverse ? end : start);
    it->leaf = spot.leaf;
    it->slot = spot.slot; /* forward: the next; reverse: one above the next */
    for (uint32_t i = 1; i <= PREFETCH_AHEAD; i++) {
        entry_prefetch(spot.leaf, reverse ? spot.slot - i : spot.slot + i - 1);
    }
}

static const struct entry *step_forward(struct mvcc_iter *it)
{
    const struct tree_leaf *l = iter_leaf(it);
    while (it->slot >= l->count) {
        if (l->next == NULL) return NULL;
        l = l->next;
        it->leaf = iter_leaf(it)->next;
        it->slot = 0;
        for (uint32_t i = 0; i < PREFETCH_AHEAD; i++) entry_prefetch(l, i);
        if (l->next != NULL) __builtin_prefetch(l->next);
    }
    entry_prefetch(l, it->slot + PREFETCH_AHEAD);
    return l->entries[it->slot++];
}

static const struct entry *step_back(struct mvcc_iter *it)
{
    const struct tree_leaf *l = iter_leaf(it);
    while (it->slot == 0) {
        if (l->prev == NULL) return NULL;
        l = l->prev;
        it->leaf = iter_leaf(it)->prev;
        it->slot = l->count;
        for (uint32_t i = 1; i <= PREFETCH_AHEAD; i++) entry_prefetch(l, it->slot - i);
        if (l->prev != NULL) __builtin_prefetch(l->prev);
    }
    entry_prefetch(l, it->slot - 1 - PREFETCH_AHEAD);
    return l->entries[--it->slot];
}

static bool iter_is_past(const struct mvcc_iter *it, const struct entry *e)
{
    if (it->reverse) return slice_cmp(entry_key(e), it->start) < 0;
    return it->end.len != 0 && slice_cmp(entry_key(e), it->end) >= 0;
}

const struct entry *mvcc_iter_next(struct mvcc_iter *it)
{
    while (!it->done) {
        const struct entry *e = it->reverse ? step_back(it) : step_forward(it);
        if (e == NULL || iter_is_past(it, e)) return iter_end(it);
        if (!entry_is_ghost(e) || (it->ghosts && !ghost_is_passed(it->m, e))) return e;
    }
    return NULL;
}

uint64_t mvcc_count(const struct mvcc *m, struct slice start, struct slice end)
{
    ASSERT(!m->loading);
    if (end.len == 0) return m->live_count - mvcc_tree_rank(&m->tree, start);
    if (slice_cmp(start, end) >= 0) return 0;
    return mvcc_tree_rank(&m->tree, end) - mvcc_tree_rank(&m->tree, start);
}

const struct entry *mvcc_nth(const struct mvcc *m, struct slice start, struct slice end,
                             uint64_t nth)
{
    ASSERT(!m->loading);
    if (nth >= m->live_count) return NULL;
    const struct entry *e = mvcc_tree_at_rank(&m->tree, mvcc_tree_rank(&m->tree, start) + nth);
    if (e != NULL && end.len != 0 && slice_cmp(entry_key(e), end) >= 0) return NULL;
    return e;
}

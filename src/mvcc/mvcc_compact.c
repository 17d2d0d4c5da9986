/* mvcc/mvcc_compact.c - ghosts, and forgetting them; see mvcc.h and mvcc_int.h. */
#include "mvcc/mvcc_int.h"

static void ghost_links_set(struct entry *e, struct ghost_links links)
{
    memcpy(e->data + e->key_bytes, &links, sizeof links);
}

static void ghost_set_next(struct mvcc *m, struct entry *e, struct entry *next)
{
    if (e == NULL) {
        m->ghost_first = next;
        return;
    }
    ghost_links_set(e, (struct ghost_links){ ghost_links_get(e).prev, next });
}

static void ghost_set_prev(struct mvcc *m, struct entry *e, struct entry *prev)
{
    if (e == NULL) {
        m->ghost_last = prev;
        return;
    }
    ghost_links_set(e, (struct ghost_links){ prev, ghost_links_get(e).next });
}

void mvcc_ghost_push(struct mvcc *m, struct entry *e)
{
    ASSERT(entry_is_ghost(e));
    ASSERT(m->ghost_last == NULL || m->ghost_last->mod <= e->mod);
    ghost_links_set(e, (struct ghost_links){ m->ghost_last, NULL });
    ghost_set_next(m, m->ghost_last, e);
    m->ghost_last = e;
    m->ghost_count++;
}

void mvcc_ghost_unlink(struct mvcc *m, struct entry *e)
{
    ASSERT(entry_is_ghost(e));
    ASSERT(m->ghost_count > 0);
    struct ghost_links links = ghost_links_get(e);
    ghost_set_next(m, links.prev, links.next);
    ghost_set_prev(m, links.next, links.prev);
    m->ghost_count--;
}

void mvcc_compact(struct mvcc *m, uint64_t rev)
{
    ASSERT(!m->loading);
    ASSERT(rev > m->compacted);
    ASSERT(rev <= m->rev);
    m->compacted = rev;
}

bool mvcc_compact_step(struct mvcc *m, size_t max)
{
    ASSERT(!m->loading);
    for (size_t i = 0; m->ghost_first != NULL; i++) {
        bool one_more = MUTANT(COMPACTION_TAKES_ONE_MORE) && m->ghost_first->mod == m->compacted;
        if (!ghost_is_passed(m, m->ghost_first) && !one_more) break;
        if (i == max) return true;
        struct entry_place place = mvcc_place_find(m, entry_key(m->ghost_first));
        ASSERT(place.former == m->ghost_first);
        mvcc_place_remove(m, &place);
    }
    return false;
}

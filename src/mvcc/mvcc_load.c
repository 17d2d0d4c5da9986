/* mvcc/mvcc_load.c - the key space from its rows, at start; see mvcc.h. */
#include "mvcc/mvcc_int.h"

void mvcc_load_begin(struct mvcc *m, uint64_t compacted, uint64_t expected_count)
{
    ASSERT(!m->loading);
    ASSERT(m->index.count == 0);
    ASSERT(m->packs.count == 0 && m->packs.open.body == NULL);
    mvcc_index_reserve(&m->index, expected_count);
    m->loading = true;
    m->compacted = compacted;
    m->rev = 0;
    m->last_n = 0;
}

/* Whether the row can follow what was loaded of its key. Without an entry all earlier rows of the
 * key must be behind the compaction; physical deletion took them, or a tombstone did here. */
static bool row_follows(const struct mvcc *m, const struct entry *former, const struct row *r)
{
    if (former == NULL) return r->prev < m->compacted || r->prev == 0;
    if (r->prev != former->mod || r->jump != former->jump) return false;
    if (r->chain != (former->chain + 1u) % MVCC_JUMP_STRIDE) return false;
    if (r->op != ROW_PUT) return !entry_is_ghost(former);
    bool is_new = r->version == 1 && r->create == r->rev;
    if (is_new || entry_is_ghost(former)) return is_new; /* over a live one: mvcc_write.recreate */
    return r->version == former->version + 1 && r->create == former->create;
}

static void dead_add(struct mvcc_dead *dead, uint64_t rev, struct slice key)
{
    ASSERT(dead->count < ARRAY_LEN(dead->rev));
    dead->rev[dead->count] = rev;
    dead->key[dead->count] = key;
    dead->count++;
}

enum err mvcc_load_row(struct mvcc *m, const struct row *r, struct mvcc_dead *dead)
{
    ASSERT(m->loading);
    if (r->rev < m->rev || (r->rev == m->rev && r->n <= m->last_n)) return ERR_CORRUPT;
    if (r->key.len < 1 || r->key.len > MVCC_KEY_BYTES_MAX) return ERR_CORRUPT;
    struct entry_place place = mvcc_place_find(m, r->key);
    if (!row_follows(m, place.former, r)) return ERR_CORRUPT;
    m->rev = r->rev;
    m->last_n = r->n;

    dead->count = 0;
    if (place.former != NULL && r->rev <= m->compacted) {
        dead_add(dead, place.former->mod, r->key);
    }
    if (r->op != ROW_PUT && r->rev < m->compacted) {
        dead_add(dead, r->rev, r->key);
        if (place.former != NULL) mvcc_place_remove(m, &place);
        return OK;
    }
    bool with_slot = r->lease != 0 || r->deadline_ms != 0 || r->unix_ms != 0 || r->life_index != 0;
    mem_ahead_note(&m->ahead, mvcc_place_write(m, &place, r, NULL, with_slot, NULL));
    return OK;
}

void mvcc_load_end(struct mvcc *m, uint64_t rev)
{
    ASSERT(m->loading);
    ASSERT(rev >= m->rev);
    ASSERT(rev >= m->compacted);
    size_t count = 0;
    struct tree_item *items = mem_alloc((size_t)m->index.count * sizeof *items);
    struct mvcc_index_walk walk = { 0 };
    for (struct entry *e; (e = mvcc_index_next(&m->index, &walk)) != NULL;) {
        items[count++].entry = e;
    }
    ASSERT(count == m->index.count);
    mvcc_sort(items, count);
    mvcc_tree_build(&m->tree, items, count);
    mem_free(items);
    m->rev = rev;
    m->last_n = 0;
    m->loading = false;
}

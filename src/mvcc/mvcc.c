/* mvcc/mvcc.c - the key space as a whole: finding, changing, checking; see mvcc.h. */
#include "mvcc/mvcc.h"

#include "mvcc/mvcc_int.h"

#define REV_EMPTY 1 /* of a store without events, as in etcd */
#define LINE_BYTES 64
#define VALUE_PREFETCH_BYTES_MAX 512

struct mvcc *mvcc_new(uint64_t hash_seed)
{
    struct mvcc *m = mem_zalloc(sizeof *m);
    m->rev = REV_EMPTY;
    mvcc_index_init(&m->index, hash_seed);
    mvcc_tree_init(&m->tree);
    return m;
}

void mvcc_free(struct mvcc *m)
{
    if (m == NULL) return;
    struct mvcc_index_walk walk = { 0 };
    for (struct entry *e; (e = mvcc_index_next(&m->index, &walk)) != NULL;) mem_free(e);
    mvcc_index_deinit(&m->index);
    mvcc_tree_deinit(&m->tree);
    mvcc_packs_deinit(&m->packs);
    mem_free(m);
}

/* --- reading -------------------------------------------------------------------------- */

uint64_t mvcc_rev(const struct mvcc *m) { return m->rev; }
uint64_t mvcc_compacted(const struct mvcc *m) { return m->compacted; }
uint64_t mvcc_hash(const struct mvcc *m) { return m->hash; }
uint64_t mvcc_live_count(const struct mvcc *m) { return m->live_count; }
uint64_t mvcc_live_bytes(const struct mvcc *m) { return m->live_bytes; }
uint64_t mvcc_ghost_count(const struct mvcc *m) { return m->ghost_count; }

uint64_t mvcc_key_hash(const struct mvcc *m, struct slice key)
{
    return mvcc_index_hash(&m->index, key);
}

void mvcc_prefetch_slot(const struct mvcc *m, uint64_t hash)
{
    mvcc_index_prefetch_slot(&m->index, hash);
}

void mvcc_prefetch_entry(const struct mvcc *m, uint64_t hash)
{
    mvcc_index_prefetch_entry(&m->index, hash);
}

const struct entry *mvcc_find_hashed(const struct mvcc *m, uint64_t hash, struct slice key)
{
    const uint64_t *slot = mvcc_index_find(&m->index, hash, key);
    if (slot == NULL) return NULL;
    const struct entry *e = index_slot_entry(*slot);
    return entry_is_ghost(e) ? NULL : e;
}

const struct entry *mvcc_find(const struct mvcc *m, struct slice key)
{
    return mvcc_find_hashed(m, mvcc_index_hash(&m->index, key), key);
}

/* --- changing -------------------------------------------------------------------------- */

/* Moves to the event's revision. Events ascend by (rev, n), and a key has one a revision. */
static void event_begin(struct mvcc *m, const struct entry *former, uint64_t rev, uint32_t n)
{
    ASSERT(!m->loading);
    ASSERT(rev > m->rev || (rev == m->rev && n > m->last_n));
    ASSERT(rev == m->rev || n == 1);
    ASSERT(former == NULL || rev > former->mod);
    m->rev = rev;
    m->last_n = n;
}

/* The row's place in the key's history (I4). A ghost behind the compaction is no history. */
static void row_chain(const struct mvcc *m, const struct entry *former, struct row *r)
{
    if (former == NULL) return;
    if (entry_is_ghost(former) && ghost_is_passed(m, former)) return;
    r->prev = former->mod;
    r->jump = former->jump;
    r->chain = (uint8_t)((former->chain + 1u) % MVCC_JUMP_STRIDE);
}

/* Field by field: clearing the whole first costs as much as the rest of it. */
static void event_fill(struct mvcc_event *ev, const struct row *r, const struct entry *live)
{
    ev->op = r->op;
    ev->type = r->type;
    ev->key = SLICE_NONE;
    ev->value = SLICE_NONE;
    ev->rev = r->rev;
    ev->n = r->n;
    ev->create = r->create;
    ev->version = r->version;
    ev->lease = r->lease;
    ev->prev_mod = live == NULL ? 0 : live->mod;
    ev->prev_create = live == NULL ? 0 : live->create;
    ev->prev_version = live == NULL ? 0 : live->version;
    ev->prev_value = SLICE_NONE;
}

/* Once the entries are what they will be. */
static void event_borrow(struct mvcc_event *ev, const struct entry *e, struct entry *const *taken)
{
    ev->key = entry_key(e);
    if (ev->op == ROW_PUT) ev->value = entry_value(e);
    if (taken != NULL && *taken != NULL) ev->prev_value = entry_value(*taken);
}

/* What is about to be overwritten arrives while the row is written. */
static void value_prefetch(const struct entry *e)
{
    const uint8_t *at = (const uint8_t *)e;
    size_t bytes = ENTRY_HEAD_BYTES + e->key_bytes + e->value_bytes;
    for (size_t i = LINE_BYTES; i < MIN(bytes, VALUE_PREFETCH_BYTES_MAX); i += LINE_BYTES) {
        __builtin_prefetch(at + i, 1);
    }
}

static bool points_into(const struct entry *e, struct slice s)
{
    if (e == NULL || s.len == 0) return false;
    return s.at >= e->data && s.at < entry_value(e).at + e->value_bytes;
}

void mvcc_put(struct mvcc *m, const struct mvcc_write *w, struct entry **old_taken,
              struct mvcc_event *ev)
{
    ASSERT(w->key.len >= 1 && w->key.len <= MVCC_KEY_BYTES_MAX);
    ASSERT(w->value.len <= MVCC_VALUE_BYTES_MAX);
    struct entry_place place = mvcc_place_find(m, w->key);
    struct entry *former = place.former;
    if (former != NULL) value_prefetch(former);
    event_begin(m, former, w->rev, w->n);
    ASSERT(old_taken != NULL || !points_into(former, w->key));
    ASSERT(old_taken != NULL || !points_into(former, w->value));
    const struct entry *live = former == NULL || entry_is_ghost(former) ? NULL : former;

    const struct life *life = w->life;
    ASSERT(life == NULL || life->entry == NULL || life->entry == former);
    struct row r = { .rev = w->rev, .n = w->n, .op = ROW_PUT, .type = w->type,
                     .create = live != NULL && !w->recreate ? live->create : w->rev,
                     .version = live != NULL && !w->recreate ? live->version + 1 : 1,
                     .prev = 0, .jump = 0, .chain = 0,
                     .lease = life != NULL ? life->lease_id : 0,
                     .deadline_ms = life != NULL ? life->deadline_ms : 0,
                     .unix_ms = life != NULL ? life->unix_ms : 0,
                     .life_index = life != NULL ? life->life_index : 0,
                     .key = w->key, .value = w->value };
    row_chain(m, former, &r);
    mvcc_pack_append(&m->packs, &r);
    event_fill(ev, &r, live);
    struct entry *e = mvcc_place_write(m, &place, &r, w->life, false, old_taken);
    event_borrow(ev, e, old_taken);
}

void mvcc_delete(struct mvcc *m, struct slice key, uint64_t rev, uint32_t n, enum row_op op,
                 struct entry **old_taken, struct mvcc_event *ev)
{
    ASSERT(op == ROW_DEL || op == ROW_EXPIRE);
    struct entry_place place = mvcc_place_find(m, key);
    struct entry *live = place.former;
    ASSERT(live != NULL);
    ASSERT(!entry_is_ghost(live));
    event_begin(m, live, rev, n);

    const struct life *life = entry_life(live);
    uint8_t *own = NULL; /* the key may point into the entry that goes away */
    if (old_taken == NULL && key.at == entry_key(live).at) own = mem_copy(key.at, key.len);
    struct row r = { .rev = rev, .n = n, .op = op, .type = entry_type(live),
                     .lease = life != NULL ? life->lease_id : 0,
                     .key = { own != NULL ? own : key.at, key.len } };
    row_chain(m, live, &r);
    mvcc_pack_append(&m->packs, &r);
    event_fill(ev, &r, live);
    struct entry *e = mvcc_place_write(m, &place, &r, NULL, false, old_taken);
    event_borrow(ev, e, old_taken);
    mem_free(own);
}

void mvcc_set_life(struct mvcc *m, struct slice key, struct life *life)
{
    ASSERT(life == NULL || life->entry == NULL || slice_eq(entry_key(life->entry), key));
    struct entry_place place = mvcc_place_find(m, key);
    mvcc_place_set_life(m, &place, life);
}

void mvcc_set_rev(struct mvcc *m, uint64_t rev)
{
    ASSERT(rev >= m->rev);
    if (rev == m->rev) return;
    m->rev = rev;
    m->last_n = 0;
}

/* --- checking ------------------------------------------------------------------------------ */

static void entry_check(const struct mvcc *m, const struct entry *e)
{
    struct slice key = entry_key(e);
    ASSERT(e->mod <= m->rev);
    ASSERT(e->jump <= e->mod);
    ASSERT((e->chain == 0) == (e->jump == e->mod));
    ASSERT(crc32c(0, key.at, key.len + (size_t)e->value_bytes) == e->crc);
    if (entry_is_ghost(e)) {
        ASSERT(e->create == 0 && e->version == 0 && e->value_bytes == 0);
        ASSERT((e->flags & ENTRY_LIFE_SLOT) == 0);
        return;
    }
    ASSERT(e->create >= 1 && e->create <= e->mod && e->version >= 1);
    const struct life *life = entry_life(e);
    if (life != NULL) ASSERT(life->entry == e);
}

static void ghosts_check(const struct mvcc *m)
{
    const struct entry *before = NULL;
    uint64_t count = 0;
    for (const struct entry *e = m->ghost_first; e != NULL; e = ghost_links_get(e).next) {
        ASSERT(entry_is_ghost(e));
        ASSERT(ghost_links_get(e).prev == before);
        ASSERT(before == NULL || before->mod <= e->mod);
        before = e;
        count++;
    }
    ASSERT(before == m->ghost_last);
    ASSERT(count == m->ghost_count);
}

void mvcc_check(const struct mvcc *m)
{
    ASSERT(!m->loading);
    mvcc_index_check(&m->index);
    mvcc_tree_check(&m->tree);
    mvcc_packs_check(&m->packs);
    ghosts_check(m);
    uint64_t live = 0;
    uint64_t live_bytes = 0;
    uint64_t hash = 0;
    for (const struct tree_leaf *l = m->tree.first; l != NULL; l = l->next) {
        for (unsigned i = 0; i < l->count; i++) {
            const struct entry *e = l->entries[i];
            ASSERT(mvcc_place_find(m, entry_key(e)).former == e);
            entry_check(m, e);
            if (entry_is_ghost(e)) continue;
            live++;
            live_bytes += ENTRY_HEAD_BYTES + e->key_bytes + e->value_bytes;
            hash += mvcc_entry_hash(e);
        }
    }
    ASSERT(m->tree.count == m->index.count);
    ASSERT(live == m->live_count && live == m->tree.live);
    ASSERT(live + m->ghost_count == m->index.count);
    ASSERT(live_bytes == m->live_bytes);
    ASSERT(hash == m->hash);
}

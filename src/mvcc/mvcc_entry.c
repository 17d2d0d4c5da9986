/* mvcc/mvcc_entry.c - entries: laid out, overwritten, moved, counted; see mvcc_int.h. */
#include "mvcc/mvcc_int.h"

_Static_assert(offsetof(struct entry, data) == 46, "16-byte keys with 256 bytes fill 320 bytes");

static size_t live_bytes(const struct entry *e)
{
    return ENTRY_HEAD_BYTES + e->key_bytes + e->value_bytes;
}

static size_t held_bytes(const struct entry *e)
{
    if (entry_is_ghost(e)) return ENTRY_HEAD_BYTES + e->key_bytes + sizeof(struct ghost_links);
    return live_bytes(e) + entry_slot_bytes(e);
}

/* Whether an allocation of `bytes` may stay where e is: it fits and wastes at most a quarter. */
static bool entry_fits(const struct entry *e, size_t bytes)
{
    if (bytes == held_bytes(e)) return true;
    size_t usable_bytes = mem_usable(e);
    return bytes <= usable_bytes && usable_bytes - bytes <= usable_bytes / 4;
}

uint64_t mvcc_entry_hash(const struct entry *e)
{
    uint64_t when = u64_mix(e->mod ^ e->create * 0x9e3779b97f4a7c15ULL);
    uint64_t what = (uint64_t)e->crc << 32 | e->value_bytes;
    uint64_t shape = e->version ^ (uint64_t)e->key_bytes << 44 ^ (uint64_t)entry_type(e) << 60;
    return u64_mix(when + (what ^ shape * 0xbf58476d1ce4e5b9ULL));
}

static void life_attach(struct entry *e, struct life *life)
{
    ASSERT((e->flags & ENTRY_LIFE_SLOT) != 0);
    memcpy(e->data, &life, sizeof life);
    if (life != NULL) life->entry = e;
}

/* key_is_there: an overwrite that leaves key and slot where they are. */
static void entry_write(struct entry *e, const struct row *r, unsigned flags, bool key_is_there)
{
    e->mod = r->rev;
    e->create = r->create;
    e->version = r->version;
    e->jump = r->chain == 0 ? r->rev : r->jump;
    e->value_bytes = (uint32_t)r->value.len;
    e->key_bytes = (uint16_t)r->key.len;
    e->flags = (uint8_t)(flags | (unsigned)r->type << 4);
    e->chain = r->chain;
    e->n = (uint16_t)MIN(r->n, UINT16_MAX);
    /* Read where it comes from: what is read back across two stores that still wait for their cache
     * line waits with them (5 % of all time at SET 50 x 16). */
    e->crc = crc32c(crc32c(0, r->key.at, r->key.len), r->value.at, r->value.len);
    uint8_t *to = e->data + entry_slot_bytes(e);
    if (!key_is_there) memcpy(to, r->key.at, r->key.len);
    to += r->key.len;
    if (r->value.len != 0) memcpy(to, r->value.at, r->value.len);
}

static void count_in(struct mvcc *m, struct entry *e)
{
    if (entry_is_ghost(e)) {
        mvcc_ghost_push(m, e);
        return;
    }
    m->live_count++;
    m->live_bytes += live_bytes(e);
    m->hash += mvcc_entry_hash(e);
}

static void count_out(struct mvcc *m, struct entry *e)
{
    if (entry_is_ghost(e)) {
        mvcc_ghost_unlink(m, e);
        return;
    }
    m->live_count--;
    m->live_bytes -= live_bytes(e);
    m->hash -= mvcc_entry_hash(e);
}

struct entry_place mvcc_place_find(const struct mvcc *m, struct slice key)
{
    struct entry_place place = { .hash = mvcc_index_hash(&m->index, key) };
    place.slot = mvcc_index_find(&m->index, place.hash, key);
    if (place.slot != NULL) place.former = index_slot_entry(*place.slot);
    return place;
}

/* Index and tree after e took the place of the former entry, or came new. */
static void place_link(struct mvcc *m, const struct entry_place *place, struct entry *e,
                       bool was_ghost)
{
    if (place->former == NULL) {
        mvcc_index_insert(&m->index, place->hash, e);
        if (!m->loading) mvcc_tree_insert(&m->tree, e);
        return;
    }
    bool moved = e != place->former;
    if (moved) mvcc_index_replace(&m->index, place->slot, e);
    if (m->loading || (!moved && was_ghost == entry_is_ghost(e))) return;
    mvcc_tree_update(&m->tree, place->former, e);
}

struct entry *mvcc_place_write(struct mvcc *m, const struct entry_place *place,
                               const struct row *r, struct life *life, bool with_slot,
                               struct entry **old_taken)
{
    struct entry *former = place->former;
    bool ghost = r->op != ROW_PUT;
    bool was_ghost = former != NULL && entry_is_ghost(former);
    ASSERT(!ghost || (life == NULL && r->value.len == 0));
    unsigned flags = ghost ? ENTRY_GHOST : 0;
    if (!ghost && (with_slot || life != NULL)) flags |= ENTRY_LIFE_SLOT;
    size_t slot_bytes = (flags & ENTRY_LIFE_SLOT) != 0 ? sizeof life : 0;
    size_t bytes = ENTRY_HEAD_BYTES + slot_bytes + r->key.len + r->value.len;
    if (ghost) bytes += sizeof(struct ghost_links);

    bool in_place = former != NULL && old_taken == NULL && entry_fits(former, bytes);
    struct entry *e = in_place ? former : mem_alloc(bytes);
    if (former != NULL) {
        struct life *life_before = was_ghost ? NULL : entry_life(former);
        if (life_before != NULL && life_before != life) life_before->entry = NULL;
        count_out(m, former);
    }
    entry_write(e, r, flags, in_place && entry_slot_bytes(former) == slot_bytes);
    if (slot_bytes != 0) life_attach(e, life);
    count_in(m, e);
    place_link(m, place, e, was_ghost);

    bool keep = old_taken != NULL && former != NULL && !was_ghost;
    if (old_taken != NULL) *old_taken = keep ? former : NULL;
    if (!in_place && !keep) mem_free(former);
    return e;
}

void mvcc_place_remove(struct mvcc *m, const struct entry_place *place)
{
    struct entry *e = place->former;
    ASSERT(e != NULL);
    struct life *life = entry_is_ghost(e) ? NULL : entry_life(e);
    if (life != NULL) life->entry = NULL;
    count_out(m, e);
    mvcc_index_remove(&m->index, place->hash, place->slot);
    if (!m->loading) mvcc_tree_remove(&m->tree, e);
    mem_free(e);
}

/* Key and value move up by the width of a pointer, in this allocation or into another one. */
static struct entry *entry_widen(struct mvcc *m, const struct entry_place *place)
{
    struct entry *e = place->former;
    size_t bytes = held_bytes(e) + sizeof(struct life *);
    size_t data_bytes = (size_t)e->key_bytes + e->value_bytes;
    struct entry *wide = bytes <= mem_usable(e) ? e : mem_alloc(bytes);
    memmove(wide->data + sizeof(struct life *), e->data, data_bytes);
    if (wide != e) memcpy(wide, e, ENTRY_HEAD_BYTES);
    wide->flags |= ENTRY_LIFE_SLOT;
    if (wide == e) return e;
    place_link(m, place, wide, false);
    mem_free(e);
    return wide;
}

void mvcc_place_set_life(struct mvcc *m, const struct entry_place *place, struct life *life)
{
    struct entry *e = place->former;
    ASSERT(e != NULL && !entry_is_ghost(e));
    struct life *before = entry_life(e);
    if (before == life) return;
    if (before != NULL) before->entry = NULL;
    if ((e->flags & ENTRY_LIFE_SLOT) == 0) e = entry_widen(m, place);
    life_attach(e, life);
}

void mvcc_entry_free(struct entry *e)
{
    mem_free(e);
}

/* state/txn.c - see txn.h. */
#include "state/txn.h"

#define SLOTS_MIN 64u
#define CHUNK_BYTES 65536u
#define OWNED_BYTES_MIN 64u

struct txn_chunk {
    struct txn_chunk *next;
    size_t len, cap;
    uint8_t at[];
};

struct txn *txn_new(void)
{
    struct txn *t = mem_zalloc(sizeof *t);
    t->sorted = mem_zalloc(sizeof *t->sorted);
    t->slot_count = SLOTS_MIN;
    t->slots = mem_zalloc(SLOTS_MIN * sizeof *t->slots);
    return t;
}

void txn_free(struct txn *t)
{
    if (t == NULL) return;
    if (t->active) txn_end(t);
    for (struct txn_chunk *c = t->chunks; c != NULL;) {
        struct txn_chunk *next = c->next;
        mem_free(c);
        c = next;
    }
    for (uint32_t i = 0; i < t->block_count; i++) mem_free(t->blocks[i]);
    mem_free(t->blocks);
    mem_free(t->slots);
    mem_free(t->sorted->at);
    mem_free(t->sorted);
    mem_free(t->log);
    mem_free(t->saved);
    mem_free(t);
}

/* Doubles an array that is full. */
static void *array_grow(void *at, uint32_t count, uint32_t *cap, size_t item_bytes)
{
    if (count < *cap) return at;
    ASSERT(*cap < UINT32_MAX / 2);
    *cap = *cap == 0 ? 16 : *cap * 2;
    return mem_realloc(at, *cap * item_bytes);
}

void txn_begin(struct txn *t, const struct mvcc *m)
{
    ASSERT(!t->active);
    ASSERT(t->pending_count == 0);
    t->mvcc = m;
    t->active = true;
}

/* Keeps one chunk of the usual size. */
static void chunks_reset(struct txn *t)
{
    while (t->chunks != NULL && (t->chunks->next != NULL || t->chunks->cap > CHUNK_BYTES)) {
        struct txn_chunk *next = t->chunks->next;
        mem_free(t->chunks);
        t->chunks = next;
    }
    if (t->chunks != NULL) t->chunks->len = 0;
}

void txn_end(struct txn *t)
{
    ASSERT(t->active);
    if (t->saving) txn_restore(t);
    for (uint32_t i = 0; i < t->pending_count; i++) {
        t->slots[txn_at(t, i)->slot] = 0;
        mem_free(txn_at(t, i)->owned);
    }
    chunks_reset(t);
    t->pending_count = 0;
    t->sorted->count = 0;
    t->log_count = 0;
    t->changed_count = 0;
    t->attach_count = 0;
    t->copied_bytes = 0;
    t->value_bytes = 0;
    t->moved_bytes = 0;
    t->mvcc = NULL;
    t->active = false;
}

/* --- finding ------------------------------------------------------------------------ */

/* The slot of a key, or the free one where it would be. */
static uint32_t slot_find(const struct txn *t, uint64_t hash, struct slice key)
{
    uint32_t mask = t->slot_count - 1;
    uint32_t at = (uint32_t)u64_mix(hash) & mask;
    for (; t->slots[at] != 0; at = (at + 1) & mask) {
        const struct pending *p = txn_at(t, t->slots[at] - 1);
        if (p->hash == hash && slice_eq(p->key, key)) break;
    }
    return at;
}

static void slots_grow(struct txn *t)
{
    mem_free(t->slots);
    t->slot_count *= 2;
    t->slots = mem_zalloc(t->slot_count * sizeof *t->slots);
    for (uint32_t i = 0; i < t->pending_count; i++) {
        struct pending *p = txn_at(t, i);
        p->slot = slot_find(t, p->hash, p->key);
        ASSERT(t->slots[p->slot] == 0);
        t->slots[p->slot] = i + 1;
    }
}

static struct slice key_copy(struct txn *t, struct slice key)
{
    struct txn_chunk *c = t->chunks;
    if (c == NULL || c->cap - c->len < key.len) {
        size_t cap = MAX(key.len, CHUNK_BYTES);
        c = mem_alloc(sizeof *c + cap);
        *c = (struct txn_chunk){ .next = t->chunks, .cap = cap };
        t->chunks = c;
    }
    uint8_t *to = c->at + c->len;
    memcpy(to, key.at, key.len);
    c->len += key.len;
    return (struct slice){ to, key.len };
}

struct pending *txn_find(const struct txn *t, uint64_t hash, struct slice key)
{
    ASSERT(t->active);
    if (t->pending_count == 0) return NULL;
    uint32_t slot = slot_find(t, hash, key);
    return t->slots[slot] == 0 ? NULL : txn_at(t, t->slots[slot] - 1);
}

static struct pending *pending_new(struct txn *t)
{
    if (t->pending_count == t->block_count * PENDING_BLOCK) {
        t->blocks = array_grow(t->blocks, t->block_count, &t->block_cap, sizeof(struct pending *));
        t->blocks[t->block_count++] = mem_alloc(PENDING_BLOCK * sizeof(struct pending));
    }
    t->pending_count++;
    return txn_at(t, t->pending_count - 1);
}

struct pending *txn_touch(struct txn *t, struct slice key, bool copy_key)
{
    uint64_t hash = mvcc_key_hash(t->mvcc, key);
    struct pending *found = txn_find(t, hash, key);
    if (found != NULL) return found;

    if ((t->pending_count + 1) * 2 > t->slot_count) slots_grow(t);
    const struct entry *base = mvcc_find_hashed(t->mvcc, hash, key);
    struct pending *p = pending_new(t);
    *p = (struct pending){
        .key = copy_key ? key_copy(t, key) : key, .hash = hash, .base = base, .live = base != NULL,
        .type = base != NULL ? entry_type(base) : VALUE_STRING,
        .place = t->pending_count - 1,
    };
    p->slot = slot_find(t, hash, key);
    t->slots[p->slot] = t->pending_count;
    return p;
}

struct slice pending_value(const struct pending *p)
{
    switch (p->from) {
    case VALUE_FROM_BASE:
        return p->base != NULL ? entry_value(p->base) : SLICE_NONE;
    case VALUE_FROM_OUTSIDE:
        return p->outside;
    case VALUE_FROM_OWNED:
        return (struct slice){ p->owned, p->owned_len };
    case VALUE_FROM_SMALL:
        return (struct slice){ p->small, p->small_len };
    }
    ASSERT(false);
    return SLICE_NONE;
}

/* --- changing ------------------------------------------------------------------------- */

/* Before anything in p changes: keeps what it was, if there is a save point. */
static void pending_save(struct txn *t, struct pending *p)
{
    if (!t->saving || p->saved_at == t->save_point) return;
    t->saved = array_grow(t->saved, t->saved_count, &t->saved_cap, sizeof *t->saved);
    t->saved[t->saved_count++] = (struct txn_saved){ p, *p };
    p->saved_at = t->save_point;
    p->frozen = p->owned != NULL;
}

static void mark_changed(struct txn *t, struct pending *p)
{
    if (!p->changed) t->changed_count++;
    p->changed = true;
    t->log = array_grow(t->log, t->log_count, &t->log_cap, sizeof *t->log);
    p->order = t->log_count;
    t->log[t->log_count++] = p->place;
}

static void mark_put(struct txn *t, struct pending *p, enum value_from from, enum value_type type)
{
    if (!p->live && p->base != NULL) p->recreated = true;
    p->live = true;
    p->from = from;
    p->type = type;
    size_t bytes = pending_value(p).len;
    if (bytes > p->value_bytes_max) {
        t->value_bytes += bytes - p->value_bytes_max;
        p->value_bytes_max = bytes;
    }
    mark_changed(t, p);
}

void txn_put_outside(struct txn *t, struct pending *p, struct slice value, enum value_type type)
{
    pending_save(t, p);
    p->outside = value;
    mark_put(t, p, VALUE_FROM_OUTSIDE, type);
}

void txn_put_base(struct txn *t, struct pending *p)
{
    ASSERT(p->live);
    pending_save(t, p);
    mark_put(t, p, p->from, p->type);
}

/* Gives p new room; what it had is freed unless a saved version shows it. */
static void own(struct pending *p, uint8_t *room, size_t cap)
{
    if (!p->frozen) mem_free(p->owned);
    p->owned = room;
    p->owned_cap = cap;
    p->frozen = false;
}

void txn_put_copy(struct txn *t, struct pending *p, struct slice value, enum value_type type)
{
    pending_save(t, p);
    if (value.len <= PENDING_SMALL_BYTES) {
        if (value.len != 0) memcpy(p->small, value.at, value.len);
        p->small_len = (uint8_t)value.len;
        mark_put(t, p, VALUE_FROM_SMALL, type);
        return;
    }
    if (p->frozen || p->owned_cap < value.len) own(p, mem_alloc(value.len), value.len);
    memcpy(p->owned, value.at, value.len);
    t->moved_bytes += value.len;
    p->owned_len = value.len;
    mark_put(t, p, VALUE_FROM_OWNED, type);
}

void txn_put_moved(struct txn *t, struct pending *p, struct pending *from)
{
    ASSERT(p != from);
    ASSERT(!from->live);
    if (from->from == VALUE_FROM_OUTSIDE) {
        txn_put_outside(t, p, from->outside, from->type);
        return;
    }
    if (from->from != VALUE_FROM_OWNED || from->frozen) {
        txn_put_copy(t, p, pending_value(from), from->type);
        return;
    }
    pending_save(t, p);
    own(p, from->owned, from->owned_cap);
    p->owned_len = from->owned_len;
    from->owned = NULL;
    from->owned_cap = 0;
    from->owned_len = 0;
    mark_put(t, p, VALUE_FROM_OWNED, from->type);
}

uint8_t *txn_put_grown(struct txn *t, struct pending *p, size_t bytes)
{
    pending_save(t, p);
    struct slice present = p->live ? pending_value(p) : SLICE_NONE;
    ASSERT(bytes >= present.len);
    bool in_place = p->live && p->from == VALUE_FROM_OWNED && !p->frozen && p->owned_cap >= bytes;
    size_t present_len = present.len;
    if (!in_place) {
        size_t cap = MAX(bytes + bytes / 2, OWNED_BYTES_MIN);
        uint8_t *room = mem_alloc(cap);
        if (present_len != 0) memcpy(room, present.at, present_len);
        own(p, room, cap);
        t->moved_bytes += bytes;
    }
    memset(p->owned + present_len, 0, bytes - present_len);
    p->owned_len = bytes;
    mark_put(t, p, VALUE_FROM_OWNED, p->live ? p->type : VALUE_STRING);
    return p->owned;
}

static void count_attached(struct txn *t, struct pending *p)
{
    const struct life *life = p->base != NULL ? entry_life(p->base) : NULL;
    uint64_t base_lease = life != NULL ? life->lease_id : 0;
    bool attached = p->plan.form == LIFE_FORM_LEASE && p->plan.lease_id != base_lease;
    t->attach_count += attached;
    t->attach_count -= p->attached;
    p->attached = attached;
}

void txn_delete(struct txn *t, struct pending *p)
{
    ASSERT(p->live);
    pending_save(t, p);
    p->live = false;
    p->plan = (struct life_plan){ .form = LIFE_FORM_NONE };
    p->life_what = NULL;
    count_attached(t, p);
    mark_changed(t, p);
}

void txn_set_plan(struct txn *t, struct pending *p, const struct life_plan *plan)
{
    ASSERT(plan->form != LIFE_FORM_KEEP);
    ASSERT(p->live);
    pending_save(t, p);
    p->plan = *plan;
    count_attached(t, p);
}

/* --- order ---------------------------------------------------------------------------- */

uint32_t txn_sorted_find(const struct txn *t, struct slice key)
{
    uint32_t low = 0, high = t->sorted->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_cmp(txn_sorted_at(t, middle)->key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void txn_sort(const struct txn *t)
{
    struct txn_sorted *sorted = t->sorted;
    for (uint32_t i = sorted->count; i < t->pending_count; i++) {
        sorted->at = array_grow(sorted->at, sorted->count, &sorted->cap, sizeof *sorted->at);
        struct slice key = txn_at(t, i)->key;
        uint32_t place = sorted->count;
        if (place != 0 && slice_cmp(txn_sorted_at(t, place - 1)->key, key) > 0) {
            place = txn_sorted_find(t, key);
            memmove(&sorted->at[place + 1], &sorted->at[place],
                    (sorted->count - place) * sizeof *sorted->at);
        }
        sorted->at[place] = i;
        sorted->count++;
    }
}

/* --- the save point ------------------------------------------------------------------- */

void txn_save(struct txn *t)
{
    ASSERT(t->active);
    ASSERT(!t->saving);
    ASSERT(t->saved_count == 0);
    t->saving = true;
    t->save_point++;
    t->save_log_count = t->log_count;
    t->save_changed_count = t->changed_count;
    t->save_attach_count = t->attach_count;
    t->save_value_bytes = t->value_bytes;
}

void txn_release(struct txn *t)
{
    ASSERT(t->saving);
    for (uint32_t i = 0; i < t->saved_count; i++) {
        struct pending *p = t->saved[i].at;
        if (p->owned != t->saved[i].was.owned) mem_free(t->saved[i].was.owned);
        p->frozen = false;
    }
    t->saved_count = 0;
    t->saving = false;
}

void txn_restore(struct txn *t)
{
    ASSERT(t->saving);
    for (uint32_t i = 0; i < t->saved_count; i++) {
        struct pending *p = t->saved[i].at;
        uint32_t slot = p->slot; /* the table may have grown since */
        if (p->owned != t->saved[i].was.owned) mem_free(p->owned);
        *p = t->saved[i].was;
        p->slot = slot;
    }
    t->log_count = t->save_log_count;
    t->changed_count = t->save_changed_count;
    t->attach_count = t->save_attach_count;
    t->value_bytes = t->save_value_bytes;
    t->saved_count = 0;
    t->saving = false;
}

void txn_check(const struct txn *t)
{
    uint32_t changed = 0, attached = 0;
    uint64_t value_bytes = 0;
    for (uint32_t i = 0; i < t->pending_count; i++) {
        const struct pending *p = txn_at(t, i);
        ASSERT(t->slots[p->slot] == i + 1);
        ASSERT(slot_find(t, p->hash, p->key) == p->slot); /* I1 */
        if (p->changed) {
            ASSERT(p->order < t->log_count);
            ASSERT(t->log[p->order] == i); /* I2 */
        }
        ASSERT(p->changed || p->live == (p->base != NULL));
        ASSERT(!p->frozen || t->saving); /* I4 */
        changed += p->changed;
        attached += p->attached;
        value_bytes += p->value_bytes_max;
        ASSERT(!p->changed || !p->live || pending_value(p).len <= p->value_bytes_max);
    }
    for (uint32_t i = 1; i < t->sorted->count; i++) { /* I3 */
        ASSERT(slice_cmp(txn_sorted_at(t, i - 1)->key, txn_sorted_at(t, i)->key) < 0);
    }
    ASSERT(changed == t->changed_count);
    ASSERT(attached == t->attach_count);
    ASSERT(value_bytes == t->value_bytes);
}

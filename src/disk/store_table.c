/* disk/store_table.c - see store_table.h. */
#include "disk/store_table.h"

#include <stdlib.h>

#include "base/mutant.h"

#define SQUEEZE_COUNT_MIN 1024
#define QUEUE_KEPT_BYTES_MAX 65536
#define PACK_KEPT_BYTES_MAX 65536

void store_table_deinit(struct store_table *t)
{
    for (size_t i = 0; i < t->count; i++) mem_free(t->slots[i].marks);
    mem_free(t->slots);
    buf_deinit(&t->queue);
    buf_deinit(&t->pack);
    buf_deinit(&t->marks);
    t->slots = NULL;
    t->count = t->cap = t->gone_count = 0;
}

uint64_t store_table_hash(const struct store_table *t, uint64_t rev, struct slice key)
{
    return u64_mix(bytes_hash(key.at, key.len, t->hash_seed) ^ u64_mix(rev));
}

static bool place_before(const struct store_slot *slot, uint64_t rev, uint32_t n)
{
    return slot->first_rev != rev ? slot->first_rev < rev : slot->first_n < n;
}

static void grow(struct store_table *t)
{
    if (t->count < t->cap) return;
    t->cap = t->cap == 0 ? 256 : t->cap + t->cap / 8;
    t->slots = mem_realloc(t->slots, t->cap * sizeof *t->slots);
}

void store_table_append(struct store_table *t, uint64_t first_rev, uint32_t first_n,
                        size_t pack_bytes, const struct store_ref *ref)
{
    ASSERT(pack_bytes <= UINT32_MAX);
    ASSERT(t->count == 0 || place_before(&t->slots[t->count - 1], first_rev, first_n));
    grow(t);
    t->slots[t->count++] = (struct store_slot){
        .first_rev = first_rev,
        .first_n = first_n,
        .bytes = (uint32_t)pack_bytes,
    };
    if (ref != NULL) store_slot_place(&t->slots[t->count - 1], ref);
    t->bytes += pack_bytes;
    t->sum += store_pack_sum(first_rev, first_n, (uint32_t)pack_bytes);
}

/* --- finding --------------------------------------------------------------- */

size_t store_table_prev(const struct store_table *t, size_t slot)
{
    while (slot > 0) {
        slot--;
        if (!t->slots[slot].gone) return slot;
    }
    return STORE_SLOT_NONE;
}

size_t store_table_next(const struct store_table *t, size_t slot)
{
    size_t at = slot == STORE_SLOT_NONE ? 0 : slot + 1;
    for (; at < t->count; at++) {
        if (!t->slots[at].gone) return at;
    }
    return STORE_SLOT_NONE;
}

/* How many slots, gone or not, are at or before (rev, n). */
static size_t count_to(const struct store_table *t, uint64_t rev, uint32_t n)
{
    size_t low = 0;
    size_t high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct store_slot *slot = &t->slots[middle];
        bool after = !place_before(slot, rev, n) && !(slot->first_rev == rev && slot->first_n == n);
        if (after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

size_t store_table_floor(const struct store_table *t, uint64_t rev, uint32_t n)
{
    return store_table_prev(t, count_to(t, rev, n));
}

/* --- marks ----------------------------------------------------------------- */

bool store_slot_all_dead(const struct store_slot *slot)
{
    return slot->row_count != 0 && slot->dead_count == slot->row_count;
}

/* Every pack with a dead row is: a row that killed another may go only when its victim is gone, or
 * the next load would take the victim for live (I5 of store.h). */
bool store_slot_worth(const struct store_slot *slot)
{
    return slot->dead_count > 0;
}

static bool mark_dead(struct store_mark mark) { return (mark.bytes_dead & 1) != 0; }

static enum err read_pack(struct store_table *t, const struct store_slot *slot, size_t *offset)
{
    TRY(t->read(t->read_ctx, slot, &t->pack));
    return pack_begin(buf_slice(&t->pack), offset);
}

static enum err make_marks(struct store_table *t, struct store_slot *slot, struct slice pack)
{
    size_t offset = 0;
    TRY(pack_begin(pack, &offset));
    buf_clear(&t->marks);
    while (offset < pack.len) {
        struct row row;
        size_t begin = offset;
        TRY(row_decode(pack, &offset, slot->first_rev, &row));
        struct store_mark mark = {
            .print = (uint32_t)store_table_hash(t, row.rev, row.key),
            .bytes_dead = (uint32_t)(offset - begin) * 2,
        };
        buf_append(&t->marks, &mark, sizeof mark);
    }
    if (t->marks.len == 0) return ERR_CORRUPT;
    slot->row_count = (uint32_t)(t->marks.len / sizeof(struct store_mark));
    slot->marks = mem_copy(t->marks.at, t->marks.len);
    return OK;
}

static enum err load_marks(struct store_table *t, struct store_slot *slot)
{
    TRY(t->read(t->read_ctx, slot, &t->pack));
    return make_marks(t, slot, buf_slice(&t->pack));
}

enum err store_table_marks(struct store_table *t, size_t at, struct slice pack, size_t *made)
{
    struct store_slot *slot = &t->slots[at];
    *made = 0;
    if (slot->marks != NULL || store_slot_all_dead(slot)) return OK;
    TRY(make_marks(t, slot, pack));
    *made = slot->row_count;
    return OK;
}

void store_table_unmark(struct store_table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        struct store_slot *slot = &t->slots[i];
        if (slot->marks == NULL || slot->dead_count != 0) continue;
        mem_free(slot->marks);
        slot->marks = NULL;
    }
}

static size_t count_print(const struct store_slot *slot, uint32_t print)
{
    size_t count = 0;
    for (size_t i = 0; i < slot->row_count; i++) count += slot->marks[i].print == print;
    return count;
}

/* Is row `index` of the pack the one of this hash? */
static enum err verify(struct store_table *t, const struct store_slot *slot, size_t index,
                       uint64_t rev, uint64_t hash, bool *same)
{
    size_t offset = 0;
    TRY(read_pack(t, slot, &offset));
    struct row row = { 0 };
    for (size_t i = 0; i <= index; i++) {
        TRY(row_decode(buf_slice(&t->pack), &offset, slot->first_rev, &row));
    }
    *same = row.rev == rev && store_table_hash(t, row.rev, row.key) == hash;
    return OK;
}

bool store_table_queue_empty(const struct store_table *t)
{
    return t->queue_at == t->queue.len;
}

static void queue_clear(struct store_table *t)
{
    if (t->queue.cap > QUEUE_KEPT_BYTES_MAX) buf_deinit(&t->queue);
    buf_clear(&t->queue);
    t->queue_at = 0;
}

static void enqueue(struct store_table *t, struct store_slot *slot)
{
    if (slot->queued) return;
    if (store_table_queue_empty(t)) queue_clear(t); /* so that all of it is sorted: I5 of store.h */
    slot->queued = true;
    struct store_place place = { slot->first_rev, slot->first_n };
    buf_append(&t->queue, &place, sizeof place);
}

static void kill_row(struct store_table *t, struct store_slot *slot, size_t index)
{
    struct store_mark *mark = &slot->marks[index];
    ASSERT(!mark_dead(*mark));
    slot->dead_bytes += mark->bytes_dead / 2;
    t->dead_bytes += mark->bytes_dead / 2;
    mark->bytes_dead |= 1;
    slot->dead_count++;
    ASSERT(slot->dead_bytes < slot->bytes);
    if (store_slot_all_dead(slot)) {
        mem_free(slot->marks);
        slot->marks = NULL;
    }
    if (store_slot_worth(slot)) enqueue(t, slot);
}

/* Looks in one pack. *done: found, dead now or before. */
static enum err kill_in(struct store_table *t, struct store_slot *slot, uint64_t rev, uint64_t hash,
                        bool trusted, bool *done)
{
    if (store_slot_all_dead(slot)) return OK;
    if (slot->marks == NULL) TRY(load_marks(t, slot));
    for (size_t i = 0; i < slot->row_count; i++) {
        if (slot->marks[i].print != (uint32_t)hash) continue;
        if (mark_dead(slot->marks[i])) continue;
        bool alone = MUTANT(EQUAL_PRINTS) || count_print(slot, (uint32_t)hash) == 1;
        if (!trusted || !alone) {
            bool same = false;
            TRY(verify(t, slot, i, rev, hash, &same));
            if (!same) continue;
        }
        kill_row(t, slot, i);
        *done = true;
        return OK;
    }
    return OK;
}

enum err store_table_kill(struct store_table *t, uint64_t rev, uint64_t hash, bool certain)
{
    ASSERT(t->read != NULL);
    size_t at = store_table_floor(t, rev, 1);
    if (at == STORE_SLOT_NONE) at = store_table_next(t, STORE_SLOT_NONE);
    if (at == STORE_SLOT_NONE) return OK;
    size_t second = store_table_next(t, at);
    bool single = second == STORE_SLOT_NONE || t->slots[second].first_rev > rev;
    bool done = false;
    for (; at != STORE_SLOT_NONE && !done; at = store_table_next(t, at)) {
        if (t->slots[at].first_rev > rev) break;
        TRY(kill_in(t, &t->slots[at], rev, hash, certain && single, &done));
    }
    if (t->pack.cap > PACK_KEPT_BYTES_MAX) buf_deinit(&t->pack);
    return OK;
}

/* --- queue ----------------------------------------------------------------- */

void store_table_enqueue_file(struct store_table *t, uint32_t file)
{
    ASSERT(store_table_queue_empty(t) && file != 0);
    for (size_t i = 0; i < t->count; i++) {
        if (!t->slots[i].gone && t->slots[i].file == file) enqueue(t, &t->slots[i]);
    }
}

static int place_order(const void *a, const void *b)
{
    const struct store_place *x = a;
    const struct store_place *y = b;
    if (x->rev != y->rev) return x->rev < y->rev ? -1 : 1;
    return x->n < y->n ? -1 : x->n > y->n;
}

/* Oldest first: victims are older than what killed them. */
static void queue_sort(struct store_table *t)
{
    size_t count = t->queue.len / sizeof(struct store_place);
    if (count > 1) qsort(t->queue.at, count, sizeof(struct store_place), place_order);
}

size_t store_table_queue_next(struct store_table *t)
{
    if (t->queue_at == 0) queue_sort(t);
    while (!store_table_queue_empty(t)) {
        struct store_place place;
        memcpy(&place, t->queue.at + t->queue_at, sizeof place);
        t->queue_at += sizeof place;
        size_t at = store_table_floor(t, place.rev, place.n);
        if (at == STORE_SLOT_NONE || !t->slots[at].queued) continue;
        if (t->slots[at].first_rev == place.rev && t->slots[at].first_n == place.n) return at;
    }
    queue_clear(t);
    return STORE_SLOT_NONE;
}

/* --- changing -------------------------------------------------------------- */

void store_table_remove(struct store_table *t, size_t at)
{
    struct store_slot *slot = &t->slots[at];
    ASSERT(!slot->gone);
    t->bytes -= slot->bytes;
    t->sum -= store_pack_sum(slot->first_rev, slot->first_n, slot->bytes);
    t->dead_bytes -= slot->dead_bytes;
    mem_free(slot->marks);
    slot->marks = NULL;
    slot->gone = true;
    t->gone_count++;
}

void store_table_replace(struct store_table *t, size_t first, size_t last,
                         const struct store_slot *fresh, size_t fresh_count)
{
    size_t room = last - first + 1;
    for (size_t i = first; i <= last; i++) ASSERT(t->slots[i].gone);
    if (fresh_count > room) {
        size_t more = fresh_count - room;
        for (size_t i = 0; i < more; i++) {
            grow(t);
            t->count++;
        }
        memmove(&t->slots[last + 1 + more], &t->slots[last + 1],
                (t->count - more - last - 1) * sizeof *t->slots);
        t->gone_count += more;
    }
    for (size_t i = 0; i < fresh_count; i++) {
        t->slots[first + i] = fresh[i];
        t->bytes += fresh[i].bytes;
        t->sum += store_pack_sum(fresh[i].first_rev, fresh[i].first_n, fresh[i].bytes);
        t->gone_count--;
    }
    if (fresh_count == 0) return;
    /* The rest stays gone, at a place that keeps the order; likewise what was gone behind it, when
     * the last pack begins later than before. */
    const struct store_slot *end = &fresh[fresh_count - 1];
    for (size_t i = first + fresh_count; i < t->count && t->slots[i].gone; i++) {
        bool before = place_before(&t->slots[i], end->first_rev, end->first_n);
        if (i > last && !before) break;
        t->slots[i].first_rev = end->first_rev;
        t->slots[i].first_n = end->first_n;
    }
}

void store_table_squeeze(struct store_table *t)
{
    if (t->gone_count < SQUEEZE_COUNT_MIN || t->gone_count < t->count / 4) return;
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (!t->slots[i].gone) t->slots[kept++] = t->slots[i];
    }
    ASSERT(kept == t->count - t->gone_count);
    t->count = kept;
    t->gone_count = 0;
    if (t->cap / 4 <= MAX(kept, (size_t)SQUEEZE_COUNT_MIN)) return;
    t->cap = 2 * MAX(kept, (size_t)SQUEEZE_COUNT_MIN); /* the history was longer once */
    t->slots = mem_realloc(t->slots, t->cap * sizeof *t->slots);
}

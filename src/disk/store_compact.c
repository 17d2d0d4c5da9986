/* disk/store_compact.c - physical compaction: which rows died, and giving their room back.
 *
 * A pass moves the floor from F to T (F < T <= compacted_rev of a durable batch), when that is worth
 * it (STORE_PASS_PART):
 *   1. scan the rows of [F, T] in order. A row above F makes the row dead that it replaced (prev);
 *      a tombstone below T is dead itself. One at T stays: a watch may begin there.
 *   2. oldest first, delete packs that are all dead, write anew (with small neighbours) those that
 *      have a dead row; a bounded number in each synced write to rows/. If they are many, the new
 *      packs go to a file of packs first. A synced write to meta/ comes before that to rows/, with
 *      the marker that allows it; the first also raises the floor record.
 *   3. write anew, into rows/, what is left in a file of packs that is less than half live. A file
 *      goes when nothing in it is live.
 *   4. ask LevelDB to compact the range, in slices, when its files are much larger than its packs.
 * Only steps 2 and 3 are on disk. A crash loses the table; the next load finds again what is dead at or
 * below compacted_rev (store_note_dead), which is at least what the pass would have removed.
 */
#include "disk/store_int.h"

#include <inttypes.h>

#include "disk/store_process.h"

/* --- which rows are dead --------------------------------------------------- */

static void kill(struct store *s, uint64_t rev, uint64_t hash, bool certain)
{
    enum err e = store_table_kill(&s->table, rev, hash, certain);
    if (e == OK) return;
    store_fatal(s, "compaction: cannot read the packs of revision %" PRIu64 ": %s", rev,
                s->read_em.text);
}

static void kill_pending(struct store *s)
{
    struct store_compactor *c = &s->compactor;
    for (size_t i = 0; i < STORE_SLICE_KILLS && c->pending_at < c->pending.len; i++) {
        struct store_pending pending;
        memcpy(&pending, c->pending.at + c->pending_at, sizeof pending);
        c->pending_at += sizeof pending;
        kill(s, pending.rev, pending.hash, true);
    }
    if (c->pending_at < c->pending.len) return;
    buf_deinit(&c->pending);
    c->pending_at = 0;
}

/* A row that begins a life (create = rev) replaces nothing, or a tombstone, which may be gone, or
 * (deleted and put again in one transaction) a put. */
static void scan_row(struct store *s, const struct row *row)
{
    const struct store_compactor *c = &s->compactor;
    bool tombstone = row->op != ROW_PUT;
    if (row->rev > c->floor_rev && row->prev != 0) {
        bool certain = tombstone || row->create != row->rev;
        kill(s, row->prev, store_table_hash(&s->table, row->prev, row->key), certain);
    }
    if (tombstone && row->rev < c->target_rev) {
        kill(s, row->rev, store_table_hash(&s->table, row->rev, row->key), true);
    }
}

/* Scans a pack from the cursor on. False when the rows reached the target. */
static bool scan_pack(struct store *s, uint64_t first_rev, struct slice pack)
{
    struct store_compactor *c = &s->compactor;
    size_t offset = 0;
    enum err e = pack_begin(pack, &offset);
    while (e == OK && offset < pack.len) {
        struct row row;
        e = row_decode(pack, &offset, first_rev, &row);
        if (e != OK) break;
        if (row.rev > c->target_rev) return false;
        if (row.rev < c->cursor_rev || (row.rev == c->cursor_rev && row.n < c->cursor_n)) continue;
        scan_row(s, &row);
        c->cursor_rev = row.rev;
        c->cursor_n = row.n + 1;
    }
    if (e != OK) store_fatal(s, "pack of revision %" PRIu64 " is damaged", first_rev);
    return true;
}

static _Noreturn void unreadable(struct store *s, uint64_t rev)
{
    store_fatal(s, "compaction: cannot read the pack of revision %" PRIu64 ": %s", rev,
                s->read_em.text);
}

/* Most rows die within a pass of their birth: what kills them finds their marks. */
static void mark_scanned(struct store *s, size_t slot, struct slice pack)
{
    struct store_compactor *c = &s->compactor;
    size_t made = 0;
    if (c->scan_marks >= STORE_SCAN_MARKS_MAX) return;
    if (store_table_marks(&s->table, slot, pack, &made) != OK) {
        store_fatal(s, "pack of revision %" PRIu64 " is damaged", s->table.slots[slot].first_rev);
    }
    c->scan_marks += made;
}

static void end_scan(struct store *s)
{
    struct store_compactor *c = &s->compactor;
    c->scanning = false;
    c->scan_marks = 0;
    store_table_unmark(&s->table);
}

static void scan_slice(struct store *s)
{
    struct store_compactor *c = &s->compactor;
    CLEANUP(buf_deinit) struct buf pack = { 0 };
    size_t slot = store_table_floor(&s->table, c->cursor_rev, c->cursor_n);
    if (slot == STORE_SLOT_NONE) slot = store_table_next(&s->table, STORE_SLOT_NONE);
    uint64_t bytes = 0;
    for (; slot != STORE_SLOT_NONE && bytes < STORE_SLICE_BYTES;
         slot = store_table_next(&s->table, slot)) {
        const struct store_slot *at = &s->table.slots[slot];
        if (at->first_rev > c->target_rev) {
            slot = STORE_SLOT_NONE;
            break;
        }
        /* A pack at a time, nothing ahead: the log's syncs are in a hurry, this is not. */
        if (store_table_read_db(s, at, &pack) != OK) unreadable(s, at->first_rev);
        bytes += pack.len;
        mark_scanned(s, slot, buf_slice(&pack));
        if (!scan_pack(s, at->first_rev, buf_slice(&pack))) {
            slot = STORE_SLOT_NONE;
            break;
        }
    }
    if (slot == STORE_SLOT_NONE) {
        end_scan(s);
        return;
    }
    c->cursor_rev = s->table.slots[slot].first_rev;
    c->cursor_n = s->table.slots[slot].first_n;
}

/* --- delete and write anew -------------------------------------------------- */

/* One synced write to rows/ in the making, and one to a file of packs before it. */
struct rewrite {
    struct store *s;
    leveldb_writebatch_t *batch;
    uint64_t bytes;   /* read */
    uint64_t deletes;
    struct buf fresh; /* of struct store_slot: the new packs */
    struct buf packs; /* their bytes, one behind the other, and those of the one being filled */
    size_t pack_at;   /* where that begins */
    uint64_t base_rev;
    uint32_t base_n;
    struct buf old;   /* scratch: the pack that is read */
};

static void freed(struct store_compactor *c, uint64_t rev, uint64_t bytes)
{
    if (c->freed_bytes == 0) {
        c->freed_low_rev = rev;
        c->freed_high_rev = rev;
    }
    c->freed_low_rev = MIN(c->freed_low_rev, rev);
    c->freed_high_rev = MAX(c->freed_high_rev, rev);
    c->freed_bytes += bytes;
}

/* With the batch, out of the database. */
static void delete_key(struct rewrite *w, const struct store_slot *slot)
{
    struct store_pack_key key = store_pack_key(slot->first_rev, slot->first_n);
    leveldb_writebatch_delete(w->batch, (const char *)key.at, sizeof key.at);
    bool in_file = slot->file != 0;
    freed(&w->s->compactor, slot->first_rev, in_file ? STORE_REF_BYTES : slot->bytes);
    if (in_file) store_files_release(&w->s->files, slot->file, slot->bytes);
    w->deletes++;
}

static void flush_pack(struct rewrite *w)
{
    if (w->packs.len == w->pack_at) return;
    struct store_slot slot = {
        .first_rev = w->base_rev,
        .first_n = w->base_n,
        .bytes = (uint32_t)(w->packs.len - w->pack_at),
        .unwritten = true,
    };
    buf_append(&w->fresh, &slot, sizeof slot);
    w->pack_at = w->packs.len;
}

static void keep_row(struct rewrite *w, const struct row *row)
{
    size_t before = w->packs.len;
    if (before != w->pack_at) {
        row_encode(&w->packs, row, w->base_rev);
        if (w->packs.len - w->pack_at <= PACK_BYTES_MAX) return;
        w->packs.len = before;
        flush_pack(w);
    }
    w->base_rev = row->rev;
    w->base_n = row->n;
    buf_append_u8(&w->packs, PACK_FORMAT);
    row_encode(&w->packs, row, w->base_rev);
}

static enum err keep_live_rows(struct rewrite *w, const struct store_slot *slot)
{
    if (store_slot_all_dead(slot)) return OK;
    TRY(store_table_read_db(w->s, slot, &w->old));
    struct slice pack = buf_slice(&w->old);
    w->bytes += pack.len;
    size_t offset = 0;
    TRY(pack_begin(pack, &offset));
    for (size_t i = 0; offset < pack.len; i++) {
        struct row row;
        TRY(row_decode(pack, &offset, slot->first_rev, &row));
        ASSERT(slot->marks == NULL || i < slot->row_count);
        if (slot->marks != NULL && (slot->marks[i].bytes_dead & 1) != 0) continue;
        keep_row(w, &row);
    }
    return OK;
}

/* Does a neighbour go into the same run? If it is worth it by itself, or all fits in one pack; not
 * if it is in the batch only. */
static bool joins(const struct store_slot *slot, uint64_t live_bytes)
{
    if (slot->unwritten) return false;
    return store_slot_worth(slot) || live_bytes + store_slot_live_bytes(slot) <= PACK_BYTES_MAX;
}

/* Widens [*first, *last] around a slot that is worth it. */
static void find_run(const struct store_table *t, size_t *first, size_t *last)
{
    uint64_t live_bytes = store_slot_live_bytes(&t->slots[*first]);
    size_t packs = 1;
    for (; packs < STORE_RUN_PACKS_MAX; packs++) {
        size_t next = store_table_next(t, *last);
        if (next == STORE_SLOT_NONE || !joins(&t->slots[next], live_bytes)) break;
        live_bytes += store_slot_live_bytes(&t->slots[next]);
        *last = next;
    }
    for (; packs < STORE_RUN_PACKS_MAX; packs++) {
        size_t prev = store_table_prev(t, *first);
        if (prev == STORE_SLOT_NONE || !joins(&t->slots[prev], live_bytes)) break;
        live_bytes += store_slot_live_bytes(&t->slots[prev]);
        *first = prev;
    }
}

static void rewrite_run(struct rewrite *w, size_t slot)
{
    struct store_table *t = &w->s->table;
    size_t first = slot;
    size_t last = slot;
    find_run(t, &first, &last);
    /* Deletions go first: a new pack may have the key of an old one. */
    for (size_t at = first; at != STORE_SLOT_NONE && at <= last; at = store_table_next(t, at)) {
        delete_key(w, &t->slots[at]);
        STORE_STAT_ADD(w->s, packs_rewritten, 1);
    }
    size_t fresh_from = w->fresh.len;
    for (size_t at = first; at != STORE_SLOT_NONE && at <= last; at = store_table_next(t, at)) {
        uint64_t rev = t->slots[at].first_rev;
        if (keep_live_rows(w, &t->slots[at]) != OK) unreadable(w->s, rev);
    }
    flush_pack(w);
    for (size_t at = first; at != STORE_SLOT_NONE && at <= last; at = store_table_next(t, at)) {
        store_table_remove(t, at);
    }
    const void *fresh = w->fresh.at + fresh_from;
    size_t fresh_count = (w->fresh.len - fresh_from) / sizeof(struct store_slot);
    store_table_replace(t, first, last, fresh, fresh_count);
}

/* Where the new packs go: to a file if they are many, but not from one file to the next what seldom
 * changes. */
static void place_fresh(struct rewrite *w)
{
    struct store *s = w->s;
    CLEANUP(buf_deinit) struct buf collected = { 0 };
    struct store_slot slot;
    size_t offset = 0;
    for (size_t at = 0; at < w->fresh.len; at += sizeof slot) {
        memcpy(&slot, w->fresh.at + at, sizeof slot);
        struct store_file_pack pack = { .pack = { w->packs.at + offset, slot.bytes } };
        buf_append(&collected, &pack, sizeof pack);
        offset += slot.bytes;
    }
    struct store_file_pack *packs = (struct store_file_pack *)(void *)collected.at;
    size_t count = collected.len / sizeof *packs;
    bool to_file = !s->compactor.emptying && w->packs.len >= s->options.file_batch_bytes;
    if (to_file) store_write_file(s, packs, count);
    for (size_t i = 0; i < count; i++) {
        memcpy(&slot, w->fresh.at + i * sizeof slot, sizeof slot);
        store_slot_place(&slot, &packs[i].ref);
        memcpy(w->fresh.at + i * sizeof slot, &slot, sizeof slot);
        store_pack_add(w->batch, slot.first_rev, slot.first_n, &packs[i]);
    }
}

/* They can be read from now on. */
static void fresh_written(struct rewrite *w)
{
    struct store_slot slot;
    for (size_t at = 0; at < w->fresh.len; at += sizeof slot) {
        memcpy(&slot, w->fresh.at + at, sizeof slot);
        size_t found = store_table_floor(&w->s->table, slot.first_rev, slot.first_n);
        ASSERT(found != STORE_SLOT_NONE && w->s->table.slots[found].unwritten);
        struct store_ref ref = store_slot_ref(&slot);
        store_slot_place(&w->s->table.slots[found], &ref);
        w->s->table.slots[found].unwritten = false;
    }
}

/* What rows/ is about to become, and the floor. */
static void announce(struct rewrite *w, uint64_t sum_before)
{
    struct store *s = w->s;
    struct store_compactor *c = &s->compactor;
    struct store_marker next = store_marker_after(&s->marker);
    struct store_slot slot;
    next.pack_sum = s->table.sum;
    next.pack_sum_before = sum_before;
    /* The newest pack may begin later than it did, when its first rows are dead. */
    for (size_t at = 0; at < w->fresh.len; at += sizeof slot) {
        memcpy(&slot, w->fresh.at + at, sizeof slot);
        if (!store_marker_is_behind(&next, slot.first_rev, slot.first_n)) continue;
        next.last_rev = slot.first_rev;
        next.last_n = slot.first_n;
    }
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    if (c->disk_floor_rev < c->target_rev) {
        store_floor_add(batch, c->target_rev);
        c->disk_floor_rev = c->target_rev;
    }
    store_write_meta(s, batch, &next);
    leveldb_writebatch_destroy(batch);
}

static void rewrite_slice(struct store *s)
{
    struct rewrite w = { .s = s, .batch = leveldb_writebatch_create() };
    uint64_t sum_before = s->table.sum;
    while (w.bytes < STORE_REWRITE_BYTES && w.deletes < STORE_SLICE_DELETES) {
        size_t slot = store_table_queue_next(&s->table);
        if (slot == STORE_SLOT_NONE) break;
        if (store_slot_all_dead(&s->table.slots[slot])) {
            delete_key(&w, &s->table.slots[slot]);
            store_table_remove(&s->table, slot);
            STORE_STAT_ADD(s, packs_deleted, 1);
        } else {
            rewrite_run(&w, slot);
        }
    }
    if (w.deletes != 0) {
        place_fresh(&w);
        announce(&w, sum_before);
        if (MUTANT(PACK_FILE_DROPPED_EARLY)) store_drop_files(s);
        store_write_rows(s, w.batch);
        fresh_written(&w);
        store_drop_files(s);
    }
    leveldb_writebatch_destroy(w.batch);
    buf_deinit(&w.fresh);
    buf_deinit(&w.packs);
    buf_deinit(&w.old);
    if (store_table_queue_empty(&s->table)) s->compactor.emptying = false;
    store_table_squeeze(&s->table);
}

/* --- disk space ------------------------------------------------------------ */

#define RECORD_BYTES 64u /* of a reference or of what LevelDB adds to a pack, about */

static bool reclaim_is_due(struct store *s)
{
    const struct store_compactor *c = &s->compactor;
    if (c->freed_bytes < STORE_RECLAIM_FREED_BYTES_MIN) return false;
    uint64_t bytes = s->table.bytes - s->files.live_bytes +
                     (s->table.count - s->table.gone_count) * RECORD_BYTES;
    uint64_t buffer_bytes = s->options.write_buffer_bytes;
    uint64_t bound = bytes + bytes / 2 + buffer_bytes + buffer_bytes / 2;
    store_check_files(s, true);
    return s->rows_bytes > bound;
}

static uint64_t range_bytes(const struct store *s, uint64_t from_rev, uint64_t to_rev)
{
    struct store_pack_key from = store_pack_key(from_rev, 0);
    struct store_pack_key to = store_pack_key(to_rev, 0);
    const char *from_at = (const char *)from.at;
    const char *to_at = (const char *)to.at;
    size_t len = STORE_PACK_KEY_BYTES;
    uint64_t bytes = 0;
    leveldb_approximate_sizes(s->rows.db, 1, &from_at, &len, &to_at, &len, &bytes);
    return bytes;
}

/* Compacts the next part of the range whose files have about STORE_RECLAIM_SLICE_BYTES. LevelDB's
 * thread does it; this one waits, so that batches and slices alternate and level 0 stays short. */
static void reclaim_slice(struct store *s)
{
    struct store_compactor *c = &s->compactor;
    uint64_t low = c->reclaim_rev;
    uint64_t to = c->reclaim_end_rev;
    if (range_bytes(s, low, to) > STORE_RECLAIM_SLICE_BYTES) {
        uint64_t small = low + 1;
        while (to - small > 1) {
            uint64_t middle = small + (to - small) / 2;
            if (range_bytes(s, low, middle) > STORE_RECLAIM_SLICE_BYTES) {
                to = middle;
            } else {
                small = middle;
            }
        }
        to = small;
    }
    struct store_pack_key from = store_pack_key(low, 0);
    struct store_pack_key end = store_pack_key(to, 0);
    leveldb_compact_range(s->rows.db, (const char *)from.at, sizeof from.at, (const char *)end.at,
                          sizeof end.at);
    c->reclaim_rev = to;
    store_check_files(s, true);
    if (to < c->reclaim_end_rev) return;
    c->reclaiming = false;
}

/* --- steps ------------------------------------------------------------------ */

/* Under load room may be given back later. */
static bool room_can_wait(const struct store *s)
{
    const struct store_compactor *c = &s->compactor;
    return !s->options.manual && !c->idle && s->table.bytes > STORE_PASS_SMALL_BYTES;
}

static bool pass_is_due(const struct store *s, uint64_t target)
{
    const struct store_compactor *c = &s->compactor;
    if (!room_can_wait(s)) return true;
    uint64_t there = MAX(s->marker.last_rev, target) - c->floor_rev;
    return target - c->floor_rev >= there / STORE_PASS_PART;
}

static bool begin_pass(struct store *s)
{
    struct store_compactor *c = &s->compactor;
    uint64_t allowed = __atomic_load_n(&s->allowed_rev, __ATOMIC_SEQ_CST);
    uint64_t target = MIN(allowed, s->marker.compacted_rev);
    if (target <= c->floor_rev || !pass_is_due(s, target)) return false;
    c->target_rev = target;
    c->scanning = true;
    c->cursor_rev = c->floor_rev;
    c->cursor_n = 0;
    return true;
}

static bool empty_sparse_file(struct store *s)
{
    uint32_t file = store_files_sparse(&s->files, room_can_wait(s));
    if (file == 0) return false;
    store_table_enqueue_file(&s->table, file);
    s->compactor.emptying = !store_table_queue_empty(&s->table);
    return s->compactor.emptying;
}

static bool begin_reclaim(struct store *s)
{
    struct store_compactor *c = &s->compactor;
    if (!reclaim_is_due(s)) return false;
    c->reclaiming = true;
    c->reclaim_rev = c->freed_low_rev;
    c->reclaim_end_rev = c->freed_high_rev + 1;
    c->freed_bytes = 0;
    return true;
}

bool store_compact_step(struct store *s)
{
    struct store_compactor *c = &s->compactor;
    bool more = true;
    if (c->pending.len != 0) {
        kill_pending(s);
    } else if (c->scanning) {
        scan_slice(s);
    } else if (!store_table_queue_empty(&s->table)) {
        rewrite_slice(s);
    } else if (empty_sparse_file(s)) {
        rewrite_slice(s);
    } else if (c->floor_rev != c->target_rev) {
        c->floor_rev = c->target_rev;
        store_check_files(s, true);
    } else if (c->reclaiming) {
        reclaim_slice(s);
    } else {
        more = begin_pass(s) || begin_reclaim(s);
    }
    bool passing = c->pending.len != 0 || c->scanning || !store_table_queue_empty(&s->table);
    if (!passing) STORE_STAT_SET(s, floor_rev, c->target_rev);
    STORE_STAT_SET(s, compacting, more);
    STORE_STAT_SET(s, pack_count, (uint64_t)(s->table.count - s->table.gone_count));
    STORE_STAT_SET(s, pack_bytes, s->table.bytes);
    STORE_STAT_SET(s, dead_bytes, s->table.dead_bytes);
    return more;
}

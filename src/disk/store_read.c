/* disk/store_read.c - reading history on a worker: events of a span, one version, one key's rows.
 *
 * A read sees the union of rows/, with the files that it names, as of one snapshot and the packs
 * that the caller passed. Those are the newest, without a gap; so rows before the first of them
 * come from the disk, the others from memory, and no row comes twice. The floor and the compacted
 * revision are read after the snapshot was taken, so they are not behind what is gone from it. A row
 * that is missing below that compacted revision was compacted (or never came along in a snapshot);
 * above, it is damage.
 */
#include <inttypes.h>

#include "disk/store.h"
#include "disk/store_int.h"

enum { ITEM_FOUND = 1, ITEM_PREV_SHIFT = 1 };

struct reader {
    struct store *s;
    struct store_read *r;
    struct store_rows_view view;
    leveldb_readoptions_t *options;
    leveldb_iterator_t *points; /* for single rows; made when first needed */
    uint64_t floor_rev;     /* as of the snapshot or newer: a read from below it is refused */
    uint64_t compacted_rev; /* likewise: a row below it may be missing */
    /* The pack that `points` stands on; last_rev < first_rev: none. */
    uint64_t first_rev;
    uint64_t last_rev;
    struct slice pack;
    struct buf pack_bytes; /* of `pack`, if it is in a file */
};

/* --- requests and results -------------------------------------------------- */

static void read_run(struct work *w);

struct store_read *store_read_new(enum store_read_kind kind, uint64_t cookie)
{
    struct store_read *r = mem_zalloc(sizeof *r);
    r->work.run = read_run;
    r->kind = kind;
    r->cookie = cookie;
    return r;
}

void store_read_free(struct store_read *r)
{
    if (r == NULL) return;
    buf_deinit(&r->keys);
    buf_deinit(&r->items);
    mem_free(r->queries);
    mem_free(r->packs);
    mem_free(r);
}

void store_read_range(struct store_read *r, struct slice start, struct slice end)
{
    ASSERT(r->keys.len == 0);
    buf_append_slice(&r->keys, start);
    buf_append_slice(&r->keys, end);
    r->start_len = start.len;
    r->end_len = end.len;
}

/* Room for one more in an array that grows by doubling: capacity is the next power of two. */
static void *grow_one(void *array, size_t count, size_t bytes)
{
    if ((count & (count - 1)) != 0) return array;
    return mem_realloc(array, (count == 0 ? 1 : count * 2) * bytes);
}

void store_read_query(struct store_read *r, struct slice key, uint64_t rev, uint64_t jump)
{
    r->queries = grow_one(r->queries, r->query_count, sizeof *r->queries);
    r->queries[r->query_count++] = (struct store_query){ r->keys.len, key.len, rev, jump };
    buf_append_slice(&r->keys, key);
}

void store_read_pack(struct store_read *r, uint64_t first_rev, uint32_t first_n, struct slice pack)
{
    r->packs = grow_one(r->packs, r->pack_count, sizeof *r->packs);
    r->packs[r->pack_count++] = (struct store_pack_ref){ first_rev, first_n, pack };
}

void store_read(struct store *s, struct store_read *r)
{
    ASSERT(s->phase == STORE_STARTED);
    ASSERT(s->options.workers != NULL);
    ASSERT(r->kind != STORE_READ_HISTORY || r->query_count == 1);
    r->store = s;
    r->work.done = &s->done;
    s->reads_out++;
    workers_submit(s->options.workers, &r->work);
}

static void put_item(struct store_read *r, const struct row *row, enum store_prev prev_state,
                     const struct row *prev)
{
    unsigned head = row != NULL ? ITEM_FOUND : 0;
    buf_append_u8(&r->items, (uint8_t)(head | (unsigned)prev_state << ITEM_PREV_SHIFT));
    if (row != NULL) row_encode(&r->items, row, 0);
    if (prev_state == STORE_PREV_FOUND) row_encode(&r->items, prev, 0);
    r->item_count++;
}

bool store_read_next(const struct store_read *r, size_t *pos, struct store_item *out)
{
    struct slice items = buf_slice(&r->items);
    if (*pos >= items.len) return false;
    unsigned head = items.at[*pos];
    size_t at = *pos + 1;
    struct store_item item = { .found = (head & ITEM_FOUND) != 0 };
    item.prev_state = (enum store_prev)(head >> ITEM_PREV_SHIFT);
    enum err e = OK;
    if (item.found) e = row_decode(items, &at, 0, &item.row);
    ASSERT(e == OK);
    if (item.prev_state == STORE_PREV_FOUND) e = row_decode(items, &at, 0, &item.prev);
    ASSERT(e == OK);
    *pos = at;
    *out = item;
    return true;
}

/* --- packs ------------------------------------------------------------------ */

_Noreturn static void pack_damaged(const struct reader *rd, uint64_t rev)
{
    store_fatal(rd->s, "read of history: the pack of revision %" PRIu64 " is damaged", rev);
}

_Noreturn static void points_ahead(const struct reader *rd, uint64_t rev)
{
    store_fatal(rd->s, "read of history: the row of revision %" PRIu64 " points ahead", rev);
}

/* The pack where the iterator stands; borrows from it or from `scratch`. */
static struct slice pack_at(const struct reader *rd, const leveldb_iterator_t *it,
                            struct buf *scratch)
{
    struct errmsg em;
    struct slice value = store_db_iter_value(it);
    struct slice pack = { 0 };
    if (store_files_pack(&rd->s->files, rd->view.set, value, scratch, &pack, &em) != OK) {
        store_fatal(rd->s, "read of history failed: %s", em.text);
    }
    return pack;
}

static void check_iter(const struct reader *rd, const leveldb_iterator_t *it)
{
    struct errmsg em;
    if (store_db_iter_error(it, &em) == OK) return;
    store_fatal(rd->s, "read of history failed: %s", em.text);
}

/* Stands the iterator on the last pack whose first row is at or before (rev, n); false if there is
 * none, and then it stands on the first pack, if any, or behind all. */
static bool seek_floor(const struct reader *rd, leveldb_iterator_t *it, uint64_t rev, uint32_t n)
{
    struct store_pack_key key = store_pack_key(rev, n);
    uint64_t at_rev = 0;
    uint32_t at_n = 0;
    leveldb_iter_seek(it, (const char *)key.at, sizeof key.at);
    check_iter(rd, it);
    if (!leveldb_iter_valid(it)) {
        leveldb_iter_seek_to_last(it);
    } else if (slice_eq(store_db_iter_key(it), (struct slice){ key.at, sizeof key.at })) {
        return true;
    } else {
        leveldb_iter_prev(it);
    }
    check_iter(rd, it);
    if (leveldb_iter_valid(it) && store_pack_key_read(store_db_iter_key(it), &at_rev, &at_n)) {
        return true;
    }
    leveldb_iter_seek_to_first(it);
    check_iter(rd, it);
    return false;
}

/* Searches one pack for the row of a key at a revision. *last_rev: of its last row looked at. */
static bool find_in_pack(const struct reader *rd, struct slice pack, uint64_t first_rev,
                         uint64_t rev, struct slice key, struct row *out, uint64_t *last_rev)
{
    size_t offset = 0;
    if (pack_begin(pack, &offset) != OK) pack_damaged(rd, first_rev);
    while (offset < pack.len) {
        struct row row;
        if (row_decode(pack, &offset, first_rev, &row) != OK) pack_damaged(rd, first_rev);
        *last_rev = row.rev;
        if (row.rev > rev) return false;
        if (row.rev != rev || !slice_eq(row.key, key)) continue;
        *out = row;
        return true;
    }
    return false;
}

static bool find_in_memory(const struct reader *rd, uint64_t rev, struct slice key, struct row *out)
{
    const struct store_read *r = rd->r;
    size_t low = 0;
    size_t high = r->pack_count; /* first pack that begins behind rev */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->packs[middle].first_rev > rev) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    for (size_t i = high; i > 0; i--) {
        const struct store_pack_ref *ref = &r->packs[i - 1];
        uint64_t last_rev = 0;
        if (find_in_pack(rd, ref->pack, ref->first_rev, rev, key, out, &last_rev)) return true;
        if (ref->first_rev < rev) return false;
    }
    return false;
}

/* The row of a key at a revision, in LevelDB. Borrows until the next call. */
static bool find_in_db(struct reader *rd, uint64_t rev, struct slice key, struct row *out)
{
    if (rd->points == NULL) rd->points = leveldb_create_iterator(rd->s->rows.db, rd->options);
    if (rd->first_rev <= rev && rev <= rd->last_rev) {
        uint64_t last_rev = 0;
        if (find_in_pack(rd, rd->pack, rd->first_rev, rev, key, out, &last_rev)) return true;
    }
    rd->first_rev = 1;
    rd->last_rev = 0;
    if (!seek_floor(rd, rd->points, rev, UINT32_MAX)) return false;
    /* A revision may begin in an earlier pack than its last one. */
    for (;;) {
        uint64_t first_rev = 0;
        uint32_t first_n = 0;
        struct slice at = store_db_iter_key(rd->points);
        if (!store_pack_key_read(at, &first_rev, &first_n)) return false;
        uint64_t last_rev = 0;
        struct slice pack = pack_at(rd, rd->points, &rd->pack_bytes);
        if (find_in_pack(rd, pack, first_rev, rev, key, out, &last_rev)) {
            rd->pack = pack;
            rd->first_rev = first_rev;
            rd->last_rev = rev; /* known to reach so far */
            return true;
        }
        if (first_rev < rev) return false;
        leveldb_iter_prev(rd->points);
        check_iter(rd, rd->points);
        if (!leveldb_iter_valid(rd->points)) return false;
    }
}

static bool find_row(struct reader *rd, uint64_t rev, struct slice key, struct row *out)
{
    return find_in_memory(rd, rev, key, out) || find_in_db(rd, rev, key, out);
}

/* A row that another one points to: there, or compacted. */
static bool follow(struct reader *rd, uint64_t rev, struct slice key, struct row *out)
{
    if (rev == 0) return false;
    if (find_row(rd, rev, key, out)) return true;
    if (rev < rd->compacted_rev) return false;
    store_fatal(rd->s, "read of history: the row of revision %" PRIu64 " is missing", rev);
}

static bool is_full(const struct store_read *r)
{
    if (r->events_max != 0 && r->item_count >= r->events_max) return true;
    return r->bytes_max != 0 && r->items.len >= r->bytes_max;
}

/* --- versions --------------------------------------------------------------- */

/* The newest row of the key at or before at_rev, from the row at `rev` back. */
static bool find_version(struct reader *rd, struct slice key, uint64_t rev, uint64_t jump,
                         uint64_t at_rev, struct row *out)
{
    if (rev > at_rev && jump > at_rev && jump < rev) rev = jump;
    while (follow(rd, rev, key, out)) {
        if (out->rev <= at_rev) return true;
        uint64_t next = out->jump > at_rev ? out->jump : out->prev;
        if (next >= rev) points_ahead(rd, rev);
        rev = next;
    }
    return false;
}

static void read_versions(struct reader *rd)
{
    struct store_read *r = rd->r;
    for (size_t i = 0; i < r->query_count && !is_full(r); i++) {
        const struct store_query *q = &r->queries[i];
        struct row row;
        struct slice key = { r->keys.at + q->key_at, q->key_len };
        bool found = find_version(rd, key, q->rev, q->jump, r->at_rev, &row);
        put_item(r, found ? &row : NULL, STORE_PREV_NOT_ASKED, NULL);
    }
    r->next_rev = r->at_rev;
}

/* --- one key's history -------------------------------------------------------- */

static void push_rev(struct buf *revs, uint64_t rev) { buf_append_u64(revs, rev); }

static uint64_t pop_rev(struct buf *revs)
{
    revs->len -= sizeof(uint64_t);
    return u64_le(revs->at + revs->len);
}

/* Adds the rows from `newest` back to those above `above`, oldest first. */
static bool put_segment(struct reader *rd, struct slice key, uint64_t newest, uint64_t above,
                        struct buf *scratch)
{
    struct store_read *r = rd->r;
    struct row row;
    buf_clear(scratch);
    for (uint64_t rev = newest; rev > above && follow(rd, rev, key, &row); rev = row.prev) {
        if (row.prev >= rev) points_ahead(rd, rev);
        push_rev(scratch, rev);
    }
    while (scratch->len != 0) {
        uint64_t rev = pop_rev(scratch);
        if (is_full(r)) {
            r->next_rev = rev;
            return false;
        }
        if (!find_row(rd, rev, key, &row)) pack_damaged(rd, rev);
        put_item(r, &row, STORE_PREV_NOT_ASKED, NULL);
    }
    return true;
}

/* Jumps back to from_rev, remembering the places; then walks each stretch between them, the oldest
 * first, so that a limit does not cost the whole history. */
static void read_history(struct reader *rd)
{
    struct store_read *r = rd->r;
    const struct store_query *q = &r->queries[0];
    struct slice key = { r->keys.at + q->key_at, q->key_len };
    CLEANUP(buf_deinit) struct buf places = { 0 };
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    struct row row;
    r->next_rev = r->to_rev + 1;
    if (!find_version(rd, key, q->rev, q->jump, r->to_rev, &row)) return;
    for (;;) {
        if (row.rev < r->from_rev) break;
        push_rev(&places, row.rev);
        if (row.jump < r->from_rev || row.jump >= row.rev) break;
        if (!follow(rd, row.jump, key, &row)) break;
    }
    uint64_t above = r->from_rev == 0 ? 0 : r->from_rev - 1;
    while (places.len != 0) {
        uint64_t newest = pop_rev(&places);
        if (!put_segment(rd, key, newest, above, &scratch)) return;
        above = newest;
    }
}

/* --- events -------------------------------------------------------------------- */

/* Where a span is being read. */
struct span {
    struct slice start;
    struct slice end;
    uint64_t rev;       /* of the newest row seen */
    uint64_t bytes;     /* of packs read */
};

static bool wanted(const struct store_read *r, const struct span *span, const struct row *row)
{
    bool put = row->op == ROW_PUT;
    if (put ? r->no_put : r->no_del) return false;
    if (slice_cmp(row->key, span->start) < 0) return false;
    return span->end.len == 0 || slice_cmp(row->key, span->end) < 0;
}

static void put_event(struct reader *rd, const struct row *row)
{
    struct row prev;
    enum store_prev state = STORE_PREV_NOT_ASKED;
    if (rd->r->with_prev) {
        state = STORE_PREV_NONE;
        if (row->prev != 0 && follow(rd, row->prev, row->key, &prev)) {
            if (prev.op == ROW_PUT) state = STORE_PREV_FOUND;
        } else if (row->prev != 0 && (row->op != ROW_PUT || row->create != row->rev)) {
            state = STORE_PREV_COMPACTED;
        }
    }
    put_item(rd->r, row, state, &prev);
}

/* Takes the rows of one pack that are in the span and before (end_rev, end_n). False: the read is
 * complete or full. */
static bool span_pack(struct reader *rd, struct span *span, uint64_t first_rev, struct slice pack,
                      uint64_t end_rev, uint32_t end_n)
{
    struct store_read *r = rd->r;
    size_t offset = 0;
    if (pack_begin(pack, &offset) != OK) pack_damaged(rd, first_rev);
    while (offset < pack.len) {
        struct row row;
        if (row_decode(pack, &offset, first_rev, &row) != OK) pack_damaged(rd, first_rev);
        if (row.rev < r->from_rev) continue;
        if (row.rev > r->to_rev) return false;
        if (row.rev > end_rev || (row.rev == end_rev && row.n >= end_n)) break;
        if (row.rev != span->rev) {
            bool enough = r->scan_bytes_max != 0 && span->bytes >= r->scan_bytes_max;
            if (span->rev != 0 && (enough || is_full(r))) {
                r->next_rev = row.rev;
                return false;
            }
            span->rev = row.rev;
        }
        if (wanted(r, span, &row)) put_event(rd, &row);
    }
    span->bytes += pack.len;
    return true;
}

static bool span_db(struct reader *rd, struct span *span, leveldb_iterator_t *it)
{
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    struct store_ahead ahead = { 0 };
    const struct store_read *r = rd->r;
    uint64_t end_rev = r->pack_count == 0 ? UINT64_MAX : r->packs[0].first_rev;
    uint32_t end_n = r->pack_count == 0 ? UINT32_MAX : r->packs[0].first_n;
    seek_floor(rd, it, r->from_rev, 1);
    for (; leveldb_iter_valid(it); leveldb_iter_next(it)) {
        uint64_t rev = 0;
        uint32_t n = 0;
        struct slice key = store_db_iter_key(it);
        if (!store_pack_key_read(key, &rev, &n)) break;
        if (rev > end_rev || (rev == end_rev && n >= end_n)) break;
        struct store_ref ref;
        if (store_ref_decode(store_db_iter_value(it), &ref) == OK) {
            store_files_ahead(&rd->s->files, rd->view.set, &ref, &ahead);
        }
        if (!span_pack(rd, span, rev, pack_at(rd, it, &scratch), end_rev, end_n)) return false;
    }
    check_iter(rd, it);
    return true;
}

static void read_events(struct reader *rd)
{
    struct store_read *r = rd->r;
    struct span span = {
        .start = { r->keys.at, r->start_len },
        .end = { r->keys.at + r->start_len, r->end_len },
    };
    r->next_rev = r->to_rev + 1;
    if (r->pack_count == 0 || r->from_rev <= r->packs[0].first_rev) {
        leveldb_iterator_t *it = leveldb_create_iterator(rd->s->rows.db, rd->options);
        bool more = span_db(rd, &span, it);
        check_iter(rd, it);
        leveldb_iter_destroy(it);
        if (!more) return;
    }
    for (size_t i = 0; i < r->pack_count; i++) {
        /* Wholly before the span: the next one begins at or before it. */
        if (i + 1 < r->pack_count && r->packs[i + 1].first_rev < r->from_rev) continue;
        const struct store_pack_ref *ref = &r->packs[i];
        if (!span_pack(rd, &span, ref->first_rev, ref->pack, UINT64_MAX, UINT32_MAX)) return;
    }
}

/* --- running ------------------------------------------------------------------ */

/* A record of meta/. False: it is not there. */
static bool read_record(const struct reader *rd, struct slice key, struct buf *out)
{
    struct errmsg em;
    bool found = false;
    if (store_db_get(&rd->s->meta, key, out, &found, &em) != OK) {
        store_fatal(rd->s, "read of history failed: %s", em.text);
    }
    return found;
}

/* After the snapshot was taken. The floor first: it is never above the compacted revision. */
static void read_bounds(struct reader *rd)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    struct store_marker marker;
    if (read_record(rd, SLICE_LIT(STORE_KEY_FLOOR), &value)) {
        if (value.len != sizeof rd->floor_rev) store_fatal(rd->s, "the floor record is damaged");
        rd->floor_rev = u64_le(value.at);
    }
    if (!read_record(rd, SLICE_LIT(STORE_KEY_APPLIED), &value) ||
        store_marker_decode(buf_slice(&value), &marker) != OK) {
        store_fatal(rd->s, "the applied index is damaged");
    }
    rd->compacted_rev = marker.compacted_rev;
}

static void run_kind(struct reader *rd)
{
    struct store_read *r = rd->r;
    uint64_t lowest_rev = r->kind == STORE_READ_VERSION ? r->at_rev : r->from_rev;
    if (lowest_rev < rd->floor_rev && r->kind != STORE_READ_ROWS) {
        r->result = ERR_COMPACTED;
        return;
    }
    switch (r->kind) {
    case STORE_READ_ROWS: r->to_rev = r->from_rev; read_events(rd); break;
    case STORE_READ_EVENTS: read_events(rd); break;
    case STORE_READ_VERSION: read_versions(rd); break;
    case STORE_READ_HISTORY: read_history(rd); break;
    }
}

static void read_run(struct work *w)
{
    struct store_read *r = CONTAINER_OF(w, struct store_read, work);
    struct reader rd = { .s = r->store, .r = r, .first_rev = 1 };
    store_files_view(&rd.s->files, rd.s->rows.db, &rd.view);
    rd.options = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(rd.options, 1);
    leveldb_readoptions_set_fill_cache(rd.options, 0);
    leveldb_readoptions_set_snapshot(rd.options, rd.view.snapshot);
    read_bounds(&rd);
    run_kind(&rd);
    if (rd.points != NULL) leveldb_iter_destroy(rd.points);
    leveldb_readoptions_destroy(rd.options);
    store_files_view_free(&rd.s->files, rd.s->rows.db, &rd.view);
    store_files_close_dropped(&rd.s->files);
    buf_deinit(&rd.pack_bytes);
}

/* disk/store_export.c - see store_export.h. */
#include "disk/store_export.h"

#include <inttypes.h>

#include "disk/store_int.h"
#include "mvcc/mvcc.h"

#define META_HEAD_BYTES 9u
#define PACK_HEAD_BYTES 17u
#define ROW_HEADS_BYTES 256u /* in and around a pack, with room to spare */

_Static_assert(STORE_RECORD_BYTES_MAX >= PACK_HEAD_BYTES + MVCC_VALUE_BYTES_MAX + MVCC_KEY_BYTES_MAX + ROW_HEADS_BYTES,
               "every row that there can be is sent");

enum export_phase { EXPORT_METAS, EXPORT_PACKS, EXPORT_END };

/* The loop's, but between a call and its answer that of the thread at work. */
struct store_export {
    struct work work;
    struct store *store;
    struct store_rows_view rows;
    const leveldb_snapshot_t *meta;
    struct store_marker marker; /* of the view */
    uint64_t floor_rev;

    enum export_phase phase;
    struct buf cursor; /* the key behind which the next chunk begins; empty: from the start */
    struct buf chunk;
    struct buf pack; /* scratch */
    struct store_ahead ahead;
    uint64_t count;
    uint32_t crc;
    uint64_t sum; /* of the packs so far */

    enum err result;
    struct errmsg em;
};

/* --- records ----------------------------------------------------------------- */

static bool take(struct slice *rest, size_t bytes, struct slice *out)
{
    if (rest->len < bytes) return false;
    *out = (struct slice){ rest->at, bytes };
    *rest = (struct slice){ rest->at + bytes, rest->len - bytes };
    return true;
}

enum err store_record_decode(struct slice *rest, struct store_record *out)
{
    struct slice from = *rest;
    struct store_record r = { .kind = STORE_RECORD_META };
    struct slice head;
    if (from.len == 0) return ERR_CORRUPT;
    if (from.at[0] == STORE_RECORD_META) {
        if (!take(&from, META_HEAD_BYTES, &head)) return ERR_CORRUPT;
        size_t name_bytes = u32_le(head.at + 1);
        if (name_bytes == 0 || name_bytes > STORE_META_NAME_BYTES_MAX) return ERR_CORRUPT;
        if (!take(&from, name_bytes, &r.name)) return ERR_CORRUPT;
        if (!take(&from, u32_le(head.at + 5), &r.value)) return ERR_CORRUPT;
    } else if (from.at[0] == STORE_RECORD_PACK) {
        if (!take(&from, PACK_HEAD_BYTES, &head)) return ERR_CORRUPT;
        r.kind = STORE_RECORD_PACK;
        r.first_rev = u64_le(head.at + 1);
        r.first_n = u32_le(head.at + 9);
        if (!take(&from, u32_le(head.at + 13), &r.value) || r.value.len < 2) return ERR_CORRUPT;
    } else {
        return ERR_CORRUPT;
    }
    *rest = from;
    *out = r;
    return OK;
}

/* --- the view: the store's thread, between two writes ------------------------ */

void store_exports_take(struct store *s)
{
    struct work *w = __atomic_exchange_n(&s->export_inbox, NULL, __ATOMIC_SEQ_CST);
    while (w != NULL) {
        struct store_export *e = CONTAINER_OF(w, struct store_export, work);
        w = w->next;
        store_files_view(&s->files, s->rows.db, &e->rows);
        e->meta = leveldb_create_snapshot(s->meta.db);
        e->marker = s->marker;
        e->floor_rev = s->compactor.disk_floor_rev;
        if (e->marker.index == 0) {
            errmsg_set(&e->em, "%s: nothing is written yet", s->options.dir);
            e->result = ERR_NOT_FOUND;
        }
        done_queue_push(e->work.done, &e->work);
    }
}

/* --- chunks: a worker -------------------------------------------------------- */

static enum err damaged(struct store_export *e, const char *what)
{
    errmsg_set(&e->em, "%s: %s", e->store->options.dir, what);
    return ERR_CORRUPT;
}

static enum err meta_append(struct store_export *e, struct slice key, struct slice value)
{
    if (key.len < 2 || key.at[0] != 'm') return damaged(e, "a key of an unknown kind");
    buf_append_u8(&e->chunk, STORE_RECORD_META);
    buf_append_u32(&e->chunk, (uint32_t)(key.len - 1));
    buf_append_u32(&e->chunk, (uint32_t)value.len);
    buf_append(&e->chunk, key.at + 1, key.len - 1);
    buf_append_slice(&e->chunk, value);
    return OK;
}

static enum err pack_append(struct store_export *e, struct slice key, struct slice pack)
{
    uint64_t rev = 0;
    uint32_t n = 0;
    if (!store_pack_key_read(key, &rev, &n)) return damaged(e, "a pack with a damaged key");
    buf_append_u8(&e->chunk, STORE_RECORD_PACK);
    buf_append_u64(&e->chunk, rev);
    buf_append_u32(&e->chunk, n);
    buf_append_u32(&e->chunk, (uint32_t)pack.len);
    buf_append_slice(&e->chunk, pack);
    e->sum += store_pack_sum(rev, n, (uint32_t)pack.len);
    return OK;
}

/* The pack that a value of rows/ is or names. */
static enum err pack_of(struct store_export *e, struct slice value, struct slice *pack)
{
    const struct store_files *files = &e->store->files;
    struct store_ref ref;
    if (store_ref_decode(value, &ref) == OK) store_files_ahead(files, e->rows.set, &ref, &e->ahead);
    return store_files_pack(files, e->rows.set, value, &e->pack, pack, &e->em);
}

typedef enum err append_one(struct store_export *e, struct slice key, struct slice value);

/* Until the chunk is full or the database ends. */
static enum err fill(struct store_export *e, leveldb_iterator_t *it, struct slice end,
                     append_one *append, bool *more)
{
    for (; leveldb_iter_valid(it); leveldb_iter_next(it)) {
        struct slice key = store_db_iter_key(it);
        struct slice value = store_db_iter_value(it);
        if (end.len != 0 && slice_cmp(key, end) >= 0) break;
        if (slice_eq(key, buf_slice(&e->cursor))) continue; /* the last of the chunk before */
        if (e->phase == EXPORT_PACKS) TRY(pack_of(e, value, &value));
        size_t bytes = PACK_HEAD_BYTES + key.len + value.len;
        if (bytes > STORE_RECORD_BYTES_MAX) {
            errmsg_set(&e->em, "%s: a record of %zu bytes", e->store->options.dir, bytes);
            return ERR_LIMIT;
        }
        if (e->chunk.len != 0 && e->chunk.len + bytes > STORE_EXPORT_CHUNK_BYTES) {
            *more = true;
            return OK;
        }
        TRY(append(e, key, value));
        e->count++;
        buf_clear(&e->cursor);
        buf_append_slice(&e->cursor, key);
    }
    *more = false;
    return store_db_iter_error(it, &e->em); /* what it cannot read it skips, and says so here */
}

static enum err read_from(struct store_export *e, const struct store_db *db,
                          const leveldb_snapshot_t *snapshot, struct slice from, struct slice end,
                          append_one *append, bool *more)
{
    leveldb_readoptions_t *options = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(options, 1);
    leveldb_readoptions_set_fill_cache(options, 0);
    leveldb_readoptions_set_snapshot(options, snapshot);
    leveldb_iterator_t *it = leveldb_create_iterator(db->db, options);
    if (e->cursor.len != 0) from = buf_slice(&e->cursor);
    leveldb_iter_seek(it, (const char *)from.at, from.len);
    enum err result = fill(e, it, end, append, more);
    leveldb_iter_destroy(it);
    leveldb_readoptions_destroy(options);
    return result;
}

static enum err read_chunk(struct store_export *e)
{
    struct store *s = e->store;
    bool more = false;
    if (e->phase == EXPORT_METAS) {
        TRY(read_from(e, &s->meta, e->meta, SLICE_LIT("c"), SLICE_LIT("s"), meta_append, &more));
        if (more) return OK;
        e->phase = EXPORT_PACKS;
        buf_clear(&e->cursor);
    }
    /* Packs behind the marker's are of a batch whose marker is not there (yet). */
    struct store_pack_key end = store_pack_key(e->marker.last_rev, e->marker.last_n + 1);
    struct slice end_at = { end.at, sizeof end.at };
    TRY(read_from(e, &s->rows, e->rows.snapshot, SLICE_LIT("r"), end_at, pack_append, &more));
    if (more) return OK;
    e->phase = EXPORT_END;
    if (e->sum == e->marker.pack_sum || e->sum == e->marker.pack_sum_before) return OK;
    return damaged(e, "packs are lost, or not as the marker has them");
}

static void chunk_run(struct work *w)
{
    struct store_export *e = CONTAINER_OF(w, struct store_export, work);
    buf_clear(&e->chunk);
    e->result = read_chunk(e);
    buf_deinit(&e->pack);
    if (e->result == OK) e->crc = crc32c(e->crc, e->chunk.at, e->chunk.len);
    /* One large record does not stay for the rest. */
    if (e->chunk.len <= STORE_EXPORT_CHUNK_BYTES && e->chunk.cap > 2 * STORE_EXPORT_CHUNK_BYTES) {
        struct buf small = { 0 };
        buf_append_slice(&small, buf_slice(&e->chunk));
        buf_deinit(&e->chunk);
        e->chunk = small;
    }
}

/* --- the loop ----------------------------------------------------------------- */

struct store_export *store_export_new(struct store *s, struct done_queue *done)
{
    ASSERT(s->phase == STORE_STARTED);
    ASSERT(s->options.workers != NULL);
    struct store_export *e = mem_zalloc(sizeof *e);
    e->store = s;
    e->work.done = done;
    s->exports_out++;
    struct work *before = __atomic_load_n(&s->export_inbox, __ATOMIC_RELAXED);
    do {
        e->work.next = before;
    } while (!__atomic_compare_exchange_n(&s->export_inbox, &before, &e->work, true,
                                          __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    doorbell_ring(&s->bell);
    return e;
}

const struct work *store_export_work(const struct store_export *e)
{
    return &e->work;
}

void store_export_next(struct store_export *e)
{
    ASSERT(e->result == OK && e->phase != EXPORT_END);
    e->work.run = chunk_run;
    workers_submit(e->store->options.workers, &e->work);
}

void store_export_free(struct store_export *e)
{
    if (e == NULL) return;
    ASSERT(e->rows.snapshot != NULL); /* the view was answered */
    store_files_view_free(&e->store->files, e->store->rows.db, &e->rows);
    doorbell_ring(&e->store->bell); /* files that went meanwhile are closed there */
    leveldb_release_snapshot(e->store->meta.db, e->meta);
    ASSERT(e->store->exports_out > 0);
    e->store->exports_out--;
    buf_deinit(&e->cursor);
    buf_deinit(&e->chunk);
    buf_deinit(&e->pack);
    mem_free(e);
}

enum err store_export_result(const struct store_export *e, struct errmsg *em)
{
    if (e->result != OK) errmsg_set(em, "%s", e->em.text);
    return e->result;
}

struct store_view store_export_view(const struct store_export *e)
{
    return (struct store_view){ e->marker.index, e->marker.term, e->marker.compacted_rev,
                                e->floor_rev };
}

struct slice store_export_chunk(const struct store_export *e)
{
    return buf_slice(&e->chunk);
}

bool store_export_at_end(const struct store_export *e)
{
    return e->phase == EXPORT_END;
}

uint64_t store_export_count(const struct store_export *e)
{
    return e->count;
}

uint32_t store_export_crc(const struct store_export *e)
{
    return e->crc;
}

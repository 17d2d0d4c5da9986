/* disk/store_load.c - the scan at start: all meta, all packs, and the pack table on the way.
 *
 * Beyond each pack's own form it compares the sum of all packs with the newest marker's, so packs
 * that are missing, wherever it is, and such that should be gone are refused. */
#include "disk/store.h"

#include <inttypes.h>

#include "disk/store_int.h"
#include "disk/store_process.h"

struct scan {
    struct store *s;
    store_meta_cb *meta_cb;
    store_pack_cb *pack_cb;
    void *ctx;
    struct errmsg *em;
    uint64_t unchecked_bytes; /* read since the last look at the resident pages */
};

static enum err damaged(const struct scan *scan, uint64_t rev, const char *what)
{
    errmsg_set(scan->em, "%s: pack of revision %" PRIu64 " %s", scan->s->rows.dir, rev, what);
    return ERR_CORRUPT;
}

static enum err scan_pack(struct scan *scan, struct slice key, struct slice pack)
{
    uint64_t rev = 0;
    uint32_t n = 0;
    if (!store_pack_key_read(key, &rev, &n)) return damaged(scan, 0, "has a damaged key");
    size_t offset = 0;
    struct row row;
    if (pack_begin(pack, &offset) != OK) return damaged(scan, rev, "has an unknown format");
    if (row_decode(pack, &offset, rev, &row) != OK) return damaged(scan, rev, "is damaged");
    if (row.rev != rev || row.n != n) return damaged(scan, rev, "is not in its place");
    store_table_append(&scan->s->table, rev, n, pack.len);
    TRY(scan->pack_cb(scan->ctx, rev, n, pack));
    scan->unchecked_bytes += pack.len;
    if (scan->unchecked_bytes < STORE_MAPPED_CHECK_BYTES) return OK;
    scan->unchecked_bytes = 0;
    if (!scan->s->options.manual) store_memory_limit(STORE_MAPPED_SCAN_BYTES_MAX);
    return OK;
}

static enum err scan_meta(struct scan *scan, struct slice key, struct slice value)
{
    if (key.len == 0 || key.at[0] != 'm') {
        errmsg_set(scan->em, "%s: a key of an unknown kind", scan->s->meta.dir);
        return ERR_CORRUPT;
    }
    return scan->meta_cb(scan->ctx, (struct slice){ key.at + 1, key.len - 1 }, value);
}

typedef enum err scan_one(struct scan *scan, struct slice key, struct slice value);

/* All keys in [from, end) of one database. */
static enum err scan_db(struct scan *scan, const struct store_db *db, struct slice from,
                        struct slice end, scan_one *one)
{
    leveldb_iterator_t *it = leveldb_create_iterator(db->db, db->read_checked);
    enum err e = OK;
    leveldb_iter_seek(it, (const char *)from.at, from.len);
    while (e == OK && leveldb_iter_valid(it)) {
        struct slice key = store_db_iter_key(it);
        if (end.len != 0 && slice_cmp(key, end) >= 0) break;
        e = one(scan, key, store_db_iter_value(it));
        leveldb_iter_next(it);
    }
    if (e == OK) e = store_db_iter_error(it, scan->em);
    leveldb_iter_destroy(it);
    return e;
}

static enum err scan_all(struct scan *scan)
{
    struct store *s = scan->s;
    const struct store_marker *m = &s->marker;
    /* Before the first are the markers, behind the end the records: read when it was opened. */
    TRY(scan_db(scan, &s->meta, SLICE_LIT("c"), SLICE_LIT("s"), scan_meta));
    TRY(scan_db(scan, &s->rows, SLICE_NONE, SLICE_NONE, scan_pack));
    if (s->table.sum == m->pack_sum || s->table.sum == m->pack_sum_before) return OK;
    errmsg_set(scan->em, "%s: packs are lost, or not as the marker of index %" PRIu64 " has them",
               s->rows.dir, m->index);
    return ERR_CORRUPT;
}

enum err store_scan(struct store *s, store_meta_cb *meta_cb, store_pack_cb *pack_cb, void *ctx,
                    struct errmsg *em)
{
    ASSERT(s->phase == STORE_OPENED);
    s->phase = STORE_SCANNED;
    struct scan scan = { .s = s, .meta_cb = meta_cb, .pack_cb = pack_cb, .ctx = ctx, .em = em };
    enum err e = scan_all(&scan);
    STORE_STAT_SET(s, pack_count, (uint64_t)s->table.count);
    STORE_STAT_SET(s, pack_bytes, s->table.bytes);
    return e;
}

void store_note_dead(struct store *s, uint64_t rev, struct slice key)
{
    ASSERT(s->phase != STORE_STARTED);
    struct store_pending pending = { rev, store_table_hash(&s->table, rev, key) };
    buf_append(&s->compactor.pending, &pending, sizeof pending);
}

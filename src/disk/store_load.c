/* disk/store_load.c - the scan at start: all meta, all packs, and the pack table on the way. */
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
    errmsg_set(scan->em, "%s: pack of revision %" PRIu64 " %s", scan->s->db.dir, rev, what);
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
    store_memory_limit(STORE_MAPPED_SCAN_BYTES_MAX);
    return OK;
}

static enum err scan_one(struct scan *scan, const leveldb_iterator_t *it, bool *end)
{
    struct slice key = store_db_iter_key(it);
    struct slice value = store_db_iter_value(it);
    *end = key.at[0] > 'r';
    if (*end) return OK;
    if (key.at[0] == 'r') return scan_pack(scan, key, value);
    if (key.at[0] == 'm') {
        return scan->meta_cb(scan->ctx, (struct slice){ key.at + 1, key.len - 1 }, value);
    }
    errmsg_set(scan->em, "%s: a key of an unknown kind", scan->s->db.dir);
    return ERR_CORRUPT;
}

static enum err scan_all(struct scan *scan)
{
    struct store_db *db = &scan->s->db;
    leveldb_iterator_t *it = leveldb_create_iterator(db->db, db->read_checked);
    enum err e = OK;
    bool end = false;
    leveldb_iter_seek(it, "m", 1);
    while (e == OK && !end && leveldb_iter_valid(it)) {
        e = scan_one(scan, it, &end);
        if (!end) leveldb_iter_next(it);
    }
    if (e == OK) e = store_db_iter_error(it, scan->em);
    leveldb_iter_destroy(it);
    return e;
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

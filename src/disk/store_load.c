/* disk/store_load.c - the scan at start: all meta, all packs, and the pack table on the way.
 *
 * A thread of its own, the reader, reads rows/, which is mostly checksums, and fills chunks with
 * packs; the loop's thread takes them in order and hands them to the caller. Nothing else is
 * shared: the pack table is the reader's until it has ended. In manual mode the caller's thread is
 * the reader too, and hands over each chunk as soon as it is filled.
 *
 * Beyond each pack's own form the sum of all packs is compared with the newest marker's, so packs
 * that are missing, wherever it is, and such that should be gone are refused. When all are there,
 * files of packs that none of them is in are removed. */
#include "disk/store.h"

#include <inttypes.h>

#include "disk/store_int.h"

#define READER_NAME "cordis-scan"
#define CHUNKS 4u
#define CHUNK_BYTES (256u << 10) /* and one pack more, whatever its size */
#define MAPPED_LEFT_BYTES_MAX (4u << 20)

struct chunk_pack {
    uint64_t first_rev;
    uint32_t first_n;
    size_t bytes;
};

struct chunk {
    struct buf packs; /* of struct chunk_pack */
    struct buf bytes; /* their bytes, one behind the other */
};

struct scan {
    struct store *s;
    store_meta_cb *meta_cb;
    store_pack_cb *pack_cb;
    void *ctx;
    struct errmsg *em;

    struct chunk chunks[CHUNKS];
    struct doorbell filled_bell, taken_bell;
    uint32_t filled, taken; /* chunks so far; atomic, the reader's and the loop's */
    bool ended;             /* atomic: no chunk follows, reader_result is there */
    bool cancelled;         /* atomic: nobody wants the rest */
    enum err delivered;     /* the loop's: what the caller said */

    /* the reader's */
    enum err reader_result;
    struct errmsg reader_em;
    uint64_t mapped_bytes; /* read since rows/ was opened */
    struct buf pack;       /* scratch */
    struct store_ahead ahead;
};

/* --- meta -------------------------------------------------------------------- */

static enum err scan_meta(struct scan *scan, struct slice key, struct slice value)
{
    if (key.len == 0 || key.at[0] != 'm') {
        errmsg_set(scan->em, "%s: a key of an unknown kind", scan->s->meta.dir);
        return ERR_CORRUPT;
    }
    return scan->meta_cb(scan->ctx, (struct slice){ key.at + 1, key.len - 1 }, value);
}

/* What the iterator could not read it left out: that is the cause of whatever was found after. */
static enum err iter_end(leveldb_iterator_t *it, enum err found, struct errmsg *em)
{
    enum err e = store_db_iter_error(it, em);
    leveldb_iter_destroy(it);
    return e != OK ? e : found;
}

/* Before the first are the markers, behind the last the records: read when it was opened. */
static enum err scan_metas(struct scan *scan)
{
    const struct store_db *db = &scan->s->meta;
    leveldb_iterator_t *it = leveldb_create_iterator(db->db, db->read_checked);
    enum err e = OK;
    leveldb_iter_seek(it, "c", 1);
    while (e == OK && leveldb_iter_valid(it)) {
        struct slice key = store_db_iter_key(it);
        if (slice_cmp(key, SLICE_LIT("s")) >= 0) break;
        e = scan_meta(scan, key, store_db_iter_value(it));
        leveldb_iter_next(it);
    }
    return iter_end(it, e, scan->em);
}

/* --- a chunk ------------------------------------------------------------------ */

static enum err chunk_deliver(struct scan *scan, const struct chunk *c)
{
    const uint8_t *bytes = c->bytes.at;
    for (size_t at = 0; at < c->packs.len; at += sizeof(struct chunk_pack)) {
        struct chunk_pack head;
        memcpy(&head, c->packs.at + at, sizeof head);
        struct slice pack = { bytes, head.bytes };
        TRY(scan->pack_cb(scan->ctx, head.first_rev, head.first_n, pack));
        bytes += head.bytes;
    }
    return OK;
}

/* --- the reader ---------------------------------------------------------------- */

static enum err damaged(struct scan *scan, uint64_t rev, const char *what)
{
    errmsg_set(&scan->reader_em, "%s: pack of revision %" PRIu64 " %s", scan->s->rows.dir, rev,
               what);
    return ERR_CORRUPT;
}

/* The chunk to fill; NULL when the scan is cancelled. */
static struct chunk *chunk_wait_free(struct scan *scan)
{
    for (;;) {
        uint32_t seen = doorbell_seen(&scan->taken_bell);
        if (__atomic_load_n(&scan->cancelled, __ATOMIC_SEQ_CST)) return NULL;
        uint32_t taken = __atomic_load_n(&scan->taken, __ATOMIC_SEQ_CST);
        if (scan->filled - taken < CHUNKS) break;
        doorbell_wait(&scan->taken_bell, seen);
    }
    struct chunk *c = &scan->chunks[scan->filled % CHUNKS];
    buf_clear(&c->packs);
    buf_clear(&c->bytes);
    return c;
}

static void chunk_publish(struct scan *scan)
{
    if (scan->s->options.manual) {
        scan->delivered = chunk_deliver(scan, &scan->chunks[scan->filled % CHUNKS]);
        scan->cancelled = scan->delivered != OK;
        return;
    }
    __atomic_store_n(&scan->filled, scan->filled + 1, __ATOMIC_SEQ_CST);
    doorbell_ring(&scan->filled_bell);
}

/* The pack that the value is or names; borrows from it or from scan->pack. */
static enum err find_pack(struct scan *scan, struct slice value, struct slice *pack,
                           struct store_ref *ref)
{
    struct store *s = scan->s;
    struct errmsg *em = &scan->reader_em;
    bool whole = store_ref_decode(value, ref) == OK; /* if not, what follows says so */
    if (whole && ref->file != 0) {
        TRY(store_files_found(&s->files, ref, em));
        store_files_ahead(&s->files, s->files.set, ref, &scan->ahead);
    }
    if (ref->file == 0) scan->mapped_bytes += value.len;
    return store_files_pack(&s->files, s->files.set, value, &scan->pack, pack, em);
}

static enum err chunk_add(struct scan *scan, struct chunk *c, struct slice key, struct slice value)
{
    uint64_t rev = 0;
    uint32_t n = 0;
    struct store_ref ref;
    struct slice pack;
    if (!store_pack_key_read(key, &rev, &n)) return damaged(scan, 0, "has a damaged key");
    TRY(find_pack(scan, value, &pack, &ref));
    size_t offset = 0;
    struct row row;
    if (pack_begin(pack, &offset) != OK) return damaged(scan, rev, "has an unknown format");
    if (row_decode(pack, &offset, rev, &row) != OK) return damaged(scan, rev, "is damaged");
    if (row.rev != rev || row.n != n) return damaged(scan, rev, "is not in its place");
    store_table_append(&scan->s->table, rev, n, pack.len, &ref);
    struct chunk_pack head = { rev, n, pack.len };
    buf_append(&c->packs, &head, sizeof head);
    buf_append_slice(&c->bytes, pack);
    return OK;
}

/* Reads on from where the iterator is. *more: the iterator has still something. */
static enum err read_chunk(struct scan *scan, leveldb_iterator_t *it, bool *more)
{
    struct chunk *c = chunk_wait_free(scan);
    *more = false;
    if (c == NULL) return OK;
    enum err e = OK;
    while (leveldb_iter_valid(it) && c->bytes.len < CHUNK_BYTES) {
        e = chunk_add(scan, c, store_db_iter_key(it), store_db_iter_value(it));
        if (e != OK) break;
        leveldb_iter_next(it);
    }
    *more = e == OK && leveldb_iter_valid(it);
    if (c->packs.len != 0) chunk_publish(scan);
    return e;
}

/* As many packs as may stay mapped. *next is where to go on; empty at the end. */
static enum err read_part(struct scan *scan, struct buf *next)
{
    const struct store_db *db = &scan->s->rows;
    leveldb_iterator_t *it = leveldb_create_iterator(db->db, db->read_checked);
    enum err e = OK;
    bool more = true;
    leveldb_iter_seek(it, (const char *)next->at, next->len);
    buf_clear(next);
    while (e == OK && more && scan->mapped_bytes < STORE_MAPPED_SCAN_BYTES_MAX) {
        e = read_chunk(scan, it, &more);
    }
    if (e == OK && more) buf_append_slice(next, store_db_iter_key(it));
    return iter_end(it, e, &scan->reader_em);
}

/* Opening anew unmaps the tables that were read, and leaves them in the page cache. */
static enum err unmap(struct scan *scan)
{
    scan->mapped_bytes = 0;
    return store_db_reopen(&scan->s->rows, &scan->reader_em);
}

static enum err read_rows(struct scan *scan)
{
    CLEANUP(buf_deinit) struct buf next = { 0 };
    do {
        TRY(read_part(scan, &next));
        if (next.len != 0 || scan->mapped_bytes > MAPPED_LEFT_BYTES_MAX) TRY(unmap(scan));
    } while (next.len != 0);
    return OK;
}

static void *reader_main(void *arg)
{
    struct scan *scan = arg;
    scan->reader_result = read_rows(scan);
    __atomic_store_n(&scan->ended, true, __ATOMIC_SEQ_CST);
    doorbell_ring(&scan->filled_bell);
    return NULL;
}

/* --- the loop's side -------------------------------------------------------------- */

/* False when there is none any more. */
static bool chunk_wait_filled(struct scan *scan)
{
    for (;;) {
        uint32_t seen = doorbell_seen(&scan->filled_bell);
        bool ended = __atomic_load_n(&scan->ended, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&scan->filled, __ATOMIC_SEQ_CST) != scan->taken) return true;
        if (ended) return false;
        doorbell_wait(&scan->filled_bell, seen);
    }
}

static enum err deliver_rows(struct scan *scan)
{
    while (chunk_wait_filled(scan)) {
        TRY(chunk_deliver(scan, &scan->chunks[scan->taken % CHUNKS]));
        __atomic_store_n(&scan->taken, scan->taken + 1, __ATOMIC_SEQ_CST);
        doorbell_ring(&scan->taken_bell);
    }
    return OK;
}

static enum err scan_on_thread(struct scan *scan)
{
    pthread_t reader;
    TRY(thread_start(&reader, READER_NAME, reader_main, scan, scan->em));
    scan->delivered = deliver_rows(scan);
    __atomic_store_n(&scan->cancelled, true, __ATOMIC_SEQ_CST);
    doorbell_ring(&scan->taken_bell);
    pthread_join(reader, NULL);
    return OK;
}

/* What the reader could not read comes before what the caller found in the rest. */
static enum err scan_rows(struct scan *scan)
{
    if (scan->s->options.manual) scan->reader_result = read_rows(scan);
    else TRY(scan_on_thread(scan));
    if (scan->reader_result == OK) return scan->delivered;
    if (scan->em != NULL) *scan->em = scan->reader_em;
    return scan->reader_result;
}

static enum err scan_all(struct scan *scan)
{
    struct store *s = scan->s;
    const struct store_marker *m = &s->marker;
    TRY(scan_metas(scan));
    TRY(scan_rows(scan));
    if (s->table.sum == m->pack_sum || s->table.sum == m->pack_sum_before) {
        return store_files_drop_dead(&s->files, scan->em);
    }
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
    for (size_t i = 0; i < CHUNKS; i++) {
        buf_deinit(&scan.chunks[i].packs);
        buf_deinit(&scan.chunks[i].bytes);
    }
    buf_deinit(&scan.pack);
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

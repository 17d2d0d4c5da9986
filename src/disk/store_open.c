/* disk/store_open.c - opening databases and files, and leaving in rows/ what the marker names.
 *
 * The order in which MAKING files come and go (store_int.h, I3) tells a crash while they are made
 * from one of them being lost. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "disk/store.h"
#include "disk/store_int.h"

static void path_of(struct buf *out, const char *dir, const char *name)
{
    buf_clear(out);
    buf_printf(out, "%s/%s", dir, name);
    buf_append_u8(out, 0);
}

/* Format 1 had one database, where the two directories are now. */
static enum err refuse_format_1(const struct disk_io *io, const char *dir, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf path = { 0 };
    path_of(&path, dir, "CURRENT");
    uint64_t bytes = 0;
    int answer = io->path_size(io->ctx, (const char *)path.at, &bytes);
    if (answer == -ENOENT) return OK;
    if (answer < 0) return disk_error(em, "look at", (const char *)path.at, answer);
    errmsg_set(em, "%s: format 1, this program knows %d", dir, STORE_FORMAT);
    return ERR_UNSUPPORTED;
}

static enum err open_one(const struct store *s, struct store_db *db, const char *name,
                         size_t buffer_bytes, bool *fresh, uint64_t *trimmed_bytes,
                         struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf path = { 0 };
    uint64_t trimmed = 0;
    path_of(&path, s->options.dir, name);
    TRY(store_db_open(db, s->options.io, (const char *)path.at, buffer_bytes, fresh, &trimmed,
                      em));
    *trimmed_bytes += trimmed;
    return OK;
}

/* --- a new store ------------------------------------------------------------ */

static enum err make(struct store *s, struct errmsg *em)
{
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    store_marker_begin(batch, &s->marker);
    enum err e = store_db_write(&s->meta, batch, em);
    leveldb_writebatch_destroy(batch);
    TRY(e);
    TRY(store_db_made(&s->meta, em));
    return store_db_made(&s->rows, em);
}

/* --- what was there ---------------------------------------------------------- */

static enum err read_floor(struct store *s, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    bool found = false;
    TRY(store_db_get(&s->meta, SLICE_LIT(STORE_KEY_FLOOR), &value, &found, em));
    if (found && value.len == sizeof(uint64_t)) s->compactor.disk_floor_rev = u64_le(value.at);
    bool wrong = found && value.len != sizeof(uint64_t);
    if (!wrong && s->compactor.disk_floor_rev <= s->marker.compacted_rev) return OK;
    errmsg_set(em, "%s: rows below revision %" PRIu64 " are gone, but only %" PRIu64
               " is compacted", s->meta.dir, s->compactor.disk_floor_rev, s->marker.compacted_rev);
    return ERR_CORRUPT;
}

/* Adds the deletion of all packs behind the marker. */
static enum err find_uncommitted(struct store *s, leveldb_writebatch_t *batch, uint64_t *bytes,
                                 struct errmsg *em)
{
    struct store_pack_key last = store_pack_key(s->marker.last_rev, s->marker.last_n);
    leveldb_iterator_t *it = leveldb_create_iterator(s->rows.db, s->rows.read_checked);
    leveldb_iter_seek(it, (const char *)last.at, sizeof last.at);
    for (; leveldb_iter_valid(it); leveldb_iter_next(it)) {
        uint64_t rev = 0;
        uint32_t n = 0;
        struct slice key = store_db_iter_key(it);
        if (!store_pack_key_read(key, &rev, &n)) continue; /* the scan refuses it */
        if (!store_marker_is_behind(&s->marker, rev, n)) continue;
        leveldb_writebatch_delete(batch, (const char *)key.at, key.len);
        *bytes += key.len + store_db_iter_value(it).len;
    }
    enum err e = store_db_iter_error(it, em);
    leveldb_iter_destroy(it);
    return e;
}

static enum err remove_uncommitted(struct store *s, uint64_t *trimmed_bytes, struct errmsg *em)
{
    uint64_t bytes = 0;
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    enum err e = find_uncommitted(s, batch, &bytes, em);
    if (e == OK && bytes != 0) e = store_db_write(&s->rows, batch, em);
    leveldb_writebatch_destroy(batch);
    *trimmed_bytes += bytes;
    return e;
}

static enum err check_whole(struct store *s, bool rows_fresh, uint64_t *trimmed_bytes,
                            struct errmsg *em)
{
    TRY(store_marker_check(&s->meta, &s->marker, em));
    if (rows_fresh) {
        if (s->marker.seq == STORE_MARKERS) return store_db_made(&s->rows, em);
        errmsg_set(em, "%s: missing or never finished, but %s has batches", s->rows.dir,
                   s->meta.dir);
        return ERR_CORRUPT;
    }
    TRY(read_floor(s, em));
    return remove_uncommitted(s, trimmed_bytes, em);
}

static enum err open_packs(struct store *s, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf path = { 0 };
    path_of(&path, s->options.dir, STORE_FILES_NAME);
    uint64_t file_bytes = (uint64_t)s->options.write_buffer_bytes * STORE_FILE_BUFFERS;
    TRY(store_files_open(&s->files, s->options.io, (const char *)path.at, file_bytes, em));
    enum err e = store_marker_raise_format(&s->meta, em);
    if (e != OK) store_files_close(&s->files);
    return e;
}

static enum err open_rows(struct store *s, bool meta_fresh, uint64_t *trimmed_bytes,
                          struct errmsg *em)
{
    bool fresh = false;
    TRY(open_one(s, &s->rows, STORE_ROWS_NAME, s->options.write_buffer_bytes, &fresh,
                 trimmed_bytes, em));
    enum err e = ERR_CORRUPT;
    if (!meta_fresh) {
        e = check_whole(s, fresh, trimmed_bytes, em);
    } else if (fresh) {
        e = make(s, em);
    } else {
        errmsg_set(em, "%s: missing or never finished, but %s exists", s->meta.dir, s->rows.dir);
    }
    if (e == OK) e = open_packs(s, em);
    if (e != OK) store_db_close(&s->rows);
    return e;
}

enum err store_open_both(struct store *s, uint64_t *trimmed_bytes, struct errmsg *em)
{
    const char *dir = s->options.dir;
    TRY(disk_make_dir(s->options.io, dir, em));
    TRY(refuse_format_1(s->options.io, dir, em));
    bool fresh = false;
    size_t buffer_bytes = MIN(s->options.write_buffer_bytes, STORE_META_BUFFER_BYTES_MAX);
    TRY(open_one(s, &s->meta, STORE_META_NAME, buffer_bytes, &fresh, trimmed_bytes, em));
    enum err e = open_rows(s, fresh, trimmed_bytes, em);
    if (e != OK) store_db_close(&s->meta);
    return e;
}

void store_close_both(struct store *s)
{
    store_files_close(&s->files);
    store_db_close(&s->rows);
    store_db_close(&s->meta);
}

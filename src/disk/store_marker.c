/* disk/store_marker.c - see store_marker.h. */
#include "disk/store_marker.h"

#include <inttypes.h>

#include "disk/store.h"

#define MARKER_KEY_BYTES 9u
#define CRC_AT (STORE_MARKER_BYTES - 4)

static void marker_key(uint64_t seq, uint8_t out[MARKER_KEY_BYTES])
{
    out[0] = 'b';
    u64_be_put(out + 1, seq);
}

void store_marker_encode(const struct store_marker *m, uint8_t out[STORE_MARKER_BYTES])
{
    u64_le_put(out, m->seq);
    u64_le_put(out + 8, m->prev_index);
    u64_le_put(out + 16, m->index);
    u64_le_put(out + 24, m->term);
    u64_le_put(out + 32, m->compacted_rev);
    u64_le_put(out + 40, m->last_rev);
    u64_le_put(out + 48, m->pack_sum);
    u64_le_put(out + 56, m->pack_sum_before);
    u32_le_put(out + 64, m->last_n);
    u32_le_put(out + 68, m->prev_crc);
    u32_le_put(out + CRC_AT, crc32c(0, out, CRC_AT));
}

enum err store_marker_decode(struct slice value, struct store_marker *out)
{
    if (value.len != STORE_MARKER_BYTES) return ERR_CORRUPT;
    if (crc32c(0, value.at, CRC_AT) != u32_le(value.at + CRC_AT)) return ERR_CORRUPT;
    *out = (struct store_marker){
        .seq = u64_le(value.at),
        .prev_index = u64_le(value.at + 8),
        .index = u64_le(value.at + 16),
        .term = u64_le(value.at + 24),
        .compacted_rev = u64_le(value.at + 32),
        .last_rev = u64_le(value.at + 40),
        .pack_sum = u64_le(value.at + 48),
        .pack_sum_before = u64_le(value.at + 56),
        .last_n = u32_le(value.at + 64),
        .prev_crc = u32_le(value.at + 68),
    };
    return OK;
}

static uint32_t marker_crc(const struct store_marker *m)
{
    uint8_t bytes[STORE_MARKER_BYTES];
    store_marker_encode(m, bytes);
    return crc32c(0, bytes, sizeof bytes);
}

struct store_marker store_marker_after(const struct store_marker *last)
{
    struct store_marker next = *last;
    next.seq = last->seq + 1;
    next.prev_index = last->index;
    next.pack_sum_before = last->pack_sum;
    next.prev_crc = marker_crc(last);
    return next;
}

static void put(leveldb_writebatch_t *batch, const char *key, size_t key_len, const uint8_t *value,
                size_t len)
{
    leveldb_writebatch_put(batch, key, key_len, (const char *)value, len);
}

static void add_one(leveldb_writebatch_t *batch, const struct store_marker *m)
{
    uint8_t key[MARKER_KEY_BYTES];
    uint8_t value[STORE_MARKER_BYTES];
    marker_key(m->seq, key);
    store_marker_encode(m, value);
    put(batch, (const char *)key, sizeof key, value, sizeof value);
}

static void add_applied(leveldb_writebatch_t *batch, const struct store_marker *m)
{
    uint8_t value[STORE_MARKER_BYTES];
    store_marker_encode(m, value);
    put(batch, STORE_KEY_APPLIED, strlen(STORE_KEY_APPLIED), value, sizeof value);
}

void store_marker_add(leveldb_writebatch_t *batch, const struct store_marker *next)
{
    ASSERT(next->seq > STORE_MARKERS);
    ASSERT(next->index >= next->prev_index);
    uint8_t oldest[MARKER_KEY_BYTES];
    marker_key(next->seq - STORE_MARKERS, oldest);
    leveldb_writebatch_delete(batch, (const char *)oldest, sizeof oldest);
    add_one(batch, next);
    add_applied(batch, next);
}

static void add_format(leveldb_writebatch_t *batch)
{
    uint8_t format[4];
    u32_le_put(format, STORE_FORMAT);
    put(batch, STORE_KEY_FORMAT, strlen(STORE_KEY_FORMAT), format, sizeof format);
}

void store_marker_begin(leveldb_writebatch_t *batch, struct store_marker *newest)
{
    add_format(batch);
    struct store_marker m = { .seq = 1 };
    add_one(batch, &m);
    while (m.seq < STORE_MARKERS) {
        m = store_marker_after(&m);
        add_one(batch, &m);
    }
    add_applied(batch, &m);
    *newest = m;
}

/* --- check ----------------------------------------------------------------- */

static enum err check_format(const struct store_db *db, uint32_t *format, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    bool found = false;
    TRY(store_db_get(db, SLICE_LIT(STORE_KEY_FORMAT), &value, &found, em));
    if (!found || value.len != 4) {
        errmsg_set(em, "%s: the format record is missing: the beginning is lost", db->dir);
        return ERR_CORRUPT;
    }
    *format = u32_le(value.at);
    if (*format >= STORE_FORMAT_OLDEST && *format <= STORE_FORMAT) return OK;
    errmsg_set(em, "%s: format %" PRIu32 ", this program knows %d to %d", db->dir, *format,
               STORE_FORMAT_OLDEST, STORE_FORMAT);
    return ERR_UNSUPPORTED;
}

enum err store_marker_raise_format(struct store_db *db, struct errmsg *em)
{
    uint32_t format = 0;
    TRY(check_format(db, &format, em));
    if (format == STORE_FORMAT) return OK;
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    add_format(batch);
    enum err e = store_db_write(db, batch, em);
    leveldb_writebatch_destroy(batch);
    return e;
}

static enum err check_applied(const struct store_db *db, const struct store_marker *newest,
                              struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    bool found = false;
    TRY(store_db_get(db, SLICE_LIT(STORE_KEY_APPLIED), &value, &found, em));
    uint8_t want[STORE_MARKER_BYTES];
    store_marker_encode(newest, want);
    if (found && slice_eq(buf_slice(&value), (struct slice){ want, sizeof want })) return OK;
    errmsg_set(em, "%s: the applied index does not match the newest marker, %" PRIu64 " (index %"
               PRIu64 ")", db->dir, newest->seq, newest->index);
    return ERR_CORRUPT;
}

/* One step: `last` has seq 0 before the first. */
static enum err check_next(const struct store_db *db, const leveldb_iterator_t *it,
                           struct store_marker *last, struct errmsg *em)
{
    struct slice key = store_db_iter_key(it);
    struct store_marker m = { 0 };
    uint64_t key_seq = key.len == MARKER_KEY_BYTES ? u64_be(key.at + 1) : 0;
    if (store_marker_decode(store_db_iter_value(it), &m) != OK || m.seq != key_seq) {
        errmsg_set(em, "%s: marker %" PRIu64 " is damaged", db->dir, key_seq);
        return ERR_CORRUPT;
    }
    if (last->seq != 0) {
        if (m.seq != last->seq + 1) {
            errmsg_set(em, "%s: writes are lost: marker %" PRIu64 " (index %" PRIu64 ") is followed"
                       " by %" PRIu64 " (index %" PRIu64 ")", db->dir, last->seq, last->index,
                       m.seq, m.index);
            return ERR_CORRUPT;
        }
        if (m.prev_index != last->index || m.prev_crc != marker_crc(last)) {
            errmsg_set(em, "%s: marker %" PRIu64 " does not follow the one before", db->dir, m.seq);
            return ERR_CORRUPT;
        }
    }
    *last = m;
    return OK;
}

enum err store_marker_check(const struct store_db *db, struct store_marker *newest,
                            struct errmsg *em)
{
    uint32_t format = 0;
    TRY(check_format(db, &format, em));
    struct store_marker last = { 0 };
    uint64_t count = 0;
    enum err e = OK;
    leveldb_iterator_t *it = leveldb_create_iterator(db->db, db->read_checked);
    leveldb_iter_seek(it, "b", 1);
    while (e == OK && leveldb_iter_valid(it) && store_db_iter_key(it).at[0] == 'b') {
        e = check_next(db, it, &last, em);
        count++;
        leveldb_iter_next(it);
    }
    if (e == OK) e = store_db_iter_error(it, em);
    leveldb_iter_destroy(it);
    TRY(e);
    if (count != STORE_MARKERS) {
        errmsg_set(em, "%s: writes are lost: %" PRIu64 " markers, not %d", db->dir, count,
                   STORE_MARKERS);
        return ERR_CORRUPT;
    }
    TRY(check_applied(db, &last, em));
    *newest = last;
    return OK;
}

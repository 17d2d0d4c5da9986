/* state/checkpoint_load.c - see checkpoint.h: a state from what cuts have written.
 *
 * Rows tell the lifetime that a key had when they were written, "T" records the one it got later.
 * Both are kept until every row has been read, because only then it is known which row of a key is
 * its last: a lifetime counts if its row is the key's present version, and "T" goes before the row.
 */
#include "state/checkpoint.h"
#include "state/checkpoint_int.h"
#include "state/state_int.h"

#define EXPECTED_COUNT_MAX (1ULL << 26) /* room for more is not made beforehand */
#define PLACE_GROUP 16                  /* lookups whose cache misses overlap */

/* In front of each key in the lists of lifetimes. */
struct pending_life {
    uint64_t mod;
    struct life_record record;
    uint32_t key_bytes;
};

struct checkpoint_load {
    struct state *s;
    bool has_state; /* "S" was there */
    uint64_t live_count, hash, lease_count, rev;
    uint64_t last_rev; /* of the packs so far */
    struct buf row_lives, own_lives; /* struct pending_life, key; unaligned */
};

struct checkpoint_load *checkpoint_load_begin(struct state *s)
{
    ASSERT(s->applied_index == 0);
    ASSERT(mvcc_live_count(s->mvcc) == 0 && lease_count(s->leases) == 0);
    struct checkpoint_load *load = mem_zalloc(sizeof *load);
    load->s = s;
    return load;
}

void checkpoint_load_free(struct checkpoint_load *load)
{
    if (load == NULL) return;
    buf_deinit(&load->row_lives);
    buf_deinit(&load->own_lives);
    mem_free(load);
}

/* --- reading a value ------------------------------------------------------------------ */

static bool take_bytes(struct slice *rest, size_t bytes, struct slice *out)
{
    if (rest->len < bytes) return false;
    *out = (struct slice){ rest->at, bytes };
    *rest = (struct slice){ rest->at + bytes, rest->len - bytes };
    return true;
}

static bool take_u64(struct slice *rest, uint64_t *out)
{
    struct slice s;
    if (!take_bytes(rest, 8, &s)) return false;
    *out = u64_le(s.at);
    return true;
}

static bool take_varint(struct slice *rest, uint64_t *out)
{
    size_t used = varint_get(rest->at, rest->len, out);
    struct slice s;
    return used != 0 && take_bytes(rest, used, &s);
}

/* A number that must fit into 63 bits. */
static bool take_ms(struct slice *rest, int64_t *out)
{
    uint64_t v;
    if (!take_varint(rest, &v) || v > INT64_MAX) return false;
    *out = (int64_t)v;
    return true;
}

static bool take_section(struct slice *rest, struct slice *out)
{
    struct slice length;
    return take_bytes(rest, 4, &length) && take_bytes(rest, u32_le(length.at), out);
}

static enum err corrupt(struct errmsg *em, const char *what)
{
    errmsg_set(em, "checkpoint: %s", what);
    return ERR_CORRUPT;
}

/* --- "L" and "T" ---------------------------------------------------------------------- */

static enum err load_lease(struct checkpoint_load *load, struct slice name, struct slice body,
                           struct errmsg *em)
{
    int64_t ttl_ms, deadline_ms;
    if (name.len != 9) return corrupt(em, "name of a lease has the wrong length");
    if (!take_ms(&body, &ttl_ms) || !take_ms(&body, &deadline_ms) || body.len != 0) {
        return corrupt(em, "record of a lease is cut");
    }
    if (lease_load(load->s->leases, u64_be(name.at + 1), ttl_ms, deadline_ms) != OK) {
        return corrupt(em, "record of a lease is impossible");
    }
    return OK;
}

static void pending_add(struct buf *list, const struct pending_life *p, struct slice key)
{
    uint8_t *to = buf_reserve(list, sizeof *p + key.len);
    memcpy(to, p, sizeof *p);
    memcpy(to + sizeof *p, key.at, key.len);
    list->len += sizeof *p + key.len;
}

static enum err load_life(struct checkpoint_load *load, struct slice name, struct slice body,
                          struct errmsg *em)
{
    struct slice key = { name.at + 1, name.len - 1 };
    struct pending_life p = { .record = { .recorded = true } };
    if (key.len == 0 || key.len > MVCC_KEY_BYTES_MAX) return corrupt(em, "lifetime without a key");
    p.key_bytes = (uint32_t)key.len;
    if (!take_varint(&body, &p.mod) || !take_varint(&body, &p.record.lease_id) ||
        !take_ms(&body, &p.record.deadline_ms) || !take_ms(&body, &p.record.unix_ms) ||
        !take_varint(&body, &p.record.life_index) || body.len != 0) {
        return corrupt(em, "record of a lifetime is cut");
    }
    pending_add(&load->own_lives, &p, key);
    return OK;
}

/* --- "S" ------------------------------------------------------------------------------ */

static bool load_alarms(struct state *s, struct slice section)
{
    uint64_t count, kind;
    if (!take_varint(&section, &count) || count > ALARM_COUNT_MAX) return false;
    for (size_t i = 0; i < count; i++) {
        struct alarm *a = &s->alarms[i];
        if (!take_varint(&section, &kind) || kind > UINT32_MAX) return false;
        if (!take_u64(&section, &a->member)) return false;
        a->kind = (uint32_t)kind;
        bool ascends = i == 0 || a[-1].kind < a->kind ||
                       (a[-1].kind == a->kind && a[-1].member < a->member);
        if (!ascends) return false;
    }
    s->alarm_count = (size_t)count;
    return section.len == 0;
}

static enum err load_sections(struct state *s, struct slice body, struct errmsg *em)
{
    struct slice settings, dedup, retention, alarms;
    if (!take_section(&body, &settings) || !take_section(&body, &dedup) ||
        !take_section(&body, &retention) || !take_section(&body, &alarms) || body.len != 0) {
        return corrupt(em, "record of the state is cut");
    }
    TRY(settings_decode(&s->settings, settings, em));
    if (!MUTANT(DEDUP_NOT_LOADED) && dedup_decode(&s->dedup, dedup) != OK) return corrupt(em, "dedup windows are impossible");
    if (retention_decode(&s->retention, retention) != OK) {
        return corrupt(em, "retention samples are impossible");
    }
    if (!load_alarms(s, alarms)) return corrupt(em, "alarms are impossible");
    return OK;
}

static enum err load_state(struct checkpoint_load *load, struct slice name, struct slice body,
                           struct errmsg *em)
{
    struct state *s = load->s;
    uint64_t wall_ms, compacted, counter;
    if (name.len != 1) return corrupt(em, "name that no cut has written");
    if (load->has_state) return corrupt(em, "two records of the state");
    if (!take_u64(&body, &s->applied_index) || !take_u64(&body, &s->applied_term) ||
        !take_u64(&body, &s->stamp_ms) || !take_u64(&body, &wall_ms) ||
        !take_u64(&body, &load->rev) || !take_u64(&body, &compacted) ||
        !take_u64(&body, &load->live_count) || !take_u64(&body, &load->hash) ||
        !take_u64(&body, &counter) || !take_u64(&body, &load->lease_count)) {
        return corrupt(em, "record of the state is cut");
    }
    if (load->rev == 0 || compacted > load->rev || counter == 0 || counter > LEASE_ID_COUNTER_MAX) {
        return corrupt(em, "record of the state is impossible");
    }
    TRY(load_sections(s, body, em));
    s->wall_ms = (int64_t)wall_ms;
    lease_counter_load(s->leases, counter);
    mvcc_load_begin(s->mvcc, compacted, MIN(load->live_count, EXPECTED_COUNT_MAX));
    load->has_state = true;
    return OK;
}

enum err checkpoint_load_meta(struct checkpoint_load *load, struct slice name, struct slice value,
                              struct errmsg *em)
{
    ASSERT(checkpoint_owns_name(name));
    if (value.len < 1 + META_CRC_BYTES) return corrupt(em, "value is cut");
    struct slice body = { value.at, value.len - META_CRC_BYTES };
    if (meta_crc(name, body) != u32_le(body.at + body.len)) {
        return corrupt(em, "checksum of a value does not match");
    }
    if (body.at[0] != CHECKPOINT_FORMAT) {
        errmsg_set(em, "checkpoint: format %u is not known to this version", body.at[0]);
        return ERR_UNSUPPORTED;
    }
    body = (struct slice){ body.at + 1, body.len - 1 };
    switch (name.at[0]) {
    case META_LEASE: return load_lease(load, name, body, em);
    case META_LIFE: return load_life(load, name, body, em);
    default: return load_state(load, name, body, em);
    }
}

/* --- packs ---------------------------------------------------------------------------- */

static void note_dead(const struct checkpoint_dead *dead, const struct mvcc_dead *rows)
{
    if (dead == NULL || dead->note == NULL) return;
    for (size_t i = 0; i < rows->count; i++) dead->note(dead->ctx, rows->rev[i], rows->key[i]);
}

static void note_life(struct checkpoint_load *load, const struct row *row)
{
    struct pending_life p = {
        .mod = row->rev,
        .record = { .lease_id = row->lease, .deadline_ms = row->deadline_ms,
                    .unix_ms = row->unix_ms, .life_index = row->life_index },
        .key_bytes = (uint32_t)row->key.len,
    };
    pending_add(&load->row_lives, &p, row->key);
}

/* Rows decoded ahead, so that the look-ups of their keys overlap their cache misses. */
#define LOAD_GROUP 16

static enum err rows_decode(struct slice pack, size_t *offset, uint64_t first_rev,
                            struct row rows[LOAD_GROUP], size_t *count, const struct mvcc *m,
                            struct errmsg *em)
{
    *count = 0;
    while (*offset < pack.len && *count < LOAD_GROUP) {
        struct row *row = &rows[*count];
        if (row_decode(pack, offset, first_rev, row) != OK) {
            errmsg_set(em, "checkpoint: pack %llu is no pack of rows",
                       (unsigned long long)first_rev);
            return ERR_CORRUPT;
        }
        mvcc_prefetch_slot(m, mvcc_key_hash(m, row->key));
        *count += 1;
    }
    return OK;
}

static enum err row_load(struct checkpoint_load *load, const struct row *row, uint64_t first_rev,
                         const struct checkpoint_dead *dead, struct errmsg *em)
{
    struct mvcc_dead rows = { .count = 0 };
    if (row->rev > load->rev) return corrupt(em, "row beyond the newest revision");
    if (mvcc_load_row(load->s->mvcc, row, &rows) != OK) {
        errmsg_set(em, "checkpoint: pack %llu has an impossible row of revision %llu",
                   (unsigned long long)first_rev, (unsigned long long)row->rev);
        return ERR_CORRUPT;
    }
    if (rows.count != 0) note_dead(dead, &rows);
    load->last_rev = row->rev;
    if (row->op != ROW_PUT) return OK; /* a tombstone says which lease the key had */
    if (row->lease != 0 || row->life_index != 0) note_life(load, row);
    return OK;
}

enum err checkpoint_load_pack(struct checkpoint_load *load, uint64_t first_rev, struct slice pack,
                              const struct checkpoint_dead *dead, struct errmsg *em)
{
    size_t offset;
    if (!load->has_state) return corrupt(em, "rows without a record of the state");
    if (first_rev < load->last_rev) return corrupt(em, "packs out of order");
    TRY(pack_begin(pack, &offset));
    while (offset < pack.len) {
        struct row rows[LOAD_GROUP];
        size_t count = 0;
        TRY(rows_decode(pack, &offset, first_rev, rows, &count, load->s->mvcc, em));
        for (size_t i = 0; i < count; i++) TRY(row_load(load, &rows[i], first_rev, dead, em));
    }
    return OK;
}

/* --- the end -------------------------------------------------------------------------- */

/* A lifetime of the list, and where its key is found. */
struct placed_life {
    struct pending_life pending;
    struct slice key;
    uint64_t hash;
};

static size_t group_take(const struct mvcc *m, const struct buf *list, size_t *offset,
                         struct placed_life group[PLACE_GROUP])
{
    size_t count = 0;
    for (; count < PLACE_GROUP && *offset < list->len; count++) {
        struct placed_life *p = &group[count];
        memcpy(&p->pending, list->at + *offset, sizeof p->pending);
        p->key = (struct slice){ list->at + *offset + sizeof p->pending, p->pending.key_bytes };
        *offset += sizeof p->pending + p->key.len;
        p->hash = mvcc_key_hash(m, p->key);
        mvcc_prefetch_slot(m, p->hash);
    }
    for (size_t i = 0; i < count; i++) mvcc_prefetch_entry(m, group[i].hash);
    return count;
}

/* A lifetime counts only if its row is the key's present version. */
static enum err place_life(struct state *s, const struct placed_life *p)
{
    const struct entry *e = mvcc_find_hashed(s->mvcc, p->hash, p->key);
    bool present = e != NULL && e->mod == p->pending.mod && entry_life(e) == NULL;
    if (!present) {
        /* No cut leaves such a record. It means nothing; the hash says if one is missing. */
        if (p->pending.record.recorded) life_record_forget(s->leases, p->key);
        return OK;
    }
    struct life *life;
    TRY(life_load(s->leases, p->key, &p->pending.record, &life));
    mvcc_set_life(s->mvcc, p->key, life);
    return OK;
}

static enum err place_lives(struct checkpoint_load *load, const struct buf *list)
{
    struct placed_life group[PLACE_GROUP];
    for (size_t offset = 0; offset < list->len;) {
        size_t count = group_take(load->s->mvcc, list, &offset, group);
        for (size_t i = 0; i < count; i++) TRY(place_life(load->s, &group[i]));
    }
    return OK;
}

static enum err load_finish(struct checkpoint_load *load, struct errmsg *em)
{
    struct state *s = load->s;
    if (!load->has_state) return corrupt(em, "no record of the state");
    mvcc_load_end(s->mvcc, load->rev);
    if (place_lives(load, &load->own_lives) != OK || place_lives(load, &load->row_lives) != OK) {
        return corrupt(em, "a key has an impossible lifetime or a lease that is missing");
    }
    if (lease_count(s->leases) != load->lease_count) return corrupt(em, "number of leases differs");
    if (mvcc_live_count(s->mvcc) != load->live_count) return corrupt(em, "number of keys differs");
    if (state_hash(s) != load->hash) {
        errmsg_set(em, "checkpoint: state hash is %016llx, recorded is %016llx",
                   (unsigned long long)state_hash(s), (unsigned long long)load->hash);
        return ERR_CORRUPT;
    }
    return OK;
}

enum err checkpoint_load_end(struct checkpoint_load *load, struct errmsg *em)
{
    enum err e = load_finish(load, em);
    checkpoint_load_free(load);
    return e;
}

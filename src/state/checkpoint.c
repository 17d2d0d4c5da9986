/* state/checkpoint.c - see checkpoint.h: what a cut writes. Reading it is checkpoint_load.c. */
#include "state/checkpoint.h"

#include "state/checkpoint_int.h"
#include "state/state_int.h"

/* In struct checkpoint.metas: u8 1 put or 0 delete | u32 length, name | u32 length, value. */
#define META_HEAD_BYTES 5

uint32_t meta_crc(struct slice name, struct slice versioned_body)
{
    uint32_t crc = crc32c(0, name.at, name.len);
    return crc32c(crc, versioned_body.at, versioned_body.len);
}

/* A value while it is written. */
struct meta_open {
    size_t name_at, name_len, value_at;
};

static struct meta_open meta_begin(struct buf *metas, bool is_put, char letter, struct slice rest)
{
    struct meta_open open = { .name_len = 1 + rest.len };
    buf_append_u8(metas, is_put);
    buf_append_u32(metas, (uint32_t)open.name_len);
    open.name_at = metas->len;
    buf_append_u8(metas, (uint8_t)letter);
    buf_append_slice(metas, rest);
    buf_append_u32(metas, 0); /* the value's length, set by meta_end */
    open.value_at = metas->len;
    if (is_put) buf_append_u8(metas, CHECKPOINT_FORMAT);
    return open;
}

static void meta_end(struct buf *metas, struct meta_open open)
{
    struct slice name = { metas->at + open.name_at, open.name_len };
    struct slice value = { metas->at + open.value_at, metas->len - open.value_at };
    buf_append_u32(metas, meta_crc(name, value));
    size_t value_bytes = metas->len - open.value_at;
    ASSERT(value_bytes <= UINT32_MAX);
    u32_le_put(metas->at + open.value_at - 4, (uint32_t)value_bytes);
}

static void put_lease(struct buf *metas, const struct lease *l)
{
    uint8_t id[8];
    u64_be_put(id, l->id);
    struct meta_open open = meta_begin(metas, true, META_LEASE, (struct slice){ id, sizeof id });
    buf_append_varint(metas, (uint64_t)l->ttl_ms);
    buf_append_varint(metas, (uint64_t)l->deadline_ms);
    meta_end(metas, open);
}

static void put_life(struct buf *metas, const struct life *life)
{
    const struct entry *e = life->entry;
    ASSERT(e != NULL && !entry_is_ghost(e) && entry_life(e) == life);
    struct meta_open open = meta_begin(metas, true, META_LIFE, entry_key(e));
    buf_append_varint(metas, e->mod);
    buf_append_varint(metas, life->lease_id);
    buf_append_varint(metas, (uint64_t)life->deadline_ms);
    buf_append_varint(metas, (uint64_t)life->unix_ms);
    buf_append_varint(metas, life->life_index);
    meta_end(metas, open);
}

/* What went first: an id or a key may have come again. */
static void cut_removed(const struct lease_table *t, struct buf *metas)
{
    uint64_t id;
    for (size_t at = 0; lease_removed_at(t, at, &id); at++) {
        uint8_t name[8];
        u64_be_put(name, id);
        meta_begin(metas, false, META_LEASE, (struct slice){ name, sizeof name });
    }
    struct slice key;
    for (size_t offset = 0; life_gone_next(t, &offset, &key);) {
        meta_begin(metas, false, META_LIFE, key);
    }
}

static void cut_changed(const struct lease_table *t, struct buf *metas)
{
    const struct lease *l;
    for (size_t at = 0; lease_changed_at(t, at, &l); at++) {
        if (l != NULL) put_lease(metas, l);
    }
    const struct life *life;
    for (size_t at = 0; life_changed_at(t, at, &life); at++) {
        if (life != NULL) put_life(metas, life);
    }
}

static size_t section_begin(struct buf *out)
{
    buf_append_u32(out, 0);
    return out->len;
}

static void section_end(struct buf *out, size_t begin)
{
    u32_le_put(out->at + begin - 4, (uint32_t)(out->len - begin));
}

static void cut_state(const struct state *s, const struct checkpoint *c, struct buf *metas)
{
    struct meta_open open = meta_begin(metas, true, META_STATE, SLICE_NONE);
    buf_append_u64(metas, c->applied_index);
    buf_append_u64(metas, c->applied_term);
    buf_append_u64(metas, s->stamp_ms);
    buf_append_u64(metas, (uint64_t)s->wall_ms);
    buf_append_u64(metas, c->rev);
    buf_append_u64(metas, c->compacted);
    buf_append_u64(metas, mvcc_live_count(s->mvcc));
    buf_append_u64(metas, c->hash);
    buf_append_u64(metas, lease_counter(s->leases));
    buf_append_u64(metas, lease_count(s->leases));
    size_t begin = section_begin(metas);
    settings_encode(&s->settings, metas);
    section_end(metas, begin);
    begin = section_begin(metas);
    dedup_encode(&s->dedup, metas);
    section_end(metas, begin);
    begin = section_begin(metas);
    retention_encode(&s->retention, metas);
    section_end(metas, begin);
    begin = section_begin(metas);
    buf_append_varint(metas, s->alarm_count);
    for (size_t i = 0; i < s->alarm_count; i++) {
        buf_append_varint(metas, s->alarms[i].kind);
        buf_append_u64(metas, s->alarms[i].member);
    }
    section_end(metas, begin);
    meta_end(metas, open);
}

static void cut_packs(struct mvcc *m, struct checkpoint *out)
{
    struct mvcc_pack pack;
    size_t cap = 0;
    mvcc_packs_seal(m);
    while (mvcc_packs_take(m, &pack)) {
        if (out->pack_count == cap) {
            cap = MAX(cap * 2, 16);
            out->packs = mem_realloc(out->packs, cap * sizeof *out->packs);
        }
        out->packs[out->pack_count++] = pack;
    }
}

void checkpoint_cut(struct state *s, struct checkpoint *out)
{
    *out = (struct checkpoint){
        .applied_index = s->applied_index,
        .applied_term = s->applied_term,
        .rev = mvcc_rev(s->mvcc),
        .compacted = mvcc_compacted(s->mvcc),
        .hash = state_hash(s),
    };
    cut_packs(s->mvcc, out);
    cut_removed(s->leases, &out->metas);
    cut_changed(s->leases, &out->metas);
    cut_state(s, out, &out->metas);
    lease_changes_clear(s->leases);
}

void checkpoint_deinit(struct checkpoint *c)
{
    for (size_t i = 0; i < c->pack_count; i++) blob_unref(c->packs[i].body);
    mem_free(c->packs);
    buf_deinit(&c->metas);
    *c = (struct checkpoint){ 0 };
}

bool checkpoint_next_meta(const struct checkpoint *c, size_t *offset, struct checkpoint_meta *out)
{
    if (*offset == c->metas.len) return false;
    const uint8_t *at = c->metas.at + *offset;
    out->is_put = at[0] != 0;
    out->name = (struct slice){ at + META_HEAD_BYTES, u32_le(at + 1) };
    const uint8_t *value = out->name.at + out->name.len;
    out->value = (struct slice){ value + 4, u32_le(value) };
    *offset += META_HEAD_BYTES + out->name.len + 4 + out->value.len;
    ASSERT(*offset <= c->metas.len);
    return true;
}

bool checkpoint_owns_name(struct slice name)
{
    if (name.len == 0) return false;
    return name.at[0] == META_LEASE || name.at[0] == META_STATE || name.at[0] == META_LIFE;
}

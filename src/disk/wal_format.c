/* disk/wal_format.c - see wal_format_int.h. */
#include "disk/wal_format_int.h"

#define SEGMENT_MAGIC 0x31535743u /* "CWS1" */
#define BATCH_MAGIC 0x31425743u   /* "CWB1" */

void wal_segment_head_encode(const struct wal_segment_head *h, uint8_t *out)
{
    memset(out, 0, WAL_SEGMENT_HEAD_BYTES);
    u32_le_put(out, SEGMENT_MAGIC);
    u32_le_put(out + 8, h->version);
    u32_le_put(out + 12, h->block_bytes);
    u64_le_put(out + 16, h->cluster_id);
    u64_le_put(out + 24, h->member_id);
    u64_le_put(out + 32, h->seq);
    u64_le_put(out + 40, h->segment_bytes);
    u64_le_put(out + 48, h->salt);
    u32_le_put(out + 56, h->group);
    u32_le_put(out + 4, crc32c(0, out + 8, WAL_SEGMENT_HEAD_BYTES - 8));
}

enum err wal_segment_head_decode(const uint8_t *in, struct wal_segment_head *out,
                                 struct errmsg *em)
{
    if (u32_le(in) != SEGMENT_MAGIC) {
        errmsg_set(em, "the header does not begin like one");
        return ERR_CORRUPT;
    }
    if (u32_le(in + 4) != crc32c(0, in + 8, WAL_SEGMENT_HEAD_BYTES - 8)) {
        errmsg_set(em, "the header's checksum does not match");
        return ERR_CORRUPT;
    }
    struct wal_segment_head h = {
        .version = u32_le(in + 8),
        .block_bytes = u32_le(in + 12),
        .cluster_id = u64_le(in + 16),
        .member_id = u64_le(in + 24),
        .seq = u64_le(in + 32),
        .segment_bytes = u64_le(in + 40),
        .salt = u64_le(in + 48),
        .group = u32_le(in + 56),
    };
    if (h.version != WAL_VERSION) {
        errmsg_set(em, "format version %u; this program knows %d", h.version, WAL_VERSION);
        return ERR_UNSUPPORTED;
    }
    bool block_fits = h.block_bytes >= DISK_BLOCK_BYTES_MIN &&
                      h.block_bytes <= DISK_BLOCK_BYTES_MAX &&
                      (h.block_bytes & (h.block_bytes - 1)) == 0;
    bool size_fits = h.segment_bytes >= WAL_SEGMENT_BYTES_MIN &&
                     h.segment_bytes <= WAL_SEGMENT_BYTES_MAX && block_fits &&
                     h.segment_bytes % h.block_bytes == 0 && h.segment_bytes / h.block_bytes >= 4;
    if (!size_fits || h.seq == 0 || h.seq > UINT32_MAX) {
        errmsg_set(em, "the header's numbers are impossible: block %u, size %llu, sequence %llu",
                   h.block_bytes, (unsigned long long)h.segment_bytes, (unsigned long long)h.seq);
        return ERR_CORRUPT;
    }
    *out = h;
    return OK;
}

uint32_t wal_seed(uint64_t salt, uint64_t segment_seq)
{
    uint64_t mixed = u64_mix(salt ^ u64_mix(segment_seq + 0x9e3779b97f4a7c15ULL));
    return (uint32_t)(mixed ^ mixed >> 32);
}

static size_t round_up(size_t bytes, uint32_t block_bytes)
{
    return (bytes + block_bytes - 1) / block_bytes * block_bytes;
}

size_t wal_batch_bytes(size_t record_count, size_t body_bytes, uint32_t block_bytes)
{
    return round_up(WAL_BATCH_HEAD_BYTES + record_count * WAL_RECORD_HEAD_BYTES + body_bytes,
                    block_bytes);
}

static void record_head_encode(const struct wal_record *r, uint8_t *out)
{
    out[0] = (uint8_t)r->type;
    out[1] = r->entry_type;
    u16_le_put(out + 2, 0);
    u32_le_put(out + 4, (uint32_t)r->body.len);
    u32_le_put(out + 8, r->crc);
    u32_le_put(out + 12, 0);
    u64_le_put(out + 16, r->term);
    u64_le_put(out + 24, r->index);
}

void wal_batch_encode(struct wal_batch *b, const struct wal_record *records, uint32_t seed,
                      uint8_t *out)
{
    u32_le_put(out, BATCH_MAGIC);
    u32_le_put(out + 8, b->bytes);
    u32_le_put(out + 12, b->record_count);
    u64_le_put(out + 16, b->seq);
    u64_le_put(out + 24, b->durable_seq);
    u32_le_put(out + 32, b->prev_crc);
    u32_le_put(out + 36, b->flags);
    u64_le_put(out + 40, b->segment_seq);
    u64_le_put(out + 48, b->hard.term);
    u64_le_put(out + 56, b->hard.vote);
    u64_le_put(out + 64, b->hard.commit);
    u64_le_put(out + 72, b->before.index);
    u64_le_put(out + 80, b->before.term);
    u64_le_put(out + 88, 0);

    uint8_t *head = out + WAL_BATCH_HEAD_BYTES;
    uint8_t *body = head + (size_t)b->record_count * WAL_RECORD_HEAD_BYTES;
    for (uint32_t i = 0; i < b->record_count; i++, head += WAL_RECORD_HEAD_BYTES) {
        record_head_encode(&records[i], head);
        if (records[i].body.len == 0) continue;
        memcpy(body, records[i].body.at, records[i].body.len);
        body += records[i].body.len;
    }
    size_t used = (size_t)(body - out);
    ASSERT(used <= b->bytes);
    memset(body, 0, b->bytes - used);
    b->crc = crc32c(seed, out + 8,
                    WAL_BATCH_HEAD_BYTES - 8 + (size_t)b->record_count * WAL_RECORD_HEAD_BYTES);
    u32_le_put(out + 4, b->crc);
}

/* The lengths are checked before the CRC only as far as reading the CRC's own range needs. Recycled
 * space may hold what a client chose: each block that looks like a head costs the heads it claims. */
enum err wal_batch_decode_head(struct slice in, uint32_t seed, uint32_t block_bytes,
                               uint64_t bytes_max, struct wal_batch *out, struct errmsg *em)
{
    if (in.len < WAL_BATCH_HEAD_BYTES) return ERR_AGAIN;
    const uint8_t *p = in.at;
    if (u32_le(p) != BATCH_MAGIC) {
        errmsg_set(em, "no batch begins here");
        return ERR_CORRUPT;
    }
    uint32_t bytes = u32_le(p + 8);
    uint32_t record_count = u32_le(p + 12);
    size_t heads_bytes = (size_t)record_count * WAL_RECORD_HEAD_BYTES;
    if (bytes == 0 || bytes % block_bytes != 0 || bytes > bytes_max ||
        bytes > WAL_BATCH_BYTES_MAX || record_count > WAL_RECORDS_MAX ||
        heads_bytes > bytes - WAL_BATCH_HEAD_BYTES) {
        errmsg_set(em, "the batch's length %u or record count %u is impossible", bytes,
                   record_count);
        return ERR_CORRUPT;
    }
    if (in.len < WAL_BATCH_HEAD_BYTES + heads_bytes) return ERR_AGAIN;
    uint32_t crc = u32_le(p + 4);
    if (crc != crc32c(seed, p + 8, WAL_BATCH_HEAD_BYTES - 8 + heads_bytes)) {
        errmsg_set(em, "the batch's header checksum does not match");
        return ERR_CORRUPT;
    }
    *out = (struct wal_batch){
        .crc = crc,
        .bytes = bytes,
        .record_count = record_count,
        .seq = u64_le(p + 16),
        .durable_seq = u64_le(p + 24),
        .prev_crc = u32_le(p + 32),
        .flags = u32_le(p + 36),
        .segment_seq = u64_le(p + 40),
        .hard = { u64_le(p + 48), u64_le(p + 56), u64_le(p + 64) },
        .before = { u64_le(p + 72), u64_le(p + 80) },
        .heads = p + WAL_BATCH_HEAD_BYTES,
    };
    return OK;
}

static enum err bodies_verify(const struct wal_batch *b, struct errmsg *em)
{
    size_t room = b->bytes - WAL_BATCH_HEAD_BYTES - (size_t)b->record_count * WAL_RECORD_HEAD_BYTES;
    size_t used = 0;
    for (uint32_t i = 0; i < b->record_count; i++) {
        const uint8_t *head = b->heads + (size_t)i * WAL_RECORD_HEAD_BYTES;
        uint32_t len = u32_le(head + 4);
        if (len > room - used) {
            errmsg_set(em, "record %u is longer than its batch", i);
            return ERR_CORRUPT;
        }
        if (crc32c(0, b->bodies + used, len) != u32_le(head + 8) && !MUTANT(TORN_TAIL_TAKEN)) {
            errmsg_set(em, "the checksum of record %u (index %llu) does not match", i,
                       (unsigned long long)u64_le(head + 24));
            return ERR_CORRUPT;
        }
        used += len;
    }
    return OK;
}

enum err wal_batch_decode(struct slice in, uint32_t seed, uint32_t block_bytes, uint64_t bytes_max,
                          struct wal_batch *out, struct errmsg *em)
{
    struct wal_batch b;
    TRY(wal_batch_decode_head(in, seed, block_bytes, bytes_max, &b, em));
    if (in.len < b.bytes) return ERR_AGAIN;
    b.bodies = b.heads + (size_t)b.record_count * WAL_RECORD_HEAD_BYTES;
    TRY(bodies_verify(&b, em));
    *out = b;
    return OK;
}

bool wal_record_next(const struct wal_batch *b, struct wal_record_cursor *cx,
                     struct wal_record *out)
{
    if (cx->at == b->record_count) return false;
    const uint8_t *head = b->heads + (size_t)cx->at * WAL_RECORD_HEAD_BYTES;
    uint32_t len = u32_le(head + 4);
    *out = (struct wal_record){
        .type = (enum wal_record_type)head[0],
        .entry_type = head[1],
        .crc = u32_le(head + 8),
        .term = u64_le(head + 16),
        .index = u64_le(head + 24),
        .body = { b->bodies == NULL ? NULL : b->bodies + cx->body_offset, len },
    };
    cx->at++;
    cx->body_offset += len;
    return true;
}

static enum err effect_broken(const struct wal_record *r, const struct wal_effect *fx,
                              const char *what, struct errmsg *em)
{
    errmsg_set(em, "%s at index %llu term %llu behind index %llu term %llu", what,
               (unsigned long long)r->index, (unsigned long long)r->term,
               (unsigned long long)fx->last.index, (unsigned long long)fx->last.term);
    return ERR_CORRUPT;
}

static enum err effect_entry(const struct wal_record *r, struct wal_effect *fx, struct errmsg *em)
{
    if (r->index != fx->last.index + 1 || r->term < fx->last.term || r->term == 0) {
        return effect_broken(r, fx, "an entry", em);
    }
    fx->last = (struct wal_mark){ r->index, r->term };
    if (fx->run_first == 0) fx->run_first = r->index;
    fx->entry_count++;
    return OK;
}

static enum err effect_truncate(const struct wal_record *r, struct wal_effect *fx,
                                struct errmsg *em)
{
    if (r->index == 0 || r->index > fx->last.index + 1 || r->term > fx->last.term ||
        (fx->restart.index != 0 && r->index <= fx->restart.index)) {
        return effect_broken(r, fx, "a truncation", em);
    }
    fx->last = (struct wal_mark){ r->index - 1, r->term };
    if (fx->run_first >= r->index) fx->run_first = 0;
    if (!fx->has_cut || r->index - 1 < fx->cut.index) fx->cut = fx->last;
    fx->has_cut = true;
    return OK;
}

static enum err effect_mark(const struct wal_batch *b, const struct wal_record *r,
                            struct wal_effect *fx, struct errmsg *em)
{
    bool repeated = r->entry_type == WAL_MARK_REPEATED;
    if (r->index == 0 || (repeated && (b->flags & WAL_BATCH_OPENS) == 0)) {
        return effect_broken(r, fx, "a snapshot mark", em);
    }
    struct wal_mark mark = { r->index, r->term };
    if (r->type == WAL_RECORD_SNAPSHOT_BEGIN) {
        fx->snapshot_begin = mark;
        return OK;
    }
    fx->snapshot = mark;
    if (repeated) return OK;
    fx->restart = mark;
    fx->last = mark;
    fx->run_first = 0;
    fx->has_cut = false;
    return OK;
}

enum err wal_batch_effect(const struct wal_batch *b, struct wal_effect *out, struct errmsg *em)
{
    struct wal_effect fx = { .last = b->before };
    struct wal_record_cursor cx = { 0 };
    struct wal_record r;
    while (wal_record_next(b, &cx, &r)) {
        if (r.type == WAL_RECORD_ENTRY) {
            TRY(effect_entry(&r, &fx, em));
        } else if (r.type == WAL_RECORD_TRUNCATE) {
            TRY(effect_truncate(&r, &fx, em));
        } else if (r.type == WAL_RECORD_SNAPSHOT_BEGIN || r.type == WAL_RECORD_SNAPSHOT) {
            TRY(effect_mark(b, &r, &fx, em));
        } else {
            errmsg_set(em, "record type %d is unknown", (int)r.type);
            return ERR_UNSUPPORTED;
        }
    }
    if (b->hard.commit > fx.last.index) {
        errmsg_set(em, "commit %llu is beyond the last index %llu",
                   (unsigned long long)b->hard.commit, (unsigned long long)fx.last.index);
        return ERR_CORRUPT;
    }
    *out = fx;
    return OK;
}

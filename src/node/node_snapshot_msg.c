/* node/node_snapshot_msg.c - see node_snapshot_msg.h. */
#include "node/node_snapshot_msg.h"

#define HEAD_BYTES 9u
#define CRC_BYTES 4u
#define CHUNK_BYTES_MAX MAX(STORE_EXPORT_CHUNK_BYTES, STORE_RECORD_BYTES_MAX)

const char *snapshot_reason_name(enum snapshot_reason reason)
{
    static const char *const names[] = {
        [SNAPSHOT_BUSY] = "busy",       [SNAPSHOT_UNWANTED] = "unwanted",
        [SNAPSHOT_UNSUPPORTED] = "unsupported", [SNAPSHOT_GAP] = "gap",
        [SNAPSHOT_DAMAGED] = "damaged", [SNAPSHOT_FAILED] = "failed",
        [SNAPSHOT_UNKNOWN] = "unknown",
    };
    return (size_t)reason < ARRAY_LEN(names) && names[reason] != NULL ? names[reason] : "other";
}

void snapshot_msg_encode(struct buf *out, const struct snapshot_msg *m)
{
    buf_clear(out);
    buf_append_u8(out, (uint8_t)m->kind);
    buf_append_u64(out, m->id);
    switch ((int)m->kind) {
    case SNAPSHOT_BEGIN:
        buf_append_u32(out, m->format);
        buf_append_u32(out, m->store_format);
        buf_append_u32(out, m->checkpoint_format);
        buf_append_u64(out, m->view.applied_index);
        buf_append_u64(out, m->view.applied_term);
        buf_append_u64(out, m->view.compacted_rev);
        buf_append_u64(out, m->view.floor_rev);
        break;
    case SNAPSHOT_CHUNK:
        ASSERT(m->bytes.len <= CHUNK_BYTES_MAX);
        buf_append_u64(out, m->seq);
        buf_append_slice(out, m->bytes);
        break;
    case SNAPSHOT_END:
        buf_append_u64(out, m->seq);
        buf_append_u64(out, m->count);
        buf_append_u32(out, m->crc);
        break;
    case SNAPSHOT_ACK:
        buf_append_u64(out, m->seq);
        buf_append_u8(out, (uint8_t)m->stage);
        break;
    default:
        ASSERT(m->kind == SNAPSHOT_REFUSE);
        buf_append_u8(out, (uint8_t)m->reason);
    }
    buf_append_u32(out, crc32c(0, out->at, out->len));
}

/* The fields of everything but CHUNK have one length. */
static size_t fields_bytes(enum snapshot_kind kind)
{
    switch ((int)kind) {
    case SNAPSHOT_BEGIN: return 44;
    case SNAPSHOT_END: return 20;
    case SNAPSHOT_ACK: return 9;
    case SNAPSHOT_REFUSE: return 1;
    default: return 0;
    }
}

static enum err decode_begin(const uint8_t *at, struct snapshot_msg *m)
{
    m->format = u32_le(at);
    m->store_format = u32_le(at + 4);
    m->checkpoint_format = u32_le(at + 8);
    m->view = (struct store_view){ u64_le(at + 12), u64_le(at + 20), u64_le(at + 28),
                                   u64_le(at + 36) };
    bool can_be = m->view.applied_index != 0 && m->view.applied_term != 0 &&
                  m->view.floor_rev <= m->view.compacted_rev;
    return can_be ? OK : ERR_PROTO;
}

static enum err decode_fields(const uint8_t *at, struct snapshot_msg *m)
{
    switch ((int)m->kind) {
    case SNAPSHOT_BEGIN:
        return decode_begin(at, m);
    case SNAPSHOT_END:
        m->seq = u64_le(at);
        m->count = u64_le(at + 8);
        m->crc = u32_le(at + 16);
        return OK;
    case SNAPSHOT_ACK:
        m->seq = u64_le(at);
        m->stage = at[8];
        return at[8] >= SNAPSHOT_WAITS && at[8] <= SNAPSHOT_INSTALLED ? OK : ERR_PROTO;
    default:
        ASSERT(m->kind == SNAPSHOT_REFUSE);
        m->reason = at[0];
        return at[0] != 0 ? OK : ERR_PROTO;
    }
}

enum err snapshot_msg_decode(struct slice payload, struct snapshot_msg *out)
{
    if (payload.len < HEAD_BYTES + CRC_BYTES) return ERR_PROTO;
    const uint8_t *at = payload.at;
    if (at[0] < SNAPSHOT_BEGIN || at[0] > SNAPSHOT_REFUSE) return ERR_PROTO;
    size_t bytes = payload.len - CRC_BYTES;
    if (bytes > HEAD_BYTES + 8 + CHUNK_BYTES_MAX) return ERR_PROTO;
    if (crc32c(0, at, bytes) != u32_le(at + bytes)) return ERR_CORRUPT;
    struct snapshot_msg m = { .kind = at[0], .id = u64_le(at + 1) };
    if (m.kind == SNAPSHOT_CHUNK) {
        if (bytes < HEAD_BYTES + 8) return ERR_PROTO;
        m.seq = u64_le(at + HEAD_BYTES);
        m.bytes = (struct slice){ at + HEAD_BYTES + 8, bytes - HEAD_BYTES - 8 };
    } else {
        if (bytes != HEAD_BYTES + fields_bytes(m.kind)) return ERR_PROTO;
        TRY(decode_fields(at + HEAD_BYTES, &m));
    }
    *out = m;
    return OK;
}

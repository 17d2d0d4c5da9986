/* mvcc/mvcc_row.c - see mvcc_row.h. */
#include "mvcc/mvcc_row.h"

#include "mvcc/mvcc_row_int.h"

enum { ROW_LEASE = 1, ROW_LIFE = 2, ROW_FLAGS = ROW_LEASE | ROW_LIFE };

#define LENGTH_BYTES_USUAL 2
#define ROW_FIXED_BYTES 4 /* op, type, flags, chain */
#define ROW_KEY_BYTES_MAX 65535
#define ROW_VALUE_BYTES_MAX (64u << 20)

static uint8_t row_flags(const struct row *r)
{
    unsigned flags = r->lease != 0 ? ROW_LEASE : 0;
    if (r->deadline_ms != 0 || r->unix_ms != 0 || r->life_index != 0) flags |= ROW_LIFE;
    return (uint8_t)flags;
}

static inline size_t number_put(uint8_t *out, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

/* What follows the body's length; returns its bytes. */
static size_t body_head_encode(uint8_t *head, const struct row *r, uint64_t base_rev)
{
    uint8_t flags = row_flags(r);
    head[0] = (uint8_t)r->op;
    head[1] = (uint8_t)r->type;
    head[2] = flags;
    head[3] = r->chain;
    size_t len = ROW_FIXED_BYTES;
    len += number_put(head + len, r->rev - base_rev);
    len += number_put(head + len, r->n);
    len += number_put(head + len, r->create);
    len += number_put(head + len, r->version);
    len += number_put(head + len, r->prev);
    len += number_put(head + len, r->jump);
    if ((flags & ROW_LEASE) != 0) len += number_put(head + len, r->lease);
    if ((flags & ROW_LIFE) != 0) {
        len += number_put(head + len, (uint64_t)r->deadline_ms);
        len += number_put(head + len, (uint64_t)r->unix_ms);
        len += number_put(head + len, r->life_index);
    }
    return len + number_put(head + len, r->key.len);
}

/* The length in front depends on what it is the length of: two bytes fit nearly always, else the
 * short head is moved. */
size_t row_head_encode(uint8_t *out, const struct row *r, uint64_t base_rev)
{
    ASSERT(r->rev >= base_rev);
    ASSERT(r->n >= 1);
    ASSERT(r->chain < MVCC_JUMP_STRIDE);
    ASSERT(r->key.len >= 1 && r->key.len <= ROW_KEY_BYTES_MAX);
    ASSERT(r->value.len <= ROW_VALUE_BYTES_MAX);

    size_t len = body_head_encode(out + LENGTH_BYTES_USUAL, r, base_rev);
    uint8_t length[VARINT_BYTES_MAX];
    size_t length_bytes = number_put(length, len + r->key.len + r->value.len);
    if (length_bytes != LENGTH_BYTES_USUAL) {
        memmove(out + length_bytes, out + LENGTH_BYTES_USUAL, len);
    }
    memcpy(out, length, length_bytes);
    return length_bytes + len;
}

void row_encode(struct buf *out, const struct row *r, uint64_t base_rev)
{
    uint8_t *to = buf_reserve(out, ROW_HEAD_BYTES_MAX + r->key.len + r->value.len);
    out->len += row_head_encode(to, r, base_rev);
    buf_append_slice(out, r->key);
    buf_append_slice(out, r->value);
}

/* Bytes of a row's body that are not read yet. */
struct rest {
    const uint8_t *at;
    size_t len;
};

static inline bool number_get(struct rest *rest, uint64_t *out)
{
    if (LIKELY(rest->len > 0 && rest->at[0] < 0x80)) {
        *out = rest->at[0];
        rest->at += 1;
        rest->len -= 1;
        return true;
    }
    size_t used = varint_get(rest->at, rest->len, out);
    rest->at += used;
    rest->len -= used;
    return used != 0;
}

static bool life_get(struct rest *rest, uint8_t flags, struct row *r)
{
    if ((flags & ROW_LEASE) != 0 && !number_get(rest, &r->lease)) return false;
    if ((flags & ROW_LIFE) == 0) return true;
    uint64_t deadline_ms = 0;
    uint64_t unix_ms = 0;
    if (!number_get(rest, &deadline_ms) || !number_get(rest, &unix_ms)) return false;
    r->deadline_ms = (int64_t)deadline_ms;
    r->unix_ms = (int64_t)unix_ms;
    return number_get(rest, &r->life_index);
}

/* What no writer of ours writes is damage. */
static bool row_is_possible(const struct row *r)
{
    if (r->key.len < 1 || r->key.len > ROW_KEY_BYTES_MAX) return false;
    if (r->prev >= r->rev || r->jump > r->prev || r->create > r->rev) return false;
    if (r->op == ROW_PUT) {
        return r->version >= 1 && r->create >= 1 && r->value.len <= ROW_VALUE_BYTES_MAX;
    }
    return r->version == 0 && r->create == 0 && r->value.len == 0;
}

static bool body_decode(struct rest rest, uint64_t base_rev, struct row *r)
{
    if (rest.len < ROW_FIXED_BYTES) return false;
    uint8_t op = rest.at[0];
    uint8_t type = rest.at[1];
    uint8_t flags = rest.at[2];
    r->chain = rest.at[3];
    if (op < ROW_PUT || op > ROW_EXPIRE || type > VALUE_LIST) return false;
    if ((flags & ~ROW_FLAGS) != 0 || r->chain >= MVCC_JUMP_STRIDE) return false;
    r->op = (enum row_op)op;
    r->type = (enum value_type)type;
    rest.at += ROW_FIXED_BYTES;
    rest.len -= ROW_FIXED_BYTES;

    uint64_t above_base = 0;
    uint64_t n = 0;
    uint64_t key_bytes = 0;
    if (!number_get(&rest, &above_base) || !number_get(&rest, &n)) return false;
    if (above_base > UINT64_MAX - base_rev || n < 1 || n > UINT32_MAX) return false;
    r->rev = base_rev + above_base;
    r->n = (uint32_t)n;
    if (!number_get(&rest, &r->create) || !number_get(&rest, &r->version)) return false;
    if (!number_get(&rest, &r->prev) || !number_get(&rest, &r->jump)) return false;
    if (!life_get(&rest, flags, r)) return false;
    if (!number_get(&rest, &key_bytes) || key_bytes > rest.len) return false;
    r->key = (struct slice){ rest.at, (size_t)key_bytes };
    r->value = (struct slice){ rest.at + key_bytes, rest.len - (size_t)key_bytes };
    return row_is_possible(r);
}

enum err row_decode(struct slice pack, size_t *offset, uint64_t base_rev, struct row *out)
{
    ASSERT(*offset <= pack.len);
    struct rest rest = { pack.at + *offset, pack.len - *offset };
    uint64_t body_bytes = 0;
    if (!number_get(&rest, &body_bytes) || body_bytes > rest.len) return ERR_CORRUPT;

    struct row r = { .lease = 0 };
    if (!body_decode((struct rest){ rest.at, (size_t)body_bytes }, base_rev, &r)) {
        return ERR_CORRUPT;
    }
    *out = r;
    *offset = (size_t)(rest.at - pack.at) + (size_t)body_bytes;
    return OK;
}

enum err pack_begin(struct slice pack, size_t *offset)
{
    if (pack.len < 1 || pack.at[0] != PACK_FORMAT) return ERR_CORRUPT;
    *offset = 1;
    return OK;
}

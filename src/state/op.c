/* state/op.c - one operation: encoding, checked decoding, the lists inside it. */
#include "state/op.h"

#include "mvcc/mvcc.h"
#include "state/op_int.h"

/* --- what each kind is made of ------------------------------------------------- */

struct kind_rule {
    uint16_t required; /* enum op_field */
    uint16_t optional;
    uint16_t flags;    /* OPF_* that mean something here */
    bool in_txn;       /* may be an element of a transaction */
    bool only_in_txn;
};

static const struct kind_rule rules[OP_KIND_END] = {
    [OP_NOOP] = { .in_txn = true },
    [OP_PUT] = { FIELD_KEY, FIELD_VALUE | FIELD_COND | FIELD_LIFE,
                 OPF_PREV | OPF_KEEP_VALUE | OPF_MUST_EXIST | OPF_KV, true, false },
    [OP_DEL] = { 0, FIELD_KEY | FIELD_COND | FIELD_LIST, OPF_PREV | OPF_KV, true, false },
    [OP_DEL_RANGE] = { FIELD_KEY | FIELD_KEY2, FIELD_NUMBER, OPF_PREV | OPF_KV, true, false },
    [OP_INCR] = { FIELD_KEY | FIELD_NUMBER, 0, 0, true, false },
    [OP_INCR_FLOAT] = { FIELD_KEY | FIELD_VALUE, 0, 0, true, false },
    [OP_APPEND] = { FIELD_KEY | FIELD_VALUE, 0, 0, true, false },
    [OP_SETRANGE] = { FIELD_KEY | FIELD_VALUE | FIELD_NUMBER, 0, 0, true, false },
    [OP_LIFE] = { FIELD_KEY | FIELD_LIFE, FIELD_NUMBER, OPF_PREV, true, false },
    [OP_RENAME] = { FIELD_KEY | FIELD_KEY2, 0, OPF_NX, true, false },
    [OP_COPY] = { FIELD_KEY | FIELD_KEY2, 0, OPF_REPLACE, true, false },
    [OP_MPUT] = { FIELD_LIST, FIELD_COND | FIELD_LIFE, 0, true, false },
    [OP_TXN] = { 0, FIELD_COMPARES | FIELD_LIST | FIELD_LIST2, OPF_REDIS, true, false },
    [OP_LEASE_GRANT] = { FIELD_NUMBER, FIELD_ID, 0, false, false },
    [OP_LEASE_REVOKE] = { FIELD_ID, 0, 0, false, false },
    [OP_LEASE_KEEPALIVE] = { FIELD_LIST, 0, 0, false, false },
    [OP_LEASE_ATTACH] = { FIELD_ID | FIELD_LIST, 0, 0, false, false },
    [OP_EXPIRE] = { 0, FIELD_LIST | FIELD_LIST2, 0, false, false },
    [OP_COMPACT] = { FIELD_NUMBER, 0, 0, false, false },
    [OP_CONFIG] = { FIELD_NAME | FIELD_VALUE, 0, 0, false, false },
    [OP_CLOCK] = { 0, 0, 0, false, false },
    [OP_ALARM] = { FIELD_NUMBER | FIELD_ID, 0, OPF_NX, false, false },
    [OP_SEQ] = { FIELD_KEY | FIELD_VALUE, FIELD_LIFE, OPF_KV, true, false },
    [OP_LOCAL] = { 0, FIELD_KEY, OPF_KV, true, true },
    [OP_INCARNATION] = { FIELD_ID | FIELD_NUMBER, 0, 0, false, false },
};

enum list_items { ITEMS_NONE, ITEMS_KEYS, ITEMS_PAIRS, ITEMS_IDS, ITEMS_OPS };

static enum list_items list_items(enum op_kind kind)
{
    if (kind == OP_MPUT) return ITEMS_PAIRS;
    if (kind == OP_TXN) return ITEMS_OPS;
    return kind == OP_LEASE_KEEPALIVE ? ITEMS_IDS : ITEMS_KEYS;
}

static enum list_items list2_items(enum op_kind kind)
{
    return kind == OP_TXN ? ITEMS_OPS : ITEMS_IDS;
}

/* --- encoding -------------------------------------------------------------------- */

static uint8_t *put_sized(uint8_t *to, struct slice s)
{
    u32_le_put(to, (uint32_t)s.len);
    if (s.len != 0) memcpy(to + 4, s.at, s.len);
    return to + 4 + s.len;
}

static uint8_t *put_key(uint8_t *to, uint8_t db, struct slice key)
{
    u32_le_put(to, (uint32_t)(key.len + 1));
    to[4] = db;
    if (key.len != 0) memcpy(to + 5, key.at, key.len);
    return to + 5 + key.len;
}

/* The end of a range; "to the end" is the next database's byte alone. */
static uint8_t *put_end(uint8_t *to, uint8_t db, struct slice key, bool to_the_end)
{
    ASSERT(db < UINT8_MAX);
    return to_the_end ? put_key(to, (uint8_t)(db + 1), SLICE_NONE) : put_key(to, db, key);
}

static uint8_t *put_list(uint8_t *to, const struct op_list *l)
{
    u32_le_put(to, l->count);
    return put_sized(to + 4, l->bytes);
}

/* At least what the encoded operation takes. */
static size_t op_bytes_bound(const struct op *o)
{
    return OP_HEAD_BYTES + 128 + o->key.len + o->value.len + o->key2.len + o->cond_bytes.len +
           o->list.bytes.len + o->list2.bytes.len + o->compares.bytes.len + o->name.len;
}

static uint8_t *put_cond(uint8_t *to, const struct op *o)
{
    *to = (uint8_t)o->cond;
    u64_le_put(to + 1, o->cond_number);
    return put_sized(to + 9, o->cond_bytes);
}

static uint8_t *put_life(uint8_t *to, const struct op *o)
{
    *to = (uint8_t)o->life;
    u64_le_put(to + 1, o->life == LIFE_LEASE ? o->lease_id : (uint64_t)o->life_ms);
    return to + 9;
}

static uint8_t *put_fields(uint8_t *to, const struct op *o, bool key2_to_end)
{
    if (o->fields & FIELD_KEY) to = put_key(to, o->db, o->key);
    if (o->fields & FIELD_VALUE) to = put_sized(to, o->value);
    uint8_t key2_db = o->key2_elsewhere ? o->key2_db : o->db;
    if (o->fields & FIELD_KEY2) to = put_end(to, key2_db, o->key2, key2_to_end);
    if (o->fields & FIELD_COND) to = put_cond(to, o);
    if (o->fields & FIELD_LIFE) to = put_life(to, o);
    if (o->fields & FIELD_NUMBER) {
        u64_le_put(to, (uint64_t)o->number);
        to += 8;
    }
    if (o->fields & FIELD_ID) {
        u64_le_put(to, o->id);
        to += 8;
    }
    if (o->fields & FIELD_LIST) to = put_list(to, &o->list);
    if (o->fields & FIELD_LIST2) to = put_list(to, &o->list2);
    if (o->fields & FIELD_COMPARES) to = put_list(to, &o->compares);
    if (o->fields & FIELD_NAME) to = put_sized(to, o->name);
    return to;
}

void op_encode(struct buf *out, const struct op *o, bool key2_to_end)
{
    ASSERT(o->kind > 0);
    ASSERT(o->kind < OP_KIND_END);
    const struct kind_rule *rule = &rules[o->kind];
    ASSERT((o->fields & rule->required) == rule->required);
    ASSERT((o->fields & ~(uint32_t)(rule->required | rule->optional)) == 0);
    ASSERT((o->flags & ~rule->flags) == 0);

    uint8_t *head = buf_reserve(out, op_bytes_bound(o));
    head[4] = (uint8_t)o->kind;
    head[5] = o->db;
    u16_le_put(head + 6, o->flags);
    u32_le_put(head + 8, o->user);
    u32_le_put(head + 12, o->auth_rev);
    u32_le_put(head + 16, o->fields);
    size_t bytes = (size_t)(put_fields(head + OP_HEAD_BYTES, o, key2_to_end) - head);
    ASSERT(bytes <= op_bytes_bound(o));
    ASSERT(bytes <= OP_BYTES_MAX);
    u32_le_put(head, (uint32_t)bytes);
    out->len += bytes;
}

void op_list_add_key(struct buf *list, uint8_t db, struct slice key)
{
    put_key(buf_reserve(list, 5 + key.len), db, key);
    list->len += 5 + key.len;
}

void op_list_add_pair(struct buf *list, uint8_t db, struct slice key, struct slice value)
{
    op_list_add_key(list, db, key);
    buf_append_u32(list, (uint32_t)value.len);
    buf_append_slice(list, value);
}

void op_list_add_internal_key(struct buf *list, struct slice key)
{
    buf_append_u32(list, (uint32_t)key.len);
    buf_append_slice(list, key);
}

void op_list_add_id(struct buf *list, uint64_t id)
{
    buf_append_u64(list, id);
}

void op_compare_add(struct buf *list, uint8_t db, const struct op_compare *c, bool end_to_end)
{
    ASSERT(c->target > 0);
    ASSERT(c->target < COMPARE_TARGET_END);
    uint8_t *head = buf_reserve(list, 40 + c->key.len + c->end.len + c->bytes.len);
    head[0] = (uint8_t)c->target;
    head[1] = (uint8_t)(c->op == 0 ? COMPARE_EQ : c->op);
    head[2] = c->range;
    head[3] = 0;
    u64_le_put(head + 4, (uint64_t)c->number);
    uint8_t *to = put_key(head + 12, db, c->key);
    if (c->range) to = put_end(to, db, c->end, end_to_end);
    to = put_sized(to, c->bytes);
    list->len += (size_t)(to - head);
}

/* --- decoding ---------------------------------------------------------------------- */

/* Bytes still to be read. Every take_ fails without harm when they run out. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static inline bool take_u64(struct cursor *c, uint64_t *out)
{
    if (UNLIKELY(c->left < 8)) return false;
    *out = u64_le(c->at);
    c->at += 8;
    c->left -= 8;
    return true;
}

static inline bool take_u8(struct cursor *c, uint8_t *out)
{
    if (UNLIKELY(c->left < 1)) return false;
    *out = *c->at++;
    c->left--;
    return true;
}

static inline bool take_sized(struct cursor *c, struct slice *out)
{
    if (UNLIKELY(c->left < 4)) return false;
    size_t len = u32_le(c->at);
    if (UNLIKELY(c->left - 4 < len)) return false;
    *out = (struct slice){ c->at + 4, len };
    c->at += 4 + len;
    c->left -= 4 + len;
    return true;
}

static inline bool take_key(struct cursor *c, struct slice *out)
{
    return take_sized(c, out) && out->len - 1 < MVCC_KEY_BYTES_MAX;
}

static inline bool take_value(struct cursor *c, struct slice *out)
{
    return take_sized(c, out) && out->len <= MVCC_VALUE_BYTES_MAX;
}

static bool take_list(struct cursor *c, struct op_list *out)
{
    if (c->left < 4) return false;
    out->count = u32_le(c->at);
    c->at += 4;
    c->left -= 4;
    return take_sized(c, &out->bytes);
}

static enum err take_cond(struct cursor *c, struct op *o)
{
    uint8_t cond = 0;
    if (!take_u8(c, &cond) || !take_u64(c, &o->cond_number)) return ERR_CORRUPT;
    if (!take_sized(c, &o->cond_bytes) || cond == COND_NONE) return ERR_CORRUPT;
    if (cond >= COND_END) return ERR_UNSUPPORTED;
    o->cond = (enum op_cond)cond;
    if (o->cond != COND_FENCE) return OK;
    return o->cond_bytes.len - 1 < MVCC_KEY_BYTES_MAX ? OK : ERR_CORRUPT;
}

static enum err take_life(struct cursor *c, struct op *o)
{
    uint8_t life = 0;
    uint64_t number = 0;
    if (!take_u8(c, &life) || !take_u64(c, &number)) return ERR_CORRUPT;
    if (life >= LIFE_END) return ERR_UNSUPPORTED;
    o->life = (enum op_life)life;
    if (o->life == LIFE_LEASE) {
        o->lease_id = number;
    } else {
        o->life_ms = (int64_t)number;
    }
    return OK;
}

/* Fields in ascending bit order. */
static enum err take_fields(struct cursor *c, struct op *o)
{
    uint64_t number = 0;
    if ((o->fields & FIELD_KEY) && !take_key(c, &o->key)) return ERR_CORRUPT;
    if ((o->fields & FIELD_VALUE) && !take_value(c, &o->value)) return ERR_CORRUPT;
    if ((o->fields & FIELD_KEY2) && !take_key(c, &o->key2)) return ERR_CORRUPT;
    if (o->fields & FIELD_COND) TRY(take_cond(c, o));
    if (o->fields & FIELD_LIFE) TRY(take_life(c, o));
    if (o->fields & FIELD_NUMBER) {
        if (!take_u64(c, &number)) return ERR_CORRUPT;
        o->number = (int64_t)number;
    }
    if ((o->fields & FIELD_ID) && !take_u64(c, &o->id)) return ERR_CORRUPT;
    if ((o->fields & FIELD_LIST) && !take_list(c, &o->list)) return ERR_CORRUPT;
    if ((o->fields & FIELD_LIST2) && !take_list(c, &o->list2)) return ERR_CORRUPT;
    if ((o->fields & FIELD_COMPARES) && !take_list(c, &o->compares)) return ERR_CORRUPT;
    if ((o->fields & FIELD_NAME) && !take_sized(c, &o->name)) return ERR_CORRUPT;
    return c->left == 0 ? OK : ERR_CORRUPT;
}

/* What the table of fields cannot say. */
static enum err check_shape(const struct op *o)
{
    bool has_key = (o->fields & FIELD_KEY) != 0;
    if (has_key && o->key.at[0] != o->db) return ERR_CORRUPT;
    if (o->kind == OP_PUT) {
        bool has_value = (o->fields & FIELD_VALUE) != 0;
        return has_value != ((o->flags & OPF_KEEP_VALUE) != 0) ? OK : ERR_CORRUPT;
    }
    if (o->kind == OP_DEL) {
        if (has_key == ((o->fields & FIELD_LIST) != 0)) return ERR_CORRUPT;
        return o->cond == COND_NONE || has_key ? OK : ERR_CORRUPT;
    }
    bool cond_known = (uint64_t)o->number < LIFE_COND_END;
    if (o->kind == OP_LIFE) return cond_known ? OK : ERR_UNSUPPORTED;
    if (o->kind == OP_MPUT) return o->cond <= COND_EXISTS ? OK : ERR_CORRUPT;
    return OK;
}

/* One store after the other: clearing the whole with `rep stos` costs as much as the decoding. */
static inline void op_clear(struct op *o)
{
    o->key = SLICE_NONE;
    o->key2 = SLICE_NONE;
    o->value = SLICE_NONE;
    o->name = SLICE_NONE;
    o->cond = COND_NONE;
    o->cond_number = 0;
    o->cond_bytes = SLICE_NONE;
    o->life = LIFE_DROP;
    o->life_ms = 0;
    o->lease_id = 0;
    o->number = 0;
    o->id = 0;
    o->key2_elsewhere = false;
    o->key2_db = 0;
    o->list.count = 0;
    o->list.bytes = SLICE_NONE;
    o->list2.count = 0;
    o->list2.bytes = SLICE_NONE;
    o->compares.count = 0;
    o->compares.bytes = SLICE_NONE;
}

/* Head and fields; nothing inside lists. Writes *o also on error. */
static enum err op_parse(struct slice bytes, size_t *offset, struct op *o)
{
    ASSERT(*offset <= bytes.len);
    size_t left = bytes.len - *offset;
    if (UNLIKELY(left < OP_HEAD_BYTES)) return ERR_CORRUPT;
    const uint8_t *head = bytes.at + *offset;
    size_t size = u32_le(head);
    if (UNLIKELY(size < OP_HEAD_BYTES || size > left || size > OP_BYTES_MAX)) return ERR_CORRUPT;
    if (UNLIKELY(head[4] == 0)) return ERR_CORRUPT;
    if (UNLIKELY(head[4] >= OP_KIND_END)) return ERR_UNSUPPORTED;

    op_clear(o);
    o->kind = (enum op_kind)head[4];
    o->db = head[5];
    o->flags = u16_le(head + 6);
    o->user = u32_le(head + 8);
    o->auth_rev = u32_le(head + 12);
    o->fields = u32_le(head + 16);
    const struct kind_rule *rule = &rules[o->kind];
    if (UNLIKELY(o->fields >= FIELD_END)) return ERR_UNSUPPORTED;
    if (UNLIKELY((o->flags & ~rule->flags) != 0)) return ERR_UNSUPPORTED;
    uint32_t known = (uint32_t)rule->required | rule->optional;
    if (UNLIKELY((o->fields & rule->required) != rule->required)) return ERR_CORRUPT;
    if (UNLIKELY((o->fields & ~known) != 0)) return ERR_CORRUPT;

    struct cursor c = { head + OP_HEAD_BYTES, size - OP_HEAD_BYTES };
    TRY(take_fields(&c, o));
    TRY(check_shape(o));
    *offset += size;
    return OK;
}

static enum err check_nested(const struct op *o, size_t depth);

static enum err check_ops(const struct op_list *l, size_t depth)
{
    size_t offset = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        struct op o;
        TRY(op_parse(l->bytes, &offset, &o));
        if (!rules[o.kind].in_txn) return ERR_CORRUPT;
        TRY(check_nested(&o, depth));
    }
    return offset == l->bytes.len ? OK : ERR_CORRUPT;
}

static enum err check_items(const struct op_list *l, enum list_items items, size_t depth)
{
    ASSERT(items != ITEMS_NONE);
    if (items == ITEMS_OPS) return check_ops(l, depth);
    if (items == ITEMS_IDS) return l->bytes.len == (uint64_t)l->count * 8 ? OK : ERR_CORRUPT;
    struct cursor c = { l->bytes.at, l->bytes.len };
    for (uint32_t i = 0; i < l->count; i++) {
        struct slice key, value;
        if (!take_key(&c, &key)) return ERR_CORRUPT;
        if (items == ITEMS_PAIRS && !take_value(&c, &value)) return ERR_CORRUPT;
    }
    return c.left == 0 ? OK : ERR_CORRUPT;
}

static enum err take_compare(struct cursor *c, struct op_compare *out)
{
    if (c->left < 12) return ERR_CORRUPT;
    if (c->at[0] == 0 || c->at[1] == 0 || c->at[2] > 1 || c->at[3] != 0) return ERR_CORRUPT;
    if (c->at[0] >= COMPARE_TARGET_END || c->at[1] >= COMPARE_OP_END) return ERR_UNSUPPORTED;
    *out = (struct op_compare){ .target = (enum compare_target)c->at[0],
                                .op = (enum compare_op)c->at[1], .range = c->at[2] == 1,
                                .number = (int64_t)u64_le(c->at + 4) };
    c->at += 12;
    c->left -= 12;
    if (!take_key(c, &out->key)) return ERR_CORRUPT;
    if (out->range && !take_key(c, &out->end)) return ERR_CORRUPT;
    return take_sized(c, &out->bytes) ? OK : ERR_CORRUPT;
}

static enum err check_compares(const struct op_list *l)
{
    struct cursor c = { l->bytes.at, l->bytes.len };
    for (uint32_t i = 0; i < l->count; i++) {
        struct op_compare compare;
        TRY(take_compare(&c, &compare));
    }
    return c.left == 0 ? OK : ERR_CORRUPT;
}

/* depth: of the transaction that *o would be. */
static enum err check_nested(const struct op *o, size_t depth)
{
    if (LIKELY((o->fields & (FIELD_LIST | FIELD_LIST2 | FIELD_COMPARES)) == 0)) return OK;
    if (o->kind == OP_TXN && depth > OP_TXN_DEPTH_MAX) return ERR_CORRUPT;
    if (o->fields & FIELD_LIST) TRY(check_items(&o->list, list_items(o->kind), depth + 1));
    if (o->fields & FIELD_LIST2) TRY(check_items(&o->list2, list2_items(o->kind), depth + 1));
    return (o->fields & FIELD_COMPARES) != 0 ? check_compares(&o->compares) : OK;
}

enum err op_decode_into(struct slice bytes, size_t *offset, struct op *out)
{
    size_t at = *offset;
    TRY(op_parse(bytes, &at, out));
    if (rules[out->kind].only_in_txn) return ERR_CORRUPT;
    TRY(check_nested(out, 1));
    *offset = at;
    return OK;
}

enum err op_decode(struct slice bytes, size_t *offset, struct op *out)
{
    struct op o;
    TRY(op_decode_into(bytes, offset, &o));
    *out = o;
    return OK;
}

/* --- walking checked lists ------------------------------------------------------------ */

static struct cursor list_cursor(const struct op_list *l, size_t offset)
{
    ASSERT(offset <= l->bytes.len);
    return (struct cursor){ l->bytes.at + offset, l->bytes.len - offset };
}

bool op_list_next_key(const struct op_list *l, size_t *offset, struct slice *key)
{
    if (*offset == l->bytes.len) return false;
    struct cursor c = list_cursor(l, *offset);
    bool complete = take_key(&c, key);
    ASSERT(complete);
    *offset = l->bytes.len - c.left;
    return true;
}

bool op_list_next_pair(const struct op_list *l, size_t *offset, struct slice *key,
                       struct slice *value)
{
    if (*offset == l->bytes.len) return false;
    struct cursor c = list_cursor(l, *offset);
    bool complete = take_key(&c, key) && take_value(&c, value);
    ASSERT(complete);
    *offset = l->bytes.len - c.left;
    return true;
}

bool op_list_next_id(const struct op_list *l, size_t *offset, uint64_t *id)
{
    if (*offset == l->bytes.len) return false;
    struct cursor c = list_cursor(l, *offset);
    bool complete = take_u64(&c, id);
    ASSERT(complete);
    *offset = l->bytes.len - c.left;
    return true;
}

bool op_list_next_op(const struct op_list *l, size_t *offset, struct op *out)
{
    if (*offset == l->bytes.len) return false;
    enum err err = op_parse(l->bytes, offset, out);
    ASSERT(err == OK);
    return true;
}

bool op_list_next_compare(const struct op_list *l, size_t *offset, struct op_compare *out)
{
    if (*offset == l->bytes.len) return false;
    struct cursor c = list_cursor(l, *offset);
    enum err err = take_compare(&c, out);
    ASSERT(err == OK);
    *offset = l->bytes.len - c.left;
    return true;
}

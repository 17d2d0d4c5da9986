/* cmd/cmd_hub_encode.c - events as push frames, stream entries, maps and JSON. */
#include "cmd/cmd_hub_int.h"

#define DIGITS_MAX 21

const char *hub_op_name(enum row_op op)
{
    switch (op) {
    case ROW_PUT: return "put";
    case ROW_DEL: return "del";
    case ROW_EXPIRE: return "expire";
    }
    ASSERT(false);
    return "";
}

/* A value that is there but empty is not null. */
static struct slice present(struct slice s)
{
    return s.at != NULL ? s : (struct slice){ (const uint8_t *)"", 0 };
}

void hub_event_of(const struct mvcc_event *ev, struct hub_event *out)
{
    *out = (struct hub_event){
        .op = hub_op_name(ev->op), .key = ev->key, .rev = ev->rev, .n = ev->n, .create = ev->create,
        .version = ev->version, .lease = ev->lease, .prev_rev = (int64_t)ev->prev_mod,
    };
    if (ev->op == ROW_PUT && ev->type == VALUE_STRING) out->value = present(ev->value);
    if (ev->prev_mod != 0) out->prev = ev->prev_value;
}

void hub_event_of_item(const struct store_item *item, struct hub_event *out)
{
    const struct row *row = &item->row;
    *out = (struct hub_event){
        .op = hub_op_name(row->op), .key = row->key, .rev = row->rev, .n = row->n, .create = row->create,
        .version = row->version, .lease = row->lease,
    };
    if (row->op == ROW_PUT && row->type == VALUE_STRING) out->value = present(row->value);
    if (item->prev_state == STORE_PREV_COMPACTED) out->prev_rev = -1;
    if (item->prev_state != STORE_PREV_FOUND) return;
    out->prev_rev = (int64_t)item->prev.rev;
    if (item->prev.type == VALUE_STRING) out->prev = present(item->prev.value);
}

/* --- RESP -------------------------------------------------------------------------------------- */

static void put_number(struct buf *out, char type, int64_t v)
{
    uint8_t *to = buf_reserve(out, DIGITS_MAX + 3);
    to[0] = (uint8_t)type;
    size_t len = 1 + i64_format(v, (char *)to + 1);
    to[len++] = '\r';
    to[len++] = '\n';
    out->len += len;
}

void hub_encode_bulk(struct buf *out, struct slice s)
{
    put_number(out, '$', (int64_t)s.len);
    buf_append_slice(out, s);
    buf_append(out, "\r\n", 2);
}

static void put_text(struct buf *out, const char *text)
{
    hub_encode_bulk(out, slice_of(text));
}

static void put_bulk_int(struct buf *out, int64_t v)
{
    char digits[DIGITS_MAX];
    size_t len = i64_format(v, digits);
    hub_encode_bulk(out, (struct slice){ (const uint8_t *)digits, len });
}

static void put_bulk_or_null(struct buf *out, struct slice s, uint8_t proto)
{
    if (s.at != NULL) {
        hub_encode_bulk(out, s);
    } else if (proto >= 3) {
        buf_append(out, "_\r\n", 3);
    } else {
        buf_append(out, "$-1\r\n", 5);
    }
}

size_t hub_encode_head(uint8_t *out, uint64_t watch_id, bool with_prev)
{
    struct slice start = SLICE_LIT(">9\r\n$7\r\nkvwatch\r\n:");
    if (with_prev) start = SLICE_LIT(">11\r\n$7\r\nkvwatch\r\n:");
    memcpy(out, start.at, start.len);
    size_t len = start.len + u64_format(watch_id, (char *)out + start.len);
    out[len++] = '\r';
    out[len++] = '\n';
    ASSERT(len <= HUB_HEAD_BYTES_MAX);
    return len;
}

void hub_encode_tail(struct buf *out, const struct hub_event *e, unsigned variant)
{
    bool keys_only = (variant & TAIL_KEYS_ONLY) != 0;
    put_number(out, ':', (int64_t)e->rev);
    put_text(out, e->op);
    hub_encode_bulk(out, cmd_client_key(e->key));
    put_bulk_or_null(out, keys_only ? SLICE_NONE : e->value, 3);
    put_number(out, ':', (int64_t)e->create);
    put_number(out, ':', (int64_t)e->version);
    put_number(out, ':', (int64_t)e->lease);
    if ((variant & TAIL_PREV) == 0) return;
    put_bulk_or_null(out, keys_only ? SLICE_NONE : e->prev, 3);
    put_number(out, ':', e->prev_rev);
}

static void put_id(struct buf *out, uint64_t rev, uint32_t n)
{
    char id[2 * DIGITS_MAX];
    size_t len = u64_format(rev, id);
    id[len++] = '-';
    len += u64_format(n, id + len);
    hub_encode_bulk(out, (struct slice){ (const uint8_t *)id, len });
}

void hub_encode_entry(struct buf *out, const struct hub_event *e)
{
    bool has_value = e->value.at != NULL;
    put_number(out, '*', 2);
    put_id(out, e->rev, e->n);
    put_number(out, '*', has_value ? 12 : 10);
    put_text(out, "op");
    put_text(out, e->op);
    put_text(out, "key");
    hub_encode_bulk(out, cmd_client_key(e->key));
    if (has_value) {
        put_text(out, "value");
        hub_encode_bulk(out, e->value);
    }
    put_text(out, "create");
    put_bulk_int(out, (int64_t)e->create);
    put_text(out, "version");
    put_bulk_int(out, (int64_t)e->version);
    put_text(out, "lease");
    put_bulk_int(out, (int64_t)e->lease);
}

void hub_encode_progress_entry(struct buf *out, uint64_t rev)
{
    put_number(out, '*', 2);
    put_id(out, rev, 0);
    put_number(out, '*', 2);
    put_text(out, "op");
    put_text(out, "progress");
}

void hub_encode_map(struct buf *out, const struct hub_event *e, bool with_prev, uint8_t proto)
{
    int64_t pairs = with_prev ? 9 : 7;
    put_number(out, proto >= 3 ? '%' : '*', proto >= 3 ? pairs : 2 * pairs);
    put_text(out, "op");
    put_text(out, e->op);
    put_text(out, "key");
    hub_encode_bulk(out, cmd_client_key(e->key));
    put_text(out, "value");
    put_bulk_or_null(out, e->value, proto);
    put_text(out, "rev");
    put_number(out, ':', (int64_t)e->rev);
    put_text(out, "create");
    put_number(out, ':', (int64_t)e->create);
    put_text(out, "version");
    put_number(out, ':', (int64_t)e->version);
    put_text(out, "lease");
    put_number(out, ':', (int64_t)e->lease);
    if (!with_prev) return;
    put_text(out, "prev");
    put_bulk_or_null(out, e->prev, proto);
    put_text(out, "prevmod");
    put_number(out, ':', e->prev_rev);
}

/* --- JSON --------------------------------------------------------------------------------------- */

/* How many bytes the UTF-8 character at the front has; 0 if it is none (RFC 3629: no overlong
 * forms, no surrogates, nothing above 10FFFF). */
static size_t utf8_len(const uint8_t *at, size_t len)
{
    uint8_t c = at[0];
    size_t want = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (want == 0 || want > len) return 0;
    for (size_t i = 1; i < want; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
    }
    if ((c == 0xe0 && at[1] < 0xa0) || (c == 0xed && at[1] > 0x9f)) return 0;
    if ((c == 0xf0 && at[1] < 0x90) || (c == 0xf4 && at[1] > 0x8f)) return 0;
    return want;
}

static bool is_utf8(struct slice s)
{
    for (size_t i = 0; i < s.len;) {
        size_t len = utf8_len(s.at + i, s.len - i);
        if (len == 0) return false;
        i += len;
    }
    return true;
}

static void json_string(struct buf *out, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    buf_append_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.at[i];
        if (c == '"' || c == '\\') {
            buf_append_u8(out, '\\');
            buf_append_u8(out, c);
        } else if (c < 0x20 || c == 0x7f) {
            uint8_t escape[6] = { '\\', 'u', '0', '0', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15] };
            buf_append(out, escape, sizeof escape);
        } else {
            buf_append_u8(out, c);
        }
    }
    buf_append_u8(out, '"');
}

static void base64_string(struct buf *out, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buf_append_u8(out, '"');
    for (size_t i = 0; i < s.len; i += 3) {
        size_t left = s.len - i;
        uint32_t v = (uint32_t)s.at[i] << 16;
        if (left > 1) v |= (uint32_t)s.at[i + 1] << 8;
        if (left > 2) v |= s.at[i + 2];
        uint8_t four[4] = {
            (uint8_t)digits[v >> 18], (uint8_t)digits[v >> 12 & 63],
            (uint8_t)(left > 1 ? digits[v >> 6 & 63] : '='), (uint8_t)(left > 2 ? digits[v & 63] : '='),
        };
        buf_append(out, four, sizeof four);
    }
    buf_append_u8(out, '"');
}

/* "enc" says that both key and value are base64: one of them is not UTF-8. */
void hub_encode_json(struct buf *out, const struct hub_event *e)
{
    struct slice key = cmd_client_key(e->key);
    bool plain = is_utf8(key) && is_utf8(e->value);
    void (*string)(struct buf *, struct slice) = plain ? json_string : base64_string;
    buf_printf(out, "{\"rev\":%llu,\"n\":%u,\"op\":\"%s\",\"key\":", (unsigned long long)e->rev, e->n, e->op);
    string(out, key);
    buf_append(out, ",\"value\":", 9);
    if (e->value.at == NULL) {
        buf_append(out, "null", 4);
    } else {
        string(out, e->value);
    }
    buf_printf(out, ",\"create\":%llu,\"version\":%llu,\"lease\":%llu%s}", (unsigned long long)e->create,
               (unsigned long long)e->version, (unsigned long long)e->lease, plain ? "" : ",\"enc\":\"base64\"");
}

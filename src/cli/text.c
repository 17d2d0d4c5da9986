#include "cli/text.h"

#include <stdio.h>

#define NAME_BYTES_MAX 31

void text_base64(struct buf *out, struct slice in)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t bits = (uint32_t)in.at[i] << 16;
        if (left > 1) bits |= (uint32_t)in.at[i + 1] << 8;
        if (left > 2) bits |= in.at[i + 2];
        buf_append_u8(out, (uint8_t)digits[bits >> 18]);
        buf_append_u8(out, (uint8_t)digits[(bits >> 12) & 63]);
        buf_append_u8(out, left > 1 ? (uint8_t)digits[(bits >> 6) & 63] : '=');
        buf_append_u8(out, left > 2 ? (uint8_t)digits[bits & 63] : '=');
    }
}

static void append_hex_byte(struct buf *out, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    const char text[4] = { '\\', 'x', digits[byte >> 4], digits[byte & 15] };
    buf_append(out, text, sizeof text);
}

void text_hex(struct buf *out, struct slice in)
{
    for (size_t i = 0; i < in.len; i++) append_hex_byte(out, in.at[i]);
}

static bool is_tail(struct slice s, size_t at)
{
    return at < s.len && (s.at[at] & 0xc0) == 0x80;
}

/* The table of well-formed sequences of the Unicode standard (3-7): no surrogates, no
 * overlong forms, nothing above U+10FFFF. */
size_t text_utf8_len(struct slice s)
{
    if (s.len == 0) return 0;
    uint8_t a = s.at[0];
    if (a < 0x80) return 1;
    if (a < 0xc2 || a > 0xf4 || !is_tail(s, 1)) return 0;
    if (a < 0xe0) return 2;
    uint8_t b = s.at[1];
    if ((a == 0xe0 && b < 0xa0) || (a == 0xed && b > 0x9f)) return 0;
    if ((a == 0xf0 && b < 0x90) || (a == 0xf4 && b > 0x8f)) return 0;
    if (!is_tail(s, 2)) return 0;
    if (a < 0xf0) return 3;
    return is_tail(s, 3) ? 4 : 0;
}

/* U+0080..U+009F move cursors on some terminals, like their ASCII relatives. */
static bool is_c1_control(struct slice s)
{
    return s.len >= 2 && s.at[0] == 0xc2 && s.at[1] < 0xa0;
}

void text_escape(struct buf *out, struct slice in)
{
    while (in.len > 0) {
        size_t len = text_utf8_len(in);
        uint8_t c = in.at[0];
        if (c == '\n') {
            buf_append(out, "\\n", 2);
        } else if (c == '\r') {
            buf_append(out, "\\r", 2);
        } else if (c == '\t') {
            buf_append(out, "\\t", 2);
        } else if (c == '\\') {
            buf_append(out, "\\\\", 2);
        } else if (len == 0 || c < 0x20 || c == 0x7f || is_c1_control(in)) {
            append_hex_byte(out, c);
            len = 1;
        } else {
            buf_append(out, in.at, len);
        }
        in = (struct slice){ in.at + len, in.len - len };
    }
}

size_t text_width(struct slice in)
{
    size_t columns = 0;
    for (size_t i = 0; i < in.len; i++) columns += (in.at[i] & 0xc0) != 0x80;
    return columns;
}

enum err text_duration(struct slice in, int64_t max_ms, int64_t *out_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };

    size_t digits = 0;
    while (digits < in.len && in.at[digits] >= '0' && in.at[digits] <= '9') digits++;
    struct slice unit = { in.at + digits, in.len - digits };
    int64_t count = 0;
    if (i64_parse((struct slice){ in.at, digits }, &count) != OK) return ERR_SYNTAX;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (!slice_eq(unit, slice_of(units[i].unit))) continue;
        if (count < 1 || count > max_ms / units[i].ms) return ERR_LIMIT;
        *out_ms = count * units[i].ms;
        return OK;
    }
    return ERR_SYNTAX;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

enum err text_id(struct slice in, int64_t *out)
{
    if (!slice_starts(in, SLICE_LIT("0x"))) return i64_parse(in, out);
    if (in.len < 3 || in.len > 2 + 15) return ERR_NOT_INT;
    int64_t id = 0;
    for (size_t i = 2; i < in.len; i++) {
        int digit = hex_digit(in.at[i]);
        if (digit < 0) return ERR_NOT_INT;
        id = id << 4 | digit;
    }
    *out = id;
    return OK;
}

static void skip(struct slice *rest, size_t bytes)
{
    ASSERT(bytes <= rest->len);
    rest->at += bytes;
    rest->len -= bytes;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* What follows a backslash inside double quotes. */
static enum err escape_take(struct slice *rest, struct buf *out)
{
    static const char names[] = "nrt0\\\"'";
    static const char bytes[] = "\n\r\t\0\\\"'";
    if (rest->len == 0) return ERR_AGAIN;
    uint8_t c = rest->at[0];
    if (c == 'x') {
        if (rest->len < 3) return ERR_SYNTAX;
        int high = hex_digit(rest->at[1]);
        int low = hex_digit(rest->at[2]);
        if (high < 0 || low < 0) return ERR_SYNTAX;
        buf_append_u8(out, (uint8_t)(high << 4 | low));
        skip(rest, 3);
        return OK;
    }
    const char *name = memchr(names, c, sizeof names - 1);
    if (name == NULL) return ERR_SYNTAX;
    buf_append_u8(out, (uint8_t)bytes[name - names]);
    skip(rest, 1);
    return OK;
}

enum err text_quoted(struct slice *rest, struct buf *out)
{
    if (rest->len == 0) return ERR_SYNTAX;
    uint8_t quote = rest->at[0];
    if (quote != '"' && quote != '\'') return ERR_SYNTAX;
    skip(rest, 1);
    while (rest->len > 0) {
        uint8_t c = rest->at[0];
        skip(rest, 1);
        if (c == quote) return OK;
        if (c == '\\' && quote == '"') {
            TRY(escape_take(rest, out));
        } else {
            buf_append_u8(out, c);
        }
    }
    return ERR_AGAIN;
}

enum err text_word(struct slice *rest, struct buf *out, bool *found)
{
    while (rest->len > 0 && is_space(rest->at[0])) skip(rest, 1);
    *found = rest->len > 0;
    while (rest->len > 0 && !is_space(rest->at[0])) {
        if (rest->at[0] == '"' || rest->at[0] == '\'') {
            TRY(text_quoted(rest, out));
        } else {
            buf_append_u8(out, rest->at[0]);
            skip(rest, 1);
        }
    }
    return OK;
}

struct slice text_trim(struct slice in)
{
    while (in.len > 0 && is_space(in.at[0])) skip(&in, 1);
    while (in.len > 0 && is_space(in.at[in.len - 1])) in.len--;
    return in;
}

size_t text_distance(struct slice a, struct slice b)
{
    size_t cost[NAME_BYTES_MAX + 1][NAME_BYTES_MAX + 1];
    if (a.len > NAME_BYTES_MAX || b.len > NAME_BYTES_MAX) return SIZE_MAX;
    for (size_t i = 0; i <= a.len; i++) {
        for (size_t j = 0; j <= b.len; j++) {
            if (i == 0 || j == 0) {
                cost[i][j] = i + j;
                continue;
            }
            bool same = a.at[i - 1] == b.at[j - 1];
            size_t best = cost[i - 1][j - 1] + !same;
            best = MIN(best, cost[i - 1][j] + 1);
            best = MIN(best, cost[i][j - 1] + 1);
            bool swapped =
                i > 1 && j > 1 && a.at[i - 1] == b.at[j - 2] && a.at[i - 2] == b.at[j - 1];
            if (swapped) best = MIN(best, cost[i - 2][j - 2] + 1);
            cost[i][j] = best;
        }
    }
    return cost[a.len][b.len];
}

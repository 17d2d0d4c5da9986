/* resp/resp_encode.c - see resp.h. Replies. */
#include "resp/resp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define HEAD_BYTES_MAX 24 /* a type byte, 20 digits or a sign and 19, CRLF */
#define DIGIT_COUNT_MAX 20 /* of a 64-bit number */
#define ERROR_BYTES_MAX 512
#define DOUBLE_BYTES_MAX 32

static void put(struct reply *r, struct slice s)
{
    chain_append_slice(r->out, s);
}

/* Two decimal digits for each number below 100. */
static const char digit_pairs[201] =
    "00010203040506070809101112131415161718192021222324"
    "25262728293031323334353637383940414243444546474849"
    "50515253545556575859606162636465666768697071727374"
    "75767778798081828384858687888990919293949596979899";

/* Decimal digits of v at `to`; returns how many. The length is found without dividing, so that
 * the digits go straight to their place. */
static inline size_t digits_put(uint8_t *to, uint64_t v)
{
    size_t len = 1;
    for (uint64_t bound = 10; len < DIGIT_COUNT_MAX && v >= bound; bound *= 10) len++;
    uint8_t *at = to + len;
    for (; v >= 100; v /= 100) {
        at -= 2;
        memcpy(at, digit_pairs + 2 * (v % 100), 2);
    }
    if (v >= 10) {
        memcpy(to, digit_pairs + 2 * v, 2);
    } else {
        to[0] = (uint8_t)('0' + v);
    }
    return len;
}

static inline void head_put(struct reply *r, char type, uint64_t v)
{
    uint8_t *to = chain_reserve(r->out, HEAD_BYTES_MAX);
    to[0] = (uint8_t)type;
    size_t len = 1 + digits_put(to + 1, v);
    to[len] = '\r';
    to[len + 1] = '\n';
    chain_commit(r->out, len + 2);
}

void reply_ok(struct reply *r)
{
    put(r, SLICE_LIT("+OK\r\n"));
}

/* Appends with CR and LF as spaces: a line ends where we end it. */
static void line_put(struct reply *r, struct slice text)
{
    while (text.len != 0) {
        size_t part = MIN(text.len, CHAIN_RESERVE_BYTES_MAX);
        uint8_t *to = chain_reserve(r->out, part);
        for (size_t i = 0; i < part; i++) {
            uint8_t c = text.at[i];
            to[i] = c == '\r' || c == '\n' ? ' ' : c;
        }
        chain_commit(r->out, part);
        text.at += part;
        text.len -= part;
    }
}

void reply_simple(struct reply *r, struct slice text)
{
    put(r, SLICE_LIT("+"));
    line_put(r, text);
    put(r, SLICE_LIT("\r\n"));
}

static void error_put(struct reply *r, const char *prefix, const char *text)
{
    r->error_count++;
    put(r, SLICE_LIT("-"));
    line_put(r, slice_of(prefix));
    put(r, SLICE_LIT(" "));
    line_put(r, slice_of(text));
    put(r, SLICE_LIT("\r\n"));
}

void reply_error(struct reply *r, const char *prefix, const char *format, ...)
{
    char text[ERROR_BYTES_MAX];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ASSERT(len >= 0);
    error_put(r, prefix, text);
}

void reply_err(struct reply *r, enum err e)
{
    ASSERT(e != OK);
    error_put(r, err_prefix(e), err_text(e));
}

void reply_int(struct reply *r, int64_t v)
{
    if (LIKELY(v >= 0)) {
        head_put(r, ':', (uint64_t)v);
        return;
    }
    uint8_t *to = chain_reserve(r->out, HEAD_BYTES_MAX);
    to[0] = ':';
    size_t len = 1 + i64_format(v, (char *)to + 1);
    to[len] = '\r';
    to[len + 1] = '\n';
    chain_commit(r->out, len + 2);
}

void reply_bulk(struct reply *r, struct slice s)
{
    if (LIKELY(s.len + HEAD_BYTES_MAX + 2 <= CHAIN_RESERVE_BYTES_MAX)) {
        uint8_t *to = chain_reserve(r->out, s.len + HEAD_BYTES_MAX + 2);
        to[0] = '$';
        size_t len = 1 + digits_put(to + 1, s.len);
        to[len++] = '\r';
        to[len++] = '\n';
        if (s.len != 0) memcpy(to + len, s.at, s.len);
        len += s.len;
        to[len++] = '\r';
        to[len++] = '\n';
        chain_commit(r->out, len);
        return;
    }
    head_put(r, '$', s.len);
    put(r, s);
    put(r, SLICE_LIT("\r\n"));
}

void reply_bulk_cstr(struct reply *r, const char *text)
{
    reply_bulk(r, slice_of(text));
}

void reply_bulk_int(struct reply *r, int64_t v)
{
    char digits[HEAD_BYTES_MAX];
    size_t len = i64_format(v, digits);
    reply_bulk(r, (struct slice){ (const uint8_t *)digits, len });
}

void reply_bulk_blob(struct reply *r, struct blob *blob, size_t offset, size_t len)
{
    ASSERT(offset <= blob->len);
    ASSERT(len <= blob->len - offset);
    if (len <= RESP_BULK_COPY_BYTES_MAX) {
        reply_bulk(r, (struct slice){ blob->at + offset, len });
        return;
    }
    head_put(r, '$', len);
    chain_append_blob(r->out, blob, offset, len);
    put(r, SLICE_LIT("\r\n"));
}

void reply_null(struct reply *r)
{
    put(r, r->proto >= 3 ? SLICE_LIT("_\r\n") : SLICE_LIT("$-1\r\n"));
}

void reply_null_array(struct reply *r)
{
    put(r, r->proto >= 3 ? SLICE_LIT("_\r\n") : SLICE_LIT("*-1\r\n"));
}

void reply_array(struct reply *r, size_t count)
{
    head_put(r, '*', count);
}

void reply_map(struct reply *r, size_t pair_count)
{
    if (r->proto >= 3) {
        head_put(r, '%', pair_count);
    } else {
        head_put(r, '*', 2 * pair_count);
    }
}

void reply_set(struct reply *r, size_t count)
{
    head_put(r, r->proto >= 3 ? '~' : '*', count);
}

void reply_push(struct reply *r, size_t count)
{
    head_put(r, r->proto >= 3 ? '>' : '*', count);
}

void reply_verbatim(struct reply *r, struct slice text)
{
    if (r->proto < 3) {
        reply_bulk(r, text);
        return;
    }
    head_put(r, '=', text.len + 4);
    put(r, SLICE_LIT("txt:"));
    put(r, text);
    put(r, SLICE_LIT("\r\n"));
}

void reply_bool(struct reply *r, bool v)
{
    if (r->proto >= 3) {
        put(r, v ? SLICE_LIT("#t\r\n") : SLICE_LIT("#f\r\n"));
    } else {
        put(r, v ? SLICE_LIT(":1\r\n") : SLICE_LIT(":0\r\n"));
    }
}

/* The shortest of 15, 16 or 17 digits that reads back as v. */
static size_t double_format(double v, char out[DOUBLE_BYTES_MAX])
{
    if (isnan(v)) return (size_t)snprintf(out, DOUBLE_BYTES_MAX, "nan");
    if (isinf(v)) return (size_t)snprintf(out, DOUBLE_BYTES_MAX, v > 0 ? "inf" : "-inf");
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(out, DOUBLE_BYTES_MAX, "%.*g", digits, v);
        double back = strtod(out, NULL);
        if (memcmp(&back, &v, sizeof v) == 0) break;
    }
    ASSERT(len > 0 && len < DOUBLE_BYTES_MAX);
    return (size_t)len;
}

void reply_double(struct reply *r, double v)
{
    char text[DOUBLE_BYTES_MAX];
    struct slice s = { (const uint8_t *)text, double_format(v, text) };
    if (r->proto < 3) {
        reply_bulk(r, s);
        return;
    }
    put(r, SLICE_LIT(","));
    put(r, s);
    put(r, SLICE_LIT("\r\n"));
}

void reply_raw(struct reply *r, struct slice encoded)
{
    put(r, encoded);
}

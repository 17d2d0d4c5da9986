/* resp/resp_decode.c - see resp.h. Requests. */
#include "resp/resp.h"

#define SPAN_COUNT_MIN 16
#define ARGV_COUNT_MIN 16
#define TLS_HANDSHAKE 0x16 /* first byte of a TLS record that carries a ClientHello */
#define COUNT_DIGITS_MAX 8 /* the quick path; longer numbers take the exact one */

void resp_limits_init(struct resp_limits *limits)
{
    *limits = (struct resp_limits){
        .arg_count_max = RESP_ARG_COUNT_MAX_DEFAULT,
        .bulk_bytes_max = RESP_BULK_BYTES_MAX_DEFAULT,
        .request_bytes_max = RESP_REQUEST_BYTES_MAX_DEFAULT,
        .inline_bytes_max = RESP_INLINE_BYTES_MAX_DEFAULT,
    };
}

void resp_decoder_init(struct resp_decoder *d, const struct resp_limits *limits)
{
    ASSERT(limits->request_bytes_max <= RESP_BYTES_MAX); /* so that offsets fit */
    ASSERT(limits->bulk_bytes_max <= RESP_BYTES_MAX);
    ASSERT(limits->inline_bytes_max <= RESP_BYTES_MAX);
    *d = (struct resp_decoder){ .limits = limits, .body_bytes = RESP_BODY_NONE };
}

void resp_decoder_deinit(struct resp_decoder *d)
{
    mem_free(d->spans);
    d->spans = NULL;
    d->span_cap = 0;
}

void resp_argv_init(struct resp_argv *argv)
{
    *argv = (struct resp_argv){ .at = mem_alloc(ARGV_COUNT_MIN * sizeof *argv->at),
                                .cap = ARGV_COUNT_MIN };
}

void resp_argv_deinit(struct resp_argv *argv)
{
    mem_free(argv->at);
    buf_deinit(&argv->text);
    *argv = (struct resp_argv){ 0 };
}

static __attribute__((noinline)) void argv_grow(struct resp_argv *argv)
{
    argv->cap *= 2;
    argv->at = mem_realloc(argv->at, argv->cap * sizeof *argv->at);
}

/* Back to the start of a request; the spans of the last one are not needed any more. */
static inline void decoder_reset(struct resp_decoder *d)
{
    if (UNLIKELY(d->spans != NULL)) resp_decoder_deinit(d);
    d->arg_count_want = 0;
    d->arg_count = 0;
    d->offset = 0;
    d->scan = 0;
    d->body_bytes = RESP_BODY_NONE;
}

/* --- lines ------------------------------------------------------------------- */

/* A line with a length: where it starts, and the texts for what may be wrong with it. */
struct line_kind {
    const char *invalid;
    const char *too_big;
};
static const struct line_kind line_count = { "Protocol error: invalid multibulk length",
                                             "Protocol error: too big mbulk count string" };
static const struct line_kind line_bulk = { "Protocol error: invalid bulk length",
                                            "Protocol error: too big bulk count string" };

static enum err proto_fail(struct errmsg *em, const char *text)
{
    errmsg_set(em, "%s", text);
    return ERR_PROTO;
}

/* Any line: exact, resumable. The line starts at d->offset with its type byte. On OK
 * *used counts the bytes to behind its end. */
static enum err line_read_exact(struct resp_decoder *d, struct slice in,
                                const struct line_kind *kind, int64_t *out, size_t *used,
                                struct errmsg *em)
{
    const uint8_t *start = in.at + d->offset;
    size_t have = in.len - d->offset;
    size_t max = d->limits->inline_bytes_max;
    size_t search = MIN(have, max + 1);
    const uint8_t *end = NULL;
    if (search > d->scan) end = memchr(start + d->scan, '\r', search - d->scan);
    if (end == NULL) {
        d->scan = (uint32_t)search;
        return search > max ? proto_fail(em, kind->too_big) : ERR_AGAIN;
    }
    size_t line_bytes = (size_t)(end - start);
    d->scan = (uint32_t)line_bytes;
    if (have < line_bytes + 2) return ERR_AGAIN;
    if (end[1] != '\n') return proto_fail(em, kind->invalid);
    if (i64_parse((struct slice){ start + 1, line_bytes - 1 }, out) != OK) {
        return proto_fail(em, kind->invalid);
    }
    *used = line_bytes + 2;
    return OK;
}

/* The quick path: up to COUNT_DIGITS_MAX digits, no leading zero, CRLF, all there. */
static inline enum err line_read(struct resp_decoder *d, struct slice in,
                                 const struct line_kind *kind, int64_t *out, size_t *used,
                                 struct errmsg *em)
{
    const uint8_t *start = in.at + d->offset;
    const uint8_t *at = start + 1;
    const uint8_t *end = in.at + in.len;
    if (LIKELY(end - start >= COUNT_DIGITS_MAX + 3 && *at >= '1' && *at <= '9')) {
        uint32_t v = (uint32_t)(*at++ - '0');
        const uint8_t *stop = start + 1 + COUNT_DIGITS_MAX;
        while (at < stop && (uint8_t)(*at - '0') <= 9) v = v * 10 + (uint32_t)(*at++ - '0');
        if (LIKELY(at[0] == '\r' && at[1] == '\n')) {
            *out = v;
            *used = (size_t)(at + 2 - start);
            return OK;
        }
    }
    return line_read_exact(d, in, kind, out, used, em);
}

/* --- arrays of bulk strings ----------------------------------------------------- */

static inline size_t request_bytes_max(const struct resp_decoder *d)
{
    size_t max = d->limits->request_bytes_max;
    return LIKELY(d->authenticated) ? max : MIN(max, RESP_UNAUTH_REQUEST_BYTES_MAX);
}

static inline void line_done(struct resp_decoder *d, size_t used)
{
    d->offset += (uint32_t)used;
    d->scan = 0;
}

/* "*<count>". OK with arg_count_want 0: nothing to do, as Redis does for counts <= 0. */
static inline enum err count_read(struct resp_decoder *d, struct slice in, struct errmsg *em)
{
    int64_t count;
    size_t used;
    TRY(line_read(d, in, &line_count, &count, &used, em));
    if (count > d->limits->arg_count_max) return proto_fail(em, line_count.invalid);
    if (UNLIKELY(!d->authenticated && count > RESP_UNAUTH_ARG_COUNT_MAX)) {
        return proto_fail(em, "Protocol error: unauthenticated multibulk length");
    }
    line_done(d, used);
    d->arg_count_want = count <= 0 ? 0 : (uint32_t)count;
    return OK;
}

static enum err dollar_fail(uint8_t got, struct errmsg *em)
{
    if (got >= 0x20 && got < 0x7f) {
        errmsg_set(em, "Protocol error: expected '$', got '%c'", got);
    } else {
        errmsg_set(em, "Protocol error: expected '$', got '\\x%02x'", got);
    }
    return ERR_PROTO;
}

/* "$<length>". */
static inline enum err bulk_read(struct resp_decoder *d, struct slice in, struct errmsg *em)
{
    if (d->offset >= in.len) return ERR_AGAIN;
    if (UNLIKELY(in.at[d->offset] != '$')) return dollar_fail(in.at[d->offset], em);
    int64_t len;
    size_t used;
    TRY(line_read(d, in, &line_bulk, &len, &used, em));
    if (len < 0 || len > d->limits->bulk_bytes_max) return proto_fail(em, line_bulk.invalid);
    if (UNLIKELY(!d->authenticated && len > RESP_UNAUTH_BULK_BYTES_MAX)) {
        return proto_fail(em, "Protocol error: unauthenticated bulk length");
    }
    if (UNLIKELY(d->offset + used + (size_t)len + 2 > request_bytes_max(d))) {
        return proto_fail(em, "Protocol error: too big request");
    }
    line_done(d, used);
    d->body_bytes = (uint32_t)len;
    return OK;
}

/* Remembers an argument of an incomplete request. */
static void span_put(struct resp_decoder *d, uint32_t offset, uint32_t len)
{
    if (d->arg_count == d->span_cap) {
        d->span_cap = d->span_cap == 0 ? SPAN_COUNT_MIN : d->span_cap * 2;
        d->spans = mem_realloc(d->spans, d->span_cap * sizeof *d->spans);
    }
    d->spans[d->arg_count] = (struct resp_span){ offset, len };
}

/* The body and its CRLF. `fresh`: the request began in this call, so its arguments go
 * straight to argv; otherwise they are collected as spans (I1). */
static inline enum err body_read(struct resp_decoder *d, struct resp_argv *argv, bool fresh,
                                 struct slice in, struct errmsg *em)
{
    size_t len = d->body_bytes;
    if (in.len - d->offset < len + 2) return ERR_AGAIN;
    const uint8_t *at = in.at + d->offset;
    if (UNLIKELY(at[len] != '\r' || at[len + 1] != '\n')) {
        return proto_fail(em, "Protocol error: expected CRLF after bulk");
    }
    if (LIKELY(fresh)) {
        if (UNLIKELY(d->arg_count == argv->cap)) argv_grow(argv);
        argv->at[d->arg_count] = (struct slice){ at, len };
    } else {
        span_put(d, d->offset, (uint32_t)len);
    }
    d->arg_count++;
    d->offset += (uint32_t)len + 2;
    d->body_bytes = RESP_BODY_NONE;
    return OK;
}

static inline enum err args_read(struct resp_decoder *d, struct resp_argv *argv, bool fresh,
                                 struct slice in, struct errmsg *em)
{
    while (d->arg_count < d->arg_count_want) {
        if (d->body_bytes == RESP_BODY_NONE) TRY(bulk_read(d, in, em));
        TRY(body_read(d, argv, fresh, in, em));
    }
    return OK;
}

static void argv_to_spans(struct resp_decoder *d, const struct resp_argv *argv, struct slice in)
{
    uint32_t count = d->arg_count;
    for (d->arg_count = 0; d->arg_count < count; d->arg_count++) {
        struct slice arg = argv->at[d->arg_count];
        span_put(d, (uint32_t)(arg.at - in.at), (uint32_t)arg.len);
    }
}

static void spans_to_argv(const struct resp_decoder *d, struct resp_argv *argv, struct slice in)
{
    while (argv->cap < d->arg_count) argv_grow(argv);
    for (uint32_t i = 0; i < d->arg_count; i++) {
        argv->at[i] = (struct slice){ in.at + d->spans[i].offset, d->spans[i].len };
    }
}

static inline enum err array_decode(struct resp_decoder *d, struct resp_argv *argv,
                                    struct slice in, struct errmsg *em)
{
    if (d->arg_count_want == 0) {
        TRY(count_read(d, in, em));
        if (d->arg_count_want == 0) return OK;
    }
    bool fresh = d->spans == NULL && d->arg_count == 0;
    enum err e = args_read(d, argv, fresh, in, em);
    if (UNLIKELY(e == ERR_AGAIN && fresh)) argv_to_spans(d, argv, in);
    if (UNLIKELY(e == OK && !fresh)) spans_to_argv(d, argv, in);
    return e;
}

/* --- inline commands -------------------------------------------------------------- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind a backslash in double quotes: appends what it stands for, returns bytes read. */
static size_t escape_read(struct slice rest, struct buf *text)
{
    if (rest.len >= 3 && rest.at[0] == 'x' && hex_value(rest.at[1]) >= 0 &&
        hex_value(rest.at[2]) >= 0) {
        buf_append_u8(text, (uint8_t)(hex_value(rest.at[1]) * 16 + hex_value(rest.at[2])));
        return 3;
    }
    static const char from[] = "nrtba";
    static const char to[] = "\n\r\t\b\a";
    const char *known = memchr(from, rest.at[0], sizeof from - 1);
    buf_append_u8(text, known != NULL ? (uint8_t)to[known - from] : rest.at[0]);
    return 1;
}

/* Behind an opening quote; returns bytes read to behind the closing one, 0 if it is
 * missing or glued to what follows. */
static size_t quoted_read(struct slice rest, uint8_t quote, struct buf *text)
{
    size_t i = 0;
    while (i < rest.len && rest.at[i] != quote) {
        bool more = i + 1 < rest.len;
        if (quote == '"' && rest.at[i] == '\\' && more) {
            i += 1 + escape_read((struct slice){ rest.at + i + 1, rest.len - i - 1 }, text);
        } else if (quote == '\'' && rest.at[i] == '\\' && more && rest.at[i + 1] == '\'') {
            buf_append_u8(text, '\'');
            i += 2;
        } else {
            buf_append_u8(text, rest.at[i++]);
        }
    }
    if (i == rest.len) return 0;
    if (i + 1 < rest.len && !is_blank(rest.at[i + 1])) return 0;
    return i + 1;
}

/* One word from the front of `rest` to the end of `text`; returns bytes read, 0 for
 * unbalanced quotes. */
static size_t word_read(struct slice rest, struct buf *text)
{
    size_t i = 0;
    while (i < rest.len && rest.at[i] != ' ' && rest.at[i] != '\t' && rest.at[i] != '\r') {
        if (rest.at[i] != '"' && rest.at[i] != '\'') {
            buf_append_u8(text, rest.at[i++]);
            continue;
        }
        struct slice inner = { rest.at + i + 1, rest.len - i - 1 };
        size_t used = quoted_read(inner, rest.at[i], text);
        return used == 0 ? 0 : i + 1 + used;
    }
    return i;
}

/* Splits as sdssplitargs of Redis does. argv->at[i].len is known at once, .at only when
 * argv->text has stopped growing. */
static enum err inline_split(struct resp_decoder *d, struct resp_argv *argv, struct slice line,
                             struct errmsg *em)
{
    buf_clear(&argv->text);
    size_t i = 0;
    uint32_t count = 0;
    for (;;) {
        while (i < line.len && is_blank(line.at[i])) i++;
        if (i == line.len) break;
        if (count == d->limits->arg_count_max) {
            return proto_fail(em, "Protocol error: too big inline request");
        }
        size_t text_before = argv->text.len;
        size_t used = word_read((struct slice){ line.at + i, line.len - i }, &argv->text);
        if (used == 0) return proto_fail(em, "Protocol error: unbalanced quotes in request");
        i += used;
        if (count == argv->cap) argv_grow(argv);
        argv->at[count++].len = argv->text.len - text_before;
    }
    buf_reserve(&argv->text, 1); /* so that an empty word has an address too */
    size_t at = 0;
    for (uint32_t k = 0; k < count; k++) {
        argv->at[k].at = argv->text.at + at;
        at += argv->at[k].len;
    }
    d->arg_count = count;
    return OK;
}

/* A browser, a health check or a forged cross-site request talks HTTP to us. */
static bool is_http(const struct resp_argv *argv, size_t argc)
{
    if (slice_is(argv->at[0], "post") || slice_is(argv->at[0], "host:")) return true;
    return argc == 3 && slice_starts(argv->at[2], SLICE_LIT("HTTP/"));
}

/* OK with arg_count 0: an empty line. */
static enum err inline_decode(struct resp_decoder *d, struct resp_argv *argv, struct slice in,
                              struct errmsg *em)
{
    if (in.at[0] == TLS_HANDSHAKE) {
        errmsg_set(em, "TLS on a plain port");
        return ERR_FOREIGN;
    }
    size_t max = d->limits->inline_bytes_max;
    size_t search = MIN(in.len, max + 1);
    const uint8_t *end = NULL;
    if (search > d->scan) end = memchr(in.at + d->scan, '\n', search - d->scan);
    if (end == NULL) {
        d->scan = (uint32_t)search;
        if (search > max) return proto_fail(em, "Protocol error: too big inline request");
        return ERR_AGAIN;
    }
    size_t line_bytes = (size_t)(end - in.at);
    d->offset = (uint32_t)line_bytes + 1;
    if (line_bytes != 0 && in.at[line_bytes - 1] == '\r') line_bytes--;
    TRY(inline_split(d, argv, (struct slice){ in.at, line_bytes }, em));
    if (d->arg_count != 0 && is_http(argv, d->arg_count)) {
        errmsg_set(em, "HTTP on the Redis port");
        return ERR_FOREIGN;
    }
    return OK;
}

/* --- the door ------------------------------------------------------------------------ */

/* What must be there before the next step can get anywhere. */
static size_t need_bytes(const struct resp_decoder *d, size_t have)
{
    size_t need = have + 1;
    if (d->body_bytes != RESP_BODY_NONE) {
        need = MAX(need, (size_t)d->offset + d->body_bytes + 2);
    }
    return need;
}

enum err resp_decode(struct resp_decoder *d, struct resp_argv *argv, struct slice in,
                     struct resp_request *out, struct errmsg *em)
{
    ASSERT(d->offset <= in.len);
    size_t skipped = 0;
    for (;;) {
        struct slice rest = { in.at + skipped, in.len - skipped };
        enum err e = ERR_AGAIN;
        if (LIKELY(rest.len != 0)) {
            e = LIKELY(rest.at[0] == '*') ? array_decode(d, argv, rest, em)
                                          : inline_decode(d, argv, rest, em);
        }
        if (UNLIKELY(e == ERR_AGAIN)) {
            out->used_bytes = skipped;
            out->need_bytes = need_bytes(d, rest.len);
            return ERR_AGAIN;
        }
        if (UNLIKELY(e != OK)) return e;
        skipped += d->offset;
        uint32_t argc = d->arg_count;
        decoder_reset(d);
        if (UNLIKELY(argc == 0)) continue;
        *out = (struct resp_request){ .argc = argc, .argv = argv->at, .used_bytes = skipped };
        return OK;
    }
}

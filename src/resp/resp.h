/* resp/resp.h - the Redis protocol: requests in, replies out.
 *
 * PURPOSE  Cut a byte stream into requests (RESP arrays and inline commands) and
 *          write replies in RESP2 or RESP3. Knows no command.
 * OWNS     resp_decoder: the spans of one incomplete request (NULL otherwise).
 *          resp_argv: the reusable arrays that results borrow from.
 * USES     base/ only. No I/O, no clock.
 * THREADS  Any one at a time for each struct.
 * LIMITS   struct resp_limits; before authentication also
 *          RESP_UNAUTH_ARG_COUNT_MAX, _BULK_BYTES_MAX, _REQUEST_BYTES_MAX.
 * ERRORS   ERR_AGAIN    the request is not complete yet
 *          ERR_PROTO    em holds the client's text without "ERR "; answer, then close
 *          ERR_FOREIGN  HTTP or TLS: close without an answer; em says what it was
 * INVARIANTS
 *   I1  Between calls a decoder holds offsets from the start of the incomplete
 *       request, never pointers: the caller may move the bytes.
 *   I2  No byte of a request is looked at more than a constant number of times,
 *       however it is split.
 *   I3  The same bytes give the same requests and errors, however they are split.
 */
#ifndef RESP_RESP_H
#define RESP_RESP_H

#include "base/base.h"
#include "base/buf.h"
#include "base/chain.h"

#define RESP_ARG_COUNT_MAX_DEFAULT 4096
#define RESP_BULK_BYTES_MAX_DEFAULT (1536u * 1024)
#define RESP_REQUEST_BYTES_MAX_DEFAULT (1536u * 1024 + 65536)
#define RESP_INLINE_BYTES_MAX_DEFAULT 4096
#define RESP_BYTES_MAX (1u << 30) /* no configuration raises a limit beyond this */

#define RESP_UNAUTH_ARG_COUNT_MAX 10
#define RESP_UNAUTH_BULK_BYTES_MAX 16384
#define RESP_UNAUTH_REQUEST_BYTES_MAX 65536

#define RESP_BULK_COPY_BYTES_MAX 4096 /* reply_bulk_blob copies up to here */

/* --- requests -------------------------------------------------------------- */

/* Shared by all connections; may change between calls. */
struct resp_limits {
    uint32_t arg_count_max;
    uint32_t bulk_bytes_max;
    uint32_t request_bytes_max; /* a whole request with its framing */
    uint32_t inline_bytes_max;  /* an inline command, and any line with a length */
};
void resp_limits_init(struct resp_limits *limits); /* the defaults above */

struct resp_span {
    uint32_t offset;
    uint32_t len;
};

/* One a connection. */
struct resp_decoder {
    const struct resp_limits *limits; /* borrowed; outlives the decoder */
    struct resp_span *spans;          /* NULL unless a request with arguments is incomplete */
    uint32_t span_cap;
    uint32_t arg_count_want; /* 0: at the start of a request */
    uint32_t arg_count;      /* complete ones so far */
    uint32_t offset;         /* where the next line or body starts */
    uint32_t scan;           /* where the search for a line's end goes on, from offset */
    uint32_t body_bytes;     /* RESP_BODY_NONE: a length line is next */
    bool authenticated;      /* false: the RESP_UNAUTH_ limits hold too; the owner sets it */
};
#define RESP_BODY_NONE UINT32_MAX

void resp_decoder_init(struct resp_decoder *d, const struct resp_limits *limits);
void resp_decoder_deinit(struct resp_decoder *d);

/* Nothing of the next request was seen: it may as well be made again. */
static inline bool resp_decoder_is_idle(const struct resp_decoder *d)
{
    return d->offset == 0 && d->scan == 0;
}

/* Where arguments are put: one a loop, or one for each request that must live
 * at the same time (a burst decoded ahead of execution). */
struct resp_argv {
    struct slice *at;
    size_t cap;
    struct buf text; /* the words of an inline command, unquoted */
};
void resp_argv_init(struct resp_argv *argv);
void resp_argv_deinit(struct resp_argv *argv);

struct resp_request {
    size_t argc;        /* OK: at least 1 */
    struct slice *argv; /* OK: borrowed from `in` and from the resp_argv, until either changes */
    size_t used_bytes;  /* OK: the request's end; ERR_AGAIN: what may be dropped (blank lines) */
    size_t need_bytes;  /* ERR_AGAIN: nothing can complete below this many bytes, counted behind
                           used_bytes; more than what `in` held there */
};

/* Decodes one request from the front of `in`, which starts behind the bytes used
 * by the last call and holds everything that arrived since. Empty lines, "*0" and
 * negative counts are passed over. On ERR_AGAIN the caller must drop used_bytes and
 * call again with more. After ERR_PROTO or ERR_FOREIGN the decoder must not be
 * used again, except to deinit it. em must not be NULL. */
enum err resp_decode(struct resp_decoder *d, struct resp_argv *argv, struct slice in,
                     struct resp_request *out, struct errmsg *em) MUST_USE;

/* --- replies ---------------------------------------------------------------- */

/* Where a reply goes and how it is spelled. A plain value: make one for each command. */
struct reply {
    struct chain *out;
    uint8_t proto;        /* 2 or 3 */
    uint32_t error_count; /* error replies written through this value */
};

static inline struct reply reply_to(struct chain *out, uint8_t proto)
{
    return (struct reply){ .out = out, .proto = proto };
}

void reply_ok(struct reply *r);                             /* +OK */
void reply_simple(struct reply *r, struct slice text);      /* +text; CR and LF become spaces */
void reply_error(struct reply *r, const char *prefix, const char *format, ...)
    __attribute__((format(printf, 3, 4)));                  /* -prefix text; same; cut at 512 */
void reply_err(struct reply *r, enum err e);                /* -prefix text, both of err.h */
void reply_int(struct reply *r, int64_t v);
void reply_bulk(struct reply *r, struct slice s);           /* copies */
void reply_bulk_cstr(struct reply *r, const char *text);
void reply_bulk_int(struct reply *r, int64_t v);            /* the digits as a bulk string */
/* References the blob if len > RESP_BULK_COPY_BYTES_MAX, else copies. */
void reply_bulk_blob(struct reply *r, struct blob *blob, size_t offset, size_t len);
void reply_null(struct reply *r);                           /* $-1 or _ */
void reply_null_array(struct reply *r);                     /* *-1 or _ */
void reply_array(struct reply *r, size_t count);
void reply_map(struct reply *r, size_t pair_count);         /* RESP2: array of 2 * pair_count */
void reply_set(struct reply *r, size_t count);              /* RESP2: array */
void reply_push(struct reply *r, size_t count);             /* RESP2: array */
void reply_verbatim(struct reply *r, struct slice text);    /* "txt"; RESP2: bulk */
void reply_bool(struct reply *r, bool v);                   /* #t, #f; RESP2: :1, :0 */
void reply_double(struct reply *r, double v);       /* shortest that reads back; RESP2: bulk */
void reply_raw(struct reply *r, struct slice encoded);      /* bytes that are replies already */

#endif

/* base/buf.h - a growable run of bytes with one owner, and an immutable counted one.
 *
 * PURPOSE  struct buf collects bytes; struct blob shares them. Decide nothing.
 * OWNS     buf: its bytes. blob: counted, freed with the last reference.
 * USES     base.h.
 * THREADS  One thread at a time. A blob's count is touched by the loop thread
 *          only; other threads may read the bytes while the loop holds a reference.
 * LIMITS   None: callers bound what they append.
 * ERRORS   None.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/base.h"

struct buf {
    uint8_t *at;
    size_t len;
    size_t cap;
};

void buf_deinit(struct buf *b); /* frees, leaves an empty buf */
void buf_grow(struct buf *b, size_t more_bytes); /* room for more_bytes behind len */

static inline void buf_clear(struct buf *b) { b->len = 0; }

static inline uint8_t *buf_reserve(struct buf *b, size_t bytes)
{
    if (UNLIKELY(b->cap - b->len < bytes)) buf_grow(b, bytes);
    return b->at + b->len;
}

static inline void buf_append(struct buf *b, const void *at, size_t bytes)
{
    uint8_t *to = buf_reserve(b, bytes);
    if (bytes != 0) memcpy(to, at, bytes);
    b->len += bytes;
}

static inline void buf_append_slice(struct buf *b, struct slice s) { buf_append(b, s.at, s.len); }
static inline struct slice buf_slice(const struct buf *b) { return (struct slice){ b->at, b->len }; }

static inline void buf_append_u8(struct buf *b, uint8_t v) { buf_append(b, &v, 1); }
static inline void buf_append_u16(struct buf *b, uint16_t v) { buf_append(b, &v, 2); }
static inline void buf_append_u32(struct buf *b, uint32_t v) { buf_append(b, &v, 4); }
static inline void buf_append_u64(struct buf *b, uint64_t v) { buf_append(b, &v, 8); }
static inline void buf_append_varint(struct buf *b, uint64_t v)
{
    b->len += varint_put(buf_reserve(b, 10), v);
}

/* Drops `bytes` from the front, moving the rest down. */
void buf_consume(struct buf *b, size_t bytes);

/* printf at the end of the buffer: for logs, INFO and the like, never the hot path. */
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Counted, immutable once shared. */
struct blob {
    uint32_t refs;
    uint32_t cap;
    size_t len;
    uint8_t at[];
};

struct blob *blob_new(size_t cap);                    /* len 0, one reference */
struct blob *blob_copy(struct slice s);               /* one reference */
static inline struct blob *blob_ref(struct blob *b)
{
    b->refs++;
    return b;
}
void blob_unref(struct blob *b); /* NULL is allowed */
static inline struct slice blob_slice(const struct blob *b) { return (struct slice){ b->at, b->len }; }

#endif

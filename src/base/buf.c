/* base/buf.c - see buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

void buf_deinit(struct buf *b)
{
    mem_free(b->at);
    *b = (struct buf){ 0 };
}

void buf_grow(struct buf *b, size_t more_bytes)
{
    size_t need = b->len + more_bytes;
    ASSERT(need >= more_bytes);
    if (need <= b->cap) return;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need) cap = cap < (1u << 20) ? cap * 2 : cap + cap / 2;
    b->at = mem_realloc(b->at, cap);
    b->cap = cap;
}

void buf_consume(struct buf *b, size_t bytes)
{
    ASSERT(bytes <= b->len);
    if (bytes == 0) return;
    memmove(b->at, b->at + bytes, b->len - bytes);
    b->len -= bytes;
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);
    char *to = (char *)buf_reserve(b, (size_t)len + 1);
    vsnprintf(to, (size_t)len + 1, format, again);
    va_end(again);
    b->len += (size_t)len;
}

struct blob *blob_new(size_t cap)
{
    ASSERT(cap <= UINT32_MAX);
    struct blob *b = mem_alloc(sizeof *b + cap);
    b->refs = 1;
    b->cap = (uint32_t)cap;
    b->len = 0;
    return b;
}

struct blob *blob_copy(struct slice s)
{
    struct blob *b = blob_new(s.len);
    if (s.len != 0) memcpy(b->at, s.at, s.len);
    b->len = s.len;
    return b;
}

void blob_unref(struct blob *b)
{
    if (b == NULL) return;
    ASSERT(b->refs > 0);
    if (--b->refs == 0) mem_free(b);
}

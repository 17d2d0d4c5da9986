/* base/base.h - what every file may use: slices, assertions, memory, numbers, little-endian.
 *
 * PURPOSE  The vocabulary of the tree. Decides nothing.
 * OWNS     Nothing. mem_alloc never returns NULL: out of memory aborts, so every
 *          size that a client can influence is bounded before it is allocated.
 * USES     libc only.
 * THREADS  Any.
 * LIMITS   None of its own; see base/limits.h.
 * ERRORS   ERR_NOT_INT from the parsers.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/mutant.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

_Noreturn void assert_fail(const char *cond, const char *file, int line, const char *func);

/* On in every build. Never on bytes from a client, a peer or a disk. */
#define ASSERT(cond) \
    do { \
        if (UNLIKELY(!(cond))) assert_fail(#cond, __FILE__, __LINE__, __func__); \
    } while (0)

/* Walks a structure: debug and sanitizer builds only. */
#ifdef CORDIS_SLOW_CHECKS
#define ASSERT_SLOW(cond) ASSERT(cond)
#else
#define ASSERT_SLOW(cond) ((void)0)
#endif

/* --- borrowed bytes ------------------------------------------------------- */

/* Valid until the callee returns unless a header says longer. at may be NULL only if len is 0. */
struct slice {
    const uint8_t *at;
    size_t len;
};

#define SLICE_LIT(text) ((struct slice){ (const uint8_t *)(text), sizeof(text) - 1 })
#define SLICE_NONE ((struct slice){ NULL, 0 })

struct slice slice_of(const char *text); /* a terminated string, without its end */

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* Byte order, a prefix sorts first. <0, 0, >0. */
static inline int slice_cmp(struct slice a, struct slice b)
{
    size_t len = MIN(a.len, b.len);
    int order = len == 0 ? 0 : memcmp(a.at, b.at, len);
    if (order != 0) return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.at, prefix.at, prefix.len) == 0);
}

/* ASCII case-insensitive, against a terminated word. */
bool slice_is(struct slice s, const char *word);

/* --- memory: never NULL, out of memory aborts ----------------------------- */

void *mem_alloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *at, size_t bytes) __attribute__((returns_nonnull));
void *mem_align(size_t align, size_t bytes) __attribute__((malloc, returns_nonnull));
void mem_free(void *at); /* NULL is allowed */
void *mem_copy(const void *at, size_t bytes); /* caller owns; bytes may be 0 */
/* What the allocator really gave (its size class); at least what was asked. */
size_t mem_usable(const void *at);

/* The calling thread is about to have little to do: what the allocator keeps for its next allocations
 * (half a megabyte after a load) is everyone's again. */
void mem_thread_rest(void);

/* For many allocations one after the other that are filled at once, as while loading: they mostly
 * ascend, so the pages behind the newest are asked for together, which costs a third of a fault
 * each. Best effort; no byte changes. Start with { 0 }. */
#define MEM_AHEAD_BYTES (256u << 10)
struct mem_ahead {
    uintptr_t end; /* up to here pages are there */
};
void mem_ahead_note(struct mem_ahead *a, const void *newest);

/* --- numbers --------------------------------------------------------------- */

/* Strict decimal as Redis reads it: no spaces, no '+', no leading zeros, whole slice. ERR_NOT_INT. */
enum err i64_parse(struct slice s, int64_t *out) MUST_USE;
enum err u64_parse(struct slice s, uint64_t *out) MUST_USE;

/* Writes decimal digits without an end mark; returns how many. out has room for 20 (u64) or 21. */
size_t u64_format(uint64_t v, char *out);
size_t i64_format(int64_t v, char *out);

static inline uint16_t u16_le(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t u32_le(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t u64_le(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void u16_le_put(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static inline void u32_le_put(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static inline void u64_le_put(uint8_t *p, uint64_t v) { memcpy(p, &v, sizeof v); }
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are little-endian");

static inline uint64_t u64_be(const uint8_t *p) { return __builtin_bswap64(u64_le(p)); }
static inline void u64_be_put(uint8_t *p, uint64_t v) { u64_le_put(p, __builtin_bswap64(v)); }
static inline uint32_t u32_be(const uint8_t *p) { return __builtin_bswap32(u32_le(p)); }
static inline void u32_be_put(uint8_t *p, uint32_t v) { u32_le_put(p, __builtin_bswap32(v)); }

/* LEB128. put returns bytes written (at most 10). get returns bytes read, 0 if cut or too long. */
size_t varint_put(uint8_t *out, uint64_t v);
size_t varint_get(const uint8_t *at, size_t len, uint64_t *out);

/* A full-avalanche mix of one word (pure, the same on every machine and in every version). */
static inline uint64_t u64_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ULL;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ULL;
    x ^= x >> 32;
    return x;
}

/* Hash for in-memory tables: seeded, so clients cannot aim at a bucket. Never stored, never replicated. */
uint64_t bytes_hash(const void *at, size_t len, uint64_t seed);

/* CRC32C (Castagnoli), as in RFC 3720 B.4; seed 0 starts, a former result continues. */
uint32_t crc32c(uint32_t seed, const void *at, size_t len);

#endif

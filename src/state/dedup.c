/* state/dedup.c - see dedup.h. */
#include "state/dedup.h"

#define WINDOW_WORDS (DEDUP_WINDOW / 64)

_Static_assert((DEDUP_WINDOW & (DEDUP_WINDOW - 1)) == 0, "a sequence's bit is found by a mask");

void dedup_init(struct dedup *d) { *d = (struct dedup){ .last = NULL }; }

static void origin_free(struct dedup_origin *o)
{
    mem_free(o->bits);
    mem_free(o);
}

void dedup_deinit(struct dedup *d)
{
    for (size_t i = 0; i < d->origin_count; i++) origin_free(d->origins[i]);
    mem_free(d->gone);
    dedup_init(d);
}

/* --- bits ----------------------------------------------------------------------------- */

static inline uint64_t mask_of(uint64_t seq) { return 1ULL << (seq % 64); }
static inline uint64_t *word_of(const struct dedup_origin *o, uint64_t seq)
{
    return &o->bits[(seq % DEDUP_WINDOW) / 64];
}
static bool bit_get(const struct dedup_origin *o, uint64_t seq)
{
    return o->bits != NULL && (*word_of(o, seq) & mask_of(seq)) != 0;
}
static void bit_set(struct dedup_origin *o, uint64_t seq)
{
    if (o->bits == NULL) o->bits = mem_zalloc(WINDOW_WORDS * sizeof *o->bits);
    *word_of(o, seq) |= mask_of(seq);
}
static void bit_clear(struct dedup_origin *o, uint64_t seq)
{
    if (o->bits != NULL) *word_of(o, seq) &= ~mask_of(seq);
}

/* dense goes up while what it stands at was applied. */
static void dense_advance(struct dedup_origin *o)
{
    while (o->dense < o->top && bit_get(o, o->dense)) {
        bit_clear(o, o->dense);
        o->dense++;
    }
}

static void floor_raise(struct dedup_origin *o, uint64_t floor_seq)
{
    if (floor_seq <= o->floor) return;
    o->floor = floor_seq;
    if (floor_seq <= o->dense) return;
    uint64_t end = MIN(floor_seq, o->top);
    for (uint64_t seq = o->dense; seq < end; seq++) bit_clear(o, seq);
    o->dense = floor_seq;
    o->top = MAX(o->top, floor_seq);
    dense_advance(o);
}

/* --- origins -------------------------------------------------------------------------- */

static struct dedup_origin *origin_find(const struct dedup *d, uint64_t member)
{
    for (size_t i = 0; i < d->origin_count; i++) {
        if (d->origins[i]->member == member) return d->origins[i];
    }
    return NULL;
}

const struct dedup_origin *dedup_find(const struct dedup *d, uint64_t member)
{
    return origin_find(d, member);
}

bool dedup_was_applied(const struct dedup *d, uint64_t member, uint32_t incarnation, uint64_t seq)
{
    const struct dedup_origin *o = origin_find(d, member);
    if (o == NULL || o->incarnation != incarnation || seq < o->floor) return false;
    return seq < o->dense || (seq < o->top && bit_get(o, seq));
}

static bool is_gone(const struct dedup *d, uint64_t member)
{
    for (size_t i = 0; i < d->gone_count; i++) {
        if (d->gone[i] == member) return true;
    }
    return false;
}

static struct dedup_origin *origin_add(struct dedup *d, uint64_t member, uint32_t incarnation)
{
    if (is_gone(d, member) || d->origin_count == DEDUP_ORIGIN_COUNT_MAX) return NULL;
    struct dedup_origin *o = mem_zalloc(sizeof *o);
    o->member = member;
    o->incarnation = incarnation;
    d->origins[d->origin_count++] = o;
    return o;
}

/* What an older incarnation did is of no interest any more. */
static void origin_restart(struct dedup_origin *o, uint32_t incarnation)
{
    mem_free(o->bits);
    *o = (struct dedup_origin){ .member = o->member, .incarnation = incarnation };
}

enum dedup_verdict dedup_check_slow(struct dedup *d, uint64_t member, uint32_t incarnation,
                                    uint64_t seq, uint64_t floor_seq)
{
    struct dedup_origin *o = origin_find(d, member);
    if (o == NULL) {
        o = origin_add(d, member, incarnation);
        if (o == NULL) return is_gone(d, member) ? DEDUP_STALE : DEDUP_TOO_FAR;
    }
    if (incarnation < o->incarnation) return DEDUP_STALE;
    if (incarnation > o->incarnation) origin_restart(o, incarnation);
    d->last = o;
    floor_raise(o, floor_seq);

    if (seq < o->floor) return DEDUP_BELOW_FLOOR;
    if (seq - o->floor >= DEDUP_WINDOW) return DEDUP_TOO_FAR;
    if (MUTANT(DEDUP_WINDOW_TOO_SMALL) && seq + 16 < o->dense) return DEDUP_APPLY;
    if (seq < o->dense || (seq < o->top && bit_get(o, seq))) return DEDUP_DUPLICATE;
    bit_set(o, seq);
    o->top = MAX(o->top, seq + 1);
    dense_advance(o);
    return DEDUP_APPLY;
}

bool dedup_raise(struct dedup *d, uint64_t member, uint32_t incarnation)
{
    struct dedup_origin *o = origin_find(d, member);
    if (o == NULL) return origin_add(d, member, incarnation) != NULL;
    if (incarnation > o->incarnation) origin_restart(o, incarnation);
    return true;
}

static void gone_add(struct dedup *d, uint64_t member)
{
    if (d->gone_count == DEDUP_GONE_COUNT_MAX) {
        memmove(d->gone, d->gone + 1, --d->gone_count * sizeof *d->gone);
    }
    d->gone = mem_realloc(d->gone, (d->gone_count + 1) * sizeof *d->gone);
    d->gone[d->gone_count++] = member;
}

void dedup_remove(struct dedup *d, uint64_t member)
{
    for (size_t i = 0; i < d->origin_count; i++) {
        if (d->origins[i]->member != member) continue;
        origin_free(d->origins[i]);
        d->origin_count--;
        size_t behind = d->origin_count - i;
        memmove(d->origins + i, d->origins + i + 1, behind * sizeof d->origins[0]);
        break;
    }
    d->last = NULL;
    if (!is_gone(d, member)) gone_add(d, member);
}

/* --- bytes ---------------------------------------------------------------------------- */

static void origin_encode(const struct dedup_origin *o, struct buf *out)
{
    buf_append_u64(out, o->member);
    buf_append_u32(out, o->incarnation);
    buf_append_varint(out, o->floor);
    buf_append_varint(out, o->dense - o->floor);
    buf_append_varint(out, o->top - o->dense);
    uint8_t byte = 0;
    for (uint64_t i = 0; i < o->top - o->dense; i++) {
        if (bit_get(o, o->dense + i)) byte = (uint8_t)(byte | 1u << (i % 8));
        if (i % 8 == 7 || o->dense + i + 1 == o->top) {
            buf_append_u8(out, byte);
            byte = 0;
        }
    }
}

void dedup_encode(const struct dedup *d, struct buf *out)
{
    buf_append_u8(out, DEDUP_FORMAT);
    buf_append_varint(out, d->origin_count);
    for (size_t i = 0; i < d->origin_count; i++) origin_encode(d->origins[i], out);
    buf_append_varint(out, d->gone_count);
    for (size_t i = 0; i < d->gone_count; i++) buf_append_u64(out, d->gone[i]);
}

static bool varint_take(struct slice *rest, uint64_t *out)
{
    size_t used = varint_get(rest->at, rest->len, out);
    if (used == 0) return false;
    *rest = (struct slice){ rest->at + used, rest->len - used };
    return true;
}

static enum err bits_decode(struct slice *rest, struct dedup_origin *o, uint64_t count)
{
    size_t bytes = (size_t)(count + 7) / 8;
    if (rest->len < bytes) return ERR_CORRUPT;
    for (uint64_t i = 0; i < count; i++) {
        if ((rest->at[i / 8] >> (i % 8) & 1) != 0) bit_set(o, o->dense + i);
    }
    if (count % 8 != 0 && rest->at[bytes - 1] >> (count % 8) != 0) return ERR_CORRUPT;
    *rest = (struct slice){ rest->at + bytes, rest->len - bytes };
    /* I2: dense itself was not applied, the one below top was. */
    if (count > 0 && (bit_get(o, o->dense) || !bit_get(o, o->top - 1))) return ERR_CORRUPT;
    return OK;
}

static enum err origin_decode(struct dedup *d, struct slice *rest)
{
    uint64_t floor_seq, dense, top;
    if (rest->len < 12) return ERR_CORRUPT;
    uint64_t member = u64_le(rest->at);
    uint32_t incarnation = u32_le(rest->at + 8);
    *rest = (struct slice){ rest->at + 12, rest->len - 12 };
    if (!varint_take(rest, &floor_seq) || !varint_take(rest, &dense) || !varint_take(rest, &top)) {
        return ERR_CORRUPT;
    }
    if (dense > DEDUP_WINDOW || top > DEDUP_WINDOW - dense) return ERR_CORRUPT;
    if (floor_seq > UINT64_MAX - DEDUP_WINDOW || origin_find(d, member) != NULL) return ERR_CORRUPT;
    struct dedup_origin *o = origin_add(d, member, incarnation);
    if (o == NULL) return ERR_CORRUPT;
    o->floor = floor_seq;
    o->dense = floor_seq + dense;
    o->top = o->dense + top;
    return bits_decode(rest, o, top);
}

static enum err all_decode(struct dedup *d, struct slice rest)
{
    uint64_t count;
    if (rest.len < 1 || rest.at[0] != DEDUP_FORMAT) return ERR_CORRUPT;
    rest = (struct slice){ rest.at + 1, rest.len - 1 };
    if (!varint_take(&rest, &count) || count > DEDUP_ORIGIN_COUNT_MAX) return ERR_CORRUPT;
    for (; count > 0; count--) TRY(origin_decode(d, &rest));
    if (!varint_take(&rest, &count) || count > DEDUP_GONE_COUNT_MAX) return ERR_CORRUPT;
    if (rest.len != count * 8) return ERR_CORRUPT;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t member = u64_le(rest.at + 8 * i);
        if (origin_find(d, member) != NULL || is_gone(d, member)) return ERR_CORRUPT;
        gone_add(d, member);
    }
    return OK;
}

enum err dedup_decode(struct dedup *d, struct slice bytes)
{
    ASSERT(d->origin_count == 0 && d->gone_count == 0);
    struct dedup next;
    dedup_init(&next);
    enum err e = all_decode(&next, bytes);
    if (e != OK) {
        dedup_deinit(&next);
        return e;
    }
    *d = next;
    return OK;
}

void dedup_verify(const struct dedup *d)
{
    for (size_t i = 0; i < d->origin_count; i++) {
        const struct dedup_origin *o = d->origins[i];
        ASSERT(o->floor <= o->dense && o->dense <= o->top);
        ASSERT(o->top == o->floor || o->top - o->floor <= DEDUP_WINDOW);
        ASSERT(!is_gone(d, o->member));
        size_t set = 0, want = 0;
        for (size_t w = 0; o->bits != NULL && w < WINDOW_WORDS; w++) {
            set += (size_t)__builtin_popcountll(o->bits[w]);
        }
        for (uint64_t seq = o->dense; seq < o->top; seq++) want += bit_get(o, seq);
        ASSERT(set == want);
        if (o->dense < o->top) ASSERT(!bit_get(o, o->dense) && bit_get(o, o->top - 1));
    }
}

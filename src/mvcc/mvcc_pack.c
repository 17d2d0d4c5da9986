/* mvcc/mvcc_pack.c - rows on their way to the store; see mvcc.h. */
#include "mvcc/mvcc_int.h"

#define RING_PACKS_MIN 16

static struct mvcc_pack *pack_at(const struct mvcc_packs *p, size_t at)
{
    ASSERT(at < p->count);
    return &p->ring[(p->first + at) & (p->cap - 1)];
}

static size_t pack_bytes(const struct mvcc_pack *pack)
{
    return sizeof *pack->body + pack->body->cap;
}

static void ring_grow(struct mvcc_packs *p)
{
    size_t cap = p->cap == 0 ? RING_PACKS_MIN : p->cap * 2;
    struct mvcc_pack *ring = mem_alloc(cap * sizeof *ring);
    for (size_t i = 0; i < p->count; i++) ring[i] = *pack_at(p, i);
    mem_free(p->ring);
    p->ring = ring;
    p->cap = cap;
    p->first = 0;
}

static void pack_seal(struct mvcc_packs *p)
{
    if (p->open.body == NULL) return;
    if (p->count == p->cap) ring_grow(p);
    p->count++;
    *pack_at(p, p->count - 1) = p->open;
    p->open = (struct mvcc_pack){ 0 };
}

static void pack_open(struct mvcc_packs *p, const struct row *r, size_t row_bytes_max)
{
    ASSERT(p->open.body == NULL);
    struct blob *body = blob_new(MAX(PACK_CAP_BYTES, 1 + row_bytes_max));
    body->at[0] = PACK_FORMAT;
    body->len = 1;
    p->open = (struct mvcc_pack){ .first_rev = r->rev, .first_n = r->n, .body = body };
    p->bytes += pack_bytes(&p->open);
}

void mvcc_pack_append(struct mvcc_packs *p, const struct row *r)
{
    size_t row_bytes_max = ROW_HEAD_BYTES_MAX + r->key.len + r->value.len;
    struct blob *body = p->open.body;
    if (body == NULL || body->cap - body->len < row_bytes_max) {
        pack_seal(p);
        pack_open(p, r, row_bytes_max);
        body = p->open.body;
    }
    uint8_t *to = body->at + body->len;
    to += row_head_encode(to, r, p->open.first_rev);
    memcpy(to, r->key.at, r->key.len);
    to += r->key.len;
    if (r->value.len != 0) memcpy(to, r->value.at, r->value.len);
    body->len = (size_t)(to - body->at) + r->value.len;
    ASSERT(body->len <= body->cap);
    p->open.last_rev = r->rev;
    p->open.row_count++;
}

void mvcc_packs_deinit(struct mvcc_packs *p)
{
    for (size_t i = 0; i < p->count; i++) blob_unref(pack_at(p, i)->body);
    blob_unref(p->open.body);
    mem_free(p->ring);
    *p = (struct mvcc_packs){ 0 };
}

/* A pack that is closed early may be nearly empty: it gets a body of its size. */
void mvcc_packs_seal(struct mvcc *m)
{
    struct mvcc_packs *p = &m->packs;
    struct blob *body = p->open.body;
    if (body == NULL) return;
    if (body->refs == 1 && body->len < body->cap / 2) {
        p->bytes -= pack_bytes(&p->open);
        p->open.body = blob_copy(blob_slice(body));
        p->bytes += pack_bytes(&p->open);
        blob_unref(body);
    }
    pack_seal(p);
}

bool mvcc_packs_take(struct mvcc *m, struct mvcc_pack *out)
{
    struct mvcc_packs *p = &m->packs;
    if (p->taken == p->count) return false;
    *out = *pack_at(p, p->taken++);
    blob_ref(out->body);
    return true;
}

void mvcc_packs_stored(struct mvcc *m, uint64_t rev)
{
    struct mvcc_packs *p = &m->packs;
    while (p->stored < p->taken && pack_at(p, p->stored)->last_rev <= rev) p->stored++;
    while (p->stored > 0 && p->bytes > MVCC_RECENT_PACK_BYTES) {
        struct mvcc_pack *oldest = pack_at(p, 0);
        p->bytes -= pack_bytes(oldest);
        blob_unref(oldest->body);
        p->first = (p->first + 1) & (p->cap - 1);
        p->count--;
        p->taken--;
        p->stored--;
    }
}

/* If the oldest pack begins inside a revision, that revision is not complete here. */
uint64_t mvcc_packs_first_rev(const struct mvcc *m)
{
    struct mvcc_pack oldest;
    if (!mvcc_packs_at(m, 0, &oldest)) return m->rev + 1;
    return oldest.first_n == 1 ? oldest.first_rev : oldest.first_rev + 1;
}

size_t mvcc_packs_bytes(const struct mvcc *m)
{
    return m->packs.bytes;
}

bool mvcc_packs_at(const struct mvcc *m, size_t at, struct mvcc_pack *out)
{
    const struct mvcc_packs *p = &m->packs;
    if (at < p->count) {
        *out = *pack_at(p, at);
        return true;
    }
    if (at > p->count || p->open.body == NULL) return false;
    *out = p->open;
    return true;
}

size_t mvcc_packs_find(const struct mvcc *m, uint64_t rev)
{
    const struct mvcc_packs *p = &m->packs;
    size_t low = 0;
    size_t high = p->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (pack_at(p, mid)->last_rev < rev) low = mid + 1;
        else high = mid;
    }
    if (low < p->count || p->open.body == NULL) return low;
    return p->open.last_rev >= rev ? low : low + 1;
}

void mvcc_packs_check(const struct mvcc_packs *p)
{
    ASSERT(p->stored <= p->taken);
    ASSERT(p->taken <= p->count);
    size_t bytes = p->open.body == NULL ? 0 : pack_bytes(&p->open);
    for (size_t i = 0; i < p->count; i++) {
        const struct mvcc_pack *pack = pack_at(p, i);
        const struct mvcc_pack *next = i + 1 < p->count ? pack_at(p, i + 1) : &p->open;
        ASSERT(pack->row_count >= 1);
        ASSERT(pack->first_rev <= pack->last_rev);
        ASSERT(pack->body->len <= pack->body->cap);
        if (next->body != NULL) ASSERT(pack->last_rev <= next->first_rev);
        bytes += pack_bytes(pack);
    }
    ASSERT(bytes == p->bytes);
}

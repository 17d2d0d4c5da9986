/* mvcc/mvcc_index.c - see mvcc_index_int.h. */
#include "mvcc/mvcc_index_int.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define LINE_BYTES 64
#define SLAB_SEGMENTS 7 /* with the line in front: 4096 bytes, a class of the allocator */
#define SLOT_BITS_FIRST 8  /* the hash bits that a slot keeps in its upper 16 */
#define SLOT_BITS_END 24
#define PREFETCH_ENTRIES_MAX 2

struct index_slab {
    struct index_slab *next;
    uint64_t used;
    uint8_t fill[LINE_BYTES - 16];
    struct index_segment segments[SLAB_SEGMENTS];
};
_Static_assert(sizeof(struct index_slab) == 4096, "a slab is one page");

static inline uint8_t tag_of(uint64_t hash) { return (uint8_t)(0x80 | hash >> 57); }
static inline uint64_t slot_bits_of(uint64_t hash)
{
    return (hash >> SLOT_BITS_FIRST & 0xffff) << INDEX_PTR_BITS;
}
static inline struct index_segment *word_segment(uint64_t word)
{
    return (struct index_segment *)(uintptr_t)(word & INDEX_PTR_MASK);
}
static inline uint32_t word_depth(uint64_t word) { return (uint32_t)(word >> INDEX_PTR_BITS); }
static inline uint64_t word_of(const struct index_segment *s, uint32_t depth)
{
    return (uint64_t)(uintptr_t)s | (uint64_t)depth << INDEX_PTR_BITS;
}
static inline uint64_t *word_at(const struct mvcc_index *x, uint64_t hash)
{
    return &x->directory[hash & ((1ULL << x->depth) - 1)];
}

#if defined(__SSE2__)
static inline uint64_t tags_match_16(const uint8_t *tags, __m128i want)
{
    __m128i there = _mm_load_si128((const __m128i *)(const void *)tags);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(there, want));
}

/* Bit i is set where tags[i] == tag. */
static inline uint64_t tags_match(const struct index_segment *s, uint8_t tag)
{
    __m128i want = _mm_set1_epi8((char)tag);
    return tags_match_16(s->tags, want) | tags_match_16(s->tags + 16, want) << 16 |
           tags_match_16(s->tags + 32, want) << 32 | tags_match_16(s->tags + 48, want) << 48;
}
#else
static inline uint64_t tags_match(const struct index_segment *s, uint8_t tag)
{
    uint64_t match = 0;
    for (unsigned i = 0; i < INDEX_SLOTS; i++) match |= (uint64_t)(s->tags[i] == tag) << i;
    return match;
}
#endif

static struct index_segment *segment_new(struct mvcc_index *x)
{
    if (x->slabs == NULL || x->slabs->used == SLAB_SEGMENTS) {
        struct index_slab *slab = mem_align(LINE_BYTES, sizeof *slab);
        slab->next = x->slabs;
        slab->used = 0;
        x->slabs = slab;
    }
    struct index_segment *s = &x->slabs->segments[x->slabs->used++];
    memset(s, 0, sizeof *s);
    ASSERT(((uintptr_t)s & ~(uintptr_t)INDEX_PTR_MASK) == 0);
    return s;
}

static void directory_build(struct mvcc_index *x, uint32_t depth)
{
    x->depth = depth;
    x->directory = mem_alloc(sizeof *x->directory << depth);
    for (size_t i = 0; i < (size_t)1 << depth; i++) {
        x->directory[i] = word_of(segment_new(x), depth);
    }
}

void mvcc_index_init(struct mvcc_index *x, uint64_t seed)
{
    *x = (struct mvcc_index){ .seed = seed };
    directory_build(x, 0);
}

void mvcc_index_deinit(struct mvcc_index *x)
{
    while (x->slabs != NULL) {
        struct index_slab *slab = x->slabs;
        x->slabs = slab->next;
        mem_free(slab);
    }
    mem_free(x->directory);
    *x = (struct mvcc_index){ 0 };
}

void mvcc_index_reserve(struct mvcc_index *x, uint64_t count)
{
    ASSERT(x->count == 0);
    uint32_t depth = 0;
    while (depth < INDEX_DEPTH_MAX && count >> depth > INDEX_SLOTS) depth++;
    if (depth <= x->depth) return;
    uint64_t seed = x->seed;
    mvcc_index_deinit(x);
    x->seed = seed;
    directory_build(x, depth);
}

uint64_t *mvcc_index_find(const struct mvcc_index *x, uint64_t hash, struct slice key)
{
    struct index_segment *s = word_segment(*word_at(x, hash));
    __builtin_prefetch(&s->slots[tag_of(hash) % INDEX_SLOTS]); /* beside the tags, not after them */
    uint64_t bits = slot_bits_of(hash);
    for (uint64_t match = tags_match(s, tag_of(hash)); match != 0; match &= match - 1) {
        uint64_t *slot = &s->slots[__builtin_ctzll(match)];
        if (((*slot ^ bits) & ~INDEX_PTR_MASK) != 0) continue;
        const struct entry *e = index_slot_entry(*slot);
        if (LIKELY(slice_eq(entry_key(e), key))) return slot;
    }
    return NULL;
}

/* Into a free slot, as near behind its home as possible. */
static void segment_put(struct index_segment *s, uint64_t free_slots, uint8_t tag, uint64_t slot)
{
    ASSERT(free_slots != 0);
    unsigned home = tag % INDEX_SLOTS;
    uint64_t turned = free_slots >> home | free_slots << ((INDEX_SLOTS - home) % INDEX_SLOTS);
    unsigned at = (home + (unsigned)__builtin_ctzll(turned)) % INDEX_SLOTS;
    ASSERT(s->tags[at] == 0);
    s->tags[at] = tag;
    s->slots[at] = slot;
}

static bool slot_hash_bit(const struct mvcc_index *x, uint64_t slot, uint32_t bit)
{
    if (bit >= SLOT_BITS_FIRST && bit < SLOT_BITS_END) {
        return (slot >> (INDEX_PTR_BITS + bit - SLOT_BITS_FIRST) & 1) != 0;
    }
    return (mvcc_index_hash(x, entry_key(index_slot_entry(slot))) >> bit & 1) != 0;
}

static void directory_double(struct mvcc_index *x)
{
    ASSERT(x->depth < INDEX_DEPTH_MAX);
    size_t words = (size_t)1 << x->depth;
    uint64_t *grown = mem_alloc(2 * words * sizeof *grown);
    memcpy(grown, x->directory, words * sizeof *grown);
    memcpy(grown + words, x->directory, words * sizeof *grown);
    mem_free(x->directory);
    x->directory = grown;
    x->depth++;
}

/* Splits the full segment that `hash` belongs to by the next hash bit. */
static void segment_split(struct mvcc_index *x, uint64_t hash)
{
    uint32_t depth = word_depth(*word_at(x, hash));
    if (depth == x->depth) directory_double(x);
    ASSERT(depth < x->depth);

    struct index_segment *low = word_segment(*word_at(x, hash));
    struct index_segment *high = segment_new(x);
    for (unsigned i = 0; i < INDEX_SLOTS; i++) {
        ASSERT(low->tags[i] != 0);
        if (!slot_hash_bit(x, low->slots[i], depth)) continue;
        segment_put(high, tags_match(high, 0), low->tags[i], low->slots[i]);
        low->tags[i] = 0;
        low->slots[i] = 0;
    }
    uint64_t step = 1ULL << depth;
    for (uint64_t at = hash & (step - 1); at < 1ULL << x->depth; at += step) {
        x->directory[at] = word_of((at & step) != 0 ? high : low, depth + 1);
    }
}

void mvcc_index_insert(struct mvcc_index *x, uint64_t hash, struct entry *e)
{
    ASSERT(((uintptr_t)e & ~(uintptr_t)INDEX_PTR_MASK) == 0);
    struct index_segment *s = word_segment(*word_at(x, hash));
    uint64_t free_slots = tags_match(s, 0);
    while (UNLIKELY(free_slots == 0)) {
        segment_split(x, hash);
        s = word_segment(*word_at(x, hash));
        free_slots = tags_match(s, 0);
    }
    segment_put(s, free_slots, tag_of(hash), (uint64_t)(uintptr_t)e | slot_bits_of(hash));
    x->count++;
}

void mvcc_index_replace(struct mvcc_index *x, uint64_t *slot, struct entry *e)
{
    (void)x;
    ASSERT(((uintptr_t)e & ~(uintptr_t)INDEX_PTR_MASK) == 0);
    *slot = (*slot & ~INDEX_PTR_MASK) | (uint64_t)(uintptr_t)e;
}

void mvcc_index_remove(struct mvcc_index *x, uint64_t hash, uint64_t *slot)
{
    struct index_segment *s = word_segment(*word_at(x, hash));
    ASSERT(slot >= s->slots && slot < s->slots + INDEX_SLOTS);
    size_t at = (size_t)(slot - s->slots);
    ASSERT(s->tags[at] == tag_of(hash));
    s->tags[at] = 0;
    s->slots[at] = 0;
    x->count--;
}

void mvcc_index_prefetch_slot(const struct mvcc_index *x, uint64_t hash)
{
    const struct index_segment *s = word_segment(*word_at(x, hash));
    __builtin_prefetch(s->tags);
    __builtin_prefetch(&s->slots[tag_of(hash) % INDEX_SLOTS]);
}

void mvcc_index_prefetch_entry(const struct mvcc_index *x, uint64_t hash)
{
    const struct index_segment *s = word_segment(*word_at(x, hash));
    uint64_t bits = slot_bits_of(hash);
    unsigned found = 0;
    for (uint64_t match = tags_match(s, tag_of(hash)); match != 0; match &= match - 1) {
        uint64_t slot = s->slots[__builtin_ctzll(match)];
        if (((slot ^ bits) & ~INDEX_PTR_MASK) != 0) continue;
        const char *e = (const char *)index_slot_entry(slot);
        __builtin_prefetch(e);
        __builtin_prefetch(e + LINE_BYTES);
        if (++found == PREFETCH_ENTRIES_MAX) return;
    }
}

struct entry *mvcc_index_next(const struct mvcc_index *x, struct mvcc_index_walk *walk)
{
    if (!walk->started) *walk = (struct mvcc_index_walk){ .slab = x->slabs, .started = true };
    while (walk->slab != NULL) {
        while (walk->segment < walk->slab->used) {
            const struct index_segment *s = &walk->slab->segments[walk->segment];
            while (walk->slot < INDEX_SLOTS) {
                uint32_t at = walk->slot++;
                if (s->tags[at] != 0) return index_slot_entry(s->slots[at]);
            }
            walk->segment++;
            walk->slot = 0;
        }
        walk->slab = walk->slab->next;
        walk->segment = 0;
    }
    return NULL;
}

static uint64_t segment_check(const struct mvcc_index *x, uint64_t word, uint64_t at)
{
    const struct index_segment *s = word_segment(word);
    uint64_t low_bits = (1ULL << word_depth(word)) - 1;
    uint64_t count = 0;
    for (unsigned i = 0; i < INDEX_SLOTS; i++) {
        if (s->tags[i] == 0) {
            ASSERT(s->slots[i] == 0);
            continue;
        }
        struct slice key = entry_key(index_slot_entry(s->slots[i]));
        uint64_t hash = mvcc_index_hash(x, key);
        ASSERT((hash & low_bits) == (at & low_bits));
        ASSERT(s->tags[i] == tag_of(hash));
        ASSERT((s->slots[i] & ~INDEX_PTR_MASK) == slot_bits_of(hash));
        ASSERT(mvcc_index_find(x, hash, key) == &s->slots[i]);
        count++;
    }
    return count;
}

void mvcc_index_check(const struct mvcc_index *x)
{
    uint64_t count = 0;
    for (uint64_t at = 0; at < 1ULL << x->depth; at++) {
        uint64_t word = x->directory[at];
        ASSERT(word_depth(word) <= x->depth);
        uint64_t first = at & ((1ULL << word_depth(word)) - 1);
        ASSERT(x->directory[first] == word);
        if (first == at) count += segment_check(x, word, at);
    }
    ASSERT(count == x->count);
}

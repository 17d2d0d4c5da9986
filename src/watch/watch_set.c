/* watch/watch_set.c - see watch_set.h. Keys and prefixes share one way of hashing, byte by byte, so
 * that one pass over a key gives the hash of each of its prefixes. */
#include "watch/watch_int.h"

#define TABLE_BUCKETS_MIN 64
#define HASH_FACTOR 0x9fb21c651e98df25ULL

struct group_table {
    struct watch_group **buckets;
    size_t bucket_count; /* a power of two; 0 before the first group */
    size_t group_count;
};

struct prefix_length {
    uint32_t len;
    uint32_t group_count;
};

struct watch_set {
    size_t watcher_count;
    uint64_t seed;
    uint64_t serial; /* of range groups, for their priority */
    struct group_table keys, prefixes;
    struct prefix_length *lengths; /* I3 */
    size_t length_count, length_cap;
    struct watch_group *ranges;
    size_t range_count;
    bool matching;
};

/* --- hash tables ------------------------------------------------------------------------ */

static inline uint64_t hash_step(uint64_t h, uint8_t byte)
{
    return (h ^ byte) * HASH_FACTOR;
}

static uint64_t hash_of(uint64_t seed, struct slice s)
{
    uint64_t h = seed;
    for (size_t i = 0; i < s.len; i++) h = hash_step(h, s.at[i]);
    return u64_mix(h);
}

static struct watch_group *table_find(const struct group_table *t, uint64_t hash, struct slice key)
{
    if (t->group_count == 0) return NULL;
    struct watch_group *g = t->buckets[hash & (t->bucket_count - 1)];
    while (g != NULL && (g->table.hash != hash || !slice_eq(group_start(g), key))) g = g->table.next;
    return g;
}

static void table_resize(struct group_table *t, size_t bucket_count)
{
    struct watch_group **buckets = mem_zalloc(bucket_count * sizeof(struct watch_group *));
    for (size_t i = 0; i < t->bucket_count; i++) {
        struct watch_group *next = NULL;
        for (struct watch_group *g = t->buckets[i]; g != NULL; g = next) {
            next = g->table.next;
            struct watch_group **at = &buckets[g->table.hash & (bucket_count - 1)];
            g->table.next = *at;
            *at = g;
        }
    }
    mem_free(t->buckets);
    t->buckets = buckets;
    t->bucket_count = bucket_count;
}

static void table_insert(struct group_table *t, struct watch_group *g)
{
    if (t->group_count == t->bucket_count) {
        table_resize(t, MAX(t->bucket_count * 2, TABLE_BUCKETS_MIN));
    }
    struct watch_group **at = &t->buckets[g->table.hash & (t->bucket_count - 1)];
    g->table.next = *at;
    *at = g;
    t->group_count++;
}

static void table_remove(struct group_table *t, struct watch_group *g)
{
    struct watch_group **at = &t->buckets[g->table.hash & (t->bucket_count - 1)];
    while (*at != g) at = &(*at)->table.next;
    *at = g->table.next;
    t->group_count--;
    if (t->bucket_count > TABLE_BUCKETS_MIN && t->group_count < t->bucket_count / 8) {
        table_resize(t, t->bucket_count / 2);
    }
}

/* --- lengths of prefixes ------------------------------------------------------------------ */

/* The first length that is not below len. */
static size_t length_find(const struct watch_set *s, uint32_t len)
{
    size_t low = 0;
    size_t high = s->length_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->lengths[middle].len < len) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void length_add(struct watch_set *s, uint32_t len)
{
    size_t at = length_find(s, len);
    if (at < s->length_count && s->lengths[at].len == len) {
        s->lengths[at].group_count++;
        return;
    }
    if (s->length_count == s->length_cap) {
        s->length_cap = MAX(s->length_cap * 2, 8);
        s->lengths = mem_realloc(s->lengths, s->length_cap * sizeof *s->lengths);
    }
    memmove(s->lengths + at + 1, s->lengths + at, (s->length_count - at) * sizeof *s->lengths);
    s->lengths[at] = (struct prefix_length){ len, 1 };
    s->length_count++;
}

static void length_remove(struct watch_set *s, uint32_t len)
{
    size_t at = length_find(s, len);
    ASSERT(at < s->length_count && s->lengths[at].len == len);
    if (--s->lengths[at].group_count > 0) return;
    s->length_count--;
    memmove(s->lengths + at, s->lengths + at + 1, (s->length_count - at) * sizeof *s->lengths);
}

/* --- groups ---------------------------------------------------------------------------------- */

static struct watch_group *group_new(enum watch_kind kind, struct slice start, struct slice end)
{
    struct watch_group *g = mem_zalloc(sizeof *g + start.len + end.len);
    g->kind = kind;
    g->start_len = (uint32_t)start.len;
    g->end_len = (uint32_t)end.len;
    if (start.len > 0) memcpy(g->bytes, start.at, start.len);
    if (end.len > 0) memcpy(g->bytes + start.len, end.at, end.len);
    return g;
}

static struct watch_group *hashed_group(struct watch_set *s, enum watch_kind kind, struct slice start)
{
    struct group_table *t = kind == WATCH_KEY ? &s->keys : &s->prefixes;
    uint64_t hash = hash_of(s->seed, start);
    struct watch_group *g = table_find(t, hash, start);
    if (g != NULL) return g;
    g = group_new(kind, start, SLICE_NONE);
    g->table.hash = hash;
    table_insert(t, g);
    if (kind == WATCH_PREFIX) length_add(s, g->start_len);
    return g;
}

static struct watch_group *range_group(struct watch_set *s, struct slice start, struct slice end)
{
    struct watch_group *g = watch_range_find(s->ranges, start, end);
    if (g != NULL) return g;
    g = group_new(WATCH_RANGE, start, end);
    g->tree.priority = u64_mix(s->seed + ++s->serial);
    s->ranges = watch_range_insert(s->ranges, g);
    s->range_count++;
    return g;
}

static void group_drop(struct watch_set *s, struct watch_group *g)
{
    switch (g->kind) {
    case WATCH_KEY:
        table_remove(&s->keys, g);
        break;
    case WATCH_PREFIX:
        table_remove(&s->prefixes, g);
        length_remove(s, g->start_len);
        break;
    case WATCH_RANGE:
        s->ranges = watch_range_remove(s->ranges, g);
        s->range_count--;
        break;
    }
    mem_free(g->watchers);
    mem_free(g);
}

/* --- the set ----------------------------------------------------------------------------------- */

struct watch_set *watch_set_new(uint64_t hash_seed)
{
    struct watch_set *s = mem_zalloc(sizeof *s);
    s->seed = u64_mix(hash_seed + 1);
    return s;
}

void watch_set_free(struct watch_set *s)
{
    if (s == NULL) return;
    ASSERT(s->watcher_count == 0);
    ASSERT(s->keys.group_count == 0 && s->prefixes.group_count == 0 && s->ranges == NULL);
    mem_free(s->keys.buckets);
    mem_free(s->prefixes.buckets);
    mem_free(s->lengths);
    mem_free(s);
}

size_t watch_count(const struct watch_set *s) { return s->watcher_count; }

void watch_add(struct watch_set *s, struct watcher *w, enum watch_kind kind, struct slice start,
               struct slice end)
{
    ASSERT(!s->matching);
    ASSERT(!watcher_is_in(w));
    ASSERT(start.len <= WATCH_KEY_BYTES_MAX);
    ASSERT(kind != WATCH_RANGE || (end.len > 0 && end.len <= WATCH_KEY_BYTES_MAX));
    struct watch_group *g =
        kind == WATCH_RANGE ? range_group(s, start, end) : hashed_group(s, kind, start);
    if (g->count == g->cap) {
        g->cap = MAX(g->cap * 2, 1);
        g->watchers = mem_realloc(g->watchers, g->cap * sizeof(struct watcher *));
    }
    w->group = g;
    w->at = g->count;
    g->watchers[g->count++] = w;
    s->watcher_count++;
}

void watch_remove(struct watch_set *s, struct watcher *w)
{
    ASSERT(!s->matching);
    ASSERT(watcher_is_in(w));
    struct watch_group *g = w->group;
    ASSERT(w->at < g->count && g->watchers[w->at] == w);
    struct watcher *last = g->watchers[--g->count];
    g->watchers[w->at] = last;
    last->at = w->at;
    w->group = NULL;
    s->watcher_count--;
    if (g->count == 0) group_drop(s, g);
}

/* --- matching ------------------------------------------------------------------------------------ */

struct visit {
    watch_visit_fn *visit;
    void *ctx;
};

static bool visit_group(void *ctx, struct watch_group *g)
{
    const struct visit *v = ctx;
    for (uint32_t i = 0; i < g->count; i++) {
        if (v->visit(v->ctx, g->watchers[i])) return true;
    }
    return false;
}

static bool match_hashed(struct watch_set *s, struct slice key, struct visit *v)
{
    uint64_t h = s->seed;
    size_t at = 0;
    for (size_t i = 0; i < s->length_count && s->lengths[i].len <= key.len; i++) {
        struct slice prefix = { key.at, s->lengths[i].len };
        for (; at < prefix.len; at++) h = hash_step(h, key.at[at]);
        struct watch_group *g = table_find(&s->prefixes, u64_mix(h), prefix);
        if (g != NULL && visit_group(v, g)) return true;
    }
    if (s->keys.group_count == 0) return false;
    for (; at < key.len; at++) h = hash_step(h, key.at[at]);
    struct watch_group *g = table_find(&s->keys, u64_mix(h), key);
    return g != NULL && visit_group(v, g);
}

bool watch_match(struct watch_set *s, struct slice key, watch_visit_fn *visit, void *ctx)
{
    if (s->watcher_count == 0) return false;
    ASSERT(!s->matching);
    struct visit v = { visit, ctx };
    s->matching = true;
    bool stopped = match_hashed(s, key, &v) || watch_range_stab(s->ranges, key, visit_group, &v);
    s->matching = false;
    return stopped;
}

/* --- checks ------------------------------------------------------------------------------------------ */

static size_t table_check(const struct group_table *t, enum watch_kind kind, uint64_t seed)
{
    size_t groups = 0;
    size_t watchers = 0;
    for (size_t i = 0; i < t->bucket_count; i++) {
        for (const struct watch_group *g = t->buckets[i]; g != NULL; g = g->table.next) {
            ASSERT(g->kind == kind && g->count > 0);
            ASSERT(g->table.hash == hash_of(seed, group_start(g)));
            for (uint32_t w = 0; w < g->count; w++) {
                ASSERT(g->watchers[w]->group == g && g->watchers[w]->at == w);
            }
            watchers += g->count;
            groups++;
        }
    }
    ASSERT(groups == t->group_count);
    return watchers;
}

static size_t range_watchers(const struct watch_group *g)
{
    if (g == NULL) return 0;
    ASSERT(g->count > 0);
    for (uint32_t w = 0; w < g->count; w++) ASSERT(g->watchers[w]->group == g && g->watchers[w]->at == w);
    return g->count + range_watchers(g->tree.left) + range_watchers(g->tree.right);
}

void watch_set_check(const struct watch_set *s)
{
    size_t watchers = table_check(&s->keys, WATCH_KEY, s->seed);
    watchers += table_check(&s->prefixes, WATCH_PREFIX, s->seed);
    watchers += range_watchers(s->ranges);
    ASSERT(watchers == s->watcher_count);
    ASSERT(watch_range_check(s->ranges) == s->range_count);
    size_t groups = 0;
    for (size_t i = 0; i < s->length_count; i++) {
        ASSERT(i == 0 || s->lengths[i - 1].len < s->lengths[i].len);
        ASSERT(s->lengths[i].group_count > 0);
        groups += s->lengths[i].group_count;
    }
    ASSERT(groups == s->prefixes.group_count);
}

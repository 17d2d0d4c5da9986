/* state/lease.c - see lease.h: the table of leases. Lives are in life.c, parts in lease_int.h. */
#include "state/lease.h"

#include "state/lease_int.h"

#define KEEPALIVE_GROUP 16 /* lookups whose cache misses overlap */
#define DUE_STACK_MAX 64   /* three for each of the at most 16 levels, and four */

/* --- map by id: linear hashing -------------------------------------------------------- */

static inline uint64_t bucket_of(const struct lease_map *m, uint64_t id)
{
    uint64_t h = u64_mix(id ^ m->seed);
    uint64_t bucket = h & (2 * m->low - 1);
    return bucket < m->buckets ? bucket : h & (m->low - 1);
}

static inline struct lease **head_at(const struct lease_map *m, uint64_t bucket)
{
    return &m->blocks[bucket / LEASE_MAP_BLOCK][bucket % LEASE_MAP_BLOCK];
}

static void map_init(struct lease_map *m, uint64_t seed)
{
    *m = (struct lease_map){ .seed = u64_mix(seed), .low = LEASE_MAP_BLOCK,
                             .buckets = LEASE_MAP_BLOCK, .block_cap = 16 };
    m->blocks = mem_alloc(m->block_cap * sizeof *m->blocks);
    m->blocks[0] = mem_zalloc(LEASE_MAP_BLOCK * sizeof *m->blocks[0]);
}

static void map_deinit(struct lease_map *m)
{
    for (uint64_t at = 0; at < m->buckets; at += LEASE_MAP_BLOCK) {
        mem_free(m->blocks[at / LEASE_MAP_BLOCK]);
    }
    mem_free(m->blocks);
}

static struct lease *map_find(const struct lease_map *m, uint64_t id)
{
    struct lease *l = *head_at(m, bucket_of(m, id));
    while (l != NULL && l->id != id) l = l->hash_next;
    return l;
}

/* One more bucket: takes its share from the one at the same place in the lower half. */
static void map_split(struct lease_map *m)
{
    uint64_t fresh = m->buckets;
    if (fresh % LEASE_MAP_BLOCK == 0) {
        size_t block = (size_t)(fresh / LEASE_MAP_BLOCK);
        if (block == m->block_cap) {
            m->block_cap *= 2;
            m->blocks = mem_realloc(m->blocks, m->block_cap * sizeof *m->blocks);
        }
        m->blocks[block] = mem_zalloc(LEASE_MAP_BLOCK * sizeof *m->blocks[0]);
    }
    m->buckets++;
    struct lease **from = head_at(m, fresh - m->low);
    struct lease **to = head_at(m, fresh);
    while (*from != NULL) {
        struct lease *l = *from;
        if (bucket_of(m, l->id) != fresh) {
            from = &l->hash_next;
            continue;
        }
        *from = l->hash_next;
        l->hash_next = *to;
        *to = l;
    }
    if (m->buckets == 2 * m->low) m->low *= 2;
}

static void map_add(struct lease_map *m, struct lease *l, uint64_t count_after)
{
    struct lease **head = head_at(m, bucket_of(m, l->id));
    l->hash_next = *head;
    *head = l;
    if (count_after > m->buckets) map_split(m);
}

static void map_remove(struct lease_map *m, const struct lease *l)
{
    struct lease **at = head_at(m, bucket_of(m, l->id));
    while (*at != l) at = &(*at)->hash_next;
    *at = l->hash_next;
}

/* --- table ---------------------------------------------------------------------------- */

struct lease_table *lease_table_new(uint64_t hash_seed)
{
    struct lease_table *t = mem_zalloc(sizeof *t);
    map_init(&t->map, hash_seed);
    id_set_init(&t->ids);
    timer_init(&t->timer);
    t->counter = 1;
    return t;
}

static void list_free(struct life *head)
{
    while (head != NULL) {
        struct life *next = head->next;
        mem_free(CONTAINER_OF(head, struct life_node, life));
        head = next;
    }
}

void lease_table_free(struct lease_table *t)
{
    if (t == NULL) return;
    for (uint32_t place = TIMER_ROOT; place < t->timer.end; place++) {
        uintptr_t owner = timer_at(&t->timer, place)->owner;
        struct lease *l = timer_lease(owner);
        if (l != NULL) {
            list_free(l->keys);
            mem_free(l);
        } else {
            mem_free(CONTAINER_OF(timer_life(owner), struct life_node, life));
        }
    }
    list_free(t->idle);
    map_deinit(&t->map);
    id_set_deinit(&t->ids);
    timer_deinit(&t->timer);
    mem_free(t->changed);
    mem_free(t->life_changed);
    mem_free(t->removed);
    buf_deinit(&t->life_gone);
    mem_free(t);
}

uint64_t lease_count(const struct lease_table *t) { return t->lease_count; }
uint64_t life_count(const struct lease_table *t) { return t->life_count; }

uint64_t life_expiring_count(const struct lease_table *t, uint8_t db) { return t->expiring[db]; }

uint64_t lease_table_hash(const struct lease_table *t)
{
    return t->hash + u64_mix(t->counter ^ 0x6c65617365636e74ULL);
}

uint64_t lease_counter(const struct lease_table *t) { return t->counter; }

void lease_counter_load(struct lease_table *t, uint64_t next_id) { t->counter = next_id; }

const struct lease *lease_find(const struct lease_table *t, uint64_t id)
{
    return map_find(&t->map, id);
}

struct lease *lease_get(const struct lease_table *t, uint64_t id) { return map_find(&t->map, id); }

static inline uint64_t hash_of(const struct lease *l)
{
    uint64_t h = u64_mix(l->id + 0x9e3779b97f4a7c15ULL);
    h = u64_mix(h ^ (uint64_t)l->ttl_ms);
    return u64_mix(h ^ (uint64_t)l->deadline_ms);
}

/* Adds to the list of what the next checkpoint must write; a lease is in it once. */
static inline void mark_changed(struct lease_table *t, struct lease *l)
{
    if (l->changed_at != 0) return;
    if (t->changed_count == t->changed_cap) {
        t->changed_cap = MAX(t->changed_cap * 2, 64);
        t->changed = mem_realloc(t->changed, t->changed_cap * sizeof *t->changed);
    }
    t->changed[t->changed_count++] = l;
    ASSERT(t->changed_count <= UINT32_MAX);
    l->changed_at = (uint32_t)t->changed_count;
}

static void unmark_changed(struct lease_table *t, const struct lease *l)
{
    if (l->changed_at == 0) return;
    t->changed[l->changed_at - 1] = NULL;
    while (t->changed_count > 0 && t->changed[t->changed_count - 1] == NULL) t->changed_count--;
}

static struct lease *lease_make(struct lease_table *t, uint64_t id, int64_t ttl_ms,
                                int64_t deadline_ms)
{
    struct lease *l = mem_zalloc(sizeof *l);
    l->id = id;
    l->ttl_ms = ttl_ms;
    l->deadline_ms = deadline_ms;
    t->lease_count++;
    map_add(&t->map, l, t->lease_count);
    id_set_add(&t->ids, id);
    timer_add(&t->timer, timer_owner_lease(l), deadline_ms);
    t->hash += hash_of(l);
    return l;
}

/* Cannot wrap, whatever stamp an entry carries. */
static inline int64_t deadline_from(uint64_t stamp_ms, int64_t ttl_ms)
{
    if (UNLIKELY(stamp_ms > (uint64_t)(INT64_MAX - ttl_ms))) return INT64_MAX;
    return (int64_t)stamp_ms + ttl_ms;
}

static uint64_t counter_take(struct lease_table *t)
{
    uint64_t id = id_set_free_from(&t->ids, t->counter);
    if (UNLIKELY(id >= LEASE_ID_COUNTER_MAX)) id = id_set_free_from(&t->ids, 1);
    ASSERT(id >= 1 && id < LEASE_ID_COUNTER_MAX);
    t->counter = id + 1;
    return id;
}

enum err lease_grant(struct lease_table *t, const struct lease_request *request,
                     const struct lease **out)
{
    if (request->ttl_ms <= 0) return ERR_LEASE_TTL_LOW;
    if (request->ttl_ms > LEASE_TTL_MS_MAX) return ERR_LEASE_TTL;
    if (request->id != 0 && map_find(&t->map, request->id) != NULL) return ERR_LEASE_EXISTS;
    if (t->lease_count >= request->count_max) return ERR_LEASE_LIMIT;

    int64_t ttl_ms = MAX(request->ttl_ms, LEASE_TTL_MS_MIN);
    uint64_t id = request->id != 0 ? request->id : counter_take(t);
    struct lease *l = lease_make(t, id, ttl_ms, deadline_from(request->stamp_ms, ttl_ms));
    mark_changed(t, l);
    *out = l;
    return OK;
}

enum err lease_load(struct lease_table *t, uint64_t id, int64_t ttl_ms, int64_t deadline_ms)
{
    if (id == 0 || ttl_ms < LEASE_TTL_MS_MIN || ttl_ms > LEASE_TTL_MS_MAX) return ERR_CORRUPT;
    if (deadline_ms < ttl_ms || map_find(&t->map, id) != NULL) return ERR_CORRUPT;
    lease_make(t, id, ttl_ms, deadline_ms)->recorded = true;
    return OK;
}

/* Only writes the deadline down (I2), except that a shorter one moves the slot at once. */
static inline void renew(struct lease_table *t, struct lease *l, uint64_t stamp_ms)
{
    int64_t deadline_ms = deadline_from(stamp_ms, l->ttl_ms);
    if (deadline_ms == l->deadline_ms) return;
    bool sooner = deadline_ms < l->deadline_ms;
    t->hash -= hash_of(l);
    l->deadline_ms = deadline_ms;
    t->hash += hash_of(l);
    if (UNLIKELY(sooner) && deadline_ms < timer_at(&t->timer, l->timer)->when_ms) {
        timer_move(&t->timer, l->timer, deadline_ms);
    }
    mark_changed(t, l);
}

static size_t keepalive_group(struct lease_table *t, const uint8_t *ids, size_t count,
                              uint64_t stamp_ms, int64_t *remaining_ms)
{
    struct lease **heads[KEEPALIVE_GROUP];
    for (size_t i = 0; i < count; i++) {
        heads[i] = head_at(&t->map, bucket_of(&t->map, u64_le(ids + 8 * i)));
        __builtin_prefetch(heads[i]);
    }
    for (size_t i = 0; i < count; i++) __builtin_prefetch(*heads[i], 1);

    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t id = u64_le(ids + 8 * i);
        struct lease *l = *heads[i];
        while (l != NULL && l->id != id) l = l->hash_next;
        if (l != NULL) {
            if (!MUTANT(KEEPALIVE_IGNORED)) renew(t, l, stamp_ms);
            found++;
        }
        if (remaining_ms != NULL) remaining_ms[i] = l != NULL ? l->ttl_ms : -2;
    }
    return found;
}

size_t lease_keepalive(struct lease_table *t, const uint8_t *ids, size_t count, uint64_t stamp_ms,
                       int64_t *remaining_ms)
{
    size_t found = 0;
    for (size_t at = 0; at < count; at += KEEPALIVE_GROUP) {
        found += keepalive_group(t, ids + 8 * at, MIN(count - at, (size_t)KEEPALIVE_GROUP),
                                 stamp_ms, remaining_ms != NULL ? remaining_ms + at : NULL);
    }
    return found;
}

size_t lease_list_after(const struct lease_table *t, uint64_t after_id, uint64_t *out, size_t cap)
{
    return id_set_after(&t->ids, after_id, out, cap);
}

void lease_remove(struct lease_table *t, uint64_t id)
{
    struct lease *l = map_find(&t->map, id);
    ASSERT(l != NULL);
    ASSERT(l->key_count == 0 && l->keys == NULL);
    map_remove(&t->map, l);
    id_set_remove(&t->ids, id);
    timer_remove(&t->timer, l->timer);
    t->lease_count--;
    t->hash -= hash_of(l);
    unmark_changed(t, l);
    if (l->recorded) {
        if (t->removed_count == t->removed_cap) {
            t->removed_cap = MAX(t->removed_cap * 2, 64);
            t->removed = mem_realloc(t->removed, t->removed_cap * sizeof *t->removed);
        }
        t->removed[t->removed_count++] = id;
    }
    mem_free(l);
}

/* --- what is due ---------------------------------------------------------------------- */

struct due_walk {
    uint32_t places[DUE_STACK_MAX];
    size_t depth;
    size_t rearm_count;
    bool stopped; /* enough slots were moved */
};

static inline int64_t owner_deadline(uintptr_t owner)
{
    const struct lease *l = timer_lease(owner);
    return l != NULL ? l->deadline_ms : timer_life(owner)->deadline_ms;
}

/* Moves renewed owners down from this place until one is there that is due or later than now.
 * Only the subtree below changes, which the walk has not seen yet. */
static bool place_is_due(struct timer *h, struct due_walk *w, uint32_t place, int64_t now_ms)
{
    for (;;) {
        const struct timer_slot *slot = timer_at(h, place);
        if (slot->when_ms > now_ms) return false;
        int64_t deadline_ms = owner_deadline(slot->owner);
        if (deadline_ms <= now_ms) return true;
        if (w->rearm_count == LEASE_REARM_COUNT_MAX) {
            w->stopped = true;
            return false;
        }
        w->rearm_count++;
        timer_move(h, place, deadline_ms);
    }
}

static void push_children(const struct timer *h, struct due_walk *w, uint32_t place)
{
    uint64_t first = 4 * (uint64_t)place - 8;
    for (uint64_t child = MIN(first + 4, (uint64_t)h->end); child > first; child--) {
        ASSERT(w->depth < DUE_STACK_MAX);
        w->places[w->depth++] = (uint32_t)(child - 1);
    }
}

size_t lease_due(struct lease_table *t, uint64_t now_ms, size_t limit,
                 void (*visit)(void *ctx, const struct lease *lease, const struct life *life),
                 void *ctx)
{
    struct due_walk w = { .depth = 0 };
    struct timer *h = &t->timer;
    int64_t now = now_ms > INT64_MAX ? INT64_MAX : (int64_t)now_ms;
    size_t total = 0;
    if (h->end > TIMER_ROOT) w.places[w.depth++] = TIMER_ROOT;
    while (w.depth > 0 && !w.stopped) {
        uint32_t place = w.places[--w.depth];
        if (!place_is_due(h, &w, place, now)) continue;
        uintptr_t owner = timer_at(h, place)->owner;
        const struct lease *l = timer_lease(owner);
        size_t keys = l != NULL ? MAX(l->key_count, 1u) : 1;
        if (total > 0 && total + keys > limit) break;
        visit(ctx, l, l != NULL ? NULL : timer_life(owner));
        total += keys;
        if (total >= limit) break;
        push_children(h, &w, place);
    }
    return total;
}

uint64_t lease_next_due_ms(const struct lease_table *t)
{
    if (t->timer.end == TIMER_ROOT) return UINT64_MAX;
    int64_t when_ms = timer_at(&t->timer, TIMER_ROOT)->when_ms;
    return (uint64_t)MAX(when_ms, 0);
}

/* --- what changed --------------------------------------------------------------------- */

bool lease_changed_at(const struct lease_table *t, size_t at, const struct lease **out)
{
    if (at >= t->changed_count) return false;
    *out = t->changed[at];
    return true;
}

bool lease_removed_at(const struct lease_table *t, size_t at, uint64_t *id)
{
    if (at >= t->removed_count) return false;
    *id = t->removed[at];
    return true;
}

void lease_changes_clear(struct lease_table *t)
{
    for (size_t i = 0; i < t->changed_count; i++) {
        if (t->changed[i] == NULL) continue;
        t->changed[i]->changed_at = 0;
        t->changed[i]->recorded = true;
    }
    t->changed_count = 0;
    t->removed_count = 0;
    life_changes_clear(t);
}

/* --- invariants ----------------------------------------------------------------------- */

static uint64_t check_lease(const struct lease_table *t, const struct lease *l, uint64_t *lives)
{
    ASSERT(l->timer != 0);
    ASSERT(map_find(&t->map, l->id) == l);
    ASSERT(l->changed_at == 0 || t->changed[l->changed_at - 1] == l);
    uint64_t hash = hash_of(l);
    uint32_t count = 0;
    const struct life *prev = NULL;
    for (const struct life *life = l->keys; life != NULL; prev = life, life = life->next) {
        ASSERT(life->prev == prev);
        ASSERT(life->lease_id == l->id && life->deadline_ms == 0 && life->timer == 0);
        hash += life_hash(life);
        count++;
    }
    ASSERT(count == l->key_count);
    *lives += count;
    return hash;
}

void lease_table_check(const struct lease_table *t)
{
    uint64_t hash = 0, leases = 0, lives = 0;
    timer_check(&t->timer);
    for (uint32_t place = TIMER_ROOT; place < t->timer.end; place++) {
        uintptr_t owner = timer_at(&t->timer, place)->owner;
        const struct lease *l = timer_lease(owner);
        if (l != NULL) {
            hash += check_lease(t, l, &lives);
            leases++;
        } else {
            ASSERT(timer_life(owner)->lease_id == 0 && timer_life(owner)->deadline_ms != 0);
            hash += life_hash(timer_life(owner));
            lives++;
        }
    }
    uint64_t expiring = 0;
    for (size_t db = 0; db < ARRAY_LEN(t->expiring); db++) expiring += t->expiring[db];
    ASSERT(expiring == lives);
    for (const struct life *life = t->idle; life != NULL; life = life->next) {
        ASSERT(life->lease_id == 0 && life->deadline_ms == 0 && life->timer == 0);
        hash += life_hash(life);
        lives++;
    }
    ASSERT(leases == t->lease_count && lives == t->life_count && hash == t->hash);
    id_set_check(&t->ids, (size_t)t->lease_count);
}

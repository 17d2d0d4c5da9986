/* state/lease_int.h - the parts of the lease table: timer, sorted ids, map, lives.
 *
 * PURPOSE  Private to state/lease*.c and state/life.c; decides nothing.
 * OWNS     struct lease_table owns all of it.
 * USES     lease.h, base.
 * THREADS  Loop thread only.
 * LIMITS   2^32 - 8 timer slots.
 * ERRORS   None.
 */
#ifndef STATE_LEASE_INT_H
#define STATE_LEASE_INT_H

#include "state/lease.h"

/* --- timer: a heap of four children, soonest first ------------------------------------- *
 *
 *  place:  3 | 4 5 6 7 | 8 ... 11 | 12 ... 15 | ...     four children share a cache line
 *  children of p: 4p - 8 ... 4p - 5        parent of p: p / 4 + 2
 *
 * Blocks, because a realloc of a large heap would stop the loop.
 */
#define TIMER_BLOCK_SHIFT 12
#define TIMER_BLOCK_SLOTS (1u << TIMER_BLOCK_SHIFT)
#define TIMER_ROOT 3u

struct timer_slot {
    int64_t when_ms;
    uintptr_t owner; /* struct life *, or struct lease * with bit 0 set */
};

struct timer {
    struct timer_slot **blocks;
    size_t block_count, block_cap;
    uint32_t end; /* one above the last place in use; TIMER_ROOT when empty */
};

static inline uintptr_t timer_owner_lease(struct lease *l) { return (uintptr_t)l | 1u; }
static inline uintptr_t timer_owner_life(struct life *life) { return (uintptr_t)life; }
static inline struct lease *timer_lease(uintptr_t owner) /* NULL if it is a life */
{
    return (owner & 1u) != 0 ? (struct lease *)(owner & ~(uintptr_t)1u) : NULL;
}
static inline struct life *timer_life(uintptr_t owner) /* only if it is no lease */
{
    return (struct life *)owner;
}

static inline struct timer_slot *timer_at(const struct timer *h, uint32_t place)
{
    return &h->blocks[place >> TIMER_BLOCK_SHIFT][place & (TIMER_BLOCK_SLOTS - 1)];
}

/* The owner's `timer` field always says its place; 0 when it has none. */
void timer_init(struct timer *h);
void timer_deinit(struct timer *h);
void timer_add(struct timer *h, uintptr_t owner, int64_t when_ms);
void timer_remove(struct timer *h, uint32_t place);
void timer_move(struct timer *h, uint32_t place, int64_t when_ms);
void timer_check(const struct timer *h);

/* --- ids in ascending order ------------------------------------------------------------ *
 *
 * Runs of at most ID_RUN_MAX ids, found by binary search over their first ones. Ascending ids fill
 * runs to the brim; neighbours that are half empty together become one.
 */
#define ID_RUN_MAX 126

struct id_run {
    uint64_t count;
    uint64_t ids[ID_RUN_MAX];
};
struct id_set {
    struct id_run **runs;
    uint64_t *firsts; /* runs[i]->ids[0], so that the search stays in one place */
    size_t count, cap;
};

void id_set_init(struct id_set *s);
void id_set_deinit(struct id_set *s);
void id_set_add(struct id_set *s, uint64_t id);    /* must be new */
void id_set_remove(struct id_set *s, uint64_t id); /* must be there */
size_t id_set_after(const struct id_set *s, uint64_t after, uint64_t *out, size_t cap);
/* The lowest id >= from that is not in the set. */
uint64_t id_set_free_from(const struct id_set *s, uint64_t from);
void id_set_check(const struct id_set *s, size_t want_count);

/* --- the table ------------------------------------------------------------------------ */

/* Linear hashing: one bucket is split a grant, nothing is ever rehashed as a whole. */
#define LEASE_MAP_BLOCK 1024u

struct lease_map {
    struct lease ***blocks; /* of LEASE_MAP_BLOCK heads */
    size_t block_cap;
    uint64_t low;     /* a power of two; low <= buckets < 2 * low */
    uint64_t buckets;
    uint64_t seed;
};

struct life_node {
    struct life life;
    uint32_t key_hash;   /* crc32c of the key: what the table's hash knows of it */
    uint32_t changed_at; /* 1 + place in the list of changed lives; 0: not in it */
};

struct lease_table {
    struct lease_map map;
    struct id_set ids;
    struct timer timer;
    uint64_t lease_count, life_count;
    uint64_t expiring[UINT8_MAX + 1]; /* lives that are not idle, by database */
    uint64_t counter;
    uint64_t hash; /* of leases and lives, without the counter */
    struct life *idle; /* lives without lease and deadline */

    struct lease **changed;
    size_t changed_count, changed_cap;
    struct life_node **life_changed;
    size_t life_changed_count, life_changed_cap;
    uint64_t *removed;
    size_t removed_count, removed_cap;
    struct buf life_gone; /* u32 length, key */
};

struct lease *lease_get(const struct lease_table *t, uint64_t id); /* as lease_find, to change it */
uint64_t life_hash(const struct life *life); /* its share of the table's hash */
void life_changes_clear(struct lease_table *t);

#endif

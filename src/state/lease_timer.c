/* state/lease_timer.c - see lease_int.h: the heap that holds every deadline. */
#include "state/lease_int.h"

#define CACHE_LINE_BYTES 64

_Static_assert(sizeof(struct timer_slot) * 4 == CACHE_LINE_BYTES, "four children, one line");
_Static_assert(TIMER_BLOCK_SLOTS % 4 == 0, "children never straddle blocks");

static inline uint32_t parent_of(uint32_t place) { return place / 4 + 2; }
static inline uint64_t first_child_of(uint32_t place) { return 4 * (uint64_t)place - 8; }

static inline void place_set(uintptr_t owner, uint32_t place)
{
    struct lease *l = timer_lease(owner);
    if (l != NULL) {
        l->timer = place;
    } else {
        timer_life(owner)->timer = place;
    }
}

static inline void slot_set(struct timer *h, uint32_t place, struct timer_slot slot)
{
    *timer_at(h, place) = slot;
    place_set(slot.owner, place);
}

void timer_init(struct timer *h) { *h = (struct timer){ .end = TIMER_ROOT }; }

void timer_deinit(struct timer *h)
{
    for (size_t i = 0; i < h->block_count; i++) mem_free(h->blocks[i]);
    mem_free(h->blocks);
    timer_init(h);
}

static void sift_up(struct timer *h, uint32_t place, struct timer_slot slot)
{
    while (place > TIMER_ROOT) {
        uint32_t parent = parent_of(place);
        struct timer_slot above = *timer_at(h, parent);
        if (above.when_ms <= slot.when_ms) break;
        slot_set(h, place, above);
        place = parent;
    }
    slot_set(h, place, slot);
}

/* Of the children that exist, the one that comes first. */
static uint32_t soonest_child(const struct timer *h, uint32_t first)
{
    const struct timer_slot *group = timer_at(h, first);
    uint32_t count = MIN(h->end - first, 4u);
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (group[i].when_ms < group[best].when_ms) best = i;
    }
    return first + best;
}

static void sift_down(struct timer *h, uint32_t place, struct timer_slot slot)
{
    for (;;) {
        uint64_t first = first_child_of(place);
        if (first >= h->end) break;
        uint32_t child = soonest_child(h, (uint32_t)first);
        struct timer_slot below = *timer_at(h, child);
        if (below.when_ms >= slot.when_ms) break;
        slot_set(h, place, below);
        place = child;
    }
    slot_set(h, place, slot);
}

static void room_for_one(struct timer *h)
{
    ASSERT(h->end < UINT32_MAX - 8);
    if (h->end >> TIMER_BLOCK_SHIFT < h->block_count) return;
    if (h->block_count == h->block_cap) {
        h->block_cap = MAX(h->block_cap * 2, 16);
        h->blocks = mem_realloc(h->blocks, h->block_cap * sizeof *h->blocks);
    }
    h->blocks[h->block_count++] =
        mem_align(CACHE_LINE_BYTES, TIMER_BLOCK_SLOTS * sizeof(struct timer_slot));
}

void timer_add(struct timer *h, uintptr_t owner, int64_t when_ms)
{
    room_for_one(h);
    uint32_t place = h->end++;
    sift_up(h, place, (struct timer_slot){ when_ms, owner });
}

/* One block beyond the last is kept, so that a heap that breathes does not allocate. */
static void give_back(struct timer *h)
{
    size_t needed = ((h->end - 1) >> TIMER_BLOCK_SHIFT) + 2;
    while (h->block_count > needed) mem_free(h->blocks[--h->block_count]);
}

void timer_remove(struct timer *h, uint32_t place)
{
    ASSERT(place >= TIMER_ROOT && place < h->end);
    place_set(timer_at(h, place)->owner, 0);
    struct timer_slot last = *timer_at(h, --h->end);
    if (place < h->end) {
        if (place > TIMER_ROOT && timer_at(h, parent_of(place))->when_ms > last.when_ms) {
            sift_up(h, place, last);
        } else {
            sift_down(h, place, last);
        }
    }
    give_back(h);
}

void timer_move(struct timer *h, uint32_t place, int64_t when_ms)
{
    ASSERT(place >= TIMER_ROOT && place < h->end);
    struct timer_slot slot = *timer_at(h, place);
    bool sooner = when_ms < slot.when_ms;
    slot.when_ms = when_ms;
    if (sooner) {
        sift_up(h, place, slot);
    } else {
        sift_down(h, place, slot);
    }
}

void timer_check(const struct timer *h)
{
    for (uint32_t place = TIMER_ROOT; place < h->end; place++) {
        const struct timer_slot *slot = timer_at(h, place);
        const struct lease *l = timer_lease(slot->owner);
        ASSERT((l != NULL ? l->timer : timer_life(slot->owner)->timer) == place);
        ASSERT((l != NULL ? l->deadline_ms : timer_life(slot->owner)->deadline_ms) >=
               slot->when_ms);
        if (place > TIMER_ROOT) ASSERT(timer_at(h, parent_of(place))->when_ms <= slot->when_ms);
    }
}

/* mvcc/mvcc_sort.c - entries into key order, for building the tree in bulk.
 *
 * Eight bytes at a time from the front: skip what all keys of a run share, sort by the next eight
 * as a number (radix sort), then do the same in each run of ties. Entries are in no order in
 * memory, so every look at one is a cache miss: each level looks once or twice, with prefetch. */
#include "mvcc/mvcc_int.h"

#define RUN_SMALL 24      /* such runs are sorted by insertion */
#define LEVEL_MAX 48      /* keys made to nest deeper are merge-sorted */
#define PREFETCH_AHEAD 16
#define HEAD_BYTES 8
#define DIGITS 256

static inline struct slice item_key(const struct tree_item *item) { return entry_key(item->entry); }

static bool item_before(const struct tree_item *a, const struct tree_item *b)
{
    return slice_cmp(item_key(a), item_key(b)) < 0;
}

static void sort_insertion(struct tree_item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct tree_item moving = items[i];
        size_t at = i;
        for (; at > 0 && item_before(&moving, &items[at - 1]); at--) items[at] = items[at - 1];
        items[at] = moving;
    }
}

static void sort_merge(struct tree_item *items, struct tree_item *scratch, size_t count)
{
    if (count <= RUN_SMALL) {
        sort_insertion(items, count);
        return;
    }
    size_t half = count / 2;
    sort_merge(items, scratch, half);
    sort_merge(items + half, scratch, count - half);
    memcpy(scratch, items, half * sizeof *items);
    size_t left = 0;
    size_t right = half;
    for (size_t to = 0; left < half; to++) {
        bool from_right = right < count && item_before(&items[right], &scratch[left]);
        items[to] = from_right ? items[right++] : scratch[left++];
    }
}

/* Least significant byte first; bytes that are equal everywhere cost nothing. */
static void sort_radix(struct tree_item *items, struct tree_item *scratch, size_t count)
{
    static const size_t no_counts[HEAD_BYTES][DIGITS];
    size_t counts[HEAD_BYTES][DIGITS];
    memcpy(counts, no_counts, sizeof counts);
    for (size_t i = 0; i < count; i++) {
        uint64_t head = items[i].head;
        for (unsigned d = 0; d < HEAD_BYTES; d++) counts[d][head >> (8 * d) & 0xff]++;
    }
    struct tree_item *from = items;
    struct tree_item *to = scratch;
    for (unsigned d = 0; d < HEAD_BYTES; d++) {
        size_t *at = counts[d];
        if (at[from[0].head >> (8 * d) & 0xff] == count) continue;
        size_t sum = 0;
        for (unsigned i = 0; i < DIGITS; i++) {
            size_t here = at[i];
            at[i] = sum;
            sum += here;
        }
        for (size_t i = 0; i < count; i++) to[at[from[i].head >> (8 * d) & 0xff]++] = from[i];
        struct tree_item *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != items) memcpy(items, from, count * sizeof *items);
}

/* How many bytes from the front all keys share; at least the `skip` that they are known to. */
static size_t run_common_bytes(const struct tree_item *items, size_t count, size_t skip)
{
    struct slice first = item_key(&items[0]);
    size_t common = first.len;
    for (size_t i = 1; i < count && common > skip; i++) {
        if (i + PREFETCH_AHEAD < count) __builtin_prefetch(items[i + PREFETCH_AHEAD].entry);
        common = key_common_bytes((struct slice){ first.at, common }, item_key(&items[i]));
    }
    return common;
}

/* Of keys with equal heads those that end within the head come first, by length: there are at
 * most nine, as they differ in nothing but trailing zeros. Returns how many. */
static size_t run_ended(struct tree_item *items, size_t count, size_t end)
{
    size_t ended = 0;
    for (size_t i = 0; i < count; i++) {
        if (item_key(&items[i]).len > end) continue;
        struct tree_item swap = items[ended];
        items[ended++] = items[i];
        items[i] = swap;
    }
    ASSERT(ended <= HEAD_BYTES + 1);
    sort_insertion(items, ended);
    return ended;
}

static void sort_run(struct tree_item *items, struct tree_item *scratch, size_t count, size_t skip,
                     unsigned level)
{
    if (count <= RUN_SMALL || level == LEVEL_MAX) {
        sort_merge(items, scratch, count);
        return;
    }
    skip = run_common_bytes(items, count, skip);
    for (size_t i = 0; i < count; i++) {
        if (i + PREFETCH_AHEAD < count) __builtin_prefetch(items[i + PREFETCH_AHEAD].entry);
        items[i].head = key_head(item_key(&items[i]), skip);
    }
    sort_radix(items, scratch, count);
    for (size_t from = 0; from < count;) {
        size_t end = from + 1;
        while (end < count && items[end].head == items[from].head) end++;
        if (end - from > 1) {
            size_t ended = run_ended(items + from, end - from, skip + HEAD_BYTES);
            sort_run(items + from + ended, scratch, end - from - ended, skip + HEAD_BYTES,
                     level + 1);
        }
        from = end;
    }
}

void mvcc_sort(struct tree_item *items, size_t count)
{
    if (count < 2) return;
    struct tree_item *scratch = mem_alloc(count * sizeof *scratch);
    sort_run(items, scratch, count, 0, 0);
    mem_free(scratch);
}

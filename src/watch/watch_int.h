/* watch/watch_int.h - private to watch/: groups, and the tree of ranges. */
#ifndef WATCH_WATCH_INT_H
#define WATCH_WATCH_INT_H

#include "watch/watch_set.h"

struct watch_group {
    struct watcher **watchers;
    uint32_t count, cap;
    enum watch_kind kind;
    union {
        struct { /* key and prefix: in a hash table's chain */
            struct watch_group *next;
            uint64_t hash;
        } table;
        struct { /* range: in the treap (I4) */
            struct watch_group *left, *right;
            uint64_t priority;
            struct slice max_end; /* borrowed from a group of the subtree */
        } tree;
    };
    uint32_t start_len, end_len;
    uint8_t bytes[]; /* start, end */
};

static inline struct slice group_start(const struct watch_group *g)
{
    return (struct slice){ g->bytes, g->start_len };
}

static inline struct slice group_end(const struct watch_group *g)
{
    return (struct slice){ g->bytes + g->start_len, g->end_len };
}

/* --- watch_range.c: the treap; roots are NULL when it is empty -------------------------------- */

struct watch_group *watch_range_find(struct watch_group *root, struct slice start, struct slice end);
/* g is not in it. Returns the new root. */
struct watch_group *watch_range_insert(struct watch_group *root, struct watch_group *g);
/* g is in it. Returns the new root. */
struct watch_group *watch_range_remove(struct watch_group *root, struct watch_group *g);
/* Calls visit for each group that holds key, until one answers true. */
bool watch_range_stab(struct watch_group *root, struct slice key,
                      bool (*visit)(void *ctx, struct watch_group *g), void *ctx);
/* Asserts I4; returns the number of groups. */
size_t watch_range_check(const struct watch_group *root);

#endif

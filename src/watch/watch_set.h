/* watch/watch_set.h - who wants the events of which keys.
 *
 * PURPOSE  Find all watchers of a key: those of the key itself, of a prefix, of a range. Decides
 *          nothing about what they are sent, or from which revision on.
 * OWNS     Groups: one for each distinct key, prefix or range, with its bytes. Not the watchers.
 * USES     base.
 * THREADS  Any one at a time (pure).
 * LIMITS   Callers bound the number of watchers and the length of keys (WATCH_KEY_BYTES_MAX).
 * ERRORS   None.
 * INVARIANTS
 *  I1  A group is in exactly one index (by kind) and has at least one watcher.
 *  I2  watcher.group->watchers[watcher.at] is that watcher.
 *  I3  lengths holds each distinct length of a prefix group once, ascending.
 *  I4  The ranges form a treap by (start, end): heap by priority, and max_end of a node is the
 *      greatest end in its subtree.
 *
 * A match costs one look-up for exact keys, one for each distinct length of a prefix that is not
 * longer than the key, O(log n) for ranges, and the matches themselves; never the number of
 * watchers of other keys.
 */
#ifndef WATCH_WATCH_SET_H
#define WATCH_WATCH_SET_H

#include "base/base.h"

#define WATCH_KEY_BYTES_MAX 65535

struct watch_group;
struct watch_set;

/* Lies in the owner's struct; zeroed before its first use. Private but for watcher_is_in. */
struct watcher {
    struct watch_group *group; /* NULL: in no set */
    uint32_t at;               /* I2 */
};

static inline bool watcher_is_in(const struct watcher *w) { return w->group != NULL; }

enum watch_kind { WATCH_KEY, WATCH_PREFIX, WATCH_RANGE };

struct watch_set *watch_set_new(uint64_t hash_seed);
void watch_set_free(struct watch_set *s); /* must be empty. NULL is allowed */

/* For a key or a prefix: start is it, end is ignored. A range is [start, end), end not empty; one
 * that is empty (start >= end) never matches. Bytes are copied; w must stay where it is until
 * watch_remove. Neither is allowed during a match. */
void watch_add(struct watch_set *s, struct watcher *w, enum watch_kind kind, struct slice start,
               struct slice end);
void watch_remove(struct watch_set *s, struct watcher *w); /* w must be in */

size_t watch_count(const struct watch_set *s); /* one load */

/* Calls visit for every watcher of the key, in no particular order, until one answers true: then
 * the result is true. */
typedef bool watch_visit_fn(void *ctx, struct watcher *w);
bool watch_match(struct watch_set *s, struct slice key, watch_visit_fn *visit, void *ctx);

void watch_set_check(const struct watch_set *s); /* I1-I4; slow */

#endif

/* check/keyspace.h - the event log of a history as a multi-version key space.
 *
 * PURPOSE  Say what a key held at a revision, which events a revision had, where a value came
 *          from; and whether the log itself is possible (revisions in order, create revision and
 *          version right). Does not know who wrote.
 * OWNS     struct keyspace. Borrows the history, which must not change while it lives.
 * USES     history.h.
 * THREADS  One.
 * LIMITS   None.
 * ERRORS   None; what is wrong goes to the verdict.
 */
#ifndef CHECK_KEYSPACE_H
#define CHECK_KEYSPACE_H

#include "history.h"

#define KEYSPACE_NO_KEY SIZE_MAX
#define KEYSPACE_NEVER UINT64_MAX

struct keyspace_key {
    struct slice key;
    size_t first; /* into versions */
    size_t count;
};

struct keyspace {
    const struct history *h;
    struct keyspace_key *keys; /* sorted */
    size_t key_count;
    uint32_t *versions; /* indexes into events, by key and revision */
    const struct history_event **events; /* by (rev, n) */
    size_t event_count;
    uint32_t *values; /* puts, indexes into events, by (key, value, rev) */
    size_t value_count;
    uint64_t *revs; /* those with events, ascending */
    uint32_t *rev_first; /* first event of each; one more entry at the end */
    size_t rev_count;
    uint64_t last_rev;
};

/* holes_allowed: revisions may be missing in the log (a restored backup, a net effect of nothing). */
struct keyspace *keyspace_new(const struct history *h, bool holes_allowed, struct verdict *v);
void keyspace_free(struct keyspace *ks);

size_t keyspace_find(const struct keyspace *ks, struct slice key); /* or KEYSPACE_NO_KEY */
/* First key >= the given one; may be key_count. */
size_t keyspace_lower(const struct keyspace *ks, struct slice key);
/* The put that a reader at rev sees; NULL: the key is not there. key may be KEYSPACE_NO_KEY. */
const struct history_event *keyspace_at(const struct keyspace *ks, size_t key, uint64_t rev);
const struct history_event *keyspace_get(const struct keyspace *ks, struct slice key, uint64_t rev);
/* The first event of the key above rev; NULL: none. */
const struct history_event *keyspace_next(const struct keyspace *ks, size_t key, uint64_t rev);
/* Index into revs, or rev_count. */
size_t keyspace_rev(const struct keyspace *ks, uint64_t rev);
/* Puts of this value to this key, ascending: values[*first ..]. Returns how many. */
size_t keyspace_writes(const struct keyspace *ks, struct slice key, struct slice value,
                       size_t *first);
/* Does the key stand in [begin, end), an empty end being the end of everything? */
static inline bool keyspace_in(struct slice key, struct slice begin, struct slice end)
{
    return slice_cmp(key, begin) >= 0 && (end.len == 0 || slice_cmp(key, end) < 0);
}

#endif

/* The event log, sorted three ways: by revision, by key, by value. */
#include "keyspace.h"

#include <stdlib.h>

static int by_rev(const void *a, const void *b)
{
    const struct history_event *x = *(const struct history_event *const *)a;
    const struct history_event *y = *(const struct history_event *const *)b;
    if (x->rev != y->rev) return x->rev < y->rev ? -1 : 1;
    return x->n < y->n ? -1 : x->n > y->n;
}

/* Events are numbered in order of revision: equal keys stay in that order by their number. */
static int by_key(const void *a, const void *b, void *arg)
{
    const struct keyspace *ks = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = slice_cmp(ks->events[x]->key, ks->events[y]->key);
    return order != 0 ? order : x < y ? -1 : x > y;
}

static int by_value(const void *a, const void *b, void *arg)
{
    const struct keyspace *ks = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = slice_cmp(ks->events[x]->key, ks->events[y]->key);
    if (order == 0) order = slice_cmp(ks->events[x]->value, ks->events[y]->value);
    return order != 0 ? order : x < y ? -1 : x > y;
}

static void build_revs(struct keyspace *ks, bool holes_allowed, struct verdict *v)
{
    for (size_t i = 0; i < ks->event_count; i++) {
        const struct history_event *event = ks->events[i];
        if (i == 0 || event->rev != ks->events[i - 1]->rev) {
            uint64_t last = ks->rev_count == 0 ? event->rev - 1 : ks->revs[ks->rev_count - 1];
            if (!holes_allowed && event->rev != last + 1) {
                verdict_add(v, "log: no event at revision %llu", (unsigned long long)last + 1);
                verdict_event(v, event);
            }
            ks->rev_first[ks->rev_count] = (uint32_t)i;
            ks->revs[ks->rev_count++] = event->rev;
        } else if (event->n != 0 && event->n == ks->events[i - 1]->n) {
            verdict_add(v, "log: two events have the same revision and place");
            verdict_event(v, ks->events[i - 1]);
            verdict_event(v, event);
        }
    }
    ks->rev_first[ks->rev_count] = (uint32_t)ks->event_count;
}

static void build_keys(struct keyspace *ks)
{
    for (size_t i = 0; i < ks->event_count; i++) {
        struct slice key = ks->events[ks->versions[i]]->key;
        if (i == 0 || !slice_eq(key, ks->keys[ks->key_count - 1].key)) {
            ks->keys[ks->key_count++] = (struct keyspace_key){ key, i, 0 };
        }
        ks->keys[ks->key_count - 1].count++;
    }
}

static void check_step(const struct history_event *prev, const struct history_event *event,
                       struct verdict *v)
{
    const char *wrong = NULL;
    bool there = prev != NULL && prev->op == HISTORY_EVENT_PUT;
    if (prev != NULL && prev->rev == event->rev) {
        wrong = "a key has two events in one revision";
    } else if (event->op != HISTORY_EVENT_PUT) {
        if (!there) wrong = "a key goes that was not there";
    } else if (there && event->create != prev->create) {
        wrong = "an overwritten key has a new create revision";
    } else if (there && event->version != prev->version + 1) {
        wrong = "version is not the one before plus 1";
    } else if (!there && (event->create != event->rev || event->version != 1)) {
        wrong = "a new key has not version 1 and its own revision as create revision";
    }
    if (wrong == NULL) return;
    verdict_add(v, "log: %s", wrong);
    if (prev != NULL) verdict_event(v, prev);
    verdict_event(v, event);
}

static void check_versions(const struct keyspace *ks, struct verdict *v)
{
    for (size_t k = 0; k < ks->key_count; k++) {
        const struct history_event *prev = NULL;
        for (size_t i = 0; i < ks->keys[k].count; i++) {
            const struct history_event *event = ks->events[ks->versions[ks->keys[k].first + i]];
            check_step(prev, event, v);
            prev = event;
        }
    }
}

struct keyspace *keyspace_new(const struct history *h, bool holes_allowed, struct verdict *v)
{
    struct keyspace *ks = mem_zalloc(sizeof *ks);
    size_t count = h->log_count;
    ASSERT(count < UINT32_MAX);
    ks->h = h;
    ks->event_count = count;
    ks->events = mem_alloc((count + 1) * sizeof(*ks->events));
    ks->versions = mem_alloc((count + 1) * sizeof *ks->versions);
    ks->values = mem_alloc((count + 1) * sizeof *ks->values);
    ks->revs = mem_alloc((count + 1) * sizeof *ks->revs);
    ks->rev_first = mem_alloc((count + 1) * sizeof *ks->rev_first);
    ks->keys = mem_alloc((count + 1) * sizeof *ks->keys);
    for (size_t i = 0; i < count; i++) ks->events[i] = &h->log[i];
    if (count > 0) qsort(ks->events, count, sizeof(*ks->events), by_rev);
    for (uint32_t i = 0; i < count; i++) {
        ks->versions[i] = i;
        if (ks->events[i]->op == HISTORY_EVENT_PUT) ks->values[ks->value_count++] = i;
    }
    build_revs(ks, holes_allowed, v);
    if (count > 0) {
        qsort_r(ks->versions, count, sizeof *ks->versions, by_key, ks);
        qsort_r(ks->values, ks->value_count, sizeof *ks->values, by_value, ks);
        ks->last_rev = ks->revs[ks->rev_count - 1];
    }
    build_keys(ks);
    check_versions(ks, v);
    return ks;
}

void keyspace_free(struct keyspace *ks)
{
    if (ks == NULL) return;
    mem_free(ks->events);
    mem_free(ks->versions);
    mem_free(ks->values);
    mem_free(ks->revs);
    mem_free(ks->rev_first);
    mem_free(ks->keys);
    mem_free(ks);
}

size_t keyspace_lower(const struct keyspace *ks, struct slice key)
{
    size_t low = 0, high = ks->key_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_cmp(ks->keys[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t keyspace_find(const struct keyspace *ks, struct slice key)
{
    size_t at = keyspace_lower(ks, key);
    return at < ks->key_count && slice_eq(ks->keys[at].key, key) ? at : KEYSPACE_NO_KEY;
}

/* How many events of the key are at or below rev. */
static size_t events_up_to(const struct keyspace *ks, size_t key, uint64_t rev)
{
    const uint32_t *at = ks->versions + ks->keys[key].first;
    size_t low = 0, high = ks->keys[key].count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ks->events[at[middle]]->rev <= rev) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct history_event *keyspace_at(const struct keyspace *ks, size_t key, uint64_t rev)
{
    if (key == KEYSPACE_NO_KEY) return NULL;
    size_t count = events_up_to(ks, key, rev);
    if (count == 0) return NULL;
    const struct history_event *event = ks->events[ks->versions[ks->keys[key].first + count - 1]];
    return event->op == HISTORY_EVENT_PUT ? event : NULL;
}

const struct history_event *keyspace_get(const struct keyspace *ks, struct slice key, uint64_t rev)
{
    return keyspace_at(ks, keyspace_find(ks, key), rev);
}

const struct history_event *keyspace_next(const struct keyspace *ks, size_t key, uint64_t rev)
{
    if (key == KEYSPACE_NO_KEY) return NULL;
    size_t count = events_up_to(ks, key, rev);
    if (count == ks->keys[key].count) return NULL;
    return ks->events[ks->versions[ks->keys[key].first + count]];
}

size_t keyspace_rev(const struct keyspace *ks, uint64_t rev)
{
    size_t low = 0, high = ks->rev_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ks->revs[middle] < rev) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < ks->rev_count && ks->revs[low] == rev ? low : ks->rev_count;
}

size_t keyspace_writes(const struct keyspace *ks, struct slice key, struct slice value,
                       size_t *first)
{
    size_t low = 0, high = ks->value_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct history_event *event = ks->events[ks->values[middle]];
        int order = slice_cmp(event->key, key);
        if (order == 0) order = slice_cmp(event->value, value);
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    size_t count = 0;
    while (low + count < ks->value_count) {
        const struct history_event *event = ks->events[ks->values[low + count]];
        if (!slice_eq(event->key, key) || !slice_eq(event->value, value)) break;
        count++;
    }
    *first = low;
    return count;
}

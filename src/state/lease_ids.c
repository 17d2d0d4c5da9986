/* state/lease_ids.c - see lease_int.h: lease ids in ascending order. */
#include "state/lease_int.h"

void id_set_init(struct id_set *s) { *s = (struct id_set){ 0 }; }

void id_set_deinit(struct id_set *s)
{
    for (size_t i = 0; i < s->count; i++) mem_free(s->runs[i]);
    mem_free(s->runs);
    mem_free(s->firsts);
    id_set_init(s);
}

/* The run in which id is, or would be: the last one that begins at or below it, else the first. */
static size_t run_of(const struct id_set *s, uint64_t id)
{
    size_t low = 0, high = s->count;
    if (s->count > 0 && s->firsts[s->count - 1] <= id) return s->count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->firsts[middle] <= id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : low - 1;
}

/* Place of the first id >= id. */
static size_t place_of(const struct id_run *run, uint64_t id)
{
    size_t low = 0, high = run->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (run->ids[middle] < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct id_run *run_insert(struct id_set *s, size_t at)
{
    ASSERT(at <= s->count);
    if (s->count == s->cap) {
        s->cap = MAX(s->cap * 2, 16);
        s->runs = mem_realloc(s->runs, s->cap * sizeof *s->runs);
        s->firsts = mem_realloc(s->firsts, s->cap * sizeof *s->firsts);
    }
    size_t behind = s->count - at;
    memmove(s->runs + at + 1, s->runs + at, behind * sizeof *s->runs);
    memmove(s->firsts + at + 1, s->firsts + at, behind * sizeof *s->firsts);
    s->count++;
    s->runs[at] = mem_alloc(sizeof *s->runs[at]);
    s->runs[at]->count = 0;
    s->firsts[at] = 0; /* the caller sets it */
    return s->runs[at];
}

static void run_erase(struct id_set *s, size_t at)
{
    mem_free(s->runs[at]);
    size_t behind = s->count - at - 1;
    memmove(s->runs + at, s->runs + at + 1, behind * sizeof *s->runs);
    memmove(s->firsts + at, s->firsts + at + 1, behind * sizeof *s->firsts);
    s->count--;
}

/* Makes room in the full run `at` for id; returns the run in which it belongs now. */
static size_t run_split(struct id_set *s, size_t at, uint64_t id)
{
    struct id_run *run = s->runs[at];
    bool appends = at == s->count - 1 && id > run->ids[ID_RUN_MAX - 1];
    size_t keep = appends ? ID_RUN_MAX : ID_RUN_MAX / 2;
    struct id_run *right = run_insert(s, at + 1);
    right->count = ID_RUN_MAX - keep;
    if (right->count > 0) memcpy(right->ids, run->ids + keep, right->count * sizeof right->ids[0]);
    run->count = keep;
    s->firsts[at + 1] = appends ? id : right->ids[0];
    return id >= s->firsts[at + 1] ? at + 1 : at;
}

void id_set_add(struct id_set *s, uint64_t id)
{
    if (s->count == 0) run_insert(s, 0);
    size_t at = run_of(s, id);
    if (s->runs[at]->count == ID_RUN_MAX) at = run_split(s, at, id);
    struct id_run *run = s->runs[at];
    size_t place = place_of(run, id);
    ASSERT(place == run->count || run->ids[place] != id);
    memmove(run->ids + place + 1, run->ids + place, (run->count - place) * sizeof run->ids[0]);
    run->ids[place] = id;
    run->count++;
    s->firsts[at] = run->ids[0];
}

/* Joins runs at and at + 1 if both fit into half a run: so few are almost empty. */
static void run_join(struct id_set *s, size_t at)
{
    if (at + 1 >= s->count) return;
    struct id_run *left = s->runs[at], *right = s->runs[at + 1];
    if (left->count + right->count > ID_RUN_MAX / 2) return;
    memcpy(left->ids + left->count, right->ids, right->count * sizeof left->ids[0]);
    left->count += right->count;
    run_erase(s, at + 1);
}

void id_set_remove(struct id_set *s, uint64_t id)
{
    ASSERT(s->count > 0);
    size_t at = run_of(s, id);
    struct id_run *run = s->runs[at];
    size_t place = place_of(run, id);
    ASSERT(place < run->count && run->ids[place] == id);
    run->count--;
    memmove(run->ids + place, run->ids + place + 1, (run->count - place) * sizeof run->ids[0]);
    if (run->count == 0) {
        run_erase(s, at);
        return;
    }
    s->firsts[at] = run->ids[0];
    run_join(s, at);
    if (at > 0) run_join(s, at - 1);
}

size_t id_set_after(const struct id_set *s, uint64_t after, uint64_t *out, size_t cap)
{
    size_t count = 0;
    if (s->count == 0 || after == UINT64_MAX) return 0;
    size_t at = run_of(s, after + 1);
    size_t place = place_of(s->runs[at], after + 1);
    for (; at < s->count && count < cap; at++, place = 0) {
        size_t take = MIN(s->runs[at]->count - place, cap - count);
        if (take > 0) memcpy(out + count, s->runs[at]->ids + place, take * sizeof *out);
        count += take;
    }
    return count;
}

uint64_t id_set_free_from(const struct id_set *s, uint64_t from)
{
    if (s->count == 0) return from;
    size_t at = run_of(s, from);
    size_t place = place_of(s->runs[at], from);
    for (; at < s->count; at++, place = 0) {
        const struct id_run *run = s->runs[at];
        if (place == run->count) continue;
        uint64_t left = run->count - place;
        /* No gap inside: the whole rest is passed at once, however many ids a user has taken. */
        if (run->ids[place] == from && run->ids[run->count - 1] == from + left - 1) {
            from += left;
            continue;
        }
        while (place < run->count && run->ids[place] == from) {
            place++;
            from++;
        }
        return from;
    }
    return from;
}

void id_set_check(const struct id_set *s, size_t want_count)
{
    size_t count = 0;
    uint64_t last = 0;
    for (size_t at = 0; at < s->count; at++) {
        ASSERT(s->runs[at]->count >= 1 && s->runs[at]->count <= ID_RUN_MAX);
        ASSERT(s->firsts[at] == s->runs[at]->ids[0]);
        for (size_t i = 0; i < s->runs[at]->count; i++) {
            ASSERT(count == 0 || s->runs[at]->ids[i] > last);
            last = s->runs[at]->ids[i];
            count++;
        }
    }
    ASSERT(count == want_count);
}

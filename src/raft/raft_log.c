/* raft/raft_log.c - the entries in memory: a ring, so that a steady log allocates nothing. */
#include "raft/raft_int.h"

#define LOG_CAP_MIN 64

void log_init(struct raft_log *l, uint64_t base_index, uint64_t base_term)
{
    *l = (struct raft_log){ .base_index = base_index, .base_term = base_term };
}

static size_t slot(const struct raft_log *l, uint64_t index)
{
    return (size_t)index & (l->cap - 1);
}

void log_reset(struct raft_log *l, uint64_t base_index, uint64_t base_term)
{
    log_truncate(l, l->base_index + 1);
    ASSERT(l->count == 0);
    l->base_index = base_index;
    l->base_term = base_term;
}

void log_deinit(struct raft_log *l)
{
    log_reset(l, 0, 0);
    ASSERT(l->body_bytes == 0);
    mem_free(l->ring);
    *l = (struct raft_log){ 0 };
}

static void grow(struct raft_log *l)
{
    struct raft_log wider = *l;
    wider.cap = l->cap == 0 ? LOG_CAP_MIN : l->cap * 2;
    wider.ring = mem_alloc(wider.cap * sizeof *wider.ring);
    for (uint64_t i = l->base_index + 1; i <= log_last(l); i++) {
        wider.ring[slot(&wider, i)] = l->ring[slot(l, i)];
    }
    mem_free(l->ring);
    *l = wider;
}

void log_append(struct raft_log *l, const struct raft_entry *e_taken)
{
    ASSERT(e_taken->index == log_last(l) + 1);
    ASSERT(e_taken->term >= log_last_term(l));
    if (UNLIKELY(l->count == l->cap)) grow(l);
    l->ring[slot(l, e_taken->index)] = *e_taken;
    l->count++;
    l->body_bytes += entry_bytes(e_taken);
}

struct raft_entry *log_at(const struct raft_log *l, uint64_t index)
{
    ASSERT(index > l->base_index);
    ASSERT(index <= log_last(l));
    struct raft_entry *e = &l->ring[slot(l, index)];
    ASSERT(e->index == index);
    return e;
}

static void drop(struct raft_log *l, uint64_t index)
{
    struct raft_entry *e = log_at(l, index);
    ASSERT(l->body_bytes >= entry_bytes(e));
    l->body_bytes -= entry_bytes(e);
    blob_unref(e->body);
    e->body = NULL;
}

void log_truncate(struct raft_log *l, uint64_t from_index)
{
    ASSERT(from_index > l->base_index);
    while (log_last(l) >= from_index) {
        drop(l, log_last(l));
        l->count--;
    }
}

void log_trim(struct raft_log *l, uint64_t upto_index)
{
    ASSERT(upto_index <= log_last(l));
    while (l->base_index < upto_index) {
        uint64_t first = l->base_index + 1;
        l->base_term = log_at(l, first)->term;
        drop(l, first);
        l->base_index = first;
        l->count--;
    }
}

bool log_term_at(const struct raft_log *l, uint64_t index, uint64_t *term)
{
    if (index < l->base_index || index > log_last(l)) return false;
    *term = index == l->base_index ? l->base_term : log_at(l, index)->term;
    return true;
}

uint64_t log_last_term(const struct raft_log *l)
{
    return l->count == 0 ? l->base_term : l->ring[slot(l, log_last(l))].term;
}

/* [P] 5.3, the optimisation at its end, by term on both sides: entries of a higher term than the
 * other side has at this place cannot be equal, so whole terms are skipped in one exchange. */
uint64_t log_find_agreement(const struct raft_log *l, uint64_t index, uint64_t term,
                            uint64_t floor_index)
{
    uint64_t at_term = 0;
    while (index > floor_index && log_term_at(l, index, &at_term) && at_term > term) index--;
    return index;
}

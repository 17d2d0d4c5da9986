/* disk/wal_index.c - where each live entry is: runs of entries by batch, table of segments. */
#include "disk/wal_int.h"

void wal_index_deinit(struct wal_index *ix)
{
    mem_free(ix->segments);
    mem_free(ix->runs);
    *ix = (struct wal_index){ 0 };
}

struct wal_segment *wal_index_segment(struct wal_index *ix, uint64_t seq)
{
    ASSERT(ix->segment_count > 0);
    uint64_t at = seq - ix->segments[0].seq;
    ASSERT(at < ix->segment_count);
    return &ix->segments[at];
}

static void segment_add(struct wal_index *ix, const struct wal_placed *p)
{
    if (ix->segment_count > 0) {
        ASSERT(p->segment_seq == ix->segments[ix->segment_count - 1].seq + 1);
    }
    if (ix->segment_count == ix->segment_cap) {
        ix->segment_cap = ix->segment_cap == 0 ? 16 : ix->segment_cap * 2;
        ix->segments = mem_realloc(ix->segments, ix->segment_cap * sizeof *ix->segments);
    }
    ix->segments[ix->segment_count++] = (struct wal_segment){
        .seq = p->segment_seq,
        .bytes = p->segment_bytes,
        .salt = p->salt,
        .block_bytes = p->block_bytes,
        .floor = p->before,
    };
}

static void run_add(struct wal_index *ix, const struct wal_run *run)
{
    if (ix->run_end == ix->run_cap && ix->run_begin > ix->run_cap / 2) {
        size_t count = ix->run_end - ix->run_begin;
        memmove(ix->runs, ix->runs + ix->run_begin, count * sizeof *ix->runs);
        ix->run_begin = 0;
        ix->run_end = count;
    }
    if (ix->run_end == ix->run_cap) {
        ix->run_cap = ix->run_cap == 0 ? 256 : ix->run_cap + ix->run_cap / 2;
        ix->runs = mem_realloc(ix->runs, ix->run_cap * sizeof *ix->runs);
    }
    ix->runs[ix->run_end++] = *run;
}

/* The log now ends at `last` at most: later runs are gone, and a segment that begins behind it
 * would, as the oldest one, begin there. */
static void index_cut(struct wal_index *ix, struct wal_mark last)
{
    while (ix->run_end > ix->run_begin && ix->runs[ix->run_end - 1].first > last.index) {
        ix->run_end--;
    }
    for (size_t i = 0; i < ix->segment_count; i++) {
        if (ix->segments[i].floor.index > last.index) ix->segments[i].floor = last;
    }
}

void wal_index_apply(struct wal_index *ix, const struct wal_placed *p)
{
    const struct wal_effect *fx = &p->effect;
    if (p->opens) segment_add(ix, p);
    ASSERT(ix->segment_count > 0);
    ASSERT(p->segment_seq == ix->segments[ix->segment_count - 1].seq);

    if (fx->restart.index != 0) {
        ix->run_begin = ix->run_end = 0;
        for (size_t i = 0; i < ix->segment_count; i++) ix->segments[i].floor = fx->restart;
    }
    if (fx->has_cut) index_cut(ix, fx->cut);
    if (fx->run_first != 0) {
        run_add(ix, &(struct wal_run){ .first = fx->run_first,
                                       .segment_seq = (uint32_t)p->segment_seq,
                                       .block = p->block });
    }
    ix->last = fx->last;
}

size_t wal_index_droppable(const struct wal_index *ix, uint64_t index, uint64_t keep_bytes)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < ix->segment_count; i++) bytes += ix->segments[i].bytes;
    size_t count = 0;
    while (count + 1 < ix->segment_count) {
        const struct wal_segment *s = &ix->segments[count];
        bytes -= s->bytes;
        if (s->pin_count > 0 || bytes < keep_bytes) break;
        if (ix->segments[count + 1].floor.index >= index) break;
        count++;
    }
    return count;
}

void wal_index_drop(struct wal_index *ix, size_t segment_count)
{
    ASSERT(segment_count < ix->segment_count);
    if (segment_count == 0) return;
    uint64_t first_seq = ix->segments[segment_count].seq;
    while (ix->run_begin < ix->run_end && ix->runs[ix->run_begin].segment_seq < first_seq) {
        ix->run_begin++;
    }
    ix->segment_count -= segment_count;
    memmove(ix->segments, ix->segments + segment_count,
            ix->segment_count * sizeof *ix->segments);
}

void wal_index_check(const struct wal_index *ix)
{
    ASSERT(ix->run_begin <= ix->run_end);
    ASSERT(ix->run_end <= ix->run_cap);
    if (ix->segment_count == 0) return;
    uint64_t first = ix->segments[0].floor.index + 1;
    ASSERT(ix->last.index + 1 >= first);
    for (size_t i = 1; i < ix->segment_count; i++) {
        ASSERT(ix->segments[i].seq == ix->segments[i - 1].seq + 1);
        ASSERT(ix->segments[i].floor.index >= ix->segments[i - 1].floor.index);
    }
    if (ix->run_begin == ix->run_end) {
        ASSERT(ix->last.index + 1 == first);
        return;
    }
    ASSERT(ix->runs[ix->run_begin].first == first);
    ASSERT(ix->runs[ix->run_end - 1].first <= ix->last.index);
    for (size_t i = ix->run_begin + 1; i < ix->run_end; i++) {
        ASSERT(ix->runs[i].first > ix->runs[i - 1].first);
        ASSERT(ix->runs[i].segment_seq >= ix->runs[i - 1].segment_seq);
    }
}

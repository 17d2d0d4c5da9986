/* state/retention.c - see retention.h. */
#include "state/retention.h"

/* While a limit is off: it may come later. */
#define TIME_STEP_MS_DEFAULT (3600000 / RETENTION_PARTS)
#define REV_STEP_DEFAULT (1000000 / RETENTION_PARTS)

void retention_init(struct retention *r) { r->count = 0; }

/* Every second sample goes, but not the first and the last: the older, the wider the steps. A
 * sample that is missing can only make compaction later. */
static void thin(struct retention *r)
{
    size_t kept = 1;
    for (size_t i = 1; i < r->count; i += 2) r->samples[kept++] = r->samples[i];
    r->count = kept;
}

static uint64_t step_of(uint64_t limit, uint64_t fallback)
{
    if (limit == 0) return fallback;
    return MAX(limit / RETENTION_PARTS, 1u);
}

void retention_note(struct retention *r, const struct settings *settings, uint64_t stamp_ms,
                    uint64_t rev)
{
    if (r->count > 0) {
        const struct retention_sample *last = &r->samples[r->count - 1];
        if (rev <= last->rev || stamp_ms < last->stamp_ms) return;
        uint64_t step_ms = step_of(settings->retain_ms, TIME_STEP_MS_DEFAULT);
        uint64_t step_revs = step_of(settings->retain_revs, REV_STEP_DEFAULT);
        if (stamp_ms - last->stamp_ms < step_ms && rev - last->rev < step_revs) return;
    }
    if (r->count == RETENTION_SAMPLE_COUNT_MAX) thin(r);
    r->samples[r->count++] = (struct retention_sample){ stamp_ms, rev };
}

void retention_compacted(struct retention *r, uint64_t compacted)
{
    size_t gone = 0;
    while (gone < r->count && r->samples[gone].rev <= compacted) gone++;
    r->count -= gone;
    memmove(r->samples, r->samples + gone, r->count * sizeof r->samples[0]);
}

/* The newest sample whose time is past: all that was replaced until then is too old. */
static uint64_t due_by_time(const struct retention *r, uint64_t retain_ms, uint64_t stamp_ms)
{
    uint64_t rev = 0;
    if (retain_ms == 0 || stamp_ms < retain_ms) return 0;
    for (size_t i = 0; i < r->count; i++) {
        if (r->samples[i].stamp_ms <= stamp_ms - retain_ms) rev = r->samples[i].rev;
    }
    return rev;
}

/* Asks only when a whole part is beyond the limit, so not at every revision. */
static uint64_t due_by_count(uint64_t retain_revs, const struct retention_now *now)
{
    if (retain_revs == 0 || now->rev <= retain_revs) return 0;
    uint64_t target = now->rev - retain_revs;
    if (target < now->compacted + step_of(retain_revs, REV_STEP_DEFAULT)) return 0;
    return target;
}

/* As many of the oldest revisions as hold what is too much, and one part more, taking all
 * revisions for equally large. */
static uint64_t due_by_bytes(uint64_t retain_bytes, const struct retention_now *now)
{
    if (retain_bytes == 0 || now->history_bytes <= retain_bytes) return 0;
    uint64_t excess = now->history_bytes - retain_bytes + retain_bytes / RETENTION_PARTS;
    excess = MIN(excess, now->history_bytes);
    uint64_t history = now->history_bytes;
    for (; history >> 32 != 0; history >>= 1) excess >>= 1; /* so that no product overflows */
    uint64_t revs = now->rev - now->compacted;
    return now->compacted + revs / history * excess + revs % history * excess / history;
}

uint64_t retention_due(const struct retention *r, const struct settings *settings,
                       const struct retention_now *now)
{
    ASSERT(now->compacted <= now->rev);
    uint64_t rev = due_by_time(r, settings->retain_ms, now->stamp_ms);
    rev = MAX(rev, due_by_count(settings->retain_revs, now));
    rev = MAX(rev, due_by_bytes(settings->retain_history_bytes, now));
    if (now->rev <= settings->retain_revs_min) return 0;
    rev = MIN(rev, now->rev - settings->retain_revs_min);
    return rev > now->compacted ? rev : 0;
}

/* --- bytes ---------------------------------------------------------------------------- */

void retention_encode(const struct retention *r, struct buf *out)
{
    struct retention_sample last = { 0, 0 };
    buf_append_u8(out, RETENTION_FORMAT);
    buf_append_varint(out, r->count);
    for (size_t i = 0; i < r->count; i++) {
        buf_append_varint(out, r->samples[i].stamp_ms - last.stamp_ms);
        buf_append_varint(out, r->samples[i].rev - last.rev);
        last = r->samples[i];
    }
}

static bool add_varint(struct slice *rest, uint64_t *sum)
{
    uint64_t v;
    size_t used = varint_get(rest->at, rest->len, &v);
    if (used == 0 || __builtin_add_overflow(*sum, v, sum)) return false;
    *rest = (struct slice){ rest->at + used, rest->len - used };
    return true;
}

enum err retention_decode(struct retention *r, struct slice bytes)
{
    struct retention next = { .count = 0 };
    struct retention_sample last = { 0, 0 };
    uint64_t count = 0;
    if (bytes.len < 1 || bytes.at[0] != RETENTION_FORMAT) return ERR_CORRUPT;
    struct slice rest = { bytes.at + 1, bytes.len - 1 };
    if (!add_varint(&rest, &count) || count > RETENTION_SAMPLE_COUNT_MAX) return ERR_CORRUPT;
    for (; count > 0; count--) {
        uint64_t rev = last.rev;
        if (!add_varint(&rest, &last.stamp_ms) || !add_varint(&rest, &last.rev)) return ERR_CORRUPT;
        if (last.rev == rev) return ERR_CORRUPT;
        next.samples[next.count++] = last;
    }
    if (rest.len != 0) return ERR_CORRUPT;
    *r = next;
    return OK;
}

/* state/retention.h - when history may be forgotten: which revision was newest at which time.
 *
 * PURPOSE  Keep (stamp, revision) samples in the replicated state, and from them say which
 *          revision automatic compaction should ask for. Does not compact.
 * OWNS     Its samples, inside struct retention.
 * USES     settings, base.
 * THREADS  Loop thread only.
 * LIMITS   RETENTION_SAMPLE_COUNT_MAX: when full, every second sample goes (only where nothing
 *          compacts: the limits by time and count need 64 samples each).
 * ERRORS   ERR_CORRUPT from retention_decode.
 *
 * FORMAT   u8 version (1) | varint count | count x (varint stamp - previous stamp,
 *          varint revision - previous revision), the first against 0
 */
#ifndef STATE_RETENTION_H
#define STATE_RETENTION_H

#include "state/settings.h"

#define RETENTION_FORMAT 1
#define RETENTION_SAMPLE_COUNT_MAX 256
#define RETENTION_PARTS 64 /* a limit is kept to within one part of this many */

struct retention_sample {
    uint64_t stamp_ms;
    uint64_t rev; /* the newest revision at that stamp */
};

struct retention {
    struct retention_sample samples[RETENTION_SAMPLE_COUNT_MAX]; /* both ascend strictly by rev */
    size_t count;
};

void retention_init(struct retention *r);

/* After each entry, with its stamp and the newest revision. Part of apply: deterministic. */
void retention_note(struct retention *r, const struct settings *settings, uint64_t stamp_ms,
                    uint64_t rev);

/* After each compaction: samples that cannot be asked for any more go. Part of apply. */
void retention_compacted(struct retention *r, uint64_t compacted);

struct retention_now {
    uint64_t stamp_ms;  /* cluster clock; the leader's present one or the applied one */
    uint64_t rev, compacted;
    uint64_t history_bytes; /* in the store; 0 while an earlier compaction is not physically done,
                               else the same bytes would be counted against more revisions */
};

/* The revision to compact at, 0 if none now. compacted < result <= rev - retain_revs_min. */
uint64_t retention_due(const struct retention *r, const struct settings *settings,
                       const struct retention_now *now);

void retention_encode(const struct retention *r, struct buf *out);
/* Unchanged on error. */
enum err retention_decode(struct retention *r, struct slice bytes) MUST_USE;

#endif

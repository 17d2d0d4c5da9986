/* disk/wal.h - the write-ahead log: what was answered is here, synced, before it is answered.
 *
 * PURPOSE  Decide what of the log and the hard state survives a crash, and say when it does.
 *          Does not know what entries mean, nor when they are committed.
 * OWNS     The files of one directory, a thread or an io_uring that writes them, a thread that
 *          makes the next file ahead, and a reference on each submitted blob until it is durable.
 *          The threads inherit the signal mask of the caller of wal_open.
 * USES     base/, disk_io.h.
 * THREADS  Loop thread only, but for wal_read_run (any). No call of the loop's waits for the disk,
 *          except wal_open, wal_close and wal_read. Blobs are referenced and released on the loop.
 * LIMITS   WAL_ENTRY_BYTES_MAX a body (less with small segments: wal_entry_bytes_max),
 *          WAL_BATCH_BYTES_MAX a batch. What waits is bounded by the caller: see wal_stats.
 * ERRORS   ERR_CORRUPT synced data is damaged: file, offset, indexes in the text; ERR_CONFIG wrong
 *          cluster, member or group; ERR_UNSUPPORTED a newer format; ERR_NOT_FOUND no log where
 *          there must be one; ERR_NOSPACE, ERR_IO. A failed or short write, or a failed sync, of a
 *          batch is no error: one line on stderr and _exit(WAL_EXIT_CODE).
 *
 * FORMAT   Little-endian. Files wal-<sequence as 16 hex digits>, all of the same size, written
 *          over completely (zeros, or a former segment) before they get that name. `*.tmp` and
 *          `recycle-*` are remains of a crash and removed by wal_open.
 *          block 0   segment header, written once, before the file gets its name:
 *                    u32 magic "CWS1" | u32 CRC32C of bytes 8..95 | u32 version | u32 block bytes |
 *                    u64 cluster id | u64 member id | u64 segment sequence | u64 segment bytes |
 *                    u64 salt | u32 group | u32 0 | 32 bytes 0
 *          then      batches, each beginning on a block, one group commit each:
 *           header   u32 magic "CWB1" | u32 CRC32C of bytes 8.. of the header and of all heads |
 *                    u32 bytes with padding | u32 record count | u64 batch sequence |
 *                    u64 durable sequence (all batches up to it were synced before this one was
 *                    written) | u32 CRC of the previous batch | u32 flags (1 opens a segment,
 *                    2 seals it) | u64 segment sequence | u64 term | u64 vote | u64 commit |
 *                    u64 last index before this batch | u64 its term
 *           heads    a record each: u8 type | u8 entry type | u16 0 | u32 body bytes |
 *                    u32 CRC32C of the body | u32 0 | u64 term | u64 index
 *           bodies   in the order of the heads, packed; then zeros up to the next block.
 *          The batch CRC starts from a seed made of the segment's salt and sequence: neither the
 *          remains in a recycled file nor bytes that a client chose can look like a batch.
 *          Record types: 1 entry; 2 truncate-from (index; term of index - 1); 3 snapshot-begin
 *          (index, term); 4 snapshot (index, term: the log restarts behind it). The hard state is
 *          in every batch header. An opening batch repeats the last marks as records with entry
 *          type 1, which restart nothing, so that older segments can go.
 *
 * INVARIANTS
 *  I1  A batch is written only after all batches before it are synced: durable = sequence - 1.
 *      So a batch behind a broken one proves that one was whole once: damage, not a torn write.
 *  I2  No write touches a block that holds a synced batch, except recovery, which writes the last
 *      batch's own bytes over it and syncs, before anything is reported from it.
 *  I3  A completion is reported only after the sync that covers it returned success.
 *  I4  A segment gets its name only after its blocks and header are synced; the directory is synced
 *      before the first batch goes in. At most the newest segment has no batch.
 *  I5  A segment's last batch is a seal: written once the next segment has its name, durable before
 *      that one's first batch is written. Room for it is always left. A seal without a next segment
 *      is damage.
 *  I6  Segment n + 2 is made only after the first batch of n + 1 is durable.
 *  I7  Segments go oldest first, the directory synced after each: never a hole in the sequence.
 *  I8  Entry indexes in file order ascend by one, unless a truncate or snapshot record is between;
 *      terms do not descend; commit is at most the last index.
 */
#ifndef DISK_WAL_H
#define DISK_WAL_H

#include "base/buf.h"
#include "disk/disk_io.h"

#define WAL_EXIT_CODE 74 /* EX_IOERR: a write or sync of the log failed */
#define WAL_SEGMENT_BYTES (64u << 20)
#define WAL_SEGMENT_BYTES_MIN (64u << 10)
#define WAL_SEGMENT_BYTES_MAX (1u << 30)
#define WAL_KEEP_BYTES (1ull << 30)
#define WAL_ENTRY_BYTES_MAX (8u << 20)
#define WAL_BATCH_BYTES_MAX (WAL_ENTRY_BYTES_MAX + (64u << 10))
#define WAL_GROUP_BYTES (1u << 20) /* a batch takes no further entry once it is this large */
#define WAL_PROOF_DELAY_MS 1000    /* the empty batch follows so long after the last */

struct wal;
struct wal_read;

enum wal_backend {
    WAL_BACKEND_AUTO = 0, /* io_uring where a probe with a real write works, else the thread */
    WAL_BACKEND_THREAD,
    WAL_BACKEND_URING,
    WAL_BACKEND_MANUAL, /* no threads: wal_step() writes. For the simulator and for tests. */
};

struct wal_hard_state {
    uint64_t term;
    uint64_t vote; /* member id, 0 none */
    uint64_t commit;
};

/* A place in the log. index 0 means none. */
struct wal_mark {
    uint64_t index;
    uint64_t term;
};

struct wal_entry {
    uint64_t term;
    uint64_t index;
    uint8_t type;      /* the caller's; kept as it is */
    uint32_t crc;      /* crc32c(0, body): computed once, at the entry's origin */
    struct slice body; /* within *blob. In callbacks: valid during the call, blob is NULL */
    struct blob *blob; /* submit takes its own reference; NULL only if body is empty */
};

struct wal_options {
    const char *dir;          /* made if missing (its parent must exist) */
    const struct disk_io *io; /* NULL: disk_io_posix() */
    bool create;              /* a directory without a log gets one; otherwise ERR_NOT_FOUND */
    uint64_t cluster_id;      /* 0: whatever is recorded. Not 0 where a log is made. */
    uint64_t member_id;       /* likewise */
    uint32_t group;
    uint64_t salt;          /* random, new at each start (0 only in tests) */
    uint64_t segment_bytes; /* 0: WAL_SEGMENT_BYTES; for new segments, a multiple of 64 KiB */
    uint64_t keep_bytes;    /* wal_drop_below leaves at least this much; 0: nothing extra */
    enum wal_backend backend;
    /* Replay: the surviving entries from replay_from on, ascending without gaps, after the whole
     * log was checked and its end made durable. An error ends wal_open with it. NULL: no replay. */
    uint64_t replay_from;
    enum err (*on_entry)(void *ctx, const struct wal_entry *e);
    /* Tests: called instead of stderr and _exit; if it returns nothing is ever written or reported
     * as durable again. May be called on the WAL's thread. */
    void (*on_fatal)(void *ctx, const char *line);
    /* Making a segment ahead has begun to fail (see wal_stats): one line. NULL: stderr. May be
     * called on a thread of the log's. */
    void (*on_warning)(void *ctx, const char *line);
    void *ctx;
};

/* What wal_open found. */
struct wal_found {
    bool created;
    uint64_t cluster_id;
    uint64_t member_id;
    uint32_t group;
    struct wal_hard_state hard;
    struct wal_mark before; /* the entry before the first; {0, 0} from the log's beginning */
    struct wal_mark last;   /* the last entry, or `before` if there is none */
    struct wal_mark snapshot_begin; /* the last mark of each kind; index 0: none */
    struct wal_mark snapshot;
    uint64_t torn_bytes; /* of an unfinished last batch, dropped */
};

/* Opens, recovers or creates. Blocks. The caller owns *out. */
enum err wal_open(const struct wal_options *options, struct wal **out, struct errmsg *em) MUST_USE;
const struct wal_found *wal_found(const struct wal *wal); /* borrowed, as of wal_open */
/* Writes all that was submitted and a last empty batch, then frees. Reports no completions. */
void wal_close(struct wal *wal); /* NULL is allowed */

/* --- writing ---------------------------------------------------------------- */

/* In this order: marks, truncation, entries, hard state. All is optional; all of it is copied
 * but the bodies. One submission may become durable in pieces, always as a prefix in that order
 * (term and vote count as first, commit as last), and completes as a whole. */
struct wal_submission {
    struct wal_mark snapshot_begin; /* a snapshot up to here is about to be installed */
    struct wal_mark snapshot;       /* is installed: the log restarts at index + 1 */
    uint64_t truncate_from;         /* entries from here on never were; 0: none */
    uint64_t truncate_term;         /* the term of entry truncate_from - 1 */
    const struct wal_entry *entries;
    size_t entry_count;
    const struct wal_hard_state *hard; /* NULL: unchanged */
};

/* Never blocks, never fails. Returns the submission's sequence: 1, 2, ... since wal_open. */
uint64_t wal_submit(struct wal *wal, const struct wal_submission *s);

struct wal_done {
    uint64_t seq;         /* all submissions up to this one are durable */
    struct wal_mark last; /* the log's last entry as of that submission */
};
/* True if something became durable since the last call; *out is then the newest. One load if not.
 * Also hands the next group to the kernel where that is the loop's job. */
bool wal_poll(struct wal *wal, struct wal_done *out);

/* Readable when wal_poll may have something, if the loop said that it sleeps. -1 with MANUAL. */
int wal_fd(const struct wal *wal);
/* Call right before waiting for events; false: wal_poll has something already, do not wait. */
bool wal_about_to_sleep(struct wal *wal);
void wal_woke(struct wal *wal); /* call right after */

/* Call at least a few times a second; any clock that does not go backwards. */
void wal_tick(struct wal *wal, int64_t now_ms);

/* MANUAL only: writes and syncs one group, or makes or retires one file; false: nothing to do, or
 * no next segment could be made. */
bool wal_step(struct wal *wal);
/* MANUAL only: frees as a crash would, writing nothing. */
void wal_abandon(struct wal *wal);

/* --- the end of history ------------------------------------------------------ */

/* Entries below `index` are not needed any more. Frees whole segments, later, elsewhere. */
void wal_drop_below(struct wal *wal, uint64_t index);
void wal_keep_set(struct wal *wal, uint64_t keep_bytes); /* as in wal_options, from now on */
uint64_t wal_first_index(const struct wal *wal);   /* the oldest entry that is kept */
struct wal_mark wal_last_durable(const struct wal *wal);
size_t wal_entry_bytes_max(const struct wal *wal); /* the largest body that can be submitted */

/* --- reading what is durable ------------------------------------------------- */

/* Plans reading entries first..last and keeps their files from being recycled. NULL if not all of
 * them are kept and durable. Whatever is appended or truncated meanwhile, the plan yields the
 * entries as of now. A very long range is cut: it always has `first`, but maybe not `last`. */
struct wal_read *wal_read_new(struct wal *wal, uint64_t first, uint64_t last);
/* Any thread, blocks. Calls on_entry in order; stops before the entry that would exceed bytes_max
 * (but yields at least one). Checksums are verified: ERR_CORRUPT, ERR_IO, or what on_entry says. */
enum err wal_read_run(struct wal_read *rd, size_t bytes_max,
                      enum err (*on_entry)(void *ctx, const struct wal_entry *e), void *ctx,
                      struct errmsg *em) MUST_USE;
void wal_read_free(struct wal_read *rd); /* loop thread, before wal_close; NULL is allowed */
/* All three at once, on the calling thread. ERR_NOT_FOUND if wal_read_new would answer NULL. */
enum err wal_read(struct wal *wal, uint64_t first, uint64_t last,
                  enum err (*on_entry)(void *ctx, const struct wal_entry *e), void *ctx,
                  struct errmsg *em) MUST_USE;

/* --- for metrics -------------------------------------------------------------- */

struct wal_stats {
    const char *backend; /* "thread", "uring", "manual" */
    uint64_t sync_count;
    uint64_t written_bytes; /* with headers and padding */
    uint64_t entry_count;
    int64_t sync_us_last; /* write and sync of the last group */
    int64_t sync_us_max;
    int64_t in_flight_us; /* how long the present write has been under way; 0: none is */
    uint64_t pending_bytes; /* bodies submitted and not yet durable */
    uint64_t pending_count; /* submissions, likewise */
    uint64_t segment_count;
    uint64_t segment_bytes; /* all files */
    uint64_t recycled_count;
    bool next_segment_ready;
    /* Making the next segment failed (ERR_NOSPACE, ERR_IO) and is tried again every second. When
     * the present one is full too, nothing completes until it succeeds. OK otherwise. */
    enum err next_segment_err;
};
void wal_stats_get(struct wal *wal, struct wal_stats *out);

/* Asserts what can be asserted about the numbers in memory. */
void wal_check(const struct wal *wal);

#endif

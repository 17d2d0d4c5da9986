/* disk/store.h - the checkpoint on two LevelDBs: rows by revision, the rest of the state by name; and
 * large batches of rows in files that the first one refers to.
 *
 * PURPOSE  Keep one durable copy of the state as of an applied index, read history from it, and
 *          give back the room of what was compacted. Does not decide what a batch holds, what
 *          meta names mean, or which revision is compacted.
 * OWNS     struct store: both databases, the files of packs, its thread, the pack table, a done
 *          queue. Batches and reads from submit until store_poll. Blobs of a batch are released on
 *          the loop.
 * USES     base/, mvcc/mvcc_row.h, disk_io.h, workers.h, LevelDB.
 * THREADS  Everything here is called by the loop thread (store_open, store_scan and store_close
 *          block it). One store thread writes; workers read; during store_scan a thread of its own
 *          reads ahead. In manual mode there are none of these.
 * LIMITS   STORE_META_NAME_BYTES_MAX; STORE_MARKERS; STORE_BACKLOG_BYTES_NORMAL (there the thread
 *          gets normal priority, if the process may). The caller bounds the backlog.
 * ERRORS   store_open: ERR_CORRUPT (file and what), ERR_LOCKED, ERR_IO. store_scan: ERR_CORRUPT,
 *          ERR_IO, or what a callback returned. A read: ERR_COMPACTED in its result. After start
 *          any failed write or read, and any damage found, calls on_fatal and ends the process
 *          with STORE_EXIT_CODE: LevelDB must not be used after a failed write. After store_stop a
 *          write that finds no room is not fatal: it and what follows is dropped, the log has it.
 *          Damage that only an export (store_export.h) found ends the export.
 *
 * FORMAT   Two databases: rows come in ascending order, and alone in theirs LevelDB never needs to
 *          merge a table with another one. Integers are little-endian unless "be".
 *          rows/  "r" rev(be64) n(be32) -> a pack (mvcc_row.h), or a reference to one in packs/
 *                                          (store_files.h); rev and n of its first row
 *          meta/  "b" seq(be64)         -> chain marker, see store_marker.h
 *                 "m" name              -> meta value, the caller's bytes
 *                 "s" "applied"         -> newest marker again: it must match the chain
 *                 "s" "floor"           -> u64 rev: rows not visible at or above it may be gone
 *                 "s" "format"          -> u32 STORE_FORMAT; written first. One of format 2, which
 *                                          is 3 without references, becomes 3 when it is opened
 *
 * INVARIANTS
 *  I1  A batch is all or nothing. Its packs, if they are large, go to a file that is synced; they,
 *      or references to them, go to rows/ in one durable write; then its marker and meta go to
 *      meta/ in one synced write, which is what makes it durable. Packs behind the newest marker's
 *      last_rev, last_n belong to no batch: opening deletes them.
 *  I2  Exactly STORE_MARKERS markers exist, their seq contiguous, each with the CRC of the one
 *      before. A write that meta/ lost leaves a gap or an old marker too many. The newest marker
 *      has the sum of all packs that are there; the scan compares, so a pack that rows/ lost, or
 *      did not delete, is noticed wherever it is.
 *  I3  A row is removed only if it is not visible at any revision >= floor, and floor <= the
 *      compacted_rev of a batch that is durable. So no reader at or above it can miss it, and a
 *      restart finds the newest row of every key. The floor record, and a marker with the sums
 *      before and after, are synced in meta/ before rows/ changes.
 *  I4  Packs are disjoint and ascend: every row of a pack is below the first row of the next.
 *  I5  A row goes only with, or after, every older row of its key that it made dead: packs with dead
 *      rows are written anew oldest first. So no load finds a dead row without what made it dead.
 */
#ifndef DISK_STORE_H
#define DISK_STORE_H

#include "base/buf.h"
#include "disk/disk_io.h"
#include "disk/workers.h"
#include "mvcc/mvcc_row.h"

#define STORE_FORMAT 3
#define STORE_FORMAT_OLDEST 2
#ifndef STORE_MARKERS
#define STORE_MARKERS 1000 /* the simulator's build has fewer: they are most of its small databases */
#endif
#define STORE_FILES_MAX 256u /* of packs, each with a descriptor: see store_files.h */
#define STORE_META_NAME_BYTES_MAX 65536 /* a letter and the longest internal key: see checkpoint.h */
#define STORE_BACKLOG_BYTES_NORMAL (32u << 20) /* half of what makes writes wait */
#define STORE_EXIT_CODE 74 /* EX_IOERR: a write or read of the checkpoint failed */

struct store;

struct store_options {
    const char *dir;         /* made if it does not exist; its parent must exist */
    struct workers *workers; /* for store_read; outlive the store. NULL: it is never read */
    /* What ended us, one line. Called on the thread that found it; NULL prints it to stderr. The
     * process ends with STORE_EXIT_CODE when it returns. */
    void (*on_fatal)(void *ctx, const char *text);
    void *on_fatal_ctx;
    /* A store in the making, of which nothing is read: a failed write does not end the process, but
     * nothing more is written, and store_failed() says why. */
    bool expendable;
    size_t write_buffer_bytes; /* of rows/; 0: STORE_WRITE_BUFFER_BYTES; tests make it small */
    /* From so many bytes on the packs of a batch, or of a step of compaction, go to a file of packs. 0: a
     * part of the write buffer. */
    size_t file_batch_bytes;
    const struct disk_io *io; /* NULL: the kernel's. Another one needs a LevelDB on the same files */
    /* No thread: store_step() does what it would; `workers` are manual too. on_fatal may return when
     * a write failed: then nothing is ever written or reported as durable again. */
    bool manual;
};
#define STORE_WRITE_BUFFER_BYTES (8u << 20)
#define STORE_META_BUFFER_BYTES_MAX (256u << 10) /* of meta/, if that of rows/ is not smaller */

struct store_info {
    bool empty; /* made by this call, or no batch was ever written: all below is 0 */
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t compacted_rev; /* of the newest batch */
    uint64_t write_seq;     /* marker of the newest write */
    uint64_t trimmed_bytes; /* of torn last logs, and packs of a batch that was not durable */
};

/* Checks and trims the logs, opens, walks the markers, deletes what no marker names. Blocks.
 * Nothing remains open on error. */
enum err store_open(const struct store_options *options, struct store **out,
                    struct store_info *info, struct errmsg *em) MUST_USE;

/* Borrowed until the callback returns. A result other than OK ends the scan and is its result. */
typedef enum err store_meta_cb(void *ctx, struct slice name, struct slice value);
typedef enum err store_pack_cb(void *ctx, uint64_t first_rev, uint32_t first_n, struct slice pack);

/* Once, after store_open and before store_start, also for an empty store: all meta in order of
 * name, then all packs in order of revision. Checksums and the sum of packs are verified; what a
 * callback took from a scan that fails is to be dropped. Blocks. */
enum err store_scan(struct store *s, store_meta_cb *meta_cb, store_pack_cb *pack_cb, void *ctx,
                    struct errmsg *em) MUST_USE;

/* Between store_scan's first pack and store_start: the row of `key` at `rev`, which the scan has
 * shown, is not visible at or above info.compacted_rev. That is: another row of the key with a
 * revision <= compacted_rev followed; or it is a tombstone and rev < compacted_rev. A row that is
 * not named here stays until it is superseded in a later compaction; one that is named goes. */
void store_note_dead(struct store *s, uint64_t rev, struct slice key);

/* Begins background work. Before it: only store_scan and store_note_dead; after: the rest. */
void store_start(struct store *s);

/* --- batches --------------------------------------------------------------- */

struct store_batch;

struct store_batch *store_batch_new(void);
void store_batch_free(struct store_batch *b); /* only if it was not submitted; NULL is allowed */
/* Packs in ascending order, above all packs of earlier batches, never one revision in two
 * batches (unless nobody reads before the last of them is durable). */
void store_batch_pack(struct store_batch *b, uint64_t first_rev, uint32_t first_n,
                      struct blob *pack_taken);
void store_batch_put(struct store_batch *b, struct slice name, struct slice value); /* copied */
void store_batch_delete(struct store_batch *b, struct slice name);
/* For a new store that is made of what another one holds (store_export.h): rows that are not visible
 * at or above floor_rev may be missing. At most the compacted_rev of the cut. */
void store_batch_floor(struct store_batch *b, uint64_t floor_rev);
size_t store_batch_bytes(const struct store_batch *b);

struct store_cut {
    uint64_t applied_index; /* >= that of the batch before; the local WAL is durable to it */
    uint64_t applied_term;
    uint64_t compacted_rev; /* the logical compaction as of applied_index; never less than before */
};

/* Never blocks. Returns the batch's number: 1, 2, ... since store_open. */
uint64_t store_submit(struct store *s, struct store_batch *b_taken, const struct store_cut *cut);

/* Bytes of batches submitted and not yet durable. Any thread. */
size_t store_backlog_bytes(const struct store *s);
enum err store_failed(const struct store *s, struct errmsg *em) MUST_USE; /* see expendable */

/* --- physical compaction --------------------------------------------------- */

/* Allows rows that are not visible at or above `rev` to be removed, when a batch with
 * compacted_rev >= rev is durable and it is worth a pass (STORE_PASS_PART). Smaller than before: ignored. Reads pinned below `rev` may
 * fail with ERR_COMPACTED from then on: call it when the pins are gone. */
void store_compact(struct store *s, uint64_t rev);

/* --- history reads --------------------------------------------------------- */

enum store_read_kind {
    STORE_READ_EVENTS = 1, /* all rows in [from_rev, to_rev] with a key in [start, end) */
    STORE_READ_VERSION,    /* for each query the newest row with revision <= at_rev */
    STORE_READ_HISTORY,    /* the rows of queries[0] in [from_rev, to_rev], oldest first */
    STORE_READ_ROWS,       /* what is there of revision from_rev, also below the compacted one */
};

/* One key and where its chain of rows begins: `rev` is the revision of its newest row that is to
 * be looked at, `jump` that row's jump if known, else 0. */
struct store_query {
    size_t key_at; /* in keys */
    size_t key_len;
    uint64_t rev;
    uint64_t jump;
};

/* A pack that may not be durable yet. Borrowed until the read is done. */
struct store_pack_ref {
    uint64_t first_rev;
    uint32_t first_n;
    struct slice pack;
};

struct store_read {
    struct work work; /* private */
    struct store *store;

    uint64_t cookie; /* the caller's */
    enum store_read_kind kind;
    uint64_t from_rev; /* EVENTS, HISTORY */
    uint64_t to_rev;
    uint64_t at_rev; /* VERSION */
    bool no_put;     /* EVENTS: leave these out */
    bool no_del;
    bool with_prev;  /* EVENTS: also the row that each one replaced */
    uint64_t events_max; /* 0: no limit. EVENTS never splits a revision, so may go beyond */
    uint64_t bytes_max;  /* 0: no limit; of the result */
    uint64_t scan_bytes_max; /* 0: no limit; EVENTS: of packs read, to bound a read without hits */
    struct buf keys;         /* start, end and query keys; use the functions below */
    size_t start_len, end_len; /* keys = start, end, query keys */
    struct store_query *queries;
    size_t query_count;
    struct store_pack_ref *packs; /* ascending: all packs that are not durable, or a newest part
                                     of all packs that contains them */
    size_t pack_count;

    /* Result. */
    enum err result;   /* OK or ERR_COMPACTED: from_rev or at_rev is below what is still there */
    uint64_t next_rev; /* EVENTS, HISTORY: to continue from; to_rev + 1 when all was read */
    uint64_t item_count;
    struct buf items; /* read with store_read_next */
};

struct store_read *store_read_new(enum store_read_kind kind, uint64_t cookie);
void store_read_free(struct store_read *r); /* not between store_read and store_poll */
/* EVENTS, once, before any query. An empty end is infinity. Copied. */
void store_read_range(struct store_read *r, struct slice start, struct slice end);
/* VERSION: any number; HISTORY: one. Copied. */
void store_read_query(struct store_read *r, struct slice key, uint64_t rev, uint64_t jump);
/* Ascending. The bytes must stay until the read is done. */
void store_read_pack(struct store_read *r, uint64_t first_rev, uint32_t first_n, struct slice pack);

/* Starts it; never blocks. It comes back from store_poll. */
void store_read(struct store *s, struct store_read *r_taken);

enum store_prev {
    STORE_PREV_NOT_ASKED = 0,
    STORE_PREV_NONE,      /* there was no row before, or it was a tombstone */
    STORE_PREV_FOUND,     /* prev is set, and is a put */
    STORE_PREV_COMPACTED, /* there was one, but it is gone */
};

struct store_item {
    bool found;     /* VERSION: false if the key has no row at or below at_rev */
    struct row row; /* may be a tombstone */
    enum store_prev prev_state;
    struct row prev;
};

/* The items of a finished read in order; *pos starts at 0. False at the end. VERSION: one item a
 * query; only the first item_count ones (at least one) are answered if bytes_max was reached. Slices
 * borrow from the read. */
bool store_read_next(const struct store_read *r, size_t *pos, struct store_item *out);

/* --- completions ----------------------------------------------------------- */

struct store_done {
    uint64_t batch_count;   /* batches durable since store_open: the number of the newest */
    uint64_t applied_index; /* of the newest durable batch, also those before store_open */
    struct store_read *reads; /* finished since the last call, linked; now the caller's */
};

/* Walks the list of store_done.reads: the one behind r, NULL at the end. */
struct store_read *store_read_after(const struct store_read *r);

/* Never blocks. Also releases the blobs of durable batches. */
void store_poll(struct store *s, struct store_done *out);

/* Readable when store_poll has news, if store_about_to_sleep said true. */
int store_fd(const struct store *s); /* -1 if manual */
bool store_about_to_sleep(struct store *s); /* false: there is news, do not sleep */
void store_woke(struct store *s);

/* --- figures ---------------------------------------------------------------- */

struct store_stats {
    uint64_t disk_bytes;       /* of all files, at most a second old under writes */
    uint64_t pack_count;
    uint64_t pack_bytes;       /* of all packs */
    uint64_t dead_bytes;       /* of rows in them that compaction found dead */
    uint64_t floor_rev;        /* physical compaction is complete up to here */
    uint64_t packs_deleted;    /* since store_open */
    uint64_t packs_rewritten;
    uint64_t write_count;      /* durable LevelDB writes since store_open */
    uint64_t file_batch_count; /* batches since store_open whose packs went to a file */
    uint64_t file_count;       /* files that are there */
    bool compacting;           /* a pass is under way */
};

void store_stats_get(const struct store *s, struct store_stats *out);
uint64_t store_disk_bytes(const struct store *s);

/* The process is about to end: see ERRORS. */
void store_stop(struct store *s);
/* After store_stop: nothing is written any more, no batch will become durable. */
bool store_gave_up(const struct store *s);

/* Writes everything submitted, as long as there is room (see ERRORS), waits for reads, ends the
 * thread, closes. Reads that were finished and not taken are freed; exports must be freed before.
 * NULL is allowed. */
void store_close(struct store *s);

/* Manual only: half a batch (rows/ or meta/), or one step of compaction; false: there is nothing to
 * do. */
bool store_step(struct store *s);
/* Manual only: frees as a crash would, writing nothing. After workers_abandon. */
void store_abandon(struct store *s);

#endif

/* disk/store_int.h - inside of the store: what its thread, its reads and its compaction share.
 *
 * PURPOSE  See store.h; decides nothing.
 * OWNS     See the members.
 * USES     store_db, store_files, store_marker, store_table, workers.
 * THREADS  Said at each member: loop, store (after store_start), or any by atomic operations.
 * LIMITS   STORE_SLICE_BYTES, STORE_REWRITE_BYTES: what one step of background work reads, and a run
 *          of packs or a large row more. So a batch waits for it only.
 * ERRORS   store_fatal ends the process.
 *
 * INVARIANTS
 *  I1  Order of durable writes. A batch: a file (if its packs are large), rows (if it has packs),
 *      meta. A compaction: a file (if it writes much anew), meta, rows; then files that
 *      nothing names are removed. So
 *      meta/ alone decides which batch is the newest, and a floor is never behind what is removed.
 *  I2  A crash between the two. Batch: its packs are behind the marker's last; the next open
 *      deletes them, and the batch is written again from the log. Compaction: the marker has both
 *      sums, rows/ has the first; the load finds again what is dead, and a later pass repeats it. What
 *      a file has of either is removed or never read.
 *  I3  A new database: both have their MAKING file before either is made; the file of meta/ goes
 *      first, then that of rows/, then the first batch may come. So rows/ half made beside meta/
 *      with a batch, or meta/ half made beside rows/ that is made, is damage.
 *  I4  A read takes the snapshot of rows/ first, then the records of meta/: a floor that is newer
 *      than the snapshot refuses too much, never too little.
 *  I5  table.sum is that of rows/ once the write in hand is done.
 */
#ifndef DISK_STORE_INT_H
#define DISK_STORE_INT_H

#include "disk/store.h"
#include "disk/store_db.h"
#include "disk/store_files.h"
#include "disk/store_marker.h"
#include "disk/store_table.h"
#include "disk/workers_int.h"

#define STORE_ROWS_NAME "rows"
#define STORE_META_NAME "meta"
#define STORE_FILES_NAME "packs"

/* From this part of the write buffer of rows/ on the packs of a batch, or what a step of compaction
 * writes anew, go to a file: 128 KB of 4 MB. A file costs a sync more. Under load (SET, 50 clients x 16, three nodes on two cores) the store's
 * threads took 40 % of the processors with packs in LevelDB, 20 % with files. */
#define STORE_FILE_BATCH_PART 32u
#define STORE_FILE_BUFFERS 16u /* a file is closed at so many write buffers: 64 MB of 4 MB */

/* When nothing is to be done for a while, more than this goes from memory to a table. Less stays:
 * tables are not merged, so they must not become many. */
#define STORE_IDLE_LOG_BYTES_MAX (512u << 10)
#define STORE_SLICE_BYTES (256u << 10)
/* A pass writes anew every pack that has a dead row, however few. So under load one begins when it
 * removes this part of the history that there is, or the store is small. (SET, 50 clients x 16, three
 * nodes, beyond retain-revs: with a pass as soon as one was allowed the store's threads took as much
 * time as all the rest.) */
#define STORE_PASS_PART 4u
#define STORE_PASS_SMALL_BYTES (16u << 20)
/* What a step reads that writes packs anew: it costs two or three syncs, however much it is. */
#define STORE_REWRITE_BYTES (1u << 20)
/* Marks that the scan makes of packs that it has read, so that they are not read for them again. */
#define STORE_SCAN_MARKS_MAX (512u << 10)
#define STORE_SLICE_KILLS 512u
#define STORE_SLICE_DELETES 512u
#define STORE_RUN_PACKS_MAX 64u
#define STORE_RECLAIM_SLICE_BYTES (32u << 20)
#define STORE_RECLAIM_FREED_BYTES_MIN (1u << 20)
/* Pages of mapped tables that may stay resident: while running, and during the scan at start, which
 * opens rows/ anew to let go of them. */
#define STORE_MAPPED_BYTES_MAX (32u << 20)
#define STORE_MAPPED_SCAN_BYTES_MAX (128u << 20)

struct store_batch {
    struct work work; /* run is NULL: so that store_poll tells it from a read */
    struct store_batch *next; /* store's list */
    struct store_cut cut;
    uint64_t number;
    size_t bytes;
    uint64_t floor_rev;
    struct buf meta;  /* operations: u8 1 put, 0 delete; u32 name bytes; u64 value bytes; bytes */
    struct buf packs; /* of struct store_batch_pack */
};

struct store_batch_pack {
    uint64_t first_rev;
    uint32_t first_n;
    struct blob *blob; /* counted by the loop only */
};

/* The store thread's; see store_compact.c. */
struct store_compactor {
    struct buf pending; /* of struct store_pending: noted by the load */
    size_t pending_at;
    uint64_t floor_rev;      /* complete up to here */
    uint64_t target_rev;     /* the pass in hand; = floor_rev between passes */
    uint64_t disk_floor_rev; /* the floor record */
    bool idle;               /* nothing was to be done for a second: a pass is welcome */
    bool scanning;           /* the pass still looks for dead rows, next at the cursor */
    uint64_t cursor_rev;
    uint32_t cursor_n;
    size_t scan_marks; /* made by this scan */
    bool emptying;     /* the queue has the packs of a sparse file */
    uint64_t freed_bytes;    /* since the last reclaim, in [freed_low_rev, freed_high_rev] */
    uint64_t freed_low_rev;
    uint64_t freed_high_rev;
    bool reclaiming;
    uint64_t reclaim_rev;    /* next */
    uint64_t reclaim_end_rev;
};

struct store_pending {
    uint64_t rev;
    uint64_t hash;
};

enum store_phase { STORE_OPENED, STORE_SCANNED, STORE_STARTED };

struct store {
    struct store_options options; /* dir is ours */
    enum store_phase phase;       /* loop */

    /* loop */
    uint64_t submit_count;
    uint64_t done_count;
    uint64_t done_index;
    uint64_t last_index; /* of the newest batch submitted */
    uint64_t last_compacted_rev;
    size_t reads_out;
    size_t exports_out;

    /* between them, atomic */
    struct work *inbox; /* batches, newest first */
    struct work *export_inbox; /* exports that wait for their view */
    struct doorbell bell;
    struct doorbell opened;
    uint64_t allowed_rev;
    size_t backlog_bytes;
    bool open_done;
    bool started;
    bool leaving; /* store_stop was called */
    bool gave_up; /* then a write found no room: nothing is written any more */
    bool stopping;
    struct store_stats stats;
    struct done_queue done;
    uint32_t failure; /* enum err: of an expendable store's first failed write */
    struct errmsg failure_em; /* before `failure` is set */

    /* store thread; the loop's before store_start and after the thread ended */
    pthread_t thread;
    struct store_db rows;
    struct store_db meta;
    struct store_files files;
    uint64_t rows_bytes; /* of the files, as old as stats.disk_bytes */
    uint64_t rows_log_bytes;
    struct store_marker marker; /* the newest written */
    struct store_table table;
    struct store_compactor compactor;
    struct errmsg read_em; /* of the pack that could not be read */
    struct store_batch *batches; /* taken from the inbox, oldest first */
    int64_t files_checked_ms;
    uint32_t file_checks; /* manual: how often one was asked for */
    bool low_priority;
    struct store_marker next; /* of batches[0], whose packs are written if rows_written */
    bool rows_written;
    bool compact_next; /* manual: whose turn it is */
    bool dead;         /* manual: a write failed, and on_fatal returned */

    /* result of opening */
    enum err open_result;
    struct errmsg *open_em;
    struct store_info *open_info;
};

_Noreturn void store_fatal(const struct store *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a failed write, but in manual mode it returns when on_fatal does: s->dead. */
void store_write_failed(struct store *s, const char *what, const struct errmsg *why);

/* Opens both databases, makes them if they are new, and leaves only what the newest marker names:
 * s->rows, s->meta, s->marker, the floor record. Nothing remains open on error. */
enum err store_open_both(struct store *s, uint64_t *trimmed_bytes, struct errmsg *em) MUST_USE;
void store_close_both(struct store *s);

/* Durable when they return; fatal if it fails, but for s->gave_up. Once s->dead or s->gave_up they do
 * nothing. */
void store_write_rows(struct store *s, leveldb_writebatch_t *batch);
/* Adds `next`, which is behind s->marker, and writes to meta/. */
void store_write_meta(struct store *s, leveldb_writebatch_t *batch,
                      const struct store_marker *next);

void store_floor_add(leveldb_writebatch_t *batch, uint64_t floor_rev); /* of meta/ */

/* Into a file of packs, durable when it returns true. False: they go to rows/, and each ref is zero. */
bool store_write_file(struct store *s, struct store_file_pack *packs, size_t count);
/* The pack, or what names it, to rows/. */
void store_pack_add(leveldb_writebatch_t *out, uint64_t first_rev, uint32_t first_n,
                    const struct store_file_pack *pack);

/* Gives the exports that wait their view. Between two writes only. */
void store_exports_take(struct store *s);

/* One bounded step of physical compaction; false if there is nothing to do. */
bool store_compact_step(struct store *s);
/* Sets stats.disk_bytes, bounds resident pages of tables; at most once a second unless now. */
void store_check_files(struct store *s, bool now);

/* Files without live packs are removed; what named them was removed by a durable write. */
void store_drop_files(struct store *s);

/* The reader of the table; *s->read_em says why not. */
enum err store_table_read_db(void *ctx, const struct store_slot *slot, struct buf *out);

#define STORE_STAT_SET(s, field, value) \
    __atomic_store_n(&(s)->stats.field, (value), __ATOMIC_RELAXED)
#define STORE_STAT_ADD(s, field, value) \
    __atomic_fetch_add(&(s)->stats.field, (value), __ATOMIC_RELAXED)

#endif

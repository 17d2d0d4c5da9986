/* disk/wal_int.h - the parts of the log: mailboxes, the maker of segments, the writer, the index.
 *
 * PURPOSE  What wal*.c share. Each part has one owner thread; they meet in mailboxes only.
 * OWNS     struct wal, and through it all parts.
 * USES     wal.h, wal_format_int.h.
 * THREADS  wal_index: loop. wal_writer: the WAL thread, or the loop (URING, MANUAL). wal_maker: its
 *          thread, or the loop (MANUAL). wal_mail: many push, one takes. Words two threads touch
 *          are marked "atomic" and accessed with __atomic builtins only.
 * LIMITS   WAL_RECYCLE_MAX files wait to be used again.
 * ERRORS   See wal.h.
 */
#ifndef DISK_WAL_INT_H
#define DISK_WAL_INT_H

#include "disk/wal_format_int.h"

#define WAL_RECYCLE_MAX 1
#define WAL_MAKE_RETRY_MS 1000
#define WAL_ITEM_HEADS_MAX 3 /* records of a submission besides its entries */
#define WAL_BATCH_HEADS_MAX (WAL_MARKS_MAX + WAL_ITEM_HEADS_MAX + 1) /* with one entry */
#define WAL_ITEM_ENTRIES_MIN 8
#define WAL_ITEMS_SPARE_MAX 64

struct wal;

/* --- mailbox: a stack that is taken whole and turned round --------------------- */

struct wal_mail_node {
    struct wal_mail_node *next;
};

struct wal_mail {
    struct wal_mail_node *head; /* atomic */
    uint32_t asleep;            /* atomic: 1 while the taker waits; the futex */
    uint32_t kicked;            /* atomic: the next wait ends at once */
};

void wal_mail_push(struct wal_mail *m, struct wal_mail_node *n);
/* Everything pushed so far, oldest first; NULL if nothing: then it costs one load. */
struct wal_mail_node *wal_mail_take(struct wal_mail *m);
bool wal_mail_is_empty(const struct wal_mail *m);
void wal_mail_wait(struct wal_mail *m, int64_t timeout_ms); /* < 0: no limit */
void wal_mail_kick(struct wal_mail *m);

int64_t wal_clock_us(void);

/* --- one submission on its way ------------------------------------------------- */

/* A batch that is durable, for the index. */
struct wal_placed {
    struct wal_effect effect;
    struct wal_mark before;
    uint64_t segment_seq;
    uint64_t segment_bytes;
    uint64_t salt;
    uint32_t block;
    uint32_t block_bytes;
    bool opens;
};

struct wal_item {
    struct wal_mail_node node; /* first */
    uint64_t seq;
    struct wal_submission what; /* entries and hard point below */
    struct wal_hard_state hard;
    struct wal_mark last;
    size_t body_bytes;
    struct wal_placed *placed; /* batches that ended with this item, or in the middle of it */
    size_t placed_count;
    size_t placed_cap;
    size_t entry_cap;
    struct wal_entry entries[];
};

struct wal_item *wal_item_new(size_t entry_cap);
void wal_item_free(struct wal_item *item); /* not its blobs */

/* --- segments: names, headers, and the thread that makes them ------------------- */

struct wal_segment_file {
    uint64_t seq;
    int fd;
    uint64_t bytes;
    uint64_t salt;
    uint32_t block_bytes;
    uint32_t seed;
};

enum wal_job_kind { WAL_JOB_MAKE, WAL_JOB_RETIRE, WAL_JOB_CLOSE };

struct wal_job {
    struct wal_mail_node node; /* first */
    enum wal_job_kind kind;
    uint64_t seq;
    int fd;
};

struct wal_maker {
    const struct disk_io *io;
    char dir[DISK_PATH_BYTES_MAX];
    struct wal_segment_head form; /* what new headers say, but for seq */
    unsigned open_flags;          /* how files are opened for the writer */
    struct wal_mail mail;
    struct wal_segment_file *spare; /* atomic: made, not yet taken by the writer */
    uint32_t make_err;              /* atomic: enum err of the last try */
    uint64_t recycled_count;        /* atomic */
    uint32_t stopping;              /* atomic */
    void (*made)(void *ctx);        /* on the maker's thread, after spare was set or make_err */
    void (*failed)(void *ctx, const char *why); /* the first of a row of failed tries */
    void *made_ctx;
    /* the maker's own */
    struct wal_mail_node *jobs;
    uint64_t recycled[WAL_RECYCLE_MAX];
    size_t recycled_have;
    void *thread; /* NULL: MANUAL */
};

void wal_segment_path(const char *dir, uint64_t seq, char out[DISK_PATH_BYTES_MAX]);
void wal_recycle_path(const char *dir, uint64_t seq, char out[DISK_PATH_BYTES_MAX]);
/* Makes segment seq, from a former one if there is one, and opens it for the writer (I4). */
enum err wal_segment_make(struct wal_maker *mk, uint64_t seq, struct wal_segment_file *out,
                          struct errmsg *em) MUST_USE;
/* A failed start of the thread is ERR_IO. */
enum err wal_maker_start(struct wal_maker *mk, struct errmsg *em) MUST_USE;
void wal_maker_post(struct wal_maker *mk, enum wal_job_kind kind, uint64_t seq, int fd);
bool wal_maker_step(struct wal_maker *mk); /* does one job; false: none, or it failed */
/* Finishes what is posted, but a MAKE that fails; joins. Closes an unused spare. */
void wal_maker_stop(struct wal_maker *mk);

/* --- the writer: from submissions to batches ------------------------------------- */

enum wal_writer_phase {
    WAL_PHASE_OPEN,   /* the next batch opens the segment */
    WAL_PHASE_FILL,   /* in the middle */
    WAL_PHASE_SEALED, /* the next segment is needed */
};

enum wal_want { WAL_WANT_NOTHING, WAL_WANT_SEGMENT, WAL_WANT_WRITE };

struct wal_writer {
    struct wal *wal;
    struct wal_item *head; /* waits to be written, oldest first */
    struct wal_item *tail;
    size_t entry_next;  /* of head: entries before it are written */
    bool item_begun;    /* of head: its marks and truncation are written */
    struct wal_segment_file segment;
    enum wal_writer_phase phase;
    uint64_t offset; /* of the next batch */
    uint64_t seq_next;
    uint64_t seq_durable;
    uint32_t prev_crc;
    struct wal_hard_state hard;
    struct wal_mark last;
    struct wal_mark snapshot_begin;
    struct wal_mark snapshot;
    /* the batch under way, from wal_writer_compose to wal_writer_written */
    struct wal_batch batch;
    struct wal_effect effect;
    uint8_t *buf; /* block-aligned */
    size_t buf_cap;
    struct wal_record *records;
    size_t record_count;
    size_t record_cap;
    size_t body_bytes;
    size_t items_whole;
    size_t entry_next_after;
    bool item_begun_after;
    struct wal_hard_state hard_after;
    uint32_t dead; /* atomic: a write failed and the test's hook returned */
    /* statistics, atomic */
    uint64_t sync_count;
    uint64_t written_bytes;
    uint64_t entry_count;
    int64_t sync_us_last;
    int64_t sync_us_max;
    int64_t write_began_us; /* 0: none under way */
};

void wal_writer_init(struct wal_writer *w, struct wal *wal, uint32_t block_bytes);
void wal_writer_deinit(struct wal_writer *w); /* closes the segment */
void wal_writer_add(struct wal_writer *w, struct wal_item *item);
/* Puts the next batch into w->buf (w->batch.bytes, for w->segment.fd at w->offset). */
enum wal_want wal_writer_compose(struct wal_writer *w);
/* The batch is durable: moves on. Returns the items that are whole now, linked, oldest first. */
struct wal_item *wal_writer_written(struct wal_writer *w);
/* Writes and syncs the composed batch through disk_io; false: the hook returned, w is dead. */
bool wal_writer_write(struct wal_writer *w);
/* One line and _exit, or the hook. got: bytes or a negative errno. */
void wal_writer_failed(struct wal_writer *w, const char *what, int64_t got);
void wal_writer_began(struct wal_writer *w);

/* --- where entries are ------------------------------------------------------------ */

struct wal_run {
    uint64_t first; /* entries first.. up to the next run's are in this batch */
    uint32_t segment_seq;
    uint32_t block;
};

struct wal_segment {
    uint64_t seq;
    uint64_t bytes;
    uint64_t salt;
    uint32_t block_bytes;
    uint32_t pin_count;
    struct wal_mark floor; /* the entry before the first, if this were the oldest segment */
};

struct wal_index {
    struct wal_segment *segments; /* oldest first, ascending by one */
    size_t segment_count;
    size_t segment_cap;
    struct wal_run *runs; /* runs[run_begin .. run_end) ascending */
    size_t run_begin;
    size_t run_end;
    size_t run_cap;
    struct wal_mark last;
};

void wal_index_deinit(struct wal_index *ix);
void wal_index_apply(struct wal_index *ix, const struct wal_placed *p);
struct wal_segment *wal_index_segment(struct wal_index *ix, uint64_t seq); /* asserts presence */
/* How many of the oldest segments can go so that `index` and keep_bytes stay. */
size_t wal_index_droppable(const struct wal_index *ix, uint64_t index, uint64_t keep_bytes);
void wal_index_drop(struct wal_index *ix, size_t segment_count);
void wal_index_check(const struct wal_index *ix);

/* As wal_read_new; the plan must be freed before the index. */
struct wal_read *wal_index_read_new(struct wal_index *ix, const struct disk_io *io,
                                    const char *dir, uint64_t first, uint64_t last);
enum err wal_index_read(struct wal_index *ix, const struct disk_io *io, const char *dir,
                        uint64_t first, uint64_t last,
                        enum err (*on_entry)(void *ctx, const struct wal_entry *e), void *ctx,
                        struct errmsg *em) MUST_USE;

/* --- recovery ---------------------------------------------------------------------- */

struct wal_recovery {
    const struct disk_io *io;
    const char *dir;
    const struct wal_options *options;
    bool empty; /* no segment at all */
    struct wal_found found;
    struct wal_index index;
    /* where writing goes on */
    struct wal_segment_head segment;
    enum wal_writer_phase phase;
    uint64_t offset;
    uint64_t seq_last;
    uint32_t prev_crc;
    bool last_is_proof;       /* the last batch is empty */
    bool has_next;            /* a segment without a batch follows */
    struct wal_segment_head next;
};

/* Reads, verifies, makes the end durable (I2), removes remains. Changes nothing on disk before the
 * whole log was found good. On error *rv is empty. */
enum err wal_recover(struct wal_recovery *rv, struct errmsg *em) MUST_USE;

/* --- back ends ------------------------------------------------------------------------ */

struct wal_backend_ops {
    const char *name;
    enum err (*start)(struct wal *wal, struct errmsg *em);
    void (*submit)(struct wal *wal, struct wal_item *item);
    void (*reap)(struct wal *wal); /* moves what completed into wal->done_list */
    int (*fd)(const struct wal *wal);
    bool (*about_to_sleep)(struct wal *wal);
    void (*woke)(struct wal *wal);
    void (*segment_made)(void *wal); /* from the maker's thread */
    void (*drain)(struct wal *wal);  /* writes all that waits, as far as it can, and stops */
    void (*stop)(struct wal *wal);   /* frees, after drain */
};

extern const struct wal_backend_ops wal_backend_thread;
extern const struct wal_backend_ops wal_backend_uring;
extern const struct wal_backend_ops wal_backend_manual;

/* A real O_DIRECT, synced write through a ring in that directory. */
enum err wal_uring_probe(const char *dir, uint32_t block_bytes, struct errmsg *em) MUST_USE;

struct wal {
    struct wal_options options;
    const struct disk_io *io;
    char dir[DISK_PATH_BYTES_MAX];
    const struct wal_backend_ops *backend;
    void *backend_state;
    struct wal_found found;
    struct wal_writer writer;
    struct wal_maker maker;
    /* the loop's */
    struct wal_index index;
    struct wal_item *done_first; /* completed, oldest first, not yet reported */
    struct wal_item *done_last;
    struct wal_item *items_spare;
    size_t items_spare_count;
    uint64_t seq_last;
    struct wal_mark last;  /* of all that was submitted */
    struct wal_mark floor; /* truncations stay above it */
    struct wal_hard_state hard;
    struct wal_done done;
    uint64_t pending_bytes;
    uint64_t pending_count;
    uint64_t drop_below_index;
    bool unproven; /* the last durable batch has records */
    bool submitted_since_tick;
    int64_t quiet_since_ms; /* -1: not known yet */
    size_t batch_room_bytes; /* for heads and bodies of one batch, in new segments */
};

/* Appends a chain of completed items for wal_poll. Loop thread. */
void wal_done_append(struct wal *wal, struct wal_item *items);

#endif

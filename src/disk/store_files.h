/* disk/store_files.h - packs of large batches in files of their own, beside rows/.
 *
 * PURPOSE  Keep the bytes of large batches, and of much that compaction writes anew, out of LevelDB,
 *          which writes each byte twice and checksums it in software both times: rows/ has a
 *          reference in the pack's place. Decides where such bytes are and when a file can go; not which batch is large, which pack is
 *          live, or when a reference is written or removed.
 * OWNS     The directory packs/, a descriptor a file and one more of that which is appended to, the
 *          lock.
 * USES     base/, store.h (limits), store_table.h (struct store_ref), disk_io.h, LevelDB's snapshots.
 * THREADS  One at a time, the store's, but for store_files_view, store_files_view_free,
 *          store_files_ahead, store_files_read, store_files_pack and store_files_close_dropped:
 *          any. Without the lock `set` is read by the store's only.
 * LIMITS   STORE_FILES_MAX files: then no further one is begun. A file is closed when it has
 *          file_bytes_max, so has at most a batch more. STORE_FILE_STEPS writes a file.
 * ERRORS   ERR_NOSPACE, ERR_IO; ERR_CORRUPT with file and offset. ERR_LIMIT: see append.
 *
 * FORMAT   packs/<number, ten digits>.packs: packs (mvcc_row.h), those of one append directly behind
 *          each other, beginning and, with zeros, ending at a multiple of the device's block. What of
 *          it counts is told by references, the values of packs' keys in rows/:
 *          u8 STORE_REF_TAG | u32 file | u64 offset | u32 bytes | u32 CRC32C of the pack,
 *          little-endian. A value that is a pack itself begins with PACK_FORMAT.
 *
 * INVARIANTS
 *  I1  The bytes and the name of a file are durable before a reference to them is written.
 *  I2  A file is removed after the removal of its last reference is durable. So one without
 *      references is of an append that never became durable, or was about to be removed: the start
 *      removes it when all packs are known to be there.
 *  I3  Only the process that made a file appends to it. Bytes that no reference names are never read.
 *  I4  A set is immutable. A file is in the newest before the first reference to it is written, and
 *      until the last one is removed; a view takes the newest set and a snapshot of rows/ under
 *      one lock. So it has all files that its snapshot names, open, also when their names are gone.
 *  I5  live_bytes of a file = bytes of the packs in it that the table of packs has.
 */
#ifndef DISK_STORE_FILES_H
#define DISK_STORE_FILES_H

#include <leveldb/c.h>
#include <pthread.h>

#include "base/buf.h"
#include "disk/store.h"
#include "disk/store_table.h"

/* A write at a time has this part of file_bytes_max, 256 KB of 64 MB: 4 MB at once would stand before
 * the log's writes. (SET, 50 clients x 16 on three nodes: p99 from 19 to 14 ms.) */
#define STORE_FILE_STEPS 256u
#define STORE_AHEAD_BYTES (128u << 10) /* see store_files_ahead */
#define STORE_REF_TAG 0x46
#define STORE_REF_BYTES 21u

struct store_file {
    uint32_t number;
    int fd;
    uint32_t sets; /* that have it; under the lock */
    uint64_t bytes;
    uint64_t live_bytes;
    struct store_file *next; /* dropped, to be closed */
};

struct store_file_set {
    uint32_t users; /* under the lock */
    size_t count;
    struct store_file *files[]; /* ascending by number */
};

struct store_files {
    const struct disk_io *io;
    char *dir;
    uint64_t file_bytes_max;
    uint32_t block_bytes;
    size_t step_bytes;
    pthread_mutex_t lock; /* of `set`, users, sets and `dropped`; held for no operation on the disk */
    struct store_file_set *set;
    struct store_file *dropped; /* in no set any more; closing one takes as long as 30 ms */
    struct store_file *current; /* is appended to; NULL: a new one is to be made */
    int direct_fd; /* of the current one, past the page cache; -1: that cannot be had */
    uint32_t next_number;
    uint64_t bytes;      /* of all files */
    uint64_t live_bytes;
};

/* Makes the directory if it is not there, opens what is in it. Nothing remains open on error. */
enum err store_files_open(struct store_files *f, const struct disk_io *io, const char *dir,
                          uint64_t file_bytes_max, struct errmsg *em) MUST_USE;
/* All views must be free. Removes nothing. */
void store_files_close(struct store_files *f);

/* --- what is in rows/ as of one moment --------------------------------------- */

struct store_rows_view {
    const leveldb_snapshot_t *snapshot;
    struct store_file_set *set;
};

void store_files_view(struct store_files *f, leveldb_t *rows, struct store_rows_view *out);
/* store_files_close_dropped should follow, but not on the loop. */
void store_files_view_free(struct store_files *f, leveldb_t *rows, struct store_rows_view *view);
void store_files_close_dropped(struct store_files *f);

/* What the value of a pack's key says; ref->file is 0 if it is the pack. */
enum err store_ref_decode(struct slice value, struct store_ref *ref) MUST_USE;
void store_ref_encode(const struct store_ref *ref, uint8_t out[STORE_REF_BYTES]);

/* Of one who reads packs in the order in which they stand. Zeroed: at the beginning. */
struct store_ahead {
    uint32_t file;  /* of the last pack; 0: none */
    uint64_t end;   /* of the last pack */
    uint64_t asked; /* up to here the disk was told what follows */
};

/* Call right before a pack is read. If it follows the one before, the disk is told what comes next:
 * STORE_AHEAD_BYTES at a time; a reference without a file is none. Files are opened without the
 * kernel's own reading ahead: that may be megabytes at once, and the log's syncs wait behind them.
 * Compaction, which is in no hurry, asks for nothing ahead. (SET of 50 clients on three nodes beside
 * it: p99 from 9..15 to 3..5 ms. Start with 1M keys, nothing cached: 0.85 s; without this 2.0 s, with
 * the kernel's 8 MB ahead 1.0 s.) */
void store_files_ahead(const struct store_files *f, const struct store_file_set *set,
                       const struct store_ref *ref, struct store_ahead *ahead);

/* The pack that a reference names, checked; replaces *out. */
enum err store_files_read(const struct store_files *f, const struct store_file_set *set,
                          const struct store_ref *ref, struct buf *out, struct errmsg *em) MUST_USE;
/* The pack that a value is or names, checked. Borrows from `value` or from `scratch`, which is
 * replaced then. */
enum err store_files_pack(const struct store_files *f, const struct store_file_set *set,
                          struct slice value, struct buf *scratch, struct slice *pack,
                          struct errmsg *em) MUST_USE;

/* --- changes: the store's thread ---------------------------------------------- */

struct store_file_pack {
    struct slice pack;
    struct store_ref ref; /* result */
};

/* Durable when it returns (I1). ERR_LIMIT: there is no file that has room, and no other can be begun
 * (STORE_FILES_MAX, or the process' descriptors); nothing was done. After another error nothing
 * more may be appended. */
enum err store_files_append(struct store_files *f, struct store_file_pack *packs, size_t count,
                            struct errmsg *em) MUST_USE;

/* The load found a reference: its file is there and large enough, or ERR_CORRUPT. */
enum err store_files_found(struct store_files *f, const struct store_ref *ref,
                           struct errmsg *em) MUST_USE;
/* A reference goes. */
void store_files_release(struct store_files *f, uint32_t file, uint32_t bytes);

/* Removes files without live packs, also the current one. The removal of what named them must be
 * durable. */
enum err store_files_drop_dead(struct store_files *f, struct errmsg *em) MUST_USE;

/* A file that is worth to be emptied: less than half of it is live, or there are many files and this
 * is the smallest, with less than a quarter of what a file may have (each process begins one). 0:
 * none. Nothing is appended to it any more. can_wait: not before all files together have half as many
 * dead bytes as live ones and a whole file more; most of what is left in a file under load would die
 * soon by itself. */
uint32_t store_files_sparse(struct store_files *f, bool can_wait);

#endif

/* disk/store_log.h - the write-ahead logs of LevelDB, checked before it opens them.
 *
 * PURPOSE  Tell a torn last write, which is cut off, from damage, which is refused. LevelDB itself
 *          refuses some torn ends, skips zeroed regions in silence, and takes a log that was cut
 *          in the middle of its life for a whole one.
 * OWNS     Nothing; opens and closes the files of one directory. LevelDB must not have it open.
 * USES     base/, disk_io.h.
 * THREADS  Any; blocks.
 * LIMITS   None: a log is at most a write buffer and a batch.
 * ERRORS   ERR_CORRUPT (file, offset), ERR_IO.
 *
 * FORMAT   (LevelDB's) blocks of 32 KiB; a record = masked CRC32C u32, length u16, type u8 (1
 *          whole, 2 first, 3 middle, 4 last part), bytes; no header begins in the last 6 bytes of
 *          a block. A logical record is a batch: first sequence number u64, count u32, ...
 */
#ifndef DISK_STORE_LOG_H
#define DISK_STORE_LOG_H

#include "disk/disk_io.h"

#define STORE_LOG_BLOCK_BYTES 32768u
#define STORE_LOG_HEAD_BYTES 7u

/* What one log holds. */
struct store_log_scan {
    size_t bytes;         /* of the file */
    size_t valid_bytes;   /* behind the last whole batch */
    size_t last_at;       /* where that one begins */
    bool torn;            /* something else follows: part of a batch, or bytes that are nothing */
    uint64_t batch_count;
    uint64_t first_seq;   /* of LevelDB; 0 if there is no batch */
    uint64_t next_seq;    /* behind the last batch */
};

/* Pure. ERR_CORRUPT if a bad place has valid records behind it, or sequence numbers do not follow;
 * *bad_at is then the offset. */
enum err store_log_scan(struct slice log, struct store_log_scan *out, size_t *bad_at) MUST_USE;

/* NNNNNN.log, and nothing else. */
bool store_log_number(const char *name, uint64_t *number);

/* Checks every log of the directory. The newest that has changes, and those without any behind it,
 * may be torn, and are cut; an older one may not. *trimmed_bytes is what was cut. What is left is
 * durable then: a process that was killed, or whose sync failed, may have left its last batch in the
 * kernel's cache only, and a newer log is about to be begun, behind which a torn one is damage. A
 * directory without logs is fine. */
enum err store_log_trim(const struct disk_io *io, const char *dir, uint64_t *trimmed_bytes,
                        struct errmsg *em) MUST_USE;

#endif

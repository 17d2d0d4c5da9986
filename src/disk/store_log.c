/* disk/store_log.c - see store_log.h. */
#include "disk/store_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"

enum { PART_WHOLE = 1, PART_FIRST = 2, PART_MIDDLE = 3, PART_LAST = 4 };

#define BATCH_HEAD_BYTES 12u
#define LOG_EMPTY_BYTES_MAX (STORE_LOG_HEAD_BYTES + BATCH_HEAD_BYTES) /* no change fits in */

struct part {
    int type;
    struct slice body;
    size_t end; /* offset behind it */
};

enum part_is { PART_OK, PART_END, PART_BAD };

/* LevelDB stores a CRC rotated and shifted, so that a CRC of bytes with CRCs stays good. */
static uint32_t crc_mask(uint32_t crc)
{
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/* Where a header may begin at or behind `at`. */
static size_t skip_trailer(size_t at)
{
    size_t left = STORE_LOG_BLOCK_BYTES - at % STORE_LOG_BLOCK_BYTES;
    return left < STORE_LOG_HEAD_BYTES ? at + left : at;
}

static enum part_is part_at(struct slice log, size_t at, struct part *out)
{
    at = skip_trailer(at);
    if (at >= log.len) return PART_END;
    if (log.len - at < STORE_LOG_HEAD_BYTES) return PART_BAD;
    const uint8_t *head = log.at + at;
    size_t len = u16_le(head + 4);
    size_t block_left = STORE_LOG_BLOCK_BYTES - at % STORE_LOG_BLOCK_BYTES;
    if (head[6] < PART_WHOLE || head[6] > PART_LAST) return PART_BAD;
    if (STORE_LOG_HEAD_BYTES + len > MIN(block_left, log.len - at)) return PART_BAD;
    if (crc_mask(crc32c(0, head + 6, 1 + len)) != u32_le(head)) return PART_BAD;
    *out = (struct part){ head[6], { head + STORE_LOG_HEAD_BYTES, len },
                          at + STORE_LOG_HEAD_BYTES + len };
    return PART_OK;
}

/* Does a run of good parts go from `at` to the end of its block or of the file? */
static bool chain_reaches_end(struct slice log, size_t at)
{
    size_t block_end = (at / STORE_LOG_BLOCK_BYTES + 1) * STORE_LOG_BLOCK_BYTES;
    while (at < log.len && skip_trailer(at) < block_end) {
        struct part part;
        if (part_at(log, at, &part) != PART_OK) return false;
        at = part.end;
    }
    return true;
}

/* Does a batch begin in (at, end of the block)? The place of the next header is lost, so every
 * byte is tried. A good CRC is not enough, because a value may hold anything: the parts must reach
 * the end of the block and the sequence number must follow. */
static bool batch_inside(struct slice log, size_t at, uint64_t next_seq)
{
    size_t block_end = (at / STORE_LOG_BLOCK_BYTES + 1) * STORE_LOG_BLOCK_BYTES;
    for (size_t try_at = at + 1; try_at < MIN(block_end, log.len); try_at++) {
        struct part part;
        if (skip_trailer(try_at) != try_at || part_at(log, try_at, &part) != PART_OK) continue;
        if (part.type != PART_WHOLE && part.type != PART_FIRST) continue;
        if (part.body.len < BATCH_HEAD_BYTES || u64_le(part.body.at) < next_seq) continue;
        if (next_seq != 0 && u64_le(part.body.at) - next_seq > UINT32_MAX) continue;
        if (chain_reaches_end(log, try_at)) return true;
    }
    return false;
}

/* Is there a batch begun behind the bad place `at`? The header at the start of a block is surely
 * LevelDB's, and so are those that follow it up to the next bad one. */
static bool batch_behind(struct slice log, size_t at, uint64_t next_seq)
{
    if (batch_inside(log, at, next_seq)) return true;
    size_t block = (at / STORE_LOG_BLOCK_BYTES + 1) * STORE_LOG_BLOCK_BYTES;
    for (; block < log.len; block += STORE_LOG_BLOCK_BYTES) {
        size_t block_end = MIN(block + STORE_LOG_BLOCK_BYTES, log.len);
        size_t pos = block;
        struct part part;
        while (skip_trailer(pos) < block_end && part_at(log, pos, &part) == PART_OK) {
            if (part.type == PART_WHOLE || part.type == PART_FIRST) return true;
            pos = part.end;
        }
        if (skip_trailer(pos) < block_end && batch_inside(log, pos, next_seq)) return true;
    }
    return false;
}

/* The batch that begins at `at`: its first bytes, and where it ends. PART_BAD: *bad is where. */
static enum part_is batch_at(struct slice log, size_t at, uint8_t head[BATCH_HEAD_BYTES],
                             size_t *end, size_t *bad)
{
    size_t head_len = 0;
    bool first = true;
    for (;;) {
        struct part part;
        *bad = skip_trailer(at);
        enum part_is is = part_at(log, at, &part);
        if (is == PART_END && first) return PART_END;
        if (is != PART_OK) return PART_BAD;
        bool begins = part.type == PART_WHOLE || part.type == PART_FIRST;
        if (begins != first) return PART_BAD;
        size_t more = MIN(BATCH_HEAD_BYTES - head_len, part.body.len);
        if (more != 0) memcpy(head + head_len, part.body.at, more);
        head_len += more;
        first = false;
        at = part.end;
        if (part.type == PART_WHOLE || part.type == PART_LAST) break;
    }
    *end = at;
    return head_len == BATCH_HEAD_BYTES ? PART_OK : PART_BAD;
}

enum err store_log_scan(struct slice log, struct store_log_scan *out, size_t *bad_at)
{
    struct store_log_scan scan = { .bytes = log.len };
    size_t at = 0;
    for (;;) {
        uint8_t head[BATCH_HEAD_BYTES];
        size_t end = at;
        size_t bad = at;
        enum part_is is = batch_at(log, at, head, &end, &bad);
        if (is == PART_END) break;
        if (is == PART_BAD) {
            /* A new batch where the rest of one was due: *bad itself is its beginning. */
            struct part part;
            bool begun = bad != skip_trailer(at) && part_at(log, bad, &part) == PART_OK &&
                         (part.type == PART_WHOLE || part.type == PART_FIRST);
            if (begun || batch_behind(log, bad, scan.next_seq)) {
                *bad_at = bad;
                return ERR_CORRUPT;
            }
            scan.torn = true;
            break;
        }
        uint64_t seq = u64_le(head);
        if (scan.batch_count != 0 && seq != scan.next_seq) {
            *bad_at = at;
            return ERR_CORRUPT;
        }
        if (scan.batch_count == 0) scan.first_seq = seq;
        scan.next_seq = seq + u32_le(head + 8);
        scan.batch_count++;
        scan.last_at = at;
        at = end;
        scan.valid_bytes = at;
    }
    if (!scan.torn && log.len > scan.valid_bytes) scan.torn = true;
    *out = scan;
    return OK;
}

/* --- files ----------------------------------------------------------------- */

struct open_file {
    const struct disk_io *io;
    int fd;
    const char *path;
};

static void file_close(struct open_file *f)
{
    if (f->fd >= 0) f->io->close(f->io->ctx, f->fd);
}

static int number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

bool store_log_number(const char *name, uint64_t *number)
{
    size_t digits = strspn(name, "0123456789");
    if (digits == 0 || strcmp(name + digits, ".log") != 0) return false;
    return sscanf(name, "%" SCNu64, number) == 1;
}

static int add_log_number(void *numbers, const char *name)
{
    uint64_t number = 0;
    if (store_log_number(name, &number)) buf_append_u64(numbers, number);
    return 0;
}

/* The numbers of all logs, ascending, as u64 in *numbers. */
static enum err list_logs(const struct disk_io *io, const char *dir, struct buf *numbers,
                          struct errmsg *em)
{
    int answer = io->list(io->ctx, dir, add_log_number, numbers);
    if (answer < 0) return disk_error(em, "list", dir, answer);
    if (numbers->len != 0) {
        qsort(numbers->at, numbers->len / sizeof(uint64_t), sizeof(uint64_t), number_order);
    }
    return OK;
}

static enum err read_file(const struct open_file *f, struct buf *out, struct errmsg *em)
{
    uint64_t bytes = 0;
    int answer = f->io->size(f->io->ctx, f->fd, &bytes);
    if (answer < 0) return disk_error(em, "size", f->path, answer);
    if (bytes == 0) return OK;
    TRY(disk_read_all(f->io, f->fd, f->path, buf_reserve(out, (size_t)bytes), (size_t)bytes, 0, em));
    out->len = (size_t)bytes;
    return OK;
}

/* The last batch is written again: after a failed sync the kernel takes its pages for written. */
static enum err make_durable(const struct open_file *f, const struct store_log_scan *scan,
                             const struct buf *bytes, uint64_t *trimmed_bytes, struct errmsg *em)
{
    int answer = scan->torn ? f->io->truncate(f->io->ctx, f->fd, scan->valid_bytes) : 0;
    if (answer < 0) return disk_error(em, "truncate", f->path, answer);
    TRY(disk_write_all(f->io, f->fd, f->path, bytes->at + scan->last_at,
                       scan->valid_bytes - scan->last_at, scan->last_at, em));
    answer = f->io->sync(f->io->ctx, f->fd);
    if (answer < 0) return disk_error(em, "sync", f->path, answer);
    *trimmed_bytes += bytes->len - scan->valid_bytes;
    return OK;
}

static void log_path(struct buf *out, const char *dir, uint64_t number)
{
    buf_clear(out);
    buf_printf(out, "%s/%06" PRIu64 ".log", dir, number);
    buf_append_u8(out, 0);
}

/* Reads one log; *bytes is what it has. */
static enum err open_log(const struct disk_io *io, const char *path, unsigned how,
                         struct open_file *file, struct buf *bytes, struct errmsg *em)
{
    int answer = io->open(io->ctx, path, how, &file->fd);
    if (answer < 0) return disk_error(em, "open", path, answer);
    file->io = io;
    file->path = path;
    return read_file(file, bytes, em);
}

/* Checks one log; *next_seq goes from log to log. */
static enum err scan_log(const struct disk_io *io, const char *path, uint64_t *next_seq,
                         struct store_log_scan *scan, struct errmsg *em)
{
    CLEANUP(file_close) struct open_file file = { .fd = -1 };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    size_t bad_at = 0;
    TRY(open_log(io, path, DISK_READ, &file, &bytes, em));
    if (store_log_scan(buf_slice(&bytes), scan, &bad_at) != OK) {
        errmsg_set(em, "%s offset %zu: damaged, with valid records behind it", path, bad_at);
        return ERR_CORRUPT;
    }
    if (scan->batch_count == 0) return OK;
    if (scan->first_seq < *next_seq) {
        errmsg_set(em, "%s: begins at sequence %" PRIu64 ", but an older log ends at %" PRIu64,
                   path, scan->first_seq, *next_seq);
        return ERR_CORRUPT;
    }
    *next_seq = scan->next_seq;
    return OK;
}

static enum err trim_log(const struct disk_io *io, const char *path,
                         const struct store_log_scan *scan, uint64_t *trimmed_bytes,
                         struct errmsg *em)
{
    CLEANUP(file_close) struct open_file file = { .fd = -1 };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    TRY(open_log(io, path, DISK_WRITE, &file, &bytes, em));
    return bytes.len == 0 ? OK : make_durable(&file, scan, &bytes, trimmed_bytes, em);
}

enum err store_log_trim(const struct disk_io *io, const char *dir, uint64_t *trimmed_bytes,
                        struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf numbers = { 0 };
    CLEANUP(buf_deinit) struct buf path = { 0 };
    TRY(list_logs(io, dir, &numbers, em));
    size_t count = numbers.len / sizeof(uint64_t);
    CLEANUP(buf_deinit) struct buf scans = { 0 };
    size_t newest = 0; /* that has changes; all behind it are empty */
    uint64_t next_seq = 0;
    for (size_t i = 0; i < count; i++) {
        struct store_log_scan scan;
        log_path(&path, dir, u64_le(numbers.at + i * sizeof(uint64_t)));
        TRY(scan_log(io, (const char *)path.at, &next_seq, &scan, em));
        buf_append(&scans, &scan, sizeof scan);
        if (scan.next_seq != scan.first_seq) newest = i;
    }
    uint64_t trimmed = 0;
    for (size_t i = 0; i < count; i++) {
        struct store_log_scan scan;
        memcpy(&scan, scans.at + i * sizeof scan, sizeof scan);
        log_path(&path, dir, u64_le(numbers.at + i * sizeof(uint64_t)));
        if (i >= newest) {
            TRY(trim_log(io, (const char *)path.at, &scan, &trimmed, em));
        } else if (scan.torn && scan.bytes > LOG_EMPTY_BYTES_MAX) {
            errmsg_set(em, "%s offset %zu: cut short, though a newer log exists",
                       (const char *)path.at, scan.valid_bytes);
            return ERR_CORRUPT;
        }
    }
    *trimmed_bytes = trimmed;
    return OK;
}

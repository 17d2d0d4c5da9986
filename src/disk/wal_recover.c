/* disk/wal_recover.c - walks the log at start: accepts it whole, drops a torn end, or refuses. */
#include "disk/wal_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Large enough that a disk reads at nearly its full rate, small enough that the syncs of others on
 * it do not wait long behind it. */
#define WINDOW_BYTES (256u << 10)

/* One segment while it is read, through a window that moves. */
struct reader {
    const struct disk_io *io;
    int fd; /* -1: none */
    char path[DISK_PATH_BYTES_MAX];
    struct wal_segment_head head;
    uint32_t seed;
    uint8_t *window; /* block-aligned */
    size_t window_cap;
    uint64_t window_at;
    size_t window_len;
};

struct walk {
    struct wal_recovery *rv;
    uint64_t *seqs; /* of the segments found, ascending */
    size_t seq_count;
    size_t seq_cap;
    char (*remains)[64]; /* names to remove */
    size_t remains_count;
    size_t remains_cap;
    struct reader rd;
    bool any;    /* a batch was accepted */
    uint64_t last_offset; /* the last batch's place, in segment last_seq */
    uint32_t last_bytes;
    uint64_t last_seq;
};

/* --- the directory ------------------------------------------------------------------ */

static bool seq_parse(const char *name, uint64_t *out)
{
    if (strlen(name) != 20 || memcmp(name, "wal-", 4) != 0) return false;
    uint64_t v = 0;
    for (const char *p = name + 4; *p != '\0'; p++) {
        const char *digits = "0123456789abcdef";
        const char *at = strchr(digits, *p);
        if (at == NULL) return false;
        v = v << 4 | (uint64_t)(at - digits);
    }
    *out = v;
    return true;
}

static bool is_remains(const char *name)
{
    size_t len = strlen(name);
    if (len >= 64) return false;
    return (len > 4 && strcmp(name + len - 4, ".tmp") == 0) || strncmp(name, "recycle-", 8) == 0;
}

static int name_seen(void *arg, const char *name)
{
    struct walk *wk = arg;
    uint64_t seq = 0;
    if (seq_parse(name, &seq)) {
        if (wk->seq_count == wk->seq_cap) {
            wk->seq_cap = wk->seq_cap == 0 ? 64 : wk->seq_cap * 2;
            wk->seqs = mem_realloc(wk->seqs, wk->seq_cap * sizeof *wk->seqs);
        }
        wk->seqs[wk->seq_count++] = seq;
    } else if (is_remains(name)) {
        if (wk->remains_count == wk->remains_cap) {
            wk->remains_cap = wk->remains_cap == 0 ? 8 : wk->remains_cap * 2;
            wk->remains = mem_realloc(wk->remains, wk->remains_cap * sizeof *wk->remains);
        }
        memcpy(wk->remains[wk->remains_count++], name, strlen(name) + 1);
    }
    return 0;
}

static int seq_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static enum err dir_read(struct walk *wk, struct errmsg *em)
{
    struct wal_recovery *rv = wk->rv;
    int answer = rv->io->list(rv->io->ctx, rv->dir, name_seen, wk);
    if (answer < 0) return disk_error(em, "list", rv->dir, answer);
    if (wk->seq_count == 0) return OK;
    qsort(wk->seqs, wk->seq_count, sizeof *wk->seqs, seq_order);
    for (size_t i = 1; i < wk->seq_count; i++) {
        if (wk->seqs[i] == wk->seqs[i - 1] + 1) continue;
        char path[DISK_PATH_BYTES_MAX];
        wal_segment_path(rv->dir, wk->seqs[i - 1] + 1, path);
        errmsg_set(em, "log segment %s is missing; the log goes on in wal-%016llx", path,
                   (unsigned long long)wk->seqs[i]);
        return ERR_CORRUPT;
    }
    return OK;
}

/* --- one segment --------------------------------------------------------------------- */

static void reader_close(struct reader *rd)
{
    if (rd->fd >= 0) rd->io->close(rd->io->ctx, rd->fd);
    rd->fd = -1;
    rd->window_len = 0;
}

static enum err head_refuse(const struct reader *rd, const char *what, uint64_t have, uint64_t want,
                            enum err e, struct errmsg *em)
{
    errmsg_set(em, "log segment %s: %s is %llu, expected %llu", rd->path, what,
               (unsigned long long)have, (unsigned long long)want);
    return e;
}

static enum err head_check(const struct walk *wk, const struct reader *rd, uint64_t seq,
                           uint64_t file_bytes, struct errmsg *em)
{
    const struct wal_options *o = wk->rv->options;
    const struct wal_segment_head *h = &rd->head;
    if (h->seq != seq) return head_refuse(rd, "the sequence", h->seq, seq, ERR_CORRUPT, em);
    if (h->segment_bytes != file_bytes) {
        return head_refuse(rd, "the file's size", file_bytes, h->segment_bytes, ERR_CORRUPT, em);
    }
    if (o->cluster_id != 0 && h->cluster_id != o->cluster_id) {
        return head_refuse(rd, "the cluster id", h->cluster_id, o->cluster_id, ERR_CONFIG, em);
    }
    if (o->member_id != 0 && h->member_id != o->member_id) {
        return head_refuse(rd, "the member id", h->member_id, o->member_id, ERR_CONFIG, em);
    }
    if (h->group != o->group) {
        return head_refuse(rd, "the group", h->group, o->group, ERR_CONFIG, em);
    }
    const struct wal_found *f = &wk->rv->found;
    if (f->cluster_id != 0 && (h->cluster_id != f->cluster_id || h->member_id != f->member_id)) {
        return head_refuse(rd, "the member id", h->member_id, f->member_id, ERR_CORRUPT, em);
    }
    return OK;
}

/* Reads [offset, offset + bytes) into the window: whole blocks. */
static enum err window_read(struct reader *rd, uint64_t offset, size_t bytes, struct errmsg *em)
{
    if (bytes > rd->window_cap) {
        mem_free(rd->window);
        rd->window = mem_align(DISK_BLOCK_BYTES_MAX, bytes);
        rd->window_cap = bytes;
    }
    rd->window_len = 0;
    TRY(disk_read_all(rd->io, rd->fd, rd->path, rd->window, bytes, offset, em));
    rd->window_at = offset;
    rd->window_len = bytes;
    return OK;
}

/* Past the page cache, where the file system can: the log was written past it, and the kernel
 * would read megabytes ahead, behind which the syncs of other members on this disk wait. */
static enum err reader_open(struct walk *wk, uint64_t seq, struct errmsg *em)
{
    struct reader *rd = &wk->rd;
    reader_close(rd);
    wal_segment_path(wk->rv->dir, seq, rd->path);
    int answer = rd->io->open(rd->io->ctx, rd->path, DISK_READ | DISK_DIRECT, &rd->fd);
    if (answer == -EINVAL) answer = rd->io->open(rd->io->ctx, rd->path, DISK_READ, &rd->fd);
    if (answer < 0) {
        rd->fd = -1;
        return disk_error(em, "open", rd->path, answer);
    }
    uint64_t file_bytes = 0;
    answer = rd->io->size(rd->io->ctx, rd->fd, &file_bytes);
    if (answer < 0) return disk_error(em, "size of", rd->path, answer);
    if (file_bytes < WAL_SEGMENT_BYTES_MIN) {
        errmsg_set(em, "log segment %s is damaged: it has %llu bytes, which no segment has",
                   rd->path, (unsigned long long)file_bytes);
        return ERR_CORRUPT;
    }
    TRY(window_read(rd, 0, DISK_BLOCK_BYTES_MAX, em)); /* of which size blocks are is not known yet */
    rd->window_len = 0;
    struct errmsg why;
    enum err e = wal_segment_head_decode(rd->window, &rd->head, &why);
    if (e != OK) {
        errmsg_set(em, "log segment %.300s offset 0: %.150s", rd->path, why.text);
        return e;
    }
    TRY(head_check(wk, rd, seq, file_bytes, em));
    rd->seed = wal_seed(rd->head.salt, seq);
    return OK;
}

/* At least MIN(bytes, what is left) from offset on, where a block begins; borrowed until the next
 * call. */
static enum err reader_at(struct reader *rd, uint64_t offset, size_t bytes, struct slice *out,
                          struct errmsg *em)
{
    bytes = (size_t)MIN((uint64_t)bytes, rd->head.segment_bytes - offset);
    bool inside = offset >= rd->window_at && offset + bytes <= rd->window_at + rd->window_len;
    if (!inside) {
        uint32_t block_bytes = rd->head.block_bytes;
        uint64_t blocks_bytes = (bytes + block_bytes - 1ull) / block_bytes * block_bytes;
        uint64_t want = MAX(blocks_bytes, (uint64_t)WINDOW_BYTES);
        TRY(window_read(rd, offset, (size_t)MIN(want, rd->head.segment_bytes - offset), em));
    }
    *out = (struct slice){ rd->window + (offset - rd->window_at),
                           rd->window_len - (size_t)(offset - rd->window_at) };
    return OK;
}

/* A valid batch at offset; ERR_CORRUPT with the reason if there is none. Never ERR_AGAIN. */
static enum err batch_at(struct reader *rd, uint64_t offset, struct wal_batch *out, bool *io_failed,
                         struct errmsg *em)
{
    uint64_t room = rd->head.segment_bytes - offset;
    size_t want = rd->head.block_bytes;
    for (;;) {
        struct slice in;
        enum err e = reader_at(rd, offset, want, &in, em);
        if (e != OK) {
            *io_failed = true;
            return e;
        }
        e = wal_batch_decode(in, rd->seed, rd->head.block_bytes, room, out, em);
        if (e != ERR_AGAIN) return e;
        ASSERT(in.len < room);
        want = (size_t)MIN(room, (uint64_t)MAX(u32_le(in.at + 8), in.len * 2));
    }
}

/* --- following the chain ---------------------------------------------------------------- */

static enum err batch_refuse(const struct walk *wk, uint64_t offset, const char *why,
                             struct errmsg *em)
{
    errmsg_set(em, "log segment %.300s offset %llu is damaged behind index %llu: %.120s",
               wk->rd.path, (unsigned long long)offset,
               (unsigned long long)wk->rv->index.last.index, why);
    return ERR_CORRUPT;
}

static bool opens_rightly(const struct wal_batch *b, const struct reader *rd, uint64_t offset)
{
    bool opens = (b->flags & WAL_BATCH_OPENS) != 0;
    return opens == (offset == rd->head.block_bytes);
}

/* A batch whose checksums match but that does not continue the chain cannot come from a torn
 * write: it was written by us, for this segment, and something before it is not what it was. */
static enum err chain_check(const struct walk *wk, const struct wal_batch *b, uint64_t offset,
                            struct errmsg *em)
{
    const struct wal_recovery *rv = wk->rv;
    if (!opens_rightly(b, &wk->rd, offset) || b->segment_seq != wk->rd.head.seq) {
        return batch_refuse(wk, offset, "a batch of another place", em);
    }
    if (!wk->any) {
        bool first_ever = wk->rd.head.seq == 1;
        if (first_ever && (b->seq != 1 || b->prev_crc != 0 || b->before.index != 0)) {
            return batch_refuse(wk, offset, "the first batch is not the first one", em);
        }
        return b->durable_seq + 1 == b->seq ? OK : batch_refuse(wk, offset, "durable", em);
    }
    if (b->seq != rv->seq_last + 1 || b->durable_seq != rv->seq_last) {
        return batch_refuse(wk, offset, "the batch sequence jumps", em);
    }
    if (b->prev_crc != rv->prev_crc) {
        return batch_refuse(wk, offset, "the batch does not follow the one before", em);
    }
    if (b->before.index != rv->index.last.index || b->before.term != rv->index.last.term) {
        return batch_refuse(wk, offset, "the batch's start is not the log's end", em);
    }
    if (b->hard.term < rv->found.hard.term) {
        return batch_refuse(wk, offset, "the term goes back", em);
    }
    return OK;
}

static enum err batch_accept(struct walk *wk, const struct wal_batch *b, uint64_t offset,
                             struct errmsg *em)
{
    struct wal_recovery *rv = wk->rv;
    TRY(chain_check(wk, b, offset, em));
    struct wal_placed p = {
        .before = b->before,
        .segment_seq = b->segment_seq,
        .segment_bytes = wk->rd.head.segment_bytes,
        .salt = wk->rd.head.salt,
        .block = (uint32_t)(offset / wk->rd.head.block_bytes),
        .block_bytes = wk->rd.head.block_bytes,
        .opens = (b->flags & WAL_BATCH_OPENS) != 0,
    };
    struct errmsg why;
    enum err e = wal_batch_effect(b, &p.effect, &why);
    if (e != OK) {
        batch_refuse(wk, offset, why.text, em);
        return e;
    }
    wal_index_apply(&rv->index, &p);
    if (p.effect.snapshot_begin.index != 0) rv->found.snapshot_begin = p.effect.snapshot_begin;
    if (p.effect.snapshot.index != 0) rv->found.snapshot = p.effect.snapshot;
    rv->found.hard = b->hard;
    rv->seq_last = b->seq;
    rv->prev_crc = b->crc;
    rv->last_is_proof = b->record_count == 0;
    wk->any = true;
    wk->last_offset = offset;
    wk->last_bytes = b->bytes;
    wk->last_seq = b->segment_seq;
    return OK;
}

/* Follows the batches of the open segment. *sealed: it ends with a seal. Otherwise *end is where no
 * valid batch begins and *why says what is there instead. */
static enum err segment_walk(struct walk *wk, uint64_t *end, bool *sealed, struct errmsg *why,
                             struct errmsg *em)
{
    struct reader *rd = &wk->rd;
    uint64_t offset = rd->head.block_bytes;
    *sealed = false;
    *end = offset;
    while (offset < rd->head.segment_bytes) {
        struct wal_batch b;
        bool io_failed = false;
        enum err e = batch_at(rd, offset, &b, &io_failed, why);
        if (e != OK && io_failed) {
            *em = *why;
            return e;
        }
        if (e != OK) break;
        TRY(batch_accept(wk, &b, offset, em));
        offset += b.bytes;
        *end = offset;
        *sealed = (b.flags & WAL_BATCH_SEALS) != 0;
        if (*sealed) break;
    }
    if (!*sealed && *end >= rd->head.segment_bytes) errmsg_set(why, "the seal is missing");
    return OK;
}

/* Looks for any batch of the open segment at or behind offset. */
static enum err batch_find(struct reader *rd, uint64_t offset, bool *found, uint64_t *at,
                           struct wal_batch *out, struct errmsg *em)
{
    *found = false;
    for (; offset < rd->head.segment_bytes; offset += rd->head.block_bytes) {
        struct slice in;
        TRY(reader_at(rd, offset, rd->head.block_bytes, &in, em));
        uint64_t room = rd->head.segment_bytes - offset;
        enum err e = wal_batch_decode_head(in, rd->seed, rd->head.block_bytes, room, out, NULL);
        if (e == ERR_AGAIN) {
            /* The lengths are not proven yet, but bounded by the segment. */
            size_t heads_bytes = (size_t)u32_le(in.at + 12) * WAL_RECORD_HEAD_BYTES;
            TRY(reader_at(rd, offset, WAL_BATCH_HEAD_BYTES + heads_bytes, &in, em));
            e = wal_batch_decode_head(in, rd->seed, rd->head.block_bytes, room, out, NULL);
        }
        if (e == OK) {
            *found = true;
            *at = offset;
            return OK;
        }
    }
    return OK;
}

static enum err damage(const struct walk *wk, uint64_t seq, uint64_t end, const char *why,
                       uint64_t later_seq, uint64_t later_at, const struct wal_batch *later,
                       struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(wk->rv->dir, seq, path);
    uint64_t last_index = wk->rv->index.last.index;
    errmsg_set(em,
               "log segment %.200s offset %llu is damaged (%.80s): synced entries behind index "
               "%llu, up to %llu or more, cannot be read; a later batch is whole at wal-%016llx "
               "offset %llu",
               path, (unsigned long long)end, why, (unsigned long long)last_index,
               (unsigned long long)MAX(later->before.index, last_index),
               (unsigned long long)later_seq, (unsigned long long)later_at);
    return ERR_CORRUPT;
}

/* The chain ends at `end` of segment `at`. That is the log's end only if nothing proves that more
 * was synced once (I1, I6). */
static enum err end_check(struct walk *wk, size_t at, uint64_t end, const char *why,
                          struct errmsg *em)
{
    uint64_t seq = wk->seqs[at];
    bool found = false;
    uint64_t later_at = 0;
    struct wal_batch later;
    TRY(batch_find(&wk->rd, end + wk->rd.head.block_bytes, &found, &later_at, &later, em));
    if (found) return damage(wk, seq, end, why, seq, later_at, &later, em);
    if (at + 1 == wk->seq_count) return OK;

    TRY(reader_open(wk, wk->seqs[at + 1], em));
    TRY(batch_find(&wk->rd, wk->rd.head.block_bytes, &found, &later_at, &later, em));
    if (found) return damage(wk, seq, end, why, seq + 1, later_at, &later, em);
    if (at + 2 < wk->seq_count) {
        errmsg_set(em,
                   "log segment wal-%016llx in %.200s is from the future: the log ends in "
                   "wal-%016llx offset %llu (%.80s)",
                   (unsigned long long)wk->seqs[at + 2], wk->rv->dir, (unsigned long long)seq,
                   (unsigned long long)end, why);
        return ERR_CORRUPT;
    }
    wk->rv->has_next = true;
    wk->rv->next = wk->rd.head;
    return reader_open(wk, seq, em);
}

static enum err log_walk(struct walk *wk, struct errmsg *em)
{
    struct wal_recovery *rv = wk->rv;
    for (size_t i = 0; i < wk->seq_count; i++) {
        TRY(reader_open(wk, wk->seqs[i], em));
        rv->found.cluster_id = wk->rd.head.cluster_id;
        rv->found.member_id = wk->rd.head.member_id;
        rv->found.group = wk->rd.head.group;
        uint64_t end = 0;
        bool sealed = false;
        struct errmsg why;
        TRY(segment_walk(wk, &end, &sealed, &why, em));
        rv->segment = wk->rd.head;
        rv->offset = end;
        if (sealed) {
            if (i + 1 < wk->seq_count) continue;
            errmsg_set(em, "log segment wal-%016llx in %.300s is missing: the one before is sealed",
                       (unsigned long long)wk->seqs[i] + 1, rv->dir);
            return ERR_CORRUPT;
        }
        bool fresh = end == wk->rd.head.block_bytes;
        TRY(end_check(wk, i, end, why.text, em));
        /* Without a first batch nothing follows (I6), and only the first segment of all begins
         * before anything was written. */
        bool cannot_be = fresh && (rv->has_next || (!wk->any && wk->seqs[i] != 1));
        if (end >= rv->segment.segment_bytes || cannot_be) {
            return batch_refuse(wk, end, why.text, em);
        }
        rv->phase = fresh ? WAL_PHASE_OPEN : WAL_PHASE_FILL;
        return OK;
    }
    return OK;
}

/* --- making the end durable ---------------------------------------------------------------- */

/* Writes over what is not zero there, in whole blocks. */
static enum err zero_out(struct walk *wk, int fd, uint64_t from, uint64_t bytes, struct errmsg *em)
{
    struct reader *rd = &wk->rd;
    uint32_t block_bytes = rd->head.block_bytes;
    uint8_t *zeros = mem_align(DISK_BLOCK_BYTES_MAX, block_bytes);
    memset(zeros, 0, block_bytes);
    enum err e = OK;
    for (uint64_t at = from; at < from + bytes && e == OK; at += block_bytes) {
        struct slice in;
        e = reader_at(rd, at, block_bytes, &in, em);
        if (e != OK || memcmp(in.at, zeros, block_bytes) == 0) continue;
        e = disk_write_all(rd->io, fd, rd->path, zeros, block_bytes, at, em);
    }
    mem_free(zeros);
    return e;
}

static enum err end_write(struct walk *wk, int fd, struct errmsg *em)
{
    struct wal_recovery *rv = wk->rv;
    struct reader *rd = &wk->rd;
    struct slice in;
    if (wk->any && wk->last_seq == rd->head.seq) {
        TRY(reader_at(rd, wk->last_offset, wk->last_bytes, &in, em));
        TRY(disk_write_all(rd->io, fd, rd->path, in.at, wk->last_bytes, wk->last_offset, em));
    }
    if (rv->offset < rd->head.segment_bytes) {
        TRY(reader_at(rd, rv->offset, rd->head.block_bytes, &in, em));
        struct wal_batch torn;
        uint64_t room = rd->head.segment_bytes - rv->offset;
        enum err e = wal_batch_decode_head(in, rd->seed, rd->head.block_bytes, room, &torn, NULL);
        if (e == OK) rv->found.torn_bytes = torn.bytes;
        TRY(zero_out(wk, fd, rv->offset, MIN(room, (uint64_t)WAL_BATCH_BYTES_MAX), em));
    }
    int answer = rd->io->sync(rd->io->ctx, fd);
    return answer < 0 ? disk_error(em, "sync", rd->path, answer) : OK;
}

/* The last batch may be in the page cache only: written by a process that died before its sync, or
 * whose sync failed. Its own bytes over it and a sync make it what it seems to be (I2). */
static enum err end_settle_in(struct walk *wk, uint64_t seq, struct errmsg *em)
{
    TRY(reader_open(wk, seq, em));
    int fd = -1;
    int answer = wk->rd.io->open(wk->rd.io->ctx, wk->rd.path, DISK_WRITE, &fd);
    if (answer < 0) return disk_error(em, "open", wk->rd.path, answer);
    uint64_t offset = wk->rv->offset;
    if (seq != wk->rv->segment.seq) wk->rv->offset = wk->rd.head.segment_bytes;
    enum err e = end_write(wk, fd, em);
    wk->rv->offset = offset;
    wk->rd.io->close(wk->rd.io->ctx, fd);
    return e;
}

static enum err end_settle(struct walk *wk, struct errmsg *em)
{
    /* In a segment that was sealed right before the crash the last batch is the seal. */
    if (wk->any && wk->last_seq != wk->rv->segment.seq) TRY(end_settle_in(wk, wk->last_seq, em));
    return end_settle_in(wk, wk->rv->segment.seq, em);
}

static enum err remains_remove(const struct walk *wk, struct errmsg *em)
{
    const struct disk_io *io = wk->rv->io;
    for (size_t i = 0; i < wk->remains_count; i++) {
        char path[DISK_PATH_BYTES_MAX];
        int len = snprintf(path, sizeof path, "%s/%s", wk->rv->dir, wk->remains[i]);
        ASSERT(len > 0);
        ASSERT((size_t)len < sizeof path);
        int answer = io->unlink(io->ctx, path);
        if (answer < 0 && answer != -ENOENT) return disk_error(em, "remove", path, answer);
    }
    int answer = io->dirsync(io->ctx, wk->rv->dir);
    return answer < 0 ? disk_error(em, "sync directory", wk->rv->dir, answer) : OK;
}

static enum err recover(struct walk *wk, struct errmsg *em)
{
    struct wal_recovery *rv = wk->rv;
    TRY(dir_read(wk, em));
    rv->empty = wk->seq_count == 0;
    if (!rv->empty) {
        TRY(log_walk(wk, em));
        if (!MUTANT(LOG_END_NOT_SETTLED)) TRY(end_settle(wk, em));
        rv->found.last = rv->index.last;
        if (rv->index.segment_count > 0) rv->found.before = rv->index.segments[0].floor;
    }
    return remains_remove(wk, em);
}

enum err wal_recover(struct wal_recovery *rv, struct errmsg *em)
{
    struct walk wk = { .rv = rv, .rd = { .io = rv->io, .fd = -1 } };
    enum err e = recover(&wk, em);
    reader_close(&wk.rd);
    mem_free(wk.rd.window);
    mem_free(wk.seqs);
    mem_free(wk.remains);
    if (e != OK) wal_index_deinit(&rv->index);
    return e;
}

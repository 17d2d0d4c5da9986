/* disk/wal_read.c - reads durable entries back: planned on the loop, run on any thread. */
#include "disk/wal_int.h"

#include <errno.h>

#define READ_RUNS_MAX 4096
#define READ_GUESS_BYTES (32u << 10)   /* for a batch whose length is not known */
#define READ_WINDOW_BYTES (256u << 10) /* for batches that lie behind each other */

struct planned_run {
    struct wal_segment segment; /* a copy */
    uint32_t block;
    uint64_t first; /* of the run's entries, those that are asked for */
    uint64_t last;
};

struct wal_read {
    struct wal_index *index;
    const struct disk_io *io;
    char dir[DISK_PATH_BYTES_MAX];
    size_t run_count;
    struct planned_run runs[];
};

/* --- planning: the loop ---------------------------------------------------------- */

/* The last run that begins at or before the entry. */
static size_t run_find(const struct wal_index *ix, uint64_t entry_index)
{
    size_t low = ix->run_begin;
    size_t high = ix->run_end;
    ASSERT(low < high);
    ASSERT(ix->runs[low].first <= entry_index);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (ix->runs[middle].first <= entry_index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

struct wal_read *wal_index_read_new(struct wal_index *ix, const struct disk_io *io,
                                    const char *dir, uint64_t first, uint64_t last)
{
    if (ix->run_begin == ix->run_end || first > last) return NULL;
    if (first < ix->runs[ix->run_begin].first || last > ix->last.index) return NULL;

    size_t begin = run_find(ix, first);
    size_t count = MIN(run_find(ix, last) - begin + 1, (size_t)READ_RUNS_MAX);
    struct wal_read *rd = mem_zalloc(sizeof *rd + count * sizeof rd->runs[0]);
    rd->index = ix;
    rd->io = io;
    memcpy(rd->dir, dir, strlen(dir) + 1);
    rd->run_count = count;
    for (size_t i = 0; i < count; i++) {
        const struct wal_run *run = &ix->runs[begin + i];
        bool is_newest = begin + i + 1 == ix->run_end;
        uint64_t run_last = is_newest ? ix->last.index : run[1].first - 1;
        struct wal_segment *s = wal_index_segment(ix, run->segment_seq);
        s->pin_count++;
        rd->runs[i] = (struct planned_run){ .segment = *s,
                                            .block = run->block,
                                            .first = MAX(run->first, first),
                                            .last = MIN(run_last, last) };
    }
    return rd;
}

void wal_read_free(struct wal_read *rd)
{
    if (rd == NULL) return;
    for (size_t i = 0; i < rd->run_count; i++) {
        struct wal_segment *s = wal_index_segment(rd->index, rd->runs[i].segment.seq);
        ASSERT(s->pin_count > 0);
        s->pin_count--;
    }
    mem_free(rd);
}

/* --- reading: any thread ----------------------------------------------------------- */

struct batch_reader {
    const struct wal_read *rd;
    int fd;
    uint64_t segment_seq; /* of fd, 0: none */
    char path[DISK_PATH_BYTES_MAX];
    uint8_t *buf; /* holds buf_len bytes of the open file from buf_at on */
    size_t buf_cap;
    size_t buf_len;
    uint64_t buf_at;
    struct wal_record *found; /* the run's entries */
    size_t found_cap;
    size_t left_bytes;
    bool any;
};

static enum err file_open(struct batch_reader *br, uint64_t seq, struct errmsg *em)
{
    const struct disk_io *io = br->rd->io;
    if (br->segment_seq == seq) return OK;
    if (br->segment_seq != 0) io->close(io->ctx, br->fd);
    br->segment_seq = 0;
    br->buf_len = 0;
    wal_segment_path(br->rd->dir, seq, br->path);
    /* Past the page cache: what is read is what a restart would find, and nothing is evicted. */
    int answer = io->open(io->ctx, br->path, DISK_READ | DISK_DIRECT, &br->fd);
    if (answer == -EINVAL) answer = io->open(io->ctx, br->path, DISK_READ, &br->fd);
    if (answer < 0) return disk_error(em, "open", br->path, answer);
    br->segment_seq = seq;
    return OK;
}

static enum err bytes_at(struct batch_reader *br, uint64_t offset, size_t bytes,
                         struct slice *out, struct errmsg *em)
{
    bool inside = offset >= br->buf_at && offset + bytes <= br->buf_at + br->buf_len;
    if (!inside) {
        if (bytes > br->buf_cap) {
            mem_free(br->buf);
            br->buf = mem_align(DISK_BLOCK_BYTES_MAX, bytes);
            br->buf_cap = bytes;
        }
        br->buf_len = 0;
        TRY(disk_read_all(br->rd->io, br->fd, br->path, br->buf, bytes, offset, em));
        br->buf_at = offset;
        br->buf_len = bytes;
    }
    size_t skip = (size_t)(offset - br->buf_at);
    *out = (struct slice){ br->buf + skip, br->buf_len - skip };
    return OK;
}

/* How much to read for run i: up to the last run of the plan in the same segment, and some. */
static size_t read_size(const struct wal_read *rd, size_t i)
{
    const struct planned_run *run = &rd->runs[i];
    const struct planned_run *end = &rd->runs[rd->run_count - 1];
    uint64_t bytes = READ_GUESS_BYTES;
    if (end->segment.seq == run->segment.seq) {
        bytes += (uint64_t)(end->block - run->block) * run->segment.block_bytes;
    } else {
        bytes = READ_WINDOW_BYTES;
    }
    uint64_t room = run->segment.bytes - (uint64_t)run->block * run->segment.block_bytes;
    return (size_t)MIN(MIN(bytes, (uint64_t)READ_WINDOW_BYTES), room);
}

static enum err batch_read(struct batch_reader *br, size_t i, struct wal_batch *out,
                           struct errmsg *em)
{
    const struct planned_run *run = &br->rd->runs[i];
    const struct wal_segment *s = &run->segment;
    uint64_t offset = (uint64_t)run->block * s->block_bytes;
    uint64_t room = s->bytes - offset;
    uint32_t seed = wal_seed(s->salt, s->seq);
    TRY(file_open(br, s->seq, em));
    bool buffered = offset >= br->buf_at && offset < br->buf_at + br->buf_len;
    size_t bytes = buffered ? s->block_bytes : read_size(br->rd, i);
    struct errmsg why;
    enum err e;
    do {
        struct slice in;
        TRY(bytes_at(br, offset, bytes, &in, em));
        e = wal_batch_decode(in, seed, s->block_bytes, room, out, &why);
        uint64_t claimed_bytes = u32_le(in.at + 8); /* not verified yet, so bounded */
        size_t more_bytes = MAX(in.len * 2, read_size(br->rd, i));
        if (e == ERR_AGAIN) bytes = (size_t)MIN(room, MAX(claimed_bytes, (uint64_t)more_bytes));
    } while (e == ERR_AGAIN);
    if (e != OK) {
        errmsg_set(em, "log segment %.250s offset %llu: entries %llu to %llu are damaged: %.120s",
                   br->path, (unsigned long long)offset, (unsigned long long)run->first,
                   (unsigned long long)run->last, why.text);
    }
    return e;
}

/* Collects the entries of a batch that its own later records leave alive. */
static size_t entries_collect(struct batch_reader *br, const struct wal_batch *b)
{
    if (b->record_count > br->found_cap) {
        br->found_cap = b->record_count;
        br->found = mem_realloc(br->found, br->found_cap * sizeof *br->found);
    }
    size_t count = 0;
    struct wal_record_cursor cx = { 0 };
    struct wal_record r;
    while (wal_record_next(b, &cx, &r)) {
        if (r.type == WAL_RECORD_ENTRY) {
            br->found[count++] = r;
        } else if (r.type == WAL_RECORD_TRUNCATE) {
            while (count > 0 && br->found[count - 1].index >= r.index) count--;
        } else if (r.type == WAL_RECORD_SNAPSHOT && r.entry_type != WAL_MARK_REPEATED) {
            count = 0;
        }
    }
    return count;
}

static enum err run_read(struct batch_reader *br, size_t i,
                         enum err (*on_entry)(void *ctx, const struct wal_entry *e), void *ctx,
                         bool *full, struct errmsg *em)
{
    const struct planned_run *run = &br->rd->runs[i];
    struct wal_batch b;
    TRY(batch_read(br, i, &b, em));
    size_t count = entries_collect(br, &b);
    bool holds = count > 0 && br->found[0].index <= run->first &&
                 br->found[count - 1].index >= run->last;
    if (!holds) {
        errmsg_set(em, "log segment %.300s block %u does not hold entries %llu to %llu", br->path,
                   run->block, (unsigned long long)run->first, (unsigned long long)run->last);
        return ERR_CORRUPT;
    }
    for (uint64_t index = run->first; index <= run->last; index++) {
        const struct wal_record *r = &br->found[index - br->found[0].index];
        *full = br->any && r->body.len > br->left_bytes;
        if (*full) return OK;
        br->left_bytes -= MIN(br->left_bytes, r->body.len);
        br->any = true;
        struct wal_entry e = { .term = r->term, .index = r->index, .type = r->entry_type,
                               .crc = r->crc, .body = r->body };
        TRY(on_entry(ctx, &e));
    }
    return OK;
}

enum err wal_read_run(struct wal_read *rd, size_t bytes_max,
                      enum err (*on_entry)(void *ctx, const struct wal_entry *e), void *ctx,
                      struct errmsg *em)
{
    struct batch_reader br = { .rd = rd, .fd = -1, .left_bytes = bytes_max };
    enum err e = OK;
    bool full = false;
    for (size_t i = 0; i < rd->run_count && e == OK && !full; i++) {
        e = run_read(&br, i, on_entry, ctx, &full, em);
    }
    if (br.segment_seq != 0) rd->io->close(rd->io->ctx, br.fd);
    mem_free(br.buf);
    mem_free(br.found);
    return e;
}

struct wal_read *wal_read_new(struct wal *wal, uint64_t first, uint64_t last)
{
    return wal_index_read_new(&wal->index, wal->io, wal->dir, first, last);
}

/* A plan may be shorter than asked for (READ_RUNS_MAX), so this asks until all was read. */
struct read_progress {
    enum err (*on_entry)(void *ctx, const struct wal_entry *e);
    void *ctx;
    uint64_t next;
};

static enum err progress_entry(void *ctx, const struct wal_entry *e)
{
    struct read_progress *rp = ctx;
    ASSERT(e->index == rp->next);
    TRY(rp->on_entry(rp->ctx, e));
    rp->next++;
    return OK;
}

enum err wal_index_read(struct wal_index *ix, const struct disk_io *io, const char *dir,
                        uint64_t first, uint64_t last,
                        enum err (*on_entry)(void *ctx, const struct wal_entry *e), void *ctx,
                        struct errmsg *em)
{
    struct read_progress rp = { .on_entry = on_entry, .ctx = ctx, .next = first };
    while (rp.next <= last) {
        struct wal_read *rd = wal_index_read_new(ix, io, dir, rp.next, last);
        if (rd == NULL) {
            errmsg_set(em, "entries %llu to %llu are not in the log", (unsigned long long)rp.next,
                       (unsigned long long)last);
            return ERR_NOT_FOUND;
        }
        enum err e = wal_read_run(rd, SIZE_MAX, progress_entry, &rp, em);
        wal_read_free(rd);
        TRY(e);
    }
    return OK;
}

enum err wal_read(struct wal *wal, uint64_t first, uint64_t last,
                  enum err (*on_entry)(void *ctx, const struct wal_entry *e), void *ctx,
                  struct errmsg *em)
{
    return wal_index_read(&wal->index, wal->io, wal->dir, first, last, on_entry, ctx, em);
}

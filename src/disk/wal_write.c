/* disk/wal_write.c - turns submissions into batches and places them: one batch at a time (I1). */
#include "disk/wal_int.h"

#include <stdio.h>
#include <unistd.h>

#define BUF_BYTES_MIN (64u << 10)

void wal_writer_init(struct wal_writer *w, struct wal *wal, uint32_t block_bytes)
{
    memset(w, 0, sizeof *w);
    w->wal = wal;
    w->segment.fd = -1;
    w->buf_cap = wal_batch_bytes(0, BUF_BYTES_MIN, block_bytes);
    w->buf = mem_align(DISK_BLOCK_BYTES_MAX, w->buf_cap);
    memset(w->buf, 0, w->buf_cap); /* so that the first writes meet no page faults */
}

void wal_writer_deinit(struct wal_writer *w)
{
    while (w->head != NULL) {
        struct wal_item *next = (struct wal_item *)(void *)w->head->node.next;
        for (size_t i = 0; i < w->head->what.entry_count; i++) blob_unref(w->head->entries[i].blob);
        wal_item_free(w->head);
        w->head = next;
    }
    if (w->segment.fd >= 0) w->wal->io->close(w->wal->io->ctx, w->segment.fd);
    mem_free(w->buf);
    mem_free(w->records);
}

void wal_writer_add(struct wal_writer *w, struct wal_item *item)
{
    item->node.next = NULL;
    if (w->head == NULL) {
        w->head = item;
    } else {
        w->tail->node.next = &item->node;
    }
    w->tail = item;
}

/* --- gathering what the next batch holds ------------------------------------------ */

static void record_push(struct wal_writer *w, const struct wal_record *r)
{
    if (w->record_count == w->record_cap) {
        w->record_cap = w->record_cap == 0 ? 64 : w->record_cap * 2;
        w->records = mem_realloc(w->records, w->record_cap * sizeof *w->records);
    }
    w->records[w->record_count++] = *r;
    w->body_bytes += r->body.len;
}

static void mark_push(struct wal_writer *w, enum wal_record_type type, struct wal_mark mark,
                      uint8_t entry_type)
{
    if (mark.index == 0) return;
    record_push(w, &(struct wal_record){ .type = type, .entry_type = entry_type,
                                         .index = mark.index, .term = mark.term });
}

static bool group_is_full(const struct wal_writer *w)
{
    size_t used = w->record_count * WAL_RECORD_HEAD_BYTES + w->body_bytes;
    return w->body_bytes >= WAL_GROUP_BYTES ||
           w->record_count + WAL_ITEM_HEADS_MAX > WAL_RECORDS_MAX ||
           used + WAL_ITEM_HEADS_MAX * WAL_RECORD_HEAD_BYTES > w->wal->batch_room_bytes;
}

/* The first entry of a batch always fits: wal_submit asserts its size. */
static bool entry_fits(const struct wal_writer *w, const struct wal_entry *e)
{
    if (w->body_bytes >= WAL_GROUP_BYTES || w->record_count >= WAL_RECORDS_MAX) return false;
    size_t used = w->record_count * WAL_RECORD_HEAD_BYTES + w->body_bytes;
    return used + WAL_RECORD_HEAD_BYTES + e->body.len <= w->wal->batch_room_bytes;
}

static void item_begin(struct wal_writer *w, const struct wal_item *item)
{
    const struct wal_submission *what = &item->what;
    mark_push(w, WAL_RECORD_SNAPSHOT_BEGIN, what->snapshot_begin, 0);
    mark_push(w, WAL_RECORD_SNAPSHOT, what->snapshot, 0);
    if (what->truncate_from != 0) {
        record_push(w, &(struct wal_record){ .type = WAL_RECORD_TRUNCATE,
                                             .index = what->truncate_from,
                                             .term = what->truncate_term });
    }
    if (what->hard != NULL && !(MUTANT(VOTE_NOT_LOGGED) && what->entry_count == 0)) {
        w->hard_after.term = item->hard.term;
        w->hard_after.vote = item->hard.vote;
    }
}

/* Puts what fits of the item into the batch; false if something is left of it. */
static bool item_gather(struct wal_writer *w, const struct wal_item *item)
{
    if (!w->item_begun_after) item_begin(w, item);
    w->item_begun_after = true;
    while (w->entry_next_after < item->what.entry_count) {
        const struct wal_entry *e = &item->entries[w->entry_next_after];
        if (!entry_fits(w, e)) return false;
        record_push(w, &(struct wal_record){ .type = WAL_RECORD_ENTRY, .entry_type = e->type,
                                             .crc = e->crc, .term = e->term, .index = e->index,
                                             .body = e->body });
        w->entry_next_after++;
    }
    if (item->what.hard != NULL) w->hard_after.commit = item->hard.commit;
    w->item_begun_after = false;
    w->entry_next_after = 0;
    return true;
}

static void gather_begin(struct wal_writer *w)
{
    w->record_count = 0;
    w->body_bytes = 0;
    w->items_whole = 0;
    w->hard_after = w->hard;
    w->entry_next_after = w->entry_next;
    w->item_begun_after = w->item_begun;
    if (w->phase == WAL_PHASE_OPEN) {
        mark_push(w, WAL_RECORD_SNAPSHOT_BEGIN, w->snapshot_begin, WAL_MARK_REPEATED);
        mark_push(w, WAL_RECORD_SNAPSHOT, w->snapshot, WAL_MARK_REPEATED);
    }
}

static void gather_items(struct wal_writer *w)
{
    const struct wal_item *item = w->head;
    while (item != NULL && !group_is_full(w)) {
        if (!item_gather(w, item)) return;
        w->items_whole++;
        item = (const struct wal_item *)(const void *)item->node.next;
    }
}

/* --- composing ----------------------------------------------------------------------- */

static void buf_fit(struct wal_writer *w, size_t bytes)
{
    if (bytes <= w->buf_cap) return;
    mem_free(w->buf);
    while (w->buf_cap < bytes) w->buf_cap *= 2;
    w->buf = mem_align(DISK_BLOCK_BYTES_MAX, w->buf_cap);
}

static void batch_encode(struct wal_writer *w, uint32_t flags)
{
    size_t bytes = wal_batch_bytes(w->record_count, w->body_bytes, w->segment.block_bytes);
    ASSERT(bytes <= WAL_BATCH_BYTES_MAX);
    buf_fit(w, bytes);
    w->batch = (struct wal_batch){
        .bytes = (uint32_t)bytes,
        .record_count = (uint32_t)w->record_count,
        .seq = w->seq_next,
        .durable_seq = w->seq_durable,
        .prev_crc = w->prev_crc,
        .flags = flags,
        .segment_seq = w->segment.seq,
        .hard = w->hard_after,
        .before = w->last,
    };
    /* The position is known only behind the records; the commit must not be beyond it (I8). */
    struct wal_mark last = w->last;
    for (size_t i = 0; i < w->record_count; i++) {
        const struct wal_record *r = &w->records[i];
        bool moves = r->type != WAL_RECORD_SNAPSHOT_BEGIN && r->entry_type != WAL_MARK_REPEATED;
        if (r->type == WAL_RECORD_ENTRY || moves) last = (struct wal_mark){ r->index, r->term };
        if (r->type == WAL_RECORD_TRUNCATE) last.index--;
    }
    w->batch.hard.commit = MIN(w->batch.hard.commit, last.index);
    wal_batch_encode(&w->batch, w->records, w->segment.seed, w->buf);

    struct wal_batch check = w->batch;
    check.heads = w->buf + WAL_BATCH_HEAD_BYTES;
    struct errmsg em;
    enum err e = wal_batch_effect(&check, &w->effect, &em);
    ASSERT(e == OK); /* what is written here must be accepted by recovery */
    ASSERT(w->effect.last.index == last.index);
}

static bool next_is_there(const struct wal_writer *w)
{
    return __atomic_load_n(&w->wal->maker.spare, __ATOMIC_SEQ_CST) != NULL;
}

static bool segment_take(struct wal_writer *w)
{
    struct wal_segment_file *spare =
        __atomic_exchange_n(&w->wal->maker.spare, NULL, __ATOMIC_SEQ_CST);
    if (spare == NULL) return false;
    ASSERT(spare->seq == w->segment.seq + 1);
    w->segment = *spare;
    w->offset = spare->block_bytes;
    w->phase = WAL_PHASE_OPEN;
    mem_free(spare);
    return true;
}

/* Room for the seal is always kept (I5). */
static bool batch_fits(const struct wal_writer *w)
{
    size_t bytes = wal_batch_bytes(w->record_count, w->body_bytes, w->segment.block_bytes);
    return w->offset + bytes + w->segment.block_bytes <= w->segment.bytes;
}

enum wal_want wal_writer_compose(struct wal_writer *w)
{
    if (w->head == NULL || __atomic_load_n(&w->dead, __ATOMIC_RELAXED)) return WAL_WANT_NOTHING;
    if (w->phase == WAL_PHASE_SEALED && !segment_take(w)) return WAL_WANT_SEGMENT;

    uint32_t flags = w->phase == WAL_PHASE_OPEN ? WAL_BATCH_OPENS : 0;
    gather_begin(w);
    gather_items(w);
    if (!batch_fits(w)) {
        /* Seal; or, in a fresh segment that is smaller than the present option says, open it with
         * the marks alone, so that the next batch seals it. */
        gather_begin(w);
        if (flags == 0) flags = WAL_BATCH_SEALS;
        if (flags == WAL_BATCH_SEALS && !next_is_there(w)) return WAL_WANT_SEGMENT; /* I5 */
    }
    batch_encode(w, flags);
    return WAL_WANT_WRITE;
}

/* --- afterwards ------------------------------------------------------------------------ */

static void placed_add(struct wal_item *item, const struct wal_placed *p)
{
    if (item->placed_count == item->placed_cap) {
        item->placed_cap = item->placed_cap == 0 ? 1 : item->placed_cap * 2;
        item->placed = mem_realloc(item->placed, item->placed_cap * sizeof *item->placed);
    }
    item->placed[item->placed_count++] = *p;
}

static void segment_opened_or_sealed(struct wal_writer *w)
{
    struct wal_maker *mk = &w->wal->maker;
    if (w->batch.flags & WAL_BATCH_OPENS) {
        w->phase = WAL_PHASE_FILL;
        wal_maker_post(mk, WAL_JOB_MAKE, w->segment.seq + 1, -1); /* I6 */
    }
    if (w->batch.flags & WAL_BATCH_SEALS) {
        w->phase = WAL_PHASE_SEALED;
        wal_maker_post(mk, WAL_JOB_CLOSE, 0, w->segment.fd);
        w->segment.fd = -1;
    }
}

static void statistics_add(struct wal_writer *w)
{
    __atomic_add_fetch(&w->sync_count, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&w->written_bytes, w->batch.bytes, __ATOMIC_RELAXED);
    __atomic_add_fetch(&w->entry_count, w->effect.entry_count, __ATOMIC_RELAXED);
    if (w->write_began_us == 0) return; /* MANUAL has no clock */
    int64_t took_us = wal_clock_us() - w->write_began_us;
    __atomic_store_n(&w->write_began_us, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&w->sync_us_last, took_us, __ATOMIC_RELAXED);
    if (took_us > w->sync_us_max) __atomic_store_n(&w->sync_us_max, took_us, __ATOMIC_RELAXED);
}

struct wal_item *wal_writer_written(struct wal_writer *w)
{
    ASSERT(w->head != NULL);
    ASSERT(w->batch.seq == w->seq_next);
    statistics_add(w);
    if (w->effect.snapshot_begin.index != 0) w->snapshot_begin = w->effect.snapshot_begin;
    if (w->effect.snapshot.index != 0) w->snapshot = w->effect.snapshot;
    placed_add(w->head, &(struct wal_placed){
                            .effect = w->effect,
                            .before = w->batch.before,
                            .segment_seq = w->segment.seq,
                            .segment_bytes = w->segment.bytes,
                            .salt = w->segment.salt,
                            .block = (uint32_t)(w->offset / w->segment.block_bytes),
                            .block_bytes = w->segment.block_bytes,
                            .opens = (w->batch.flags & WAL_BATCH_OPENS) != 0,
                        });
    w->seq_durable = w->seq_next++;
    w->prev_crc = w->batch.crc;
    w->offset += w->batch.bytes;
    w->last = w->effect.last;
    w->hard = w->hard_after;
    w->entry_next = w->entry_next_after;
    w->item_begun = w->item_begun_after;
    segment_opened_or_sealed(w);

    if (w->items_whole == 0) return NULL;
    struct wal_item *first = w->head;
    struct wal_item *whole = first;
    for (size_t i = 1; i < w->items_whole; i++) whole = (struct wal_item *)(void *)whole->node.next;
    w->head = (struct wal_item *)(void *)whole->node.next;
    whole->node.next = NULL;
    return first;
}

void wal_writer_began(struct wal_writer *w)
{
    __atomic_store_n(&w->write_began_us, wal_clock_us(), __ATOMIC_RELAXED);
}

/* The kernel may have marked the pages clean: trying again could report success for data that is
 * not on the disk. The next start reads what is there. */
void wal_writer_failed(struct wal_writer *w, const char *what, int64_t got)
{
    char path[DISK_PATH_BYTES_MAX];
    char line[DISK_PATH_BYTES_MAX + 256];
    wal_segment_path(w->wal->dir, w->segment.seq, path);
    char reason[64];
    if (got < 0) {
        snprintf(reason, sizeof reason, "%s (errno %d)", strerror((int)-got), (int)-got);
    } else {
        snprintf(reason, sizeof reason, "only %lld bytes were written", (long long)got);
    }
    snprintf(line, sizeof line, "cordis: log %s failed: %s offset %llu, %u bytes: %s; stopping",
             what, path, (unsigned long long)w->offset, w->batch.bytes, reason);
    __atomic_store_n(&w->dead, 1, __ATOMIC_SEQ_CST);
    if (w->wal->options.on_fatal != NULL) {
        w->wal->options.on_fatal(w->wal->options.ctx, line);
        return;
    }
    fprintf(stderr, "%s\n", line);
    fflush(stderr);
    _exit(WAL_EXIT_CODE);
}

bool wal_writer_write(struct wal_writer *w)
{
    const struct disk_io *io = w->wal->io;
    int64_t put = io->pwrite(io->ctx, w->segment.fd, w->buf, w->batch.bytes, w->offset);
    if (put != (int64_t)w->batch.bytes) {
        wal_writer_failed(w, "write", put);
        return false;
    }
    if (MUTANT(LOG_NOT_SYNCED)) return true;
    int answer = io->sync(io->ctx, w->segment.fd);
    if (answer < 0) {
        wal_writer_failed(w, "sync", answer);
        return false;
    }
    return true;
}
